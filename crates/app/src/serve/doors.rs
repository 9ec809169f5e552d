//! One listener, many languages: which edge a request is for.
//!
//! Each edge is a router of its own and never hears of the others. Here stands only how they are told apart, and what
//! holds for all of them: a time limit until the answer begins, that a panic costs one request, and that an answer
//! which came before the end of its request can be read.

use super::front;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HOST};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Frame, SizeHint};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
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
    /// Longest time from the end of a request's head to the beginning of its answer; a stream may last longer. More than
    /// the minute for which a client may have the end of a session waited for.
    const ANSWER_MAX: Duration = Duration::from_secs(75);

    /// The answer to a request; never fails and never hangs.
    pub(crate) async fn answer(self, mut request: Request<Body>, peer: SocketAddr, scheme: Scheme) -> Response<Body> {
        complete_head(&mut request);
        let door = door_of(request.method(), request.uri(), request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(scheme);
        let (request, rest) = Rest::watch(request);
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
        let answered = tokio::time::timeout(Self::ANSWER_MAX, guarded).await;
        let all_was_read = rest.read_out().await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(_panic)) => {
                tracing::error!(%method, ?door, %peer, "a request ended in a panic");
                neutral(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            }
            Err(_elapsed) => {
                tracing::error!(%method, ?door, %peer, "a request had no answer in time");
                neutral(StatusCode::SERVICE_UNAVAILABLE, "no answer in time, try again later\n")
            }
        };
        if !all_was_read {
            response.extensions_mut().insert(Unread);
        }
        response
    }
}

/// On an answer whose request was not read to its end: its sender may be in the midst of it.
#[derive(Clone, Copy)]
pub(super) struct Unread;

/// What an edge leaves unread of a request's body.
///
/// Over HTTP/2 a body that is dropped breaks its stream, and a sender in the midst of it may never see the answer; over
/// HTTP/1.1 the connection would be reset. So a bounded rest is read and thrown away before the answer goes out, and if
/// it was more, the answer is marked [`Unread`].
struct Rest {
    left: oneshot::Receiver<Left>,
    /// Whether the sender waits for our word before it sends the body. It gets the word when somebody begins to read.
    waits: bool,
}

impl Rest {
    /// Most that is read, in bytes.
    const BYTES_MAX: usize = 4 << 20;
    /// Longest that it may take.
    const TIME_MAX: Duration = Duration::from_secs(2);

    /// The request, and the hand that catches its body when it falls.
    fn watch(request: Request<Body>) -> (Request<Body>, Self) {
        let waits = request.headers().contains_key(EXPECT) && request.version() < Version::HTTP_2;
        let (leave, left) = oneshot::channel();
        let caught = |body| Body::new(CaughtBody { body, is_begun: false, leave: Some(leave) });
        (request.map(caught), Self { left, waits })
    }

    /// Reads what was left, if the edge has let go of it. Whether there is nothing more to come.
    async fn read_out(mut self) -> bool {
        let Ok(Left { mut body, is_begun }) = self.left.try_recv() else { return true };
        if self.waits && !is_begun {
            return true;
        }
        let reading = async {
            let mut bytes = 0;
            while !body.is_end_stream() && bytes <= Self::BYTES_MAX {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                    // Its sender gave up, and may still read.
                    Some(Err(_)) | None => return true,
                }
            }
            body.is_end_stream()
        };
        tokio::time::timeout(Self::TIME_MAX, reading).await.unwrap_or(false)
    }
}

/// A body that was dropped before its end, and whether anybody had begun to read it.
struct Left {
    body: Body,
    is_begun: bool,
}

/// A body that is not lost when it is dropped.
struct CaughtBody {
    body: Body,
    is_begun: bool,
    leave: Option<oneshot::Sender<Left>>,
}

impl Drop for CaughtBody {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take()
            && !self.body.is_end_stream()
        {
            // Nobody waits for it when the answer was there first.
            let _late = leave.send(Left { body: std::mem::take(&mut self.body), is_begun: self.is_begun });
        }
    }
}

impl hyper::body::Body for CaughtBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.is_begun = true;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            this.leave = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
    if headers.contains_key("x-amz-target")
        || (path == "/" && (signed || *method == Method::POST))
        || ravelin_aws::owns_path(path)
    {
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
    use futures_util::StreamExt;

    fn door(method: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Door {
        let headers =
            headers.iter().map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        door_of(&method, &uri.parse().expect("a target"), &headers)
    }

    #[tokio::test]
    async fn an_answer_before_the_end_of_a_request_waits_for_a_bounded_rest() {
        use axum::routing::post;
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        const PIECE: usize = 64 << 10;
        let refuse = post(|| async { StatusCode::UNAUTHORIZED });
        let native = Router::new().route("/api/v1/sessions", refuse);
        let doors = Doors { aws: Router::new(), azure: Router::new(), native, front: front::Front::new(22) };
        for (pieces, read) in [(3, 3), (1 << 20, Rest::BYTES_MAX / PIECE + 1)] {
            let sent = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&sent);
            let body = futures_util::stream::iter(0..pieces).map(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::io::Error>(vec![0; PIECE])
            });
            let request = Request::post("/api/v1/sessions").body(Body::from_stream(body)).expect("a request");
            let peer = "192.0.2.1:1".parse().expect("an address");
            let response = doors.clone().answer(request, peer, Scheme::HTTPS).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(sent.load(Ordering::Relaxed), read);
        }
    }

    #[test]
    fn every_language_finds_its_edge() {
        assert_eq!(door("POST", "/", &[("x-amz-target", "AmazonSSM.DescribeSessions")]), Door::Aws);
        assert_eq!(door("POST", "/", &[]), Door::Aws);
        assert_eq!(door("GET", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256", &[]), Door::Aws);
        assert_eq!(door("GET", "/", &[("authorization", "AWS4-HMAC-SHA256 Credential=x")]), Door::Aws);
        assert_eq!(door("GET", "/v1/data-channel/alice-07a16060613c408b5?role=publish_subscribe", &[]), Door::Aws);
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
