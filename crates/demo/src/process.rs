//! Starting processes, and making sure that none of them outlives the server.
//!
//! Every program leads a process group of its own; on a terminal it leads a session. A group is killed when its
//! channel goes away. What left its group (`setsid`, `nohup` behind an interactive shell) may outlive its channel, as
//! behind any `sshd`, but not the server: each process inherits a variable with this server's mark, and where `/proc`
//! exists [`Children::kill_strays`] finds it by that.
//!
//! Signals: a server that was started in the background by a script inherits ignored SIGINT and SIGQUIT, and every
//! program it starts would inherit them in turn, so that Ctrl-C appears dead. [`stop_inheriting_ignored_signals`] and
//! the empty signal mask in [`Children::spawn`] give programs the state they expect.
//!
//! This module must not know SSH.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getsid, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::debug;

use crate::terminal::{self, Fresh};

/// The variable which marks every process of a server.
const MARK: &str = "RAVELIN_DEMO";
/// How long a program may take to end after the hang-up, before it is killed.
const HANGUP_GRACE: Duration = Duration::from_millis(250);
/// Rounds of the search for strays: a stray may start another while it is being looked for.
const STRAY_ROUNDS_MAX: usize = 50;
const STRAY_PAUSE: Duration = Duration::from_millis(10);

/// Held while a process is started or a terminal opened: descriptors are marked close-on-exec in a second step there,
/// and a program started in between would hold somebody else's terminal open.
static FORKING: Mutex<()> = Mutex::new(());

/// Runs `what` while this crate starts no process.
pub(crate) fn while_nobody_forks<R>(what: impl FnOnce() -> R) -> R {
    let _forking = lock(&FORKING);
    what()
}

/// The processes of one server.
#[derive(Debug)]
pub(crate) struct Children {
    mark: OsString,
    /// Leaders of process groups which have not been reaped.
    leaders: Mutex<HashSet<Pid>>,
}

impl Children {
    /// For the server on this port; port and process together are unique while both exist.
    pub(crate) fn new(port: u16) -> Self {
        let mark = format!("{}-{port}", getpid().as_raw_nonzero());
        Self { mark: mark.into(), leaders: Mutex::default() }
    }

    /// Starts a program which leads a process group of its own.
    pub(crate) fn spawn(self: &Arc<Self>, mut command: Command) -> io::Result<(Child, Group)> {
        command.process_group(0).env(MARK, &self.mark).kill_on_drop(true);
        let child = with_empty_signal_mask(|| command.spawn())?;
        self.adopt(child)
    }

    /// Starts a program which leads a session, with this terminal as its controlling one.
    pub(crate) fn spawn_on_terminal(
        self: &Arc<Self>,
        mut command: Command,
        terminal: Fresh,
    ) -> io::Result<(Child, Group, pty_process::Pty)> {
        let Fresh { pty, pts, kind: _, name: _, control: _ } = terminal;
        command.env(MARK, &self.mark).kill_on_drop(true);
        let command = pty_process::Command::from(command);
        let child = with_empty_signal_mask(|| command.spawn(pts)).map_err(terminal::into_io)?;
        let (child, group) = self.adopt(child)?;
        Ok((child, group, pty))
    }

    fn adopt(self: &Arc<Self>, child: Child) -> io::Result<(Child, Group)> {
        let leader = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
            .ok_or_else(|| io::Error::other("a process that was just started has no id"))?;
        lock(&self.leaders).insert(leader);
        Ok((child, Group { leader: Mutex::new(Some(leader)), children: self.clone() }))
    }

    /// Kills every process group that was started here and whose leader has not been reaped.
    pub(crate) fn kill_groups(&self) {
        // The lock is held so that no leader is forgotten (and its number given away) meanwhile.
        for leader in &*lock(&self.leaders) {
            kill_group(*leader, Signal::KILL);
        }
    }

    /// Kills whatever still carries this server's mark, until nothing does.
    pub(crate) async fn kill_strays(&self) {
        for _ in 0..STRAY_ROUNDS_MAX {
            if self.kill_strays_once() == 0 {
                return;
            }
            sleep(STRAY_PAUSE).await;
        }
        debug!("some processes of the demo target could not be killed");
    }

    /// Kills whatever carries this server's mark now, and tells how many those were. Without `/proc`: none.
    pub(crate) fn kill_strays_once(&self) -> usize {
        let mut wanted = OsString::from(MARK);
        wanted.push("=");
        wanted.push(&self.mark);
        let Ok(processes) = fs::read_dir("/proc") else { return 0 };
        processes
            .flatten()
            .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .filter(|pid| *pid != getpid() && carries(*pid, &wanted))
            .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
            .count()
    }
}

