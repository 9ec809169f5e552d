//! Tunnels over real sockets: an independent WebSocket client, a real TCP target, and what becomes of the session.

use crate::world::{HOST, SUBSCRIPTION, World, named, request, rules_with};
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::{SinkExt, StreamExt};
use http::uri::Scheme;
use http::{Method, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ravelin_azure::target_id;
use ravelin_engine::egress::Egress;
use ravelin_engine::leg::guard;
use ravelin_model::credential::CredentialKind;
use ravelin_model::session::EndReason;
use ravelin_model::target::Protocol;
use ravelin_model::{Session, SessionId, Target};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tower::ServiceExt;

type Socket = WebSocketStream<TcpStream>;

/// A target that sends back what it gets, and ends when told `bye`.
async fn echo() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    if &buffer[..n] == b"bye" || stream.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, serving)
}

fn target_at(name: &str, address: SocketAddr, protocol: Protocol) -> Target {
    let mut target = named(name, &address.ip().to_string(), None);
    target.port = address.port();
    target.protocol = protocol;
    target.aliases.insert(ravelin_azure::ALIAS.to_owned(), target_id(SUBSCRIPTION, "rg1", name));
    target
}

/// A world with one echoing target and a listener in front of its router.
struct Tunnels {
    world: World,
    door: SocketAddr,
    port: u16,
    bearer: String,
}

struct Tokens {
    auth: String,
    websocket: String,
}

impl Tunnels {
    async fn new() -> Self {
        let (address, _serving) = echo().await;
        let world = World::reaching(vec![target_at("app", address, Protocol::Tcp)], Egress::default()).await;
        Self::before(world, address.port()).await
    }

    async fn before(world: World, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let door = listener.local_addr().expect("a bound address");
        let router = world.router.clone();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (stream, handle) = guard(stream);
                let router = router.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (router, handle) = (router.clone(), handle.clone());
                    async move {
                        let mut request = request.map(Body::new);
                        request.extensions_mut().insert(ConnectInfo(peer));
                        request.extensions_mut().insert(Scheme::HTTP);
                        request.extensions_mut().insert(handle);
                        router.oneshot(request).await
                    }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving.with_upgrades());
            }
        });
        let bearer = world.bearer("bob").await;
        Self { world, door, port, bearer }
    }

    async fn wish(&self, bearer: &str, resource: &str, port: u16) -> (StatusCode, Value) {
        let form = format!(
            "resourceId={}&protocol=tcptunnel&workloadHostPort={port}&aztoken={bearer}&token=",
            resource.replace('/', "%2F")
        );
        let answer = self.world.send(request(Method::POST, "/api/tokens", None, &form)).await;
        (answer.status, answer.body)
    }

    async fn tokens(&self) -> Tokens {
        let (status, body) = self.wish(&self.bearer, &target_id(SUBSCRIPTION, "rg1", "app"), self.port).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name}: {body}")).to_owned();
        assert!(!text("nodeId").is_empty() && text("username") == "bob" && text("dataSource") == "default", "{body}");
        Tokens { auth: text("authToken"), websocket: text("websocketToken") }
    }

    async fn open(&self, path: &str) -> Result<Socket, (StatusCode, String)> {
        let stream = TcpStream::connect(self.door).await.expect("it listens");
        match tokio_tungstenite::client_async(format!("ws://{}{path}", self.door), stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status(), String::from_utf8(body).expect("text")))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A tunnel by the newer path, with a byte gone through it, and its session.
    async fn tunnel(&self) -> (Socket, Tokens, SessionId) {
        let before = self.ids().await;
        let tokens = self.tokens().await;
        let path = format!("/webtunnelv2/{}?X-Node-Id=n", tokens.websocket);
        let mut socket = self.open(&path).await.expect("it opens");
        assert_eq!(ask(&mut socket, b"x").await, b"x");
        let id = self.ids().await.into_iter().find(|id| !before.contains(id)).expect("the new session is listed");
        (socket, tokens, SessionId::parse(&id).expect("an id"))
    }

    async fn ids(&self) -> Vec<String> {
        let list = self.world.list(&self.bearer).await;
        list.iter().map(|item| item["sessionId"].as_str().expect("an id").to_owned()).collect()
    }

    async fn delete(&self, token: &str) -> StatusCode {
        self.world.send(request(Method::DELETE, &format!("/api/tokens/{token}"), None, "")).await.status
    }

    async fn ended(&self, id: &SessionId) -> Session {
        for _ in 0..2000 {
            let session = self.world.session(id).await;
            if session.state().is_final() {
                return session;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} does not end");
    }

    async fn reason(&self, id: &SessionId) -> EndReason {
        self.ended(id).await.ending().expect("it has ended").reason
    }
}

