//! What the compiler says of its own work: types and inlining, from the debug information (DWARF 2–5) of a unit.
//!
//! Code shows neither. That a structure is laid out in another way, so that objects which exist already do not fit the
//! new code, is seen only in its members' offsets; that a function lives on as a copy inside others, only here.
//!
//! [`DebugInfo::read`] keeps what these questions need, in the order of the file; [`layout`] compares the types of two
//! compilations; [`inline`] says which functions are copied into which; [`keep`] leads it along with extracted code.

mod describe;
pub mod inline;
pub mod keep;
pub mod layout;
mod read;
mod same;

use std::collections::HashMap;

pub use read::DebugError;

/// Deepest chain of typedefs, pointers, arrays and nameless structures that is followed. The kernel's own have ten.
const MAX_DEPTH: usize = 64;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Struct,
    Union,
    Enum,
    Typedef,
    Base,
    Pointer,
    Array,
    /// `const`, `volatile` and the like: the same in memory.
    Qualifier,
    FunctionType,
    Member,
    Enumerator,
    /// One dimension of an array.
    Dimension,
    /// A parameter of a function type.
    Parameter,
    Function,
    /// A copy of a function inside another.
    Inlined,
    /// Any other type.
    Other,
}

/// One entry of the debug information, with those of its attributes that matter here.
#[derive(Debug)]
struct Entry {
    kind: Kind,
    name: Option<Box<str>>,
    /// The function around it.
    function: Option<usize>,
    children: Vec<usize>,
    /// Offset of the type in the section.
    refers: Option<usize>,
    /// Offset of the entry that this one is an instance or the completion of.
    origin: Option<usize>,
    /// Length in bytes.
    size: Option<u64>,
    /// Offset of a member in bits.
    bit_offset: u64,
    /// Length of a bit field in bits.
    bit_size: Option<u64>,
    /// An enumerator's value, how many elements a dimension has, or how a base type is encoded.
    number: Option<i128>,
    /// Whether it is only named, not defined.
    declaration: bool,
    /// Whether a function has machine code of its own.
    has_code: bool,
    /// Where it is declared: index into [`DebugInfo::files`], and the line.
    declared: Option<(usize, u64)>,
}

/// The types and functions of one unit.
#[derive(Debug, Default)]
pub struct DebugInfo {
    entries: Vec<Entry>,
    /// Entry by its offset in the section.
    by_offset: HashMap<usize, usize>,
    /// Names of source files, as the compiler found them.
    files: Vec<String>,
}

impl DebugInfo {
    fn at(&self, offset: Option<usize>) -> Option<usize> {
        self.by_offset.get(&offset?).copied()
    }

    /// The type that an entry refers to; none for `void`.
    fn target(&self, entry: usize) -> Option<usize> {
        self.at(self.entries[entry].refers)
    }

    /// The name of an entry, its own or that of what it is an instance of.
    fn name(&self, entry: usize) -> Option<&str> {
        let origin = std::iter::successors(Some(entry), |at| self.at(self.entries[*at].origin));
        origin.take(MAX_DEPTH).find_map(|at| self.entries[at].name.as_deref())
    }

    fn children(&self, entry: usize, kind: Kind) -> impl Iterator<Item = usize> {
        self.entries[entry].children.iter().copied().filter(move |child| self.entries[*child].kind == kind)
    }

    /// The type itself behind `const` and the like; none for `void`.
    fn unqualified(&self, entry: Option<usize>) -> Option<usize> {
        let chain = std::iter::successors(entry, |at| {
            (self.entries[*at].kind == Kind::Qualifier).then(|| self.target(*at)).flatten()
        });
        let last = chain.take(MAX_DEPTH).last()?;
        (self.entries[last].kind != Kind::Qualifier).then_some(last)
    }

    /// How many elements an array has; none when that is open.
    fn elements(&self, array: usize) -> Option<u64> {
        self.children(array, Kind::Dimension)
            .map(|at| self.entries[at].number.and_then(|count| u64::try_from(count).ok()))
            .try_fold(1u64, |product, count| Some(product.saturating_mul(count?)))
    }

    /// Length of a type in bytes; 0 for those that have none.
    fn size(&self, entry: Option<usize>) -> u64 {
        let mut factor = 1u64;
        let mut at = entry;
        for _ in 0..MAX_DEPTH {
            let Some(entry) = at else { return 0 };
            if let Some(size) = self.entries[entry].size {
                return size.saturating_mul(factor);
            }
            match self.entries[entry].kind {
                Kind::Array => factor = factor.saturating_mul(self.elements(entry).unwrap_or(0)),
                Kind::Typedef | Kind::Qualifier => {}
                _ => return 0,
            }
            at = self.target(entry);
        }
        0
    }
}
