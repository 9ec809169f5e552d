//! The ledger: how the record of events is chained, signed and checked.
//!
//! Each event's hash covers its own canonical encoding and the hash of the event before; the first one covers the
//! [`genesis`] of the deployment. So whoever changes, removes, inserts or moves one event has to make every later hash
//! anew, and then a signed checkpoint does not fit any more. A checkpoint is itself an event: it lies in the chain, and
//! goes wherever events go.
//!
//! `docs/wire/ledger.md` specifies every byte. Everything here is computation: bytes in, bytes or findings out.

use crate::audit::{AuditEvent, AuditKind, Deed};
use crate::session::Actor;
use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::collections::BTreeMap;
use std::fmt;

/// Begins everything that is hashed as the start of a chain.
const GENESIS_DOMAIN: &[u8] = b"ravelin ledger v1 genesis\0";
/// Begins everything that is hashed as an event.
const EVENT_DOMAIN: &[u8] = b"ravelin ledger v1 event\0";
/// Begins everything that is signed as a checkpoint.
const CHECKPOINT_DOMAIN: &[u8] = b"ravelin ledger v1 checkpoint\0";
/// Begins everything that is signed as the place where retention cut the record.
const CUT_DOMAIN: &[u8] = b"ravelin ledger v1 cut\0";

/// Events after which a checkpoint follows at the latest.
pub const CHECKPOINT_EVENTS: u64 = 1000;

/// A SHA-256 of the chain. Its text form is 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// From 64 hex digits of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash that the first event of a deployment builds on.
#[must_use]
pub fn genesis(deployment: &str) -> Digest {
    let mut bytes = GENESIS_DOMAIN.to_vec();
    put_text(&mut bytes, deployment);
    sha256(&[&bytes])
}

/// The canonical encoding of an event. `facts` come in ascending order of their names, each name once.
#[must_use]
pub fn encode<'a>(
    seq: u64,
    at_micros: i64,
    kind: &str,
    actor: &str,
    session: Option<&str>,
    facts: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&at_micros.to_be_bytes());
    put_text(&mut bytes, kind);
    put_text(&mut bytes, actor);
    match session {
        None => bytes.push(0),
        Some(session) => {
            bytes.push(1);
            put_text(&mut bytes, session);
        }
    }
    put_count(&mut bytes, facts.len());
    for (name, value) in facts {
        put_text(&mut bytes, name);
        put_text(&mut bytes, value);
    }
    bytes
}

/// The canonical encoding of an event of the model.
#[must_use]
pub fn encode_event(event: &AuditEvent) -> Vec<u8> {
    let deed = &event.deed;
    let facts = deed.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let session = deed.session.as_ref().map(crate::SessionId::as_str);
    encode(event.seq, event.at.as_micros(), deed.kind.word(), &deed.actor.to_string(), session, facts)
}

/// The hash of an event that follows one of hash `before`.
#[must_use]
pub fn link(before: &Digest, encoding: &[u8]) -> Digest {
    sha256(&[EVENT_DOMAIN, &before.0, encoding])
}

/// An event with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event.
    pub event: AuditEvent,
    /// Its hash.
    pub hash: Digest,
}

/// What a chain stands on: whose it is, and where what is kept of it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foundation {
    /// The deployment's id, drawn once when its store was made.
    pub deployment: String,
    /// The number of the last event that is no longer kept; 0 when all are.
    pub after: u64,
    /// The hash of that event, or the [`genesis`].
    pub head: Digest,
    /// The signature over the cut, where retention made one.
    pub signature: Option<Signature>,
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// From 128 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Signature)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The public half of a deployment's ledger key: all that a verifier needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// From 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(PublicKey)
    }

    fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&signature::ED25519, self.0).verify(message, &signature.0).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// The key that signs checkpoints and cuts.
pub struct LedgerKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for LedgerKey {
    /// Without the private half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerKey").field("public", &self.public().to_string()).finish_non_exhaustive()
    }
}

impl LedgerKey {
    /// Bytes of a seed.
    pub const SEED_BYTES: usize = 32;

    /// The key that a random seed stands for; `None` when the library refuses it, which it does for no seed of 32 bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; Self::SEED_BYTES]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(|pair| Self { pair })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs that retention removed everything up to `after`, whose hash is `head`.
    #[must_use]
    pub fn sign_cut(&self, deployment: &str, after: u64, head: &Digest) -> Signature {
        self.sign(&statement(CUT_DOMAIN, deployment, after, head))
    }

