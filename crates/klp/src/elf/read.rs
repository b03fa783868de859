use object::elf::{
    FileHeader64, SHN_ABS, SHN_COMMON, SHN_UNDEF, SHT_GROUP, SHT_NULL, SHT_REL, SHT_RELA, SHT_STRTAB,
    SHT_SYMTAB, SHT_SYMTAB_SHNDX,
};
use object::endian::LittleEndian;
use object::read::SectionIndex;
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};

use super::{
    Binding, Object, Placement, Relocation, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Section, Symbol, SymbolKind,
};

/// Largest object that is read, in bytes. The largest unit of a kernel has about 20 MiB with debug information.
const MAX_OBJECT_BYTES: usize = 256 << 20;
const MAX_NAME_BYTES: usize = 1024;
/// Most sections that are kept: with their relocations they must have a number in a symbol (`SHN_LORESERVE`, gABI).
/// The largest unit of a kernel has about 6,000.
const MAX_SECTIONS: usize = 30_000;
/// Largest alignment in bytes, of the stack of the first task.
const MAX_ALIGN: u64 = 1 << 16;

/// Why bytes are not an object that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Another kind of file.
    #[error("not a relocatable x86_64 elf object: {0}")]
    Kind(String),
    /// Some part breaks a rule.
    #[error("the elf object is damaged: {0}")]
    Damaged(String),
    /// Something sound that is not handled.
    #[error("the elf object has {0}, which is not handled")]
    Unsupported(String),
}

fn damaged(error: impl std::fmt::Display) -> ElfError {
    ElfError::Damaged(error.to_string())
}

