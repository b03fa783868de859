//! What an operator decides about one host when it enrols: signed, so that no server can move a host elsewhere later.

use jiff::Timestamp;
use livepatch_types::{Cohort, HostId, Tier};
use serde::{Deserialize, Serialize};

use crate::EnvelopeError;
use crate::envelope::{self, VerifyingKey};

/// The DSSE payload type of a host assignment.
pub const PAYLOAD_TYPE: &str = "application/vnd.livepatch.host-assignment+json";

/// Members that a writer may list in `critical` and this reader understands. None yet.
const UNDERSTOOD: [&str; 0] = [];
/// Largest envelope with an assignment, in bytes.
pub const MAX_ASSIGNMENT_BYTES: usize = 16 << 10;

/// The signed assignment of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAssignment {
    /// Version of the format: 1.
    pub schema: u32,
    /// Members that a reader must understand to act on it.
    #[serde(default)]
    pub critical: Vec<String>,
    /// The host it speaks of.
    pub host: HostId,
    /// Its tier: the channel that it polls.
    pub tier: Tier,
    /// What the host's place in a rollout is computed from instead of its id ([`crate::Place`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<Cohort>,
    /// Rises with every new assignment of this host; a host never goes back. Servers take the second of the signing.
    pub version: u64,
    /// When it was signed.
    pub issued: Timestamp,
}

/// Why an assignment is not acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// The envelope is not believed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not an assignment.
    #[error("the signed assignment does not parse: {0}")]
    Malformed(String),
    /// A format that this reader does not know.
    #[error("assignment schema {0} is newer than this program, which reads schema 1")]
    Schema(u64),
    /// A critical member that this reader does not know.
    #[error("the assignment requires {0:?}, which this program does not understand")]
    Critical(String),
    /// The assignment of another host.
    #[error("the assignment is for host {actual}, not for {expected}")]
    WrongHost {
        /// This host.
        expected: HostId,
        /// The host in the assignment.
        actual: HostId,
    },
    /// Older than one that was seen.
    #[error("the assignment has version {offered}, older than version {seen} seen before")]
    Rollback {
        /// The version in it.
        offered: u64,
        /// The highest version seen.
        seen: u64,
    },
}

impl HostAssignment {
    /// The payload bytes to be signed.
    pub fn to_payload(&self) -> Vec<u8> {
        // Every field is a string, number or list of them: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Opens and checks what arrived for `host`. `trusted` are the keys of the operator's role for assignments, `seen` is
    /// the highest version that this host saw.
    pub fn open(
        bytes: &[u8],
        trusted: &[VerifyingKey],
        host: &HostId,
        seen: u64,
    ) -> Result<Self, AssignmentError> {
        let payload = envelope::open(bytes, PAYLOAD_TYPE, trusted)?;
        let malformed = |error: serde_json::Error| AssignmentError::Malformed(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(&payload).map_err(malformed)?;
        // Schema and critical members come first: a later format may not parse as this one.
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema != 1 {
            return Err(AssignmentError::Schema(schema));
        }
        if let Some(critical) = value.get("critical") {
            let critical = Vec::<String>::deserialize(critical).map_err(malformed)?;
            if let Some(unknown) = critical.iter().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
                return Err(AssignmentError::Critical(unknown.clone()));
            }
        }
        let assignment: Self = serde_json::from_value(value).map_err(malformed)?;
        if assignment.host != *host {
            return Err(AssignmentError::WrongHost { expected: *host, actual: assignment.host });
        }
        if assignment.version < seen {
            return Err(AssignmentError::Rollback { offered: assignment.version, seen });
        }
        Ok(assignment)
    }
}
