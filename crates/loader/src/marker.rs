//! The crash guard's marker in the state: each change of it is checked against [`crate::guard::TRANSITIONS`] first.

use std::time::Duration;

use jiff::Timestamp;
use livepatch_manifest::Target;
use livepatch_types::{BuildId, ModuleName, PatchVersion};

use crate::Problem;
use crate::guard::{Event, Stage, end_of, retry_after};
use crate::state::{Applied, Blocked, InProgress, Phase, Retry, Soaking, State};

/// What is found of the end of a host at the next start.
pub(crate) struct Found<'a> {
    /// This boot.
    pub(crate) boot_id: &'a str,
    /// A record of a panic since the livepatch was begun.
    pub(crate) record: Option<String>,
    /// By this host's clock.
    pub(crate) now: Timestamp,
    /// How long livepatches soak.
    pub(crate) soak: Duration,
}

impl State {
    /// Where a livepatch is in a boot, by what is remembered.
    pub fn stage(&self, version: PatchVersion, build_id: &BuildId, boot_id: &str) -> Stage {
        let of_version = |v: PatchVersion, b: &BuildId| v == version && b == build_id;
        let progress = self.in_progress.as_ref().filter(|p| of_version(p.target.version, &p.build_id));
        if let Some(progress) = progress.filter(|progress| progress.boot_id == boot_id) {
            return progress.phase.into();
        }
        let loaded = self.loaded_in(boot_id).contains(&version.module_name());
        let applied = self.applied.as_ref().is_some_and(|a| of_version(a.target.version, &a.build_id));
        if applied && loaded && self.has_bug(version, build_id) {
            return Stage::WithBug;
        }
        if self.soaks(boot_id).is_some_and(|soaking| of_version(soaking.version, &soaking.build_id)) {
            return Stage::Soaking;
        }
        match self.blocked.iter().find(|b| of_version(b.version, &b.build_id)).map(|b| b.retry) {
            Some(Retry::Never) => return Stage::Blocked,
            Some(Retry::AfterIssued(_)) => return Stage::Waiting,
            Some(Retry::UnderWay) | None => {}
        }
        if applied && loaded { Stage::Healthy } else { Stage::Absent }
    }

    /// What soaks in a boot.
    pub fn soaks(&self, boot_id: &str) -> Option<&Soaking> {
        self.soaking.as_ref().filter(|soaking| soaking.boot_id == boot_id)
    }

    /// Whether the kernel complained of it.
    pub fn has_bug(&self, version: PatchVersion, build_id: &BuildId) -> bool {
        let same = |b: &&Blocked| b.version == version && b.build_id == *build_id;
        self.blocked.iter().find(same).is_some_and(|blocked| blocked.complaint.is_some())
    }

    /// The kernel's log has a complaint about a livepatch that was loaded in this boot. Whether it is new.
    pub(crate) fn complained(
        &mut self,
        version: PatchVersion,
        build_id: &BuildId,
        complaint: &str,
        found: &Found<'_>,
    ) -> Result<bool, Problem> {
        let stage = self.stage(version, build_id, found.boot_id);
        if matches!(stage, Stage::WithBug | Stage::Blocked) {
            return Ok(false);
        }
        stage.check(Event::Complained)?;
        // It does not get to be healthy; what was before it is what comes back after the boot.
        self.soaking.take_if(|soaking| soaking.version == version);
        self.block(version, build_id, Phase::Soaking, Retry::Never, found);
        for blocked in &mut self.blocked {
            if blocked.version == version && blocked.build_id == *build_id {
                blocked.complaint = Some(complaint.to_owned());
            }
        }
        Ok(true)
    }

    fn check(
        &self,
        version: PatchVersion,
        build_id: &BuildId,
        boot_id: &str,
        event: Event,
    ) -> Result<(), Problem> {
        self.stage(version, build_id, boot_id).check(event).map(|_| ())
    }

    /// Before the kernel gets a livepatch. One that is blocked does not get past this, whatever was planned.
    pub(crate) fn begin_insert(
        &mut self,
        target: &Target,
        build_id: &BuildId,
        boot_id: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        self.check(target.version, build_id, boot_id, Event::Insert)?;
        for blocked in &mut self.blocked {
            if blocked.version == target.version && blocked.build_id == *build_id {
                blocked.retry = Retry::UnderWay;
            }
        }
        self.in_progress = Some(InProgress {
            target: target.clone(),
            build_id: build_id.clone(),
            boot_id: boot_id.to_owned(),
            at: Some(now),
            phase: Phase::Inserting,
            closed: false,
        });
        Ok(())
    }

