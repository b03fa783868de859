//! Proof that the compiler reproduces the shipped code, and what it teaches.
//!
//! Every function of the original unit is looked for under its name in the shipped kernel or module and compared
//! instruction by instruction; only the fields of relocations and the sites of jump labels may differ. A direct jump
//! may be shorter there, because the distribution compiles without function sections. Where a function matches, each
//! of its relocation fields tells where the thing that it means really is: that, not a name, decides which of several
//! `user_read` a livepatch gets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use crate::elf::{Binding, Object, Placement, SymbolKind, relocation};
use crate::refusal::{Refusal, Rule};
use crate::section_class::Class;
use crate::unit::{ItemKind, NOP, Reference, Target, Unit};

/// The code of the shipped kernel or module that a unit belongs to.
pub trait Shipped {
    /// `vmlinux` or the module's name.
    fn object_name(&self) -> &str;
    /// Addresses of all symbols of this name, in the order in which the kernel counts them, each with whether it is
    /// visible outside its unit.
    fn named(&self, name: &str) -> Vec<(u64, bool)>;
    /// Bytes at an address, as many as there are up to `length`.
    fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]>;
    /// What the relocated field at an address means; `bias` as in [`Reference`].
    fn target_at(&self, field: u64, kind: u32, bias: i64) -> Option<ShippedTarget>;
    /// Whether there is code at an address.
    fn is_code(&self, address: u64) -> bool;
    /// Addresses of functions whose `endbr64` the kernel overwrites at boot or load, because nothing takes their
    /// address; none when it has no such table.
    fn sealed(&self) -> Option<&BTreeSet<u64>>;
}

/// `endbr64` (Intel SDM volume 2A): where hardware with IBT lets an indirect call or jump arrive.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Whether an indirect call may go to an address of shipped code, once the kernel has sealed what it seals.
pub fn may_be_called_indirectly(shipped: &dyn Shipped, address: u64) -> bool {
    let sealed = shipped.sealed().is_some_and(|sealed| sealed.contains(&address));
    !sealed && shipped.bytes_at(address, ENDBR64.len()) == Some(ENDBR64.as_slice())
}

/// What a field of shipped code means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShippedTarget {
    /// An address in the same object.
    Address(u64),
    /// A symbol of another object, and an offset.
    Symbol(String, i64),
}

/// Reads the value that the linker put into a field of vmlinux, as an address.
pub fn linked_target(bytes: &[u8], field: u64, kind: u32, bias: i64) -> Option<ShippedTarget> {
    let value = match relocation::width(kind)? {
        4 => {
            let raw = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
            if kind == relocation::ABS32 { i64::from(raw) } else { i64::from(raw.cast_signed()) }
        }
        _ => i64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
    };
    let base = if relocation::is_relative(kind) { field.wrapping_add_signed(bias) } else { 0 };
    Some(ShippedTarget::Address(base.wrapping_add_signed(value)))
}

/// A shipped module, whose code is not linked yet. Addresses are made up: section number and offset.
pub struct ShippedModule {
    name: String,
    object: Object,
    /// Relocations by made-up address of their field.
    fields: HashMap<u64, crate::elf::Relocation>,
    sealed: Option<BTreeSet<u64>>,
}

const SECTION_SHIFT: u32 = 32;

impl ShippedModule {
    /// Reads a module as shipped (`.ko`, unpacked).
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let object = Object::parse(bytes)?;
        let mut fields = HashMap::new();
        for (index, section) in object.sections.iter().enumerate() {
            for r in &section.relocations {
                fields.insert(Self::address(index, r.offset), *r);
            }
        }
        // Each entry is the distance to a function (tools/objtool/check.c, create_ibt_endbr_seal_sections).
        let sealed = object.section_named(".ibt_endbr_seal").map(|table| {
            let target = |r: &crate::elf::Relocation| match object.symbols.get(r.symbol) {
                Some(crate::elf::Symbol { placement: Placement::Section(section), value, .. }) => {
                    Some(Self::address(*section, value.wrapping_add_signed(r.addend)))
                }
                _ => None,
            };
            object.sections[table].relocations.iter().filter_map(target).collect()
        });
        Ok(Self { name: name.to_owned(), object, fields, sealed })
    }

    fn address(section: usize, offset: u64) -> u64 {
        ((section as u64 + 1) << SECTION_SHIFT).wrapping_add(offset)
    }

    /// Its `.note.gnu.build-id` section, if there is one.
    pub fn build_id_note(&self) -> Option<&[u8]> {
        self.object.section_named(".note.gnu.build-id").map(|i| self.object.sections[i].data.as_slice())
    }
}

