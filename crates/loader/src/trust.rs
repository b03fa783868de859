//! Whom this host believes: two pinned keys. Seam: TUF roots take their place later.

use std::io::ErrorKind;
use std::path::PathBuf;

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

/// The pinned keys.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Who may say what this host runs.
    pub operator: VerifyingKey,
    /// Who may sign modules.
    pub vendor: Vec<Certificate>,
}

impl Trust {
    /// Reads `operator.pub` and `vendor.pem`, each from the first directory that has it: what the administrator put
    /// in place goes before what came with the package.
    pub fn read(directories: &TrustDirectories) -> Result<Self, Problem> {
        let operator = VerifyingKey::parse(&String::from_utf8_lossy(&read(directories, "operator.pub")?))
            .map_err(|error| wrong("operator.pub", &error))?;
        Ok(Self { operator, vendor: Self::vendor(directories)? })
    }

    /// Reads `vendor.pem` alone: a host without a server needs no operator.
    pub fn vendor(directories: &TrustDirectories) -> Result<Vec<Certificate>, Problem> {
        Certificate::from_pem(&read(directories, "vendor.pem")?).map_err(|error| wrong("vendor.pem", &error))
    }
}

fn read(directories: &TrustDirectories, name: &str) -> Result<Vec<u8>, Problem> {
    let path = directories.administrator.join(name);
    let bytes = std::fs::read(&path).or_else(|error| match error.kind() {
        ErrorKind::NotFound => std::fs::read(directories.package.join(name)).map_err(|_| error),
        _ => Err(error),
    });
    bytes.map_err(|error| {
        Problem::new("trust-missing", format!("cannot read {}: {error}", path.display()), HINT)
    })
}

fn wrong(name: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::new("trust-unreadable", format!("{name} in the trust directory: {error}"), HINT)
}
