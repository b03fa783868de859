//! A machine with systemd on a disk of its own, which stays from boot to boot.

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Duration;

use livepatch_vm::testing::{FetchedKernel, REQUIRE_VM};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Output};
use tempfile::TempDir;

/// A bound for what takes seconds on a quiet machine.
pub(crate) const BOUND: Duration = Duration::from_secs(120);
/// Names the directory with the packages.
const PACKAGES: &str = "LIVEPATCH_PACKAGES";
/// Names the disk that every test gets a copy of.
const DISK: &str = "LIVEPATCH_SYSTEM_DISK";

/// What `cargo xtask test` made for these tests.
pub(crate) struct Bench {
    packages: PathBuf,
    disk: PathBuf,
}

impl Bench {
    /// None, said loudly, when it is not there and need not be.
    pub(crate) fn find() -> Option<Self> {
        match (std::env::var_os(PACKAGES), std::env::var_os(DISK)) {
            (Some(packages), Some(disk)) => Some(Self { packages: packages.into(), disk: disk.into() }),
            // Only root can make the disk: then `cargo xtask test` names the packages alone, and says so.
            (None, _) if std::env::var_os(REQUIRE_VM).is_some_and(|value| value == "1") => {
                panic!("{PACKAGES} is not set: run this by cargo xtask test")
            }
            _ => {
                eprintln!("SKIPPED: no packages and disk; run cargo xtask test as root");
                None
            }
        }
    }

    /// The package's file of this name.
    pub(crate) fn package(&self, name: &str) -> PathBuf {
        let start = format!("{name}_");
        let entries = std::fs::read_dir(&self.packages).unwrap().map(|entry| entry.unwrap());
        let mut found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&start));
        found.next().unwrap_or_else(|| panic!("there is no package {name}")).path()
    }

    /// The same package in another version.
    pub(crate) fn in_version(&self, name: &str, version: &str, directory: &Path) -> PathBuf {
        let (tree, made) = (directory.join(version), directory.join(format!("{name}_{version}.deb")));
        dpkg_deb(&["--raw-extract".as_ref(), &self.package(name), &tree]);
        let control = tree.join("DEBIAN/control");
        let text = std::fs::read_to_string(&control).unwrap();
        let line = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
        std::fs::write(&control, text.replace(line, &format!("Version: {version}"))).unwrap();
        dpkg_deb(&["--root-owner-group".as_ref(), "-Znone".as_ref(), "--build".as_ref(), &tree, &made]);
        made
    }
}

fn dpkg_deb(arguments: &[&Path]) {
    let output = Program::new("dpkg-deb").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The disk, and what the machine finds in `/run/payload`.
pub(crate) struct Machine<'a> {
    kernel: &'a FetchedKernel,
    directory: TempDir,
    initramfs: Initramfs,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(bench: &Bench, kernel: &'a FetchedKernel) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copied = Program::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&bench.disk, &directory.path().join("disk")])
            .status();
        assert!(copied.unwrap().success());
        Self { kernel, directory, initramfs: Initramfs::for_disk(&kernel.tree).unwrap() }
    }

    /// Puts a file into `/run/payload` of every boot from now on.
    pub(crate) fn give(&mut self, name: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.initramfs.file(&format!("/payload/{name}"), mode, bytes).unwrap();
    }

    pub(crate) fn give_file(&mut self, name: &str, mode: u32, path: &Path) {
        self.give(name, mode, std::fs::read(path).unwrap());
    }

    /// Boots until systemd has nothing left to start.
    pub(crate) fn boot(&self) -> Running {
        let mut spec = BootSpec::new(self.kernel.tree.vmlinuz(), self.initramfs.build());
        spec.memory_mib = 1024;
        spec.disks = vec![self.directory.path().join("disk")];
        // The journal goes to the console, too, and so into the transcript that a failure keeps.
        spec.kernel_args =
            ["systemd.journald.forward_to_console=1", "systemd.show_status=no", "systemd.getty_auto=no"]
                .map(String::from)
                .into();
        let running = Running { guest: Some(Guest::boot(&spec).unwrap()) };
        running.guest().run(&Command::new("systemctl").args(["is-system-running", "--wait"]), BOUND).unwrap();
        running
    }
}

