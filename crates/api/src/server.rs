//! Server HTTP interface, version 1. All bodies are JSON except documents (DSSE envelopes) and objects (bytes).
//!
//! | method and path | who | body → answer |
//! |---|---|---|
//! | `POST /v1/enroll` | anyone with a token | [`EnrollRequest`] → [`EnrollResponse`] |
//! | `POST /v1/assignment` | `Authorization: Bearer` machine token | [`AssignmentRequest`] → [`AssignmentResponse`] |
//! | `GET /v1/kernels/{channel}/{build_id}` | anyone | → signed [kernel document]; `ETag`, 304, 404 when this kernel is unknown |
//! | `GET /v1/objects/{sha256}` | anyone | → module bytes, immutable |
//! | `GET /v1/vendor/{repository}/{path}` | anyone | → file of a vendor's repository, byte for byte; `ETag`, 304 |
//! | `GET /v1/operator/{path}` | anyone | → file of the operator's root, byte for byte; `ETag`, 304 |
//! | `GET /v1/support` | anyone | → which kernels the operator covers, a signed envelope; `ETag`, 304 |
//! | `GET /checkpoint`, `GET /tile/…` | anyone | → the transparency log, as <https://c2sp.org/tlog-tiles> says |
//! | `GET /v1/log/proofs/{sha256}` | anyone | → proof that the bundle with this module is in the log (<https://c2sp.org/tlog-proof>) |
//! | `POST /v1/reports` | `Authorization: Bearer` machine token | [`Report`] → 204 |
//! | `GET /healthz` | anyone | → `ok` |
//!
//! Errors are [`ErrorBody`] with a 4xx or 5xx status.

mod report;

use livepatch_types::{Cohort, HostId, Redacted, Tier};
use serde::{Deserialize, Serialize};

pub use report::{
    MAX_CLIENT_VERSION_CHARS, MAX_CPU_MODEL_CHARS, MAX_DETAIL_CHARS, MAX_DETAIL_LINES, MAX_ERROR_CHARS,
    Report, ReportEvent, ReportPhase, ReportedMachine,
};

/// Largest JSON request body that a server reads, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// A host asks to join a fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The enrolment token that an operator made.
    pub token: Redacted<String>,
    /// Keyed hash of /etc/machine-id: 64 hexadecimal digits. Never the id itself.
    pub machine: String,
    /// The random id that the loader drew when root enabled the host. The server signs an assignment of it.
    pub host: HostId,
    /// The cohort that the host's owner wants. A server that does not know cohorts refuses a request with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<Cohort>,
}

/// The host has joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// What the host shows from now on when it reports.
    pub machine_token: Redacted<String>,
    /// The tier that the enrolment token fixes; also the channel to poll.
    pub tier: Tier,
    /// The same for the loader: the operator's signed assignment of the host, an envelope.
    pub assignment: String,
}

/// An enrolled host asks for an assignment to another cohort. Its tier stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignmentRequest {
    /// The id under which it enrolled.
    pub host: HostId,
    /// The cohort that its owner wants; none: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<Cohort>,
}

/// What the loader is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AssignmentResponse {
    /// The operator's signed assignment of the host, an envelope.
    pub assignment: String,
}

/// What went wrong, for people, and a word for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A word that stays the same: `unknown-token` (401), `token-expired` and `token-exhausted` (403),
    /// `other-host` (409), `unknown-kernel` and `not-found` (404), `bad-request` (4xx), `too-slow` (408), `too-large` (413), `internal` (500).
    pub code: String,
    /// One line in lower case.
    pub message: String,
    /// With `unknown-kernel`: where that kernel was published, as far as the server has an index of kernels; official
    /// places first. It explains, and decides nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedKernel>,
}

/// A place where a kernel was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedKernel {
    /// The distribution.
    pub distribution: String,
    /// The suite, such as `bookworm-security`.
    pub suite: String,
    /// The pocket, such as `security`.
    pub pocket: String,
    /// Version of the package with the kernel's image.
    pub version: String,
    /// Whether the distribution has released it.
    pub official: bool,
}
