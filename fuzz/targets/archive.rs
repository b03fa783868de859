//! What an archive says: `Release`, `Packages`, a package's kernel image, the index made of them. Paths stay below the
//! archive, and an index that was read is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_archive::clear_signed::check_frame;
use livepatch_archive::deb::kernel_image;
use livepatch_archive::packages::{is_kernel_image, kernel_images, readable};
use livepatch_archive::{KernelIndex, ReleaseFile, unpack_xz};

/// What an input unpacks to at most, so that a run stays short.
const MOST_BYTES: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    _ = check_frame(data);
    _ = kernel_image(data);
    if let Ok(unpacked) = unpack_xz(data, MOST_BYTES) {
        assert!(unpacked.len() as u64 <= MOST_BYTES);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        _ = ReleaseFile::parse(text);
    }
    for package in kernel_images(data).unwrap_or_default() {
        let path = package.path.as_str();
        assert!(
            !path.starts_with('/') && !path.split('/').any(|part| part.is_empty() || part.starts_with('.'))
        );
        assert!(is_kernel_image(&package.entry.package));
    }
    for package in readable(data).unwrap_or_default() {
        assert!(!package.file_name().contains(['/', '\0']));
    }
    if let Ok(index) = KernelIndex::parse(data) {
        assert_eq!(KernelIndex::parse(&index.to_bytes()).as_ref(), Ok(&index));
    }
});
