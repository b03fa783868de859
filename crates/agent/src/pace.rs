//! When the daemon asks next. Pure: times are since the boot, suspended ones included, and chance is a parameter.

use std::time::Duration;

use livepatch_manifest::sha256;

use crate::Problem;
use crate::mirrors::is_the_servers_fault;

const FIRST_RETRY: Duration = Duration::from_secs(15);
const SHORTEST_HINT: Duration = Duration::from_secs(60);

/// What a round came to, as far as the next one is timed by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// The server failed, or the way to it: it is asked again sooner.
    pub failed: bool,
    /// When the server wants to be asked again at the earliest.
    pub retry_after: Option<Duration>,
}

impl Pace {
    /// By the result of the check itself, whatever else is wrong with this host, and by that of a download.
    pub(crate) fn of(checked: Option<&Result<(), Problem>>, converged: &Result<(), Problem>) -> Self {
        let checked = checked.and_then(|checked| checked.as_ref().err()).filter(|p| is_the_servers_fault(p));
        // What is wrong with a module is so until the operator changes it, and a module is large.
        let fetched = converged.as_ref().err().filter(|problem| problem.code.starts_with("server-"));
        let retry_after = checked.into_iter().chain(fetched).filter_map(|problem| problem.retry_after).max();
        Self { failed: checked.or(fetched).is_some(), retry_after }
    }
}

/// How long to wait: the interval (or the operator's shorter hint), after failures 15 s doubling up to it; up to a
/// tenth more by `chance` (0 to 255), so that a fleet does not ask in step. Never earlier than the server wants.
pub(crate) fn next_delay(
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
pub(crate) fn chance(machine: &str, count: u64) -> u8 {
    sha256(format!("{machine} {count}").as_bytes()).as_bytes()[0]
}

/// When the daemon does something again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// When the next check is due.
    check: Duration,
    /// When a livepatch that waits for a time of the day may be applied.
    opens: Option<Duration>,
    pace: Pace,
    /// The server is not asked before.
    not_before: Duration,
    chance: u8,
}

impl Schedule {
    /// From now on: the next check is due after `delay`, and a livepatch waits so long for its time.
    pub(crate) fn new(
        now: Duration,
        delay: Duration,
        pace: Pace,
        waits: Option<Duration>,
        chance: u8,
    ) -> Self {
        let not_before = now + pace.retry_after.unwrap_or_default();
        let schedule = Self { check: now + delay, opens: None, pace, not_before, chance };
        Self { opens: schedule.opens(now, waits), ..schedule }
    }

    /// How long until something is due.
    pub(crate) fn left(&self, now: Duration) -> Duration {
        self.opens.map_or(self.check, |opens| opens.min(self.check)).saturating_sub(now)
    }

    /// When a window opens: soon, not in step with the fleet, and not before the server wants.
    fn opens(&self, now: Duration, waits: Option<Duration>) -> Option<Duration> {
        let soon = Duration::from_secs(1 + u64::from(self.chance));
        waits.filter(|_| self.pace.retry_after.is_none()).map(|waits| now + waits + soon)
    }

    /// The same after a command; `pace` is what its check said, and `waits` how long the livepatch waits for its time now.
    ///
    /// A check that failed is repeated as after a first failure. One that succeeded takes nothing from the timer's.
    pub(crate) fn after_command(self, now: Duration, pace: Option<Pace>, waits: Option<Duration>) -> Self {
        let Some(pace) = pace else { return Self { opens: self.opens(now, waits), ..self } };
        let not_before = now + pace.retry_after.unwrap_or_default();
        let retry = now + next_delay(FIRST_RETRY, None, 1, pace.retry_after, self.chance);
        let check = if pace.failed { self.check.min(retry) } else { self.check }.max(not_before);
        let schedule = Self { check, pace, not_before, ..self };
        Self { opens: schedule.opens(now, waits), ..schedule }
    }

    /// The same after the clock was set or the host woke up; `waits` is how long the livepatch waits by the clock now.
    ///
    /// What waited for a time that has come is looked at soon. A check that failed may have failed by the clock, or for the
    /// want of a network that is there again: it is repeated as after a first failure. All else is due when it was: time
    /// since the boot is not set, and passes while a host sleeps.
    pub(crate) fn after_step(self, now: Duration, waits: Option<Duration>) -> Self {
        let waits = waits.or(self.opens.map(|_| Duration::ZERO));
        let retry = now + next_delay(FIRST_RETRY, None, 1, None, self.chance);
        let check = if self.pace.failed { self.check.min(retry.max(self.not_before)) } else { self.check };
        Self { check, opens: self.opens(now, waits), ..self }
    }
}

#[cfg(test)]
mod tests;
