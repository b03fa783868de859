//! OpenSSL is the independent maker of keys, certificates and signatures here.

use std::sync::LazyLock;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer as OpensslSigner;
use openssl::x509::extension::SubjectKeyIdentifier;
use openssl::x509::{X509, X509Builder, X509Extension, X509Name};
use proptest::prelude::*;

use crate::*;

const CONTENT: &[u8] = b"the bytes of a module";

struct Pair {
    key: PKey<Private>,
    x509: X509,
    certificate: Certificate,
}

fn x509(name: &str, key: &PKey<Private>, with_key_id: bool) -> X509 {
    x509_with(name, key, |builder| {
        if with_key_id {
            let extension = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(extension).unwrap();
        }
    })
}

/// With a subject key identifier of so many bytes.
fn x509_with_key_id_of(bytes: usize) -> Vec<u8> {
    let identifier = Asn1OctetString::new_from_bytes(&tlv(4, &[&vec![1; bytes]])).unwrap();
    let name = Asn1Object::from_str("2.5.29.14").unwrap();
    let with = |builder: &mut X509Builder| {
        builder.append_extension(X509Extension::new_from_der(&name, false, &identifier).unwrap()).unwrap();
    };
    x509_with("key id", &ALICE.key, with).to_der().unwrap()
}

fn x509_with(name: &str, key: &PKey<Private>, extend: impl FnOnce(&mut X509Builder)) -> X509 {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(0x80ab).unwrap()).unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(86400).unwrap()).unwrap(); // long over: validity is not looked at
    builder.set_pubkey(key).unwrap();
    extend(&mut builder);
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build()
}

fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

fn pair(name: &str) -> Pair {
    let key = rsa(2048);
    let x509 = x509(name, &key, true);
    let certificate = Certificate::from_der(&x509.to_der().unwrap()).unwrap();
    Pair { key, x509, certificate }
}

static ALICE: LazyLock<Pair> = LazyLock::new(|| pair("Alice"));
static MALLORY: LazyLock<Pair> = LazyLock::new(|| pair("Mallory"));
/// A module that Alice signed.
static MODULE: LazyLock<Vec<u8>> = LazyLock::new(|| append(CONTENT, &cms(&ALICE, CONTENT, kernel_form())));

/// The flags of scripts/sign-file with `-k`.
fn kernel_form() -> CMSOptions {
    sign_file_default() | CMSOptions::USE_KEYID
}

/// The flags of scripts/sign-file without `-k`: what distributions use.
fn sign_file_default() -> CMSOptions {
    CMSOptions::CMS_NOCERTS | CMSOptions::BINARY | CMSOptions::DETACHED | CMSOptions::NOATTR
}

fn cms(pair: &Pair, content: &[u8], options: CMSOptions) -> Vec<u8> {
    CmsContentInfo::sign(Some(&pair.x509), Some(&pair.key), None, Some(content), options)
        .unwrap()
        .to_der()
        .unwrap()
}

fn alice() -> Vec<Certificate> {
    vec![ALICE.certificate.clone()]
}

fn verdict(module: &[u8]) -> Result<(), VerifyError> {
    verify_module(module, &alice()).map(|_| ())
}

fn verdict_of_cms(der: &[u8]) -> Result<(), VerifyError> {
    verify_detached(CONTENT, der, &alice()).map(|_| ())
}

#[track_caller]
fn assert_unsupported(verdict: Result<(), VerifyError>, what: &str) {
    assert!(matches!(&verdict, Err(VerifyError::Unsupported(why)) if why.contains(what)), "{verdict:?}");
}

#[track_caller]
fn assert_malformed(verdict: Result<(), VerifyError>) {
    assert!(matches!(verdict, Err(VerifyError::Malformed(_))), "{verdict:?}");
}

