use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use livepatch_api::server::{ErrorBody, PublishedKernel};
use livepatch_store::{ObjectError, StoreError};

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    published: Vec<PublishedKernel>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), published: Vec::new() }
    }
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }
    pub(super) fn unknown_kernel(published: Vec<PublishedKernel>) -> Self {
        let message = "no patch was ever published for this kernel";
        Self { published, ..Self::new(StatusCode::NOT_FOUND, "unknown-kernel", message) }
    }
    pub(super) fn unknown_token() -> Self {
        StoreError::UnknownToken.into()
    }
    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "bad-request", "this path does not take this method")
    }
    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the request took too long")
    }
    /// Something here failed. The cause goes to the log, once and here, not to the host.
    pub(super) fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let cause: anyhow::Error = cause.into();
        tracing::error!(cause = format!("{cause:#}"), "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log says why")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::UnknownToken => (StatusCode::UNAUTHORIZED, "unknown-token"),
            StoreError::TokenExpired => (StatusCode::FORBIDDEN, "token-expired"),
            StoreError::TokenExhausted => (StatusCode::FORBIDDEN, "token-exhausted"),
            StoreError::OtherHost => (StatusCode::CONFLICT, "other-host"),
            _ => return Self::internal(error),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        Self::internal(error)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the request body is too large")
            }
            // Not the text of the rejection: it can quote the body, and that can hold a token.
            status => {
                Self::new(status, "bad-request", "the request body is not the JSON that is expected here")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { code: self.code.to_owned(), message: self.message, published: self.published };
        (self.status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}
