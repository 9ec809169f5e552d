//! One total match: what was refused -> status, code and body of this dialect.
//!
//! Bodies are `application/problem+json` (RFC 9457). The table stands in `docs/wire/native-errors.md`, and a test
//! pins it.

use crate::wire;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ravelin_model::Refusal;
use std::borrow::Cow;
use std::time::Duration;

/// Why a request of this dialect gets no answer of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The engine said no, or a value makes no sense to it.
    Refused(Refusal),
    /// More or fewer sessions match than the caller meant to end; nothing was ended.
    CountChanged { expected: u64, matching: u64 },
    /// No operation bears this path.
    UnknownPath { path: String },
    /// The path is known, the method is not; the answer's `Allow` names those that are.
    UnknownMethod { method: String },
    /// The body is not declared as JSON.
    NotJson { declared: String },
    /// The body is not the JSON that the operation takes.
    Malformed { because: String },
    /// The body is longer than this.
    TooLarge { bytes_max: usize },
    /// The body did not arrive in this time.
    TooSlow { after: Duration },
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Refused(refusal)
    }
}

/// The fixed part of a code.
struct Kind {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
}

impl Fault {
    fn kind(&self) -> Kind {
        let (status, code, title) = match self {
            Fault::Refused(refusal) => match refusal {
                Refusal::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found", "not found"),
                Refusal::Denied { .. } => (StatusCode::FORBIDDEN, "denied", "not allowed"),
                Refusal::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, "unauthenticated", "not authenticated"),
                Refusal::Invalid { .. } => (StatusCode::BAD_REQUEST, "invalid", "invalid value"),
                Refusal::Conflict { .. } => (StatusCode::CONFLICT, "conflict", "does not fit the present state"),
                Refusal::LimitReached { .. } => (StatusCode::TOO_MANY_REQUESTS, "limit_reached", "limit reached"),
                Refusal::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "not available now"),
                Refusal::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error"),
            },
            Fault::CountChanged { .. } => (StatusCode::CONFLICT, "count_changed", "another number of sessions matches"),
            Fault::UnknownPath { .. } => (StatusCode::NOT_FOUND, "unknown_path", "no such operation"),
            Fault::UnknownMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "unknown_method", "no such method here"),
            Fault::NotJson { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "the body must be JSON"),
            Fault::Malformed { .. } => (StatusCode::BAD_REQUEST, "malformed", "the body cannot be read"),
            Fault::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large"),
            Fault::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time"),
        };
        Kind { status, code, title }
    }

    fn detail(&self) -> String {
        match self {
            Fault::Refused(refusal) => refusal.to_string(),
            Fault::CountChanged { expected, matching } => {
                format!("{matching} sessions match now, not {expected}; nothing was ended")
            }
            Fault::UnknownPath { path } => format!("{path} is no path of this API, see /api/v1/openapi.json"),
            Fault::UnknownMethod { method } => format!("{method} is not offered here"),
            Fault::NotJson { declared } if declared.is_empty() => {
                "the body has no content-type, send application/json".to_owned()
            }
            Fault::NotJson { declared } => format!("the body is declared as {declared:?}, send application/json"),
            Fault::Malformed { because } => format!("the body cannot be read: {because}"),
            Fault::TooLarge { bytes_max } => format!("the body may have at most {bytes_max} bytes"),
            Fault::TooSlow { after } => format!("the body was not complete after {} s", after.as_secs()),
        }
    }

    /// The body of the answer.
    pub(crate) fn problem(&self) -> wire::Problem {
        let kind = self.kind();
        let field = match self {
            Fault::Refused(Refusal::Invalid { field, .. }) => Some(field.clone()),
            Fault::CountChanged { .. } => Some("expect".to_owned()),
            Fault::Refused(_)
            | Fault::UnknownPath { .. }
            | Fault::UnknownMethod { .. }
            | Fault::NotJson { .. }
            | Fault::Malformed { .. }
            | Fault::TooLarge { .. }
            | Fault::TooSlow { .. } => None,
        };
        let matching = if let Fault::CountChanged { matching, .. } = self { Some(*matching) } else { None };
        wire::Problem {
            kind: format!("urn:ravelin:problem:{}", kind.code),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
            detail: self.detail(),
            code: Cow::Borrowed(kind.code),
            field,
            matching,
        }
    }

    /// Seconds after which asking again makes sense, rounded up.
    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Fault::Refused(Refusal::LimitReached { retry_after, .. }) => {
                retry_after.map(|after| after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
            }
            Fault::Refused(Refusal::Unavailable { .. }) => Some(1),
            Fault::Refused(_)
            | Fault::CountChanged { .. }
            | Fault::UnknownPath { .. }
            | Fault::UnknownMethod { .. }
            | Fault::NotJson { .. }
            | Fault::Malformed { .. }
            | Fault::TooLarge { .. }
            | Fault::TooSlow { .. } => None,
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if let Fault::Refused(refusal) = &self
            && let Some(detail) = refusal.detail()
        {
            tracing::error!(code = %problem.code, detail = detail.for_log(), "a request failed");
        }
        let status = self.kind().status;
        let mut response = (status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ravelin\""));
        }
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::Detail;
    use ravelin_model::policy::Action;
    use std::fmt::Write as _;

    /// One of each, with the sentence that explains it.
    fn every() -> Vec<(Fault, &'static str)> {
        let unavailable = Refusal::Unavailable { what: "the store".into(), detail: Detail::new("/secret/path") };
        let limit = Refusal::LimitReached {
            limit: "64 event streams of one principal".into(),
            retry_after: Some(Duration::from_millis(1500)),
        };
        vec![
            (
                Refusal::Invalid { field: "limit".into(), because: "must be 1 to 1000, this is 0".into() }.into(),
                "A parameter or member has a value that can never be right; `field` names it.",
            ),
            (
                Fault::Malformed { because: "unknown field `resaon`, expected `reason` or `wait_ms`".into() },
                "The body is not JSON, or not the JSON of this operation; `detail` says where.",
            ),
            (
                Refusal::Unauthenticated { because: "the credentials are not valid" }.into(),
                "No token, or none that is valid now.",
            ),
            (
                Refusal::Denied { action: Action::TerminateSession, because: "no policy permits it".into() }.into(),
                "The caller is known and may not do this.",
            ),
            (
                Refusal::not_found("session", "alice-07a16060613c408b5").into(),
                "It is not there, or the caller may not know that it is.",
            ),
            (Fault::UnknownPath { path: "/api/v1/sesions".into() }, "No operation has this path."),
            (
                Fault::UnknownMethod { method: "PUT".into() },
                "The path has other methods; the header `allow` lists them.",
            ),
            (Fault::TooSlow { after: Duration::from_secs(20) }, "The body was not complete in time."),
            (
                Refusal::Conflict { because: "credential X exists".into() }.into(),
                "The request does not fit the present state.",
            ),
            (
                Fault::CountChanged { expected: 3, matching: 5 },
                "`expect` is not the number of sessions that match; `matching` is. Nothing was ended.",
            ),
            (Fault::TooLarge { bytes_max: 1 << 20 }, "The body is longer than 1 MiB."),
            (Fault::NotJson { declared: "text/plain".into() }, "The body's content-type is not `application/json`."),
            (limit.into(), "Too much at once; the header `retry-after` says when to try again, if that is known."),
            (Refusal::internal("/secret/path").into(), "A fault of Ravelin's own; its log says more."),
            (unavailable.into(), "Something needed is out of reach; the header `retry-after` says when to try again."),
        ]
    }

    #[test]
    fn the_table_in_the_documents_is_this_match() {
        let mut text = String::from(
            "# Errors of the own API\n\n\
             Every error under `/api/v1` is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, \
             `detail` and `code`.\n\
             `field` names the parameter or member that is wrong, where there is one.\n\
             Programs decide by `code`; `detail` is for people and may change.\n\n\
             | status | code | when | example of `detail` |\n|---|---|---|---|\n",
        );
        for (fault, when) in every() {
            let problem = fault.problem();
            let _ = writeln!(text, "| {} | `{}` | {when} | {} |", problem.status, problem.code, problem.detail);
        }
        crate::golden::check("../../docs/wire/native-errors.md", &text);
    }

    #[test]
    fn what_is_for_the_log_stays_out_of_the_answer() {
        for (fault, _) in every() {
            let body = serde_json::to_string(&fault.problem()).expect("a problem is JSON");
            assert!(!body.contains("secret"), "{body}");
        }
    }

    #[test]
    fn headers_say_when_and_how_to_try_again() {
        for (fault, _) in every() {
            let response = fault.clone().into_response();
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(response.status() == 401, response.headers().contains_key(header::WWW_AUTHENTICATE));
            let retry = response.headers().get(header::RETRY_AFTER).map(|v| v.to_str().expect("digits").to_owned());
            let wanted = match response.status().as_u16() {
                429 => Some("2".to_owned()),
                503 => Some("1".to_owned()),
                _ => None,
            };
            assert_eq!(retry, wanted, "{fault:?}");
        }
    }
}
