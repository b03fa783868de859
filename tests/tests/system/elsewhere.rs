//! The packages where nothing is to be started: in a chroot, in another root, in a container. Each root is an overlay of
//! the machine's own disk, so that what is written to the wrong one of both is seen.

use livepatch_tests::cloud_kernel;

use crate::machine::{Bench, Machine, Running, list_of_files};

/// All packages.
pub(crate) const PACKAGES: [&str; 4] =
    ["livepatch", "livepatch-server", "livepatch-builder", "livepatch-legacy-names"];

/// Goes into namespaces of its own, makes `/mnt` the root of a container, with `/run` and logs of its own, and runs the
/// rest of the command line.
const ROOT: &str = "\
set -e
mount --make-rprivate /
mkdir -p /run/overlay
mount -t tmpfs tmpfs /run/overlay
mkdir /run/overlay/upper /run/overlay/work
mount -t overlay -o lowerdir=/,upperdir=/run/overlay/upper,workdir=/run/overlay/work overlay /mnt
mount -t tmpfs -o mode=755 tmpfs /mnt/run
mkdir /mnt/run/payload /mnt/run/systemd
echo lxc >/mnt/run/systemd/container
mount --bind /run/payload /mnt/run/payload
mount -t tmpfs tmpfs /mnt/var/log
mount -t tmpfs tmpfs /mnt/var/tmp
mount -t proc proc /mnt/proc
mount -t sysfs -o ro sysfs /mnt/sys
mount -t cgroup2 cgroup2 /mnt/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /mnt/dev
for device in null zero full random urandom tty; do cp -a /dev/$device /mnt/dev/; done
mkdir -p /mnt/dev/pts /mnt/dev/shm
exec \"$@\"
";

#[test]
fn chroots_other_roots_and_containers() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else { return };
    let mut machine = Machine::new(&bench, &kernel);
    for name in PACKAGES {
        machine.give_file(&format!("{name}.deb"), 0o644, &bench.package(name));
    }
    machine.give("root", 0o644, ROOT);
    let host = machine.start();
    host.shell("modprobe overlay");
    host.note_files("before");

    // Another root: dpkg goes there for the scripts, or they stay outside and are told DPKG_ROOT.
    let chroot = Root::open(&host, "chroot", "sleep infinity");
    assert_eq!(host.shell(&chroot.within("systemd-detect-virt --container")), "lxc");
    let install = "cd /run/payload && dpkg --install livepatch*.deb";
    let purge = format!("dpkg --purge {}", PACKAGES.join(" "));
    for options in ["--root=/mnt", "--root=/mnt --force-script-chrootless"] {
        let with = |script: &str| chroot.beside(&script.replace("dpkg", &format!("dpkg {options}")));
        chroot.stays_as_it_was(&with(install), &with(&purge));
    }
    chroot.close();

    // A container in which systemd runs: what is enabled may start, and does not.
    let systemd = "env -i container=lxc PATH=/usr/sbin:/usr/bin chroot /mnt /lib/systemd/systemd";
    let container = Root::open(&host, "container", systemd);
    host.wait_for(&container.within("test -S /run/systemd/private && echo there"), "there");
    host.run(&container.within("systemctl is-system-running --wait"));
    let failed = container.within("systemctl list-units --failed --plain --no-legend");
    let failed_before = host.shell(&failed);
    let install = format!("{install} && systemctl is-enabled livepatchd livepatch-server");
    container.stays_as_it_was(&container.within(&install), &container.within(&purge));
    assert_eq!(host.shell(&failed), failed_before);
    container.close();

    host.note_files("after");
    assert_eq!(host.run("diff /var/tmp/before /var/tmp/after").text(), "");
    host.finish();
}

/// A root at `/mnt`, in namespaces of its own.
struct Root<'a> {
    host: &'a Running,
    unit: &'static str,
    /// Its first process.
    process: String,
}

impl<'a> Root<'a> {
    fn open(host: &'a Running, unit: &'static str, command: &str) -> Self {
        let unshare = "unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup";
        host.shell(&format!(
            "systemd-run --quiet --collect --unit={unit} --property=Delegate=yes --property=KillSignal=KILL \
             {unshare} sh /run/payload/root {command}"
        ));
        let main = host.property(unit, "MainPID");
        let child = format!("cat /proc/{main}/task/{main}/children");
        host.wait_for(&format!("[ -n \"$({child})\" ] && echo there"), "there");
        let root = Self { host, unit, process: host.shell(&child).trim().to_owned() };
        host.wait_for(&root.beside("test -d /mnt/dev/shm && echo there"), "there");
        root
    }

    /// A script that runs in its namespaces, with the machine's own files.
    fn beside(&self, script: &str) -> String {
        let script = script.replace('\'', "'\\''");
        format!("nsenter --target {} --pid --mount --uts --ipc --net --cgroup sh -c '{script}'", self.process)
    }

    /// A script that runs in it.
    fn within(&self, script: &str) -> String {
        let script = script.replace('\'', "'\\''");
        self.beside(&format!("chroot /mnt sh -c '{script}'"))
    }

    /// All is installed, nothing runs, and when all is purged nothing is left.
    fn stays_as_it_was(&self, install: &str, purge: &str) {
        let host = self.host;
        let list = self.beside(&list_of_files("/mnt"));
        host.shell(&format!("{list} >/run/root-before"));
        host.shell(install);
        for (file, expected) in [
            ("/var/lib/livepatch", "700 livepatch"),
            ("/var/lib/livepatch-loader", "700 root"),
            ("/run/livepatch", "755 livepatch"),
            ("/var/lib/livepatch-server", "700 livepatch-server"),
            ("/etc/systemd/system/multi-user.target.wants/livepatchd.service", "777 root"),
            ("/etc/systemd/system/multi-user.target.wants/livepatch-loader.service", "777 root"),
            ("/etc/systemd/system/multi-user.target.wants/livepatch-observer.service", "777 root"),
            ("/etc/systemd/system/sockets.target.wants/livepatch-loader-root.socket", "777 root"),
            ("/etc/systemd/system/multi-user.target.wants/livepatch-server.service", "777 root"),
            ("/snap/bin/canonical-livepatch", "777 root"),
        ] {
            assert_eq!(host.shell(&self.within(&format!("stat -c '%a %U' {file}"))), expected, "{file}");
        }
        let units = "systemctl list-units --all --plain --no-legend 'livepatchd*' 'livepatch-loader*' 'livepatch-observer*' 'livepatch-server*' 'livepatch-refresh*'";
        assert_eq!(host.shell(units), "");
        assert_eq!(host.shell("cat /proc/[0-9]*/comm | grep ^livepatch || true"), "");
        host.shell(purge);
        host.shell(&format!("{list} >/run/root-after"));
        assert_eq!(host.run("diff /run/root-before /run/root-after").text(), "");
        host.expect(&self.within("ls /run/livepatch"), 2);
    }

    fn close(self) {
        self.host.shell(&format!("systemctl stop {}", self.unit));
    }
}
