//! What the agent remembers: its enrolment, in one file that is replaced as a whole. What the host saw and what it
//! runs is the loader's. A file that cannot be read is left alone: the host does nothing new, and says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use livepatch_types::{BuildId, Redacted, Tier};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// Of this form. Schema 1 is that of the daemon which did all by itself, 2 is without `checked_at`, 3 without `enrolled_at`.
const SCHEMA: u32 = 4;
const BEFORE_THE_LOADER: u32 = 1;
const BEFORE_THE_CHECKS: u32 = 2;
const BEFORE_THE_ENROLMENTS: u32 = 3;
const MAX_STATE_BYTES: u64 = 4 << 20;
const FILE_NAME: &str = "state.json";

/// Everything that outlives the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Version of the format: 4.
    pub schema: u32,
    /// Enrolment; none: not enabled.
    pub enrolment: Option<Enrolment>,
    /// The document that the loader took last.
    pub noted: Option<Noted>,
    /// When the last check that succeeded ended, by this host's clock.
    pub checked_at: Option<Timestamp>,
    /// When this host was enrolled, by its own clock; of one that an earlier version enrolled, when this one started first.
    pub enrolled_at: Option<Timestamp>,
}

/// The fleet that this host is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// URL of the server.
    pub server: String,
    /// What this host shows when it reports.
    pub machine_token: Redacted<String>,
    /// The tier, which is the channel to poll.
    pub tier: Tier,
}

/// A document that the loader took: for the next conditional request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// The kernel it is for.
    pub build_id: BuildId,
    /// The channel it is for.
    pub channel: Tier,
    /// Its version.
    pub version: u64,
    /// The server's tag of it.
    pub etag: String,
}

/// The state in memory and in its file.
#[derive(Debug)]
pub struct StateStore {
    directory: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Why the file is not touched.
    unreadable: Option<Problem>,
}

impl StateStore {
    /// Reads the state. A missing file is a new host; one that cannot be read is a problem that stays until
    /// [`StateStore::set_aside`].
    pub fn open(directory: &Path) -> Self {
        let (state, unreadable) = match read(&directory.join(FILE_NAME)) {
            Ok(state) => (state, None),
            Err(problem) => (State { schema: SCHEMA, ..State::default() }, Some(problem)),
        };
        Self { directory: directory.to_owned(), inner: Mutex::new(Inner { state, unreadable }) }
    }

    /// A copy of the state.
    pub fn get(&self) -> State {
        self.lock().state.clone()
    }

    /// Why the state on disk could not be read; none when it could.
    pub fn problem(&self) -> Option<Problem> {
        self.lock().unreadable.clone()
    }

    /// Changes the state: on disk first, then in memory.
    pub fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), Problem> {
        let mut inner = self.lock();
        if let Some(problem) = &inner.unreadable {
            return Err(problem.clone());
        }
        let mut state = inner.state.clone();
        change(&mut state);
        if state != inner.state {
            self.write(&state)?;
            inner.state = state;
        }
        Ok(())
    }

    /// Renames a file that cannot be read, so that a new state can begin. What runs in the kernel stays.
    pub fn set_aside(&self) -> Result<(), Problem> {
        let mut inner = self.lock();
        if inner.unreadable.is_some() {
            let path = self.directory.join(FILE_NAME);
            std::fs::rename(&path, path.with_extension("json.unreadable"))
                .map_err(|error| not_written(&path, &error))?;
            inner.unreadable = None;
        }
        Ok(())
    }

    /// Forgets all, also what was set aside.
    pub fn forget(&self) -> Result<(), Problem> {
        self.set_aside()?;
        self.update(|state| *state = State { schema: SCHEMA, ..State::default() })?;
        let path = self.directory.join(FILE_NAME).with_extension("json.unreadable");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(not_written(&path, &error)),
            _ => Ok(()),
        }
    }

    fn write(&self, state: &State) -> Result<(), Problem> {
        let path = self.directory.join(FILE_NAME);
        let bytes = serde_json::to_vec_pretty(state).map_err(|error| not_written(&path, &error.into()))?;
        write_atomically(&path, &bytes, 0o600).map_err(|error| not_written(&path, &error))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<State, Problem> {
    let problem = |why: String| unreadable(path, &why);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(State { schema: SCHEMA, ..State::default() });
        }
        Ok(metadata) if metadata.len() > MAX_STATE_BYTES => return Err(problem("it is too large".into())),
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    let mut value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| problem(error.to_string()))?;
    let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if schema == u64::from(BEFORE_THE_LOADER) {
        // All but the enrolment is the loader's now, which took it over before this was started.
        let enrolment = value.get("enrolment").cloned().unwrap_or_default();
        value = serde_json::json!({ "schema": SCHEMA, "enrolment": enrolment });
    } else if [BEFORE_THE_CHECKS, BEFORE_THE_ENROLMENTS].map(u64::from).contains(&schema) {
        // Nothing in it means something else now.
        value["schema"] = SCHEMA.into();
    } else if schema != u64::from(SCHEMA) {
        return Err(problem(format!("its schema is {schema} where {SCHEMA} is understood")));
    }
    serde_json::from_value(value).map_err(|error| problem(error.to_string()))
}

