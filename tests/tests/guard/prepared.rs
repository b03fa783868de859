//! What every test begins with, made once: a host on which 1.1 is healthy, as its disk is then, and its operator.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::OnceLock;

use livepatch_build::pipeline::{LivepatchRequest, PatchRequest, Workbench};
use livepatch_manifest::Bundle;
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, replace_line};
use livepatch_types::{PatchVersion, SystemClock};
use livepatch_vm::compile_static;
use livepatch_vm::testing::{FetchedKernel, workspace};

use crate::machine::{Machine, Start};
use crate::patches::{Patches, Vendor};
use crate::site::{Site, free_port};

const CMDLINE: &str = "fs/proc/cmdline.c";
const UTIMES: &str = "fs/utimes.c";
/// Our programs in C that run in the guest.
pub(crate) const PROGRAMS: [&str; 2] = ["stop_at", "with_rights"];
const DISK_BYTES: u64 = 64 << 20;

/// What is made once.
pub(crate) struct Prepared {
    pub(crate) kernel: FetchedKernel,
    /// 1.1 and 2.1, not signed, and who signs.
    pub(crate) patches: Patches,
    third: Bundle,
    directory: PathBuf,
    /// Whoever runs these tests at the same time waits.
    _lock: File,
}

impl Prepared {
    /// None: there is no kernel here, and there need not be one.
    pub(crate) fn get() -> Option<&'static Self> {
        static PREPARED: OnceLock<Option<Prepared>> = OnceLock::new();
        PREPARED.get_or_init(Self::make).as_ref()
    }

    fn make() -> Option<Self> {
        let kernel = cloud_kernel()?;
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guard");
        fs::create_dir_all(&directory).unwrap();
        let lock = File::create(directory.join("lock")).unwrap();
        lock.lock().unwrap();
        for name in ["operator", "operator-of-2.1"] {
            let _ = fs::remove_dir_all(directory.join(name));
        }
        let workbench = Workbench::open(&kernel_request(&kernel), &|_| ()).unwrap();
        let [first, second, third] = std::thread::scope(|scope| {
            let builds = ["1.1", "2.1", "3.1"].map(|version| scope.spawn(|| livepatch(&workbench, version)));
            builds.map(|build| build.join().unwrap())
        });
        let patches = Patches { vendor: Vendor::new("vendor"), first, second };
        for name in PROGRAMS {
            let source = workspace().join(format!("tests/tests/guard/{name}.c"));
            compile_static(&source, &directory.join(name)).unwrap();
        }
        file_system(&directory.join("disk"));
        let prepared = Self { kernel, patches, third, directory, _lock: lock };
        prepared.enrol();
        Some(prepared)
    }

    /// The host gets 1.1, which is healthy at once, and is shut down in good order.
    fn enrol(&self) {
        let site = Site::new(&self.patches.vendor);
        site.publish(&self.patches.vendor.sign(self.patches.first.clone()));
        let port = free_port();
        let server = site.serve(port);
        let machine = Machine::on(self, &self.directory.join("disk"), port);
        let host = machine.boot(&site, Start::HealthyAtOnce);
        assert_eq!(host.enable(&site.token("t", &[])).status, 0);
        assert_eq!(machine.in_force(&host), "1.1");
        host.stop("TERM");
        host.shell("umount /var/lib");
        host.finish();
        drop(server);
        self.keep(&site, "operator");
        site.publish(&self.patches.vendor.sign(self.patches.second.clone()));
        self.keep(&site, "operator-of-2.1");
    }

    fn keep(&self, site: &Site, name: &str) {
        let copied = Program::new("cp").arg("-aT").args([site.file("."), self.directory.join(name)]).status();
        assert!(copied.unwrap().success());
    }

    /// The operator who offers 1.1, going its own way from here on.
    pub(crate) fn operator(&self) -> Site {
        Site::copy_of(&self.directory.join("operator"))
    }

    /// The same when 2.1 has been published.
    pub(crate) fn operator_of_second(&self) -> Site {
        Site::copy_of(&self.directory.join("operator-of-2.1"))
    }

    /// The operator goes on.
    pub(crate) fn publish_third(&self, site: &Site) {
        site.publish(&self.patches.vendor.sign(self.third.clone()));
    }

    /// The host's disk when 1.1 was healthy.
    pub(crate) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// One of the programs, compiled.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Says in /proc/cmdline that it is in force, and replaces a function in which a task can sleep: one that sets the times of
/// a file waits there while the file system is frozen.
fn livepatch(workbench: &Workbench, version: &str) -> Bundle {
    let (end, wait) = ("seq_putc(m, '\\n');", "error = mnt_want_write(path->mnt);");
    let says = format!("seq_puts(m, \" livepatch-{version}\");\n\t{end}");
    let checks = format!("if (!path->mnt)\n\t\treturn -EINVAL;\n\t{wait}");
    let source = workbench.tree().path();
    let patches =
        vec![replace_line(source, CMDLINE, end, &says), replace_line(source, UTIMES, wait, &checks)];
    let request = PatchRequest { patches, arguments: Vec::new() };
    let version = PatchVersion::parse(version).unwrap();
    let livepatch = LivepatchRequest { version, ..livepatch_request() };
    workbench.build(&request, &livepatch, &SystemClock, &|_| ()).unwrap().bundle
}

/// A disk with an empty file system, as Debian makes it.
pub(crate) fn file_system(path: &Path) {
    File::create(path).unwrap().set_len(DISK_BYTES).unwrap();
    let made = Program::new("/sbin/mkfs.ext4").arg("-q").arg(path).status().unwrap();
    assert!(made.success());
}
