//! The operator's assignment of a host, as a hostile agent brings it: it cannot choose another channel than the operator.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_loader_api::RootRequest;
use livepatch_types::{Cohort, HostId, Sha256Digest, Tier};

use crate::signing::*;
use crate::stage::*;

/// A host that root has enabled, which was not assigned yet.
fn enabled() -> (Stage, HostId) {
    let stage = Stage::new();
    assert_eq!(code(&root(&stage.roots, RootRequest::Enable)), "ok");
    let host = stage.view().host.unwrap();
    (stage, host)
}

/// A document for the channel.
fn document_in(stage: &Stage, channel: &str, number: u64, of: &str) -> Vec<u8> {
    let mut document = document(&kernel(1), number, Some(target_of(of, &good(of))));
    document.channel = Tier::parse(channel).unwrap();
    stage.sign(&document)
}

/// What an assignment and a document of its channel come to when nobody attacks.
fn unattacked() {
    let (stage, host) = enabled();
    assert_eq!(stage.assign(&assign(host, "beta", 7, &stage.operator)), "ok");
    assert_eq!(stage.view().channel, Some(Tier::parse("beta").unwrap()));
    assert_eq!(stage.note(&document_in(&stage, "beta", 1, "1.1")), "ok");
    assert_eq!(stage.apply(&good("1.1")), "ok");
    stage.is_untouched();
}

/// An assignment that is refused so. A host that runs a livepatch stays in its channel and runs it; a host that was not
/// assigned yet is in no channel, and nothing is loaded whatever is offered.
fn refused(expected: &str, attack: impl Fn(&Stage, HostId) -> Vec<u8>) {
    unattacked();
    let stage = Stage::running();
    let envelope = attack(&stage, stage.view().host.unwrap());
    assert_eq!(stage.assign(&envelope), expected);
    assert_eq!(stage.view().channel, Some(Tier::parse("stable").unwrap()));
    let document = document_in(&stage, "beta", 2, "1.2");
    assert_eq!(stage.note(&document), "document-wrong-channel");
    stage.insist(&document, &good("1.2"));
    stage.is_untouched();

    let (stage, host) = enabled();
    let envelope = attack(&stage, host);
    assert_eq!(stage.assign(&envelope), expected);
    let document = document_in(&stage, "beta", 1, "1.1");
    assert_eq!((stage.view().channel, stage.note(&document)), (None, "not-assigned".into()));
    stage.insist(&document, &good("1.1"));
    assert_eq!(stage.kernel.loads().len(), 0);
}

#[test]
fn attack_documents_without_an_assignment() {
    unattacked();
    let (stage, _) = enabled();
    for channel in ["stable", "beta"] {
        let document = document_in(&stage, channel, 1, "1.1");
        assert_eq!(stage.note(&document), "not-assigned");
        stage.insist(&document, &good("1.1"));
    }
    assert_eq!((stage.kernel.loads().len(), stage.view().channel), (0, None));
}

#[test]
fn attack_assignment_of_another_host() {
    refused("assignment-wrong-host", |stage, _| {
        assign(HostId::from_bytes([7; 16]), "beta", 7, &stage.operator)
    });
}

#[test]
fn attack_assignment_changed_after_signing() {
    refused("assignment-tampered", |stage, host| {
        let envelope = assign(host, "canary", 7, &stage.operator);
        let other = assign(host, "beta", 7, &stage.operator);
        let [mut envelope, other] =
            [envelope, other].map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap());
        envelope["payload"] = other["payload"].clone();
        envelope.to_string().into_bytes()
    });
    // Nor does another signed thing pass for one, nor any bytes.
    refused("assignment-malformed", |stage, _| document_in(stage, "beta", 1, "1.1"));
    refused("assignment-malformed", |_, _| b"\0\xff{".to_vec());
    refused("bad-request", |_, _| vec![b' '; (16 << 10) + 1]);
}

#[test]
fn attack_assignment_of_another_operator() {
    refused("assignment-wrong-signer", |_, host| {
        assign(host, "beta", 7, &Ed25519KeyPair::generate().unwrap())
    });
}

