//! A site (keys, modules, documents, server) and a host (fake kernel, clock, directories).

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body::Frame;
use jiff::Timestamp;
use livepatch_agent::{Agent, Config, Parts, Trust};
use livepatch_api::server::{EnrollRequest, EnrollResponse, ErrorBody, Report};
use livepatch_kernel::{FakeKernel, Kernel as _, Pause};
use livepatch_manifest::envelope::{assemble, signing_input};
use livepatch_manifest::{CveEntry, KernelDocument, ModuleObject, Target, VerifyingKey, document, sha256};
use livepatch_types::*;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectKeyIdentifier;
use openssl::x509::{X509, X509Name};

pub(crate) const TOKEN: &str = "a-token";
pub(crate) const NOW: &str = "2026-11-24T12:00:00Z";

/// A module signer.
pub(crate) struct Vendor {
    key: PKey<Private>,
    pub(crate) x509: X509,
}

pub(crate) static VENDOR: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("Vendor"));
pub(crate) static STRANGER: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("Stranger"));

impl Vendor {
    fn new(name: &str) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(365).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let key_id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(key_id).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { key, x509: builder.build() }
    }

    pub(crate) fn sign(&self, module: &[u8]) -> Vec<u8> {
        let options = CMSOptions::DETACHED
            | CMSOptions::BINARY
            | CMSOptions::NOATTR
            | CMSOptions::CMS_NOCERTS
            | CMSOptions::USE_KEYID;
        let cms =
            CmsContentInfo::sign(Some(&self.x509), Some(&self.key), None, Some(module), options).unwrap();
        livepatch_modsig::append(module, &cms.to_der().unwrap())
    }
}

pub(crate) fn kernel(byte: u8) -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[byte; 20]).unwrap(),
    }
}

pub(crate) fn version(text: &str) -> PatchVersion {
    PatchVersion::parse(text).unwrap()
}

/// The `.modinfo` of a livepatch.
pub(crate) fn info(version: &str, kernel: &KernelIdentity) -> BTreeMap<&'static str, String> {
    let version = self::version(version);
    BTreeMap::from([
        ("livepatch", "Y".to_owned()),
        ("name", version.module_name().to_string()),
        ("livepatch_version", version.to_string()),
        ("livepatch_kernel_build_id", kernel.build_id.to_string()),
        ("livepatch_kernel_release", kernel.release.to_string()),
        ("vermagic", format!("{} SMP preempt mod_unload modversions ", kernel.release)),
    ])
}

pub(crate) fn module(info: &BTreeMap<&'static str, String>) -> Vec<u8> {
    use object::write::Object;
    let mut elf =
        Object::new(object::BinaryFormat::Elf, object::Architecture::X86_64, object::Endianness::Little);
    let section = elf.add_section(Vec::new(), b".modinfo".to_vec(), object::SectionKind::ReadOnlyData);
    let mut text = Vec::new();
    for (key, value) in info {
        text.extend(format!("{key}={value}\0").bytes());
    }
    // A leading NUL, so that the fake kernel finds the first entry too.
    elf.append_section_data(section, b"\0", 1);
    elf.append_section_data(section, &text, 1);
    elf.write().unwrap()
}

/// What the server serves, and what it was asked.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) document: Option<Vec<u8>>,
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) asked: Vec<String>,
    pub(crate) reports: Vec<Report>,
    /// Where requests for objects are sent instead.
    pub(crate) redirect: Option<String>,
    /// What is answered to requests for documents instead: status, Retry-After, body.
    pub(crate) trouble: Option<(u16, Option<&'static str>, &'static str)>,
    /// After how many bytes an object breaks off, answer by answer.
    pub(crate) breaks: Vec<usize>,
    /// Whether it knows ranges.
    pub(crate) ranges: bool,
}

type Shared = Arc<Mutex<Shelf>>;

