//! Session channels: what the client asks for before a program starts, and the program while it runs.
//!
//! Must not know how channels are opened or which connection they belong to, and nothing of files.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use bytes::BytesMut;
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::account::Account;
use crate::connection::Link;
use crate::flow::{Incoming, Inlet};
use crate::process::{Children, Ending, Group};
use crate::terminal::{Control, Fresh};

/// Bytes read from a program at a time: one SSH packet of the usual size.
const CHUNK_BYTES: usize = 32 * 1024;
/// A buffer with less room than this is replaced.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// How long a terminal may stay silent, after its program ended, before the rest is given up. Only a process in the
/// background which kept the terminal open makes us wait at all.
const TERMINAL_DRAIN: Duration = Duration::from_millis(100);
/// Variables a client may set, and their length in all.
const VARIABLES_MAX: usize = 128;
const VARIABLES_BYTES_MAX: usize = 128 * 1024;
/// RFC 4254, section 5.2: the only kind of extended data there is.
const STDERR: u32 = 1;

/// What the client asked for so far.
#[derive(Default)]
pub(crate) struct Wishes {
    variables: Vec<(String, String)>,
    pub(crate) terminal: Option<Fresh>,
    pub(crate) agent: Option<PathBuf>,
}

impl Wishes {
    /// Notes a variable, or tells that it may not be set.
    pub(crate) fn variable(&mut self, name: &str, value: &str) -> bool {
        let bytes: usize = self.variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        let fits = self.variables.len() < VARIABLES_MAX && bytes + name.len() + value.len() <= VARIABLES_BYTES_MAX;
        let accepted = fits && Account::may_be_set(name) && !value.contains('\0');
        if accepted {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
        accepted
    }

    /// Starts the user's shell: with no command as a login shell, else to run the command.
    pub(crate) fn start(
        self,
        command: Option<&[u8]>,
        account: &Account,
        children: &Arc<Children>,
        link: &Link,
    ) -> io::Result<Program> {
        let mut shell = Command::new(&account.shell);
        shell.arg0(account.shell_name(command.is_none()));
        if let Some(command) = command {
            shell.arg("-c").arg(OsStr::from_bytes(command));
        }
        let here = (link.local.ip(), link.local.port());
        let there = (link.peer.ip(), link.peer.port());
        shell
            .current_dir(&account.home)
            .env_clear()
            .envs(account.environment())
            .envs(self.variables)
            .env("SSH_CLIENT", format!("{} {} {}", there.0, there.1, here.1))
            .env("SSH_CONNECTION", format!("{} {} {} {}", there.0, there.1, here.0, here.1));
        if let Some(agent) = self.agent {
            shell.env("SSH_AUTH_SOCK", agent);
        }
        match self.terminal {
            Some(mut terminal) => {
                shell.env("TERM", OsString::from(&terminal.kind)).env("SSH_TTY", &terminal.name);
                let control = Arc::new(std::mem::take(&mut terminal.control));
                let (child, group, pty) = children.spawn_on_terminal(shell, terminal)?;
                let group = Arc::new(group);
                Ok(Program { child, group, io: ProgramIo::Terminal { pty, control } })
            }
            None => {
                shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let (child, group) = children.spawn(shell)?;
                Ok(Program { child, group: Arc::new(group), io: ProgramIo::Pipes })
            }
        }
    }
}

/// A program that runs.
pub(crate) struct Program {
    child: Child,
    pub(crate) group: Arc<Group>,
    io: ProgramIo,
}

enum ProgramIo {
    Terminal { pty: pty_process::Pty, control: Arc<Control> },
    Pipes,
}

impl Program {
    /// The terminal's handle, when it has one.
    pub(crate) fn control(&self) -> Option<Arc<Control>> {
        match &self.io {
            ProgramIo::Terminal { control, .. } => Some(control.clone()),
            ProgramIo::Pipes => None,
        }
    }

