//! The client's end of a data channel as a machine: handshake, kinds of sessions, what arrives in words of a client.
//!
//! It stands on [`super::delivery`], which cares for order and loss. It knows no socket, no clock and no terminal.
//! A server that speaks before it has shaken hands is taken for a shell, as the vendor's plugin takes it.
//!
//! Source: `src/datachannel/streaming.go` of `aws/session-manager-plugin` (1.2.677), read 2026-11.

use super::channel::{self, Flag};
use super::delivery::{self, Delivery, End, Epoch, Handled, Ignored, Limits, NotSent, Transmit};
use super::message::PayloadType;
use crate::wire::data_channel as wire;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What this end calls itself: the level of the vendor's plugin whose wire it speaks. Servers and the aws CLI choose
/// what they do by it.
pub const CLIENT_VERSION: &str = "1.2.896.0";
/// How long a server may take from the first connection to the end of the handshake.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// Bytes in one payload to a server that says nothing about it. AWS's own clients send as many.
const CHUNK_BYTES: usize = 1024;
/// Most bytes in one payload, whatever the server takes.
const CHUNK_BYTES_MAX: usize = 60 * 1024;
/// Servers after this version speak smux.
const MUX_AFTER: [u64; 4] = [3, 0, 196, 0];

/// What a session is, as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A shell, or a command with a terminal.
    Shell,
    /// A command without a terminal.
    Command,
    /// One stream, for `ssh` or whatever else speaks on standard input and output.
    Stream,
    /// A listener at the client's side.
    Forward {
        /// Whether connections come in one smux stream; else one at a time, bare.
        mux: bool,
        /// The port to listen on; 0 picks one.
        port: u16,
        /// The socket to listen on in place of a port.
        socket: Option<String>,
    },
}

/// A session that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// What it is.
    pub kind: Kind,
    /// What the server wants printed; empty for nothing.
    pub message: String,
    /// Whether the server is a Ravelin, which knows the end of input and one-sided ends of connections.
    pub ravelin: bool,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The session begins.
    Begun(Begun),
    /// Bytes of the stream.
    Output(Bytes),
    /// Bytes of the stream of errors.
    Errors(Bytes),
    /// The program ended so.
    Exit(i64),
    /// A connection behind the listener could not be made at the far side.
    PortRefused,
    /// The server's last word; empty when there is nothing to say.
    Closed(String),
    /// The server does not speak this protocol, or asks for what this client cannot do.
    Broken(String),
}

/// Data is what people see: only its size is shown.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Begun(begun) => write!(f, "Begun({begun:?})"),
            Event::Output(bytes) => write!(f, "Output({} bytes)", bytes.len()),
            Event::Errors(bytes) => write!(f, "Errors({} bytes)", bytes.len()),
            Event::Exit(code) => write!(f, "Exit({code})"),
            Event::PortRefused => f.write_str("PortRefused"),
            Event::Closed(text) => write!(f, "Closed({text:?})"),
            Event::Broken(text) => write!(f, "Broken({text:?})"),
        }
    }
}

#[derive(Debug)]
enum Phase {
    /// Nothing is known of the session.
    Unknown,
    /// The server has asked; the session begins when it says so. `Err` is what could not be done.
    Agreed(Result<Kind, String>),
    /// The session goes on.
    Begun,
    /// Nothing that comes counts any more.
    Over,
}

/// The machine; see the module.
#[derive(Debug)]
pub struct Client {
    delivery: Delivery,
    phase: Phase,
    /// When the handshake must be done; while there is a connection, and the session has not begun.
    by: Option<Instant>,
    chunk: usize,
    ravelin: bool,
    events: VecDeque<Event>,
}

impl Client {
    /// A machine without a connection. `seed` is random.
    #[must_use]
    pub fn new(limits: Limits, epoch: Epoch, seed: Uuid) -> Self {
        Self {
            delivery: Delivery::new(End::Client, limits, epoch, seed),
            phase: Phase::Unknown,
            by: None,
            chunk: CHUNK_BYTES,
            ravelin: false,
            events: VecDeque::new(),
        }
    }

