//! A host that pins the vendor's root beside the operator's key: only what both say reaches the kernel. The repository is
//! made with the commands of docs/trust.md, the server is the real one.

use std::process::Command;

use livepatch_manifest::Bundle;
use livepatch_tests::cloud_kernel;
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
    });
    host.start();

    // The operator offers it, signed by the vendor's key. Of the vendor's repository nothing is known.
    assert_ne!(host.enable(&token).status, 0);
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
    assert!(trust.contains("debian-12-6.1"), "{trust}");

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
