//! Reading the status, within a second, whatever the daemon does.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use livepatch_api::daemon::{Failure, Status};
use livepatch_api::legacy::DAEMON_UNREACHABLE;
use livepatch_types::PatchState;

use crate::client::{ask, request};
use crate::text::time;
use crate::{CliError, elsewhere};

/// Status is read by login scripts: with the time to start and to read a file, this stays below a second.
pub(crate) const READ_DEADLINE: Duration = Duration::from_millis(700);
const MAX_STATUS_BYTES: u64 = 4 << 20;
const SCHEMA: u32 = 1;

/// Whose word a status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The daemon's, now.
    Daemon,
    /// The file that it left; the status has that as its problem.
    File,
    /// Nobody's: this is a place without a daemon, and the kernel was looked at.
    Kernel,
}

/// Asks the daemon, and reads what it left when it gives no status in time; in a container and in WSL, where nobody left
/// anything, looks at the kernel under `root`. The error is the daemon's.
pub(crate) fn read(runtime_dir: &Path, root: &Path) -> Result<(Status, Source), CliError> {
    match ask_daemon(runtime_dir) {
        Ok(status) => Ok((status, Source::Daemon)),
        Err(error) => match read_file(&runtime_dir.join("status.json")) {
            Some((status, written)) => Ok((left_behind(status, written, &error), Source::File)),
            None => elsewhere::status(root).map(|status| (status, Source::Kernel)).ok_or(error),
        },
    }
}

/// The daemon's own word.
pub(crate) fn ask_daemon(runtime_dir: &Path) -> Result<Status, CliError> {
    let socket = runtime_dir.join("livepatchd.sock");
    ask(&socket, request("GET", "/status", ""), READ_DEADLINE).and_then(known_schema)
}

/// Whether a livepatch of ours is in force or on its way there.
pub(crate) fn runs_livepatch(status: &Status) -> bool {
    matches!(status.patch.state, PatchState::Applying | PatchState::Applied | PatchState::AppliedWithBug)
}

/// Whether there is something to say of this host: it is enrolled, or has a livepatch of a bundle and no server.
pub(crate) fn takes_part(status: &Status) -> bool {
    status.enabled || runs_livepatch(status)
}

/// What the daemon left, without asking it: this never waits for anybody.
pub(crate) fn read_left(runtime_dir: &Path) -> Option<Status> {
    read_file(&runtime_dir.join("status.json")).map(|(status, _)| status)
}

fn known_schema(status: Status) -> Result<Status, CliError> {
    if status.schema == SCHEMA {
        return Ok(status);
    }
    Err(CliError::Answer(format!("its schema is {}, this program knows {SCHEMA}", status.schema)))
}

/// A status of the past, with the reason for that as its problem.
fn left_behind(mut status: Status, written: Timestamp, error: &CliError) -> Status {
    let why = match error {
        CliError::Unreachable { .. } => "the daemon does not answer",
        CliError::NotPermitted => "the daemon's socket cannot be opened",
        _ => "the daemon's answer is not understood",
    };
    let message = format!("{why}; this is what it knew on {}", time(written));
    if let Some(before) = status.problem.take() {
        let message = format!("what was wrong then: {}", before.message);
        status.notes.insert(0, Failure { message, ..before });
    }
    let hints = error.hints();
    status.problem = Some(Failure { code: DAEMON_UNREACHABLE.into(), message, hints });
    status
}

/// A status file and when it was written; none when it is not there, no file, too large or of another version.
fn read_file(path: &Path) -> Option<(Status, Timestamp)> {
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = std::fs::File::open(path).ok()?;
    let written = file.metadata().ok()?.modified().ok()?.try_into().ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_STATUS_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_STATUS_BYTES {
        return None;
    }
    let status: Status = serde_json::from_slice(&bytes).ok()?;
    known_schema(status).ok().map(|status| (status, written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Daemon;

    #[test]
    fn why_a_status_is_of_the_past() {
        let status = serde_json::json!({
            "schema": 1, "client_version": "0.1.0", "enabled": true, "enabled_at": null, "tier": null, "server": null, "kernel": null,
            "check": { "state": "checked", "at": null, "mirror": null, "document_version": null, "document_expires": null },
            "coverage": { "state": "unknown", "until": null, "series_until": null, "install": [] }, "reboot": null,
            "patch": {
                "state": "unknown", "version": null, "stage": null, "applied_at": null, "held": false, "waiting": null,
                "cutoff_date": null, "cves": [],
            },
            "problem": { "code": "x", "message": "it was so", "hints": ["do this"] }, "notes": [],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        let (daemon, socket, why) = (Daemon::Agent, "/run/x.sock".into(), "so it is".into());
        let newer = known_schema(Status { schema: 2, ..status.clone() }).unwrap_err();
        let mut said = String::new();
        for error in [CliError::Unreachable { daemon, socket, why }, CliError::NotPermitted, newer] {
            let left = left_behind(status.clone(), "2026-11-24T12:00:00Z".parse().unwrap(), &error);
            let text = crate::status_text(&left, "2026-11-24T12:00:00Z".parse().unwrap());
            let (_, problem) = text.split_once("\n\n").unwrap();
            said += &format!("{error}\n{}", anstream::adapter::strip_str(problem));
        }
        insta::assert_snapshot!(said, @"
        the daemon cannot be reached on /run/x.sock: so it is
        problem: the daemon does not answer; this is what it knew on 2026-11-24 12:00:00 UTC (daemon-unreachable)
        hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied

        note: what was wrong then: it was so (x)
        hint: do this
        only root may do this
        problem: the daemon's socket cannot be opened; this is what it knew on 2026-11-24 12:00:00 UTC (daemon-unreachable)
        hint: use sudo

        note: what was wrong then: it was so (x)
        hint: do this
        the daemon's answer is not understood: its schema is 2, this program knows 1
        problem: the daemon's answer is not understood; this is what it knew on 2026-11-24 12:00:00 UTC (daemon-unreachable)
        hint: client and daemon may differ in version: restart the daemon

        note: what was wrong then: it was so (x)
        hint: do this
        ");
    }
}
