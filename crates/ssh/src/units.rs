//! SSH channels as sources and sinks of the engine's relay. Data goes through as it came: owned bytes, not copied.

use crate::backlog::{Backlog, MESSAGE_BYTES};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use ravelin_engine::relay::{Broken, Sink, Source, Unit};
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client, server};
use std::sync::{Arc, Mutex, PoisonError};

/// Extended data of this type is the error stream; RFC 4254, section 5.2. No other type is defined.
const STDERR: u32 = 1;

/// The largest packet that OpenSSH takes on a channel.
const PACKET_BYTES: usize = 32 * 1024;

/// Data of at least this size goes on as it is.
const GATHER_BYTES_MIN: usize = 24 * 1024;

/// What comes out of a channel, from either side.
pub(crate) struct ChannelSource {
    read: ChannelReadHalf,
    id: ChannelId,
    backlog: Arc<Backlog>,
    // Taken since the last wait, and so not passed on before the next.
    given_bytes: usize,
    held: Option<Unit>,
    closed: bool,
}

impl ChannelSource {
    pub(crate) fn new(read: ChannelReadHalf, id: ChannelId, backlog: Arc<Backlog>) -> Self {
        Self { read, id, backlog, given_bytes: 0, held: None, closed: false }
    }

    /// The next message as it came.
    pub(crate) async fn message(&mut self) -> Option<ChannelMsg> {
        let given = std::mem::take(&mut self.given_bytes);
        if given > 0 {
            self.backlog.passed_on(self.id, given);
        }
        let message = self.read.wait().await?;
        self.note(&message);
        Some(message)
    }

    fn note(&mut self, message: &ChannelMsg) {
        match message {
            ChannelMsg::Close => self.closed = true,
            other => self.given_bytes += weight(other),
        }
    }

    /// Joins what else is there already to `first`, up to a packet's size: some clients send small packets, and a packet
    /// costs more than a copy.
    fn gather(&mut self, first: Bytes) -> Unit {
        if first.len() >= GATHER_BYTES_MIN {
            return Unit::Data(first);
        }
        let mut joined = BytesMut::new();
        loop {
            let Some(Some(message)) = self.read.wait().now_or_never() else { break };
            self.note(&message);
            if self.closed {
                break;
            }
            match unit(message) {
                Some(Unit::Data(more)) if first.len().max(joined.len()) + more.len() <= PACKET_BYTES => {
                    if joined.is_empty() {
                        joined.reserve(PACKET_BYTES);
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&more);
                    if joined.len() >= GATHER_BYTES_MIN {
                        break;
                    }
                }
                Some(other) => {
                    self.held = Some(other);
                    break;
                }
                None => {}
            }
        }
        Unit::Data(if joined.is_empty() { first } else { joined.freeze() })
    }

    /// Gives `unit` out first.
    pub(crate) fn hold(&mut self, unit: Unit) {
        self.held = Some(unit);
    }

    /// Whether the far end closed the channel, as opposed to its connection being lost.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Drop for ChannelSource {
    fn drop(&mut self) {
        self.backlog.close(self.id);
    }
}

impl Source for ChannelSource {
    async fn next(&mut self) -> Option<Unit> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        if self.closed {
            return None;
        }
        loop {
            let message = self.message().await?;
            if self.closed {
                return None;
            }
            match unit(message) {
                Some(Unit::Data(first)) => return Some(self.gather(first)),
                Some(unit) => return Some(unit),
                None => {}
            }
        }
    }
}

/// What a message counts as while it waits. Most can be sent at any rate without window, so their callbacks count them as
/// they come; the list here and those in the handlers of both sides are one.
pub(crate) fn weight(message: &ChannelMsg) -> usize {
    let texts = match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => return data.len(),
        ChannelMsg::RequestPty { term, .. } => term.len(),
        ChannelMsg::Exec { command, .. } => command.len(),
        ChannelMsg::RequestSubsystem { name, .. } => name.len(),
        ChannelMsg::RequestX11 { x11_authentication_protocol, x11_authentication_cookie, .. } => {
            x11_authentication_protocol.len() + x11_authentication_cookie.len()
        }
        ChannelMsg::SetEnv { variable_name, variable_value, .. } => variable_name.len() + variable_value.len(),
        ChannelMsg::Signal { signal } => text_of(signal),
        ChannelMsg::ExitSignal { signal_name, error_message, lang_tag, .. } => {
            text_of(signal_name) + error_message.len() + lang_tag.len()
        }
        ChannelMsg::RequestShell { .. }
        | ChannelMsg::WindowChange { .. }
        | ChannelMsg::AgentForward { .. }
        | ChannelMsg::Eof
        | ChannelMsg::XonXoff { .. }
        | ChannelMsg::ExitStatus { .. }
        | ChannelMsg::WindowAdjusted { .. }
        | ChannelMsg::Success
        | ChannelMsg::Failure => 0,
        _ => return 0,
    };
    texts + MESSAGE_BYTES
}

/// The length of a signal's name, where a peer may choose it.
pub(crate) fn text_of(signal: &Sig) -> usize {
    match signal {
        Sig::Custom(name) => name.len(),
        _ => 0,
    }
}

