//! What changed between two compilations of a unit.
//!
//! First items are paired: by name, by name without compiler-made numbers, and variables of one name inside functions
//! by who refers to them. Then pairs are compared by bytes and by what they refer to. Nothing is paired by position
//! alone: `static int x` of two functions must never be mixed up.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::author::leave_out;
use crate::lines::{only_lines_differ, same_but_for_a_line};
use crate::refusal::{Refusal, Rule};
use crate::section_class::{Class, Fate};
use crate::unit::{Entry, Item, ItemKind, Reference, Target, Unit};

/// Nameless things that are compared for one function at most. What is not compared counts as different.
const MAX_STEPS: u32 = 100_000;

/// Where `struct source_location` has line and column (lib/ubsan.h).
const UBSAN_LINE_AND_COLUMN: std::ops::Range<usize> = 8..16;

/// Nested pieces are at most this deep (an alternative within an alternative, then a helper).
const MAX_PIECE_DEPTH: u32 = 8;

/// Variables that the compiler or a macro makes for one place in the code. A patched function takes its own along:
/// at worst a warning is printed once more (kpatch-build's list, extended from include/linux of 6.1).
const OWN_COPY: [&str; 13] = [
    "__key",
    "__warned",
    "__already_done",
    "__print_once",
    "__func__",
    "__FUNCTION__",
    "__PRETTY_FUNCTION__",
    "_rs",
    "CSWTCH",
    "descriptor",
    "__UNIQUE_ID_ddebug",
    "_entry",
    "_entry_ptr",
];

/// Start of the names of type numbers that BPF goes by: then kind and name of the type, a counter, and since 6.2 the
/// source line (include/linux/btf_ids.h).
const BTF_ID: &str = "__BTF_ID__";

/// The name without numbers that the compiler, `__UNIQUE_ID` (include/linux/compiler.h) and `BTF_ID` append: runs of
/// digits that are all there is between dots, and those at the end of a unique name.
pub fn plain_name(name: &str) -> String {
    let mut parts = name.split('.').enumerate().map(|(at, part)| match part {
        _ if part.starts_with("__UNIQUE_ID_") || part.starts_with(BTF_ID) => {
            part.trim_end_matches(|c: char| c.is_ascii_digit())
        }
        _ if at > 0 && part.bytes().all(|b| b.is_ascii_digit()) => "",
        _ => part,
    });
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push('.');
        out.push_str(part);
    }
    out
}

/// Whether a patched function takes its own copy of this variable along: `__key.12`; of clang `function.__key.12`.
pub fn is_own_copy(item: &Item) -> bool {
    let name = plain_name(item.name());
    let base = name.trim_end_matches('.');
    let base = base.rsplit('.').next().unwrap_or(base);
    item.kind == ItemKind::Data && OWN_COPY.contains(&base)
}

/// Whether a variable lives inside a function (`name.123`) and cannot change: its content is all there is to it.
pub fn is_literal(unit: &Unit, item: &Item) -> bool {
    item.kind == ItemKind::Data
        && plain_name(item.name()) != item.name()
        && unit.is_read_only(item)
        && item.references.is_empty()
        && matches!(unit.classes[item.section], Class::Data)
}

/// What is the same and what is not.
#[derive(Debug)]
pub struct Comparison {
    /// For each item of the patched unit its partner in the original one.
    pub original_of: Vec<Option<usize>>,
    /// Functions of the patched unit that differ from their partner, by index.
    pub changed: BTreeSet<usize>,
    /// Those that a mark of the patch's author takes out of `changed`.
    pub left_out: BTreeSet<usize>,
    /// Functions of the patched unit without partner.
    pub new_functions: BTreeSet<usize>,
    /// Names that stand for several items here or there and were not told apart.
    pub ambiguous: HashSet<String>,
    /// Children (`f.cold`) of the patched unit, and their parents.
    pub parent_of: HashMap<usize, usize>,
    /// Variables of the patched unit whose size differs from their partner's: code that was compiled for the new one
    /// must not meet the old one.
    pub resized: BTreeSet<usize>,
    /// Changes that cannot be part of a livepatch and are left out: code and data of boot time, tables that are read
    /// once, values that variables were given when the kernel was linked. Whether the fix is whole without them is for
    /// a person to say.
    pub omitted: Vec<Refusal>,
}

