//! A site (keys, modules, documents, server) and a host (fake kernel, clock, directories, agent and loader).

use std::collections::BTreeMap;
use std::future::Future as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body::Frame;
use livepatch_agent::{Agent, Parts, Problem, Reach, sockets};
use livepatch_api::daemon::Status;
use livepatch_api::server::{
    AssignmentRequest, AssignmentResponse, EnrollRequest, EnrollResponse, ErrorBody, Report,
};
use livepatch_kernel::{FakeKernel, Kernel as _, Pause};
use livepatch_loader::server::{bind, serve};
use livepatch_loader::{Loader, Peers, TrustDirectories, answer_agent, answer_root};
use livepatch_loader_api::{RootRequest, ask};
use livepatch_manifest::{KernelDocument, ModuleObject, Target, VerifyingKey, sha256};
use livepatch_settings::Config;
use livepatch_types::*;

pub(crate) use crate::signing::*;

pub(crate) const TOKEN: &str = "a-token";
/// How long is waited for what must come: only a failure takes that long.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// A default route, as `/proc/net/route` has it.
const ROUTES: &str = "eth0 00000000 0202000A 0003 0 0 0 00000000 0 0 0\n";

/// What the server serves, and what it was asked.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) document: Option<Vec<u8>>,
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// The files of the vendor's repository.
    pub(crate) vendor: BTreeMap<String, Vec<u8>>,
    /// What is served of the log, by path.
    pub(crate) log: BTreeMap<String, Vec<u8>>,
    /// The operator's roots.
    pub(crate) operator: BTreeMap<String, Vec<u8>>,
    pub(crate) asked: Vec<String>,
    pub(crate) reports: Vec<Report>,
    /// The bodies of all requests with a report, those that were not taken too.
    pub(crate) report_bodies: Vec<String>,
    /// What is answered to reports instead, and whether they are taken nevertheless.
    pub(crate) report_trouble: Option<(u16, bool)>,
    /// A kernel, and how many modules it had loaded when each report came.
    pub(crate) watched: Option<Arc<FakeKernel>>,
    pub(crate) loads: Vec<usize>,
    /// Which kernels are covered, an envelope.
    pub(crate) support: Option<Vec<u8>>,
    /// How hosts are assigned.
    pub(crate) assign: Option<Assign>,
    /// Whether it is of a version that knew no cohorts.
    pub(crate) before_cohorts: bool,
    /// What is answered to requests for documents instead: status, Retry-After, body.
    pub(crate) trouble: Option<(u16, Option<&'static str>, &'static str)>,
    /// After how many bytes an object breaks off, answer by answer.
    pub(crate) breaks: Vec<usize>,
    /// Whether it knows ranges.
    pub(crate) ranges: bool,
    /// What is answered instead to every request whose path ends so.
    pub(crate) tricks: Vec<(String, Trick)>,
}

/// What a hostile server answers with.
#[derive(Debug, Clone)]
pub(crate) enum Trick {
    /// More of this, without an end.
    Endless(Bytes),
    /// A byte now and then.
    Slow,
    /// This, compressed with gzip.
    Compressed(Bytes),
    /// Another place.
    Redirect(String),
    /// Half of the right answer, whose head promises all of it.
    Half,
}

impl Trick {
    async fn answer(self, right: impl Future<Output = Response>) -> Response {
        match self {
            Self::Half => {
                let (mut head, body) = right.await.into_parts();
                let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                head.headers.insert(CONTENT_LENGTH, bytes.len().into());
                let bytes = Some(bytes.slice(..bytes.len() / 2));
                Response::from_parts(head, Body::new(BreakingBody { bytes, breaks: true, flushed: false }))
            }
            Self::Endless(bytes) => {
                Body::new(Drops { drop: bytes, every: Duration::ZERO, wait: None }).into_response()
            }
            Self::Slow => {
                let every = Duration::from_millis(200);
                Body::new(Drops { drop: Bytes::from_static(b" "), every, wait: None }).into_response()
            }
            Self::Compressed(bytes) => ([(CONTENT_ENCODING, "gzip")], bytes).into_response(),
            Self::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
        }
    }
}

/// A body that never ends.
struct Drops {
    drop: Bytes,
    every: Duration,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Drops {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let every = self.every;
        let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
        std::task::ready!(wait.as_mut().poll(context));
        self.wait = None;
        Poll::Ready(Some(Ok(Frame::data(self.drop.clone()))))
    }
}

