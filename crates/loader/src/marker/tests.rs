//! What is written down agrees with the table, whatever happens in whatever order.

use livepatch_manifest::ModuleObject;
use livepatch_types::{Sha256Digest, TRANSITIONS};

use super::*;
use crate::guard::SOAK;
use crate::state::Loaded;

/// One livepatch on one kernel.
struct Walk {
    state: State,
    boots: u32,
    target: Target,
    build_id: BuildId,
}

impl Walk {
    fn boot_id(&self) -> String {
        format!("boot-{}", self.boots)
    }

    fn stage(&self) -> Stage {
        self.state.stage(self.target.version, &self.build_id, &self.boot_id())
    }

    fn boot(&mut self, record: Option<&str>) -> Result<(), Problem> {
        self.boots += 1;
        // What is not on the disk is not there after a boot.
        self.state = serde_json::from_slice(&serde_json::to_vec(&self.state).unwrap()).unwrap();
        let (boot_id, record) = (self.boot_id(), record.map(str::to_owned));
        let found = Found { boot_id: &boot_id, record, now: Timestamp::UNIX_EPOCH, soak: SOAK };
        self.state.look_back(&found)
    }

    fn does(&mut self, event: Event) -> Result<(), Problem> {
        let (boot_id, now, name) = (self.boot_id(), Timestamp::UNIX_EPOCH, self.target.version.module_name());
        match event {
            Event::Fetched => self.state.fetched(self.target.version, &self.build_id, &boot_id),
            Event::Passed => self.state.passed(),
            Event::Refused => self.state.refused(),
            Event::Insert => {
                let begun = self.state.begin_insert(&self.target, &self.build_id, &boot_id, now);
                self.state.loaded = Loaded { boot_id, names: vec![name] };
                begun
            }
            Event::Inserted => self.state.inserted(),
            Event::InForce | Event::BackInForce => self.state.in_force(&name, Duration::ZERO, now, SOAK),
            Event::Soaked => self.state.soaked(&boot_id, true),
            Event::Ended if self.stage().is_in_force() => {
                self.state.taken_away(self.target.version, &self.build_id, &boot_id)
            }
            Event::Ended => {
                self.state.loaded.names.clear();
                self.state.ended(&name)
            }
            Event::Removed | Event::RemovedWithBug => {
                self.state.loaded.names.clear();
                let removed = self.state.ended(&name);
                self.state.applied = None;
                removed
            }
            Event::Revert => self.state.begin_revert(self.target.version, &self.build_id, &boot_id, now),
            Event::StillSoaking | Event::StillHealthy | Event::StillWithBug => self.state.still_in_force(),
            Event::ShutDown => {
                self.state.close();
                self.boot(None)
            }
            Event::WentDown => self.boot(None),
            Event::Panicked => self.boot(Some("dmesg-efi-1")),
            Event::Complained => {
                let found = Found { boot_id: &boot_id, record: None, now, soak: SOAK };
                self.state.complained(self.target.version, &self.build_id, "WARNING: x", &found).map(drop)
            }
            Event::Cleared => {
                self.state.cleared(&self.build_id);
                Ok(())
            }
            // What waits is replaced by what is fetched, what runs by what is in force.
            Event::Replaced if !self.stage().is_in_force() => {
                let another = PatchVersion::parse("2.1").unwrap();
                self.state.fetched(another, &self.build_id, &boot_id)
            }
            Event::Replaced => {
                (self.state.applied, self.state.soaking) = (None, None);
                Ok(())
            }
        }
    }
}

/// Events that the loader cannot tell apart before it looks at what it remembers.
fn alike(event: Event) -> &'static [Event] {
    match event {
        Event::InForce | Event::BackInForce => &[Event::InForce, Event::BackInForce],
        Event::StillSoaking | Event::StillHealthy | Event::StillWithBug => {
            &[Event::StillSoaking, Event::StillHealthy, Event::StillWithBug]
        }
        Event::Removed | Event::RemovedWithBug => &[Event::Removed, Event::RemovedWithBug],
        // One that is reverted because the kernel complained of it stays blocked.
        Event::ShutDown => &[Event::ShutDown, Event::WentDown],
        // The second time counts as a panic.
        Event::WentDown => &[Event::WentDown, Event::Panicked],
        _ => &[],
    }
}

#[test]
fn any_walk_stays_on_the_table() {
    let target = Target {
        version: PatchVersion::parse("1.1").unwrap(),
        module: ModuleObject { sha256: Sha256Digest::from_bytes([1; 32]), size_bytes: 1 },
        cves: vec![],
        released: Timestamp::UNIX_EPOCH,
    };
    let build_id = BuildId::from_bytes(&[1; 20]).unwrap();
    let mut walk = Walk { state: State::default(), boots: 1, target, build_id };
    let mut seen = std::collections::HashSet::new();
    // Xorshift (Marsaglia 2003): the same walk every time.
    let mut random = 1u64;
    for step in 0..50_000 {
        let before = walk.stage();
        let may: Vec<_> = TRANSITIONS.iter().filter(|(from, ..)| *from == before).collect();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Every other time on towards the kernel and back: left to chance alone, it seldom gets there.
        let goes_on = |event: &Event| {
            matches!(event, Event::Passed | Event::Insert | Event::Inserted | Event::InForce | Event::Revert)
        };
        let onwards = may.iter().find(|(_, event, _)| random & 1 == 0 && goes_on(event));
        let (_, event, to) = onwards.unwrap_or(&may[(random >> 32) as usize % may.len()]);
        walk.does(*event).unwrap();
        let after = walk.stage();
        let allowed = alike(*event).iter().filter_map(|event| before.next(*event).ok());
        assert!(
            after == *to || allowed.into_iter().any(|allowed| allowed == after),
            "step {step}: {before:?} {event:?} {after:?}"
        );
        seen.insert((before, after));
        if after != Stage::Verified {
            let (target, build_id, boot_id) = (walk.target.clone(), walk.build_id.clone(), walk.boot_id());
            let refused =
                walk.state.clone().begin_insert(&target, &build_id, &boot_id, Timestamp::UNIX_EPOCH);
            assert_eq!(refused.unwrap_err().code, "guard-transition", "step {step}: {after:?}");
        }
    }
    for (from, event, to) in TRANSITIONS {
        assert!(seen.contains(&(*from, *to)), "never {from:?} {event:?} {to:?}");
    }
}
