//! The journal, and what an event is for it.
//!
//! An event with fields goes over the journal's socket, in its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>):
//! each field under a name of its own, and the message as on standard error, with its fields behind it, so that `journalctl` without
//! options shows as much as before. (tracing-journald leaves them out of the message.) An event without fields goes over standard
//! error, a line with its priority: whose it is the journal knows then even if it was the last word of a process that is gone.

use std::fmt::{self, Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Before the name of each field.
const PREFIX: &str = "LIVEPATCH_";

/// Writes an event for the journal.
pub(crate) struct ForTheJournal {
    line: Format<Full, ()>,
    /// Whose log it is (`journalctl --identifier`).
    identifier: String,
}

impl ForTheJournal {
    pub(crate) fn new(identifier: &str) -> Self {
        let line = Format::default().without_time().with_level(false).with_ansi(false);
        Self { line, identifier: plain(identifier) }
    }
}

impl<S, N> FormatEvent<S, N> for ForTheJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.line.format_event(ctx, Writer::new(&mut line), event)?;
        let (priority, line) = (priority(*event.metadata().level()), plain(line.trim_end()));
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.0.is_empty() {
            return writeln!(to, "<{priority}>{line}");
        }
        writeln!(to, "PRIORITY={priority}")?;
        writeln!(to, "MESSAGE={line}")?;
        writeln!(to, "SYSLOG_IDENTIFIER={}", self.identifier)?;
        to.write_str(&fields.0)
    }
}

/// The fields of an event, a line each.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            let name = field.name().replace('.', "_").to_ascii_uppercase();
            let _ = writeln!(self.0, "{PREFIX}{name}={}", plain(value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// One line: another would be a field that somebody else made up.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// syslog(3)'s number.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Where events for the journal go.
pub(crate) struct Journal<P, E> {
    pub(crate) socket: Arc<UnixDatagram>,
    /// Where the journal listens.
    pub(crate) path: P,
    /// Standard error, which is the journal's too.
    pub(crate) stderr: E,
}

impl<P: AsRef<Path>, E: io::Write> io::Write for Journal<P, E> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // A journal that takes none of these has the line at least.
        if event.starts_with(b"<") {
            self.stderr.write_all(event)?;
        } else if self.socket.send_to(event, &self.path).is_err() {
            self.stderr.write_all(&line_of(event))?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

/// What is written to standard error of an event with fields.
fn line_of(event: &[u8]) -> Vec<u8> {
    let field = |name: &[u8]| {
        let mut lines = event.split(|byte| *byte == b'\n');
        lines.find_map(|line| line.strip_prefix(name)).unwrap_or_default()
    };
    [b"<", field(b"PRIORITY="), b">", field(b"MESSAGE="), b"\n"].concat()
}

#[cfg(test)]
mod tests;