/// An operator with a server.
pub(crate) struct Site {
    pub(crate) operator: Ed25519KeyPair,
    pub(crate) shelf: Shared,
    pub(crate) url: String,
    pub(crate) ca: String,
    handle: axum_server::Handle<std::net::SocketAddr>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let tls = axum_server::tls_rustls::RustlsConfig::from_der(
            vec![certified.cert.der().to_vec()],
            certified.signing_key.serialize_der(),
        );
        let shelf = Shared::default();
        let routes = Router::new()
            .route("/v1/enroll", post(enroll))
            .route("/v1/kernels/{channel}/{build_id}", get(serve_document))
            .route("/v1/objects/{digest}", get(serve_object))
            .route("/v1/reports", post(take_report))
            .with_state(Arc::clone(&shelf));
        let handle = axum_server::Handle::new();
        let server = axum_server::bind_rustls("127.0.0.1:0".parse().unwrap(), tls.await.unwrap());
        tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
        let address = handle.listening().await.unwrap();
        let operator = Ed25519KeyPair::generate().unwrap();
        Self { operator, shelf, url: format!("https://{address}"), ca: certified.cert.pem(), handle }
    }

    pub(crate) fn key(&self) -> VerifyingKey {
        public(&self.operator)
    }

    /// Stops answering.
    pub(crate) fn down(&self) {
        self.handle.shutdown();
    }

    /// Puts a module on the shelf and says where it is.
    pub(crate) fn shelve(&self, bytes: &[u8]) -> ModuleObject {
        let object = ModuleObject { sha256: sha256(bytes), size_bytes: bytes.len() as u64 };
        self.shelf.lock().unwrap().objects.insert(object.sha256.to_string(), bytes.to_vec());
        object
    }

    /// A target with a good module for a kernel.
    pub(crate) fn target(&self, version: &str, kernel: &KernelIdentity) -> Target {
        self.target_of(version, &VENDOR.sign(&module(&info(version, kernel))))
    }

    pub(crate) fn target_of(&self, version: &str, bytes: &[u8]) -> Target {
        let entry = |id: &str, coverage| CveEntry {
            id: CveId::parse(id).unwrap(),
            coverage,
            rating: Rating::High,
            title: "net: something".into(),
        };
        Target {
            version: self::version(version),
            module: self.shelve(bytes),
            cves: vec![
                entry("CVE-2026-0001", CveCoverage::Whole),
                entry("CVE-2026-0002", CveCoverage::Partial),
            ],
            released: NOW.parse().unwrap(),
        }
    }

    /// Publishes a document, signed by the operator.
    pub(crate) fn publish(&self, document: &KernelDocument) {
        self.publish_signed(document, &self.operator);
    }

    pub(crate) fn publish_signed(&self, document: &KernelDocument, key: &Ed25519KeyPair) {
        let payload = document.to_payload();
        let sig = key.sign(&signing_input(document::PAYLOAD_TYPE, &payload)).as_ref().to_vec();
        let envelope = assemble(document::PAYLOAD_TYPE, &payload, &[(public(key).key_id(), sig)]);
        self.shelf.lock().unwrap().document = Some(envelope);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.lock().unwrap().asked)
    }
}

fn public(key: &Ed25519KeyPair) -> VerifyingKey {
    VerifyingKey::from_bytes(key.public_key().as_ref().try_into().unwrap())
}

/// A document of version 1 without a target, valid at [`NOW`].
pub(crate) fn document(kernel: &KernelIdentity, version: u64, target: Option<Target>) -> KernelDocument {
    KernelDocument {
        schema: 1,
        critical: vec![],
        kernel: kernel.clone(),
        channel: Tier::parse("stable").unwrap(),
        version,
        issued: "2026-11-24T00:00:00Z".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        poll_hint_seconds: None,
        target,
        withdrawn: vec![],
        vendor: None,
    }
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, Json(ErrorBody { code: code.into(), message: "no".into(), published: vec![] })).into_response()
}

async fn enroll(State(shelf): State<Shared>, Json(request): Json<EnrollRequest>) -> Response {
    shelf.lock().unwrap().asked.push(format!("enroll {}", request.machine));
    match request.token.expose().as_str() {
        TOKEN => {}
        code @ ("token-expired" | "token-exhausted") => return error(StatusCode::FORBIDDEN, code),
        "internal" => return error(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        _ => return error(StatusCode::UNAUTHORIZED, "unknown-token"),
    }
    let machine_token = Redacted::new("machine-token".to_owned());
    Json(EnrollResponse { machine_token, tier: Tier::parse("stable").unwrap() }).into_response()
}

async fn serve_document(
    State(shelf): State<Shared>,
    UrlPath((channel, build_id)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    shelf.asked.push(format!("document {channel} {build_id}"));
    if let Some((status, wait, body)) = shelf.trouble {
        let wait: HeaderMap = wait.map(|wait| (RETRY_AFTER, wait.parse().unwrap())).into_iter().collect();
        return (StatusCode::from_u16(status).unwrap(), wait, body).into_response();
    }
    let Some(envelope) = shelf.document.clone() else {
        return error(StatusCode::NOT_FOUND, "unknown-kernel");
    };
    let etag = format!("\"{}\"", sha256(&envelope));
    if headers.get("if-none-match").is_some_and(|tag| tag.as_bytes() == etag.as_bytes()) {
        shelf.asked.push("304".into());
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([("etag", etag)], envelope).into_response()
}

async fn serve_object(
    State(shelf): State<Shared>,
    UrlPath(digest): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let range = headers.get(RANGE).map(|range| range.to_str().unwrap().to_owned());
    shelf.asked.push(format!("object {digest}{}", range.as_ref().map_or(String::new(), |r| format!(" {r}"))));
    if let Some(elsewhere) = &shelf.redirect {
        return (StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere.clone())]).into_response();
    }
    match shelf.objects.get(&digest) {
        Some(bytes) => {
            let mut bytes = bytes.clone();
            let from = range
                .filter(|_| shelf.ranges)
                .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            let length = bytes.len();
            bytes.drain(..from.unwrap_or(0));
            let promised = bytes.len();
            let breaks = !shelf.breaks.is_empty();
            if breaks {
                bytes.truncate(shelf.breaks.remove(0));
            }
            let bytes = Body::new(BreakingBody { bytes: Some(bytes.into()), breaks, flushed: false });
            let promised = [(CONTENT_LENGTH, promised.to_string())];
            match from {
                Some(from) => {
                    let range = [(CONTENT_RANGE, format!("bytes {from}-{}/{length}", length - 1))];
                    (StatusCode::PARTIAL_CONTENT, promised, range, bytes).into_response()
                }
                None => (promised, bytes).into_response(),
            }
        }
        None => error(StatusCode::NOT_FOUND, "not-found"),
    }
}

/// A body that breaks off behind its bytes, or not.
struct BreakingBody {
    bytes: Option<Bytes>,
    breaks: bool,
    /// What was said so far has gone out.
    flushed: bool,
}

impl http_body::Body for BreakingBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(bytes) = self.bytes.take().filter(|bytes| !bytes.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.breaks && !std::mem::replace(&mut self.flushed, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.breaks.then(|| Err(std::io::ErrorKind::BrokenPipe.into())))
    }
}