/// Sends bytes and reads as many back.
async fn ask(socket: &mut Socket, bytes: &[u8]) -> Vec<u8> {
    socket.send(Message::Binary(bytes.to_vec().into())).await.expect("it takes bytes");
    let mut back = Vec::new();
    while back.len() < bytes.len() {
        match socket.next().await.expect("it goes on").expect("a message") {
            Message::Binary(bytes) => {
                assert!(!bytes.is_empty(), "an empty message ends the service's own client");
                back.extend_from_slice(&bytes);
            }
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    back
}

/// The close frame's code and words, or `None` when the socket just ended.
async fn farewell(socket: &mut Socket) -> Option<(CloseCode, String)> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| (frame.code, frame.reason.to_string())),
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test]
async fn a_tunnel_carries_bytes_and_is_one_session() {
    let tunnels = Tunnels::new().await;
    assert!(tunnels.ids().await.is_empty(), "a token is no session yet");
    let (mut socket, tokens, id) = tunnels.tunnel().await;
    let list = tunnels.world.list(&tunnels.bearer).await;
    assert_eq!((list[0]["protocol"].as_str(), list[0]["userName"].as_str()), (Some("TCP"), Some("bob")));
    assert_eq!(list[0]["targetResourceId"], target_id(SUBSCRIPTION, "rg1", "app"));
    assert_ne!(list[0]["sessionId"], tokens.auth, "an id is not a key");
    let big: Vec<u8> = (0..600_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(ask(&mut socket, &big).await == big, "bytes differ");
    socket.close(None).await.expect("it closes");
    let session = tunnels.ended(&id).await;
    assert_eq!(session.ending().expect("ended").reason, EndReason::ClientClosed);
    assert_eq!((session.activity.bytes_in, session.activity.bytes_out), (600_001, 600_001));
    assert_eq!(
        session.draft.client_address.ip(),
        tunnels.door.ip(),
        "as the socket came, not as the token was asked for"
    );
    assert_eq!(tunnels.delete(&tokens.auth).await, StatusCode::NOT_FOUND, "and its token is forgotten");
}

#[tokio::test]
async fn a_token_opens_one_socket_once() {
    let tunnels = Tunnels::new().await;
    let tokens = tunnels.tokens().await;
    for path in ["/webtunnel/", "/webtunnelv2/", "/omni/webtunnel/"] {
        let (status, text) = tunnels.open(&format!("{path}unknown")).await.expect_err("unknown");
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let body: Value = serde_json::from_str(&text).expect("JSON");
        assert!(body["message"].as_str().is_some_and(|text| text.contains("opens nothing")), "{body}");
        assert!(body.get("error").is_none(), "the data plane has its own shape");
    }
    let other = format!("/webtunnelv2/{}", tokens.auth);
    assert_eq!(tunnels.open(&other).await.expect_err("the other token").0, StatusCode::UNAUTHORIZED);
    // What is no WebSocket does not use it up.
    let path = format!("/webtunnelv2/{}", tokens.websocket);
    let plain = tunnels.world.send(request(Method::GET, &path, None, "")).await;
    assert_eq!(plain.status, StatusCode::UPGRADE_REQUIRED, "{}", plain.body);
    let _socket = tunnels.open(&path).await.expect("the first time");
    for again in [path, format!("/webtunnel/{}", tokens.auth)] {
        assert_eq!(tunnels.open(&again).await.expect_err("used").0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_token_is_its_makers_whoever_brings_it() {
    let tunnels = Tunnels::new().await;
    let tokens = tunnels.tokens().await;
    // Another deployment, and another node, never heard of it.
    let elsewhere = Tunnels::new().await;
    for path in [format!("/webtunnelv2/{}", tokens.websocket), format!("/webtunnel/{}", tokens.auth)] {
        assert_eq!(elsewhere.open(&path).await.expect_err("another's").0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(elsewhere.delete(&tokens.auth).await, StatusCode::NOT_FOUND);
    // A proof beside it makes nobody else of whom it was given out to.
    let alice = tunnels.world.bearer("alice").await;
    let mut request =
        format!("ws://{}/webtunnelv2/{}", tunnels.door, tokens.websocket).into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {alice}").parse().expect("a header"));
    let stream = TcpStream::connect(tunnels.door).await.expect("it listens");
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("it opens");
    assert_eq!(ask(&mut socket, b"x").await, b"x");
    let list = tunnels.world.list(&alice).await;
    assert_eq!((list.len(), list[0]["userName"].as_str()), (1, Some("bob")));
    // What everybody may see of a session ends nothing.
    let id = list[0]["sessionId"].as_str().expect("an id").to_owned();
    assert_eq!(tunnels.delete(&id).await, StatusCode::NOT_FOUND);
    assert_eq!(ask(&mut socket, b"y").await, b"y");
}

#[tokio::test]
async fn older_clients_and_those_of_the_developer_sku_open_tunnels_too() {
    let tunnels = Tunnels::new().await;
    let tokens = tunnels.tokens().await;
    let mut socket = tunnels.open(&format!("/webtunnel/{}", tokens.auth)).await.expect("the older path");
    assert_eq!(ask(&mut socket, b"older").await, b"older");
    // The next connection of such a client names the token of the one before, which goes on.
    let form = format!(
        "resourceId={}&protocol=tcptunnel&workloadHostPort={}&aztoken={}&token={}",
        target_id(SUBSCRIPTION, "rg1", "app"),
        tunnels.port,
        tunnels.bearer,
        tokens.auth
    );
    let mut continued = request(Method::POST, "/api/tokens", None, &form);
    continued.headers_mut().insert("x-node-id", http::HeaderValue::from_static("n"));
    let next = tunnels.world.send(continued).await.body;
    let auth = next["authToken"].as_str().unwrap_or_else(|| panic!("{next}")).to_owned();
    let mut second = tunnels.open(&format!("/webtunnel/{auth}")).await.expect("the older path again");
    assert_eq!(tunnels.delete(&auth).await, StatusCode::NO_CONTENT);
    assert!(farewell(&mut second).await.is_some());
    assert_eq!(ask(&mut socket, b"still").await, b"still", "each token is one tunnel's");
    let wish = json!({
        "resourceId": target_id(SUBSCRIPTION, "rg1", "app"), "bastionResourceId": "b", "vmPort": tunnels.port,
        "azToken": tunnels.bearer, "connectionType": "nativeclient",
    });
    let body = Body::from(wish.to_string());
    let post = http::Request::post("/api/connection").header("host", HOST).body(body).expect("a request");
    let mut post = post;
    post.extensions_mut().insert(ConnectInfo(tunnels.door));
    post.extensions_mut().insert(Scheme::HTTPS);
    let answer = tunnels.world.router.clone().oneshot(post).await.expect("it answers");
    let text = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body").to_bytes();
    assert_eq!(text, HOST.as_bytes(), "the whole text is the host");
    let tokens = tunnels.tokens().await;
    let mut socket = tunnels.open(&format!("/omni/webtunnel/{}", tokens.websocket)).await.expect("the third path");
    assert_eq!(ask(&mut socket, b"omni").await, b"omni");
}

#[tokio::test]
async fn a_cut_closes_both_sides_and_leaves_the_siblings() {
    let tunnels = Tunnels::new().await;
    let (mut first, _, first_id) = tunnels.tunnel().await;
    let (mut second, _, second_id) = tunnels.tunnel().await;
    let alice = tunnels.world.bearer("alice").await;
    let body = json!([first_id.as_str()]).to_string();
    let answer = tunnels.world.post(&alice, "/disconnectActiveSessions", &body).await;
    assert_eq!(answer.body["value"][0]["state"], "Disconnected");
    let session = tunnels.world.session(&first_id).await;
    assert!(session.state().is_final(), "the answer comes when both sockets are closed");
    if let Some((code, words)) = farewell(&mut first).await {
        assert_eq!(code, CloseCode::Policy);
        assert!(words.starts_with("disconnected by alice"), "{words}");
    }
    assert_eq!(ask(&mut second, b"still here").await, b"still here");
    assert_eq!(tunnels.ids().await, [second_id.as_str()]);
    assert_eq!(tunnels.reason(&first_id).await, EndReason::DisconnectedByOperator);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_all_the_same_and_fills_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let poured = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&poured);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        while let Ok(n @ 1..) = stream.write(&[7; 64 << 10]).await {
            counted.fetch_add(n, Ordering::SeqCst);
        }
    });
    let world = World::reaching(vec![target_at("app", address, Protocol::Tcp)], Egress::default()).await;
    let tunnels = Tunnels::before(world, address.port()).await;
    let tokens = tunnels.tokens().await;
    let _socket = tunnels.open(&format!("/webtunnelv2/{}", tokens.websocket)).await.expect("it opens");
    // It pours until nobody takes any more: the sockets' buffers and a few messages.
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = poured.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    assert!(before < 32 << 20, "{before} bytes are held");
    let id = tunnels.ids().await.remove(0);
    let alice = tunnels.world.bearer("alice").await;
    let answer = tunnels.world.post(&alice, "/disconnectActiveSessions", &json!([id]).to_string()).await;
    assert_eq!(answer.body["value"][0]["state"], "Disconnected", "{}", answer.body);
}

#[tokio::test]
async fn deleting_a_token_ends_its_own_tunnel_only() {
    let tunnels = Tunnels::new().await;
    let (mut first, tokens, first_id) = tunnels.tunnel().await;
    let (mut second, _, _) = tunnels.tunnel().await;
    assert_eq!(tunnels.delete("unknown").await, StatusCode::NOT_FOUND);
    assert_eq!(tunnels.delete(&tokens.websocket).await, StatusCode::NOT_FOUND, "the other secret");
    assert_eq!(tunnels.delete(&tokens.auth).await, StatusCode::NO_CONTENT);
    let (code, words) = farewell(&mut first).await.expect("a close frame");
    assert_eq!((code, words.as_str()), (CloseCode::Normal, "the client deleted its token"));
    assert_eq!(tunnels.reason(&first_id).await, EndReason::ClientClosed);
    assert_eq!(ask(&mut second, b"y").await, b"y");
    // One that waits can be deleted too, and opens nothing then.
    let waiting = tunnels.tokens().await;
    assert_eq!(tunnels.delete(&waiting.auth).await, StatusCode::NO_CONTENT);
    let path = format!("/webtunnelv2/{}", waiting.websocket);
    assert_eq!(tunnels.open(&path).await.expect_err("deleted").0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn each_end_of_a_tunnel_says_why() {
    let tunnels = Tunnels::new().await;
    // The target's end.
    let (mut socket, _, id) = tunnels.tunnel().await;
    socket.send(Message::Binary(b"bye"[..].into())).await.expect("it takes bytes");
    let said = farewell(&mut socket).await.expect("a close frame");
    assert_eq!(said, (CloseCode::Normal, "the target closed the connection".to_owned()));
    assert_eq!(tunnels.reason(&id).await, EndReason::TargetClosed);
    // A client that vanishes.
    let (socket, _, id) = tunnels.tunnel().await;
    drop(socket);
    assert_eq!(tunnels.reason(&id).await, EndReason::ClientClosed);
    // A client that sends what it must not.
    let (mut socket, _, id) = tunnels.tunnel().await;
    socket.send(Message::Text("hello".into())).await.expect("it takes bytes");
    assert_eq!(farewell(&mut socket).await.expect("a close frame").0, CloseCode::Unsupported);
    assert_eq!(tunnels.reason(&id).await, EndReason::ProtocolError);
    // A client that sends too much at once.
    let (mut socket, _, id) = tunnels.tunnel().await;
    let _may_break_off = socket.send(Message::Binary(vec![0; (1 << 20) + 1].into())).await;
    assert!(tunnels.ended(&id).await.activity.bytes_in < 1 << 20);
    // Empty messages are nothing.
    let (mut socket, _, _) = tunnels.tunnel().await;
    socket.send(Message::Binary(Vec::new().into())).await.expect("it takes bytes");
    assert_eq!(ask(&mut socket, b"z").await, b"z");
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_named_in_the_close_frame() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let world = World::reaching(vec![target_at("app", gone, Protocol::Tcp)], Egress::default()).await;
    let tunnels = Tunnels::before(world, gone.port()).await;
    let tokens = tunnels.tokens().await;
    let mut socket = tunnels.open(&format!("/webtunnelv2/{}", tokens.websocket)).await.expect("it opens");
    let (code, words) = farewell(&mut socket).await.expect("a close frame");
    assert_eq!(code, CloseCode::Error);
    assert!(words.starts_with("cannot reach app: "), "{words}");
    let id = tunnels.ids().await.into_iter().next();
    if let Some(id) = id {
        let session = tunnels.ended(&SessionId::parse(&id).expect("an id")).await;
        assert_eq!(session.ending().expect("ended").reason, EndReason::TargetUnreachable);
    }
    assert!(tunnels.ids().await.is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_before_the_target_answers_leaves_nothing_behind() {
    // A target whose backlog is full: it takes seconds to say no.
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    listener.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let _listener = listener.listen(0).expect("it listens");
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let world = World::reaching(vec![target_at("app", address, Protocol::Tcp)], Egress::default()).await;
    let tunnels = Tunnels::before(world, address.port()).await;
    let tokens = tunnels.tokens().await;
    let socket = tunnels.open(&format!("/webtunnelv2/{}", tokens.websocket)).await.expect("it opens");
    let id = SessionId::parse(&tunnels.ids().await[0]).expect("an id");
    let begun = std::time::Instant::now();
    drop(socket);
    assert_eq!(tunnels.reason(&id).await, EndReason::ClientClosed);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_was_granted_is_asked_about_again_when_the_socket_opens() {
    let tunnels = Tunnels::new().await;
    // A credential that was revoked in between.
    let (id, secret) = tunnels.world.credential("bob", CredentialKind::ClientSecret).await;
    let bearer = tunnels.world.bearer_for(&id, &secret).await;
    let (status, body) = tunnels.wish(&bearer, &target_id(SUBSCRIPTION, "rg1", "app"), tunnels.port).await;
    assert_eq!(status, StatusCode::OK);
    tunnels.world.revoke(&id).await;
    let path = format!("/webtunnelv2/{}", body["websocketToken"].as_str().expect("a token"));
    assert_eq!(tunnels.open(&path).await.expect_err("revoked").0, StatusCode::UNAUTHORIZED);
    // A target that is not shared any more, while a tunnel to it is open and another one waits.
    let (mut socket, _, id) = tunnels.tunnel().await;
    let waiting = tunnels.tokens().await;
    let mut target = target_at("app", SocketAddr::from(([127, 0, 0, 1], tunnels.port)), Protocol::Tcp);
    target.shared_with.clear();
    tunnels.world.engine.reload(rules_with(vec![target], Egress::default())).await.expect("reloaded");
    let refused = tunnels.open(&format!("/webtunnelv2/{}", waiting.websocket)).await.expect_err("no rights");
    assert_eq!(refused.0, StatusCode::NOT_FOUND);
    assert_eq!(tunnels.reason(&id).await, EndReason::RightsRevoked);
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
}

#[tokio::test]
async fn wishes_are_refused_by_a_message() {
    let tunnels = Tunnels::new().await;
    let vm = target_id(SUBSCRIPTION, "rg1", "app");
    let refused = async |bearer: &str, resource: &str, port: u16| {
        let (status, body) = tunnels.wish(bearer, resource, port).await;
        let message = body["message"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
        assert_eq!(body.as_object().expect("an object").len(), 1, "{body}");
        (status.as_u16(), message)
    };
    let eve = tunnels.world.bearer("eve").await;
    let audrey = tunnels.world.bearer("audrey").await;
    assert_eq!(refused("e30.e30.e30", &vm, tunnels.port).await.0, 401);
    for bearer in [&eve, &audrey] {
        let unseen = refused(bearer, &vm, tunnels.port).await;
        let unknown = refused(bearer, &target_id(SUBSCRIPTION, "rg1", "nothing"), tunnels.port).await;
        assert_eq!((unseen.0, unseen.1.replace("app", "nothing")), unknown, "not to be told apart");
    }
    let (status, message) = refused(&tunnels.bearer, &vm, 9).await;
    assert!(status == 400 && message.contains("has no target on port 9"), "{status} {message}");
    let address =
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network/bh-hostConnect/10.9.9.9");
    assert_eq!(refused(&tunnels.bearer, &address, 22).await.0, 404, "no network is open");
    let answer = tunnels.world.send(request(Method::GET, "/api/tokens", None, "")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let huge = "a".repeat(70_000);
    let answer = tunnels.world.send(request(Method::POST, "/api/tokens", None, &huge)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_address_is_reached_where_the_rules_open_it_and_is_a_session_like_any() {
    let (address, _serving) = echo().await;
    // Loopback stays closed whatever the networks are; a target of the inventory at that address is found by it.
    let egress = Egress {
        networks: vec!["0.0.0.0/0".parse().expect("a network")],
        ports: [22, address.port()].into(),
        shared_with: [ravelin_model::GroupName::parse("web").expect("a group")].into(),
    };
    let world = World::reaching(Vec::new(), egress.clone()).await;
    let tunnels = Tunnels::before(world, address.port()).await;
    let by_address = |ip: &str| {
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network/bh-hostConnect/{ip}")
    };
    for never in ["127.0.0.1", "169.254.169.254", "::1", "::ffff:169.254.169.254"] {
        let (status, body) = tunnels.wish(&tunnels.bearer, &by_address(never), address.port()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{never}: {body}");
    }
    let (status, body) = tunnels.wish(&tunnels.bearer, &by_address("192.0.2.77"), 22).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (status, _) = tunnels.wish(&tunnels.bearer, &by_address("192.0.2.77"), 23).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "another port");
    let eve = tunnels.world.bearer("eve").await;
    assert_eq!(tunnels.wish(&eve, &by_address("192.0.2.77"), 22).await.0, StatusCode::NOT_FOUND, "not shared with her");
    let host = tunnels.world.send(request(
        Method::GET,
        &format!("{}?api-version=2024-05-01", crate::world::host_path("")),
        Some(&tunnels.bearer),
        "",
    ));
    let host = host.await.body;
    assert_eq!(
        (&host["properties"]["enableIpConnect"], &host["properties"]["enableTunneling"]),
        (&json!(true), &json!(true))
    );

    let world = World::reaching(vec![target_at("app", address, Protocol::Ssh)], egress).await;
    let tunnels = Tunnels::before(world, address.port()).await;
    let (status, body) = tunnels.wish(&tunnels.bearer, &by_address("127.0.0.1"), address.port()).await;
    assert_eq!(status, StatusCode::OK, "the inventory's own target: {body}");
    let path = format!("/webtunnelv2/{}", body["websocketToken"].as_str().expect("a token"));
    let mut socket = tunnels.open(&path).await.expect("it opens");
    assert_eq!(ask(&mut socket, b"hi").await, b"hi");
    assert_eq!(tunnels.world.list(&tunnels.bearer).await[0]["protocol"], "SSH");
    // The usual port of a protocol means the target, whatever port it has.
    let (status, _) = tunnels.wish(&tunnels.bearer, &target_id(SUBSCRIPTION, "rg1", "app"), 22).await;
    assert_eq!(status, StatusCode::OK);
}
