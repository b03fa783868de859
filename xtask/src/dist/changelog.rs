//! CHANGELOG.md in Debian's form.

use super::control::{Maintainer, Version};

/// The newest section of the changelog as an entry of a package, with its time as RFC 2822 has it.
pub(crate) fn debian(
    changelog: &str,
    package: &str,
    version: &Version,
    maintainer: &Maintainer,
    time: &str,
) -> String {
    let mut text = format!("{package} ({version}) unstable; urgency=medium\n\n");
    for item in newest_items(changelog) {
        text.push_str(&wrapped(&item.replace('`', ""), "  * ", "    "));
    }
    text.push_str(&format!("\n -- {maintainer}  {time}\n"));
    text
}

/// The items of the first `## ` section that has any, each on one line.
fn newest_items(changelog: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in changelog.lines() {
        match line.strip_prefix("- ") {
            Some(item) => items.push(item.trim().into()),
            None if line.starts_with("## ") && !items.is_empty() => break,
            None if line.starts_with("  ") => {
                if let Some(item) = items.last_mut() {
                    item.push(' ');
                    item.push_str(line.trim());
                }
            }
            None => {}
        }
    }
    items
}

/// Lines of at most 79 characters.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let (mut out, mut line) = (String::new(), first.to_owned());
    for word in text.split_whitespace() {
        if line.len() > rest.len() && line.chars().count() + 1 + word.chars().count() > 79 {
            out.push_str(line.trim_end());
            out.push('\n');
            line = rest.to_owned();
        }
        if !line.ends_with(' ') {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_section_is_the_entry() {
        let changelog = "# Changelog\n\n- not this:\n\n## Unreleased\n\n## 2.0\n\n### Added\n\n- `one`: is\n  long\n- two\n\n## 1.0\n\n- old\n";
        let changelog = changelog.replace("- not this:\n", "");
        assert_eq!(newest_items(&changelog), ["`one`: is long", "two"]);
        let (version, maintainer) = ("2.0".parse().unwrap(), "A B <a@b.org>".parse().unwrap());
        assert_eq!(
            debian(&changelog, "p", &version, &maintainer, "Tue, 24 Nov 2026 07:26:00 +0000"),
            "p (2.0) unstable; urgency=medium\n\n  * one: is long\n  * two\n\n -- A B <a@b.org>  \
             Tue, 24 Nov 2026 07:26:00 +0000\n"
        );
    }

    #[test]
    fn long_items_are_wrapped() {
        let text = wrapped(&"word ".repeat(40), "  * ", "    ");
        assert!(text.lines().all(|line| line.len() <= 79) && text.lines().count() == 3, "{text}");
        assert!(text.starts_with("  * word word") && text.contains("\n    word"));
    }
}
