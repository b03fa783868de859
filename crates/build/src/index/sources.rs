//! Which suites are looked at: those that are named, or those of this machine's apt.

use std::path::PathBuf;

use livepatch_archive::PocketTable;

use super::fetch::RepositoryUrl;
use super::program::{Bounds, ProgramError, last_words, run};

/// One suite of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The archive.
    pub repository: RepositoryUrl,
    /// The suite.
    pub suite: String,
    /// The components of it.
    pub components: Vec<String>,
    /// The keys that may sign it; none: those that the table of pockets names.
    pub keyring: Option<PathBuf>,
}

/// A name of a suite or component, which becomes part of a path.
pub fn parse_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("only letters, digits and ._- may stand in it".into())
    }
}

/// Why apt's sources are not known.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// apt says something else.
    #[error("apt-get does not tell its sources: {0}")]
    Apt(String),
}

/// The suites of this machine's apt that the table of pockets knows.
pub fn of_this_machine(table: &PocketTable) -> Result<Vec<Source>, SourcesError> {
    let format = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ARCHITECTURE)";
    let bounds = Bounds { seconds: 60, file_bytes: 1 << 20 };
    let output = run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], bounds)?;
    if !output.status.success() {
        return Err(SourcesError::Apt(last_words(&output)));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout), table))
}

fn parse(text: &str, table: &PocketTable) -> Vec<Source> {
    let mut out: Vec<Source> = Vec::new();
    for line in text.lines() {
        let mut words = line.split('\t');
        let (Some(url), Some(suite), Some(component), Some("amd64")) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let names = (RepositoryUrl::parse(url), parse_name(suite), parse_name(component));
        let (Ok(repository), Ok(suite), Ok(component)) = names else { continue };
        if table.of_suite(&suite).is_none() {
            continue;
        }
        match out.iter_mut().find(|source| source.repository == repository && source.suite == suite) {
            Some(source) => source.components.push(component),
            None => out.push(Source { repository, suite, components: vec![component], keyring: None }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use livepatch_archive::pockets::SHIPPED;

    use super::*;

    #[test]
    fn suites_of_apt_that_are_known() {
        let text = "http://deb.debian.org/debian/\tbookworm\tmain\tamd64\nhttp://deb.debian.org/debian/\tbookworm\tnon-free\tamd64\nhttp://deb.debian.org/debian/\tbookworm\tmain\ti386\nhttp://deb.debian.org/debian-security/\tbookworm-security\tmain\tamd64\nhttps://deb.nodesource.com/node_20.x/\tnodistro\tmain\tamd64\ncdrom:[x]/\tbookworm\tmain\tamd64\nx\n";
        let found = parse(text, &PocketTable::parse(SHIPPED).unwrap());
        let found: Vec<_> = found
            .iter()
            .map(|source| (source.repository.as_str(), &*source.suite, source.components.join(" ")))
            .collect();
        assert_eq!(
            found,
            [
                ("http://deb.debian.org/debian", "bookworm", "main non-free".to_owned()),
                ("http://deb.debian.org/debian-security", "bookworm-security", "main".to_owned()),
            ]
        );
        for bad in ["", "..", ".", "a/b", "-x", "a b"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
