//! What the agent takes from a server, and what it does not.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_agent::Reach;
use livepatch_kernel::LoadedModule;
use livepatch_types::{BuildId, CheckState, ModuleName, PatchState, Redacted};

use crate::support::*;

#[tokio::test]
async fn the_happy_path() {
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let host = Host::new(&site);
    let agent = host.enabled().await;
    let status = agent.status();
    assert_eq!(status.problem, None);
    assert!(status.enabled);
    assert_eq!((status.check.state, status.patch.state), (CheckState::Checked, PatchState::Applied));
    assert_eq!(status.patch.version, Some(version("1.1")));
    assert_eq!(status.patch.applied_at, Some(NOW.parse().unwrap()));
    let patched: Vec<bool> = status.patch.cves.iter().map(|cve| cve.patched).collect();
    assert_eq!(patched, [true, false], "a partial fix does not count");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);

    // Nothing new: one conditional request, and nothing is loaded again.
    site.asked();
    agent.refresh().await.unwrap();
    let asked = site.asked();
    assert_eq!(asked, [format!("document stable {}", kernel(1).build_id), "304".into()]);
    assert_eq!(host.kernel.loads().len(), 1);

    // Another version replaces it, and the old module goes.
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    agent.round(Reach::Server).await.unwrap();
    assert_eq!(
        (host.livepatches(), host.modules()),
        (vec!["livepatch_1_2".into()], vec!["livepatch_1_2".into()])
    );

    // The operator goes back, with a newer document.
    site.publish(&document(&kernel(1), 3, Some(site.target("1.1", &kernel(1)))));
    agent.refresh().await.unwrap();
    assert_eq!(host.modules(), ["livepatch_1_1"]);
    let cached = std::fs::read_dir(host.path().join("loader/objects")).unwrap().count();
    assert_eq!(cached, 1, "what is not needed leaves the cache");

    let reported = async {
        while site.shelf.lock().unwrap().reports.iter().all(|r| r.patch_state != PatchState::Applied) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, reported).await.unwrap();
}

/// Everything that a server can do wrong: nothing reaches the kernel, and the status says what.
#[tokio::test]
async fn what_is_refused() {
    let (k1, k2) = (kernel(1), kernel(2));
    let site = Site::new().await;
    let good = module(&info("1.1", &k1));
    let signed = VENDOR.sign(&good);
    let changed_info = |key: &'static str, value: &str| {
        let mut changed = info("1.1", &k1);
        changed.insert(key, value.into());
        site.target_of("1.1", &VENDOR.sign(&module(&changed)))
    };
    let mut tampered = signed.clone();
    let at = good.windows(7).position(|bytes| bytes == b"preempt").unwrap();
    tampered[at] ^= 1;
    let served_instead = |bytes: &[u8]| {
        let target = site.target_of("1.1", &signed);
        site.shelf.lock().unwrap().objects.insert(target.module.sha256.to_string(), bytes.to_vec());
        target
    };
    let cases = [
        ("wrong-signer", site.target_of("1.1", &STRANGER.sign(&good))),
        ("unsigned-module", site.target_of("1.1", &good)),
        ("tampered-module", site.target_of("1.1", &tampered)),
        ("wrong-kernel", changed_info("livepatch_kernel_build_id", &k2.build_id.to_string())),
        ("wrong-kernel", changed_info("livepatch_kernel_release", "6.1.0-51-cloud-amd64")),
        ("wrong-kernel", changed_info("vermagic", "6.1.0-50-cloud-amd64-x SMP")),
        ("wrong-module", changed_info("name", "livepatch_1_2")),
        ("wrong-module", changed_info("livepatch_version", "1.2")),
        ("wrong-module", changed_info("livepatch", "N")),
        ("wrong-module", changed_info("livepatch_object", "cls_u32")),
        (
            "wrong-module",
            changed_info("livepatch_object", "../cls_u32 00112233445566778899aabbccddeeff00112233"),
        ),
    ];
    for (expected, target) in cases {
        let host = Host::new(&site);
        site.publish(&document(&k1, 1, Some(target)));
        let agent = host.enabled().await;
        assert_eq!(code(agent.refresh().await), expected);
        let status = agent.status();
        assert_eq!(status.problem.unwrap().code, expected);
        assert_eq!(status.patch.state, PatchState::ApplyFailed);
        assert_eq!(host.kernel.loads(), [], "{expected}");
    }
    let mut longer = signed.clone();
    longer.push(0);
    let downloads = [
        ("tampered-module", &tampered[..]),
        ("truncated-module", &signed[..99]),
        ("oversized-module", &longer),
    ];
    for (expected, bytes) in downloads {
        let host = Host::new(&site);
        site.publish(&document(&k1, 1, Some(served_instead(bytes))));
        let agent = host.enabled().await;
        assert_eq!(code(agent.refresh().await), expected);
        assert_eq!(host.kernel.loads(), [], "{expected}");
        // The server mends it.
        site.publish(&document(&k1, 1, Some(site.target_of("1.1", &signed))));
        assert_eq!(code(agent.refresh().await), "ok");
        assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    }
}

