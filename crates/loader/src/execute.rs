//! Effects on the kernel: what [`crate::plan`] decided. Every wait has a bound, and every failure leaves the kernel as
//! it was or says how it is.

use std::time::Duration;

use jiff::Timestamp;
use livepatch_kernel::{
    Kernel, KernelError, LoadError, LoadRefusal, Pause, SealedModule, wait_for_transition, wait_until,
};
use livepatch_loader_api::Point;
use livepatch_manifest::Target;
use livepatch_types::{BuildId, ModuleName, PatchVersion};

use crate::Problem;
use crate::journal::Journal;
use crate::observer::{Observer, holders};
use crate::plan::{foreign, foreign_problem, holder_hints, stalled_problem};
use crate::state::{Loaded, Phase, Stalled, State, StateStore};
use crate::step::{Step, Steps};
use crate::verify::{PatchedModule, check_modules};

/// How long the last user of a module may take to let go of it after its livepatch is gone.
const UNLOAD_BOUND: Duration = Duration::from_secs(10);

/// What the effects work on.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    pub(crate) kernel: &'a dyn Kernel,
    pub(crate) pause: &'a dyn Pause,
    pub(crate) store: &'a StateStore,
    pub(crate) build_id: &'a BuildId,
    pub(crate) transition_timeout: Duration,
    pub(crate) soak: Duration,
    pub(crate) steps: &'a dyn Steps,
    pub(crate) journal: &'a Journal,
    pub(crate) observer: &'a dyn Observer,
}

