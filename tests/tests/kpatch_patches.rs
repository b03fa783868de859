//! kpatch's integration patches (public repository dynup/kpatch, `test/integration`): those for Linux 6.2 on 6.1, and on
//! 6.12 those for 6.17 where they fit. The good ones do what they are meant to do, and the bad ones give no livepatch.
//!
//! Needs `LIVEPATCH_KPATCH_PATCHES`, the directory `test/integration`. Without it this says that it was skipped.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use livepatch_build::error::BuildError;
use livepatch_build::pipeline::{Built, PatchRequest, Workbench};
use livepatch_tests::corpus::unified;
use livepatch_tests::guest::{SHORT, load, unload};
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, newer_cloud_kernel};
use livepatch_types::SystemClock;
use livepatch_vm::testing::FetchedKernel;
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network};

const PATCHES: &str = "LIVEPATCH_KPATCH_PATCHES";

/// A patch, a command that tells whether it is in effect, and what that says then and otherwise.
const GOOD: [(&str, &str, &str, &str); 9] = [
    ("data-new", "grep -c 'kpatch:         5' /proc/meminfo", "1", "0"),
    ("gcc-static-local-var-6", "echo alive", "alive", "alive"),
    ("macro-callbacks", "dmesg | grep -c 'pre_patch_callback: vmlinux'", "1", "0"),
    ("module", "grep -c '^kpatch$' /sys/fs/xfs/stats/stats", "1", "0"),
    ("new-function", "echo alive > /dev/console; echo alive", "alive", "alive"),
    ("new-globals", "grep -c MemTotal /proc/meminfo", "1", "1"),
    ("shadow-newpid", "grep -c newpid: /proc/self/status", "1", "0"),
    ("special-static", "echo $(echo a process)", "a process", "a process"),
    ("syscall", "uname -s", "Linux.kpatch", "Linux"),
];

/// Patches that kpatch must refuse, and what becomes of them here. The first only changes the version of an exported
/// symbol, the second the line of a warning; neither changes code of these kernels, because lines in warnings are led back
/// and versions of symbols are those of the shipped kernel.
const BAD: [&str; 2] = ["symvers-disagreement-FAIL", "warn-detect-FAIL"];

/// The patch as it fits this source: GNU patch finds the places, with a fuzz of two lines, and the difference is taken.
fn fitted(source: &Path, patch: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let text = std::fs::read_to_string(patch)?;
    let files: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("+++ ")?.split_whitespace().next()?.split_once('/'))
        .map(|(_, file)| file)
        .collect();
    let scratch = tempfile::tempdir()?;
    for file in &files {
        let copy = scratch.path().join(file);
        std::fs::create_dir_all(copy.parent().ok_or("a file without a directory")?)?;
        std::fs::copy(source.join(file), copy)?;
    }
    let mut apply = std::process::Command::new("patch");
    apply.args(["-p1", "--fuzz=2", "--batch", "--no-backup-if-mismatch", "--directory"]).arg(scratch.path());
    let mut apply = apply.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    apply.stdin.take().ok_or("patch has no input")?.write_all(text.as_bytes())?;
    let output = apply.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", patch.display(), String::from_utf8_lossy(&output.stdout)).into());
    }
    let difference = |file: &&str| -> Result<String, Box<dyn Error>> {
        let read = |root: &Path| std::fs::read_to_string(root.join(file));
        Ok(unified(file, &read(source)?, &read(scratch.path())?))
    };
    files.iter().map(difference).collect()
}

fn build(bench: &Workbench, patches: Vec<String>) -> Result<Built, BuildError> {
    let request = PatchRequest { patches, arguments: Vec::new() };
    bench.build(&request, &livepatch_request(), &SystemClock, &|_| ())
}

/// `versions` are the directories of patches; the first that fits is taken.
fn patches_work(kernel: &FetchedKernel, directory: &Path, versions: [&str; 2]) -> Result<(), Box<dyn Error>> {
    let bench = Workbench::open(&kernel_request(kernel), &|_| ())?;
    let patches = |name: &str| {
        let candidates = versions.map(|version| directory.join(version).join(format!("{name}.patch")));
        let [first, second] = candidates.map(|patch| fitted(bench.tree().path(), &patch));
        first.or(second)
    };
    let mut initramfs = Initramfs::new()?;
    initramfs.kernel_modules_unloaded(&kernel.tree, &["xfs"])?;
    for (name, ..) in GOOD {
        let built = build(&bench, patches(name)?).map_err(|error| format!("{name}: {error}"))?;
        initramfs.file(&format!("/{name}.ko"), 0o644, built.bundle.module)?;
    }
    for name in BAD {
        match build(&bench, patches(name)?) {
            Err(BuildError::NoChange(_) | BuildError::Refused { .. }) => {}
            Err(other) => return Err(format!("{name}: {other}").into()),
            Ok(_) => return Err(format!("{name} gives a livepatch").into()),
        }
    }

    let spec = BootSpec { network: Network::None, ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build()) };
    let guest = Guest::boot(&spec)?;
    guest.check(&Command::new("modprobe").arg("xfs"), SHORT)?;
    for (name, check, fixed, unfixed) in GOOD {
        let says = |expected: &str, when: &str| -> Result<(), Box<dyn Error>> {
            let said = guest.run(&Command::shell(check), SHORT)?.text();
            if said == expected { Ok(()) } else { Err(format!("{name}, {when}: {said}").into()) }
        };
        says(unfixed, "before")?;
        guest.check(&Command::shell(format!("ln -sf /{name}.ko /livepatch.ko")), SHORT)?;
        load(&guest)?;
        says(fixed, "applied")?;
        unload(&guest)?;
        if name != "macro-callbacks" {
            says(unfixed, "reverted")?;
        }
    }
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}

fn directory() -> Option<PathBuf> {
    let directory = std::env::var_os(PATCHES).map(PathBuf::from);
    if directory.is_none() {
        eprintln!("SKIPPED: kpatch's integration patches ({PATCHES} is not set)");
    }
    directory
}

#[test]
fn they_work_on_6_1() -> Result<(), Box<dyn Error>> {
    let (Some(directory), Some(kernel)) = (directory(), cloud_kernel()) else { return Ok(()) };
    patches_work(&kernel, &directory, ["linux-6.2.0", "linux-6.17.0"])
}

#[test]
fn they_work_on_6_12() -> Result<(), Box<dyn Error>> {
    let (Some(directory), Some(kernel)) = (directory(), newer_cloud_kernel()) else { return Ok(()) };
    patches_work(&kernel, &directory, ["linux-6.17.0", "linux-6.2.0"])
}
