//! The legacy status by the rules of the programs that read it.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use jiff::Timestamp;
use livepatch_api::daemon::*;
use livepatch_api::legacy::*;
use livepatch_types::*;
use proptest::prelude::*;
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;

const NOW: Timestamp = Timestamp::constant(1_795_526_400, 0);

fn status() -> Status {
    let cve = |id: &str, patched| Cve {
        id: CveId::parse(id).unwrap(),
        rating: Rating::High,
        coverage: if patched { CveCoverage::Whole } else { CveCoverage::Partial },
        patched,
        title: "net: a use after free".into(),
    };
    Status {
        schema: 1,
        client_version: "0.1.0".into(),
        enabled: true,
        enabled_at: None,
        tier: Some(Tier::parse("stable").unwrap()),
        cohort: None,
        server: Some("https://livepatch.example.org".into()),
        kernel: Some(KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("5.15.0-25-generic").unwrap(),
            build_id: BuildId::from_bytes(&[0xab; 20]).unwrap(),
        }),
        check: Check {
            state: CheckState::Checked,
            at: Some(NOW - jiff::SignedDuration::from_secs(52)),
            attempted_at: Some("2026-11-24T12:00:00Z".parse().unwrap()),
            reachability: Reachability::Reached,
            by_itself: true,
            mirror: None,
            document_version: Some(7),
            document_expires: None,
        },
        coverage: Coverage { state: CoverageState::Covered, ..Coverage::default() },
        reboot: None,
        patch: Patch {
            state: PatchState::Applied,
            version: Some(PatchVersion::parse("113.1").unwrap()),
            stage: None,
            applied_at: None,
            held: false,
            waiting: None,
            cutoff_date: None,
            place: None,
            cves: vec![cve("CVE-2026-0001", true), cve("CVE-2026-12345", false)],
        },
        problem: None,
        notes: Vec::new(),
    }
}

fn machine() -> Machine {
    Machine {
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        cpu_model: "Example(R) Processor(TM) 7 CPU @ 2.60GHz".into(),
        boot_time: Some(NOW - jiff::SignedDuration::from_secs(69_596)),
        uptime_seconds: 69_596,
        kernel: "5.15.0-25.25-generic".into(),
        installed_kernels: vec!["linux-image-5.15.0-25-generic".into()],
    }
}

fn legacy(status: &Status) -> LegacyStatus {
    LegacyStatus::new(status, &machine()).unwrap()
}

fn parse(text: &str) -> Yaml<'_> {
    let mut documents = Yaml::load_from_str(text).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

#[test]
fn json_to_the_byte() {
    let expected = concat!(
        r#"{"Client-Version":"v0.1.0","Machine-Id":"0123456789abcdef0123456789abcdef","Architecture":"amd64","#,
        r#""CPU-Model":"Example(R) Processor(TM) 7 CPU @ 2.60GHz","Last-Check":"2026-11-24T13:19:08Z","#,
        r#""Boot-Time":"2026-11-23T18:00:04Z","Uptime":"69596","Status":[{"Kernel":"5.15.0-25.25-generic","#,
        r#""Running":true,"Livepatch":{"CheckState":"checked","State":"applied","Version":"113.1","Fixes":["#,
        r#"{"Name":"cve-2026-0001","Description":"net: a use after free","Bug":"","Patched":true},"#,
        r#"{"Name":"cve-2026-12345","Description":"net: a use after free","Bug":"","Patched":false}]},"#,
        r#""Supported":"supported","UpgradeRequiredDate":""}],"tier":"stable","Fixed-CVEs":{"#,
        r#""Timestamp":"2026-11-24T13:19:08Z","#,
        r#""Kernel-Package-Fixes":[{"Package":"linux-image-5.15.0-25-generic","Fixed-CVEs":[]}],"#,
        r#""Installed-Kernels":["linux-image-5.15.0-25-generic"],"Patched-CVEs":["UBUNTU-CVE-2026-0001"],"Digest":""}}"#,
        "\n"
    );
    assert_eq!(json(&legacy(&status())), expected);
}

#[test]
fn yaml_to_the_byte() {
    let expected = r#"client-version: 0.1.0
machine-id: 0123456789abcdef0123456789abcdef
architecture: amd64
cpu-model: Example(R) Processor(TM) 7 CPU @ 2.60GHz
last-check: 2026-11-24T13:19:08Z
boot-time: 2026-11-23T18:00:04Z
uptime: 19h19m56s
status:
- kernel: 5.15.0-25.25-generic
  running: true
  livepatch:
    checkState: checked
    patchState: applied
    version: "113.1"
    fixes: |-
      * CVE-2026-0001
      * CVE-2026-12345 (unpatched)
  supported: supported
  upgradeRequiredDate: ""
tier: stable
cloud-enabled:
  cloud-enabled: false
  cloud: ""
  region: ""
  az: ""
"#;
    assert_eq!(yaml(&legacy(&status())), expected);
}

