//! A repository's directory:
//!
//! ```text
//! staged/root.json, staged/targets.json     being signed
//! metadata/N.root.json, N.targets.json, N.snapshot.json, timestamp.json
//! targets/kernels/ARCHITECTURE/SHA256.BUILD-ID.json
//! ```
//!
//! `metadata` and `targets` are what hosts get, byte for byte. No file in them ever changes, but timestamp.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use livepatch_kbuild::KbuildError;
use livepatch_trust::{
    Header, KernelAllowance, Kind, MAX_ALLOWANCE_BYTES, MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, METADATA, Refusal, Role, Root, SignedFile, Snapshot, State,
    TARGETS, TargetName, Targets, TimestampRole, Update, Vendor,
};
use livepatch_types::KernelIdentity;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::edit::{self, Term};
use super::error::TrustError;
use super::key::MetadataKey;
use crate::files::{read, write};

/// A repository in a directory.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

/// What a directory holds, verified as a host does.
#[derive(Debug, Clone)]
pub enum Verified {
    /// A vendor's, and what it allows for each kernel.
    Vendor(Box<Vendor>, Vec<KernelAllowance>),
    /// An operator's root.
    Operator(Box<State>),
}

/// What travels with a livepatch to a host that has no server.
#[derive(Debug, Clone)]
pub struct Carried {
    /// The files by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What they allow for the kernel.
    pub allowance: KernelAllowance,
}

/// Most bytes of a role's metadata.
pub fn cap(role: Role) -> u64 {
    match role {
        Role::Targets => MAX_TARGETS_BYTES,
        Role::Snapshot => MAX_SNAPSHOT_BYTES,
        Role::Timestamp => MAX_TIMESTAMP_BYTES,
        Role::Root | Role::Documents | Role::Assignments => MAX_ROOT_BYTES,
    }
}

impl Repository {
    /// A directory that `init` made.
    pub fn open(path: &Path) -> Result<Self, TrustError> {
        if path.join(METADATA).is_dir() {
            Ok(Self { path: path.to_owned() })
        } else {
            Err(TrustError::Directory { path: path.to_owned(), what: "is not a repository" })
        }
    }

    /// Makes a directory with its first metadata to be signed.
    pub fn init(path: &Path, root: &Root, term: Term) -> Result<Self, TrustError> {
        if path.join(METADATA).exists() {
            return Err(TrustError::Directory { path: path.to_owned(), what: "is a repository already" });
        }
        let repository = Self { path: path.to_owned() };
        for directory in ["staged", METADATA] {
            make_directory(&path.join(directory))?;
        }
        repository.stage(Role::Root, root)?;
        if root.kind() == Kind::Vendor {
            repository.stage(Role::Targets, &edit::first_targets(term))?;
        }
        Ok(repository)
    }

    /// Where metadata waits for signatures.
    pub fn staged_path(&self, role: Role) -> PathBuf {
        self.path.join("staged").join(format!("{role}.json"))
    }

    /// Puts metadata where it is signed. Signatures under what was there before are gone.
    pub fn stage(&self, role: Role, content: &impl Serialize) -> Result<(), TrustError> {
        Ok(write(&self.staged_path(role), &SignedFile::unsigned(content)?.to_bytes())?)
    }

    /// What waits for signatures.
    pub fn staged(&self, role: Role) -> Result<Option<SignedFile>, TrustError> {
        self.optional(&self.staged_path(role), role)
    }

    fn optional(&self, path: &Path, role: Role) -> Result<Option<SignedFile>, TrustError> {
        if path.exists() { read_file(path, role).map(Some) } else { Ok(None) }
    }

    fn metadata_path(&self, role: Role, version: u64) -> String {
        match role {
            Role::Timestamp => format!("{METADATA}/timestamp.json"),
            role => format!("{METADATA}/{version}.{role}.json"),
        }
    }

