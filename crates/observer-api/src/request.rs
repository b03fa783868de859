//! What may be asked: a closed list.

/// Kind (1 byte) and a number (8 bytes, big-endian), which is 0 where none is needed.
pub const REQUEST_BYTES: usize = 9;

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The complaints of this boot from this sequence number of the kernel's log on, and the modules that were kept out.
    Seen(u64),
    /// The same, as soon as there is one. A later such request ends the wait of an earlier one.
    Wait(u64),
    /// The tasks that hold up a transition now.
    Stall,
}

impl Request {
    /// Reads a request; none: there is none such.
    pub fn parse(bytes: [u8; REQUEST_BYTES]) -> Option<Self> {
        let [kind, number @ ..] = bytes;
        match (kind, u64::from_be_bytes(number)) {
            (1, from) => Some(Self::Seen(from)),
            (2, from) => Some(Self::Wait(from)),
            (3, 0) => Some(Self::Stall),
            _ => None,
        }
    }

    /// The bytes that [`Request::parse`] reads.
    pub fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let (kind, number) = match self {
            Self::Seen(from) => (1, from),
            Self::Wait(from) => (2, from),
            Self::Stall => (3, 0),
        };
        let [a, b, c, d, e, f, g, h] = u64::to_be_bytes(number);
        [kind, a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_written_and_nothing_else_is() {
        for request in [Request::Seen(0), Request::Seen(u64::MAX), Request::Wait(1 << 40), Request::Stall] {
            assert_eq!(Request::parse(request.to_bytes()), Some(request));
        }
        let known = (0..=255).filter(|kind| Request::parse([*kind, 0, 0, 0, 0, 0, 0, 0, 0]).is_some());
        assert_eq!(known.collect::<Vec<u8>>(), [1, 2, 3]);
        assert_eq!(Request::parse([3, 0, 0, 0, 0, 0, 0, 0, 1]), None);
    }
}
