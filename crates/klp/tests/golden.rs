//! What the differ makes of kpatch's own x86_64 unit objects (gcc 4.8 to 13, clang 10 to 19; public repository
//! dynup/kpatch-unit-test-objs), beside what kpatch makes of them. Each comes out equal, or different in a way that
//! stands in [`ALLOWED`] with its argument.
//!
//! Needs `LIVEPATCH_GOLDEN_OBJECTS`, the directory with `NAME.ORIG.o` and `NAME.PATCHED.o`, and kpatch's results in
//! `LIVEPATCH_GOLDEN_RESULTS` or `../shared/data/differ-golden` beside the workspace. Without them it says that it was
//! skipped. `LIVEPATCH_GOLDEN_ONLY=NAME` runs one, and prints all its differences.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use livepatch_klp::compare::compare;
use livepatch_klp::elf::{Binding, Object, Placement, Relocation, SymbolKind, relocation};
use livepatch_klp::extract::{Original, extract};
use livepatch_klp::resolve::sympos;
use livepatch_klp::shipped::{Shipped, ShippedModule};
use livepatch_klp::{EntrySizes, Unit};
use serde_json::Value;

const KEPT_CHILD: &str = "kpatch lets the new parent jump into the old child, which jumps back into the old parent: \
    the new code would be left half way";

const IGNORE_MACRO: &str = "kpatch's macro to leave a change out; with us a person argues that, and a section of \
    unknown meaning is refused";
const PADDING: &str = "without the 16 bytes of CALL_PADDING before the function";

/// Differences that are right, for all pairs or one: pair or `*`, words that the difference holds, argument.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "*",
        " .discard.",
        "marks for the target's objtool, which runs over the extracted object; the final link drops them",
    ),
    ("cold-change-parent", "meminfo_proc_show.cold", KEPT_CHILD),
    ("cold-change-parent", ".text.unlikely.meminfo_proc_show", KEPT_CHILD),
    ("static-call-issue-1165", "do_exit.cold", KEPT_CHILD),
    ("static-call-issue-1165", ".text.unlikely.do_exit", KEPT_CHILD),
    (
        "static-call-pr-1315",
        " .altinstructions",
        "the fixture tells kpatch entries of 13 bytes; in this kernel they have 12, so kpatch's table is garbage",
    ),
    (
        "fixup-section",
        " __ex_table+0x1c",
        "kpatch packs .fixup anew: its offsets are not those of the unit by which the test reads them",
    ),
    (
        "clang-lstr",
        "refused: .kpatch.callbacks",
        "kpatch's macros for callbacks; ours are declared in the series, and a section of unknown meaning is refused",
    ),
    ("ignore-missing-ftracehook-issue-1091", "refused: .kpatch.ignore.functions", IGNORE_MACRO),
    ("oot-issue-928.NOSTRIP", "refused: .kpatch.ignore.sections", IGNORE_MACRO),
    (
        "data-read-mostly",
        "dev_queue_xmit_nit",
        "somebody led three entries of the fixture's jump table into this function; \
        ours sees that a function has other jump labels",
    ),
    (
        "data-read-mostly",
        " __jump_table",
        "as above: they are entries of a function that kpatch does not take along",
    ),
    ("cmdline-ubsan", "cmdline_proc_show", PADDING),
    ("import-ns", "cmdline_proc_show", PADDING),
];

/// Tables that the target's objtool makes anew over the extracted object, so extraction leaves them behind.
const MADE_BY_OBJTOOL: [&str; 7] = [
    ".orc_unwind",
    ".orc_unwind_ip",
    ".return_sites",
    ".retpoline_sites",
    ".call_sites",
    ".static_call_sites",
    ".ibt_endbr_seal",
];

/// A relocation by what it means.
type Meanings = BTreeMap<(String, u64), String>;

/// What came out, in words that two tools can agree on.
#[derive(Default)]
struct Outcome {
    /// name → (sympos, old size, new size)
    functions: BTreeMap<String, (u64, u64, u64)>,
    relocations: Meanings,
    /// name → digests of the sections of that name
    sections: BTreeMap<String, BTreeSet<String>>,
    /// Changes that are left out, for a person to argue.
    omitted: Vec<String>,
}

