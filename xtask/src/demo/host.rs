//! The host's half of the demo: builder and server, each as the process that an operator would start.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use livepatch_types::{CveCoverage, CveId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::machine::GuestFile;
use super::report::KernelId;
use super::repositories::{Operator, Vendor};
use crate::error::{Error, Exit};
use crate::process::{cannot_start, command, tool, tool_error};
use crate::signer::Signer;

/// As a guest on QEMU's user network sees the host's loopback.
const HOST_ADDRESS: &str = "10.0.2.2";
const START: Duration = Duration::from_secs(30);

/// Where everything is.
pub(crate) struct Host<'a> {
    /// The programs of the host.
    pub(crate) programs: PathBuf,
    /// Prepared kernel sources.
    pub(crate) cache: PathBuf,
    /// The packages that the series names.
    pub(crate) packages: PathBuf,
    /// The kernel, as the series calls it.
    pub(crate) kernel: &'a str,
    /// What the demo makes.
    pub(crate) directory: &'a Path,
}

/// What `livepatch-build series build` printed for a kernel.
#[derive(Deserialize)]
struct Outcome {
    state: String,
    why: Option<String>,
}

/// A livepatch as `livepatch-build inspect` shows it.
#[derive(Deserialize)]
pub(crate) struct Inspected {
    pub(crate) version: String,
    pub(crate) kernel: KernelId,
    pub(crate) module: Module,
    pub(crate) cves: Vec<Cve>,
    pub(crate) objects: Vec<Object>,
    pub(crate) report: BuildReport,
}

impl Inspected {
    /// What it fixes whole.
    pub(crate) fn fixed(&self) -> Vec<CveId> {
        self.cves.iter().filter(|cve| cve.coverage == CveCoverage::Whole).map(|cve| cve.id).collect()
    }
}

#[derive(Deserialize)]
pub(crate) struct Module {
    pub(crate) sha256: String,
}

#[derive(Deserialize)]
pub(crate) struct Cve {
    pub(crate) id: CveId,
    pub(crate) coverage: CveCoverage,
}

#[derive(Deserialize)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) functions: Vec<Function>,
}

#[derive(Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
}

#[derive(Deserialize)]
pub(crate) struct BuildReport {
    pub(crate) seconds: BuildSeconds,
}

#[derive(Deserialize)]
pub(crate) struct BuildSeconds {
    pub(crate) identify: f64,
    pub(crate) prepare: f64,
    pub(crate) compile: f64,
    pub(crate) diff: f64,
    pub(crate) link: f64,
}

/// What `livepatch-build series prove` printed for a kernel.
#[derive(Deserialize)]
pub(crate) struct Proof {
    pub(crate) steps: usize,
    pub(crate) previous: Option<String>,
}

