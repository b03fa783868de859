//! A source tree with some files patched, made of links to the prepared one in a moment.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::headers::{DIRECTORY, HEADERS};
use crate::patch::PatchedFile;
use crate::units::plain_path;
use crate::{KbuildError, PreparedTree};

/// A directory that looks like the prepared tree but holds patched files. It vanishes when dropped.
#[derive(Debug)]
pub struct Mirror {
    root: tempfile::TempDir,
    tree: PathBuf,
    patched: Vec<String>,
    /// Directories that are real ones here, not links.
    opened: Mutex<BTreeSet<PathBuf>>,
}

/// Whether a compilation saw the patched files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sees {
    /// It did.
    All,
    /// It read an original; another one will not.
    Now,
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
            opened: Mutex::default(),
        };
        // Before any link is there: a source with such a directory must not have them written elsewhere.
        mirror.write_headers()?;
        mirror.open(Path::new(""))?;
        for file in files {
            let path = Path::new(&file.path);
            mirror.open_all(path.parent().unwrap_or(Path::new("")))?;
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

    /// Makes a directory and those above it real ones, whose entries are links; true when one was not.
    fn open_all(&self, directory: &Path) -> Result<bool, KbuildError> {
        let mut parents: Vec<&Path> = directory.ancestors().collect();
        parents.reverse();
        let opened = parents.into_iter().map(|parent| self.open(parent)).collect::<Result<Vec<_>, _>>()?;
        Ok(opened.contains(&true))
    }

    /// Makes a directory a real one, whose entries are links; false when it is. Other compilations may be reading in the
    /// mirror: they find the link or the whole directory.
    fn open(&self, directory: &Path) -> Result<bool, KbuildError> {
        let mut opened = self.opened();
        if opened.contains(directory) {
            return Ok(false);
        }
        let to = self.root().join(directory);
        if directory == Path::new("") {
            self.link_entries(directory, &to)?;
        } else {
            let part =
                tempfile::tempdir_in(self.root()).map_err(KbuildError::io("make a directory in", &to))?;
            let new = part.path().join("new");
            fs::create_dir(&new).map_err(KbuildError::io("make", &new))?;
            self.link_entries(directory, &new)?;
            renameat_with(CWD, &new, CWD, &to, RenameFlags::EXCHANGE)
                .map_err(|error| KbuildError::io("replace", &to)(error.into()))?;
        }
        opened.insert(directory.to_owned());
        Ok(true)
    }

    fn opened(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links what has come to the tree since: compiling an original makes the headers that are generated for it.
    pub(crate) fn renew(&self) -> Result<(), KbuildError> {
        self.opened()
            .iter()
            .try_for_each(|directory| self.link_entries(directory, &self.root().join(directory)))
    }

    fn link_entries(&self, directory: &Path, to: &Path) -> Result<(), KbuildError> {
        let from = self.tree.join(directory);
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

    /// What a compilation read in its original form although it is patched, by the dependencies that the compiler wrote: a
    /// path with `..` behind a linked directory leads there (`arch/x86/kvm/../../../virt/kvm/kvm_main.c`).
    fn unseen<'d>(&self, dependencies: &'d str) -> Vec<&'d str> {
        let is_original = |name: &&str| {
            let real = self.root().join(name).canonicalize();
            real.is_ok_and(|real| self.patched.iter().any(|patched| self.tree.join(patched) == real))
        };
        let names = dependencies.split_whitespace().filter(|word| !word.ends_with(':') && *word != "\\");
        names.filter(is_original).collect()
    }

    /// Makes the directories real ones through which patched files were missed.
    pub(crate) fn see_patched_files(&self, dependencies: &str) -> Result<Sees, KbuildError> {
        let mut opened = false;
        let unseen = self.unseen(dependencies);
        for name in &unseen {
            for (index, _) in name.match_indices("/..") {
                let directory = PathBuf::from(plain_path(&name[..index]));
                // Not what leads out of the tree.
                if self.tree.join(&directory).is_dir() {
                    opened |= self.open_all(&directory)?;
                }
            }
        }
        match (unseen.first(), opened) {
            (None, _) => Ok(Sees::All),
            (Some(_), true) => Ok(Sees::Now),
            (Some(name), false) => Err(unseen_error(name)),
        }
    }

    /// Refuses what was compiled from an original.
    pub(crate) fn check_dependencies(&self, dependencies: &str) -> Result<(), KbuildError> {
        self.unseen(dependencies).first().map_or(Ok(()), |name| Err(unseen_error(name)))
    }
}

fn unseen_error(name: &str) -> KbuildError {
    KbuildError::Scope(format!("is not seen by a unit that includes it as {name}"))
}
