//! Attacks on timestamp, snapshot and targets.

use livepatch_trust::{
    FileMeta, MAX_ALLOWANCE_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, Refusal, Role, TargetName, Update,
    VersionedFile,
};
use serde_json::json;

use crate::repository::*;

fn refused(result: Result<livepatch_trust::Vendor, Refusal>) -> Refusal {
    result.map(|vendor| vendor.state().clone()).unwrap_err()
}

#[test]
fn attack_rollback_of_the_timestamp() {
    let state = state_after((2, 2, 5));
    assert_eq!(update(&state, &files((2, 2, 6))).unwrap().state().seen(Role::Timestamp), 6);
    let refusal = refused(update(&state, &files((2, 2, 4))));
    assert_eq!(refusal, Refusal::Rollback { role: Role::Timestamp, offered: 4, seen: 5 });
}

#[test]
fn attack_rollback_of_the_snapshot() {
    let state = state_after((2, 2, 5));
    assert_eq!(update(&state, &files((2, 3, 6))).unwrap().state().seen(Role::Snapshot), 3);
    let refusal = refused(update(&state, &files((2, 1, 6))));
    assert_eq!(refusal, Refusal::Rollback { role: Role::Snapshot, offered: 1, seen: 2 });
}

#[test]
fn attack_rollback_of_the_targets() {
    let state = state_after((2, 2, 5));
    assert_eq!(update(&state, &files((3, 3, 6))).unwrap().state().seen(Role::Targets), 3);
    let refusal = refused(update(&state, &files((1, 3, 6))));
    assert_eq!(refusal, Refusal::Rollback { role: Role::Targets, offered: 1, seen: 2 });
}

/// Whoever has the online key signs another timestamp under a version that was seen already.
#[test]
fn attack_other_timestamp_of_the_same_version() {
    let state = state_after((2, 2, 5));
    let seen = files((2, 2, 5));
    assert_eq!(update(&state, &seen).unwrap().state(), &state, "the same one once more is no news");
    let other = files((3, 3, 5));
    let digest = |files: &Files| FileMeta::of(&files["metadata/timestamp.json"]).hashes.sha256;
    let (seen, offered) = (digest(&seen), digest(&other));
    let expected = Refusal::OtherContent { role: Role::Timestamp, version: 5, seen, offered };
    assert_eq!(refused(update(&state, &other)), expected);
    let kept = livepatch_trust::State::parse(&state.to_bytes()).unwrap();
    assert_eq!(refused(update(&kept, &other)), expected, "also after a restart");
    assert_eq!(update(&kept, &files((3, 3, 6))).unwrap().state().seen(Role::Targets), 3);
    // By name alone: what the operator says that it saw.
    assert_eq!(kept.check_timestamp(5, offered), Err(expected));
    for (version, sha256) in [(5, seen), (4, offered), (6, offered)] {
        assert_eq!(kept.check_timestamp(version, sha256), Ok(()), "{version}");
    }
}

#[test]
fn attack_freeze() {
    let old = files((1, 1, 1));
    let vendor = update(&pinned(), &old).unwrap();
    assert_eq!(vendor.check_time(at(364)), Ok(()));
    // Whoever holds hosts at these files: from their expiry on nothing new is installed, and it is said why.
    let frozen = update(vendor.state(), &old).unwrap();
    let expired = |role| Err(Refusal::Expired { role, expires: at(365) });
    assert_eq!(frozen.check_time(at(365)), expired(Role::Root));

    let mut short = timestamp(2, 1, &old["metadata/1.snapshot.json"]);
    short.header.expires = at(7);
    let mut files = old.clone();
    files.insert("metadata/timestamp.json".into(), sign(&short, &[TIMESTAMP_KEY]));
    let vendor = update(vendor.state(), &files).unwrap();
    assert_eq!(vendor.check_time(at(6)), Ok(()));
    assert_eq!(vendor.check_time(at(8)), Err(Refusal::Expired { role: Role::Timestamp, expires: at(7) }));
}

