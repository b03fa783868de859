use livepatch_types::{Architecture, BuildId, InvalidValue, Sha256Digest};
use serde::{Deserialize, Serialize};

/// Longest name of a target, in bytes.
const MAX_TARGET_NAME_BYTES: usize = 256;
/// Longest name of a repository, in bytes.
const MAX_REPOSITORY_NAME_BYTES: usize = 64;

/// Text that can be one segment of a path: lower-case letters, digits and inner dots, dashes and underscores.
fn is_segment(text: &str) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || b"._-".contains(b))
        && !text.contains("..")
}

fn refuse(what: &'static str, why: &'static str, text: &str) -> InvalidValue {
    InvalidValue { what, why, text: text.chars().take(80).collect() }
}

/// Name of a target in a vendor's repository, a relative path of plain segments: `kernels/amd64/BUILD-ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName(String);

impl TargetName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        if text.is_empty() || text.len() > MAX_TARGET_NAME_BYTES {
            return Err(refuse("target name", "it is empty or longer than 256 bytes", text));
        }
        if !text.split('/').all(is_segment) {
            let why = "only segments of lower-case letters, digits and inner . - _ may stand in it";
            return Err(refuse("target name", why, text));
        }
        Ok(Self(text.to_owned()))
    }
    /// The target that says what is allowed for one kernel.
    pub fn of_kernel(architecture: Architecture, build_id: &BuildId) -> Self {
        Self(format!("kernels/{architecture}/{build_id}.json"))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Where the file with this digest is below the targets of a repository with consistent snapshots: the digest stands
    /// before the last segment (TUF 1.0.33, section 6.2).
    pub fn consistent_path(&self, digest: &Sha256Digest) -> String {
        match self.0.rsplit_once('/') {
            Some((directory, file)) => format!("{directory}/{digest}.{file}"),
            None => format!("{digest}.{}", self.0),
        }
    }
}

/// Name of a repository, for example `debian-12-6.1`: one distribution and series, or an operator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        if text.len() > MAX_REPOSITORY_NAME_BYTES || !is_segment(text) {
            let why = "1 to 64 lower-case letters, digits and inner . - _ may stand in it";
            return Err(refuse("repository name", why, text));
        }
        Ok(Self(text.to_owned()))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidValue;
            fn try_from(text: String) -> Result<Self, InvalidValue> {
                Self::parse(&text)
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidValue;
            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Self::parse(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text!(TargetName);
text!(RepositoryName);
