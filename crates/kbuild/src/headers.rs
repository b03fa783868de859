//! Headers for authors of patches: what their patches include beside the kernel's own.
//!
//! They are part of this program, so that what it reads and what authors write always agree; the package installs the
//! same files to be read.

/// The text of one of them.
macro_rules! header {
    ($path:literal) => {
        include_str!(concat!("../../../dist/livepatch-builder/usr/share/livepatch-builder/include/", $path))
    };
}

/// Where they are in a mirror.
pub(crate) const DIRECTORY: &str = ".livepatch/include";

/// Path below [`DIRECTORY`], and text.
pub(crate) const HEADERS: [(&str, &str); 3] = [
    ("livepatch/author.h", header!("livepatch/author.h")),
    ("kpatch-macros.h", header!("kpatch-macros.h")),
    ("kpatch-syscall.h", header!("kpatch-syscall.h")),
];
