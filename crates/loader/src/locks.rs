//! What keeps livepatches from this kernel, for `livepatch locks list`; and the end of a soak.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use livepatch_loader_api::{Lock, LockKind};
use livepatch_types::BuildId;

use crate::guard::{crash_problem, soak_left};
use crate::marker::Found;
use crate::plan::stalled_problem;
use crate::state::{Retry, State};
use crate::{Loader, Problem, evidence};

/// How long the loader waits before it tries again to note what could not be noted.
const NOTE_AGAIN: Duration = Duration::from_secs(60);

impl Loader {
    /// What is to be made of markers: those of this boot count again, those of another say how it ended. Then what is remembered
    /// of the running kernel is what counts.
    pub(crate) fn look_back(&self, build_id: &BuildId) -> Result<(), Problem> {
        let (boot_id, now, state) = (self.kernel.boot_id()?, self.clock.now(), self.store.get());
        let progress = state.in_progress.iter().filter(|p| p.boot_id != boot_id && !p.closed);
        let soaking = state.soaking.iter().filter(|s| s.boot_id != boot_id && !s.closed);
        let begun = progress.filter_map(|p| p.at).chain(soaking.map(|s| s.at)).min();
        let record = begun.and_then(|begun| evidence::panic_record(&self.panic_directories, begun));
        let record = record.map(|path: PathBuf| path.display().to_string());
        let found = Found { boot_id: &boot_id, record, now, soak: self.soak };
        self.store.update_if(|state| {
            state.reopen(&boot_id);
            state.look_back(&found)?;
            state.turn_to(build_id);
            Ok(())
        })?;
        for blocked in self.store.get().blocked.iter().filter(|blocked| !state.blocked.contains(blocked)) {
            tracing::warn!(version = %blocked.version, "{}", crash_problem(blocked));
        }
        Ok(())
    }

    /// Ends soaks when their time has come. Does not return.
    pub fn watch_soaks(&self) {
        let soaks =
            |state: &State| self.kernel.boot_id().is_ok_and(|boot_id| state.soaks(&boot_id).is_some());
        loop {
            match self.soak_left() {
                None => {
                    self.store.wait_until(&soaks);
                    if self.soak_left().is_none() {
                        // The kernel does not say what time it is.
                        self.store.wait(NOTE_AGAIN);
                    }
                }
                Some(Duration::ZERO) => {
                    if let Err(problem) = self.end_soak() {
                        tracing::warn!(code = problem.code, "the end of a soak cannot be noted: {problem}");
                        self.store.wait(NOTE_AGAIN);
                    }
                }
                Some(left) => self.store.wait(left),
            }
        }
    }

    /// How much of the soak is left; none: nothing soaks.
    pub fn soak_left(&self) -> Option<Duration> {
        let (boot_id, now) = (self.kernel.boot_id().ok()?, self.kernel.since_boot().ok()?);
        let began = self.store.get().soaks(&boot_id)?.began_seconds;
        Some(soak_left(Duration::from_secs(began), now, self.soak))
    }

    /// Notes that what soaks is healthy, if its time has come.
    pub fn end_soak(&self) -> Result<(), Problem> {
        let _work = self.lock_work();
        if self.soak_left() != Some(Duration::ZERO) {
            return Ok(());
        }
        let observed = self.observe()?;
        let running = crate::plan::running(&observed, &self.store.get());
        self.store.update_if(|state| {
            let still =
                state.soaks(&observed.boot_id).is_some_and(|soaking| Some(soaking.version) == running);
            state.soaked(&observed.boot_id, still)
        })?;
        tracing::info!("a livepatch is healthy");
        Ok(())
    }
}

/// Everything that keeps livepatches from a kernel in a boot.
pub(crate) fn locks(state: &State, build_id: &BuildId, boot_id: &str) -> Vec<Lock> {
    let held = state.held_on(build_id).map(|version| Lock {
        kind: LockKind::Held,
        version,
        since: None,
        until: None,
        message: format!("livepatch {version} was reverted here, and is held back"),
        hints: vec!["`livepatch apply` clears this and applies it".into()],
    });
    let stalled = state.stalled.as_ref().filter(|s| s.build_id == *build_id && s.boot_id == boot_id);
    let stalled = stalled.map(|stalled| {
        let problem = stalled_problem(stalled);
        let (kind, version, since) = (LockKind::Stalled, stalled.version, Some(stalled.at));
        let until = crate::plan::next_try(stalled);
        Lock { kind, version, since, until, message: problem.message, hints: problem.hints }
    });
    let blocked = state.blocked.iter().filter(|b| b.build_id == *build_id && b.retry != Retry::UnderWay);
    let blocked = blocked.map(|blocked| {
        let problem = crash_problem(blocked);
        let kind = match blocked.retry {
            _ if blocked.complaint.is_some() => LockKind::WithBug,
            Retry::AfterIssued(_) => LockKind::Waiting,
            Retry::Never | Retry::UnderWay => LockKind::Blocked,
        };
        let (version, since): (_, Option<Timestamp>) = (blocked.version, blocked.at);
        Lock { kind, version, since, until: None, message: problem.message, hints: problem.hints }
    });
    held.into_iter().chain(blocked).chain(stalled).collect()
}

/// Where records of panics are on a host.
pub fn panic_directories() -> Vec<PathBuf> {
    evidence::PANIC_DIRECTORIES.iter().map(PathBuf::from).collect()
}
