//! The transparency log as its operator, a host and somebody who watches it see it.

use livepatch_transparency::*;
use reqwest::header;
use serde_json::Value;

use crate::support::*;

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn events(listed: &Value) -> Vec<String> {
    listed.as_array().unwrap().iter().map(|row| row["entry"]["event"].as_str().unwrap().to_owned()).collect()
}

impl Site {
    pub(crate) fn log_key(&self) -> LogKey {
        LogKey::parse(&std::fs::read_to_string(self.data().join("log.vkey")).unwrap()).unwrap()
    }

    /// Runs `log watch` against a server, as somebody with a state file of this name.
    pub(crate) async fn watch(&self, server: &Server, state: &str) -> std::process::Output {
        self.watch_with(server, state, &[]).await
    }

    async fn watch_with(&self, server: &Server, state: &str, more: &[&str]) -> std::process::Output {
        let data = self.data();
        let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
        let state = self.directory.path().join(state).to_str().unwrap().to_owned();
        let (url, key, ca) = (server.url(""), path("log.vkey"), path("ca.pem"));
        let arguments =
            ["log", "watch", &url, "--state", &state, "--key", &key, "--ca", &ca, "--format", "json"];
        let mut command = self.command(&[arguments.as_slice(), more].concat());
        command.env("NO_PROXY", "*");
        // The server runs in this process: the thread must stay free.
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

#[test]
fn everything_that_happens_is_in_the_log() {
    let site = Site::new();
    let bundle = VENDOR.bundle("1.1", &kernel(), b"module");
    site.publish(&bundle, &["--tier", "edge"]);
    site.publish(&bundle, &["--tier", "edge"]);
    site.publish(&bundle, &[]);
    site.good(&["patch", "withdraw", "1.1"]);
    let listed = json(&site.good(&["log", "show", "--format", "json"]));
    assert_eq!(events(&listed), ["key", "key", "bundle", "release", "release", "withdrawal"]);
    assert_eq!(listed[0]["entry"]["purpose"], "operator-documents");
    assert_eq!(listed[0]["entry"]["sha256"], site.operator().key_id());
    assert_eq!(listed[1]["entry"]["purpose"], "vendor-certificate");
    assert_eq!(
        listed[2]["entry"]["manifest_sha256"],
        livepatch_manifest::sha256(&bundle.manifest_bytes).to_string()
    );
    assert!(!listed.to_string().contains("CN="), "no subject of a certificate");
    assert_eq!(
        events(&json(&site.good(&["log", "show", "--from", "5", "--format", "json"]))),
        ["withdrawal"]
    );
    let text = site.good(&["log", "show"]);
    assert!(text.contains("1.1 for 6.1.0-50-cloud-amd64"), "{text}");
    assert!(text.contains("in tier edge"), "{text}");

    let said = site.good(&["log", "verify"]);
    assert!(
        said.starts_with(&format!("the log {} is right\n  entries  6\n", site.log_key().name())),
        "{said}"
    );
    let verified = json(&site.good(&["log", "verify", "--format", "json"]));
    assert_eq!((&verified["entries"], &verified["findings"]), (&6.into(), &Value::Array(vec![])));
}

#[test]
fn a_log_has_the_name_that_its_operator_gave_it() {
    let site = Site::empty();
    let (code, text) = site.bad(&["init", "--log-name", "two words"]);
    assert_eq!(code, 3, "{text}");
    assert!(!site.data().exists());
    assert!(site.good(&["init", "--log-name", "log.example/fleet"]).contains("log.vkey"));
    assert_eq!(site.log_key().name(), "log.example/fleet");
    assert_eq!(site.log_key().as_bytes(), site.operator().as_bytes());
}

#[tokio::test]
async fn a_bundle_is_checked_offline_with_the_proof_that_a_server_gives() {
    let site = Site::new();
    let bundle = VENDOR.bundle("1.1", &kernel(), b"module");
    site.publish(&bundle, &[]);
    let server = site.serve().await;
    let path = format!("/v1/log/proofs/{}", bundle.manifest.module.sha256);
    let served = server.get(&path).await;
    assert_eq!(served.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let proof = served.bytes().await.unwrap();
    for name in ["1.1", "livepatch_1_1", &bundle.manifest.module.sha256.to_string()] {
        assert_eq!(site.good(&["log", "prove", name]).as_bytes(), proof);
    }
    assert_eq!(json(&site.good(&["log", "prove", "1.1", "--format", "json"]))["index"], 2);
    assert_eq!(server.get(&path.replace(|c: char| c.is_ascii_digit(), "0")).await.status(), 404);
    assert_eq!(server.get("/v1/log/proofs/x").await.status(), 400);
    assert!(site.bad(&["log", "prove", "9.9"]).1.contains("the log has no bundle \"9.9\""));

    let check = |bundle: &[u8], proof: &[u8], key: &str| {
        let bundle = site.write("checked.lpb", bundle);
        let (proof, key) = (site.write("proof", proof), site.write("key", key.as_bytes()));
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let output = site.run(&[
            "log",
            "check",
            "--bundle",
            &path(&bundle),
            "--proof",
            &path(&proof),
            "--key",
            &path(&key),
        ]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let key = site.log_key().to_text();
    let said = check(&bundle.to_bytes(), &proof, &key);
    assert!(
        said.starts_with("bundle 1.1 for 6.1.0-50-cloud-amd64 is entry 2 of the log livepatch-log/"),
        "{said}"
    );
    let other = VENDOR.bundle("1.2", &kernel(), b"module");
    let refusal = check(&other.to_bytes(), &proof, &key);
    assert!(
        refusal.contains("the proof is for bundle 1.1 for 6.1.0-50-cloud-amd64, not for 1.2"),
        "{refusal}"
    );
    let stranger = LogKey::new(site.log_key().name(), [9; 32]).unwrap();
    assert!(check(&bundle.to_bytes(), &proof, &stranger.to_text()).contains("is not signed by the key of"));
    assert!(check(&bundle.to_bytes(), &proof[1..], &key).contains("the proof does not parse"));
    assert!(check(&bundle.to_bytes(), &proof, "key").contains("this is not the key of a log"));
}

#[tokio::test]
async fn two_bundles_of_a_version_are_told_apart() {
    let site = Site::new();
    let mut other = kernel();
    other.build_id = livepatch_types::BuildId::from_bytes(&[8; 20]).unwrap();
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"one"), &[]);
    let second = VENDOR.bundle("1.1", &other, b"two");
    site.publish(&second, &[]);
    let (code, refusal) = site.bad(&["log", "prove", "1.1"]);
    assert_eq!(code, 3);
    assert!(refusal.contains("the log has 2 bundles \"1.1\""), "{refusal}");
    let digest = second.manifest.module.sha256.to_string();
    assert!(refusal.contains(&format!("hint: for 6.1.0-50-cloud-amd64 give {digest}")), "{refusal}");
    assert!(site.good(&["log", "prove", &digest]).contains("\nindex 4\n"));
}

#[tokio::test]
async fn tiles_are_served_as_the_specification_says() {
    let site = Site::new();
    for minor in 1..=20 {
        site.publish(
            &VENDOR.bundle(&format!("1.{minor}"), &kernel(), format!("module {minor}").as_bytes()),
            &[],
        );
    }
    let server = site.serve().await;
    let note = server.get("/checkpoint").await;
    assert_eq!(note.headers()[header::CACHE_CONTROL], "public, max-age=5");
    assert_eq!(note.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let note = note.bytes().await.unwrap();
    let head = Checkpoint::open(&note, &site.log_key()).unwrap();
    assert_eq!(head.size, 42);

    let tile = server.get("/tile/0/000.p/42").await;
    assert_eq!(tile.headers()[header::CONTENT_TYPE], "application/octet-stream");
    assert!(tile.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    let tag = tile.headers()[header::ETAG].clone();
    let request = server.client.get(server.url("/tile/0/000.p/42")).header(header::IF_NONE_MATCH, tag);
    assert_eq!(request.send().await.unwrap().status(), 304);
    let tile = Tile::new(0, 0, 42).unwrap().read(&tile.bytes().await.unwrap()).unwrap();
    let bundle = server.get("/tile/entries/000.p/42").await.bytes().await.unwrap();
    let mut frontier = Frontier::default();
    for (entry, hash) in read_entries(&bundle, 42).unwrap().into_iter().zip(tile) {
        assert_eq!(leaf_hash(entry), hash);
        frontier.append(hash);
    }
    assert_eq!(frontier.root(), head.root);
    assert_eq!(
        server.get("/tile/0/000.p/7").await.bytes().await.unwrap().len(),
        7 * 32,
        "of an earlier size"
    );
    for (path, status) in [
        ("/tile/0/000.p/43", 404),
        ("/tile/0/000", 404),
        ("/tile/1/000.p/1", 404),
        ("/tile/entries/001.p/1", 404),
        ("/tile/0/0", 400),
        ("/tile/0/000.p/0", 400),
        ("/tile/0/..%2f..%2foperator.key", 400),
        ("/tile/9/000", 400),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn a_watcher_sees_what_is_new_and_remembers_the_head() {
    let site = Site::new();
    let server = site.serve().await;
    let seen = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        events(&json(&String::from_utf8(output.stdout).unwrap()))
    };
    assert_eq!(seen(site.watch(&server, "state").await), ["key", "key"]);
    assert_eq!(seen(site.watch(&server, "state").await), [""; 0]);
    for minor in 1..=3 {
        site.publish(
            &VENDOR.bundle(&format!("1.{minor}"), &kernel(), format!("module {minor}").as_bytes()),
            &[],
        );
        assert_eq!(seen(site.watch(&server, "state").await), ["bundle", "release"]);
    }
    site.good(&["patch", "withdraw", "1.2"]);
    assert_eq!(seen(site.watch(&server, "state").await), ["withdrawal"]);
    assert_eq!(seen(site.watch(&server, "another").await).len(), 9);
    let states = ["state", "another"].map(|name| std::fs::read(site.directory.path().join(name)).unwrap());
    assert_eq!(states[0], states[1], "the same head for both");
    assert!(site.good(&["log", "verify"]).contains("heads    5 signed"));
}

/// A data directory from before there was a log, and one whose operator's key is replaced.
#[tokio::test]
async fn a_log_begins_with_the_keys_that_are_believed_and_goes_on_with_another() {
    let site = Site::new();
    let vkey = site.data().join("log.vkey");
    std::fs::remove_file(&vkey).unwrap();
    let (code, refusal) = site.bad(&["log", "verify"]);
    assert_eq!((code, refusal.contains("start the server once")), (4, true), "{refusal}");
    let server = site.serve().await;
    site.good(&["log", "verify"]);
    let (name, former) = (site.log_key().name().to_owned(), *site.log_key().as_bytes());
    assert!(site.watch(&server, "state").await.status.success());

    let other = Site::new();
    for file in ["operator.key", "operator.pub"] {
        std::fs::copy(other.data().join(file), site.data().join(file)).unwrap();
    }
    let (_, refusal) = site.bad(&["log", "verify"]);
    assert!(refusal.contains("is not right"), "{refusal}");
    drop(server);
    let server = site.serve().await;
    assert_eq!(site.log_key().name(), name, "the name stays");
    assert_eq!(site.log_key().as_bytes(), other.operator().as_bytes());
    let listed = json(&site.good(&["log", "show", "--format", "json"]));
    assert_eq!(listed[listed.as_array().unwrap().len() - 1]["entry"]["sha256"], other.operator().key_id());
    assert!(server.get("/checkpoint").await.status().is_success());
    site.good(&["log", "verify"]);

    let lost = site.watch(&server, "state").await;
    assert_eq!(lost.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&lost.stderr).contains("give the log.vkey from before as --former-key"));
    let former = LogKey::new(&name, former).unwrap().to_text();
    let former = site.write("former.vkey", former.as_bytes());
    let output = site.watch_with(&server, "state", &["--former-key", former.to_str().unwrap()]).await;
    assert_eq!(events(&json(&String::from_utf8(output.stdout).unwrap())), ["key"]);
    assert!(site.watch(&server, "state").await.status.success(), "from now on it is the new key's");
}

const PAGE: &str = include_str!("../../../../docs/transparency.md");

/// The commands of docs/transparency.md as they stand there.
#[tokio::test]
async fn the_commands_of_the_page_are_right() {
    let site = Site::new();
    let bundle = VENDOR.bundle("1.1", &kernel(), b"module");
    site.write("livepatch.lpb", &bundle.to_bytes());
    for file in ["log.vkey", "ca.pem"] {
        std::fs::copy(site.data().join(file), site.directory.path().join(file)).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_livepatch-server");
    let data = site.data();
    let function = format!("livepatch-server() {{ {program} --data {} \"$@\"; }}\n", data.display());
    let blocks: Vec<_> =
        PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4);
    let script = blocks.concat();
    let server = site.serve().await;
    // Not every machine has curl.
    let (before, rest) = script.split_once("curl ").unwrap();
    let (curl, after) = rest.split_once('\n').unwrap();
    assert!(
        curl.ends_with(" --output served.tlog-proof https://livepatch.example:8443/v1/log/proofs/$MODULE")
    );
    let mut said = String::new();
    for part in [before, after] {
        let script = part.replace("https://livepatch.example:8443", &server.url(""));
        let mut bash = std::process::Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &format!("{function}{script}")]);
        bash.current_dir(site.directory.path()).env("NO_PROXY", "*");
        let output = tokio::task::spawn_blocking(move || bash.output().unwrap()).await.unwrap();
        said.push_str(&String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
        assert!(output.status.success(), "{said}");
        let module = bundle.manifest.module.sha256;
        let proof = server.get(&format!("/v1/log/proofs/{module}")).await.bytes().await.unwrap();
        site.write("served.tlog-proof", &proof);
    }
    assert_eq!(said.matches("is entry 2 of the log").count(), 2, "{said}");
    assert!(said.contains("the log livepatch-log/"), "{said}");
}
