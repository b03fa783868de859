//! Signed notes (<https://c2sp.org/signed-note>) with Ed25519 signatures.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Refusal;

/// Largest note that is read, in bytes: room for 16 signatures of the longest kind in use.
pub const MAX_NOTE_BYTES: usize = 128 << 10;
/// How many signatures a note may have.
const MAX_SIGNATURES: usize = 64;
/// The type of plain Ed25519 signatures.
const ED25519_TYPE: u8 = 1;

/// The public key of a log, with the log's name: what somebody who verifies must have got by a way that they trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    key: [u8; 32],
}

impl LogKey {
    /// A name (not empty, without white space, control characters and `+`) and the 32 raw bytes of the key (RFC 8032).
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, Refusal> {
        if is_key_name(name) { Ok(Self { name: name.to_owned(), key }) } else { Err(Refusal::KeyName) }
    }

    /// Reads the text form, `NAME+ID+KEY`, surrounding white space allowed: the one of Go's `sumdb/note`, which other
    /// programs read as well.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parts = text.trim().splitn(3, '+');
        let mut next = || parts.next().ok_or(Refusal::Key("it is not NAME+ID+KEY"));
        let (name, id, key) = (next()?, next()?, next()?);
        let bytes = BASE64.decode(key).map_err(|_| Refusal::Key("its key is not base64"))?;
        let key = match bytes.split_first() {
            Some((&ED25519_TYPE, key)) => {
                <[u8; 32]>::try_from(key).map_err(|_| Refusal::Key("an Ed25519 key has 32 bytes"))?
            }
            _ => return Err(Refusal::Key("only Ed25519 keys are read")),
        };
        let read = Self::new(name, key)?;
        if id == format!("{:08x}", read.id()) { Ok(read) } else { Err(Refusal::Key("its id is wrong")) }
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let typed: Vec<u8> = [ED25519_TYPE].into_iter().chain(self.key).collect();
        format!("{}+{:08x}+{}", self.name, self.id(), BASE64.encode(typed))
    }

    /// The log's name: the origin line of its checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The raw key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.key
    }
    /// The short name that notes have for the key. It tells keys apart and proves nothing.
    pub fn id(&self) -> u32 {
        let mut named = self.name.clone().into_bytes();
        named.extend_from_slice(&[b'\n', ED25519_TYPE]);
        named.extend_from_slice(&self.key);
        let digest = digest(&SHA256, &named);
        digest.as_ref().first_chunk().map_or(0, |id| u32::from_be_bytes(*id))
    }

    /// Checks a note and returns its text: the signature of this key is there and right. Others are not looked at.
    pub(crate) fn open<'n>(&self, note: &'n [u8]) -> Result<&'n str, Refusal> {
        let Note { text, signatures } = Note::parse(note)?;
        let mut own = signatures.iter().filter(|of| of.name == self.name && of.id == self.id()).peekable();
        if own.peek().is_none() {
            let signers = signatures.iter().take(4).map(|of| printable(of.name)).collect::<Vec<_>>();
            return Err(Refusal::OtherSigner { expected: self.name.clone(), signers: signers.join(", ") });
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        if own.all(|of| key.verify(text.as_bytes(), &of.signature).is_ok()) {
            Ok(text)
        } else {
            Err(Refusal::BadSignature(self.name.clone()))
        }
    }

    /// The note of a text, which ends with a newline, and this key's signature over it: 64 bytes.
    pub(crate) fn assemble(&self, text: &str, signature: &[u8]) -> String {
        let signature: Vec<u8> = self.id().to_be_bytes().iter().chain(signature).copied().collect();
        format!("{text}\n— {} {}\n", self.name, BASE64.encode(signature))
    }
}

pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

struct Note<'n> {
    text: &'n str,
    signatures: Vec<Signature<'n>>,
}

struct Signature<'n> {
    name: &'n str,
    id: u32,
    signature: Vec<u8>,
}

impl<'n> Note<'n> {
    fn parse(bytes: &'n [u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(Refusal::TooLong { what: "the checkpoint", limit: MAX_NOTE_BYTES });
        }
        let note = std::str::from_utf8(bytes).map_err(|_| Refusal::Note("it is not UTF-8"))?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(Refusal::Note("it has control characters"));
        }
        let blank = note.rfind("\n\n").ok_or(Refusal::Note("it has no signatures"))?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(Refusal::Note("its last line does not end"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(Refusal::Note("it has too many signatures"));
            }
            signatures.push(Signature::parse(line).ok_or(Refusal::Note("a signature line is malformed"))?);
        }
        Ok(Self { text, signatures })
    }
}

impl<'n> Signature<'n> {
    fn parse(line: &'n str) -> Option<Self> {
        let (name, text) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = BASE64.decode(text).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        let good = is_key_name(name) && !signature.is_empty();
        good.then(|| Self { name, id: u32::from_be_bytes(*id), signature: signature.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of golang.org/x/mod/sumdb/note.
    #[test]
    fn a_note_of_another_program_is_verified() {
        let key =
            LogKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let signature =
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let note = format!("{text}\n— PeterNeumann {signature}\n");
        assert_eq!(key.open(note.as_bytes()), Ok(text));
        let raw = BASE64.decode(signature).unwrap();
        assert_eq!(key.assemble(text, &raw[4..]), note);
        let changed = note.replacen("answer", "Answer", 1);
        assert_eq!(key.open(changed.as_bytes()), Err(Refusal::BadSignature("PeterNeumann".into())));
    }
}
