//! A whole bastion with a demo target in one process, and a client to drive it.

use ravelin_demo::{Demo, DemoConfig};
use ravelin_engine::testkit::{PolicyFn, rules};
use ravelin_engine::{Caller, Config, Contact, Control, Engine, MasterKey};
use ravelin_model::policy::{Action, Question, Resource};
use ravelin_model::query::{SessionFilter, SessionQuery};
use ravelin_model::session::Session;
use ravelin_model::target::{LoginProof, LoginWay, Protocol};
use ravelin_model::{GroupName, Login, NodeId, Principal, PrincipalName, Target, TargetId, TargetName};
use ravelin_ssh::{keys, server};
use ravelin_store::SqliteStore;
use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The bastion, its target, and who may use it.
pub(crate) struct Bastion {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) demo: Option<Demo>,
    pub(crate) person: SecretString,
    pub(crate) stranger: SecretString,
    pub(crate) directory: tempfile::TempDir,
    denied: Arc<Mutex<BTreeSet<Action>>>,
    stopping: CancellationToken,
}

/// How a bastion differs from the usual one.
pub(crate) struct Setup {
    pub(crate) config: fn(&mut server::Config),
    pub(crate) target: fn(&mut Target),
    pub(crate) engine: fn(&mut Config),
}

impl Default for Setup {
    fn default() -> Self {
        Self { config: |_| {}, target: |_| {}, engine: |_| {} }
    }
}

