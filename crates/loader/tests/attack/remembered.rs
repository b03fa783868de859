//! What a host remembers of the vendor's repository, of each kernel that ran on it, and when that is old.

use livepatch_loader_api::RootRequest;
use livepatch_manifest::VendorMetadata;
use livepatch_trust::AllowedPatch;
use livepatch_types::{KernelIdentity, PatchVersion};

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

/// What livepatch 1.2 comes to on such a host when nobody attacks.
fn both_allow() {
    let (stage, mut repository) = asked();
    let next = good("1.2");
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
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

/// A host whose vendor allows 1.1 and 1.2 on the first kernel, and which has booted the second one since.
fn elsewhere() -> (Stage, Repository) {
    let (mut stage, mut repository) = asked();
    repository.allowance.withdrawn = vec![version("1.3")];
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    let known = (true, vec![version("1.1"), version("1.2")], vec![version("1.3")]);
    assert_eq!(known_here(&stage), known);
    boot(&mut stage, kernel(2));
    assert_eq!(known_here(&stage), (false, vec![], vec![]));
    (stage, repository)
}

/// Whether the newest word on the running kernel is known, and what it allows and withdraws.
fn known_here(stage: &Stage) -> (bool, Vec<PatchVersion>, Vec<PatchVersion>) {
    let vendor = stage.view().vendor.unwrap();
    (vendor.knows_this_kernel, vendor.allowed, vendor.withdrawn)
}

/// What is allowed on one kernel says nothing of another; what was withdrawn on each stays withdrawn.
#[test]
fn attack_word_on_one_kernel_for_another() {
    both_allow();
    let there = |of: &str| VENDOR.sign(&module(&info(of, &kernel(2))));
    let offer = |stage: &Stage, number: u64, of: &str, repository: &Repository| {
        let mut document = document(&kernel(2), number, Some(target_of(of, &there(of))));
        document.vendor = Some(repository.named());
        stage.sign(&document)
    };
    // What the vendor says of the second kernel, when it is asked.
    let said = |repository: &Repository, allowed: Vec<AllowedPatch>| {
        let mut other = repository.clone();
        (other.kernel, other.allowance.kernel) = (kernel(2), kernel(2));
        (other.allowance.allowed, other.allowance.withdrawn) = (allowed, vec![version("2.1")]);
        other.release();
        other
    };

    // 1.1 is allowed there, and runs; 1.2 is allowed on the first kernel alone.
    let (stage, repository) = elsewhere();
    let other = said(&repository, vec![allowed("1.1", &there("1.1"))]);
    assert_eq!(stage.update(&other.files()), "ok");
    assert_eq!(known_here(&stage), (true, vec![version("1.1")], vec![version("2.1")]));
    assert_eq!(stage.note(&offer(&stage, 1, "1.1", &other)), "ok");
    let runs = vec!["livepatch_1_1".to_owned()];
    assert_eq!((stage.apply(&there("1.1")), stage.livepatches()), ("ok".into(), runs.clone()));
    let envelope = offer(&stage, 2, "1.2", &other);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "vendor-not-allowed".into()));
    stage.insist(&envelope, &there("1.2"));
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (runs, 2));

    // Before it is asked of that kernel nothing is loaded there.
    let (mut stage, repository) = elsewhere();
    let envelope = offer(&stage, 1, "1.2", &repository);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "vendor-unseen".into()));
    assert!(stage.view().vendor.unwrap().behind, "it must ask about this kernel");
    stage.insist(&envelope, &there("1.2"));
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (vec![], 1));
    assert_eq!(stage.update(&said(&repository, vec![]).files()), "ok");

    // Back on the first one, whose last word is older than the newest targets.
    boot(&mut stage, kernel(1));
    assert_eq!(known_here(&stage), (false, vec![], vec![version("1.3")]));
    for (number, of, expected) in [(2, "1.2", "vendor-unseen"), (3, "1.3", "withdrawn-livepatch")] {
        let next = good(of);
        let envelope = stage.document(number, of, &next);
        assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), expected.into()));
        stage.insist(&envelope, &next);
        assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    }
    let loads = stage.kernel.loads();
    assert!(loads.iter().all(|name| name.as_str() == "livepatch_1_1"), "{loads:?}");
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
    both_allow();
    let (mut stage, mut repository) = asked();
    let next = good("1.2");
    // It is learnt before the file is cut: by what was there, 1.2 would be loaded.
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    let envelope = stage.document(2, "1.2", &next);
    let path = stage.directory.path().join("state/vendor.json");
    let whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (what, change) in rows {
        let mut file = whole.clone();
        change(file["expires"].as_object_mut().unwrap());
        std::fs::write(&path, file.to_string()).unwrap();
        stage.restart();
        assert_eq!(problem(&stage), Some("trust-state-unreadable".into()), "{what}");
        assert_eq!(stage.update(&repository.files()), "trust-state-unreadable", "{what}");
        assert_eq!(stage.note(&envelope), "ok", "{what}");
        assert_eq!(stage.converge(), "trust-state-unreadable", "{what}");
        assert_eq!(stage.apply(&next), "module-not-wanted", "{what}");
        stage.insist(&envelope, &next);
        stage.is_untouched();
    }
    std::fs::write(&path, whole.to_string()).unwrap();
    stage.restart();
    assert_eq!(problem(&stage), None);
    stage.is_untouched();
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

