//! Hosts that boot one kernel and another, without a network: each gets back what was healthy on it, by the same rules as after
//! a reboot.

use livepatch_loader::step::Step;

use crate::signing::{STRANGER, info, kernel, module};
use crate::stage::At::{self, Kept, Renamed, Synced, Written};
use crate::stage::{Disk, Stage};

/// A host on which 1.1 is healthy on the first kernel and 2.1 on the second, which runs.
fn two_kernels() -> Stage {
    let mut stage = Stage::new(At::Kernel(Step::Unload), Disk::Loses);
    assert_eq!(stage.offer(1, "1.1"), "ok");
    stage.soak();
    assert_eq!((stage.reboot_into(&kernel(2)), stage.livepatches()), ("ok", vec![]));
    assert_eq!(stage.offer(1, "2.1"), "ok");
    stage.soak();
    runs(&stage, Some("livepatch_2_1"));
    stage
}

fn runs(stage: &Stage, livepatch: Option<&str>) {
    assert_eq!(stage.livepatches(), livepatch.into_iter().map(str::to_owned).collect::<Vec<_>>());
}

#[test]
fn what_was_healthy_comes_back_on_each_kernel() {
    let mut stage = two_kernels();
    for _ in 0..2 {
        assert_eq!(stage.reboot_into(&kernel(1)), "ok");
        runs(&stage, Some("livepatch_1_1"));
        assert_eq!(stage.loader.soak_left(), None, "it was healthy before");
        assert_eq!(stage.loader.view().applied.unwrap().target.version.to_string(), "1.1");
        assert_eq!(stage.reboot_into(&kernel(2)), "ok");
        runs(&stage, Some("livepatch_2_1"));
    }
    // A power cut costs what was healthy nothing, nor a boot of a kernel on which nothing was applied.
    assert_eq!(stage.crash_into(&kernel(3)), "ok");
    runs(&stage, None);
    let view = stage.loader.view();
    assert_eq!((view.applied, view.comes_back), (None, true), "on another kernel");
    assert_eq!(stage.crash_into(&kernel(1)), "ok");
    runs(&stage, Some("livepatch_1_1"));
    // What is applied there now is what comes back from now on.
    assert_eq!(stage.offer(2, "1.2"), "ok");
    stage.soak();
    stage.crash_into(&kernel(2));
    stage.crash_into(&kernel(1));
    runs(&stage, Some("livepatch_1_2"));
    assert_eq!(stage.locks(), [""; 0]);
    stage.loader.disable().unwrap();
    assert!(!stage.loader.view().comes_back);
}

/// What comes back is verified as if it were new: a module of another kernel, or of somebody else, does not.
#[test]
fn what_comes_back_on_another_kernel_is_verified() {
    for bytes in [
        STRANGER.sign(&module(&info("1.1", &kernel(1)))),
        crate::stage::good("1.1", &kernel(2)),
        b"no module".to_vec(),
    ] {
        let mut stage = two_kernels();
        stage.replace_modules(&bytes);
        let loads = stage.kernel.loads().len();
        assert_ne!(stage.reboot_into(&kernel(1)), "ok");
        runs(&stage, None);
        assert_eq!(stage.kernel.loads().len(), loads);
        assert_eq!(stage.offer(2, "1.1"), "ok");
        runs(&stage, Some("livepatch_1_1"));
    }
}

/// A host that goes down while a livepatch soaks blames that one, whichever kernel is booted next.
#[test]
fn power_cut_while_soaking_and_another_kernel_is_booted() {
    let mut stage = two_kernels();
    assert_eq!(stage.reboot_into(&kernel(1)), "ok");
    assert_eq!(stage.offer(2, "1.2"), "ok");
    // The second one loses nothing by it, in however many boots.
    for _ in 0..2 {
        assert_eq!((stage.crash_into(&kernel(2)), stage.locks()), ("ok", vec![]));
        runs(&stage, Some("livepatch_2_1"));
    }
    // On the first one the healthy one before it is back, and it waits for the operator.
    stage.reboot_into(&kernel(1));
    assert_eq!(stage.locks(), ["waiting 1.2"]);
    runs(&stage, Some("livepatch_1_1"));
    assert_eq!(stage.offer(3, "1.2"), "crash-guard-waits");
    stage.at("2026-11-25T13:00:00Z");
    assert_eq!(stage.offer_issued(4, "1.2", "2026-11-25T12:00:00Z"), "ok");
    runs(&stage, Some("livepatch_1_2"));
}

