//! Which kernels the operator covers, as a hostile agent brings it: people read it, so it is the operator's or nobody's.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_loader_api::{AgentRequest, RootRequest};
use livepatch_manifest::envelope::{assemble, signing_input};
use livepatch_manifest::{SupportMatrix, document, support};

use crate::repository::{OPERATOR_KEYS, operator_root, pair, sign};
use crate::signing::*;
use crate::stage::*;

fn matrix(version: u64) -> SupportMatrix {
    SupportMatrix { schema: 1, critical: vec![], version, issued: NOW.parse().unwrap(), rows: vec![] }
}

fn signed(matrix: &SupportMatrix, key: &Ed25519KeyPair) -> Vec<u8> {
    signed_as(support::PAYLOAD_TYPE, matrix, key)
}

fn signed_as(kind: &str, matrix: &SupportMatrix, key: &Ed25519KeyPair) -> Vec<u8> {
    let payload = matrix.to_payload();
    let signature = key.sign(&signing_input(kind, &payload)).as_ref().to_vec();
    assemble(kind, &payload, &[(public(key).key_id(), signature)])
}

fn bring(stage: &Stage, envelope: &[u8]) -> String {
    code(&agent(&stage.agents, AgentRequest::Support, envelope))
}

fn known(stage: &Stage) -> Option<u64> {
    stage.view().support.map(|matrix| matrix.version)
}

#[test]
fn attack_coverage_that_the_operator_did_not_sign() {
    let mut stage = Stage::running();
    assert_eq!((bring(&stage, &signed(&matrix(5), &stage.operator)), known(&stage)), ("ok".into(), Some(5)));
    let stranger = Ed25519KeyPair::generate().unwrap();
    let mut tampered: serde_json::Value =
        serde_json::from_slice(&signed(&matrix(9), &stage.operator)).unwrap();
    let other: serde_json::Value = serde_json::from_slice(&signed(&matrix(8), &stage.operator)).unwrap();
    tampered["payload"] = other["payload"].clone();
    let later = SupportMatrix { schema: 2, ..matrix(9) };
    let critical = SupportMatrix { critical: vec!["moon".into()], ..matrix(9) };
    let rows = [
        (signed(&matrix(9), &stranger), "support-wrong-signer"),
        (tampered.to_string().into_bytes(), "support-wrong-signer"),
        (signed(&matrix(4), &stage.operator), "support-rollback"),
        (signed(&later, &stage.operator), "support-too-new"),
        (signed(&critical, &stage.operator), "support-too-new"),
        (signed_as(document::PAYLOAD_TYPE, &matrix(9), &stage.operator), "support-malformed"),
        (b"\0\xff{".to_vec(), "support-malformed"),
        (vec![], "support-malformed"),
        (vec![b' '; support::MAX_SUPPORT_BYTES + 1], "bad-request"),
    ];
    for _ in 0..2 {
        for (envelope, expected) in &rows {
            assert_eq!((bring(&stage, envelope).as_str(), known(&stage)), (*expected, Some(5)));
        }
        stage.restart();
    }
    assert_eq!((bring(&stage, &signed(&matrix(6), &stage.operator)), known(&stage)), ("ok".into(), Some(6)));
    stage.is_untouched();
    // A host that root did not enable has no operator.
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    assert_eq!(bring(&stage, &signed(&matrix(7), &stage.operator)), "not-enabled");
}

/// What a stolen key said is forgotten with the key, also the highest version that there is.
#[test]
fn attack_coverage_by_a_stolen_key() {
    const STOLEN: u8 = 33;
    const ASSIGNMENTS: u8 = 34;
    const NEXT: u8 = 35;
    let stage = Stage::new();
    let first = sign(&operator_root(1, &[STOLEN], &[ASSIGNMENTS]), &OPERATOR_KEYS);
    std::fs::write(stage.directory.path().join("operator-root.json"), first).unwrap();
    assert_eq!(code(&root(&stage.roots, RootRequest::Enable)), "ok");
    assert_eq!(
        (bring(&stage, &signed(&matrix(u64::MAX), &pair(STOLEN))), known(&stage)),
        ("ok".into(), Some(u64::MAX))
    );
    let next = sign(&operator_root(2, &[NEXT], &[ASSIGNMENTS]), &OPERATOR_KEYS);
    assert_eq!(code(&agent(&stage.agents, AgentRequest::OperatorRoot, &next)), "ok");
    assert_eq!(known(&stage), None);
    assert_eq!((bring(&stage, &signed(&matrix(2), &pair(NEXT))), known(&stage)), ("ok".into(), Some(2)));
}