/// Entry sizes as the relocations show them: each table's next entry begins with its next pointer to code.
fn sizes(object: &Object) -> EntrySizes {
    let table = |name: &str| object.section_named(name).map(|i| &object.sections[i]);
    // The n-th relocation is the first of the second entry.
    let second = |name: &str, n: usize, default: u64| {
        table(name).map_or(default, |s| {
            let mut offsets: Vec<u64> = s.relocations.iter().map(|r| r.offset).collect();
            offsets.sort_unstable();
            offsets.get(n).copied().unwrap_or(s.size)
        })
    };
    // Three absolute addresses before 4.20, then three distances.
    let jump_is_absolute = table("__jump_table")
        .is_some_and(|s| s.relocations.first().is_some_and(|r| r.kind == relocation::ABS64 && r.offset == 0));
    EntrySizes {
        alt_instr: second(".altinstructions", 2, 13),
        bug_entry: 12,
        exception_entry: 12,
        jump_entry: if jump_is_absolute { 24 } else { 16 },
        paravirt_site: 16,
    }
}

/// The symbol that holds a place, with the distance from its start.
fn symbol_at(object: &Object, section: usize, offset: i64) -> Option<(&str, i64)> {
    let mut found: Vec<_> = object
        .symbols
        .iter()
        .filter(|s| s.placement == Placement::Section(section) && s.kind != SymbolKind::Section)
        .filter(|s| matches!(s.kind, SymbolKind::Function | SymbolKind::Object))
        .filter(|s| !s.name.starts_with("__pfx_") && !s.name.starts_with("__livepatch_new_"))
        .filter(|s| {
            let start = s.value.cast_signed();
            offset >= start && offset < start + s.size.cast_signed().max(1)
        })
        .collect();
    found.sort_by_key(|s| (s.binding == Binding::Local, &s.name));
    found.first().map(|s| (s.name.as_str(), offset - s.value.cast_signed()))
}

fn meaning_of_place(object: &Object, section: usize, offset: i64, bias: i64) -> String {
    let s = &object.sections[section];
    // Strings by content, wherever they are; what refers to a string from code does so 4 bytes early.
    if s.is_strings() || s.name == ".rodata.livepatch_literals" {
        let start = usize::try_from(offset + bias).unwrap();
        let bytes = &s.data[start..];
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        return format!("text {:?}", String::from_utf8_lossy(&bytes[..end]));
    }
    match symbol_at(object, section, offset + bias) {
        Some((name, at)) => format!("{name}{:+}", at - bias),
        None => {
            // What stands there is told by its first bytes and by what a call or jump there means.
            let start = offset + bias;
            let bytes = usize::try_from(start).ok().and_then(|at| s.data.get(at..at + 3));
            let branch = s.relocations.iter().find(|r| r.offset.cast_signed() == start + 1);
            let is_outside = |r: &&Relocation| object.symbols[r.symbol].placement == Placement::Undefined;
            let to = branch.filter(is_outside).map(|r| object.symbols[r.symbol].name.as_str());
            format!("a place in {} with {bytes:02x?} {}", s.name, to.unwrap_or_default())
        }
    }
}

/// Sections that kpatch takes along whole, or all pieces of; of ours only what is used.
fn is_taken_whole(section: &str) -> bool {
    let whole = [".altinstr_replacement", ".altinstr_aux", ".fixup", ".text..refcount", "__mcount_loc"];
    whole.contains(&section)
        || ["__dyndbg", "__verbose", ".data", ".rodata", ".bss"].iter().any(|base| section.starts_with(base))
}

/// Numbers that the compiler gives clones, which may differ between two compilations: kpatch keeps those of the
/// original for some, of the patched unit for others.
fn without_clone_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, word)) = [".isra.", ".part.", ".constprop.", ".cold."]
        .iter()
        .filter_map(|word| Some((rest.find(word)? + word.len(), word)))
        .min()
    {
        _ = word;
        out.push_str(&rest[..at]);
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit());
        out.push('N');
    }
    out + rest
}

fn renamed(outcome: Outcome) -> Outcome {
    let name = |text: &str| without_clone_numbers(text);
    Outcome {
        functions: outcome.functions,
        relocations: outcome.relocations.into_iter().map(|((s, o), m)| ((name(&s), o), name(&m))).collect(),
        omitted: outcome.omitted,
        sections: outcome.sections.into_iter().map(|(s, d)| (name(&s), d)).collect(),
    }
}

type Biases = BTreeMap<(String, u64), i64>;

