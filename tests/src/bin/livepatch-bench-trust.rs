//! Measures what signed metadata costs a host: `cargo xtask bench trust` calls it.
//!
//! A server process on loopback serves 3,000 kernels in 15 repositories, as many as a distribution has that is supported
//! in many series and flavours. What is counted are the bytes of TLS in both directions, handshake included.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use livepatch_build::trust::edit::{self, Term};
use livepatch_build::trust::key::{self, MetadataKey};
use livepatch_build::trust::repository::Repository;
use livepatch_manifest::{KernelDocument, ModuleObject, PatchManifest, VerifyingKey, sha256};
use livepatch_server::DataDir;
use livepatch_store::{NewPatch, Store as _};
use livepatch_trust::{
    AllowedObject, AllowedPatch, FileMeta, KernelAllowance, RepositoryName, Role, State, Update, Vendor,
    Wanted,
};
use livepatch_types::{
    Architecture, BuildId, Clock as _, KernelIdentity, KernelRelease, ModuleName, PatchVersion, SystemClock,
    Tier,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const REPOSITORIES: u16 = 15;
const KERNELS_PER_REPOSITORY: u16 = 200;
/// How often verifying is measured; the median counts.
const ROUNDS: usize = 51;

/// Measure what signed metadata costs a host.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server's program.
    #[arg(long)]
    server: PathBuf,
    /// The JSON file to write.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let site = Site { server: arguments.server, data: directory.path().join("data") };
    site.run(&["init"])?;
    let repositories = (0..REPOSITORIES)
        .map(|number| repository(&directory.path().join(format!("vendor-{number}")), number))
        .collect::<Result<Vec<_>>>()?;
    publish_all(&site.data)?;
    for path in &repositories {
        site.run(&["vendor", "import", &path.display().to_string()])?;
    }
    let operator = VerifyingKey::parse(&std::fs::read_to_string(site.data.join("operator.pub"))?)?;
    let root = std::fs::read(repositories[0].join("metadata/1.root.json"))?;
    let served = site.serve()?;
    let config = client_config(&site.data.join("ca.pem"))?;
    let here = kernel(0, 0)?;

    let mut first = Host::connect(&served, &config)?;
    let contact = first_contact(&mut first, &operator, &root, &here)?;
    let first_contact_bytes = first.bytes();
    drop(first);

    let mut poll = Host::connect(&served, &config)?;
    let answer = poll.get(&contact.document_path, Some(&contact.etag))?;
    if answer.status != 304 {
        return Err(format!("a poll was answered with {} where 304 is expected", answer.status).into());
    }

    let report = json!({
        "kernels": u32::from(REPOSITORIES) * u32::from(KERNELS_PER_REPOSITORY),
        "repositories": REPOSITORIES,
        "poll_bytes_3000_kernels": poll.bytes(),
        "poll_requests": poll.requests,
        "first_contact_bytes": first_contact_bytes,
        "first_contact_requests": contact.requests,
        "verify_ms": verify_milliseconds(&root, &contact, &here)?,
    });
    std::fs::write(&arguments.out, format!("{report:#}\n"))?;
    println!("{report:#}");
    Ok(())
}

fn kernel(repository: u16, number: u16) -> Result<KernelIdentity> {
    let name = format!("kernel {number} of repository {repository}");
    Ok(KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse(&format!("6.{repository}.0-{number}-generic"))?,
        build_id: BuildId::from_bytes(&sha256(name.as_bytes()).as_bytes()[..20])?,
    })
}

