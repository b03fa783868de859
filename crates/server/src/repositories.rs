//! Vendors' repositories and the operator's root: verified when they come in, served byte for byte.
//!
//! ```text
//! repositories/vendor/NAME/    metadata/ and targets/ as they were imported
//!                          state.json    what was seen: nothing older is taken
//!                          served.json   which kernels it speaks of, and its newest files
//! repositories/operator/       metadata/ and state.json
//! ```

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use livepatch_manifest::{MetadataFile, VendorMetadata, VerifyingKey, sha256};
use livepatch_transparency::{KeyEvent, KeyPurpose};
use livepatch_trust::{
    Kind, MAX_ALLOWANCE_BYTES, MAX_ROOT_BYTES, MAX_TARGETS_BYTES, PublicKey, Refusal, RepositoryName, Role,
    State, TargetName, Update,
};
use livepatch_types::BuildId;
use serde::{Deserialize, Serialize};

use crate::import::{Import, TIMESTAMP};
use crate::{Exit, Failure};

/// The repositories of a data directory.
#[derive(Debug, Clone)]
pub struct Repositories {
    directory: PathBuf,
}

/// A vendor's repository that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Its newest metadata.
    pub newest: VendorMetadata,
    /// When the first of its metadata expires.
    pub expires: Timestamp,
    /// The kernels that it speaks of.
    pub kernels: Vec<BuildId>,
}

impl Repositories {
    /// Speaks of a directory without looking at it.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn vendor(&self, name: &RepositoryName) -> PathBuf {
        self.directory.join("vendor").join(name.as_str())
    }

    fn operator(&self) -> PathBuf {
        self.directory.join("operator")
    }

    /// A file of a vendor's repository.
    pub fn vendor_file(&self, name: &RepositoryName, path: &TargetName) -> std::io::Result<Option<Vec<u8>>> {
        repository_file(&self.vendor(name), path)
    }

    /// A file of the operator's.
    pub fn operator_file(&self, path: &TargetName) -> std::io::Result<Option<Vec<u8>>> {
        repository_file(&self.operator(), path)
    }

    /// What is served, by name.
    pub fn served(&self) -> Vec<Served> {
        let Ok(entries) = fs::read_dir(self.directory.join("vendor")) else { return vec![] };
        let read = |directory: PathBuf| -> Option<Served> {
            serde_json::from_slice(&fs::read(directory.join("served.json")).ok()?).ok()
        };
        let mut served: Vec<_> = entries.flatten().filter_map(|entry| read(entry.path())).collect();
        served.sort_by(|a, b| a.newest.repository.cmp(&b.newest.repository));
        served
    }

    /// The newest metadata of the repository that speaks of a kernel.
    pub fn newest_for(&self, build_id: &BuildId) -> Option<VendorMetadata> {
        self.served().into_iter().find(|served| served.kernels.contains(build_id)).map(|served| served.newest)
    }

    /// The newest roots of all repositories, as events.
    pub fn roots(&self) -> Result<Vec<KeyEvent>, Failure> {
        let of_vendor = |served: Served| {
            let MetadataFile { version, sha256 } = served.newest.root;
            KeyEvent { purpose: KeyPurpose::VendorRoot, name: served.newest.repository, version, sha256 }
        };
        let mut roots: Vec<_> = self.served().into_iter().map(of_vendor).collect();
        if let Some(state) = known_state(&self.operator())? {
            let version = state.seen(Role::Root);
            let bytes = required(&self.operator(), &root_path(version), MAX_ROOT_BYTES)?;
            let name = state.root().repository.to_string();
            roots.push(KeyEvent { purpose: KeyPurpose::OperatorRoot, name, version, sha256: sha256(&bytes) });
        }
        Ok(roots)
    }

    /// Verifies a vendor's repository in a directory; nothing is taken yet.
    pub fn check_vendor(&self, from: &Path, now: Timestamp) -> Result<Import<Served>, Failure> {
        let (first, state) = first_root(from)?;
        let target = self.vendor(&state.root().repository);
        let known = known_state(&target)?;
        let known_root = known.as_ref().map_or(0, |state| state.seen(Role::Root));
        let state = known.unwrap_or(state);
        let mut files = known_roots(from, first, &state)?;
        let vendor = Update::run(state, |wanted| {
            let bytes = read(&from.join(&wanted.path), wanted.limit_bytes)?;
            files.push((wanted.path.clone(), bytes.clone()));
            Some(bytes)
        });
        let vendor = vendor.map_err(|refusal| refused(from, &refusal))?;
        let allowances = vendor.all_allowances(|file| {
            let bytes = read(&from.join(&file.path), MAX_ALLOWANCE_BYTES)?;
            files.push((file.path.clone(), bytes.clone()));
            Some(bytes)
        });
        let allowances = allowances.map_err(|refusal| refused(from, &refusal))?;
        vendor.check_time(now).map_err(|refusal| refused(from, &refusal))?;

        let state = vendor.state();
        let root = root_path(state.seen(Role::Root));
        let named = |path: &str, version: u64| {
            let bytes = files.iter().find(|(of, _)| of == path).map_or(&[][..], |(_, bytes)| bytes);
            MetadataFile { version, sha256: sha256(bytes) }
        };
        let served = Served {
            newest: VendorMetadata {
                repository: state.root().repository.to_string(),
                root: named(&root, state.seen(Role::Root)),
                timestamp: named(TIMESTAMP, state.seen(Role::Timestamp)),
            },
            expires: vendor.expiries().into_iter().map(|(_, at)| at).min().unwrap_or(Timestamp::MIN),
            kernels: allowances.into_iter().map(|allowance| allowance.kernel.build_id).collect(),
        };
        let roots = root_events(KeyPurpose::VendorRoot, state, known_root, &files);
        let records = vec![
            ("state.json", state.to_bytes()),
            ("served.json", serde_json::to_vec(&served).unwrap_or_default()),
        ];
        Import::new(target, files, records, roots, served)
    }

    /// Verifies an operator's root in a directory; nothing is taken yet. It must name the key that signs documents and
    /// assignments here, else no host would believe them.
    pub fn check_operator(
        &self,
        from: &Path,
        key: &VerifyingKey,
        now: Timestamp,
    ) -> Result<Import<State>, Failure> {
        let (first, state) = first_root(from)?;
        let target = self.operator();
        let known = known_state(&target)?;
        let known_root = known.as_ref().map_or(0, |state| state.seen(Role::Root));
        let mut state = known.unwrap_or(state);
        let mut files = known_roots(from, first, &state)?;
        while let Some(next) = read(&from.join(root_path(state.seen(Role::Root) + 1)), MAX_ROOT_BYTES) {
            state.take_root(&next).map_err(|refusal| refused(from, &refusal))?;
            files.push((root_path(state.seen(Role::Root)), next));
        }
        if state.root().kind() != Kind::Operator {
            return Err(refused(from, &Refusal::WrongKind(Kind::Operator)));
        }
        state.check_time(now).map_err(|refusal| refused(from, &refusal))?;
        let online = PublicKey::Ed25519(*key.as_bytes());
        for role in [Role::Documents, Role::Assignments] {
            if !state.root().keys_of(role).any(|(_, known)| *known == online) {
                return Err(Failure::refused(format!(
                    "the root does not name the key {} of this server for {role}",
                    online.id()
                ))
                .hint(format!(
                    "give the server's operator.pub to `livepatch-build trust rotate --role {role} --add`"
                )));
            }
        }
        let roots = root_events(KeyPurpose::OperatorRoot, &state, known_root, &files);
        Import::new(target, files, vec![("state.json", state.to_bytes())], roots, state)
    }
}

