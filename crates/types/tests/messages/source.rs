//! The string literals of Rust source that people read, and those that are snapshots.

use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::Lit;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Templates of messages: literals with more than one word, and the text of `#[error(…)]`, with the line they stand on.
    pub(crate) messages: Vec<(usize, String)>,
    /// First arguments of `Problem::new`.
    pub(crate) codes: Vec<(usize, String)>,
    /// Inline snapshots.
    pub(crate) snapshots: Vec<String>,
}

impl Texts {
    pub(crate) fn of(source: &str) -> Self {
        let mut texts = Self::default();
        texts.read(TokenStream::from_str(source).unwrap(), Place::Program);
        texts
    }

    fn read(&mut self, tokens: TokenStream, mut place: Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let outside = place;
        for (at, token) in tokens.iter().enumerate() {
            let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string()).unwrap_or_default();
            match token {
                TokenTree::Group(group) if is_attribute(group, &before) => {
                    let text = group.stream().to_string();
                    if text == "cfg (test)" || text == "cfg(test)" {
                        place = Place::Test;
                    } else if text.starts_with("error") {
                        self.read(group.stream(), outside);
                    }
                }
                TokenTree::Group(group) => {
                    // What is logged is for the journal.
                    if !(before(1) == "!" && before(4) == ":" && before(5) == "tracing" || before(5) == "tracing") {
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
                    } else if place == Place::Program {
                        if text.contains(char::is_whitespace) && text.contains(char::is_alphabetic) {
                            self.messages.push((line, text));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where a literal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Program,
    /// Behind `#[cfg(test)]`: snapshots count there, messages do not.
    Test,
}

fn is_attribute(group: &Group, before: &dyn Fn(usize) -> String) -> bool {
    group.delimiter() == Delimiter::Bracket && (before(1) == "#" || before(1) == "!" && before(2) == "#")
}
