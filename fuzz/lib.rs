//! What the targets and the maker of their seeds share.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use livepatch_manifest::{HostAssignment, VerifyingKey, assignment};
use livepatch_manifest::document::PAYLOAD_TYPE;
use livepatch_manifest::envelope::{assemble, signing_input};
use livepatch_transparency::{Checkpoint, LogKey};
use livepatch_trust::{Header, PublicKey, RepositoryName, Role, RoleKeys, Root, SignedFile};
use livepatch_types::{Architecture, BuildId, HostId, KernelIdentity, KernelRelease, Tier};

/// The key that the `envelope` target trusts. No secret: it signs nothing else.
fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed")
}

/// The public half of that key.
pub fn verifying_key() -> VerifyingKey {
    let key = key();
    VerifyingKey::from_bytes(key.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes"))
}

/// An envelope around a payload, signed by the trusted key.
pub fn sign_envelope(payload: &[u8]) -> Vec<u8> {
    let signature = key().sign(&signing_input(PAYLOAD_TYPE, payload)).as_ref().to_vec();
    assemble(PAYLOAD_TYPE, payload, &[(verifying_key().key_id(), signature)])
}

/// An assignment of a host, signed by the trusted key.
pub fn assign(host: HostId) -> Vec<u8> {
    let tier = Tier::parse("stable").expect("a tier");
    let issued = jiff::Timestamp::UNIX_EPOCH;
    let assignment = HostAssignment { schema: 1, critical: vec![], host, tier, cohort: None, version: 1, issued };
    let payload = assignment.to_payload();
    let signature = key().sign(&signing_input(assignment::PAYLOAD_TYPE, &payload)).as_ref().to_vec();
    assemble(assignment::PAYLOAD_TYPE, &payload, &[(verifying_key().key_id(), signature)])
}

/// The same key as that of a log.
pub fn log_key() -> LogKey {
    LogKey::new("log.example/fuzz", *verifying_key().as_bytes()).expect("a name")
}

/// The signed note of a head, by the trusted key.
pub fn sign_head(head: &Checkpoint) -> String {
    head.to_note(&log_key(), key().sign(head.to_text().as_bytes()).as_ref())
}

/// The kernel that seeds are for.
pub fn kernel() -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").expect("a release"),
        build_id: BuildId::from_bytes(&[1; 20]).expect("20 bytes are a build-id"),
    }
}

/// The channel that seeds are for.
pub fn channel() -> Tier {
    Tier::parse("stable").expect("a tier")
}

/// A file of metadata with this content, signed by the trusted key; none: the content has no canonical form.
pub fn sign_metadata(content: &impl serde::Serialize) -> Option<Vec<u8>> {
    let mut file = SignedFile::unsigned(content).ok()?;
    let input = file.signing_input().ok()?;
    file.add_signature(&PublicKey::Ed25519(*verifying_key().as_bytes()), key().sign(&input).as_ref());
    Some(file.to_bytes())
}

/// A root that gives these roles to the trusted key, beside its own.
fn root(name: &str, roles: &[Role]) -> Vec<u8> {
    let key = PublicKey::Ed25519(*verifying_key().as_bytes());
    let keys = RoleKeys { keyids: vec![key.id()], threshold: 1 };
    let roles = roles.iter().chain(&[Role::Root]).map(|role| (*role, keys.clone()));
    let (issued, expires) = (jiff::Timestamp::UNIX_EPOCH, "2199-01-01T00:00:00Z".parse().expect("a time"));
    let root = Root {
        header: Header::new(Role::Root, 1, issued, expires),
        repository: RepositoryName::parse(name).expect("a name"),
        consistent_snapshot: true,
        keys: [(key.id(), key.clone())].into(),
        roles: roles.collect(),
    };
    sign_metadata(&root).expect("a root has a canonical form")
}

/// The root of a vendor whose every key is the trusted one.
pub fn vendor_root() -> Vec<u8> {
    root("fuzz-vendor", &[Role::Targets, Role::Snapshot, Role::Timestamp])
}

/// The same of an operator.
pub fn operator_root() -> Vec<u8> {
    root("fuzz-operator", &[Role::Documents, Role::Assignments])
}
