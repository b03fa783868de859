//! The operator's root: online keys are exchanged by it without touching a host, and nobody else can exchange them.

use livepatch_loader_api::{AgentRequest, RootRequest};
use livepatch_manifest::{CveEntry, KernelDocument};
use livepatch_trust::{Role, RoleKeys, Root};
use livepatch_types::Tier;

use crate::repository::{OPERATOR_KEYS as ROOT_KEYS, Repository, key, operator_root, pair, role_keys, sign};
use crate::signing::*;
use crate::stage::*;

/// One key of documents, another one of assignments.
const DOCUMENTS: u8 = 33;
const ASSIGNMENTS: u8 = 34;
/// What takes the place of the key of documents.
const NEXT: u8 = 35;

fn first_root() -> Vec<u8> {
    sign(&operator_root(1, &[DOCUMENTS], &[ASSIGNMENTS]), &ROOT_KEYS)
}

/// The next root, in which the key of documents is another one.
fn next_root() -> Root {
    operator_root(2, &[NEXT], &[ASSIGNMENTS])
}

fn offer(number: u64, of: &str) -> KernelDocument {
    document(&kernel(1), number, Some(target_of(of, &good(of))))
}

fn by(seed: u8, document: &KernelDocument) -> Vec<u8> {
    sign_document(document, &pair(seed))
}

fn bring(stage: &Stage, root: &[u8]) -> String {
    code(&agent(&stage.agents, AgentRequest::OperatorRoot, root))
}

/// A host that goes by the operator's root and has no other key; it runs 1.1.
fn running() -> Stage {
    let stage = Stage::new();
    std::fs::remove_file(stage.directory.path().join("operator.pub")).unwrap();
    std::fs::write(stage.directory.path().join("operator-root.json"), first_root()).unwrap();
    let answer = root(&stage.roots, RootRequest::Enable);
    assert_eq!(code(&answer), "ok");
    let host = answer.view.unwrap().host.unwrap();
    assert_eq!(stage.assign(&assign(host, "stable", 1, &pair(ASSIGNMENTS))), "ok");
    assert_eq!(
        (stage.note(&by(DOCUMENTS, &offer(1, "1.1"))), stage.apply(&good("1.1"))),
        ("ok".into(), "ok".into())
    );
    stage.is_untouched();
    stage
}

