//! One compiled unit as the differ sees it: items (functions, variables, nameless pieces) and what they refer to.
//!
//! A compiler writes most references as section plus offset. Here every one is led back to the item it means, so
//! that two compilations can be compared by meaning. For a reference relative to the next instruction the addend
//! also holds the distance from the field to the end of its instruction; that end is found by decoding the code, not
//! by assuming 4 bytes (`cmpl $0, x(%rip)` has an immediate behind the field).

use std::collections::{BTreeSet, HashSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::elf::{Binding, Object, Placement, Symbol, SymbolKind, relocation};
use crate::refusal::{Refusal, Rule};
use crate::section_class::{Class, EntrySizes, Mark, SpecialTable, classify};

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// A function.
    Function,
    /// A named variable or constant.
    Data,
    /// Nameless bytes that something refers to: replacement code of alternatives, initialisers.
    Piece,
}

/// A function, variable, or nameless piece.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Names, global ones first; none for pieces.
    pub names: Vec<String>,
    /// Whether the first name is visible outside the unit.
    pub binding: Binding,
    /// Its section.
    pub section: usize,
    /// Offset in the section.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
    /// How many bytes of no-operations before it belong to it (CONFIG_CALL_PADDING): the kernel writes code there.
    pub padding: u64,
    /// What it refers to, by ascending offset.
    pub references: Vec<Reference>,
}

impl Item {
    /// The name to speak of it by.
    pub fn name(&self) -> &str {
        self.names.first().map_or("(nameless)", String::as_str)
    }
}

/// A relocation of an item, led back to what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Offset in the item.
    pub offset: u64,
    /// Relocation type.
    pub kind: u32,
    /// What is meant.
    pub target: Target,
    /// Distance from the field to the end of its instruction, for relative references in code; else 0. The addend
    /// of the relocation is the target's offset less this.
    pub bias: i64,
    /// Whether it is the destination of a call or jump: the address itself is not handed out.
    pub branch: bool,
}

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A place in an item of this unit.
    Item {
        /// Index into [`Unit::items`].
        item: usize,
        /// Offset in it; may lie outside, for arrays that are indexed from 1.
        offset: i64,
    },
    /// Bytes in a table of mergeable strings or constants: only their content matters.
    Literal {
        /// The content: a string with its NUL, or a whole constant.
        bytes: Vec<u8>,
        /// Where in these bytes the reference points.
        offset: i64,
        /// Alignment in bytes that the table had.
        align: u64,
    },
    /// A symbol of another unit.
    External {
        /// Its name.
        name: String,
        /// Offset from it.
        offset: i64,
    },
}

/// One entry of a special table.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Section of the table.
    pub section: usize,
    /// Offset of the entry in the table.
    pub start: u64,
    /// The item that its first field points into.
    pub owner: usize,
    /// Where in the owner.
    pub at: i64,
    /// All its references, the first included.
    pub references: Vec<Reference>,
    /// The table's rules.
    pub table: SpecialTable,
}

/// A compiled unit.
#[derive(Debug)]
pub struct Unit {
    /// The object it was read from.
    pub object: Object,
    /// Class of each section.
    pub classes: Vec<Class>,
    /// All items.
    pub items: Vec<Item>,
    /// All entries of special tables, by table and offset.
    pub entries: Vec<Entry>,
    /// References from sections that are neither items nor special tables: (section, reference).
    pub loose: Vec<(usize, Reference)>,
    by_section: Vec<Vec<usize>>,
}

/// Longest string or mergeable constant that is read. Strings of kernel objects are a few kB at most.
const MAX_STRING_BYTES: usize = 64 << 10;
/// Most bytes of strings and constants that one unit may refer to, each reference counted.
const MAX_LITERAL_BYTES: usize = 64 << 20;

/// Longest padding before a function: CONFIG_FUNCTION_PADDING_BYTES is 16 in Debian's kernels, 59 at most
/// (arch/x86/Kconfig).
const MAX_PADDING_BYTES: u64 = 64;
/// What is added to the address of something in the kernel image for its physical address: `__START_KERNEL_map`
/// (arch/x86/include/asm/page_64_types.h), negated.
const LESS_START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000_u64.wrapping_neg();
/// Opcode of a call whose distance follows (Intel SDM volume 2A, CALL).
const CALL_REL32: u8 = 0xe8;
/// What padding is made of.
pub(crate) const NOP: u8 = 0x90;

