//! This process's terminal, streams and signals, as a session uses them.
//!
//! Standard input is read, and the outputs are written, by threads of their own: a pipe that stands still holds up nobody
//! else, and a program can end while a read of its terminal goes on. Whatever waits for an output hears signals meanwhile.

use super::Failure;
use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::termios::{self, OptionalActions, Termios};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{mpsc, oneshot};

/// Bytes of one read of standard input.
const READ_BYTES: usize = 60 * 1024;
/// Pieces that wait between a thread and the session.
const QUEUE: usize = 4;
/// How long somebody who stands still at the end of standard error is waited for.
const ERRORS_WAIT: Duration = Duration::from_secs(5);
/// The same at either output, once the person has left.
const LEFT_WAIT: Duration = Duration::from_secs(1);
/// The size that a far terminal gets when there is none here, as with the vendor's plugin.
const NO_TERMINAL: (u32, u32) = (300, 100);

/// Where a session comes from and goes to.
pub struct Console {
    input: Input,
    output: Writer,
    errors: Writer,
    /// What an output has no room for. Whoever writes asks for room first, so that it is little.
    waiting: VecDeque<(To, Bytes)>,
    signals: Signals,
    /// Whether the person is gone, so that nobody who stands still is waited for.
    left: bool,
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
    /// An output has taken what waited.
    Written,
}

#[derive(Clone, Copy)]
enum To {
    Output,
    Errors,
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
            waiting: VecDeque::new(),
            signals: Signals::own().map_err(fault)?,
            left: false,
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
            waiting: VecDeque::new(),
            signals: Signals { from: Origin::Nobody, heard: None },
            left: false,
            input_terminal: false,
            output_terminal: false,
            raw: None,
        }
    }

    /// Takes signals from there, and not from the system.
    #[must_use]
    pub fn hearing(mut self, signals: mpsc::Receiver<Signal>) -> Self {
        self.signals.from = Origin::Pipe(signals);
        self
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
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub(crate) async fn next(&mut self, input_wanted: bool) -> Result<Happened, Failure> {
        let Self { input, output, errors, waiting, signals, .. } = self;
        if input_wanted && matches!(input, Input::Unread) {
            *input = Input::Read(read_own(std::io::stdin()));
        }
        let piece = async {
            match input {
                Input::Read(pieces) if input_wanted => pieces.recv().await,
                Input::Read(_) | Input::Unread => std::future::pending().await,
            }
        };
        tokio::select! {
            piece = piece => Ok(Happened::Input(piece)),
            signal = signals.next() => Ok(Happened::Signal(signal)),
            written = write_first(waiting, output, errors) => written.map(|()| Happened::Written),
        }
    }

    /// Whether an output may be given more. When not, [`Console::next`] says when that changes.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Writes the session's output.
    pub(crate) fn write(&mut self, bytes: Bytes) {
        self.put(To::Output, bytes);
    }

    /// Writes the session's output of errors.
    pub(crate) fn write_errors(&mut self, bytes: Bytes) {
        self.put(To::Errors, bytes);
    }

    fn put(&mut self, to: To, bytes: Bytes) {
        let writer = match to {
            To::Output => &self.output,
            To::Errors => &self.errors,
        };
        let rest = if self.waiting.is_empty() { writer.try_write(bytes) } else { Some(bytes) };
        self.waiting.extend(rest.map(|bytes| (to, bytes)));
    }

    /// Says something about the session: where the person looks, and never into a pipe that carries the stream.
    pub(crate) async fn say(&mut self, text: &str) {
        let text = if self.raw.is_some() { text.replace('\n', "\r\n") } else { text.to_owned() };
        self.put(if self.output_terminal { To::Output } else { To::Errors }, text.into());
        self.settle().await;
    }

    /// Says something that scripts wait for on standard output.
    pub(crate) async fn announce(&mut self, text: &str) {
        self.put(To::Output, Bytes::copy_from_slice(text.as_bytes()));
        self.settle().await;
    }

    /// Waits until the outputs have taken what waits, or until a signal ends that, which is heard again by who asks next.
    async fn settle(&mut self) {
        let Self { output, errors, waiting, signals, left, .. } = self;
        let writing = async {
            while !waiting.is_empty() {
                if write_first(waiting, output, errors).await.is_err() {
                    // There is nobody left to tell.
                    waiting.pop_front();
                }
            }
        };
        tokio::select! {
            () = writing => {}
            signal = signals.end() => signals.heard = Some(signal),
            () = tokio::time::sleep(LEFT_WAIT), if *left => {}
        }
    }

    /// The person leaves: what stands still is waited for a moment only.
    pub(crate) fn leave(&mut self) {
        self.left = true;
    }

    /// Waits until everything is written. Returns the exit status of a signal that has ended the wait.
    pub(crate) async fn finish(&mut self) -> Option<u8> {
        self.raw = None;
        self.settle().await;
        let Self { output, errors, signals, left, .. } = self;
        let signal = tokio::select! {
            () = output.finish() => None,
            signal = signals.end() => signal.ends(),
            () = tokio::time::sleep(LEFT_WAIT), if *left => None,
        };
        let wait = if *left || signal.is_some() { LEFT_WAIT } else { ERRORS_WAIT };
        let _slow = tokio::time::timeout(wait, errors.finish()).await;
        signal
    }
}

