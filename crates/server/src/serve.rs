use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum_server::Handle;
use livepatch_store::SqliteStore;
use livepatch_types::{Clock as _, SystemClock};
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::http::{App, router};
use crate::listener::{self, Limits};
use crate::{DataDir, Exit, Failure, arguments, log};

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(data: &DataDir, arguments: arguments::Serve) -> Result<(), Failure> {
    log_to_stderr();
    let pair = arguments.tls_cert.zip(arguments.tls_key);
    let (certificate, key) =
        pair.unwrap_or_else(|| -> (PathBuf, PathBuf) { (data.tls_certificate(), data.tls_key()) });
    let tls = listener::tls(&certificate, &key).map_err(|error| {
        Failure::new(Exit::Setup, error)
            .hint("give a certificate chain and its key in PEM files by --tls-cert and --tls-key")
    })?;
    data.with_store(async |store| serve_from(data, store, tls, arguments.listen).await).await
}

async fn serve_from(
    data: &DataDir,
    store: &SqliteStore,
    tls: ServerConfig,
    listen: SocketAddr,
) -> Result<(), Failure> {
    let operator_key = data.key()?;
    let log_key = log::key(data, store, &operator_key, SystemClock.now()).await?;
    let (tcp, address) = TcpListener::bind(listen)
        .and_then(|tcp| tcp.local_addr().map(|address| (tcp, address)))
        .map_err(|error| {
            Failure::new(Exit::Listen, error)
                .context(format!("cannot listen at {listen}"))
                .hint("choose another address and port with --listen; `ss -ltnp` shows who has this one")
        })?;
    let failed = |error: anyhow::Error| Failure::new(Exit::Failed, error);

    let limits = Limits::default();
    let app = App::new(
        Arc::new(store.clone()),
        data.objects(),
        operator_key,
        log_key,
        data.repositories(),
        (data.known_kernels(), data.support()),
        Arc::new(SystemClock),
    );
    let handle = Handle::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM").map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT").map_err(failed)?;
    let stop = handle.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping: requests under way are finished first");
        stop.graceful_shutdown(Some(limits.shutdown));
    });

    // The listener queues connections from now on. Whoever started this waits for the line.
    writeln!(std::io::stdout(), "listening on https://{address}")
        .context("cannot write to standard output")
        .map_err(failed)?;
    tracing::info!(%address, "server is ready");
    let served = listener::serve(tcp, tls, router(app, limits.request), limits, handle).await;
    served.context("the server stopped").map_err(failed)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("LIVEPATCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    livepatch_log::log_to_stderr(filter);
}
