//! The ceremony of repositories, on the command line: the commands of docs/trust.md as they stand there, and what must be
//! refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use livepatch_build::keygen;
use livepatch_build::signing::{FileSigner, sign_bundle};
use livepatch_manifest::{Bundle, ModuleObject, PatchManifest, sha256};
use livepatch_transparency::{BundleEvent, Checkpoint, Entry, Event, LogKey, LoggedProof, leaf_hash};
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, PatchVersion};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../../docs/trust.md");

/// A directory in which a ceremony takes place.
struct Ceremony {
    directory: TempDir,
}

impl Ceremony {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A script, with `livepatch-build` on its path.
    fn shell(&self, script: &str) -> Output {
        let programs = Path::new(env!("CARGO_BIN_EXE_livepatch-build")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.directory.path())
            .env("PATH", path)
            .output()
            .unwrap()
    }

    fn succeed(&self, script: &str) -> String {
        let output = self.shell(script);
        assert!(output.status.success(), "{script}\n{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first line of the error with which it ends.
    fn fail(&self, script: &str, code: i32) -> String {
        let output = self.shell(script);
        assert_eq!(output.status.code(), Some(code), "{script}\n{}", text(&output));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("\n\nhint: "), "{errors}");
        errors.lines().next().unwrap().to_owned()
    }

    /// `livepatch.lpb`, signed, for a kernel with this build-id, and its certificate.
    fn bundle(&self, build_id: &str) {
        let pair = keygen::generate("vendor", 2048, Timestamp::UNIX_EPOCH).unwrap();
        let signer = FileSigner::new(&pair.key_pem, &pair.certificate_pem).unwrap();
        let module = b"\x7fELF a module".to_vec();
        let manifest = PatchManifest {
            schema: 1,
            version: PatchVersion::parse("1.1").unwrap(),
            kernel: KernelIdentity {
                architecture: Architecture::Amd64,
                release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
                build_id: BuildId::parse(build_id).unwrap(),
            },
            module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
            objects: vec![],
            cves: vec![],
            built: Timestamp::UNIX_EPOCH,
            compiler: "gcc-12".into(),
            sections: Default::default(),
        };
        let bundle = sign_bundle(Bundle::new(manifest, module, None).unwrap(), &signer).unwrap();
        fs::write(self.path("livepatch.lpb"), bundle.to_bytes()).unwrap();
        fs::write(self.path("livepatch.cert.pem"), &pair.certificate_pem).unwrap();
    }

    /// A vendor's repository with one key for each role, released once.
    fn vendor(&self) {
        self.succeed(
            "for name in root targets release; do livepatch-build trust keygen . --name $name; done
             livepatch-build trust init vendor --name debian-12-6.1 --root-key root.pub.pem \
               --targets-key targets.pub.pem --release-key release.pub.pem
             livepatch-build trust sign vendor/staged/root.json --key root.key.pem
             livepatch-build trust sign vendor/staged/targets.json --key targets.key.pem
             livepatch-build trust release vendor --key release.key.pem",
        );
    }
}

fn text(output: &Output) -> String {
    [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat()
}

/// The commands of the page, one after another.
fn commands(page: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => script.extend([line, "\n"]),
            _ => {}
        }
    }
    script
}

#[test]
fn the_runbooks_do_what_they_say() {
    let ceremony = Ceremony::new();
    let script = commands(PAGE);
    let build_id = script.lines().find_map(|line| line.strip_prefix("BUILD_ID=")).unwrap();
    ceremony.bundle(build_id);
    ceremony.succeed(&script);

    let shown: serde_json::Value =
        serde_json::from_str(&ceremony.succeed("livepatch-build trust show vendor --format json")).unwrap();
    assert_eq!(shown["problem"], serde_json::Value::Null);
    assert_eq!(shown["staged"], serde_json::json!([]));
    let kernel = &shown["kernels"][0];
    assert_eq!(kernel["kernel"]["build_id"], build_id);
    assert_eq!(
        (&kernel["allowed"], &kernel["withdrawn"], &kernel["lowest"]),
        (&serde_json::json!([]), &serde_json::json!(["1.1"]), &serde_json::json!("1.2"))
    );
    let versions: Vec<_> = shown["roles"].as_array().unwrap().iter().map(|role| &role["version"]).collect();
    assert_eq!(versions, [4, 4, 6, 6], "root, targets, snapshot, timestamp");
}

