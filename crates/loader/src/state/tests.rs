//! The state's own rules, and its files of earlier versions.

use super::*;

fn open(directory: &Path) -> StateStore {
    StateStore::open(directory, Arc::new(Unwatched))
}

#[test]
fn a_state_reads_back_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert_eq!(store.problem(), None);
    store.update(|state| state.held = Some(PatchVersion::parse("1.1").unwrap())).unwrap();
    assert_eq!(open(directory.path()).get(), store.get());
    let path = directory.path().join(FILE_NAME);
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

/// Every member but the operator's root, of which crates/trust has golden files: what this version writes, every later one
/// reads. Who changes this file strands the hosts that have the former one.
#[test]
fn the_format_stays() {
    let golden = include_str!("../../tests/state.json");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), golden).unwrap();
    let store = open(directory.path());
    assert_eq!(store.problem(), None);
    let written = serde_json::to_string_pretty(&store.get()).unwrap();
    assert_eq!(written, golden.trim_end());
    let members = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(golden).unwrap();
    let empty = serde_json::to_value(State::new()).unwrap();
    let unset =
        |name: &String| members.get(name).is_none_or(|value| *value == empty[name] && name != "schema");
    assert_eq!(empty.as_object().unwrap().keys().find(|name| unset(name)), None);
}

/// The cohort came later: states without one are read, and are written without one.
#[test]
fn a_state_with_a_cohort() {
    let golden = include_str!("../../tests/state.json");
    let version = "\"assignment\": 1763600000";
    let with = golden.replace(version, &format!("{version},\n    \"cohort\": \"databases/2\""));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), &with).unwrap();
    let store = open(directory.path());
    let cohort = store.get().host.unwrap().cohort;
    assert_eq!((store.problem(), cohort), (None, Some(Cohort::parse("databases/2").unwrap())));
    assert_eq!(serde_json::to_string_pretty(&store.get()).unwrap(), with.trim_end());
}

fn golden() -> State {
    serde_json::from_str(include_str!("../../tests/state.json")).unwrap()
}

/// What is remembered of other kernels came later, and what is held on which: states without are read, and are written without.
#[test]
fn a_state_of_several_kernels() {
    let with = include_str!("../../tests/state-of-kernels.json");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), with).unwrap();
    let store = open(directory.path());
    assert_eq!(store.problem(), None);
    assert_eq!(serde_json::to_string_pretty(&store.get()).unwrap(), with.trim_end());
    let build_id = |byte| BuildId::from_bytes(&[byte; 20]).unwrap();
    let held = |state: &State| [1, 2, 3].map(|byte| state.held_on(&build_id(byte)).map(|held| held.minor()));
    assert_eq!(held(&store.get()), [Some(4), Some(9), None]);

    // The hold of a state without says nothing of kernels.
    let former = golden();
    assert_eq!((former.other_kernels.len(), held(&former)), (0, [Some(4); 3]));
    let mut state = former.clone();
    state.turn_to(&build_id(2));
    assert_eq!(state.applied, None);
    state.turn_to(&build_id(1));
    assert_eq!(state, former, "nothing is lost on the way");
}

/// What comes back on any kernel is of this machine.
#[test]
fn what_of_several_kernels_an_image_keeps() {
    let state: State = serde_json::from_str(include_str!("../../tests/state-of-kernels.json")).unwrap();
    let image = state.without_this_machine();
    assert_eq!((image.other_kernels, image.holds, image.held), (vec![], vec![], None));
    assert_eq!(image.seen, state.seen);
}

