//! `livepatchd`, the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use livepatch_agent::{Agent, Arguments, Config, Parts, Trust, machine_hash};
use livepatch_kernel::{Kernel as _, LinuxKernel, ThreadPause};
use livepatch_types::SystemClock;

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
    let config = Config::parse(&text).with_context(|| format!("cannot use {}", path.display()))?;
    let mode_file = path.with_file_name("mode");
    let mode = match std::fs::read_to_string(&mode_file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.with_context(|| format!("cannot read {}", mode_file.display()))?),
    };
    let command_line = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    config.with_mode(&command_line, mode.as_deref()).context("cannot tell the mode")
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
        trust: Trust::read(&arguments.trust_dir, &arguments.keys_dir),
        machine,
        state_directory: arguments.state_dir,
        status_file: arguments.runtime_dir.join("status.json"),
    });
    let ended = runtime.block_on(livepatch_agent::run(agent, &arguments.runtime_dir));
    // A step that still waits for the kernel is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}
