//! What the loader remembers: one file, replaced as a whole. A file that cannot be read is left alone: the host installs
//! nothing new, keeps running what it runs, and says so.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use livepatch_manifest::{KernelDocument, Target};
use livepatch_trust::RepositoryName;
use livepatch_types::{BuildId, Cohort, HostId, ModuleName, PatchVersion, Sha256Digest, Stage, Tier};
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::operator::OperatorRoot;
use crate::step::{Step, Steps, Unwatched};

const SCHEMA: u32 = 1;
const MAX_STATE_BYTES: u64 = 4 << 20;
/// What may be noted of what others say fills no more than this. The rest is kept for what root says and for markers: twice
/// the longest livepatch that a document can name takes 800 KiB.
const MAX_NOTED_BYTES: u64 = 3 << 20;
/// So many withdrawals by the operator are remembered of one kernel.
const MAX_WITHDRAWN: usize = 1024;
/// Of so many kernels and channels it is known how far the documents of operators were seen that do not speak any more.
const MOST_SEEN_OF_OTHERS: usize = 64;
const FILE_NAME: &str = "state.json";
/// What is remembered of the vendor's repository.
pub(crate) const VENDOR_FILE: &str = "vendor.json";
/// Where modules are.
pub(crate) const OBJECTS_DIRECTORY: &str = "objects";

/// Everything that outlives the loader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Version of the format: 1.
    pub schema: u32,
    /// Whose documents are taken.
    pub channel: Channel,
    /// Who this host is to its operator; none: root did not enable it, or an earlier version was enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The operator's root, once it was seen: from then on the one pinned key does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorRoot>,
    /// The head of the transparency log that was believed last, and what was proven to be in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSeen>,
    /// The log whose key was pinned: from then on nothing is installed that was not proven to be in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_pinned: Option<String>,
    /// How far each operator's documents were seen.
    pub seen: Vec<Seen>,
    /// The newest signing time of a document that was believed: a clock before it is wrong.
    pub latest_issued: Option<Timestamp>,
    /// The operator whose document that was: of another one it says nothing. None: not known, or of an earlier version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_issued_by: Option<String>,
    /// The last document that was believed: the envelope as it arrived, opened anew whenever it is used.
    pub document: Option<String>,
    /// Which kernels the operator covers, as it arrived: opened anew whenever it is asked for. It explains, and decides nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support: Option<String>,
    /// The livepatch that was applied last: what comes back after a boot.
    pub applied: Option<Applied>,
    /// That it is not known to be healthy, and in which boot it soaks.
    pub soaking: Option<Soaking>,
    /// The healthy one before it, until it is healthy itself.
    pub healthy_before: Option<Applied>,
    /// What a person reverted.
    pub held: Option<PatchVersion>,
    /// What is being applied or reverted: written before the kernel hears of it.
    pub in_progress: Option<InProgress>,
    /// What is not applied again by itself, because a host died with it.
    pub blocked: Vec<Blocked>,
    /// What did not come into force in time.
    pub stalled: Option<Stalled>,
    /// What is on its way to the kernel, or did not get there, in this life of the loader. In memory alone: until a
    /// livepatch is inserted, nothing happened that the next one would have to know.
    #[serde(skip)]
    pub prepared: Option<Prepared>,
    /// The modules that the loader loaded in one boot.
    pub loaded: Loaded,
    /// How far the kernel's log was taken note of.
    #[serde(skip_serializing_if = "KernelLogSeen::is_nothing")]
    pub kernel_log_seen: KernelLogSeen,
    /// The vendor's repository, once its root was seen: from then on nothing is installed without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<RepositoryName>,
}

/// What was seen of the transparency log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSeen {
    /// Its name.
    pub name: String,
    /// How many entries the head has.
    pub size: u64,
    /// The root of their tree.
    pub root: Sha256Digest,
    /// Modules that are in it: the last ones.
    pub proven: Vec<Sha256Digest>,
}

