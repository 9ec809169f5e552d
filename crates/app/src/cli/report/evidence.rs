//! What the record says of a month, counted event by event.
//!
//! Memory does not grow with the month: names are counted up to [`Tally::NAMES_MAX`] of a kind, lists have an end, and a
//! session is remembered only while something about it is still to come, at most [`Counting::OPEN_MAX`] at a time.
//! What did not fit is counted all the same, and said.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ravelin_model::Time;
use ravelin_model::audit::AuditKind;
use ravelin_model::ledger::Digest;
use ravelin_model::session::EndReason;
use ravelin_sinks::lines::{Told, stamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Everything that a report says; its JSON form is this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Evidence {
    /// The form's version.
    pub(crate) ravelin_evidence: u32,
    pub(crate) month: String,
    pub(crate) period: Period,
    pub(crate) made: Made,
    pub(crate) record: Extent,
    pub(crate) chain: ChainStatus,
    pub(crate) sessions: Sessions,
    pub(crate) kills: Kills,
    pub(crate) recordings: Recordings,
    pub(crate) hosts: Hosts,
    pub(crate) refusals: Refusals,
    /// Events by kind.
    pub(crate) events: Ranking,
    /// Day by day.
    pub(crate) days: Vec<Day>,
}

/// What is reported on: UTC, the end not included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Period {
    pub(crate) from: String,
    pub(crate) before: String,
    /// Whether the month was over when the report was made.
    pub(crate) is_over: bool,
}

/// Where the report comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Made {
    pub(crate) at: String,
    pub(crate) version: String,
    /// The bastion's address, or the files.
    pub(crate) source: String,
    /// As whom the bastion was asked.
    pub(crate) principal: Option<String>,
}

/// The stretch of the record that the report rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Extent {
    pub(crate) deployment: String,
    /// The first event of the month; null when there is none.
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    pub(crate) events: u64,
    /// The last one's hash.
    pub(crate) head: Option<String>,
    /// When what was read begins within the month: the number of the event before, which was not there to be read.
    pub(crate) begins_after: Option<u64>,
    /// Whether a later event was read too, so that nothing of the month can follow.
    pub(crate) is_closed: bool,
}

/// What the verification of the chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ChainStatus {
    pub(crate) whole: bool,
    pub(crate) fault: Option<String>,
    /// `genesis`, `signed_cut` or `part`.
    pub(crate) beginning: Option<&'static str>,
    /// What was verified: the month, and what follows it up to the next checkpoint.
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<u64>,
    pub(crate) checkpoints: Option<u64>,
    pub(crate) signed_through: Option<u64>,
    /// The key that the checkpoints were held against; null when there is no checkpoint.
    pub(crate) key: Option<String>,
    /// `given`, or `record` when the record's own checkpoints name it.
    pub(crate) key_from: &'static str,
}

/// Sessions. Each is counted in the month in which the record says that it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Sessions {
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// Of those that ended: how many never reached their target.
    pub(crate) never_reached: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) by_kind: Ranking,
    pub(crate) by_protocol: Ranking,
    pub(crate) by_principal: Ranking,
    pub(crate) by_target: Ranking,
    pub(crate) by_proof: Ranking,
    pub(crate) end_reasons: Ranking,
}

/// Ends that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kills {
    pub(crate) asked: u64,
    /// Those whose sockets are closed, by the record of the month.
    pub(crate) confirmed: u64,
    pub(crate) by_actor: Ranking,
    /// From the wish to the moment when both sockets were closed; null when none was timed.
    pub(crate) latency: Option<Latency>,
    /// Confirmed ones without the time of the wish, which earlier releases did not note.
    pub(crate) untimed: u64,
    pub(crate) histogram: Vec<Bucket>,
}

/// Percentiles by nearest rank, in whole milliseconds, rounded up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_ms: u64,
    pub(crate) p90_ms: u64,
    pub(crate) p99_ms: u64,
    pub(crate) max_ms: u64,
}

/// Kills that took at most so long, and longer than the bucket before says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    /// Null for the last one, which has no end.
    pub(crate) up_to_ms: Option<u64>,
    pub(crate) count: u64,
}

