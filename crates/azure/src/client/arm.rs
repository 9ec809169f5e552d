//! Azure Resource Manager as its clients call it: bearer tokens, `api-version`, pages by `nextLink`, and answers that
//! come later (202 with `Location` or `Azure-AsyncOperation`).
//!
//! Source: "Azure REST API guidelines", long-running operations; the specification's `x-ms-long-running-operation` and
//! `x-ms-pageable` of `bastionHost.json`; answers of real clients as `docs/wire/azure.md` lists them.

use super::{BodyError, Item, TokenSource, body};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The version that requests name unless told otherwise: the oldest that every client of the last years also sends.
pub const API_VERSION: &str = "2024-05-01";

/// Where the public cloud answers.
pub const PUBLIC_ENDPOINT: &str = "https://management.azure.com";

/// Longest time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How often one request is made, the first time included.
const TRIES_MAX: u32 = 4;
/// Between tries when the service names no time; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Longest time that a `Retry-After` is believed.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Between two looks at an answer that is not there yet, when the service names no time.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// Between two such looks, whatever the service names.
const POLL_LEAST: Duration = Duration::from_millis(100);
/// Pages of one list.
const PAGES_MAX: usize = 1_000;
/// Ids in one request to disconnect.
const IDS_MAX: usize = 1_000;

/// Which bastion host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The subscription's id.
    pub subscription: String,
    /// Name of the resource group.
    pub resource_group: String,
    /// Name of the host.
    pub name: String,
}

/// What came of a request that the service may answer later.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The list.
    Here(Vec<Item>),
    /// It is still being made; it can be asked for there.
    Later(Url),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// No token.
    #[error("no token: {0}")]
    NoToken(String),
    /// The service cannot be reached.
    #[error(transparent)]
    Unreachable(reqwest::Error),
    /// The service said no.
    #[error("{code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The service's code, such as `AuthorizationFailed`.
        code: String,
        /// The service's words.
        message: String,
    },
    /// Whatever answers does not speak as the service does.
    #[error("the answer is not what Azure Resource Manager gives: {0}")]
    Strange(String),
    /// A link leads to another machine, which must not see the token.
    #[error("the answer leads to {0}, which is not where the request went; the token is not sent there")]
    LeadsAway(Url),
    /// The answer did not come within the time that the caller gave.
    #[error("no answer within {} s; it can still be asked for at {link}", waited.as_secs())]
    Slow {
        /// How long was waited.
        waited: Duration,
        /// Where it will be.
        link: Url,
    },
}

impl From<BodyError> for ArmError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Lost(error) => ArmError::Unreachable(error),
            BodyError::TooLong => ArmError::Strange(error.to_string()),
        }
    }
}

/// A client of one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Arm {
    http: reqwest::Client,
    endpoint: Url,
    tokens: Arc<dyn TokenSource>,
    api_version: String,
}

impl Arm {
    /// A client that calls `endpoint` with tokens of `tokens`, over `http`, which should follow no redirects.
    #[must_use]
    pub fn new(http: reqwest::Client, endpoint: Url, tokens: Arc<dyn TokenSource>, api_version: &str) -> Self {
        Self { http, endpoint, tokens, api_version: api_version.to_owned() }
    }

    /// The hosts of a subscription, or of one of its groups.
    ///
    /// # Errors
    /// [`ArmError`].
    pub async fn hosts(&self, subscription: &str, resource_group: Option<&str>) -> Result<Vec<Item>, ArmError> {
        let mut path = vec!["subscriptions", subscription];
        if let Some(group) = resource_group {
            path.extend(["resourceGroups", group]);
        }
        path.extend(["providers", "Microsoft.Network", "bastionHosts"]);
        let response = self.send(Method::GET, self.url(&path), None).await?;
        self.pages(response).await
    }

    /// One host.
    ///
    /// # Errors
    /// [`ArmError`].
    pub async fn host(&self, host: &Host) -> Result<Item, ArmError> {
        let response = self.send(Method::GET, self.of(host, None), None).await?;
        match read(response).await? {
            Value::Object(item) => Ok(item),
            _ => Err(ArmError::Strange("it is no object".to_owned())),
        }
    }

