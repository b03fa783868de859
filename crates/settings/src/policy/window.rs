//! A maintenance window: days, a time of day, a time zone.
//!
//! `sat,sun 02:00-06:00 Europe/Berlin`, `daily 22:00-04:00`, `mon 09:00-12:00 UTC`. A window that ends before it begins
//! ends on the next day, and its days are those on which it begins. Without a zone it is the host's own.

use std::str::FromStr;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, ZonedDateTime};

/// The shortest window, in minutes: a host asks its server about once an hour, and comes when one opens.
const SHORTEST_MINUTES: i64 = 15;

/// When something new may be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not three words.
    #[error("it is not DAYS HH:MM-HH:MM with a time zone behind it or none")]
    Form,
    /// Not a day of the week.
    #[error("{0:?} is no day: mon to sun, or daily")]
    Day(String),
    /// Not a time of day.
    #[error("{0:?} is no time of day from 00:00 to 23:59")]
    Time(String),
    /// Empty, or too short to be met.
    #[error("it is shorter than {SHORTEST_MINUTES} minutes")]
    TooShort,
    /// Not in the system's database.
    #[error("the time zone {0:?} is not known here: is tzdata installed?")]
    Zone(String),
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (days, hours, zone) = match words.as_slice() {
            [days, hours] => (days, hours, TimeZone::system()),
            [days, hours, zone] => {
                let unknown = |_| WindowError::Zone((*zone).to_owned());
                (days, hours, TimeZone::get(zone).map_err(unknown)?)
            }
            _ => return Err(WindowError::Form),
        };
        let days = match *days {
            "daily" => (1..=7).filter_map(|day| Weekday::from_monday_one_offset(day).ok()).collect(),
            days => days.split(',').map(day).collect::<Result<_, _>>()?,
        };
        let (from, to) = hours.split_once('-').ok_or(WindowError::Form)?;
        let window = Self { days, from: time(from)?, to: time(to)?, zone };
        if window.minutes() < SHORTEST_MINUTES { Err(WindowError::TooShort) } else { Ok(window) }
    }
}

fn day(text: &str) -> Result<Weekday, WindowError> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let at = names.iter().position(|name| *name == text);
    at.and_then(|at| Weekday::from_monday_zero_offset(at as i8).ok())
        .ok_or_else(|| WindowError::Day(text.to_owned()))
}

fn time(text: &str) -> Result<Time, WindowError> {
    let number = |digits: &str| -> Option<i8> {
        (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse().ok())?
    };
    text.split_once(':')
        .and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok())
        .ok_or_else(|| WindowError::Time(text.to_owned()))
}

impl Window {
    /// Its length by the clock on the wall.
    fn minutes(&self) -> i64 {
        let of_day = |time: Time| i64::from(time.hour()) * 60 + i64::from(time.minute());
        match of_day(self.to) - of_day(self.from) {
            0 => 0,
            minutes => minutes.rem_euclid(24 * 60),
        }
    }

    /// Begin and end of the window that begins so many days after this one, if one begins then.
    fn on(&self, today: &ZonedDateTime, days_later: i64) -> Option<(Timestamp, Timestamp)> {
        let date = today.date().checked_add(days_later.days()).ok()?;
        if !self.days.contains(&date.weekday()) {
            return None;
        }
        let end = if self.from < self.to { date } else { date.tomorrow().ok()? };
        // An hour that a change of the clocks leaves out lies where it would have been.
        let at = |date: jiff::civil::Date, time| {
            Some(date.to_datetime(time).to_zoned_datetime(self.zone.clone()).ok()?.timestamp())
        };
        Some((at(date, self.from)?, at(end, self.to)?))
    }

