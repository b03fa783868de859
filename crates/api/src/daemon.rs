//! Local sockets of the daemon: HTTP over Unix sockets, JSON bodies.
//!
//! | socket | who | method and path | body → answer |
//! |---|---|---|---|
//! | `livepatchd.sock` | any user | `GET /status` | → [`Status`] |
//! | | | `GET /telemetry` | → [`Telemetry`] |
//! | | | `GET /metrics` | → [`crate::metrics`], text of Prometheus |
//! | `livepatchd-priv.sock` | uid 0 by `SO_PEERCRED` | `POST /enable` | [`EnableRequest`] → [`Status`] |
//! | | | `POST /disable`, `/refresh`, `/look`, `/prepare-image` | → [`Status`] |
//!
//! Programs that know the snap's socket ask with a query (`GET /status?verbose=…`, `?verbosity=3&format=json`) and get
//! [`crate::legacy`]'s forms. Root's socket of the snap (`PUT /enable?auth-token=…`, `/disable`) is the client's, not the daemon's.
//!
//! Failures are [`Failure`] with a 4xx or 5xx status. What root has the loader do (revert, clear, …) goes over the loader's
//! own socket.

use jiff::Timestamp;
use jiff::civil::Date;
use livepatch_types::{
    CheckState, Cohort, CveCoverage, CveId, KernelIdentity, NoticeId, PatchState, PatchVersion, Rating,
    Redacted, Stage, Tier,
};
use serde::{Deserialize, Serialize};

/// Enrol this host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableRequest {
    /// The enrolment token.
    pub token: Redacted<String>,
}

/// The state of this host: what `livepatch status --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this format: 1.
    pub schema: u32,
    /// Version of the client.
    pub client_version: String,
    /// Whether the host is enrolled.
    pub enabled: bool,
    /// When it was enrolled, by its own clock; none: it is not, or in a status of an earlier daemon.
    #[serde(default)]
    pub enabled_at: Option<Timestamp>,
    /// The tier it is in, when enrolled.
    pub tier: Option<Tier>,
    /// The cohort that the operator assigned it to; none: its place in a rollout is its own.
    #[serde(default)]
    pub cohort: Option<Cohort>,
    /// The server it asks.
    pub server: Option<String>,
    /// The running kernel; none when it cannot be recognised (then `error` says why).
    pub kernel: Option<KernelIdentity>,
    /// What the last check with the server came to.
    pub check: Check,
    /// Whether the running kernel gets livepatches.
    #[serde(default)]
    pub coverage: Coverage,
    /// The livepatch on this kernel.
    pub patch: Patch,
    /// Why a reboot into a newer kernel is needed, or would be of use; none: no reason is known.
    #[serde(default)]
    pub reboot: Option<Reboot>,
    /// What is wrong now and what to do about it; none when all is well.
    pub problem: Option<Failure>,
    /// What is to be known without anything being wrong with the livepatch: a module that the kernel keeps out because of it, part of what watches over the host that is missing.
    #[serde(default)]
    pub notes: Vec<Failure>,
}

impl Status {
    /// Whether this kernel gets no livepatches any more, or not the ones that it needs: a newer one must be booted.
    pub fn upgrade_required(&self) -> bool {
        let ended = |reboot: &Reboot| reboot.code != NEWER_KERNEL_INSTALLED;
        self.patch.state == PatchState::KernelUpgradeRequired || self.reboot.as_ref().is_some_and(ended)
    }
}

/// The one reason for a reboot that is none for haste.
pub const NEWER_KERNEL_INSTALLED: &str = "newer-kernel-installed";

/// Whether a kernel gets livepatches, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Whether it does.
    pub state: CoverageState,
    /// The last day, in UTC, on which this build does; none: no end is known.
    pub until: Option<Date>,
    /// The last day, in UTC, on which any kernel of its series does.
    pub series_until: Option<Date>,
    /// What to install to be covered, best first, by what the operator says of this system; empty while nothing needs to be
    /// installed, or nothing is known.
    #[serde(default)]
    pub install: Vec<CoveredKernel>,
}

