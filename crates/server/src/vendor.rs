//! Which bundles are taken: those whose manifest and module a trusted vendor signed.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use livepatch_manifest::{Bundle, sha256};
use livepatch_modsig::{Certificate, verify_detached, verify_module};
use livepatch_store::TransparencyLog;
use livepatch_transparency::{KeyEvent, KeyPurpose};

use crate::{DataDir, Exit, Failure};

/// Largest certificate file that is read, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Reads one certificate, PEM or DER.
pub fn read_certificate(path: &Path) -> Result<Certificate, Failure> {
    let named = |failure: Failure| {
        failure.context(format!("cannot use {}", path.display())).hint(
            "the certificate of the key that signs modules is needed: X.509, RSA, with a subject key identifier",
        )
    };
    let bytes = std::fs::read(path).map_err(|error| named(Failure::new(Exit::Refused, error)))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(named(Failure::refused("it is larger than 1 MiB")));
    }
    let certificates = if bytes.starts_with(b"\x30") {
        Certificate::from_der(&bytes).map(|certificate| vec![certificate])
    } else {
        Certificate::from_pem(&bytes)
    };
    let certificates = certificates.map_err(|error| named(Failure::new(Exit::Refused, error)))?;
    match <[Certificate; 1]>::try_from(certificates) {
        Ok([certificate]) => Ok(certificate),
        Err(several) => {
            Err(named(Failure::refused(format!("it holds {} certificates, not one", several.len()))))
        }
    }
}

/// A certificate as an event. Its subject stays out of it: that can be a person.
pub(crate) fn key_event(certificate: &Certificate) -> KeyEvent {
    KeyEvent {
        purpose: KeyPurpose::VendorCertificate,
        name: certificate.key_id_hex(),
        version: 0,
        sha256: sha256(certificate.der()),
    }
}

/// Trusts a certificate from now on; false when it was trusted already. The log says so first.
pub async fn add(
    data: &DataDir,
    log: &dyn TransparencyLog,
    certificate: &Certificate,
    now: Timestamp,
) -> Result<bool, Failure> {
    if trusted(data)?.contains(certificate) {
        return Ok(false);
    }
    let path = data.vendor_dir().join(format!("{}.der", certificate.key_id_hex()));
    if path.exists() {
        return Err(Failure::refused(format!(
            "another certificate with the same key id is trusted already: {}",
            path.display()
        ))
        .hint("remove that file first if it is to be replaced"));
    }
    log.log_key(&key_event(certificate), now).await?;
    crate::data_dir::write_new(&path, certificate.der())?;
    Ok(true)
}

/// The certificates that are trusted, by key id.
pub fn trusted(data: &DataDir) -> Result<Vec<Certificate>, Failure> {
    let read = || -> anyhow::Result<Vec<Certificate>> {
        let mut certificates = Vec::new();
        for entry in std::fs::read_dir(data.vendor_dir())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "der") {
                let certificate = Certificate::from_der(&std::fs::read(&path)?)
                    .with_context(|| path.display().to_string())?;
                certificates.push(certificate);
            }
        }
        certificates.sort_by_key(Certificate::key_id_hex);
        Ok(certificates)
    };
    read().map_err(|error| Failure::new(Exit::Setup, error.context("cannot read the vendors' certificates")))
}

/// Checks that a trusted vendor signed both the manifest and the module of a bundle; the signer of the manifest.
pub fn verify<'c>(bundle: &Bundle, trusted: &'c [Certificate]) -> Result<&'c Certificate, Failure> {
    let sign = "sign it with `livepatch-build sign`";
    if trusted.is_empty() {
        return Err(Failure::refused("no vendor is trusted here, so no bundle can be published")
            .hint("trust one with `livepatch-server vendor add CERT`"));
    }
    let Some(signature) = &bundle.signature else {
        return Err(Failure::refused("the bundle is not signed").hint(sign));
    };
    let known = || {
        let keys: Vec<_> = trusted.iter().map(|c| format!("{} ({})", c.subject(), c.key_id_hex())).collect();
        format!("trusted vendors: {}; `livepatch-server vendor add CERT` trusts another", keys.join(", "))
    };
    verify_module(&bundle.module, trusted).map_err(|error| {
        Failure::new(Exit::Refused, error)
            .context("the bundle's module is not approved by a trusted vendor")
            .hint(known())
    })?;
    let signer = verify_detached(&bundle.manifest_bytes, signature, trusted).map_err(|error| {
        Failure::new(Exit::Refused, error)
            .context("the bundle's manifest is not approved by a trusted vendor")
            .hint(known())
    })?;
    Ok(signer)
}
