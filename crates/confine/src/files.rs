//! Landlock: which files a process may open, and that it listens on no TCP port.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::{Outcome, Process};

/// What is asked for. Older kernels (Debian 12's 6.1 has 2) do what they can of it.
const NEWEST: ABI = ABI::V6;

/// Which files a process needs; those that are not there are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Files, and directories with all that is in them, that are read.
    pub read: Vec<PathBuf>,
    /// The same, that are changed, too.
    pub change: Vec<PathBuf>,
    /// The same, that are written and read, while files are neither made nor removed there.
    pub write: Vec<PathBuf>,
}

pub(crate) fn restrict(process: Process, files: &Files) -> Outcome {
    match ruleset(process, files) {
        Ok(RulesetStatus::FullyEnforced) => Outcome::Whole,
        Ok(RulesetStatus::PartiallyEnforced) => Outcome::Partly,
        Ok(RulesetStatus::NotEnforced) => {
            Outcome::Not("this kernel has no Landlock, or was booted without".into())
        }
        Err(error) => Outcome::Not(error.to_string()),
    }
}

fn ruleset(process: Process, files: &Files) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Nothing is executed: that is in no list.
    let change = AccessFs::from_all(NEWEST) & !BitFlags::from(AccessFs::Execute);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(tcp(process))?
        // No signals to others.
        .scope(Scope::Signal)?;
    let ruleset = ruleset
        .create()?
        .add_rules(path_beneath_rules(&files.read, read))?
        .add_rules(path_beneath_rules(&files.write, read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(&files.change, change))?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// What nobody may do here with TCP.
fn tcp(process: Process) -> BitFlags<AccessNet> {
    match process {
        Process::Agent => AccessNet::BindTcp.into(),
        Process::Loader | Process::Observer => AccessNet::from_all(NEWEST),
    }
}
