//! The agent: asks the server, brings the loader what is signed, tells. Timer, start and commands run the same round.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use livepatch_api::daemon::{Status, Waiting};
use livepatch_api::server::Report;
use livepatch_kernel::{Kernel, Livepatch};
use livepatch_loader_api::{AgentRequest, View, ask};
use livepatch_manifest::{KernelDocument, Target};
use livepatch_settings::{Asker, Config, Mode};
use livepatch_types::{CheckState, Clock, KernelIdentity, PatchVersion, Redacted};

use crate::not_covered::{NOT_COVERED, not_covered};
use crate::server::{DocumentAnswer, ServerClient};
use crate::state::{Enrolment, Noted, StateStore, write_atomically};
use crate::{Problem, log, status};

/// How long the loader may take for an answer: two transitions of the longest kind, and the cancelling of them.
const LOADER_BOUND: Duration = Duration::from_secs(15 * 60);

/// What an agent is made of.
pub struct Parts {
    /// The kernel, to look at.
    pub kernel: Arc<dyn Kernel>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub config: Config,
    /// The loader's socket for agents.
    pub loader: PathBuf,
    /// Keyed hash of the machine id: 64 hexadecimal digits.
    pub machine: String,
    /// Where the state is.
    pub state_directory: PathBuf,
    /// Where the status is written for those who ask while this daemon does not answer.
    pub status_file: PathBuf,
}

/// The agent of one host. One round or command runs at a time; reading the status never waits for it.
pub struct Agent {
    kernel: Arc<dyn Kernel>,
    clock: Arc<dyn Clock>,
    config: Config,
    loader: PathBuf,
    server: Result<ServerClient, Problem>,
    machine: String,
    status_file: PathBuf,
    store: StateStore,
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
    /// How the loader saw the host when it was asked last.
    pub(crate) view: View,
    /// What the loader was just given to apply.
    pub(crate) handed_over: Option<Target>,
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
        let Parts { kernel, clock, config, loader, machine, state_directory, status_file } = parts;
        if let Err(error) = crate::state::private_directory(&state_directory) {
            tracing::warn!(%error, "the state directory cannot be made");
        }
        let server = ServerClient::new(&config);
        let live = Live {
            check: CheckState::NeedsCheck,
            checked_at: None,
            check_problem: None,
            patch_problem: None,
            view: View::default(),
            handed_over: None,
            reported: None,
        };
        let store = StateStore::open(&state_directory);
        let (work, live) = (tokio::sync::Mutex::new(()), Mutex::new(live));
        Arc::new(Self { kernel, clock, config, loader, server, machine, status_file, store, work, live })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The keyed hash of this machine's id.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// What the last believed document asks for between two checks.
    pub(crate) fn poll_hint_seconds(&self) -> Option<u32> {
        self.live().view.document.as_ref()?.poll_hint_seconds
    }

    /// The status of this host, as the kernel says now and the loader said last.
    pub fn status(&self) -> Status {
        let state = self.store.get();
        let identity = self.kernel.identity();
        let livepatches = self.kernel.livepatches();
        let live = self.live().clone();
        let enabled = state.enrolment.is_some();
        let stale = live.view.operator_problem.clone().or(live.view.vendor_problem.clone());
        let vendor_problem = stale.filter(|_| enabled);
        let loader_problem = live.view.problem.clone().filter(|p| enabled || p.code != "trust-missing");
        let loader_problem = loader_problem.or(vendor_problem).map(Problem::from);
        status::status(status::Facts {
            state: &state,
            live: &live,
            server: state.enrolment.as_ref().map(|e| e.server.clone()).or_else(|| self.config.server.clone()),
            waiting: livepatches.as_ref().ok().and_then(|livepatches| self.waiting(&live.view, livepatches)),
            standing_problem: self
                .store
                .problem()
                .or_else(|| identity.as_ref().err().map(explained))
                .or_else(|| livepatches.as_ref().err().map(explained))
                .or(loader_problem),
            kernel: identity.ok(),
            livepatches: livepatches.ok().as_deref(),
        })
    }

