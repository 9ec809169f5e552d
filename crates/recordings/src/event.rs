//! What a frame of events holds: one record after the other, each with the time since the one before.
//!
//! ```text
//! record   dt:varint µs  code:u8  channel:varint  length:varint  bytes
//! ```
//!
//! The codes `o`, `i` and `r` are asciicast's; bytes are kept as they passed, not as text.
//! <https://docs.asciinema.org/manual/asciicast/v2/>

use ravelin_model::recording::{Act, ActKind, Head, Mode, Purpose, Rule, Source, Terminal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// What the recording is of; the first of all.
    Head(HeadText),
    /// A channel was opened.
    Opened(OpenedText),
    /// A terminal was sent this.
    Output(Vec<u8>),
    /// This was typed, and echoed.
    Input(Vec<u8>),
    /// The key that ends a line was pressed. What was typed is not in it.
    Enter,
    /// The terminal has another size.
    Resized { columns: u32, rows: u32 },
    /// The program ended.
    Exited(String),
    /// A channel was closed.
    Closed(ClosedText),
    /// Something was done.
    Act(ActText),
}

/// [`Head`] as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadText {
    pub(crate) session: String,
    pub(crate) principal: String,
    pub(crate) target: String,
    pub(crate) login: Option<String>,
    pub(crate) began_us: i64,
    pub(crate) mode: String,
    pub(crate) input: bool,
    pub(crate) class: String,
}

impl HeadText {
    pub(crate) fn of(head: &Head) -> Self {
        Self {
            session: head.session.to_string(),
            principal: head.principal.to_string(),
            target: head.target.to_string(),
            login: head.login.as_ref().map(ToString::to_string),
            began_us: head.began.as_micros(),
            mode: head.rule.mode.word().to_owned(),
            input: head.rule.input,
            class: head.rule.class.clone(),
        }
    }

    pub(crate) fn into_head(self) -> Option<Head> {
        let mode = Mode::from_word(&self.mode)?;
        Some(Head {
            session: ravelin_model::SessionId::parse(&self.session).ok()?,
            principal: ravelin_model::PrincipalName::parse(&self.principal).ok()?,
            target: ravelin_model::TargetName::parse(&self.target).ok()?,
            login: match &self.login {
                None => None,
                Some(login) => Some(ravelin_model::Login::parse(login).ok()?),
            },
            began: ravelin_model::Time::from_micros(self.began_us),
            rule: Rule { mode, input: self.input, class: self.class, ..Rule::default() },
        })
    }
}

/// Whether a channel without a terminal has its output kept.
pub(crate) fn is_plain(purpose: &Purpose, rule: &Rule) -> bool {
    let runs = matches!(purpose, Purpose::Shell { terminal: None } | Purpose::Exec { terminal: None, .. });
    runs && rule.output && rule.mode == Mode::Full
}

/// The opening of a channel as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenedText {
    /// `shell`, `exec`, `files`, `forward`, `inward`.
    pub(crate) purpose: String,
    /// The command, or the destination.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) term: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<(u32, u32)>,
    /// Whether its output is kept although it has no terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) output: bool,
}

impl OpenedText {
    pub(crate) fn of(purpose: &Purpose, rule: &Rule) -> Self {
        let (word, text) = match purpose {
            Purpose::Shell { .. } => ("shell", ""),
            Purpose::Exec { command, .. } => ("exec", command.as_str()),
            Purpose::Files => ("files", ""),
            Purpose::Forward { inward: false, to } => ("forward", to.as_str()),
            Purpose::Forward { inward: true, to } => ("inward", to.as_str()),
        };
        let terminal: Option<&Terminal> = purpose.terminal();
        Self {
            purpose: word.to_owned(),
            text: text.chars().take(Act::TEXT_CHARS_MAX).collect(),
            term: terminal.map(|terminal| terminal.name.clone()),
            size: terminal.map(|terminal| (terminal.columns, terminal.rows)),
            output: is_plain(purpose, rule),
        }
    }
}

