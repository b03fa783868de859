//! The repositories of the demo: the vendor's says which livepatches may ever run, the operator's which keys of its server count.
//! One person has all keys here; docs/trust.md has the ceremony with several.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Exit};
use crate::fetch::make_directory;
use crate::process::{command, tool};

/// Where a repository is in its directory, beside the keys.
const REPOSITORY: &str = "repository";
const KEYS: [&str; 3] = ["root", "targets", "release"];

/// What is done with the commands of `livepatch-build trust` in a directory of its own.
struct Directory {
    builder: PathBuf,
    path: PathBuf,
}

impl Directory {
    fn new(builder: PathBuf, path: PathBuf, keys: &[&str]) -> Result<Self, Error> {
        make_directory(&path)?;
        let directory = Self { builder, path };
        for name in keys {
            directory.trust(&["keygen", ".", "--name", name])?;
        }
        Ok(directory)
    }

    fn repository(&self) -> PathBuf {
        self.path.join(REPOSITORY)
    }

    /// A root by its version, which counts from 1.
    fn root(&self, version: u32) -> PathBuf {
        self.repository().join(format!("metadata/{version}.root.json"))
    }

    /// The newest root.
    fn newest_root(&self) -> Result<Vec<u8>, Error> {
        let newest = (1..).map(|version| self.root(version)).take_while(|path| path.exists()).last();
        let path = newest.unwrap_or_else(|| self.root(1));
        fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))
    }

    fn sign(&self, file: &str, key: &str) -> Result<(), Error> {
        self.trust(&["sign", &format!("{REPOSITORY}/staged/{file}"), "--key", key])
    }

    fn trust(&self, arguments: &[&str]) -> Result<(), Error> {
        let mut trust = command(&self.builder.to_string_lossy());
        trust.current_dir(&self.path).arg("trust").args(arguments);
        tool(&mut trust, &format!("livepatch-build trust {}", arguments[0]), Exit::Build, |_| ()).map(drop)
    }
}

/// The vendor's.
pub(crate) struct Vendor(Directory);

impl Vendor {
    /// A released repository that allows nothing yet.
    pub(crate) fn new(builder: PathBuf, directory: PathBuf) -> Result<Self, Error> {
        let vendor = Self(Directory::new(builder, directory, &KEYS)?);
        let named = ["--root-key", "--targets-key", "--release-key"].iter().zip(KEYS);
        let named: Vec<String> =
            named.flat_map(|(option, name)| [(*option).to_owned(), format!("{name}.pub.pem")]).collect();
        let mut init = vec!["init", REPOSITORY, "--name", "debian-12-6.1"];
        init.extend(named.iter().map(String::as_str));
        vendor.0.trust(&init)?;
        vendor.0.sign("root.json", "root.key.pem")?;
        vendor.release()?;
        Ok(vendor)
    }

    /// Allows a signed livepatch for its kernel.
    pub(crate) fn allow(&self, bundle: &Path, certificate: &Path) -> Result<(), Error> {
        let (bundle, certificate) = (bundle.to_string_lossy(), certificate.to_string_lossy());
        self.0.trust(&["allow", REPOSITORY, &bundle, "--certificate", &certificate])?;
        self.release()
    }

    /// Puts what a host without a server needs into a copy of a bundle: what the repository says, and the log's proof.
    pub(crate) fn attach(&self, bundle: &Path, proof: &Path, copy: &Path) -> Result<(), Error> {
        let [bundle, proof, copy] = [bundle, proof, copy].map(Path::to_string_lossy);
        self.0.trust(&["attach", REPOSITORY, &bundle, "--logged", &proof, "--output", &copy])
    }

    /// The root that hosts pin from now on.
    pub(crate) fn newest_root(&self) -> Result<Vec<u8>, Error> {
        self.0.newest_root()
    }

    /// What a server imports.
    pub(crate) fn repository(&self) -> PathBuf {
        self.0.repository()
    }

    fn release(&self) -> Result<(), Error> {
        self.0.sign("targets.json", "targets.key.pem")?;
        self.0.trust(&["release", REPOSITORY, "--key", "release.key.pem"])
    }
}

/// The operator's.
pub(crate) struct Operator(Directory);

impl Operator {
    /// A released root that names a server's key.
    pub(crate) fn new(builder: PathBuf, directory: PathBuf, key: &Path) -> Result<Self, Error> {
        let operator = Self(Directory::new(builder, directory, &KEYS[..1])?);
        let key = key.to_string_lossy();
        operator.0.trust(&[
            "init",
            REPOSITORY,
            "--kind",
            "operator",
            "--name",
            "demo-fleet",
            "--root-key",
            "root.pub.pem",
            "--documents-key",
            &key,
            "--assignments-key",
            &key,
        ])?;
        operator.release()?;
        Ok(operator)
    }

    /// A root that names the next key in the place of the former.
    pub(crate) fn exchange(&self, former: &Path, next: &Path) -> Result<(), Error> {
        let (former, next) = (former.to_string_lossy(), next.to_string_lossy());
        for role in ["documents", "assignments"] {
            self.0.trust(&["rotate", REPOSITORY, "--role", role, "--add", &next, "--remove", &former])?;
        }
        self.release()
    }

    /// The root that hosts pin from now on.
    pub(crate) fn newest_root(&self) -> Result<Vec<u8>, Error> {
        self.0.newest_root()
    }

    /// What the server imports.
    pub(crate) fn repository(&self) -> PathBuf {
        self.0.repository()
    }

    fn release(&self) -> Result<(), Error> {
        self.0.sign("root.json", "root.key.pem")?;
        self.0.trust(&["release", REPOSITORY])
    }
}