    /// What keeps the offered livepatch back by the settings of this host.
    fn waiting(&self, view: &View, livepatches: &[Livepatch]) -> Option<Waiting> {
        let offered = view.document.as_ref()?.target.as_ref()?;
        let version = offered.version;
        if running(view, livepatches) == Some(version) || view.held == Some(version) {
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

    /// What to do when the daemon starts, without the network: have the loader go on, and look what came of it.
    pub async fn start(self: &Arc<Self>) -> Result<(), Problem> {
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
        self.round_locked(reach).await
    }

    async fn round_locked(self: &Arc<Self>, reach: Reach) -> Result<(), Problem> {
        if self.is_stopped() {
            // Looking is not doing; what it finds is in the status.
            let _ = self.ask(AgentRequest::Status, Vec::new()).await;
            let message = format!("the daemon is stopped by {}", self.config.policy.mode_source);
            let hint = "set the mode back to normal there, and restart the daemon";
            return Err(Problem::new("stopped", message, hint));
        }
        let Some(enrolment) = self.store.get().enrolment else {
            // Nothing to do, but to see.
            return self.ask(AgentRequest::Status, Vec::new()).await.map(drop);
        };
        let kernel = self.kernel.identity()?;
        let checked = match reach {
            Reach::Local => None,
            Reach::Server => Some(self.check(&kernel, &enrolment).await),
        };
        if let Some(checked) = &checked {
            self.note_check(checked);
        }
        let online = matches!(checked, Some(Ok(())));
        let converged = self.converge(&enrolment, online).await;
        let converged = log::explained(converged, checked.as_ref());
        self.note_patch(&converged);
        self.report(&enrolment);
        match checked {
            // A kernel that is not covered is an answer, not a failure.
            Some(Err(problem)) if problem.code != NOT_COVERED => converged.and(Err(problem)),
            _ => converged,
        }
    }

    /// Enrols this host and begins. Root has told the loader before.
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
        // Without the loader, or keys in it, the token would be spent for nothing.
        let view = self.ask(AgentRequest::Status, Vec::new()).await?;
        if let Some(problem) = view.problem.clone() {
            return Err(problem.into());
        }
        // Only root can have it drawn.
        let host = view.host.ok_or_else(not_enabled)?;
        let client = self.server.as_ref().map_err(Clone::clone)?;
        self.store.set_aside()?;
        // The key that signs assignments may be a new one.
        self.update_operator(&url, &view).await?;
        let answer = client.enroll(&url, token, self.machine.clone(), host).await?;
        // Without it the loader takes no document.
        self.ask(AgentRequest::Assign, answer.assignment.into_bytes()).await?;
        let enrolment = Enrolment { server: url, machine_token: answer.machine_token, tier: answer.tier };
        self.store.update(|state| (state.enrolment, state.noted) = (Some(enrolment), None))?;
        tracing::info!("the host is enrolled");
        // The host is enrolled, whatever comes of the first round: the status tells.
        if let Err(problem) = self.round_locked(Reach::Server).await {
            tracing::warn!(code = %problem.code, "the first round after enrolment failed: {problem}");
        }
        Ok(())
    }

    /// Forgets the enrolment. Root has told the loader before, which has reverted what was applied.
    pub async fn disable(self: &Arc<Self>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        if self.store.get().enrolment.is_none() {
            return Err(not_enabled());
        }
        self.store.update(|state| (state.enrolment, state.noted) = (None, None))?;
        let mut live = self.live();
        (live.check, live.checked_at) = (CheckState::NeedsCheck, None);
        (live.check_problem, live.patch_problem, live.reported) = (None, None, None);
        live.view = View::default();
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

    /// Looks how the loader sees the host: root has had it do something, on a host without a server too.
    pub async fn look(self: &Arc<Self>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        self.ask(AgentRequest::Status, Vec::new()).await?;
        self.note_patch(&Ok(()));
        if let Some(enrolment) = self.store.get().enrolment {
            self.report(&enrolment);
        }
        Ok(())
    }

    /// Whether this host is enrolled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.store.get().enrolment.is_some()
    }

    /// Whether root has told the loader to take documents.
    pub(crate) async fn is_loader_enabled(self: &Arc<Self>) -> Result<bool, Problem> {
        Ok(self.ask(AgentRequest::Status, Vec::new()).await?.enabled)
    }

    fn must_be_enabled(&self) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        if self.is_enabled() { Ok(()) } else { Err(not_enabled()) }
    }

