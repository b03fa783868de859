//! Takes the changed functions out of a patched unit into an object of their own, with all they newly need.
//!
//! References to what stays in the kernel become undefined symbols ([`Original`]); they are ordinary relocations
//! until objtool has seen the code, and only [`crate::finish`] makes livepatch relocations of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::author::{Hook, Marks};
use crate::compare::{Comparison, is_literal, is_own_copy, plain_name};
use crate::elf::{
    Binding, Object, Placement, Relocation, Section, Symbol, SymbolKind, constants, relocation,
};
use crate::refusal::{Refusal, Rule};
use crate::section_class::{Class, Fate};
use crate::unit::{IMPORT_NS, Item, ItemKind, Reference, Target, Unit};

/// Start of the names under which the glue finds the new functions.
pub const NEW_FUNCTION_PREFIX: &str = "__livepatch_new_";
const ORIGINAL_PREFIX: &str = "__livepatch_original_";
/// Start of the names of static calls' trampolines (include/linux/static_call_types.h).
pub const STATIC_CALL: &str = "__SCT__";
/// And of their keys.
pub const STATIC_CALL_KEY: &str = "__SCK__";
/// Start of the names under which the glue finds callbacks; unit and kind follow.
pub const CALLBACK_PREFIX: &str = "__livepatch_callback_";
/// Functions that objtool must not note as never called indirectly (`IBT_NOSEAL`, arch/x86/include/asm/ibt.h).
const NO_SEAL: &str = ".discard.ibt_endbr_noseal";
const LITERALS: &str = ".rodata.livepatch_literals";

/// A function that the livepatch redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFunction {
    /// The item of the original unit that it replaces.
    pub original: usize,
    /// Its name.
    pub name: String,
    /// Symbol of the new code in the extracted object.
    pub symbol: String,
}

/// A function that the kernel calls when the livepatch comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// When.
    pub hook: Hook,
    /// Its name.
    pub name: String,
    /// Its symbol in the extracted object.
    pub symbol: String,
}

/// What an undefined symbol of the extracted object stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Original {
    /// An item of the original unit.
    Item(usize),
    /// A symbol of another unit.
    External(String),
}

/// Where something of the patched unit went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Section of the unit's object.
    pub section: usize,
    /// Offset in it, in bytes.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// Section of the extracted object.
    pub to_section: usize,
    /// Offset in that.
    pub to: u64,
}

/// The changed functions in an object of their own.
#[derive(Debug)]
pub struct Extracted {
    /// The object, for objtool and the linker.
    pub object: Object,
    /// The functions to redirect.
    pub functions: Vec<NewFunction>,
    /// Callbacks, at most one of each kind.
    pub callbacks: Vec<Callback>,
    /// What undefined symbols stand for.
    pub originals: BTreeMap<String, Original>,
    /// Those whose address is used other than as the destination of a call or jump.
    pub addresses: BTreeSet<String>,
    /// Functions that come along and are not redirected to: new ones, and copies.
    pub added_functions: Vec<String>,
    /// Variables that come along.
    pub added_data: Vec<String>,
    /// Functions that come along and that a redirected one ends in, without a call. A task in one of them has nothing
    /// on its stack by which the kernel, which only knows the redirected ones, could see that it is in the livepatch
    /// (kernel/livepatch/transition.c, `klp_check_stack_func`): unloading would take the code away under it.
    pub ended_in: BTreeSet<String>,
    /// Where everything was, and where it is.
    pub places: Vec<Place>,
    /// The number that tells its names from those of other units.
    prefix: usize,
}

impl Extracted {
    /// Gives an undefined symbol a name that no other unit of the livepatch has; returns it.
    pub fn rename(&mut self, symbol: &str) -> String {
        let name = format!("{ORIGINAL_PREFIX}{}_{symbol}", self.prefix);
        let here = self.object.symbols.iter_mut();
        here.filter(|s| s.name == symbol && s.placement == Placement::Undefined)
            .for_each(|s| s.name.clone_from(&name));
        if let Some(original) = self.originals.remove(symbol) {
            self.originals.insert(name.clone(), original);
        }
        if self.addresses.remove(symbol) {
            self.addresses.insert(name.clone());
        }
        name
    }
}

