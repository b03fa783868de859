//! What lies between a host and its server: proxies, broken lines, servers out of order.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use livepatch_agent::Pace;
use livepatch_api::daemon::Reachability;
use livepatch_types::{CheckState, PatchState, Redacted};
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslStream};
use openssl::x509::X509;

use crate::support::*;
use crate::telemetry::told;

/// A proxy on loopback; gives its port. Whom it is asked for comes out of the channel.
fn proxy(open: fn(&mut TcpStream) -> Option<String>) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, log) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, asked) = (client.unwrap(), asked.clone());
            std::thread::spawn(move || {
                let Some(target) = open(&mut client) else { return };
                // The test may be over.
                let _ = asked.send(target.clone());
                let server = TcpStream::connect(&target).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let up = std::thread::spawn(move || pipe(from, to));
                pipe(server, client);
                up.join().unwrap();
            });
        }
    });
    (port, log)
}

/// The same behind TLS, with a certificate of its own for 127.0.0.1: its port, its certificate, and whom it is asked for.
fn https_proxy() -> (u16, String, Receiver<String>) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&X509::from_der(certified.cert.der()).unwrap()).unwrap();
    let key = PKey::private_key_from_der(certified.signing_key.serialized_der()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, log) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (acceptor, asked) = (acceptor.clone(), asked.clone());
            std::thread::spawn(move || {
                // Who does not believe the certificate hangs up.
                let Ok(mut client) = acceptor.accept(client.unwrap()) else { return };
                let Some(target) = http_connect(&mut client) else { return };
                // The test may be over.
                let _ = asked.send(target.clone());
                hand_on(client, TcpStream::connect(&target).unwrap());
            });
        }
    });
    (port, certified.cert.pem(), log)
}

/// Both ways by turns, since a TLS connection is not two: neither side is waited for longer than a moment.
fn hand_on(mut client: SslStream<TcpStream>, mut server: TcpStream) {
    let moment = Some(Duration::from_millis(5));
    client.get_ref().set_read_timeout(moment).unwrap();
    server.set_read_timeout(moment).unwrap();
    // Either side may go first.
    while hand_over(&mut client, &mut server) && hand_over(&mut server, &mut client) {}
}

