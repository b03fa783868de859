//! The two local sockets: reading for all, acting for uid 0 by `SO_PEERCRED`, never by anything that the peer says.
//! Programs that know the snap's sockets ask with other queries: `legacy`.

mod legacy;
mod listener;

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use livepatch_api::daemon::{EnableRequest, Status, Telemetry};
use tokio::net::UnixListener;

use self::listener::Bounded;
use crate::{Agent, Problem};

/// Name of the socket that any user may read from.
pub const READ_SOCKET: &str = "livepatchd.sock";
/// Name of the socket for root.
pub const PRIVILEGED_SOCKET: &str = "livepatchd-priv.sock";

const MAX_BODY_BYTES: usize = 16 << 10;

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy)]
struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

/// Makes a socket, in the place of one that a daemon left behind.
pub fn bind(path: &Path, mode: u32) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves the status. The connections of each user, and the time of each connection, are bounded.
pub async fn serve_reading(agent: Arc<Agent>, listener: UnixListener) -> std::io::Result<()> {
    let routes = Router::new().route("/status", get(legacy::status));
    let routes = routes.route("/telemetry", get(telemetry)).route("/metrics", get(metrics)).with_state(agent);
    axum::serve(Bounded::new(listener), routes).await
}

/// Serves the commands, to uid 0 only.
pub async fn serve_privileged(agent: Arc<Agent>, listener: UnixListener) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/enable", post(enable))
        .route(
            "/disable",
            post(|State(agent): Agents| command(agent, |agent| async move { agent.disable().await })),
        )
        .route(
            "/refresh",
            post(|State(agent): Agents| command(agent, |agent| async move { agent.refresh().await })),
        )
        .route(
            "/prepare-image",
            post(|State(agent): Agents| command(agent, |agent| async move { agent.prepare_image().await })),
        )
        .route(
            "/look",
            post(|State(agent): Agents| command(agent, |agent| async move { agent.look().await })),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(root_only))
        .with_state(agent);
    axum::serve(listener, routes.into_make_service_with_connect_info::<Peer>()).await
}

type Agents = State<Arc<Agent>>;

async fn root_only(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if peer.uid == Some(0) {
        return next.run(request).await;
    }
    Refusal(not_root()).into_response()
}

/// Read-only, and nothing in it that the machine does not say to every user; the token is not in it.
async fn telemetry(State(agent): Agents) -> Json<Telemetry> {
    Json(agent.telemetry())
}

/// For a scraper that asks the daemon itself.
async fn metrics(State(agent): Agents) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], livepatch_api::metrics(&agent.status()))
}

async fn enable(State(agent): Agents, Json(request): Json<EnableRequest>) -> Result<Json<Status>, Refusal> {
    command(agent, |agent| async move { agent.enable(request.token).await }).await
}

/// Runs a command to its end, even if the client goes away meanwhile.
async fn command<F>(agent: Arc<Agent>, act: impl FnOnce(Arc<Agent>) -> F) -> Result<Json<Status>, Refusal>
where
    F: Future<Output = Result<(), Problem>> + Send + 'static,
{
    let done = to_its_end(act(Arc::clone(&agent))).await;
    done.map(|()| Json(agent.status())).map_err(Refusal)
}

async fn to_its_end(
    command: impl Future<Output = Result<(), Problem>> + Send + 'static,
) -> Result<(), Problem> {
    tokio::spawn(command).await.unwrap_or_else(|error| Err(broke_off(&error)))
}

pub(crate) fn not_root() -> Problem {
    Problem::new("not-root", "only root may do this", "use sudo")
}

pub(crate) fn broke_off(error: &impl std::fmt::Display) -> Problem {
    let hint = "report this with the daemon's log: `journalctl -u livepatchd`";
    Problem::new("internal", format!("the command failed: {error}"), hint)
}

/// A problem as an answer.
struct Refusal(Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status_code(&self.0), Json(self.0.to_failure())).into_response()
    }
}

fn status_code(problem: &Problem) -> StatusCode {
    match problem.code.as_ref() {
        "not-root" => StatusCode::FORBIDDEN,
        "not-enabled" | "already-enabled" => StatusCode::CONFLICT,
        "bad-request" => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
