//! What is remembered of the vendor's repository: the root and the versions seen, when they expire, and for each kernel
//! that ran here what is allowed and what was ever withdrawn.

use std::collections::BTreeMap;

use jiff::Timestamp;
use livepatch_loader_api::RoleSeen;
use livepatch_manifest::VendorMetadata;
use livepatch_trust::{KernelAllowance, Refusal, RepositoryName, Role, State, Vendor};
use livepatch_types::{KernelIdentity, PatchVersion};
use serde::{Deserialize, Serialize};

use crate::Problem;

const SCHEMA: u32 = 1;
/// Of so many kernels that ran here it is known what was withdrawn.
const MOST_KERNELS: usize = 32;

/// The roles whose expiry is kept beside the root, which has its own.
const ROLES: [Role; 3] = [Role::Targets, Role::Snapshot, Role::Timestamp];

/// What is remembered of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(super) state: State,
    /// When the newest metadata expires, by role but for the root's; empty: none was seen.
    expires: BTreeMap<Role, Timestamp>,
    kernels: Vec<OfKernel>,
}

/// What was said of a kernel that ran here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfKernel {
    /// The kernel.
    kernel: KernelIdentity,
    /// The version of the targets that said it.
    targets: u64,
    /// What is allowed; none: the vendor names no such kernel.
    #[serde(with = "allowance")]
    pub(super) allowance: Option<KernelAllowance>,
    /// Everything ever withdrawn.
    withdrawn: Vec<PatchVersion>,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    repository: serde_json::Value,
    expires: BTreeMap<Role, Timestamp>,
    kernels: Vec<OfKernel>,
}

/// An allowance is read as a target is: with schema and critical members first.
mod allowance {
    use livepatch_trust::KernelAllowance;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        allowance: &Option<KernelAllowance>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        allowance.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<KernelAllowance>, D::Error> {
        let value = Option::<serde_json::Value>::deserialize(deserializer)?;
        let read = |value: serde_json::Value| KernelAllowance::parse(value.to_string().as_bytes());
        value.map(read).transpose().map_err(D::Error::custom)
    }
}

impl Kept {
    /// What a host remembers that has just been given a root.
    pub(super) fn pin(root: &[u8]) -> Result<Self, Refusal> {
        let state = State::pin(root)?;
        // Refuses the root of an operator.
        livepatch_trust::Update::new(state.clone())?;
        Ok(Self { state, expires: BTreeMap::new(), kernels: vec![] })
    }