/// What the exchange of the key comes to when nobody attacks.
fn unattacked() {
    let stage = running();
    assert_eq!(stage.note(&by(NEXT, &offer(2, "1.2"))), "document-wrong-signer");
    assert_eq!(bring(&stage, &sign(&next_root(), &ROOT_KEYS)), "ok");
    assert_eq!(stage.view().operator.unwrap().root, 2);
    stage.is_untouched();
    assert_eq!(
        (stage.note(&by(NEXT, &offer(2, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

/// A clone of an image goes by the root that the image went by.
#[test]
fn attack_operators_key_before_an_image_was_made() {
    unattacked();
    let stage = running();
    assert_eq!(bring(&stage, &sign(&next_root(), &ROOT_KEYS)), "ok");
    let known = stage.view().operator;
    assert_eq!(code(&root(&stage.roots, RootRequest::PrepareImage)), "ok");
    assert_eq!(stage.view().operator, known);
    let host = root(&stage.roots, RootRequest::Enable).view.unwrap().host.unwrap();
    assert_eq!(stage.assign(&assign(host, "stable", 1, &pair(ASSIGNMENTS))), "ok");
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(2, "1.2"))), "document-wrong-signer");
    stage.insist(&by(DOCUMENTS, &offer(2, "1.2")), &good("1.2"));
    assert_eq!((stage.kernel.loads().len(), stage.livepatches()), (1, vec![]));
}

/// A root that is refused so: the keys are as before.
fn refused(expected: &str, attack: impl FnOnce(Root) -> Vec<u8>) {
    unattacked();
    let stage = running();
    assert_eq!(bring(&stage, &attack(next_root())), expected);
    assert_eq!(stage.view().operator.unwrap().root, 1);
    let envelope = by(NEXT, &offer(2, "1.2"));
    assert_eq!(stage.note(&envelope), "document-wrong-signer");
    stage.insist(&envelope, &good("1.2"));
    stage.is_untouched();
}

#[test]
fn attack_operators_root_below_its_threshold_or_of_strangers() {
    refused("operator-threshold", |root| sign(&root, &ROOT_KEYS[..1]));
    refused("operator-threshold", |root| sign(&root, &[DOCUMENTS, ASSIGNMENTS]));
    refused("operator-threshold", |mut root| {
        root.keys.extend([20, 21].map(|seed| (key(seed).id(), key(seed))));
        root.roles.insert(Role::Root, RoleKeys { keyids: vec![key(20).id(), key(21).id()], threshold: 2 });
        sign(&root, &[20, 21])
    });
}

#[test]
fn attack_operators_root_replayed_or_skipped() {
    refused("operator-rollback", |_| first_root());
    refused("operator-root-gap", |mut root| {
        root.header.version = 3;
        sign(&root, &ROOT_KEYS)
    });
}

#[test]
fn attack_operators_root_of_another_kind_or_name_or_of_any_bytes() {
    refused("operator-other-root", |mut root| {
        root.repository = "another".parse().unwrap();
        sign(&root, &ROOT_KEYS)
    });
    refused("operator-bad-root", |mut root| {
        // One signature is what an envelope has: a root that asks for two cannot be kept.
        root.keys.insert(key(36).id(), key(36));
        root.roles.insert(Role::Documents, role_keys(&[NEXT, 36], 2));
        sign(&root, &ROOT_KEYS)
    });
    refused("operator-bad-root", |_| b"\0\xff{".to_vec());
    refused("operator-too-new", |_| {
        let mut root = next_root();
        root.header.critical = vec!["moon".into()];
        sign(&root, &ROOT_KEYS)
    });
    refused("operator-too-new", |_| {
        let mut root = next_root();
        root.header.spec_version = "2.0".into();
        sign(&root, &ROOT_KEYS)
    });
    refused("operator-threshold", |_| Repository::new().root_file());
    refused("bad-request", |_| vec![b' '; (64 << 10) + 1]);
}

#[test]
fn attack_key_that_the_operators_root_took_away() {
    unattacked();
    let mut stage = running();
    assert_eq!(bring(&stage, &sign(&next_root(), &ROOT_KEYS)), "ok");
    for _ in 0..2 {
        let envelope = by(DOCUMENTS, &offer(2, "1.2"));
        assert_eq!(stage.note(&envelope), "document-wrong-signer");
        stage.insist(&envelope, &good("1.2"));
        stage.is_untouched();
        stage.restart();
    }
}

#[test]
fn attack_key_of_one_role_in_the_other() {
    unattacked();
    let stage = running();
    let envelope = by(ASSIGNMENTS, &offer(2, "1.2"));
    assert_eq!(stage.note(&envelope), "document-wrong-signer");
    let host = stage.view().host.unwrap();
    assert_eq!(stage.assign(&assign(host, "beta", 9, &pair(DOCUMENTS))), "assignment-wrong-signer");
    stage.insist(&envelope, &good("1.2"));
    stage.is_untouched();
}

#[test]
fn attack_older_document_after_the_key_was_exchanged() {
    unattacked();
    let stage = running();
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(9, "1.1"))), "ok");
    // The old key stays beside the new one: what was seen stays seen.
    assert_eq!(bring(&stage, &sign(&operator_root(2, &[DOCUMENTS, NEXT], &[ASSIGNMENTS]), &ROOT_KEYS)), "ok");
    for seed in [DOCUMENTS, NEXT] {
        assert_eq!(stage.note(&by(seed, &offer(8, "1.2"))), "document-rollback");
    }
    // So it is with assignments, whose key stays alone.
    let host = stage.view().host.unwrap();
    assert_eq!(stage.assign(&assign(host, "beta", 0, &pair(ASSIGNMENTS))), "assignment-rollback");
    stage.is_untouched();
}

