//! Tampering: whatever is done to a chain is found, and the first record that it was done to is named.

use ravelin_model::audit::{AuditEvent, AuditKind, Deed};
use ravelin_model::ledger::{
    Beginning, Checkpoint, Digest, Entry, Expectations, Foundation, LedgerFault, LedgerKey, Line, Report, Verifier,
    encode_event, genesis, link,
};
use ravelin_model::session::Actor;
use ravelin_model::{SessionId, Time};
use std::collections::BTreeMap;

const DEPLOYMENT: &str = "0123456789abcdef0123456789abcdef";

fn key() -> LedgerKey {
    LedgerKey::from_seed(&[7; 32]).expect("a seed")
}

fn deed(number: u64) -> Deed {
    Deed {
        kind: AuditKind::LoginRefused,
        actor: Actor::System,
        session: None,
        facts: BTreeMap::from([("claimed".to_owned(), format!("somebody {number}"))]),
    }
}

/// Chains deeds anew, as somebody could who has all but the key.
fn chain(deeds: impl IntoIterator<Item = (u64, Deed)>) -> Vec<Entry> {
    let mut head = genesis(DEPLOYMENT);
    deeds
        .into_iter()
        .map(|(seq, deed)| {
            let event = AuditEvent { seq, at: Time::from_micros(1_000_000 + i64::try_from(seq).expect("small")), deed };
            head = link(&head, &encode_event(&event));
            Entry { event, hash: head }
        })
        .collect()
}

/// `count` events with a checkpoint after every `every`.
fn record(count: u64, every: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut head = genesis(DEPLOYMENT);
    for seq in 1..=count {
        let deed = if seq % every == 0 { key().checkpoint(DEPLOYMENT, seq - 1, &head) } else { deed(seq) };
        let event = AuditEvent { seq, at: Time::from_micros(1_000_000 + i64::try_from(seq).expect("small")), deed };
        head = link(&head, &encode_event(&event));
        entries.push(Entry { event, hash: head });
    }
    entries
}

fn line(entry: &Entry) -> Line {
    let facts = &entry.event.deed.facts;
    let is_checkpoint = entry.event.deed.kind == AuditKind::LedgerCheckpoint;
    Line {
        seq: entry.event.seq,
        encoding: encode_event(&entry.event),
        hash: Some(entry.hash),
        checkpoint: is_checkpoint.then(|| Checkpoint::from_facts(|name| facts.get(name).map(String::as_str))),
    }
}

fn expect() -> Expectations {
    Expectations { key: key().public(), known: None, at_least: 0, is_part: false }
}

fn whole() -> Foundation {
    Foundation { deployment: DEPLOYMENT.to_owned(), after: 0, head: genesis(DEPLOYMENT), signature: None }
}

fn check(foundation: &Foundation, expect: Expectations, entries: &[Entry]) -> Result<Report, LedgerFault> {
    let mut verifier = Verifier::new(foundation, expect);
    for entry in entries {
        verifier.handle(line(entry));
    }
    verifier.finish()
}

fn fault(entries: &[Entry]) -> LedgerFault {
    check(&whole(), expect(), entries).expect_err("it was tampered with")
}

#[test]
fn an_untouched_record_is_whole() {
    let entries = record(25, 10);
    let report = check(&whole(), expect(), &entries).expect("nothing was done to it");
    assert_eq!((report.beginning, report.first, report.last), (Beginning::Genesis, 1, 25));
    assert_eq!((report.checkpoints, report.signed_through), (2, 19));
    assert_eq!(report.head, entries[24].hash);
    assert_eq!(check(&whole(), expect(), &[]).expect("an empty record is whole").last, 0);
}

