//! `livepatch wait`: until this host is in a state, with a bound. It says what it waits for, and does not wait for what comes
//! only when somebody acts.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use livepatch_api::daemon::{Failure, Reachability, Status};
use livepatch_kernel::{Pause as _, ThreadPause};
use livepatch_types::{CheckState, PatchState, Stage};

use crate::CliError;
use crate::explain::waiting_hint;
use crate::status::{Source, read};
use crate::text::note_text;

const PAUSE: Duration = Duration::from_millis(500);

/// Problems that no check and no time ends: somebody else's livepatch or module, which stays until somebody takes it out, and
/// tasks that stayed in what is replaced whenever it was tried.
const LASTING: &[&str] = &["foreign-livepatch", "foreign-module", "stalled-too-often"];

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The daemon answers
    Answers,
    /// This host is enrolled
    Enabled,
    /// The server was asked, and answered
    Checked,
    /// A livepatch is applied
    Applied,
    /// A livepatch is applied, or the server has none for this kernel, or none any more
    Settled,
}

/// What stands between a host and a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ahead {
    /// Nothing: it is so.
    Nothing,
    /// It may come by itself, at its time.
    Time(Failure),
    /// It does not come before somebody acts.
    Somebody(Failure),
}

/// How the waiting ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Reached,
    NotInTime,
    NotByItself(Failure),
}

impl Until {
    /// What is ahead of it now, by the daemon's own word.
    pub fn ahead(self, status: &Status) -> Ahead {
        if self == Self::Answers || (self == Self::Enabled && status.enabled) {
            return Ahead::Nothing;
        }
        // What came with a bundle needs no server.
        let has_bundle = || status.patch.state != PatchState::Unknown;
        if !status.enabled && matches!(self, Self::Applied | Self::Settled) && has_bundle() {
            return of_the_patch(status);
        }
        if !status.enabled {
            // Who sets a host up may do that meanwhile.
            let hint = "`livepatch enable --token-file FILE` enrols it";
            return Ahead::Time(Failure::new("not-enabled", "this host is not enrolled", hint));
        }
        let patch = match self {
            Self::Answers | Self::Enabled | Self::Checked => Ahead::Nothing,
            Self::Applied => of_the_patch(status),
            // That there is none is an answer.
            Self::Settled => match status.patch.state {
                PatchState::NothingToApply | PatchState::KernelUpgradeRequired => Ahead::Nothing,
                _ => of_the_patch(status),
            },
        };
        match patch {
            Ahead::Nothing if self == Self::Applied => Ahead::Nothing,
            Ahead::Nothing => of_the_check(status),
            // Without a check nothing that is new is heard of.
            Ahead::Time(why) => match of_the_check(status) {
                Ahead::Nothing => Ahead::Time(why),
                of_the_check => of_the_check,
            },
            Ahead::Somebody(why) => Ahead::Somebody(why),
        }
    }
}

/// What keeps the last check from having succeeded.
fn of_the_check(status: &Status) -> Ahead {
    let check = &status.check;
    let failed = "the last check failed";
    let (code, message) = match check.state {
        CheckState::Checked => return Ahead::Nothing,
        CheckState::NeedsCheck if check.reachability == Reachability::Pending => {
            ("needs-check", "the check is pending: the network is not up")
        }
        CheckState::NeedsCheck => ("needs-check", "the server was not asked since the daemon started"),
        CheckState::CheckFailed => ("check-failed", failed),
    };
    if !check.by_itself {
        let message = format!("{message}, and by the settings of this host it is asked only for root");
        let hint =
            "`livepatch refresh` asks now; `mode` and `check-interval` say whether it is asked by itself";
        return Ahead::Somebody(Failure::new(code, message, hint));
    }
    let why = status.problem.clone().filter(|_| message == failed);
    Ahead::Time(why.unwrap_or_else(|| Failure::new(code, message, "")))
}

