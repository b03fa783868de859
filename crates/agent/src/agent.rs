//! The agent: asks the server, brings the loader what is signed, tells. Timer, start and commands run the same round.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use livepatch_api::daemon::{Reachability, Status, Waiting};
use livepatch_kernel::{Kernel, Livepatch};
use livepatch_loader_api::{AgentRequest, View, ask};
use livepatch_manifest::{KernelDocument, ModuleObject, Target};
use livepatch_settings::{Asker, Config, Mode, TelemetrySwitch};
use livepatch_types::{
    CheckState, Clock, CveCoverage, KernelIdentity, NoticeId, PatchVersion, Redacted, StageEvent,
};

use crate::cohort::refused_with_cohort;
use crate::mirrors::{Mirrors, is_the_servers_fault};
use crate::network::{Network, reachability};
use crate::not_covered::{NOT_COVERED, not_covered};
use crate::pace::Pace;
use crate::server::{DocumentAnswer, ServerClient};
use crate::state::{Enrolment, Noted, StateStore, write_atomically};
use crate::support::System;
use crate::telemetry::QueueFile;
use crate::{Problem, status};

/// How long the loader may take for an answer: two transitions of the longest kind, and the cancelling of them.
const LOADER_BOUND: Duration = Duration::from_secs(15 * 60);

/// After so long no further mirror is asked for a module. With what one download and the loader may take, this is less than
/// the watchdog waits.
const LONGEST_FETCH: Duration = Duration::from_secs(20 * 60);

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
    /// Where the installed kernels are.
    pub boot_directory: PathBuf,
    /// os-release(5) of the host.
    pub os_release: PathBuf,
    /// Where the kernel shows the routes of this host: `/proc/net`.
    pub routes: PathBuf,
    /// Where the status is written for those who ask while this daemon does not answer.
    pub status_file: PathBuf,
}

/// Beside the status: the snap had a file whose being there told programs that the host is enabled.
const ENABLED_FILE: &str = "enabled";

/// The agent of one host. One round or command runs at a time; reading the status never waits for it.
pub struct Agent {
    kernel: Arc<dyn Kernel>,
    clock: Arc<dyn Clock>,
    config: Config,
    loader: PathBuf,
    server: Result<ServerClient, Problem>,
    machine: String,
    status_file: PathBuf,
    boot_directory: PathBuf,
    os_release: PathBuf,
    routes: PathBuf,
    store: StateStore,
    reports: QueueFile,
    delivering: tokio::sync::Mutex<()>,
    news: tokio::sync::Notify,
    work: tokio::sync::Mutex<()>,
    live: Mutex<Live>,
    mirrors: Mutex<Mirrors>,
}

