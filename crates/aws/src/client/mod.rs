//! The other half: we call the service, the real one or another Ravelin.
//!
//! ```text
//! shape      the operations as data        value   values that keep their order    check   what is wrong before sending
//! page       turning pages, tokens         json    JSON -> values                  shorthand   the short form -> values
//! ```
//!
//! [`Client`] signs, sends, tries again as botocore does, and reads the answer. It never knows where credentials come
//! from: whoever makes it hands in a provider. Every answer is bounded, and nothing in it is believed: what is of the
//! wrong form is an error that names the member.

pub mod check;
pub mod json;
pub mod page;
pub mod shape;
pub mod shorthand;
pub mod value;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::Url;
use shape::{Operation, Times};
use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use uuid::Uuid;
use value::{Json, Map, Value};

/// Bytes of one answer at most. A page of 200 sessions with every member at its longest is less than two million.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Characters of an error's text at most.
const MESSAGE_CHARS_MAX: usize = 8192;
/// Longest wait between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// Credentials that end sooner than this are fetched again.
const CREDENTIALS_LEFT_MIN: Duration = Duration::from_secs(300);
const SERVICE: &str = "ssm";
const TARGET_PREFIX: &str = "AmazonSSM";

/// Codes that say "too fast", whatever their status.
const THROTTLED: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "RequestThrottled",
    "SlowDown",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
];

/// How often a call is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts at most, the first included; at least one.
    pub attempts_max: u32,
    /// Whether the last attempt's fault is told with the number of attempts even when trying again would not have
    /// helped, as botocore's `standard` mode does and its `legacy` mode does not.
    pub always_told: bool,
}

/// Where and how calls go.
#[derive(Debug)]
pub struct Config {
    /// The service's address, such as `https://ssm.eu-central-1.amazonaws.com`.
    pub endpoint: Url,
    /// The region that signatures name.
    pub region: String,
    /// Who signs; `None` sends requests unsigned.
    pub credentials: Option<SharedCredentialsProvider>,
    /// How often a call is tried.
    pub retry: Retry,
    /// How times of answers are shown.
    pub times: Times,
}

/// A client of one endpoint.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    config: Config,
    known: Mutex<Option<Credentials>>,
    received: AtomicU64,
}

/// Why a call failed. The texts are those of the aws CLI.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallFault {
    /// The service says no.
    #[error("An error occurred ({code}) when calling the {operation} operation{told}: {message}")]
    Service {
        /// The service's code, or the HTTP status when there was none.
        code: String,
        /// The operation.
        operation: &'static str,
        /// How often it was tried, when that is to be told.
        told: String,
        /// The service's text.
        message: String,
    },
    /// Nothing listens there, or the name is not known.
    #[error("Could not connect to the endpoint URL: \"{0}\"")]
    Unreachable(String),
    /// It took too long to connect.
    #[error("Connect timeout on endpoint URL: \"{0}\"")]
    ConnectTimeout(String),
    /// It took too long to answer.
    #[error("Read timeout on endpoint URL: \"{0}\"")]
    ReadTimeout(String),
    /// The connection ended before the answer did.
    #[error("Connection was closed before we received a valid response from endpoint URL: \"{0}\".")]
    Closed(String),
    /// The certificate is not to be trusted, or there is no TLS.
    #[error("SSL validation failed for {0} {1}")]
    Tls(String, String),
    /// The answer is larger than any should be.
    #[error("The answer of {0} is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge(String),
    /// The answer is not of the form that was promised.
    #[error("The answer of {0} cannot be read: {1}")]
    Unreadable(String, String),
    /// There are no credentials.
    #[error("Unable to locate credentials")]
    NoCredentials,
    /// Credentials could not be fetched.
    #[error("Error when retrieving credentials: {0}")]
    Credentials(String),
    /// The request cannot be made of what was given.
    #[error("The request cannot be signed: {0}")]
    Unsignable(String),
}

impl Client {
    /// A client that sends through `http`, which must follow no redirects.
    #[must_use]
    pub fn new(http: reqwest::Client, config: Config) -> Client {
        Client { http, config, known: Mutex::new(None), received: AtomicU64::new(0) }
    }

