//! What tests of this and other crates share: the fetched kernels.

use std::path::{Path, PathBuf};

use crate::{KernelTree, SignedBoot, VmError, strip};

/// Where `cargo xtask fetch` puts kernels, if not in `target/kernels` of the workspace.
pub const KERNELS: &str = "LIVEPATCH_KERNELS";
/// When set to 1, a test that cannot run a VM fails instead of being skipped.
pub const REQUIRE_VM: &str = "LIVEPATCH_REQUIRE_VM";

/// A kernel of demo.toml, as `cargo xtask fetch` left it.
#[derive(Debug, Clone)]
pub struct FetchedKernel {
    /// Its directory: `image/`, `headers/`, `packages/` (the .debs), `carve/` (`old/`, `new/`, `CVE.patch`).
    pub directory: PathBuf,
    /// The kernel and its modules.
    pub tree: KernelTree,
}

/// The directory with fetched kernels.
pub fn kernels_directory() -> PathBuf {
    match std::env::var_os(KERNELS) {
        Some(directory) => directory.into(),
        None => workspace().join("target/kernels"),
    }
}

/// The workspace that this crate was compiled in.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Programs of ours that run in guests.
pub const GUEST_PROGRAMS: [&str; 4] = ["livepatchd", "livepatch-loader", "livepatch-observer", "livepatch"];

/// Takes them, as they are built in `target/debug`, to where guests get them from; gives that directory.
pub fn take_guest_programs() -> Result<PathBuf, VmError> {
    let (built, taken) = (workspace().join("target/debug"), guest_directory()?);
    for name in GUEST_PROGRAMS {
        strip(&built.join(name), &taken.join(name))?;
    }
    Ok(taken)
}

/// Where programs for guests are.
pub fn guest_directory() -> Result<PathBuf, VmError> {
    let directory = workspace().join("target/guest");
    let made = std::fs::create_dir_all(&directory);
    made.map_err(|e| VmError::io(format!("make {}", directory.display()), e))?;
    Ok(directory)
}

/// A fetched kernel by its name in demo.toml. Without it a test cannot run: then this says loudly that the
/// test is skipped and gives `None`, or is an error when [`REQUIRE_VM`] is set.
pub fn kernel(name: &str) -> Result<Option<FetchedKernel>, VmError> {
    let directory = kernels_directory().join(name);
    if directory.join("image").is_dir() {
        let tree = KernelTree::open(&directory.join("image"))?;
        return Ok(Some(FetchedKernel { directory, tree }));
    }
    missing(VmError::NotFetched { name: name.into(), dir: kernels_directory() })
}

/// Where the boot loaders that Debian signed are, beside the kernels.
pub const BOOT_LOADERS: &str = "boot-loaders";

/// The boot loaders that start Debian's kernels under Secure Boot. Without them a test cannot run: see [`kernel`].
pub fn signed_boot() -> Result<Option<SignedBoot>, VmError> {
    let dir = kernels_directory().join(BOOT_LOADERS);
    let names = ["shimx64.efi.signed", "grubx64.efi.signed", "mmx64.efi.signed"];
    let [shim, grub, mok_manager] = names.map(|name| dir.join(name));
    if shim.exists() && grub.exists() && mok_manager.exists() {
        return Ok(Some(SignedBoot { shim, grub, mok_manager, variables: None }));
    }
    missing(VmError::NoBootLoaders { dir })
}

/// What a test needs is not here.
fn missing<T>(error: VmError) -> Result<Option<T>, VmError> {
    if std::env::var_os(REQUIRE_VM).is_some_and(|value| value == "1") {
        return Err(error);
    }
    skipped(&format!("{error}; run cargo xtask setup && cargo xtask fetch"));
    Ok(None)
}

/// Says loudly, past the test harness which would hide it, that the test of this thread is skipped, and why.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {test}: {why}\n").as_bytes());
}
