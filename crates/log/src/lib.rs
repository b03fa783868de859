//! Floor 2: what the services log, on standard error: a line an event, its fields as `name=value` behind the message.
//!
//! Where standard error is the journal, each line begins with its priority (`<3>`, sd-daemon(3)), which the journal keeps as a
//! field (`journalctl --priority=err`), and has no time: the journal has its own.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Begins to log what the filter lets through; once in a process.
///
/// # Panics
/// When something logs already.
pub fn log_to_stderr(filter: EnvFilter) {
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let stderr = std::fs::metadata("/proc/self/fd/2").ok().map(|stderr| (stderr.dev(), stderr.ino()));
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    if is_journal(&stream, stderr) { log.event_format(ForTheJournal::new()).init() } else { log.init() }
}

/// systemd names the journal's end of the pipe, by device and inode (systemd.exec(5)): what a service starts may have another one.
fn is_journal(stream: &str, stderr: Option<(u64, u64)>) -> bool {
    let number = |text: &str| text.parse().ok();
    let named = stream.split_once(':').and_then(|(device, inode)| Some((number(device)?, number(inode)?)));
    named.is_some() && named == stderr
}

struct ForTheJournal(Format<Full, ()>);

impl ForTheJournal {
    fn new() -> Self {
        Self(Format::default().without_time().with_level(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for ForTheJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(to, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(ctx, to, event)
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_for_the_journal() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(ForTheJournal::new());
        tracing::subscriber::with_default(log.finish(), || {
            tracing::error!(target: "loader", code = "x", "refused");
            tracing::warn!(target: "loader", "odd");
            tracing::info!(target: "loader", livepatch = %"livepatch_1_1", "a livepatch is applied");
            tracing::debug!(target: "loader", "asked");
            tracing::trace!(target: "loader", "asked");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let expected = "<3>loader: refused code=\"x\"\n<4>loader: odd\n\
            <6>loader: a livepatch is applied livepatch=livepatch_1_1\n<7>loader: asked\n<7>loader: asked\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_the_journal_is() {
        for (stream, stderr, expected) in [
            ("9:27", Some((9, 27)), true),
            ("9:27", Some((9, 28)), false),
            ("9:27", None, false),
            ("", None, false),
            ("9", Some((9, 27)), false),
            ("9:x", None, false),
        ] {
            assert_eq!(is_journal(stream, stderr), expected, "{stream} {stderr:?}");
        }
    }
}
