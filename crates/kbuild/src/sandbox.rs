//! Programs that work on sources nobody vouches for: make and all it starts, compiler, linker, objtool.
//!
//! A kernel's Makefiles run what they like, so each such program runs alone, by bubblewrap: no network; processes, mounts,
//! users, host name and IPC of its own; of the file system the programs of the host or of a toolchain root, the
//! prepared tree and its own directory, all read-only but for what it is there to write. Per process, `prlimit` bounds time,
//! memory and files; for all together this program looks on, ten times a second, and ends them when they are too
//! many, take too much or too long. (Control groups would do that in the kernel, but not for every user everywhere.)

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::KbuildError;
use crate::command::{start_error, tail, tool};

/// How programs are kept from everything that is not theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// In namespaces of their own, by bubblewrap.
    #[default]
    Bubblewrap,
    /// Not at all: they may do what the caller may.
    None,
}

impl Isolation {
    /// The word for it in options and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::None => "none",
        }
    }
}

/// What programs may take. Generous for a kernel's makes and compilers: a limit ends what runs wild, it does not ration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time of one command with all it starts.
    pub time: Duration,
    /// Processor time of one process, in seconds.
    pub process_seconds: u64,
    /// Address space of one process, in bytes.
    pub process_bytes: u64,
    /// Length of one file, in bytes.
    pub file_bytes: u64,
    /// Memory of all processes of one command, in bytes.
    pub memory_bytes: u64,
    /// Processes of one command.
    pub processes: usize,
    /// What the directories that a command may write may hold, in bytes.
    pub disk_bytes: u64,
    /// How many files they may hold.
    pub disk_files: u64,
}

const GIB: u64 = 1 << 30;

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            time: Duration::from_secs(1800),
            process_seconds: 600,
            process_bytes: 8 * GIB,
            file_bytes: 2 * GIB,
            // The largest units of a kernel take half a GiB.
            memory_bytes: 4 * GIB + cores as u64 * GIB,
            processes: 256 + 16 * cores,
            disk_bytes: 32 * GIB,
            disk_files: 2_000_000,
        }
    }
}

/// A program to run, and what it may touch.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    program: OsString,
    arguments: Vec<OsString>,
    directory: PathBuf,
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Job {
    pub(crate) fn new(program: impl Into<OsString>, directory: impl Into<PathBuf>) -> Self {
        let (program, directory) = (program.into(), directory.into());
        Self { program, arguments: Vec::new(), directory, reads: Vec::new(), writes: Vec::new() }
    }

    pub(crate) fn arg(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<S: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = S>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// It sees this file or directory.
    pub(crate) fn reads(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.reads.push(path.into());
        self
    }

    /// It may change what is in this directory.
    pub(crate) fn writes(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.writes.push(path.into());
        self
    }
}

/// Where programs run.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    isolation: Isolation,
    limits: Limits,
    /// bubblewrap's options for the programs that can be run.
    system: Vec<OsString>,
}

/// Where programs are, inside.
const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// Largest output of a program that is kept.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;

