use crate::verdict::Level;

/// Exit codes of `livepatch`. They are an interface: a number keeps its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or yes.
    Ok,
    /// It failed and stderr says why, or no.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The host is not enrolled.
    NotEnabled,
    /// The daemon does not run or does not answer in time.
    DaemonUnreachable,
    /// Only root may do this.
    NotPermitted,
    /// Nothing is known of what was asked for.
    NotKnown,
    /// What was waited for does not come by itself: somebody must act.
    NotByItself,
    /// What `check` found, by the codes of monitoring plugins.
    Check(Level),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            // What clap ends with.
            Self::Usage => 2,
            Self::NotEnabled => 3,
            Self::DaemonUnreachable => 4,
            Self::NotPermitted => 5,
            Self::NotKnown => 6,
            Self::NotByItself => 7,
            Self::Check(level) => level as u8,
        }
    }
}
