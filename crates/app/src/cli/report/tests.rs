//! A month of a small deployment, from its lines to all three forms. `UPDATE_GOLDEN=1` writes them anew.

use super::*;
use ravelin_model::audit::{AuditEvent, AuditKind, Deed};
use ravelin_model::ledger::{Entry, LedgerKey, encode_event, genesis, link};
use ravelin_model::session::Actor;
use ravelin_model::{SessionId, Time};
use std::collections::BTreeMap;

const DEPLOYMENT: &str = "0123456789abcdef0123456789abcdef";

/// A record with its chain.
struct Record {
    key: LedgerKey,
    head: Digest,
    seq: u64,
    lines: Vec<String>,
}

impl Record {
    fn new() -> Self {
        let key = LedgerKey::from_seed(&[7; 32]).expect("any seed is one");
        let foundation =
            Foundation { deployment: DEPLOYMENT.to_owned(), after: 0, head: genesis(DEPLOYMENT), signature: None };
        let head = foundation.head;
        Self { key, head, seq: 0, lines: vec![lines::head(&foundation)] }
    }

    fn deed(&mut self, at: &str, deed: Deed) {
        let at = at.parse::<Timestamp>().expect("a time").as_microsecond();
        self.seq += 1;
        let event = AuditEvent { seq: self.seq, at: Time::from_micros(at), deed };
        self.head = link(&self.head, &encode_event(&event));
        self.lines.push(lines::event(DEPLOYMENT, &Entry { event, hash: self.head }).to_string());
    }

    fn add(&mut self, at: &str, kind: AuditKind, actor: &str, session: Option<&str>, facts: &[(&str, &str)]) {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let actor = Actor::from_text(actor).expect("an actor");
        let session = session.map(|id| SessionId::parse(id).expect("an id"));
        self.deed(at, Deed { kind, actor, session, facts });
    }

    fn checkpoint(&mut self, at: &str) {
        let deed = self.key.checkpoint(DEPLOYMENT, self.seq, &self.head);
        self.deed(at, deed);
    }

    /// A session to its end; `facts` over those of a plain one.
    fn session(&mut self, day: u32, id: &str, kind: AuditKind, facts: &[(&str, &str)]) {
        let mut all: BTreeMap<&str, &str> = BTreeMap::from([
            ("principal", "alice"),
            ("target", "web-1"),
            ("target_address", "10.0.0.5"),
            ("target_port", "22"),
            ("kind", "shell"),
            ("protocol", "ssh"),
            ("auth", "ssh_key"),
            ("login", "root"),
            ("connected_micros", "1"),
            ("bytes_in", "10"),
            ("bytes_out", "1000"),
            ("end_reason", "client_closed"),
            ("recording_rule", "full"),
        ]);
        all.extend(facts.iter().copied());
        all.retain(|_, value| *value != "-");
        let facts: Vec<(&str, &str)> = all.into_iter().collect();
        let at = |time: &str| format!("2026-11-{day:02}T{time}Z");
        let opened: Vec<_> = facts.iter().copied().filter(|(name, _)| *name != "connected_micros").collect();
        self.add(&at("10:00:00"), AuditKind::SessionOpened, "alice", Some(id), &opened);
        self.add(&at("10:10:00"), kind, "alice", Some(id), &facts);
    }

    /// Somebody ended it, which took so many microseconds.
    fn killed(&mut self, day: u32, id: &str, took: i64) {
        let at = format!("2026-11-{day:02}T10:05:00Z");
        let asked = at.parse::<Timestamp>().expect("a time").as_microsecond();
        let (wish, end) = (asked.to_string(), (asked + took).to_string());
        let facts = [("end_reason", "disconnected_by_operator"), ("asked_micros", wish.as_str())];
        self.add(&at, AuditKind::SessionEnding, "carol", Some(id), &facts);
        let facts =
            [("end_reason", "disconnected_by_operator"), ("ended_micros", end.as_str()), ("recording", "complete")];
        self.session(day, id, AuditKind::SessionEnded, &facts);
    }

    fn read(&self, month: Month) -> Result<Evidence, Failure> {
        let mut reading = Reading::new(month, Some(self.key.public()), "given", true);
        for line in &self.lines {
            let parsed = lines::parse(line.as_bytes()).map_err(Failure::other)?;
            if reading.line(parsed).map_err(Failure::other)? == ControlFlow::Break(()) {
                break;
            }
        }
        reading.finish("record.jsonl".to_owned(), None, now())
    }
}