#[test]
fn humane_to_the_byte() {
    let summary = "last check: 52 seconds ago
kernel: 5.15.0-25.25-generic
server check-in: succeeded
kernel state: ✓ kernel series 5.15 is covered by Livepatch
patch state: ✓ all applicable live kernel patch modules applied
patch version: 113.1
tier: stable
machine id: 0123456789abcdef0123456789abcdef
";
    assert_eq!(humane(&legacy(&status()), Detail::Summary, NOW), summary);
    let more = "client version: 0.1.0
architecture: amd64
cpu model: Example(R) Processor(TM) 7 CPU @ 2.60GHz
boot time: 2026-11-23T18:00:04Z
fixed: CVE-2026-0001 net: a use after free
not fixed: CVE-2026-12345 net: a use after free
";
    assert_eq!(humane(&legacy(&status()), Detail::Verbose, NOW), format!("{summary}{more}"));
}

/// A status for every pair of states, with and without what may be missing.
fn all() -> Vec<Status> {
    let mut all = Vec::new();
    for check in [CheckState::NeedsCheck, CheckState::Checked, CheckState::CheckFailed] {
        for patch in [
            PatchState::Unapplied,
            PatchState::Applying,
            PatchState::Applied,
            PatchState::AppliedWithBug,
            PatchState::ApplyFailed,
            PatchState::NothingToApply,
            PatchState::KernelUpgradeRequired,
            PatchState::Unknown,
        ] {
            let mut full = status();
            (full.check.state, full.patch.state) = (check, patch);
            let mut bare = full.clone();
            (bare.tier, bare.server, bare.kernel, bare.check.at) = (None, None, None, None);
            (bare.check.document_version, bare.patch.version) = (None, None);
            bare.patch.cves.clear();
            all.extend([full, bare]);
        }
    }
    all
}

/// The words of an enum as our own status has them, which are those of the original.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

/// ubuntu-pro-client and landscape-client: the first entry of `Status` is the running kernel; texts are texts and
/// truth values truth values; `Supported` is a text whatever is known.
#[test]
fn json_keeps_its_types_in_every_state() {
    for status in all() {
        let text = json(&legacy(&status));
        assert_eq!(text.lines().count(), 1);
        let root: Value = serde_json::from_str(&text).unwrap();
        for key in [
            "Client-Version",
            "Machine-Id",
            "Architecture",
            "CPU-Model",
            "Last-Check",
            "Boot-Time",
            "Uptime",
            "tier",
        ] {
            assert!(root[key].is_string(), "{key} {text}");
        }
        for key in ["Last-Check", "Boot-Time"] {
            root[key].as_str().unwrap().parse::<Timestamp>().unwrap();
        }
        let kernel = &root["Status"][0];
        assert_eq!(
            (&kernel["Running"], &kernel["Kernel"]),
            (&Value::Bool(true), &"5.15.0-25.25-generic".into())
        );
        assert!(kernel["UpgradeRequiredDate"].is_string(), "{text}");
        let words = ["supported", "kernel-upgrade-required", "kernel-end-of-life", "unsupported", "unknown"];
        assert!(words.contains(&kernel["Supported"].as_str().unwrap()), "{text}");
        let livepatch = &kernel["Livepatch"];
        assert_eq!(livepatch["CheckState"], word(status.check.state));
        assert_eq!(livepatch["State"], word(status.patch.state));
        assert!(livepatch["Version"].is_string(), "{text}");
        for fix in livepatch["Fixes"].as_array().unwrap() {
            let name = fix["Name"].as_str().unwrap();
            assert!(name.starts_with("cve-") && CveId::parse(name).is_ok(), "{name}");
            assert!(fix["Description"].is_string() && fix["Bug"].is_string() && fix["Patched"].is_boolean());
        }
    }
}

