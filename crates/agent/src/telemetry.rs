//! Telling the server how this host is: what changed, and each point in the life of a livepatch. Reports wait on the disk
//! for the next contact; what is told is in docs/telemetry.md, and `livepatch explain --telemetry` shows it.

mod file;
mod queue;
mod report;

use std::sync::Arc;
use std::time::Duration;

use livepatch_api::daemon::{Telemetry, TelemetryReport, TelemetryStanding};
use livepatch_api::legacy::Machine;
use livepatch_api::server::{Report, ReportPhase, ReportedMachine};
use livepatch_kernel::machine_texts;
use livepatch_loader_api::{AgentRequest, Passed, Point, View};
use livepatch_manifest::Target;
use livepatch_settings::TelemetrySwitch;
use livepatch_types::{CheckState, Sha256Digest};

use crate::agent::no_contact;
use crate::server::Delivery;
use crate::state::Enrolment;
use crate::{Agent, Problem};

pub(crate) use file::QueueFile;
use queue::Queue;

/// How long the kernel waits for the server to hear that a livepatch is applied next.
const ANNOUNCE_BOUND: Duration = Duration::from_secs(5);
/// How often the loader is looked at while it applies.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// When a host that applied a livepatch says how it is.
const HEALTH: [(u64, ReportPhase); 3] = [
    (60, ReportPhase::AfterOneMinute),
    (5 * 60, ReportPhase::AfterFiveMinutes),
    (15 * 60, ReportPhase::AfterFifteenMinutes),
];

impl Agent {
    fn tells(&self) -> bool {
        self.config().telemetry == TelemetrySwitch::On && self.is_enabled()
    }

    fn boot_id(&self) -> String {
        self.kernel().boot_id().unwrap_or_default()
    }

    /// The report on how things are now.
    fn report_now(&self) -> Option<Report> {
        let (status, now) = (self.status(), self.now());
        let machine = Machine::parse(&machine_texts());
        let uptime = self.kernel().since_boot().unwrap_or_default();
        let machine = ReportedMachine {
            cpu_model: machine.cpu_model,
            boot_time: machine.boot_time,
            uptime_seconds: uptime.as_secs(),
            last_check: status.check.at,
        };
        report::report(status, machine, now)
    }

    /// Whether there is anything to tell: that a daemon has started is no news; what it found comes with its first check.
    fn has_news(&self, report: &Report) -> bool {
        report.check_state != CheckState::NeedsCheck || self.has_attempted()
    }

    fn queue(&self, report: &Report, id: Sha256Digest, phase: ReportPhase, detail: Vec<String>) {
        if !self.has_news(report) {
            return;
        }
        let state = report::content(report, &self.boot_id());
        self.reports().update(|queue| {
            if queue.push(id, |dropped| report::body(report, id, phase, dropped, detail)) {
                queue.set_state(state);
            }
        });
    }

    /// Queues the state of this host, when it is another than what was told last.
    pub(crate) fn tell_state(&self) {
        let Some(report) = self.report_now().filter(|_| self.tells()) else { return };
        let state = report::content(&report, &self.boot_id());
        if self.reports().look(|queue| queue.is_state(&state)) {
            return;
        }
        let (id, phase, detail) = self.state_event();
        self.queue(&report, id, phase, detail);
    }

    /// By what the state is told if it is told next.
    fn state_event(&self) -> (Sha256Digest, ReportPhase, Vec<String>) {
        let changes = self.reports().look(Queue::changes);
        let (view, failed) = self.view_and_failure();
        let phase = if failed { ReportPhase::Failed } else { ReportPhase::Changed };
        let detail = report::detail(self.status().problem.as_ref(), &view);
        (report::id(self.machine(), &self.boot_id(), &format!("state {changes}")), phase, detail)
    }

