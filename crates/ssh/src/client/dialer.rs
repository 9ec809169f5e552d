//! Going out for edges that are not SSH: the engine's port, over the same connection that people's channels use.

use super::{Link, Tuning, Unreached, dial};
use crate::backlog::Backlog;
use crate::units::{ChannelSource, TargetSink, unit};
use async_trait::async_trait;
use ravelin_engine::egress::{self, Duct, DynSink, Far, FarSink, FarSource, NotOpened, Opening, Terminal};
use ravelin_engine::leg::Leg;
use ravelin_engine::relay::{Broken, Sink, Unit};
use ravelin_model::Target;
use ravelin_model::target::LoginWay;
use ravelin_model::text::printable;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelWriteHalf, client};
use std::sync::Arc;
use std::time::Duration;

/// What a target is told of where a forwarded connection comes from: the person's own side is nobody's business there.
const ORIGINATOR: &str = "127.0.0.1";

/// What a target may send that its client has not taken. Other edges have buffers of their own, so this one is small.
const BUFFER_BYTES: u32 = 256 * 1024;

/// As much is kept of a target's own words.
const REASON_CHARS_MAX: usize = 200;

/// Goes out to targets over SSH, with the host key pinned and the login from the inventory.
#[derive(Clone, Copy, Debug)]
pub struct Dialer {
    /// A target that was silent for this long is asked whether it is there.
    pub keepalive_interval: Duration,
}

#[async_trait]
impl egress::Dialer for Dialer {
    async fn dial(
        &self,
        target: &Target,
        way: &LoginWay,
        hold: &(dyn Fn(Arc<dyn Leg>) + Send + Sync),
    ) -> Result<Box<dyn Far>, Unreached> {
        let named =
            |unreached: Unreached| Unreached { detail: format!("{}: {}", target.name, unreached.detail), ..unreached };
        let dialled = dial(target).await.map_err(named)?;
        hold(dialled.leg());
        let tuning = Tuning {
            keepalive_interval: self.keepalive_interval,
            window_bytes: BUFFER_BYTES,
            pause_bytes: BUFFER_BYTES,
        };
        let link = dialled.log_in(target, way, None, tuning).await.map_err(named)?;
        Ok(Box::new(SshFar { link }))
    }
}

/// A target's connection. Whatever the target opens by itself is refused, because nobody takes it.
struct SshFar {
    link: Link,
}

#[async_trait]
impl Far for SshFar {
    async fn open(&self, opening: Opening) -> Result<Duct, NotOpened> {
        match opening {
            Opening::Shell { terminal } => self.program(None, Some(terminal)).await,
            Opening::Exec { command, terminal } => self.program(Some(command), terminal).await,
            Opening::Connect { host, port } => {
                let opened = self.link.open_direct(&host, u32::from(port), ORIGINATOR, 0).await;
                Ok(duct(opened.map_err(|error| declined(&error))?, self.link.backlog()))
            }
            Opening::Socket { path } => {
                let opened = self.link.open_socket(&path).await;
                Ok(duct(opened.map_err(|error| declined(&error))?, self.link.backlog()))
            }
        }
    }

    async fn lost(&self) -> Unreached {
        self.link.lost().await
    }

    async fn take_leave(&self) {
        self.link.take_leave().await;
    }
}

impl SshFar {
    /// The login's shell, or a command.
    async fn program(&self, command: Option<String>, terminal: Option<Terminal>) -> Result<Duct, NotOpened> {
        let channel = self.link.open_session().await.map_err(|error| declined(&error))?;
        let (read, write) = channel.split();
        let mut source = ChannelSource::new(read, write.id(), Arc::clone(self.link.backlog()));
        let mut terminal_open = terminal.is_some();
        let sent = async {
            if let Some(Terminal { name, columns, rows }) = &terminal {
                write.request_pty(true, name, *columns, *rows, 0, 0, &[]).await?;
            }
            match command {
                None => write.request_shell(true).await,
                Some(command) => write.exec(true, command).await,
            }
        };
        sent.await.map_err(|_lost| NotOpened::Lost)?;
        loop {
            match source.message().await {
                None => return Err(NotOpened::Lost),
                Some(ChannelMsg::Success) if terminal_open => terminal_open = false,
                Some(ChannelMsg::Failure) if terminal_open => {
                    return Err(NotOpened::Declined("the target gave no terminal".to_owned()));
                }
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure | ChannelMsg::Close) => {
                    return Err(NotOpened::Declined("the target does not run this".to_owned()));
                }
                // A target that speaks before it answers has started the program.
                Some(message) => {
                    if let Some(unit) = unit(message) {
                        source.hold(unit);
                        break;
                    }
                }
            }
        }
        Ok(Duct { source: FarSource::new(source), sink: FarSink::new(ChannelSink::new(write)) })
    }
}

fn duct(channel: Channel<client::Msg>, backlog: &Arc<Backlog>) -> Duct {
    let (read, write) = channel.split();
    let source = ChannelSource::new(read, write.id(), Arc::clone(backlog));
    Duct { source: FarSource::new(source), sink: FarSink::new(ChannelSink::new(write)) }
}

fn declined(error: &russh::Error) -> NotOpened {
    match error {
        russh::Error::ChannelOpenFailure(why) => NotOpened::Declined(match why {
            ChannelOpenFailure::ConnectFailed => "the target could not connect".to_owned(),
            ChannelOpenFailure::AdministrativelyProhibited => "the target does not permit it".to_owned(),
            ChannelOpenFailure::UnknownChannelType => "the target does not offer it".to_owned(),
            ChannelOpenFailure::ResourceShortage => "the target has no room for it".to_owned(),
            ChannelOpenFailure::Other { reason, .. } => printable(reason, REASON_CHARS_MAX),
        }),
        _ => NotOpened::Lost,
    }
}

/// A target's channel as a sink that closes.
struct ChannelSink {
    sink: TargetSink,
    write: Arc<ChannelWriteHalf<client::Msg>>,
}

impl ChannelSink {
    fn new(write: ChannelWriteHalf<client::Msg>) -> Self {
        let write = Arc::new(write);
        Self { sink: TargetSink { write: Arc::clone(&write) }, write }
    }
}

#[async_trait]
impl DynSink for ChannelSink {
    async fn put_unit(&mut self, unit: Unit) -> Result<(), Broken> {
        self.sink.put(unit).await
    }

    async fn close(&mut self) {
        // The target may be gone, which comes to the same.
        let _gone = self.write.close().await;
    }
}
