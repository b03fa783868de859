//! The kernel's log as it came over the console.

/// Removes terminal control sequences and carriage returns.
pub fn strip_ansi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // CSI … final byte
                Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
                // charset selection has one more
                Some('(' | ')') => drop(chars.next()),
                _ => {}
            },
            '\r' => {}
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

/// A line of the kernel's log that a healthy kernel does not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelProblem {
    /// What kind of problem it is.
    pub kind: &'static str,
    /// The line.
    pub line: String,
}

/// What to look for, and what it means. The first that matches names the line.
const PATTERNS: [(&str, &str); 21] = [
    ("Kernel panic", "panic"),
    ("BUG:", "bug"),
    ("kernel BUG at", "bug"),
    ("Oops:", "oops"),
    ("WARNING:", "warning"),
    ("Unpatched return thunk", "return thunk"),
    ("general protection", "general protection fault"),
    ("traps: Missing ENDBR", "missing endbr"),
    ("control protection", "control protection fault"),
    ("invalid opcode", "invalid opcode"),
    ("unable to handle", "page fault"),
    ("stack segment", "stack fault"),
    ("symbol version", "symbol version"),
    ("disagrees about version of symbol", "symbol version"),
    ("Unknown symbol", "unknown symbol"),
    ("static_call", "static call"),
    ("jump_label: ", "jump label"),
    ("blocked for more than", "hung task"),
    ("soft lockup", "lockup"),
    ("detected stalls", "stall"),
    ("self-detected stall", "stall"),
];

/// Finds the lines of a kernel log that report a problem.
pub fn problems_in(log: &str) -> Vec<KernelProblem> {
    log.lines()
        .filter_map(|line| {
            let (_, kind) = PATTERNS.iter().find(|(pattern, _)| line.contains(pattern))?;
            Some(KernelProblem { kind, line: line.trim().to_string() })
        })
        .collect()
}

/// The line that best says why a kernel stopped.
pub(crate) fn panic_line(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| line.find("Kernel panic").map(|at| line[at..].trim()))
}

/// The last lines that are not empty.
pub(crate) fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_go() {
        assert_eq!(strip_ansi("\u{1b}c\u{1b}[?7l\u{1b}[2J[ 0.1] a\r\n\u{1b}(Bb\t\u{7}c"), "[ 0.1] a\nb\tc");
        assert_eq!(strip_ansi("cut \u{1b}["), "cut ");
    }

    #[test]
    fn problems_are_found_and_named() {
        let log = "[1.0] all well\n[2.0] WARNING: CPU: 0 PID: 1 at x\n[3.0] Unpatched return thunk in use. x\n\
                   [4.0] m: disagrees about version of symbol y\n";
        let kinds: Vec<_> = problems_in(log).iter().map(|p| p.kind).collect();
        assert_eq!(kinds, ["warning", "return thunk", "symbol version"]);
        assert_eq!(problems_in("ok\n"), []);
    }

    #[test]
    fn the_panic_is_quoted() {
        let log = "x\n[    2.1] Kernel panic - not syncing: No working init found.\n[ 2.2] Rebooting\n\n";
        assert_eq!(panic_line(log), Some("Kernel panic - not syncing: No working init found."));
        assert_eq!(last_lines(log, 1), "[ 2.2] Rebooting");
    }
}
