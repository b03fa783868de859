//! What every [`Store`] must do, told as stories. An implementation's tests call [`all`] with a function that makes
//! a fresh, empty store.

#![expect(clippy::unwrap_used, reason = "test support: a failed story panics")]

mod log;
mod reports;

use jiff::{SignedDuration, Timestamp};
use livepatch_manifest::{Coverage, ModuleObject, PatchManifest, sha256};
use livepatch_types::{
    Architecture, BuildId, Cohort, HostId, KernelIdentity, KernelRelease, PatchVersion, Sha256Digest, Tier,
};

use crate::*;

/// Tells every story, each to a fresh store.
pub async fn all<S: Store>(fresh: impl AsyncFn() -> S) {
    tokens_are_listed_and_revoked(&fresh().await).await;
    a_token_enrols_within_its_limits(&fresh().await).await;
    enrolling_again_replaces_the_machine_token(&fresh().await).await;
    a_machine_is_in_the_cohort_that_it_asked_for_last(&fresh().await).await;
    reports::a_report_replaces_the_one_before(&fresh().await).await;
    reports::a_report_is_taken_once(&fresh().await).await;
    reports::the_last_reports_are_kept(&fresh().await).await;
    publishing_is_idempotent_and_never_changes_a_patch(&fresh().await).await;
    a_withdrawn_patch_is_gone_for_good(&fresh().await).await;
    the_newest_patch_of_the_tier_is_the_target(&fresh().await).await;
    a_document_is_replaced_only_by_who_saw_the_latest(&fresh().await).await;
    what_is_said_of_a_kernels_cover(&fresh().await).await;
    how_often_hosts_shall_ask(&fresh().await).await;
    an_unknown_tier_is_refused_everywhere(&fresh().await).await;
    log::what_happens_is_in_the_log_once(&fresh().await).await;
    log::what_is_refused_is_not_in_the_log(&fresh().await).await;
    log::a_signed_head_is_remembered(&fresh().await).await;
}

/// Changes a SQLite database as somebody does who can write its file: without foreign keys and triggers. For tests of
/// what notices that.
pub async fn change_database(path: &std::path::Path, statements: &str) {
    crate::sqlite::log::change_database(path, statements).await.unwrap();
}

/// Enrols a machine that reports as earlier clients do; the report.
pub async fn with_a_report(store: &impl Store) -> livepatch_api::server::Report {
    reports::with_a_report(store).await
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn tier(name: &str) -> Tier {
    Tier::parse(name).unwrap()
}

fn version(text: &str) -> PatchVersion {
    PatchVersion::parse(text).unwrap()
}

/// A kernel that is told from others by a byte.
pub fn kernel(byte: u8) -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse(&format!("6.1.0-{byte}-cloud-amd64")).unwrap(),
        build_id: BuildId::from_bytes(&[byte; 20]).unwrap(),
    }
}

fn presented(id: u8, secret: &str) -> PresentedToken {
    PresentedToken { id: TokenId::parse(&format!("{id:016x}")).unwrap(), sha256: sha256(secret.as_bytes()) }
}

fn new_token(name: &str) -> NewToken {
    NewToken {
        token: presented(1, "secret"),
        name: name.to_owned(),
        tier: tier("stable"),
        created: now(),
        expires: None,
        use_limit: None,
    }
}

fn machine(byte: u8) -> Sha256Digest {
    Sha256Digest::from_bytes([byte; 32])
}

fn host(byte: u8) -> HostId {
    HostId::from_bytes([byte; 16])
}

fn enrolment(machine_byte: u8, machine_token: PresentedToken) -> Enrolment {
    Enrolment {
        token: presented(1, "secret"),
        machine: machine(machine_byte),
        machine_token,
        host: host(machine_byte),
        cohort: None,
        at: now(),
    }
}

fn patch(version_text: &str, kernel_byte: u8, module: &[u8]) -> NewPatch {
    let manifest = PatchManifest {
        schema: 1,
        version: version(version_text),
        kernel: kernel(kernel_byte),
        module: ModuleObject { sha256: sha256(module), size_bytes: module.len() as u64 },
        objects: vec![],
        cves: vec![],
        built: now(),
        compiler: "gcc".into(),
        sections: Default::default(),
    };
    NewPatch {
        manifest_text: serde_json::to_string(&manifest).unwrap(),
        manifest,
        signature: vec![1, 2, 3],
        tier: tier("stable"),
        at: now(),
    }
}

