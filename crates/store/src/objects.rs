use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use livepatch_manifest::bundle::MAX_MODULE_BYTES;
use livepatch_manifest::sha256;
use livepatch_types::Sha256Digest;

use crate::ObjectError;

/// Immutable files in a directory, each named by its SHA-256. The calls block: an async caller moves them to a
/// thread of their own.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    directory: PathBuf,
}

impl ObjectStore {
    /// Uses a directory that exists.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Stores bytes under their digest. Either the whole file is on disk afterwards, or nothing is. A file that is
    /// there is never written again: if it is damaged, that is an error.
    pub fn put(&self, bytes: &[u8]) -> Result<Sha256Digest, ObjectError> {
        let name = sha256(bytes);
        if self.get(&name)?.is_some() {
            return Ok(name);
        }
        let path = self.path(&name);
        let failed = |source| ObjectError::Io { action: "write", path: path.clone(), source };
        let mut file =
            tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            // Somebody else stored the same bytes in the meantime.
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error.error)),
        }
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(name)
    }

    /// The bytes of an object, checked against its name; none when there is no such object.
    pub fn get(&self, name: &Sha256Digest) -> Result<Option<Vec<u8>>, ObjectError> {
        let path = self.path(name);
        let failed = |source| ObjectError::Io { action: "read", path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_MODULE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_MODULE_BYTES {
            return Err(ObjectError::TooLarge(*name));
        }
        let actual = sha256(&bytes);
        if actual != *name {
            return Err(ObjectError::Damaged { name: *name, actual });
        }
        Ok(Some(bytes))
    }

    /// The file of an object, for messages.
    pub fn path(&self, name: &Sha256Digest) -> PathBuf {
        self.directory.join(name.to_string())
    }
}