/// What is remembered of a boot, a kernel, an operator or a channel says nothing of another.
#[test]
fn nothing_is_said_of_others() {
    let state = golden();
    let build_id = |byte| BuildId::from_bytes(&[byte; 20]).unwrap();
    let version = |text| PatchVersion::parse(text).unwrap();
    assert_eq!(["b", "c"].map(|boot_id| state.kernel_log_seen_in(boot_id)), [812, 0]);
    assert_eq!(["b", "c"].map(|boot_id| state.loaded_in(boot_id).len()), [1, 0]);
    assert_eq!([1, 2].map(|byte| state.withdrawn(&build_id(byte))), [vec![version("1.0")], vec![]]);
    let seen = [("site", 1, "stable"), ("other", 1, "stable"), ("site", 2, "stable"), ("site", 1, "beta")];
    let seen = seen.map(|(operator, byte, channel)| {
        state.seen_version(operator, &build_id(byte), &Tier::parse(channel).unwrap())
    });
    assert_eq!(seen, [7, 0, 0, 0]);
    let stalled = [("1.5", 1, "b"), ("1.4", 1, "b"), ("1.5", 2, "b"), ("1.5", 1, "c")];
    let stalled =
        stalled.map(|(of, byte, boot_id)| state.stalled(version(of), &build_id(byte), boot_id).is_some());
    assert_eq!(stalled, [true, false, false, false]);
}

/// A host is idle when root has not enabled it and nothing is or was being applied.
#[test]
fn what_is_idle() {
    let (new, golden) = (State::new(), golden());
    assert!(new.is_idle());
    let applied = State { applied: golden.applied, ..State::new() };
    let in_progress = State { in_progress: golden.in_progress, ..State::new() };
    let open = State { channel: Channel::Open, ..State::new() };
    let elsewhere: State = serde_json::from_str(include_str!("../../tests/state-of-kernels.json")).unwrap();
    let elsewhere = State { other_kernels: elsewhere.other_kernels, ..State::new() };
    assert_eq!([applied, in_progress, open, elsewhere].map(|state| state.is_idle()), [false; 4]);
}

/// The newest time of signing counts; of another operator the last one does.
#[test]
fn when_documents_were_issued() {
    let day = |day: i8| jiff::civil::date(2026, 11, day).in_tz("UTC").unwrap().timestamp();
    let mut state = golden();
    let steps = [("site", 20, 21), ("site", 22, 22), ("other", 19, 19), ("other", 18, 19), ("site", 17, 17)];
    for (operator, issued, expected) in steps {
        state.issued(operator, day(issued));
        assert_eq!(state.latest_issued, Some(day(expected)), "{operator} {issued}");
        assert_eq!(state.latest_issued_by.as_deref(), Some(operator));
    }
    // An earlier version did not say whose it was: it counts for all.
    state.latest_issued_by = None;
    state.issued("other", day(16));
    assert_eq!(state.latest_issued, Some(day(17)));
}

fn withdrawing(kernel: u8, channel: &str, version: u64, withdrawn: Vec<PatchVersion>) -> KernelDocument {
    KernelDocument {
        schema: 1,
        critical: vec![],
        kernel: livepatch_types::KernelIdentity {
            architecture: livepatch_types::Architecture::Amd64,
            release: livepatch_types::KernelRelease::parse("6.1.0").unwrap(),
            build_id: BuildId::from_bytes(&[kernel; 20]).unwrap(),
        },
        channel: Tier::parse(channel).unwrap(),
        version,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::MAX,
        poll_hint_seconds: None,
        target: None,
        vendor: None,
        coverage: None,
        withdrawn,
    }
}

fn versions(minors: impl IntoIterator<Item = usize>) -> Vec<PatchVersion> {
    minors.into_iter().map(|minor| PatchVersion::parse(&format!("1.{minor}")).unwrap()).collect()
}

