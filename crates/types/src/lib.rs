//! Floor 0: the words of the trade as types.
//!
//! Values from outside (a kernel release, a CVE id, a digest, a tier) become one of these before anything else
//! happens to them; the constructors refuse what cannot be right, so that no path, module name, URL or SQL text is
//! ever made from an unchecked string.
//!
//! Invariant: nothing here does I/O, except [`SystemClock`], the one place that reads the wall clock.

mod clock;
mod cve;
mod identity;
mod name;
mod notice;
mod patch;
mod redacted;
mod stage;

pub use clock::{Clock, FixedClock, SystemClock};
pub use cve::{CveCoverage, CveId, Rating};
pub use identity::{Architecture, BuildId, HostId, KernelIdentity, KernelRelease, Sha256Digest};
pub use name::{Cohort, ModuleName, Tier};
pub use notice::NoticeId;
pub use patch::{CheckState, PatchState, PatchVersion};
pub use redacted::Redacted;
pub use stage::{ForbiddenTransition, Stage, StageEvent, TRANSITIONS, stage_drawing};

/// Why a text is not the value it should be. `what` names the kind of value, `why` the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {why}")]
pub struct InvalidValue {
    /// The kind of value that was expected, for example `kernel release`.
    pub what: &'static str,
    /// The rule that the text breaks.
    pub why: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
}

impl InvalidValue {
    pub(crate) fn new(what: &'static str, why: &'static str, text: &str) -> Self {
        Self { what, why, text: text.chars().take(80).collect() }
    }
}

/// `1 patch`, `2 patches`: a count with its noun, for output that people read.
pub fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// Gives a string newtype its `Display`, `FromStr` and serde forms, all through its checking `parse`.
macro_rules! text_value {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.to_text(), f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = crate::InvalidValue;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_value;

#[cfg(test)]
mod tests;
