//! The settings of the original client as its `config` prints them: YAML, a key with a text on each line. Only that much
//! of YAML is read; everything else is refused, for it would be guessed at. Pure.

/// Longest text.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Most keys; the original has eleven.
const MOST_KEYS: usize = 64;
const LONGEST_KEY: usize = 40;

/// Keys and values in their order. The error says in which line what is not understood.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let mut settings: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let wrong = |why: &str| format!("line {}: {why}", number + 1);
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') || (line == "---" && settings.is_empty()) {
            continue;
        }
        let (key, value) = line.split_once(':').ok_or_else(|| wrong("it is not KEY: VALUE"))?;
        let is_key = |c: char| c.is_ascii_lowercase() || c == '-';
        if key.is_empty() || key.len() > LONGEST_KEY || !key.chars().all(is_key) {
            return Err(wrong("it does not begin with a key"));
        }
        if !value.is_empty() && !value.starts_with(' ') {
            return Err(wrong("there is no space after the colon"));
        }
        if settings.iter().any(|(known, _)| known == key) {
            return Err(wrong(&format!("{key} is there twice")));
        }
        if settings.len() == MOST_KEYS {
            return Err(wrong("there are more than 64 keys"));
        }
        let value = match value.trim() {
            "|" | "|-" | "|+" => {
                let mut block = Vec::new();
                while let Some((_, line)) =
                    lines.next_if(|(_, line)| line.starts_with(' ') || line.trim().is_empty())
                {
                    block.push(line.trim_end());
                }
                unindented(&block).ok_or_else(|| wrong("the lines below it are not indented alike"))?
            }
            value => scalar(value).map_err(wrong)?,
        };
        if value.chars().any(|c| c.is_control() && c != '\n') {
            return Err(wrong("it has control characters"));
        }
        settings.push((key.to_owned(), value));
    }
    Ok(settings)
}

/// The text of indented lines, without empty ones at its end; none where one is indented less than the first.
fn unindented(lines: &[&str]) -> Option<String> {
    let first = lines.iter().find(|line| !line.is_empty());
    let depth = first.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
    let text = |line: &&str| match line.is_empty() {
        true => Some(String::new()),
        false => line
            .split_at_checked(depth)
            .filter(|(indent, _)| indent.trim().is_empty())
            .map(|(_, text)| text.to_owned()),
    };
    let lines: Option<Vec<String>> = lines.iter().map(text).collect();
    Some(lines?.join("\n").trim_end_matches('\n').to_owned())
}

/// A text in one line.
fn scalar(text: &str) -> Result<String, &'static str> {
    match text.chars().next() {
        // JSON's strings are YAML's; what YAML has beyond them no setting needs.
        Some('"') => serde_json::from_str(text).map_err(|_| "its quotes are not understood"),
        Some('\'') => {
            let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or("'");
            let plain = inner.replace("''", "");
            if plain.contains('\'') {
                Err("its quotes are not understood")
            } else {
                Ok(inner.replace("''", "'"))
            }
        }
        Some('>' | '|' | '&' | '*' | '!' | '{' | '[' | '%' | '@' | '`') => Err("its value is no plain text"),
        Some('#') => Ok(String::new()),
        _ => {
            let text = text.split(" #").next().unwrap_or_default().trim_end();
            Ok(if ["~", "null"].contains(&text) { String::new() } else { text.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use livepatch_api::legacy::scalar as printed;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_original_prints_is_read() {
        let text = "---\n# by hand\nhttp-proxy: \"\"\nno-proxy: localhost,10.0.0.0/8 # ours\nca-certs: |-\n  -----BEGIN\n\n  AAA=\n\
            \nremote-server: 'https://a.example:443'\ncheck-interval: 60\r\ncutoff-date: \"2026-01-01T00:00:00Z\"\npatch-delay:\nlog-level: ~\n";
        let read = parse(text).unwrap();
        let all = read.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect::<String>();
        insta::assert_snapshot!(all, @r#"
        http-proxy=""
        no-proxy="localhost,10.0.0.0/8"
        ca-certs="-----BEGIN\n\nAAA="
        remote-server="https://a.example:443"
        check-interval="60"
        cutoff-date="2026-01-01T00:00:00Z"
        patch-delay=""
        log-level=""
        "#);
    }

    #[test]
    fn everything_else_is_refused_by_its_line() {
        let long = format!("{}: 1", "k".repeat(41));
        let mut said = String::new();
        for text in [
            "{\"http-proxy\": 1}",
            "http-proxy",
            "http-proxy: a\nhttp-proxy: b",
            "http-proxy:a",
            "  http-proxy: a",
            "Http: a",
            &long,
            "no-proxy: [a, b]",
            "no-proxy: *other",
            "no-proxy: >\n  a",
            "no-proxy: \"a",
            "no-proxy: 'it's'",
            "no-proxy: '",
            "no-proxy: \"a\\u0007\"",
            "no-proxy:\n  - a",
            "ca-certs: |\n    a\n  b",
            "ca-certs: |\n   \u{e4}\n \u{e4}",
            "http-proxy: a\n---\n",
        ] {
            said += &format!("{}\n", parse(text).unwrap_err());
        }
        insta::assert_snapshot!(said, @"
        line 1: it does not begin with a key
        line 1: it is not KEY: VALUE
        line 2: http-proxy is there twice
        line 1: there is no space after the colon
        line 1: it does not begin with a key
        line 1: it does not begin with a key
        line 1: it does not begin with a key
        line 1: its value is no plain text
        line 1: its value is no plain text
        line 1: its value is no plain text
        line 1: its quotes are not understood
        line 1: its quotes are not understood
        line 1: its quotes are not understood
        line 1: it has control characters
        line 2: it is not KEY: VALUE
        line 1: the lines below it are not indented alike
        line 1: the lines below it are not indented alike
        line 2: it is not KEY: VALUE
        ");
        assert_eq!(parse(&" ".repeat(MAX_BYTES + 1)).unwrap_err(), "it has more than 1048576 bytes");
        let keys = |count: usize| -> String {
            let letters = |n: usize| [b'a' + (n / 26) as u8, b'a' + (n % 26) as u8].map(char::from);
            (0..count).map(|n| format!("{}: 1\n", letters(n).iter().collect::<String>())).collect()
        };
        assert_eq!(parse(&keys(64)).unwrap().len(), 64);
        assert_eq!(parse(&keys(65)).unwrap_err(), "line 65: there are more than 64 keys");
    }

    proptest! {
        /// What this client prints under the original's name is read back.
        #[test]
        fn what_is_printed_reads_back(value in "[ -~\n]{0,60}") {
            let read = parse(&format!("ca-certs: {}\n", printed(&value))).unwrap();
            prop_assert_eq!(read, [("ca-certs".to_owned(), value)]);
        }

        #[test]
        fn no_text_panics(text in "([a-z-]{0,4}[: |'\"\n>#-]{0,3}\\PC{0,6}\n?){0,8}") {
            let _ = parse(&text);
        }
    }
}
