//! The agent: observes, checks, plans, acts. Timer, start and commands run the same round.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use livepatch_api::daemon::{Status, Waiting};
use livepatch_api::server::Report;
use livepatch_kernel::{Kernel, Pause, SealedModule};
use livepatch_manifest::{KernelDocument, Target};
use livepatch_types::{CheckState, Clock, KernelIdentity, Redacted};

use crate::execute::Executor;
use crate::not_covered::{NOT_COVERED, not_covered};
use crate::objects::ObjectCache;
use crate::plan::{self, Action, Desired, Observed};
use crate::policy::{Asker, Mode};
use crate::server::{DocumentAnswer, ServerClient};
use crate::state::{Blocked, Enrolment, Seen, State, StateStore, StoredDocument, write_atomically_with};
use crate::{Config, Problem, Trust, status, verify};

/// Steps in one round: a settle, a withdrawal, an application and the look after it, with room.
const MAX_STEPS: usize = 6;

/// What an agent is made of.
pub struct Parts {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// How it waits for the kernel.
    pub pause: Arc<dyn Pause>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub config: Config,
    /// The pinned keys, or why there are none.
    pub trust: Result<Trust, Problem>,
    /// Keyed hash of the machine id: 64 hexadecimal digits.
    pub machine: String,
    /// Where state and cache are.
    pub state_directory: std::path::PathBuf,
    /// Where the status is written for those who ask while this daemon does not answer.
    pub status_file: std::path::PathBuf,
}

/// The agent of one host. One round or command runs at a time; reading the status never waits for it.
pub struct Agent {
    kernel: Arc<dyn Kernel>,
    pause: Arc<dyn Pause>,
    clock: Arc<dyn Clock>,
    config: Config,
    trust: Result<Trust, Problem>,
    server: Result<ServerClient, Problem>,
    machine: String,
    status_file: std::path::PathBuf,
    store: StateStore,
    objects: ObjectCache,
    work: tokio::sync::Mutex<()>,
    live: Mutex<Live>,
}

/// What is known since the daemon started.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) check: CheckState,
    pub(crate) checked_at: Option<Timestamp>,
    /// Why the last check failed, or what it found out about this kernel.
    pub(crate) check_problem: Option<Problem>,
    /// Why the kernel does not run what it should.
    pub(crate) patch_problem: Option<Problem>,
    reported: Option<Report>,
}

/// How far a round reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What this host knows already.
    Local,
    /// Ask the server first.
    Server,
}

