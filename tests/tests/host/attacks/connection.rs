//! Who is between the host and its server.

use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use axum::body::Bytes;
use livepatch_types::Redacted;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslOptions, SslVersion};
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

/// The same server, with a certificate that the host believes: only the version of TLS differs.
#[tokio::test]
async fn attack_old_versions_of_tls() {
    let site = Site::new().await;
    for (version, agreed) in
        [(SslVersion::TLS1, false), (SslVersion::TLS1_1, false), (SslVersion::TLS1_2, true)]
    {
        let (url, ca, accepting) = tls_server(version);
        let mut host = Host::new(&site);
        host.server(&url);
        std::fs::write(host.path().join("ca.pem"), ca).unwrap();
        let enrolled = host.agent().enable(Redacted::new(TOKEN.into())).await;
        assert_eq!(code(enrolled), "server-unreachable");
        assert_eq!(accepting.join().unwrap(), agreed, "{version:?}");
        assert_eq!(host.kernel.loads(), []);
    }
}

/// A server that speaks this version alone, hears one greeting and hangs up: its URL, its certificate, and whether a
/// handshake came to its end.
fn tls_server(version: SslVersion) -> (String, String, std::thread::JoinHandle<bool>) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
    acceptor.set_min_proto_version(Some(version)).unwrap();
    acceptor.set_max_proto_version(Some(version)).unwrap();
    // OpenSSL itself would not do it otherwise.
    acceptor.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    acceptor.set_certificate(&X509::from_der(certified.cert.der()).unwrap()).unwrap();
    let key = PKey::private_key_from_der(certified.signing_key.serialized_der()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let accepting = std::thread::spawn(move || acceptor.accept(listener.accept().unwrap().0).is_ok());
    (url, certified.cert.pem(), accepting)
}
