//! Changing the configuration that both daemons read: nothing is written that they would refuse, and they are told.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use livepatch_settings::{Config, ConfigError};

use crate::CliError;
use crate::file::replace_configuration;

/// Where the daemons look for it.
pub(crate) const CONFIGURATION: &str = "/etc/livepatch/livepatch.toml";

/// What is said where the daemons were not told.
pub(crate) const RESTART_HINT: &str =
    "hint: `systemctl restart livepatchd` makes it so: both daemons read their configuration then\n";

/// There where systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
const SERVICES: [&str; 2] = ["livepatchd.service", "livepatch-loader.service"];

/// Whether the daemons go by a change already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// They were started anew.
    Yes,
    /// The file is another than theirs, or nobody is there to ask.
    No,
}

/// The text of a configuration; a missing file is an empty one.
pub(crate) fn read(path: &Path) -> Result<String, CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(String::new()),
            ErrorKind::PermissionDenied => Err(CliError::NotPermitted),
            _ => Err(CliError::Config { path: path.to_owned(), why: error.to_string() }),
        },
    }
}

/// Why the daemons would not take this text, by their own reader: they would end with 78, and the next boot would be one
/// without a livepatch.
pub(crate) fn check(text: &str) -> Result<(), ConfigError> {
    Config::parse(text).map(drop)
}

/// Replaces a configuration with one that the daemons take.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CliError> {
    check(text).map_err(|error| CliError::Config { path: path.to_owned(), why: error.to_string() })?;
    replace_configuration(path, text)
}

/// Has the daemons read their configuration, if this file is it.
pub(crate) fn tell(path: &Path) -> Result<Told, CliError> {
    if path != Path::new(CONFIGURATION) || !Path::new(SYSTEMD).exists() {
        return Ok(Told::No);
    }
    restart("systemctl").map(|()| Told::Yes)
}

/// Starts both daemons anew if they run, or ended because of a configuration that was wrong. The loader is part of
/// livepatchd.service. Whoever sets several keys in a row does not meet the limit of starts.
fn restart(systemctl: &str) -> Result<(), CliError> {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(systemctl);
        command.args(arguments).stdin(Stdio::null());
        command.output().map_err(|error| CliError::Restart(format!("systemctl: {error}")))
    };
    let failed = run(&[&["is-failed", "--quiet"], &SERVICES[..]].concat())?.status.success();
    run(&[&["reset-failed"], &SERVICES[..]].concat())?;
    let output = run(&[if failed { "restart" } else { "try-restart" }, SERVICES[0]])?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(CliError::Restart(said.lines().next().unwrap_or("systemctl failed").to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A systemctl that notes what it is asked; its `is-failed` and its restarts end so.
    fn asked(is_failed: u8, restarts: u8) -> (Result<(), String>, String) {
        let directory = tempfile::tempdir().unwrap();
        let (program, log) = (directory.path().join("systemctl"), directory.path().join("log"));
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{}\ncase $1 in\nis-failed) exit {is_failed} ;;\n*restart) echo 'it is so' >&2; exit {restarts} ;;\nesac\n",
            log.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let done = restart(program.to_str().unwrap()).map_err(|error| error.to_string());
        (done, std::fs::read_to_string(log).unwrap())
    }

    #[test]
    fn the_daemons_are_started_anew() {
        let looked = "is-failed --quiet livepatchd.service livepatch-loader.service\n\
            reset-failed livepatchd.service livepatch-loader.service\n";
        let running = format!("{looked}try-restart livepatchd.service\n");
        assert_eq!(asked(1, 0), (Ok(()), running.clone()));
        assert_eq!(asked(0, 0), (Ok(()), format!("{looked}restart livepatchd.service\n")));
        assert_eq!(asked(1, 1), (Err("cannot restart the daemons: it is so".into()), running));
    }

    #[test]
    fn what_is_said_when_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let silent = directory.path().join("systemctl");
        std::fs::write(&silent, "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::set_permissions(&silent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let missing = directory.path().join("missing");
        let said =
            [silent, missing].map(|program| restart(program.to_str().unwrap()).unwrap_err().to_string());
        insta::assert_snapshot!(said.join("\n"), @"
        cannot restart the daemons: systemctl failed
        cannot restart the daemons: systemctl: No such file or directory (os error 2)
        ");
    }

    #[test]
    fn another_file_is_not_theirs() {
        assert_eq!(tell(Path::new("/tmp/livepatch.toml")).unwrap(), Told::No);
    }
}
