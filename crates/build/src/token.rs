//! Signing with a private key that never leaves its token: PKCS#11.
//!
//! The token signs a digest (`CKM_RSA_PKCS`), which every token with RSA can, and whose input is as short for a module of
//! megabytes as for a manifest; the kernel's form is put around it here.
//!
//! Invariant: the PIN comes from a file or an open file descriptor, never from the command line or the environment, where
//! other users and logs would see it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use livepatch_manifest::sha256;
use livepatch_modsig::{Certificate, SignError, Signer, signed_data, verify_detached};

/// `DigestInfo` of a SHA-256 digest, up to the digest (RFC 8017, section 9.2, note 1).
const DIGEST_INFO_SHA256: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];
/// No PIN is longer.
const MAX_PIN_BYTES: u64 = 256;

/// Where the PIN comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file that only its owner may read.
    File(PathBuf),
    /// A file descriptor that whoever started the program left open, a pipe for example.
    Descriptor(u32),
}

/// Which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The token maker's PKCS#11 library.
    pub library: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the private key.
    pub key: String,
}

/// Why a token is not used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The PIN cannot be read.
    #[error("cannot read the PIN from {place}")]
    ReadPin {
        /// File or descriptor.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// The PIN's file is open to others.
    #[error("others may read {path}, which holds the PIN: its mode is {mode:o} where 600 is expected")]
    PinMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is there is no PIN.
    #[error("what {place} holds is not a PIN: one line of 1 to {MAX_PIN_BYTES} bytes")]
    NotAPin {
        /// File or descriptor.
        place: String,
    },
    /// The library, the token or the key refuses.
    #[error("{what}")]
    Pkcs11 {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: cryptoki::error::Error,
    },
    /// There is not exactly one such thing.
    #[error("there is not exactly one {what}: {found} found")]
    NotOne {
        /// What was looked for.
        what: String,
        /// How many there are.
        found: usize,
    },
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] crate::signing::SigningError),
    /// What the key signs does not verify with the certificate.
    #[error("the certificate {subject} is not that of the token's key")]
    Mismatch {
        /// Subject of the certificate.
        subject: String,
    },
}

impl TokenError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ReadPin { .. } | Self::NotAPin { .. } => {
                "give a file with the PIN in its only line, or a descriptor that is open for reading"
            }
            Self::PinMode { .. } => "chmod 600 it, and change the PIN if others may have read it",
            Self::Pkcs11 { .. } => {
                "see that the library is that of the token, the PIN right and the token not locked"
            }
            Self::NotOne { .. } => {
                "`pkcs11-tool --module LIBRARY --list-slots` and `--list-objects` show what is there"
            }
            Self::Certificate(_) | Self::Mismatch { .. } => {
                "give the certificate that belongs to the token's key"
            }
        }
    }
}

/// Signs with an RSA key in a token.
pub struct TokenSigner {
    session: Session,
    key: ObjectHandle,
    certificate: Certificate,
}

impl TokenSigner {
    /// Opens a session at the token, and finds the key. That key and certificate are a pair is tried by signing once.
    pub fn open(key: &TokenKey, pin: &PinSource, certificate: &Path) -> Result<Self, TokenError> {
        let certificate = crate::signing::read_certificate(certificate)?;
        let (session, object) = log_in(key, pin, KeyType::RSA, "RSA")?;
        let failed = |what: String| |source| TokenError::Pkcs11 { what, source };
        let signer = Self { session, key: object, certificate };
        let at_key = || format!("cannot sign with the key {:?}", key.key);
        let tried = signer.raw(b"").map_err(failed(at_key()))?;
        let of_key = signed_data(&signer.certificate, &tried)
            .is_ok_and(|der| verify_detached(b"", &der, std::slice::from_ref(&signer.certificate)).is_ok());
        if of_key {
            Ok(signer)
        } else {
            Err(TokenError::Mismatch { subject: signer.certificate.subject().to_owned() })
        }
    }

    fn raw(&self, content: &[u8]) -> Result<Vec<u8>, cryptoki::error::Error> {
        let digest = sha256(content);
        let input = [DIGEST_INFO_SHA256.as_slice(), digest.as_bytes()].concat();
        self.session.sign(&Mechanism::RsaPkcs, self.key, &input)
    }
}

impl Signer for TokenSigner {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What the token made is verified before it is handed out.
    fn sign_detached(&self, content: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.raw(content).map_err(|error| SignError(error.into()))?;
        let der = signed_data(&self.certificate, &signature).map_err(|error| SignError(error.into()))?;
        verify_detached(content, &der, std::slice::from_ref(&self.certificate))
            .map_err(|error| SignError(error.into()))?;
        Ok(der)
    }
}

/// Opens a session at the token, and finds the private key of this kind.
pub(crate) fn log_in(
    key: &TokenKey,
    pin: &PinSource,
    kind: KeyType,
    kind_name: &str,
) -> Result<(Session, ObjectHandle), TokenError> {
    let pin = read_pin(pin)?;
    let failed = |what: String| |source| TokenError::Pkcs11 { what, source };
    let at_library = || format!("cannot use the PKCS#11 library {}", key.library.display());
    let library = Pkcs11::new(&key.library).map_err(failed(at_library()))?;
    library
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(failed(at_library()))?;
    let mut slots = Vec::new();
    for slot in library.get_slots_with_token().map_err(failed(at_library()))? {
        let token = library.get_token_info(slot).map_err(failed(at_library()))?;
        if token.label() == key.token {
            slots.push(slot);
        }
    }
    let [slot] = slots[..] else {
        return Err(TokenError::NotOne { what: format!("token {:?}", key.token), found: slots.len() });
    };
    let at_token = || format!("cannot log in at the token {:?}", key.token);
    let session = library.open_ro_session(slot).map_err(failed(at_token()))?;
    session.login(UserType::User, Some(&pin)).map_err(failed(at_token()))?;
    let wanted = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(kind),
        Attribute::Label(key.key.clone().into_bytes()),
    ];
    let keys = session.find_objects(&wanted).map_err(failed(at_token()))?;
    let [object] = keys[..] else {
        return Err(TokenError::NotOne {
            what: format!("private {kind_name} key {:?} in the token {:?}", key.key, key.token),
            found: keys.len(),
        });
    };
    Ok((session, object))
}

/// The first line.
fn read_pin(source: &PinSource) -> Result<AuthPin, TokenError> {
    use std::io::Read as _;
    let (path, place) = match source {
        PinSource::File(path) => (path.clone(), path.display().to_string()),
        PinSource::Descriptor(number) => {
            (PathBuf::from(format!("/proc/self/fd/{number}")), format!("file descriptor {number}"))
        }
    };
    let failed = |source| TokenError::ReadPin { place: place.clone(), source };
    let file = std::fs::File::open(&path).map_err(failed)?;
    if let PinSource::File(path) = source {
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::PinMode { path: path.clone(), mode });
        }
    }
    let mut text = String::new();
    file.take(MAX_PIN_BYTES + 2).read_to_string(&mut text).map_err(failed)?;
    let pin = text.strip_suffix('\n').unwrap_or(&text);
    if pin.is_empty() || pin.len() as u64 > MAX_PIN_BYTES || pin.contains(['\n', '\0']) {
        return Err(TokenError::NotAPin { place });
    }
    Ok(AuthPin::new(pin.into()))
}