/// Recordings of the sessions that ended in the month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Recordings {
    /// Sessions whose target's rule demands a recording.
    pub(crate) demanded: u64,
    pub(crate) not_demanded: u64,
    /// Sessions of a release that did not note the rule, and without a recording.
    pub(crate) rule_unknown: u64,
    /// Of the demanded: there was something to record.
    pub(crate) due: u64,
    pub(crate) complete: u64,
    pub(crate) failed: u64,
    /// Not finished by the end of what was read.
    pub(crate) unfinished: u64,
    /// End to end through the bastion, which only the two ends can read.
    pub(crate) end_to_end: u64,
    /// Was due, and there is none. Must be 0.
    pub(crate) missing: u64,
    /// Nothing to record: the target was never reached.
    pub(crate) never_reached: u64,
    /// Nothing to record: nothing was opened.
    pub(crate) nothing_opened: u64,
    pub(crate) by_target: Vec<Coverage>,
    /// Targets beyond those that are listed.
    pub(crate) targets_unlisted: u64,
    /// Sessions whose recording was due and is not whole, as far as the list goes.
    pub(crate) not_whole: Vec<NotWhole>,
    pub(crate) not_whole_unlisted: u64,
    /// What was done with recordings, by kind of event.
    pub(crate) deeds: Ranking,
}

/// Recordings of one target's sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Coverage {
    pub(crate) target: String,
    pub(crate) due: u64,
    pub(crate) complete: u64,
}

/// A session without a whole recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NotWhole {
    pub(crate) session: String,
    pub(crate) principal: String,
    pub(crate) target: String,
    /// `failed`, `unfinished`, `end_to_end` or `missing`.
    pub(crate) why: &'static str,
}

/// How it is known that targets were the machines that they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Hosts {
    /// Sessions in which Ravelin logged in, after the target's host key was found to be a pinned one.
    pub(crate) checked: u64,
    /// Sessions in which it passed bytes on without seeing a host key: whoever connected had to check it.
    pub(crate) unchecked: Ranking,
    /// Sessions that were refused because the target showed another key than the pinned ones.
    pub(crate) wrong_keys: u64,
    pub(crate) wrong: Vec<WrongKey>,
}

/// A target that showed another key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WrongKey {
    pub(crate) at: String,
    pub(crate) session: String,
    pub(crate) target: String,
    pub(crate) address: String,
    pub(crate) detail: String,
}

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Refusals {
    pub(crate) logins: u64,
    /// Further ones that were only counted, because one place sent too many.
    pub(crate) logins_passed_over: u64,
    pub(crate) by_method: Ranking,
    pub(crate) by_client: Ranking,
    pub(crate) by_claimed: Ranking,
    pub(crate) accesses: u64,
    pub(crate) accesses_passed_over: u64,
    pub(crate) by_action: Ranking,
    pub(crate) by_principal: Ranking,
}

/// A day of the month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Day {
    pub(crate) day: String,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) kills: u64,
    pub(crate) logins_refused: u64,
}

/// Names with how often each came, the most frequent first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ranking {
    pub(crate) total: u64,
    pub(crate) rows: Vec<Row>,
    /// What is counted in `total` and under no row.
    pub(crate) others: u64,
}

/// A name and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) count: u64,
}

/// Counts by name, up to a number of names: some of them are whatever a stranger sends.
#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<String, u64>,
    beyond: u64,
}

impl Tally {
    /// Names that are told from each other.
    const NAMES_MAX: usize = 10_000;
    /// Rows of a report.
    const ROWS_MAX: usize = 50;

    fn add(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
        } else if self.counts.len() < Self::NAMES_MAX {
            self.counts.insert(name.to_owned(), 1);
        } else {
            self.beyond += 1;
        }
    }

    fn ranking(self) -> Ranking {
        let mut rows: Vec<Row> = self.counts.into_iter().map(|(name, count)| Row { name, count }).collect();
        rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        let unlisted: u64 = rows.iter().skip(Self::ROWS_MAX).map(|row| row.count).sum();
        let total = rows.iter().map(|row| row.count).sum::<u64>() + self.beyond;
        rows.truncate(Self::ROWS_MAX);
        Ranking { total, rows, others: unlisted + self.beyond }
    }
}

/// A recording that was not finished when its session ended.
#[derive(Debug)]
struct Unfinished {
    principal: String,
    target: String,
}