/// How often it is looked what a program takes.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Sandbox {
    /// A sandbox with the programs of the host, or of a toolchain root. Refused where it does not work.
    pub(crate) fn open(
        isolation: Isolation,
        root: Option<&Path>,
        limits: Limits,
    ) -> Result<Self, KbuildError> {
        let sandbox = Self { isolation, limits, system: system(root.unwrap_or(Path::new("/"))) };
        if isolation == Isolation::None {
            return match root {
                None => Ok(sandbox),
                Some(_) => Err(KbuildError::Sandbox("a toolchain root is used inside a sandbox only".into())),
            };
        }
        let cannot = |why: String| KbuildError::Sandbox(format!("programs cannot be isolated here: {why}"));
        if !Path::new("/proc/thread-self/children").exists() {
            return Err(cannot("this kernel does not list the children of processes".into()));
        }
        match sandbox.run(&Job::new("true", "/"), "trying the sandbox") {
            Ok(output) if output.status.success() => Ok(sandbox),
            Ok(output) => Err(cannot(tail(&output))),
            Err(KbuildError::NoProgram(program)) => Err(cannot(format!("{program} is not installed"))),
            Err(error) => Err(cannot(error.to_string())),
        }
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// The same with the host's programs.
    pub(crate) fn of_host(&self) -> Self {
        Self { system: system(Path::new("/")), ..self.clone() }
    }

    /// The command line of a job.
    pub(crate) fn command(&self, job: &Job) -> Command {
        let limits = self.limits.arguments();
        let mut command = match self.isolation {
            Isolation::None => {
                let mut command = tool("prlimit");
                command.args(limits).current_dir(&job.directory);
                command
            }
            Isolation::Bubblewrap => {
                let mut command = tool("bwrap");
                command.env("PATH", PATH).env("HOME", "/tmp").env("TMPDIR", "/tmp");
                command.args([
                    "--unshare-user",
                    "--unshare-ipc",
                    "--unshare-pid",
                    "--unshare-net",
                    "--unshare-uts",
                    "--unshare-cgroup-try",
                    "--disable-userns",
                    "--die-with-parent",
                    // The program is the first process of its namespace: when it has ended, so has, by the kernel's
                    // word, everything that it started. Otherwise bubblewrap ends before its own first process does.
                    "--as-pid-1",
                    "--new-session",
                    "--cap-drop",
                    "ALL",
                    "--hostname",
                    "livepatch",
                ]);
                command.args(&self.system);
                command.args(["--proc", "/proc", "--dev", "/dev"]);
                command.arg("--size").arg(GIB.to_string()).args(["--tmpfs", "/tmp"]);
                for (option, paths) in [("--ro-bind", &job.reads), ("--bind", &job.writes)] {
                    for path in paths {
                        command.arg(option).arg(path).arg(path);
                    }
                }
                // These two are file systems in memory.
                command.args(["--remount-ro", "/", "--remount-ro", "/dev"]);
                command.arg("--chdir").arg(&job.directory).arg("--").arg("prlimit").args(limits);
                // Of the user in this sandbox; root of the host is not counted, but looked at.
                command.arg(format!("--nproc={}", self.limits.processes));
                command
            }
        };
        command.arg("--").arg(&job.program).args(&job.arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a job to its end, whatever that is. `what` names the work in errors.
    pub(crate) fn run(&self, job: &Job, what: &str) -> Result<Output, KbuildError> {
        self.run_with_input(job, Stdio::null(), what)
    }

    /// Runs a job whose end must be a good one.
    pub(crate) fn run_well(&self, job: &Job, what: &str) -> Result<Output, KbuildError> {
        let output = self.run(job, what)?;
        if output.status.success() {
            return Ok(output);
        }
        Err(KbuildError::Failed { what: what.to_owned(), output: tail(&output) })
    }

    pub(crate) fn run_with_input(&self, job: &Job, input: Stdio, what: &str) -> Result<Output, KbuildError> {
        let failed = |error: std::io::Error| KbuildError::Failed {
            what: what.to_owned(),
            output: format!("cannot watch {}: {error}", job.program.display()),
        };
        // Files, not pipes: their length is limited like that of any other.
        let (stdout, stderr) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
        let mut command = self.command(job);
        command.stdin(input);
        command.stdout(stdout.try_clone().map_err(failed)?).stderr(stderr.try_clone().map_err(failed)?);
        let mut child = command.spawn().map_err(|error| start_error(&command, what, error))?;
        // The command holds our side of the input.
        drop(command);
        let excess =
            self.watch(&child, job).unwrap_or_else(|error| Some(format!("it cannot be watched: {error}")));
        if excess.is_some() {
            self.end(&mut child);
        }
        let status = child.wait().map_err(failed)?;
        if let Some(excess) = excess {
            return Err(KbuildError::Limit { what: what.to_owned(), excess });
        }
        let read = |mut file: File| -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Ok(Output { status, stdout: read(stdout).map_err(failed)?, stderr: read(stderr).map_err(failed)? })
    }

    /// Waits for the end; says what there is too much of, if that comes first.
    fn watch(&self, child: &Child, job: &Job) -> std::io::Result<Option<String>> {
        let begin = Instant::now();
        let pid = Pid::from_child(child);
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let mut disk = DiskWatch::new(&job.writes);
        while !ended(&handle)? {
            if begin.elapsed() > self.limits.time {
                return Ok(Some(format!("it took more than {} seconds", self.limits.time.as_secs())));
            }
            if let Some(excess) = self.limits.excess_of_processes(pid).or_else(|| disk.excess(&self.limits)) {
                return Ok(Some(excess));
            }
        }
        Ok(None)
    }

    /// Ends a job with everything that it started.
    fn end(&self, child: &mut Child) {
        let pid = Pid::from_child(child);
        if self.isolation == Isolation::Bubblewrap {
            // The first process of the namespace: the kernel ends all others before it is gone, so that nothing writes
            // any more when bubblewrap ends by itself.
            for first in children(pid) {
                _ = kill_process(first, Signal::KILL);
            }
            if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) {
                let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
                _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience));
            }
        } else {
            let mut queue = vec![pid];
            while let Some(pid) = queue.pop() {
                queue.extend(children(pid));
                _ = kill_process(pid, Signal::KILL);
            }
        }
        _ = child.kill();
    }
}

