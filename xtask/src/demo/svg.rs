//! A recorded session as a picture.

const FONT_SIZE: usize = 13;
const LINE_HEIGHT: usize = 18;
/// Of a glyph of the usual monospace fonts at that size, in tenths.
const GLYPH_WIDTH_TENTHS: usize = 79;
const MARGIN: usize = 14;
/// Longer lines go on in the next one.
const COLUMNS: usize = 120;

/// Styles by what a line says; the first that matches holds.
const STYLES: [(&str, &str); 4] =
    [("$ ", "command"), ("guest", "command"), ("vulnerable", "bad"), ("fixed", "good")];

/// Text as SVG, dark on light, the same bytes for the same text.
pub(crate) fn svg(text: &str) -> String {
    let lines: Vec<String> = text.lines().flat_map(fold).collect();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let width = longest * GLYPH_WIDTH_TENTHS / 10 + 2 * MARGIN;
    let height = lines.len() * LINE_HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>\n\
         text {{ font: {FONT_SIZE}px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1f2328; white-space: pre; }}\n\
         .command {{ font-weight: bold; }}\n\
         .bad {{ fill: #b3261e; }}\n\
         .good {{ fill: #116329; }}\n\
         </style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#f6f8fa\" stroke=\"#d0d7de\"/>\n"
    );
    for (index, line) in lines.iter().enumerate() {
        if !line.trim().is_empty() {
            let y = MARGIN + index * LINE_HEIGHT + FONT_SIZE;
            let class = class(line);
            let line = escape(line);
            svg.push_str(&format!(
                "<text x=\"{MARGIN}\" y=\"{y}\"{class} xml:space=\"preserve\">{line}</text>\n"
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line as several where it is too long, broken at spaces; what goes on is indented more.
fn fold(line: &str) -> Vec<String> {
    let said = line.trim_start();
    let indent = line.len() - said.len() + 2;
    let mut lines = vec![line[..line.len() - said.len()].to_owned()];
    for word in said.split_inclusive(' ') {
        let full = lines.last().is_some_and(|last| {
            !last.trim().is_empty() && last.chars().count() + word.trim_end().chars().count() > COLUMNS
        });
        if full {
            lines.push(" ".repeat(indent));
        }
        if let Some(last) = lines.last_mut() {
            last.push_str(word);
        }
    }
    lines
}

/// The style's attribute; the seconds in front of a command do not count.
fn class(line: &str) -> String {
    let said = line.split_once(" s  ").map_or(line, |(_, said)| said).trim_start();
    let style = STYLES.iter().find(|(start, _)| said.starts_with(start));
    style.map_or_else(String::new, |(_, class)| format!(" class=\"{class}\""))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let picture = svg("<script>&\u{1b}[1m\n");
        assert!(picture.contains(">&lt;script&gt;&amp; [1m</text>"), "{picture}");
        assert_eq!(picture, svg("<script>&\u{1b}[1m\n"));
    }

    #[test]
    fn long_lines_are_folded() {
        assert_eq!(fold("  a  b"), ["  a  b"]);
        assert_eq!(fold(""), [""]);
        let long = format!("  {}", "word ".repeat(30));
        let folded = fold(&long);
        assert_eq!(folded.len(), 2);
        assert!(folded.iter().all(|line| line.trim_end().len() <= COLUMNS), "{folded:?}");
        assert!(folded[1].starts_with("    word"));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&folded.concat()), words(&long));
    }

    #[test]
    fn lines_have_styles() {
        assert_eq!(class("$ cargo"), " class=\"command\"");
        assert_eq!(class("    0.1 s  guest# livepatch status"), " class=\"command\"");
        assert_eq!(class("           vulnerable: yes"), " class=\"bad\"");
        assert_eq!(class("           fixed: yes"), " class=\"good\"");
        assert_eq!(class("   10.0 s  boot"), "");
    }
}
