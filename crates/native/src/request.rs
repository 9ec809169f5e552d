//! What comes in: parameters, bodies and path segments. Whatever is wrong is named, and nothing unknown is passed over.

use crate::refusal::Fault;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::LengthLimitError;
use ravelin_model::Refusal;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest body of any operation.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest that a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(20);

/// The parameters of a request, in their order, decoded.
pub(crate) struct Params(pub(crate) Vec<(String, String)>);

impl Params {
    /// For an operation that takes none.
    pub(crate) fn none(&self) -> Result<(), Refusal> {
        match self.0.first() {
            Some((name, _)) => Err(unknown(name, &[])),
            None => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Params(pairs)),
            Err(rejection) => Err(Refusal::invalid("query", rejection.body_text()).into()),
        }
    }
}

/// A parameter that the operation does not have.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Refusal {
    let because = if known.is_empty() {
        "is unknown, this operation takes no parameters".to_owned()
    } else {
        format!("is unknown, the parameters of this operation are {}", known.join(", "))
    };
    Refusal::invalid(shortened(name), because)
}

/// Puts a value where at most one may be.
pub(crate) fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::invalid(name, "may be given once only")),
    }
}

/// A whole number in a parameter or a header.
pub(crate) fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::invalid(name, format!("must be a whole number, not {:?}", shortened(text))))
}

/// `true` or `false` in a parameter.
pub(crate) fn truth(name: &str, text: &str) -> Result<bool, Refusal> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Refusal::invalid(name, format!("must be true or false, not {:?}", shortened(other)))),
    }
}

/// The one variable segment of a path, decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Segment(segment)),
            Err(rejection) => Err(Refusal::invalid("path", rejection.body_text()).into()),
        }
    }
}

/// A JSON body. An empty one counts as `{}`, so that operations whose members are all optional need none.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let declared = request.headers().get(CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let bytes = whole(request.into_body()).await?;
        let text: &[u8] = if bytes.is_empty() {
            b"{}"
        } else if declared.as_deref().is_some_and(is_json) {
            &bytes
        } else {
            return Err(Fault::NotJson { declared: shortened(&declared.unwrap_or_default()) });
        };
        serde_json::from_slice(text).map(Json).map_err(|error| Fault::Malformed { because: error.to_string() })
    }
}

async fn whole(body: Body) -> Result<bytes::Bytes, Fault> {
    match tokio::time::timeout(BODY_TIME_MAX, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let error = error.into_inner();
            if error.is::<LengthLimitError>() {
                Err(Fault::TooLarge { bytes_max: BODY_BYTES_MAX })
            } else {
                Err(Fault::Malformed { because: "it broke off".to_owned() })
            }
        }
        Err(_elapsed) => Err(Fault::TooSlow { after: BODY_TIME_MAX }),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Untrusted text, cut to what an answer may repeat.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    text.chars().take(CHARS_MAX).collect()
}
