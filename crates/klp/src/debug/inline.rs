//! Which functions are copied into which.

use std::collections::{BTreeMap, BTreeSet};

use super::{DebugInfo, Kind};

/// What debug information says of one function of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionFacts {
    /// Whether it has machine code of its own.
    pub has_code: bool,
    /// The functions whose machine code holds a copy of it.
    pub inlined_into: BTreeSet<String>,
    /// Source file, as the compiler found it, and line of its declaration.
    pub declared: Option<(String, u64)>,
}

impl DebugInfo {
    /// All functions that the unit defines, by name in the source: a clone (`f.isra.0`) counts as `f`.
    pub fn functions(&self) -> BTreeMap<&str, FunctionFacts> {
        let mut out: BTreeMap<&str, FunctionFacts> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let Some(name) = self.name(index).filter(|_| !entry.declaration) else { continue };
            match entry.kind {
                Kind::Function => {
                    let facts = out.entry(name).or_default();
                    facts.has_code |= entry.has_code;
                    let declared =
                        entry.declared.and_then(|(file, line)| Some((self.files.get(file)?, line)));
                    if let Some((file, line)) = declared {
                        facts.declared.get_or_insert_with(|| (file.clone(), line));
                    }
                }
                Kind::Inlined => {
                    // Of copies in copies the outermost function has the code.
                    let outer = entry.function.filter(|outer| self.entries[*outer].has_code);
                    if let Some(caller) = outer.and_then(|outer| self.name(outer)) {
                        out.entry(name).or_default().inlined_into.insert(caller.to_owned());
                    }
                }
                _ => {}
            }
        }
        out
    }
}
