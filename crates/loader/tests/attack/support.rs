//! What is covered, as the agent brings it: it decides nothing, but people copy from it into a shell. So nothing is believed that
//! the operator did not sign, nothing older, and nothing that could not be printed; what was believed stays.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_loader_api::{AgentRequest, Answer, RootRequest};
use livepatch_manifest::envelope::{assemble, signing_input};
use livepatch_manifest::support::{MAX_SUPPORT_BYTES, PAYLOAD_TYPE};
use livepatch_manifest::{SupportFlavour, SupportMatrix, SupportRow};
use livepatch_types::Architecture;

use crate::repository::{self, OPERATOR_KEYS, operator_root, pair};
use crate::signing::*;
use crate::stage::*;

fn matrix(version: u64, package: &str) -> SupportMatrix {
    let flavour = SupportFlavour { name: "cloud-amd64".into(), package: package.into() };
    let row = SupportRow {
        distribution: "debian".into(),
        release: "12".into(),
        name: "Debian 12".into(),
        architecture: Architecture::Amd64,
        series: "6.1".into(),
        line: "stable".into(),
        window_months: Some(13),
        until: None,
        flavours: vec![flavour],
    };
    SupportMatrix { schema: 1, critical: vec![], version, issued: NOW.parse().unwrap(), rows: vec![row] }
}

fn sign(payload_type: &str, payload: &[u8], key: &Ed25519KeyPair) -> Vec<u8> {
    let signature = key.sign(&signing_input(payload_type, payload)).as_ref().to_vec();
    assemble(payload_type, payload, &[(public(key).key_id(), signature)])
}

fn signed(matrix: &SupportMatrix, key: &Ed25519KeyPair) -> Vec<u8> {
    sign(PAYLOAD_TYPE, &matrix.to_payload(), key)
}

fn bring(stage: &Stage, envelope: &[u8]) -> Answer {
    agent(&stage.agents, AgentRequest::Support, envelope)
}

/// A host that knows matrix 7.
fn knowing() -> Stage {
    let stage = Stage::running();
    let good = signed(&matrix(7, "good"), &stage.operator);
    assert_eq!(code(&bring(&stage, &good)), "ok");
    assert_eq!(stage.view().support, Some(matrix(7, "good")));
    stage
}

/// Each is refused and explained, and what was known stays, also after a restart. What is said.
fn refused(stage: &mut Stage, attacks: &[(&str, Vec<u8>)]) -> String {
    let mut all = String::new();
    for (expected, envelope) in attacks {
        let answer = bring(stage, envelope);
        assert_eq!(code(&answer), *expected, "{:?}", answer.failure);
        all += &said(&answer);
        assert_eq!(answer.view.unwrap().support, Some(matrix(7, "good")), "{expected}");
    }
    stage.restart();
    assert_eq!(stage.view().support, Some(matrix(7, "good")));
    stage.is_untouched();
    // And it goes on from there.
    assert_eq!(code(&bring(stage, &signed(&matrix(8, "newer"), &stage.operator))), "ok");
    assert_eq!(stage.view().support, Some(matrix(8, "newer")));
    all
}

