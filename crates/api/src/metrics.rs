//! The status as metrics in the text format of Prometheus, for a scraper's text file collector and on the
//! daemon's socket (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Pure.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use livepatch_types::{CheckState, PatchState, Rating};

use crate::daemon::{Reachability, Status};
use crate::legacy::DAEMON_UNREACHABLE;

const PATCH_STATES: [PatchState; 8] = [
    PatchState::Unapplied,
    PatchState::Applying,
    PatchState::Applied,
    PatchState::AppliedWithBug,
    PatchState::ApplyFailed,
    PatchState::NothingToApply,
    PatchState::KernelUpgradeRequired,
    PatchState::Unknown,
];
const CHECK_STATES: [CheckState; 3] = [CheckState::NeedsCheck, CheckState::Checked, CheckState::CheckFailed];
const REACHABILITIES: [Reachability; 4] =
    [Reachability::Unknown, Reachability::Reached, Reachability::Pending, Reachability::Unreachable];

/// Metrics of a status. Names and labels are an interface: they stay.
pub fn metrics(status: &Status) -> String {
    let mut text = Metrics(String::new());
    let answers = status.problem.as_ref().is_none_or(|problem| problem.code != DAEMON_UNREACHABLE);
    let patch = &status.patch;
    text.head("livepatch_info", "What runs here; always 1.");
    let or_empty = |value: Option<String>| value.unwrap_or_default();
    text.sample(
        "livepatch_info",
        &[
            ("client_version", status.client_version.clone()),
            ("kernel", or_empty(status.kernel.as_ref().map(|kernel| kernel.release.to_string()))),
            ("build_id", or_empty(status.kernel.as_ref().map(|kernel| kernel.build_id.to_string()))),
            ("tier", or_empty(status.tier.as_ref().map(ToString::to_string))),
            ("livepatch", or_empty(patch.version.map(|version| version.to_string()))),
        ],
        1,
    );
    text.flag("livepatch_enabled", "Whether this host is enrolled.", status.enabled);
    text.flag("livepatch_daemon_answers", "Whether the daemon gave this status itself.", answers);
    text.flag("livepatch_problem", "Whether something is wrong.", status.problem.is_some());
    text.flag("livepatch_held", "Whether the livepatch is held back since it was reverted here.", patch.held);
    text.flag(
        "livepatch_kernel_upgrade_required",
        "Whether a newer kernel must be booted to be safe.",
        status.upgrade_required(),
    );
    text.head("livepatch_patch_state", "1 for the state of the livepatch, 0 for the others.");
    for state in PATCH_STATES {
        text.sample("livepatch_patch_state", &[("state", word(state))], i64::from(state == patch.state));
    }
    text.head("livepatch_check_state", "1 for how the last check ended, 0 for the others.");
    for state in CHECK_STATES {
        text.sample(
            "livepatch_check_state",
            &[("state", word(state))],
            i64::from(state == status.check.state),
        );
    }
    text.head(
        "livepatch_server_reachability",
        "1 for whether the last check was answered, 0 for the others.",
    );
    for state in REACHABILITIES {
        let value = i64::from(state == status.check.reachability);
        text.sample("livepatch_server_reachability", &[("state", word(state))], value);
    }
    if let Some(at) = status.check.at {
        text.head("livepatch_last_check_timestamp_seconds", "When the last check that succeeded ended.");
        text.sample("livepatch_last_check_timestamp_seconds", &[], at.as_second());
    }
    if let Some(at) = status.check.attempted_at {
        text.head(
            "livepatch_last_check_attempt_timestamp_seconds",
            "When the last check ended, however it did.",
        );
        text.sample("livepatch_last_check_attempt_timestamp_seconds", &[], at.as_second());
    }
    let last_day = status.coverage.last_day();
    if let Some(end) = last_day.and_then(|day| day.tomorrow().ok()?.to_zoned_datetime(TimeZone::UTC).ok()) {
        text.head("livepatch_coverage_end_timestamp_seconds", "When this kernel ceases to get livepatches.");
        text.sample("livepatch_coverage_end_timestamp_seconds", &[], end.timestamp().as_second());
    }
    if let Some(at) = patch.applied_at {
        text.head("livepatch_applied_timestamp_seconds", "When the livepatch was applied.");
        text.sample("livepatch_applied_timestamp_seconds", &[], at.as_second());
    }
    text.head("livepatch_cves", "CVEs that the livepatch knows, by rating and whether they are fixed now.");
    for rating in [Rating::Negligible, Rating::Low, Rating::Medium, Rating::High, Rating::Critical] {
        for fixed in [false, true] {
            let count = patch.cves.iter().filter(|cve| cve.rating == rating && cve.patched == fixed).count();
            let labels = [("rating", word(rating)), ("fixed", fixed.to_string())];
            text.sample("livepatch_cves", &labels, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    text.0
}

struct Metrics(String);

impl Metrics {
    fn head(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.head(name, help);
        self.sample(name, &[], i64::from(value));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: i64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The word of the wire format.
fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
