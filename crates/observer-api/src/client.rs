//! Asking the observer: one connection, one request, one answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{REQUEST_BYTES, Request, Seen, Stall};

/// A longer answer is cut off, and then not understood. The longest within the caps has a tenth of that.
pub const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket is not there, or closed to us, or nobody answers in time.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// The answer is not one.
    #[error("its answer is not understood: {0}")]
    Answer(String),
}

/// The complaints from a sequence number on, and the modules that were kept out. Each write and read takes `bound` at most.
pub fn seen(socket: &Path, from: u64, bound: Duration) -> Result<Seen, AskError> {
    ask::<Seen>(socket, Request::Seen(from), Some(bound)).map(Seen::capped)
}

/// The same, as soon as there is one: however long that takes.
pub fn wait_for_more(socket: &Path, from: u64) -> Result<Seen, AskError> {
    ask::<Seen>(socket, Request::Wait(from), None).map(Seen::capped)
}

/// What holds up a transition now.
pub fn stall(socket: &Path, bound: Duration) -> Result<Stall, AskError> {
    ask::<Stall>(socket, Request::Stall, Some(bound)).map(Stall::capped)
}

fn ask<A: DeserializeOwned>(socket: &Path, request: Request, bound: Option<Duration>) -> Result<A, AskError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(bound)?;
    stream.set_write_timeout(bound)?;
    let bytes: [u8; REQUEST_BYTES] = request.to_bytes();
    stream.write_all(&bytes)?;
    let mut text = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut text)?;
    if text.is_empty() {
        return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    serde_json::from_slice(&text).map_err(|error| AskError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use livepatch_types::ModuleName;

    use super::*;
    use crate::{
        Complaint, Holder, MAX_COMPLAINTS, MAX_FRAMES, MAX_HOLDERS, MAX_REFUSED, MAX_TEXT, RefusedModule,
    };

    const BOUND: Duration = Duration::from_secs(10);

    /// Asks somebody who answers so.
    fn answered<A>(answer: Vec<u8>, ask: impl Fn(&Path) -> Result<A, AskError>) -> Result<A, AskError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; REQUEST_BYTES];
            stream.read_exact(&mut request).unwrap();
            // It may hang up before it has read all.
            let _ = stream.write_all(&answer);
        });
        let asked = ask(&path);
        thread.join().unwrap();
        asked
    }

    #[test]
    fn whoever_answers_the_caps_hold() {
        let name = ModuleName::parse("livepatch_1_1").unwrap();
        let long = "\u{1b}[31mü".repeat(100);
        let complaint = |sequence| Complaint {
            sequence,
            at_us: 0,
            livepatch: name.clone(),
            function: long.clone(),
            title: long.clone(),
        };
        let refused = |sequence| RefusedModule { sequence, livepatch: name.clone(), module: name.clone() };
        let (complaints, refused) = ((0..70).map(complaint).collect(), (0..70).map(refused).collect());
        let sent = Seen { next: 1, gaps: 0, complaints, refused };
        let got = answered(serde_json::to_vec(&sent).unwrap(), |path| seen(path, 0, BOUND)).unwrap();
        assert_eq!((got.complaints.len(), got.complaints[0].sequence), (MAX_COMPLAINTS, 6));
        assert_eq!((got.refused.len(), got.refused[0].sequence), (MAX_REFUSED, 54));
        assert_eq!(got.complaints[0].title.len(), MAX_TEXT);
        assert!(got.complaints[0].title.starts_with("?[31m?"), "{}", got.complaints[0].title);

        let holder = Holder { process: 1, thread: 1, name: long.clone(), stack: vec![long.clone(); 20] };
        let sent = Stall { livepatches: vec![name], holders: vec![holder; 20], more: 3 };
        let got = answered(serde_json::to_vec(&sent).unwrap(), |path| stall(path, BOUND)).unwrap();
        assert_eq!((got.holders.len(), got.more), (MAX_HOLDERS, 7));
        assert_eq!((got.holders[0].stack.len(), got.holders[0].name.len()), (MAX_FRAMES, MAX_TEXT));
    }

    #[test]
    fn an_earlier_observer_is_understood() {
        let sent = br#"{"next":7,"gaps":1,"complaints":[]}"#;
        let got = answered(sent.to_vec(), |path| seen(path, 0, BOUND)).unwrap();
        assert_eq!(got, Seen { next: 7, gaps: 1, ..Seen::default() });
    }

    #[test]
    fn no_answer_and_any_other_are_errors() {
        for (answer, code) in [
            (Vec::new(), "unreachable"),
            (b"{".to_vec(), "answer"),
            (b"{\"next\":1}".to_vec(), "answer"),
            (vec![b' '; 3 << 20], "answer"),
        ] {
            let error = answered(answer, |path| wait_for_more(path, 0)).unwrap_err();
            let said = if matches!(error, AskError::Unreachable(_)) { "unreachable" } else { "answer" };
            assert_eq!(said, code, "{error}");
        }
        let nobody = stall(Path::new("/no/such/socket"), BOUND);
        assert!(matches!(nobody, Err(AskError::Unreachable(_))));
    }
}
