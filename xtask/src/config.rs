//! demo.toml: the kernels and fixes that the demo and the tests use.

use std::fmt;
use std::path::Path;

use livepatch_types::{CveId, Rating};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use livepatch_carve::Rule;

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Demo {
    pub(crate) kernel: Vec<Kernel>,
}

/// A kernel that Debian shipped.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernel {
    /// Our name for it; a directory.
    pub(crate) name: Word,
    /// Only what takes long needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) long: bool,
    pub(crate) image: Package,
    pub(crate) headers: Vec<Package>,
    pub(crate) source: Source,
    #[serde(default)]
    pub(crate) fix: Vec<Fix>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) package: Word,
    pub(crate) version: Word,
}

/// Two versions of a source package.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) package: Word,
    pub(crate) old: Word,
    pub(crate) new: Word,
}

/// A fix that is in the new source and not in the old one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fix {
    pub(crate) cve: CveId,
    pub(crate) title: String,
    pub(crate) rating: Rating,
    /// `vmlinux` or the module.
    pub(crate) object: Word,
    /// The file of the kernel source.
    pub(crate) file: RelativePath,
    /// Only the changes with this text are the fix.
    pub(crate) containing: Option<String>,
    /// And of those only so many added lines, from the one with the text on.
    pub(crate) lines: Option<usize>,
    /// The program that tells whether a kernel has the fix.
    pub(crate) check: RelativePath,
    /// Modules that the check needs besides the object.
    #[serde(default)]
    pub(crate) needs: Vec<Word>,
}

impl Demo {
    /// The file without the kernels that only `--long` needs.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let mut demo = Self::read_all(path)?;
        demo.kernel.retain(|kernel| !kernel.long);
        Ok(demo)
    }

    pub(crate) fn read_all(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read demo.toml", e))?;
        let demo: Self = toml::from_str(&text).map_err(|e| Error::Config(e.to_string().trim_end().into()))?;
        for fix in demo.kernel.iter().flat_map(|kernel| &kernel.fix) {
            if fix.lines == Some(0) || (fix.lines.is_some() && fix.containing.is_none()) {
                return Err(Error::Config(format!("{}: `lines` is 0 or without `containing`", fix.cve)));
            }
        }
        Ok(demo)
    }
}

impl Fix {
    /// What of the file's difference is the fix.
    pub(crate) fn rule(&self) -> Option<Rule<'_>> {
        self.containing.as_deref().map(|containing| Rule { containing, lines: self.lines })
    }
}

impl Kernel {
    /// Whether it is made from the same packages; the fixes may differ.
    pub(crate) fn same_packages(&self, other: &Self) -> bool {
        self.name == other.name
            && self.image == other.image
            && self.headers == other.headers
            && self.source == other.source
    }
}

impl Source {
    pub(crate) fn old_package(&self) -> Package {
        Package { package: self.package.clone(), version: self.old.clone() }
    }

    pub(crate) fn new_package(&self) -> Package {
        Package { package: self.package.clone(), version: self.new.clone() }
    }
}

/// A name or version that can be a file name and an argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Word(String);

/// A path below a source tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RelativePath(String);

impl Word {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl RelativePath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~' | '_' | '-');
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} has characters that no package name or version has"))
        }
    }
}

impl TryFrom<String> for RelativePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.split('/').all(|part| Word::try_from(part.to_string()).is_ok()) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a path below a source tree"))
        }
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.0
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_right() {
        let path = livepatch_vm::testing::workspace().join("demo.toml");
        let demo = Demo::read_all(&path).unwrap();
        assert!(Demo::read(&path).unwrap().kernel.len() < demo.kernel.len());
        for fix in demo.kernel.iter().flat_map(|kernel| &kernel.fix) {
            assert!(livepatch_vm::testing::workspace().join(fix.check.as_str()).exists(), "{}", fix.cve);
        }
    }

    #[test]
    fn what_would_leave_a_directory_is_refused() {
        for word in ["", "-o", "..", "a/b", "a b", ".a", "a:1"] {
            assert!(Word::try_from(word.to_string()).is_err(), "{word:?}");
        }
        for path in ["", "/a", "a/../b", "a//b", "-x/a"] {
            assert!(RelativePath::try_from(path.to_string()).is_err(), "{path:?}");
        }
        assert!(RelativePath::try_from("kernel/time/namespace.c".to_string()).is_ok());
    }
}
