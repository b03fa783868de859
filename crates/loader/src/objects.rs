//! Module objects on disk, by digest: what a reboot without network needs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livepatch_kernel::SealedModule;
use livepatch_manifest::ModuleObject;
use livepatch_types::Sha256Digest;

use crate::Problem;
use crate::state::{OBJECTS_DIRECTORY, private_directory, write_atomically};
use crate::step::Steps;

/// The cache. What comes out of it is verified like a download.
pub(crate) struct ObjectCache {
    directory: PathBuf,
    steps: Arc<dyn Steps>,
}

impl ObjectCache {
    /// The cache under a state directory.
    pub(crate) fn new(state_directory: &Path, steps: Arc<dyn Steps>) -> Self {
        Self { directory: state_directory.join(OBJECTS_DIRECTORY), steps }
    }

    /// Whether a file for the object is there.
    pub(crate) fn holds(&self, object: &ModuleObject) -> bool {
        self.path(&object.sha256).is_file()
    }

    /// Reads an object into sealed memory. One that is damaged is removed, so that the next try downloads it.
    pub(crate) fn seal(&self, object: &ModuleObject) -> Result<SealedModule, Problem> {
        let path = self.path(&object.sha256);
        let file = File::open(&path).map_err(|error| not_cached(&error))?;
        let sealed = SealedModule::from_reader(file, object.size_bytes).map_err(Problem::from);
        let checked =
            sealed.and_then(|sealed| object.check(sealed.bytes()).map(|()| sealed).map_err(Problem::from));
        checked.inspect_err(|_| {
            // Best effort: a damaged file that stays is found damaged again.
            let _ = std::fs::remove_file(&path);
        })
    }

    /// Stores bytes that were verified.
    pub(crate) fn put(&self, digest: &Sha256Digest, bytes: &[u8]) -> Result<(), Problem> {
        let written = private_directory(&self.directory)
            .and_then(|()| write_atomically(&self.path(digest), bytes, self.steps.as_ref()));
        written.map_err(|error| not_stored(&self.directory, &error))
    }

    /// Removes every object but these.
    pub(crate) fn keep_only(&self, digests: &[Sha256Digest]) {
        let names: Vec<_> = digests.iter().map(|digest| self.path(digest)).collect();
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !names.contains(path)) {
            // Best effort: a file that stays costs space alone.
            let _ = std::fs::remove_file(path);
        }
    }

    fn path(&self, digest: &Sha256Digest) -> PathBuf {
        self.directory.join(format!("{digest}.ko"))
    }
}

pub(crate) fn not_cached(error: &std::io::Error) -> Problem {
    let hint = "`livepatch refresh` downloads it when the server can be reached";
    Problem::new("module-not-cached", format!("the module is not in the cache: {error}"), hint)
}

pub(crate) fn not_stored(directory: &Path, error: &std::io::Error) -> Problem {
    let message = format!("cannot store the module in {}: {error}", directory.display());
    Problem::new("state-not-written", message, "free space or mount the state directory writable")
}

#[cfg(test)]
mod tests {
    use livepatch_manifest::sha256;

    use super::*;
    use crate::step::Unwatched;

    fn object(bytes: &[u8]) -> ModuleObject {
        ModuleObject { sha256: sha256(bytes), size_bytes: bytes.len() as u64 }
    }

    #[test]
    fn what_is_kept_is_there_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ObjectCache::new(directory.path(), Arc::new(Unwatched));
        let modules: [&[u8]; 3] = [b"one", b"two", b"three"];
        for module in modules {
            assert!(!cache.holds(&object(module)));
            cache.put(&sha256(module), module).unwrap();
            assert!(cache.holds(&object(module)));
            assert_eq!(cache.seal(&object(module)).unwrap().bytes(), module);
        }
        cache.keep_only(&[sha256(b"two"), sha256(b"four")]);
        assert_eq!(modules.map(|module| cache.holds(&object(module))), [false, true, false]);
        assert_eq!(std::fs::read_dir(directory.path().join(OBJECTS_DIRECTORY)).unwrap().count(), 1);
        assert_eq!(cache.seal(&object(b"one")).err().unwrap().code, "module-not-cached");
    }

    #[test]
    fn a_damaged_module_is_fetched_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ObjectCache::new(directory.path(), Arc::new(Unwatched));
        let wanted = object(b"module");
        for damaged in [&b"modulo"[..], b"modul", b"modules"] {
            cache.put(&wanted.sha256, damaged).unwrap();
            assert!(cache.seal(&wanted).is_err() && !cache.holds(&wanted));
        }
    }
}
