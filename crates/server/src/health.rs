//! How a machine is, by what it said last: a pure rule.

use jiff::{SignedDuration, Timestamp};
use livepatch_api::server::ReportPhase;
use livepatch_store::ReceivedReport;
use livepatch_types::PatchState;

/// How long a machine may say nothing in the middle of an application. Longer than any transition and its cancelling.
const LONGEST_APPLICATION: SignedDuration = SignedDuration::from_mins(30);

/// How a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not said anything yet.
    NotKnown,
    /// Well.
    Ok,
    /// It has a problem, and its livepatch is none.
    Problem,
    /// A livepatch could not be applied.
    Failed,
    /// The kernel complained after a livepatch was applied.
    Bug,
    /// It said that a livepatch is being applied, and nothing since.
    Silent,
}

impl Health {
    pub(crate) fn of(last: Option<&ReceivedReport>, now: Timestamp) -> Self {
        let Some(ReceivedReport { received, report }) = last else { return Self::NotKnown };
        let phase = report.event.as_ref().map(|event| event.phase);
        let applies = matches!(
            phase,
            Some(ReportPhase::BeforeInsert | ReportPhase::AfterInsert | ReportPhase::InTransition)
        );
        match report.patch_state {
            PatchState::AppliedWithBug => Self::Bug,
            PatchState::ApplyFailed => Self::Failed,
            _ if phase == Some(ReportPhase::Failed) => Self::Failed,
            _ if applies && now.duration_since(*received) >= LONGEST_APPLICATION => Self::Silent,
            _ if report.error.is_some() => Self::Problem,
            _ => Self::Ok,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotKnown => "not-known",
            Self::Ok => "ok",
            Self::Problem => "problem",
            Self::Failed => "failed",
            Self::Bug => "bug",
            Self::Silent => "silent",
        }
    }

    pub(crate) fn is_unhealthy(self) -> bool {
        !matches!(self, Self::Ok | Self::NotKnown)
    }
}

#[cfg(test)]
mod tests {
    use livepatch_api::server::{Report, ReportEvent};
    use livepatch_types::{Architecture, BuildId, CheckState, KernelIdentity, KernelRelease, Sha256Digest};

    use super::*;

    #[test]
    fn how_a_machine_is() {
        use ReportPhase::*;
        let received = Timestamp::UNIX_EPOCH;
        let kernel = KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        };
        // What it said, how many minutes ago; how it is.
        for (phase, patch_state, error, minutes, expected) in [
            (None, PatchState::Applied, None, 0, "ok"),
            (None, PatchState::Applied, Some("x"), 0, "problem"),
            (None, PatchState::ApplyFailed, Some("x"), 0, "failed"),
            (Some(Failed), PatchState::Unapplied, Some("x"), 0, "failed"),
            (Some(AfterFiveMinutes), PatchState::AppliedWithBug, None, 0, "bug"),
            (Some(BeforeInsert), PatchState::Unapplied, None, 29, "ok"),
            (Some(BeforeInsert), PatchState::Unapplied, None, 30, "silent"),
            (Some(InTransition), PatchState::Applying, None, 31, "silent"),
            (Some(Applied), PatchState::Applied, None, 60 * 24 * 30, "ok"),
        ] {
            let id = Sha256Digest::from_bytes([0; 32]);
            let report = Report {
                kernel: kernel.clone(),
                client_version: "0.1.0".into(),
                at: received,
                check_state: CheckState::Checked,
                patch_state,
                patch_version: None,
                error: error.map(str::to_owned),
                event: phase.map(|phase| ReportEvent { id, phase, dropped: 0, detail: vec![] }),
                machine: None,
            };
            let last = ReceivedReport { received, report };
            let health = Health::of(Some(&last), received + SignedDuration::from_mins(minutes));
            assert_eq!(health.word(), expected, "{phase:?} {patch_state:?} {minutes}");
            assert_eq!(health.is_unhealthy(), expected != "ok");
        }
        assert!(!Health::of(None, received).is_unhealthy());
    }
}
