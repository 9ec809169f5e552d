//! Which sessions, in which order: from a [`SessionQuery`] to rows, at a cost that depends on the page and not on the
//! size of the table or the depth of the page.
//!
//! `created` is the table's key, so each index on another column holds, for each value of it, the sessions in the order
//! of every list. Such a run of an index is a [`Stream`]. A page is read in three steps:
//!
//! 1. Each set field of the filter that has an index gives a [`Path`]: one stream per wanted value. When there are
//!    several paths, the one with the fewest sessions is taken; counting stops early, so that it costs little.
//! 2. The path's streams are merged lazily by SQLite and cut at the page's size. Fields that the path does not answer
//!    are checked on the way.
//! 3. The rows themselves are read by key.
//!
//! Two fields have no order by creation in any index. For an end between two times, sessions are kept apart by classes
//! of length (see [`row::span_class`]): within a class the end bounds the creation, so one stream per class, with
//! narrow bounds, reads little that does not match. For the beginning of an id see [`prefix_path`].
//!
//! SQL is put together from the constant texts of this file only; values are always bound.

use super::refusal::from_sqlite;
use super::row::{self, SESSION_COLUMNS, span_bound};
use ravelin_model::query::{Cursor, Order, Page, SessionFilter, SessionQuery};
use ravelin_model::{PrincipalName, Refusal, Session, SessionId, Time};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

/// Streams that one statement merges; more are merged here, statement by statement.
const STREAMS_PER_STATEMENT_MAX: usize = 64;
/// Sessions of a path that are counted before it counts as large.
const COUNTED_MAX: i64 = 1_000;
/// So many ids are read and sorted for one page; a beginning that more of them share is looked for in another way.
const SORTED_IDS_MAX: i64 = 10_000;
/// So many principals whose names begin alike are looked up one by one.
const PRINCIPALS_ALIKE_MAX: usize = 256;

/// One page of sessions.
pub(super) fn sessions(connection: &Connection, query: &SessionQuery) -> Result<Page<Session>, Refusal> {
    if query.limit == 0 || query.limit > SessionQuery::LIMIT_MAX {
        let because = format!("must be 1 to {}, this is {}", SessionQuery::LIMIT_MAX, query.limit);
        return Err(Refusal::invalid("limit", because));
    }
    let limit = query.limit as usize;
    let mut keys = page_keys(connection, query).map_err(from_sqlite)?;
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let items = sessions_at(connection, &keys, query.order)?;
    let next = match items.last() {
        Some(last) if has_more => Some(Cursor { created: last.created, id: last.id().clone() }),
        Some(_) | None => None,
    };
    Ok(Page { items, next })
}

/// The rows of these keys, in their order, which is that of the query.
fn sessions_at(connection: &Connection, keys: &[i64], order: Order) -> Result<Vec<Session>, Refusal> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM sessions WHERE created IN (SELECT value FROM json_each(?1)) ORDER BY created"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let list = serde_json::Value::from_iter(keys.iter().copied()).to_string();
    let mut rows = statement.query([list]).map_err(from_sqlite)?;
    let mut sessions = Vec::with_capacity(keys.len());
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        sessions.push(row::session(row)?);
    }
    if sessions.len() != keys.len() {
        // INVARIANT: a page is read in one snapshot, so a key found there leads to a row.
        let because = format!("an index of the sessions names {} rows, {} are there", keys.len(), sessions.len());
        return Err(Refusal::internal(because));
    }
    if order == Order::NewestFirst {
        sessions.reverse();
    }
    Ok(sessions)
}

