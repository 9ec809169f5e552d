//! What is learnt from a recording once it is over: the commands, the text of the screens, and screens to begin at.
//!
//! The recording is played to a terminal without a glass. Commands come from marks where the shell sets them
//! (<https://gitlab.freedesktop.org/Per_Bothner/specifications/blob/master/proposals/semantic-prompts.md>), and from
//! what stands behind a prompt where it does not; those are marked as such. At every [`Bounds::screen_every_bytes`] the
//! screen is kept, so that playing can begin there without everything before it; where there are too many, every other
//! one is dropped, and later ones are kept half as often.
//!
//! A recording is read to its end, however much was shown. What [`Bounds`] leaves out is told by an act: how many are not
//! listed, or from where on nothing was read. It is in the recording all the same.

use crate::container::{FrameKind, Listed, Place, ReadFault, Reader};
use crate::event::{Event, HeadText, OpenedText, Stamped, Utf8, decode};
use avt::observer::{Observation, Observer, ShellEvent, ShellTracker};
use avt::parser::Function;
use avt::{Line, Operation, ScreenKind, Terminal};
use ravelin_model::recording::{Act, ActKind, Source};
use ravelin_model::text::printable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// What learning may cost, and leave behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Longest that what terminals show is read. Ten gibibytes of usual output take less; output can be made to take
    /// longer, and finishing has a bound too.
    pub(crate) time: Duration,
    /// Bytes of a recording after which a screen is kept, as long as there is room.
    pub(crate) screen_every_bytes: u64,
    /// Bytes of all screens.
    pub(crate) screens_bytes: usize,
    /// Acts, those that tell what is left out among them.
    pub(crate) acts: usize,
    /// Bytes of the acts that were told or found, and as many again of what was shown.
    pub(crate) acts_bytes: usize,
}

impl Bounds {
    /// What a recorder learns with.
    pub(crate) const USUAL: Self = Self {
        time: Duration::from_secs(240),
        screen_every_bytes: 1 << 20,
        screens_bytes: 64 << 20,
        acts: Act::PER_SESSION_MAX,
        acts_bytes: 64 << 20,
    };
}

/// Longest screen that is kept, so that it fits into a frame whatever is escaped in it.
const SCREEN_BYTES_MAX: usize = 1 << 20;
/// Bytes that a screen or an act costs besides its text.
const BESIDES_BYTES: usize = 256;
/// Text of a screen that one act holds, in characters.
const SCREEN_CHARS: usize = 2_000;
/// Bytes at which a line that was shown is cut. A row has at most 1,000 characters, so all of it fits into one act.
const SHOWN_BYTES_MAX: usize = SCREEN_CHARS / 2;
/// Lines that may come between a key and the line that it ended.
const OTHERS_MAX: u32 = 4;
/// Lines that somebody may type ahead.
const ENTERED_MAX: u32 = 64;
/// Longest prompt.
const PROMPT_CHARS_MAX: usize = 160;

/// A screen to begin at, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScreenText {
    pub(crate) columns: u32,
    pub(crate) rows: u32,
    /// The number of the first frame after it, and where that is.
    pub(crate) number: u64,
    pub(crate) offset: u64,
    /// What brings a terminal of this size to this screen.
    pub(crate) dump: String,
    /// The beginning of a character that was cut there.
    pub(crate) held: Vec<u8>,
}

/// What was learnt.
pub(crate) struct Learnt {
    pub(crate) head: HeadText,
    pub(crate) acts: Vec<Act>,
    pub(crate) screens: Vec<(u64, u32, ScreenText)>,
    pub(crate) listed: Vec<Listed>,
    /// Where the frames of events end that can be read.
    pub(crate) end: Place,
    /// Why nothing can be read there; `None` where something else is than events.
    pub(crate) fault: Option<ReadFault>,
    /// The time of the last event, in microseconds.
    pub(crate) latest: u64,
}

