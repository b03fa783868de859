//! The routes of `livepatch_api::server`.

mod error;
mod log;
mod modules;
mod reports;
mod routes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use livepatch_api::server::MAX_REQUEST_BYTES;
use livepatch_store::{ObjectStore, Store};
use livepatch_transparency::LogKey;
use livepatch_types::Clock;

use crate::{KnownKernels, OperatorKey, Repositories, Support};
use error::ApiError;
use modules::Modules;

/// What the routes work with.
#[derive(Clone)]
pub struct App {
    store: Arc<dyn Store>,
    modules: Arc<Modules>,
    key: Arc<OperatorKey>,
    log: Arc<LogKey>,
    repositories: Arc<Repositories>,
    known_kernels: Arc<KnownKernels>,
    support: Arc<Support>,
    clock: Arc<dyn Clock>,
}

impl App {
    /// Puts it together.
    pub fn new(
        store: Arc<dyn Store>,
        objects: ObjectStore,
        key: OperatorKey,
        log: LogKey,
        repositories: Repositories,
        (known_kernels, support): (KnownKernels, Support),
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            modules: Arc::new(Modules::new(objects)),
            key: Arc::new(key),
            log: Arc::new(log),
            repositories: Arc::new(repositories),
            known_kernels: Arc::new(known_kernels),
            support: Arc::new(support),
            clock,
        }
    }
}

/// All routes. A request that takes longer than `time_limit`, its body included, is given up.
pub fn router(app: App, time_limit: Duration) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/enroll", post(routes::enroll))
        .route("/v1/assignment", post(routes::assignment))
        .route("/v1/kernels/{channel}/{build_id}", get(routes::kernel_document))
        .route("/v1/objects/{sha256}", get(routes::object))
        .route("/v1/vendor/{repository}/{*path}", get(routes::vendor_file))
        .route("/v1/operator/{*path}", get(routes::operator_file))
        .route("/v1/support", get(routes::support))
        .route("/v1/reports", post(routes::report))
        .route("/v1/log/proofs/{module}", get(log::proof))
        .route("/checkpoint", get(log::checkpoint))
        .route("/tile/{*path}", get(log::tile))
        .fallback(async || ApiError::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(from_fn_with_state(time_limit, answer_in_time))
        .with_state(app)
}

/// Bounds the time of a request and logs it: no address, no machine, no token.
async fn answer_in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let response = match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::too_slow().into_response(),
    };
    let (status, milliseconds) = (response.status().as_u16(), start.elapsed().as_millis());
    tracing::debug!(%method, path, status, milliseconds, "request answered");
    response
}
