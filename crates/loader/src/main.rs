//! `livepatch-loader`, the one process that changes the kernel.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use listenfd::ListenFd;
use livepatch_confine::{Files, Process, confine};
use livepatch_kernel::{LinuxKernel, ThreadPause};
use livepatch_loader::observer::SocketObserver;
use livepatch_loader::server::{PEER_BOUND, bind, serve};
use livepatch_loader::step::Unwatched;
use livepatch_loader::{
    Arguments, Loader, Parts, Peers, TrustDirectories, answer_agent, answer_root, machine, panic_directories,
    uid_of,
};
use livepatch_loader_api::{AGENT_SOCKET, ROOT_SOCKET};
use livepatch_log::log_to_stderr;
use livepatch_settings::Config;
use livepatch_types::SystemClock;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

/// How long the boot of a host waits for the last healthy livepatch, which mostly is back within a second or two.
const LONGEST_START: Duration = Duration::from_secs(15);

/// How the loader ends.
#[derive(Debug, Clone, Copy)]
enum Exit {
    /// By a signal, in good order.
    Ok = 0,
    /// Something of the loader itself failed.
    Failed = 1,
    /// The configuration is wrong (`EX_CONFIG`): restarting does not help.
    Configuration = 78,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = Config::read_or_bring_back(&arguments.config);
    let level = config.as_ref().map(|(config, _)| config.log_level).unwrap_or_default();
    log_to_stderr(EnvFilter::new(arguments.log.as_deref().unwrap_or(level.filter())));
    let exit = match config {
        Err(error) => fail(&error, Exit::Configuration),
        Ok((config, wrong)) => {
            if let Some(wrong) = wrong {
                let path = arguments.config.display();
                tracing::error!(
                    "cannot use {path}: {wrong}; what was healthy comes back, nothing new is applied"
                );
            }
            match run(arguments, config) {
                Err(error) => fail(&error, Exit::Failed),
                Ok(()) => Exit::Ok,
            }
        }
    };
    ExitCode::from(exit as u8)
}

fn fail(error: &anyhow::Error, exit: Exit) -> Exit {
    tracing::error!("{error:#}");
    exit
}

/// Why the loader ends.
enum End {
    Signal,
    Socket(std::io::Error),
}

fn run(arguments: Arguments, config: Config) -> anyhow::Result<()> {
    let (ends, ended) = mpsc::channel();
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?;

    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let agent = uid_of(&passwd, &arguments.agent_user);
    let (agent_socket, root_socket) = sockets(&arguments.runtime_dir, agent)?;
    let files = files(&arguments);
    let loader = Loader::new(Parts {
        kernel: Arc::new(LinuxKernel::default()),
        pause: Arc::new(ThreadPause),
        clock: Arc::new(SystemClock),
        machine: machine("/etc/machine-id".as_ref(), "/sys/class/dmi/id/product_uuid".as_ref()),
        trust: TrustDirectories { administrator: arguments.trust_dir, package: arguments.keys_dir },
        state_directory: arguments.state_dir,
        policy: config.policy,
        transition_timeout: config.transition_timeout,
        soak: Duration::from_secs(60 * u64::from(arguments.soak_minutes)),
        panic_directories: panic_directories(),
        steps: Arc::new(Unwatched),
        observer: Arc::new(SocketObserver::new(&arguments.observer_dir)),
    });
    // The state directory is there now, and no other thread: each is confined as the one that starts it.
    let confined = confine(Process::Loader, &files);
    tracing::info!(files = %confined.files, syscalls = %confined.syscalls, "confined by itself");
    let signalled = ends.clone();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody listens when the loader ends already.
            let _ = signalled.send(End::Signal);
        }
    });
    start(&loader)?;
    let soaks = Arc::clone(&loader);
    std::thread::Builder::new().name("loader-soak".into()).spawn(move || soaks.watch_soaks())?;

    let watching = Arc::clone(&loader);
    std::thread::Builder::new().name("loader-log".into()).spawn(move || watching.watch_log())?;

    let agents: Vec<u32> = agent.into_iter().chain([0]).collect();
    let broken = move |error| {
        let _ = ends.send(End::Socket(error));
    };
    let serving = Arc::clone(&loader);
    let answer = move |head, body: &mut dyn std::io::Read| answer_agent(&serving, head, body);
    serve(agent_socket, &Peers::of(&agents), PEER_BOUND, answer, broken.clone())?;
    let serving = Arc::clone(&loader);
    let answer = move |head, body: &mut dyn std::io::Read| answer_root(&serving, head, body);
    serve(root_socket, &Peers::of(&[0]), PEER_BOUND, answer, broken)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the loader listens");

    let end = ended.recv();
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    loader.close();
    tracing::info!("the loader ends; what is applied stays applied");
    match end {
        Ok(End::Socket(error)) => Err(error).context("a socket broke"),
        Ok(End::Signal) | Err(_) => Ok(()),
    }
}

/// The loader is ready when the last healthy livepatch is back: what the unit is ordered before, the network first of
/// all, finds the kernel patched. A start that hangs (tasks that do not leave the old code) holds nobody up for long.
fn start(loader: &Arc<Loader>) -> anyhow::Result<()> {
    let (done, over) = mpsc::channel();
    let loader = Arc::clone(loader);
    std::thread::Builder::new().name("loader-start".into()).spawn(move || {
        if let Err(problem) = loader.start() {
            tracing::warn!(code = problem.code, "the kernel does not run what it should: {problem}");
        }
        let _ = done.send(());
    })?;
    let _ = over.recv_timeout(LONGEST_START);
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    Ok(())
}

/// What the loader reads and changes; the sockets are there already.
fn files(arguments: &Arguments) -> Files {
    let system = ["/etc", "/usr/share/zoneinfo", "/lib/modules", "/proc", "/sys", "/dev/urandom"];
    let named = [&arguments.config, &arguments.trust_dir, &arguments.keys_dir];
    let read = system.iter().map(PathBuf::from).chain(panic_directories()).chain(named.into_iter().cloned());
    Files {
        read: read.collect(),
        change: vec![arguments.state_dir.clone()],
        write: vec!["/sys/kernel/livepatch".into()],
    }
}

/// The sockets that systemd hands over, told apart by their names; or those that are made here.
fn sockets(runtime_directory: &Path, agent: Option<u32>) -> anyhow::Result<(UnixListener, UnixListener)> {
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        std::fs::create_dir_all(runtime_directory)
            .with_context(|| format!("cannot make {}", runtime_directory.display()))?;
        let bind = |name: &str, owner| {
            let path = runtime_directory.join(name);
            bind(&path, 0o600, owner).with_context(|| format!("cannot listen on {}", path.display()))
        };
        return Ok((bind(AGENT_SOCKET, agent)?, bind(ROOT_SOCKET, None)?));
    }
    let (mut agents, mut roots) = (None, None);
    for index in 0..handed.len() {
        let listener =
            handed.take_unix_listener(index).context("cannot take a socket that was handed over")?;
        let Some(listener) = listener else { continue };
        let address = listener.local_addr().context("a socket that was handed over has no name")?;
        match address.as_pathname().and_then(Path::file_name).and_then(|name| name.to_str()) {
            Some(AGENT_SOCKET) => agents = Some(listener),
            Some(ROOT_SOCKET) => roots = Some(listener),
            _ => anyhow::bail!("a socket was handed over that is neither {AGENT_SOCKET} nor {ROOT_SOCKET}"),
        }
    }
    agents.zip(roots).context("both sockets must be handed over, or none")
}
