//! Attacks on the root, and what its rotation heals.

use livepatch_trust::{
    Kind, MAX_KEYS, MAX_SIGNATURES, Refusal, RepositoryName, Role, Root, State, TimestampRole,
};

use crate::repository::*;

fn next(change: impl FnOnce(&mut Root)) -> Root {
    let mut root = root(2);
    change(&mut root);
    root
}

/// Whether a host that trusts root 1 follows this file.
fn follow(bytes: &[u8]) -> Result<State, Refusal> {
    let mut state = pinned();
    state.take_root(bytes).map(|()| state)
}

fn exchange(root: &mut Root, role: Role, seeds: &[u8], threshold: usize) {
    root.keys.extend(seeds.iter().map(|&seed| (public(seed).id(), public(seed))));
    root.roles.insert(role, role_keys(seeds, threshold));
    let used: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
    root.keys.retain(|id, _| used.contains(id));
}

/// Whether a host that has a root may have begun from another one: from itself, and from an older one of its repository.
#[test]
fn what_a_root_may_have_come_from() {
    let pin = |root: &Root| State::pin(&sign(root, &[1, 2, 3])).unwrap();
    let state = pin(&root(2));
    let renamed = |version: u64| {
        let mut root = root(version);
        root.repository = RepositoryName::parse("another").unwrap();
        root
    };
    let rows = [
        ("itself", root(2), true),
        ("an older one", root(1), true),
        ("a later one", root(3), false),
        ("another one of the same version", next(|root| root.header.expires = at(400)), false),
        ("an older one of another repository", renamed(1), false),
        ("one of the same version of another repository", renamed(2), false),
    ];
    for (what, pinned, expected) in rows {
        assert_eq!(state.continues(&pin(&pinned)), expected, "{what}");
    }
}

#[test]
fn attack_rollback_of_the_root() {
    let state = follow(&sign(&root(2), &[1, 2])).unwrap();
    let with = |version: u64| {
        let mut files = files((1, 1, 1));
        files.insert("metadata/3.root.json".into(), sign(&root(version), &[1, 2]));
        update(&state, &files).map(|vendor| vendor.state().seen(Role::Root))
    };
    assert_eq!(with(3), Ok(3));
    assert_eq!(with(1), Err(Refusal::Rollback { role: Role::Root, offered: 1, seen: 2 }));
    assert_eq!(with(4), Err(Refusal::WrongVersion { role: Role::Root, expected: 3, actual: 4 }));
}

#[test]
fn attack_root_that_the_old_keys_did_not_sign() {
    let other = next(|root| exchange(root, Role::Root, &[21, 22], 2));
    assert_eq!(follow(&sign(&other, &[1, 2, 21, 22])).unwrap().seen(Role::Root), 2);
    let refusal = follow(&sign(&other, &[21, 22])).unwrap_err();
    assert_eq!(refusal, Refusal::Threshold { role: Role::Root, valid: 0, threshold: 2 });
    // Nor does it help that the old keys signed, if the new ones did not.
    let refusal = follow(&sign(&other, &[1, 2])).unwrap_err();
    assert_eq!(refusal, Refusal::Threshold { role: Role::Root, valid: 0, threshold: 2 });
}

#[test]
fn attack_fast_forward_and_recovery() {
    let mut files = files((2, 2, 2));
    let state = update(&pinned(), &files).unwrap().state().clone();
    // A stolen timestamp key signs the highest version there is: no later one can be believed.
    let snapshot = files["metadata/2.snapshot.json"].clone();
    files
        .insert("metadata/timestamp.json".into(), sign(&timestamp(u64::MAX, 2, &snapshot), &[TIMESTAMP_KEY]));
    let state = update(&state, &files).unwrap().state().clone();
    let honest = |version: u64, key: u8| sign(&timestamp(version, 2, &snapshot), &[key]);
    files.insert("metadata/timestamp.json".into(), honest(3, TIMESTAMP_KEY));
    let rollback = Refusal::Rollback { role: Role::Timestamp, offered: 3, seen: u64::MAX };
    assert_eq!(update(&state, &files).unwrap_err(), rollback);
    // A root that adds a key, but leaves the stolen one, forgets nothing: what that one signed would be valid again.
    let both = next(|root| exchange(root, Role::Timestamp, &[TIMESTAMP_KEY, 23], 1));
    files.insert("metadata/2.root.json".into(), sign(&both, &[1, 2]));
    files.insert("metadata/timestamp.json".into(), honest(3, 23));
    assert_eq!(update(&state, &files).unwrap_err(), rollback);
    // A root that takes it away heals the host.
    let healed = next(|root| exchange(root, Role::Timestamp, &[23], 1));
    files.insert("metadata/2.root.json".into(), sign(&healed, &[1, 2]));
    let vendor = update(&state, &files).unwrap();
    assert_eq!(vendor.state().seen(Role::Timestamp), 3);
    assert_eq!(vendor.state().seen(Role::Targets), 2, "nothing else was forgotten");
}

