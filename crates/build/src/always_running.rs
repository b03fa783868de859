//! Functions that some task never leaves.
//!
//! The kernel moves a task to a livepatch when none of the functions to be replaced is on its stack
//! (kernel/livepatch/transition.c, `klp_check_stack`), or when it leaves the kernel. A kernel thread never leaves it: it
//! sleeps in its main function, or in one that does nothing but wait for it, and so it is asleep there whenever it is
//! looked at. Waking it, as the kernel does after 15 seconds, does not help. What such a function calls in between can be
//! replaced.

/// Why a function is never left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// Whoever sleeps does so in it.
    Asleep,
    /// The idle tasks are in it. They are moved all the same, from within (kernel/sched/idle.c, `do_idle`), and go on
    /// with the old code.
    Idle,
    /// A kernel thread, while what it serves is in use.
    Thread,
}

/// Function, why, and the source file that has it, of Linux 6.1 or 6.12: main functions are those that `kthread_run` and
/// its like are given there and that loop until they are stopped; others are where such a thread sleeps.
const TABLE: &[(&str, Stay, &str)] = &[
    ("schedule", Stay::Asleep, "kernel/sched/core.c"),
    ("__schedule", Stay::Asleep, "kernel/sched/core.c"),
    ("schedule_timeout", Stay::Asleep, "kernel/time/timer.c"),
    ("cpu_startup_entry", Stay::Idle, "kernel/sched/idle.c"),
    ("do_idle", Stay::Idle, "kernel/sched/idle.c"),
    ("rest_init", Stay::Idle, "init/main.c"),
    ("schedule_idle", Stay::Idle, "kernel/sched/core.c"),
    ("start_secondary", Stay::Idle, "arch/x86/kernel/smpboot.c"),
    ("kthread", Stay::Thread, "kernel/kthread.c"),
    ("kthreadd", Stay::Thread, "kernel/kthread.c"),
    ("kthread_worker_fn", Stay::Thread, "kernel/kthread.c"),
    ("ret_from_fork", Stay::Thread, "arch/x86/kernel/process.c"),
    ("worker_thread", Stay::Thread, "kernel/workqueue.c"),
    ("rescuer_thread", Stay::Thread, "kernel/workqueue.c"),
    ("smpboot_thread_fn", Stay::Thread, "kernel/smpboot.c"),
    ("irq_thread", Stay::Thread, "kernel/irq/manage.c"),
    ("irq_wait_for_interrupt", Stay::Thread, "kernel/irq/manage.c"),
    ("rcu_gp_kthread", Stay::Thread, "kernel/rcu/tree.c"),
    ("rcu_gp_fqs_loop", Stay::Thread, "kernel/rcu/tree.c"),
    ("rcu_tasks_kthread", Stay::Thread, "kernel/rcu/tasks.h"),
    ("rcu_tasks_one_gp", Stay::Thread, "kernel/rcu/tasks.h"),
    ("rcu_nocb_gp_kthread", Stay::Thread, "kernel/rcu/tree_nocb.h"),
    ("rcu_nocb_cb_kthread", Stay::Thread, "kernel/rcu/tree_nocb.h"),
    ("nocb_gp_wait", Stay::Thread, "kernel/rcu/tree_nocb.h"),
    ("nocb_cb_wait", Stay::Thread, "kernel/rcu/tree_nocb.h"),
    ("rcu_boost_kthread", Stay::Thread, "kernel/rcu/tree_plugin.h"),
    ("psi_rtpoll_worker", Stay::Thread, "kernel/sched/psi.c"),
    ("watchdog", Stay::Thread, "kernel/hung_task.c"),
    ("kauditd_thread", Stay::Thread, "kernel/audit.c"),
    ("prune_tree_thread", Stay::Thread, "kernel/audit_tree.c"),
    ("cpu_map_kthread_run", Stay::Thread, "kernel/bpf/cpumap.c"),
    ("vhost_task_fn", Stay::Thread, "kernel/vhost_task.c"),
    ("kswapd", Stay::Thread, "mm/vmscan.c"),
    ("kswapd_try_to_sleep", Stay::Thread, "mm/vmscan.c"),
    ("kcompactd", Stay::Thread, "mm/compaction.c"),
    ("khugepaged", Stay::Thread, "mm/khugepaged.c"),
    ("khugepaged_wait_work", Stay::Thread, "mm/khugepaged.c"),
    ("ksm_scan_thread", Stay::Thread, "mm/ksm.c"),
    ("oom_reaper", Stay::Thread, "mm/oom_kill.c"),
    ("kdamond_fn", Stay::Thread, "mm/damon/core.c"),
    ("io_sq_thread", Stay::Thread, "io_uring/sqpoll.c"),
    ("io_wqe_worker", Stay::Thread, "io_uring/io-wq.c"),
    ("io_wq_worker", Stay::Thread, "io_uring/io-wq.c"),
    ("kmmpd", Stay::Thread, "fs/ext4/mmp.c"),
    ("ext4_lazyinit_thread", Stay::Thread, "fs/ext4/super.c"),
    ("kjournald2", Stay::Thread, "fs/jbd2/journal.c"),
    ("xfsaild", Stay::Thread, "fs/xfs/xfs_trans_ail.c"),
    ("cleaner_kthread", Stay::Thread, "fs/btrfs/disk-io.c"),
    ("transaction_kthread", Stay::Thread, "fs/btrfs/disk-io.c"),
    ("gc_thread_func", Stay::Thread, "fs/f2fs/gc.c"),
    ("issue_checkpoint_thread", Stay::Thread, "fs/f2fs/checkpoint.c"),
    ("issue_flush_thread", Stay::Thread, "fs/f2fs/segment.c"),
    ("issue_discard_thread", Stay::Thread, "fs/f2fs/segment.c"),
    ("cifs_demultiplex_thread", Stay::Thread, "fs/smb/client/connect.c"),
    ("ksmbd_conn_handler_loop", Stay::Thread, "fs/smb/server/connection.c"),
    ("ksmbd_kthread_fn", Stay::Thread, "fs/smb/server/transport_tcp.c"),
    ("nfsd", Stay::Thread, "fs/nfsd/nfssvc.c"),
    ("lockd", Stay::Thread, "fs/lockd/svc.c"),
    ("nfs4_callback_svc", Stay::Thread, "fs/nfs/callback.c"),
    ("svc_recv", Stay::Thread, "net/sunrpc/svc_xprt.c"),
    ("napi_threaded_poll", Stay::Thread, "net/core/dev.c"),
    ("pktgen_thread_worker", Stay::Thread, "net/core/pktgen.c"),
    ("sync_thread_master", Stay::Thread, "net/netfilter/ipvs/ip_vs_sync.c"),
    ("sync_thread_backup", Stay::Thread, "net/netfilter/ipvs/ip_vs_sync.c"),
    ("bnep_session", Stay::Thread, "net/bluetooth/bnep/core.c"),
    ("cmtp_session", Stay::Thread, "net/bluetooth/cmtp/core.c"),
    ("hidp_session_thread", Stay::Thread, "net/bluetooth/hidp/core.c"),
    ("rfcomm_run", Stay::Thread, "net/bluetooth/rfcomm/core.c"),
    ("devtmpfsd", Stay::Thread, "drivers/base/devtmpfs.c"),
    ("devtmpfs_work_loop", Stay::Thread, "drivers/base/devtmpfs.c"),
    ("hwrng_fillfn", Stay::Thread, "drivers/char/hw_random/core.c"),
    ("md_thread", Stay::Thread, "drivers/md/md.c"),
    ("dmcrypt_write", Stay::Thread, "drivers/md/dm-crypt.c"),
    ("log_writes_kthread", Stay::Thread, "drivers/md/dm-log-writes.c"),
    ("writecache_endio_thread", Stay::Thread, "drivers/md/dm-writecache.c"),
    ("writecache_flush_thread", Stay::Thread, "drivers/md/dm-writecache.c"),
    ("bch_allocator_thread", Stay::Thread, "drivers/md/bcache/alloc.c"),
    ("bch_gc_thread", Stay::Thread, "drivers/md/bcache/btree.c"),
    ("bch_writeback_thread", Stay::Thread, "drivers/md/bcache/writeback.c"),
    ("cached_dev_status_update", Stay::Thread, "drivers/md/bcache/super.c"),
    ("scsi_error_handler", Stay::Thread, "drivers/scsi/scsi_error.c"),
    ("usb_stor_control_thread", Stay::Thread, "drivers/usb/storage/usb.c"),
    ("vhost_worker", Stay::Thread, "drivers/vhost/vhost.c"),
    ("balloon_thread", Stay::Thread, "drivers/xen/balloon.c"),
    ("xenbus_thread", Stay::Thread, "drivers/xen/xenbus/xenbus_comms.c"),
    ("xenwatch_thread", Stay::Thread, "drivers/xen/xenbus/xenbus_xs.c"),
    ("kvm_nx_huge_page_recovery_worker", Stay::Thread, "arch/x86/kvm/mmu/mmu.c"),
    ("kvm_nx_lpage_recovery_worker", Stay::Thread, "arch/x86/kvm/mmu/mmu.c"),
    ("kvm_vm_worker_thread", Stay::Thread, "virt/kvm/kvm_main.c"),
];

/// Why some task is always in this function; none when it is not known to be so.
pub(crate) fn why(function: &str) -> Option<String> {
    let (_, stay, source) = TABLE.iter().find(|(name, ..)| *name == function)?;
    Some(match stay {
        Stay::Asleep => {
            "every task that sleeps is in this function, so the transition may never end".to_owned()
        }
        Stay::Idle => {
            "the idle tasks never leave this function, and would go on with the old code".to_owned()
        }
        Stay::Thread => format!(
            "a kernel thread is always in this function while it runs ({source}), so the transition may never end"
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_found_once_and_says_why() {
        let names: BTreeSet<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(TABLE.iter().all(|(_, _, source)| source.ends_with(".c") || source.ends_with(".h")));
        assert_eq!(
            why("kswapd").as_deref(),
            Some(
                "a kernel thread is always in this function while it runs (mm/vmscan.c), so the transition may never end"
            )
        );
        assert!(why("schedule").is_some_and(|why| why.contains("every task that sleeps")));
        assert!(why("do_idle").is_some_and(|why| why.contains("old code")));
        assert_eq!(why("kfree"), None);
    }
}