fn now() -> Timestamp {
    "2026-12-02T08:00:00Z".parse().expect("a time")
}

fn november() -> Month {
    month("2026-11", now()).expect("a month")
}

fn small_deployment() -> Record {
    let mut record = Record::new();
    record.add("2026-10-31T23:59:58Z", AuditKind::NodeStarted, "system", None, &[]);
    record.checkpoint("2026-10-31T23:59:59Z");
    record.session(1, "alice-00000000000000001", AuditKind::SessionEnded, &[("recording", "complete")]);
    // A recording is finished after its session, or fails then.
    record.session(2, "alice-00000000000000002", AuditKind::SessionEnded, &[("recording", "live")]);
    record.add("2026-11-02T10:10:01Z", AuditKind::RecordingKept, "alice", Some("alice-00000000000000002"), &[]);
    record.session(2, "alice-00000000000000003", AuditKind::SessionEnded, &[("recording", "live")]);
    record.add("2026-11-02T10:10:02Z", AuditKind::RecordingBroke, "alice", Some("alice-00000000000000003"), &[]);
    record.session(3, "alice-00000000000000004", AuditKind::SessionEnded, &[("recording", "live"), ("kind", "exec")]);
    // End to end, nothing opened, never reached, missing, not demanded, and of a release before.
    let end_to_end = [("login", "-"), ("kind", "tunnel"), ("target", "db-1"), ("target_address", "10.0.0.9")];
    record.session(4, "alice-00000000000000005", AuditKind::SessionEnded, &end_to_end);
    record.session(4, "alice-00000000000000006", AuditKind::SessionEnded, &[("kind", "tunnel")]);
    let wrong_key = [
        ("connected_micros", "-"),
        ("end_reason", "target_unreachable"),
        ("detail", "its host key is SHA256:bad, and SHA256:good is expected"),
    ];
    record.session(5, "alice-00000000000000007", AuditKind::SessionFailed, &wrong_key);
    record.session(5, "alice-00000000000000008", AuditKind::SessionEnded, &[("target", "a|b`c")]);
    record.session(6, "alice-00000000000000009", AuditKind::SessionEnded, &[("recording_rule", "none")]);
    record.session(6, "alice-0000000000000000a", AuditKind::SessionEnded, &[("recording_rule", "-")]);
    record.killed(7, "alice-0000000000000000b", 3_400);
    record.killed(8, "alice-0000000000000000c", 41_000);
    let untimed = [("end_reason", "disconnected_by_operator")];
    record.add("2026-11-09T10:00:00Z", AuditKind::SessionEnding, "carol", Some("alice-0000000000000000d"), &untimed);
    record.session(9, "alice-0000000000000000d", AuditKind::SessionEnded, &[("recording_rule", "none")]);
    record.add("2026-11-10T10:00:00Z", AuditKind::SessionEnding, "carol", Some("alice-0000000000000000e"), &untimed);
    for number in 0..3 {
        let claimed = if number == 0 { "<script>alert(1)</script>" } else { "root" };
        let facts = [
            ("method", "ssh_key"),
            ("claimed", claimed),
            ("client_address", "192.0.2.66:4000"),
            ("passed_over_before", "5"),
        ];
        record.add("2026-11-11T10:00:00Z", AuditKind::LoginRefused, "system", None, &facts);
    }
    let facts = [("action", "open_shell"), ("target", "db-1")];
    record.add("2026-11-12T10:00:00Z", AuditKind::AccessDenied, "bob", None, &facts);
    record.add("2026-11-30T23:59:59.999999Z", AuditKind::CredentialIssued, "carol", None, &[]);
    record.add("2026-12-01T00:00:00Z", AuditKind::NodeStopped, "system", None, &[]);
    record.checkpoint("2026-12-01T00:01:00Z");
    record.add("2026-12-01T00:02:00Z", AuditKind::NodeStarted, "system", None, &[]);
    record
}