/// Which of the operator's documents are taken. Only root moves it, but for a signed assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// None: root has not enabled this host.
    #[default]
    Closed,
    /// None yet: the operator has not assigned this host to a channel.
    Open,
    /// Those of this channel.
    Pinned(Tier),
}

/// Who this host is to its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Drawn at random when root enabled the host.
    pub id: HostId,
    /// The machine that it was drawn on: on another one this state is a copy. None: it could not be told.
    pub machine: Option<Sha256Digest>,
    /// The highest version of an assignment that was believed; 0: none.
    pub assignment: u64,
    /// The cohort in it; none: the host has a place in rollouts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<Cohort>,
}

/// What was seen of the documents of one kernel and channel by one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The operator: the id of its key, or the name of its root.
    pub operator: String,
    /// The kernel.
    pub build_id: BuildId,
    /// The channel.
    pub channel: Tier,
    /// The highest version: a lower one is refused.
    pub version: u64,
    /// Withdrawals stay while the key stands that signed them: final is what the vendor withdraws.
    pub withdrawn: Vec<PatchVersion>,
}

/// A livepatch that was in force everywhere.
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

/// An application or a removal under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InProgress {
    /// The livepatch.
    pub target: Target,
    /// The kernel.
    pub build_id: BuildId,
    /// The boot in which it began.
    pub boot_id: String,
    /// When, by this host's clock.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// How far it is.
    pub phase: Phase,
    /// Whether the loader was stopped in good order meanwhile: then the host did not die of it.
    pub closed: bool,
}

/// A livepatch that is in force and not known to be healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Soaking {
    /// The livepatch, which is the applied one.
    pub version: PatchVersion,
    /// The kernel.
    pub build_id: BuildId,
    /// The boot in which it soaks. In every other it begins anew.
    pub boot_id: String,
    /// When it came into force, by this host's clock.
    pub at: Timestamp,
    /// The same in seconds since the boot.
    pub began_seconds: u64,
    /// Whether the loader was stopped in good order meanwhile, or what this says was looked at already.
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
    /// It is in force, and not for long.
    Soaking,
    /// The kernel is about to move its tasks from it.
    Reverting,
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
    /// When this was noticed, by this host's clock.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// The record of a panic that was found then.
    #[serde(default)]
    pub record: Option<String>,
    /// Whether it is tried once more by itself.
    #[serde(default)]
    pub retry: Retry,
    /// What the kernel's log had to say of it, if that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
}

/// Whether a livepatch with which a host died is tried once more by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// No.
    #[default]
    Never,
    /// Yes, when a document that was issued after this still names it.
    AfterIssued(Timestamp),
    /// It is, now.
    UnderWay,
}

/// A livepatch before the kernel gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The livepatch.
    pub version: PatchVersion,
    /// The kernel.
    pub build_id: BuildId,
    /// How far it is: `Downloaded`, `Verified` or `Failed`.
    pub stage: Stage,
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
    /// The tasks that held it up then, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
}

/// Modules that the loader loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// The boot of which this speaks.
    pub boot_id: String,
    /// Their names.
    pub names: Vec<ModuleName>,
}

/// How far the log of one boot was taken note of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelLogSeen {
    /// The boot of which this speaks.
    pub boot_id: String,
    /// Sequence number of the first record that is new.
    pub next: u64,
}

impl KernelLogSeen {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl State {
    /// That of a host on which nothing was done yet.
    fn new() -> Self {
        Self { schema: SCHEMA, ..Self::default() }
    }

    /// What of it is in the file.
    fn on_disk(&self) -> Self {
        Self { prepared: None, ..self.clone() }
    }

    /// From which record on the kernel's log is new.
    pub fn kernel_log_seen_in(&self, boot_id: &str) -> u64 {
        if self.kernel_log_seen.boot_id == boot_id { self.kernel_log_seen.next } else { 0 }
    }

