//! The HTTP client of the server: https alone, bounded in time and size.

pub(crate) mod problems;
mod unreachable;

use std::path::Path;
use std::time::{Duration, Instant};

use livepatch_api::server::{
    AssignmentRequest, AssignmentResponse, EnrollRequest, EnrollResponse, ErrorBody, PublishedKernel,
};
use livepatch_manifest::envelope::MAX_ENVELOPE_BYTES;
use livepatch_manifest::{ModuleObject, ObjectError, bundle::MAX_MODULE_BYTES};
use livepatch_settings::Config;
use livepatch_types::{BuildId, Cohort, HostId, Redacted, Tier};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use self::problems::{Odd, bad_ca_file, bad_proxy, bad_tls, odd, refusal_of, too_large};
use self::unreachable::{chain, unreachable};
use crate::Problem;
use crate::state::Enrolment;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For a whole module, however often its download breaks off.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a download goes on where it broke off.
const MOST_CONTINUATIONS: usize = 16;
/// What a server may ask for at most.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86400);
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What the server says about a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentAnswer {
    /// The same as before.
    NotModified,
    /// A document, not yet opened, and its tag.
    Document {
        /// The envelope.
        envelope: Vec<u8>,
        /// For the next conditional request.
        etag: Option<String>,
    },
    /// The server has nothing for this kernel. Where it was published, if it knows that.
    UnknownKernel(Vec<PublishedKernel>),
}

/// What came of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The server has it.
    Taken,
    /// It takes it never.
    Refused,
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct ServerClient {
    http: reqwest::Client,
}

impl ServerClient {
    /// Sets the client up. With a CA file its certificates alone are believed, otherwise those of the system.
    pub fn new(config: &Config) -> Result<Self, Problem> {
        // Fails when it was done before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::limited(3))
            // The environment does not count: what a daemon does stands in its configuration.
            .no_proxy()
            .connect_timeout(config.dial_timeout)
            .timeout(REQUEST_TIMEOUT)
            // Polls are an hour apart, and what looks after connections that are kept would wake the daemon all the time.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("livepatchd/", env!("CARGO_PKG_VERSION")));
        if let Some(url) = &config.proxy {
            let exceptions = reqwest::NoProxy::from_string(&config.no_proxy);
            let proxy = reqwest::Proxy::https(url.expose()).map_err(|error| bad_proxy(&error))?;
            builder = builder.proxy(proxy.no_proxy(exceptions));
        }
        if let Some(path) = &config.ca_file {
            builder = builder.tls_certs_only(read_certificates(path)?);
        }
        let http = builder.build().map_err(|error| bad_tls(&error))?;
        Ok(Self { http })
    }

    /// Enrols this host.
    pub async fn enroll(
        &self,
        server: &str,
        token: Redacted<String>,
        machine: String,
        host: HostId,
        cohort: Option<Cohort>,
    ) -> Result<EnrollResponse, Problem> {
        let request = EnrollRequest { token, machine, host, cohort };
        let response =
            self.http.post(format!("{server}/v1/enroll")).json(&request).send().await.map_err(unreachable)?;
        let answer = read_json(response).await?;
        serde_json::from_slice(&answer).map_err(|error| odd(&Odd::Json(error)))
    }

    /// Asks for an assignment of this host to another cohort.
    pub async fn assignment(
        &self,
        enrolment: &Enrolment,
        host: HostId,
        cohort: Option<Cohort>,
    ) -> Result<AssignmentResponse, Problem> {
        let request = self.http.post(format!("{}/v1/assignment", enrolment.server));
        let request = request.bearer_auth(enrolment.machine_token.expose());
        let response = request.json(&AssignmentRequest { host, cohort }).send().await.map_err(unreachable)?;
        let answer = read_json(response).await?;
        serde_json::from_slice(&answer).map_err(|error| odd(&Odd::Json(error)))
    }

