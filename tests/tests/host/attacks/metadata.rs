//! The vendor's metadata, served by whoever has the operator's server, and perhaps the vendor's online key.

use livepatch_trust::{FileMeta, Role, RoleKeys, TARGETS, TargetName};

use super::*;
use crate::repository::{ONLINE_KEY, TARGETS_KEYS, UNICODE_TARGET_NAMES, key, sign};

/// Serves what becomes of a repository that allows 1.2.
async fn refused(expected: &str, attack: impl Fn(&mut Repository) -> Files) {
    let mut scene = unattacked().await;
    let honest = scene.repository.clone();
    let files = attack(&mut scene.repository);
    scene.repository = honest;
    scene.serve(files);
    scene.refused(expected).await;
    scene.over().await;
}

#[tokio::test]
async fn attack_rollback_of_each_role() {
    refused("vendor-rollback", |repository| {
        repository.versions.2 = 1;
        repository.files()
    })
    .await;
    refused("vendor-rollback", |repository| {
        repository.versions.1 = 1;
        repository.files()
    })
    .await;
    refused("vendor-rollback", |repository| {
        repository.versions.0 = 1;
        repository.files()
    })
    .await;
}

/// The root moved on to another online key; what the key before it signs counts no more.
#[tokio::test]
async fn attack_rollback_of_the_root() {
    let mut scene = unattacked().await;
    let before = scene.repository.files();
    rotate_online_key(&mut scene.repository);
    publish(&scene.site, 3, "1.1", &scene.repository);
    assert_eq!(code(scene.daemons.refresh().await), "ok");
    scene.serve(before);
    scene.refused("vendor-threshold").await;
    scene.over().await;
}

/// It is believed: what it withdraws would count. But it installs nothing.
#[tokio::test]
async fn attack_freeze_with_an_expired_timestamp() {
    let mut scene = unattacked().await;
    let expires = scene.repository.expires;
    scene.repository.expires = "2026-11-24T11:59:59Z".parse().unwrap();
    publish(&scene.site, 3, "1.2", scene.repository.release());
    scene.refused("vendor-expired").await;
    scene.repository.expires = expires;
    scene.over().await;
}

#[tokio::test]
async fn attack_newest_metadata_held_back() {
    let mut scene = unattacked().await;
    let mut document = document(&kernel(1), 3, Some(scene.site.target("1.2", &kernel(1))));
    document.vendor = Some(scene.repository.clone().release().named());
    scene.site.publish(&document);
    scene.refused("vendor-behind").await;
    scene.over().await;
}

#[tokio::test]
async fn attack_mix_and_match() {
    refused("vendor-mismatch", Repository::mixed).await;
}

/// Whoever has the online key signs the highest versions there are. A root that takes the key away mends it.
#[tokio::test]
async fn attack_fast_forward_and_recovery() {
    let mut scene = unattacked().await;
    let honest = scene.repository.clone();
    (scene.repository.versions.1, scene.repository.versions.2) = (u64::from(u32::MAX), u64::from(u32::MAX));
    scene.repository.allowance.allowed.pop();
    publish(&scene.site, 3, "1.1", &scene.repository);
    assert_eq!(code(scene.daemons.refresh().await), "ok");
    scene.untouched();
    scene.repository = honest;
    // Older than what was seen, it is not even fetched; whoever brings it is refused (`attack_rollback_of_each_role`).
    scene.serve(scene.repository.files());
    scene.refused("vendor-not-allowed").await;
    rotate_online_key(&mut scene.repository);
    scene.over().await;
}

#[tokio::test]
async fn attack_wrong_length_and_wrong_hash() {
    let targets = |repository: &Repository| format!("metadata/{}.targets.json", repository.versions.0);
    refused("server-unexpected-answer", |repository| {
        let mut files = repository.files();
        files.get_mut(&targets(repository)).unwrap().push(b' ');
        files
    })
    .await;
    refused("vendor-mismatch", |repository| {
        let mut files = repository.files();
        files.get_mut(&targets(repository)).unwrap().pop();
        files
    })
    .await;
    refused("vendor-mismatch", |repository| {
        let mut files = repository.files();
        let file = files.get_mut(&targets(repository)).unwrap();
        let last = file.len() - 1;
        file[last] ^= 1;
        files
    })
    .await;
}

#[tokio::test]
async fn attack_one_key_counted_twice() {
    refused("vendor-threshold", Repository::signed_twice_by_one_key).await;
    refused("vendor-bad-root", Repository::one_key_listed_twice).await;
}

#[tokio::test]
async fn attack_too_few_signatures() {
    refused("vendor-threshold", |repository| {
        let targets = sign(&repository.targets(), &TARGETS_KEYS[..1]);
        repository.files_with(&targets)
    })
    .await;
    refused("vendor-threshold", |repository| {
        let targets = sign(&repository.targets(), &[20, 21]);
        repository.files_with(&targets)
    })
    .await;
}

