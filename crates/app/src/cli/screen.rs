//! How an answer is shown: as a table for people, as JSON, YAML or tab-separated text for scripts.

use super::failure::Failure;
use super::span;
use super::table::{Cell, View};
use super::{Shown, plain};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns that fit the terminal
    Table,
    /// JSON, as the API has it
    Json,
    /// YAML, with the same members as JSON
    Yaml,
    /// Tab-separated values without a head, one line each
    Text,
}

/// Cells of the terminal on which questions are asked.
pub(crate) fn questions_width() -> Option<usize> {
    cells(terminal_size::terminal_size_of(std::io::stderr()))
}

fn cells(size: Option<(terminal_size::Width, terminal_size::Height)>) -> Option<usize> {
    size.map(|(terminal_size::Width(cells), _)| usize::from(cells))
}

/// Where answers go.
pub(crate) struct Screen {
    pub(crate) format: Format,
    pub(crate) utc: bool,
    pub(crate) now: Timestamp,
    query: Option<jmespath::Expression<'static>>,
    colour: bool,
    /// Cells of the terminal; `None` when it is none.
    width: Option<usize>,
}

impl Screen {
    pub(crate) fn new(wanted: &Shown) -> Result<Self, Failure> {
        let query = match &wanted.query {
            None => None,
            Some(text) => Some(jmespath::compile(text).map_err(|error| {
                Failure::usage(format!("--query {text:?} is no JMESPath expression: {}", error.reason))
                    .hint("see https://jmespath.org; in most shells it wants single quotes around it")
            })?),
        };
        let format = wanted.output.unwrap_or(if query.is_some() { Format::Json } else { Format::Table });
        let terminal = std::io::stdout().is_terminal();
        let unwanted = wanted.no_color
            || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let width = cells(terminal_size::terminal_size());
        Ok(Screen {
            format,
            utc: wanted.utc,
            now: Timestamp::now(),
            query,
            colour: terminal && !unwanted,
            width: width.filter(|_| terminal),
        })
    }

    /// Shows an answer. `view` is asked only when the answer is shown in columns.
    pub(crate) fn show<T: Serialize>(&self, answer: &T, view: impl FnOnce() -> View) -> Result<(), Failure> {
        print(&self.render(answer, view)?)
    }

    /// Shows one of many answers that come one by one: JSON on one line, YAML as one document.
    pub(crate) fn show_one<T: Serialize>(&self, answer: &T, line: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match (self.format, self.picked(answer)?) {
            (Format::Json, None) => one_line(answer)?,
            (Format::Json, Some(picked)) => one_line(&picked)?,
            (Format::Yaml, None) => format!("---\n{}", yaml(answer)?),
            (Format::Yaml, Some(picked)) => format!("---\n{}", yaml(&picked)?),
            (Format::Table | Format::Text, None) => line(),
            (Format::Table | Format::Text, Some(picked)) => tabbed(&picked),
        };
        print(&text)
    }

    fn render<T: Serialize>(&self, answer: &T, view: impl FnOnce() -> View) -> Result<String, Failure> {
        match (self.format, self.picked(answer)?) {
            (Format::Json, None) => pretty(answer),
            (Format::Json, Some(picked)) => pretty(&picked),
            (Format::Yaml, None) => yaml(answer),
            (Format::Yaml, Some(picked)) => yaml(&picked),
            (Format::Text, None) => Ok(view().text()),
            (Format::Table, None) => Ok(view().table(self.width, self.colour)),
            (Format::Text | Format::Table, Some(picked)) => Ok(tabbed(&picked)),
        }
    }

    fn picked<T: Serialize>(&self, answer: &T) -> Result<Option<Value>, Failure> {
        let Some(query) = &self.query else { return Ok(None) };
        let found = query.search(answer).map_err(|error| {
            Failure::usage(format!("--query {:?} cannot be applied: {}", query.as_str(), error.reason))
        })?;
        serde_json::to_value(&*found)
            .map(Some)
            .map_err(|error| Failure::other(format!("cannot show the answer: {error}")))
    }

    /// A time of the wire as people read it.
    pub(crate) fn time(&self, text: &str) -> Cell {
        match span::wire(text) {
            None => Cell::new(text),
            Some(at) if self.utc => Cell::shown_as(text, span::absolute(at, true)),
            Some(at) => Cell::shown_as(text, span::relative(at, self.now)),
        }
    }