/// Plays a recording without index from its beginning to its end, or to where it cannot be read. Frames that are there
/// already as screens are passed over.
pub(crate) fn learn(reader: &Reader, screens: bool, bounds: &Bounds) -> Result<Learnt, ReadFault> {
    let begun = Instant::now();
    let mut place = reader.first();
    let mut players: BTreeMap<u32, Player> = BTreeMap::new();
    let mut learnt: Option<Learnt> = None;
    let mut acts = Acts::new(bounds);
    let mut kept = Screens::new(bounds);
    let mut passed = 0;
    let mut looks = true;
    let mut fault = None;
    loop {
        let (frame, next) = match reader.frame(place) {
            Ok(read) => read,
            Err(found @ (ReadFault::Cut | ReadFault::Damaged(_))) if learnt.is_some() => {
                fault = Some(found);
                break;
            }
            Err(fault) => return Err(fault),
        };
        if frame.kind != FrameKind::Events {
            break;
        }
        let events = decode(frame.at, &frame.raw).map_err(|_| ReadFault::Damaged("a frame holds no events"))?;
        let listed = Listed { offset: place.offset, at: frame.at, channel: 0, is_screen: false };
        place = next;
        passed += frame.raw.len() as u64;
        for stamped in events {
            if let Event::Head(head) = &stamped.event
                && learnt.is_none()
            {
                learnt = Some(Learnt {
                    head: head.clone(),
                    acts: Vec::new(),
                    screens: Vec::new(),
                    listed: Vec::new(),
                    end: place,
                    fault: None,
                    latest: 0,
                });
            }
            let Some(learnt) = learnt.as_mut() else {
                return Err(ReadFault::Damaged("it does not say what it is of"));
            };
            learnt.latest = learnt.latest.max(stamped.at);
            if looks && matches!(stamped.event, Event::Output(_)) && begun.elapsed() >= bounds.time {
                looks = false;
                acts.not_read_from(stamped.at);
                for player in players.values_mut() {
                    player.look_away(stamped.at, screens, &mut acts);
                }
            }
            let number = stamped.channel;
            let is_over = matches!(stamped.event, Event::Closed(_));
            players.entry(number).or_default().handle(stamped, looks, screens, &mut acts);
            if is_over {
                players.remove(&number);
            }
        }
        let Some(learnt) = learnt.as_mut() else { return Err(ReadFault::Damaged("it does not say what it is of")) };
        learnt.listed.push(listed);
        learnt.end = place;
        for (channel, player) in &mut players {
            if let Some(screen) = player.screen(place, passed, kept.every) {
                kept.push(learnt.latest, *channel, screen);
            }
        }
    }
    let Some(mut learnt) = learnt else { return Err(ReadFault::Damaged("it is empty")) };
    for player in players.into_values() {
        player.end(learnt.latest, screens, &mut acts);
    }
    learnt.fault = fault;
    learnt.acts = acts.finish();
    learnt.screens = kept.kept;
    Ok(learnt)
}

/// Acts, as many as can be listed; of the others, how many there are and since when.
struct Acts {
    acts_max: usize,
    bytes_max: usize,
    told: Vec<Act>,
    told_bytes: usize,
    // What was shown gives way to all others.
    shown: Vec<Act>,
    shown_bytes: usize,
    left_out: BTreeMap<&'static str, LeftOut>,
    not_read: Option<Duration>,
}

struct LeftOut {
    kind: ActKind,
    from: Duration,
    count: u64,
}

impl Acts {
    /// Acts that tell what is left out: one for each kind, and one that says from where on nothing was read.
    const TELLING_MAX: usize = ActKind::ALL.len() + 1;

    fn new(bounds: &Bounds) -> Self {
        Self {
            acts_max: bounds.acts.saturating_sub(Self::TELLING_MAX),
            bytes_max: bounds.acts_bytes,
            told: Vec::new(),
            told_bytes: 0,
            shown: Vec::new(),
            shown_bytes: 0,
            left_out: BTreeMap::new(),
            not_read: None,
        }
    }

    /// Lists an act: where to find it again with [`Acts::told`], unless it was shown or is left out.
    fn push(&mut self, act: Act) -> Option<usize> {
        let facts = act.facts.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let bytes = BESIDES_BYTES + act.text.len() + facts;
        let is_shown = act.kind == ActKind::Screen;
        let (list, sum) =
            if is_shown { (&mut self.shown, &mut self.shown_bytes) } else { (&mut self.told, &mut self.told_bytes) };
        if list.len() >= self.acts_max || *sum + bytes > self.bytes_max {
            self.leave_out(&act);
            return None;
        }
        *sum += bytes;
        list.push(act);
        (!is_shown).then_some(self.told.len().saturating_sub(1))
    }