/// Tag of an imported namespace in `.modinfo`.
pub(crate) const IMPORT_NS: &str = "import_ns=";

/// Whether the last instruction of code goes on to the next one.
fn falls_through(code: &[u8]) -> bool {
    let last = Decoder::new(64, code, DecoderOptions::NONE).into_iter().last();
    last.is_none_or(|last| {
        !matches!(
            last.flow_control(),
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Exception
        )
    })
}

/// A relocation led back to a section and offset, or a name, before items are known.
struct Raw {
    section: usize,
    offset: u64,
    kind: u32,
    bias: i64,
    branch: bool,
    place: RawPlace,
    /// The named item that the symbol of the relocation is, whatever lies where its addend leads.
    anchor: Option<usize>,
    /// How far behind the thing that is meant it points.
    behind: i64,
}

enum RawPlace {
    Section(usize, i64),
    External(String, i64),
}

impl Unit {
    /// Reads a unit that was compiled with -ffunction-sections -fdata-sections and that objtool has not touched.
    pub fn parse(bytes: &[u8], sizes: &EntrySizes) -> Result<Self, Refusal> {
        let object = Object::parse(bytes)?;
        let classes: Vec<Class> = object.sections.iter().map(|section| classify(section, sizes)).collect();
        let mut unit = Self {
            by_section: vec![Vec::new(); object.sections.len()],
            object,
            classes,
            items: Vec::new(),
            entries: Vec::new(),
            loose: Vec::new(),
        };
        unit.find_named_items()?;
        unit.find_padding()?;
        let raws = unit.raw_references()?;
        unit.find_pieces(&raws)?;
        unit.assign(raws)?;
        Ok(unit)
    }

    /// The bytes of an item with the padding before it; empty for `.bss`.
    pub fn padded_bytes(&self, item: &Item) -> &[u8] {
        let (start, end) = ((item.start - item.padding) as usize, (item.start + item.size) as usize);
        self.object.sections[item.section].data.get(start..end).unwrap_or_default()
    }

    /// The bytes of an item; empty for `.bss`.
    pub fn bytes(&self, item: &Item) -> &[u8] {
        let (start, end) = (item.start as usize, (item.start + item.size) as usize);
        self.object.sections[item.section].data.get(start..end).unwrap_or_default()
    }

    /// Namespaces of exports that the unit imports (`MODULE_IMPORT_NS`, include/linux/module.h). Built into the kernel
    /// the tag stands behind the unit's module name and a dot.
    pub fn imported_namespaces(&self) -> Vec<String> {
        self.modinfo().filter_map(|text| Some(text.split_once(IMPORT_NS)?.1.to_owned())).collect()
    }

    /// Module information without imported namespaces.
    pub(crate) fn other_modinfo(&self) -> Vec<String> {
        self.modinfo().filter(|text| !text.contains(IMPORT_NS)).collect()
    }

    fn modinfo(&self) -> impl Iterator<Item = String> {
        let sections = self.object.sections.iter().filter(|s| s.name == ".modinfo");
        let texts = sections.flat_map(|s| s.data.split(|b| *b == 0)).filter(|text| !text.is_empty());
        texts.map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// Name of an item's section.
    pub fn section_name(&self, item: &Item) -> &str {
        &self.object.sections[item.section].name
    }

    /// Index of the function of this exact name.
    pub fn function(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|i| i.kind == ItemKind::Function && i.names.iter().any(|n| n == name))
    }

    /// Whether an item cannot be written to.
    pub fn is_read_only(&self, item: &Item) -> bool {
        !self.object.sections[item.section].has(crate::elf::constants::WRITE)
    }

    /// Whether the compiler put a call to `__fentry__` at the start of this function.
    pub fn has_fentry(&self, item: usize) -> bool {
        self.is_in_mcount_loc(item) || self.fentry_call(item).is_some()
    }

