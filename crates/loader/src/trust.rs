//! What is pinned on this host: the operator's key or root, the vendor's certificate and root. Of each file the one that the
//! administrator put in place goes before the one that came with the package.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use livepatch_manifest::VerifyingKey;
use livepatch_modsig::Certificate;

use crate::Problem;

const HINT: &str = "install operator.pub and vendor.pem, then `livepatch refresh`";

/// Where the pinned keys are; they are read whenever they are needed.
#[derive(Debug, Clone)]
pub struct TrustDirectories {
    /// What the administrator put in place.
    pub administrator: PathBuf,
    /// What came with the package.
    pub package: PathBuf,
}

impl TrustDirectories {
    /// The operator's one key, from `operator.pub`.
    pub fn operator(&self) -> Result<VerifyingKey, Problem> {
        VerifyingKey::parse(&String::from_utf8_lossy(&read(self, "operator.pub")?))
            .map_err(|error| wrong("operator.pub", &error))
    }

    /// Who may sign modules, from `vendor.pem`.
    pub fn vendor(&self) -> Result<Vec<Certificate>, Problem> {
        Certificate::from_pem(&read(self, "vendor.pem")?).map_err(|error| wrong("vendor.pem", &error))
    }

    /// A file that need not be there: a root, or the key of a log.
    pub(crate) fn optional(&self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        for directory in [&self.administrator, &self.package] {
            let path = directory.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(unreadable(&path, &error));
                }
            }
        }
        Ok(None)
    }
}

fn read(directories: &TrustDirectories, name: &str) -> Result<Vec<u8>, Problem> {
    let path = directories.administrator.join(name);
    let bytes = std::fs::read(&path).or_else(|error| match error.kind() {
        ErrorKind::NotFound => std::fs::read(directories.package.join(name)).map_err(|_| error),
        _ => Err(error),
    });
    bytes.map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(&path, &error),
        _ => unreadable(&path, &error),
    })
}

pub(crate) fn missing(path: &Path, error: &std::io::Error) -> Problem {
    Problem::new("trust-missing", format!("cannot read {}: {error}", path.display()), HINT)
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let message = format!("cannot read {}: {error}", path.display());
    Problem::new("trust-unreadable", message, "make it a file that root can read")
}

pub(crate) fn wrong(name: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::new("trust-unreadable", format!("{name} in the trust directory: {error}"), HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is there and cannot be read is not a file that is not there: a pinned root would be ignored.
    #[test]
    fn what_cannot_be_read_is_not_absent() {
        let directory = tempfile::tempdir().unwrap();
        let (administrator, package) = (directory.path().join("etc"), directory.path().join("usr"));
        std::fs::create_dir(&package).unwrap();
        std::fs::create_dir(&administrator).unwrap();
        let trust = TrustDirectories { administrator: administrator.clone(), package: package.clone() };
        let code = |name: &str| trust.optional(name).map_err(|problem| problem.code);
        assert_eq!(code("vendor-root.json"), Ok(None));
        assert_eq!(read(&trust, "vendor.pem").map_err(|problem| problem.code), Err("trust-missing"));

        for name in ["vendor-root.json", "vendor.pem"] {
            std::fs::write(package.join(name), "the package's").unwrap();
        }
        assert_eq!(code("vendor-root.json"), Ok(Some(b"the package's".to_vec())));
        assert_eq!(read(&trust, "vendor.pem").unwrap(), b"the package's");

        // A directory in its place: reading it fails, also for root.
        for name in ["vendor-root.json", "vendor.pem"] {
            std::fs::create_dir(administrator.join(name)).unwrap();
        }
        assert_eq!(code("vendor-root.json"), Err("trust-unreadable"));
        assert_eq!(read(&trust, "vendor.pem").map_err(|problem| problem.code), Err("trust-unreadable"));
    }
}
