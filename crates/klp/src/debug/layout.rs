//! Types of two compilations that are laid out in another way.
//!
//! Only types that both compilations have can differ: a new one has no objects yet. Members of nameless structures and
//! unions count as members of what holds them, as in C. A type that changes because it holds another one that does is
//! told apart from that other one: nobody has to judge the same change twice.

use std::collections::{BTreeMap, BTreeSet};

use super::same::{Pair, too_deep};
use super::{DebugError, DebugInfo, Kind, MAX_DEPTH};

/// What changed between the types of two compilations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeChanges {
    /// Types with another layout, or with members of other names.
    pub layouts: Vec<LayoutChange>,
    /// Constants of enumerations with another value.
    pub constants: Vec<ConstantChange>,
}

/// A type with another layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutChange {
    /// `struct name`, `union name`, `enum name` or the name of a typedef.
    pub name: String,
    /// The function that the type is declared in, for one that nothing else can use.
    pub local_to: Option<String>,
    /// Length in bytes.
    pub old_size: u64,
    /// Length in bytes with the patch.
    pub new_size: u64,
    /// What became of its members, in the order of the new layout; removed ones last.
    pub members: Vec<MemberChange>,
    /// Names of changed types that it holds, when it changed for no other reason.
    pub follows: Vec<String>,
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Its name; that of nameless structures around it is left out: `a.b` for a member of `struct { … } a`.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Where it was.
    pub old: Option<Place>,
    /// Where it is with the patch.
    pub new: Option<Place>,
}

/// What becomes of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The patch adds it.
    Added,
    /// The patch removes it.
    Removed,
    /// It has another type, or is a bit field of another length.
    Retyped,
    /// It lies at another offset.
    Moved,
    /// It has another name, in the same place: no other layout.
    Renamed,
}

impl Fate {
    /// The stable word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Retyped => "retyped",
            Self::Moved => "moved",
            Self::Renamed => "renamed",
        }
    }
}

/// Where a member lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Offset in bits.
    pub bit_offset: u64,
    /// Length in bits.
    pub bits: u64,
    /// Whether it is a bit field.
    pub bit_field: bool,
    /// Its type, in words.
    pub type_name: String,
}

/// A constant of an enumeration with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstantChange {
    /// Its name.
    pub name: String,
    /// Its value.
    pub old: i128,
    /// Its value with the patch.
    pub new: i128,
}

impl LayoutChange {
    /// Whether anything lies elsewhere than before: members that only have other names do not.
    pub fn is_layout(&self) -> bool {
        self.old_size != self.new_size
            || self.members.is_empty()
            || self.members.iter().any(|member| member.fate != Fate::Renamed)
    }

    /// The member to name when speaking of the change: the one that makes others move.
    pub fn cause(&self) -> Option<&MemberChange> {
        self.members.iter().filter(|member| member.fate != Fate::Renamed).min_by_key(|member| {
            match member.fate {
                Fate::Added | Fate::Removed | Fate::Retyped => 0,
                Fate::Moved | Fate::Renamed => 1,
            }
        })
    }

    /// `struct name.member`.
    pub fn place(&self) -> String {
        match self.cause() {
            Some(cause) if !cause.name.is_empty() => format!("{}.{}", self.name, cause.name),
            _ => self.name.clone(),
        }
    }

    /// What changed, in a sentence.
    pub fn why(&self) -> String {
        let mut parts = Vec::new();
        if let Some(cause) = self.cause() {
            parts.push(cause.why());
            let others = |fates: &[Fate]| {
                let others = self.members.iter().filter(|m| !std::ptr::eq(*m, cause));
                others.filter(|member| fates.contains(&member.fate)).count()
            };
            let changed = others(&[Fate::Added, Fate::Removed, Fate::Retyped]);
            let moved = others(&[Fate::Moved]);
            for (count, verb) in [(changed, "change"), (moved, "move")] {
                match count {
                    0 => {}
                    1 => parts.push(format!("1 other member {verb}s")),
                    _ => parts.push(format!("{count} other members {verb}")),
                }
            }
        }
        let (old, new) = (self.old_size, self.new_size);
        let padding = self.members.iter().all(|m| matches!(m.fate, Fate::Added | Fate::Renamed));
        parts.push(match (old == new, padding && !self.name.starts_with("union ")) {
            (false, _) => format!("the size goes from {old} to {new} bytes"),
            (true, true) => format!("in what was padding: the size stays {old} bytes"),
            (true, false) => format!("the size stays {old} bytes"),
        });
        if let Some(function) = &self.local_to {
            parts.push(format!("only {function} has this type"));
        }
        parts.join("; ")
    }
}

