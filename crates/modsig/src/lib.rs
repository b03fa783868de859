//! Floor 1: kernel module signatures in the form that the kernel appends and checks.
//!
//! ```text
//! ELF ‖ CMS SignedData (DER) ‖ struct module_signature (12 bytes) ‖ "~Module signature appended~\n"
//! ```
//!
//! On a host that does not enforce module signatures the kernel checks nothing, so [`verify_module`] is the only
//! gate there. It takes exactly the form that the kernel takes (crypto/asymmetric_keys/pkcs7_parser.c, the way
//! scripts/sign-file makes it) and no more: detached, one signer, no signed attributes, no certificates, SHA-256,
//! RSA PKCS#1 v1.5. The validity period of a certificate is not looked at: nor does the kernel, and there is no
//! clock on this floor.
//!
//! [`module_info`] and [`build_id`] read what a module says about itself.
//!
//! Invariant: bytes to bytes, no I/O; private keys are behind the trait [`Signer`] and live elsewhere.

mod certificate;
mod cms;
mod elf;
mod trailer;

pub use certificate::{Certificate, pem_certificates};
pub use cms::{VerifiedModule, VerifyError, signed_data, verify_detached, verify_module};
pub use elf::{ModuleInfo, build_id, module_info};
pub use trailer::{MAX_SIGNATURE_BYTES, SignedModule, append, split};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The module ends without the kernel's signature marker.
    #[error("the module is not signed")]
    Unsigned,
    /// The marker is there, the fields before it are not the kernel's.
    #[error("the module's signature trailer is malformed: {0}")]
    Trailer(String),
    /// Not a certificate that can sign modules.
    #[error("not a usable certificate: {0}")]
    Certificate(String),
    /// Not an ELF file of the right kind.
    #[error("not an ELF64 relocatable module: {0}")]
    Elf(String),
    /// `.modinfo` breaks a rule, or a key that is relied on is missing or there twice.
    #[error("the module's .modinfo is wrong: {0}")]
    ModuleInfo(String),
}

/// Why a signing key did not sign.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Holds a private key somewhere (a file, a token) and signs with it.
pub trait Signer {
    /// The certificate of the key.
    fn certificate(&self) -> &Certificate;
    /// Signs bytes; returns the CMS SignedData (DER) that [`verify_detached`] takes and [`append`] appends.
    fn sign_detached(&self, content: &[u8]) -> Result<Vec<u8>, SignError>;
}

#[cfg(test)]
mod tests;