/// Counts the events of a period.
#[derive(Debug)]
pub(crate) struct Counting {
    from: Time,
    before: Time,
    extent: Extent,
    is_preceded: bool,
    started: u64,
    never_reached: u64,
    bytes_in: u64,
    bytes_out: u64,
    by_kind: Tally,
    by_protocol: Tally,
    by_principal: Tally,
    by_target: Tally,
    by_proof: Tally,
    end_reasons: Tally,
    kills: Tally,
    confirmed: u64,
    untimed: u64,
    /// Kills on their way: the session, and when its end was asked for.
    killing: BTreeMap<String, Option<Time>>,
    /// How many kills took so many milliseconds.
    took: BTreeMap<u64, u64>,
    took_max: u64,
    recordings: Recordings,
    coverage: BTreeMap<String, Coverage>,
    unfinished: BTreeMap<String, Unfinished>,
    recording_deeds: Tally,
    checked: u64,
    unchecked: Tally,
    wrong_keys: u64,
    wrong: Vec<WrongKey>,
    logins_passed_over: u64,
    by_method: Tally,
    by_client: Tally,
    by_claimed: Tally,
    accesses_passed_over: u64,
    by_action: Tally,
    denied: Tally,
    events: Tally,
    days: Vec<Day>,
}

impl Counting {
    /// Sessions about which something is still to come, of each kind of thing.
    const OPEN_MAX: usize = 100_000;
    /// Sessions of a list.
    const LISTED_MAX: usize = 100;
    /// Longer kills count as this long in all but the maximum, in milliseconds.
    const TOOK_MAX: u64 = 3_600_000;
    /// Ends of the histogram's buckets, in milliseconds.
    const BUCKETS: [u64; 10] = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

    /// For the period from `from` on and before `before`.
    pub(crate) fn new(from: Timestamp, before: Timestamp) -> Self {
        let days = (0..).map_while(|day| {
            let at = from.checked_add(jiff::SignedDuration::from_hours(24 * day)).ok()?;
            (at < before).then(|| Day {
                day: at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string(),
                started: 0,
                ended: 0,
                kills: 0,
                logins_refused: 0,
            })
        });
        Self {
            from: Time::from_micros(from.as_microsecond()),
            before: Time::from_micros(before.as_microsecond()),
            days: days.collect(),
            extent: Extent::default(),
            is_preceded: false,
            started: 0,
            never_reached: 0,
            bytes_in: 0,
            bytes_out: 0,
            by_kind: Tally::default(),
            by_protocol: Tally::default(),
            by_principal: Tally::default(),
            by_target: Tally::default(),
            by_proof: Tally::default(),
            end_reasons: Tally::default(),
            kills: Tally::default(),
            confirmed: 0,
            untimed: 0,
            killing: BTreeMap::new(),
            took: BTreeMap::new(),
            took_max: 0,
            recordings: Recordings::default(),
            coverage: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            recording_deeds: Tally::default(),
            checked: 0,
            unchecked: Tally::default(),
            wrong_keys: 0,
            wrong: Vec::new(),
            logins_passed_over: 0,
            by_method: Tally::default(),
            by_client: Tally::default(),
            by_claimed: Tally::default(),
            accesses_passed_over: 0,
            by_action: Tally::default(),
            denied: Tally::default(),
            events: Tally::default(),
        }
    }

    /// The number of the last event of the period so far.
    pub(crate) fn last(&self) -> Option<u64> {
        self.extent.last
    }

    /// Whether an event after the period came.
    pub(crate) fn is_closed(&self) -> bool {
        self.extent.is_closed
    }

    /// Notes that an event before the period is known, so that nothing is missing at its beginning.
    pub(crate) fn preceded(&mut self) {
        self.is_preceded = true;
    }

