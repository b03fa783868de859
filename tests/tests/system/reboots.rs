//! Programs that reboot hosts, or tell people to, beside our verdict: Debian's own unattended-upgrades and needrestart.

use livepatch_vm::testing::FetchedKernel;

use crate::machine::{Machine, Running};
use crate::patched::status_of;

const FILE: &str = "/run/reboot-required";
/// Where systemd says that the machine will be rebooted.
const SCHEDULED: &str = "/run/systemd/shutdown/scheduled";
/// An hour is time enough to see that this host will be rebooted.
const CONFIGURATION: &str =
    "Unattended-Upgrade::Automatic-Reboot \"true\";\nUnattended-Upgrade::Automatic-Reboot-Time \"+60\";\n";

/// Gives a machine an image of its kernel and of one that is newer, and the word that it may be rebooted.
pub(crate) fn give_images(machine: &mut Machine<'_>, kernel: &FetchedKernel) {
    let release = kernel.tree.release();
    let mut image = std::fs::read(kernel.tree.vmlinuz()).unwrap();
    machine.give(&format!("boot/vmlinuz-{release}"), 0o644, image.clone());
    // Its header (Documentation/arch/x86/boot.rst, `kernel_version`) says the release, and needrestart reads it there.
    let newer = newer_than(release);
    let header = &mut image[..64 << 10];
    let at = header.windows(release.len()).position(|window| window == release.as_bytes()).unwrap();
    header[at..at + newer.len()].copy_from_slice(newer.as_bytes());
    machine.give(&format!("boot/vmlinuz-{newer}"), 0o644, image);
    machine.give("99reboots", 0o644, CONFIGURATION);
}

/// A release of the same flavour and length: its second number begins with a nine.
fn newer_than(release: &str) -> String {
    let (major, rest) = release.split_once('.').unwrap();
    format!("{major}.9{}", &rest[1..])
}

/// While no newer kernel is needed, nobody reboots this host because of us.
pub(crate) fn nobody_reboots(host: &Running) {
    host.shell("cp /run/payload/99reboots /etc/apt/apt.conf.d/");
    host.shell("systemctl start livepatch-reboot-required.service");
    host.expect("unattended-upgrade", 0);
    host.expect(&format!("ls {FILE} {SCHEDULED}"), 2);
}

/// A newer kernel is needed. Where it was allowed, and only where our timer was, too, the host is rebooted.
pub(crate) fn unattended_upgrades_reboots(host: &Running) {
    host.expect("unattended-upgrade", 0);
    host.expect(&format!("ls {FILE} {SCHEDULED}"), 2);
    host.shell("systemctl start livepatch-reboot-required.service");
    assert_eq!(host.shell(&format!("cat {FILE}.pkgs")), "livepatch");
    host.expect("unattended-upgrade", 0);
    assert_eq!(host.shell(&format!("grep -c '^MODE=reboot$' {SCHEDULED}")), "1");
    host.shell(&format!("shutdown -c && rm {FILE} {FILE}.pkgs /etc/apt/apt.conf.d/99reboots"));
}

/// As kernels are installed and removed, needrestart and the status expect the same one after a boot.
pub(crate) fn needrestart_expects_the_same_kernel(host: &Running, kernel: &FetchedKernel) {
    let running = kernel.tree.release();
    let newer = newer_than(running);
    for (installed, standing, expected) in [(running, "1", None), (&newer, "3", Some(newer.clone()))] {
        host.shell(&format!("mkdir -p /boot && cp /run/payload/boot/vmlinuz-{installed} /boot/"));
        assert_eq!(kernel_of_reboot(host, "postinst.d"), expected);
        let said = host.shell("needrestart -b -k");
        let lines = [format!("NEEDRESTART-KEXP: {installed}"), format!("NEEDRESTART-KSTA: {standing}")];
        assert!(lines.iter().all(|line| said.lines().any(|other| other == line)), "{lines:?}: {said}");
    }
    host.shell("rm /boot/vmlinuz-*");
    assert_eq!(kernel_of_reboot(host, "postrm.d"), None);
}

/// The kernel that a boot brings, as the status has it after our hook of packages of kernels ran.
fn kernel_of_reboot(host: &Running, hook: &str) -> Option<String> {
    host.shell(&format!("/etc/kernel/{hook}/zz-livepatch"));
    // The hook waits for nothing; this one waits for the check that it began.
    host.shell("systemctl start livepatch-refresh.service");
    status_of(host).reboot.and_then(|reboot| reboot.kernel)
}