/// How far each relative field is from the end of its instruction.
fn biases(unit: &Unit) -> Biases {
    let of_item = |item: &livepatch_klp::unit::Item| -> Vec<((String, u64), i64)> {
        let name = without_clone_numbers(unit.section_name(item));
        item.references.iter().map(|r| ((name.clone(), item.start + r.offset), r.bias)).collect()
    };
    unit.items.iter().flat_map(of_item).collect()
}

fn bias(known: &Biases, object: &Object, section: &str, offset: u64, kind: u32) -> i64 {
    if let Some(bias) = known.get(&(without_clone_numbers(section), offset)) {
        return *bias;
    }
    let is_code = object.section_named(section).is_some_and(|i| object.sections[i].is_code());
    if is_code && relocation::is_relative(kind) { 4 } else { 0 }
}

/// Digests of many byte strings at once, 16 hex digits each.
fn digests(all: &[Vec<u8>]) -> Vec<String> {
    if all.is_empty() {
        return Vec::new();
    }
    let directory = tempfile::tempdir().unwrap();
    for (index, bytes) in all.iter().enumerate() {
        std::fs::write(directory.path().join(index.to_string()), bytes).unwrap();
    }
    let mut command = Command::new("sha256sum");
    command.args((0..all.len()).map(|i| i.to_string())).current_dir(directory.path());
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    text.lines().map(|line| line[..16].to_owned()).collect()
}

fn kpatch(json: &Value, patched: &Object, biases: &Biases, shipped: &dyn Shipped) -> Outcome {
    let mut out = Outcome::default();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    for f in json["funcs"].as_array().unwrap() {
        let number = |key: &str| f[key].as_u64().unwrap();
        let value = (number("sympos"), number("old_size"), number("new_size"));
        out.functions.insert(text(&f["name"]), value);
    }
    for r in json["klp"].as_array().unwrap() {
        let (name, section) = (text(&r["sym"]), text(&r["sec"]));
        let mut pos = r["sympos"].as_u64().unwrap();
        // 1 and 0 are the same for the kernel when the name is unique (klp_find_callback, kernel/livepatch/core.c).
        if pos == 1 && shipped.named(&name).len() == 1 {
            pos = 0;
        }
        let meaning = format!("livepatch {name},{pos}{:+}", r["addend"].as_i64().unwrap());
        out.relocations.insert((section, r["off"].as_u64().unwrap()), meaning);
    }
    for (section, rows) in json["relas"].as_object().unwrap() {
        for row in rows.as_array().unwrap() {
            let (offset, kind) = (row[0].as_u64().unwrap(), row[1].as_u64().unwrap() as u32);
            let (symbol, addend) = (text(&row[2]), row[3].as_i64().unwrap());
            let found = match symbol.strip_prefix('§') {
                Some(name) => patched.section_named(name).map(|s| (Placement::Section(s), 0)),
                None => patched.symbols.iter().find(|s| s.name == symbol).map(|s| (s.placement, s.value)),
            };
            let meaning = match found {
                Some((Placement::Section(at), value)) => {
                    let bias = bias(biases, patched, section, offset, kind);
                    meaning_of_place(patched, at, value.cast_signed() + addend, bias)
                }
                _ => format!("{symbol}{addend:+}"),
            };
            out.relocations.insert((section.clone(), offset), meaning);
        }
    }
    for (name, rows) in json["sections"].as_object().unwrap() {
        let all = rows.as_array().unwrap().iter().map(|row| text(&row[1])).collect();
        out.sections.insert(name.clone(), all);
    }
    out
}

