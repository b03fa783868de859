//! seccomp: which system calls a process may make. Those that it may not answer EPERM, as under systemd's filters.
//!
//! Agent and loader use libraries that decide for themselves how they ask the kernel (the C library's resolver above all),
//! so that a list of what they may do would break with them; what they may not is listed, and does not change. The observer
//! has few calls of its own and wide rights: what it may do is listed.

mod lists;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use self::lists::{ALLOWED_TO_OBSERVER, DENIED_TO_ALL, MODULES, NAMESPACES, X32_ONLY};
use crate::Outcome;

/// The processes of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// `livepatchd`: the network, and no right to anything.
    Agent,
    /// `livepatch-loader`: modules, and no network.
    Loader,
    /// `livepatch-observer`: reads.
    Observer,
}

/// The bit in the number of a call by the x32 convention (`__X32_SYSCALL_BIT`), which has the same calls once more.
const X32: i64 = 0x4000_0000;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub(crate) fn restrict(process: Process) -> Outcome {
    let programs = match programs(process) {
        Ok(programs) => programs,
        Err(error) => return Outcome::Not(error.to_string()),
    };
    for program in &programs {
        if let Err(error) = seccompiler::apply_filter(program) {
            return Outcome::Not(error.to_string());
        }
    }
    Outcome::Whole
}

/// The filters, in the order in which they are put into force.
fn programs(process: Process) -> Result<Vec<BpfProgram>, BackendError> {
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let listed = match process {
        Process::Observer => program(allowed_to_observer()?, errno(libc::EPERM), SeccompAction::Allow)?,
        Process::Agent | Process::Loader => {
            program(denied(process)?, SeccompAction::Allow, errno(libc::EPERM))?
        }
    };
    // What it asks for cannot be seen by a filter. The C library takes `clone` where this is not there, and only then.
    let absent = program(both(&[libc::SYS_clone3]), SeccompAction::Allow, errno(libc::ENOSYS))?;
    Ok(vec![absent, listed])
}

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matching, TargetArch::x86_64)?.try_into()
}

/// Calls by both conventions, whatever their arguments are.
fn both(calls: &[i64]) -> Rules {
    calls.iter().flat_map(|call| [(*call, Vec::new()), (*call | X32, Vec::new())]).collect()
}

fn denied(process: Process) -> Result<Rules, BackendError> {
    let mut rules = both(DENIED_TO_ALL);
    rules.extend(X32_ONLY.iter().map(|call| (*call | X32, Vec::new())));
    let modules: &[i64] = if process == Process::Loader { &[libc::SYS_init_module] } else { MODULES };
    rules.extend(both(modules));

    let families: &[i32] = match process {
        Process::Agent => &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
        Process::Loader | Process::Observer => &[libc::AF_UNIX],
    };
    let other = families.iter().map(|family| argument(0, SeccompCmpOp::Ne, *family));
    let other = SeccompRule::new(other.collect::<Result<_, _>>()?)?;
    let new_namespace = |flag: &i32| {
        let has = SeccompCmpOp::MaskedEq(u64::from(flag.unsigned_abs()));
        SeccompRule::new(vec![argument(0, has, *flag)?])
    };
    let new_namespaces = NAMESPACES.iter().map(new_namespace).collect::<Result<Vec<_>, _>>()?;
    for (call, chain) in [(libc::SYS_socket, vec![other]), (libc::SYS_clone, new_namespaces)] {
        rules.insert(call, chain.clone());
        rules.insert(call | X32, chain);
    }
    Ok(rules)
}

fn allowed_to_observer() -> Result<Rules, BackendError> {
    let mut rules: Rules = ALLOWED_TO_OBSERVER.iter().map(|call| (*call, Vec::new())).collect();
    let without = |index, bits: i32| {
        let mask = SeccompCmpOp::MaskedEq(u64::from(bits.unsigned_abs()));
        SeccompRule::new(vec![argument(index, mask, 0)?])
    };
    // To read, and nothing is made, cut or written by opening it.
    let changing = libc::O_ACCMODE
        | libc::O_CREAT
        | libc::O_TRUNC
        | libc::O_APPEND
        | (libc::O_TMPFILE & !libc::O_DIRECTORY);
    rules.insert(libc::SYS_openat, vec![without(2, changing)?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![without(2, libc::PROT_EXEC)?]);
    }
    rules.insert(
        libc::SYS_prctl,
        vec![SeccompRule::new(vec![argument(0, SeccompCmpOp::Eq, libc::PR_SET_NAME)?])?],
    );
    let new_namespaces = NAMESPACES.iter().fold(0, |all, flag| all | flag);
    rules.insert(libc::SYS_clone, vec![without(0, new_namespaces)?]);
    Ok(rules)
}

fn argument(index: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
}

#[cfg(test)]
mod tests;
