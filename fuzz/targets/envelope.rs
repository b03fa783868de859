//! As an envelope, the input is never believed unless its key signed it; as a payload, it is signed and then read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_fuzz::{channel, kernel, sign_envelope, verifying_key};
use livepatch_manifest::document::PAYLOAD_TYPE;
use livepatch_manifest::envelope::MAX_ENVELOPE_BYTES;
use livepatch_manifest::{KernelDocument, envelope};

fuzz_target!(|data: &[u8]| {
    let trusted = [verifying_key()];
    let _ = envelope::open(data, PAYLOAD_TYPE, &trusted);
    let _ = KernelDocument::open(data, &trusted, &kernel(), &channel(), 1);

    let signed = sign_envelope(data);
    if signed.len() <= MAX_ENVELOPE_BYTES {
        assert_eq!(envelope::open(&signed, PAYLOAD_TYPE, &trusted).as_deref(), Ok(data));
        if let Ok(document) = KernelDocument::open(&signed, &trusted, &kernel(), &channel(), 1) {
            let again = sign_envelope(&document.to_payload());
            assert_eq!(KernelDocument::open(&again, &trusted, &kernel(), &channel(), 1), Ok(document));
        }
    }
});
