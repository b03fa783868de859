use std::collections::HashMap;

use super::{
    Binding, Object, Placement, Relocation, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, SymbolKind, constants,
};

const HEADER_BYTES: usize = 64;
const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: u64 = 24;
const RELA_BYTES: u64 = 24;

/// A string table that gives equal strings one place.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    places: HashMap<String, u32>,
}

impl Strings {
    fn new() -> Self {
        Self { bytes: vec![0], places: HashMap::from([(String::new(), 0)]) }
    }
    fn place(&mut self, text: &str) -> u32 {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        let place = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.places.insert(text.to_owned(), place);
        place
    }
}

/// One section header with its bytes, before offsets are known.
struct Piece {
    name: String,
    kind: u32,
    flags: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_size: u64,
    data: Vec<u8>,
}

impl Object {
    /// The file's bytes: header, sections in order, relocations, symbol table, string tables, section headers.
    /// The same object makes the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Locals come first in a symbol table (gABI): relocations need the new places.
        let mut order: Vec<usize> = (0..self.symbols.len()).collect();
        order.sort_by_key(|&index| self.symbols[index].binding != Binding::Local);
        let mut place = vec![0u32; self.symbols.len()];
        order.iter().enumerate().for_each(|(at, &index)| place[index] = at as u32 + 1);
        let locals = self.symbols.iter().filter(|s| s.binding == Binding::Local).count() as u32 + 1;

        let relas: usize = self
            .sections
            .iter()
            .map(|s| usize::from(!s.relocations.is_empty()) + s.livepatch_relocations.len())
            .sum();
        let symtab_index = (1 + self.sections.len() + relas) as u32;

        let mut pieces: Vec<Piece> = self
            .sections
            .iter()
            .map(|s| Piece {
                name: s.name.clone(),
                kind: s.kind,
                flags: s.flags & !constants::GROUP,
                size: s.size,
                link: 0,
                info: 0,
                align: s.align,
                entry_size: s.entry_size,
                data: s.data.clone(),
            })
            .collect();
        for (index, section) in self.sections.iter().enumerate() {
            let mut rela = |name: String, flags: u64, relocations: &[Relocation]| {
                let data = rela_bytes(relocations, &place);
                pieces.push(Piece {
                    name,
                    kind: constants::RELA,
                    flags: flags | constants::INFO_LINK,
                    size: data.len() as u64,
                    link: symtab_index,
                    info: index as u32 + 1,
                    align: 8,
                    entry_size: RELA_BYTES,
                    data,
                });
            };
            if !section.relocations.is_empty() {
                rela(format!(".rela{}", section.name), 0, &section.relocations);
            }
            for (object, relocations) in &section.livepatch_relocations {
                let name = format!(".klp.rela.{object}.{}", section.name);
                rela(name, constants::ALLOC | SHF_RELA_LIVEPATCH, relocations);
            }
        }

        let mut names = Strings::new();
        let mut symbols = vec![0u8; SYMBOL_BYTES as usize];
        for &index in &order {
            symbols.extend_from_slice(&self.symbol_bytes(index, &mut names));
        }
        pieces.push(table(".symtab", 2, symbols, symtab_index + 1, locals, SYMBOL_BYTES, 8));
        pieces.push(table(".strtab", 3, names.bytes, 0, 0, 0, 1));
        let mut section_names = Strings::new();
        pieces.iter().for_each(|piece| _ = section_names.place(&piece.name));
        section_names.place(".shstrtab");
        pieces.push(table(".shstrtab", 3, section_names.bytes.clone(), 0, 0, 0, 1));

