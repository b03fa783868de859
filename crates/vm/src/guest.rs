//! A running guest.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::command::{Command, Output};
use crate::console::{KernelProblem, last_lines, panic_line, problems_in, strip_ansi};
use crate::firmware::{Firmware, Started};
use crate::monitor::{Monitor, Switchboard};
use crate::protocol::{self, AnswerReader, quote};
use crate::transcript::Transcript;
use crate::{VmError, program};

/// The unprivileged user of every guest, uid 1000.
pub const USER: &str = "user";

pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// How long the guest may be silent where it has nothing to wait for. TCG on a busy host is slow.
const SILENCE: Duration = Duration::from_secs(120);
const LAST_LINES: usize = 15;

/// What to boot and on which machine.
#[derive(Debug, Clone)]
pub struct BootSpec {
    /// The kernel image.
    pub vmlinuz: PathBuf,
    /// The root file system, from [`crate::Initramfs::build`].
    pub initrd: Vec<u8>,
    /// Memory.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// What is to be different about the processor, as QEMU's `-cpu` takes it (`family=6`).
    pub cpu_properties: Vec<String>,
    /// What the real-time clock says at the start, in UTC, as QEMU's `-rtc base` takes it (`1970-01-01T00:00:00`); otherwise
    /// it is right.
    pub clock: Option<String>,
    /// What starts the kernel.
    pub firmware: Firmware,
    /// Added to the kernel's command line.
    pub kernel_args: Vec<String>,
    /// The network card.
    pub network: Network,
    /// Raw disk images, as `/dev/vda`, `/dev/vdb` and so on; the initramfs needs `virtio_blk`. What the guest writes
    /// survives the guest, not a crash of this machine.
    pub disks: Vec<PathBuf>,
    /// How long the guest may take until it answers.
    pub boot_timeout: Duration,
    /// Where the transcript goes and stays; otherwise it is kept only when a step fails.
    pub transcript: Option<PathBuf>,
    /// Whether the machine can be saved.
    pub saving: Saving,
}

/// Whether a machine can be saved with [`Guest::save`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// It can; it has a monitor.
    Possible,
    /// It cannot.
    Impossible,
}

impl BootSpec {
    /// A machine with a BIOS, two processors, 512 MiB, a network card and five minutes to boot.
    pub fn new(vmlinuz: impl Into<PathBuf>, initrd: Vec<u8>) -> Self {
        Self {
            vmlinuz: vmlinuz.into(),
            initrd,
            memory_mib: 512,
            cpus: 2,
            cpu_properties: Vec::new(),
            clock: None,
            firmware: Firmware::Bios,
            kernel_args: Vec::new(),
            network: Network::User { forwards: Vec::new() },
            disks: Vec::new(),
            boot_timeout: Duration::from_secs(300),
            transcript: None,
            saving: Saving::Impossible,
        }
    }
}

/// The guest's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// No card.
    None,
    /// QEMU's own: the guest is 10.0.2.15, and 10.0.2.2 is the host's loopback.
    User {
        /// Ports of the host's loopback that lead into the guest.
        forwards: Vec<Forward>,
    },
}

/// A TCP port of the host's loopback that leads into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The port on 127.0.0.1 of the host.
    pub host_port: u16,
    /// The port of the guest.
    pub guest_port: u16,
}

/// A place in the console's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// A running guest. Dropping it stops the machine at once.
pub struct Guest {
    child: Child,
    wire: Mutex<Wire>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    boot_time: Duration,
    monitor: Option<Monitor>,
    /// The initrd, the firmware's variables, and sockets; for as long as QEMU may look.
    _files: TempDir,
}

/// With whom the host speaks over QEMU's standard input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// With the guest's system, over the second serial port. The console is read alone.
    WithSystem,
    /// With whoever has the console: the first serial port.
    WithBootLoaders,
}

/// The host's end of the serial port over which it speaks.
struct Wire {
    to_guest: ChildStdin,
    from_guest: Receiver<String>,
    last_id: u64,
    /// Why nothing can be asked any more.
    broken: Option<String>,
}

