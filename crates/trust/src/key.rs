use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use livepatch_types::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::signed::canonical;
use crate::{Refusal, sha256};

/// Name of a key: SHA-256 of its canonical JSON (TUF 1.0.33, section 4.2).
pub type KeyId = Sha256Digest;

/// DER of a SubjectPublicKeyInfo with a point of P-256, not compressed, up to the point (RFC 5480). Any other form of the
/// same key is refused, so that one key cannot appear as two.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// DER of a SubjectPublicKeyInfo with an Ed25519 key, up to the key (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";
/// No PEM of these keys is longer, in bytes.
const MAX_PEM_BYTES: usize = 1024;

/// A public key of a role: Ed25519, for keys in files, or ECDSA on P-256, which tokens have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum PublicKey {
    /// The 32 bytes of RFC 8032.
    Ed25519([u8; 32]),
    /// A point, not compressed: 0x04, x, y (SEC 1, section 2.3.3).
    EcdsaP256([u8; 65]),
}

/// A key as TUF 1.0.33, section 4.2 has it.
#[derive(Serialize, Deserialize)]
struct Wire {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Serialize, Deserialize)]
struct KeyValue {
    public: String,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM, as `openssl pkey -pubout` writes it.
    pub fn from_pem(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: &str| Refusal::Malformed { what: "the public key", why: why.to_owned() };
        if text.len() > MAX_PEM_BYTES {
            return Err(Refusal::TooLong { what: "the public key".into(), limit: MAX_PEM_BYTES as u64 });
        }
        let body = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let body = body.ok_or_else(|| refuse("it is not one PEM block of a public key"))?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = BASE64.decode(body).map_err(|error| refuse(&error.to_string()))?;
        if let Some(key) = der.strip_prefix(&ED25519_SPKI).and_then(|key| key.try_into().ok()) {
            return Ok(Self::Ed25519(key));
        }
        match der.strip_prefix(&P256_SPKI).map(<[u8; 65]>::try_from) {
            Some(Ok(point)) if point[0] == 4 => Ok(Self::EcdsaP256(point)),
            _ => Err(refuse("it is neither an Ed25519 key nor one of ECDSA on P-256, not compressed")),
        }
    }

    /// The key as [`PublicKey::from_pem`] reads it.
    pub fn to_pem(&self) -> String {
        let der = match self {
            Self::Ed25519(key) => [ED25519_SPKI.as_slice(), key].concat(),
            Self::EcdsaP256(point) => [P256_SPKI.as_slice(), point].concat(),
        };
        let text = BASE64.encode(der);
        // Lines of 64 characters (RFC 7468); base64 is ASCII, so any place may be cut.
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", lines.join("\n"))
    }

    /// The name of the key.
    pub fn id(&self) -> KeyId {
        // A key is strings alone: it always has a canonical form.
        let value = serde_json::to_value(self).unwrap_or_default();
        sha256(&canonical(&value).unwrap_or_default())
    }

    /// What sort of key it is, in TUF's words.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::EcdsaP256(_) => "ecdsa-sha2-nistp256",
        }
    }

    /// Whether this key made that signature over those bytes. ECDSA signatures are DER.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(bytes, signature).is_ok(),
            Self::EcdsaP256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(bytes, signature).is_ok()
            }
        }
    }
}

impl From<PublicKey> for Wire {
    fn from(key: PublicKey) -> Self {
        let (keytype, public) = match &key {
            PublicKey::Ed25519(bytes) => ("ed25519", hex::encode(bytes)),
            PublicKey::EcdsaP256(_) => ("ecdsa", key.to_pem()),
        };
        Self { keytype: keytype.into(), scheme: key.scheme().into(), keyval: KeyValue { public } }
    }
}

impl TryFrom<Wire> for PublicKey {
    type Error = String;
    fn try_from(wire: Wire) -> Result<Self, String> {
        let key = match (wire.keytype.as_str(), wire.scheme.as_str()) {
            ("ed25519", "ed25519") => {
                let bytes = hex::decode(&wire.keyval.public).map_err(|error| error.to_string())?;
                Self::Ed25519(bytes.try_into().map_err(|_| "an Ed25519 key has 32 bytes")?)
            }
            ("ecdsa", "ecdsa-sha2-nistp256") => {
                Self::from_pem(&wire.keyval.public).map_err(|error| error.to_string())?
            }
            (keytype, scheme) => return Err(format!("no key is of type {keytype:?} and scheme {scheme:?}")),
        };
        Ok(key)
    }
}