async fn tokens_are_listed_and_revoked(store: &impl Store) {
    let token = NewToken { expires: Some(now()), use_limit: Some(3), ..new_token("b") };
    store.create_token(&token).await.unwrap();
    let other = NewToken { token: presented(2, "x"), ..new_token("a") };
    store.create_token(&other).await.unwrap();
    let twice = NewToken { token: presented(3, "y"), ..new_token("a") };
    assert!(matches!(store.create_token(&twice).await, Err(StoreError::TokenExists(_))));

    let listed = store.tokens().await.unwrap();
    assert_eq!(listed.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((listed[1].expires, listed[1].use_limit, listed[1].uses), (Some(now()), Some(3), 0));

    store.revoke_token("a", now()).await.unwrap();
    store.revoke_token("a", now() + SignedDuration::from_hours(1)).await.unwrap();
    assert_eq!(store.tokens().await.unwrap()[0].revoked, Some(now()), "the first time counts");
    assert!(matches!(store.revoke_token("c", now()).await, Err(StoreError::UnknownToken)));
}

async fn a_token_enrols_within_its_limits(store: &impl Store) {
    let token = NewToken {
        use_limit: Some(1),
        expires: Some(now() + SignedDuration::from_hours(1)),
        tier: tier("beta"),
        ..new_token("a")
    };
    store.create_token(&token).await.unwrap();
    let wrong = Enrolment { token: presented(1, "guess"), ..enrolment(1, presented(10, "m")) };
    assert!(matches!(store.enrol(&wrong).await, Err(StoreError::UnknownToken)));
    let unknown = Enrolment { token: presented(2, "secret"), ..enrolment(1, presented(10, "m")) };
    assert!(matches!(store.enrol(&unknown).await, Err(StoreError::UnknownToken)));
    let late = Enrolment { at: now() + SignedDuration::from_hours(1), ..enrolment(1, presented(10, "m")) };
    assert!(matches!(store.enrol(&late).await, Err(StoreError::TokenExpired)));
    assert_eq!(store.tokens().await.unwrap()[0].uses, 0, "a failure is no use");

    assert_eq!(store.enrol(&enrolment(1, presented(10, "m"))).await.unwrap(), tier("beta"));
    assert!(matches!(store.enrol(&enrolment(2, presented(11, "m"))).await, Err(StoreError::TokenExhausted)));
    store.enrol(&enrolment(1, presented(12, "m"))).await.unwrap();
    assert_eq!(store.tokens().await.unwrap()[0].uses, 1, "the same machine again");

    store.revoke_token("a", now()).await.unwrap();
    assert!(matches!(store.enrol(&enrolment(1, presented(13, "m"))).await, Err(StoreError::UnknownToken)));
}

async fn enrolling_again_replaces_the_machine_token(store: &impl Store) {
    store.create_token(&new_token("a")).await.unwrap();
    let (first, second) = (presented(10, "m1"), presented(11, "m2"));
    store.enrol(&enrolment(1, first.clone())).await.unwrap();
    assert_eq!(store.machine_of(&first).await.unwrap(), Some(machine(1)));
    assert_eq!(store.machine_of(&presented(10, "guess")).await.unwrap(), None);
    store.enrol(&enrolment(1, second.clone())).await.unwrap();
    assert_eq!(store.machine_of(&first).await.unwrap(), None);
    assert_eq!(store.machine_of(&second).await.unwrap(), Some(machine(1)));
    assert_eq!(store.machines().await.unwrap().len(), 1);
}

async fn a_machine_is_in_the_cohort_that_it_asked_for_last(store: &impl Store) {
    store.create_token(&NewToken { tier: tier("beta"), ..new_token("a") }).await.unwrap();
    let cohort = |text: &str| Some(Cohort::parse(text).unwrap());
    let cohorts = async || {
        let machines = store.machines().await.unwrap();
        machines.into_iter().map(|machine| machine.cohort).collect::<Vec<_>>()
    };
    let in_cohort =
        |byte, text| Enrolment { cohort: cohort(text), ..enrolment(byte, presented(10 + byte, "m")) };
    store.enrol(&in_cohort(1, "site-a")).await.unwrap();
    store.enrol(&enrolment(2, presented(12, "m"))).await.unwrap();
    assert_eq!(cohorts().await, [cohort("site-a"), None]);

    let (first, second) = (machine(1), machine(2));
    let changed = store.set_cohort(&first, &host(1), cohort("databases/1").as_ref()).await.unwrap();
    assert_eq!((changed, cohorts().await), (tier("beta"), vec![cohort("databases/1"), None]));
    for (machine, host) in [(&first, &host(2)), (&second, &host(1)), (&machine(3), &host(3))] {
        let refused = store.set_cohort(machine, host, cohort("x").as_ref()).await;
        assert!(matches!(refused, Err(StoreError::OtherHost)), "{refused:?}");
    }
    assert_eq!(cohorts().await, [cohort("databases/1"), None], "a refusal changes nothing");
    store.set_cohort(&first, &host(1), None).await.unwrap();
    assert_eq!(cohorts().await, [None, None]);
    // Who enrols again is in the cohort that it asks for then.
    store.enrol(&in_cohort(2, "site-b")).await.unwrap();
    assert_eq!(cohorts().await, [None, cohort("site-b")]);
}

async fn publishing_is_idempotent_and_never_changes_a_patch(store: &impl Store) {
    let one = patch("1.1", 1, b"one");
    assert_eq!(store.publish(&one).await.unwrap(), Published::New);
    let revision =
        async || store.document(&kernel(1).build_id, &tier("stable")).await.unwrap().unwrap().revision;
    let before = revision().await;
    assert_eq!(store.publish(&one).await.unwrap(), Published::Unchanged);
    assert_eq!(revision().await, before);
    let in_beta = NewPatch { tier: tier("beta"), ..one.clone() };
    assert_eq!(store.publish(&in_beta).await.unwrap(), Published::AddedToTier);
    assert!(revision().await > before);
    let before = revision().await;
    store.touch_documents().await.unwrap();
    assert!(revision().await > before);

    let other_module = store.publish(&patch("1.1", 1, b"two")).await;
    assert!(matches!(other_module, Err(StoreError::OtherPatch { difference: "another module", .. })));
    let mut other_manifest = one.clone();
    other_manifest.manifest_text.push(' ');
    let other_manifest = store.publish(&other_manifest).await;
    assert!(matches!(other_manifest, Err(StoreError::OtherPatch { difference: "another manifest", .. })));
    let mut renamed = patch("1.2", 1, b"three");
    renamed.manifest.kernel.release = KernelRelease::parse("6.1.0-x").unwrap();
    assert!(matches!(store.publish(&renamed).await, Err(StoreError::OtherRelease { .. })));

    let patches = store.patches().await.unwrap();
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].manifest, one.manifest);
    let tiers: Vec<_> = patches[0].releases.iter().map(|r| r.tier.as_str()).collect();
    assert_eq!(tiers, ["beta", "stable"]);
    assert_eq!(store.module_size_bytes(&sha256(b"one")).await.unwrap(), Some(3));
    assert_eq!(store.module_size_bytes(&sha256(b"two")).await.unwrap(), None);
}

