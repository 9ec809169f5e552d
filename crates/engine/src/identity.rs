//! From a proof to a caller. Only this module makes a [`Caller`], and only from a proof that was checked.
//!
//! Whatever is wrong with a proof, the answer is the same; only the record knows more.

use crate::directory::Directory;
use crate::keys::{MasterKey, secret_digest};
use crate::meter::EngineMeter;
use crate::quota::{RecordQuota, neighbourhood};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::credential::{Credential, CredentialKind};
use ravelin_model::inventory::Inventory;
use ravelin_model::ports::Store;
use ravelin_model::principal::AuthMethod;
use ravelin_model::session::Actor;
use ravelin_model::text::printable;
use ravelin_model::{CredentialId, Principal, PrincipalName, Refusal};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Where a request comes from, as the listener saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The peer's address.
    pub address: SocketAddr,
    /// What the client calls itself: an SSH version string, a user agent. May be empty. Never trusted.
    pub software: String,
}

/// Somebody who proved who they are. Cannot be built outside of this module.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Arc<Principal>,
    method: AuthMethod,
    contact: Contact,
    proof: Proof,
}

/// What the inventory or the store must still hold for a caller to count.
#[derive(Clone, Debug)]
enum Proof {
    SshKey(Arc<str>),
    Credential(CredentialId),
    /// A token of somebody else's, which was good when it was shown.
    OutsideToken,
}

impl Caller {
    /// Who it is, as the inventory said when they came in.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Their name.
    #[must_use]
    pub fn name(&self) -> &PrincipalName {
        &self.principal.name
    }

    /// How they proved it.
    #[must_use]
    pub fn method(&self) -> AuthMethod {
        self.method
    }

    /// Where they come from.
    #[must_use]
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// The credential that proved it, for all methods but SSH keys.
    #[must_use]
    pub fn credential(&self) -> Option<&CredentialId> {
        match &self.proof {
            Proof::Credential(id) => Some(id),
            Proof::SshKey(_) | Proof::OutsideToken => None,
        }
    }

    /// The SSH key that proved it, in the inventory's form.
    pub(crate) fn ssh_key(&self) -> Option<&Arc<str>> {
        match &self.proof {
            Proof::SshKey(key) => Some(key),
            Proof::Credential(_) | Proof::OutsideToken => None,
        }
    }

    /// The principal as `inventory` has it, if it is still there and still has the key that proved it.
    pub(crate) fn as_of<'a>(&self, inventory: &'a Inventory) -> Option<&'a Arc<Principal>> {
        still_known(inventory, self.name(), self.ssh_key())
    }
}

/// Whose use goes on record once in a while.
#[derive(PartialEq, Eq, Hash)]
enum Credited {
    Credential(CredentialId),
    // Tokens of an outside issuer have no id of ours.
    Outside(PrincipalName),
}

/// Checks proofs.
#[derive(Clone)]
pub struct Identity {
    store: Arc<dyn Store>,
    directory: Arc<Directory>,
    master: MasterKey,
    refused: Arc<RecordQuota<IpAddr>>,
    meter: Arc<EngineMeter>,
    accepted: Arc<RecordQuota<(Credited, IpAddr)>>,
}

/// The prefix that API tokens start with, for secret scanners to find.
pub const TOKEN_PREFIX: &str = "rvl_";

/// As much of what a client calls itself is kept.
pub(crate) const SOFTWARE_CHARS_MAX: usize = 200;

/// The principal of that name, if it is there and, where a key is given, still has it.
pub(crate) fn still_known<'a>(
    inventory: &'a Inventory,
    name: &PrincipalName,
    ssh_key: Option<&Arc<str>>,
) -> Option<&'a Arc<Principal>> {
    let principal = inventory.principal(name)?;
    ssh_key.is_none_or(|key| principal.ssh_keys.iter().any(|known| **known == **key)).then_some(principal)
}

/// A credential that is used again from the same network within this time is not put on record again: every request
/// of a control dialect brings its proof.
const ACCEPTED_WINDOW: Duration = Duration::from_secs(3600);

/// Longest that the record of an accepted credential holds up its request.
const ACCEPTED_WRITE_MAX: Duration = Duration::from_secs(1);

const WRONG_PROOF: Refusal = Refusal::Unauthenticated { because: "the credentials are not valid" };

