//! Enrolment: the loader draws an id, the server signs which tier that id is in, the daemon carries both.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_types::{HostId, Redacted};

use crate::support::*;

/// How enrolling ends at a server that assigns so, and whether the host is enrolled then.
async fn enrolled(assign: impl Fn(HostId) -> Vec<u8> + Send + 'static) -> (String, bool) {
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    site.shelf.lock().unwrap().assign = Some(Box::new(move |host, _| assign(host)));
    let host = Host::new(&site);
    let agent = host.agent();
    agent.start().await.unwrap();
    let ended = code(agent.enable(Redacted::new(TOKEN.into())).await);
    assert_eq!(host.livepatches(), [""; 0]);
    // Nothing else leads around it.
    assert_eq!(code(agent.refresh().await), "not-enabled");
    (ended, agent.status().enabled)
}

#[tokio::test]
async fn a_server_that_assigns_wrongly_enrols_nobody() {
    let other =
        enrolled(|_| assign(HostId::from_bytes([7; 16]), "stable", 1, &Ed25519KeyPair::generate().unwrap()));
    assert_eq!(other.await, ("assignment-wrong-signer".into(), false));
    let none = enrolled(|_| Vec::new());
    assert_eq!(none.await, ("assignment-malformed".into(), false));
    let endless = enrolled(|_| vec![b' '; 20_000]);
    assert_eq!(endless.await, ("bad-request".into(), false));
}

/// Every enrolment is one of its own.
#[tokio::test]
async fn attack_assignment_of_another_host() {
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let host = Host::new(&site);
    let agent = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    agent.disable().await.unwrap();
    // The server answers with what it signed for the enrolment before: that is another host.
    let (key, before) = (std::sync::Arc::clone(&site.operator), HostId::from_bytes([7; 16]));
    site.shelf.lock().unwrap().assign = Some(Box::new(move |_, _| assign(before, "stable", 9, &key)));
    assert_eq!(code(agent.enable(Redacted::new(TOKEN.into())).await), "assignment-wrong-host");
    assert_eq!(host.livepatches(), [""; 0]);
    let key = std::sync::Arc::clone(&site.operator);
    site.shelf.lock().unwrap().assign = Some(Box::new(move |host, _| assign(host, "stable", 9, &key)));
    assert_eq!(code(agent.enable(Redacted::new(TOKEN.into())).await), "ok");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}
