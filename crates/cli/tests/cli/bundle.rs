use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use livepatch_api::daemon::Failure;
use livepatch_loader_api::{Answer, HEAD_BYTES, ROOT_SOCKET, View};
use serde_json::json;

use crate::support::{livepatch, text};

/// A loader that is asked once; gives back what it was asked, with the body.
fn loader(directory: &Path, failure: Option<Failure>, view: View) -> JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(directory.join(ROOT_SOCKET)).unwrap();
    let answer = serde_json::to_vec(&Answer { failure, view: Some(view) }).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; HEAD_BYTES];
        stream.read_exact(&mut asked).unwrap();
        let mut body = vec![0; u32::from_be_bytes(asked[1..].try_into().unwrap()) as usize];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(&answer).unwrap();
        asked.extend(body);
        asked
    })
}

#[test]
fn a_bundle_goes_to_the_loader_and_no_agent_is_needed() {
    let cve =
        |id: &str, coverage: &str| json!({ "id": id, "coverage": coverage, "rating": "high", "title": "" });
    let applied = json!({
        "target": {
            "version": "1.1",
            "module": { "sha256": "00".repeat(32), "size_bytes": 1 },
            "cves": [cve("CVE-2026-0001", "whole"), cve("CVE-2026-0002", "partial")],
            "released": "2026-11-24T12:00:00Z",
        },
        "at": "2026-11-24T12:00:00Z",
    });
    let view = View { applied: serde_json::from_value(applied).unwrap(), ..View::default() };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("livepatch.lpb");
    std::fs::write(&path, "a bundle").unwrap();
    let asked = loader(directory.path(), None, view);
    let output = livepatch(directory.path(), &["apply", "--bundle", path.to_str().unwrap()], "");
    insta::assert_snapshot!(text(&output.stdout), @"Livepatch 1.1 is applied: 1 CVE fixed. It comes back after a reboot.");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(asked.join().unwrap(), b"\x16\0\0\0\x08a bundle");
    // A loader that does not say what it applied.
    std::fs::remove_file(directory.path().join(ROOT_SOCKET)).unwrap();
    let asked = loader(directory.path(), None, View::default());
    let output = livepatch(directory.path(), &["apply", "--bundle", path.to_str().unwrap()], "");
    insta::assert_snapshot!(text(&output.stdout), @"The livepatch is applied.");
    asked.join().unwrap();
}

#[test]
fn what_is_wrong_with_a_bundle_is_said() {
    let failure = Failure {
        code: "withdrawn-livepatch".into(),
        message: "livepatch 1.1 was withdrawn".into(),
        hints: vec!["get the vendor's newest bundle".into()],
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("livepatch.lpb");
    std::fs::write(&path, "a bundle").unwrap();
    let asked = loader(directory.path(), Some(failure), View::default());
    let output = livepatch(directory.path(), &["apply", "--bundle", path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(1));
    let said = "error: livepatch 1.1 was withdrawn\n\nhint: get the vendor's newest bundle\n";
    assert_eq!(text(&output.stderr), said);
    asked.join().unwrap();
    // Files that are not there or too large do not get to the loader.
    let large = std::fs::File::create(&path).unwrap();
    large.set_len(1 << 40).unwrap();
    let said = [path.to_str().unwrap(), "/nowhere.lpb"].map(|path| {
        let output = livepatch(directory.path(), &["apply", "--bundle", path], "");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).replace(directory.path().to_str().unwrap(), "DIRECTORY")
    });
    insta::assert_snapshot!(said.join("---\n"), @"
    error: cannot read the bundle DIRECTORY/livepatch.lpb: it has more than 48234496 bytes

    hint: `livepatch-build trust attach` makes it: one file, of a livepatch
    ---
    error: cannot read the bundle /nowhere.lpb: No such file or directory (os error 2)

    hint: `livepatch-build trust attach` makes it: one file, of a livepatch
    ");
}
