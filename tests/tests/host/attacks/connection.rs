//! Who is between the host and its server.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use livepatch_types::Redacted;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslConnector, SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::X509;

use super::*;

/// What answers are about, by the end of their paths.
const DOCUMENT: &str = "0101010101";
const TIMESTAMP: &str = "/timestamp.json";

fn module_path() -> String {
    livepatch_manifest::sha256(&module_of("1.2")).to_string()
}

async fn tricked(end: &str, trick: Trick, expected: &str) {
    let mut scene = unattacked().await;
    scene.site.shelf.lock().unwrap().tricks = vec![(end.to_owned(), trick)];
    scene.refused(expected).await;
    scene.over().await;
}

#[tokio::test]
async fn attack_server_with_another_certificate() {
    let mut scene = unattacked().await;
    let other = Site::new().await;
    let ca = scene.host.path().join("ca.pem");
    let right = std::fs::read(&ca).unwrap();
    std::fs::write(&ca, &other.ca).unwrap();
    scene.daemons = scene.host.agent();
    scene.refused("server-unreachable").await;
    assert!(scene.daemons.status().problem.unwrap().message.contains("certificate"));
    std::fs::write(&ca, right).unwrap();
    scene.daemons = scene.host.agent();
    scene.over().await;

    // A token is not sent there.
    let site = Site::new().await;
    let host = Host::new(&site);
    std::fs::write(host.path().join("ca.pem"), &other.ca).unwrap();
    assert_eq!(code(host.agent().enable(Redacted::new(TOKEN.into())).await), "server-unreachable");
    assert_eq!(site.asked(), [""; 0]);
}

#[tokio::test]
async fn attack_redirect_to_plain_http() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    plain.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}/x", plain.local_addr().unwrap());
    for end in [DOCUMENT, TIMESTAMP, &module_path()] {
        tricked(end, Trick::Redirect(elsewhere.clone()), "server-unreachable").await;
    }
    assert_eq!(plain.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
}

#[tokio::test]
async fn attack_endless_answers() {
    let more = Bytes::from_static(&[b' '; 65536]);
    for (end, expected) in [
        (DOCUMENT, "server-unexpected-answer"),
        (TIMESTAMP, "server-unexpected-answer"),
        (&module_path(), "oversized-module"),
    ] {
        tricked(end, Trick::Endless(more.clone()), expected).await;
    }
}

/// Half of what is right is not believed; the rest of a module is asked for (`a_download_that_breaks_off_goes_on`).
#[tokio::test]
async fn attack_half_an_answer() {
    for end in [DOCUMENT, TIMESTAMP, ".snapshot.json", ".targets.json"] {
        tricked(end, Trick::Half, "server-unreachable").await;
    }
}

/// It takes as long as a request may.
#[tokio::test]
async fn attack_slow_answers() {
    let scene = unattacked().await;
    scene.site.shelf.lock().unwrap().tricks = vec![(DOCUMENT.to_owned(), Trick::Slow)];
    assert_eq!(code(scene.daemons.refresh().await), "server-unreachable");
    scene.untouched();
    scene.over().await;
}

/// What a bomb has when it is unpacked, in bytes.
const UNPACKED: usize = 128 << 20;

/// A stream of gzip.
fn compressed(content: &[u8]) -> Bytes {
    let mut gzip = Command::new("gzip")
        .args(["-9", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let packed = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(content).unwrap());
        gzip.wait_with_output().unwrap().stdout
    });
    assert_eq!(packed[..2], [0x1f, 0x8b]);
    packed.into()
}

/// Nothing is ever unpacked: what is compressed is other bytes, be it the right answer or a bomb around it. The same answer as
/// it is was loaded before, and is when the attack is over.
#[tokio::test]
async fn attack_decompression_bomb() {
    let scene = unattacked().await;
    let (document, timestamp) = {
        let shelf = scene.site.shelf.lock().unwrap();
        (shelf.document.clone().unwrap(), shelf.vendor["metadata/timestamp.json"].clone())
    };
    let rows = [
        // Fewer bytes than such an answer may have, but for the timestamp, of which more than that are not read.
        (DOCUMENT, document, "document-malformed", "document-malformed"),
        (TIMESTAMP, timestamp, "vendor-malformed", "server-unexpected-answer"),
        (&module_path(), module_of("1.2"), "truncated-module", "oversized-module"),
    ];
    for (end, right, small, large) in rows {
        tricked(end, Trick::Compressed(compressed(&right)), small).await;
        // White space after an answer of JSON changes nothing in it: who unpacks this has the right one, and no memory.
        let mut bomb = right.clone();
        bomb.resize(UNPACKED, b' ');
        let bomb = compressed(&bomb);
        assert!(bomb.len() < 200_000, "{}", bomb.len());
        tricked(end, Trick::Compressed(bomb), large).await;
    }
}

