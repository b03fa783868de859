//! `cargo xtask release`: packages, checksums, bill of materials and changelog in one folder. The same commit gives the
//! same bytes; `--twice` builds everything a second time and compares.

mod sbom;

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_vm::testing;

use crate::dist::{self, Profile, Recipe};
use crate::error::{Error, Exit};
use crate::fetch::{make_directory, remove_directory};
use crate::process::{command, output};
use crate::progress::Step;
use crate::setup;

const CHECKSUMS: &str = "SHA256SUMS";

/// How sure one wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builds {
    Once,
    /// And the second must give the same bytes.
    Twice,
}

/// Makes `target/release-VERSION` and says what is in it.
pub(crate) fn release(recipe: &Recipe, builds: Builds) -> Result<PathBuf, Error> {
    setup::setup()?;
    let workspace = testing::workspace();
    let version = recipe.package_version();
    let out = workspace.join(format!("target/release-{version}"));
    // Once: somebody may commit meanwhile.
    let epoch = dist::epoch(workspace)?;
    let step = Step::begin("built the programs");
    let programs = dist::build(workspace, recipe.profile, |line| step.note(line))?;
    step.done();
    dist::package(workspace, &programs, recipe, epoch, &out)?;
    dist::lintian(&out)?;
    if builds == Builds::Twice && recipe.profile == Profile::Release {
        let target = workspace.join("target/dist/second");
        remove_directory(&target)?;
        let step = Step::begin("built the programs a second time");
        let programs = dist::build_release(workspace, &target, |line| step.note(line))?;
        step.done();
        let second = workspace.join("target/dist/second-packages");
        dist::package(workspace, &programs, recipe, epoch, &second)?;
        same_files(&out, &second)?;
        eprintln!("the second build has the same bytes");
    }

    let sbom = sbom::cyclonedx(workspace, version.as_str(), epoch)?;
    write(&out.join(format!("livepatch_{version}.cdx.json")), sbom.as_bytes())?;
    fs::copy(workspace.join("CHANGELOG.md"), out.join("CHANGELOG.md"))
        .map_err(|e| Error::io("copy the changelog", e))?;
    let mut sums = command("sha256sum");
    sums.current_dir(&out).arg("--").args(names(&out)?);
    let sums = output(&mut sums)?;
    write(&out.join(CHECKSUMS), &sums)?;
    print!("{}", String::from_utf8_lossy(&sums));
    Ok(out)
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |e| Error::io(format!("list {}", directory.display()), e);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Refuses when a file of the first directory is not the same in the second.
fn same_files(first: &Path, second: &Path) -> Result<(), Error> {
    for name in names(first)? {
        let read = |directory: &Path| {
            let path = directory.join(&name);
            fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))
        };
        if read(first)? != read(second)? {
            return Err(Error::Tool {
                what: "building the same bytes twice".into(),
                message: format!("{name} differs"),
                hint: Some(format!(
                    "compare them: diffoscope {0}/{name} {1}/{name}",
                    first.display(),
                    second.display()
                )),
                exit: Exit::TestsFailed,
            });
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    make_directory(path.parent().unwrap_or(path))?;
    fs::write(path, bytes).map_err(|e| Error::io(format!("write {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_noticed() {
        let directory = std::env::temp_dir().join(format!("livepatch-release-{}", std::process::id()));
        let (first, second) = (directory.join("1"), directory.join("2"));
        for path in [&first, &second] {
            write(&path.join("a.deb"), b"same").unwrap();
        }
        same_files(&first, &second).unwrap();
        write(&second.join("a.deb"), b"other").unwrap();
        let error = same_files(&first, &second).unwrap_err();
        assert_eq!(error.exit(), Exit::TestsFailed);
        assert_eq!(error.to_string(), "building the same bytes twice failed: a.deb differs");
        remove_directory(&directory).unwrap();
    }
}