/// The only livepatch of a kernel, which is in doubt, is not brought back there.
#[test]
fn power_cut_while_the_first_one_soaks_and_another_kernel_is_booted() {
    let mut stage = Stage::new(At::Kernel(Step::Unload), Disk::Loses);
    assert_eq!(stage.offer(1, "1.1"), "ok");
    assert_eq!((stage.crash_into(&kernel(2)), stage.livepatches()), ("ok", vec![]));
    assert_eq!(stage.offer(1, "2.1"), "ok");
    stage.soak();
    for _ in 0..2 {
        assert_eq!((stage.reboot_into(&kernel(1)), stage.livepatches()), ("crash-guard-waits", vec![]));
        assert_eq!((stage.reboot_into(&kernel(2)), stage.locks()), ("ok", vec![]));
    }
}

/// One that soaks goes on from the beginning after a shutdown in good order, also with another kernel in between.
#[test]
fn a_soak_begins_anew_after_another_kernel() {
    let mut stage = two_kernels();
    assert_eq!(stage.reboot_into(&kernel(1)), "ok");
    assert_eq!(stage.offer(2, "1.2"), "ok");
    stage.reboot_into(&kernel(2));
    assert_eq!(stage.loader.soak_left(), None);
    assert_eq!(stage.reboot_into(&kernel(1)), "ok");
    runs(&stage, Some("livepatch_1_2"));
    assert_eq!(stage.loader.soak_left(), Some(livepatch_loader::guard::SOAK));
    // What was healthy before it is still known.
    stage.panic_record();
    stage.crash_into(&kernel(1));
    assert_eq!(stage.locks(), ["blocked 1.2"]);
    runs(&stage, Some("livepatch_1_1"));
}

/// The same version on another kernel is another module: a crash on one says nothing of the other.
#[test]
fn power_cut_on_one_kernel_blocks_nothing_on_another() {
    let mut stage = two_kernels();
    assert_eq!(stage.offer(2, "1.1"), "ok");
    stage.panic_record();
    assert_eq!(stage.crash_into(&kernel(1)), "ok");
    runs(&stage, Some("livepatch_1_1"));
    assert_eq!((stage.loader.soak_left(), stage.locks()), (None, vec![]));
    stage.reboot_into(&kernel(2));
    assert_eq!(stage.locks(), ["blocked 1.1"]);
    runs(&stage, Some("livepatch_2_1"));
}

/// A revert holds on the kernel on which it was said, until something is applied there.
#[test]
fn a_revert_is_of_one_kernel() {
    let mut stage = two_kernels();
    assert_eq!(stage.offer(2, "1.1"), "ok");
    stage.soak();
    stage.loader.revert().unwrap();
    assert_eq!((stage.locks(), stage.loader.view().held.is_some()), (vec!["held 1.1".to_owned()], true));
    // The first one has it still.
    stage.reboot_into(&kernel(1));
    assert_eq!((stage.locks(), stage.loader.view().held), (vec![], None));
    runs(&stage, Some("livepatch_1_1"));
    assert_eq!(stage.offer(2, "1.2"), "ok");
    // Back on the second one it is held, whatever was applied meanwhile.
    assert_eq!((stage.reboot_into(&kernel(2)), stage.offer(3, "1.1")), ("ok", "ok"));
    assert_eq!(stage.locks(), ["held 1.1"]);
    runs(&stage, None);
    // To clear the locks of one kernel is not to clear those of another.
    stage.reboot_into(&kernel(1));
    stage.loader.clear().unwrap();
    stage.reboot_into(&kernel(2));
    assert_eq!(stage.locks(), ["held 1.1"]);
    stage.loader.clear().unwrap();
    assert_eq!((stage.locks(), stage.offer(4, "1.1")), (vec![], "ok"));
    runs(&stage, Some("livepatch_1_1"));
}

/// Another livepatch ends the hold of the kernel on which it comes into force, and of no other.
#[test]
fn another_livepatch_ends_the_hold_of_its_kernel() {
    let mut stage = two_kernels();
    stage.loader.revert().unwrap();
    assert_eq!(stage.reboot_into(&kernel(1)), "ok");
    stage.loader.revert().unwrap();
    assert_eq!((stage.locks(), stage.offer(2, "1.2")), (vec!["held 1.1".to_owned()], "ok"));
    assert_eq!(stage.locks(), [""; 0]);
    stage.soak();
    stage.reboot_into(&kernel(2));
    assert_eq!((stage.locks(), stage.offer(2, "2.2")), (vec!["held 2.1".to_owned()], "ok"));
    assert_eq!(stage.locks(), [""; 0]);
    stage.reboot_into(&kernel(1));
    runs(&stage, Some("livepatch_1_2"));
    // The operator goes back: nobody holds that any more.
    assert_eq!(stage.offer(3, "1.1"), "ok");
    runs(&stage, Some("livepatch_1_1"));
}

