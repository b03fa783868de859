//! The tree of a package before it is packed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::control::{Maintainer, Version};
use super::packages::{Keys, Package};
use super::{Profile, changelog};
use crate::error::Error;
use crate::fetch::make_directory;
use crate::pem::der_of_pem;
use crate::process::{command, output};

/// Where a package's parts come from.
pub(crate) struct Origin<'a> {
    pub(crate) workspace: &'a Path,
    pub(crate) programs: &'a Path,
    pub(crate) manual: &'a Path,
    pub(crate) keys: Option<&'a Path>,
    pub(crate) profile: Profile,
    pub(crate) version: Version,
    pub(crate) maintainer: &'a Maintainer,
    /// Seconds since 1970.
    pub(crate) epoch: u64,
}

/// One package being put together.
pub(crate) struct Stage<'a> {
    origin: &'a Origin<'a>,
    package: &'a Package,
    root: &'a Path,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(origin: &'a Origin<'a>, package: &'a Package, root: &'a Path) -> Self {
        Self { origin, package, root }
    }

    /// Fills the tree; everything but the control directory.
    pub(crate) fn fill(&self) -> Result<(), Error> {
        let Origin { workspace, programs, manual, .. } = self.origin;
        copy_tree(&workspace.join("dist").join(self.package.name), self.root)?;
        for (from, to) in self.package.files {
            copy(&workspace.join(from), &self.root.join(to), 0o644)?;
        }
        for directory in self.package.directories {
            make_directory(&self.root.join(directory))?;
        }
        for program in self.package.programs {
            let to = self.root.join(program.directory).join(program.name);
            copy(&programs.join(program.name), &to, 0o755)?;
            strip(&to)?;
            copy_tree(&manual.join(program.name), self.root)?;
        }
        self.copy_manual_of_links()?;
        if self.package.keys == Keys::Carried
            && let Some(keys) = self.origin.keys
        {
            carry(keys, &self.root.join("usr/share/livepatch/keys"))?;
        }
        self.documents()?;
        for page in files(&self.root.join("usr/share/man"))? {
            gzip(&page)?;
        }
        normalise(self.root)
    }

    /// Another name of a program that has pages and completions of its own.
    fn copy_manual_of_links(&self) -> Result<(), Error> {
        for path in files(&self.root.join("usr/bin"))? {
            if let (true, Some(name)) = (path.is_symlink(), path.file_name()) {
                copy_tree(&self.origin.manual.join(name), self.root)?;
            }
        }
        Ok(())
    }

    /// Copyright and changelog, as Debian wants them.
    fn documents(&self) -> Result<(), Error> {
        let read = |name: &str| {
            fs::read_to_string(self.origin.workspace.join(name))
                .map_err(|e| Error::io(format!("read {name}"), e))
        };
        let directory = self.root.join("usr/share/doc").join(self.package.name);
        write(&directory.join("copyright"), copyright(&read("LICENSE-MIT")?).as_bytes())?;
        let date = format!("--date=@{}", self.origin.epoch);
        let time = output(command("date").args(["--utc", "--rfc-email"]).arg(date))?;
        let time = String::from_utf8_lossy(&time);
        let Origin { version, maintainer, .. } = self.origin;
        let text =
            changelog::debian(&read("CHANGELOG.md")?, self.package.name, version, maintainer, time.trim());
        write(&directory.join("changelog"), text.as_bytes())?;
        gzip(&directory.join("changelog"))
    }
}

