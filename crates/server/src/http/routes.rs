use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use livepatch_api::server::{AssignmentRequest, AssignmentResponse, EnrollRequest, EnrollResponse, Report};
use livepatch_manifest::sha256;
use livepatch_store::Enrolment;
use livepatch_trust::{RepositoryName, TargetName};
use livepatch_types::{BuildId, Sha256Digest, Tier};

use super::App;
use super::error::ApiError;
use super::reports;
use crate::document;
use crate::token::{Token, present};

/// How long a document may be answered from a cache on the way.
pub(super) const DOCUMENT_CACHE: &str = "public, max-age=60";
/// An object never changes.
pub(super) const OBJECT_CACHE: &str = "public, max-age=31536000, immutable";

pub(super) async fn enroll(
    State(app): State<App>,
    body: Result<Json<EnrollRequest>, JsonRejection>,
) -> Result<Json<EnrollResponse>, ApiError> {
    let Json(request) = body?;
    let machine = Sha256Digest::parse(&request.machine)
        .map_err(|_| ApiError::bad_request("the machine is not 64 lower-case hexadecimal digits"))?;
    let token = present(request.token.expose()).ok_or_else(ApiError::unknown_token)?;
    let Some(machine_token) = Token::generate() else {
        return Err(ApiError::internal(anyhow::anyhow!("the system has no randomness")));
    };
    let at = app.clock.now();
    let enrolment = Enrolment {
        token,
        machine,
        machine_token: machine_token.stored.clone(),
        host: request.host,
        cohort: request.cohort.clone(),
        at,
    };
    let tier = app.store.enrol(&enrolment).await.inspect_err(|error| {
        tracing::info!(reason = %error, "enrolment refused");
    })?;
    tracing::info!(%tier, "machine enrolled");
    let assignment = app.key.assign(request.host, &tier, request.cohort, at);
    let assignment = String::from_utf8(assignment).map_err(ApiError::internal)?;
    Ok(Json(EnrollResponse { machine_token: machine_token.text, tier, assignment }))
}

/// Signs an enrolled machine's assignment to another cohort.
pub(super) async fn assignment(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Json<AssignmentRequest>, JsonRejection>,
) -> Result<Json<AssignmentResponse>, ApiError> {
    let machine = machine_of(&app, &headers).await?;
    let Json(AssignmentRequest { host, cohort }) = body?;
    let tier = app.store.set_cohort(&machine, &host, cohort.as_ref()).await?;
    tracing::info!(%tier, "machine assigned to another cohort");
    let assignment = app.key.assign(host, &tier, cohort, app.clock.now());
    Ok(Json(AssignmentResponse { assignment: String::from_utf8(assignment).map_err(ApiError::internal)? }))
}

/// The machine whose token is shown.
async fn machine_of(app: &App, headers: &HeaderMap) -> Result<Sha256Digest, ApiError> {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.strip_prefix("Bearer ")).and_then(present);
    let token = token.ok_or_else(ApiError::unknown_token)?;
    app.store.machine_of(&token).await?.ok_or_else(ApiError::unknown_token)
}

pub(super) async fn kernel_document(
    State(app): State<App>,
    Path((channel, build_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tier = Tier::parse(&channel).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let build_id = BuildId::parse(&build_id).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let now = app.clock.now();
    let Some(body) =
        document::current(app.store.as_ref(), &app.key, &app.repositories, &build_id, &tier, now).await?
    else {
        return Err(if app.store.tiers().await?.contains(&tier) {
            let known = Arc::clone(&app.known_kernels);
            let published = tokio::task::spawn_blocking(move || known.published(&build_id)).await;
            ApiError::unknown_kernel(published.map_err(ApiError::internal)?)
        } else {
            ApiError::not_found(format!("there is no channel {tier}"))
        });
    };
    Ok(envelope(&headers, body))
}

fn envelope(headers: &HeaderMap, body: Vec<u8>) -> Response {
    let etag = format!("\"{}\"", sha256(&body));
    let cache = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, DOCUMENT_CACHE.to_owned())];
    if has_etag(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    // DSSE: https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
    (cache, [(header::CONTENT_TYPE, "application/vnd.dsse.envelope.v1+json")], body).into_response()
}

pub(super) async fn support(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    let support = Arc::clone(&app.support);
    let matrix = tokio::task::spawn_blocking(move || support.matrix()).await;
    let matrix = matrix.map_err(ApiError::internal)?;
    let matrix = matrix.map_err(|failure| ApiError::internal(anyhow::anyhow!("{failure}")))?;
    Ok(envelope(&headers, app.key.sign_support(&matrix)))
}

pub(super) async fn object(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let none = || ApiError::not_found("there is no such object");
    let name = Sha256Digest::parse(&name).map_err(|error| ApiError::bad_request(error.to_string()))?;
    // A withdrawn module is not served, though its file is there.
    app.store.module_size_bytes(&name).await?.ok_or_else(none)?;
    let etag = format!("\"{name}\"");
    let cache = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, OBJECT_CACHE.to_owned())];
    if has_etag(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, cache).into_response());
    }
    let bytes = app.modules.get(name).await?.ok_or_else(|| {
        ApiError::internal(anyhow::anyhow!("object {name} is published, but its file is missing"))
    })?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    match rest_from(&headers).filter(|from| *from < bytes.len()) {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let range = [(header::CONTENT_RANGE, range)];
            Ok((StatusCode::PARTIAL_CONTENT, cache, kind, range, bytes.slice(from..)).into_response())
        }
        None => Ok((cache, kind, bytes).into_response()),
    }
}

/// Where the rest begins that a download which broke off asks for. A range of another form is not looked at, which a
/// server may do (RFC 9110, 14.2).
fn rest_from(headers: &HeaderMap) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

pub(super) async fn vendor_file(
    State(app): State<App>,
    Path((repository, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let repository =
        RepositoryName::parse(&repository).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let path = TargetName::parse(&path).map_err(|error| ApiError::bad_request(error.to_string()))?;
    repository_file(&path, app.repositories.vendor_file(&repository, &path)?, &headers)
}

pub(super) async fn operator_file(
    State(app): State<App>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = TargetName::parse(&path).map_err(|error| ApiError::bad_request(error.to_string()))?;
    repository_file(&path, app.repositories.operator_file(&path)?, &headers)
}

/// A file of a repository, byte for byte.
fn repository_file(
    path: &TargetName,
    bytes: Option<Vec<u8>>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let bytes = bytes.ok_or_else(|| ApiError::not_found("there is no such file in the repository"))?;
    let etag = format!("\"{}\"", sha256(&bytes));
    // The timestamp is the one file that changes.
    let cached = if path.as_str().ends_with("/timestamp.json") { DOCUMENT_CACHE } else { OBJECT_CACHE };
    let cache = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, cached.to_owned())];
    if has_etag(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, cache).into_response());
    }
    Ok((cache, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

pub(super) async fn report(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Json<Report>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let machine = machine_of(&app, &headers).await?;
    let Json(report) = body?;
    reports::check(&report).map_err(ApiError::bad_request)?;
    // One that is known already was taken, and its answer was lost.
    app.store.save_report(&machine, &report, app.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether `If-None-Match` names this tag (RFC 9110, 13.1.2: weak comparison).
pub(super) fn has_etag(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