/// Extracts the changes; `prefix` (digits) tells the new functions of several units apart. None when nothing changed.
pub fn extract(
    original: &Unit,
    patched: &Unit,
    comparison: &Comparison,
    prefix: usize,
) -> Result<Option<Extracted>, Refusal> {
    extract_with_copies(original, patched, comparison, &BTreeSet::new(), prefix)
}

/// The same, and what comes along calls its own copies of these functions of the patched unit, although they have not changed.
pub(crate) fn extract_with_copies(
    original: &Unit,
    patched: &Unit,
    comparison: &Comparison,
    copied: &BTreeSet<usize>,
    prefix: usize,
) -> Result<Option<Extracted>, Refusal> {
    let plan = Plan::make(original, patched, comparison, copied.clone())?;
    if plan.included.is_empty() {
        return Ok(None);
    }
    Writer::new(&plan, prefix).write().map(Some)
}

/// How a reference is carried over.
enum Way {
    /// To an item that comes along.
    Inside { item: usize, offset: i64 },
    /// To bytes that come along.
    Literal { bytes: Vec<u8>, offset: i64, align: u64 },
    /// To what stays in the kernel.
    Outside { original: Original, offset: i64 },
}

struct Plan<'u> {
    original: &'u Unit,
    patched: &'u Unit,
    comparison: &'u Comparison,
    /// Functions that take part in the change: those that changed, and callers of those that cannot be redirected.
    changed: BTreeSet<usize>,
    /// Changed functions that cannot be redirected and that their callers, which all can be, take along.
    carried: BTreeSet<usize>,
    /// Changed functions that cannot be redirected and stay: what comes along and calls them takes a copy along.
    left_behind: BTreeSet<usize>,
    /// Unchanged functions of which what comes along and calls them takes a copy along.
    copied: BTreeSet<usize>,
    callbacks: Vec<(Hook, usize)>,
    included: BTreeSet<usize>,
}

/// Changed functions that no livepatch can redirect, neither themselves nor by way of their callers. Whether the fix
/// is whole without them is for a person to say.
pub fn left_behind(original: &Unit, patched: &Unit, comparison: &Comparison) -> Vec<Refusal> {
    let plan = Plan::begin(original, patched, comparison, BTreeSet::new());
    let refusal = |&index: &usize| {
        let item = &patched.items[index];
        let why = format!("it has no call to __fentry__ (section {})", patched.section_name(item));
        Refusal::new(Rule::NotTraceable, item.name(), why)
    };
    plan.left_behind.iter().map(refusal).collect()
}

impl<'u> Plan<'u> {
    /// What takes part, before what it needs is known.
    fn begin(
        original: &'u Unit,
        patched: &'u Unit,
        comparison: &'u Comparison,
        copied: BTreeSet<usize>,
    ) -> Self {
        let (changed, carried) = (comparison.changed.clone(), BTreeSet::new());
        let (left_behind, callbacks, included) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        let mut plan = Self {
            original,
            patched,
            comparison,
            changed,
            carried,
            left_behind,
            copied,
            callbacks,
            included,
        };
        plan.carry_untraceable();
        let stays = |index: &usize| plan.is_redirected(*index) && !plan.is_traceable(*index);
        plan.left_behind = plan.changed.iter().copied().filter(stays).collect();
        plan
    }

