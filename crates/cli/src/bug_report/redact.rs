//! Takes out of a text what is private: secrets, and what names people, machines and networks. Pure.
//!
//! What cannot be told apart goes: a version in four parts looks like an address, and is taken out. Build-ids (40
//! hexadecimal digits) stay: they name what everybody has.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Words of this machine that are private. Found in any case, as whole words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Private {
    /// Its names.
    pub(crate) hosts: Vec<String>,
    /// Who has an account.
    pub(crate) users: Vec<String>,
}

/// One kind of private text: the length of it at the start of `text`, which begins a word, and its replacement.
type Rule = fn(&str) -> Option<(usize, &'static str)>;

/// The first that matches is taken; longer forms stand before their parts.
const RULES: [Rule; 7] = [token, uuid, mac, ipv6, ipv4, email, opaque];

/// Words before a value that is secret, each with what separates it.
const KEYWORDS: [&str; 4] = ["token", "password", "secret", "authorization"];

impl Private {
    /// The text without what is private.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        text.split_inclusive('\n').for_each(|line| self.redact_line(line, &mut out));
        out
    }

    fn redact_line(&self, line: &str, out: &mut String) {
        let lower = line.to_ascii_lowercase();
        let speaks_of_names = NAMING.iter().any(|word| lower.contains(word));
        let mut rest = line;
        let mut inside_word = false;
        while let Some(next) = rest.chars().next() {
            let named = || if speaks_of_names { name(rest) } else { None };
            let found = if inside_word { None } else { self.find(rest).or_else(named) };
            let (length, shown) = match found {
                Some((length, shown)) => (length, Shown::Instead(shown)),
                None => match marked(rest).or_else(|| value(rest).filter(|_| !inside_word)) {
                    Some((kept, length, shown)) => {
                        out.push_str(&rest[..kept]);
                        (kept + length, Shown::Instead(shown))
                    }
                    None => (next.len_utf8(), Shown::Itself),
                },
            };
            match shown {
                Shown::Instead(shown) => out.push_str(shown),
                Shown::Itself if next.is_control() && next != '\n' && next != '\t' => out.push(' '),
                Shown::Itself => out.push(next),
            }
            inside_word = rest[..length].chars().next_back().is_some_and(is_word);
            rest = &rest[length..];
        }
    }

    fn find(&self, text: &str) -> Option<(usize, &'static str)> {
        let literal = |words: &[String], shown| {
            let here = |word: &&String| {
                !word.is_empty()
                    && text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
                    && !text[word.len()..].starts_with(is_word)
            };
            words.iter().filter(here).map(|word| (word.len(), shown)).max()
        };
        // `db.example.org` is of `example.org`.
        let length = name_length(text);
        let below = |host: &&String| {
            let start = length.checked_sub(host.len()).filter(|start| *start > 0);
            let end = start.and_then(|start| text.get(start..length));
            end.is_some_and(|end| end.eq_ignore_ascii_case(host))
                && text[..length - host.len()].ends_with('.')
        };
        let below =
            self.hosts.iter().any(|host| !host.is_empty() && below(&host)).then_some((length, "[host]"));
        let known =
            below.or_else(|| literal(&self.hosts, "[host]")).or_else(|| literal(&self.users, "[user]"));
        RULES.iter().find_map(|rule| rule(text)).or(known)
    }
}

/// What a line speaks of that has names of machines: failures to find one, and certificates of another.
const NAMING: [&str; 5] = ["dns", "lookup", "resolve", "hostname", "certificate"];
/// Endings of names of files and units, which no domain has or which stay all the same.
const FILES: [&str; 12] =
    ["service", "socket", "timer", "target", "pem", "toml", "json", "pub", "conf", "rs", "so", "ko"];

