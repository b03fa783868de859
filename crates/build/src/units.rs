//! From patches to compiled units: which units a patch concerns, and both compilations of each.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use livepatch_kbuild::{CompilerCommand, KbuildError, Membership, Mirror, PreparedTree, SourcePatch};
use livepatch_types::plural;

use crate::pipeline::Progress;

/// Both compilations of a unit.
#[derive(Debug)]
pub struct CompiledPair {
    /// Path of the object in the tree.
    pub unit: String,
    /// What it is linked into.
    pub membership: Membership,
    pub(crate) command: CompilerCommand,
    /// The object without the patches, not touched by objtool.
    pub original: Vec<u8>,
    /// The object with them.
    pub patched: Vec<u8>,
}

/// The units of this kernel that the patches concern: those that compile a changed C file, and those that include a
/// changed file.
pub(crate) fn concerned(
    tree: &PreparedTree,
    patches: &[SourcePatch],
    scratch: &Path,
    progress: &Progress<'_>,
) -> Result<Vec<(String, CompilerCommand)>, KbuildError> {
    let mut sources = BTreeSet::new();
    for patch in patches {
        sources.extend(patch.sources()?.into_iter().map(str::to_owned));
    }
    let mut out = Vec::new();
    let mut included = BTreeSet::new();
    for source in &sources {
        let unit = source.strip_suffix(".c").map(|stem| format!("{stem}.o"));
        match unit.as_deref().map(|unit| tree.unit_command(unit)).transpose()?.flatten() {
            Some(command) if command.source() == source => out.extend(unit.map(|unit| (unit, command))),
            // A header, a C file that others include, or one that this kernel does not have.
            _ => _ = included.insert(source.clone()),
        }
    }
    if included.is_empty() {
        return Ok(out);
    }
    progress(&format!(
        "looking for units that include {}",
        included.iter().cloned().collect::<Vec<_>>().join(", ")
    ));
    let candidates: Vec<(String, CompilerCommand)> = tree
        .units()
        .that_may_include(tree.path(), &included)
        .into_iter()
        .filter(|unit| out.iter().all(|(known, _)| known != unit))
        .map(|unit| Ok(tree.unit_command(&unit)?.map(|command| (unit, command))))
        .collect::<Result<Vec<_>, KbuildError>>()?
        .into_iter()
        .flatten()
        .collect();
    let label = plural(candidates.len(), "unit", "units");
    let includes = in_parallel(
        &candidates,
        progress,
        &format!("asking the preprocessor about {label}"),
        |(_, command)| tree.includes(command, &included, scratch),
    )?;
    out.extend(candidates.into_iter().zip(includes).filter(|(_, includes)| *includes).map(|(unit, _)| unit));
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

/// Compiles every unit with and without the patches. Units whose two objects are the same bytes are left out.
pub(crate) fn compile(
    tree: &PreparedTree,
    mirror: &Mirror,
    units: &[(String, CompilerCommand)],
    scratch: &Path,
    progress: &Progress<'_>,
) -> Result<Vec<CompiledPair>, KbuildError> {
    let label = format!("compiling {}, original and patched", plural(units.len(), "unit", "units"));
    in_parallel(units, progress, &label, |(unit, command)| {
        let original = tree.original(unit, command, scratch)?;
        let patched = tree.compile_patched(&original, mirror, scratch)?;
        Ok(CompiledPair {
            unit: unit.clone(),
            membership: original.membership,
            command: command.clone(),
            original: original.object,
            patched,
        })
    })
}

/// Works on all items with as many threads as there are cores; results in the order of the items. The first error
/// stops the rest.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    progress: &Progress<'_>,
    label: &str,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    progress(label);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<R, E>)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results.push((index, result));
                    if items.len() > 1 {
                        progress(&format!("{label}: {} of {}", results.len(), items.len()));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
