//! The power is cut at each step of an application and of a removal, once with a disk that loses all that was not
//! synced, once with one that keeps it.

use livepatch_loader::step::Step;

use crate::stage::At::{self, Kept, Kernel, Renamed, Synced, Written};
use crate::stage::{Disk, Stage};

/// What has become of 1.2, on a host where 1.1 was healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nothing happened to it: 1.1 is back, and 1.2 is applied when the agent asks.
    Untouched,
    /// Never loaded again by itself; 1.1 is back.
    Blocked,
    /// It waits for the operator; 1.1 is back.
    Waits,
}

fn install(at: At, nth: u32, expected: [After; 2]) {
    for (disk, after) in [Disk::Loses, Disk::Keeps].into_iter().zip(expected) {
        let mut stage = Stage::new(at, disk);
        assert_eq!(stage.offer(1, "1.1"), "ok");
        stage.soak();
        stage.arm(nth);
        assert_eq!(stage.offer(2, "1.2"), "ok");
        stage.boot_after_the_cut();
        let loads = stage.kernel.loads().len();
        let (running, locks) = match after {
            After::Untouched => (None, vec![]),
            After::Blocked => (Some("livepatch_1_1"), vec!["blocked 1.2"]),
            After::Waits => (Some("livepatch_1_1"), vec!["waiting 1.2"]),
        };
        assert_eq!(stage.locks(), locks, "{disk:?}");
        if let Some(running) = running {
            assert_eq!(stage.livepatches(), [running], "{disk:?}");
            // However often it is asked and booted.
            let code = stage.offer(3, "1.2");
            assert!(code.starts_with("crash-guard"), "{disk:?}: {code}");
            stage.reboot();
            assert_eq!((stage.livepatches(), stage.locks()), (vec![running.to_owned()], to_owned(&locks)));
            assert!(stage.kernel.loads()[loads..].iter().all(|name| name.as_str() == running));
            // Everything else works.
            assert_eq!(stage.offer(4, "1.3"), "ok");
            assert_eq!(stage.livepatches(), ["livepatch_1_3"]);
            stage.loader.clear().unwrap();
            assert!(stage.locks().is_empty());
            assert_eq!(stage.offer(5, "1.2"), "ok");
        } else {
            assert_eq!(stage.offer(3, "1.2"), "ok", "{disk:?}");
        }
        assert_eq!(stage.livepatches(), ["livepatch_1_2"], "{disk:?}");
    }
}

fn to_owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// 1.1 is healthy and root reverts it: it never comes back by itself.
fn revert(at: At, nth: u32, held: [bool; 2]) {
    for (disk, held) in [Disk::Loses, Disk::Keeps].into_iter().zip(held) {
        let mut stage = Stage::new(at, disk);
        assert_eq!(stage.offer(1, "1.1"), "ok");
        stage.soak();
        stage.arm(nth);
        stage.loader.revert().unwrap();
        stage.boot_after_the_cut();
        let back = if held { vec![] } else { vec!["livepatch_1_1".to_owned()] };
        stage.offer(2, "1.1");
        assert_eq!(stage.livepatches(), back, "{disk:?}");
        assert_eq!(stage.locks().contains(&"held 1.1".to_owned()), held);
        // Everything else works.
        assert_eq!(stage.offer(3, "1.2"), "ok");
        assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    }
}

const STATE: &str = "state.json";
const MODULE: &str = ".ko";

macro_rules! power_cuts {
    ($($scenario:ident { $($name:ident: $at:expr, $nth:literal => $lost:expr, $kept:expr;)* })*) => {
        $($(#[test] fn $name() { $scenario($at, $nth, [$lost, $kept]); })*)*
    };
}

// The state is written with the document (1), the marker (2), its transition (3), and its soak (4).
power_cuts! {
    install {
        power_cut_while_the_module_is_stored: Written(MODULE), 1 => After::Untouched, After::Untouched;
        power_cut_before_the_module_has_its_name: Synced(MODULE), 1 => After::Untouched, After::Untouched;
        power_cut_when_the_module_is_stored: Kept(MODULE), 1 => After::Untouched, After::Untouched;
        power_cut_while_the_marker_is_written: Written(STATE), 2 => After::Untouched, After::Untouched;
        power_cut_when_the_marker_is_synced: Synced(STATE), 2 => After::Untouched, After::Untouched;
        power_cut_when_the_marker_is_renamed: Renamed(STATE), 2 => After::Untouched, After::Blocked;
        power_cut_before_insert: Kernel(Step::Insert), 1 => After::Blocked, After::Blocked;
        power_cut_after_insert: Kernel(Step::Inserted), 1 => After::Blocked, After::Blocked;
        power_cut_while_the_transition_is_noted: Written(STATE), 3 => After::Blocked, After::Blocked;
        power_cut_in_transition: Kept(STATE), 3 => After::Blocked, After::Blocked;
        power_cut_when_the_transition_ended: Kernel(Step::InForce), 1 => After::Blocked, After::Blocked;
        power_cut_while_the_soak_is_noted: Synced(STATE), 4 => After::Blocked, After::Blocked;
        power_cut_when_the_soak_is_renamed: Renamed(STATE), 4 => After::Blocked, After::Waits;
        power_cut_when_the_soak_begins: Kept(STATE), 4 => After::Waits, After::Waits;
        power_cut_before_the_replaced_one_is_unloaded: Kernel(Step::Unload), 1 => After::Waits, After::Waits;
        power_cut_after_the_replaced_one_is_unloaded: Kernel(Step::Unloaded), 1 => After::Waits, After::Waits;
    }
    revert {
        power_cut_while_the_hold_is_written: Written(STATE), 1 => false, false;
        power_cut_when_the_hold_is_kept: Kept(STATE), 1 => true, true;
        power_cut_when_the_revert_is_noted: Kept(STATE), 2 => true, true;
        power_cut_before_disable: Kernel(Step::Disable), 1 => true, true;
        power_cut_after_disable: Kernel(Step::Disabled), 1 => true, true;
        power_cut_before_unload: Kernel(Step::Unload), 1 => true, true;
        power_cut_after_unload: Kernel(Step::Unloaded), 1 => true, true;
    }
}