/// The keys of the page, in order, and one more when more sessions follow.
fn page_keys(connection: &Connection, query: &SessionQuery) -> rusqlite::Result<Vec<i64>> {
    let filter = &query.filter;
    let between = match bounds(connection, query)? {
        Some(between) => between,
        None => return Ok(Vec::new()),
    };
    let target_ids = match &filter.target {
        Some(name) => Some(target_ids(connection, name)?),
        None => None,
    };
    let conditions = conditions(filter, target_ids.as_deref());
    let paths = paths(connection, filter, target_ids.as_deref())?;
    let path = shortest(connection, paths, between)?;
    let open: Vec<&Condition> = conditions.iter().filter(|condition| path.answers != Some(condition.field)).collect();

    let wanted = query.limit as usize + 1;
    let mut keys = Vec::with_capacity(wanted);
    for streams in path.streams.chunks(STREAMS_PER_STATEMENT_MAX) {
        let sql = merged(streams, between, &open, query);
        let mut statement = connection.prepare_cached(&sql.text)?;
        let found = statement.query_map(params_from_iter(sql.values), |row| row.get::<_, i64>(0))?;
        for key in found {
            keys.push(key?);
        }
    }
    match query.order {
        Order::NewestFirst => keys.sort_unstable_by(|a, b| b.cmp(a)),
        Order::OldestFirst => keys.sort_unstable(),
    }
    keys.dedup();
    keys.truncate(wanted);
    Ok(keys)
}

/// The statement that reads the first keys of all these streams together.
fn merged(streams: &[Stream], between: Between, conditions: &[&Condition], query: &SessionQuery) -> Sql {
    let mut sql = Sql::default();
    for (i, stream) in streams.iter().enumerate() {
        if i > 0 {
            // Not UNION ALL: an id may begin as asked for and so may its hex part.
            sql.text.push_str(" UNION ");
        }
        sql.select(stream, between, conditions);
    }
    sql.text.push_str(match query.order {
        Order::NewestFirst => " ORDER BY key DESC LIMIT ?",
        Order::OldestFirst => " ORDER BY key ASC LIMIT ?",
    });
    sql.values.push(Value::from(i64::from(query.limit) + 1));
    sql
}

/// Keys from the first to the last of these, both included.
#[derive(Clone, Copy, Debug)]
struct Between {
    first: i64,
    last: i64,
}

/// The keys that the times and the cursor leave; `None` when they leave none.
fn bounds(connection: &Connection, query: &SessionQuery) -> rusqlite::Result<Option<Between>> {
    let mut first = query.filter.created_from.map_or(i64::MIN, Time::as_micros);
    let mut last = match query.filter.created_before.map(Time::as_micros) {
        None => i64::MAX,
        Some(i64::MIN) => return Ok(None),
        Some(before) => before - 1,
    };
    // No session ends before it was created, nor lasts longer than the longest one did.
    if let Some(before) = query.filter.ended_before {
        last = last.min(before.as_micros());
    }
    if let Some(from) = query.filter.ended_from {
        first = first.max(from.as_micros().saturating_sub(longest(connection)?));
    }
    if let Some(Cursor { created, id }) = &query.after {
        let created = created.as_micros();
        let at_place: Option<String> = connection
            .prepare_cached("SELECT id FROM sessions WHERE created = ?1")?
            .query_row([created], |row| row.get(0))
            .optional()?;
        // A creation time belongs to one session at most; the id of the cursor decides whether it was seen.
        let (is_ahead, step) = match query.order {
            Order::NewestFirst => (at_place.is_some_and(|at| at.as_str() < id.as_str()), -1),
            Order::OldestFirst => (at_place.is_some_and(|at| at.as_str() > id.as_str()), 1),
        };
        let Some(next) = (if is_ahead { Some(created) } else { created.checked_add(step) }) else {
            return Ok(None);
        };
        match query.order {
            Order::NewestFirst => last = last.min(next),
            Order::OldestFirst => first = first.max(next),
        }
    }
    Ok((first <= last).then_some(Between { first, last }))
}

/// No session in the table lasted longer than this many microseconds.
fn longest(connection: &Connection) -> rusqlite::Result<i64> {
    let class: Option<u32> = connection
        .prepare_cached("SELECT max(span) FROM sessions INDEXED BY sessions_span WHERE span IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    Ok(class.map_or(0, span_bound))
}

/// Every target that ever bore the name, by id.
fn target_ids(connection: &Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT target_id FROM target_names WHERE name = ?1")?
        .query_map([name.to_lowercase()], |row| row.get(0))?
        .collect()
}

/// A field of the filter, other than the bounds of the creation time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Ids,
    Prefix,
    Client,
    Ended,
    Label,
    Tag,
    Target,
    Principals,
    Actor,
    Login,
    EndReasons,
    States,
    Kind,
    Node,
    Protocol,
}

