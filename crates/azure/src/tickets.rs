//! What stands between a tunnel's wish and its socket: the tokens that `/api/tokens` gave out.
//!
//! INVARIANT: a token opens one socket, once, within [`Tickets::LIFE`], for the caller and the destination that it was
//! given out for. Only digests of tokens are kept, so that nothing in memory or in a dump of it opens anything.
//!
//! A token is good at the node that gave it out; its whole life is one exchange of one client.

use crate::proto::tunnel_request::Destination;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ravelin_engine::Caller;
use ravelin_engine::keys::random_bytes;
use ravelin_model::{PrincipalName, Refusal, TargetName};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A wish that was granted, waiting for its socket.
pub(crate) struct Ticket {
    /// Who wished it.
    pub(crate) caller: Caller,
    /// Where to, in their words.
    pub(crate) destination: Destination,
    /// The target that it meant then. It must mean the same one when the socket opens.
    pub(crate) target: TargetName,
}

/// The two secrets of a ticket.
pub(crate) struct Pair {
    /// Ends the tunnel, and opens it for older clients.
    pub(crate) auth_token: String,
    /// Opens the tunnel.
    pub(crate) websocket_token: String,
}

/// Which of its tokens a socket is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opener {
    /// The token made for it.
    WebsocketToken,
    /// The other one, by older clients.
    AuthToken,
}

type Digest = [u8; 32];

/// All tickets of this node.
#[derive(Default)]
pub(crate) struct Tickets {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    /// By the digest of the auth token.
    waiting: HashMap<Digest, Waiting>,
    /// From the digest of a websocket token to that of its auth token.
    openers: HashMap<Digest, Digest>,
    /// Tunnels that are open, by the digest of the auth token.
    open: HashMap<Digest, CancellationToken>,
}

struct Waiting {
    ticket: Ticket,
    opener: Digest,
    until: Instant,
}

impl Tickets {
    /// How long a token waits for its socket.
    pub(crate) const LIFE: Duration = Duration::from_secs(60);
    /// Tokens that wait at once, in all and of one principal.
    const WAITING_MAX: usize = 8192;
    const WAITING_PER_PRINCIPAL_MAX: usize = 1024;

    /// Gives out the tokens of a ticket.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`] when too many wait.
    pub(crate) fn issue(&self, ticket: Ticket, now: Instant) -> Result<Pair, Refusal> {
        let [auth_token, websocket_token] =
            [random_bytes::<32>(), random_bytes::<32>()].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let (key, opener) = (digest_of(&auth_token), digest_of(&websocket_token));
        let mut shelf = hold(&self.shelf);
        shelf.forget_old(now);
        let of =
            |name: &PrincipalName| shelf.waiting.values().filter(|other| other.ticket.caller.name() == name).count();
        let full = if shelf.waiting.len() >= Self::WAITING_MAX {
            Some("tunnels that wait for their socket")
        } else if of(ticket.caller.name()) >= Self::WAITING_PER_PRINCIPAL_MAX {
            Some("tunnels of one principal that wait for their socket")
        } else {
            None
        };
        if let Some(limit) = full {
            return Err(Refusal::LimitReached { limit: limit.to_owned(), retry_after: Some(Self::LIFE) });
        }
        shelf.openers.insert(opener, key);
        shelf.waiting.insert(key, Waiting { ticket, opener, until: now + Self::LIFE });
        Ok(Pair { auth_token, websocket_token })
    }

    /// The ticket of a token, which is used up with that, and the tunnel's place until it is dropped.
    pub(crate) fn take(&self, opener: Opener, token: &str, now: Instant) -> Option<(Ticket, OpenTunnel)> {
        let mut shelf = hold(&self.shelf);
        shelf.forget_old(now);
        let key = match opener {
            Opener::AuthToken => digest_of(token),
            Opener::WebsocketToken => *shelf.openers.get(&digest_of(token))?,
        };
        let waiting = shelf.waiting.remove(&key)?;
        shelf.openers.remove(&waiting.opener);
        let deleted = CancellationToken::new();
        shelf.open.insert(key, deleted.clone());
        Some((waiting.ticket, OpenTunnel { shelf: Arc::clone(&self.shelf), key, deleted }))
    }

    /// Forgets an auth token: what waits can no longer be opened, what is open is closed. Whether there was anything.
    pub(crate) fn delete(&self, auth_token: &str) -> bool {
        let key = digest_of(auth_token);
        let mut shelf = hold(&self.shelf);
        if let Some(waiting) = shelf.waiting.remove(&key) {
            shelf.openers.remove(&waiting.opener);
            return true;
        }
        match shelf.open.get(&key) {
            Some(deleted) => {
                deleted.cancel();
                true
            }
            None => false,
        }
    }
}

impl Shelf {
    fn forget_old(&mut self, now: Instant) {
        let openers = &mut self.openers;
        self.waiting.retain(|_, waiting| {
            let good = now < waiting.until;
            if !good {
                openers.remove(&waiting.opener);
            }
            good
        });
    }
}

/// An open tunnel, for as long as it is kept.
pub(crate) struct OpenTunnel {
    shelf: Arc<Mutex<Shelf>>,
    key: Digest,
    /// Cancelled when its client deletes its token.
    pub(crate) deleted: CancellationToken,
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        hold(&self.shelf).open.remove(&self.key);
    }
}

fn hold(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest_of(token: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    out
}
