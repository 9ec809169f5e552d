//! This process's terminal, streams and signals, as a session uses them.
//!
//! Standard input is read, and the outputs are written, by threads of their own: a pipe that stands still holds up nobody
//! else, and a program can end while a read of its terminal goes on.

use super::Failure;
use bytes::Bytes;
use rustix::termios::{self, OptionalActions, Termios};
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, oneshot};

/// Bytes of one read of standard input.
const READ_BYTES: usize = 60 * 1024;
/// Pieces that wait between a thread and the session.
const QUEUE: usize = 4;
/// How long somebody who stands still at the end of standard error is waited for.
const ERRORS_WAIT: Duration = Duration::from_secs(5);
/// The size that a far terminal gets when there is none here, as with the vendor's plugin.
const NO_TERMINAL: (u32, u32) = (300, 100);

/// Where a session comes from and goes to.
pub struct Console {
    input: Input,
    output: Writer,
    errors: Writer,
    signals: Signals,
    /// Whether a person sits at the input, and at the output.
    input_terminal: bool,
    output_terminal: bool,
    raw: Option<Raw>,
}

/// Something that happened at a console.
pub(crate) enum Happened {
    /// Input, or its end.
    Input(Option<Bytes>),
    /// A signal to this process.
    Signal(Signal),
}

enum Input {
    /// Nobody has asked for it yet.
    Unread,
    Read(mpsc::Receiver<Bytes>),
}

impl Console {
    /// The process's own. Takes the signals over.
    ///
    /// # Errors
    /// [`Failure::Terminal`].
    pub fn own() -> Result<Self, Failure> {
        let fault = |error: std::io::Error| Failure::Terminal(error.to_string());
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        Ok(Self {
            input: Input::Unread,
            output_terminal: stdout.is_terminal(),
            output: Writer::own(rustix::io::dup(&stdout).map_err(|error| fault(error.into()))?).map_err(fault)?,
            errors: Writer::own(rustix::io::dup(&stderr).map_err(|error| fault(error.into()))?).map_err(fault)?,
            signals: Signals::own().map_err(fault)?,
            input_terminal: std::io::stdin().is_terminal(),
            raw: None,
        })
    }

    /// Pipes inside this process: input ends when its sender is dropped.
    #[must_use]
    pub fn piped(input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Bytes>, errors: mpsc::Sender<Bytes>) -> Self {
        Self {
            input: Input::Read(input),
            output: Writer { queue: Some(output), done: None },
            errors: Writer { queue: Some(errors), done: None },
            signals: Signals { own: None },
            input_terminal: false,
            output_terminal: false,
            raw: None,
        }
    }

    /// Whether a person types.
    pub(crate) fn is_typed(&self) -> bool {
        self.input_terminal
    }

    /// Takes the terminal out of the hands of the system's line editing: every byte passes as it is typed. Nothing
    /// happens when nobody types.
    pub(crate) fn make_raw(&mut self) -> Result<(), Failure> {
        if self.input_terminal && self.raw.is_none() {
            self.raw = Some(Raw::new().map_err(|error| Failure::Terminal(error.to_string()))?);
        }
        Ok(())
    }

    /// Gives the terminal back.
    pub(crate) fn make_cooked(&mut self) {
        self.raw = None;
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (u32, u32) {
        let found = [termios::tcgetwinsize(std::io::stdout()), termios::tcgetwinsize(std::io::stdin())];
        let found = found.into_iter().flatten().find(|size| size.ws_col > 0 && size.ws_row > 0);
        match found {
            Some(size) if self.output_terminal || self.input_terminal => (size.ws_col.into(), size.ws_row.into()),
            Some(_) | None => NO_TERMINAL,
        }
    }

    /// The next thing that happens here; input only if it is wanted. Cancelling loses nothing.
    pub(crate) async fn next(&mut self, input_wanted: bool) -> Happened {
        let Self { input, signals, .. } = self;
        if input_wanted && matches!(input, Input::Unread) {
            *input = Input::Read(read_own());
        }
        let piece = async {
            match input {
                Input::Read(pieces) if input_wanted => pieces.recv().await,
                Input::Read(_) | Input::Unread => std::future::pending().await,
            }
        };
        tokio::select! {
            piece = piece => Happened::Input(piece),
            signal = signals.next() => Happened::Signal(signal),
        }
    }

    /// Writes the session's output.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.output.write(bytes).await
    }

