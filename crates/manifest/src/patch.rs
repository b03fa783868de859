use std::collections::BTreeMap;

use jiff::Timestamp;
use livepatch_types::{
    BuildId, CveCoverage, CveId, KernelIdentity, ModuleName, PatchVersion, Rating, Sha256Digest,
};
use serde::{Deserialize, Serialize};

/// What the vendor states about one livepatch: signed inside the bundle, and repeated in its module's `.modinfo`
/// where it decides which kernel may run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchManifest {
    /// Version of this format: 1.
    pub schema: u32,
    /// Version of the livepatch.
    pub version: PatchVersion,
    /// The one kernel it was built for.
    pub kernel: KernelIdentity,
    /// The module inside the bundle.
    pub module: ModuleObject,
    /// vmlinux and the modules whose functions it replaces.
    pub objects: Vec<PatchedObject>,
    /// The CVEs whose fixes it contains.
    pub cves: Vec<CveEntry>,
    /// When it was built; informative.
    pub built: Timestamp,
    /// First line of the compiler's `--version`.
    pub compiler: String,
    /// SHA-256 of what else is in the bundle, by its name (`report`, `sources`, `proof`): so the signature covers it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sections: BTreeMap<String, Sha256Digest>,
}

/// An immutable module object, named by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleObject {
    /// SHA-256 of the module file, its appended signature included.
    pub sha256: Sha256Digest,
    /// Length of the same bytes.
    pub size_bytes: u64,
}

/// Why bytes are not the object that was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Too few.
    #[error("the module's download ended after {actual} of {expected} bytes")]
    Truncated {
        /// Bytes that are there.
        actual: u64,
        /// Bytes that were signed.
        expected: u64,
    },
    /// Too many.
    #[error("the module is longer than the {0} bytes that were signed")]
    Oversized(u64),
    /// Others.
    #[error("the module's SHA-256 is {actual} where {expected} was signed")]
    Digest {
        /// The digest of the bytes.
        actual: Sha256Digest,
        /// The digest that was signed.
        expected: Sha256Digest,
    },
}

impl ModuleObject {
    /// Whether these bytes are the object: length and digest.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ObjectError> {
        let (actual, expected) = (bytes.len() as u64, self.size_bytes);
        if actual < expected {
            return Err(ObjectError::Truncated { actual, expected });
        }
        if actual > expected {
            return Err(ObjectError::Oversized(expected));
        }
        let digest = crate::sha256(bytes);
        if digest != self.sha256 {
            return Err(ObjectError::Digest { actual: digest, expected: self.sha256 });
        }
        Ok(())
    }
}

impl ObjectError {
    /// A word for it that stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated-module",
            Self::Oversized(_) => "oversized-module",
            Self::Digest { .. } => "tampered-module",
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => {
                "`livepatch refresh` downloads it again; check the network and the server"
            }
            Self::Oversized(_) => "the server offers something else than it says; tell its operator",
            Self::Digest { .. } => {
                "the download was damaged or somebody changes it; `livepatch refresh` downloads it again"
            }
        }
    }
}

/// `vmlinux` or a module, as livepatch objects name them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "ModuleName", into = "ModuleName")]
pub enum ObjectName {
    /// The kernel itself.
    Vmlinux,
    /// A loadable module, by the name that /sys/module shows.
    Module(ModuleName),
}

impl From<ModuleName> for ObjectName {
    fn from(name: ModuleName) -> Self {
        if name.as_str() == "vmlinux" { Self::Vmlinux } else { Self::Module(name) }
    }
}

impl From<ObjectName> for ModuleName {
    fn from(name: ObjectName) -> Self {
        match name {
            ObjectName::Module(name) => name,
            ObjectName::Vmlinux => {
                ModuleName::parse("vmlinux").unwrap_or_else(|_| unreachable!("vmlinux is a name"))
            }
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vmlinux => f.write_str("vmlinux"),
            Self::Module(name) => name.fmt(f),
        }
    }
}

/// One object whose functions a livepatch replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchedObject {
    /// vmlinux or a module.
    pub name: ObjectName,
    /// Build-id of that object as the distribution shipped it.
    pub build_id: BuildId,
    /// The functions that are redirected.
    pub functions: Vec<PatchedFunction>,
}

/// One redirected function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchedFunction {
    /// Name in kallsyms.
    pub name: String,
    /// `old_sympos` of `struct klp_func`: 0 when the name is unique, otherwise its place, from 1.
    pub sympos: u32,
}

/// One CVE that a livepatch is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CveEntry {
    /// The CVE.
    pub id: CveId,
    /// Whether all hunks of its fix are in.
    pub coverage: CveCoverage,
    /// Its rating.
    pub rating: Rating,
    /// Title of the fix; may be empty. At most 200 characters.
    pub title: String,
}
