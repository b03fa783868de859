use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use livepatch_types::Sha256Digest;

use crate::note::printable;
use crate::{LogKey, MAX_SIZE, Refusal};

/// The head of a log: which log, how many entries, and the one hash that stands for all of them
/// (<https://c2sp.org/tlog-checkpoint>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries there are.
    pub size: u64,
    /// The root of their tree.
    pub root: Sha256Digest,
}

impl Checkpoint {
    /// What is signed. It never begins as what a DSSE signature is over does (`DSSEv1 `): a name has no space.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// The signed note, from the Ed25519 signature of `key` over [`Checkpoint::to_text`].
    pub fn to_note(&self, key: &LogKey, signature: &[u8]) -> String {
        key.assemble(&self.to_text(), signature)
    }

    /// Checks a signed note: first that the log's key signed it, then what it says.
    pub fn open(note: &[u8], key: &LogKey) -> Result<Self, Refusal> {
        let checkpoint = Self::parse(key.open(note)?)?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            let actual = printable(&checkpoint.origin);
            Err(Refusal::WrongOrigin { expected: key.name().to_owned(), actual })
        }
    }

    /// What a note says, signed or not.
    pub(crate) fn stated(note: &str) -> Result<Self, Refusal> {
        let (text, _) = note.split_once("\n\n").ok_or(Refusal::Checkpoint("it has no signature"))?;
        let head = Self::parse(&format!("{text}\n"))?;
        Ok(Self { origin: printable(&head.origin), ..head })
    }

    /// Reads the text. Lines after the third belong to others and are not looked at, but none may be empty.
    fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = Refusal::Checkpoint;
        let lines = text.strip_suffix('\n').ok_or(wrong("its last line does not end"))?;
        let mut lines = lines.split('\n');
        let mut next = || lines.next().filter(|line| !line.is_empty()).ok_or(wrong("it has no three lines"));
        let (origin, size, root) = (next()?, next()?, next()?);
        if lines.any(str::is_empty) {
            return Err(wrong("it has an empty line"));
        }
        let size =
            whole_number(size).filter(|size| *size <= MAX_SIZE).ok_or(wrong("its size is not a number"))?;
        let root = hash(root).ok_or(wrong("its root is not a hash"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// A decimal number without sign and leading zeros.
pub(crate) fn whole_number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A hash in base64.
pub(crate) fn hash(text: &str) -> Option<Sha256Digest> {
    let bytes = BASE64.decode(text).ok()?;
    Some(Sha256Digest::from_bytes(bytes.try_into().ok()?))
}