    fn make(
        original: &'u Unit,
        patched: &'u Unit,
        comparison: &'u Comparison,
        copied: BTreeSet<usize>,
    ) -> Result<Self, Refusal> {
        let mut plan = Self::begin(original, patched, comparison, copied);
        plan.callbacks = Marks::read(patched)?.callbacks;
        // What is new and visible may be meant for another unit of the patch.
        let is_new_global = |index: &usize| {
            let item = &patched.items[*index];
            comparison.original_of[*index].is_none()
                && item.binding != Binding::Local
                && matches!(
                    (item.kind, patched.classes[item.section]),
                    (ItemKind::Function, Class::Code) | (ItemKind::Data, Class::Data)
                )
        };
        let new_globals = (0..patched.items.len()).filter(is_new_global);
        let goes_along = |index: &usize| {
            let family = comparison.parent_of.get(index).unwrap_or(index);
            !plan.left_behind.contains(family) && !plan.carried.contains(family)
        };
        let mut queue: VecDeque<usize> =
            plan.changed.iter().copied().filter(goes_along).chain(new_globals).collect();
        queue.extend(plan.callbacks.iter().map(|(_, function)| *function));
        while let Some(index) = queue.pop_front() {
            if !plan.included.insert(index) {
                continue;
            }
            plan.check_item(index)?;
            let own = patched.items[index].references.iter();
            let of_entries =
                patched.entries.iter().filter(|e| e.owner == index && e.table.fate != Fate::Drop);
            for reference in own.chain(of_entries.flat_map(|e| e.references.iter().skip(1))) {
                if let Way::Inside { item, .. } = plan.way(index, reference)? {
                    queue.push_back(item);
                }
            }
        }
        plan.check_strangers()?;
        plan.check_entries_of_others()?;
        Ok(plan)
    }

    /// No entry may be lost that leads into what comes along, because the code it belongs to stays behind.
    fn check_entries_of_others(&self) -> Result<(), Refusal> {
        let leads_in = |reference: &Reference| match reference.target {
            Target::Item { item, .. } => {
                self.included.contains(&item) && self.patched.items[item].kind == ItemKind::Function
            }
            _ => false,
        };
        for entry in &self.patched.entries {
            let kept = entry.table.fate != Fate::Drop && !self.included.contains(&entry.owner);
            if kept && entry.references.iter().skip(1).any(leads_in) {
                let name = &self.patched.object.sections[entry.section].name;
                let why = format!(
                    "its entry at {:#x} belongs to code that stays behind and leads into the livepatch",
                    entry.start
                );
                return Err(Refusal::new(Rule::NotSupported, name, why));
            }
        }
        Ok(())
    }

    fn is_redirected(&self, index: usize) -> bool {
        self.changed.contains(&index)
            && !self.carried.contains(&index)
            && !self.left_behind.contains(&index)
            && !self.comparison.parent_of.contains_key(&index)
    }

    fn is_copied(&self, index: usize) -> bool {
        self.copied.contains(self.comparison.parent_of.get(&index).unwrap_or(&index))
    }

    fn is_traceable(&self, index: usize) -> bool {
        let old = self.comparison.original_of[index];
        old.is_some_and(|old| self.original.has_fentry(old)) && self.patched.has_fentry(index)
    }

    /// A changed function that cannot be redirected goes along with its callers instead, if nothing but direct calls
    /// within the unit reaches it. Where that is not so, or a caller cannot be redirected either and this helps no
    /// further, the function stays where it is and is refused.
    fn carry_untraceable(&mut self) {
        let mut queue: VecDeque<usize> =
            self.changed.iter().copied().filter(|&index| self.is_redirected(index)).collect();
        while let Some(index) = queue.pop_front() {
            if self.is_traceable(index) || self.carried.contains(&index) {
                continue;
            }
            let Some(callers) = self.direct_callers(index) else { continue };
            self.carried.insert(index);
            let family = |caller: usize| {
                let parent = self.comparison.parent_of.get(&caller).copied().unwrap_or(caller);
                let children = self.comparison.parent_of.iter().filter(move |(_, p)| **p == parent);
                children.map(|(child, _)| *child).chain([parent])
            };
            // New callers come along by themselves.
            let old = callers.into_iter().filter(|caller| self.comparison.original_of[*caller].is_some());
            let more: BTreeSet<usize> = old.flat_map(family).collect();
            queue.extend(
                more.iter().copied().filter(|caller| !self.comparison.parent_of.contains_key(caller)),
            );
            self.changed.extend(more);
        }
    }

