//! One listener, many languages: which edge a request is for.
//!
//! Each edge is a router of its own and never hears of the others. Here stands only how they are told apart, and what
//! holds for all of them: a time limit until the answer begins, and that a panic costs one request.

use super::front;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tower::ServiceExt;

/// The HTTP edges. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) aws: Router,
    pub(crate) azure: Router,
    pub(crate) native: Router,
    pub(crate) front: front::Front,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Aws,
    Azure,
    Native,
    Front,
    Nobody,
}

impl Doors {
    /// Longest time from the end of a request's head to the beginning of its answer; a stream may last longer.
    const ANSWER_MAX: Duration = Duration::from_secs(60);

    /// The answer to a request; never fails and never hangs.
    pub(crate) async fn answer(self, mut request: Request<Body>, peer: SocketAddr, scheme: Scheme) -> Response<Body> {
        complete_head(&mut request);
        let door = door_of(request.method(), request.uri(), request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(scheme);
        let answering = async {
            match door {
                Door::Aws => answer_of(self.aws, request).await,
                Door::Azure => answer_of(self.azure, request).await,
                Door::Native => answer_of(self.native, request).await,
                Door::Front => self.front.page().into_response(),
                Door::Nobody => front::nothing_here(&path),
            }
        };
        // Nothing of a request outlives it but what the edges share behind locks, and those recover from a panic.
        let guarded = AssertUnwindSafe(answering).catch_unwind();
        match tokio::time::timeout(Self::ANSWER_MAX, guarded).await {
            Ok(Ok(response)) => response,
            Ok(Err(_panic)) => {
                tracing::error!(%method, ?door, %peer, "a request ended in a panic");
                neutral(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            }
            Err(_elapsed) => {
                tracing::error!(%method, ?door, %peer, "a request had no answer in time");
                neutral(StatusCode::SERVICE_UNAVAILABLE, "no answer in time, try again later\n")
            }
        }
    }
}

async fn answer_of(router: Router, request: Request<Body>) -> Response<Body> {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn neutral(status: StatusCode, text: &'static str) -> Response<Body> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, [(CONTENT_TYPE, plain)], text).into_response()
}

/// HTTP/2 names the host in the target only; edges look for it where HTTP/1.1 has it, and signatures cover it there.
fn complete_head(request: &mut Request<Body>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

fn door_of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Door {
    let path = uri.path();
    let within = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let signed = headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"))
        || uri.query().is_some_and(|query| query.contains("X-Amz-Algorithm="));
    if headers.contains_key("x-amz-target") || (path == "/" && (signed || *method == Method::POST)) {
        Door::Aws
    } else if within("/api/v1") || path == "/healthz" || path == "/readyz" {
        Door::Native
    } else if ravelin_azure::owns_path(path) {
        Door::Azure
    } else if path == "/" && (*method == Method::GET || *method == Method::HEAD) {
        Door::Front
    } else {
        Door::Nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(method: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Door {
        let headers =
            headers.iter().map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        door_of(&method, &uri.parse().expect("a target"), &headers)
    }

    #[test]
    fn every_language_finds_its_edge() {
        assert_eq!(door("POST", "/", &[("x-amz-target", "AmazonSSM.DescribeSessions")]), Door::Aws);
        assert_eq!(door("POST", "/", &[]), Door::Aws);
        assert_eq!(door("GET", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256", &[]), Door::Aws);
        assert_eq!(door("GET", "/", &[("authorization", "AWS4-HMAC-SHA256 Credential=x")]), Door::Aws);
        assert_eq!(door("GET", "/", &[]), Door::Front);
        assert_eq!(door("GET", "/api/v1/sessions?state=live", &[]), Door::Native);
        assert_eq!(door("GET", "/api/v1", &[]), Door::Native);
        assert_eq!(door("GET", "/healthz", &[]), Door::Native);
        assert_eq!(door("GET", "/api/v10", &[]), Door::Nobody);
        assert_eq!(door("GET", "/favicon.ico", &[]), Door::Nobody);
        let bastion = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/bastionHosts/b";
        assert_eq!(door("GET", bastion, &[]), Door::Azure);
        assert_eq!(door("GET", "//metadata/endpoints?api-version=2022-09-01", &[]), Door::Azure);
    }
}
