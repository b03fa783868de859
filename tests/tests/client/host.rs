//! A host of the fleet: the kernel in QEMU, with the client as it is installed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use livepatch_api::daemon::Status;
use livepatch_tests::guest::programs;
use livepatch_vm::testing::{FetchedKernel, workspace};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Output, USER, compile_static};

use crate::patches::{FIXES, Patches};
use crate::site::{ADDRESS, Site};

/// A bound for what takes a second on a quiet machine.
pub(crate) const BOUND: Duration = Duration::from_secs(300);
/// How often a program is asked again that gave up on a daemon, as it does after less than a second.
pub(crate) const PATIENCE: usize = 20;
/// Names the directory with the check programs, when somebody compiled them before.
const CHECKS: &str = "LIVEPATCH_CHECKS";
const TOKEN: &str = "/run/token";

/// A running host.
pub(crate) struct Host {
    pub(crate) guest: Guest,
}

impl Host {
    /// Boots a host that knows a site, at this port of the loopback. No daemon runs yet.
    pub(crate) fn boot(kernel: &FetchedKernel, patches: &Patches, site: &Site, port: u16) -> Self {
        Self::boot_with(kernel, patches, site, port, |_| ())
    }

    /// The same with more files.
    pub(crate) fn boot_with(
        kernel: &FetchedKernel,
        patches: &Patches,
        site: &Site,
        port: u16,
        more: impl FnOnce(&mut Initramfs),
    ) -> Self {
        Self::boot_on(kernel, patches, site, port, |_| (), more)
    }

    /// The same on another machine.
    pub(crate) fn boot_on(
        kernel: &FetchedKernel,
        patches: &Patches,
        site: &Site,
        port: u16,
        machine: impl FnOnce(&mut BootSpec),
        more: impl FnOnce(&mut Initramfs),
    ) -> Self {
        let mut initramfs = Initramfs::with_network(&kernel.tree).unwrap();
        initramfs.kernel_modules(&kernel.tree, &["cls_u32", "sch_ingress"]).unwrap();
        for program in ["livepatchd", "livepatch-loader", "livepatch-observer", "livepatch"] {
            let path = programs().join(program);
            initramfs.program(&format!("/usr/bin/{program}"), &path).unwrap();
        }
        for cve in FIXES {
            let program = check_programs().join(cve);
            initramfs.file_from(&format!("/usr/bin/{cve}"), 0o755, &program).unwrap();
        }
        let config = format!("server = \"https://{ADDRESS}:{port}\"\nca-file = \"/etc/livepatch/ca.pem\"\n");
        initramfs.file("/etc/livepatch/livepatch.toml", 0o644, config).unwrap();
        initramfs.file_from("/etc/livepatch/ca.pem", 0o644, &site.file("ca.pem")).unwrap();
        let operator = site.file("operator.pub");
        initramfs.file_from("/etc/livepatch/trust/operator.pub", 0o644, &operator).unwrap();
        let vendor = patches.vendor.certificate_pem.clone();
        initramfs.file("/etc/livepatch/trust/vendor.pem", 0o644, vendor).unwrap();
        more(&mut initramfs);
        let mut spec = BootSpec::new(kernel.tree.vmlinuz(), initramfs.build());
        machine(&mut spec);
        Self { guest: Guest::boot(&spec).unwrap() }
    }

    /// Starts observer and loader as root and the daemon as a user without rights, and waits until they answer.
    pub(crate) fn start(&self) {
        self.start_loader(&[]);
        self.start_daemon();
    }

    /// Starts observer and loader, with these arguments more.
    pub(crate) fn start_loader(&self, arguments: &[&str]) {
        // It stays when the others come and go.
        if self.shell("pidof livepatch-observer || true").is_empty() {
            self.guest.spawn("livepatch-observer", &Command::new("livepatch-observer")).unwrap();
            self.wait_for("grep -c /run/livepatch-observer/observer.sock$ /proc/net/unix", "1");
        }
        let loader = Command::new("livepatch-loader").args(["--agent-user", USER]).args(arguments);
        self.guest.spawn("livepatch-loader", &loader).unwrap();
        // Asked for, not only there: a socket may be left of the one before.
        self.wait_for("grep -c /run/livepatch-loader/root.sock$ /proc/net/unix", "1");
    }

    /// Starts the daemon.
    pub(crate) fn start_daemon(&self) {
        let directories = "/run/livepatch /var/lib/livepatch";
        self.shell(&format!("mkdir -p {directories} && chown -R {USER} {directories}"));
        self.guest.spawn("livepatchd", &Command::new("livepatchd").as_user()).unwrap();
        let answers = "livepatch status >/dev/null 2>&1; [ $? -ne 4 ] && echo yes";
        self.wait_for(answers, "yes");
    }

