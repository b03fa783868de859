//! What the owner of this host allows, and when: a pure function of the offered livepatch, the settings and the clock.
//!
//! It decides about what is new here. What was healthy comes back after a boot without being asked about again, and
//! what was withdrawn goes at any hour: only [`Mode`] reaches these.

mod mode;
mod window;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use livepatch_manifest::{Place, Target};
use livepatch_types::{Cohort, CveId, NoticeId, PatchVersion, plural};

pub use mode::{Mode, ModeError, ModeSource};
pub use window::{Window, WindowError};

/// The settings of this host about new livepatches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// How far the daemon goes.
    pub mode: Mode,
    /// Where that was set.
    pub mode_source: ModeSource,
    /// Nothing that was released later is applied.
    pub cutoff: Option<Timestamp>,
    /// How old a livepatch must be.
    pub patch_delay: Duration,
    /// How long it takes from then until a livepatch has come to all hosts, each at its place; none at all: it comes to all
    /// at once.
    pub patch_spread: Duration,
    /// Livepatches with a fix for one of these are not applied.
    pub held_cves: Vec<CveId>,
    /// Livepatches with what one of these notices is about are not applied.
    pub held_notices: Vec<NoticeId>,
    /// When something new may be applied; empty: at any time.
    pub windows: Vec<Window>,
    /// The cohort that this host asks its operator for. The one that counts is the one that the operator signed.
    pub cohort: Option<Cohort>,
    /// The settings cannot be read: nothing new is applied, whoever asks.
    pub unusable: bool,
}

/// Who asks for an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asker {
    /// The timer, the start, a refresh.
    #[default]
    Timer,
    /// Root, by `livepatch apply`: now, not in the next window and not when it is old enough.
    Root,
}

/// Why a livepatch that is offered is not applied now, though nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// A word that stays the same, for programs.
    pub code: &'static str,
    /// One line in lower case: what it waits for.
    pub message: String,
    /// When that is over by itself; none: when the settings change.
    pub until: Option<Timestamp>,
}

impl Policy {
    /// Whether anything may be applied at all.
    pub fn permits_applying(&self) -> Result<(), Waiting> {
        match self.mode {
            Mode::Normal | Mode::NoRefresh => Ok(()),
            Mode::NoApply | Mode::Stop => {
                let message =
                    format!("nothing is applied in mode {}, set by {}", self.mode, self.mode_source);
                Err(Waiting { code: "mode", message, until: None })
            }
        }
    }

    /// Whether this livepatch may be applied now; else the reason that lasts longest.
    /// `place` is that of this host for this livepatch; none: it has none, and waits for none.
    pub fn permits(
        &self,
        target: &Target,
        place: Option<Place>,
        asker: Asker,
        now: Timestamp,
    ) -> Result<(), Waiting> {
        self.permits_applying()?;
        if self.unusable {
            let message = "nothing new is applied while the configuration cannot be used".to_owned();
            return Err(Waiting { code: "configuration", message, until: None });
        }
        let version = target.version;
        if let Some(cutoff) = self.cutoff.filter(|cutoff| target.released > *cutoff) {
            let message = format!(
                "livepatch {version} was released {}, after the cutoff-date {}",
                minute(target.released),
                minute(cutoff)
            );
            return Err(Waiting { code: "after-cutoff", message, until: None });
        }
        let held: Vec<String> = target
            .cves
            .iter()
            .filter(|entry| self.held_cves.contains(&entry.id))
            .map(|entry| entry.id.to_string())
            .collect();
        if !held.is_empty() {
            let what = plural(held.len(), "CVE", "CVEs");
            let message = format!("livepatch {version} has fixes of {what} held here: {}", held.join(", "));
            return Err(Waiting { code: "held-cve", message, until: None });
        }
        let held: Vec<String> = self
            .held_notices
            .iter()
            .filter(|notice| notice.is_in(version))
            .map(ToString::to_string)
            .collect();
        if !held.is_empty() {
            let what = plural(held.len(), "notice", "notices");
            let message =
                format!("livepatch {version} has what {what} held here brought: {}", held.join(", "));
            return Err(Waiting { code: "held-notice", message, until: None });
        }
        if asker == Asker::Root {
            return Ok(());
        }
        let old_enough = target.released.checked_add(self.patch_delay).unwrap_or(Timestamp::MAX);
        if let Some((until, message)) = place.and_then(|place| self.before(place, version, old_enough, now)) {
            return Err(Waiting { code: "patch-spread", message, until: Some(until) });
        }
        // Without a delay a clock that is a little behind the server's must not make one.
        if !self.patch_delay.is_zero() && now < old_enough {
            let message = format!(
                "livepatch {version} is younger than patch-delay allows until {}",
                minute(old_enough)
            );
            return Err(Waiting { code: "patch-delay", message, until: Some(old_enough) });
        }
        if self.windows.is_empty() || self.windows.iter().any(|window| window.is_open(now)) {
            return Ok(());
        }
        let until = self.windows.iter().filter_map(|window| window.next_opening(now)).min();
        let when = until.map_or_else(|| "one".to_owned(), |at| format!("the one at {}", minute(at)));
        let message = format!("livepatch {version} waits for a maintenance window: {when}");
        Err(Waiting { code: "maintenance-window", message, until })
    }
}