/// Whether a process has ended, after a moment.
fn ended(handle: &OwnedFd) -> std::io::Result<bool> {
    let handle = handle.as_fd();
    match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&LOOK)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// bubblewrap's options for the programs below a root, their libraries, and the links between them. Of /etc nothing
/// else is needed, and secrets are there.
fn system(root: &Path) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut option = |words: [&OsStr; 3]| out.extend(words.map(OsStr::to_owned));
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let (from, to) = (root.join(name), Path::new("/").join(name));
        let Ok(metadata) = from.symlink_metadata() else { continue };
        match from.read_link() {
            Ok(target) => option(["--symlink".as_ref(), target.as_ref(), to.as_ref()]),
            Err(_) if metadata.is_dir() => option(["--ro-bind".as_ref(), from.as_ref(), to.as_ref()]),
            Err(_) => {}
        }
    }
    for name in ["etc/alternatives", "etc/ld.so.cache"] {
        let (from, to) = (root.join(name), Path::new("/").join(name));
        option(["--ro-bind-try".as_ref(), from.as_ref(), to.as_ref()]);
    }
    out
}

/// Children of all threads of a process.
fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())) else {
        return Vec::new();
    };
    let lists = threads.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
            pids.collect::<Vec<_>>()
        })
        .collect()
}

/// Memory that a process holds, in bytes (proc_pid_statm(5)).
fn resident_bytes(pid: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_pid())).unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

impl Limits {
    /// Options of prlimit(1).
    fn arguments(&self) -> Vec<String> {
        vec![
            format!("--cpu={}", self.process_seconds),
            format!("--as={}", self.process_bytes),
            format!("--fsize={}", self.file_bytes),
            "--core=0".to_owned(),
        ]
    }

    fn excess_of_processes(&self, first: Pid) -> Option<String> {
        let mut seen = BTreeSet::from([first.as_raw_pid()]);
        let mut queue = vec![first];
        let mut bytes = 0u64;
        while let Some(pid) = queue.pop() {
            bytes = bytes.saturating_add(resident_bytes(pid));
            queue.extend(children(pid).into_iter().filter(|child| seen.insert(child.as_raw_pid())));
            if seen.len() > self.processes {
                return Some(format!("it started more than {} processes at once", self.processes));
            }
            if bytes > self.memory_bytes {
                return Some(format!("it took more than {} MiB of memory", self.memory_bytes >> 20));
            }
        }
        None
    }
}

/// What is written. To count files takes long, so that is done only when a file system lost much of its space since
/// the last time; others write there too.
struct DiskWatch<'j> {
    directories: &'j [PathBuf],
    free: Vec<(u64, u64)>,
}

impl<'j> DiskWatch<'j> {
    fn new(directories: &'j [PathBuf]) -> Self {
        Self { directories, free: free(directories) }
    }

    fn excess(&mut self, limits: &Limits) -> Option<String> {
        let now = free(self.directories);
        let lost = self.free.iter().zip(&now).any(|(before, now)| {
            before.0.saturating_sub(now.0) > limits.disk_bytes / 4
                || before.1.saturating_sub(now.1) > limits.disk_files / 4
        });
        if !lost {
            return None;
        }
        self.free = now;
        for directory in self.directories {
            let (bytes, files) = usage(directory, limits);
            if bytes > limits.disk_bytes {
                return Some(format!("it wrote more than {} MiB", limits.disk_bytes >> 20));
            }
            if files > limits.disk_files {
                return Some(format!("it made more than {} files", limits.disk_files));
            }
        }
        None
    }
}

/// Free bytes and files of the file systems.
fn free(directories: &[PathBuf]) -> Vec<(u64, u64)> {
    let of = |path: &PathBuf| {
        rustix::fs::statvfs(path).map_or((0, 0), |s| (s.f_bavail.saturating_mul(s.f_frsize), s.f_favail))
    };
    directories.iter().map(of).collect()
}