#[test]
fn both_ways_to_name_the_signer_verify() {
    for options in [kernel_form(), sign_file_default()] {
        let der = cms(&ALICE, CONTENT, options);
        let module = append(CONTENT, &der);
        assert_eq!(split(&module).unwrap(), SignedModule { content: CONTENT, signature_der: &der });
        let trusted = [MALLORY.certificate.clone(), ALICE.certificate.clone()];
        let verified = verify_module(&module, &trusted).unwrap();
        assert_eq!((verified.content, verified.signer.subject()), (CONTENT, "CN=Alice"));
    }
}

#[test]
fn certificates_are_told_apart() {
    assert_eq!(ALICE.certificate, alice()[0]);
    assert_ne!(ALICE.certificate, MALLORY.certificate);
    let shown = format!("{:?}", ALICE.certificate);
    assert!(shown.contains("CN=Alice") && shown.contains(&ALICE.certificate.key_id_hex()), "{shown}");
}

#[test]
fn sizes() {
    // PEM: other text between certificates is passed over, up to 1 MiB.
    let mut pem = ALICE.x509.to_pem().unwrap();
    pem.resize(1 << 20, b'\n');
    assert_eq!(Certificate::from_pem(&pem).unwrap(), alice());
    pem.push(b'\n');
    assert!(Certificate::from_pem(&pem).unwrap_err().to_string().contains("larger than 1 MiB"));
    let refused = Certificate::from_der(&vec![0; (64 << 10) + 1]).unwrap_err();
    assert!(refused.to_string().contains("larger than 64 KiB"), "{refused}");
    let refused = Certificate::from_der(&vec![0; 64 << 10]).unwrap_err();
    assert!(!refused.to_string().contains("larger"), "not for its length: {refused}");
    for (bytes, taken) in [(0, false), (1, true), (64, true), (65, false), (66, false)] {
        let read = Certificate::from_der(&x509_with_key_id_of(bytes));
        assert_eq!(read.map(|read| read.key_id().len()).ok(), taken.then_some(bytes), "{bytes}");
    }

    // A signature: the caps are of its bytes, before anything in it is looked at.
    let longest = vec![0x30; MAX_SIGNATURE_BYTES];
    assert_eq!(split(&append(CONTENT, &longest)).unwrap().signature_der, longest);
    let longer = vec![0x30; MAX_SIGNATURE_BYTES + 1];
    for refused in [
        split(&append(CONTENT, &longer)).unwrap_err().to_string(),
        verdict_of_cms(&longer).unwrap_err().to_string(),
    ] {
        assert!(refused.contains(&format!("{} bytes", longer.len())), "{refused}");
    }
    let not_for_its_length = verdict_of_cms(&longest).unwrap_err().to_string();
    assert!(!not_for_its_length.contains("are allowed"), "{not_for_its_length}");
}

#[test]
fn a_stranger_is_named() {
    let trusted = [MALLORY.certificate.clone()];
    let key_id = ALICE.certificate.key_id_hex();
    assert_eq!(verify_module(&MODULE, &trusted), Err(VerifyError::UnknownSigner { key_id }));
    let by_serial = append(CONTENT, &cms(&ALICE, CONTENT, sign_file_default()));
    let key_id = "serial 0080ab of CN=Alice".to_owned();
    assert_eq!(
        verify_module(&by_serial, &trusted),
        Err(VerifyError::UnknownSigner { key_id: key_id.clone() })
    );
    assert_eq!(verify_module(&by_serial, &[]), Err(VerifyError::UnknownSigner { key_id }));
}

#[test]
fn a_key_that_poses_as_another_does_not_verify() {
    let id = ALICE.certificate.key_id();
    let forged = Cms { key_id: id, key: &MALLORY.key, ..Cms::default() };
    assert!(matches!(verdict_of_cms(&forged.der()), Err(VerifyError::BadSignature { .. })));
}

