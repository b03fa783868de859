//! The program as its operator sees it: texts, exit codes, and that nothing is left half-written.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::support::*;
use livepatch_manifest::{Bundle, ProofResult, ProofStep, VmProof, sha256};
use livepatch_server::Exit;
use serde_json::Value;

fn lines(text: &str) -> (String, Vec<String>) {
    let mut parts = text.trim_end().split("\n\n");
    let error = parts.next().unwrap().strip_prefix("error: ").expect(text).to_owned();
    assert!(!error.contains('\n'), "one line: {error:?}");
    let hints =
        parts.next().map(|hints| hints.lines().map(|l| l.strip_prefix("hint: ").expect(text).to_owned()));
    assert_eq!(parts.next(), None);
    (error, hints.into_iter().flatten().collect())
}

/// A command that must fail with this code and a message that holds these words, and at least one hint.
pub(crate) fn refused(site: &Site, arguments: &[&str], exit: Exit, words: &str) {
    let (code, text) = site.bad(arguments);
    let (error, hints) = lines(&text);
    assert!(error.contains(words), "{words:?} is not in {error:?}");
    assert!(!hints.is_empty(), "{text}");
    assert_eq!(code, exit as i32, "{text}");
}

fn objects(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir(site.data().join("objects")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn exit_codes_are_an_interface() {
    let codes = [Exit::Failed, Exit::Usage, Exit::Refused, Exit::Setup, Exit::Listen].map(|exit| exit as u8);
    assert_eq!(codes, [1, 2, 3, 4, 5]);
    assert_eq!(Site::empty().bad(&["frobnicate"]).0, 2);
}

#[test]
fn init_makes_a_private_directory_once() {
    let site = Site::empty();
    refused(&site, &["kernel", "list"], Exit::Setup, "is not a data directory");
    refused(&site, &["init", "--dns", "not a name"], Exit::Refused, "is not a DNS name");
    assert!(!site.data().exists(), "nothing half-written");
    let said = site.good(&["init", "--dns", "patch.example", "--ip", "192.0.2.1"]);
    assert!(said.contains("patch.example, 192.0.2.1"), "{said}");
    let mode = |name: &str| site.data().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("operator.key"), mode("tls.key")), (0o700, 0o600, 0o600));
    let public = std::fs::read(site.data().join("operator.pub")).unwrap();
    refused(&site, &["init"], Exit::Setup, "is not empty");
    assert_eq!(std::fs::read(site.data().join("operator.pub")).unwrap(), public);
    let key = std::fs::read(site.data().join("operator.key")).unwrap();
    assert!(openssl::pkey::PKey::private_key_from_pem(&key).is_ok(), "OpenSSL reads it");

    std::fs::set_permissions(site.data().join("operator.key"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    refused(&site, &["serve", "--listen", "127.0.0.1:0"], Exit::Setup, "can be read by others");

    let without = Site::empty();
    without.good(&["init", "--no-certificate"]);
    assert!(!without.data().join("ca.pem").exists());
    refused(&without, &["serve", "--listen", "127.0.0.1:0"], Exit::Setup, "tls.crt");
}

#[test]
fn only_what_a_trusted_vendor_signed_is_published() {
    let site = Site::empty();
    site.good(&["init"]);
    let good = VENDOR.bundle("1.1", &kernel(), b"module");
    let path = site.write("good.lpb", &good.to_bytes());
    let good_path = path.to_str().unwrap();
    refused(&site, &["publish", good_path], Exit::Refused, "no vendor is trusted");
    let der = site.write("vendor.der", &VENDOR.certificate.to_der().unwrap());
    assert!(site.good(&["vendor", "add", der.to_str().unwrap()]).contains("trusting CN=Vendor"));
    assert!(site.good(&["vendor", "add", der.to_str().unwrap()]).contains("already"));
    assert!(site.good(&["vendor", "list"]).contains("CN=Vendor"));

    let mallory = Vendor::new("Mallory");
    let bad = |name: &str, bytes: &[u8], words: &str| {
        let path = site.write(name, bytes);
        refused(&site, &["publish", path.to_str().unwrap()], Exit::Refused, words);
    };
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle.to_bytes()
    };
    bad("nonsense", b"nonsense", "not a livepatch bundle");
    bad("empty", b"", "not a livepatch bundle");
    let whole = good.to_bytes();
    bad("short", &whole[..whole.len() - 1], "bytes where its header says");
    bad("unsigned", &with(&|b| b.signature = None), "the bundle is not signed");
    bad("unsigned-module", &unsigned("1.1", &kernel(), b"module".to_vec()).to_bytes(), "not signed");
    let unsigned_module = {
        let mut bundle = unsigned("1.1", &kernel(), b"module".to_vec());
        bundle.signature = Some(VENDOR.sign(&bundle.manifest_bytes));
        bundle
    };
    bad("unsigned-module", &unsigned_module.to_bytes(), "the module is not signed");
    bad("mallory", &mallory.bundle("1.1", &kernel(), b"module").to_bytes(), "a key that is not trusted");
    bad("half-mallory", &with(&|b| b.signature = Some(mallory.sign(&b.manifest_bytes))), "not trusted");
    bad("garbage-signature", &with(&|b| b.signature = Some(vec![0; 100])), "malformed");
    // Another manifest under the signature of the first: only a bit in the version is different.
    let other = VENDOR.bundle("1.2", &kernel(), b"module");
    bad("swapped", &with(&|b| b.manifest_bytes = other.manifest_bytes.clone()), "was changed after signing");
    refused(&site, &["publish", "/nonexistent"], Exit::Refused, "No such file");
    refused(&site, &["vendor", "add", good_path], Exit::Refused, "cannot use");

    assert_eq!(objects(&site), Vec::<String>::new(), "nothing half-written");
    assert_eq!(site.good(&["patch", "list", "--format", "json"]), "[]\n");
    let (_, typo) = site.bad(&["publish", good_path, "--tier", "stabel"]);
    assert!(typo.contains("there is no tier stabel; the tiers are edge, beta, candidate, stable"), "{typo}");
    assert_eq!(objects(&site), Vec::<String>::new());
}

#[test]
fn what_no_virtual_machine_has_proven_is_published_only_with_a_reason() {
    let site = Site::new();
    let module = b"module".as_slice();
    let passed = proof(module, &kernel());
    let failed = VmProof { result: ProofResult::Failed, ..passed.clone() };
    let step = ProofStep { what: "load".into(), milliseconds: 1, failure: Some("it says no".into()) };
    let inconsistent = VmProof { steps: vec![step], ..passed.clone() };
    for (name, proof, words) in [
        ("none", None, "no virtual machine has proven it"),
        ("failed", Some(failed), "its proof in a virtual machine failed"),
        ("step", Some(inconsistent), "its proof is of another module or kernel"),
        ("module", Some(proof(b"another", &kernel())), "its proof is of another module or kernel"),
    ] {
        let bundle = VENDOR.bundle_with("1.1", &kernel(), module, proof);
        let path = site.write(name, &bundle.to_bytes());
        refused(&site, &["publish", path.to_str().unwrap()], Exit::Refused, words);
        refused(&site, &["publish", path.to_str().unwrap(), "--unproven", " "], Exit::Refused, words);
    }
    let bundle = VENDOR.bundle_with("1.1", &kernel(), module, None);
    let said = site.publish(&bundle, &["--unproven", "tried by hand on a spare machine"]);
    assert!(said.contains("published because: tried by hand on a spare machine"), "{said}");
    let said = site.publish(&VENDOR.bundle("1.2", &kernel(), module), &[]);
    assert!(said.contains("proof   passed, 0 steps in a machine"), "{said}");
}

#[test]
fn publishing_twice_changes_nothing_and_a_version_never_changes() {
    let site = Site::new();
    let bundle = VENDOR.bundle("1.1", &kernel(), b"module");
    let said = site.publish(&bundle, &[]);
    for words in ["published patch 1.1 in tier stable", "6.1.0-50-cloud-amd64", "CVE-2026-93146", "CN=Vendor"]
    {
        assert!(said.contains(words), "{said}");
    }
    assert!(site.publish(&bundle, &[]).contains("nothing changed"));
    assert!(site.publish(&bundle, &["--tier", "beta"]).contains("added patch 1.1 to tier beta"));
    let older = VENDOR.bundle("1.0", &kernel(), b"older");
    assert!(site.publish(&older, &[]).contains("stay with 1.1, which is newer"));

    let other = site.write("other", &VENDOR.bundle("1.1", &kernel(), b"another").to_bytes());
    refused(
        &site,
        &["publish", other.to_str().unwrap()],
        Exit::Refused,
        "published already with another module",
    );
    let listed: Value = serde_json::from_str(&site.good(&["patch", "list", "--format", "json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["module"]["sha256"], sha256(&bundle.module).to_string());
    let kernels = site.good(&["kernel", "list"]);
    assert!(kernels.contains("beta=1.1 stable=1.1"), "{kernels}");

    let build_id = kernel().build_id.to_string();
    let said =
        site.good(&["kernel", "cover", &build_id, "--until", "2027-03-19", "--series-until", "2028-06-30"]);
    assert!(said.contains("until 2027-03-19, series until 2028-06-30\n"), "{said}");
    let upgrade = ["kernel", "cover", &build_id, "--upgrade-for", "CVE-2026-1001", "--notice", "LSN-0113-1"];
    assert!(site.good(&upgrade).contains("upgrade for CVE-2026-1001 (LSN-0113-1)\n"));
    let listed: Value = serde_json::from_str(&site.good(&["kernel", "list", "--format", "json"])).unwrap();
    assert_eq!(
        listed[0]["coverage"],
        serde_json::json!({ "upgrade": { "cve": "CVE-2026-1001", "notice": "LSN-0113-1" } })
    );
    assert!(site.good(&["kernel", "cover", &build_id]).contains("nothing is said of its cover any more"));
    let unknown = "ab".repeat(20);
    refused(&site, &["kernel", "cover", &unknown], Exit::Refused, "no patch was ever published for a kernel");
    for wrong in [["--notice", "LSN-0113-1"], ["--until", "soon"], ["--upgrade-for", "LSN-0113-1"]] {
        let (code, _) = site.bad(&[&["kernel", "cover", &build_id], &wrong[..]].concat());
        assert_eq!(code, Exit::Usage as i32, "{wrong:?}");
    }

    refused(&site, &["patch", "withdraw", "9.9"], Exit::Refused, "there is no patch 9.9");
    assert!(site.good(&["patch", "withdraw", "1.1"]).contains("withdrew patch 1.1 for 1 kernel"));
    assert!(site.good(&["patch", "list"]).contains("withdrawn"));
    let again = site.write("again", &bundle.to_bytes());
    refused(&site, &["publish", again.to_str().unwrap()], Exit::Refused, "withdrawal is final");
}

#[test]
fn a_token_is_shown_once() {
    let site = Site::new();
    let token = site.token(&["--limit", "2"]);
    let secret = token.split_once('.').unwrap().1;
    assert_eq!(secret.len(), 64);
    assert!(!site.good(&["token", "list", "--format", "json"]).contains(secret));
    for file in std::fs::read_dir(site.data()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", path.display());
        }
    }
    refused(&site, &["token", "create", "--name", "t", "--tier", "stable"], Exit::Refused, "exists already");
    refused(
        &site,
        &["token", "create", "--name", "u", "--tier", "stable", "--expires", "x"],
        Exit::Refused,
        "time",
    );
    refused(&site, &["token", "revoke", "nobody"], Exit::Refused, "not known");
    site.good(&["token", "revoke", "t"]);
    assert!(site.good(&["token", "list"]).contains("revoked"));
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let site = Site::new();
    let bundle = VENDOR.bundle("1.1", &kernel(), &vec![1; 2 << 20]);
    let path = site.write("large.lpb", &bundle.to_bytes());
    // Files may grow to 1 MiB (ulimit counts 512 or 1024 bytes): writing the module fails as on a full disk.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" publish \"$1\" --data \"$2\""])
        .arg(env!("CARGO_BIN_EXE_livepatch-server"))
        .args([&path, &site.data()])
        .output()
        .unwrap();
    let text = String::from_utf8(limited.stderr).unwrap();
    let (error, hints) = lines(&text);
    assert_eq!(limited.status.code(), Some(Exit::Failed as i32), "{text}");
    assert!(error.starts_with("cannot write ") && hints[0].contains("has room"), "{text}");
    assert_eq!(objects(&site), Vec::<String>::new());
    assert_eq!(site.good(&["patch", "list", "--format", "json"]), "[]\n");
    assert!(site.publish(&bundle, &[]).contains("published patch 1.1"));
}

#[test]
fn serve_says_where_and_stops_when_told() {
    let site = Site::new();
    let token = site.token(&[]);
    let mut child = site
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .env("LIVEPATCH_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let machine_token = runtime.block_on(async {
        let body = serde_json::json!({ "token": token, "machine": "ab".repeat(32), "host": "cd".repeat(16) });
        let client = client(&site.data().join("ca.pem"));
        let response = client.post(format!("{url}/v1/enroll")).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()["machine_token"].as_str().unwrap().to_owned()
    });

    refused(
        &site,
        &["serve", "--listen", url.strip_prefix("https://").unwrap()],
        Exit::Listen,
        "Address already in use",
    );
    let stopped =
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(child.wait().unwrap().success(), "{log}");
    assert!(log.contains("machine enrolled") && log.contains("stopping"), "{log}");
    for secret in [&token, &machine_token, &"ab".repeat(32)] {
        assert!(!log.contains(secret.split('.').next_back().unwrap()), "a secret or a machine in the log");
    }
    assert!(!site.data().join("server.sqlite-wal").exists(), "closed in order");
}

/// Who copies `server.sqlite` after a command has all of it.
#[test]
fn every_command_closes_the_database() {
    let site = Site::empty();
    site.good(&["init"]);
    let der = site.write("vendor.der", &VENDOR.certificate.to_der().unwrap());
    let bundle = site.write("good.lpb", &VENDOR.bundle("1.1", &kernel(), b"module").to_bytes());
    let build_id = kernel().build_id.to_string();
    let (der, bundle) = (der.to_str().unwrap(), bundle.to_str().unwrap());
    let commands: &[&[&str]] = &[
        &["vendor", "add", der],
        &["publish", bundle, "--unproven", "a test"],
        &["patch", "list"],
        &["token", "create", "--name", "t", "--tier", "stable"],
        &["token", "list"],
        &["token", "revoke", "t"],
        &["kernel", "cover", &build_id, "--until", "2030-01-01"],
        &["kernel", "list"],
        &["poll-hint", "set", "600"],
        &["poll-hint", "show"],
        &["poll-hint", "off"],
        &["machine", "list"],
        &["support", "show"],
        &["log", "show"],
        &["log", "verify"],
        &["patch", "withdraw", "1.1"],
    ];
    let closed = |arguments: &[&str]| {
        assert!(!site.data().join("server.sqlite-wal").exists(), "left open by {arguments:?}");
    };
    for arguments in commands {
        site.good(arguments);
        closed(arguments);
    }
    let refused: &[&[&str]] = &[
        &["machine", "show", "ab"],
        &["token", "revoke", "nobody"],
        &["patch", "withdraw", "9.9"],
        // An address of a documentation network (RFC 5737), which this machine does not have.
        &["serve", "--listen", "192.0.2.1:0"],
    ];
    for arguments in refused {
        site.bad(arguments);
        closed(arguments);
    }
}
