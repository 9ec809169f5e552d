//! Data channels: how a session that was started meets the connection that is made for it.
//!
//! `StartSession` admits a session and takes a seat in the [`Lobby`]; whoever comes with the seat's token is led to it.
//! A token is good once, for a minute, for one session and one principal; only its digest is kept.
//!
//! - `session`: one task per session, from its seat to its end, over any number of connections.
//! - `upgrade`: a connection from its request to its seat.

pub(crate) mod session;
pub(crate) mod upgrade;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use axum::extract::ws::WebSocket;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ravelin_engine::keys::random_bytes;
use ravelin_engine::leg::SocketHandle;
use ravelin_model::{PrincipalName, SessionId};
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a token is good, and how long a new session waits for its client.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// A connection that has shown its token.
pub(crate) struct Arrival {
    pub(crate) socket: WebSocket,
    pub(crate) handle: SocketHandle,
}

/// The sessions of this dialect that are alive, by id.
#[derive(Default)]
pub(crate) struct Lobby {
    seats: Mutex<HashMap<SessionId, Seat>>,
}

struct Seat {
    owner: PrincipalName,
    token: Option<Token>,
    arrivals: mpsc::Sender<Arrival>,
}

struct Token {
    digest: [u8; 32],
    until: Instant,
}

impl Token {
    fn mint() -> (SecretString, Self) {
        let text = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
        let token = Self { digest: sha256(&text), until: Instant::now() + TOKEN_LIFE };
        (SecretString::from(text), token)
    }
}

/// A session's place. Dropping it gives it back; its tokens open nothing then.
pub(crate) struct Taken {
    lobby: Arc<Lobby>,
    id: SessionId,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.lobby.seats().remove(&self.id);
    }
}

impl Lobby {
    /// Takes a seat for a session; the token leads to it.
    pub(crate) fn take(self: &Arc<Self>, id: SessionId, owner: PrincipalName) -> (Taken, SecretString) {
        let (arrivals, receiver) = mpsc::channel(1);
        let (text, token) = Token::mint();
        self.seats().insert(id.clone(), Seat { owner, token: Some(token), arrivals });
        (Taken { lobby: Arc::clone(self), id, arrivals: receiver }, text)
    }

    /// A new token for a session that is alive; the one before is void. `None` when there is no such session here.
    pub(crate) fn renew(&self, id: &SessionId) -> Option<SecretString> {
        let mut seats = self.seats();
        let seat = seats.get_mut(id)?;
        let (text, token) = Token::mint();
        seat.token = Some(token);
        Some(text)
    }

    /// Where the bearer of this token is to go. The token is used up by it. `signer` is who signed the request, if
    /// somebody did. `None` whatever is wrong.
    pub(crate) fn claim(&self, id: &str, token: &str, signer: Option<&PrincipalName>) -> Option<mpsc::Sender<Arrival>> {
        let id = SessionId::parse(id).ok()?;
        let shown = sha256(token);
        let mut seats = self.seats();
        let seat = seats.get_mut(&id)?;
        let kept = seat.token.as_ref().filter(|kept| Instant::now() < kept.until)?;
        verify_slices_are_equal(&kept.digest, &shown).ok()?;
        if signer.is_some_and(|signer| *signer != seat.owner) {
            return None;
        }
        seat.token = None;
        Some(seat.arrivals.clone())
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<SessionId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn name(text: &str) -> PrincipalName {
        PrincipalName::parse(text).expect("a name")
    }

    #[test]
    fn a_token_opens_one_seat_once_for_its_owner() {
        let lobby = Arc::new(Lobby::default());
        let (one, other) = (SessionId::new(&name("alice"), 1), SessionId::new(&name("alice"), 2));
        let (taken, token) = lobby.take(one.clone(), name("alice"));
        let (_other, _) = lobby.take(other.clone(), name("alice"));
        let claim = |id: &SessionId, signer: Option<&PrincipalName>| {
            lobby.claim(id.as_str(), token.expose_secret(), signer).is_some()
        };
        assert!(!claim(&other, None), "of another session");
        assert!(!claim(&one, Some(&name("bob"))), "signed by somebody else");
        assert!(lobby.claim(one.as_str(), "x", None).is_none());
        assert!(lobby.claim("nonsense", token.expose_secret(), None).is_none());
        assert!(claim(&one, Some(&name("alice"))), "none of these used it up");
        assert!(!claim(&one, None), "but this did");

        let renewed = lobby.renew(&one).expect("alive");
        let again = lobby.renew(&one).expect("alive");
        assert!(lobby.claim(one.as_str(), renewed.expose_secret(), None).is_none(), "the newest counts");
        drop(taken);
        assert!(lobby.claim(one.as_str(), again.expose_secret(), None).is_none(), "its session is over");
        assert!(lobby.renew(&one).is_none());
    }
}
