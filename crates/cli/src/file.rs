//! Files that are written as a whole or not at all.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use crate::CliError;

/// Replaces a file that everybody may read, as a whole or not at all.
pub(crate) fn replace_file(path: &Path, text: &str) -> Result<(), CliError> {
    replace(path, text, None)
}

/// Replaces a configuration as a whole or not at all. It keeps its owner, group and mode: it may hold a password.
pub(crate) fn replace_configuration(path: &Path, text: &str) -> Result<(), CliError> {
    // What a link leads to is replaced, not the link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = std::fs::metadata(&path).ok();
    replace(&path, text, before.as_ref())
}

/// Makes a file that only its owner may read, as a whole or not at all; one that is there already stays as it is.
pub(crate) fn create_private_file(path: &Path, text: &str) -> Result<(), CliError> {
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory_of(path))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| CliError::Write { path: path.to_owned(), why: error.to_string() })
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, text: &str, before: Option<&std::fs::Metadata>) -> Result<(), CliError> {
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory_of(path))?;
        file.write_all(text.as_bytes())?;
        if let Some(before) = before {
            fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
        }
        let mode = before.map_or(0o644, |before| before.mode() & 0o777);
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => CliError::NotPermitted,
        _ => CliError::Write { path: path.to_owned(), why: error.to_string() },
    })
}
