//! A server that lies to who watches its log, and a data directory that somebody changed. Each shows first that the same
//! thing, not attacked, is right. More attacks, on the bytes themselves, are in `livepatch-transparency`.

use std::process::Output;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use livepatch_server::OperatorKey;
use livepatch_store::stories::change_database;
use livepatch_transparency::*;

use crate::support::*;

/// Routes that answer with other bytes at paths that begin like this.
fn lying(
    path: &'static str,
    change: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> impl FnOnce(axum::Router) -> axum::Router {
    move |router| {
        router.layer(from_fn(move |request: Request, next: Next| {
            let (attacked, change) = (request.uri().path().starts_with(path), change.clone());
            async move {
                let answer = next.run(request).await;
                if !attacked {
                    return answer;
                }
                let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec();
                Response::new(Body::from(change(bytes)))
            }
        }))
    }
}

/// A site with six entries, and somebody who remembers its head.
async fn watched() -> Site {
    let site = Site::new();
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"one"), &[]);
    site.publish(&VENDOR.bundle("1.2", &kernel(), b"two"), &[]);
    let server = site.serve().await;
    assert!(site.watch(&server, "state").await.status.success());
    site
}

fn refused(site: &Site, output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(words), "{words:?} is not in {text}");
    assert!(text.contains("\nhint: "), "{text}");
    assert_eq!(output.stdout, b"", "nothing of it is shown");
    let kept = std::fs::read(site.directory.path().join("state")).unwrap();
    assert_eq!(
        RememberedHead::open(&kept, &site.log_key()).unwrap().checkpoint().size,
        6,
        "and nothing kept"
    );
}

fn head(site: &Site, size: u64, root: &[u8]) -> Vec<u8> {
    let key = OperatorKey::read(&site.data().join("operator.key")).unwrap();
    let origin = site.log_key().name().to_owned();
    let checkpoint = Checkpoint { origin, size, root: leaf_hash(root) };
    key.sign_head(&checkpoint, &site.log_key()).into_bytes()
}

#[tokio::test]
async fn attack_split_view_by_the_operator() {
    let site = watched().await;
    let forged = head(&site, 6, b"other entries");
    let server = site.serve_changed(lying("/checkpoint", move |_| forged.clone())).await;
    let output = site.watch(&server, "state").await;
    refused(&site, &output, "the log shows another head for its 6 entries");
    let evidence = std::fs::read(site.directory.path().join("state.contradiction")).unwrap();
    assert_eq!(RememberedHead::open(&evidence, &site.log_key()).unwrap().checkpoint().size, 6);
}

#[tokio::test]
async fn attack_log_shrinks() {
    let site = watched().await;
    let forged = head(&site, 5, b"");
    let server = site.serve_changed(lying("/checkpoint", move |_| forged.clone())).await;
    refused(
        &site,
        &site.watch(&server, "state").await,
        "the log has 5 entries, fewer than the 6 seen before",
    );
}

#[tokio::test]
async fn attack_log_rewritten() {
    let site = watched().await;
    site.publish(&VENDOR.bundle("1.3", &kernel(), b"three"), &[]);
    let forged = head(&site, 8, b"another tree");
    let server = site.serve_changed(lying("/checkpoint", move |_| forged.clone())).await;
    refused(&site, &site.watch(&server, "state").await, "did not grow out of the one of 6 seen before");
}

#[tokio::test]
async fn attack_checkpoint_of_another_key_or_log() {
    let site = watched().await;
    let other = Site::new();
    let key = OperatorKey::read(&other.data().join("operator.key")).unwrap();
    let checkpoint = Checkpoint { origin: site.log_key().name().to_owned(), size: 6, root: leaf_hash(b"") };
    let forged =
        key.sign_head(&checkpoint, &LogKey::new(&checkpoint.origin, *other.operator().as_bytes()).unwrap());
    let server = site.serve_changed(lying("/checkpoint", move |_| forged.clone().into_bytes())).await;
    refused(&site, &site.watch(&server, "state").await, "the checkpoint is not signed by the key of");
    let own = OperatorKey::read(&site.data().join("operator.key")).unwrap();
    let checkpoint = Checkpoint { origin: "another/log".into(), ..checkpoint };
    let forged = own.sign_head(&checkpoint, &site.log_key());
    let server = site.serve_changed(lying("/checkpoint", move |_| forged.clone().into_bytes())).await;
    refused(&site, &site.watch(&server, "state").await, "the checkpoint is of the log another/log, not of");
}