impl MemberChange {
    fn why(&self) -> String {
        let was = self.old.as_ref().map(ToString::to_string).unwrap_or_default();
        let is = self.new.as_ref().map(ToString::to_string).unwrap_or_default();
        let at = |place: &Option<Place>| place.as_ref().map(Place::at).unwrap_or_default();
        match self.fate {
            Fate::Added => format!("the patch adds it: {is}"),
            Fate::Removed => format!("the patch removes it; it was {was}"),
            Fate::Retyped => format!("it was {was}, and is {is}"),
            Fate::Moved => format!("it moves from {} to {}", at(&self.old), at(&self.new)),
            Fate::Renamed => "it has another name".to_owned(),
        }
    }
}

impl Place {
    fn at(&self) -> String {
        let (byte, bit) = (self.bit_offset / 8, self.bit_offset % 8);
        if self.bit_field { format!("bit {bit} of byte {byte}") } else { format!("byte {byte}") }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (length, unit) = if self.bit_field { (self.bits, "bit") } else { (self.bits / 8, "byte") };
        let plural = if length == 1 { "" } else { "s" };
        write!(f, "{} ({length} {unit}{plural}) at {}", self.type_name, self.at())
    }
}

/// A named type: its word (`struct`; none for a typedef), the function it is declared in, its name.
type Key<'d> = (&'static str, Option<&'d str>, &'d str);

fn key(info: &DebugInfo, entry: usize) -> Option<Key<'_>> {
    let word = match info.entries[entry].kind {
        Kind::Struct => "struct ",
        Kind::Union => "union ",
        Kind::Enum => "enum ",
        Kind::Typedef => "",
        _ => return None,
    };
    let function = info.entries[entry].function.and_then(|function| info.name(function));
    Some((word, function, info.entries[entry].name.as_deref()?))
}

fn label((word, _, name): Key<'_>) -> String {
    format!("{word}{name}")
}

/// All types that have a name and are defined. Of one name in one function there may be several, in several blocks.
fn named(info: &DebugInfo) -> BTreeMap<Key<'_>, Vec<usize>> {
    let mut out: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, entry) in info.entries.iter().enumerate().filter(|(_, entry)| !entry.declaration) {
        // A typedef may name what is only declared.
        let target = info.target(index).filter(|_| entry.kind == Kind::Typedef);
        if target.is_none_or(|target| !info.entries[target].declaration)
            && let Some(key) = key(info, index)
        {
            out.entry(key).or_default().push(index);
        }
    }
    out
}

struct Member {
    name: String,
    bit_offset: u64,
    bits: u64,
    bit_field: bool,
    of: Option<usize>,
}

impl Member {
    fn place(&self, info: &DebugInfo) -> Place {
        let Self { bit_offset, bits, bit_field, .. } = *self;
        Place { bit_offset, bits, bit_field, type_name: info.describe(self.of) }
    }
}

/// The members of a type, those of nameless structures in it in their place.
fn members(
    pair: &Pair<'_>,
    info: &DebugInfo,
    aggregate: usize,
    (prefix, base, depth): (&str, u64, usize),
    out: &mut Vec<Member>,
) -> Result<(), DebugError> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    for child in info.children(aggregate, Kind::Member) {
        pair.step()?;
        let member = &info.entries[child];
        let of = info.target(child);
        let bit_offset = base.saturating_add(member.bit_offset);
        let name = member.name.as_deref();
        match nameless(info, of) {
            Some(inner) => {
                let inner_prefix = name.map_or_else(|| prefix.to_owned(), |name| format!("{prefix}{name}."));
                members(pair, info, inner, (&inner_prefix, bit_offset, depth), out)?;
            }
            None => out.push(Member {
                name: format!("{prefix}{}", name.unwrap_or("(nameless)")),
                bit_offset,
                bits: member.bit_size.unwrap_or_else(|| info.size(of).saturating_mul(8)),
                bit_field: member.bit_size.is_some(),
                of,
            }),
        }
    }
    Ok(())
}