/// What keeps a livepatch from being in force in good health.
fn of_the_patch(status: &Status) -> Ahead {
    let patch = &status.patch;
    let version = patch.version.map(|version| format!(" {version}")).unwrap_or_default();
    let is_newer = patch.place.is_some_and(|place| Some(place.version) != patch.version);
    let state =
        |code: &str, what: &str, hint: &str| Failure::new(code, format!("livepatch{version} {what}"), hint);
    if patch.state == PatchState::Applied {
        return Ahead::Nothing;
    }
    let is_blocked = patch.state == PatchState::ApplyFailed && patch.stage == Some(Stage::Blocked);
    if let Some(waiting) = patch.waiting.as_ref().filter(|_| !is_blocked) {
        let why = Failure::new(&waiting.code, &waiting.message, waiting_hint(waiting));
        return if waiting.until.is_some() { Ahead::Time(why) } else { Ahead::Somebody(why) };
    }
    let lasts = |problem: &&Failure| LASTING.contains(&problem.code.as_str());
    if let Some(why) = status.problem.as_ref().filter(lasts) {
        return Ahead::Somebody(why.clone());
    }
    let problem = |otherwise: Failure| status.problem.clone().unwrap_or(otherwise);
    match patch.state {
        PatchState::Applied | PatchState::Applying => Ahead::Time(state("applying", "is being applied", "")),
        PatchState::Unapplied if patch.held => {
            let hint = "`livepatch apply` clears that and applies it";
            Ahead::Somebody(state("held", "is held back since it was reverted here", hint))
        }
        PatchState::Unapplied => Ahead::Time(problem(state("unapplied", "is not applied yet", ""))),
        PatchState::AppliedWithBug if !is_newer => {
            let hint = "`livepatch locks list` shows of what; `livepatch locks clear` forgets it, and another version is applied by itself";
            Ahead::Somebody(state(
                "applied-with-bug",
                "is applied, but the kernel complained afterwards",
                hint,
            ))
        }
        PatchState::AppliedWithBug => {
            Ahead::Time(state("applied-with-bug", "is to be replaced: the kernel complained of it", ""))
        }
        PatchState::ApplyFailed => {
            let hint = "`livepatch locks list` shows what keeps it back";
            let why = problem(state("apply-failed", "could not be applied", hint));
            if is_blocked { Ahead::Somebody(why) } else { Ahead::Time(why) }
        }
        PatchState::NothingToApply => {
            let message = "the server has no livepatch for this kernel";
            Ahead::Time(Failure::new("nothing-to-apply", message, ""))
        }
        PatchState::KernelUpgradeRequired => {
            let (message, hint) =
                ("this kernel gets no livepatches any more", "install a newer kernel, and reboot");
            Ahead::Somebody(Failure::new("kernel-upgrade-required", message, hint))
        }
        PatchState::Unknown => {
            let message = "whether a livepatch is applied is not known yet";
            Ahead::Time(problem(Failure::new("unknown", message, "")))
        }
    }
}

/// Looks at the status until it is so, or somebody must act first; where there is no daemon and cannot be one, once. What it
/// waits for goes to `err`, whenever it is something else. The last status and how it ended; an error when no status could be
/// had.
pub(crate) fn wait(
    runtime_dir: &Path,
    root: &Path,
    until: Until,
    bound: Duration,
    err: &mut dyn Write,
) -> Result<(Status, Ended), CliError> {
    let began = Instant::now();
    let mut said = String::new();
    loop {
        let looked = read(runtime_dir, root);
        let ended = match &looked {
            Ok((status, Source::Daemon)) => match until.ahead(status) {
                Ahead::Nothing => Some(Ended::Reached),
                Ahead::Somebody(why) => Some(Ended::NotByItself(why)),
                Ahead::Time(why) => say(&note_text(&why), &mut said, err)?,
            },
            Ok((_, Source::Kernel)) => Some(Ended::NotInTime),
            Ok((status, Source::File)) => {
                let why = status.problem.as_ref().map(note_text).unwrap_or_default();
                say(&why, &mut said, err)?
            }
            Err(error) => say(&error.to_note(), &mut said, err)?,
        };
        let left = bound.saturating_sub(began.elapsed());
        match ended {
            Some(ended) => return looked.map(|(status, _)| (status, ended)),
            None if left.is_zero() => return looked.map(|(status, _)| (status, Ended::NotInTime)),
            None => ThreadPause.pause(PAUSE.min(left)),
        }
    }
}

/// Says what is waited for, unless that was said last. It is no end.
fn say(why: &str, said: &mut String, err: &mut dyn Write) -> Result<Option<Ended>, CliError> {
    if said != why {
        err.write_all(why.as_bytes())?;
        why.clone_into(said);
    }
    Ok(None)
}