    /// The live sessions of a host. With a `wait`, an answer that comes later is waited for that long; without, the
    /// link to it is the answer.
    ///
    /// # Errors
    /// [`ArmError`].
    pub async fn active_sessions(&self, host: &Host, wait: Option<Duration>) -> Result<Answer, ArmError> {
        let begun = Instant::now();
        let response = self.send(Method::POST, self.of(host, Some("getActiveSessions")), None).await?;
        if response.status() != StatusCode::ACCEPTED {
            return self.pages(response).await.map(Answer::Here);
        }
        let links = Links::of(&response, &self.endpoint)?;
        match wait {
            None => Ok(Answer::Later(links.result.or(links.status).ok_or_else(no_link)?)),
            Some(wait) => self.later(links, begun, wait).await.map(Answer::Here),
        }
    }

    /// Ends sessions; what came of each, in the order asked. A long list goes in parts: what stopped one of them comes
    /// beside what came of those before it. Asking again is harmless.
    pub async fn disconnect(&self, host: &Host, ids: &[String]) -> (Vec<Item>, Result<(), ArmError>) {
        let mut all = Vec::with_capacity(ids.len());
        for part in ids.chunks(IDS_MAX) {
            match self.disconnect_part(host, part).await {
                Ok(outcomes) => all.extend(outcomes),
                Err(error) => return (all, Err(error)),
            }
        }
        (all, Ok(()))
    }

    async fn disconnect_part(&self, host: &Host, ids: &[String]) -> Result<Vec<Item>, ArmError> {
        let url = self.of(host, Some("disconnectActiveSessions"));
        let response = self.send(Method::POST, url, Some(&json!({ "sessionIds": ids }))).await?;
        if response.status() == StatusCode::ACCEPTED {
            let links = Links::of(&response, &self.endpoint)?;
            self.later(links, Instant::now(), ANSWER_MAX).await
        } else {
            self.pages(response).await
        }
    }

    fn of(&self, host: &Host, action: Option<&str>) -> Url {
        let Host { subscription, resource_group, name } = host;
        let mut path = vec!["subscriptions", subscription, "resourceGroups", resource_group];
        path.extend(["providers", "Microsoft.Network", "bastionHosts", name]);
        path.extend(action);
        self.url(&path)
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        // Each segment is encoded, so a name cannot lead to another path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.query_pairs_mut().append_pair("api-version", &self.api_version);
        url
    }

    /// An answer that comes later. The state is asked first where there is a link for it, then the result.
    async fn later(&self, links: Links, begun: Instant, wait: Duration) -> Result<Vec<Item>, ArmError> {
        let Links { status, result, mut pause } = links;
        let shown = result.clone().or_else(|| status.clone()).ok_or_else(no_link)?;
        let slow = || ArmError::Slow { waited: wait, link: shown.clone() };
        loop {
            pause = pause.max(POLL_LEAST);
            if begun.elapsed() + pause > wait {
                return Err(slow());
            }
            tokio::time::sleep(pause).await;
            let url = status.clone().unwrap_or_else(|| shown.clone());
            let response = self.send(Method::GET, url, None).await?;
            let next = retry_after(response.headers()).unwrap_or(POLL_EVERY);
            if status.is_none() {
                if response.status() != StatusCode::ACCEPTED {
                    return self.pages(response).await;
                }
                pause = next;
                continue;
            }
            let state = read(response).await?;
            let word = state.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
            match word.to_ascii_lowercase().as_str() {
                "succeeded" => {
                    return match result {
                        Some(result) => self.pages(self.send(Method::GET, result, None).await?).await,
                        None => self.pages_of(state).await,
                    };
                }
                "failed" | "canceled" | "cancelled" => return Err(refused(StatusCode::OK, &state, &word)),
                "" => return Err(ArmError::Strange("an operation without a status".to_owned())),
                _ => pause = next,
            }
        }
    }

    async fn pages(&self, response: Response) -> Result<Vec<Item>, ArmError> {
        let first = read(response).await?;
        self.pages_of(first).await
    }