    fn told(&mut self, place: usize) -> Option<&mut Act> {
        self.told.get_mut(place)
    }

    fn leave_out(&mut self, act: &Act) {
        let fresh = LeftOut { kind: act.kind, from: act.at, count: 0 };
        let left = self.left_out.entry(act.kind.word()).or_insert(fresh);
        left.from = left.from.min(act.at);
        left.count += 1;
    }

    fn not_read_from(&mut self, at: u64) {
        self.not_read = Some(Duration::from_micros(at));
    }

    /// All that are listed and what tells of the others, in order of time.
    fn finish(mut self) -> Vec<Act> {
        let room = self.acts_max - self.told.len();
        let more = if self.shown.len() > room { self.shown.split_off(room) } else { Vec::new() };
        more.iter().for_each(|act| self.leave_out(act));
        let mut acts = self.told;
        acts.extend(self.shown);
        let source = Source::Told;
        for (word, LeftOut { kind, from: at, count }) in self.left_out {
            // What was shown is searched and not listed, and whoever lists has to learn of it.
            let (kind, text) = match kind {
                ActKind::Screen => (ActKind::Command, "more was shown from here on than can be searched"),
                kind @ (ActKind::Command | ActKind::Exec | ActKind::File | ActKind::Forward) => {
                    (kind, "more than can be listed")
                }
            };
            let facts = [("not_listed", count.to_string()), ("of", word.to_owned())];
            let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            acts.push(Act { at, kind, source, text: text.to_owned(), facts });
        }
        if let Some(at) = self.not_read {
            let text = "what terminals showed was not read from here on".to_owned();
            let facts = BTreeMap::from([("not_read_from_ms".to_owned(), at.as_millis().to_string())]);
            acts.push(Act { at, kind: ActKind::Command, source, text, facts });
        }
        acts.sort_by_key(|act| act.at);
        acts
    }
}

/// Screens to begin at.
struct Screens {
    kept: Vec<(u64, u32, ScreenText)>,
    bytes: usize,
    bytes_max: usize,
    every: u64,
}

impl Screens {
    fn new(bounds: &Bounds) -> Self {
        Self { kept: Vec::new(), bytes: 0, bytes_max: bounds.screens_bytes, every: bounds.screen_every_bytes }
    }

    fn cost(screen: &ScreenText) -> usize {
        screen.dump.len() + BESIDES_BYTES
    }

    fn push(&mut self, at: u64, channel: u32, screen: ScreenText) {
        let cost = Self::cost(&screen);
        if screen.dump.len() > SCREEN_BYTES_MAX {
            return;
        }
        if self.bytes + cost > self.bytes_max {
            self.thin();
        }
        if self.bytes + cost <= self.bytes_max {
            self.bytes += cost;
            self.kept.push((at, channel, screen));
        }
    }

    /// Drops every other screen of each channel, but not its first.
    fn thin(&mut self) {
        let before = self.kept.len();
        let mut keeps: HashMap<u32, bool> = HashMap::new();
        self.kept.retain(|(_, channel, _)| {
            let keep = keeps.entry(*channel).or_insert(false);
            *keep = !*keep;
            *keep
        });
        self.bytes = self.kept.iter().map(|(_, _, screen)| Self::cost(screen)).sum();
        if self.kept.len() < before {
            self.every = self.every.saturating_mul(2);
        }
    }
}

/// The lines that leave a screen, those that were wrapped put together again. As [`avt::observer::Transcript`], but a line
/// that never ends is cut, so that it needs no more room than others.
pub(crate) struct Transcript {
    cut: usize,
    pending: String,
    ready: Vec<String>,
}

impl Transcript {
    /// Lines are cut at the end of the row that brings them to `cut` bytes.
    pub(crate) fn new(cut: usize) -> Self {
        Self { cut, pending: String::new(), ready: Vec::new() }
    }

