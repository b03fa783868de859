//! An operator: the real `livepatch-server` with a data directory of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use livepatch_manifest::Bundle;
use tempfile::TempDir;

use crate::patches::Vendor;

/// Where guests find the host's loopback.
pub(crate) const ADDRESS: &str = "10.0.2.2";

/// A port of the loopback that nobody listens at, and that no outgoing connection gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Each process has some of its own, so that another one takes none between this and the use of it.
    let start = 20_000 + 32 * u16::try_from(std::process::id() % 384).unwrap();
    std::iter::repeat_with(|| start + NEXT.fetch_add(1, Ordering::Relaxed))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// A data directory.
pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    /// A new one, in which a vendor is trusted.
    pub(crate) fn new(vendor: &Vendor) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        site.run(&["init", "--ip", ADDRESS, "--ip", "127.0.0.1"]);
        site.trust(vendor);
        site
    }

    /// The same operator with the same state, going its own way from here on.
    pub(crate) fn copy(&self) -> Self {
        Self::copy_of(&self.data())
    }

    /// The operator whose data directory was copied to a place.
    pub(crate) fn copy_of(data: &Path) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        let copied = Command::new("cp").arg("-aT").args([data, &site.data()]).status().unwrap();
        assert!(copied.success());
        site
    }

    /// Another operator who has got hold of this one's name, that is, of its TLS certificate.
    pub(crate) fn usurper(&self, vendor: &Vendor) -> Self {
        let other = Self::new(vendor);
        for name in ["tls.crt", "tls.key", "ca.pem"] {
            std::fs::copy(self.file(name), other.file(name)).unwrap();
        }
        other
    }

    pub(crate) fn trust(&self, vendor: &Vendor) {
        let path = self.directory.path().join("vendor.pem");
        std::fs::write(&path, &vendor.certificate_pem).unwrap();
        self.run(&["vendor", "add", path.to_str().unwrap()]);
    }

    pub(crate) fn publish(&self, bundle: &Bundle) {
        let path = self.directory.path().join("bundle.lpb");
        std::fs::write(&path, bundle.to_bytes()).unwrap();
        // These tests are the proof.
        self.run(&["publish", path.to_str().unwrap(), "--unproven", "a test loads it"]);
    }

    /// Makes an enrolment token and writes it nowhere but here.
    pub(crate) fn token(&self, name: &str, more: &[&str]) -> String {
        let made = self.run(&[&["token", "create", "--name", name, "--tier", "stable"], more].concat());
        made.trim().to_owned()
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Serves until it is dropped.
    pub(crate) fn serve(&self, port: u16) -> Server {
        let log = File::create(self.directory.path().join("log")).unwrap();
        let listen = format!("127.0.0.1:{port}");
        let mut child =
            self.command(&["serve", "--listen", &listen]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = Server { child };
        assert!(line.starts_with("listening on "), "{line:?} {}", self.log());
        server
    }

    /// What the server said on standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// A file of the data directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    fn data(&self) -> PathBuf {
        Path::new(self.directory.path()).join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-server-for-tests"));
        command.args(arguments).arg("--data").arg(self.data());
        command
    }
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