    /// The deed of a checkpoint through event `through`, whose hash is `head`.
    #[must_use]
    pub fn checkpoint(&self, deployment: &str, through: u64, head: &Digest) -> Deed {
        let signature = self.sign(&statement(CHECKPOINT_DOMAIN, deployment, through, head));
        let facts = BTreeMap::from([
            ("through".to_owned(), through.to_string()),
            ("head".to_owned(), head.to_string()),
            ("key".to_owned(), self.public().to_string()),
            ("signature".to_owned(), signature.to_string()),
        ]);
        Deed { kind: AuditKind::LedgerCheckpoint, actor: Actor::System, session: None, facts }
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(bytes)
    }
}

fn statement(domain: &[u8], deployment: &str, seq: u64, head: &Digest) -> Vec<u8> {
    let mut bytes = domain.to_vec();
    put_text(&mut bytes, deployment);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&head.0);
    bytes
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event that it covers.
    pub through: u64,
    /// That event's hash.
    pub head: Digest,
    /// The key that it names.
    pub key: PublicKey,
    /// The signature.
    pub signature: Signature,
}

impl Checkpoint {
    /// Reads the facts of an event of kind `ledger_checkpoint`; `None` when one is missing or no value.
    #[must_use]
    pub fn from_facts<'a>(fact: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self {
            through: fact("through")?.parse().ok()?,
            head: Digest::parse(fact("head")?)?,
            key: PublicKey::parse(fact("key")?)?,
            signature: Signature::parse(fact("signature")?)?,
        })
    }

    /// Whether `key` signed this for `deployment`.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey, deployment: &str) -> bool {
        key.verifies(&statement(CHECKPOINT_DOMAIN, deployment, self.through, &self.head), &self.signature)
    }
}

/// One event as a verifier needs it, from wherever it was read.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number, as it claims.
    pub seq: u64,
    /// See [`encode`]; empty for an event that cannot be read, which fits no chain.
    pub encoding: Vec<u8>,
    /// Its hash, as it claims; `None` when that cannot be read.
    pub hash: Option<Digest>,
    /// For an event of kind `ledger_checkpoint`: what it says, or `None` within when that cannot be read.
    pub checkpoint: Option<Option<Checkpoint>>,
}

/// The first thing that is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// An event is not the one that was written: the one that does not fit, or one before it whose own hash was made anew,
    /// which nobody can tell apart.
    #[error("record {seq} was changed{}: its content does not have the hash that the chain has", if from == seq { String::new() } else { format!(", or one before it, back to record {from}, and the hashes up to there were made anew") })]
    Changed {
        /// The first that it can be: no earlier checkpoint covers it. The same as `seq` when it is that one for certain.
        from: u64,
        /// The one that does not fit.
        seq: u64,
    },
    /// Events are missing in the middle.
    #[error("record {from} was removed: {} missing before record {}", if from == to { "it is".to_owned() } else { format!("it and all up to {to} are") }, to + 1)]
    Removed {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// An event stands in the record that was not written there.
    #[error("record {seq} was inserted: it stands after record {after} and the chain has no place for it")]
    Inserted {
        /// The number that it bears.
        seq: u64,
        /// The last event before it.
        after: u64,
    },
    /// Events do not stand in the order of the chain.
    #[error("record {seq} was moved: it stands before record {before}")]
    Reordered {
        /// The one that stands too early.
        seq: u64,
        /// The one that should stand there.
        before: u64,
    },
    /// The end is missing.
    #[error("the tail was cut off: the last record is {last}, and {known} is known to exist")]
    Truncated {
        /// The last event that is there.
        last: u64,
        /// A later one that a checkpoint, a sink or the store's own count knows of.
        known: u64,
    },
    /// The hashes fit each other and not what was signed.
    #[error(
        "one of the records {from} to {to} was changed, removed or inserted, and the hashes were made anew: the checkpoint through {to} {because}"
    )]
    Rewritten {
        /// The first that no earlier checkpoint covers.
        from: u64,
        /// The last that the checkpoint covers.
        to: u64,
        /// What does not fit.
        because: &'static str,
    },
    /// What is kept does not begin where a signed cut says.
    #[error("records were removed from the beginning: {because}")]
    Beginning {
        /// What does not fit.
        because: &'static str,
    },
    /// Too much at the end is covered by no checkpoint.
    #[error("the records from {from} to {to} are covered by no checkpoint, and one was due after {CHECKPOINT_EVENTS}")]
    Unsigned {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A checkpoint that was kept elsewhere is not of this chain.
    #[error("the known checkpoint through {through} {because}")]
    KnownCheckpoint {
        /// The last event that it covers.
        through: u64,
        /// What does not fit.
        because: &'static str,
    },
}

