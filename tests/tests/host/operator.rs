//! A host that goes by the operator's root: the agent fetches the next one when a document is signed by a key that the
//! loader does not know, the loader decides.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_types::CheckState;

use crate::repository::{OPERATOR_KEYS, operator_root, pair, sign};
use crate::support::*;

/// The keys of documents and assignments, before and after.
const FIRST: u8 = 33;
const NEXT: u8 = 35;

fn publish(site: &Site, number: u64, of: &str, key: &Ed25519KeyPair) {
    site.publish_signed(&document(&kernel(1), number, Some(site.target(of, &kernel(1)))), key);
}

fn serve_root(site: &Site, version: u64, key: u8) {
    let root = sign(&operator_root(version, &[key], &[key]), &OPERATOR_KEYS);
    site.shelf.lock().unwrap().operator.insert(format!("metadata/{version}.root.json"), root);
}

/// A site whose hosts pin its first root; the key of this seed assigns them.
async fn with_root(assigns: u8) -> (Site, Host) {
    let site = Site::new().await;
    let host = Host::new(&site);
    std::fs::remove_file(host.path().join("operator.pub")).unwrap();
    serve_root(&site, 1, FIRST);
    let first = site.shelf.lock().unwrap().operator["metadata/1.root.json"].clone();
    std::fs::write(host.path().join("operator-root.json"), first).unwrap();
    site.shelf.lock().unwrap().assign =
        Some(Box::new(move |host, _| assign(host, "stable", 1, &pair(assigns))));
    (site, host)
}

#[tokio::test]
async fn the_key_is_exchanged_without_touching_the_host() {
    let (site, host) = with_root(FIRST).await;
    publish(&site, 1, "1.1", &pair(FIRST));
    let agent = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    site.asked();
    // While all is as it was, nobody asks for roots.
    agent.refresh().await.unwrap();
    assert!(!site.asked().iter().any(|asked| asked.starts_with("operator")));

    // Documents of another key without a root that names it: somebody else's.
    publish(&site, 2, "1.2", &pair(NEXT));
    assert_eq!(code(agent.refresh().await), "document-wrong-signer");
    assert_eq!(
        (agent.status().check.state, host.livepatches()),
        (CheckState::CheckFailed, vec!["livepatch_1_1".into()])
    );
    // A root of somebody else's does not help.
    let forged = sign(&operator_root(2, &[NEXT], &[NEXT]), &OPERATOR_KEYS[..1]);
    site.shelf.lock().unwrap().operator.insert("metadata/2.root.json".into(), forged);
    assert_eq!(code(agent.refresh().await), "operator-threshold");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    // Two roots further, at once.
    serve_root(&site, 2, 36);
    serve_root(&site, 3, NEXT);
    site.asked();
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
    let asked: Vec<_> = site.asked().into_iter().filter(|asked| asked.starts_with("operator")).collect();
    assert_eq!(asked, [2, 3, 4].map(|version| format!("operator metadata/{version}.root.json")));
}

#[tokio::test]
async fn a_host_enrols_after_the_key_was_exchanged() {
    let (site, host) = with_root(NEXT).await;
    serve_root(&site, 2, NEXT);
    publish(&site, 1, "1.1", &pair(NEXT));
    host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

#[tokio::test]
async fn a_root_is_renewed_before_it_ends() {
    let (site, host) = with_root(FIRST).await;
    publish(&site, 1, "1.1", &pair(FIRST));
    let agent = host.enabled().await;
    host.at("2027-11-01T00:00:00Z");
    let mut late = document(&kernel(1), 2, Some(site.target("1.2", &kernel(1))));
    (late.issued, late.expires) =
        ("2027-10-31T00:00:00Z".parse().unwrap(), "2028-01-01T00:00:00Z".parse().unwrap());
    let mut renewed = operator_root(2, &[FIRST], &[FIRST]);
    renewed.header.expires = "2028-11-23T00:00:00Z".parse().unwrap();
    let path = "metadata/2.root.json".to_owned();
    site.shelf.lock().unwrap().operator.insert(path, sign(&renewed, &OPERATOR_KEYS));
    site.publish_signed(&late, &pair(FIRST));
    agent.refresh().await.unwrap();
    host.at("2027-12-01T00:00:00Z");
    agent.refresh().await.unwrap();
    assert_eq!((agent.status().problem, host.livepatches()), (None, vec!["livepatch_1_2".into()]));
}