struct Shared {
    console: Mutex<Console>,
    changed: Condvar,
    transcript: Transcript,
}

#[derive(Default)]
struct Console {
    /// Whole lines.
    text: String,
    /// The last one, as far as it has come: a boot loader's screen has no lines.
    unfinished: String,
    ended: bool,
}

impl Console {
    /// All that was said until now.
    fn said(&self) -> String {
        format!("{}{}", self.text, self.unfinished)
    }
}

impl Guest {
    /// Boots and waits until the guest answers.
    pub fn boot(spec: &BootSpec) -> Result<Self, VmError> {
        let started = Instant::now();
        let mut guest = Self::launch(spec, spec.saving, Speaks::WithSystem, &[])?;
        guest.wait_until_ready(started + spec.boot_timeout, spec.boot_timeout)?;
        guest.boot_time = started.elapsed();
        Ok(guest)
    }

    /// Boots a machine that must not get as far as its system: waits until its console says these words, and stops it.
    /// Gives all that the console said.
    pub fn boot_until_console_says(spec: &BootSpec, words: &str) -> Result<String, VmError> {
        let deadline = Instant::now() + spec.boot_timeout;
        let guest = Self::launch(spec, Saving::Impossible, Speaks::WithSystem, &[])?;
        guest.wait_until_said(words, 0, deadline)?;
        Ok(guest.shared.console().said())
    }

