//! `PUT /enable?auth-token=…` and `PUT /disable`, as programs ask that know root's socket of the snap.
//!
//! systemd starts this for each connection, as root, with the connection as standard input: what only root may tell the
//! loader is told by root, and the daemon passes on nothing in root's name. A failure is answered with the text that
//! those programs show.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use livepatch_types::Redacted;

use super::message;
use crate::act::Daemons;
use crate::{CliError, Exit, token};

/// A token has 4 KiB at most; this is what a request may have around it.
const MAX_REQUEST_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long a request may take to come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a peer has to take the answer and hang up.
const LINGER: Duration = Duration::from_secs(1);

const UNKNOWN: &str = "unknown request; there are PUT /enable?auth-token=… and PUT /disable\n";
const NO_TOKEN: &str = "auth-token is not a token\nhint: a token is of printable characters without spaces; the server's operator gives one out\n";
const NOT_ROOT: &str = "only root may do this\nhint: use sudo\n";

/// What is asked for.
#[derive(Debug)]
enum Asked {
    Enable(Redacted<String>),
    Disable,
}

/// Status code, the reason beside it (RFC 9110), and a text for people.
type Said = (u16, &'static str, String);

/// Answers the one request of the connection that is standard input.
pub(super) fn answer(daemons: &Daemons<'_>) -> Result<Exit, CliError> {
    let connection = std::io::stdin().as_fd().try_clone_to_owned();
    let mut stream = UnixStream::from(connection.map_err(|error| CliError::Connection(error.to_string()))?);
    // Nothing is done for a peer that the kernel does not name; what is no socket has none.
    let peer = rustix::net::sockopt::socket_peercred(&stream)
        .map_err(|error| CliError::Connection(error.to_string()))?;
    let said = if peer.uid.is_root() {
        read(&mut stream).and_then(|asked| act(daemons, asked))
    } else {
        Err(not_root())
    };
    let (exit, said) = match said {
        Ok(()) => (Exit::Ok, (200, "OK", String::new())),
        Err(said) => (Exit::Failed, said),
    };
    stream.write_all(in_http(said).as_bytes())?;
    hang_up(&mut stream);
    Ok(exit)
}

/// Who closes a connection with bytes unread breaks it off, and the peer may not see the answer: what else it sent is read away.
fn hang_up(stream: &mut UnixStream) {
    let until = Instant::now() + LINGER;
    let mut buffer = [0; 4096];
    let _ = stream.shutdown(Shutdown::Write);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn act(daemons: &Daemons<'_>, asked: Asked) -> Result<(), Said> {
    let done = match asked {
        Asked::Enable(token) => daemons.enable(token).map(drop),
        Asked::Disable => daemons.disable(),
    };
    done.map_err(|error| failure(&error))
}

fn failure(error: &CliError) -> Said {
    let (code, reason) = match error {
        CliError::Refused(failure) if ["not-enabled", "already-enabled"].contains(&failure.code.as_str()) => {
            (409, "Conflict")
        }
        _ => (500, "Internal Server Error"),
    };
    (code, reason, message(error))
}

/// Reads until the request is whole, its body too, which nobody looks at.
fn read(stream: &mut UnixStream) -> Result<Asked, Said> {
    let until = Instant::now() + REQUEST_DEADLINE;
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(asked) = parse(&request)? {
            return Ok(asked);
        }
        let left = until.saturating_duration_since(Instant::now());
        let length = match stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer)) {
            Ok(0) | Err(_) => return Err(bad("the request ends early, or takes longer than ten seconds\n")),
            Ok(length) => length,
        };
        request.extend_from_slice(&buffer[..length]);
    }
}

/// What is asked for, once all of it is there.
fn parse(request: &[u8]) -> Result<Option<Asked>, Said> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(request) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if request.len() < MAX_REQUEST_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(bad("the request has more than 16 KiB\n")),
        Err(error) => return Err(bad(&format!("the request is not HTTP/1.1: {error}\n"))),
    };
    let mut body = 0;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("a request here has no body\n"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let bytes = std::str::from_utf8(header.value).ok().and_then(|value| value.trim().parse().ok());
            body = bytes
                .filter(|bytes| *bytes <= MAX_REQUEST_BYTES)
                .ok_or_else(|| bad("a request here has no body\n"))?;
        }
    }
    if request.len() < length + body {
        return Ok(None);
    }
    let (path, query) =
        head.path.unwrap_or_default().split_once('?').unwrap_or((head.path.unwrap_or_default(), ""));
    match (head.method, path) {
        (Some("PUT"), "/enable") => enable(query).map(Some),
        (Some("PUT"), "/disable") => Ok(Some(Asked::Disable)),
        _ => Err((404, "Not Found", UNKNOWN.to_owned())),
    }
}

