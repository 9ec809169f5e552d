//! A recording as one HTML page that plays it offline.
//!
//! The terminal runs here, not in the page: the page gets rows of coloured text with their times, and sets them as text.
//! So nothing of a recording is ever code or markup there, and the page's own policy forbids it to ask anything of
//! anywhere.

use crate::event::{Event, HeadText, OpenedText, Stamped, Utf8};
use crate::read::title;
use avt::observer::DirtyRows;
use avt::{Color, Line, Terminal};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Time between two pictures at least, in microseconds.
const PICTURE_EVERY: u64 = 40_000;

const BEFORE: &str = include_str!("page/before.html");
const AFTER: &str = include_str!("page/after.html");

/// Makes the page.
#[derive(Default)]
pub(crate) struct Page {
    glass: Option<Terminal>,
    dirty: DirtyRows,
    utf8: Utf8,
    rows: BTreeSet<usize>,
    // When the oldest change was made that is in no picture yet.
    since: Option<u64>,
    last: u64,
    begun: bool,
}

impl Page {
    pub(crate) fn event(&mut self, stamped: &Stamped, head: Option<&HeadText>, out: &mut Vec<u8>) {
        if let Some(since) = self.since
            && stamped.at.saturating_sub(since) >= PICTURE_EVERY
        {
            self.picture(out);
        }
        self.last = self.last.max(stamped.at);
        let side = |side: u32| side.clamp(1, 1_000) as usize;
        match &stamped.event {
            Event::Opened(OpenedText { size: Some((columns, rows)), .. }) => {
                self.glass = Terminal::new(side(*columns), side(*rows)).ok();
                if !self.begun {
                    self.begun = true;
                    let title = safe(&json!(title(head)));
                    out.extend_from_slice(BEFORE.as_bytes());
                    out.extend_from_slice(format!("const TITLE={title};\nconst P=[\n").as_bytes());
                }
                self.resized(side(*columns), side(*rows), stamped.at, out);
            }
            Event::Output(bytes) => {
                let text = self.utf8.text(bytes);
                if let Some(glass) = &mut self.glass {
                    self.rows.extend(glass.feed_with(text.as_str(), &mut self.dirty).iter().copied());
                    self.since.get_or_insert(stamped.at);
                }
            }
            Event::Resized { columns, rows } => {
                self.picture(out);
                if let Some(glass) = &mut self.glass {
                    glass.resize_with(*columns as usize, *rows as usize, &mut self.dirty);
                }
                self.resized(*columns as usize, *rows as usize, stamped.at, out);
            }
            _not_shown => {}
        }
    }

    fn resized(&mut self, columns: usize, rows: usize, at: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("[{},[{columns},{rows}]],\n", at / 1000).as_bytes());
        self.rows = (0..rows).collect();
        self.since = Some(at);
        self.picture(out);
    }

    fn picture(&mut self, out: &mut Vec<u8>) {
        let (Some(since), Some(glass)) = (self.since.take(), &self.glass) else { return };
        let rows = std::mem::take(&mut self.rows);
        let lines: Vec<&Line> = glass.screen().visible_lines().collect();
        let shown: Vec<Value> =
            rows.into_iter().filter_map(|row| lines.get(row).map(|line| json!([row, runs(line)]))).collect();
        let cursor = glass.cursor().position().map(|(column, row)| json!([column, row]));
        let picture = json!([since / 1000, shown, cursor]);
        out.extend_from_slice(safe(&picture).as_bytes());
        out.extend_from_slice(b",\n");
    }

    pub(crate) fn end(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.begun {
            return false;
        }
        self.picture(out);
        out.extend_from_slice(format!("];\nconst LAST={};\n", self.last / 1000).as_bytes());
        out.extend_from_slice(AFTER.as_bytes());
        true
    }
}

/// JSON that ends no script, whatever it holds.
fn safe(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A row as runs of like cells: text, foreground, background, flags.
fn runs(line: &Line) -> Value {
    let mut runs: Vec<(String, Value)> = Vec::new();
    let length = line.cells().len();
    let blank = line.cells().iter().rev().take_while(|cell| cell.char() == ' ' && cell.pen().is_default()).count();
    for cell in &line.cells()[..length - blank] {
        if cell.width() == 0 {
            continue;
        }
        let pen = cell.pen();
        let flags = u8::from(pen.is_bold())
            | u8::from(pen.is_faint()) << 1
            | u8::from(pen.is_italic()) << 2
            | u8::from(pen.is_underline()) << 3
            | u8::from(pen.is_strikethrough()) << 4
            | u8::from(pen.is_inverse()) << 5;
        let style = json!([colour(pen.foreground()), colour(pen.background()), flags]);
        match runs.last_mut() {
            Some((text, last)) if *last == style => text.push(cell.char()),
            Some(_) | None => runs.push((cell.char().to_string(), style)),
        }
    }
    let plain = json!([null, null, 0]);
    runs.into_iter()
        .map(|(text, style)| if style == plain { json!(text) } else { json!([text, style[0], style[1], style[2]]) })
        .collect()
}

fn colour(colour: Option<Color>) -> Value {
    match colour {
        None => Value::Null,
        Some(Color::Indexed(index)) => json!(index),
        Some(Color::RGB(rgb)) => json!(format!("#{:02x}{:02x}{:02x}", rgb.r, rgb.g, rgb.b)),
    }
}
