use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaParameters};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use crate::Error;
use crate::cms::ID_RSA_ENCRYPTION;

const MAX_CERTIFICATE_BYTES: usize = 64 << 10;
const MAX_PEM_BYTES: usize = 1 << 20;
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// The DER of every X.509 certificate in a PEM text, whatever its key is and is for: at least one. Other text between them is
/// passed over.
pub fn pem_certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let refuse = |why: &str| Error::Certificate(why.to_owned());
    if bytes.len() > MAX_PEM_BYTES {
        return Err(refuse("the PEM file is larger than 1 MiB"));
    }
    let mut rest = std::str::from_utf8(bytes).map_err(|_| refuse("the PEM file is not text"))?;
    let mut certificates = Vec::new();
    while let Some((_, tail)) = rest.split_once(PEM_BEGIN) {
        let (body, tail) =
            tail.split_once(PEM_END).ok_or_else(|| refuse("the end of a PEM block is missing"))?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = BASE64.decode(body).map_err(|error| Error::Certificate(error.to_string()))?;
        x509_cert::Certificate::from_der(&der).map_err(|error| Error::Certificate(error.to_string()))?;
        certificates.push(der);
        rest = tail;
    }
    if certificates.is_empty() {
        return Err(refuse("there is no PEM certificate in the file"));
    }
    Ok(certificates)
}

/// A certificate whose RSA key is trusted to sign modules.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    subject: String,
    key_id: Vec<u8>,
    issuer_der: Vec<u8>,
    serial: Vec<u8>,
    key: ParsedPublicKey,
}

impl Certificate {
    /// Reads an X.509 certificate with an RSA key of 2048 to 8192 bits and a subject key identifier.
    /// Its own signature, validity period and purposes are not looked at: whoever lists it trusts it.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Certificate(why.to_owned());
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(refuse("it is larger than 64 KiB"));
        }
        let wrong = |error: der::Error| Error::Certificate(error.to_string());
        let certificate = x509_cert::Certificate::from_der(bytes).map_err(wrong)?;
        let tbs = certificate.tbs_certificate();
        let key_id = match tbs.get_extension::<SubjectKeyIdentifier>() {
            Ok(Some((_, identifier))) => identifier.0.as_bytes().to_vec(),
            Ok(None) => return Err(refuse("it has no subject key identifier")),
            Err(error) => return Err(Error::Certificate(error.to_string())),
        };
        if key_id.is_empty() || key_id.len() > 64 {
            return Err(refuse("its subject key identifier is not 1 to 64 bytes"));
        }
        let not_rsa = || refuse("its key is not an RSA key of 2048 to 8192 bits");
        let key_info = tbs.subject_public_key_info();
        let key = key_info.subject_public_key.as_bytes().ok_or_else(not_rsa)?;
        let bits = RsaParameters::public_modulus_len(key).map_err(|_| not_rsa())?;
        if key_info.algorithm.oid != ID_RSA_ENCRYPTION || !(2048..=8192).contains(&bits) {
            return Err(not_rsa());
        }
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).map_err(|_| not_rsa())?;
        Ok(Self {
            der: bytes.to_vec(),
            subject: one_line(&tbs.subject().to_string()),
            key_id,
            issuer_der: tbs.issuer().to_der().map_err(wrong)?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            key,
        })
    }

    /// Reads all certificates of a PEM file, at least one; other text between them is passed over.
    pub fn from_pem(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        pem_certificates(bytes)?.iter().map(|der| Self::from_der(der)).collect()
    }

    /// The certificate as it was read.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
    /// Its subject, for people, in one line: `CN=…`.
    pub fn subject(&self) -> &str {
        &self.subject
    }
    /// Its subject key identifier: how module signatures name it.
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }
    /// [`Certificate::key_id`] in lower-case hexadecimal.
    pub fn key_id_hex(&self) -> String {
        hex::encode(&self.key_id)
    }

    pub(crate) fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }
    pub(crate) fn serial(&self) -> &[u8] {
        &self.serial
    }
    /// Whether `signature` (RSA PKCS#1 v1.5, SHA-256) is this key's over `content`.
    pub(crate) fn verifies(&self, content: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(content, signature).is_ok()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("key_id", &self.key_id_hex())
            .finish()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}
impl Eq for Certificate {}

/// A name from foreign bytes, fit to be printed: no control characters, at most 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}
