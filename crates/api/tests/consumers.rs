//! Contracts with the programs that read the output of the original, each read as it reads: what they rely on stands here, in
//! their order of steps. The readers are held against captured outputs of the original, too, where there are any.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use jiff::Timestamp;
use livepatch_api::daemon::*;
use livepatch_api::legacy::*;
use livepatch_types::*;
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;

const NOW: Timestamp = Timestamp::constant(1_795_526_400, 0);

/// What a reader makes of a status: kernel, check state, patch state, the fixes with whether they are there, whether the kernel
/// is supported, and the day until which it is.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    kernel: String,
    check: String,
    patch: String,
    fixes: Vec<(String, bool)>,
    supported: String,
    until: String,
}

/// ubuntu-pro-client: JSON; the first entry of `Status`, whichever it is; members that it knows must have their types.
fn ubuntu_pro_client(json: &str) -> Read {
    let root: Value = serde_json::from_str(json).unwrap();
    let first = &root["Status"][0];
    assert!(first["Livepatch"]["Version"].is_string());
    kernel_of(first)
}

/// software-properties: JSON of the socket; the entry that is running; what parses as a time becomes one.
fn software_properties(json: &str) -> (Read, Timestamp) {
    let root: Value = serde_json::from_str(json).unwrap();
    let running = root["Status"].as_array().unwrap().iter().find(|kernel| kernel["Running"] == true).unwrap();
    let last_check: Timestamp = root["Last-Check"].as_str().unwrap().parse().unwrap();
    (kernel_of(running), last_check)
}

fn kernel_of(kernel: &Value) -> Read {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let livepatch = &kernel["Livepatch"];
    let fix = |fix: &Value| (text(&fix["Name"]).to_uppercase(), fix["Patched"].as_bool().unwrap());
    Read {
        kernel: text(&kernel["Kernel"]),
        check: text(&livepatch["CheckState"]),
        patch: text(&livepatch["State"]),
        fixes: livepatch["Fixes"].as_array().unwrap().iter().map(fix).collect(),
        // One that is not a text makes ubuntu-pro-client throw all away.
        supported: text(&kernel["Supported"]),
        until: text(&kernel["UpgradeRequiredDate"]),
    }
}

/// A notice with the time of its release and its CVEs.
type Notice = (String, Timestamp, Vec<String>);

/// Whoever asks what a cutoff date, a delay or a hold keeps back: notices, the settings that do it, and the cutoff date. An
/// output without any of that has none of the members.
fn kept_back(json: &str) -> Option<(Vec<Notice>, Vec<String>, String)> {
    let root: Value = serde_json::from_str(json).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let texts = |value: &Value| value.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
    let members = ["Excluded-LSNs", "Blocking-Options", "Using-Cutoff-Date"].map(|name| root.get(name));
    let [Some(notices), Some(options), Some(cutoff)] = members else {
        assert_eq!(members, [None; 3], "all or none of them");
        return None;
    };
    let notice = |of: &Value| (text(&of["LSN"]), text(&of["Published"]).parse().unwrap(), texts(&of["CVEs"]));
    let notices = notices.as_array().unwrap().iter().map(notice).collect();
    Some((notices, texts(options), text(cutoff)))
}

/// update-manager: YAML of the socket; the entry that is running; `fixes` is a text of lines `* NAME`, those that are not
/// there end in ` (unpatched)`.
fn update_manager(yaml: &str) -> Read {
    let documents = Yaml::load_from_str(yaml).unwrap();
    let all = documents[0]["status"].as_vec().unwrap();
    let running = all.iter().find(|kernel| kernel["running"].as_bool() == Some(true)).unwrap();
    let text = |key: &str| running["livepatch"][key].as_str().unwrap().to_owned();
    let fixes = text("fixes").replace("* ", "");
    let fixes = fixes.split('\n').filter(|line| !line.is_empty());
    Read {
        kernel: running["kernel"].as_str().unwrap().to_owned(),
        check: text("checkState"),
        patch: text("patchState"),
        fixes: fixes.map(|line| (line.replace(" (unpatched)", ""), !line.contains(" (unpatched)"))).collect(),
        supported: running["supported"].as_str().unwrap().to_owned(),
        until: running["upgradeRequiredDate"].as_str().unwrap().to_owned(),
    }
}

