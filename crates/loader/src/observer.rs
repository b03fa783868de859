//! What the observer tells: what the kernel's log says of livepatches, and what holds up a transition. Its word makes the
//! loader more careful, never less: nothing is loaded or unloaded by it.

use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use livepatch_api::daemon::Failure;
use livepatch_kernel::{Livepatch, LoadedModule};
use livepatch_observer_api::{
    AskError, Holder, MAX_REFUSED, RefusedModule, SOCKET, Seen, Stall, seen, stall, wait_for_more,
};
use livepatch_types::PatchVersion;

use crate::guard::crash_problem;
use crate::marker::Found;
use crate::state::KernelLogSeen;
use crate::{Loader, Problem};

/// How long an answer may take that needs no waiting: it looks at every task.
const BOUND: Duration = Duration::from_secs(5);
/// How long the loader waits before it asks an observer again that did not answer, or notes what could not be noted.
const AGAIN: Duration = Duration::from_secs(30);
/// However much the kernel complains, it is asked no more often.
const PAUSE: Duration = Duration::from_secs(1);
/// Tasks that are named to people, and functions of each.
const NAMED_TASKS: usize = 4;
const NAMED_FUNCTIONS: usize = 5;

/// Who reads the kernel's log.
pub trait Observer: Send + Sync {
    /// The complaints from a record on, and the modules that were kept out.
    fn seen(&self, from: u64) -> Result<Seen, AskError>;
    /// The same, as soon as there is one.
    fn wait(&self, from: u64) -> Result<Seen, AskError>;
    /// What holds up a transition now.
    fn stall(&self) -> Result<Stall, AskError>;
}

/// The process at the other end of a socket.
#[derive(Debug, Clone)]
pub struct SocketObserver {
    socket: PathBuf,
}

impl SocketObserver {
    /// The one whose socket is in this directory.
    pub fn new(directory: &Path) -> Self {
        Self { socket: directory.join(SOCKET) }
    }
}

impl Observer for SocketObserver {
    fn seen(&self, from: u64) -> Result<Seen, AskError> {
        seen(&self.socket, from, PAUSE)
    }

    fn wait(&self, from: u64) -> Result<Seen, AskError> {
        wait_for_more(&self.socket, from)
    }

    fn stall(&self) -> Result<Stall, AskError> {
        stall(&self.socket, BOUND)
    }
}

/// Nobody: what a host without the process has.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn seen(&self, _: u64) -> Result<Seen, AskError> {
        Err(std::io::Error::from(std::io::ErrorKind::NotFound).into())
    }

    fn wait(&self, from: u64) -> Result<Seen, AskError> {
        self.seen(from)
    }

    fn stall(&self) -> Result<Stall, AskError> {
        Err(std::io::Error::from(std::io::ErrorKind::NotFound).into())
    }
}

/// How far the log was looked at, and why not further.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    seen: KernelLogSeen,
    /// Modules that were kept out. In memory alone: the observer tells a loader that is started anew all of this boot again.
    refused: Vec<RefusedModule>,
    problem: Option<Problem>,
}

impl Loader {
    /// Takes note of complaints as they come, and of modules that were kept out. Does not return.
    pub fn watch_log(&self) {
        loop {
            let asked = self.kernel.boot_id().map_err(Problem::from).and_then(|boot_id| {
                self.observer.wait(self.heard(&boot_id)).map_err(|error| unreachable_problem(&error))
            });
            let noted = match asked {
                Ok(seen) => {
                    self.watched().problem = None;
                    self.note_complaints(&seen)
                }
                Err(problem) => {
                    let news = self.watched().problem.replace(problem.clone()).is_none();
                    if news {
                        tracing::warn!(code = problem.code, "{problem}");
                    }
                    self.store.wait(AGAIN);
                    continue;
                }
            };
            match noted {
                Ok(()) => self.store.wait(PAUSE),
                Err(problem) => {
                    tracing::warn!(
                        code = problem.code,
                        "a complaint of the kernel cannot be noted: {problem}"
                    );
                    self.store.wait(AGAIN);
                }
            }
        }
    }

    /// Takes note of what is complained of, and of what was kept out: by livepatches that this loader loaded in this boot, and no
    /// others.
    pub fn note_complaints(&self, seen: &Seen) -> Result<(), Problem> {
        let _work = self.lock_work();
        self.note_complaints_locked(seen)
    }

    fn note_complaints_locked(&self, seen: &Seen) -> Result<(), Problem> {
        let (boot_id, build_id) = (self.kernel.boot_id()?, self.kernel.identity()?.build_id);
        let from = self.kernel_log_seen(&boot_id);
        let next = KernelLogSeen { boot_id: boot_id.clone(), next: seen.next.max(from.next) };
        let found = Found { boot_id: &boot_id, record: None, now: self.clock.now(), soak: self.soak };
        let before = self.store.get();
        self.store.update_if(|state| {
            let mut news = false;
            for complaint in seen.complaints.iter().filter(|complaint| complaint.sequence >= from.next) {
                let Some(version) = PatchVersion::of_module(&complaint.livepatch) else { continue };
                if state.loaded_in(&boot_id).contains(&complaint.livepatch) {
                    news |= state.complained(version, &build_id, &complaint.title, &found)?;
                }
            }
            // A kernel that complains all the time does not make the disk busy.
            if news {
                state.kernel_log_seen = next.clone();
            }
            Ok(())
        })?;
        let after = self.store.get();
        self.watched().hear(
            next,
            seen.refused.iter().filter(|refused| after.loaded_in(&boot_id).contains(&refused.livepatch)),
        );
        for blocked in after.blocked.iter().filter(|blocked| !before.blocked.contains(blocked)) {
            tracing::warn!(version = %blocked.version, complaint = blocked.complaint, "{}", crash_problem(blocked));
        }
        Ok(())
    }

