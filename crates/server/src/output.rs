//! Lists for people and programs.

use std::io::Write as _;

use anyhow::Context as _;
use livepatch_manifest::CveEntry;
use livepatch_types::CveCoverage;
use serde_json::Value;

use crate::arguments::Format;
use crate::{Exit, Failure};

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
        .map_err(|error| Failure::new(Exit::Failed, error))
}

/// Prints a listing: `rows` under `head` for people, or `objects` as one JSON array.
pub(crate) fn list(
    format: Format,
    head: &[&str],
    rows: &[Vec<String>],
    objects: Vec<Value>,
) -> Result<(), Failure> {
    match format {
        Format::Json => print(&format!("{:#}\n", Value::Array(objects))),
        Format::Text => print(&table(head, rows)),
    }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|name| name.to_uppercase()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A value that may be missing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A CVE with a remark when it is not wholly fixed.
pub(crate) fn cve(entry: &CveEntry) -> String {
    match entry.coverage {
        CveCoverage::Whole => entry.id.to_string(),
        CveCoverage::Partial => format!("{} (partial)", entry.id),
    }
}
