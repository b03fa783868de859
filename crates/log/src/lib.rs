//! Floor 2: what the services log, on standard error: a line an event, its fields as `name=value` behind the message.
//!
//! Where standard error is the journal, each line begins with its priority (`<3>`, sd-daemon(3)), which the journal keeps as a
//! field (`journalctl --priority=err`), and has no time: the journal has its own. Fields of events are fields of the journal's then,
//! too: `code` is `LIVEPATCH_CODE`.

mod journal;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use self::journal::{ForTheJournal, Journal};

/// Where the journal listens, on every system that has it.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Begins to log what the filter lets through; once in a process, and before it gives up rights: a socket is made.
///
/// # Panics
/// When something logs already.
pub fn log_to_stderr(filter: EnvFilter) {
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let stderr = std::fs::metadata("/proc/self/fd/2").ok().map(|stderr| (stderr.dev(), stderr.ino()));
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let socket = UnixDatagram::unbound().ok().filter(|_| is_journal(&stream, stderr));
    let Some(socket) = socket else { return log.with_writer(std::io::stderr).init() };
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let socket = Arc::new(socket);
    let journal = move || Journal { socket: Arc::clone(&socket), path: JOURNAL, stderr: std::io::stderr() };
    log.event_format(ForTheJournal::new(&name)).with_writer(journal).init();
}

/// systemd names the journal's end of the pipe, by device and inode (systemd.exec(5)): what a service starts may have another one.
fn is_journal(stream: &str, stderr: Option<(u64, u64)>) -> bool {
    let number = |text: &str| text.parse().ok();
    let named = stream.split_once(':').and_then(|(device, inode)| Some((number(device)?, number(inode)?)));
    named.is_some() && named == stderr
}

#[cfg(test)]
mod tests {
    use super::*;

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
