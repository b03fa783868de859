//! What the client says to people stands in a snapshot test, so that whoever changes it sees it as it is read: every text in the
//! sources of the programs that a host runs must occur in a snapshot of the same crate, with something in its placeholders.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod source;

use std::path::{Path, PathBuf};

use source::{Texts, could_make, fragments};

/// The crates whose messages reach the command line, and the files in them that talk to nobody but the journal.
const CRATES: [(&str, &[&str]); 3] =
    [("cli", &[]), ("agent", &["main.rs", "run.rs"]), ("loader", &["main.rs"])];

/// Texts that nobody reads: the beginning of each, and what it is.
const NOT_FOR_PEOPLE: [(&str, &str); 6] = [
    ("{method} {path} HTTP/1.1", "the head of a request"),
    ("Content-Type: application/json", "the head of a request"),
    ("text/plain; version", "the head of an answer"),
    ("root's {:?}", "the name of a request, for the journal"),
    ("state {changes}", "what an id is made from"),
    ("the file is too large", "for the journal"),
];

#[test]
fn every_message_is_in_a_snapshot() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut missing = String::new();
    let mut exempt = Vec::new();
    for (name, for_the_journal) in CRATES {
        let sources = files(&crates.join(name).join("src"));
        let tests = files(&crates.join(name).join("tests"));
        let read = |path: &PathBuf| Texts::of(&std::fs::read_to_string(path).unwrap());
        let snapshots: Vec<String> =
            sources.iter().chain(&tests).flat_map(|path| read(path).snapshots).collect();
        let lines: Vec<&str> = snapshots.iter().flat_map(|text| text.lines()).collect();
        let is_said = |path: &&PathBuf| {
            let file = path.file_name().unwrap().to_str().unwrap();
            file != "tests.rs" && !for_the_journal.contains(&file)
        };
        for path in sources.iter().filter(is_said) {
            for (at, message) in read(path).messages {
                if let Some((start, _)) = NOT_FOR_PEOPLE.iter().find(|(start, _)| message.starts_with(start))
                {
                    exempt.push(*start);
                    continue;
                }
                for line in message.lines() {
                    let Some(fragments) = fragments(line) else { continue };
                    if !lines.iter().any(|snapshot| could_make(&fragments, snapshot)) {
                        let path = path.strip_prefix(crates).unwrap().display();
                        missing += &format!("\ncrates/{path}:{at}: {line}");
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "these messages are in no snapshot of their crate:{missing}");
    let unused: Vec<_> = NOT_FOR_PEOPLE.iter().filter(|(start, _)| !exempt.contains(start)).collect();
    assert!(unused.is_empty(), "there is no such text any more: {unused:?}");
}

/// The Rust files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn what_counts_as_a_message() {
    let texts = Texts::of(
        r##"
        //! Not this one.
        #[derive(Debug, thiserror::Error)]
        enum Wrong {
            /// Nor this.
            #[error("it is {0}, and wrong")]
            One(u8),
        }
        const HINT: &str = "do this \
            and that";
        fn say(text: &str) -> String {
            tracing::info!(text, "for the journal");
            if text.strip_prefix("not said: ").is_some() { return "word".into() }
            format!("{text} is \"said\"")
        }
        #[cfg(test)]
        mod tests {
            const TEXT: &str = "of a test";
            fn test() { insta::assert_snapshot!(TEXT, @"a snapshot"); }
        }
        fn after() { println!("also {}", 1); }
        "##,
    );
    let messages: Vec<&str> = texts.messages.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(messages, ["it is {0}, and wrong", "do this and that", "{text} is \"said\"", "also {}"]);
    assert_eq!(texts.snapshots, ["a snapshot"]);
    let is_in = |template: &str, line: &str| could_make(&fragments(template).unwrap(), line);
    assert!(is_in("it is {0}, and {{wrong}}", "error: it is 7, and {wrong}"));
    assert!(!is_in("it is {0}, and wrong", "it is wrong, and 7"));
    assert_eq!(fragments("{a} {b}"), None);
}
