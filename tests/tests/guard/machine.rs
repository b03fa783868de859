//! A host whose state is on a disk, which stays from boot to boot. A second disk can be frozen.

use std::path::{Path, PathBuf};

use livepatch_vm::{Command, USER};

use crate::host::{BOUND, Host};
use crate::prepared::{PROGRAMS, Prepared, file_system};
use crate::site::{ADDRESS, Site};

/// The virtual machine.
pub(crate) struct Machine<'a> {
    prepared: &'a Prepared,
    disks: [PathBuf; 2],
    port: u16,
    /// The copy of the disk is in it.
    _directory: tempfile::TempDir,
}

/// How a loader is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// As everywhere.
    Usual,
    /// What is in force is healthy at once.
    HealthyAtOnce,
}

impl<'a> Machine<'a> {
    /// One with a copy of the disk on which 1.1 is healthy. It asks the server at this port.
    pub(crate) fn new(prepared: &'a Prepared, port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        std::fs::copy(prepared.disk(), &disk).unwrap();
        Self::with(prepared, directory, disk, port)
    }

    /// One with the disk itself.
    pub(crate) fn on(prepared: &'a Prepared, disk: &Path, port: u16) -> Self {
        Self::with(prepared, tempfile::tempdir().unwrap(), disk.to_owned(), port)
    }

    fn with(prepared: &'a Prepared, directory: tempfile::TempDir, disk: PathBuf, port: u16) -> Self {
        let second = directory.path().join("second");
        file_system(&second);
        Self { prepared, disks: [disk, second], port, _directory: directory }
    }

    /// Boots with the disk and starts nothing.
    pub(crate) fn boot_bare(&self, site: &Site) -> Host {
        let Prepared { kernel, patches, .. } = self.prepared;
        let host = Host::boot_on(
            kernel,
            patches,
            site,
            self.port,
            |spec| spec.disks = self.disks.to_vec(),
            |initramfs| {
                initramfs.kernel_modules(&kernel.tree, &["virtio_blk", "ext4"]).unwrap();
                for name in PROGRAMS {
                    let program = self.prepared.program(name);
                    initramfs.file_from(&format!("/usr/bin/{name}"), 0o755, &program).unwrap();
                }
            },
        );
        // The host enrolled with the server at another port.
        let port = self.port;
        host.shell(&format!(
            "mkdir -p /var/lib && mount -t ext4 /dev/vda /var/lib
            cd /var/lib/livepatch 2>/dev/null || exit 0
            sed -i 's|\\({ADDRESS}\\):[0-9]*|\\1:{port}|' state.json"
        ));
        host
    }

    /// Boots, and starts all but the daemon.
    pub(crate) fn boot_without_daemon(&self, site: &Site, start: Start) -> Host {
        let host = self.boot_bare(site);
        host.start_loader(if start == Start::HealthyAtOnce { &["--soak-minutes", "0"] } else { &[] });
        host
    }

    /// Boots and starts all.
    pub(crate) fn boot(&self, site: &Site, start: Start) -> Host {
        let host = self.boot_without_daemon(site, start);
        host.start_daemon();
        host
    }

    /// What is in force, as `/proc/cmdline` says.
    pub(crate) fn in_force(&self, host: &Host) -> String {
        let line = host.shell("cat /proc/cmdline");
        line.rsplit_once(" livepatch-")
            .map_or_else(|| "none".into(), |(_, version)| version.trim().to_owned())
    }

    /// Kind and version of all that `livepatch locks list` has.
    pub(crate) fn locks(&self, host: &Host) -> Vec<String> {
        let text = host.expect(&["locks", "list", "--format", "json"], 0).text();
        let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let lock =
            |lock: &serde_json::Value| format!("{} {}", lock["kind"], lock["version"]).replace('"', "");
        listed["locks"].as_array().unwrap().iter().map(lock).collect()
    }

    /// Freezes the second disk and starts a task of a user that sleeps in `vfs_utimes` until [`Self::thaw`].
    pub(crate) fn sleep_in_vfs_utimes(&self, host: &Host) {
        let file = format!("touch /data/file && chown {USER} /data/file");
        host.shell(&format!(
            "mkdir -p /data && mount -t ext4 /dev/vdb /data && {file} && fsfreeze --freeze /data"
        ));
        host.guest.spawn("sleeper", &Command::new("touch").arg("/data/file").as_user()).unwrap();
        host.wait_for("grep -c vfs_utimes /proc/$(pidof touch)/stack", "1");
    }

    /// Lets the task go.
    pub(crate) fn thaw(&self, host: &Host) {
        host.shell("fsfreeze --unfreeze /data");
        host.wait_for("pidof touch || echo gone", "gone");
    }

    /// Has the loader stop at the last of these conditions of `stop_at`, from now on.
    pub(crate) fn arm(&self, host: &Host, conditions: &[[&str; 4]]) {
        let loader = host.guest.check(&Command::new("pidof").arg("livepatch-loader"), BOUND).unwrap();
        let command = Command::new("stop_at").arg(&loader).args(conditions.iter().flatten().copied());
        host.guest.spawn("stop_at", &command).unwrap();
        host.wait_for("cat /run/log/stop_at", "ready");
    }

    /// Waits until it has stopped there.
    pub(crate) fn wait_for_stop(&self, host: &Host) {
        let stopped = Command::shell("cat /run/log/stop_at");
        if let Err(error) = host.guest.wait_for(
            &stopped,
            "ready
stopped",
            BOUND,
        ) {
            panic!(
                "{error}
{}",
                host.shell("tail -n 20 /run/log/* /var/lib/livepatch-loader/state.json")
            );
        }
    }
}
