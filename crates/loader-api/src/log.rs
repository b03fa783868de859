//! What is said of the transparency log.

use livepatch_types::Sha256Digest;
use serde::{Deserialize, Serialize};

/// What the loader knows of the log whose key is pinned on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// Its name.
    pub name: String,
    /// The keys that may have signed its head, in the text form of [`LogKey`](https://c2sp.org/signed-note).
    pub keys: Vec<String>,
    /// How many entries the head has that was believed last; 0: none was.
    pub size: u64,
    /// The module that is offered and was not proven to be in the log; none: nothing is to be proven.
    pub wants: Option<Sha256Digest>,
}

/// That a module is in the log, and that the log grew out of the one that the loader remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logged {
    /// Entry, proof and head in one text (<https://c2sp.org/tlog-proof>).
    pub proof: String,
    /// The hashes between the two heads (RFC 6962, section 2.1.2); empty when they have the same size, or none was seen.
    pub consistency: Vec<Sha256Digest>,
}
