//! `livepatch explain --telemetry`: what the server is told, byte for byte.

use std::path::Path;

use livepatch_api::daemon::{Telemetry, TelemetryStanding};

use crate::CliError;
use crate::client::{ask, request};
use crate::status::READ_DEADLINE;
use crate::text::plain;

const SCHEMA: u32 = 1;

/// The daemon alone knows it: what waits is in its own directory.
pub(crate) fn ask_daemon(runtime_dir: &Path) -> Result<Telemetry, CliError> {
    let socket = runtime_dir.join("livepatchd.sock");
    let telemetry: Telemetry = ask(&socket, request("GET", "/telemetry", ""), READ_DEADLINE)?;
    if telemetry.schema == SCHEMA {
        return Ok(telemetry);
    }
    Err(CliError::Answer(format!("its schema is {}, this program knows {SCHEMA}", telemetry.schema)))
}

/// For people; a body stands alone behind its word.
pub(crate) fn text(telemetry: &Telemetry) -> String {
    let reports = match (&telemetry.report_to, telemetry.on) {
        (Some(url), true) => format!("POST {}, with this host's token", plain(url)),
        (None, true) => "none: there is no server".into(),
        (_, false) => "none: telemetry is off in the configuration".into(),
    };
    let poll = telemetry
        .poll
        .as_deref()
        .map_or_else(|| "none: not enrolled".into(), |url| format!("GET {}", plain(url)));
    let mut text = format!("poll     {poll}\nreports  {reports}\n");
    if telemetry.dropped > 0 {
        text.push_str(&format!("dropped  {}\n", telemetry.dropped));
    }
    for report in &telemetry.reports {
        let word = match report.standing {
            TelemetryStanding::Sent => "sent",
            TelemetryStanding::Waiting => "waiting",
            TelemetryStanding::Next => "next",
        };
        // JSON has no control characters but C1, which the daemon takes out.
        text.push_str(&format!("{word:<9}{}\n", plain(&report.body)));
    }
    text
}
