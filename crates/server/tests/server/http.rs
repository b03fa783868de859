//! Hosts' side: real routes, real TLS on loopback, patches published by the real program.

use std::time::Duration;

use crate::support::*;
use livepatch_api::server::{
    AssignmentResponse, EnrollResponse, ErrorBody, MAX_REQUEST_BYTES, PublishedKernel, Report,
};
use livepatch_manifest::{HostAssignment, KernelDocument, sha256};
use livepatch_server::listener::Limits;
use livepatch_types::*;
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) const MACHINE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) async fn error(response: Response, status: StatusCode) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    response.json::<ErrorBody>().await.unwrap().code
}

/// What a loader drew.
pub(crate) const HOST: &str = "0123456789abcdef0123456789abcdef";

pub(crate) async fn enroll(server: &Server, token: &str, machine: &str) -> Response {
    let body = json!({ "token": token, "machine": machine, "host": HOST });
    server.client.post(server.url("/v1/enroll")).json(&body).send().await.unwrap()
}

pub(crate) fn report() -> Report {
    Report {
        kernel: kernel(),
        client_version: "0.1.0".into(),
        at: "2026-11-24T00:00:00Z".parse().unwrap(),
        check_state: CheckState::Checked,
        patch_state: PatchState::Applied,
        patch_version: Some(PatchVersion::parse("1.1").unwrap()),
        error: None,
        event: None,
        machine: None,
    }
}

pub(crate) async fn send_report(server: &Server, token: &str, body: &Value) -> Response {
    server.client.post(server.url("/v1/reports")).bearer_auth(token).json(body).send().await.unwrap()
}

