//! A vendor's repository and the operator's root, as the program takes and serves them. What is signed in them is made
//! here with keys from fixed seeds; that hostile metadata is refused is shown by the tests of `livepatch-trust`.

use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::{SignedDuration, Timestamp};
use livepatch_manifest::{KernelDocument, VerifyingKey, sha256};
use livepatch_trust::*;
use livepatch_types::{Clock as _, PatchVersion, SystemClock};

use crate::support::*;

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(seed: u8) -> PublicKey {
    PublicKey::Ed25519(pair(seed).public_key().as_ref().try_into().unwrap())
}

fn signed(content: &impl serde::Serialize, seed: u8) -> Vec<u8> {
    let mut file = SignedFile::unsigned(content).unwrap();
    let signature = pair(seed).sign(&file.signing_input().unwrap());
    file.add_signature(&public(seed), signature.as_ref());
    file.to_bytes()
}

fn header(role: Role, version: u64) -> Header {
    let now = Timestamp::from_second(SystemClock.now().as_second()).unwrap();
    Header::new(role, version, now, now + SignedDuration::from_hours(24))
}

fn root(name: &str, version: u64, roles: &[(Role, PublicKey)]) -> Root {
    let role = |key: &PublicKey| RoleKeys { keyids: vec![key.id()], threshold: 1 };
    Root {
        header: header(Role::Root, version),
        repository: RepositoryName::parse(name).unwrap(),
        consistent_snapshot: true,
        keys: roles.iter().map(|(_, key)| (key.id(), key.clone())).collect(),
        roles: roles.iter().map(|(of, key)| (*of, role(key))).collect(),
    }
}

