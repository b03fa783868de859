//! Signed documents on the wire: DSSE envelopes (<https://github.com/secure-systems-lab/dsse>, protocol v1.0.0)
//! with Ed25519 signatures. Verified before the payload is looked at.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::sha256;

/// Largest envelope that is read, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 256 << 10;
/// How many signatures are looked at.
const MAX_SIGNATURES: usize = 8;

/// Why an envelope is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than [`MAX_ENVELOPE_BYTES`].
    #[error("the document has {0} bytes where {MAX_ENVELOPE_BYTES} are allowed")]
    TooLarge(usize),
    /// Not a DSSE envelope.
    #[error("the document is not a signed envelope: {0}")]
    Malformed(String),
    /// An envelope of something else.
    #[error("the envelope holds {actual:?} where {expected:?} is expected")]
    WrongType {
        /// The type that was asked for.
        expected: String,
        /// The type it states.
        actual: String,
    },
    /// No signature by a key that is trusted.
    #[error("the document is not signed by a trusted key; its signers are {0}")]
    UntrustedSigner(String),
    /// A trusted key's signature does not match the bytes.
    #[error("the signature of key {0} does not match the document: it was changed after signing")]
    BadSignature(String),
}

/// An Ed25519 public key that a host or tool trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Takes the 32 raw bytes (RFC 8032).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Reads the text form: base64 of the raw bytes, surrounding white space allowed.
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        let bytes =
            BASE64.decode(text.trim()).map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        let bytes = <[u8; 32]>::try_from(bytes)
            .map_err(|_| EnvelopeError::Malformed("an Ed25519 public key has 32 bytes".into()))?;
        Ok(Self(bytes))
    }
    /// The text form that [`VerifyingKey::parse`] reads.
    pub fn to_text(&self) -> String {
        BASE64.encode(self.0)
    }
    /// The name of the key in envelopes: SHA-256 of its raw bytes, in hexadecimal.
    pub fn key_id(&self) -> String {
        sha256(&self.0).to_string()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// The bytes that are signed: DSSE's pre-authentication encoding of type and payload.
pub fn signing_input(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Puts an envelope together from a payload and signatures (key id, 64 raw bytes) over its [`signing_input`].
pub fn assemble(payload_type: &str, payload: &[u8], signatures: &[(String, Vec<u8>)]) -> Vec<u8> {
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: BASE64.encode(payload),
        signatures: signatures
            .iter()
            .map(|(keyid, sig)| EnvelopeSignature { keyid: keyid.clone(), sig: BASE64.encode(sig) })
            .collect(),
    };
    // Strings only: serialising them cannot fail.
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Checks an envelope and returns its payload: at least one signature by a trusted key, and that one right.
pub fn open(bytes: &[u8], payload_type: &str, trusted: &[VerifyingKey]) -> Result<Vec<u8>, EnvelopeError> {
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(EnvelopeError::TooLarge(bytes.len()));
    }
    let malformed = |error: String| EnvelopeError::Malformed(error);
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if envelope.payload_type != payload_type {
        let actual = envelope.payload_type.chars().take(80).collect();
        return Err(EnvelopeError::WrongType { expected: payload_type.to_owned(), actual });
    }
    let payload = BASE64.decode(&envelope.payload).map_err(|error| malformed(error.to_string()))?;
    let input = signing_input(payload_type, &payload);
    let mut signers = Vec::new();
    for signature in envelope.signatures.iter().take(MAX_SIGNATURES) {
        let Some(key) = trusted.iter().find(|key| key.key_id() == signature.keyid) else {
            signers.push(signature.keyid.chars().take(64).collect::<String>());
            continue;
        };
        let sig = BASE64.decode(&signature.sig).map_err(|error| malformed(error.to_string()))?;
        return match UnparsedPublicKey::new(&ED25519, key.0).verify(&input, &sig) {
            Ok(()) => Ok(payload),
            Err(_) => Err(EnvelopeError::BadSignature(signature.keyid.clone())),
        };
    }
    let signers = if signers.is_empty() { "none".to_owned() } else { signers.join(", ") };
    Err(EnvelopeError::UntrustedSigner(signers))
}
