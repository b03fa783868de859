//! Names and bytes of tiles (<https://c2sp.org/tlog-tiles>). A tile is a row of up to 256 hashes of neighbouring
//! complete subtrees whose height is 8 times the tile's level.

use std::fmt;

use livepatch_types::Sha256Digest;

use crate::tree::MAX_SIZE;
use crate::{MAX_ENTRY_BYTES, Refusal};

/// How many hashes a full tile has.
pub const TILE_WIDTH: u16 = 256;
/// Largest bundle of entries that is read, in bytes.
pub const MAX_ENTRIES_BYTES: usize = TILE_WIDTH as usize * (2 + MAX_ENTRY_BYTES);
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// The highest level that a tree of [`MAX_SIZE`] entries has.
const MAX_LEVEL: u8 = 7;

/// A tile, or a part of one while the tree has not grown over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// Names a tile. `width` is from 1 to [`TILE_WIDTH`].
    pub fn new(level: u8, index: u64, width: u16) -> Result<Self, Refusal> {
        let tile = Self { level, index, width };
        let end =
            index.checked_mul(u64::from(TILE_WIDTH)).and_then(|start| start.checked_add(u64::from(width)));
        // No tree of 2^63 entries reaches further.
        let reaches = end.is_some_and(|end| end <= MAX_SIZE >> (8 * u32::from(level.min(MAX_LEVEL))));
        let good = level <= MAX_LEVEL && (1..=TILE_WIDTH).contains(&width) && reaches;
        if good { Ok(tile) } else { Err(Refusal::NotATile) }
    }

    /// The tile `index` of a level as it is in a tree of `size` entries; none when it is empty there.
    pub fn in_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let start = index.checked_mul(u64::from(TILE_WIDTH))?;
        let hashes = size.checked_shr(8 * u32::from(level))?.checked_sub(start)?;
        Self::new(level, index, u16::try_from(hashes).unwrap_or(TILE_WIDTH).min(TILE_WIDTH)).ok()
    }

    /// Its level; the hashes are of subtrees of 8 times this height.
    pub fn level(&self) -> u8 {
        self.level
    }
    /// Which one of its level.
    pub fn index(&self) -> u64 {
        self.index
    }
    /// How many hashes it has.
    pub fn width(&self) -> u16 {
        self.width
    }
    /// The index of its first hash among those of its level.
    pub fn first(&self) -> u64 {
        self.index * u64::from(TILE_WIDTH)
    }
    /// How many bytes it has.
    pub fn size_bytes(&self) -> usize {
        usize::from(self.width) * HASH_BYTES
    }

    /// The hashes in its bytes.
    pub fn read(&self, bytes: &[u8]) -> Result<Vec<Sha256Digest>, Refusal> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        if !rest.is_empty() || hashes.len() != usize::from(self.width) {
            return Err(Refusal::TileLength {
                tile: *self,
                expected: self.size_bytes(),
                actual: bytes.len(),
            });
        }
        Ok(hashes.iter().map(|hash| Sha256Digest::from_bytes(*hash)).collect())
    }
}

/// The path of a tile of hashes, below the log's prefix.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_index(f, self)
    }
}

fn write_index(f: &mut fmt::Formatter<'_>, tile: &Tile) -> fmt::Result {
    let mut digits = vec![tile.index % 1000];
    let mut rest = tile.index / 1000;
    while rest > 0 {
        digits.push(rest % 1000);
        rest /= 1000;
    }
    for more in digits.iter().skip(1).rev() {
        write!(f, "x{more:03}/")?;
    }
    write!(f, "{:03}", digits[0])?;
    if tile.width < TILE_WIDTH { write!(f, ".p/{}", tile.width) } else { Ok(()) }
}

/// What stands at a path below `tile/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Hashes.
    Hashes(Tile),
    /// The entries under a tile of level 0.
    Entries(Tile),
}

impl Resource {
    /// Reads a path, such as `tile/0/x001/234.p/5` or `tile/entries/000`.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        let rest = path.strip_prefix("tile/").ok_or(Refusal::NotATile)?;
        let (level, rest) = rest.split_once('/').ok_or(Refusal::NotATile)?;
        let level_number = if level == "entries" { 0 } else { number(level).ok_or(Refusal::NotATile)? };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                (index, number(width).filter(|width| *width < TILE_WIDTH).ok_or(Refusal::NotATile)?)
            }
            None => (rest, TILE_WIDTH),
        };
        let tile = Tile::new(level_number, index_number(index).ok_or(Refusal::NotATile)?, width)?;
        let resource = if level == "entries" { Self::Entries(tile) } else { Self::Hashes(tile) };
        // One path for each tile: no more zeros than are needed.
        if resource.to_string() == path { Ok(resource) } else { Err(Refusal::NotATile) }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashes(tile) => tile.fmt(f),
            Self::Entries(tile) => {
                f.write_str("tile/entries/")?;
                write_index(f, tile)
            }
        }
    }
}

/// A decimal number without sign and leading zeros.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if digits { text.parse().ok() } else { None }
}

fn index_number(text: &str) -> Option<u64> {
    let mut index = 0u64;
    let mut parts = text.split('/').peekable();
    while let Some(part) = parts.next() {
        let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

/// The entries in the bytes of a bundle of `width` of them: each behind its length, two bytes, big-endian.
pub fn read_entries(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, Refusal> {
    if bytes.len() > MAX_ENTRIES_BYTES {
        return Err(Refusal::TooLong { what: "the bundle of entries", limit: MAX_ENTRIES_BYTES });
    }
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut rest = bytes;
    for _ in 0..width {
        let (length, more) = rest.split_first_chunk::<2>().ok_or(Refusal::Entries("it ends too early"))?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > MAX_ENTRY_BYTES {
            return Err(Refusal::TooLong { what: "an entry", limit: MAX_ENTRY_BYTES });
        }
        let (entry, more) = more.split_at_checked(length).ok_or(Refusal::Entries("it ends too early"))?;
        entries.push(entry);
        rest = more;
    }
    if rest.is_empty() { Ok(entries) } else { Err(Refusal::Entries("it has more bytes than its entries")) }
}

/// The bytes of a bundle of entries; none when one is longer than [`MAX_ENTRY_BYTES`].
pub fn write_entries<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).ok().filter(|_| entry.len() <= MAX_ENTRY_BYTES)?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Some(bytes)
}
