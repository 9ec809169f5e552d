//! The client's side of a session: what AWS's session-manager-plugin does, over [`crate::proto::client`].
//!
//! [`run`] sees a session that `StartSession` has answered through to its end, with a terminal, with pipes, or with
//! connections of a listener. It keeps every byte as it was, comes back after any loss of the connection, and ends with a
//! reason whatever happens.
//!
//! ```text
//! line      one task: the connection, its loss and its return         socket   a connection, from URL to WebSocket
//! shell     a terminal or pipes       stream   standard input and output for ssh       forward   a listener
//! console   this process's terminal, streams and signals
//! ```
//!
//! It never knows where credentials come from: whoever calls hands in a [`Control`].

pub mod console;
mod forward;
mod line;
mod shell;
mod socket;
mod stream;

pub use socket::{Trust, trust, trust_anybody};

use crate::proto::client::{Begun, CLIENT_VERSION, Event, Kind};
use crate::proto::delivery::Limits;
use async_trait::async_trait;
use aws_credential_types::Credentials;
use console::{Console, Happened};
use line::Line;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// What `--version` says: the aws CLI chooses by it how it hands a session over.
pub const VERSION: &str = CLIENT_VERSION;

/// What `StartSession` has answered.
#[derive(Debug)]
pub struct Started {
    /// The session.
    pub session_id: String,
    /// Opens its data channel, once.
    pub token: SecretString,
    /// Where.
    pub stream_url: String,
}

/// What `ResumeSession` has answered.
#[derive(Debug)]
pub struct Resumed {
    /// Opens the data channel again; empty when the session is over.
    pub token: SecretString,
    /// Where, when that was said.
    pub stream_url: Option<String>,
}

/// Why a session was not resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotResumed {
    /// For the person.
    pub because: String,
    /// Whether it may work in a moment.
    pub again: bool,
}

/// The calls that a session needs while it goes on.
#[async_trait]
pub trait Control: Send + Sync {
    /// `ResumeSession`.
    async fn resume(&self, session_id: &str) -> Result<Resumed, NotResumed>;
    /// `TerminateSession`; the error is for the person.
    async fn terminate(&self, session_id: &str) -> Result<(), String>;
    /// Who signs the upgrade, and for which region; `None` leaves it unsigned, as AWS allows.
    async fn signer(&self) -> Option<(Credentials, String)>;
}

/// How patient a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, from name to WebSocket.
    pub connect: Duration,
    /// For a lost session to come back.
    pub resume: Duration,
    /// For an acknowledgement that is owed.
    pub owed: Duration,
    /// For any sign of life; asked for three times as often.
    pub silence: Duration,
    /// For a stream behind a listener whose reader takes nothing, while others wait.
    pub stuck: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            resume: Duration::from_secs(120),
            owed: Duration::from_secs(300),
            silence: Duration::from_secs(90),
            stuck: Duration::from_secs(30),
        }
    }
}

/// How a session is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to trust.
    pub trust: Trust,
    /// How patient.
    pub patience: Patience,
    /// What may be held.
    pub limits: Limits,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status for the shell: the program's where the server told it; 1 when the session was ended with a
    /// reason; 128 and the signal's number after a signal; else 0.
    pub status: u8,
}

/// Why a session could not go on. The texts say what to do where something can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The URL is none.
    #[error("the service gave a stream URL that is none of a WebSocket: {0}")]
    Url(String),
    /// The URL would send the token in the clear.
    #[error(
        "the service gave the stream URL {0}, without TLS and not on this machine: the session's token would be readable on the way"
    )]
    Clear(String),
    /// Certificates to trust cannot be read.
    #[error("cannot read the certificates to trust: {0}")]
    Trust(String),
    /// Nobody answers.
    #[error("cannot reach {host}: {because}")]
    Unreachable {
        /// Name and port.
        host: String,
        /// What the system says.
        because: String,
    },
    /// The certificate is not trusted.
    #[error(
        "the certificate of {host} is not trusted: {because}; put its authority's certificate into the file that SSL_CERT_FILE or AWS_CA_BUNDLE names"
    )]
    Certificate {
        /// Name and port.
        host: String,
        /// What is wrong with it.
        because: String,
    },
    /// The server answers, and not with a WebSocket.
    #[error("{host} does not open a data channel: {because}")]
    Upgrade {
        /// Name and port.
        host: String,
        /// What it answers.
        because: String,
    },
    /// The session cannot be joined again.
    #[error("the connection was lost ({lost}) and the session was not resumed: {because}")]
    NotResumed {
        /// Why it was lost.
        lost: String,
        /// Why it did not come back.
        because: String,
    },
    /// The server does not take the token.
    #[error("the service did not take the session's token: {0}")]
    Token(String),
    /// The session is over at the server.
    #[error("session {0} timed out")]
    TimedOut(String),
    /// The connection is lost again and again and nothing comes of it.
    #[error("the service closes the data channel as soon as it is open: {0}")]
    Fruitless(String),
    /// Nothing is acknowledged.
    #[error("the service has acknowledged nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The server speaks another protocol.
    #[error("the session cannot go on: {0}")]
    Broken(String),
    /// The terminal cannot be used.
    #[error("cannot use the terminal: {0}")]
    Terminal(String),
    /// Standard output takes nothing.
    #[error("cannot write the session's output: {0}")]
    Output(String),
    /// There can be no listener.
    #[error("cannot listen on {place}: {because}")]
    Listen {
        /// Address or path.
        place: String,
        /// What the system says.
        because: String,
    },
    /// A part of this program ended without a word.
    #[error("a task of the session failed; please report this")]
    Internal,
}