pub(crate) fn unreadable(path: &Path, why: &str) -> Problem {
    let hint = "`livepatch enable` sets the file aside and begins anew";
    Problem::new("state-unreadable", format!("cannot use {}: {why}", path.display()), hint)
}

pub(crate) fn not_written(path: &Path, error: &std::io::Error) -> Problem {
    let hint =
        "the daemon needs its state directory: free space, mount it writable, let user livepatch write there";
    Problem::new("state-not-written", format!("cannot write {}: {error}", path.display()), hint)
}

/// Replaces a file as a whole: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(directory)?.sync_all()
}

/// Makes a directory that only its owner enters.
pub(crate) fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    // Those above it are not private.
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolment() -> Option<Enrolment> {
        let (server, machine_token) = ("https://a".to_owned(), Redacted::new("t".to_owned()));
        Some(Enrolment { server, machine_token, tier: Tier::parse("stable").unwrap() })
    }

    #[test]
    fn a_state_reads_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let store = StateStore::open(directory.path());
        assert_eq!(store.problem(), None);
        store.update(|state| state.enrolment = enrolment()).unwrap();
        assert_eq!(StateStore::open(directory.path()).get(), store.get());
        let path = directory.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_enrolment_of_the_daemon_before_the_loader_stays() {
        let directory = tempfile::tempdir().unwrap();
        let before = r#"{ "schema": 1, "enrolment": { "server": "https://a", "machine_token": "t", "tier": "stable" },
            "seen": [], "document": null, "applied": null, "held": null, "in_progress": null, "blocked": [],
            "stalled": null, "loaded": { "boot_id": "", "names": [] } }"#;
        std::fs::write(directory.path().join(FILE_NAME), before).unwrap();
        let store = StateStore::open(directory.path());
        assert_eq!((store.problem(), store.get().enrolment), (None, enrolment()));
    }

    #[test]
    fn the_state_without_the_time_of_a_check_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let before = r#"{ "schema": 2, "enrolment": { "server": "https://a", "machine_token": "t", "tier": "stable" },
            "noted": null }"#;
        std::fs::write(&path, before).unwrap();
        let store = StateStore::open(directory.path());
        assert_eq!(
            (store.problem(), store.get().enrolment, store.get().checked_at),
            (None, enrolment(), None)
        );
        let at = "2026-11-24T12:00:00Z".parse().ok();
        store.update(|state| state.checked_at = at).unwrap();
        assert_eq!(StateStore::open(directory.path()).get(), State { schema: 4, ..store.get() });
        assert_eq!(store.get().checked_at, at);
    }

    #[test]
    fn the_state_without_the_time_of_the_enrolment_stays() {
        let directory = tempfile::tempdir().unwrap();
        let before = r#"{ "schema": 3, "enrolment": { "server": "https://a", "machine_token": "t", "tier": "stable" },
            "noted": null, "checked_at": "2026-11-24T12:00:00Z" }"#;
        std::fs::write(directory.path().join(FILE_NAME), before).unwrap();
        let (store, at) = (StateStore::open(directory.path()), "2026-11-24T12:00:00Z".parse().ok());
        let State { schema, enrolment: enrolled, checked_at, enrolled_at, .. } = store.get();
        assert_eq!((schema, enrolled, checked_at, enrolled_at), (4, enrolment(), at, None));
        assert_eq!(store.problem(), None);
    }

    #[test]
    fn an_unreadable_state_is_kept_until_it_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let mut said = String::new();
        let long = " ".repeat(MAX_STATE_BYTES as usize + 1);
        for text in ["", "{", "{\"schema\": 5}", "{\"schema\": 4, \"later\": 1}", "{}", &long] {
            std::fs::write(&path, text).unwrap();
            let store = StateStore::open(directory.path());
            let problem = store.problem().unwrap();
            assert_eq!(problem.code, "state-unreadable", "{problem}");
            said += &problem.to_string().replace(path.to_str().unwrap(), "FILE");
            said += "\n";
            assert_eq!(store.update(|state| state.noted = None).unwrap_err().code, "state-unreadable");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            store.set_aside().unwrap();
            store.update(|state| state.enrolment = enrolment()).unwrap();
            assert!(path.exists() && path.with_extension("json.unreadable").exists());
        }
        insta::assert_snapshot!(said, @"
        cannot use FILE: EOF while parsing a value at line 1 column 0
        cannot use FILE: EOF while parsing an object at line 1 column 1
        cannot use FILE: its schema is 5 where 4 is understood
        cannot use FILE: unknown field `later`, expected one of `schema`, `enrolment`, `noted`, `checked_at`, `enrolled_at`
        cannot use FILE: its schema is 0 where 4 is understood
        cannot use FILE: it is too large
        ");
    }
}