impl Agent {
    /// Puts an agent together. Nothing is done yet: [`Agent::start`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { kernel, pause, clock, config, trust, machine, state_directory, status_file } = parts;
        if let Err(error) = crate::state::private_directory(&state_directory) {
            tracing::warn!(%error, "the state directory cannot be made");
        }
        let server = ServerClient::new(&config);
        let live = Live {
            check: CheckState::NeedsCheck,
            checked_at: None,
            check_problem: None,
            patch_problem: None,
            reported: None,
        };
        Arc::new(Self {
            kernel,
            pause,
            clock,
            config,
            trust,
            server,
            machine,
            status_file,
            store: StateStore::open(&state_directory),
            objects: ObjectCache::new(&state_directory),
            work: tokio::sync::Mutex::new(()),
            live: Mutex::new(live),
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The keyed hash of this machine's id.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// What the last believed document asks for between two checks.
    pub(crate) fn poll_hint_seconds(&self) -> Option<u32> {
        let kernel = self.kernel.identity().ok()?;
        self.stored_document(&self.store.get(), &kernel)?.poll_hint_seconds
    }

    /// The status of this host, as the kernel and the memory of this daemon say.
    pub fn status(&self) -> Status {
        let state = self.store.get();
        let identity = self.kernel.identity();
        let document = identity.as_ref().ok().and_then(|kernel| self.stored_document(&state, kernel));
        let observed = self.observe();
        status::status(status::Facts {
            state: &state,
            live: &self.live(),
            server: state.enrolment.as_ref().map(|e| e.server.clone()).or_else(|| self.config.server.clone()),
            kernel: identity.ok(),
            document: document.as_ref(),
            observed: observed.as_ref().ok(),
            waiting: observed
                .as_ref()
                .ok()
                .and_then(|observed| self.waiting(&state, document.as_ref()?, observed)),
            standing_problem: self.store.problem().or(observed.as_ref().err().cloned()).or_else(|| {
                let trust = self.trust.as_ref().err().cloned();
                trust.filter(|_| state.enrolment.is_some())
            }),
        })
    }

    /// What keeps the offered livepatch back by the settings of this host.
    fn waiting(&self, state: &State, document: &KernelDocument, observed: &Observed) -> Option<Waiting> {
        let offered = document.target.as_ref()?;
        let version = offered.version;
        if plan::running(observed, state) == Some(version) || state.held == Some(version) {
            return None;
        }
        let waiting = self.config.policy.permits(offered, Asker::Timer, self.clock.now()).err()?;
        let (code, message, until) = (waiting.code.to_owned(), waiting.message, waiting.until);
        Some(Waiting { version, code, message, until })
    }

    /// How long until the offered livepatch may be applied by the settings of this host, if it waits for a time.
    pub(crate) fn waits_for(&self) -> Option<Duration> {
        let until = self.status().patch.waiting?.until?;
        Duration::try_from(until.duration_since(self.clock.now())).ok()
    }

    /// What to do when the daemon starts, without the network: look at how the last application ended, and bring the
    /// last healthy livepatch back.
    pub async fn start(self: &Arc<Self>) -> Result<(), Problem> {
        let guard = self.work.lock().await;
        let recovered = self.recover().await;
        drop(guard);
        self.note_patch(&recovered);
        recovered?;
        self.round(Reach::Local).await
    }

    /// Whether the daemon does nothing by itself.
    pub(crate) fn is_stopped(&self) -> bool {
        self.config.policy.mode == Mode::Stop
    }

    /// How far the timer's rounds reach.
    pub(crate) fn timer_reach(&self) -> Reach {
        if self.config.policy.mode == Mode::NoRefresh { Reach::Local } else { Reach::Server }
    }

    /// One round: check (if it reaches so far), then whatever is needed for the kernel to run what it should.
    pub async fn round(self: &Arc<Self>, reach: Reach) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        self.round_locked(reach, Asker::Timer).await
    }

    async fn round_locked(self: &Arc<Self>, reach: Reach, asker: Asker) -> Result<(), Problem> {
        let Some(enrolment) = self.store.get().enrolment else { return Ok(()) };
        if self.is_stopped() {
            let message = format!("the daemon is stopped by {}", self.config.policy.mode_source);
            let hint = "set the mode back to normal there, and restart the daemon";
            return Err(Problem::new("stopped", message, hint));
        }
        let kernel = self.kernel.identity()?;
        let checked = match reach {
            Reach::Local => None,
            Reach::Server => Some(self.check(&kernel, &enrolment).await),
        };
        if let Some(checked) = &checked {
            self.note_check(checked);
        }
        let online = matches!(checked, Some(Ok(())));
        let converged = self.converge(&kernel, &enrolment, online, asker).await;
        self.note_patch(&converged);
        self.report(&enrolment);
        match checked {
            // A kernel that is not covered is an answer, not a failure.
            Some(Err(problem)) if problem.code != NOT_COVERED => converged.and(Err(problem)),
            _ => converged,
        }
    }

    /// Enrols this host and begins.
    pub async fn enable(self: &Arc<Self>, token: Redacted<String>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        if self.store.get().enrolment.is_some() {
            let hint = "`livepatch disable` first, if it shall join another fleet";
            return Err(Problem::new("already-enabled", "this host is enrolled already", hint));
        }
        let Some(url) = self.config.server.clone() else {
            let hint = "set server = \"https://…\" in the configuration and restart the daemon";
            return Err(Problem::new("no-server", "no server is configured", hint));
        };
        if let Err(problem) = &self.trust {
            return Err(problem.clone());
        }
        let client = self.server.as_ref().map_err(Clone::clone)?;
        self.store.set_aside()?;
        let answer = client.enroll(&url, token, self.machine.clone()).await?;
        let enrolment = Enrolment { server: url, machine_token: answer.machine_token, tier: answer.tier };
        self.store.update(|state| state.enrolment = Some(enrolment))?;
        tracing::info!("the host is enrolled");
        // The host is enrolled, whatever comes of the first round: the status tells.
        if let Err(problem) = self.round_locked(Reach::Server, Asker::Timer).await {
            tracing::warn!(code = problem.code, "the first round after enrolment failed: {problem}");
        }
        Ok(())
    }

    /// Reverts what is applied and forgets the enrolment. What was seen and withdrawn stays known.
    pub async fn disable(self: &Arc<Self>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        if self.store.get().enrolment.is_none() {
            return Err(not_enabled());
        }
        let (observed, state) = (self.observe()?, self.store.get());
        if let Some(version) = plan::running(&observed, &state) {
            self.execute(move |executor| executor.remove(version)).await?;
        }
        self.store.update(|state| {
            (state.enrolment, state.document, state.applied) = (None, None, None);
            (state.held, state.in_progress, state.stalled) = (None, None, None);
        })?;
        self.objects.keep_only(&[]);
        let mut live = self.live();
        (live.check, live.checked_at) = (CheckState::NeedsCheck, None);
        (live.check_problem, live.patch_problem, live.reported) = (None, None, None);
        drop(live);
        self.write_status();
        tracing::info!("the host is no longer enrolled");
        Ok(())
    }

    /// Asks the server now.
    pub async fn refresh(self: &Arc<Self>) -> Result<(), Problem> {
        self.must_be_enabled()?;
        self.round(Reach::Server).await
    }

    /// Disables and unloads the livepatch, and holds it back until [`Agent::apply`] or another version.
    pub async fn revert(self: &Arc<Self>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        self.must_be_enabled()?;
        let (observed, state) = (self.observe()?, self.store.get());
        let Some(version) = plan::running(&observed, &state) else {
            return Err(Problem::new("nothing-to-revert", "no livepatch of ours is applied", ""));
        };
        // Held first: a daemon that dies in between must not bring it back.
        self.store.update(|state| state.held = Some(version))?;
        let removed = self.execute(move |executor| executor.remove(version)).await;
        self.store.update(|state| match &removed {
            Ok(()) => state.applied = None,
            Err(_) => state.held = None,
        })?;
        self.note_patch(&removed);
        if let Some(enrolment) = state.enrolment {
            self.report(&enrolment);
        }
        removed
    }

    /// Clears holds and crash guards, and runs a round that waits for no window and no delay.
    pub async fn apply(self: &Arc<Self>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        self.must_be_enabled()?;
        let build_id = self.kernel.identity()?.build_id;
        self.store.update(|state| {
            (state.held, state.stalled) = (None, None);
            state.blocked.retain(|blocked| blocked.build_id != build_id);
        })?;
        self.round_locked(Reach::Server, Asker::Root).await
    }

    /// Notes an orderly end: if the host goes down now, what is being applied was not the cause.
    pub fn close(&self) {
        let closed = self.store.update(|state| {
            if let Some(in_progress) = &mut state.in_progress {
                in_progress.closed = true;
            }
        });
        if let Err(problem) = closed {
            tracing::warn!(code = problem.code, "the orderly end could not be noted: {problem}");
        }
    }

    fn must_be_enabled(&self) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        if self.store.get().enrolment.is_some() { Ok(()) } else { Err(not_enabled()) }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self) -> Result<Observed, Problem> {
        Ok(Observed {
            build_id: self.kernel.identity()?.build_id,
            boot_id: self.kernel.boot_id()?,
            livepatches: self.kernel.livepatches()?,
            modules: self.kernel.modules()?.into_iter().map(|module| module.name).collect(),
        })
    }

