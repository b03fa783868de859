//! A server of files that can be hostile: what it is asked for is kept, and what it answers is a function.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// What a path gets.
pub(crate) enum Answer {
    /// The file at that path.
    File(PathBuf),
    /// A file that goes on for ever.
    Endless,
    /// Nothing, for as long as the other side waits.
    Silence,
    /// Another URL.
    Elsewhere(String),
}

/// Answers until the test ends; what is asked for comes out of the channel, and, when a connection ends,
/// `PATH is over`.
pub(crate) fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (sender, answer) = (sender.clone(), Arc::clone(&answer));
            thread::spawn(move || -> std::io::Result<()> {
                let mut reader = BufReader::new(stream.try_clone()?);
                let (mut path, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line)? > 2 {
                    if let Some(rest) = line.strip_prefix("GET /debian/") {
                        path = rest.split(' ').next().unwrap_or_default().to_owned();
                    }
                    line.clear();
                }
                // The test may have ended.
                _ = sender.send(path.clone());
                let responded = respond(stream, &answer(&path));
                _ = sender.send(format!("{path} is over"));
                responded
            });
        }
    });
    (url, asked)
}

fn respond(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    match answer {
        Answer::File(path) => match std::fs::read(path) {
            Ok(bytes) => {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    bytes.len()
                )?;
                stream.write_all(&bytes)
            }
            Err(_) => {
                write!(stream, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            }
        },
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "10000\r\n{}\r\n", "x".repeat(1 << 16))?;
            }
        }
        Answer::Silence => {
            // Ends when the other side does.
            BufReader::new(stream).read_line(&mut String::new()).map(|_| ())
        }
        Answer::Elsewhere(url) => write!(
            stream,
            "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"
        ),
    }
}
