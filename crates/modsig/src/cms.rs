//! Verification of CMS SignedData (RFC 5652), narrowed to the one form that the kernel takes:
//!
//! ```text
//! SEQUENCE { id-signedData, [0] SEQUENCE {
//!     version INTEGER (1 by issuer and serial, 3 by key id),
//!     SET { AlgorithmIdentifier sha256 },
//!     SEQUENCE { id-data },                              -- detached: no content
//!     SET { SEQUENCE {
//!         version INTEGER (as above),
//!         [0] key id  |  SEQUENCE { issuer, serial },
//!         AlgorithmIdentifier sha256,
//!         AlgorithmIdentifier rsaEncryption,
//!         signature OCTET STRING } } } }
//! ```
//!
//! The tempting other way is a general CMS library; it would accept much that has to be refused again one by one.
//! Our signatures name the key by its id. Those of distributions name issuer and serial (sign-file without `-k`).

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};

use crate::certificate::one_line;
use crate::{Certificate, Error, MAX_SIGNATURE_BYTES, split};

const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
pub(crate) const ID_RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

const CONTEXT_0: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
const CONTEXT_0_PRIMITIVE: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };

/// Most elements that any structure in the form has, with those that are known and refused.
const MAX_ELEMENTS: usize = 8;

/// Why a signature is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no signature.
    #[error("the module is not signed")]
    Unsigned,
    /// The bytes are not a signature in the kernel's form.
    #[error("the signature is malformed: {0}")]
    Malformed(String),
    /// A signature, but of a kind that the kernel or this program refuses.
    #[error("the signature is of a kind that is not accepted: {0}")]
    Unsupported(String),
    /// Signed by a key that is not among the certificates.
    #[error("signed by a key that is not trusted: {key_id}")]
    UnknownSigner {
        /// The key identifier in hexadecimal; or serial number and issuer, when the signature names these.
        key_id: String,
    },
    /// A trusted key is named, but this content is not what it signed.
    #[error("the signature of {signer} does not match: the content was changed after signing")]
    BadSignature {
        /// Subject of the certificate.
        signer: String,
    },
}

/// A module whose signature holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedModule<'a> {
    /// The module without signature: what was signed.
    pub content: &'a [u8],
    /// Who signed it: one of the certificates given.
    pub signer: &'a Certificate,
}

/// Checks the appended signature of a module.
pub fn verify_module<'a>(
    module: &'a [u8],
    certs: &'a [Certificate],
) -> Result<VerifiedModule<'a>, VerifyError> {
    let signed = split(module).map_err(|error| match error {
        Error::Unsigned => VerifyError::Unsigned,
        other => VerifyError::Malformed(other.to_string()),
    })?;
    let signer = verify_detached(signed.content, signed.signature_der, certs)?;
    Ok(VerifiedModule { content: signed.content, signer })
}

/// Checks a detached signature over `content`; returns the certificate of its signer.
pub fn verify_detached<'c>(
    content: &[u8],
    signature_der: &[u8],
    certs: &'c [Certificate],
) -> Result<&'c Certificate, VerifyError> {
    let signature = Signature::parse(signature_der)?;
    let mut named = None;
    for certificate in certs.iter().filter(|certificate| signature.signer.is(certificate)) {
        if certificate.verifies(content, signature.value) {
            return Ok(certificate);
        }
        named = Some(certificate);
    }
    Err(match named {
        Some(certificate) => VerifyError::BadSignature { signer: certificate.subject().to_owned() },
        None => VerifyError::UnknownSigner { key_id: signature.signer.to_text() },
    })
}

