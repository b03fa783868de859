//! Cohorts: the owner asks for one, the operator signs it, and the place in a rollout follows from it.

use jiff::{SignedDuration, Timestamp};
use livepatch_api::daemon::Failure;
use livepatch_manifest::Place;
use livepatch_types::{Cohort, HostId, Redacted};

use crate::support::*;

fn cohort(text: &str) -> Option<Cohort> {
    Some(Cohort::parse(text).unwrap())
}

/// A site that offers 1.1, released at [`NOW`], and a host with these settings.
async fn offered(settings: &str) -> (Site, Host) {
    let site = Site::new().await;
    let mut host = Host::new(&site);
    host.configure(settings, "");
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    (site, host)
}

/// What is noted about the cohort.
fn noted(daemons: &Daemons) -> Option<Failure> {
    daemons.status().notes.into_iter().find(|note| note.code == "cohort-not-assigned")
}

fn assignments(site: &Site) -> Vec<String> {
    site.asked().into_iter().filter(|asked| asked.starts_with("assignment")).collect()
}

#[tokio::test]
async fn a_host_enrols_into_its_cohort_and_moves_to_another() {
    let (site, mut host) = offered("cohort = \"databases/2\"").await;
    let daemons = host.enabled().await;
    assert_eq!((daemons.status().cohort, noted(&daemons)), (cohort("databases/2"), None));
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    daemons.refresh().await.unwrap();
    assert_eq!(assignments(&site), [""; 0], "nothing more is asked");

    // The owner changes it; without the server nothing is changed.
    host.configure("cohort = \"site-berlin\"", "");
    let daemons = host.agent();
    daemons.start().await.unwrap();
    assert_eq!(daemons.status().cohort, cohort("databases/2"));
    let note = noted(&daemons).unwrap();
    assert_eq!(
        note.message,
        "this host is in cohort databases/2 until the operator assigns it to cohort site-berlin"
    );
    assert_eq!(note.hints, ["`livepatch refresh` asks the server for it now"]);
    daemons.refresh().await.unwrap();
    assert_eq!((daemons.status().cohort, noted(&daemons)), (cohort("site-berlin"), None));
    daemons.refresh().await.unwrap();
    assert_eq!(assignments(&site), ["assignment site-berlin"]);

    // It is remembered, and taken back.
    let daemons = host.agent();
    daemons.start().await.unwrap();
    assert_eq!(daemons.status().cohort, cohort("site-berlin"));
    host.configure("", "");
    let daemons = host.agent();
    daemons.refresh().await.unwrap();
    assert_eq!((daemons.status().cohort, noted(&daemons)), (None, None));
    assert_eq!(assignments(&site), ["assignment none"]);
    assert_eq!(host.livepatches(), ["livepatch_1_1"], "all that while it ran");
}

/// A host that has no cohort says nothing of it: servers of before understand it.
#[tokio::test]
async fn a_server_of_before_the_cohorts() {
    let (site, mut host) = offered("").await;
    site.shelf.lock().unwrap().before_cohorts = true;
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    assert_eq!((daemons.status().cohort, noted(&daemons)), (None, None));

    host.configure("cohort = \"site-berlin\"", "");
    let daemons = host.agent();
    daemons.refresh().await.unwrap();
    let note = noted(&daemons).unwrap();
    assert_eq!(
        note.message,
        "this host is in no cohort until the operator assigns it to cohort site-berlin: the server refuses (404 Not Found, not-found): no"
    );
    assert!(note.hints[0].contains("upgrade it"), "{note:?}");
    assert_eq!((host.livepatches(), daemons.status().problem), (vec!["livepatch_1_1".into()], None));

    daemons.disable().await.unwrap();
    assert_eq!(noted(&daemons), None);
    let refused = daemons.enable(Redacted::new(TOKEN.into())).await.unwrap_err();
    assert_eq!(refused.code, "server-refused");
    assert!(refused.hints[0].contains("`cohort`"), "{refused:?}");
    site.shelf.lock().unwrap().before_cohorts = false;
    daemons.enable(Redacted::new(TOKEN.into())).await.unwrap();
    assert_eq!(daemons.status().cohort, cohort("site-berlin"));
}

/// Neither the server nor whoever carries what it signs can put a host into a cohort that its owner did not ask for.
#[tokio::test]
async fn attack_assignment_to_a_cohort_that_nobody_asked_for() {
    for (settings, assigned) in
        [("", cohort("early")), ("cohort = \"late\"", cohort("early")), ("cohort = \"late\"", None)]
    {
        let (site, host) = offered(settings).await;
        let key = std::sync::Arc::clone(&site.operator);
        let assign = {
            let assigned = assigned.clone();
            move |host, _| assign_in_cohort(host, "stable", assigned.clone(), 1, &key)
        };
        site.shelf.lock().unwrap().assign = Some(Box::new(assign));
        let daemons = host.agent();
        daemons.start().await.unwrap();
        let enabled = daemons.enable(Redacted::new(TOKEN.into())).await;
        assert_eq!(code(enabled), "assignment-wrong-cohort", "{settings} {assigned:?}");
        assert_eq!((host.livepatches(), daemons.status().enabled), (vec![], false));
    }
    // Unattacked it is enrolled.
    let (_site, host) = offered("cohort = \"late\"").await;
    assert_eq!(host.enabled().await.status().cohort, cohort("late"));
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

/// Hosts of one cohort apply a livepatch at the same moment, and not before the one of its place.
#[tokio::test]
async fn a_livepatch_comes_to_a_cohort_at_its_place() {
    let settings = "cohort = \"databases/2\"\npatch-spread = \"4d\"";
    let (_site, one) = offered(settings).await;
    let (_other_site, other) = offered(settings).await;
    let (of_one, of_other) = (one.enabled().await, other.enabled().await);
    let patch = of_one.status().patch;
    let (place, waiting) = (patch.place.unwrap(), patch.waiting.unwrap());
    assert_eq!((waiting.code.as_str(), place.version), ("patch-spread", version("1.1")));
    assert_eq!(of_other.status().patch.waiting.unwrap().until, waiting.until);
    // Whatever their ids are.
    let expected = Place::of(&HostId::from_bytes([9; 16]), cohort("databases/2").as_ref(), version("1.1"));
    assert_eq!(place.hundredths, expected.hundredths());
    let released: Timestamp = NOW.parse().unwrap();
    let until = released + SignedDuration::from_secs(4 * 86_400 * i64::from(place.hundredths) / 10_000);
    assert_eq!(waiting.until, Some(until));

    for (host, daemons) in [(&one, &of_one), (&other, &of_other)] {
        host.at(&(until - SignedDuration::from_secs(1)).to_string());
        daemons.refresh().await.unwrap();
        assert_eq!(host.livepatches(), [""; 0]);
        host.at(&until.to_string());
        daemons.refresh().await.unwrap();
        assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    }
}

/// Root does not wait for the place of this host.
#[tokio::test]
async fn root_goes_before_the_place() {
    let (_site, host) = offered("patch-spread = \"365d\"").await;
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), [""; 0]);
    daemons.apply().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}
