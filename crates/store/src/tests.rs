use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;

use livepatch_manifest::sha256;

use crate::*;

#[tokio::test]
async fn sqlite_passes_every_story() {
    let directory = tempfile::tempdir().unwrap();
    let count = Cell::new(0);
    stories::all(async || {
        count.set(count.get() + 1);
        SqliteStore::create(&directory.path().join(format!("{}.sqlite", count.get()))).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_database_opens_again_and_by_two_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Missing(_))));
    let one = SqliteStore::create(&path).await.unwrap();
    let two = SqliteStore::open(&path).await.unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    for (number, store) in [&one, &two, &one].into_iter().enumerate() {
        let token = NewToken {
            token: PresentedToken {
                id: TokenId::parse(&format!("{number:016x}")).unwrap(),
                sha256: sha256(b"x"),
            },
            name: format!("token {number}"),
            tier: Tier::parse("edge").unwrap(),
            created: now,
            expires: None,
            use_limit: None,
        };
        store.create_token(&token).await.unwrap();
    }
    assert_eq!(one.tokens().await.unwrap(), two.tokens().await.unwrap());
    one.close().await;
    two.close().await;
    assert_eq!(SqliteStore::open(&path).await.unwrap().tokens().await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_not_a_database_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    std::fs::write(&path, "this is not a database, but it is long enough to look like one").unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Database(_))));
}

#[test]
fn an_object_is_stored_once_and_checked_when_read() {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectStore::new(directory.path());
    let name = objects.put(b"module").unwrap();
    assert_eq!(name, sha256(b"module"));
    assert_eq!(objects.put(b"module").unwrap(), name);
    assert_eq!(objects.get(&name).unwrap().unwrap(), b"module");
    assert_eq!(objects.get(&sha256(b"other")).unwrap(), None);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
    let mode = std::fs::metadata(objects.path(&name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);

    for damaged in [b"modulo".as_slice(), b"modul", b""] {
        std::fs::write(objects.path(&name), damaged).unwrap();
        assert!(matches!(objects.get(&name), Err(ObjectError::Damaged { .. })));
        assert!(matches!(objects.put(b"module"), Err(ObjectError::Damaged { .. })), "not written again");
        assert_eq!(std::fs::read(objects.path(&name)).unwrap(), damaged);
    }
    let huge = std::fs::File::create(objects.path(&name)).unwrap();
    huge.set_len(livepatch_manifest::bundle::MAX_MODULE_BYTES + 1).unwrap();
    assert!(matches!(objects.get(&name), Err(ObjectError::TooLarge(_))));
}

/// Whoever holds the machine token of one that an earlier version enrolled cannot make the operator sign for any id.
#[tokio::test]
async fn a_machine_of_before_the_cohorts_enrols_again_to_be_in_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::create(&path).await.unwrap();
    stories::with_a_report(&store).await;
    store.close().await;
    stories::change_database(&path, "UPDATE machines SET host = NULL;").await;
    let store = SqliteStore::open(&path).await.unwrap();
    let machine = store.machines().await.unwrap().remove(0);
    assert_eq!(machine.cohort, None);
    let cohort = Cohort::parse("site-berlin").unwrap();
    let refused = store.set_cohort(&machine.machine, &HostId::from_bytes([1; 16]), Some(&cohort)).await;
    assert!(matches!(refused, Err(StoreError::OtherHost)), "{refused:?}");
}

#[tokio::test]
async fn a_report_of_before_the_history_is_read_from_its_columns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::create(&path).await.unwrap();
    let report = stories::with_a_report(&store).await;
    store.close().await;
    stories::change_database(&path, "UPDATE reports SET body = NULL; DELETE FROM report_history;").await;
    let store = SqliteStore::open(&path).await.unwrap();
    let machine = store.machines().await.unwrap().remove(0);
    assert_eq!(machine.report.map(|received| received.report), Some(report));
    assert_eq!(store.reports(&machine.machine).await.unwrap(), []);
}