async fn document(server: &Server, site: &Site) -> (KernelDocument, String) {
    let response = server.client.get(server.document_url()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let etag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
    let body = response.bytes().await.unwrap();
    assert_eq!(etag, format!("\"{}\"", sha256(&body)));
    let document = KernelDocument::open(&body, &[site.operator()], &kernel(), &stable(), 0).unwrap();
    document.check_time(server.clock.now()).unwrap();
    (document, etag)
}

#[tokio::test]
async fn a_host_enrols_and_reports() {
    let site = Site::new();
    let token = site.token(&[]);
    let server = site.serve().await;
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");

    let wrong = format!("{}0", &token[..token.len() - 1]);
    let wrong = if wrong == token { format!("{}1", &token[..token.len() - 1]) } else { wrong };
    for guess in [wrong.as_str(), "", "x", "0123456789abcdef.0", &"a".repeat(3000)] {
        assert_eq!(
            error(enroll(&server, guess, MACHINE).await, StatusCode::UNAUTHORIZED).await,
            "unknown-token"
        );
    }
    for machine in ["", "raw-machine-id", &MACHINE.to_uppercase()] {
        assert_eq!(
            error(enroll(&server, &token, machine).await, StatusCode::BAD_REQUEST).await,
            "bad-request"
        );
    }
    let enrolled: EnrollResponse = enroll(&server, &token, MACHINE).await.json().await.unwrap();
    assert_eq!(enrolled.tier, stable());
    // The operator's word for the loader: this host is in the token's tier.
    let host = HostId::parse(HOST).unwrap();
    let open = |enrolled: &EnrollResponse, host: &HostId, seen| {
        HostAssignment::open(enrolled.assignment.as_bytes(), &[site.operator()], host, seen)
    };
    let assignment = open(&enrolled, &host, 0).unwrap();
    assert_eq!((&assignment.tier, assignment.issued), (&stable(), server.clock.now()));
    assert!(open(&enrolled, &HostId::from_bytes([0; 16]), 0).is_err());
    let first = enrolled.machine_token.expose().clone();
    assert_eq!(send_report(&server, &first, &json!(report())).await.status(), StatusCode::NO_CONTENT);
    let listed: Value = serde_json::from_str(&site.good(&["machine", "list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["report"]["patch_state"], "applied");
    assert_eq!(listed[0]["machine"], MACHINE);

    for wrong in ["", "x", &token, &format!("{first}0")] {
        let refused = send_report(&server, wrong, &json!(report())).await;
        assert_eq!(error(refused, StatusCode::UNAUTHORIZED).await, "unknown-token");
    }
    let without = server.client.post(server.url("/v1/reports")).json(&report()).send().await.unwrap();
    assert_eq!(error(without, StatusCode::UNAUTHORIZED).await, "unknown-token");
    let long = Report { error: Some("x".repeat(501)), ..report() };
    let two_lines = Report { error: Some("a\nb".into()), ..report() };
    for bad in [json!(long), json!(two_lines), json!({}), json!([1])] {
        assert!(send_report(&server, &first, &bad).await.status().is_client_error(), "{bad}");
    }

    server.clock.advance_hours(1);
    let again: EnrollResponse = enroll(&server, &token, MACHINE).await.json().await.unwrap();
    assert_eq!(open(&again, &host, assignment.version).unwrap().version, assignment.version + 3600);
    let second = again.machine_token.expose();
    let former = send_report(&server, &first, &json!(report())).await;
    assert_eq!(error(former, StatusCode::UNAUTHORIZED).await, "unknown-token", "replaced");
    assert_eq!(send_report(&server, second, &json!(report())).await.status(), StatusCode::NO_CONTENT);
}

/// The operator signs the cohort that a host asks for, at its enrolment and later, and lists it.
#[tokio::test]
async fn a_host_asks_for_its_cohort() {
    let site = Site::new();
    let token = site.token(&[]);
    let server = site.serve().await;
    let host = HostId::parse(HOST).unwrap();
    let enrol = async |cohort: &Value| {
        let mut body = json!({ "token": token, "machine": MACHINE, "host": HOST });
        if !cohort.is_null() {
            body["cohort"] = cohort.clone();
        }
        server.client.post(server.url("/v1/enroll")).json(&body).send().await.unwrap()
    };
    let ask = async |token: &str, body: &Value| {
        let request = server.client.post(server.url("/v1/assignment"));
        request.bearer_auth(token).json(body).send().await.unwrap()
    };
    let signed =
        |envelope: &str| HostAssignment::open(envelope.as_bytes(), &[site.operator()], &host, 0).unwrap();
    let listed = || {
        let text = site.good(&["machine", "list", "--format", "json"]);
        serde_json::from_str::<Value>(&text).unwrap()[0]["cohort"].clone()
    };
    for wrong in [json!(""), json!("Site Berlin"), json!("a/b"), json!(1), json!("a".repeat(49))] {
        let refused = enrol(&wrong).await;
        assert_eq!(error(refused, StatusCode::UNPROCESSABLE_ENTITY).await, "bad-request", "{wrong}");
    }
    let enrolled: EnrollResponse = enrol(&json!("databases/2")).await.json().await.unwrap();
    let assignment = signed(&enrolled.assignment);
    let cohort = |text: &str| Some(Cohort::parse(text).unwrap());
    assert_eq!((&assignment.tier, &assignment.cohort), (&stable(), &cohort("databases/2")));
    assert_eq!(listed(), "databases/2");
    assert!(site.good(&["machine", "list"]).contains("databases/2"));

    server.clock.advance_hours(1);
    let machine_token = enrolled.machine_token.expose();
    for (body, expected) in [
        (json!({ "host": HOST, "cohort": "site-berlin" }), cohort("site-berlin")),
        (json!({ "host": HOST }), None),
    ] {
        let answer: AssignmentResponse = ask(machine_token, &body).await.json().await.unwrap();
        let next = signed(&answer.assignment);
        assert_eq!((&next.tier, &next.cohort), (&stable(), &expected));
        assert!(next.version > assignment.version);
        assert_eq!(listed(), json!(expected));
    }
    // Nobody is assigned by whoever is not enrolled, nor under the id of another host.
    for guess in ["", "x", token.as_str(), &format!("{machine_token}0")] {
        let refused = ask(guess, &json!({ "host": HOST, "cohort": "early" })).await;
        assert_eq!(error(refused, StatusCode::UNAUTHORIZED).await, "unknown-token");
    }
    let other = ask(machine_token, &json!({ "host": "00".repeat(16), "cohort": "early" })).await;
    assert_eq!(error(other, StatusCode::CONFLICT).await, "other-host");
    for wrong in [json!({ "host": HOST, "tier": "edge" }), json!({ "host": HOST, "cohort": "A" }), json!({})]
    {
        let refused = ask(machine_token, &wrong).await;
        assert_eq!(error(refused, StatusCode::UNPROCESSABLE_ENTITY).await, "bad-request", "{wrong}");
    }
    assert_eq!(listed(), Value::Null, "what is refused changes nothing");
    // Who does not ask for one, as clients of before do, is in none.
    let enrolled: EnrollResponse = enrol(&Value::Null).await.json().await.unwrap();
    assert_eq!(signed(&enrolled.assignment).cohort, None);
}

#[tokio::test]
async fn tokens_end() {
    let site = Site::new();
    let token = site.token(&["--expires", "2d", "--limit", "1"]);
    let server = site.serve().await;
    assert_eq!(enroll(&server, &token, MACHINE).await.status(), StatusCode::OK);
    let other = sha256(b"other").to_string();
    assert_eq!(error(enroll(&server, &token, &other).await, StatusCode::FORBIDDEN).await, "token-exhausted");
    server.clock.advance_hours(49);
    assert_eq!(error(enroll(&server, &token, MACHINE).await, StatusCode::FORBIDDEN).await, "token-expired");
    site.good(&["token", "revoke", "t"]);
    assert_eq!(
        error(enroll(&server, &token, MACHINE).await, StatusCode::UNAUTHORIZED).await,
        "unknown-token"
    );
}

#[tokio::test]
async fn an_unknown_kernel_is_found_in_the_index() {
    let site = Site::new();
    let server = site.serve().await;
    let published = async || {
        let unknown = server.client.get(server.document_url()).send().await.unwrap();
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        unknown.json::<ErrorBody>().await.unwrap().published
    };
    assert_eq!(published().await, []);
    let digest = "0".repeat(64);
    let row = |suite: &str, pocket: &str, standing: &str| {
        json!({
            "architecture": "amd64", "build_id": kernel().build_id, "release": kernel().release,
            "distribution": "Debian", "suite": suite, "pocket": pocket, "standing": standing,
            "package": "linux-image-6.1.0-50-amd64", "version": "6.1.176-1", "builtin_keys": null,
            "image_date": "2026-07-02T13:50:42Z", "published_by": "2026-07-11T10:16:37Z",
            "provenance": {
                "repository": "file:///srv", "signed_by": [], "in_release": digest, "packages_path": "a",
                "packages": digest, "package_path": "b", "package": digest
            }
        })
    };
    let file = site.data().join("../index.json");
    let import = |rows: &[Value]| {
        let index = json!({ "schema": 1, "archives": [], "kernels": rows });
        std::fs::write(&file, index.to_string()).unwrap();
        site.good(&["kernel", "import", file.to_str().unwrap()])
    };
    assert_eq!(
        import(&[row("bookworm-proposed-updates", "proposed-updates", "not-official")]),
        "the index has 1 kernel\n"
    );
    let place = |suite: &str, pocket: &str, official: bool| PublishedKernel {
        distribution: "Debian".into(),
        suite: suite.into(),
        pocket: pocket.into(),
        version: "6.1.176-1".into(),
        official,
    };
    let proposed = place("bookworm-proposed-updates", "proposed-updates", false);
    assert_eq!(published().await, std::slice::from_ref(&proposed));
    import(&[
        row("bookworm-proposed-updates", "proposed-updates", "not-official"),
        row("bookworm", "release", "official"),
    ]);
    assert_eq!(
        published().await,
        [place("bookworm", "release", true), proposed],
        "read anew, official ones first"
    );
    std::fs::write(&file, "{}").unwrap();
    let (code, text) = site.bad(&["kernel", "import", file.to_str().unwrap()]);
    assert_eq!(code, livepatch_server::Exit::Refused as i32, "{text}");
    assert_eq!(published().await.len(), 2);
}

#[tokio::test]
async fn a_document_changes_with_its_content_and_is_renewed_in_time() {
    let site = Site::new();
    let server = site.serve().await;
    let unknown = server.client.get(server.document_url()).send().await.unwrap();
    assert_eq!(error(unknown, StatusCode::NOT_FOUND).await, "unknown-kernel");

    let bundle = VENDOR.bundle("1.1", &kernel(), b"module one");
    site.publish(&bundle, &[]);
    let (first, etag) = document(&server, &site).await;
    assert_eq!(first.version, 1);
    let target = first.target.as_ref().unwrap();
    assert_eq!((target.version, target.module), (bundle.manifest.version, bundle.manifest.module));
    assert_eq!(target.cves, bundle.manifest.cves);

    for tag in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
        let request = server.client.get(server.document_url()).header(header::IF_NONE_MATCH, tag);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[header::ETAG], etag);
        assert_eq!(response.bytes().await.unwrap().len(), 0);
    }
    let request = server.client.get(server.document_url()).header(header::IF_NONE_MATCH, "\"x\"");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);

    site.publish(&bundle, &[]);
    site.publish(&VENDOR.bundle("2.1", &kernel(), b"module for edge"), &["--tier", "edge"]);
    assert_eq!(document(&server, &site).await.1, etag, "nothing changed for this channel");
    server.clock.advance_hours(83);
    assert_eq!(document(&server, &site).await.1, etag, "more than half of its time is left");
    server.clock.advance_hours(2);
    let (renewed, renewed_etag) = document(&server, &site).await;
    assert_ne!(renewed_etag, etag);
    assert_eq!(renewed.version, 1);
    assert_eq!(KernelDocument { issued: first.issued, expires: first.expires, ..renewed }, first);

    let restarted = site.serve().await;
    restarted.clock.set(server.clock.now());
    assert_eq!(document(&restarted, &site).await.1, renewed_etag, "stable across restarts");

    site.good(&["patch", "withdraw", "1.1"]);
    let (withdrawn, _) = document(&server, &site).await;
    assert_eq!((withdrawn.version, withdrawn.target), (2, None));
    assert_eq!(withdrawn.withdrawn, [bundle.manifest.version]);
    let path = format!("/v1/objects/{}", bundle.manifest.module.sha256);
    assert_eq!(error(server.get(&path).await, StatusCode::NOT_FOUND).await, "not-found", "withdrawn");

    let beta = server.get(&format!("/v1/kernels/beta/{}", kernel().build_id)).await.bytes().await.unwrap();
    let beta_tier = Tier::parse("beta").unwrap();
    let beta = KernelDocument::open(&beta, &[site.operator()], &kernel(), &beta_tier, 0).unwrap();
    assert_eq!((beta.version, beta.target), (1, None), "a known kernel, nothing in this tier");
    for (path, status, code) in [
        (format!("/v1/kernels/no-such/{}", kernel().build_id), StatusCode::NOT_FOUND, "not-found"),
        (format!("/v1/kernels/Stable/{}", kernel().build_id), StatusCode::BAD_REQUEST, "bad-request"),
        ("/v1/kernels/stable/..%2f..".into(), StatusCode::BAD_REQUEST, "bad-request"),
        ("/v1/kernels/stable".into(), StatusCode::NOT_FOUND, "not-found"),
        ("/v1/enroll".into(), StatusCode::METHOD_NOT_ALLOWED, "bad-request"),
        ("/v1/assignment".into(), StatusCode::METHOD_NOT_ALLOWED, "bad-request"),
    ] {
        assert_eq!(error(server.get(&path).await, status).await, code, "{path}");
    }
}

/// How often hosts ask stands in what the operator's key signs, for every kernel and channel, as soon as it is said.
#[tokio::test]
async fn a_document_says_how_often_to_ask() {
    let site = Site::new();
    let show = |expected: &str| {
        let json = site.good(&["poll-hint", "show", "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.to_string(), format!(r#"[{{"poll_hint_seconds":{expected}}}]"#));
    };
    show("null");
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"module"), &[]);
    let server = site.serve().await;
    let (silent, _) = document(&server, &site).await;
    assert_eq!(silent.poll_hint_seconds, None);

    let said = site.good(&["poll-hint", "set", "600"]);
    assert_eq!(
        said,
        "hosts ask every 600 s, or as often as they do by themselves\nthey learn it with their next check\n"
    );
    show("600");
    assert_eq!(site.good(&["poll-hint", "show"]), "POLL HINT IN SECONDS\n600\n");
    let (hinted, _) = document(&server, &site).await;
    assert_eq!((hinted.poll_hint_seconds, hinted.version), (Some(600), 2));
    // What is out of its bounds, or no number, changes nothing.
    for seconds in ["59", "86401", "-1", "10m"] {
        assert_eq!(
            site.bad(&["poll-hint", "set", seconds]).0,
            livepatch_server::Exit::Usage as i32,
            "{seconds}"
        );
    }
    show("600");
    for seconds in ["60", "86400"] {
        site.good(&["poll-hint", "set", seconds]);
        show(seconds);
    }
    site.good(&["poll-hint", "off"]);
    show("null");
    assert_eq!(site.good(&["poll-hint", "show"]), "POLL HINT IN SECONDS\n-\n");
    assert_eq!(document(&server, &site).await.0.poll_hint_seconds, None);
}

#[tokio::test]
async fn many_hosts_at_once_get_the_same_document() {
    let site = Site::new();
    site.publish(&VENDOR.bundle("1.1", &kernel(), b"module"), &[]);
    let (one, two) = (site.serve().await, site.serve().await);
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (server, client) = if number % 2 == 0 { (&one, &one.client) } else { (&two, &two.client) };
            let request = client.get(server.document_url());
            tokio::spawn(async move { request.send().await.unwrap().bytes().await.unwrap() })
        })
        .collect();
    let mut bodies = std::collections::HashSet::new();
    for task in tasks {
        bodies.insert(task.await.unwrap());
    }
    assert_eq!(bodies.len(), 1, "two servers, one of them signed");
}

