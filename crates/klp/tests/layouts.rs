//! Every C file in `layouts/` is compiled twice with debug information, the second time with `-DPATCHED`, and its types
//! and functions must be as its directive comments say. Adding a case needs no Rust.
//!
//! ```c
//! // expect: layout PLACE: WHY          a type with another layout
//! // expect: follows TYPE: TYPE, …      a type that changed only because it holds these
//! // expect: renamed PLACE              a member with another name
//! // expect: constant NAME 1 -> 2       an enumeration's constant with another value
//! // expect: inlined f into g, h        copies of a function, in the patched compilation
//! // expect: no-code f                  a function that exists as copies only
//! // expect: none                       nothing of all this
//! // flags: -gdwarf-4                   more compiler options
//! ```

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#[expect(dead_code, reason = "what the tests over C cases share, of which this one does not need all")]
mod support;

use std::path::Path;

use livepatch_klp::debug::DebugInfo;
use livepatch_klp::debug::layout::{Fate, compare};
use livepatch_klp::elf::Object;
use support::{compile, directives};

fn judge(case: &Path) -> Vec<String> {
    let words = |text: &String| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let mut flags = vec!["-g".to_owned()];
    flags.extend(directives(case, "flags").iter().flat_map(words));
    let read = |patched| {
        let object = Object::parse(&compile(case, patched, &flags)).unwrap();
        DebugInfo::read(&object).unwrap().unwrap()
    };
    let (old, new) = (read(false), read(true));
    // Nothing differs from itself.
    assert_eq!(compare(&old, &old).unwrap(), Default::default(), "{}", case.display());

    let changes = compare(&old, &new).unwrap();
    let layouts = changes.layouts.iter().map(|change| match change.follows.as_slice() {
        _ if !change.is_layout() => {
            assert!(change.members.iter().all(|member| member.fate == Fate::Renamed));
            let names: Vec<&str> = change.members.iter().map(|member| member.name.as_str()).collect();
            format!("renamed {}.{}", change.name, names.join(", "))
        }
        [] => format!("layout {}: {}", change.place(), change.why()),
        follows => format!("follows {}: {}", change.name, follows.join(", ")),
    });
    let constants = changes.constants.iter().map(|c| format!("constant {} {} -> {}", c.name, c.old, c.new));
    let functions = new.functions();
    let inlined =
        functions.iter().filter(|(_, facts)| !facts.inlined_into.is_empty()).map(|(name, facts)| {
            let into: Vec<&str> = facts.inlined_into.iter().map(String::as_str).collect();
            format!("inlined {name} into {}", into.join(", "))
        });
    let no_code =
        functions.iter().filter(|(_, facts)| !facts.has_code).map(|(name, _)| format!("no-code {name}"));
    let mut out: Vec<String> = layouts.chain(constants).chain(inlined).chain(no_code).collect();
    out.sort();
    if out.is_empty() { vec!["none".to_owned()] } else { out }
}

#[test]
fn every_case_comes_out_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let mut expected = directives(path, "expect");
        expected.sort();
        let actual = judge(path);
        if actual != expected {
            let lines = |lines: &[String]| lines.join("\n    ");
            wrong.push(format!(
                "{}\n  expected\n    {}\n  but got\n    {}",
                path.display(),
                lines(&expected),
                lines(&actual)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(paths.len() > 10, "only {} cases were found", paths.len());
}

#[test]
fn an_object_without_debug_information_says_nothing() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts/aligned.c");
    let object = Object::parse(&compile(&case, false, &["-g0"])).unwrap();
    assert!(DebugInfo::read(&object).unwrap().is_none());
}

#[test]
fn functions_have_their_place_in_the_source() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts/inlined.c");
    for flags in [["-gdwarf-5"], ["-gdwarf-4"]] {
        let object = Object::parse(&compile(&case, false, &flags)).unwrap();
        let info = DebugInfo::read(&object).unwrap().unwrap();
        let (file, line) = info.functions()["other"].declared.clone().unwrap();
        assert!(file.ends_with("tests/layouts/inlined.c"), "{file}");
        let text = std::fs::read_to_string(&case).unwrap();
        assert!(text.lines().nth(line as usize - 1).unwrap().starts_with("int other("), "{line}");
    }
}
