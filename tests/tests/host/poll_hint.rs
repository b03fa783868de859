//! How often a host asks, as the daemon tells its service manager: the operator's signed hint shortens it, and nobody else's
//! word does.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_manifest::KernelDocument;
use serde_json::Value;

use crate::support::*;

const CASE: &str = "LIVEPATCH_TEST_POLL_HINT";
const BOUND: Duration = Duration::from_secs(120);

/// A daemon in a process of its own, which ends with this value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the daemon of this case says of itself when it begins to wait: how the host is, and in how many minutes it asks next.
fn waits(case: &str) -> (String, u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let service_manager = UnixDatagram::bind(&path).unwrap();
    service_manager.set_read_timeout(Some(BOUND)).unwrap();
    let daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "poll_hint::daemon", "--ignored", "--nocapture"])
        .env(CASE, case)
        .env("NOTIFY_SOCKET", &path)
        .spawn();
    let _daemon = Daemon(daemon.unwrap());
    let mut buffer = [0; 4096];
    loop {
        let length = service_manager.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let Some(status) = text.lines().find_map(|line| line.strip_prefix("STATUS=")) else { continue };
        let (state, minutes) = status.split_once("; next check in ").unwrap();
        return (state.to_owned(), minutes.strip_suffix(" min").unwrap().parse().unwrap());
    }
}

/// A document with this hint, which asks for what is there.
fn hinting(site: &Site, number: u64, seconds: Option<u32>) -> KernelDocument {
    let target = site.target("1.1", &kernel(1));
    KernelDocument { poll_hint_seconds: seconds, ..document(&kernel(1), number, Some(target)) }
}

/// The envelope of a document, after something was done to it.
fn changed(document: &KernelDocument, key: &Ed25519KeyPair, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope: Value = serde_json::from_slice(&sign_document(document, key)).unwrap();
    change(&mut envelope);
    envelope.to_string().into_bytes()
}

/// Runs until it is killed.
#[tokio::test]
#[ignore = "runs in a child of the tests below, with a service manager to talk to"]
async fn daemon() {
    let case = std::env::var(CASE).unwrap();
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&hinting(&site, 1, case.parse().ok()));
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    if case == "unsigned" {
        // The operator's signature of the document without the hint, the hint beside what is signed, a stranger's signature.
        let good = hinting(&site, 2, None);
        let hinted = hinting(&site, 2, Some(60));
        let of_hinted: Value = serde_json::from_slice(&sign_document(&hinted, &site.operator)).unwrap();
        let stranger = Ed25519KeyPair::generate().unwrap();
        for (envelope, expected) in [
            (
                changed(&good, &site.operator, |envelope| envelope["payload"] = of_hinted["payload"].clone()),
                "document-tampered",
            ),
            (
                changed(&good, &site.operator, |envelope| envelope["poll_hint_seconds"] = 60.into()),
                "document-malformed",
            ),
            (sign_document(&hinted, &stranger), "document-wrong-signer"),
        ] {
            site.shelf.lock().unwrap().document = Some(envelope);
            assert_eq!(code(daemons.refresh().await), expected);
        }
        // And what HTTP says of time, with the answer that nothing is new.
        site.shelf.lock().unwrap().trouble = Some((304, Some("60"), ""));
    }
    livepatch_agent::run(Arc::clone(&daemons.agent), host.path()).await.unwrap();
}

/// Up to a tenth is added to each wait, and what is told is whole minutes that have begun.
#[test]
fn the_operators_hint_shortens_the_wait() {
    let rows = [
        ("none", 60..=66),
        ("600", 10..=11),
        // Not below a minute, and never longer than by itself.
        ("1", 1..=2),
        ("7200", 60..=66),
    ];
    for (hint, expected) in rows {
        let (state, minutes) = waits(hint);
        assert_eq!(state, "livepatch 1.1 is applied", "{hint}");
        assert!(expected.contains(&minutes), "{hint}: {minutes}");
    }
}

#[test]
fn attack_poll_hint_that_nobody_signed() {
    // The same hint, signed, counts.
    let (_, minutes) = waits("60");
    assert!((1..=2).contains(&minutes), "{minutes}");
    let (state, minutes) = waits("unsigned");
    assert_eq!(state, "livepatch 1.1 is applied");
    assert!((60..=66).contains(&minutes), "{minutes}");
}
