//! Documents that are not for this host, not of today, or not the operator's.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_kernel::Transitions;
use livepatch_loader_api::RootRequest;
use livepatch_manifest::KernelDocument;
use livepatch_types::Tier;

use crate::signing::*;
use crate::stage::*;

/// Document 2 for 1.2, changed, is refused so.
fn refused(expected: &str, change: impl FnOnce(&mut KernelDocument)) {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    let mut changed = document(&kernel(1), 2, Some(target_of("1.2", &next)));
    change(&mut changed);
    let envelope = stage.sign(&changed);
    assert_eq!(stage.note(&envelope), expected);
    assert_eq!(stage.apply(&next), "module-not-wanted");
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

#[test]
fn attack_document_replayed() {
    unattacked();
    let stage = Stage::running();
    let next = good("1.2");
    let older = stage.document(2, "1.2", &next);
    // The operator went on, and does not offer 1.2 any more.
    assert_eq!(stage.note(&stage.document(3, "1.1", &good("1.1"))), "ok");
    assert_eq!(stage.note(&older), "document-rollback");
    stage.insist(&older, &next);
    stage.is_untouched();
}

#[test]
fn attack_document_replayed_after_a_restart() {
    unattacked();
    let mut stage = Stage::running();
    let (first, next) = (good("1.1"), good("1.2"));
    let older = stage.document(2, "1.2", &next);
    assert_eq!(stage.note(&stage.document(3, "1.1", &first)), "ok");
    stage.restart();
    assert_eq!(stage.note(&older), "document-rollback");
    stage.insist(&older, &next);
    stage.is_untouched();
}

#[test]
fn attack_document_of_another_kernel() {
    refused("document-wrong-kernel", |document| document.kernel = kernel(2));
}

#[test]
fn attack_document_of_another_channel() {
    refused("document-wrong-channel", |document| document.channel = Tier::parse("edge").unwrap());
}

#[test]
fn attack_document_that_needs_more_than_is_understood() {
    refused("document-too-new", |document| document.critical = vec!["waves".into()]);
}

#[test]
fn attack_document_of_another_operator() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    let document = document(&kernel(1), 2, Some(target_of("1.2", &next)));
    let envelope = sign_document(&document, &Ed25519KeyPair::generate().unwrap());
    assert_eq!(stage.note(&envelope), "document-wrong-signer");
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

#[test]
fn attack_document_changed_after_signing() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    let good = stage.document(2, "1.2", &next);
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        let code = stage.note(&changed);
        assert!(code.starts_with("document-"), "byte {at}: {code}");
    }
    stage.is_untouched();
    assert_eq!(stage.note(&good), "ok", "all those were not noted");
}

#[test]
fn attack_document_expired() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    let envelope = stage.document(2, "1.2", &next);
    stage.at("2026-12-02T00:00:00Z");
    assert_eq!(stage.note(&envelope), "ok", "what it withdraws counts all the same");
    assert_eq!(stage.view().document_problem.unwrap().code, "document-expired");
    assert_eq!(
        (stage.apply(&next), stage.converge()),
        ("module-not-wanted".into(), "document-expired".into())
    );
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

#[test]
fn attack_clock_set_back() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    // Signed on the 20th, noted after another that was signed on the 24th: by a clock on the 21st it would be fresh.
    let mut early = document(&kernel(1), 2, Some(target_of("1.2", &next)));
    (early.issued, early.expires) =
        ("2026-11-20T00:00:00Z".parse().unwrap(), "2026-11-22T00:00:00Z".parse().unwrap());
    let envelope = stage.sign(&early);
    stage.at("2026-11-21T00:00:00Z");
    assert_eq!(stage.note(&envelope), "ok");
    assert_eq!(stage.converge(), "clock-behind");
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

/// A clock that is ahead installs nothing, for documents are over by then; and it leaves nothing behind.
#[test]
fn attack_clock_set_forward() {
    unattacked();
    let (mut stage, next) = (Stage::running(), good("1.2"));
    let envelope = stage.document(2, "1.2", &next);
    for time in ["2026-12-02T00:00:00Z", "2099-01-01T00:00:00Z"] {
        stage.at(time);
        assert_eq!((stage.note(&envelope), stage.converge()), ("ok".into(), "document-expired".into()));
        stage.insist(&envelope, &next);
        stage.is_untouched();
    }
    // What was healthy comes back after a boot at that time.
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    stage.at(NOW);
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

#[test]
fn attack_withdrawn_version_offered_again() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    let mut withdrawal = document(&kernel(1), 2, Some(target_of("1.1", &good("1.1"))));
    withdrawal.withdrawn = vec![version("1.2")];
    assert_eq!(stage.note(&stage.sign(&withdrawal)), "ok");
    let again = stage.document(3, "1.2", &next);
    assert_eq!((stage.note(&again), stage.converge()), ("ok".into(), "withdrawn-livepatch".into()));
    stage.insist(&again, &next);
    stage.is_untouched();
}