    /// Writes the session's output of errors.
    pub(crate) async fn write_errors(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.errors.write(bytes).await
    }

    /// Says something about the session: where the person looks, and never into a pipe that carries the stream.
    pub(crate) async fn say(&mut self, text: &str) {
        let text = if self.raw.is_some() { text.replace('\n', "\r\n") } else { text.to_owned() };
        let writer = if self.output_terminal { &mut self.output } else { &mut self.errors };
        // There is nobody left to tell.
        writer.write(text.into()).await.ok();
    }

    /// Says something that scripts wait for on standard output.
    pub(crate) async fn announce(&mut self, text: &str) {
        self.output.write(Bytes::copy_from_slice(text.as_bytes())).await.ok();
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(&mut self) {
        self.raw = None;
        self.output.finish().await;
        let _slow = tokio::time::timeout(ERRORS_WAIT, self.errors.finish()).await;
    }
}

fn read_own() -> mpsc::Receiver<Bytes> {
    let (pieces, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A terminal that is gone is the end of what is typed.
                Err(_) => break,
            }
        }
    });
    receiver
}

/// Something that is written to in order, by a thread of its own.
struct Writer {
    queue: Option<mpsc::Sender<Bytes>>,
    done: Option<oneshot::Receiver<std::io::Result<()>>>,
}

impl Writer {
    fn own(descriptor: OwnedFd) -> std::io::Result<Self> {
        let (queue, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let (told, done) = oneshot::channel();
        let mut file = File::from(descriptor);
        std::thread::Builder::new().spawn(move || {
            let mut outcome = Ok(());
            while let Some(piece) = pieces.blocking_recv() {
                outcome = write_all(&mut file, &piece);
                if outcome.is_err() {
                    break;
                }
            }
            // Nobody may be waiting.
            told.send(outcome).ok();
        })?;
        Ok(Self { queue: Some(queue), done: Some(done) })
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let Some(queue) = &self.queue else { return Err(Failure::Output("it is closed".to_owned())) };
        if queue.send(bytes).await.is_ok() {
            return Ok(());
        }
        self.queue = None;
        let because = match self.done.take() {
            Some(done) => match done.await {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) | Err(_) => "it is closed".to_owned(),
            },
            None => "it is closed".to_owned(),
        };
        Err(Failure::Output(because))
    }

    async fn finish(&mut self) {
        self.queue = None;
        if let Some(done) = self.done.take() {
            // An error now concerns nobody: what could be written is.
            done.await.ok();
        }
    }
}

/// A terminal may be set not to block by whoever had it before.
fn write_all(file: &mut File, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut wait = [rustix::event::PollFd::new(file, rustix::event::PollFlags::OUT)];
                rustix::event::poll(&mut wait, None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The terminal as it was, to be put back.
struct Raw {
    before: Termios,
}

impl Raw {
    fn new() -> rustix::io::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before).ok();
    }
}

/// A signal to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Quit,
    Terminate,
    Hangup,
    Resize,
}

impl Signal {
    /// The exit status that it means, if it means the end.
    pub(crate) fn ends(self) -> Option<u8> {
        match self {
            Signal::Hangup => Some(128 + 1),
            Signal::Interrupt => Some(128 + 2),
            Signal::Quit => Some(128 + 3),
            Signal::Terminate => Some(128 + 15),
            Signal::Resize => None,
        }
    }
}

struct Signals {
    own: Option<Own>,
}

struct Own {
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    resize: unix::Signal,
}

impl Signals {
    fn own() -> std::io::Result<Self> {
        Ok(Self {
            own: Some(Own {
                interrupt: unix::signal(SignalKind::interrupt())?,
                quit: unix::signal(SignalKind::quit())?,
                terminate: unix::signal(SignalKind::terminate())?,
                hangup: unix::signal(SignalKind::hangup())?,
                resize: unix::signal(SignalKind::window_change())?,
            }),
        })
    }

    /// The next one. Cancelling loses nothing.
    async fn next(&mut self) -> Signal {
        let Some(own) = &mut self.own else { return std::future::pending().await };
        tokio::select! {
            Some(()) = own.interrupt.recv() => Signal::Interrupt,
            Some(()) = own.quit.recv() => Signal::Quit,
            Some(()) = own.terminate.recv() => Signal::Terminate,
            Some(()) = own.hangup.recv() => Signal::Hangup,
            Some(()) = own.resize.recv() => Signal::Resize,
            else => std::future::pending().await,
        }
    }
}
