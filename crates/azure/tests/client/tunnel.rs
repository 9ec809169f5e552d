//! The data plane: tokens, the WebSocket, its ends, and what must not show in an error.

use super::{TOKEN, http, serve, tokens};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{delete, get, post};
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ravelin_azure::client::tunnel::{Destination, Ended, TunnelError, Tunnels};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().expect("not poisoned").push(text.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

/// A bastion that gives back what it gets, closes with a reason when it reads `cut`, is gone when it reads `die`,
/// and reads nothing more after `wait`.
fn bastion(seen: &Seen) -> Router {
    Router::new()
        .route("/api/tokens", post(token))
        .route("/webtunnelv2/{token}", get(upgrade))
        .route("/api/tokens/{token}", delete(release))
        .route("/api/connection", post(connection))
        .route("/omni/webtunnel/{token}", get(upgrade))
        .with_state(seen.clone())
}

/// Says that the tunnel is reached where it was asked about.
async fn connection(State(seen): State<Seen>, headers: http::HeaderMap, wish: String) -> String {
    seen.note(wish);
    headers["host"].to_str().expect("a host").to_owned()
}

async fn token(State(seen): State<Seen>, form: String) -> axum::Json<serde_json::Value> {
    seen.note(form);
    axum::Json(json!({ "authToken": "auth-secret", "websocketToken": "socket-secret", "nodeId": "node 1" }))
}

async fn release(State(seen): State<Seen>, request: Request<Body>) -> StatusCode {
    seen.note(format!("DELETE {} {}", request.uri(), request.headers()["x-node-id"].to_str().expect("text")));
    StatusCode::NO_CONTENT
}

async fn upgrade(State(seen): State<Seen>, mut request: Request<Body>) -> Response<Body> {
    seen.note(format!("GET {}", request.uri()));
    assert!(!request.headers().contains_key("authorization"));
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrading.await.expect("upgraded"));
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(bytes) if bytes == "die".as_bytes() => return,
                Message::Binary(bytes) if bytes == "wait".as_bytes() => {
                    socket.send(Message::Binary(bytes)).await.expect("an echo");
                    std::future::pending().await
                }
                Message::Binary(bytes) if bytes == "cut".as_bytes() => {
                    let reason = "disconnected by bob: rotating keys".into();
                    let frame = CloseFrame { code: CloseCode::Policy, reason };
                    socket.close(Some(frame)).await.expect("a close");
                }
                Message::Binary(bytes) => socket.send(Message::Binary(bytes)).await.expect("an echo"),
                _ => {}
            }
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header("connection", "upgrade").header("upgrade", "websocket");
    response.header("sec-websocket-accept", accept).body(Body::empty()).expect("a response")
}

