use livepatch_types::Sha256Digest;
use olpc_cjson::CanonicalFormatter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metadata::Header;
use crate::{FileMeta, KeyId, PublicKey, Refusal, Role, Root, sha256};

/// How many signatures a file may carry.
pub const MAX_SIGNATURES: usize = 32;

/// A metadata file: what is signed, and the signatures. Nothing of it is believed before [`SignedFile::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedFile {
    signed: Value,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: KeyId,
    sig: String,
}

/// The one byte form of a JSON value that signatures and key ids are over.
pub(crate) fn canonical(value: &Value) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, CanonicalFormatter::new());
    value
        .serialize(&mut serializer)
        .map_err(|error| Refusal::Malformed { what: "the metadata", why: error.to_string() })?;
    Ok(out)
}

fn check_length(bytes: &[u8], limit: u64, what: &str) -> Result<(), Refusal> {
    if bytes.len() as u64 > limit {
        return Err(Refusal::TooLong { what: what.to_owned(), limit });
    }
    Ok(())
}

impl SignedFile {
    /// A file that nobody has signed yet.
    pub fn unsigned(content: &impl Serialize) -> Result<Self, Refusal> {
        let signed = serde_json::to_value(content)
            .map_err(|error| Refusal::Malformed { what: "the metadata", why: error.to_string() })?;
        Ok(Self { signed, signatures: vec![] })
    }

    /// Reads a file of at most `limit` bytes.
    pub fn parse(bytes: &[u8], limit: u64, what: &str) -> Result<Self, Refusal> {
        check_length(bytes, limit, what)?;
        Self::parse_capped(bytes)
    }

    fn parse_capped(bytes: &[u8]) -> Result<Self, Refusal> {
        let file: Self = serde_json::from_slice(bytes)
            .map_err(|error| Refusal::Malformed { what: "the metadata", why: error.to_string() })?;
        if file.signatures.len() > MAX_SIGNATURES {
            return Err(Refusal::TooMany { what: "signatures", limit: MAX_SIGNATURES });
        }
        Ok(file)
    }

    /// Reads a file whose length and digest other metadata states.
    pub(crate) fn parse_checked(
        bytes: &[u8],
        named: &FileMeta,
        cap: u64,
        role: Role,
    ) -> Result<Self, Refusal> {
        check_length(bytes, cap, role.file_words())?;
        named.check(bytes, role.file_words())?;
        Self::parse_capped(bytes)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Values and strings: serialising them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What keys sign.
    pub fn signing_input(&self) -> Result<Vec<u8>, Refusal> {
        canonical(&self.signed)
    }

    /// Digest of what keys sign: two people can compare it before they sign.
    pub fn content_sha256(&self) -> Result<Sha256Digest, Refusal> {
        Ok(sha256(&self.signing_input()?))
    }

    /// Adds a signature, in place of an earlier one by the same key.
    pub fn add_signature(&mut self, key: &PublicKey, signature: &[u8]) {
        let keyid = key.id();
        self.signatures.retain(|known| known.keyid != keyid);
        self.signatures.push(Signature { keyid, sig: hex::encode(signature) });
    }

    /// The content without a look at the signatures: for those who are to sign it, and to find out which keys a root
    /// names.
    pub fn content<T: DeserializeOwned>(&self, role: Role) -> Result<T, Refusal> {
        let malformed =
            |error: serde_json::Error| Refusal::Malformed { what: role.file_words(), why: error.to_string() };
        // Type, format and critical members come first: a later format may not parse as this one.
        let header = Header::deserialize(&self.signed).map_err(malformed)?;
        header.check(role)?;
        T::deserialize(&self.signed).map_err(malformed)
    }

    /// Which of the keys of a role of `root` signed this. Each counts once, however often it is listed.
    pub fn signers(&self, root: &Root, role: Role) -> Result<Vec<KeyId>, Refusal> {
        let input = self.signing_input()?;
        let signed_by = |id: &KeyId, key: &PublicKey| {
            self.signatures.iter().filter(|signature| signature.keyid == *id).any(|signature| {
                hex::decode(&signature.sig).is_ok_and(|signature| key.verifies(&input, &signature))
            })
        };
        Ok(root.keys_of(role).filter(|(id, key)| signed_by(id, key)).map(|(id, _)| *id).collect())
    }

    /// Believes the file if enough keys of a role of `root` signed it.
    pub fn verify<T: DeserializeOwned>(&self, root: &Root, role: Role) -> Result<T, Refusal> {
        let valid = self.signers(root, role)?.len();
        let threshold = root.threshold(role);
        if valid < threshold {
            return Err(Refusal::Threshold { role, valid, threshold });
        }
        self.content(role)
    }
}