    /// Bytes of all answers so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Calls an operation; the answer is in the model's form. All attempts carry the same invocation id, so that a
    /// service that heard the first does not act twice.
    ///
    /// # Errors
    /// See [`CallFault`].
    pub async fn call(&self, operation: &'static Operation, input: &Value) -> Result<Value, CallFault> {
        let body = input.to_json(Json::Line).into_bytes();
        let invocation = Uuid::new_v4();
        let attempts = self.config.retry.attempts_max.max(1);
        let mut attempt = 1;
        loop {
            let last = attempt >= attempts;
            let (fault, again) = match self.attempt(operation, &body, invocation, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if again && !last {
                tokio::time::sleep(pause(attempt)).await;
                attempt += 1;
                continue;
            }
            return Err(match fault {
                CallFault::Service { code, operation, told: _, message }
                    if last && (again || self.config.retry.always_told) =>
                {
                    let told = format!(" (reached max retries: {})", attempt - 1);
                    CallFault::Service { code, operation, told, message }
                }
                fault => fault,
            });
        }
    }

    /// One attempt; with a fault goes whether another may help.
    async fn attempt(
        &self,
        operation: &'static Operation,
        body: &[u8],
        invocation: Uuid,
        attempt: u32,
    ) -> Result<Value, (CallFault, bool)> {
        let headers = self.headers(operation, body, invocation, attempt).await.map_err(|fault| (fault, false))?;
        tracing::debug!(operation = operation.name, endpoint = %self.config.endpoint, %invocation, attempt, "calling");
        let request = self.http.post(self.config.endpoint.clone()).headers(headers).body(body.to_vec());
        let mut response = request.send().await.map_err(|error| self.unreached(&error))?;
        let status = response.status();
        let overriding = response.headers().get("x-amzn-query-error").and_then(|value| value.to_str().ok());
        let overriding = overriding.and_then(|text| text.split(';').next()).map(str::to_owned);
        let request_id = response.headers().get("x-amzn-requestid").cloned();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreached(&error))? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err((CallFault::TooLarge(self.url()), false));
            }
            self.received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            answer.extend_from_slice(&chunk);
        }
        tracing::debug!(operation = operation.name, %status, ?request_id, bytes = answer.len(), "answered");
        if status.as_u16() > 300 {
            let (fault, again) = refused(operation.name, status, overriding, &answer);
            return Err((fault, again));
        }
        let unreadable = |because: String| (CallFault::Unreadable(self.url(), because), false);
        let value = Value::parse(&answer).map_err(|error| unreadable(error.to_string()))?;
        shape::read(&operation.output, value, "", &self.config.times).map_err(unreadable)
    }

    /// The credentials and the region that the next call is signed with; `None` when calls go unsigned.
    ///
    /// # Errors
    /// [`CallFault::NoCredentials`] and [`CallFault::Credentials`].
    pub async fn signer(&self) -> Result<Option<(Credentials, String)>, CallFault> {
        match &self.config.credentials {
            Some(provider) => Ok(Some((self.credentials(provider).await?, self.config.region.clone()))),
            None => Ok(None),
        }
    }

    async fn headers(
        &self,
        operation: &Operation,
        body: &[u8],
        invocation: Uuid,
        attempt: u32,
    ) -> Result<HeaderMap, CallFault> {
        let target = format!("{TARGET_PREFIX}.{}", operation.name);
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| match HeaderValue::from_str(value) {
            Ok(value) => {
                headers.insert(HeaderName::from_static(name), value);
                Ok(())
            }
            Err(error) => Err(CallFault::Unsignable(error.to_string())),
        };
        put("content-type", "application/x-amz-json-1.1")?;
        put("x-amz-target", &target)?;
        let unsigned =
            [("amz-sdk-invocation-id", invocation.to_string()), ("amz-sdk-request", format!("attempt={attempt}"))];
        if let Some(provider) = &self.config.credentials {
            let identity = self.credentials(provider).await?.into();
            let params = v4::SigningParams::builder()
                .identity(&identity)
                .region(&self.config.region)
                .name(SERVICE)
                .time(SystemTime::now())
                .settings(SigningSettings::default())
                .build()
                .map_err(|error| CallFault::Unsignable(error.to_string()))?
                .into();
            let signed = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
            let url = self.config.endpoint.as_str();
            let request = SignableRequest::new("POST", url, signed.into_iter(), SignableBody::Bytes(body))
                .map_err(|error| CallFault::Unsignable(causes(&error)))?;
            let signed = sign(request, &params).map_err(|error| CallFault::Unsignable(causes(&error)))?;
            for (name, value) in signed.into_parts().0.headers() {
                let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                    return Err(CallFault::Unsignable(format!("{name} is no header")));
                };
                value.set_sensitive(name == header::AUTHORIZATION || name == "x-amz-security-token");
                headers.insert(name, value);
            }
        }
        for (name, value) in unsigned {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(headers)
    }

    async fn credentials(&self, provider: &SharedCredentialsProvider) -> Result<Credentials, CallFault> {
        use aws_credential_types::provider::error::CredentialsError;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh =
            |known: &Credentials| known.expiry().is_none_or(|end| end > SystemTime::now() + CREDENTIALS_LEFT_MIN);
        if let Some(known) = known.filter(fresh) {
            return Ok(known);
        }
        let fetched = provider.provide_credentials().await.map_err(|error| match &error {
            CredentialsError::CredentialsNotLoaded(_) => CallFault::NoCredentials,
            _ => CallFault::Credentials(causes(&error)),
        })?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetched.clone());
        Ok(fetched)
    }

    /// What a failed exchange means, and whether trying again may help.
    fn unreached(&self, error: &reqwest::Error) -> (CallFault, bool) {
        let url = self.url();
        if error.is_timeout() {
            let fault = if error.is_connect() { CallFault::ConnectTimeout(url) } else { CallFault::ReadTimeout(url) };
            return (fault, true);
        }
        let mut source = error.source();
        while let Some(cause) = source {
            let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if cause.is::<rustls::Error>() || io.is_some_and(|inner| inner.is::<rustls::Error>()) {
                return (CallFault::Tls(url, causes(error)), false);
            }
            source = cause.source();
        }
        let fault = if error.is_connect() { CallFault::Unreachable(url) } else { CallFault::Closed(url) };
        (fault, true)
    }

    fn url(&self) -> String {
        self.config.endpoint.to_string()
    }
}

