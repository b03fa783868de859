use crate::{InvalidValue, ModuleName, text_value};

/// The version of a livepatch, `113.1`: the notice it belongs to (LSN-0113-1) and a build of it for one kernel.
/// Ordered, both parts at least 1 (major) and 0 (minor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatchVersion {
    major: u32,
    minor: u32,
}

/// 1.1, the first of all.
impl Default for PatchVersion {
    fn default() -> Self {
        Self { major: 1, minor: 1 }
    }
}

impl PatchVersion {
    /// Reads `MAJOR.MINOR`, decimal without leading zeros.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why| InvalidValue::new("patch version", why, text);
        let (major, minor) = text.split_once('.').ok_or_else(|| refuse("it has no dot"))?;
        let number = |part: &str| -> Result<u32, InvalidValue> {
            let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            if !plain || part.is_empty() {
                return Err(refuse("its parts are not decimal numbers without leading zeros"));
            }
            part.parse().map_err(|_| refuse("a part is larger than 4294967295"))
        };
        let (major, minor) = (number(major)?, number(minor)?);
        if major == 0 {
            return Err(refuse("the first part is 0"));
        }
        Ok(Self { major, minor })
    }
    /// The number of the notice.
    pub fn major(self) -> u32 {
        self.major
    }
    /// The build of this notice for one kernel.
    pub fn minor(self) -> u32 {
        self.minor
    }
    /// The name under which the kernel knows the livepatch: `livepatch_113_1`.
    pub fn module_name(self) -> ModuleName {
        // Digits and underscores of two u32 always make a valid name; the fallback cannot be reached.
        ModuleName::parse(&format!("livepatch_{}_{}", self.major, self.minor))
            .unwrap_or_else(|_| unreachable!("a prefix and two numbers are a module name"))
    }
    /// The version that a module has by such a name; none: it is no livepatch of ours.
    pub fn of_module(name: &ModuleName) -> Option<Self> {
        let numbers = name.as_str().strip_prefix("livepatch_")?;
        Self::parse(&numbers.replacen('_', ".", 1)).ok()
    }
    fn to_text(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}
text_value!(PatchVersion);

/// What the host last learned from the server. The words are those of the original client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// No check has finished since the daemon started.
    NeedsCheck,
    /// The last check succeeded.
    Checked,
    /// The last check failed.
    CheckFailed,
}

/// What is true of the running kernel. The words are those of the original client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchState {
    /// A patch is there and not applied.
    Unapplied,
    /// Insertion or transition is under way.
    Applying,
    /// The patch is applied and the transition is complete.
    Applied,
    /// Applied, but the kernel log complained about it afterwards.
    AppliedWithBug,
    /// The last attempt failed; the kernel runs without it.
    ApplyFailed,
    /// No patch exists for this kernel.
    NothingToApply,
    /// This kernel gets no patches any more; a newer one does.
    KernelUpgradeRequired,
    /// Not known yet.
    Unknown,
}