/// The structure or union without a name that this is.
fn nameless(info: &DebugInfo, of: Option<usize>) -> Option<usize> {
    let of = info.unqualified(of)?;
    let entry = &info.entries[of];
    (matches!(entry.kind, Kind::Struct | Kind::Union) && entry.name.is_none() && !entry.declaration)
        .then_some(of)
}

/// The named types that a member is or holds: through arrays and typedefs, not through pointers.
fn held(info: &DebugInfo, of: Option<usize>) -> Vec<Key<'_>> {
    let mut out = Vec::new();
    let mut at = of;
    for _ in 0..MAX_DEPTH {
        let Some(entry) = at else { break };
        out.extend(key(info, entry));
        if !matches!(info.entries[entry].kind, Kind::Typedef | Kind::Array | Kind::Qualifier) {
            break;
        }
        at = info.target(entry);
    }
    out
}

/// A change whose reason is not known yet.
struct Found<'d> {
    key: Key<'d>,
    change: LayoutChange,
    /// The changed members moved only, and none passed another.
    moved_only: bool,
    held: BTreeSet<Key<'d>>,
}

/// Compares all types that two compilations have in common.
pub fn compare(old: &DebugInfo, new: &DebugInfo) -> Result<TypeChanges, DebugError> {
    let pair = Pair::new(old, new);
    let olds = named(old);
    let mut found = Vec::new();
    for (key, entries) in named(new) {
        for (old, new) in olds.get(&key).into_iter().flatten().zip(entries) {
            found.extend(compare_named(&pair, key, *old, new)?);
        }
    }
    let changed: BTreeSet<Key<'_>> = found.iter().filter(|f| f.change.is_layout()).map(|f| f.key).collect();
    let layouts = found.into_iter().map(|mut found| {
        if found.moved_only {
            found.change.follows = found.held.intersection(&changed).map(|key| label(*key)).collect();
        }
        found.change
    });
    Ok(TypeChanges { layouts: layouts.collect(), constants: compare_constants(old, new) })
}

fn compare_named<'d>(
    pair: &Pair<'d>,
    key: Key<'d>,
    old: usize,
    new: usize,
) -> Result<Option<Found<'d>>, DebugError> {
    let mut change = LayoutChange {
        name: label(key),
        local_to: key.1.map(str::to_owned),
        old_size: pair.old.size(Some(old)),
        new_size: pair.new.size(Some(new)),
        members: Vec::new(),
        follows: Vec::new(),
    };
    let typedef = pair.new.entries[new].kind == Kind::Typedef;
    let (old_target, new_target) = match typedef {
        true => (pair.old.target(old), pair.new.target(new)),
        false => (Some(old), Some(new)),
    };
    let aggregates = match typedef {
        true => nameless(pair.old, old_target).zip(nameless(pair.new, new_target)),
        false => matches!(pair.new.entries[new].kind, Kind::Struct | Kind::Union).then_some((old, new)),
    };
    let Some((old, new)) = aggregates else {
        // An enumeration, or another name for a type.
        let same = match typedef {
            true => pair.same(old_target, new_target)?,
            false => change.old_size == change.new_size,
        };
        let place = |info: &DebugInfo, of| Place {
            bit_offset: 0,
            bits: info.size(of).saturating_mul(8),
            bit_field: false,
            type_name: info.describe(of),
        };
        if !same && typedef {
            // It has no members: what it stands for is all there is.
            change.members.push(MemberChange {
                name: String::new(),
                fate: Fate::Retyped,
                old: Some(place(pair.old, old_target)),
                new: Some(place(pair.new, new_target)),
            });
        }
        return Ok((!same).then(|| Found { key, change, moved_only: false, held: BTreeSet::new() }));
    };
    let start = ("", 0, MAX_DEPTH);
    let (mut olds, mut news) = (Vec::new(), Vec::new());
    members(pair, pair.old, old, start, &mut olds)?;
    members(pair, pair.new, new, start, &mut news)?;
    let (changes, moved_only) = compare_members(pair, &olds, &news)?;
    change.members = changes;
    // A union's members stay at its start whatever they hold.
    if change.members.is_empty() && change.old_size == change.new_size {
        return Ok(None);
    }
    let held = news.iter().flat_map(|member| held(pair.new, member.of)).collect();
    Ok(Some(Found { key, change, moved_only, held }))
}

