//! The status for people: aligned, readable without colour. Colours are taken out where the output is no terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use livepatch_api::daemon::{Check, Coverage, CoverageState, Cve, Failure, Patch, Reachability, Status};
use livepatch_types::{CheckState, CveCoverage, PatchState, Rating, Stage, plural};

use crate::verdict::age_seconds;

/// The whole status, at a time: ages are told.
pub fn status_text(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    row("enabled", if status.enabled { "yes".into() } else { "no".into() });
    match &status.kernel {
        Some(kernel) => {
            row("kernel", format!("{} ({})", kernel.release, kernel.architecture));
            row("build-id", kernel.build_id.to_string());
        }
        None => row("kernel", "not recognised".into()),
    }
    row("server", or_none(status.server.clone()));
    row("tier", or_none(status.tier.as_ref().map(ToString::to_string)));
    if let Some(cohort) = &status.cohort {
        row("cohort", cohort.to_string());
    }
    row("last check", check_text(&status.check, now));
    row("covered", covered_text(&status.coverage));
    let style = patch_style(status.patch.state);
    row("livepatch", format!("{style}{}{style:#}", patch_text(&status.patch)));
    if let Some(stage) = status.patch.stage.and_then(stage_text) {
        row("stage", stage.into());
    }
    if let Some(reboot) = &status.reboot {
        row("reboot", plain(&reboot.message));
    }
    if let Some(waiting) = &status.patch.waiting {
        row("waits", plain(&waiting.message));
    }
    if !status.patch.cves.is_empty() {
        text.push('\n');
        text.push_str(&cve_table(&status.patch.cves));
    }
    if let Some(problem) = &status.problem {
        text.push('\n');
        text.push_str(&problem_text(problem));
    }
    for note in &status.notes {
        text.push('\n');
        text.push_str(&note_text(note));
    }
    text
}

/// The CVEs that stay open because the settings of this host hold the offered livepatch back; nothing when none do.
pub(crate) fn open_text(status: &Status) -> String {
    let Some(waiting) = &status.patch.waiting else { return String::new() };
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
    let notice = or_unknown(waiting.notice.map(|notice| notice.to_string()));
    let released = or_unknown(waiting.released.map(time));
    let mut text = format!("\nleft open by the settings of this host ({}):\n", plain(&waiting.code));
    if waiting.open_cves.is_empty() {
        text.push_str("none: what is held back fixes nothing that is not fixed here\n");
    }
    for cve in &waiting.open_cves {
        let _ = writeln!(text, "{cve:<18}  {notice}  released {released}");
    }
    text
}

/// Green is well, yellow wants a look, red must be acted on.
fn patch_style(state: PatchState) -> Style {
    match state {
        PatchState::Applied | PatchState::NothingToApply => AnsiColor::Green.on_default(),
        PatchState::Unapplied | PatchState::Applying | PatchState::Unknown => AnsiColor::Yellow.on_default(),
        PatchState::AppliedWithBug | PatchState::ApplyFailed | PatchState::KernelUpgradeRequired => {
            AnsiColor::Red.on_default()
        }
    }
}

fn check_text(check: &Check, now: Timestamp) -> String {
    let age = |at: Timestamp| format!("{}, {}", ago(at, now), time(at));
    let succeeded = match check.at {
        Some(at) => format!("the last that succeeded was {}", age(at)),
        None => "none has succeeded yet".into(),
    };
    match check.state {
        CheckState::NeedsCheck if check.at.is_none() => no_check(check).into(),
        CheckState::NeedsCheck => format!("{}; {succeeded}", no_check(check)),
        CheckState::Checked => {
            let at = check.at.map(|at| format!(" {}", age(at))).unwrap_or_default();
            let mirror = check.mirror.as_ref().map(|url| format!(", from the mirror {}", plain(url)));
            format!("succeeded{at}{}", mirror.unwrap_or_default())
        }
        CheckState::CheckFailed => {
            let at = check.attempted_at.map(|at| format!(" {}", ago(at, now))).unwrap_or_default();
            format!("failed{at}; {succeeded}")
        }
    }
}

/// Why there is no check to speak of.
fn no_check(check: &Check) -> &'static str {
    match check.reachability {
        Reachability::Pending => "pending: the network is not up, it has no default route",
        _ => "none since the daemon started",
    }
}