    /// The functions that call or jump to a function, if it is local to the unit, in an ordinary section, and nothing
    /// else refers to it, neither in the patched unit nor in the original one. Functions of the patched unit without
    /// partner need not be named: what comes along has them.
    fn direct_callers(&self, index: usize) -> Option<BTreeSet<usize>> {
        let partner = self.comparison.original_of[index]?;
        let is_plain = |unit: &Unit, index: usize| {
            let item = &unit.items[index];
            // Code that must not be instrumented has reasons not to be called from other text.
            let ordinary = |base: &str| {
                unit.section_name(item).strip_prefix(base).is_some_and(|s| s.is_empty() || s.starts_with('.'))
            };
            item.binding == Binding::Local && ordinary(".text")
        };
        if !is_plain(self.patched, index) || !is_plain(self.original, partner) {
            return None;
        }
        let callers = callers_only(self.patched, index)?;
        for caller in callers_only(self.original, partner)? {
            // A caller that the patch removes, or that no longer calls it, has changed anyway, or is gone.
            let here = self.comparison.original_of.iter().position(|partner| *partner == Some(caller));
            if here.is_none_or(|here| !callers.contains(&here) && !self.changed.contains(&here)) {
                return None;
            }
        }
        // One that is left out keeps its old code.
        callers.is_disjoint(&self.comparison.left_out).then_some(callers)
    }

    fn check_item(&self, index: usize) -> Result<(), Refusal> {
        let item = &self.patched.items[index];
        let section = self.patched.section_name(item);
        let refuse = |rule, why: String| Err(Refusal::new(rule, item.name(), why));
        let mut entries = self.patched.entries.iter().filter(|e| e.owner == index);
        if let Some(entry) = entries.find(|e| e.table.fate == Fate::RuntimeConstant) {
            let table = &self.patched.object.sections[entry.section].name;
            let why = format!(
                "it holds a constant that the kernel writes at boot, into its own code only ({table})"
            );
            return refuse(Rule::RuntimeConstant, why);
        }
        if item.kind == ItemKind::Function && item.name().starts_with(STATIC_CALL) {
            return refuse(Rule::NotSupported, "the patch adds or changes a static call".into());
        }
        match item.kind {
            ItemKind::Function if self.patched.classes[item.section] != Class::Code => {
                refuse(Rule::InitChanged, format!("the patch needs it, and it lies in section {section}"))
            }
            ItemKind::Data if section.starts_with(".data..percpu") => {
                refuse(Rule::NotSupported, "a new per-CPU variable".into())
            }
            ItemKind::Data | ItemKind::Piece
                if !matches!(self.patched.classes[item.section], Class::Data | Class::Code) =>
            {
                refuse(Rule::NotSupported, format!("the patch needs a new entry in section {section}"))
            }
            _ => Ok(()),
        }
    }

    /// No section of unknown meaning may point into what comes along.
    fn check_strangers(&self) -> Result<(), Refusal> {
        let points_in = |reference: &Reference| match reference.target {
            Target::Item { item, .. } => {
                self.included.contains(&item) && self.patched.items[item].kind == ItemKind::Function
            }
            _ => false,
        };
        let loose = self.patched.loose.iter().map(|(section, reference)| (*section, reference));
        let of_items =
            self.patched.items.iter().flat_map(|i| i.references.iter().map(move |r| (i.section, r)));
        for (section, reference) in loose.chain(of_items) {
            if self.patched.classes[section] == Class::Unknown && points_in(reference) {
                let name = &self.patched.object.sections[section].name;
                let why = "a section of unknown meaning points into a function of the livepatch";
                return Err(Refusal::new(Rule::UnknownSection, name, why));
            }
        }
        Ok(())
    }

