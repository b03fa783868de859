use std::fmt;

/// Why a change cannot become a livepatch. The words of [`Rule::name`] are stable: reports and tests use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// An object file that cannot be read or breaks an assumption about compiled kernels.
    Object,
    /// A data object has another initial value or size.
    DataChanged,
    /// Code or data that the kernel has used and freed at boot or load has changed.
    InitChanged,
    /// An export, module parameter or other table that is read once has changed.
    TableChanged,
    /// A section of no known meaning points into a function that is part of the livepatch.
    UnknownSection,
    /// A changed function cannot be traced, so it cannot be redirected.
    NotTraceable,
    /// Two things of one name cannot be told apart.
    Ambiguous,
    /// A symbol is not in the running kernel under this name.
    SymbolMissing,
    /// The compiler does not reproduce the shipped code.
    Fidelity,
    /// A jump label or static call whose key lives in a module.
    ModuleKey,
    /// Code with a constant that the kernel writes into its own code at boot.
    RuntimeConstant,
    /// The address of a kernel function that only direct calls may reach.
    SealedAddress,
    /// A function that some task never leaves.
    AlwaysRunning,
    /// A mark of the patch's author that cannot be followed.
    AuthorMark,
    /// The patch changes it, and a mark of its author leaves it out.
    LeftOut,
    /// A type is laid out in another way than the objects that exist already.
    LayoutChanged,
    /// Something sound that this version does not build.
    NotSupported,
}

impl Rule {
    /// The stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::DataChanged => "data-changed",
            Self::InitChanged => "init-changed",
            Self::TableChanged => "table-changed",
            Self::UnknownSection => "unknown-section",
            Self::NotTraceable => "not-traceable",
            Self::Ambiguous => "ambiguous",
            Self::SymbolMissing => "symbol-missing",
            Self::Fidelity => "fidelity",
            Self::ModuleKey => "module-key",
            Self::RuntimeConstant => "runtime-constant",
            Self::SealedAddress => "sealed-address",
            Self::AlwaysRunning => "always-running",
            Self::AuthorMark => "author-mark",
            Self::LeftOut => "left-out",
            Self::LayoutChanged => "layout-changed",
            Self::NotSupported => "not-supported",
        }
    }

    /// The usual way out.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Object => "compile the unit with the kernel's own configuration and compiler",
            Self::DataChanged => {
                "a livepatch replaces functions, not data: set the new value from a callback, change the code that reads it, or leave it out and say why the fix is whole without it"
            }
            Self::InitChanged => {
                "init and exit code has run already: leave that hunk out, and say why the fix is whole without it"
            }
            Self::TableChanged => {
                "leave that hunk out; what it registers is read once, when the object is loaded"
            }
            Self::UnknownSection => {
                "teach the differ what the section means; guessing would corrupt the kernel"
            }
            Self::NotTraceable => "patch the function's callers instead, if all of them are traceable",
            Self::Ambiguous => "rename the new one in the patch, so that the two differ",
            Self::SymbolMissing => {
                "the source may not be that of this kernel, or the symbol was inlined away"
            }
            Self::Fidelity => {
                "check that source version, configuration and compiler are exactly those of the shipped kernel"
            }
            Self::ModuleKey => "use static_key_enabled() in the patch instead",
            Self::RuntimeConstant => {
                "move the change into a function that does not use the constant, or patch the callers instead"
            }
            Self::SealedAddress => "call the function directly instead of handing out its address",
            Self::AlwaysRunning => "patch what it calls instead, or show that every task leaves it in time",
            Self::AuthorMark => "correct the mark; docs/patch-authors.md says what each one takes",
            Self::LeftOut => "give LIVEPATCH_LEAVE_OUT a reason, or --argue that the fix is whole without it",
            Self::LayoutChanged => {
                "objects that exist already have the old layout: keep it, with the new value in a shadow variable (klp_shadow_alloc) or in padding, or show that no such object meets the new code"
            }
            Self::NotSupported => "simplify the patch around this place, or wait for support",
        }
    }
}

/// A refusal: the rule, the place (function, object or section) and the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule that is broken.
    pub rule: Rule,
    /// The function, data object or section.
    pub place: String,
    /// What about it.
    pub why: String,
}

impl Refusal {
    pub(crate) fn new(rule: Rule, place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { rule, place: place.into(), why: why.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (rule {})", self.place, self.why, self.rule.name())
    }
}

impl std::error::Error for Refusal {}

impl From<crate::elf::ElfError> for Refusal {
    fn from(error: crate::elf::ElfError) -> Self {
        Self::new(Rule::Object, "object file", error.to_string())
    }
}
