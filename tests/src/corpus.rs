//! Cases out of the difference between two versions of a kernel's source. Nobody's patch text is kept anywhere: it is
//! made anew from the two trees.

use std::collections::BTreeSet;
use std::path::Path;

use similar::{ChangeTag, TextDiff};

use crate::kpatch::Verdict;

/// A patch to judge.
#[derive(Debug, Clone)]
pub struct Case {
    /// `file` or `fix`.
    pub kind: &'static str,
    /// The file, or the CVEs and the title.
    pub name: String,
    /// The patch.
    pub patch: String,
    /// Both versions of the file, for carving.
    texts: (String, String),
}

/// The C file that a unit is compiled from. Some directories compile what lies in another one
/// (`arch/x86/kvm/../../../virt/kvm/kvm_main.o`); patches name the file itself.
pub fn source_of(unit: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in unit.split('/') {
        match part {
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    path.strip_suffix(".o").map_or(path.clone(), |stem| format!("{stem}.c"))
}

/// The whole difference of each of these C files that changed.
pub fn whole_file_changes(older: &Path, newer: &Path, sources: &[String]) -> std::io::Result<Vec<Case>> {
    let mut out = Vec::new();
    for source in sources {
        let (Ok(old), Ok(new)) = (std::fs::read(older.join(source)), std::fs::read(newer.join(source)))
        else {
            continue;
        };
        let (Ok(old), Ok(new)) = (String::from_utf8(old), String::from_utf8(new)) else { continue };
        if old != new {
            let patch = unified(source, &old, &new);
            out.push(Case { kind: "file", name: source.clone(), patch, texts: (old, new) });
        }
    }
    Ok(out)
}

/// A unified diff of two versions of the file at `path`.
pub fn unified(path: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff().context_radius(3).header(&format!("a/{path}"), &format!("b/{path}")).to_string()
}

/// An entry of a Debian changelog about one fix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Title {
    text: String,
    cves: Vec<String>,
}

/// `- [x86] subsystem: what it does (CVE-2026-1, CVE-2026-2)`, possibly over several lines, of the versions after
/// `from`.
fn titles(changelog: &str, from: &str) -> Vec<Title> {
    let end = format!("({from})");
    let mut items: Vec<String> = Vec::new();
    for line in changelog.lines().take_while(|line| line.starts_with(' ') || !line.contains(&end)) {
        let trimmed = line.trim_start();
        match trimmed.strip_prefix("- ") {
            Some(start) => items.push(start.to_owned()),
            None if line.starts_with("      ") => {
                if let Some(last) = items.last_mut() {
                    last.push(' ');
                    last.push_str(trimmed);
                }
            }
            None => items.push(String::new()),
        }
    }
    let mut out = Vec::new();
    for item in items {
        let cves: Vec<String> = item
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with("CVE-"))
            .map(str::to_owned)
            .collect();
        let text = item.split(" (CVE-").next().unwrap_or_default();
        let text =
            if text.starts_with('[') { text.split_once("] ").map_or(text, |(_, rest)| rest) } else { text };
        if !cves.is_empty() {
            out.push(Title { text: text.to_owned(), cves });
        }
    }
    out
}

/// Words that can name code.
fn identifiers(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.len() > 4 && (word.contains('_') || text.contains(&format!("{word}()"))))
        .map(str::to_owned)
        .collect()
}

/// Single fixes: for each title with a CVE the file that its prefix names, and there the groups of changes that share
/// an identifier with the title, or the only group. Titles that name no file, or several, or a directory (`ipv6`), are
/// passed over.
pub fn fixes_by_title(changelog: &str, from: &str, files: &[Case]) -> Vec<Case> {
    let directories: BTreeSet<&str> = files
        .iter()
        .filter_map(|case| case.name.rsplit_once('/'))
        .flat_map(|(path, _)| path.split('/'))
        .collect();
    let mut out = Vec::new();
    for title in titles(changelog, from) {
        let Some((prefix, _)) = title.text.rsplit_once(": ") else { continue };
        let last = prefix.rsplit([' ', '/', ':']).next().unwrap_or_default();
        let stem =
            |path: &str| path.rsplit('/').next().unwrap_or_default().trim_end_matches(".c").replace('-', "_");
        let mut named = files.iter().filter(|case| stem(&case.name) == last.replace('-', "_"));
        let (Some(file), None) = (named.next(), named.next()) else { continue };
        if directories.contains(last) {
            continue;
        }
        if let Some(new) = select(&file.texts.0, &file.texts.1, &identifiers(&title.text)) {
            out.push(Case {
                kind: "fix",
                name: format!("{} {}", title.cves.join(" "), title.text),
                patch: unified(&file.name, &file.texts.0, &new),
                texts: (file.texts.0.clone(), new),
            });
        }
    }
    out
}

