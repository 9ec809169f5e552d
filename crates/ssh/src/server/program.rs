//! A session channel of a person: what is set up on it, the program that is asked for, and that program on the target.
//!
//! Answers that a client waits for are given where they are known. The terminal and the variables are taken at once,
//! because the library can hold one open answer for each channel; the program's answer is the target's own.

use super::connection::{Connection, EXIT_NOT_RUN, line as say};
use super::menu;
use super::session::{Line, Missing, Up};
use crate::units::{ChannelSource, ClientSink, TargetSink, unit};
use ravelin_engine::recording;
use ravelin_engine::relay::{Flow, Stopped};
use ravelin_model::policy::Action;
use ravelin_model::recording::Purpose;
use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelWriteHalf, Pty, client};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A terminal as the client asked for it; RFC 4254, section 6.2.
#[derive(Clone)]
pub(super) struct Terminal {
    name: String,
    columns: u32,
    rows: u32,
    width_px: u32,
    height_px: u32,
    modes: Vec<(Pty, u32)>,
}

/// What a client sets up before it asks for a program.
#[derive(Default)]
pub(super) struct Setting {
    pub(super) terminal: Option<Terminal>,
    variables: Vec<(String, String)>,
    variables_bytes: usize,
    wants_agent: bool,
}

/// What a client asks to run.
#[derive(Clone, Debug)]
pub(super) enum Program {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

impl Program {
    /// What a recording says of it.
    fn purpose(&self, terminal: Option<&Terminal>) -> Purpose {
        let terminal = terminal.map(|t| recording::terminal(&t.name, t.columns, t.rows));
        match self {
            Program::Shell => Purpose::Shell { terminal },
            Program::Exec(command) => {
                Purpose::Exec { command: String::from_utf8_lossy(command).into_owned(), terminal }
            }
            // Only the one for files is passed on.
            Program::Subsystem(_) => Purpose::Files,
        }
    }

    /// What has to be permitted for it; `None` for what nobody may have.
    fn action(&self) -> Option<Action> {
        match self {
            Program::Shell => Some(Action::OpenShell),
            Program::Exec(_) => Some(Action::OpenExec),
            Program::Subsystem(name) if name == "sftp" => Some(Action::OpenSftp),
            Program::Subsystem(_) => None,
        }
    }
}

/// A client's session channel.
pub(super) struct ProgramChannel {
    pub(super) connection: Arc<Connection>,
    pub(super) source: ChannelSource,
    pub(super) write: Arc<ChannelWriteHalf<Msg>>,
    pub(super) setting: Setting,
}

impl ProgramChannel {
    pub(super) fn new(connection: Arc<Connection>, channel: Channel<Msg>) -> Self {
        let (read, write) = channel.split();
        let source = ChannelSource::new(read, write.id(), Arc::clone(&connection.entry.backlog));
        let write = Arc::new(write);
        connection.show_face(&write, false);
        Self { connection, source, write, setting: Setting::default() }
    }

    /// Serves the channel from its opening to its close. Without a line the person has not said where to.
    pub(super) async fn serve(mut self, line: Option<Line>) {
        let Some(program) = self.set_up().await else {
            self.connection.hide_face(self.write.id());
            return;
        };
        match line {
            // Boxed, so that a program does not hold the menu's memory too.
            Some(line) => Box::pin(self.run(program, &line)).await,
            None => Box::pin(menu::serve(self, program)).await,
        }
    }

