//! `cves`, `wait`, `hold` and `unhold`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use livepatch_api::daemon::*;
use livepatch_types::*;

use crate::support::*;

fn with_status(status: &Status, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let body = serde_json::to_string(status).unwrap();
    let daemon = answer(directory.path(), "livepatchd.sock", "200 OK", &body);
    let output = livepatch(directory.path(), arguments, "");
    daemon.join().unwrap();
    output
}

#[test]
fn cves_by_exit_code() {
    let mut disabled = status();
    (disabled.enabled, disabled.patch.state) = (false, PatchState::Unknown);
    // Of a bundle, on a host that has no server.
    let mut bundle = status();
    (bundle.enabled, bundle.server) = (false, None);
    let mut unapplied = status();
    unapplied.patch.state = PatchState::Unapplied;
    unapplied.patch.cves.iter_mut().for_each(|cve| cve.patched = false);
    for (status, asked, code) in [
        (&status(), &["CVE-2026-0001"][..], 0),
        (&status(), &["cve-2026-0001"], 0),
        (&status(), &["CVE-2026-123456"], 1),
        (&status(), &["CVE-2026-0001", "CVE-2026-123456", "CVE-2026-7777"], 1),
        (&status(), &["CVE-2026-7777", "CVE-2026-0001"], 6),
        (&status(), &[], 1),
        (&unapplied, &["CVE-2026-0001"], 1),
        (&disabled, &["CVE-2026-0001"], 3),
        (&bundle, &["CVE-2026-0001"], 0),
        (&bundle, &["CVE-2026-123456"], 1),
    ] {
        let output = with_status(status, &[&["cves"], asked].concat());
        assert_eq!(output.status.code(), Some(code), "{asked:?} {}", text(&output.stderr));
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(livepatch(empty.path(), &["cves"], "").status.code(), Some(4));
    assert_eq!(livepatch(empty.path(), &["cves", "LSN-0113-1"], "").status.code(), Some(2));
    // What the daemon left is shown, and is no proof.
    std::fs::write(empty.path().join("status.json"), serde_json::to_string(&status()).unwrap()).unwrap();
    let output = livepatch(empty.path(), &["cves", "CVE-2026-0001"], "");
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stdout).contains("fixed"));
}

#[test]
fn cves_in_both_forms() {
    let asked = ["CVE-2026-0001", "CVE-2026-123456", "CVE-2026-7777"];
    let output = with_status(&status(), &[&["cves"], &asked[..]].concat());
    insta::assert_snapshot!(text(&output.stdout), @r"
    CVE-2026-0001       fixed       high        net: a use after free
    CVE-2026-123456     not wholly  critical    bad [31mtitle
    CVE-2026-7777       not known               no livepatch for this kernel speaks of it
    ");
    let output = with_status(&status(), &[&["cves", "--format", "json"], &asked[1..]].concat());
    fits("cves", &output.stdout);
    insta::assert_snapshot!(text(&output.stdout), @r#"
    {
      "schema": 1,
      "cves": [
        {
          "id": "CVE-2026-123456",
          "standing": "not-wholly",
          "rating": "critical",
          "title": "bad [31mtitle"
        },
        {
          "id": "CVE-2026-7777",
          "standing": "not-known",
          "rating": null,
          "title": null
        }
      ]
    }
    "#);
}

#[test]
fn wait_until_it_is_so_or_the_time_is_over() {
    let mut disabled = status();
    (disabled.enabled, disabled.patch.state) = (false, PatchState::Unknown);
    let mut with_bundle = status();
    (with_bundle.enabled, with_bundle.check.state) = (false, CheckState::NeedsCheck);
    let mut nothing = status();
    (nothing.patch.state, nothing.patch.version) = (PatchState::NothingToApply, None);
    let mut ended = status();
    (ended.patch.state, ended.patch.version) = (PatchState::KernelUpgradeRequired, None);
    let mut failed = status();
    failed.check.state = CheckState::CheckFailed;
    for (status, state, code) in [
        (&status(), "settled", 0),
        (&status(), "applied", 0),
        (&status(), "checked", 0),
        (&nothing, "settled", 0),
        (&nothing, "applied", 1),
        (&ended, "settled", 0),
        (&ended, "applied", 7),
        (&failed, "applied", 0),
        (&failed, "checked", 1),
        (&failed, "settled", 1),
        (&disabled, "answers", 0),
        (&disabled, "enabled", 1),
        (&disabled, "applied", 1),
        (&with_bundle, "applied", 0),
        (&with_bundle, "settled", 0),
        (&with_bundle, "enabled", 1),
    ] {
        let output = with_status(status, &["wait", "--for", state, "--timeout", "0s", "--format", "json"]);
        assert_eq!(output.status.code(), Some(code), "{state}");
        assert_eq!(serde_json::from_slice::<Status>(&output.stdout).unwrap(), *status);
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(livepatch(empty.path(), &["wait", "--timeout", "0s"], "").status.code(), Some(4));
}

/// It comes while somebody waits.
#[test]
fn wait_looks_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let waiting = std::thread::spawn(move || livepatch(&path, &["wait", "--timeout", "1m"], ""));
    let daemon =
        answer(directory.path(), "livepatchd.sock", "200 OK", &serde_json::to_string(&status()).unwrap());
    let output = waiting.join().unwrap();
    daemon.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), status_text_now(&status()).as_str()));
}

