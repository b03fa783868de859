//! What keeps livepatches from a kernel.

use jiff::Timestamp;
use livepatch_types::PatchVersion;
use serde::{Deserialize, Serialize};

/// Something that keeps a livepatch from the running kernel, and that root can clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What it is.
    pub kind: LockKind,
    /// The livepatch.
    pub version: PatchVersion,
    /// When that was noticed, by this host's clock; none: not known.
    pub since: Option<Timestamp>,
    /// When it is over by itself; none: not by time alone.
    pub until: Option<Timestamp>,
    /// One line in lower case: why.
    pub message: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
}

/// Kinds of [`Lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockKind {
    /// A person reverted it here.
    Held,
    /// The host went down with it.
    Blocked,
    /// The host went down while it soaked: it is tried once more when the operator still wants it.
    Waiting,
    /// The kernel complained of it.
    WithBug,
    /// It did not come into force in time.
    Stalled,
}

impl LockKind {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Blocked => "blocked",
            Self::Waiting => "waiting",
            Self::WithBug => "with-bug",
            Self::Stalled => "stalled",
        }
    }
}
