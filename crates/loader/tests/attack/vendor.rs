//! The vendor's metadata, as a hostile agent, server or mirror brings it: beside the operator's word, the vendor's counts.

use livepatch_loader_api::{AgentRequest, RootRequest};
use livepatch_trust::{AllowedPatch, FileMeta, Role, RoleKeys, SignedFile, Targets};

use crate::repository::*;
use crate::signing::*;
use crate::stage::*;

/// A host with the vendor's root that runs 1.1, and the repository that allows it.
fn running() -> (Stage, Repository) {
    let mut repository = Repository::new();
    let stage = Stage::new();
    std::fs::write(stage.directory.path().join("vendor-root.json"), repository.root_file()).unwrap();
    stage.enable();
    let module = good("1.1");
    repository.allow("1.1", &module);
    assert_eq!(stage.update(&repository.files()), "ok");
    assert_eq!(stage.note(&stage.document(1, "1.1", &module)), "ok");
    assert_eq!(stage.apply(&module), "ok");
    stage.is_untouched();
    (stage, repository)
}

/// What livepatch 1.2 comes to on such a host when both allow it.
fn both_allow() {
    let (stage, mut repository) = running();
    let next = good("1.2");
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    assert_eq!(stage.apply(&next), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

/// The operator offers 1.2; the vendor's say is what was learnt: it is refused so, by whatever way.
fn offered(stage: &Stage, expected: &str) {
    let next = good("1.2");
    let envelope = stage.document(2, "1.2", &next);
    assert_eq!(stage.note(&envelope), "ok");
    assert_eq!(stage.apply(&next), "module-not-wanted");
    assert_eq!(stage.converge(), expected);
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

/// Files that allow 1.2 are refused so, and nothing of them counts.
fn refused(expected: &str, attack: impl FnOnce(&mut Repository) -> Files) {
    both_allow();
    let (stage, mut repository) = running();
    repository.allow("1.2", &good("1.2"));
    let before = stage.view().vendor.unwrap();
    assert_eq!(before.seen.len(), 4, "root, targets, snapshot and timestamp: {before:?}");
    let files = attack(&mut repository);
    assert_eq!(stage.update(&files), expected);
    let after = stage.view().vendor.unwrap();
    assert_eq!((after.seen, after.allowed), (before.seen, before.allowed));
    assert_eq!(after.wants, None, "a refusal ends the update");
    offered(&stage, "vendor-not-allowed");
}

#[test]
fn attack_operators_approval_without_the_vendors() {
    both_allow();
    let (stage, _) = running();
    offered(&stage, "vendor-not-allowed");
    // A host that was never told what is allowed installs nothing either.
    let stage = Stage::new();
    std::fs::write(stage.directory.path().join("vendor-root.json"), Repository::new().root_file()).unwrap();
    stage.enable();
    let module = good("1.1");
    let envelope = stage.document(1, "1.1", &module);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "vendor-unseen".into()));
    stage.insist(&envelope, &module);
    assert_eq!(stage.kernel.loads().len(), 0);
}

#[test]
fn attack_vendors_approval_without_the_operators() {
    both_allow();
    let (stage, mut repository) = running();
    let next = good("1.2");
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    assert_eq!(stage.apply(&next), "module-not-wanted");
    stage.insist(b"", &next);
    stage.is_untouched();
}

#[test]
fn attack_module_that_the_vendor_allows_with_other_bytes() {
    both_allow();
    let (stage, mut repository) = running();
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.3")).files()), "ok");
    offered(&stage, "vendor-mismatch");
}

#[test]
fn attack_module_of_a_signer_that_the_vendor_does_not_name() {
    both_allow();
    let (stage, mut repository) = running();
    let next = good("1.2");
    repository.allow("1.2", &next).allowance.allowed[1].signer = "00".repeat(20);
    assert_eq!(stage.update(&repository.files()), "ok");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    assert_eq!(stage.apply(&next), "vendor-wrong-signer");
    stage.is_untouched();
}

#[test]
fn attack_rollback_of_the_timestamp() {
    refused("vendor-rollback", |repository| {
        repository.versions.2 = 1;
        repository.files()
    });
}

#[test]
fn attack_rollback_of_the_snapshot() {
    refused("vendor-rollback", |repository| {
        repository.versions.1 = 1;
        repository.files()
    });
}

#[test]
fn attack_rollback_of_the_targets() {
    refused("vendor-rollback", |repository| {
        repository.versions.0 = 1;
        repository.files()
    });
}

#[test]
fn attack_rollback_after_a_restart() {
    both_allow();
    let (mut stage, mut repository) = running();
    let next = good("1.2");
    let older = repository.allow("1.2", &next).files();
    repository.allowance.allowed.pop();
    assert_eq!(stage.update(&repository.release().files()), "ok");
    stage.restart();
    assert_eq!(stage.update(&older), "vendor-rollback");
    offered(&stage, "vendor-not-allowed");
}

#[test]
fn attack_freeze_with_an_expired_timestamp() {
    both_allow();
    let (stage, mut repository) = running();
    repository.expires = "2026-11-24T11:59:59Z".parse().unwrap();
    // It is believed: what it withdraws counts. But it installs nothing.
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    assert_eq!(stage.view().vendor_problem.unwrap().code, "vendor-expired");
    offered(&stage, "vendor-expired");
    // Nor does it take anything away: after a reboot the last healthy one comes back.
    comes_back(stage);
}

#[test]
fn attack_newest_metadata_held_back() {
    both_allow();
    let (stage, mut repository) = running();
    let next = good("1.2");
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    let mut document = document(&kernel(1), 2, Some(target_of("1.2", &next)));
    document.vendor = Some(repository.release().named());
    let envelope = stage.sign(&document);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "vendor-behind".into()));
    assert!(stage.view().vendor.unwrap().behind);
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

