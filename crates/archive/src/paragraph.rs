//! Paragraphs of fields (deb822(5)), of which `Release` has one and `Packages` many.

use std::collections::BTreeMap;

/// One paragraph: fields by name in lower case, each with its first line and the lines that continue it.
#[derive(Debug, Default)]
pub(crate) struct Paragraph<'t> {
    fields: BTreeMap<String, (&'t str, Vec<&'t str>)>,
    /// A field that is there twice: which one is meant, nobody can say.
    pub(crate) doubled: Option<String>,
}

impl<'t> Paragraph<'t> {
    /// Reads the lines of one paragraph. Lines that are no field are passed over.
    pub(crate) fn parse(text: &'t str) -> Self {
        let mut out = Self::default();
        let mut last = None;
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                let lines = last.as_ref().and_then(|name| out.fields.get_mut(name));
                if let Some((_, lines)) = lines {
                    lines.push(line.trim());
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                last = None;
                continue;
            };
            let name = name.to_ascii_lowercase();
            if out.fields.insert(name.clone(), (value.trim(), Vec::new())).is_some() {
                out.doubled.get_or_insert_with(|| name.clone());
            }
            last = Some(name);
        }
        out
    }

    /// The text of a field on its own line; none when the field is not there, or empty.
    pub(crate) fn value(&self, name: &str) -> Option<&'t str> {
        self.fields.get(name).map(|(value, _)| *value).filter(|value| !value.is_empty())
    }

    /// The lines below a field.
    pub(crate) fn lines(&self, name: &str) -> Option<&[&'t str]> {
        self.fields.get(name).map(|(_, lines)| lines.as_slice())
    }
}

/// The paragraphs of a text, one after the other.
pub(crate) fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(|paragraph| paragraph.trim_matches('\n')).filter(|paragraph| !paragraph.is_empty())
}
