use jiff::Timestamp;
use livepatch_types::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::{Kind, Refusal, Role, Root, SignedFile};

/// Largest state, in bytes: a root, written as text within text, and some numbers.
const MAX_STATE_BYTES: u64 = 4 * crate::MAX_ROOT_BYTES;
/// How far the clock here may be behind a signer's, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 300;

/// What is remembered of a repository: the newest root that is trusted, and the versions that were seen. It must be
/// kept where nothing throws it away: without it, old metadata is as good as new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    root: Root,
    root_file: SignedFile,
    pub(crate) seen: Seen,
}

/// Versions that were seen; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) timestamp: u64,
    /// The digest of that file: the version has one content. None: no timestamp was seen, or an earlier program saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp_sha256: Option<Sha256Digest>,
    pub(crate) snapshot: u64,
    pub(crate) targets: u64,
    /// The latest time of signing that was seen. From signed metadata alone, never from the clock here: one that once
    /// stood at 2099 must not lock updates out.
    pub(crate) issued: Timestamp,
}

/// The state as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    schema: u32,
    root: SignedFile,
    seen: Seen,
}

impl State {
    /// The state of a host that has just been given a root to trust.
    pub fn pin(root: &[u8]) -> Result<Self, Refusal> {
        let (root, root_file) = Root::open(root)?;
        let seen = Seen {
            timestamp: 0,
            timestamp_sha256: None,
            snapshot: 0,
            targets: 0,
            issued: root.header.issued,
        };
        Ok(Self { root, root_file, seen })
    }

    /// Reads a state that was kept.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let what = "the state of a repository";
        if bytes.len() as u64 > MAX_STATE_BYTES {
            return Err(Refusal::TooLong { what: what.into(), limit: MAX_STATE_BYTES });
        }
        let malformed = |error: serde_json::Error| Refusal::Malformed { what, why: error.to_string() };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
        // The schema comes first: a later format may not parse as this one.
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema != 1 {
            return Err(Refusal::Format(format!("state {schema}")));
        }
        let kept: Kept = serde_json::from_value(value).map_err(malformed)?;
        let (root, root_file) = Root::open(&kept.root.to_bytes())?;
        Ok(Self { root, root_file, seen: kept.seen })
    }

    /// The bytes to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Values, strings and numbers: serialising them cannot fail.
        serde_json::to_vec(&Kept { schema: 1, root: self.root_file.clone(), seen: self.seen })
            .unwrap_or_default()
    }

    /// The root that is trusted.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The file of the root that is trusted: its content and signatures, as [`State::take_root`] reads them.
    pub fn root_bytes(&self) -> Vec<u8> {
        self.root_file.to_bytes()
    }

    /// Whether it has a later root of the same repository.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.root, &other.root);
        ours.repository == theirs.repository && ours.header.version > theirs.header.version
    }

    /// Whether this is where a host that was given that root may be by now: it is its root, or has a later one of the same
    /// repository. A root in between was not kept, so that the names alone say so.
    pub fn continues(&self, pinned: &Self) -> bool {
        self.root == pinned.root || self.is_newer_than(pinned)
    }

    /// The highest version of a role's metadata that was seen; 0: none.
    pub fn seen(&self, role: Role) -> u64 {
        match role {
            Role::Root => self.root.header.version,
            Role::Targets => self.seen.targets,
            Role::Snapshot => self.seen.snapshot,
            Role::Timestamp => self.seen.timestamp,
            Role::Documents | Role::Assignments => 0,
        }
    }

    /// Whether a timestamp of this version and digest may be the one that was seen: two of one version are a split view.
    pub fn check_timestamp(&self, version: u64, sha256: Sha256Digest) -> Result<(), Refusal> {
        match self.seen.timestamp_sha256 {
            Some(seen) if version == self.seen.timestamp && seen != sha256 => {
                Err(Refusal::OtherContent { role: Role::Timestamp, version, seen, offered: sha256 })
            }
            _ => Ok(()),
        }
    }

    /// Follows the root to its successor: signed as the old root says and as the new one says
    /// (TUF 1.0.33, section 5.3).
    pub fn take_root(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let file = SignedFile::parse(bytes, crate::MAX_ROOT_BYTES, Role::Root.file_words())?;
        file.verify::<Root>(&self.root, Role::Root)?;
        let (next, file) = Root::open(bytes)?;
        let expected = self.root.header.version.saturating_add(1);
        let actual = next.header.version;
        if actual < expected {
            return Err(Refusal::Rollback { role: Role::Root, offered: actual, seen: expected - 1 });
        }
        if actual != expected {
            return Err(Refusal::WrongVersion { role: Role::Root, expected, actual });
        }
        if next.repository != self.root.repository {
            return Err(Refusal::WrongRepository {
                expected: self.root.repository.to_string(),
                actual: next.repository.to_string(),
            });
        }
        if next.kind() != self.root.kind() {
            return Err(Refusal::WrongKind(self.root.kind()));
        }
        self.forget_renounced(&next);
        self.seen.issued = self.seen.issued.max(next.header.issued);
        (self.root, self.root_file) = (next, file);
        Ok(())
    }

    /// Recovery from fast-forward (TUF 1.0.33, section 5.3.11): a stolen key may have signed the highest version there is.
    /// Versions are forgotten when the new root takes so many of the role's keys away that nothing signed before can be
    /// valid any more; else an old file could come back.
    fn forget_renounced(&mut self, next: &Root) {
        let renounced = |role| self.root.kind() == Kind::Vendor && self.root.is_renounced_by(next, role);
        let (timestamp, snapshot, targets) =
            (renounced(Role::Timestamp), renounced(Role::Snapshot), renounced(Role::Targets));
        // A timestamp also states the snapshot's version, and a snapshot the targets'.
        if timestamp {
            (self.seen.timestamp, self.seen.timestamp_sha256) = (0, None);
        }
        if timestamp || snapshot {
            self.seen.snapshot = 0;
        }
        if snapshot || targets {
            self.seen.targets = 0;
        }
        if timestamp || snapshot || targets {
            self.seen.issued = next.header.issued;
        }
    }

    /// Whether the clock can be right, and the root still stands.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        let issued = self.seen.issued;
        if now.as_second().saturating_add(CLOCK_SKEW_SECONDS) < issued.as_second() {
            return Err(Refusal::ClockBehind { issued, now });
        }
        check_expiry(Role::Root, self.root.header.expires, now)
    }
}

pub(crate) fn check_expiry(role: Role, expires: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now >= expires { Err(Refusal::Expired { role, expires }) } else { Ok(()) }
}
