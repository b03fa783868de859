//! `Module.symvers`: each line that was read is found by its name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_klp::symvers::Exports;

fuzz_target!(|text: &str| {
    let Ok(exports) = Exports::parse(text) else { return };
    for line in text.lines() {
        let name = line.split('\t').nth(1).expect("a line that was read has a name");
        assert!(exports.get(name).is_some());
    }
});
