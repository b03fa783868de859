//! Patches that stand in a distribution's packaging, and not in its linux-source package: Debian's rt kernels are made of
//! both. The packaging is the `*.debian.tar.xz` of the source package (dpkg-source(1), format 3.0 (quilt)); the order of the
//! patches stands in a file `series`, as quilt(1) has it.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_manifest::sha256;

use crate::KbuildError;
use crate::compile::read_output;
use crate::sandbox::{Job, Sandbox};

/// Largest number of patches.
const MAX_PATCHES: usize = 2_000;

/// Where such patches are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedPatches {
    /// The packaging: `linux_6.1.176-1.debian.tar.xz`.
    pub archive: PathBuf,
    /// Name of the directory below `debian/` that has them and their `series`: `patches-rt`.
    pub directory: String,
}

impl PackagedPatches {
    /// What they are, in a word.
    pub fn identity(&self) -> Result<String, KbuildError> {
        let bytes = fs::read(&self.archive).map_err(KbuildError::io("read", &self.archive))?;
        Ok(format!("{} of {}", self.directory, sha256(&bytes)))
    }

    /// Applies all of them to an unpacked source.
    pub(crate) fn apply(&self, tree: &Path, sandbox: &Sandbox) -> Result<(), KbuildError> {
        let wrong = |why: String| KbuildError::Format { path: self.archive.clone(), why };
        if !is_name(&self.directory) {
            return Err(wrong(format!("{:?} is not the name of a directory", self.directory)));
        }
        let scratch =
            tempfile::tempdir().map_err(KbuildError::io("make a directory in", Path::new("/tmp")))?;
        let archive = self.archive.canonicalize().map_err(KbuildError::io("read", &self.archive))?;
        let mut unpack = Job::new("tar", scratch.path());
        unpack.args(["--extract", "--xz", "--no-same-owner", "--file"]).arg(&archive);
        unpack.arg(format!("debian/{}", self.directory)).reads(&archive).writes(scratch.path());
        sandbox.of_host().run_well(&unpack, &format!("unpacking {}", self.archive.display()))?;

        let patches = scratch.path().join("debian").join(&self.directory);
        let series = String::from_utf8(read_output(&patches, "series")?)
            .map_err(|_| wrong("its series is not text".into()))?;
        for name in names(&series).map_err(wrong)? {
            let patch = patches.join(name);
            // As dpkg-source and quilt do it: no line may have moved away from its surroundings.
            let mut job = Job::new("patch", tree);
            job.args(["-p1", "--batch", "--forward", "--fuzz=0", "--silent"]);
            job.args(["--no-backup-if-mismatch", "--remove-empty-files", "--input"]).arg(&patch);
            job.reads(&patch).writes(tree);
            sandbox.of_host().run_well(&job, &format!("applying {name} of {}", self.archive.display()))?;
        }
        Ok(())
    }
}

/// The patches that a series names.
fn names(series: &str) -> Result<Vec<&str>, String> {
    // A name may have options of patch(1) behind it; nobody's here do, and nobody's are taken.
    let lines = series.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let names: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    if let Some(name) = names.iter().find(|name| !name.split('/').all(is_name)) {
        return Err(format!("its series names {name:?}, which is not a file below it"));
    }
    if names.is_empty() || names.len() > MAX_PATCHES {
        return Err(format!("its series names {} patches, where 1 to {MAX_PATCHES} can be", names.len()));
    }
    Ok(names)
}

/// One part of a path that stays below its directory.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+,".contains(&b);
    !name.is_empty() && !name.starts_with(['.', '-']) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_names_files_below_it() {
        let table: [(&str, Result<&[&str], &str>); 7] = [
            ("0001-a.patch\n# why\n\nsub/0002_b.patch # x\n", Ok(&["0001-a.patch", "sub/0002_b.patch"])),
            ("../a.patch\n", Err("which is not a file below it")),
            ("/etc/passwd\n", Err("which is not a file below it")),
            ("-R\n", Err("which is not a file below it")),
            ("a.patch -R\n", Err("which is not a file below it")),
            ("a/..\n", Err("which is not a file below it")),
            ("# nothing\n", Err("names 0 patches")),
        ];
        for (series, expected) in table {
            match (names(series), expected) {
                (Ok(names), Ok(expected)) => assert_eq!(names, expected, "{series:?}"),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{series:?}: {why}"),
                (names, _) => panic!("{series:?}: {names:?}"),
            }
        }
    }
}