fn reset(stage: &Stage) -> String {
    code(&root(&stage.roots, RootRequest::ResetTrust))
}

/// A document that a thief of the operator's one key signed for a time far ahead.
fn ahead(stage: &Stage, number: u64) -> Vec<u8> {
    let mut ahead = document(&kernel(1), number, Some(target_of("1.1", &good("1.1"))));
    (ahead.issued, ahead.expires) =
        ("2099-01-01T00:00:00Z".parse().unwrap(), "2099-02-01T00:00:00Z".parse().unwrap());
    stage.sign(&ahead)
}

/// On a host that goes by one key a stolen one can say that it is 2099. That is over when the key is exchanged, or when
/// root resets what is remembered.
#[test]
fn attack_time_of_signing_by_a_stolen_one_key() {
    unattacked();
    let next = good("1.2");
    for exchanged in [true, false] {
        let mut stage = Stage::running();
        assert_eq!(stage.note(&ahead(&stage, 2)), "ok");
        let envelope = stage.document(3, "1.2", &next);
        assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "clock-behind".into()));
        stage.insist(&envelope, &next);
        stage.is_untouched();
        // Nothing that the agent does, nor a restart, nor root's enrolling anew ends it while the key is the same.
        stage.restart();
        assert_eq!(stage.converge(), "clock-behind");
        let mended = if exchanged {
            let own = pair(40);
            std::fs::write(stage.directory.path().join("operator.pub"), public(&own).to_text()).unwrap();
            assert_eq!(stage.note(&ahead(&stage, 4)), "document-wrong-signer");
            sign_document(&document(&kernel(1), 1, Some(target_of("1.2", &next))), &own)
        } else {
            assert_eq!(reset(&stage), "ok");
            assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "document-rollback", "versions stay");
            stage.document(4, "1.2", &next)
        };
        assert_eq!((stage.note(&mended), stage.apply(&next)), ("ok".into(), "ok".into()));
        assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
        // From then on time counts again.
        stage.at("2026-11-21T00:00:00Z");
        let mut later = document(&kernel(1), 5, Some(target_of("1.3", &good("1.3"))));
        (later.issued, later.expires) =
            ("2026-11-20T00:00:00Z".parse().unwrap(), "2026-11-22T00:00:00Z".parse().unwrap());
        let later = if exchanged { sign_document(&later, &pair(40)) } else { stage.sign(&later) };
        assert_eq!((stage.note(&later), stage.converge()), ("ok".into(), "clock-behind".into()));
    }
}

/// A host whose operator exchanged its one key has seen documents of both. The root that names both makes them one
/// operator, whose highest version counts.
#[test]
fn attack_older_document_after_two_keys_became_one_root() {
    unattacked();
    let stage = Stage::new();
    let pinned = |name: &str, bytes: &[u8]| std::fs::write(stage.directory.path().join(name), bytes).unwrap();
    let offer = |seed: u8, number, of: &str| {
        sign_document(&document(&kernel(1), number, Some(target_of(of, &good(of)))), &pair(seed))
    };
    pinned("operator.pub", public(&pair(41)).to_text().as_bytes());
    let host = root(&stage.roots, RootRequest::Enable).view.unwrap().host.unwrap();
    assert_eq!(stage.assign(&assign(host, "stable", 1, &pair(41))), "ok");
    assert_eq!((stage.note(&offer(41, 2, "1.1")), stage.apply(&good("1.1"))), ("ok".into(), "ok".into()));
    pinned("operator.pub", public(&pair(42)).to_text().as_bytes());
    assert_eq!(stage.note(&offer(42, 9, "1.1")), "ok");
    let both = operator_root(1, &[41, 42], &[41]);
    pinned("operator-root.json", &sign(&both, &OPERATOR_KEYS));
    for seed in [41, 42] {
        let envelope = offer(seed, 3, "1.2");
        assert_eq!(stage.note(&envelope), "document-rollback");
        stage.insist(&envelope, &good("1.2"));
    }
    stage.is_untouched();
    assert_eq!((stage.note(&offer(42, 10, "1.2")), stage.apply(&good("1.2"))), ("ok".into(), "ok".into()));
}

