use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use livepatch_api::daemon::Failure;
use livepatch_loader_api::{Answer, HEAD_BYTES, Lock, LockKind, ROOT_SOCKET, View};
use livepatch_types::PatchVersion;

use crate::support::{fits, livepatch, text};

/// A loader that is asked once; gives back the kind of the request.
fn loader(directory: &Path, failure: Option<Failure>, locks: Vec<Lock>) -> JoinHandle<u8> {
    let listener = UnixListener::bind(directory.join(ROOT_SOCKET)).unwrap();
    let view = Some(View { locks, ..View::default() });
    let answer = serde_json::to_vec(&Answer { failure, view }).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; HEAD_BYTES];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(&answer).unwrap();
        head[0]
    })
}

fn locks() -> Vec<Lock> {
    let lock = |kind, version: &str, since: Option<&str>, message: &str, hints: &[&str]| Lock {
        kind,
        version: PatchVersion::parse(version).unwrap(),
        since: since.map(|since| since.parse().unwrap()),
        until: None,
        message: message.into(),
        hints: hints.iter().map(|hint| (*hint).into()).collect(),
    };
    vec![
        lock(LockKind::Held, "112.1", None, "livepatch 112.1 was reverted here, and is held back", &[]),
        lock(
            LockKind::Blocked,
            "113.1",
            Some("2026-11-28T12:00:00Z"),
            "this host went down while livepatch 113.1 was in transition; it is not applied again by itself",
            &["look for a panic in the logs of the boot before (pstore, kdump)"],
        ),
    ]
}

#[test]
fn locks_are_listed_in_both_forms() {
    let list = |arguments: &[&str], locks| {
        let directory = tempfile::tempdir().unwrap();
        let loader = loader(directory.path(), None, locks);
        let output = livepatch(directory.path(), arguments, "");
        assert_eq!((output.status.code(), loader.join().unwrap()), (Some(0), 1));
        text(&output.stdout).to_owned()
    };
    insta::assert_snapshot!(list(&["locks", "list"], locks()), @r"
    LIVEPATCH LOCK     SINCE                    WHY
    112.1     held     not known                livepatch 112.1 was reverted here, and is held back
    113.1     blocked  2026-11-28 12:00:00 UTC  this host went down while livepatch 113.1 was in transition; it is not applied again by itself
                                                hint: look for a panic in the logs of the boot before (pstore, kdump)

    `livepatch locks clear` forgets all of it; `livepatch apply` also applies at once.
    ");
    insta::assert_snapshot!(list(&["locks", "list"], vec![]), @"Nothing keeps livepatches from this kernel.");
    fits("locks", list(&["locks", "list", "--format", "json"], locks()).as_bytes());
    insta::assert_snapshot!(list(&["locks", "list", "--format", "json"], locks()[..1].to_vec()), @r#"
    {
      "schema": 1,
      "locks": [
        {
          "kind": "held",
          "version": "112.1",
          "since": null,
          "until": null,
          "message": "livepatch 112.1 was reverted here, and is held back",
          "hints": []
        }
      ]
    }
    "#);
}

#[test]
fn locks_are_cleared_by_the_loader() {
    let directory = tempfile::tempdir().unwrap();
    let asked = loader(directory.path(), None, vec![]);
    let output = livepatch(directory.path(), &["locks", "clear"], "");
    assert_eq!((output.status.code(), asked.join().unwrap()), (Some(0), 19));
    insta::assert_snapshot!(text(&output.stdout), @"Nothing keeps livepatches from this kernel any more. `livepatch apply` applies at once.");

    let directory = tempfile::tempdir().unwrap();
    let failure = Failure::new("not-permitted", "it is so", "");
    let asked = loader(directory.path(), Some(failure), vec![]);
    let output = livepatch(directory.path(), &["locks", "list"], "");
    assert_eq!((output.status.code(), asked.join().unwrap()), (Some(5), 1));

    let nobody = tempfile::tempdir().unwrap();
    assert_eq!(livepatch(nobody.path(), &["locks", "list"], "").status.code(), Some(4));
    assert_eq!(livepatch(nobody.path(), &["locks"], "").status.code(), Some(2));
}
