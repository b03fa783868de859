//! What makes a machine a host of a fleet: the package, and what docs/packages.md says to write down.

use std::path::Path;

use crate::machine::{Machine, Running};
use crate::patches::Vendor;
use crate::site::{ADDRESS, Site};

pub(crate) const APT: &str =
    "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confold";
/// Where a test says how long livepatches soak.
const SOAK: &str = "/etc/systemd/system/livepatch-loader.service.d";

/// Gives a machine all that a host of this site needs, with a token of its own.
pub(crate) fn give_client(
    machine: &mut Machine<'_>,
    package: &Path,
    site: &Site,
    port: u16,
    vendor: &Vendor,
) {
    machine.give_file("livepatch.deb", 0o644, package);
    let config = format!("server = \"https://{ADDRESS}:{port}\"\nca-file = \"/etc/livepatch/ca.pem\"\n");
    machine.give("livepatch.toml", 0o644, config);
    machine.give_file("ca.pem", 0o644, &site.file("ca.pem"));
    machine.give_file("trust/operator.pub", 0o644, &site.file("operator.pub"));
    machine.give("trust/vendor.pem", 0o644, vendor.certificate_pem.clone());
    machine.give("token", 0o600, site.token("t", &[]));
}

/// Installs the package.
pub(crate) fn install(host: &Running) {
    host.shell(&format!("{APT} install /run/payload/livepatch.deb"));
}

/// Writes down who is asked and who is believed, after the package is installed.
pub(crate) fn configure(host: &Running) {
    host.shell("cp /run/payload/livepatch.toml /run/payload/ca.pem /etc/livepatch/");
    host.shell("cp /run/payload/trust/* /etc/livepatch/trust/ && systemctl restart livepatchd");
}

/// The same and enrolled, by the commands that ubuntu-pro-client gives for a server of its own: nothing is started anew in between.
pub(crate) fn configure_and_enable_as_ubuntu_pro_client(host: &Running, port: u16) {
    host.shell("cp /run/payload/trust/* /etc/livepatch/trust/");
    // What livepatch-legacy-names has is this link.
    host.shell("ln -s /usr/bin/livepatch /run/canonical-livepatch");
    let config = "/run/canonical-livepatch config";
    host.shell(&format!("{config} ca-certs=@stdin </run/payload/ca.pem"));
    host.shell(&format!("{config} remote-server=https://{ADDRESS}:{port}"));
    // More often than the limit of starts allows.
    for level in ["debug", "notice", "warning", "error", "info"] {
        host.shell(&format!("{config} log-level={level}"));
    }
    let said = host.shell("/run/canonical-livepatch enable $(cat /run/payload/token)");
    assert_eq!(said.trim(), "Successfully enabled device.");
}

/// From the next start on, livepatches are healthy at once: nobody waits for a quarter of an hour here.
pub(crate) fn do_not_soak(host: &Running) {
    host.shell(&format!(
        "mkdir {SOAK} && printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/livepatch-loader --soak-minutes 0\\n' > {SOAK}/soak.conf && systemctl daemon-reload"
    ));
}

/// From the next start on, they soak as long as they do elsewhere.
pub(crate) fn soak(host: &Running) {
    host.shell(&format!("rm -r {SOAK} && systemctl daemon-reload"));
}
