//! How the loader sees the host, for whoever asks.

use livepatch_kernel::Livepatch;
use livepatch_loader_api::{Applied, Staged, View};
use livepatch_manifest::Target;
use livepatch_types::{BuildId, PatchVersion, Stage, StageEvent};

use crate::locks::locks as locks_of;
use crate::plan;
use crate::state::{Channel, Phase, State};
use crate::{Loader, Problem};

impl Loader {
    /// How things are now. Waits for nothing but a file of its own.
    pub fn view(&self) -> View {
        let state = self.store.get();
        let kernel = self.kernel.identity();
        let boot_id = self.kernel.boot_id().ok();
        let document = kernel.as_ref().ok().and_then(|kernel| self.document(&state, kernel));
        let age = document.as_ref().and_then(|d| plan::time_problem(d, &state, self.clock.now()));
        let applied = state
            .applied
            .as_ref()
            .filter(|applied| kernel.as_ref().is_ok_and(|kernel| kernel.build_id == applied.build_id));
        let in_progress =
            state.in_progress.as_ref().filter(|progress| Some(&progress.boot_id) == boot_id.as_ref());
        let document_target = document.as_ref().and_then(|document| document.target.clone());
        let (vendor, vendor_problem) = self.vendor_view(kernel.as_ref().ok(), document.as_ref());
        let in_progress = in_progress.filter(|progress| progress.phase != Phase::Reverting);
        let locks = kernel.as_ref().ok().zip(boot_id.as_ref());
        // Of whom a host without a server applies livepatches is the vendor alone.
        let of_root = state.channel == Channel::Closed && !state.is_idle();
        let operator = if of_root { None } else { self.operator().err() };
        let trust = operator.or_else(|| self.trust.vendor().err());
        let problem = self.store.problem().or_else(|| self.copied(&state)).or(trust);
        let standing = self.operator_stale().or_else(|| self.log_problem());
        View {
            enabled: state.channel != Channel::Closed,
            host: state.host.as_ref().map(|host| host.id),
            cohort: state.host.as_ref().and_then(|host| host.cohort.clone()),
            channel: match &state.channel {
                Channel::Pinned(tier) => Some(tier.clone()),
                Channel::Closed | Channel::Open => None,
            },
            document_problem: age.map(|problem| problem.to_failure()),
            applied: applied.map(|a| Applied { target: a.target.clone(), at: a.at }),
            in_progress: in_progress.map(|progress| progress.target.clone()),
            comes_back: state.may_come_back().next().is_some(),
            passed: self.journal.passed(),
            stages: locks
                .map(|(k, b)| self.stages(&state, &k.build_id, b, document_target.as_ref()))
                .unwrap_or_default(),
            held: kernel.as_ref().map_or(state.held, |kernel| state.held_on(&kernel.build_id)),
            locks: locks.map(|(k, b)| locks_of(&state, &k.build_id, b)).unwrap_or_default(),
            loaded: boot_id.map(|boot_id| state.loaded_in(&boot_id).to_vec()).unwrap_or_default(),
            wants: self.wants(),
            problem: problem.as_ref().map(Problem::to_failure),
            observer_problem: self.observer_problem(),
            refused_modules: self.refused_modules(),
            document,
            vendor,
            vendor_problem: vendor_problem.as_ref().map(Problem::to_failure),
            log: self.log_view(&state, document_target.as_ref()),
            operator: self.operator_view(),
            support: self.support(&state),
            operator_problem: standing.as_ref().map(Problem::to_failure),
        }
    }
    /// Where livepatches are. What is remembered as in force and is not in the kernel was taken away by somebody else.
    fn stages(
        &self,
        state: &State,
        build_id: &BuildId,
        boot_id: &str,
        offered: Option<&Target>,
    ) -> Vec<Staged> {
        let mut stages = state.stages(build_id, boot_id);
        let offered = offered.map(|target| target.version);
        if let Some(version) = offered.filter(|offered| stages.iter().all(|(version, _)| version != offered))
        {
            stages.push((version, state.stage(version, build_id, boot_id)));
        }
        // Where the kernel does not say, what is remembered counts.
        let livepatches = self.kernel.livepatches().ok();
        let staged = |(version, stage): (PatchVersion, Stage)| {
            let name = version.module_name();
            let shown =
                |patches: &Vec<Livepatch>| patches.iter().any(|patch| patch.name == name && patch.enabled);
            let runs = livepatches.as_ref().is_none_or(shown);
            let stage = if stage.is_in_force() && !runs {
                stage.next(StageEvent::Ended).unwrap_or(stage)
            } else {
                stage
            };
            Staged { version, stage }
        };
        stages.into_iter().map(staged).collect()
    }
}
