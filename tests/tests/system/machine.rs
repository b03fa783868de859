//! A machine with systemd on a disk of its own, which stays from boot to boot.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Duration;

use livepatch_vm::testing::{FetchedKernel, REQUIRE_VM};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Output};
use tempfile::TempDir;

/// A bound for what takes seconds on a quiet machine.
pub(crate) const BOUND: Duration = Duration::from_secs(300);
/// How often a script is run again in which `livepatch` gave up on a daemon, as it does after less than a second.
const PATIENCE: usize = 20;
/// Names the directory with the packages.
const PACKAGES: &str = "LIVEPATCH_PACKAGES";
/// Names the disk that every test gets a copy of.
const DISK: &str = "LIVEPATCH_SYSTEM_DISK";
/// What a machine is given, and the disk that brings it.
const PAYLOAD: &str = "payload";
const PAYLOAD_DISK: &str = "payload.img";
const PAYLOAD_BYTES: u64 = 256 << 20;

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
    succeed(Program::new("dpkg-deb").args(arguments));
}

/// The disk, and what the machine finds in `/run/payload`.
pub(crate) struct Machine<'a> {
    bench: &'a Bench,
    kernel: &'a FetchedKernel,
    directory: TempDir,
    /// What its clock says when it boots; otherwise it is right.
    pub(crate) clock: Option<String>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(bench: &'a Bench, kernel: &'a FetchedKernel) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(PAYLOAD)).unwrap();
        Self { bench, kernel, directory, clock: None }
    }

    /// Puts a file into `/run/payload` from the next start or boot on.
    pub(crate) fn give(&mut self, name: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        let path = self.directory.path().join(PAYLOAD).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes.into()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn give_file(&mut self, name: &str, mode: u32, path: &Path) {
        self.give(name, mode, fs::read(path).unwrap());
    }

    /// A machine that boots for the first time. A saved one would start in a second, but a guest with two processors that
    /// QEMU 7.2 resumes under TCG may log `scheduling while atomic`.
    pub(crate) fn start(&self) -> Running {
        copy(&self.bench.disk, &self.directory.path().join("disk"));
        self.boot()
    }

    /// Boots the disk as an earlier machine left it, until systemd has nothing left to start.
    pub(crate) fn boot(&self) -> Running {
        self.write_payload();
        let initrd = Initramfs::for_disk(&self.kernel.tree).unwrap().build();
        let spec = spec(self.kernel, initrd, self.directory.path());
        let running = Running::boot(&BootSpec { clock: self.clock.clone(), ..spec });
        running.unpack();
        running
    }

    /// The second disk is an archive.
    fn write_payload(&self) {
        let directory = self.directory.path();
        let image = directory.join(PAYLOAD_DISK);
        let mut tar = Program::new("tar");
        tar.args(["--create", "--owner=0", "--group=0", "--file"]).arg(&image);
        succeed(tar.arg("--directory").arg(directory.join(PAYLOAD)).arg("."));
        empty_payload(&image);
    }
}

/// Makes the second disk as large as it always is.
fn empty_payload(image: &Path) {
    let file = File::options().create(true).append(true).open(image).unwrap();
    assert!(file.metadata().unwrap().len() <= PAYLOAD_BYTES, "the payload is too large");
    file.set_len(PAYLOAD_BYTES).unwrap();
}

/// The machine, with its disks in a directory.
fn spec(kernel: &FetchedKernel, initrd: Vec<u8>, disks: &Path) -> BootSpec {
    let mut spec = BootSpec::new(kernel.tree.vmlinuz(), initrd);
    spec.memory_mib = 1024;
    spec.disks = ["disk", PAYLOAD_DISK].map(|name| disks.join(name)).into();
    // A panic ends the machine. The journal goes to the console, too, and so into the transcript that a failure keeps.
    spec.kernel_args = [
        "panic=-1",
        "systemd.journald.forward_to_console=1",
        "systemd.show_status=no",
        "systemd.getty_auto=no",
    ]
    .map(String::from)
    .into();
    spec
}

fn copy(from: &Path, to: &Path) {
    succeed(Program::new("cp").args(["--sparse=always", "--reflink=auto"]).args([from, to]));
}

pub(crate) fn succeed(program: &mut Program) {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A machine that is on.
pub(crate) struct Running {
    /// None when it was ended in good order.
    guest: Option<Guest>,
}

impl Running {
    fn boot(spec: &BootSpec) -> Self {
        let running = Self { guest: Some(Guest::boot(spec).unwrap()) };
        running.guest().run(&Command::new("systemctl").args(["is-system-running", "--wait"]), BOUND).unwrap();
        running
    }

    fn unpack(&self) {
        self.shell("mkdir -p /run/payload && tar --extract --file /dev/vdb --directory /run/payload");
    }

    pub(crate) fn guest(&self) -> &Guest {
        self.guest.as_ref().unwrap()
    }

    /// Runs a script, whatever comes of it.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.guest().run(&Command::shell(script), BOUND).unwrap()
    }

    /// Runs a script, again where it ends as `livepatch` does for which a daemon was too slow.
    pub(crate) fn run_answered(&self, script: &str) -> Output {
        let mut output = self.run(script);
        for _ in 0..PATIENCE {
            if output.status != 4 {
                break;
            }
            output = self.run(script);
        }
        output
    }

    /// Runs a script that must end with this code; both its streams.
    pub(crate) fn expect(&self, script: &str, status: i32) -> String {
        let output = if status == 4 { self.run(script) } else { self.run_answered(script) };
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

    /// Notes what is on the disk.
    pub(crate) fn note_files(&self, name: &str) {
        self.shell(&format!("{{ {} ; }} >/var/tmp/{name}", list_of_files("")));
        let lines: usize = self.shell(&format!("wc -l </var/tmp/{name}")).parse().unwrap();
        assert!(lines > 5000, "{lines} lines are not a whole system");
    }

    /// Reboots as an administrator does; waits until the machine is off.
    pub(crate) fn reboot(mut self) {
        assert_eq!(self.guest().kernel_problems().unwrap(), []);
        let guest = self.guest.take().unwrap();
        guest.end_by(&Command::new("systemctl").args(["reboot"]), BOUND).unwrap();
    }

    /// Runs what ends the machine, and waits for that.
    pub(crate) fn end_by(mut self, command: &Command, bound: Duration) {
        self.guest.take().unwrap().end_by(command, bound).unwrap();
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

/// A script that lists all files of a root, which is the machine's own if it is empty: kind, mode, owner, size, link, and
/// for files the time of the last change; accounts, too.
pub(crate) fn list_of_files(root: &str) -> String {
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
        "/run",
        "/dev",
    ]
    .map(|path| format!("-path '{root}{path}' -prune -o"))
    .join(" ");
    format!(
        "find {root}/ -xdev {excluded} -type d -printf '%p %d %m %U:%G\\n' \
           -o -printf '%p %y %m %U:%G %s %T@ %l\\n' | sort; \
           ls {root}/var/lib/dpkg/info; cat {root}/etc/passwd {root}/etc/group"
    )
}