/// Puts a raw signature (RSA PKCS#1 v1.5, SHA-256, over the content) into the form above, naming the key by its id: for
/// keepers of keys that sign a digest and know nothing of CMS. Whether the signature is right is not looked at.
pub fn signed_data(certificate: &Certificate, signature: &[u8]) -> Result<Vec<u8>, der::Error> {
    let integer = |value: u8| tlv(Tag::Integer, &[&[value]]);
    let oid = |oid: ObjectIdentifier| tlv(Tag::ObjectIdentifier, &[oid.as_bytes()]);
    let sha256 = tlv(Tag::Sequence, &[&oid(ID_SHA256)?])?;
    let rsa = tlv(Tag::Sequence, &[&oid(ID_RSA_ENCRYPTION)?, &tlv(Tag::Null, &[])?])?;
    let version = integer(3)?;
    let signer = tlv(
        Tag::Sequence,
        &[
            &version,
            &tlv(CONTEXT_0_PRIMITIVE, &[certificate.key_id()])?,
            &sha256,
            &rsa,
            &tlv(Tag::OctetString, &[signature])?,
        ],
    )?;
    let signed = tlv(
        Tag::Sequence,
        &[
            &version,
            &tlv(Tag::Set, &[&sha256])?,
            &tlv(Tag::Sequence, &[&oid(ID_DATA)?])?,
            &tlv(Tag::Set, &[&signer])?,
        ],
    )?;
    tlv(Tag::Sequence, &[&oid(ID_SIGNED_DATA)?, &tlv(CONTEXT_0, &[&signed])?])
}

/// An element: tag, length, and its content in parts.
fn tlv(tag: Tag, parts: &[&[u8]]) -> Result<Vec<u8>, der::Error> {
    let content = parts.concat();
    let mut out = Vec::new();
    der::Header::new(tag, der::Length::try_from(content.len())?).encode_to_vec(&mut out)?;
    out.extend_from_slice(&content);
    Ok(out)
}

/// How a signature names its key.
enum SignerId<'a> {
    KeyId(&'a [u8]),
    IssuerAndSerial { issuer: AnyRef<'a>, serial: &'a [u8] },
}

impl SignerId<'_> {
    fn is(&self, certificate: &Certificate) -> bool {
        match self {
            Self::KeyId(id) => certificate.key_id() == *id,
            Self::IssuerAndSerial { issuer, serial } => {
                certificate.serial() == *serial
                    && issuer.to_der().is_ok_and(|issuer| issuer == certificate.issuer_der())
            }
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::KeyId(id) => one_line(&hex::encode(id)),
            Self::IssuerAndSerial { issuer, serial } => {
                let name = issuer.decode_as::<x509_cert::name::Name>();
                let name = name
                    .map_or_else(|_| "an unreadable issuer".to_owned(), |name| one_line(&name.to_string()));
                format!("serial {} of {name}", one_line(&hex::encode(serial)))
            }
        }
    }
}

struct Signature<'a> {
    signer: SignerId<'a>,
    value: &'a [u8],
}