    /// Collects what the client sets up, until it asks for a program. `None` when it never does.
    async fn set_up(&mut self) -> Option<Program> {
        let config = &self.connection.shared.config;
        let (variables_max, variables_bytes_max) = (config.variables_max, config.variables_bytes_max);
        loop {
            match self.source.message().await? {
                ChannelMsg::RequestPty {
                    term, col_width, row_height, pix_width, pix_height, terminal_modes, ..
                } => {
                    self.setting.terminal = Some(Terminal {
                        name: term,
                        columns: col_width,
                        rows: row_height,
                        width_px: pix_width,
                        height_px: pix_height,
                        modes: terminal_modes,
                    });
                    self.connection.show_face(&self.write, true);
                }
                ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
                    self.resize(col_width, row_height, pix_width, pix_height);
                }
                ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
                    let bytes = variable_name.len() + variable_value.len();
                    let setting = &mut self.setting;
                    if setting.variables.len() < variables_max && setting.variables_bytes + bytes <= variables_bytes_max
                    {
                        setting.variables_bytes += bytes;
                        setting.variables.push((variable_name, variable_value));
                    }
                }
                ChannelMsg::AgentForward { .. } => self.setting.wants_agent = true,
                ChannelMsg::RequestShell { .. } => return Some(Program::Shell),
                ChannelMsg::Exec { command, .. } => return Some(Program::Exec(command)),
                ChannelMsg::RequestSubsystem { name, .. } => return Some(Program::Subsystem(name)),
                ChannelMsg::Close => return None,
                // Data before a program has nobody to read it.
                _ => {}
            }
        }
    }

    pub(super) fn resize(&mut self, columns: u32, rows: u32, width_px: u32, height_px: u32) {
        if let Some(terminal) = &mut self.setting.terminal {
            *terminal = Terminal { columns, rows, width_px, height_px, ..terminal.clone() };
        }
    }

    /// Runs the program on the session's target.
    pub(super) async fn run(mut self, program: Program, line: &Line) {
        let Some(action) = program.action() else {
            return Box::pin(self.decline("only the subsystem sftp is passed on")).await;
        };
        // Boxed, so that its memory is given back while the program runs; likewise below.
        match Box::pin(self.reach(action, line)).await {
            Ok(up) => {
                for note in line.take_notes() {
                    let terminal = self.setting.terminal.is_some();
                    // A client that is gone is noticed by the pumps.
                    let _gone = self.write.extended_data_bytes(1, say(&note, terminal)).await;
                }
                Box::pin(self.run_on(program, line, &up)).await;
            }
            Err(Missing::Refused(text)) => Box::pin(self.decline(&text)).await,
            Err(Missing::Over) => self.wait_for_farewell().await,
        }
    }

    async fn reach(&mut self, action: Action, line: &Line) -> Result<Arc<Up>, Missing> {
        let asking = async {
            // The permission is asked for while the target is dialled.
            line.permit(action).await?;
            let lends = self.setting.wants_agent && self.may_lend_agent(line).await?;
            self.setting.wants_agent = lends;
            let up = line.target().await?;
            if lends {
                up.lend_agent();
            }
            Ok(up)
        };
        asking.await
    }

    async fn may_lend_agent(&self, line: &Line) -> Result<bool, Missing> {
        match line.permit(Action::ForwardAgent).await {
            Ok(()) => Ok(true),
            Err(Missing::Over) => Err(Missing::Over),
            Err(Missing::Refused(text)) => {
                let text = format!("your agent is not forwarded: {text}");
                let terminal = self.setting.terminal.is_some();
                // A client that is gone is noticed by the pumps.
                let _gone = self.write.extended_data_bytes(1, say(&text, terminal)).await;
                Ok(false)
            }
        }
    }

    async fn run_on(mut self, program: Program, line: &Line, up: &Arc<Up>) {
        let pump = line.pump();
        let left = self.connection.entry.backlog.left(self.write.id());
        let opened = tokio::select! {
            opened = Box::pin(up.link.open_session()) => opened,
            // A target that never answers holds nobody's place.
            () = is_left(left.clone()) => return self.let_go().await,
        };
        let opened = match opened {
            Ok(channel) => channel,
            Err(error) => {
                drop(pump);
                if matches!(error, russh::Error::ChannelOpenFailure(_)) {
                    Box::pin(self.decline("the target refused one more channel")).await;
                } else {
                    self.wait_for_farewell().await;
                }
                return;
            }
        };
        let (read, write) = opened.split();
        let mut from_target = ChannelSource::new(read, write.id(), Arc::clone(up.link.backlog()));
        let write = Arc::new(write);
        let id = self.write.id();
        // Before the program runs: what has to be recorded and cannot be does not begin.
        let relay = Box::pin(up.relay.channel(program.purpose(self.setting.terminal.as_ref()))).await;
        if relay.is_over() {
            drop(pump);
            self.wait_for_farewell().await;
            return;
        }
        let started = tokio::select! {
            started = Box::pin(self.start(&program, &write, &mut from_target)) => started,
            () = is_left(left.clone()) => {
                let _target_gone = write.close().await;
                return self.let_go().await;
            }
        };
        match started {
            Started::Yes => {
                // A client that is gone is noticed by the pumps.
                let _gone = self.connection.handle.channel_success(id).await;
            }
            Started::Refused => {
                let _gone = self.connection.handle.channel_failure(id).await;
                // Either side may be gone, which comes to the same.
                let _target_gone = write.close().await;
                return self.let_go().await;
            }
            Started::Lost => {
                drop(pump);
                self.wait_for_farewell().await;
                return;
            }
        }
        let mut to_client =
            ClientSink::for_program(Arc::clone(&self.write), self.connection.handle.clone(), line.exit());
        let mut to_target = TargetSink { write: Arc::clone(&write) };
        let stopped = {
            let inward = pin!(relay.pump(Flow::In, &mut self.source, &mut to_target));
            let outward = pin!(relay.pump(Flow::Out, &mut from_target, &mut to_client));
            both(inward, outward, left.clone()).await
        };
        drop(relay);
        drop(pump);
        match stopped {
            Stopped::Ended => {}
            Stopped::SourceClosed | Stopped::SinkClosed => {
                // The side that closed first hears nothing more; for the other this is the end.
                let _target_gone = write.close().await;
                if left.is_cancelled() || from_target.is_closed() || self.source.is_closed() {
                    return self.let_go().await;
                }
            }
        }
        self.wait_for_farewell().await;
    }

    /// The channel is over, and nothing more is to be said on it.
    async fn let_go(&self) {
        self.connection.hide_face(self.write.id());
        let _client_gone = self.write.close().await;
    }

    /// Sets the target's channel up as the client set up ours, and starts the program.
    async fn start(
        &mut self,
        program: &Program,
        write: &ChannelWriteHalf<client::Msg>,
        from_target: &mut ChannelSource,
    ) -> Started {
        let setting = std::mem::take(&mut self.setting);
        let mut terminal_open = setting.terminal.is_some();
        let sent = async {
            if let Some(t) = &setting.terminal {
                write.request_pty(true, &t.name, t.columns, t.rows, t.width_px, t.height_px, &t.modes).await?;
            }
            for (name, value) in setting.variables {
                write.set_env(false, name, value).await?;
            }
            if setting.wants_agent {
                write.agent_forward(false).await?;
            }
            match program {
                Program::Shell => write.request_shell(true).await,
                Program::Exec(command) => write.exec(true, command.clone()).await,
                Program::Subsystem(name) => write.request_subsystem(true, name.clone()).await,
            }
        };
        if sent.await.is_err() {
            return Started::Lost;
        }
        loop {
            match from_target.message().await {
                None => return Started::Lost,
                Some(ChannelMsg::Success) if terminal_open => terminal_open = false,
                Some(ChannelMsg::Failure) if terminal_open => {
                    terminal_open = false;
                    // The program may still run without one.
                    let _gone = self.write.extended_data_bytes(1, say("the target gave no terminal", true)).await;
                }
                Some(ChannelMsg::Success) => return Started::Yes,
                Some(ChannelMsg::Failure | ChannelMsg::Close) => return Started::Refused,
                // A target that speaks before it answers has started the program.
                Some(message) => {
                    if let Some(unit) = unit(message) {
                        from_target.hold(unit);
                        return Started::Yes;
                    }
                }
            }
        }
    }

    /// Tells the person why their program does not run, and ends the channel as if it had failed. It is answered with
    /// success, because clients that are answered with failure show their own words only and hide ours.
    pub(super) async fn decline(self, text: &str) {
        let terminal = self.setting.terminal.is_some();
        let id = self.write.id();
        let telling = async {
            self.connection.handle.channel_success(id).await.map_err(|()| russh::Error::SendError)?;
            self.write.extended_data_bytes(1, say(text, terminal)).await?;
            self.leave(EXIT_NOT_RUN).await
        };
        if let Err(error) = telling.await {
            tracing::debug!(%error, "a client left before it could be told why not");
        }
    }

    /// Ends the channel as a program that exited with `status` does.
    pub(super) async fn leave(&self, status: u32) -> Result<(), russh::Error> {
        self.connection.hide_face(self.write.id());
        self.write.exit_status(status).await?;
        self.write.eof().await?;
        self.write.close().await
    }

    /// Keeps the channel open, so that the engine's farewell can be read on it.
    async fn wait_for_farewell(mut self) {
        // What still comes from the client is read and dropped.
        while self.source.message().await.is_some_and(|message| !matches!(message, ChannelMsg::Close)) {}
        self.connection.hide_face(self.write.id());
    }
}

enum Started {
    Yes,
    Refused,
    Lost,
}

/// How long a target may take what a client sent before it closed the channel.
const LEAVE_MAX: Duration = Duration::from_secs(30);

/// Resolves when the client has closed the channel, and what it sent before had its time: a target that takes nothing
/// would otherwise never hear of it.
pub(super) async fn is_left(left: CancellationToken) {
    left.cancelled().await;
    tokio::time::sleep(LEAVE_MAX).await;
}

/// Both directions of a channel, until one of them says that it is over: the target's end always does, the client's
/// end does when the client closed. A target that takes no more may still have something to say.
pub(super) async fn both(
    mut inward: Pin<&mut impl Future<Output = Stopped>>,
    mut outward: Pin<&mut impl Future<Output = Stopped>>,
    left: CancellationToken,
) -> Stopped {
    tokio::select! {
        () = is_left(left) => Stopped::SourceClosed,
        stopped = &mut outward => stopped,
        stopped = &mut inward => match stopped {
            Stopped::SinkClosed => outward.await,
            Stopped::SourceClosed | Stopped::Ended => stopped,
        },
    }
}
