use std::fmt::Write as _;

use jiff::Timestamp;
use livepatch_types::{CheckState, PatchState, plural};

use super::model::{UNSET, time};
use super::{LegacyStatus, Support};

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What matters.
    Summary,
    /// All that is known.
    Verbose,
}

/// For people. Programs read it too, splitting at the first colon: every line is `key: value`, no key has a colon, and
/// nothing that comes from outside breaks a line.
pub fn humane(status: &LegacyStatus, detail: Detail, now: Timestamp) -> String {
    let mut text = String::new();
    let mut row = |key: &str, value: &str| {
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let value = if value.trim().is_empty() { "unknown" } else { &value };
        let _ = writeln!(text, "{key}: {value}");
    };
    row("last check", &ago(status.last_check, now));
    row("kernel", &status.kernel);
    row("server check-in", check(status.check));
    row("kernel state", &kernel(status));
    row("patch state", patch(status.patch));
    if !status.version.is_empty() {
        row("patch version", &status.version);
    }
    row("tier", &status.tier);
    row("machine id", &status.machine_id);
    if detail == Detail::Verbose {
        row("client version", &status.client_version);
        row("architecture", &status.architecture);
        row("cpu model", &status.cpu_model);
        row("boot time", &if status.boot_time == UNSET { String::new() } else { time(status.boot_time) });
        for fix in &status.fixes {
            row(if fix.patched { "fixed" } else { "not fixed" }, &format!("{} {}", fix.cve, fix.title));
        }
        if let Some(excluded) = &status.excluded {
            row("kernel patches blocked", &format!("by {}; the following is left open", excluded.option));
            let published = excluded.released.strftime("%Y-%m-%d %H:%M:%S +0000 UTC");
            for cve in &excluded.cves {
                row("blocked", &format!("{cve} {published} {}", excluded.notice));
            }
        }
    }
    text
}

fn check(check: CheckState) -> &'static str {
    match check {
        CheckState::NeedsCheck => "pending",
        CheckState::Checked => "succeeded",
        CheckState::CheckFailed => "failed",
    }
}

fn kernel(status: &LegacyStatus) -> String {
    let series = series(&status.kernel);
    match status.support {
        Support::Supported if !status.upgrade_required_date.is_empty() => format!(
            "✓ kernel {} is covered by Livepatch until {}, please install available kernel updates and reboot before then",
            status.kernel, status.upgrade_required_date
        ),
        Support::Supported => format!("✓ kernel series {series} is covered by Livepatch"),
        Support::KernelEndOfLife => format!("✗ kernel series {series} is no longer covered by Livepatch"),
        Support::KernelUpgradeRequired => {
            format!("✗ kernel {} is not covered any more, upgrade the kernel and reboot", status.kernel)
        }
        Support::Unsupported => format!("✗ kernel {} is not covered by Livepatch", status.kernel),
        Support::Unknown => "whether this kernel is covered is not known yet".into(),
    }
}

/// `5.4` of `5.4.0-216.236-generic`.
fn series(kernel: &str) -> &str {
    kernel.match_indices('.').nth(1).map_or(kernel, |(end, _)| &kernel[..end])
}

fn patch(patch: PatchState) -> &'static str {
    match patch {
        PatchState::Unapplied => "✗ a live kernel patch module is not applied yet",
        PatchState::Applying => "a live kernel patch module is being applied",
        PatchState::Applied => "✓ all applicable live kernel patch modules applied",
        PatchState::AppliedWithBug => "✗ applied, but the kernel complained afterwards",
        PatchState::ApplyFailed => "✗ applying a live kernel patch module failed",
        PatchState::NothingToApply => "✓ no live kernel patch modules for this kernel",
        PatchState::KernelUpgradeRequired => "✗ a newer kernel is required, upgrade the kernel and reboot",
        PatchState::Unknown => "unknown",
    }
}

/// `52 seconds ago`, in the largest unit that fits; a time that is still to come (clocks are set back) is `now`.
fn ago(at: Timestamp, now: Timestamp) -> String {
    const UNITS: [(i64, &str, &str); 5] = [
        (7 * 86_400, "week", "weeks"),
        (86_400, "day", "days"),
        (3600, "hour", "hours"),
        (60, "minute", "minutes"),
        (1, "second", "seconds"),
    ];
    if at == UNSET {
        return "never".into();
    }
    let seconds = now.as_second() - at.as_second();
    let unit = UNITS.into_iter().find(|(length, _, _)| seconds >= *length);
    unit.map_or_else(
        || "now".into(),
        |(length, one, many)| {
            let count = usize::try_from(seconds / length).unwrap_or_default();
            format!("{} ago", plural(count, one, many))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago() {
        let now = Timestamp::constant(1_795_526_400, 0);
        for (seconds, expected) in [
            (-5, "now"),
            (0, "now"),
            (1, "1 second ago"),
            (52, "52 seconds ago"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (3 * 86_400, "3 days ago"),
            (30 * 86_400, "4 weeks ago"),
        ] {
            assert_eq!(ago(now - jiff::SignedDuration::from_secs(seconds), now), expected);
        }
        assert_eq!(ago(UNSET, now), "never");
    }

    #[test]
    fn series_of_kernels() {
        assert_eq!(series("5.4.0-216.236-generic"), "5.4");
        assert_eq!(series("6.1"), "6.1");
    }
}
