//! The control file: what `dist/NAME/DEBIAN/control` says, and what only the build knows.

use std::fmt;
use std::str::FromStr;

/// Who answers for the packages.
pub(crate) const MAINTAINER: &str = "The livepatch authors <authors@livepatch.example>";

/// A Debian version: letters, digits and `.+~-`, a digit first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    /// That of all crates of the workspace.
    pub(crate) fn of_workspace() -> Self {
        Self(env!("CARGO_PKG_VERSION").into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~');
        if text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "{text:?} is not the version of a package: digits first, then letters, digits, \".+~\""
            ))
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The whole control file.
pub(crate) fn control(template: &str, version: &Version, libraries: &str, installed_kib: u64) -> String {
    let text = template.replace("${version}", version.as_str()).replace("${shlibs:Depends}", libraries);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{first}\nVersion: {version}\nMaintainer: {MAINTAINER}\nInstalled-Size: {installed_kib}\n{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_knows_is_filled_in() {
        let template = "Package: a\nDepends: ${shlibs:Depends}, b (= ${version})\n";
        assert_eq!(
            control(template, &"1.2~x".parse().unwrap(), "libc6", 7),
            format!(
                "Package: a\nVersion: 1.2~x\nMaintainer: {MAINTAINER}\nInstalled-Size: 7\n\
                 Depends: libc6, b (= 1.2~x)\n"
            )
        );
    }

    #[test]
    fn versions_are_plain() {
        for text in ["", "a", "1 2", "1/2", "1_2", "-1", "1-1"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert!("0.1.0+next~1".parse::<Version>().is_ok());
    }
}