/// Each operator, kernel and channel has a row of its own, whose highest version counts.
#[test]
fn documents_are_remembered_apart() {
    let mut state = golden();
    let documents = [
        ("site", 1, "stable", 9),
        ("site", 1, "stable", 8),
        ("other", 1, "stable", 3),
        ("site", 2, "stable", 4),
        ("site", 1, "beta", 5),
    ];
    for (operator, kernel, channel, number) in documents {
        let document = withdrawing(kernel, channel, number, versions([number as usize]));
        state.remember_seen(operator, &document).unwrap();
    }
    let seen = state.seen.iter().map(|seen| (seen.operator.as_str(), seen.version, seen.withdrawn.clone()));
    let expected = [
        ("site", 9, versions([0, 8, 9])),
        ("other", 3, versions([3])),
        ("site", 4, versions([4])),
        ("site", 5, versions([5])),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

/// The limit is for what is new: an earlier version had none, and a host that has more goes on with what it has.
#[test]
fn no_more_withdrawals_than_so_many() {
    let mut state = golden();
    let withdraw = |state: &mut State, number, count| {
        let document = withdrawing(1, "stable", number, versions(0..count));
        state.remember_seen("site", &document).map_err(|problem| problem.code)
    };
    assert_eq!(withdraw(&mut state, 8, MAX_WITHDRAWN), Ok(()));
    let before = state.clone();
    assert_eq!(withdraw(&mut state, 9, MAX_WITHDRAWN + 1), Err("document-withdraws-too-many"));
    assert_eq!(state, before);
    state.seen[0].withdrawn = versions(0..MAX_WITHDRAWN + 2);
    assert_eq!(withdraw(&mut state, 10, MAX_WITHDRAWN + 1), Ok(()));
    assert_eq!(state.seen[0].version, 10);
    assert_eq!(withdraw(&mut state, 11, MAX_WITHDRAWN + 3), Err("document-withdraws-too-many"));
}

/// Of operators that do not speak any more the last rows stay, without what they withdrew; of the one that does all stay.
#[test]
fn what_is_kept_of_other_operators() {
    let row = |operator: &str, version| Seen {
        operator: operator.into(),
        build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        channel: Tier::parse("stable").unwrap(),
        version,
        withdrawn: versions([1]),
    };
    let most = MOST_SEEN_OF_OTHERS as u64;
    for others in [0, 1, most, most + 1, most + 3] {
        let mut state = State::new();
        state.seen.push(row("own", 0));
        state.seen.extend((1..=others).map(|number| row(&format!("other {number}"), number)));
        state.seen.push(row("own", others + 1));
        state.forget_other_operators("own");
        let first = others.saturating_sub(most);
        let expected: Vec<_> = std::iter::once(0).chain(first + 1..=others + 1).collect();
        assert_eq!(state.seen.iter().map(|seen| seen.version).collect::<Vec<_>>(), expected, "{others}");
        for seen in state.seen {
            assert_eq!(seen.withdrawn.is_empty(), seen.operator != "own", "{}", seen.operator);
        }
    }
}

#[test]
fn what_is_in_memory_alone_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let prepared = Prepared {
        version: PatchVersion::parse("1.1").unwrap(),
        build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        stage: Stage::Downloaded,
    };
    store.update(|state| state.prepared = Some(prepared.clone())).unwrap();
    assert_eq!(store.get().prepared, Some(prepared.clone()));
    assert!(!directory.path().join(FILE_NAME).exists());
    // It goes along with what is.
    store.update(|state| state.channel = Channel::Open).unwrap();
    assert_eq!(store.get().prepared, Some(prepared));
    assert_eq!(open(directory.path()).get(), State { channel: Channel::Open, ..State::new() });
}

/// The last byte that documents may fill; root may fill more.
#[test]
fn what_may_be_noted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let kernels: State = serde_json::from_str(include_str!("../../tests/state-of-kernels.json")).unwrap();
    let of = |length: usize| State {
        document: Some("x".repeat(length)),
        other_kernels: kernels.other_kernels.clone(),
        ..State::new()
    };
    // What is remembered of other kernels has room of its own.
    let empty = State { other_kernels: vec![], ..of(0) };
    let most = MAX_NOTED_BYTES as usize - serde_json::to_vec_pretty(&empty).unwrap().len();
    let note = |length| {
        store.note_if(|state| {
            *state = of(length);
            Ok(())
        })
    };
    assert_eq!((note(most), store.get()), (Ok(()), of(most)));
    assert_eq!(note(most + 1).unwrap_err().code, "state-full");
    assert_eq!(store.get(), of(most));
    assert_eq!(store.update(|state| *state = of(most + 1)), Ok(()));
    assert_eq!(open(directory.path()).get(), of(most + 1));
}