#[test]
fn each_changed_field_is_found_at_its_record() {
    type Change = fn(&mut Entry);
    let changes: [Change; 7] = [
        |e| e.event.at = Time::from_micros(5),
        |e| e.event.deed.kind = AuditKind::LoginAccepted,
        |e| e.event.deed.actor = Actor::from_text("mallory").expect("a name"),
        |e| e.event.deed.session = Some(SessionId::parse("alice-07a16060613c408b5").expect("an id")),
        |e| e.event.deed.facts = BTreeMap::from([("claimed".to_owned(), "nobody".to_owned())]),
        |e| e.event.deed.facts.clear(),
        |e| e.hash = Digest([0; 32]),
    ];
    for change in changes {
        // The first of them is covered by what the chain stands on alone; the others by no checkpoint before them.
        for (at, earliest) in [(0, 1), (4, 1), (15, 10), (24, 20)] {
            let mut entries = record(25, 10);
            change(&mut entries[at]);
            assert_eq!(fault(&entries), LedgerFault::Changed { from: earliest, seq: at as u64 + 1 });
        }
    }
}

#[test]
fn a_changed_record_whose_own_hash_was_made_anew_is_among_those_that_are_named() {
    for (at, earliest) in [(0, 1), (4, 1), (15, 10), (23, 20)] {
        let mut entries = record(25, 10);
        entries[at].event.deed = deed(999);
        let before = if at == 0 { genesis(DEPLOYMENT) } else { entries[at - 1].hash };
        entries[at].hash = link(&before, &encode_event(&entries[at].event));
        let found = fault(&entries);
        // The next one is as it was written, and does not fit any more.
        let next = at as u64 + 2;
        assert_eq!(found, LedgerFault::Changed { from: earliest, seq: next });
        let said = found.to_string();
        assert!(
            said.contains(&format!("record {next} was changed, or one before it, back to record {earliest}")),
            "{said}"
        );
    }
    // What cannot be read is that record for certain.
    let mut verifier = Verifier::new(&whole(), expect());
    for (at, entry) in record(25, 10).iter().enumerate() {
        let line = line(entry);
        verifier.handle(if at == 15 { Line { hash: None, ..line } } else { line });
    }
    let found = verifier.finish().expect_err("it cannot be read");
    assert_eq!(found.to_string(), "record 16 was changed: its content does not have the hash that the chain has");
}

#[test]
fn removed_records_are_named() {
    let mut entries = record(25, 10);
    entries.remove(4);
    assert_eq!(fault(&entries), LedgerFault::Removed { from: 5, to: 5 });
    let mut entries = record(25, 10);
    entries.drain(4..8);
    assert_eq!(fault(&entries), LedgerFault::Removed { from: 5, to: 8 });
    let mut entries = record(25, 10);
    entries.drain(..3);
    assert_eq!(fault(&entries), LedgerFault::Removed { from: 1, to: 3 });
}

#[test]
fn an_inserted_record_is_named_whatever_number_it_bears() {
    let forged = |seq: u64, before: &Digest| {
        let event = AuditEvent { seq, at: Time::from_micros(1), deed: deed(99) };
        let hash = link(before, &encode_event(&event));
        Entry { event, hash }
    };
    for (seq, linked) in [(5, true), (5, false), (999, true), (3, true)] {
        let mut entries = record(25, 10);
        let before = if linked { entries[3].hash } else { Digest([1; 32]) };
        entries.insert(4, forged(seq, &before));
        let found = fault(&entries);
        assert!(matches!(found, LedgerFault::Inserted { seq: named, .. } if named == seq), "{seq}: {found}");
    }
}

#[test]
fn moved_records_are_named() {
    let mut entries = record(25, 10);
    entries.swap(3, 4);
    assert_eq!(fault(&entries), LedgerFault::Reordered { seq: 5, before: 4 });
    let mut entries = record(25, 10);
    let early = entries.remove(20);
    entries.insert(2, early);
    assert_eq!(fault(&entries), LedgerFault::Reordered { seq: 21, before: 3 });
}

#[test]
fn a_record_that_was_made_anew_does_not_fit_what_was_signed() {
    let mut deeds: Vec<(u64, Deed)> = record(25, 10).into_iter().map(|e| (e.event.seq, e.event.deed)).collect();
    deeds[11].1 = deed(999);
    let found = fault(&chain(deeds));
    assert!(matches!(found, LedgerFault::Rewritten { from: 10, to: 19, .. }), "{found}");

    // Also when the checkpoints are signed anew, with another key.
    let other = LedgerKey::from_seed(&[8; 32]).expect("a seed");
    let mut deeds: Vec<(u64, Deed)> = record(25, 30).into_iter().map(|e| (e.event.seq, e.event.deed)).collect();
    let head = chain(deeds.clone())[8].hash;
    deeds[9].1 = other.checkpoint(DEPLOYMENT, 9, &head);
    let found = fault(&chain(deeds));
    assert!(
        matches!(found, LedgerFault::Rewritten { from: 1, to: 9, because: "is signed with another key" }),
        "{found}"
    );
}