/// What a row must fulfil, in SQL.
struct Condition {
    field: Field,
    text: &'static str,
    values: Vec<Value>,
}

/// One condition for each field that is set.
fn conditions(filter: &SessionFilter, target_ids: Option<&[String]>) -> Vec<Condition> {
    let mut all = Vec::new();
    let mut add = |field, text, values| all.push(Condition { field, text, values });
    // A set is bound as one JSON list, so that its size does not make another statement of it.
    if !filter.ids.is_empty() {
        let ids = list(filter.ids.iter().map(SessionId::as_str));
        add(Field::Ids, "s.id IN (SELECT value FROM json_each(?))", vec![ids]);
    }
    if let Some(prefix) = prefix(filter) {
        let length = Value::from(prefix.chars().count() as i64);
        let text = Value::from(prefix.to_owned());
        let values = vec![length.clone(), text.clone(), length, text];
        add(Field::Prefix, "(substr(s.id, 1, ?) = ? OR substr(s.hex, 1, ?) = ?)", values);
    }
    if let Some(client) = filter.client {
        add(Field::Client, "s.client_ip = ?", vec![client.to_string().into()]);
    }
    if filter.ended_from.is_some() || filter.ended_before.is_some() {
        let (from, before) = ended_bounds(filter);
        // `<` alone would leave out an end at the very end of time when no upper bound is set.
        let text = "s.ended >= ? AND (s.ended < ? OR ?)";
        add(Field::Ended, text, vec![from.into(), before.into(), filter.ended_before.is_none().into()]);
    }
    if let Some((key, value)) = &filter.label {
        let text =
            "EXISTS (SELECT 1 FROM session_labels AS o WHERE o.key = ? AND o.value = ? AND o.created = s.created)";
        add(Field::Label, text, vec![key.clone().into(), value.clone().into()]);
    }
    if let Some((key, value)) = &filter.tag {
        let text = "EXISTS (SELECT 1 FROM session_tags AS o WHERE o.key = ? AND o.value = ? AND o.created = s.created)";
        add(Field::Tag, text, vec![key.clone().into(), value.clone().into()]);
    }
    if let Some(ids) = target_ids {
        let ids = list(ids.iter().map(String::as_str));
        add(Field::Target, "s.target_id IN (SELECT value FROM json_each(?))", vec![ids]);
    }
    if !filter.principals.is_empty() {
        let names = list(filter.principals.iter().map(PrincipalName::as_str));
        add(Field::Principals, "s.principal IN (SELECT value FROM json_each(?))", vec![names]);
    }
    if let Some(actor) = &filter.actor {
        add(Field::Actor, "s.end_actor = ?", vec![actor.clone().into()]);
    }
    if let Some(login) = &filter.login {
        add(Field::Login, "s.login = ?", vec![login.to_string().into()]);
    }
    if !filter.end_reasons.is_empty() {
        let words = list(filter.end_reasons.iter().map(|reason| reason.word()));
        add(Field::EndReasons, "s.end_reason IN (SELECT value FROM json_each(?))", vec![words]);
    }
    if !filter.states.is_empty() {
        let words = list(filter.states.iter().map(|state| state.word()));
        add(Field::States, "s.state IN (SELECT value FROM json_each(?))", vec![words]);
    }
    if let Some(kind) = filter.kind {
        add(Field::Kind, "s.kind = ?", vec![kind.word().to_owned().into()]);
    }
    if let Some(node) = &filter.node {
        add(Field::Node, "s.node = ?", vec![node.to_string().into()]);
    }
    if let Some(protocol) = filter.protocol {
        add(Field::Protocol, "s.protocol = ?", vec![protocol.word().to_owned().into()]);
    }
    all
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    Value::from(serde_json::Value::from_iter(words).to_string())
}

