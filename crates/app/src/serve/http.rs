//! The HTTP listeners: sockets, TLS, connections. Knows no path and no dialect.
//!
//! Whoever connects can hold one connection, for a bounded time, in a bounded number of places; nothing they do stops
//! the listener.

use super::doors::Doors;
use axum::body::Body;
use http::uri::Scheme;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Open connections of one listener.
const CONNECTIONS_MAX: usize = 4096;
/// Open connections of one address, so that one peer cannot take all of them. Loopback is not counted.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 512;
/// From accept to the end of the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// From the end of one answer to the end of the next request's head.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Size of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// How long an idle HTTP/2 peer may stay silent before it is asked for a sign of life, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_MAX: Duration = Duration::from_secs(15);
/// How long a stop waits for answers that are under way.
const FINISH_MAX: Duration = Duration::from_secs(1);
/// A pause after the system refused to give a socket.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stopping`; returns when every connection is closed.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    doors: Doors,
    stopping: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Places::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                note(ended);
                continue;
            }
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.take(peer.ip()) else {
                    tracing::warn!(%peer, "too many connections; this one is closed");
                    continue;
                };
                let (acceptor, doors, stopping) = (acceptor.clone(), doors.clone(), stopping.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, peer, acceptor, doors, stopping).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, or the peer was gone before we came to it.
                tracing::warn!(%error, "cannot accept a connection; going on");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    let finishing = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_MAX, finishing).await.is_err() {
        connections.shutdown().await;
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended in a panic");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    doors: Doors,
    stopping: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot turn Nagle's algorithm off");
    }
    let Some(acceptor) = acceptor else {
        return requests(stream, peer, Scheme::HTTP, false, doors, stopping).await;
    };
    match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            requests(stream, peer, Scheme::HTTPS, second, doors, stopping).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
        Err(_elapsed) => tracing::debug!(%peer, "no TLS in time"),
    }
}

async fn requests<S>(
    stream: S,
    peer: SocketAddr,
    scheme: Scheme,
    second: bool,
    doors: Doors,
    stopping: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (doors, scheme) = (doors.clone(), scheme.clone());
        async move { Ok::<_, Infallible>(doors.answer(request.map(Body::new), peer, scheme).await) }
    });
    let io = TokioIo::new(stream);
    let outcome = if second {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_MAX);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Counts open connections.
#[derive(Clone, Default)]
struct Places {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= CONNECTIONS_MAX {
            return None;
        }
        if !address.is_loopback() {
            let of_address = taken.by_address.entry(address).or_default();
            if *of_address >= CONNECTIONS_PER_ADDRESS_MAX {
                return None;
            }
            *of_address += 1;
        }
        taken.all += 1;
        Some(Place { places: self.clone(), address })
    }
}

/// One open connection's place; dropping it gives it back.
struct Place {
    places: Places,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::default();
        let greedy: IpAddr = "192.0.2.1".parse().expect("an address");
        let other: IpAddr = "192.0.2.2".parse().expect("an address");
        let mut held: Vec<Place> = Vec::new();
        while let Some(place) = places.take(greedy) {
            held.push(place);
        }
        assert_eq!(held.len(), CONNECTIONS_PER_ADDRESS_MAX);
        let of_other = places.take(other).expect("room for another address");
        held.pop();
        assert!(places.take(greedy).is_some());
        drop((held, of_other));
        let taken = places.taken.lock().expect("not poisoned");
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }
}
