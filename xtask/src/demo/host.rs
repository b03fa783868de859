//! The host's half of the demo: builder and server, each as the process that an operator would start.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::machine::GuestFile;
use super::report::KernelId;
use crate::config::{Fix, Kernel};
use crate::error::{Error, Exit};
use crate::process::{cannot_start, command, tool, tool_error};

const VERSION: &str = "1.1";
/// As a guest on QEMU's user network sees the host's loopback.
const HOST_ADDRESS: &str = "10.0.2.2";
const KEY_NAME: &str = "demo";
const START: Duration = Duration::from_secs(30);

/// Where everything is.
pub(crate) struct Host<'a> {
    /// The programs of the host.
    pub(crate) programs: PathBuf,
    /// Prepared kernel sources.
    pub(crate) cache: PathBuf,
    /// The fetched kernel.
    pub(crate) fetched: PathBuf,
    /// What the demo makes.
    pub(crate) directory: &'a Path,
}

/// What `livepatch-build build` printed.
#[derive(Deserialize)]
pub(crate) struct Built {
    pub(crate) kernel: KernelId,
    pub(crate) units: Vec<Unit>,
    pub(crate) seconds: BuildSeconds,
}

#[derive(Deserialize)]
pub(crate) struct Unit {
    pub(crate) object: String,
    pub(crate) unit: String,
    pub(crate) changed_functions: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct BuildSeconds {
    pub(crate) identify: f64,
    pub(crate) prepare: f64,
    pub(crate) compile: f64,
    pub(crate) diff: f64,
    pub(crate) link: f64,
}

/// What `livepatch-build prove` printed.
#[derive(Deserialize)]
pub(crate) struct Proof {
    pub(crate) steps: Vec<ProofStep>,
}

#[derive(Deserialize)]
pub(crate) struct ProofStep {
    pub(crate) what: String,
}

/// What `livepatch-build inspect` says of the signed bundle.
#[derive(Deserialize)]
pub(crate) struct Signed {
    pub(crate) version: String,
    pub(crate) module: Module,
}

#[derive(Deserialize)]
pub(crate) struct Module {
    pub(crate) sha256: String,
}

impl Host<'_> {
    /// Builds one livepatch with all fixes.
    pub(crate) fn build(&self, kernel: &Kernel, note: impl Fn(&str)) -> Result<Built, Error> {
        let source = &kernel.source;
        let mut build = self.builder("build");
        build.arg("--kernel").arg(self.fetched.join("image"));
        build.arg("--headers").arg(self.fetched.join("headers"));
        build
            .arg("--source")
            .arg(self.fetched.join(format!("packages/{}_{}_all.deb", source.package, source.old)));
        for fix in &kernel.fix {
            build.arg("--patch").arg(self.fetched.join(format!("carve/{}.patch", fix.cve)));
            build.arg("--cve").arg(cve_argument(fix)?);
        }
        build.args(["--patch-version", VERSION, "--format", "json"]);
        build.arg("--cache").arg(&self.cache).arg("--out").arg(self.bundle());
        answer(&tool(&mut build, "the build of the livepatch", Exit::Build, note)?)
    }

    /// Proves the livepatch with the checks of its fixes; gives what was done.
    pub(crate) fn prove(&self, kernel: &Kernel, checks: &Path, note: impl Fn(&str)) -> Result<Proof, Error> {
        let mut prove = self.builder("prove");
        prove.arg(self.bundle()).arg("--kernel").arg(self.fetched.join("image"));
        for fix in &kernel.fix {
            let program = checks.join(Path::new(fix.check.as_str()).file_stem().unwrap_or_default());
            prove.arg("--check").arg(format!("{}={}", fix.cve, program.display()));
            prove.args(fix.needs.iter().flat_map(|module| ["--needs", module.as_str()]));
        }
        answer(&tool(prove.args(["--format", "json"]), "the proof of the livepatch", Exit::Build, note)?)
    }

    /// Makes a key and signs with it.
    pub(crate) fn sign(&self) -> Result<Signed, Error> {
        let run = |command: &mut Command, what: &str| tool(command, what, Exit::Build, |_| ());
        let keys = self.directory.join("keys");
        fs::create_dir(&keys).map_err(|e| Error::io("make a directory for keys", e))?;
        run(self.builder("keygen").arg(&keys).args(["--name", KEY_NAME]), "making a key")?;
        let mut sign = self.builder("sign");
        sign.arg(self.bundle()).arg("--key").arg(keys.join(format!("{KEY_NAME}.key.pem")));
        run(sign.arg("--certificate").arg(self.certificate()), "signing")?;
        answer(&run(
            self.builder("inspect").arg(self.bundle()).args(["--format", "json"]),
            "inspecting the bundle",
        )?)
    }