    /// What was seen of these documents.
    pub fn seen_version(&self, operator: &str, build_id: &BuildId, channel: &Tier) -> u64 {
        let same = |seen: &&Seen| {
            seen.operator == operator && seen.build_id == *build_id && seen.channel == *channel
        };
        // A host that went from several keys to a root that names them has a row of each.
        self.seen.iter().filter(same).map(|seen| seen.version).max().unwrap_or(0)
    }

    /// Takes note of when a document was issued. What another operator said does not count any more: a stolen key may
    /// have signed a time far ahead, and root puts another key in its place.
    pub(crate) fn issued(&mut self, operator: &str, at: Timestamp) {
        let other = self.latest_issued_by.as_ref().is_some_and(|by| by != operator);
        let before = self.latest_issued.filter(|_| !other);
        (self.latest_issued, self.latest_issued_by) = (before.max(Some(at)), Some(operator.to_owned()));
    }

    /// A document is believed: other operators do not speak here any more. What they withdrew ends, and of their documents
    /// the last ones that were seen are known: they count again if a root names several of the keys.
    pub(crate) fn forget_other_operators(&mut self, operator: &str) {
        let is_other = |seen: &Seen| seen.operator != operator;
        let others = self.seen.iter().filter(|seen| is_other(seen)).count();
        let mut too_many = others.saturating_sub(MOST_SEEN_OF_OTHERS);
        self.seen.retain_mut(|seen| {
            let drop = is_other(seen) && too_many > 0;
            too_many -= usize::from(drop);
            if is_other(seen) {
                seen.withdrawn.clear();
            }
            !drop
        });
    }

    /// Takes note of how far the documents of one kernel and channel were seen, and of what they withdraw.
    pub(crate) fn remember_seen(&mut self, operator: &str, document: &KernelDocument) -> Result<(), Problem> {
        let (build_id, channel) = (&document.kernel.build_id, &document.channel);
        let before: BTreeSet<_> = self.withdrawn(build_id).into_iter().collect();
        let after = before.union(&document.withdrawn.iter().copied().collect()).count();
        if after > before.len() && after > MAX_WITHDRAWN {
            return Err(too_many_withdrawn(after));
        }
        let same =
            |seen: &Seen| seen.operator == operator && seen.build_id == *build_id && seen.channel == *channel;
        if !self.seen.iter().any(same) {
            self.seen.push(Seen {
                operator: operator.to_owned(),
                build_id: build_id.clone(),
                channel: channel.clone(),
                version: 0,
                withdrawn: Vec::new(),
            });
        }
        for seen in self.seen.iter_mut().filter(|seen| same(seen)) {
            seen.version = seen.version.max(document.version);
            seen.withdrawn.extend(&document.withdrawn);
            seen.withdrawn.sort();
            seen.withdrawn.dedup();
        }
        Ok(())
    }

    /// What may be on many machines: how far documents, roots, log and clock were seen.
    pub(crate) fn without_this_machine(&self) -> Self {
        Self {
            schema: self.schema,
            operator: self.operator.clone(),
            log: self.log.clone(),
            log_pinned: self.log_pinned.clone(),
            seen: self.seen.clone(),
            latest_issued: self.latest_issued,
            latest_issued_by: self.latest_issued_by.clone(),
            vendor: self.vendor.clone(),
            ..Self::default()
        }
    }

    /// Whether there is nothing to do without root: no document is taken, and nothing is or was being applied.
    pub fn is_idle(&self) -> bool {
        self.channel == Channel::Closed && self.applied.is_none() && self.in_progress.is_none()
    }

    /// Everything that operators withdrew for a kernel, as far as their keys stand.
    pub fn withdrawn(&self, build_id: &BuildId) -> Vec<PatchVersion> {
        let same = self.seen.iter().filter(|seen| seen.build_id == *build_id);
        same.flat_map(|seen| seen.withdrawn.iter().copied()).collect()
    }

    /// How a livepatch stalled in this boot, if it did.
    pub fn stalled(&self, version: PatchVersion, build_id: &BuildId, boot_id: &str) -> Option<&Stalled> {
        let same = |s: &&Stalled| s.version == version && s.build_id == *build_id && s.boot_id == boot_id;
        self.stalled.as_ref().filter(same)
    }

