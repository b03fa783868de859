//! `livepatch hold` and `unhold`: the CVEs in `held-cves` and the notices in `held-notices` of the daemon's configuration; the
//! rest of it stays as it is.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use livepatch_types::{CveId, InvalidValue, NoticeId};
use serde_json::json;
use toml_edit::{Array, DocumentMut, value};

use crate::command::Format;
use crate::settings::{self, Told};
use crate::{CliError, Exit};

const CVES: &str = "held-cves";
const NOTICES: &str = "held-notices";

/// What to do with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Hold,
    Unhold,
}

/// A CVE or a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holdable {
    Cve(CveId),
    Notice(NoticeId),
}

impl FromStr for Holdable {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_notice = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("lsn-"));
        if is_notice { NoticeId::parse(text).map(Self::Notice) } else { CveId::parse(text).map(Self::Cve) }
    }
}

/// What is held.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    cves: Vec<CveId>,
    notices: Vec<NoticeId>,
}

/// Changes the configuration and says what is held then.
pub(crate) fn run(
    path: &Path,
    asked: &[Holdable],
    change: Change,
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, CliError> {
    let failed = |why: String| CliError::Config { path: path.to_owned(), why };
    let text = settings::read(path)?;
    let (new, held) = edited(&text, asked, change).map_err(failed)?;
    let changed = new != text;
    let told = if changed {
        settings::write(path, &new)?;
        settings::tell(path)?
    } else {
        Told::Yes
    };
    let Held { cves, notices } = held;
    let said = match format {
        Format::Json => {
            json!({ "schema": 1, "held": cves, "held_notices": notices, "changed": changed }).to_string()
                + "\n"
        }
        Format::Text => {
            let cves = cves.iter().map(ToString::to_string);
            let all = cves.chain(notices.iter().map(ToString::to_string));
            let lines: String = all.map(|what| format!("held: {what}\n")).collect();
            let lines = if lines.is_empty() { "nothing is held\n".into() } else { lines };
            lines + if told == Told::No { settings::RESTART_HINT } else { "" }
        }
    };
    out.write_all(said.as_bytes())?;
    Ok(Exit::Ok)
}

/// The changed text, and what it holds. What is no list of CVEs or notices is left alone.
fn edited(text: &str, asked: &[Holdable], change: Change) -> Result<(String, Held), String> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let cves: Vec<CveId> =
        asked.iter().filter_map(|what| if let Holdable::Cve(id) = what { Some(*id) } else { None }).collect();
    let notices: Vec<NoticeId> = asked
        .iter()
        .filter_map(|what| if let Holdable::Notice(id) = what { Some(*id) } else { None })
        .collect();
    let (cves, cves_changed) = change_list(&mut document, CVES, "CVEs", &cves, change)?;
    let (notices, notices_changed) = change_list(&mut document, NOTICES, "notices", &notices, change)?;
    // Nothing is written where nothing changes, not even an empty list.
    let changed = cves_changed || notices_changed;
    let text = if changed { document.to_string() } else { text.to_owned() };
    Ok((text, Held { cves, notices }))
}

/// Changes one list; what is in it then, and whether that is something else.
fn change_list<T: FromStr + Copy + PartialEq + Display>(
    document: &mut DocumentMut,
    key: &str,
    kind: &str,
    asked: &[T],
    change: Change,
) -> Result<(Vec<T>, bool), String> {
    let not_a_list = || format!("{key} is not a list of {kind}");
    let id = |item: &toml_edit::Value| item.as_str().and_then(|text| text.parse::<T>().ok());
    let mut list = match document.get(key) {
        None => Array::new(),
        Some(item) => item.as_array().cloned().ok_or_else(not_a_list)?,
    };
    if list.iter().any(|item| id(item).is_none()) {
        return Err(not_a_list());
    }
    let before: Vec<T> = list.iter().filter_map(id).collect();
    match change {
        Change::Hold => {
            for what in asked {
                if !list.iter().any(|item| id(item) == Some(*what)) {
                    list.push(what.to_string());
                }
            }
        }
        Change::Unhold => list.retain(|item| id(item).is_none_or(|held| !asked.contains(&held))),
    }
    let held: Vec<T> = list.iter().filter_map(id).collect();
    let changed = held != before;
    if changed {
        match document.get_mut(key).and_then(toml_edit::Item::as_array_mut) {
            Some(there) => *there = list,
            None => drop(document.insert(key, value(list))),
        }
    }
    Ok((held, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_file_stays() {
        let asked = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let one = "# ours\nserver = \"https://a\" # here\nheld-cves = [\"CVE-2026-1001\"] # why\n[odd]\n";
        for (text, what, change, expected) in [
            ("", &["CVE-2026-1001"][..], Change::Hold, "held-cves = [\"CVE-2026-1001\"]\n"),
            ("", &[], Change::Hold, ""),
            ("", &["CVE-2026-1001", "LSN-0113-1"], Change::Unhold, ""),
            ("", &["lsn-113-1"], Change::Hold, "held-notices = [\"LSN-0113-1\"]\n"),
            (
                "held-notices = [\"LSN-0113-1\"] # why\n",
                &["LSN-113-1"],
                Change::Unhold,
                "held-notices = [] # why\n",
            ),
            (
                one,
                &["CVE-2026-1001", "cve-2026-1002", "CVE-2026-1002"],
                Change::Hold,
                "# ours\nserver = \"https://a\" # here\nheld-cves = [\"CVE-2026-1001\", \"CVE-2026-1002\"] # why\n[odd]\n",
            ),
            (
                one,
                &["CVE-2026-1001"],
                Change::Unhold,
                "# ours\nserver = \"https://a\" # here\nheld-cves = [] # why\n[odd]\n",
            ),
        ] {
            assert_eq!(edited(text, &asked(what), change).unwrap().0, expected);
        }
        for text in [
            "=",
            "held-cves = \"CVE-2026-1001\"",
            "held-cves = [\"LSN-0113-1\"]",
            "held-cves = [1]",
            "held-notices = [\"CVE-2026-1001\"]",
        ] {
            let error = edited(text, &asked(&["CVE-2026-1001"]), Change::Hold).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
        for text in ["", "113", "LSN-0113", "lsn-x-1", "CVE-1"] {
            assert!(text.parse::<Holdable>().is_err(), "{text}");
        }
    }
}