#[test]
fn attack_mix_and_match() {
    let (one, two) = (files((1, 1, 1)), files((2, 2, 2)));
    assert!(update(&pinned(), &two).is_ok());
    // The snapshot of yesterday under the timestamp of today.
    let mut mixed = two.clone();
    mixed.insert("metadata/2.snapshot.json".into(), one["metadata/1.snapshot.json"].clone());
    let bytes = |files: &Files, path: &str| FileMeta::of(&files[path]).hashes.sha256;
    assert_eq!(
        refused(update(&pinned(), &mixed)),
        Refusal::WrongHash {
            what: "the snapshot metadata".into(),
            expected: bytes(&two, "metadata/2.snapshot.json"),
            actual: bytes(&one, "metadata/1.snapshot.json"),
        }
    );
    // And rightly named, by a snapshot key in wrong hands: the version gives it away.
    let snapshot = sign(&snapshot(2, 2, &one["metadata/1.targets.json"]), &[SNAPSHOT_KEY]);
    let timestamp = sign(&timestamp(2, 2, &snapshot), &[TIMESTAMP_KEY]);
    mixed.insert("metadata/2.targets.json".into(), one["metadata/1.targets.json"].clone());
    mixed.insert("metadata/2.snapshot.json".into(), snapshot);
    mixed.insert("metadata/timestamp.json".into(), timestamp);
    let refusal = refused(update(&pinned(), &mixed));
    assert_eq!(refusal, Refusal::WrongVersion { role: Role::Targets, expected: 2, actual: 1 });
}

#[test]
fn attack_wrong_length() {
    let mut files = files((1, 1, 1));
    let length = files["metadata/1.targets.json"].len() as u64;
    assert!(update(&pinned(), &files).is_ok());
    files.get_mut("metadata/1.targets.json").unwrap().push(b'\n');
    assert_eq!(
        refused(update(&pinned(), &files)),
        Refusal::WrongLength { what: "the targets metadata".into(), expected: length, actual: length + 1 }
    );
}

#[test]
fn attack_wrong_hash() {
    let mut files = files((1, 1, 1));
    let vendor = update(&pinned(), &files).unwrap();
    let file = vendor.kernel_file(&kernel(1)).unwrap();
    assert_eq!(allowed(&vendor, &files), Ok(allowance()));
    let text = String::from_utf8(files[&file.path].clone()).unwrap().replace("3.1", "9.1");
    let actual = FileMeta::of(text.as_bytes()).hashes.sha256;
    files.insert(file.path.clone(), text.into_bytes());
    let expected = file.meta.hashes.sha256;
    assert_eq!(allowed(&vendor, &files), Err(Refusal::WrongHash { what: file.path, expected, actual }));
}

#[test]
fn attack_allowance_that_is_too_long() {
    for (length, expected) in [(MAX_ALLOWANCE_BYTES, true), (MAX_ALLOWANCE_BYTES + 1, false)] {
        let mut targets = targets(1);
        targets.targets.values_mut().for_each(|meta| meta.length = length);
        let vendor =
            update(&pinned(), &files_with_targets((1, 1, 1), &sign(&targets, &TARGETS_KEYS))).unwrap();
        let found = vendor.kernel_file(&kernel(1));
        assert_eq!(found.is_ok(), expected, "{found:?}");
    }
}

#[test]
fn whoever_hands_a_repository_on_reads_all_of_it() {
    let files = files((1, 1, 1));
    let vendor = update(&pinned(), &files).unwrap();
    let listed: Vec<_> = vendor.target_files().unwrap().into_iter().map(|file| file.path).collect();
    assert_eq!(listed, [vendor.kernel_file(&kernel(1)).unwrap().path]);
    let all = vendor.all_allowances(|file| files.get(&file.path).cloned());
    assert_eq!(all, Ok(vec![allowance()]));
    assert_eq!(vendor.all_allowances(|_| None), Err(Refusal::Missing(listed[0].clone())));
}

#[test]
fn attack_metadata_of_another_role() {
    assert!(update(&pinned(), &files((1, 1, 1))).is_ok());
    // The online key signs targets.
    let stolen = sign(&targets(1), &[TIMESTAMP_KEY, SNAPSHOT_KEY]);
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &stolen)));
    assert_eq!(refusal, Refusal::Threshold { role: Role::Targets, valid: 0, threshold: 2 });
    // The right keys sign, but another document of theirs.
    let other = sign(&snapshot(1, 1, b""), &TARGETS_KEYS);
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &other)));
    assert_eq!(refusal, Refusal::WrongType { expected: Role::Targets, actual: "snapshot".into() });
}

#[test]
fn attack_one_signature_too_few() {
    assert!(update(&pinned(), &files((1, 1, 1))).is_ok());
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &sign(&targets(1), &[4]))));
    assert_eq!(refusal, Refusal::Threshold { role: Role::Targets, valid: 1, threshold: 2 });
}

