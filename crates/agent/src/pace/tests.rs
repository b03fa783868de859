use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn problem(code: &'static str, retry_after: Option<Duration>) -> Result<(), Problem> {
    Err(Problem { retry_after, ..Problem::new(code, "x", "") })
}

#[test]
fn delays() {
    assert_eq!(next_delay(seconds(3600), None, 1, Some(seconds(120)), 0), seconds(120));
    assert_eq!(next_delay(seconds(3600), None, 1, Some(seconds(7200)), 0), seconds(7200));
    assert_eq!(next_delay(seconds(3600), None, 1, Some(seconds(1)), 0), seconds(15));
    assert_eq!(next_delay(seconds(3600), None, 0, None, 0), seconds(3600));
    assert_eq!(next_delay(seconds(3600), None, 0, None, 255), seconds(3960));
    assert_eq!(next_delay(seconds(3600), Some(seconds(300)), 0, None, 0), seconds(300));
    assert_eq!(next_delay(seconds(3600), Some(seconds(1)), 0, None, 0), seconds(60));
    assert_eq!(next_delay(seconds(30), Some(seconds(300)), 0, None, 0), seconds(30), "a hint only shortens");
    let retries: Vec<_> = (1..12).map(|n| next_delay(seconds(3600), None, n, None, 0).as_secs()).collect();
    assert_eq!(retries, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
    assert_eq!(next_delay(seconds(3600), None, u32::MAX, None, 0), seconds(3600));
}

/// Whatever is wrong with this host besides, and whoever answers in the server's place.
#[test]
fn the_check_itself_says_when_it_is_repeated() {
    let (two, day) = (Some(seconds(120)), Some(seconds(86_400)));
    let fine = || Ok(());
    for (checked, converged, failed, retry_after) in [
        (None, fine(), false, None),
        (None, problem("loader-unreachable", None), false, None),
        (Some(fine()), fine(), false, None),
        (Some(problem("kernel-not-covered", None)), fine(), false, None),
        (Some(problem("server-unreachable", None)), fine(), true, None),
        (Some(problem("server-failed", two)), fine(), true, two),
        (Some(problem("server-failed", two)), problem("wrong-signer", None), true, two),
        (Some(problem("document-malformed", None)), problem("crashed-livepatch", None), true, None),
        (Some(problem("vendor-not-served", None)), fine(), true, None),
        // Of this host: asking the server again does not help.
        (Some(problem("loader-unreachable", None)), problem("loader-unreachable", None), false, None),
        (Some(problem("trust-missing", None)), fine(), false, None),
        // The check went well, the download did not.
        (Some(fine()), problem("server-failed", day), true, day),
        (Some(fine()), problem("truncated-module", None), false, None),
        (Some(problem("server-failed", two)), problem("server-failed", day), true, day),
    ] {
        let expected = Pace { failed, retry_after };
        assert_eq!(Pace::of(checked.as_ref(), &converged), expected, "{checked:?} {converged:?}");
    }
}

#[test]
fn what_a_step_of_the_clock_changes() {
    let now = seconds(1000);
    let (well, failed) = (Pace::default(), Pace { failed: true, retry_after: None });
    let told = Pace { failed: true, retry_after: Some(seconds(600)) };
    let hour = Some(seconds(3600));
    // How the round before ended, what the livepatch waited for then and waits for now, how much later that is; how long
    // is left.
    for (pace, before, after, later, left) in [
        // Nothing waits: no round that is not due.
        (well, None, None, 0, 7200),
        (well, None, None, 60, 7140),
        // The host slept over its check.
        (well, None, None, 9999, 0),
        // What it waits for is further away, nearer, or has come.
        (well, hour, Some(seconds(5000)), 0, 5001),
        (well, hour, Some(seconds(30)), 0, 31),
        (well, hour, None, 0, 1),
        (well, hour, None, 9999, 0),
        // A window that was open when the round ended, and is not now.
        (well, None, Some(seconds(30)), 0, 31),
        // It may have failed by the clock, or for want of a network.
        (failed, None, None, 0, 15),
        (failed, None, None, 7190, 10),
        // Not before the server wants.
        (told, hour, None, 0, 600),
        (told, hour, None, 100, 500),
    ] {
        let schedule = Schedule::new(now, seconds(7200), pace, before, 0);
        let then = now + seconds(later);
        let stepped = schedule.after_step(then, after);
        assert_eq!(stepped.left(then), seconds(left), "{pace:?} {before:?} {after:?} {later}");
    }
    // Not all hosts of a fleet in the same second.
    assert_eq!(
        Schedule::new(now, seconds(7200), well, hour, 99).after_step(now, None).left(now),
        seconds(100)
    );
}

#[test]
fn what_a_command_changes() {
    let now = seconds(1000);
    let well = Pace::default();
    let failed = |wait: Option<u64>| Pace { failed: true, retry_after: wait.map(seconds) };
    let hour = Some(seconds(3600));
    // What the livepatch waited for, what the command's check said, what it waits for now; how long is left.
    for (before, pace, after, left) in [
        (None, None, None, 7200),
        (None, Some(well), None, 7200),
        (None, Some(failed(None)), None, 15),
        (None, Some(failed(Some(600))), None, 600),
        (None, Some(failed(Some(9999))), None, 9999),
        // A livepatch that it found waits for a time; or does no more, since it was applied or taken back.
        (None, Some(well), Some(seconds(900)), 901),
        (hour, Some(well), None, 7200),
        (hour, None, None, 7200),
        (None, None, Some(seconds(900)), 901),
        // Not before the server wants.
        (None, Some(failed(Some(1200))), Some(seconds(900)), 1200),
    ] {
        let schedule = Schedule::new(now, seconds(7200), well, before, 0);
        let told = schedule.after_command(now, pace, after);
        assert_eq!(told.left(now), seconds(left), "{before:?} {pace:?} {after:?}");
    }
    // It does not push away what is due sooner.
    let soon = Schedule::new(now, seconds(10), well, None, 0);
    assert_eq!(soon.after_command(now, Some(failed(None)), None).left(now), seconds(10));
}

#[test]
fn what_is_due_first() {
    let left = |delay, retry_after, waits: Option<u64>| {
        let pace = Pace { failed: false, retry_after };
        Schedule::new(seconds(10), seconds(delay), pace, waits.map(seconds), 0).left(seconds(40)).as_secs()
    };
    assert_eq!(left(3600, None, None), 3570);
    assert_eq!(left(3600, None, Some(600)), 571);
    assert_eq!(left(300, None, Some(600)), 270);
    assert_eq!(left(20, None, None), 0);
    assert_eq!(left(3600, Some(seconds(3600)), Some(600)), 3570);
}
