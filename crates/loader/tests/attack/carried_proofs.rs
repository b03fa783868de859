//! A host without a server that has the key of a transparency log: a bundle carries the proof that others see it, too.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_manifest::{Bundle, sha256};
use livepatch_transparency::{BundleEvent, Entry, Event, LoggedProof};
use livepatch_types::KernelIdentity;

use crate::bundles::{apply, good_bundle, host};
use crate::log::{LOG_NAME, Log, log_key};
use crate::repository::Repository;
use crate::signing::*;
use crate::stage::*;

/// The bundle is published; its place.
fn publish(log: &mut Log, bundle: &Bundle, kernel: KernelIdentity) -> u64 {
    let version = bundle.manifest.version;
    let event = Event::Bundle(BundleEvent {
        name: version.module_name().to_string(),
        version,
        kernel,
        manifest_sha256: sha256(&bundle.manifest_bytes),
        module_sha256: bundle.manifest.module.sha256,
    });
    log.entries.push(Entry::new(NOW.parse().unwrap(), event).to_bytes().unwrap());
    log.size() - 1
}

fn with(bundle: Bundle, proof: &LoggedProof) -> Bundle {
    bundle.with_logged(proof.to_text().into_bytes()).unwrap()
}

/// A host that runs 1.1, the second of three entries; and 1.2, which the vendor allows and nobody published yet.
struct Scene {
    stage: Stage,
    repository: Repository,
    log: Log,
    next: Bundle,
}

fn running() -> Scene {
    let (stage, mut repository) = host();
    std::fs::write(stage.directory.path().join("log.vkey"), log_key(&stage.operator).to_text()).unwrap();
    repository.allow("1.1", &good("1.1"));
    let first = good_bundle("1.1", repository.files());
    let mut log = Log::default();
    log.publish("9.1", &kernel(2), b"9.1");
    let place = publish(&mut log, &first, kernel(1));
    log.publish("9.2", &kernel(2), b"9.2");
    assert_eq!(apply(&stage, &first), "bundle-without-proof");
    assert_eq!(stage.kernel.loads().len(), 0);
    assert_eq!(apply(&stage, &with(first, &log.proof(place, &stage.operator))), "ok");
    stage.is_untouched();
    let seen = stage.view().log.unwrap();
    assert_eq!((seen.name.as_str(), seen.size), (LOG_NAME, 3));
    repository.allow("1.2", &good("1.2"));
    let next = good_bundle("1.2", repository.files());
    Scene { stage, repository, log, next }
}

fn unattacked() {
    let Scene { stage, mut log, next, .. } = running();
    let place = publish(&mut log, &next, kernel(1));
    assert_eq!(apply(&stage, &with(next, &log.proof(place, &stage.operator))), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    // How the new head came about nobody can show to a host without network: what was seen stays.
    assert_eq!(stage.view().log.unwrap().size, 3);
}

/// A bundle of 1.2 that is so attacked is refused so.
fn refused(expected: &str, attack: impl FnOnce(&Ed25519KeyPair, &mut Log, &Bundle) -> LoggedProof) {
    unattacked();
    let Scene { mut stage, mut log, next, .. } = running();
    let proof = attack(&stage.operator, &mut log, &next);
    for _ in 0..2 {
        let answer = apply_bundle(&stage.roots, &with(next.clone(), &proof).to_bytes());
        assert_eq!(code(&answer), expected, "{:?}", answer.failure);
        let hints = answer.failure.unwrap().hints;
        assert!(!hints.is_empty() && hints.iter().all(|hint| !hint.contains("server")), "{hints:?}");
        stage.is_untouched();
        stage.restart();
    }
}

#[test]
fn attack_bundle_that_is_not_in_the_log() {
    unattacked();
    let Scene { stage, next, .. } = running();
    assert_eq!(apply(&stage, &next), "bundle-without-proof");
    stage.is_untouched();
    // Of another kernel, with another module, with another manifest: that is not the publishing of this one.
    refused("log-other-bundle", |key, log, next| {
        let place = publish(log, next, kernel(2));
        log.proof(place, key)
    });
    refused("log-other-bundle", |key, log, _| {
        let place = log.publish("1.2", &kernel(1), b"another module");
        log.proof(place, key)
    });
    refused("log-other-bundle", |key, log, _| {
        let place = log.publish("1.2", &kernel(1), &good("1.2"));
        log.proof(place, key)
    });
    refused("log-other-bundle", |key, log, _| log.proof(1, key));
    // In no tree.
    refused("log-not-included", |key, log, next| {
        let mut other = log.clone();
        let place = publish(&mut other, next, kernel(1));
        publish(log, next, kernel(2));
        let entry = other.entries[place as usize].clone();
        LoggedProof { entry, ..log.proof(place, key) }
    });
}

#[test]
fn attack_bundle_with_the_proof_of_another_log() {
    refused("log-wrong-signer", |_, log, next| {
        let place = publish(log, next, kernel(1));
        log.proof(place, &Ed25519KeyPair::generate().unwrap())
    });
    refused("log-wrong-signer", |key, log, next| {
        let place = publish(log, next, kernel(1));
        let proof = log.proof(place, key);
        LoggedProof { note: proof.note.replace("\n4\n", "\n5\n"), ..proof }
    });
    // Of the size that was seen, and another tree.
    refused("log-split-view", |key, log, next| {
        log.entries.pop();
        let place = publish(log, next, kernel(1));
        log.proof(place, key)
    });
    refused("log-bad-proof", |key, log, next| {
        let place = publish(log, next, kernel(1));
        LoggedProof { note: String::new(), ..log.proof(place, key) }
    });
}

#[test]
fn attack_key_of_the_log_removed_without_a_server() {
    unattacked();
    let Scene { mut stage, next, mut log, repository } = running();
    let path = stage.directory.path().join("log.vkey");
    std::fs::remove_file(&path).unwrap();
    let place = publish(&mut log, &next, kernel(1));
    let proven = with(next.clone(), &log.proof(place, &stage.operator));
    for bundle in [&next, &proven] {
        assert_eq!(apply(&stage, bundle), "log-key-missing");
        stage.is_untouched();
        stage.restart();
    }
    // What was applied comes back after a boot, and what is withdrawn goes, whatever the log says.
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    let mut later = repository.clone();
    later.allowance.withdrawn = vec![version("1.1")];
    assert_eq!(apply(&stage, &good_bundle("1.2", later.release().files())), "log-key-missing");
    assert_eq!(stage.livepatches(), [""; 0]);
}
