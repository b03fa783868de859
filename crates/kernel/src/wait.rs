use std::time::Duration;

use livepatch_types::ModuleName;

use crate::{Kernel, KernelError, Livepatch};

/// How time passes between two looks at the kernel, which gives no notification. A test's time passes at once.
pub trait Pause: Send + Sync {
    /// Lets `time` pass.
    fn pause(&self, time: Duration);
}

/// Real time: the thread sleeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadPause;

impl Pause for ThreadPause {
    #[expect(clippy::disallowed_methods, reason = "sysfs cannot be waited upon; every caller has a bound")]
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

const FIRST_STEP: Duration = Duration::from_millis(10);
const LAST_STEP: Duration = Duration::from_millis(500);

/// Asks `done` until it says yes or `bound` has been waited out; says which. The steps grow from 10 to 500 ms.
pub fn wait_until<E>(
    pause: &dyn Pause,
    bound: Duration,
    mut done: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let (mut waited, mut step) = (Duration::ZERO, FIRST_STEP);
    loop {
        if done()? {
            return Ok(true);
        }
        if waited >= bound {
            return Ok(false);
        }
        let time = step.min(bound - waited);
        pause.pause(time);
        waited += time;
        step = (step * 2).min(LAST_STEP);
    }
}

/// Waits until livepatch `name` is enabled and not in transition, or gone. `Ok(Some(…))` is its last state, `Ok(None)`
/// means that the kernel has dropped it; any state that is not the one waited for means that the bound is over. One that
/// is disabled and no longer in transition cannot be enabled again: the kernel drops it as soon as it comes to it.
pub fn wait_for_transition(
    kernel: &dyn Kernel,
    pause: &dyn Pause,
    name: &ModuleName,
    bound: Duration,
) -> Result<Option<Livepatch>, KernelError> {
    let mut last = None;
    wait_until(pause, bound, || -> Result<bool, KernelError> {
        last = kernel.livepatches()?.into_iter().find(|patch| patch.name == *name);
        Ok(last.as_ref().is_none_or(|patch| patch.enabled && !patch.in_transition))
    })?;
    Ok(last)
}
