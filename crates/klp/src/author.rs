//! What the author of a patch says in marks (`livepatch/author.h`): callbacks, states, and what is left out.
//!
//! Each macro there puts a few bytes into a section of its own, which nothing loads: what they say goes into the tables
//! of the livepatch, or decides what is extracted.

use std::collections::BTreeSet;

use crate::compare::Comparison;
use crate::elf::{Section, constants, relocation};
use crate::refusal::{Refusal, Rule};
use crate::section_class::Class;
use crate::unit::{ItemKind, Target, Unit};

/// Start of the names of sections with marks.
pub(crate) const SECTIONS: &str = ".livepatch.";
const CALLBACKS: &str = ".livepatch.callbacks.";
const STATES: &str = ".livepatch.states";
const LEFT_OUT: &str = ".livepatch.leave_out";
/// `struct livepatch_state_mark`: an `unsigned long`, an `unsigned int`, and what aligns the next one.
const STATE_BYTES: usize = 16;
const POINTER_BYTES: u64 = 8;

/// When the kernel calls back (`struct klp_callbacks`, include/linux/livepatch.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before the functions of an object are redirected; may refuse.
    PrePatch,
    /// When every task runs the new code.
    PostPatch,
    /// Before it goes back.
    PreUnpatch,
    /// When no task runs the new code any more.
    PostUnpatch,
}

impl Hook {
    /// All, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::PrePatch, Self::PostPatch, Self::PreUnpatch, Self::PostUnpatch];

    /// The name of its field.
    pub fn field(self) -> &'static str {
        match self {
            Self::PrePatch => "pre_patch",
            Self::PostPatch => "post_patch",
            Self::PreUnpatch => "pre_unpatch",
            Self::PostUnpatch => "post_unpatch",
        }
    }

    fn of_field(field: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.field() == field)
    }
}

/// A state of the system that a livepatch makes (`struct klp_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Its number for good, not 0.
    pub id: u64,
    /// Higher whenever its meaning changes.
    pub version: u32,
}

/// Something that the patch changes and the livepatch does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// A function, variable or section.
    pub place: String,
    /// Why; empty where the macro has no room for it.
    pub reason: String,
}

/// All marks of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// At most one function (by index) for each.
    pub callbacks: Vec<(Hook, usize)>,
    /// States, by number.
    pub states: BTreeSet<State>,
    /// What is left out.
    pub left_out: Vec<LeftOut>,
}

fn refuse<T>(place: &str, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(Rule::AuthorMark, place, why))
}

impl Marks {
    /// Reads them out of a patched unit.
    pub fn read(unit: &Unit) -> Result<Self, Refusal> {
        let mut marks = Self::default();
        for (index, section) in unit.object.sections.iter().enumerate() {
            if unit.classes[index] != Class::Author {
                continue;
            }
            let name = section.name.as_str();
            if section.kind == constants::NOBITS {
                return refuse(name, "a mark without content");
            }
            match (name.strip_prefix(CALLBACKS).and_then(Hook::of_field), name) {
                (Some(hook), _) => marks.callbacks.push((hook, callback(unit, index)?)),
                (None, STATES) => marks.read_states(section)?,
                (None, LEFT_OUT) => marks.read_left_out(section)?,
                _ => return refuse(name, "no mark that this version knows"),
            }
        }
        marks.callbacks.sort_unstable();
        // Sections of one name may differ in flags.
        if let Some(twice) = marks.callbacks.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return two_callbacks(twice[0].0);
        }
        Ok(marks)
    }

    fn read_states(&mut self, section: &Section) -> Result<(), Refusal> {
        let (states, rest) = section.data.as_chunks::<STATE_BYTES>();
        if !rest.is_empty() || !section.relocations.is_empty() {
            return refuse(STATES, "its content is not what LIVEPATCH_STATE makes");
        }
        for [a, b, c, d, e, f, g, h, i, j, k, l, ..] in states {
            let id = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            let state = State { id, version: u32::from_le_bytes([*i, *j, *k, *l]) };
            // The kernel's list of states ends at number 0 (klp_for_each_state, kernel/livepatch/state.c).
            if id == 0 {
                return refuse(STATES, "a state has the number 0");
            }
            self.states.insert(state);
        }
        match self.states.iter().zip(self.states.iter().skip(1)).find(|(a, b)| a.id == b.id) {
            Some((state, _)) => refuse(STATES, format!("state {} has two versions", state.id)),
            None => Ok(()),
        }
    }

    fn read_left_out(&mut self, section: &Section) -> Result<(), Refusal> {
        for text in section.data.split(|byte| *byte == 0).filter(|text| !text.is_empty()) {
            let text = String::from_utf8_lossy(text);
            match text.split_once('=') {
                Some((place, reason)) if !place.is_empty() => {
                    self.left_out.push(LeftOut { place: place.to_owned(), reason: reason.trim().to_owned() })
                }
                _ => return refuse(LEFT_OUT, format!("{text:?} names no place")),
            }
        }
        Ok(())
    }
}

fn two_callbacks<T>(hook: Hook) -> Result<T, Refusal> {
    refuse(hook.field(), "the unit has two callbacks of this kind; which would run first, and undo what?")
}

/// The one function that a section of callbacks names.
fn callback(unit: &Unit, section: usize) -> Result<usize, Refusal> {
    let Section { name, size, .. } = &unit.object.sections[section];
    let mut named = unit.loose.iter().filter(|(at, _)| *at == section).map(|(_, reference)| reference);
    let (Some(reference), None) = (named.next(), named.next()) else {
        let hook = name.strip_prefix(CALLBACKS).and_then(Hook::of_field);
        return hook.map_or_else(|| refuse(name, "no callback"), two_callbacks);
    };
    let whole = *size == POINTER_BYTES && reference.offset == 0 && reference.kind == relocation::ABS64;
    match reference.target {
        Target::Item { item, offset: 0 } if whole && unit.items[item].kind == ItemKind::Function => {
            match unit.classes[unit.items[item].section] {
                Class::Code => Ok(item),
                _ => refuse(unit.items[item].name(), "a callback lies among code that is freed after boot"),
            }
        }
        _ => refuse(name, "a callback must be a function of the same unit"),
    }
}

/// Leaves out what marks say: such functions stay as they are in the kernel.
pub(crate) fn leave_out(comparison: &mut Comparison, patched: &Unit) -> Result<(), Refusal> {
    let Marks { callbacks, left_out, .. } = Marks::read(patched)?;
    if let Some((hook, index)) = callbacks.iter().find(|(_, f)| comparison.original_of[*f].is_some()) {
        let why = format!("it is the {} callback, and it is in the kernel already", hook.field());
        return refuse(patched.items[*index].name(), why);
    }
    for LeftOut { place, .. } in left_out {
        let named = |index: &usize| patched.items[*index].names.contains(&place);
        let Some(index) = comparison.changed.iter().copied().find(named) else { continue };
        // A clone's calling convention is the compiler's: new callers may pass what the old code does not expect.
        if place.contains('.') {
            return refuse(&place, "only a whole function can be left out, and this is a part or a clone");
        }
        let parent_of = &comparison.parent_of;
        comparison.changed.retain(|other| *other != index && parent_of.get(other) != Some(&index));
        let why = "the patch changes it, and a mark of its author leaves it out";
        comparison.left_out.insert(index);
        comparison.omitted.push(Refusal::new(Rule::LeftOut, place, why));
    }
    Ok(())
}
