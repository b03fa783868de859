use jiff::Timestamp;
use livepatch_manifest::{ModuleObject, Target};
use livepatch_types::Sha256Digest;

use super::*;

fn build_id(kernel: u8) -> BuildId {
    BuildId::from_bytes(&[kernel; 20]).unwrap()
}

fn version(minor: u8) -> PatchVersion {
    PatchVersion::parse(&format!("1.{minor}")).unwrap()
}

fn applied(kernel: u8, minor: u8) -> Applied {
    let module = ModuleObject { sha256: Sha256Digest::from_bytes([minor; 32]), size_bytes: 1 };
    let target = Target { version: version(minor), module, cves: vec![], released: Timestamp::UNIX_EPOCH };
    Applied { target, build_id: build_id(kernel), at: Timestamp::UNIX_EPOCH }
}

fn soaking(kernel: u8, minor: u8) -> Soaking {
    Soaking {
        version: version(minor),
        build_id: build_id(kernel),
        boot_id: "b".into(),
        at: Timestamp::UNIX_EPOCH,
        began_seconds: 60,
        closed: true,
    }
}

/// A host on which 1.2 soaked on a kernel, and 1.1 was healthy before.
fn on(kernel: u8) -> State {
    State {
        applied: Some(applied(kernel, 2)),
        soaking: Some(soaking(kernel, 2)),
        healthy_before: Some(applied(kernel, 1)),
        ..State::default()
    }
}

fn turned(state: &State, kernel: u8) -> State {
    let mut state = state.clone();
    state.turn_to(&build_id(kernel));
    state
}

/// Kernel and version of what would come back, the running kernel's first.
fn back(state: &State) -> Vec<(u8, u32)> {
    let of = |applied: &Applied| (applied.build_id.as_bytes()[0], applied.target.version.minor());
    state.may_come_back().map(of).collect()
}

#[test]
fn each_kernel_finds_what_it_left() {
    let first = on(1);
    assert_eq!(turned(&first, 1), first, "the same kernel");
    let second = turned(&first, 2);
    assert_eq!((&second.applied, &second.soaking, &second.healthy_before), (&None, &None, &None));
    let (soaking, healthy_before) = (Some(soaking(1, 2)), Some(applied(1, 1)));
    let expected = OtherKernel { applied: applied(1, 2), soaking, healthy_before };
    assert_eq!(second.other_kernels, [expected]);
    assert_eq!(turned(&second, 1), first);
    // Nothing was applied there: it takes no place.
    assert_eq!(turned(&turned(&second, 3), 1), first);
    // Something was: each finds its own, in whichever order they run.
    let second = State { applied: Some(applied(2, 5)), ..second };
    let third = State { applied: Some(applied(3, 6)), ..turned(&second, 3) };
    assert_eq!(back(&third), [(3, 6), (1, 2), (1, 1), (2, 5)]);
    for (state, expected) in [
        (turned(&third, 1), [(1, 2), (1, 1), (2, 5), (3, 6)]),
        (turned(&turned(&third, 1), 2), [(2, 5), (3, 6), (1, 2), (1, 1)]),
        (turned(&turned(&third, 2), 1), [(1, 2), (1, 1), (3, 6), (2, 5)]),
    ] {
        assert_eq!(back(&state), expected);
        assert_eq!(state.soaking.is_some(), state.applied == first.applied);
    }
}

/// Those that ran last are remembered beside the running one.
#[test]
fn the_oldest_are_forgotten() {
    let mut state = State::default();
    for kernel in 1..=MOST_OTHERS as u8 + 1 {
        state = State { applied: Some(applied(kernel, kernel)), ..turned(&state, kernel) };
    }
    assert_eq!(back(&state), [(5, 5), (1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(back(&turned(&state, 1)), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], "one that is remembered");
    assert_eq!(back(&turned(&state, 9)), [(2, 2), (3, 3), (4, 4), (5, 5)], "one that is not");
}

/// They leave the room in the file that documents and markers need, whatever is in them.
#[test]
fn they_fill_no_more_than_so_much() {
    let cves = |kernel: u8, count: usize| {
        let entry = serde_json::json!({"id": "CVE-2026-0001", "coverage": "whole", "rating": "low", "title": "x".repeat(count)});
        let mut applied = applied(kernel, kernel);
        applied.target.cves = vec![serde_json::from_value(entry).unwrap()];
        applied
    };
    let of = |titles: &[usize]| {
        let mut state = State::default();
        for (kernel, title) in (1..).zip(titles) {
            state = State { applied: Some(cves(kernel, *title)), ..turned(&state, kernel) };
        }
        turned(&state, 9)
    };
    // The last byte counts.
    let empty = of(&[0, 0]).bytes_of_others() as usize;
    let most = MAX_OTHERS_BYTES as usize - empty;
    assert_eq!(of(&[most - 1, 1]).bytes_of_others(), MAX_OTHERS_BYTES);
    assert_eq!(back(&of(&[most - 1, 1])), [(1, 1), (2, 2)]);
    assert_eq!(back(&of(&[most - 1, 2])), [(2, 2)], "the oldest goes");
    assert_eq!(back(&of(&[1, MAX_OTHERS_BYTES as usize])), [], "or all, if the last one is too long");
    // It is what they take in the file.
    let state = of(&[700, 800]);
    let [with, without] = [state.clone(), State { other_kernels: vec![], ..state.clone() }]
        .map(|state| serde_json::to_vec_pretty(&state).unwrap().len() as u64);
    assert_eq!(state.bytes_of_others(), with - without);
}

/// What is remembered of the running kernel goes before what was laid aside of it.
#[test]
fn the_newer_one_counts() {
    let older = OtherKernel { applied: applied(1, 1), soaking: None, healthy_before: None };
    let state = State { other_kernels: vec![older], ..on(1) };
    assert_eq!(turned(&state, 1), on(1));
    assert_eq!(turned(&turned(&state, 2), 1), on(1));
}

/// An earlier version kept the healthy livepatch of a former kernel beside the one that soaked on another.
#[test]
fn what_an_earlier_version_left() {
    let state = State { healthy_before: Some(applied(2, 1)), ..on(1) };
    let here = turned(&state, 1);
    assert_eq!((&here.applied, &here.soaking), (&state.applied, &state.soaking));
    assert_eq!((here.healthy_before.as_ref(), back(&here)), (None, vec![(1, 2), (2, 1)]));
    assert_eq!(back(&turned(&state, 2)), [(2, 1), (1, 2)]);
    assert_eq!(back(&turned(&state, 3)), [(2, 1), (1, 2)], "in the order in which they ran");
}

#[test]
fn what_is_held_on_which_kernel() {
    let mut state = State::default();
    let held =
        |state: &State| [1, 2, 3].map(|kernel| state.held_on(&build_id(kernel)).map(|held| held.minor()));
    state.hold(version(1), &build_id(1));
    state.hold(version(2), &build_id(2));
    assert_eq!(held(&state), [Some(1), Some(2), None]);
    // One of each kernel, the last.
    state.hold(version(3), &build_id(1));
    assert_eq!((held(&state), state.holds.len()), ([Some(3), Some(2), None], 2));
    state.release(&build_id(1));
    assert_eq!(held(&state), [None, Some(2), None]);
    // That of an earlier version counts where nothing else is held, and ends as it did there.
    state.held = Some(version(7));
    assert_eq!(held(&state), [Some(7), Some(2), Some(7)]);
    state.release(&build_id(3));
    assert_eq!(held(&state), [None, Some(2), None]);
}