fn prefix(filter: &SessionFilter) -> Option<&str> {
    filter.id_prefix.as_deref().filter(|prefix| !prefix.is_empty())
}

fn ended_bounds(filter: &SessionFilter) -> (i64, i64) {
    (filter.ended_from.map_or(i64::MIN, Time::as_micros), filter.ended_before.map_or(i64::MAX, Time::as_micros))
}

/// A run of an index.
#[derive(Debug)]
struct Stream {
    source: Source,
    /// What picks the run, and what else the index itself can tell.
    text: &'static str,
    values: Vec<Value>,
    /// Bounds of the key beyond those of the query.
    between: Option<Between>,
}

/// Where a stream's keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The table, or the index named so, with the table as `s`.
    Sessions(&'static str),
    /// The side table named so, as `p`.
    Pairs(&'static str),
}

/// Streams that together hold each session which fulfils one field, or all sessions.
#[derive(Debug)]
struct Path {
    /// The field which needs no check any more.
    answers: Option<Field>,
    streams: Vec<Stream>,
}

impl Path {
    fn whole_table() -> Self {
        let source = Source::Sessions("sessions AS s NOT INDEXED");
        Self { answers: None, streams: vec![Stream { source, text: "TRUE", values: Vec::new(), between: None }] }
    }
}

/// One path for each field that is set and has an index; on equal length the earlier one is to be preferred.
fn paths(
    connection: &Connection,
    filter: &SessionFilter,
    target_ids: Option<&[String]>,
) -> rusqlite::Result<Vec<Path>> {
    let mut all = Vec::new();
    let mut add = |field, index, text, values: Vec<String>| {
        let stream =
            |value: String| Stream { source: Source::Sessions(index), text, values: vec![value.into()], between: None };
        all.push(Path { answers: Some(field), streams: values.into_iter().map(stream).collect() });
    };
    if !filter.ids.is_empty() {
        let ids = filter.ids.iter().map(ToString::to_string).collect();
        add(Field::Ids, "sessions AS s INDEXED BY sessions_id", "s.id = ?", ids);
    }
    if let Some(client) = filter.client {
        let values = vec![client.to_string()];
        add(Field::Client, "sessions AS s INDEXED BY sessions_client", "s.client_ip = ?", values);
    }
    if let Some(ids) = target_ids {
        add(Field::Target, "sessions AS s INDEXED BY sessions_target", "s.target_id = ?", ids.to_vec());
    }
    if !filter.principals.is_empty() {
        let names = filter.principals.iter().map(ToString::to_string).collect();
        add(Field::Principals, PRINCIPAL_INDEX, PRINCIPAL_IS, names);
    }
    if let Some(actor) = &filter.actor {
        let values = vec![actor.clone()];
        add(Field::Actor, "sessions AS s INDEXED BY sessions_end_actor", "s.end_actor = ?", values);
    }
    if let Some(login) = &filter.login {
        let values = vec![login.to_string()];
        add(Field::Login, "sessions AS s INDEXED BY sessions_login", "s.login = ?", values);
    }
    if !filter.end_reasons.is_empty() {
        let words = filter.end_reasons.iter().map(ToString::to_string).collect();
        add(Field::EndReasons, "sessions AS s INDEXED BY sessions_end_reason", "s.end_reason = ?", words);
    }
    if !filter.states.is_empty() {
        let words = filter.states.iter().map(ToString::to_string).collect();
        add(Field::States, "sessions AS s INDEXED BY sessions_state", "s.state = ?", words);
    }
    if let Some(kind) = filter.kind {
        add(Field::Kind, "sessions AS s INDEXED BY sessions_kind", "s.kind = ?", vec![kind.to_string()]);
    }
    if let Some(node) = &filter.node {
        add(Field::Node, "sessions AS s INDEXED BY sessions_node", "s.node = ?", vec![node.to_string()]);
    }
    if let Some(protocol) = filter.protocol {
        let values = vec![protocol.to_string()];
        add(Field::Protocol, "sessions AS s INDEXED BY sessions_protocol", "s.protocol = ?", values);
    }
    for (field, table, pair) in
        [(Field::Label, "session_labels AS p", &filter.label), (Field::Tag, "session_tags AS p", &filter.tag)]
    {
        if let Some((key, value)) = pair {
            let values = vec![key.clone().into(), value.clone().into()];
            let stream =
                Stream { source: Source::Pairs(table), text: "p.key = ? AND p.value = ?", values, between: None };
            all.push(Path { answers: Some(field), streams: vec![stream] });
        }
    }
    if filter.ended_from.is_some() || filter.ended_before.is_some() {
        all.push(ended_path(filter));
    }
    if let Some(prefix) = prefix(filter) {
        all.extend(prefix_path(connection, prefix)?);
    }
    Ok(all)
}

const PRINCIPAL_INDEX: &str = "sessions AS s INDEXED BY sessions_principal";
const PRINCIPAL_IS: &str = "s.principal = ?";

/// One stream for each class of length. A session of class n is shorter than 4^n seconds and, but for the first, not
/// shorter than 4^(n-1): so one that ended between two times was created between two others, not far from them.
fn ended_path(filter: &SessionFilter) -> Path {
    let (from, before) = ended_bounds(filter);
    let stream = |class: u32| {
        let shortest = if class == 0 { 0 } else { span_bound(class - 1) };
        let first = if from == i64::MIN { from } else { from.saturating_sub(span_bound(class)) };
        let last = if before == i64::MAX { before } else { before.saturating_sub(shortest) };
        Stream {
            source: Source::Sessions("sessions AS s INDEXED BY sessions_span"),
            text: "s.span = ? AND s.ended >= ? AND (s.ended < ? OR ?)",
            values: vec![class.into(), from.into(), before.into(), filter.ended_before.is_none().into()],
            between: Some(Between { first, last }),
        }
    };
    Path { answers: Some(Field::Ended), streams: (0..row::SPAN_CLASSES).map(stream).collect() }
}

/// How to find ids that begin with `prefix`, or whose hex part does; `None` when walking over all sessions is best.
///
/// An index on ids is not in the order of creation, so what it finds has to be sorted: good when that is not too much.
/// When it is, an id begins as asked for because its principal's name does, and the index on principals has the
/// order. Hex digits are random: a beginning which many of them share turns up everywhere, so a walk finds it soon.
fn prefix_path(connection: &Connection, prefix: &str) -> rusqlite::Result<Option<Path>> {
    let run = |source, text| Stream {
        source: Source::Sessions(source),
        text,
        // No text that begins with the prefix sorts behind the prefix and the last character there is.
        values: vec![prefix.to_owned().into(), format!("{prefix}{}", char::MAX).into()],
        between: None,
    };
    let all = Between { first: i64::MIN, last: i64::MAX };
    let by_hex = run("sessions AS s INDEXED BY sessions_hex", "s.hex >= ? AND s.hex < ?");
    if count(connection, &by_hex, all, SORTED_IDS_MAX)? >= SORTED_IDS_MAX {
        return Ok(None);
    }
    let by_id = run("sessions AS s INDEXED BY sessions_id", "s.id >= ? AND s.id < ?");
    if count(connection, &by_id, all, SORTED_IDS_MAX)? < SORTED_IDS_MAX {
        return Ok(Some(Path { answers: Some(Field::Prefix), streams: vec![by_id, by_hex] }));
    }
    let Some(names) = principals_with_ids_like(connection, prefix)? else {
        return Ok(None);
    };
    let by_principal = names.into_iter().map(|name| Stream {
        source: Source::Sessions(PRINCIPAL_INDEX),
        text: PRINCIPAL_IS,
        values: vec![name.into()],
        between: None,
    });
    // Not every id of these principals begins so: the field stays to be checked.
    Ok(Some(Path { answers: None, streams: by_principal.chain([by_hex]).collect() }))
}

/// Principals whose sessions' ids may begin with `prefix`; `None` when they are too many.
fn principals_with_ids_like(connection: &Connection, prefix: &str) -> rusqlite::Result<Option<Vec<String>>> {
    // The prefix may reach into the hex digits: `alice-07a` and, since a name may hold hyphens, `alice-b-07a`.
    let mut names: Vec<String> = prefix.match_indices('-').map(|(at, _)| prefix[..at].to_owned()).collect();
    let mut statement = connection
        .prepare_cached("SELECT min(principal) FROM sessions INDEXED BY sessions_principal WHERE principal >= ?1")?;
    let mut from = prefix.to_owned();
    loop {
        let name: Option<String> = statement.query_row([&from], |row| row.get(0))?;
        match name {
            Some(name) if name.starts_with(prefix) => {
                // The least text that sorts behind the name.
                from = format!("{name}\0");
                names.push(name);
            }
            Some(_) | None => break,
        }
        if names.len() > PRINCIPALS_ALIKE_MAX {
            return Ok(None);
        }
    }
    Ok(Some(names))
}

/// The path with the fewest sessions, the first one when several are large; all sessions when there is no path.
fn shortest(connection: &Connection, mut paths: Vec<Path>, between: Between) -> rusqlite::Result<Path> {
    let mut best = (0, i64::MAX);
    if paths.len() > 1 {
        for (i, path) in paths.iter().enumerate() {
            let most = best.1.min(COUNTED_MAX);
            let mut counted = 0;
            for stream in &path.streams {
                counted += count(connection, stream, between, most - counted)?;
                if counted >= most {
                    break;
                }
            }
            if counted < best.1 {
                best = (i, counted);
            }
            if counted == 0 {
                break;
            }
        }
    }
    Ok(if paths.is_empty() { Path::whole_table() } else { paths.swap_remove(best.0) })
}

/// How many sessions a stream holds; counting stops at `most`.
fn count(connection: &Connection, stream: &Stream, between: Between, most: i64) -> rusqlite::Result<i64> {
    let mut sql = Sql::default();
    sql.text.push_str("SELECT count(*) FROM (");
    sql.select(stream, between, &[]);
    sql.text.push_str(" LIMIT ?)");
    sql.values.push(Value::from(most));
    connection.prepare_cached(&sql.text)?.query_row(params_from_iter(sql.values), |row| row.get(0))
}

/// A statement under construction: constant texts, and the values of its question marks in their order.
#[derive(Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// The keys of a stream between two keys, of sessions that fulfil all `conditions`.
    fn select(&mut self, stream: &Stream, between: Between, conditions: &[&Condition]) {
        let key = match stream.source {
            Source::Sessions(from) => {
                self.text.push_str("SELECT s.created AS key FROM ");
                self.text.push_str(from);
                "s.created"
            }
            Source::Pairs(from) => {
                self.text.push_str("SELECT p.created AS key FROM ");
                self.text.push_str(from);
                if !conditions.is_empty() {
                    // CROSS JOIN keeps the order of the tables.
                    self.text.push_str(" CROSS JOIN sessions AS s ON s.created = p.created");
                }
                "p.created"
            }
        };
        let (first, last) = match stream.between {
            None => (between.first, between.last),
            Some(own) => (between.first.max(own.first), between.last.min(own.last)),
        };
        self.text.push_str(" WHERE ");
        self.text.push_str(stream.text);
        self.values.extend(stream.values.iter().cloned());
        self.text.push_str(" AND ");
        self.text.push_str(key);
        self.text.push_str(" BETWEEN ? AND ?");
        self.values.extend([Value::from(first), Value::from(last)]);
        for condition in conditions {
            self.text.push_str(" AND ");
            self.text.push_str(condition.text);
            self.values.extend(condition.values.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SqliteConfig;
    use super::super::file::{self, Durability};
    use super::*;
    use ravelin_model::session::{EndReason, Kind, State};
    use ravelin_model::target::Protocol;
    use ravelin_model::{Login, NodeId};

    /// SQLite's own words on how it would run a statement.
    fn plan(connection: &Connection, sql: &Sql) -> Vec<String> {
        connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text))
            .and_then(|mut statement| {
                statement.query_map(params_from_iter(sql.values.clone()), |row| row.get("detail"))?.collect()
            })
            .expect("the statement is valid")
    }

    #[test]
    fn no_path_sorts_or_reads_a_row_in_vain() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = SqliteConfig::new(directory.path().join("store.db"));
        let connection = file::open(&config, Durability::None).expect("a new store opens").writing;
        let any = SessionFilter::default;
        let name = |text| PrincipalName::parse(text).expect("a valid name");
        let pair = Some(("k".to_owned(), "v".to_owned()));
        let single_fields = [
            SessionFilter { states: [State::Failed, State::Connected].into(), ..any() },
            SessionFilter { principals: [name("a"), name("b"), name("c")].into(), ..any() },
            SessionFilter { target: Some("t".to_owned()), ..any() },
            SessionFilter { ids: [SessionId::new(&name("a"), 1)].into(), ..any() },
            SessionFilter { kind: Some(Kind::Exec), ..any() },
            SessionFilter { protocol: Some(Protocol::Rdp), ..any() },
            SessionFilter { login: Some(Login::parse("root").expect("a valid login")), ..any() },
            SessionFilter { client: Some([192, 0, 2, 1].into()), ..any() },
            SessionFilter { node: Some(NodeId::new(1)), ..any() },
            SessionFilter { end_reasons: EndReason::ALL.iter().copied().collect(), ..any() },
            SessionFilter { actor: Some("system".to_owned()), ..any() },
            SessionFilter { label: pair.clone(), ..any() },
            SessionFilter { tag: pair, ..any() },
            SessionFilter { ended_from: Some(Time::EPOCH), ended_before: Some(Time::MAX), ..any() },
        ];
        let between = Between { first: 0, last: 1 };
        let target_ids = ["tgt-1".to_owned(), "tgt-2".to_owned()];
        let kind = Condition { field: Field::Kind, text: "s.kind = ?", values: vec!["exec".to_owned().into()] };
        for filter in single_fields {
            let ids = filter.target.is_some().then_some(target_ids.as_slice());
            let mut paths = paths(&connection, &filter, ids).expect("the store answers");
            let path = paths.pop().expect("each of these fields has a path");
            assert!(paths.is_empty() && path.answers.is_some());
            for order in [Order::NewestFirst, Order::OldestFirst] {
                let query = SessionQuery { order, ..SessionQuery::first(filter.clone(), 50) };
                for detail in plan(&connection, &merged(&path.streams, between, &[], &query)) {
                    let is_bounded = !detail.contains("TEMP B-TREE") && !detail.starts_with("SCAN");
                    assert!(is_bounded, "{filter:?}: {detail}");
                    let reads = detail.starts_with("SEARCH");
                    assert!(
                        !reads || detail.contains("COVERING") || detail.contains("PRIMARY KEY"),
                        "{filter:?}: {detail}"
                    );
                }
                for detail in plan(&connection, &merged(&path.streams, between, &[&kind], &query)) {
                    assert!(!detail.contains("TEMP B-TREE"), "{filter:?} and a kind: {detail}");
                }
            }
        }
        let rows = Sql {
            text: format!(
                "SELECT {SESSION_COLUMNS} FROM sessions WHERE created IN (SELECT value FROM json_each(?1)) \
                 ORDER BY created"
            ),
            values: vec!["[1,2]".to_owned().into()],
        };
        let details = plan(&connection, &rows);
        assert!(details.iter().any(|detail| detail.contains("sessions USING INTEGER PRIMARY KEY")), "{details:?}");
        assert!(details.iter().all(|detail| !detail.contains("TEMP B-TREE")), "{details:?}");
        let whole = Path::whole_table();
        let query = SessionQuery::first(any(), 50);
        let details = plan(&connection, &merged(&whole.streams, between, &[&kind], &query));
        assert!(details.iter().all(|detail| detail.contains("INTEGER PRIMARY KEY")), "{details:?}");
    }
}
