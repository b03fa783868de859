//! Signing with a key in a token, and on another host: here another user, who alone can use the key. The token is SoftHSM
//! (`cargo xtask setup`).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use livepatch_build::keygen;
use livepatch_build::signing::{FileSigner, sign_bundle};
use livepatch_manifest::{Bundle, ModuleObject, PatchManifest, sha256};
use livepatch_modsig::{Certificate, Signer as _, verify_detached, verify_module};
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, PatchVersion};
use tempfile::TempDir;

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
const TOKEN: &str = "vendor";
const KEY: &str = "livepatch";
const PIN: &str = "4711";
/// Two users who have no files and no groups in common: Debian's `nobody`, and one that no system has.
const SIGNER: u32 = 65_534;
const BUILDER: u32 = 54_321;

/// A token with a key, and the same key in a file.
struct Token {
    directory: TempDir,
    pair: keygen::KeyPair,
}

impl Token {
    fn new() -> Self {
        let token = Self {
            directory: tempfile::tempdir().unwrap(),
            pair: keygen::generate("vendor", 2048, Timestamp::UNIX_EPOCH).unwrap(),
        };
        fs::set_permissions(token.directory.path(), Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(token.path("tokens")).unwrap();
        let configuration = format!("directories.tokendir = {}\n", token.path("tokens").display());
        fs::write(token.path("softhsm2.conf"), configuration).unwrap();
        fs::write(token.path("key.pem"), &token.pair.key_pem).unwrap();
        fs::write(token.path("cert.pem"), &token.pair.certificate_pem).unwrap();
        token.pin(PIN);
        let label = ["--label", TOKEN, "--so-pin", "1234", "--pin", PIN];
        token.softhsm(&["--init-token", "--free"], &label);
        let key = token.path("key.pem");
        let import = ["--import", key.to_str().unwrap(), "--token", TOKEN, "--id", "01"];
        token.softhsm(&import, &["--label", KEY, "--pin", PIN]);
        fs::remove_file(key).unwrap();
        token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pin(&self, pin: &str) {
        fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.path("pin"), Permissions::from_mode(0o600)).unwrap();
    }

    fn softhsm(&self, first: &[&str], rest: &[&str]) {
        let mut command = Command::new("softhsm2-util");
        command.args(first).args(rest).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        let output = command.output().expect("softhsm2-util is there after `cargo xtask setup`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `livepatch-build sign` with the token's key; the rest says where the PIN is.
    fn sign(&self, program: &mut Command, bundle: &Path, key: &str, pin: &str) -> Output {
        program.arg("sign").arg(bundle).args(["--pkcs11", LIBRARY, "--token", TOKEN, "--key-label", key]);
        program.arg("--certificate").arg(self.path("cert.pem")).args(pin.split(' '));
        program.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).output().unwrap()
    }

    fn pin_file(&self) -> String {
        format!("--pin-file {}", self.path("pin").display())
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_der(&self.pair.certificate_der).unwrap()
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_livepatch-build"))
}

fn bundle() -> Bundle {
    let module = b"\x7fELF and so on".to_vec();
    let manifest = PatchManifest {
        schema: 1,
        version: PatchVersion::parse("1.1").unwrap(),
        kernel: KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        },
        module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
        objects: vec![],
        cves: vec![],
        built: Timestamp::UNIX_EPOCH,
        compiler: "gcc-12".into(),
        sections: Default::default(),
    };
    Bundle::new(manifest, module, None).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_token_signs_as_a_file_does() {
    let token = Token::new();
    let path = token.path("bundle.lpb");
    fs::write(&path, bundle().to_bytes()).unwrap();
    let output = token.sign(&mut program(), &path, KEY, &token.pin_file());
    assert!(output.status.success(), "{}", text(&output));
    let signed = Bundle::parse(&fs::read(&path).unwrap()).unwrap();
    let trusted = [token.certificate()];
    verify_module(&signed.module, &trusted).unwrap();
    verify_detached(&signed.manifest_bytes, signed.signature.as_ref().unwrap(), &trusted).unwrap();
    // RSA PKCS#1 v1.5 has no chance in it, so OpenSSL's form must be ours to the byte.
    let by_file = FileSigner::new(&token.pair.key_pem, &token.pair.certificate_der).unwrap();
    assert_eq!(*by_file.certificate(), token.certificate());
    assert!(sign_bundle(bundle(), &by_file).unwrap() == signed);
}

#[test]
fn the_pin_comes_from_a_descriptor_too() {
    let token = Token::new();
    let path = token.path("bundle.lpb");
    fs::write(&path, bundle().to_bytes()).unwrap();
    // A shell, because it can leave a descriptor open.
    let script = format!("exec \"$0\" \"$@\" 3<{}", token.path("pin").display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_livepatch-build")]);
    let output = token.sign(&mut shell, &path, KEY, "--pin-fd 3");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn what_a_token_refuses_is_said_and_nothing_is_signed() {
    let token = Token::new();
    let path = token.path("bundle.lpb");
    let unsigned = bundle().to_bytes();
    fs::write(&path, &unsigned).unwrap();
    let refused = |key: &str, pin: &str, expected: &str| {
        let output = token.sign(&mut program(), &path, key, pin);
        assert_eq!(output.status.code(), Some(7), "{}", text(&output));
        let text = text(&output);
        assert!(text.contains(expected) && text.contains("hint: "), "{text}");
        assert!(!text.contains(PIN), "the PIN is never told");
        assert!(fs::read(&path).unwrap() == unsigned);
    };
    refused("another", &token.pin_file(), "not exactly one private RSA key \"another\"");
    token.pin("0000");
    refused(KEY, &token.pin_file(), "cannot log in at the token \"vendor\"");
    token.pin("");
    refused(KEY, &token.pin_file(), "is not a PIN");
    token.pin(PIN);
    fs::set_permissions(token.path("pin"), Permissions::from_mode(0o640)).unwrap();
    refused(KEY, &token.pin_file(), "its mode is 640");
    refused(KEY, "--pin-fd 77", "cannot read the PIN from file descriptor 77");
    token.pin(PIN);
    let other = keygen::generate("other", 2048, Timestamp::UNIX_EPOCH).unwrap();
    fs::write(token.path("cert.pem"), other.certificate_pem).unwrap();
    refused(KEY, &token.pin_file(), "the certificate CN=other is not that of the token's key");
}

#[test]
fn who_builds_and_who_signs_share_nothing_but_the_bundle() {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        // Past the test harness, which would hide it.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED: who_builds_and_who_signs_share_nothing_but_the_bundle: needs root, to be two other users\n",
        );
        return;
    }
    let token = Token::new();
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), Permissions::from_mode(0o755)).unwrap();
    let installed = shared.path().join("livepatch-build");
    fs::copy(env!("CARGO_BIN_EXE_livepatch-build"), &installed).unwrap();
    // Each has a directory that the other can look into at most.
    let (built, signed) = (shared.path().join("built"), shared.path().join("signed"));
    for (directory, owner) in [(&built, BUILDER), (&signed, SIGNER)] {
        fs::create_dir(directory).unwrap();
        chown(directory, Some(owner), Some(owner)).unwrap();
    }
    let everything =
        Command::new("chown").arg("-R").arg(SIGNER.to_string()).arg(token.directory.path()).status();
    assert!(everything.unwrap().success());
    let as_user = |user: u32, program: &Path| {
        let user = user.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs", "--"])
            .arg(program);
        command
    };
    let (from, to) = (built.join("bundle.lpb"), signed.join("bundle.lpb"));
    fs::write(&from, bundle().to_bytes()).unwrap();
    chown(&from, Some(BUILDER), Some(BUILDER)).unwrap();

    for file in ["pin", "cert.pem", "softhsm2.conf"] {
        let read = as_user(BUILDER, Path::new("/bin/cat")).arg(token.path(file)).output().unwrap();
        assert!(text(&read).contains("Permission denied"), "the builder can read {file}");
    }
    let tried = token.sign(&mut as_user(BUILDER, &installed), &from, KEY, &token.pin_file());
    assert_eq!(tried.status.code(), Some(7), "{}", text(&tried));

    let taken = as_user(SIGNER, Path::new("/bin/cp")).arg(&from).arg(&to).output().unwrap();
    assert!(taken.status.success(), "{}", text(&taken));
    let output = token.sign(&mut as_user(SIGNER, &installed), &to, KEY, &token.pin_file());
    assert!(output.status.success(), "{}", text(&output));
    let back = as_user(BUILDER, Path::new("/bin/cat")).arg(&to).output().unwrap();
    verify_module(&Bundle::parse(&back.stdout).unwrap().module, &[token.certificate()]).unwrap();
    let forbidden = as_user(SIGNER, Path::new("/bin/cp")).arg(&to).arg(&from).output().unwrap();
    assert!(!forbidden.status.success(), "the signer can write the builder's files");
}