#[test]
fn every_changed_byte_is_refused() {
    let end_of_signature = MODULE.len() - 40;
    for at in 0..MODULE.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut module = MODULE.clone();
            module[at] ^= change;
            match (at, verdict(&module)) {
                (_, Ok(())) => panic!("byte {at} changed by {change:#x} and still verified"),
                (at, verdict) if at < CONTENT.len() => {
                    assert!(matches!(verdict, Err(VerifyError::BadSignature { .. })), "{verdict:?}");
                }
                (at, verdict) if at >= MODULE.len() - 28 => assert_eq!(verdict, Err(VerifyError::Unsigned)),
                (at, verdict) if at >= end_of_signature => assert_malformed(verdict),
                _ => {}
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for length in 0..MODULE.len() {
        assert_eq!(verdict(&MODULE[..length]), Err(VerifyError::Unsigned), "{length}");
        assert!(verdict(&MODULE[MODULE.len() - length..]).is_err(), "{length}");
    }
    let der = cms(&ALICE, CONTENT, kernel_form());
    for length in 0..der.len() {
        assert_malformed(verdict_of_cms(&der[..length]));
        assert!(verdict(&append(CONTENT, &der[..length])).is_err(), "{length}");
    }
}

#[test]
fn the_trailer_must_be_the_kernels() {
    let with = |fields: [u8; 8], length: u32| {
        let mut module = MODULE.clone();
        let at = module.len() - 40;
        module[at..at + 8].copy_from_slice(&fields);
        module[at + 8..at + 12].copy_from_slice(&length.to_be_bytes());
        split(&module).map(|_| ())
    };
    let length = (MODULE.len() - 40 - CONTENT.len()) as u32;
    assert_eq!(with([0, 0, 2, 0, 0, 0, 0, 0], length), Ok(()));
    for at in 0..8 {
        let mut fields = [0, 0, 2, 0, 0, 0, 0, 0];
        fields[at] = 1;
        assert!(matches!(with(fields, length), Err(Error::Trailer(_))), "field {at}");
    }
    let before_trailer = (MODULE.len() - 40) as u32;
    for length in [0, before_trailer + 1, MAX_SIGNATURE_BYTES as u32 + 1, u32::MAX, i32::MAX as u32] {
        assert!(matches!(with([0, 0, 2, 0, 0, 0, 0, 0], length), Err(Error::Trailer(_))), "length {length}");
    }
    assert_eq!(split(b""), Err(Error::Unsigned));
    assert!(matches!(split(b"~Module signature appended~\n"), Err(Error::Trailer(_))));
}

/// A signature made by hand: the form of the kernel unless a field says otherwise.
struct Cms<'a> {
    version: u8,
    digest: &'a [u8],
    algorithm: &'a [u8],
    key_id: &'a [u8],
    key: &'a PKey<Private>,
    signers: usize,
    content_type: &'a [u8],
    /// Instead of the key's id.
    signer_id: Option<&'a [u8]>,
    parameters: &'a [u8],
    before_signers: &'a [u8],
    after_signature: &'a [u8],
}

const SHA256: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA512: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const SIGNED_DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const NULL: &[u8] = &[5, 0];

impl Default for Cms<'_> {
    fn default() -> Self {
        Self {
            version: 3,
            digest: SHA256,
            algorithm: RSA,
            key_id: ALICE.certificate.key_id(),
            key: &ALICE.key,
            signers: 1,
            content_type: DATA,
            signer_id: None,
            parameters: b"",
            before_signers: b"",
            after_signature: b"",
        }
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = match body.len() {
        n @ ..0x80 => vec![n as u8],
        n @ ..0x100 => vec![0x81, n as u8],
        n => vec![0x82, (n >> 8) as u8, n as u8],
    };
    [&[tag], length.as_slice(), &body].concat()
}

