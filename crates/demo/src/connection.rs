//! One client's connection: who may come in, and what is done with each request.
//!
//! The SSH library calls [`Connection`] from the task which reads the socket, so nothing here may wait for the peer
//! or for a program: work goes to tasks of the [`Link`], which all end with the connection.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use rustix::process::Signal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::Server;
use crate::flow::{Backlog, PAUSE_BEHIND};
use crate::forward::{self, AgentSocket};
use crate::process::Group;
use crate::session::{Program, Wishes, own_signal};
use crate::sftp;
use crate::terminal::{self, Control};

/// Channels open on one connection at one time, of all kinds.
const CHANNELS_MAX: usize = 512;
/// Ports one connection may forward to its client.
const FORWARDED_PORTS_MAX: usize = 64;

/// What a connection's tasks share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) backlog: Arc<Backlog>,
    gone: CancellationToken,
    socket: std::net::TcpStream,
    channels: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Link {
    pub(crate) fn new(socket: std::net::TcpStream, peer: SocketAddr, local: SocketAddr, server: &Server) -> Self {
        Self {
            peer,
            local,
            backlog: Arc::default(),
            gone: server.stopping.child_token(),
            socket,
            channels: Arc::new(Semaphore::new(CHANNELS_MAX)),
            tasks: server.tasks.clone(),
        }
    }

    /// Ends the connection and all its tasks.
    pub(crate) fn end(&self) {
        self.gone.cancel();
        // Fails only when the socket is shut down already.
        let _already = self.socket.shutdown(Shutdown::Both);
    }

    /// Room for one more channel, or `None`.
    pub(crate) fn channel(&self) -> Option<OwnedSemaphorePermit> {
        self.channels.clone().try_acquire_owned().ok()
    }

    /// Runs a task which is dropped when the connection ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let gone = self.gone.clone();
        self.tasks.spawn(async move {
            gone.run_until_cancelled(task).await;
        })
    }
}

/// The requests of one client.
pub(crate) struct Connection {
    server: Arc<Server>,
    link: Arc<Link>,
    /// Given back at the login.
    unauthenticated: Option<OwnedSemaphorePermit>,
    authenticated: CancellationToken,
    sessions: HashMap<ChannelId, SessionChannel>,
    /// By the address and port the client named.
    forwarded_ports: HashMap<(String, u32), JoinHandle<()>>,
    agent: Option<PathBuf>,
    /// Dropped with this value, that is when the library's session has ended.
    _ends_link: DropGuard,
}

/// A session channel as the connection sees it. Dropping it ends what runs there.
struct SessionChannel {
    state: SessionState,
    /// Cancelled by the channel's task as well, when it is done.
    closed: CancellationToken,
}

impl Drop for SessionChannel {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

enum SessionState {
    /// The client says what it wishes before it starts anything.
    Preparing { wishes: Wishes, start: oneshot::Sender<Start> },
    /// A program runs, or has run.
    Program { group: Arc<Group>, control: Option<Arc<Control>> },
    /// The file server runs, or has run.
    Files,
    /// Starting failed; the channel is of no more use.
    Failed,
}

/// What a session channel's task is told to do.
enum Start {
    Program(Box<Program>),
    Files,
}

impl Connection {
    pub(crate) fn new(
        server: Arc<Server>,
        link: Arc<Link>,
        unauthenticated: OwnedSemaphorePermit,
        authenticated: CancellationToken,
    ) -> Self {
        let ends_link = link.gone.clone().drop_guard();
        Self {
            server,
            link,
            unauthenticated: Some(unauthenticated),
            authenticated,
            sessions: HashMap::new(),
            forwarded_ports: HashMap::new(),
            agent: None,
            _ends_link: ends_link,
        }
    }