/// Compares two compilations. Refuses changes that no livepatch can carry.
pub fn compare(original: &Unit, patched: &Unit) -> Result<Comparison, Refusal> {
    let mut pairing = Pairing::new(original, patched);
    pairing.by_name();
    pairing.by_referrer();
    let Pairing { original_of, ambiguous, taken, .. } = pairing;
    let eye = Eye { original, patched, original_of: &original_of, steps: Cell::new(0) };

    let parent_of = children(patched);
    let mut changed = BTreeSet::new();
    let mut new_functions = BTreeSet::new();
    let mut resized = BTreeSet::new();
    let mut omitted = Vec::new();
    for (index, item) in patched.items.iter().enumerate() {
        match (item.kind, original_of[index]) {
            (ItemKind::Function, None) => _ = new_functions.insert(index),
            (ItemKind::Function, Some(partner)) if !eye.same_function(partner, index) => {
                if matches!(patched.classes[item.section], Class::Init) {
                    let why = format!("the change is in section {}", patched.section_name(item));
                    omitted.push(Refusal::new(Rule::InitChanged, item.name(), why));
                } else {
                    changed.insert(index);
                }
            }
            (ItemKind::Data, Some(partner)) => {
                omitted.extend(eye.check_data(partner, index).err());
                if item.size != original.items[partner].size && !is_own_copy(item) {
                    resized.insert(index);
                }
            }
            _ => {}
        }
    }
    // Parent and child are one function in two places. Either may be new: a changed parent can gain or lose a child.
    let old_parent_of = children(original);
    for (&child, &parent) in &parent_of {
        let moved = original_of[child].is_none_or(|c| old_parent_of.get(&c).copied() != original_of[parent]);
        if changed.contains(&child) || changed.contains(&parent) || (moved && original_of[parent].is_some()) {
            changed.insert(parent);
            changed.insert(child);
            new_functions.remove(&child);
        }
    }
    for name in eye.differing_sections(Class::ReadOnce) {
        omitted.push(Refusal::new(Rule::TableChanged, name, "the patch adds, removes or changes an entry"));
    }
    // Their bytes are all the same until the kernel is linked.
    let is_type_number = |item: &Item| item.name().starts_with(BTF_ID);
    let alone = (0..original.items.len()).filter(|index| !taken.contains(index)).map(|i| &original.items[i]);
    let added = original_of.iter().zip(&patched.items).filter(|(partner, _)| partner.is_none());
    if let Some(item) = alone.chain(added.map(|(_, item)| item)).find(|item| is_type_number(item)) {
        let why = format!("the patch adds, removes or renames an entry of {}", patched.section_name(item));
        return Err(Refusal::new(Rule::UnknownSection, plain_name(item.name()), why));
    }
    if let Some(name) = eye.differing_sections(Class::Unknown).into_iter().next() {
        let why = "the patch adds, removes or changes something in a section of unknown meaning";
        return Err(Refusal::new(Rule::UnknownSection, name, why));
    }
    let left_out = BTreeSet::new();
    let mut comparison =
        Comparison { original_of, changed, left_out, new_functions, ambiguous, parent_of, resized, omitted };
    leave_out(&mut comparison, patched)?;
    Ok(comparison)
}

/// `f.cold` belongs to `f`.
fn children(unit: &Unit) -> HashMap<usize, usize> {
    let functions: HashMap<&str, usize> = unit
        .items
        .iter()
        .enumerate()
        .filter(|(_, i)| i.kind == ItemKind::Function)
        .flat_map(|(index, i)| i.names.iter().map(move |n| (n.as_str(), index)))
        .collect();
    let mut out = HashMap::new();
    for (name, &index) in &functions {
        // gcc: `f.cold`; before gcc 8 `f.cold.12`.
        let parent = name.find(".cold").filter(|&at| {
            let rest = &name[at + 5..];
            rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        });
        if let Some(&parent) = parent.and_then(|at| functions.get(&name[..at])) {
            out.insert(index, parent);
        }
    }
    out
}

struct Pairing<'u> {
    original: &'u Unit,
    patched: &'u Unit,
    original_of: Vec<Option<usize>>,
    taken: HashSet<usize>,
    ambiguous: HashSet<String>,
}

type Key = (ItemKind, String);

fn group(
    unit: &Unit,
    key: impl Fn(&Item) -> Option<Key>,
    skip: impl Fn(usize) -> bool,
) -> HashMap<Key, Vec<usize>> {
    let mut out: HashMap<Key, Vec<usize>> = HashMap::new();
    for (index, item) in unit.items.iter().enumerate().filter(|(index, _)| !skip(*index)) {
        if let Some(key) = key(item) {
            out.entry(key).or_default().push(index);
        }
    }
    out
}