    fn way(&self, from: usize, reference: &Reference) -> Result<Way, Refusal> {
        let (index, offset) = match &reference.target {
            Target::Literal { bytes, offset, align } => {
                return Ok(Way::Literal { bytes: bytes.clone(), offset: *offset, align: *align });
            }
            Target::External { name, offset } => {
                return Ok(Way::Outside { original: Original::External(name.clone()), offset: *offset });
            }
            Target::Item { item, offset } => (*item, *offset),
        };
        let item = &self.patched.items[index];
        let inside = Ok(Way::Inside { item: index, offset });
        let partner = self.comparison.original_of[index];
        match item.kind {
            ItemKind::Piece => inside,
            ItemKind::Function if self.left_behind.contains(&index) && !reference.branch => {
                let why = "it cannot be redirected, and the livepatch would hand out the address of its copy";
                Err(Refusal::new(Rule::NotTraceable, item.name(), why))
            }
            ItemKind::Function if self.changed.contains(&index) => {
                // A call or jump stays within the livepatch. An address that is handed out must outlive it.
                match partner {
                    Some(partner) if !reference.branch && offset == 0 && self.is_redirected(index) => {
                        Ok(Way::Outside { original: Original::Item(partner), offset })
                    }
                    _ => inside,
                }
            }
            // The address of the function itself must outlive the livepatch.
            ItemKind::Function if self.is_copied(index) && (reference.branch || offset != 0) => inside,
            ItemKind::Function | ItemKind::Data if index == from => inside,
            ItemKind::Data if is_own_copy(item) || is_literal(self.patched, item) => inside,
            ItemKind::Data if self.comparison.resized.contains(&index) => {
                let why = format!(
                    "the patch changes its size, and {} of the livepatch would use it as it is in the running kernel",
                    self.patched.items[from].name()
                );
                Err(Refusal::new(Rule::DataChanged, item.name(), why))
            }
            ItemKind::Function | ItemKind::Data => match partner {
                Some(partner) => Ok(Way::Outside { original: Original::Item(partner), offset }),
                None if self.comparison.ambiguous.contains(&plain_name(item.name())) => {
                    let why = "several variables have this name, and which one is meant is not certain";
                    Err(Refusal::new(Rule::Ambiguous, item.name(), why))
                }
                None => inside,
            },
        }
    }
}

/// The functions that refer to a function, if all that refers to it are calls and jumps of functions.
fn callers_only(unit: &Unit, index: usize) -> Option<BTreeSet<usize>> {
    let means_it = |r: &Reference| matches!(r.target, Target::Item { item, .. } if item == index);
    // Entries of its own code begin with a pointer into it; one that only keeps it alive says that others use it.
    let in_tables = unit.entries.iter().any(|e| match e.owner == index {
        true => e.table.fate == Fate::Drop,
        false => e.references.iter().any(means_it),
    });
    if in_tables || unit.loose.iter().any(|(_, r)| means_it(r)) {
        return None;
    }
    // A function in two places refers to itself.
    let child = format!("{}.cold", unit.items[index].name());
    let is_child =
        |name: &String| name.strip_prefix(&child).is_some_and(|r| r.is_empty() || r.starts_with('.'));
    let is_itself = |from: usize, item: &Item| from == index || item.names.iter().any(is_child);
    let mut callers = BTreeSet::new();
    for (from, item) in unit.items.iter().enumerate().filter(|(from, item)| !is_itself(*from, item)) {
        for reference in item.references.iter().filter(|r| means_it(r)) {
            let is_call = reference.branch && matches!(reference.target, Target::Item { offset: 0, .. });
            if item.kind != ItemKind::Function || unit.classes[item.section] != Class::Code || !is_call {
                return None;
            }
            callers.insert(from);
        }
    }
    Some(callers)
}

struct Writer<'p, 'u> {
    plan: &'p Plan<'u>,
    prefix: usize,
    object: Object,
    /// Where each item that comes along went: section, offset.
    placed: HashMap<usize, (usize, u64)>,
    symbol_of: HashMap<usize, usize>,
    undefined: HashMap<Original, usize>,
    originals: BTreeMap<String, Original>,
    addresses: BTreeSet<String>,
    ended_in: BTreeSet<String>,
    literals: HashMap<(Vec<u8>, u64), u64>,
}

/// A field that reaches over the end of what is taken out would be written over whatever comes to lie behind it.
fn is_inside(reference: &Reference, size: u64, of: &str) -> Result<(), Refusal> {
    let width = relocation::width(reference.kind).unwrap_or(u64::MAX);
    if reference.offset.checked_add(width).is_some_and(|end| end <= size) {
        return Ok(());
    }
    let why = format!("the field of its relocation at {:#x} reaches over its end", reference.offset);
    Err(Refusal::new(Rule::Object, of, why))
}

