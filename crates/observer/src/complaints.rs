//! From records of the kernel's log to complaints about livepatches: a warning, bug or oops of which the head, the
//! instruction pointer or the reliable part of a call trace is in code of a livepatch, or in a function that it replaces.
//!
//! Not looked at: `Modules linked in`, which names every module; places with a `?`, which are old words on the stack; and
//! anything with a process's name in it, which it gives itself.

use livepatch_observer_api::{Complaint, plain};
use livepatch_types::ModuleName;

use crate::kmsg::Record;
use crate::{Frame, Livepatches};

/// How complaints begin (lib/bug.c, kernel/panic.c, arch/x86/kernel/traps.c and dumpstack.c, mm/kasan/report.c).
const HEADS: [&str; 11] = [
    "WARNING: ",
    "BUG: ",
    "watchdog: BUG: ",
    "kernel BUG at ",
    "Oops: ",
    "general protection",
    "invalid opcode",
    "divide error",
    "stack segment",
    "int3",
    "traps: PANIC",
];
/// How they end, mostly (`print_oops_end_marker`).
const END: &str = "---[ end trace ";
/// A complaint has no more lines than that.
const MOST_LINES: u32 = 256;
/// What comes later belongs to no complaint.
const LONGEST_US: u64 = 5_000_000;
/// How long what is known of livepatches is good for.
const FRESH_US: u64 = 1_000_000;
/// A chain of calls through more livepatches is not expected.
const MOST_NAMED: usize = 16;

/// Puts the lines of complaints together.
#[derive(Debug, Default)]
pub struct Complaints {
    open: Option<Open>,
    /// What was known at a time.
    known: Option<(u64, Livepatches)>,
}

#[derive(Debug)]
struct Open {
    title: String,
    began_us: u64,
    lines: u32,
    named: Vec<ModuleName>,
}

impl Complaints {
    /// Takes the next record; gives what it makes known. `look` says what livepatches there are.
    pub fn push(&mut self, record: Record<'_>, look: impl FnOnce() -> Livepatches) -> Vec<Complaint> {
        if !record.of_kernel {
            return Vec::new();
        }
        let text = record.text;
        let head = HEADS.iter().any(|head| text.starts_with(head));
        if head {
            let fresh = |(at, _): &(u64, Livepatches)| record.at_us.abs_diff(*at) < FRESH_US;
            if !self.known.as_ref().is_some_and(fresh) {
                self.known = Some((record.at_us, look()));
            }
            // The second head of one complaint: `BUG: unable to handle …`, then `Oops: …`.
            if self.open.as_ref().is_none_or(|open| !open.named.is_empty() || !text.starts_with("Oops: ")) {
                let (title, began_us) = (plain(text), record.at_us);
                self.open = Some(Open { title, began_us, lines: 0, named: Vec::new() });
            }
        }
        let Some(open) = &mut self.open else { return Vec::new() };
        open.lines += 1;
        let over = open.lines > MOST_LINES || record.at_us.saturating_sub(open.began_us) > LONGEST_US;
        if over || text.starts_with(END) {
            self.open = None;
            return Vec::new();
        }
        let known = self.known.as_ref().map(|(_, livepatches)| livepatches);
        let (Some(frame), Some(known)) = (place(text), known) else { return Vec::new() };
        let mut said = Vec::new();
        for livepatch in known.of(frame) {
            if open.named.len() < MOST_NAMED && !open.named.contains(&livepatch) {
                open.named.push(livepatch.clone());
                said.push(Complaint {
                    sequence: record.sequence,
                    at_us: record.at_us,
                    livepatch,
                    function: plain(frame.function),
                    title: open.title.clone(),
                });
            }
        }
        said
    }
}

/// The place in code that a line speaks of, if it is one of those that count.
fn place(text: &str) -> Option<Frame<'_>> {
    if let Some(rest) = text.strip_prefix("RIP: ") {
        return Frame::at_start(rest.split_once(':')?.1);
    }
    if text.starts_with("WARNING: CPU: ") {
        return Frame::within(text);
    }
    // A line of a call trace.
    Frame::at_start(text.strip_prefix(' ')?.trim_start())
}

#[cfg(test)]
mod tests;
