//! Values as a table, as `aws --output table` draws it.

use ravelin_aws::client::value::{Map, Value};
use unicode_width::UnicodeWidthChar;

/// Blanks around a cell, its border included.
const PADDING: i64 = 4;
/// The two characters at the sides.
const BORDER: i64 = 2;

/// The table of a value, or nothing when there is nothing in it.
///
/// `width` is that of the terminal: what does not fit is drawn with one line per member.
///
/// # Errors
/// When lists that should be rows have different lengths.
pub(super) fn table(title: &str, value: &Value, width: usize, colour: bool) -> Result<String, String> {
    let mut table = Table { sections: Vec::new() };
    if !table.build(Some(title), value, 0)? {
        return Ok(String::new());
    }
    let limit = i64::try_from(width).unwrap_or(i64::MAX);
    if table.width() > limit {
        table.sections.iter_mut().for_each(Section::turn);
    }
    Ok(table.draw(colour))
}

#[derive(Default)]
struct Section {
    title: String,
    indent: i64,
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    columns: Option<usize>,
    widths: Vec<i64>,
}

struct Table {
    sections: Vec<Section>,
}

impl Table {
    fn build(&mut self, title: Option<&str>, value: &Value, indent: i64) -> Result<bool, String> {
        if !value.is_truthy() {
            return Ok(false);
        }
        if let Some(title) = title {
            self.section(title, indent);
        }
        match value {
            Value::List(items) if items.first().is_some_and(|first| first.as_map().is_some()) => {
                self.objects(items, indent, title.unwrap_or_default())?;
            }
            Value::List(items) => {
                for item in items {
                    match item {
                        Value::List(cells) if cells.iter().all(Value::is_scalar) => {
                            self.row(cells.iter().map(Value::to_str))?
                        }
                        Value::Map(members) => self.row(members.keys().cloned())?,
                        Value::List(_) => {
                            self.build(None, item, 0)?;
                        }
                        plain => self.row(std::iter::once(plain.to_str()))?,
                    }
                }
            }
            Value::Map(members) => self.object(members, indent)?,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
        }
        Ok(true)
    }

    fn object(&mut self, members: &Map, indent: i64) -> Result<(), String> {
        let (headers, more) = split(std::iter::once(members));
        match &headers[..] {
            [] => {}
            [only] => self.row([(*only).to_owned(), members[*only].to_str()].into_iter())?,
            _ => {
                self.header(&headers);
                self.row(headers.iter().map(|name| members[*name].to_str()))?;
            }
        }
        for name in more {
            self.build(Some(name), &members[name], indent + 1)?;
        }
        Ok(())
    }

    fn objects(&mut self, items: &[Value], indent: i64, title: &str) -> Result<(), String> {
        let all: Vec<&Map> = items.iter().filter_map(Value::as_map).collect();
        let (headers, more) = split(all.iter().copied());
        self.header(&headers);
        for (index, members) in all.iter().enumerate() {
            if index > 0 && !more.is_empty() {
                self.section(title, indent);
                self.header(&headers);
            }
            self.row(headers.iter().map(|name| members.get(*name).map_or_else(String::new, Value::to_str)))?;
            for name in &more {
                if let Some(value) = members.get(*name) {
                    self.build(Some(name), value, indent + 1)?;
                }
            }
        }
        Ok(())
    }

    fn section(&mut self, title: &str, indent: i64) {
        self.sections.push(Section { title: title.to_owned(), indent, ..Section::default() });
    }

    /// The section that is being filled; there always is one, because the first value comes with a title.
    fn last(&mut self) -> &mut Section {
        if self.sections.is_empty() {
            self.sections.push(Section::default());
        }
        let last = self.sections.len() - 1;
        &mut self.sections[last]
    }

    fn header(&mut self, names: &[&str]) {
        let section = self.last();
        section.headers = names.iter().map(|name| (*name).to_owned()).collect();
        section.widen(&section.headers.clone());
        section.columns.get_or_insert(names.len());
    }

    fn row(&mut self, cells: impl Iterator<Item = String>) -> Result<(), String> {
        self.last().add(cells.collect())
    }

    fn width(&self) -> i64 {
        self.sections.iter().map(Section::width).max().unwrap_or(0)
    }

    fn draw(&self, colour: bool) -> String {
        let width = self.width();
        let mut out = dashes(width) + "\n";
        for section in &self.sections {
            section.draw(width - section.indent * BORDER, colour, &mut out);
        }
        out
    }
}

impl Section {
    fn add(&mut self, cells: Vec<String>) -> Result<(), String> {
        let columns = *self.columns.get_or_insert(cells.len());
        if cells.len() != columns {
            return Err(format!("Row should have {columns} elements, instead it has {}", cells.len()));
        }
        self.widen(&cells);
        self.rows.push(cells);
        Ok(())
    }

