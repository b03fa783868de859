use jiff::Timestamp;
use livepatch_types::{CheckState, KernelIdentity, PatchState, PatchVersion, Sha256Digest};
use serde::{Deserialize, Serialize};

/// Most characters of [`Report::client_version`].
pub const MAX_CLIENT_VERSION_CHARS: usize = 64;
/// Most characters of [`Report::error`].
pub const MAX_ERROR_CHARS: usize = 500;
/// Most characters of [`ReportedMachine::cpu_model`].
pub const MAX_CPU_MODEL_CHARS: usize = 128;
/// Most lines of [`ReportEvent::detail`].
pub const MAX_DETAIL_LINES: usize = 16;
/// Most characters of one of them.
pub const MAX_DETAIL_CHARS: usize = 300;

/// What a host says about itself. `event` and `machine` are missing in reports of earlier clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The running kernel.
    pub kernel: KernelIdentity,
    /// Version of the client.
    pub client_version: String,
    /// When it was true, by the host's clock.
    pub at: Timestamp,
    /// State of the check.
    pub check_state: CheckState,
    /// State of the patch.
    pub patch_state: PatchState,
    /// The livepatch that `patch_state` speaks of.
    pub patch_version: Option<PatchVersion>,
    /// Why, when something failed: one line, at most 500 characters.
    pub error: Option<String>,
    /// What this is told for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<ReportEvent>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<ReportedMachine>,
}

/// What a report is told for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportEvent {
    /// The same for the same event of the same host, however often it is sent: a server takes it once.
    pub id: Sha256Digest,
    /// What happened.
    pub phase: ReportPhase,
    /// How many reports of this host were dropped before this one since it enrolled, because too many waited.
    pub dropped: u64,
    /// What is known of a failure: at most 16 lines of at most 300 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
}

/// A point in the life of a livepatch on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportPhase {
    /// The state is another than before.
    Changed,
    /// The kernel gets the livepatch next. A host that says nothing after this went down with it, or has no network.
    BeforeInsert,
    /// The kernel has it.
    AfterInsert,
    /// The kernel moves its tasks to it.
    InTransition,
    /// It is in force.
    Applied,
    /// It was applied a minute ago; the state is that of now.
    #[serde(rename = "after-1m")]
    AfterOneMinute,
    /// Five minutes ago.
    #[serde(rename = "after-5m")]
    AfterFiveMinutes,
    /// Fifteen minutes ago.
    #[serde(rename = "after-15m")]
    AfterFifteenMinutes,
    /// Something failed: see `error` and `detail`.
    Failed,
}

impl ReportPhase {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::BeforeInsert => "before-insert",
            Self::AfterInsert => "after-insert",
            Self::InTransition => "in-transition",
            Self::Applied => "applied",
            Self::AfterOneMinute => "after-1m",
            Self::AfterFiveMinutes => "after-5m",
            Self::AfterFifteenMinutes => "after-15m",
            Self::Failed => "failed",
        }
    }
}

/// A machine without anything that names it: the server knows it by the token alone, to which the keyed hash of its
/// machine id belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedMachine {
    /// Model of the first processor: at most 128 characters, may be empty.
    pub cpu_model: String,
    /// When the kernel was booted, by the host's clock.
    pub boot_time: Option<Timestamp>,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// When the server was asked last, by the host's clock.
    pub last_check: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_in_json() {
        for phase in [
            ReportPhase::Changed,
            ReportPhase::BeforeInsert,
            ReportPhase::AfterInsert,
            ReportPhase::InTransition,
            ReportPhase::Applied,
            ReportPhase::AfterOneMinute,
            ReportPhase::AfterFiveMinutes,
            ReportPhase::AfterFifteenMinutes,
            ReportPhase::Failed,
        ] {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.word());
        }
    }

    #[test]
    fn reports_of_clients_before_are_read_and_written_as_they_were() {
        let text = r#"{"kernel":{"architecture":"amd64","release":"6.1.0-50-amd64","build_id":"abababababababababababababababababababab"},"client_version":"0.1.0","at":"2026-11-24T12:00:00Z","check_state":"checked","patch_state":"applied","patch_version":"113.1","error":null}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!((&report.event, &report.machine), (&None, &None));
        assert_eq!(serde_json::to_string(&report).unwrap(), text);
        let odd = text.replace("\"error\":null", "\"error\":null,\"host\":1");
        assert!(serde_json::from_str::<Report>(&odd).is_err());
    }
}
