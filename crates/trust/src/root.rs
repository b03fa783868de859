use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Header, KeyId, PublicKey, Refusal, RepositoryName, SignedFile};

/// Largest root metadata, in bytes.
pub const MAX_ROOT_BYTES: u64 = 64 << 10;
/// How many keys a root may name.
pub const MAX_KEYS: usize = 64;

/// Who signs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Names the keys of all roles.
    Root,
    /// Vendor: what may run.
    Targets,
    /// Vendor: which targets metadata is the newest.
    Snapshot,
    /// Vendor: which snapshot is the newest.
    Timestamp,
    /// Operator: kernel documents.
    Documents,
    /// Operator: assignments of hosts.
    Assignments,
}

impl Role {
    /// The name in metadata and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Documents => "documents",
            Self::Assignments => "assignments",
        }
    }

    pub(crate) fn file_words(self) -> &'static str {
        match self {
            Self::Root => "the root metadata",
            Self::Targets => "the targets metadata",
            Self::Snapshot => "the snapshot metadata",
            Self::Timestamp => "the timestamp metadata",
            Self::Documents => "the kernel document",
            Self::Assignments => "the host assignment",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whose repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Says what may ever run.
    Vendor,
    /// Says who gets what, when.
    Operator,
}

impl Kind {
    /// The roles of such a root, all of them and no others.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Vendor => &[Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp],
            Self::Operator => &[Role::Root, Role::Documents, Role::Assignments],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vendor => "a vendor",
            Self::Operator => "an operator",
        })
    }
}

/// The keys of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Names of its keys.
    pub keyids: Vec<KeyId>,
    /// How many of them must sign.
    pub threshold: usize,
}

/// Root metadata: which keys speak for which role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Type, version and times.
    #[serde(flatten)]
    pub header: Header,
    /// The repository; it never changes.
    pub repository: RepositoryName,
    /// Always true: files that change are named by version or digest, so that a mirror can be copied while it changes.
    pub consistent_snapshot: bool,
    /// All keys, by name.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// The roles.
    pub roles: BTreeMap<Role, RoleKeys>,
}

impl Root {
    /// Reads a root that its own keys signed: one that somebody decided to trust, or the next in a chain.
    pub fn open(bytes: &[u8]) -> Result<(Self, SignedFile), Refusal> {
        let file = SignedFile::parse(bytes, MAX_ROOT_BYTES, Role::Root.file_words())?;
        let root: Self = file.content(Role::Root)?;
        root.check()?;
        file.verify::<Self>(&root, Role::Root)?;
        Ok((root, file))
    }

    /// The rules that every root keeps, signed or not.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.keys.len() > MAX_KEYS {
            return Err(Refusal::TooMany { what: "keys", limit: MAX_KEYS });
        }
        let mut seen = BTreeMap::new();
        for (stated, key) in &self.keys {
            let actual = key.id();
            if *stated != actual {
                return Err(Refusal::KeyId { stated: *stated, actual });
            }
            if let Some(other) = seen.insert(key, *stated) {
                return Err(Refusal::DuplicateKey(other, *stated));
            }
        }
        if !self.consistent_snapshot {
            return Err(Refusal::Format("consistent_snapshot: false".into()));
        }
        let kind = self.kind();
        let roles = |kind: Kind| kind.roles().iter().copied().collect::<BTreeSet<_>>();
        if self.roles.keys().copied().collect::<BTreeSet<_>>() != roles(kind) {
            return Err(Refusal::WrongKind(kind));
        }
        for (&role, keys) in &self.roles {
            let bad = |why| Err(Refusal::BadRole { role, why });
            let different: BTreeSet<_> = keys.keyids.iter().collect();
            if different.len() != keys.keyids.len() {
                return bad("a key is listed twice");
            }
            if !keys.keyids.iter().all(|id| self.keys.contains_key(id)) {
                return bad("a key is listed that the root does not have");
            }
            if keys.threshold == 0 || keys.threshold > keys.keyids.len() {
                return bad("its threshold is 0 or more than it has keys");
            }
        }
        Ok(())
    }

    /// Whose root it is, as its roles say.
    pub fn kind(&self) -> Kind {
        let operator = [Role::Documents, Role::Assignments];
        if operator.iter().any(|role| self.roles.contains_key(role)) { Kind::Operator } else { Kind::Vendor }
    }

    /// The keys of a role, with their names.
    pub fn keys_of(&self, role: Role) -> impl Iterator<Item = (&KeyId, &PublicKey)> {
        let ids = self.roles.get(&role).into_iter().flat_map(|keys| &keys.keyids);
        ids.filter_map(|id| self.keys.get_key_value(id))
    }

    /// How many keys of a role must sign. A role that is not there cannot be met.
    pub fn threshold(&self, role: Role) -> usize {
        self.roles.get(&role).map_or(usize::MAX, |keys| keys.threshold)
    }

    /// Whether nothing that the keys of a role signed under `self` can be valid under `next`: too few of them are left.
    pub fn is_renounced_by(&self, next: &Self, role: Role) -> bool {
        let before: BTreeSet<_> = self.keys_of(role).map(|(id, _)| id).collect();
        next.keys_of(role).filter(|(id, _)| before.contains(id)).count() < next.threshold(role)
    }
}
