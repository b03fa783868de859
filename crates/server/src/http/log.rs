//! The transparency log: <https://c2sp.org/tlog-tiles>, and proofs by module for hosts.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use livepatch_manifest::sha256;
use livepatch_transparency::Resource;
use livepatch_types::Sha256Digest;

use super::App;
use super::error::ApiError;
use super::routes::{DOCUMENT_CACHE, OBJECT_CACHE, has_etag};
use crate::log;

/// A head is news for a few seconds.
const HEAD_CACHE: &str = "public, max-age=5";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) async fn checkpoint(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    let head = log::head(app.store.as_ref(), &app.key, &app.log).await?;
    Ok(answer(&headers, HEAD_CACHE, TEXT, head.note.into_bytes()))
}

pub(super) async fn tile(
    State(app): State<App>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let resource = Resource::parse(&format!("tile/{path}"))
        .map_err(|refusal| ApiError::bad_request(refusal.to_string()))?;
    let none = || ApiError::not_found("the log has not grown over this tile");
    let bytes = log::resource(app.store.as_ref(), resource).await?.ok_or_else(none)?;
    Ok(answer(&headers, OBJECT_CACHE, "application/octet-stream", bytes))
}

pub(super) async fn proof(
    State(app): State<App>,
    Path(module): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let module = Sha256Digest::parse(&module).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let none = || ApiError::not_found("no bundle with this module was published");
    let position = app.store.bundle_position(&module).await?.ok_or_else(none)?;
    let proof = log::prove(app.store.as_ref(), &app.key, &app.log, position).await?;
    Ok(answer(&headers, DOCUMENT_CACHE, TEXT, proof.to_text().into_bytes()))
}

fn answer(headers: &HeaderMap, cached: &str, kind: &'static str, body: Vec<u8>) -> Response {
    let etag = format!("\"{}\"", sha256(&body));
    let cache = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, cached.to_owned())];
    if has_etag(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    (cache, [(header::CONTENT_TYPE, kind)], body).into_response()
}
