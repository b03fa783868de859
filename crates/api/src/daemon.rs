//! Local sockets of the daemon: HTTP over Unix sockets, JSON bodies.
//!
//! | socket | who | method and path | body → answer |
//! |---|---|---|---|
//! | `livepatchd.sock` | any user | `GET /status` | → [`Status`] |
//! | `livepatchd-priv.sock` | uid 0 by `SO_PEERCRED` | `POST /enable` | [`EnableRequest`] → [`Status`] |
//! | | | `POST /disable`, `/refresh`, `/look` | → [`Status`] |
//!
//! Programs that know the snap's sockets ask with a query (`GET /status?verbose=…`, `?verbosity=3&format=json`) or with `PUT`
//! (`/enable?auth-token=…`, `/disable`) and get [`crate::legacy`]'s forms and texts.
//!
//! Failures are [`Failure`] with a 4xx or 5xx status. What root has the loader do (revert, clear, …) goes over the loader's
//! own socket.

use jiff::Timestamp;
use livepatch_types::{
    CheckState, CveCoverage, CveId, KernelIdentity, PatchState, PatchVersion, Rating, Redacted, Tier,
};
use serde::{Deserialize, Serialize};

/// Enrol this host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableRequest {
    /// The enrolment token.
    pub token: Redacted<String>,
}

/// The state of this host: what `livepatch status --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this format: 1.
    pub schema: u32,
    /// Version of the client.
    pub client_version: String,
    /// Whether the host is enrolled.
    pub enabled: bool,
    /// The tier it is in, when enrolled.
    pub tier: Option<Tier>,
    /// The server it asks.
    pub server: Option<String>,
    /// The running kernel; none when it cannot be recognised (then `error` says why).
    pub kernel: Option<KernelIdentity>,
    /// What the last check with the server came to.
    pub check: Check,
    /// The livepatch on this kernel.
    pub patch: Patch,
    /// What is wrong now and what to do about it; none when all is well.
    pub problem: Option<Failure>,
    /// What is missing without anything being wrong: part of what watches over the host.
    #[serde(default)]
    pub notes: Vec<Failure>,
}

/// The last check with the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// How it ended.
    pub state: CheckState,
    /// When it ended, by this host's clock.
    pub at: Option<Timestamp>,
    /// Version of the last document that was believed.
    pub document_version: Option<u64>,
    /// Until when that document may install something new.
    pub document_expires: Option<Timestamp>,
}

/// The livepatch on this kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Its state, as read back from the kernel.
    pub state: PatchState,
    /// Its version.
    pub version: Option<PatchVersion>,
    /// When it was applied, by this host's clock.
    pub applied_at: Option<Timestamp>,
    /// Whether a person reverted it here; it is not applied again until `livepatch apply` or another version.
    pub held: bool,
    /// What the livepatch that is offered waits for, though nothing is wrong.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// What it fixes.
    pub cves: Vec<Cve>,
}

/// Why an offered livepatch is not applied now by the settings of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The livepatch that is offered.
    pub version: PatchVersion,
    /// A word that stays the same, for programs: `mode`, `after-cutoff`, `held-cve`, `patch-delay`,
    /// `maintenance-window`.
    pub code: String,
    /// One line in lower case: what it waits for.
    pub message: String,
    /// When that is over by itself; none: when the settings change.
    pub until: Option<Timestamp>,
}

/// A CVE and whether it is fixed in the running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cve {
    /// The CVE.
    pub id: CveId,
    /// How bad it is.
    pub rating: Rating,
    /// Whether the livepatch holds its whole fix.
    pub coverage: CveCoverage,
    /// Whether it is fixed now: the livepatch is applied and holds the whole fix.
    pub patched: bool,
    /// Title of the fix.
    pub title: String,
}

/// Something that failed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word that stays the same, for programs: `not-enabled`, `server-unreachable`, `wrong-signer`, …
    pub code: String,
    /// One line in lower case: what and why.
    pub message: String,
    /// What to do about it, one line each.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure with one hint; an empty hint is none. The message becomes one line without control characters.
    pub fn new(code: &str, message: impl std::fmt::Display, hint: &str) -> Self {
        let message: String =
            message.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let hints = if hint.is_empty() { Vec::new() } else { vec![hint.to_owned()] };
        Self { code: code.to_owned(), message, hints }
    }
}
