//! Functions that must be taken from a second compilation, because as the kernel has them they only work in the kernel.
//!
//! **Runtime constants.** Since 6.11 the kernel writes some numbers (the bound of user addresses, the place of the dentry table) into its own
//! instructions at boot (arch/x86/include/asm/runtime-const.h), and never into a module's. Such code cannot go along:
//! it would check against a number that only marks the place. include/asm-generic/runtime-const.h has the same macros
//! for other machines; they read the variable instead.
//!
//! **Static keys of modules.** A jump label is written when its key is there; that of a module may come after the
//! livepatch, whose own table is read when it is loaded. Code that reads the key as a variable needs no table.
//!
//! **Sibling calls.** Where a redirected function ends in one that comes along, the compiler jumps there and leaves
//! nothing on the stack by which the kernel could see that a task still is in the livepatch. Calls leave it.
//!
//! So what changes is found with the kernel's own macros, and the code is taken from a second pair of compilations with
//! the others. That is sound when the same functions change, and when no function whose calling convention the
//! compiler made up (a clone: `f.isra.0`) is called across from one compilation to the other. Where the code calls an
//! unchanged clone that is not the same in both, it takes a copy along; a clone that is redirected is refused, for the
//! kernel calls it as its own compilation has it.

use std::collections::BTreeSet;

use crate::compare::{Comparison, compare};
use crate::elf::Placement;
use crate::extract::{Extracted, Original, extract_with_copies};
use crate::finish::{JUMP_ENTRY_BYTES, JUMP_ENTRY_KEY, JUMP_TABLE, TRACEPOINT};
use crate::refusal::{Refusal, Rule};
use crate::unit::{ItemKind, Target, Unit};

/// Two compilations of a unit.
#[derive(Clone, Copy)]
pub struct Pair<'u> {
    /// Without the patch.
    pub original: &'u Unit,
    /// With it.
    pub patched: &'u Unit,
}

/// What makes the second compilation necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Numbers that the kernel writes into its own code at boot.
    RuntimeConstants,
    /// Jump labels whose keys live in a module.
    StaticKeys,
    /// Redirected functions that end in a function of the livepatch ([`Extracted::ended_in`]).
    SiblingCalls,
}

impl Reason {
    fn refuse<T>(self, place: &str, why: &str) -> Result<T, Refusal> {
        let (rule, how) = match self {
            Self::RuntimeConstants => (Rule::RuntimeConstant, "without runtime constants"),
            Self::StaticKeys => (Rule::ModuleKey, "with static keys read as variables"),
            Self::SiblingCalls => (Rule::NotSupported, "without sibling calls"),
        };
        Err(Refusal::new(rule, place, format!("compiled {how}, {why}")))
    }
}

/// Keys of modules that an extracted object has jump labels for, as far as those do not stay off by themselves.
/// `is_early` says whether a symbol is there when the livepatch is loaded.
pub fn late_keys(extracted: &Extracted, is_early: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let object = &extracted.object;
    let tables = object.sections.iter().filter(|section| section.name == JUMP_TABLE);
    let keys =
        tables.flat_map(|table| &table.relocations).filter(|r| r.offset % JUMP_ENTRY_BYTES == JUMP_ENTRY_KEY);
    keys.filter_map(|r| object.symbols.get(r.symbol))
        .filter(|symbol| symbol.placement == Placement::Undefined && !symbol.name.starts_with(TRACEPOINT))
        .filter(|symbol| match extracted.originals.get(&symbol.name) {
            Some(Original::External(name)) => !is_early(name),
            original => original.is_some(),
        })
        .map(|symbol| symbol.name.clone())
        .collect()
}

/// Extracts the changes from the second compilation. `comparison` is that of the kernel's own
/// compilation, to whose original all that stays outside refers in the end. Of the `reasons` for it the last is named in
/// refusals.
pub fn extract_second(
    own: Pair<'_>,
    comparison: &Comparison,
    generic: Pair<'_>,
    prefix: usize,
    reasons: &[Reason],
) -> Result<Option<Extracted>, Refusal> {
    let reason = reasons.last().copied().unwrap_or(Reason::SiblingCalls);
    let changes = compare(generic.original, generic.patched)?;
    let names = |unit: &Unit, items: &BTreeSet<usize>| -> BTreeSet<String> {
        items.iter().map(|&index| unit.items[index].name().to_owned()).collect()
    };
    let changed = names(own.patched, &comparison.changed);
    let changed_generic = names(generic.patched, &changes.changed);
    if let Some(name) = changed.symmetric_difference(&changed_generic).next() {
        return reason.refuse(name, "another set of functions changes");
    }
    // Where the source is the same and only the compiler's choices differ, it may also inline otherwise.
    let other_source = reasons.iter().any(|reason| *reason != Reason::SiblingCalls);
    for &index in comparison.changed.iter().filter(|_| other_source) {
        let name = own.patched.items[index].name();
        let counterpart = generic.patched.function(name);
        if counterpart.is_none_or(|other| calls(own.patched, index) != calls(generic.patched, other)) {
            return reason.refuse(name, "it calls other functions");
        }
    }
    let bridge = compare(own.original, generic.original)?;
    let is_clone = |index: usize| {
        let item = &generic.original.items[index];
        item.kind == ItemKind::Function && item.name().contains('.')
    };
    // What the kernel has for an item of the original, if that is surely called in the same way.
    let found = |index: usize| {
        let same = |found: &usize| {
            !is_clone(index)
                || !bridge.changed.contains(&index)
                    && own.original.items[*found].name() == generic.original.items[index].name()
        };
        bridge.original_of[index].filter(same)
    };
    let mut copied = BTreeSet::new();
    let mut extracted = loop {
        let extracted = extract_with_copies(generic.original, generic.patched, &changes, &copied, prefix)?;
        let Some(extracted) = extracted else { return Ok(None) };
        let callable = extracted.originals.iter().filter(|(name, _)| !extracted.addresses.contains(*name));
        let clones = callable.filter_map(|(_, original)| match original {
            Original::Item(index) if is_clone(*index) && found(*index).is_none() => Some(*index),
            _ => None,
        });
        let partner = |original| changes.original_of.iter().position(|partner| *partner == Some(original));
        let known = copied.len();
        copied.extend(
            clones.filter_map(partner).filter(|index| !changes.changed.contains(index)).collect::<Vec<_>>(),
        );
        if copied.len() == known {
            break extracted;
        }
    };
    let counterpart = |index: usize| {
        let name = generic.original.items[index].name();
        match found(index) {
            Some(found) => Ok(found),
            None if bridge.original_of[index].is_some() => reason.refuse(name, "it may be called otherwise"),
            None => reason.refuse(name, "there is something that the kernel does not have"),
        }
    };
    for function in &mut extracted.functions {
        function.original = counterpart(function.original)?;
    }
    for original in extracted.originals.values_mut() {
        if let Original::Item(index) = original {
            *index = counterpart(*index)?;
        }
    }
    Ok(Some(extracted))
}

/// The names of all that a function calls or jumps to.
fn calls(unit: &Unit, index: usize) -> BTreeSet<&str> {
    let calls = unit.items[index].references.iter().filter(|r| r.branch);
    calls
        .filter_map(|r| match &r.target {
            Target::External { name, .. } => Some(name.as_str()),
            Target::Item { item, .. } if *item != index => Some(unit.items[*item].name()),
            _ => None,
        })
        .collect()
}
