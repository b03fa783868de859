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
use crate::kernels::{Hold, MAX_OTHERS_BYTES, OtherKernel};
use crate::operator::OperatorRoot;
use crate::step::{Step, Steps, Unwatched};

const SCHEMA: u32 = 1;
const MAX_STATE_BYTES: u64 = (4 << 20) + MAX_OTHERS_BYTES;
/// What may be noted of what others say fills no more than this. The rest is kept for what root says, for markers, and for what is
/// remembered of other kernels: twice the longest livepatch that a document can name takes 800 KiB.
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
    /// The livepatch that was applied last, on the kernel that ran last: what comes back after a boot.
    pub applied: Option<Applied>,
    /// That it is not known to be healthy, and in which boot it soaks.
    pub soaking: Option<Soaking>,
    /// The healthy one before it, until it is healthy itself.
    pub healthy_before: Option<Applied>,
    /// What comes back on other kernels, when they run again: the one that ran last is the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_kernels: Vec<OtherKernel>,
    /// What a person reverted in an earlier version, which did not say on which kernel: it counts on each.
    pub held: Option<PatchVersion>,
    /// What a person reverted, on each kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
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
        self.channel == Channel::Closed && self.may_come_back().next().is_none() && self.in_progress.is_none()
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
            // No document added what is remembered of other kernels, and no other key takes it away.
            let bytes = (self.to_bytes(state)?.len() as u64).saturating_sub(state.bytes_of_others());
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
mod tests;
