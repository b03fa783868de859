//! A vendor's repository in memory, whose every part a test can change and sign again.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use livepatch_trust::{
    AllowedObject, AllowedPatch, FileMeta, Header, KernelAllowance, PublicKey, Refusal, RepositoryName, Role,
    RoleKeys, Root, SignedFile, Snapshot, SnapshotMeta, State, TARGETS, TargetName, Targets, TimestampMeta,
    TimestampRole, Update, Vendor, VersionedFile,
};
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, ModuleName, PatchVersion};
use serde::Serialize;

pub(crate) const MODULE: &[u8] = b"the module, with its signature";
pub(crate) const SIGNER: &str = "00112233445566778899aabbccddeeff00112233";

/// Seeds of the keys. Two of three sign the root, two of two the targets.
pub(crate) const ROOT_KEYS: [u8; 3] = [1, 2, 3];
pub(crate) const TARGETS_KEYS: [u8; 2] = [4, 5];
pub(crate) const SNAPSHOT_KEY: u8 = 6;
pub(crate) const TIMESTAMP_KEY: u8 = 7;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + day * 86400).unwrap()
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::Ed25519(pair(seed).public_key().as_ref().try_into().unwrap())
}

/// Metadata as a file, signed by these keys.
pub(crate) fn sign(content: &impl Serialize, seeds: &[u8]) -> Vec<u8> {
    let mut file = SignedFile::unsigned(content).unwrap();
    let input = file.signing_input().unwrap();
    for &seed in seeds {
        file.add_signature(&public(seed), pair(seed).sign(&input).as_ref());
    }
    file.to_bytes()
}

pub(crate) fn role_keys(seeds: &[u8], threshold: usize) -> RoleKeys {
    RoleKeys { keyids: seeds.iter().map(|&seed| public(seed).id()).collect(), threshold }
}

pub(crate) fn header(role: Role, version: u64) -> Header {
    Header::new(role, version, at(0), at(365))
}

pub(crate) fn root(version: u64) -> Root {
    let roles = [
        (Role::Root, role_keys(&ROOT_KEYS, 2)),
        (Role::Targets, role_keys(&TARGETS_KEYS, 2)),
        (Role::Snapshot, role_keys(&[SNAPSHOT_KEY], 1)),
        (Role::Timestamp, role_keys(&[TIMESTAMP_KEY], 1)),
    ];
    Root {
        header: header(Role::Root, version),
        repository: RepositoryName::parse("debian-12-6.1").unwrap(),
        consistent_snapshot: true,
        keys: (1..=7).map(|seed| (public(seed).id(), public(seed))).collect(),
        roles: roles.into(),
    }
}

pub(crate) fn kernel(number: u8) -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[number; 20]).unwrap(),
    }
}

pub(crate) fn version(text: &str) -> PatchVersion {
    PatchVersion::parse(text).unwrap()
}

/// Allows 3.1 for the kernel, which patches the module `nf_tables`; 1.1 was withdrawn.
pub(crate) fn allowance() -> KernelAllowance {
    let mut allowance = KernelAllowance::empty(kernel(1));
    allowance.lowest = Some(version("2.1"));
    allowance.withdrawn = vec![version("1.1")];
    allowance.allowed = vec![AllowedPatch {
        version: version("3.1"),
        module: FileMeta::of(MODULE),
        signer: SIGNER.into(),
        objects: vec![AllowedObject {
            name: ModuleName::parse("nf_tables").unwrap(),
            build_id: BuildId::from_bytes(&[8; 20]).unwrap(),
        }],
    }];
    allowance
}

/// The versions of targets, snapshot and timestamp.
pub(crate) type Versions = (u64, u64, u64);

pub(crate) fn targets(version: u64) -> Targets {
    let name = TargetName::of_kernel(Architecture::Amd64, &kernel(1).build_id);
    let meta = FileMeta::of(&allowance().to_bytes());
    Targets {
        header: header(Role::Targets, version),
        targets: [(name.to_string(), meta)].into(),
        delegations: None,
    }
}

pub(crate) fn snapshot(version: u64, targets_version: u64, targets: &[u8]) -> Snapshot {
    let targets = VersionedFile::of(targets_version, targets);
    Snapshot { header: header(Role::Snapshot, version), meta: SnapshotMeta { targets } }
}

pub(crate) fn timestamp(version: u64, snapshot_version: u64, snapshot: &[u8]) -> TimestampRole {
    let snapshot = VersionedFile::of(snapshot_version, snapshot);
    TimestampRole { header: header(Role::Timestamp, version), meta: TimestampMeta { snapshot } }
}

/// A whole repository.
pub(crate) fn files(versions: Versions) -> Files {
    files_with_targets(versions, &sign(&targets(versions.0), &TARGETS_KEYS))
}

/// A whole repository whose snapshot and timestamp are for this targets file.
pub(crate) fn files_with_targets(versions: Versions, targets: &[u8]) -> Files {
    let (targets_version, snapshot_version, timestamp_version) = versions;
    let snapshot = sign(&snapshot(snapshot_version, targets_version, targets), &[SNAPSHOT_KEY]);
    let timestamp = sign(&timestamp(timestamp_version, snapshot_version, &snapshot), &[TIMESTAMP_KEY]);
    let digest = FileMeta::of(&allowance().to_bytes()).hashes.sha256;
    let name = TargetName::of_kernel(Architecture::Amd64, &kernel(1).build_id);
    [
        ("metadata/1.root.json".into(), sign(&root(1), &[1, 2])),
        (format!("metadata/{targets_version}.targets.json"), targets.to_vec()),
        (format!("metadata/{snapshot_version}.snapshot.json"), snapshot),
        ("metadata/timestamp.json".into(), timestamp),
        (format!("{TARGETS}/{}", name.consistent_path(&digest)), allowance().to_bytes()),
    ]
    .into()
}

pub(crate) fn pinned() -> State {
    State::pin(&sign(&root(1), &[1, 2])).unwrap()
}

pub(crate) fn update(state: &State, files: &Files) -> Result<Vendor, Refusal> {
    Update::run(state.clone(), |wanted| files.get(&wanted.path).cloned())
}

/// What the repository allows for the first kernel.
pub(crate) fn allowed(vendor: &Vendor, files: &Files) -> Result<KernelAllowance, Refusal> {
    let file = vendor.kernel_file(&kernel(1))?;
    vendor.allowance(&kernel(1), &files[&file.path])
}

/// The state of a host that saw these versions.
pub(crate) fn state_after(versions: Versions) -> State {
    update(&pinned(), &files(versions)).unwrap().state().clone()
}
