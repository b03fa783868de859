//! `cargo xtask release`: packages, checksums, bill of materials and changelog in one folder. The same commit gives the
//! same bytes; `--twice` builds everything a second time, from a copy of the sources elsewhere, and compares.

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
    let out = workspace.join(format!("target/release-{}", recipe.package_version()));
    // Once: somebody may commit meanwhile.
    let epoch = dist::epoch(workspace)?;
    let second = workspace.join("target/dist/second");
    if builds == Builds::Twice {
        // At once, so that both builds have the same sources.
        remove_directory(&second)?;
        copy_sources(workspace, &second.join("sources"))?;
    }
    let step = Step::begin("built the programs");
    let programs = dist::build(workspace, recipe.profile, |line| step.note(line))?;
    step.done();
    fill(workspace, &programs, recipe, epoch, &out)?;
    dist::lintian(&out)?;
    if builds == Builds::Twice {
        let sources = second.join("sources");
        let step = Step::begin("built the programs a second time, in another directory");
        let programs = match recipe.profile {
            Profile::Release => {
                dist::build_release(&sources, &second.join("target"), |line| step.note(line))?
            }
            Profile::Dev => programs,
        };
        step.done();
        let again = second.join("release");
        fill(&sources, &programs, recipe, epoch, &again)?;
        same_files(&out, &again)?;
        remove_directory(&second)?;
        eprintln!("the second build has the same bytes");
    }
    if recipe.maintainer.is_placeholder() {
        eprintln!("the packages name nobody who answers for them: --maintainer \"NAME <ADDRESS>\"");
    }
    print!("{}", fs::read_to_string(out.join(CHECKSUMS)).map_err(|e| Error::io("read the checksums", e))?);
    Ok(out)
}

/// Fills the folder with all that a release has.
fn fill(workspace: &Path, programs: &Path, recipe: &Recipe, epoch: u64, out: &Path) -> Result<(), Error> {
    let version = recipe.package_version();
    dist::package(workspace, programs, recipe, epoch, out)?;
    let sbom = sbom::cyclonedx(workspace, version.as_str(), epoch)?;
    write(&out.join(format!("livepatch_{version}.cdx.json")), sbom.as_bytes())?;
    fs::copy(workspace.join("CHANGELOG.md"), out.join("CHANGELOG.md"))
        .map_err(|e| Error::io("copy the changelog", e))?;
    let mut sums = command("sha256sum");
    sums.current_dir(out).arg("--").args(names(out)?);
    write(&out.join(CHECKSUMS), &output(&mut sums)?)
}

/// Copies what git knows of the sources, as it is now, to another place.
fn copy_sources(workspace: &Path, to: &Path) -> Result<(), Error> {
    make_directory(to)?;
    let mut list = command("git");
    let listed = output(list.current_dir(workspace).args(["ls-files", "-z", "--cached"]))?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    // What was deleted and not yet committed is still listed.
    let exists = |name: &&str| !name.is_empty() && workspace.join(name).symlink_metadata().is_ok();
    let mut copy = command("cp");
    copy.current_dir(workspace).args([
        "--parents",
        "--no-dereference",
        "--preserve=mode,links",
        "--target-directory",
    ]);
    output(copy.arg(to).arg("--").args(listed.split('\0').filter(exists))).map(drop)
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
    let (all, others) = (names(first)?, names(second)?);
    if all != others {
        let message = format!("{} against {}", all.join(", "), others.join(", "));
        return Err(Error::Tool {
            what: "building the same files twice".into(),
            message,
            hint: None,
            exit: Exit::TestsFailed,
        });
    }
    for name in all {
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
        write(&second.join("b.deb"), b"").unwrap();
        let error = same_files(&first, &second).unwrap_err();
        assert_eq!(error.to_string(), "building the same files twice failed: a.deb against a.deb, b.deb");
        remove_directory(&directory).unwrap();
    }
}
