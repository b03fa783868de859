//! The life of the client on a host: from `apt-get install` to `apt-get purge`.

use std::path::{Path, PathBuf};
use std::process::Command as Program;

use livepatch_tests::cloud_kernel;
use livepatch_vm::compile_static;
use livepatch_vm::testing::workspace;

use crate::fleet::{APT, configure, do_not_soak, give_client, install, soak};
use crate::machine::{Bench, Machine, Running, succeed};
use crate::patches::{FIXES, Vendor, version};
use crate::site::{Site, free_port};

/// What the checks of both fixes say: 1 is vulnerable, 0 fixed.
fn checks(machine: &Running) -> [i32; 2] {
    FIXES.map(|cve| machine.run(&format!("/run/payload/{cve}")).status)
}

fn applications(machine: &Running) -> String {
    machine.shell("dmesg | grep -c \"livepatch: enabling patch 'livepatch_1_1'\" || true")
}

/// Nothing is on the disk that was not there before, and nothing is missing.
fn nothing_is_left(machine: &Running) {
    machine.note_files("after");
    assert_eq!(machine.run("diff /var/tmp/before /var/tmp/after").text(), "");
}

/// A later version of the package as somebody makes it for a fleet: with the keys in it.
fn for_a_fleet(site: &Site, vendor: &Vendor, directory: &Path) -> PathBuf {
    let (keys, out) = (directory.join("keys"), directory.join("fleet"));
    std::fs::create_dir(&keys).unwrap();
    std::fs::copy(site.file("operator.pub"), keys.join("operator.pub")).unwrap();
    std::fs::write(keys.join("vendor.pem"), &vendor.certificate_pem).unwrap();
    let mut xtask = Program::new(env!("CARGO"));
    xtask.current_dir(workspace()).args(["run", "--quiet", "--package", "xtask", "--", "dist"]);
    xtask.args(["--profile", "dev", "--version", "9.0", "--keys"]).arg(&keys).arg("--out").arg(&out);
    succeed(&mut xtask);
    out.join("livepatch_9.0_amd64.deb")
}

