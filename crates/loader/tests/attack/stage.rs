//! A loader on its sockets, whose host runs livepatch 1.1.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_kernel::{FakeKernel, Kernel as _};
use livepatch_loader::observer::Unobserved;
use livepatch_loader::server::{bind, serve};
use livepatch_loader::step::{Steps, Unwatched};
use livepatch_loader::{Loader, Parts, Peers, TrustDirectories, answer_agent, answer_root};
use livepatch_loader_api::{AgentRequest, Answer, Head, Request, RootRequest, View};
use livepatch_manifest::KernelDocument;
use livepatch_settings::Policy;
use livepatch_types::Sha256Digest;

use crate::signing::*;

/// How long a test waits for an answer, and these loaders for a peer that means well.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) kernel: Arc<FakeKernel>,
    clock: Arc<SetClock>,
    /// Which machine the loader finds itself on.
    pub(crate) machine: Option<Sha256Digest>,
    /// What its owner allows.
    pub(crate) policy: Policy,
    /// Who is told of its steps.
    pub(crate) steps: Arc<dyn Steps>,
    pub(crate) operator: Ed25519KeyPair,
    loader: Arc<Loader>,
    starts: u32,
    pub(crate) agents: PathBuf,
    pub(crate) roots: PathBuf,
}

impl Stage {
    /// A loader that was just installed.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let operator = Ed25519KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("operator.pub"), public(&operator).to_text()).unwrap();
        std::fs::write(directory.path().join("vendor.pem"), VENDOR.x509.to_pem().unwrap()).unwrap();
        let kernel = Arc::new(FakeKernel::new(kernel(1)));
        let clock = Arc::new(SetClock(Mutex::new(NOW.parse().unwrap())));
        let machine = Some(Sha256Digest::from_bytes([1; 32]));
        let steps: Arc<dyn Steps> = Arc::new(Unwatched);
        let loader = loader(directory.path(), &kernel, &clock, machine, Policy::default(), &steps);
        let nowhere = PathBuf::new();
        let (agents, roots) = (nowhere.clone(), nowhere);
        let mut stage = Self {
            directory,
            kernel,
            clock,
            machine,
            policy: Policy::default(),
            steps,
            operator,
            loader,
            starts: 0,
            agents,
            roots,
        };
        let me = rustix::process::getuid().as_raw();
        stage.serve(&Peers::of(&[me]), &Peers::of(&[me]));
        stage
    }

    /// One that runs 1.1, by document 1.
    pub(crate) fn running() -> Self {
        let stage = Self::new();
        stage.enable();
        let module = good("1.1");
        assert_eq!(stage.note(&stage.document(1, "1.1", &module)), "ok");
        assert_eq!(stage.apply(&module), "ok");
        stage.is_untouched();
        stage
    }

    /// Root enables the host, and the operator assigns it.
    pub(crate) fn enable(&self) {
        let answer = root(&self.roots, RootRequest::Enable);
        assert_eq!(code(&answer), "ok");
        let host = answer.view.unwrap().host.unwrap();
        assert_eq!(self.assign(&assign(host, "stable", 1, &self.operator)), "ok");
    }

    pub(crate) fn assign(&self, envelope: &[u8]) -> String {
        code(&agent(&self.agents, AgentRequest::Assign, envelope))
    }

    /// The loader is started anew, as after a crash or a boot.
    pub(crate) fn restart(&mut self) {
        let policy = self.policy.clone();
        self.loader =
            loader(self.directory.path(), &self.kernel, &self.clock, self.machine, policy, &self.steps);
        let me = rustix::process::getuid().as_raw();
        self.serve(&Peers::of(&[me]), &Peers::of(&[me]));
        // Why it does less than it might is for the log.
        let _ = self.loader.start();
    }

    /// Serves two more sockets, for these peers.
    pub(crate) fn serve(&mut self, agents: &Peers, roots: &Peers) {
        self.serve_within(BOUND, agents, roots);
    }

    /// The same, but nobody may dawdle for longer than this.
    pub(crate) fn serve_within(&mut self, bound: Duration, agents: &Peers, roots: &Peers) {
        self.starts += 1;
        let path = |name: &str| self.directory.path().join(format!("{name}{}", self.starts));
        (self.agents, self.roots) = (path("agent"), path("root"));
        let loader = Arc::clone(&self.loader);
        let answer = move |head, body: &mut dyn std::io::Read| answer_agent(&loader, head, body);
        serve(bind(&self.agents, 0o600, None).unwrap(), agents, bound, answer, |_| ()).unwrap();
        let loader = Arc::clone(&self.loader);
        let answer = move |head, body: &mut dyn std::io::Read| answer_root(&loader, head, body);
        serve(bind(&self.roots, 0o600, None).unwrap(), roots, bound, answer, |_| ()).unwrap();
    }

    pub(crate) fn at(&self, time: &str) {
        *self.clock.0.lock().unwrap() = time.parse().unwrap();
    }

    /// A good document that asks for a module.
    pub(crate) fn document(&self, number: u64, version: &str, module: &[u8]) -> Vec<u8> {
        self.sign(&document(&kernel(1), number, Some(target_of(version, module))))
    }

    pub(crate) fn sign(&self, document: &KernelDocument) -> Vec<u8> {
        sign_document(document, &self.operator)
    }

    pub(crate) fn note(&self, envelope: &[u8]) -> String {
        code(&agent(&self.agents, AgentRequest::Note, envelope))
    }

    pub(crate) fn apply(&self, module: &[u8]) -> String {
        code(&agent(&self.agents, AgentRequest::Apply, module))
    }

    pub(crate) fn converge(&self) -> String {
        code(&agent(&self.agents, AgentRequest::Converge, &[]))
    }

    /// Brings the vendor's files as they are wanted; what is not there is absent.
    pub(crate) fn update(&self, files: &BTreeMap<String, Vec<u8>>) -> String {
        let mut answer = agent(&self.agents, AgentRequest::Update, &[]);
        // As many roots as one update follows, one that is not there, and four files; with room.
        for _ in 0..264 {
            let view = answer.view.as_ref().unwrap();
            match view.vendor.as_ref().and_then(|vendor| vendor.wants.as_ref()) {
                Some(wanted) if answer.failure.is_none() => {
                    let bytes = files.get(&wanted.path).map(Vec::as_slice).unwrap_or_default();
                    answer = agent(&self.agents, AgentRequest::Metadata, bytes);
                }
                _ => return code(&answer),
            }
        }
        "endless".into()
    }

    /// All that a hostile agent can ask for, in every order of two, with what it has.
    pub(crate) fn insist(&self, envelope: &[u8], module: &[u8]) {
        for _ in 0..2 {
            self.converge();
            self.note(envelope);
            self.converge();
            self.apply(module);
            self.note(envelope);
            self.apply(module);
            self.converge();
        }
    }

    pub(crate) fn view(&self) -> View {
        root(&self.roots, RootRequest::Status).view.unwrap()
    }

    pub(crate) fn livepatches(&self) -> Vec<String> {
        self.kernel.livepatches().unwrap().into_iter().map(|patch| patch.name.to_string()).collect()
    }

    /// 1.1 runs as before, and nothing else was ever loaded.
    pub(crate) fn is_untouched(&self) {
        assert_eq!(self.livepatches(), ["livepatch_1_1"]);
        let loads = self.kernel.loads();
        assert_eq!(loads.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["livepatch_1_1"]);
    }
}