fn put(directory: &Path, path: &str, bytes: &[u8]) {
    let path = directory.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A vendor's repository that allows 1.1 for the kernel of these tests, with all versions the same but the root's.
fn vendor(directory: &Path, version: u64, root_seed: u8) {
    vendor_named("debian-12-6.1", directory, version, root_seed);
}

fn vendor_named(name: &str, directory: &Path, version: u64, root_seed: u8) {
    let roles = [(Role::Root, root_seed), (Role::Targets, 2), (Role::Snapshot, 3), (Role::Timestamp, 4)];
    let roles = roles.map(|(role, seed)| (role, public(seed)));
    // Made once: a root does not change.
    if !directory.join("metadata/1.root.json").exists() {
        put(directory, "metadata/1.root.json", &signed(&root(name, 1, &roles), root_seed));
    }
    let mut allowance = KernelAllowance::empty(kernel());
    allowance.lowest = Some(PatchVersion::parse("1.1").unwrap());
    let bytes = allowance.to_bytes();
    let target = TargetName::of_kernel(kernel().architecture, &kernel().build_id);
    let meta = FileMeta::of(&bytes);
    put(directory, &format!("targets/{}", target.consistent_path(&meta.hashes.sha256)), &bytes);
    let targets = Targets {
        header: header(Role::Targets, version),
        targets: [(target.to_string(), meta)].into(),
        delegations: None,
    };
    let targets = signed(&targets, 2);
    let meta = SnapshotMeta { targets: VersionedFile::of(version, &targets) };
    let snapshot = signed(&Snapshot { header: header(Role::Snapshot, version), meta }, 3);
    let meta = TimestampMeta { snapshot: VersionedFile::of(version, &snapshot) };
    let timestamp = signed(&TimestampRole { header: header(Role::Timestamp, version), meta }, 4);
    put(directory, &format!("metadata/{version}.targets.json"), &targets);
    put(directory, &format!("metadata/{version}.snapshot.json"), &snapshot);
    put(directory, "metadata/timestamp.json", &timestamp);
}

/// Purpose, name, version and digest of the roots that the log speaks of.
fn logged_roots(site: &Site) -> Vec<(String, String, u64, String)> {
    site.good(&["log", "verify"]);
    let listed = site.good(&["log", "show", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = listed.as_array().unwrap().iter().map(|row| &row["entry"]);
    let roots = entries.filter(|entry| text(&entry["purpose"]).ends_with("-root"));
    roots
        .map(|entry| {
            let version = entry["version"].as_u64().unwrap();
            (text(&entry["purpose"]), text(&entry["name"]), version, text(&entry["sha256"]))
        })
        .collect()
}

async fn document(server: &Server, operator: &VerifyingKey) -> KernelDocument {
    let response = server.client.get(server.document_url()).send().await.unwrap();
    let body = response.bytes().await.unwrap();
    KernelDocument::open(&body, std::slice::from_ref(operator), &kernel(), &stable(), 0).unwrap()
}

#[tokio::test]
async fn a_vendors_repository_is_served_byte_for_byte_and_named_in_documents() {
    let site = Site::new();
    let from = site.directory.path().join("vendor");
    vendor(&from, 1, 1);
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"module"), &[]);
    let server = site.serve().await;
    let before = document(&server, &site.operator()).await;
    assert_eq!(before.vendor, None);

    let said = site.good(&["vendor", "import", from.to_str().unwrap()]);
    assert!(said.starts_with("serving repository debian-12-6.1: root 1, timestamp 1; 1 kernel\n"), "{said}");
    let after = document(&server, &site.operator()).await;
    let named = after.vendor.unwrap();
    let file = |path: &str| std::fs::read(from.join(path)).unwrap();
    assert_eq!(after.version, before.version + 1);
    assert_eq!(
        (named.repository.as_str(), named.root.version, named.timestamp.version),
        ("debian-12-6.1", 1, 1)
    );
    assert_eq!(named.timestamp.sha256, sha256(&file("metadata/timestamp.json")));
    assert_eq!(named.root.sha256, sha256(&file("metadata/1.root.json")));

    // A host that pins the first root comes to what is allowed for its kernel by what is served alone.
    let mut update = Update::new(State::pin(&file("metadata/1.root.json")).unwrap()).unwrap();
    while let Some(wanted) = update.wanted() {
        let response = server.get(&format!("/v1/vendor/debian-12-6.1/{}", wanted.path)).await;
        let cache = response.headers()["cache-control"].to_str().unwrap_or_default().to_owned();
        if response.status() == 404 {
            update.absent().unwrap();
            continue;
        }
        assert_eq!(cache.contains("immutable"), wanted.immutable, "{}", wanted.path);
        let bytes = response.bytes().await.unwrap();
        assert_eq!(bytes, file(&wanted.path));
        update.take(&bytes).unwrap();
    }
    let trusted = update.finish().unwrap();
    let target = trusted.kernel_file(&kernel()).unwrap();
    let bytes = server.get(&format!("/v1/vendor/debian-12-6.1/{}", target.path)).await.bytes().await.unwrap();
    assert!(trusted.allowance(&kernel(), &bytes).is_ok());

    for hidden in ["state.json", "served.json", "metadata/%2e%2e/state.json", "metadata/nothing.json"] {
        let status = server.get(&format!("/v1/vendor/debian-12-6.1/{hidden}")).await.status();
        assert!(status == 404 || status == 400, "{hidden}: {status}");
    }
    let listed = site.good(&["vendor", "repositories", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["kernels"][0], kernel().build_id.to_string());
}

#[tokio::test]
async fn an_import_never_goes_back_and_never_to_another_repository() {
    let site = Site::new();
    let (new, old, forged) = ["new", "old", "forged"].map(|name| site.directory.path().join(name)).into();
    vendor(&new, 2, 1);
    std::fs::create_dir_all(old.join("metadata")).unwrap();
    std::fs::copy(new.join("metadata/1.root.json"), old.join("metadata/1.root.json")).unwrap();
    vendor(&old, 1, 1);
    vendor(&forged, 3, 9);
    let import = |from: &Path| site.run(&["vendor", "import", from.to_str().unwrap()]);
    assert!(import(&new).status.success());
    assert!(import(&new).status.success(), "the same again");
    let digest = sha256(&std::fs::read(new.join("metadata/1.root.json")).unwrap()).to_string();
    let logged = [("vendor-root".to_owned(), "debian-12-6.1".to_owned(), 1, digest)];
    assert_eq!(logged_roots(&site), logged);
    let refusal = |from: &Path| String::from_utf8(import(from).stderr).unwrap();
    let rollback = "the timestamp metadata has version 1, older than version 2 seen before\n\nhint: ";
    assert!(refusal(&old).contains(rollback), "{}", refusal(&old));
    let other = "metadata/1.root.json is not the file of that name that is served here\n\nhint: ";
    assert!(refusal(&forged).contains(other), "{}", refusal(&forged));
    let mut targets = std::fs::read(new.join("metadata/2.targets.json")).unwrap();
    targets.push(b' ');
    std::fs::write(new.join("metadata/2.targets.json"), targets).unwrap();
    assert!(refusal(&new).contains("the targets metadata has "), "{}", refusal(&new));
    assert_eq!(logged_roots(&site), logged, "nothing of what was refused");
}

#[tokio::test]
async fn the_operators_root_must_name_the_servers_key() {
    let site = Site::new();
    let from = site.directory.path().join("operator");
    let write = |documents: PublicKey, assignments: PublicKey| {
        let roles = [(Role::Root, public(1)), (Role::Documents, documents), (Role::Assignments, assignments)];
        let root = signed(&root("a-fleet", 1, &roles), 1);
        put(&from, "metadata/1.root.json", &root);
        root
    };
    let own = PublicKey::Ed25519(*site.operator().as_bytes());
    for (documents, assignments, role) in
        [(public(2), own.clone(), "documents"), (own.clone(), public(2), "assignments")]
    {
        write(documents, assignments);
        let (code, refusal) = site.bad(&["operator", "import", from.to_str().unwrap()]);
        assert_eq!(code, 3);
        let expected =
            format!("error: the root does not name the key {} of this server for {role}", own.id());
        assert!(refusal.starts_with(&expected), "{refusal}");
        assert_eq!(logged_roots(&site), []);
    }

    let root = write(own.clone(), own);
    let said = site.good(&["operator", "import", from.to_str().unwrap()]);
    assert_eq!(said, "serving root 1 of operator a-fleet\n");
    let digest = sha256(&root).to_string();
    assert_eq!(logged_roots(&site), [("operator-root".to_owned(), "a-fleet".to_owned(), 1, digest)]);
    let server = site.serve().await;
    assert_eq!(server.get("/v1/operator/metadata/1.root.json").await.bytes().await.unwrap(), root);
    assert_eq!(server.get("/v1/operator/state.json").await.status(), 404);
}

/// The key is exchanged by a root: documents that were signed before are signed anew, and nothing changes but the key.
#[tokio::test]
async fn the_servers_key_is_exchanged_by_a_root() {
    let site = Site::new();
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"first"), &[]);
    let former = site.operator();
    let server = site.serve().await;
    let before = document(&server, &former).await;
    let from = site.directory.path().join("operator");
    let write = |version: u64, key: &VerifyingKey| {
        let online = PublicKey::Ed25519(*key.as_bytes());
        let roles = [(Role::Root, public(1)), (Role::Documents, online.clone()), (Role::Assignments, online)];
        put(&from, &format!("metadata/{version}.root.json"), &signed(&root("a-fleet", version, &roles), 1));
    };
    let import = || site.good(&["operator", "import", from.to_str().unwrap()]);
    write(1, &former);
    assert_eq!(import(), "serving root 1 of operator a-fleet\n");

    assert!(site.good(&["operator", "new-key"]).contains("operator-next.pub"));
    let (code, refusal) = site.bad(&["operator", "new-key"]);
    assert_eq!((code, refusal.lines().next()), (3, Some("error: there is a next key already")));
    let next = std::fs::read_to_string(site.data().join("operator-next.pub")).unwrap();
    let next = VerifyingKey::parse(&next).unwrap();
    // The root of before is as good as before: nothing is exchanged by it.
    assert_eq!(import(), "serving root 1 of operator a-fleet\n");
    assert_eq!(site.operator(), former);
    write(2, &next);
    assert!(import().starts_with("serving root 2 of operator a-fleet\nthe next key is in the place of"));
    assert_eq!(site.operator(), next);
    assert!(
        !site.data().join("operator-next.key").exists() && !site.data().join("operator-next.pub").exists()
    );
    let key = std::fs::metadata(site.data().join("operator.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);

    let server = site.serve().await;
    let after = document(&server, &next).await;
    assert_eq!((after.version, &after.target), (before.version, &before.target));
    assert!(site.good(&["log", "verify"]).contains("right"));
}

const PAGE: &str = include_str!("../../../../docs/trust.md");

/// The runbook for lost keys of a root, on the server: the commands of docs/trust.md as they stand there.
#[tokio::test]
async fn repositories_whose_root_keys_are_lost_are_moved_aside() {
    let site = Site::new();
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"module"), &[]);
    let here = |name: &str| site.directory.path().join(name);
    let operator = |name: &str, directory: &str| {
        let own = PublicKey::Ed25519(*site.operator().as_bytes());
        let roles = [(Role::Root, public(1)), (Role::Documents, own.clone()), (Role::Assignments, own)];
        put(&here(directory), "metadata/1.root.json", &signed(&root(name, 1, &roles), 1));
    };
    vendor(&here("vendor"), 1, 1);
    vendor_named("debian-12-6.1-b", &here("vendor-2"), 1, 9);
    operator("example-fleet", "operator");
    operator("example-fleet-2", "operator-2");
    let import = |what: &str, from: &str| site.run(&[what, "import", here(from).to_str().unwrap()]);
    assert!(import("vendor", "vendor").status.success());
    assert!(import("operator", "operator").status.success());
    let server = site.serve().await;
    let named = async || document(&server, &site.operator()).await.vendor.unwrap().repository;
    assert_eq!(named().await.as_str(), "debian-12-6.1");

    // Why they are moved: another root of the operator's is refused, and the first repository goes on being named.
    let refusal = String::from_utf8(import("operator", "operator-2").stderr).unwrap();
    assert!(refusal.starts_with("error: ") && refusal.contains("\n\nhint: "), "{refusal}");
    assert!(import("vendor", "vendor-2").status.success());
    assert_eq!(named().await.as_str(), "debian-12-6.1");
    let before = document(&server, &site.operator()).await;

    let (_, runbook) = PAGE.split_once("\n### Runbook: the keys of the root are lost\n").unwrap();
    let blocks = runbook.split("```text\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let commands: Vec<&str> = blocks.take_while(|block| block.starts_with("mv ")).collect();
    assert_eq!(commands.len(), 2, "the vendor's and the operator's");
    let data = site.data().display().to_string();
    let program = env!("CARGO_BIN_EXE_livepatch-server");
    let script = commands.concat().replace("/var/lib/livepatch-server", &data);
    let script = format!("livepatch-server() {{ {program} \"$@\" --data {data}; }}\n{script}");
    let run = std::process::Command::new("bash")
        .args(["-euc", &script])
        .current_dir(site.directory.path())
        .output();
    let run = run.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    // The server that runs serves the new ones, and only them.
    assert_eq!(named().await.as_str(), "debian-12-6.1-b");
    let after = document(&server, &site.operator()).await;
    assert!(after.version > before.version, "hosts take it for newer");
    let served = server.get("/v1/operator/metadata/1.root.json").await.bytes().await.unwrap();
    assert_eq!(served, std::fs::read(here("operator-2/metadata/1.root.json")).unwrap());
    assert_eq!(server.get("/v1/vendor/debian-12-6.1/metadata/1.root.json").await.status(), 404);
    // What was lost is kept for those who look for the cause, and the log speaks of all.
    assert!(
        site.data().join("debian-12-6.1.lost/metadata").is_dir()
            && site.data().join("operator.lost").is_dir()
    );
    let logged: Vec<_> = logged_roots(&site).into_iter().map(|(_, name, ..)| name).collect();
    assert_eq!(logged, ["debian-12-6.1", "example-fleet", "debian-12-6.1-b", "example-fleet-2"]);
}