    async fn pages_of(&self, mut page: Value) -> Result<Vec<Item>, ArmError> {
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let Value::Object(members) = &mut page else {
                return Err(ArmError::Strange("a page is no object".to_owned()));
            };
            match members.remove("value") {
                // An object without a list counts as an empty list; so the vendor's own clients read it.
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => {
                    for item in items {
                        let Value::Object(item) = item else {
                            return Err(ArmError::Strange("an item of a list is no object".to_owned()));
                        };
                        all.push(item);
                    }
                }
                Some(_) => return Err(ArmError::Strange("`value` is no list".to_owned())),
            }
            let Some(next) = members.get("nextLink").and_then(Value::as_str).filter(|next| !next.is_empty()) else {
                return Ok(all);
            };
            let next = same_place(next, &self.endpoint)?;
            page = read(self.send(Method::GET, next, None).await?).await?;
        }
        Err(ArmError::Strange(format!("a list of more than {PAGES_MAX} pages")))
    }

    /// A good answer. What may pass by itself is tried again; both operations on sessions can be repeated.
    async fn send(&self, method: Method, url: Url, payload: Option<&Value>) -> Result<Response, ArmError> {
        let mut pause = RETRY_FIRST;
        let mut tried = 1;
        loop {
            let token = self.tokens.token().await.map_err(ArmError::NoToken)?;
            let mut request = self.http.request(method.clone(), url.clone()).timeout(ANSWER_MAX);
            request = request.bearer_auth(token.expose_secret()).header("accept", "application/json");
            request = match payload {
                Some(payload) => request.json(payload),
                None if method == Method::POST => request.header("content-length", "0"),
                None => request,
            };
            let outcome = request.send().await;
            let named = match &outcome {
                Ok(response) if may_pass(response.status()) => retry_after(response.headers()),
                Err(error) if error.is_connect() && !is_final(error) => None,
                Ok(_) | Err(_) => {
                    let response = outcome.map_err(ArmError::Unreachable)?;
                    return if response.status().is_success() { Ok(response) } else { Err(told(response).await) };
                }
            };
            if tried == TRIES_MAX {
                return Err(match outcome {
                    Ok(response) => told(response).await,
                    Err(error) => ArmError::Unreachable(error),
                });
            }
            tokio::time::sleep(named.unwrap_or(pause)).await;
            pause *= 2;
            tried += 1;
        }
    }
}

/// Whether the same request may be answered better in a moment.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// Whether trying again cannot help: what TLS refuses now it refuses again, and so does a port where nobody listens.
fn is_final(error: &reqwest::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            let tls = error.kind() == std::io::ErrorKind::InvalidData || error.get_ref().is_some();
            return refused || tls;
        }
        next = error.source();
    }
    false
}

/// Where an answer will be.
struct Links {
    status: Option<Url>,
    result: Option<Url>,
    pause: Duration,
}

impl Links {
    fn of(response: &Response, endpoint: &Url) -> Result<Self, ArmError> {
        let headers = response.headers();
        let link = |name: &str| match headers.get(name).and_then(|value| value.to_str().ok()) {
            None => Ok(None),
            Some(text) => same_place(text, endpoint).map(Some),
        };
        let (status, result) = (link("azure-asyncoperation")?, link("location")?);
        Ok(Self { status, result, pause: retry_after(headers).unwrap_or(POLL_EVERY) })
    }
}

fn no_link() -> ArmError {
    ArmError::Strange("202 without a link to the answer".to_owned())
}

/// A link of an answer, if it stays where the token may be seen.
fn same_place(link: &str, endpoint: &Url) -> Result<Url, ArmError> {
    let url = endpoint.join(link).map_err(|error| ArmError::Strange(format!("a link {link:?}: {error}")))?;
    if url.origin() == endpoint.origin() { Ok(url) } else { Err(ArmError::LeadsAway(url)) }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_MAX))
}

async fn read(response: Response) -> Result<Value, ArmError> {
    let status = response.status();
    let bytes = body(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| ArmError::Strange(format!("{status}, {error}")))
}

/// What the service said instead of an answer.
async fn told(response: Response) -> ArmError {
    let status = response.status();
    match body(response).await {
        Err(error) => error.into(),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(said) => refused(status, &said, ""),
            Err(_) => ArmError::Strange(format!("{status} without an error that can be read")),
        },
    }
}

fn refused(status: StatusCode, said: &Value, otherwise: &str) -> ArmError {
    let error = said.get("error").unwrap_or(said);
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = match text("code") {
        empty if empty.is_empty() => {
            if otherwise.is_empty() {
                status.as_str().to_owned()
            } else {
                otherwise.to_owned()
            }
        }
        code => code,
    };
    ArmError::Refused { status: status.as_u16(), code, message: text("message") }
}
