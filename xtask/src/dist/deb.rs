//! From a filled tree to a `.deb`, by Debian's own tools.

use std::fs;
use std::path::{Path, PathBuf};

use super::Profile;
use super::control::control;
use super::packages::Package;
use super::stage::{Origin, files, normalise, write};
use crate::error::Error;
use crate::fetch::make_directory;
use crate::process::{command, output};

/// Writes the control directory and packs; gives the package's path.
pub(crate) fn pack(
    origin: &Origin<'_>,
    package: &Package,
    root: &Path,
    out: &Path,
) -> Result<PathBuf, Error> {
    let about = root.join("DEBIAN");
    let installed: Vec<PathBuf> = files(root)?.into_iter().filter(|path| !path.starts_with(&about)).collect();
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();

    let settings = installed.iter().map(|path| relative(path)).filter(|path| path.starts_with("etc/"));
    let settings: String = settings.map(|path| format!("/{path}\n")).collect();
    if !settings.is_empty() {
        write(&about.join("conffiles"), settings.as_bytes())?;
    }
    let regular: Vec<&PathBuf> = installed.iter().filter(|path| !path.is_symlink()).collect();
    let mut sums = command("md5sum");
    sums.current_dir(root).arg("--").args(regular.iter().map(|path| relative(path)));
    write(&about.join("md5sums"), &output(&mut sums)?)?;

    let bytes = |path: &&PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len().div_ceil(1024));
    let installed_kib = regular.iter().map(bytes).sum::<u64>();
    let template = about.join("control");
    let text = fs::read_to_string(&template).map_err(|e| Error::io("read a control file", e))?;
    let libraries = libraries(package, root)?;
    let text_of = control(&text, &origin.version, origin.maintainer, &libraries, installed_kib);
    write(&template, text_of.as_bytes())?;
    normalise(&about)?;

    let architecture = if text.contains("Architecture: all") { "all" } else { "amd64" };
    let deb = out.join(format!("{}_{}_{architecture}.deb", package.name, origin.version));
    let mut build = command("dpkg-deb");
    // Times later than this become this.
    build.env("SOURCE_DATE_EPOCH", origin.epoch.to_string());
    // What is made for tests is made and unpacked often, the latter by slow machines.
    let compression = match origin.profile {
        Profile::Release => ["-Zxz", "-z6"],
        Profile::Dev => ["-Zgzip", "-z1"],
    };
    build.arg("--root-owner-group").args(compression).arg("--build").arg(root).arg(&deb);
    output(&mut build)?;
    Ok(deb)
}

/// The packages with the shared libraries that the programs need.
fn libraries(package: &Package, root: &Path) -> Result<String, Error> {
    if package.programs.is_empty() {
        return Ok(String::new());
    }
    // dpkg-shlibdeps wants the control file of a source package.
    let here = root.with_extension("shlibs");
    make_directory(&here)?;
    let source = format!("Source: livepatch\n\nPackage: {}\nArchitecture: amd64\n", package.name);
    write(&here.join("debian/control"), source.as_bytes())?;
    let mut ask = command("dpkg-shlibdeps");
    ask.current_dir(&here).arg("-O");
    for program in package.programs {
        ask.arg("-e").arg(root.join(program.directory).join(program.name));
    }
    let said = String::from_utf8_lossy(&output(&mut ask)?).into_owned();
    let named = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    named.map(String::from).ok_or_else(|| Error::Program {
        program: "dpkg-shlibdeps".into(),
        detail: format!("it names no package for {}", package.name),
    })
}