#[test]
fn attack_support_of_another_signer_or_changed_after_signing() {
    let mut stage = knowing();
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let payload = matrix(9, "evil").to_payload();
    let id = public(&stage.operator).key_id();
    let forged = stranger.sign(&signing_input(PAYLOAD_TYPE, &payload)).as_ref().to_vec();
    let borrowed = stage.operator.sign(&signing_input(PAYLOAD_TYPE, &matrix(8, "x").to_payload()));
    let attacks = [
        ("support-wrong-signer", signed(&matrix(9, "evil"), &stranger)),
        // Under the operator's name: with another key's signature, with that of another matrix.
        ("support-tampered", assemble(PAYLOAD_TYPE, &payload, &[(id.clone(), forged)])),
        ("support-tampered", assemble(PAYLOAD_TYPE, &payload, &[(id, borrowed.as_ref().to_vec())])),
        ("support-wrong-signer", assemble(PAYLOAD_TYPE, &payload, &[])),
    ];
    let said = refused(&mut stage, &attacks).replace(&public(&stage.operator).key_id(), "OPERATOR");
    insta::assert_snapshot!(said.replace(&public(&stranger).key_id(), "STRANGER"), @"
    the document is not signed by a trusted key; its signers are STRANGER (support-wrong-signer)
    hint: compare what is pinned in the trust directory (operator-root.json, or operator.pub) with what the server's operator gives out
    the signature of key OPERATOR does not match the document: it was changed after signing (support-tampered)
    hint: somebody changes what the server sends; look at proxies and mirrors in between
    the signature of key OPERATOR does not match the document: it was changed after signing (support-tampered)
    hint: somebody changes what the server sends; look at proxies and mirrors in between
    the document is not signed by a trusted key; its signers are none (support-wrong-signer)
    hint: compare what is pinned in the trust directory (operator-root.json, or operator.pub) with what the server's operator gives out
    ");
}

#[test]
fn attack_support_that_is_older() {
    let mut stage = knowing();
    let attacks = [
        ("support-rollback", signed(&matrix(6, "withdrawn"), &stage.operator)),
        ("support-rollback", signed(&matrix(0, "withdrawn"), &stage.operator)),
    ];
    insta::assert_snapshot!(refused(&mut stage, &attacks), @"
    the support matrix has version 6, older than version 7 seen before (support-rollback)
    hint: tell the server's operator
    the support matrix has version 0, older than version 7 seen before (support-rollback)
    hint: tell the server's operator
    ");
}

/// What the operator signed for another purpose is not a matrix; nor is a later format, or what could not be printed.
#[test]
fn attack_support_of_another_kind() {
    let mut stage = knowing();
    let text = |payload: &str| sign(PAYLOAD_TYPE, payload.as_bytes(), &stage.operator);
    let rows = "\"version\":9,\"issued\":\"2026-11-24T12:00:00Z\",\"rows\":[]";
    let mut many = matrix(9, "x");
    many.rows = vec![many.rows[0].clone(); 65];
    let attacks = [
        ("support-malformed", stage.document(9, "1.1", &good("1.1"))),
        ("support-malformed", sign("another/type", &matrix(9, "x").to_payload(), &stage.operator)),
        ("support-malformed", text("{")),
        ("support-malformed", text("{\"schema\":1}")),
        ("support-too-new", text(&format!("{{\"schema\":2,{rows}}}"))),
        ("support-too-new", text(&format!("{{\"schema\":1,\"critical\":[\"x\"],{rows}}}"))),
        ("support-malformed", signed(&matrix(9, "x; reboot"), &stage.operator)),
        ("support-malformed", signed(&matrix(9, "x\u{1b}[2J"), &stage.operator)),
        ("support-malformed", signed(&many, &stage.operator)),
    ];
    insta::assert_snapshot!(refused(&mut stage, &attacks), @r#"
    the envelope holds "application/vnd.livepatch.kernel-document+json" where "application/vnd.livepatch.support-matrix+json" is expected (support-malformed)
    hint: tell the server's operator
    the envelope holds "another/type" where "application/vnd.livepatch.support-matrix+json" is expected (support-malformed)
    hint: tell the server's operator
    the support matrix does not parse: EOF while parsing an object at line 1 column 1 (support-malformed)
    hint: tell the server's operator
    the support matrix does not parse: missing field `version` (support-malformed)
    hint: tell the server's operator
    support matrix schema 2 is newer than this program, which reads schema 1 (support-too-new)
    hint: upgrade the client
    the support matrix requires "x", which this program does not understand (support-too-new)
    hint: upgrade the client
    the support matrix does not parse: "x; reboot" is not a name, version or package (support-malformed)
    hint: tell the server's operator
    the support matrix does not parse: "x\u{1b}[2J" is not a name, version or package (support-malformed)
    hint: tell the server's operator
    the support matrix does not parse: it has more than 64 rows (support-malformed)
    hint: tell the server's operator
    "#);
}

#[test]
fn attack_support_of_any_bytes_and_length() {
    let mut stage = knowing();
    let good = signed(&matrix(9, "x"), &stage.operator);
    let mut attacks = vec![
        ("support-malformed", b"\0\xff{".to_vec()),
        ("support-malformed", vec![]),
        ("support-malformed", vec![b' '; MAX_SUPPORT_BYTES]),
        // By its length alone.
        ("bad-request", vec![b'{'; MAX_SUPPORT_BYTES + 1]),
    ];
    attacks.extend((1..good.len()).step_by(97).map(|end| ("support-malformed", good[..end].to_vec())));
    for (expected, envelope) in &attacks {
        let answer = bring(&stage, envelope);
        assert_eq!(code(&answer), *expected, "{:?}", answer.failure);
        assert!(!answer.failure.unwrap().hints.is_empty());
    }
    refused(&mut stage, &[]);
}

/// A host that root did not enable takes nobody's word.
#[test]
fn attack_support_for_a_host_that_is_not_enabled() {
    let stage = knowing();
    let newer = signed(&matrix(9, "newer"), &stage.operator);
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    assert_eq!(code(&bring(&stage, &newer)), "not-enabled");
}

/// What a stolen key said is forgotten with the key, also the highest version that there is.
#[test]
fn attack_support_by_a_stolen_key() {
    const STOLEN: u8 = 33;
    const ASSIGNMENTS: u8 = 34;
    const NEXT: u8 = 35;
    let stage = Stage::new();
    let first = repository::sign(&operator_root(1, &[STOLEN], &[ASSIGNMENTS]), &OPERATOR_KEYS);
    std::fs::write(stage.directory.path().join("operator-root.json"), first).unwrap();
    assert_eq!(code(&root(&stage.roots, RootRequest::Enable)), "ok");
    let last = matrix(u64::MAX, "x");
    assert_eq!(code(&bring(&stage, &signed(&last, &pair(STOLEN)))), "ok");
    assert_eq!(stage.view().support, Some(last));
    let next = repository::sign(&operator_root(2, &[NEXT], &[ASSIGNMENTS]), &OPERATOR_KEYS);
    assert_eq!(code(&agent(&stage.agents, AgentRequest::OperatorRoot, &next)), "ok");
    assert_eq!(stage.view().support, None);
    assert_eq!(code(&bring(&stage, &signed(&matrix(2, "good"), &pair(NEXT)))), "ok");
    assert_eq!(stage.view().support, Some(matrix(2, "good")));
}
