//! Whether two types of two compilations are the same in memory.
//!
//! Types that have a name are the same when they have the same one: whether such a type itself changed is asked once,
//! for it alone. Everything else is compared by what it is made of.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::{DebugError, DebugInfo, Kind, MAX_DEPTH};

/// Most comparisons of one pair of units.
const MAX_STEPS: usize = 10_000_000;

/// Two compilations, and what is known about pairs of their types.
pub(super) struct Pair<'d> {
    pub(super) old: &'d DebugInfo,
    pub(super) new: &'d DebugInfo,
    known: RefCell<HashMap<(usize, usize), bool>>,
    steps: Cell<usize>,
}

impl<'d> Pair<'d> {
    pub(super) fn new(old: &'d DebugInfo, new: &'d DebugInfo) -> Self {
        Self { old, new, known: RefCell::default(), steps: Cell::new(0) }
    }

    /// Counts work; an error when it is more than any real unit gives.
    pub(super) fn step(&self) -> Result<(), DebugError> {
        self.steps.set(self.steps.get() + 1);
        let enough = self.steps.get() > MAX_STEPS;
        if enough { Err(DebugError::Unsupported("too many types".into())) } else { Ok(()) }
    }

    pub(super) fn same(&self, old: Option<usize>, new: Option<usize>) -> Result<bool, DebugError> {
        self.same_at(old, new, MAX_DEPTH)
    }

    fn same_at(&self, old: Option<usize>, new: Option<usize>, depth: usize) -> Result<bool, DebugError> {
        self.step()?;
        let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
        let (old, new) = (self.old.unqualified(old), self.new.unqualified(new));
        let (Some(old), Some(new)) = (old, new) else { return Ok(old.is_none() && new.is_none()) };
        // A pair that is being compared already is the same, unless something else differs.
        if let Some(known) = self.known.borrow().get(&(old, new)) {
            return Ok(*known);
        }
        self.known.borrow_mut().insert((old, new), true);
        let same = self.compare(old, new, depth)?;
        self.known.borrow_mut().insert((old, new), same);
        Ok(same)
    }

    fn compare(&self, old: usize, new: usize, depth: usize) -> Result<bool, DebugError> {
        let (a, b) = (&self.old.entries[old], &self.new.entries[new]);
        let targets = || self.same_at(self.old.target(old), self.new.target(new), depth);
        match (a.kind, b.kind) {
            (Kind::Typedef, Kind::Typedef) if a.name == b.name => Ok(true),
            // Another name for the same is the same.
            (Kind::Typedef, _) => self.same_at(self.old.target(old), Some(new), depth),
            (_, Kind::Typedef) => self.same_at(Some(old), self.new.target(new), depth),
            (a_kind, b_kind) if a_kind != b_kind => Ok(false),
            (Kind::Struct | Kind::Union | Kind::Enum, _) if a.name.is_some() || b.name.is_some() => {
                Ok(a.name == b.name)
            }
            (Kind::Struct | Kind::Union, _) => {
                Ok(a.size == b.size && self.same_members(old, new, Kind::Member, depth)?)
            }
            // The values of enumerators are looked at by themselves.
            (Kind::Enum, _) => Ok(a.size == b.size),
            (Kind::Base, _) => Ok(a.number == b.number && a.size == b.size),
            (Kind::Pointer, _) => Ok(a.size == b.size && targets()?),
            (Kind::Array, _) => {
                let counts = |info: &DebugInfo, at| -> Vec<Option<i128>> {
                    info.children(at, Kind::Dimension).map(|d| info.entries[d].number).collect()
                };
                Ok(counts(self.old, old) == counts(self.new, new) && targets()?)
            }
            (Kind::FunctionType, _) => Ok(targets()? && self.same_members(old, new, Kind::Parameter, depth)?),
            _ => Ok(a.name == b.name),
        }
    }

    /// Whether two lists, of members or of parameters, are the same.
    fn same_members(&self, old: usize, new: usize, kind: Kind, depth: usize) -> Result<bool, DebugError> {
        let (mut olds, mut news) = (self.old.children(old, kind), self.new.children(new, kind));
        loop {
            let (a, b) = match (olds.next(), news.next()) {
                (None, None) => return Ok(true),
                (Some(a), Some(b)) => (a, b),
                _ => return Ok(false),
            };
            let place = |info: &'d DebugInfo, at: usize| {
                let entry = &info.entries[at];
                (entry.name.as_deref(), entry.bit_offset, entry.bit_size)
            };
            let places = kind == Kind::Parameter || place(self.old, a) == place(self.new, b);
            if !(places && self.same_at(self.old.target(a), self.new.target(b), depth)?) {
                return Ok(false);
            }
        }
    }
}

pub(super) fn too_deep() -> DebugError {
    DebugError::Unsupported(format!("types nested more than {MAX_DEPTH} deep"))
}