impl Cms<'_> {
    fn der(&self) -> Vec<u8> {
        let mut signer = OpensslSigner::new(MessageDigest::sha256(), self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(CONTENT).unwrap();
        let digest = tlv(0x30, &[self.digest, self.parameters]);
        let signer = tlv(
            0x30,
            &[
                &tlv(2, &[&[self.version]]),
                &self.signer_id.map_or_else(|| tlv(0x80, &[self.key_id]), <[u8]>::to_vec),
                &digest,
                &tlv(0x30, &[self.algorithm, NULL]),
                &tlv(4, &[&signature]),
                self.after_signature,
            ],
        );
        let signed_data = tlv(
            0x30,
            &[
                &tlv(2, &[&[self.version]]),
                &tlv(0x31, &[&digest]),
                &tlv(0x30, &[self.content_type]),
                self.before_signers,
                &tlv(0x31, &[&signer.repeat(self.signers)]),
            ],
        );
        tlv(0x30, &[SIGNED_DATA, &tlv(0xa0, &[&signed_data])])
    }
}

#[test]
fn the_form_made_by_hand_is_that_of_openssl() {
    assert_eq!(Cms::default().der(), cms(&ALICE, CONTENT, kernel_form()));
    assert_eq!(verdict_of_cms(&Cms { parameters: NULL, ..Cms::default() }.der()), Ok(()));
    // And so is the one around a signature of a keeper of keys who knows no CMS.
    let signature =
        OpensslSigner::new(MessageDigest::sha256(), &ALICE.key).unwrap().sign_oneshot_to_vec(CONTENT);
    let der = signed_data(&ALICE.certificate, &signature.unwrap()).unwrap();
    assert_eq!(der, cms(&ALICE, CONTENT, kernel_form()));
}

#[test]
fn other_forms_are_refused() {
    let without = |options: CMSOptions| verdict_of_cms(&cms(&ALICE, CONTENT, kernel_form() & !options));
    assert_unsupported(without(CMSOptions::NOATTR), "signed attributes");
    assert_unsupported(without(CMSOptions::CMS_NOCERTS), "certificates");
    assert_unsupported(without(CMSOptions::DETACHED), "detached");
    assert_unsupported(verdict_of_cms(&Cms { digest: SHA512, ..Cms::default() }.der()), "SHA-256");
    assert_unsupported(verdict_of_cms(&Cms { algorithm: RSA_PSS, ..Cms::default() }.der()), "RSA");
    assert_unsupported(verdict_of_cms(&Cms { signers: 2, ..Cms::default() }.der()), "one signer");
    assert_unsupported(verdict_of_cms(&Cms { signers: 0, ..Cms::default() }.der()), "one signer");
    assert_unsupported(
        verdict_of_cms(&Cms { after_signature: &[0xa1, 0], ..Cms::default() }.der()),
        "unsigned attributes",
    );
    assert_unsupported(
        verdict_of_cms(&Cms { before_signers: &[0xa1, 0], ..Cms::default() }.der()),
        "revocation",
    );
    assert_unsupported(
        verdict_of_cms(&Cms { content_type: SIGNED_DATA, ..Cms::default() }.der()),
        "content type is not data",
    );
    // Issuer and serial number in each other's place, and each alone of the wrong kind.
    let (issuer, serial) = (tlv(0x30, &[]), tlv(2, &[&[1]]));
    for parts in [[&serial, &issuer], [&issuer, &issuer], [&serial, &serial]] {
        let signer_id = tlv(0x30, &parts.map(Vec::as_slice));
        let der = Cms { version: 1, signer_id: Some(&signer_id), ..Cms::default() }.der();
        let refused = verdict_of_cms(&der).unwrap_err().to_string();
        assert!(refused.contains("IssuerAndSerialNumber"), "{refused}");
    }
    assert_malformed(verdict_of_cms(&Cms { before_signers: NULL, ..Cms::default() }.der()));
    assert_malformed(verdict_of_cms(&Cms { after_signature: NULL, ..Cms::default() }.der()));
    assert_malformed(verdict_of_cms(&Cms { version: 1, ..Cms::default() }.der()));
    assert_malformed(verdict_of_cms(&Cms { parameters: &[2, 1, 0], ..Cms::default() }.der()));
    assert!(verdict_of_cms(&Cms { key_id: b"", ..Cms::default() }.der()).is_err());
}