#[tokio::test]
async fn documents_that_are_refused_change_nothing() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&k1, 5, Some(site.target("1.1", &k1))));
    let agent = host.enabled().await;
    let next = document(&k1, 6, Some(site.target("1.2", &k1)));
    let mut other_tier = next.clone();
    other_tier.channel = livepatch_types::Tier::parse("edge").unwrap();
    let mut critical = next.clone();
    critical.critical = vec!["waves".into()];
    let cases = [
        ("document-wrong-kernel", document(&kernel(2), 6, next.target.clone())),
        ("document-wrong-channel", other_tier),
        ("document-too-new", critical),
        ("document-rollback", document(&k1, 4, next.target.clone())),
    ];
    for (expected, wrong) in cases {
        site.publish(&wrong);
        assert_eq!(code(agent.refresh().await), expected);
        let status = agent.status();
        assert_eq!((status.check.state, status.patch.state), (CheckState::CheckFailed, PatchState::Applied));
        assert_eq!(status.problem.unwrap().code, expected);
        assert_eq!(status.check.document_version, Some(5));
    }
    site.publish_signed(&next, &Ed25519KeyPair::generate().unwrap());
    assert_eq!(code(agent.refresh().await), "document-wrong-signer");
    site.shelf.lock().unwrap().document = Some(b"<html>".to_vec());
    assert_eq!(code(agent.refresh().await), "document-malformed");
    assert_eq!(host.kernel.loads().len(), 1);
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);

    // An expired one installs nothing new; what runs stays.
    site.publish(&next);
    host.at("2026-12-02T00:00:00Z");
    assert_eq!(code(agent.refresh().await), "document-expired");
    // Stale is stale, even if it asks for what runs.
    site.publish(&document(&k1, 5, Some(site.target("1.1", &k1))));
    assert_eq!(code(agent.refresh().await), "document-expired");
    assert_eq!(agent.status().check.state, CheckState::CheckFailed);
    site.publish(&next);
    host.at("1970-01-01T00:00:00Z");
    assert_eq!(code(agent.refresh().await), "document-not-yet-valid");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    host.at(NOW);
    assert_eq!(code(agent.refresh().await), "ok");
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
}

#[tokio::test]
async fn a_withdrawn_livepatch_goes_and_does_not_come_back() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&k1, 1, Some(site.target("1.1", &k1))));
    let agent = host.enabled().await;
    let mut withdrawal = document(&k1, 2, None);
    withdrawal.withdrawn = vec![version("1.1")];
    site.publish(&withdrawal);
    agent.refresh().await.unwrap();
    assert_eq!((host.livepatches(), host.modules()), (vec![], vec![]));
    assert_eq!(agent.status().patch.state, PatchState::NothingToApply);
    site.publish(&document(&k1, 3, Some(site.target("1.1", &k1))));
    assert_eq!(code(agent.refresh().await), "withdrawn-livepatch");
    assert_eq!(host.livepatches(), [""; 0]);

    // A replacement that cannot be had does not keep the withdrawn one alive.
    site.publish(&document(&k1, 4, Some(site.target("1.2", &k1))));
    agent.refresh().await.unwrap();
    let mut replaced = document(&k1, 5, Some(site.target_of("1.3", &STRANGER.sign(b"x"))));
    replaced.withdrawn = vec![version("1.2")];
    site.publish(&replaced);
    assert_eq!(code(agent.refresh().await), "wrong-signer");
    assert_eq!((host.livepatches(), host.modules()), (vec![], vec![]));
}

#[tokio::test]
async fn a_kernel_that_the_server_does_not_know() {
    let site = Site::new().await;
    let host = Host::new(&site);
    let agent = host.enabled().await;
    assert_eq!(code(agent.refresh().await), "ok", "it is an answer, not a failure");
    let status = agent.status();
    assert_eq!((status.check.state, status.patch.state), (CheckState::Checked, PatchState::NothingToApply));
    assert_eq!(status.problem.unwrap().code, "kernel-not-covered");
}

#[tokio::test]
async fn a_server_that_is_down() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&k1, 1, Some(site.target("1.1", &k1))));
    let agent = host.enabled().await;
    site.down();
    let unreachable = async {
        while code(agent.refresh().await) != "server-unreachable" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, unreachable).await.unwrap();
    let status = agent.status();
    assert_eq!((status.check.state, status.patch.state), (CheckState::CheckFailed, PatchState::Applied));
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