    /// Takes in an event, whatever its time.
    pub(crate) fn event(&mut self, seq: u64, hash: Option<Digest>, told: &Told) {
        if told.at < self.from {
            self.preceded();
            return;
        }
        if told.at >= self.before {
            self.extent.is_closed = true;
            return;
        }
        self.extent.first.get_or_insert(seq);
        self.extent.last = Some(seq);
        self.extent.head = hash.map(|hash| hash.to_string());
        self.extent.events += 1;
        self.events.add(&told.kind);
        let into_period = told.at.since(self.from).as_secs();
        let day = usize::try_from(into_period / 86_400).ok();
        let Some(kind) = AuditKind::from_word(&told.kind) else { return };
        let fact = |name: &str| told.facts.get(name).map_or("", String::as_str);
        let session = told.session.as_deref().unwrap_or_default();
        let passed_over: u64 = fact("passed_over_before").parse().unwrap_or(0);
        let mut on_day = |change: fn(&mut Day)| {
            if let Some(day) = day.and_then(|day| self.days.get_mut(day)) {
                change(day);
            }
        };
        match kind {
            AuditKind::SessionOpened => {
                self.started += 1;
                on_day(|day| day.started += 1);
            }
            AuditKind::SessionEnding => {
                if fact("end_reason") == EndReason::DisconnectedByOperator.word() {
                    on_day(|day| day.kills += 1);
                    self.kills.add(&told.actor);
                    if self.killing.len() < Self::OPEN_MAX {
                        self.killing.insert(session.to_owned(), time(fact("asked_micros")));
                    }
                }
            }
            AuditKind::SessionEnded | AuditKind::SessionFailed => {
                on_day(|day| day.ended += 1);
                self.ended(session, told, kind);
            }
            AuditKind::RecordingKept | AuditKind::RecordingBroke => {
                self.recording_deeds.add(&told.kind);
                if let Some(Unfinished { principal, target }) = self.unfinished.remove(session) {
                    self.recordings.unfinished -= 1;
                    self.recorded(
                        session,
                        &principal,
                        &target,
                        (kind == AuditKind::RecordingBroke).then_some("failed"),
                    );
                }
            }
            AuditKind::RecordingBegan
            | AuditKind::RecordingPlayed
            | AuditKind::RecordingExported
            | AuditKind::RecordingRead
            | AuditKind::RecordingsSearched
            | AuditKind::SessionWatched
            | AuditKind::RecordingHeld
            | AuditKind::RecordingReleased
            | AuditKind::RecordingRemoved => self.recording_deeds.add(&told.kind),
            AuditKind::LoginRefused => {
                on_day(|day| day.logins_refused += 1);
                self.logins_passed_over = self.logins_passed_over.saturating_add(passed_over);
                self.by_method.add(fact("method"));
                self.by_client.add(&address(fact("client_address")));
                self.by_claimed.add(fact("claimed"));
            }
            AuditKind::AccessDenied => {
                self.accesses_passed_over = self.accesses_passed_over.saturating_add(passed_over);
                self.by_action.add(fact("action"));
                self.denied.add(&told.actor);
            }
            AuditKind::SessionConnected
            | AuditKind::SessionClassified
            | AuditKind::SessionDisconnected
            | AuditKind::SessionResumed
            | AuditKind::LoginAccepted
            | AuditKind::CredentialIssued
            | AuditKind::CredentialRevoked
            | AuditKind::DocumentChanged
            | AuditKind::SettingChanged
            | AuditKind::LinkCreated
            | AuditKind::LinkDeleted
            | AuditKind::BastionChanged
            | AuditKind::InventoryLoaded
            | AuditKind::InventoryRefused
            | AuditKind::RecordExported
            | AuditKind::LedgerCheckpoint
            | AuditKind::SinkAdded
            | AuditKind::SinkRemoved
            | AuditKind::NodeStarted
            | AuditKind::NodeStopped => {}
        }
    }

