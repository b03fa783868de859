//! HTTP/1.1 over a Unix socket, as little of it as the daemon needs: one request, one answer with a length, close.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use livepatch_api::daemon::Failure;
use serde::de::DeserializeOwned;

use crate::CliError;
use crate::error::Daemon;

const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Sends a request and reads the value that answers it. After `deadline` the command goes on without an answer,
/// whatever the daemon does: connecting, writing and reading happen on a thread that is left behind.
pub(crate) fn ask<T: DeserializeOwned>(
    socket: &Path,
    request: Vec<u8>,
    deadline: Duration,
) -> Result<T, CliError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = socket.to_owned();
    let unreachable =
        |why: String| CliError::Unreachable { daemon: Daemon::Agent, socket: socket.to_owned(), why };
    let asking = std::thread::Builder::new().spawn(move || {
        // The receiver is gone when the deadline is over.
        let _ = sender.send(exchange(&path, &request));
    });
    asking.map_err(|error| unreachable(no_thread(&error)))?;
    let answer = match receiver.recv_timeout(deadline) {
        Err(_) => return Err(unreachable(format!("no answer within {} ms", deadline.as_millis()))),
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => return Err(CliError::NotPermitted),
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Ok(Ok(answer)) => answer,
    };
    let (code, body) = parse(&answer).map_err(|why| CliError::Answer(why.to_owned()))?;
    let not_json = |error: serde_json::Error| CliError::Answer(error.to_string());
    if code == 200 {
        serde_json::from_slice(body).map_err(not_json)
    } else {
        Err(CliError::Refused(serde_json::from_slice::<Failure>(body).map_err(not_json)?))
    }
}

/// Why nobody was asked on a machine that has no room for a thread: what can be said without one is said all the same.
pub(crate) fn no_thread(error: &std::io::Error) -> String {
    format!("no thread can be made to ask it: {error}")
}

/// The bytes of a request; with a body, a JSON one.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: livepatchd\r\nConnection: close\r\n");
    if method == "POST" {
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

fn exchange(socket: &Path, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status code and body of an answer with `Content-Length`.
fn parse(answer: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("it ends within its head")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "its head is not text")?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("it is not HTTP/1.1")?;
    let code = first.get(..3).and_then(|code| code.parse().ok()).ok_or("it has no status code")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if length == body.len() => Ok((code, body)),
        Some(_) => Err("its body ends early"),
        None => Err("it has no length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_thread() {
        let error = std::io::Error::other("so it is");
        insta::assert_snapshot!(no_thread(&error), @"no thread can be made to ask it: so it is");
    }

    #[test]
    fn answers() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Ok((200, &b"{}"[..])));
        assert_eq!(parse(b"HTTP/1.1 409 Conflict\r\ncontent-length:2\r\n\r\n{}"), Ok((409, &b"{}"[..])));
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            b"HTTP/1.1 xyz\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2\xc3\xa9\r\nContent-Length: 0\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn why_an_answer_is_not_understood() {
        let said = [
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"HTTP/1.1 2\xc3\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 xyz\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\n\r\n{}",
        ]
        .map(|answer| parse(answer).unwrap_err());
        insta::assert_snapshot!(said.join("\n"), @"
        it ends within its head
        its head is not text
        it is not HTTP/1.1
        it has no status code
        its body ends early
        it has no length
        ");
    }
}
