//! kallsyms inside vmlinux: the symbols as the running kernel will count them when it resolves a livepatch.
//!
//! scripts/kallsyms.c writes these tables into .rodata, without symbols that a stripped image keeps. They are found
//! by what they must look like, and every step is checked against the next, so that a wrong guess cannot pass:
//!
//! 1. `kallsyms_token_index`: 256 rising u16 whose every value starts a NUL-terminated token in
//!    `kallsyms_token_table` right before it;
//! 2. somewhere before them `kallsyms_num_syms`, right after it `kallsyms_names`: as many names as that says, and
//!    right after those `kallsyms_markers`, one u32 for every 256 names with the place of that name;
//! 3. offsets and `kallsyms_relative_base`: before `kallsyms_num_syms` until 6.3, after the token index from 6.4.
//!
//! All tables start at multiples of 8. The tempting wrong way is to search for a well-known symbol name: names are
//! packed with the tokens, and no name stands there in clear.

use crate::{ImageError, ImageSection};

/// Plausible numbers of symbols. Debian's kernels have 120,000 to 200,000 with CONFIG_KALLSYMS_ALL.
const FEWEST_SYMBOLS: u64 = 256;
const MOST_SYMBOLS: u64 = 4 << 20;

/// One entry of kallsyms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSymbol {
    /// Link-time address; for per-CPU symbols the offset in the per-CPU area.
    pub address: u64,
    /// The type letter as in `nm`: `T` global text, `t` local text, `D`/`d` data, and so on.
    pub kind: u8,
    /// The name.
    pub name: String,
}

/// All of kallsyms, in the kernel's order, which is that of addresses.
#[derive(Debug, Clone, Default)]
pub struct SymbolTable {
    symbols: Vec<KernelSymbol>,
    by_name: std::collections::HashMap<String, Vec<usize>>,
}

impl SymbolTable {
    /// Takes symbols in the kernel's order.
    pub fn new(symbols: Vec<KernelSymbol>) -> Self {
        let mut by_name: std::collections::HashMap<String, Vec<usize>> = std::collections::HashMap::new();
        for (index, symbol) in symbols.iter().enumerate() {
            by_name.entry(symbol.name.clone()).or_default().push(index);
        }
        Self { symbols, by_name }
    }

    /// Every entry.
    pub fn all(&self) -> &[KernelSymbol] {
        &self.symbols
    }

    /// The entries of one name, in the kernel's order.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &KernelSymbol> {
        self.by_name.get(name).into_iter().flatten().map(|&index| &self.symbols[index])
    }

    /// The `sympos` by which the kernel finds the symbol of this name at this address: 0 when the name is unique,
    /// otherwise its place among **all** entries of that name, from 1. None when there is no such entry, or two
    /// entries with that name stand at that address (then any place means the same code, and the first is taken).
    ///
    /// The kernel counts every entry, global and local, text and data (`klp_find_callback`,
    /// kernel/livepatch/core.c).
    pub fn sympos(&self, name: &str, address: u64) -> Option<u32> {
        let count = self.named(name).count();
        let place = self.named(name).position(|symbol| symbol.address == address)?;
        if count == 1 { Some(0) } else { u32::try_from(place + 1).ok() }
    }
}

/// Finds and reads kallsyms.
pub(crate) fn find(elf: &[u8], sections: &[ImageSection]) -> Result<SymbolTable, ImageError> {
    let mut why = "no section .rodata";
    for section in sections.iter().filter(|s| s.name == ".rodata" || s.name == ".init.data") {
        let Some(start) = section.file_offset else { continue };
        let Some(data) = start.checked_add(section.size as usize).and_then(|end| elf.get(start..end)) else {
            continue;
        };
        match find_in(data, section.address) {
            Ok(table) => return Ok(table),
            Err(reason) => why = reason,
        }
    }
    Err(ImageError::Kallsyms(why.to_owned()))
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}
fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// What the tables look like in a section's bytes; `base` is the section's address.
pub(crate) fn find_in(data: &[u8], base: u64) -> Result<SymbolTable, &'static str> {
    let mut why = "no token index";
    for index_at in (8..data.len().saturating_sub(511)).step_by(8) {
        let Some(tokens) = Tokens::at(data, index_at) else { continue };
        match Names::before(data, &tokens) {
            Ok(names) => return read_symbols(data, base, &tokens, &names),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// The 256 tokens that names are packed with.
struct Tokens {
    table_at: usize,
    index_at: usize,
    offsets: Vec<u16>,
}

impl Tokens {
    fn at(data: &[u8], index_at: usize) -> Option<Self> {
        // The index begins with 0 and rises by at least 2 (a token of one byte and its NUL), quickly rejecting most.
        if u16_at(data, index_at)? != 0 || !(2..64).contains(&u16_at(data, index_at + 2)?) {
            return None;
        }
        let offsets: Vec<u16> = (0..256).map_while(|i| u16_at(data, index_at + 2 * i)).collect();
        if offsets.len() != 256 || !offsets.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] < 64) {
            return None;
        }
        // The table ends, after its last token and up to 7 bytes of padding, where the index begins.
        let last = usize::from(offsets[255]);
        (last + 2..last + 72)
            .filter_map(|length| index_at.checked_sub(length))
            .filter(|table_at| table_at % 8 == 0)
            .find(|&table_at| {
                let ends = |offset: &u16| data.get(table_at + usize::from(*offset) - 1) == Some(&0);
                offsets[1..].iter().all(ends)
                    && data[table_at..index_at].windows(1).filter(|b| b[0] == 0).count() <= 256 + 7
                    && data[table_at] != 0
            })
            .map(|table_at| Self { table_at, index_at, offsets })
    }

    fn text<'d>(&self, data: &'d [u8], token: u8) -> Option<&'d [u8]> {
        let start = self.table_at + usize::from(self.offsets[usize::from(token)]);
        let rest = data.get(start..self.index_at)?;
        rest.get(..rest.iter().position(|&b| b == 0)?)
    }
}