    /// The kernel has it.
    pub(crate) fn inserted(&mut self) -> Result<(), Problem> {
        if let Some(progress) = &mut self.in_progress {
            Stage::from(progress.phase).check(Event::Inserted)?;
            progress.phase = Phase::Transition;
        }
        Ok(())
    }

    /// It is not in force any more, or never was; without a marker there is nothing to note.
    pub(crate) fn ended(&mut self, name: &ModuleName) -> Result<(), Problem> {
        let Some(progress) = self.in_progress.take_if(|p| p.target.version.module_name() == *name) else {
            return Ok(());
        };
        let removed = progress.phase == Phase::Reverting;
        let bug = self.has_bug(progress.target.version, &progress.build_id);
        Stage::from(progress.phase).check(match (removed, bug) {
            (true, true) => Event::RemovedWithBug,
            (true, false) => Event::Removed,
            (false, _) => Event::Ended,
        })?;
        if removed {
            self.soaking.take_if(|soaking| soaking.version == progress.target.version);
            self.healthy_before = None;
        }
        Ok(())
    }

    /// The transition to it ended: it soaks, unless it was healthy in an earlier boot.
    pub(crate) fn in_force(
        &mut self,
        name: &ModuleName,
        since_boot: Duration,
        now: Timestamp,
        soak: Duration,
    ) -> Result<(), Problem> {
        // A loader that died between two of its steps has not noted that the kernel has it.
        if self.in_progress.as_ref().is_some_and(|progress| progress.phase == Phase::Inserting) {
            self.inserted()?;
        }
        let Some(done) = self.in_progress.take_if(|p| p.target.version.module_name() == *name) else {
            return Ok(());
        };
        let version = done.target.version;
        let before = self.applied.take().filter(|applied| {
            let applied_version = applied.target.version;
            applied.build_id == done.build_id
                && self.is_healthy(applied_version)
                && !self.has_bug(applied_version, &done.build_id)
        });
        let was_healthy = before.as_ref().is_some_and(|before| before.target.version == version);
        let soaks = !was_healthy && !soak.is_zero();
        Stage::from(done.phase).check(if soaks { Event::InForce } else { Event::BackInForce })?;
        self.soaking = soaks.then(|| Soaking {
            version,
            build_id: done.build_id.clone(),
            boot_id: done.boot_id,
            at: now,
            began_seconds: since_boot.as_secs(),
            closed: false,
        });
        match soaks {
            // What soaked before this one did not get to be healthy.
            true => self.healthy_before = before.or_else(|| self.healthy_before.take()),
            false => self.healed(version, &done.build_id),
        }
        self.healthy_before.take_if(|healthy| healthy.target.version == version);
        self.applied = Some(Applied { target: done.target, build_id: done.build_id, at: now });
        (self.held, self.stalled) = (None, None);
        Ok(())
    }

    fn is_healthy(&self, applied: PatchVersion) -> bool {
        self.soaking.as_ref().is_none_or(|soaking| soaking.version != applied)
    }

    fn healed(&mut self, version: PatchVersion, build_id: &BuildId) {
        self.healthy_before = None;
        self.blocked.retain(|blocked| blocked.version != version || blocked.build_id != *build_id);
    }

    /// The kernel does not have it, whoever took it away: it begins anew when it is loaded again.
    pub(crate) fn gone(&mut self, version: PatchVersion) {
        self.in_progress.take_if(|progress| progress.target.version == version);
        for soaking in self.soaking.iter_mut().filter(|soaking| soaking.version == version) {
            (soaking.boot_id, soaking.closed) = (String::new(), true);
        }
    }

    /// What soaks in this boot was in force for long enough; `still`: it still is.
    pub(crate) fn soaked(&mut self, boot_id: &str, still: bool) -> Result<(), Problem> {
        let Some(soaking) = self.soaks(boot_id).cloned() else { return Ok(()) };
        let event = if still { Event::Soaked } else { Event::Ended };
        self.check(soaking.version, &soaking.build_id, boot_id, event)?;
        if still {
            self.soaking = None;
            self.healed(soaking.version, &soaking.build_id);
        } else {
            self.gone(soaking.version);
        }
        Ok(())
    }