#[test]
fn attack_duplicate_key_ids_in_signatures() {
    assert!(update(&pinned(), &files((1, 1, 1))).is_ok());
    let once = sign(&targets(1), &[4]);
    let mut file: serde_json::Value = serde_json::from_slice(&once).unwrap();
    let signature = file["signatures"][0].clone();
    file["signatures"].as_array_mut().unwrap().push(signature);
    let twice = serde_json::to_vec(&file).unwrap();
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &twice)));
    assert_eq!(refusal, Refusal::Threshold { role: Role::Targets, valid: 1, threshold: 2 });
}

#[test]
fn attack_changed_after_signing() {
    let signed = sign(&targets(1), &TARGETS_KEYS);
    assert!(update(&pinned(), &files_with_targets((1, 1, 1), &signed)).is_ok());
    let text = String::from_utf8(signed).unwrap();
    let (before, after) = (at(365).to_string(), at(3650).to_string());
    assert!(text.contains(&before));
    let changed = text.replace(&before, &after);
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), changed.as_bytes())));
    assert_eq!(refusal, Refusal::Threshold { role: Role::Targets, valid: 0, threshold: 2 });
}

#[test]
fn attack_missing_role() {
    let whole = files((1, 1, 1));
    assert!(update(&pinned(), &whole).is_ok());
    for path in ["metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"] {
        let mut files = whole.clone();
        files.remove(path);
        assert_eq!(refused(update(&pinned(), &files)), Refusal::Missing(path.into()));
    }
    // A snapshot that does not speak of the targets.
    let mut empty = serde_json::to_value(snapshot(1, 1, b"")).unwrap();
    empty["meta"] = json!({});
    let snapshot = sign(&empty, &[SNAPSHOT_KEY]);
    let mut files = whole.clone();
    files.insert("metadata/timestamp.json".into(), sign(&timestamp(1, 1, &snapshot), &[TIMESTAMP_KEY]));
    files.insert("metadata/1.snapshot.json".into(), snapshot);
    assert_eq!(
        refused(update(&pinned(), &files)),
        Refusal::Malformed { what: "the snapshot metadata", why: "missing field `targets.json`".into() }
    );
}

/// An update that stopped is not one that is done.
#[test]
fn attack_unfinished_update() {
    let files = files((1, 1, 1));
    let mut update = Update::new(pinned()).unwrap();
    update.absent().unwrap();
    update.take(&files["metadata/timestamp.json"]).unwrap();
    let unfinished = update.clone().finish().unwrap_err();
    assert_eq!(unfinished, Refusal::Missing("metadata/1.snapshot.json".into()));
    update.take(&files["metadata/1.snapshot.json"]).unwrap();
    update.take(&files["metadata/1.targets.json"]).unwrap();
    assert!(update.finish().is_ok());
}

fn targets_named(name: &str) -> Vec<u8> {
    let mut targets = targets(1);
    targets.targets.insert(name.into(), FileMeta::of(b""));
    sign(&targets, &TARGETS_KEYS)
}

fn refused_name(name: &str) {
    let plain = files_with_targets((1, 1, 1), &targets_named("kernels/amd64/0102.json"));
    assert!(update(&pinned(), &plain).is_ok());
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &targets_named(name))));
    assert_eq!(refusal, Refusal::Name(TargetName::parse(name).unwrap_err()), "{name:?}");
}

#[test]
fn attack_path_traversing_target_names() {
    for name in [
        "../../../etc/passwd",
        "/etc/passwd",
        "kernels/../x",
        "kernels//x",
        "kernels/./x",
        "x/",
        ".hidden",
        "a\\b",
        "a%2fb",
        "a\0b",
        "",
        "a..b",
        "C:x",
    ] {
        refused_name(name);
    }
}

#[test]
fn attack_unicode_target_names() {
    for name in [
        "kernels/ａmd64/x",
        "kernels/amd64/x\u{202e}",
        "kernels/amd64/e\u{301}",
        "\u{2024}\u{2024}/x",
        "K\u{212a}",
    ] {
        refused_name(name);
    }
}

