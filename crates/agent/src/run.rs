//! The daemon's life: sockets, start, timer, end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::Agent;
use crate::clock_steps::ClockSteps;
use crate::pace::{Schedule, chance, next_delay};
use crate::service_manager::ServiceManager;
use crate::sockets::{self, PRIVILEGED_SOCKET, READ_SOCKET};

/// How long the daemon waits at least for what it says after an application.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// How long the start may keep systemd waiting.
const LONGEST_START: Duration = Duration::from_secs(15);

/// Serves until SIGTERM or SIGINT. What is applied stays applied: it is the kernel's.
pub async fn run(agent: Arc<Agent>, runtime_directory: &Path) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    std::fs::create_dir_all(runtime_directory)
        .with_context(|| format!("cannot make {}", runtime_directory.display()))?;
    let bind = |name: &str, mode| {
        let path = runtime_directory.join(name);
        sockets::bind(&path, mode).with_context(|| format!("cannot listen on {}", path.display()))
    };
    let (reading, privileged) = (bind(READ_SOCKET, 0o666)?, bind(PRIVILEGED_SOCKET, 0o600)?);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the daemon listens");
    let service_manager = ServiceManager::from_environment();

    let ended = tokio::select! {
        ended = sockets::serve_reading(Arc::clone(&agent), reading) => ended.context("the status socket broke"),
        ended = sockets::serve_privileged(Arc::clone(&agent), privileged) => ended.context("the root socket broke"),
        () = rounds(&agent, &service_manager) => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    service_manager.stopping();
    tracing::info!("the daemon ends; what is applied stays applied");
    ended
}

/// The start, then a round per interval, for ever. Failures are noted by the agent itself.
///
/// The daemon is ready when the start is over, so that who waits for it finds a status. A loader that is busy holds
/// nobody up for long.
async fn rounds(agent: &Arc<Agent>, service_manager: &ServiceManager) {
    if agent.is_stopped() {
        tracing::warn!(by = %agent.config().policy.mode_source, "the daemon is stopped and does nothing by itself");
        if let Err(problem) = agent.look().await {
            tracing::debug!(code = %problem.code, "the loader was not looked at: {problem}");
            agent.write_status();
        }
        service_manager.ready();
        service_manager.waiting(&agent.status(), None, None);
        return std::future::pending().await;
    }
    let mut start = std::pin::pin!(agent.start());
    let in_time = tokio::time::timeout(LONGEST_START, &mut start).await;
    service_manager.ready();
    if in_time.is_err() {
        let _ = start.await;
    }
    let steps = ClockSteps::new();
    let mut failures = 0;
    for count in 0u64.. {
        let Some(interval) = agent.config().check_interval else {
            rest(agent, service_manager, None, &steps).await;
            return;
        };
        service_manager.working();
        let pace = agent.timer_round().await;
        failures = if pace.failed { failures + 1 } else { 0 };
        let hint = agent.poll_hint_seconds().map(|seconds| Duration::from_secs(seconds.into()));
        let chance = chance(agent.machine(), count);
        let delay = next_delay(interval, hint, failures, pace.retry_after, chance);
        let schedule = Schedule::new(agent.since_boot(), delay, pace, agent.waits_for(), chance);
        tracing::debug!(seconds = delay.as_secs(), failures, "waiting for the next check");
        if rest(agent, service_manager, Some(schedule), &steps).await == Rested::OverAStep {
            failures = 0;
        }
    }
}

/// What happened while the daemon waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rested {
    /// Time passed.
    Quietly,
    /// The clock was set, or the host slept.
    OverAStep,
}

/// Waits until something is due, or for ever, but for what is said a while after an application.
async fn rest(
    agent: &Arc<Agent>,
    service_manager: &ServiceManager,
    mut schedule: Option<Schedule>,
    steps: &ClockSteps,
) -> Rested {
    let mut rested = Rested::Quietly;
    loop {
        let left = schedule.map(|schedule| schedule.left(agent.since_boot()));
        let health = agent.next_health().filter(|health| left.is_none_or(|left| *health < left));
        // Whatever is wrong with what is due, this does not spin.
        let wait = health.map(|health| health.max(SHORTEST_REST)).or(left);
        service_manager.waiting(&agent.status(), left, wait);
        let waited = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = waited => match health {
                Some(_) => agent.tell_health().await,
                None => return rested,
            },
            pace = agent.news() => {
                schedule = schedule.map(|before| before.after_command(agent.since_boot(), pace, agent.waits_for()));
            }
            () = steps.next() => {
                tracing::info!("the clock was set, or the host slept: what waits is looked at again");
                rested = Rested::OverAStep;
                schedule = schedule.map(|before| before.after_step(agent.since_boot(), agent.waits_for()));
                // Ages and windows are by the clock.
                agent.write_status();
            }
        }
    }
}