/// How the beginning of what was checked is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is the deployment's first event.
    Genesis,
    /// A signed cut says that retention removed what was before.
    SignedCut,
    /// Nothing says so; what was asked for is a part.
    Unproven,
}

/// What a clean check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How the beginning is proven.
    pub beginning: Beginning,
    /// The first event's number; 0 when there is none.
    pub first: u64,
    /// The last event's number.
    pub last: u64,
    /// The last event's hash.
    pub head: Digest,
    /// Checkpoints that fit.
    pub checkpoints: u64,
    /// The last event that a checkpoint covers; 0 for none.
    pub signed_through: u64,
}

/// What a verifier holds the chain against.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// The deployment's public key.
    pub key: PublicKey,
    /// A checkpoint that was kept elsewhere.
    pub known: Option<Checkpoint>,
    /// A number that is known to have been given out; 0 for none.
    pub at_least: u64,
    /// Whether what is checked may begin anywhere.
    pub is_part: bool,
}

/// Checks a chain, event by event, in the order in which they stand. Goes on after the first fault only as far as it
/// takes to say what was done there. Memory does not grow with the chain.
#[derive(Debug)]
pub struct Verifier {
    deployment: String,
    expect: Expectations,
    beginning: Beginning,
    /// What is checked begins behind this number.
    after: u64,
    first: u64,
    next: u64,
    head: Digest,
    checkpoints: u64,
    signed_through: u64,
    state: Walk,
}

#[derive(Debug)]
enum Walk {
    Clean,
    /// An event with the expected number does not fit; the next one tells whether it stands in another's place.
    Mismatch {
        seq: u64,
        /// It cannot be read, so it is the one that was changed.
        is_unreadable: bool,
    },
    /// An event came too early. If the missing ones follow, and lead to it, it was moved.
    Early {
        early: Line,
        expected: u64,
        resumed: bool,
    },
    Faulty(LedgerFault),
}

impl Verifier {
    /// A verifier of what stands on `foundation`.
    #[must_use]
    pub fn new(foundation: &Foundation, expect: Expectations) -> Self {
        let Foundation { deployment, after, head, signature } = foundation;
        let signed =
            |signature: &Signature| expect.key.verifies(&statement(CUT_DOMAIN, deployment, *after, head), signature);
        let fault = |because| Walk::Faulty(LedgerFault::Beginning { because });
        let (beginning, state) = match (after, signature) {
            (0, _) if *head == genesis(deployment) => (Beginning::Genesis, Walk::Clean),
            (0, _) => (Beginning::Unproven, fault("the chain does not begin with the deployment's genesis")),
            (_, Some(signature)) if signed(signature) => (Beginning::SignedCut, Walk::Clean),
            (_, Some(_)) => (Beginning::Unproven, fault("the cut is not signed with the deployment's key")),
            (_, None) if expect.is_part => (Beginning::Unproven, Walk::Clean),
            (_, None) => (Beginning::Unproven, fault("no signed cut says that retention removed them")),
        };
        Self {
            deployment: deployment.clone(),
            after: *after,
            first: 0,
            next: after + 1,
            head: *head,
            checkpoints: 0,
            signed_through: 0,
            beginning,
            expect,
            state,
        }
    }

    /// The first fault, as soon as nothing that follows can change what it is called.
    #[must_use]
    pub fn fault(&self) -> Option<&LedgerFault> {
        match &self.state {
            Walk::Faulty(fault) => Some(fault),
            Walk::Clean | Walk::Mismatch { .. } | Walk::Early { .. } => None,
        }
    }

    /// Takes in the next event.
    pub fn handle(&mut self, line: Line) {
        match std::mem::replace(&mut self.state, Walk::Clean) {
            Walk::Faulty(fault) => self.state = Walk::Faulty(fault),
            Walk::Clean => self.step(line),
            Walk::Mismatch { seq, is_unreadable } => {
                let fits = line.seq == seq && line.hash == Some(link(&self.head, &line.encoding));
                self.state = Walk::Faulty(if fits {
                    LedgerFault::Inserted { seq, after: seq - 1 }
                } else {
                    self.changed(seq, is_unreadable)
                });
            }
            Walk::Early { early, expected, resumed } => {
                let computed = link(&self.head, &line.encoding);
                if line.seq == self.next && line.hash == Some(computed) {
                    self.head = computed;
                    self.next += 1;
                    if self.next == early.seq {
                        let belongs = early.hash == Some(link(&self.head, &early.encoding));
                        self.state = Walk::Faulty(if belongs {
                            LedgerFault::Reordered { seq: early.seq, before: expected }
                        } else {
                            LedgerFault::Inserted { seq: early.seq, after: expected - 1 }
                        });
                        return;
                    }
                    self.state = Walk::Early { early, expected, resumed: true };
                } else {
                    self.state = Walk::Early { early, expected, resumed };
                }
            }
        }
    }

