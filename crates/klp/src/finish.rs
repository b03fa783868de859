//! The last step: the linked module's placeholders become livepatch relocations, its versions are written, and what
//! only debuggers need is dropped.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::{Binding, Object, Placement, Relocation, Section, Symbol, SymbolKind, constants};
use crate::extract::NEW_FUNCTION_PREFIX;
use crate::refusal::{Refusal, Rule};
use crate::resolve::{LivepatchSymbol, Resolution};
use crate::symvers::Exports;
use crate::unit::IMPORT_NS;

/// `MODULE_NAME_LEN`, the room for a name in `struct modversion_info` (include/linux/module.h).
const VERSION_NAME_BYTES: usize = 64 - 8;

/// Sections that the kernel walks before a livepatched module is there: their relocations must not wait for it.
const WALKED_AT_LOAD: [&str; 8] = [
    "__jump_table",
    ".altinstructions",
    // Its code is copied into place then.
    ".altinstr_replacement",
    ".parainstructions",
    ".static_call_sites",
    ".retpoline_sites",
    ".return_sites",
    ".call_sites",
];

/// The table of calls (tools/objtool/check.c, `create_direct_call_sections`), and the length of one entry.
const CALL_SITES: &str = ".call_sites";
const CALL_SITE_BYTES: u64 = 4;

/// `struct static_call_site` (include/linux/static_call_types.h): two offsets of 4 bytes, of the call and of its key.
const STATIC_CALL_SITES: &str = ".static_call_sites";
const STATIC_CALL_SITE_BYTES: u64 = 8;
const STATIC_CALL_KEY: u64 = 4;

/// `struct jump_entry` with relative fields (include/linux/jump_label.h): code, target, key.
pub(crate) const JUMP_TABLE: &str = "__jump_table";
pub(crate) const JUMP_ENTRY_BYTES: u64 = 16;
pub(crate) const JUMP_ENTRY_KEY: u64 = 8;

/// What a jump label is before it is enabled: `x86_nops[5]` and `x86_nops[2]` (arch/x86/include/asm/nops.h).
const NOPS: [&[u8]; 2] = [&[0x0f, 0x1f, 0x44, 0, 0], &[0x66, 0x90]];

/// Start of the names of tracepoints (include/linux/tracepoint.h).
pub(crate) const TRACEPOINT: &str = "__tracepoint_";

/// A finished module.
#[derive(Debug)]
pub struct Finished {
    /// The module, not signed.
    pub module: Vec<u8>,
    /// What the patched functions lack, in words: tracepoints of modules, which cannot be enabled in them.
    pub lost: BTreeSet<String>,
}

/// Finishes a module that the linker put together from extracted objects and glue.
pub fn finish(
    linked: &[u8],
    symbols: &BTreeMap<String, Resolution>,
    exports: &Exports,
) -> Result<Finished, Refusal> {
    let mut object = Object::parse(linked)?;
    drop_unneeded_sections(&mut object);
    resolve_new_functions(&mut object);
    let used: BTreeSet<usize> =
        object.sections.iter().flat_map(|s| s.relocations.iter().map(|r| r.symbol)).collect();

    // Each undefined symbol must be found by somebody.
    let mut by_livepatch: BTreeMap<usize, LivepatchSymbol> = BTreeMap::new();
    let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
    let layout = "module_layout";
    for (index, symbol) in object.symbols.iter().enumerate() {
        if symbol.placement != Placement::Undefined || !used.contains(&index) {
            continue;
        }
        match symbols.get(&symbol.name) {
            Some(Resolution::Livepatch(found)) => _ = by_livepatch.insert(index, found.clone()),
            Some(Resolution::Exported) | None => {
                let export = exports.of_vmlinux(&symbol.name).ok_or_else(|| {
                    Refusal::new(
                        Rule::SymbolMissing,
                        &symbol.name,
                        "the linked module needs it, and nothing provides it",
                    )
                })?;
                if !export.namespace.is_empty() && !imports(&object, &export.namespace) {
                    let why = format!("it is exported only to the namespace {}", export.namespace);
                    return Err(Refusal::new(Rule::NotSupported, &symbol.name, why));
                }
                versions.insert(&symbol.name, export.crc);
            }
        }
    }
    let export = exports.of_vmlinux(layout);
    let export =
        export.ok_or_else(|| Refusal::new(Rule::SymbolMissing, layout, "Module.symvers does not have it"))?;
    versions.insert(layout, export.crc);
    let versions = versions_section(layout, &versions)?;
    object.sections.push(versions);
    let lost = drop_late_entries(&mut object, &by_livepatch)?;
    convert_relocations(&mut object, &by_livepatch)?;
    drop_unused_symbols(&mut object);
    Ok(Finished { module: object.to_bytes(), lost })
}

