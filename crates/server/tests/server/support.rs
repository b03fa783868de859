//! A vendor with a key, bundles, a data directory, and the real server in this process.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum_server::Handle;
use jiff::Timestamp;
use livepatch_manifest::{
    Bundle, CveEntry, ModuleObject, PatchManifest, ProofResult, VerifyingKey, VmProof, sha256,
};
use livepatch_server::DataDir;
use livepatch_server::http::{App, router};
use livepatch_server::listener::{self, Limits};
use livepatch_types::*;
use openssl::asn1::Asn1Time;
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectKeyIdentifier;
use openssl::x509::{X509, X509Name};

pub(crate) struct Vendor {
    key: PKey<Private>,
    pub(crate) certificate: X509,
}

impl Vendor {
    pub(crate) fn new(name: &str) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(id).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { key, certificate: builder.build() }
    }

    pub(crate) fn sign(&self, content: &[u8]) -> Vec<u8> {
        // The flags of the kernel's scripts/sign-file.
        let options = CMSOptions::CMS_NOCERTS
            | CMSOptions::BINARY
            | CMSOptions::DETACHED
            | CMSOptions::NOATTR
            | CMSOptions::USE_KEYID;
        let cms =
            CmsContentInfo::sign(Some(&self.certificate), Some(&self.key), None, Some(content), options);
        cms.unwrap().to_der().unwrap()
    }

    /// A signed bundle whose module holds `content`, proven.
    pub(crate) fn bundle(&self, version: &str, kernel: &KernelIdentity, content: &[u8]) -> Bundle {
        self.bundle_with(version, kernel, content, Some(proof(content, kernel)))
    }

    /// A signed bundle with this proof.
    pub(crate) fn bundle_with(
        &self,
        version: &str,
        kernel: &KernelIdentity,
        content: &[u8],
        proof: Option<VmProof>,
    ) -> Bundle {
        let module = livepatch_modsig::append(content, &self.sign(content));
        let bundle = unsigned(version, kernel, module);
        let mut bundle = match proof {
            Some(proof) => bundle.with_proof(&proof).unwrap(),
            None => bundle,
        };
        bundle.signature = Some(self.sign(&bundle.manifest_bytes));
        bundle
    }
}

/// A passed proof of this module.
pub(crate) fn proof(content: &[u8], kernel: &KernelIdentity) -> VmProof {
    VmProof {
        schema: 1,
        module: sha256(content),
        kernel: kernel.clone(),
        machine: "a machine".into(),
        result: ProofResult::Passed,
        steps: vec![],
        checks: vec![],
        previous: None,
        log: String::new(),
    }
}

pub(crate) fn unsigned(version: &str, kernel: &KernelIdentity, module: Vec<u8>) -> Bundle {
    let manifest = PatchManifest {
        schema: 1,
        version: PatchVersion::parse(version).unwrap(),
        kernel: kernel.clone(),
        module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
        objects: vec![],
        cves: vec![CveEntry {
            id: CveId::parse("CVE-2026-93146").unwrap(),
            coverage: CveCoverage::Whole,
            rating: Rating::High,
            title: "a title".into(),
        }],
        built: Timestamp::UNIX_EPOCH,
        compiler: "gcc-12".into(),
        sections: Default::default(),
    };
    Bundle::new(manifest, module, None).unwrap()
}

pub(crate) static VENDOR: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("Vendor"));

pub(crate) fn kernel() -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[7; 20]).unwrap(),
    }
}

pub(crate) fn stable() -> Tier {
    Tier::parse("stable").unwrap()
}

/// A data directory, made by the program itself, with [`VENDOR`] trusted.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
}

impl Site {
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn new() -> Self {
        let site = Self::empty();
        site.good(&["init"]);
        let pem = site.write("vendor.pem", &VENDOR.certificate.to_pem().unwrap());
        site.good(&["vendor", "add", pem.to_str().unwrap()]);
        site
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-server"));
        command.args(arguments).arg("--data").arg(self.data());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; its exit code and standard error.
    pub(crate) fn bad(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn publish(&self, bundle: &Bundle, more: &[&str]) -> String {
        let path = self.write("bundle.lpb", &bundle.to_bytes());
        self.good(&[&["publish", path.to_str().unwrap()], more].concat())
    }

    pub(crate) fn token(&self, more: &[&str]) -> String {
        let made = self.good(&[&["token", "create", "--name", "t", "--tier", "stable"], more].concat());
        made.trim().to_owned()
    }

    pub(crate) fn operator(&self) -> VerifyingKey {
        VerifyingKey::parse(&std::fs::read_to_string(self.data().join("operator.pub")).unwrap()).unwrap()
    }

    pub(crate) async fn serve(&self) -> Server {
        self.serve_with(Limits::default()).await
    }

    /// The real routes, and something that changes them.
    pub(crate) async fn serve_changed(&self, change: impl FnOnce(Router) -> Router) -> Server {
        self.serve_as(Limits::default(), change).await
    }

    /// The real routes behind the real listener, with a clock that a test can set.
    pub(crate) async fn serve_with(&self, limits: Limits) -> Server {
        self.serve_as(limits, |router| router).await
    }

    async fn serve_as(&self, limits: Limits, change: impl FnOnce(Router) -> Router) -> Server {
        let data = DataDir::open(&self.data()).unwrap();
        let clock = TestClock::default();
        clock.set(SystemClock.now());
        let store = Arc::new(data.store().await.unwrap());
        let key = livepatch_server::OperatorKey::read(&data.operator_key()).unwrap();
        let log = livepatch_server::log::key(&data, store.as_ref(), &key, SystemClock.now()).await.unwrap();
        let (repositories, kernels) = (data.repositories(), (data.known_kernels(), data.support()));
        let app = App::new(store, data.objects(), key, log, repositories, kernels, Arc::new(clock.clone()));
        let tls = listener::tls(&data.tls_certificate(), &data.tls_key()).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let handle = Handle::new();
        let routes = change(router(app, limits.request));
        let task = tokio::spawn(listener::serve(tcp, tls, routes, limits, handle.clone()));
        Server { address, clock, handle, task, client: client(&data.ca()) }
    }
}

pub(crate) fn client(ca: &Path) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap()
}

#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.as_second(), Ordering::SeqCst);
    }
    pub(crate) fn advance_hours(&self, hours: i64) {
        self.0.fetch_add(hours * 3600, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) clock: TestClock,
    pub(crate) handle: Handle<SocketAddr>,
    pub(crate) task: tokio::task::JoinHandle<std::io::Result<()>>,
    pub(crate) client: reqwest::Client,
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
    pub(crate) fn document_url(&self) -> String {
        self.url(&format!("/v1/kernels/stable/{}", kernel().build_id))
    }
    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }
}