    pub(crate) fn server(&self) -> Result<&ServerClient, Problem> {
        self.server.as_ref().map_err(Clone::clone)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server, and has the loader take note of what it says.
    async fn check(self: &Arc<Self>, kernel: &KernelIdentity, enrolment: &Enrolment) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let view = self.ask(AgentRequest::Status, Vec::new()).await?;
        if let Some(problem) = view.problem {
            return Err(problem.into());
        }
        let client = self.server.as_ref().map_err(Clone::clone)?;
        let tier = &enrolment.tier;
        // A tag is only good for the document that the loader still believes.
        let noted = self.store.get().noted.filter(|noted| {
            let same = |d: &KernelDocument| d.version == noted.version && d.channel == noted.channel;
            noted.build_id == kernel.build_id
                && noted.channel == *tier
                && view.document.as_ref().is_some_and(same)
        });
        let etag = noted.as_ref().map(|noted| noted.etag.as_str());
        let (envelope, etag) = match client.document(&enrolment.server, tier, &kernel.build_id, etag).await? {
            DocumentAnswer::UnknownKernel(published) => {
                return Err(not_covered(kernel, &self.kernel.origin_evidence(), &published));
            }
            DocumentAnswer::Document { envelope, etag } => (envelope, etag),
            DocumentAnswer::NotModified => {
                let view = self.update_vendor(enrolment, view).await?;
                let view = self.update_log(enrolment, view).await?;
                return view.document_problem.map_or(Ok(()), |problem| Err(problem.into()));
            }
        };
        let view = self.note(enrolment, &view, envelope).await?;
        let noted = view.document.as_ref().zip(etag).map(|(document, etag)| Noted {
            build_id: kernel.build_id.clone(),
            channel: document.channel.clone(),
            version: document.version,
            etag,
        });
        self.store.update(|state| state.noted = noted)?;
        let view = self.update_vendor(enrolment, view).await?;
        let view = self.update_log(enrolment, view).await?;
        view.document_problem.map_or(Ok(()), |problem| Err(problem.into()))
    }

    /// Brings the loader what it wants, if it can be had, and has it go on.
    async fn converge(self: &Arc<Self>, enrolment: &Enrolment, online: bool) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let view = self.ask(AgentRequest::Status, Vec::new()).await?;
        let mut not_fetched = None;
        if let Some(object) = view.wants.filter(|_| online) {
            let client = self.server.as_ref().map_err(Clone::clone)?;
            match client.object(&enrolment.server, &object).await {
                Ok(module) => {
                    let target = view.document.and_then(|document| document.target);
                    self.live().handed_over = target.filter(|target| target.module == object);
                    let applied = self.ask(AgentRequest::Apply, module).await;
                    self.live().handed_over = None;
                    return applied.map(drop);
                }
                Err(problem) => not_fetched = Some(problem),
            }
        }
        // What was withdrawn goes all the same, and what was healthy comes back.
        let converged = self.ask(AgentRequest::Converge, Vec::new()).await;
        not_fetched.map_or(converged.map(drop), Err)
    }

    /// Asks the loader, on a thread where waiting is allowed. What it does it does to its end, whoever goes away.
    pub(crate) async fn ask(self: &Arc<Self>, request: AgentRequest, body: Vec<u8>) -> Result<View, Problem> {
        let socket = self.loader.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&socket, request, &body, LOADER_BOUND));
        let answer = asked.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))?;
        if let Some(view) = &answer.view {
            self.live().view = view.clone();
        }
        match (answer.failure, answer.view) {
            (Some(failure), _) => Err(failure.into()),
            (None, view) => Ok(view.unwrap_or_default()),
        }
    }

    fn note_check(&self, checked: &Result<(), Problem>) {
        if let Err(problem) = checked {
            tracing::warn!(code = %problem.code, "the check failed: {problem}");
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
            tracing::warn!(code = %problem.code, "the kernel does not run what it should: {problem}");
        }
        self.live().patch_problem = result.clone().err();
        self.write_status();
    }

    /// Leaves the status for those who ask while this daemon does not answer. Any user may read it, as over the socket.
    pub(crate) fn write_status(&self) {
        let written = serde_json::to_vec(&self.status())
            .map_err(std::io::Error::from)
            .and_then(|bytes| write_atomically(&self.status_file, &bytes, 0o644));
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
                    tracing::debug!(code = %problem.code, "the report was not delivered: {problem}")
                }
            }
        });
    }
}

fn not_enabled() -> Problem {
    Problem::new("not-enabled", "this host is not enrolled", "`livepatch enable --token-file FILE` enrols it")
}

fn explained(error: &livepatch_kernel::KernelError) -> Problem {
    Problem::new(error.code(), error, error.hint())
}

/// The livepatch of ours that runs or is being enabled.
pub(crate) fn running(view: &View, livepatches: &[Livepatch]) -> Option<PatchVersion> {
    let mut enabled = livepatches.iter().filter(|patch| patch.enabled && view.loaded.contains(&patch.name));
    enabled.find_map(|patch| PatchVersion::of_module(&patch.name))
}