impl Policy {
    /// When a livepatch that comes to the first host at `begins` comes to the one at this place, and what it waits for, if
    /// that is still to come.
    fn before(
        &self,
        place: Place,
        version: PatchVersion,
        begins: Timestamp,
        now: Timestamp,
    ) -> Option<(Timestamp, String)> {
        // At most a year, as the settings have it.
        let spread = i64::try_from(self.patch_spread.as_secs()).unwrap_or(i64::MAX / 10_000);
        let wait = SignedDuration::from_secs(spread.saturating_mul(place.hundredths().into()) / 10_000);
        let reached = begins.checked_add(wait).unwrap_or(Timestamp::MAX);
        if wait.is_zero() || now >= reached {
            return None;
        }
        let passed = now.duration_since(begins).as_secs().max(0).saturating_mul(100) / spread;
        let message = format!(
            "livepatch {version} has come to {passed} % of the hosts; to this one, at {place}, it comes {}",
            minute(reached)
        );
        Some((reached, message))
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use livepatch_manifest::{CveEntry, ModuleObject};
    use livepatch_types::{CveCoverage, HostId, Rating, Sha256Digest};

    use super::*;

    const RELEASED: &str = "2026-11-20T12:00:00Z";

    fn target() -> Target {
        Target {
            version: PatchVersion::parse("7.1").unwrap(),
            module: ModuleObject { sha256: Sha256Digest::from_bytes([1; 32]), size_bytes: 1 },
            cves: vec![CveEntry {
                id: CveId::parse("CVE-2026-1001").unwrap(),
                coverage: CveCoverage::Whole,
                rating: Rating::High,
                title: String::new(),
            }],
            released: RELEASED.parse().unwrap(),
        }
    }

    #[test]
    fn what_waits_for_what() {
        let none = Policy::default();
        let cutoff = |at: &str| Policy { cutoff: Some(at.parse().unwrap()), ..Policy::default() };
        let delay =
            |hours: u64| Policy { patch_delay: Duration::from_secs(hours * 3600), ..Policy::default() };
        let held = |id: &str| Policy { held_cves: vec![CveId::parse(id).unwrap()], ..Policy::default() };
        let notice =
            |id: &str| Policy { held_notices: vec![NoticeId::parse(id).unwrap()], ..Policy::default() };
        let windows = |texts: &[&str]| Policy {
            windows: texts.iter().map(|text| text.parse().unwrap()).collect(),
            ..Policy::default()
        };
        let spread =
            |days: u64, delay: Policy| Policy { patch_spread: Duration::from_secs(days * 86400), ..delay };
        // This host stands at 25.57 %.
        let place = Place::of(
            &HostId::from_bytes([1; 16]),
            Cohort::parse("databases").ok().as_ref(),
            "113.1".parse().unwrap(),
        );
        let mode = |mode| Policy { mode, mode_source: ModeSource::File, ..Policy::default() };
        let unusable = Policy { unusable: true, ..Policy::default() };
        let both =
            Policy { patch_delay: Duration::from_secs(48 * 3600), ..windows(&["daily 02:00-04:00 UTC"]) };
        // Policy, who asks, when; what it says: nothing, or the code and until when.
        let (timer, root) = (Asker::Timer, Asker::Root);
        let noon = "2026-11-21T12:00:00Z";
        for (policy, asker, now, expected) in [
            (&none, timer, noon, ""),
            (&cutoff(RELEASED), timer, noon, ""),
            (&cutoff("2026-11-20T11:59:59Z"), timer, noon, "after-cutoff -"),
            (&cutoff("2026-11-20T11:59:59Z"), root, noon, "after-cutoff -"),
            (&held("CVE-2026-1001"), timer, noon, "held-cve -"),
            (&held("CVE-2026-1001"), root, noon, "held-cve -"),
            (&held("CVE-2026-1002"), timer, noon, ""),
            (&notice("LSN-0007-1"), timer, noon, "held-notice -"),
            (&notice("LSN-0007-1"), root, noon, "held-notice -"),
            // Cumulative: what an earlier notice brought is in it.
            (&notice("LSN-0003-1"), timer, noon, "held-notice -"),
            (&notice("LSN-0008-1"), timer, noon, ""),
            (&delay(24), timer, "2026-11-21T11:59:59Z", "patch-delay 2026-11-21T12:00:00Z"),
            (&delay(24), timer, noon, ""),
            (&none, timer, "2026-11-20T11:59:58Z", ""),
            (&delay(24), root, "2026-11-20T13:00:00Z", ""),
            // A clock that is behind the release waits too.
            (&delay(24), timer, "1970-01-01T00:00:00Z", "patch-delay 2026-11-21T12:00:00Z"),
            (&windows(&["daily 02:00-04:00 UTC"]), timer, noon, "maintenance-window 2026-11-22T02:00:00Z"),
            (&windows(&["daily 02:00-04:00 UTC"]), root, noon, ""),
            (&windows(&["daily 02:00-04:00 UTC", "sat 11:00-13:00 UTC"]), timer, noon, ""),
            (
                &windows(&["sun 02:00-04:00 UTC", "sat 18:00-19:00 UTC"]),
                timer,
                noon,
                "maintenance-window 2026-11-21T18:00:00Z",
            ),
            // 25.57 % of four days are 24 hours, 32 minutes and 49 seconds.
            (&spread(4, none.clone()), timer, noon, "patch-spread 2026-11-21T12:32:49Z"),
            (&spread(4, none.clone()), timer, "1970-01-01T00:00:00Z", "patch-spread 2026-11-21T12:32:49Z"),
            (&spread(4, none.clone()), timer, "2026-11-21T12:32:48Z", "patch-spread 2026-11-21T12:32:49Z"),
            (&spread(4, none.clone()), timer, "2026-11-21T12:32:49Z", ""),
            (&spread(4, none.clone()), root, noon, ""),
            (&spread(4, delay(24)), timer, noon, "patch-spread 2026-11-22T12:32:49Z"),
            (&spread(4, delay(24)), root, noon, ""),
            (&spread(366, none.clone()), timer, noon, "patch-spread 2027-02-22T02:04:07Z"),
            (
                &spread(4, windows(&["daily 02:00-04:00 UTC"])),
                timer,
                "2026-11-21T12:32:49Z",
                "maintenance-window 2026-11-22T02:00:00Z",
            ),
            (&spread(4, held("CVE-2026-1001")), timer, noon, "held-cve -"),
            (&unusable, timer, noon, "configuration -"),
            (&unusable, root, noon, "configuration -"),
            (&mode(Mode::NoRefresh), timer, noon, ""),
            (&mode(Mode::NoApply), timer, noon, "mode -"),
            (&mode(Mode::NoApply), root, noon, "mode -"),
            (&mode(Mode::Stop), timer, noon, "mode -"),
            // The delay is over in the middle of a window.
            (&both, timer, noon, "patch-delay 2026-11-22T12:00:00Z"),
            (&both, timer, "2026-11-22T12:00:00Z", "maintenance-window 2026-11-23T02:00:00Z"),
        ] {
            let said = match policy.permits(&target(), Some(place), asker, now.parse().unwrap()) {
                Ok(()) => String::new(),
                Err(Waiting { code, until, .. }) => {
                    format!("{code} {}", until.map_or_else(|| "-".into(), |at| at.to_string()))
                }
            };
            assert_eq!(said, expected, "{policy:?} {asker:?} {now}");
        }
    }

    #[test]
    fn the_words() {
        let policy = Policy {
            held_cves: vec![CveId::parse("CVE-2026-1001").unwrap()],
            patch_delay: Duration::from_secs(3600),
            ..Policy::default()
        };
        let said = policy.permits(&target(), None, Asker::Timer, RELEASED.parse().unwrap()).unwrap_err();
        assert_eq!(said.message, "livepatch 7.1 has fixes of 1 CVE held here: CVE-2026-1001");
        let policy = Policy { held_cves: vec![], ..policy };
        let spread = Policy { patch_spread: Duration::from_secs(4 * 86400), ..policy.clone() };
        let place = Place::of(
            &HostId::from_bytes([1; 16]),
            Cohort::parse("databases").ok().as_ref(),
            "113.1".parse().unwrap(),
        );
        let said = |now: &str| {
            spread.permits(&target(), Some(place), Asker::Timer, now.parse().unwrap()).unwrap_err()
        };
        assert_eq!(
            said("2026-11-21T10:30:00Z").message,
            "livepatch 7.1 has come to 22 % of the hosts; to this one, at 25.57 %, it comes 2026-11-21 13:32 UTC"
        );
        assert!(said(RELEASED).message.starts_with("livepatch 7.1 has come to 0 % of the hosts"));
        let said = policy.permits(&target(), None, Asker::Timer, RELEASED.parse().unwrap()).unwrap_err();
        assert_eq!(
            said.message,
            "livepatch 7.1 is younger than patch-delay allows until 2026-11-20 13:00 UTC"
        );
    }
}
