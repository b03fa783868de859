//! A source tree with some files patched, made of links to the prepared one in a moment.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::headers::{DIRECTORY, HEADERS};
use crate::patch::PatchedFile;
use crate::{KbuildError, PreparedTree};

/// A directory that looks like the prepared tree but holds patched files. It vanishes when dropped.
#[derive(Debug)]
pub struct Mirror {
    root: tempfile::TempDir,
    tree: PathBuf,
    patched: Vec<String>,
    /// Directories that are real ones here, not links.
    opened: BTreeSet<PathBuf>,
}

impl Mirror {
    /// Makes a mirror of `tree` below `scratch` with these files in place of the tree's own.
    pub fn new(tree: &PreparedTree, scratch: &Path, files: &[PatchedFile]) -> Result<Self, KbuildError> {
        fs::create_dir_all(scratch).map_err(KbuildError::io("make", scratch))?;
        let root = tempfile::tempdir_in(scratch).map_err(KbuildError::io("make a directory in", scratch))?;
        let mut mirror = Self {
            root,
            tree: tree.path().to_owned(),
            patched: files.iter().map(|file| file.path.clone()).collect(),
            opened: BTreeSet::new(),
        };
        // Before any link is there: a source with such a directory must not have them written elsewhere.
        mirror.write_headers()?;
        mirror.open(Path::new(""))?;
        for file in files {
            let path = Path::new(&file.path);
            let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
            parents.reverse();
            for parent in parents {
                mirror.open(parent)?;
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

    /// The headers for authors, which the tree does not have.
    fn write_headers(&self) -> Result<(), KbuildError> {
        let directory = self.root().join(DIRECTORY);
        for (path, text) in HEADERS {
            let place = directory.join(path);
            let parent = place.parent().unwrap_or(&directory);
            fs::create_dir_all(parent).map_err(KbuildError::io("make", parent))?;
            fs::write(&place, text).map_err(KbuildError::io("write", &place))?;
        }
        Ok(())
    }

    /// Makes a directory a real one, whose entries are links.
    fn open(&mut self, directory: &Path) -> Result<(), KbuildError> {
        if !self.opened.insert(directory.to_owned()) {
            return Ok(());
        }
        let to = self.root().join(directory);
        if directory != Path::new("") {
            fs::remove_file(&to).map_err(KbuildError::io("replace", &to))?;
            fs::create_dir(&to).map_err(KbuildError::io("make", &to))?;
        }
        self.link_entries(directory)
    }

    /// Links what has come to the tree since: compiling an original makes the headers that are generated for it.
    pub(crate) fn renew(&self) -> Result<(), KbuildError> {
        self.opened.iter().try_for_each(|directory| self.link_entries(directory))
    }

    fn link_entries(&self, directory: &Path) -> Result<(), KbuildError> {
        let (from, to) = (self.tree.join(directory), self.root().join(directory));
        for entry in fs::read_dir(&from).map_err(KbuildError::io("read", &from))? {
            let entry = entry.map_err(KbuildError::io("read", &from))?;
            let link = to.join(entry.file_name());
            match symlink(entry.path(), &link) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.map_err(KbuildError::io("link", &link))?,
            }
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
