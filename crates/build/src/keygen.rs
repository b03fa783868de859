//! Makes the key pair that signs livepatches: RSA, with a self-signed certificate that can be enrolled as a machine
//! owner key and can sign nothing but modules.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Name};
use tempfile::NamedTempFile;

/// Size of keys unless told otherwise, in bits: the largest that all kernels, shim and firmware take.
pub const DEFAULT_BITS: u32 = 4096;
/// "Module signing only": shim refuses a key with this purpose for boot loaders and kernels.
const MODULE_SIGNING_ONLY: &str = "1.3.6.1.4.1.2312.16.1.2";
/// Ten years. Neither kernel nor client looks at it for modules; a key is retired by taking it off the hosts.
const VALID_SECONDS: i64 = 3650 * 86400;

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// The name would not make three plain file names.
    #[error("{0:?} is not a key name: 1 to 64 letters, digits, dashes and underscores")]
    Name(String),
    /// Too short to be safe or too long for kernels.
    #[error("a key of {0} bits is not within 2048 to 8192 bits")]
    Bits(u32),
    /// A key is never overwritten.
    #[error("{0} exists; a key is never overwritten")]
    Exists(PathBuf),
    /// OpenSSL failed.
    #[error("cannot generate the key")]
    Openssl(#[from] ErrorStack),
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A new key pair, in memory.
pub struct KeyPair {
    /// The private key: PKCS#8, PEM, not encrypted.
    pub key_pem: Vec<u8>,
    /// The certificate, PEM.
    pub certificate_pem: Vec<u8>,
    /// The certificate, DER: what `mokutil --import` takes.
    pub certificate_der: Vec<u8>,
}

/// The files of a key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// `NAME.key.pem`, mode 0600.
    pub key_pem: PathBuf,
    /// `NAME.cert.pem`.
    pub certificate_pem: PathBuf,
    /// `NAME.cert.der`.
    pub certificate_der: PathBuf,
}

/// Makes a key pair; `name` becomes the common name of the certificate.
pub fn generate(name: &str, bits: u32, now: Timestamp) -> Result<KeyPair, KeygenError> {
    check_name(name)?;
    if !(2048..=8192).contains(&bits) {
        return Err(KeygenError::Bits(bits));
    }
    let key = PKey::from_rsa(Rsa::generate(bits)?)?;
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut serial = BigNum::new()?;
    serial.rand(159, MsbOption::MAYBE_ZERO, false)?;
    let from = now.as_second();

    let mut builder = X509::builder()?;
    builder.set_version(2)?; // X.509 v3
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(&subject)?;
    builder.set_not_before(&*Asn1Time::from_unix(from)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(from.saturating_add(VALID_SECONDS))?)?;
    builder.set_pubkey(&key)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?; // CA:FALSE
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().code_signing().other(MODULE_SIGNING_ONLY).build()?)?;
    let key_id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(key_id)?;
    let authority = AuthorityKeyIdentifier::new().keyid(true).build(&builder.x509v3_context(None, None))?;
    builder.append_extension(authority)?;
    builder.sign(&key, MessageDigest::sha256())?;
    let x509 = builder.build();
    Ok(KeyPair {
        key_pem: key.private_key_to_pem_pkcs8()?,
        certificate_pem: x509.to_pem()?,
        certificate_der: x509.to_der()?,
    })
}

/// Writes a key pair to three files in `directory`: all of them or none, and never over a file that is there.
pub fn write(pair: &KeyPair, directory: &Path, name: &str) -> Result<KeyFiles, KeygenError> {
    check_name(name)?;
    let at = |suffix: &str| directory.join(format!("{name}.{suffix}"));
    let files =
        KeyFiles { key_pem: at("key.pem"), certificate_pem: at("cert.pem"), certificate_der: at("cert.der") };
    write_files(
        directory,
        &[
            (&files.key_pem, &pair.key_pem, 0o600),
            (&files.certificate_pem, &pair.certificate_pem, 0o644),
            (&files.certificate_der, &pair.certificate_der, 0o644),
        ],
    )?;
    Ok(files)
}

/// Writes files (path, bytes, mode) in one directory: all of them or none, and never over a file that is there.
pub(crate) fn write_files(directory: &Path, plan: &[(&PathBuf, &Vec<u8>, u32)]) -> Result<(), KeygenError> {
    // Everything that can fail for lack of space or rights comes first, under temporary names.
    let mut staged = Vec::new();
    for &(path, bytes, mode) in plan {
        let file = stage(directory, bytes, mode)
            .map_err(|source| KeygenError::Write { path: path.clone(), source })?;
        staged.push((path, file));
    }
    let mut done: Vec<&PathBuf> = Vec::new();
    for (path, file) in staged {
        if let Err(error) = file.persist_noclobber(path) {
            for path in done {
                // Best effort: the first error is the one to tell.
                let _ = std::fs::remove_file(path);
            }
            return Err(match error.error.kind() {
                std::io::ErrorKind::AlreadyExists => KeygenError::Exists(path.clone()),
                _ => KeygenError::Write { path: path.clone(), source: error.error },
            });
        }
        done.push(path);
    }
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| KeygenError::Write { path: directory.to_owned(), source })
}

fn stage(directory: &Path, bytes: &[u8], mode: u32) -> std::io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(directory)?; // mode 0600
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

pub(crate) fn check_name(name: &str) -> Result<(), KeygenError> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if name.is_empty() || name.len() > 64 || !plain {
        return Err(KeygenError::Name(name.chars().take(80).collect()));
    }
    Ok(())
}
