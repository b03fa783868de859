//! The life of the client on a host: from `apt-get install` to `apt-get purge`. A minute or two of `cargo xtask test` on one
//! kernel; with `--long` on all three, with more boots.

use jiff::{SignedDuration, Timestamp};
use livepatch_tests::{cloud_kernel, generic_kernel, newer_cloud_kernel};
use livepatch_types::{CheckState, Clock as _, PatchState, SystemClock};
use livepatch_vm::testing::FetchedKernel;

use crate::fleet::{APT, configure_and_enable_as_ubuntu_pro_client, do_not_soak, give_client, install, soak};
use crate::installed::{LEGACY_NAMES, Versions, is_long, say};
use crate::machine::{Bench, Machine, Running};
use crate::patched::{
    fixed, give_checks, kernel_of, one_and_next, patched_again, problem_of, seconds, status_of,
};
use crate::patches::Vendor;
use crate::reboots::{
    give_images, needrestart_expects_the_same_kernel, nobody_reboots, unattended_upgrades_reboots,
};
use crate::site::{Site, free_port};

/// Where systemd looks for the earliest time that it believes a clock; otherwise that is when it was built.
const EPOCH: &str = "/usr/lib/clock-epoch";
const OFFLINE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Asks as those programs do that have an HTTP library talk to a Unix socket.
const PUT: &str = "import http.client, socket, sys
class Socket(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect('/var/snap/canonical-livepatch/current/livepatchd-priv.sock')
asked = Socket('localhost', timeout=120)
asked.request('PUT', sys.argv[1])
answer = asked.getresponse()
print(answer.status, answer.read().decode())
";
/// A CVE that no livepatch can fix.
const FLOOR: [&str; 4] = ["--upgrade-for", "CVE-2026-1001", "--notice", "LSN-0113-1"];

#[test]
fn from_install_to_purge() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else { return };
    tell(&bench, &kernel, true);
}

#[test]
fn from_install_to_purge_on_generic() {
    on_another_kernel("Debian's generic 6.1", generic_kernel);
}

#[test]
fn from_install_to_purge_on_6_12() {
    on_another_kernel("Debian's cloud 6.12", newer_cloud_kernel);
}

fn on_another_kernel(name: &str, kernel: impl Fn() -> Option<FetchedKernel>) {
    if !is_long() {
        say(&format!("SKIPPED: from install to purge on {name}; run cargo xtask test --long\n"));
        return;
    }
    let (Some(bench), Some(kernel)) = (Bench::find(), kernel()) else { return };
    tell(&bench, &kernel, false);
}