#[test]
fn everything_is_counted_once_and_where_it_belongs() {
    let record = small_deployment();
    let found = record.read(november()).expect("it can be read");
    assert_eq!((found.chain.whole, found.chain.beginning), (true, Some("genesis")));
    // The month's last event is signed by the first checkpoint after the month; what follows is not read.
    assert_eq!(found.chain.last, Some(record.seq - 1));
    assert_eq!((found.record.first, found.record.last), (Some(3), Some(record.seq - 3)));
    assert_eq!((found.record.begins_after, found.record.is_closed, found.period.is_over), (None, true, true));
    let sessions = &found.sessions;
    assert_eq!((sessions.started, sessions.ended, sessions.never_reached), (13, 13, 1));
    assert_eq!(sessions.by_kind.total, 13);
    let kills = &found.kills;
    assert_eq!((kills.asked, kills.confirmed, kills.untimed), (4, 3, 1));
    let latency = kills.latency.as_ref().expect("two were timed");
    assert_eq!((latency.count, latency.p50_ms, latency.p99_ms, latency.max_ms), (2, 4, 41, 41));
    assert_eq!(
        kills.histogram.iter().map(|bucket| bucket.count).collect::<Vec<_>>(),
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let recordings = &found.recordings;
    assert_eq!((recordings.demanded, recordings.not_demanded, recordings.rule_unknown), (10, 2, 1));
    assert_eq!((recordings.never_reached, recordings.nothing_opened, recordings.due), (1, 1, 8));
    assert_eq!(recordings.complete, 4);
    assert_eq!((recordings.failed, recordings.unfinished, recordings.end_to_end, recordings.missing), (1, 1, 1, 1));
    assert_eq!(recordings.not_whole.len(), 4);
    assert_eq!((found.hosts.checked, found.hosts.unchecked.total, found.hosts.wrong_keys), (11, 1, 1));
    assert_eq!((found.refusals.logins, found.refusals.logins_passed_over, found.refusals.accesses), (3, 15, 1));
    assert_eq!(found.events.total, found.record.events);
    assert_eq!(found.days.len(), 30);
    assert_eq!(found.days.iter().map(|day| day.started).sum::<u64>(), 13);
}

#[test]
fn a_part_a_change_and_a_month_without_events_are_told() {
    let record = small_deployment();
    let mut part = small_deployment();
    part.lines.drain(..6);
    let found = part.read(november()).expect("a sink's file may begin anywhere");
    assert_eq!((found.record.begins_after, found.chain.beginning), (Some(5), Some("part")));
    let mut cut = small_deployment();
    cut.lines.truncate(cut.lines.len() - 3);
    let found = cut.read(november()).expect("it can be read");
    assert!(found.chain.whole && !found.record.is_closed);
    assert!(paper::markdown(&found).contains("its end may be missing"));
    let mut changed = small_deployment();
    changed.lines[9] = changed.lines[9].replace("alice", "mallory");
    let found = changed.read(november()).expect("it can be read");
    let fault = found.chain.fault.clone().unwrap_or_default();
    assert!(!found.chain.whole && fault.starts_with("record 9 was changed"), "{fault}");
    assert!(paper::markdown(&found).contains("> **Look at this:** the record is not whole: record 9 was changed"));
    let august = record.read(month("2026-08", now()).expect("a month")).expect("it can be read");
    assert_eq!((august.record.first, august.record.events, august.sessions.started), (None, 0, 0));
    assert!(paper::markdown(&august).contains("| events | none |"));
}

#[test]
fn months_are_of_utc_and_have_begun() {
    let leap = month("2024-02", now()).expect("a month");
    assert_eq!(
        (leap.from.to_string(), leap.before.to_string()),
        ("2024-02-01T00:00:00Z".into(), "2024-03-01T00:00:00Z".into())
    );
    assert_eq!(leap.name(), "2024-02");
    for bad in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "2026-11-01", "2026-+1", "november", "-026-11"] {
        assert!(month(bad, now()).is_err_and(|why| why.contains("such as 2026-11")), "{bad}");
    }
    assert_eq!(month("2027-01", now()), Err("has not begun yet".to_owned()));
}

#[test]
fn all_forms_are_as_they_were() {
    let found = small_deployment().read(november()).expect("it can be read");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report");
    for (name, form) in [("report.md", Form::Markdown), ("report.json", Form::Json), ("report.html", Form::Html)] {
        let text = written(&found, form).expect("it can be written");
        assert!(!text.contains("<script>alert") || form != Form::Html, "a stranger's name is markup");
        let text = text.replace(env!("CARGO_PKG_VERSION"), "{version}");
        let path = folder.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).expect("may be made");
            std::fs::write(&path, &text).expect("may be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, expected, "{name} has changed (UPDATE_GOLDEN=1 accepts it)");
    }
}
