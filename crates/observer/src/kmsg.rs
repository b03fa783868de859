//! Records of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): `priority,sequence,microseconds,flags[,…];text`, then
//! lines that begin with a space. Text is printable ASCII; the kernel writes all else as `\x..`.

/// What one read gives at most (`CONSOLE_EXT_LOG_MAX`, later `PRINTK_MESSAGE_MAX`, of the kernel).
pub const MAX_RECORD_BYTES: usize = 8192;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whether the kernel itself wrote it: no process can write records of the facility `LOG_KERN`.
    pub of_kernel: bool,
    /// Its number, counted since the boot.
    pub sequence: u64,
    /// When, in microseconds since the boot.
    pub at_us: u64,
    /// The line.
    pub text: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a record; none: it is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..MAX_RECORD_BYTES).unwrap_or(bytes)).ok()?;
        let (head, rest) = text.split_once(';')?;
        let mut fields = head.split(',');
        let priority: u32 = number(fields.next()?)?;
        let (sequence, at_us) = (number(fields.next()?)?, number(fields.next()?)?);
        let text = rest.split('\n').next().unwrap_or_default();
        // Facility and level, include/linux/kern_levels.h.
        Some(Self { of_kernel: priority >> 3 == 0, sequence, at_us, text })
    }
}

/// Digits alone: no sign.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records() {
        let text = "6,339,5140900,-;NET: Registered protocol family 10\n";
        let expected = Record {
            of_kernel: true,
            sequence: 339,
            at_us: 5140900,
            text: "NET: Registered protocol family 10",
        };
        assert_eq!(Record::parse(text.as_bytes()), Some(expected));
        let more = "7,160,424069,-,caller=T1;pci_root PNP0A03:00: host bridge; x\n SUBSYSTEM=acpi\n DEVICE=+acpi:x\n";
        assert_eq!(Record::parse(more.as_bytes()).unwrap().text, "pci_root PNP0A03:00: host bridge; x");
        let (user, fake) = ("12,1,2,-;WARNING: mine", "8,1,2,-;x");
        assert!([user, fake].iter().all(|text| !Record::parse(text.as_bytes()).unwrap().of_kernel));
        for none in ["", ";", "6;x", "6,1;x", "6,1,2", "-6,1,2,-;x", "6,+1,2,-;x", "6,1,,-;x", "x,1,2,-;x"] {
            assert_eq!(Record::parse(none.as_bytes()), None, "{none:?}");
        }
        assert_eq!(Record::parse(b"6,99999999999999999999,2,-;x"), None);
        assert_eq!(Record::parse(b"6,1,2,-;\xff"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(level in 0u32..8, sequence: u64, at_us: u64, text in "[ -~]{0,200}") {
            let written = format!("{level},{sequence},{at_us},-;{text}\n");
            let read = Record::parse(written.as_bytes()).unwrap();
            prop_assert_eq!(read, Record { of_kernel: true, sequence, at_us, text: &text });
        }
    }
}
