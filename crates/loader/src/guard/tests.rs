use super::*;

#[test]
fn a_soak_ends_by_the_time_since_the_boot() {
    let seconds = Duration::from_secs;
    for (began, now, left) in [(10, 10, 900), (10, 909, 1), (10, 910, 0), (10, 5000, 0), (10, 0, 900)] {
        assert_eq!(soak_left(seconds(began), seconds(now), SOAK), seconds(left), "{began} {now}");
    }
}

#[test]
fn a_retry_waits_a_soak_after_all_that_is_known() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (noon, one) = (at("2026-11-28T12:00:00Z"), at("2026-11-28T13:00:00Z"));
    assert_eq!(retry_after(noon, None, SOAK), at("2026-11-28T12:15:00Z"));
    assert_eq!(retry_after(noon, Some(one), SOAK), at("2026-11-28T13:15:00Z"));
    assert_eq!(retry_after(one, Some(noon), SOAK), at("2026-11-28T13:15:00Z"), "the host's clock was ahead");
    let ahead = at("2099-01-01T00:00:00Z");
    assert_eq!(retry_after(ahead, Some(noon), SOAK), at("2026-11-29T12:15:00Z"), "and not for long");
    assert_eq!(retry_after(ahead, Some(Timestamp::MAX), SOAK), Timestamp::MAX);
    assert_eq!(retry_after(Timestamp::MAX, None, SOAK), Timestamp::MAX);
}

#[test]
fn the_end_of_a_host() {
    for (closed, panicked, again, expected) in [
        (true, true, true, Event::ShutDown),
        (false, false, false, Event::WentDown),
        (false, true, false, Event::Panicked),
        (false, false, true, Event::Panicked),
    ] {
        assert_eq!(end_of(closed, panicked, again), expected);
    }
}
