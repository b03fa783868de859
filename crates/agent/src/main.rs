//! `livepatchd`, the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use livepatch_agent::{Agent, Config, Parts, Trust, machine_hash};
use livepatch_kernel::{Kernel as _, LinuxKernel, ThreadPause};
use livepatch_types::SystemClock;

/// Keeps the running kernel livepatched.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 ended in good order, 1 failed, 2 usage, 78 the configuration is wrong."
)]
struct Arguments {
    /// Configuration; a missing file is an empty one
    #[arg(long, default_value = "/etc/livepatch/livepatch.toml")]
    config: PathBuf,
    /// Directory with operator.pub and vendor.pem
    #[arg(long, default_value = "/etc/livepatch/trust")]
    trust_dir: PathBuf,
    /// Directory for state and cached modules
    #[arg(long, default_value = "/var/lib/livepatch")]
    state_dir: PathBuf,
    /// Directory for the sockets and the last status
    #[arg(long, default_value = "/run/livepatch")]
    runtime_dir: PathBuf,
    /// What to log: error, warn, info, debug, or a filter as the environment variable RUST_LOG has it
    #[arg(long, default_value = "info")]
    log: String,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy)]
enum Exit {
    /// By a signal, in good order.
    Ok = 0,
    /// Something of the daemon itself failed.
    Failed = 1,
    /// The configuration is wrong (`EX_CONFIG`): restarting does not help.
    Configuration = 78,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(&arguments.log)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let exit = match read_config(&arguments.config) {
        Err(error) => fail(&error, Exit::Configuration),
        Ok(config) => match serve(arguments, config) {
            Err(error) => fail(&error, Exit::Failed),
            Ok(()) => Exit::Ok,
        },
    };
    ExitCode::from(exit as u8)
}

fn fail(error: &anyhow::Error, exit: Exit) -> Exit {
    tracing::error!("{error:#}");
    exit
}

fn read_config(path: &PathBuf) -> anyhow::Result<Config> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    Config::parse(&text).with_context(|| format!("cannot use {}", path.display()))
}

fn serve(arguments: Arguments, config: Config) -> anyhow::Result<()> {
    let kernel = LinuxKernel::default();
    let machine = machine_hash("/etc/machine-id".as_ref(), kernel.boot_id().ok().as_deref());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let agent = Agent::new(Parts {
        kernel: Arc::new(kernel),
        pause: Arc::new(ThreadPause),
        clock: Arc::new(SystemClock),
        config,
        trust: Trust::read(&arguments.trust_dir),
        machine,
        state_directory: arguments.state_dir,
        status_file: arguments.runtime_dir.join("status.json"),
    });
    let ended = runtime.block_on(livepatch_agent::run(agent, &arguments.runtime_dir));
    // A step that still waits for the kernel is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}
