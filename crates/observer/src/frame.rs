//! How the kernel names a place in its code: `function+0x1a/0x40 [module]` (`%pS`).

/// Longer names the kernel does not have (`KSYM_NAME_LEN`).
const MAX_SYMBOL: usize = 512;

/// A function, and the module that it is in; none: the kernel itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The function.
    pub function: &'a str,
    /// The module.
    pub module: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// The place that a text begins with.
    pub fn at_start(text: &'a str) -> Option<Self> {
        let (place, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (function, offsets) = place.split_once('+')?;
        let (offset, size) = offsets.split_once('/')?;
        if !is_symbol(function) || !is_offset(offset) || !is_offset(size) {
            return None;
        }
        // A build-id may follow the name.
        let inside = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let module = inside.and_then(|(inside, _)| inside.split(' ').next()).filter(|name| is_symbol(name));
        Some(Self { function, module })
    }

    /// The first place in a text.
    pub fn within(text: &'a str) -> Option<Self> {
        let starts = std::iter::once(0).chain(text.match_indices(' ').map(|(at, _)| at + 1));
        starts.take(64).find_map(|start| Self::at_start(&text[start..]))
    }
}

fn is_symbol(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
    (1..=MAX_SYMBOL).contains(&text.len()) && text.bytes().all(is_part)
}

fn is_offset(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places() {
        for (text, expected) in [
            ("do_wait+0x1/0x2", Some(("do_wait", None))),
            ("show+0x12/0x20 [livepatch_1_1]", Some(("show", Some("livepatch_1_1")))),
            ("show.isra.0+0x12/0x20 [ext4 0123abcd]", Some(("show.isra.0", Some("ext4")))),
            ("show+0x12/0x20 (other) [x]", Some(("show", None))),
            ("show+0x12/0x20 [livepatch_1_1", Some(("show", None))),
            ("show+0x/0x20", None),
            ("show+12/0x20", None),
            ("show", None),
            ("? show+0x1/0x2", None),
            ("<TASK>", None),
        ] {
            let expected = expected.map(|(function, module)| Frame { function, module });
            assert_eq!(Frame::at_start(text), expected, "{text}");
        }
        let line = "WARNING: CPU: 0 PID: 1 at fs/x.c:9 show+0x12/0x20 [livepatch_1_1]";
        assert_eq!(Frame::within(line), Some(Frame { function: "show", module: Some("livepatch_1_1") }));
    }

    proptest! {
        #[test]
        fn any_text_does_not_panic(text in any::<String>()) {
            let _ = (Frame::at_start(&text), Frame::within(&text));
        }
    }
}
