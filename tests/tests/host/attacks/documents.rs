//! The operator's documents, and what they offer.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_manifest::KernelDocument;

use super::*;

fn next(scene: &Scene) -> KernelDocument {
    let mut document = document(&kernel(1), 3, Some(scene.site.target("1.2", &kernel(1))));
    document.vendor = Some(scene.repository.named());
    document
}

async fn document_refused(expected: &str, change: impl Fn(&mut KernelDocument)) {
    let mut scene = unattacked().await;
    let mut document = next(&scene);
    change(&mut document);
    scene.site.publish(&document);
    scene.refused(expected).await;
    scene.over().await;
}

#[tokio::test]
async fn attack_document_of_another_kernel() {
    document_refused("document-wrong-kernel", |document| document.kernel = kernel(2)).await;
}

/// Signed by the operator's key: there is no such architecture here.
#[tokio::test]
async fn attack_document_of_another_architecture() {
    let mut scene = unattacked().await;
    let payload = String::from_utf8(next(&scene).to_payload()).unwrap();
    assert!(payload.contains("\"amd64\""), "{payload}");
    let payload = payload.replace("\"amd64\"", "\"arm64\"").into_bytes();
    let envelope = sign_payload(&payload, &scene.site.operator);
    scene.site.shelf.lock().unwrap().document = Some(envelope);
    scene.refused("document-malformed").await;
    scene.over().await;
}

#[tokio::test]
async fn attack_document_of_another_channel() {
    document_refused("document-wrong-channel", |document| {
        document.channel = livepatch_types::Tier::parse("edge").unwrap()
    })
    .await;
}

#[tokio::test]
async fn attack_document_that_goes_back() {
    let mut scene = Scene::new().await;
    let mut newer = document(&kernel(1), 5, Some(scene.site.target("1.1", &kernel(1))));
    newer.vendor = Some(scene.repository.named());
    scene.site.publish(&newer);
    scene.daemons.refresh().await.unwrap();
    scene.offer();
    scene.refused("document-rollback").await;
    scene.over().await;
}

#[tokio::test]
async fn attack_vendors_approval_without_the_operators() {
    let mut scene = unattacked().await;
    let document = next(&scene);
    scene.site.publish_signed(&document, &Ed25519KeyPair::generate().unwrap());
    scene.refused("document-wrong-signer").await;
    scene.over().await;
}

#[tokio::test]
async fn attack_operators_approval_without_the_vendors() {
    let mut scene = unattacked().await;
    scene.repository.allowance.allowed.pop();
    let repository = scene.repository.release().clone();
    publish(&scene.site, 3, "1.2", &repository);
    scene.refused("vendor-not-allowed").await;
    scene.repository.allow("1.2", &module_of("1.2"));
    scene.over().await;
}

#[tokio::test]
async fn attack_module_of_another_kernel() {
    let mut scene = unattacked().await;
    let other = VENDOR.sign(&module(&info("1.2", &kernel(2))));
    scene.repository.allowance.allowed.pop();
    scene.repository.allow("1.2", &other);
    let mut document = next(&scene);
    document.target = Some(scene.site.target_of("1.2", &other));
    scene.site.shelf.lock().unwrap().vendor = scene.repository.files();
    scene.site.publish(&document);
    scene.refused("wrong-kernel").await;
    scene.repository.allowance.allowed.pop();
    scene.repository.allow("1.2", &module_of("1.2"));
    scene.over().await;
}

/// The server sends other bytes than document and metadata name.
#[tokio::test]
async fn attack_module_with_other_bytes() {
    let good = module_of("1.2");
    let digest = livepatch_manifest::sha256(&good).to_string();
    let mut changed = good.clone();
    changed[100] ^= 1;
    let longer = [&good[..], b" "].concat();
    let cases = [
        ("tampered-module", changed),
        ("truncated-module", good[..99].to_vec()),
        ("oversized-module", longer),
    ];
    for (expected, bytes) in cases {
        let mut scene = unattacked().await;
        scene.site.shelf.lock().unwrap().objects.insert(digest.clone(), bytes);
        scene.refused(expected).await;
        scene.over().await;
    }
}

/// The vendor allows exactly these bytes of a signer that it does not name, and one signed by nobody's key.
#[tokio::test]
async fn attack_module_of_a_signer_that_is_not_allowed() {
    for (expected, bytes) in [
        ("wrong-signer", STRANGER.sign(&module(&info("1.2", &kernel(1))))),
        ("unsigned-module", module(&info("1.2", &kernel(1)))),
    ] {
        let mut scene = unattacked().await;
        scene.repository.allowance.allowed.pop();
        scene.repository.allow("1.2", &bytes);
        let mut document = next(&scene);
        document.target = Some(scene.site.target_of("1.2", &bytes));
        scene.site.shelf.lock().unwrap().vendor = scene.repository.files();
        scene.site.publish(&document);
        scene.refused(expected).await;
        scene.repository.allowance.allowed.pop();
        scene.repository.allow("1.2", &module_of("1.2"));
        scene.over().await;
    }
}

#[tokio::test]
async fn attack_clock_set_back_and_forward() {
    let mut scene = unattacked().await;
    for (time, expected) in [
        ("1970-01-01T00:00:30Z", "document-not-yet-valid"),
        ("2099-01-01T00:00:00Z", "document-expired"),
        ("2026-12-01T00:00:01Z", "document-expired"),
    ] {
        scene.host.at(time);
        scene.refused(expected).await;
    }
    // A boot in 2099 leaves nothing behind that locks updates out.
    scene.host.at(NOW);
    scene.over().await;
}