        let mut out = vec![0u8; HEADER_BYTES];
        let mut headers = vec![0u8; SECTION_HEADER_BYTES];
        for piece in &pieces {
            out.resize(out.len().next_multiple_of(piece.align as usize), 0);
            let mut header = Vec::with_capacity(SECTION_HEADER_BYTES);
            header.extend_from_slice(&section_names.place(&piece.name).to_le_bytes());
            header.extend_from_slice(&piece.kind.to_le_bytes());
            header.extend_from_slice(&piece.flags.to_le_bytes());
            header.extend_from_slice(&0u64.to_le_bytes());
            header.extend_from_slice(&(out.len() as u64).to_le_bytes());
            header.extend_from_slice(&piece.size.to_le_bytes());
            header.extend_from_slice(&piece.link.to_le_bytes());
            header.extend_from_slice(&piece.info.to_le_bytes());
            header.extend_from_slice(&piece.align.to_le_bytes());
            header.extend_from_slice(&piece.entry_size.to_le_bytes());
            headers.extend_from_slice(&header);
            out.extend_from_slice(&piece.data);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let headers_at = out.len() as u64;
        out.extend_from_slice(&headers);
        let header = file_header(headers_at, pieces.len() as u16 + 1);
        out[..HEADER_BYTES].copy_from_slice(&header);
        out
    }

    fn symbol_bytes(&self, index: usize, names: &mut Strings) -> [u8; SYMBOL_BYTES as usize] {
        let symbol = &self.symbols[index];
        let kind = match symbol.kind {
            SymbolKind::None => 0,
            SymbolKind::Object => 1,
            SymbolKind::Function => 2,
            SymbolKind::Section => 3,
            SymbolKind::File => 4,
            SymbolKind::Other(other) => other,
        };
        let binding: u8 = match symbol.binding {
            Binding::Local => 0,
            Binding::Global => 1,
            Binding::Weak => 2,
        };
        let section: u16 = match symbol.placement {
            Placement::Undefined => 0,
            Placement::Absolute => 0xfff1,
            Placement::Common => 0xfff2,
            Placement::Livepatch => SHN_LIVEPATCH,
            Placement::Section(index) => index as u16 + 1,
        };
        // Section symbols take their name from the section.
        let name = if symbol.kind == SymbolKind::Section { 0 } else { names.place(&symbol.name) };
        let mut out = [0u8; SYMBOL_BYTES as usize];
        out[0..4].copy_from_slice(&name.to_le_bytes());
        out[4] = binding << 4 | kind;
        out[5] = symbol.other;
        out[6..8].copy_from_slice(&section.to_le_bytes());
        out[8..16].copy_from_slice(&symbol.value.to_le_bytes());
        out[16..24].copy_from_slice(&symbol.size.to_le_bytes());
        out
    }
}

fn table(name: &str, kind: u32, data: Vec<u8>, link: u32, info: u32, entry_size: u64, align: u64) -> Piece {
    Piece {
        name: name.to_owned(),
        kind,
        flags: 0,
        size: data.len() as u64,
        link,
        info,
        align,
        entry_size,
        data,
    }
}

fn rela_bytes(relocations: &[Relocation], place: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(relocations.len() * RELA_BYTES as usize);
    for relocation in relocations {
        out.extend_from_slice(&relocation.offset.to_le_bytes());
        let info = u64::from(place[relocation.symbol]) << 32 | u64::from(relocation.kind);
        out.extend_from_slice(&info.to_le_bytes());
        out.extend_from_slice(&relocation.addend.to_le_bytes());
    }
    out
}

/// Elf64_Ehdr: 64-bit little-endian, version 1, `ET_REL`, `EM_X86_64`; the section names are the last section.
fn file_header(headers_at: u64, sections: u16) -> [u8; HEADER_BYTES] {
    let mut out = [0u8; HEADER_BYTES];
    out[0..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[16..18].copy_from_slice(&1u16.to_le_bytes());
    out[18..20].copy_from_slice(&62u16.to_le_bytes());
    out[20..24].copy_from_slice(&1u32.to_le_bytes());
    out[40..48].copy_from_slice(&headers_at.to_le_bytes());
    out[52..54].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
    out[58..60].copy_from_slice(&(SECTION_HEADER_BYTES as u16).to_le_bytes());
    out[60..62].copy_from_slice(&sections.to_le_bytes());
    out[62..64].copy_from_slice(&(sections - 1).to_le_bytes());
    out
}
