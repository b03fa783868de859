//! What a repository says, for people and programs.

use jiff::Timestamp;
use livepatch_trust::{KernelAllowance, KeyId, Kind, Role, Root, Targets};
use livepatch_types::plural;
use serde::Serialize;

use super::error::TrustError;
use super::repository::{Repository, Verified, content};

/// A repository.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// Its name.
    repository: String,
    /// Whose it is.
    kind: Kind,
    /// Whether what hosts get is right; why not, if it is not.
    problem: Option<String>,
    /// Its roles, as the newest root has them.
    roles: Vec<ShownRole>,
    /// What is allowed for each kernel.
    kernels: Vec<KernelAllowance>,
    /// What waits for signatures.
    staged: Vec<Staged>,
}

#[derive(Debug, Serialize)]
struct ShownRole {
    role: Role,
    threshold: usize,
    keys: Vec<ShownKey>,
    /// Version that hosts get; 0 for roles without metadata of their own.
    version: u64,
    expires: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct ShownKey {
    id: KeyId,
    scheme: &'static str,
}

#[derive(Debug, Serialize)]
struct Staged {
    role: Role,
    version: u64,
    expires: Timestamp,
    /// Digest of what is signed: who signs can compare it with others.
    content_sha256: String,
    /// Keys whose signatures count.
    signers: Vec<KeyId>,
    threshold: usize,
    /// Whether a new root also has the signatures that the root before it asks for.
    successor: bool,
}

impl Shown {
    pub(crate) fn of(repository: &Repository, now: Timestamp) -> Result<Self, TrustError> {
        let state = repository.state()?;
        let staged_root = repository.staged(Role::Root)?;
        let staged_root = staged_root.map(|file| content::<Root>(&file, Role::Root)).transpose()?;
        let root = state.as_ref().map(|state| state.root().clone()).or(staged_root.clone());
        let root = root.ok_or_else(|| TrustError::Asked("this repository has no root".into()))?;
        let verified = repository.verify();
        let time = |verified: &Verified| match verified {
            Verified::Vendor(vendor, _) => vendor.check_time(now),
            Verified::Operator(state) => state.check_time(now),
        };
        let problem = match &verified {
            Ok(verified) => time(verified).err().map(|refusal| refusal.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let (vendor, kernels) = match verified {
            Ok(Verified::Vendor(vendor, kernels)) => (Some(vendor), kernels),
            _ => (None, vec![]),
        };
        let roles = root.roles.iter().map(|(&role, keys)| ShownRole {
            role,
            threshold: keys.threshold,
            keys: root.keys_of(role).map(|(id, key)| ShownKey { id: *id, scheme: key.scheme() }).collect(),
            version: match (&vendor, role) {
                (Some(vendor), role) => vendor.state().seen(role),
                (None, Role::Root) => state.as_ref().map_or(0, |state| state.seen(Role::Root)),
                (None, _) => 0,
            },
            expires: match &vendor {
                Some(vendor) => vendor.expiries().into_iter().find(|(of, _)| *of == role).map(|(_, at)| at),
                None => (role == Role::Root).then_some(root.header.expires),
            },
        });
        let roles = roles.collect();
        let mut staged = Vec::new();
        for role in [Role::Root, Role::Targets] {
            let Some(file) = repository.staged(role)? else { continue };
            let header = if role == Role::Root {
                content::<Root>(&file, role)?.header
            } else {
                content::<Targets>(&file, role)?.header
            };
            // A new root is signed by the keys that it names, everything else by those of the root that will stand.
            let by = staged_root.as_ref().unwrap_or(&root);
            let before = state.as_ref().map(livepatch_trust::State::root);
            let successor = match before.filter(|_| role == Role::Root) {
                Some(before) => file.signers(before, role)?.len() >= before.threshold(role),
                None => true,
            };
            staged.push(Staged {
                role,
                version: header.version,
                expires: header.expires,
                content_sha256: file.content_sha256()?.to_string(),
                signers: file.signers(by, role)?,
                threshold: by.threshold(role),
                successor,
            });
        }
        let (repository, kind) = (root.repository.to_string(), root.kind());
        Ok(Self { repository, kind, problem, roles, kernels, staged })
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("repository {} of {}\n", self.repository, self.kind);
        text.push_str(&match &self.problem {
            None => "  right     hosts believe it today\n".to_owned(),
            Some(problem) => format!("  problem   {problem}\n"),
        });
        for role in &self.roles {
            let expires = role.expires.map(|at| format!(", expires {at}")).unwrap_or_default();
            let version =
                if role.version == 0 { String::new() } else { format!(", version {}", role.version) };
            let keys = plural(role.keys.len(), "key", "keys");
            let threshold = role.threshold;
            text.push_str(&format!("  {:<11} {threshold} of {keys}{version}{expires}\n", role.role));
            for key in &role.keys {
                text.push_str(&format!("    key     {} ({})\n", key.id, key.scheme));
            }
        }
        for kernel in &self.kernels {
            let list = |versions: Vec<String>| {
                if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
            };
            text.push_str(&format!(
                "  kernel    {} ({})\n    allowed {}, withdrawn {}{}\n",
                kernel.kernel.release,
                kernel.kernel.build_id,
                list(kernel.allowed.iter().map(|patch| patch.version.to_string()).collect()),
                list(kernel.withdrawn.iter().map(ToString::to_string).collect()),
                kernel.lowest.map(|lowest| format!(", lowest {lowest}")).unwrap_or_default(),
            ));
        }
        for staged in &self.staged {
            text.push_str(&format!(
                "  staged    {} version {}, expires {}: {} of {} signed{}\n    content {}\n",
                staged.role,
                staged.version,
                staged.expires,
                staged.signers.len(),
                plural(staged.threshold, "key", "keys"),
                if staged.successor { "" } else { "; too few keys of the root before" },
                staged.content_sha256
            ));
        }
        text
    }
}
