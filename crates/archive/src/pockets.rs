//! Which parts of which archives are official: data, in `data/pockets.toml` or a site's own file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use crate::index::Standing;
use crate::release::ReleaseFile;

/// The table that this program comes with.
pub const SHIPPED: &str = include_str!("../data/pockets.toml");

/// Why a table is not used.
#[derive(Debug, thiserror::Error)]
pub enum PocketError {
    /// The text.
    #[error("{}", .0.message())]
    Format(#[from] toml::de::Error),
    /// A newer format.
    #[error("its schema is {0}, and this program reads 1")]
    Schema(u32),
    /// A suite twice.
    #[error("the suite {0} is in two pockets")]
    Doubled(String),
}

/// A signed field of `Release`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedBy {
    /// `Suite`.
    Suite,
    /// `Codename`.
    Codename,
}

/// A part of a distribution's archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pocket {
    /// The distribution, as people call it.
    pub distribution: String,
    /// The pocket, as people call it.
    pub name: String,
    /// Whether its kernels are official ones.
    pub standing: Standing,
    /// The suites, as they stand in a list of sources and in `named_by`.
    pub suites: Vec<String>,
    /// What `Origin` must be.
    pub origin: String,
    /// The signed field with the suite's name.
    pub named_by: NamedBy,
    /// The file with the keys that sign it.
    pub keyring: PathBuf,
}

/// All pockets that are known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PocketTable {
    schema: u32,
    #[serde(rename = "pocket")]
    pockets: Vec<Pocket>,
}

impl PocketTable {
    /// Reads a table.
    pub fn parse(text: &str) -> Result<Self, PocketError> {
        let table: Self = toml::from_str(text)?;
        if table.schema != 1 {
            return Err(PocketError::Schema(table.schema));
        }
        let mut seen = BTreeSet::new();
        for suite in table.pockets.iter().flat_map(|pocket| &pocket.suites) {
            if !seen.insert(suite) {
                return Err(PocketError::Doubled(suite.clone()));
            }
        }
        Ok(table)
    }

    /// The pocket of a suite.
    pub fn of_suite(&self, suite: &str) -> Option<&Pocket> {
        self.pockets.iter().find(|pocket| pocket.suites.iter().any(|known| known == suite))
    }
}

impl Pocket {
    /// Whether a signed `Release` is of this pocket's distribution.
    pub fn is_origin_of(&self, release: &ReleaseFile) -> bool {
        release.origin.as_deref() == Some(&self.origin)
    }
}

/// What a signed `Release` is of, when it is not of the suite that was asked for. Each suite of an archive is signed by the
/// same keys: somebody on the way may have put one in the place of another.
pub fn other_suite<'r>(asked: &str, pocket: Option<&Pocket>, release: &'r ReleaseFile) -> Option<&'r str> {
    let (suite, codename) = (release.suite.as_deref(), release.codename.as_deref());
    let named = match pocket.filter(|pocket| pocket.is_origin_of(release)).map(|pocket| pocket.named_by) {
        Some(NamedBy::Suite) => suite,
        Some(NamedBy::Codename) => codename,
        None => suite.filter(|suite| *suite == asked).or(codename),
    };
    (named != Some(asked)).then(|| named.unwrap_or("no suite"))
}
