//! What a Debian changelog says of a CVE.

use livepatch_types::CveId;

/// An item of the changelog that names the CVE.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The package version that it belongs to.
    pub(crate) version: String,
    /// Its text on one line, without the bullet.
    pub(crate) text: String,
}

/// The items that name a CVE, newest version first as in the changelog.
pub(crate) fn items_naming(changelog: &str, cve: &CveId) -> Vec<Item> {
    let id = cve.to_string();
    let mut items: Vec<Item> = Vec::new();
    let (mut version, mut open) = (String::new(), false);
    for line in changelog.lines() {
        let text = line.trim();
        if !line.starts_with(' ') {
            // "linux (6.1.192-2) bookworm-security; urgency=high"
            if let Some((_, rest)) = line.split_once(" (") {
                version = rest.split(')').next().unwrap_or_default().into();
            }
            open = false;
        } else if let Some(text) = ["- ", "* ", "+ "].iter().find_map(|bullet| text.strip_prefix(bullet)) {
            items.push(Item { version: version.clone(), text: text.into() });
            open = true;
        } else if text.is_empty() || text.starts_with("-- ") || text.starts_with('[') {
            open = false;
        } else if open && let Some(item) = items.last_mut() {
            item.text.push(' ');
            item.text.push_str(text);
        }
    }
    items.retain(|item| names(&item.text, &id));
    items
}

/// Whether the text has the id, and not a longer one that begins like it.
fn names(text: &str, id: &str) -> bool {
    text.match_indices(id).any(|(at, _)| !text[at + id.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "linux (6.1.192-1) bookworm-security; urgency=high

  * New upstream stable update:
    https://example.org/ChangeLog-6.1.191
    - net/sched: cls_u32: validate offshift to prevent shift-out-of-bounds
      (CVE-2026-74544)
    - other (CVE-2026-745441)

  [ Someone ]
  * d/control: unrelated

 -- Someone <s@example.org>  Mon, 16 Nov 2026 11:17:40 +0100
";

    #[test]
    fn items_are_joined_and_ids_are_whole() {
        let cve = CveId::parse("CVE-2026-74544").unwrap();
        let text = "net/sched: cls_u32: validate offshift to prevent shift-out-of-bounds (CVE-2026-74544)";
        assert_eq!(items_naming(CHANGELOG, &cve), [Item { version: "6.1.192-1".into(), text: text.into() }]);
        assert_eq!(items_naming(CHANGELOG, &CveId::parse("CVE-2026-7454").unwrap()), []);
    }
}
