//! A host that pins the vendor's root and the log beside the operator's key: only what both say reaches the kernel. The repository is
//! made with the commands of docs/trust.md, the server is the real one.

use std::process::Command;

use livepatch_manifest::Bundle;
use livepatch_tests::cloud_kernel;
use livepatch_types::PatchState;
use tempfile::TempDir;

use crate::host::Host;
use crate::patches::{Vendor, patches};
use crate::site::{Site, free_port};

const MODULE: &str = "livepatch_1_1";
/// One key for each role; thresholds have their tests in `crates/trust` and `crates/loader`.
const KEYS: [&str; 3] = ["root", "targets", "release"];

/// The vendor's repository.
struct Repository {
    directory: TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { directory: tempfile::tempdir().unwrap() };
        for name in KEYS {
            repository.run(&["keygen", ".", "--name", name]);
        }
        repository.run(&[
            "init",
            "vendor",
            "--name",
            "debian-12-6.1",
            "--root-key",
            "root.pub.pem",
            "--targets-key",
            "targets.pub.pem",
            "--release-key",
            "release.pub.pem",
        ]);
        repository.run(&["sign", "vendor/staged/root.json", "--key", "root.key.pem"]);
        repository.release();
        repository
    }

    fn root(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("vendor/metadata/1.root.json")).unwrap()
    }

    fn allow(&self, bundle: &Bundle, vendor: &Vendor) {
        std::fs::write(self.directory.path().join("bundle.lpb"), bundle.to_bytes()).unwrap();
        std::fs::write(self.directory.path().join("vendor.pem"), &vendor.certificate_pem).unwrap();
        self.run(&["allow", "vendor", "bundle.lpb", "--certificate", "vendor.pem"]);
        self.release();
    }

    /// The bundle with what the repository says.
    fn attach(&self, bundle: &Bundle) -> Vec<u8> {
        std::fs::write(self.directory.path().join("bundle.lpb"), bundle.to_bytes()).unwrap();
        self.run(&["attach", "vendor", "bundle.lpb"]);
        std::fs::read(self.directory.path().join("bundle.lpb")).unwrap()
    }

    fn withdraw(&self, bundle: &Bundle) {
        let (version, kernel) =
            (bundle.manifest.version.to_string(), bundle.manifest.kernel.build_id.to_string());
        self.run(&["withdraw", "vendor", &version, "--kernel", &kernel]);
        self.release();
    }

    fn release(&self) {
        self.run(&["sign", "vendor/staged/targets.json", "--key", "targets.key.pem"]);
        self.run(&["release", "vendor", "--key", "release.key.pem"]);
    }

    /// Has a server serve it as it is now.
    fn import(&self, site: &Site) {
        site.run(&["vendor", "import", self.directory.path().join("vendor").to_str().unwrap()]);
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-build-for-tests"));
        let output =
            command.arg("trust").args(arguments).current_dir(self.directory.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn only_what_operator_and_vendor_say_is_loaded() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let bundle = patches.vendor.sign(patches.first.clone());
    let repository = Repository::new();
    let site = Site::new(&patches.vendor);
    repository.import(&site);
    site.publish(&bundle);
    let token = site.token("t", &[]);
    let port = free_port();
    let server = site.serve(port);
    let host = Host::boot_with(&kernel, patches, &site, port, |initramfs| {
        initramfs.file("/etc/livepatch/trust/vendor-root.json", 0o644, repository.root()).unwrap();
        initramfs.file_from("/etc/livepatch/trust/log.vkey", 0o644, &site.file("log.vkey")).unwrap();
    });
    host.start();

    // The operator offers it, signed by the vendor's key. Of the vendor's repository nothing is known.
    let enabled = host.enable(&token);
    assert_eq!((enabled.status, enabled.error_text().contains("(vendor-unseen)")), (0, true));
    let refused = |code: &str| {
        assert_eq!(host.problem().as_deref(), Some(code));
        assert_eq!((host.checks(), host.applications(MODULE)), ([1, 1], 0), "{code}");
    };
    refused("vendor-unseen");

    // It allows another one.
    repository.allow(&patches.vendor.sign(patches.second.clone()), &patches.vendor);
    repository.import(&site);
    host.livepatch(&["refresh"]);
    refused("vendor-not-allowed");

    // Both say it.
    repository.allow(&bundle, &patches.vendor);
    repository.import(&site);
    host.expect(&["refresh"], 0);
    assert_eq!((host.problem(), host.checks(), host.applications(MODULE)), (None, [0, 0], 1));
    let trust = host.expect(&["trust"], 0).text();
    assert!(trust.contains("debian-12-6.1") && trust.contains(" entries seen"), "{trust}");

    // The root file goes away: what runs stays.
    host.shell("mv /etc/livepatch/trust/vendor-root.json /run/");
    host.livepatch(&["refresh"]);
    assert_eq!(host.problem().as_deref(), Some("vendor-root-missing"));
    assert_eq!(host.checks(), [0, 0]);
    host.shell("mv /run/vendor-root.json /etc/livepatch/trust/");

    // The vendor withdraws, and the operator says nothing: it is unloaded, and does not come back.
    repository.withdraw(&bundle);
    repository.import(&site);
    host.livepatch(&["refresh"]);
    assert_eq!((host.checks(), host.applications(MODULE)), ([1, 1], 1));
    host.livepatch(&["apply"]);
    assert_eq!((host.checks(), host.applications(MODULE)), ([1, 1], 1));
    drop(server);
}

/// No server, no operator's key, no daemon: root carries a bundle to the host.
#[test]
fn a_bundle_is_applied_without_any_server() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let bundle = patches.vendor.sign(patches.first.clone());
    let repository = Repository::new();
    repository.allow(&bundle, &patches.vendor);
    let carried = repository.attach(&bundle);
    let site = Site::new(&patches.vendor);
    let host = Host::boot_with(&kernel, patches, &site, free_port(), |initramfs| {
        initramfs.file("/etc/livepatch/trust/vendor-root.json", 0o644, repository.root()).unwrap();
    });
    host.shell(
        "rm /etc/livepatch/trust/operator.pub /etc/livepatch/ca.pem; : >/etc/livepatch/livepatch.toml",
    );
    host.guest.write_file("/root/plain.lpb", 0o600, &bundle.to_bytes()).unwrap();
    host.guest.write_file("/root/carried.lpb", 0o600, &carried).unwrap();
    host.start();
    let apply = |file: &str| host.livepatch(&["apply", "--bundle", file]);
    let refused = apply("/root/plain.lpb");
    assert_eq!((refused.status, host.checks()), (1, [1, 1]), "{}", refused.error_text());
    let applied = host.expect(&["apply", "--bundle", "/root/carried.lpb"], 0).text();
    assert!(applied.starts_with("Livepatch 1.1 is applied: "), "{applied}");
    assert_eq!((host.problem(), host.checks(), host.applications(MODULE)), (None, [0, 0], 1));
    assert_eq!(host.status().patch.state, PatchState::Applied);

    // It is the loader's, whatever becomes of the processes.
    host.stop("KILL");
    host.start();
    assert_eq!((host.checks(), host.applications(MODULE)), ([0, 0], 1));
    host.expect(&["revert"], 0);
    assert_eq!(host.checks(), [1, 1]);
    host.expect(&["apply", "--bundle", "/root/carried.lpb"], 0);
    assert_eq!((host.checks(), host.applications(MODULE)), ([0, 0], 2));

    // A later bundle replaces it, and there is no way back.
    repository.allow(&patches.vendor.sign(patches.second.clone()), &patches.vendor);
    let later = repository.attach(&patches.vendor.sign(patches.second.clone()));
    host.guest.write_file("/root/later.lpb", 0o600, &later).unwrap();
    host.expect(&["apply", "--bundle", "/root/later.lpb"], 0);
    assert_eq!(host.status().patch.version, Some(patches.second.manifest.version));
    let refused = apply("/root/carried.lpb");
    assert!(refused.error_text().contains("older"), "{}", refused.error_text());
    host.finish();
}