/// A kernel that gets livepatches on this system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredKernel {
    /// The system, as people call it: `Debian 12`.
    pub system: String,
    /// The series, and what the distribution calls it: `6.1`, `stable`.
    pub series: String,
    /// The same.
    pub line: String,
    /// The package to install.
    pub package: String,
    /// The last day, in UTC, on which any kernel of the series gets livepatches; none: no end is known.
    pub until: Option<Date>,
}

impl Coverage {
    /// How many days before its end a cover is said to end soon: of a series, whose successor has to be chosen and tried, and
    /// of one build, for which the next one is there.
    pub const SOON_DAYS: (i32, i32) = (90, 30);

    /// What is over soon, on this day, while this kernel is covered: the end of the series goes before that of the build.
    pub fn ends_soon(&self, today: Date) -> Option<(CoverEnd, Date)> {
        let (series, build) = Self::SOON_DAYS;
        let soon = |last: Option<Date>, days: i32| {
            last.filter(|last| {
                self.state == CoverageState::Covered
                    && today.until(*last).is_ok_and(|left| left.get_days() <= days)
            })
        };
        let of_series = soon(self.series_until, series).map(|last| (CoverEnd::Series, last));
        of_series.or_else(|| soon(self.until, build).map(|last| (CoverEnd::Build, last)))
    }

    /// The last day of the cover, of this build or of its series, whichever comes first.
    pub fn last_day(&self) -> Option<Date> {
        self.until.into_iter().chain(self.series_until).min()
    }
}

/// What a day is the last one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoverEnd {
    /// Livepatches for this build.
    Build,
    /// Livepatches for any kernel of its series.
    Series,
}

impl CoverEnd {
    /// What is told of it, on one line: `on` is the last day.
    pub fn message(self, on: Date) -> String {
        match self {
            Self::Build => format!("livepatches for this kernel end on {on}"),
            Self::Series => format!("livepatches for this series of kernels end on {on}"),
        }
    }
}

/// Whether a kernel gets livepatches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoverageState {
    /// Nobody was asked yet.
    #[default]
    Unknown,
    /// It does.
    Covered,
    /// It does, and needs a fix that no livepatch can have.
    UpgradeNeeded,
    /// This build does not any more.
    Ended,
    /// No kernel of its series does any more.
    SeriesEnded,
    /// The server does not know it.
    NotCovered,
}

/// Why a reboot into a newer kernel is needed, or would be of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reboot {
    /// A word that stays the same, for programs: `unpatchable-cve`, `series-ended`, `window-ended`,
    /// `newer-kernel-installed`.
    pub code: String,
    /// One line in lower case.
    pub message: String,
    /// The CVE that no livepatch can fix.
    pub cve: Option<CveId>,
    /// The notice that says so.
    pub notice: Option<NoticeId>,
    /// A newer kernel of the same flavour that is installed: booting it may be enough; whether it has the fix is not known here.
    pub kernel: Option<String>,
}

/// The last check with the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// How it ended; `needs-check` while there was none since the daemon started, and while the network is not up.
    pub state: CheckState,
    /// When the last one that succeeded ended, by this host's clock, also before the daemon started: how old it is what is
    /// known of the server.
    pub at: Option<Timestamp>,
    /// When the last one ended, however it did; none: there was none since the daemon started.
    #[serde(default)]
    pub attempted_at: Option<Timestamp>,
    /// Whether anybody answered it.
    #[serde(default)]
    pub reachability: Reachability,
    /// Whether the daemon asks by itself; not so in the modes `no-refresh` and `stop`, and with `check-interval = "0s"`. True in a
    /// status of an earlier daemon.
    #[serde(default = "by_itself")]
    pub by_itself: bool,
    /// The mirror that answered in the server's place, because the server failed.
    #[serde(default)]
    pub mirror: Option<String>,
    /// Version of the last document that was believed.
    pub document_version: Option<u64>,
    /// Until when that document may install something new.
    pub document_expires: Option<Timestamp>,
}

fn by_itself() -> bool {
    true
}

/// Whether the server, or a mirror in its place, could be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reachability {
    /// Nobody was asked since the daemon started.
    #[default]
    Unknown,
    /// It answered, whatever it said.
    Reached,
    /// The network of this host is not up: it has no default route.
    Pending,
    /// It did not answer.
    Unreachable,
}

