/// Exit codes of `livepatch`. They are an interface: a number keeps its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed; stderr says why.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The host is not enrolled.
    NotEnabled = 3,
    /// The daemon does not run or does not answer in time.
    DaemonUnreachable = 4,
    /// Only root may do this.
    NotPermitted = 5,
}