#[test]
fn attack_older_assignment_replayed() {
    unattacked();
    let (mut stage, host) = enabled();
    let before = assign(host, "beta", 7, &stage.operator);
    let newest = assign(host, "stable", 8, &stage.operator);
    assert_eq!((stage.assign(&before), stage.assign(&newest)), ("ok".into(), "ok".into()));
    assert_eq!(stage.note(&stage.document(1, "1.1", &good("1.1"))), "ok");
    assert_eq!(stage.apply(&good("1.1")), "ok");
    for _ in 0..2 {
        assert_eq!(stage.assign(&before), "assignment-rollback");
        assert_eq!(stage.view().channel, Some(Tier::parse("stable").unwrap()));
        assert_eq!(stage.note(&document_in(&stage, "beta", 9, "1.2")), "document-wrong-channel");
        stage.insist(&document_in(&stage, "beta", 9, "1.2"), &good("1.2"));
        stage.is_untouched();
        stage.restart();
    }
    assert_eq!(stage.assign(&newest), "ok", "the same once more changes nothing");
    assert!(stage.view().document.is_some());
    // That of the enrolment before is that of another host.
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    assert_eq!(stage.assign(&newest), "not-enabled");
    assert_eq!(code(&root(&stage.roots, RootRequest::Enable)), "ok");
    assert_eq!(stage.assign(&newest), "assignment-wrong-host");
    assert_ne!(stage.view().host, Some(host));
}

