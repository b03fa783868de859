//! Every C file in `cases/` is compiled twice, the second time with `-DPATCHED`, and must come out as its directive
//! comments say. Adding a case needs no Rust.
//!
//! ```c
//! // expect: changed f, g        the functions to be redirected, in the order of the object; `none` for no change
//! // expect: added h, x.1        functions and variables that come along
//! // expect: ended-in k         functions that come along and that a redirected one jumps to as its end
//! // expect: outside u, v        symbols of the kernel that the livepatch needs
//! // expect: refused data-changed x    the rule and the place of the refusal
//! // expect: omitted init-changed f     a change that is left out, for a person to argue
//! // expect: padded f,16                bytes of no-operations that go along before redirected functions
//! // expect: section .discard.x 4       length in bytes of a section of the extracted object
//! // generic: -DGENERIC           takes functions with runtime constants from compilations with these options
//! // flags: -O1                  more compiler options
//! // shipped: -DSHIPPED          also proves the original against the case compiled with these options, and expects
//! // expect: redirects f,0       the places of the redirected functions, or
//! // expect: unresolved fidelity f   why there are none
//! ```

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use livepatch_klp::author::Marks;
use livepatch_klp::compare::compare;
use livepatch_klp::elf::{Object, Placement};
use livepatch_klp::extract::{Extracted, Original, extract, left_behind};
use livepatch_klp::resolve::{Context, resolve};
use livepatch_klp::second_compilation::{Pair, Reason, extract_second};
use livepatch_klp::shipped::{ShippedModule, prove};
use livepatch_klp::symvers::Exports;
use livepatch_klp::{Refusal, Rule, Unit};
use support::{SIZES, compile, directives};

/// The redirected functions with their places in a shipped kernel that exports everything else.
fn redirects(original: &Unit, extracted: &Extracted, shipped: &[u8]) -> Result<String, Refusal> {
    let shipped = ShippedModule::parse("vmlinux", shipped)?;
    let names = extracted.originals.values().filter_map(|original| match original {
        Original::External(name) => Some(format!("0x00000000\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n")),
        Original::Item(_) => None,
    });
    let exports = Exports::parse(&names.collect::<String>()).unwrap();
    let context = Context {
        original,
        fidelity: &prove(original, &shipped)?,
        shipped: &shipped,
        vmlinux: &shipped,
        modules: &BTreeMap::new(),
        exports: &exports,
        defined_elsewhere: &BTreeSet::new(),
    };
    let redirects = resolve(extracted, &context)?.redirects;
    let places: Vec<String> = redirects.iter().map(|r| format!("{},{}", r.name, r.sympos)).collect();
    Ok(places.join(" "))
}

/// How a case is judged, by its directives.
struct Directives {
    flags: Vec<String>,
    shipped: Option<Vec<String>>,
    generic: Option<Vec<String>>,
    /// Sections whose length is asked for.
    sections: Vec<String>,
}

/// Bytes of no-operations right before a function.
fn padding(object: &Object, name: &str) -> usize {
    let symbol = object.symbols.iter().find(|s| s.name == name).unwrap();
    let Placement::Section(section) = symbol.placement else { return 0 };
    let before = &object.sections[section].data[..symbol.value as usize];
    before.iter().rev().take_while(|b| **b == 0x90).count()
}

fn judge(case: &Path, directives: &Directives) -> Result<Vec<String>, Refusal> {
    let with = |more: &[String]| [directives.flags.as_slice(), more].concat();
    let unit = |patched, more: &[String]| Unit::parse(&compile(case, patched, &with(more)), &SIZES);

    let (original, patched) = (unit(false, &[])?, unit(true, &[])?);
    let comparison = compare(&original, &patched)?;
    let left_behind = left_behind(&original, &patched, &comparison);
    let omitted = comparison.omitted.iter().chain(&left_behind);
    let omitted: Vec<String> = omitted.map(|o| format!("omitted {} {}", o.rule.name(), o.place)).collect();
    let extracted = match (extract(&original, &patched, &comparison, 0), &directives.generic) {
        (Err(refusal), Some(more)) if refusal.rule == Rule::RuntimeConstant => {
            let (generic_original, generic_patched) = (unit(false, more)?, unit(true, more)?);
            let own = Pair { original: &original, patched: &patched };
            let generic = Pair { original: &generic_original, patched: &generic_patched };
            extract_second(own, &comparison, generic, 0, &[Reason::RuntimeConstants])?
        }
        (extracted, _) => extracted?,
    };
    let Some(extracted) = extracted else {
        return Ok([vec!["changed none".to_owned()], omitted].concat());
    };
    // What was extracted reads back and writes the same bytes again.
    let bytes = extracted.object.to_bytes();
    assert_eq!(Object::parse(&bytes).unwrap().to_bytes(), bytes);
    let redirects = directives.shipped.as_ref().map(|flags| {
        match redirects(&original, &extracted, &compile(case, false, flags)) {
            Ok(places) => format!("redirects {places}"),
            Err(refusal) => format!("unresolved {} {}", refusal.rule.name(), refusal.place),
        }
    });
    let list = |word: &str, names: Vec<String>| -> Option<String> {
        (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")))
    };
    let object = &extracted.object;
    let padded = extracted.functions.iter().map(|f| (&f.name, padding(object, &f.name)));
    let padded =
        padded.filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{name},{bytes}")).collect();
    let size = |name: &String| object.sections.iter().find(|s| s.name == *name).map_or(0, |s| s.size);
    let sections: Vec<String> =
        directives.sections.iter().map(|name| format!("section {name} {}", size(name))).collect();
    let marks = Marks::read(&patched)?;
    let states = marks.states.iter().map(|s| format!("{} version {}", s.id, s.version)).collect();
    let left_out = marks.left_out.iter().map(|l| format!("left out {}: {}", l.place, l.reason));
    let callbacks = extracted.callbacks.iter().map(|c| format!("{} {}", c.hook.field(), c.name)).collect();
    let added = extracted.added_functions.into_iter().chain(extracted.added_data).collect();
    Ok([
        list("changed", extracted.functions.into_iter().map(|f| f.name).collect()),
        list("added", added),
        list("callbacks", callbacks),
        list("states", states),
        list("ended-in", extracted.ended_in.into_iter().collect()),
        list("padded", padded),
        list("outside", extracted.originals.into_keys().filter(|name| name != "__fentry__").collect()),
    ]
    .into_iter()
    .flatten()
    .chain(sections)
    .chain(omitted)
    .chain(left_out)
    .chain(redirects)
    .collect())
}

#[test]
fn every_case_comes_out_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let directive = |name: &str| directives(path, name);
        let expected = directive("expect");
        assert!(!expected.is_empty(), "{} expects nothing", path.display());
        let words = |text: &String| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let sections = expected.iter().filter_map(|line| line.strip_prefix("section ")?.split(' ').next());
        let directives = Directives {
            flags: directive("flags").iter().flat_map(words).collect(),
            shipped: directive("shipped").first().map(words),
            generic: directive("generic").first().map(words),
            sections: sections.map(str::to_owned).collect(),
        };
        let actual = match judge(path, &directives) {
            Ok(lines) => lines,
            Err(refusal) => vec![format!("refused {} {}", refusal.rule.name(), refusal.place)],
        };
        if actual != expected {
            wrong.push(format!("{}\n  expected {expected:?}\n  but got  {actual:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(paths.len() > 10, "only {} cases were found", paths.len());
}
