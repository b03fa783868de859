//! The steps at which the power is cut, each a system call of the loader.

use crate::power_cut::After::{Blocked, Either, Untouched, Waits};
use crate::power_cut::Run::{Always, Long};
use crate::power_cut::Sleeper::{Awake, InReplacedFunction};
use crate::power_cut::{Condition, install, revert};

const DIRECTORY: &str = "/var/lib/livepatch-loader";
const STATE: &str = "/var/lib/livepatch-loader/state.json";
const TEMPORARY: &str = "/var/lib/livepatch-loader/.tmp";
const MODULES: &str = "/var/lib/livepatch-loader/objects";
const MODULE: &str = "/var/lib/livepatch-loader/objects/.tmp";
const MEMORY: &str = "/memfd:";
const FIRST: &str = "livepatch_1_1";
const ENABLED: &str = "/sys/kernel/livepatch/livepatch_1_1/enabled";

// What tells the writes of one state from those of another.
const INSERTING: &str = "\"phase\": \"inserting\"";
const TRANSITION: &str = "\"phase\": \"transition\"";
const REVERTING: &str = "\"phase\": \"reverting\"";
const SOAKING: &str = "\"soaking\": {\n    \"version\": \"2.1\"";
const HELD: &str = "\"holds\": [\n    {\n      \"version\": \"1.1\"";

/// A state has its name, perhaps in memory alone.
const fn renamed(what: &'static str) -> Condition {
    ["leave", "rename", STATE, what]
}

/// The directory is on the disk, and what was renamed in it before.
const fn synced(directory: &'static str) -> Condition {
    ["leave", "fsync", directory, ""]
}

macro_rules! power_cuts {
    (install { $($name:ident: $run:expr, [$($at:expr),*], $sleeper:expr => $after:expr;)* }
     revert { $($revert:ident: $when:expr, [$($where:expr),*];)* }) => {
        $(#[test] fn $name() { install($run, &[$($at),*], $sleeper, $after); })*
        $(#[test] fn $revert() { revert($when, &[$($where),*]); })*
    };
}

power_cuts! {
    install {
        power_cut_when_the_module_is_written: Long, [["leave", "write", MODULE, ""]], Awake => Untouched;
        power_cut_when_the_module_is_synced: Long, [["leave", "fsync", MODULE, ""]], Awake => Untouched;
        power_cut_when_the_module_is_renamed: Long, [["leave", "rename", MODULES, ""]], Awake => Untouched;
        power_cut_when_the_module_is_kept: Long, [["leave", "rename", MODULES, ""], synced(MODULES)], Awake => Untouched;
        power_cut_when_the_marker_is_written: Long, [["leave", "write", TEMPORARY, INSERTING]], Awake => Untouched;
        power_cut_when_the_marker_is_synced: Long, [["leave", "fsync", TEMPORARY, INSERTING]], Awake => Untouched;
        power_cut_when_the_marker_is_renamed: Long, [renamed(INSERTING)], Awake => Either(&Untouched, &Blocked);
        power_cut_when_the_marker_is_kept: Long, [renamed(INSERTING), synced(DIRECTORY)], Awake => Blocked;
        power_cut_before_insert: Always, [["enter", "finit_module", MEMORY, ""]], Awake => Blocked;
        power_cut_after_insert: Long, [["leave", "finit_module", MEMORY, ""]], Awake => Blocked;
        power_cut_when_the_transition_is_written: Long, [["leave", "write", TEMPORARY, TRANSITION]], Awake => Blocked;
        power_cut_when_the_transition_is_kept: Long, [renamed(TRANSITION), synced(DIRECTORY)], Awake => Blocked;
        power_cut_in_transition: Always, [renamed(TRANSITION), synced(DIRECTORY)], InReplacedFunction => Blocked;
        power_cut_when_the_transition_ended: Long, [renamed(TRANSITION), ["enter", "openat", TEMPORARY, ""]], Awake => Blocked;
        power_cut_when_the_soak_is_synced: Long, [["leave", "fsync", TEMPORARY, SOAKING]], Awake => Blocked;
        power_cut_when_the_soak_is_renamed: Long, [renamed(SOAKING)], Awake => Either(&Blocked, &Waits);
        power_cut_when_the_soak_begins: Always, [renamed(SOAKING), synced(DIRECTORY)], Awake => Waits;
        power_cut_before_the_replaced_one_is_unloaded: Long, [["enter", "delete_module", FIRST, ""]], Awake => Waits;
        power_cut_after_the_replaced_one_is_unloaded: Long, [["leave", "delete_module", FIRST, ""]], Awake => Waits;
    }
    revert {
        power_cut_when_the_hold_is_kept: Long, [renamed(HELD), synced(DIRECTORY)];
        power_cut_when_the_revert_is_kept: Long, [renamed(REVERTING), synced(DIRECTORY)];
        power_cut_before_disable: Long, [["enter", "write", ENABLED, ""]];
        power_cut_after_disable: Long, [["leave", "write", ENABLED, ""]];
        power_cut_after_the_reverted_one_is_unloaded: Long, [["leave", "delete_module", FIRST, ""]];
    }
}