fn destination() -> Destination {
    Destination { resource_id: "/subscriptions/s/vm 1".to_owned(), port: 22, address: None }
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_token_is_given_back() {
    let seen = Seen::default();
    let tunnels = Tunnels::new(http(), serve(bastion(&seen)).await, tokens());
    let tunnel = tunnels.open(&destination()).await.expect("a tunnel");
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(theirs);
    let carrying = tokio::spawn(tunnel.carry(reader, writer));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = tokio::io::split(ours);
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        to.write_all(&sent).await.expect("written");
        to
    });
    let mut got = vec![0; expected.len()];
    from.read_exact(&mut got).await.expect("all of it");
    assert!(got == expected, "bytes differ");
    let mut to = writing.await.expect("no panic");
    to.shutdown().await.expect("closed");
    assert_eq!(carrying.await.expect("no panic"), Ended::Here);
    let form = "resourceId=%2Fsubscriptions%2Fs%2Fvm+1&protocol=tcptunnel&workloadHostPort=22&aztoken=";
    assert_eq!(
        seen.all(),
        [
            format!("{form}{TOKEN}"),
            "GET /webtunnelv2/socket-secret?X-Node-Id=node+1".to_owned(),
            "DELETE /api/tokens/auth-secret node 1".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_host_of_the_developer_sku_is_asked_for_each_tunnels_place() {
    let seen = Seen::default();
    let tunnels = Tunnels::new(http(), serve(bastion(&seen)).await, tokens()).shared("/the/host".to_owned());
    let tunnel = tunnels.open(&destination()).await.expect("a tunnel");
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(theirs);
    let carrying = tokio::spawn(tunnel.carry(reader, writer));
    ours.write_all(b"hello").await.expect("written");
    let mut got = [0; 5];
    ours.read_exact(&mut got).await.expect("an echo");
    assert_eq!(&got, b"hello");
    drop(ours);
    assert_eq!(carrying.await.expect("no panic"), Ended::Here);
    let all = seen.all();
    let wish: serde_json::Value = serde_json::from_str(&all[0]).expect("JSON");
    let wanted = json!({
        "resourceId": "/subscriptions/s/vm 1", "bastionResourceId": "/the/host", "vmPort": 22, "azToken": TOKEN,
        "connectionType": "nativeclient",
    });
    assert_eq!(wish, wanted);
    assert_eq!(all[2..], ["GET /omni/webtunnel/socket-secret", "DELETE /api/tokens/auth-secret node 1"]);

    for strange in ["", "a b", "bastion/path", "me@bastion", "bastion?x=1"] {
        let said = move || async move { strange };
        let router = Router::new().route("/api/connection", post(said));
        let tunnels = Tunnels::new(http(), serve(router).await, tokens()).shared("/the/host".to_owned());
        let error = tunnels.open(&destination()).await.err().expect(strange);
        assert!(matches!(error, TunnelError::Strange(_)), "{strange}: {error:?}");
    }
}

#[tokio::test]
async fn whoever_is_cut_off_is_told_why() {
    let tunnels = Tunnels::new(http(), serve(bastion(&Seen::default())).await, tokens());
    let tunnel = tunnels.open(&destination()).await.expect("a tunnel");
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(theirs);
    ours.write_all(b"cut").await.expect("written");
    let ended = tunnel.carry(reader, writer).await;
    assert_eq!(ended, Ended::There { code: Some(1008), why: "disconnected by bob: rotating keys".to_owned() });
    assert_eq!(ours.read(&mut [0; 1]).await.expect("a clean end"), 0);
}

#[tokio::test]
async fn a_bastion_that_is_gone_is_told_in_plain_words() {
    let tunnels = Tunnels::new(http(), serve(bastion(&Seen::default())).await, tokens());
    let tunnel = tunnels.open(&destination()).await.expect("a tunnel");
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(theirs);
    ours.write_all(b"die").await.expect("written");
    assert_eq!(tunnel.carry(reader, writer).await, Ended::Lost("the bastion broke off the connection".to_owned()));
}

#[tokio::test]
async fn a_bastion_that_takes_nothing_for_long_is_waited_for_and_one_that_says_nothing_is_not() {
    for (pushes, patient) in [(true, true), (false, false)] {
        let tunnels = Tunnels::new(http(), serve(bastion(&Seen::default())).await, tokens());
        let tunnel = tunnels.open(&destination()).await.expect("a tunnel");
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let (reader, writer) = tokio::io::split(theirs);
        let mut carrying = tokio::spawn(tunnel.carry(reader, writer));
        ours.write_all(b"wait").await.expect("written");
        ours.read_exact(&mut [0; 4]).await.expect("an echo");
        let full = async { while ours.write_all(&[7; 64 << 10]).await.is_ok() {} };
        if pushes {
            // More than all buffers on the way hold.
            assert!(tokio::time::timeout(std::time::Duration::from_secs(2), full).await.is_err());
        }
        tokio::time::pause();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(600), &mut carrying).await;
        tokio::time::resume();
        match ended {
            Err(_elapsed) => assert!(patient),
            Ok(ended) => {
                let words = "the bastion was silent for 90 s".to_owned();
                assert_eq!((ended.expect("no panic"), patient), (Ended::Lost(words), false));
            }
        }
        carrying.abort();
    }
}

#[tokio::test]
async fn what_is_on_its_way_when_this_side_closes_still_arrives() {
    let tunnels = Tunnels::new(http(), serve(bastion(&Seen::default())).await, tokens());
    let tunnel = tunnels.open(&destination()).await.expect("a tunnel");
    // Room for a part of the answer only, so that it is still being written when the far end has closed.
    let (ours, theirs) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(theirs);
    let (mut from, mut to) = tokio::io::split(ours);
    let carrying = tokio::spawn(tunnel.carry(reader, writer));
    let sent = vec![7; 20_000];
    to.write_all(&sent).await.expect("written");
    to.shutdown().await.expect("closed");
    let mut got = Vec::new();
    from.read_to_end(&mut got).await.expect("a clean end");
    assert!(got == sent, "{} bytes came back", got.len());
    assert_eq!(carrying.await.expect("no panic"), Ended::Here);
}

#[tokio::test]
async fn refusals_are_told_and_secrets_are_not() {
    let refuse = || async { (StatusCode::FORBIDDEN, axum::Json(json!({ "message": "not shared with you" }))) };
    let tunnels = Tunnels::new(http(), serve(Router::new().route("/api/tokens", post(refuse))).await, tokens());
    let error = tunnels.open(&destination()).await.err().expect("refused");
    assert!(matches!(error, TunnelError::Refused { status: 403, .. }), "{error:?}");
    assert_eq!(error.to_string(), "not shared with you");

    // Tokens, and then nothing that is a WebSocket.
    let only_tokens = Router::new().route("/api/tokens", post(token)).with_state(Seen::default());
    let tunnels = Tunnels::new(http(), serve(only_tokens).await, tokens());
    let error = tunnels.open(&destination()).await.err().expect("no WebSocket");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");

    let halves = || async { axum::Json(json!({ "authToken": "auth-secret", "nodeId": 7 })) };
    let tunnels = Tunnels::new(http(), serve(Router::new().route("/api/tokens", post(halves))).await, tokens());
    let error = tunnels.open(&destination()).await.err().expect("halves of an answer");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_wrong_handshake_is_no_tunnel() {
    async fn wrong() -> Response<Body> {
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response.header("connection", "upgrade").header("upgrade", "websocket");
        response.header("sec-websocket-accept", "bm90IGl0").body(Body::empty()).expect("a response")
    }
    let router = Router::new().route("/api/tokens", post(token)).route("/webtunnelv2/{token}", get(wrong));
    let tunnels = Tunnels::new(http(), serve(router.with_state(Seen::default())).await, tokens());
    let error = tunnels.open(&destination()).await.err().expect("a wrong key");
    assert!(matches!(error, TunnelError::Strange(_)), "{error:?}");
}