impl<'p, 'u> Writer<'p, 'u> {
    fn new(plan: &'p Plan<'u>, prefix: usize) -> Self {
        Self {
            plan,
            prefix,
            object: Object::default(),
            placed: HashMap::new(),
            symbol_of: HashMap::new(),
            undefined: HashMap::new(),
            originals: BTreeMap::new(),
            addresses: BTreeSet::new(),
            ended_in: BTreeSet::new(),
            literals: HashMap::new(),
        }
    }

    fn write(mut self) -> Result<Extracted, Refusal> {
        let patched = self.plan.patched;
        let included: Vec<usize> = self.plan.included.iter().copied().collect();
        for &index in &included {
            self.place(index);
        }
        for &index in &included {
            let (section, base) = self.placed[&index];
            let item = &patched.items[index];
            for reference in &item.references {
                is_inside(reference, item.size, item.name())?;
                let made = self.relocation(index, reference, section, base)?;
                self.object.sections[section].relocations.push(made);
            }
        }
        self.write_entries()?;

        let mut functions = Vec::new();
        let (mut added_functions, mut added_data) = (Vec::new(), Vec::new());
        for &index in &included {
            let item = &patched.items[index];
            if self.plan.is_redirected(index) {
                let Some(original) = self.plan.comparison.original_of[index] else { continue };
                let symbol = format!("{NEW_FUNCTION_PREFIX}{}_{}", self.prefix, functions.len());
                self.name_for_glue(index, &symbol);
                let name = self.plan.original.items[original].name().to_owned();
                functions.push(NewFunction { original, name, symbol });
            } else {
                match item.kind {
                    ItemKind::Function => added_functions.push(item.name().to_owned()),
                    ItemKind::Data => added_data.push(item.name().to_owned()),
                    ItemKind::Piece => {}
                }
            }
        }
        let place = |index: &usize| {
            let (item, (to_section, to)) = (&patched.items[*index], self.placed[index]);
            Place { section: item.section, start: item.start, size: item.size, to_section, to }
        };
        let places = included.iter().map(place).collect();
        let callbacks = self.write_callbacks();
        self.write_imported_namespaces();
        let Self { object, originals, addresses, ended_in, prefix, .. } = self;
        Ok(Extracted {
            object,
            functions,
            callbacks,
            originals,
            addresses,
            added_functions,
            added_data,
            ended_in,
            places,
            prefix,
        })
    }

    /// A symbol by which the glue finds what comes along.
    fn name_for_glue(&mut self, index: usize, symbol: &str) {
        let (section, value) = self.placed[&index];
        self.object.symbols.push(Symbol {
            name: symbol.to_owned(),
            placement: Placement::Section(section),
            value,
            size: 0,
            kind: SymbolKind::None,
            binding: Binding::Global,
            other: 0,
        });
    }

    /// The kernel calls them by their addresses in the glue, which objtool does not see here.
    fn write_callbacks(&mut self) -> Vec<Callback> {
        let mut out = Vec::new();
        for &(hook, index) in &self.plan.callbacks {
            let symbol = format!("{CALLBACK_PREFIX}{}_{}", self.prefix, hook.field());
            self.name_for_glue(index, &symbol);
            let table = self.section_like(&Section::empty(NO_SEAL, 8));
            let offset = self.append(table, &[0; 8], 8, 8);
            let (to, start) = self.placed[&index];
            let (kind, addend) = (relocation::ABS64, start.cast_signed());
            let symbol_of_section = self.object.section_symbol(to);
            let made = Relocation { offset, kind, symbol: symbol_of_section, addend };
            self.object.sections[table].relocations.push(made);
            let name = self.plan.patched.items[index].name().to_owned();
            out.push(Callback { hook, name, symbol });
        }
        out
    }

    /// The linker joins this with the module's own `.modinfo`; the kernel reads every tag of that name.
    fn write_imported_namespaces(&mut self) {
        for name in self.plan.patched.imported_namespaces() {
            let section = self.section_like(&Section::empty(".modinfo", 1));
            let text = format!("{IMPORT_NS}{name}\0");
            self.append(section, text.as_bytes(), text.len() as u64, 1);
        }
    }

