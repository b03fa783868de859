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

/// Finishes a module that the linker put together from extracted objects and glue.
pub fn finish(
    linked: &[u8],
    symbols: &BTreeMap<String, Resolution>,
    exports: &Exports,
) -> Result<Vec<u8>, Refusal> {
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
    drop_late_call_sites(&mut object, &by_livepatch)?;
    convert_relocations(&mut object, &by_livepatch)?;
    drop_unused_symbols(&mut object);
    Ok(object.to_bytes())
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

/// Calls into a module that may come later are not in `.call_sites`: with call depth tracking the kernel leads every
/// call of that table to the padding before its destination when the livepatch is loaded
/// (arch/x86/kernel/callthunks.c, `patch_call`), and these go nowhere yet. A call that is not counted only makes the
/// return stack buffer be filled earlier.
fn drop_late_call_sites(
    object: &mut Object,
    found: &BTreeMap<usize, LivepatchSymbol>,
) -> Result<(), Refusal> {
    let is_late = |r: &Relocation| found.get(&r.symbol).is_some_and(|s| s.applied_with != "vmlinux");
    let fields = object.sections.iter().enumerate().flat_map(|(index, section)| {
        section.relocations.iter().filter(|r| is_late(r)).map(move |r| (index, r.offset))
    });
    let late: BTreeSet<(usize, u64)> = fields.collect();
    let Some(table) = object.section_named(CALL_SITES) else { return Ok(()) };
    let is_site_of_late = |r: &Relocation| match object.symbols[r.symbol].placement {
        // The field of a call stands behind its opcode of one byte.
        Placement::Section(section) => {
            let site = object.symbols[r.symbol].value.wrapping_add_signed(r.addend);
            late.contains(&(section, site.wrapping_add(1)))
        }
        _ => false,
    };
    let section = &object.sections[table];
    let mut kept: Vec<Relocation> = section.relocations.clone();
    kept.sort_by_key(|r| r.offset);
    if kept.len() as u64 * CALL_SITE_BYTES != section.size {
        let why = "it is not one pointer of 4 bytes per call";
        return Err(Refusal::new(Rule::Object, CALL_SITES, why));
    }
    kept.retain(|r| !is_site_of_late(r));
    kept.iter_mut().zip(0..).for_each(|(r, index)| r.offset = index * CALL_SITE_BYTES);
    let section = &mut object.sections[table];
    section.size = kept.len() as u64 * CALL_SITE_BYTES;
    section.data.truncate(section.size as usize);
    section.data.fill(0);
    section.relocations = kept;
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
        Ok(Object::parse(&finish(&linked(table), &symbols, &exports)?)?)
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
        for table in WALKED_AT_LOAD {
            let mut object = Object::parse(&linked(table)).unwrap();
            let late = object.symbols.iter().position(|s| s.name == "late").unwrap();
            object.sections[1].relocations[0].symbol = late;
            let symbols = [("kernel".to_owned(), found("vmlinux")), ("late".to_owned(), found("m"))].into();
            let exports = Exports::parse("0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n").unwrap();
            let refusal = finish(&object.to_bytes(), &symbols, &exports).unwrap_err();
            assert_eq!((refusal.rule, refusal.place.as_str()), (Rule::ModuleKey, "f"), "{table}");
        }
    }
}
