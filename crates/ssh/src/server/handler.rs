//! What a client's packets ask for: login first, then channels and forwards. Runs inside the library's loop, so nothing
//! here may wait for long: whatever takes time goes to a task of the connection.

use super::connection::{ClientEnd, Connection};
use super::door::Ticket;
use super::forward::{self, Destination, Far};
use super::program::ProgramChannel;
use super::session::{self, Line, Missing};
use super::{Shared, tunnel};
use crate::backlog::{Backlog, MESSAGE_BYTES};
use crate::keys;
use crate::units::text_of;
use crate::user::{self, UserName, Wish};
use crate::wire::Watch;
use ravelin_engine::leg::SocketHandle;
use ravelin_engine::{Caller, Contact};
use ravelin_model::policy::Action;
use russh::keys::{Algorithm, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// How long a target may take to answer a request to listen. The client's loop waits for it, because the answer
/// carries the port.
const LISTEN_MAX: Duration = Duration::from_secs(15);

/// A connection from its first byte on, whoever it turns out to be.
pub(super) struct Entry {
    address: SocketAddr,
    pub(super) socket: SocketHandle,
    pub(super) watch: Arc<Watch>,
    pub(super) backlog: Arc<Backlog>,
    ticket: Mutex<Option<Ticket>>,
    claimed: Mutex<Option<String>>,
    offers_agent: AtomicBool,
    connection: OnceLock<Weak<Connection>>,
}

impl Entry {
    pub(super) fn new(
        address: SocketAddr,
        socket: SocketHandle,
        watch: Arc<Watch>,
        backlog: Arc<Backlog>,
        ticket: Ticket,
    ) -> Self {
        Self {
            address,
            socket,
            watch,
            backlog,
            ticket: Mutex::new(Some(ticket)),
            claimed: Mutex::default(),
            offers_agent: AtomicBool::new(false),
            connection: OnceLock::new(),
        }
    }

    pub(super) fn contact(&self) -> Contact {
        Contact { address: self.address, software: self.watch.software() }
    }

    /// Closes the connection if nobody has logged in on it.
    pub(super) async fn forget_the_slow(&self) {
        if !self.watch.is_logged_in() {
            self.socket.cut();
        }
    }

    /// Who somebody claimed in vain to be.
    pub(super) fn refused_claim(&self) -> Option<String> {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.watch.is_logged_in() { None } else { claimed.clone() }
    }

    fn claim(&self, user: &str) {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.get_or_insert_with(|| user.chars().take(64).collect());
    }

    /// The claim was not in vain, although nobody is let in.
    fn withdraw_claim(&self) {
        *self.claimed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the client said that its agent may be asked. One that did not takes the question for an attack.
    pub(super) fn offers_agent(&self) -> bool {
        self.offers_agent.load(Ordering::Acquire)
    }

    fn log_in(&self) {
        self.watch.log_in();
        // Gives the place at the door back.
        drop(self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The library's loop has ended.
    pub(super) fn ended(&self, end: ClientEnd) {
        if let Some(connection) = self.connection.get().and_then(Weak::upgrade) {
            connection.set_gone(end);
        }
    }
}

/// What a callback waits for lies in the library's task for as long as the connection lasts, and four times over, because
/// it hands its futures on by value. So what is not small goes to the heap and is given back.
fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(future)
}

/// Answers one client.
pub(super) struct ClientHandler {
    entry: Arc<Entry>,
    shared: Arc<Shared>,
    stage: Stage,
}

/// How far a client is. Who they are comes into being with the verified signature, and from nothing before it.
enum Stage {
    AtTheDoor,
    Proven { caller: Box<Caller>, user: UserName },
    Inside { connection: Arc<Connection>, line: Option<Line> },
}

impl ClientHandler {
    pub(super) fn new(entry: Arc<Entry>, shared: Arc<Shared>) -> Self {
        Self { entry, shared, stage: Stage::AtTheDoor }
    }

    /// The key in the form in which the inventory holds it, if it may be used at all.
    fn usable(key: &PublicKey, algorithm: &Algorithm) -> Option<String> {
        let usable = keys::accepts_signature(algorithm) && keys::check_strength(key).is_ok();
        if usable { keys::line(key).ok() } else { None }
    }

    fn inside(&self) -> Option<(&Arc<Connection>, Option<&Line>)> {
        match &self.stage {
            Stage::Inside { connection, line } => Some((connection, line.as_ref())),
            Stage::AtTheDoor | Stage::Proven { .. } => None,
        }
    }

    /// A message with so many bytes of texts that waits in the channel's queue.
    fn count_message(&self, channel: ChannelId, texts: usize) {
        self.entry.backlog.received(channel, MESSAGE_BYTES + texts);
    }
}

impl Handler for ClientHandler {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        // An offer is not a proof: this only says whether signing makes sense.
        self.entry.claim(user);
        let known = user::parse(user)
            .zip(Self::usable(offer.public_key, offer.algorithm))
            .is_some_and(|(user, line)| self.shared.identity.knows_ssh_key(user.principal.as_str(), &line));
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some((user, line)) = user::parse(user).zip(Self::usable(key.public_key, key.algorithm)) else {
            return Ok(Auth::reject());
        };
        match boxed(self.shared.identity.ssh_key(user.principal.as_str(), &line, self.entry.contact())).await {
            Ok(caller) => {
                self.stage = Stage::Proven { caller: Box::new(caller), user };
                Ok(Auth::Accept)
            }
            Err(refusal) => {
                if let Some(detail) = refusal.detail() {
                    tracing::error!(detail = detail.for_log(), "a login could not be put on record");
                }
                Ok(Auth::reject())
            }
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let (caller, user) = match std::mem::replace(&mut self.stage, Stage::AtTheDoor) {
            Stage::Proven { caller, user } => (*caller, user),
            Stage::AtTheDoor | Stage::Inside { .. } => return Err(russh::Error::NotAuthenticated),
        };
        let seat = match self.shared.crowd.seat(caller.name()) {
            Ok(seat) => seat,
            Err(text) => {
                tracing::warn!(principal = %caller.name(), text, "a connection was closed after its login");
                self.entry.withdraw_claim();
                return session.disconnect(Disconnect::TooManyConnections, &text, "en");
            }
        };
        self.entry.log_in();
        let (shared, entry) = (Arc::clone(&self.shared), Arc::clone(&self.entry));
        let connection = Connection::new(session.handle(), caller, shared, entry, seat);
        // Set once: a connection logs in once.
        let _first = self.entry.connection.set(Arc::downgrade(&connection));
        let line = match user.wish {
            Wish::Open => {
                let idle = Arc::clone(&connection);
                connection.spawn(async move { idle.dismiss_when_idle().await });
                None
            }
            wish @ (Wish::Target { .. } | Wish::Unreadable { .. }) => {
                let (line, end) = session::line(true);
                // This task sees the session to its end, also when the connection is long gone.
                tokio::spawn(session::run_named(Arc::clone(&connection), wish, end));
                Some(line)
            }
        };
        self.stage = Stage::Inside { connection, line };
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.shared.config.banner.clone())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((connection, line)) = self.inside() else { return Ok(()) };
        let Some(place) = connection.place() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        let program = ProgramChannel::new(Arc::clone(connection), channel);
        let line = line.cloned();
        connection.spawn(async move {
            program.serve(line).await;
            drop(place);
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((connection, line)) = self.inside() else { return Ok(()) };
        let Some(place) = connection.place() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let to = Destination {
            host: host_to_connect.to_owned(),
            port: port_to_connect,
            originator: originator_address.to_owned(),
            originator_port,
        };
        let owner = Arc::clone(connection);
        match line.cloned() {
            Some(line) => connection.spawn(async move {
                forward::direct(owner, channel, Far::Port(to), reply, line).await;
                drop(place);
            }),
            // This task sees the tunnel's session to its end, also when the connection is gone.
            None => drop(tokio::spawn(async move {
                tunnel::serve(owner, channel, to, reply).await;
                drop(place);
            })),
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((connection, line)) = self.inside() else { return Ok(()) };
        let Some(line) = line.cloned() else {
            let text = "no target was named whose socket this could be".to_owned();
            reply.reject(forward::prohibited(text)).await;
            return Ok(());
        };
        let Some(place) = connection.place() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let (owner, to) = (Arc::clone(connection), Far::Socket(socket_path.to_owned()));
        connection.spawn(async move {
            forward::direct(owner, channel, to, reply, line).await;
            drop(place);
        });
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some((connection, Some(line))) = self.inside() else { return Ok(false) };
        let forwards_max = connection.shared.config.forwards_per_connection_max;
        let listening = async {
            line.permit(Action::ForwardRemote).await?;
            let up = line.target_of_forward().await?;
            let given = up.link.listen(address, *port, forwards_max).await;
            given.map_err(|error| match error {
                russh::Error::RequestDenied => Missing::Refused("the target does not listen there".to_owned()),
                _ => Missing::Over,
            })
        };
        let listening = boxed(tokio::time::timeout(LISTEN_MAX, listening));
        let given = tokio::select! {
            given = listening => given.unwrap_or_else(|_| {
                Err(Missing::Refused(format!("no answer from the target within {} s", LISTEN_MAX.as_secs())))
            }),
            () = line.ended() => Err(Missing::Over),
        };
        match given {
            Ok(given) => {
                *port = given;
                Ok(true)
            }
            Err(Missing::Refused(text)) => {
                // The protocol has no words for a refusal of this.
                line.note(format!("port {port} is not forwarded from the target: {text}"));
                Ok(false)
            }
            Err(Missing::Over) => Ok(false),
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let Some((_, Some(line))) = self.inside() else { return Ok(false) };
        let stopping = async {
            let up = line.target_of_forward().await.ok()?;
            up.link.stop_listening(address, port).await.ok()
        };
        let stopping = boxed(tokio::time::timeout(LISTEN_MAX, stopping));
        Ok(tokio::select! {
            stopped = stopping => matches!(stopped, Ok(Some(()))),
            () = line.ended() => false,
        })
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, term.len());
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        x11_auth_protocol: &str,
        x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, x11_auth_protocol.len() + x11_auth_cookie.len());
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        variable_name: &str,
        variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, variable_name.len() + variable_value.len());
        // The same measure as where they are collected, for each one by itself.
        if variable_name.len() + variable_value.len() > self.shared.config.variables_bytes_max {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)
    }

    // Programs are answered by their channel's task, with the target's own answer.

    async fn shell_request(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, data.len());
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, name.len());
        Ok(())
    }

    async fn agent_request(&mut self, channel: ChannelId, _session: &mut Session) -> Result<bool, Self::Error> {
        self.count_message(channel, 0);
        self.entry.offers_agent.store(true, Ordering::Release);
        // Whether the target gets it is decided, and told, when the program starts.
        Ok(true)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        session.channel_success(channel)
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Self::Error> {
        self.count_message(channel, text_of(&signal));
        Ok(())
    }

    async fn window_adjusted(
        &mut self,
        channel: ChannelId,
        _new_size: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.entry.backlog.leave(channel);
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Self::Error> {
        self.entry.backlog.received(channel, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.entry.backlog.received(channel, data.len());
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.entry.backlog.window()
    }
}