    /// Boots a machine whose boot loaders ask whoever is at its console: waits for the words of each pair, one after the
    /// other, and types what belongs to them; then until the machine switches itself off or reboots. Nobody speaks with its
    /// system. Gives all that the console said.
    pub fn boot_and_type(spec: &BootSpec, dialogue: &[(&str, String)]) -> Result<String, VmError> {
        let deadline = Instant::now() + spec.boot_timeout;
        let guest = Self::launch(spec, Saving::Impossible, Speaks::WithBootLoaders, &[])?;
        let mut from = 0;
        for (words, keys) in dialogue {
            from = guest.wait_until_said(words, from, deadline)?;
            guest.shared.transcript.write("host", &format!("typing after {words:?}"));
            guest.send(&mut guest.wire(), words, keys.as_bytes())?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let console = guest.shared.console();
        let console = guest.shared.changed.wait_timeout_while(console, left, |console| !console.ended);
        let console = console.unwrap_or_else(PoisonError::into_inner).0;
        if !console.ended {
            drop(console);
            return Err(guest.no_boot("it was on for too long after the last key".into()));
        }
        Ok(console.said())
    }

    /// Waits until the console says these words from a place on; gives the place after them.
    fn wait_until_said(&self, words: &str, from: usize, deadline: Instant) -> Result<usize, VmError> {
        let mut console = self.shared.console();
        loop {
            let said = console.said();
            if let Some(at) = said.get(from..).and_then(|said| said.find(words)) {
                return Ok(from + at + words.len());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if console.ended || left.is_zero() {
                drop(console);
                return Err(
                    self.no_boot(format!("it ended, or was on for too long, before it said {words:?}"))
                );
            }
            console =
                self.shared.changed.wait_timeout(console, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Goes on where [`Self::save`] stopped a machine, with the same `spec` but for what is on the host: the disks must be
    /// as they were then, or such that the guest never read them. The guest takes no time to have passed.
    pub fn resume(spec: &BootSpec, state: &Path) -> Result<Self, VmError> {
        let started = Instant::now();
        let mut guest = Self::launch(spec, Saving::Possible, Speaks::WithSystem, &["-incoming", "defer"])?;
        let loaded = guest.monitor.as_mut().map_or(Ok(()), |monitor| monitor.load(state));
        if let Err(error) = loaded {
            return Err(guest.gone("resuming", error.to_string()));
        }
        guest.run(&Command::new("true"), spec.boot_timeout)?;
        guest.boot_time = started.elapsed();
        Ok(guest)
    }

    /// Writes the machine's memory and devices to a file and stops it. Its disks are then as they belong to that file.
    pub fn save(mut self, state: &Path) -> Result<(), VmError> {
        let Some(mut monitor) = self.monitor.take() else {
            return Err(VmError::Invalid("this machine was started as one that cannot be saved".into()));
        };
        self.shared.transcript.write("host", "saving the machine");
        monitor.save(state).map_err(|error| self.gone("saving the machine", error.to_string()))?;
        self.stop();
        Ok(())
    }

    fn launch(spec: &BootSpec, saving: Saving, speaks: Speaks, more: &[&str]) -> Result<Self, VmError> {
        program::must_exist(QEMU)?;
        if saving == Saving::Possible && !matches!(spec.firmware, Firmware::Bios) {
            return Err(VmError::Invalid("a machine whose firmware keeps variables cannot be saved".into()));
        }
        let files = tempfile::Builder::new()
            .prefix("livepatch-vm-")
            .tempdir()
            .map_err(|e| VmError::io("make a temporary directory", e))?;
        let initrd = files.path().join("initrd");
        std::fs::write(&initrd, &spec.initrd).map_err(|e| VmError::io("write the initrd", e))?;
        let transcript = Transcript::create(spec.transcript.as_deref())
            .map_err(|e| VmError::io("make the transcript", e))?;
        let shared = Arc::new(Shared { console: Mutex::default(), changed: Condvar::new(), transcript });

        let mut arguments = qemu_arguments(spec, speaks);
        let command_line = command_line(&spec.kernel_args);
        let started = Started { vmlinuz: &spec.vmlinuz, initrd: &initrd, command_line: &command_line };
        arguments.extend(spec.firmware.arguments(started, files.path())?);
        arguments.extend(more.iter().map(OsString::from));
        let switchboard = match saving {
            Saving::Impossible => None,
            Saving::Possible => {
                let made = Switchboard::open(files.path());
                Some(made.map_err(|e| VmError::io("make a socket for QEMU", e))?)
            }
        };
        arguments.extend(switchboard.iter().flat_map(Switchboard::arguments).map(OsString::from));
        let (mut child, console_thread) = start(arguments, Arc::clone(&shared), speaks)?;
        let Some(to_guest) = child.stdin.take() else {
            return Err(VmError::Invalid("QEMU has no pipes".into()));
        };
        let (sender, from_guest) = mpsc::channel();
        let answers = child.stdout.take();
        let answer_thread =
            answers.map(|answers| std::thread::spawn(move || forward_lines(answers, &sender)));
        let wire = Mutex::new(Wire { to_guest, from_guest, last_id: 0, broken: None });
        let threads = std::iter::once(console_thread).chain(answer_thread).collect();
        let boot_time = Duration::ZERO;
        let mut guest = Self { child, wire, shared, threads, boot_time, monitor: None, _files: files };
        if let Some(switchboard) = switchboard {
            let answered = switchboard.answer(&mut guest.child);
            guest.monitor = Some(answered.map_err(|error| guest.gone("the start", error.to_string()))?);
        }
        Ok(guest)
    }

    /// How long it took from QEMU's start to the guest's first answer.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Runs a command to its end. After the time-out it is killed in the guest, and that is an error.
    pub fn run(&self, command: &Command, timeout: Duration) -> Result<Output, VmError> {
        let step = command.title();
        self.run_script(&step, &command.script()?, command.input(), timeout)
    }

    /// Runs a command that must end with 0; gives its standard output as text.
    pub fn check(&self, command: &Command, timeout: Duration) -> Result<String, VmError> {
        let output = self.run(command, timeout)?;
        self.require_success(&command.title(), &output)?;
        Ok(output.text())
    }

    /// Starts a daemon; what it writes goes to `/run/log/NAME`. Gives its process id.
    pub fn spawn(&self, name: &str, command: &Command) -> Result<u32, VmError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(VmError::Invalid(format!("{name:?} cannot be the name of a log")));
        }
        let mut script = b"setsid sh -c ".to_vec();
        script.extend(quote(&command.script()?)?);
        script.extend_from_slice(
            format!(" </dev/null >/run/log/{name} 2>&1 & echo $! | tee /run/pid/{name}").as_bytes(),
        );
        let step = format!("start of {name}");
        let output = self.run_script(&step, &script, &[], SILENCE)?;
        self.require_success(&step, &output)?;
        output.text().parse().map_err(|_| self.protocol_error(&step, "no process id".into()))
    }

    /// Waits until the command's output (both streams, without blanks at the end) is `expected`; the guest
    /// runs it again and again.
    pub fn wait_for(&self, command: &Command, expected: &str, timeout: Duration) -> Result<(), VmError> {
        let mut script = b"while :; do seen=$( (".to_vec();
        script.extend(command.script()?);
        script.extend_from_slice(b"\n) 2>&1 </dev/null)\n[ \"$seen\" = ");
        script.extend(quote(expected.trim_end().as_bytes())?);
        script.extend_from_slice(b" ] && exit 0\nprintf '%s' \"$seen\" >/run/vm/seen\nusleep 50000\ndone");
        let step = format!("waiting for {expected:?} from {}", command.title());
        self.run_script(&step, &script, &[], timeout).map(drop).map_err(|error| match error {
            VmError::TimedOut { step, after, transcript, .. } => {
                let seen = self.read_file("/run/vm/seen").unwrap_or_default();
                let detail = format!("; it says {:?}", String::from_utf8_lossy(&seen).trim());
                VmError::TimedOut { step, after, detail, transcript }
            }
            error => error,
        })
    }

    /// Writes a file in the guest: complete or not at all. Its directory must exist. The serial port takes
    /// some 50 kB a second; what is large belongs into the initramfs.
    pub fn write_file(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), VmError> {
        let script = "cat >\"$0.part\" && chmod \"$1\" \"$0.part\" && mv \"$0.part\" \"$0\"";
        let command = Command::shell(script).arg(path).arg(format!("{mode:o}")).stdin(bytes);
        let step = format!("writing of {path}");
        let output = self.run_script(&step, &command.script()?, command.input(), SILENCE)?;
        self.require_success(&step, &output)
    }

    /// Reads a file of the guest.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, VmError> {
        let step = format!("reading of {path}");
        let output = self.run_script(&step, &Command::new("cat").arg(path).script()?, &[], SILENCE)?;
        self.require_success(&step, &output)?;
        Ok(output.stdout)
    }

    /// All that came over the console so far, without terminal control sequences.
    pub fn console(&self) -> String {
        self.shared.console().text.clone()
    }

    /// The console's end, after all that the kernel has logged so far.
    pub fn mark(&self) -> Result<Mark, VmError> {
        let id = self.wire().last_id;
        let text = format!("livepatch-vm: mark {id}.");
        self.check(&Command::shell("echo \"$0\" >/dev/kmsg").arg(&text), SILENCE)?;
        let deadline = Instant::now() + SILENCE;
        let mut console = self.shared.console();
        loop {
            if let Some(at) = console.text.rfind(&text) {
                let end = console.text[at..].find('\n').map_or(console.text.len(), |length| at + length + 1);
                return Ok(Mark(end));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if console.ended || left.is_zero() {
                drop(console);
                return Err(self.gone("a mark on the console", "it did not appear".into()));
            }
            console =
                self.shared.changed.wait_timeout(console, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What came over the console after a mark, with all that the kernel has logged so far.
    pub fn console_since(&self, mark: Mark) -> Result<String, VmError> {
        self.mark()?;
        Ok(self.shared.console().text.get(mark.0..).unwrap_or_default().to_string())
    }

    /// All problems that the kernel has logged so far.
    pub fn kernel_problems(&self) -> Result<Vec<KernelProblem>, VmError> {
        self.mark()?;
        Ok(problems_in(&self.console()))
    }

    /// Keeps the transcript and gives its path.
    pub fn keep_transcript(&self) -> PathBuf {
        self.shared.transcript.keep()
    }

    /// Stops the machine at once, as if its power were cut. What it had not written to its disks is lost.
    pub fn power_cut(mut self) {
        self.shared.transcript.write("host", "power cut");
        self.stop();
    }

    /// Shuts the machine down and waits for its end.
    pub fn shutdown(self) -> Result<(), VmError> {
        self.end_by(&Command::shell("sync; exec poweroff -f"), SILENCE)
    }

    /// Runs a command that ends the machine, and waits for its end. A reboot is an end, too.
    pub fn end_by(mut self, command: &Command, timeout: Duration) -> Result<(), VmError> {
        let request = protocol::run_request(u64::MAX, timeout.as_secs(), &command.script()?)?;
        self.shared.transcript.write("host", &command.title());
        let deadline = Instant::now() + timeout;
        let ended = {
            let mut wire = self.wire();
            let asked = wire.broken.is_none() && wire.to_guest.write_all(&request).is_ok();
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match wire.from_guest.recv_timeout(left) {
                    Ok(_) => {}
                    Err(RecvTimeoutError::Disconnected) => break true,
                    Err(RecvTimeoutError::Timeout) => break false,
                }
                if !asked {
                    break false;
                }
            }
        };
        if !ended {
            let reason = format!("it was still on after {} s", timeout.as_secs());
            return Err(self.gone("shutdown", reason));
        }
        self.stop();
        Ok(())
    }

    fn wait_until_ready(&self, deadline: Instant, timeout: Duration) -> Result<(), VmError> {
        let wire = self.wire();
        let reason = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match wire.from_guest.recv_timeout(left) {
                Ok(line) if line == "@ready" => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.shared.wait_for_end();
                    let console = self.shared.console();
                    let last = last_lines(&console.text, 1);
                    break match panic_line(&console.text) {
                        Some(panic) => panic.to_string(),
                        None if last.is_empty() => "QEMU ended without a word".to_string(),
                        None => format!("QEMU ended: {last}"),
                    };
                }
                Err(RecvTimeoutError::Timeout) => {
                    let console = self.shared.console();
                    let panic = panic_line(&console.text).unwrap_or("no answer");
                    break format!("{panic} within {} s", timeout.as_secs_f64());
                }
            }
        };
        Err(self.no_boot(reason))
    }

    fn no_boot(&self, reason: String) -> VmError {
        let last_lines = last_lines(&self.shared.console().text, LAST_LINES);
        VmError::NoBoot { reason, last_lines, transcript: self.shared.transcript.keep() }
    }

    fn run_script(
        &self,
        step: &str,
        script: &[u8],
        input: &[u8],
        timeout: Duration,
    ) -> Result<Output, VmError> {
        let mut wire = self.wire();
        if let Some(reason) = &wire.broken {
            let reason = reason.clone();
            return Err(self.gone(step, reason));
        }
        self.shared.transcript.write("run", step);
        wire.last_id += 1;
        let answer = self.ask(&mut wire, step, script, input, timeout).inspect_err(|error| {
            // After a refusal nothing was sent; after anything else the two ends may disagree.
            if !matches!(error, VmError::Invalid(_)) {
                wire.broken = Some("an earlier step lost it".into());
            }
            self.shared.transcript.write("error", &error.to_string());
        })?;
        let Output { status, stdout, stderr } = &answer.output;
        self.shared.transcript.write("stdout", &shown(stdout));
        self.shared.transcript.write("stderr", &shown(stderr));
        self.shared
            .transcript
            .write("status", &format!("{status}{}", if answer.late { ", killed" } else { "" }));
        if answer.late {
            let transcript = self.shared.transcript.keep();
            let step = step.to_string();
            return Err(VmError::TimedOut { step, after: timeout, detail: String::new(), transcript });
        }
        Ok(answer.output)
    }

    /// One request and its answer.
    fn ask(
        &self,
        wire: &mut Wire,
        step: &str,
        script: &[u8],
        input: &[u8],
        timeout: Duration,
    ) -> Result<protocol::Answer, VmError> {
        let id = wire.last_id;
        let run = protocol::run_request(id, timeout.as_secs_f64().ceil().max(1.0) as u64, script)?;
        for request in protocol::data_requests(id, input) {
            self.send(wire, step, &request)?;
            let line = self.receive(wire, step, SILENCE)?;
            if line != format!("@taken {id}") {
                return Err(self.protocol_error(step, format!("an unexpected line {line:?}")));
            }
        }
        self.send(wire, step, &run)?;
        let mut reader = AnswerReader::new(id);
        let mut patience = timeout + SILENCE;
        loop {
            let line = self.receive(wire, step, patience)?;
            if let Some(answer) = reader.line(&line).map_err(|detail| self.protocol_error(step, detail))? {
                return Ok(answer);
            }
            patience = SILENCE;
        }
    }

    fn send(&self, wire: &mut Wire, step: &str, request: &[u8]) -> Result<(), VmError> {
        let sent = wire.to_guest.write_all(request).and_then(|()| wire.to_guest.flush());
        sent.map_err(|_| self.gone(step, "QEMU ended".into()))
    }

    fn receive(&self, wire: &Wire, step: &str, patience: Duration) -> Result<String, VmError> {
        wire.from_guest.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                self.gone(step, format!("no answer within {} s", patience.as_secs_f64()))
            }
            RecvTimeoutError::Disconnected => {
                self.shared.wait_for_end();
                let panic = panic_line(&self.shared.console().text).map(String::from);
                self.gone(step, panic.unwrap_or_else(|| "QEMU ended".into()))
            }
        })
    }