/// Answers as the shelf says, but with a trick where there is one.
async fn with_tricks(State(shelf): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let trick = shelf.lock().unwrap().tricks.iter().find(|(end, _)| path.ends_with(end)).cloned();
    match trick {
        Some((_, trick)) => trick.answer(next.run(request)).await,
        None => next.run(request).await,
    }
}

type Assign = Box<dyn Fn(HostId, Option<Cohort>) -> Vec<u8> + Send>;
type Shared = Arc<Mutex<Shelf>>;

/// An operator with a server.
pub(crate) struct Site {
    pub(crate) operator: Arc<Ed25519KeyPair>,
    pub(crate) shelf: Shared,
    pub(crate) url: String,
    pub(crate) ca: String,
    handle: axum_server::Handle<std::net::SocketAddr>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::on(std::net::Ipv4Addr::LOCALHOST.into()).await
    }

    /// One that listens on this address alone, and whose certificate is for it.
    pub(crate) async fn on(address: std::net::IpAddr) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certified =
            rcgen::generate_simple_self_signed(vec![address.to_string(), "localhost".into()]).unwrap();
        let tls = axum_server::tls_rustls::RustlsConfig::from_der(
            vec![certified.cert.der().to_vec()],
            certified.signing_key.serialize_der(),
        );
        let shelf = Shared::default();
        let routes = Router::new()
            .route("/v1/enroll", post(enroll))
            .route("/v1/assignment", post(assign_anew))
            .route("/v1/kernels/{channel}/{build_id}", get(serve_document))
            .route("/v1/objects/{digest}", get(serve_object))
            .route("/v1/vendor/{repository}/{*path}", get(serve_vendor))
            .route("/v1/operator/{*path}", get(serve_operator))
            .route("/v1/log/proofs/{module}", get(serve_log))
            .route("/tile/{*path}", get(serve_log))
            .route("/v1/support", get(serve_support))
            .route("/v1/reports", post(take_report))
            .layer(from_fn_with_state(Arc::clone(&shelf), with_tricks))
            .with_state(Arc::clone(&shelf));
        let handle = axum_server::Handle::new();
        let server = axum_server::bind_rustls((address, 0).into(), tls.await.unwrap());
        tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
        let address = handle.listening().await.unwrap();
        let operator = Arc::new(Ed25519KeyPair::generate().unwrap());
        let key = Arc::clone(&operator);
        shelf.lock().unwrap().assign =
            Some(Box::new(move |host, cohort| assign_in_cohort(host, "stable", cohort, 1, &key)));
        Self { operator, shelf, url: format!("https://{address}"), ca: certified.cert.pem(), handle }
    }

    pub(crate) fn key(&self) -> VerifyingKey {
        public(&self.operator)
    }

    /// Another server, with what is on this one's shelf now.
    pub(crate) async fn mirror(&self) -> Self {
        let mirror = Self::new().await;
        let ours = self.shelf.lock().unwrap();
        {
            let mut theirs = mirror.shelf.lock().unwrap();
            (theirs.document, theirs.objects) = (ours.document.clone(), ours.objects.clone());
            theirs.vendor = ours.vendor.clone();
        }
        drop(ours);
        mirror
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
        self.shelve(bytes);
        target_of(version, bytes)
    }

    /// Publishes a document, signed by the operator.
    pub(crate) fn publish(&self, document: &KernelDocument) {
        self.publish_signed(document, &self.operator);
    }

    pub(crate) fn publish_signed(&self, document: &KernelDocument, key: &Ed25519KeyPair) {
        self.shelf.lock().unwrap().document = Some(sign_document(document, key));
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.lock().unwrap().asked)
    }
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, Json(ErrorBody { code: code.into(), message: "no".into(), published: vec![] })).into_response()
}

