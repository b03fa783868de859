use livepatch_transparency::{KeyPurpose, Subtree};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::*;
use crate::stories;

async fn raw(path: &std::path::Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    SqlitePool::connect_with(options).await.unwrap()
}

fn key(number: u64) -> KeyEvent {
    let name = "a".to_owned();
    KeyEvent {
        purpose: KeyPurpose::OperatorRoot,
        name,
        version: number,
        sha256: sha256(&number.to_be_bytes()),
    }
}

#[tokio::test]
async fn the_log_only_grows_and_nothing_happens_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::create(&path).await.unwrap();
    store.log_key(&key(1), Timestamp::UNIX_EPOCH).await.unwrap();
    store.save_head(&SignedHead { size: 1, root: sha256(b""), note: "note".into() }).await.unwrap();
    let raw = raw(&path).await;
    for (statement, message) in [
        ("UPDATE log_entries SET entry = x'00'", "the log only grows"),
        ("DELETE FROM log_entries", "the log only grows"),
        ("UPDATE log_hashes SET sha256 = zeroblob(32)", "the log only grows"),
        ("DELETE FROM log_hashes", "the log only grows"),
        ("UPDATE log_heads SET size = 2", "the log only grows"),
        ("DELETE FROM log_heads", "the log only grows"),
        ("INSERT INTO withdrawn (major, minor, at) VALUES (1, 1, 0)", "a withdrawal needs an entry in the log"),
        ("INSERT INTO withdrawn (major, minor, at, log_position) VALUES (1, 1, 0, 9)", "FOREIGN KEY"),
        ("INSERT INTO channels (tier, patch_id, released) VALUES ('beta', 1, 0)", "a release needs an entry"),
        ("INSERT INTO keys SELECT NULL, 'x', name, version, sha256, believed, NULL FROM keys", "a key needs an entry"),
        ("INSERT INTO keys SELECT NULL, 'x', name, version, sha256, believed, 0 FROM keys", "UNIQUE"),
        (
            "INSERT INTO patches (major, minor, build_id, module_sha256, module_size_bytes, manifest, signature, published)
             VALUES (1, 1, '', '', 1, '', x'', 1)",
            "a patch needs an entry in the log",
        ),
    ] {
        let error = query(statement).execute(&raw).await.unwrap_err().to_string();
        assert!(error.contains(message), "{statement}: {error}");
    }
    assert_eq!(store.log_size().await.unwrap(), 1);
}

#[tokio::test]
async fn events_from_before_there_was_a_log_get_their_entries_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let before = raw(&path).await;
    Migrator::with_migrations(super::super::migrations()[..1].to_vec()).run(&before).await.unwrap();
    let kernel = stories::kernel(1);
    query("INSERT INTO kernels (build_id, architecture, release) VALUES (?, 'amd64', ?)")
        .bind(kernel.build_id.to_string())
        .bind(kernel.release.as_str())
        .execute(&before)
        .await
        .unwrap();
    for (id, minor, published) in [(1, 2, 20), (2, 1, 10)] {
        query(
            "INSERT INTO patches (id, major, minor, build_id, module_sha256, module_size_bytes, manifest, signature, published)
             VALUES (?, 1, ?, ?, ?, 3, 'manifest', x'00', ?)",
        )
        .bind(id)
        .bind(minor)
        .bind(kernel.build_id.to_string())
        .bind(sha256(&[minor as u8]).to_string())
        .bind(published)
        .execute(&before)
        .await
        .unwrap();
    }
    query("INSERT INTO channels (tier, patch_id, released) VALUES ('stable', 1, 20), ('edge', 2, 10)")
        .execute(&before)
        .await
        .unwrap();
    query("INSERT INTO withdrawn (major, minor, at) VALUES (1, 1, 30)").execute(&before).await.unwrap();
    before.close().await;

    for _ in 0..2 {
        let store = SqliteStore::open(&path).await.unwrap();
        let entries = store.log_entries(0..100).await.unwrap();
        let said: Vec<_> = entries
            .iter()
            .map(|entry| {
                let value: serde_json::Value = serde_json::from_slice(entry).unwrap();
                format!("{} {}", value["event"].as_str().unwrap(), value["version"].as_str().unwrap())
            })
            .collect();
        assert_eq!(said, ["bundle 1.1", "bundle 1.2", "release 1.1", "release 1.2", "withdrawal 1.1"]);
        let events: Vec<_> = (0..).zip(entries.iter().map(|bytes| Entry::parse(bytes).unwrap())).collect();
        assert_eq!(store.logged_events().await.unwrap(), events);
        store.close().await;
    }
}

/// Beyond a tile: hashes of height 8 are what tiles of level 1 have.
#[tokio::test]
async fn the_tree_is_stored_as_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::create(&directory.path().join("store.sqlite")).await.unwrap();
    let mut frontier = Frontier::default();
    let mut expected = Vec::new();
    for number in 0..260 {
        store.log_key(&key(number), Timestamp::UNIX_EPOCH).await.unwrap();
        let entry = store.log_entries(number..number + 1).await.unwrap().remove(0);
        expected.extend(frontier.append(leaf_hash(&entry)));
    }
    for (Subtree { height, index }, hash) in expected {
        assert_eq!(store.log_hashes(height, index..index + 1).await.unwrap(), [hash], "{height} {index}");
    }
    assert_eq!(store.log_hashes(8, 0..9).await.unwrap().len(), 1);
}