/// Whether the module's information imports a namespace.
fn imports(object: &Object, namespace: &str) -> bool {
    let wanted = format!("{IMPORT_NS}{namespace}");
    let sections = object.sections.iter().filter(|s| s.name == ".modinfo");
    sections.flat_map(|s| s.data.split(|b| *b == 0)).any(|text| text == wanted.as_bytes())
}

/// Debug information, and marks for the linker.
fn drop_unneeded_sections(object: &mut Object) {
    let keep: Vec<bool> = object
        .sections
        .iter()
        .map(|s| s.has(constants::ALLOC) && !s.name.starts_with(".discard") && s.name != ".note.GNU-stack")
        .collect();
    let mut place = vec![None; keep.len()];
    let kept = keep.iter().enumerate().filter(|(_, keep)| **keep).map(|(old, _)| old);
    kept.enumerate().for_each(|(new, old)| place[old] = Some(new));
    let mut index = 0;
    object.sections.retain(|_| {
        index += 1;
        keep[index - 1]
    });
    for symbol in &mut object.symbols {
        if let Placement::Section(section) = symbol.placement {
            match place[section] {
                Some(section) => symbol.placement = Placement::Section(section),
                // Nothing that is kept refers to it; drop_unused_symbols takes it away.
                None => (symbol.placement, symbol.kind) = (Placement::Absolute, SymbolKind::File),
            }
        }
    }
}

/// The names under which the glue found the new functions are of no use any more.
fn resolve_new_functions(object: &mut Object) {
    let aliases: Vec<(usize, usize, u64)> = object
        .symbols
        .iter()
        .enumerate()
        .filter(|(_, s)| s.name.starts_with(NEW_FUNCTION_PREFIX))
        .filter_map(|(index, s)| match s.placement {
            Placement::Section(section) => Some((index, section, s.value)),
            _ => None,
        })
        .collect();
    for (alias, section, value) in aliases {
        let target = object.section_symbol(section);
        for relocation in object.sections.iter_mut().flat_map(|s| &mut s.relocations) {
            if relocation.symbol == alias {
                relocation.symbol = target;
                relocation.addend = relocation.addend.wrapping_add(value.cast_signed());
            }
        }
    }
}

/// What the kernel reads at load and cannot, because it leads into a module that may come later, is left out where the
/// code is right without it. Returns what is lost by that, in words.
fn drop_late_entries(
    object: &mut Object,
    found: &BTreeMap<usize, LivepatchSymbol>,
) -> Result<BTreeSet<String>, Refusal> {
    let late = |r: &Relocation| found.get(&r.symbol).filter(|s| s.applied_with != "vmlinux");
    let fields = object.sections.iter().enumerate().flat_map(|(index, section)| {
        section.relocations.iter().filter(|r| late(r).is_some()).map(move |r| (index, r.offset))
    });
    let fields: BTreeSet<(usize, u64)> = fields.collect();
    // With call depth tracking the kernel leads every call of the table to the padding before its destination when
    // the livepatch is loaded (arch/x86/kernel/callthunks.c, `patch_call`), and these go nowhere yet. A call that is
    // not counted only makes the return stack buffer be filled earlier. Its field stands behind one byte of opcode.
    retain_entries(object, CALL_SITES, CALL_SITE_BYTES, |object, entry| {
        Ok(!site(object, entry).is_some_and(|(section, at)| fields.contains(&(section, at.wrapping_add(1)))))
    })?;
    // The call goes to the trampoline, which the kernel keeps leading to the right place; the table only serves to
    // save that jump (include/linux/static_call.h).
    retain_entries(object, STATIC_CALL_SITES, STATIC_CALL_SITE_BYTES, |_, entry| {
        Ok(!entry.iter().any(|r| r.offset == STATIC_CALL_KEY && late(r).is_some()))
    })?;
    let mut lost = BTreeSet::new();
    retain_entries(object, JUMP_TABLE, JUMP_ENTRY_BYTES, |object, entry| {
        let key = entry.iter().find(|r| r.offset == JUMP_ENTRY_KEY).and_then(late);
        let Some(tracepoint) = key.and_then(|key| key.name.strip_prefix(TRACEPOINT)) else { return Ok(true) };
        let code = site(object, entry)
            .and_then(|(section, at)| object.sections[section].data.get(usize::try_from(at).ok()?..));
        if code.is_some_and(|code| NOPS.iter().any(|nop| code.starts_with(nop))) {
            lost.insert(format!("tracepoint {tracepoint} in the patched functions"));
            return Ok(false);
        }
        // Refused later, as any other key.
        Ok(true)
    })?;
    Ok(lost)
}