/// update-manager and software-properties: one YAML document; `last-check` is no text but a time, `fixes` a block of
/// lines.
#[test]
fn yaml_keeps_its_types_in_every_state() {
    for status in all() {
        let text = yaml(&legacy(&status));
        let last_check = text.lines().find_map(|line| line.strip_prefix("last-check: ")).unwrap();
        last_check.parse::<Timestamp>().unwrap();
        let root = parse(&text);
        for key in ["client-version", "machine-id", "architecture", "cpu-model", "uptime", "tier"] {
            assert!(root[key].is_string(), "{key} {text}");
        }
        let kernel = &root["status"][0];
        assert_eq!(kernel["running"].as_bool(), Some(true));
        assert_eq!(kernel["livepatch"]["checkState"].as_str(), Some(word(status.check.state).as_str()));
        assert_eq!(kernel["livepatch"]["patchState"].as_str(), Some(word(status.patch.state).as_str()));
        assert!(kernel["livepatch"]["version"].is_string() && kernel["supported"].is_string(), "{text}");
        let fixes = kernel["livepatch"]["fixes"].as_str().unwrap();
        let expected: Vec<String> = status
            .patch
            .cves
            .iter()
            .map(|cve| format!("* {}{}", cve.id, if cve.patched { "" } else { " (unpatched)" }))
            .collect();
        assert_eq!(fixes, expected.join("\n"));
    }
}

/// Scripts of the node exporter, and whoever reads what people read: split at the first colon, line by line.
#[test]
fn humane_lines_split_at_the_first_colon_in_every_state() {
    for status in all() {
        for detail in [Detail::Summary, Detail::Verbose] {
            let text = humane(&legacy(&status), detail, NOW);
            for line in text.lines() {
                let (key, value) = line.split_once(':').unwrap();
                assert!(value.starts_with(' ') && !value.trim().is_empty(), "{line}");
                assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == ' ' || c == '-'), "{line}");
            }
        }
    }
}

#[test]
fn support_by_what_is_known() {
    let with = |change: &dyn Fn(&mut Status)| {
        let mut status = status();
        change(&mut status);
        legacy(&status).support
    };
    let problem = |code: &str| Failure { code: code.into(), message: String::new(), hints: vec![] };
    for (state, expected) in [
        (CoverageState::Unknown, Support::Unknown),
        (CoverageState::Covered, Support::Supported),
        (CoverageState::UpgradeNeeded, Support::KernelUpgradeRequired),
        (CoverageState::Ended, Support::KernelUpgradeRequired),
        (CoverageState::SeriesEnded, Support::KernelEndOfLife),
        (CoverageState::NotCovered, Support::Unsupported),
    ] {
        // What is wrong now changes nothing, nor whether the daemon answers.
        for code in [None, Some("server-unreachable"), Some(DAEMON_UNREACHABLE), Some("kernel-not-covered")] {
            let support = with(&|status| {
                status.coverage.state = state;
                status.problem = code.map(problem);
            });
            assert_eq!(support, expected, "{state:?} {code:?}");
        }
    }
    assert_eq!(
        with(&|status| status.patch.state = PatchState::KernelUpgradeRequired),
        Support::KernelUpgradeRequired
    );
    for code in ["unsupported-kernel", "unsupported-architecture"] {
        let unknown = |status: &mut Status| status.coverage.state = CoverageState::Unknown;
        let now = |status: &mut Status| {
            unknown(status);
            status.problem = Some(problem(code));
        };
        let left = |status: &mut Status| {
            unknown(status);
            status.notes.push(problem(code));
        };
        assert_eq!((with(&now), with(&left)), (Support::Unsupported, Support::Unsupported), "{code}");
    }
}

#[test]
fn a_status_that_the_daemon_left_has_a_failed_check() {
    let mut status = status();
    status.problem = Some(Failure { code: DAEMON_UNREACHABLE.into(), message: String::new(), hints: vec![] });
    let legacy = legacy(&status);
    assert_eq!((legacy.check, legacy.patch), (CheckState::CheckFailed, PatchState::Applied));
}

#[test]
fn a_host_that_is_not_enabled_has_no_status() {
    assert_eq!(LegacyStatus::new(&Status { enabled: false, ..status() }, &machine()), None);
}