fn enable(query: &str) -> Result<Asked, Said> {
    let mut tokens = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "auth-token");
    // What is wrong with a query is not told in its own words: the token is in it.
    match (tokens.next().map(|(_, value)| token::check(&value)), tokens.next()) {
        (Some(Ok(token)), None) => Ok(Asked::Enable(token)),
        _ => Err(bad(NO_TOKEN)),
    }
}

fn in_http((code, reason, text): Said) -> String {
    let length = text.len();
    format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
    )
}

fn bad(text: &str) -> Said {
    (400, "Bad Request", text.to_owned())
}

fn not_root() -> Said {
    (403, "Forbidden", NOT_ROOT.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_whole() {
        let asked = |text: &str| match parse(text.as_bytes()) {
            Ok(Some(Asked::Enable(token))) => format!("enable {}", token.expose()),
            Ok(Some(Asked::Disable)) => "disable".to_owned(),
            Ok(None) => "more".to_owned(),
            Err((code, _, text)) => format!("{code} {}", text.lines().next().unwrap_or_default()),
        };
        let long = "a".repeat(MAX_REQUEST_BYTES);
        for (request, expected) in [
            ("", "more"),
            ("PUT /disable HTTP/1.1\r\nHost: x\r\n", "more"),
            ("PUT /disable HTTP/1.1\r\nHost: x\r\n\r\n", "disable"),
            ("PUT /disable?x=1 HTTP/1.0\r\n\r\n", "disable"),
            ("PUT /disable HTTP/1.1\r\nContent-Length: 2\r\n\r\n{", "more"),
            ("PUT /disable HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", "disable"),
            ("PUT /enable?auth-token=a-token HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "enable a-token"),
            ("PUT /enable?other=1&auth-token=a%2Dtoken%2B HTTP/1.1\r\n\r\n", "enable a-token+"),
            ("PUT /enable HTTP/1.1\r\n\r\n", "400 auth-token is not a token"),
            ("PUT /enable?auth-token= HTTP/1.1\r\n\r\n", "400 auth-token is not a token"),
            ("PUT /enable?auth-token=a%20secret HTTP/1.1\r\n\r\n", "400 auth-token is not a token"),
            ("PUT /enable?auth-token=a&auth-token=b HTTP/1.1\r\n\r\n", "400 auth-token is not a token"),
            (
                "POST /enable?auth-token=a HTTP/1.1\r\n\r\n",
                "404 unknown request; there are PUT /enable?auth-token=… and PUT /disable",
            ),
            (
                "GET /status HTTP/1.1\r\n\r\n",
                "404 unknown request; there are PUT /enable?auth-token=… and PUT /disable",
            ),
            ("PUT /disable HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 a request here has no body"),
            ("PUT /disable HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", "400 a request here has no body"),
            ("PUT /disable HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400 a request here has no body"),
            ("\0\x16\x03\x01", "400 the request is not HTTP/1.1: invalid token"),
            (&format!("PUT /disable HTTP/1.1\r\nX: {long}"), "400 the request has more than 16 KiB"),
        ] {
            assert_eq!(asked(request), expected, "{request}");
        }
    }

    #[test]
    fn a_request_that_ends_early_is_not_done() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"PUT /disable HTTP/1.1\r\nHost: x\r\n").unwrap();
        drop(theirs);
        insta::assert_snapshot!(read(&mut ours).unwrap_err().2, @"the request ends early, or takes longer than ten seconds");
    }

    #[test]
    fn what_programs_show() {
        let long = "a".repeat(MAX_REQUEST_BYTES);
        let refused = [
            "GET /status HTTP/1.1\r\n\r\n",
            "PUT /enable HTTP/1.1\r\n\r\n",
            "PUT /disable HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT /disable HTTP/1.1\r\nContent-Length: 99999\r\n\r\n",
            "\0",
            &format!("PUT /disable HTTP/1.1\r\nX: {long}"),
        ]
        .map(|request| parse(request.as_bytes()).unwrap_err());
        let failed = failure(&CliError::Answer("so it is".into()));
        let said = refused.into_iter().chain([not_root(), failed]);
        let said = said.map(in_http).collect::<String>();
        insta::assert_snapshot!(said.replace('\r', ""), @"
        HTTP/1.1 404 Not Found
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 71

        unknown request; there are PUT /enable?auth-token=… and PUT /disable
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 119

        auth-token is not a token
        hint: a token is of printable characters without spaces; the server's operator gives one out
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 27

        a request here has no body
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 27

        a request here has no body
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 43

        the request is not HTTP/1.1: invalid token
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 33

        the request has more than 16 KiB
        HTTP/1.1 403 Forbidden
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 37

        only root may do this
        hint: use sudo
        HTTP/1.1 500 Internal Server Error
        Content-Type: text/plain; charset=utf-8
        Connection: close
        Content-Length: 122

        error: the daemon's answer is not understood: so it is

        hint: client and daemon may differ in version: restart the daemon
        ");
    }
}
