//! What programs ask that know the sockets of the snap: `GET /status?verbose=…` wants YAML, with `format=json` JSON;
//! `PUT /enable?auth-token=…` and `PUT /disable` are answered with a text, which those programs show.

use std::future::Future;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use livepatch_api::legacy::{LegacyStatus, Machine, json, yaml};
use livepatch_kernel::machine_texts;
use livepatch_types::Redacted;
use serde::Deserialize;

use super::{Agents, status_code, to_its_end};
use crate::Problem;

const LONGEST_TOKEN_BYTES: usize = 4096;
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

/// The token, which never shows itself.
#[derive(Deserialize)]
struct EnableQuery {
    #[serde(rename = "auth-token")]
    token: Redacted<String>,
}

/// Enrols this host, if root has told the loader: the daemon cannot say that in root's name.
pub(super) async fn enable(State(agent): Agents, uri: Uri) -> Response {
    // What is wrong with a query is not told in its own words: the token is in it.
    let token = Query::<EnableQuery>::try_from_uri(&uri).ok().and_then(|Query(query)| checked(query.token));
    let Some(token) = token else {
        return refusal(&no_token());
    };
    done(to_its_end(async move {
        if agent.is_enabled() || agent.is_loader_enabled().await? {
            return agent.enable(token).await;
        }
        Err(loader_not_enabled())
    }))
    .await
}

/// Forgets the enrolment, if the loader runs nothing any more.
pub(super) async fn disable(State(agent): Agents) -> Response {
    done(to_its_end(async move {
        if agent.is_enabled() && agent.is_loader_enabled().await? {
            return Err(loader_enabled());
        }
        agent.disable().await
    }))
    .await
}

/// The word for what the daemon may not say for root.
const LOADER: &str = "loader-has-the-say";

fn no_token() -> Problem {
    let hint = "a token is of printable characters without spaces; the server's operator gives one out";
    Problem::new("bad-request", "auth-token is not a token", hint)
}

fn loader_not_enabled() -> Problem {
    let hint = "run `livepatch enable --token-file FILE`, which tells both";
    Problem::new(LOADER, "only root itself can tell the loader to take livepatches", hint)
}

fn loader_enabled() -> Problem {
    let hint = "run `livepatch disable`, which tells both";
    Problem::new(LOADER, "only root itself can tell the loader to take livepatches out", hint)
}

fn checked(token: Redacted<String>) -> Option<Redacted<String>> {
    let text = token.expose().trim();
    let is_token =
        (1..=LONGEST_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| Redacted::new(text.to_owned()))
}

async fn done(command: impl Future<Output = Result<(), Problem>>) -> Response {
    match command.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => refusal(&problem),
    }
}

/// A problem in the words of the original where it has some, otherwise in ours, with what to do.
pub(super) fn refusal(problem: &Problem) -> Response {
    (status_code(problem), text(problem)).into_response()
}

fn text(problem: &Problem) -> String {
    match problem.code.as_ref() {
        "not-enabled" => NOT_ENABLED.to_owned(),
        "already-enabled" => {
            "Machine-token already exists! Please use 'disable' to delete existing machine-token.\n".into()
        }
        "unknown-token" => "Unknown Auth-Token\n".into(),
        _ => {
            std::iter::once(problem.message.clone())
                .chain(problem.hints.iter().map(|hint| format!("hint: {hint}")))
                .collect::<Vec<_>>()
                .join("\n")
                + "\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_show() {
        let refused = |code| Problem::new(code, "it is refused", "do this");
        let said = [
            text(&refused("not-enabled")),
            text(&refused("already-enabled")),
            text(&refused("unknown-token")),
            text(&no_token()),
            text(&loader_not_enabled()),
            text(&loader_enabled()),
            UNKNOWN_QUERY.to_owned(),
        ];
        insta::assert_snapshot!(said.join("---\n"), @"
        Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.
        ---
        Machine-token already exists! Please use 'disable' to delete existing machine-token.
        ---
        Unknown Auth-Token
        ---
        auth-token is not a token
        hint: a token is of printable characters without spaces; the server's operator gives one out
        ---
        only root itself can tell the loader to take livepatches
        hint: run `livepatch enable --token-file FILE`, which tells both
        ---
        only root itself can tell the loader to take livepatches out
        hint: run `livepatch disable`, which tells both
        ---
        unknown query; there are verbose=…, verbosity=… and format=json or yaml
        ");
    }
}