fn ours(
    original: &[u8],
    patched: &[u8],
    sizes: &EntrySizes,
    shipped: &dyn Shipped,
) -> Result<Outcome, String> {
    let original = Unit::parse(original, sizes).map_err(|e| e.to_string())?;
    let patched = Unit::parse(patched, sizes).map_err(|e| e.to_string())?;
    let comparison = compare(&original, &patched).map_err(|e| e.to_string())?;
    let omitted = comparison.omitted.iter().map(|o| format!("left out: {o}")).collect();
    let mut out = Outcome { omitted, ..Outcome::default() };
    let extracted = extract(&original, &patched, &comparison, 0).map_err(|e| e.to_string())?;
    let Some(extracted) = extracted else { return Ok(out) };
    let address = |name: &str| shipped.named(name).first().map(|(a, _)| *a);
    let position = |name: &str| address(name).and_then(|a| sympos(shipped, name, a)).unwrap_or(9999);
    for f in &extracted.functions {
        let new = &patched.items[patched
            .function(&f.name)
            .or_else(|| (0..patched.items.len()).find(|i| comparison.original_of[*i] == Some(f.original)))
            .unwrap()];
        let old = original.items[f.original].size;
        out.functions.insert(f.name.clone(), (position(&f.name).into(), old, new.size));
    }
    let object = &extracted.object;
    let biases = biases(&patched);
    let mut all = Vec::new();
    for section in &object.sections {
        all.push(section.data.clone());
        for &Relocation { offset, kind, symbol, addend } in &section.relocations {
            let symbol = &object.symbols[symbol];
            let bias = bias(&biases, object, &section.name, offset, kind);
            let meaning = match symbol.placement {
                Placement::Section(at) => {
                    meaning_of_place(object, at, symbol.value.cast_signed() + addend, bias)
                }
                _ => match &extracted.originals[&symbol.name] {
                    Original::Item(item) => {
                        let name = original.items[*item].name();
                        format!("livepatch {name},{}{addend:+}", position(name))
                    }
                    Original::External(name) => format!("{name}{addend:+}"),
                },
            };
            out.relocations.insert((section.name.clone(), offset), meaning);
        }
    }
    for (section, digest) in object.sections.iter().zip(digests(&all)) {
        out.sections.entry(section.name.clone()).or_default().insert(digest);
    }
    Ok(out)
}

fn differences(theirs: Outcome, ours: Outcome) -> Vec<String> {
    let (theirs, ours) = (renamed(theirs), renamed(ours));
    let mut out = ours.omitted.clone();
    let names: BTreeSet<_> = theirs.functions.keys().chain(ours.functions.keys()).collect();
    for name in names {
        let both = (theirs.functions.get(name), ours.functions.get(name));
        match both {
            (Some((p, a, b)), Some((q, c, d))) if (a, b) == (c, d) && (p == q || (*p, *q) == (1, 0)) => {}
            (theirs, ours) => out.push(format!("function {name}: kpatch {theirs:?}, ours {ours:?}")),
        }
    }
    let is_made = |section: &str| MADE_BY_OBJTOOL.contains(&section);
    let places: BTreeSet<_> = theirs.relocations.keys().chain(ours.relocations.keys()).collect();
    for place @ (section, offset) in places.into_iter().filter(|(s, _)| !is_made(s)) {
        let (a, b) = (theirs.relocations.get(place), ours.relocations.get(place));
        let whole = is_taken_whole(section);
        // Every traceable function must be in it.
        if section == "__mcount_loc"
            && a.is_some_and(|a| !ours.relocations.iter().any(|((s, _), b)| s == section && a == b))
        {
            out.push(format!("relocation {section}: kpatch {a:?}, ours does not have it"));
        }
        let is_in_theirs = |b: &String| theirs.relocations.iter().any(|((s, _), a)| s == section && a == b);
        if if whole { b.is_some_and(|b| !is_in_theirs(b)) } else { a != b } {
            out.push(format!("relocation {section}+{offset:#x}: kpatch {a:?}, ours {b:?}"));
        }
    }
    // kpatch takes all strings along; ours are one section. Their content is compared where they are used.
    for (name, digests) in &ours.sections {
        if name == ".rodata.livepatch_literals" || is_made(name) || is_taken_whole(name) || name == ".modinfo"
        {
            continue;
        }
        if theirs.sections.get(name).is_none_or(|theirs| !digests.is_subset(theirs)) {
            out.push(format!("section {name}: kpatch {:?}, ours {digests:?}", theirs.sections.get(name)));
        }
    }
    let text = |name: &str| name.starts_with(".text");
    for name in theirs.sections.keys().filter(|n| text(n) && !ours.sections.contains_key(*n)) {
        out.push(format!("section {name}: kpatch has it, ours does not"));
    }
    out
}

/// The row that allows a difference.
fn allowed(pair: &str, difference: &str) -> Option<usize> {
    ALLOWED.iter().position(|row| (row.0 == "*" || row.0 == pair) && difference.contains(row.1))
}

fn inputs() -> Option<(PathBuf, PathBuf)> {
    let objects = PathBuf::from(std::env::var_os("LIVEPATCH_GOLDEN_OBJECTS")?);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/differ-golden");
    let results = std::env::var_os("LIVEPATCH_GOLDEN_RESULTS").map_or(beside, PathBuf::from);
    (objects.is_dir() && results.is_dir()).then_some((objects, results))
}

