//! QEMU's monitor (QMP), as far as saving and resuming a machine need it. The machine's state goes through sockets, so
//! that no path of this host is read by a shell.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// How often one looks whether QEMU is still there, while waiting for it.
const LOOK: Duration = Duration::from_millis(100);
/// How long QEMU may take for anything that is asked here. A gigabyte of memory takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The place where QEMU will call. Made before it starts.
pub(crate) struct Switchboard {
    directory: PathBuf,
    listener: UnixListener,
}

/// The open monitor of a running QEMU.
pub(crate) struct Monitor {
    directory: PathBuf,
    lines: BufReader<UnixStream>,
}

impl Switchboard {
    /// `directory` is one of this process alone.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: directory.into(), listener: listen(&directory.join("monitor"))? })
    }

    /// What QEMU is to be told on its command line.
    pub(crate) fn arguments(&self) -> [String; 4] {
        let path = self.directory.join("monitor").to_string_lossy().replace(',', ",,");
        let socket = format!("socket,id=monitor,server=off,path={path}");
        ["-chardev".into(), socket, "-mon".into(), "chardev=monitor,mode=control".into()]
    }

    /// Waits for QEMU's call.
    pub(crate) fn answer(self, child: &mut Child) -> io::Result<Monitor> {
        let stream = accept(&self.listener, || Ok(child.try_wait()?.is_none()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut monitor = Monitor { directory: self.directory, lines: BufReader::new(stream) };
        monitor.line("\"QMP\"")?;
        monitor.ask("{\"execute\":\"qmp_capabilities\"}")?;
        let events = "{\"capability\":\"events\",\"state\":true}";
        monitor.ask(&format!(
            "{{\"execute\":\"migrate-set-capabilities\",\"arguments\":{{\"capabilities\":[{events}]}}}}"
        ))?;
        Ok(monitor)
    }
}

impl Monitor {
    /// Stops the machine and writes its state to a file; its disks hold all that it has written.
    pub(crate) fn save(&mut self, state: &Path) -> io::Result<()> {
        let listener = listen(&self.directory.join("state"))?;
        let command = self.migration("migrate")?;
        self.ask(&command)?;
        let mut stream = accept(&listener, || Ok(true))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut file = File::create(state)?;
        io::copy(&mut stream, &mut file)?;
        self.saved()
    }

    /// Gives a machine that waits for it the state of a file, and lets it go on.
    pub(crate) fn load(&mut self, state: &Path) -> io::Result<()> {
        let mut file = File::open(state)?;
        let command = self.migration("migrate-incoming")?;
        self.ask(&command)?;
        let mut stream = UnixStream::connect(self.directory.join("state"))?;
        io::copy(&mut file, &mut stream)?;
        stream.shutdown(Shutdown::Write)?;
        // If the state cannot be used, QEMU ends.
        self.line("\"RESUME\"")
    }

    fn migration(&self, command: &str) -> io::Result<String> {
        let path = self.directory.join("state");
        // Nothing that would have to be escaped in JSON.
        let plain = |path: &&str| !path.contains(|c: char| c.is_control() || c == '"' || c == '\\');
        let path = path.to_str().filter(plain).ok_or(io::ErrorKind::InvalidFilename)?;
        Ok(format!("{{\"execute\":\"{command}\",\"arguments\":{{\"uri\":\"unix:{path}\"}}}}"))
    }

    /// Waits until the machine has stopped and nothing of its state is missing.
    fn saved(&mut self) -> io::Result<()> {
        loop {
            let line = self.next()?;
            let event = line.contains("\"MIGRATION\"");
            if event && line.contains("\"completed\"") {
                return Ok(());
            }
            if event && line.contains("\"failed\"") {
                return Err(io::Error::other(format!("QEMU says {line}")));
            }
        }
    }

    fn ask(&mut self, request: &str) -> io::Result<()> {
        writeln!(self.lines.get_mut(), "{request}")?;
        loop {
            let line = self.next()?;
            if line.starts_with("{\"return\"") {
                return Ok(());
            }
            if line.starts_with("{\"error\"") {
                return Err(io::Error::other(format!("QEMU says {line}")));
            }
        }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        while !self.next()?.contains(text) {}
        Ok(())
    }

    fn next(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU ended"));
        }
        Ok(line.trim_end().into())
    }
}

/// A listener whose `accept` returns now and then.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    // A socket's time-out counts for `accept`, too, but only a stream has the method to set it.
    let socket = UnixStream::from(OwnedFd::from(listener));
    socket.set_read_timeout(Some(LOOK))?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

fn accept(listener: &UnixListener, mut goes_on: impl FnMut() -> io::Result<bool>) -> io::Result<UnixStream> {
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !goes_on()? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU ended"));
        }
        if started.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "QEMU does not call"));
        }
    }
}