    fn ended(&mut self, session: &str, told: &Told, kind: AuditKind) {
        let fact = |name: &str| told.facts.get(name).map_or("", String::as_str);
        let (principal, target) = (fact("principal"), fact("target"));
        let connected = told.facts.contains_key("connected_micros");
        let login = told.facts.contains_key("login");
        for (tally, name) in [
            (&mut self.by_kind, "kind"),
            (&mut self.by_protocol, "protocol"),
            (&mut self.by_principal, "principal"),
            (&mut self.by_target, "target"),
            (&mut self.by_proof, "auth"),
            (&mut self.end_reasons, "end_reason"),
        ] {
            tally.add(fact(name));
        }
        self.never_reached += u64::from(!connected);
        self.bytes_in = self.bytes_in.saturating_add(fact("bytes_in").parse().unwrap_or(0));
        self.bytes_out = self.bytes_out.saturating_add(fact("bytes_out").parse().unwrap_or(0));
        if let Some(asked) = self.killing.remove(session) {
            self.confirmed += 1;
            match asked.zip(time(fact("ended_micros"))) {
                Some((asked, ended)) => {
                    let micros = u64::try_from(ended.since(asked).as_micros()).unwrap_or(u64::MAX);
                    let millis = micros.div_ceil(1000);
                    self.took_max = self.took_max.max(millis);
                    *self.took.entry(millis.min(Self::TOOK_MAX)).or_default() += 1;
                }
                None => self.untimed += 1,
            }
        }
        let machine = || format!("{target} ({}:{})", fact("target_address"), fact("target_port"));
        if connected && login {
            self.checked += 1;
        } else if connected {
            self.unchecked.add(&machine());
        }
        if kind == AuditKind::SessionFailed && fact("detail").contains(ravelin_ssh::WRONG_HOST_KEY) {
            self.wrong_keys += 1;
            if self.wrong.len() < Self::LISTED_MAX {
                self.wrong.push(WrongKey {
                    at: stamp(told.at),
                    session: session.to_owned(),
                    target: target.to_owned(),
                    address: format!("{}:{}", fact("target_address"), fact("target_port")),
                    detail: fact("detail").to_owned(),
                });
            }
        }
        let (rule, recording) = (fact("recording_rule"), fact("recording"));
        match (rule, recording) {
            ("none", "") => self.recordings.not_demanded += 1,
            ("", "") => self.recordings.rule_unknown += 1,
            (_, "") if !connected => {
                self.recordings.demanded += 1;
                self.recordings.never_reached += 1;
            }
            (_, "") if login && fact("kind") == "tunnel" => {
                self.recordings.demanded += 1;
                self.recordings.nothing_opened += 1;
            }
            (_, recording) => {
                self.recordings.demanded += 1;
                self.recordings.due += 1;
                if let Some(coverage) = self.coverage(target) {
                    coverage.due += 1;
                }
                match recording {
                    "complete" => self.recorded(session, principal, target, None),
                    "failed" => self.recorded(session, principal, target, Some("failed")),
                    "" if login => self.recorded(session, principal, target, Some("missing")),
                    "" => self.recorded(session, principal, target, Some("end_to_end")),
                    _live => {
                        self.recordings.unfinished += 1;
                        if self.unfinished.len() < Self::OPEN_MAX {
                            let (principal, target) = (principal.to_owned(), target.to_owned());
                            self.unfinished.insert(session.to_owned(), Unfinished { principal, target });
                        }
                    }
                }
            }
        }
    }

    fn coverage(&mut self, target: &str) -> Option<&mut Coverage> {
        if !self.coverage.contains_key(target) {
            if self.coverage.len() >= Tally::NAMES_MAX {
                return None;
            }
            let coverage = Coverage { target: target.to_owned(), due: 0, complete: 0 };
            self.coverage.insert(target.to_owned(), coverage);
        }
        self.coverage.get_mut(target)
    }

    /// Notes the outcome of a recording that was due: whole, or why not.
    fn recorded(&mut self, session: &str, principal: &str, target: &str, why: Option<&'static str>) {
        let Some(why) = why else {
            self.recordings.complete += 1;
            if let Some(coverage) = self.coverage(target) {
                coverage.complete += 1;
            }
            return;
        };
        match why {
            "failed" => self.recordings.failed += 1,
            "missing" => self.recordings.missing += 1,
            "end_to_end" => self.recordings.end_to_end += 1,
            _counted_already => {}
        }
        if self.recordings.not_whole.len() < Self::LISTED_MAX {
            let [session, principal, target] = [session, principal, target].map(str::to_owned);
            self.recordings.not_whole.push(NotWhole { session, principal, target, why });
        } else {
            self.recordings.not_whole_unlisted += 1;
        }
    }