/// A released repository: for each kernel the two newest livepatches, which patch three modules.
fn repository(path: &Path, number: u16) -> Result<PathBuf> {
    std::fs::create_dir_all(path)?;
    let now = jiff_seconds();
    let term = Term { issued: now, expires: now + std::time::Duration::from_secs(365 * 86400) };
    let mut keys = Vec::new();
    for name in ["root", "targets", "release"] {
        let (public, [private, _]) = key::generate(path, name)?;
        keys.push((public, MetadataKey::open(&private)?));
    }
    let [(root_public, root_key), (targets_public, targets_key), (release_public, release_key)] = &keys[..]
    else {
        return Err("three keys were made".into());
    };
    let roles = [
        (Role::Root, root_public),
        (Role::Targets, targets_public),
        (Role::Snapshot, release_public),
        (Role::Timestamp, release_public),
    ];
    let roles = roles.map(|(role, public)| (role, vec![public.clone()], 1)).to_vec();
    let root = edit::first_root(RepositoryName::parse(&format!("series-{number}"))?, roles, term)?;
    let repository = Repository::init(path, &root, term)?;
    let mut targets = edit::first_targets(term);
    for kernel_number in 0..KERNELS_PER_REPOSITORY {
        let mut allowance = KernelAllowance::empty(kernel(number, kernel_number)?);
        allowance.allowed =
            [112, 113].map(|major| allowed(major, &allowance.kernel)).into_iter().collect::<Result<_>>()?;
        let (name, bytes) = edit::set_allowance(&mut targets, &allowance);
        repository.write_target(&targets, &name, &bytes)?;
    }
    repository.stage(Role::Targets, &targets)?;
    for (role, key) in [(Role::Root, root_key), (Role::Targets, targets_key)] {
        let mut file = repository.staged(role)?.ok_or("it was staged")?;
        key.sign(&mut file)?;
        std::fs::write(repository.staged_path(role), file.to_bytes())?;
    }
    repository.release(Some(release_key), term)?;
    Ok(path.to_owned())
}

fn jiff_seconds() -> jiff::Timestamp {
    let now = SystemClock.now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn allowed(major: u32, kernel: &KernelIdentity) -> Result<AllowedPatch> {
    let objects = ["nf_tables", "ext4", "cls_u32"].map(|name| -> Result<AllowedObject> {
        let build_id = sha256(format!("{name} of {}", kernel.build_id).as_bytes());
        Ok(AllowedObject {
            name: ModuleName::parse(name)?,
            build_id: BuildId::from_bytes(&build_id.as_bytes()[..20])?,
        })
    });
    Ok(AllowedPatch {
        version: PatchVersion::parse(&format!("{major}.1"))?,
        module: FileMeta::of(format!("module {major} of {}", kernel.build_id).as_bytes()),
        signer: sha256(b"the vendor's key").to_string()[..40].to_owned(),
        objects: objects.into_iter().collect::<Result<_>>()?,
    })
}

/// Publishes a patch for every kernel. Bundles are not measured here, so none are made.
fn publish_all(data: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = DataDir::new(data).store().await.map_err(|failure| failure.to_string())?;
        for (repository, number) in
            (0..REPOSITORIES).flat_map(|r| (0..KERNELS_PER_REPOSITORY).map(move |number| (r, number)))
        {
            let kernel = kernel(repository, number)?;
            let module = kernel.build_id.to_string().into_bytes();
            let manifest = PatchManifest {
                schema: 1,
                version: PatchVersion::parse("113.1")?,
                module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
                kernel,
                objects: vec![],
                cves: vec![],
                built: jiff_seconds(),
                compiler: "gcc".into(),
                sections: Default::default(),
            };
            let manifest_text = serde_json::to_string(&manifest)?;
            let tier = Tier::parse("stable")?;
            let patch = NewPatch { manifest, manifest_text, signature: vec![], tier, at: jiff_seconds() };
            store.publish(&patch).await?;
        }
        store.close().await;
        Ok(())
    })
}

/// A server and its data directory.
struct Site {
    server: PathBuf,
    data: PathBuf,
}

/// A server that runs; it ends with this value.
struct Running {
    process: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to finish, and may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Site {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.server);
        command.args(arguments).arg("--data").arg(&self.data);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    fn serve(&self) -> Result<Running> {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("it has a standard output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on https://").map(str::to_owned);
        match address {
            Some(address) => Ok(Running { process, address }),
            None => {
                process.kill()?;
                Err(format!("the server said {line:?}").into())
            }
        }
    }
}

