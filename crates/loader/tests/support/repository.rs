//! A vendor's repository in memory, whose every part a test can change and sign again.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use livepatch_manifest::{MetadataFile, VendorMetadata, sha256};
use livepatch_trust::{
    AllowedPatch, FileMeta, Header, KernelAllowance, METADATA, PublicKey, RepositoryName, Role, RoleKeys,
    Root, SignedFile, Snapshot, SnapshotMeta, TARGETS, TargetName, Targets, TimestampMeta, TimestampRole,
    VersionedFile,
};
use livepatch_types::KernelIdentity;
use serde::Serialize;

use crate::signing::{VENDOR, kernel, version};

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Seeds of the keys: two of two sign root and targets, one snapshot and timestamp.
pub(crate) const ROOT_KEYS: [u8; 2] = [1, 2];
pub(crate) const TARGETS_KEYS: [u8; 2] = [4, 5];
pub(crate) const ONLINE_KEY: u8 = 6;

/// What of a repository tests change.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) root: Root,
    /// Who signs the root.
    pub(crate) root_signers: Vec<u8>,
    /// Who signs snapshot and timestamp.
    pub(crate) online_key: u8,
    /// Versions of targets, snapshot and timestamp.
    pub(crate) versions: (u64, u64, u64),
    pub(crate) issued: Timestamp,
    /// When the timestamp expires.
    pub(crate) expires: Timestamp,
    /// The kernel under whose name the allowance stands.
    pub(crate) kernel: KernelIdentity,
    pub(crate) allowance: KernelAllowance,
}

pub(crate) fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub(crate) fn key(seed: u8) -> PublicKey {
    PublicKey::Ed25519(pair(seed).public_key().as_ref().try_into().unwrap())
}

/// Metadata as a file, signed by these keys.
pub(crate) fn sign(content: &impl Serialize, seeds: &[u8]) -> Vec<u8> {
    let mut file = SignedFile::unsigned(content).unwrap();
    let input = file.signing_input().unwrap();
    for &seed in seeds {
        file.add_signature(&key(seed), pair(seed).sign(&input).as_ref());
    }
    file.to_bytes()
}

pub(crate) fn role_keys(seeds: &[u8], threshold: usize) -> RoleKeys {
    RoleKeys { keyids: seeds.iter().map(|&seed| key(seed).id()).collect(), threshold }
}

/// Seeds of the keys of the operator's root: two of two sign it.
pub(crate) const OPERATOR_KEYS: [u8; 2] = [31, 32];

/// A root by which these keys sign documents and assignments.
pub(crate) fn operator_root(version: u64, documents: &[u8], assignments: &[u8]) -> Root {
    let (issued, expires) =
        ("2026-11-23T00:00:00Z".parse().unwrap(), "2027-11-23T00:00:00Z".parse().unwrap());
    let mut seeds = [&OPERATOR_KEYS[..], documents, assignments].concat();
    seeds.sort_unstable();
    seeds.dedup();
    let roles = [
        (Role::Root, role_keys(&OPERATOR_KEYS, 2)),
        (Role::Documents, role_keys(documents, 1)),
        (Role::Assignments, role_keys(assignments, 1)),
    ];
    Root {
        header: Header::new(Role::Root, version, issued, expires),
        repository: RepositoryName::parse("example-fleet").unwrap(),
        consistent_snapshot: true,
        keys: seeds.into_iter().map(|seed| (key(seed).id(), key(seed))).collect(),
        roles: roles.into(),
    }
}

/// Names of targets beyond plain letters: a Cyrillic letter, full-width and fraction slashes, a composed and a decomposed letter,
/// one that is written from right to left, one without width, a soft hyphen, a line separator.
pub(crate) const UNICODE_TARGET_NAMES: [&str; 9] = [
    "kernels/\u{430}md64/01.json",
    "kernels\u{ff0f}amd64/01.json",
    "kernels\u{2044}amd64/01.json",
    "kernels/\u{e4}md64/01.json",
    "kernels/a\u{308}md64/01.json",
    "kernels/\u{202e}46dma/01.json",
    "kernels/am\u{200b}d64/01.json",
    "kernels/am\u{ad}d64/01.json",
    "kernels/amd64\u{2028}/01.json",
];

/// A livepatch that may run.
pub(crate) fn allowed(of: &str, module: &[u8]) -> AllowedPatch {
    let certificate = livepatch_modsig::Certificate::from_pem(&VENDOR.x509.to_pem().unwrap()).unwrap();
    let signer = certificate[0].key_id_hex();
    AllowedPatch { version: version(of), module: FileMeta::of(module), signer, objects: vec![] }
}

impl Repository {
    /// The first one: it allows nothing for kernel 1, and is good around the time of the tests.
    pub(crate) fn new() -> Self {
        let (issued, expires): (Timestamp, Timestamp) =
            ("2026-11-23T00:00:00Z".parse().unwrap(), "2027-11-23T00:00:00Z".parse().unwrap());
        let roles = [
            (Role::Root, role_keys(&ROOT_KEYS, 2)),
            (Role::Targets, role_keys(&TARGETS_KEYS, 2)),
            (Role::Snapshot, role_keys(&[ONLINE_KEY], 1)),
            (Role::Timestamp, role_keys(&[ONLINE_KEY], 1)),
        ];
        let root = Root {
            header: Header::new(Role::Root, 1, issued, expires),
            repository: RepositoryName::parse("debian-12-6.1").unwrap(),
            consistent_snapshot: true,
            keys: ROOT_KEYS
                .into_iter()
                .chain(TARGETS_KEYS)
                .chain([ONLINE_KEY])
                .map(|seed| (key(seed).id(), key(seed)))
                .collect(),
            roles: roles.into(),
        };
        let allowance = KernelAllowance::empty(kernel(1));
        let root_signers = ROOT_KEYS.to_vec();
        let (online_key, versions) = (ONLINE_KEY, (1, 1, 1));
        Self { root, root_signers, online_key, versions, issued, expires, kernel: kernel(1), allowance }
    }

