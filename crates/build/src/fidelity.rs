//! Whether the compiler here reproduces the code of a shipped kernel: asked of units without any patch, before a
//! vendor takes a kernel into its care.

use std::collections::BTreeMap;
use std::sync::Mutex;

use livepatch_kbuild::{KbuildError, Membership};
use livepatch_klp::compare::compare;
use livepatch_klp::shipped::{Shipped, prove};
use livepatch_klp::{Refusal, Rule, Unit};
use livepatch_types::KernelIdentity;
use serde::Serialize;

use crate::error::BuildError;
use crate::pipeline::{Progress, Workbench, read_module};
use crate::report::{Finding, NotCompared, Verdict};
use crate::shipped::ShippedKernel;
use crate::units::in_parallel;

/// Which units to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These, by the path of their object in the tree.
    Named(Vec<String>),
    /// So many, spread evenly over the kernel; fewer when it has fewer.
    Spread(usize),
    /// Every unit: a build of the whole kernel takes as long.
    All,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct FidelityReport {
    /// Version of this format: 1.
    pub schema: u32,
    /// The kernel.
    pub kernel: KernelIdentity,
    /// First line of the compiler's `--version`.
    pub compiler: String,
    /// How many units were compiled.
    pub units: usize,
    /// Functions that came out identical.
    pub identical_functions: usize,
    /// Functions that could not be compared, by unit.
    pub not_compared: BTreeMap<String, Vec<NotCompared>>,
    /// Units that no livepatch can be built from, and why.
    pub refused: Vec<Finding>,
    /// Units that do not compile by themselves, and what the compiler said.
    pub failed: BTreeMap<String, String>,
}

/// One unit's part of the report.
enum Outcome {
    Same { identical: usize, skipped: Vec<NotCompared> },
    Refused(Refusal),
    Failed(String),
}

impl Workbench {
    /// Compiles units as they are and compares every function with the shipped code.
    pub fn fidelity(
        &self,
        selection: &Selection,
        progress: &Progress<'_>,
    ) -> Result<FidelityReport, BuildError> {
        let names: Vec<String> = match selection {
            Selection::Named(names) => names.clone(),
            Selection::All => self.tree().units().names().map(str::to_owned).collect(),
            Selection::Spread(count) => {
                let all: Vec<&str> = self.tree().units().names().collect();
                let count = (*count).min(all.len());
                (0..count).map(|index| all[index * all.len() / count].to_owned()).collect()
            }
        };
        let modules = Mutex::new(BTreeMap::new());
        let outcomes = in_parallel(&names, progress, "comparing with the shipped code", |name| {
            self.unit_fidelity(name, &modules)
        })?;
        let mut report = FidelityReport {
            schema: 1,
            kernel: self.identity().clone(),
            compiler: self.tree().compiler_version().to_owned(),
            units: names.len(),
            identical_functions: 0,
            not_compared: BTreeMap::new(),
            refused: Vec::new(),
            failed: BTreeMap::new(),
        };
        for (name, outcome) in names.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Same { identical, skipped } => {
                    report.identical_functions += identical;
                    if !skipped.is_empty() {
                        report.not_compared.insert(name, skipped);
                    }
                }
                Outcome::Refused(refusal) => {
                    report.refused.push(Finding::new(Verdict::Cannot, &name, &refusal, None));
                }
                Outcome::Failed(output) => _ = report.failed.insert(name, output),
            }
        }
        Ok(report)
    }

    fn unit_fidelity(&self, name: &str, modules: &Mutex<Modules>) -> Result<Outcome, BuildError> {
        let Some(command) = self.tree().unit_command(name)? else {
            let why = "this kernel compiles no such unit from a C file".to_owned();
            return Ok(Outcome::Failed(why));
        };
        let compiled = match self.tree().compile_original(name, &command, self.scratch()) {
            Err(KbuildError::Failed { output, .. }) => return Ok(Outcome::Failed(output)),
            compiled => compiled?,
        };
        let kernel;
        let module;
        let shipped: &dyn Shipped = match &compiled.membership {
            Membership::Vmlinux => {
                kernel = ShippedKernel::new(self.image());
                &kernel
            }
            Membership::Module(name) => {
                let mut modules = modules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                module = match modules.get(name.as_str()) {
                    Some(known) => std::sync::Arc::clone(known),
                    None => {
                        let read = std::sync::Arc::new(read_module(self.files(), name.as_str())?);
                        modules.insert(name.to_string(), std::sync::Arc::clone(&read));
                        read
                    }
                };
                module.as_ref()
            }
        };
        let judged = Unit::parse(&compiled.object, &self.tree().entry_sizes()).and_then(|unit| {
            let proof = prove(&unit, shipped)?;
            // A unit differs in nothing from itself: whatever is said to is a defect of the differ.
            let comparison = compare(&unit, &unit)?;
            if let Some(changed) = comparison.changed.first() {
                let why = "it is said to differ from itself".to_owned();
                return Err(Refusal {
                    rule: Rule::Object,
                    place: unit.items[*changed].name().to_owned(),
                    why,
                });
            }
            Ok(proof)
        });
        Ok(match judged {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(proof) => {
                let skipped = proof.skipped.into_iter();
                let skipped = skipped.map(|(function, reason)| NotCompared { function, reason }).collect();
                Outcome::Same { identical: proof.identical.len(), skipped }
            }
        })
    }
}

type Modules = BTreeMap<String, std::sync::Arc<livepatch_klp::shipped::ShippedModule>>;

impl FidelityReport {
    /// The report for people.
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        _ = writeln!(out, "kernel    {} (build-id {})", self.kernel.release, self.kernel.build_id);
        _ = writeln!(out, "compiler  {}", self.compiler);
        let skipped: usize = self.not_compared.values().map(Vec::len).sum();
        _ = writeln!(
            out,
            "units     {}; {} cannot be built from, {} do not compile alone",
            self.units,
            self.refused.len(),
            self.failed.len()
        );
        _ = writeln!(out, "functions {} identical, {skipped} not compared", self.identical_functions);
        for finding in &self.refused {
            _ = writeln!(
                out,
                "\n{}: {}: {} (rule {})",
                finding.unit, finding.place, finding.why, finding.rule
            );
        }
        for (unit, output) in &self.failed {
            _ = writeln!(out, "\n{unit}: {}", output.lines().next().unwrap_or_default());
        }
        out
    }
}