#[test]
fn attack_fast_forward_by_a_stolen_key() {
    unattacked();
    let mut stage = running();
    let host = stage.view().host.unwrap();
    let mut ahead = offer(u64::MAX, "1.1");
    (ahead.issued, ahead.expires) =
        ("2099-01-01T00:00:00Z".parse().unwrap(), "2099-02-01T00:00:00Z".parse().unwrap());
    assert_eq!(stage.note(&by(DOCUMENTS, &ahead)), "ok");
    assert_eq!(stage.assign(&assign(host, "stable", u64::MAX, &pair(ASSIGNMENTS))), "ok");
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(2, "1.2"))), "document-rollback");
    // The operator takes both keys away: nothing that they signed counts any more, and what they said is forgotten.
    assert_eq!(bring(&stage, &sign(&operator_root(2, &[NEXT], &[36]), &ROOT_KEYS)), "ok");
    stage.restart();
    assert_eq!(stage.assign(&assign(host, "stable", 2, &pair(36))), "ok");
    assert_eq!(
        (stage.note(&by(NEXT, &offer(2, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

/// A document by a key that withdraws these.
fn withdrawing(number: u64, withdrawn: &[&str]) -> KernelDocument {
    let mut document = document(&kernel(1), number, None);
    document.withdrawn = withdrawn.iter().map(|of| version(of)).collect();
    document
}

/// What a stolen key withdrew is withdrawn while the key stands, and no longer. What the vendor withdrew stays so.
#[test]
fn attack_withdrawals_by_a_stolen_key() {
    unattacked();
    let mut stage = running();
    let mut repository = Repository::new();
    std::fs::write(stage.directory.path().join("vendor-root.json"), repository.root_file()).unwrap();
    repository.allow("1.1", &good("1.1")).allow("1.2", &good("1.2"));
    repository.allowance.withdrawn = vec![version("1.4")];
    assert_eq!(stage.update(&repository.files()), "ok");
    // All that will come.
    assert_eq!(stage.note(&by(DOCUMENTS, &withdrawing(2, &["1.2", "1.3"]))), "ok");
    // While one of its keys stands, all counts that the operator said.
    let beside = operator_root(2, &[DOCUMENTS, NEXT], &[ASSIGNMENTS]);
    assert_eq!(bring(&stage, &sign(&beside, &ROOT_KEYS)), "ok");
    for (number, seed) in [(3, DOCUMENTS), (4, NEXT)] {
        let envelope = by(seed, &offer(number, "1.2"));
        assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "withdrawn-livepatch".into()));
        stage.insist(&envelope, &good("1.2"));
        stage.is_untouched();
        stage.restart();
    }
    // The operator takes both keys away.
    assert_eq!(bring(&stage, &sign(&operator_root(3, &[36], &[ASSIGNMENTS]), &ROOT_KEYS)), "ok");
    stage.restart();
    stage.is_untouched();
    let vendors = by(36, &offer(1, "1.4"));
    assert_eq!((stage.note(&vendors), stage.converge()), ("ok".into(), "withdrawn-livepatch".into()));
    stage.insist(&vendors, &good("1.4"));
    stage.is_untouched();
    assert_eq!(
        (stage.note(&by(36, &offer(2, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    // And what the operator itself withdraws counts as ever.
    assert_eq!(stage.note(&by(36, &withdrawing(3, &["1.2"]))), "ok");
    assert_eq!((stage.converge(), stage.livepatches()), ("ok".into(), vec![]));
}

/// So it is where root exchanges the one key by hand: with the first document of the next one.
#[test]
fn attack_withdrawals_by_a_stolen_one_key() {
    crate::stage::unattacked();
    let mut stage = Stage::running();
    let next = good("1.2");
    assert_eq!(stage.note(&stage.sign(&withdrawing(2, &["1.2"]))), "ok");
    let envelope = stage.document(3, "1.2", &next);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "withdrawn-livepatch".into()));
    // A reset exchanges no key.
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    stage.insist(&envelope, &next);
    stage.is_untouched();
    std::fs::write(stage.directory.path().join("operator.pub"), public(&pair(NEXT)).to_text()).unwrap();
    stage.restart();
    assert_eq!(stage.note(&envelope), "document-wrong-signer");
    stage.is_untouched();
    assert_eq!((stage.note(&by(NEXT, &offer(1, "1.2"))), stage.apply(&next)), ("ok".into(), "ok".into()));
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

/// A stolen key withdraws without end, in as many channels as it likes: a limit of each kernel and one of all together keep
/// room for what root says, also of the longest livepatch that there can be.
#[test]
fn attack_state_filled_by_withdrawals() {
    crate::stage::unattacked();
    let stage = Stage::new();
    stage.enable();
    let module = good("1.1");
    let mut long = target_of("1.1", &module);
    long.cves = vec![CveEntry { title: String::new(), ..long.cves[0].clone() }; 2_700];
    let envelope = stage.sign(&document(&kernel(1), 1, Some(long)));
    assert!((240 << 10..256 << 10).contains(&envelope.len()), "{}", envelope.len());
    assert_eq!((stage.note(&envelope), stage.apply(&module)), ("ok".into(), "ok".into()));
    stage.is_untouched();

    let withdrawn = |count: u32| (0..count).map(|n| version(&format!("{}.4294967295", u32::MAX - n)));
    let mut flood = document(&kernel(1), 2, None);
    flood.withdrawn = withdrawn(1_025).collect();
    assert_eq!(stage.note(&stage.sign(&flood)), "document-withdraws-too-many");
    flood.withdrawn = withdrawn(1_024).collect();
    assert_eq!(stage.note(&stage.sign(&flood)), "ok");
    flood.version = 3;
    flood.withdrawn.push(version("1.2"));
    assert_eq!(stage.note(&stage.sign(&flood)), "document-withdraws-too-many");
    flood.withdrawn.pop();
    let host = stage.view().host.unwrap();
    let last = (2..200).find_map(|number| {
        let tier = format!("tier-{number}");
        assert_eq!(stage.assign(&assign(host, &tier, number, &stage.operator)), "ok");
        flood.channel = Tier::parse(&tier).unwrap();
        Some(stage.note(&stage.sign(&flood))).filter(|answer| answer != "ok")
    });
    assert_eq!(last.as_deref(), Some("state-full"));
    let bytes = std::fs::metadata(stage.directory.path().join("state/state.json")).unwrap().len();
    assert!((5 << 19..3 << 20).contains(&bytes), "{bytes}");
    stage.is_untouched();

    // Root's word counts.
    assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "ok");
    assert_eq!((stage.livepatches(), stage.view().held), (vec![], Some(version("1.1"))));
    // And with another key all is as it was.
    std::fs::write(stage.directory.path().join("operator.pub"), public(&pair(NEXT)).to_text()).unwrap();
    assert_eq!(stage.assign(&assign(host, "stable", 1_000, &pair(NEXT))), "ok");
    assert_eq!(
        (stage.note(&by(NEXT, &offer(1, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    let bytes = std::fs::metadata(stage.directory.path().join("state/state.json")).unwrap().len();
    assert!(bytes < 64 << 10, "{bytes}");
}

#[test]
fn attack_freeze_until_the_operators_root_expires() {
    unattacked();
    let mut stage = running();
    stage.at("2027-11-23T00:00:00Z");
    let mut late = offer(2, "1.2");
    (late.issued, late.expires) =
        ("2027-11-22T00:00:00Z".parse().unwrap(), "2027-11-30T00:00:00Z".parse().unwrap());
    let envelope = by(DOCUMENTS, &late);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "operator-expired".into()));
    assert_eq!(stage.view().operator_problem.unwrap().code, "operator-expired");
    stage.insist(&envelope, &good("1.2"));
    stage.is_untouched();
    // A clock before the root was signed is no way round.
    stage.at("2026-11-22T00:00:00Z");
    assert_eq!(stage.view().operator_problem.unwrap().code, "clock-behind");
    stage.at("2027-11-23T00:00:00Z");
    // What was healthy comes back; and the next root mends it.
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    let mut renewed = operator_root(2, &[DOCUMENTS], &[ASSIGNMENTS]);
    renewed.header.expires = "2028-11-23T00:00:00Z".parse().unwrap();
    assert_eq!(bring(&stage, &sign(&renewed, &ROOT_KEYS)), "ok");
    assert_eq!((stage.apply(&good("1.2")), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

#[test]
fn attack_operators_root_removed() {
    unattacked();
    let mut stage = running();
    let path = stage.directory.path().join("operator-root.json");
    let pinned = std::fs::read(&path).unwrap();
    // A key in its place does not count, nor does another root, nor the vendor's.
    let own = public(&stage.operator).to_text();
    std::fs::write(stage.directory.path().join("operator.pub"), own).unwrap();
    let mut other = operator_root(1, &[DOCUMENTS], &[ASSIGNMENTS]);
    other.repository = "another".parse().unwrap();
    let places = [
        (None, "operator-root-missing"),
        (Some(sign(&other, &ROOT_KEYS)), "operator-other-root"),
        (Some(Repository::new().root_file()), "trust-unreadable"),
    ];
    for (content, expected) in places {
        match content {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
        stage.restart();
        assert_eq!(stage.view().problem.unwrap().code, expected);
        for envelope in [stage.document(2, "1.2", &good("1.2")), by(DOCUMENTS, &offer(2, "1.2"))] {
            assert_eq!(stage.note(&envelope), expected);
            stage.insist(&envelope, &good("1.2"));
        }
        stage.is_untouched();
    }
    std::fs::write(&path, pinned).unwrap();
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(2, "1.2"))), "ok");
    // The agent cannot lead back to the one key; root can.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    assert_eq!(stage.note(&stage.document(1, "1.2", &good("1.2"))), "ok");
    assert_eq!(bring(&stage, &sign(&next_root(), &ROOT_KEYS)), "operator-root-not-pinned");
    assert_eq!((stage.apply(&good("1.2")), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

fn pin(stage: &Stage, root: &[u8]) {
    std::fs::write(stage.directory.path().join("operator-root.json"), root).unwrap();
}

/// The server holds the next root back, and root pins it by hand, or a package brings it: the key that it takes away is not
/// believed any more.
#[test]
fn attack_newer_pinned_root_withheld() {
    unattacked();
    let mut stage = running();
    pin(&stage, &sign(&next_root(), &ROOT_KEYS));
    for _ in 0..2 {
        let envelope = by(DOCUMENTS, &offer(2, "1.2"));
        assert_eq!(stage.note(&envelope), "document-wrong-signer");
        stage.insist(&envelope, &good("1.2"));
        assert_eq!(stage.view().operator.unwrap().root, 2);
        stage.is_untouched();
        stage.restart();
    }
    assert_eq!(
        (stage.note(&by(NEXT, &offer(2, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    // The file of before, put back, changes nothing.
    pin(&stage, &first_root());
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(3, "1.1"))), "document-wrong-signer");
    assert_eq!(stage.view().operator.unwrap().root, 2);
}

/// One that does not follow from the one that is known is not believed by itself: nothing new, and root is told.
#[test]
fn attack_newer_pinned_root_that_does_not_follow() {
    const EXPECTED: &str = "operator-root-newer-pinned";
    unattacked();
    let last = || operator_root(3, &[NEXT], &[ASSIGNMENTS]);
    let mut strangers = next_root();
    strangers.keys.extend([20, 21].map(|seed| (key(seed).id(), key(seed))));
    strangers.roles.insert(Role::Root, role_keys(&[20, 21], 2));
    for (root_file, between) in [
        (sign(&last(), &ROOT_KEYS), Some(sign(&next_root(), &ROOT_KEYS))),
        (sign(&strangers, &[20, 21]), None),
    ] {
        let mut stage = running();
        pin(&stage, &root_file);
        let envelope = by(DOCUMENTS, &offer(2, "1.2"));
        for _ in 0..2 {
            assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), EXPECTED.into()));
            assert_eq!(stage.view().operator_problem.unwrap().code, EXPECTED);
            stage.insist(&envelope, &good("1.2"));
            stage.is_untouched();
            stage.restart();
        }
        match between {
            // The server gives it: from there the pinned one is the next.
            Some(root) => assert_eq!(bring(&stage, &root), "ok"),
            None => assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok"),
        }
        assert_eq!(stage.note(&envelope), "document-wrong-signer");
        stage.is_untouched();
        // What the key said that was taken away is forgotten.
        assert_eq!(
            (stage.note(&by(NEXT, &offer(1, "1.2"))), stage.apply(&good("1.2"))),
            ("ok".into(), "ok".into())
        );
        assert_eq!(
            (stage.view().operator_problem, stage.livepatches()),
            (None, vec!["livepatch_1_2".into()])
        );
    }
}

/// Root resets what is remembered: the root stays that came after the pinned one, and what was seen of its documents.
#[test]
fn attack_key_that_was_taken_away_before_a_reset() {
    unattacked();
    let stage = running();
    assert_eq!(bring(&stage, &sign(&next_root(), &ROOT_KEYS)), "ok");
    assert_eq!(stage.note(&by(NEXT, &offer(5, "1.1"))), "ok");
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    assert_eq!(stage.view().operator.unwrap().root, 2);
    for (seed, number, expected) in [(DOCUMENTS, 6, "document-wrong-signer"), (NEXT, 4, "document-rollback")]
    {
        let envelope = by(seed, &offer(number, "1.2"));
        assert_eq!(stage.note(&envelope), expected);
        stage.insist(&envelope, &good("1.2"));
        stage.is_untouched();
    }
}

/// Root goes over to another operator and back: the other one's root takes none of the first one's keys away, and what was
/// seen of the first one stays seen.
#[test]
fn attack_older_document_after_a_while_with_another_operator() {
    unattacked();
    let stage = running();
    let host = stage.view().host.unwrap();
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(5, "1.1"))), "ok");
    assert_eq!(stage.assign(&assign(host, "stable", 5, &pair(ASSIGNMENTS))), "ok");
    let mut other = operator_root(1, &[NEXT], &[36]);
    other.repository = "another".parse().unwrap();
    for root_file in [sign(&other, &ROOT_KEYS), first_root()] {
        pin(&stage, &root_file);
        assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
        assert_eq!(stage.view().problem, None);
    }
    assert_eq!(stage.view().operator.unwrap().repository.as_str(), "example-fleet");
    assert_eq!(stage.assign(&assign(host, "beta", 4, &pair(ASSIGNMENTS))), "assignment-rollback");
    let envelope = by(DOCUMENTS, &offer(4, "1.2"));
    assert_eq!(stage.note(&envelope), "document-rollback");
    stage.insist(&envelope, &good("1.2"));
    stage.is_untouched();
    assert_eq!(
        (stage.note(&by(DOCUMENTS, &offer(6, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
}

/// A host that was held to one key gets a root that names it: what was seen stays seen, and the key can be exchanged.
#[test]
fn from_one_key_to_a_root() {
    let stage = Stage::new();
    let path = |name: &str| stage.directory.path().join(name);
    std::fs::write(path("operator.pub"), public(&pair(DOCUMENTS)).to_text()).unwrap();
    let host = root(&stage.roots, RootRequest::Enable).view.unwrap().host.unwrap();
    assert_eq!(stage.assign(&assign(host, "stable", 1, &pair(DOCUMENTS))), "ok");
    assert_eq!(
        (stage.note(&by(DOCUMENTS, &offer(5, "1.1"))), stage.apply(&good("1.1"))),
        ("ok".into(), "ok".into())
    );
    std::fs::write(path("operator-root.json"), first_root()).unwrap();
    assert_eq!(stage.note(&by(DOCUMENTS, &offer(4, "1.2"))), "document-rollback");
    // So does the time at which it was signed: a clock that is set back is seen.
    stage.at("2026-11-23T12:00:00Z");
    let mut earlier = offer(6, "1.2");
    earlier.issued = "2026-11-23T06:00:00Z".parse().unwrap();
    let envelope = by(DOCUMENTS, &earlier);
    assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "clock-behind".into()));
    stage.insist(&envelope, &good("1.2"));
    stage.is_untouched();
    stage.at(NOW);
    std::fs::remove_file(path("operator.pub")).unwrap();
    assert_eq!(stage.view().problem, None);
    assert_eq!(stage.view().document.unwrap().version, 6);
    assert_eq!(bring(&stage, &sign(&next_root(), &ROOT_KEYS)), "ok");
    assert_eq!(
        (stage.note(&by(NEXT, &offer(6, "1.2"))), stage.apply(&good("1.2"))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    // A host that root did not enable follows no roots.
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    assert_eq!(bring(&stage, &sign(&operator_root(3, &[NEXT], &[NEXT]), &ROOT_KEYS)), "not-enabled");
}