/// What is known since the daemon started.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) check: CheckState,
    /// When the last check that succeeded ended, before the daemon started too.
    pub(crate) checked_at: Option<Timestamp>,
    pub(crate) attempted_at: Option<Timestamp>,
    pub(crate) reachability: Reachability,
    /// Why the last check failed, or what it found out about this kernel.
    pub(crate) check_problem: Option<Problem>,
    /// Why the kernel does not run what it should.
    pub(crate) patch_problem: Option<Problem>,
    /// How the loader saw the host when it was asked last.
    pub(crate) view: View,
    /// What the loader was just given to apply.
    pub(crate) handed_over: Option<Target>,
    /// Whether the server could be reached when it was asked last.
    contact: bool,
    /// The mirror that answered the last check in the server's place.
    pub(crate) mirror: Option<String>,
    /// When it was asked last which kernels are covered.
    pub(crate) support_asked: Option<Timestamp>,
    /// What a command's check says of the next one, until the timer takes it.
    pace: Option<Pace>,
    /// Why the server does not take this host's reports.
    pub(crate) reports_problem: Option<Problem>,
    /// Why the operator did not assign this host to the cohort of its settings when it was asked last.
    pub(crate) cohort_problem: Option<Problem>,
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
        let Parts {
            kernel,
            clock,
            config,
            loader,
            machine,
            state_directory,
            boot_directory,
            os_release,
            routes,
            status_file,
        } = parts;
        if let Err(error) = crate::state::private_directory(&state_directory) {
            tracing::warn!(%error, "the state directory cannot be made");
        }
        let server = ServerClient::new(&config);
        let mirrors = Mirrors::new(&config.mirrors);
        let store = StateStore::open(&state_directory);
        let before = store.get();
        if before.enrolment.is_some() && before.enrolled_at.is_none() {
            // An earlier version did not note it: its age is counted from now on.
            let now = clock.now();
            if let Err(problem) = store.update(|state| state.enrolled_at = Some(now)) {
                tracing::warn!(code = %problem.code, "the time of the enrolment is not kept: {problem}");
            }
        }
        let live = Live {
            check: CheckState::NeedsCheck,
            checked_at: store.get().checked_at,
            attempted_at: None,
            reachability: Reachability::Unknown,
            check_problem: None,
            patch_problem: None,
            view: View::default(),
            handed_over: None,
            contact: false,
            mirror: None,
            support_asked: None,
            pace: None,
            reports_problem: None,
            cohort_problem: None,
        };
        let reports = QueueFile::open(&state_directory);
        if config.telemetry == TelemetrySwitch::Off {
            // What waited is not told later either.
            reports.forget();
        }
        Arc::new(Self {
            kernel,
            clock,
            config,
            loader,
            server,
            machine,
            status_file,
            boot_directory,
            os_release,
            routes,
            store,
            reports,
            delivering: tokio::sync::Mutex::default(),
            news: tokio::sync::Notify::new(),
            work: tokio::sync::Mutex::default(),
            live: Mutex::new(live),
            mirrors: Mutex::new(mirrors),
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn kernel(&self) -> &dyn Kernel {
        self.kernel.as_ref()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The reports that wait.
    pub(crate) fn reports(&self) -> &QueueFile {
        &self.reports
    }

    /// Held by who delivers them.
    pub(crate) fn delivering(&self) -> &tokio::sync::Mutex<()> {
        &self.delivering
    }

    pub(crate) fn enrolment(&self) -> Option<Enrolment> {
        self.store.get().enrolment
    }

    /// How the loader saw the host, and whether the kernel does not run what it should.
    pub(crate) fn view_and_failure(&self) -> (View, bool) {
        let live = self.live();
        (live.view.clone(), live.patch_problem.is_some())
    }

    pub(crate) fn had_contact(&self) -> bool {
        self.live().contact
    }

    /// Whether a check was tried since the daemon started.
    pub(crate) fn has_attempted(&self) -> bool {
        self.live().attempted_at.is_some()
    }

    /// Time since the boot, in which a host that slept did not stand still.
    pub(crate) fn since_boot(&self) -> Duration {
        self.kernel.since_boot().unwrap_or_default()
    }

    /// Something happened that the timer did not do itself, or that it says something of later.
    pub(crate) fn wake_timer(&self) {
        self.news.notify_one();
    }

    /// Waits until something happens that the timer did not do: what a check said of the next one, if there was one.
    pub(crate) async fn news(&self) -> Option<Pace> {
        self.news.notified().await;
        self.live().pace.take()
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
            now: self.clock.now(),
            boot_files: &self.boot_files(),
            asks_by_itself: self.config.check_interval.is_some() && self.timer_reach() == Reach::Server,
            system: System::read(&self.os_release),
            cutoff_date: self.config.policy.cutoff,
            cohort: self.config.policy.cohort.as_ref(),
            livepatches: livepatches.ok().as_deref(),
        })
    }

    fn boot_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.boot_directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// What keeps the offered livepatch back by the settings of this host.
    fn waiting(&self, view: &View, livepatches: &[Livepatch]) -> Option<Waiting> {
        let offered = view.document.as_ref()?.target.as_ref()?;
        let version = offered.version;
        if running(view, livepatches) == Some(version) || view.held == Some(version) {
            return None;
        }
        let place = status::place(view, version);
        let waiting = self.config.policy.permits(offered, place, Asker::Timer, self.clock.now()).err()?;
        let fixed = status::fixed_cves(view, None, livepatches);
        let open = offered.cves.iter().filter(|entry| entry.coverage == CveCoverage::Whole);
        Some(Waiting {
            version,
            code: waiting.code.to_owned(),
            message: waiting.message,
            until: waiting.until,
            notice: Some(NoticeId::of(version)),
            released: Some(offered.released),
            open_cves: open.map(|entry| entry.id).filter(|id| !fixed.contains(id)).collect(),
        })
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
        match self.config.policy.mode {
            Mode::Normal | Mode::NoApply => Reach::Server,
            Mode::NoRefresh | Mode::Stop => Reach::Local,
        }
    }

    /// One round: check (if it reaches so far), then whatever is needed for the kernel to run what it should.
    pub async fn round(self: &Arc<Self>, reach: Reach) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        self.commanded_round(reach).await
    }

    /// A round that is not the timer's, which hears of it.
    async fn commanded_round(self: &Arc<Self>, reach: Reach) -> Result<(), Problem> {
        let ended = self.round_locked(reach).await;
        if ended.checked.is_some() {
            self.live().pace = Some(ended.pace());
        }
        self.wake_timer();
        ended.result()
    }

    /// The timer's round, and what it says of the next one. What went wrong is noted.
    pub async fn timer_round(self: &Arc<Self>) -> Pace {
        let _guard = self.work.lock().await;
        let ended = self.round_locked(self.timer_reach()).await;
        self.live().pace = None;
        ended.pace()
    }

    async fn round_locked(self: &Arc<Self>, reach: Reach) -> Ended {
        if self.is_stopped() {
            // Looking is not doing; what it finds is in the status.
            let _ = self.ask(AgentRequest::Status, Vec::new()).await;
            return Ended::here(Err(stopped(&self.config.policy.mode_source)));
        }
        let Some(enrolment) = self.store.get().enrolment else {
            // Nothing to do, but to see.
            return Ended::here(self.ask(AgentRequest::Status, Vec::new()).await.map(drop));
        };
        let kernel = match self.kernel.identity() {
            Ok(kernel) => kernel,
            Err(error) => return Ended::here(Err(error.into())),
        };
        let checked = match reach {
            Reach::Local => None,
            Reach::Server => Some(self.check(&kernel, &enrolment).await),
        };
        if let Some(checked) = &checked {
            self.note_check(checked);
        }
        let online = matches!(checked, Some(Ok(())));
        if checked
            .as_ref()
            .is_some_and(|checked| checked.as_ref().err().is_none_or(|p| p.code == NOT_COVERED))
        {
            self.update_cohort(&enrolment).await;
            self.update_support(&enrolment).await;
        }
        let converged = with_cause(self.converge(&enrolment, online).await, checked.as_ref());
        self.note_patch(&converged);
        self.report(&enrolment);
        Ended { checked, converged }
    }

    /// Enrols this host and begins. Root has told the loader before.
    pub async fn enable(self: &Arc<Self>, token: Redacted<String>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        if self.store.get().enrolment.is_some() {
            return Err(already_enabled());
        }
        let Some(url) = self.config.server.clone() else {
            return Err(no_server());
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
        let cohort = self.config.policy.cohort.clone();
        let asks_for_cohort = cohort.is_some();
        let answer = client.enroll(&url, token, self.machine.clone(), host, cohort).await;
        let answer =
            answer.map_err(|problem| if asks_for_cohort { refused_with_cohort(problem) } else { problem })?;
        // Without it the loader takes no document.
        self.ask(AgentRequest::Assign, answer.assignment.into_bytes()).await?;
        let enrolment = Enrolment { server: url, machine_token: answer.machine_token, tier: answer.tier };
        let now = self.clock.now();
        self.store.update(|state| {
            (state.enrolment, state.noted, state.checked_at) = (Some(enrolment), None, None);
            state.enrolled_at = Some(now);
        })?;
        self.reports.forget();
        tracing::info!("the host is enrolled");
        // The host is enrolled, whatever comes of the first round: the status tells.
        if let Err(problem) = self.commanded_round(Reach::Server).await {
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
        self.store.update(|state| {
            (state.enrolment, state.noted) = (None, None);
            (state.checked_at, state.enrolled_at) = (None, None);
        })?;
        self.leave();
        tracing::info!("the host is no longer enrolled");
        Ok(())
    }

    /// Forgets all that is of this machine: its disk becomes an image. Root has told the loader before.
    pub async fn prepare_image(self: &Arc<Self>) -> Result<(), Problem> {
        let _guard = self.work.lock().await;
        self.store.forget()?;
        self.leave();
        tracing::info!("nothing of this machine is remembered");
        Ok(())
    }

    /// What is left to forget when the enrolment is.
    fn leave(&self) {
        self.reports.forget();
        let mut live = self.live();
        (live.check, live.checked_at, live.attempted_at) = (CheckState::NeedsCheck, None, None);
        live.reachability = Reachability::Unknown;
        (live.check_problem, live.patch_problem, live.reports_problem) = (None, None, None);
        (live.support_asked, live.cohort_problem) = (None, None);
        live.view = View::default();
        drop(live);
        self.write_status();
        self.wake_timer();
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
        self.wake_timer();
        Ok(())
    }

    /// Whether this host is enrolled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.store.get().enrolment.is_some()
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

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the server or, when it fails, its mirrors. What is wrong with all of them is what is wrong with the first.
    async fn check(self: &Arc<Self>, kernel: &KernelIdentity, enrolment: &Enrolment) -> Result<(), Problem> {
        let mut failed = None;
        for url in self.in_turn(&enrolment.server) {
            let checked = self.check_at(&url, kernel, enrolment).await;
            if let Err(problem) = &checked
                && !is_the_servers_fault(problem)
            {
                return checked;
            }
            self.note_source(&url, checked.as_ref().map(|_| ()));
            match checked {
                Ok(()) => {
                    self.live().mirror = Some(url).filter(|url| *url != enrolment.server);
                    return Ok(());
                }
                Err(problem) => {
                    tracing::debug!(code = %problem.code, "{url} is of no use now: {problem}");
                    failed.get_or_insert(problem);
                }
            }
        }
        self.live().mirror = None;
        failed.map_or(Ok(()), Err)
    }

    fn in_turn(&self, first: &str) -> Vec<String> {
        let since_boot = self.kernel.since_boot().unwrap_or_default();
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).in_turn(first, since_boot)
    }

    fn note_source(&self, url: &str, asked: Result<(), &Problem>) {
        let since_boot = self.kernel.since_boot().unwrap_or_default();
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).note(url, asked, since_boot);
    }

    /// Asks the server or one of its mirrors, and has the loader take note of what it says.
    async fn check_at(
        self: &Arc<Self>,
        url: &str,
        kernel: &KernelIdentity,
        enrolment: &Enrolment,
    ) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let view = self.ask(AgentRequest::Status, Vec::new()).await?;
        if let Some(problem) = view.problem.clone() {
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
        // A mirror has tags of its own.
        let of_server = url == enrolment.server;
        let etag = noted.as_ref().map(|noted| noted.etag.as_str()).filter(|_| of_server);
        let (envelope, etag) = match client.document(url, tier, &kernel.build_id, etag).await? {
            // What a mirror does not have the server may have.
            DocumentAnswer::UnknownKernel(_) if !of_server => {
                return Err(mirror_behind(url));
            }
            DocumentAnswer::UnknownKernel(published) => {
                return Err(not_covered(kernel, &self.kernel.origin_evidence(), &published));
            }
            DocumentAnswer::Document { envelope, etag } => (envelope, etag),
            DocumentAnswer::NotModified => {
                let view = self.update_vendor(url, view).await?;
                let view = self.update_log(url, view).await?;
                return view.document_problem.map_or(Ok(()), |problem| Err(problem.into()));
            }
        };
        let view = self.note(url, &view, envelope).await?;
        let etag = etag.filter(|_| of_server);
        let noted = view.document.as_ref().zip(etag).map(|(document, etag)| Noted {
            build_id: kernel.build_id.clone(),
            channel: document.channel.clone(),
            version: document.version,
            etag,
        });
        // Without it the next check is no shorter.
        if let Err(problem) = self.store.update(|state| state.noted = noted) {
            tracing::warn!(code = %problem.code, "the document's tag is not kept: {problem}");
        }
        let view = self.update_vendor(url, view).await?;
        let view = self.update_log(url, view).await?;
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
            match self.fetch(enrolment, &object).await {
                Ok(module) => {
                    let target = view.document.as_ref().and_then(|document| document.target.clone());
                    let target = target.filter(|target| target.module == object);
                    if let Some(target) = &target {
                        // The loader's table is ours: what it would refuse is not brought.
                        let before = view.stage(target.version).unwrap_or_default();
                        let stage = before.next(StageEvent::Fetched)?;
                        tracing::debug!(version = %target.version, stage = stage.words(), "a module is here");
                        self.announce(target, enrolment).await;
                    }
                    self.live().handed_over = target;
                    let applied = self.ask_and_tell(AgentRequest::Apply, module, enrolment).await;
                    self.live().handed_over = None;
                    return applied.map(drop);
                }
                Err(problem) => not_fetched = Some(problem),
            }
        }
        // What was withdrawn goes all the same, and what was healthy comes back.
        let converged = self.ask_and_tell(AgentRequest::Converge, Vec::new(), enrolment).await;
        not_fetched.map_or(converged.map(drop), Err)
    }

    /// Downloads a module from whoever answered the check, or else from the others.
    async fn fetch(&self, enrolment: &Enrolment, object: &ModuleObject) -> Result<Vec<u8>, Problem> {
        let client = self.server.as_ref().map_err(Clone::clone)?;
        let first = self.live().mirror.clone().unwrap_or_else(|| enrolment.server.clone());
        let (began, mut failed) = (Instant::now(), None);
        for url in self.in_turn(&first) {
            // The others have their turn with the next check.
            if began.elapsed() > LONGEST_FETCH {
                break;
            }
            let fetched = client.object(&url, object).await;
            self.note_source(&url, fetched.as_ref().map(|_| ()));
            match fetched {
                Ok(module) => return Ok(module),
                Err(problem) => drop(failed.get_or_insert(problem)),
            }
        }
        Err(failed.unwrap_or_else(no_server))
    }

    /// Asks the loader, on a thread where waiting is allowed. What it does it does to its end, whoever goes away.
    pub(crate) async fn ask(self: &Arc<Self>, request: AgentRequest, body: Vec<u8>) -> Result<View, Problem> {
        let socket = self.loader.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&socket, request, &body, LOADER_BOUND));
        let answer = asked.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))?;
        if let Some(view) = &answer.view {
            self.live().view = view.clone();
            self.tell_passed(view);
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
        let now = self.clock.now();
        let reachability = reachability(checked.as_ref().map(|&()| ()), || Network::read(&self.routes));
        let mut live = self.live();
        live.attempted_at = Some(now);
        live.reachability = reachability.unwrap_or(live.reachability);
        live.check = match checked {
            Ok(()) => CheckState::Checked,
            Err(problem) if problem.code == NOT_COVERED => CheckState::Checked,
            // Not a failure: nothing can be said of a server while there is no network.
            Err(_) if reachability == Some(Reachability::Pending) => CheckState::NeedsCheck,
            Err(_) => CheckState::CheckFailed,
        };
        live.contact =
            live.mirror.is_none() && checked.as_ref().err().is_none_or(|problem| !no_contact(problem));
        live.check_problem = checked.clone().err().filter(|_| live.check != CheckState::NeedsCheck);
        let succeeded = live.check == CheckState::Checked;
        if succeeded {
            live.checked_at = Some(now);
        }
        drop(live);
        // The check is as good without it; that the state cannot be written is said where it matters.
        if succeeded && let Err(problem) = self.store.update(|state| state.checked_at = Some(now)) {
            tracing::warn!(code = %problem.code, "the time of the check is not kept: {problem}");
        }
        self.write_status();
    }

    fn note_patch(&self, result: &Result<(), Problem>) {
        if let Err(problem) = result {
            tracing::warn!(code = %problem.code, "the kernel does not run what it should: {problem}");
        }
        self.live().patch_problem = result.clone().err();
        self.write_status();
    }

    /// Whether the server takes this host's reports; a warning when that changes.
    pub(crate) fn note_reports(&self, refused: Option<Problem>) {
        let mut live = self.live();
        let before = std::mem::replace(&mut live.reports_problem, refused.clone());
        drop(live);
        let code = |problem: &Option<Problem>| problem.as_ref().map(|problem| problem.code.clone());
        if code(&before) == code(&refused) {
            return;
        }
        if let Some(problem) = refused {
            tracing::warn!(code = %problem.code, "the server does not take what this host tells: {problem}");
        }
        self.write_status();
    }

    /// Leaves the status for those who ask while this daemon does not answer. Any user may read it, as over the socket.
    pub(crate) fn write_status(&self) {
        let status = self.status();
        let written = serde_json::to_vec(&status)
            .map_err(std::io::Error::from)
            .and_then(|bytes| write_atomically(&self.status_file, &bytes, 0o644))
            .and_then(|()| self.mark_enabled(status.enabled));
        if let Err(error) = written {
            tracing::warn!(path = %self.status_file.display(), %error, "the status file was not written");
        }
    }

    /// An empty file, which any user may see, is there exactly while this host is enrolled.
    fn mark_enabled(&self, enabled: bool) -> std::io::Result<()> {
        let path = self.status_file.with_file_name(ENABLED_FILE);
        if enabled {
            return if path.exists() { Ok(()) } else { write_atomically(&path, b"", 0o644) };
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Tells the server when something changed, in the background and at best.
    fn report(self: &Arc<Self>, enrolment: &Enrolment) {
        self.tell_state();
        self.deliver_soon(enrolment);
    }
}

/// How a round ended.
struct Ended {
    /// None: the server was not asked.
    checked: Option<Result<(), Problem>>,
    /// Whether the kernel runs what it should.
    converged: Result<(), Problem>,
}

impl Ended {
    /// Without a word to the server.
    fn here(converged: Result<(), Problem>) -> Self {
        Self { checked: None, converged }
    }

    fn pace(&self) -> Pace {
        Pace::of(self.checked.as_ref(), &self.converged)
    }

    /// What is told to whoever asked for the round.
    fn result(self) -> Result<(), Problem> {
        match self.checked {
            // A kernel that is not covered is an answer, not a failure.
            Some(Err(problem)) if problem.code != NOT_COVERED => self.converged.and(Err(problem)),
            _ => self.converged,
        }
    }
}

/// Whether a check did not get as far as to the server, or the server has enough to do without reports.
pub(crate) fn no_contact(problem: &Problem) -> bool {
    ["server-unreachable", "server-failed", "proxy-setup", "tls-setup"].contains(&problem.code.as_ref())
}

pub(crate) fn stopped(by: &impl std::fmt::Display) -> Problem {
    let hint = "set the mode back to normal there, and restart the daemon";
    Problem::new("stopped", format!("the daemon is stopped by {by}"), hint)
}

pub(crate) fn already_enabled() -> Problem {
    let hint = "`livepatch disable` first, if it shall join another fleet";
    Problem::new("already-enabled", "this host is enrolled already", hint)
}

pub(crate) fn no_server() -> Problem {
    let hint = "set server = \"https://…\" in the configuration and restart the daemon";
    Problem::new("no-server", "no server is configured", hint)
}

pub(crate) fn mirror_behind(url: &str) -> Problem {
    let message = format!("the mirror {url} has nothing for this kernel");
    Problem::new("server-unexpected-answer", message, "bring the mirror up to date")
}

pub(crate) fn not_enabled() -> Problem {
    Problem::new("not-enabled", "this host is not enrolled", "`livepatch enable --token-file FILE` enrols it")
}

fn explained(error: &livepatch_kernel::KernelError) -> Problem {
    Problem::new(error.code(), error, error.hint())
}

/// The livepatch of ours that runs or is being enabled; of two, of which one takes the other's place, the new one.
pub(crate) fn running(view: &View, livepatches: &[Livepatch]) -> Option<PatchVersion> {
    let ours = livepatches.iter().filter(|patch| patch.enabled && view.loaded.contains(&patch.name));
    PatchVersion::of_module(&ours.max_by_key(|patch| patch.in_transition)?.name)
}

/// Why the kernel does not run what it should, when the loader only knows that metadata or a proof is missing: what was
/// wrong with it.
fn with_cause(converged: Result<(), Problem>, checked: Option<&Result<(), Problem>>) -> Result<(), Problem> {
    match (converged, checked) {
        (Err(missing), Some(Err(cause)))
            if missing.code == "vendor-behind"
                || (missing.code == "log-not-proven" && cause.code.starts_with("log-")) =>
        {
            Err(cause.clone())
        }
        (converged, _) => converged,
    }
}