/// The old text with only those groups of changes that mention one of the names, in the change or around it, and what
/// these need of the others.
fn select(old: &str, new: &str, names: &BTreeSet<String>) -> Option<String> {
    let diff = TextDiff::from_lines(old, new);
    let groups = diff.grouped_ops(3);
    let mentions = |group: &Vec<similar::DiffOp>| {
        let mut text =
            group.iter().flat_map(|op| diff.iter_changes(op)).map(|change| change.value().to_owned());
        text.any(|line| names.iter().any(|name| line.contains(name.as_str())))
    };
    let mut wanted: Vec<bool> =
        if groups.len() == 1 { vec![true] } else { groups.iter().map(mentions).collect() };
    if !wanted.contains(&true) {
        return None;
    }
    let needs: Vec<Needs> = groups
        .iter()
        .map(|group| {
            let of = |tag: ChangeTag| {
                let changes = group.iter().flat_map(|op| diff.iter_changes(op));
                changes.filter(|c| c.tag() == tag).flat_map(|c| words(c.value())).collect::<BTreeSet<_>>()
            };
            let first = group.first().map_or(0, |op| op.old_range().start);
            Needs {
                function: function_at(old, first),
                added: of(ChangeTag::Insert),
                removed: of(ChangeTag::Delete),
            }
        })
        .collect();
    let (known, kept): (BTreeSet<&str>, BTreeSet<&str>) = (words(old).collect(), words(new).collect());
    while let Some(more) = (0..groups.len()).find(|&candidate| {
        let chosen = (0..groups.len()).filter(|&index| wanted[index]);
        !wanted[candidate]
            && chosen.clone().any(|chosen| needs[candidate].go_with(&needs[chosen], &known, &kept))
    }) {
        wanted[more] = true;
    }
    let chosen: BTreeSet<(usize, usize)> = groups
        .iter()
        .zip(&wanted)
        .filter(|(_, wanted)| **wanted)
        .flat_map(|(group, _)| group.iter().map(|op| (op.old_range().start, op.new_range().start)))
        .collect();
    let mut out = String::new();
    for op in diff.ops() {
        let is_chosen = chosen.contains(&(op.old_range().start, op.new_range().start));
        for change in diff.iter_changes(op) {
            let take = match change.tag() {
                ChangeTag::Equal => true,
                ChangeTag::Delete => !is_chosen,
                ChangeTag::Insert => is_chosen,
            };
            if take {
                out.push_str(change.value());
            }
        }
    }
    (out != old).then_some(out)
}

/// What ties one group of changes to others.
struct Needs<'t> {
    function: Option<&'t str>,
    added: BTreeSet<&'t str>,
    removed: BTreeSet<&'t str>,
}

impl Needs<'_> {
    /// Changes of one function go together, and those that share a name that comes or goes with them.
    fn go_with(&self, other: &Needs<'_>, known: &BTreeSet<&str>, kept: &BTreeSet<&str>) -> bool {
        self.function.is_some() && self.function == other.function
            || self.added.intersection(&other.added).any(|name| !known.contains(name))
            || self.removed.intersection(&other.removed).any(|name| !kept.contains(name))
    }
}

/// Words that C may take for names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// The line that begins the function around a line (from 0): the last one before it that starts like a definition.
fn function_at(text: &str, line: usize) -> Option<&str> {
    let begins =
        |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && line.contains('(');
    let before: Vec<&str> = text.lines().take(line + 1).collect();
    let found = before.iter().rev().take_while(|line| !line.starts_with('}')).find(|line| begins(line));
    found.copied()
}

