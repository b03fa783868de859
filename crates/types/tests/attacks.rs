//! Every attack test is in the table of docs/THREAT-MODEL.md, and every one that is there is a test.

use std::collections::BTreeSet;
use std::path::Path;

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Words that begin with `attack_` in a text, each after what must stand before it.
fn attacks<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
    let begin = format!("{before}attack_");
    text.match_indices(&begin).map(|(at, _)| at).collect::<Vec<_>>().into_iter().map(move |at| {
        let word = &text[at + before.len()..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
        &word[..end]
    })
}

fn tests_below(directory: &Path, found: &mut BTreeSet<String>) -> TestResult {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            tests_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(attacks(&std::fs::read_to_string(&path)?, "fn ").map(str::to_owned));
        }
    }
    Ok(())
}

#[test]
fn the_threat_model_names_every_attack_test() -> TestResult {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for directory in ["crates", "tests"] {
        tests_below(&workspace.join(directory), &mut tests)?;
    }
    assert!(tests.len() > 24, "{tests:?}");
    let text = std::fs::read_to_string(workspace.join("docs/THREAT-MODEL.md"))?;
    let named: BTreeSet<_> = attacks(&text, "`").map(str::to_owned).collect();
    let listed: Vec<_> = tests.difference(&named).collect();
    assert!(listed.is_empty(), "not in docs/THREAT-MODEL.md: {listed:?}");
    // `attack_…` is how the table speaks of all of them.
    let gone: Vec<_> = named.difference(&tests).filter(|name| *name != "attack_").collect();
    assert!(gone.is_empty(), "docs/THREAT-MODEL.md names tests that are not there: {gone:?}");
    Ok(())
}