/// The livepatch on this kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Its state, as read back from the kernel.
    pub state: PatchState,
    /// Its version.
    pub version: Option<PatchVersion>,
    /// Where it is on its way into the kernel and out of it, as the loader said last; none: it said nothing, or in a status
    /// of an earlier daemon.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// When it was applied, by this host's clock.
    pub applied_at: Option<Timestamp>,
    /// Whether a person reverted it here; it is not applied again until `livepatch apply` or another version.
    pub held: bool,
    /// What the livepatch that is offered waits for, though nothing is wrong.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// The cutoff date that is set here: nothing that was released later is applied.
    #[serde(default)]
    pub cutoff_date: Option<Timestamp>,
    /// Where this host stands in the rollout of what is offered; none: nothing is offered.
    #[serde(default)]
    pub place: Option<RolloutPlace>,
    /// What it fixes.
    pub cves: Vec<Cve>,
}

/// Where a host stands in the rollout of one livepatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPlace {
    /// The livepatch.
    pub version: PatchVersion,
    /// In hundredths of a per cent: 0 to 9999. Lower goes first.
    pub hundredths: u16,
}

/// Why an offered livepatch is not applied now by the settings of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The livepatch that is offered.
    pub version: PatchVersion,
    /// A word that stays the same, for programs: `mode`, `after-cutoff`, `held-cve`, `held-notice`,
    /// `patch-delay`, `patch-spread`, `maintenance-window`.
    pub code: String,
    /// One line in lower case: what it waits for.
    pub message: String,
    /// When that is over by itself; none: when the settings change.
    pub until: Option<Timestamp>,
    /// The notice about the livepatch; none in a status of an earlier daemon.
    #[serde(default)]
    pub notice: Option<NoticeId>,
    /// When the livepatch was released to this host's tier; none in a status of an earlier daemon.
    #[serde(default)]
    pub released: Option<Timestamp>,
    /// The CVEs that it fixes and that are open now.
    #[serde(default)]
    pub open_cves: Vec<CveId>,
}

/// A CVE and whether it is fixed in the running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cve {
    /// The CVE.
    pub id: CveId,
    /// How bad it is.
    pub rating: Rating,
    /// Whether the livepatch holds its whole fix.
    pub coverage: CveCoverage,
    /// Whether it is fixed now: the livepatch is applied and holds the whole fix.
    pub patched: bool,
    /// Title of the fix.
    pub title: String,
}

/// What the server is told: what `livepatch explain --telemetry --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Version of this format: 1.
    pub schema: u32,
    /// Whether reports are sent; without them the server is polled all the same.
    pub on: bool,
    /// What is polled: kernel and channel stand in it, and nothing else is told; none on a host that is not enrolled.
    pub poll: Option<String>,
    /// Where reports are sent, with this host's token; none: they are not.
    pub report_to: Option<String>,
    /// How many reports were dropped since the host enrolled, because too many waited or the server took one for none.
    pub dropped: u64,
    /// The last one that was sent, those that wait, and the one that would be next; in this order.
    pub reports: Vec<TelemetryReport>,
}

/// A report, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryReport {
    /// Whether it was sent.
    pub standing: TelemetryStanding,
    /// The body of the request.
    pub body: String,
}

/// Whether a report was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TelemetryStanding {
    /// It was: the last one.
    Sent,
    /// It waits for the next contact.
    Waiting,
    /// It would be sent if the state were another than the one that was told last.
    Next,
}

/// Something that failed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word that stays the same, for programs: `not-enabled`, `server-unreachable`, `wrong-signer`, …
    pub code: String,
    /// One line in lower case: what and why.
    pub message: String,
    /// What to do about it, one line each.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure with one hint; an empty hint is none. The message becomes one line without control characters.
    pub fn new(code: &str, message: impl std::fmt::Display, hint: &str) -> Self {
        let message: String =
            message.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let hints = if hint.is_empty() { Vec::new() } else { vec![hint.to_owned()] };
        Self { code: code.to_owned(), message, hints }
    }
}