/// At most `limit` of them, evenly spread.
pub fn spread<T>(all: Vec<T>, limit: Option<usize>) -> Vec<T> {
    let count = all.len();
    let limit = limit.unwrap_or(count).min(count);
    let wanted = |index: usize| limit > 0 && (index * limit) / count != ((index + 1) * limit) / count;
    all.into_iter().enumerate().filter(|(index, _)| wanted(*index)).map(|(_, item)| item).collect()
}

/// How one case came out, for the tables.
#[derive(Debug)]
pub struct Row {
    /// Name of the case.
    pub case: String,
    /// Our verdict.
    pub verdict: &'static str,
    /// The rules that it follows from; empty where nothing was found.
    pub rule: String,
    /// The reasons.
    pub why: String,
    /// kpatch's verdict; none when it was not asked, or had nothing to judge.
    pub kpatch: Option<Verdict>,
}

/// Our verdict, and the word of kpatch's that says the same.
const SAME: [(&str, &str); 3] = [("built_whole", "ok"), ("no_change", "no change"), ("refused", "refused")];

impl Row {
    /// Whether kpatch says something else. What is built without a hunk that cannot be in a livepatch is something else
    /// than all that kpatch says.
    fn differs(&self) -> bool {
        let theirs = self.kpatch.as_ref().map(Verdict::word);
        theirs.is_some_and(|theirs| !SAME.contains(&(self.verdict, theirs)))
    }

    /// Why our verdict is another: our rule, or what kpatch does not do. None when neither side gives a reason.
    pub fn explanation(&self) -> Option<String> {
        match &self.kpatch {
            _ if !self.rule.is_empty() => Some(format!("rule {}: {}", self.rule, self.why)),
            Some(Verdict::Refused(message)) if self.verdict != "failed" => Some(format!("kpatch: {message}")),
            _ => None,
        }
    }
}

/// All cases.
#[derive(Debug, Default)]
pub struct Tally {
    rows: Vec<Row>,
}

impl Tally {
    /// Adds a case.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// How many have this verdict of ours.
    pub fn count(&self, verdict: &str) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// How many compile, so that there is something to judge.
    pub fn compiled(&self) -> usize {
        self.rows.len() - self.count("does_not_compile")
    }

    /// How many have this verdict of kpatch's.
    pub fn theirs(&self, word: &str) -> usize {
        self.rows.iter().filter(|row| row.kpatch.as_ref().is_some_and(|v| v.word() == word)).count()
    }