impl Bastion {
    pub(crate) async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub(crate) async fn start_with(setup: Setup) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (person, stranger, host, login) =
            (keys::generate_key(), keys::generate_key(), keys::generate_key(), keys::generate_key());
        let line = |key: &SecretString| keys::public_line(key).expect("a line");
        let demo = ravelin_demo::start(DemoConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            host_key_pem: host.clone(),
            authorized_keys: vec![line(&login), line(&person)],
            home: Some(directory.path().to_owned()),
        })
        .await
        .expect("a demo target");
        let mut web = Target {
            id: TargetId::from_hex("00000000000000001").expect("an id"),
            name: TargetName::parse("web-1").expect("a name"),
            address: "127.0.0.1".to_owned(),
            port: demo.address().port(),
            protocol: Protocol::Ssh,
            logins: vec![LoginWay {
                login: Login::parse("root").expect("a login"),
                proof: LoginProof::Key(login.clone()),
            }],
            host_keys: vec![line(&host)],
            labels: BTreeMap::from([("env".to_owned(), "test".to_owned())]),
            shared_with: BTreeSet::new(),
            aliases: BTreeMap::from([("aws".to_owned(), "mi-00000000000000001".to_owned())]),
            recording: ravelin_model::recording::Rule::default(),
        };
        (setup.target)(&mut web);
        let hidden = Target {
            id: TargetId::from_hex("00000000000000002").expect("an id"),
            name: TargetName::parse("hidden").expect("a name"),
            aliases: BTreeMap::new(),
            recording: ravelin_model::recording::Rule::default(),
            ..web.clone()
        };
        let principal = |name: &str, key: &SecretString| Principal {
            name: PrincipalName::parse(name).expect("a name"),
            groups: BTreeSet::from([GroupName::parse("people").expect("a group")]),
            ssh_keys: vec![line(key)],
        };
        let denied: Arc<Mutex<BTreeSet<Action>>> = Arc::default();
        let forbidden = Arc::clone(&denied);
        let policy = PolicyFn(move |question: &Question<'_>| {
            let hidden = matches!(question.resource, Resource::Target(target) if target.name.as_str() == "hidden");
            Some(!hidden && !forbidden.lock().expect("no panic").contains(&question.action))
        });
        let people = vec![principal("alice", &person), principal("bob", &stranger)];
        let rules = rules(people, vec![web, hidden], Arc::new(policy));
        let store = Arc::new(SqliteStore::in_memory().expect("a store"));
        let mut engine_config = Config::new(NodeId::new(1));
        (setup.engine)(&mut engine_config);
        let engine = Engine::start(store, rules, MasterKey::generate(), engine_config).await.expect("an engine");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stopping = CancellationToken::new();
        let mut config = server::Config::new(vec![keys::generate_key()]);
        (setup.config)(&mut config);
        let serving = server::serve(listener, engine.gate.clone(), engine.identity.clone(), config, stopping.clone());
        tokio::spawn(serving);
        Self { engine, address, demo: Some(demo), person, stranger, directory, denied, stopping }
    }

    /// Whatever is denied from now on.
    pub(crate) fn deny(&self, actions: &[Action]) {
        *self.denied.lock().expect("no panic") = actions.iter().copied().collect();
    }

    /// Alice, by another way than the connection under test.
    pub(crate) async fn operator(&self) -> Caller {
        let contact = Contact { address: "127.0.0.1:1".parse().expect("an address"), software: String::new() };
        let line = keys::public_line(&self.person).expect("a line");
        self.engine.identity.ssh_key("alice", &line, contact).await.expect("alice")
    }

    /// All sessions, newest first.
    pub(crate) async fn sessions(&self) -> Vec<Session> {
        let query = SessionQuery::first(SessionFilter::default(), 100);
        self.engine.control.list(&self.operator().await, query).await.expect("a list").items
    }

    /// Waits until the newest session fits.
    pub(crate) async fn until(&self, fits: impl Fn(&Session) -> bool) -> Session {
        let waiting = async {
            loop {
                if let Some(session) = self.sessions().await.into_iter().next()
                    && fits(&session)
                {
                    return session;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(session) => session,
            Err(_) => panic!("no session came to fit; there are {:#?}", self.sessions().await),
        }
    }

    /// Waits until so many sessions are alive. A row says that it ended a moment before that.
    pub(crate) async fn until_live(&self, count: usize) {
        let waiting = async {
            while self.engine.live_count() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LIMIT, waiting).await.is_err() {
            panic!("{} sessions are alive, and not {count}", self.engine.live_count());
        }
    }

    /// Ends a session as an operator, and says how long that took.
    pub(crate) async fn kill(&self, session: &Session, reason: &str) -> Duration {
        let operator = self.operator().await;
        let start = std::time::Instant::now();
        let done = self.engine.control.terminate(&operator, session.id(), reason, Control::WAIT_DEFAULT).await;
        let took = start.elapsed();
        assert!(matches!(done, Ok(ravelin_engine::control::Termination::Confirmed { .. })), "{done:?}");
        took
    }

    /// A logged-in client.
    pub(crate) async fn client(&self, user: &str) -> Client {
        self.client_by(user, self.address).await
    }

    /// A logged-in client that came by another address.
    pub(crate) async fn client_by(&self, user: &str, address: SocketAddr) -> Client {
        let (client, accepted) = Self::knock_at(address, user, &self.person).await;
        assert!(accepted, "{user} must be let in");
        client
    }

    /// A client that has tried one key.
    pub(crate) async fn knock(&self, user: &str, key: &SecretString) -> (Client, bool) {
        Self::knock_at(self.address, user, key).await
    }

    async fn knock_at(address: SocketAddr, user: &str, key: &SecretString) -> (Client, bool) {
        let mut client = Client::connect(address).await;
        let key = russh::keys::decode_secret_key(key.expose_secret(), None).expect("a key");
        let handle = client.handle.as_mut().expect("connected");
        let accepted = handle
            .authenticate_publickey(user, PrivateKeyWithHashAlg::new(Arc::new(key), None))
            .await
            .expect("an answer");
        let accepted = accepted.success();
        (client, accepted)
    }

    /// A file with the person's key, for clients that read files.
    pub(crate) fn key_file(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join("person");
        std::fs::write(&path, self.person.expose_secret()).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        path
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// A way to the bastion that takes its time, and may be held up for good.
pub(crate) struct Detour {
    pub(crate) address: SocketAddr,
    frozen: watch::Sender<bool>,
}

impl Detour {
    /// Each direction takes this long.
    pub(crate) async fn start(to: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (frozen, is_frozen) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(to).await.expect("the bastion");
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(carry(near_read, far_write, delay, is_frozen.clone()));
                tokio::spawn(carry(far_read, near_write, delay, is_frozen.clone()));
            }
        });
        Self { address, frozen }
    }

    /// Nothing comes through any more, and nobody is told.
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(true);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, mut is_frozen: watch::Receiver<bool>) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if sender.send((Instant::now() + delay, buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    });
    while let Some((due, bytes)) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        // Held up until the detour itself is gone.
        if *is_frozen.borrow() {
            let _gone = is_frozen.wait_for(|frozen| !frozen).await;
            return;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// A client, and what the bastion says to it.
pub(crate) struct Client {
    pub(crate) handle: Option<Handle<Ears>>,
    pub(crate) farewell: Arc<Mutex<Option<String>>>,
    pub(crate) forwarded: tokio::sync::mpsc::Receiver<Channel<client::Msg>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let farewell: Arc<Mutex<Option<String>>> = Arc::default();
        let (sender, forwarded) = tokio::sync::mpsc::channel(8);
        let ears = Ears { farewell: Arc::clone(&farewell), forwarded: sender };
        let config = Arc::new(client::Config { nodelay: true, ..client::Config::default() });
        let handle = client::connect(config, address, ears).await.expect("connected");
        Self { handle: Some(handle), farewell, forwarded }
    }

    pub(crate) fn handle(&self) -> &Handle<Ears> {
        self.handle.as_ref().expect("connected")
    }

    /// Runs a command with this input.
    pub(crate) async fn exec(&self, command: &str, input: &[u8]) -> Outcome {
        let channel = self.handle().channel_open_session().await.expect("a channel");
        channel.exec(true, command).await.expect("sent");
        let (read, write) = channel.split();
        let input = bytes::Bytes::copy_from_slice(input);
        let sending = async {
            // A program may close its input early.
            let _closed = write.data_bytes(input).await;
            let _closed = write.eof().await;
        };
        tokio::time::timeout(LIMIT, async { tokio::join!(sending, Outcome::read(read)).1 }).await.expect("in time")
    }

    /// What the disconnect message says, once it has come.
    pub(crate) async fn hear_farewell(mut self) -> String {
        let handle = self.handle.take().expect("connected");
        // However it ended.
        let _ended = tokio::time::timeout(LIMIT, handle).await.expect("the connection ends");
        self.farewell.lock().expect("no panic").clone().unwrap_or_default()
    }
}

/// What a program left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) accepted: Option<bool>,
    pub(crate) out: Vec<u8>,
    pub(crate) error: String,
    pub(crate) status: Option<u32>,
    pub(crate) closed: bool,
}

impl Outcome {
    pub(crate) async fn read(mut read: russh::ChannelReadHalf) -> Self {
        let mut outcome = Outcome::default();
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Success => outcome.accepted = Some(true),
                ChannelMsg::Failure => outcome.accepted = Some(false),
                ChannelMsg::Data { data } => outcome.out.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => outcome.error.push_str(&String::from_utf8_lossy(&data)),
                ChannelMsg::ExitStatus { exit_status } => outcome.status = Some(exit_status),
                ChannelMsg::Close => outcome.closed = true,
                _ => {}
            }
        }
        outcome
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

pub(crate) struct Ears {
    farewell: Arc<Mutex<Option<String>>>,
    forwarded: tokio::sync::mpsc::Sender<Channel<client::Msg>>,
}

impl client::Handler for Ears {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        // A test that does not listen drops the receiver.
        let _nobody = self.forwarded.try_send(channel);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                *self.farewell.lock().expect("no panic") = Some(info.message);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
