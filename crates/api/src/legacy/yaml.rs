use std::fmt::Write as _;

use super::LegacyStatus;
use super::model::{check_word, patch_word, time};

/// The form of client 10.8. Times are plain, so that a reader gets times; version and date are texts.
pub fn yaml(status: &LegacyStatus) -> String {
    let mut text = String::new();
    row(&mut text, "client-version", &scalar(&status.client_version));
    row(&mut text, "machine-id", &scalar(&status.machine_id));
    row(&mut text, "architecture", &scalar(&status.architecture));
    row(&mut text, "cpu-model", &scalar(&status.cpu_model));
    row(&mut text, "last-check", &time(status.last_check));
    row(&mut text, "boot-time", &time(status.boot_time));
    row(&mut text, "uptime", &scalar(&duration(status.uptime_seconds)));
    text.push_str("status:\n");
    row(&mut text, "- kernel", &scalar(&status.kernel));
    row(&mut text, "  running", "true");
    text.push_str("  livepatch:\n");
    row(&mut text, "    checkState", check_word(status.check));
    row(&mut text, "    patchState", patch_word(status.patch));
    row(&mut text, "    version", &quoted(&status.version));
    row(&mut text, "    fixes", &fixes(status));
    row(&mut text, "  supported", status.support.word());
    row(&mut text, "  upgradeRequiredDate", &quoted(&status.upgrade_required_date));
    row(&mut text, "tier", &scalar(&status.tier));
    // This client has no enrolment by cloud.
    text.push_str("cloud-enabled:\n");
    row(&mut text, "  cloud-enabled", "false");
    for key in ["  cloud", "  region", "  az"] {
        row(&mut text, key, &quoted(""));
    }
    text
}

fn row(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key}: {value}");
}

/// A block of lines without a line break at its end.
fn fixes(status: &LegacyStatus) -> String {
    if status.fixes.is_empty() {
        return quoted("");
    }
    let lines = status.fixes.iter().map(|fix| {
        let rest = if fix.patched { "" } else { " (unpatched)" };
        format!("\n      * {}{rest}", fix.cve)
    });
    std::iter::once("|-".to_owned()).chain(lines).collect()
}

/// `19h19m56s`: units from the first that is not zero.
fn duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A text as a YAML scalar in one line: plain where every reader takes it for that text, otherwise quoted.
pub fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'/');
    let all = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let ends = !text.ends_with([' ', ':']);
    first && all && ends && !text.contains(": ") && !text.contains(" #") && !is_another_type(text)
}

/// Whether a plain scalar would be read as a number, time, truth value or nothing (YAML 1.1, which readers of the
/// original use, <https://yaml.org/type/>).
fn is_another_type(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"];
    let word = text.to_ascii_lowercase();
    let number = word.replace('_', "");
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let based = |prefix, radix| number.strip_prefix(prefix).is_some_and(|rest| digits(rest, radix));
    let year = word.get(..5).is_some_and(|start| digits(&start[..4], 10) && start.ends_with('-'));
    let sexagesimal =
        word.contains(':') && word.bytes().all(|byte| byte.is_ascii_digit() || b":._".contains(&byte));
    WORDS.contains(&word.as_str())
        || number.parse::<f64>().is_ok()
        || based("0x", 16)
        || based("0o", 8)
        || based("0b", 2)
        || year
        || sexagesimal
}

/// Double quotes hold any text; JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (0, "0s"),
            (46, "46s"),
            (60, "1m0s"),
            (3600, "1h0m0s"),
            (69_596, "19h19m56s"),
            (360_000, "100h0m0s"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn plain_only_where_it_stays_a_text() {
        for text in
            ["amd64", "5.15.0-107.117-generic", "0.1.0", "A(R) B(TM) i7 CPU @ 2.60GHz", "5ae1f3", "19h19m56s"]
        {
            assert_eq!(scalar(text), text);
        }
        for (text, expected) in [
            ("", r#""""#),
            ("12", r#""12""#),
            ("113.1", r#""113.1""#),
            ("12345e67", r#""12345e67""#),
            ("0x1f", r#""0x1f""#),
            ("1_000", r#""1_000""#),
            ("12:30", r#""12:30""#),
            ("2026-11-25", r#""2026-11-25""#),
            ("No", r#""No""#),
            ("a: b", r#""a: b""#),
            ("a #b", r#""a #b""#),
            ("a:", r#""a:""#),
            ("- a", r#""- a""#),
            ("a\nb\u{1b}", r#""a\nb\u001b""#),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }
}