/// The code that an entry's first field points at: section, offset.
fn site(object: &Object, entry: &[Relocation]) -> Option<(usize, u64)> {
    let field = entry.iter().find(|r| r.offset == 0)?;
    let symbol = object.symbols.get(field.symbol)?;
    match symbol.placement {
        Placement::Section(section) => Some((section, symbol.value.wrapping_add_signed(field.addend))),
        _ => None,
    }
}

/// Drops entries of a table; each is shown with its relocations, whose offsets count from its start.
fn retain_entries(
    object: &mut Object,
    table: &str,
    entry_bytes: u64,
    mut keep: impl FnMut(&Object, &[Relocation]) -> Result<bool, Refusal>,
) -> Result<(), Refusal> {
    let Some(index) = object.section_named(table) else { return Ok(()) };
    let section = &object.sections[index];
    let mut entries: BTreeMap<u64, Vec<Relocation>> = BTreeMap::new();
    for relocation in &section.relocations {
        let entry = entries.entry(relocation.offset / entry_bytes).or_default();
        entry.push(Relocation { offset: relocation.offset % entry_bytes, ..*relocation });
    }
    if entries.len() as u64 * entry_bytes != section.size || section.data.len() as u64 != section.size {
        let why = format!("it is not a table of entries of {entry_bytes} bytes that each point at code");
        return Err(Refusal::new(Rule::Object, table, why));
    }
    let (mut data, mut relocations) = (Vec::new(), Vec::new());
    for (entry, bytes) in entries.values().zip(section.data.chunks(entry_bytes as usize)) {
        if keep(object, entry)? {
            let start = data.len() as u64;
            relocations.extend(entry.iter().map(|r| Relocation { offset: start + r.offset, ..*r }));
            data.extend_from_slice(bytes);
        }
    }
    let section = &mut object.sections[index];
    (section.size, section.data, section.relocations) = (data.len() as u64, data, relocations);
    Ok(())
}

/// `__versions`: for each symbol checksum and name, `struct modversion_info` of include/linux/module.h; the layout
/// of `struct module` first, as modpost does.
fn versions_section(first: &str, versions: &BTreeMap<&str, u32>) -> Result<Section, Refusal> {
    let mut data = Vec::new();
    let order =
        versions.iter().filter(|(n, _)| **n == first).chain(versions.iter().filter(|(n, _)| **n != first));
    for (name, crc) in order {
        if name.len() >= VERSION_NAME_BYTES {
            return Err(Refusal::new(Rule::NotSupported, *name, "its name is too long for __versions"));
        }
        data.extend_from_slice(&u64::from(*crc).to_le_bytes());
        data.extend_from_slice(name.as_bytes());
        data.resize(data.len().next_multiple_of(8 + VERSION_NAME_BYTES), 0);
    }
    Ok(Section {
        name: "__versions".into(),
        kind: constants::PROGBITS,
        flags: constants::ALLOC,
        align: 32,
        entry_size: 0,
        size: data.len() as u64,
        data,
        relocations: Vec::new(),
        livepatch_relocations: Vec::new(),
    })
}

