//! The filters, interpreted as the kernel does (Documentation/networking/filter.rst), call by call.

use super::*;

const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
const ALLOW: u32 = 0x7fff_0000;
const X86_64: u32 = 0xc000_003e;

/// What one filter says of a call.
fn run(program: &BpfProgram, architecture: u32, call: i64, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(u32::try_from(call).unwrap().to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
        match step.code {
            0x20 => {
                let offset = step.k as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => accumulator &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(accumulator == step.k),
            0x25 => at += jump(accumulator > step.k),
            0x35 => at += jump(accumulator >= step.k),
            0x06 => return step.k,
            code => panic!("no such instruction: {code:#x}"),
        }
    }
}

/// What all filters together say: what is strictest, and of two errors the one of the filter that came last.
fn judged(process: Process, call: i64, arguments: [u64; 6]) -> u32 {
    let programs = programs(process).unwrap();
    let said: Vec<u32> = programs.iter().map(|program| run(program, X86_64, call, arguments)).collect();
    said.iter().rev().copied().find(|said| *said != ALLOW).unwrap_or(ALLOW)
}

fn with(first: i32) -> [u64; 6] {
    [u64::from(first.unsigned_abs()), 0, 0, 0, 0, 0]
}

fn with_third(third: i32) -> [u64; 6] {
    [0, 0, u64::from(third.unsigned_abs()), 0, 0, 0]
}

#[test]
fn dangerous_calls_are_denied_to_each_by_both_conventions() {
    let mut dangerous = DENIED_TO_ALL.to_vec();
    dangerous.push(libc::SYS_init_module);
    for process in [Process::Agent, Process::Loader, Process::Observer] {
        for call in &dangerous {
            for call in [*call, *call | X32] {
                assert_eq!(judged(process, call, [0; 6]), EPERM, "{process:?} {call}");
            }
        }
        for call in X32_ONLY {
            assert_eq!(judged(process, call | X32, [0; 6]), EPERM, "{process:?} x32 {call}");
        }
        // Another architecture's calls end the process.
        let program = &programs(process).unwrap()[1];
        assert_eq!(run(program, 0x4000_0003, 11, [0; 6]) & 0xffff_0000, 0x8000_0000, "{process:?}");
    }
    for call in [libc::SYS_finit_module, libc::SYS_delete_module] {
        assert_eq!(judged(Process::Loader, call, [0; 6]), ALLOW);
        for process in [Process::Agent, Process::Observer] {
            assert_eq!(judged(process, call, [0; 6]), EPERM, "{process:?} {call}");
            assert_eq!(judged(process, call | X32, [0; 6]), EPERM, "{process:?} {call}");
        }
    }
}

#[test]
fn sockets_are_of_the_families_that_a_process_needs() {
    for (process, allowed) in [
        (Process::Agent, &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK][..]),
        (Process::Loader, &[libc::AF_UNIX][..]),
        (Process::Observer, &[][..]),
    ] {
        for family in 0..64 {
            let expected = if allowed.contains(&family) { ALLOW } else { EPERM };
            assert_eq!(judged(process, libc::SYS_socket, with(family)), expected, "{process:?} {family}");
            let by_x32 = if process == Process::Observer { EPERM } else { expected };
            assert_eq!(judged(process, libc::SYS_socket | X32, with(family)), by_x32, "{process:?} {family}");
        }
    }
}

#[test]
fn threads_are_made_and_namespaces_are_not() {
    let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
    for process in [Process::Agent, Process::Loader, Process::Observer] {
        assert_eq!(judged(process, libc::SYS_clone, with(thread)), ALLOW, "{process:?}");
        for flag in NAMESPACES {
            assert_eq!(judged(process, libc::SYS_clone, with(thread | flag)), EPERM, "{process:?} {flag:#x}");
        }
        assert_eq!(judged(process, libc::SYS_clone3, [0; 6]), ENOSYS, "{process:?}");
    }
}

#[test]
fn the_observer_opens_to_read_and_makes_no_code() {
    let observer = |call, arguments| judged(Process::Observer, call, arguments);
    let harmless = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_NONBLOCK;
    assert_eq!(observer(libc::SYS_openat, with_third(harmless)), ALLOW);
    for flag in [
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_CREAT,
        libc::O_TRUNC,
        libc::O_APPEND,
        libc::O_TMPFILE | libc::O_RDWR,
        libc::O_TMPFILE,
        libc::O_ACCMODE,
    ] {
        assert_eq!(observer(libc::SYS_openat, with_third(flag)), EPERM, "{flag:#o}");
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        assert_eq!(observer(call, with_third(libc::PROT_READ | libc::PROT_WRITE)), ALLOW);
        assert_eq!(observer(call, with_third(libc::PROT_READ | libc::PROT_EXEC)), EPERM);
    }
    let changes = [
        libc::SYS_open,
        libc::SYS_creat,
        libc::SYS_openat2,
        libc::SYS_unlink,
        libc::SYS_renameat2,
        libc::SYS_ftruncate,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_ioctl,
        libc::SYS_memfd_create,
        libc::SYS_landlock_restrict_self,
    ];
    for call in changes {
        assert_eq!(observer(call, [0; 6]), EPERM, "{call}");
    }
    for call in ALLOWED_TO_OBSERVER {
        let expected = if *call == libc::SYS_clone3 { ENOSYS } else { ALLOW };
        assert_eq!(observer(*call, [0; 6]), expected, "{call}");
        assert_eq!(observer(*call | X32, [0; 6]), EPERM, "x32 {call}");
    }
}

#[test]
fn what_agent_and_loader_need_is_allowed() {
    for process in [Process::Agent, Process::Loader] {
        for call in [
            libc::SYS_openat,
            libc::SYS_connect,
            libc::SYS_accept4,
            libc::SYS_memfd_create,
            libc::SYS_renameat,
            libc::SYS_unlinkat,
            libc::SYS_epoll_pwait2,
            libc::SYS_keyctl,
            libc::SYS_mmap,
            libc::SYS_tgkill,
            libc::SYS_rt_sigaction,
            500,
        ] {
            assert_eq!(judged(process, call, [u64::MAX; 6]), ALLOW, "{process:?} {call}");
        }
    }
}