/// The keys that hosts trust, the certificate in both of its forms, and of roots and the log's key what there is.
fn carry(keys: &Path, directory: &Path) -> Result<(), Error> {
    copy(&keys.join("operator.pub"), &directory.join("operator.pub"), 0o644)?;
    let path = keys.join("vendor.pem");
    let pem = fs::read_to_string(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    let der = der_of_pem(&pem).ok_or(Error::NoCertificate { path })?;
    write(&directory.join("vendor.pem"), pem.as_bytes())?;
    write(&directory.join("vendor.x509"), &der)?;
    for optional in ["vendor-root.json", "operator-root.json", "log.vkey"] {
        let path = keys.join(optional);
        if path.exists() {
            copy(&path, &directory.join(optional), 0o644)?;
        }
    }
    Ok(())
}

/// DEP 5, with the short licence in full and the long one by its place in every Debian.
fn copyright(mit: &str) -> String {
    let line = mit.lines().find(|line| line.starts_with("Copyright")).unwrap_or("Copyright its authors");
    let holder = line.trim_start_matches("Copyright").trim_start_matches(" (c)").trim();
    let indented: String = mit
        .lines()
        .skip_while(|line| !line.starts_with("Permission"))
        .map(|line| if line.trim().is_empty() { " .\n".into() } else { format!(" {line}\n") })
        .collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
         Files: *\nCopyright: {holder}\nLicense: MIT or Apache-2.0\n\n\
         License: MIT\n{indented}\n\
         License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
}

/// Debug information and symbols stay with whoever builds.
fn strip(program: &Path) -> Result<(), Error> {
    output(command("strip").args(["--strip-unneeded", "--remove-section=.comment", "--"]).arg(program))
        .map(drop)
}

fn gzip(path: &Path) -> Result<(), Error> {
    output(command("gzip").args(["-9", "--no-name", "--"]).arg(path)).map(drop)
}

/// All files and links below a directory, sorted; none where there is no directory.
pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(|e| Error::io(format!("list {}", directory.display()), e))?,
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::io(format!("list {}", directory.display()), e))?.path();
        if path.is_dir() && !path.is_symlink() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Copies files and links into a tree that may have some already.
fn copy_tree(from: &Path, into: &Path) -> Result<(), Error> {
    make_directory(into)?;
    for path in files(from)? {
        let to = into.join(path.strip_prefix(from).unwrap_or(&path));
        match fs::read_link(&path) {
            Ok(target) => {
                make_directory(to.parent().unwrap_or(into))?;
                symlink(target, &to).map_err(|e| Error::io(format!("make {}", to.display()), e))?;
            }
            Err(_) => {
                let mode = fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode());
                copy(&path, &to, if mode & 0o100 == 0 { 0o644 } else { 0o755 })?;
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Error> {
    make_directory(to.parent().unwrap_or(to))?;
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)))
        .map_err(|e| Error::io(format!("copy {}", from.display()), e))
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    make_directory(path.parent().unwrap_or(path))?;
    fs::write(path, bytes).map_err(|e| Error::io(format!("write {}", path.display()), e))
}

/// Modes that do not depend on the umask of whoever builds.
pub(crate) fn normalise(path: &Path) -> Result<(), Error> {
    let failed = |e| Error::io(format!("set the mode of {}", path.display()), e);
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let executable = metadata.is_dir() || metadata.permissions().mode() & 0o100 != 0;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            normalise(&entry.map_err(failed)?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copyright_names_holder_and_both_licences() {
        let mit = "MIT License\n\nCopyright (c) 2026 x\n\nPermission is\n\ngranted\n";
        let text = copyright(mit);
        assert!(
            text.contains("Copyright: 2026 x\n") && text.contains(" Permission is\n .\n granted\n"),
            "{text}"
        );
        assert!(text.contains("/usr/share/common-licenses/Apache-2.0"));
    }

    #[test]
    fn a_package_carries_what_keys_there_are() {
        let (keys, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let carried = || {
            carry(keys.path(), made.path())?;
            let names = files(made.path())?.into_iter().filter_map(|path| path.file_name().map(Into::into));
            Ok::<Vec<PathBuf>, Error>(names.collect())
        };
        for (name, text) in [("operator.pub", "a key"), ("vendor.pem", "none")] {
            assert!(matches!(carried(), Err(Error::Io { .. })), "without {name}");
            fs::write(keys.path().join(name), text).unwrap();
        }
        assert!(matches!(carried(), Err(Error::NoCertificate { .. })));
        let pem = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        fs::write(keys.path().join("vendor.pem"), pem).unwrap();
        let mut expected = vec!["operator.pub", "vendor.pem", "vendor.x509"];
        assert_eq!(carried().unwrap(), expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(fs::read(made.path().join("vendor.x509")).unwrap(), [1, 2, 3]);
        for name in ["log.vkey", "operator-root.json", "vendor-root.json"] {
            fs::write(keys.path().join(name), name).unwrap();
            expected.push(name);
            expected.sort_unstable();
            assert_eq!(carried().unwrap(), expected.iter().map(PathBuf::from).collect::<Vec<_>>());
            assert_eq!(fs::read_to_string(made.path().join(name)).unwrap(), name);
        }
    }
}