#[test]
fn nothing_is_released_below_the_threshold() {
    let ceremony = Ceremony::new();
    ceremony.vendor();
    ceremony.succeed("livepatch-build trust renew vendor --role targets");
    let before = ceremony.succeed("livepatch-build trust verify vendor");
    let refusal = ceremony.fail("livepatch-build trust release vendor --key release.key.pem", 7);
    assert_eq!(refusal, "error: 0 of the 1 signatures that the role targets needs are valid");
    // A key of another role does not help.
    ceremony.succeed("livepatch-build trust sign vendor/staged/targets.json --key root.key.pem");
    let refusal = ceremony.fail("livepatch-build trust release vendor --key release.key.pem", 7);
    assert_eq!(refusal, "error: 0 of the 1 signatures that the role targets needs are valid");
    assert_eq!(ceremony.succeed("livepatch-build trust verify vendor"), before, "nothing changed");
    let refusal = ceremony.fail("livepatch-build trust release vendor --key root.key.pem", 7);
    assert!(refusal.ends_with("is not one of the role snapshot"), "{refusal}");
    ceremony.succeed(
        "livepatch-build trust sign vendor/staged/targets.json --key targets.key.pem
         livepatch-build trust release vendor --key release.key.pem",
    );
}

#[test]
fn what_the_repository_says_travels_in_the_bundle() {
    let ceremony = Ceremony::new();
    ceremony.vendor();
    ceremony.bundle("0101010101010101010101010101010101010101");
    let unknown = ceremony.fail("livepatch-build trust attach vendor livepatch.lpb", 7);
    assert!(unknown.starts_with("error: "), "{unknown}");
    let release = "livepatch-build trust sign vendor/staged/targets.json --key targets.key.pem
         livepatch-build trust release vendor --key release.key.pem\n";
    ceremony.succeed(&format!(
        "livepatch-build trust allow vendor livepatch.lpb --certificate livepatch.cert.pem\n{release}"
    ));
    let said = ceremony.succeed("livepatch-build trust attach vendor livepatch.lpb --output carried.lpb");
    assert!(said.starts_with(
        "wrote carried.lpb: livepatch 1.1 with what debian-12-6.1 says of 6.1.0-50-amd64, until "
    ));
    let (plain, carried) = (ceremony.path("livepatch.lpb"), ceremony.path("carried.lpb"));
    let [plain, carried] = [plain, carried].map(|path| Bundle::parse(&fs::read(path).unwrap()).unwrap());
    let files = carried.parsed_vendor().unwrap().unwrap();
    let paths: Vec<_> = files.paths().collect();
    assert_eq!(paths[..3], ["metadata/1.root.json", "metadata/2.snapshot.json", "metadata/2.targets.json"]);
    assert_eq!((paths[3], paths.len()), ("metadata/timestamp.json", 5));
    for path in paths {
        let served = fs::read(ceremony.path("vendor").join(path)).unwrap();
        assert_eq!(files.get(path), Some(served.as_slice()), "{path}");
    }
    assert_eq!(Bundle { vendor: None, ..carried }, plain, "all else is as it was");
    let inspected = ceremony.succeed("livepatch-build inspect carried.lpb");
    assert!(inspected.contains("\ncarries    metadata/1.root.json metadata/2.snapshot.json "), "{inspected}");
    assert!(ceremony.succeed("livepatch-build inspect livepatch.lpb").contains("\ncarries    none\n"));

    the_proof_of_the_log_is_attached(&ceremony, &plain);
    ceremony.succeed(&format!(
        "livepatch-build trust withdraw vendor 1.1 --kernel 0101010101010101010101010101010101010101\n{release}"
    ));
    let refusal = ceremony.fail("livepatch-build trust attach vendor livepatch.lpb", 7);
    assert!(refusal.contains("withdr"), "{refusal}");
}

