//! What applications passed while this loader ran: in memory, for whoever tells others. Nothing is decided by it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use livepatch_kernel::Kernel;
use livepatch_loader_api::{MOST_PASSED, Passed, Point};
use livepatch_types::{Clock, PatchVersion};

/// The last points that were passed.
pub(crate) struct Journal {
    kernel: Arc<dyn Kernel>,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    passed: VecDeque<Passed>,
    applications: u32,
}

impl Journal {
    pub(crate) fn new(kernel: Arc<dyn Kernel>, clock: Arc<dyn Clock>) -> Self {
        Self { kernel, clock, inner: Mutex::default() }
    }

    /// Notes that a livepatch is there now. One of which nothing was noted was begun by an earlier loader.
    pub(crate) fn note(&self, version: PatchVersion, point: Point) {
        let since_boot = self.kernel.since_boot().unwrap_or_default();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = inner.passed.back().is_some_and(|last| last.version == version && last.point < point);
        if !goes_on {
            inner.applications += 1;
        }
        let passed = Passed {
            point,
            version,
            application: inner.applications,
            at: self.clock.now(),
            since_boot_milliseconds: u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX),
        };
        if inner.passed.len() == MOST_PASSED {
            inner.passed.pop_front();
        }
        inner.passed.push_back(passed);
    }

    /// What was passed is nobody's any more.
    pub(crate) fn forget(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).passed.clear();
    }

    pub(crate) fn passed(&self) -> Vec<Passed> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).passed.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use livepatch_kernel::FakeKernel;
    use livepatch_types::{Architecture, BuildId, FixedClock, KernelIdentity, KernelRelease};

    use super::*;

    #[test]
    fn the_last_points_and_the_applications_they_were_in() {
        use Point::*;
        let kernel = FakeKernel::new(KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        });
        let clock = FixedClock("2026-11-24T12:00:00Z".parse().unwrap());
        let journal = Journal::new(Arc::new(kernel), Arc::new(clock));
        let version = |minor| PatchVersion::parse(&format!("1.{minor}")).unwrap();
        for (minor, point, application) in [
            // An earlier loader began this one.
            (1, InTransition, 1),
            (1, InForce, 1),
            (2, BeforeInsert, 2),
            (2, AfterInsert, 2),
            (2, InTransition, 2),
            // It was cancelled, and is tried again.
            (2, BeforeInsert, 3),
            // The kernel refuses it twice.
            (2, BeforeInsert, 4),
            (2, AfterInsert, 4),
            (2, InForce, 4),
            // Another loader's transition to the end of which this one looks.
            (3, InForce, 5),
        ] {
            journal.note(version(minor), point);
            let last = journal.passed().pop().unwrap();
            assert_eq!((last.version, last.application), (version(minor), application));
        }
        for _ in 0..MOST_PASSED {
            journal.note(version(4), BeforeInsert);
        }
        let passed = journal.passed();
        assert_eq!((passed.len(), passed[0].version), (MOST_PASSED, version(4)));
    }
}