    fn widen(&mut self, cells: &[String]) {
        if self.widths.is_empty() {
            self.widths = vec![0; cells.len()];
        }
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(measure(cell));
        }
    }

    fn width(&self) -> i64 {
        let cells: i64 = self.widths.iter().map(|width| width + PADDING).sum();
        let outer = BORDER + self.indent * 2;
        (measure(&self.title) + outer).max(cells + outer)
    }

    /// One row becomes one line per cell, with the header before it.
    fn turn(&mut self) {
        if self.rows.len() != 1 || self.headers.is_empty() {
            return;
        }
        let headers = std::mem::take(&mut self.headers);
        let cells = self.rows.pop().unwrap_or_default();
        (self.columns, self.widths) = (None, Vec::new());
        for pair in headers.into_iter().zip(cells) {
            // Every line has two cells, so none can be refused.
            let _two_cells = self.add(vec![pair.0, pair.1]);
        }
    }

    /// Widths that fill the table, in proportion to what the cells need.
    fn scaled(&self, width: i64) -> Vec<i64> {
        let needed: Vec<i64> = self.widths.iter().map(|width| width + PADDING).collect();
        let sum: i64 = needed.iter().sum();
        if sum == 0 {
            return needed;
        }
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "columns of a terminal")]
        let mut scaled: Vec<i64> = {
            let factor = width as f64 / sum as f64;
            needed.iter().map(|cell| (factor * *cell as f64).round_ties_even() as i64).collect()
        };
        let mut off = scaled.iter().sum::<i64>() - width;
        while off != 0 {
            let count = scaled.len();
            for step in 0..count {
                if off > 0 {
                    scaled[step] -= 1;
                    off -= 1;
                } else {
                    scaled[count - 1 - step] += 1;
                    off += 1;
                }
                if off == 0 {
                    break;
                }
            }
        }
        scaled
    }

    fn draw(&self, width: i64, colour: bool, out: &mut String) {
        let edge = if colour { "\u{1b}[2m\u{1b}[33m|\u{1b}[0m" } else { "|" };
        let indent = edge.repeat(usize::try_from(self.indent).unwrap_or(0));
        let mut line = |text: String| {
            out.push_str(&indent);
            out.push_str(&text);
            out.push_str(&indent);
            out.push('\n');
        };
        if !self.title.is_empty() {
            line(centred(&self.title, width, "|"));
            if self.headers.is_empty() && self.rows.is_empty() {
                line(format!("+{}+", dashes(width - BORDER)));
            }
        }
        let widths = self.scaled(width);
        let rule = || {
            let parts = widths.iter().enumerate().map(|(index, width)| {
                if index == 0 { format!("+{}+", dashes(width - 2)) } else { format!("{}+", dashes(width - 1)) }
            });
            parts.collect::<String>()
        };
        let cells = |cells: &[String], cell: &dyn Fn(&str, i64, &str) -> String| {
            let parts = widths.iter().zip(cells).enumerate();
            parts
                .map(|(index, (width, text))| cell(text, *width, if index == 0 { "|" } else { "" }))
                .collect::<String>()
        };
        if !self.headers.is_empty() {
            line(rule());
            line(cells(&self.headers, &centred));
        }
        if !self.rows.is_empty() && !widths.is_empty() {
            line(rule());
            for row in &self.rows {
                line(cells(row, &|text, width, left| left_aligned(text, width, left, colour)));
            }
            line(rule());
        }
    }
}

/// Names of plain members and of others, each sorted.
fn split<'a>(objects: impl Iterator<Item = &'a Map>) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut plain, mut more) = (Vec::new(), Vec::new());
    for members in objects {
        for (name, value) in members {
            if value.is_scalar() { &mut plain } else { &mut more }.push(name.as_str());
        }
    }
    for names in [&mut plain, &mut more] {
        names.sort_unstable();
        names.dedup();
    }
    (plain, more)
}

fn centred(text: &str, width: i64, left: &str) -> String {
    let length = measure(text);
    let before = width.div_euclid(2) - length.div_euclid(2) - 1;
    let after = width - 1 - (measure(left) + before + length);
    format!("{left}{}{text}{}|", blanks(before), blanks(after))
}

fn left_aligned(text: &str, width: i64, left: &str, colour: bool) -> String {
    let (length, edge) = (measure(text), measure(left));
    let padding = if width - (length + 2 + edge + 1) >= 0 { 2 } else { 0 };
    let after = width - (edge + padding + length) - 1;
    let styled = if colour { format!("\u{1b}[1m\u{1b}[34m{text}\u{1b}[0m") } else { text.to_owned() };
    format!("{left}{}{styled}{}|", blanks(padding), blanks(after))
}