    /// What is still on the screen.
    pub(crate) fn finish(mut self, terminal: &Terminal) -> Vec<String> {
        self.screen(terminal);
        self.ready
    }

    fn screen(&mut self, terminal: &Terminal) {
        let start = self.ready.len();
        for line in terminal.primary_screen().all_lines() {
            self.push(line);
        }
        // What fills a screen up is no text.
        while self.ready.len() > start && self.ready.last().is_some_and(String::is_empty) {
            self.ready.pop();
        }
    }

    fn push(&mut self, line: &Line) {
        self.pending.extend(line.chars());
        if !line.is_wrapped() {
            self.ready.push(self.pending.trim_end().to_owned());
            self.pending.clear();
        } else if self.pending.len() >= self.cut {
            self.ready.push(std::mem::take(&mut self.pending));
        }
    }
}

impl Observer for Transcript {
    type Output = Vec<String>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        if matches!(operation, Operation::Function(Function::Ris)) {
            self.screen(context.terminal());
        }
    }

    fn evicted(&mut self, _context: &mut Observation<'_>, line: &Line) {
        self.push(line);
    }

    fn end(&mut self, _context: &mut Observation<'_>) -> Vec<String> {
        std::mem::take(&mut self.ready)
    }
}

/// One channel.
#[derive(Default)]
struct Player {
    opened: Option<OpenedText>,
    glass: Option<Glass>,
    exit: Option<String>,
    opened_at: u64,
}

/// A terminal without a glass, and what reads on it.
struct Glass {
    terminal: Terminal,
    transcript: Transcript,
    tracker: ShellTracker,
    utf8: Utf8,
    lines: Vec<String>,
    lines_chars: usize,
    lines_at: u64,
    marked: bool,
    // Lines that were ended by the key and not found on the screen yet, and how many others came since.
    entered: u32,
    others: u32,
    // Commands by the tracker's number, as places in the list of acts.
    running: HashMap<u64, usize>,
    // How much of the recording had passed when a screen was kept.
    screen_at: u64,
}

impl Glass {
    fn new(columns: u32, rows: u32) -> Option<Self> {
        Some(Self {
            terminal: Terminal::new(columns as usize, rows as usize).ok()?,
            transcript: Transcript::new(SHOWN_BYTES_MAX),
            tracker: ShellTracker::new(),
            utf8: Utf8::default(),
            lines: Vec::new(),
            lines_chars: 0,
            lines_at: 0,
            marked: false,
            entered: 0,
            others: 0,
            running: HashMap::new(),
            screen_at: 0,
        })
    }

    fn output(&mut self, at: u64, bytes: &[u8], acts: &mut Acts) {
        let text = self.utf8.text(bytes);
        let mut rest = text.as_str();
        while self.entered > 0
            && !self.marked
            && let Some(end) = rest.find('\n')
        {
            self.feed(at, &rest[..end], acts);
            match self.behind_prompt() {
                Some(command) => {
                    acts.push(command_act(at, Source::Prompt, &command));
                    (self.entered, self.others) = (self.entered - 1, 0);
                }
                // Who types ahead sees the echo before the prompt; who is asked a question, no prompt at all.
                None => {
                    self.others += 1;
                    if self.others > OTHERS_MAX {
                        (self.entered, self.others) = (self.entered - 1, 0);
                    }
                }
            }
            self.feed(at, "\n", acts);
            rest = &rest[end + 1..];
        }
        self.feed(at, rest, acts);
    }

    fn feed(&mut self, at: u64, text: &str, acts: &mut Acts) {
        let (lines, events) = self.terminal.feed_with(text, (&mut self.transcript, &mut self.tracker));
        for event in events {
            match event {
                ShellEvent::CommandSubmitted(command) => {
                    self.marked = true;
                    if let Some(text) = command.text.filter(|text| !text.trim().is_empty())
                        && let Some(place) = acts.push(command_act(at, Source::Marks, text.trim()))
                    {
                        self.running.insert(command.id.0, place);
                    }
                }
                ShellEvent::CommandFinished { id, exit_status } => {
                    if let Some(act) = self.running.remove(&id.0).and_then(|place| acts.told(place))
                        && let Some(status) = exit_status
                    {
                        act.facts.insert("exit_status".to_owned(), status.to_string());
                    }
                }
                ShellEvent::PromptStarted(_) | ShellEvent::CommandCancelled { .. } => self.marked = true,
            }
        }
        self.add_lines(at, lines);
    }

