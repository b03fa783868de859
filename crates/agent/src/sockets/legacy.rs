//! What programs ask that know the socket of the snap that any user may read: `GET /status?verbose=…` wants YAML, with
//! `format=json` JSON. Root's socket of the snap is the client's (`livepatch-cli`, `legacy`).

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use livepatch_api::legacy::{LegacyStatus, Machine, json, yaml};
use livepatch_kernel::machine_texts;
use serde::Deserialize;

use super::Agents;

const NOT_ENABLED: &str =
    "Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.\n";

const UNKNOWN_QUERY: &str = "unknown query; there are verbose=…, verbosity=… and format=json or yaml\n";

/// Both styles of the query. How verbose is accepted and without effect: all is always told.
#[derive(Deserialize)]
struct StatusQuery {
    verbose: Option<String>,
    verbosity: Option<String>,
    format: Option<String>,
}

/// The status: without a query in our own form, with one in that of the snap.
pub(super) async fn status(State(agent): Agents, uri: Uri) -> Response {
    let status = agent.status();
    if uri.query().is_none_or(str::is_empty) {
        return Json(status).into_response();
    }
    let query = Query::<StatusQuery>::try_from_uri(&uri).ok();
    let Some(Query(query)) = query.filter(|Query(query)| query.is_known()) else {
        return (StatusCode::BAD_REQUEST, UNKNOWN_QUERY).into_response();
    };
    let Some(legacy) = LegacyStatus::new(&status, &Machine::parse(&machine_texts())) else {
        return (StatusCode::BAD_REQUEST, NOT_ENABLED).into_response();
    };
    match query.format.as_deref() {
        Some("json") => ([(CONTENT_TYPE, "application/json")], json(&legacy)).into_response(),
        _ => yaml(&legacy).into_response(),
    }
}

impl StatusQuery {
    fn is_known(&self) -> bool {
        let asked = self.verbose.is_some() || self.verbosity.is_some() || self.format.is_some();
        asked && self.format.as_deref().is_none_or(|format| ["json", "yaml"].contains(&format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_show() {
        insta::assert_snapshot!(format!("{NOT_ENABLED}{UNKNOWN_QUERY}"), @"
        Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.
        unknown query; there are verbose=…, verbosity=… and format=json or yaml
        ");
    }
}