/// Where the packed names are, and how many.
struct Names {
    count_at: usize,
    start: usize,
    count: usize,
}

impl Names {
    /// Tries every place that could hold the count. A wrong one fails fast: names are never empty, so a 0 ends it,
    /// and the markers after the names must agree with every 256th of them.
    fn before(data: &[u8], tokens: &Tokens) -> Result<Self, &'static str> {
        let area = data.get(..tokens.table_at).ok_or("a token table without names before it")?;
        for count_at in (0..area.len().saturating_sub(16)).step_by(8) {
            let count = u64_at(area, count_at).unwrap_or(0);
            if (FEWEST_SYMBOLS..MOST_SYMBOLS).contains(&count) {
                let names = Self { count_at, start: count_at + 8, count: count as usize };
                if names.fit(area).is_some() {
                    return Ok(names);
                }
            }
        }
        Err("a token table without names before it")
    }

    fn fit(&self, area: &[u8]) -> Option<()> {
        let mut at = self.start;
        let mut markers = Vec::new();
        for index in 0..self.count {
            if index % 256 == 0 {
                markers.push(u32::try_from(at - self.start).ok()?);
            }
            let (header, tokens) = name_at(area, at)?;
            if tokens == 0 {
                return None;
            }
            at = at + header + tokens;
        }
        let markers_at = at.checked_next_multiple_of(8)?;
        let all =
            markers.iter().enumerate().all(|(i, marker)| u32_at(area, markers_at + 4 * i) == Some(*marker));
        all.then_some(())
    }
}

/// Length of one name's header and its number of tokens: one byte, or two (ULEB128) from 5.20 on.
fn name_at(data: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = usize::from(*data.get(at)?);
    if first & 0x80 == 0 {
        Some((1, first))
    } else {
        Some((2, (first & 0x7f) | usize::from(*data.get(at + 1)?) << 7))
    }
}

fn read_symbols(data: &[u8], base: u64, tokens: &Tokens, names: &Names) -> Result<SymbolTable, &'static str> {
    let addresses = addresses(data, base, tokens, names).ok_or("names without addresses")?;
    let mut at = names.start;
    let mut symbols = Vec::with_capacity(names.count);
    for address in addresses {
        let (header, length) = name_at(data, at).ok_or("names break off")?;
        let packed = data.get(at + header..at + header + length).ok_or("names break off")?;
        let mut text = Vec::with_capacity(32);
        for &token in packed {
            text.extend_from_slice(tokens.text(data, token).ok_or("a token breaks off")?);
        }
        let (kind, name) = text.split_first().ok_or("an empty name")?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| "a name that is not text")?;
        symbols.push(KernelSymbol { address, kind: *kind, name });
        at += header + length;
    }
    Ok(SymbolTable::new(symbols))
}

/// Addresses are 32-bit offsets (CONFIG_KALLSYMS_BASE_RELATIVE, always on for x86_64). With
/// CONFIG_KALLSYMS_ABSOLUTE_PERCPU a negative one counts from the base, and others are per-CPU offsets; without, all
/// count from the base. Which one it is shows in the addresses: they must rise and lie around this section.
fn addresses(data: &[u8], base: u64, tokens: &Tokens, names: &Names) -> Option<Vec<u64>> {
    let offsets_size = (names.count * 4).next_multiple_of(8);
    let old =
        names.count_at.checked_sub(8).and_then(|base_at| Some((base_at.checked_sub(offsets_size)?, base_at)));
    let new_at = (tokens.index_at + 512).next_multiple_of(8);
    let new = Some((new_at, new_at + offsets_size));
    for (offsets_at, base_at) in [old, new].into_iter().flatten() {
        let Some(relative_base) = u64_at(data, base_at) else { continue };
        // vmlinux is linked within the top 2 GiB (arch/x86/include/asm/page_64_types.h), the base is its lowest.
        if relative_base < 0xffff_ffff_8000_0000 || relative_base > base {
            continue;
        }
        let offsets: Option<Vec<i32>> =
            (0..names.count).map(|i| u32_at(data, offsets_at + 4 * i).map(u32::cast_signed)).collect();
        let offsets = offsets?;
        for percpu_absolute in [true, false] {
            let address = |offset: i32| match (percpu_absolute, offset) {
                (true, offset) if offset >= 0 => u64::from(offset.cast_unsigned()),
                (true, offset) => relative_base.wrapping_sub(1).wrapping_add_signed(-i64::from(offset)),
                (false, offset) => relative_base.wrapping_add(u64::from(offset.cast_unsigned())),
            };
            let addresses: Vec<u64> = offsets.iter().map(|&offset| address(offset)).collect();
            let rising = addresses.is_sorted();
            let starts = addresses.contains(&relative_base);
            if rising && starts {
                return Some(addresses);
            }
        }
    }
    None
}