#[test]
fn kpatchs_own_objects_come_out_as_kpatch_makes_them_or_better() {
    let Some((objects, results)) = inputs() else {
        eprintln!(
            "SKIPPED: LIVEPATCH_GOLDEN_OBJECTS does not name kpatch's unit objects, or its results are missing"
        );
        return;
    };
    let only = std::env::var("LIVEPATCH_GOLDEN_ONLY").ok();
    let mut pairs: Vec<String> = std::fs::read_dir(&results)
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str().map(str::to_owned))
        .filter_map(|name| Some(name.strip_prefix("x86_64-")?.strip_suffix(".json")?.to_owned()))
        .collect();
    pairs.sort();
    let mut wrong = Vec::new();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for pair in pairs.iter().filter(|p| only.as_ref().is_none_or(|only| only == *p)) {
        let read = |kind: &str| std::fs::read(objects.join(format!("{pair}.{kind}.o"))).unwrap();
        let (old, new) = (read("ORIG"), read("PATCHED"));
        let json = std::fs::read(results.join(format!("x86_64-{pair}.json"))).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let shipped = ShippedModule::parse("vmlinux", &old).unwrap();
        let patched = Object::parse(&new).unwrap();
        let found = match ours(&old, &new, &sizes(&patched), &shipped) {
            Ok(ours) => {
                let biases =
                    Unit::parse(&new, &sizes(&patched)).map(|unit| biases(&unit)).unwrap_or_default();
                differences(kpatch(&json, &patched, &biases, &shipped), ours)
            }
            Err(refusal) => vec![format!("refused: {refusal}")],
        };
        let bad: Vec<_> = found.iter().filter(|d| allowed(pair, d).is_none()).collect();
        let rows: BTreeSet<usize> = found.iter().filter_map(|d| allowed(pair, d)).collect();
        let arguments: BTreeSet<&str> = rows.iter().map(|row| ALLOWED[*row].2).collect();
        used.extend(rows);
        match (found.is_empty(), bad.is_empty()) {
            (true, _) => println!("equal    {pair}"),
            (_, true) => {
                println!("allowed  {pair}: {}", arguments.into_iter().collect::<Vec<_>>().join("; "))
            }
            _ => {
                println!("wrong    {pair}: {} differences", bad.len());
                let shown = if only.is_some() { usize::MAX } else { 4 };
                bad.iter().take(shown).for_each(|d| println!("           {d}"));
                wrong.push(pair.clone());
            }
        }
    }
    assert!(wrong.is_empty(), "wrong: {}", wrong.join(", "));
    if only.is_none() {
        let unused: Vec<_> =
            (0..ALLOWED.len()).filter(|row| !used.contains(row)).map(|row| ALLOWED[row]).collect();
        assert!(unused.is_empty(), "allowed, but nothing differs so: {unused:?}");
    }
}

#[test]
fn what_must_not_become_a_livepatch_is_refused() {
    let Some((objects, _)) = inputs() else {
        eprintln!("SKIPPED: LIVEPATCH_GOLDEN_OBJECTS does not name kpatch's unit objects");
        return;
    };
    let mut wrong = Vec::new();
    for pair in ["meminfo-init", "meminfo-init2", "unique-id-pr-1314", "warn-detect"] {
        let read = |kind: &str| std::fs::read(objects.join(format!("{pair}.{kind}.o"))).unwrap();
        let (old, new) = (read("ORIG"), read("PATCHED.FAIL"));
        let shipped = ShippedModule::parse("vmlinux", &old).unwrap();
        match ours(&old, &new, &sizes(&Object::parse(&new).unwrap()), &shipped) {
            Err(refusal) => println!("refused  {pair}: {refusal}"),
            // `no change` is a verdict of its own.
            Ok(outcome) if !outcome.omitted.is_empty() => {
                println!("refused  {pair}: {}", outcome.omitted.join("; "));
            }
            Ok(outcome) if outcome.functions.is_empty() => println!("no change {pair}"),
            Ok(outcome) => {
                let names: Vec<_> = outcome.functions.keys().collect();
                println!("WRONG    {pair}: accepted, {names:?}");
                wrong.push(pair);
            }
        }
    }
    assert!(wrong.is_empty(), "accepted: {wrong:?}");
}
