//! What the service manager is told (sd_notify(3)): that the daemon is ready, how the host is, and until when it must hear from
//! the daemon again. That follows what the daemon waits for, so that the watchdog costs no wake-up.

use std::time::Duration;

use livepatch_api::daemon::Status;
use livepatch_types::PatchState;
use sd_notify::{NotifyState, notify};

/// The service manager of this process. Without systemd there is nobody to notify, and without `WatchdogSec=` nobody waits.
pub(crate) struct ServiceManager {
    /// Longer than this nothing takes that the daemon does between two waits, downloads and transitions included.
    longest_work: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says: the unit's `WatchdogSec=` is how long work may take.
    pub(crate) fn from_environment() -> Self {
        Self { longest_work: sd_notify::watchdog_enabled() }
    }

    /// The daemon serves.
    pub(crate) fn ready(&self) {
        let _ = notify(&[NotifyState::Ready]);
    }

    /// The daemon ends.
    pub(crate) fn stopping(&self) {
        let _ = notify(&[NotifyState::Stopping]);
    }

    /// It works, and is heard of when that is done.
    pub(crate) fn working(&self) {
        self.say(&[], Some(Duration::ZERO));
    }

    /// It waits so long, or for ever: `next_check` is until it asks, `wake_up` until it does anything.
    pub(crate) fn waiting(&self, status: &Status, next_check: Option<Duration>, wake_up: Option<Duration>) {
        self.say(&[NotifyState::Status(&text(status, next_check))], wake_up);
    }

    fn say(&self, states: &[NotifyState<'_>], wake_up: Option<Duration>) {
        let Some(longest_work) = self.longest_work else {
            let _ = notify(states);
            return;
        };
        let deadline = deadline(longest_work, wake_up);
        let watchdog = [NotifyState::Watchdog, NotifyState::Custom(&deadline)];
        let _ = notify(&[states, &watchdog].concat());
    }
}

/// Zero switches the watchdog off.
fn deadline(longest_work: Duration, wake_up: Option<Duration>) -> String {
    let deadline = wake_up.map_or(Duration::ZERO, |wait| wait + longest_work);
    format!("WATCHDOG_USEC={}", deadline.as_micros())
}

/// One line for `systemctl status`.
fn text(status: &Status, next_check: Option<Duration>) -> String {
    if !status.enabled {
        return "not enabled".to_owned();
    }
    let version = status.patch.version.map(|version| version.to_string()).unwrap_or_default();
    let state = match (&status.problem, status.patch.state) {
        (Some(problem), _) => problem.message.clone(),
        (None, PatchState::Applied) => format!("livepatch {version} is applied"),
        (None, PatchState::AppliedWithBug) => {
            format!("livepatch {version} is applied, and the kernel complains of it")
        }
        (None, PatchState::Applying) => format!("livepatch {version} is being applied"),
        (None, PatchState::Unapplied) => format!("livepatch {version} is not applied"),
        (None, PatchState::NothingToApply) => "there is no livepatch for this kernel".to_owned(),
        (None, _) => "no livepatch is applied".to_owned(),
    };
    match next_check {
        Some(wait) => format!("{state}; next check in {} min", wait.as_secs().div_ceil(60)),
        None => format!("{state}; asks nobody by itself"),
    }
}

#[cfg(test)]
mod tests {
    use livepatch_api::daemon::Failure;

    use super::*;

    #[test]
    fn what_is_said() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "schema": 1,
            "client_version": "1",
            "enabled": true,
            "tier": null,
            "server": null,
            "kernel": null,
            "check": {
                "state": "checked",
                "at": null,
                "mirror": null,
                "document_version": null,
                "document_expires": null,
            },
            "patch": {
                "state": "applied",
                "version": "1.1",
                "applied_at": null,
                "held": false,
                "waiting": null,
                "cutoff_date": null,
                "cves": [],
            },
            "problem": null,
        }))
        .unwrap();
        let mut said: Vec<String> = [
            PatchState::Applied,
            PatchState::AppliedWithBug,
            PatchState::Applying,
            PatchState::Unapplied,
            PatchState::NothingToApply,
            PatchState::Unknown,
        ]
        .map(|state| {
            let mut status = status.clone();
            status.patch.state = state;
            text(&status, Some(Duration::from_secs(3541)))
        })
        .into();
        let problem =
            Failure { code: "x".into(), message: "the server cannot be reached".into(), hints: vec![] };
        said.push(text(&Status { problem: Some(problem), ..status.clone() }, Some(Duration::from_secs(1))));
        said.push(text(&status, None));
        said.push(text(&Status { enabled: false, ..status }, None));
        insta::assert_snapshot!(said.join("\n"), @"
        livepatch 1.1 is applied; next check in 60 min
        livepatch 1.1 is applied, and the kernel complains of it; next check in 60 min
        livepatch 1.1 is being applied; next check in 60 min
        livepatch 1.1 is not applied; next check in 60 min
        there is no livepatch for this kernel; next check in 60 min
        no livepatch is applied; next check in 60 min
        the server cannot be reached; next check in 1 min
        livepatch 1.1 is applied; asks nobody by itself
        not enabled
        ");
    }

    #[test]
    fn deadlines() {
        for (wake_up, expected) in [
            (Some(Duration::ZERO), "WATCHDOG_USEC=3600000000"),
            (Some(Duration::from_secs(3660)), "WATCHDOG_USEC=7260000000"),
            (None, "WATCHDOG_USEC=0"),
        ] {
            assert_eq!(deadline(Duration::from_secs(3600), wake_up), expected);
        }
    }
}