/// How long the word at the start is, as names of machines are made (RFC 1123, 2.1).
fn name_length(text: &str) -> usize {
    let all = short_run(text, 253, |byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    text[..all].trim_end_matches(['.', '-']).len()
}

/// Whether a word looks like the name of a machine: labels, the last one of letters.
pub(super) fn is_name(word: &str) -> bool {
    let Some((rest, last)) = word.rsplit_once('.') else { return false };
    let of_letters = last.len() > 1 && last.bytes().all(|byte| byte.is_ascii_alphabetic());
    !rest.is_empty() && of_letters && !FILES.contains(&last) && name_length(word) == word.len()
}

/// The name of a machine in a line that speaks of such.
fn name(text: &str) -> Option<(usize, &'static str)> {
    let length = name_length(text);
    is_name(&text[..length]).then(|| whole(text, length, "[host]"))?
}

enum Shown {
    Itself,
    Instead(&'static str),
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// How many bytes at the start are of this kind.
fn run(text: &str, of: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| of(*byte)).count()
}

/// The same, looking at no more than `most` bytes: where a rule looks at a text again and again, word by word.
fn short_run(text: &str, most: usize, of: impl Fn(u8) -> bool) -> usize {
    text.bytes().take(most).take_while(|byte| of(*byte)).count()
}

fn hex(text: &str) -> usize {
    run(text, |byte| byte.is_ascii_hexdigit())
}

/// What is found ends where the word ends.
fn whole(text: &str, length: usize, shown: &'static str) -> Option<(usize, &'static str)> {
    (length > 0 && !text[length..].starts_with(is_word)).then_some((length, shown))
}

/// The server's tokens: 16 and 64 hexadecimal digits with a dot between them.
fn token(text: &str) -> Option<(usize, &'static str)> {
    (hex(text) == 16 && text[16..].starts_with('.') && hex(&text[17..]) == 64).then_some((81, "[secret]"))
}

fn uuid(text: &str) -> Option<(usize, &'static str)> {
    let mut length = 0;
    for (group, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 {
            length += usize::from(text[length..].starts_with('-'));
        }
        if hex(text.get(length..)?) != digits {
            return None;
        }
        length += digits;
    }
    (length == 36).then(|| whole(text, length, "[id]"))?
}

fn mac(text: &str) -> Option<(usize, &'static str)> {
    let bytes = text.as_bytes().get(..17)?;
    let fits = bytes.iter().enumerate().all(|(place, byte)| match place % 3 {
        2 => *byte == bytes[2] && matches!(byte, b':' | b'-'),
        _ => byte.is_ascii_hexdigit(),
    });
    fits.then(|| whole(text, 17, "[mac]"))?
}

fn ipv6(text: &str) -> Option<(usize, &'static str)> {
    let all = short_run(text, 45, |byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
    // A sentence or a port may follow: the longest start that is an address.
    let length = (2..=all).rev().find(|end| text[..*end].parse::<Ipv6Addr>().is_ok())?;
    whole(text, length, "[ip]")
}

fn ipv4(text: &str) -> Option<(usize, &'static str)> {
    let all = short_run(text, 15, |byte| byte.is_ascii_digit() || byte == b'.');
    let length = (7..=all).rev().find(|end| text[..*end].parse::<Ipv4Addr>().is_ok())?;
    Some((length, "[ip]"))
}

fn email(text: &str) -> Option<(usize, &'static str)> {
    // RFC 5321, 4.5.3.1.1: at most 64 bytes before the @.
    let name = short_run(text, 64, |byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    let host =
        run(text[name..].strip_prefix('@')?, |byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    (name > 0 && host > 0).then_some((name + 1 + host, "[email]"))
}

/// Long words that no person made up: hexadecimal ones that are no build-id (machine ids, keys), and those with capital
/// and small letters and digits.
fn opaque(text: &str) -> Option<(usize, &'static str)> {
    let digits = hex(text);
    if digits >= 32 && !text[digits..].starts_with(is_word) {
        return (digits != 40).then_some((digits, "[secret]"));
    }
    let of = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+/".contains(&byte);
    let word = &text[..short_run(text, 128, of)];
    let has = |of: fn(&u8) -> bool| word.bytes().any(|byte| of(&byte));
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    (word.len() >= 20 && mixed).then(|| (run(text, of), "[secret]"))
}

/// How long a name and a password before a machine may be, in bytes.
const MAX_USER_BYTES: usize = 512;

/// `://` and the machine behind it, with who asks it. A name and a password end with the last `@` of the word: what is in them may
/// look like an end before.
fn url(text: &str) -> Option<(usize, usize, &'static str)> {
    let mark = "://";
    let rest = text.strip_prefix(mark)?;
    let of_word = |byte: u8| byte != b'"' && !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    let word = &rest.as_bytes()[..short_run(rest, MAX_USER_BYTES, of_word)];
    let user = word.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    let host = run(&rest[user..], |byte| byte.is_ascii_graphic() && !b"/?#\"'<>)".contains(&byte));
    (user + host > 0).then_some((mark.len(), user + host, "[host]"))
}

/// A URL's machine, `/home/` and whose it is: what is kept, what goes, and what stands there instead.
fn marked(text: &str) -> Option<(usize, usize, &'static str)> {
    let behind = |mark: &str, ends: &[u8], shown| {
        let length = run(text.strip_prefix(mark)?, |byte| byte.is_ascii_graphic() && !ends.contains(&byte));
        (length > 0).then_some((mark.len(), length, shown))
    };
    url(text).or_else(|| behind("/home/", b"/\"':;,)", "[user]"))
}

/// `token = VALUE`, `"password": "VALUE"`, `Bearer VALUE`.
fn value(text: &str) -> Option<(usize, usize, &'static str)> {
    let starts = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let kept = if starts("bearer ") {
        7
    } else {
        let name = KEYWORDS.into_iter().find(|word| starts(word))?.len();
        let between = run(&text[name..], |byte| b"\"' :=".contains(&byte));
        let sets = text[name..name + between].contains([':', '=']);
        sets.then_some(name + between)?
    };
    let value = run(&text[kept..], |byte| byte.is_ascii_graphic() && !b"\"',;".contains(&byte));
    // "Authorization: Bearer VALUE": the next word is the value.
    let is_scheme = text[kept..].get(..6).is_some_and(|word| word.eq_ignore_ascii_case("bearer"));
    (value > 0 && !is_scheme).then_some((kept, value, "[secret]"))
}

#[cfg(test)]
mod tests;
