//! Reads a TOML file without stopping at the first fault: every value that is asked for either is there, is absent, or
//! was wrong and has been reported with its line.
//!
//! A deserializer would stop at the first wrong value, and an operator would mend one line per run. So the tables are
//! walked by hand; what was never asked for is an unknown key. This module knows no key by name.

use super::fault::{Fault, Faults, Place, Weight};
use super::units;
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's text and where it came from.
#[derive(Debug)]
pub(super) struct Document {
    name: Arc<str>,
    folder: PathBuf,
    text: String,
}

impl Document {
    /// `path` is the file as the operator named it.
    pub(super) fn new(path: &Path, text: String) -> Self {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self { name: Arc::from(path.display().to_string()), folder, text }
    }

    /// Reads the tables and hands over the outermost; what that leaves unasked is reported as unknown. `None` when it is
    /// no TOML: of what could be guessed from the rest, only how it is not written is worth telling.
    pub(super) fn read<T>(&self, faults: &mut Faults, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        let legible = errors.is_empty();
        for error in errors {
            let line = error.span().map_or(0, |span| self.line(span.start));
            faults.push(Fault {
                weight: Weight::Error,
                place: self.place(line),
                key: String::new(),
                value: None,
                what: error.message().trim().replace('\n', ", "),
                fix: "see https://toml.io for how TOML is written".to_owned(),
            });
        }
        if !legible {
            return None;
        }
        let collected = RefCell::new(Faults::default());
        let mut section = Section {
            document: self,
            faults: &collected,
            path: String::new(),
            line: 0,
            table: Some(root.get_ref()),
            known: Vec::new(),
        };
        let result = read(&mut section);
        section.finish();
        for fault in collected.into_inner().into_sorted() {
            faults.push(fault);
        }
        Some(result)
    }

    fn place(&self, line: usize) -> Place {
        Place { file: Arc::clone(&self.name), line }
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Something that an operator wrote, with all that a message about it needs.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    /// What it means.
    pub(super) value: T,
    /// Where it stands.
    pub(super) place: Place,
    /// The key with its tables.
    pub(super) key: String,
    /// As it was written.
    pub(super) shown: String,
    /// The folder of the file it stands in; relative paths start there.
    pub(super) folder: PathBuf,
}

impl<T> Written<T> {
    /// A fault of this value.
    pub(super) fn fault(&self, what: impl fmt::Display, fix: impl fmt::Display) -> Fault {
        Fault {
            weight: Weight::Error,
            place: self.place.clone(),
            key: self.key.clone(),
            value: Some(self.shown.clone()),
            what: what.to_string(),
            fix: fix.to_string(),
        }
    }
}

impl Written<String> {
    /// The path that it names.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.value)
    }
}

/// What became of a key that was asked for.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    /// It is not in the file.
    Absent,
    /// It is there, is wrong, and has been reported.
    Wrong,
    /// It is there.
    Given(Written<T>),
}

impl<T> Field<T> {
    /// What was written, if something usable was.
    pub(super) fn given(&self) -> Option<&Written<T>> {
        match self {
            Field::Given(written) => Some(written),
            Field::Absent | Field::Wrong => None,
        }
    }

    /// The value or, when there is none, `default`. After a fault it does not matter which: nothing runs on it.
    pub(super) fn value_or(&self, default: T) -> T
    where
        T: Clone,
    {
        self.given().map_or(default, |written| written.value.clone())
    }
}

