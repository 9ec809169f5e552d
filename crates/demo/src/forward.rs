//! Joining channels and sockets: `-L` and `-D` (the client asks us to connect), `-R` (we listen and the client
//! connects), and the agent (programs connect to us, the client has the keys).
//!
//! Must not know programs or files.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::connection::Link;
use crate::flow::{Incoming, Inlet};
use crate::session::copy_out;

/// How long the target may take to connect somewhere for the client.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// How long to wait before accepting again after the operating system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connects where the client wants to go.
pub(crate) async fn connect(host: &str, port: u32) -> io::Result<TcpStream> {
    let port = u16::try_from(port).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such port"))?;
    let stream = timeout(CONNECT_MAX, TcpStream::connect((host, port))).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Joins a channel and a stream until both directions are done, or one has failed, or the channel is closed.
/// Each direction ends on its own: an end of file is passed on while the other direction goes on.
pub(crate) async fn join<R, W>(mut inlet: Inlet, outlet: ChannelWriteHalf<Msg>, reader: R, writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let peer_is_done = Notify::new();
    let from_peer = copy_from_peer(&mut inlet, writer, &peer_is_done);
    let to_peer = async {
        copy_out(reader, &outlet, None).await?;
        outlet.eof().await.map_err(io::Error::other)?;
        peer_is_done.notified().await;
        Ok::<_, io::Error>(())
    };
    let joined = tokio::select! {
        joined = from_peer => joined,
        joined = to_peer => joined,
    };
    if let Err(error) = joined {
        debug!(%error, "a forward ended early");
    }
    // An error only says that the connection is gone, and the channel with it.
    let _gone = outlet.close().await;
}

/// Returns when the channel is closed.
async fn copy_from_peer<W: AsyncWrite + Unpin>(inlet: &mut Inlet, mut writer: W, done: &Notify) -> io::Result<()> {
    loop {
        match inlet.next().await {
            Incoming::Data(data) => writer.write_all(&data).await?,
            Incoming::Eof => {
                writer.shutdown().await?;
                done.notify_one();
            }
            Incoming::Closed => return Ok(()),
        }
    }
}

/// Binds a loopback port for the client, as OpenSSH does unless told otherwise. Whatever address the client asked
/// for only chooses the protocol.
pub(crate) async fn listen(address: &str, port: u32) -> io::Result<TcpListener> {
    let port = u16::try_from(port).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such port"))?;
    let address = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V4(_)) | Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    TcpListener::bind(SocketAddr::new(address, port)).await
}

/// Passes each connection of a forwarded port to the client, under the name it gave the port.
pub(crate) async fn serve_port(listener: TcpListener, address: String, port: u32, handle: Handle, link: Arc<Link>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "cannot accept on a forwarded port");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(permit) = link.channel() else { continue };
        let (address, handle, inner) = (address.clone(), handle.clone(), link.clone());
        link.spawn(async move {
            let _permit = permit;
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "forwarded connection was gone at once");
                return;
            }
            let opened = handle.channel_open_forwarded_tcpip(address, port, peer.ip().to_string(), peer.port().into());
            join_opened(opened.await, &inner, stream.into_split()).await;
        });
    }
}

/// The socket by which programs reach the client's agent. Dropping it removes the socket and its folder.
#[derive(Debug)]
pub(crate) struct AgentSocket {
    folder: PathBuf,
    path: PathBuf,
    listener: UnixListener,
}

impl AgentSocket {
    /// A socket in a fresh folder which nobody else may enter.
    pub(crate) fn create() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ravelin-agent-{}-{number}", std::process::id()));
        // Fails if anything has this name already, so that nobody can have laid out a folder for us. Left over from
        // an earlier process with our number, an empty or dead one is taken away first.
        remove_socket_folder(&folder);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let path = folder.join("agent");
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Self { folder, path, listener }),
            Err(error) => {
                remove_socket_folder(&folder);
                Err(error)
            }
        }
    }

    /// What programs find in `SSH_AUTH_SOCK`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Passes each connection to the client's agent. Never returns.
    pub(crate) async fn serve(self, handle: Handle, link: Arc<Link>) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "cannot accept on the agent socket");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(permit) = link.channel() else { continue };
            let (handle, inner) = (handle.clone(), link.clone());
            link.spawn(async move {
                let _permit = permit;
                join_opened(handle.channel_open_agent().await, &inner, stream.into_split()).await;
            });
        }
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        remove_socket_folder(&self.folder);
    }
}

fn remove_socket_folder(folder: &Path) {
    // Not recursive, and of no interest when there is nothing: a stranger's folder cannot be removed anyway.
    let _no_socket = fs::remove_file(folder.join("agent"));
    let _no_folder = fs::remove_dir(folder);
}

/// Connects to a Unix socket for the client (`direct-streamlocal@openssh.com`).
pub(crate) async fn connect_local(path: &str) -> io::Result<UnixStream> {
    timeout(CONNECT_MAX, UnixStream::connect(path)).await?
}

async fn join_opened<R, W>(opened: Result<Channel<Msg>, russh::Error>, link: &Link, (reader, writer): (R, W))
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match opened {
        Ok(channel) => {
            let (from, outlet) = channel.split();
            let inlet = link.backlog.inlet(outlet.id(), from);
            join(inlet, outlet, reader, writer).await;
        }
        Err(error) => debug!(%error, "client did not open a channel"),
    }
}
