//! Taking a repository in two steps: what is new about its roots can be in the log before it is served.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_transparency::KeyEvent;

use crate::data_dir::write_over;
use crate::{Exit, Failure};

/// The one file that changes.
pub(crate) const TIMESTAMP: &str = "metadata/timestamp.json";

/// A repository that was verified and not yet taken.
#[derive(Debug)]
pub struct Import<T> {
    target: PathBuf,
    files: Vec<(String, Vec<u8>)>,
    records: Vec<(&'static str, Vec<u8>)>,
    roots: Vec<KeyEvent>,
    found: T,
}

impl<T> Import<T> {
    /// Nothing but the timestamp may differ from what is served already.
    pub(crate) fn new(
        target: PathBuf,
        files: Vec<(String, Vec<u8>)>,
        records: Vec<(&'static str, Vec<u8>)>,
        roots: Vec<KeyEvent>,
        found: T,
    ) -> Result<Self, Failure> {
        for (path, bytes) in files.iter().filter(|(path, _)| path != TIMESTAMP) {
            if fs::read(target.join(path)).is_ok_and(|known| known != *bytes) {
                return Err(Failure::refused(format!(
                    "{path} is not the file of that name that is served here"
                ))
                .hint("files of a repository never change; this is another repository, or a forged one"));
            }
        }
        Ok(Self { target, files, records, roots, found })
    }

    /// The roots that are new by it, and the newest in any case: what the log has to say before it is taken.
    pub fn roots(&self) -> &[KeyEvent] {
        &self.roots
    }

    /// Takes it; what was found in it. The timestamp comes after what it leads to, so that hosts see all of the old or
    /// all of the new.
    pub fn take(self) -> Result<T, Failure> {
        let (last, first): (Vec<_>, Vec<_>) = self.files.iter().partition(|(path, _)| path == TIMESTAMP);
        for (path, bytes) in first.into_iter().chain(last) {
            put(&self.target.join(path), bytes)?;
        }
        for (name, bytes) in &self.records {
            put(&self.target.join(name), bytes)?;
        }
        Ok(self.found)
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| {
            Failure::new(Exit::Failed, error).context(format!("cannot make {}", directory.display()))
        })?;
    }
    write_over(path, bytes)
}