fn client_config(ca: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection that counts.
struct Counting {
    stream: TcpStream,
    bytes: u64,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl Write for Counting {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.stream.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// A host: one connection, one request after another.
struct Host {
    stream: StreamOwned<ClientConnection, Counting>,
    requests: u32,
}

struct Answer {
    status: u16,
    etag: Option<String>,
    body: Vec<u8>,
}

impl Host {
    fn connect(server: &Running, config: &Arc<ClientConfig>) -> Result<Self> {
        let stream = Counting { stream: TcpStream::connect(&server.address)?, bytes: 0 };
        let tls = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
        Ok(Self { stream: StreamOwned::new(tls, stream), requests: 0 })
    }

    fn bytes(&self) -> u64 {
        self.stream.sock.bytes
    }

    fn get(&mut self, path: &str, etag: Option<&str>) -> Result<Answer> {
        self.requests += 1;
        let condition = etag.map(|etag| format!("if-none-match: {etag}\r\n")).unwrap_or_default();
        // What the daemon says of itself with each request.
        let daemon = concat!("accept: */*\r\nuser-agent: livepatchd/", env!("CARGO_PKG_VERSION"), "\r\n");
        write!(self.stream, "GET {path} HTTP/1.1\r\n{condition}{daemon}host: localhost\r\n\r\n")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head)?;
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.into_iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let status = head.split(' ').nth(1).ok_or("an answer without status")?.parse()?;
        // An answer of 304 states the length that the body would have.
        let length = if status == 304 { 0 } else { field("content-length").unwrap_or_default().parse()? };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, etag: field("etag"), body })
    }
}

/// What a first contact found.
struct Contact {
    document_path: String,
    etag: String,
    requests: u32,
    files: Vec<(String, Vec<u8>)>,
    allowance: Vec<u8>,
}

/// A host that has nothing but the pinned roots comes to what is allowed for its kernel.
fn first_contact(
    host: &mut Host,
    operator: &VerifyingKey,
    root: &[u8],
    here: &KernelIdentity,
) -> Result<Contact> {
    let stable = Tier::parse("stable")?;
    let document_path = format!("/v1/kernels/{stable}/{}", here.build_id);
    let answer = host.get(&document_path, None)?;
    let etag = answer.etag.ok_or("a document without ETag")?;
    let document = KernelDocument::open(&answer.body, std::slice::from_ref(operator), here, &stable, 0)?;
    let named = document.vendor.ok_or("the document names no vendor's metadata")?;
    let base = format!("/v1/vendor/{}", named.repository);
    let mut files = Vec::new();
    let mut failure = None;
    let vendor =
        Update::run(State::pin(root)?, |wanted| match host.get(&format!("{base}/{}", wanted.path), None) {
            Ok(Answer { status: 200, body, .. }) => {
                files.push((wanted.path.clone(), body.clone()));
                Some(body)
            }
            Ok(_) => None,
            Err(error) => {
                failure = Some(error);
                None
            }
        });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let target = vendor?.kernel_file(here)?;
    let allowance = host.get(&format!("{base}/{}", target.path), None)?.body;
    Ok(Contact { document_path, etag, requests: host.requests, files, allowance })
}

/// Verifying all of it again, as a process does that does not trust the one which fetched it. Median, in milliseconds.
fn verify_milliseconds(root: &[u8], contact: &Contact, here: &KernelIdentity) -> Result<f64> {
    let read = |wanted: &Wanted| {
        let file = contact.files.iter().find(|(path, _)| *path == wanted.path);
        file.map(|(_, bytes)| bytes.clone())
    };
    let mut milliseconds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let vendor: Vendor = Update::run(State::pin(root)?, read)?;
        vendor.check_time(SystemClock.now())?;
        vendor.allowance(here, &contact.allowance)?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    milliseconds.sort_by(f64::total_cmp);
    Ok((milliseconds[ROUNDS / 2] * 1000.0).round() / 1000.0)
}