/// The same with snapshot and targets, whose versions are named by what is above them.
#[test]
fn attack_fast_forward_of_snapshot_and_targets_and_recovery() {
    let max = u64::MAX;
    let state = update(&pinned(), &files((max, max, 1))).unwrap().state().clone();
    let honest = files((2, 2, 2));
    let seen = Refusal::Rollback { role: Role::Snapshot, offered: 2, seen: max };
    assert_eq!(update(&state, &honest).unwrap_err(), seen);

    let healed = next(|root| {
        exchange(root, Role::Snapshot, &[24], 1);
        exchange(root, Role::Targets, &[25, 26], 2);
    });
    let targets = sign(&targets(2), &[25, 26]);
    let snapshot = sign(&snapshot(2, 2, &targets), &[24]);
    let mut files = honest;
    files.insert("metadata/2.root.json".into(), sign(&healed, &[1, 2]));
    files.insert("metadata/timestamp.json".into(), sign(&timestamp(2, 2, &snapshot), &[TIMESTAMP_KEY]));
    files.insert("metadata/2.snapshot.json".into(), snapshot);
    files.insert("metadata/2.targets.json".into(), targets);
    let vendor = update(&state, &files).unwrap();
    assert_eq!((vendor.state().seen(Role::Snapshot), vendor.state().seen(Role::Targets)), (2, 2));
}

/// What is forgotten with the keys of each role: its own versions, those that its files name, and the time of signing,
/// which may be one that never comes.
#[test]
fn what_a_renounced_role_forgets() {
    let rows: [(Role, &[u8], Versions); 3] = [
        (Role::Timestamp, &[23], (5, 0, 0)),
        (Role::Snapshot, &[24], (0, 0, 7)),
        (Role::Targets, &[25, 26], (0, 6, 7)),
    ];
    let mut files = files((5, 6, 7));
    let mut future = timestamp(7, 6, &files["metadata/6.snapshot.json"]);
    future.header.issued = at(30_000);
    files.insert("metadata/timestamp.json".into(), sign(&future, &[TIMESTAMP_KEY]));
    let before = update(&pinned(), &files).unwrap().state().clone();
    for (role, keys, expected) in rows {
        let mut state = before.clone();
        assert!(matches!(state.check_time(at(1)), Err(Refusal::ClockBehind { .. })));
        state.take_root(&sign(&next(|root| exchange(root, role, keys, keys.len())), &[1, 2])).unwrap();
        let seen = [Role::Targets, Role::Snapshot, Role::Timestamp].map(|role| state.seen(role));
        assert_eq!((Versions::from(seen), state.check_time(at(1))), (expected, Ok(())), "{role:?}");
    }
}

/// A stolen key dates its file to 2099, so that every clock seems to be behind.
#[test]
fn attack_time_of_signing_in_the_future_and_recovery() {
    let mut files = files((1, 1, 1));
    let snapshot = files["metadata/1.snapshot.json"].clone();
    let state = update(&pinned(), &files).unwrap().state().clone();
    assert_eq!(state.check_time(at(1)), Ok(()));
    let mut future: TimestampRole = timestamp(2, 1, &snapshot);
    future.header.issued = at(30_000);
    files.insert("metadata/timestamp.json".into(), sign(&future, &[TIMESTAMP_KEY]));
    let mut state = update(&state, &files).unwrap().state().clone();
    let behind = Refusal::ClockBehind { issued: at(30_000), now: at(1) };
    assert_eq!(state.check_time(at(1)), Err(behind));
    state.take_root(&sign(&next(|root| exchange(root, Role::Timestamp, &[23], 1)), &[1, 2])).unwrap();
    assert_eq!(state.check_time(at(1)), Ok(()));
}

#[test]
fn attack_key_under_a_name_that_is_not_its_own() {
    assert!(follow(&sign(&root(2), &[1, 2])).is_ok());
    let (stated, actual) = (public(99).id(), public(1).id());
    let renamed = next(|root| {
        root.keys.insert(stated, public(1));
        root.roles.insert(Role::Root, role_keys(&[1, 99], 2));
    });
    assert_eq!(follow(&sign(&renamed, &[1, 2])).unwrap_err(), Refusal::KeyId { stated, actual });
}

#[test]
fn attack_key_that_is_listed_twice() {
    assert!(follow(&sign(&root(2), &[1, 2])).is_ok());
    let twice = next(|root| {
        root.roles.insert(Role::Targets, role_keys(&[4, 4], 2));
    });
    let refusal = Refusal::BadRole { role: Role::Targets, why: "a key is listed twice" };
    assert_eq!(follow(&sign(&twice, &[1, 2])).unwrap_err(), refusal);
}