    /// The stored document, if it is believed for this kernel. Its age is looked at where it matters.
    fn stored_document(&self, state: &State, kernel: &KernelIdentity) -> Option<KernelDocument> {
        let (stored, trust) = (state.document.as_ref()?, self.trust.as_ref().ok()?);
        let tier = &state.enrolment.as_ref()?.tier;
        let seen = state.seen_version(&trust.operator.key_id(), &kernel.build_id, tier);
        let keys = std::slice::from_ref(&trust.operator);
        KernelDocument::open(stored.envelope.as_bytes(), keys, kernel, tier, seen).ok()
    }

    /// A marker of an application that did not end: of this boot, it is brought to its end; of another, the host died
    /// with it.
    async fn recover(self: &Arc<Self>) -> Result<(), Problem> {
        let Some(in_progress) = self.store.get().in_progress else { return Ok(()) };
        let name = in_progress.target.version.module_name();
        if in_progress.boot_id == self.kernel.boot_id()? {
            let now = self.clock.now();
            return self.execute(move |executor| executor.settle(&name, now)).await;
        }
        self.store.update(|state| {
            state.in_progress = None;
            if !in_progress.closed {
                state.blocked.push(Blocked {
                    version: in_progress.target.version,
                    build_id: in_progress.build_id,
                    phase: in_progress.phase,
                });
            }
        })
    }