#[test]
fn attack_clock_before_the_vendors_signatures() {
    both_allow();
    let (stage, mut repository) = running();
    repository.issued = "2026-11-24T13:00:00Z".parse().unwrap();
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    offered(&stage, "clock-behind");
    comes_back(stage);
}

#[test]
fn attack_mix_and_match() {
    refused("vendor-mismatch", Repository::mixed);
}

#[test]
fn attack_root_signed_below_its_threshold() {
    refused("vendor-threshold", |repository| {
        repository.root.header.version = 2;
        repository.root_signers = vec![ROOT_KEYS[0]];
        repository.files()
    });
}

#[test]
fn attack_signatures_of_one_key_counted_twice() {
    refused("vendor-threshold", Repository::signed_twice_by_one_key);
    refused("vendor-bad-root", Repository::one_key_listed_twice);
}

#[test]
fn attack_root_of_strangers() {
    refused("vendor-threshold", |repository| {
        repository.root.header.version = 2;
        repository.root.keys = [20, 21].into_iter().map(|seed| (key(seed).id(), key(seed))).collect();
        repository.root_signers = vec![20, 21];
        for keys in repository.root.roles.values_mut() {
            *keys = RoleKeys { keyids: vec![key(20).id(), key(21).id()], threshold: 2 };
        }
        repository.files()
    });
}

#[test]
fn attack_targets_that_too_few_signed() {
    refused("vendor-threshold", |repository| {
        let targets = sign(&repository.targets(), &TARGETS_KEYS[..1]);
        repository.files_with(&targets)
    });
}

#[test]
fn attack_livepatch_that_the_vendor_withdrew() {
    both_allow();
    let (stage, mut repository) = running();
    let next = good("1.2");
    repository.allowance.withdrawn.push(version("1.2"));
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    offered(&stage, "withdrawn-livepatch");
    // It is final, whatever the vendor says later.
    repository.allowance.withdrawn.clear();
    assert_eq!(stage.update(&repository.release().files()), "ok");
    assert_eq!(stage.converge(), "withdrawn-livepatch");
    stage.is_untouched();
    // What runs goes when it is withdrawn, even by metadata that has expired, and does not come back.
    repository.allowance.withdrawn.push(version("1.1"));
    repository.expires = "2026-11-24T11:59:59Z".parse().unwrap();
    assert_eq!(stage.update(&repository.release().files()), "ok");
    stage.converge();
    assert_eq!(stage.livepatches(), [""; 0]);
    let mut stage = stage;
    stage.kernel.reboot(kernel(1));
    stage.restart();
    stage.insist(&stage.document(3, "1.1", &good("1.1")), &good("1.1"));
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (vec![], 1));
}

#[test]
fn attack_livepatch_below_the_lowest() {
    both_allow();
    let (stage, mut repository) = running();
    repository.allowance.lowest = Some(version("1.3"));
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    offered(&stage, "vendor-not-allowed");
}

#[test]
fn attack_allowance_of_another_kernel() {
    // Under the name of this kernel stands what is allowed for another.
    refused("vendor-wrong-kernel", |repository| {
        repository.allowance.kernel = kernel(2);
        repository.files()
    });
    // The vendor names the other kernel alone.
    both_allow();
    let (stage, mut repository) = running();
    (repository.kernel, repository.allowance.kernel) = (kernel(2), kernel(2));
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    offered(&stage, "vendor-unknown-kernel");
}

