//! The file server: SFTP version 3, as `sftp`, `scp` and every graphical client speak it.
//!
//! Source: draft-ietf-secsh-filexfer-02 (<https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02>, read
//! 2026-11) and, for the extensions and the two places where practice differs from the draft, the file `PROTOCOL`
//! of OpenSSH (section 4). [`wire`] spells the packets, [`files`] does what they ask.
//!
//! Requests are answered in order and in batches: everything that has arrived is handed to a blocking thread
//! together, which stops at [`REPLY_BYTES_MAX`], so that a client which asks for much at once costs a bounded amount
//! of memory.
//!
//! This module must not know who the client is: it acts as the user of this process.

mod files;
mod wire;

pub(crate) use wire::take_apart;

use std::path::PathBuf;

use bytes::BytesMut;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::task::spawn_blocking;
use tracing::debug;

use self::files::FileServer;
use self::wire::{Fault, Framed};
use crate::flow::{Incoming, Inlet};

/// The longest packet taken from a client, in bytes.
pub(crate) const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Replies collected before they are sent, in bytes; the last one may exceed it.
const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// Requests collected before they are answered, in bytes; the last one may exceed it.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Serves files on a channel until the client is done.
pub(crate) async fn serve(mut inlet: Inlet, outlet: ChannelWriteHalf<Msg>, home: PathBuf) {
    match answer_all(&mut inlet, &outlet, FileServer::new(home)).await {
        Ok(Last::Eof) => {
            // An error only says that the connection is gone.
            let _gone = outlet.exit_status(0).await;
            let _gone = outlet.eof().await;
            let _gone = outlet.close().await;
        }
        Ok(Last::Closed) => {}
        Err(error) => {
            debug!(%error, "file server ended");
            let _gone = outlet.exit_status(1).await;
            let _gone = outlet.eof().await;
            let _gone = outlet.close().await;
        }
    }
}

enum Last {
    Eof,
    Closed,
}

#[derive(Debug)]
enum Error {
    /// The client broke the protocol.
    Client(Fault),
    /// The connection is gone.
    Connection(russh::Error),
    /// The blocking thread did not come back.
    Thread(tokio::task::JoinError),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(fault) => write!(f, "client broke the protocol: {fault}"),
            Self::Connection(error) => write!(f, "connection is gone: {error}"),
            Self::Thread(error) => write!(f, "file operation did not return: {error}"),
        }
    }
}

async fn answer_all(inlet: &mut Inlet, outlet: &ChannelWriteHalf<Msg>, mut server: FileServer) -> Result<Last, Error> {
    let mut requests = BytesMut::new();
    let mut last = None;
    while last.is_none() {
        match inlet.next().await {
            Incoming::Data(data) => requests.extend_from_slice(&data),
            Incoming::Eof => last = Some(Last::Eof),
            Incoming::Closed => return Ok(Last::Closed),
        }
        // Whatever else is here already belongs to the same batch.
        while last.is_none() && requests.len() < REQUEST_BYTES_MAX {
            let more = tokio::select! {
                biased;
                more = inlet.next() => more,
                () = std::future::ready(()) => break,
            };
            match more {
                Incoming::Data(data) => requests.extend_from_slice(&data),
                Incoming::Eof => last = Some(Last::Eof),
                Incoming::Closed => return Ok(Last::Closed),
            }
        }
        while wire::holds_packet(&requests, PACKET_BYTES_MAX).map_err(Error::Client)? {
            let (answered, returned, rest) = spawn_blocking(move || {
                let answered = answer_batch(&mut server, &mut requests);
                (answered, server, requests)
            })
            .await
            .map_err(Error::Thread)?;
            (server, requests) = (returned, rest);
            let replies = answered.map_err(Error::Client)?;
            outlet.data_bytes(replies.freeze()).await.map_err(Error::Connection)?;
        }
    }
    Ok(last.unwrap_or(Last::Closed))
}

fn answer_batch(server: &mut FileServer, requests: &mut BytesMut) -> Result<BytesMut, Fault> {
    let mut replies = BytesMut::new();
    while replies.len() < REPLY_BYTES_MAX {
        match wire::take_packet(requests, PACKET_BYTES_MAX)? {
            Framed::Packet(packet) => server.answer(&packet, &mut replies)?,
            Framed::Incomplete => break,
        }
    }
    Ok(replies)
}