/// The proof of a log goes along, if it speaks of the bundle.
fn the_proof_of_the_log_is_attached(ceremony: &Ceremony, bundle: &Bundle) {
    let manifest = &bundle.manifest;
    let proof = |version: &PatchVersion| {
        let event = Event::Bundle(BundleEvent {
            name: version.module_name().to_string(),
            version: *version,
            kernel: manifest.kernel.clone(),
            manifest_sha256: sha256(&bundle.manifest_bytes),
            module_sha256: manifest.module.sha256,
        });
        let entry = Entry::new("2026-11-24T12:00:00Z".parse().unwrap(), event).to_bytes().unwrap();
        let key = LogKey::new("log.example/fleet", [1; 32]).unwrap();
        let head = Checkpoint { origin: key.name().to_owned(), size: 1, root: leaf_hash(&entry) };
        LoggedProof { entry, index: 0, hashes: vec![], note: head.to_note(&key, &[0; 64]) }.to_text()
    };
    fs::write(ceremony.path("proof"), proof(&manifest.version)).unwrap();
    let attach = "livepatch-build trust attach vendor livepatch.lpb --output logged.lpb --logged";
    ceremony.succeed(&format!("{attach} proof"));
    let logged = Bundle::parse(&fs::read(ceremony.path("logged.lpb")).unwrap()).unwrap();
    assert_eq!(logged.logged, Some(fs::read(ceremony.path("proof")).unwrap()));
    let inspected = ceremony.succeed("livepatch-build inspect logged.lpb");
    let line = "logged     entry 0 of 1 in log.example/fleet, at 2026-11-24T12:00:00Z (not verified here)";
    assert!(inspected.lines().any(|l| l == line), "{inspected}");
    let json = ceremony.succeed("livepatch-build inspect logged.lpb --format json");
    assert!(json.contains(r#""log": "log.example/fleet""#), "{json}");
    assert!(ceremony.succeed("livepatch-build inspect livepatch.lpb").contains("\nlogged     no\n"));

    fs::write(ceremony.path("other"), proof(&PatchVersion::parse("1.9").unwrap())).unwrap();
    fs::write(ceremony.path("none"), "c2sp.org/tlog-proof@v1\n").unwrap();
    for (file, expected) in [("other", "1.9"), ("none", "no checkpoint")] {
        let refusal = ceremony.fail(&format!("{attach} {file}"), 7);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn a_key_that_was_taken_away_does_not_come_back() {
    let ceremony = Ceremony::new();
    ceremony.vendor();
    ceremony.succeed(
        "livepatch-build trust keygen . --name other
         livepatch-build trust rotate vendor --role targets --add other.pub.pem --remove targets.pub.pem
         livepatch-build trust sign vendor/staged/root.json --key root.key.pem
         livepatch-build trust renew vendor --role targets
         livepatch-build trust sign vendor/staged/targets.json --key other.key.pem
         livepatch-build trust release vendor --key release.key.pem",
    );
    let refusal =
        ceremony.fail("livepatch-build trust rotate vendor --role targets --add targets.pub.pem", 7);
    assert!(refusal.ends_with("was taken away by an earlier root"), "{refusal}");
}

#[test]
fn a_key_that_others_may_read_signs_nothing() {
    let ceremony = Ceremony::new();
    ceremony.vendor();
    let mode = fs::metadata(ceremony.path("root.key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(ceremony.path("root.key.pem"), Permissions::from_mode(0o640)).unwrap();
    let refusal = ceremony.fail(
        "livepatch-build trust renew vendor --role root
         livepatch-build trust sign vendor/staged/root.json --key root.key.pem",
        7,
    );
    assert_eq!(
        refusal,
        "error: others may read the private key root.key.pem: its mode is 640 where 600 is expected"
    );
}

#[test]
fn what_was_changed_on_the_disk_is_found() {
    let ceremony = Ceremony::new();
    ceremony.vendor();
    let path = ceremony.path("vendor/metadata/1.targets.json");
    let changed = fs::read_to_string(&path).unwrap().replace("\"targets\":{}", "\"targets\":{ }");
    fs::write(&path, changed).unwrap();
    let refusal = ceremony.fail("livepatch-build trust verify vendor", 7);
    assert!(refusal.starts_with("error: the targets metadata has "), "{refusal}");
}

/// Root and releases by a key in a token (SoftHSM, `cargo xtask setup`).
#[test]
fn a_token_signs() {
    let ceremony = Ceremony::new();
    fs::create_dir(ceremony.path("tokens")).unwrap();
    fs::write(ceremony.path("pin"), "4711\n").unwrap();
    fs::set_permissions(ceremony.path("pin"), Permissions::from_mode(0o600)).unwrap();
    let configuration = format!("directories.tokendir = {}\n", ceremony.path("tokens").display());
    fs::write(ceremony.path("softhsm2.conf"), configuration).unwrap();
    ceremony.succeed(
        "export SOFTHSM2_CONF=$PWD/softhsm2.conf
         softhsm2-util --init-token --free --label vendor --so-pin 1234 --pin 4711
         openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem
         openssl pkey -in key.pem -pubout -out public.pem
         softhsm2-util --import key.pem --token vendor --id 01 --label root --pin 4711
         rm key.pem
         livepatch-build trust keygen . --name other
         livepatch-build trust init vendor --name debian-12-6.1 --root-key public.pem \
           --targets-key other.pub.pem --release-key public.pem
         token='--pkcs11 /usr/lib/softhsm/libsofthsm2.so --token vendor --key-label root --pin-file pin'
         livepatch-build trust sign vendor/staged/root.json $token --public public.pem
         livepatch-build trust sign vendor/staged/targets.json --key other.key.pem
         livepatch-build trust release vendor $token --public public.pem
         livepatch-build trust verify vendor",
    );
    let refusal = ceremony.fail(
        "export SOFTHSM2_CONF=$PWD/softhsm2.conf
         livepatch-build trust release vendor --pkcs11 /usr/lib/softhsm/libsofthsm2.so --token vendor \
           --key-label root --pin-file pin --public other.pub.pem",
        7,
    );
    assert_eq!(refusal, "error: the public key is not that of the private key");
}
