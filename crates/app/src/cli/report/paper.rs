//! A report on paper: one list of parts, written as Markdown or as one HTML page.
//!
//! Names in it come from strangers. In Markdown they stand in code spans, in HTML they are escaped; the page holds no
//! script, asks nothing of anywhere, and its own policy forbids both.

use super::evidence::{Coverage, Evidence, NotWhole, Ranking, WrongKey};
use crate::cli::plain;
use std::fmt::Write;

/// A piece of a report.
enum Part {
    Heading(&'static str),
    /// Our own words.
    Text(String),
    /// What needs a look: our own words.
    Warning(String),
    Table(Vec<&'static str>, Vec<Vec<Cell>>),
    /// A plot: what is counted, and the bars.
    Bars(&'static str, Vec<(String, u64)>),
}

/// What stands in a table.
enum Cell {
    /// Our own words.
    Ours(String),
    /// Something from the record.
    Told(String),
    Number(u64),
}

impl Cell {
    fn told(text: &str) -> Self {
        Cell::Told(text.to_owned())
    }
}

/// The report as Markdown.
pub(crate) fn markdown(evidence: &Evidence) -> String {
    let mut out = format!("# {}\n", title(evidence));
    for part in parts(evidence) {
        out.push('\n');
        match part {
            Part::Heading(text) => line(&mut out, &format!("## {text}")),
            Part::Text(text) => line(&mut out, &text),
            Part::Warning(text) => line(&mut out, &format!("> **Look at this:** {text}")),
            Part::Table(head, rows) => {
                line(&mut out, &format!("| {} |", head.join(" | ")));
                line(&mut out, &format!("|{}", "---|".repeat(head.len())));
                for row in rows {
                    let cells: Vec<String> = row.iter().map(markdown_cell).collect();
                    line(&mut out, &format!("| {} |", cells.join(" | ")));
                }
            }
            Part::Bars(what, bars) => {
                const CELLS: u64 = 40;
                let most = most(&bars);
                line(&mut out, &format!("| | {what} | |\n|---|---:|---|"));
                for (label, count) in bars {
                    let cells = usize::try_from((count * CELLS).div_ceil(most)).unwrap_or(0);
                    line(&mut out, &format!("| {label} | {count} | {} |", "█".repeat(cells)));
                }
            }
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn markdown_cell(cell: &Cell) -> String {
    match cell {
        Cell::Ours(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Told(text) => code_span(text),
    }
}

/// A code span, in which nothing is markup: fenced by more backticks than the text has in a row.
fn code_span(text: &str) -> String {
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let text = plain::line(text).replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let blank = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

const STYLE: &str = "\
:root{color-scheme:light dark}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem}h2{margin-top:2rem;font-size:1.15rem;border-bottom:1px solid #8884}
table{border-collapse:collapse;margin:.7rem 0}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #8883}
td.n{text-align:right;font-variant-numeric:tabular-nums}
code{font:13px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.look{border-left:4px solid #c33;padding:.2rem .8rem}
svg{display:block;width:100%;max-width:60rem;height:auto;margin:.7rem 0}
svg rect{fill:#4a78b5}svg text{fill:currentColor;font:10px system-ui,sans-serif}
@media print{body{margin:0;max-width:none}}
";

/// The report as one HTML page that needs nothing else.
pub(crate) fn html(evidence: &Evidence) -> String {
    let title = title(evidence);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for part in parts(evidence) {
        match part {
            Part::Heading(text) => line(&mut out, &format!("<h2>{text}</h2>")),
            Part::Text(text) => line(&mut out, &format!("<p>{}</p>", escaped(&text.replace('`', "")))),
            Part::Warning(text) => {
                line(&mut out, &format!("<p class=\"look\"><strong>Look at this:</strong> {}</p>", escaped(&text)));
            }
            Part::Table(head, rows) => {
                let head: String = head.iter().map(|text| format!("<th>{text}</th>")).collect();
                line(&mut out, &format!("<table>\n<tr>{head}</tr>"));
                for row in rows {
                    let cells: String = row.iter().map(html_cell).collect();
                    line(&mut out, &format!("<tr>{cells}</tr>"));
                }
                line(&mut out, "</table>");
            }
            Part::Bars(what, bars) => out.push_str(&svg(what, &bars)),
        }
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn html_cell(cell: &Cell) -> String {
    match cell {
        Cell::Ours(text) => format!("<td>{}</td>", escaped(text)),
        Cell::Number(number) => format!("<td class=\"n\">{number}</td>"),
        Cell::Told(text) if text.is_empty() => "<td>(empty)</td>".to_owned(),
        Cell::Told(text) => format!("<td><code>{}</code></td>", escaped(&plain::line(text))),
    }
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

/// Upright bars with their labels below and their numbers above.
fn svg(what: &str, bars: &[(String, u64)]) -> String {
    const WIDTH: usize = 720;
    const HIGHEST: u64 = 140;
    let most = most(bars);
    let step = WIDTH / bars.len().max(1);
    let bar = step * 3 / 4;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} 200\" role=\"img\" aria-label=\"{0}\">\n<title>{0}</title>\n\
         <text x=\"0\" y=\"12\">{0}</text>\n",
        escaped(what)
    );
    for (place, (label, count)) in bars.iter().enumerate() {
        let (x, middle) = (place * step, place * step + bar / 2);
        let height = (count * HIGHEST).div_ceil(most);
        let y = 176 - height;
        // A number over each bar where there is one.
        let number = if *count > 0 { count.to_string() } else { String::new() };
        let _infallible = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{bar}\" height=\"{height}\"/>\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{number}</text>\
             <text x=\"{middle}\" y=\"192\" text-anchor=\"middle\">{}</text>",
            y - 4,
            escaped(label)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn most(bars: &[(String, u64)]) -> u64 {
    bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1)
}

fn title(evidence: &Evidence) -> String {
    format!("Ravelin: evidence of {}", evidence.month)
}

fn parts(evidence: &Evidence) -> Vec<Part> {
    let mut parts = Vec::new();
    basis(evidence, &mut parts);
    sessions(evidence, &mut parts);
    kills(evidence, &mut parts);
    recordings(evidence, &mut parts);
    hosts(evidence, &mut parts);
    refusals(evidence, &mut parts);
    parts.push(Part::Heading("Everything on record, by kind of event"));
    ranking(&mut parts, "kind", &evidence.events);
    parts
}

fn basis(evidence: &Evidence, parts: &mut Vec<Part>) {
    let Evidence { period, made, record, chain, .. } = evidence;
    let ours = |name: &str, text: String| vec![Cell::Ours(name.to_owned()), Cell::Ours(text)];
    let told = |name: &str, text: &str| vec![Cell::Ours(name.to_owned()), Cell::told(text)];
    let mut rows = vec![
        ours("period, UTC", format!("from {} on and before {}", period.from, period.before)),
        ours("made", format!("{} by ravelin {}", made.at, made.version)),
        told("from", &made.source),
    ];
    rows.extend(made.principal.as_ref().map(|principal| told("asked as", principal)));
    rows.push(told("deployment", &record.deployment));
    if let (Some(first), Some(last), Some(head)) = (record.first, record.last, &record.head) {
        rows.push(ours("events", format!("{} to {last}, which are {}", first, record.events)));
        rows.push(told("hash of the last", head));
    } else {
        rows.push(ours("events", "none".to_owned()));
    }
    rows.push(ours("chain", if chain.whole { "whole" } else { "NOT WHOLE" }.to_owned()));
    if let (Some(first), Some(last), Some(checkpoints)) = (chain.first, chain.last, chain.checkpoints) {
        let beginning = match chain.beginning {
            Some("genesis") => "from the deployment's first event on",
            Some("signed_cut") => "what was before was removed by retention, which is signed",
            Some(_) | None => "a part of the record; its checkpoints sign everything before it too",
        };
        rows.push(ours("verified", format!("events {first} to {last}: {beginning}")));
        let signed = chain.signed_through.unwrap_or(0);
        rows.push(ours("signed", format!("{checkpoints} checkpoints, through event {signed}")));
    }
    if let Some(key) = &chain.key {
        rows.push(told("with the key", key));
    }
    parts.push(Part::Heading("What this rests on"));
    parts.push(Part::Table(vec!["", ""], rows));
    if let Some(fault) = &chain.fault {
        // It is made of numbers and our own words.
        parts.push(Part::Warning(format!(
            "the record is not whole: {fault}. The figures below are what it says all the same."
        )));
    }
    if chain.key.is_none() {
        parts.push(Part::Warning("nothing is signed: there is no checkpoint in what was read.".to_owned()));
    } else if chain.key_from == "record" {
        let text = "The key is the one that the record's own checkpoints name. Compare it with the `ledger.pub` that you \
                    keep elsewhere, or give that with `--key`.";
        parts.push(Part::Text(text.to_owned()));
    }
    if let Some(before) = record.begins_after {
        parts.push(Part::Warning(format!(
            "what was read begins within the month: event {before} and those before it were not there, so the month's \
             beginning may be missing."
        )));
    }
    if !period.is_over {
        parts.push(Part::Warning("the month was not over when this was made.".to_owned()));
    } else if !record.is_closed {
        let text = "no event after the month was read, so its end may be missing.";
        parts.push(Part::Warning(text.to_owned()));
    }
    parts.push(Part::Text(format!(
        "To check it again: `ravelin audit export --out record.jsonl`, `ravelin audit verify record.jsonl --key ledger.pub`, \
         `ravelin report --month {} --key ledger.pub record.jsonl`. Event and hash above must be the same.",
        evidence.month
    )));
}

fn sessions(evidence: &Evidence, parts: &mut Vec<Part>) {
    let sessions = &evidence.sessions;
    parts.push(Part::Heading("Sessions"));
    parts.push(Part::Text(format!(
        "{} were started. {} ended, {} of which never reached their target; {} bytes went in and {} came out. Each session \
         is counted in the month in which the record has its end.",
        sessions.started, sessions.ended, sessions.never_reached, sessions.bytes_in, sessions.bytes_out
    )));
    let bars = evidence.days.iter().map(|day| (day.day[8..].to_owned(), day.started)).collect();
    parts.push(Part::Bars("sessions started, by day", bars));
    ranking(parts, "kind", &sessions.by_kind);
    ranking(parts, "protocol", &sessions.by_protocol);
    ranking(parts, "principal", &sessions.by_principal);
    ranking(parts, "target", &sessions.by_target);
    ranking(parts, "proof", &sessions.by_proof);
    ranking(parts, "end reason", &sessions.end_reasons);
}

fn kills(evidence: &Evidence, parts: &mut Vec<Part>) {
    let kills = &evidence.kills;
    parts.push(Part::Heading("Kills"));
    parts.push(Part::Text(format!(
        "{} sessions were ended by somebody with the right to do so; of {} both sockets were closed by the end of the month.",
        kills.asked, kills.confirmed
    )));
    ranking(parts, "ended by", &kills.by_actor);
    if let Some(latency) = &kills.latency {
        parts.push(Part::Text("From the wish to the moment when both sockets were closed:".to_owned()));
        let names = vec!["timed", "half within", "90 % within", "99 % within", "longest"];
        let times = [latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms];
        let times = times.map(|millis| Cell::Ours(format!("{millis} ms")));
        parts.push(Part::Table(names, vec![std::iter::once(Cell::Number(latency.count)).chain(times).collect()]));
        let bars = kills.histogram.iter().map(|bucket| {
            let label = bucket.up_to_ms.map_or_else(|| "longer".to_owned(), |millis| format!("≤ {millis}"));
            (label, bucket.count)
        });
        parts.push(Part::Bars("kills, by milliseconds that they took", bars.collect()));
    }
    if kills.untimed > 0 {
        parts.push(Part::Text(format!(
            "{} more were confirmed, and the release that wrote them did not note when they were asked for.",
            kills.untimed
        )));
    }
}

fn recordings(evidence: &Evidence, parts: &mut Vec<Part>) {
    let recordings = &evidence.recordings;
    parts.push(Part::Heading("Recordings"));
    parts.push(Part::Text(format!(
        "Of the sessions that ended, {} led to targets whose rule demands a recording. In {} of these there was something \
         to record, and {} have a whole recording{}.",
        recordings.demanded,
        recordings.due,
        recordings.complete,
        share(recordings.complete, recordings.due)
    )));
    if recordings.missing > 0 {
        parts.push(Part::Warning(format!(
            "{} sessions were to be recorded, were used, and have no recording; that must not be.",
            recordings.missing
        )));
    }
    let rows = [
        ("whole", recordings.complete),
        ("failed", recordings.failed),
        ("not finished by the end of what was read", recordings.unfinished),
        ("end to end, which only the two ends can read", recordings.end_to_end),
        ("missing", recordings.missing),
        ("nothing to record: the target was never reached", recordings.never_reached),
        ("nothing to record: nothing was opened", recordings.nothing_opened),
        ("not demanded", recordings.not_demanded),
        ("not known: written by an earlier release", recordings.rule_unknown),
    ];
    let rows = rows.map(|(name, count)| vec![Cell::Ours(name.to_owned()), Cell::Number(count)]).into();
    parts.push(Part::Table(vec!["recording", "sessions"], rows));
    if !recordings.by_target.is_empty() {
        let rows = recordings.by_target.iter().map(|Coverage { target, due, complete }| {
            vec![Cell::told(target), Cell::Number(*due), Cell::Number(*complete)]
        });
        parts.push(Part::Table(vec!["target", "due", "whole"], rows.collect()));
    }
    further(parts, recordings.targets_unlisted, "targets");
    if !recordings.not_whole.is_empty() {
        let rows = recordings.not_whole.iter().map(|NotWhole { session, principal, target, why }| {
            let why = why.replace('_', " ");
            vec![Cell::told(session), Cell::told(principal), Cell::told(target), Cell::Ours(why)]
        });
        parts
            .push(Part::Table(vec!["session without a whole recording", "principal", "target", "why"], rows.collect()));
    }
    further(parts, recordings.not_whole_unlisted, "sessions");
    ranking(parts, "what was done with recordings", &recordings.deeds);
}

fn hosts(evidence: &Evidence, parts: &mut Vec<Part>) {
    let hosts = &evidence.hosts;
    parts.push(Part::Heading("Hosts"));
    parts.push(Part::Text(format!(
        "In {} sessions Ravelin logged in, after the target had proved a pinned host key. In {} it passed bytes on and saw \
         no host key: there, whoever connected had to check it.",
        hosts.checked, hosts.unchecked.total
    )));
    ranking(parts, "host that Ravelin did not verify", &hosts.unchecked);
    if hosts.wrong_keys > 0 {
        parts.push(Part::Warning(format!(
            "{} sessions were refused because the target showed another host key than the pinned ones.",
            hosts.wrong_keys
        )));
        let rows = hosts.wrong.iter().map(|WrongKey { at, session, target, address, detail }| {
            [at, session, target, address, detail].map(|text| Cell::told(text)).into()
        });
        parts.push(Part::Table(vec!["when", "session", "target", "address", "what it showed"], rows.collect()));
        further(parts, hosts.wrong_keys - hosts.wrong.len() as u64, "sessions");
    }
}

fn refusals(evidence: &Evidence, parts: &mut Vec<Part>) {
    let refusals = &evidence.refusals;
    parts.push(Part::Heading("Refused logins"));
    parts.push(Part::Text(format!(
        "{} are on record, and {} more were only counted, because one place sent too many.",
        refusals.logins, refusals.logins_passed_over
    )));
    let bars = evidence.days.iter().map(|day| (day.day[8..].to_owned(), day.logins_refused)).collect();
    parts.push(Part::Bars("refused logins, by day", bars));
    ranking(parts, "proof", &refusals.by_method);
    ranking(parts, "from", &refusals.by_client);
    ranking(parts, "claimed to be", &refusals.by_claimed);
    parts.push(Part::Heading("Refused deeds"));
    parts.push(Part::Text(format!(
        "Known principals asked for what they may not do: {} are on record, and {} more were only counted.",
        refusals.accesses, refusals.accesses_passed_over
    )));
    ranking(parts, "right", &refusals.by_action);
    ranking(parts, "principal", &refusals.by_principal);
}

fn ranking(parts: &mut Vec<Part>, what: &'static str, ranking: &Ranking) {
    if ranking.total == 0 {
        return;
    }
    let mut rows: Vec<Vec<Cell>> =
        ranking.rows.iter().map(|row| vec![Cell::told(&row.name), Cell::Number(row.count)]).collect();
    if ranking.others > 0 {
        rows.push(vec![Cell::Ours("others".to_owned()), Cell::Number(ranking.others)]);
    }
    parts.push(Part::Table(vec![what, "count"], rows));
}

fn further(parts: &mut Vec<Part>, count: u64, what: &str) {
    if count > 0 {
        parts.push(Part::Text(format!("{count} further {what} are counted above and not listed.")));
    }
}

fn share(part: u64, of: u64) -> String {
    if of == 0 {
        return String::new();
    }
    // Rounded down: what is not whole must not look so.
    let tenths = u128::from(part) * 1000 / u128::from(of);
    format!(" ({}.{} %)", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_name_is_no_markup() {
        assert_eq!(code_span("alice"), "`alice`");
        assert_eq!(code_span("a|b"), "`a\\|b`");
        assert_eq!(code_span("`x``y`"), "``` `x``y` ```");
        assert_eq!(code_span("x\u{1b}[2J\ny\u{202e}"), "`x\\u{1b}[2J\\ny\\u{202e}`");
        assert_eq!(code_span(""), "(empty)");
        let cell = html_cell(&Cell::told("<img src=x onerror='a'>&\u{202e}"));
        assert_eq!(cell, "<td><code>&lt;img src=x onerror=&#39;a&#39;&gt;&amp;\\u{202e}</code></td>");
    }

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(share(0, 0), "");
        assert_eq!(share(9999, 10_000), " (99.9 %)");
        assert_eq!(share(3, 3), " (100.0 %)");
    }
}