    /// The report. `deployment` is whose record it is.
    pub(crate) fn finish(
        mut self,
        month: String,
        made: Made,
        is_over: bool,
        chain: ChainStatus,
        deployment: String,
    ) -> Evidence {
        for (session, Unfinished { principal, target }) in std::mem::take(&mut self.unfinished) {
            self.recorded(&session, &principal, &target, Some("unfinished"));
        }
        let latency = latency(&self.took, self.took_max);
        let mut histogram = Vec::new();
        let mut low = 0;
        for high in Self::BUCKETS {
            let count = self.took.range(low..=high).map(|(_, count)| count).sum();
            histogram.push(Bucket { up_to_ms: Some(high), count });
            low = high + 1;
        }
        histogram.push(Bucket { up_to_ms: None, count: self.took.range(low..).map(|(_, count)| count).sum() });
        let mut by_target: Vec<Coverage> = self.coverage.into_values().collect();
        // Those with gaps first.
        by_target.sort_by(|a, b| (b.due - b.complete).cmp(&(a.due - a.complete)).then_with(|| a.target.cmp(&b.target)));
        self.recordings.targets_unlisted = by_target.len().saturating_sub(Self::LISTED_MAX) as u64;
        by_target.truncate(Self::LISTED_MAX);
        self.recordings.by_target = by_target;
        self.recordings.deeds = self.recording_deeds.ranking();
        self.extent.deployment = deployment;
        self.extent.begins_after = match self.extent.first {
            Some(first) if first > 1 && !self.is_preceded => Some(first - 1),
            Some(_) | None => None,
        };
        let (kills, by_method, by_action) = (self.kills.ranking(), self.by_method.ranking(), self.by_action.ranking());
        let end_reasons = self.end_reasons.ranking();
        Evidence {
            ravelin_evidence: 1,
            month,
            period: Period { from: stamp(self.from), before: stamp(self.before), is_over },
            made,
            record: self.extent,
            chain,
            sessions: Sessions {
                started: self.started,
                ended: end_reasons.total,
                never_reached: self.never_reached,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                by_kind: self.by_kind.ranking(),
                by_protocol: self.by_protocol.ranking(),
                by_principal: self.by_principal.ranking(),
                by_target: self.by_target.ranking(),
                by_proof: self.by_proof.ranking(),
                end_reasons,
            },
            kills: Kills {
                asked: kills.total,
                confirmed: self.confirmed,
                by_actor: kills,
                latency,
                untimed: self.untimed,
                histogram,
            },
            recordings: self.recordings,
            hosts: Hosts {
                checked: self.checked,
                unchecked: self.unchecked.ranking(),
                wrong_keys: self.wrong_keys,
                wrong: self.wrong,
            },
            refusals: Refusals {
                logins: by_method.total,
                logins_passed_over: self.logins_passed_over,
                by_method,
                by_client: self.by_client.ranking(),
                by_claimed: self.by_claimed.ranking(),
                accesses: by_action.total,
                accesses_passed_over: self.accesses_passed_over,
                by_action,
                by_principal: self.denied.ranking(),
            },
            events: self.events.ranking(),
            days: self.days,
        }
    }
}

fn latency(took: &BTreeMap<u64, u64>, max_ms: u64) -> Option<Latency> {
    let count: u64 = took.values().sum();
    let percentile = |percent: u64| {
        let rank = (count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        took.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        })
    };
    let (p50, p90, p99) = (percentile(50)?, percentile(90)?, percentile(99)?);
    Some(Latency { count, p50_ms: *p50.0, p90_ms: *p90.0, p99_ms: *p99.0, max_ms })
}

fn time(micros: &str) -> Option<Time> {
    micros.parse().ok().map(Time::from_micros)
}

/// An address without its port.
fn address(text: &str) -> String {
    let ip = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse::<IpAddr>());
    ip.map_or_else(|_| text.to_owned(), |ip| ip.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let took = BTreeMap::from([(1, 50), (7, 40), (30, 9), (900, 1)]);
        let found = latency(&took, 900).expect("there are some");
        assert_eq!((found.count, found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms), (100, 1, 7, 30, 900));
        let one = latency(&BTreeMap::from([(3, 1)]), 3).expect("there is one");
        assert_eq!((one.p50_ms, one.p99_ms, one.max_ms), (3, 3, 3));
        assert_eq!(latency(&BTreeMap::new(), 0), None);
    }

    #[test]
    fn names_of_strangers_fill_no_memory_and_are_still_counted() {
        let mut tally = Tally::default();
        tally.add("root");
        for number in 0..20_000 {
            tally.add(&format!("stranger-{number}"));
        }
        tally.add("root");
        assert_eq!(tally.counts.len(), Tally::NAMES_MAX);
        let ranking = tally.ranking();
        assert_eq!((ranking.total, ranking.rows.len()), (20_002, Tally::ROWS_MAX));
        assert_eq!((ranking.rows[0].name.as_str(), ranking.rows[0].count), ("root", 2));
        assert_eq!(ranking.rows.iter().map(|row| row.count).sum::<u64>() + ranking.others, ranking.total);
    }

    #[test]
    fn addresses_lose_their_ports() {
        assert_eq!(address("192.0.2.9:50022"), "192.0.2.9");
        assert_eq!(address("[2001:db8::1]:22"), "2001:db8::1");
        assert_eq!(address("[::ffff:192.0.2.9]:1"), "192.0.2.9");
        assert_eq!(address("unix"), "unix");
    }
}
