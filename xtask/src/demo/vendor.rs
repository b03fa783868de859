//! The vendor's repository of the demo: which livepatches may ever run. One person has all its keys here; docs/trust.md has the
//! ceremony with several.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Exit};
use crate::fetch::make_directory;
use crate::process::{command, tool};

const KEYS: [&str; 3] = ["root", "targets", "release"];

/// A repository and its keys.
pub(crate) struct Vendor {
    builder: PathBuf,
    directory: PathBuf,
}

impl Vendor {
    /// A released repository that allows nothing yet.
    pub(crate) fn new(builder: PathBuf, directory: PathBuf) -> Result<Self, Error> {
        make_directory(&directory)?;
        let vendor = Self { builder, directory };
        for name in KEYS {
            vendor.trust(&["keygen", ".", "--name", name])?;
        }
        let named = ["--root-key", "--targets-key", "--release-key"].iter().zip(KEYS);
        let named: Vec<String> =
            named.flat_map(|(option, name)| [(*option).to_owned(), format!("{name}.pub.pem")]).collect();
        let mut init = vec!["init", "vendor", "--name", "debian-12-6.1"];
        init.extend(named.iter().map(String::as_str));
        vendor.trust(&init)?;
        vendor.trust(&["sign", "vendor/staged/root.json", "--key", "root.key.pem"])?;
        vendor.release()?;
        Ok(vendor)
    }

    /// Allows a signed livepatch for its kernel.
    pub(crate) fn allow(&self, bundle: &Path, certificate: &Path) -> Result<(), Error> {
        let (bundle, certificate) = (bundle.to_string_lossy(), certificate.to_string_lossy());
        self.trust(&["allow", "vendor", &bundle, "--certificate", &certificate])?;
        self.release()
    }

    /// The first root, which hosts pin.
    pub(crate) fn root(&self) -> Result<Vec<u8>, Error> {
        let path = self.repository().join("metadata/1.root.json");
        fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))
    }

    /// What a server imports.
    pub(crate) fn repository(&self) -> PathBuf {
        self.directory.join("vendor")
    }

    fn release(&self) -> Result<(), Error> {
        self.trust(&["sign", "vendor/staged/targets.json", "--key", "targets.key.pem"])?;
        self.trust(&["release", "vendor", "--key", "release.key.pem"])
    }

    fn trust(&self, arguments: &[&str]) -> Result<(), Error> {
        let mut trust = command(&self.builder.to_string_lossy());
        trust.current_dir(&self.directory).arg("trust").args(arguments);
        tool(&mut trust, &format!("livepatch-build trust {}", arguments[0]), Exit::Build, |_| ()).map(drop)
    }
}