/// Names of members, each with how many of that name come before it: those without a name share one.
fn numbered(members: &[Member]) -> Vec<(&str, usize)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = Vec::with_capacity(members.len());
    for member in members {
        let count = seen.entry(&member.name).or_default();
        out.push((member.name.as_str(), *count));
        *count += 1;
    }
    out
}

/// What became of members, and whether they only moved, in the same order.
fn compare_members(
    pair: &Pair<'_>,
    olds: &[Member],
    news: &[Member],
) -> Result<(Vec<MemberChange>, bool), DebugError> {
    let (old_keys, new_keys) = (numbered(olds), numbered(news));
    let old_of: BTreeMap<(&str, usize), &Member> = old_keys.iter().copied().zip(olds).collect();
    let new_names: BTreeSet<(&str, usize)> = new_keys.iter().copied().collect();
    let removed = old_keys.iter().zip(olds).filter(|(key, _)| !new_names.contains(key));
    let mut removed: Vec<&Member> = removed.map(|(_, member)| member).collect();
    let mut out = Vec::new();
    for (key, member) in new_keys.iter().zip(news) {
        let here = |old: &Member| old.bit_offset == member.bit_offset && old.bits == member.bits;
        let (fate, old) = match old_of.get(key) {
            Some(&old) => {
                // The length of what keeps its type is that type's affair, but for bit fields.
                let fields = old.bit_field == member.bit_field && (!old.bit_field || old.bits == member.bits);
                if !(fields && pair.same(old.of, member.of)?) {
                    (Fate::Retyped, Some(old))
                } else if old.bit_offset != member.bit_offset {
                    (Fate::Moved, Some(old))
                } else {
                    continue;
                }
            }
            None => {
                let mut same = None;
                for (index, old) in removed.iter().enumerate() {
                    pair.step()?;
                    if here(old) && old.bit_field == member.bit_field && pair.same(old.of, member.of)? {
                        same = Some(index);
                        break;
                    }
                }
                match same.map(|index| removed.remove(index)) {
                    Some(old) => (Fate::Renamed, Some(old)),
                    None => (Fate::Added, None),
                }
            }
        };
        out.push(MemberChange {
            name: member.name.clone(),
            fate,
            old: old.map(|old| old.place(pair.old)),
            new: Some(member.place(pair.new)),
        });
    }
    out.extend(removed.into_iter().map(|old| MemberChange {
        name: old.name.clone(),
        fate: Fate::Removed,
        old: Some(old.place(pair.old)),
        new: None,
    }));
    let moved_only = out.iter().all(|m| m.fate == Fate::Moved) && old_keys == new_keys;
    Ok((out, moved_only))
}

/// Constants of enumerations, with or without a name: each is one name in its scope.
fn constants(info: &DebugInfo) -> BTreeMap<(Option<&str>, &str), i128> {
    let mut out = BTreeMap::new();
    for (index, entry) in info.entries.iter().enumerate().filter(|(_, entry)| entry.kind == Kind::Enum) {
        let function = entry.function.and_then(|function| info.name(function));
        for child in info.children(index, Kind::Enumerator) {
            let constant = &info.entries[child];
            if let Some((name, value)) = constant.name.as_deref().zip(constant.number) {
                out.insert((function, name), value);
            }
        }
    }
    out
}

fn compare_constants(old: &DebugInfo, new: &DebugInfo) -> Vec<ConstantChange> {
    let olds = constants(old);
    let news = constants(new).into_iter();
    let changed = news.filter_map(|(key, new)| Some((key.1, *olds.get(&key)?, new)));
    let changed = changed.filter(|(_, old, new)| old != new);
    changed.map(|(name, old, new)| ConstantChange { name: name.to_owned(), old, new }).collect()
}
