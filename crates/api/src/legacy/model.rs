use jiff::Timestamp;
use livepatch_types::{CheckState, CveId, NoticeId, PatchState};

use super::Machine;
use crate::daemon::{CoverageState, Status};

/// The time of what never happened: year 1, the unset time of the language that the original is written in.
pub const UNSET: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// The word of a problem for a status that is not the daemon's answer, but what it left.
pub const DAEMON_UNREACHABLE: &str = "daemon-unreachable";

/// Whether the running kernel gets livepatches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The server knows it.
    Supported,
    /// This build gets no more, or needs a fix that no livepatch can have.
    KernelUpgradeRequired,
    /// No kernel of its series gets any more.
    KernelEndOfLife,
    /// The server does not know it, or this client cannot patch it.
    Unsupported,
    /// Nobody was asked yet.
    Unknown,
}

impl Support {
    /// The word of the original.
    pub fn word(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::KernelUpgradeRequired => "kernel-upgrade-required",
            Self::KernelEndOfLife => "kernel-end-of-life",
            Self::Unsupported => "unsupported",
            Self::Unknown => "unknown",
        }
    }

    /// By the axis of the status that says it, and not by what is wrong now: a server or a daemon that does not answer makes no
    /// kernel covered, and none uncovered.
    fn of(status: &Status) -> Self {
        match status.coverage.state {
            CoverageState::SeriesEnded => Self::KernelEndOfLife,
            CoverageState::Ended | CoverageState::UpgradeNeeded => Self::KernelUpgradeRequired,
            _ if status.upgrade_required() => Self::KernelUpgradeRequired,
            CoverageState::NotCovered => Self::Unsupported,
            CoverageState::Covered => Self::Supported,
            CoverageState::Unknown if cannot_be_patched(status) => Self::Unsupported,
            CoverageState::Unknown => Self::Unknown,
        }
    }
}

/// Whether livepatches do not exist for such a kernel, whatever a server says. In a status that the daemon left this has become a
/// note.
fn cannot_be_patched(status: &Status) -> bool {
    let codes = ["unsupported-kernel", "unsupported-architecture"];
    let said = status.problem.iter().chain(&status.notes);
    said.into_iter().any(|failure| codes.contains(&failure.code.as_str()))
}

/// A CVE and whether the running kernel has its fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// The CVE.
    pub cve: CveId,
    /// What the fix is called.
    pub title: String,
    /// Whether it is fixed now.
    pub patched: bool,
}

/// A livepatch that the settings of this host keep back for good or for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// Its notice.
    pub notice: NoticeId,
    /// When it was released.
    pub released: Timestamp,
    /// What it fixes and what is open now.
    pub cves: Vec<CveId>,
    /// The setting that keeps it back.
    pub option: &'static str,
}

impl Excluded {
    fn of(status: &Status) -> Option<Self> {
        let waiting = status.patch.waiting.as_ref()?;
        let option = match waiting.code.as_str() {
            "after-cutoff" => "cutoff-date",
            "patch-delay" => "patch-delay",
            "patch-spread" => "patch-spread",
            "held-cve" => "held-cves",
            "held-notice" => "held-notices",
            _ => return None,
        };
        let (notice, released) = (waiting.notice?, waiting.released?);
        Some(Self { notice, released, cves: waiting.open_cves.clone(), option })
    }
}

/// What all three forms are made of. There is one kernel in it, the running one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyStatus {
    /// Version of this client.
    pub client_version: String,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
    /// Debian's name; empty when the kernel is not recognised.
    pub architecture: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// When the last check ended, or [`UNSET`].
    pub last_check: Timestamp,
    /// When the kernel was booted, or [`UNSET`].
    pub boot_time: Timestamp,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// The running kernel by the name that it has for Ubuntu's programs.
    pub kernel: String,
    /// How the last check ended.
    pub check: CheckState,
    /// The state of the livepatch.
    pub patch: PatchState,
    /// Its version; empty for none.
    pub version: String,
    /// What it fixes.
    pub fixes: Vec<Fix>,
    /// Whether the kernel gets livepatches.
    pub support: Support,
    /// The last day on which the kernel gets livepatches, as `2027-03-19`; empty: none is known.
    pub upgrade_required_date: String,
    /// What the settings of this host keep back.
    pub excluded: Option<Excluded>,
    /// The cutoff date that is set.
    pub cutoff: Option<Timestamp>,
    /// The tier; empty for none.
    pub tier: String,
    /// Packages of the installed kernels.
    pub installed_kernels: Vec<String>,
}

impl LegacyStatus {
    /// The status of an enrolled host; none for a host that is not, which has no status in the original.
    pub fn new(status: &Status, machine: &Machine) -> Option<Self> {
        if !status.enabled {
            return None;
        }
        let left_behind = status.problem.as_ref().is_some_and(|problem| problem.code == DAEMON_UNREACHABLE);
        let fixes = status.patch.cves.iter().map(|cve| Fix {
            cve: cve.id,
            title: cve.title.clone(),
            patched: cve.patched,
        });
        Some(Self {
            client_version: status.client_version.clone(),
            machine_id: machine.machine_id.clone(),
            architecture: status.kernel.as_ref().map(|k| k.architecture.to_string()).unwrap_or_default(),
            cpu_model: machine.cpu_model.clone(),
            last_check: status.check.at.unwrap_or(UNSET),
            boot_time: machine.boot_time.unwrap_or(UNSET),
            uptime_seconds: machine.uptime_seconds,
            kernel: machine.kernel.clone(),
            // Nobody checks while the daemon does not answer.
            check: if left_behind { CheckState::CheckFailed } else { status.check.state },
            patch: status.patch.state,
            version: status.patch.version.map(|version| version.to_string()).unwrap_or_default(),
            fixes: fixes.collect(),
            support: Support::of(status),
            upgrade_required_date: status
                .coverage
                .last_day()
                .map(|date| date.to_string())
                .unwrap_or_default(),
            excluded: Excluded::of(status),
            cutoff: status.patch.cutoff_date,
            tier: status.tier.as_ref().map(ToString::to_string).unwrap_or_default(),
            installed_kernels: machine.installed_kernels.clone(),
        })
    }
}

/// The word of the original; ours is the same.
pub(super) fn check_word(check: CheckState) -> &'static str {
    match check {
        CheckState::NeedsCheck => "needs-check",
        CheckState::Checked => "checked",
        CheckState::CheckFailed => "check-failed",
    }
}

/// The word of the original; ours is the same.
pub(super) fn patch_word(patch: PatchState) -> &'static str {
    match patch {
        PatchState::Unapplied => "unapplied",
        PatchState::Applying => "applying",
        PatchState::Applied => "applied",
        PatchState::AppliedWithBug => "applied-with-bug",
        PatchState::ApplyFailed => "apply-failed",
        PatchState::NothingToApply => "nothing-to-apply",
        PatchState::KernelUpgradeRequired => "kernel-upgrade-required",
        PatchState::Unknown => "unknown",
    }
}

/// RFC 3339 in UTC, to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