proptest! {
    /// Whatever a processor calls itself: the YAML is whole, and a reader gets that text back.
    #[test]
    fn any_text_is_a_scalar(text in any::<String>()) {
        let line = format!("key: {}\nnext: 1\n", scalar(&text));
        let root = parse(&line);
        prop_assert_eq!(root["key"].as_str(), Some(text.as_str()));
        prop_assert_eq!(root["next"].as_integer(), Some(1));
    }

    /// And what looks like something else.
    #[test]
    fn what_looks_like_another_type_stays_a_text(text in "[0-9a-fxob._:+~eE -]{1,12}|[yYnN]|(yes|NO|True|off|null|~)") {
        let line = format!("key: {}\n", scalar(&text));
        let root = parse(&line);
        prop_assert_eq!(root["key"].as_str(), Some(text.as_str()));
    }

    #[test]
    fn humane_lines_stay_lines(model in any::<String>()) {
        let mut status = legacy(&status());
        let lines = humane(&status, Detail::Verbose, NOW).lines().count();
        status.cpu_model = model;
        prop_assert_eq!(humane(&status, Detail::Verbose, NOW).lines().count(), lines);
    }
}

/// Keys of a JSON text in their order, each with the first character of its value, which tells the type.
fn json_shape(text: &str) -> Vec<(&str, char)> {
    let parts: Vec<&str> = text.split('"').collect();
    let keys = parts.windows(2).filter_map(|pair| Some((pair[0], pair[1].strip_prefix(':')?)));
    keys.map(|(key, rest)| (key, rest.chars().next().unwrap_or('"').to_ascii_lowercase())).collect()
}

/// Keys of a YAML as the lines have them, with their indentation; quoted values marked, but a date
/// that we do not know and the empty text, which is quoted in any case.
fn yaml_shape(text: &str) -> Vec<String> {
    let keys = text.lines().filter_map(|line| line.split_once(':'));
    let is_quoted = |value: &str| value.starts_with(" \"") && value != " \"\"";
    let date = "upgradeRequiredDate";
    keys.map(|(key, value)| {
        let quoted = is_quoted(value) && !key.ends_with(date);
        format!("{key}{}", if quoted { " quoted" } else { "" })
    })
    .collect()
}

fn humane_keys(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect()
}

/// Against outputs of the original, where there are any.
#[test]
fn keys_and_types_are_those_of_the_original() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = std::env::var_os("LIVEPATCH_SHARED_DATA")
        .map_or_else(|| workspace.join("../shared/data"), std::path::PathBuf::from)
        .join("status");
    let Ok(captured) = std::fs::read_to_string(directory.join("status-11.0.2.json")) else {
        // Past the test harness, which would hide it.
        let line = format!(
            "SKIPPED: keys_and_types_are_those_of_the_original: nothing in {}\n",
            directory.display()
        );
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return;
    };
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let ours = legacy(&status());
    let json = json(&ours);
    let theirs = json_shape(&captured);
    let truth = |(key, kind)| (key, if "tf".contains(kind) { 't' } else { kind });
    assert_eq!(
        theirs.into_iter().map(truth).collect::<Vec<_>>(),
        json_shape(&json).into_iter().map(truth).collect::<Vec<_>>()
    );
    let patched = |text: &str| -> String {
        let read: Value = serde_json::from_str(text).unwrap();
        let first = read["Fixed-CVEs"]["Patched-CVEs"][0].as_str().unwrap();
        first.chars().take_while(|c| !c.is_ascii_digit()).collect()
    };
    assert_eq!(patched(&captured), patched(&json));
    assert_eq!(yaml_shape(&read("status-10.8.3.yaml")), yaml_shape(&yaml(&ours)));
    let humane = humane(&ours, Detail::Summary, NOW);
    assert_eq!(humane_keys(&read("status-10.8.3.humane")), humane_keys(&humane));
}

/// A status whose next livepatch is kept back by a setting.
fn kept_back(code: &str, cutoff: Option<Timestamp>) -> Status {
    let mut status = status();
    status.patch.cutoff_date = cutoff;
    status.patch.waiting = Some(Waiting {
        version: PatchVersion::parse("114.1").unwrap(),
        code: code.into(),
        message: "it waits".into(),
        until: None,
        notice: Some(NoticeId::parse("LSN-0114-1").unwrap()),
        released: Some(NOW - jiff::SignedDuration::from_hours(24)),
        open_cves: vec![CveId::parse("CVE-2026-0002").unwrap(), CveId::parse("CVE-2026-0003").unwrap()],
    });
    status
}

