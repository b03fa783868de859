//! The daemon's life: sockets, start, timer, end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use livepatch_manifest::sha256;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::Agent;
use crate::service_manager::ServiceManager;
use crate::sockets::{self, PRIVILEGED_SOCKET, READ_SOCKET};

const FIRST_RETRY: Duration = Duration::from_secs(15);
/// How long the start may keep systemd waiting.
const LONGEST_START: Duration = Duration::from_secs(15);
const SHORTEST_HINT: Duration = Duration::from_secs(60);

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
    let mut failures = 0;
    for count in 0u64.. {
        let Some(interval) = agent.config().check_interval else {
            return rest(agent, service_manager, None).await;
        };
        service_manager.working();
        let round = agent.round(agent.timer_reach()).await;
        let wait = round.as_ref().err().and_then(|problem| problem.retry_after);
        failures = match round {
            Err(problem) if problem.code == "server-unreachable" => failures + 1,
            _ => 0,
        };
        let hint = agent.poll_hint_seconds().map(|seconds| Duration::from_secs(seconds.into()));
        let chance = chance(agent.machine(), count);
        let delay = next_delay(interval, hint, failures, wait, chance);
        // When a window opens: soon, not in step with the fleet, and not before the server wants.
        let soon = |opens: Duration| opens + Duration::from_secs(1 + u64::from(chance));
        let opens = agent.waits_for().map(soon).filter(|_| wait.is_none());
        let delay = opens.map_or(delay, |opens| delay.min(opens));
        tracing::debug!(seconds = delay.as_secs(), failures, "waiting for the next check");
        rest(agent, service_manager, Some(delay)).await;
    }
}

/// Waits so long, or for ever, but for what is said a while after an application.
async fn rest(agent: &Arc<Agent>, service_manager: &ServiceManager, delay: Option<Duration>) {
    let until = delay.map(|delay| tokio::time::Instant::now() + delay);
    loop {
        let left = until.map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
        let health = agent.next_health().filter(|health| left.is_none_or(|left| *health < left));
        let wait = health.or(left);
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
                None => return,
            },
            () = agent.applied() => {}
        }
    }
}

/// How long to wait: the interval (or the operator's shorter hint), after failures 15 s doubling up to it; up to a
/// tenth more by `chance` (0 to 255), so that a fleet does not ask in step. Never earlier than the server wants.
fn next_delay(
    interval: Duration,
    hint: Option<Duration>,
    failures: u32,
    wait: Option<Duration>,
    chance: u8,
) -> Duration {
    let regular = hint.map_or(interval, |hint| interval.min(hint.max(SHORTEST_HINT)));
    let delay = match failures {
        0 => regular,
        failures => regular.min(FIRST_RETRY * 2u32.pow((failures - 1).min(16))),
    };
    let delay = delay.max(wait.unwrap_or_default());
    delay + delay / 10 * u32::from(chance) / 255
}

/// The same for one machine and count, different between machines.
fn chance(machine: &str, count: u64) -> u8 {
    sha256(format!("{machine} {count}").as_bytes()).as_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays() {
        let seconds = Duration::from_secs;
        assert_eq!(next_delay(seconds(3600), None, 1, Some(seconds(120)), 0), seconds(120));
        assert_eq!(next_delay(seconds(3600), None, 1, Some(seconds(7200)), 0), seconds(7200));
        assert_eq!(next_delay(seconds(3600), None, 1, Some(seconds(1)), 0), seconds(15));
        assert_eq!(next_delay(seconds(3600), None, 0, None, 0), seconds(3600));
        assert_eq!(next_delay(seconds(3600), None, 0, None, 255), seconds(3960));
        assert_eq!(next_delay(seconds(3600), Some(seconds(300)), 0, None, 0), seconds(300));
        assert_eq!(next_delay(seconds(3600), Some(seconds(1)), 0, None, 0), seconds(60));
        assert_eq!(
            next_delay(seconds(30), Some(seconds(300)), 0, None, 0),
            seconds(30),
            "a hint only shortens"
        );
        let retries: Vec<_> =
            (1..12).map(|n| next_delay(seconds(3600), None, n, None, 0).as_secs()).collect();
        assert_eq!(retries, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert_eq!(next_delay(seconds(3600), None, u32::MAX, None, 0), seconds(3600));
    }
}
