//! The loader: takes note of what is signed, plans, acts.

use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use livepatch_kernel::{Kernel, Pause, SealedModule};
use livepatch_manifest::{KernelDocument, ModuleObject, Target};
use livepatch_modsig::verify_module;
use livepatch_settings::{Asker, Policy};
use livepatch_types::{BuildId, Clock, KernelIdentity, ModuleName, Sha256Digest};

use crate::assignment::enable;
use crate::execute::Executor;
use crate::journal::Journal;
use crate::objects::ObjectCache;
use crate::observer::{Observer, Watched};
use crate::plan::{self, Action, Desired, Observed};
use crate::state::{self, Channel, State, StateStore};
use crate::step::Steps;
use crate::vendor::Vendors;
use crate::verify::PatchedModule;
use crate::{Problem, TrustDirectories, Verdict, verify};

/// Steps in one round: a settle, a withdrawal, an application and the look after it, with room.
const MAX_STEPS: usize = 6;

/// How long a command of root's lets things wait for no window: as long as `livepatch apply` waits for the agent.
const ROOT_ASKS: Duration = Duration::from_mins(15);

/// What a loader is made of.
pub struct Parts {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// How it waits for the kernel.
    pub pause: Arc<dyn Pause>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Where the pinned keys are.
    pub trust: TrustDirectories,
    /// Which machine this is ([`crate::machine`]); none: it cannot be told.
    pub machine: Option<Sha256Digest>,
    /// Where state and cache are.
    pub state_directory: PathBuf,
    /// What the owner of the host allows, and when.
    pub policy: Policy,
    /// Bound of a transition.
    pub transition_timeout: Duration,
    /// How long a livepatch is in force before it is healthy; none at all: at once.
    pub soak: Duration,
    /// Where records of panics are.
    pub panic_directories: Vec<PathBuf>,
    /// Who is told of each step.
    pub steps: Arc<dyn Steps>,
    /// Who tells what the kernel's log says.
    pub observer: Arc<dyn Observer>,
}

/// What somebody brought for one round.
#[derive(Clone, Copy, Default)]
pub(crate) struct Brought<'a> {
    /// A module. It is used if its bytes are those of what is to be loaded.
    pub(crate) module: Option<&'a SealedModule>,
    /// What root says in the operator's place.
    pub(crate) document: Option<&'a KernelDocument>,
}

/// The loader of one host. One change of the kernel runs at a time; looking never waits for it.
pub struct Loader {
    pub(crate) kernel: Arc<dyn Kernel>,
    pause: Arc<dyn Pause>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trust: TrustDirectories,
    pub(crate) machine: Option<Sha256Digest>,
    pub(crate) policy: Policy,
    /// Until when root waits for no window and no delay.
    root_asked: Mutex<Option<Instant>>,
    transition_timeout: Duration,
    pub(crate) soak: Duration,
    pub(crate) panic_directories: Vec<PathBuf>,
    steps: Arc<dyn Steps>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) watched: Mutex<Watched>,
    pub(crate) store: StateStore,
    pub(crate) vendors: Vendors,
    pub(crate) objects: ObjectCache,
    pub(crate) journal: Journal,
    work: Mutex<()>,
    /// Commands of root that wait for `work`: nothing else of the agent's gets in before them.
    root_waits: AtomicUsize,
    /// One module at a time is read into memory.
    pub(crate) supply: Mutex<()>,
}

