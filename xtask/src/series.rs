//! A series of `series/`, and versions of it with fewer fixes: what a vendor's next livepatch was made from.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_types::CveId;

use crate::config::{Package, Word};
use crate::error::Error;
use crate::fetch::{self, remove_directory};
use crate::packaging;
use crate::process::{command, output};

/// `series.toml` as a table: only the builder knows what it means.
pub(crate) struct Series {
    directory: PathBuf,
    table: toml::Table,
}

impl Series {
    /// The series of a directory.
    pub(crate) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("series.toml");
        let text = fs::read_to_string(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        let table = text.parse().map_err(|e: toml::de::Error| Error::Config(e.to_string()))?;
        Ok(Self { directory: directory.to_owned(), table })
    }

    pub(crate) fn tables(&self, name: &str) -> impl Iterator<Item = &toml::Table> {
        self.table
            .get(name)
            .and_then(|all| all.as_array())
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_table())
    }

    /// Downloads the packages of these kernels, and those that fixes are carved out of.
    pub(crate) fn download(&self, only: &[String], packages: &Path) -> Result<(), Error> {
        for file in self.files(only) {
            if packaging::is_packaging(file) {
                packaging::download(file, packages)?;
            } else {
                fetch::download(&package(file)?, packages)?;
            }
        }
        Ok(())
    }

    fn files(&self, only: &[String]) -> Vec<&str> {
        let is_wanted = |kernel: &&toml::Table| {
            only.is_empty() || only.iter().any(|wanted| wanted == text(kernel, "name"))
        };
        let kernels: Vec<&toml::Table> = self.tables("kernel").filter(is_wanted).collect();
        let branches = self.table.get("branch").and_then(|all| all.as_table()).into_iter().flatten();
        let branches =
            branches.filter(|(name, _)| kernels.iter().any(|kernel| text(kernel, "branch") == *name));
        let branches = branches.filter_map(|(_, branch)| branch.as_table());
        let files =
            (kernels.iter().flat_map(|kernel| ["image", "headers", "source"].map(|name| kernel.get(name))))
                .chain(branches.flat_map(|branch| ["carve-from", "carve-to"].map(|name| branch.get(name))));
        let packaged = kernels.iter().filter_map(|kernel| kernel.get("source-patches")?.get("archive"));
        let files = files.flatten().chain(packaged);
        let mut names: Vec<&str> = files.filter_map(|file| file.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The name of the kernel whose image is this package.
    pub(crate) fn kernel_of(&self, image: &Package) -> Option<&str> {
        let file = format!("{}_{}_amd64.deb", image.package, image.version);
        self.tables("kernel").find(|kernel| text(kernel, "image") == file).map(|kernel| text(kernel, "name"))
    }

    /// Whether it has a fix of this CVE.
    pub(crate) fn has_fix(&self, cve: CveId) -> bool {
        self.tables("fix").any(|fix| text(fix, "cve") == cve.to_string())
    }

    /// Moves this fix behind all others.
    pub(crate) fn with_last(mut self, cve: CveId) -> Self {
        if let Some(fixes) = self.table.get_mut("fix").and_then(|fixes| fixes.as_array_mut()) {
            let cve = cve.to_string();
            // Stable: the others keep their order.
            fixes.sort_by_key(|fix| fix.as_table().is_some_and(|fix| text(fix, "cve") == cve));
        }
        self
    }

    /// Writes it with another version and without its last fixes.
    pub(crate) fn write(&self, to: &Path, version: &str, without: usize) -> Result<PathBuf, Error> {
        remove_directory(to)?;
        // What its links name is copied too: from elsewhere they would name something else.
        output(command("cp").args(["--recursive", "--dereference"]).arg(&self.directory).arg(to))?;
        let mut table = self.table.clone();
        table.insert("version".into(), version.into());
        if let Some(fixes) = table.get_mut("fix").and_then(|fixes| fixes.as_array_mut()) {
            fixes.truncate(fixes.len().saturating_sub(without));
        }
        let text = toml::to_string(&table).map_err(|e| Error::Config(e.to_string()))?;
        fs::write(to.join("series.toml"), text).map_err(|e| Error::io("write the series", e))?;
        Ok(to.to_owned())
    }
}

/// The package of a file name.
fn package(file: &str) -> Result<Package, Error> {
    let wrong = || Error::Config(format!("{file:?} in series.toml is not the file name of a package"));
    let mut parts = file.strip_suffix(".deb").ok_or_else(wrong)?.splitn(3, '_');
    let (Some(name), Some(version), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let word = |text: &str| Word::try_from(text.to_owned()).map_err(Error::Config);
    Ok(Package { package: word(name)?, version: word(version)? })
}

fn text<'t>(table: &'t toml::Table, name: &str) -> &'t str {
    table.get(name).and_then(|value| value.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use livepatch_vm::testing;

    use super::*;

    fn debian() -> Series {
        Series::read(&testing::workspace().join("series/debian-12")).unwrap()
    }

    #[test]
    fn the_committed_series_names_packages() {
        let series = debian();
        let all = series.files(&[]);
        assert!(all.iter().all(|file| packaging::is_packaging(file) || package(file).is_ok()), "{all:?}");
        assert!(all.iter().any(|file| file.starts_with("linux-source-6.12_")), "{all:?}");
        let one = series.files(&["6.1.0-50-cloud".into()]);
        assert!(one.len() < all.len() && one.iter().any(|file| file.starts_with("linux-source-6.1_")));
        assert!(one.iter().all(|file| !file.contains("6.12")), "{one:?}");
        assert!(series.tables("kernel").count() >= 6 && series.tables("fix").count() >= 9);
    }

    #[test]
    fn a_fix_can_come_last() {
        let cves = |series: &Series| -> Vec<String> {
            series.tables("fix").map(|fix| text(fix, "cve").to_owned()).collect()
        };
        let series = debian();
        let before = cves(&series);
        let wanted = CveId::parse(&before[1]).unwrap();
        assert!(series.has_fix(wanted));
        let after = cves(&series.with_last(wanted));
        assert_eq!(after.last(), Some(&before[1]));
        assert_eq!(after[0], before[0]);
        assert_eq!(after[1..after.len() - 1], before[2..]);
    }
}