/// The close of a channel as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosedText {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// [`Act`] as it is written; its time is the record's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActText {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) text: String,
    pub(crate) facts: BTreeMap<String, String>,
}

impl ActText {
    pub(crate) fn of(act: &Act) -> Self {
        Self {
            kind: act.kind.word().to_owned(),
            source: act.source.word().to_owned(),
            text: act.text.clone(),
            facts: act.facts.clone(),
        }
    }

    pub(crate) fn into_act(self, at: Duration) -> Option<Act> {
        let (kind, source) = (ActKind::from_word(&self.kind)?, Source::from_word(&self.source)?);
        Some(Act { at, kind, source, text: self.text, facts: self.facts })
    }
}

/// An event with its time, in microseconds since the recording began, and its channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) at: u64,
    pub(crate) channel: u32,
    pub(crate) event: Event,
}

/// Puts events into the raw bytes of a frame.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    raw: Vec<u8>,
    first: Option<u64>,
    last: u64,
}

impl Encoder {
    /// Adds an event. One with a time before its predecessor's counts as later.
    pub(crate) fn push(&mut self, at: u64, channel: u32, event: &Event) {
        let text;
        let (code, bytes): (u8, &[u8]) = match event {
            Event::Head(head) => {
                text = json(head);
                (b'H', &text)
            }
            Event::Opened(opened) => {
                text = json(opened);
                (b'O', &text)
            }
            Event::Output(bytes) => (b'o', bytes),
            Event::Input(bytes) => (b'i', bytes),
            Event::Enter => (b'n', &[]),
            Event::Resized { columns, rows } => {
                text = format!("{columns}x{rows}").into_bytes();
                (b'r', &text)
            }
            Event::Exited(status) => (b'x', status.as_bytes()),
            Event::Closed(closed) => {
                text = json(closed);
                (b'C', &text)
            }
            Event::Act(act) => {
                text = json(act);
                (b'a', &text)
            }
        };
        self.record(at, channel, code, bytes);
    }

    /// Adds an [`Event::Output`] of these bytes.
    pub(crate) fn output(&mut self, at: u64, channel: u32, bytes: &[u8]) {
        self.record(at, channel, b'o', bytes);
    }

    fn record(&mut self, at: u64, channel: u32, code: u8, bytes: &[u8]) {
        let at = at.max(self.last);
        let first = *self.first.get_or_insert(at);
        let since = if self.raw.is_empty() { at - first } else { at - self.last };
        self.last = at;
        varint(&mut self.raw, since);
        self.raw.push(code);
        varint(&mut self.raw, u64::from(channel));
        varint(&mut self.raw, bytes.len() as u64);
        self.raw.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The frame's time and raw bytes, if there is anything.
    pub(crate) fn frame(&self) -> Option<(u64, &[u8])> {
        Some((self.first?, &self.raw))
    }

    /// Begins a new frame, in the room of the last one.
    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.raw.clear();
    }