    /// Whether `__mcount_loc` has an entry for this function.
    pub fn is_in_mcount_loc(&self, item: usize) -> bool {
        self.entries.iter().any(|e| e.owner == item && self.object.sections[e.section].name == "__mcount_loc")
    }

    /// Offset of the call to `__fentry__` in a function: its first instruction, or its second behind `endbr64`.
    pub fn fentry_call(&self, item: usize) -> Option<u64> {
        let item = &self.items[item];
        let first = item.references.first().filter(|_| item.kind == ItemKind::Function)?;
        let is_fentry = matches!(&first.target, Target::External { name, .. } if name == "__fentry__");
        let at = first.offset.checked_sub(1).filter(|at| is_fentry && first.branch && [0, 4].contains(at))?;
        Some(at)
    }

    /// Whether a branch of an item is a call, and comes back.
    pub(crate) fn is_call(&self, item: usize, branch: &Reference) -> bool {
        let opcode = usize::try_from(branch.offset).ok().and_then(|at| at.checked_sub(1));
        let bytes = self.bytes(&self.items[item]);
        opcode.and_then(|at| bytes.get(at)) == Some(&CALL_REL32)
    }

    fn find_named_items(&mut self) -> Result<(), Refusal> {
        let mut found: Vec<Item> = Vec::new();
        let mut labels: Vec<Item> = Vec::new();
        for symbol in &self.object.symbols {
            let Placement::Section(section) = symbol.placement else {
                if symbol.placement == Placement::Common {
                    return Err(Refusal::new(
                        Rule::Object,
                        &symbol.name,
                        "a common symbol; kernels are built without",
                    ));
                }
                continue;
            };
            let kind = match (symbol.kind, self.classes[section]) {
                (SymbolKind::Function, Class::Code | Class::Init | Class::Unknown) => ItemKind::Function,
                (SymbolKind::Object, Class::Data | Class::Init | Class::Unknown | Class::ReadOnce) => {
                    ItemKind::Data
                }
                // Labels that assembly shares with other code: their distances mean something.
                (SymbolKind::None, Class::Data) if symbol.binding != Binding::Local => ItemKind::Data,
                _ => continue,
            };
            let is_label = symbol.kind == SymbolKind::None;
            let list = if is_label { &mut labels } else { &mut found };
            list.push(Item {
                kind,
                names: vec![symbol.name.clone()],
                binding: symbol.binding,
                section,
                start: symbol.value,
                size: symbol.size,
                padding: 0,
                references: Vec::new(),
            });
        }
        self.add_labels(&mut found, labels);
        // Global names first among aliases, then by name, so that two compilations agree.
        found.sort_by(|a, b| {
            let key =
                |i: &Item| (i.section, i.start, i.size, i.binding == Binding::Local, i.names[0].clone());
            key(a).cmp(&key(b))
        });
        for item in found {
            if let Some(last) = self.items.last_mut()
                && last.section == item.section
            {
                if last.start == item.start && last.size == item.size {
                    last.names.extend(item.names);
                    continue;
                }
                if item.start < last.start + last.size {
                    let why = format!("it overlaps with {}", last.name());
                    return Err(Refusal::new(Rule::NotSupported, item.name(), why));
                }
            }
            self.by_section[item.section].push(self.items.len());
            self.items.push(item);
        }
        Ok(())
    }

    /// Labels have no size: each reaches to the next thing in its section. Those inside of something else are dropped.
    fn add_labels(&self, found: &mut Vec<Item>, mut labels: Vec<Item>) {
        let mut sized: Vec<(usize, u64, u64)> =
            found.iter().map(|i| (i.section, i.start, i.start.saturating_add(i.size))).collect();
        sized.sort_unstable();
        labels.retain(|label| {
            let before =
                sized.partition_point(|&(section, at, _)| (section, at) <= (label.section, label.start));
            let last = before.checked_sub(1).map(|at| sized[at]);
            last.is_none_or(|(section, _, end)| section != label.section || end <= label.start)
        });
        let places = found.iter().chain(&labels).map(|i| (i.section, i.start));
        let starts: BTreeSet<(usize, u64)> = places.collect();
        for label in &mut labels {
            let end = self.object.sections[label.section].size;
            let from = (label.section, label.start);
            let next = starts.range(from..).find(|place| **place != from);
            let next = next.filter(|(section, _)| *section == label.section).map(|(_, start)| *start);
            label.size = next.unwrap_or(end).saturating_sub(label.start);
        }
        found.append(&mut labels);
    }

