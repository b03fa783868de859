use crate::{InvalidValue, text_value};

/// A CVE identifier such as `CVE-2026-93146` (<https://www.cve.org/ResourcesSupport/FAQs>, "CVE ID syntax":
/// four digits of year, four or more digits of sequence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CveId {
    year: u16,
    number: u64,
}

impl CveId {
    /// Reads `CVE-YYYY-NNNN…`; lower case is accepted, because the legacy status writes it so.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("CVE id", why, text);
        let rest = text
            .strip_prefix("CVE-")
            .or_else(|| text.strip_prefix("cve-"))
            .ok_or_else(|| refuse("it does not start with CVE-"))?;
        let (year, number) = rest.split_once('-').ok_or_else(|| refuse("it has no second dash"))?;
        if year.len() != 4 || !year.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("the year is not four digits"));
        }
        if !(4..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("the number is not 4 to 19 digits"));
        }
        if number.len() > 4 && number.starts_with('0') {
            return Err(refuse("a number of more than four digits starts with 0"));
        }
        Ok(Self {
            year: year.parse().map_err(|_| refuse("the year is not a number"))?,
            number: number.parse().map_err(|_| refuse("the number is too large"))?,
        })
    }

    fn to_text(self) -> String {
        format!("CVE-{:04}-{:04}", self.year, self.number)
    }
}
text_value!(CveId);

/// How bad a CVE is, in the five ratings of the Ubuntu CVE tracker. Only [`Rating::High`] and [`Rating::Critical`]
/// qualify for a livepatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// Technically a security problem, but theoretical, needing very special circumstances, or with no real damage.
    Negligible,
    /// A problem with little damage or one that is hard to exploit.
    Low,
    /// A real problem, exploitable for many people.
    Medium,
    /// A real problem, exploitable for many people in a default installation, such as local root.
    High,
    /// A burning problem, exploitable for nearly everybody, such as remote root.
    Critical,
}

impl Rating {
    /// Whether CVEs of this rating get a livepatch.
    pub fn qualifies(self) -> bool {
        self >= Self::High
    }
}

/// What a livepatch does for a CVE. A CVE is fixed only if every hunk of its fix is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CveCoverage {
    /// Every hunk of the fix is in the livepatch.
    Whole,
    /// Some hunk could not be part of a livepatch: the CVE must not be called fixed.
    Partial,
}