#[test]
fn the_operator_moves_a_host() {
    let (stage, host) = enabled();
    assert_eq!(stage.assign(&assign(host, "beta", 7, &stage.operator)), "ok");
    assert_eq!(stage.note(&document_in(&stage, "beta", 1, "1.1")), "ok");
    assert_eq!(stage.apply(&good("1.1")), "ok");
    // What runs stays until a document of the new channel says otherwise.
    assert_eq!(stage.assign(&assign(host, "stable", 8, &stage.operator)), "ok");
    assert_eq!(stage.view().document, None);
    assert_eq!(stage.converge(), "ok");
    stage.is_untouched();
    assert_eq!(stage.note(&document_in(&stage, "beta", 2, "1.2")), "document-wrong-channel");
    assert_eq!(stage.note(&stage.document(1, "1.2", &good("1.2"))), "ok");
    assert_eq!((stage.apply(&good("1.2")), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
    // Root enables once more: it stays as it is.
    assert_eq!(code(&root(&stage.roots, RootRequest::Enable)), "ok");
    let view = stage.view();
    assert_eq!((view.host, view.channel), (Some(host), Some(Tier::parse("stable").unwrap())));
}

#[test]
fn attack_enrolment_copied_to_another_machine() {
    unattacked();
    let mut stage = Stage::running();
    let host = stage.view().host.unwrap();
    let document = stage.document(2, "1.2", &good("1.2"));
    assert_eq!(stage.note(&document), "ok");
    stage.machine = Some(Sha256Digest::from_bytes([2; 32]));
    stage.kernel.reboot(kernel(1));
    stage.restart();
    // What was healthy comes back; nothing new is taken.
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    assert_eq!(stage.view().problem.unwrap().code, "host-copied");
    assert_eq!((stage.view().document, stage.apply(&good("1.2"))), (None, "module-not-wanted".into()));
    assert_eq!(stage.note(&document), "host-copied");
    assert_eq!(stage.assign(&assign(host, "stable", 9, &stage.operator)), "host-copied");
    stage.insist(&document, &good("1.2"));
    assert_eq!((stage.livepatches(), stage.kernel.loads().len()), (vec!["livepatch_1_1".to_owned()], 2));
    // A machine that cannot be told from another is taken for the same.
    stage.machine = None;
    stage.restart();
    assert_eq!(stage.view().problem, None);
    stage.machine = Some(Sha256Digest::from_bytes([2; 32]));
    stage.restart();
    // Root enrols it by itself.
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    stage.enable();
    assert_eq!(stage.view().problem, None);
    assert_ne!(stage.view().host, Some(host));
    assert_eq!((stage.note(&document), stage.apply(&good("1.2"))), ("ok".into(), "ok".into()));
}

/// A machine whose disk becomes an image forgets who it is; what it saw of others stays, so that no clone goes back.
#[test]
fn attack_clone_of_an_image_goes_back() {
    unattacked();
    let mut stage = Stage::running();
    let (old, next) = (stage.document(2, "1.2", &good("1.2")), good("1.3"));
    assert_eq!(
        (stage.note(&stage.document(3, "1.3", &next)), stage.apply(&next)),
        ("ok".into(), "ok".into())
    );
    let (state, aside) = (stage.directory.path().join("state"), "state.json.unreadable");
    std::fs::write(state.join(aside), "{").unwrap();
    let host = stage.view().host;
    assert_eq!(code(&root(&stage.roots, RootRequest::PrepareImage)), "ok");
    let left = |directory: &str| -> Vec<String> {
        let entries = std::fs::read_dir(state.join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!((left(""), left("objects")), (vec!["objects".to_owned(), "state.json".into()], vec![]));
    // On the clone: nothing runs, and it is nobody yet.
    stage.machine = Some(Sha256Digest::from_bytes([2; 32]));
    stage.kernel.reboot(kernel(1));
    stage.restart();
    let view = stage.view();
    assert_eq!((view.enabled, view.host, view.applied, view.problem), (false, None, None, None));
    assert_eq!((stage.livepatches(), stage.note(&old)), (vec![], "not-enabled".into()));
    stage.enable();
    assert_ne!(stage.view().host, host);
    assert_eq!(stage.note(&old), "document-rollback");
    stage.insist(&old, &good("1.2"));
    assert_eq!(stage.livepatches(), [""; 0]);
    assert_eq!(
        (stage.note(&stage.document(3, "1.3", &next)), stage.apply(&next)),
        ("ok".into(), "ok".into())
    );
}

/// The place of a host in a rollout is its owner's and its operator's to say: both must say the same.
#[test]
fn attack_assignment_to_another_cohort() {
    let cohort = |text: &str| Cohort::parse(text).ok();
    for (wanted, assigned) in
        [("", "early"), ("late", "early"), ("late", ""), ("late/1", "late/0"), ("late", "late/0")]
    {
        let (mut stage, host) = enabled();
        stage.policy.cohort = cohort(wanted);
        stage.restart();
        let envelope = assign_in_cohort(host, "beta", cohort(assigned), 8, &stage.operator);
        assert_eq!(stage.assign(&envelope), "assignment-wrong-cohort", "{wanted:?} {assigned:?}");
        let document = document_in(&stage, "beta", 1, "1.1");
        assert_eq!((stage.view().channel, stage.note(&document)), (None, "not-assigned".into()));
        stage.insist(&document, &good("1.1"));
        assert_eq!((stage.kernel.loads().len(), stage.view().cohort), (0, None));
        // Unattacked: what was refused did not count as seen.
        assert_eq!(stage.assign(&assign_in_cohort(host, "beta", cohort(wanted), 7, &stage.operator)), "ok");
        assert_eq!((stage.note(&document), stage.apply(&good("1.1"))), ("ok".into(), "ok".into()));
        assert_eq!(stage.view().cohort, cohort(wanted));
        // It stays until root asks for another one and the operator signs that.
        assert_eq!(stage.assign(&envelope), "assignment-wrong-cohort");
        stage.policy.cohort = cohort("next");
        stage.restart();
        assert_eq!(stage.view().cohort, cohort(wanted));
        assert_eq!(stage.assign(&assign_in_cohort(host, "beta", cohort("next"), 9, &stage.operator)), "ok");
        assert_eq!(
            (stage.view().cohort, stage.livepatches()),
            (cohort("next"), vec!["livepatch_1_1".to_owned()])
        );
    }
}

/// What root asks for is not known while the configuration is wrong.
#[test]
fn no_assignment_is_taken_under_a_configuration_that_is_wrong() {
    let (mut stage, host) = enabled();
    stage.policy.unusable = true;
    stage.restart();
    assert_eq!(stage.assign(&assign(host, "beta", 7, &stage.operator)), "configuration");
    assert_eq!(stage.view().channel, None);
}

/// A host that an earlier version enabled has its channel, and no id.
#[test]
fn a_host_from_before_assignments_keeps_its_channel() {
    let mut stage = Stage::running();
    let path = stage.directory.path().join("state/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state.as_object_mut().unwrap().remove("host").unwrap();
    std::fs::write(&path, state.to_string()).unwrap();
    stage.restart();
    assert_eq!((stage.view().host, stage.view().problem), (None, None));
    let next = good("1.2");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
    assert_eq!(stage.assign(&assign(HostId::from_bytes([7; 16]), "beta", 7, &stage.operator)), "not-enabled");
    // The id comes when root enables it again; then the operator can move it.
    stage.enable();
    assert!(stage.view().document.is_some());
}
