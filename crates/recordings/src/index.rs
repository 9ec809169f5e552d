//! What is learnt from a recording once it is over: the commands, the text of the screens, and screens to begin at.
//!
//! The recording is played to a terminal without a glass. Commands come from marks where the shell sets them
//! (<https://gitlab.freedesktop.org/Per_Bothner/specifications/blob/master/proposals/semantic-prompts.md>), and from
//! what stands behind a prompt where it does not; those are marked as such. At every [`SCREEN_EVERY_BYTES`] of output
//! the screen is kept, so that playing can begin there without everything before it.
//!
//! Reading is bounded by [`OUTPUT_BYTES_MAX`]: what comes later is played like the rest, but not searched, and found
//! from the last screen on.

use crate::container::{FrameKind, Listed, Place, ReadFault, Reader};
use crate::event::{Event, HeadText, OpenedText, Stamped, Utf8, decode};
use avt::observer::{ShellEvent, ShellTracker, Transcript};
use avt::{ScreenKind, Terminal};
use ravelin_model::recording::{Act, ActKind, Source};
use ravelin_model::text::printable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Output after which a screen is kept.
pub(crate) const SCREEN_EVERY_BYTES: u64 = 1 << 20;
/// Output of one recording that is read for what it says.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// Text of a screen that one act holds, in characters.
const SCREEN_CHARS: usize = 2_000;
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
pub(crate) fn learn(reader: &Reader, screens: bool) -> Result<Learnt, ReadFault> {
    let mut place = reader.first();
    let mut players: BTreeMap<u32, Player> = BTreeMap::new();
    let mut learnt: Option<Learnt> = None;
    let mut output = 0;
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
            if let Event::Output(bytes) = &stamped.event {
                output += bytes.len() as u64;
                if output > OUTPUT_BYTES_MAX {
                    continue;
                }
            }
            let player = players.entry(stamped.channel).or_default();
            player.handle(stamped, screens, &mut learnt.acts);
        }
        let Some(learnt) = learnt.as_mut() else { return Err(ReadFault::Damaged("it does not say what it is of")) };
        learnt.listed.push(listed);
        learnt.end = place;
        if output <= OUTPUT_BYTES_MAX {
            let at = learnt.latest;
            for (channel, player) in &mut players {
                if let Some(screen) = player.screen(place) {
                    learnt.screens.push((at, *channel, screen));
                }
            }
        }
    }
    let Some(mut learnt) = learnt else { return Err(ReadFault::Damaged("it is empty")) };
    learnt.fault = fault;
    let latest = learnt.latest;
    for player in players.into_values() {
        player.finish(latest, screens, &mut learnt.acts);
    }
    learnt.acts.sort_by_key(|act| act.at);
    learnt.acts.truncate(Act::PER_SESSION_MAX);
    Ok(learnt)
}

/// One channel.
#[derive(Default)]
struct Player {
    opened: Option<OpenedText>,
    glass: Option<Glass>,
    exit: Option<String>,
    opened_at: u64,
    closed: bool,
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
    since_screen: u64,
}

impl Glass {
    fn new(columns: u32, rows: u32) -> Option<Self> {
        Some(Self {
            terminal: Terminal::new(columns as usize, rows as usize).ok()?,
            transcript: Transcript::new(),
            tracker: ShellTracker::new(),
            utf8: Utf8::default(),
            lines: Vec::new(),
            lines_chars: 0,
            lines_at: 0,
            marked: false,
            entered: 0,
            others: 0,
            running: HashMap::new(),
            since_screen: 0,
        })
    }

    fn output(&mut self, at: u64, bytes: &[u8], acts: &mut Vec<Act>) {
        self.since_screen += bytes.len() as u64;
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

    fn feed(&mut self, at: u64, text: &str, acts: &mut Vec<Act>) {
        let (lines, events) = self.terminal.feed_with(text, (&mut self.transcript, &mut self.tracker));
        for event in events {
            match event {
                ShellEvent::CommandSubmitted(command) => {
                    self.marked = true;
                    if let Some(text) = command.text.filter(|text| !text.trim().is_empty()) {
                        self.running.insert(command.id.0, acts.len());
                        acts.push(command_act(at, Source::Marks, text.trim()));
                    }
                }
                ShellEvent::CommandFinished { id, exit_status } => {
                    if let Some(act) = self.running.remove(&id.0).and_then(|place| acts.get_mut(place))
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
    fn screen_acts(&mut self, last: bool, keep: bool, acts: &mut Vec<Act>) {
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
    fn handle(&mut self, stamped: Stamped, screens: bool, acts: &mut Vec<Act>) {
        let at = stamped.at;
        match stamped.event {
            Event::Opened(opened) => {
                self.opened_at = at;
                if let Some((columns, rows)) = opened.size {
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
            Event::Closed(_) => self.end(at, screens, acts),
            Event::Act(act) => acts.extend(act.into_act(Duration::from_micros(at))),
            Event::Head(_) | Event::Input(_) => {}
        }
    }

    fn screen(&mut self, next: Place) -> Option<ScreenText> {
        let glass = self.glass.as_mut().filter(|glass| glass.since_screen >= SCREEN_EVERY_BYTES)?;
        glass.since_screen = 0;
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

    /// The channel is over.
    fn end(&mut self, at: u64, screens: bool, acts: &mut Vec<Act>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if let Some(mut glass) = self.glass.take() {
            let rest = std::mem::take(&mut glass.transcript).finish(&glass.terminal);
            glass.add_lines(at, rest);
            glass.screen_acts(true, screens, acts);
        }
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

    fn finish(mut self, at: u64, screens: bool, acts: &mut Vec<Act>) {
        self.end(at, screens, acts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(pieces: &[(&str, &str)]) -> Vec<(String, &'static str, Option<String>)> {
        let mut player = Player::default();
        let mut acts = Vec::new();
        let opened = OpenedText {
            purpose: "shell".to_owned(),
            text: String::new(),
            term: None,
            size: Some((40, 5)),
            output: false,
        };
        let mut at = 0;
        let mut give = |event, acts: &mut Vec<Act>| {
            at += 1;
            player.handle(Stamped { at, channel: 0, event }, true, acts);
        };
        give(Event::Opened(opened), &mut acts);
        for (way, text) in pieces {
            if *way == "<" {
                give(Event::Enter, &mut acts);
            } else {
                give(Event::Output(text.as_bytes().to_vec()), &mut acts);
            }
        }
        player.finish(99, true, &mut acts);
        acts.into_iter().map(|act| (act.text, act.source.word(), act.facts.get("exit_status").cloned())).collect()
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

    #[test]
    fn what_would_attack_a_reader_is_not_in_the_text() {
        let acts =
            learnt(&[(">", "$ printf \u{202e}x\x1b]0;title\x07"), ("<", ""), (">", "\r\n\x1b[31mred\x1b[0m\r\n")]);
        for (text, _, _) in &acts {
            assert!(text.chars().all(|c| c == '\n' || ravelin_model::text::is_printable(c)), "{text:?}");
        }
    }
}