/// Hands over the first of what waits, when there is room for it. Cancelling loses nothing.
async fn write_first(
    waiting: &mut VecDeque<(To, Bytes)>,
    output: &mut Writer,
    errors: &mut Writer,
) -> Result<(), Failure> {
    let place = match waiting.front() {
        Some((To::Output, _)) => output.place().await?,
        Some((To::Errors, _)) => errors.place().await?,
        None => std::future::pending().await,
    };
    if let Some((_, bytes)) = waiting.pop_front() {
        place.send(bytes);
    }
    Ok(())
}

fn read_own(mut input: impl Read + AsFd + Send + 'static) -> mpsc::Receiver<Bytes> {
    let (pieces, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        break;
                    }
                }
                Err(error) if may_go_on(&error, &input, PollFlags::IN) => {}
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

    /// What there was no room for.
    fn try_write(&self, bytes: Bytes) -> Option<Bytes> {
        match &self.queue {
            Some(queue) => queue.try_send(bytes).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(bytes),
        }
    }

    /// Room for one piece. Cancelling loses nothing.
    async fn place(&mut self) -> Result<mpsc::OwnedPermit<Bytes>, Failure> {
        let closed = || Failure::Output("it is closed".to_owned());
        let Some(queue) = &self.queue else { return Err(closed()) };
        if let Ok(place) = queue.clone().reserve_owned().await {
            return Ok(place);
        }
        let because = match &mut self.done {
            Some(done) => done.await.ok().and_then(Result::err),
            None => None,
        };
        (self.queue, self.done) = (None, None);
        Err(because.map_or_else(closed, |error| Failure::Output(error.to_string())))
    }

    async fn finish(&mut self) {
        self.queue = None;
        if let Some(done) = self.done.take() {
            // An error now concerns nobody: what could be written is.
            done.await.ok();
        }
    }
}

fn write_all(file: &mut File, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if may_go_on(&error, &*file, PollFlags::OUT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether what failed may be tried again: a terminal or a pipe may be set not to block by whoever had it before, and is
/// waited for.
fn may_go_on(error: &std::io::Error, descriptor: &impl AsFd, until: PollFlags) -> bool {
    match error.kind() {
        std::io::ErrorKind::Interrupted => true,
        std::io::ErrorKind::WouldBlock => {
            let waited = rustix::event::poll(&mut [rustix::event::PollFd::new(descriptor, until)], None);
            matches!(waited, Ok(_) | Err(rustix::io::Errno::INTR))
        }
        _ => false,
    }
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
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// It is to end.
    Terminate,
    /// Its terminal is gone.
    Hangup,
    /// Its terminal has another size.
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
    from: Origin,
    /// One that has ended something else, and is to be heard yet.
    heard: Option<Signal>,
}

enum Origin {
    System(Own),
    Pipe(mpsc::Receiver<Signal>),
    Nobody,
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
        let own = Own {
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
            resize: unix::signal(SignalKind::window_change())?,
        };
        Ok(Self { from: Origin::System(own), heard: None })
    }

    /// The next one. Cancelling loses nothing.
    async fn next(&mut self) -> Signal {
        if let Some(heard) = self.heard.take() {
            return heard;
        }
        let next = match &mut self.from {
            Origin::System(own) => tokio::select! {
                Some(()) = own.interrupt.recv() => Some(Signal::Interrupt),
                Some(()) = own.quit.recv() => Some(Signal::Quit),
                Some(()) = own.terminate.recv() => Some(Signal::Terminate),
                Some(()) = own.hangup.recv() => Some(Signal::Hangup),
                Some(()) = own.resize.recv() => Some(Signal::Resize),
                else => None,
            },
            Origin::Pipe(signals) => signals.recv().await,
            Origin::Nobody => None,
        };
        match next {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// The next one that means the end.
    async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if signal.ends().is_some() {
                return signal;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn an_input_that_does_not_block_is_waited_for() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("it can be set");
        let mut pieces = read_own(near);
        // The first read has nothing to read.
        tokio::time::sleep(Duration::from_millis(50)).await;
        far.write_all(b"late").expect("written");
        assert_eq!(pieces.recv().await.as_deref(), Some(&b"late"[..]));
        drop(far);
        assert_eq!(pieces.recv().await, None);
    }
}
