//! `livepatch explain`: why this host has the livepatch that it has, and what the next one waits for.

use livepatch_api::daemon::{Reachability, Status, Waiting};
use livepatch_types::{CheckState, PatchState, Stage, plural};
use serde::Serialize;

use crate::text::{plain, time};

/// The answers, in the order in which one would ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Version of this format: 1.
    schema: u32,
    answers: Vec<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Answer {
    /// `host`, `kernel`, `applied`, `next`, `place`, `reboot`, `problem`, `note`: stays the same.
    about: &'static str,
    /// One line.
    message: String,
    /// What to do about it, one line each.
    hints: Vec<String>,
}

/// What a status says of itself in whole sentences.
pub fn explain(status: &Status) -> Explanation {
    let mut answers = Vec::new();
    let mut say = |about, message: String, hints: &[String]| {
        let hints = hints.iter().map(|hint| plain(hint)).collect();
        answers.push(Answer { about, message: plain(&message), hints });
    };
    let server = status.server.as_deref().unwrap_or("no server");
    match (&status.tier, status.enabled) {
        (Some(tier), true) => {
            let cohort = status.cohort.as_ref().map(|cohort| format!(", as one of cohort {cohort}"));
            let cohort = cohort.unwrap_or_default();
            say("host", format!("this host takes what {server} offers to tier {tier}{cohort}"), &[])
        }
        _ => {
            let hint = "`livepatch enable --token-file FILE` enrols it".to_owned();
            say(
                "host",
                "this host is not enrolled: it asks nobody and applies nothing by itself".into(),
                &[hint],
            );
        }
    }
    match &status.kernel {
        Some(kernel) => say(
            "kernel",
            format!(
                "livepatches are for exactly this kernel: {} with build-id {}",
                kernel.release, kernel.build_id
            ),
            &[],
        ),
        None => {
            say("kernel", "the running kernel is not recognised, so nothing is applied to it".into(), &[])
        }
    }
    say("applied", applied(status), &[]);
    if status.enabled {
        let (message, hints) = next(status);
        say("next", message, &hints);
    }
    let rolls_out = status.patch.waiting.as_ref().is_some_and(|waiting| waiting.code == "patch-spread");
    if let Some(place) = status.patch.place.filter(|_| status.cohort.is_some() || rolls_out) {
        let whose = match &status.cohort {
            Some(cohort) => format!("the place of cohort {cohort}"),
            None => "a place of its own".to_owned(),
        };
        let (percent, hundredths) = (place.hundredths / 100, place.hundredths % 100);
        let message = format!(
            "in a rollout of livepatch {} this host stands at {percent}.{hundredths:02} %, {whose}",
            place.version
        );
        say("place", message, &[]);
    }
    if let Some(reboot) = &status.reboot {
        let hint = match &reboot.kernel {
            Some(kernel) => format!("reboot into {kernel}"),
            None => "install a newer kernel, and reboot".into(),
        };
        say("reboot", reboot.message.clone(), &[hint]);
    }
    if let Some(problem) = &status.problem {
        say("problem", problem.message.clone(), &problem.hints);
    }
    for note in &status.notes {
        say("note", note.message.clone(), &note.hints);
    }
    Explanation { schema: 1, answers }
}

fn applied(status: &Status) -> String {
    let patch = &status.patch;
    let fixed = patch.cves.iter().filter(|cve| cve.patched).count();
    match (patch.state, patch.version) {
        (PatchState::Applied, Some(version)) => {
            let since = patch.applied_at.map(|at| format!(" since {}", time(at))).unwrap_or_default();
            format!("livepatch {version} is in force{since}: it fixes {}", plural(fixed, "CVE", "CVEs"))
        }
        (PatchState::AppliedWithBug, Some(version)) => {
            format!("livepatch {version} is in force, but the kernel complained after it was applied")
        }
        (PatchState::Applying, Some(version)) => {
            format!("livepatch {version} is being applied: tasks move to the new code one by one")
        }
        _ => "no livepatch is in force".into(),
    }
}

/// How the owner of a host ends what a livepatch waits for.
pub(crate) fn waiting_hint(waiting: &Waiting) -> &'static str {
    match waiting.code.as_str() {
        "mode" => "set the mode back to normal there, and restart the daemon",
        "patch-delay" | "patch-spread" | "maintenance-window" => "`livepatch apply` does not wait",
        "held-cve" | "held-notice" => "`livepatch hold` shows what is held, `livepatch unhold` ends it",
        _ => "change it in /etc/livepatch/livepatch.toml, and restart the daemon",
    }
}

/// What comes next, and what to do for it.
fn next(status: &Status) -> (String, Vec<String>) {
    let patch = &status.patch;
    if let Some(waiting) = &patch.waiting {
        return (waiting.message.clone(), vec![waiting_hint(waiting).into()]);
    }
    if patch.held {
        let hint = "`livepatch apply` clears that and applies it";
        return ("the livepatch is held back since it was reverted here".into(), vec![hint.into()]);
    }
    let refresh = vec!["`livepatch refresh` asks the server now".to_owned()];
    match status.check.state {
        CheckState::NeedsCheck if status.check.reachability == Reachability::Pending => {
            ("the server is asked when the network is up: it has no default route".into(), Vec::new())
        }
        CheckState::NeedsCheck => ("the server was not asked since the daemon started".into(), refresh),
        CheckState::CheckFailed => {
            let old = status.check.document_expires;
            let until = old.map_or_else(String::new, |at| {
                format!("; what it said before may install something new until {}", time(at))
            });
            (format!("the server could not be asked{until}"), refresh)
        }
        CheckState::Checked => {
            let said = match patch.state {
                PatchState::Applied => "the server offers nothing newer",
                PatchState::NothingToApply => "the server has no livepatch for this kernel",
                PatchState::KernelUpgradeRequired => "there are no livepatches any more for this kernel",
                PatchState::Applying => "the one that is being applied comes first",
                PatchState::AppliedWithBug => "the one that the kernel complained about is not applied again",
                PatchState::Unapplied | PatchState::ApplyFailed => tried_again(status),
                PatchState::Unknown => "what the server offers is not known yet",
            };
            (said.into(), Vec::new())
        }
    }
}

/// When a livepatch that could not be applied is tried again.
fn tried_again(status: &Status) -> &'static str {
    let problem = status.problem.as_ref().map(|problem| problem.code.as_str());
    match (status.patch.stage, problem) {
        (Some(Stage::Blocked), _) => "the one that is offered is not applied again by itself",
        (Some(Stage::Waiting), _) => {
            "the one that is offered is tried once more when the operator still wants it"
        }
        (_, Some("stalled-too-often")) => {
            "the one that is offered is not applied again by itself before the next boot"
        }
        (_, Some("transition-stalled")) => {
            "the one that is offered is tried again, and waits longer each time"
        }
        _ => "the one that is offered is tried again with the next check",
    }
}

impl Explanation {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for answer in &self.answers {
            text.push_str(&format!("{:<9}{}\n", answer.about, answer.message));
            for hint in &answer.hints {
                text.push_str(&format!("{:<9}hint: {hint}\n", ""));
            }
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
