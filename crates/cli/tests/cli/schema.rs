//! `docs/schema/status.schema.json` says neither less nor more than what is printed.

use jsonschema::Validator;
use livepatch_api::daemon::*;
use livepatch_types::*;
use serde_json::{Value, json};

use crate::support::{reboot, status, waiting};

const SCHEMA: &str = include_str!("../../../../docs/schema/status.schema.json");

fn schema() -> Validator {
    jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap()
}

/// With all that may be there.
fn full() -> Value {
    let mut status = status();
    (status.patch.waiting, status.reboot) =
        (Some(waiting()), Some(reboot("unpatchable-cve", Some("6.1.0-51-amd64"))));
    status.cohort = Some(Cohort::parse("databases/2").unwrap());
    status.patch.place =
        Some(RolloutPlace { version: PatchVersion::parse("114.1").unwrap(), hundredths: 4918 });
    status.problem = Some(Failure { code: "x".into(), message: "y".into(), hints: vec!["z".into()] });
    serde_json::to_value(status).unwrap()
}

#[test]
fn every_status_fits() {
    let schema = schema();
    assert!(schema.is_valid(&full()));
    let mut bare = status();
    (bare.tier, bare.server, bare.kernel, bare.problem) = (None, None, None, None);
    bare.check.mirror = Some("https://mirror.example.org".into());
    (bare.check.at, bare.check.document_version, bare.check.document_expires) = (None, None, None);
    (bare.patch.version, bare.patch.applied_at) = (None, None);
    assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()));
    for state in [
        PatchState::Unapplied,
        PatchState::Applying,
        PatchState::Applied,
        PatchState::AppliedWithBug,
        PatchState::ApplyFailed,
        PatchState::NothingToApply,
        PatchState::KernelUpgradeRequired,
        PatchState::Unknown,
    ] {
        bare.patch.state = state;
        assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()), "{state:?}");
    }
    for stage in TRANSITIONS.iter().map(|(stage, ..)| Some(*stage)).chain([None]) {
        bare.patch.stage = stage;
        assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()), "{stage:?}");
    }
    for state in [
        CoverageState::Unknown,
        CoverageState::Covered,
        CoverageState::UpgradeNeeded,
        CoverageState::Ended,
        CoverageState::SeriesEnded,
        CoverageState::NotCovered,
    ] {
        bare.coverage = Coverage { state, ..Coverage::default() };
        assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()), "{state:?}");
    }
    for code in ["unpatchable-cve", "series-ended", "window-ended", NEWER_KERNEL_INSTALLED] {
        bare.reboot = Some(reboot(code, None));
        assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()), "{code}");
    }
    for state in [CheckState::NeedsCheck, CheckState::Checked, CheckState::CheckFailed] {
        bare.check.state = state;
        assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()), "{state:?}");
    }
    for rating in [Rating::Negligible, Rating::Low, Rating::Medium, Rating::High, Rating::Critical] {
        bare.patch.cves[0].rating = rating;
        assert!(schema.is_valid(&serde_json::to_value(&bare).unwrap()), "{rating:?}");
    }
}

/// Every key is required, and none may be added: so a field that is new, gone or renamed changes the schema.
#[test]
fn keys_are_exactly_those() {
    let schema = schema();
    for place in [
        "",
        "/kernel",
        "/check",
        "/coverage",
        "/reboot",
        "/patch",
        "/patch/waiting",
        "/patch/place",
        "/patch/cves/0",
        "/problem",
    ] {
        let keys: Vec<String> = full().pointer(place).unwrap().as_object().unwrap().keys().cloned().collect();
        for key in keys {
            let mut without = full();
            without.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(&key);
            assert!(!schema.is_valid(&without), "{place}/{key} can be left out");
        }
        let mut with = full();
        with.pointer_mut(place).unwrap()["another"] = json!(1);
        assert!(!schema.is_valid(&with), "{place} takes other keys");
    }
}

#[test]
fn values_are_of_their_types() {
    let schema = schema();
    for (place, value) in [
        ("/schema", json!(2)),
        ("/enabled", json!("yes")),
        ("/tier", json!("Stable")),
        ("/kernel/release", json!("linux")),
        ("/kernel/build_id", json!("AB")),
        ("/check/state", json!("done")),
        ("/check/document_version", json!(-1)),
        ("/patch/state", json!("fine")),
        ("/patch/version", json!(113.1)),
        ("/patch/stage", json!("somewhere")),
        ("/coverage/state", json!("yes")),
        ("/coverage/until", json!("soon")),
        ("/reboot/code", json!("why-not")),
        ("/patch/waiting/code", json!("later")),
        ("/patch/waiting/notice", json!("LSN-114-1")),
        ("/patch/cves/0/id", json!("cve-2026-1")),
        ("/patch/cves/0/rating", json!("worst")),
        ("/problem/hints", json!("do this")),
    ] {
        let mut wrong = full();
        *wrong.pointer_mut(place).unwrap() = value;
        assert!(!schema.is_valid(&wrong), "{place}");
    }
}
