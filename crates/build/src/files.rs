//! Reading and writing of whole files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use livepatch_kbuild::KbuildError;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, KbuildError> {
    fs::read(path).map_err(|source| KbuildError::Io { action: "read", path: path.into(), source })
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), KbuildError> {
    let io = |source| KbuildError::Io { action: "write", path: path.into(), source };
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any other program would make it: bundles go from hand to hand, and nothing of it is secret.
    let mode = fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(directory).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}
