//! What tests sign: modules by a vendor, documents by an operator. Shared by the suites of the loader and of the host.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use livepatch_kernel::Pause;
use livepatch_manifest::envelope::{assemble, signing_input};
use livepatch_manifest::{
    CveEntry, HostAssignment, KernelDocument, ModuleObject, Target, VerifyingKey, assignment, document,
    sha256,
};
use livepatch_types::*;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectKeyIdentifier;
use openssl::x509::{X509, X509Name};

pub(crate) const NOW: &str = "2026-11-24T12:00:00Z";

/// A module signer.
pub(crate) struct Vendor {
    key: PKey<Private>,
    pub(crate) x509: X509,
}

pub(crate) static VENDOR: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("Vendor"));
pub(crate) static STRANGER: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("Stranger"));

impl Vendor {
    fn new(name: &str) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(365).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let key_id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(key_id).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { key, x509: builder.build() }
    }

    pub(crate) fn sign(&self, module: &[u8]) -> Vec<u8> {
        livepatch_modsig::append(module, &self.signature(module))
    }

    /// A signature that stands beside what it is over.
    pub(crate) fn signature(&self, content: &[u8]) -> Vec<u8> {
        let options = CMSOptions::DETACHED
            | CMSOptions::BINARY
            | CMSOptions::NOATTR
            | CMSOptions::CMS_NOCERTS
            | CMSOptions::USE_KEYID;
        let cms =
            CmsContentInfo::sign(Some(&self.x509), Some(&self.key), None, Some(content), options).unwrap();
        cms.to_der().unwrap()
    }
}

pub(crate) fn kernel(byte: u8) -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[byte; 20]).unwrap(),
    }
}

pub(crate) fn version(text: &str) -> PatchVersion {
    PatchVersion::parse(text).unwrap()
}

/// The `.modinfo` of a livepatch.
pub(crate) fn info(version: &str, kernel: &KernelIdentity) -> BTreeMap<&'static str, String> {
    let version = self::version(version);
    BTreeMap::from([
        ("livepatch", "Y".to_owned()),
        ("name", version.module_name().to_string()),
        ("livepatch_version", version.to_string()),
        ("livepatch_kernel_build_id", kernel.build_id.to_string()),
        ("livepatch_kernel_release", kernel.release.to_string()),
        ("vermagic", format!("{} SMP preempt mod_unload modversions ", kernel.release)),
    ])
}

pub(crate) fn module(info: &BTreeMap<&'static str, String>) -> Vec<u8> {
    use object::write::Object;
    let mut elf =
        Object::new(object::BinaryFormat::Elf, object::Architecture::X86_64, object::Endianness::Little);
    let section = elf.add_section(Vec::new(), b".modinfo".to_vec(), object::SectionKind::ReadOnlyData);
    let mut text = Vec::new();
    for (key, value) in info {
        text.extend(format!("{key}={value}\0").bytes());
    }
    // A leading NUL, so that the fake kernel finds the first entry too.
    elf.append_section_data(section, b"\0", 1);
    elf.append_section_data(section, &text, 1);
    elf.write().unwrap()
}

pub(crate) fn public(key: &Ed25519KeyPair) -> VerifyingKey {
    VerifyingKey::from_bytes(key.public_key().as_ref().try_into().unwrap())
}

/// A target for these bytes.
pub(crate) fn target_of(version: &str, bytes: &[u8]) -> Target {
    let entry = |id: &str, coverage| CveEntry {
        id: CveId::parse(id).unwrap(),
        coverage,
        rating: Rating::High,
        title: "net: something".into(),
    };
    Target {
        version: self::version(version),
        module: ModuleObject { sha256: sha256(bytes), size_bytes: bytes.len() as u64 },
        cves: vec![entry("CVE-2026-0001", CveCoverage::Whole), entry("CVE-2026-0002", CveCoverage::Partial)],
        released: NOW.parse().unwrap(),
    }
}

/// A document in an envelope.
pub(crate) fn sign_document(document: &KernelDocument, key: &Ed25519KeyPair) -> Vec<u8> {
    sign_payload(&document.to_payload(), key)
}

/// The payload of a document, whatever is in it, in an envelope.
pub(crate) fn sign_payload(payload: &[u8], key: &Ed25519KeyPair) -> Vec<u8> {
    let sig = key.sign(&signing_input(document::PAYLOAD_TYPE, payload)).as_ref().to_vec();
    assemble(document::PAYLOAD_TYPE, payload, &[(public(key).key_id(), sig)])
}

/// The assignment of a host to a tier, in an envelope.
pub(crate) fn assign(host: HostId, tier: &str, version: u64, key: &Ed25519KeyPair) -> Vec<u8> {
    assign_in_cohort(host, tier, None, version, key)
}

/// The same with a cohort.
pub(crate) fn assign_in_cohort(
    host: HostId,
    tier: &str,
    cohort: Option<Cohort>,
    version: u64,
    key: &Ed25519KeyPair,
) -> Vec<u8> {
    let tier = Tier::parse(tier).unwrap();
    let issued = NOW.parse().unwrap();
    let assignment = HostAssignment { schema: 1, critical: vec![], host, tier, cohort, version, issued };
    let payload = assignment.to_payload();
    let sig = key.sign(&signing_input(assignment::PAYLOAD_TYPE, &payload)).as_ref().to_vec();
    assemble(assignment::PAYLOAD_TYPE, &payload, &[(public(key).key_id(), sig)])
}

/// A document of version 1 without a target, valid at [`NOW`].
pub(crate) fn document(kernel: &KernelIdentity, version: u64, target: Option<Target>) -> KernelDocument {
    KernelDocument {
        schema: 1,
        critical: vec![],
        kernel: kernel.clone(),
        channel: Tier::parse("stable").unwrap(),
        version,
        issued: "2026-11-24T00:00:00Z".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        poll_hint_seconds: None,
        target,
        withdrawn: vec![],
        vendor: None,
        coverage: None,
    }
}

pub(crate) struct NoPause;

impl Pause for NoPause {
    fn pause(&self, _: Duration) {}
}

/// A clock that a test sets.
pub(crate) struct SetClock(pub(crate) Mutex<Timestamp>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}