#[test]
fn attack_endless_and_oversized_metadata() {
    both_allow();
    let (stage, mut repository) = running();
    let files = repository.allow("1.2", &good("1.2")).files();
    let head = |length: u32| [&[6u8][..], &length.to_be_bytes()].concat();
    // Nothing is wanted before an update began.
    assert_eq!(code(&exchange(&stage.agents, &head(9)).unwrap()), "metadata-not-wanted");
    // Refused by its length alone: nothing of it is waited for.
    for (given, limit) in [(0, 64 << 10), (1, 16 << 10)] {
        assert_eq!(code(&agent(&stage.agents, AgentRequest::Update, &[])), "ok");
        for _ in 0..given {
            assert_eq!(code(&agent(&stage.agents, AgentRequest::Metadata, &[])), "ok");
        }
        assert_eq!(stage.view().vendor.unwrap().wants.unwrap().limit_bytes, limit);
        let answer = exchange(&stage.agents, &head(limit as u32 + 1)).unwrap();
        assert_eq!(code(&answer), "vendor-oversized");
    }
    assert_eq!(code(&exchange(&stage.agents, &head(u32::MAX)).unwrap()), "bad-request");
    // Longer than the snapshot says, within the cap.
    let mut longer = files.clone();
    for (path, bytes) in &mut longer {
        if path.ends_with(".targets.json") {
            bytes.push(b' ');
        }
    }
    assert_eq!(stage.update(&longer), "vendor-oversized");
    // A body that ends early, and one that never ends.
    assert_eq!(code(&agent(&stage.agents, AgentRequest::Update, &[])), "ok");
    assert_eq!(code(&exchange(&stage.agents, &[&head(100)[..], b"{"].concat()).unwrap()), "bad-request");
    offered(&stage, "vendor-not-allowed");
    assert_eq!(stage.update(&files), "ok");
}

#[test]
fn attack_delegations_in_great_number() {
    refused("vendor-malformed", |repository| repository.with_delegations(10_000));
}

#[test]
fn attack_target_name_that_leaves_the_repository() {
    refused("vendor-malformed", |repository| {
        let mut targets: Targets = repository.targets();
        targets.targets.insert("../../etc/passwd".into(), FileMeta::of(b""));
        repository.files_with(&sign(&targets, &TARGETS_KEYS))
    });
}

/// Names that look like the right one, or that a file system could take for another.
#[test]
fn attack_unicode_target_names() {
    for name in UNICODE_TARGET_NAMES {
        refused("vendor-malformed", |repository| {
            let mut targets: Targets = repository.targets();
            targets.targets.insert(name.into(), FileMeta::of(b""));
            repository.files_with(&sign(&targets, &TARGETS_KEYS))
        });
    }
}

#[test]
fn attack_metadata_of_any_bytes() {
    refused("vendor-malformed", |repository| {
        let mut files = repository.files();
        files.insert("metadata/timestamp.json".into(), b"\0\xff{".to_vec());
        files
    });
    refused("vendor-threshold", |repository| {
        let mut files = repository.files();
        let unsigned = SignedFile::unsigned(&repository.targets()).unwrap();
        files.insert("metadata/timestamp.json".into(), unsigned.to_bytes());
        files
    });
}

#[test]
fn attack_repository_of_another_vendor_named_by_the_operator() {
    both_allow();
    let (stage, mut repository) = running();
    let next = good("1.2");
    assert_eq!(stage.update(&repository.allow("1.2", &next).files()), "ok");
    let mut document = document(&kernel(1), 2, Some(target_of("1.2", &next)));
    document.vendor = Some(repository.named());
    document.vendor.as_mut().unwrap().repository = "debian-13-6.12".into();
    let envelope = stage.sign(&document);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "vendor-other-repository".into()));
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

#[test]
fn attack_vendors_root_removed() {
    both_allow();
    let (mut stage, mut repository) = running();
    let path = stage.directory.path().join("vendor-root.json");
    let pinned = std::fs::read(&path).unwrap();
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(stage.view().vendor_problem.unwrap().code, "vendor-root-missing");
    offered(&stage, "vendor-root-missing");
    stage.restart();
    offered(&stage, "vendor-root-missing");
    // Another root in its place is no better.
    let mut other = Repository::new();
    other.root.repository = "another".parse().unwrap();
    std::fs::write(&path, other.root_file()).unwrap();
    offered(&stage, "vendor-other-repository");
    // The agent cannot reset it; root can. Then the certificate alone counts.
    assert_eq!(code(&exchange(&stage.agents, &[21, 0, 0, 0, 0]).unwrap()), "bad-request");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    let view = stage.view();
    assert_eq!((view.vendor, view.vendor_problem), (None, None));
    assert_eq!(stage.apply(&good("1.2")), "ok");
    // And a root that is given back is pinned again.
    std::fs::write(&path, pinned).unwrap();
    assert_eq!(stage.view().vendor.unwrap().repository.as_str(), "debian-12-6.1");
}

