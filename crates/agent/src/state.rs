//! What this host remembers: one file, replaced as a whole. A file that cannot be read is left alone: the host installs
//! nothing new, keeps running what it runs, and says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use livepatch_manifest::Target;
use livepatch_types::{BuildId, ModuleName, PatchVersion, Redacted, Tier};
use serde::{Deserialize, Serialize};

use crate::Problem;

const SCHEMA: u32 = 1;
const MAX_STATE_BYTES: u64 = 4 << 20;
const FILE_NAME: &str = "state.json";

/// Everything that outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Version of the format: 1.
    pub schema: u32,
    /// Enrolment; none: not enabled.
    pub enrolment: Option<Enrolment>,
    /// How far each operator's documents were seen.
    pub seen: Vec<Seen>,
    /// The last document that was believed.
    pub document: Option<StoredDocument>,
    /// The last livepatch that was applied in good health.
    pub applied: Option<Applied>,
    /// What a person reverted.
    pub held: Option<PatchVersion>,
    /// What is being applied: written before the kernel gets it.
    pub in_progress: Option<InProgress>,
    /// What is not applied again by itself, because a host died with it.
    pub blocked: Vec<Blocked>,
    /// What did not come into force in time.
    pub stalled: Option<Stalled>,
    /// The modules that this daemon loaded in one boot.
    pub loaded: Loaded,
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

/// What was seen of the documents of one kernel and channel by one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Key id of the operator.
    pub operator: String,
    /// The kernel.
    pub build_id: BuildId,
    /// The channel.
    pub channel: Tier,
    /// The highest version: a lower one is refused.
    pub version: u64,
    /// Withdrawals are final.
    pub withdrawn: Vec<PatchVersion>,
}

/// A signed document as it arrived; it is opened anew whenever it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDocument {
    /// The kernel it was asked for.
    pub build_id: BuildId,
    /// The channel it was asked for.
    pub channel: Tier,
    /// The server's tag for the next conditional request.
    pub etag: Option<String>,
    /// The envelope.
    pub envelope: String,
}

/// A livepatch that was applied in good health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The livepatch.
    pub target: Target,
    /// The kernel it was applied to.
    pub build_id: BuildId,
    /// When.
    pub at: Timestamp,
}

/// An application under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InProgress {
    /// The livepatch.
    pub target: Target,
    /// The kernel.
    pub build_id: BuildId,
    /// The boot in which it began.
    pub boot_id: String,
    /// How far it is.
    pub phase: Phase,
    /// Whether the daemon was stopped in good order meanwhile: then the host did not die of it.
    pub closed: bool,
}

/// How far an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The kernel is about to get the module.
    Inserting,
    /// The kernel has it and moves its tasks.
    Transition,
}

/// A livepatch with which a host died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    /// The livepatch.
    pub version: PatchVersion,
    /// The kernel.
    pub build_id: BuildId,
    /// How far it was.
    pub phase: Phase,
}

/// A livepatch that was cancelled, because tasks stayed in the functions that it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stalled {
    /// The livepatch.
    pub version: PatchVersion,
    /// The kernel.
    pub build_id: BuildId,
    /// The boot: after the next, other tasks run.
    pub boot_id: String,
    /// How often, one after the other.
    pub times: u32,
    /// When it was tried last.
    pub at: Timestamp,
}

/// Modules that this daemon loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// The boot of which this speaks.
    pub boot_id: String,
    /// Their names.
    pub names: Vec<ModuleName>,
}

impl State {
    /// What was seen of these documents.
    pub fn seen_version(&self, operator: &str, build_id: &BuildId, channel: &Tier) -> u64 {
        let same = |seen: &&Seen| {
            seen.operator == operator && seen.build_id == *build_id && seen.channel == *channel
        };
        self.seen.iter().find(same).map_or(0, |seen| seen.version)
    }

    /// Everything ever withdrawn for a kernel.
    pub fn withdrawn(&self, build_id: &BuildId) -> Vec<PatchVersion> {
        let same = self.seen.iter().filter(|seen| seen.build_id == *build_id);
        same.flat_map(|seen| seen.withdrawn.iter().copied()).collect()
    }

    /// How a livepatch stalled in this boot, if it did.
    pub fn stalled(&self, version: PatchVersion, build_id: &BuildId, boot_id: &str) -> Option<&Stalled> {
        let same = |s: &&Stalled| s.version == version && s.build_id == *build_id && s.boot_id == boot_id;
        self.stalled.as_ref().filter(same)
    }

    /// The modules that this daemon loaded in this boot.
    pub fn loaded_in(&self, boot_id: &str) -> &[ModuleName] {
        if self.loaded.boot_id == boot_id { &self.loaded.names } else { &[] }
    }
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

    fn write(&self, state: &State) -> Result<(), Problem> {
        let path = self.directory.join(FILE_NAME);
        let bytes = serde_json::to_vec_pretty(state).map_err(|error| not_written(&path, &error.into()))?;
        write_atomically(&path, &bytes).map_err(|error| not_written(&path, &error))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<State, Problem> {
    let hint = "`livepatch enable` sets the file aside and begins anew; a livepatch that runs stays until the next boot";
    let problem =
        |why: String| Problem::new("state-unreadable", format!("cannot use {}: {why}", path.display()), hint);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(State { schema: SCHEMA, ..State::default() });
        }
        Ok(metadata) if metadata.len() > MAX_STATE_BYTES => return Err(problem("it is too large".into())),
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    let state: State = serde_json::from_slice(&bytes).map_err(|error| problem(error.to_string()))?;
    if state.schema != SCHEMA {
        return Err(problem(format!("its schema is {} where {SCHEMA} is understood", state.schema)));
    }
    Ok(state)
}

fn not_written(path: &Path, error: &std::io::Error) -> Problem {
    let hint = "the daemon needs its state directory: free space, mount it writable, run as root";
    Problem::new("state-not-written", format!("cannot write {}: {error}", path.display()), hint)
}

/// Replaces a file by one that its owner alone can read.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_atomically_with(path, bytes, 0o600)
}

/// Replaces a file as a whole: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write_atomically_with(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
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
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let store = StateStore::open(directory.path());
        assert_eq!(store.problem(), None);
        store.update(|state| state.held = Some(PatchVersion::parse("1.1").unwrap())).unwrap();
        assert_eq!(StateStore::open(directory.path()).get(), store.get());
        let path = directory.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_unreadable_state_is_kept_until_it_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for text in ["", "{", "{\"schema\": 2}", "{\"schema\": 1, \"later\": 1}", "{}"] {
            std::fs::write(&path, text).unwrap();
            let store = StateStore::open(directory.path());
            assert_eq!(store.problem().unwrap().code, "state-unreadable", "{text}");
            assert_eq!(store.update(|state| state.seen.clear()).unwrap_err().code, "state-unreadable");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            store.set_aside().unwrap();
            store.update(|state| state.held = None).unwrap();
            assert!(!path.exists() && path.with_extension("json.unreadable").exists());
        }
    }
}
