//! `config import`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::support::{canonical_livepatch, fits, livepatch, text};

const CERTIFICATE: &str = include_str!("ca.pem");

/// What the original printed, and a host's configuration, in one directory.
struct Host(tempfile::TempDir);

impl Host {
    fn new(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("livepatch.toml"), configuration).unwrap();
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(directory.path().join("livepatch.toml"), mode).unwrap();
        Self(directory)
    }

    fn import(&self, more: &[&str], original: &str) -> Output {
        let config = self.0.path().join("livepatch.toml");
        let arguments = ["config", "import", "-", "--config", config.to_str().unwrap()];
        livepatch(self.0.path(), &[&arguments[..], more].concat(), original)
    }

    fn configuration(&self) -> String {
        std::fs::read_to_string(self.0.path().join("livepatch.toml")).unwrap()
    }

    fn said(&self, output: &[u8]) -> String {
        text(output).replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

#[test]
fn what_it_would_do_is_what_it_does() {
    let ours = "# ours\nserver = \"https://a.example\" # here\n";
    let host = Host::new(ours);
    let block: String = CERTIFICATE.lines().map(|line| format!("  {line}\n")).collect();
    let original = format!(
        "https-proxy: http://me:secret@proxy:3128\nremote-server: https://livepatch.canonical.com\nca-certs: |-\n{block}\
        check-interval: 120\ntls-patch-download: false\n"
    );
    let dry = host.import(&["--dry-run"], &original);
    assert_eq!((dry.status.code(), text(&dry.stderr), host.configuration().as_str()), (Some(0), "", ours));
    assert!(!host.0.path().join("ca-certs.pem").exists());
    insta::assert_snapshot!(host.said(&dry.stdout), @r#"
    https-proxy         https-proxy = "http://…@proxy:3128"
    remote-server       left out: that service does not speak to this client: `server` is yours to set
    ca-certs            ca-file = "DIR/ca-certs.pem"
    check-interval      check-interval = "120m"
    tls-patch-download  left out: livepatches are always downloaded over TLS here

    Nothing is written.
    "#);
    let for_programs = host.import(&["--dry-run", "--format", "json"], &original);
    assert_eq!((for_programs.status.code(), host.configuration().as_str()), (Some(0), ours));
    fits("config-import", &for_programs.stdout);
    let for_programs: serde_json::Value = serde_json::from_slice(&for_programs.stdout).unwrap();
    assert_eq!(for_programs["settings"][0]["setting"], "https-proxy = \"http://…@proxy:3128\"");
    assert_eq!(for_programs["settings"][1]["outcome"], "left-out");
    let done = host.import(&[], &original);
    assert_eq!((done.status.code(), text(&done.stderr)), (Some(0), ""));
    let rows = |output: &Output| text(&output.stdout).lines().take(5).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(&done), rows(&dry));
    insta::assert_snapshot!(host.said(host.configuration().as_bytes()), @r#"
    # ours
    server = "https://a.example" # here
    https-proxy = "http://me:secret@proxy:3128"
    ca-file = "DIR/ca-certs.pem"
    check-interval = "120m"
    "#);
    assert_eq!(
        std::fs::read_to_string(host.0.path().join("ca-certs.pem")).unwrap().trim(),
        CERTIFICATE.trim()
    );
    let mode = std::fs::metadata(host.0.path().join("livepatch.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    // A second time nothing changes; under the other name it is as it was there.
    let again = host.import(&[], &original);
    assert!(!text(&again.stdout).contains("hint") && again.status.success(), "{again:?}");
    let shown = canonical_livepatch(host.0.path(), &["config", "check-interval", "ca-certs"], "");
    assert!(text(&shown.stdout).starts_with("check-interval: 120\nca-certs: \"-----BEGIN"), "{shown:?}");
}

/// What this client prints under the original's name is a file to import.
#[test]
fn what_the_other_name_prints_comes_back() {
    let host = Host::new("server = \"https://a.example\"\npatch-delay = \"3d\"\nno-proxy = \"a, b\"\n");
    let printed = canonical_livepatch(host.0.path(), &["config"], "");
    let other = Host::new("");
    let done = other.import(&[], text(&printed.stdout));
    assert_eq!((done.status.code(), text(&done.stderr)), (Some(0), ""));
    let back = canonical_livepatch(other.0.path(), &["config"], "");
    assert_eq!(text(&back.stdout), text(&printed.stdout));
}

#[test]
fn one_setting_that_is_refused_and_nothing_is_written() {
    let host = Host::new("");
    let mut said = String::new();
    for original in [
        "check-interval: 90\ndial-timeout: 12\n",
        "check-interval: 90\ncheck-interval: 90\n",
        "check-interval: 90\nlivepatch:\n  x: 1\n",
        "{\"check-interval\": 90}",
        &"#".repeat((1 << 20) + 1),
    ] {
        let output = host.import(&[], original);
        assert_eq!((output.status.code(), host.configuration().as_str()), (Some(1), ""));
        said += &format!("{}{}---\n", host.said(&output.stdout), text(&output.stderr));
    }
    insta::assert_snapshot!(said, @r#"
    check-interval  check-interval = "90m"
    dial-timeout    refused: it is not a time of a second or more, such as 12s, 5m or 1h
    error: cannot import -: 1 setting cannot be taken, so nothing is written

    hint: it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out
    ---
    error: cannot import -: line 2: check-interval is there twice

    hint: it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out
    ---
    error: cannot import -: line 3: it does not begin with a key

    hint: it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out
    ---
    error: cannot import -: line 1: it does not begin with a key

    hint: it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out
    ---
    error: cannot import -: it has more than 1048576 bytes

    hint: it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out
    ---
    "#);
    let output = host.import(&["--format", "json"], "check-interval: 90\ndial-timeout: 12\n");
    assert_eq!((output.status.code(), host.configuration().as_str()), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("error: cannot import -: 1 setting cannot be taken"));
    fits("config-import", &output.stdout);
    insta::assert_snapshot!(text(&output.stdout), @r#"{"dry_run":false,"schema":1,"settings":[{"key":"check-interval","outcome":"taken","remark":"","setting":"check-interval = \"90m\""},{"key":"dial-timeout","outcome":"refused","remark":"it is not a time of a second or more, such as 12s, 5m or 1h","setting":null}]}"#);
    // A configuration that the daemons refuse is not made better by it.
    let wrong = Host::new("check-interval = 1");
    let output = wrong.import(&[], "check-interval: 90\n");
    assert_eq!((output.status.code(), wrong.configuration().as_str()), (Some(1), "check-interval = 1"));
    assert!(text(&output.stderr).starts_with("error: cannot use "), "{output:?}");
}
