//! The debug information of an object: nothing in it differs from itself, and whatever differs from that of a seed can
//! be said in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_klp::debug::DebugInfo;
use livepatch_klp::debug::layout::{TypeChanges, compare};
use livepatch_klp::elf::Object;

const SEED: &[u8] = include_bytes!("../seeds/debug_info/members_of_nameless_structures");

fn read(data: &[u8]) -> Option<DebugInfo> {
    DebugInfo::read(&Object::parse(data).ok()?).ok()?
}

fuzz_target!(|data: &[u8]| {
    let Some(info) = read(data) else { return };
    for facts in info.functions().values() {
        assert!(facts.inlined_into.iter().all(|name| !name.contains('\0')));
    }
    if let Ok(changes) = compare(&info, &info) {
        assert_eq!(changes, TypeChanges::default());
    }
    let Some(seed) = read(SEED) else { return };
    for change in compare(&seed, &info).into_iter().flat_map(|changes| changes.layouts) {
        assert!(!change.place().is_empty() && !change.why().is_empty());
    }
});