    /// A time of the wire as a date and time of day, with how long ago that was.
    pub(crate) fn full_time(&self, text: &str) -> Cell {
        match span::wire(text) {
            None => Cell::new(text),
            Some(at) if self.utc => Cell::shown_as(text, span::exact(at, true)),
            Some(at) => {
                Cell::shown_as(text, format!("{} ({})", span::absolute(at, false), span::relative(at, self.now)))
            }
        }
    }

    /// A time of the wire to the millisecond.
    pub(crate) fn exact_time(&self, text: &str) -> Cell {
        match span::wire(text) {
            None => Cell::new(text),
            Some(at) => Cell::shown_as(text, span::exact(at, self.utc)),
        }
    }
}

/// Says something beside the answer, on standard error.
pub(crate) fn note(text: &str) {
    eprintln!("{}", plain::line(text));
}

/// Writes to standard output. A reader who has seen enough is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::other(format!("cannot write to standard output: {error}"))),
    }
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => Ok(plain::json(&text) + "\n"),
        Err(error) => Err(Failure::other(format!("cannot show the answer as JSON: {error}"))),
    }
}

fn one_line(value: &impl Serialize) -> Result<String, Failure> {
    match serde_json::to_string(value) {
        Ok(text) => Ok(plain::json(&text) + "\n"),
        Err(error) => Err(Failure::other(format!("cannot show the answer as JSON: {error}"))),
    }
}

fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    match serde_saphyr::to_string(value) {
        Ok(text) if text.ends_with('\n') => Ok(text),
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Failure::other(format!("cannot show the answer as YAML: {error}"))),
    }
}

/// What a query picked, for scripts: a list is one line per item, what is in an item is separated by tabs, null is
/// empty.
fn tabbed(value: &Value) -> String {
    let line = |item: &Value| match item {
        Value::Array(parts) => parts.iter().map(scalar).collect::<Vec<_>>().join("\t"),
        Value::Object(members) => members.values().map(scalar).collect::<Vec<_>>().join("\t"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalar(item),
    };
    match value {
        Value::Array(items) => items.iter().map(|item| line(item) + "\n").collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => line(value) + "\n",
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain::line(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => plain::json(&value.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::table::Column;
    use super::*;
    use serde_json::json;

    pub(crate) fn screen(format: Format, query: Option<&str>) -> Screen {
        Screen {
            format,
            utc: true,
            now: "2026-11-21T22:28:54Z".parse().expect("a time"),
            query: query.map(|text| jmespath::compile(text).expect("an expression")),
            colour: false,
            width: Some(80),
        }
    }

    fn rendered(format: Format, query: Option<&str>) -> String {
        let answer = json!([{ "id": "a", "n": 1, "x": null }, { "id": "b\u{9b}", "n": 2, "x": [1] }]);
        let view = || View { columns: vec![Column::whole("ID")], rows: vec![vec![Cell::new("a")]], empty: "" };
        screen(format, query).render(&answer, view).expect("it can be shown")
    }

    #[test]
    fn each_format_shows_the_answer_or_what_was_picked() {
        assert_eq!(rendered(Format::Table, None), "ID\na\n");
        assert_eq!(rendered(Format::Text, None), "a\n");
        assert_eq!(rendered(Format::Text, Some("[].id")), "a\nb\\u{9b}\n");
        assert_eq!(rendered(Format::Text, Some("[].[id, n, x]")), "a\t1\t\nb\\u{9b}\t2\t[1]\n");
        assert_eq!(rendered(Format::Text, Some("length(@)")), "2\n");
        assert_eq!(rendered(Format::Json, Some("[1].id")), "\"b\\u009b\"\n");
        assert_eq!(rendered(Format::Yaml, Some("[0].n")), "1\n");
        assert!(rendered(Format::Json, None).contains("\"b\\u009b\""));
    }

    #[test]
    fn yaml_carries_no_control_characters() {
        let text = yaml(&json!({ "a": "x\u{1b}[2J\u{9b}\u{7f}y\u{202e}", "b": "line\nline" })).expect("YAML");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn times_are_relative_unless_utc_is_asked_for() {
        let mut screen = screen(Format::Table, None);
        let text = "2026-11-21T22:25:54.000001Z";
        assert_eq!(screen.time(text).shown, "2026-11-21 22:25:54Z");
        screen.utc = false;
        assert_eq!(screen.time(text), Cell::shown_as(text, "3m ago"));
        assert_eq!(screen.time("a later format").shown, "a later format");
    }
}
