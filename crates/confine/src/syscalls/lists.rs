//! Which calls; by what they are for, as systemd groups them (`systemd-analyze syscall-filter`).

use libc::*;

/// What none of agent and loader ever does.
pub(super) const DENIED_TO_ALL: &[i64] = &[
    // Other programs.
    SYS_execve,
    SYS_execveat,
    SYS_fork,
    SYS_vfork,
    // Other processes.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_kill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_kcmp,
    // What is large and seldom needed in the kernel.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_modify_ldt,
    SYS_personality,
    SYS_uselib,
    SYS_add_key,
    SYS_request_key,
    // Another kernel, no kernel.
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    // Mounts and namespaces.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    // Devices.
    SYS_ioperm,
    SYS_iopl,
    SYS_mknod,
    SYS_mknodat,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_quotactl_fd,
    // The host's clock, names and logs.
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_syslog,
    SYS_acct,
    SYS_vhangup,
    // Other users.
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_setgroups,
    SYS_capset,
    SYS_open_by_handle_at,
    SYS_fanotify_init,
];

/// Modules: the loader has the two that it needs.
pub(super) const MODULES: &[i64] = &[SYS_init_module, SYS_finit_module, SYS_delete_module];

/// Numbers of their own by the x32 convention (arch/x86/entry/syscalls/syscall_64.tbl): execve, ptrace, kexec_load,
/// process_vm_readv, process_vm_writev, execveat, rt_sigqueueinfo, rt_tgsigqueueinfo.
pub(super) const X32_ONLY: &[i64] = &[520, 521, 528, 539, 540, 545, 524, 536];

/// Flags of `clone` that make a namespace.
pub(super) const NAMESPACES: &[i32] =
    &[CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP];

/// All that the observer does, besides opening files to read, memory that is not code, and threads.
pub(super) const ALLOWED_TO_OBSERVER: &[i64] = &[
    // Files and directories, and the connection that it has.
    SYS_read,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_close,
    SYS_lseek,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_getdents64,
    SYS_fcntl,
    SYS_poll,
    SYS_ppoll,
    SYS_accept4,
    SYS_sendto,
    SYS_sendmsg,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_shutdown,
    // Memory.
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_getrandom,
    // Threads. Another filter says of `clone3` that it is not there.
    SYS_clone3,
    SYS_futex,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_membarrier,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_gettid,
    SYS_getpid,
    SYS_tgkill,
    SYS_sigaltstack,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
    // Time.
    SYS_clock_gettime,
    SYS_gettimeofday,
    SYS_clock_nanosleep,
    SYS_nanosleep,
];