/// landscape-client, as of today: each line that is not blank splits at its first colon, or all is thrown away; quotes around
/// either side go.
fn landscape_lines(humane: &str) -> Vec<(String, String)> {
    let bare = |text: &str| text.trim().trim_matches('"').trim_matches('\'').to_owned();
    let lines = humane.lines().map(str::trim).filter(|line| !line.is_empty());
    let split = |line: &str| line.split_once(':').map(|(key, value)| (bare(key), bare(value))).unwrap();
    lines.map(split).collect()
}

/// landscape-client, as it was: the form for people is read as YAML, and must be a mapping.
fn landscape_yaml(humane: &str) -> Vec<String> {
    let documents = Yaml::load_from_str(humane).unwrap();
    let keys = documents[0].as_mapping().unwrap().keys();
    keys.map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// Scripts for the node exporter's textfile collector: JSON with jq, or YAML with awk line by line.
fn node_exporter_script(json: &str, yaml: &str) -> (f64, String) {
    let root: Value = serde_json::from_str(json).unwrap();
    let last_check: Timestamp = root["Last-Check"].as_str().unwrap().parse().unwrap();
    // jq -r .Uptime, which is a text of digits.
    root["Uptime"].as_str().unwrap().parse::<u64>().unwrap();
    let state = yaml.lines().find_map(|line| line.trim_start().strip_prefix("patchState: "));
    (last_check.as_second() as f64, state.unwrap().to_owned())
}

fn status(state: PatchState, check: CheckState, titles: &[(&str, bool)]) -> Status {
    let cve = |(index, (title, patched)): (usize, &(&str, bool))| Cve {
        id: CveId::parse(&format!("CVE-2026-{}", 1001 + index)).unwrap(),
        rating: Rating::High,
        coverage: if *patched { CveCoverage::Whole } else { CveCoverage::Partial },
        patched: *patched,
        title: (*title).into(),
    };
    Status {
        schema: 1,
        client_version: "0.1.0".into(),
        enabled: true,
        enabled_at: None,
        tier: Some(Tier::parse("stable").unwrap()),
        cohort: None,
        server: Some("https://livepatch.example.org".into()),
        kernel: None,
        check: Check {
            state: check,
            at: Some(NOW),
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
            state,
            version: Some(PatchVersion::parse("113.1").unwrap()),
            stage: None,
            applied_at: None,
            held: false,
            waiting: None,
            cutoff_date: Some(NOW),
            place: None,
            cves: titles.iter().enumerate().map(cve).collect(),
        },
        problem: None,
        notes: Vec::new(),
    }
}

const PATCH_STATES: [(PatchState, &str); 8] = [
    (PatchState::Unapplied, "unapplied"),
    (PatchState::Applying, "applying"),
    (PatchState::Applied, "applied"),
    (PatchState::AppliedWithBug, "applied-with-bug"),
    (PatchState::ApplyFailed, "apply-failed"),
    (PatchState::NothingToApply, "nothing-to-apply"),
    (PatchState::KernelUpgradeRequired, "kernel-upgrade-required"),
    (PatchState::Unknown, "unknown"),
];
/// What is said of the cover, and how readers get it: the word for it, and the last day of the cover.
fn covers() -> [(Coverage, &'static str, &'static str); 9] {
    let date = |text: &str| text.parse().ok();
    let (until, series_until) = (date("2027-03-19"), date("2028-06-30"));
    let of = |state| Coverage { state, ..Coverage::default() };
    [
        (of(CoverageState::Unknown), "unknown", ""),
        (of(CoverageState::Covered), "supported", ""),
        (Coverage { until, series_until, ..of(CoverageState::Covered) }, "supported", "2027-03-19"),
        (Coverage { series_until, ..of(CoverageState::Covered) }, "supported", "2028-06-30"),
        (Coverage { until, ..of(CoverageState::UpgradeNeeded) }, "kernel-upgrade-required", "2027-03-19"),
        (of(CoverageState::UpgradeNeeded), "kernel-upgrade-required", ""),
        (Coverage { until, ..of(CoverageState::Ended) }, "kernel-upgrade-required", "2027-03-19"),
        (Coverage { series_until, ..of(CoverageState::SeriesEnded) }, "kernel-end-of-life", "2028-06-30"),
        (of(CoverageState::NotCovered), "unsupported", ""),
    ]
}

/// What a setting keeps back, by the word that our status has for it and by the option that readers know.
const WAITS: [Option<(&str, Option<&str>)>; 6] = [
    None,
    Some(("after-cutoff", Some("cutoff-date"))),
    Some(("patch-delay", Some("patch-delay"))),
    Some(("held-cve", Some("held-cves"))),
    Some(("held-notice", Some("held-notices"))),
    // That it is for a moment is nothing that is kept back.
    Some(("maintenance-window", None)),
];

fn waiting(code: &str) -> Waiting {
    Waiting {
        version: PatchVersion::parse("114.1").unwrap(),
        code: code.into(),
        message: "it waits".into(),
        until: None,
        notice: NoticeId::parse("LSN-0114-1").ok(),
        released: Some(NOW),
        open_cves: vec![CveId::parse("CVE-2026-2001").unwrap(), CveId::parse("CVE-2026-2002").unwrap()],
    }
}

const CHECK_STATES: [(CheckState, &str); 3] = [
    (CheckState::NeedsCheck, "needs-check"),
    (CheckState::Checked, "checked"),
    (CheckState::CheckFailed, "check-failed"),
];

/// Each reader reads this status as it is.
fn read_by_all(status: &Status, expected: &Read) -> LegacyStatus {
    let machine = Machine {
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        cpu_model: "Example(R): \"Processor\" # 7 @ 2.60GHz".into(),
        boot_time: Some(NOW - jiff::SignedDuration::from_secs(46)),
        uptime_seconds: 46,
        kernel: KERNEL.into(),
        installed_kernels: vec![],
    };
    let legacy = LegacyStatus::new(status, &machine).unwrap();
    let (json, yaml) = (json(&legacy), yaml(&legacy));
    let last_check = status.check.at.unwrap_or(UNSET);
    assert_eq!(ubuntu_pro_client(&json), *expected, "ubuntu-pro-client");
    let (read, at) = software_properties(&json);
    assert_eq!((&read, at), (expected, last_check), "software-properties");
    assert_eq!(update_manager(&yaml), *expected, "update-manager");
    let for_people = humane(&legacy, Detail::Summary, NOW);
    let lines = landscape_lines(&for_people);
    let keys: Vec<String> = lines.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(landscape_yaml(&for_people), keys, "landscape-client");
    let looked_for = ["last check", "kernel", "server check-in", "kernel state", "patch state"];
    assert!(looked_for.iter().all(|key| keys.contains(&(*key).to_owned())), "{keys:?}");
    let never = lines.contains(&("last check".to_owned(), "never".to_owned()));
    assert_eq!(never, status.check.at.is_none(), "{lines:?}");
    // Each line splits in the longer form, too.
    landscape_lines(&humane(&legacy, Detail::Verbose, NOW));
    let exported = node_exporter_script(&json, &yaml);
    assert_eq!(exported, (last_check.as_second() as f64, expected.patch.clone()));
    legacy
}

const KERNEL: &str = "5.15.0-107.117-generic";

#[test]
fn every_reader_finds_what_it_looks_for_in_every_state() {
    let titles = [("net: a use after free", true), ("'odd' \"title\" (unpatched)", false)];
    for (state, patch) in PATCH_STATES {
        for (check_state, check) in CHECK_STATES {
            for titles in [&titles[..], &[]] {
                for ((coverage, word, until), at) in
                    covers().into_iter().flat_map(|cover| [(cover.clone(), Some(NOW)), (cover, None)])
                {
                    let mut status = status(state, check_state, titles);
                    (status.coverage, status.check.at) = (coverage, at);
                    // A kernel that must be replaced is so by whichever axis says it; an ended series says more.
                    let supported = match (state, word) {
                        (PatchState::KernelUpgradeRequired, word) if word != "kernel-end-of-life" => {
                            "kernel-upgrade-required"
                        }
                        _ => word,
                    };
                    let expected = Read {
                        kernel: KERNEL.into(),
                        check: check.into(),
                        patch: patch.into(),
                        fixes: status
                            .patch
                            .cves
                            .iter()
                            .map(|cve| (cve.id.to_string(), cve.patched))
                            .collect(),
                        supported: supported.into(),
                        until: until.into(),
                    };
                    read_by_all(&status, &expected);
                }
            }
        }
    }
}

#[test]
fn every_reader_reads_on_when_something_is_kept_back() {
    for wait in WAITS {
        for cutoff in [None, Some(NOW)] {
            let mut status = status(PatchState::Applied, CheckState::Checked, &[("a title", true)]);
            (status.patch.cutoff_date, status.patch.waiting) = (cutoff, wait.map(|(code, _)| waiting(code)));
            let expected = Read {
                kernel: KERNEL.into(),
                check: "checked".into(),
                patch: "applied".into(),
                fixes: vec![("CVE-2026-1001".into(), true)],
                supported: "supported".into(),
                until: String::new(),
            };
            let legacy = read_by_all(&status, &expected);
            let option = wait.and_then(|(_, option)| option);
            let cves = ["CVE-2026-2001", "CVE-2026-2002"].map(str::to_owned).to_vec();
            let notices = option.map(|_| ("LSN-0114-1".to_owned(), NOW, cves)).into_iter().collect();
            let options = option.map(str::to_owned).into_iter().collect();
            let date = cutoff.map(|_| "2026-11-24T13:20:00Z".to_owned()).unwrap_or_default();
            let kept = (option.is_some() || cutoff.is_some()).then_some((notices, options, date));
            assert_eq!(kept_back(&json(&legacy)), kept, "{wait:?} {cutoff:?}");
        }
    }
}

/// The readers above read what the original prints.
#[test]
fn the_readers_are_those_of_the_original() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = std::env::var_os("LIVEPATCH_SHARED_DATA")
        .map_or_else(|| workspace.join("../shared/data"), std::path::PathBuf::from)
        .join("status");
    let read = |name: &str| std::fs::read_to_string(directory.join(name));
    let Ok(json) = read("status-11.0.2.json") else {
        // Past the test harness, which would hide it.
        let line =
            format!("SKIPPED: the_readers_are_those_of_the_original: nothing in {}\n", directory.display());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return;
    };
    let (yaml, humane) = (read("status-10.8.3.yaml").unwrap(), read("status-10.8.3.humane").unwrap());
    let kernel = ubuntu_pro_client(&json);
    assert_eq!((kernel.patch.as_str(), kernel.supported.as_str()), ("applied", "supported"));
    assert!(kernel.fixes.iter().all(|(name, patched)| name.starts_with("CVE-") && *patched));
    assert_eq!(software_properties(&json).0, kernel);
    let of_yaml = update_manager(&yaml);
    assert_eq!((of_yaml.fixes.len(), of_yaml.fixes[2].1), (3, false));
    let keys: Vec<String> = landscape_lines(&humane).into_iter().map(|(key, _)| key).collect();
    assert_eq!(landscape_yaml(&humane), keys);
    assert_eq!(node_exporter_script(&json, &yaml).1, "applied");
}