#[tokio::test]
async fn an_object_is_served_whole_or_not_at_all() {
    let site = Site::new();
    let bundle = VENDOR.bundle("1.1", &kernel(), &vec![0x5a; 300_000]);
    site.publish(&bundle, &[]);
    let server = site.serve().await;
    let path = format!("/v1/objects/{}", bundle.manifest.module.sha256);
    let response = server.get(&path).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(response.headers()[header::ETAG], format!("\"{}\"", bundle.manifest.module.sha256));
    assert_eq!(response.content_length(), Some(bundle.manifest.module.size_bytes));
    assert_eq!(response.bytes().await.unwrap(), bundle.module);

    // A download that broke off goes on; a range of another form is not looked at.
    let length = bundle.module.len();
    let last = format!("bytes={}-", length - 1);
    for (range, status, from) in [
        ("bytes=1000-", StatusCode::PARTIAL_CONTENT, 1000),
        (last.as_str(), StatusCode::PARTIAL_CONTENT, length - 1),
        ("bytes=99999999-", StatusCode::OK, 0),
        ("bytes=-5", StatusCode::OK, 0),
        ("bytes=0-1,5-6", StatusCode::OK, 0),
        ("lines=1-", StatusCode::OK, 0),
    ] {
        let request = server.client.get(server.url(&path)).header(header::RANGE, range);
        let part = request.send().await.unwrap();
        assert_eq!(part.status(), status, "{range}");
        let said = part.headers().get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap().to_owned());
        let expected = format!("bytes {from}-{}/{length}", length - 1);
        assert_eq!(said, (status == StatusCode::PARTIAL_CONTENT).then_some(expected), "{range}");
        assert_eq!(part.bytes().await.unwrap(), bundle.module[from..], "{range}");
    }

    let absent = server.get(&format!("/v1/objects/{}", sha256(b"absent"))).await;
    assert_eq!(error(absent, StatusCode::NOT_FOUND).await, "not-found");
    let bad = server.get("/v1/objects/..%2fserver.sqlite").await;
    assert_eq!(error(bad, StatusCode::BAD_REQUEST).await, "bad-request");

    let file = site.data().join("objects").join(bundle.manifest.module.sha256.to_string());
    let mut damaged = bundle.module.clone();
    damaged[1000] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    assert_eq!(error(server.get(&path).await, StatusCode::INTERNAL_SERVER_ERROR).await, "internal");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(error(server.get(&path).await, StatusCode::INTERNAL_SERVER_ERROR).await, "internal");
    let unlisted = site.data().join("objects").join(sha256(b"unlisted").to_string());
    std::fs::write(unlisted, b"unlisted").unwrap();
    let unlisted = server.get(&format!("/v1/objects/{}", sha256(b"unlisted"))).await;
    assert_eq!(error(unlisted, StatusCode::NOT_FOUND).await, "not-found", "a file without a patch");
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let site = Site::new();
    let token = site.token(&[]);
    let server = site.serve().await;
    let body = json!({ "token": token, "machine": "0".repeat(MAX_REQUEST_BYTES), "host": HOST });
    let response = server.client.post(server.url("/v1/enroll")).json(&body).send().await.unwrap();
    assert_eq!(error(response, StatusCode::PAYLOAD_TOO_LARGE).await, "too-large");
    let request = server.client.post(server.url("/v1/enroll")).body("{}").send().await.unwrap();
    assert_eq!(error(request, StatusCode::UNSUPPORTED_MEDIA_TYPE).await, "bad-request");
}