#[tokio::test]
async fn attack_files_that_are_missing() {
    for missing in ["timestamp.json", "snapshot.json", "targets.json"] {
        refused("vendor-not-served", |repository| {
            let mut files = repository.files();
            files.retain(|path, _| !path.ends_with(missing));
            files
        })
        .await;
    }
}

#[tokio::test]
async fn attack_delegations_by_the_million() {
    // As many as fit: the file is refused by what is in it. A million are more bytes than such a file may have.
    refused("vendor-malformed", |repository| repository.with_delegations(10_000)).await;
    refused("server-unexpected-answer", |repository| repository.with_delegations(1_000_000)).await;
}

#[tokio::test]
async fn attack_names_of_targets() {
    for name in
        ["../../etc/passwd", "/etc/passwd", "kernels/amd64/..", "kernels/\u{202e}amd64", "kernels/a\0b", ""]
    {
        refused("vendor-malformed", |repository| {
            let mut targets = repository.targets();
            targets.targets.insert(name.into(), FileMeta::of(b""));
            repository.files_with(&sign(&targets, &TARGETS_KEYS))
        })
        .await;
    }
}

#[tokio::test]
async fn attack_unicode_target_names() {
    for name in UNICODE_TARGET_NAMES {
        refused("vendor-malformed", |repository| {
            let mut targets = repository.targets();
            targets.targets.insert(name.into(), FileMeta::of(b""));
            repository.files_with(&sign(&targets, &TARGETS_KEYS))
        })
        .await;
    }
}

#[tokio::test]
async fn attack_allowance_of_another_kernel() {
    refused("vendor-wrong-kernel", |repository| {
        repository.allowance.kernel = kernel(2);
        repository.release().files()
    })
    .await;
    // Under the name of this kernel stands what is for another architecture.
    refused("vendor-malformed", |repository| {
        let allowance = String::from_utf8(repository.release().allowance.to_bytes()).unwrap();
        let allowance = allowance.replace("\"amd64\"", "\"arm64\"").into_bytes();
        let meta = FileMeta::of(&allowance);
        let mut targets = repository.targets();
        let name = targets.targets.keys().next().unwrap().clone();
        targets.targets.insert(name, meta.clone());
        let mut files = repository.files_with(&sign(&targets, &TARGETS_KEYS));
        let name = TargetName::of_kernel(repository.kernel.architecture, &repository.kernel.build_id);
        files.insert(format!("{TARGETS}/{}", name.consistent_path(&meta.hashes.sha256)), allowance);
        files
    })
    .await;
}

#[tokio::test]
async fn attack_livepatch_below_the_lowest_and_withdrawn() {
    for (expected, lowest) in [("vendor-not-allowed", true), ("withdrawn-livepatch", false)] {
        let mut scene = unattacked().await;
        if lowest {
            scene.repository.allowance.lowest = Some(version("1.3"));
        } else {
            scene.repository.allowance.withdrawn.push(version("1.2"));
        }
        scene.repository.release();
        publish(&scene.site, 3, "1.2", &scene.repository);
        assert_eq!(code(scene.daemons.refresh().await), expected);
        scene.refused(expected).await;
    }
}

#[tokio::test]
async fn attack_signer_that_the_vendor_does_not_name() {
    let mut scene = unattacked().await;
    let honest = scene.repository.allowance.clone();
    scene.repository.allowance.allowed[1].signer = "00".repeat(20);
    publish(&scene.site, 3, "1.2", scene.repository.release());
    scene.refused("vendor-wrong-signer").await;
    scene.repository.allowance = honest;
    scene.over().await;
}

#[tokio::test]
async fn attack_metadata_of_any_bytes() {
    for bytes in [&b"\0\xff{"[..], b"{}", b"[]", b"<html>captive portal</html>"] {
        refused("vendor-malformed", |repository| {
            let mut files = repository.files();
            files.insert("metadata/timestamp.json".into(), bytes.to_vec());
            files
        })
        .await;
    }
}

/// The next root has another online key.
fn rotate_online_key(repository: &mut Repository) {
    const NEW: u8 = ONLINE_KEY + 1;
    repository.root.header.version += 1;
    repository.root.keys.remove(&key(ONLINE_KEY).id());
    repository.root.keys.insert(key(NEW).id(), key(NEW));
    for role in [Role::Snapshot, Role::Timestamp] {
        repository.root.roles.insert(role, RoleKeys { keyids: vec![key(NEW).id()], threshold: 1 });
    }
    repository.online_key = NEW;
    repository.release();
}
