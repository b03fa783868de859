//! What to install to be covered: asked for when this kernel is not covered, or not for long, and once a day at most. The
//! loader verifies what comes; the server of a covered host is never asked.

use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use livepatch_api::daemon::{Coverage, CoverageState, CoveredKernel};
use livepatch_loader_api::AgentRequest;
use livepatch_manifest::support::MAX_SUPPORT_BYTES;
use livepatch_manifest::{HostSystem, SupportMatrix};
use livepatch_types::KernelIdentity;

use crate::Agent;
use crate::state::Enrolment;

/// How often it is asked for.
const INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// Which system this is: two words of os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct System {
    distribution: String,
    release: String,
}

impl System {
    /// Reads them; empty where the file does not have them.
    pub(crate) fn read(os_release: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(os_release).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let assigned = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            assigned.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        Self { distribution: value("ID"), release: value("VERSION_ID") }
    }
}

/// Whether something should be installed.
fn needs_another(coverage: &Coverage, today: Date) -> bool {
    match coverage.state {
        CoverageState::NotCovered
        | CoverageState::Ended
        | CoverageState::SeriesEnded
        | CoverageState::UpgradeNeeded => true,
        CoverageState::Covered => coverage.ends_soon(today).is_some(),
        CoverageState::Unknown => false,
    }
}

/// What to install, best first.
pub(crate) fn install(
    coverage: &Coverage,
    matrix: &SupportMatrix,
    system: &System,
    kernel: &KernelIdentity,
    today: Date,
) -> Vec<CoveredKernel> {
    if !needs_another(coverage, today) {
        return Vec::new();
    }
    let host = HostSystem {
        distribution: &system.distribution,
        release: &system.release,
        architecture: kernel.architecture,
        kernel: kernel.release.as_str(),
    };
    let kernels = matrix.kernels_for(host, today).into_iter();
    let of = |(row, flavour): (&livepatch_manifest::SupportRow, &livepatch_manifest::SupportFlavour)| {
        CoveredKernel {
            system: row.name.clone(),
            series: row.series.clone(),
            line: row.line.clone(),
            package: flavour.package.clone(),
            until: row.until,
        }
    };
    kernels.map(of).collect()
}

impl Agent {
    /// Asks for the matrix if there is use for it. What goes wrong is no problem of the host's.
    pub(crate) async fn update_support(self: &Arc<Self>, enrolment: &Enrolment) {
        let now = self.now();
        let today = now.to_zoned_datetime(TimeZone::UTC).date();
        let asked = self.live().support_asked.filter(|asked| *asked <= now);
        let recently = asked.is_some_and(|asked| now.duration_since(asked) < INTERVAL);
        if recently || !needs_another(&self.status().coverage, today) {
            return;
        }
        self.live().support_asked = Some(now);
        let Ok(client) = self.server() else { return };
        let taken = match client.support(&enrolment.server, MAX_SUPPORT_BYTES).await {
            Ok(None) => return,
            Ok(Some(envelope)) => self.ask(AgentRequest::Support, envelope).await.map(drop),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = taken {
            tracing::info!(code = %problem.code, "what is covered is not known: {problem}");
        }
        self.write_status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_read_from_os_release() {
        for (text, distribution, release) in [
            ("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n", "debian", "12"),
            ("VERSION_ID='20.04'\nID_LIKE=debian\nID=ubuntu", "ubuntu", "20.04"),
            ("", "", ""),
        ] {
            let expected = System { distribution: distribution.into(), release: release.into() };
            assert_eq!(System::parse(text), expected);
        }
    }
}
