//! The most memory that a loader needs: `cargo xtask bench trust` calls it. The loader is a process of its own, as it is on
//! a host, with sockets, state and all that it verifies; only the kernel is in memory. Its repository has 200 kernels, as
//! many as one series of a distribution has in all flavours (15 of them make the 3,000 of that bench).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot measure ends")]

#[path = "../tests/support/repository.rs"]
#[expect(dead_code, reason = "shared with the suites of attacks")]
mod repository;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the suites of attacks")]
mod signing;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_kernel::FakeKernel;
use livepatch_loader::observer::Unobserved;
use livepatch_loader::server::{PEER_BOUND, bind, serve};
use livepatch_loader::step::Unwatched;
use livepatch_loader::{Loader, Parts, Peers, TrustDirectories, answer_agent, answer_root};
use livepatch_loader_api::{AGENT_SOCKET, AgentRequest, ROOT_SOCKET, Request, RootRequest, View, ask};
use livepatch_settings::Policy;
use livepatch_trust::{AllowedObject, FileMeta, KernelAllowance, TargetName};
use livepatch_types::*;
use serde_json::{Map, Value, json};

use crate::repository::{Repository, TARGETS_KEYS, allowed, sign};
use crate::signing::*;

/// Names the JSON file that the figures are added to.
const OUT: &str = "LIVEPATCH_BENCH_OUT";
/// The kernels of the repository.
const KERNELS: u8 = 200;
/// A large livepatch: most have a tenth of it.
const MODULE_BYTES: usize = 1 << 20;
/// For an answer.
const BOUND: Duration = Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, as_loader, directory] if as_loader == "--loader" => run_loader(directory.as_ref()),
        _ => measure(),
    }
}

/// Is the loader of a directory until it is killed.
fn run_loader(directory: &Path) {
    let loader = Loader::new(Parts {
        kernel: Arc::new(FakeKernel::new(kernel(1))),
        pause: Arc::new(NoPause),
        clock: Arc::new(SetClock(Mutex::new(NOW.parse().unwrap()))),
        trust: TrustDirectories { administrator: directory.to_owned(), package: directory.join("none") },
        machine: Some(Sha256Digest::from_bytes([1; 32])),
        state_directory: directory.join("state"),
        policy: Policy::default(),
        transition_timeout: Duration::from_secs(5),
        soak: Duration::ZERO,
        panic_directories: Vec::new(),
        steps: Arc::new(Unwatched),
        observer: Arc::new(Unobserved),
    });
    loader.start().unwrap();
    let me = Peers::of(&[rustix::process::getuid().as_raw()]);
    let socket = |name: &str| bind(&directory.join(name), 0o600, None).unwrap();
    let serving = Arc::clone(&loader);
    let answer = move |head, body: &mut dyn std::io::Read| answer_agent(&serving, head, body);
    serve(socket(AGENT_SOCKET), &me, PEER_BOUND, answer, |_| ()).unwrap();
    let answer = move |head, body: &mut dyn std::io::Read| answer_root(&loader, head, body);
    serve(socket(ROOT_SOCKET), &me, PEER_BOUND, answer, |_| ()).unwrap();
    println!("{}", memory("VmHWM"));
    loop {
        std::thread::park();
    }
}