impl Loader {
    /// Puts a loader together. Nothing is done yet: [`Loader::start`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let directory = &parts.state_directory;
        let made = state::private_directory(directory).map_err(|error| error.to_string());
        let ready = made.and_then(|()| state::take_over(directory).map_err(|problem| problem.message));
        if let Err(error) = ready {
            tracing::warn!(error, "the state directory cannot be prepared");
        }
        Arc::new(Self {
            journal: Journal::new(Arc::clone(&parts.kernel), Arc::clone(&parts.clock)),
            kernel: parts.kernel,
            pause: parts.pause,
            clock: parts.clock,
            trust: parts.trust,
            machine: parts.machine,
            policy: parts.policy,
            root_asked: Mutex::new(None),
            transition_timeout: parts.transition_timeout,
            soak: parts.soak,
            panic_directories: parts.panic_directories,
            store: StateStore::open(&parts.state_directory, Arc::clone(&parts.steps)),
            vendors: Vendors::open(&parts.state_directory, Arc::clone(&parts.steps)),
            objects: ObjectCache::new(&parts.state_directory, Arc::clone(&parts.steps)),
            steps: parts.steps,
            observer: parts.observer,
            watched: Mutex::default(),
            work: Mutex::new(()),
            root_waits: AtomicUsize::new(0),
            supply: Mutex::new(()),
        })
    }

    /// What to do when the host has booted or the loader is started anew: look at how the last application ended, and
    /// bring the last healthy livepatch back. Needs no agent.
    pub fn start(&self) -> Result<(), Problem> {
        let _work = self.lock_work();
        self.recover()?;
        self.go_on(Brought::default())
    }

    /// Takes note of a document of the operator's, for the running kernel and the channel of this host.
    pub fn note(&self, envelope: &[u8]) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let (operator, kernel) = (self.operator()?, self.kernel.identity()?);
        let state = self.store.get();
        if state.channel == Channel::Closed {
            return Err(not_enabled());
        }
        let document = KernelDocument::open_any_channel(envelope, &operator.documents, &kernel)?;
        self.check_channel(&state, &document)?;
        self.store.note_if(|state| {
            // Looked at under the lock: two documents at a time must not make the older one the last.
            self.check_channel(state, &document)?;
            document.check_version(state.seen_version(
                &operator.name,
                &kernel.build_id,
                &document.channel,
            ))?;
            state.forget_other_operators(&operator.name);
            state.remember_seen(&operator.name, &document)?;
            state.issued(&operator.name, document.issued);
            state.document = Some(String::from_utf8_lossy(envelope).into_owned());
            Ok(())
        })
    }

    /// Does what is signed, with what is there.
    pub fn converge(&self) -> Result<(), Problem> {
        let _work = self.lock_for_agent()?;
        self.go_on(Brought::default())
    }

    /// The same with a module of so many bytes that is still to be read. It is not read when it is not wanted.
    pub fn apply(&self, bytes: u64, source: impl Read) -> Result<(), Problem> {
        let _supply = self.supply.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let wanted = self.wants().ok_or_else(not_wanted)?;
        if wanted.size_bytes != bytes {
            return Err(not_wanted());
        }
        let module = SealedModule::from_reader(source.take(bytes), bytes)?;
        wanted.check(module.bytes())?;
        let _work = self.lock_for_agent()?;
        self.go_on(Brought { module: Some(&module), document: None })
    }

    /// Root: documents are taken from now on. A state that cannot be read is set aside.
    pub fn enable(&self) -> Result<(), Problem> {
        let _work = self.lock_for_root();
        self.store.set_aside()?;
        self.operator()?;
        self.trust.vendor()?;
        let host = self.new_host()?;
        self.store.update(|state| enable(state, host))
    }

    /// Root: disables and unloads the livepatch, and holds it back on this kernel until [`Loader::clear`] or another version. On
    /// other kernels other modules ran under that version: what was healthy there comes back there.
    pub fn revert(&self) -> Result<(), Problem> {
        let _work = self.lock_for_root();
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let (observed, state) = (self.observe()?, self.store.get());
        let running = plan::running(&observed, &state);
        if state.channel == Channel::Closed && running.is_none() {
            return Err(not_enabled());
        }
        let Some(version) = running else {
            return Err(nothing_to_revert());
        };
        // Held first: a loader that dies in between must not bring it back.
        self.store.update(|state| state.hold(version, &observed.build_id))?;
        let removed = self.executor(&self.kernel.identity()?).remove(version, self.clock.now());
        self.store.update(|now| match &removed {
            Ok(()) => now.applied = None,
            // What root held back before stays so.
            Err(_) => now.holds = state.holds,
        })?;
        removed
    }

    /// Root: forgets holds, stalls, and the crash guards of this kernel, and for a while lets what is signed wait for no
    /// window and no delay. (The agent is who fetches it then.)
    pub fn clear(&self) -> Result<(), Problem> {
        let _work = self.lock_for_root();
        let build_id = self.kernel.identity()?.build_id;
        let state = self.store.get();
        // A host without a server has locks too, of what root applied from a bundle.
        let unlocked = State { held: None, holds: vec![], stalled: None, blocked: vec![], ..state.clone() };
        let locked = state != unlocked;
        if state.channel == Channel::Closed && !locked && self.store.problem().is_none() {
            return Err(not_enabled());
        }
        self.forget_locks(&build_id)?;
        let until = Instant::now().checked_add(ROOT_ASKS);
        *self.root_asked.lock().unwrap_or_else(PoisonError::into_inner) = until;
        Ok(())
    }

    /// Forgets holds, stalls, and the crash guards of a kernel.
    pub(crate) fn forget_locks(&self, build_id: &BuildId) -> Result<(), Problem> {
        let kernel_log_seen = self.kernel_log_seen(&self.kernel.boot_id()?);
        self.store.update(|state| {
            state.cleared(build_id);
            // What was complained of until now is forgotten, too.
            state.kernel_log_seen = kernel_log_seen;
        })
    }

    /// Root: reverts what is applied, forgets what would come back on any kernel, and takes no more documents. What was seen and
    /// withdrawn stays known.
    pub fn disable(&self) -> Result<(), Problem> {
        let _work = self.lock_for_root();
        self.take_away()?;
        self.store.update(|state| {
            (state.channel, state.host) = (Channel::Closed, None);
            (state.document, state.applied, state.support) = (None, None, None);
            (state.held, state.in_progress, state.stalled) = (None, None, None);
            (state.soaking, state.healthy_before, state.prepared) = (None, None, None);
            (state.other_kernels, state.holds) = (Vec::new(), Vec::new());
        })?;
        self.objects.keep_only(&[]);
        self.journal.forget();
        Ok(())
    }

    /// Root: the disk of this machine becomes an image, by which others come into being. Reverts what is applied, as
    /// [`Loader::disable`] does, and forgets all but what was seen of others: that no clone goes back is good.
    pub fn prepare_image(&self) -> Result<(), Problem> {
        let _work = self.lock_for_root();
        self.take_away()?;
        self.store.update(|state| *state = state.without_this_machine())?;
        self.store.remove_set_aside()?;
        self.objects.keep_only(&[]);
        self.journal.forget();
        Ok(())
    }

    /// Reverts what is applied. A state that cannot be read is set aside first.
    fn take_away(&self) -> Result<(), Problem> {
        self.store.set_aside()?;
        let (observed, state) = (self.observe()?, self.store.get());
        match plan::running(&observed, &state) {
            Some(version) => self.executor(&self.kernel.identity()?).remove(version, self.clock.now()),
            None => Ok(()),
        }
    }

    /// Notes an orderly end: if the host goes down now, what is being applied was not the cause.
    pub fn close(&self) {
        self.look_at_log_once_more();
        let closed = self.store.update(State::close);
        if let Err(problem) = closed {
            tracing::warn!(code = problem.code, "the orderly end could not be noted: {problem}");
        }
    }

    pub(crate) fn observe(&self) -> Result<Observed, Problem> {
        Ok(Observed {
            build_id: self.kernel.identity()?.build_id,
            boot_id: self.kernel.boot_id()?,
            livepatches: self.kernel.livepatches()?,
            modules: self.kernel.modules()?.into_iter().map(|module| module.name).collect(),
        })
    }

    /// The stored document, if it is believed for this kernel. Its age is looked at where it matters.
    pub(crate) fn document(&self, state: &State, kernel: &KernelIdentity) -> Option<KernelDocument> {
        let (stored, operator) = (state.document.as_ref()?, self.operator().ok()?);
        let Channel::Pinned(channel) = &state.channel else { return None };
        if self.copied(state).is_some() {
            return None;
        }
        let seen = state.seen_version(&operator.name, &kernel.build_id, channel);
        KernelDocument::open(stored.as_bytes(), &operator.documents, kernel, channel, seen).ok()
    }

    /// The module that would be taken now, and is not here.
    pub(crate) fn wants(&self) -> Option<ModuleObject> {
        let (kernel, state) = (self.kernel.identity().ok()?, self.store.get());
        if state.channel == Channel::Closed || self.store.problem().is_some() {
            return None;
        }
        let document = self.document(&state, &kernel);
        let verdict = self.verdict(&kernel, document.as_ref());
        let desired = Desired { obtainable: true, ..self.desired(document.as_ref(), &verdict) };
        let plan = plan::plan(&self.observe().ok()?, desired, &state, self.clock.now());
        match plan.action {
            Action::Install(target) | Action::Reapply(target) if !self.objects.holds(&target.module) => {
                Some(target.module)
            }
            _ => None,
        }
    }

    fn desired<'a>(&'a self, document: Option<&'a KernelDocument>, vendor: &'a Verdict) -> Desired<'a> {
        let until = *self.root_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asks = until.is_some_and(|until| Instant::now() < until);
        let asker = if asks { Asker::Root } else { Asker::Timer };
        Desired { document, obtainable: false, policy: &self.policy, asker, vendor }
    }

    /// Markers of steps that did not end: of this boot, they are brought to their end; of another, they say how that
    /// boot ended.
    fn recover(&self) -> Result<(), Problem> {
        if self.store.problem().is_some() {
            // What is not known is not changed; nothing is loaded either.
            return Ok(());
        }
        self.settle_what_was_left(&self.kernel.identity()?)
    }

    /// Nothing else runs: what is still marked was left by a loader that died, or by a transition that hung.
    fn settle_what_was_left(&self, kernel: &KernelIdentity) -> Result<(), Problem> {
        self.look_back(&kernel.build_id)?;
        let Some(in_progress) = self.store.get().in_progress else { return Ok(()) };
        let name = in_progress.target.version.module_name();
        self.executor(kernel).settle(&name, self.clock.now())
    }

    /// Plans and acts until there is nothing to do or something stands in the way.
    pub(crate) fn go_on(&self, brought: Brought<'_>) -> Result<(), Problem> {
        let Brought { module: supplied, document: of_root } = brought;
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        if self.store.get().is_idle() && of_root.is_none() {
            return Ok(());
        }
        let kernel = self.kernel.identity()?;
        self.settle_what_was_left(&kernel)?;
        let brought = |object: &ModuleObject| supplied.filter(|module| object.check(module.bytes()).is_ok());
        let mut install_problem = None;
        for _ in 0..MAX_STEPS {
            let (state, observed) = (self.store.get(), self.observe()?);
            let document = of_root.cloned().or_else(|| self.document(&state, &kernel));
            let target = document.as_ref().and_then(|document| document.target.as_ref());
            let here = target.is_some_and(|t| self.objects.holds(&t.module) || brought(&t.module).is_some());
            let obtainable = here && install_problem.is_none();
            let verdict = self.verdict(&kernel, document.as_ref());
            let mut desired = Desired { obtainable, ..self.desired(document.as_ref(), &verdict) };
            if of_root.is_some() {
                desired.asker = Asker::Root;
            }
            let plan = plan::plan(&observed, desired, &state, self.clock.now());
            tracing::info!(action = plan.action.word(), reason = plan.reason, "planned");
            match plan.action {
                Action::Nothing => {
                    // What would stand in the way of a module that is still to be brought stands there now.
                    let wished = Desired { obtainable: true, ..desired };
                    let wished = plan::plan(&observed, wished, &state, self.clock.now()).problem;
                    self.tidy(&kernel, plan.leftovers, &state, target);
                    return install_problem.or(plan.problem).or(wished).map_or(Ok(()), Err);
                }
                Action::Settle(name) => self.executor(&kernel).settle(&name, self.clock.now())?,
                Action::Withdraw(version) => {
                    self.executor(&kernel).remove(version, self.clock.now())?;
                    self.store.update(|state| state.applied = None)?;
                }
                Action::Install(target) => {
                    // What runs stays; or goes, if it was withdrawn: the next plan says which.
                    install_problem = self.load(&kernel, &target, brought(&target.module), &verdict).err();
                }
                Action::Reapply(target) => {
                    // It was installed once: neither time nor what is allowed today counts.
                    self.load(&kernel, &target, brought(&target.module), &Verdict::default())?;
                    if plan.problem.is_some() {
                        return plan.problem.map_or(Ok(()), Err);
                    }
                }
            }
        }
        Err(install_problem.unwrap_or_else(no_progress))
    }

    /// Verifies and loads: the same sealed bytes in both.
    fn load(
        &self,
        kernel: &KernelIdentity,
        target: &Target,
        supplied: Option<&SealedModule>,
        vendor: &Verdict,
    ) -> Result<(), Problem> {
        let executor = self.executor(kernel);
        executor.make_room(target.version)?;
        let cached;
        let module = match supplied {
            Some(module) => module,
            None => {
                cached = self.objects.seal(&target.module)?;
                &cached
            }
        };
        let boot_id = self.kernel.boot_id()?;
        self.store.update_if(|state| state.fetched(target.version, &kernel.build_id, &boot_id))?;
        let loaded = self.verify(kernel, target, module, vendor).and_then(|patched| {
            if supplied.is_some() {
                // Only now: what is not the vendor's does not get to the disk.
                self.objects.put(&target.module.sha256, module.bytes())?;
            }
            self.store.update_if(State::passed)?;
            executor.apply(module, &patched, target, self.clock.now())
        });
        if loaded.is_err() {
            self.store.update_if(State::refused)?;
        }
        loaded
    }

    /// Whether a module is the vendor's, for this kernel, and allowed today; and which modules it patches.
    fn verify(
        &self,
        kernel: &KernelIdentity,
        target: &Target,
        module: &SealedModule,
        vendor: &Verdict,
    ) -> Result<Vec<PatchedModule>, Problem> {
        let certificates = self.trust.vendor()?;
        let patched = verify::verify(module.bytes(), &target.module, target.version, kernel, &certificates)?;
        let signer = verify_module(module.bytes(), &certificates)?.signer.key_id_hex();
        vendor.check_module(kernel, target.version, module.bytes(), &signer, self.kernel.modules()?)?;
        Ok(patched)
    }

    /// Unloads what was replaced and drops cached objects that are no longer needed. What fails is tried next time.
    fn tidy(
        &self,
        kernel: &KernelIdentity,
        leftovers: Vec<ModuleName>,
        state: &State,
        target: Option<&Target>,
    ) {
        for name in leftovers {
            if let Err(problem) = self.executor(kernel).unload(&name) {
                tracing::warn!(code = problem.code, "a replaced livepatch stays loaded: {problem}");
            }
        }
        let back = state.may_come_back().map(|applied| applied.target.module.sha256);
        let keep: Vec<_> = back.chain(target.map(|target| target.module.sha256)).collect();
        self.objects.keep_only(&keep);
    }

    fn executor<'a>(&'a self, kernel: &'a KernelIdentity) -> Executor<'a> {
        Executor {
            kernel: self.kernel.as_ref(),
            pause: self.pause.as_ref(),
            store: &self.store,
            build_id: &kernel.build_id,
            transition_timeout: self.transition_timeout,
            soak: self.soak,
            steps: self.steps.as_ref(),
            journal: &self.journal,
            observer: self.observer.as_ref(),
        }
    }

    pub(crate) fn lock_work(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if nothing is under way.
    pub(crate) fn try_lock_work(&self) -> Option<MutexGuard<'_, ()>> {
        self.work.try_lock().ok()
    }

    pub(crate) fn lock_for_root(&self) -> MutexGuard<'_, ()> {
        self.root_waits.fetch_add(1, Ordering::SeqCst);
        let guard = self.lock_work();
        self.root_waits.fetch_sub(1, Ordering::SeqCst);
        guard
    }

    fn lock_for_agent(&self) -> Result<MutexGuard<'_, ()>, Problem> {
        if self.root_waits.load(Ordering::SeqCst) > 0 {
            return Err(busy());
        }
        Ok(self.lock_work())
    }
}

pub(crate) fn not_enabled() -> Problem {
    Problem::new("not-enabled", "this host is not enrolled", "`livepatch enable --token-file FILE` enrols it")
}

pub(crate) fn nothing_to_revert() -> Problem {
    let hint = "`livepatch status` shows what runs, `livepatch locks list` what is held back";
    Problem::new("nothing-to-revert", "no livepatch of ours is applied", hint)
}

pub(crate) fn no_progress() -> Problem {
    let hint = "the loader's log says what was tried: `journalctl -u livepatch-loader`";
    Problem::new("no-progress", "the kernel does not come to rest", hint)
}

pub(crate) fn busy() -> Problem {
    Problem::new("loader-busy", "a command of root goes first", "it is tried again by itself")
}

pub(crate) fn not_wanted() -> Problem {
    let message = "no document that is believed asks for this module, or it is here already";
    Problem::new("module-not-wanted", message, "`livepatch refresh` asks the server for the newest document")
}

#[cfg(test)]
mod tests;