impl<'u> Pairing<'u> {
    fn new(original: &'u Unit, patched: &'u Unit) -> Self {
        let original_of = vec![None; patched.items.len()];
        Self { original, patched, original_of, taken: HashSet::new(), ambiguous: HashSet::new() }
    }

    fn pair(&mut self, original: usize, patched: usize) {
        self.original_of[patched] = Some(original);
        self.taken.insert(original);
    }

    fn unpaired(
        &self,
        key: impl Fn(&Item) -> Option<Key> + Copy,
    ) -> (HashMap<Key, Vec<usize>>, HashMap<Key, Vec<usize>>) {
        let old = group(self.original, key, |i| self.taken.contains(&i));
        let new = group(self.patched, key, |i| self.original_of[i].is_some());
        (old, new)
    }

    /// Exact names without compiler-made numbers, then names with the numbers left out where exactly one of that
    /// name is on each side.
    fn by_name(&mut self) {
        let exact = |item: &Item| {
            let name = item.names.first()?;
            (item.kind != ItemKind::Piece && plain_name(name) == *name).then(|| (item.kind, name.clone()))
        };
        let plain = |item: &Item| {
            let name = item.names.first()?;
            (item.kind != ItemKind::Piece && !is_own_copy(item)).then(|| (item.kind, plain_name(name)))
        };
        for pass in 0..2 {
            let (old, new) = if pass == 0 { self.unpaired(exact) } else { self.unpaired(plain) };
            let mut keys: Vec<_> = new.keys().collect();
            keys.sort();
            for key in keys {
                if let (Some([a]), [b]) = (old.get(key).map(Vec::as_slice), new[key].as_slice()) {
                    self.pair(*a, *b);
                }
            }
        }
        // Numbers of one and the same type: there is no telling them apart, and no need to.
        let type_number = |item: &Item| {
            let name = item.names.first().filter(|name| name.starts_with(BTF_ID))?;
            (item.kind == ItemKind::Data).then(|| (item.kind, plain_name(name)))
        };
        let (old, new) = self.unpaired(type_number);
        for (key, patched) in &new {
            let original = old.get(key).filter(|original| original.len() == patched.len());
            let pairs = original.into_iter().flatten().zip(patched);
            pairs.for_each(|(a, b)| self.pair(*a, *b));
        }
        // Several clones of one name: only those of the same exact name and the same bytes are the same for sure.
        let numbered = |item: &Item| {
            let name = item.names.first()?;
            (item.kind == ItemKind::Function).then(|| (item.kind, name.clone()))
        };
        let (old, new) = self.unpaired(numbered);
        for (key, patched) in &new {
            if let (Some([a]), [b]) = (old.get(key).map(Vec::as_slice), patched.as_slice()) {
                let (x, y) = (&self.original.items[*a], &self.patched.items[*b]);
                if self.original.bytes(x) == self.patched.bytes(y) {
                    self.pair(*a, *b);
                }
            }
        }
    }

    /// Variables inside functions, and what initializers hold without a name (`__compound_literal.3`): what is paired
    /// refers to them in the same order, if to the same number of them. Pairs that are found lead on to others.
    fn by_referrer(&mut self) {
        let plain = |item: &Item| {
            let name = item.names.first()?;
            (item.kind == ItemKind::Data && !is_own_copy(item)).then(|| (item.kind, plain_name(name)))
        };
        loop {
            let before = self.taken.len();
            let (old, new) = self.unpaired(plain);
            let mut keys: Vec<&Key> = new.keys().filter(|key| old.contains_key(*key)).collect();
            keys.sort();
            for key in keys {
                for (a, b) in self.sure_pairs(&old[key], &new[key]) {
                    self.pair(a, b);
                }
            }
            if self.taken.len() == before {
                break;
            }
        }
        // Literals are told apart by content; for others it must be known which one is meant.
        let (old, new) = self.unpaired(plain);
        let is_open = |index: &usize| !is_literal(self.patched, &self.patched.items[*index]);
        let open =
            new.into_iter().filter(|(key, members)| old.contains_key(key) && members.iter().any(is_open));
        self.ambiguous = open.map(|((_, name), _)| name).collect();
    }