impl Shipped for ShippedModule {
    fn object_name(&self) -> &str {
        &self.name
    }

    fn named(&self, name: &str) -> Vec<(u64, bool)> {
        let wanted = |s: &&crate::elf::Symbol| s.name == name && s.kind != SymbolKind::Section;
        let place = |s: &crate::elf::Symbol| match s.placement {
            Placement::Section(section) => {
                Some((Self::address(section, s.value), s.binding != Binding::Local))
            }
            _ => None,
        };
        self.object.symbols.iter().filter(wanted).filter_map(place).collect()
    }

    fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let section = self.object.sections.get(((address >> SECTION_SHIFT) as usize).checked_sub(1)?)?;
        let rest = section.data.get((address & u64::from(u32::MAX)) as usize..)?;
        rest.get(..length.min(rest.len()))
    }

    fn is_code(&self, address: u64) -> bool {
        let section = ((address >> SECTION_SHIFT) as usize).checked_sub(1);
        section.and_then(|index| self.object.sections.get(index)).is_some_and(crate::elf::Section::is_code)
    }

    fn sealed(&self) -> Option<&BTreeSet<u64>> {
        self.sealed.as_ref()
    }

    fn target_at(&self, field: u64, kind: u32, bias: i64) -> Option<ShippedTarget> {
        let Some(r) = self.fields.get(&field) else {
            // Within one section the assembler has settled distances itself.
            let width = usize::try_from(relocation::width(kind)?).ok()?;
            return relocation::is_relative(kind)
                .then(|| linked_target(self.bytes_at(field, width)?, field, kind, bias))
                .flatten();
        };
        // The linker may write PC32 where the compiler wrote PLT32; for the kernel they are the same.
        if relocation::is_relative(kind) != relocation::is_relative(r.kind)
            || relocation::width(kind) != relocation::width(r.kind)
        {
            return None;
        }
        let symbol = self.object.symbols.get(r.symbol)?;
        let offset = r.addend.wrapping_add(bias);
        match symbol.placement {
            Placement::Section(section) => {
                Some(ShippedTarget::Address(Self::address(section, symbol.value).wrapping_add_signed(offset)))
            }
            Placement::Undefined => Some(ShippedTarget::Symbol(symbol.name.clone(), offset)),
            _ => None,
        }
    }
}

