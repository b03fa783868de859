//! The kernel complains of a livepatch; tasks hold one up.

use std::sync::Arc;

use livepatch_api::daemon::Failure;
use livepatch_kernel::{LoadedModule, Transitions};
use livepatch_loader::Loader;
use livepatch_loader::step::Step;
use livepatch_observer_api::{Complaint, RefusedModule, Seen};
use livepatch_types::{BuildId, ModuleName, PatchVersion};

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
    Seen { next: sequence + 1, complaints: vec![complaint], ..Seen::default() }
}

/// What it says of a module that a livepatch kept out.
fn refused(sequence: u64, version: &str, module: &str) -> Seen {
    let livepatch = PatchVersion::parse(version).unwrap().module_name();
    let refused = RefusedModule { sequence, livepatch, module: ModuleName::parse(module).unwrap() };
    Seen { next: sequence + 1, refused: vec![refused], ..Seen::default() }
}

/// The modules that a loader says are kept out.
fn kept_out(loader: &Loader) -> Vec<String> {
    let of = |failure: Failure| {
        assert_eq!(failure.code, "module-refused");
        let rest = failure.message.strip_prefix("the kernel keeps out module ").unwrap();
        rest.split(':').next().unwrap().to_owned()
    };
    loader.view().refused_modules.into_iter().map(of).collect()
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
fn a_module_that_is_kept_out_is_told_and_changes_nothing() {
    let stage = stage();
    assert_eq!(stage.offer(1, "1.1"), "ok");
    let of_others = refused(5, "9.9", "veth");
    for seen in
        [of_others, refused(6, "1.1", "veth"), refused(7, "1.1", "cls_u32"), refused(8, "1.1", "veth")]
    {
        stage.loader.note_complaints(&seen).unwrap();
    }
    assert_eq!(kept_out(&stage.loader), ["cls_u32", "veth"]);
    assert_eq!((stage.livepatches(), stage.locks()), (vec!["livepatch_1_1".into()], vec![]));
    assert_eq!((stage.kernel.loads().len(), stage.loader.view().problem), (1, None));

    // One is loaded after all; that it is unloaded later does not bring the word back.
    let loaded = LoadedModule {
        name: ModuleName::parse("veth").unwrap(),
        build_id: Some(BuildId::from_bytes(&[1; 20]).unwrap()),
    };
    stage.kernel.set_modules(vec![(loaded, None)]);
    assert_eq!(kept_out(&stage.loader), ["cls_u32"]);
    stage.kernel.set_modules(vec![]);
    assert_eq!(kept_out(&stage.loader), ["cls_u32"]);

    // However many there are, a few are named.
    for number in 0..40 {
        stage.loader.note_complaints(&refused(10 + number, "1.1", &format!("m{number}"))).unwrap();
    }
    assert_eq!((kept_out(&stage.loader).len(), kept_out(&stage.loader)[0].as_str()), (16, "m24"));

    // The livepatch goes.
    stage.loader.revert().unwrap();
    assert_eq!(kept_out(&stage.loader).len(), 0);
}

#[test]
fn a_loader_that_is_started_anew_hears_of_what_was_kept_out_before() {
    let mut stage = stage();
    assert_eq!(stage.offer(1, "1.1"), "ok");
    // The complaint after it is noted on the disk.
    let seen = Seen { complaints: complaint(8, "1.1").complaints, next: 9, ..refused(7, "1.1", "veth") };
    *stage.told.0.lock().unwrap() = seen.clone();
    stage.loader.note_complaints(&seen).unwrap();
    assert_eq!(kept_out(&stage.loader), ["veth"]);
    stage.restart();
    assert_eq!((kept_out(&stage.loader).len(), stage.locks()), (0, vec!["with-bug 1.1".to_owned()]));
    let loader = Arc::clone(&stage.loader);
    std::thread::spawn(move || loader.watch_log());
    while kept_out(&stage.loader).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(kept_out(&stage.loader), ["veth"]);
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