/// Bytes and files below a directory, counted no further than the limits.
fn usage(directory: &Path, limits: &Limits) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let (mut bytes, mut files) = (0u64, 0u64);
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        // It changes while it is counted: what is gone needs no count.
        for entry in std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else { continue };
            files += 1;
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if bytes > limits.disk_bytes || files > limits.disk_files {
                return (bytes, files);
            }
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    (bytes, files)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sandbox with the host's programs; none, and a word about it, where that does not work.
    fn sandbox(limits: Limits) -> Option<Sandbox> {
        match Sandbox::open(Isolation::Bubblewrap, None, limits) {
            Ok(sandbox) => Some(sandbox),
            Err(error) => {
                println!("SKIPPED: {error}");
                None
            }
        }
    }

    fn shell(directory: &Path, script: &str) -> Job {
        let mut job = Job::new("sh", directory);
        job.args(["-c", script]).writes(directory);
        job
    }

    #[test]
    fn a_program_reaches_nothing_that_is_not_its_own() {
        let Some(sandbox) = sandbox(Limits::default()) else { return };
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::fs::write(other.path().join("secret"), "secret").unwrap();
        symlink(other.path(), own.path().join("out")).unwrap();
        let other_path = other.path().display();
        let script = format!(
            "echo written >mine; echo x >out/x; cat out/secret; echo x >{other_path}/y; cat {other_path}/secret
             cat /etc/shadow /etc/passwd /root/.profile; echo x >/usr/x; echo x >/x; echo x >/dev/shm/x; echo x >/tmp/x
             echo x >/proc/sys/kernel/hostname; kill -9 -1; ls /home /var /sys /run
             perl -e 'use IO::Socket; print IO::Socket::INET->new(\"127.0.0.1:{port}\") ? \"reached\" : \"not reached\"'
             kill -9 {pid}; unshare -U true && echo nested; mount -t tmpfs none /tmp && echo mounted; id -u >uid; true",
            pid = std::process::id()
        );
        let output = sandbox.run_well(&shell(own.path(), &script), "a test").unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "not reached", "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read_to_string(own.path().join("mine")).unwrap(), "written\n");
        let names: Vec<_> =
            std::fs::read_dir(other.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        for path in ["/usr/x", "/x", "/dev/shm/x"] {
            assert!(!Path::new(path).exists(), "{path}");
        }
        assert!(listener.accept().is_err(), "somebody called");
    }

    #[test]
    fn what_runs_wild_is_ended() {
        let limits = Limits {
            time: Duration::from_secs(20),
            process_seconds: 1,
            process_bytes: 2 * GIB,
            file_bytes: 1 << 20,
            memory_bytes: 200 << 20,
            processes: 60,
            disk_bytes: 100 << 20,
            disk_files: 1000,
        };
        let Some(sandbox) = sandbox(limits) else { return };
        let short = Sandbox { limits: Limits { time: Duration::from_secs(1), ..limits }, ..sandbox.clone() };
        let hold = "my $x = 'x' x 1e8; sleep 30";
        let cases = [
            (&short, "sleep 60", "more than 1 seconds"),
            (&short, "setsid sh -c 'sleep 60 & sleep 60' & sleep 60", "more than 1 seconds"),
            (&sandbox, "while :; do :; done", "exit status: 1"),
            (&sandbox, "exec head -c 2M /dev/zero >big", "File too large"),
            (
                &sandbox,
                "for i in $(seq 300); do head -c 1M /dev/zero >big$i; done; sleep 30",
                "wrote more than 100 MiB",
            ),
            (&sandbox, "perl -e 'my $x = \"x\" x 3e9'", "Out of memory"),
            (
                &sandbox,
                &format!("for i in 1 2 3 4; do perl -e '{hold}' & done; wait"),
                "more than 200 MiB of memory",
            ),
            (&sandbox, "for i in $(seq 300); do sleep 60 & done; wait", "more than 60 processes"),
        ];
        for (sandbox, script, expected) in cases {
            let own = tempfile::tempdir().unwrap();
            let begin = Instant::now();
            let said = sandbox.run_well(&shell(own.path(), script), "a test").unwrap_err().to_string();
            // A user's forks fail by their own limit, and the shell says so.
            let limited =
                said.contains(expected) || (expected.contains("processes") && said.contains("fork"));
            assert!(limited, "{script}: {said}");
            assert!(begin.elapsed() < Duration::from_secs(40), "{script}");
            let words = own.path().display().to_string();
            assert_eq!(processes_with(&words), 0, "{script}: something still runs");
        }
    }

    /// Processes whose command line has this word.
    fn processes_with(word: &str) -> usize {
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
    }

    #[test]
    fn without_isolation_limits_stay() {
        let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
        let sandbox = Sandbox::open(Isolation::None, None, limits).unwrap();
        let own = tempfile::tempdir().unwrap();
        let error = sandbox.run_well(&shell(own.path(), "sleep 60 & sleep 60"), "a test").unwrap_err();
        assert!(matches!(error, KbuildError::Limit { .. }), "{error}");
        assert!(Sandbox::open(Isolation::None, Some(own.path()), limits).is_err());
    }

    #[test]
    fn a_sandbox_that_does_not_work_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        let opened = Sandbox::open(Isolation::Bubblewrap, Some(empty.path()), Limits::default());
        assert!(matches!(opened, Err(KbuildError::Sandbox(_))));
    }
}
