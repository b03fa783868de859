//! A box between hosts and server whose certificate the hosts believe: a proxy, a cache, or somebody. It passes on
//! what the real server says, but for one change.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::site::Site;

/// What it does to requests for one kind of thing.
pub(crate) enum Change {
    /// Flips a bit in the middle of the body.
    FlipBit,
    /// Closes the connection after half of the body, and lets nobody ask for the other half.
    Halve,
    /// Asks the server for another path.
    Ask(String),
}

/// A running box.
pub(crate) struct Middlebox {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Middlebox {
    /// Listens at `port` with the certificate of `site`, passes on to `server_port`, and makes a change to requests
    /// whose path begins with `path`.
    pub(crate) fn start(
        site: &Site,
        port: u16,
        server_port: u16,
        path: &'static str,
        change: Change,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                certificates(&site.file("tls.crt")),
                PrivateKeyDer::from_pem_file(site.file("tls.key")).unwrap(),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&site.file("ca.pem")));
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (server, client) = (Arc::new(server), Arc::new(client));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let down =
                    StreamOwned::new(ServerConnection::new(Arc::clone(&server)).unwrap(), stream.unwrap());
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let up = ClientConnection::new(Arc::clone(&client), name).unwrap();
                let up = StreamOwned::new(up, TcpStream::connect(("127.0.0.1", server_port)).unwrap());
                // A client that goes away early is not this box's trouble.
                let _ = pass_on(down, up, path, &change);
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

/// One request and its answer; then both connections are closed.
fn pass_on(
    mut down: impl Read + Write,
    mut up: impl Read + Write,
    path: &str,
    change: &Change,
) -> std::io::Result<()> {
    let (head, body) = read_message(&mut down)?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let changes = first.split(' ').nth(1).is_some_and(|asked| asked.starts_with(path));
    let first = match change {
        Change::Ask(path) if changes => format!("GET {path} HTTP/1.1"),
        _ => first.to_owned(),
    };
    let whole = matches!(change, Change::Halve);
    let kept = |line: &&str| !(whole && line.to_ascii_lowercase().starts_with("range:"));
    let rest: String = rest.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
    write!(up, "{first}\r\nconnection: close\r\n{rest}\r\n")?;
    up.write_all(&body)?;
    up.flush()?;

    let (head, mut body) = read_message(&mut up)?;
    let mut close_after = body.len();
    match change {
        Change::FlipBit if changes => body[close_after / 2] ^= 1,
        Change::Halve if changes => close_after /= 2,
        _ => {}
    }
    write!(down, "{head}\r\n\r\n")?;
    down.write_all(&body[..close_after])?;
    down.flush()
}

/// Head and body of a request or an answer that tells its length.
fn read_message(stream: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).trim_end().to_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
