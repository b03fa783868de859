//! What came of a series for a kernel: the record beside its bundle, and what people and programs are shown.

use std::path::PathBuf;

use livepatch_types::{CveId, KernelIdentity, PatchVersion, Sha256Digest, plural};
use serde::{Deserialize, Serialize};

use crate::error::ExitCode;

/// What became of one fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixVerdict {
    /// All of it is in the livepatch.
    Whole,
    /// Something of it is left out, on record: the CVE must not be called fixed.
    Partial,
    /// The kernel's source has it already.
    Contained,
    /// It changes nothing in this kernel.
    NotAffected,
    /// It is left out for this kernel, on record.
    LeftOut,
    /// A person must argue what cannot be livepatched.
    NeedsPerson,
    /// The patch does not fit the kernel's source.
    DoesNotApply,
    /// It cannot become a livepatch.
    Cannot,
}

impl FixVerdict {
    /// Whether a person has something to do.
    pub fn is_open(self) -> bool {
        matches!(self, Self::NeedsPerson | Self::DoesNotApply | Self::Cannot)
    }

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Contained => "contained in the kernel",
            Self::NotAffected => "not affected",
            Self::LeftOut => "left out",
            Self::NeedsPerson => "needs a person",
            Self::DoesNotApply => "does not apply",
            Self::Cannot => "cannot be a livepatch",
        }
    }
}

/// One fix and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixOutcome {
    /// The CVE.
    pub cve: CveId,
    /// What became of it.
    pub verdict: FixVerdict,
    /// Why, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What came of all fixes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelState {
    /// A bundle was written, and nobody has anything to decide.
    Built,
    /// No fix concerns this kernel; there is no bundle.
    NothingToDo,
    /// A person has something to decide. There may be a bundle with the other fixes.
    NeedsPerson,
    /// Something is in the way; the next run tries again.
    Failed,
}

impl KernelState {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::NothingToDo => "nothing to do",
            Self::NeedsPerson => "needs a person",
            Self::Failed => "failed",
        }
    }
}

/// What came of a series for one kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelOutcome {
    /// Version of this format: 1.
    pub schema: u32,
    /// Name of the kernel in the series.
    pub kernel: String,
    /// Version of the livepatch.
    pub version: PatchVersion,
    /// Digest of all that the result follows from.
    pub inputs: Option<Sha256Digest>,
    /// The kernel.
    pub identity: Option<KernelIdentity>,
    /// What came of it.
    pub state: KernelState,
    /// Why, where a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What became of each fix.
    pub fixes: Vec<FixOutcome>,
    /// The livepatch before, whose fixes this one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PatchVersion>,
    /// The bundle's module, without signature: digest and size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<BuiltModule>,
    /// The module's debug information, below the kernel's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<PathBuf>,
    /// Whether the run found it finished.
    #[serde(default)]
    pub resumed: bool,
    /// How long the run worked on it.
    pub seconds: f64,
    /// The exit code for what failed.
    #[serde(skip)]
    pub failure: Option<ExitCode>,
}

/// An unsigned module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltModule {
    /// SHA-256.
    pub sha256: Sha256Digest,
    /// Its size.
    pub size_bytes: u64,
}

impl KernelOutcome {
    pub(crate) fn new(kernel: &str, version: PatchVersion) -> Self {
        Self {
            schema: 1,
            kernel: kernel.to_owned(),
            version,
            inputs: None,
            identity: None,
            state: KernelState::Failed,
            why: None,
            fixes: Vec::new(),
            previous: None,
            module: None,
            debug: None,
            resumed: false,
            seconds: 0.0,
            failure: None,
        }
    }

    fn count(&self, verdict: FixVerdict) -> usize {
        self.fixes.iter().filter(|fix| fix.verdict == verdict).count()
    }
}

/// A table of all kernels, and below it what is not plain.
pub fn table(outcomes: &[KernelOutcome]) -> String {
    let head =
        ["kernel", "whole", "partial", "contained", "unaffected", "open", "module", "seconds", "result"];
    let mut rows = vec![head.map(str::to_owned)];
    for outcome in outcomes {
        let open = outcome.fixes.iter().filter(|fix| fix.verdict.is_open()).count();
        let state = outcome.state.word();
        rows.push([
            outcome.kernel.clone(),
            outcome.count(FixVerdict::Whole).to_string(),
            outcome.count(FixVerdict::Partial).to_string(),
            outcome.count(FixVerdict::Contained).to_string(),
            outcome.count(FixVerdict::NotAffected).to_string(),
            open.to_string(),
            outcome.module.map_or("-".into(), |module| format!("{} kB", module.size_bytes.div_ceil(1000))),
            format!("{:.1}", outcome.seconds),
            if outcome.resumed { format!("{state} before") } else { state.to_owned() },
        ]);
    }
    let mut text = aligned(&rows);
    for outcome in outcomes {
        if let Some(why) = &outcome.why {
            text.push_str(&format!("\n{}: {}\n", outcome.kernel, why.trim_end()));
        }
        for fix in outcome.fixes.iter().filter(|fix| fix.verdict != FixVerdict::Whole) {
            let why = fix.why.as_ref().map(|why| format!(": {}", why.trim_end())).unwrap_or_default();
            text.push_str(&format!("{}  {} {}{why}\n", outcome.kernel, fix.cve, fix.verdict.word()));
        }
    }
    let built = outcomes.iter().filter(|outcome| outcome.module.is_some()).count();
    text.push_str(&format!(
        "\n{} for {}\n",
        plural(built, "livepatch", "livepatches"),
        plural(outcomes.len(), "kernel", "kernels")
    ));
    text
}

/// Rows as columns of text.
pub(crate) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_is_not_plain() {
        let fix = |number: &str, verdict, why: Option<&str>| FixOutcome {
            cve: CveId::parse(&format!("CVE-2026-{number}")).unwrap(),
            verdict,
            why: why.map(str::to_owned),
        };
        let built = KernelOutcome {
            state: KernelState::NeedsPerson,
            fixes: vec![
                fix("1111", FixVerdict::Whole, None),
                fix("2222", FixVerdict::Contained, None),
                fix("3333", FixVerdict::DoesNotApply, Some("a.c: hunk 1")),
            ],
            module: Some(BuiltModule { sha256: Sha256Digest::from_bytes([0; 32]), size_bytes: 20_001 }),
            seconds: 12.34,
            ..KernelOutcome::new("6.1-cloud", PatchVersion::default())
        };
        let failed = KernelOutcome {
            why: Some("no space\nhint: free some".into()),
            ..KernelOutcome::new("6.12", PatchVersion::default())
        };
        let expected = "\
kernel     whole  partial  contained  unaffected  open  module  seconds  result
6.1-cloud  1      0        1          0           1     21 kB   12.3     needs a person
6.12       0      0        0          0           0     -       0.0      failed
6.1-cloud  CVE-2026-2222 contained in the kernel
6.1-cloud  CVE-2026-3333 does not apply: a.c: hunk 1

6.12: no space
hint: free some

1 livepatch for 2 kernels
";
        assert_eq!(table(&[built.clone(), failed]), expected);
        let read: KernelOutcome = serde_json::from_str(&serde_json::to_string(&built).unwrap()).unwrap();
        assert_eq!(read, built, "the record reads back");
    }
}
