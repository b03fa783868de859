//! What a host remembers of the vendor's repository, of each kernel that ran on it, and when that is old.

use livepatch_manifest::VendorMetadata;
use livepatch_types::KernelIdentity;

use crate::repository::*;
use crate::signing::*;
use crate::stage::*;

/// A host with the vendor's root, which has asked nothing yet.
fn pinned(repository: &Repository) -> Stage {
    let stage = Stage::new();
    std::fs::write(stage.directory.path().join("vendor-root.json"), repository.root_file()).unwrap();
    stage.enable();
    stage
}

/// One that has: the operator names what it saw, and livepatch 1.1 runs.
fn asked() -> (Stage, Repository) {
    let mut repository = Repository::new();
    let stage = pinned(&repository);
    let module = good("1.1");
    assert_eq!(stage.update(&repository.allow("1.1", &module).files()), "ok");
    let mut document = document(&kernel(1), 1, Some(target_of("1.1", &module)));
    document.vendor = Some(repository.named());
    assert_eq!((stage.note(&stage.sign(&document)), stage.apply(&module)), ("ok".into(), "ok".into()));
    stage.is_untouched();
    (stage, repository)
}

fn boot(stage: &mut Stage, running: KernelIdentity) {
    stage.kernel.reboot(running);
    stage.restart();
}

fn problem(stage: &Stage) -> Option<String> {
    stage.view().vendor_problem.map(|problem| problem.code)
}

/// A host is behind when the operator names a newer root or a newer timestamp of its repository.
#[test]
fn who_is_behind() {
    let (stage, repository) = asked();
    assert!(!stage.view().vendor.unwrap().behind);
    type Change = fn(&mut VendorMetadata);
    let rows: [(&str, bool, Change); 6] = [
        ("the same", false, |_| ()),
        ("a newer timestamp", true, |named| named.timestamp.version += 1),
        ("a newer root", true, |named| named.root.version += 1),
        ("an older timestamp", false, |named| named.timestamp.version -= 1),
        ("an older root", false, |named| named.root.version -= 1),
        ("newer ones of another repository", false, |named| {
            named.repository = "another".into();
            named.root.version += 1;
            named.timestamp.version += 1;
        }),
    ];
    let next = good("1.2");
    for (number, (what, behind, change)) in (2..).zip(rows) {
        let mut document = document(&kernel(1), number, Some(target_of("1.2", &next)));
        change(document.vendor.insert(repository.named()));
        let other = document.vendor.as_ref().is_some_and(|named| named.repository == "another");
        assert_eq!(stage.note(&stage.sign(&document)), "ok", "{what}");
        assert_eq!(stage.view().vendor.unwrap().behind, behind, "{what}");
        let expected = match (behind, other) {
            (true, _) => "vendor-behind",
            (false, true) => "vendor-other-repository",
            // It is up to date, and what it knows decides.
            (false, false) => "vendor-not-allowed",
        };
        assert_eq!(stage.converge(), expected, "{what}");
    }
    stage.is_untouched();
}

/// What is allowed on one kernel says nothing of another; what was withdrawn on each stays withdrawn.
#[test]
fn attack_word_on_one_kernel_for_another() {
    let (mut stage, mut repository) = asked();
    repository.allowance.withdrawn = vec![version("1.3")];
    assert_eq!(stage.update(&repository.release().files()), "ok");
    let vendor = |stage: &Stage| {
        let vendor = stage.view().vendor.unwrap();
        (vendor.knows_this_kernel, vendor.allowed, vendor.withdrawn)
    };
    assert_eq!(vendor(&stage), (true, vec![version("1.1")], vec![version("1.3")]));

    boot(&mut stage, kernel(2));
    assert_eq!(vendor(&stage), (false, vec![], vec![]));
    let mut document = document(&kernel(2), 1, None);
    document.vendor = Some(repository.named());
    assert_eq!(stage.note(&stage.sign(&document)), "ok");
    assert!(stage.view().vendor.unwrap().behind, "it must ask about this kernel");
    let mut other = repository.clone();
    (other.kernel, other.allowance.kernel) = (kernel(2), kernel(2));
    (other.allowance.allowed, other.allowance.withdrawn) = (vec![], vec![version("2.1")]);
    assert_eq!(stage.update(&other.release().files()), "ok");
    assert_eq!(vendor(&stage), (true, vec![], vec![version("2.1")]));

    // Back on the first one, whose last word is older than the newest targets.
    boot(&mut stage, kernel(1));
    assert_eq!(vendor(&stage), (false, vec![], vec![version("1.3")]));
    for (number, of, expected) in [(2, "1.2", "vendor-unseen"), (3, "1.3", "withdrawn-livepatch")] {
        let next = good(of);
        let envelope = stage.document(number, of, &next);
        assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), expected.into()));
        stage.insist(&envelope, &next);
        assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    }
}

/// A root alone has no versions and no expiries of others; it is no reason for complaints, and stays so after a restart.
#[test]
fn a_host_that_has_asked_nothing_yet() {
    let repository = Repository::new();
    let mut stage = pinned(&repository);
    for time in ["2026-11-24T12:00:00Z", "2028-01-01T00:00:00Z"] {
        stage.at(time);
        stage.restart();
        let vendor = stage.view().vendor.unwrap();
        assert_eq!((vendor.knows_this_kernel, problem(&stage)), (false, None), "{time}");
    }
    // What was seen, and is over, is a reason.
    let (stage, _) = asked();
    stage.at("2028-01-01T00:00:00Z");
    assert_eq!(problem(&stage), Some("vendor-expired".into()));
}

/// The file says when each role but the root expires, or nothing of any: else it is not used.
#[test]
fn attack_expiries_cut_from_what_is_remembered() {
    type Change = fn(&mut serde_json::Map<String, serde_json::Value>);
    let rows: [(&str, Change); 4] = [
        ("none of them", serde_json::Map::clear),
        ("one of them", |expires| expires.retain(|role, _| role == "timestamp")),
        ("all but one", |expires| drop(expires.remove("timestamp"))),
        ("one more", |expires| drop(expires.insert("root".into(), "2027-11-23T00:00:00Z".into()))),
    ];
    let (mut stage, _) = asked();
    let path = stage.directory.path().join("state/vendor.json");
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (what, change) in rows {
        let mut file = good.clone();
        change(file["expires"].as_object_mut().unwrap());
        std::fs::write(&path, file.to_string()).unwrap();
        stage.restart();
        assert_eq!(problem(&stage), Some("trust-state-unreadable".into()), "{what}");
    }
    std::fs::write(&path, good.to_string()).unwrap();
    stage.restart();
    assert_eq!(problem(&stage), None);
    stage.is_untouched();
}