/// The story. That of the package's own versions is the same on every kernel, and that of power cuts, too.
fn tell(bench: &Bench, kernel: &FetchedKernel, with_versions: bool) {
    let vendor = Vendor::new("vendor");
    let site = Site::new(&vendor);
    let [one, next] = one_and_next(kernel);
    let build_id = one.manifest.kernel.build_id.to_string();
    site.publish(&vendor.sign(one));
    let port = free_port();
    let server = site.serve(port);
    let made = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(bench, kernel);
    give_client(&mut machine, &bench.package("livepatch"), &site, port, &vendor);
    give_checks(&mut machine, made.path());
    give_images(&mut machine, kernel);
    machine.give("put.py", 0o644, PUT);
    machine.give("another-token", 0o600, site.token("another", &[]));
    let versions = with_versions.then(|| Versions::give(bench, &site, &vendor, &mut machine));
    if versions.is_none() {
        machine.give_file(LEGACY_NAMES, 0o644, &bench.package("livepatch-legacy-names"));
    }
    let host = machine.start();
    assert_eq!(host.shell("uname -r"), kernel.tree.release());
    host.shell(&format!("touch --date=@0 {EPOCH}"));
    host.note_files("before");
    host.shell("modprobe -a cls_u32 sch_ingress");
    let up_without = host.time("", "FinishTimestampMonotonic");

    // Installed, it runs and waits to be enabled.
    install(&host);
    host.wait_for("systemctl is-active livepatchd", "active");
    assert_eq!(host.shell("systemctl is-enabled livepatchd"), "enabled");
    host.expect("livepatch status", 3);

    assert_eq!(kernel_of(&host), fixed(0, 0));
    configure_and_enable_as_ubuntu_pro_client(&host, port);
    assert_eq!(kernel_of(&host), fixed(1, 1));
    let status = host.expect("su user -c 'livepatch status'", 0);
    assert!(status.contains("1.1 applied since "), "{status}");
    systemctl_says(&host, "livepatch 1.1 is applied; next check in ");
    full_disk(&host);
    if let Some(versions) = versions {
        versions.come_and_go(&host, kernel_of);
    }
    do_not_soak(&host);

    // A month without a server, and then without a clock: it is patched from its own disk, before the network is allowed.
    drop(server);
    hang(&host);
    host.reboot();
    if is_long() {
        machine.clock = Some(later().strftime("%Y-%m-%dT%H:%M:%S").to_string());
        offline(&machine).reboot();
    }
    machine.clock = Some("1970-01-01T00:00:00".into());
    let host = offline(&machine);
    assert_eq!(host.shell("date --utc +%Y"), "1970");
    say(&format!(
        "the machine was up after {:.1} s without the daemon, and after {:.1} s with it; {}\n",
        seconds(up_without),
        seconds(host.time("", "FinishTimestampMonotonic")),
        host.shell("systemd-analyze blame --no-pager | grep livepatch-loader").trim(),
    ));

    // The server is back, and has the next livepatch. Nothing is installed before the clock is right.
    site.publish(&vendor.sign(next));
    let _server = site.serve(port);
    host.expect("livepatch refresh", 1);
    assert_eq!((kernel_of(&host), problem_of(&host).as_str()), (fixed(1, 1), "server-unreachable"));
    assert_eq!(host.shell("livepatch status | grep -c 'is this host.s clock right'"), "1");
    set_clock(&host, later());
    // The kernel told the daemon, which looks again what waits.
    host.wait_for(
        "journalctl --boot --unit=livepatchd | grep -m1 -c 'the clock was set, or the host slept'",
        "1",
    );
    host.expect("livepatch refresh", 1);
    assert_eq!((kernel_of(&host), problem_of(&host).as_str()), (fixed(1, 1), "document-expired"));
    let said = host.run("livepatch status").text();
    assert!(said.contains("1.1 applied since ") && said.contains("expired"), "{said}");
    set_clock(&host, SystemClock.now());
    machine.clock = None;
    host.expect("livepatch refresh", 0);
    assert_eq!((kernel_of(&host), problem_of(&host)), (fixed(2, 2), String::new()));

    // Reverted, it stays so, until somebody says otherwise.
    host.expect("livepatch revert", 0);
    assert_eq!(kernel_of(&host), fixed(0, 2));
    systemctl_says(&host, "livepatch 2.1 is not applied; ");
    let (host, before) = if is_long() { (reverted_again(&machine, host), 0) } else { (host, 2) };
    host.expect("livepatch refresh", 0);
    assert_eq!(kernel_of(&host), fixed(0, before));
    let patch = status_of(&host).patch;
    assert_eq!((patch.state, patch.held), (PatchState::Unapplied, true));
    host.expect("livepatch apply", 0);
    assert_eq!(kernel_of(&host), fixed(2, before + 1));

    // The power is cut.
    let mut host = host;
    for _ in 0..power_cuts(with_versions) {
        host.power_cut();
        host = patched_again(&machine, 2);
    }

    nobody_reboots(&host);
    raise_floor(&host, &site, &build_id);
    unattended_upgrades_reboots(&host);
    needrestart_expects_the_same_kernel(&host, kernel);

    soak(&host);
    let loads = as_software_properties(&host);

    // Disabled and purged, nothing is left.
    host.shell("livepatch disable");
    systemctl_says(&host, "not enabled");
    assert_eq!(kernel_of(&host), fixed(0, loads));
    host.shell(&format!("{APT} purge livepatch livepatch-legacy-names"));
    host.note_files("after");
    assert_eq!(host.run("diff /var/tmp/before /var/tmp/after").text(), "");
    host.expect("ls /run/livepatch", 2);
    host.finish();
}

/// A program that knows the snap's socket takes the host out of the fleet, and into it again. How often livepatches were loaded since the boot.
fn as_software_properties(host: &Running) -> u32 {
    host.shell(&format!("dpkg --install /run/payload/{LEGACY_NAMES}"));
    let put = "python3 /run/payload/put.py";
    let is_enabled = "su user -c 'test -e /var/snap/canonical-livepatch/common/machine-token'";
    host.expect(is_enabled, 0);
    assert_eq!(host.shell(&format!("{put} /disable")), "200");
    systemctl_says(host, "not enabled");
    host.expect(is_enabled, 1);
    assert_eq!(kernel_of(host), fixed(0, 1));
    let said = host.shell(&format!("{put} /disable"));
    assert_eq!(
        said,
        "409 Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server."
    );
    let said = host.shell(&format!("{put} /enable?auth-token=unknown"));
    assert!(said.starts_with("500 Unknown Auth-Token"), "{said}");
    host.expect("su user -c 'python3 /run/payload/put.py /disable'", 1);
    assert_eq!(host.shell(&format!("{put} /enable?auth-token=$(cat /run/payload/another-token)")), "200");
    // The token is not logged.
    host.expect("journalctl --boot | grep -F $(cat /run/payload/another-token)", 1);
    assert_eq!(kernel_of(host), fixed(2, 2));
    2
}

/// Thirty days from now.
fn later() -> Timestamp {
    SystemClock.now() + OFFLINE
}