#[tokio::test]
async fn enrolment() {
    let site = Site::new().await;
    let host = Host::new(&site);
    let agent = host.agent();
    assert_eq!(code(agent.refresh().await), "not-enabled");
    for (token, expected) in [
        ("wrong", "unknown-token"),
        ("token-expired", "token-expired"),
        ("token-exhausted", "token-exhausted"),
        ("internal", "server-failed"),
    ] {
        assert_eq!(code(agent.enable(Redacted::new(token.into())).await), expected);
    }
    assert!(!agent.status().enabled);
    agent.enable(Redacted::new(TOKEN.into())).await.unwrap();
    assert_eq!(code(agent.enable(Redacted::new(TOKEN.into())).await), "already-enabled");
    assert!(site.asked().contains(&format!("enroll {}", "ab".repeat(32))));
    agent.disable().await.unwrap();
    let state = host.path().join("state/state.json");
    assert!(!std::fs::read_to_string(state).unwrap().contains("machine-token"));
    assert_eq!(code(agent.disable().await), "not-enabled");
    // Without the pinned keys the token is not spent.
    let vendor = std::fs::read(host.path().join("vendor.pem")).unwrap();
    std::fs::remove_file(host.path().join("vendor.pem")).unwrap();
    assert_eq!(code(host.agent().enable(Redacted::new(TOKEN.into())).await), "trust-missing");
    // Those that came with the package will do.
    std::fs::create_dir(host.path().join("keys")).unwrap();
    std::fs::write(host.path().join("keys/vendor.pem"), vendor).unwrap();
    host.agent().enable(Redacted::new(TOKEN.into())).await.unwrap();
}

/// The kernel finds modules by name: a namesake of what a livepatch patches keeps it away.
#[tokio::test]
async fn modules_must_be_those_that_the_livepatch_is_for() {
    let site = Site::new().await;
    let (ours, other) = (BuildId::from_bytes(&[2; 20]).unwrap(), BuildId::from_bytes(&[3; 20]).unwrap());
    let mut info = info("1.1", &kernel(1));
    info.insert("livepatch_object", format!("cls_u32 {ours}"));
    site.publish(&document(&kernel(1), 1, Some(site.target_of("1.1", &VENDOR.sign(&module(&info))))));
    let named = |name| ModuleName::parse(name).unwrap();
    let (shipped, built) = ("kernel/net/sched/cls_u32.ko", "updates/dkms/cls_u32.ko");
    for (build_id, file, expected) in [
        (Some(&ours), Some(shipped), "ok"),
        // What is loaded counts, not what would be.
        (Some(&ours), Some(built), "ok"),
        (Some(&other), Some(shipped), "foreign-module"),
        (None, Some(built), "foreign-module"),
        (None, Some(shipped), "ok"),
        (None, None, "ok"),
    ] {
        let host = Host::new(&site);
        let loaded = LoadedModule { name: named("cls_u32"), build_id: build_id.cloned() };
        let stranger = LoadedModule { name: named("veth"), build_id: Some(other.clone()) };
        host.kernel.set_modules(vec![(loaded, file.map(str::to_owned)), (stranger, None)]);
        let agent = host.enabled().await;
        assert_eq!(code(agent.refresh().await), expected, "{build_id:?} {file:?}");
        let expected = if expected == "ok" { 1 } else { 0 };
        assert_eq!(host.kernel.loads().len(), expected, "{build_id:?} {file:?}");
    }
}

/// How old it is what is known is told by the last check that succeeded, whatever was tried since, and after a restart.
#[tokio::test]
async fn a_month_without_a_server_is_seen_as_a_month() {
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let daemons = host.enabled().await;
    let check = daemons.status().check;
    assert_eq!((check.at, check.attempted_at), (NOW.parse().ok(), NOW.parse().ok()));

    host.at("2026-12-24T12:00:00Z");
    let later = "2026-12-24T12:00:00Z".parse().ok();
    site.shelf.lock().unwrap().trouble = Some((503, None, ""));
    assert_eq!(code(daemons.refresh().await), "server-failed");
    let check = daemons.status().check;
    assert_eq!(
        (check.state, check.at, check.attempted_at),
        (CheckState::CheckFailed, NOW.parse().ok(), later)
    );
    let machine = livepatch_api::legacy::Machine::parse(&livepatch_kernel::machine_texts());
    let legacy = livepatch_api::legacy::LegacyStatus::new(&daemons.status(), &machine).unwrap();
    assert_eq!(Some(legacy.last_check), NOW.parse().ok());
    assert!(livepatch_api::metrics(&daemons.status()).contains(&format!(
        "\nlivepatch_last_check_timestamp_seconds {}\n",
        NOW.parse::<jiff::Timestamp>().unwrap().as_second()
    )));

    let daemons = host.agent();
    daemons.start().await.unwrap();
    let check = daemons.status().check;
    assert_eq!((check.state, check.at, check.attempted_at), (CheckState::NeedsCheck, NOW.parse().ok(), None));

    // What was known of one fleet is not known of the next.
    daemons.disable().await.unwrap();
    assert_eq!(daemons.status().check.at, None);
    assert_eq!(host.agent().status().check.at, None);
}