fn blanks(count: i64) -> String {
    " ".repeat(usize::try_from(count).unwrap_or(0))
}

fn dashes(count: i64) -> String {
    "-".repeat(usize::try_from(count).unwrap_or(0))
}

/// Columns of a text as the aws CLI counts them: two for wide characters and for those that are so in East Asian fonts,
/// one for all others. The crate knows them, but for letters that are made of two and for marks.
fn measure(text: &str) -> i64 {
    text.chars()
        .map(|c| match c {
            '\u{300}'..='\u{36f}' => 2,
            '\u{e0}'..='\u{e1}'
            | '\u{e8}'..='\u{ea}'
            | '\u{ec}'..='\u{ed}'
            | '\u{f2}'..='\u{f3}'
            | '\u{f9}'..='\u{fa}'
            | '\u{fc}'
            | '\u{101}'
            | '\u{113}'
            | '\u{11b}'
            | '\u{12b}'
            | '\u{144}'
            | '\u{148}'
            | '\u{14d}'
            | '\u{16b}'
            | '\u{1ce}'
            | '\u{1d0}'
            | '\u{1d2}'
            | '\u{1d4}'
            | '\u{1d6}'
            | '\u{1d8}'
            | '\u{1da}'
            | '\u{1dc}'
            | '\u{401}'
            | '\u{419}'
            | '\u{439}'
            | '\u{451}'
            | '\u{2126}'
            | '\u{212b}'
            | '\u{2260}'
            | '\u{226e}'..='\u{226f}' => 2,
            c if c.width_cjk() == Some(2) => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(json: &str) -> String {
        table("DescribeSessions", &Value::parse(json.as_bytes()).expect("JSON"), 80, false).expect("a table")
    }

    /// Drawn by aws-cli 1.46.3 for the same values.
    #[test]
    fn tables_are_those_of_the_aws_cli() {
        assert_eq!(
            drawn(
                r#"[{"Id":"John-07a16060613c408b0","S":"Connected"},{"Id":"John-07a16060613c408b1","S":"Connected"}]"#
            ),
            "\
-----------------------------------------
|           DescribeSessions            |
+-------------------------+-------------+
|           Id            |      S      |
+-------------------------+-------------+
|  John-07a16060613c408b0 |  Connected  |
|  John-07a16060613c408b1 |  Connected  |
+-------------------------+-------------+
"
        );
        assert_eq!(
            drawn(r#"["John-07a16060613c408b0","John-07a16060613c408b1"]"#),
            "\
----------------------------
|     DescribeSessions     |
+--------------------------+
|  John-07a16060613c408b0  |
|  John-07a16060613c408b1  |
+--------------------------+
"
        );
        assert_eq!(drawn(r#""x""#), "------------------\n|DescribeSessions|\n+----------------+\n");
        assert_eq!(drawn("null"), "");
        assert_eq!(
            table("T", &Value::parse(b"[1,[1,2]]").expect("JSON"), 80, false),
            Err("Row should have 1 elements, instead it has 2".to_owned())
        );
    }

    /// Drawn by aws-cli 1.46.3 for the same answer.
    #[test]
    fn what_does_not_fit_is_turned_and_what_is_inside_is_indented() {
        let json = r#"{"NextToken":"eyJOZXh0VG9rZW4iOiAicDIiLCAiYm90b190cnVuY2F0ZV9hbW91bnQiOiAxfQ==","Sessions":[{"SessionId":"John-07a16060613c408b3","Target":"i-1234567890abcdef0","Status":"Connected","StartDate":1550676842.1,"Owner":"arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez","OutputUrl":{"S3OutputUrl":"https://x/y","CloudWatchOutputUrl":"cw"}}]}"#;
        assert_eq!(
            drawn(json),
            "\
-------------------------------------------------------------------------------------------
|                                    DescribeSessions                                     |
+-------------+---------------------------------------------------------------------------+
|  NextToken  |  eyJOZXh0VG9rZW4iOiAicDIiLCAiYm90b190cnVuY2F0ZV9hbW91bnQiOiAxfQ==         |
+-------------+---------------------------------------------------------------------------+
||                                       Sessions                                        ||
|+-----------+---------------------------------------------------------------------------+|
||  Owner    |  arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez   ||
||  SessionId|  John-07a16060613c408b3                                                   ||
||  StartDate|  1550676842.1                                                             ||
||  Status   |  Connected                                                                ||
||  Target   |  i-1234567890abcdef0                                                      ||
|+-----------+---------------------------------------------------------------------------+|
|||                                      OutputUrl                                      |||
||+---------------------------------------------------+---------------------------------+||
|||  CloudWatchOutputUrl                              |  cw                             |||
|||  S3OutputUrl                                      |  https://x/y                    |||
||+---------------------------------------------------+---------------------------------+||
"
        );
    }
}
