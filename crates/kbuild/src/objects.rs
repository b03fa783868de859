//! Objects of unpatched units, kept beside the tree they come from, by what they follow from: so that building again costs
//! only the patched units.
//!
//! A tree's directory is named after the digest of all that is in it. Within it an object follows from the unit and its
//! command, which has the compiler and its options. The objects vanish with the tree, and must: the tree then also
//! lacks the headers that make generated for them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use livepatch_manifest::sha256;

use crate::units::CompilerCommand;
use crate::{CompiledUnit, KbuildError, PreparedTree};

/// Bytes of the digest before each object.
const DIGEST_BYTES: usize = 32;

impl PreparedTree {
    /// As [`PreparedTree::compile_original`], unless the object is there from an earlier build.
    pub fn original(
        &self,
        unit: &str,
        command: &CompilerCommand,
        scratch: &Path,
    ) -> Result<CompiledUnit, KbuildError> {
        let path = self.object_path(unit, command);
        if let Some(object) = read(&path) {
            let format = |why: String| KbuildError::Format { path: self.path().join(unit), why };
            let membership = command.membership().map_err(format)?;
            return Ok(CompiledUnit { object, membership, command: command.clone() });
        }
        let compiled = self.compile_original(unit, command, scratch)?;
        write(&path, &compiled.object)?;
        Ok(compiled)
    }

    fn object_path(&self, unit: &str, command: &CompilerCommand) -> PathBuf {
        let mut text = format!("{}\0{unit}", self.compiler_version());
        for word in &command.words {
            text.push('\0');
            text.push_str(word);
        }
        let digest = sha256(text.as_bytes()).to_string();
        self.objects().join(&digest[..2]).join(digest)
    }
}

/// A kept object; none when it is not there or not as it was written.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let object = bytes.split_off(DIGEST_BYTES.min(bytes.len()));
    (bytes == sha256(&object).as_bytes()).then_some(object)
}

/// Whole or not at all, for others may read at the same time.
fn write(path: &Path, object: &[u8]) -> Result<(), KbuildError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(KbuildError::io("make", directory))?;
    let mut file =
        tempfile::NamedTempFile::new_in(directory).map_err(KbuildError::io("write in", directory))?;
    let io = |source| KbuildError::Io { action: "write", path: path.to_owned(), source };
    file.write_all(sha256(object).as_bytes()).and_then(|()| file.write_all(object)).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_object_is_what_was_kept_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ab/abcd");
        assert_eq!(read(&path), None);
        write(&path, b"an object").unwrap();
        assert_eq!(read(&path).as_deref(), Some(b"an object".as_slice()));
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(read(&path), None, "{length}");
        }
        fs::write(&path, [bytes.as_slice(), b"!"].concat()).unwrap();
        assert_eq!(read(&path), None);
        write(&path, b"another").unwrap();
        assert_eq!(read(&path).as_deref(), Some(b"another".as_slice()));
    }
}
