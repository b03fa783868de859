//! What is wrong with what a server answers, and with the ways to it.

use std::path::Path;

use livepatch_api::server::ErrorBody;
use livepatch_manifest::bundle::MAX_MODULE_BYTES;
use reqwest::StatusCode;

use super::unreachable::chain;
use crate::Problem;

/// What an error is, by its status and what it holds.
pub(crate) fn refusal_of(status: StatusCode, body: &[u8]) -> Problem {
    let said = serde_json::from_slice::<ErrorBody>(body).ok();
    let message: String = said
        .as_ref()
        .map(|said| said.message.chars().filter(|c| !c.is_control()).take(200).collect())
        .unwrap_or_default();
    match said.as_ref().map(|said| said.code.as_str()) {
        Some("unknown-token") => Problem::new(
            "unknown-token",
            "the server does not know the token",
            "ask the server's operator for a new token; each may be limited in uses and time",
        ),
        Some("token-expired") => Problem::new(
            "token-expired",
            "the token has expired",
            "ask the server's operator for a new token; what is enrolled already stays so",
        ),
        Some("token-exhausted") => Problem::new(
            "token-exhausted",
            "the token has enrolled as many machines as it may",
            "ask the server's operator for a new token, or for one without a limit",
        ),
        // Its own fault, as it says itself: a damaged module, a full disk.
        Some("internal") => Problem::new(
            "server-failed",
            format!("the server failed to answer ({status})"),
            "nothing is wrong with this host; tell the server's operator, whose log says why",
        ),
        Some(code) => {
            let code: String = code.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
            Problem::new(
                "server-refused",
                format!("the server refuses ({status}, {code}): {message}"),
                "tell the server's operator, whose log says why",
            )
        }
        None if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Problem::new(
            "server-failed",
            format!("the server or a proxy before it is out of order ({status})"),
            "nothing is wrong with this host; the check is repeated by itself",
        ),
        None => odd(&Odd::Status(status)),
    }
}

/// Answers that no livepatch server gives.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Odd {
    #[error("its answer does not parse: {0}")]
    Json(serde_json::Error),
    #[error("it answers 404 without naming the kernel as unknown")]
    NotFound,
    #[error("its answer is longer than {0} bytes")]
    Long(usize),
    #[error("it answers {0}")]
    Status(StatusCode),
}

pub(crate) fn bad_proxy(error: &dyn std::error::Error) -> Problem {
    let hint = "https-proxy in the configuration is a URL such as http://proxy.example.org:3128";
    Problem::new("proxy-setup", format!("cannot use the proxy: {}", chain(error)), hint)
}

pub(crate) fn bad_tls(error: &dyn std::error::Error) -> Problem {
    let hint = "install the system's CA certificates or set ca-file in the configuration";
    Problem::new("tls-setup", format!("cannot set TLS up: {}", chain(error)), hint)
}

pub(crate) fn bad_ca_file(path: &Path, why: &str) -> Problem {
    let hint = "ca-file in the configuration must name a PEM file with the server's CA";
    Problem::new("tls-setup", format!("cannot use {}: {why}", path.display()), hint)
}

pub(crate) fn too_large(size_bytes: u64) -> Problem {
    let message = format!("the module has {size_bytes} bytes where {MAX_MODULE_BYTES} are allowed");
    Problem::new("oversized-module", message, "tell the server's operator")
}

pub(crate) fn odd(why: &Odd) -> Problem {
    let message = format!("the server does not answer like a livepatch server: {why}");
    Problem::new("server-unexpected-answer", message, "check the server URL in the configuration")
}