    fn add_lines(&mut self, at: u64, lines: Vec<String>) {
        for line in lines {
            if self.lines.is_empty() {
                self.lines_at = at;
            }
            self.lines_chars += line.len() + 1;
            self.lines.push(line);
        }
    }

    /// The text that has left the screen, as acts, when there is enough of it or nothing more comes.
    fn screen_acts(&mut self, last: bool, keep: bool, acts: &mut Acts) {
        if !keep {
            self.lines.clear();
            self.lines_chars = 0;
            return;
        }
        while self.lines_chars >= SCREEN_CHARS || (last && !self.lines.is_empty()) {
            let mut text = String::new();
            let mut taken = 0;
            for line in &self.lines {
                if !text.is_empty() && text.len() + line.len() > SCREEN_CHARS {
                    break;
                }
                text.push_str(&printable(line, SCREEN_CHARS));
                text.push('\n');
                taken += 1;
            }
            for line in self.lines.drain(..taken) {
                self.lines_chars -= line.len() + 1;
            }
            if !text.trim().is_empty() {
                let at = Duration::from_micros(self.lines_at);
                let (kind, source) = (ActKind::Screen, Source::Shown);
                acts.push(Act { at, kind, source, text, facts: BTreeMap::new() });
            }
        }
    }

    /// What stands behind a prompt in the line of the cursor.
    fn behind_prompt(&self) -> Option<String> {
        if self.terminal.active_screen_kind() == ScreenKind::Alternate {
            return None;
        }
        let row = self.terminal.cursor().row;
        let lines: Vec<_> = self.terminal.screen().visible_lines().collect();
        let mut first = row;
        while first > 0 && lines.get(first - 1)?.is_wrapped() {
            first -= 1;
        }
        let mut text: String = lines.get(first..=row)?.iter().map(|line| line.text()).collect();
        // The cursor may be in the middle of a line that goes on below.
        let mut last = row;
        while lines.get(last).is_some_and(|line| line.is_wrapped()) && last + 1 < lines.len() {
            last += 1;
            text.push_str(&lines[last].text());
        }
        command_in(&text)
    }
}

/// The command in a line that begins with a prompt.
fn command_in(line: &str) -> Option<String> {
    const ENDS: [&str; 7] = ["$ ", "# ", "% ", "> ", "❯ ", "➜ ", "λ "];
    let (at, length) =
        ENDS.iter().filter_map(|end| line.find(end).map(|at| (at, end.len()))).min_by_key(|(at, _)| *at)?;
    if line[..at].chars().count() > PROMPT_CHARS_MAX {
        return None;
    }
    let command = printable(line[at + length..].trim(), Act::TEXT_CHARS_MAX);
    (!command.is_empty()).then_some(command)
}

fn command_act(at: u64, source: Source, text: &str) -> Act {
    let text = printable(text, Act::TEXT_CHARS_MAX);
    Act { at: Duration::from_micros(at), kind: ActKind::Command, source, text, facts: BTreeMap::new() }
}

impl Player {
    /// `looks` says whether what terminals show is read.
    fn handle(&mut self, stamped: Stamped, looks: bool, screens: bool, acts: &mut Acts) {
        let at = stamped.at;
        match stamped.event {
            Event::Opened(opened) => {
                self.opened_at = at;
                if let Some((columns, rows)) = opened.size.filter(|_| looks) {
                    self.glass = Glass::new(columns.clamp(1, 1_000), rows.clamp(1, 1_000));
                }
                self.opened = Some(opened);
            }
            Event::Output(bytes) => {
                if let Some(glass) = &mut self.glass {
                    glass.output(at, &bytes, acts);
                    glass.screen_acts(false, screens, acts);
                }
            }
            Event::Enter => {
                if let Some(glass) = &mut self.glass {
                    glass.entered = (glass.entered + 1).min(ENTERED_MAX);
                }
            }
            Event::Resized { columns, rows } => {
                if let Some(glass) = &mut self.glass {
                    let both = (&mut glass.transcript, &mut glass.tracker);
                    let (lines, _events) = glass.terminal.resize_with(columns as usize, rows as usize, both);
                    glass.add_lines(at, lines);
                }
            }
            Event::Exited(status) => self.exit = Some(status),
            Event::Closed(_) => std::mem::take(self).end(at, screens, acts),
            Event::Act(act) => {
                if let Some(act) = act.into_act(Duration::from_micros(at)) {
                    acts.push(act);
                }
            }
            Event::Head(_) | Event::Input(_) => {}
        }
    }

