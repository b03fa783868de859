//! `livepatch reboot-required`: the file that programs look for which reboot hosts, for owners who want that. Nobody else
//! writes it in our name, and what another program wrote is never removed.

use std::io::ErrorKind;
use std::path::Path;

use livepatch_api::daemon::Status;

use crate::CliError;
use crate::file::replace_file;
use crate::text::plain;

const FLAG: &str = "reboot-required";
const PACKAGES: &str = "reboot-required.pkgs";
const OUR_PACKAGE: &str = "livepatch";
const HEAD: &str = "*** System restart required ***\n";
/// What the second line of our own file begins with.
const OUR_LINE: &str = "livepatch: ";
const MAX_FILE_BYTES: usize = 1 << 20;

/// Brings the files in a directory up to date with a status; whether a reboot is required because of us.
pub(crate) fn update(status: &Status, directory: &Path) -> Result<bool, CliError> {
    let required = status.enabled && status.upgrade_required();
    let (flag, packages) = (directory.join(FLAG), directory.join(PACKAGES));
    let listed = read(&packages)?.unwrap_or_default();
    let is_listed = listed.lines().any(|line| line == OUR_PACKAGE);
    if required {
        // What another program wrote says enough.
        if read(&flag)?.is_none_or(|text| is_ours(&text)) {
            let why = status.reboot.as_ref().map_or("a newer kernel is needed", |reboot| &reboot.message);
            replace_file(&flag, &format!("{HEAD}{OUR_LINE}{}\n", plain(why)))?;
        }
        if !is_listed {
            let end = if listed.is_empty() || listed.ends_with('\n') { "" } else { "\n" };
            replace_file(&packages, &format!("{listed}{end}{OUR_PACKAGE}\n"))?;
        }
        return Ok(true);
    }
    if is_listed {
        let others: String =
            listed.lines().filter(|line| *line != OUR_PACKAGE).map(|l| format!("{l}\n")).collect();
        if others.is_empty() { remove(&packages)? } else { replace_file(&packages, &others)? }
    }
    if read(&flag)?.is_some_and(|text| is_ours(&text)) {
        remove(&flag)?;
    }
    Ok(false)
}

fn is_ours(flag: &str) -> bool {
    flag.strip_prefix(HEAD).is_some_and(|rest| rest.starts_with(OUR_LINE))
}

/// A file, if it is there. One that is no text or too long is somebody else's, and is not touched.
fn read(path: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() <= MAX_FILE_BYTES => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(failed(path, "it is no text")),
        },
        Ok(_) => Err(failed(path, "it is too long")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(CliError::NotPermitted),
        Err(error) => Err(failed(path, &error.to_string())),
    }
}

fn remove(path: &Path) -> Result<(), CliError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(CliError::NotPermitted),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error.to_string())),
        _ => Ok(()),
    }
}

fn failed(path: &Path, why: &str) -> CliError {
    CliError::Write { path: path.to_owned(), why: why.to_owned() }
}
