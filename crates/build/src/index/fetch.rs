//! Files of an archive, each with an end.
//!
//! What is on this host is read; everything else is fetched by apt's own methods (`apt-helper`), which know the proxies,
//! certificates and passwords that apt is configured with, and no redirection from https to http. So this program has no
//! way into the network of its own.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::program::{Bounds, ProgramError, last_words, run};

/// Where Debian's apt has it (apt-helper is not for the command line).
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// How long one file may take: 512 MiB at 150 kB a second.
const MOST_SECONDS: u32 = 3600;

/// The root of an archive: `http`, `https` or `file`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryUrl(String);

impl RepositoryUrl {
    /// Checks a URL; a slash at its end does not count.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = ["http://", "https://", "file:///"];
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/._+~-[]".contains(&byte);
        let trimmed = text.trim_end_matches('/');
        if text.contains('@') {
            return Err("a password is not given here: apt_auth.conf(5) says where apt looks for it".into());
        }
        if !known.iter().any(|scheme| trimmed.len() > scheme.len() && trimmed.starts_with(scheme)) {
            return Err("it is no URL with http, https or file".into());
        }
        if trimmed.len() > 512 || trimmed.contains("/..") || !trimmed.bytes().all(plain) {
            return Err("it has characters that need no escaping only: letters, digits and :/._+~-".into());
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL of a file below it. The path has been checked by whoever read it.
    pub fn file(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    fn directory(&self) -> Option<PathBuf> {
        self.0.strip_prefix("file://").map(PathBuf::from)
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It cannot be read.
    #[error("cannot read {url}: {source}")]
    Read {
        /// The file.
        url: String,
        /// Why not.
        source: io::Error,
    },
    /// apt did not get it.
    #[error("cannot fetch {url}: {why}")]
    Apt {
        /// The file.
        url: String,
        /// What apt says.
        why: String,
    },
    /// It goes on where it should have ended.
    #[error("{url} is larger than the {most_bytes} bytes that it may have")]
    TooLarge {
        /// The file.
        url: String,
        /// What was expected, or is the most for such files.
        most_bytes: u64,
    },
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// Fetches a file of at most so many bytes; what is longer is not read to its end.
pub fn fetch(repository: &RepositoryUrl, path: &str, most_bytes: u64) -> Result<Vec<u8>, FetchError> {
    let url = repository.file(path);
    if let Some(directory) = repository.directory() {
        return read_capped(&directory.join(path), &url, most_bytes);
    }
    let cannot = |source| FetchError::Read { url: url.clone(), source };
    let directory = tempfile::tempdir().map_err(cannot)?;
    let target = directory.path().join("file");
    // One byte more than may be, so that what is too long is told from what broke off.
    let bounds = Bounds { seconds: MOST_SECONDS, file_bytes: most_bytes.saturating_add(1) };
    let arguments = ["-q=2".as_ref(), "download-file".as_ref(), url.as_ref(), target.as_os_str()];
    let output = run(APT_HELPER, arguments, bounds)?;
    let length = target.metadata().map_or(0, |metadata| metadata.len());
    if !output.status.success() && length <= most_bytes {
        return Err(FetchError::Apt { why: last_words(&output).replace(&format!("{url}  "), ""), url });
    }
    read_capped(&target, &url, most_bytes)
}

fn read_capped(path: &Path, url: &str, most_bytes: u64) -> Result<Vec<u8>, FetchError> {
    let cannot = |source| FetchError::Read { url: url.to_owned(), source };
    let file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(cannot(io::ErrorKind::InvalidInput.into()));
    }
    let mut bytes = Vec::new();
    file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > most_bytes {
        return Err(FetchError::TooLarge { url: url.to_owned(), most_bytes });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain() {
        for (text, expected) in [
            ("http://deb.debian.org/debian/", Some("http://deb.debian.org/debian")),
            ("https://[::1]:8080/ubuntu", Some("https://[::1]:8080/ubuntu")),
            ("file:///srv/archive", Some("file:///srv/archive")),
            ("file:///", None),
            ("file://srv", None),
            ("ftp://x/y", None),
            ("/srv/archive", None),
            ("http://user:secret@x/y", None),
            ("http://x/../y", None),
            ("http://x/y z", None),
            ("http://x/%2e%2e", None),
            ("http://x/?a", None),
            ("-o", None),
        ] {
            assert_eq!(
                RepositoryUrl::parse(text).ok().as_ref().map(RepositoryUrl::as_str),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn files_of_this_host_have_an_end() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), "12345").unwrap();
        let url = RepositoryUrl::parse(&format!("file://{}", directory.path().display())).unwrap();
        assert_eq!(fetch(&url, "a", 5).unwrap(), b"12345");
        let error = fetch(&url, "a", 4).unwrap_err().to_string();
        assert_eq!(error, format!("{url}/a is larger than the 4 bytes that it may have"));
        assert!(matches!(fetch(&url, "b", 4), Err(FetchError::Read { .. })));
        // A device would never end.
        let root = RepositoryUrl("file://".into());
        assert!(matches!(fetch(&root, "dev/zero", 4), Err(FetchError::Read { .. })));
    }
}