    /// Before the kernel lets go of a livepatch. One of which nothing is remembered gets no marker.
    pub(crate) fn begin_revert(
        &mut self,
        version: PatchVersion,
        build_id: &BuildId,
        boot_id: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let applied =
            self.applied.as_ref().filter(|a| a.target.version == version && a.build_id == *build_id);
        let Some(target) = applied.map(|applied| applied.target.clone()) else { return Ok(()) };
        // The marker of a transition that hung and ended unseen does not stand in the way of a revert.
        self.in_progress.take_if(|progress| progress.target.version == version);
        if self.loaded_in(boot_id).contains(&version.module_name()) {
            self.check(version, build_id, boot_id, Event::Revert)?;
        }
        self.in_progress = Some(InProgress {
            target,
            build_id: build_id.clone(),
            boot_id: boot_id.to_owned(),
            at: Some(now),
            phase: Phase::Reverting,
            closed: false,
        });
        Ok(())
    }

    /// The kernel did not let go of it.
    pub(crate) fn still_in_force(&mut self) -> Result<(), Problem> {
        let Some(progress) = self.in_progress.take_if(|p| p.phase == Phase::Reverting) else { return Ok(()) };
        let event = match self.has_bug(progress.target.version, &progress.build_id) {
            true => Event::StillWithBug,
            false if self.soaks(&progress.boot_id).is_some() => Event::StillSoaking,
            false => Event::StillHealthy,
        };
        Stage::from(progress.phase).check(event).map(|_| ())
    }

    /// The loader ends in good order.
    pub(crate) fn close(&mut self) {
        for closed in self.in_progress.iter_mut().map(|p| &mut p.closed) {
            *closed = true;
        }
        for closed in self.soaking.iter_mut().map(|s| &mut s.closed) {
            *closed = true;
        }
    }

    /// The loader goes on in the same boot: what happens from now on counts again.
    pub(crate) fn reopen(&mut self, boot_id: &str) {
        for progress in self.in_progress.iter_mut().filter(|p| p.boot_id == boot_id) {
            progress.closed = false;
        }
        for soaking in self.soaking.iter_mut().filter(|s| s.boot_id == boot_id) {
            soaking.closed = false;
        }
    }

    /// Markers of another boot become what is known of it.
    pub(crate) fn look_back(&mut self, found: &Found<'_>) -> Result<(), Problem> {
        let panicked = found.record.is_some();
        if let Some(progress) = self.in_progress.take_if(|p| p.boot_id != found.boot_id) {
            let (version, build_id) = (progress.target.version, progress.build_id);
            let end = end_of(progress.closed, panicked, false);
            if Stage::from(progress.phase).check(end)? == Stage::Blocked {
                self.block(version, &build_id, progress.phase, Retry::Never, found);
                // If it was healthy, that is in doubt now.
                if self.applied.as_ref().is_some_and(|a| a.target.version == version) {
                    self.soaking = Some(Soaking {
                        version,
                        build_id,
                        boot_id: progress.boot_id,
                        at: found.now,
                        began_seconds: 0,
                        closed: true,
                    });
                    self.back_to_healthy();
                }
            }
        }
        let of_other_boot = |applied: &&Applied| {
            !self.loaded_in(found.boot_id).contains(&applied.target.version.module_name())
                && self.has_bug(applied.target.version, &applied.build_id)
        };
        if self.applied.as_ref().is_some_and(|applied| of_other_boot(&applied)) {
            self.back_to_healthy();
        }
        let is_open = |soaking: &&Soaking| soaking.boot_id != found.boot_id && !soaking.closed;
        if let Some(soaking) = self.soaking.as_ref().filter(is_open).cloned() {
            let again = self.blocked.iter().any(|blocked| {
                blocked.version == soaking.version
                    && blocked.build_id == soaking.build_id
                    && blocked.retry == Retry::UnderWay
            });
            let retry = match Stage::Soaking.check(end_of(false, panicked, again))? {
                Stage::Waiting => Retry::AfterIssued(retry_after(soaking.at, self.latest_issued, found.soak)),
                _ => Retry::Never,
            };
            self.block(soaking.version, &soaking.build_id, Phase::Soaking, retry, found);
            self.soaking = Some(Soaking { closed: true, ..soaking });
            self.back_to_healthy();
        }
        Ok(())
    }

    fn block(
        &mut self,
        version: PatchVersion,
        build_id: &BuildId,
        phase: Phase,
        retry: Retry,
        found: &Found<'_>,
    ) {
        self.blocked.retain(|blocked| blocked.version != version || blocked.build_id != *build_id);
        self.blocked.push(Blocked {
            version,
            build_id: build_id.clone(),
            phase,
            at: Some(found.now),
            record: found.record.clone(),
            retry,
            complaint: None,
        });
    }

    /// The healthy one before the one that is in doubt takes its place, if there is one.
    fn back_to_healthy(&mut self) {
        if let Some(healthy) = self.healthy_before.take() {
            (self.applied, self.soaking) = (Some(healthy), None);
        }
    }
}

#[cfg(test)]
mod tests;
