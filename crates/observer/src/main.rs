//! `livepatch-observer`, which reads the kernel's log and tells the loader.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use clap::Parser as _;
use livepatch_confine::{Files, Process, confine};
use livepatch_log::log_to_stderr;
use livepatch_observer::server::{bind, serve};
use livepatch_observer::{Arguments, Log};
use livepatch_observer_api::SOCKET;
use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;

/// The one user that is answered.
const ROOT: u32 = 0;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(EnvFilter::new(&arguments.log));
    let Err(error) = run(&arguments);
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> anyhow::Result<std::convert::Infallible> {
    let records = File::open("/dev/kmsg").context("cannot open /dev/kmsg")?;
    let directory = &arguments.runtime_dir;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(SOCKET);
    let listener = bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;

    // Without systemd there is nobody to notify. After this it makes no connection; who makes one waits in the queue.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let confined = confine(Process::Observer, &Files::default());
    tracing::info!(files = %confined.files, syscalls = %confined.syscalls, "confined by itself");

    let log = Arc::new(Log::default());
    let (ends, ended) = mpsc::channel();
    let (followed, end) = (Arc::clone(&log), ends.clone());
    std::thread::Builder::new().name("observer-log".into()).spawn(move || {
        let error = followed.follow(records, Path::new("/"));
        // The other thread has failed already if nobody listens.
        let _ = end.send(anyhow::Error::from(error).context("the kernel's log cannot be read"));
    })?;
    std::thread::Builder::new().name("observer-accept".into()).spawn(move || {
        let error = serve(&listener, ROOT, &log, Path::new("/"));
        let _ = ends.send(anyhow::Error::from(error).context("the socket broke"));
    })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the observer listens");
    Err(ended.recv().context("both threads ended")?)
}