/// What the proof showed, and where things are in the shipped object.
#[derive(Debug, Default)]
pub struct Fidelity {
    /// Address of each item of the original unit that is known.
    pub address_of: BTreeMap<usize, u64>,
    /// Addresses of symbols of other units, as the shipped code of this unit uses them.
    pub externals: BTreeMap<String, u64>,
    /// Functions of the original unit that were found in the shipped object, and nowhere else: only these may be
    /// redirected. A weak definition that another unit overrides has an address too, but not its own code there.
    pub proven: BTreeSet<usize>,
    /// Names of the functions that were compared and are the same.
    pub identical: Vec<String>,
    /// Functions that could not be compared, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// What one function's match teaches: (item or external, its address).
#[derive(Default)]
struct Lesson {
    items: Vec<(usize, u64)>,
    externals: Vec<(String, u64)>,
}

/// Compares every function of a unit with the shipped object.
pub fn prove(unit: &Unit, shipped: &dyn Shipped) -> Result<Fidelity, Refusal> {
    let mut proof = Fidelity::default();
    let mut open: Vec<(usize, Vec<(u64, Lesson)>)> = Vec::new();
    for (index, item) in unit.items.iter().enumerate() {
        if item.kind != ItemKind::Function || unit.classes[item.section] != Class::Code || item.size == 0 {
            continue;
        }
        let mut places: Vec<u64> = item.names.iter().flat_map(|n| shipped.named(n)).map(|(a, _)| a).collect();
        // A variable of the same name is none of them, and would only hide why the code is not.
        places.retain(|place| shipped.is_code(*place));
        places.sort_unstable();
        places.dedup();
        let mut why = String::new();
        let mut fits: Vec<(u64, Lesson)> = Vec::new();
        for &place in &places {
            match compare_at(unit, index, shipped, place) {
                Ok(lesson) => fits.push((place, lesson)),
                Err(reason) => why = reason,
            }
        }
        if !fits.is_empty() {
            open.push((index, fits));
        } else if item.binding == Binding::Weak {
            proof
                .skipped
                .push((item.name().to_owned(), "a weak definition that another unit overrides".into()));
        } else if places.is_empty() {
            proof.skipped.push((item.name().to_owned(), "not in the shipped object under this name".into()));
        } else {
            let why = format!("compiled here, it differs from {}: {why}", shipped.object_name());
            return Err(Refusal::new(Rule::Fidelity, item.name(), why));
        }
    }
    settle(unit, open, &mut proof)?;
    Ok(proof)
}

/// Takes the lessons of functions that fit in one place; each may decide where others, which fit in several, are.
fn settle(
    unit: &Unit,
    mut open: Vec<(usize, Vec<(u64, Lesson)>)>,
    proof: &mut Fidelity,
) -> Result<(), Refusal> {
    loop {
        for (index, fits) in &mut open {
            if let Some(&known) = proof.address_of.get(index) {
                fits.retain(|(place, _)| *place == known);
            }
            if fits.is_empty() {
                let why = "the code that calls it uses another place than those where it was found";
                return Err(Refusal::new(Rule::Fidelity, unit.items[*index].name(), why));
            }
        }
        let Some(next) = open.iter().position(|(_, fits)| fits.len() == 1) else { break };
        let (index, mut fits) = open.swap_remove(next);
        let Some((place, lesson)) = fits.pop() else { continue };
        proof.proven.insert(index);
        proof.identical.push(unit.items[index].name().to_owned());
        for (item, address) in lesson.items.into_iter().chain([(index, place)]) {
            if *proof.address_of.entry(item).or_insert(address) != address {
                let why = format!("{} of the shipped code means another one", unit.items[index].name());
                return Err(Refusal::new(Rule::Fidelity, unit.items[item].name(), why));
            }
        }
        for (name, address) in lesson.externals {
            if *proof.externals.entry(name.clone()).or_insert(address) != address {
                let why = format!("{} of the shipped code means another one", unit.items[index].name());
                return Err(Refusal::new(Rule::Fidelity, name, why));
            }
        }
    }
    for (index, _) in open {
        let reason = "it stands in several places with the same code".to_owned();
        proof.skipped.push((unit.items[index].name().to_owned(), reason));
    }
    proof.identical.sort();
    Ok(())
}

/// Compares one function with the code at an address.
fn compare_at(unit: &Unit, index: usize, shipped: &dyn Shipped, place: u64) -> Result<Lesson, String> {
    let item = &unit.items[index];
    let ours = unit.bytes(item);
    let theirs = shipped.bytes_at(place, ours.len() + 16).ok_or("there is no code at its address")?;
    let padding = place.checked_sub(item.padding).and_then(|at| shipped.bytes_at(at, item.padding as usize));
    if padding.is_none_or(|bytes| bytes.len() as u64 != item.padding || bytes.iter().any(|b| *b != NOP)) {
        return Err(format!(
            "the shipped code has other bytes than {} no-operations before it",
            item.padding
        ));
    }
    let sites = jump_label_sites(unit, index);
    let mut lesson = Lesson::default();
    let mut references = item.references.iter().peekable();
    let mut jumps: Vec<(u64, u64)> = Vec::new();
    let mut places: HashMap<u64, u64> = HashMap::new();
    let (mut a, mut b) = (decoder(ours), decoder(theirs));
    while a.can_decode() {
        let (from, to) = (a.ip(), b.ip());
        places.insert(from, to);
        let (x, y) = (a.decode(), b.decode());
        if y.is_invalid() {
            return Err(format!("the shipped code ends at {to:#x}"));
        }
        let mine: Vec<&Reference> =
            std::iter::from_fn(|| references.next_if(|r| r.offset < x.next_ip())).collect();
        if sites.contains(&from) {
            if x.len() != y.len() {
                return Err(format!("the jump label at {from:#x} has another length"));
            }
            continue;
        }
        let differs = || format!("at offset {from:#x} the shipped code has other instructions");
        if x.len() == y.len() && same_bytes(ours, from, theirs, to, x.len(), &mine) {
            if mine.is_empty() && is_direct_jump(&x) {
                jumps.push((x.near_branch64(), y.near_branch64()));
            }
            for r in &mine {
                learn(unit, r, shipped, place + to + (r.offset - from), &mut lesson)?;
            }
        } else if is_direct_jump(&x) && x.mnemonic() == y.mnemonic() {
            match mine.as_slice() {
                [] => jumps.push((x.near_branch64(), y.near_branch64())),
                [Reference { target: Target::Item { item, offset }, .. }] => {
                    // Resolved by the assembler there: the jump's own target tells the place.
                    let address =
                        place.wrapping_add(y.near_branch64()).wrapping_add_signed(offset.wrapping_neg());
                    lesson.items.push((*item, address));
                }
                _ => return Err(differs()),
            }
        } else {
            return Err(differs());
        }
    }
    for (x, y) in jumps {
        if places.get(&x).is_some_and(|expected| *expected != y) {
            return Err(format!("the jump to offset {x:#x} goes elsewhere in the shipped code"));
        }
    }
    Ok(lesson)
}

fn decoder(bytes: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE)
}

