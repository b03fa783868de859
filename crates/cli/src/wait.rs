//! `livepatch wait`: until this host is in a state, with a bound.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use livepatch_api::daemon::Status;
use livepatch_kernel::{Pause as _, ThreadPause};
use livepatch_types::{CheckState, PatchState};

use crate::CliError;
use crate::status::{Source, read};

const PAUSE: Duration = Duration::from_millis(500);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The daemon answers
    Answers,
    /// This host is enrolled
    Enabled,
    /// The server was asked, and answered
    Checked,
    /// A livepatch is applied
    Applied,
    /// A livepatch is applied, or the server has none for this kernel, or none any more
    Settled,
}

impl Until {
    /// Whether that is so now, by the daemon's own word.
    pub fn is_reached(self, status: &Status) -> bool {
        let checked = status.enabled && status.check.state == CheckState::Checked;
        match self {
            Self::Answers => true,
            Self::Enabled => status.enabled,
            Self::Checked => checked,
            Self::Applied => status.enabled && status.patch.state == PatchState::Applied,
            Self::Settled => {
                let ends =
                    [PatchState::Applied, PatchState::NothingToApply, PatchState::KernelUpgradeRequired];
                checked && ends.contains(&status.patch.state)
            }
        }
    }
}

/// Looks at the status until it is so; where there is no daemon and cannot be one, once. The last status and whether it was
/// reached; an error when none could be had.
pub(crate) fn wait(
    runtime_dir: &Path,
    root: &Path,
    until: Until,
    bound: Duration,
) -> Result<(Status, bool), CliError> {
    let began = Instant::now();
    loop {
        let looked = read(runtime_dir, root);
        let reached = matches!(&looked, Ok((status, Source::Daemon)) if until.is_reached(status));
        let ends = reached || matches!(&looked, Ok((_, Source::Kernel)));
        let left = bound.saturating_sub(began.elapsed());
        if ends || left.is_zero() {
            return looked.map(|(status, _)| (status, reached));
        }
        ThreadPause.pause(PAUSE.min(left));
    }
}