    /// Queues the points of applications that the loader passed and that were not told yet.
    pub(crate) fn tell_passed(&self, view: &View) {
        if !self.tells() || view.passed.is_empty() {
            return;
        }
        let (boot_id, mut now) = (self.boot_id(), None);
        for passed in &view.passed {
            let id = self.point_id(&boot_id, passed);
            if self.reports().look(|queue| queue.is_told(&id)) {
                continue;
            }
            let Some(report) = now.get_or_insert_with(|| self.report_now()).clone() else { return };
            let phase = report::phase_of(passed.point);
            self.queue(&report::of_point(report, passed), id, phase, Vec::new());
            if passed.point == Point::InForce {
                self.wake_timer();
            }
        }
    }

    fn point_id(&self, boot_id: &str, passed: &Passed) -> Sha256Digest {
        let Passed { point, version, application, since_boot_milliseconds, .. } = passed;
        let phase = report::phase_of(*point).word();
        let event = match point {
            // A livepatch that the kernel refuses again and again is announced once.
            Point::BeforeInsert => format!("{phase} {version}"),
            _ => format!("{phase} {version} {application} {since_boot_milliseconds}"),
        };
        report::id(self.machine(), boot_id, &event)
    }

    /// Tells that a livepatch is handed over next, and gives the server a while to hear it: a host that dies with it cannot
    /// say so later.
    pub(crate) async fn announce(self: &Arc<Self>, target: &Target, enrolment: &Enrolment) {
        let Some(report) = self.report_now().filter(|_| self.tells()) else { return };
        let passed = Passed {
            point: Point::BeforeInsert,
            version: target.version,
            application: 0,
            at: self.now(),
            since_boot_milliseconds: report
                .machine
                .as_ref()
                .map_or(0, |machine| machine.uptime_seconds * 1000),
        };
        let id = self.point_id(&self.boot_id(), &passed);
        self.queue(&report::of_point(report, &passed), id, ReportPhase::BeforeInsert, Vec::new());
        // It stays queued when there is no time for it.
        let _ = tokio::time::timeout(ANNOUNCE_BOUND, self.deliver(enrolment)).await;
    }

    /// Has the loader act, and meanwhile tells how far it is.
    pub(crate) async fn ask_and_tell(
        self: &Arc<Self>,
        request: AgentRequest,
        body: Vec<u8>,
        enrolment: &Enrolment,
    ) -> Result<View, Problem> {
        let mut acting = std::pin::pin!(self.ask(request, body));
        loop {
            if let Ok(acted) = tokio::time::timeout(LOOK_INTERVAL, &mut acting).await {
                return acted;
            }
            // Also where nothing is told: the status shows the stage.
            if self.ask(AgentRequest::Status, Vec::new()).await.is_ok() && self.tells() {
                self.deliver_soon(enrolment);
            }
        }
    }

    /// How long until this host says how it is after an application.
    pub fn next_health(&self) -> Option<Duration> {
        let since_boot = self.kernel().since_boot().unwrap_or_default();
        let next = self.untold_health().into_iter().map(|(due, ..)| due).min()?;
        Some(next.saturating_sub(since_boot))
    }

    /// What is still to be said of the last application: since the boot, phase and id.
    fn untold_health(&self) -> Vec<(Duration, ReportPhase, Sha256Digest)> {
        if !self.tells() {
            return Vec::new();
        }
        let (view, _) = self.view_and_failure();
        let Some(applied) = view.passed.iter().rfind(|passed| passed.point == Point::InForce) else {
            return Vec::new();
        };
        let boot_id = self.boot_id();
        let began = Duration::from_millis(applied.since_boot_milliseconds);
        let all = HEALTH.iter().map(|(seconds, phase)| {
            let Passed { version, application, since_boot_milliseconds, .. } = applied;
            let event = format!("{} {version} {application} {since_boot_milliseconds}", phase.word());
            let id = report::id(self.machine(), &boot_id, &event);
            (began + Duration::from_secs(*seconds), *phase, id)
        });
        self.reports().look(|queue| all.filter(|(.., id)| !queue.is_told(id)).collect())
    }