/// The same server and a certificate that the host believes: only the version of TLS differs.
#[tokio::test]
async fn attack_old_versions_of_tls() {
    let (mut scene, door) = behind_a_door().await;
    scene.offer();
    scene.loaded().await;
    assert_eq!(door.refused.load(Ordering::SeqCst), 0);

    let (mut scene, door) = behind_a_door().await;
    scene.offer();
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        *door.speaks.lock().unwrap() = version;
        let before = door.refused.load(Ordering::SeqCst);
        scene.refused("server-unreachable").await;
        assert!(door.refused.load(Ordering::SeqCst) > before, "{version:?} was offered, and not taken");
    }
    *door.speaks.lock().unwrap() = SslVersion::TLS1_2;
    scene.loaded().await;
}

/// A host that runs 1.1 and reaches its server through a door that speaks TLS 1.2.
async fn behind_a_door() -> (Scene, Door) {
    let mut door = None;
    let scene = Scene::after(|site, host| {
        let opened = door.insert(Door::of(site));
        host.server(&opened.url);
        std::fs::write(host.path().join("ca.pem"), &opened.ca).unwrap();
    });
    (scene.await, door.unwrap())
}

/// In front of a site: speaks one version of TLS, and hands on what is asked and answered.
struct Door {
    url: String,
    ca: String,
    speaks: Arc<Mutex<SslVersion>>,
    /// How many handshakes came to nothing.
    refused: Arc<AtomicUsize>,
}

impl Door {
    fn of(site: &Site) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Self {
            url: format!("https://{}", listener.local_addr().unwrap()),
            ca: certified.cert.pem(),
            speaks: Arc::new(Mutex::new(SslVersion::TLS1_2)),
            refused: Arc::default(),
        };
        let (certificate, key) = (certified.cert.der().to_vec(), certified.signing_key.serialize_der());
        let (speaks, refused) = (Arc::clone(&door.speaks), Arc::clone(&door.refused));
        let inside = site.url.strip_prefix("https://").unwrap().to_owned();
        // They end with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let acceptor = acceptor(*speaks.lock().unwrap(), &certificate, &key);
                let (refused, inside) = (Arc::clone(&refused), inside.clone());
                std::thread::spawn(move || match acceptor.accept(client.unwrap()) {
                    Ok(client) => hand_on(client, &inside),
                    Err(_) => {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        door
    }
}

/// Speaks this version alone.
fn acceptor(version: SslVersion, certificate: &[u8], key: &[u8]) -> SslAcceptor {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
    acceptor.set_min_proto_version(Some(version)).unwrap();
    acceptor.set_max_proto_version(Some(version)).unwrap();
    // OpenSSL itself would not do it otherwise.
    acceptor.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    acceptor.set_certificate(&X509::from_der(certificate).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_der(key).unwrap()).unwrap();
    acceptor.build()
}

/// One request, as it is but for that the server hangs up afterwards, and its answer.
fn hand_on(client: SslStream<TcpStream>, inside: &str) {
    let mut client = BufReader::new(client);
    let (mut head, mut length) = (Vec::new(), 0);
    while !head.ends_with(b"\r\n\r\n") {
        let from = head.len();
        if client.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
            return;
        }
        let line = String::from_utf8_lossy(&head[from..]).to_lowercase();
        length = line.strip_prefix("content-length:").map_or(length, |number| number.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).unwrap();
    head.truncate(head.len() - 2);
    // Who asks is believed by the host's own certificate; this way inside is the test's.
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let mut site = connector.build().connect("127.0.0.1", TcpStream::connect(inside).unwrap()).unwrap();
    site.write_all(&[&head[..], b"connection: close\r\n\r\n", &body[..]].concat()).unwrap();
    // Either side may hang up first.
    let mut client = client.into_inner();
    let _ = std::io::copy(&mut site, &mut client);
    let _ = client.shutdown();
}