    /// The next release, in which these may run.
    pub(crate) fn allow(&mut self, of: &str, module: &[u8]) -> &mut Self {
        self.allowance.allowed.push(allowed(of, module));
        self.release()
    }

    /// The next version of all but the root.
    pub(crate) fn release(&mut self) -> &mut Self {
        let (targets, snapshot, timestamp) = self.versions;
        self.versions = (targets + 1, snapshot + 1, timestamp + 1);
        self
    }

    pub(crate) fn root_file(&self) -> Vec<u8> {
        sign(&self.root, &self.root_signers)
    }

    fn header(&self, role: Role, version: u64) -> Header {
        let expires = if role == Role::Timestamp { self.expires } else { self.root.header.expires };
        Header::new(role, version, self.issued, expires)
    }

    pub(crate) fn targets(&self) -> Targets {
        let name = TargetName::of_kernel(self.kernel.architecture, &self.kernel.build_id);
        let targets = [(name.to_string(), FileMeta::of(&self.allowance.to_bytes()))].into();
        Targets { header: self.header(Role::Targets, self.versions.0), targets, delegations: None }
    }

    /// All files by path.
    pub(crate) fn files(&self) -> Files {
        self.files_with(&sign(&self.targets(), &TARGETS_KEYS))
    }

    /// The same with this targets file, named by the others.
    pub(crate) fn files_with(&self, targets_file: &[u8]) -> Files {
        let (targets, snapshot, timestamp) = self.versions;
        let meta = SnapshotMeta { targets: VersionedFile::of(targets, targets_file) };
        let snapshot_file =
            sign(&Snapshot { header: self.header(Role::Snapshot, snapshot), meta }, &[self.online_key]);
        let meta = TimestampMeta { snapshot: VersionedFile::of(snapshot, &snapshot_file) };
        let header = self.header(Role::Timestamp, timestamp);
        let timestamp_file = sign(&TimestampRole { header, meta }, &[self.online_key]);
        let allowance = self.allowance.to_bytes();
        let name = TargetName::of_kernel(self.kernel.architecture, &self.kernel.build_id);
        let digest = FileMeta::of(&allowance).hashes.sha256;
        [
            (format!("{METADATA}/{}.root.json", self.root.header.version), self.root_file()),
            (format!("{METADATA}/{targets}.targets.json"), targets_file.to_vec()),
            (format!("{METADATA}/{snapshot}.snapshot.json"), snapshot_file),
            (format!("{METADATA}/timestamp.json"), timestamp_file),
            (format!("{TARGETS}/{}", name.consistent_path(&digest)), allowance),
        ]
        .into()
    }

    /// As the operator's documents name it.
    pub(crate) fn named(&self) -> VendorMetadata {
        let files = self.files();
        let file = |version: u64, path: &str| MetadataFile { version, sha256: sha256(&files[path]) };
        let root = self.root.header.version;
        VendorMetadata {
            repository: self.root.repository.to_string(),
            root: file(root, &format!("{METADATA}/{root}.root.json")),
            timestamp: file(self.versions.2, &format!("{METADATA}/timestamp.json")),
        }
    }

    /// The files with a next root that one key signed twice.
    pub(crate) fn signed_twice_by_one_key(&mut self) -> Files {
        self.root.header.version = 2;
        let signed = sign(&self.root, &[ROOT_KEYS[0]]);
        let mut twice: serde_json::Value = serde_json::from_slice(&signed).unwrap();
        let signatures = twice["signatures"].as_array_mut().unwrap();
        signatures.push(signatures[0].clone());
        let mut files = self.files();
        files.insert(format!("{METADATA}/2.root.json"), twice.to_string().into_bytes());
        files
    }

    /// The files with a next root that lists one key twice toward its threshold.
    pub(crate) fn one_key_listed_twice(&mut self) -> Files {
        self.root.header.version = 2;
        let id = key(ROOT_KEYS[0]).id();
        self.root.roles.insert(Role::Root, RoleKeys { keyids: vec![id, id], threshold: 2 });
        self.files()
    }

    /// The files whose targets delegate to so many roles.
    pub(crate) fn with_delegations(&self, count: u32) -> Files {
        let mut targets = self.targets();
        let roles: Vec<_> = (0..count).map(|number| serde_json::json!({ "name": number })).collect();
        targets.delegations = Some(serde_json::json!({ "roles": roles }));
        self.files_with(&sign(&targets, &TARGETS_KEYS))
    }

    /// The files, with targets of another release under the name of these.
    pub(crate) fn mixed(&mut self) -> Files {
        let mut files = self.files();
        self.allowance.withdrawn.push(version("9.9"));
        let path = format!("{METADATA}/{}.targets.json", self.versions.0);
        files.insert(path.clone(), self.files()[&path].clone());
        files
    }
}