#[test]
fn attack_a_million_delegations() {
    let plain = serde_json::to_value(targets(1)).unwrap();
    assert!(update(&pinned(), &files_with_targets((1, 1, 1), &sign(&plain, &TARGETS_KEYS))).is_ok());
    let with = |count: usize| {
        let mut targets = plain.clone();
        let roles: Vec<_> = (0..count).map(|n| json!({ "name": n })).collect();
        targets["delegations"] = json!({ "keys": {}, "roles": roles });
        files_with_targets((1, 1, 1), &sign(&targets, &TARGETS_KEYS))
    };
    assert_eq!(refused(update(&pinned(), &with(1))), Refusal::Delegations(1));
    let what = "the targets metadata".to_owned();
    let too_long = Refusal::TooLong { what, limit: MAX_TARGETS_BYTES };
    assert_eq!(refused(update(&pinned(), &with(1_000_000))), too_long);
}

#[test]
fn attack_endless_data() {
    let whole = files((1, 1, 1));
    assert!(update(&pinned(), &whole).is_ok());
    // One byte more than the reader was told to read.
    for (path, what) in
        [("metadata/2.root.json", "the root metadata"), ("metadata/timestamp.json", "the timestamp metadata")]
    {
        let mut limit = 0;
        let result = Update::run(pinned(), |wanted| {
            if wanted.path != path {
                return whole.get(&wanted.path).cloned();
            }
            limit = wanted.limit_bytes;
            Some(vec![b' '; wanted.limit_bytes as usize + 1])
        });
        assert_eq!(refused(result), Refusal::TooLong { what: what.into(), limit });
        assert!(limit <= 64 << 10);
    }
    // A timestamp that promises an endless snapshot does not make the reader read one.
    let huge = VersionedFile { version: 1, file: FileMeta { length: u64::MAX, ..FileMeta::of(b"") } };
    let mut promise = timestamp(1, 1, b"");
    promise.meta.snapshot = huge;
    let mut update = Update::new(pinned()).unwrap();
    update.absent().unwrap();
    update.take(&sign(&promise, &[TIMESTAMP_KEY])).unwrap();
    assert_eq!(update.wanted().unwrap().limit_bytes, MAX_TIMESTAMP_BYTES);
}

#[test]
fn attack_deeply_nested_metadata() {
    let mut files = files((1, 1, 1));
    assert!(update(&pinned(), &files).is_ok());
    let nested = format!(r#"{{"signed":{}{},"signatures":[]}}"#, "[".repeat(8000), "]".repeat(8000));
    files.insert("metadata/timestamp.json".into(), nested.into_bytes());
    let Refusal::Malformed { what, why } = refused(update(&pinned(), &files)) else {
        panic!("not malformed")
    };
    assert_eq!((what, why.split(" at ").next()), ("the metadata", Some("recursion limit exceeded")));
}

#[test]
fn attack_critical_member_that_is_not_understood() {
    let mut later = targets(1);
    later.header.critical = vec![];
    assert!(update(&pinned(), &files_with_targets((1, 1, 1), &sign(&later, &TARGETS_KEYS))).is_ok());
    later.header.critical = vec!["only_on_tuesdays".into()];
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &sign(&later, &TARGETS_KEYS))));
    assert_eq!(refusal, Refusal::Critical("only_on_tuesdays".into()));
}

#[test]
fn attack_a_format_of_tomorrow() {
    let mut later = targets(1);
    assert!(update(&pinned(), &files_with_targets((1, 1, 1), &sign(&later, &TARGETS_KEYS))).is_ok());
    later.header.spec_version = "2.0.0".into();
    let refusal = refused(update(&pinned(), &files_with_targets((1, 1, 1), &sign(&later, &TARGETS_KEYS))));
    assert_eq!(refusal, Refusal::Format("2.0.0".into()));
}

#[test]
fn attack_clock_set_back() {
    let vendor = update(&pinned(), &files((1, 1, 1))).unwrap();
    assert_eq!(vendor.check_time(at(0)), Ok(()));
    let now = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(vendor.check_time(now), Err(Refusal::ClockBehind { issued: at(0), now }));
}

#[test]
fn attack_clock_set_forward() {
    let now: jiff::Timestamp = "2099-01-01T00:00:00Z".parse().unwrap();
    let vendor = update(&pinned(), &files((1, 1, 1))).unwrap();
    assert_eq!(vendor.check_time(at(1)), Ok(()));
    assert_eq!(vendor.check_time(now), Err(Refusal::Expired { role: Role::Root, expires: at(365) }));
    // The clock leaves nothing behind: once it is right, updates go on.
    let later = update(vendor.state(), &files((2, 2, 2))).unwrap();
    assert_eq!(later.check_time(at(1)), Ok(()));
}