fn text(bytes: &[u8]) -> Result<String, ElfError> {
    if bytes.len() > MAX_NAME_BYTES {
        return Err(damaged("a name is longer than 1024 bytes"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged("a name is not text"))
}

impl Object {
    /// Reads an object. Any bytes are answered, none panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        const LE: LittleEndian = LittleEndian;
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(ElfError::Kind(format!("it has {} bytes", bytes.len())));
        }
        let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(|e| ElfError::Kind(e.to_string()))?;
        if header.e_ident.data != object::elf::ELFDATA2LSB
            || header.e_machine.get(LE) != object::elf::EM_X86_64
        {
            return Err(ElfError::Kind("it is for another machine".into()));
        }
        if header.e_type.get(LE) != object::elf::ET_REL {
            return Err(ElfError::Kind("it is linked already".into()));
        }
        let table = header.sections(LE, bytes).map_err(damaged)?;
        let symbols = table.symbols(LE, bytes, SHT_SYMTAB).map_err(damaged)?;

        // Own indices of the sections that are kept.
        let mut own = vec![None; table.len()];
        let mut object = Self::default();
        let mut data_bytes = 0;
        for (index, section) in table.enumerate() {
            let kind = section.sh_type(LE);
            if [SHT_NULL, SHT_SYMTAB, SHT_SYMTAB_SHNDX, SHT_STRTAB, SHT_RELA, SHT_GROUP].contains(&kind) {
                continue;
            }
            if kind == SHT_REL {
                return Err(ElfError::Unsupported("relocations without addends".into()));
            }
            let flags = section.sh_flags(LE).0;
            if flags & object::elf::SHF_COMPRESSED.0 != 0 {
                return Err(ElfError::Unsupported("compressed sections".into()));
            }
            let align = section.sh_addralign(LE).max(1);
            if !align.is_power_of_two() || align > MAX_ALIGN {
                return Err(damaged(format!("a section is aligned to {align}")));
            }
            let size = section.sh_size(LE);
            if size > MAX_OBJECT_BYTES as u64 {
                return Err(damaged(format!("a section has {size} bytes")));
            }
            if object.sections.len() == MAX_SECTIONS {
                return Err(ElfError::Unsupported(format!("more than {MAX_SECTIONS} sections")));
            }
            own[index.0] = Some(object.sections.len());
            let data = section.data(LE, bytes).map_err(damaged)?;
            data_bytes += data.len();
            if data_bytes > bytes.len() {
                return Err(damaged("its sections overlap"));
            }
            object.sections.push(Section {
                name: text(table.section_name(LE, section).map_err(damaged)?)?,
                kind: kind.0,
                flags,
                align,
                entry_size: section.sh_entsize(LE),
                data: data.to_vec(),
                size,
                relocations: Vec::new(),
                livepatch_relocations: Vec::new(),
            });
        }
        let own_section = |index: SectionIndex| own.get(index.0).copied().flatten();

        for (index, symbol) in symbols.enumerate().filter(|(index, _)| index.0 != 0) {
            let placement = match symbol.st_shndx(LE) {
                raw if raw == SHN_UNDEF => Placement::Undefined,
                raw if raw == SHN_ABS => Placement::Absolute,
                raw if raw == SHN_COMMON => Placement::Common,
                raw if raw.0 == SHN_LIVEPATCH => Placement::Livepatch,
                _ => {
                    let section = symbols.symbol_section(LE, symbol, index).map_err(damaged)?;
                    match section.and_then(own_section) {
                        Some(section) => Placement::Section(section),
                        // Of a group or string table: never the target of code; kept as an undefined nameless one.
                        None => Placement::Absolute,
                    }
                }
            };
            let kind = match symbol.st_type().0 {
                0 => SymbolKind::None,
                1 => SymbolKind::Object,
                2 => SymbolKind::Function,
                3 => SymbolKind::Section,
                4 => SymbolKind::File,
                other => SymbolKind::Other(other),
            };
            let binding = match symbol.st_bind().0 {
                0 => Binding::Local,
                1 => Binding::Global,
                2 => Binding::Weak,
                other => return Err(ElfError::Unsupported(format!("a symbol of binding {other}"))),
            };
            let mut name = text(symbols.symbol_name(LE, symbol).map_err(damaged)?)?;
            if let (SymbolKind::Section, Placement::Section(section)) = (kind, placement) {
                name.clone_from(&object.sections[section].name);
            }
            let (value, size) = (symbol.st_value(LE), symbol.st_size(LE));
            if let Placement::Section(section) = placement {
                let end = value.checked_add(size).ok_or_else(|| damaged("a symbol overflows"))?;
                if end > object.sections[section].size {
                    return Err(damaged(format!("symbol {name} ends outside its section")));
                }
            }
            object.symbols.push(Symbol {
                name,
                placement,
                value,
                size,
                kind,
                binding,
                other: symbol.st_other().0,
            });
        }

        for section in table.iter().filter(|s| s.sh_type(LE) == SHT_RELA) {
            let Some((relas, _)) = section.rela(LE, bytes).map_err(damaged)? else { continue };
            let Some(target) = own_section(section.info_link(LE)) else {
                continue;
            };
            data_bytes = data_bytes.saturating_add(size_of_val(relas));
            if data_bytes > bytes.len() {
                return Err(damaged("its sections overlap"));
            }
            let mut relocations = Vec::with_capacity(relas.len());
            for rela in relas {
                let (offset, kind) = (rela.r_offset(LE), rela.r_type(LE, false).0);
                let symbol = rela.r_sym(LE, false) as usize;
                let symbol = symbol.checked_sub(1).filter(|s| *s < object.symbols.len());
                // objtool and recordmcount take a relocation back by giving it this type.
                if kind == super::relocation::NONE {
                    let was_fentry = symbol.filter(|s| object.symbols[*s].name == "__fentry__");
                    if let Some(symbol) = was_fentry
                        && restore_fentry_call(&mut object.sections[target], offset)
                    {
                        let kind = super::relocation::PC32;
                        relocations.push(Relocation { offset, kind, symbol, addend: -4 });
                    }
                    continue;
                }
                let symbol = symbol.ok_or_else(|| damaged("a relocation without symbol"))?;
                if !object.sections[target].is_debug() {
                    let width = super::relocation::width(kind)
                        .ok_or_else(|| ElfError::Unsupported(format!("relocations of type {kind}")))?;
                    if offset.checked_add(width).is_none_or(|end| end > object.sections[target].size) {
                        return Err(damaged("a relocation lies outside its section"));
                    }
                }
                relocations.push(Relocation { offset, kind, symbol, addend: rela.r_addend(LE) });
            }
            if section.sh_flags(LE).0 & SHF_RELA_LIVEPATCH == 0 {
                object.sections[target].relocations.extend(relocations);
            } else {
                let name = text(table.section_name(LE, section).map_err(damaged)?)?;
                let object_name = name
                    .strip_prefix(".klp.rela.")
                    .and_then(|rest| rest.split('.').next())
                    .ok_or_else(|| damaged("a livepatch relocation section has another name"))?;
                object.sections[target].livepatch_relocations.push((object_name.to_owned(), relocations));
            }
        }
        Ok(object)
    }
}

/// Makes the call to `__fentry__` of a no-operation again. scripts/recordmcount.c (`make_nop`) writes that into
/// sections it does not know, which -ffunction-sections makes many of; objtool does it with --mnop.
fn restore_fentry_call(section: &mut Section, field: u64) -> bool {
    const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];
    const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
    let start = usize::try_from(field).ok().and_then(|field| field.checked_sub(1));
    let code = start.and_then(|start| section.data.get_mut(start..start.checked_add(5)?));
    match code {
        Some(code) if *code == NOP5 => {
            code.copy_from_slice(&CALL);
            true
        }
        _ => false,
    }
}