    /// Makes a server's data directory, publishes into it and makes a token.
    pub(crate) fn publish(&self) -> Result<String, Error> {
        let run = |arguments: &[&str], path: Option<PathBuf>| {
            let mut server = self.server(arguments);
            server.args(path);
            tool(&mut server, &format!("livepatch-server {}", arguments[0]), Exit::Server, |_| ())
        };
        run(&["init", "--ip", HOST_ADDRESS], None)?;
        run(&["vendor", "add"], Some(self.certificate()))?;
        run(&["publish", "--tier", "stable"], Some(self.bundle()))?;
        let token = run(&["token", "create", "--name", "demo", "--tier", "stable"], None)?;
        Ok(String::from_utf8_lossy(&token).trim().to_string())
    }

    /// Starts the server on a free port of loopback.
    pub(crate) fn serve(&self) -> Result<Server, Error> {
        let log = self.directory.join("server.log");
        let stderr = File::create(&log).map_err(|e| Error::io("make the server's log", e))?;
        // It ends with this process, whatever ends that.
        let mut serve = command("setpriv");
        serve.args(["--pdeathsig", "TERM"]).arg(self.programs.join("livepatch-server"));
        serve.arg("--data").arg(self.data()).args(["serve", "--listen", "127.0.0.1:0"]);
        let mut child = serve
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|e| cannot_start("livepatch-server", e))?;
        let (sender, receiver) = mpsc::channel();
        let lines = child.stdout.take().map(BufReader::new);
        std::thread::spawn(move || {
            lines.into_iter().flat_map(|l| l.lines()).try_for_each(|l| sender.send(l))
        });
        let mut server = Server { child, port: 0 };
        let line = receiver.recv_timeout(START).ok().and_then(Result::ok).unwrap_or_default();
        match line.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) {
            Some(port) => {
                server.port = port;
                Ok(server)
            }
            None => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                Err(tool_error("the start of the server", Exit::Server, &said))
            }
        }
    }

    /// What a host needs to know to trust this server and this vendor, and to enrol.
    pub(crate) fn guest_files(&self, server: &Server, token: &str) -> Result<Vec<GuestFile>, Error> {
        let read =
            |path: PathBuf| fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e));
        let file = |path, mode, bytes| GuestFile { path, mode, bytes };
        let config = format!(
            "server = \"https://{HOST_ADDRESS}:{}\"
ca-file = \"/etc/livepatch/ca.pem\"
",
            server.port
        );
        Ok(vec![
            file("/etc/livepatch/livepatch.toml", 0o644, config.into()),
            file("/etc/livepatch/ca.pem", 0o644, read(self.data().join("ca.pem"))?),
            file("/etc/livepatch/trust/operator.pub", 0o644, read(self.data().join("operator.pub"))?),
            file("/etc/livepatch/trust/vendor.pem", 0o644, read(self.certificate())?),
            file("/root/token", 0o600, token.into()),
        ])
    }

    fn builder(&self, action: &str) -> Command {
        let mut builder = command(&self.programs.join("livepatch-build").to_string_lossy());
        builder.arg(action);
        builder
    }

    fn server(&self, arguments: &[&str]) -> Command {
        let mut server = command(&self.programs.join("livepatch-server").to_string_lossy());
        server.arg("--data").arg(self.data()).args(arguments);
        server
    }

    fn bundle(&self) -> PathBuf {
        self.directory.join("livepatch.lpb")
    }

    fn certificate(&self) -> PathBuf {
        self.directory.join(format!("keys/{KEY_NAME}.cert.pem"))
    }

    fn data(&self) -> PathBuf {
        self.directory.join("server")
    }
}

/// A running server. Dropping it stops it.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ID:RATING:TITLE`
fn cve_argument(fix: &Fix) -> Result<String, Error> {
    let rating = serde_json::to_value(fix.rating).map_err(|e| Error::Config(e.to_string()))?;
    Ok(format!("{}:{}:{}", fix.cve, rating.as_str().unwrap_or_default(), fix.title))
}

fn answer<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|e| Error::Program {
        program: "livepatch-build".into(),
        detail: format!("its report is not understood: {e}"),
    })
}