impl Identity {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        directory: Arc<Directory>,
        master: MasterKey,
        meter: Arc<EngineMeter>,
    ) -> Self {
        let accepted = Arc::new(RecordQuota::new(ACCEPTED_WINDOW, 1));
        Self { store, directory, master, refused: Arc::default(), meter, accepted }
    }

    /// Whether `key` (OpenSSH one-line form without comment) belongs to the principal `claimed`. An offer of a key is
    /// not a proof; this is only for telling a client which of its keys to sign with.
    #[must_use]
    pub fn knows_ssh_key(&self, claimed: &str, key: &str) -> bool {
        self.owner_of_ssh_key(claimed, key).is_some()
    }

    /// The caller who signed with `key`. INVARIANT: called by an SSH edge after it verified the signature over the
    /// session identifier, with the user name that was signed.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when the key is not the claimed principal's.
    pub async fn ssh_key(&self, claimed: &str, key: &str, contact: Contact) -> Result<Caller, Refusal> {
        let Some(principal) = self.owner_of_ssh_key(claimed, key) else {
            return Err(self.refuse(&contact, AuthMethod::SshKey, claimed).await);
        };
        let deed = Deed {
            kind: AuditKind::LoginAccepted,
            actor: Actor::Principal(principal.name.clone()),
            session: None,
            facts: BTreeMap::from([
                ("method".to_owned(), AuthMethod::SshKey.word().to_owned()),
                ("client_address".to_owned(), contact.address.to_string()),
                ("client_software".to_owned(), printable(&contact.software, SOFTWARE_CHARS_MAX)),
            ]),
        };
        self.store.record(deed).await?;
        Ok(Caller { principal, method: AuthMethod::SshKey, contact, proof: Proof::SshKey(Arc::from(key)) })
    }

    fn owner_of_ssh_key(&self, claimed: &str, key: &str) -> Option<Arc<Principal>> {
        let name = PrincipalName::parse(claimed).ok()?;
        let rules = self.directory.rules();
        let principal = rules.inventory.principal(&name)?;
        principal.ssh_keys.iter().any(|known| known == key).then(|| Arc::clone(principal))
    }

    /// The caller who bears an API token.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`], always with the same text; or what the store refuses.
    pub async fn token(&self, token: &SecretString, contact: Contact) -> Result<Caller, Refusal> {
        let split = token.expose_secret().strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((id, secret)) = split else {
            return Err(self.refuse(&contact, AuthMethod::Token, "").await);
        };
        self.by_secret(id, secret, CredentialKind::Token, AuthMethod::Token, contact).await
    }

    /// The caller who holds a client id and its secret.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`], always with the same text; or what the store refuses.
    pub async fn client_secret(&self, id: &str, secret: &SecretString, contact: Contact) -> Result<Caller, Refusal> {
        let secret = secret.expose_secret();
        self.by_secret(id, secret, CredentialKind::ClientSecret, AuthMethod::ClientSecret, contact).await
    }

    /// The caller for whom the client id `id` was issued. INVARIANT: called by an edge after it verified a bearer token
    /// that it had issued against that id and its secret.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when the credential was revoked, has expired or lost its principal.
    pub async fn bearer(&self, id: &str, contact: Contact) -> Result<Caller, Refusal> {
        match self.valid(id, CredentialKind::ClientSecret).await? {
            Some((principal, credential)) => {
                Ok(self.accept(principal, AuthMethod::ClientSecret, contact, credential.id).await)
            }
            None => Err(self.refuse(&contact, AuthMethod::ClientSecret, id).await),
        }
    }

    /// The caller of that name. INVARIANT: called by an edge after it verified a bearer token of an issuer that the
    /// configuration trusts, whose claims name this principal.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when the inventory has no such principal.
    pub async fn outside_token(&self, claimed: &str, contact: Contact) -> Result<Caller, Refusal> {
        let rules = self.directory.rules();
        let principal = PrincipalName::parse(claimed).ok().and_then(|name| rules.inventory.principal(&name).cloned());
        match principal {
            Some(principal) => {
                let source = Credited::Outside(principal.name.clone());
                self.note_accepted(source, &principal, AuthMethod::OutsideToken, &contact).await;
                Ok(Caller { principal, method: AuthMethod::OutsideToken, contact, proof: Proof::OutsideToken })
            }
            None => Err(self.refuse(&contact, AuthMethod::OutsideToken, claimed).await),
        }
    }

    /// The same caller in a later step of what they began, coming from `contact`: for an edge that was handed a secret of
    /// its own making in between. Everything that made them count is looked at anew.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when the credential was revoked, has expired or lost its principal, or the key or the
    /// principal has gone; what the store refuses.
    pub async fn again(&self, caller: &Caller, contact: Contact) -> Result<Caller, Refusal> {
        let principal = match &caller.proof {
            Proof::SshKey(_) | Proof::OutsideToken => caller.as_of(&self.directory.rules().inventory).cloned(),
            Proof::Credential(id) => match self.store.credential(id).await? {
                Some(credential)
                    if credential.principal == *caller.name() && credential.is_valid(self.store.now().await?) =>
                {
                    caller.as_of(&self.directory.rules().inventory).cloned()
                }
                Some(_) | None => None,
            },
        };
        match principal {
            Some(principal) => Ok(Caller { principal, method: caller.method, contact, proof: caller.proof.clone() }),
            None => Err(self.refuse(&contact, caller.method, caller.name().as_str()).await),
        }
    }

    /// The caller who signed a request. `expected` computes the signature that the right secret gives; each comparison
    /// takes the same time wherever they differ.
    ///
    /// # Errors
    /// [`SignatureRefusal`], which tells an unknown key from a wrong signature, because some dialects must.
    pub async fn signed_request(
        &self,
        signed: Signed<'_>,
        contact: Contact,
        expected: impl FnOnce(&SecretString) -> Vec<u8> + Send,
    ) -> Result<Caller, SignatureRefusal> {
        match self.check_signed(&signed, expected).await {
            Ok((principal, credential)) => {
                Ok(self.accept(principal, AuthMethod::SignedRequest, contact, credential.id).await)
            }
            Err(SignatureRefusal::Other(refusal)) => Err(SignatureRefusal::Other(refusal)),
            Err(refused) => {
                self.refuse(&contact, AuthMethod::SignedRequest, signed.key).await;
                Err(refused)
            }
        }
    }

    async fn check_signed(
        &self,
        signed: &Signed<'_>,
        expected: impl FnOnce(&SecretString) -> Vec<u8> + Send,
    ) -> Result<(Arc<Principal>, Credential), SignatureRefusal> {
        let found = self.known(signed.key).await.map_err(SignatureRefusal::Other)?;
        let (principal, credential) = found.ok_or(SignatureRefusal::UnknownKey)?;
        let now = self.store.now().await.map_err(SignatureRefusal::Other)?;
        let temporary = match credential.kind {
            CredentialKind::TemporaryKey => true,
            CredentialKind::SigningKey if credential.is_valid(now) => false,
            CredentialKind::SigningKey | CredentialKind::Token | CredentialKind::ClientSecret => {
                return Err(SignatureRefusal::UnknownKey);
            }
        };
        match signed.session_token {
            Some(_) if !temporary => return Err(SignatureRefusal::NeedlessToken),
            Some(token) => {
                let right = self.master.session_token(signed.key);
                verify_slices_are_equal(right.expose_secret().as_bytes(), token)
                    .map_err(|_differs| SignatureRefusal::WrongToken)?;
            }
            None if temporary => return Err(SignatureRefusal::WrongToken),
            None => {}
        }
        let expected = expected(&self.master.signing_secret(signed.key));
        verify_slices_are_equal(&expected, signed.signature).map_err(|_differs| SignatureRefusal::WrongSignature)?;
        // Told to whoever held it only.
        if !credential.is_valid(now) {
            return Err(SignatureRefusal::Expired);
        }
        Ok((principal, credential))
    }

    async fn by_secret(
        &self,
        id: &str,
        secret: &str,
        kind: CredentialKind,
        method: AuthMethod,
        contact: Contact,
    ) -> Result<Caller, Refusal> {
        let found = self.valid(id, kind).await?;
        // The digest is made and compared whether the id is known or not.
        let digest = secret_digest(secret);
        let known = found.as_ref().and_then(|(_, credential)| credential.digest).unwrap_or([0; 32]);
        let equal = verify_slices_are_equal(&digest, &known).is_ok();
        match found {
            Some((principal, credential)) if equal => Ok(self.accept(principal, method, contact, credential.id).await),
            Some(_) | None => Err(self.refuse(&contact, method, id).await),
        }
    }

    /// The caller whose credential was good.
    async fn accept(
        &self,
        principal: Arc<Principal>,
        method: AuthMethod,
        contact: Contact,
        credential: CredentialId,
    ) -> Caller {
        self.note_accepted(Credited::Credential(credential.clone()), &principal, method, &contact).await;
        Caller { principal, method, contact, proof: Proof::Credential(credential) }
    }

    /// Puts an accepted proof on record, once in a while for each network that it is used from.
    async fn note_accepted(&self, source: Credited, principal: &Principal, method: AuthMethod, contact: &Contact) {
        let credential = match &source {
            Credited::Credential(credential) => Some(credential.to_string()),
            Credited::Outside(_) => None,
        };
        let Some(passed_over) = self.accepted.admit((source, neighbourhood(contact.address.ip()))) else { return };
        let mut facts = BTreeMap::from([
            ("method".to_owned(), method.word().to_owned()),
            ("client_address".to_owned(), contact.address.to_string()),
            ("client_software".to_owned(), printable(&contact.software, SOFTWARE_CHARS_MAX)),
            ("passed_over_before".to_owned(), passed_over.to_string()),
        ]);
        facts.extend(credential.map(|credential| ("credential".to_owned(), credential)));
        let actor = Actor::Principal(principal.name.clone());
        let deed = Deed { kind: AuditKind::LoginAccepted, actor, session: None, facts };
        // A control request must work when the store cannot be written: it may be the one that ends a session.
        match tokio::time::timeout(ACCEPTED_WRITE_MAX, self.store.record(deed)).await {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => tracing::error!(?refusal, "an accepted login could not be put on record"),
            Err(_elapsed) => tracing::error!("an accepted login is on record later, if at all: the store is slow"),
        }
    }

    /// The principal and the credential, when both are good now.
    async fn valid(&self, id: &str, kind: CredentialKind) -> Result<Option<(Arc<Principal>, Credential)>, Refusal> {
        let Some(found) = self.known(id).await?.filter(|(_, credential)| credential.kind == kind) else {
            return Ok(None);
        };
        let now = self.store.now().await?;
        Ok(Some(found).filter(|(_, credential)| credential.is_valid(now)))
    }

    /// The principal and the credential of any kind, when it was not revoked; it may have expired.
    async fn known(&self, id: &str) -> Result<Option<(Arc<Principal>, Credential)>, Refusal> {
        let Ok(id) = CredentialId::parse(id) else { return Ok(None) };
        let found = self.store.credential(&id).await?.filter(|credential| credential.revoked.is_none());
        let Some(credential) = found else { return Ok(None) };
        let rules = self.directory.rules();
        Ok(rules.inventory.principal(&credential.principal).cloned().map(|principal| (principal, credential)))
    }

    /// Puts a refused proof on record, as often as the record can bear, and gives the one answer.
    pub async fn refuse(&self, contact: &Contact, method: AuthMethod, claimed: &str) -> Refusal {
        self.meter.proof_refused(method);
        if let Some(passed_over) = self.refused.admit(neighbourhood(contact.address.ip())) {
            let claimed = printable(claimed, 64);
            let deed = Deed {
                kind: AuditKind::LoginRefused,
                actor: Actor::System,
                session: None,
                facts: BTreeMap::from([
                    ("method".to_owned(), method.word().to_owned()),
                    ("client_address".to_owned(), contact.address.to_string()),
                    ("claimed".to_owned(), claimed),
                    ("passed_over_before".to_owned(), passed_over.to_string()),
                ]),
            };
            if let Err(refusal) = self.store.record(deed).await {
                tracing::error!(?refusal, "a refused login could not be put on record");
            }
        }
        WRONG_PROOF
    }
}

/// What a signed request says of itself, as far as this has to be checked here.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    /// The key's id.
    pub key: &'a str,
    /// The signature, in the dialect's form.
    pub signature: &'a [u8],
    /// The session token that came along. INVARIANT: covered by the signature.
    pub session_token: Option<&'a [u8]>,
}

/// Why a signed request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureRefusal {
    /// No valid key of that id.
    UnknownKey,
    /// The key is not temporary, and a session token came along.
    NeedlessToken,
    /// The key is temporary, and its session token is missing or another.
    WrongToken,
    /// Everything is right, but the temporary key has expired.
    Expired,
    /// The key is known and the signature is not its.
    WrongSignature,
    /// Something else stood in the way.
    Other(Refusal),
}