fn is_direct_jump(i: &Instruction) -> bool {
    matches!(i.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch)
}

/// Offsets of a function's jump labels: objtool turns some of these jumps into no-operations.
fn jump_label_sites(unit: &Unit, owner: usize) -> Vec<u64> {
    let is_label =
        |e: &&crate::unit::Entry| e.owner == owner && unit.object.sections[e.section].name == "__jump_table";
    unit.entries.iter().filter(is_label).map(|e| e.at.cast_unsigned()).collect()
}

fn same_bytes(
    ours: &[u8],
    from: u64,
    theirs: &[u8],
    to: u64,
    length: usize,
    references: &[&Reference],
) -> bool {
    (0..length as u64).all(|i| {
        let masked = references.iter().any(|r| {
            let width = relocation::width(r.kind).unwrap_or(0);
            (r.offset..r.offset + width).contains(&(from + i))
        });
        masked || ours.get((from + i) as usize) == theirs.get((to + i) as usize)
    })
}

/// What one relocated field teaches, or that it means something else than ours.
fn learn(
    unit: &Unit,
    r: &Reference,
    shipped: &dyn Shipped,
    field: u64,
    lesson: &mut Lesson,
) -> Result<(), String> {
    let target = shipped.target_at(field, r.kind, r.bias);
    match (&r.target, target) {
        (Target::Item { item, offset }, Some(ShippedTarget::Address(address))) => {
            let base = address.wrapping_add_signed(offset.wrapping_neg());
            lesson.items.push((*item, base));
            let it = &unit.items[*item];
            let known: Vec<u64> = it.names.iter().flat_map(|n| shipped.named(n)).map(|(a, _)| a).collect();
            if !known.is_empty() && !known.contains(&base) && !it.names[0].contains('.') && it.size > 0 {
                return Err(format!("where it means {}, the shipped code means another address", it.name()));
            }
            Ok(())
        }
        (Target::External { name, offset }, Some(ShippedTarget::Address(address))) => {
            let base = address.wrapping_add_signed(offset.wrapping_neg());
            let known = shipped.named(name);
            if !known.is_empty() && !known.iter().any(|(a, _)| *a == base) {
                return Err(format!("where it means {name}, the shipped code means another address"));
            }
            lesson.externals.push((name.clone(), base));
            Ok(())
        }
        (Target::External { name, offset }, Some(ShippedTarget::Symbol(theirs, at))) => {
            if *name == theirs && *offset == at {
                Ok(())
            } else {
                Err(format!("where it means {name}, the shipped code means {theirs}"))
            }
        }
        (Target::Literal { bytes, offset, .. }, Some(ShippedTarget::Address(address))) => {
            let start = address.wrapping_add_signed(offset.wrapping_neg());
            match shipped.bytes_at(start, bytes.len()) {
                Some(theirs) if theirs == bytes.as_slice() => Ok(()),
                _ => Err(format!(
                    "the text {:?} is another one in the shipped code",
                    String::from_utf8_lossy(bytes)
                )),
            }
        }
        _ => Err(format!("the field at offset {:#x} means something else in the shipped code", r.offset)),
    }
}