async fn take_report(
    State(shelf): State<Shared>,
    headers: HeaderMap,
    Json(report): Json<Report>,
) -> Response {
    if headers.get("authorization").is_none_or(|value| value.as_bytes() != b"Bearer machine-token") {
        return error(StatusCode::UNAUTHORIZED, "bad-request");
    }
    shelf.lock().unwrap().reports.push(report);
    StatusCode::NO_CONTENT.into_response()
}

struct NoPause;

impl Pause for NoPause {
    fn pause(&self, _: Duration) {}
}

/// A clock that a test sets.
pub(crate) struct SetClock(pub(crate) Mutex<Timestamp>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// One host of a site.
pub(crate) struct Host {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) clock: Arc<SetClock>,
    config: Config,
}

impl Host {
    pub(crate) fn new(site: &Site) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, &site.ca).unwrap();
        std::fs::write(directory.path().join("operator.pub"), site.key().to_text()).unwrap();
        std::fs::write(directory.path().join("vendor.pem"), VENDOR.x509.to_pem().unwrap()).unwrap();
        let config =
            format!("server = \"{}\"\nca-file = \"{}\"\ndial-timeout = \"2s\"", site.url, ca.display());
        Self {
            directory,
            kernel: Arc::new(FakeKernel::new(kernel(1))),
            clock: Arc::new(SetClock(Mutex::new(NOW.parse().unwrap()))),
            config: Config::parse(&config).unwrap(),
        }
    }

    /// The proxy, and what is asked without it.
    pub(crate) fn proxy(&mut self, url: &str, no_proxy: &str) {
        let config = Config::parse(&format!("https-proxy = \"{url}\"\nno-proxy = \"{no_proxy}\"")).unwrap();
        (self.config.proxy, self.config.no_proxy) = (config.proxy, config.no_proxy);
    }

    /// More settings, and what the kernel's command line says.
    pub(crate) fn configure(&mut self, settings: &str, command_line: &str) {
        let config = Config::parse(settings).unwrap().with_mode(command_line, None).unwrap();
        self.config.policy = config.policy;
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state_file(&self) -> std::path::PathBuf {
        self.path().join("state/state.json")
    }

    pub(crate) fn at(&self, time: &str) {
        *self.clock.0.lock().unwrap() = time.parse().unwrap();
    }

    /// The daemon starts: once more, or for the first time.
    pub(crate) fn agent(&self) -> Arc<Agent> {
        Agent::new(Parts {
            kernel: Arc::clone(&self.kernel) as _,
            pause: Arc::new(NoPause),
            clock: Arc::clone(&self.clock) as _,
            config: self.config.clone(),
            trust: Trust::read(self.path(), &self.path().join("keys")),
            machine: "ab".repeat(32),
            state_directory: self.path().join("state"),
            status_file: self.path().join("status.json"),
        })
    }

    pub(crate) async fn enabled(&self) -> Arc<Agent> {
        let agent = self.agent();
        agent.start().await.unwrap();
        agent.enable(Redacted::new(TOKEN.into())).await.unwrap();
        agent
    }

    /// The names of the livepatches in the kernel.
    pub(crate) fn livepatches(&self) -> Vec<String> {
        self.kernel.livepatches().unwrap().into_iter().map(|patch| patch.name.to_string()).collect()
    }

    pub(crate) fn modules(&self) -> Vec<String> {
        self.kernel.modules().unwrap().into_iter().map(|module| module.name.to_string()).collect()
    }
}

/// A problem's word, or why there is none.
pub(crate) fn code(result: Result<(), livepatch_agent::Problem>) -> &'static str {
    match result {
        Err(problem) => {
            assert!(!problem.message.is_empty() && !problem.hints.is_empty(), "{problem:?}");
            problem.code
        }
        Ok(()) => "ok",
    }
}
