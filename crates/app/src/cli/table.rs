//! Columns that fit: no lines drawn, nothing wrapped. Where there is no room, long columns are cut first, then the
//! least important ones are left out; ids stay whole, because people copy them.

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::plain;

/// What a column is called and how dear it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// 0 is never left out; the highest goes first.
    pub(crate) dispensable: u8,
    /// May be cut down to this many cells.
    pub(crate) cut_to: Option<usize>,
}

impl Column {
    /// Always whole.
    pub(crate) const fn whole(title: &'static str) -> Self {
        Column { title, dispensable: 0, cut_to: None }
    }

    /// Left out before those with a lower number.
    pub(crate) const fn dispensable(mut self, rank: u8) -> Self {
        self.dispensable = rank;
        self
    }

    /// May be cut.
    pub(crate) const fn cut_to(mut self, cells: usize) -> Self {
        self.cut_to = Some(cells);
        self
    }
}

/// How a cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Warn,
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Warn => AnsiColor::Yellow.on_default(),
            Tone::Faint => Style::new().dimmed(),
        }
    }
}

/// One fact, for people and for scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// In a table.
    pub(crate) shown: String,
    /// In tab-separated text.
    pub(crate) raw: String,
    pub(crate) tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let raw = text.into();
        Cell { shown: raw.clone(), raw, tone: Tone::Plain }
    }

    /// With another form for people.
    pub(crate) fn shown_as(raw: impl Into<String>, shown: impl Into<String>) -> Self {
        Cell { shown: shown.into(), raw: raw.into(), tone: Tone::Plain }
    }

    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// A list in columns.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// What is said when there is no row.
    pub(crate) empty: &'static str,
}

const GAP: usize = 2;
/// A column is never cut below this.
const CELLS_MIN: usize = 4;

impl View {
    /// Tab-separated values, one line each, no head.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| plain::line(&cell.raw)).collect();
            out.push_str(&cells.join("\t"));
            out.push('\n');
        }
        out
    }

    /// Aligned columns with a head, within `width` cells if there is a limit.
    pub(crate) fn table(&self, width: Option<usize>, colour: bool) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| plain::line(&cell.shown)).collect()).collect();
        let natural: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| rows.iter().map(|row| row[at].width()).max().unwrap_or(0).max(column.title.width()))
            .collect();
        let shown = fit(&self.columns, &natural, width);
        let mut out = String::new();
        let head = Style::new().bold();
        let titles = shown.iter().map(|&(at, cells)| (self.columns[at].title, cells, head));
        if titles.clone().any(|(title, _, _)| !title.is_empty()) {
            write_row(&mut out, titles, colour);
        }
        for (row, styles) in rows.iter().zip(&self.rows) {
            let cells = shown.iter().map(|&(at, cells)| (row[at].as_str(), cells, styles[at].tone.style()));
            write_row(&mut out, cells, colour);
        }
        out
    }
}

/// Which columns are shown, and how wide.
fn fit(columns: &[Column], natural: &[usize], width: Option<usize>) -> Vec<(usize, usize)> {
    let mut shown: Vec<(usize, usize)> = natural.iter().copied().enumerate().collect();
    let Some(width) = width else { return shown };
    loop {
        let total = |shown: &[(usize, usize)]| {
            shown.iter().map(|(_, cells)| cells).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        let floor = |at: usize| columns[at].cut_to.map_or(natural[at], |cut| cut.max(CELLS_MIN).min(natural[at]));
        for (at, cells) in &mut shown {
            *cells = natural[*at];
        }
        while total(&shown) > width {
            let widest = shown.iter_mut().filter(|(at, cells)| *cells > floor(*at)).max_by_key(|(_, cells)| *cells);
            match widest {
                Some((_, cells)) => *cells -= 1,
                None => break,
            }
        }
        if total(&shown) <= width {
            return shown;
        }
        let least = shown.iter().map(|(at, _)| columns[*at].dispensable).max().unwrap_or(0);
        if least == 0 {
            return shown;
        }
        if let Some(place) = shown.iter().rposition(|(at, _)| columns[*at].dispensable == least) {
            shown.remove(place);
        }
    }
}

fn write_row<'a>(out: &mut String, cells: impl Iterator<Item = (&'a str, usize, Style)>, colour: bool) {
    let mut pad = 0;
    for (text, cells, style) in cells {
        out.extend(std::iter::repeat_n(' ', pad));
        let text = cut(text, cells);
        if colour && style != Style::new() && !text.is_empty() {
            out.push_str(&format!("{style}{text}{style:#}"));
        } else {
            out.push_str(&text);
        }
        pad = cells - text.width().min(cells) + GAP;
    }
    out.push('\n');
}

/// The text in at most `cells` cells, with a mark where it was cut.
fn cut(text: &str, cells: usize) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used + wide + 1 > cells {
            break;
        }
        used += wide;
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            columns: vec![
                Column::whole("ID"),
                Column::whole("USER").cut_to(6),
                Column::whole("FROM").dispensable(2),
                Column::whole("STATE").dispensable(1),
            ],
            rows: vec![
                vec![
                    Cell::new("alice-07a16060613c408b5"),
                    Cell::new("alice.in.wonderland"),
                    Cell::shown_as("192.0.2.9", "here"),
                    Cell::new("connected").tone(Tone::Good),
                ],
                vec![Cell::new("bob-0"), Cell::new("東京\u{1b}[2J"), Cell::new(""), Cell::new("failed")],
            ],
            empty: "nothing",
        }
    }

    #[test]
    fn without_a_limit_everything_is_whole_and_aligned() {
        assert_eq!(
            view().table(None, false),
            "ID                       USER                 FROM  STATE\n\
             alice-07a16060613c408b5  alice.in.wonderland  here  connected\n\
             bob-0                    東京\\u{1b}[2J              failed\n"
        );
    }

    #[test]
    fn it_fits_any_width_that_holds_what_must_stay() {
        for width in 31..90 {
            let text = view().table(Some(width), false);
            for line in text.lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
            assert!(text.contains("alice-07a16060613c408b5"), "ids stay whole");
            assert_eq!(text.contains("STATE"), text.contains("connected"));
        }
        let narrow = view().table(Some(31), false);
        assert!(!narrow.contains("STATE") && !narrow.contains("FROM"), "{narrow}");
        assert!(narrow.contains("alice…"), "{narrow}");
        assert!(!view().table(Some(45), false).contains("FROM"), "the least important goes first");
        assert!(view().table(Some(45), false).contains("STATE"));
    }

    #[test]
    fn text_has_raw_values_and_no_head() {
        assert_eq!(
            view().text(),
            "alice-07a16060613c408b5\talice.in.wonderland\t192.0.2.9\tconnected\nbob-0\t東京\\u{1b}[2J\t\tfailed\n"
        );
    }

    #[test]
    fn colour_only_when_asked_for() {
        assert!(!view().table(Some(80), false).contains('\u{1b}'));
        let coloured = view().table(Some(80), true);
        assert!(coloured.contains("\u{1b}[32mconnected\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(View { rows: Vec::new(), ..view() }.table(None, true), "nothing\n");
        assert_eq!(View { rows: Vec::new(), ..view() }.text(), "");
    }
}
