//! What can go wrong, what to do about it, and the exit code that says so.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit codes. They are an interface: scripts read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All done.
    Success = 0,
    /// Something failed that has no code of its own.
    Failure = 1,
    // 2 is clap's: the command line is wrong.
    /// Packages are missing and only root can install them.
    NeedsRoot = 3,
    /// The archive no longer has a version.
    VersionGone = 4,
    /// The network or the archive cannot be reached.
    NoNetwork = 5,
    /// The disk is full.
    DiskFull = 6,
    /// A test or check failed.
    TestsFailed = 7,
    /// The livepatch could not be built or signed.
    Build = 8,
    /// The server failed.
    Server = 9,
    /// The guest did not boot, or stopped answering, or a command in it failed.
    Guest = 10,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  all done
  1  something failed that has no code of its own
  2  the command line is wrong
  3  packages are missing and only root can install them
  4  the archive no longer has a version that demo.toml names
  5  the network or the archive cannot be reached
  6  the disk is full
  7  a test failed, or a check said something else than it must
  8  the livepatch could not be built or signed
  9  the server failed
 10  the guest did not boot, stopped answering, or a command in it failed";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("packages are missing: {}", .packages.join(", "))]
    NeedsRoot { packages: Vec<String> },
    #[error("this is not a Debian system: there is no {program}")]
    NotDebian { program: String },
    #[error("the archive has no {package} {version}")]
    VersionGone { package: String, version: String, offered: Vec<String> },
    #[error("cannot reach the package archive: {detail}")]
    NoNetwork { detail: String },
    #[error("the disk is full: cannot {doing}")]
    DiskFull { doing: String },
    #[error("{program} is not installed")]
    MissingProgram { program: String },
    #[error("{program} failed: {detail}")]
    Program { program: String, detail: String },
    #[error("{what} failed")]
    TestsFailed { what: String },
    #[error("{what} failed: {message}")]
    Tool { what: String, message: String, hint: Option<String>, exit: Exit },
    #[error("{what} is {seen}, but must be {expected}")]
    Check { what: String, seen: String, expected: String, transcript: PathBuf },
    #[error("demo.toml is wrong: {0}")]
    Config(String),
    #[error("tests/budget.toml is wrong: {0}")]
    Budget(String),
    #[error("cannot carve {cve} out of {file}")]
    Carve { cve: String, file: String, source: livepatch_carve::CarveError },
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    #[error(transparent)]
    Vm(#[from] livepatch_vm::VmError),
    #[error("the time of the packages is not known")]
    NoEpoch,
    #[error("{path} has no certificate in PEM")]
    NoCertificate { path: PathBuf },
    #[error("{program} has the path {} in it", .place.display())]
    ShowsPath { program: String, place: PathBuf },
    #[error("the fuzz target {target} found an input that panics, hangs or needs too much memory")]
    FuzzFind { target: String },
    #[error("there is no fuzz target {name}")]
    NoFuzzTarget { name: String },
    #[error("{path} is not text")]
    NotText { path: PathBuf },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { doing },
            _ => Self::Io { doing, source },
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NeedsRoot { .. } => Exit::NeedsRoot,
            Self::VersionGone { .. } => Exit::VersionGone,
            Self::NoNetwork { .. } => Exit::NoNetwork,
            Self::DiskFull { .. } => Exit::DiskFull,
            Self::TestsFailed { .. } | Self::Check { .. } | Self::FuzzFind { .. } => Exit::TestsFailed,
            Self::Tool { exit, .. } => *exit,
            Self::Vm(error) if error.transcript().is_some() => Exit::Guest,
            _ => Exit::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NeedsRoot { packages } => {
                format!("install them: sudo apt-get install {}", packages.join(" "))
            }
            Self::NotDebian { .. } => "run this on Debian 12, or in a container of it".into(),
            Self::VersionGone { package, offered, .. } if offered.is_empty() => {
                format!("the archive offers no {package} at all: run apt-get update, then edit demo.toml")
            }
            Self::VersionGone { offered, .. } => {
                format!(
                    "the archive offers {}: edit demo.toml, or the series.toml that names it; they say how to choose",
                    offered.join(", ")
                )
            }
            Self::NoNetwork { .. } => {
                "check the network and apt's sources, then run this again; finished downloads are kept".into()
            }
            Self::DiskFull { .. } => {
                "make 2 GB of room, or set LIVEPATCH_KERNELS to a directory on a larger disk".into()
            }
            Self::MissingProgram { .. } => "install what is needed: cargo xtask setup".into(),
            Self::NoEpoch => "build in a git checkout, or set SOURCE_DATE_EPOCH to seconds since 1970".into(),
            Self::ShowsPath { .. } => {
                "find what put it there, with strings, and teach `build_release` to replace it".into()
            }
            Self::FuzzFind { target } => {
                format!("the input is in fuzz/artifacts/{target}; fuzz/README.md says what to do with it")
            }
            Self::NoFuzzTarget { .. } => "they are the files of fuzz/targets, without .rs".into(),
            Self::NoCertificate { .. } => "make one: livepatch-build keygen DIR --name vendor".into(),
            Self::Carve { .. } => "edit `file`, `containing` or `lines` in demo.toml".into(),
            Self::Tool { hint, .. } => return hint.clone(),
            Self::Check { transcript, .. } => format!("the whole transcript is in {}", transcript.display()),
            Self::Vm(error) => return error.hint(),
            _ => return None,
        })
    }

    /// The error with all its causes, and the hint, as people read it.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text.push('\n');
        if let Self::Vm(error) = self {
            let console = error.last_lines().into_iter().flat_map(str::lines);
            text.extend(console.map(|line| format!("  console: {line}\n")));
        }
        if let Some(hint) = self.hint() {
            text.push_str(&format!("\nhint: {hint}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_causes_and_a_hint() {
        let full = Error::io("write a file", io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::DiskFull);
        assert_eq!(
            full.report(),
            "error: the disk is full: cannot write a file\n\n\
             hint: make 2 GB of room, or set LIVEPATCH_KERNELS to a directory on a larger disk\n"
        );
        let other = Error::io("read x", io::ErrorKind::NotFound.into());
        assert_eq!(other.report(), "error: cannot read x: entity not found\n");
    }

    #[test]
    fn without_root_the_command_to_run_is_shown() {
        let error = Error::NeedsRoot { packages: vec!["bc".into(), "kmod".into()] };
        assert_eq!(
            error.report(),
            "error: packages are missing: bc, kmod\n\nhint: install them: sudo apt-get install bc kmod\n"
        );
    }

    #[test]
    fn the_help_lists_every_code() {
        for code in 0..=Exit::Guest as u8 {
            assert!(EXIT_CODES.contains(&format!("\n{code:>3}  ")), "{code}");
        }
    }
}
