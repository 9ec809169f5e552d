//! Requests to a far end: bounded in time and in what is read of an answer, and told in words when they fail.

use crate::destination::Failure;
use ravelin_model::text::printable;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, Url, redirect};
use std::error::Error;
use std::time::Duration;

/// Longest time until a far end takes the connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// As much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A client for `url`; `ca` are certificates in PEM form that take the place of the system's.
pub(crate) fn client(url: &str, ca: Option<&str>) -> Result<Client, Failure> {
    let url = Url::parse(url).map_err(|error| Failure::new(format!("{url:?} is no URL: {error}")))?;
    let mut builder = Client::builder()
        .user_agent(concat!("ravelin/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_MAX);
    if let Some(pem) = ca {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| {
            Failure::new(format!("the certificates to trust cannot be read: {}", innermost(&error)))
        })?;
        builder = builder.tls_certs_only(certificates);
    } else if url.scheme() == "http" {
        // Without TLS nobody's certificates are needed, so a machine without any will do.
        builder = builder.tls_certs_only([]);
    }
    if url.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]") {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Failure::new(format!("cannot set up TLS: {}", innermost(&error))))
}

/// The header `host` that goes with requests to `url`, as signatures need it.
pub(crate) fn host(url: &str) -> Result<String, Failure> {
    let parsed = Url::parse(url).map_err(|error| Failure::new(format!("{url:?} is no URL: {error}")))?;
    let host = parsed.host_str().unwrap_or_default();
    Ok(parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// An answer: its status, what its body is, and the beginning of that.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Empty when it is not said.
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What a far end says when it refuses: the status, and what it gives as reason, on one line.
    pub(crate) fn refusal(&self, what: &str) -> Failure {
        let text = String::from_utf8_lossy(&self.body);
        let said = printable(text.trim(), 300);
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let failure = Failure::new(format!("{what} was answered with {}{said}", self.status));
        if self.status == StatusCode::PAYLOAD_TOO_LARGE { failure.too_much() } else { failure }
    }

    /// Whether the body names this error.
    pub(crate) fn names(&self, code: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(code)
    }
}

/// Sends a request and reads the answer, whatever it says.
pub(crate) async fn send(request: RequestBuilder) -> Result<Answer, Failure> {
    let response = request.send().await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.to_owned();
    let body = beginning(response).await?;
    Ok(Answer { status, content_type, body })
}

/// Sends a request that has to succeed.
pub(crate) async fn succeed(what: &str, request: RequestBuilder) -> Result<Answer, Failure> {
    let answer = send(request).await?;
    if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal(what)) }
}

async fn beginning(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| unreachable(&error))? {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(body)
}

/// URLs may hold secrets, so none is told.
fn unreachable(error: &reqwest::Error) -> Failure {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the exchange broke off"
    };
    Failure::new(format!("{what}: {}", innermost(error)))
}

/// The innermost cause, which is the one that people know.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
