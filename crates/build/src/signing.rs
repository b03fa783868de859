//! Signing with a private key in a file: modules and manifests in the kernel's form.
//!
//! Invariant: private keys are handled by OpenSSL alone, or by the token that keeps them ([`crate::token`]).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use livepatch_manifest::{Bundle, BundleError};
use livepatch_modsig::{Certificate, SignError, Signer, append, split, verify_detached};
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::X509;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The private key's file is open to others.
    #[error("others may read the private key {path}: its mode is {mode:o} where 600 is expected")]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The private key does not parse; an encrypted one does not either.
    #[error("cannot use the private key")]
    Key(#[source] ErrorStack),
    /// A key of another kind than the kernels of distributions take.
    #[error("the private key is not an RSA key")]
    NotRsa,
    /// The certificate does not parse or cannot sign modules.
    #[error("cannot use the certificate")]
    Certificate(#[source] livepatch_modsig::Error),
    /// OpenSSL reads the certificate otherwise than we do.
    #[error("cannot use the certificate")]
    OpensslCertificate(#[source] ErrorStack),
    /// Key and certificate are not a pair.
    #[error("the certificate {subject} is not that of the private key")]
    Mismatch {
        /// Subject of the certificate.
        subject: String,
    },
    /// The module or the manifest has a signature.
    #[error("the bundle's {0} is signed already")]
    AlreadySigned(&'static str),
    /// The bundle is not consistent, or is not with its signatures.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle's manifest and its bytes say different things.
    #[error("the bundle's manifest differs from its bytes")]
    ManifestBytes,
    /// The signer failed.
    #[error("cannot sign the bundle's {what}")]
    Sign {
        /// The part of the bundle.
        what: &'static str,
        /// Why.
        source: SignError,
    },
}

/// Signs with an RSA key from a PEM file.
pub struct FileSigner {
    key: PKey<Private>,
    x509: X509,
    certificate: Certificate,
}

impl FileSigner {
    /// Reads a private key (PEM, not encrypted, mode 0600 or less) and its certificate (PEM or DER).
    pub fn open(key: &Path, certificate: &Path) -> Result<Self, SigningError> {
        let metadata =
            std::fs::metadata(key).map_err(|source| SigningError::Read { path: key.to_owned(), source })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SigningError::KeyMode { path: key.to_owned(), mode });
        }
        Self::new(&read(key)?, &read(certificate)?)
    }

    /// Takes the bytes of both files.
    pub fn new(key_pem: &[u8], certificate: &[u8]) -> Result<Self, SigningError> {
        // Without a callback OpenSSL would ask for a passphrase on the terminal.
        let key = PKey::private_key_from_pem_callback(key_pem, |_| Err(ErrorStack::get()))
            .map_err(SigningError::Key)?;
        if key.id() != Id::RSA {
            return Err(SigningError::NotRsa);
        }
        let certificate = parse_certificate(certificate)?;
        let x509 = X509::from_der(certificate.der()).map_err(SigningError::OpensslCertificate)?;
        let of_key = x509.public_key().map_err(SigningError::OpensslCertificate)?.public_eq(&key);
        if !of_key {
            return Err(SigningError::Mismatch { subject: certificate.subject().to_owned() });
        }
        Ok(Self { key, x509, certificate })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SigningError> {
    std::fs::read(path).map_err(|source| SigningError::Read { path: path.to_owned(), source })
}

/// Reads a certificate, PEM or DER.
pub(crate) fn read_certificate(path: &Path) -> Result<Certificate, SigningError> {
    parse_certificate(&read(path)?)
}

fn parse_certificate(bytes: &[u8]) -> Result<Certificate, SigningError> {
    let certificate = if bytes.starts_with(b"-----") {
        Certificate::from_pem(bytes).map(|mut all| all.swap_remove(0))
    } else {
        Certificate::from_der(bytes)
    };
    certificate.map_err(SigningError::Certificate)
}

impl Signer for FileSigner {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The form of the kernel's `scripts/sign-file -k`. What OpenSSL made is verified before it is handed out: its
    /// configuration may name another digest than SHA-256.
    fn sign_detached(&self, content: &[u8]) -> Result<Vec<u8>, SignError> {
        let options = CMSOptions::NOATTR
            | CMSOptions::BINARY
            | CMSOptions::DETACHED
            | CMSOptions::CMS_NOCERTS
            | CMSOptions::USE_KEYID;
        let der = CmsContentInfo::sign(Some(&self.x509), Some(&self.key), None, Some(content), options)
            .and_then(|cms| cms.to_der())
            .map_err(|error| SignError(error.into()))?;
        verify_detached(content, &der, std::slice::from_ref(&self.certificate))
            .map_err(|error| SignError(error.into()))?;
        Ok(der)
    }
}

/// Signs a bundle: first the module in it, as the kernel checks it; then the manifest, which then names the signed
/// module. One key does for both, because no manifest is an ELF file.
pub fn sign_bundle(bundle: Bundle, signer: &dyn Signer) -> Result<Bundle, SigningError> {
    if Bundle::parse(&bundle.to_bytes())? != bundle {
        return Err(SigningError::ManifestBytes);
    }
    if bundle.signature.is_some() {
        return Err(SigningError::AlreadySigned("manifest"));
    }
    if split(&bundle.module) != Err(livepatch_modsig::Error::Unsigned) {
        return Err(SigningError::AlreadySigned("module"));
    }
    let sign = |what, content: &[u8]| {
        signer.sign_detached(content).map_err(|source| SigningError::Sign { what, source })
    };
    let module = append(&bundle.module, &sign("module", &bundle.module)?);
    let mut signed = bundle.with_module(module)?;
    signed.signature = Some(sign("manifest", &signed.manifest_bytes)?);
    Ok(signed)
}