fn set_clock(host: &Running, to: Timestamp) {
    host.shell(&format!("date --utc --set=@{}", to.as_second()));
}

/// What a command changed, `systemctl status` says without waiting for the timer.
fn systemctl_says(host: &Running, beginning: &str) {
    let text = "systemctl show --value --property=StatusText livepatchd";
    host.wait_for(&format!("{text} | grep -c '^{beginning}'"), "1");
}

/// Nobody can write to the disk, root neither: what is asked is answered, the check succeeds, and what runs stays.
fn full_disk(host: &Running) {
    let before = kernel_of(host);
    // What root has in reserve goes, too.
    host.shell("fallocate -l $(df --output=avail -B1 / | tail -n 1) /full; dd if=/dev/zero of=/full.root bs=1M 2>/dev/null || true");
    host.expect("echo more than nothing >/full.more", 1);
    let status = host.expect("su user -c 'timeout 60 livepatch status'", 0);
    assert!(status.contains("1.1 applied since "), "{status}");
    host.expect("livepatch refresh", 0);
    host.expect("timeout 60 livepatch check", 0);
    host.shell("kill -STOP $(systemctl show --value --property=MainPID livepatchd)");
    host.expect("su user -c 'timeout 60 livepatch status' | grep -q '1.1 applied since '", 0);
    host.shell("kill -CONT $(systemctl show --value --property=MainPID livepatchd)");
    assert_eq!(kernel_of(host), before);
    host.shell("rm /full*");
}

/// A daemon that hangs is started again by systemd, and nothing else changes.
fn hang(host: &Running) {
    let before = kernel_of(host);
    let unit = "/run/systemd/system/livepatchd.service.d";
    host.shell(&format!("mkdir {unit} && printf '[Service]\\nWatchdogSec=20\\n' >{unit}/shorter.conf"));
    host.shell("systemctl daemon-reload && systemctl restart livepatchd");
    // Until its first retry is seconds.
    host.wait_for("livepatch status | grep -c server-unreachable", "1");
    assert_eq!(host.property("livepatchd", "NRestarts"), "0");
    host.shell("kill -STOP $(systemctl show --value --property=MainPID livepatchd)");
    host.wait_for("systemctl show --value --property=NRestarts livepatchd", "1");
    host.shell("journalctl --boot --unit=livepatchd | grep 'Watchdog timeout'");
    host.wait_for("systemctl is-active livepatchd", "active");
    assert_eq!((kernel_of(host), status_of(host).patch.state), (before, PatchState::Applied));
    host.shell(&format!("rm -r {unit} && systemctl daemon-reload && systemctl restart livepatchd"));
}

/// Boots without a server.
fn offline(machine: &Machine<'_>) -> Running {
    let host = patched_again(machine, 1);
    host.wait_for("livepatch status | grep -c server-unreachable", "1");
    let status = status_of(&host);
    assert_eq!((status.patch.state, status.check.state), (PatchState::Applied, CheckState::CheckFailed));
    assert!(!status.upgrade_required());
    host
}

/// Reboots in good order where what was applied has been reverted.
fn reverted_again(machine: &Machine<'_>, host: Running) -> Running {
    host.reboot();
    let host = machine.boot();
    host.shell("modprobe -a cls_u32 sch_ingress");
    assert_eq!(kernel_of(&host), fixed(0, 0));
    host
}

/// How often the power is cut: LIVEPATCH_LONG=1 says often, on one kernel.
fn power_cuts(often: bool) -> u32 {
    if is_long() && often { 10 } else { 1 }
}

/// The operator says that a newer kernel is needed; all that is asked for it says so.
fn raise_floor(host: &Running, site: &Site, build_id: &str) {
    // /run is a new one since the boot; what livepatch-legacy-names has is this link.
    host.shell("ln -s /usr/bin/livepatch /run/canonical-livepatch");
    host.expect("livepatch refresh", 0);
    let asked = ["livepatch kernel-upgrade-required", "/run/canonical-livepatch kernel-upgrade-required"];
    for asked in asked {
        host.expect(asked, 1);
    }
    site.run(&[&["kernel", "cover", build_id], &FLOOR[..]].concat());
    host.expect("livepatch refresh", 0);
    for asked in asked {
        host.expect(asked, 0);
    }
    let status = status_of(host);
    assert!(status.upgrade_required(), "{status:?}");
    let reboot = status.reboot.unwrap();
    assert_eq!((reboot.code.as_str(), status.patch.state), ("unpatchable-cve", PatchState::Applied));
    let said = host.expect("livepatch check", 2);
    assert!(said.contains("CVE-2026-1001"), "{said}");
    let legacy = host.shell("/run/canonical-livepatch status --format json");
    assert!(legacy.contains("\"kernel-upgrade-required\""), "{legacy}");
    // Nothing that is applied goes away.
    assert_eq!(kernel_of(host), fixed(2, 1));
}