fn loader(
    directory: &Path,
    kernel: &Arc<FakeKernel>,
    clock: &Arc<SetClock>,
    machine: Option<Sha256Digest>,
    policy: Policy,
    steps: &Arc<dyn Steps>,
) -> Arc<Loader> {
    Loader::new(Parts {
        kernel: Arc::clone(kernel) as _,
        pause: Arc::new(NoPause),
        clock: Arc::clone(clock) as _,
        trust: TrustDirectories { administrator: directory.to_owned(), package: directory.join("none") },
        machine,
        state_directory: directory.join("state"),
        policy,
        transition_timeout: Duration::from_secs(5),
        soak: Duration::ZERO,
        panic_directories: Vec::new(),
        steps: Arc::clone(steps),
        observer: Arc::new(Unobserved),
    })
}

/// A module that the vendor signed for this kernel.
pub(crate) fn good(version: &str) -> Vec<u8> {
    VENDOR.sign(&module(&info(version, &kernel(1))))
}

/// What livepatch 1.2 comes to on a host that runs 1.1 when nobody attacks.
pub(crate) fn unattacked() {
    let stage = Stage::running();
    let next = good("1.2");
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    assert_eq!(stage.view().wants, Some(target_of("1.2", &next).module));
    assert_eq!(stage.apply(&next), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

/// Sends bytes and gives what is answered, if anything.
pub(crate) fn exchange(socket: &Path, bytes: &[u8]) -> Option<Answer> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    // It may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    serde_json::from_slice(&text).ok()
}

fn request(socket: &Path, request: impl Request, body: &[u8]) -> Answer {
    let mut bytes = Head { request, body_bytes: body.len() as u32 }.to_bytes().to_vec();
    bytes.extend(body);
    exchange(socket, &bytes).unwrap()
}

pub(crate) fn agent(socket: &Path, asked: AgentRequest, body: &[u8]) -> Answer {
    request(socket, asked, body)
}

pub(crate) fn apply_bundle(socket: &Path, bundle: &[u8]) -> Answer {
    request(socket, RootRequest::ApplyBundle, bundle)
}

pub(crate) fn root(socket: &Path, asked: RootRequest) -> Answer {
    request(socket, asked, &[])
}

/// What is said to somebody who is refused.
pub(crate) fn said(answer: &Answer) -> String {
    let failure = answer.failure.as_ref().unwrap();
    let hints = failure.hints.iter().map(|hint| format!("hint: {hint}\n"));
    format!("{} ({})\n{}", failure.message, failure.code, hints.collect::<String>())
}

pub(crate) fn code(answer: &Answer) -> String {
    answer.failure.as_ref().map_or_else(|| "ok".to_owned(), |failure| failure.code.clone())
}
