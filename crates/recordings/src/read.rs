//! A recording as it is read: piece by piece, whatever its length.

use crate::container::{FrameKind, Place, ReadFault, Reader};
use crate::directory::refusal;
use crate::event::{Event, HeadText, OpenedText, Stamped, Utf8, decode};
use crate::index::{ScreenText, Transcript};
use crate::lines::Lines;
use crate::page::Page;
use crate::tape::{Progress, micros};
use async_trait::async_trait;
use avt::Terminal;
use bytes::Bytes;
use ravelin_model::ports::Reading;
use ravelin_model::recording::{Form, Request};
use ravelin_model::text::{is_printable, printable};
use ravelin_model::{Refusal, SessionId};
use serde_json::json;
use tokio::sync::watch;

/// Bytes at which a piece is given out.
const PIECE_BYTES: usize = 64 * 1024;

/// A recording in a file.
pub(crate) struct FileReading {
    session: SessionId,
    // Away while it is read in a thread of its own.
    state: Option<Box<State>>,
    progress: Option<watch::Receiver<Progress>>,
    follow: bool,
}

impl FileReading {
    pub(crate) fn new(
        session: SessionId,
        reader: Reader,
        request: Request,
        progress: Option<watch::Receiver<Progress>>,
    ) -> Self {
        let follow = request.follow && progress.is_some();
        let state = State::new(reader, Request { follow, ..request });
        Self { session, state: Some(Box::new(state)), progress, follow }
    }
}

#[async_trait]
impl Reading for FileReading {
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(mut state) = self.state.take() else { return Ok(None) };
            // Looked at before reading, so that what comes meanwhile wakes us.
            let over = self
                .progress
                .as_mut()
                .is_none_or(|progress| progress.borrow_and_update().over || progress.has_changed().is_err());
            let task = tokio::task::spawn_blocking(move || {
                let step = state.step(over);
                (state, step)
            });
            let (state, step) = task.await.map_err(Refusal::internal)?;
            match step.map_err(|fault| refusal(&self.session, fault))? {
                Step::Piece(bytes) => {
                    self.state = Some(state);
                    return Ok(Some(bytes));
                }
                Step::End(bytes) => return Ok((!bytes.is_empty()).then_some(bytes)),
                Step::Wait(bytes) => {
                    self.state = Some(state);
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                    if !self.follow {
                        self.state = None;
                        return Ok(None);
                    }
                    if let Some(progress) = &mut self.progress {
                        // A sender that is gone has failed; what was written is read, and then it is over.
                        if progress.changed().await.is_err() {
                            self.progress = None;
                        }
                    }
                }
            }
        }
    }
}

enum Step {
    Piece(Bytes),
    /// That was all of it.
    End(Bytes),
    /// That was all so far.
    Wait(Bytes),
}

struct State {
    reader: Reader,
    place: Option<Place>,
    pending: std::vec::IntoIter<Stamped>,
    request: Request,
    channel: Option<u32>,
    head: Option<HeadText>,
    form: Renderer,
    over: bool,
    // It is damaged, and what lies before was given out.
    fault: Option<ReadFault>,
}

enum Renderer {
    Cast(Box<Cast>),
    Text(Box<Text>),
    Page(Box<Page>),
    Lines(Box<Lines>),
    Events,
}

impl State {
    fn new(reader: Reader, request: Request) -> Self {
        let form = match request.form {
            Form::Cast | Form::Cast3 => Renderer::Cast(Box::new(Cast::new(&request))),
            Form::Text => Renderer::Text(Box::default()),
            Form::Html => Renderer::Page(Box::default()),
            Form::Lines => Renderer::Lines(Box::default()),
            Form::Events => Renderer::Events,
        };
        let pending = Vec::new().into_iter();
        let channel = request.channel;
        Self { reader, place: None, pending, channel, request, head: None, form, over: false, fault: None }
    }