async fn enroll(State(shelf): State<Shared>, Json(request): Json<EnrollRequest>) -> Response {
    let assigned =
        shelf.lock().unwrap().assign.as_ref().map(|assign| assign(request.host, request.cohort.clone()));
    shelf.lock().unwrap().asked.push(format!("enroll {}", request.machine));
    if shelf.lock().unwrap().before_cohorts && request.cohort.is_some() {
        return error(StatusCode::UNPROCESSABLE_ENTITY, "bad-request");
    }
    match request.token.expose().as_str() {
        TOKEN => {}
        code @ ("token-expired" | "token-exhausted") => return error(StatusCode::FORBIDDEN, code),
        "internal" => return error(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        _ => return error(StatusCode::UNAUTHORIZED, "unknown-token"),
    }
    let machine_token = Redacted::new("machine-token".to_owned());
    let assignment = String::from_utf8(assigned.unwrap()).unwrap();
    Json(EnrollResponse { machine_token, tier: Tier::parse("stable").unwrap(), assignment }).into_response()
}

async fn assign_anew(
    State(shelf): State<Shared>,
    headers: HeaderMap,
    Json(request): Json<AssignmentRequest>,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let cohort = request.cohort.as_ref().map_or("none", Cohort::as_str);
    shelf.asked.push(format!("assignment {cohort}"));
    if headers.get("authorization").is_none_or(|value| value.as_bytes() != b"Bearer machine-token") {
        return error(StatusCode::UNAUTHORIZED, "unknown-token");
    }
    if shelf.before_cohorts {
        return error(StatusCode::NOT_FOUND, "not-found");
    }
    let assigned = shelf.assign.as_ref().map(|assign| assign(request.host, request.cohort.clone()));
    Json(AssignmentResponse { assignment: String::from_utf8(assigned.unwrap()).unwrap() }).into_response()
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

async fn serve_vendor(
    State(shelf): State<Shared>,
    UrlPath((repository, path)): UrlPath<(String, String)>,
) -> Response {
    let mut shelf = shelf.lock().unwrap();
    shelf.asked.push(format!("vendor {repository} {path}"));
    match shelf.vendor.get(&path) {
        Some(bytes) => bytes.clone().into_response(),
        None => error(StatusCode::NOT_FOUND, "not-found"),
    }
}

async fn serve_operator(State(shelf): State<Shared>, UrlPath(path): UrlPath<String>) -> Response {
    let mut shelf = shelf.lock().unwrap();
    shelf.asked.push(format!("operator {path}"));
    match shelf.operator.get(&path) {
        Some(bytes) => bytes.clone().into_response(),
        None => error(StatusCode::NOT_FOUND, "not-found"),
    }
}

async fn serve_support(State(shelf): State<Shared>) -> Response {
    let mut shelf = shelf.lock().unwrap();
    shelf.asked.push("support".into());
    match &shelf.support {
        Some(bytes) => bytes.clone().into_response(),
        None => error(StatusCode::NOT_FOUND, "not-found"),
    }
}

async fn serve_log(State(shelf): State<Shared>, uri: Uri) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let path = uri.path().trim_start_matches('/').to_owned();
    let answer = match shelf.log.get(&path) {
        Some(bytes) => bytes.clone().into_response(),
        None => error(StatusCode::NOT_FOUND, "not-found"),
    };
    shelf.asked.push(format!("log {path}"));
    answer
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

async fn take_report(State(shelf): State<Shared>, headers: HeaderMap, body: String) -> Response {
    if headers.get("authorization").is_none_or(|value| value.as_bytes() != b"Bearer machine-token") {
        return error(StatusCode::UNAUTHORIZED, "bad-request");
    }
    let mut shelf = shelf.lock().unwrap();
    let report: Report = serde_json::from_str(&body).unwrap();
    let id = |report: &Report| report.event.as_ref().map(|event| event.id);
    let is_known = shelf.reports.iter().any(|known| id(known) == id(&report));
    shelf.report_bodies.push(body);
    let trouble = shelf.report_trouble;
    if trouble.is_none_or(|(_, taken)| taken) && !is_known {
        let loads = shelf.watched.as_ref().map_or(0, |kernel| kernel.loads().len());
        shelf.loads.push(loads);
        shelf.reports.push(report);
    }
    match trouble {
        Some((status, _)) => error(StatusCode::from_u16(status).unwrap(), "bad-request"),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// One host of a site.
pub(crate) struct Host {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) clock: Arc<SetClock>,
    /// Which machine daemons are on that start after this.
    pub(crate) machine: Mutex<Option<Sha256Digest>>,
    config: Config,
    pause: Arc<dyn Pause>,
    starts: AtomicU32,
}

impl Host {
    pub(crate) fn new(site: &Site) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, &site.ca).unwrap();
        std::fs::write(directory.path().join("operator.pub"), site.key().to_text()).unwrap();
        std::fs::write(directory.path().join("vendor.pem"), VENDOR.x509.to_pem().unwrap()).unwrap();
        std::fs::write(directory.path().join("route"), ROUTES).unwrap();
        let config =
            format!("server = \"{}\"\nca-file = \"{}\"\ndial-timeout = \"30s\"", site.url, ca.display());
        Self {
            directory,
            kernel: Arc::new(FakeKernel::new(kernel(1))),
            clock: Arc::new(SetClock(Mutex::new(NOW.parse().unwrap()))),
            machine: Mutex::new(None),
            config: Config::parse(&config).unwrap(),
            pause: Arc::new(NoPause),
            starts: AtomicU32::new(0),
        }
    }

    /// Another server, for the client of daemons that start after this.
    pub(crate) fn server(&mut self, url: &str) {
        self.config.server = Config::parse(&format!("server = \"{url}\"")).unwrap().server;
    }

    /// The proxy, and what is asked without it.
    pub(crate) fn proxy(&mut self, url: &str, no_proxy: &str) {
        let config = Config::parse(&format!("https-proxy = \"{url}\"\nno-proxy = \"{no_proxy}\"")).unwrap();
        (self.config.proxy, self.config.no_proxy) = (config.proxy, config.no_proxy);
    }

    /// Bound of connecting.
    pub(crate) fn dial_timeout(&mut self, text: &str) {
        self.config.dial_timeout = Config::parse(&format!("dial-timeout = \"{text}\"")).unwrap().dial_timeout;
    }

    /// Its server has another address from now on: for daemons that start after this.
    pub(crate) fn server_moved(&mut self, to: &str) {
        // What is enrolled stays so: the server is in the state.
        let state = self.path().join("state/state.json");
        let from = self.config.server.clone().unwrap();
        let moved = std::fs::read_to_string(&state).unwrap().replace(&from, to);
        std::fs::write(&state, moved).unwrap();
        self.server(to);
    }

    /// Servers that are asked when the site's own fails; their certificates are believed too.
    pub(crate) fn mirrors(&mut self, mirrors: &[&Site]) {
        self.config.mirrors = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
        let ca = self.path().join("ca.pem");
        let mut certificates = std::fs::read_to_string(&ca).unwrap();
        certificates.extend(mirrors.iter().map(|mirror| mirror.ca.as_str()));
        std::fs::write(ca, certificates).unwrap();
    }

    /// More settings, and what the kernel's command line says.
    pub(crate) fn configure(&mut self, settings: &str, command_line: &str) {
        let config = Config::parse(settings).unwrap().with_mode(command_line, None).unwrap();
        (self.config.policy, self.config.telemetry) = (config.policy, config.telemetry);
        self.config.check_interval = config.check_interval;
    }

    /// The loader's owner made a mistake in the configuration.
    pub(crate) fn configure_wrongly(&mut self) {
        self.config.policy.unusable = true;
    }

    /// How the loader waits for the kernel.
    pub(crate) fn pause(&mut self, pause: Arc<dyn Pause>) {
        self.pause = pause;
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state_file(&self) -> std::path::PathBuf {
        self.path().join("loader/state.json")
    }

    /// Has a network from now on, or none, as far as its routes tell.
    pub(crate) fn network(&self, is_up: bool) {
        std::fs::write(self.path().join("route"), if is_up { ROUTES } else { "" }).unwrap();
    }

    pub(crate) fn at(&self, time: &str) {
        *self.clock.0.lock().unwrap() = time.parse().unwrap();
    }

    /// Both daemons start: once more, or for the first time. Those before are not asked any more.
    pub(crate) fn agent(&self) -> Daemons {
        let sockets = self.path().join(format!("run{}", self.starts.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&sockets).unwrap();
        let loader = Loader::new(livepatch_loader::Parts {
            kernel: Arc::clone(&self.kernel) as _,
            pause: Arc::clone(&self.pause),
            clock: Arc::clone(&self.clock) as _,
            trust: TrustDirectories {
                administrator: self.path().to_owned(),
                package: self.path().join("keys"),
            },
            machine: *self.machine.lock().unwrap(),
            state_directory: self.path().join("loader"),
            policy: self.config.policy.clone(),
            transition_timeout: self.config.transition_timeout,
            soak: std::time::Duration::ZERO,
            panic_directories: Vec::new(),
            steps: Arc::new(livepatch_loader::step::Unwatched),
            observer: Arc::new(livepatch_loader::observer::Unobserved),
        });
        let (agents, roots) = (sockets.join("agent.sock"), sockets.join("root.sock"));
        let peers = Peers::of(&[rustix::process::getuid().as_raw()]);
        let serving = Arc::clone(&loader);
        let answer = move |head, body: &mut dyn std::io::Read| answer_agent(&serving, head, body);
        serve(bind(&agents, 0o600, None).unwrap(), &peers, BOUND, answer, |_| ()).unwrap();
        let serving = Arc::clone(&loader);
        let answer = move |head, body: &mut dyn std::io::Read| answer_root(&serving, head, body);
        serve(bind(&roots, 0o600, None).unwrap(), &peers, BOUND, answer, |_| ()).unwrap();
        let agent = Agent::new(Parts {
            kernel: Arc::clone(&self.kernel) as _,
            clock: Arc::clone(&self.clock) as _,
            config: self.config.clone(),
            loader: agents,
            machine: "ab".repeat(32),
            state_directory: self.path().join("state"),
            boot_directory: self.path().join("boot"),
            os_release: self.path().join("os-release"),
            routes: self.path().to_owned(),
            status_file: self.path().join("status.json"),
        });
        Daemons { agent, loader, roots }
    }

    pub(crate) async fn enabled(&self) -> Daemons {
        let daemons = self.agent();
        daemons.start().await.unwrap();
        daemons.enable(Redacted::new(TOKEN.into())).await.unwrap();
        daemons
    }

    /// The names of the livepatches in the kernel.
    pub(crate) fn livepatches(&self) -> Vec<String> {
        self.kernel.livepatches().unwrap().into_iter().map(|patch| patch.name.to_string()).collect()
    }

    pub(crate) fn modules(&self) -> Vec<String> {
        self.kernel.modules().unwrap().into_iter().map(|module| module.name.to_string()).collect()
    }
}

/// The daemons of a host, and root, who says what `livepatch` says for it.
pub(crate) struct Daemons {
    pub(crate) agent: Arc<Agent>,
    loader: Arc<Loader>,
    roots: std::path::PathBuf,
}

impl Daemons {
    /// The loader starts, then the agent.
    pub(crate) async fn start(&self) -> Result<(), Problem> {
        let loader = Arc::clone(&self.loader);
        let started = tokio::task::spawn_blocking(move || loader.start()).await.unwrap();
        let agent = self.agent.start().await;
        started.map_err(|problem| Problem::from(problem.to_failure())).and(agent)
    }

    pub(crate) async fn round(&self, reach: Reach) -> Result<(), Problem> {
        self.agent.round(reach).await
    }

    pub(crate) async fn refresh(&self) -> Result<(), Problem> {
        self.agent.refresh().await
    }

    pub(crate) fn status(&self) -> Status {
        self.agent.status()
    }

    pub(crate) async fn enable(&self, token: Redacted<String>) -> Result<(), Problem> {
        self.root(RootRequest::Enable).await?;
        self.agent.enable(token).await
    }

    pub(crate) async fn disable(&self) -> Result<(), Problem> {
        self.root(RootRequest::Disable).await?;
        self.agent.disable().await
    }

    pub(crate) async fn revert(&self) -> Result<(), Problem> {
        self.root(RootRequest::Revert).await?;
        self.agent.look().await
    }

    pub(crate) async fn apply(&self) -> Result<(), Problem> {
        self.root(RootRequest::Clear).await?;
        self.agent.refresh().await
    }

    pub(crate) async fn prepare_image(&self) -> Result<(), Problem> {
        self.root(RootRequest::PrepareImage).await?;
        self.agent.prepare_image().await
    }

    pub(crate) async fn reset_trust(&self) -> Result<(), Problem> {
        self.root(RootRequest::ResetTrust).await
    }

    /// Where all sockets are.
    pub(crate) fn directory(&self) -> &Path {
        self.roots.parent().unwrap()
    }

    /// Listens for `livepatch` too.
    pub(crate) fn listen(&self) {
        let directory = self.directory();
        let agent = || Arc::clone(&self.agent);
        let socket = |name, mode| sockets::bind(&directory.join(name), mode).unwrap();
        tokio::spawn(sockets::serve_reading(agent(), socket(sockets::READ_SOCKET, 0o666)));
        tokio::spawn(sockets::serve_privileged(agent(), socket(sockets::PRIVILEGED_SOCKET, 0o600)));
    }

    async fn root(&self, request: RootRequest) -> Result<(), Problem> {
        let socket = self.roots.clone();
        let answer = tokio::task::spawn_blocking(move || ask(&socket, request, &[], BOUND)).await.unwrap()?;
        answer.failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// A problem's word, or why there is none.
pub(crate) fn code(result: Result<(), Problem>) -> String {
    match result {
        Err(problem) => {
            assert!(!problem.message.is_empty() && !problem.hints.is_empty(), "{problem:?}");
            problem.code.into_owned()
        }
        Ok(()) => "ok".into(),
    }
}

/// Whether this test is root, as some sockets want it; if not, that it is skipped is said loudly.
pub(crate) fn root_or_skipped() -> bool {
    let is_root = rustix::process::getuid().is_root();
    if !is_root {
        livepatch_vm::testing::skipped("only root may speak on the daemon's socket");
    }
    is_root
}
