//! Who goes first.

use std::sync::mpsc;

use livepatch_kernel::{FakeKernel, ThreadPause};
use livepatch_types::{Architecture, KernelRelease, SystemClock};

use super::*;
use crate::observer::Unobserved;
use crate::step::Unwatched;

/// On a host that was just installed.
fn loader(directory: &std::path::Path) -> Arc<Loader> {
    let kernel = KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
    };
    Loader::new(Parts {
        kernel: Arc::new(FakeKernel::new(kernel)),
        pause: Arc::new(ThreadPause),
        clock: Arc::new(SystemClock),
        trust: TrustDirectories { administrator: directory.to_owned(), package: directory.to_owned() },
        machine: None,
        state_directory: directory.join("state"),
        policy: Policy::default(),
        transition_timeout: Duration::ZERO,
        soak: Duration::ZERO,
        panic_directories: Vec::new(),
        steps: Arc::new(Unwatched),
        observer: Arc::new(Unobserved),
    })
}

/// Whatever the agent asks for, however often: a command of root's that waits goes before it.
#[test]
fn root_goes_before_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let loader = &loader(directory.path());
    assert_eq!(loader.converge(), Ok(()), "nobody waits");
    let under_way = loader.lock_work();
    std::thread::scope(|threads| {
        let roots = threads.spawn(|| loader.clear());
        while loader.root_waits.load(Ordering::SeqCst) == 0 {
            assert!(!roots.is_finished(), "it waits for what is under way");
            std::thread::yield_now();
        }
        // An agent that was let in would wait for what is under way.
        let (answers, answered) = mpsc::channel();
        threads.spawn(move || answers.send(loader.converge()));
        let answer = answered.recv_timeout(Duration::from_secs(60));
        drop(under_way);
        assert_eq!(answer, Ok(Err(busy())));
        assert_eq!(roots.join().unwrap().unwrap_err().code, "not-enabled");
    });
    assert_eq!(loader.converge(), Ok(()), "nobody waits any more");
}