#[test]
fn only_strict_der_is_read() {
    let der = cms(&ALICE, CONTENT, kernel_form());
    assert_malformed(verdict_of_cms(&[der.as_slice(), &[0]].concat()));
    assert_malformed(verdict_of_cms(&[&[0x30, 0x80], &der[4..], &[0, 0]].concat())); // indefinite length
    assert_malformed(verdict_of_cms(&[&[0x30, 0x83, 0], &der[2..]].concat())); // length not in its shortest form
    assert_malformed(verdict_of_cms(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]));
    assert_malformed(verdict_of_cms(&[0x30; 1000]));
    assert_malformed(verdict_of_cms(&vec![0; MAX_SIGNATURE_BYTES + 1]));
    assert_malformed(verdict_of_cms(b""));
}

#[test]
fn certificates() {
    let alice = &ALICE.certificate;
    assert_eq!(alice.key_id().len(), 20);
    assert_eq!(alice.der(), ALICE.x509.to_der().unwrap());
    let pem =
        [b"some text\n".to_vec(), ALICE.x509.to_pem().unwrap(), MALLORY.x509.to_pem().unwrap()].concat();
    assert_eq!(Certificate::from_pem(&pem).unwrap(), [alice.clone(), MALLORY.certificate.clone()]);
    let refused = |result: Result<_, Error>, what: &str| {
        assert!(matches!(&result, Err(Error::Certificate(why)) if why.contains(what)), "{what}: {result:?}");
    };
    let ec = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let ec = x509("EC", &PKey::from_ec_key(ec).unwrap(), true).to_der().unwrap();
    refused(Certificate::from_der(&ec), "RSA");
    refused(Certificate::from_der(&x509("short", &rsa(1024), true).to_der().unwrap()), "RSA");
    refused(Certificate::from_der(&x509("no id", &ALICE.key, false).to_der().unwrap()), "key identifier");
    refused(Certificate::from_der(&[alice.der(), &[0]].concat()), "");
    refused(Certificate::from_der(&vec![0x30; 1 << 20]), "64 KiB");
    for length in 0..alice.der().len() {
        refused(Certificate::from_der(&alice.der()[..length]), "");
    }
    refused(Certificate::from_pem(b"").map(|mut all| all.remove(0)), "no PEM");
    refused(Certificate::from_pem(&pem[..pem.len() - 10]).map(|mut all| all.remove(0)), "end of a PEM");
    let two_lines = x509("a\nb\x1b[31m", &ALICE.key, true).to_der().unwrap();
    assert!(!Certificate::from_der(&two_lines).unwrap().subject().contains(char::is_control));
}

proptest! {
    #[test]
    fn content_round_trips(content in prop::collection::vec(any::<u8>(), 0..200), der in prop::collection::vec(any::<u8>(), 1..200)) {
        let module = append(&content, &der);
        prop_assert_eq!(split(&module).unwrap(), SignedModule { content: &content, signature_der: &der });
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(verdict(&bytes).is_err());
        prop_assert!(verdict(&append(CONTENT, &bytes)).is_err());
        prop_assert!(verdict_of_cms(&bytes).is_err());
        prop_assert!(Certificate::from_der(&bytes).is_err());
        prop_assert!(Certificate::from_pem(&bytes).is_err());
    }

    #[test]
    fn nothing_but_the_signed_module_verifies(
        at in any::<prop::sample::Index>(),
        cut in 0usize..8,
        new in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let at = at.index(MODULE.len());
        let mut module = MODULE.clone();
        let _: Vec<u8> = module.splice(at..(at + cut).min(MODULE.len()), new).collect();
        prop_assert_eq!(verdict(&module).is_ok(), module == *MODULE);
    }

    #[test]
    fn a_changed_certificate_does_not_panic(at in any::<prop::sample::Index>(), to: u8) {
        let mut der = ALICE.certificate.der().to_vec();
        let at = at.index(der.len());
        der[at] = to;
        if let Ok(certificate) = Certificate::from_der(&der) {
            let _ = verify_module(&MODULE, &[certificate]);
        }
    }
}