#[tokio::test]
async fn attack_entry_or_tile_changed_on_the_way() {
    let site = watched().await;
    site.publish(&VENDOR.bundle("1.3", &kernel(), b"three"), &[]);
    let flip = |mut bytes: Vec<u8>| {
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        bytes
    };
    let server = site.serve_changed(lying("/tile/entries/", flip)).await;
    refused(&site, &site.watch(&server, "state").await, "did not grow out of the one of 6 seen before");
    let server = site.serve_changed(lying("/tile/0/", flip)).await;
    refused(&site, &site.watch(&server, "state").await, "did not grow out of the one of 6 seen before");
    let server = site.serve().await;
    assert!(site.watch(&server, "state").await.status.success());
}

#[tokio::test]
async fn attack_tile_too_short_or_too_long() {
    let site = watched().await;
    site.publish(&VENDOR.bundle("1.3", &kernel(), b"three"), &[]);
    let server = site.serve_changed(lying("/tile/0/", |bytes| bytes[1..].to_vec())).await;
    refused(&site, &site.watch(&server, "state").await, "tile/0/000.p/8 has 255 bytes where 256 are right");
    let server = site.serve_changed(lying("/tile/0/", |bytes| [bytes, vec![0]].concat())).await;
    refused(&site, &site.watch(&server, "state").await, "answers more than 256 bytes");
    let server = site.serve_changed(lying("/tile/entries/", |bytes| [bytes, vec![0]].concat())).await;
    refused(&site, &site.watch(&server, "state").await, "it has more bytes than its entries");
    let server =
        site.serve_changed(lying("/checkpoint", |bytes| [bytes, vec![b'a'; MAX_NOTE_BYTES]].concat())).await;
    refused(&site, &site.watch(&server, "state").await, "answers more than 131072 bytes");
    let server = site.serve().await;
    assert!(site.watch(&server, "state").await.status.success());
}

/// Whoever can write the database can switch its triggers off. What they cannot do is keep `log verify` quiet.
#[tokio::test]
async fn attack_database_changed() {
    let changes = [
        (
            r#"UPDATE log_entries SET entry = CAST(replace(entry, '"1.1"', '"9.9"') AS BLOB)"#,
            "entry 2 says something else",
        ),
        ("DELETE FROM log_entries WHERE position = 5", "has an event whose entry 5 is not there"),
        (
            "UPDATE log_hashes SET sha256 = zeroblob(32) WHERE height = 1",
            "of height 1 are not those of the entries",
        ),
        (
            "UPDATE patches SET module_sha256 = lower(hex(zeroblob(32))) WHERE minor = 1",
            "says something else",
        ),
        (
            "UPDATE channels SET tier = 'beta' WHERE log_position = 3",
            "entry 3 says something else than the database",
        ),
        ("DELETE FROM channels WHERE log_position = 5", "entry 5 is about something that the database lacks"),
        (
            "UPDATE log_heads SET root = lower(hex(zeroblob(32)))",
            "the head that was signed for 6 entries is not theirs",
        ),
        ("DELETE FROM keys WHERE log_position = 1", "entry 1 is about something that the database lacks"),
    ];
    for (statement, words) in changes {
        let site = watched().await;
        site.good(&["log", "verify"]);
        change_database(&site.data().join("server.sqlite"), statement).await;
        let output = site.run(&["log", "verify"]);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(3), "{statement}: {said}");
        assert!(said.contains(words), "{statement}: {said}");
    }
}

#[tokio::test]
async fn attack_key_believed_without_an_entry() {
    let site = watched().await;
    site.good(&["log", "verify"]);
    let der = Vendor::new("Mallory").certificate.to_der().unwrap();
    std::fs::write(site.data().join("vendors/mallory.der"), der).unwrap();
    let output = site.run(&["log", "verify"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.starts_with("vendor-certificate ") && said.contains("the log does not say so"), "{said}");
}

/// A log that was cut off, as by a backup that was restored, is not signed again.
#[tokio::test]
async fn attack_server_signs_no_second_history() {
    let site = watched().await;
    change_database(&site.data().join("server.sqlite"), "DELETE FROM log_hashes WHERE position = 5 OR (height = 1 AND position = 2); DELETE FROM channels WHERE log_position = 5; DELETE FROM log_entries WHERE position = 5").await;
    let server = site.serve().await;
    assert_eq!(server.get("/checkpoint").await.status(), 500);
    let output = site.run(&["log", "verify"]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("a head of 6 entries was signed, and the log has fewer")
    );
}
