//! `ravelin bastion tunnel`: a local port, or standard input and output, joined to a port of a machine.
//!
//! Each local connection is a session of its own at the bastion. The listener outlives them: a tunnel that was cut ends
//! its own connection, says why, and the next connection gets a new one.

use super::place::{HostArgs, Place};
use crate::cli::failure::Failure;
use crate::cli::screen;
use ravelin_azure::client::tunnel::{Destination, Ended, TunnelError, Tunnels};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(super) const HELP: &str = "Examples:
  ravelin bastion tunnel --target-resource-id vm01 --resource-port 3389 --port 13389
  ssh -o ProxyCommand='ravelin bastion tunnel --stdio --target-resource-id %h --resource-port %p' root@vm01";

/// Local connections that are served at the same time.
const CONNECTIONS_MAX: usize = 256;
/// How often a tunnel is tried before its local connection is given up; it has carried nothing by then.
const TRIES_MAX: u32 = 3;
/// Between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The status of a close frame when nothing is wrong: RFC 6455, section 7.4.1.
const CLOSED: u16 = 1000;
/// After a failure to accept, such as no descriptor being left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The machine, and through which host.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DestinationArgs {
    #[command(flatten)]
    pub(super) host: HostArgs,
    /// Resource id of the machine, or its name in the same resource group
    #[arg(long, value_name = "ID", required_unless_present = "target_ip_address")]
    pub(super) target_resource_id: Option<String>,
    /// Address of the machine, where the bastion allows connecting by address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "target_resource_id")]
    pub(super) target_ip_address: Option<IpAddr>,
}

/// A tunnel and its end on this side.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TunnelArgs {
    #[command(flatten)]
    to: DestinationArgs,
    /// TCP port on the machine
    #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    resource_port: u16,
    /// Local port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0, conflicts_with = "stdio")]
    port: u16,
    /// Local address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", conflicts_with = "stdio")]
    bind: IpAddr,
    /// Carry standard input and output, as ssh wants it of a ProxyCommand
    #[arg(long)]
    stdio: bool,
}

impl DestinationArgs {
    pub(super) fn settle(&self, place: &Place, port: u16) -> Result<Destination, Failure> {
        let (subscription, group) = (place.subscription()?, place.resource_group()?);
        let resources = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers");
        if let Some(address) = self.target_ip_address {
            let resource_id = format!("{resources}/Microsoft.Network/bh-hostConnect/{address}");
            return Ok(Destination { resource_id, port, address: Some(address.to_string()) });
        }
        let resource_id = match self.target_resource_id.as_deref().unwrap_or_default().trim_end_matches('/') {
            "" => return Err(Failure::usage("no machine was named; give --target-resource-id")),
            // ssh, which gets it, would take it for an option.
            id if last_part(id).starts_with('-') => {
                return Err(Failure::usage(format!("{id:?} does not end in a machine's name")));
            }
            id if id.starts_with('/') => id.to_owned(),
            name if name.contains('/') => {
                return Err(Failure::usage(format!("{name:?} is neither a resource id nor a machine's name"))
                    .hint("a resource id starts with /subscriptions/"));
            }
            name => format!("{resources}/Microsoft.Compute/virtualMachines/{name}"),
        };
        Ok(Destination { resource_id, port, address: None })
    }
}

pub(super) async fn tunnel(place: &Place, args: TunnelArgs) -> Result<ExitCode, Failure> {
    let host = place.host(&args.to.host)?;
    let to = args.to.settle(place, args.resource_port)?;
    let tunnels = place.tunnels(&host).await?;
    if args.stdio {
        return stdio(place, &tunnels, &to).await;
    }
    let address = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::other(format!("cannot listen on {address}: {error}")).hint("choose another --port; 0 takes a free one")
    })?;
    let at = listener.local_addr().map_err(|error| Failure::other(format!("cannot tell the port: {error}")))?;
    screen::note(&format!("listening on {at} for {}, port {}; Ctrl-C ends it", last_part(&to.resource_id), to.port));
    serve(place, listener, tunnels, to).await
}

async fn stdio(place: &Place, tunnels: &Tunnels, to: &Destination) -> Result<ExitCode, Failure> {
    let tunnel = open(tunnels, to).await.map_err(|error| place.no_tunnel(tunnels, error))?;
    let ended = tunnel.carry(tokio::io::stdin(), tokio::io::stdout()).await;
    if let Some(text) = said(&ended) {
        screen::note(&text);
    }
    Ok(match ended {
        Ended::Here | Ended::There { code: Some(CLOSED) | None, .. } => ExitCode::SUCCESS,
        // Cut off, or never got to the machine.
        Ended::There { code: Some(_), .. } | Ended::Lost(_) => ExitCode::FAILURE,
    })
}

async fn serve(place: &Place, listener: TcpListener, tunnels: Tunnels, to: Destination) -> Result<ExitCode, Failure> {
    let to = Arc::new(to);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            stop = tokio::signal::ctrl_c() => {
                stop.map_err(|error| Failure::other(format!("cannot wait for Ctrl-C: {error}")))?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(done) = running.join_next() => {
                let outcome: Result<(SocketAddr, Ended), (SocketAddr, TunnelError)> =
                    done.map_err(|error| Failure::other(format!("a tunnel's task has failed: {error}")))?;
                match outcome {
                    Ok((from, ended)) => {
                        if let Some(text) = said(&ended) {
                            screen::note(&format!("{from}: {text}"));
                        }
                    }
                    Err((from, error)) => {
                        let failure = place.no_tunnel(&tunnels, error);
                        screen::note(&format!("{from}: {}", failure.message));
                    }
                }
            }
            accepted = accept(&listener, &places) => {
                let Some((stream, from, room)) = accepted else { continue };
                let (tunnels, to) = (tunnels.clone(), Arc::clone(&to));
                running.spawn(async move {
                    let _room = room;
                    let tunnel = open(&tunnels, &to).await.map_err(|error| (from, error))?;
                    let (reader, writer) = stream.into_split();
                    Ok((from, tunnel.carry(reader, writer).await))
                });
            }
        }
    }
}

/// One more connection, when there is room for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let room = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, from)) => match stream.set_nodelay(true) {
            Ok(()) => Some((stream, from, room)),
            // It has closed already.
            Err(_) => None,
        },
        Err(error) => {
            screen::note(&format!("cannot accept a connection: {error}; trying again"));
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

/// A tunnel; what may pass by itself is tried again.
async fn open(tunnels: &Tunnels, to: &Destination) -> Result<ravelin_azure::client::tunnel::Tunnel, TunnelError> {
    let mut tried = 1;
    loop {
        let error = match tunnels.open(to).await {
            Ok(tunnel) => return Ok(tunnel),
            Err(error) => error,
        };
        let may_pass = match &error {
            TunnelError::Unreachable(_) => true,
            TunnelError::Refused { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            TunnelError::NoToken(_) | TunnelError::Strange(_) => false,
        };
        if !may_pass || tried == TRIES_MAX {
            return Err(error);
        }
        tried += 1;
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// What the person should know of an end that they did not make.
fn said(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Here => None,
        Ended::There { code: Some(CLOSED), why } if why.is_empty() => None,
        Ended::There { why, .. } if why.is_empty() => {
            Some("the bastion closed the tunnel and did not say why".to_owned())
        }
        Ended::There { why, .. } => Some(why.clone()),
        Ended::Lost(why) => Some(format!("the tunnel was lost: {why}")),
    }
}

pub(super) fn last_part(resource_id: &str) -> &str {
    resource_id.rsplit('/').next().unwrap_or_default()
}
