//! The units, judged by systemd; what comes with the programs; and the packages other than the client.

use livepatch_tests::cloud_kernel;

use crate::elsewhere::PACKAGES;
use crate::machine::{Bench, Machine, Running};
use crate::patches::patches;

/// What `systemd-analyze security` may say at most, in tenths: 0 is closed, 100 is open.
const EXPOSURE: [(&str, u32); 6] = [
    ("livepatchd.service", 15),
    ("livepatch-loader.service", 20),
    ("livepatch-observer.service", 20),
    ("livepatch-reboot-required.service", 12),
    ("livepatch-refresh.service", 12),
    ("livepatch-server.service", 15),
];

/// The programs and the section of the manual that they are in.
const PROGRAMS: [(&str, u32); 6] = [
    ("livepatch", 1),
    ("livepatchd", 8),
    ("livepatch-loader", 8),
    ("livepatch-observer", 8),
    ("livepatch-server", 8),
    ("livepatch-build", 1),
];

#[test]
fn units_documents_and_the_other_packages() {
    let (Some(bench), Some(kernel)) = (Bench::find(), cloud_kernel()) else { return };
    let mut machine = Machine::new(&bench, &kernel);
    let patches = patches(&kernel);
    machine.give("fix.lpb", 0o644, patches.vendor.sign(patches.first.clone()).to_bytes());
    for name in PACKAGES {
        machine.give_file(&format!("{name}.deb"), 0o644, &bench.package(name));
    }
    let host = machine.start();
    host.note_files("before");
    host.shell("cd /run/payload && dpkg --install livepatch.deb livepatch-server.deb livepatch-builder.deb");
    documents(&host);
    builder(&host);

    // The services: all that there are.
    let shipped = host.shell("dpkg --listfiles livepatch livepatch-server livepatch-builder | grep '^/usr/lib/systemd/[^/]*/.*[.]service$' | sort");
    let mut judged = EXPOSURE.map(|(unit, _)| format!("/usr/lib/systemd/system/{unit}"));
    judged.sort();
    assert_eq!(shipped.lines().collect::<Vec<_>>(), judged);
    for (unit, exposure) in EXPOSURE {
        let said = host.expect(&format!("systemd-analyze verify --man=no {unit}"), 0);
        assert!(!said.contains("livepatch"), "{unit}: {said}");
        let said = host.run(&format!("systemd-analyze security --no-pager --offline=true --threshold={exposure} /usr/lib/systemd/system/{unit}"));
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
    host.shell("dpkg --purge livepatch-server livepatch-builder");

    legacy_names(&host);
    reboot_required(&host);
    host.shell("dpkg --purge livepatch");
    host.note_files("after");
    assert_eq!(host.run("diff /var/tmp/before /var/tmp/after").text(), "");
    host.finish();
}

/// What is installed beside the programs.
fn documents(host: &Running) {
    let shipped = include_str!("../../../crates/settings/livepatch.toml");
    assert_eq!(host.guest().read_file("/etc/livepatch/livepatch.toml").unwrap(), shipped.as_bytes());
    for (program, section) in PROGRAMS {
        host.shell(&format!(
            "zcat /usr/share/man/man{section}/{program}.{section}.gz | grep '^.TH {program} '"
        ));
        host.shell(&format!("bash -n /usr/share/bash-completion/completions/{program}"));
        host.shell(&format!("grep '^#compdef {program}$' /usr/share/zsh/vendor-completions/_{program}"));
        host.shell(&format!(
            "grep 'complete -c {program} ' /usr/share/fish/vendor_completions.d/{program}.fish"
        ));
    }
    // Every command that the help names has a page of its own.
    let commands = host
        .shell("livepatch --help | sed -n '/^Commands:/,/^$/s/^  \\([a-z-]*\\) .*/\\1/p' | grep -v ^help$");
    assert!(commands.lines().any(|name| name == "enable"), "{commands}");
    for name in commands.lines() {
        host.shell(&format!("test -s /usr/share/man/man1/livepatch-{name}.1.gz"));
    }
}

/// The builder starts, reads what another machine made, and brings the headers where docs/patch-authors.md says.
fn builder(host: &Running) {
    let version = host.shell("livepatch-build --version");
    assert_eq!(version, format!("livepatch-build {}", env!("CARGO_PKG_VERSION")));
    let said = host.shell("livepatch-build inspect /run/payload/fix.lpb");
    assert!(said.contains("CVE-2026-93146") && said.contains("6.1.0-"), "{said}");
    let include = "/usr/share/livepatch-builder/include";
    for header in ["livepatch/author.h", "kpatch-macros.h", "kpatch-syscall.h"] {
        host.shell(&format!("test -s {include}/{header}"));
    }
}

/// The timer of docs/status.md: off at first, and then it says what the daemon says, to other programs.
fn reboot_required(host: &Running) {
    let (timer, service) = ("livepatch-reboot-required.timer", "livepatch-reboot-required.service");
    assert_eq!(host.run(&format!("systemctl is-enabled {timer}")).text().trim(), "disabled");
    host.shell(&format!("systemctl start {service}"));
    host.expect("test -e /run/reboot-required", 1);

    host.shell(&format!("systemctl enable --now {timer}"));
    host.shell(&format!("systemctl is-active {timer} && systemctl list-timers --all | grep {timer}"));
    // What a daemon left whose kernel gets no livepatches any more.
    host.shell("systemctl stop livepatchd && mkdir -p /run/livepatch");
    let status = include_str!("status-ended.json").replace('\n', "");
    host.shell(&format!("echo '{status}' >/run/livepatch/status.json"));
    host.shell(&format!("systemctl start {service}"));
    assert_eq!(
        host.shell("cat /run/reboot-required /run/reboot-required.pkgs; stat -c %a /run/reboot-required"),
        "*** System restart required ***\nlivepatch: livepatches for this kernel ended\nlivepatch\n644"
    );
    // The daemon is there again and says otherwise.
    host.shell("systemctl start livepatchd");
    host.shell(&format!("systemctl start {service}"));
    host.expect("test -e /run/reboot-required || test -e /run/reboot-required.pkgs", 1);
    // It stays on when the package is installed again, and goes with it.
    host.shell("dpkg --install /run/payload/livepatch.deb");
    host.shell(&format!("systemctl is-enabled {timer}"));
}

/// The names lead to the client; beside the snap they are refused.
fn legacy_names(host: &Running) {
    host.shell("mkdir -p /var/lib/snapd/snaps && touch /var/lib/snapd/snaps/canonical-livepatch_1.snap");
    let said = host.expect("dpkg --install /run/payload/livepatch-legacy-names.deb", 1);
    assert!(said.contains("error: the snap canonical-livepatch is installed and owns these names"), "{said}");
    host.shell("rm -r /var/lib/snapd");
    host.shell("dpkg --install /run/payload/livepatch-legacy-names.deb");
    for name in ["/usr/bin/canonical-livepatch", "/snap/bin/canonical-livepatch"] {
        host.expect(&format!("{name} status"), 1);
    }
    for socket in ["livepatchd.sock", "livepatchd-priv.sock"] {
        host.shell(&format!("test -S /var/snap/canonical-livepatch/current/{socket}"));
    }
    let service = "/usr/lib/systemd/system/livepatch-legacy-root@.service";
    let said = host.run(&format!("systemd-analyze verify --man=no {service}"));
    assert!(!said.text().contains("livepatch"), "{}", said.text());
    let said =
        host.run(&format!("systemd-analyze security --no-pager --offline=true --threshold=12 {service}"));
    assert_eq!(said.status, 0, "{}", said.text());
    host.shell("dpkg --purge livepatch-legacy-names");

    // What is there already stays, now and afterwards.
    host.shell("mkdir -p /snap/bin && echo theirs >/snap/bin/canonical-livepatch");
    host.shell("dpkg --install /run/payload/livepatch-legacy-names.deb");
    host.shell("systemd-tmpfiles --create");
    assert_eq!(host.shell("cat /snap/bin/canonical-livepatch"), "theirs");
    host.shell("dpkg --purge livepatch-legacy-names");
    assert_eq!(host.shell("cat /snap/bin/canonical-livepatch"), "theirs");
    host.shell("rm -r /snap");
}