/// One table while it is being read.
pub(super) struct Section<'a> {
    document: &'a Document,
    faults: &'a RefCell<Faults>,
    path: String,
    line: usize,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Where the table begins and what it is called.
    pub(super) fn here(&self) -> Written<()> {
        Written {
            value: (),
            place: self.document.place(self.line),
            key: self.path.clone(),
            shown: String::new(),
            folder: self.document.folder.clone(),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Field<String> {
        self.parsed(key, "a text in quotes", |value| value.as_str().map(|text| Ok(text.to_owned())))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Field<bool> {
        self.parsed(key, "true or false", |value| value.as_bool().map(Ok))
    }

    /// A whole number between `min` and `max`.
    pub(super) fn number(&mut self, key: &'static str, min: u64, max: u64) -> Field<u64> {
        self.parsed(key, "a whole number", |value| {
            let digits = value.as_integer()?;
            let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
            Some(match number.filter(|number| (min..=max).contains(number)) {
                Some(number) => Ok(number),
                None => Err(format!("is out of range; write a number from {min} to {max}")),
            })
        })
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, key: &'static str) -> Field<Duration> {
        let wanted = "a duration in quotes, such as \"10 min\"";
        self.parsed(key, wanted, |value| match value {
            DeValue::String(text) => Some(units::duration(text)),
            DeValue::Integer(number) => Some(units::duration(number.as_str())),
            _ => None,
        })
    }

    /// A duration with its unit, or `"never"`, which is `None`.
    pub(super) fn duration_or_never(&mut self, key: &'static str) -> Field<Option<Duration>> {
        let wanted = "a duration in quotes, such as \"10 min\", or \"never\"";
        self.parsed(key, wanted, |value| match value {
            DeValue::String(text) if text.trim() == "never" => Some(Ok(None)),
            DeValue::String(text) => Some(units::duration(text).map(Some)),
            DeValue::Integer(number) => Some(units::duration(number.as_str()).map(Some)),
            _ => None,
        })
    }

    /// A size with its unit, in bytes.
    pub(super) fn size(&mut self, key: &'static str) -> Field<u64> {
        self.parsed(key, "a size in quotes, such as \"256 KiB\"", |value| match value {
            DeValue::String(text) => Some(units::size(text)),
            DeValue::Integer(number) => Some(units::size(number.as_str())),
            _ => None,
        })
    }

    /// An address and port to listen on.
    pub(super) fn address(&mut self, key: &'static str, example: &str) -> Field<SocketAddr> {
        let wanted = format!("an address and port in quotes, such as \"{example}\"");
        self.parsed(key, &wanted, |value| {
            let text = value.as_str()?;
            Some(text.parse().map_err(|_| format!("is not an IP address and a port; write \"{example}\"")))
        })
    }

    /// A list of texts. Those that are none are reported and left out; the others are still looked at.
    pub(super) fn texts(&mut self, key: &'static str) -> Field<Vec<Written<String>>> {
        let (value, path) = match self.find(key) {
            Some(found) => found,
            None => return Field::Absent,
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, &path, "a list of texts, such as [\"a\", \"b\"]");
            return Field::Wrong;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(self.written(text.to_owned(), item, &path)),
                None => self.wrong_type(item, &path, "a text in quotes"),
            }
        }
        if texts.is_empty() && !items.is_empty() {
            Field::Wrong
        } else {
            Field::Given(self.written(texts, value, &path))
        }
    }

    /// A list of whole numbers from `min` to `max`. Those that are none are reported and left out.
    pub(super) fn numbers(&mut self, key: &'static str, min: u64, max: u64) -> Field<Vec<u64>> {
        let (value, path) = match self.find(key) {
            Some(found) => found,
            None => return Field::Absent,
        };
        let number = |item: &DeValue<'_>| {
            let digits = item.as_integer()?;
            u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| (min..=max).contains(number))
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, &path, "a list of whole numbers, such as [22, 3389]");
            return Field::Wrong;
        };
        let mut numbers = Vec::new();
        for item in items.iter() {
            match number(item.get_ref()) {
                Some(number) => numbers.push(number),
                None => self.wrong_type(item, &path, &format!("a whole number from {min} to {max}")),
            }
        }
        if numbers.len() < items.len() { Field::Wrong } else { Field::Given(self.written(numbers, value, &path)) }
    }

    /// A table of texts under names that the operator chooses. Those that are none are reported and left out.
    pub(super) fn text_map(&mut self, key: &'static str) -> Field<Vec<(String, Written<String>)>> {
        let (value, path) = match self.find(key) {
            Some(found) => found,
            None => return Field::Absent,
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(value, &path, "a table of texts, such as { env = \"prod\" }");
            return Field::Wrong;
        };
        let mut entries = Vec::new();
        for (name, item) in table.iter() {
            let item_path = format!("{path}.{}", name.get_ref());
            match item.get_ref().as_str() {
                Some(text) => {
                    entries.push((name.get_ref().to_string(), self.written(text.to_owned(), item, &item_path)));
                }
                None => self.wrong_type(item, &item_path, "a text in quotes"),
            }
        }
        Field::Given(self.written(entries, value, &path))
    }

    /// The table under `key`; an absent one reads like an empty one.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let found = self.find(key);
        let (table, line, path) = match found {
            None => (None, self.line, self.path_of(key)),
            Some((value, path)) => {
                let table = value.get_ref().as_table();
                if table.is_none() {
                    self.wrong_type(value, &path, &format!("a table, such as [{path}]"));
                }
                (table, self.document.line(value.span().start), path)
            }
        };
        let mut section =
            Section { document: self.document, faults: self.faults, path, line, table, known: Vec::new() };
        let result = read(&mut section);
        section.finish();
        result
    }

    /// Every table of the list under `key`.
    pub(super) fn sections<T>(&mut self, key: &'static str, read: impl Fn(&mut Section<'_>) -> T) -> Vec<T> {
        let Some((value, path)) = self.find(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, &path, &format!("a list of tables, each under [[{path}]]"));
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in items.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.wrong_type(item, &path, "a table");
                continue;
            };
            let mut section = Section {
                document: self.document,
                faults: self.faults,
                path: path.clone(),
                line: self.document.line(item.span().start),
                table: Some(table),
                known: Vec::new(),
            };
            all.push(read(&mut section));
            section.finish();
        }
        all
    }

    /// Reports a key that must be there and is not.
    pub(super) fn require<T>(&mut self, key: &'static str, field: Field<T>, fix: &str) -> Field<T> {
        if let (Field::Absent, Some(_)) = (&field, self.table) {
            self.faults.borrow_mut().push(Fault {
                weight: Weight::Error,
                place: self.document.place(self.line),
                key: self.path_of(key),
                value: None,
                what: "is missing".to_owned(),
                fix: fix.to_owned(),
            });
            return Field::Wrong;
        }
        field
    }

    fn parsed<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Option<Result<T, String>>,
    ) -> Field<T> {
        let Some((value, path)) = self.find(key) else { return Field::Absent };
        match parse(value.get_ref()) {
            None => {
                self.wrong_type(value, &path, wanted);
                Field::Wrong
            }
            Some(Ok(parsed)) => Field::Given(self.written(parsed, value, &path)),
            Some(Err(because)) => {
                let written = self.written((), value, &path);
                let (what, fix) = because.split_once("; ").unwrap_or((because.as_str(), ""));
                self.faults.borrow_mut().push(written.fault(what, fix));
                Field::Wrong
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(&'a Spanned<DeValue<'a>>, String)> {
        self.known.push(key);
        let value = self.table?.get(key)?;
        Some((value, self.path_of(key)))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn written<T>(&self, value: T, source: &Spanned<DeValue<'_>>, path: &str) -> Written<T> {
        let span = source.span();
        let text = self.document.text.get(span.clone()).unwrap_or_default();
        Written {
            value,
            place: self.document.place(self.document.line(span.start)),
            key: path.to_owned(),
            shown: Fault::shown(text),
            folder: self.document.folder.clone(),
        }
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'_>>, path: &str, wanted: &str) {
        let is = value.get_ref().type_str();
        let article = if is.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        let written = self.written((), value, path);
        self.faults.borrow_mut().push(written.fault(format!("is {article} {is}"), format!("write {wanted}")));
    }

    /// Reports every key that nobody asked for. Their values are not shown: a secret in the wrong place stays one.
    fn finish(&self) {
        let Some(table) = self.table else { return };
        for (name, _) in table.iter() {
            let name_text = name.get_ref().as_ref();
            if self.known.contains(&name_text) {
                continue;
            }
            let fix = match nearest(name_text, &self.known) {
                Some(near) => format!("did you mean {near:?}?"),
                None if self.known.is_empty() => "remove it".to_owned(),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            self.faults.borrow_mut().push(Fault {
                weight: Weight::Error,
                place: self.document.place(self.document.line(name.span().start)),
                key: self.path_of(name_text),
                value: None,
                what: "is not a known key".to_owned(),
                fix,
            });
        }
    }
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    let close = known.iter().map(|k| (distance(&word, k), *k)).min()?;
    let allowed = (word.chars().count() / 3).max(1);
    let contained = known.iter().find(|k| word.len() >= 3 && (k.contains(word.as_str()) || word.contains(**k)));
    if close.0 <= allowed { Some(close.1) } else { contained.copied() }
}

/// How many letters must be added, dropped, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let plain = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    if swapped { plain.min(rows[i - 2][j - 2] + 1) } else { plain }
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_far_ones_are_not() {
        let known = ["state_dir", "idle", "duration", "host_keys", "name"];
        assert_eq!(nearest("state_dri", &known), Some("state_dir"));
        assert_eq!(nearest("idel", &known), Some("idle"));
        assert_eq!(nearest("host_key", &known), Some("host_keys"));
        assert_eq!(nearest("Name", &known), Some("name"));
        assert_eq!(nearest("idle_max", &known), Some("idle"));
        assert_eq!(nearest("colour", &known), None);
    }
}