/// Runs a session to its end. Dropping it leaves the session to the server's own limits.
///
/// # Errors
/// [`Failure`]; the session was asked to end as far as that was possible.
pub async fn run(
    started: Started,
    control: Arc<dyn Control>,
    options: Options,
    mut console: Console,
) -> Result<Ended, Failure> {
    let session_id = started.session_id.clone();
    let mut outcome = attend(started, &control, &options, &mut console).await;
    if let (Some(status), Ok(ended)) = (console.finish().await, &mut outcome) {
        ended.status = status;
    }
    if let Err(failure) = &outcome
        && !matches!(failure, Failure::TimedOut(_) | Failure::Token(_))
    {
        leave(control.as_ref(), &session_id).await.ok();
    }
    outcome
}

async fn attend(
    started: Started,
    control: &Arc<dyn Control>,
    options: &Options,
    console: &mut Console,
) -> Result<Ended, Failure> {
    let session_id = started.session_id.clone();
    let mut line = Line::open(started, Arc::clone(control), options.clone());
    let session = Session { id: session_id, control: control.as_ref(), patience: options.patience };
    let begun = loop {
        tokio::select! {
            event = line.next() => match event? {
                Event::Begun(begun) => break begun,
                Event::Closed(text) => return session.closed(console, &text, None).await,
                Event::Broken(because) => return Err(Failure::Broken(because)),
                Event::Output(_) | Event::Errors(_) | Event::Exit(_) | Event::PortRefused => {}
            },
            happened = console.next(false) => if let Happened::Signal(signal) = happened?
                && let Some(status) = signal.ends()
            {
                return session.left(console, status).await;
            },
        }
    };
    tracing::debug!(kind = ?begun.kind, "the session begins");
    match begun.kind {
        Kind::Shell | Kind::Command => shell::attend(&session, begun, line, console).await,
        Kind::Stream => stream::attend(&session, begun, line, console).await,
        Kind::Forward { .. } => forward::attend(&session, begun, line, console).await,
    }
}

/// What every kind of session needs to know.
pub(crate) struct Session<'a> {
    id: String,
    control: &'a dyn Control,
    patience: Patience,
}

impl Session<'_> {
    /// The session begins.
    async fn greet(&self, console: &mut Console, begun: &Begun) {
        console.say(&format!("\nStarting session with SessionId: {}\n", self.id)).await;
        if !begun.message.is_empty() {
            console.say(&format!("{}\n", harmless(&begun.message))).await;
        }
    }

    /// The server has said its last word.
    async fn closed(&self, console: &mut Console, text: &str, status: Option<u8>) -> Result<Ended, Failure> {
        if text.is_empty() {
            console.say(&format!("\n\nExiting session with sessionId: {}.\n\n", self.id)).await;
        } else {
            console.say(&format!("\n\nSessionId: {} : {}\n\n", self.id, harmless(text))).await;
        }
        Ok(Ended { status: status.unwrap_or(u8::from(!text.is_empty())) })
    }

    /// The person leaves.
    async fn left(&self, console: &mut Console, status: u8) -> Result<Ended, Failure> {
        console.leave();
        self.end(console, status).await
    }

    /// The session is of no more use.
    async fn end(&self, console: &mut Console, status: u8) -> Result<Ended, Failure> {
        match leave(self.control, &self.id).await {
            Ok(()) => console.say(&format!("\n\nExiting session with sessionId: {}.\n\n", self.id)).await,
            Err(because) => {
                let because = harmless(&because);
                console.say(&format!("\nsession {} may go on: it could not be ended: {because}\n", self.id)).await;
            }
        }
        Ok(Ended { status })
    }
}

/// Ends the session at the server, and waits a little for that.
async fn leave(control: &dyn Control, session_id: &str) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_secs(5), control.terminate(session_id)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err("the service does not answer".to_owned()),
    }
}

/// A server's text for a terminal: nothing in it may command the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// The program's exit status as this process can have it.
fn status(code: i64) -> u8 {
    u8::try_from(code).unwrap_or(255)
}