/// A reset takes nothing away that is not wrong: versions and roots that were seen stay, and what was withdrawn stays so
/// in any case.
#[test]
fn attack_withdrawn_livepatch_after_a_reset() {
    both_allow();
    let (mut stage, mut repository) = asked();
    let old = repository.files();
    repository.allowance.withdrawn = vec![version("1.2")];
    assert_eq!(stage.update(&repository.release().files()), "ok");
    let path = |name: &str| stage.directory.path().join(name);
    let aside = path("state/vendor.json.set-aside");
    let before = stage.view().vendor;
    assert_eq!((reset(&stage), aside.exists(), stage.view().vendor), ("ok".into(), false, before));
    assert_eq!(stage.update(&old), "vendor-rollback");

    // Root puts another root of the same repository in its place: its versions are not known, what was withdrawn is.
    let mut renewed = repository.clone();
    renewed.root.header.issued = "2026-11-23T01:00:00Z".parse().unwrap();
    std::fs::write(path("vendor-root.json"), renewed.root_file()).unwrap();
    assert_eq!((reset(&stage), aside.exists()), ("ok".into(), true));
    for _ in 0..2 {
        let vendor = stage.view().vendor.unwrap();
        assert_eq!((vendor.knows_this_kernel, vendor.withdrawn), (false, vec![version("1.2")]));
        let next = good("1.2");
        let envelope = stage.document(2, "1.2", &next);
        assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "withdrawn-livepatch".into()));
        stage.insist(&envelope, &next);
        stage.is_untouched();
        stage.restart();
    }
    // A reset whose root is none changes nothing.
    let kept = std::fs::read(stage.directory.path().join("state/vendor.json")).unwrap();
    std::fs::write(stage.directory.path().join("vendor-root.json"), "{").unwrap();
    assert_eq!(reset(&stage), "trust-unreadable");
    assert_eq!(std::fs::read(stage.directory.path().join("state/vendor.json")).unwrap(), kept);
}

/// The loader's own state is lost or corrupt while the vendor's is there: nothing new, until root acts. It is kept aside, and
/// what the vendor withdrew stays so.
#[test]
fn attack_lost_state() {
    unattacked();
    let next = good("1.2");
    for (damage, expected) in [(None, "state-missing"), (Some("{"), "state-unreadable")] {
        for (command, answer) in [(RootRequest::Disable, "ok"), (RootRequest::ResetTrust, "state-set-aside")]
        {
            let (mut stage, mut repository) = asked();
            repository.allowance.withdrawn = vec![version("1.3")];
            assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
            let state = stage.directory.path().join("state/state.json");
            match damage {
                None => std::fs::remove_file(&state).unwrap(),
                Some(text) => std::fs::write(&state, text).unwrap(),
            }
            stage.restart();
            let envelope = stage.document(2, "1.2", &next);
            for _ in 0..2 {
                assert_eq!(stage.view().problem.unwrap().code, expected);
                assert_eq!(stage.note(&envelope), expected);
                for command in [RootRequest::Revert, RootRequest::Clear] {
                    assert_eq!(code(&root(&stage.roots, command)), expected, "{command:?}");
                }
                stage.insist(&envelope, &next);
                stage.is_untouched();
                assert_eq!(std::fs::read_to_string(&state).ok().as_deref(), damage, "it is let alone");
                stage.restart();
            }
            // A reset is whole, or nothing is set aside.
            let pinned = stage.directory.path().join("vendor-root.json");
            if command == RootRequest::ResetTrust {
                std::fs::write(&pinned, "{").unwrap();
                assert_eq!(reset(&stage), "trust-unreadable");
                assert_eq!(stage.view().problem.unwrap().code, expected);
                std::fs::write(&pinned, repository.root_file()).unwrap();
            }
            // Root begins anew. What runs counts as somebody else's until the next boot.
            assert_eq!(code(&root(&stage.roots, command)), answer);
            let aside = std::fs::read_to_string(state.with_extension("json.unreadable"));
            assert_eq!(aside.ok().as_deref(), damage);
            stage.restart();
            let view = stage.view();
            assert_eq!((view.problem, view.enabled), (None, false));
            assert_eq!(view.vendor.unwrap().withdrawn, [version("1.3")]);
            assert_eq!(stage.note(&envelope), "not-enabled");
            stage.insist(&envelope, &next);
            stage.is_untouched();
            stage.enable();
            stage.kernel.reboot(kernel(1));
            stage.restart();
            assert_eq!((stage.note(&envelope), stage.apply(&next)), ("ok".into(), "ok".into()));
            assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
        }
    }
}