#[test]
fn attack_role_without_keys_or_threshold() {
    assert!(follow(&sign(&root(2), &[1, 2])).is_ok());
    let rows = [
        (role_keys(&[4, 5], 0), "its threshold is 0 or more than it has keys"),
        (role_keys(&[4, 5], 3), "its threshold is 0 or more than it has keys"),
        (role_keys(&[], 1), "its threshold is 0 or more than it has keys"),
        (role_keys(&[4, 50], 2), "a key is listed that the root does not have"),
    ];
    for (keys, why) in rows {
        let bad = next(|root| {
            root.roles.insert(Role::Targets, keys);
        });
        assert_eq!(follow(&sign(&bad, &[1, 2])).unwrap_err(), Refusal::BadRole { role: Role::Targets, why });
    }
}

#[test]
fn attack_root_with_other_roles() {
    assert!(follow(&sign(&root(2), &[1, 2])).is_ok());
    let without = next(|root| {
        root.roles.remove(&Role::Snapshot);
    });
    assert_eq!(follow(&sign(&without, &[1, 2])).unwrap_err(), Refusal::WrongKind(Kind::Vendor));
    // A vendor that turns into an operator would have no targets to check.
    let operator = next(|root| {
        root.roles.retain(|role, _| *role == Role::Root);
        root.roles.insert(Role::Documents, role_keys(&[6], 1));
        root.roles.insert(Role::Assignments, role_keys(&[7], 1));
    });
    assert_eq!(follow(&sign(&operator, &[1, 2])).unwrap_err(), Refusal::WrongKind(Kind::Vendor));
}

#[test]
fn attack_root_of_another_repository() {
    assert!(follow(&sign(&root(2), &[1, 2])).is_ok());
    let other = next(|root| root.repository = RepositoryName::parse("ubuntu-24.04-6.8").unwrap());
    let refusal = follow(&sign(&other, &[1, 2])).unwrap_err();
    let (expected, actual) = ("debian-12-6.1".to_owned(), "ubuntu-24.04-6.8".to_owned());
    assert_eq!(refusal, Refusal::WrongRepository { expected, actual });
}

#[test]
fn attack_too_many_keys_and_signatures() {
    let keys = |count: usize| {
        let more = 7 + count as u8;
        next(|root| root.keys.extend((8..more + 1).map(|seed| (public(seed).id(), public(seed)))))
    };
    assert!(follow(&sign(&keys(MAX_KEYS - 7), &[1, 2])).is_ok());
    let refusal = Refusal::TooMany { what: "keys", limit: MAX_KEYS };
    assert_eq!(follow(&sign(&keys(MAX_KEYS - 6), &[1, 2])).unwrap_err(), refusal);

    let seeds = |count: usize| (1..=count as u8).collect::<Vec<_>>();
    assert!(follow(&sign(&root(2), &seeds(MAX_SIGNATURES))).is_ok());
    let refusal = Refusal::TooMany { what: "signatures", limit: MAX_SIGNATURES };
    assert_eq!(follow(&sign(&root(2), &seeds(MAX_SIGNATURES + 1))).unwrap_err(), refusal);
}

#[test]
fn attack_roots_without_end() {
    use livepatch_trust::{MAX_NEW_ROOTS, Update};
    let files = files((1, 1, 1));
    let run = |roots: u64| {
        Update::run(pinned(), |wanted| {
            let name = wanted.path.strip_prefix("metadata/").and_then(|name| name.strip_suffix(".root.json"));
            match name.and_then(|version| version.parse::<u64>().ok()) {
                Some(version) if version > roots => None,
                Some(version) => Some(sign(&root(version), &[1, 2])),
                None => files.get(&wanted.path).cloned(),
            }
        })
    };
    assert_eq!(run(3).unwrap().state().seen(Role::Root), 3);
    let refusal = Refusal::TooMany { what: "new roots", limit: MAX_NEW_ROOTS as usize };
    assert_eq!(run(u64::MAX).unwrap_err(), refusal);
}

#[test]
fn attack_changed_state() {
    let state = state_after((2, 2, 5));
    assert_eq!(State::parse(&state.to_bytes()), Ok(state.clone()));
    let text = String::from_utf8(state.to_bytes()).unwrap();
    // A root that nobody signed does not come in by the state either.
    let changed = text.replacen("\"threshold\":2", "\"threshold\":1", 1);
    assert_ne!(changed, text);
    let refusal = State::parse(changed.as_bytes()).unwrap_err();
    assert!(matches!(refusal, Refusal::Threshold { role: Role::Root, valid: 0, .. }), "{refusal:?}");
    let later = text.replace("\"schema\":1", "\"schema\":2");
    assert_eq!(State::parse(later.as_bytes()).unwrap_err(), Refusal::Format("state 2".into()));
    assert!(State::parse(&text.as_bytes()[..text.len() / 2]).is_err());
}
