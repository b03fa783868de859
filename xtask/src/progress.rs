//! Showing long steps: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step that is going on.
pub(crate) struct Step {
    what: String,
    bar: ProgressBar,
    started: Instant,
}

impl Step {
    /// Begins a step of unknown length.
    pub(crate) fn begin(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        Self::show(what.into(), bar)
    }

    /// Begins a step of so many bytes.
    pub(crate) fn begin_bytes(what: impl Into<String>, bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::show(what.into(), bar)
    }

    /// What it is doing right now; shown on a terminal only.
    pub(crate) fn note(&self, doing: &str) {
        self.bar.set_message(format!("{}: {doing}", self.what));
    }

    /// How far it is.
    pub(crate) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// The step is done; says what it took.
    pub(crate) fn done(self) {
        let what = self.what.clone();
        eprintln!("{what} ({:.1} s)", self.end());
    }

    /// The step is done and the line of it vanishes; gives the seconds that it took.
    pub(crate) fn end(self) -> f64 {
        self.bar.finish_and_clear();
        self.started.elapsed().as_secs_f64()
    }

    fn show(what: String, bar: ProgressBar) -> Self {
        bar.set_message(what.clone());
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { what, bar, started: Instant::now() }
    }
}