    /// Which of the `new` are surely which of the `old`.
    fn sure_pairs(&self, old: &[usize], new: &[usize]) -> Vec<(usize, usize)> {
        let first_uses = |unit: &Unit, referrer: usize, members: &[usize]| {
            // Where a variable refers to another, its initializer may have changed as a whole. For constants it shows
            // when they are compared; state must not go to another.
            let of_data = unit.items[referrer].kind == ItemKind::Data;
            let mut seen: Vec<usize> = Vec::new();
            for reference in &unit.items[referrer].references {
                if let Target::Item { item, .. } = reference.target
                    && members.contains(&item)
                    && !seen.contains(&item)
                    && (!of_data || unit.is_read_only(&unit.items[item]))
                {
                    seen.push(item);
                }
            }
            seen
        };
        let mut votes: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for (index, item) in self.patched.items.iter().enumerate() {
            let Some(partner) = self.original_of[index].filter(|_| item.kind != ItemKind::Piece) else {
                continue;
            };
            let here = first_uses(self.patched, index, new);
            let there = first_uses(self.original, partner, old);
            if here.len() == there.len() {
                here.iter().zip(&there).for_each(|(b, a)| _ = votes.entry(*b).or_default().insert(*a));
            }
        }
        let mut claimed: HashMap<usize, usize> = HashMap::new();
        for candidates in votes.values().filter(|c| c.len() == 1) {
            candidates.iter().for_each(|a| *claimed.entry(*a).or_default() += 1);
        }
        let sure = votes.iter().filter_map(|(b, candidates)| {
            let a = *candidates.first().filter(|_| candidates.len() == 1)?;
            (claimed.get(&a) == Some(&1)).then_some((a, *b))
        });
        sure.collect()
    }
}

/// Sees whether things of two units mean the same.
struct Eye<'u> {
    original: &'u Unit,
    patched: &'u Unit,
    original_of: &'u [Option<usize>],
    /// Nameless things that were compared for one function or variable.
    steps: Cell<u32>,
}