impl Executor<'_> {
    /// Before a livepatch that does not run is looked at: nothing of an earlier one of that version is left.
    pub(crate) fn make_room(&self, version: PatchVersion) -> Result<(), Problem> {
        let name = version.module_name();
        // A module of ours whose livepatch is gone already keeps the new one out.
        if self.kernel.modules()?.iter().any(|module| module.name == name) {
            self.unload(&name)?;
        }
        let boot_id = self.kernel.boot_id()?;
        self.store.update_if(|state| state.taken_away(version, self.build_id, &boot_id))
    }

    /// Applies a verified module and waits for the end of its transition, or cancels it.
    pub(crate) fn apply(
        &self,
        module: &SealedModule,
        patched: &[PatchedModule],
        target: &Target,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let name = target.version.module_name();
        let boot_id = self.kernel.boot_id()?;
        let livepatches = self.kernel.livepatches()?;
        let modules: Vec<ModuleName> = self.kernel.modules()?.into_iter().map(|module| module.name).collect();
        if let Some(foreign) = foreign(&livepatches, &modules, self.store.get().loaded_in(&boot_id)) {
            return Err(foreign_problem(foreign));
        }
        // The kernel would say so itself, and be tainted by then.
        if self.kernel.facts().ftrace_enabled == Some(false) {
            return Err(LoadError::from(LoadRefusal::FtraceOff).into());
        }
        check_modules(self.kernel, patched)?;
        self.store.update_if(|state| {
            state.begin_insert(target, self.build_id, &boot_id, now)?;
            remember_loaded(state, &boot_id, &name);
            Ok(())
        })?;
        self.journal.note(target.version, Point::BeforeInsert);
        self.steps.reached(Step::Insert);
        if let Err(error) = self.kernel.load(module) {
            self.store.update_if(|state| {
                state.ended(&name)?;
                forget_loaded(state, &name);
                Ok(())
            })?;
            return Err(error.into());
        }
        self.steps.reached(Step::Inserted);
        self.store.update_if(State::inserted)?;
        self.journal.note(target.version, Point::AfterInsert);
        self.settle(&name, now)
    }

    /// Waits for the end of a transition that is under way, and cancels it when it takes too long.
    pub(crate) fn settle(&self, name: &ModuleName, now: Timestamp) -> Result<(), Problem> {
        let reverts = self.store.get().in_progress.is_some_and(|progress| progress.phase == Phase::Reverting);
        self.note(name, Point::InTransition, reverts);
        match wait_for_transition(self.kernel, self.pause, name, self.transition_timeout)? {
            Some(patch) if patch.enabled && !patch.in_transition => {
                if reverts {
                    return self.store.update_if(State::still_in_force);
                }
                self.steps.reached(Step::InForce);
                let since_boot = self.kernel.since_boot()?;
                self.store.update_if(|state| state.in_force(name, since_boot, now, self.soak))?;
                self.note(name, Point::InForce, reverts);
                tracing::info!(livepatch = %name, "a livepatch is applied");
                Ok(())
            }
            Some(patch) if patch.enabled && !reverts => self.cancel(name, now),
            Some(patch) if patch.in_transition => Err(stuck(name)),
            _ => {
                self.store.update_if(|state| state.ended(name))?;
                self.unload_if_loaded(name)
            }
        }
    }

    fn note(&self, name: &ModuleName, point: Point, reverts: bool) {
        if let Some(version) = PatchVersion::of_module(name).filter(|_| !reverts) {
            self.journal.note(version, point);
        }
    }

    fn cancel(&self, name: &ModuleName, now: Timestamp) -> Result<(), Problem> {
        // While they hold it up.
        let holders = holders(self.observer);
        tracing::warn!(livepatch = %name, ?holders, "a transition takes too long and is cancelled");
        match self.kernel.set_enabled(name, false) {
            // It ended just now: the next plan sees it.
            Err(KernelError::NoSuchLivepatch(_)) => {}
            other => other?,
        }
        if wait_for_transition(self.kernel, self.pause, name, self.transition_timeout)?.is_some() {
            return Err(stuck(name));
        }
        let boot_id = self.kernel.boot_id()?;
        let mut stalled = None;
        self.store.update_if(|state| {
            state.ended(name)?;
            if let Some(version) = PatchVersion::of_module(name) {
                stalled = Some(Stalled {
                    version,
                    build_id: self.build_id.clone(),
                    times: state
                        .stalled(version, self.build_id, &boot_id)
                        .map_or(1, |before| before.times + 1),
                    boot_id,
                    at: now,
                    holders,
                });
                state.stalled.clone_from(&stalled);
            }
            Ok(())
        })?;
        self.unload_if_loaded(name)?;
        stalled.map_or(Ok(()), |stalled| Err(stalled_problem(&stalled)))
    }

    /// Disables and unloads a livepatch. What comes after is the caller's: a hold, or nothing.
    pub(crate) fn remove(&self, version: PatchVersion, now: Timestamp) -> Result<(), Problem> {
        let name = version.module_name();
        let boot_id = self.kernel.boot_id()?;
        self.store.update_if(|state| state.begin_revert(version, self.build_id, &boot_id, now))?;
        self.steps.reached(Step::Disable);
        match self.kernel.set_enabled(&name, false) {
            Ok(()) => {}
            Err(KernelError::NoSuchLivepatch(_)) => {
                self.store.update_if(|state| state.ended(&name))?;
                return self.unload_if_loaded(&name);
            }
            Err(error) => {
                self.store.update_if(State::still_in_force)?;
                return Err(error.into());
            }
        }
        self.steps.reached(Step::Disabled);
        let left = wait_for_transition(self.kernel, self.pause, &name, self.transition_timeout)?;
        if left.is_some() {
            let holders = holders(self.observer);
            // Back to where it was: half a livepatch is the worst of both.
            self.kernel.set_enabled(&name, true)?;
            let back = wait_for_transition(self.kernel, self.pause, &name, self.transition_timeout)?;
            if back.is_none_or(|patch| patch.in_transition) {
                return Err(stuck(&name));
            }
            self.store.update_if(State::still_in_force)?;
            return Err(still_in_use(&name, self.transition_timeout, &holders));
        }
        self.store.update_if(|state| state.ended(&name))?;
        tracing::info!(livepatch = %name, "a livepatch is disabled");
        self.unload_if_loaded(&name)
    }

    /// Unloads a module as soon as nothing uses it.
    pub(crate) fn unload(&self, name: &ModuleName) -> Result<(), Problem> {
        self.steps.reached(Step::Unload);
        let gone = wait_until(self.pause, UNLOAD_BOUND, || match self.kernel.unload(name) {
            Ok(()) | Err(KernelError::NoSuchModule(_)) => Ok(true),
            Err(KernelError::ModuleInUse(_)) => Ok(false),
            Err(error) => Err(error),
        })?;
        if !gone {
            return Err(KernelError::ModuleInUse(name.clone()).into());
        }
        self.steps.reached(Step::Unloaded);
        self.store.update(|state| forget_loaded(state, name))
    }

    fn unload_if_loaded(&self, name: &ModuleName) -> Result<(), Problem> {
        let loaded = self.kernel.modules()?.iter().any(|module| module.name == *name);
        if loaded { self.unload(name) } else { self.store.update(|state| forget_loaded(state, name)) }
    }
}

fn remember_loaded(state: &mut State, boot_id: &str, name: &ModuleName) {
    if state.loaded.boot_id != boot_id {
        state.loaded = Loaded { boot_id: boot_id.to_owned(), names: Vec::new() };
    }
    if !state.loaded.names.contains(name) {
        state.loaded.names.push(name.clone());
    }
}

fn forget_loaded(state: &mut State, name: &ModuleName) {
    state.loaded.names.retain(|loaded| loaded != name);
}

pub(crate) fn still_in_use(name: &ModuleName, after: Duration, holders: &[String]) -> Problem {
    let seconds = after.as_secs();
    let message = format!("{name} was not out of use everywhere after {seconds} s; it stays applied");
    let hint = "a task sleeps in a replaced function; try again later, or reboot";
    let mut problem = Problem::new("transition-stalled", message, hint);
    if !holders.is_empty() {
        problem.hints.extend(holder_hints(holders));
    }
    problem
}

pub(crate) fn stuck(name: &ModuleName) -> Problem {
    let message = format!("the kernel moves its tasks to or from {name} and does not come to an end");
    let hint = "see /sys/kernel/livepatch and /proc/*/patch_state; a reboot ends it for certain";
    Problem::new("transition-stuck", message, hint)
}