/// An image has what was seen of others, and nothing of the machine that it was made on.
#[test]
fn what_an_image_keeps() {
    const KEPT: [&str; 7] =
        ["schema", "log", "log_pinned", "seen", "latest_issued", "latest_issued_by", "vendor"];
    let [whole, kept, empty] = [golden(), golden().without_this_machine(), State::new()]
        .map(|state| serde_json::to_value(state).unwrap());
    assert_eq!(empty.get("kernel_log_seen"), None, "nothing was seen");
    for (name, value) in whole.as_object().unwrap() {
        let expected = if KEPT.contains(&name.as_str()) { Some(value) } else { empty.get(name) };
        assert_eq!(kept.get(name), expected, "{name}");
    }
}

#[test]
fn the_state_of_the_daemon_before_the_split_is_taken_over() {
    let before = include_str!("../../tests/before-split.json");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(BEFORE_THE_SPLIT), before).unwrap();
    for _ in 0..2 {
        take_over(directory.path()).unwrap();
        let store = open(directory.path());
        assert_eq!(store.problem(), None);
        let state = store.get();
        assert_eq!(state.channel, Channel::Pinned(Tier::parse("stable").unwrap()));
        assert_eq!(state.document.as_deref(), Some("{\"payload\":\"\"}"));
        assert_eq!((state.seen[0].version, state.held), (7, Some(PatchVersion::parse("1.1").unwrap())));
        assert!(!std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap().contains("secret"));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "it is taken over once");
    // Once there is a state, no older one takes its place.
    let state = std::fs::read(directory.path().join(FILE_NAME)).unwrap();
    std::fs::write(directory.path().join(BEFORE_THE_SPLIT), "{}").unwrap();
    take_over(directory.path()).unwrap();
    assert_eq!(std::fs::read(directory.path().join(FILE_NAME)).unwrap(), state);
    assert_eq!(take_over(&directory.path().join("none")), Ok(()), "there is none");
    // What that daemon could not read either is shown as that.
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(BEFORE_THE_SPLIT), "{").unwrap();
    take_over(directory.path()).unwrap();
    assert_eq!(open(directory.path()).problem().unwrap().code, "state-unreadable");
}

/// Steps as they are reached, by file name.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Steps for Told {
    fn reached(&self, step: Step<'_>) {
        let (word, path) = match step {
            Step::Renamed(path) => ("renamed", path),
            Step::Kept(path) => ("kept", path),
            _ => return,
        };
        self.0.lock().unwrap().push(format!("{word} {}", path.file_name().unwrap().display()));
    }
}

/// A missing file is a new host only where nothing else of the loader's is. It stays missing until root acts.
#[test]
fn a_lost_state_is_no_new_host() {
    type Beside = fn(&Path);
    let rows: [(Beside, Option<&str>); 4] = [
        (|_| (), None),
        (|directory| std::fs::create_dir(directory.join(OBJECTS_DIRECTORY)).unwrap(), None),
        (|directory| std::fs::write(directory.join(VENDOR_FILE), "{}").unwrap(), Some("state-missing")),
        (
            |directory| {
                std::fs::create_dir(directory.join(OBJECTS_DIRECTORY)).unwrap();
                std::fs::write(directory.join(OBJECTS_DIRECTORY).join("x.ko"), "x").unwrap();
            },
            Some("state-missing"),
        ),
    ];
    for (beside, expected) in rows {
        let directory = tempfile::tempdir().unwrap();
        beside(directory.path());
        let store = open(directory.path());
        assert_eq!(store.problem().map(|problem| problem.code), expected);
        store.begin().unwrap();
        assert_eq!(directory.path().join(FILE_NAME).exists(), expected.is_none());
        assert_eq!(store.update(|state| state.seen.clear()).is_err(), expected.is_some());
        store.set_aside().unwrap();
        assert_eq!((store.problem(), open(directory.path()).problem()), (None, None));
    }
}

/// A file that is there and cannot be looked at is no missing file.
#[test]
fn what_cannot_be_looked_at_is_not_missing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(open(&file).problem().unwrap().code, "state-unreadable");
    let store = open(directory.path());
    let aside = directory.path().join("state.json.unreadable");
    assert_eq!(store.remove_set_aside(), Ok(()), "nothing is there");
    std::fs::create_dir(&aside).unwrap();
    assert_eq!(store.remove_set_aside().unwrap_err().code, "state-not-written");
    std::fs::remove_dir(&aside).unwrap();
    std::fs::write(&aside, "{").unwrap();
    assert_eq!((store.remove_set_aside(), aside.exists()), (Ok(()), false));
}

