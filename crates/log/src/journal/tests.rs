use std::sync::Mutex;
use std::time::Duration;

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(to: &std::path::Path, stderr: &Lines, events: impl FnOnce()) {
    let (path, stderr) = (to.to_owned(), stderr.clone());
    let journal = move || Journal {
        socket: Arc::new(UnixDatagram::unbound().unwrap()),
        path: path.clone(),
        stderr: stderr.clone(),
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(journal)
        .event_format(ForTheJournal::new("livepatchd"));
    tracing::subscriber::with_default(log.finish(), events);
}

fn events() {
    tracing::error!(target: "loader", code = "x", "refused");
    tracing::warn!(target: "loader", "odd");
    tracing::info!(target: "loader", livepatch = %"livepatch_1_1", bytes = 7, "a livepatch is applied");
    tracing::debug!(target: "loader", "asked\nPRIORITY=0");
    tracing::warn!(target: "loader", code = "a\nMESSAGE=b\u{1b}[2J", "odd\nLIVEPATCH_CODE=c");
}

#[test]
fn fields_are_fields_of_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let stderr = Lines::default();
    log(&path, &stderr, events);
    let mut said = String::new();
    for _ in 0..3 {
        let mut bytes = [0; 4096];
        let length = journal.recv(&mut bytes).unwrap();
        said += std::str::from_utf8(&bytes[..length]).unwrap();
        said += "\n";
    }
    journal.set_nonblocking(true).unwrap();
    assert!(journal.recv(&mut [0]).is_err(), "no more than these");
    let expected = "PRIORITY=3\nMESSAGE=loader: refused code=\"x\"\nSYSLOG_IDENTIFIER=livepatchd\nLIVEPATCH_CODE=x\n\n\
        PRIORITY=6\nMESSAGE=loader: a livepatch is applied livepatch=livepatch_1_1 bytes=7\n\
        SYSLOG_IDENTIFIER=livepatchd\nLIVEPATCH_LIVEPATCH=livepatch_1_1\nLIVEPATCH_BYTES=7\n\n\
        PRIORITY=4\nMESSAGE=loader: odd LIVEPATCH_CODE=c code=\"a\\nMESSAGE=b\\u{1b}[2J\"\n\
        SYSLOG_IDENTIFIER=livepatchd\nLIVEPATCH_CODE=a MESSAGE=b [2J\n\n";
    assert_eq!(said, expected);
    assert_eq!(stderr.text(), "<4>loader: odd\n<7>loader: asked PRIORITY=0\n");
}

#[test]
fn a_journal_that_does_not_listen_has_the_lines() {
    let directory = tempfile::tempdir().unwrap();
    let stderr = Lines::default();
    log(&directory.path().join("nobody"), &stderr, events);
    let expected = "<3>loader: refused code=\"x\"\n<4>loader: odd\n\
        <6>loader: a livepatch is applied livepatch=livepatch_1_1 bytes=7\n<7>loader: asked PRIORITY=0\n\
        <4>loader: odd LIVEPATCH_CODE=c code=\"a\\nMESSAGE=b\\u{1b}[2J\"\n";
    assert_eq!(stderr.text(), expected);
}
