//! A patch as an author sends it: its paths stay inside the source tree, and it applies to the same tree the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_kbuild::SourcePatch;

fuzz_target!(|text: &str| {
    let Ok(patch) = SourcePatch::parse(text) else { return };
    for path in patch.paths() {
        assert!(
            !path.starts_with('/') && !path.split('/').any(|part| part == ".." || part.is_empty()),
            "{path:?}"
        );
    }
    let _ = patch.sources();
});
