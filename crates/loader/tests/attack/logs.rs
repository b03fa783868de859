//! The transparency log: what a host was shown once cannot be taken back from it, and what others do not see is not
//! installed.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_loader_api::{AgentRequest, Logged, RootRequest};
use livepatch_transparency::{Checkpoint, LogKey, LoggedProof, consistency_ranges};
use livepatch_types::Sha256Digest;

use crate::log::{LOG_NAME, Log, log_key};
use crate::signing::*;
use crate::stage::*;

/// That the log grew out of what it was at this size.
fn since(log: &Log, size: u64) -> Vec<Sha256Digest> {
    consistency_ranges(size, log.size()).into_iter().map(|range| log.hash(range)).collect()
}

fn bring(stage: &Stage, proof: &LoggedProof, consistency: Vec<Sha256Digest>) -> String {
    let body = serde_json::to_vec(&Logged { proof: proof.to_text(), consistency }).unwrap();
    code(&agent(&stage.agents, AgentRequest::Logged, &body))
}

/// A host with the log's key that runs 1.1, and the log in which that is the third of three entries.
fn running() -> (Stage, Log) {
    let stage = Stage::new();
    std::fs::write(stage.directory.path().join("log.vkey"), log_key(&stage.operator).to_text()).unwrap();
    stage.enable();
    let mut log = Log::default();
    for (of, kernel) in [("9.1", kernel(1)), ("9.2", kernel(2))] {
        log.publish(of, &kernel, of.as_bytes());
    }
    let module = good("1.1");
    let place = log.publish("1.1", &kernel(1), &module);
    assert_eq!(stage.note(&stage.document(1, "1.1", &module)), "ok");
    assert_eq!(
        (stage.apply(&module), stage.converge()),
        ("module-not-wanted".into(), "log-not-proven".into())
    );
    let wanted = stage.view().log.unwrap();
    assert_eq!((wanted.name.as_str(), wanted.size), (LOG_NAME, 0));
    assert_eq!(wanted.wants, Some(target_of("1.1", &module).module.sha256));
    assert_eq!(bring(&stage, &log.proof(place, &stage.operator), vec![]), "ok");
    assert_eq!(stage.apply(&module), "ok");
    stage.is_untouched();
    let seen = stage.view().log.unwrap();
    assert_eq!((seen.size, seen.wants), (3, None));
    (stage, log)
}

/// 1.2 is offered to it.
fn offered(stage: &Stage) -> Vec<u8> {
    let next = good("1.2");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    next
}