impl Host<'_> {
    /// Builds the livepatch of a series.
    pub(crate) fn build(
        &self,
        series: &Path,
        version: &str,
        note: impl Fn(&str),
    ) -> Result<Inspected, Error> {
        let mut build = self.series("build", series);
        let outcome: Outcome =
            self.only(&tool(&mut build, "the build of the livepatch", Exit::Build, note)?)?;
        if outcome.state != "built" {
            let said = outcome.why.unwrap_or(outcome.state);
            return Err(tool_error("the build of the livepatch", Exit::Build, &said));
        }
        self.inspect(&self.unsigned(version))
    }

    /// Proves it, and that it can take the place of the one before.
    pub(crate) fn prove(&self, series: &Path, note: impl Fn(&str)) -> Result<Proof, Error> {
        let mut prove = self.series("prove", series);
        self.only(&tool(&mut prove, "the proof of the livepatch", Exit::Build, note)?)
    }

    /// Has it signed; what is then in the bundle.
    pub(crate) fn sign(&self, signer: &Signer, version: &str) -> Result<Inspected, Error> {
        signer.sign(&self.unsigned(version), &self.bundle(version))?;
        self.inspect(&self.bundle(version))
    }

    /// Makes a server's data directory, in which this vendor is trusted, and a token.
    pub(crate) fn make_server(&self, signer: &Signer) -> Result<String, Error> {
        let certificate = self.certificate();
        fs::write(&certificate, signer.certificate()?)
            .map_err(|e| Error::io("keep the vendor's certificate", e))?;
        self.serve_chore(&["init", "--ip", HOST_ADDRESS], None)?;
        self.serve_chore(&["vendor", "add"], Some(certificate))?;
        let token = self.serve_chore(&["token", "create", "--name", "demo", "--tier", "stable"], None)?;
        Ok(String::from_utf8_lossy(&token).trim().to_string())
    }

    /// Has the vendor allow a signed livepatch, and the server serve that.
    pub(crate) fn allow(&self, version: &str, vendor: &Vendor) -> Result<(), Error> {
        vendor.allow(&self.bundle(version), &self.certificate())?;
        self.serve_chore(&["vendor", "import"], Some(vendor.repository())).map(drop)
    }

    /// Publishes a signed livepatch, whether the server runs or not.
    pub(crate) fn publish(&self, version: &str) -> Result<(), Error> {
        self.serve_chore(&["publish", "--tier", "stable"], Some(self.bundle(version))).map(drop)
    }

    /// The public key by which the server signs.
    pub(crate) fn operator_key(&self) -> PathBuf {
        self.data().join("operator.pub")
    }

    /// Has the server serve the operator's root.
    pub(crate) fn import_operator(&self, operator: &Operator) -> Result<(), Error> {
        self.serve_chore(&["operator", "import"], Some(operator.repository())).map(drop)
    }

    /// Puts another key in the place of the server's; it must be started again.
    pub(crate) fn exchange_key(&self, operator: &Operator) -> Result<(), Error> {
        self.serve_chore(&["operator", "new-key"], None)?;
        operator.exchange(&self.operator_key(), &self.data().join("operator-next.pub"))?;
        self.import_operator(operator)
    }

    /// Compares the server's log with all that it speaks of; what that says.
    pub(crate) fn verify_log(&self) -> Result<String, Error> {
        let said = self.serve_chore(&["log", "verify"], None)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// A bundle for a host without a server.
    pub(crate) fn carried(&self, version: &str, vendor: &Vendor) -> Result<Vec<u8>, Error> {
        let [copy, proof] = ["carried.lpb", "carried.tlog-proof"].map(|name| self.directory.join(name));
        let said = self.serve_chore(&["log", "prove", version], None)?;
        fs::write(&proof, said).map_err(|e| Error::io("write the log's proof", e))?;
        vendor.attach(&self.bundle(version), &proof, &copy)?;
        fs::read(&copy).map_err(|e| Error::io("read the bundle to carry", e))
    }

    fn serve_chore(&self, arguments: &[&str], path: Option<PathBuf>) -> Result<Vec<u8>, Error> {
        let mut server = command(&self.programs.join("livepatch-server").to_string_lossy());
        server.arg("--data").arg(self.data()).args(arguments).args(path);
        tool(&mut server, &format!("livepatch-server {}", arguments[0]), Exit::Server, |_| ())
    }

    /// Starts the server on this port of loopback; 0: a free one.
    pub(crate) fn serve(&self, port: u16) -> Result<Server, Error> {
        let log = self.directory.join("server.log");
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.map_err(|e| Error::io("make the server's log", e))?;
        // It ends with this process, whatever ends that.
        let mut serve = command("setpriv");
        serve.args(["--pdeathsig", "TERM"]).arg(self.programs.join("livepatch-server"));
        serve.arg("--data").arg(self.data()).args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
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

    /// What a host needs to know to trust this server at a port and this vendor, and to enrol.
    pub(crate) fn guest_files(
        &self,
        port: u16,
        vendor: &Vendor,
        operator: &Operator,
        token: &str,
    ) -> Result<Vec<GuestFile>, Error> {
        let read =
            |path: PathBuf| fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e));
        let file = |path, mode, bytes| GuestFile { path, mode, bytes };
        let config = format!(
            "server = \"https://{HOST_ADDRESS}:{port}\"
ca-file = \"/etc/livepatch/ca.pem\"
"
        );
        Ok(vec![
            file("/etc/livepatch/livepatch.toml", 0o644, config.into()),
            file("/etc/livepatch/ca.pem", 0o644, read(self.data().join("ca.pem"))?),
            file("/etc/livepatch/trust/operator-root.json", 0o644, operator.newest_root()?),
            file("/etc/livepatch/trust/log.vkey", 0o644, read(self.data().join("log.vkey"))?),
            file("/etc/livepatch/trust/vendor.pem", 0o644, read(self.certificate())?),
            file("/etc/livepatch/trust/vendor-root.json", 0o644, vendor.newest_root()?),
            file("/root/token", 0o600, token.into()),
        ])
    }

    /// The builder itself.
    pub(crate) fn builder(&self) -> PathBuf {
        self.programs.join("livepatch-build")
    }

    fn series(&self, action: &str, series: &Path) -> Command {
        let mut program = command(&self.builder().to_string_lossy());
        program.args(["series", action]).arg(series).args(["--kernel", self.kernel]);
        program.arg("--packages").arg(&self.packages).arg("--cache").arg(&self.cache);
        program.arg("--out").arg(self.out()).args(["--format", "json"]);
        program
    }

    fn inspect(&self, bundle: &Path) -> Result<Inspected, Error> {
        let mut inspect = command(&self.builder().to_string_lossy());
        inspect.arg("inspect").arg(bundle).args(["--format", "json"]);
        answer(&tool(&mut inspect, "inspecting the bundle", Exit::Build, |_| ())?)
    }

    /// The only kernel of a table.
    fn only<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, Error> {
        let mut table: Vec<T> = answer(json)?;
        table.pop().ok_or_else(|| Error::Config(format!("the series says nothing of {}", self.kernel)))
    }

    fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    fn unsigned(&self, version: &str) -> PathBuf {
        self.out().join(self.kernel).join(file_name(version))
    }

    fn bundle(&self, version: &str) -> PathBuf {
        self.directory.join(file_name(version))
    }

    fn certificate(&self) -> PathBuf {
        self.directory.join("vendor.cert.pem")
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

impl Server {
    /// Stops it.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn file_name(version: &str) -> String {
    format!("livepatch_{}.lpb", version.replace('.', "_"))
}

fn answer<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|e| Error::Program {
        program: "livepatch-build".into(),
        detail: format!("its report is not understood: {e}"),
    })
}