/// The agent: brings the loader of a new host to a livepatch in force.
fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let operator = Ed25519KeyPair::generate().unwrap();
    let mut module = module(&info("1.1", &kernel(1)));
    module.resize(MODULE_BYTES, 0);
    let module = VENDOR.sign(&module);
    let mut repository = Repository::new();
    repository.allow("1.1", &module);
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("operator.pub"), public(&operator).to_text()).unwrap();
    std::fs::write(path("vendor.pem"), VENDOR.x509.to_pem().unwrap()).unwrap();
    std::fs::write(path("vendor-root.json"), repository.root_file()).unwrap();

    // Many kernels, of which this is one.
    let mut targets = repository.targets();
    for number in (0..KERNELS).filter(|&number| number != 1) {
        let other = allowance(number);
        let name = TargetName::of_kernel(other.kernel.architecture, &other.kernel.build_id);
        targets.targets.insert(name.to_string(), FileMeta::of(&other.to_bytes()));
    }
    let files = repository.files_with(&sign(&targets, &TARGETS_KEYS));
    let mut named = repository.named();
    let timestamp = named.timestamp.version;
    named.timestamp.sha256 = livepatch_manifest::sha256(&files["metadata/timestamp.json"]);
    assert_eq!(named.timestamp.version, timestamp);

    let loader = Running::start(directory.path());
    let root = |request| view(&path(ROOT_SOCKET), request, &[]);
    let agent = |request, body: &[u8]| view(&path(AGENT_SOCKET), request, body);
    let host = root(RootRequest::Enable).host.unwrap();
    agent(AgentRequest::Assign, &assign(host, "stable", 1, &operator));
    let mut document = document(&kernel(1), 1, Some(target_of("1.1", &module)));
    document.vendor = Some(named);
    agent(AgentRequest::Note, &sign_document(&document, &operator));
    let mut seen = agent(AgentRequest::Update, &[]);
    while let Some(wanted) = seen.vendor.as_ref().and_then(|vendor| vendor.wants.clone()) {
        seen = agent(AgentRequest::Metadata, files.get(&wanted.path).map_or(&[], Vec::as_slice));
    }
    let of_metadata = loader.memory("VmHWM");
    let seen = agent(AgentRequest::Apply, &module);
    assert_eq!(seen.applied.as_ref().map(|applied| applied.target.version), Some(version("1.1")), "{seen:?}");

    let figures = json!({
        "loader_start_kib": loader.at_start,
        "loader_peak_metadata_kib": of_metadata,
        "loader_peak_kib": loader.memory("VmHWM"),
        "loader_module_bytes": MODULE_BYTES,
        "loader_targets_bytes": files.iter().find(|(path, _)| path.ends_with("targets.json")).unwrap().1.len(),
    });
    let Some(out) = std::env::var_os(OUT) else {
        println!("{figures:#}");
        return;
    };
    let mut report: Map<String, Value> =
        std::fs::read(&out).map_or_else(|_| Map::new(), |text| serde_json::from_slice(&text).unwrap());
    report.extend(figures.as_object().unwrap().clone());
    let report = format!("{:#}\n", Value::Object(report));
    std::fs::write(&out, &report).unwrap();
    print!("{report}");
}

/// What a repository says of a kernel: a livepatch of three modules.
fn allowance(number: u8) -> KernelAllowance {
    let mut allowance = KernelAllowance::empty(kernel(number));
    let mut patch = allowed("1.1", &[number]);
    let objects = ["nf_tables", "ext4", "cls_u32"].map(|name| AllowedObject {
        name: ModuleName::parse(name).unwrap(),
        build_id: BuildId::from_bytes(&[number; 20]).unwrap(),
    });
    patch.objects = objects.into();
    allowance.allowed.push(patch);
    allowance
}

/// Asks for what must not be refused.
fn view(socket: &Path, request: impl Request, body: &[u8]) -> View {
    let answer = ask(socket, request, body, BOUND).unwrap();
    assert!(answer.failure.is_none(), "{request:?}: {:?}", answer.failure);
    answer.view.unwrap()
}

/// The loader, which ends with this value.
struct Running {
    process: Child,
    /// What it needed before anybody asked.
    at_start: u64,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--loader").arg(directory).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, at_start: line.trim().parse().unwrap() }
    }

    fn memory(&self, line: &str) -> u64 {
        memory_of(&self.process.id().to_string(), line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn memory(line: &str) -> u64 {
    memory_of("self", line)
}

/// A line of `/proc/PID/status` in KiB.
fn memory_of(process: &str, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.strip_suffix(" kB"));
    value.unwrap_or_else(|| panic!("no line {line}")).trim().parse().unwrap()
}