    /// Asks for the document of a kernel.
    pub async fn document(
        &self,
        server: &str,
        channel: &Tier,
        build_id: &BuildId,
        etag: Option<&str>,
    ) -> Result<DocumentAnswer, Problem> {
        let mut request = self.http.get(format!("{server}/v1/kernels/{channel}/{build_id}"));
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NOT_MODIFIED if etag.is_some() => Ok(DocumentAnswer::NotModified),
            StatusCode::NOT_FOUND => {
                // A 404 of something that is not a livepatch server must not read as "your kernel is unknown".
                let body = read_capped(response, MAX_ANSWER_BYTES).await?;
                match serde_json::from_slice::<ErrorBody>(&body) {
                    Ok(error) if error.code == "unknown-kernel" => {
                        Ok(DocumentAnswer::UnknownKernel(error.published))
                    }
                    _ => Err(odd(&Odd::NotFound)),
                }
            }
            StatusCode::OK => {
                let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok());
                let etag = etag.filter(|etag| etag.len() <= 200).map(str::to_owned);
                let envelope = read_capped(response, MAX_ENVELOPE_BYTES).await?;
                Ok(DocumentAnswer::Document { envelope, etag })
            }
            _ => Err(refused(response).await),
        }
    }

    /// Downloads a module object: never more than its signed size, and only with its signed digest. However it comes, it
    /// takes no longer than ten minutes.
    pub async fn object(&self, server: &str, object: &ModuleObject) -> Result<Vec<u8>, Problem> {
        if object.size_bytes > MAX_MODULE_BYTES {
            return Err(too_large(object.size_bytes));
        }
        let mut bytes = Vec::with_capacity(object.size_bytes as usize);
        let (ends, mut had) = (Instant::now() + DOWNLOAD_TIMEOUT, 0);
        for _ in 0..=MOST_CONTINUATIONS {
            let left = ends.saturating_duration_since(Instant::now());
            if self.object_from(server, object, &mut bytes, left).await? {
                object.check(&bytes)?;
                return Ok(bytes);
            }
            // The same place twice: what breaks it off is not chance.
            if bytes.len() <= had {
                break;
            }
            had = bytes.len();
            tracing::debug!(bytes = had, "the download broke off and goes on from there");
        }
        let (actual, expected) = (bytes.len() as u64, object.size_bytes);
        Err(ObjectError::Truncated { actual, expected }.into())
    }

    /// Adds what is still missing, in the time that is left; whether that is all, or it broke off before.
    async fn object_from(
        &self,
        server: &str,
        object: &ModuleObject,
        bytes: &mut Vec<u8>,
        left: Duration,
    ) -> Result<bool, Problem> {
        let mut request = self.http.get(format!("{server}/v1/objects/{}", object.sha256)).timeout(left);
        if !bytes.is_empty() {
            request = request.header(RANGE, format!("bytes={}-", bytes.len()));
        }
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response, bytes.len()) => {}
            // Who does not know ranges sends all again.
            StatusCode::OK => bytes.clear(),
            _ => return Err(refused(response).await),
        }
        let size = object.size_bytes as usize;
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(true),
                Ok(Some(chunk)) => {
                    // One byte over is enough for the check to refuse it.
                    let room = (size + 1).saturating_sub(bytes.len());
                    bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if bytes.len() > size {
                        return Ok(true);
                    }
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), "the download broke off");
                    return Ok(false);
                }
            }
        }
    }

    /// Asks for a file of a vendor's repository, of at most so many bytes; none: the server does not have it.
    pub async fn vendor_file(
        &self,
        server: &str,
        repository: &str,
        path: &str,
        limit_bytes: usize,
    ) -> Result<Option<Vec<u8>>, Problem> {
        self.file(format!("{server}/v1/vendor/{repository}/{path}"), limit_bytes).await
    }

    /// Asks for a file of the operator's, of at most so many bytes; none: the server does not have it.
    pub async fn operator_file(
        &self,
        server: &str,
        path: &str,
        limit_bytes: usize,
    ) -> Result<Option<Vec<u8>>, Problem> {
        self.file(format!("{server}/v1/operator/{path}"), limit_bytes).await
    }

    /// Asks for a file of the transparency log, of at most so many bytes; none: the server does not have it.
    pub async fn log_file(
        &self,
        server: &str,
        path: &str,
        limit_bytes: usize,
    ) -> Result<Option<Vec<u8>>, Problem> {
        self.file(format!("{server}/{path}"), limit_bytes).await
    }

    /// Asks which kernels the operator covers: an envelope of at most so many bytes; none: the server does not say.
    pub async fn support(&self, server: &str, limit_bytes: usize) -> Result<Option<Vec<u8>>, Problem> {
        self.file(format!("{server}/v1/support"), limit_bytes).await
    }

    async fn file(&self, url: String, limit_bytes: usize) -> Result<Option<Vec<u8>>, Problem> {
        let response = self.http.get(url).send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => read_capped(response, limit_bytes).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(response).await),
        }
    }

    /// Delivers a report, in exactly these bytes.
    pub async fn report(
        &self,
        server: &str,
        token: &Redacted<String>,
        body: String,
    ) -> Result<Delivery, Problem> {
        let request = self.http.post(format!("{server}/v1/reports")).bearer_auth(token.expose());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(Delivery::Taken),
            // It would be refused for ever: a server of before this form of reports, say.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Delivery::Refused)
            }
            _ => Err(refused(response).await),
        }
    }
}

/// Whether an answer is the part from this byte on (RFC 9110, 14.4).
fn begins_at(response: &Response, offset: usize) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

pub(crate) fn read_certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, Problem> {
    let problem = |why: String| bad_ca_file(path, &why);
    let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
    let certificates =
        reqwest::Certificate::from_pem_bundle(&bytes).map_err(|error| problem(chain(&error)))?;
    if certificates.is_empty() {
        return Err(problem("there is no certificate in it".into()));
    }
    Ok(certificates)
}

async fn read_json(response: Response) -> Result<Vec<u8>, Problem> {
    if response.status().is_success() {
        read_capped(response, MAX_ANSWER_BYTES).await
    } else {
        Err(refused(response).await)
    }
}

async fn read_capped(mut response: Response, cap: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > cap {
            return Err(odd(&Odd::Long(cap)));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// An answer that is an error.
async fn refused(response: Response) -> Problem {
    let status = response.status();
    // In seconds; the form with a date would believe this host's clock (RFC 9110, 10.2.3).
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let problem = refusal(response).await;
    match wait {
        Some(seconds) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Problem { retry_after: Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)), ..problem }
        }
        _ => problem,
    }
}

async fn refusal(response: Response) -> Problem {
    let status = response.status();
    let body = read_capped(response, MAX_ANSWER_BYTES).await.unwrap_or_default();
    refusal_of(status, &body)
}