/// Whether the environment a process was started with holds this `NAME=value`. Another user's process cannot be
/// asked, and is none of ours.
fn carries(pid: Pid, wanted: &OsStr) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else { return false };
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// A process group, for as long as its leader has not been reaped. The number cannot be given to another process
/// before that, so that a signal never reaches a stranger.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Mutex<Option<Pid>>,
    children: Arc<Children>,
}

impl Group {
    /// Sends a signal to the group, or to nobody when its leader is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(leader) = *lock(&self.leader) {
            kill_group(leader, signal);
        }
    }

    /// Sends a signal to the foreground group of the terminal this group's leader controls. The number comes from
    /// outside and may have become another's: only a group of the leader's session is meant.
    pub(crate) fn signal_foreground(&self, foreground: Pid, signal: Signal) {
        if getsid(Some(foreground)).ok() == *lock(&self.leader) {
            kill_group(foreground, signal);
        }
    }

    /// Waits until the leader has ended and reaps it.
    pub(crate) async fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let status = child.wait().await;
        self.forget();
        status
    }

    /// Ends the group of a channel that went away: a hang-up, a moment to react, then the end. `foreground` is the
    /// group in the foreground of its terminal, which is often another one.
    pub(crate) async fn end(&self, child: &mut Child, foreground: Option<Pid>) {
        self.signal(Signal::HUP);
        // A stopped program cannot react.
        self.signal(Signal::CONT);
        // Not reaped before the grace is over: the leader's body keeps the number of the group from being reused.
        sleep(HANGUP_GRACE).await;
        if let Some(foreground) = foreground {
            self.signal_foreground(foreground, Signal::KILL);
        }
        self.signal(Signal::KILL);
        if let Err(error) = self.wait(child).await {
            debug!(%error, "a killed program could not be reaped");
        }
    }

    fn forget(&self) {
        let leader = lock(&self.leader).take();
        if let Some(leader) = leader {
            lock(&self.children.leaders).remove(&leader);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.forget();
    }
}

fn kill_group(leader: Pid, signal: Signal) {
    match kill_process_group(leader, signal) {
        // The group may have ended on its own between two lines of ours.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => debug!(%error, group = %leader.as_raw_nonzero(), ?signal, "cannot signal a process group"),
    }
}

/// Gives later children the default action for signals that this process was told to ignore by whoever started it.
///
/// An ignored signal stays ignored across `exec`; a caught one is reset. So each ignored signal gets a handler, which
/// does nothing: for this process nothing changes. Only where the system does not tell which signals are ignored are
/// the keyboard's two taken without asking.
pub(crate) fn stop_inheriting_ignored_signals() -> io::Result<()> {
    for number in ignored_signals() {
        let kind = SignalKind::from_raw(number);
        // The listener may go: the handler stays for the life of the process.
        match signal(kind) {
            Ok(_) => {}
            // Signals the C library keeps for itself, or which must not be caught.
            Err(error) => debug!(%error, number, "an ignored signal stays ignored in children"),
        }
    }
    Ok(())
}

fn ignored_signals() -> Vec<i32> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        return vec![Signal::INT.as_raw(), Signal::QUIT.as_raw()];
    };
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    // SIGPIPE is ignored by Rust's own runtime, which resets it in children.
    (1..=64).filter(|number| mask & (1 << (number - 1)) != 0 && *number != Signal::PIPE.as_raw()).collect()
}

/// Starts a process while this thread blocks no signal, since the mask is inherited, and alone.
fn with_empty_signal_mask<R>(spawn: impl FnOnce() -> R) -> R {
    while_nobody_forks(|| {
        let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let spawned = spawn();
        if let Err(error) = before.and_then(|before| before.thread_set_mask()) {
            debug!(%error, "signal mask could not be changed around the start of a process");
        }
        spawned
    })
}

/// How a program ended, in the words of RFC 4254, section 6.10.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It returned this status.
    Status(u32),
    /// A signal ended it.
    Signal {
        /// Its number here.
        number: i32,
        /// Whether an image was dumped.
        core_dumped: bool,
    },
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(number) => Self::Signal { number, core_dumped: status.core_dumped() },
            // A status without a signal has a code, which is 0 to 255.
            None => Self::Status(status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(255)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // All three hold plain values which are whole after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