/// Speaks TLS to the server; the test writes what it likes.
async fn raw(server: &Server, site: &Site) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_file(site.data().join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap()
}

fn in_time<F: Future>(what: F) -> tokio::time::Timeout<F> {
    tokio::time::timeout(Duration::from_secs(60), what)
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_others_served() {
    // Long enough for those who mean well, on a machine that is busy: four handshakes are made within one stall.
    let slow = Duration::from_secs(4);
    let limits =
        Limits { connections: 4, handshake: slow, head: slow, request: slow, stall: slow, shutdown: slow };
    let site = Site::new();
    let large = VENDOR.bundle("1.1", &kernel(), &vec![1; 30 << 20]);
    site.publish(&large, &[]);
    let server = site.serve_with(limits).await;
    let mut answer = Vec::new();

    // No handshake; no head; a head and then no body; nothing at all after a request.
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    assert_eq!(in_time(silent.read_to_end(&mut answer)).await.unwrap().unwrap(), 0);
    let mut head = raw(&server, &site).await;
    head.write_all(b"GET /healthz HT").await.unwrap();
    let _ = in_time(head.read_to_end(&mut answer)).await.unwrap();
    let mut body = raw(&server, &site).await;
    body.write_all(b"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        .await
        .unwrap();
    answer.clear();
    let _ = in_time(body.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    let mut idle = raw(&server, &site).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    answer.clear();
    let _ = in_time(idle.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));

    // All connections taken by clients that read nothing of a large answer: more are closed, until they are cut off.
    let mut stalled = Vec::new();
    for _ in 0..limits.connections {
        let mut stream = raw(&server, &site).await;
        let request = format!("GET /v1/objects/{} HTTP/1.1\r\nHost: x\r\n\r\n", large.manifest.module.sha256);
        stream.write_all(request.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    assert!(server.client.get(server.url("/healthz")).send().await.is_err(), "one too many");
    let served_again = async {
        while server.client.get(server.url("/healthz")).send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    in_time(served_again).await.unwrap();

    server.handle.graceful_shutdown(Some(limits.shutdown));
    in_time(server.task).await.unwrap().unwrap().unwrap();
}
