//! probe
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]
mod source;
use source::Texts;
use std::path::{Path, PathBuf};

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for e in entries {
        let p = e.unwrap().path();
        if p.is_dir() { files(&p, into) } else if p.extension().is_some_and(|e| e == "rs") { into.push(p) }
    }
}

fn fragments(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' if chars.peek() == Some(&'{') => { chars.next(); out.last_mut().unwrap().push('{') }
            '}' if chars.peek() == Some(&'}') => { chars.next(); out.last_mut().unwrap().push('}') }
            '{' => { while chars.next().is_some_and(|c| c != '}') {} out.push(String::new()) }
            c => out.last_mut().unwrap().push(c),
        }
    }
    out
}

fn occurs(line: &str, fragments: &[String]) -> bool {
    let mut rest = line;
    for f in fragments {
        let f = f.as_str();
        match rest.find(f) { Some(at) => rest = &rest[at + f.len()..], None => return false }
    }
    true
}

#[test]
fn probe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut total = 0;
    for c in ["cli", "agent", "loader"] {
        let mut list = vec![];
        files(&root.join(c).join("src"), &mut list);
        let mut corpus = vec![];
        let mut tests = list.clone();
        files(&root.join(c).join("tests"), &mut tests);
        for t in &tests { corpus.extend(Texts::of(&std::fs::read_to_string(t).unwrap()).snapshots) }
        let lines: Vec<&str> = corpus.iter().flat_map(|t| t.lines()).collect();
        for f in list {
            if f.ends_with("tests.rs") { continue }
            for (n, m) in Texts::of(&std::fs::read_to_string(&f).unwrap()).messages {
                total += 1; if std::env::var("DBG").is_ok() { println!("MSG {}:{n}: {m:?}", f.display()) }
                for l in m.lines() {
                    let fr: Vec<String> = fragments(l.trim()).into_iter().collect();
                    if !l.contains(char::is_alphabetic) { continue }
                    if !lines.iter().any(|s| occurs(s, &fr)) { println!("MISSING {}:{n}: {l}", f.strip_prefix(root).unwrap().display()) }
                }
            }
        }
    }
    println!("total {total}");
}
