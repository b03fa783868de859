//! `livepatchd`, the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use livepatch_agent::{Agent, Arguments, Parts, machine_hash};
use livepatch_confine::{Files, Process, confine};
use livepatch_kernel::{Kernel as _, LinuxKernel};
use livepatch_loader_api::AGENT_SOCKET;
use livepatch_log::log_to_stderr;
use livepatch_settings::Config;
use livepatch_types::SystemClock;
use tracing_subscriber::EnvFilter;

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
    let config = Config::read(&arguments.config);
    let level = config.as_ref().map(|config| config.log_level).unwrap_or_default();
    log_to_stderr(EnvFilter::new(arguments.log.as_deref().unwrap_or(level.filter())));
    let exit = match config {
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

fn serve(arguments: Arguments, config: Config) -> anyhow::Result<()> {
    let kernel = LinuxKernel::default();
    let machine = machine_hash("/etc/machine-id".as_ref(), kernel.boot_id().ok().as_deref());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    std::fs::create_dir_all(&arguments.runtime_dir)
        .with_context(|| format!("cannot make {}", arguments.runtime_dir.display()))?;
    let files = files(&arguments, &config);
    let agent = Agent::new(Parts {
        kernel: Arc::new(kernel),
        clock: Arc::new(SystemClock),
        config,
        loader: arguments.loader_dir.join(AGENT_SOCKET),
        machine,
        state_directory: arguments.state_dir,
        boot_directory: "/boot".into(),
        os_release: "/etc/os-release".into(),
        routes: "/proc/net".into(),
        status_file: arguments.runtime_dir.join("status.json"),
    });
    // Certificates are read and the state directory is there; no thread has been started.
    let confined = confine(Process::Agent, &files);
    tracing::info!(files = %confined.files, syscalls = %confined.syscalls, "confined by itself");
    let ended = runtime.block_on(livepatch_agent::run(agent, &arguments.runtime_dir));
    // A step that still waits for the kernel is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// What the daemon reads and changes; the C library reads for it how names are resolved.
fn files(arguments: &Arguments, config: &Config) -> Files {
    let system =
        ["/boot", "/etc", "/usr", "/lib", "/lib64", "/var/lib/dpkg", "/proc", "/sys", "/run", "/dev/urandom"];
    let read = system.iter().map(PathBuf::from).chain(config.ca_file.clone());
    Files {
        read: read.collect(),
        change: vec![arguments.state_dir.clone(), arguments.runtime_dir.clone()],
        write: Vec::new(),
    }
}