/// A host boots many kernels in its life: what is remembered of them stays small, and what was withdrawn is known.
#[test]
fn what_is_remembered_of_old_kernels() {
    let (mut stage, repository) = asked();
    for byte in 2..60 {
        boot(&mut stage, kernel(byte));
        let mut other = repository.clone();
        (other.kernel, other.allowance.kernel) = (kernel(byte), kernel(byte));
        // Of every other one the vendor withdrew something.
        other.allowance.withdrawn = (byte % 2 == 0).then(|| version("1.2")).into_iter().collect();
        let release = u64::from(byte);
        other.versions = (release + 2, release + 2, release + 2);
        assert_eq!(stage.update(&other.files()), "ok", "{byte}");
    }
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stage.directory.path().join("state/vendor.json")).unwrap())
            .unwrap();
    let kernels = file["kernels"].as_array().unwrap();
    let allowances = kernels.iter().filter(|of| !of["allowance"].is_null()).count();
    assert_eq!(
        (kernels.len(), allowances),
        (30, 1),
        "29 of which something was withdrawn, and the running one"
    );
    for byte in [2, 58] {
        boot(&mut stage, kernel(byte));
        assert_eq!(stage.view().vendor.unwrap().withdrawn, [version("1.2")], "{byte}");
    }
}

/// A module that the vendor signed for the second kernel.
fn there(of: &str) -> Vec<u8> {
    VENDOR.sign(&module(&info(of, &kernel(2))))
}

/// A host on whose first kernel 1.1 was healthy, and which runs 2.1 on the second one, by document 1 of each.
fn on_two_kernels() -> Stage {
    let mut stage = Stage::running();
    boot(&mut stage, kernel(2));
    let document = document(&kernel(2), 1, Some(target_of("2.1", &there("2.1"))));
    assert_eq!((stage.note(&stage.sign(&document)), stage.apply(&there("2.1"))), ("ok".into(), "ok".into()));
    stage
}

/// What is remembered of one kernel is of no use to whoever has the agent while another one runs, and stays as it is.
#[test]
fn attack_word_of_another_kernel_that_is_remembered() {
    let mut stage = on_two_kernels();
    let loads = stage.kernel.loads().len();
    for (number, of) in [(1, "1.1"), (2, "1.2")] {
        let module = good(of);
        stage.insist(&stage.document(number, of, &module), &module);
        let here = document(&kernel(2), number + 1, Some(target_of(of, &module)));
        stage.insist(&stage.sign(&here), &module);
    }
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (vec!["livepatch_2_1".to_owned()], loads));
    boot(&mut stage, kernel(1));
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    assert_eq!(stage.view().applied.unwrap().target, target_of("1.1", &good("1.1")));
}

/// What was withdrawn on a kernel does not come back there, whichever kernel runs in between and whoever withdrew it. It was
/// taken note of, and the host went down before it was unloaded.
#[test]
fn attack_withdrawn_livepatch_after_another_kernel() {
    let withdrawn_by_the_operator = || {
        let stage = Stage::running();
        let mut withdrawing = document(&kernel(1), 2, None);
        withdrawing.withdrawn = vec![version("1.1")];
        assert_eq!(stage.note(&stage.sign(&withdrawing)), "ok");
        stage
    };
    let withdrawn_by_the_vendor = || {
        let (stage, mut repository) = asked();
        repository.allowance.withdrawn = vec![version("1.1")];
        assert_eq!(stage.update(&repository.release().files()), "ok");
        stage
    };
    let not_withdrawn = Stage::running;
    let rows: [(fn() -> Stage, bool); 3] =
        [(not_withdrawn, false), (withdrawn_by_the_operator, true), (withdrawn_by_the_vendor, true)];
    for (begin, withdrawn) in rows {
        let mut stage = begin();
        assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
        for running in [2, 3, 1, 2, 1] {
            boot(&mut stage, kernel(running));
            let back = running == 1 && !withdrawn;
            assert_eq!(stage.livepatches().len(), usize::from(back), "{running}");
        }
        if withdrawn {
            stage.insist(&stage.document(1, "1.1", &good("1.1")), &good("1.1"));
            stage.insist(&stage.document(3, "1.1", &good("1.1")), &good("1.1"));
            assert_eq!((stage.livepatches().len(), stage.kernel.loads().len()), (0, 1));
        }
    }
}

/// A reset is about whom to believe, not about what ran: what was healthy on another kernel comes back there. With a state that
/// cannot be read it is not known any more.
#[test]
fn a_reset_and_what_comes_back_on_another_kernel() {
    let mut stage = on_two_kernels();
    assert_eq!(reset(&stage), "ok");
    boot(&mut stage, kernel(1));
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);

    std::fs::write(stage.directory.path().join("state/state.json"), "{").unwrap();
    boot(&mut stage, kernel(2));
    assert_eq!(
        (stage.livepatches(), stage.view().problem.unwrap().code),
        (vec![], "state-unreadable".into())
    );
    assert_eq!(reset(&stage), "state-set-aside");
    for running in [1, 2] {
        boot(&mut stage, kernel(running));
        assert_eq!(stage.livepatches(), [""; 0]);
    }
}