async fn a_withdrawn_patch_is_gone_for_good(store: &impl Store) {
    for byte in [1, 2] {
        store.publish(&patch("1.1", byte, b"one")).await.unwrap();
    }
    assert!(matches!(store.withdraw(version("9.9"), now()).await, Err(StoreError::UnknownVersion(_))));
    assert_eq!(store.withdraw(version("1.1"), now()).await.unwrap(), [kernel(1), kernel(2)]);
    assert_eq!(store.withdraw(version("1.1"), now()).await.unwrap().len(), 2, "again");
    assert!(matches!(store.publish(&patch("1.1", 1, b"one")).await, Err(StoreError::Withdrawn(_))));
    assert!(matches!(store.publish(&patch("1.1", 3, b"new")).await, Err(StoreError::Withdrawn(_))));
    assert_eq!(store.module_size_bytes(&sha256(b"one")).await.unwrap(), None);
    assert_eq!(store.patches().await.unwrap()[0].withdrawn, Some(now()));
    let facts = store.document_facts(&kernel(1).build_id, &tier("stable")).await.unwrap().unwrap();
    assert_eq!((facts.target, facts.withdrawn), (None, vec![version("1.1")]));
    assert_eq!(store.kernels().await.unwrap()[0].targets, []);
}

async fn the_newest_patch_of_the_tier_is_the_target(store: &impl Store) {
    for text in ["2.1", "10.1", "9.1"] {
        store.publish(&patch(text, 1, text.as_bytes())).await.unwrap();
    }
    store.publish(&NewPatch { tier: tier("edge"), ..patch("11.1", 1, b"edge") }).await.unwrap();
    let target = async |name: &str| {
        let facts = store.document_facts(&kernel(1).build_id, &tier(name)).await.unwrap().unwrap();
        facts.target.map(|(manifest, _)| manifest.version.to_string())
    };
    assert_eq!(target("stable").await.as_deref(), Some("10.1"));
    assert_eq!(target("edge").await.as_deref(), Some("11.1"));
    assert_eq!(target("beta").await, None, "a known kernel without a patch in this tier");
    let targets = store.kernels().await.unwrap().remove(0).targets;
    assert_eq!(targets, [(tier("edge"), version("11.1")), (tier("stable"), version("10.1"))]);
    store.withdraw(version("10.1"), now()).await.unwrap();
    assert_eq!(target("stable").await.as_deref(), Some("9.1"));
}

