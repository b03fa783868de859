//! A source tree with some files patched, made of links to the prepared one in a moment.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::patch::PatchedFile;
use crate::{KbuildError, PreparedTree};

/// A directory that looks like the prepared tree but holds patched files. It vanishes when dropped.
#[derive(Debug)]
pub struct Mirror {
    root: tempfile::TempDir,
    tree: PathBuf,
    patched: Vec<String>,
}

impl Mirror {
    /// Makes a mirror of `tree` below `scratch` with these files in place of the tree's own.
    pub fn new(tree: &PreparedTree, scratch: &Path, files: &[PatchedFile]) -> Result<Self, KbuildError> {
        fs::create_dir_all(scratch).map_err(KbuildError::io("make", scratch))?;
        let root = tempfile::tempdir_in(scratch).map_err(KbuildError::io("make a directory in", scratch))?;
        let mirror = Self {
            root,
            tree: tree.path().to_owned(),
            patched: files.iter().map(|file| file.path.clone()).collect(),
        };
        let mut opened = BTreeSet::new();
        mirror.open(Path::new(""), &mut opened)?;
        for file in files {
            let path = Path::new(&file.path);
            let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
            parents.reverse();
            for parent in parents {
                mirror.open(parent, &mut opened)?;
            }
            let place = mirror.root().join(path);
            fs::remove_file(&place).map_err(KbuildError::io("replace", &place))?;
            fs::write(&place, &file.content).map_err(KbuildError::io("write", &place))?;
        }
        Ok(mirror)
    }

    /// The mirror's directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Makes a directory a real one, whose entries are links.
    fn open(&self, directory: &Path, opened: &mut BTreeSet<PathBuf>) -> Result<(), KbuildError> {
        if !opened.insert(directory.to_owned()) {
            return Ok(());
        }
        let (from, to) = (self.tree.join(directory), self.root().join(directory));
        if directory != Path::new("") {
            fs::remove_file(&to).map_err(KbuildError::io("replace", &to))?;
            fs::create_dir(&to).map_err(KbuildError::io("make", &to))?;
        }
        for entry in fs::read_dir(&from).map_err(KbuildError::io("read", &from))? {
            let entry = entry.map_err(KbuildError::io("read", &from))?;
            let link = to.join(entry.file_name());
            symlink(entry.path(), &link).map_err(KbuildError::io("link", &link))?;
        }
        Ok(())
    }

    /// Checks, by the dependencies that the compiler wrote, that no patched file was read in its original form:
    /// an include through `..` from a linked directory would do that.
    pub(crate) fn check_dependencies(&self, dependencies: &str) -> Result<(), KbuildError> {
        for name in dependencies.split_whitespace().filter(|word| !word.ends_with(':') && *word != "\\") {
            let path = self.root().join(name);
            let Ok(real) = path.canonicalize() else { continue };
            if self.patched.iter().any(|patched| self.tree.join(patched) == real) {
                let why = format!("is not seen by a unit that includes it as {name}");
                return Err(KbuildError::Scope(why));
            }
        }
        Ok(())
    }
}