    /// Joins the program and the channel until both are done. `closed` is cancelled when the channel or its
    /// connection is gone; then the program is ended.
    pub(crate) async fn run(
        mut self,
        inlet: Inlet,
        outlet: ChannelWriteHalf<Msg>,
        handle: Handle,
        closed: CancellationToken,
    ) {
        let ended = match self.io {
            ProgramIo::Pipes => run_on_pipes(&mut self.child, &self.group, inlet, &outlet, &closed).await,
            ProgramIo::Terminal { pty, control } => {
                run_on_terminal(&mut self.child, &self.group, pty, &control, inlet, &outlet, &closed).await
            }
        };
        // A client that has sent its own end of file closes the channel when it sees ours, and the library answers a
        // close with a close at once: what is told later would be lost. So the end of file comes after the status.
        let told = match ended {
            // Nobody is left to be told.
            Ended::Abandoned => return,
            Ended::Itself(Ok(Ending::Status(status))) => outlet.exit_status(status).await.is_ok(),
            Ended::Itself(Ok(Ending::Signal { number, core_dumped })) => {
                let signal = wire_signal(number);
                let told = handle.exit_signal_request(outlet.id(), signal, core_dumped, String::new(), String::new());
                told.await.is_ok()
            }
            Ended::Itself(Err(error)) => {
                debug!(%error, "how a program ended is unknown");
                true
            }
        };
        if !told || outlet.eof().await.is_err() || outlet.close().await.is_err() {
            debug!("connection was gone before the end of a program could be told");
        }
    }
}

/// How it came that a program runs no more.
enum Ended {
    /// On its own, or by a signal from outside.
    Itself(io::Result<Ending>),
    /// Its channel was gone, and we ended it.
    Abandoned,
}

/// Three pipes. All is over when both of the program's outputs have ended, which may be after its own end, when a
/// process it left in the background still holds them, and when it has ended itself.
async fn run_on_pipes(
    child: &mut Child,
    group: &Group,
    mut inlet: Inlet,
    outlet: &ChannelWriteHalf<Msg>,
    closed: &CancellationToken,
) -> Ended {
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Ended::Itself(Err(io::Error::other("a program was started without its pipes")));
    };
    let ended = {
        let output = async {
            let (out, err) = tokio::join!(copy_out(stdout, outlet, None), copy_out(stderr, outlet, Some(STDERR)));
            out.and(err)?;
            group.wait(child).await
        };
        tokio::select! {
            ended = output => Some(ended),
            // Returns only when the channel is closed.
            () = copy_in(&mut inlet, Some(stdin)) => None,
            () = closed.cancelled() => None,
        }
    };
    finish(ended, child, group, None).await
}

/// A terminal. The channel's output ends with the program, whatever still holds the terminal open.
async fn run_on_terminal(
    child: &mut Child,
    group: &Group,
    pty: pty_process::Pty,
    control: &Control,
    mut inlet: Inlet,
    outlet: &ChannelWriteHalf<Msg>,
    closed: &CancellationToken,
) -> Ended {
    let (mut reader, writer) = pty.into_split();
    let ended = {
        let output = async {
            let status = {
                let mut output = std::pin::pin!(copy_out(&mut reader, outlet, None));
                tokio::select! {
                    copied = &mut output => {
                        copied?;
                        return group.wait(child).await;
                    }
                    status = group.wait(child) => status?,
                }
            };
            drain(&mut reader, outlet).await?;
            Ok(status)
        };
        tokio::select! {
            ended = output => Some(ended),
            () = copy_in(&mut inlet, Some(writer)) => None,
            () = closed.cancelled() => None,
        }
    };
    let foreground = control.foreground();
    control.release();
    drop(reader);
    finish(ended, child, group, foreground).await
}

async fn finish(
    ended: Option<io::Result<ExitStatus>>,
    child: &mut Child,
    group: &Group,
    foreground: Option<Pid>,
) -> Ended {
    match ended {
        Some(Ok(status)) => Ended::Itself(Ok(status.into())),
        Some(Err(error)) => {
            group.end(child, foreground).await;
            Ended::Itself(Err(error))
        }
        None => {
            group.end(child, foreground).await;
            Ended::Abandoned
        }
    }
}

