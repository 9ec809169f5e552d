//! What a target says on its own account: its host key, channels it opens, and how its connection ends.

use super::Unreached;
use crate::backlog::{Backlog, MESSAGE_BYTES};
use crate::keys;
use crate::units::text_of;
use ravelin_model::session::EndReason;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, Names, Sig, cipher};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// How the detail of a session begins whose target showed another host key than the pinned one.
pub const WRONG_HOST_KEY: &str = "its host key is";

/// A channel that a target wants to open towards the client.
pub(crate) enum Inbound {
    /// Somebody connected to a port that the target listens on for the client.
    Forwarded {
        channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        address: String,
        port: u32,
        originator: String,
        originator_port: u32,
    },
    /// A program on the target wants the client's agent.
    Agent { channel: Channel<client::Msg>, reply: ChannelOpenHandle },
}

/// What was seen of a target that explains how its connection went.
#[derive(Default)]
pub(super) struct Seen {
    wrong_key: Mutex<Option<String>>,
    open_to_truncation: AtomicBool,
    lost: Mutex<Option<Unreached>>,
}

impl Seen {
    fn hold<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the key exchange failed.
    pub(super) fn unreached_by(&self, pinned: &[String], error: &russh::Error) -> Unreached {
        if let Some(shown) = Self::hold(&self.wrong_key).as_ref() {
            let known: Vec<String> = pinned.iter().map(|line| keys::fingerprint(line)).collect();
            return Unreached::new(
                EndReason::TargetUnreachable,
                format!("{WRONG_HOST_KEY} {shown}, and {} is expected", known.join(" or ")),
            );
        }
        if self.open_to_truncation.load(Ordering::Relaxed) {
            return Unreached::new(
                EndReason::TargetUnreachable,
                "it knows neither strict key exchange nor AES-GCM, so its messages could be cut out unseen",
            );
        }
        classify(error)
    }

    /// What the target said when it closed, or what broke.
    pub(super) fn lost(&self) -> Option<String> {
        Self::hold(&self.lost).as_ref().map(|lost| lost.detail.clone()).filter(|detail| !detail.is_empty())
    }

    /// Why a connection that had been up ended.
    pub(super) fn lost_reason(&self) -> Unreached {
        Self::hold(&self.lost).clone().unwrap_or_else(|| Unreached::new(EndReason::TargetClosed, ""))
    }
}

/// Who is to blame for an error of the library on a target's connection.
fn classify(error: &russh::Error) -> Unreached {
    let reason = match error {
        russh::Error::IO(io) if io.kind() == ErrorKind::UnexpectedEof => {
            return Unreached::new(EndReason::TargetUnreachable, "it closed the connection");
        }
        russh::Error::IO(_)
        | russh::Error::Disconnect
        | russh::Error::HUP
        | russh::Error::ConnectionTimeout
        | russh::Error::KeepaliveTimeout
        | russh::Error::InactivityTimeout
        | russh::Error::NoCommonAlgo { .. } => EndReason::TargetUnreachable,
        _ => EndReason::ProtocolError,
    };
    Unreached::new(reason, error.to_string())
}

pub(crate) struct TargetHandler {
    pub(super) pinned: Vec<String>,
    pub(super) seen: Arc<Seen>,
    pub(super) backlog: Arc<Backlog>,
    // Boxed, because a queue holds room for 32 of what it carries, whether it is used or not.
    pub(super) inbound: mpsc::Sender<Box<Inbound>>,
}

impl TargetHandler {
    /// A message with so many bytes of texts that waits in the channel's queue.
    fn count_message(&self, channel: ChannelId, texts: usize) {
        self.backlog.received(channel, MESSAGE_BYTES + texts);
    }

    fn hand_over(&self, inbound: Inbound) {
        // When nobody has time for it, dropping its reply refuses the channel.
        if self.inbound.try_send(Box::new(inbound)).is_err() {
            tracing::debug!("a channel that a target opened was refused: too many at once, or nobody there");
        }
    }
}

impl client::Handler for TargetHandler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let Ok(line) = keys::line(key) else { return Ok(false) };
        if self.pinned.contains(&line) {
            return Ok(true);
        }
        *Seen::hold(&self.seen.wrong_key) = Some(keys::fingerprint(&line));
        Ok(false)
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &Names,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // CVE-2023-48795: without strict key exchange, this cipher lets somebody in the middle drop the first messages.
        if names.cipher == cipher::CHACHA20_POLY1305 && !names.strict_kex() {
            self.seen.open_to_truncation.store(true, Ordering::Relaxed);
            return Err(russh::Error::Kex);
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.hand_over(Inbound::Forwarded {
            channel,
            reply,
            address: connected_address.to_owned(),
            port: connected_port,
            originator: originator_address.to_owned(),
            originator_port,
        });
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.hand_over(Inbound::Agent { channel, reply });
        Ok(())
    }

    // Everything else that a target could open is refused: the library accepts it unless told otherwise.

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<client::Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<client::Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<client::Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Self::Error> {
        self.backlog.received(channel, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _ext: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.backlog.received(channel, data.len());
        Ok(())
    }

    async fn channel_success(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn channel_failure(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
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

    async fn xon_xoff(
        &mut self,
        channel: ChannelId,
        _client_can_do: bool,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn exit_status(
        &mut self,
        channel: ChannelId,
        _exit_status: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, 0);
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        signal_name: Sig,
        _core_dumped: bool,
        error_message: &str,
        lang_tag: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.count_message(channel, text_of(&signal_name) + error_message.len() + lang_tag.len());
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        let lost = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => Unreached::new(EndReason::TargetClosed, info.message.clone()),
            DisconnectReason::Error(error) => {
                let why = classify(error);
                match why.reason {
                    EndReason::TargetUnreachable => Unreached::new(EndReason::TargetClosed, why.detail),
                    _ => why,
                }
            }
        };
        *Seen::hold(&self.seen.lost) = Some(lost);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