    /// Says how this host is now that a while has passed since an application. What was missed is not made up for.
    pub async fn tell_health(self: &Arc<Self>) {
        let since_boot = self.kernel().since_boot().unwrap_or_default();
        let due: Vec<_> = self.untold_health().into_iter().filter(|(due, ..)| *due <= since_boot).collect();
        let Some(((_, phase, id), missed)) = due.split_last() else { return };
        self.reports().update(|queue| missed.iter().for_each(|(.., id)| queue.skip(*id)));
        // How the loader sees it, if it answers; the kernel is read in any case.
        let _ = self.ask(AgentRequest::Status, Vec::new()).await;
        match self.report_now().filter(|report| self.has_news(report)) {
            Some(report) => {
                let detail = report::detail(self.status().problem.as_ref(), &self.view_and_failure().0);
                self.queue(&report, *id, *phase, detail);
            }
            None => self.reports().update(|queue| queue.skip(*id)),
        }
        if let Some(enrolment) = self.enrolment() {
            self.deliver_soon(&enrolment);
        }
    }

    /// Delivers what waits, in the background, if the server could be reached last.
    pub(crate) fn deliver_soon(self: &Arc<Self>, enrolment: &Enrolment) {
        if !self.had_contact() || self.reports().look(|queue| queue.first().is_none()) {
            return;
        }
        let (agent, enrolment) = (Arc::clone(self), enrolment.clone());
        tokio::spawn(async move { agent.deliver(&enrolment).await });
    }

    /// Delivers what waits, one after the other, until something goes wrong.
    async fn deliver(&self, enrolment: &Enrolment) {
        let Ok(client) = self.server() else { return };
        let _delivering = self.delivering().lock().await;
        while let Some(first) = self.reports().look(|queue| queue.first().cloned()).filter(|_| self.tells()) {
            match client.report(&enrolment.server, &enrolment.machine_token, first.body).await {
                Ok(Delivery::Taken) => self.reports().update(|queue| queue.delivered(&first.id)),
                Ok(Delivery::Refused) => {
                    tracing::warn!("the server refuses a report as none; it is dropped");
                    self.reports().update(|queue| queue.refused(&first.id));
                }
                Err(problem) => {
                    tracing::debug!(code = %problem.code, "reports wait: {problem}");
                    if !no_contact(&problem) {
                        self.note_reports(Some(problem));
                    }
                    return;
                }
            }
            self.note_reports(None);
        }
    }

    /// What was sent last, what waits, and what would be sent if the state were another: byte for byte.
    pub fn telemetry(&self) -> Telemetry {
        let (queue, status) = (self.reports().look(Queue::clone), self.status());
        let on = self.config().telemetry == TelemetrySwitch::On;
        let shown = |standing| move |body: &String| TelemetryReport { standing, body: body.clone() };
        let mut reports = Vec::new();
        if on {
            reports.extend(queue.sent().map(|sent| &sent.body).map(shown(TelemetryStanding::Sent)));
            reports
                .extend(queue.waiting().map(|waiting| &waiting.body).map(shown(TelemetryStanding::Waiting)));
            reports.extend(self.report_now().map(|report| {
                let (id, phase, detail) = self.state_event();
                let body = report::body(&report, id, phase, queue.dropped(), detail);
                TelemetryReport { standing: TelemetryStanding::Next, body }
            }));
        }
        let tier = status.tier.as_ref();
        let polled = status.kernel.as_ref().zip(status.server.as_ref()).zip(tier);
        Telemetry {
            schema: 1,
            on,
            poll: polled
                .map(|((kernel, server), tier)| format!("{server}/v1/kernels/{tier}/{}", kernel.build_id)),
            report_to: status.server.filter(|_| on).map(|server| format!("{server}/v1/reports")),
            dropped: queue.dropped(),
            reports,
        }
    }
}