    /// The bytes of a file that hosts get.
    fn published(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path.join(path)).ok()
    }

    /// The newest root, by the chain from the first; none before the first one is released.
    pub fn state(&self) -> Result<Option<State>, TrustError> {
        let Some(first) = self.published(&self.metadata_path(Role::Root, 1)) else { return Ok(None) };
        let mut state = State::pin(&first)?;
        while let Some(next) =
            self.published(&self.metadata_path(Role::Root, state.seen(Role::Root).saturating_add(1)))
        {
            state.take_root(&next)?;
        }
        Ok(Some(state))
    }

    /// Every root there has been, in order.
    fn roots(&self) -> Result<Vec<Root>, TrustError> {
        let mut roots = Vec::new();
        while let Some(bytes) = self.published(&self.metadata_path(Role::Root, roots.len() as u64 + 1)) {
            roots.push(Root::open(&bytes)?.0);
        }
        Ok(roots)
    }

    /// The root that is being made: what is staged, or what follows on the newest.
    pub fn root_to_change(&self, term: Term) -> Result<Root, TrustError> {
        if let Some(staged) = self.staged(Role::Root)? {
            let mut root: Root = staged.content(Role::Root)?;
            (root.header.issued, root.header.expires) = (term.issued, term.expires);
            return Ok(root);
        }
        let state = self.state()?;
        let state = state.ok_or_else(|| TrustError::Asked("this repository has no root".into()))?;
        let root = state.root();
        Ok(Root { header: edit::next(&root.header, term), ..root.clone() })
    }

    /// Refuses a root that brings back a key which an earlier one took away.
    pub fn check_revoked(&self, next: &Root) -> Result<(), TrustError> {
        let roots = self.roots()?;
        for (role, keys) in &next.roles {
            for id in &keys.keyids {
                let had = |root: &Root| root.keys_of(*role).any(|(known, _)| known == id);
                let since = roots.iter().skip_while(|root| !had(root));
                if since.clone().any(|root| !had(root)) {
                    return Err(TrustError::Revoked(*id));
                }
            }
        }
        Ok(())
    }

    /// The targets that are being made: what is staged, or what follows on the newest.
    pub fn targets_to_change(&self, term: Term) -> Result<Targets, TrustError> {
        if let Some(staged) = self.staged(Role::Targets)? {
            let mut targets: Targets = staged.content(Role::Targets)?;
            (targets.header.issued, targets.header.expires) = (term.issued, term.expires);
            return Ok(targets);
        }
        match self.newest()? {
            Some(newest) => {
                let targets: Targets = newest.targets_file.content(Role::Targets)?;
                Ok(Targets { header: edit::next(&targets.header, term), ..targets })
            }
            None => Err(TrustError::Asked("this repository has no targets".into())),
        }
    }

    /// What these targets allow for a kernel.
    pub fn allowance(
        &self,
        targets: &Targets,
        name: &TargetName,
    ) -> Result<Option<KernelAllowance>, TrustError> {
        let Some(meta) = targets.get(name) else { return Ok(None) };
        let path = format!("{TARGETS}/{}", name.consistent_path(&meta.hashes.sha256));
        let bytes = read(&self.path.join(&path))?;
        meta.check(&bytes, &path)?;
        Ok(Some(KernelAllowance::parse(&bytes)?))
    }

    /// Puts what is allowed for a kernel where it will be served from, once targets that name it are signed.
    pub fn write_target(&self, targets: &Targets, name: &TargetName, bytes: &[u8]) -> Result<(), TrustError> {
        if bytes.len() as u64 > MAX_ALLOWANCE_BYTES {
            let what = name.to_string();
            return Err(Refusal::TooLong { what, limit: MAX_ALLOWANCE_BYTES }.into());
        }
        targets.check()?;
        let meta = targets.get(name).ok_or_else(|| Refusal::Missing(name.to_string()))?;
        let path = self.path.join(TARGETS).join(name.consistent_path(&meta.hashes.sha256));
        if let Some(directory) = path.parent() {
            make_directory(directory)?;
        }
        Ok(write(&path, bytes)?)
    }

    fn newest(&self) -> Result<Option<Newest>, TrustError> {
        let timestamp = self.path.join(self.metadata_path(Role::Timestamp, 0));
        let Some(timestamp) = self.optional(&timestamp, Role::Timestamp)? else { return Ok(None) };
        let timestamp: TimestampRole = timestamp.content(Role::Timestamp)?;
        let snapshot = self.metadata_path(Role::Snapshot, timestamp.meta.snapshot.version);
        let snapshot: Snapshot =
            read_file(&self.path.join(snapshot), Role::Snapshot)?.content(Role::Snapshot)?;
        let targets_version = snapshot.meta.targets.version;
        let targets_file =
            read_file(&self.path.join(self.metadata_path(Role::Targets, targets_version)), Role::Targets)?;
        let (timestamp, snapshot) = (timestamp.header.version, snapshot.header.version);
        Ok(Some(Newest { timestamp, snapshot, targets_version, targets_file }))
    }

    /// Makes what is staged, and signed by enough keys, what hosts get; for a vendor, `key` signs a new snapshot and
    /// timestamp. The result is verified as a host does before anything is written. What was released, in words.
    pub fn release(&self, key: Option<&MetadataKey>, term: Term) -> Result<Vec<String>, TrustError> {
        let mut new = BTreeMap::<String, Vec<u8>>::new();
        let mut done = Vec::new();
        let state = self.release_root(&mut new, &mut done)?;
        if state.root().kind() == Kind::Vendor {
            let key = key.ok_or_else(|| {
                TrustError::Asked("a vendor's release needs the key of snapshot and timestamp".into())
            })?;
            self.release_metadata(&state, key, term, &mut new, &mut done)?;
        }
        let overlaid = |path: &str| new.get(path).cloned().or_else(|| self.published(path));
        self.verify_with(overlaid)?;
        // The timestamp last: until then hosts see the release before.
        let timestamp = self.metadata_path(Role::Timestamp, 0);
        for (path, bytes) in new.iter().filter(|(path, _)| **path != timestamp) {
            write(&self.path.join(path), bytes)?;
        }
        if let Some(bytes) = new.get(&timestamp) {
            write(&self.path.join(&timestamp), bytes)?;
        }
        for role in [Role::Root, Role::Targets] {
            let path = self.staged_path(role);
            if path.exists() {
                fs::remove_file(&path).map_err(|source| KbuildError::Io {
                    action: "remove",
                    path,
                    source,
                })?;
            }
        }
        Ok(done)
    }

    fn release_root(
        &self,
        new: &mut BTreeMap<String, Vec<u8>>,
        done: &mut Vec<String>,
    ) -> Result<State, TrustError> {
        let state = self.state()?;
        let Some(staged) = self.staged(Role::Root)? else {
            return state.ok_or_else(|| TrustError::Asked("this repository has no root".into()));
        };
        let bytes = staged.to_bytes();
        let state = match state {
            None => State::pin(&bytes)?,
            Some(mut state) => {
                state.take_root(&bytes)?;
                state
            }
        };
        let version = state.seen(Role::Root);
        new.insert(self.metadata_path(Role::Root, version), bytes);
        done.push(format!("root {version}"));
        Ok(state)
    }

    fn release_metadata(
        &self,
        state: &State,
        key: &MetadataKey,
        term: Term,
        new: &mut BTreeMap<String, Vec<u8>>,
        done: &mut Vec<String>,
    ) -> Result<(), TrustError> {
        let id = key.public().id();
        for role in [Role::Snapshot, Role::Timestamp] {
            if !state.root().keys_of(role).any(|(known, _)| *known == id) {
                return Err(TrustError::NotAReleaseKey { id, role });
            }
        }
        let newest = self.newest()?;
        let (targets_version, targets_file) = match (self.staged(Role::Targets)?, &newest) {
            (Some(staged), _) => (staged.content::<Header>(Role::Targets)?.version, staged),
            (None, Some(newest)) => (newest.targets_version, newest.targets_file.clone()),
            (None, None) => return Err(TrustError::Asked("this repository has no targets".into())),
        };
        let expected = newest.as_ref().map_or(1, |newest| newest.targets_version.saturating_add(1));
        if self.staged(Role::Targets)?.is_some() {
            if targets_version != expected {
                return Err(
                    Refusal::WrongVersion { role: Role::Targets, expected, actual: targets_version }.into()
                );
            }
            done.push(format!("targets {targets_version}"));
        }
        let targets = targets_file.to_bytes();
        let (snapshot_version, timestamp_version) =
            newest.map_or((1, 1), |newest| (newest.snapshot + 1, newest.timestamp + 1));
        let snapshot = sign(key, &edit::snapshot(snapshot_version, term, targets_version, &targets))?;
        let timestamp = sign(key, &edit::timestamp(timestamp_version, term, snapshot_version, &snapshot))?;
        new.insert(self.metadata_path(Role::Targets, targets_version), targets);
        new.insert(self.metadata_path(Role::Snapshot, snapshot_version), snapshot);
        new.insert(self.metadata_path(Role::Timestamp, timestamp_version), timestamp);
        done.extend([format!("snapshot {snapshot_version}"), format!("timestamp {timestamp_version}")]);
        Ok(())
    }

    /// Verifies what hosts get, from the first root on, with every target.
    pub fn verify(&self) -> Result<Verified, TrustError> {
        self.verify_with(|path| self.published(path))
    }

    /// What a host needs to learn what is allowed for a kernel, whichever root it began with.
    pub fn files_for(&self, kernel: &KernelIdentity) -> Result<(Vendor, Carried), TrustError> {
        let mut files = BTreeMap::new();
        let mut read = |path: &str| {
            let bytes = self.published(path)?;
            files.insert(path.to_owned(), bytes.clone());
            Some(bytes)
        };
        let first = self.metadata_path(Role::Root, 1);
        let state = State::pin(&read(&first).ok_or(Refusal::Missing(first))?)?;
        let vendor = Update::run(state, |wanted| read(&wanted.path))?;
        let file = vendor.kernel_file(kernel)?;
        let bytes = read(&file.path).ok_or(Refusal::Missing(file.path))?;
        let allowance = vendor.allowance(kernel, &bytes)?;
        Ok((vendor, Carried { files, allowance }))
    }

    fn verify_with(&self, read: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Verified, TrustError> {
        let first = self.metadata_path(Role::Root, 1);
        let mut state = State::pin(&read(&first).ok_or(Refusal::Missing(first))?)?;
        if state.root().kind() == Kind::Operator {
            while let Some(next) =
                read(&self.metadata_path(Role::Root, state.seen(Role::Root).saturating_add(1)))
            {
                state.take_root(&next)?;
            }
            return Ok(Verified::Operator(Box::new(state)));
        }
        let vendor = Update::run(state, |wanted| read(&wanted.path))?;
        let allowances = vendor.all_allowances(|file| read(&file.path))?;
        Ok(Verified::Vendor(Box::new(vendor), allowances))
    }
}

