//! Where livepatches are, in the state: each change is held against [`livepatch_types::TRANSITIONS`] first. From
//! `Inserting` on it is a marker on the disk, before the step that it announces: the crash guard's.

use std::time::Duration;

use jiff::Timestamp;
use livepatch_manifest::Target;
use livepatch_types::{BuildId, ModuleName, PatchVersion, Stage, StageEvent as Event};

use crate::Problem;
use crate::guard::{end_of, retry_after};
use crate::state::{Applied, Blocked, InProgress, Phase, Prepared, Retry, Soaking, State};

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
        let prepared = self.prepared.as_ref().filter(|p| of_version(p.version, &p.build_id));
        match self.blocked.iter().find(|b| of_version(b.version, &b.build_id)).map(|b| b.retry) {
            Some(Retry::Never) => Stage::Blocked,
            Some(Retry::AfterIssued(_)) => Stage::Waiting,
            Some(Retry::UnderWay) | None if applied && loaded => Stage::Healthy,
            Some(Retry::UnderWay) | None => match prepared {
                Some(prepared) => prepared.stage,
                None if self.stalled(version, build_id, boot_id).is_some() => Stage::Failed,
                None => Stage::Absent,
            },
        }
    }

    /// Every livepatch of a kernel of which something is remembered, and where it is, by version.
    pub fn stages(&self, build_id: &BuildId, boot_id: &str) -> Vec<(PatchVersion, Stage)> {
        let applied =
            self.applied.iter().chain(&self.healthy_before).map(|a| (a.target.version, &a.build_id));
        let progress = self.in_progress.iter().map(|p| (p.target.version, &p.build_id));
        let blocked = self.blocked.iter().map(|b| (b.version, &b.build_id));
        let prepared = self.prepared.iter().map(|p| (p.version, &p.build_id));
        let stalled = self.stalled.iter().map(|s| (s.version, &s.build_id));
        let all = applied.chain(progress).chain(blocked).chain(prepared).chain(stalled);
        let here = all.filter(|(_, of)| *of == build_id).map(|(version, _)| version);
        let versions: std::collections::BTreeSet<PatchVersion> = here.collect();
        versions.into_iter().map(|version| (version, self.stage(version, build_id, boot_id))).collect()
    }

    /// The bytes that a signed document names are here, and nothing of that version is in the kernel.
    pub(crate) fn fetched(
        &mut self,
        version: PatchVersion,
        build_id: &BuildId,
        boot_id: &str,
    ) -> Result<(), Problem> {
        if let Some(other) = self.prepared.take_if(|p| p.version != version || p.build_id != *build_id) {
            other.stage.next(Event::Replaced)?;
        }
        let stage = self.stage(version, build_id, boot_id).next(Event::Fetched)?;
        for blocked in &mut self.blocked {
            if blocked.version == version && blocked.build_id == *build_id {
                blocked.retry = Retry::UnderWay;
            }
        }
        self.prepared = Some(Prepared { version, build_id: build_id.clone(), stage });
        Ok(())
    }

    /// What was fetched passed every look at it.
    pub(crate) fn passed(&mut self) -> Result<(), Problem> {
        let Some(prepared) = &mut self.prepared else {
            return Ok(Stage::Absent.next(Event::Passed).map(drop)?);
        };
        prepared.stage = prepared.stage.next(Event::Passed)?;
        Ok(())
    }

    /// What was fetched does not go to the kernel. Once it is on its way there its marker says what came of it.
    pub(crate) fn refused(&mut self) -> Result<(), Problem> {
        let on_its_way = |prepared: &&mut Prepared| prepared.stage != Stage::Failed;
        if let Some(prepared) = self.prepared.as_mut().filter(on_its_way) {
            prepared.stage = prepared.stage.next(Event::Refused)?;
        }
        Ok(())
    }

    /// The kernel does not have a livepatch that may be remembered as in force: somebody else took it away.
    pub(crate) fn taken_away(
        &mut self,
        version: PatchVersion,
        build_id: &BuildId,
        boot_id: &str,
    ) -> Result<(), Problem> {
        if self.stage(version, build_id, boot_id).is_in_force() {
            self.check(version, build_id, boot_id, Event::Ended)?;
        }
        let name = version.module_name();
        self.loaded.names.retain(|loaded| *loaded != name);
        self.gone(version);
        Ok(())
    }

    /// Root forgets holds, stalls, failures, and the crash guards of a kernel.
    pub(crate) fn cleared(&mut self, build_id: &BuildId) {
        self.stalled = None;
        self.release(build_id);
        self.prepared.take_if(|prepared| prepared.stage == Stage::Failed);
        self.blocked.retain(|blocked| blocked.build_id != *build_id);
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
        stage.next(Event::Complained)?;
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
        Ok(self.stage(version, build_id, boot_id).next(event).map(drop)?)
    }

    /// Before the kernel gets a livepatch. One that was not verified, or is blocked, does not get past this, whatever was
    /// planned.
    pub(crate) fn begin_insert(
        &mut self,
        target: &Target,
        build_id: &BuildId,
        boot_id: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        self.check(target.version, build_id, boot_id, Event::Insert)?;
        self.prepared = None;
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
            Stage::from(progress.phase).next(Event::Inserted)?;
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
        let stage = Stage::from(progress.phase).next(match (removed, bug) {
            (true, true) => Event::RemovedWithBug,
            (true, false) => Event::Removed,
            (false, _) => Event::Ended,
        })?;
        let (version, build_id) = (progress.target.version, progress.build_id);
        if removed {
            self.soaking.take_if(|soaking| soaking.version == version);
            self.healthy_before = None;
        } else {
            self.prepared = Some(Prepared { version, build_id, stage });
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
        if let Some(other) = self.applied.as_ref().filter(|applied| applied.target.version != version) {
            let stage = self.stage(other.target.version, &other.build_id, &done.boot_id);
            if stage.is_in_force() {
                stage.next(Event::Replaced)?;
            }
        }
        let before = self.applied.take().filter(|applied| {
            let applied_version = applied.target.version;
            applied.build_id == done.build_id
                && self.is_healthy(applied_version)
                && !self.has_bug(applied_version, &done.build_id)
        });
        let was_healthy = before.as_ref().is_some_and(|before| before.target.version == version);
        let soaks = !was_healthy && !soak.is_zero();
        Stage::from(done.phase).next(if soaks { Event::InForce } else { Event::BackInForce })?;
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
        self.release(&done.build_id);
        self.stalled = None;
        self.applied = Some(Applied { target: done.target, build_id: done.build_id, at: now });
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
        Ok(Stage::from(progress.phase).next(event).map(drop)?)
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
            if Stage::from(progress.phase).next(end)? == Stage::Blocked {
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
            let retry = match Stage::Soaking.next(end_of(false, panicked, again))? {
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