    /// Gives functions the padding before them. The compiler notes where it begins
    /// (`-fpatchable-function-entry=N,N`): every entry of that table points at the first byte of a function's padding,
    /// or, where there is none, into the function.
    fn find_padding(&mut self) -> Result<(), Refusal> {
        for table in self.object.sections.iter().filter(|s| s.name == "__patchable_function_entries") {
            for r in &table.relocations {
                let symbol = &self.object.symbols[r.symbol];
                let Placement::Section(section) = symbol.placement else { continue };
                let place = symbol.value.wrapping_add_signed(r.addend);
                if self.item_holding(section, place).is_some() {
                    continue;
                }
                let here = &self.by_section[section];
                let next = here.get(here.partition_point(|&i| self.items[i].start < place));
                let padding = next.map(|&i| self.items[i].start - place);
                let bytes = padding.filter(|p| *p <= MAX_PADDING_BYTES).and_then(|padding| {
                    self.object.sections[section].data.get(place as usize..(place + padding) as usize)
                });
                let (Some(&index), Some(bytes)) = (next, bytes) else {
                    let why = format!("padding at {place:#x} that no function follows");
                    return Err(Refusal::new(Rule::Object, &self.object.sections[section].name, why));
                };
                if bytes.iter().any(|b| *b != NOP) {
                    let why = "the padding before it is not made of no-operations";
                    return Err(Refusal::new(Rule::Object, self.items[index].name(), why));
                }
                self.items[index].padding = bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Sections whose relocations matter.
    fn is_read(&self, section: usize) -> bool {
        !matches!(self.classes[section], Class::Ignored)
    }

    fn raw_references(&self) -> Result<Vec<Raw>, Refusal> {
        let mut out = Vec::new();
        for (index, section) in self.object.sections.iter().enumerate() {
            if !self.is_read(index) || section.relocations.is_empty() {
                continue;
            }
            let code = section.is_code().then(|| self.instructions(index));
            for r in &section.relocations {
                let (bias, branch) = match &code {
                    Some(code) if relocation::is_relative(r.kind) => {
                        let at = code.partition_point(|&(end, _)| end <= r.offset).min(code.len() - 1);
                        let (end, branch) = code[at];
                        let field_end = r.offset + relocation::width(r.kind).unwrap_or(8);
                        if end < field_end || end > r.offset + 15 {
                            let why = format!("its code at {:#x} does not decode", r.offset);
                            return Err(Refusal::new(Rule::Object, &section.name, why));
                        }
                        ((end - r.offset) as i64, branch)
                    }
                    _ => (0, false),
                };
                let symbol = &self.object.symbols[r.symbol];
                let offset = r.addend.wrapping_add(bias);
                let place = match symbol.placement {
                    Placement::Section(target) => {
                        RawPlace::Section(target, offset.wrapping_add(symbol.value.cast_signed()))
                    }
                    Placement::Undefined => RawPlace::External(symbol.name.clone(), offset),
                    // Checksums of exports were absolute symbols before 5.19.
                    Placement::Absolute if self.classes[index] == Class::ReadOnce => {
                        RawPlace::External(symbol.name.clone(), offset)
                    }
                    _ => {
                        let why =
                            format!("a reference to {}, which is neither here nor elsewhere", symbol.name);
                        return Err(Refusal::new(Rule::Object, &section.name, why));
                    }
                };
                let behind = self.behind(index, r.offset);
                let anchor = self.anchor(symbol);
                let (section, offset, kind) = (index, r.offset, r.kind);
                out.push(Raw { section, offset, kind, bias, branch, place, anchor, behind });
            }
        }
        Ok(out)
    }

    /// Ends of all instructions of a section, ascending, and whether each is a call or jump; decoding starts anew at
    /// each function.
    fn instructions(&self, section: usize) -> Vec<(u64, bool)> {
        let data = &self.object.sections[section].data;
        let mut starts: Vec<usize> = self.by_section[section]
            .iter()
            .map(|&i| (self.items[i].start as usize).min(data.len()))
            .collect();
        starts.insert(0, 0);
        starts.push(data.len());
        let mut ends = Vec::new();
        for window in starts.windows(2).filter(|w| w[0] < w[1]) {
            let mut decoder =
                Decoder::with_ip(64, &data[window[0]..window[1]], window[0] as u64, DecoderOptions::NONE);
            while decoder.can_decode() {
                let instruction = decoder.decode();
                let branch = instruction.is_call_near()
                    || instruction.is_jmp_short_or_near()
                    || instruction.is_jcc_short_or_near();
                ends.push((instruction.next_ip(), branch));
            }
        }
        if ends.is_empty() {
            ends.push((0, false));
        }
        ends
    }

    /// The item that a relocation names by its own symbol.
    fn anchor(&self, symbol: &Symbol) -> Option<usize> {
        let Placement::Section(section) = symbol.placement else { return None };
        let here = &self.by_section[section];
        let at = here.partition_point(|&i| self.items[i].start < symbol.value);
        let mut same = here[at..].iter().copied().take_while(|&i| self.items[i].start == symbol.value);
        same.find(|&i| symbol.kind != SymbolKind::Section && self.items[i].names.contains(&symbol.name))
    }

    /// The item that holds an offset of a section.
    fn item_at(&self, section: usize, offset: i64) -> Option<usize> {
        let here = &self.by_section[section];
        // Before or past its only item: an array indexed from 1, or a pointer to its end.
        let only = match here.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let place = u64::try_from(offset).ok();
        let holding = |place: u64| self.item_holding(section, place);
        // The physical address of something (`__phys_addr_symbol`, arch/x86/include/asm/page_64.h).
        let physical = || place.and_then(|place| place.checked_sub(LESS_START_KERNEL_MAP)).and_then(holding);
        place.and_then(holding).or(only).or_else(physical)
    }

    /// The item of a section that a place lies in or starts at.
    fn item_holding(&self, section: usize, place: u64) -> Option<usize> {
        let here = &self.by_section[section];
        let behind = here.partition_point(|&i| self.items[i].start <= place);
        let last = *here.get(behind.checked_sub(1)?)?;
        let item = &self.items[last];
        (place < item.start + item.size || place == item.start).then_some(last)
    }

    /// Cuts nameless bytes that something refers to into pieces, each up to the next one that is referred to.
    fn find_pieces(&mut self, raws: &[Raw]) -> Result<(), Refusal> {
        let mut cuts: Vec<(usize, u64)> = Vec::new();
        let mut firsts: HashSet<(usize, u64)> = HashSet::new();
        for raw in raws {
            let RawPlace::Section(section, offset) = raw.place else { continue };
            if matches!(
                self.classes[section],
                Class::Strings | Class::Constants | Class::Special(_) | Class::Author | Class::Ignored
            ) {
                continue;
            }
            let offset = offset.wrapping_sub(raw.behind);
            if raw.anchor.is_some() || self.item_at(section, offset).is_some() {
                continue;
            }
            let place = u64::try_from(offset).ok().filter(|o| *o <= self.object.sections[section].size);
            let Some(place) = place else {
                let name = &self.object.sections[section].name;
                return Err(Refusal::new(
                    Rule::Object,
                    name,
                    format!("a reference to offset {offset} outside of it"),
                ));
            };
            // What a table's entry belongs to is code, not a place where code begins.
            if self.is_start_of_entry(raw) {
                firsts.insert((section, place));
            } else {
                cuts.push((section, place));
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        let missing = firsts.into_iter().filter(|&(section, place)| {
            let before = cuts.partition_point(|&cut| cut <= (section, place));
            before.checked_sub(1).is_none_or(|at| cuts[at].0 != section)
        });
        let missing: Vec<_> = missing.collect();
        cuts.extend(missing);
        cuts.sort_unstable();
        cuts.dedup();
        self.join_code(&mut cuts);
        // Named items are in ascending order, section by section.
        let named: Vec<(usize, u64)> = self.items.iter().map(|i| (i.section, i.start - i.padding)).collect();
        for (index, &(section, start)) in cuts.iter().enumerate() {
            let next_cut = cuts.get(index + 1).filter(|c| c.0 == section).map(|c| c.1);
            let next_item = named.get(named.partition_point(|item| *item <= (section, start)));
            let next_item = next_item.filter(|item| item.0 == section).map(|item| item.1);
            let end =
                [next_cut, next_item, Some(self.object.sections[section].size)].into_iter().flatten().min();
            self.by_section[section].push(self.items.len());
            self.items.push(Item {
                kind: ItemKind::Piece,
                names: Vec::new(),
                binding: Binding::Local,
                section,
                start,
                size: end.unwrap_or(start) - start,
                padding: 0,
                references: Vec::new(),
            });
        }
        for here in &mut self.by_section {
            here.sort_by_key(|&i| self.items[i].start);
        }
        Ok(())
    }

    /// Whether this is the first field of an entry of a special table.
    fn is_start_of_entry(&self, raw: &Raw) -> bool {
        match self.classes[raw.section] {
            Class::Special(table) => raw.offset.checked_rem(table.entry_size) == Some(0),
            _ => false,
        }
    }

    /// Code that runs on into the next piece is one piece with it. Replacements of alternatives are copied one by one,
    /// so they end where the next begins.
    fn join_code(&self, cuts: &mut Vec<(usize, u64)>) {
        let mut last: Option<(usize, u64)> = None;
        cuts.retain(|&(section, start)| {
            let runs_on = |from: u64| {
                let code = &self.object.sections[section];
                let joins = code.is_code() && code.name != ".altinstr_replacement";
                joins && code.data.get(from as usize..start as usize).is_some_and(falls_through)
            };
            let is_named_between = |from: u64| {
                let here = &self.by_section[section];
                let next = here.get(here.partition_point(|&i| self.items[i].start < from));
                next.is_some_and(|&i| self.items[i].start < start)
            };
            let joined =
                last.is_some_and(|(s, from)| s == section && !is_named_between(from) && runs_on(from));
            if !joined {
                last = Some((section, start));
            }
            !joined
        });
    }

    /// How far behind the code that it belongs to the first field of an entry points.
    fn behind(&self, section: usize, offset: u64) -> i64 {
        match self.classes[section] {
            Class::Special(table)
                if table.mark == Mark::Previous && offset.is_multiple_of(table.entry_size) =>
            {
                1
            }
            _ => 0,
        }
    }

    fn target(&self, place: RawPlace, anchor: Option<usize>, behind: i64) -> Result<Target, Refusal> {
        let (section, offset) = match place {
            RawPlace::External(name, offset) => return Ok(Target::External { name, offset }),
            RawPlace::Section(section, offset) => (section, offset),
        };
        let from = &self.object.sections[section];
        let outside = || {
            Refusal::new(Rule::Object, &from.name, format!("a reference to offset {offset} outside of it"))
        };
        match self.classes[section] {
            Class::Strings => {
                let start =
                    usize::try_from(offset).ok().filter(|s| *s < from.data.len()).ok_or_else(outside)?;
                let rest = &from.data[start..from.data.len().min(start.saturating_add(MAX_STRING_BYTES))];
                let length = rest.iter().position(|&b| b == 0).ok_or_else(outside)? + 1;
                Ok(Target::Literal {
                    bytes: from.data[start..start + length].to_vec(),
                    offset: 0,
                    align: from.align,
                })
            }
            Class::Constants => {
                let size = usize::try_from(from.entry_size).ok().filter(|s| *s > 0).ok_or_else(outside)?;
                let at = usize::try_from(offset).map_err(|_| outside())?;
                let start = at / size * size;
                let end = start.checked_add(size.min(MAX_STRING_BYTES)).ok_or_else(outside)?;
                let bytes = from.data.get(start..end).ok_or_else(outside)?.to_vec();
                Ok(Target::Literal { bytes, offset: (at - start) as i64, align: from.align })
            }
            Class::Special(_) | Class::Author | Class::Ignored => {
                Err(Refusal::new(Rule::NotSupported, &from.name, "something refers to this table"))
            }
            Class::Code | Class::Init | Class::Data | Class::ReadOnce | Class::Unknown => {
                match anchor.or_else(|| self.item_at(section, offset.wrapping_sub(behind))) {
                    Some(item) => Ok(Target::Item {
                        item,
                        offset: offset.wrapping_sub(self.items[item].start.cast_signed()),
                    }),
                    None => Err(outside()),
                }
            }
        }
    }

    fn assign(&mut self, raws: Vec<Raw>) -> Result<(), Refusal> {
        let mut tables: Vec<(usize, Vec<Reference>)> = Vec::new();
        let mut literal_bytes = 0;
        for Raw { section, offset, kind, bias, branch, place, anchor, behind } in raws {
            let reference =
                Reference { offset, kind, target: self.target(place, anchor, behind)?, bias, branch };
            if let Target::Literal { bytes, .. } = &reference.target {
                literal_bytes += bytes.len();
                if literal_bytes > MAX_LITERAL_BYTES {
                    let why = format!("it refers to more than {MAX_LITERAL_BYTES} bytes of strings");
                    return Err(Refusal::new(Rule::Object, "object file", why));
                }
            }
            if matches!(self.classes[section], Class::Special(_)) {
                match tables.last_mut() {
                    Some((last, references)) if *last == section => references.push(reference),
                    _ => tables.push((section, vec![reference])),
                }
                continue;
            }
            let owner = self.item_holding(section, offset).filter(|&i| self.items[i].size > 0);
            match owner {
                Some(owner) => {
                    let item = &mut self.items[owner];
                    item.references.push(Reference { offset: offset - item.start, ..reference });
                }
                None => self.loose.push((section, reference)),
            }
        }
        for item in &mut self.items {
            item.references.sort_by_key(|r| r.offset);
        }
        for (section, references) in tables {
            self.read_table(section, references)?;
        }
        Ok(())
    }

    fn read_table(&mut self, section: usize, mut references: Vec<Reference>) -> Result<(), Refusal> {
        let Class::Special(table) = self.classes[section] else { return Ok(()) };
        let (name, size) = (self.object.sections[section].name.clone(), self.object.sections[section].size);
        let broken = |why: String| Refusal::new(Rule::Object, &name, why);
        let last = size.checked_rem(table.entry_size);
        if last.is_none_or(|last| last != 0 && last < table.last_entry_size) {
            return Err(broken(format!("{size} bytes are not entries of {} bytes", table.entry_size)));
        }
        references.sort_by_key(|r| r.offset);
        let mut rest = references.as_slice();
        for start in (0..size).step_by(table.entry_size as usize) {
            let count = rest.iter().take_while(|r| r.offset < start + table.entry_size).count();
            let (mine, after) = rest.split_at(count);
            rest = after;
            let (owner, at) = match mine.first() {
                Some(Reference { offset, target: Target::Item { item, offset: at }, .. })
                    if *offset == start =>
                {
                    (*item, *at)
                }
                // An entry that only keeps a symbol alive may name one of another unit.
                _ if table.fate == crate::section_class::Fate::Drop => continue,
                _ => {
                    return Err(broken(format!(
                        "the entry at {start:#x} does not begin with a pointer to code"
                    )));
                }
            };
            let references =
                mine.iter().map(|r| Reference { offset: r.offset - start, ..r.clone() }).collect();
            self.entries.push(Entry { section, start, owner, at, references, table });
        }
        Ok(())
    }

    /// The bytes of a special table's entry.
    pub fn entry_bytes(&self, entry: &Entry) -> &[u8] {
        let data = &self.object.sections[entry.section].data;
        let (start, end) = (entry.start as usize, (entry.start + entry.table.entry_size) as usize);
        data.get(start..end.min(data.len())).unwrap_or_default()
    }
}
