//! What a status comes to: one rule for monitoring and for the message at login. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use livepatch_api::daemon::{NEWER_KERNEL_INSTALLED, Reachability, Status};
use livepatch_api::legacy::DAEMON_UNREACHABLE;
use livepatch_types::{CheckState, PatchState, plural};

use crate::status::takes_part;
use crate::text::plain;

/// How bad it is; the numbers are exit codes of monitoring plugins
/// (<https://www.monitoring-plugins.org/doc/guidelines.html>, "Plugin Return Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Ok = 0,
    /// Somebody should look at it.
    Warning = 1,
    /// Somebody must do something.
    Critical = 2,
    /// Nothing is known.
    Unknown = 3,
}

impl Level {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// How old the last check that succeeded may be.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    /// From here on it is a warning.
    pub warning: Duration,
    /// From here on it is critical.
    pub critical: Duration,
}

impl Default for Ages {
    /// A day, and three: servers are asked every hour.
    fn default() -> Self {
        Self { warning: Duration::from_secs(86_400), critical: Duration::from_secs(3 * 86_400) }
    }
}

/// A level with its reasons, the worst first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The worst of all.
    pub level: Level,
    /// Why, one line each; at level ok, what is well.
    pub reasons: Vec<String>,
}

/// What a status comes to at a time.
pub fn verdict(status: &Status, ages: Ages, now: Timestamp) -> Verdict {
    // In a container there is nothing to enrol, and what is seen there is its host's.
    let elsewhere = status
        .problem
        .as_ref()
        .filter(|problem| !status.enabled && ["container", "wsl"].contains(&problem.code.as_str()));
    if elsewhere.is_some() || !takes_part(status) {
        let reason = elsewhere.map_or_else(|| "this host is not enrolled".into(), |p| plain(&p.message));
        return Verdict { level: Level::Unknown, reasons: vec![reason] };
    }
    let mut found: Vec<(Level, String)> = [
        patch(status),
        held_by_settings(status),
        reboot(status),
        cover(status, now),
        open_cves(status),
        problem(status),
        age(status, ages, now),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    match found.first() {
        Some((level, _)) => {
            Verdict { level: *level, reasons: found.into_iter().map(|(_, why)| why).collect() }
        }
        None => Verdict { level: Level::Ok, reasons: vec![well(status)] },
    }
}

fn well(status: &Status) -> String {
    let well = match status.patch.version {
        Some(version) => format!("livepatch {version} is applied"),
        None => "no livepatch is needed for this kernel".into(),
    };
    // What comes by itself at its time is nothing to look at while another one is in force.
    let well = match &status.patch.waiting {
        Some(waiting) => format!("{well}; {}", plain(&waiting.message)),
        None => well,
    };
    with_pending(status, well)
}

fn patch(status: &Status) -> Option<(Level, String)> {
    let version = status.patch.version.map(|version| format!(" {version}")).unwrap_or_default();
    let (level, state) = match status.patch.state {
        PatchState::Applied | PatchState::NothingToApply => return None,
        PatchState::KernelUpgradeRequired if status.reboot.is_some() => return None,
        PatchState::KernelUpgradeRequired => {
            return Some((
                Level::Critical,
                "this kernel gets no livepatches any more: boot a newer one".into(),
            ));
        }
        PatchState::Unapplied if status.patch.held => {
            (Level::Warning, "is held back since it was reverted here")
        }
        // Its owner wants it so; how long it is so is said.
        PatchState::Unapplied if status.patch.waiting.is_some() => {
            let waiting = status.patch.waiting.as_ref()?;
            return Some((Level::Warning, plain(&waiting.message)));
        }
        PatchState::Unapplied => (Level::Warning, "is not applied"),
        PatchState::Applying => (Level::Warning, "is being applied"),
        PatchState::AppliedWithBug => (Level::Critical, "is applied, but the kernel complained afterwards"),
        PatchState::ApplyFailed => (Level::Critical, "could not be applied"),
        PatchState::Unknown => {
            return Some((Level::Warning, "whether a livepatch is applied is not known yet".into()));
        }
    };
    Some((level, format!("livepatch{version} {state}")))
}

/// A newer livepatch that does not come until somebody changes the settings: its owner wants it so, and may have forgotten it.
/// Where none is in force, it was said already.
fn held_by_settings(status: &Status) -> Option<(Level, String)> {
    let waiting = status.patch.waiting.as_ref()?;
    let is_held = waiting.until.is_none() && status.patch.state != PatchState::Unapplied;
    is_held.then(|| (Level::Warning, plain(&waiting.message)))
}

/// A newer kernel that is only installed is no reason for haste: that is what livepatches are for.
fn reboot(status: &Status) -> Option<(Level, String)> {
    let reboot = status.reboot.as_ref().filter(|reboot| reboot.code != NEWER_KERNEL_INSTALLED)?;
    let what = match &reboot.kernel {
        // Whether it is covered, or has the fix, is not known here.
        Some(kernel) if reboot.cve.is_some() => {
            format!("reboot into {kernel}, which is installed and may have the fix")
        }
        Some(kernel) => format!("reboot into {kernel}, which is installed and may be covered"),
        None => "install a newer kernel, and reboot".into(),
    };
    Some((Level::Critical, format!("{}; {what}", plain(&reboot.message))))
}

/// What ends soon: time enough to choose another kernel.
fn cover(status: &Status, now: Timestamp) -> Option<(Level, String)> {
    let (end, on) = status.coverage.ends_soon(now.to_zoned_datetime(TimeZone::UTC).date())?;
    Some((Level::Warning, end.message(on)))
}

fn open_cves(status: &Status) -> Option<(Level, String)> {
    let applied = status.patch.state == PatchState::Applied;
    let open = status.patch.cves.iter().filter(|cve| applied && !cve.patched).count();
    (open > 0)
        .then(|| (Level::Warning, format!("{} not wholly fixed by it", plural(open, "CVE is", "CVEs are"))))
}

fn problem(status: &Status) -> Option<(Level, String)> {
    let problem = status.problem.as_ref()?;
    // Where the state says it already, its problem is the reason for it.
    let level = match status.patch.state {
        PatchState::ApplyFailed if problem.code != DAEMON_UNREACHABLE => Level::Critical,
        _ => Level::Warning,
    };
    Some((level, plain(&problem.message)))
}

fn age(status: &Status, ages: Ages, now: Timestamp) -> Option<(Level, String)> {
    // A host that has a bundle and no server asks nobody.
    if !status.enabled {
        return None;
    }
    let Some(at) = status.check.at else {
        // As bad as if this host had reached its server last when it was enrolled.
        let enrolled = status.enabled_at.map(|at| age_seconds(at, now));
        if let Some(age) = enrolled.filter(|age| Duration::from_secs(*age) >= ages.critical) {
            let why = format!("no check has succeeded since this host was enrolled, {} ago", hours(age));
            return Some((Level::Critical, with_pending(status, why)));
        }
        let none = match status.check.state {
            CheckState::NeedsCheck if is_pending(status) => PENDING,
            CheckState::NeedsCheck => "the server was not asked since the daemon started",
            CheckState::Checked | CheckState::CheckFailed => "no check has succeeded yet",
        };
        return Some((Level::Warning, none.into()));
    };
    let age = age_seconds(at, now);
    let level = match Duration::from_secs(age) {
        age if age >= ages.critical => Level::Critical,
        age if age >= ages.warning => Level::Warning,
        _ => return None,
    };
    let why = format!("the last check that succeeded was {} ago", hours(age));
    Some((level, with_pending(status, why)))
}

fn with_pending(status: &Status, why: String) -> String {
    if is_pending(status) { format!("{why}; {PENDING}") } else { why }
}

fn hours(seconds: u64) -> String {
    plural(usize::try_from(seconds / 3600).unwrap_or(usize::MAX), "hour", "hours")
}

const PENDING: &str = "the check is pending: the network is not up";

/// Whether nobody could be asked because this host has no network (yet): no failure, while what is known is young enough.
fn is_pending(status: &Status) -> bool {
    status.check.reachability == Reachability::Pending
}

/// Seconds since a check; none are left of a check that is still to come, because clocks are set back.
pub(crate) fn age_seconds(at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.as_second() - at.as_second()).unwrap_or_default()
}

