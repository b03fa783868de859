//! What debug information adds to a report: types with another layout, and where functions are copied into others.
//!
//! Only units whose code changes are asked: code that is the same with and without the patch works on either layout.

use std::collections::{BTreeMap, BTreeSet};

use livepatch_kbuild::PatchedFile;
use livepatch_klp::debug::inline::FunctionFacts;
use livepatch_klp::debug::layout::{self, LayoutChange, MemberChange, TypeChanges};
use livepatch_klp::debug::{DebugError, DebugInfo};
use livepatch_klp::elf::Object;
use livepatch_klp::{Refusal, Rule};

use crate::report::{ConstantReport, FunctionReport, LayoutReport, MemberReport, PlaceReport, Touch};

/// How many of the types that hold a changed one a finding names.
const HOLDERS_NAMED: usize = 3;

/// What two compilations of a unit say.
pub(crate) struct UnitDebug {
    types: TypeChanges,
    functions: BTreeMap<String, FunctionFacts>,
    /// Functions whose source text the patch changes.
    touched: BTreeSet<String>,
}

/// A source file with and without the patch.
pub(crate) struct ChangedSource {
    pub(crate) path: String,
    pub(crate) original: String,
    pub(crate) patched: String,
}

impl ChangedSource {
    /// What a patch made of files, each with its original text; new ones have none.
    pub(crate) fn all(files: &[PatchedFile], original: impl Fn(&str) -> String) -> Vec<Self> {
        let one = |file: &PatchedFile| Self {
            path: file.path.clone(),
            original: original(&file.path),
            patched: file.content.clone(),
        };
        files.iter().map(one).collect()
    }
}

impl UnitDebug {
    /// Compares the debug information of two compilations.
    pub(crate) fn read(
        original: &Object,
        patched: &Object,
        sources: &[ChangedSource],
    ) -> Result<Self, DebugError> {
        let read =
            |object| DebugInfo::read(object)?.ok_or_else(|| DebugError::Unsupported("no entries".into()));
        let (old, new) = (read(original)?, read(patched)?);
        let functions: BTreeMap<String, FunctionFacts> =
            new.functions().into_iter().map(|(name, facts)| (name.to_owned(), facts)).collect();
        let touched = touched(&old.functions(), &functions, sources);
        Ok(Self { types: layout::compare(&old, &new)?, functions, touched })
    }

    fn inlined_into(&self, function: &str) -> Vec<String> {
        let facts = self.functions.get(function);
        facts.into_iter().flat_map(|facts| facts.inlined_into.iter().cloned()).collect()
    }

    /// Fills in where functions are copied into others, and appends those that exist as copies only.
    pub(crate) fn complete(&self, functions: &mut Vec<FunctionReport>) {
        for function in functions.iter_mut() {
            function.inlined_into = self.inlined_into(source_name(&function.name));
        }
        let copies = self.functions.iter().filter(|(name, facts)| {
            !facts.has_code && !facts.inlined_into.is_empty() && self.touched.contains(*name)
        });
        functions.extend(copies.map(|(name, facts)| FunctionReport {
            name: name.clone(),
            touch: Touch::InlinedOnly,
            fentry: None,
            sympos: None,
            inlined_into: facts.inlined_into.iter().cloned().collect(),
        }));
    }
}

