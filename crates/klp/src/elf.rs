//! A small model of x86_64 ELF objects (`ET_REL`), read over `object`'s raw structures and written back.
//!
//! Unlike `object`'s own builder it keeps what livepatch modules need: `SHN_LIVEPATCH` symbols and
//! `SHF_RELA_LIVEPATCH` sections (Documentation/livepatch/module-elf-format.rst).

mod read;
mod write;

pub use read::ElfError;

/// `SHF_RELA_LIVEPATCH` (include/uapi/linux/elf.h).
pub const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
/// `SHN_LIVEPATCH` (include/uapi/linux/elf.h).
pub const SHN_LIVEPATCH: u16 = 0xff20;

/// Section types and flags that are used by name (ELF gABI).
pub mod constants {
    /// `SHT_PROGBITS`
    pub const PROGBITS: u32 = 1;
    /// `SHT_RELA`
    pub const RELA: u32 = 4;
    /// `SHT_NOTE`
    pub const NOTE: u32 = 7;
    /// `SHT_NOBITS`
    pub const NOBITS: u32 = 8;
    /// `SHF_WRITE`
    pub const WRITE: u64 = 1;
    /// `SHF_ALLOC`
    pub const ALLOC: u64 = 2;
    /// `SHF_EXECINSTR`
    pub const EXEC: u64 = 4;
    /// `SHF_MERGE`
    pub const MERGE: u64 = 0x10;
    /// `SHF_STRINGS`
    pub const STRINGS: u64 = 0x20;
    /// `SHF_INFO_LINK`
    pub const INFO_LINK: u64 = 0x40;
    /// `SHF_GROUP`
    pub const GROUP: u64 = 0x200;
}

/// x86_64 relocation types that occur in kernel objects (psABI), by number.
pub mod relocation {
    /// `R_X86_64_NONE`: nothing.
    pub const NONE: u32 = 0;
    /// `R_X86_64_64`: S + A, 8 bytes.
    pub const ABS64: u32 = 1;
    /// `R_X86_64_PC32`: S + A - P, 4 bytes.
    pub const PC32: u32 = 2;
    /// `R_X86_64_PLT32`: as PC32 in the kernel.
    pub const PLT32: u32 = 4;
    /// `R_X86_64_32`: S + A, 4 bytes, zero-extended.
    pub const ABS32: u32 = 10;
    /// `R_X86_64_32S`: S + A, 4 bytes, sign-extended.
    pub const ABS32S: u32 = 11;
    /// `R_X86_64_PC64`: S + A - P, 8 bytes.
    pub const PC64: u32 = 24;

    /// Width in bytes of a relocation's field; none for types that the kernel does not take
    /// (arch/x86/kernel/module.c, `apply_relocate_add`).
    pub fn width(kind: u32) -> Option<u64> {
        match kind {
            ABS64 | PC64 => Some(8),
            PC32 | PLT32 | ABS32 | ABS32S => Some(4),
            _ => None,
        }
    }

    /// Whether the field holds a distance from itself.
    pub fn is_relative(kind: u32) -> bool {
        matches!(kind, PC32 | PLT32 | PC64)
    }
}

/// A relocatable object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Sections but for symbol table, string tables, relocations and groups; those are made when writing.
    pub sections: Vec<Section>,
    /// Symbols without the null symbol.
    pub symbols: Vec<Symbol>,
}

/// A section with its relocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_addralign`, at least 1.
    pub align: u64,
    /// `sh_entsize`.
    pub entry_size: u64,
    /// The bytes; empty for `SHT_NOBITS`.
    pub data: Vec<u8>,
    /// Length in bytes; for `SHT_NOBITS` larger than `data`.
    pub size: u64,
    /// Relocations, in the order of the file.
    pub relocations: Vec<Relocation>,
    /// Sections of livepatch relocations that apply to this section, with their object's name.
    pub livepatch_relocations: Vec<(String, Vec<Relocation>)>,
}

impl Section {
    /// A section of constants without any.
    pub(crate) fn empty(name: &str, align: u64) -> Self {
        Self {
            name: name.to_owned(),
            kind: constants::PROGBITS,
            flags: constants::ALLOC,
            align,
            entry_size: 0,
            data: Vec::new(),
            size: 0,
            relocations: Vec::new(),
            livepatch_relocations: Vec::new(),
        }
    }
    /// Whether all of these flags are set.
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }
    /// Whether it holds code.
    pub fn is_code(&self) -> bool {
        self.has(constants::ALLOC | constants::EXEC)
    }
    /// Whether it is a table of mergeable strings.
    pub fn is_strings(&self) -> bool {
        self.has(constants::MERGE | constants::STRINGS)
    }
    /// Whether it is debug information, which is not loaded.
    pub fn is_debug(&self) -> bool {
        self.name.starts_with(".debug_")
    }
}

/// Where a symbol is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Defined elsewhere.
    Undefined,
    /// A number.
    Absolute,
    /// To be allocated by the linker. The kernel is built with -fno-common: refused when met.
    Common,
    /// To be found by the kernel's livepatch code.
    Livepatch,
    /// In this section.
    Section(usize),
}

/// `st_info`'s type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// `STT_NOTYPE`
    None,
    /// `STT_OBJECT`
    Object,
    /// `STT_FUNC`
    Function,
    /// `STT_SECTION`
    Section,
    /// `STT_FILE`
    File,
    /// Any other, by number.
    Other(u8),
}

/// `st_info`'s binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `STB_LOCAL`
    Local,
    /// `STB_GLOBAL`
    Global,
    /// `STB_WEAK`
    Weak,
}

/// A symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Name; that of the section for section symbols.
    pub name: String,
    /// Where it is.
    pub placement: Placement,
    /// Offset in its section, or the number.
    pub value: u64,
    /// Length in bytes.
    pub size: u64,
    /// Type.
    pub kind: SymbolKind,
    /// Binding.
    pub binding: Binding,
    /// `st_other`: visibility.
    pub other: u8,
}

/// A relocation with addend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relocation {
    /// Offset in its section.
    pub offset: u64,
    /// Type, see [`relocation`].
    pub kind: u32,
    /// Index into [`Object::symbols`].
    pub symbol: usize,
    /// Addend.
    pub addend: i64,
}

impl Object {
    /// Index of a section by name.
    pub fn section_named(&self, name: &str) -> Option<usize> {
        self.sections.iter().position(|section| section.name == name)
    }

    /// Index of the section symbol of a section, made if there is none.
    pub fn section_symbol(&mut self, section: usize) -> usize {
        let found = self
            .symbols
            .iter()
            .position(|s| s.kind == SymbolKind::Section && s.placement == Placement::Section(section));
        found.unwrap_or_else(|| {
            self.symbols.push(Symbol {
                name: self.sections[section].name.clone(),
                placement: Placement::Section(section),
                value: 0,
                size: 0,
                kind: SymbolKind::Section,
                binding: Binding::Local,
                other: 0,
            });
            self.symbols.len() - 1
        })
    }
}
