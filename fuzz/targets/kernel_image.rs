//! `vmlinuz` or a bare vmlinux: whatever is found in it can be looked up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_kimage::KernelImage;

fuzz_target!(|data: &[u8]| {
    let Ok(image) = KernelImage::parse(data) else { return };
    for symbol in image.symbols.all().iter().take(100) {
        assert!(image.symbols.sympos(&symbol.name, symbol.address).is_some());
        let _ = image.bytes_at(symbol.address, 16);
    }
});