    /// A section of this name and flags, made like the one given.
    fn section_like(&mut self, template: &Section) -> usize {
        let flags = template.flags & !constants::GROUP;
        let same = |s: &Section| s.name == template.name && s.flags == flags && s.kind == template.kind;
        self.object.sections.iter().position(same).unwrap_or_else(|| {
            self.object.sections.push(Section {
                name: template.name.clone(),
                kind: template.kind,
                flags,
                align: template.align,
                entry_size: template.entry_size,
                data: Vec::new(),
                size: 0,
                relocations: Vec::new(),
                livepatch_relocations: Vec::new(),
            });
            self.object.sections.len() - 1
        })
    }

    fn append(&mut self, section: usize, bytes: &[u8], size: u64, align: u64) -> u64 {
        let section = &mut self.object.sections[section];
        let start = section.size.next_multiple_of(align);
        section.size = start + size;
        if section.kind != constants::NOBITS {
            // Between functions nothing is ever executed; 0xcc (int3) says so.
            let fill = if section.is_code() { 0xcc } else { 0 };
            section.data.resize(start as usize, fill);
            section.data.extend_from_slice(bytes);
        }
        start
    }

    fn place(&mut self, index: usize) {
        let patched = self.plan.patched;
        let item = &patched.items[index];
        let template = &patched.object.sections[item.section];
        let section = self.section_like(template);
        // As aligned as it was: by its place, at most as its section.
        let begin = item.start - item.padding;
        let align = if begin == 0 { template.align } else { template.align.min(1 << begin.trailing_zeros()) };
        let padded = self.append(section, patched.padded_bytes(item), item.padding + item.size, align);
        let start = padded + item.padding;
        self.placed.insert(index, (section, start));
        self.object.section_symbol(section);
        for (at, name) in item.names.iter().enumerate() {
            let is_new = self.plan.comparison.original_of[index].is_none();
            let global = is_new && item.binding != Binding::Local && at == 0;
            let symbol = self.object.symbols.len();
            self.object.symbols.push(Symbol {
                name: name.clone(),
                placement: Placement::Section(section),
                value: start,
                size: item.size,
                kind: if item.kind == ItemKind::Function { SymbolKind::Function } else { SymbolKind::Object },
                binding: if global { Binding::Global } else { Binding::Local },
                other: 0,
            });
            self.symbol_of.entry(index).or_insert(symbol);
        }
    }

    fn relocation(
        &mut self,
        from: usize,
        r: &Reference,
        section: usize,
        base: u64,
    ) -> Result<Relocation, Refusal> {
        let (symbol, offset) = match self.plan.way(from, r)? {
            Way::Literal { bytes, offset, align } => {
                let place = self.literal(bytes, align);
                let section = self.literals_section();
                (self.object.section_symbol(section), place.cast_signed().wrapping_add(offset))
            }
            Way::Outside { original, offset } => {
                let symbol = self.undefined(original);
                let name = self.object.symbols[symbol].name.clone();
                if let Some(call) = name.strip_prefix(STATIC_CALL) {
                    self.static_call_key(call);
                }
                if !r.branch {
                    self.addresses.insert(name);
                }
                (symbol, offset)
            }
            Way::Inside { item, offset } => {
                let (to, start) = self.placed[&item];
                // objtool takes a jump to a function's symbol for a call that does not come back. Within one section,
                // into the middle of a function, and between a function and its cold part it is none.
                let family =
                    |index: usize| self.plan.comparison.parent_of.get(&index).copied().unwrap_or(index);
                let target = &self.plan.patched.items[item];
                if r.branch
                    && target.kind == ItemKind::Function
                    && self.plan.is_redirected(family(from))
                    && !self.plan.is_redirected(family(item))
                    && !self.plan.patched.is_call(from, r)
                {
                    self.ended_in.insert(target.name().to_owned());
                }
                let within = to == section || offset != 0 || family(item) == family(from);
                match self.symbol_of.get(&item) {
                    Some(&symbol) if !within => (symbol, offset),
                    _ => (self.object.section_symbol(to), start.cast_signed().wrapping_add(offset)),
                }
            }
        };
        Ok(Relocation { offset: base + r.offset, kind: r.kind, symbol, addend: offset.wrapping_sub(r.bias) })
    }