/// The unit that a message is, if it is one.
pub(crate) fn unit(message: ChannelMsg) -> Option<Unit> {
    match message {
        ChannelMsg::Data { data } => Some(Unit::Data(data)),
        ChannelMsg::ExtendedData { data, ext: STDERR } => Some(Unit::ErrorData(data)),
        ChannelMsg::Eof => Some(Unit::Eof),
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            Some(Unit::Resize { columns: col_width, rows: row_height, width_px: pix_width, height_px: pix_height })
        }
        ChannelMsg::Signal { signal } => Some(Unit::Signal(signal_name(signal))),
        ChannelMsg::ExitStatus { exit_status } => Some(Unit::Exit(exit_status)),
        ChannelMsg::ExitSignal { signal_name: signal, core_dumped, error_message, .. } => {
            Some(Unit::ExitSignal { name: signal_name(signal), core_dumped, message: error_message })
        }
        // Set-up and its answers are not the relay's business; the enum is the library's and may grow.
        _ => None,
    }
}

/// Into a channel on a target.
pub(crate) struct TargetSink {
    pub(crate) write: Arc<ChannelWriteHalf<client::Msg>>,
}

impl Sink for TargetSink {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        let sent = match unit {
            Unit::Data(bytes) => self.write.data_bytes(bytes).await,
            Unit::ErrorData(bytes) => self.write.extended_data_bytes(STDERR, bytes).await,
            Unit::Eof => self.write.eof().await,
            Unit::Resize { columns, rows, width_px, height_px } => {
                self.write.window_change(columns, rows, width_px, height_px).await
            }
            Unit::Signal(name) => self.write.signal(signal(&name)).await,
            // A client has no program that could end.
            Unit::Exit(_) | Unit::ExitSignal { .. } => Ok(()),
        };
        sent.map_err(|_| Broken)
    }
}

/// Into a client's channel.
pub(crate) struct ClientSink {
    write: Arc<ChannelWriteHalf<server::Msg>>,
    handle: server::Handle,
    program: Option<ProgramEnd>,
}

/// What a sink knows of the program whose channel it feeds.
struct ProgramEnd {
    exit: LastExit,
    // A client that has sent its own end of file closes the channel when it sees the program's, and the library answers
    // a close with a close at once: an exit status that comes later would be lost. So the end of file waits for it.
    eof_held: bool,
}

impl ClientSink {
    /// For forwarded bytes.
    pub(crate) fn for_bytes(write: Arc<ChannelWriteHalf<server::Msg>>, handle: server::Handle) -> Self {
        Self { write, handle, program: None }
    }

    /// For what a program says. How it ended is noted in `exit`.
    pub(crate) fn for_program(
        write: Arc<ChannelWriteHalf<server::Msg>>,
        handle: server::Handle,
        exit: LastExit,
    ) -> Self {
        Self { write, handle, program: Some(ProgramEnd { exit, eof_held: false }) }
    }

    fn note(&self, ended: impl FnOnce() -> String) {
        if let Some(program) = &self.program {
            program.exit.set(ended());
        }
    }

    /// Sends the end of file that was held back.
    async fn release_eof(&mut self) -> Result<(), russh::Error> {
        match &mut self.program {
            Some(program) if program.eof_held => {
                program.eof_held = false;
                self.write.eof().await
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Sink for ClientSink {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        let sent = match unit {
            Unit::Data(bytes) => self.write.data_bytes(bytes).await,
            Unit::ErrorData(bytes) => self.write.extended_data_bytes(STDERR, bytes).await,
            Unit::Eof => match &mut self.program {
                Some(program) => {
                    program.eof_held = true;
                    Ok(())
                }
                None => self.write.eof().await,
            },
            Unit::Exit(status) => {
                self.note(|| format!("exit status {status}"));
                match self.write.exit_status(status).await {
                    Ok(()) => self.release_eof().await,
                    Err(error) => Err(error),
                }
            }
            Unit::ExitSignal { name, core_dumped, message } => {
                self.note(|| format!("signal {name}"));
                let id = self.write.id();
                let sent = self.handle.exit_signal_request(id, signal(&name), core_dumped, message, String::new());
                match sent.await {
                    Ok(()) => self.release_eof().await,
                    Err(()) => Err(russh::Error::SendError),
                }
            }
            // A target has no terminal to resize and sends no signals to the person.
            Unit::Resize { .. } | Unit::Signal(_) => Ok(()),
        };
        sent.map_err(|_| Broken)
    }
}

/// How the last program of a session ended.
#[derive(Clone, Default)]
pub(crate) struct LastExit(Arc<Mutex<String>>);

impl LastExit {
    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// `exit status 0`, `signal TERM`, or empty when no program has ended.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// RFC 4254, section 6.10. A name beyond its list goes through as it came.
fn signal_name(signal: Sig) -> String {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => return name,
    };
    name.to_owned()
}

fn signal(name: &str) -> Sig {
    match name {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        other => Sig::Custom(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_keep_their_names() {
        for name in ["ABRT", "HUP", "INT", "KILL", "TERM", "USR1", "USR2", "WINCH@example.org"] {
            assert_eq!(signal_name(signal(name)), name);
        }
    }
}
