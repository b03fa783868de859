//! Floor 2: what the processes of a host give up by themselves at their start, under whatever systemd's units take away.
//!
//! [`confine`] is called when all is open that needs more, and before the first thread. Landlock bounds which files a process
//! opens, seccomp which system calls it makes. docs/THREAT-MODEL.md says why so and not otherwise.
//!
//! Invariant: nothing is ever given back, and a kernel that cannot do one of the two is said, not refused: a host without
//! livepatches is worse off than one whose loader is confined by its unit alone.

mod files;
mod syscalls;

pub use files::Files;
pub use syscalls::Process;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    /// Files, by Landlock.
    pub files: Outcome,
    /// System calls, by seccomp.
    pub syscalls: Outcome,
}

/// What became of one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In force.
    Whole,
    /// In force as far as this kernel can.
    Partly,
    /// Not in force, and why.
    Not(String),
    /// This process cannot do its work with it.
    NotAskedFor,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("in force"),
            Self::Partly => f.write_str("in force as far as this kernel can"),
            Self::Not(why) => write!(f, "not in force: {why}"),
            Self::NotAskedFor => f.write_str("not asked for"),
        }
    }
}

/// Gives up, for this process and whatever it starts: files other than these, and system calls that it does not need.
pub fn confine(process: Process, files: &Files) -> Confined {
    let files = match process {
        // Landlock keeps a process from reading the stack of any other (security/landlock/ptrace.c). Its filter of system
        // calls lets it open files to read only.
        Process::Observer => Outcome::NotAskedFor,
        Process::Agent | Process::Loader => files::restrict(process, files),
    };
    // Last: what the other needs is among what this takes away.
    Confined { files, syscalls: syscalls::restrict(process) }
}