    fn judge(&self, key: &PublicKey, algorithm: &Algorithm) -> Auth {
        let known = |key: &KeyData| self.server.authorized.iter().any(|authorized| authorized.key_data() == key);
        if *algorithm != (Algorithm::Rsa { hash: None }) && known(key.key_data()) {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    /// Starts a program on a channel which waits for one; tells whether it runs.
    fn start_program(&mut self, channel: ChannelId, command: Option<&[u8]>) -> bool {
        let Some(session) = self.sessions.get_mut(&channel) else { return false };
        let SessionState::Preparing { wishes, start } = std::mem::replace(&mut session.state, SessionState::Failed)
        else {
            return false;
        };
        match wishes.start(command, &self.server.account, &self.server.children, &self.link) {
            Ok(program) => {
                session.state = SessionState::Program { group: program.group.clone(), control: program.control() };
                start.send(Start::Program(Box::new(program))).is_ok()
            }
            Err(error) => {
                debug!(%error, "program cannot be started");
                false
            }
        }
    }

    fn start_files(&mut self, channel: ChannelId) -> bool {
        let Some(session) = self.sessions.get_mut(&channel) else { return false };
        let SessionState::Preparing { start, .. } = std::mem::replace(&mut session.state, SessionState::Files) else {
            return false;
        };
        start.send(Start::Files).is_ok()
    }

    fn wishes(&mut self, channel: ChannelId) -> Option<&mut Wishes> {
        match &mut self.sessions.get_mut(&channel)?.state {
            SessionState::Preparing { wishes, .. } => Some(wishes),
            SessionState::Program { .. } | SessionState::Files | SessionState::Failed => None,
        }
    }

    /// The socket of the client's agent: one for all sessions of the connection.
    fn agent_socket(&mut self, session: &Session) -> Option<PathBuf> {
        if self.agent.is_none() {
            match AgentSocket::create() {
                Ok(socket) => {
                    self.agent = Some(socket.path().to_owned());
                    self.link.spawn(socket.serve(session.handle(), self.link.clone()));
                }
                Err(error) => debug!(%error, "agent socket cannot be created"),
            }
        }
        self.agent.clone()
    }
}

fn answer(accepted: bool, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
    if accepted { session.channel_success(channel) } else { session.channel_failure(channel) }
}

impl Handler for Connection {
    type Error = Error;

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        Ok(self.judge(offer.public_key, offer.algorithm))
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(self.judge(key.public_key, key.algorithm))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Error> {
        self.unauthenticated = None;
        self.authenticated.cancel();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        let Some(permit) = self.link.channel() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let closed = self.link.gone.child_token();
        let (start, started) = oneshot::channel();
        let state = SessionState::Preparing { wishes: Wishes::default(), start };
        let (from, outlet) = channel.split();
        let inlet = self.link.backlog.inlet(outlet.id(), from);
        // The library does not tell that the client confirmed a close of ours, so that finished ones are found here.
        self.sessions.retain(|_, session| !session.closed.is_cancelled());
        self.sessions.insert(outlet.id(), SessionChannel { state, closed: closed.clone() });
        reply.accept().await;

        let handle = session.handle();
        let home = self.server.account.home.clone();
        self.link.tasks.spawn(async move {
            let _permit = permit;
            let _done = closed.clone().drop_guard();
            let start = tokio::select! {
                start = started => start,
                () = closed.cancelled() => return,
            };
            match start {
                Ok(Start::Program(program)) => program.run(inlet, outlet, handle, closed).await,
                Ok(Start::Files) => {
                    closed.run_until_cancelled(sftp::serve(inlet, outlet, home)).await;
                }
                // Nothing could be started.
                Err(_) => {
                    let _gone = outlet.close().await;
                }
            }
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let Some(permit) = self.link.channel() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let host = host.to_owned();
        let (from, outlet) = channel.split();
        let inlet = self.link.backlog.inlet(outlet.id(), from);
        self.link.spawn(async move {
            let _permit = permit;
            match forward::connect(&host, port).await {
                Ok(stream) => {
                    reply.accept().await;
                    let (reader, writer) = stream.into_split();
                    forward::join(inlet, outlet, reader, writer).await;
                }
                Err(error) => {
                    debug!(%host, port, %error, "forward cannot connect");
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let Some(permit) = self.link.channel() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let path = path.to_owned();
        let (from, outlet) = channel.split();
        let inlet = self.link.backlog.inlet(outlet.id(), from);
        self.link.spawn(async move {
            let _permit = permit;
            match forward::connect_local(&path).await {
                Ok(stream) => {
                    reply.accept().await;
                    let (reader, writer) = stream.into_split();
                    forward::join(inlet, outlet, reader, writer).await;
                }
                Err(error) => {
                    debug!(%path, %error, "forward cannot connect");
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
        });
        Ok(())
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<bool, Error> {
        if self.forwarded_ports.len() >= FORWARDED_PORTS_MAX
            || self.forwarded_ports.contains_key(&(address.to_owned(), *port))
        {
            return Ok(false);
        }
        let listening = forward::listen(address, *port).await.and_then(|listener| {
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        });
        match listening {
            Ok((listener, bound)) => {
                *port = u32::from(bound);
                let serving =
                    forward::serve_port(listener, address.to_owned(), *port, session.handle(), self.link.clone());
                self.forwarded_ports.insert((address.to_owned(), *port), self.link.spawn(serving));
                Ok(true)
            }
            Err(error) => {
                debug!(address, port = *port, %error, "port cannot be forwarded");
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _session: &mut Session) -> Result<bool, Error> {
        match self.forwarded_ports.remove(&(address.to_owned(), port)) {
            Some(serving) => {
                serving.abort();
                // The port is free before the answer says so. An error is the end that was just asked for.
                let _aborted = serving.await;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let accepted = match self.wishes(channel) {
            Some(wishes) if wishes.terminal.is_none() => {
                match terminal::open(term, terminal::size(columns, rows, width_pixels, height_pixels), modes) {
                    Ok(fresh) => {
                        wishes.terminal = Some(fresh);
                        true
                    }
                    Err(error) => {
                        debug!(%error, "terminal cannot be opened");
                        false
                    }
                }
            }
            Some(_) | None => false,
        };
        answer(accepted, channel, session)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let size = terminal::size(columns, rows, width_pixels, height_pixels);
        let resized = match self.sessions.get(&channel).map(|session| &session.state) {
            Some(SessionState::Program { control: Some(control), .. }) => control.resize(size),
            Some(SessionState::Preparing { wishes: Wishes { terminal: Some(fresh), .. }, .. }) => {
                fresh.control.resize(size)
            }
            _ => Ok(()),
        };
        if let Err(error) = &resized {
            debug!(%error, "terminal cannot be resized");
        }
        answer(resized.is_ok(), channel, session)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let accepted = self.wishes(channel).is_some_and(|wishes| wishes.variable(name, value));
        answer(accepted, channel, session)
    }

    async fn agent_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<bool, Error> {
        if self.wishes(channel).is_none() {
            return Ok(false);
        }
        let socket = self.agent_socket(session);
        let accepted = socket.is_some();
        if let Some(wishes) = self.wishes(channel) {
            wishes.agent = socket;
        }
        // The library answers for us.
        Ok(accepted)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        answer(false, channel, session)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        answer(self.start_program(channel, None), channel, session)
    }

    async fn exec_request(&mut self, channel: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Error> {
        answer(self.start_program(channel, Some(command)), channel, session)
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        let accepted = name == "sftp" && self.start_files(channel);
        answer(accepted, channel, session)
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        let Some(SessionChannel { state: SessionState::Program { group, control }, .. }) = self.sessions.get(&channel)
        else {
            return Ok(());
        };
        let Some(own) = own_signal(&signal) else {
            debug!(?signal, "no such signal here");
            return Ok(());
        };
        // On a terminal the user means what is in the foreground; what ends a session is for the shell as well.
        match control.as_ref().and_then(|control| control.foreground()) {
            Some(foreground) => {
                group.signal_foreground(foreground, own);
                if [Signal::HUP, Signal::TERM, Signal::KILL].contains(&own) {
                    group.signal(own);
                }
            }
            None => group.signal(own),
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.sessions.remove(&channel);
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        if self.link.backlog.arrived(channel, data.len()) {
            sleep(PAUSE_BEHIND).await;
        }
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.data(channel, data, session).await
    }

    fn adjust_window(&mut self, channel: ChannelId, current: u32) -> u32 {
        self.link.backlog.next_window(channel, current)
    }
}
