//! Whatever is read as a bundle is written back to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_manifest::{Bundle, PatchManifest, VendorFiles};

fuzz_target!(|data: &[u8]| {
    if let Ok(bundle) = Bundle::parse(data) {
        assert_eq!(bundle.to_bytes(), data);
        if let Ok(Some(files)) = bundle.parsed_vendor() {
            assert_eq!(VendorFiles::parse(&files.to_bytes()).as_ref(), Ok(&files));
        }
    }
    // The digest of the module keeps most mutants out; the manifest is reached without it too.
    if let Ok(manifest) = serde_json::from_slice::<PatchManifest>(data) {
        let bytes = serde_json::to_vec(&manifest).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<PatchManifest>(&bytes).expect("and read again"), manifest);
    }
});