/// The line of a monitoring plugin, with the figures that it may draw.
pub fn plugin_line(status: &Status, verdict: &Verdict, ages: Ages, now: Timestamp) -> String {
    let fixed = status.patch.cves.iter().filter(|cve| cve.patched).count();
    let age = status.check.at.map(|at| {
        format!(" age={}s;{};{}", age_seconds(at, now), ages.warning.as_secs(), ages.critical.as_secs())
    });
    let figures =
        format!("fixed={fixed} open={}{}", status.patch.cves.len() - fixed, age.unwrap_or_default());
    // A bar would begin the figures.
    let reasons = verdict.reasons.join("; ").replace('|', "/");
    format!("LIVEPATCH {} - {reasons} | {figures}\n", verdict.level.word())
}

/// The same where nothing is known, and why.
pub(crate) fn unknown_line(why: &str) -> String {
    format!("LIVEPATCH UNKNOWN - {}\n", plain(why).replace('|', "/"))
}

/// What is said at login: nothing when all is well, or nothing is known.
pub fn motd(verdict: &Verdict) -> String {
    if matches!(verdict.level, Level::Ok | Level::Unknown) {
        return String::new();
    }
    let mut text = String::from("\n");
    for reason in &verdict.reasons {
        text.push_str(&format!("livepatch: {reason}\n"));
    }
    text + "livepatch: `livepatch status` shows more\n"
}
