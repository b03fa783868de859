//! The crash guard, as pure rules: what it means for a livepatch when a host went down meanwhile. Where it may go is
//! the table of [`livepatch_types::Stage`]. See docs/crash-guard.md.

use std::time::Duration;

use jiff::Timestamp;
use livepatch_manifest::KernelDocument;
use livepatch_types::{BuildId, ForbiddenTransition, Stage, StageEvent as Event};

use crate::Problem;
use crate::state::{Blocked, Phase, Retry};

/// How long a livepatch is in force before it is healthy.
pub const SOAK: Duration = Duration::from_secs(15 * 60);

/// How far this host's clock is believed to be ahead of the newest signing time that was believed.
const CLOCK_COUNTS: Duration = Duration::from_secs(24 * 60 * 60);

impl From<ForbiddenTransition> for Problem {
    fn from(forbidden: ForbiddenTransition) -> Self {
        Self::new("guard-transition", forbidden, "tell the developers; `livepatch locks list` shows it")
    }
}

impl From<Phase> for Stage {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Inserting => Self::Inserting,
            Phase::Transition => Self::Transition,
            Phase::Soaking => Self::Soaking,
            Phase::Reverting => Self::Reverting,
        }
    }
}

/// What a marker of another boot says of the host's end. `again`: it was tried once more after such an end before.
pub fn end_of(closed: bool, panicked: bool, again: bool) -> Event {
    match (closed, panicked || again) {
        (true, _) => Event::ShutDown,
        (false, true) => Event::Panicked,
        (false, false) => Event::WentDown,
    }
}

/// How much of the soak is left. Both times are since the boot, so that no clock that is set makes it shorter.
pub fn soak_left(began: Duration, now: Duration, soak: Duration) -> Duration {
    soak.saturating_sub(now.saturating_sub(began))
}

/// From when on a document must have been issued to bring a livepatch back that was soaking when a host went down: a
/// whole soak after it came into force here, and after all that was issued before. Then those who got it with this host
/// have had their time too, and the operator, who hears of them, still wants it. (Documents name no waves yet.)
///
/// The host's clock counts for a day after the newest signing time that was believed and no further: one that stood at
/// 2099 when the livepatch came into force must not keep it away until then.
pub fn retry_after(
    came_into_force: Timestamp,
    latest_issued: Option<Timestamp>,
    soak: Duration,
) -> Timestamp {
    let farthest = |issued: Timestamp| issued.checked_add(CLOCK_COUNTS).unwrap_or(Timestamp::MAX);
    let from =
        latest_issued.map_or(came_into_force, |issued| came_into_force.clamp(issued, farthest(issued)));
    from.checked_add(soak).unwrap_or(Timestamp::MAX)
}

/// Whether a livepatch is kept from the kernel, now that this document is the newest.
pub fn keeps_back(blocked: &Blocked, document: Option<&KernelDocument>) -> bool {
    match blocked.retry {
        Retry::Never => true,
        Retry::UnderWay => false,
        Retry::AfterIssued(after) => !document.is_some_and(|document| {
            document.issued > after
                && document.target.as_ref().is_some_and(|target| target.version == blocked.version)
        }),
    }
}

/// The guard that keeps a livepatch from a kernel, if one does.
pub(crate) fn guard_of<'a>(
    blocked: &'a [Blocked],
    version: livepatch_types::PatchVersion,
    build_id: &BuildId,
    document: Option<&KernelDocument>,
) -> Option<&'a Blocked> {
    let same = |blocked: &&Blocked| blocked.version == version && blocked.build_id == *build_id;
    blocked.iter().find(same).filter(|blocked| keeps_back(blocked, document))
}

/// What happened, for people.
pub(crate) fn crash_problem(blocked: &Blocked) -> Problem {
    let version = blocked.version;
    if let Some(complaint) = &blocked.complaint {
        let message =
            format!("the kernel complained of livepatch {version}; it is not applied again by itself");
        let mut problem =
            Problem::new("kernel-complained", message, &format!("the kernel's log says: {complaint}"));
        problem.hints.push(
            "report it with that part of the log (`dmesg`); another version is applied all the same".into(),
        );
        problem
            .hints
            .push("`livepatch locks clear` forgets it, `livepatch revert` takes it out of force".into());
        return problem;
    }
    let when = match blocked.phase {
        Phase::Inserting => "was being inserted",
        Phase::Transition => "was in transition",
        Phase::Soaking => "was in force for less than its soak",
        Phase::Reverting => "was being reverted",
    };
    let (code, what) = match blocked.retry {
        Retry::AfterIssued(_) => ("crash-guard-waits", "it waits for the operator"),
        Retry::Never | Retry::UnderWay => ("crash-guard", "it is not applied again by itself"),
    };
    let message = format!("this host went down while livepatch {version} {when}; {what}");
    let first = match (&blocked.record, blocked.retry) {
        (Some(record), _) => format!("the kernel panicked: read {record}, and tell the operator"),
        (None, Retry::AfterIssued(after)) => {
            let after = after.strftime("%Y-%m-%d %H:%M UTC");
            format!(
                "nothing says that the kernel panicked; a document that is issued after {after} and still names it brings it back, once"
            )
        }
        (None, _) => "look for a panic in the logs of the boot before (pstore, kdump)".into(),
    };
    let mut problem = Problem::new(code, message, &first);
    problem.hints.push("`livepatch apply` clears this and applies it once more".into());
    problem
}

#[cfg(test)]
mod tests;
