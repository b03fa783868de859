//! What changes in metadata: values in, values out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use livepatch_manifest::{Bundle, ObjectName};
use livepatch_trust::{
    AllowedObject, AllowedPatch, FileMeta, Header, KernelAllowance, KeyId, PublicKey, RepositoryName, Role,
    RoleKeys, Root, Snapshot, SnapshotMeta, TargetName, Targets, TimestampMeta, TimestampRole, VersionedFile,
};
use livepatch_types::PatchVersion;

use super::error::TrustError;

/// When something is signed, and until when it stands.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    /// When it is made.
    pub issued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
}

/// The keys of a role, and how many of them must sign.
pub type RoleChoice = (Role, Vec<PublicKey>, usize);

/// The first root of a repository.
pub fn first_root(
    repository: RepositoryName,
    roles: Vec<RoleChoice>,
    term: Term,
) -> Result<Root, TrustError> {
    let mut root = Root {
        header: Header::new(Role::Root, 1, term.issued, term.expires),
        repository,
        consistent_snapshot: true,
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
    };
    for (role, keys, threshold) in roles {
        let keyids = keys.iter().map(PublicKey::id).collect();
        root.keys.extend(keys.into_iter().map(|key| (key.id(), key)));
        root.roles.insert(role, RoleKeys { keyids, threshold });
    }
    root.check()?;
    Ok(root)
}

/// A change of a role's keys.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The role.
    pub role: Role,
    /// Keys that it gets.
    pub add: Vec<PublicKey>,
    /// Keys that it loses.
    pub remove: Vec<KeyId>,
    /// How many must sign from now on; none: as many as before.
    pub threshold: Option<usize>,
}

/// Changes the keys of a role in a root that is being made.
pub fn rotate(root: &mut Root, rotation: &Rotation) -> Result<(), TrustError> {
    let Rotation { role, add, remove, threshold } = rotation;
    let keys = root.roles.get_mut(role);
    let keys = keys.ok_or_else(|| TrustError::Asked(format!("this repository has no role {role}")))?;
    for id in remove {
        let place = keys.keyids.iter().position(|known| known == id);
        keys.keyids.remove(place.ok_or(TrustError::NoSuchKey { role: *role, id: *id })?);
    }
    for key in add.iter().filter(|key| !keys.keyids.contains(&key.id())).collect::<Vec<_>>() {
        keys.keyids.push(key.id());
    }
    keys.threshold = threshold.unwrap_or(keys.threshold);
    root.keys.extend(add.iter().map(|key| (key.id(), key.clone())));
    let used: Vec<_> = root.roles.values().flat_map(|keys| keys.keyids.clone()).collect();
    root.keys.retain(|id, _| used.contains(id));
    root.check()?;
    Ok(())
}

/// Targets with nothing in them.
pub fn first_targets(term: Term) -> Targets {
    let header = Header::new(Role::Targets, 1, term.issued, term.expires);
    Targets { header, targets: BTreeMap::new(), delegations: None }
}

/// The header of what follows on this one.
pub fn next(header: &Header, term: Term) -> Header {
    Header {
        version: header.version.saturating_add(1),
        issued: term.issued,
        expires: term.expires,
        ..header.clone()
    }
}

/// Puts what is allowed for a kernel into the targets; the target's file.
pub fn set_allowance(targets: &mut Targets, allowance: &KernelAllowance) -> (TargetName, Vec<u8>) {
    let bytes = allowance.to_bytes();
    let name = TargetName::of_kernel(allowance.kernel.architecture, &allowance.kernel.build_id);
    targets.targets.insert(name.to_string(), FileMeta::of(&bytes));
    (name, bytes)
}

/// Allows the module of a bundle. `signer` is the subject key identifier of the key that signed it.
pub fn allow(allowance: &mut KernelAllowance, bundle: &Bundle, signer: &str) -> Result<(), TrustError> {
    let version = bundle.manifest.version;
    if allowance.withdrawn.contains(&version) {
        return Err(TrustError::Asked(format!("livepatch {version} is withdrawn, which is final")));
    }
    let objects = bundle.manifest.objects.iter().filter_map(|object| match &object.name {
        ObjectName::Vmlinux => None,
        ObjectName::Module(name) => {
            Some(AllowedObject { name: name.clone(), build_id: object.build_id.clone() })
        }
    });
    let patch = AllowedPatch {
        version,
        module: FileMeta::of(&bundle.module),
        signer: signer.to_owned(),
        objects: objects.collect(),
    };
    allowance.allowed.retain(|known| known.version != version);
    allowance.allowed.push(patch);
    allowance.allowed.sort_by_key(|patch| patch.version);
    Ok(())
}

/// Withdraws a livepatch for good.
pub fn withdraw(allowance: &mut KernelAllowance, version: PatchVersion) {
    allowance.allowed.retain(|known| known.version != version);
    if !allowance.withdrawn.contains(&version) {
        allowance.withdrawn.push(version);
        allowance.withdrawn.sort_unstable();
    }
}

/// The snapshot that names these targets.
pub fn snapshot(version: u64, term: Term, targets_version: u64, targets: &[u8]) -> Snapshot {
    let header = Header::new(Role::Snapshot, version, term.issued, term.expires);
    Snapshot { header, meta: SnapshotMeta { targets: VersionedFile::of(targets_version, targets) } }
}

/// The timestamp that names this snapshot.
pub fn timestamp(version: u64, term: Term, snapshot_version: u64, snapshot: &[u8]) -> TimestampRole {
    let header = Header::new(Role::Timestamp, version, term.issued, term.expires);
    TimestampRole { header, meta: TimestampMeta { snapshot: VersionedFile::of(snapshot_version, snapshot) } }
}