#[test]
fn attack_revert_without_a_signed_withdrawal() {
    // With one it goes.
    let stage = Stage::running();
    let mut withdrawal = document(&kernel(1), 2, None);
    withdrawal.withdrawn = vec![version("1.1")];
    assert_eq!(stage.note(&stage.sign(&withdrawal)), "ok");
    assert_eq!((stage.converge(), stage.livepatches()), ("ok".into(), vec![]));

    // A document that names nothing, a withdrawal of another version, one by somebody else: it stays.
    let stage = Stage::running();
    let mut other = document(&kernel(1), 2, None);
    other.withdrawn = vec![version("1.2")];
    withdrawal.version = 3;
    let stranger = sign_document(&withdrawal, &Ed25519KeyPair::generate().unwrap());
    for envelope in [stage.sign(&document(&kernel(1), 2, None)), stage.sign(&other), stranger] {
        stage.insist(&envelope, b"");
        stage.is_untouched();
    }
}

#[test]
fn attack_host_that_root_did_not_enable() {
    unattacked();
    let stage = Stage::new();
    let module = good("1.1");
    let envelope = stage.document(1, "1.1", &module);
    assert_eq!(stage.note(&envelope), "not-enabled");
    stage.insist(&envelope, &module);
    assert_eq!((stage.kernel.loads().len(), stage.view().document), (0, None));
    // Disabled, it is as before.
    let stage = Stage::running();
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    stage.insist(&stage.document(2, "1.2", &good("1.2")), &good("1.2"));
    assert_eq!((stage.kernel.loads().len(), stage.livepatches()), (1, vec![]));
}

#[test]
fn attack_livepatch_that_root_reverted() {
    let stage = Stage::running();
    let module = good("1.1");
    assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "ok");
    let newer = stage.document(2, "1.1", &module);
    stage.insist(&newer, &module);
    assert_eq!((stage.kernel.loads().len(), stage.livepatches()), (1, vec![]));
    // Root lets it.
    assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "ok");
    assert_eq!((stage.converge(), stage.livepatches()), ("ok".into(), vec!["livepatch_1_1".into()]));
}

/// A revert that the kernel does not let happen changes nothing, also not what root held back before.
#[test]
fn a_revert_that_fails_keeps_the_hold_of_one_before() {
    for held in [None, Some(version("1.1"))] {
        let mut stage = Stage::running();
        // As a loader leaves it that died between the hold and the kernel.
        let path = stage.directory.path().join("state/state.json");
        let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        state["held"] = serde_json::json!(held);
        std::fs::write(&path, state.to_string()).unwrap();
        stage.restart();
        stage.kernel.set_transitions(Transitions::NeverDisable);
        assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "transition-stalled");
        assert_eq!(stage.view().held, held);
        stage.is_untouched();
    }
}

/// Windows and delays are the owner's: a document that comes at another hour waits, whatever the agent asks for, until root
/// asks.
#[test]
fn attack_application_outside_of_the_windows() {
    unattacked();
    let (mut stage, next) = (Stage::running(), good("1.2"));
    stage.policy.windows = vec!["daily 02:00-03:00 UTC".parse().unwrap()];
    stage.restart();
    let envelope = stage.document(2, "1.2", &next);
    assert_eq!((stage.note(&envelope), stage.apply(&next)), ("ok".into(), "module-not-wanted".into()));
    stage.insist(&envelope, &next);
    stage.is_untouched();
    assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
    // What root asked for is forgotten with the loader.
    let last = good("1.3");
    stage.restart();
    let envelope = stage.document(3, "1.3", &last);
    assert_eq!((stage.note(&envelope), stage.apply(&last)), ("ok".into(), "module-not-wanted".into()));
    stage.at("2026-11-25T02:30:00Z");
    assert_eq!((stage.apply(&last), stage.livepatches()), ("ok".into(), vec!["livepatch_1_3".into()]));
}