/// The newest metadata, as it stands in the directory: it need not be valid under a root that is just being made.
struct Newest {
    timestamp: u64,
    snapshot: u64,
    targets_version: u64,
    targets_file: SignedFile,
}

fn sign(key: &MetadataKey, content: &impl Serialize) -> Result<Vec<u8>, TrustError> {
    let mut file = SignedFile::unsigned(content)?;
    key.sign(&mut file)?;
    Ok(file.to_bytes())
}

/// Reads a metadata file.
pub fn read_file(path: &Path, role: Role) -> Result<SignedFile, TrustError> {
    SignedFile::parse(&read(path)?, cap(role), "the metadata")
        .map_err(|source| TrustError::RefusedFile { path: path.to_owned(), source })
}

/// Reads the content of a metadata file whatever its role, and which role that is.
pub fn role_of(file: &SignedFile) -> Result<(Role, Header), TrustError> {
    let mut refusal = Refusal::Missing("the type of the metadata".into());
    for role in [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp] {
        match file.content::<Header>(role) {
            Ok(header) => return Ok((role, header)),
            Err(error) => refusal = error,
        }
    }
    Err(refusal.into())
}

/// The content of a file of that role.
pub fn content<T: DeserializeOwned>(file: &SignedFile, role: Role) -> Result<T, TrustError> {
    Ok(file.content(role)?)
}

fn make_directory(path: &Path) -> Result<(), TrustError> {
    fs::create_dir_all(path)
        .map_err(|source| KbuildError::Io { action: "make", path: path.to_owned(), source }.into())
}
