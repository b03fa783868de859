//! `livepatch hold` and `unhold`: the CVEs in `held-cves` of the daemon's configuration; the rest of it stays as it is.

use std::io::Write;
use std::path::Path;

use livepatch_types::CveId;
use serde_json::json;
use toml_edit::{Array, DocumentMut, value};

use crate::command::Format;
use crate::file::replace_configuration;
use crate::{CliError, Exit};

const KEY: &str = "held-cves";
const RESTART: &str =
    "hint: `systemctl restart livepatchd` makes it so: both daemons read their configuration then\n";

/// What to do with the CVEs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Hold,
    Unhold,
}

/// Changes the configuration and says what is held then.
pub(crate) fn run(
    path: &Path,
    cves: &[CveId],
    change: Change,
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, CliError> {
    let failed = |why: String| CliError::Config { path: path.to_owned(), why };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => String::new(),
            std::io::ErrorKind::PermissionDenied => return Err(CliError::NotPermitted),
            _ => return Err(failed(error.to_string())),
        },
    };
    let (new, held) = edited(&text, cves, change).map_err(failed)?;
    let changed = new != text;
    if changed {
        replace_configuration(path, &new)?;
    }
    let said = match format {
        Format::Json => json!({ "schema": 1, "held": held, "changed": changed }).to_string() + "\n",
        Format::Text => {
            let lines: String = held.iter().map(|cve| format!("held: {cve}\n")).collect();
            let lines = if lines.is_empty() { "nothing is held\n".into() } else { lines };
            lines + if changed { RESTART } else { "" }
        }
    };
    out.write_all(said.as_bytes())?;
    Ok(Exit::Ok)
}

/// The changed text, and the CVEs that it holds. What is no list of CVEs is left alone.
fn edited(text: &str, cves: &[CveId], change: Change) -> Result<(String, Vec<CveId>), String> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let not_a_list = || format!("{KEY} is not a list of CVEs");
    let id = |item: &toml_edit::Value| item.as_str().and_then(|text| CveId::parse(text).ok());
    let item = document.entry(KEY).or_insert_with(|| value(Array::new()));
    let list = item.as_array_mut().ok_or_else(not_a_list)?;
    if list.iter().any(|item| id(item).is_none()) {
        return Err(not_a_list());
    }
    let before: Vec<CveId> = list.iter().filter_map(id).collect();
    match change {
        Change::Hold => {
            for cve in cves {
                if !list.iter().any(|item| id(item) == Some(*cve)) {
                    list.push(cve.to_string());
                }
            }
        }
        Change::Unhold => list.retain(|item| id(item).is_none_or(|held| !cves.contains(&held))),
    }
    let held: Vec<CveId> = list.iter().filter_map(id).collect();
    // Nothing is written where nothing changes, not even an empty list.
    let text = if held == before { text.to_owned() } else { document.to_string() };
    Ok((text, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_file_stays() {
        let cves = |texts: &[&str]| texts.iter().map(|text| CveId::parse(text).unwrap()).collect::<Vec<_>>();
        let one = "# ours\nserver = \"https://a\" # here\nheld-cves = [\"CVE-2026-1001\"] # why\n[odd]\n";
        for (text, asked, change, expected) in [
            ("", &["CVE-2026-1001"][..], Change::Hold, "held-cves = [\"CVE-2026-1001\"]\n"),
            ("", &[], Change::Hold, ""),
            ("", &["CVE-2026-1001"], Change::Unhold, ""),
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
            assert_eq!(edited(text, &cves(asked), change).unwrap().0, expected);
        }
        for text in ["=", "held-cves = \"CVE-2026-1001\"", "held-cves = [\"LSN-0113-1\"]", "held-cves = [1]"]
        {
            let error = edited(text, &cves(&["CVE-2026-1001"]), Change::Hold).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
