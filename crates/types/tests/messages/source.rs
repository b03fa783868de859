//! The string literals of Rust source that people read, and those that are snapshots.

use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::Lit;

/// Functions whose literals are looked for in other texts, or are forms of dates.
const NOT_SAID: [&str; 8] = [
    "contains",
    "starts_with",
    "ends_with",
    "strip_prefix",
    "strip_suffix",
    "split_once",
    "split",
    "strftime",
];

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Templates of messages, with the lines that they stand on: all literals of more than one word.
    pub(crate) messages: Vec<(usize, String)>,
    /// Inline snapshots.
    pub(crate) snapshots: Vec<String>,
}

/// What tokens belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Program,
    /// Behind `#[cfg(test)]`: snapshots count there, messages do not.
    Test,
}

impl Texts {
    pub(crate) fn of(source: &str) -> Self {
        let mut texts = Self::default();
        texts.read(TokenStream::from_str(source).unwrap(), Place::Program);
        texts
    }

    fn read(&mut self, tokens: TokenStream, outside: Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut place = outside;
        for (at, token) in tokens.iter().enumerate() {
            let before =
                |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string()).unwrap_or_default();
            match token {
                TokenTree::Group(group) if is_attribute(group, &before) => {
                    let words: Vec<TokenTree> = group.stream().into_iter().collect();
                    match words.first().map(ToString::to_string).as_deref() {
                        Some("cfg") if words[1].to_string() == "(test)" => place = Place::Test,
                        // What thiserror makes the text of an error; the others are for compilers and `--help`.
                        Some("error") => self.read(group.stream(), place),
                        _ => {}
                    }
                }
                TokenTree::Group(group) => {
                    // What is logged is for the journal.
                    let is_logged = before(1) == "!" && before(5) == "tracing";
                    if !is_logged && !NOT_SAID.contains(&before(1).as_str()) {
                        self.read(group.stream(), place);
                    }
                    if group.delimiter() == Delimiter::Brace {
                        place = outside;
                    }
                }
                TokenTree::Punct(end) if end.as_char() == ';' => place = outside,
                TokenTree::Literal(literal) => {
                    let Lit::Str(text) = Lit::new(literal.clone()) else { continue };
                    let (line, text) = (literal.span().start().line, text.value());
                    if before(1) == "@" {
                        self.snapshots.push(text);
                    } else if place == Place::Program && text.trim().contains(char::is_whitespace) {
                        self.messages.push((line, text));
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_attribute(group: &Group, before: &dyn Fn(usize) -> String) -> bool {
    group.delimiter() == Delimiter::Bracket && (before(1) == "#" || before(1) == "!" && before(2) == "#")
}

/// A line of a template as what stands between its placeholders; none: it has no words of its own.
pub(crate) fn fragments(line: &str) -> Option<Vec<String>> {
    let mut fragments = vec![String::new()];
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => fragments.last_mut()?.extend(chars.next()),
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                fragments.push(String::new());
            }
            c => fragments.last_mut()?.push(c),
        }
    }
    let has_words = fragments.iter().any(|text| text.contains(char::is_alphabetic));
    has_words.then_some(fragments)
}

/// Whether a template could have made part of this line.
pub(crate) fn could_make(fragments: &[String], line: &str) -> bool {
    let mut rest = line;
    fragments.iter().all(|fragment| {
        let found = rest.split_once(fragment.as_str());
        found.is_some_and(|(_, behind)| {
            rest = behind;
            true
        })
    })
}