/// Sends what is left in a terminal whose program has ended.
async fn drain<R: AsyncRead + Unpin>(reader: &mut R, outlet: &ChannelWriteHalf<Msg>) -> io::Result<()> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        match timeout(TERMINAL_DRAIN, reader.read_buf(&mut chunk)).await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(_)) => outlet.data_bytes(chunk.freeze()).await.map_err(io::Error::other)?,
            Ok(Err(error)) if is_hangup(&error) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Sends what a program writes until it has no more to write.
pub(crate) async fn copy_out<R: AsyncRead + Unpin>(
    mut from: R,
    outlet: &ChannelWriteHalf<Msg>,
    kind: Option<u32>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < CHUNK_BYTES_MIN {
            buffer.reserve(CHUNK_BYTES);
        }
        match from.read_buf(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_hangup(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let chunk = buffer.split().freeze();
        match kind {
            None => outlet.data_bytes(chunk).await,
            Some(kind) => outlet.extended_data_bytes(kind, chunk).await,
        }
        .map_err(io::Error::other)?;
    }
}

/// Gives a program what the peer sends. Its input ends when the peer says so; what comes for a program that does not
/// read any more is thrown away. Returns when the channel is closed.
async fn copy_in<W: AsyncWrite + Unpin>(inlet: &mut Inlet, mut to: Option<W>) {
    loop {
        match inlet.next().await {
            Incoming::Data(data) => {
                if let Some(writer) = &mut to
                    && let Err(error) = writer.write_all(&data).await
                {
                    debug!(%error, "a program stopped reading");
                    to = None;
                }
            }
            Incoming::Eof => to = None,
            Incoming::Closed => return,
        }
    }
}

/// Reading from a terminal nobody holds open fails with EIO on Linux: its way to say that this was all.
fn is_hangup(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// The signal a client means. RFC 4254, section 6.10 names them; the rest are OpenSSH's and common sense.
pub(crate) fn own_signal(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) => match name.as_str() {
            "USR2" => Signal::USR2,
            "STOP" => Signal::STOP,
            "TSTP" => Signal::TSTP,
            "CONT" => Signal::CONT,
            _ => return None,
        },
    })
}

/// The name of the signal that ended a program; a name outside RFC 4254 carries a domain (section 6.10).
fn wire_signal(number: i32) -> Sig {
    match Signal::from_named_raw(number) {
        Some(Signal::ABORT) => Sig::ABRT,
        Some(Signal::ALARM) => Sig::ALRM,
        Some(Signal::FPE) => Sig::FPE,
        Some(Signal::HUP) => Sig::HUP,
        Some(Signal::ILL) => Sig::ILL,
        Some(Signal::INT) => Sig::INT,
        Some(Signal::KILL) => Sig::KILL,
        Some(Signal::PIPE) => Sig::PIPE,
        Some(Signal::QUIT) => Sig::QUIT,
        Some(Signal::SEGV) => Sig::SEGV,
        Some(Signal::TERM) => Sig::TERM,
        Some(Signal::USR1) => Sig::USR1,
        Some(Signal::USR2) => Sig::Custom("USR2".to_owned()),
        Some(Signal::BUS) => Sig::Custom("BUS@openssh.com".to_owned()),
        Some(Signal::SYS) => Sig::Custom("SYS@openssh.com".to_owned()),
        Some(Signal::TRAP) => Sig::Custom("TRAP@openssh.com".to_owned()),
        Some(Signal::XCPU) => Sig::Custom("XCPU@openssh.com".to_owned()),
        Some(Signal::XFSZ) => Sig::Custom("XFSZ@openssh.com".to_owned()),
        _ => Sig::Custom(format!("SIG{number}@ravelin")),
    }
}