/// What there is now; whether more may come.
fn hand_over(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut buffer = [0; 16 << 10];
    match from.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => to.write_all(&buffer[..length]).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

fn pipe(mut from: TcpStream, mut to: TcpStream) {
    // Either side may go first.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// RFC 9110, 9.3.6. Wants the name `user` and the password `secret-word`.
fn http_connect(client: &mut (impl Read + Write)) -> Option<String> {
    let mut reader = BufReader::with_capacity(1, &mut *client);
    let (mut head, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        head.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    drop(reader);
    let authorization = "proxy-authorization: basic dXNlcjpzZWNyZXQtd29yZA==";
    if !head.iter().any(|line| line.eq_ignore_ascii_case(authorization)) {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").unwrap();
        return None;
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    head.first()?.strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1").map(str::to_owned)
}

/// RFC 1928, without authentication, to an IPv4 address or to a name, which the proxy resolves.
fn socks5(client: &mut TcpStream) -> Option<String> {
    let read = |client: &mut TcpStream, length: u8| {
        let mut bytes = vec![0; length.into()];
        client.read_exact(&mut bytes).unwrap();
        bytes
    };
    let methods = read(client, 2)[1];
    read(client, methods);
    client.write_all(&[5, 0]).unwrap();
    let request = read(client, 4);
    assert_eq!(request[..3], [5, 1, 0]);
    assert!([1, 3].contains(&request[3]), "{request:?}");
    let to = match request[3] {
        1 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(read(client, 4)).unwrap()).to_string(),
        _ => {
            let length = read(client, 1)[0];
            String::from_utf8(read(client, length)).unwrap()
        }
    };
    let port = u16::from_be_bytes(read(client, 2).try_into().unwrap());
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    Some(format!("{to}:{port}"))
}

#[tokio::test]
async fn through_proxies() {
    let (connect, connected) = proxy(http_connect);
    let (socks, socksed) = proxy(socks5);
    let through_connect = format!("http://user:secret-word@127.0.0.1:{connect}");
    let through_socks = format!("socks5://127.0.0.1:{socks}");
    // The proxy, what is asked without it, and which of the two proxies is asked.
    let rows = [
        (&through_connect, "", [true, false]),
        (&through_socks, "", [false, true]),
        (&through_connect, "example.org, 127.0.0.0/8", [false, false]),
        (&through_socks, "10.0.0.0/8,.example.org", [false, true]),
    ];
    for (url, exceptions, asked) in rows {
        let site = Site::new().await;
        site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
        let address = site.url.strip_prefix("https://").unwrap();
        let mut host = Host::new(&site);
        host.proxy(url, exceptions);
        host.enabled().await;
        assert_eq!(host.livepatches(), ["livepatch_1_1"], "{url}");
        // The last that it asks for is to take its reports.
        told(&site, 4).await;
        for (log, asked) in [&connected, &socksed].into_iter().zip(asked) {
            let targets: Vec<String> = log.try_iter().collect();
            assert_eq!(!targets.is_empty(), asked, "{url} {exceptions}");
            assert!(targets.iter().all(|target| target == address), "{targets:?}");
        }
    }
}

/// `socks5h` gives the proxy the server's name to resolve, `socks5` an address.
#[tokio::test]
async fn who_resolves_the_servers_name() {
    let (socks, asked) = proxy(socks5);
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let port = site.url.strip_prefix("https://127.0.0.1:").unwrap();
    for (scheme, by) in [("socks5h", "localhost"), ("socks5", "127.0.0.1")] {
        let mut host = Host::new(&site);
        host.server(&format!("https://localhost:{port}"));
        host.proxy(&format!("{scheme}://127.0.0.1:{socks}"), "");
        host.enabled().await;
        assert_eq!(host.livepatches(), ["livepatch_1_1"], "{scheme}");
        told(&site, 4).await;
        site.shelf.lock().unwrap().reports.clear();
        let targets: Vec<String> = asked.try_iter().collect();
        assert!(!targets.is_empty());
        assert!(targets.iter().all(|target| *target == format!("{by}:{port}")), "{scheme}: {targets:?}");
    }
}

/// A proxy that is spoken to by https has a certificate, too, which `ca-file` decides about as about the server's.
#[tokio::test]
async fn through_an_https_proxy() {
    let site = Site::new().await;
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let (port, certificate, asked) = https_proxy();
    let mut host = Host::new(&site);
    host.proxy(&format!("https://user:secret-word@127.0.0.1:{port}"), "");
    let refused = host.agent().enable(Redacted::new(TOKEN.into())).await;
    let message = refused.as_ref().unwrap_err().message.clone();
    assert!(message.contains("certificate") && !message.contains("secret-word"), "{message}");
    assert_eq!(code(refused), "server-unreachable");
    assert_eq!((asked.try_iter().count(), site.asked()), (0, vec![]), "it was asked for nothing");

    std::fs::write(host.path().join("ca.pem"), format!("{}{certificate}", site.ca)).unwrap();
    let daemons = host.enabled().await;
    assert_eq!((host.livepatches(), daemons.status().problem), (vec!["livepatch_1_1".to_owned()], None));
    told(&site, 4).await;
    let targets: Vec<String> = asked.try_iter().collect();
    let address = site.url.strip_prefix("https://").unwrap();
    assert!(!targets.is_empty() && targets.iter().all(|target| target == address), "{targets:?}");

    // Nor does the proxy's certificate alone say anything of the server's.
    std::fs::write(host.path().join("ca.pem"), certificate).unwrap();
    let daemons = host.agent();
    daemons.start().await.unwrap();
    assert_eq!(code(daemons.refresh().await), "server-unreachable");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

/// A server that does not answer when it is called is waited for as long as `dial-timeout` says; what runs stays.
#[tokio::test]
async fn a_server_that_does_not_take_the_call() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let mut host = Host::new(&site);
    site.publish(&document(&k1, 1, Some(site.target("1.1", &k1))));
    drop(host.enabled().await);
    site.publish(&document(&k1, 2, Some(site.target("1.2", &k1))));

    // Who waits to be taken fills the queue; the kernel drops what comes after that.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 64, "it takes every call");
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    let right = site.url.clone();
    host.server_moved(&format!("https://{address}"));
    for seconds in [1, 3] {
        host.dial_timeout(&format!("{seconds}s"));
        let daemons = host.agent();
        daemons.start().await.unwrap();
        let start = Instant::now();
        assert_eq!(code(daemons.refresh().await), "server-unreachable");
        // A whole request may take 30 s.
        let waited = start.elapsed();
        assert!((seconds..25).contains(&waited.as_secs()), "{seconds}: {waited:?}");
        assert!(daemons.agent.timer_round().await.failed, "it is asked again soon");
        let status = daemons.status();
        assert_eq!((status.patch.state, status.check.state), (PatchState::Applied, CheckState::CheckFailed));
        assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    }
    host.server_moved(&right);
    let daemons = host.agent();
    daemons.start().await.unwrap();
    assert_eq!(code(daemons.refresh().await), "ok");
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
}

/// A host and a server that have IPv6 and nothing else: enrolment, check, download and report go over it.
#[tokio::test]
async fn over_ipv6_alone() {
    if TcpListener::bind("[::1]:0").is_err() {
        return livepatch_vm::testing::skipped("this machine has no IPv6");
    }
    let k1 = kernel(1);
    let alone = async || {
        let site = Site::on(std::net::Ipv6Addr::LOCALHOST.into()).await;
        let port = site.url.strip_prefix("https://[::1]:").unwrap();
        TcpStream::connect(format!("127.0.0.1:{port}")).is_err().then_some(site)
    };
    // Another test's server may have the same port on IPv4, but hardly each time.
    let mut site = alone().await;
    for _ in 0..3 {
        site = match site {
            Some(site) => Some(site),
            None => alone().await,
        };
    }
    let site = site.expect("nobody listens on IPv4");
    site.publish(&document(&k1, 1, Some(site.target("1.1", &k1))));
    let host = Host::new(&site);
    let daemons = host.enabled().await;
    let status = daemons.status();
    assert_eq!((status.server.as_deref(), status.problem), (Some(site.url.as_str()), None));
    assert_eq!((status.check.state, status.check.reachability), (CheckState::Checked, Reachability::Reached));
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    told(&site, 4).await;

    // What is excepted from a proxy may be an IPv6 address or network.
    let (connect, connected) = proxy(http_connect);
    for exceptions in ["::1", "::/64"] {
        let mut host = Host::new(&site);
        host.proxy(&format!("http://user:secret-word@127.0.0.1:{connect}"), exceptions);
        host.enabled().await;
        assert_eq!(host.livepatches(), ["livepatch_1_1"], "{exceptions}");
        assert_eq!(connected.try_iter().count(), 0, "{exceptions}");
    }
    // reqwest takes the brackets for a part of the name behind a proxy (docs/network.md says what to do).
    let mut host = Host::new(&site);
    host.proxy(&format!("http://user:secret-word@127.0.0.1:{connect}"), "2001:db8::/32");
    assert_eq!(code(host.agent().enable(Redacted::new(TOKEN.into())).await), "server-unreachable");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let site = Site::new().await;
    let (connect, _connected) = proxy(http_connect);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for port in [connect, gone] {
        let mut host = Host::new(&site);
        host.proxy(&format!("http://user:other-word@127.0.0.1:{port}"), "");
        let refused = host.agent().enable(Redacted::new(TOKEN.into())).await;
        assert!(!format!("{refused:?}").contains("other-word"), "{refused:?}");
        assert_eq!(code(refused), "server-unreachable");
    }
    assert_eq!(site.asked(), [""; 0]);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on() {
    let k1 = kernel(1);
    // Where each answer breaks off, whether the server knows ranges; what comes of it, after how many requests.
    let mut drip = [1; 40];
    drip[0] = 500;
    let cases: [(&[usize], bool, &str, usize); 8] = [
        (&[], true, "ok", 1),
        (&[500], true, "ok", 2),
        (&[500, 100, 100], true, "ok", 4),
        // All again, and this time whole.
        (&[500], false, "ok", 2),
        // It comes no further: the next check tries again.
        (&[500, 0], true, "truncated-module", 2),
        (&[500, 500], false, "truncated-module", 2),
        // It does not go on for ever.
        (&drip[..16], true, "ok", 17),
        (&drip, true, "truncated-module", 17),
    ];
    for (breaks, ranges, expected, requests) in cases {
        let site = Site::new().await;
        let target = site.target("1.1", &k1);
        let (digest, url) = (target.module.sha256, format!("object {}", target.module.sha256));
        site.publish(&document(&k1, 1, Some(target)));
        let host = Host::new(&site);
        (site.shelf.lock().unwrap().breaks, site.shelf.lock().unwrap().ranges) = (breaks.to_vec(), ranges);
        host.enabled().await;
        let asked: Vec<String> = site.asked().into_iter().filter(|line| line.starts_with("object")).collect();
        assert_eq!(asked.len(), requests, "{breaks:?} {asked:?}");
        assert_eq!(asked[0], url, "{digest}");
        if let [_, second, ..] = asked.as_slice() {
            assert_eq!(*second, format!("{url} bytes=500-"));
        }
        let loaded: &[&str] = if expected == "ok" { &["livepatch_1_1"] } else { &[] };
        assert_eq!(host.livepatches(), loaded, "{breaks:?}");
        if expected != "ok" {
            let daemons = host.agent();
            daemons.agent.look().await.unwrap();
            assert_eq!(daemons.status().patch.state, PatchState::Unapplied);
            site.shelf.lock().unwrap().breaks.clear();
            host.agent().refresh().await.unwrap();
            assert_eq!(host.livepatches(), ["livepatch_1_1"]);
        }
    }
}

/// What a server (or who stands in its place) says when it is out of order: what runs stays, and the status tells.
#[tokio::test]
async fn servers_out_of_order() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&k1, 1, Some(site.target("1.1", &k1))));
    let agent = host.enabled().await;
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    for (trouble, expected, wait) in [
        ((500, None, "oops"), "server-failed", None),
        ((503, None, ""), "server-failed", None),
        ((503, Some("120"), ""), "server-failed", minutes(2)),
        ((429, Some("60"), ""), "server-failed", minutes(1)),
        // Not for ever, and no other forms.
        ((503, Some("99999999999"), ""), "server-failed", minutes(24 * 60)),
        ((503, Some("-1"), ""), "server-failed", None),
        ((503, Some("Wed, 21 Oct 2037 07:28:00 GMT"), ""), "server-failed", None),
        // A captive portal, and a page of something else.
        ((200, None, "<html>Welcome to our hotel</html>"), "document-malformed", None),
        ((403, Some("60"), "<html>no</html>"), "server-unexpected-answer", None),
        ((404, None, "<html>no</html>"), "server-unexpected-answer", None),
        ((304, None, ""), "ok", None),
    ] {
        site.shelf.lock().unwrap().trouble = Some(trouble);
        let result = agent.refresh().await;
        assert_eq!(result.as_ref().err().and_then(|problem| problem.retry_after), wait, "{trouble:?}");
        assert_eq!(code(result), expected, "{trouble:?}");
        let status = agent.status();
        assert_eq!(status.patch.state, PatchState::Applied);
        assert_eq!(status.check.state == CheckState::CheckFailed, expected != "ok", "{trouble:?}");
    }
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

/// Whatever else is wrong with the host, the check's own result says when it is repeated: the answer of a server that is out
/// of order, and a page of a captive portal, as well as no answer.
#[tokio::test]
async fn a_failed_check_is_repeated_soon() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&k1, 1, Some(site.target_of("1.1", &STRANGER.sign(b"x")))));
    let daemons = host.enabled().await;
    assert_eq!(daemons.status().problem.unwrap().code, "wrong-signer");
    assert_eq!(daemons.agent.timer_round().await, Pace { failed: false, retry_after: None });
    for (trouble, minutes) in [
        ((503, Some("120"), ""), Some(2)),
        ((500, None, r#"{ "code": "internal", "message": "x" }"#), None),
        ((200, None, "<html>Welcome to our hotel</html>"), None),
    ] {
        site.shelf.lock().unwrap().trouble = Some(trouble);
        let retry_after = minutes.map(|minutes| Duration::from_secs(60 * minutes));
        assert_eq!(
            daemons.agent.timer_round().await,
            Pace { failed: true, retry_after },
            "{trouble:?}, and the loader has a problem of its own"
        );
    }
    // The loader's problem is the loader's: asking the server again sooner does not help.
    site.shelf.lock().unwrap().trouble = None;
    assert_eq!(daemons.agent.timer_round().await, Pace::default());
}

/// A network that is not up yet is no failure of the check, and is asked through again soon.
#[tokio::test]
async fn before_the_network_is_up() {
    let k1 = kernel(1);
    let site = Site::new().await;
    let mut host = Host::new(&site);
    site.publish(&document(&k1, 1, Some(site.target("1.1", &k1))));
    drop(host.enabled().await);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    host.server_moved(&format!("https://127.0.0.1:{gone}"));
    host.network(false);
    host.at("2026-11-24T13:00:00Z");
    let daemons = host.agent();
    daemons.start().await.unwrap();
    let unknown = daemons.status().check;
    assert_eq!((unknown.state, unknown.reachability), (CheckState::NeedsCheck, Reachability::Unknown));

    assert!(daemons.agent.timer_round().await.failed);
    let status = daemons.status();
    assert_eq!((status.problem, status.patch.state), (None, PatchState::Applied));
    assert_eq!(
        (status.check.state, status.check.reachability),
        (CheckState::NeedsCheck, Reachability::Pending)
    );
    assert_eq!(status.check.attempted_at, "2026-11-24T13:00:00Z".parse().ok());
    assert_eq!(status.check.at, NOW.parse().ok(), "how old it is is known all the same");
    // Who asks for a check is told why there is none.
    assert_eq!(code(daemons.refresh().await), "server-unreachable");

    host.network(true);
    assert_eq!(code(daemons.refresh().await), "server-unreachable");
    let status = daemons.status();
    assert_eq!(
        (status.check.state, status.check.reachability),
        (CheckState::CheckFailed, Reachability::Unreachable)
    );
    assert_eq!(status.problem.unwrap().code, "server-unreachable");
}
