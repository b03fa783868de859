//! Commands that the daemon carries out, for root.

use std::path::Path;
use std::time::Duration;

use livepatch_api::daemon::{EnableRequest, Status};
use livepatch_types::Redacted;

use crate::CliError;
use crate::client::{ask, request};

/// Commands wait for the network and for the kernel's transition.
const ACT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Has the daemon do something; gives the status afterwards.
pub(crate) fn act(runtime_dir: &Path, path: &str, body: &str) -> Result<Status, CliError> {
    ask(&runtime_dir.join("livepatchd-priv.sock"), request("POST", path, body), ACT_DEADLINE)
}

/// Enrols this host.
pub(crate) fn enable(runtime_dir: &Path, token: Redacted<String>) -> Result<Status, CliError> {
    let body = serde_json::to_string(&EnableRequest { token });
    act(runtime_dir, "/enable", &body.map_err(|error| CliError::Token(error.to_string()))?)
}