    /// See [`Delivery::attach`].
    pub fn attach(&mut self, now: Instant) {
        self.by = match &self.phase {
            Phase::Unknown | Phase::Agreed(_) => Some(now + HANDSHAKE_MAX),
            Phase::Begun | Phase::Over => None,
        };
        self.delivery.attach(now);
    }

    /// See [`Delivery::detach`].
    pub fn detach(&mut self) {
        self.by = None;
        self.delivery.detach();
    }

    /// See [`Delivery::handle`].
    ///
    /// # Errors
    /// [`Ignored`].
    pub fn handle(&mut self, bytes: &Bytes, now: Instant) -> Result<Handled, Ignored> {
        self.delivery.handle(bytes, now)
    }

    /// See [`Delivery::handle_pong`].
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.delivery.handle_pong(payload, now);
    }

    /// See [`Delivery::poll_transmit`].
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.delivery.poll_transmit(now)
    }

    /// See [`Delivery::poll_timeout`]. [`Client::poll_event`] is to be polled then, too.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.delivery.poll_timeout(), self.by].into_iter().flatten().min()
    }

    /// See [`Delivery::wants_read`].
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.delivery.wants_read()
    }

    /// See [`Delivery::owed_since`].
    #[must_use]
    pub fn owed_since(&self) -> Option<Instant> {
        self.delivery.owed_since()
    }

    /// Whether the server has everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.delivery.is_drained()
    }

    /// How many bytes [`Client::send`] takes now: a whole message's, or 0. Also 0 before the session begins.
    ///
    /// Never less than a whole message's: whoever fills each small gap that an acknowledgement leaves sends small
    /// messages from then on, because small ones are acknowledged too ("silly window syndrome", RFC 9293, 3.8.6.2.1).
    #[must_use]
    pub fn room(&self) -> usize {
        match self.phase {
            Phase::Begun if self.delivery.room() >= self.chunk => self.chunk,
            Phase::Begun | Phase::Unknown | Phase::Agreed(_) | Phase::Over => 0,
        }
    }

    /// Sends bytes of the stream, at most [`Client::room`].
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn send(&mut self, bytes: Bytes, now: Instant) -> Result<(), NotSent> {
        self.delivery.send(PayloadType::Output, bytes, now)
    }

    /// Sends the terminal's size.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn resize(&mut self, columns: u32, rows: u32, now: Instant) -> Result<(), NotSent> {
        self.delivery.send(PayloadType::Size, channel::encode(&wire::SizeData { cols: columns, rows }), now)
    }

    /// Sends a flag.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn flag(&mut self, flag: Flag, now: Instant) -> Result<(), NotSent> {
        self.delivery.send(PayloadType::Flag, flag.encode(), now)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.delivery.poll_event() {
                Some(delivery::Event::Data { payload_type, payload }) => self.take(payload_type, payload, now),
                Some(delivery::Event::Closed(closed)) => {
                    (self.phase, self.by) = (Phase::Over, None);
                    return Some(Event::Closed(closed.output));
                }
                Some(delivery::Event::Publication(_)) => {}
                None if self.by.is_some_and(|by| by <= now) => {
                    let because = match std::mem::replace(&mut self.phase, Phase::Over) {
                        Phase::Agreed(Err(cannot)) => cannot,
                        Phase::Unknown | Phase::Agreed(Ok(_)) | Phase::Begun | Phase::Over => {
                            format!("the server did not begin the session within {} s", HANDSHAKE_MAX.as_secs())
                        }
                    };
                    self.by = None;
                    return Some(Event::Broken(because));
                }
                None => return None,
            }
        }
    }

    fn take(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match payload_type {
            PayloadType::HandshakeRequest => self.shake(&payload, now),
            PayloadType::HandshakeComplete => match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Agreed(Ok(kind)) => match channel::handshake_complete(&payload) {
                    Ok(complete) => self.begin(kind, complete.customer_message),
                    Err(error) => self.broken(error.to_string()),
                },
                Phase::Agreed(Err(cannot)) => self.broken(cannot),
                // A completion without a request says nothing about what begins.
                Phase::Unknown => self.begin(Kind::Shell, String::new()),
                Phase::Begun | Phase::Over => self.broken("the server began the session twice".to_owned()),
            },
            PayloadType::Output => self.session(Event::Output(payload)),
            PayloadType::StdErr => self.session(Event::Errors(payload)),
            PayloadType::ExitCode => match channel::exit_code(&payload) {
                Ok(code) => self.session(Event::Exit(code)),
                Err(error) => tracing::debug!(%error, "an exit code was passed over"),
            },
            PayloadType::Flag => match Flag::decode(&payload) {
                Ok(Flag::ConnectToPortError) => self.session(Event::PortRefused),
                Ok(Flag::DisconnectToPort | Flag::TerminateSession | Flag::EndOfInput) | Err(_) => {
                    tracing::debug!("a flag was passed over");
                }
            },
            PayloadType::Unset
            | PayloadType::Error
            | PayloadType::Size
            | PayloadType::Parameter
            | PayloadType::HandshakeResponse
            | PayloadType::EncChallengeRequest
            | PayloadType::EncChallengeResponse
            | PayloadType::Other(_) => tracing::debug!(?payload_type, "a payload was passed over"),
        }
    }

    /// Something of a session that goes on, or that begins with it.
    fn session(&mut self, event: Event) {
        match &self.phase {
            Phase::Unknown => self.begin(Kind::Shell, String::new()),
            Phase::Agreed(_) => return self.broken("the server sent data before the session began".to_owned()),
            Phase::Begun | Phase::Over => {}
        }
        self.events.push_back(event);
    }

    fn begin(&mut self, kind: Kind, message: String) {
        (self.phase, self.by) = (Phase::Begun, None);
        self.events.push_back(Event::Begun(Begun { kind, message, ravelin: self.ravelin }));
    }

    /// Answers what the server asks for, once.
    fn shake(&mut self, payload: &[u8], now: Instant) {
        if !matches!(self.phase, Phase::Unknown) {
            return self.broken("the server began a second handshake".to_owned());
        }
        let request = match channel::handshake_request(payload) {
            Ok(request) => request,
            Err(error) => return self.broken(error.to_string()),
        };
        if let Some(bytes) = request.ravelin_payload_bytes_max {
            self.ravelin = true;
            self.delivery.peer_answers_again();
            self.chunk = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(CHUNK_BYTES, CHUNK_BYTES_MAX);
        }
        let mux = version(&request.agent_version).is_some_and(|version| version > MUX_AFTER);
        let mut agreed = Err("the server did not say what kind of session this is".to_owned());
        let mut cannot = None;
        let mut processed = Vec::new();
        for action in &request.requested_client_actions {
            let outcome = match action.action_type.as_str() {
                "SessionType" => kind(&action.action_parameters, mux).map(|kind| agreed = Ok(kind)),
                "KMSEncryption" => {
                    Err("this session is to be encrypted with an AWS KMS key, which this client cannot do; \
                     use AWS's own plugin for it"
                        .to_owned())
                }
                other => Err(format!("the server asks for {other:?}, which this client cannot do")),
            };
            let unknown = action.action_type != "SessionType";
            processed.push(wire::ProcessedClientAction {
                action_type: action.action_type.clone(),
                action_status: if outcome.is_ok() {
                    1
                } else if unknown {
                    3
                } else {
                    2
                },
                action_result: Value::Null,
                error: outcome.as_ref().err().cloned().unwrap_or_default(),
            });
            cannot = cannot.or(outcome.err());
        }
        let response = wire::HandshakeResponsePayload {
            client_version: CLIENT_VERSION.to_owned(),
            errors: processed.iter().map(|action| &action.error).filter(|e| !e.is_empty()).cloned().collect(),
            processed_client_actions: processed,
            ravelin_exit_code: self.ravelin,
        };
        let mut response = json!(response);
        // Go writes no list as `null`, and readers of theirs expect it.
        if response["Errors"] == json!([]) {
            response["Errors"] = Value::Null;
        }
        if self.delivery.send(PayloadType::HandshakeResponse, channel::encode(&response), now).is_err() {
            return self.broken("the server asks for more than can be answered".to_owned());
        }
        self.phase = Phase::Agreed(cannot.map_or(agreed, Err));
    }

    fn broken(&mut self, because: String) {
        (self.phase, self.by) = (Phase::Over, None);
        self.events.push_back(Event::Broken(because));
    }
}

