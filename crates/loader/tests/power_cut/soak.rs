//! While a livepatch soaks, when it is healthy, and after an end in good order.

use std::time::Duration;

use livepatch_loader::step::Step;

use crate::signing::{STRANGER, info, kernel, module};
use crate::stage::{At, Disk, Stage};

/// A host on which 1.1 came into force just now.
fn soaking() -> Stage {
    let stage = Stage::new(At::Kernel(Step::Unload), Disk::Loses);
    stage.at("2026-11-24T12:00:00Z");
    assert_eq!(stage.offer(1, "1.1"), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    assert!(stage.loader.soak_left().is_some());
    stage
}

#[test]
fn power_cut_while_soaking_waits_for_the_operator_and_is_tried_once() {
    let mut stage = soaking();
    assert_eq!(stage.power_cut(), "crash-guard-waits");
    assert_eq!((stage.livepatches(), stage.locks()), (vec![], vec!["waiting 1.1".to_owned()]));
    // A document that is too early says nothing.
    assert_eq!(stage.offer_issued(2, "1.1", "2026-11-24T12:15:00Z"), "crash-guard-waits");
    // The operator still wants it: it is loaded, and soaks.
    assert_eq!(stage.offer_issued(3, "1.1", "2026-11-24T12:15:01Z"), "ok");
    assert_eq!((stage.livepatches(), stage.locks()), (vec!["livepatch_1_1".to_owned()], vec![]));
    // In good order it comes back, and is not tried out by that.
    assert_eq!((stage.reboot(), stage.livepatches()), ("ok", vec!["livepatch_1_1".to_owned()]));
    // The second time is the last.
    assert_eq!((stage.power_cut(), stage.livepatches()), ("crash-guard", vec![]));
    stage.at("2026-11-25T13:00:00Z");
    assert_eq!(stage.offer_issued(5, "1.1", "2026-11-25T12:00:00Z"), "crash-guard");
    assert_eq!(stage.locks(), ["blocked 1.1"]);
}

#[test]
fn power_cut_after_the_retry_is_healthy_costs_nothing() {
    let mut stage = soaking();
    stage.power_cut();
    stage.at("2026-11-24T13:00:00Z");
    assert_eq!(stage.offer_issued(2, "1.1", "2026-11-24T12:30:00Z"), "ok");
    stage.soak();
    for _ in 0..2 {
        assert_eq!((stage.power_cut(), stage.livepatches()), ("ok", vec!["livepatch_1_1".to_owned()]));
        assert_eq!(stage.loader.soak_left(), None, "it was healthy before");
    }
}

#[test]
fn power_cut_while_soaking_with_a_record_of_a_panic_blocks() {
    let mut stage = soaking();
    stage.panic_record();
    assert_eq!((stage.power_cut(), stage.livepatches()), ("crash-guard", vec![]));
    let locks = stage.loader.view().locks;
    assert!(locks[0].hints[0].contains("pstore/dmesg-efi-1"), "{locks:?}");
    stage.at("2026-11-25T13:00:00Z");
    assert_eq!(stage.offer_issued(2, "1.1", "2026-11-25T12:00:00Z"), "crash-guard");
    stage.loader.clear().unwrap();
    assert_eq!((stage.offer_issued(3, "1.1", "2026-11-25T12:00:00Z"), stage.locks().len()), ("ok", 0));
    assert!(stage.loader.soak_left().is_some(), "it proves itself anew");
}

#[test]
fn power_cut_when_it_is_healthy_costs_nothing() {
    let mut stage = soaking();
    stage.soak();
    stage.panic_record();
    for _ in 0..3 {
        assert_eq!((stage.power_cut(), stage.livepatches()), ("ok", vec!["livepatch_1_1".to_owned()]));
    }
}

#[test]
fn a_shutdown_in_good_order_blames_nothing_and_the_soak_begins_anew() {
    let mut stage = soaking();
    stage.kernel.pass(Duration::from_secs(600));
    for _ in 0..2 {
        assert_eq!((stage.reboot(), stage.livepatches()), ("ok", vec!["livepatch_1_1".to_owned()]));
        assert_eq!(stage.loader.soak_left(), Some(livepatch_loader::guard::SOAK));
    }
    assert_eq!(stage.power_cut(), "crash-guard-waits");
}

/// An end of the loader is none of the host.
#[test]
fn power_cut_after_the_loader_was_started_anew() {
    let mut stage = soaking();
    stage.kernel.pass(Duration::from_secs(600));
    stage.loader.close();
    assert_eq!(stage.restart(), "ok");
    assert_eq!(stage.loader.soak_left(), Some(Duration::from_secs(300)), "it soaks on");
    assert_eq!(stage.power_cut(), "crash-guard-waits");
}

/// What comes back is verified as if it were new.
#[test]
fn power_cut_and_a_module_of_a_stranger_on_the_disk() {
    let mut stage = soaking();
    stage.soak();
    stage.replace_modules(&STRANGER.sign(&module(&info("1.1", &kernel(1)))));
    assert_eq!((stage.power_cut(), stage.livepatches()), ("tampered-module", vec![]));
    assert_eq!(stage.offer(2, "1.1"), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
}