/// A machine that is on.
pub(crate) struct Running {
    /// None when it was ended in good order.
    guest: Option<Guest>,
}

impl Drop for Running {
    /// A failure keeps the transcript, which has the journal.
    fn drop(&mut self) {
        if let (Some(guest), true) = (&self.guest, std::thread::panicking()) {
            eprintln!("the transcript, with the journal, is {}", guest.keep_transcript().display());
        }
    }
}

impl Running {
    pub(crate) fn guest(&self) -> &Guest {
        self.guest.as_ref().unwrap()
    }

    /// Runs a script, whatever comes of it.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.guest().run(&Command::shell(script), BOUND).unwrap()
    }

    /// Runs a script that must end with this code; both its streams.
    pub(crate) fn expect(&self, script: &str, status: i32) -> String {
        let output = self.run(script);
        let said = format!("{}{}", output.text(), output.error_text());
        assert_eq!(output.status, status, "{script}: {said}");
        said
    }

    /// Runs a script that must end with 0; its standard output.
    pub(crate) fn shell(&self, script: &str) -> String {
        self.guest().check(&Command::shell(script), BOUND).unwrap()
    }

    /// One property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.shell(&format!("systemctl show --value --property={name} {unit}"))
    }

    /// Microseconds since the boot.
    pub(crate) fn time(&self, unit: &str, name: &str) -> u64 {
        self.property(unit, name).parse().unwrap()
    }

    pub(crate) fn wait_for(&self, script: &str, expected: &str) {
        self.guest().wait_for(&Command::shell(script), expected, BOUND).unwrap();
    }

    /// Notes what is on the disk: kind, mode, owner, size, link, and for files the time of the last change.
    pub(crate) fn note_files(&self, name: &str) {
        // What dpkg, apt, systemd and logs write for themselves is not ours to take away.
        let excluded = [
            "/var/log",
            "/var/cache",
            "/var/tmp",
            "/tmp",
            "/var/lib/apt",
            "/var/lib/dpkg/status*",
            "/var/lib/dpkg/lock*",
            "/var/lib/dpkg/triggers/*",
            "/var/lib/dpkg/diversions*",
            "/var/lib/systemd/*",
            "/var/lib/dpkg/info",
            "/var/lib/dpkg/updates",
            // Accounts come and go: their content is compared below.
            "/etc/passwd*",
            "/etc/group*",
            "/etc/shadow*",
            "/etc/gshadow*",
            "/etc/.pwd.lock",
            "/etc",
            "/run",
            "/dev",
        ]
        .map(|path| format!("-path '{path}' -prune -o"))
        .join(" ")
        .replace("-path '/etc' -prune -o ", "");
        self.shell(&format!(
            "{{ find / -xdev {excluded} -type d -printf '%p d %m %U:%G\\n' \
               -o -printf '%p %y %m %U:%G %s %T@ %l\\n' | sort; \
               ls /var/lib/dpkg/info; getent passwd; getent group; }} >/var/tmp/{name}"
        ));
        let lines: usize = self.shell(&format!("wc -l </var/tmp/{name}")).parse().unwrap();
        assert!(lines > 5000, "{lines} lines are not a whole system");
    }

    /// Reboots as an administrator does; waits until the machine is off.
    pub(crate) fn reboot(mut self) {
        assert_eq!(self.guest().kernel_problems().unwrap(), []);
        let guest = self.guest.take().unwrap();
        guest.end_by(&Command::new("systemctl").args(["reboot"]), BOUND).unwrap();
    }

    /// Takes the power away.
    pub(crate) fn power_cut(mut self) {
        self.guest.take().unwrap().power_cut();
    }

    /// Ends the machine; its kernel must not have complained.
    pub(crate) fn finish(mut self) {
        assert_eq!(self.guest().kernel_problems().unwrap(), []);
        self.guest.take().unwrap().shutdown().unwrap();
    }
}
