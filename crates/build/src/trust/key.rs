//! Keys of repositories: in files, handled by OpenSSL alone, or in a token.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{KeyType, ObjectHandle};
use cryptoki::session::Session;
use livepatch_manifest::{VerifyingKey, sha256};
use livepatch_trust::{PublicKey, SignedFile};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;

use super::error::TrustError;
use crate::files::read;
use crate::keygen::{check_name, write_files};
use crate::token::{PinSource, TokenError, TokenKey, log_in};

/// A private key that signs metadata.
pub struct MetadataKey {
    public: PublicKey,
    private: PrivateKey,
}

enum PrivateKey {
    File(PKey<Private>),
    Token(Session, ObjectHandle),
}

impl MetadataKey {
    /// Reads a private key (PEM, not encrypted, mode 0600 or less): Ed25519, or ECDSA on P-256.
    pub fn open(path: &Path) -> Result<Self, TrustError> {
        let pem = read(path)?;
        let mode = std::fs::metadata(path).map_or(0o777, |metadata| metadata.permissions().mode() & 0o777);
        if mode & 0o077 != 0 {
            return Err(TrustError::KeyMode { path: path.to_owned(), mode });
        }
        // Without a callback OpenSSL would ask for a passphrase on the terminal.
        let key = PKey::private_key_from_pem_callback(&pem, |_| Err(ErrorStack::get()))?;
        let public = public_of(&key)?;
        Ok(Self { public, private: PrivateKey::File(key) })
    }

    /// Opens an ECDSA key on P-256 in a token. That it belongs to `public` (PEM) is tried by signing once.
    pub fn in_token(key: &TokenKey, pin: &PinSource, public: &Path) -> Result<Self, TrustError> {
        let public = read_public(public)?;
        let (session, object) = log_in(key, pin, KeyType::EC, "EC")?;
        let key = Self { public, private: PrivateKey::Token(session, object) };
        key.signature(b"")?;
        Ok(key)
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Adds its signature to a file.
    pub fn sign(&self, file: &mut SignedFile) -> Result<(), TrustError> {
        let signature = self.signature(&file.signing_input()?)?;
        file.add_signature(&self.public, &signature);
        Ok(())
    }

    /// What was made is verified before it is handed out.
    fn signature(&self, input: &[u8]) -> Result<Vec<u8>, TrustError> {
        let signature = match &self.private {
            PrivateKey::File(key) if key.id() == Id::ED25519 => {
                Signer::new_without_digest(key)?.sign_oneshot_to_vec(input)?
            }
            PrivateKey::File(key) => Signer::new(MessageDigest::sha256(), key)?.sign_oneshot_to_vec(input)?,
            PrivateKey::Token(session, object) => {
                // Tokens sign a digest and give both numbers, each as long as the curve (PKCS#11, CKM_ECDSA).
                let made = session.sign(&Mechanism::Ecdsa, *object, sha256(input).as_bytes());
                let made = made.map_err(|source| TokenError::Pkcs11 {
                    what: "cannot sign with the key in the token".into(),
                    source,
                })?;
                let (r, s) = made.split_at(made.len() / 2);
                EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der()?
            }
        };
        if self.public.verifies(input, &signature) { Ok(signature) } else { Err(TrustError::Mismatch) }
    }
}

fn public_of(key: &PKey<Private>) -> Result<PublicKey, TrustError> {
    let pem = key.public_key_to_pem()?;
    Ok(PublicKey::from_pem(&String::from_utf8_lossy(&pem))?)
}

/// Reads a public key: PEM, or the one line of base64 that a server's `operator.pub` is.
pub fn read_public(path: &Path) -> Result<PublicKey, TrustError> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    if let Ok(key) = VerifyingKey::parse(&text) {
        return Ok(PublicKey::Ed25519(*key.as_bytes()));
    }
    PublicKey::from_pem(&text).map_err(|source| TrustError::RefusedFile { path: path.to_owned(), source })
}

/// Makes an Ed25519 key: `NAME.key.pem`, mode 0600, and `NAME.pub.pem`. What was made, and where.
pub fn generate(directory: &Path, name: &str) -> Result<(PublicKey, [PathBuf; 2]), TrustError> {
    check_name(name)?;
    let key = PKey::generate_ed25519()?;
    let public = public_of(&key)?;
    let files = ["key", "pub"].map(|kind| directory.join(format!("{name}.{kind}.pem")));
    let (private_pem, public_pem) = (key.private_key_to_pem_pkcs8()?, public.to_pem().into_bytes());
    write_files(directory, &[(&files[0], &private_pem, 0o600), (&files[1], &public_pem, 0o644)])?;
    Ok((public, files))
}