    /// Asks the server and believes what it says, or says why not.
    async fn check(&self, kernel: &KernelIdentity, enrolment: &Enrolment) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let trust = self.trust.as_ref().map_err(Clone::clone)?;
        let client = self.server.as_ref().map_err(Clone::clone)?;
        let state = self.store.get();
        let tier = &enrolment.tier;
        // A tag is only good for a document that is still believed.
        let believed = self.stored_document(&state, kernel);
        let stored = state.document.as_ref().filter(|_| believed.is_some());
        let etag = stored.and_then(|stored| stored.etag.as_deref());
        let (envelope, etag) = match client.document(&enrolment.server, tier, &kernel.build_id, etag).await? {
            DocumentAnswer::UnknownKernel(published) => {
                return Err(not_covered(kernel, &self.kernel.origin_evidence(), &published));
            }
            DocumentAnswer::Document { envelope, etag } => (envelope, etag),
            // The time of the stored one is looked at below.
            DocumentAnswer::NotModified => match believed {
                Some(document) => return Ok(document.check_time(self.clock.now())?),
                None => return Ok(()),
            },
        };
        let operator = trust.operator.key_id();
        let seen = state.seen_version(&operator, &kernel.build_id, tier);
        let keys = std::slice::from_ref(&trust.operator);
        let document = KernelDocument::open(&envelope, keys, kernel, tier, seen)?;
        let envelope = String::from_utf8_lossy(&envelope).into_owned();
        self.store.update(|state| {
            let build_id = kernel.build_id.clone();
            remember_seen(state, &operator, &document);
            state.document = Some(StoredDocument { build_id, channel: tier.clone(), etag, envelope });
        })?;
        Ok(document.check_time(self.clock.now())?)
    }

    /// Plans and acts until there is nothing to do or something stands in the way.
    async fn converge(
        self: &Arc<Self>,
        kernel: &KernelIdentity,
        enrolment: &Enrolment,
        online: bool,
        asker: Asker,
    ) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let mut install_problem = None;
        for _ in 0..MAX_STEPS {
            let (state, observed) = (self.store.get(), self.observe()?);
            let document = self.stored_document(&state, kernel);
            let target = document.as_ref().and_then(|document| document.target.as_ref());
            let cached = target.is_some_and(|target| self.objects.holds(&target.module));
            let desired = Desired {
                document: document.as_ref(),
                obtainable: (online || cached) && install_problem.is_none(),
                policy: &self.config.policy,
                asker,
            };
            let plan = plan::plan(&observed, desired, &state, self.clock.now());
            tracing::info!(action = plan.action.word(), reason = plan.reason, "planned");
            match plan.action {
                Action::Nothing => {
                    self.tidy(plan.leftovers, &state, target).await;
                    return install_problem.or(plan.problem).map_or(Ok(()), Err);
                }
                Action::Settle(name) => {
                    let now = self.clock.now();
                    self.execute(move |executor| executor.settle(&name, now)).await?;
                }
                Action::Withdraw(version) => {
                    self.execute(move |executor| executor.remove(version)).await?;
                    self.store.update(|state| state.applied = None)?;
                }
                Action::Install(target) => {
                    // What runs stays; or goes, if it was withdrawn: the next plan says which.
                    install_problem = self.apply_target(kernel, enrolment, target, online).await.err();
                }
                Action::Reapply(target) => {
                    self.apply_target(kernel, enrolment, target, online).await?;
                    if plan.problem.is_some() {
                        return plan.problem.map_or(Ok(()), Err);
                    }
                }
            }
        }
        Err(install_problem.unwrap_or_else(|| {
            Problem::new("no-progress", "the kernel does not come to rest", "see the daemon's log")
        }))
    }

    /// Fetches, seals, verifies and loads: the same sealed bytes in the last three.
    async fn apply_target(
        self: &Arc<Self>,
        kernel: &KernelIdentity,
        enrolment: &Enrolment,
        target: Target,
        online: bool,
    ) -> Result<(), Problem> {
        let trust = self.trust.as_ref().map_err(Clone::clone)?;
        let module = self.fetch(enrolment, &target, online).await?;
        let patched = verify::verify(module.bytes(), &target.module, target.version, kernel, &trust.vendor)?;
        let now = self.clock.now();
        self.execute(move |executor| executor.apply(&module, &patched, &target, now)).await
    }

    async fn fetch(
        &self,
        enrolment: &Enrolment,
        target: &Target,
        online: bool,
    ) -> Result<SealedModule, Problem> {
        let cached = self.objects.seal(&target.module);
        if cached.is_ok() || !online {
            return cached;
        }
        let client = self.server.as_ref().map_err(Clone::clone)?;
        let bytes = client.object(&enrolment.server, &target.module).await?;
        self.objects.put(&target.module.sha256, &bytes)?;
        self.objects.seal(&target.module)
    }

    /// Unloads what was replaced and drops cached objects that are no longer needed. What fails is tried next time.
    async fn tidy(
        self: &Arc<Self>,
        leftovers: Vec<livepatch_types::ModuleName>,
        state: &State,
        target: Option<&Target>,
    ) {
        for name in leftovers {
            if let Err(problem) = self.execute(move |executor| executor.unload(&name)).await {
                tracing::warn!(code = problem.code, "a replaced livepatch stays loaded: {problem}");
            }
        }
        let applied = state.applied.as_ref().map(|applied| applied.target.module.sha256);
        let keep: Vec<_> = applied.into_iter().chain(target.map(|target| target.module.sha256)).collect();
        self.objects.keep_only(&keep);
    }

    /// Runs effects on a thread where waiting is allowed. They run to their end even if the caller goes away.
    async fn execute(
        self: &Arc<Self>,
        effects: impl FnOnce(Executor<'_>) -> Result<(), Problem> + Send + 'static,
    ) -> Result<(), Problem> {
        let agent = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let build_id = agent.kernel.identity()?.build_id;
            effects(Executor {
                kernel: agent.kernel.as_ref(),
                pause: agent.pause.as_ref(),
                store: &agent.store,
                build_id: &build_id,
                transition_timeout: agent.config.transition_timeout,
            })
        });
        task.await.unwrap_or_else(|error| {
            Err(Problem::new(
                "internal",
                format!("a step of the daemon failed: {error}"),
                "report this with the daemon's log",
            ))
        })
    }

    fn note_check(&self, checked: &Result<(), Problem>) {
        if let Err(problem) = checked {
            tracing::warn!(code = problem.code, "the check failed: {problem}");
        }
        let mut live = self.live();
        live.checked_at = Some(self.clock.now());
        live.check = match checked {
            Ok(()) => CheckState::Checked,
            Err(problem) if problem.code == NOT_COVERED => CheckState::Checked,
            Err(_) => CheckState::CheckFailed,
        };
        live.check_problem = checked.clone().err();
        drop(live);
        self.write_status();
    }

    fn note_patch(&self, result: &Result<(), Problem>) {
        if let Err(problem) = result {
            tracing::warn!(code = problem.code, "the kernel does not run what it should: {problem}");
        }
        self.live().patch_problem = result.clone().err();
        self.write_status();
    }

    /// Leaves the status for those who ask while this daemon does not answer. Any user may read it, as over the socket.
    pub(crate) fn write_status(&self) {
        let written = serde_json::to_vec(&self.status())
            .map_err(std::io::Error::from)
            .and_then(|bytes| write_atomically_with(&self.status_file, &bytes, 0o644));
        if let Err(error) = written {
            tracing::warn!(path = %self.status_file.display(), %error, "the status file was not written");
        }
    }

    /// Tells the server when something changed, in the background and at best.
    fn report(self: &Arc<Self>, enrolment: &Enrolment) {
        let status = self.status();
        let (Some(kernel), Ok(client)) = (status.kernel, &self.server) else { return };
        let report = Report {
            kernel,
            client_version: status.client_version,
            at: self.clock.now(),
            check_state: status.check.state,
            patch_state: status.patch.state,
            patch_version: status.patch.version,
            error: status
                .problem
                .map(|problem| format!("{}: {}", problem.code, problem.message).chars().take(500).collect()),
        };
        let same = |last: &Report| Report { at: report.at, ..last.clone() } == report;
        if self.live().reported.as_ref().is_some_and(same) {
            return;
        }
        let (agent, client, enrolment) = (Arc::clone(self), client.clone(), enrolment.clone());
        tokio::spawn(async move {
            match client.report(&enrolment.server, &enrolment.machine_token, &report).await {
                Ok(()) => agent.live().reported = Some(report),
                Err(problem) => {
                    tracing::debug!(code = problem.code, "the report was not delivered: {problem}")
                }
            }
        });
    }
}

fn not_enabled() -> Problem {
    Problem::new("not-enabled", "this host is not enrolled", "`livepatch enable --token-file FILE` enrols it")
}

fn remember_seen(state: &mut State, operator: &str, document: &KernelDocument) {
    let (build_id, channel) = (&document.kernel.build_id, &document.channel);
    let same =
        |seen: &Seen| seen.operator == operator && seen.build_id == *build_id && seen.channel == *channel;
    if !state.seen.iter().any(same) {
        state.seen.push(Seen {
            operator: operator.to_owned(),
            build_id: build_id.clone(),
            channel: channel.clone(),
            version: 0,
            withdrawn: Vec::new(),
        });
    }
    for seen in state.seen.iter_mut().filter(|seen| same(seen)) {
        seen.version = seen.version.max(document.version);
        seen.withdrawn.extend(&document.withdrawn);
        seen.withdrawn.sort();
        seen.withdrawn.dedup();
    }
}
