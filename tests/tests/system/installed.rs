//! The package from version to version on a host that is patched: nothing of that touches the livepatch. And how long a run
//! may be.

use std::path::{Path, PathBuf};
use std::process::Command as Program;

use livepatch_vm::testing::workspace;
use tempfile::TempDir;

use crate::fleet::APT;
use crate::machine::{Bench, Machine, Running, succeed};
use crate::patches::Vendor;
use crate::site::Site;

/// The package with the legacy names, among the files of a machine.
pub(crate) const LEGACY_NAMES: &str = "livepatch-legacy-names.deb";

/// Other versions of the package, among the files of a machine.
pub(crate) struct Versions {
    /// Where they were made.
    _made: TempDir,
}

impl Versions {
    pub(crate) fn give(bench: &Bench, site: &Site, vendor: &Vendor, machine: &mut Machine<'_>) -> Self {
        let made = tempfile::tempdir().unwrap();
        let later = for_a_fleet(site, vendor, made.path());
        machine.give_file("livepatch-9.0.deb", 0o644, &later.join("livepatch_9.0_amd64.deb"));
        // It goes with the client of its own version alone.
        machine.give_file(LEGACY_NAMES, 0o644, &later.join("livepatch-legacy-names_9.0_all.deb"));
        let older = bench.in_version("livepatch", "0.0.1", made.path());
        machine.give_file("livepatch-0.0.1.deb", 0o644, &older);
        Self { _made: made }
    }

    /// Each of them on a host whose state `look` tells, which stays the same.
    pub(crate) fn come_and_go<State: PartialEq + std::fmt::Debug>(
        &self,
        host: &Running,
        look: impl Fn(&Running) -> State,
    ) {
        let state = look(host);
        upgrade(host);
        host.expect("livepatch refresh", 0);
        assert_eq!(look(host), state);
        downgrade(host);
        assert_eq!(look(host), state);
        kernels_come_and_go(host);
    }
}

/// A later version of the packages, in a directory, as somebody makes it for a fleet: with the keys in it.
fn for_a_fleet(site: &Site, vendor: &Vendor, directory: &Path) -> PathBuf {
    let (keys, out) = (directory.join("keys"), directory.join("fleet"));
    std::fs::create_dir(&keys).unwrap();
    std::fs::copy(site.file("operator.pub"), keys.join("operator.pub")).unwrap();
    std::fs::write(keys.join("vendor.pem"), &vendor.certificate_pem).unwrap();
    let mut xtask = Program::new(env!("CARGO"));
    xtask.current_dir(workspace()).args(["run", "--quiet", "--package", "xtask", "--", "dist"]);
    xtask.args(["--profile", "dev", "--version", "9.0", "--keys"]).arg(&keys).arg("--out").arg(&out);
    succeed(&mut xtask);
    out
}

/// An upgrade keeps the state, and brings keys.
fn upgrade(host: &Running) {
    let before = host.property("livepatchd", "InvocationID");
    host.shell(&format!("{APT} install /run/payload/livepatch-9.0.deb"));
    assert_eq!(host.shell("dpkg-query --show --showformat='${Version}' livepatch"), "9.0");
    assert_ne!(host.property("livepatchd", "InvocationID"), before, "it was restarted");

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

    // systemd is told how it is, and until when it must hear of the daemon again.
    let property = |name: &str| format!("systemctl show --value --property={name} livepatchd");
    host.wait_for(&format!("{} | grep -c ' is applied; next check in '", property("StatusText")), "1");
    assert_ne!(host.property("livepatchd", "WatchdogTimestampMonotonic"), "0");
    // The journal has priority and fields of each event in fields of its own.
    for unit in ["livepatchd", "livepatch-loader", "livepatch-observer"] {
        let log = |more: &str| {
            host.shell(&format!(
                "journalctl --quiet --boot --unit={unit} _TRANSPORT=journal --output=cat {more}"
            ))
        };
        let all = log("");
        assert!(all.contains(": confined by itself files=") && !all.contains("<6>"), "{all}");
        assert!(!all.contains("not in force"), "{unit}: {all}");
        assert!(!log("--priority=notice").contains("confined by itself"), "{unit}");
        let by_field = log("LIVEPATCH_SYSCALLS='in force'");
        assert_eq!(by_field.matches("confined by itself").count(), by_field.lines().count(), "{by_field}");
        assert_ne!(by_field, "", "{unit}");
    }
}

/// A downgrade says no and changes nothing.
fn downgrade(host: &Running) {
    let before = host.property("livepatchd", "InvocationID");
    let said =
        host.expect(&format!("{APT} install --allow-downgrades /run/payload/livepatch-0.0.1.deb"), 100);
    assert!(said.contains("error: livepatch 0.0.1 cannot take over the state that 9.0 left"), "{said}");
    assert_eq!(host.property("livepatchd", "InvocationID"), before);
    assert_eq!(
        host.shell("dpkg-query --show --showformat='${db:Status-Abbrev}${Version}' livepatch"),
        "ii 9.0"
    );
}

/// A kernel is installed, then removed: the hooks make the daemon check, and hold nobody up.
fn kernels_come_and_go(host: &Running) {
    for (hooks, checks) in [("postinst.d", "1"), ("postrm.d", "2")] {
        host.shell(&format!(
            "run-parts --exit-on-error --arg=6.1.0 --arg=/boot/vmlinuz-6.1.0 /etc/kernel/{hooks}"
        ));
        let finished =
            "journalctl --quiet --boot --output=cat --unit=livepatch-refresh | grep -c ^Finished || true";
        host.wait_for(finished, checks);
    }
}

/// Past the test harness, which would hide it.
pub(crate) fn say(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}

/// Whether this is a run that may take long.
pub(crate) fn is_long() -> bool {
    std::env::var_os("LIVEPATCH_LONG").is_some_and(|value| value == "1")
}
