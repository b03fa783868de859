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

/// A host that runs 1.1 while its daemon has forgotten its enrolment, as after a loss of its directory. The operator offers 1.2.
async fn forgetful() -> (Site, Host, Daemons) {
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let host = Host::new(&site);
    drop(host.enabled().await);
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    std::fs::remove_dir_all(host.path().join("state")).unwrap();
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    let daemons = host.agent();
    // That it is not enrolled is told by what it is asked.
    let _ = daemons.start().await;
    assert_eq!(code(daemons.refresh().await), "not-enabled");
    (site, host, daemons)
}

/// Every enrolment is one of its own.
#[tokio::test]
async fn attack_assignment_of_another_host() {
    let enrol = async |daemons: &Daemons| code(daemons.enable(Redacted::new(TOKEN.into())).await);
    let (_site, host, daemons) = forgetful().await;
    assert_eq!(
        (enrol(&daemons).await.as_str(), host.livepatches()),
        ("ok", vec!["livepatch_1_2".to_owned()])
    );

    let (site, host, daemons) = forgetful().await;
    let key = std::sync::Arc::clone(&site.operator);
    let another = move |_: HostId, _| assign(HostId::from_bytes([7; 16]), "stable", 9, &key);
    let right = site.shelf.lock().unwrap().assign.replace(Box::new(another));
    for _ in 0..2 {
        assert_eq!(enrol(&daemons).await, "assignment-wrong-host");
        assert_eq!(code(daemons.refresh().await), "not-enabled");
        assert_eq!((host.livepatches(), host.kernel.loads().len()), (vec!["livepatch_1_1".to_owned()], 1));
    }
    site.shelf.lock().unwrap().assign = right;
    assert_eq!(
        (enrol(&daemons).await.as_str(), host.livepatches()),
        ("ok", vec!["livepatch_1_2".to_owned()])
    );
}

/// Nor does the assignment of the enrolment before count.
#[tokio::test]
async fn an_assignment_of_the_enrolment_before() {
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
