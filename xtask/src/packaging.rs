//! The packaging of Debian source packages (`linux_6.1.176-1.debian.tar.xz`), through apt, which verifies it.
//!
//! Few hosts have `deb-src` in their sources. So a list is made of the archives that apt already knows, with its indexes in a
//! directory of its own: nothing of this host's apt is changed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fetch::make_directory;
use crate::process::{command, output};
use crate::progress::Step;

const SUFFIX: &str = ".debian.tar.xz";
/// Of the package debian-archive-keyring, which every Debian has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whether a file is the packaging of a source package, by its name.
pub(crate) fn is_packaging(file: &str) -> bool {
    parse(file).is_some()
}

/// Source package and version.
fn parse(file: &str) -> Option<(&str, &str)> {
    let (name, version) = file.strip_suffix(SUFFIX)?.split_once('_')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+~".contains(&b));
    (plain(name) && plain(version) && !name.starts_with('-')).then_some((name, version))
}

/// The file in `packages`, downloaded if it is not there.
pub(crate) fn download(file: &str, packages: &Path) -> Result<PathBuf, Error> {
    let path = packages.join(file);
    if path.exists() {
        return Ok(path);
    }
    let (name, version) = parse(file)
        .ok_or_else(|| Error::Config(format!("{file:?} is not the packaging of a source package")))?;
    let step = Step::begin(format!("downloaded {file}"));
    let apt = packages.join("partial/apt");
    make_directory(&apt.join("lists/partial"))?;
    let targets = output(command("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(SITE) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let list = apt.join("sources.list");
    fs::write(&list, source_list(&String::from_utf8_lossy(&targets)))
        .map_err(|e| Error::io("write a list of archives", e))?;
    let get = |arguments: &[&str]| {
        let mut get = command("apt-get");
        get.args(["-q", "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]);
        get.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o"]);
        get.arg(format!("Dir::Etc::sourcelist={}", list.display())).arg("-o");
        get.arg(format!("Dir::State::lists={}", apt.join("lists").display()));
        output(get.args(arguments).current_dir(packages.join("partial")))
    };
    get(&["update"])?;
    let exact = format!("{name}={version}");
    get(&["source", "--download-only", "--diff-only", &exact]).map_err(|error| match error {
        Error::Program { detail, .. } if detail.contains("Can not find version") => {
            Error::VersionGone { package: name.to_owned(), version: version.to_owned(), offered: Vec::new() }
        }
        other => other,
    })?;
    let partial = packages.join("partial").join(file);
    fs::rename(&partial, &path).map_err(|e| Error::io(format!("make {}", path.display()), e))?;
    step.done();
    Ok(path)
}

/// `deb-src` lines for Debian's archives among those that apt knows: `ORIGIN SITE RELEASE COMPONENT`.
fn source_list(targets: &str) -> String {
    let mut lines: Vec<String> = targets
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &["Debian", site, release, component] = words.as_slice() else { return None };
            Some(format!("deb-src [signed-by={KEYRING}] {site} {release} {component}\n"))
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packaging_is_told_by_its_name() {
        assert_eq!(parse("linux_6.1.176-1.debian.tar.xz"), Some(("linux", "6.1.176-1")));
        let other = "linux-6.12_6.12.107-1~deb12u1.debian.tar.xz";
        assert_eq!(parse(other), Some(("linux-6.12", "6.12.107-1~deb12u1")));
        for wrong in [
            "linux-source-6.1_6.1.176-1_all.deb",
            "linux.debian.tar.xz",
            "../l_1.debian.tar.xz",
            "-o_1.debian.tar.xz",
        ] {
            assert!(!is_packaging(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_debian_s_archives_are_asked() {
        let targets = "Debian http://deb.debian.org/debian bookworm main\nOther https://o.example n main\n\
                       Debian http://deb.debian.org/debian bookworm main\n";
        let expected = format!("deb-src [signed-by={KEYRING}] http://deb.debian.org/debian bookworm main\n");
        assert_eq!(source_list(targets), expected);
    }
}