    /// The modules that the loader loaded in this boot.
    pub fn loaded_in(&self, boot_id: &str) -> &[ModuleName] {
        if self.loaded.boot_id == boot_id { &self.loaded.names } else { &[] }
    }
}

/// The state in memory and in its file.
pub struct StateStore {
    directory: PathBuf,
    steps: Arc<dyn Steps>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Why the file is not touched.
    unreadable: Option<Problem>,
}

impl StateStore {
    /// Reads the state. A missing file is a new host, unless something else of the loader's is there; then, and when it
    /// cannot be read, that is a problem that stays until [`StateStore::set_aside`].
    pub fn open(directory: &Path, steps: Arc<dyn Steps>) -> Self {
        let path = directory.join(FILE_NAME);
        let (state, unreadable) = match read(&path) {
            Ok(Some(state)) => (state, None),
            Ok(None) => (State::new(), was_there(directory).then(|| missing(&path))),
            Err(problem) => (State::new(), Some(problem)),
        };
        let inner = Mutex::new(Inner { state, unreadable });
        Self { directory: directory.to_owned(), steps, inner, changed: Condvar::new() }
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
        self.update_if(|state| {
            change(state);
            Ok(())
        })
    }

    /// The same with a change that may say no: then all stays.
    pub fn update_if(&self, change: impl FnOnce(&mut State) -> Result<(), Problem>) -> Result<(), Problem> {
        let mut inner = self.lock();
        if let Some(problem) = &inner.unreadable {
            return Err(problem.clone());
        }
        let mut state = inner.state.clone();
        change(&mut state)?;
        if state != inner.state {
            if state.on_disk() != inner.state.on_disk() {
                self.write(&state)?;
            }
            inner.state = state;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The same with what somebody says who may be a thief: it leaves room for what root says, and for markers.
    pub fn note_if(&self, change: impl FnOnce(&mut State) -> Result<(), Problem>) -> Result<(), Problem> {
        self.update_if(|state| {
            change(state)?;
            let bytes = self.to_bytes(state)?.len() as u64;
            if bytes > MAX_NOTED_BYTES { Err(full(bytes)) } else { Ok(()) }
        })
    }

    /// Waits until the state is so.
    pub fn wait_until(&self, is_so: &dyn Fn(&State) -> bool) {
        // A thread that failed has left the state as it was before.
        drop(self.changed.wait_while(self.lock(), |inner| !is_so(&inner.state)));
    }

    /// Waits for so long, or until the state changes.
    pub fn wait(&self, time: Duration) {
        drop(self.changed.wait_timeout(self.lock(), time));
    }

    /// Renames a file that cannot be read, if it is there, and begins a new state. What runs in the kernel stays.
    pub fn set_aside(&self) -> Result<(), Problem> {
        let mut inner = self.lock();
        if inner.unreadable.is_some() {
            let path = self.directory.join(FILE_NAME);
            set_aside(&path, "json.unreadable", self.steps.as_ref())
                .map_err(|error| not_written(&path, &error))?;
            // From now on it is there: without it the next start would say that it is lost.
            self.write(&inner.state)?;
            inner.unreadable = None;
        }
        Ok(())
    }

    /// Writes the state if that was never done: before there is anything else beside it.
    pub(crate) fn begin(&self) -> Result<(), Problem> {
        let inner = self.lock();
        if inner.unreadable.is_none() && !self.directory.join(FILE_NAME).exists() {
            self.write(&inner.state)?;
        }
        Ok(())
    }

    /// Removes what was set aside, if anything was.
    pub fn remove_set_aside(&self) -> Result<(), Problem> {
        let path = self.directory.join(FILE_NAME).with_extension("json.unreadable");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(not_written(&path, &error)),
            _ => Ok(()),
        }
    }

    fn write(&self, state: &State) -> Result<(), Problem> {
        let path = self.directory.join(FILE_NAME);
        let bytes = self.to_bytes(state)?;
        write_capped(&path, &bytes, MAX_STATE_BYTES, self.steps.as_ref())
            .map_err(|error| not_written(&path, &error))
    }

    fn to_bytes(&self, state: &State) -> Result<Vec<u8>, Problem> {
        serde_json::to_vec_pretty(state)
            .map_err(|error| not_written(&self.directory.join(FILE_NAME), &error.into()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the package's postinst leaves of the time when the daemon did all by itself: its whole state.
const BEFORE_THE_SPLIT: &str = "before-split.json";

/// Takes over the state of that daemon, once: the directory is root's alone, so that only root can have put it there.
pub(crate) fn take_over(directory: &Path) -> Result<(), Problem> {
    let (path, before) = (directory.join(FILE_NAME), directory.join(BEFORE_THE_SPLIT));
    if path.exists() || !before.exists() {
        return Ok(());
    }
    let bytes = std::fs::read(&before).map_err(|error| not_written(&path, &error))?;
    let converted = converted(&bytes).unwrap_or(bytes);
    write_atomically(&path, &converted, &Unwatched)
        .and_then(|()| std::fs::remove_file(&before))
        .map_err(|error| not_written(&path, &error))
}

/// The loader's part in the form of today; none: it is not what that daemon wrote, and is kept as it is.
fn converted(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut state: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let members = state.as_object_mut()?;
    let tier = members.remove("enrolment")?.get("tier").cloned();
    members
        .insert("channel".into(), tier.map_or("closed".into(), |tier| serde_json::json!({ "pinned": tier })));
    let envelope = members.get("document").and_then(|document| document.get("envelope")).cloned();
    members.insert("document".into(), envelope.unwrap_or_default());
    serde_json::to_vec_pretty(&state).ok()
}

/// Whether the loader kept something here before: what it writes beside its state comes after it.
fn was_there(directory: &Path) -> bool {
    let objects = std::fs::read_dir(directory.join(OBJECTS_DIRECTORY));
    directory.join(VENDOR_FILE).exists() || objects.is_ok_and(|mut objects| objects.next().is_some())
}

/// The state; none: there is no file.
fn read(path: &Path) -> Result<Option<State>, Problem> {
    let problem = |why: String| unreadable(path, &why);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > MAX_STATE_BYTES => return Err(problem("it is too large".into())),
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    let state: State = serde_json::from_slice(&bytes).map_err(|error| problem(error.to_string()))?;
    if state.schema != SCHEMA {
        return Err(problem(format!("its schema is {} where {SCHEMA} is understood", state.schema)));
    }
    Ok(Some(state))
}

const BEGIN_ANEW: &str = "`livepatch trust reset` sets it aside and begins anew (docs/trust-reset.md); a livepatch that runs stays";
const ENROL_ANEW: &str = "`livepatch disable`, then `livepatch enable --token-file FILE` enrols it; a livepatch that runs stays until the next boot";

pub(crate) fn missing(path: &Path) -> Problem {
    let message = format!("{} is gone, and this host had one", path.display());
    Problem::new("state-missing", message, BEGIN_ANEW)
}

pub(crate) fn unreadable(path: &Path, why: &str) -> Problem {
    Problem::new("state-unreadable", format!("cannot use {}: {why}", path.display()), BEGIN_ANEW)
}

/// Root reset it: what is left to do.
pub(crate) fn state_set_aside(lost: &Problem) -> Problem {
    let message = format!("{lost}; it is set aside, and this host is not enrolled any more");
    Problem::new("state-set-aside", message, ENROL_ANEW)
}

const STOLEN: &str = "tell the server's operator: their key may be stolen; what it said ends when they take it away (docs/trust.md)";

pub(crate) fn too_many_withdrawn(count: usize) -> Problem {
    let message = format!(
        "with this document {count} livepatches of this kernel are withdrawn where {MAX_WITHDRAWN} are remembered"
    );
    Problem::new("document-withdraws-too-many", message, STOLEN)
}

pub(crate) fn full(bytes: u64) -> Problem {
    let message = format!(
        "with this document the loader's state has {bytes} bytes where {MAX_NOTED_BYTES} are kept for documents"
    );
    Problem::new("state-full", message, STOLEN)
}

pub(crate) fn not_written(path: &Path, error: &std::io::Error) -> Problem {
    let hint = "the loader needs its state directory: free space, mount it writable, run as root";
    Problem::new("state-not-written", format!("cannot write {}: {error}", path.display()), hint)
}

/// [`write_atomically`], but for a file that would be longer than what is read again.
pub(crate) fn write_capped(path: &Path, bytes: &[u8], cap: u64, steps: &dyn Steps) -> std::io::Result<()> {
    if bytes.len() as u64 > cap {
        let why = format!("it would have {} bytes where {cap} are allowed", bytes.len());
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
    }
    write_atomically(path, bytes, steps)
}

/// Renames a file to one with another extension, for good; one that is not there is nothing to do.
pub(crate) fn set_aside(path: &Path, extension: &str, steps: &dyn Steps) -> std::io::Result<()> {
    match std::fs::rename(path, path.with_extension(extension)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    steps.reached(Step::Renamed(path));
    sync_directory(path)?;
    steps.reached(Step::Kept(path));
    Ok(())
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Replaces a file by one that its owner alone can read: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], steps: &dyn Steps) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    steps.reached(Step::Written(path));
    file.as_file().sync_all()?;
    steps.reached(Step::Synced(path));
    file.persist(path).map_err(|error| error.error)?;
    steps.reached(Step::Renamed(path));
    sync_directory(path)?;
    steps.reached(Step::Kept(path));
    Ok(())
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
        let golden = include_str!("../tests/state.json");
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
        let golden = include_str!("../tests/state.json");
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
        serde_json::from_str(include_str!("../tests/state.json")).unwrap()
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
        let seen =
            [("site", 1, "stable"), ("other", 1, "stable"), ("site", 2, "stable"), ("site", 1, "beta")];
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
        assert_eq!([applied, in_progress, open].map(|state| state.is_idle()), [false; 3]);
    }

    /// The newest time of signing counts; of another operator the last one does.
    #[test]
    fn when_documents_were_issued() {
        let day = |day: i8| jiff::civil::date(2026, 11, day).in_tz("UTC").unwrap().timestamp();
        let mut state = golden();
        let steps =
            [("site", 20, 21), ("site", 22, 22), ("other", 19, 19), ("other", 18, 19), ("site", 17, 17)];
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
        let seen =
            state.seen.iter().map(|seen| (seen.operator.as_str(), seen.version, seen.withdrawn.clone()));
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
        let of = |length: usize| State { document: Some("x".repeat(length)), ..State::new() };
        let most = MAX_NOTED_BYTES as usize - serde_json::to_vec_pretty(&of(0)).unwrap().len();
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
        let before = include_str!("../tests/before-split.json");
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
        assert!(problem.message.contains("where 4194304 are allowed"), "{problem}");
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
            assert_eq!(
                (open(directory.path()).problem(), store.get()),
                (None, State::new()),
                "it begins anew"
            );
        }
        insta::assert_snapshot!(said, @"
        cannot use FILE: EOF while parsing a value at line 1 column 0
        cannot use FILE: EOF while parsing an object at line 1 column 1
        cannot use FILE: its schema is 2 where 1 is understood
        cannot use FILE: unknown field `later`, expected one of `schema`, `channel`, `host`, `operator`, `log`, `log_pinned`, `seen`, `latest_issued`, `latest_issued_by`, `document`, `support`, `applied`, `soaking`, `healthy_before`, `held`, `in_progress`, `blocked`, `stalled`, `loaded`, `kernel_log_seen`, `vendor` at line 1 column 21
        cannot use FILE: its schema is 0 where 1 is understood
        cannot use FILE: it is too large
        cannot use FILE: its schema is 2 where 1 is understood
        ");
    }
}