    /// The cases where kpatch's verdict is another.
    pub fn differing(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.differs())
    }

    /// Our verdicts against kpatch's, then every case that was not built whole or where the two differ.
    pub fn table(&self) -> String {
        const VERDICTS: [&str; 7] = [
            "built_whole",
            "built_partial",
            "no_change",
            "no_effect",
            "refused",
            "failed",
            "does_not_compile",
        ];
        const THEIRS: [&str; 3] = ["ok", "no change", "refused"];
        let mut out = format!(
            "{:<17}{:>6}   kpatch:{:>5}{:>11}{:>9}\n",
            "verdict", "cases", "ok", "no change", "refused"
        );
        for verdict in VERDICTS {
            let both = |word: &str| {
                let same = |row: &&Row| row.kpatch.as_ref().is_some_and(|theirs| theirs.word() == word);
                self.rows.iter().filter(|row| row.verdict == verdict).filter(same).count()
            };
            let [ok, no_change, refused] = THEIRS.map(both);
            let line = format!(
                "{verdict:<17}{:>6}          {ok:>5}{no_change:>11}{refused:>9}\n",
                self.count(verdict)
            );
            out.push_str(&line);
        }
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        out.push_str("\nnot built whole:\n");
        for row in self.rows.iter().filter(|r| !matches!(r.verdict, "built_whole" | "does_not_compile")) {
            out.push_str(&format!("  {:<14} {} {}: {}\n", row.verdict, row.case, row.rule, first(&row.why)));
        }
        out.push_str("\nwhere kpatch's verdict is another:\n");
        for row in self.differing() {
            let theirs = row.kpatch.as_ref().map_or("-", Verdict::word);
            let why = row.explanation().unwrap_or_else(|| "UNEXPLAINED".into());
            out.push_str(&format!("  {:<14} {theirs:<10} {} {}\n", row.verdict, row.case, first(&why)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "linux (6.1.9-1) bookworm; urgency=high\n\n  * New upstream:\n    - net/sched: cls_u32: check\n      offset (CVE-2026-1111)\n    - [x86] kvm: foo_bar() again (CVE-2026-2222,\n      CVE-2026-3333)\n    - no number here\n\nlinux (6.1.8-1) bookworm; urgency=low\n\n    - old: thing (CVE-2025-1)\n";

    #[test]
    fn a_unit_is_made_from_a_file() {
        assert_eq!(source_of("kernel/fork.o"), "kernel/fork.c");
        assert_eq!(source_of("arch/x86/kvm/../../../virt/kvm/kvm_main.o"), "virt/kvm/kvm_main.c");
    }

    #[test]
    fn titles_end_at_the_older_version() {
        let read = titles(CHANGELOG, "6.1.8-1");
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].text, "net/sched: cls_u32: check offset");
        assert_eq!(
            read[1],
            Title {
                text: "kvm: foo_bar() again".into(),
                cves: vec!["CVE-2026-2222".into(), "CVE-2026-3333".into()]
            }
        );
    }

    #[test]
    fn verdicts_that_differ_are_explained_or_said_not_to_be() {
        let row = |verdict, rule: &str, kpatch| Row {
            case: format!("{verdict}.c"),
            verdict,
            rule: rule.into(),
            why: "why\nmore".into(),
            kpatch,
        };
        let mut tally = Tally::default();
        tally.add(row("built_whole", "", Some(Verdict::Ok)));
        tally.add(row("built_whole", "", Some(Verdict::Refused("no".into()))));
        tally.add(row("built_partial", "init-changed", Some(Verdict::Refused("no".into()))));
        tally.add(row("no_change", "", Some(Verdict::NoChange)));
        tally.add(row("no_change", "", Some(Verdict::Ok)));
        tally.add(row("failed", "", Some(Verdict::Refused("no".into()))));
        tally.add(row("does_not_compile", "", None));
        assert_eq!((tally.compiled(), tally.theirs("refused"), tally.theirs("ok")), (6, 3, 2));
        let reasons: Vec<Option<String>> = tally.differing().map(Row::explanation).collect();
        let expected = [Some("kpatch: no".into()), Some("rule init-changed: why\nmore".into()), None, None];
        assert_eq!(reasons, expected);
        let table = tally.table();
        assert!(table.contains("built_whole           2              1          0        1\n"), "{table}");
        assert!(table.contains("  no_change      ok         no_change.c UNEXPLAINED\n"), "{table}");
        assert!(
            table.contains("  built_partial  refused    built_partial.c rule init-changed: why\n"),
            "{table}"
        );
    }

    #[test]
    fn only_groups_that_share_a_name_are_taken() {
        let pad = |n: usize| "x\n".repeat(n);
        let old = format!("{}foo_bar 1\n{}other_name 1\n{}", pad(5), pad(20), pad(5));
        let new = old.replace('1', "2");
        let selected = select(&old, &new, &identifiers("kvm: foo_bar() again")).unwrap();
        assert!(selected.contains("foo_bar 2") && selected.contains("other_name 1"));
        assert_eq!(select(&old, &new, &identifiers("no names")), None);
    }

    #[test]
    fn what_a_change_needs_comes_along() {
        let pad = "\n".repeat(9);
        let old =
            format!("int f(void)\n{{\n{pad}\treturn foo_bar();\n}}\n{pad}int g(void)\n{{\n\treturn 2;\n}}\n");
        let new = old.replace("{\n\n", "{\n\tint r;\n\n").replace("foo_bar()", "foo_bar() + NEW_ONE");
        let new = format!("#define NEW_ONE 1\n{}", new.replace("return 2", "return 3"));
        let selected = select(&old, &new, &identifiers("f: foo_bar()")).unwrap();
        assert!(selected.contains("int r;"), "the same function: {selected}");
        assert!(selected.contains("#define NEW_ONE"), "the only one that defines it: {selected}");
        assert!(selected.contains("return 2"), "another function: {selected}");
    }
}