    /// Reads what was kept.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema != u64::from(SCHEMA) {
            return Err(format!("its schema is {schema} where {SCHEMA} is understood"));
        }
        let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let state =
            State::parse(file.repository.to_string().as_bytes()).map_err(|refusal| refusal.to_string())?;
        let complete = ROLES.iter().all(|role| file.expires.contains_key(role));
        let seen = ROLES.iter().any(|role| state.seen(*role) > 0);
        if file.expires.len() > ROLES.len() || complete != seen {
            return Err("it does not say when each role expires".into());
        }
        Ok(Self { state, expires: file.expires, kernels: file.kernels })
    }

    /// The bytes to keep.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let repository = serde_json::from_slice(&self.state.to_bytes())?;
        let (expires, kernels) = (self.expires.clone(), self.kernels.clone());
        serde_json::to_vec_pretty(&File { schema: SCHEMA, repository, expires, kernels })
    }

    /// After an update, with what is allowed for the running kernel, if the vendor names it.
    pub(super) fn updated(
        &self,
        vendor: &Vendor,
        kernel: &KernelIdentity,
        allowance: Option<KernelAllowance>,
    ) -> Self {
        let state = vendor.state().clone();
        let expires = vendor.expiries().into_iter().filter(|(role, _)| *role != Role::Root).collect();
        let mut kernels = self.kernels.clone();
        let mut withdrawn = self.withdrawn(kernel);
        withdrawn.extend(allowance.iter().flat_map(|allowance| &allowance.withdrawn));
        withdrawn.sort();
        withdrawn.dedup();
        kernels.retain(|of| !same(&of.kernel, kernel));
        kernels.push(OfKernel {
            kernel: kernel.clone(),
            targets: state.seen(Role::Targets),
            allowance,
            withdrawn,
        });
        Self { state, expires, kernels }.pruned()
    }

    /// With the next root, which root or a package pinned.
    pub(super) fn followed_by(&self, pinned: &Self) -> Result<Self, Refusal> {
        let mut state = self.state.clone();
        state.take_root(&pinned.state.root_bytes())?;
        Ok(self.with_root_of(state))
    }

    /// With a later root. What keys of the former one allowed must be asked for anew, for it was not verified by those of
    /// the later one.
    pub(super) fn with_root_of(&self, state: State) -> Self {
        let seen = ROLES.iter().any(|role| state.seen(*role) > 0);
        let expires = if seen { self.expires.clone() } else { BTreeMap::new() };
        Self { state, expires, kernels: vec![] }.with_withdrawals_of(self)
    }

    /// Withdrawals are final: what was withdrawn before the host began anew stays so.
    pub(super) fn with_withdrawals_of(mut self, before: &Self) -> Self {
        let only_withdrawn = |of: &OfKernel| OfKernel { targets: 0, allowance: None, ..of.clone() };
        self.kernels = before.kernels.iter().map(only_withdrawn).collect();
        self.pruned()
    }

    /// Without what no host asks for any more: what older targets allowed, and kernels of which nothing was withdrawn and
    /// that the newest targets were not asked about. The last ones are kept.
    fn pruned(mut self) -> Self {
        let newest = self.state.seen(Role::Targets);
        for of in self.kernels.iter_mut().filter(|of| of.targets != newest) {
            of.allowance = None;
        }
        self.kernels.retain(|of| of.targets == newest || !of.withdrawn.is_empty());
        let too_many = self.kernels.len().saturating_sub(MOST_KERNELS);
        self.kernels.drain(..too_many);
        self
    }

    pub(super) fn repository(&self) -> &RepositoryName {
        &self.state.root().repository
    }

    fn seen_anything(&self) -> bool {
        self.state.seen(Role::Targets) > 0
    }

    /// What the newest targets say of a kernel; none: they were not asked.
    pub(super) fn newest(&self, kernel: &KernelIdentity) -> Option<&OfKernel> {
        let targets = self.state.seen(Role::Targets);
        // Of a host that began anew only withdrawals are known.
        let mut asked = self.kernels.iter().filter(|of| targets > 0 && of.targets == targets);
        asked.find(|of| same(&of.kernel, kernel))
    }

    /// Everything ever withdrawn for a kernel.
    pub(super) fn withdrawn(&self, kernel: &KernelIdentity) -> Vec<PatchVersion> {
        let of = self.kernels.iter().filter(|of| same(&of.kernel, kernel));
        of.flat_map(|of| of.withdrawn.iter().copied()).collect()
    }

    /// Whether the operator names newer metadata of this repository, or the newest was not asked about the kernel.
    pub(super) fn is_behind(&self, kernel: &KernelIdentity, named: &VendorMetadata) -> bool {
        named.repository == self.repository().as_str()
            && (self.is_older_than(named) || self.newest(kernel).is_none())
    }

    pub(super) fn is_older_than(&self, named: &VendorMetadata) -> bool {
        named.root.version > self.state.seen(Role::Root)
            || named.timestamp.version > self.state.seen(Role::Timestamp)
    }

    /// Whether the operator means the timestamp that was seen, where it names that version.
    pub(super) fn check_named(&self, named: &VendorMetadata) -> Result<(), Refusal> {
        self.state.check_timestamp(named.timestamp.version, named.timestamp.sha256)
    }

    /// Whether something new may be installed at this time.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        self.state.check_time(now)?;
        match self.expires.iter().find(|(_, expires)| now >= **expires) {
            Some((&role, &expires)) => Err(Refusal::Expired { role, expires }),
            None => Ok(()),
        }
    }

    /// What time did to metadata that was seen, if it installs nothing new any more.
    pub(super) fn stale(&self, now: Timestamp) -> Option<Problem> {
        self.check_time(now).err().filter(|_| self.seen_anything()).map(Problem::from)
    }

    /// Versions and expiries.
    pub(super) fn roles(&self) -> Vec<RoleSeen> {
        let root = std::iter::once((Role::Root, self.state.root().header.expires));
        let others = self.expires.iter().map(|(role, expires)| (*role, *expires));
        let seen = |(role, expires)| RoleSeen { role, version: self.state.seen(role), expires };
        root.chain(others).map(seen).collect()
    }
}

impl OfKernel {
    /// The versions that may be installed.
    pub(super) fn installable(&self) -> Vec<PatchVersion> {
        let Some(allowance) = &self.allowance else { return vec![] };
        let listed = allowance.allowed.iter().map(|patch| patch.version);
        listed.filter(|version| allowance.listed(&self.kernel, *version).is_ok()).collect()
    }
}

/// The build-id decides, not the release.
fn same(a: &KernelIdentity, b: &KernelIdentity) -> bool {
    a.build_id == b.build_id && a.architecture == b.architecture
}