/// The name in the source: a clone has a suffix that the compiler made.
fn source_name(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Functions of both compilations whose text differs.
fn touched(
    old: &BTreeMap<&str, FunctionFacts>,
    new: &BTreeMap<String, FunctionFacts>,
    sources: &[ChangedSource],
) -> BTreeSet<String> {
    let text = |facts: &FunctionFacts, of: fn(&ChangedSource) -> &str| {
        let (file, line) = facts.declared.as_ref()?;
        let source = sources.iter().find(|source| source.path == file.trim_start_matches("./"))?;
        function_text(of(source), *line)
    };
    let differs = |(name, facts): &(&String, &FunctionFacts)| {
        let before = old.get(name.as_str()).and_then(|facts| text(facts, |source| &source.original));
        text(facts, |source| &source.patched).zip(before).is_some_and(|(after, before)| after != before)
    };
    new.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

/// The lines of a function from the one that declares it: kernel style puts its last brace, and no other, at the start
/// of a line (Documentation/process/coding-style.rst).
fn function_text(source: &str, line: u64) -> Option<Vec<&str>> {
    let mut lines = source.lines().skip(usize::try_from(line.checked_sub(1)?).ok()?);
    let mut out = Vec::new();
    loop {
        let line = lines.next()?;
        out.push(line);
        if line.starts_with('}') || line.trim_end().ends_with('}') && out.len() == 1 {
            return Some(out);
        }
    }
}

/// The types of all units that change, each once.
#[derive(Default)]
pub(crate) struct TypesReport {
    pub(crate) layouts: Vec<LayoutReport>,
    pub(crate) constants: Vec<ConstantReport>,
    roots: Vec<(LayoutChange, String)>,
}

impl TypesReport {
    /// Adds what a unit says.
    pub(crate) fn add(&mut self, unit: &str, debug: &UnitDebug) {
        for change in &debug.types.layouts {
            let report = layout_report(change);
            let known = self
                .layouts
                .iter_mut()
                .find(|known| LayoutReport { units: Vec::new(), ..(*known).clone() } == report);
            match known {
                Some(known) => known.units.push(unit.to_owned()),
                None => {
                    self.layouts.push(LayoutReport { units: vec![unit.to_owned()], ..report });
                    if change.is_layout() && change.follows.is_empty() {
                        self.roots.push((change.clone(), unit.to_owned()));
                    }
                }
            }
        }
        for change in &debug.types.constants {
            let report = ConstantReport { name: change.name.clone(), old: change.old, new: change.new };
            if !self.constants.contains(&report) {
                self.constants.push(report);
            }
        }
    }

    /// What a person must look at: the unit, and what about it. Types that change only because they hold another one
    /// are named with that one.
    pub(crate) fn findings(&self) -> Vec<(String, Refusal)> {
        let finding = |(change, unit): &(LayoutChange, String)| {
            let why = format!("{}{}", change.why(), self.holders(&change.name));
            (unit.clone(), Refusal { rule: Rule::LayoutChanged, place: change.place(), why })
        };
        self.roots.iter().map(finding).collect()
    }

    /// The types that change with one that they hold.
    fn holders(&self, name: &str) -> String {
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> = vec![name];
        while let Some(name) = next.pop() {
            let holders = self.layouts.iter().filter(|layout| layout.follows.iter().any(|held| held == name));
            next.extend(
                holders.filter_map(|layout| found.insert(&layout.name).then_some(layout.name.as_str())),
            );
        }
        let named: Vec<&str> = found.iter().copied().take(HOLDERS_NAMED).collect();
        match found.len().saturating_sub(named.len()) {
            _ if named.is_empty() => String::new(),
            0 => format!("; what holds it changes with it: {}", named.join(", ")),
            more => format!("; what holds it changes with it: {} and {more} more", named.join(", ")),
        }
    }
}

/// What is said when the debug information of a unit cannot be read.
pub(crate) fn unreadable(unit: &str, error: &DebugError) -> Refusal {
    let why = format!("whether types have another layout is not known: {error}");
    Refusal { rule: Rule::LayoutChanged, place: format!("types of {unit}"), why }
}

fn layout_report(change: &LayoutChange) -> LayoutReport {
    let place = |place: &layout::Place| PlaceReport {
        byte_offset: place.bit_offset / 8,
        bit_offset: place.bit_field.then_some(place.bit_offset % 8),
        bits: place.bits,
        r#type: place.type_name.clone(),
    };
    let member = |member: &MemberChange| MemberReport {
        name: member.name.clone(),
        change: member.fate.name().to_owned(),
        old: member.old.as_ref().map(place),
        new: member.new.as_ref().map(place),
    };
    LayoutReport {
        name: change.name.clone(),
        local_to: change.local_to.clone(),
        old_size: change.old_size,
        new_size: change.new_size,
        members: change.members.iter().map(member).collect(),
        follows: change.follows.clone(),
        units: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "int a;\n\nstatic int f(int x)\n{\n\tif (x) {\n\t\treturn 1;\n\t}\n\treturn 0;\n}\n\nint g(void) { return 1; }\nint h(void)\n";

    #[test]
    fn a_function_ends_at_its_brace() {
        assert_eq!(function_text(SOURCE, 3).map(|lines| lines.len()), Some(7));
        assert_eq!(function_text(SOURCE, 11).map(|lines| lines.len()), Some(1));
        for line in [0, 12, 13, u64::MAX] {
            assert_eq!(function_text(SOURCE, line), None, "{line}");
        }
    }

    #[test]
    fn a_function_is_touched_when_its_own_text_differs() {
        let at = |line| FunctionFacts { declared: Some(("./net/x.c".into(), line)), ..Default::default() };
        let old = BTreeMap::from([("f", at(3)), ("g", at(11))]);
        let new =
            BTreeMap::from([("f".to_owned(), at(4)), ("g".to_owned(), at(12)), ("new".to_owned(), at(4))]);
        let patched = format!("// moved\n{}", SOURCE.replace("return 1;\n", "return 2;\n"));
        let source = ChangedSource { path: "net/x.c".into(), original: SOURCE.into(), patched };
        assert_eq!(touched(&old, &new, &[source]), BTreeSet::from(["f".to_owned()]));
        assert_eq!(source_name("f.isra.0"), "f");
    }
}
