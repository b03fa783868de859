//! `Release`: what an archive signs (repository format of Debian, wiki.debian.org/DebianRepository/Format).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use livepatch_types::Sha256Digest;

use crate::paragraph::Paragraph;

/// Most files that a `Release` may list. Debian's lists 3,000.
pub const MAX_FILES: usize = 100_000;

/// Why a `Release` cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// A field that is needed.
    #[error("it has no field {0}")]
    NoField(&'static str),
    /// A field twice.
    #[error("it has the field {0} twice")]
    Doubled(String),
    /// A field that is not what it should be.
    #[error("its field {field} is not what it should be: {text:?}")]
    Field {
        /// Which.
        field: &'static str,
        /// The text, cut to 80 characters.
        text: String,
    },
    /// More files than any archive has.
    #[error("it lists more than {MAX_FILES} files")]
    TooManyFiles,
}

/// A file as `Release` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedFile {
    /// Its SHA-256.
    pub sha256: Sha256Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// What a `Release` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Whose archive it is.
    pub origin: Option<String>,
    /// What part of it, by its role: `oldstable-updates`; in Ubuntu `jammy-updates`.
    pub suite: Option<String>,
    /// What part of it, by its name: `bookworm-updates`; in Ubuntu `jammy` for every pocket.
    pub codename: Option<String>,
    /// When it was made.
    pub date: Timestamp,
    /// Until when it is to be believed.
    pub valid_until: Option<Timestamp>,
    /// Whether files are found by their digest as well, so that they do not change under whoever reads.
    pub by_hash: bool,
    /// The files by their path.
    pub files: BTreeMap<String, ListedFile>,
}

impl ReleaseFile {
    /// Reads the text, whose signature was verified.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let fields = Paragraph::parse(text);
        if let Some(name) = fields.doubled {
            return Err(ReleaseError::Doubled(name));
        }
        let date = fields.value("date").ok_or(ReleaseError::NoField("Date"))?;
        let listed = fields.lines("sha256").ok_or(ReleaseError::NoField("SHA256"))?;
        if listed.len() > MAX_FILES {
            return Err(ReleaseError::TooManyFiles);
        }
        let mut files = BTreeMap::new();
        for line in listed {
            let (path, file) = listed_file(line).ok_or_else(|| field("SHA256", line))?;
            if files.insert(path.to_owned(), file).is_some_and(|before| before != file) {
                return Err(field("SHA256", line));
            }
        }
        let owned = |name: &str| fields.value(name).map(str::to_owned);
        Ok(Self {
            origin: owned("origin"),
            suite: owned("suite"),
            codename: owned("codename"),
            date: time("Date", date)?,
            valid_until: fields.value("valid-until").map(|text| time("Valid-Until", text)).transpose()?,
            by_hash: fields.value("acquire-by-hash") == Some("yes"),
            files,
        })
    }
}

fn field(field: &'static str, text: &str) -> ReleaseError {
    ReleaseError::Field { field, text: text.chars().take(80).collect() }
}

/// `SHA-256 length path`.
fn listed_file(line: &str) -> Option<(&str, ListedFile)> {
    let mut words = line.split_ascii_whitespace();
    let sha256 = Sha256Digest::parse(words.next()?).ok()?;
    let size_bytes = words.next()?.parse().ok()?;
    let path = words.next()?;
    words.next().is_none().then_some((path, ListedFile { sha256, size_bytes }))
}

/// `Sat, 11 Jul 2026 10:16:37 UTC`: the format allows no other zone, and day and hour without a leading zero.
fn time(name: &'static str, text: &str) -> Result<Timestamp, ReleaseError> {
    let wrong = || field(name, text);
    let rest =
        text.strip_suffix("UTC").or_else(|| text.strip_suffix("+0000")).or_else(|| text.strip_suffix("GMT"));
    let parsed = DateTime::strptime("%a, %d %b %Y %H:%M:%S", rest.ok_or_else(wrong)?.trim_end());
    TimeZone::UTC.to_timestamp(parsed.map_err(|_| wrong())?).map_err(|_| wrong())
}
