//! Mirrors: asked when the server fails, believed as little as it.

use std::time::Duration;

use livepatch_types::{CheckState, PatchState};

use crate::support::*;

/// A site that offers 1.1, so many mirrors of it, and a host that is enrolled and runs 1.1.
async fn with_mirrors(count: usize) -> (Site, Vec<Site>, Host, Daemons) {
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let mut mirrors = Vec::new();
    for _ in 0..count {
        mirrors.push(site.mirror().await);
    }
    let mut host = Host::new(&site);
    host.mirrors(&mirrors.iter().collect::<Vec<_>>());
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    (site, mirrors, host, daemons)
}

/// Publishes 1.2 everywhere but on the server's own shelf.
fn publish_on(site: &Site, mirrors: &[Site], document_version: u64) {
    let before = site.shelf.lock().unwrap().document.clone();
    let target = site.target("1.2", &kernel(1));
    site.publish(&document(&kernel(1), document_version, Some(target)));
    for mirror in mirrors {
        let ours = site.shelf.lock().unwrap();
        let mut theirs = mirror.shelf.lock().unwrap();
        (theirs.document, theirs.objects) = (ours.document.clone(), ours.objects.clone());
    }
    site.shelf.lock().unwrap().document = before;
}

#[tokio::test]
async fn a_server_that_answers_is_asked_alone() {
    let (site, mirrors, _host, daemons) = with_mirrors(2).await;
    daemons.refresh().await.unwrap();
    assert_eq!(daemons.status().check.mirror, None);
    assert!(!site.asked().is_empty() && mirrors.iter().all(|mirror| mirror.asked().is_empty()));
}

#[tokio::test]
async fn mirrors_take_the_place_of_a_server_that_fails() {
    // Out of order, something else in its place, damaged, older than what was seen.
    for trouble in [Some((503, None, "")), Some((200, None, "<html>")), Some((500, None, "")), None] {
        let (site, mirrors, host, daemons) = with_mirrors(2).await;
        publish_on(&site, &mirrors, 2);
        match trouble {
            Some(trouble) => site.shelf.lock().unwrap().trouble = Some(trouble),
            None => site.publish(&document(&kernel(1), 0, None)),
        }
        daemons.refresh().await.unwrap();
        assert_eq!(host.livepatches(), ["livepatch_1_2"], "{trouble:?}");
        let status = daemons.status();
        assert_eq!((status.check.state, status.problem), (CheckState::Checked, None));
        assert_eq!(status.check.mirror, Some(mirrors[0].url.clone()));
        assert!(mirrors[1].asked().is_empty());
        let told = mirrors.iter().map(|mirror| mirror.shelf.lock().unwrap().report_bodies.len());
        assert_eq!(told.sum::<usize>(), 0, "mirrors are told nothing");

        // The server is back, and is asked first.
        site.publish(&document(&kernel(1), 3, None));
        site.shelf.lock().unwrap().trouble = None;
        daemons.refresh().await.unwrap();
        assert_eq!(daemons.status().check.mirror, None);
    }
}

#[tokio::test]
async fn a_mirror_that_fails_is_left_alone_for_a_while() {
    let (site, mirrors, host, daemons) = with_mirrors(2).await;
    site.shelf.lock().unwrap().trouble = Some((503, None, ""));
    mirrors[0].shelf.lock().unwrap().trouble = Some((200, None, "<html>"));
    for (passes, asked) in [(0, true), (0, false), (59, false), (1, true), (60, false), (60, true)] {
        host.kernel.pass(Duration::from_secs(passes));
        mirrors[0].asked();
        daemons.refresh().await.unwrap();
        assert_eq!(!mirrors[0].asked().is_empty(), asked, "{passes}");
        assert_eq!(daemons.status().check.mirror, Some(mirrors[1].url.clone()));
    }
}

#[tokio::test]
async fn when_all_fail_the_servers_failure_is_told() {
    let (site, mirrors, host, daemons) = with_mirrors(1).await;
    site.shelf.lock().unwrap().trouble = Some((503, Some("120"), ""));
    mirrors[0].shelf.lock().unwrap().trouble = Some((200, None, "<html>"));
    let failed = daemons.refresh().await;
    assert_eq!(failed.as_ref().unwrap_err().retry_after, Some(Duration::from_secs(120)));
    assert_eq!(code(failed), "server-failed");
    assert_eq!(daemons.status().check.state, CheckState::CheckFailed);
    assert_eq!((host.livepatches().len(), daemons.status().patch.state), (1, PatchState::Applied));
}

/// Whatever a mirror serves is verified as what the server serves.
#[tokio::test]
async fn a_mirror_is_believed_as_little_as_the_server() {
    let (site, mirrors, host, daemons) = with_mirrors(2).await;
    let [hostile, good] = mirrors.as_slice() else { unreachable!() };
    publish_on(&site, &mirrors, 2);
    site.shelf.lock().unwrap().trouble = Some((503, None, ""));
    // Signed by somebody else; then a module that is not the signed one.
    hostile.publish(&document(&kernel(1), 9, Some(hostile.target("1.3", &kernel(1)))));
    daemons.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
    assert_eq!(daemons.status().check.mirror, Some(good.url.clone()));

    let target = site.target("1.4", &kernel(1));
    site.publish(&document(&kernel(1), 3, Some(target.clone())));
    let envelope = site.shelf.lock().unwrap().document.clone();
    for (mirror, module) in [(hostile, vec![0; target.module.size_bytes as usize]), (good, vec![])] {
        let mut shelf = mirror.shelf.lock().unwrap();
        shelf.document.clone_from(&envelope);
        shelf.objects.insert(target.module.sha256.to_string(), module);
    }
    host.kernel.pass(Duration::from_secs(3600));
    assert_eq!(code(daemons.refresh().await), "tampered-module");
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);

    // The module is on one of them.
    let module = site.shelf.lock().unwrap().objects[&target.module.sha256.to_string()].clone();
    good.shelf.lock().unwrap().objects.insert(target.module.sha256.to_string(), module);
    host.kernel.pass(Duration::from_secs(3600));
    daemons.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_4"]);
}

/// A mirror that is behind, or is for other kernels, does not take a kernel's cover away.
#[tokio::test]
async fn what_a_mirror_does_not_have_the_server_may_have() {
    let (site, mirrors, _host, daemons) = with_mirrors(1).await;
    site.shelf.lock().unwrap().trouble = Some((503, None, ""));
    mirrors[0].shelf.lock().unwrap().document = None;
    assert_eq!(code(daemons.refresh().await), "server-failed");
    assert_eq!(daemons.status().patch.state, PatchState::Applied);
    // And of a kernel that the server does not know no mirror is asked.
    mirrors[0].asked();
    (site.shelf.lock().unwrap().trouble, site.shelf.lock().unwrap().document) = (None, None);
    daemons.refresh().await.unwrap();
    assert!(mirrors[0].asked().is_empty());
    assert_eq!(daemons.status().problem.unwrap().code, "kernel-not-covered");
}
