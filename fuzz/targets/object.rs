//! An object is read, written and read again to the same bytes. As a unit it is compared with itself, and what comes
//! of that is taken out and written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_klp::compare::compare;
use livepatch_klp::elf::Object;
use livepatch_klp::extract::extract;
use livepatch_klp::{EntrySizes, Unit};

/// Sizes of a 6.1 kernel.
const SIZES: EntrySizes =
    EntrySizes { alt_instr: 12, bug_entry: 12, exception_entry: 12, jump_entry: 16, paravirt_site: 16 };

fuzz_target!(|data: &[u8]| {
    let Ok(object) = Object::parse(data) else { return };
    let written = object.to_bytes();
    if let Ok(again) = Object::parse(&written) {
        assert_eq!(again.to_bytes(), written);
    }
    let Ok(unit) = Unit::parse(data, &SIZES) else { return };
    let Ok(comparison) = compare(&unit, &unit) else { return };
    if let Ok(Some(extracted)) = extract(&unit, &unit, &comparison, 0) {
        let written = extracted.object.to_bytes();
        assert_eq!(Object::parse(&written).expect("what was extracted reads back").to_bytes(), written);
    }
});