fn convert_relocations(object: &mut Object, found: &BTreeMap<usize, LivepatchSymbol>) -> Result<(), Refusal> {
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    let mut symbols: Vec<Symbol> = Vec::new();
    let base = object.symbols.len();
    for section in &mut object.sections {
        let mut groups: BTreeMap<String, Vec<Relocation>> = BTreeMap::new();
        let mut ordinary = Vec::new();
        for relocation in section.relocations.drain(..) {
            let Some(symbol) = found.get(&relocation.symbol) else {
                ordinary.push(relocation);
                continue;
            };
            if symbol.applied_with != "vmlinux" && WALKED_AT_LOAD.contains(&section.name.as_str()) {
                let why = format!(
                    "section {} refers to it, and the kernel reads that before module {} is there",
                    section.name, symbol.applied_with
                );
                return Err(Refusal::new(Rule::ModuleKey, &symbol.name, why));
            }
            let name = symbol.symbol_name();
            let index = *made.entry(name.clone()).or_insert_with(|| {
                symbols.push(Symbol {
                    name,
                    placement: Placement::Livepatch,
                    value: 0,
                    size: 0,
                    kind: SymbolKind::None,
                    binding: Binding::Global,
                    other: 0,
                });
                base + symbols.len() - 1
            });
            groups
                .entry(symbol.applied_with.clone())
                .or_default()
                .push(Relocation { symbol: index, ..relocation });
        }
        section.relocations = ordinary;
        section.livepatch_relocations.extend(groups);
    }
    object.symbols.extend(symbols);
    Ok(())
}