fn kind(parameters: &Value, mux: bool) -> Result<Kind, String> {
    let unreadable = |_error| "the server's kind of session cannot be read".to_owned();
    let request: wire::SessionTypeRequest = serde_json::from_value(parameters.clone()).map_err(unreadable)?;
    match request.session_type.as_str() {
        "Standard_Stream" | "InteractiveCommands" => Ok(Kind::Shell),
        "NonInteractiveCommands" => Ok(Kind::Command),
        "Port" => {
            let properties: wire::PortProperties = match request.properties {
                Value::Null => wire::PortProperties::default(),
                properties => serde_json::from_value(properties).map_err(unreadable)?,
            };
            if properties.forwarding != "LocalPortForwarding" {
                return Ok(Kind::Stream);
            }
            let port = match properties.local_port_number.as_str() {
                "" => 0,
                number => number.parse().map_err(|_error| format!("{number:?} is no local port"))?,
            };
            let socket = (properties.local_connection_type == "unix").then_some(properties.local_unix_socket);
            Ok(Kind::Forward { mux, port, socket })
        }
        other => Err(format!("the server has a session of type {other:?}, which this client does not know")),
    }
}

/// A version of exactly four numbers; another has no features.
fn version(text: &str) -> Option<[u64; 4]> {
    let parts: Vec<u64> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message::{Message, MessageType};

    struct Server {
        client: Client,
        now: Instant,
        sequence: u64,
    }

    impl Server {
        fn new() -> Self {
            let now = Instant::now();
            let mut client = Client::new(Limits::CLIENT, Epoch { instant: now, unix_ms: 1 }, Uuid::nil());
            client.attach(now);
            Self { client, now, sequence: 0 }
        }

        fn say(&mut self, payload_type: PayloadType, payload: impl Into<Bytes>) -> Vec<Event> {
            let message = Message {
                message_type: MessageType::OutputStreamData,
                created_ms: 1,
                sequence: self.sequence,
                flags: 0,
                id: Uuid::nil(),
                payload_type,
                payload: payload.into(),
            };
            self.sequence += 1;
            self.client.handle(&message.encode(), self.now).expect("a message");
            std::iter::from_fn(|| self.client.poll_event(self.now)).collect()
        }

        fn request(&mut self, version: &str, actions: &Value) -> Vec<Event> {
            let request = json!({"AgentVersion": version, "RequestedClientActions": actions});
            self.say(PayloadType::HandshakeRequest, request.to_string())
        }

        fn answer(&mut self) -> wire::HandshakeResponsePayload {
            while let Some(Transmit::Message(bytes)) = self.client.poll_transmit(self.now) {
                let message = Message::decode(&bytes).expect("a message");
                if message.payload_type == PayloadType::HandshakeResponse {
                    return channel::handshake_response(&message.payload).expect("an answer");
                }
            }
            panic!("no answer");
        }
    }

    fn session(session_type: &str, properties: &Value) -> Value {
        json!([{"ActionType": "SessionType", "ActionParameters": {"SessionType": session_type, "Properties": properties}}])
    }

    #[test]
    fn each_kind_of_session_begins_when_the_server_says_so() {
        let forward = |mux, port, socket: Option<&str>| Kind::Forward { mux, port, socket: socket.map(str::to_owned) };
        for (version, session_type, properties, kind) in [
            ("3.3.0.0", "Standard_Stream", json!(null), Kind::Shell),
            ("3.3.0.0", "InteractiveCommands", json!({"commands": "ls"}), Kind::Shell),
            ("3.3.0.0", "NonInteractiveCommands", json!({}), Kind::Command),
            ("3.3.0.0", "Port", json!({"portNumber": "22"}), Kind::Stream),
            ("3.3.0.0", "Port", json!({"portNumber": "22", "type": "LocalPortForwarding"}), forward(true, 0, None)),
            (
                "3.0.196.0",
                "Port",
                json!({"localPortNumber": "81", "type": "LocalPortForwarding"}),
                forward(false, 81, None),
            ),
            ("3.3.0", "Port", json!({"type": "LocalPortForwarding"}), forward(false, 0, None)),
            (
                "3.3.0.0",
                "Port",
                json!({"type": "LocalPortForwarding", "localConnectionType": "unix", "localUnixSocket": "/s"}),
                forward(true, 0, Some("/s")),
            ),
        ] {
            let mut server = Server::new();
            assert_eq!(server.request(version, &session(session_type, &properties)), []);
            let answer = server.answer();
            assert_eq!(answer.processed_client_actions[0].action_status, 1);
            assert_eq!((answer.client_version.as_str(), answer.errors.len()), (CLIENT_VERSION, 0));
            assert_eq!(server.client.room(), 0);
            let begun = server.say(PayloadType::HandshakeComplete, r#"{"CustomerMessage":"hello"}"#);
            assert_eq!(begun, [Event::Begun(Begun { kind, message: "hello".to_owned(), ravelin: false })]);
            assert_eq!(server.client.room(), 1024);
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_to_the_server_and_to_the_person() {
        let kms = json!({"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "k"}});
        let mut server = Server::new();
        let mut actions = session("Standard_Stream", &json!(null));
        actions.as_array_mut().expect("a list").push(kms);
        assert_eq!(server.request("3.3.0.0", &actions), []);
        let answer = server.answer();
        let statuses: Vec<i64> = answer.processed_client_actions.iter().map(|action| action.action_status).collect();
        assert_eq!(statuses, [1, 3]);
        assert!(answer.errors[0].contains("KMS"));
        // A server that says why itself is heard; one that waits is given up; one that goes on is left.
        let [Event::Broken(because)] = &server.say(PayloadType::HandshakeComplete, "{}")[..] else {
            panic!("not left")
        };
        assert!(because.contains("KMS"));

        let mut server = Server::new();
        assert_eq!(server.request("3.3.0.0", &session("Telnet", &json!(null))), []);
        assert_eq!(server.answer().processed_client_actions[0].action_status, 2);
        server.now += HANDSHAKE_MAX;
        let Some(Event::Broken(because)) = server.client.poll_event(server.now) else { panic!("not given up") };
        assert!(because.contains("Telnet"));
    }

    #[test]
    fn a_session_that_has_begun_is_not_to_begin_again_after_a_lost_connection() {
        let mut server = Server::new();
        let begun = server.say(PayloadType::Output, "$ ");
        assert!(matches!(begun[..], [Event::Begun(_), Event::Output(_)]), "{begun:?}");
        server.client.detach();
        server.client.attach(server.now);
        server.now += HANDSHAKE_MAX;
        assert_eq!(server.client.poll_event(server.now), None);
        assert!(matches!(server.say(PayloadType::Output, "more")[..], [Event::Output(_)]));
    }

    #[test]
    fn only_time_with_a_connection_counts_before_a_session_begins() {
        let mut server = Server::new();
        for _connection in 0..3 {
            server.now += HANDSHAKE_MAX / 2;
            assert_eq!(server.client.poll_event(server.now), None);
            server.client.detach();
            server.now += HANDSHAKE_MAX;
            assert_eq!(server.client.poll_event(server.now), None);
            server.client.attach(server.now);
        }
        server.now += HANDSHAKE_MAX;
        assert!(matches!(server.client.poll_event(server.now), Some(Event::Broken(_))));
    }

    #[test]
    fn a_server_that_never_begins_or_begins_twice_is_left() {
        let mut server = Server::new();
        assert_eq!(server.client.poll_event(server.now), None);
        server.now = server.client.poll_timeout().expect("a limit");
        assert!(matches!(server.client.poll_event(server.now), Some(Event::Broken(_))));

        let mut server = Server::new();
        let actions = session("Standard_Stream", &json!(null));
        assert_eq!(server.request("3.3.0.0", &actions), []);
        assert!(matches!(server.request("3.3.0.0", &actions)[..], [Event::Broken(_)]));
        assert_eq!(server.request("3.3.0.0", &actions), []);

        let mut server = Server::new();
        assert_eq!(server.request("3.3.0.0", &session("Port", &json!({}))), []);
        assert!(matches!(server.say(PayloadType::Output, "early")[..], [Event::Broken(_)]));
    }

    #[test]
    fn output_without_a_handshake_is_a_shell() {
        let mut server = Server::new();
        let events = server.say(PayloadType::Output, "$ ");
        let begun = Begun { kind: Kind::Shell, message: String::new(), ravelin: false };
        assert_eq!(events, [Event::Begun(begun), Event::Output("$ ".into())]);
        assert_eq!(server.say(PayloadType::StdErr, "e"), [Event::Errors("e".into())]);
        assert_eq!(server.say(PayloadType::ExitCode, "EXIT_CODE: 7"), [Event::Exit(7)]);
        assert_eq!(server.say(PayloadType::Flag, Flag::ConnectToPortError.encode()), [Event::PortRefused]);
        assert_eq!(server.say(PayloadType::Other(99), "x"), []);
    }

    #[test]
    fn an_acknowledgement_of_little_makes_no_small_messages() {
        let mut server = Server::new();
        server.request("3.3.0.0", &session("Standard_Stream", &json!(null)));
        server.say(PayloadType::HandshakeComplete, "{}");
        while let Some(Transmit::Message(_)) = server.client.poll_transmit(server.now) {}
        server.client.send(Bytes::from_static(b"a key"), server.now).expect("room");
        let Some(Transmit::Message(small)) = server.client.poll_transmit(server.now) else { panic!("no message") };
        while server.client.room() > 0 {
            let whole = Bytes::from(vec![b'x'; server.client.room()]);
            server.client.send(whole, server.now).expect("room");
        }
        let id = Message::decode(&small).expect("a message");
        let acknowledged = wire::AcknowledgeContent {
            message_type: MessageType::InputStreamData.as_str().to_owned(),
            message_id: id.id.hyphenated().to_string(),
            sequence_number: i64::try_from(id.sequence).expect("small"),
            is_sequential_message: true,
        };
        let acknowledgement = Message {
            message_type: MessageType::Acknowledge,
            created_ms: 1,
            sequence: 0,
            flags: 3,
            id: Uuid::nil(),
            payload_type: PayloadType::Unset,
            payload: channel::encode(&acknowledged),
        };
        server.client.handle(&acknowledgement.encode(), server.now).expect("an acknowledgement");
        assert_eq!(server.client.room(), 0);
    }

    #[test]
    fn a_server_that_takes_more_gets_more() {
        for (announced, chunk) in
            [(65_536, CHUNK_BYTES_MAX), (2000, 2000), (1, CHUNK_BYTES), (u32::MAX, CHUNK_BYTES_MAX)]
        {
            let mut server = Server::new();
            let request = json!({
                "AgentVersion": "3.3.0.0",
                "RequestedClientActions": session("Standard_Stream", &json!(null)),
                "RavelinPayloadBytesMax": announced,
            });
            server.say(PayloadType::HandshakeRequest, request.to_string());
            let events = server.say(PayloadType::HandshakeComplete, "{}");
            assert!(matches!(&events[..], [Event::Begun(Begun { ravelin: true, .. })]));
            assert_eq!(server.client.room(), chunk);
        }
    }
}