impl<'a> Signature<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, VerifyError> {
        if bytes.len() > MAX_SIGNATURE_BYTES {
            return Err(malformed(format!("{} bytes where {MAX_SIGNATURE_BYTES} are allowed", bytes.len())));
        }
        let outer = AnyRef::from_der(bytes).map_err(not_der)?;
        let [content_type, content] = exactly(&inside(outer, Tag::Sequence)?, "ContentInfo")?;
        if !is_oid(content_type, ID_SIGNED_DATA)? {
            return Err(unsupported("it is not CMS SignedData"));
        }
        let [signed_data] = exactly(&inside(content, CONTEXT_0)?, "content")?;
        let fields = inside(signed_data, Tag::Sequence)?;
        let (version, digests, encapsulated, signers) = match fields.as_slice() {
            [version, digests, encapsulated, signers] => (*version, *digests, *encapsulated, *signers),
            [_, _, _, more, ..] if more.tag().is_context_specific() => {
                return Err(unsupported("it has certificates or revocation lists inside"));
            }
            _ => return Err(malformed("SignedData has other fields than it should".into())),
        };
        let digests = inside(digests, Tag::Set)?;
        let [digest] = digests[..] else {
            return Err(unsupported("it does not have exactly one digest algorithm"));
        };
        check_algorithm(digest, ID_SHA256, "a digest other than SHA-256")?;
        match inside(encapsulated, Tag::Sequence)?[..] {
            [content_type] if is_oid(content_type, ID_DATA)? => {}
            [_] => return Err(unsupported("its content type is not data")),
            [_, _] => return Err(unsupported("it holds the content instead of being detached")),
            _ => return Err(malformed("EncapsulatedContentInfo has other fields than it should".into())),
        }
        let signers = inside(signers, Tag::Set)?;
        let [signer] = signers[..] else {
            return Err(unsupported("it does not have exactly one signer"));
        };
        Self::parse_signer(version, &inside(signer, Tag::Sequence)?)
    }

    fn parse_signer(outer_version: AnyRef<'a>, fields: &[AnyRef<'a>]) -> Result<Self, VerifyError> {
        let [version, signer, digest, rest @ ..] = fields else {
            return Err(malformed("SignerInfo has too few fields".into()));
        };
        if rest.first().is_some_and(|field| field.tag() == CONTEXT_0) {
            return Err(unsupported("it has signed attributes"));
        }
        let (algorithm, value) = match rest {
            [algorithm, value] => (*algorithm, *value),
            [_, _, more] if more.tag().is_context_specific() => {
                return Err(unsupported("it has unsigned attributes"));
            }
            _ => return Err(malformed("SignerInfo has other fields than it should".into())),
        };
        check_algorithm(*digest, ID_SHA256, "a digest other than SHA-256")?;
        check_algorithm(algorithm, ID_RSA_ENCRYPTION, "a signature algorithm other than RSA (PKCS#1 v1.5)")?;
        let (signer, expected_version) = if signer.tag() == CONTEXT_0_PRIMITIVE {
            (SignerId::KeyId(signer.value()), 3)
        } else {
            let [issuer, serial] = exactly(&inside(*signer, Tag::Sequence)?, "IssuerAndSerialNumber")?;
            if issuer.tag() != Tag::Sequence || serial.tag() != Tag::Integer {
                return Err(malformed("IssuerAndSerialNumber has other fields than it should".into()));
            }
            (SignerId::IssuerAndSerial { issuer, serial: serial.value() }, 1)
        };
        for version in [outer_version, *version] {
            if version.tag() != Tag::Integer || version.value() != [expected_version] {
                return Err(malformed("its version does not fit the way it names the signer".into()));
            }
        }
        if value.tag() != Tag::OctetString {
            return Err(malformed("the signature value is not an octet string".into()));
        }
        Ok(Self { signer, value: value.value() })
    }
}

/// The elements inside a constructed one with tag `tag`: definite lengths in their shortest form, nothing left over.
fn inside(any: AnyRef<'_>, tag: Tag) -> Result<Vec<AnyRef<'_>>, VerifyError> {
    any.tag().assert_eq(tag).map_err(not_der)?;
    let mut reader = SliceReader::new(any.value()).map_err(not_der)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        if elements.len() == MAX_ELEMENTS {
            return Err(malformed(format!("more than {MAX_ELEMENTS} elements in a {tag}")));
        }
        elements.push(AnyRef::decode(&mut reader).map_err(not_der)?);
    }
    Ok(elements)
}

fn exactly<'a, const N: usize>(elements: &[AnyRef<'a>], what: &str) -> Result<[AnyRef<'a>; N], VerifyError> {
    <[AnyRef<'a>; N]>::try_from(elements)
        .map_err(|_| malformed(format!("{what} has {} elements where {N} are expected", elements.len())))
}

fn is_oid(any: AnyRef<'_>, expected: ObjectIdentifier) -> Result<bool, VerifyError> {
    any.decode_as::<ObjectIdentifier>().map(|oid| oid == expected).map_err(not_der)
}

/// An AlgorithmIdentifier: the expected algorithm, parameters absent or NULL.
fn check_algorithm(any: AnyRef<'_>, expected: ObjectIdentifier, otherwise: &str) -> Result<(), VerifyError> {
    let (algorithm, parameters_fit) = match inside(any, Tag::Sequence)?[..] {
        [algorithm] => (algorithm, true),
        [algorithm, parameters] => (algorithm, parameters.is_null()),
        _ => return Err(malformed("AlgorithmIdentifier has other fields than it should".into())),
    };
    if !is_oid(algorithm, expected)? {
        return Err(unsupported(&format!("it uses {otherwise}")));
    }
    if parameters_fit { Ok(()) } else { Err(malformed("an algorithm has parameters".into())) }
}

fn malformed(why: String) -> VerifyError {
    VerifyError::Malformed(why)
}

fn not_der(error: der::Error) -> VerifyError {
    VerifyError::Malformed(error.to_string())
}

fn unsupported(why: &str) -> VerifyError {
    VerifyError::Unsupported(why.to_owned())
}
