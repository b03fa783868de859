//! Floor 1: carving one fix out of two versions of a source file, so that nobody's patch text need be kept: the rule
//! names what of the difference is the fix.
//!
//! Invariant: text in, text out; needs nothing but a Rust compiler, because xtask uses it.

use similar::{DiffOp, TextDiff};

/// What of the difference is the fix.
#[derive(Debug, Clone, Copy)]
pub struct Rule<'a> {
    /// A text in a removed or an added line: the groups of changes with it are the fix.
    pub containing: &'a str,
    /// Of the group, only so many added lines are, from the first one with the text on.
    pub lines: Option<usize>,
}

/// Why there is nothing to carve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarveError {
    /// There is no difference.
    #[error("the two versions are the same")]
    Same,
    /// The difference does not have the rule's text.
    #[error("no change contains {0:?}")]
    NotFound(String),
    /// The wanted lines stand in the middle of others.
    #[error(
        "the {lines} lines from {containing:?} on are not the first or the last of their group of changes"
    )]
    Inside {
        /// The rule's text.
        containing: String,
        /// How many lines are wanted.
        lines: usize,
    },
}

/// A unified diff of two versions of the file at `path`, restricted to the changes that a rule names; without a
/// rule all are. Everything else stays as it was, so that the diff applies to the old version.
pub fn carve(path: &str, old: &str, new: &str, rule: Option<Rule>) -> Result<String, CarveError> {
    if old == new {
        return Err(CarveError::Same);
    }
    let (old_lines, new_lines): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let mut carved: Vec<&str> = Vec::new();
    let mut found = rule.is_none();
    for op in TextDiff::from_slices(&old_lines, &new_lines).ops() {
        let (before, after) = (&old_lines[op.old_range()], &new_lines[op.new_range()]);
        let group = match rule {
            _ if matches!(op, DiffOp::Equal { .. }) => None,
            None => Some(after.to_vec()),
            Some(rule) => restrict(before, after, rule)?,
        };
        found |= rule.is_some() && group.is_some();
        carved.extend(group.as_deref().unwrap_or(before));
    }
    match rule {
        Some(rule) if !found => Err(CarveError::NotFound(rule.containing.into())),
        _ => {
            let header = (format!("a/{path}"), format!("b/{path}"));
            let diff = TextDiff::from_lines(old, carved.concat())
                .unified_diff()
                .context_radius(3)
                .header(&header.0, &header.1)
                .to_string();
            Ok(diff)
        }
    }
}

/// What becomes of one group of changes: none if it has nothing of the fix.
fn restrict<'t>(
    before: &[&'t str],
    after: &[&'t str],
    rule: Rule,
) -> Result<Option<Vec<&'t str>>, CarveError> {
    let at = |lines: &[&str]| lines.iter().position(|line| line.contains(rule.containing));
    let Some(lines) = rule.lines else {
        let wanted = at(before).is_some() || at(after).is_some();
        return Ok(wanted.then(|| after.to_vec()));
    };
    let Some(first) = at(after) else { return Ok(None) };
    let wanted = after.get(first..first + lines);
    // Where old lines stand among added ones is known only at the ends of the group.
    match wanted {
        Some(wanted) if first == 0 => Ok(Some([wanted, before].concat())),
        Some(wanted) if first + lines == after.len() => Ok(Some([before, wanted].concat())),
        _ => Err(CarveError::Inside { containing: rule.containing.into(), lines }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
    const NEW: &str = "1\ntwo\n3\n4\n5\n6\n7\n8\nfix\n9\n";

    fn containing(text: &str) -> Option<Rule<'_>> {
        Some(Rule { containing: text, lines: None })
    }

    #[test]
    fn one_change_of_two() {
        let diff = carve("d/f.c", OLD, NEW, containing("fix")).unwrap();
        assert_eq!(diff, "--- a/d/f.c\n+++ b/d/f.c\n@@ -6,4 +6,5 @@\n 6\n 7\n 8\n+fix\n 9\n");
    }

    #[test]
    fn a_neighbour_in_the_context_stays_old() {
        let diff = carve("f", OLD, "1\ntwo\n3\n4\nfive\n6\n7\n8\n9\n", containing("five")).unwrap();
        assert_eq!(diff, "--- a/f\n+++ b/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    }

    #[test]
    fn removed_lines_count_and_all_changes_are_the_default() {
        assert!(carve("f", OLD, NEW, containing("2")).unwrap().contains("-2\n+two\n"));
        let all = carve("f", OLD, NEW, None).unwrap();
        assert!(all.contains("+two\n") && all.contains("+fix\n"));
    }

    #[test]
    fn nothing_to_carve_is_an_error() {
        assert_eq!(carve("f", OLD, OLD, None), Err(CarveError::Same));
        assert_eq!(carve("f", OLD, NEW, containing("zzz")), Err(CarveError::NotFound("zzz".into())));
    }

    #[test]
    fn so_many_lines_of_a_group() {
        let new = "1\n2\n3\n4\nif\n  fix\n\nFIVE\n6\n7\n8\n9\n";
        let part = |text, lines| carve("f", OLD, new, Some(Rule { containing: text, lines: Some(lines) }));
        assert_eq!(
            part("if", 3).unwrap(),
            "--- a/f\n+++ b/f\n@@ -2,6 +2,9 @@\n 2\n 3\n 4\n+if\n+  fix\n+\n 5\n 6\n 7\n"
        );
        assert!(part("FIVE", 1).unwrap().contains(" 5\n+FIVE\n 6\n"));
        let inside = |text: &str, lines| Err(CarveError::Inside { containing: text.into(), lines });
        assert_eq!(part("fix", 1), inside("fix", 1));
        assert_eq!(part("FIVE", 2), inside("FIVE", 2));
        assert_eq!(part("5", 1), Err(CarveError::NotFound("5".into())), "a removed line has none after it");
    }

    #[test]
    fn a_missing_newline_at_the_end_is_kept() {
        let diff = carve("f", "a\nb", "a\nc", None).unwrap();
        assert!(
            diff.ends_with("-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"),
            "{diff}"
        );
    }
}
