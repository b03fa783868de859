use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use livepatch_api::daemon::*;
use livepatch_types::*;
use serde_json::{Value, json};

pub(crate) fn status() -> Status {
    let cve = |id: &str, rating, coverage, patched, title: &str| Cve {
        id: CveId::parse(id).unwrap(),
        rating,
        coverage,
        patched,
        title: title.into(),
    };
    Status {
        schema: 1,
        client_version: "0.1.0".into(),
        enabled: true,
        enabled_at: None,
        tier: Some(Tier::parse("stable").unwrap()),
        cohort: None,
        server: Some("https://livepatch.example.org".into()),
        kernel: Some(KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[0xab; 20]).unwrap(),
        }),
        check: Check {
            state: CheckState::Checked,
            at: Some("2026-11-24T12:00:00Z".parse().unwrap()),
            attempted_at: Some("2026-11-24T12:00:00Z".parse().unwrap()),
            reachability: Reachability::Reached,
            by_itself: true,
            mirror: None,
            document_version: Some(7),
            document_expires: Some("2026-12-01T00:00:00Z".parse().unwrap()),
        },
        coverage: Coverage {
            state: CoverageState::Covered,
            until: Some("2027-03-19".parse().unwrap()),
            series_until: None,
            install: vec![covered("6.1", "linux-image-amd64", Some("2028-06-30"))],
        },
        reboot: None,
        patch: Patch {
            state: PatchState::Applied,
            version: Some(PatchVersion::parse("113.1").unwrap()),
            stage: None,
            applied_at: Some("2026-11-24T11:00:00Z".parse().unwrap()),
            held: false,
            waiting: None,
            cutoff_date: None,
            place: None,
            cves: vec![
                cve("CVE-2026-0001", Rating::High, CveCoverage::Whole, true, "net: a use after free"),
                cve("CVE-2026-123456", Rating::Critical, CveCoverage::Partial, false, "bad\u{1b}[31mtitle"),
            ],
        },
        problem: None,
        notes: Vec::new(),
    }
}

/// A kernel that is covered on Debian 12.
pub(crate) fn covered(series: &str, package: &str, until: Option<&str>) -> CoveredKernel {
    CoveredKernel {
        system: "Debian 12".into(),
        series: series.into(),
        line: "stable".into(),
        package: package.into(),
        until: until.map(|date| date.parse().unwrap()),
    }
}

/// A reason to reboot.
pub(crate) fn reboot(code: &str, kernel: Option<&str>) -> Reboot {
    let of_cve = code == "unpatchable-cve";
    Reboot {
        code: code.into(),
        message: "it is so".into(),
        cve: of_cve.then(|| CveId::parse("CVE-2026-0009").unwrap()),
        notice: of_cve.then(|| NoticeId::parse("LSN-0114-1").unwrap()),
        kernel: kernel.map(str::to_owned),
    }
}

/// What a livepatch waits for by the settings of a host, that would fix a CVE.
pub(crate) fn waiting() -> Waiting {
    Waiting {
        version: PatchVersion::parse("114.1").unwrap(),
        code: "after-cutoff".into(),
        message:
            "livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC"
                .into(),
        until: None,
        notice: Some(NoticeId::parse("LSN-0114-1").unwrap()),
        released: Some("2026-11-20T12:00:00Z".parse().unwrap()),
        open_cves: vec![CveId::parse("CVE-2026-0002").unwrap(), CveId::parse("CVE-2026-123457").unwrap()],
    }
}

/// A loader that answers every command so, without looking at it.
pub(crate) fn loader(directory: &Path, failure: Option<Failure>) {
    loader_with(directory, failure, None);
}

/// The same with how it sees the host.
pub(crate) fn loader_with(
    directory: &Path,
    failure: Option<Failure>,
    view: Option<livepatch_loader_api::View>,
) {
    let listener = UnixListener::bind(directory.join(livepatch_loader_api::ROOT_SOCKET)).unwrap();
    let answer = serde_json::to_vec(&livepatch_loader_api::Answer { failure, view }).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; livepatch_loader_api::HEAD_BYTES]).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
}

/// Answers one request on a socket of the agent's, beside a loader that does all it is told; gives back what was asked.
pub(crate) fn answer(directory: &Path, socket: &str, line: &str, body: &str) -> JoinHandle<String> {
    loader(directory, None);
    answer_alone(directory, socket, line, body)
}

/// The same without the loader.
pub(crate) fn answer_alone(directory: &Path, socket: &str, line: &str, body: &str) -> JoinHandle<String> {
    let listener = UnixListener::bind(directory.join(socket)).unwrap();
    let answer = format!("HTTP/1.1 {line}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = hear(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        asked
    })
}

/// A request, whole.
pub(crate) fn hear(stream: &mut UnixStream) -> String {
    let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
    while !complete(&asked) {
        let length = stream.read(&mut buffer).unwrap();
        asked.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(asked).unwrap()
}

fn complete(asked: &[u8]) -> bool {
    let text = String::from_utf8_lossy(asked);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    body.len() == length.unwrap_or(0)
}

pub(crate) fn livepatch(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_livepatch"))
        .arg("--runtime-dir")
        .arg(directory)
        .arg("--loader-dir")
        .arg(directory)
        .arg("--system-root")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already, without having read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The program under its other name, with its configuration in the same directory.
pub(crate) fn canonical_livepatch(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let program = directory.join("canonical-livepatch");
    if !program.exists() {
        symlink(env!("CARGO_BIN_EXE_livepatch"), &program).unwrap();
    }
    let mut child = Command::new(program)
        .arg("--runtime-dir")
        .arg(directory)
        .arg("--loader-dir")
        .arg(directory)
        .arg("--system-root")
        .arg(directory)
        .arg("--config-file")
        .arg(directory.join("livepatch.toml"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already, without having read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The status for people as it is where there is no terminal.
pub(crate) fn status_text(status: &Status) -> String {
    status_text_at(status, "2026-11-24T12:10:00Z".parse().unwrap())
}

/// The same, as the program shows it now.
pub(crate) fn status_text_now(status: &Status) -> String {
    status_text_at(status, SystemClock.now())
}

fn status_text_at(status: &Status, now: jiff::Timestamp) -> String {
    anstream::adapter::strip_str(&livepatch_cli::status_text(status, now)).to_string()
}

/// Checks what a command printed against its schema in `docs/schema`: it fits, and every key in it is required.
pub(crate) fn fits(schema: &str, printed: &[u8]) {
    let path = format!("{}/../../docs/schema/{schema}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let printed: Value = serde_json::from_slice(printed).unwrap();
    let fits = schema.validate(&printed).map_err(|error| error.to_string());
    assert_eq!(fits, Ok(()), "{printed}");
    let mut places = vec![String::new()];
    while let Some(place) = places.pop() {
        match printed.pointer(&place).unwrap() {
            Value::Object(object) => {
                for key in object.keys() {
                    let mut without = printed.clone();
                    without.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(key);
                    assert!(!schema.is_valid(&without), "{place}/{key} can be left out");
                    places.push(format!("{place}/{key}"));
                }
                let mut with = printed.clone();
                with.pointer_mut(&place).unwrap()["another"] = json!(1);
                assert!(!schema.is_valid(&with), "{place} takes other keys");
            }
            Value::Array(array) => places.extend((0..array.len()).map(|at| format!("{place}/{at}"))),
            _ => {}
        }
    }
}