    /// Reads on. `over` says that nothing is being added.
    fn step(&mut self, over: bool) -> Result<Step, ReadFault> {
        let mut out = Vec::new();
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.over {
            return Ok(Step::End(Bytes::new()));
        }
        if self.place.is_none() {
            self.seek()?;
        }
        loop {
            for stamped in self.pending.by_ref() {
                self.form.event(&stamped, &mut self.head, &mut self.channel, &mut out);
                if out.len() >= PIECE_BYTES {
                    return Ok(Step::Piece(out.into()));
                }
            }
            let place = self.place.unwrap_or_else(|| self.reader.first());
            match self.reader.frame(place) {
                Ok((frame, next)) => match frame.kind {
                    FrameKind::Events => {
                        self.place = Some(next);
                        let events = decode(frame.at, &frame.raw);
                        self.pending = events.map_err(|_| ReadFault::Damaged("a frame holds no events"))?.into_iter();
                    }
                    FrameKind::Screen | FrameKind::Index => return self.end(out),
                },
                // Of a live recording the last frame may be half written.
                Err(ReadFault::Cut | ReadFault::Damaged(_)) if !over => {
                    self.form.caught_up(self.head.as_ref(), &mut out);
                    return Ok(Step::Wait(out.into()));
                }
                Err(ReadFault::Cut) => return self.end(out),
                Err(fault @ ReadFault::Damaged(_)) => {
                    // Whoever reads gets what can be read, and then learns that there is more.
                    self.over = true;
                    let _nothing_shown = self.form.end(self.head.as_ref(), &mut out);
                    if out.is_empty() {
                        return Err(fault);
                    }
                    self.fault = Some(fault);
                    return Ok(Step::Piece(out.into()));
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    fn end(&mut self, mut out: Vec<u8>) -> Result<Step, ReadFault> {
        self.over = true;
        if self.form.end(self.head.as_ref(), &mut out) {
            Ok(Step::End(out.into()))
        } else {
            Err(ReadFault::Damaged(match self.request.channel {
                Some(_) => "it has no such channel with a terminal",
                None => "it has no terminal: see what was done with `ravelin sessions acts`",
            }))
        }
    }

    /// Goes to where reading begins: from a screen that was kept, if one helps.
    fn seek(&mut self) -> Result<(), ReadFault> {
        self.place = Some(self.reader.first());
        let from = micros(self.request.from);
        let Renderer::Cast(cast) = &mut self.form else { return Ok(()) };
        if from == 0 || self.request.follow {
            return Ok(());
        }
        let (listed, _latest) = match self.reader.index() {
            Ok(index) => index,
            // A live one has none; it is read from its beginning.
            Err(ReadFault::Cut) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        // The head, and the channel that is meant.
        let mut place = self.reader.first();
        while self.head.is_none() || self.channel.is_none() {
            let (frame, next) = self.reader.frame(place)?;
            if frame.kind != FrameKind::Events {
                return Ok(());
            }
            place = next;
            for stamped in decode(frame.at, &frame.raw).map_err(|_| ReadFault::Damaged("a frame holds no events"))? {
                match stamped.event {
                    Event::Head(head) => self.head = Some(head),
                    Event::Opened(OpenedText { size: Some(_), .. }) => {
                        self.channel.get_or_insert(stamped.channel);
                    }
                    _other => {}
                }
            }
        }
        let wanted = self.channel;
        let best = listed
            .iter()
            .enumerate()
            .rev()
            .find(|(_, listed)| listed.is_screen && Some(listed.channel) == wanted && listed.at <= from);
        if let Some((number, listed)) = best {
            let (frame, _) = self.reader.frame(self.reader.place(number as u64, listed.offset)?)?;
            let screen: ScreenText =
                serde_json::from_slice(&frame.raw).map_err(|_| ReadFault::Damaged("a screen is none"))?;
            self.place = Some(self.reader.place(screen.number, screen.offset)?);
            cast.begin_at(screen);
        }
        Ok(())
    }
}

impl Renderer {
    fn event(&mut self, stamped: &Stamped, head: &mut Option<HeadText>, channel: &mut Option<u32>, out: &mut Vec<u8>) {
        if let Event::Head(text) = &stamped.event {
            *head = Some(text.clone());
        }
        if let Renderer::Events = self {
            line(out, &events_line(stamped));
            return;
        }
        if let Event::Opened(OpenedText { size, output, .. }) = &stamped.event
            && (size.is_some() || (*output && matches!(self, Renderer::Text(_) | Renderer::Lines(_))))
        {
            channel.get_or_insert(stamped.channel);
        }
        if *channel != Some(stamped.channel) {
            return;
        }
        match self {
            Renderer::Cast(cast) => cast.event(stamped, head.as_ref(), out),
            Renderer::Text(text) => text.event(stamped, out),
            Renderer::Page(page) => page.event(stamped, head.as_ref(), out),
            Renderer::Lines(lines) => lines.event(stamped, head.as_ref(), out),
            Renderer::Events => {}
        }
    }

    /// Everything that is there so far was read.
    fn caught_up(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) {
        if let Renderer::Cast(cast) = self {
            cast.caught_up(head, out);
        }
    }

    /// Everything was read. `false` when there was nothing for this form.
    fn end(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) -> bool {
        match self {
            Renderer::Cast(cast) => cast.end(head, out),
            Renderer::Text(text) => text.end(out),
            Renderer::Page(page) => page.end(out),
            Renderer::Lines(lines) => lines.end(head, out),
            Renderer::Events => true,
        }
    }
}

pub(crate) fn line(out: &mut Vec<u8>, value: &serde_json::Value) {
    // JSON of texts and numbers is text, and writing into memory cannot fail.
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b'\n');
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn events_line(stamped: &Stamped) -> serde_json::Value {
    let (code, value) = match &stamped.event {
        Event::Head(head) => ("head", json!(head)),
        Event::Opened(opened) => ("opened", json!(opened)),
        Event::Output(bytes) => ("output", json!(String::from_utf8_lossy(bytes))),
        Event::Input(bytes) => ("input", json!(String::from_utf8_lossy(bytes))),
        Event::Enter => ("enter", json!(null)),
        Event::Resized { columns, rows } => ("resized", json!([columns, rows])),
        Event::Exited(status) => ("exited", json!(status)),
        Event::Closed(closed) => ("closed", json!(closed)),
        Event::Act(act) => ("act", json!(act)),
    };
    json!([seconds(stamped.at), stamped.channel, code, value])
}

/// The title of what is made of a recording.
pub(crate) fn title(head: Option<&HeadText>) -> String {
    match head {
        None => String::new(),
        Some(head) => match &head.login {
            Some(login) => format!("{}: {} to {login}@{}", head.session, head.principal, head.target),
            None => format!("{}: {} to {}", head.session, head.principal, head.target),
        },
    }
}

/// asciicast, version 2 or 3.
struct Cast {
    version3: bool,
    from: u64,
    follow: bool,
    utf8: Utf8,
    term: Option<String>,
    size: Option<(u32, u32)>,
    // While what lies before the beginning is passed over.
    glass: Option<Terminal>,
    begun: bool,
    last: u64,
    exit: Option<String>,
}

impl Cast {
    fn new(request: &Request) -> Self {
        Self {
            version3: request.form == Form::Cast3,
            from: micros(request.from),
            follow: request.follow,
            utf8: Utf8::default(),
            term: None,
            size: None,
            glass: None,
            begun: false,
            last: micros(request.from),
            exit: None,
        }
    }

    fn begin_at(&mut self, screen: ScreenText) {
        if let Ok(mut glass) = Terminal::new(screen.columns.max(1) as usize, screen.rows.max(1) as usize) {
            glass.feed(screen.dump.as_str());
            self.glass = Some(glass);
            self.size = Some((screen.columns, screen.rows));
            self.utf8 = Utf8::after(screen.held);
        }
    }

    fn event(&mut self, stamped: &Stamped, head: Option<&HeadText>, out: &mut Vec<u8>) {
        if let Event::Opened(OpenedText { size: Some((columns, rows)), term, .. }) = &stamped.event {
            let (columns, rows) = ((*columns).clamp(1, 1_000), (*rows).clamp(1, 1_000));
            self.size = Some((columns, rows));
            self.term.clone_from(term);
            if self.from > 0 || self.follow {
                self.glass = Terminal::new(columns as usize, rows as usize).ok();
            }
            return;
        }
        if self.size.is_none() {
            // The head, which is in the first channel too.
            return;
        }
        if !self.begun {
            if (self.follow || stamped.at < self.from)
                && let Some(glass) = &mut self.glass
            {
                match &stamped.event {
                    Event::Output(bytes) => glass.feed(self.utf8.text(bytes).as_str()),
                    Event::Resized { columns, rows } => {
                        glass.resize(*columns as usize, *rows as usize);
                        self.size = Some((*columns, *rows));
                    }
                    _passed_over => {}
                }
                self.last = self.last.max(stamped.at);
                return;
            }
            self.begin(head, out);
        }
        let at = stamped.at.max(self.last);
        match &stamped.event {
            Event::Output(bytes) => {
                let text = self.utf8.text(bytes);
                if !text.is_empty() {
                    self.line(at, "o", &text, out);
                }
            }
            Event::Input(bytes) => self.line(at, "i", &String::from_utf8_lossy(bytes), out),
            Event::Resized { columns, rows } => self.line(at, "r", &format!("{columns}x{rows}"), out),
            Event::Exited(status) => self.exit = Some(status.clone()),
            Event::Head(_) | Event::Opened(_) | Event::Enter | Event::Closed(_) | Event::Act(_) => {}
        }
    }

    fn line(&mut self, at: u64, code: &str, text: &str, out: &mut Vec<u8>) {
        let time = if self.version3 { at - self.last } else { at.saturating_sub(self.from) };
        self.last = at;
        line(out, &json!([seconds(time), code, text]));
    }

    /// The header, and the screen of the moment.
    fn begin(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) {
        self.begun = true;
        let (columns, rows) = self.size.unwrap_or((80, 24));
        let began = head.map_or(0, |head| head.began_us);
        if self.follow {
            // Times count from now.
            self.from = self.last;
        }
        let timestamp = began.saturating_add_unsigned(self.from).div_euclid(1_000_000);
        let term = self.term.clone().unwrap_or_else(|| "xterm-256color".to_owned());
        let title = title(head);
        let header = if self.version3 {
            json!({"version": 3, "term": {"cols": columns, "rows": rows, "type": term}, "timestamp": timestamp, "title": title})
        } else {
            json!({"version": 2, "width": columns, "height": rows, "timestamp": timestamp, "title": title, "env": {"TERM": term}})
        };
        line(out, &header);
        if let Some(glass) = self.glass.take() {
            self.last = self.from;
            self.line(self.from, "o", &glass.dump(), out);
        }
    }

    fn caught_up(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) {
        if self.follow && !self.begun && self.size.is_some() {
            self.begin(head, out);
        }
    }

    fn end(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) -> bool {
        if self.size.is_none() {
            return false;
        }
        if !self.begun {
            // It ended before the moment that was asked for: its last screen is what there is.
            self.from = self.from.min(self.last);
            self.begin(head, out);
        }
        if let (true, Some(status)) = (self.version3, self.exit.take())
            && status.parse::<u32>().is_ok()
        {
            let last = self.last;
            self.line(last, "x", &status, out);
        }
        true
    }
}

/// What a terminal showed, line by line, without anything that moves a reader's cursor; of a channel without a terminal
/// whose output is kept, that.
struct Text {
    glass: Option<Terminal>,
    // The line that is not whole yet, where there is no terminal.
    plain: Option<String>,
    transcript: Transcript,
    utf8: Utf8,
}

impl Default for Text {
    fn default() -> Self {
        Self { glass: None, plain: None, transcript: Transcript::new(PIECE_BYTES), utf8: Utf8::default() }
    }
}

impl Text {
    fn event(&mut self, stamped: &Stamped, out: &mut Vec<u8>) {
        let lines = match (&stamped.event, &mut self.glass) {
            (Event::Opened(OpenedText { size: Some((columns, rows)), .. }), _) => {
                let side = |side: u32| side.clamp(1, 1_000) as usize;
                self.glass = Terminal::new(side(*columns), side(*rows)).ok();
                return;
            }
            (Event::Opened(OpenedText { output: true, .. }), _) => {
                self.plain = Some(String::new());
                return;
            }
            (Event::Output(bytes), None) => {
                let Some(rest) = &mut self.plain else { return };
                for piece in self.utf8.text(bytes).split_inclusive('\n') {
                    rest.push_str(piece);
                    if rest.ends_with('\n') || rest.len() >= PIECE_BYTES {
                        Self::plain_line(rest, out);
                        rest.clear();
                    }
                }
                return;
            }
            (Event::Output(bytes), Some(glass)) => {
                glass.feed_with(self.utf8.text(bytes).as_str(), &mut self.transcript)
            }
            (Event::Resized { columns, rows }, Some(glass)) => {
                glass.resize_with(*columns as usize, *rows as usize, &mut self.transcript)
            }
            _nothing_shown => return,
        };
        Self::lines(&lines, out);
    }

    /// A tab is as good as a blank where no cursor moves.
    fn plain_line(line: &str, out: &mut Vec<u8>) {
        let kept: String = line.chars().filter(|c| *c == '\t' || is_printable(*c)).collect();
        out.extend_from_slice(kept.as_bytes());
        out.push(b'\n');
    }

    fn lines(lines: &[String], out: &mut Vec<u8>) {
        for line in lines {
            out.extend_from_slice(printable(line, usize::MAX).as_bytes());
            out.push(b'\n');
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(rest) = self.plain.take() {
            if !rest.is_empty() {
                Self::plain_line(&rest, out);
            }
            return true;
        }
        let Some(glass) = self.glass.take() else { return false };
        let transcript = std::mem::replace(&mut self.transcript, Transcript::new(PIECE_BYTES));
        Self::lines(&transcript.finish(&glass), out);
        true
    }
}