    /// Ends both by a signal and waits until they are gone.
    pub(crate) fn stop(&self, signal: &str) {
        for daemon in ["livepatchd", "livepatch-loader"] {
            self.shell(&format!("kill -{signal} $(pidof {daemon})"));
            self.wait_for(&format!("pidof {daemon} >/dev/null || echo gone"), "gone");
        }
    }

    /// Runs `livepatch` with these arguments.
    pub(crate) fn livepatch(&self, arguments: &[&str]) -> Output {
        self.guest.run(&Command::new("livepatch").args(arguments), BOUND).unwrap()
    }

    /// Runs `livepatch`, which must end with this code. It is run again where a daemon was too slow for it.
    pub(crate) fn expect(&self, arguments: &[&str], status: i32) -> Output {
        let mut output = self.livepatch(arguments);
        for _ in 0..PATIENCE {
            if output.status != 4 || status == 4 {
                break;
            }
            output = self.livepatch(arguments);
        }
        assert_eq!(output.status, status, "{arguments:?}: {} {}", output.text(), output.error_text());
        output
    }

    /// Has the daemon go round once, whatever comes of it.
    pub(crate) fn run_refresh(&self) {
        self.livepatch(&["refresh"]);
    }

    /// Enrols with a token from a file.
    pub(crate) fn enable(&self, token: &str) -> Output {
        self.guest.write_file(TOKEN, 0o600, token.as_bytes()).unwrap();
        self.livepatch(&["enable", "--token-file", TOKEN])
    }

    /// What `livepatch status --format json` says to a user who is not root: the daemon's word, if it has one in time.
    pub(crate) fn status(&self) -> Status {
        let command = Command::new("livepatch").args(["status", "--format", "json"]).as_user();
        let mut output = self.guest.run(&command, BOUND).unwrap();
        for _ in 0..PATIENCE {
            if output.status != 4 {
                break;
            }
            output = self.guest.run(&command, BOUND).unwrap();
        }
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", output.text(), output.error_text()))
    }

    /// The code of the problem in the status.
    pub(crate) fn problem(&self) -> Option<String> {
        self.status().problem.map(|problem| problem.code)
    }

    /// Runs the check programs: 1 is vulnerable, 0 fixed.
    pub(crate) fn checks(&self) -> [i32; 2] {
        FIXES.map(|cve| self.guest.run(&Command::new(cve), BOUND).unwrap().status)
    }

    /// All that a livepatch changes in a kernel: what is loaded, what is in force, taint, what was ever done.
    pub(crate) fn kernel(&self) -> Vec<String> {
        let look = "cd /sys/kernel/livepatch; for f in */enabled */transition; do [ -e $f ] && echo $f $(cat $f); done
            sed -n 's/^\\(livepatch_[^ ]*\\).*/module \\1/p' /proc/modules
            echo taint $(cat /proc/sys/kernel/tainted)
            echo log $(dmesg | grep -c 'livepatch: ')";
        self.shell(look).lines().map(str::to_owned).collect()
    }

    /// How often the kernel began to apply a livepatch.
    pub(crate) fn applications(&self, module: &str) -> usize {
        let text = format!("livepatch: enabling patch '{module}'");
        self.shell("dmesg").lines().filter(|line| line.contains(&text)).count()
    }

    /// Runs a script that must end with 0.
    pub(crate) fn shell(&self, script: &str) -> String {
        self.guest.check(&Command::shell(script), BOUND).unwrap()
    }

    pub(crate) fn wait_for(&self, script: &str, expected: &str) {
        self.guest.wait_for(&Command::shell(script), expected, BOUND).unwrap();
    }

    /// Ends the guest; its kernel must not have complained.
    pub(crate) fn finish(self) {
        assert_eq!(self.guest.kernel_problems().unwrap(), []);
        self.guest.shutdown().unwrap();
    }
}

/// The directory with the compiled check programs: that of `cargo xtask test`, or compiled here.
fn check_programs() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os(CHECKS) {
        Some(directory) => directory.into(),
        None => {
            let directory = workspace().join("target/checks");
            std::fs::create_dir_all(&directory).unwrap();
            for cve in FIXES {
                let source = workspace().join(format!("checks/{cve}.c"));
                compile_static(&source, &directory.join(cve)).unwrap();
            }
            directory
        }
    })
}
