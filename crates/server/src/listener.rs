//! TLS and the bounds of a connection: how many there are, how long each step may take.

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Bounds that keep slow or many clients from taking the server away from the others.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, and for how long a connection may idle.
    pub head: Duration,
    /// For a request, its body included, until the head of the answer.
    pub request: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
    /// How long requests under way may take after the signal to stop.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            request: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// TLS 1.2 and 1.3 with a certificate chain and its key (PEM files).
pub fn tls(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let unusable = |path: &Path| format!("cannot use {}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| unusable(certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| unusable(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| unusable(certificate))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until the handle says stop.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    router: Router,
    limits: Limits,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let guard = Guard { permits: Arc::new(Semaphore::new(limits.connections)), stall: limits.stall };
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls)))
        .handshake_timeout(limits.handshake)
        .acceptor(guard);
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(acceptor)
        .handle(handle)
        .first_request_timeout(limits.head)
        .http1_only();
    server.http_builder().http1().header_read_timeout(limits.head).max_buf_size(MAX_HEAD_BYTES);
    server.serve(router.into_make_service()).await
}

/// Counts connections and watches each.
#[derive(Debug, Clone)]
struct Guard {
    permits: Arc<Semaphore>,
    stall: Duration,
}

impl<S> Accept<TcpStream, S> for Guard {
    type Stream = Guarded;
    type Service = S;
    type Future = Ready<io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return ready(Err(io::Error::other("too many connections")));
        };
        let guarded = Guarded { stream, stall: self.stall, deadline: None, _permit: permit };
        ready(guarded.stream.set_nodelay(true).map(|()| (guarded, service)))
    }
}

/// A connection that fails when its peer takes nothing for too long.
struct Guarded {
    stream: TcpStream,
    stall: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Guarded {
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let stall = self.stall;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(stall)));
        deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