#[test]
fn a_lost_tail_is_found_by_whoever_knows_better() {
    let entries = record(25, 10);
    let known = line(&entries[19]).checkpoint.flatten();
    let expect_known = Expectations { known: known.clone(), ..expect() };
    assert!(check(&whole(), expect_known.clone(), &entries).is_ok());
    let cut = check(&whole(), expect_known.clone(), &entries[..15]).expect_err("the tail is gone");
    assert_eq!(cut, LedgerFault::Truncated { last: 15, known: 19 });
    let counted = check(&whole(), Expectations { at_least: 25, ..expect() }, &entries[..24]);
    assert_eq!(counted, Err(LedgerFault::Truncated { last: 24, known: 25 }));
    // Another history up to the known checkpoint, with no checkpoint of its own.
    let anew = chain((1..=25).map(|seq| (seq, deed(seq + 100))));
    let found = check(&whole(), expect_known, &anew).expect_err("another history");
    assert!(matches!(found, LedgerFault::KnownCheckpoint { through: 19, .. }), "{found}");
}

#[test]
fn a_beginning_needs_a_signed_cut() {
    let entries = record(25, 10);
    let head = entries[11].hash;
    let signature = Some(key().sign_cut(DEPLOYMENT, 12, &head));
    let cut = Foundation { deployment: DEPLOYMENT.to_owned(), after: 12, head, signature };
    let report = check(&cut, expect(), &entries[12..]).expect("what is kept is whole");
    assert_eq!((report.beginning, report.first), (Beginning::SignedCut, 13));
    let unsigned = Foundation { signature: None, ..cut.clone() };
    let found = check(&unsigned, expect(), &entries[12..]);
    assert!(matches!(found, Err(LedgerFault::Beginning { .. })), "{found:?}");
    let part = check(&unsigned, Expectations { is_part: true, ..expect() }, &entries[12..]);
    assert_eq!(part.expect("a part").beginning, Beginning::Unproven);
    let moved = Foundation { after: 11, ..cut.clone() };
    assert!(matches!(check(&moved, expect(), &entries[12..]), Err(LedgerFault::Beginning { .. })));
    let foreign = Foundation { deployment: "another".to_owned(), ..cut };
    assert!(check(&foreign, expect(), &entries[12..]).is_err());
}

#[test]
fn a_long_tail_without_a_checkpoint_is_suspicious() {
    let anew = chain((1..=2500).map(|seq| (seq, deed(seq))));
    assert_eq!(fault(&anew), LedgerFault::Unsigned { from: 1, to: 2500 });
}

#[test]
fn no_two_events_have_one_encoding() {
    let facts = |pairs: &[(&str, &str)]| -> Vec<u8> {
        ravelin_model::ledger::encode(1, 2, "k", "a", None, pairs.iter().copied())
    };
    assert_ne!(facts(&[("ab", "c")]), facts(&[("a", "bc")]));
    assert_ne!(facts(&[("a", ""), ("b", "")]), facts(&[("a", "b"), ("", "")]));
    assert_ne!(
        ravelin_model::ledger::encode(1, 2, "k", "a", Some(""), [].into_iter()),
        ravelin_model::ledger::encode(1, 2, "k", "a", None, [].into_iter())
    );
}

/// The example in `docs/wire/ledger.md`.
#[test]
fn the_documents_example_is_true() {
    let document = include_str!("../../../docs/wire/ledger.md");
    let entries = chain([(1, deed(1)), (2, deed(2))]);
    for text in [genesis(DEPLOYMENT).to_string(), entries[0].hash.to_string(), entries[1].hash.to_string()] {
        assert!(document.contains(&text), "docs/wire/ledger.md has no {text}");
    }
    let encoding: String = encode_event(&entries[0].event).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(document.contains(&encoding), "docs/wire/ledger.md has no {encoding}");
}