/// How long ago, in the largest unit that there is one of.
fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = usize::try_from(age_seconds(at, now)).unwrap_or(usize::MAX);
    let age = match seconds {
        0..120 => return "just now".into(),
        120..7200 => plural(seconds / 60, "minute", "minutes"),
        7200..172_800 => plural(seconds / 3600, "hour", "hours"),
        _ => plural(seconds / 86_400, "day", "days"),
    };
    format!("{age} ago")
}

fn covered_text(coverage: &Coverage) -> String {
    let state = match coverage.state {
        CoverageState::Unknown => return "not known yet".into(),
        CoverageState::NotCovered => return "no".into(),
        CoverageState::Covered => "yes",
        CoverageState::UpgradeNeeded => "yes, but for a fix that no livepatch can have",
        CoverageState::Ended => "not any more",
        CoverageState::SeriesEnded => "not any more, nor any kernel of its series",
    };
    let until = coverage.until.map(|date| format!(", until {date}")).unwrap_or_default();
    let series = coverage.series_until.map(|date| format!(", its series until {date}")).unwrap_or_default();
    format!("{state}{until}{series}")
}

fn patch_text(patch: &Patch) -> String {
    let state = match patch.state {
        PatchState::Unapplied if patch.held => "not applied: held back since it was reverted here",
        PatchState::Unapplied => "not applied",
        PatchState::Applying => "being applied",
        PatchState::Applied => "applied",
        PatchState::AppliedWithBug => "applied, but the kernel complained afterwards",
        PatchState::ApplyFailed => "not applied: the last attempt failed",
        PatchState::NothingToApply => return "none for this kernel".into(),
        PatchState::KernelUpgradeRequired => {
            return "none any more for this kernel: a newer kernel is needed".into();
        }
        PatchState::Unknown => return "not known yet".into(),
    };
    let version = patch.version.map(|version| format!("{version} ")).unwrap_or_default();
    let at = patch.applied_at.map(|at| format!(" since {}", time(at))).unwrap_or_default();
    format!("{version}{state}{at}")
}

/// Where the livepatch is; nothing of one that is nowhere on its way.
fn stage_text(stage: Stage) -> Option<&'static str> {
    Some(match stage {
        Stage::Absent => return None,
        Stage::Downloaded => "downloaded, looked at next",
        Stage::Verified => "verified, loaded next",
        Stage::Inserting => "inserting",
        Stage::Transition => "transition: the kernel moves its tasks to it",
        Stage::Soaking => "soaking: in force, and not for long enough to be healthy",
        Stage::Healthy => "healthy",
        Stage::WithBug => "with bug: not applied again by itself",
        Stage::Reverting => "reverting: the kernel moves its tasks from it",
        Stage::Failed => "failed: tried again later",
        Stage::Waiting => "waiting: tried once more when the operator still wants it",
        Stage::Blocked => "blocked: not applied again by itself",
    })
}

fn cve_table(cves: &[Cve]) -> String {
    let rows: Vec<[String; 4]> = cves
        .iter()
        .map(|cve| {
            let fixed = match (cve.patched, cve.coverage) {
                (true, CveCoverage::Whole) => "fixed",
                (_, CveCoverage::Partial) => "not wholly",
                (false, CveCoverage::Whole) => "not fixed",
            };
            [cve.id.to_string(), rating(cve.rating).into(), fixed.into(), plain(&cve.title)]
        })
        .collect();
    let head = ["CVE", "rating", "here", "title"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.push_str(&row[3]);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn problem_text(problem: &Failure) -> String {
    let style = AnsiColor::Red.on_default().bold();
    let mut text =
        format!("{style}problem:{style:#} {} ({})\n", plain(&problem.message), plain(&problem.code));
    for hint in &problem.hints {
        let _ = writeln!(text, "hint: {}", plain(hint));
    }
    text
}

/// What is worth knowing beside what was asked for: one line, and hints.
pub(crate) fn note_text(note: &Failure) -> String {
    let mut text = format!("note: {} ({})\n", plain(&note.message), plain(&note.code));
    for hint in &note.hints {
        let _ = writeln!(text, "hint: {}", plain(hint));
    }
    text
}

pub(crate) fn rating(rating: Rating) -> &'static str {
    match rating {
        Rating::Negligible => "negligible",
        Rating::Low => "low",
        Rating::Medium => "medium",
        Rating::High => "high",
        Rating::Critical => "critical",
    }
}

/// To the second, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Some texts come from outside: nothing of them controls the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