/// The roots above the known one, and the newest in any case, as events.
fn root_events(purpose: KeyPurpose, state: &State, known: u64, files: &[(String, Vec<u8>)]) -> Vec<KeyEvent> {
    let newest = state.seen(Role::Root);
    let first = (known + 1).min(newest);
    (first..=newest)
        .filter_map(|version| {
            let (_, bytes) = files.iter().find(|(path, _)| *path == root_path(version))?;
            let name = state.root().repository.to_string();
            Some(KeyEvent { purpose, name, version, sha256: sha256(bytes) })
        })
        .collect()
}

fn root_path(version: u64) -> String {
    format!("metadata/{version}.root.json")
}

/// The roots up to the one that is trusted: path and bytes.
fn known_roots(from: &Path, first: Vec<u8>, state: &State) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let later = (2..=state.seen(Role::Root)).map(|version| {
        let path = root_path(version);
        required(from, &path, MAX_ROOT_BYTES).map(|bytes| (path, bytes))
    });
    std::iter::once(Ok((root_path(1), first))).chain(later).collect()
}

fn first_root(from: &Path) -> Result<(Vec<u8>, State), Failure> {
    let first = required(from, &root_path(1), MAX_ROOT_BYTES)?;
    let state = State::pin(&first).map_err(|refusal| refused(from, &refusal))?;
    Ok((first, state))
}

fn known_state(target: &Path) -> Result<Option<State>, Failure> {
    let path = target.join("state.json");
    let corrupt = |error: anyhow::Error| {
        Failure::new(Exit::Setup, error)
            .context(format!("cannot use {}", path.display()))
            .hint("restore it from a backup; without it, older metadata could come back")
    };
    match fs::read(&path) {
        Ok(bytes) => State::parse(&bytes).map(Some).map_err(|error| corrupt(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(corrupt(error.into())),
    }
}

fn refused(from: &Path, refusal: &Refusal) -> Failure {
    Failure::refused(refusal)
        .context(format!("cannot take the repository {}", from.display()))
        .hint(refusal.hint())
}

fn required(from: &Path, path: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    read(&from.join(path), limit).ok_or_else(|| refused(from, &Refusal::Missing(path.to_owned())))
}

/// A file, and one byte more than its limit at most.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A file that hosts may have: below metadata or targets.
fn repository_file(directory: &Path, path: &TargetName) -> std::io::Result<Option<Vec<u8>>> {
    let public = ["metadata/", "targets/"].iter().any(|prefix| path.as_str().starts_with(prefix));
    let path = directory.join(path.as_str());
    if !public || !path.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_TARGETS_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
