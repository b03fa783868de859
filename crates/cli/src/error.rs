use std::path::PathBuf;

use livepatch_api::daemon::Failure;

use crate::Exit;
use crate::text::note_text;

/// The two daemons of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// livepatchd.
    Agent,
    /// livepatch-loader.
    Loader,
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Agent => "the daemon",
            Self::Loader => "the loader",
        })
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon is not there or does not answer.
    #[error("{daemon} cannot be reached on {socket}: {why}")]
    Unreachable {
        /// Which.
        daemon: Daemon,
        /// The socket.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// The socket is for root.
    #[error("only root may do this")]
    NotPermitted,
    /// The daemon says no.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The daemon says something else than it should.
    #[error("the daemon's answer is not understood: {0}")]
    Answer(String),
    /// The token could not be read.
    #[error("cannot read the token: {0}")]
    Token(String),
    /// The daemon's configuration cannot be read.
    #[error("cannot use {path}: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// The daemons could not be started anew with a configuration that was changed.
    #[error("cannot restart the daemons: {0}")]
    Restart(String),
    /// A setting that cannot be as it was asked for.
    #[error("{key}: {why}")]
    Setting {
        /// The key.
        key: String,
        /// The reason.
        why: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {why}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// Nobody said yes.
    #[error("nothing is written: nobody said yes")]
    NotConfirmed,
    /// The bundle cannot be read.
    #[error("cannot read the bundle {path}: {why}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// Settings of the original client cannot be imported.
    #[error("cannot import {path}: {why}")]
    Import {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// There is no certificate of who signs livepatches.
    #[error("cannot read the certificate of who signs livepatches: {0}")]
    VendorCertificate(String),
    /// No UEFI firmware: there is nowhere to enrol a key.
    #[error("this machine was not started by UEFI firmware, which would keep the key")]
    NoUefi,
    /// mokutil is not installed.
    #[error("mokutil is not installed")]
    NoMokutil,
    /// mokutil did not import the certificate.
    #[error("mokutil did not import the certificate: {0}")]
    Mokutil(String),
    /// Not started by systemd for a connection.
    #[error("standard input is no connection: {0}")]
    Connection(String),
    /// What was waited for does not come by itself.
    #[error("{}", .0.message)]
    NotByItself(Failure),
    /// Output failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// What the daemon says to a host that is not enrolled, for those who only read.
    pub(crate) fn not_enabled() -> Self {
        Self::Refused(Failure {
            code: "not-enabled".into(),
            message: "this host is not enrolled".into(),
            hints: vec!["`livepatch enable --token-file FILE` enrols it".into()],
        })
    }

    /// The exit code for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::DaemonUnreachable,
            Self::NotPermitted => Exit::NotPermitted,
            Self::Refused(failure) if failure.code == "not-enabled" => Exit::NotEnabled,
            Self::Refused(failure) if ["not-root", "not-permitted"].contains(&failure.code.as_str()) => {
                Exit::NotPermitted
            }
            Self::Refused(_)
            | Self::Answer(_)
            | Self::Config { .. }
            | Self::Restart(_)
            | Self::Write { .. }
            | Self::NotConfirmed
            | Self::Bundle { .. }
            | Self::Import { .. }
            | Self::VendorCertificate(_)
            | Self::NoUefi
            | Self::NoMokutil
            | Self::Mokutil(_)
            | Self::Connection(_)
            | Self::Output(_) => Exit::Failed,
            Self::NotByItself(_) => Exit::NotByItself,
            Self::Token(_) | Self::Setting { .. } => Exit::Usage,
        }
    }

    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Unreachable { daemon: Daemon::Loader, .. } => {
                vec!["`systemctl status livepatch-loader` says whether it runs; a livepatch that is applied stays applied".into()]
            }
            Self::Unreachable { .. } => {
                vec!["`systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied".into()]
            }
            Self::NotPermitted => vec!["use sudo".into()],
            Self::Refused(failure) | Self::NotByItself(failure) => failure.hints.clone(),
            Self::Answer(_) => vec!["client and daemon may differ in version: restart the daemon".into()],
            Self::Token(_) => {
                vec!["`livepatch enable --token-file FILE`, or `-` to read it from standard input".into()]
            }
            Self::Config { .. } => {
                vec!["correct it there; `journalctl -u livepatchd` says what the daemon thinks of it".into()]
            }
            Self::Restart(_) => vec![
                "the configuration is changed; `systemctl restart livepatchd`, and `journalctl -u livepatchd` says why not".into(),
            ],
            Self::Write { .. } => {
                vec!["look at the directory and whether the file is there already".into()]
            }
            Self::NotConfirmed => vec!["answer y, or `--yes` for scripts, once the report has been read".into()],
            Self::Bundle { .. } => vec!["`livepatch-build trust attach` makes it: one file, of a livepatch".into()],
            Self::Import { .. } => vec![
                "it is what `canonical-livepatch config` of the original prints; set right in a copy what is refused, or take it out".into(),
            ],
            Self::VendorCertificate(_) => {
                vec!["put it, in PEM, as vendor.pem into /etc/livepatch/trust, readable for everybody".into()]
            }
            Self::NoUefi => vec![
                "without UEFI there is no Secure Boot; `livepatch secure-boot status` says what the kernel takes".into(),
            ],
            Self::NoMokutil => vec!["`apt-get install mokutil`, then again".into()],
            Self::Mokutil(_) => vec![
                "what it printed says why; keys are enrolled only where shim starts the system (`mokutil --sb-state`)".into(),
            ],
            Self::Setting { .. } => vec!["`canonical-livepatch config` shows every key with its value".into()],
            Self::Connection(_) => vec![
                "systemd starts this for each connection: `systemctl status livepatch-legacy-root.socket`".into(),
            ],
            Self::Output(_) => vec!["look at where it goes: a full disk, a pipe that nobody reads".into()],
        }
    }

    /// What stderr gets: one line, a blank line, hints.
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {self}\n");
        let hints = self.hints();
        if !hints.is_empty() {
            text.push('\n');
        }
        for hint in hints {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }

    /// The same beside a command that did what it was asked for.
    pub(crate) fn to_note(&self) -> String {
        if let Self::Refused(failure) = self {
            return note_text(failure);
        }
        let hints = self.hints().into_iter().map(|hint| format!("hint: {hint}\n"));
        format!("note: {self}\n{}", hints.collect::<String>())
    }
}

#[cfg(test)]
mod tests;
