//! What the demo says: printed as it happens, and kept as the record of the session.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use crate::error::Error;
use crate::progress::Step;

/// Below the column with the seconds.
const INDENT: &str = "           ";

/// The session so far.
pub(crate) struct Session {
    text: String,
}

impl Session {
    /// Begins with the command that a newcomer typed.
    pub(crate) fn begin() -> Self {
        Self { text: "$ cargo xtask demo\n".into() }
    }

    /// A step that takes time; gives its result and its seconds.
    pub(crate) fn step<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&Step) -> Result<T, Error>,
    ) -> Result<(T, f64), Error> {
        if !std::io::stderr().is_terminal() {
            eprintln!("... {what}");
        }
        let step = Step::begin(what);
        let result = work(&step);
        self.took(what, step.end(), result)
    }

    /// A step that shows its own progress.
    pub(crate) fn shown<T>(
        &mut self,
        what: &str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<(T, f64), Error> {
        let started = Instant::now();
        let result = work();
        self.took(what, started.elapsed().as_secs_f64(), result)
    }

    fn took<T>(&mut self, what: &str, seconds: f64, result: Result<T, Error>) -> Result<(T, f64), Error> {
        let result = result?;
        self.print(&format!("{seconds:>7.1} s  {what}"));
        Ok((result, seconds))
    }

    /// What came of a step: lines below it.
    pub(crate) fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.print(format!("{INDENT}{line}").trim_end());
        }
    }

    /// All that was said.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn print(&mut self, line: &str) {
        // A reader that went away does not stop the demo.
        let _ = writeln!(std::io::stdout(), "{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_kept() {
        let mut session = Session::begin();
        let (seven, seconds) = session.step("count", |_| Ok(7)).unwrap();
        session.say("a\n\nb");
        assert_eq!((seven, seconds < 60.0), (7, true));
        let kept = session.text().replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(kept, "$ cargo xtask demo\n    0.0 s  count\n           a\n\n           b\n");
    }

    #[test]
    fn a_failed_step_says_nothing() {
        let mut session = Session::begin();
        let failed = session.step("x", |_| Err::<(), _>(Error::Config("no".into())));
        assert!(failed.is_err());
        assert_eq!(session.text(), "$ cargo xtask demo\n");
    }
}