    /// Gives back the room that the next frame does not fill at once.
    pub(crate) fn shrink(&mut self) {
        self.raw.shrink_to_fit();
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of texts and numbers are JSON")
}

fn varint(raw: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        raw.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    raw.push(number as u8);
}

/// A frame that does not hold events as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

/// Takes the events of a frame apart; `at` is the frame's time. Records of a code that is not known are passed over.
pub(crate) fn decode(at: u64, raw: &[u8]) -> Result<Vec<Stamped>, Garbled> {
    let mut rest = raw;
    let mut at = at;
    let mut events = Vec::new();
    while !rest.is_empty() {
        at = at.checked_add(read_varint(&mut rest)?).ok_or(Garbled)?;
        let (code, more) = rest.split_first().ok_or(Garbled)?;
        rest = more;
        let channel = u32::try_from(read_varint(&mut rest)?).map_err(|_| Garbled)?;
        let length = usize::try_from(read_varint(&mut rest)?).map_err(|_| Garbled)?;
        let (bytes, more) = rest.split_at_checked(length).ok_or(Garbled)?;
        rest = more;
        let event = match code {
            b'H' => Event::Head(serde_json::from_slice(bytes).map_err(|_| Garbled)?),
            b'O' => Event::Opened(serde_json::from_slice(bytes).map_err(|_| Garbled)?),
            b'o' => Event::Output(bytes.to_vec()),
            b'i' => Event::Input(bytes.to_vec()),
            b'n' => Event::Enter,
            b'r' => {
                let text = std::str::from_utf8(bytes).map_err(|_| Garbled)?;
                let (columns, rows) = text.split_once('x').ok_or(Garbled)?;
                let side = |text: &str| text.parse::<u32>().map(|side| side.clamp(1, 1_000)).map_err(|_| Garbled);
                Event::Resized { columns: side(columns)?, rows: side(rows)? }
            }
            b'x' => Event::Exited(String::from_utf8_lossy(bytes).into_owned()),
            b'C' => Event::Closed(serde_json::from_slice(bytes).map_err(|_| Garbled)?),
            b'a' => Event::Act(serde_json::from_slice(bytes).map_err(|_| Garbled)?),
            _ => continue,
        };
        events.push(Stamped { at, channel, event });
    }
    Ok(events)
}

fn read_varint(rest: &mut &[u8]) -> Result<u64, Garbled> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first().ok_or(Garbled)?;
        *rest = more;
        number |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(Garbled)?;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Garbled)
}

/// Text from bytes that come in pieces: what is cut within a character waits for the rest of it.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    held: Vec<u8>,
}

impl Utf8 {
    /// Goes on where another was.
    pub(crate) fn after(held: Vec<u8>) -> Self {
        Self { held }
    }

    /// The beginning of a character that waits for its rest.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// The text so far; what can be no text is `U+FFFD`, as a terminal shows it.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(good) => {
                    text.push_str(good);
                    return text;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(good).unwrap_or_default());
                    match error.error_len() {
                        Some(length) => {
                            text.push('\u{fffd}');
                            rest = &bad[length..];
                        }
                        None => {
                            self.held = bad.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = Vec<(u64, u32, Event)>> {
        let event = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50).prop_map(Event::Output),
            proptest::collection::vec(any::<u8>(), 0..50).prop_map(Event::Input),
            (1..=1_000_u32, 1..=1_000_u32).prop_map(|(columns, rows)| Event::Resized { columns, rows }),
            Just(Event::Enter),
            "[a-z ]{0,20}".prop_map(Event::Exited),
            (any::<u64>(), any::<u64>())
                .prop_map(|(bytes_in, bytes_out)| Event::Closed(ClosedText { bytes_in, bytes_out })),
        ];
        proptest::collection::vec((0..1_u64 << 40, 0..9_u32, event), 0..20)
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_went(mut events in events()) {
            events.sort_by_key(|(at, _, _)| *at);
            let mut encoder = Encoder::default();
            for (at, channel, event) in &events {
                encoder.push(*at, *channel, event);
            }
            let read = encoder.frame().map(|(at, raw)| decode(at, raw).expect("readable")).unwrap_or_default();
            let read: Vec<_> = read.into_iter().map(|s| (s.at, s.channel, s.event)).collect();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn nothing_makes_the_decoder_fall(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = decode(0, &raw);
        }

        #[test]
        fn text_is_the_same_however_it_is_cut(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0..60_usize) {
            let cut = cut.min(bytes.len());
            let mut pieces = Utf8::default();
            let mut text = pieces.text(&bytes[..cut]);
            text.push_str(&pieces.text(&bytes[cut..]));
            prop_assert_eq!(text, Utf8::default().text(&bytes));
        }
    }
}
