//! The kernel's log, records apart by NUL: no panic, and what is told is within its caps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_observer::kmsg::Record;
use livepatch_observer::{Complaints, Livepatches};
use livepatch_types::ModuleName;

fuzz_target!(|data: &[u8]| {
    let mut complaints = Complaints::default();
    let known = || {
        let mut known = Livepatches::default();
        if let Ok(livepatch) = ModuleName::parse("livepatch_1_1") {
            known.add(livepatch, "vmlinux", "do_wait");
        }
        known
    };
    for record in data.split(|byte| *byte == 0).filter_map(Record::parse) {
        for complaint in complaints.push(record, known) {
            assert!(record.of_kernel);
            assert!(complaint.title.len() <= 200 && complaint.function.len() <= 200);
            assert!(complaint.livepatch.as_str().starts_with("livepatch_"));
        }
    }
});
