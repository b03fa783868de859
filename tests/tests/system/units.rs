//! The units, judged by systemd; and the packages of the server and of the legacy names.

use livepatch_tests::cloud_kernel;

use crate::machine::{Bench, Machine, Running};

/// What `systemd-analyze security` may say at most, in tenths: 0 is closed, 100 is open.
const EXPOSURE: [(&str, u32); 3] =
    [("livepatchd.service", 30), ("livepatch-refresh.service", 10), ("livepatch-server.service", 15)];

#[test]
fn units_server_and_legacy_names() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else { return };
    let mut machine = Machine::new(&bench, &kernel);
    for name in ["livepatch", "livepatch-server", "livepatch-legacy-names"] {
        machine.give_file(&format!("{name}.deb"), 0o644, &bench.package(name));
    }
    let host = machine.start();
    host.note_files("before");
    host.shell("cd /run/payload && dpkg --install livepatch.deb livepatch-server.deb");

    // The units.
    for (unit, exposure) in EXPOSURE {
        let said = host.expect(&format!("systemd-analyze verify --man=no {unit}"), 0);
        assert!(!said.contains("livepatch"), "{unit}: {said}");
        let said = host.run(&format!("systemd-analyze security --no-pager --threshold={exposure} {unit}"));
        println!("{}", said.text().lines().last().unwrap_or_default());
        assert_eq!(said.status, 0, "{}", said.text());
    }

    // The server has nothing to serve at first; then it serves as its own user.
    assert_eq!(host.property("livepatch-server", "ActiveState"), "inactive");
    host.shell("runuser -u livepatch-server -- livepatch-server init --ip 127.0.0.1");
    host.shell("systemctl start livepatch-server");
    host.wait_for("ss -ltnH 'sport = :8443' | wc -l", "1");
    let user = host.shell("stat -c %U /proc/$(systemctl show --value --property=MainPID livepatch-server)");
    assert_eq!(user, "livepatch-server");
    host.shell("dpkg --purge livepatch-server");

    legacy_names(&host);
    host.shell("dpkg --purge livepatch");
    host.note_files("after");
    assert_eq!(host.run("diff /var/tmp/before /var/tmp/after").text(), "");
    host.finish();
}

/// The names lead to the client; beside the snap they are refused.
fn legacy_names(host: &Running) {
    host.shell("mkdir -p /var/lib/snapd/snaps && touch /var/lib/snapd/snaps/canonical-livepatch_1.snap");
    let said = host.expect("dpkg --install /run/payload/livepatch-legacy-names.deb", 1);
    assert!(said.contains("error: the snap canonical-livepatch is installed and owns these names"), "{said}");
    host.shell("rm -r /var/lib/snapd");
    host.shell("dpkg --install /run/payload/livepatch-legacy-names.deb");
    for name in ["/usr/bin/canonical-livepatch", "/snap/bin/canonical-livepatch"] {
        host.expect(&format!("{name} status"), 3);
    }
    host.shell("test -S /var/snap/canonical-livepatch/current/livepatchd.sock");
    host.shell("dpkg --purge livepatch-legacy-names");
}