#[test]
fn a_private_directory_is_made_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("above/private");
    for _ in 0..2 {
        private_directory(&inner).unwrap();
    }
    assert_eq!(std::fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(private_directory(&directory.path().join("x".repeat(300))).is_err());
    // Nor is anything set aside in the place of what cannot be replaced.
    std::fs::create_dir(file.with_extension("aside")).unwrap();
    assert!(set_aside(&file, "aside", &Unwatched).is_err());
    assert!(file.exists());
}

/// The longest file that is read, and the longest that is written.
#[test]
fn the_last_byte_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut text = serde_json::to_string(&State::new()).unwrap();
    text += &" ".repeat(MAX_STATE_BYTES as usize - text.len());
    std::fs::write(&path, &text).unwrap();
    assert_eq!(open(directory.path()).problem(), None);
    assert!(write_capped(&path, b"12345", 5, &Unwatched).is_ok());
    assert!(write_capped(&path, b"123456", 5, &Unwatched).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"12345");
}

/// What would not be read again is not written, and the state stays as it was.
#[test]
fn a_state_that_is_too_long_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.update(|state| state.document = Some("x".into())).unwrap();
    let before = store.get();
    let long = "x".repeat(MAX_STATE_BYTES as usize);
    let problem = store.update(|state| state.document = Some(long)).unwrap_err();
    assert_eq!(problem.code, "state-not-written");
    assert!(problem.message.contains("where 5242880 are allowed"), "{problem}");
    assert_eq!((store.get(), open(directory.path()).get()), (before.clone(), before));
}

/// A rename is on the disk before anything is said of it.
#[test]
fn what_is_set_aside_stays_so() {
    let (directory, told) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()));
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, "{").unwrap();
    StateStore::open(directory.path(), Arc::clone(&told) as _).set_aside().unwrap();
    let [renamed, kept] = ["renamed state.json", "kept state.json"];
    assert_eq!(*told.0.lock().unwrap(), [renamed, kept, renamed, kept], "aside, and the new one");
    assert!(set_aside(&directory.path().join("none"), "x", told.as_ref()).is_ok());
    assert_eq!(told.0.lock().unwrap().len(), 4, "nothing was there");
}

#[test]
fn an_unreadable_state_is_kept_until_it_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut said = String::new();
    let long = " ".repeat(MAX_STATE_BYTES as usize + 1);
    let later = serde_json::to_string(&State { schema: 2, ..State::default() }).unwrap();
    for text in ["", "{", "{\"schema\": 2}", "{\"schema\": 1, \"later\": 1}", "{}", &long, &later] {
        std::fs::write(&path, text).unwrap();
        let store = open(directory.path());
        let problem = store.problem().unwrap();
        assert_eq!(problem.code, "state-unreadable", "{problem}");
        said += &problem.to_string().replace(path.to_str().unwrap(), "FILE");
        said += "\n";
        assert_eq!(store.update(|state| state.seen.clear()).unwrap_err().code, "state-unreadable");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        store.set_aside().unwrap();
        assert_eq!(std::fs::read_to_string(path.with_extension("json.unreadable")).unwrap(), text);
        assert_eq!((open(directory.path()).problem(), store.get()), (None, State::new()), "it begins anew");
    }
    insta::assert_snapshot!(said, @"
    cannot use FILE: EOF while parsing a value at line 1 column 0
    cannot use FILE: EOF while parsing an object at line 1 column 1
    cannot use FILE: its schema is 2 where 1 is understood
    cannot use FILE: unknown field `later`, expected one of `schema`, `channel`, `host`, `operator`, `log`, `log_pinned`, `seen`, `latest_issued`, `latest_issued_by`, `document`, `support`, `applied`, `soaking`, `healthy_before`, `other_kernels`, `held`, `holds`, `in_progress`, `blocked`, `stalled`, `loaded`, `kernel_log_seen`, `vendor` at line 1 column 21
    cannot use FILE: its schema is 0 where 1 is understood
    cannot use FILE: it is too large
    cannot use FILE: its schema is 2 where 1 is understood
    ");
}