#[test]
fn from_install_to_purge() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else { return };
    let vendor = Vendor::new("vendor");
    let site = Site::new(&vendor);
    site.publish(&vendor.sign(version(&kernel, "1.1")));
    let port = free_port();
    let _server = site.serve(port);

    let made = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(&bench, &kernel);
    give_client(&mut machine, &bench.package("livepatch"), &site, port, &vendor);
    machine.give_file("livepatch-9.0.deb", 0o644, &for_a_fleet(&site, &vendor, made.path()));
    let older = bench.in_version("livepatch", "0.0.1", made.path());
    machine.give_file("livepatch-0.0.1.deb", 0o644, &older);
    for cve in FIXES {
        let program = made.path().join(cve);
        compile_static(&workspace().join(format!("checks/{cve}.c")), &program).unwrap();
        machine.give_file(cve, 0o755, &program);
    }
    let host = machine.start();
    host.note_files("before");
    host.shell("modprobe -a cls_u32 sch_ingress");
    let up_without = host.time("", "FinishTimestampMonotonic");

    // Installed, it runs and waits to be enabled.
    install(&host);
    host.wait_for("systemctl is-active livepatchd", "active");
    assert_eq!(host.shell("systemctl is-enabled livepatchd"), "enabled");
    host.expect("livepatch status", 3);

    // Enabled, as docs/packages.md says.
    configure(&host);
    assert_eq!(checks(&host), [1, 1]);
    host.shell("livepatch enable --token-file /run/payload/token");
    assert_eq!(checks(&host), [0, 0]);
    let status = host.expect("su user -c 'livepatch status'", 0);
    assert!(status.contains("1.1 applied since "), "{status}");

    // An upgrade of the package leaves the livepatch alone, and the state.
    let before = host.property("livepatchd", "InvocationID");
    host.shell(&format!("{APT} install /run/payload/livepatch-9.0.deb"));
    assert_eq!(host.shell("dpkg-query --show --showformat='${Version}' livepatch"), "9.0");
    assert_ne!(host.property("livepatchd", "InvocationID"), before, "it was restarted");
    host.expect("livepatch refresh", 0);
    assert_eq!((checks(&host), applications(&host).as_str()), ([0, 0], "1"));

    // The keys that came with it, in both forms, are believed where the host names none.
    let keys = "/usr/share/livepatch/keys";
    host.shell(&format!("cmp {keys}/operator.pub /etc/livepatch/trust/operator.pub"));
    host.shell(&format!("cmp {keys}/vendor.pem /etc/livepatch/trust/vendor.pem"));
    host.shell(&format!(
        "grep -v -e '^-----' {keys}/vendor.pem | base64 --decode | cmp - {keys}/vendor.x509"
    ));
    host.shell("rm /etc/livepatch/trust/* && systemctl restart livepatchd");
    host.expect("livepatch refresh", 0);
    host.expect("livepatch status", 0);

    // A downgrade says no and changes nothing.
    let before = host.property("livepatchd", "InvocationID");
    let said =
        host.expect(&format!("{APT} install --allow-downgrades /run/payload/livepatch-0.0.1.deb"), 100);
    assert!(said.contains("error: livepatch 0.0.1 cannot take over the state that 9.0 left"), "{said}");
    assert_eq!(host.property("livepatchd", "InvocationID"), before);
    assert_eq!(
        host.shell("dpkg-query --show --showformat='${db:Status-Abbrev}${Version}' livepatch"),
        "ii 9.0"
    );
    assert_eq!(checks(&host), [0, 0]);

    // A kernel is installed, then removed: the hooks make the daemon check, and hold nobody up.
    for (hooks, checks) in [("postinst.d", "1"), ("postrm.d", "2")] {
        host.shell(&format!(
            "run-parts --exit-on-error --arg=6.1.0 --arg=/boot/vmlinuz-6.1.0 /etc/kernel/{hooks}"
        ));
        let finished =
            "journalctl --quiet --boot --output=cat --unit=livepatch-refresh | grep -c ^Finished || true";
        host.wait_for(finished, checks);
    }
    do_not_soak(&host);
    host.reboot();

    // After a reboot the kernel is patched before the network is up; when the power was cut, too.
    let mut host = patched_again(&machine);
    say(&format!(
        "the machine was up after {:.1} s without the daemon, and after {:.1} s with it; {}\n",
        seconds(up_without),
        seconds(host.time("", "FinishTimestampMonotonic")),
        host.shell("systemd-analyze blame --no-pager | grep livepatch-loader").trim(),
    ));
    for _ in 0..power_cuts() {
        host.power_cut();
        host = patched_again(&machine);
    }

    // Disabled and purged, nothing is left.
    soak(&host);
    host.shell("livepatch disable");
    assert_eq!(checks(&host), [1, 1]);
    host.shell(&format!("{APT} purge livepatch"));
    nothing_is_left(&host);
    host.expect("ls /run/livepatch", 2);
    host.finish();
}

fn seconds(microseconds: u64) -> f64 {
    std::time::Duration::from_micros(microseconds).as_secs_f64()
}

/// Past the test harness, which would hide it.
pub(crate) fn say(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}

/// How often the power is cut: LIVEPATCH_LONG=1 says often.
fn power_cuts() -> u32 {
    if is_long() { 10 } else { 1 }
}

/// Whether this is a run that may take long.
pub(crate) fn is_long() -> bool {
    std::env::var_os("LIVEPATCH_LONG").is_some_and(|value| value == "1")
}

/// Boots; the kernel must have been patched before the network was allowed.
fn patched_again(machine: &Machine<'_>) -> Running {
    let host = machine.boot();
    host.shell("modprobe -a cls_u32 sch_ingress");
    assert_eq!(checks(&host), [0, 0]);
    let complete = "dmesg | sed -n \"s/^\\[ *\\([0-9]*\\)\\.\\([0-9]*\\)\\].*'livepatch_1_1': patching complete.*/\\1\\2/p\"";
    let (patched, network) = (
        host.shell(complete).parse::<u64>().unwrap(),
        host.time("network-pre.target", "ActiveEnterTimestampMonotonic"),
    );
    let began = host.time("livepatch-loader", "InactiveExitTimestampMonotonic");
    let ready = host.time("livepatch-loader", "ActiveEnterTimestampMonotonic");
    say(&format!(
        "after the reboot: patched at {:.1} s, network allowed at {:.1} s, system up at {:.1} s; the loader held the boot up for {:.1} s\n",
        seconds(patched),
        seconds(network),
        seconds(host.time("", "FinishTimestampMonotonic")),
        seconds(ready - began),
    ));
    assert!(patched <= ready && ready <= network, "{patched} {ready} {network}");
    assert_eq!(host.shell("systemctl list-units --failed --plain --no-legend"), "");
    host
}