fn unattacked() {
    let (stage, mut log) = running();
    log.publish("9.3", &kernel(2), b"9.3");
    let next = offered(&stage);
    let place = log.publish("1.2", &kernel(1), &next);
    log.publish("9.4", &kernel(2), b"9.4");
    assert_eq!(bring(&stage, &log.proof(place, &stage.operator), since(&log, 3)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
    assert_eq!(stage.view().log.unwrap().size, 6);
}

/// A proof that is refused so: what was seen of the log is as before, and 1.2 is not installed.
fn refused(expected: &str, attack: impl FnOnce(&Stage, &mut Log, u64) -> (LoggedProof, Vec<Sha256Digest>)) {
    unattacked();
    let (mut stage, mut log) = running();
    let next = offered(&stage);
    let place = log.publish("1.2", &kernel(1), &next);
    let (proof, consistency) = attack(&stage, &mut log, place);
    for _ in 0..2 {
        assert_eq!(bring(&stage, &proof, consistency.clone()), expected);
        assert_eq!(stage.view().log.unwrap().size, 3);
        assert_eq!(stage.converge(), "log-not-proven");
        stage.insist(&stage.document(2, "1.2", &next), &next);
        stage.is_untouched();
        stage.restart();
    }
}

#[test]
fn attack_livepatch_that_is_not_in_the_log() {
    unattacked();
    let (stage, mut log) = running();
    let next = offered(&stage);
    // Of another livepatch there is a proof.
    let place = log.publish("1.2", &kernel(1), b"another module");
    assert_eq!(bring(&stage, &log.proof(place, &stage.operator), since(&log, 3)), "ok");
    assert_eq!(stage.converge(), "log-not-proven");
    stage.insist(&stage.document(2, "1.2", &next), &next);
    stage.is_untouched();
    // Nor does one for another kernel, or an entry that is in no tree.
    refused("log-other-bundle", |stage, log, _| {
        let place = log.publish("1.2", &kernel(2), &good("1.2"));
        (log.proof(place, &stage.operator), since(log, 3))
    });
    refused("log-not-included", |stage, log, place| {
        let mut proof = log.proof(place, &stage.operator);
        let mut other = log.clone();
        let elsewhere = other.publish("1.2", &kernel(1), b"x");
        proof.entry = other.entries[elsewhere as usize].clone();
        (proof, since(log, 3))
    });
}

/// What was proven is forgotten after 16 others, and proven again.
#[test]
fn attack_flood_of_proofs() {
    unattacked();
    let (stage, mut log) = running();
    let next = offered(&stage);
    let place = log.publish("1.2", &kernel(1), &next);
    let bring_next =
        |log: &Log, place, seen| bring(&stage, &log.proof(place, &stage.operator), since(log, seen));
    assert_eq!(bring_next(&log, place, 3), "ok");
    for number in 0..16 {
        assert_eq!(stage.view().log.unwrap().wants, None, "{number}");
        let seen = log.size();
        let other = log.publish("9.9", &kernel(1), &[number]);
        assert_eq!(bring_next(&log, other, seen), "ok");
    }
    assert!(stage.view().log.unwrap().wants.is_some());
    assert_eq!(stage.converge(), "log-not-proven");
    assert_eq!(bring_next(&log, place, log.size()), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

#[test]
fn attack_log_that_took_something_back() {
    refused("log-shrunk", |stage, log, _| {
        let mut other = Log { entries: log.entries[..1].to_vec() };
        let place = other.publish("1.2", &kernel(1), &good("1.2"));
        (other.proof(place, &stage.operator), vec![])
    });
    refused("log-split-view", |stage, log, _| {
        let mut other = Log { entries: log.entries[..2].to_vec() };
        let place = other.publish("1.2", &kernel(1), &good("1.2"));
        (other.proof(place, &stage.operator), vec![])
    });
    refused("log-inconsistent", |stage, log, place| {
        log.entries[0] = log.entries[1].clone();
        (log.proof(place, &stage.operator), since(log, 3))
    });
    refused("log-inconsistent", |stage, log, place| (log.proof(place, &stage.operator), vec![]));
}

#[test]
fn attack_log_of_another_operator_or_name() {
    refused("log-wrong-signer", |_, log, place| {
        (log.proof(place, &Ed25519KeyPair::generate().unwrap()), since(log, 3))
    });
    refused("log-wrong-signer", |stage, log, place| {
        let mut proof = log.proof(place, &stage.operator);
        proof.note = proof.note.replace("\n4\n", "\n5\n");
        (proof, since(log, 3))
    });
    refused("log-bad-proof", |stage, log, place| {
        let mut proof = log.proof(place, &stage.operator);
        proof.note = String::new();
        (proof, since(log, 3))
    });
}

#[test]
fn attack_proofs_of_any_bytes() {
    unattacked();
    let (mut stage, _) = running();
    let body = |stage: &Stage, bytes: &[u8]| code(&agent(&stage.agents, AgentRequest::Logged, bytes));
    for bytes in [&b""[..], b"{", b"{\"proof\":\"\",\"consistency\":[]}", b"\xff\xff", &[b' '; 200_000]] {
        assert_eq!(body(&stage, bytes), "log-bad-proof");
    }
    assert_eq!(body(&stage, &vec![b' '; (256 << 10) + 1]), "bad-request");
    stage.is_untouched();
    // What was healthy comes back after a boot without any proof, and a host without the key asks for none.
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    let next = offered(&stage);
    std::fs::write(stage.directory.path().join("log.vkey"), "no key").unwrap();
    assert_eq!(stage.converge(), "trust-unreadable");
    std::fs::remove_file(stage.directory.path().join("log.vkey")).unwrap();
    // Taking the key away does not switch the log off; root says so.
    assert_eq!(body(&stage, b"{}"), "log-key-missing");
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    assert_eq!(body(&stage, b"{}"), "log-not-pinned");
    assert_eq!((stage.apply(&next), stage.view().log), ("ok".into(), None));
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
}

/// Root pins another log: it begins anew there, from its first entry on.
#[test]
fn root_pins_another_log() {
    let (stage, _) = running();
    let next = offered(&stage);
    let mut log = Log::default();
    let place = log.publish("1.2", &kernel(1), &next);
    let key = LogKey::new("log.example/other", *public(&stage.operator).as_bytes()).unwrap();
    let head = Checkpoint { origin: key.name().to_owned(), size: log.size(), root: log.hash(0..log.size()) };
    let note = head.to_note(&key, stage.operator.sign(head.to_text().as_bytes()).as_ref());
    let proof = LoggedProof { note, ..log.proof(place, &stage.operator) };
    assert_ne!(bring(&stage, &proof, vec![]), "ok");
    // Nor does it come in under the name of the one that is pinned.
    let note =
        head.to_note(&log_key(&stage.operator), stage.operator.sign(head.to_text().as_bytes()).as_ref());
    assert_eq!(bring(&stage, &LoggedProof { note, ..proof.clone() }, vec![]), "log-other");
    assert_eq!((stage.apply(&next), stage.view().log.unwrap().size), ("module-not-wanted".into(), 3));

    std::fs::write(stage.directory.path().join("log.vkey"), key.to_text()).unwrap();
    assert_eq!(stage.apply(&next), "module-not-wanted");
    assert_eq!(bring(&stage, &proof, vec![]), "ok");
    let seen = stage.view().log.unwrap();
    assert_eq!((seen.name.as_str(), seen.size), ("log.example/other", 1));
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

/// The key of the log is taken away: that switches nothing off, also after a restart, and it is said.
#[test]
fn attack_key_of_the_log_removed() {
    unattacked();
    let (mut stage, mut log) = running();
    let next = offered(&stage);
    let place = log.publish("1.2", &kernel(1), &next);
    let path = stage.directory.path().join("log.vkey");
    let key = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for _ in 0..2 {
        assert_eq!(stage.converge(), "log-key-missing");
        assert_eq!(stage.view().operator_problem.unwrap().code, "log-key-missing");
        assert_eq!(bring(&stage, &log.proof(place, &stage.operator), since(&log, 3)), "log-key-missing");
        stage.insist(&stage.document(2, "1.2", &next), &next);
        stage.is_untouched();
        stage.restart();
    }
    std::fs::write(&path, key).unwrap();
    assert_eq!(stage.view().operator_problem, None);
    assert_eq!(bring(&stage, &log.proof(place, &stage.operator), since(&log, 3)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}