#[test]
fn what_the_settings_keep_back() {
    let members = |status: &Status| {
        let read: Value = serde_json::from_str(&json(&legacy(status))).unwrap();
        ["Excluded-LSNs", "Blocking-Options", "Using-Cutoff-Date"].map(|key| read.get(key).cloned())
    };
    let cutoff = NOW - jiff::SignedDuration::from_hours(48);
    let notice = serde_json::json!({
        "LSN": "LSN-0114-1", "Published": "2026-11-23T13:20:00Z", "CVEs": ["CVE-2026-0002", "CVE-2026-0003"],
    });
    for (code, option) in [
        ("after-cutoff", "cutoff-date"),
        ("patch-delay", "patch-delay"),
        ("patch-spread", "patch-spread"),
        ("held-cve", "held-cves"),
        ("held-notice", "held-notices"),
    ] {
        let [excluded, options, date] = members(&kept_back(code, Some(cutoff)));
        assert_eq!(excluded, Some(serde_json::json!([notice])));
        assert_eq!(options, Some(serde_json::json!([option])));
        assert_eq!(date, Some("2026-11-22T13:20:00Z".into()));
        assert_eq!(members(&kept_back(code, None))[2], Some("".into()));
    }
    // A window opens by itself, and a mode is no exclusion; a cutoff date that keeps nothing back is in use all the same.
    for code in ["mode", "maintenance-window"] {
        assert_eq!(members(&kept_back(code, None)), [None, None, None], "{code}");
    }
    let mut unused = status();
    unused.patch.cutoff_date = Some(cutoff);
    let none = || Some(serde_json::json!([]));
    assert_eq!(members(&unused), [none(), none(), Some("2026-11-22T13:20:00Z".into())]);
    assert_eq!(members(&status()), [None, None, None]);
}

#[test]
fn verbose_lists_what_is_left_open_line_by_line() {
    let text = humane(&legacy(&kept_back("after-cutoff", None)), Detail::Verbose, NOW);
    let lines: Vec<_> = text.lines().filter(|line| line.contains("blocked")).collect();
    assert_eq!(
        lines,
        [
            "kernel patches blocked: by cutoff-date; the following is left open",
            "blocked: CVE-2026-0002 2026-11-23 13:20:00 +0000 UTC LSN-0114-1",
            "blocked: CVE-2026-0003 2026-11-23 13:20:00 +0000 UTC LSN-0114-1",
        ]
    );
    assert!(!humane(&legacy(&kept_back("after-cutoff", None)), Detail::Summary, NOW).contains("blocked"));
}

#[test]
fn the_cover_with_its_end() {
    let said = |state, until: Option<&str>, code: Option<&str>| {
        let mut status = status();
        status.coverage =
            Coverage { state, until: until.map(|date| date.parse().unwrap()), ..Coverage::default() };
        status.reboot = code.map(|code| Reboot {
            code: code.into(),
            message: String::new(),
            cve: None,
            notice: None,
            kernel: None,
        });
        let legacy = legacy(&status);
        let read: Value = serde_json::from_str(&json(&legacy)).unwrap();
        let kernel = &read["Status"][0];
        let text = |key: &str| kernel[key].as_str().unwrap().to_owned();
        assert!(
            yaml(&legacy).contains(&format!("  upgradeRequiredDate: \"{}\"\n", text("UpgradeRequiredDate")))
        );
        let humane = humane(&legacy, Detail::Summary, NOW);
        let line = humane.lines().find(|line| line.starts_with("kernel state: ")).unwrap().to_owned();
        (text("Supported"), text("UpgradeRequiredDate"), line)
    };
    use CoverageState::*;
    let ended = "✗ kernel 5.15.0-25.25-generic is not covered any more, upgrade the kernel and reboot";
    for (state, until, code, supported, date, line) in [
        (Covered, None, None, "supported", "", "✓ kernel series 5.15 is covered by Livepatch"),
        (
            Covered,
            Some("2027-03-19"),
            None,
            "supported",
            "2027-03-19",
            "✓ kernel 5.15.0-25.25-generic is covered by Livepatch until 2027-03-19, please install available kernel updates and reboot before then",
        ),
        (
            Covered,
            None,
            Some(NEWER_KERNEL_INSTALLED),
            "supported",
            "",
            "✓ kernel series 5.15 is covered by Livepatch",
        ),
        (Ended, Some("2026-03-19"), Some("window-ended"), "kernel-upgrade-required", "2026-03-19", ended),
        (UpgradeNeeded, None, Some("unpatchable-cve"), "kernel-upgrade-required", "", ended),
        (
            SeriesEnded,
            None,
            Some("series-ended"),
            "kernel-end-of-life",
            "",
            "✗ kernel series 5.15 is no longer covered by Livepatch",
        ),
    ] {
        let expected = (supported.to_owned(), date.to_owned(), format!("kernel state: {line}"));
        assert_eq!(said(state, until, code), expected, "{state:?}");
    }
}