/// What an answer that is none says.
fn refused(operation: &'static str, status: StatusCode, code: Option<String>, body: &[u8]) -> (CallFault, bool) {
    let parsed = Value::parse(body).ok();
    let members = parsed.as_ref().and_then(Value::as_map);
    let text = |name: &str| members.and_then(|members: &Map| members.get(name)).and_then(Value::as_text);
    // `com.example#Code` and `Code:http://…` both mean `Code`.
    let sent = text("__type").or_else(|| text("code")).map(|code| {
        let code = code.rsplit('#').next().unwrap_or(code);
        code.split(':').next().unwrap_or(code).to_owned()
    });
    let code = code.or(sent).unwrap_or_else(|| status.as_u16().to_string());
    let message = match members {
        Some(_) => text("message").or_else(|| text("Message")).unwrap_or_default().to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let again = matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
        || THROTTLED.contains(&code.as_str())
        || matches!(code.as_str(), "RequestTimeout" | "RequestTimeoutException");
    (CallFault::Service { code, operation, told: String::new(), message }, again)
}

/// How long to wait after attempt `attempt`: anything up to one second, then two, then four.
fn pause(attempt: u32) -> Duration {
    let mut random = [0; 4];
    // Without randomness the longest wait is as good as any.
    let share = match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    let longest = Duration::from_secs(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_MAX);
    longest.mul_f64(share)
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> (String, bool) {
        let status = StatusCode::from_u16(status).expect("a status");
        let (fault, again) = refused("DescribeSessions", status, None, body.as_bytes());
        (fault.to_string(), again)
    }

    /// The lines of aws-cli 1.46.3 for the same answers.
    #[test]
    fn refusals_are_told_as_the_aws_cli_tells_them() {
        let line = |code: &str, text: &str| {
            format!("An error occurred ({code}) when calling the DescribeSessions operation: {text}")
        };
        for (status, body, code, text, again) in [
            (
                400,
                r#"{"__type":"com.amazon#InvalidFilterKey","Message":"bad key"}"#,
                "InvalidFilterKey",
                "bad key",
                false,
            ),
            (400, r#"{"__type":"UnknownOperationException"}"#, "UnknownOperationException", "", false),
            (500, r#"{"__type":"InternalServerError","message":"boom"}"#, "InternalServerError", "boom", true),
            (400, r#"{"__type":"ThrottlingException","message":"slow"}"#, "ThrottlingException", "slow", true),
            (502, "Bad Gateway", "502", "Bad Gateway", true),
            (302, "", "302", "", false),
        ] {
            assert_eq!(told(status, body), (line(code, text), again), "{body}");
        }
        let (long, _) = told(500, &"x".repeat(MESSAGE_CHARS_MAX * 3));
        assert!(long.len() < MESSAGE_CHARS_MAX * 2);
    }

    #[test]
    fn pauses_grow_and_end() {
        for attempt in 1..100 {
            assert!(pause(attempt) <= PAUSE_MAX.min(Duration::from_secs(1 << (attempt - 1).min(16))));
        }
    }
}
