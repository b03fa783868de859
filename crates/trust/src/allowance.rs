use livepatch_types::{BuildId, KernelIdentity, ModuleName, PatchVersion};
use serde::{Deserialize, Serialize};

use crate::{FileMeta, Refusal};

/// Largest allowance, in bytes.
pub const MAX_ALLOWANCE_BYTES: u64 = 64 << 10;

/// Members that a writer may list in `critical` and this reader understands. None yet.
const UNDERSTOOD: [&str; 0] = [];

/// What a vendor allows for one kernel today: the content of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelAllowance {
    /// Version of the format: 1.
    pub schema: u32,
    /// Members that a reader must understand to act on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical: Vec<String>,
    /// The kernel.
    pub kernel: KernelIdentity,
    /// The lowest livepatch that may be installed; none: any that is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowest: Option<PatchVersion>,
    /// Livepatches that must not run any more. Final.
    #[serde(default)]
    pub withdrawn: Vec<PatchVersion>,
    /// Livepatches that may run.
    #[serde(default)]
    pub allowed: Vec<AllowedPatch>,
}

/// One livepatch that may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedPatch {
    /// Its version.
    pub version: PatchVersion,
    /// The module file, its appended signature included.
    pub module: FileMeta,
    /// Subject key identifier of the key that signed the module, in hexadecimal.
    pub signer: String,
    /// The modules whose functions it replaces.
    #[serde(default)]
    pub objects: Vec<AllowedObject>,
}

/// A module that a livepatch patches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedObject {
    /// Its name.
    pub name: ModuleName,
    /// Its build-id, as the distribution shipped it.
    pub build_id: BuildId,
}

/// A livepatch that somebody offers, and the host it is offered to: all of it observed, none of it stated by the offer.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The running kernel.
    pub kernel: &'a KernelIdentity,
    /// Its version.
    pub version: PatchVersion,
    /// The bytes of the module file.
    pub module: &'a [u8],
    /// Subject key identifier of the key whose signature on the module was verified, in hexadecimal.
    pub signer: &'a str,
    /// Modules that are here, loaded or to be loaded, with their build-ids.
    pub modules_here: &'a [(ModuleName, BuildId)],
}

impl KernelAllowance {
    /// What allows nothing yet.
    pub fn empty(kernel: KernelIdentity) -> Self {
        Self { schema: 1, critical: vec![], kernel, lowest: None, withdrawn: vec![], allowed: vec![] }
    }

    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let what = "what is allowed for the kernel";
        if bytes.len() as u64 > MAX_ALLOWANCE_BYTES {
            return Err(Refusal::TooLong { what: what.into(), limit: MAX_ALLOWANCE_BYTES });
        }
        let malformed = |error: serde_json::Error| Refusal::Malformed { what, why: error.to_string() };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(malformed)?;
        // Schema and critical members come first: a later format may not parse as this one.
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema != 1 {
            return Err(Refusal::Format(format!("allowance {schema}")));
        }
        if let Some(critical) = value.get("critical") {
            let critical = Vec::<String>::deserialize(critical).map_err(malformed)?;
            if let Some(unknown) = critical.iter().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
                return Err(Refusal::Critical(unknown.chars().take(80).collect()));
            }
        }
        serde_json::from_value(value).map_err(malformed)
    }

    /// The bytes of the target.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists of them: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether it speaks of this kernel. The build-id decides, not the release.
    pub fn is_for(&self, kernel: &KernelIdentity) -> Result<(), Refusal> {
        if self.kernel.build_id == kernel.build_id && self.kernel.architecture == kernel.architecture {
            return Ok(());
        }
        let text = |k: &KernelIdentity| format!("{} ({})", k.build_id, k.architecture);
        Err(Refusal::WrongKernel { expected: text(kernel), actual: text(&self.kernel) })
    }

    /// What is said of a livepatch that may be installed, before its module is at hand.
    pub fn listed(&self, kernel: &KernelIdentity, version: PatchVersion) -> Result<&AllowedPatch, Refusal> {
        self.apply_again(kernel, version)?;
        if let Some(lowest) = self.lowest.filter(|lowest| version < *lowest) {
            return Err(Refusal::BelowLowest { version, lowest });
        }
        let allowed = self.allowed.iter().find(|patch| patch.version == version);
        allowed.ok_or(Refusal::NotAllowed(version))
    }

    /// Whether a livepatch may be installed. Of time nothing is said: see [`crate::Vendor::check_time`].
    pub fn install(&self, candidate: &Candidate<'_>) -> Result<&AllowedPatch, Refusal> {
        let allowed = self.listed(candidate.kernel, candidate.version)?;
        allowed.module.check(candidate.module, "the module")?;
        if allowed.signer != candidate.signer {
            let (expected, actual) = (allowed.signer.clone(), candidate.signer.to_owned());
            return Err(Refusal::Signer { expected, actual });
        }
        for object in &allowed.objects {
            let here = candidate.modules_here.iter().filter(|(name, _)| *name == object.name);
            for (name, actual) in here {
                if *actual != object.build_id {
                    return Err(Refusal::ForeignModule {
                        name: name.clone(),
                        expected: object.build_id.clone(),
                        actual: actual.clone(),
                    });
                }
            }
        }
        Ok(allowed)
    }

    /// Whether what was installed once may be applied again after a reboot: neither the lowest allowed one nor any clock
    /// counts, only a withdrawal that was seen.
    pub fn apply_again(&self, kernel: &KernelIdentity, version: PatchVersion) -> Result<(), Refusal> {
        self.is_for(kernel)?;
        if self.withdrawn.contains(&version) { Err(Refusal::Withdrawn(version)) } else { Ok(()) }
    }
}
