use std::collections::BTreeSet;

use super::*;

#[test]
fn an_event_leads_to_one_stage() {
    let mut seen = BTreeSet::new();
    for (from, event, to) in TRANSITIONS {
        assert!(seen.insert(format!("{from:?} {event:?}")), "{from:?} {event:?} twice");
        assert_eq!(from.after(*event), Some(*to));
    }
    assert_eq!(Stage::Blocked.check(Event::Insert).unwrap_err().code, "guard-transition");
}

/// Nothing but root leads out of `Blocked`, and nothing is loaded that was not looked at.
#[test]
fn only_root_leads_out_of_blocked() {
    let out: Vec<_> = TRANSITIONS.iter().filter(|(from, ..)| *from == Stage::Blocked).collect();
    assert_eq!(out, [&(Stage::Blocked, Event::Cleared, Stage::Absent)]);
    for (from, event, _) in TRANSITIONS.iter().filter(|(_, _, to)| *to == Stage::Inserting) {
        assert!(matches!((from, event), (Stage::Absent | Stage::Waiting, Event::Insert)));
    }
}

/// The drawing in the docs has these transitions and no others.
#[test]
fn the_drawing_is_true() {
    let page = include_str!("../../../../docs/crash-guard.md");
    let drawn: BTreeSet<String> = page
        .lines()
        .filter(|line| line.contains(" --> ") && !line.contains("[*]"))
        .map(|line| line.trim().to_owned())
        .collect();
    let word = |word: &dyn std::fmt::Debug| {
        let name = format!("{word:?}");
        let mut words = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.push(letter.to_ascii_lowercase());
        }
        words
    };
    let table = TRANSITIONS.iter().map(|(from, by, to)| format!("{from:?} --> {to:?}: {}", word(by)));
    assert_eq!(drawn, table.collect());
}

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