/// The vendor's root of this version, by which another key releases.
pub(crate) fn after_the_theft(repository: &Repository, number: u64) -> Repository {
    const NEXT: u8 = 7;
    let mut next = repository.clone();
    next.root.header.version = number;
    next.root.keys.insert(key(NEXT).id(), key(NEXT));
    for role in [Role::Snapshot, Role::Timestamp] {
        next.root.roles.insert(role, role_keys(&[NEXT], 1));
    }
    next.online_key = NEXT;
    next
}

/// A key was stolen, and the server goes on with what it signed. Root pins the next root, or a package brings it: what was
/// seen by the former one installs nothing new.
#[test]
fn attack_newer_pinned_root_of_the_vendor_withheld() {
    both_allow();
    let (mut stage, mut repository) = running();
    let path = stage.directory.path().join("vendor-root.json");
    repository.allowance.withdrawn = vec![version("1.3")];
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    let next = after_the_theft(&repository, 2);
    std::fs::write(&path, next.root_file()).unwrap();
    for _ in 0..2 {
        let vendor = stage.view().vendor.unwrap();
        assert_eq!((vendor.knows_this_kernel, vendor.withdrawn), (false, vec![version("1.3")]));
        assert_eq!(stage.update(&repository.files()), "vendor-threshold");
        offered(&stage, "vendor-unseen");
        stage.restart();
    }
    assert_eq!(stage.update(&next.files()), "ok");
    assert_eq!((stage.apply(&good("1.2")), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

/// One that does not follow from the one that is known: nothing new, until those in between are there or root resets.
#[test]
fn attack_newer_pinned_root_of_the_vendor_that_does_not_follow() {
    const EXPECTED: &str = "vendor-root-newer-pinned";
    both_allow();
    for reset in [false, true] {
        let (mut stage, mut repository) = running();
        repository.allowance.withdrawn = vec![version("1.3")];
        assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
        let (second, mut third) = (after_the_theft(&repository, 2), after_the_theft(&repository, 3));
        std::fs::write(stage.directory.path().join("vendor-root.json"), third.root_file()).unwrap();
        for _ in 0..2 {
            assert_eq!(stage.view().vendor_problem.unwrap().code, EXPECTED);
            assert!(stage.view().vendor.unwrap().behind, "it asks for those in between");
            assert_eq!(stage.update(&repository.release().files()), "ok");
            offered(&stage, EXPECTED);
            stage.restart();
        }
        third.versions = repository.versions;
        let mut files = third.files();
        if reset {
            assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
            offered(&stage, "vendor-unseen");
        } else {
            files.extend(second.files().into_iter().filter(|(path, _)| path.ends_with("2.root.json")));
        }
        assert_eq!(stage.update(&files), "ok");
        let view = stage.view();
        assert_eq!((view.vendor_problem, view.vendor.unwrap().withdrawn), (None, vec![version("1.3")]));
        assert_eq!(
            (stage.apply(&good("1.2")), stage.livepatches()),
            ("ok".into(), vec!["livepatch_1_2".into()])
        );
    }
}

/// The server gives the next root and holds the rest back: what the stolen key signed does not count any more.
#[test]
fn attack_update_broken_off_after_a_root() {
    both_allow();
    let (mut stage, mut repository) = running();
    assert_eq!(stage.update(&repository.allow("1.2", &good("1.2")).files()), "ok");
    let next = after_the_theft(&repository, 2);
    let root_alone = next.files().into_iter().filter(|(path, _)| path.ends_with(".root.json")).collect();
    assert_eq!(stage.update(&root_alone), "vendor-mismatch");
    for _ in 0..2 {
        assert_eq!(stage.view().vendor.unwrap().seen[0].version, 2);
        assert_eq!(stage.update(&repository.files()), "vendor-threshold");
        offered(&stage, "vendor-unseen");
        stage.restart();
    }
    assert_eq!(stage.update(&next.files()), "ok");
    assert_eq!((stage.apply(&good("1.2")), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

/// More new roots than one update follows: the next one goes on from there.
#[test]
fn a_host_that_is_far_behind() {
    let (stage, mut repository) = running();
    let mut roots = Files::new();
    for number in 2..=300 {
        repository.root.header.version = number;
        roots.insert(format!("metadata/{number}.root.json"), repository.root_file());
    }
    let mut files = repository.allow("1.2", &good("1.2")).files();
    files.extend(roots);
    let seen = |stage: &Stage| stage.view().vendor.unwrap().seen[0].version;
    assert_eq!((stage.update(&files), seen(&stage)), ("vendor-oversized".into(), 257));
    assert_eq!((stage.update(&files), seen(&stage)), ("ok".into(), 300));
    assert_eq!(stage.note(&stage.document(2, "1.2", &good("1.2"))), "ok");
    assert_eq!(stage.apply(&good("1.2")), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

#[test]
fn attack_corrupt_and_lost_state_of_trust() {
    both_allow();
    for damage in [Some("{"), Some("{\"schema\": 2}"), Some("{\"schema\": 1}"), None] {
        let (mut stage, mut repository) = running();
        let next = good("1.2");
        let path = stage.directory.path().join("state/vendor.json");
        match damage {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let expected = damage.map_or("trust-state-missing", |_| "trust-state-unreadable");
        stage.restart();
        assert_eq!(stage.view().vendor_problem.unwrap().code, expected);
        assert_eq!(stage.update(&repository.allow("1.2", &next).files()), expected);
        offered(&stage, expected);
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), damage, "it is left alone");
        // Root begins anew from the pinned root; what was allowed must be learnt again.
        assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
        stage.is_untouched();
        assert_eq!(stage.converge(), "vendor-unseen");
        assert_eq!(stage.update(&repository.files()), "ok");
        assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
        assert_eq!(path.with_extension("json.set-aside").exists(), damage.is_some());
    }
}

/// The host boots without network and with its clock at 1970: 1.1 is back, and nothing else.
fn comes_back(mut stage: Stage) {
    stage.kernel.reboot(kernel(1));
    stage.at("1970-01-01T00:00:30Z");
    stage.restart();
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
}

/// The file as it is written, and as version 0.1.0 wrote it: without the timestamp's digest.
#[test]
fn what_is_remembered_stays_readable() {
    let golden = include_str!("../vendor-with-digest.json");
    let mut repository = Repository::new();
    repository.allowance.lowest = Some(version("1.1"));
    repository.allowance.withdrawn = vec![version("1.2")];
    repository.allowance.allowed = vec![AllowedPatch {
        version: version("1.1"),
        module: FileMeta::of(b"the module"),
        signer: "00112233445566778899aabbccddeeff00112233".into(),
        objects: vec![],
    }];
    let mut stage = Stage::new();
    let path = stage.directory.path().join("state/vendor.json");
    std::fs::write(stage.directory.path().join("vendor-root.json"), repository.root_file()).unwrap();
    stage.enable();
    assert_eq!(stage.update(&repository.release().files()), "ok");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), golden.trim_end(), "the format changed");
    let view = stage.view();
    for readable in [golden, include_str!("../vendor.json")] {
        std::fs::write(&path, readable).unwrap();
        stage.restart();
        assert_eq!(stage.view(), view);
    }
    assert_eq!(view.vendor.unwrap().allowed, [version("1.1")]);
}

/// The online key is stolen, and the operator is shown another timestamp of the version that hosts saw; or a host is.
#[test]
fn attack_other_timestamp_of_the_same_version() {
    both_allow();
    let (stage, mut repository) = running();
    let (next, shown) = (good("1.2"), repository.clone());
    repository.allow("1.2", &next);
    assert_eq!(stage.update(&repository.files()), "ok");
    let mut other = repository.clone();
    other.allowance.withdrawn = vec![version("1.2")];
    (other.versions.0, other.versions.1) = (repository.versions.0 + 1, repository.versions.1 + 1);
    assert_eq!(stage.update(&other.files()), "vendor-split-view");
    let offer = |number: u64, named: &Repository| {
        let mut document = document(&kernel(1), number, Some(target_of("1.2", &next)));
        document.vendor = Some(named.named());
        stage.sign(&document)
    };
    let envelope = offer(2, &other);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "vendor-split-view".into()));
    stage.insist(&envelope, &next);
    stage.is_untouched();
    // An older one is what a slow operator names, and the same one is right.
    assert_eq!(stage.note(&offer(3, &shown)), "ok");
    assert_eq!(stage.note(&offer(4, &repository)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}