    /// Whether something may be applied now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let today = now.to_zoned_datetime(self.zone.clone());
        [-1, 0].into_iter().filter_map(|day| self.on(&today, day)).any(|(from, to)| from <= now && now < to)
    }

    /// When it opens next.
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned_datetime(self.zone.clone());
        (0..=8).filter_map(|day| self.on(&today, day)).map(|(from, _)| from).find(|from| now < *from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_and_next() {
        // 2026-11-21 is a Saturday. In Berlin the clocks go forward on 2026-03-29 at 02:00, and back on 2026-10-25.
        for (window, now, open, next) in [
            ("daily 02:00-04:00 UTC", "2026-11-21T01:59:59Z", false, "2026-11-21T02:00:00Z"),
            ("daily 02:00-04:00 UTC", "2026-11-21T02:00:00Z", true, "2026-11-22T02:00:00Z"),
            ("daily 02:00-04:00 UTC", "2026-11-21T04:00:00Z", false, "2026-11-22T02:00:00Z"),
            ("sat,sun 02:00-06:00 Europe/Berlin", "2026-11-21T01:00:00Z", true, "2026-11-22T01:00:00Z"),
            ("sat,sun 02:00-06:00 Europe/Berlin", "2026-11-22T05:00:00Z", false, "2026-11-28T01:00:00Z"),
            // Over midnight: the night from Friday to Saturday.
            ("fri 22:00-04:00 UTC", "2026-11-21T03:00:00Z", true, "2026-11-27T22:00:00Z"),
            ("sat 22:00-04:00 UTC", "2026-11-21T03:00:00Z", false, "2026-11-21T22:00:00Z"),
            // A day long.
            ("sun 00:00-23:59 America/New_York", "2026-11-22T05:00:00Z", true, "2026-11-29T05:00:00Z"),
            ("sun 02:00-04:00 Europe/Berlin", "2026-03-28T12:00:00Z", false, "2026-03-29T01:00:00Z"),
            ("sun 01:00-05:00 Europe/Berlin", "2026-10-25T03:59:00Z", true, "2026-11-01T00:00:00Z"),
            ("mon 00:00-12:00 UTC", "1970-01-01T00:00:00Z", false, "1970-01-05T00:00:00Z"),
        ] {
            let parsed: Window = window.parse().unwrap();
            let now: Timestamp = now.parse().unwrap();
            assert_eq!(parsed.is_open(now), open, "{window} {now}");
            assert_eq!(parsed.next_opening(now).unwrap().to_string(), next, "{window} {now}");
        }
    }

    #[test]
    fn what_is_no_window() {
        for (text, why) in [
            ("", "DAYS"),
            ("daily", "DAYS"),
            ("daily 02:00 04:00 UTC x", "DAYS"),
            ("daily 02:00", "DAYS"),
            ("Sat 02:00-04:00", "\"Sat\" is no day"),
            ("sat,,sun 02:00-04:00", "\"\" is no day"),
            ("daily 24:00-04:00", "\"24:00\" is no time"),
            ("daily 2:00-04:00", "\"2:00\" is no time"),
            ("daily +2:00-04:00", "\"+2:00\" is no time"),
            ("daily 02:00-02:00", "shorter than 15 minutes"),
            ("daily 02:00-02:14", "shorter than 15 minutes"),
            ("daily 02:00-04:00 Mars/Base", "\"Mars/Base\" is not known"),
            ("daily 02:00-04:00 ../../etc/passwd", "is not known"),
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_window_that_is_closed_opens() {
        let windows =
            ["daily 23:30-00:30 Europe/Berlin", "sun 02:30-02:45 Europe/Berlin", "wed 00:00-23:59 UTC"];
        for window in windows {
            let parsed: Window = window.parse().unwrap();
            let mut now: Timestamp = "2026-03-20T00:07:00Z".parse().unwrap();
            for _ in 0..400 {
                let next = parsed.next_opening(now).unwrap();
                assert!(now < next && parsed.is_open(next), "{window} {now} {next}");
                now = now.checked_add(7.hours()).unwrap();
            }
        }
    }
}