impl Eye<'_> {
    fn same_function(&self, a: usize, b: usize) -> bool {
        self.steps.set(0);
        let (x, y) = (&self.original.items[a], &self.patched.items[b]);
        x.size == y.size
            && x.padding == y.padding
            && self.same_references(&x.references, &y.references, 0)
            && self.same_entries(a, b)
            && (self.original.bytes(x) == self.patched.bytes(y)
                || only_lines_differ(self.original, x, self.patched, y))
    }

    /// Same bytes and references, whatever the names.
    fn same_content(&self, a: usize, b: usize, depth: u32) -> bool {
        let (x, y) = (&self.original.items[a], &self.patched.items[b]);
        x.size == y.size && self.same_bytes(x, y) && self.same_references(&x.references, &y.references, depth)
    }

    fn same_bytes(&self, x: &Item, y: &Item) -> bool {
        let (old, new) = (self.original.bytes(x), self.patched.bytes(y));
        let is_report = |unit: &Unit, item: &Item| unit.section_name(item).starts_with(".data..Lubsan_data");
        if is_report(self.original, x) && is_report(self.patched, y) {
            let place = UBSAN_LINE_AND_COLUMN;
            return old.get(..place.start) == new.get(..place.start)
                && old.get(place.end..) == new.get(place.end..);
        }
        old == new
    }

    fn same_references(&self, x: &[Reference], y: &[Reference], depth: u32) -> bool {
        x.len() == y.len() && x.iter().zip(y).all(|(r, s)| self.same_reference(r, s, depth))
    }

    fn same_reference(&self, r: &Reference, s: &Reference, depth: u32) -> bool {
        if (r.offset, r.kind, r.bias) != (s.offset, s.kind, s.bias) {
            return false;
        }
        match (&r.target, &s.target) {
            (Target::Item { item: a, offset: i }, Target::Item { item: b, offset: j }) => {
                i == j && self.same_meaning(*a, *b, depth)
            }
            (Target::Literal { bytes: x, offset: i, .. }, Target::Literal { bytes: y, offset: j, .. }) => {
                i == j && (x == y || same_but_for_a_line(x, y))
            }
            (r, s) => r == s,
        }
    }

    fn same_meaning(&self, a: usize, b: usize, depth: u32) -> bool {
        if self.original_of[b] == Some(a) {
            return true;
        }
        let (x, y) = (&self.original.items[a], &self.patched.items[b]);
        self.steps.set(self.steps.get() + 1);
        if x.kind != y.kind || depth > MAX_PIECE_DEPTH || self.steps.get() > MAX_STEPS {
            return false;
        }
        match x.kind {
            ItemKind::Piece => self.same_content(a, b, depth + 1),
            ItemKind::Data if is_own_copy(x) && is_own_copy(y) => {
                let names = plain_name(x.name()) == plain_name(y.name());
                // State such as `__warned` starts anew; constants such as `__func__` must read the same.
                names && (!self.original.is_read_only(x) || self.same_content(a, b, depth + 1))
            }
            ItemKind::Data if is_literal(self.original, x) && is_literal(self.patched, y) => {
                plain_name(x.name()) == plain_name(y.name()) && self.same_content(a, b, depth + 1)
            }
            _ => false,
        }
    }

    fn same_entries(&self, a: usize, b: usize) -> bool {
        let entries = |unit: &'_ Unit, owner: usize| -> Vec<Entry> {
            let mut out: Vec<Entry> = unit
                .entries
                .iter()
                .filter(|e| e.owner == owner && e.table.fate != Fate::Drop)
                .cloned()
                .collect();
            out.sort_by(|x, y| {
                let key = |e: &Entry| (unit.object.sections[e.section].name.clone(), e.at, e.start);
                key(x).cmp(&key(y))
            });
            out
        };
        let (x, y) = (entries(self.original, a), entries(self.patched, b));
        x.len() == y.len()
            && x.iter().zip(&y).all(|(e, f)| {
                let names = self.original.object.sections[e.section].name
                    == self.patched.object.sections[f.section].name;
                names && e.at == f.at && self.same_entry(e, f)
            })
    }

    fn same_entry(&self, e: &Entry, f: &Entry) -> bool {
        let mut x = self.original.entry_bytes(e).to_vec();
        let mut y = self.patched.entry_bytes(f).to_vec();
        if let Fate::KeepIgnoringLine { line_at } = e.table.fate {
            for bytes in [&mut x, &mut y] {
                bytes.iter_mut().skip(line_at as usize).take(2).for_each(|b| *b = 0);
            }
        }
        // The first reference is the owner itself.
        x == y
            && self.same_references(
                e.references.get(1..).unwrap_or_default(),
                f.references.get(1..).unwrap_or_default(),
                0,
            )
    }

    fn check_data(&self, a: usize, b: usize) -> Result<(), Refusal> {
        self.steps.set(0);
        let (x, y) = (&self.original.items[a], &self.patched.items[b]);
        if self.same_content(a, b, 0) || is_own_copy(x) {
            return Ok(());
        }
        let (rule, what) = match self.patched.classes[y.section] {
            Class::Init => (Rule::InitChanged, "its boot-time value"),
            Class::ReadOnce | Class::Unknown => (Rule::TableChanged, "its content"),
            _ if x.size != y.size => (Rule::DataChanged, "its size"),
            _ => (Rule::DataChanged, "its initial value"),
        };
        Err(Refusal::new(
            rule,
            y.name(),
            format!("the patch changes {what} (section {})", self.patched.section_name(y)),
        ))
    }

    /// Names of sections of a class that are not the same, whatever symbols they have.
    fn differing_sections(&self, class: Class) -> Vec<String> {
        let of_class = |unit: &Unit| -> BTreeMap<String, Vec<usize>> {
            let mut out: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (index, section) in unit.object.sections.iter().enumerate() {
                if unit.classes[index] == class {
                    out.entry(section.name.clone()).or_default().push(index);
                }
            }
            out
        };
        let (old, new) = (of_class(self.original), of_class(self.patched));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let differs = |name: &&&String| {
            // More or fewer namespaces may be imported; the livepatch imports its own.
            if name.as_str() == ".modinfo" {
                return self.original.other_modinfo() != self.patched.other_modinfo();
            }
            match (old.get(**name), new.get(**name)) {
                (Some(old), Some(new)) => {
                    old.len() != new.len() || !old.iter().zip(new).all(|(a, b)| self.same_section(*a, *b))
                }
                _ => true,
            }
        };
        names.iter().filter(differs).map(|name| (*name).clone()).collect()
    }

    fn same_section(&self, a: usize, b: usize) -> bool {
        self.steps.set(0);
        let loose = |unit: &Unit, section: usize| -> Vec<Reference> {
            unit.loose.iter().filter(|(s, _)| *s == section).map(|(_, r)| r.clone()).collect()
        };
        let (x, y) = (&self.original.object.sections[a], &self.patched.object.sections[b]);
        x.size == y.size
            && x.data == y.data
            && self.same_references(&loose(self.original, a), &loose(self.patched, b), 0)
    }
}