fn drop_unused_symbols(object: &mut Object) {
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for section in &object.sections {
        let groups = section.livepatch_relocations.iter().flat_map(|(_, relocations)| relocations);
        used.extend(section.relocations.iter().chain(groups).map(|r| r.symbol));
    }
    let keep = |index: usize, s: &Symbol| {
        let named = matches!(s.kind, SymbolKind::Function | SymbolKind::Object | SymbolKind::None)
            && matches!(s.placement, Placement::Section(_))
            && !s.name.starts_with(NEW_FUNCTION_PREFIX);
        used.contains(&index) || named
    };
    let mut place = vec![usize::MAX; object.symbols.len()];
    let mut kept = Vec::with_capacity(object.symbols.len());
    for (index, symbol) in std::mem::take(&mut object.symbols).into_iter().enumerate() {
        if keep(index, &symbol) {
            place[index] = kept.len();
            kept.push(symbol);
        }
    }
    object.symbols = kept;
    for section in &mut object.sections {
        let groups = section.livepatch_relocations.iter_mut().flat_map(|(_, relocations)| relocations);
        section.relocations.iter_mut().chain(groups).for_each(|r| r.symbol = place[r.symbol]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
    const PC32: u32 = crate::elf::relocation::PC32;

    fn symbol(name: &str, placement: Placement) -> Symbol {
        let (kind, binding) = (SymbolKind::None, Binding::Global);
        Symbol { name: name.into(), placement, value: 0, size: 0, kind, binding, other: 0 }
    }

    fn found(object: &str) -> Resolution {
        let (name, sympos) = ("f".to_owned(), 0);
        let applied_with = object.to_owned();
        Resolution::Livepatch(LivepatchSymbol { applied_with, object: object.into(), name, sympos })
    }

    /// Three calls: to the kernel, to a module that may come later, to the kernel.
    fn linked(table: &str) -> Vec<u8> {
        let mut object = Object::default();
        let mut text = Section::empty(".text", 1);
        text.flags |= constants::EXEC;
        text.data = CALL.repeat(3);
        text.size = 15;
        object.sections.push(text);
        object.sections.push(Section { data: vec![0; 12], size: 12, ..Section::empty(table, 1) });
        object.symbols = vec![symbol("kernel", Placement::Undefined), symbol("late", Placement::Undefined)];
        let to_text = object.section_symbol(0);
        for (index, symbol) in [(0, 0), (1, 1), (2, 0)] {
            let field = Relocation { offset: 5 * index + 1, kind: PC32, symbol, addend: -4 };
            object.sections[0].relocations.push(field);
            let addend = (5 * index).cast_signed();
            let site = Relocation { offset: 4 * index, kind: PC32, symbol: to_text, addend };
            object.sections[1].relocations.push(site);
        }
        object.to_bytes()
    }

    fn finished(table: &str) -> Result<Object, Refusal> {
        let symbols = [("kernel", found("vmlinux")), ("late", found("m"))];
        let symbols = symbols.map(|(name, resolution)| (name.to_owned(), resolution)).into();
        let exports = Exports::parse("0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n").unwrap();
        Ok(Object::parse(&finish(&linked(table), &symbols, &exports)?.module)?)
    }

    #[test]
    fn calls_into_a_later_module_are_not_counted() {
        let object = finished(CALL_SITES).unwrap();
        let table = &object.sections[object.section_named(CALL_SITES).unwrap()];
        let sites: Vec<_> = table.relocations.iter().map(|r| (r.offset, r.addend)).collect();
        assert_eq!((table.size, table.data.len(), sites), (8, 8, vec![(0, 0), (4, 10)]));
        let text = &object.sections[object.section_named(".text").unwrap()];
        let groups: Vec<_> = text.livepatch_relocations.iter().map(|(o, r)| (o.as_str(), r.len())).collect();
        assert_eq!(groups, [("m", 1), ("vmlinux", 2)], "every relocation became one of the livepatch");
        // Nothing is dropped from any other table.
        assert_eq!(finished(".return_sites").unwrap().sections[1].size, 12);
    }

    #[test]
    fn tables_that_are_read_before_the_module_comes_are_refused() {
        for table in WALKED_AT_LOAD.into_iter().filter(|t| ![JUMP_TABLE, STATIC_CALL_SITES].contains(t)) {
            let mut object = Object::parse(&linked(table)).unwrap();
            let late = object.symbols.iter().position(|s| s.name == "late").unwrap();
            object.sections[1].relocations[0].symbol = late;
            let symbols = [("kernel".to_owned(), found("vmlinux")), ("late".to_owned(), found("m"))].into();
            let exports = Exports::parse("0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n").unwrap();
            let refusal = finish(&object.to_bytes(), &symbols, &exports).unwrap_err();
            assert_eq!((refusal.rule, refusal.place.as_str()), (Rule::ModuleKey, "f"), "{table}");
        }
    }

    /// A site of five bytes of code, and one entry of a table about it whose key is of a module that may come later.
    fn with_key(
        table: &str,
        entry_bytes: u64,
        key_at: u64,
        name: &str,
        code: [u8; 5],
    ) -> Result<Finished, Refusal> {
        let mut object = Object::default();
        let mut text = Section::empty(".text", 1);
        text.flags |= constants::EXEC;
        (text.data, text.size) = (code.to_vec(), 5);
        object.sections.push(text);
        let data = vec![0; entry_bytes as usize];
        object.sections.push(Section { data, size: entry_bytes, ..Section::empty(table, 1) });
        object.symbols = vec![symbol("late", Placement::Undefined)];
        let to_text = object.section_symbol(0);
        for (offset, symbol) in [(0, to_text), (key_at, 0)] {
            object.sections[1].relocations.push(Relocation { offset, kind: PC32, symbol, addend: 0 });
        }
        let (object_name, applied_with) = ("m".to_owned(), "m".to_owned());
        let key = LivepatchSymbol { applied_with, object: object_name, name: name.into(), sympos: 0 };
        let symbols = [("late".to_owned(), Resolution::Livepatch(key))].into();
        let exports = Exports::parse("0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n").unwrap();
        finish(&object.to_bytes(), &symbols, &exports)
    }

    fn size_of(finished: &Finished, table: &str) -> u64 {
        let object = Object::parse(&finished.module).unwrap();
        object.section_named(table).map_or(0, |index| object.sections[index].size)
    }

    #[test]
    fn tracepoints_of_a_later_module_stay_off_and_are_named() {
        const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
        const JUMP: [u8; 5] = [0xe9, 0, 0, 0, 0];
        let jump = |name: &str, code| with_key(JUMP_TABLE, JUMP_ENTRY_BYTES, JUMP_ENTRY_KEY, name, code);
        let done = jump("__tracepoint_packet", NOP).unwrap();
        assert_eq!(done.lost, BTreeSet::from(["tracepoint packet in the patched functions".to_owned()]));
        assert_eq!(size_of(&done, JUMP_TABLE), 0);
        for (name, code) in [("__tracepoint_packet", JUMP), ("some_key", NOP)] {
            assert_eq!(jump(name, code).unwrap_err().rule, Rule::ModuleKey, "{name} {code:x?}");
        }
    }

    #[test]
    fn static_calls_of_a_later_module_go_through_their_trampoline() {
        let table = STATIC_CALL_SITES;
        let done = with_key(table, STATIC_CALL_SITE_BYTES, STATIC_CALL_KEY, "__SCK__x", CALL).unwrap();
        assert_eq!((size_of(&done, table), done.lost.len()), (0, 0));
    }
}