    fn step(&mut self, line: Line) {
        if line.seq < self.next {
            self.state = Walk::Faulty(LedgerFault::Inserted { seq: line.seq, after: self.next - 1 });
            return;
        }
        if line.seq > self.next {
            self.state = Walk::Early { expected: self.next, early: line, resumed: false };
            return;
        }
        let computed = link(&self.head, &line.encoding);
        if line.hash != Some(computed) {
            let is_unreadable = line.hash.is_none() || line.encoding.is_empty();
            self.state = Walk::Mismatch { seq: line.seq, is_unreadable };
            return;
        }
        if let Some(checkpoint) = &line.checkpoint
            && let Err(because) = self.check(checkpoint.as_ref())
        {
            let (from, to) = (self.uncovered(), self.next - 1);
            self.state = Walk::Faulty(LedgerFault::Rewritten { from, to, because });
            return;
        }
        if line.checkpoint.is_some() {
            self.checkpoints += 1;
            self.signed_through = self.next - 1;
        }
        if self.first == 0 {
            self.first = line.seq;
        }
        self.head = computed;
        self.next += 1;
        if let Some(known) = &self.expect.known
            && known.through == line.seq
            && known.head != computed
        {
            let because = "was signed over another history: records up to it were changed, and the hashes made anew";
            self.state = Walk::Faulty(LedgerFault::KnownCheckpoint { through: known.through, because });
        }
    }

    /// The first event for which nothing signed stands so far.
    fn uncovered(&self) -> u64 {
        self.signed_through.max(self.after) + 1
    }

    /// Event `seq` does not fit. Unless `is_it`, one before it may have been changed instead, with its hash made anew.
    fn changed(&self, seq: u64, is_it: bool) -> LedgerFault {
        LedgerFault::Changed { from: if is_it { seq } else { self.uncovered() }, seq }
    }

    fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), &'static str> {
        let Some(checkpoint) = checkpoint else { return Err("cannot be read") };
        if checkpoint.key != self.expect.key {
            return Err("is signed with another key");
        }
        if !checkpoint.is_signed_by(&self.expect.key, &self.deployment) {
            return Err("has a signature that does not fit");
        }
        if checkpoint.through != self.next - 1 || checkpoint.head != self.head {
            return Err("was signed over another history");
        }
        Ok(())
    }

    /// The outcome, after the last event.
    ///
    /// # Errors
    /// The first [`LedgerFault`].
    pub fn finish(self) -> Result<Report, LedgerFault> {
        let last = self.next - 1;
        match self.state {
            Walk::Faulty(fault) => return Err(fault),
            Walk::Mismatch { seq, is_unreadable } => return Err(self.changed(seq, is_unreadable)),
            Walk::Early { early, expected, resumed: true } => {
                return Err(LedgerFault::Inserted { seq: early.seq, after: expected - 1 });
            }
            Walk::Early { early, expected, resumed: false } => {
                return Err(LedgerFault::Removed { from: expected, to: early.seq - 1 });
            }
            Walk::Clean => {}
        }
        let mut known = self.expect.at_least;
        if let Some(checkpoint) = &self.expect.known {
            if !checkpoint.is_signed_by(&self.expect.key, &self.deployment) {
                let because = "is not signed with this key for this deployment";
                return Err(LedgerFault::KnownCheckpoint { through: checkpoint.through, because });
            }
            known = known.max(checkpoint.through);
        }
        if known > last {
            return Err(LedgerFault::Truncated { last, known });
        }
        if self.first != 0 && last.saturating_sub(self.signed_through.max(self.first - 1)) > 2 * CHECKPOINT_EVENTS {
            return Err(LedgerFault::Unsigned { from: self.signed_through.max(self.first - 1) + 1, to: last });
        }
        Ok(Report {
            beginning: self.beginning,
            first: self.first,
            last,
            head: self.head,
            checkpoints: self.checkpoints,
            signed_through: self.signed_through,
        })
    }
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest(bytes)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Counts are 32 bits. No text of the record comes near; a longer one would be held at the end of the range, and its
/// bytes still follow, so that two texts never have one encoding.
fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn unhex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let high = char::from(digits[2 * at]).to_digit(16)?;
        let low = char::from(digits[2 * at + 1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}