    fn require_success(&self, step: &str, output: &Output) -> Result<(), VmError> {
        if output.success() {
            return Ok(());
        }
        let said = [output.error_text(), output.text()];
        let detail = said.iter().find_map(|text| text.lines().last()).unwrap_or("it said nothing").into();
        let transcript = self.shared.transcript.keep();
        Err(VmError::Failed { step: step.into(), status: output.status, detail, transcript })
    }

    fn protocol_error(&self, step: &str, detail: String) -> VmError {
        VmError::Protocol { step: step.into(), detail, transcript: self.shared.transcript.keep() }
    }

    fn gone(&self, step: &str, reason: String) -> VmError {
        let last_lines = last_lines(&self.shared.console().text, LAST_LINES);
        VmError::Gone { step: step.into(), reason, last_lines, transcript: self.shared.transcript.keep() }
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Guest {
    /// A test that fails keeps the transcript, whatever it was that failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the guest's transcript is {}", self.keep_transcript().display());
        }
        self.stop();
    }
}

impl Shared {
    fn console(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// QEMU has ended: waits for the rest of what it had written.
    fn wait_for_end(&self) {
        let console = self.console();
        let wait = self.changed.wait_timeout_while(console, Duration::from_secs(5), |console| !console.ended);
        drop(wait);
    }
}

/// Starts QEMU from the thread that then reads its console: the kernel ends QEMU when that thread ends, so
/// nothing stays behind even if this process is killed.
fn start(
    arguments: Vec<OsString>,
    shared: Arc<Shared>,
    speaks: Speaks,
) -> Result<(Child, JoinHandle<()>), VmError> {
    // QEMU's own complaints belong to the console, wherever that is.
    let (console, complaints) = std::io::pipe().map_err(|e| VmError::io("make a pipe for QEMU", e))?;
    let answers = match speaks {
        Speaks::WithSystem => Stdio::piped(),
        Speaks::WithBootLoaders => {
            complaints.try_clone().map_err(|e| VmError::io("make a pipe for QEMU", e))?.into()
        }
    };
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        // The writing ends of the pipe go with this statement: the console ends when QEMU does.
        let spawned = std::process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL", QEMU])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(answers)
            .stderr(complaints)
            .spawn();
        match spawned {
            Ok(child) => {
                if sender.send(Ok(child)).is_ok() {
                    read_console(console, &shared);
                }
            }
            Err(error) => drop(sender.send(Err(VmError::io("start QEMU", error)))),
        }
        shared.console().ended = true;
        shared.changed.notify_all();
    });
    let child = receiver.recv().map_err(|_| VmError::Invalid("the console thread died".into()))??;
    Ok((child, thread))
}

