//! The status, as a pure function of what is known.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use livepatch_api::daemon::{Check, CoverageState, Cve, Failure, Patch, RolloutPlace, Status, Waiting};
use livepatch_kernel::Livepatch;
use livepatch_loader_api::{Lock, LockKind, View};
use livepatch_manifest::{Place, Target};
use livepatch_types::{
    Cohort, CveCoverage, CveId, KernelIdentity, PatchState, PatchVersion, Stage, StageEvent,
};

use crate::Problem;
use crate::agent::{Live, running};
use crate::cohort::not_assigned;
use crate::coverage::{coverage, newer_kernel, reboot};
use crate::state::State;
use crate::support::{self, System};

/// What a status is made of.
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a State,
    pub(crate) live: &'a Live,
    pub(crate) server: Option<String>,
    pub(crate) kernel: Option<KernelIdentity>,
    /// The kernel's livepatches, if they can be read.
    pub(crate) livepatches: Option<&'a [Livepatch]>,
    /// By this host's clock.
    pub(crate) now: Timestamp,
    /// Names of the files in `/boot`.
    pub(crate) boot_files: &'a [String],
    /// The cutoff date of the settings.
    pub(crate) cutoff_date: Option<Timestamp>,
    /// The cohort of the settings.
    pub(crate) cohort: Option<&'a Cohort>,
    /// What the offered livepatch waits for.
    pub(crate) waiting: Option<Waiting>,
    /// Whether the server is asked by the timer.
    pub(crate) asks_by_itself: bool,
    /// What os-release says.
    pub(crate) system: System,
    /// A problem of the host itself, which comes before those of the last round.
    pub(crate) standing_problem: Option<Problem>,
}

pub(crate) fn status(facts: Facts<'_>) -> Status {
    let Facts { state, live, .. } = facts;
    let document = live.view.document.as_ref();
    let not_covered = live.check_problem.as_ref().is_some_and(|p| p.code == crate::not_covered::NOT_COVERED);
    let today = facts.now.to_zoned_datetime(TimeZone::UTC).date();
    let mut coverage = coverage(document, not_covered, today);
    if let (Some(matrix), Some(kernel)) = (&live.view.support, &facts.kernel) {
        coverage.install = support::install(&coverage, matrix, &facts.system, kernel, today);
    }
    let release = facts.kernel.as_ref().map(|kernel| kernel.release.as_str());
    let newer = release.and_then(|release| newer_kernel(release, facts.boot_files));
    let reboot = reboot(&coverage, document, newer);
    let mut patch = patch(state, live, facts.livepatches);
    let ended = [CoverageState::UpgradeNeeded, CoverageState::Ended, CoverageState::SeriesEnded];
    if patch.state == PatchState::NothingToApply && ended.contains(&coverage.state) {
        patch.state = PatchState::KernelUpgradeRequired;
    }
    let running = running(&live.view, facts.livepatches.unwrap_or_default());
    let bug = bug_of(&live.view, running).map(|lock| Problem::of_lock("kernel-complained", lock));
    let problem =
        facts.standing_problem.or(live.patch_problem.clone()).or(bug).or(live.check_problem.clone());
    let other_cohort = not_assigned(&live.view, facts.cohort, live.cohort_problem.as_ref());
    let notes = notes(live).chain(other_cohort.map(|problem| problem.to_failure()));
    let notes = notes.filter(|_| state.enrolment.is_some());
    Status {
        schema: 1,
        client_version: env!("CARGO_PKG_VERSION").to_owned(),
        enabled: state.enrolment.is_some(),
        enabled_at: state.enrolled_at.filter(|_| state.enrolment.is_some()),
        tier: state.enrolment.as_ref().map(|enrolment| enrolment.tier.clone()),
        cohort: live.view.cohort.clone().filter(|_| state.enrolment.is_some()),
        server: facts.server,
        coverage,
        patch: Patch { waiting: facts.waiting, cutoff_date: facts.cutoff_date, ..patch },
        reboot,
        kernel: facts.kernel,
        check: Check {
            state: live.check,
            at: live.checked_at,
            attempted_at: live.attempted_at,
            reachability: live.reachability,
            by_itself: facts.asks_by_itself,
            mirror: live.mirror.clone(),
            document_version: document.map(|document| document.version),
            document_expires: document.map(|document| document.expires),
        },
        problem: problem.map(|problem| problem.to_failure()),
        // Hosts without a server have livepatches, too.
        notes: live.view.refused_modules.iter().cloned().chain(notes).collect(),
    }
}

/// Where this host stands in the rollout of a livepatch.
pub(crate) fn place(view: &View, version: PatchVersion) -> Option<Place> {
    view.host.map(|host| Place::of(&host, view.cohort.as_ref(), version))
}

/// What is of no consequence for the livepatch, and to be mended all the same.
fn notes(live: &Live) -> impl Iterator<Item = Failure> {
    let reports = live.reports_problem.as_ref().map(|problem| reports_refused(problem).to_failure());
    live.view.observer_problem.clone().into_iter().chain(reports)
}

/// The server answers, and takes no reports of this host.
pub(crate) fn reports_refused(why: &Problem) -> Problem {
    let message = format!("the server does not take what this host tells: {why}");
    Problem { code: "reports-refused".into(), message, ..why.clone() }
}

