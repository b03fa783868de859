//! The kernel's log, records apart by NUL: no panic, and what is told is within its caps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_observer::kmsg::Record;
use livepatch_observer::{Complaints, Livepatches, refused_module};
use livepatch_types::ModuleName;

fuzz_target!(|data: &[u8]| {
    let mut complaints = Complaints::default();
    let known = || {
        let mut known = Livepatches::default();
        if let Ok(livepatch) = ModuleName::parse("livepatch_1_1") {
            known.add(livepatch.clone(), "vmlinux", "do_wait");
            known.add(livepatch, "cls_u32", "u32_change");
        }
        known
    };
    for record in data.split(|byte| *byte == 0).filter_map(Record::parse) {
        for complaint in complaints.push(record, known) {
            assert!(record.of_kernel);
            assert!(complaint.title.len() <= 200 && complaint.function.len() <= 200);
            assert!(complaint.livepatch.as_str().starts_with("livepatch_"));
        }
        if let Some(refused) = refused_module(record, known) {
            assert!(record.of_kernel);
            assert_eq!((refused.livepatch.as_str(), refused.module.as_str()), ("livepatch_1_1", "cls_u32"));
        }
    }
});