async fn a_document_is_replaced_only_by_who_saw_the_latest(store: &impl Store) {
    store.publish(&patch("1.1", 1, b"one")).await.unwrap();
    let id = kernel(1).build_id;
    let state = store.document(&id, &tier("stable")).await.unwrap().unwrap();
    assert_eq!(state.stored, None);
    let first = StoredDocument {
        kernel: kernel(1),
        tier: tier("stable"),
        version: 1,
        revision: state.revision,
        content_sha256: sha256(b"content"),
        issued: now(),
        expires: now() + SignedDuration::from_hours(1),
        body: b"body".to_vec(),
    };
    assert!(store.save_document(&first, None).await.unwrap());
    assert!(!store.save_document(&first, None).await.unwrap(), "somebody was faster");
    let second = StoredDocument { version: 2, body: b"second".to_vec(), ..first.clone() };
    assert!(store.save_document(&second, Some(&first)).await.unwrap());
    assert!(!store.save_document(&first, Some(&first)).await.unwrap());
    let stored = store.document(&id, &tier("stable")).await.unwrap().unwrap().stored;
    assert_eq!(stored.as_ref(), Some(&second));
    assert_eq!(store.document_facts(&id, &tier("stable")).await.unwrap().unwrap().stored, stored);
}

async fn what_is_said_of_a_kernels_cover(store: &impl Store) {
    let coverage = Coverage { until: Some("2027-01-31".parse().unwrap()), ..Coverage::default() };
    let id = kernel(1).build_id;
    let unknown = store.set_coverage(&id, Some(&coverage)).await;
    assert!(matches!(unknown, Err(StoreError::UnknownKernel(_))));
    store.publish(&patch("1.1", 1, b"one")).await.unwrap();
    let facts = async || store.document_facts(&id, &tier("stable")).await.unwrap().unwrap();
    assert_eq!(facts().await.coverage, None);
    for said in [Some(&coverage), Some(&Coverage::default()), None] {
        let before = facts().await.revision;
        store.set_coverage(&id, said).await.unwrap();
        let now = facts().await;
        assert!(now.revision > before);
        assert_eq!(now.coverage.as_ref(), said);
        assert_eq!(store.kernels().await.unwrap()[0].coverage.as_ref(), said);
    }
}

async fn how_often_hosts_shall_ask(store: &impl Store) {
    let id = kernel(1).build_id;
    assert_eq!(store.poll_hint_seconds().await.unwrap(), None);
    // It may be said before there is anything to speak of.
    store.set_poll_hint(Some(600)).await.unwrap();
    store.publish(&patch("1.1", 1, b"one")).await.unwrap();
    let facts = async || store.document_facts(&id, &tier("stable")).await.unwrap().unwrap();
    assert_eq!(facts().await.poll_hint_seconds, Some(600));
    for said in [Some(60), Some(u32::MAX), None] {
        let before = facts().await.revision;
        store.set_poll_hint(said).await.unwrap();
        let now = facts().await;
        assert!(now.revision > before, "documents are signed anew");
        assert_eq!((now.poll_hint_seconds, store.poll_hint_seconds().await.unwrap()), (said, said));
    }
}

async fn an_unknown_tier_is_refused_everywhere(store: &impl Store) {
    let names: Vec<_> = store.tiers().await.unwrap().iter().map(Tier::to_string).collect();
    assert_eq!(names, ["edge", "beta", "candidate", "stable"]);
    let token = NewToken { tier: tier("stabel"), ..new_token("a") };
    assert!(matches!(store.create_token(&token).await, Err(StoreError::UnknownTier { .. })));
    let typo = NewPatch { tier: tier("stabel"), ..patch("1.1", 1, b"one") };
    assert!(matches!(store.publish(&typo).await, Err(StoreError::UnknownTier { .. })));
    assert_eq!(store.patches().await.unwrap(), [], "nothing half-written");
    assert_eq!(store.kernels().await.unwrap(), []);
    store.publish(&patch("1.1", 1, b"one")).await.unwrap();
    assert_eq!(store.document(&kernel(1).build_id, &tier("stabel")).await.unwrap(), None);
    assert_eq!(store.document(&kernel(2).build_id, &tier("stable")).await.unwrap(), None);
}
