//! The kernel complains of a livepatch; tasks hold one up.

use livepatch_kernel::Transitions;
use livepatch_loader::step::Step;
use livepatch_observer_api::{Complaint, Seen};
use livepatch_types::PatchVersion;

use crate::stage::{At, Disk, Stage};

/// What the observer says of a livepatch, in the record of this number.
fn complaint(sequence: u64, version: &str) -> Seen {
    let complaint = Complaint {
        sequence,
        at_us: 0,
        livepatch: PatchVersion::parse(version).unwrap().module_name(),
        function: "show".into(),
        title: "WARNING: CPU: 0 PID: 1 at x.c:1 show+0x1/0x2".into(),
    };
    Seen { next: sequence + 1, gaps: 0, complaints: vec![complaint] }
}

fn stage() -> Stage {
    Stage::new(At::Kernel(Step::Unload), Disk::Keeps)
}

#[test]
fn what_soaks_and_is_complained_of_gives_way_to_the_healthy_one_after_a_boot() {
    for orderly in [true, false] {
        let mut stage = stage();
        assert_eq!(stage.offer(1, "1.1"), "ok");
        stage.soak();
        assert_eq!(stage.offer(2, "2.1"), "ok");
        stage.loader.note_complaints(&complaint(7, "2.1")).unwrap();
        assert_eq!(stage.livepatches(), ["livepatch_2_1"], "it stays in force");
        assert_eq!((stage.locks(), stage.loader.soak_left()), (vec!["with-bug 2.1".to_owned()], None));
        // A loader that is started anew in the same boot changes nothing.
        stage.restart();
        assert_eq!(
            (stage.livepatches(), stage.locks()),
            (vec!["livepatch_2_1".into()], vec!["with-bug 2.1".into()])
        );

        if orderly {
            stage.reboot()
        } else {
            stage.power_cut()
        };
        assert_eq!(stage.livepatches(), ["livepatch_1_1"], "{orderly}");
        assert_eq!(
            (stage.offer(3, "2.1"), stage.livepatches()),
            ("kernel-complained", vec!["livepatch_1_1".into()])
        );
        assert_eq!((stage.offer(4, "3.1"), stage.livepatches()), ("ok", vec!["livepatch_3_1".into()]));
    }
}

#[test]
fn what_was_healthy_does_not_come_back_either_until_root_says_so() {
    let mut stage = stage();
    assert_eq!(stage.offer(1, "1.1"), "ok");
    stage.soak();
    stage.loader.note_complaints(&complaint(7, "1.1")).unwrap();
    assert_eq!(stage.reboot(), "kernel-complained");
    assert_eq!((stage.livepatches(), stage.locks()), (vec![], vec!["with-bug 1.1".to_owned()]));

    stage.loader.clear().unwrap();
    assert_eq!((stage.restart(), stage.livepatches()), ("ok", vec!["livepatch_1_1".into()]));
    // What was complained of before root said so does not count again, what is new does.
    stage.loader.note_complaints(&complaint(7, "1.1")).unwrap();
    stage.loader.clear().unwrap();
    stage.loader.note_complaints(&complaint(7, "1.1")).unwrap();
    assert_eq!(stage.locks().len(), 0);
    stage.loader.note_complaints(&complaint(8, "1.1")).unwrap();
    assert_eq!(stage.locks(), ["with-bug 1.1"]);
    // It can be reverted as any other, and stays known.
    stage.loader.revert().unwrap();
    assert_eq!(
        (stage.livepatches(), stage.locks()),
        (vec![], vec!["held 1.1".into(), "with-bug 1.1".to_owned()])
    );
}

#[test]
fn what_is_complained_of_right_before_a_shutdown_is_known() {
    let mut stage = stage();
    assert_eq!(stage.offer(1, "1.1"), "ok");
    stage.soak();
    *stage.told.0.lock().unwrap() = complaint(7, "1.1");
    assert_eq!(stage.locks().len(), 0, "nobody has looked");
    assert_eq!(stage.reboot(), "kernel-complained");
    assert_eq!((stage.livepatches(), stage.locks()), (vec![], vec!["with-bug 1.1".to_owned()]));
}

#[test]
fn the_observers_word_does_nothing_but_make_more_careful() {
    let stage = stage();
    assert_eq!(stage.offer(1, "1.1"), "ok");
    for version in ["2.1", "9.9"] {
        stage.loader.note_complaints(&complaint(u64::MAX - 1, version)).unwrap();
    }
    assert_eq!((stage.livepatches(), stage.locks()), (vec!["livepatch_1_1".into()], vec![]));
    assert_eq!(stage.kernel.loads().len(), 1);
}

#[test]
fn who_holds_up_a_transition_is_named() {
    let stage = stage();
    stage.kernel.set_transitions(Transitions::NeverEnable);
    assert_eq!(stage.offer(1, "1.1"), "transition-stalled");
    let locks = stage.loader.view().locks;
    let named: Vec<_> = locks[0].hints.iter().filter(|hint| hint.starts_with("it was held up by ")).collect();
    let (first, last) = (named.first().unwrap(), named.last().unwrap());
    assert_eq!(*first, "it was held up by sleeper (pid 20, thread 21): hrtimer_nanosleep < do_nanosleep");
    assert_eq!((named.len(), last.as_str()), (5, "it was held up by 5 more"));
}
