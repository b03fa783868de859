//! How long a kernel gets livepatches, and whether a newer one is needed: what the operator signs about it.

use jiff::civil::Date;
use livepatch_types::{CveId, NoticeId};
use serde::{Deserialize, Serialize};

/// The cover of one kernel. Days are in UTC; the last one counts whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The last day on which this build gets livepatches; none: no end is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// The last day on which any kernel of its series does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series_until: Option<Date>,
    /// Why a newer kernel is needed whatever livepatches are applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
}

/// A fix that no livepatch can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The CVE.
    pub cve: CveId,
    /// The notice that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<NoticeId>,
}

/// What a cover comes to on a day; the first that is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A fix is needed that no livepatch can have.
    UpgradeNeeded,
    /// No kernel of the series gets livepatches any more.
    SeriesEnded,
    /// This build gets none any more.
    WindowEnded,
    /// It gets them.
    Covered,
}

impl Coverage {
    /// What this comes to on a day.
    pub fn standing(&self, today: Date) -> Standing {
        let ended = |last: Option<Date>| last.is_some_and(|last| today > last);
        if self.upgrade.is_some() {
            Standing::UpgradeNeeded
        } else if ended(self.series_until) {
            Standing::SeriesEnded
        } else if ended(self.until) {
            Standing::WindowEnded
        } else {
            Standing::Covered
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cover_comes_to() {
        let date = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        let upgrade = || Some(Upgrade { cve: CveId::parse("CVE-2026-1001").unwrap(), notice: None });
        for (until, series_until, needed, expected) in [
            ("", "", false, Standing::Covered),
            ("2026-11-24", "", false, Standing::Covered),
            ("2026-11-23", "", false, Standing::WindowEnded),
            ("2026-11-24", "2026-11-23", false, Standing::SeriesEnded),
            ("2026-11-23", "2027-01-01", false, Standing::WindowEnded),
            ("", "2027-01-01", true, Standing::UpgradeNeeded),
        ] {
            let coverage = Coverage {
                until: date(until),
                series_until: date(series_until),
                upgrade: upgrade().filter(|_| needed),
            };
            assert_eq!(coverage.standing("2026-11-24".parse().unwrap()), expected, "{coverage:?}");
        }
    }
}