/// A hold that was not meant comes to nothing: what the kernel does not let go of is held no more than before.
#[test]
fn a_revert_that_fails_holds_nothing() {
    let stage = two_kernels();
    stage.kernel.set_transitions(livepatch_kernel::Transitions::NeverDisable);
    assert_eq!(stage.loader.revert().unwrap_err().code, "transition-stalled");
    assert_eq!((stage.locks(), stage.loader.view().held), (vec![], None));
    runs(&stage, Some("livepatch_2_1"));
}

/// Whoever leaves the fleet leaves on all kernels, and an image has nothing that would come back on a clone.
#[test]
fn what_root_forgets_is_forgotten_on_each_kernel() {
    let disable: fn(&Stage) = |stage| stage.loader.disable().unwrap();
    let prepare: fn(&Stage) = |stage| stage.loader.prepare_image().unwrap();
    for forget in [disable, prepare] {
        let mut stage = two_kernels();
        stage.loader.revert().unwrap();
        assert!(stage.modules_kept() > 0);
        forget(&stage);
        assert_eq!((stage.modules_kept(), stage.loader.view().held), (0, None));
        for running in [1, 2, 1] {
            assert_eq!((stage.reboot_into(&kernel(running)), stage.livepatches()), ("ok", vec![]));
        }
    }
}

/// Of four kernels beside the running one it is known what comes back; of the one that ran longest ago nothing is kept, its
/// module neither.
#[test]
fn the_kernel_that_ran_longest_ago_is_forgotten() {
    let mut stage = Stage::new(At::Kernel(Step::Unload), Disk::Loses);
    for running in 1..=6 {
        stage.reboot_into(&kernel(running));
        assert_eq!(stage.offer(1, &format!("{running}.1")), "ok");
        stage.soak();
        assert_eq!(stage.reboot_into(&kernel(running)), "ok");
        assert_eq!(stage.modules_kept(), usize::from(running.min(5)), "{running}");
    }
    for (running, back) in
        [(2, Some("livepatch_2_1")), (6, Some("livepatch_6_1")), (1, None), (4, Some("livepatch_4_1"))]
    {
        assert_eq!(stage.reboot_into(&kernel(running)), "ok");
        runs(&stage, back);
    }
    // With the boot of the first one, on which nothing came back, the third one was the oldest.
    assert_eq!((stage.reboot_into(&kernel(3)), stage.livepatches(), stage.modules_kept()), ("ok", vec![], 4));
}

/// The power is cut while it is written down that another kernel runs: each still finds what it left.
#[test]
fn power_cut_while_another_kernel_is_turned_to() {
    const STATE: &str = "state.json";
    for at in [Written(STATE), Synced(STATE), Renamed(STATE), Kept(STATE)] {
        for disk in [Disk::Loses, Disk::Keeps] {
            let mut stage = Stage::new(at, disk);
            assert_eq!(stage.offer(1, "1.1"), "ok");
            stage.soak();
            assert_eq!(stage.reboot_into_the_cut(&kernel(2)), "ok");
            stage.choose(&kernel(1));
            assert_eq!((stage.boot_after_the_cut(), stage.locks()), ("ok", vec![]), "{at:?} {disk:?}");
            runs(&stage, Some("livepatch_1_1"));
            assert_eq!(stage.loader.soak_left(), None);
            stage.reboot_into(&kernel(2));
            stage.reboot_into(&kernel(1));
            runs(&stage, Some("livepatch_1_1"));
        }
    }
}

/// A loader that cannot write that another kernel runs applies nothing on it, and loses nothing.
#[test]
fn what_cannot_be_written_is_not_done() {
    let mut stage = two_kernels();
    let loads = stage.kernel.loads().len();
    assert_eq!(stage.reboot_into_without_a_disk(&kernel(1)), "state-not-written");
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (vec![], loads));
    assert_eq!(stage.loader.converge(), Ok(()));
    runs(&stage, Some("livepatch_1_1"));
    assert_eq!(stage.reboot_into(&kernel(2)), "ok");
    runs(&stage, Some("livepatch_2_1"));
}