/// Collects the console until QEMU ends: whole lines, and of the last one what has come of it.
fn read_console(mut console: impl Read, shared: &Shared) {
    let text = |bytes: &[u8]| -> String {
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| strip_ansi(&String::from_utf8_lossy(line))).collect()
    };
    let (mut chunk, mut line) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let ended = match console.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(count) if count > 0 => {
                line.extend_from_slice(&chunk[..count]);
                false
            }
            _ => true,
        };
        let whole = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = line.split_off(if ended { line.len() } else { whole });
        let lines = text(&line);
        shared.transcript.write("console", &lines);
        let mut console = shared.console();
        console.text.push_str(&lines);
        console.unfinished = text(&rest);
        drop(console);
        shared.changed.notify_all();
        if ended {
            return;
        }
        line = rest;
    }
}

fn forward_lines(answers: impl Read, sender: &Sender<String>) {
    for line in BufReader::new(answers).split(b'\n') {
        let Ok(line) = line else { return };
        if sender.send(String::from_utf8_lossy(&line).trim_end().to_string()).is_err() {
            return;
        }
    }
}

/// Output as the transcript shows it.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 64 * 1024;
    match bytes.get(..MOST) {
        Some(start) => format!("{}\n… {} bytes", String::from_utf8_lossy(start), bytes.len()),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn command_line(more: &[String]) -> String {
    let mut line = String::from("console=ttyS0 panic=-1 random.trust_cpu=on");
    for argument in more {
        line.push(' ');
        line.push_str(argument);
    }
    line
}

fn qemu_arguments(spec: &BootSpec, speaks: Speaks) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
    let cpu = spec.cpu_properties.iter().fold("max".to_owned(), |cpu, property| format!("{cpu},{property}"));
    // One thread for all processors: when one of several threads writes into code, QEMU drops its translation and only
    // then stores, and another may translate the old bytes in between, for good. A kernel that patches its own code
    // under load (jump labels, static calls, ftrace: every livepatch transition) then dies of a stale int3.
    add(&["-accel", "tcg,thread=single", "-cpu", &cpu]);
    add(&["-m", &spec.memory_mib.to_string(), "-smp", &spec.cpus.to_string()]);
    if let Some(clock) = &spec.clock {
        add(&["-rtc", &format!("base={clock}")]);
    }
    // The kernel's console goes to standard error, where QEMU's own complaints go too; commands go over
    // standard input and output. Both vanish with the process.
    let (console, commands) = match speaks {
        Speaks::WithSystem => ("file,id=console,path=/dev/stderr", "stdio,id=commands,signal=off"),
        Speaks::WithBootLoaders => ("stdio,id=console,signal=off", "null,id=commands"),
    };
    add(&["-chardev", console, "-serial", "chardev:console"]);
    add(&["-chardev", commands, "-serial", "chardev:commands"]);
    if let Network::User { forwards } = &spec.network {
        let mut user = String::from("user,id=net");
        for Forward { host_port, guest_port } in forwards {
            user.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host_port}-:{guest_port}"));
        }
        add(&["-netdev", &user, "-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        let path = disk.to_string_lossy().replace(',', ",,");
        add(&["-drive", &format!("if=none,format=raw,cache.no-flush=on,id=disk{index},file={path}")]);
        add(&["-device", &format!("virtio-blk-pci,drive=disk{index}")]);
    }
    arguments
}