    fn literals_section(&mut self) -> usize {
        self.section_like(&Section::empty(LITERALS, 32))
    }

    fn literal(&mut self, bytes: Vec<u8>, align: u64) -> u64 {
        if let Some(&place) = self.literals.get(&(bytes.clone(), align)) {
            return place;
        }
        let section = self.literals_section();
        let place = self.append(section, &bytes, bytes.len() as u64, align.min(32));
        self.literals.insert((bytes, align), place);
        place
    }

    /// The undefined symbol for something that stays in the kernel. It keeps its name, by which objtool knows
    /// functions that never return, unless the livepatch has something of that name itself.
    fn undefined(&mut self, original: Original) -> usize {
        if let Some(&symbol) = self.undefined.get(&original) {
            return symbol;
        }
        let plain = match &original {
            Original::Item(item) => self.plan.original.items[*item].name().to_owned(),
            Original::External(name) => name.clone(),
        };
        let mine = |item: &Item| item.names.contains(&plain);
        let taken = self.originals.contains_key(&plain)
            || self.plan.included.iter().any(|&index| mine(&self.plan.patched.items[index]));
        let name = if taken { format!("{ORIGINAL_PREFIX}{}_{plain}", self.prefix) } else { plain };
        let symbol = self.object.symbols.len();
        self.object.symbols.push(Symbol {
            name: name.clone(),
            placement: Placement::Undefined,
            value: 0,
            size: 0,
            kind: SymbolKind::None,
            binding: Binding::Global,
            other: 0,
        });
        self.originals.insert(name, original.clone());
        self.undefined.insert(original, symbol);
        symbol
    }

    /// objtool finds the key of a static call by its name among the object's symbols, and notes call and key for the
    /// kernel. Without the symbol it notes the trampoline, which the kernel takes only of exported ones.
    fn static_call_key(&mut self, call: &str) {
        let name = format!("{STATIC_CALL_KEY}{call}");
        let is_key = |item: &Item| item.kind == ItemKind::Data && item.names.contains(&name);
        let here = self.plan.original.items.iter().position(is_key);
        self.undefined(here.map_or(Original::External(name), Original::Item));
    }

    /// Entries of special tables go where their code went.
    fn write_entries(&mut self) -> Result<(), Refusal> {
        let patched = self.plan.patched;
        for entry in &patched.entries {
            if entry.table.fate == Fate::Drop || !self.plan.included.contains(&entry.owner) {
                continue;
            }
            let section = self.section_like(&patched.object.sections[entry.section]);
            let start = self.append(section, patched.entry_bytes(entry), entry.table.entry_size, 1);
            let (to, base) = self.placed[&entry.owner];
            for (at, reference) in entry.references.iter().enumerate() {
                is_inside(reference, entry.table.entry_size, &patched.object.sections[entry.section].name)?;
                let made = if at == 0 {
                    let symbol = self.object.section_symbol(to);
                    let addend = base.cast_signed().wrapping_add(entry.at).wrapping_sub(reference.bias);
                    Relocation { offset: start + reference.offset, kind: reference.kind, symbol, addend }
                } else {
                    self.relocation(entry.owner, reference, section, start)?
                };
                self.object.sections[section].relocations.push(made);
            }
        }
        self.write_missing_fentry_entries();
        Ok(())
    }

    /// Compilers without -mrecord-mcount leave `__mcount_loc` to a later step of the build.
    fn write_missing_fentry_entries(&mut self) {
        let patched = self.plan.patched;
        for &index in &self.plan.included {
            let Some(at) = patched.fentry_call(index).filter(|_| !patched.is_in_mcount_loc(index)) else {
                continue;
            };
            let section = self.section_like(&Section::empty("__mcount_loc", 8));
            let offset = self.append(section, &[0; 8], 8, 8);
            let (to, base) = self.placed[&index];
            let symbol = self.object.section_symbol(to);
            let addend = (base + at).cast_signed();
            let kind = relocation::ABS64;
            self.object.sections[section].relocations.push(Relocation { offset, kind, symbol, addend });
        }
    }
}