/// The CVEs that the livepatch of ours wholly fixes which all tasks run: while the next one takes its place, it still is this
/// one. The loader may have been given the next one since it told of itself.
pub(crate) fn fixed_cves(view: &View, handed_over: Option<&Target>, livepatches: &[Livepatch]) -> Vec<CveId> {
    let offered = view.document.as_ref().and_then(|document| document.target.as_ref());
    let applied = view.applied.as_ref().map(|applied| &applied.target);
    let known = [applied, view.in_progress.as_ref(), handed_over, offered];
    let in_force =
        livepatches.iter().filter(|patch| patch.enabled && !patch.in_transition).find_map(|patch| {
            let version = PatchVersion::of_module(&patch.name)?;
            let target = known.into_iter().flatten().find(|target| target.version == version)?;
            let is_new = handed_over.is_some_and(|target| target.version == version);
            (is_new || view.loaded.contains(&patch.name)).then_some(target)
        });
    let cves = in_force.map(|target| target.cves.as_slice()).unwrap_or_default().iter();
    cves.filter(|entry| entry.coverage == CveCoverage::Whole).map(|entry| entry.id).collect()
}

/// What the kernel complained of, if it runs.
fn bug_of(view: &View, running: Option<PatchVersion>) -> Option<&Lock> {
    view.locks.iter().find(|lock| lock.kind == LockKind::WithBug && Some(lock.version) == running)
}

/// Where a livepatch is: as the loader said last, but for one that was just brought to it.
fn stage(live: &Live, version: PatchVersion) -> Option<Stage> {
    let handed_over = live.handed_over.as_ref().map(|target| target.version);
    Some(with_what_was_brought(live.view.stage(version)?, handed_over == Some(version)))
}

/// What the loader told before it got the module is not where the livepatch is now.
fn with_what_was_brought(told: Stage, handed_over: bool) -> Stage {
    match told {
        Stage::Absent | Stage::Waiting | Stage::Failed if handed_over => {
            told.next(StageEvent::Fetched).unwrap_or(told)
        }
        _ => told,
    }
}

fn patch(state: &State, live: &Live, livepatches: Option<&[Livepatch]>) -> Patch {
    let view = &live.view;
    let offered = view.document.as_ref().and_then(|document| document.target.as_ref());
    let in_progress = view.in_progress.as_ref().or(live.handed_over.as_ref());
    let applied = view.applied.as_ref();
    let livepatches = livepatches.unwrap_or_default();
    let running = running(view, livepatches);
    let in_transition =
        livepatches.iter().any(|patch| patch.in_transition && view.loaded.contains(&patch.name));
    let patch_state = if in_transition || in_progress.is_some() {
        PatchState::Applying
    } else if bug_of(view, running).is_some() {
        PatchState::AppliedWithBug
    } else if running.is_some() {
        PatchState::Applied
    } else if state.enrolment.is_none() {
        PatchState::Unknown
    } else if live.patch_problem.is_some() {
        PatchState::ApplyFailed
    } else if offered.is_some() {
        PatchState::Unapplied
    } else if view.document.is_some()
        || live.check_problem.as_ref().is_some_and(|p| p.code == crate::not_covered::NOT_COVERED)
    {
        PatchState::NothingToApply
    } else {
        PatchState::Unknown
    };
    let known: [Option<&Target>; 3] = [in_progress, applied.map(|applied| &applied.target), offered];
    let shown = match (in_progress, running) {
        (Some(in_progress), _) => Some(in_progress.version),
        (None, Some(version)) => Some(version),
        (None, None) => offered.map(|target| target.version),
    };
    let target = known.into_iter().flatten().find(|target| Some(target.version) == shown);
    let fixed = fixed_cves(view, live.handed_over.as_ref(), livepatches);
    let cves = target.map(|target| target.cves.as_slice()).unwrap_or_default().iter().map(|entry| Cve {
        id: entry.id,
        rating: entry.rating,
        coverage: entry.coverage,
        patched: entry.coverage == CveCoverage::Whole && fixed.contains(&entry.id),
        title: entry.title.clone(),
    });
    Patch {
        state: patch_state,
        version: shown,
        stage: shown.and_then(|version| stage(live, version)),
        applied_at: applied
            .filter(|applied| Some(applied.target.version) == running)
            .map(|applied| applied.at),
        // What was reverted here holds back no other version.
        held: view.held.is_some_and(|held| offered.is_none_or(|target| target.version == held)),
        waiting: None,
        cutoff_date: None,
        place: offered.and_then(|target| {
            let hundredths = place(view, target.version)?.hundredths();
            Some(RolloutPlace { version: target.version, hundredths })
        }),
        cves: cves.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_was_brought_is_downloaded_until_the_loader_says_more() {
        for (told, brought) in [
            (Stage::Absent, Stage::Downloaded),
            (Stage::Waiting, Stage::Downloaded),
            (Stage::Failed, Stage::Downloaded),
            (Stage::Verified, Stage::Verified),
            (Stage::Transition, Stage::Transition),
            (Stage::Healthy, Stage::Healthy),
            (Stage::Blocked, Stage::Blocked),
        ] {
            assert_eq!(with_what_was_brought(told, true), brought);
            assert_eq!(with_what_was_brought(told, false), told);
        }
    }
}
