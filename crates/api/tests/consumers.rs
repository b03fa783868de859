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

/// What a reader makes of a status: kernel, check state, patch state, and the fixes with whether they are there.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    kernel: String,
    check: String,
    patch: String,
    fixes: Vec<(String, bool)>,
}

/// ubuntu-pro-client: JSON; the first entry of `Status`, whichever it is; members that it knows must have their types.
fn ubuntu_pro_client(json: &str) -> (Read, String) {
    let root: Value = serde_json::from_str(json).unwrap();
    let first = &root["Status"][0];
    // A `Supported` that is not a text makes it throw all away.
    let supported = first["Supported"].as_str().unwrap().to_owned();
    assert!(first["Livepatch"]["Version"].is_string());
    (kernel_of(first), supported)
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
    }
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
        tier: Some(Tier::parse("stable").unwrap()),
        cohort: None,
        server: Some("https://livepatch.example.org".into()),
        kernel: None,
        check: Check {
            state: check,
            at: Some(NOW),
            attempted_at: Some("2026-11-24T12:00:00Z".parse().unwrap()),
            reachability: Reachability::Reached,
            mirror: None,
            document_version: Some(7),
            document_expires: None,
        },
        coverage: Coverage { state: CoverageState::Covered, ..Coverage::default() },
        reboot: None,
        patch: Patch {
            state,
            version: Some(PatchVersion::parse("113.1").unwrap()),
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
const CHECK_STATES: [(CheckState, &str); 3] = [
    (CheckState::NeedsCheck, "needs-check"),
    (CheckState::Checked, "checked"),
    (CheckState::CheckFailed, "check-failed"),
];

#[test]
fn every_reader_finds_what_it_looks_for_in_every_state() {
    let machine = Machine {
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        cpu_model: "Example(R): \"Processor\" # 7 @ 2.60GHz".into(),
        boot_time: Some(NOW - jiff::SignedDuration::from_secs(46)),
        uptime_seconds: 46,
        kernel: "5.15.0-107.117-generic".into(),
        installed_kernels: vec![],
    };
    let titles = [("net: a use after free", true), ("'odd' \"title\" (unpatched)", false)];
    for (state, patch) in PATCH_STATES {
        for (check_state, check) in CHECK_STATES {
            for titles in [&titles[..], &[]] {
                let status = status(state, check_state, titles);
                let legacy = LegacyStatus::new(&status, &machine).unwrap();
                let (json, yaml) = (json(&legacy), yaml(&legacy));
                let expected = Read {
                    kernel: "5.15.0-107.117-generic".into(),
                    check: check.into(),
                    patch: patch.into(),
                    fixes: status.patch.cves.iter().map(|cve| (cve.id.to_string(), cve.patched)).collect(),
                };
                let (read, supported) = ubuntu_pro_client(&json);
                assert_eq!(read, expected, "ubuntu-pro-client");
                assert!(
                    ["supported", "kernel-upgrade-required", "unsupported", "unknown"]
                        .contains(&supported.as_str())
                );
                assert_eq!(software_properties(&json), (read, NOW), "software-properties");
                assert_eq!(update_manager(&yaml), expected, "update-manager");
                let humane = humane(&legacy, Detail::Summary, NOW);
                let keys: Vec<String> = landscape_lines(&humane).into_iter().map(|(key, _)| key).collect();
                assert_eq!(landscape_yaml(&humane), keys, "landscape-client");
                assert!(
                    ["last check", "kernel", "server check-in", "patch state"]
                        .iter()
                        .all(|key| keys.contains(&(*key).to_owned()))
                );
                assert_eq!(node_exporter_script(&json, &yaml), (NOW.as_second() as f64, patch.to_owned()));
            }
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
    let (kernel, supported) = ubuntu_pro_client(&json);
    assert_eq!((kernel.patch.as_str(), supported.as_str()), ("applied", "supported"));
    assert!(kernel.fixes.iter().all(|(name, patched)| name.starts_with("CVE-") && *patched));
    assert_eq!(software_properties(&json).0, kernel);
    let of_yaml = update_manager(&yaml);
    assert_eq!((of_yaml.fixes.len(), of_yaml.fixes[2].1), (3, false));
    let keys: Vec<String> = landscape_lines(&humane).into_iter().map(|(key, _)| key).collect();
    assert_eq!(landscape_yaml(&humane), keys);
    assert_eq!(node_exporter_script(&json, &yaml).1, "applied");
}