    /// Its screen, when this much of the recording has passed since the last one. A channel that is opened late has one at
    /// once.
    fn screen(&mut self, next: Place, passed: u64, every: u64) -> Option<ScreenText> {
        let glass = self.glass.as_mut().filter(|glass| passed - glass.screen_at >= every)?;
        glass.screen_at = passed;
        let (columns, rows) = glass.terminal.size();
        Some(ScreenText {
            columns: columns as u32,
            rows: rows as u32,
            number: next.number,
            offset: next.offset,
            dump: glass.terminal.dump(),
            held: glass.utf8.held().to_vec(),
        })
    }

    /// What its terminal shows is read no further.
    fn look_away(&mut self, at: u64, screens: bool, acts: &mut Acts) {
        if let Some(mut glass) = self.glass.take() {
            let transcript = std::mem::replace(&mut glass.transcript, Transcript::new(SHOWN_BYTES_MAX));
            let rest = transcript.finish(&glass.terminal);
            glass.add_lines(at, rest);
            glass.screen_acts(true, screens, acts);
        }
    }

    /// The channel is over.
    fn end(mut self, at: u64, screens: bool, acts: &mut Acts) {
        self.look_away(at, screens, acts);
        if let Some(opened) = self.opened.take()
            && opened.purpose == "exec"
        {
            let mut facts = BTreeMap::new();
            if let Some(status) = self.exit.take() {
                facts.insert("exit_status".to_owned(), status);
            }
            let text = printable(&opened.text, Act::TEXT_CHARS_MAX);
            let at = Duration::from_micros(self.opened_at);
            acts.push(Act { at, kind: ActKind::Exec, source: Source::Told, text, facts });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(pieces: &[(&str, &str)]) -> Vec<(String, &'static str, Option<String>)> {
        let mut player = Player::default();
        let mut acts = Acts::new(&Bounds::USUAL);
        let opened = OpenedText {
            purpose: "shell".to_owned(),
            text: String::new(),
            term: None,
            size: Some((40, 5)),
            output: false,
        };
        let mut at = 0;
        let mut give = |event, acts: &mut Acts| {
            at += 1;
            player.handle(Stamped { at, channel: 0, event }, true, true, acts);
        };
        give(Event::Opened(opened), &mut acts);
        for (way, text) in pieces {
            if *way == "<" {
                give(Event::Enter, &mut acts);
            } else {
                give(Event::Output(text.as_bytes().to_vec()), &mut acts);
            }
        }
        player.end(99, true, &mut acts);
        acts.finish()
            .into_iter()
            .map(|act| (act.text, act.source.word(), act.facts.get("exit_status").cloned()))
            .collect()
    }

    #[test]
    fn commands_are_found_behind_prompts_and_marked_as_such() {
        let acts = learnt(&[(">", "alice@web:~$ ls -l"), ("<", ""), (">", "\r\ntotal 0\r\nalice@web:~$ ")]);
        assert_eq!(acts[0], ("ls -l".to_owned(), "prompt", None));
        assert!(acts[1].0.contains("total 0") && acts[1].1 == "shown", "{acts:?}");
        let acts = learnt(&[(">", "root@web:/# "), ("<", ""), (">", "echo in flight"), (">", "\r\nin flight\r\n")]);
        assert_eq!(acts[0].0, "echo in flight", "the echo may come after the key");
        let ahead = [("<", ""), ("<", ""), (">", "one\r\ntwo\r\n$ one\r\n1\r\n$ two\r\n2\r\n$ ")];
        let acts: Vec<_> = learnt(&ahead).into_iter().filter(|act| act.1 == "prompt").map(|act| act.0).collect();
        assert_eq!(acts, ["one", "two"], "typed ahead");
        let long = format!("$ echo {}", "x".repeat(60));
        assert_eq!(learnt(&[(">", &long), ("<", ""), (">", "\r\n")])[0].0, long[2..], "a line that wraps is one");
        assert!(learnt(&[(">", "Password: "), ("<", ""), (">", "\r\n")]).iter().all(|act| act.1 == "shown"));
    }

    #[test]
    fn marks_go_before_guesses_and_bring_the_status() {
        let acts = learnt(&[
            (">", "\x1b]133;A\x07$ \x1b]133;B\x07make"),
            ("<", ""),
            (">", "\x1b]133;C\x07\r\nno rule\r\n\x1b]133;D;2\x07"),
        ]);
        let commands: Vec<_> = acts.iter().filter(|act| act.1 != "shown").collect();
        assert_eq!(commands, [&("make".to_owned(), "marks", Some("2".to_owned()))]);
    }

    fn act(at: u64, kind: ActKind) -> Act {
        let at = Duration::from_micros(at);
        Act { at, kind, source: Source::Told, text: "x".repeat(20), facts: BTreeMap::new() }
    }

    #[test]
    fn what_is_not_listed_is_told_with_its_number_and_takes_no_room() {
        let listed = |bounds: Bounds| {
            let mut acts = Acts::new(&bounds);
            for at in 0..1_000 {
                acts.push(act(at, ActKind::File));
                acts.push(act(at, ActKind::Screen));
            }
            assert!(acts.told.len() + acts.shown.len() <= 2 * bounds.acts);
            let acts = acts.finish();
            let told: Vec<(Duration, &str, u64)> = acts
                .iter()
                .filter_map(|act| Some((act.at, act.facts.get("of")?.as_str(), act.facts["not_listed"].parse().ok()?)))
                .collect();
            let listed = |kind| acts.iter().filter(|act| act.kind == kind && act.facts.is_empty()).count();
            assert!(acts.len() <= bounds.acts && acts.is_sorted_by_key(|act| act.at));
            (
                listed(ActKind::File),
                listed(ActKind::Screen),
                told.into_iter().map(|(at, of, n)| (at.as_micros(), of.to_owned(), n)).collect::<Vec<_>>(),
            )
        };
        let all = Bounds::USUAL;
        assert_eq!(listed(all), (1_000, 1_000, Vec::new()));
        let few = Bounds { acts: 1_506, ..all };
        assert_eq!(listed(few), (1_000, 500, vec![(500, "screen".to_owned(), 500)]), "what was shown gives way");
        let fewer = Bounds { acts: 106, ..all };
        let told = vec![(0, "screen".to_owned(), 1_000), (100, "file".to_owned(), 900)];
        assert_eq!(listed(fewer), (100, 0, told));
        let short = Bounds { acts_bytes: 100 * (BESIDES_BYTES + 20), ..all };
        let told = vec![(100, "file".to_owned(), 900), (100, "screen".to_owned(), 900)];
        assert_eq!(listed(short), (100, 100, told));
    }

    /// A recording of a terminal that shows so many pieces of 4 KiB in one line, each in a frame, then gets a command; a
    /// second terminal is opened before that and shows nothing.
    fn talkative(folder: &std::path::Path, pieces: u64) -> Reader {
        let keys = crate::keys::KeyRing::parse(&format!("k {}", "a".repeat(64))).expect("a ring");
        let principal = ravelin_model::PrincipalName::parse("alice").expect("a name");
        let session = ravelin_model::SessionId::new(&principal, 7);
        let path = folder.join("r");
        let mut writer = crate::container::Writer::create(&path, &keys, &session).expect("a new file");
        let mut encoder = crate::event::Encoder::default();
        let mut packing = crate::container::Packing::default();
        let mut frame = |events: Vec<(u64, u32, Event)>| {
            for (at, channel, event) in events {
                encoder.push(at, channel, &event);
            }
            let (at, raw) = encoder.frame().expect("events");
            writer.frame(FrameKind::Events, at, 0, raw, &mut packing).expect("written");
            encoder.clear();
        };
        let opened = || {
            let (purpose, text) = ("shell".to_owned(), String::new());
            Event::Opened(OpenedText { purpose, text, term: None, size: Some((80, 24)), output: false })
        };
        let head = HeadText {
            session: session.to_string(),
            principal: "alice".to_owned(),
            target: "web-1".to_owned(),
            login: None,
            began_us: 0,
            mode: "full".to_owned(),
            input: false,
            class: String::new(),
        };
        frame(vec![(0, 0, Event::Head(head)), (0, 0, opened())]);
        for at in 1..=pieces {
            frame(vec![(at, 0, Event::Output(vec![b'x'; 4096]))]);
        }
        let end = pieces + 1;
        let shown = |text: &[u8]| Event::Output(text.to_vec());
        frame(vec![
            (end, 1, opened()),
            (end, 0, shown(b"\r\n$ make all")),
            (end, 0, Event::Enter),
            (end, 0, shown(b"\r\n")),
        ]);
        drop(writer);
        Reader::open(&path, &keys).expect("readable")
    }

    #[test]
    fn however_much_was_shown_what_comes_later_is_found_and_has_screens_to_begin_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let reader = talkative(folder.path(), 200);
        let bounds = Bounds { screen_every_bytes: 8 << 10, screens_bytes: 16 << 10, ..Bounds::USUAL };
        let learnt = learn(&reader, true, &bounds).expect("readable");
        assert!(learnt.acts.iter().any(|act| act.text == "make all" && act.source == Source::Prompt));
        let shown: usize = learnt.acts.iter().map(|act| act.text.matches('x').count()).sum();
        assert_eq!(shown, 200 * 4096, "a line without an end is searched like others");
        let of =
            |wanted: u32| learnt.screens.iter().filter(move |(_, channel, _)| *channel == wanted).map(|(at, _, _)| *at);
        let at: Vec<u64> = of(0).collect();
        assert!((8..64).contains(&at.len()), "{at:?}");
        let widest = at.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(
            at[0] < 5 && at[at.len() - 1] > 180 && widest.is_some_and(|wide| wide <= 16),
            "as wide apart as there is room: {at:?}"
        );
        assert_eq!(of(1).count(), 1, "who comes late need not begin at the beginning");
    }

    #[test]
    fn where_reading_takes_too_long_an_act_says_from_where_on_nothing_was_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let reader = talkative(folder.path(), 2);
        let learnt = learn(&reader, true, &Bounds { time: Duration::ZERO, ..Bounds::USUAL }).expect("readable");
        let [act] = learnt.acts.as_slice() else { panic!("{:?}", learnt.acts) };
        assert_eq!((act.at.as_micros(), act.facts["not_read_from_ms"].as_str()), (1, "0"));
        assert_eq!(learnt.listed.len(), 4, "the recording is whole all the same");
    }

    #[test]
    fn a_screen_that_fits_into_no_frame_is_not_kept() {
        let mut screens = Screens::new(&Bounds::USUAL);
        let screen = |length| ScreenText {
            columns: 1_000,
            rows: 1_000,
            number: 1,
            offset: 1,
            dump: "\u{1b}".repeat(length),
            held: Vec::new(),
        };
        screens.push(0, 0, screen(SCREEN_BYTES_MAX + 1));
        assert!(screens.kept.is_empty());
        screens.push(0, 0, screen(SCREEN_BYTES_MAX));
        let raw = serde_json::to_vec(&screens.kept[0].2).expect("JSON");
        assert!(raw.len() <= crate::container::RAW_BYTES_MAX);
    }

    #[test]
    fn what_would_attack_a_reader_is_not_in_the_text() {
        let acts =
            learnt(&[(">", "$ printf \u{202e}x\x1b]0;title\x07"), ("<", ""), (">", "\r\n\x1b[31mred\x1b[0m\r\n")]);
        for (text, _, _) in &acts {
            assert!(text.chars().all(|c| c == '\n' || ravelin_model::text::is_printable(c)), "{text:?}");
        }
    }
}
