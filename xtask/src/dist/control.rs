//! The control file: what `dist/NAME/DEBIAN/control` says, and what only the build knows.

use std::fmt;
use std::str::FromStr;

/// Who answers for the packages: `NAME <ADDRESS>`, as Debian's policy has it (5.6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maintainer(String);

impl Maintainer {
    /// Nobody can be reached there: the domain is one of those that RFC 2606 keeps for examples.
    pub(crate) const PLACEHOLDER: &str = "livepatch packagers <packagers@livepatch.example>";

    pub(crate) fn placeholder() -> Self {
        Self(Self::PLACEHOLDER.into())
    }

    pub(crate) fn is_placeholder(&self) -> bool {
        self.0 == Self::PLACEHOLDER
    }
}

impl FromStr for Maintainer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain =
            |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_control() || "<>,".contains(c));
        let fits =
            text.strip_suffix('>').and_then(|text| text.split_once(" <")).is_some_and(|(name, address)| {
                let (local, domain) = address.split_once('@').unwrap_or_default();
                plain(name) && [local, domain].iter().all(|part| plain(part) && !part.contains([' ', '@']))
            });
        if fits { Ok(Self(text.into())) } else { Err(format!("{text:?} is not as \"NAME <LOCAL@DOMAIN>\"")) }
    }
}

impl fmt::Display for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
pub(crate) fn control(
    template: &str,
    version: &Version,
    maintainer: &Maintainer,
    libraries: &str,
    installed_kib: u64,
) -> String {
    let text = template.replace("${version}", version.as_str()).replace("${shlibs:Depends}", libraries);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{first}\nVersion: {version}\nMaintainer: {maintainer}\nInstalled-Size: {installed_kib}\n{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_knows_is_filled_in() {
        let template = "Package: a\nDepends: ${shlibs:Depends}, b (= ${version})\n";
        let maintainer = "A B <a@b.org>".parse().unwrap();
        assert_eq!(
            control(template, &"1.2~x".parse().unwrap(), &maintainer, "libc6", 7),
            "Package: a\nVersion: 1.2~x\nMaintainer: A B <a@b.org>\nInstalled-Size: 7\n\
             Depends: libc6, b (= 1.2~x)\n"
        );
    }

    #[test]
    fn maintainers_have_name_and_address() {
        for text in [
            "",
            "a@b.org",
            "A",
            "A <>",
            "A <a>",
            "A <@b>",
            "A <a@>",
            "A <a@b",
            " <a@b>",
            "A\nB <a@b>",
            "A, B <a@b>",
        ] {
            assert!(text.parse::<Maintainer>().is_err(), "{text:?}");
        }
        assert!(!"Fleet of X <fleet@x.org>".parse::<Maintainer>().unwrap().is_placeholder());
        assert_eq!(Maintainer::PLACEHOLDER.parse(), Ok(Maintainer::placeholder()));
    }

    #[test]
    fn versions_are_plain() {
        for text in ["", "a", "1 2", "1/2", "1_2", "-1", "1-1"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert!("0.1.0+next~1".parse::<Version>().is_ok());
    }
}