    /// The host goes down, or the loader alone: nothing that was complained of until now is forgotten by that.
    pub(crate) fn look_at_log_once_more(&self) {
        // Nobody waits for a transition that is under way: then the marker of it says enough.
        let (Some(_work), Ok(boot_id)) = (self.try_lock_work(), self.kernel.boot_id()) else { return };
        if let Ok(seen) = self.observer.seen(self.kernel_log_seen(&boot_id).next)
            && let Err(problem) = self.note_complaints_locked(&seen)
        {
            tracing::warn!(code = problem.code, "a complaint of the kernel cannot be noted: {problem}");
        }
    }

    /// The modules that the kernel keeps out because of a livepatch. One that is loaded since is forgotten, as is one whose
    /// livepatch is gone.
    pub(crate) fn refused_modules(&self) -> Vec<Failure> {
        let mut watched = self.watched();
        if !watched.refused.is_empty()
            && let (Ok(livepatches), Ok(modules)) = (self.kernel.livepatches(), self.kernel.modules())
        {
            watched.refused.retain(|refused| is_kept_out(refused, &livepatches, &modules));
        }
        watched.refused.iter().map(|refused| refused_problem(refused).to_failure()).collect()
    }

    /// From which record on this loader has not heard of the log of this boot, whatever an earlier one had heard.
    fn heard(&self, boot_id: &str) -> u64 {
        let watched = self.watched();
        if watched.seen.boot_id == boot_id { watched.seen.next } else { 0 }
    }

    /// How far the log of this boot was looked at.
    pub(crate) fn kernel_log_seen(&self, boot_id: &str) -> KernelLogSeen {
        let next = self.heard(boot_id).max(self.store.get().kernel_log_seen_in(boot_id));
        KernelLogSeen { boot_id: boot_id.to_owned(), next }
    }

    pub(crate) fn observer_problem(&self) -> Option<Failure> {
        self.watched().problem.as_ref().map(Problem::to_failure)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Takes note of modules that were kept out, each in the place of an earlier time, and of how far that goes.
    fn hear<'a>(&mut self, next: KernelLogSeen, refused: impl Iterator<Item = &'a RefusedModule>) {
        for refused in refused {
            let same = |known: &RefusedModule| {
                (&known.livepatch, &known.module) == (&refused.livepatch, &refused.module)
            };
            self.refused.retain(|known| !same(known));
            self.refused.push(refused.clone());
        }
        let surplus = self.refused.len().saturating_sub(MAX_REFUSED);
        self.refused.drain(..surplus);
        self.seen = next;
    }
}

/// Whether a module that was kept out still is: the livepatch is in the kernel, and no module of that name.
fn is_kept_out(refused: &RefusedModule, livepatches: &[Livepatch], modules: &[LoadedModule]) -> bool {
    let is_there = livepatches.iter().any(|patch| patch.enabled && patch.name == refused.livepatch);
    is_there && modules.iter().all(|module| module.name != refused.module)
}

/// Why a module is not loaded, for people.
pub(crate) fn refused_problem(refused: &RefusedModule) -> Problem {
    let RefusedModule { livepatch, module, .. } = refused;
    let version = PatchVersion::of_module(livepatch);
    let livepatch = version.map_or_else(|| livepatch.to_string(), |version| version.to_string());
    let message = format!(
        "the kernel keeps out module {module}: livepatch {livepatch} is for the module of that name and did not go onto this one"
    );
    let hint = format!(
        "`modinfo {module}` says which file it is; one that is not of the kernel's package (dkms, a driver of somebody else) cannot be loaded beside this livepatch"
    );
    let mut problem = Problem::new("module-refused", message, &hint);
    problem.hints.push(format!(
        "if it is of the kernel's package: `livepatch revert`, `modprobe {module}`, `livepatch apply` (before Linux 6.3 a livepatch goes onto a module once)"
    ));
    problem
}

/// The tasks that hold up a transition, one line each for people; empty when nobody says.
pub(crate) fn holders(observer: &dyn Observer) -> Vec<String> {
    let Ok(stall) = observer.stall() else { return Vec::new() };
    let mut lines: Vec<String> = stall.holders.iter().take(NAMED_TASKS).map(line).collect();
    let more = (stall.holders.len() - lines.len()) as u64 + stall.more;
    if more > 0 {
        lines.push(format!("{more} more"));
    }
    lines
}

fn line(holder: &Holder) -> String {
    let functions: Vec<&str> = holder.stack.iter().take(NAMED_FUNCTIONS).map(String::as_str).collect();
    let place = if functions.is_empty() { "its stack is not known".into() } else { functions.join(" < ") };
    format!("{} (pid {}, thread {}): {place}", holder.name, holder.process, holder.thread)
}

pub(crate) fn unreachable_problem(error: &AskError) -> Problem {
    let message = format!("nobody tells what the kernel's log says of livepatches: {error}");
    let hint = "`systemctl status livepatch-observer` says whether it runs; all else goes on without it";
    Problem::new("observer-unreachable", message, hint)
}