#[test]
fn holds_are_in_the_configuration_which_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("livepatch.toml");
    let run = |arguments: &[&str]| {
        let all = [arguments, &["--config", config.to_str().unwrap()]].concat();
        let output = livepatch(directory.path(), &all, "");
        (output.status.code(), text(&output.stdout).to_owned())
    };
    let (code, said) = run(&["hold"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(said, @"nothing is held");
    assert!(!config.exists());
    std::fs::write(&config, "# ours\nserver = \"https://a\"\n").unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said) = run(&["hold", "cve-2026-1001"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(said, @r"
    held: CVE-2026-1001
    hint: `systemctl restart livepatchd` makes it so: both daemons read their configuration then
    ");
    assert_eq!(
        std::fs::read_to_string(&config).unwrap(),
        "# ours\nserver = \"https://a\"\nheld-cves = [\"CVE-2026-1001\"]\n"
    );
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(run(&["hold", "CVE-2026-1001"]), (Some(0), "held: CVE-2026-1001\n".into()));
    let json = |held: &str, changed| {
        format!("{{\"changed\":{changed},\"held\":[{held}],\"held_notices\":[],\"schema\":1}}\n")
    };
    fits("hold", run(&["hold", "--format", "json"]).1.as_bytes());
    assert_eq!(run(&["hold", "--format", "json"]), (Some(0), json("\"CVE-2026-1001\"", false)));
    assert_eq!(run(&["unhold", "CVE-2026-1001", "--format", "json"]), (Some(0), json("", true)));
    assert_eq!(run(&["hold", "LSN-0113"]).0, Some(2));
    let (code, said) = run(&["hold", "lsn-113-1", "CVE-2026-1002"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(said, @r"
    held: CVE-2026-1002
    held: LSN-0113-1
    hint: `systemctl restart livepatchd` makes it so: both daemons read their configuration then
    ");
    fits("hold", run(&["unhold", "LSN-0113-1", "--format", "json"]).1.as_bytes());
    std::fs::write(&config, "held-cves = 1").unwrap();
    let output = livepatch(directory.path(), &["hold", "--config", config.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(text(&output.stderr).replace(config.to_str().unwrap(), "CONFIG"), @"
    error: cannot use CONFIG: held-cves is not a list of CVEs

    hint: correct it there; `journalctl -u livepatchd` says what the daemon thinks of it
    ");
}
