//! Notices that the wall clock was set, or that the host woke up from sleep, without looking at it now and then: a timer that
//! never ends and that the kernel cancels then (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).

use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::sync::Notify;

/// The thread that waits needs next to nothing.
const STACK_BYTES: usize = 64 << 10;

/// Steps of the clock.
pub(crate) struct ClockSteps(Arc<Notify>);

impl ClockSteps {
    /// From now on. Where the kernel has no such timers no step is noticed, and that is logged.
    ///
    /// A thread waits in the kernel: handing the timer to the runtime takes a promise about descriptors that only an unsafe
    /// block can give.
    pub(crate) fn new() -> Self {
        let steps = Arc::new(Notify::new());
        let noticed = Arc::clone(&steps);
        let thread = std::thread::Builder::new().name("clock-steps".into()).stack_size(STACK_BYTES);
        let watching = timer().and_then(|timer| {
            thread.spawn(move || {
                let error = watch(&timer, || noticed.notify_one());
                tracing::warn!(%error, "steps of the clock are not noticed any more");
            })
        });
        if let Err(error) = watching {
            tracing::warn!(%error, "steps of the clock are not noticed");
        }
        Self(steps)
    }

    /// Waits for the next step. Nothing is lost when the waiting is given up.
    pub(crate) async fn next(&self) {
        self.0.notified().await;
    }
}

/// Tells of each step, until something fails.
fn watch(timer: &OwnedFd, mut noticed: impl FnMut()) -> Error {
    loop {
        match rustix::io::read(timer, &mut [0; 8]) {
            Err(Errno::CANCELED) => noticed(),
            Err(Errno::INTR) => continue,
            Ok(_) => return ErrorKind::UnexpectedEof.into(),
            Err(error) => return error.into(),
        }
        if let Err(error) = arm(timer) {
            return error;
        }
    }
}

fn timer() -> Result<OwnedFd, Error> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC)?;
    arm(&timer)?;
    Ok(timer)
}

/// For the end of time.
fn arm(timer: &OwnedFd) -> Result<(), Error> {
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec::default(), it_value: never };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// That a step is noticed takes a clock that may be set: tests/tests/system has one.
    #[tokio::test]
    async fn a_clock_that_is_not_set_is_quiet() {
        timer().unwrap();
        let steps = ClockSteps::new();
        assert!(tokio::time::timeout(Duration::from_millis(50), steps.next()).await.is_err());
        steps.0.notify_one();
        steps.next().await;
    }
}
