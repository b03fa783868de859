//! End to end: what several crates do together, on the real kernel. This library holds what those tests share.
//!
//! Tests that need a kernel take it from `cargo xtask fetch`, and prepared source trees from one cache, so that the
//! whole suite downloads and prepares each kernel once.

pub mod corpus;
pub mod guest;
pub mod kpatch;

use std::path::{Path, PathBuf};

use livepatch_build::error::BuildError;
use livepatch_build::pipeline::{Built, KernelRequest, LivepatchRequest, Omissions, PatchRequest, build};
use livepatch_kbuild::{Environment, KernelOrigin};
use livepatch_manifest::CveEntry;
use livepatch_types::{CveCoverage, CveId, PatchVersion, Rating, SystemClock};
use livepatch_vm::testing::{FetchedKernel, kernel, workspace};

/// The kernel that the end-to-end tests run on, or none when it is not here and need not be.
pub fn cloud_kernel() -> Option<FetchedKernel> {
    fetched("debian-12-cloud-6.1")
}

/// The newer kernel of the same distribution: IBT, call padding, prefix symbols, runtime constants.
pub fn newer_cloud_kernel() -> Option<FetchedKernel> {
    fetched("debian-12-cloud-6.12")
}

/// The kernel of [`cloud_kernel`] as Debian has it for hardware: only `cargo xtask test --long` fetches it.
pub fn generic_kernel() -> Option<FetchedKernel> {
    fetched("debian-12-generic-6.1")
}

#[expect(clippy::panic, reason = "a kernel that must be there and is not fails the test")]
fn fetched(name: &str) -> Option<FetchedKernel> {
    match kernel(name) {
        Ok(kernel) => kernel,
        Err(error) => panic!("{error}"),
    }
}

/// Where prepared source trees are kept, if not in `target/cache` of the workspace.
pub const CACHE: &str = "LIVEPATCH_CACHE";

/// Where prepared source trees are kept: shared by tests and demo.
pub fn cache() -> PathBuf {
    match std::env::var_os(CACHE) {
        Some(directory) => directory.into(),
        None => workspace().join("target/cache"),
    }
}

/// Where the files of a fetched kernel are.
pub fn kernel_request(kernel: &FetchedKernel) -> KernelRequest {
    KernelRequest {
        kernel: KernelOrigin::Packages {
            image: kernel.directory.join("image"),
            headers: kernel.directory.join("headers"),
        },
        source: source_package(kernel),
        source_patches: None,
        environment: Environment::new(&cache()),
        cache: cache(),
    }
}

/// Version 1.1, for a CVE that the demo fixes.
pub fn livepatch_request() -> LivepatchRequest {
    LivepatchRequest {
        cves: vec![CveEntry {
            id: "CVE-2026-93146".parse::<CveId>().unwrap_or_else(|_| unreachable!("a CVE id")),
            coverage: CveCoverage::Whole,
            rating: Rating::High,
            title: String::new(),
        }],
        version: PatchVersion::parse("1.1").unwrap_or_else(|_| unreachable!("a version")),
        omissions: Omissions::MustBeArgued,
        keep_debug: false,
    }
}

/// The source package that the kernel was built from: `cargo xtask fetch` says in kernel.toml which one it is.
pub fn source_package(kernel: &FetchedKernel) -> PathBuf {
    source_package_of(kernel, "old")
}

/// The source package that has the fixes.
pub fn newer_source_package(kernel: &FetchedKernel) -> PathBuf {
    source_package_of(kernel, "new")
}

#[expect(clippy::panic, reason = "a missing fixture fails the test")]
fn source_package_of(kernel: &FetchedKernel, which: &str) -> PathBuf {
    let path = kernel.directory.join("kernel.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let word = |name: &str| table["source"][name].as_str().unwrap_or_default().to_owned();
    kernel.directory.join(format!("packages/{}_{}_all.deb", word("package"), word(which)))
}

/// The carved patch of one of the fixes in demo.toml.
#[expect(clippy::panic, reason = "a missing fixture fails the test")]
pub fn carved_patch(kernel: &FetchedKernel, cve: &str) -> String {
    let path = kernel.directory.join(format!("carve/{cve}.patch"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A unified diff that replaces one line of a source file, the first with the text `old`; made from the kernel's own
/// source, so that nothing of it stands in a test.
#[expect(clippy::panic, reason = "a missing fixture fails the test")]
pub fn replace_line(source: &Path, path: &str, old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(source.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains(old))
        .unwrap_or_else(|| panic!("{old:?} is not in {path}"));
    let replaced = lines[at].replace(old, new);
    let count = 1 + replaced.matches('\n').count();
    let replaced: Vec<String> = replaced.lines().map(|line| format!("+{line}")).collect();
    format!(
        "--- a/{path}\n+++ b/{path}\n@@ -{0},3 +{0},{1} @@\n {2}\n-{3}\n{4}\n {5}\n",
        at,
        2 + count,
        lines[at - 1],
        lines[at],
        replaced.join("\n"),
        lines[at + 1]
    )
}

/// Builds patches for a kernel, as version 1.1.
pub fn build_patches(kernel: &FetchedKernel, patches: &[String]) -> Result<Built, BuildError> {
    let patches = PatchRequest { patches: patches.to_vec(), arguments: Vec::new() };
    build(&kernel_request(kernel), &patches, &livepatch_request(), &SystemClock, &|_| ())
}
