//! What is answered.

use livepatch_types::ModuleName;
use serde::{Deserialize, Serialize};

/// Most complaints in an answer.
pub const MAX_COMPLAINTS: usize = 64;
/// Most modules that were kept out in an answer.
pub const MAX_REFUSED: usize = 16;
/// Most tasks in an answer.
pub const MAX_HOLDERS: usize = 16;
/// Most functions of one task's stack.
pub const MAX_FRAMES: usize = 16;
/// Most characters of any text.
pub const MAX_TEXT: usize = 200;

/// What the kernel's log had to say of livepatches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The sequence number after the last record that was read.
    pub next: u64,
    /// How often records were overwritten before they could be read.
    pub gaps: u64,
    /// The newest complaints, the oldest first.
    pub complaints: Vec<Complaint>,
    /// Modules that the kernel kept out, the last ones, the oldest first. An earlier observer does not tell.
    #[serde(default)]
    pub refused: Vec<RefusedModule>,
}

/// A warning, bug or oops in which code of a livepatch has a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Sequence number of the record in which the code is named.
    pub sequence: u64,
    /// When, in microseconds since the boot.
    pub at_us: u64,
    /// The livepatch's module.
    pub livepatch: ModuleName,
    /// The function that is named.
    pub function: String,
    /// The first line of the complaint.
    pub title: String,
}

/// A module that the kernel kept out, because a livepatch that patches the module of that name could not go onto it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedModule {
    /// Sequence number of the record that says so.
    pub sequence: u64,
    /// The livepatch's module.
    pub livepatch: ModuleName,
    /// The module that was kept out.
    pub module: ModuleName,
}

/// What holds up a transition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// The livepatches in transition.
    pub livepatches: Vec<ModuleName>,
    /// Tasks that have not moved.
    pub holders: Vec<Holder>,
    /// How many more there are.
    pub more: u64,
}

/// A task that has not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub process: u32,
    /// Itself: that of the process for its first thread.
    pub thread: u32,
    /// Its name (`comm`), which it gives itself.
    pub name: String,
    /// The functions on its kernel stack, the innermost first; empty: it runs, or the kernel does not tell.
    pub stack: Vec<String>,
}

impl Seen {
    /// The same within the caps.
    pub(crate) fn capped(mut self) -> Self {
        let surplus = self.complaints.len().saturating_sub(MAX_COMPLAINTS);
        self.complaints.drain(..surplus);
        let surplus = self.refused.len().saturating_sub(MAX_REFUSED);
        self.refused.drain(..surplus);
        for complaint in &mut self.complaints {
            complaint.function = plain(&complaint.function);
            complaint.title = plain(&complaint.title);
        }
        self
    }
}

impl Stall {
    /// The same within the caps.
    pub(crate) fn capped(mut self) -> Self {
        let cut = self.holders.len().saturating_sub(MAX_HOLDERS);
        self.more = self.more.saturating_add(cut as u64);
        self.holders.truncate(MAX_HOLDERS);
        self.livepatches.truncate(MAX_HOLDERS);
        for holder in &mut self.holders {
            holder.name = plain(&holder.name);
            holder.stack.truncate(MAX_FRAMES);
            holder.stack.iter_mut().for_each(|function| *function = plain(function));
        }
        self
    }
}

/// A text as it may be shown and logged: printable ASCII, cut at [`MAX_TEXT`].
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(MAX_TEXT).map(shown).collect()
}
