//! The two documented examples of `describe-sessions`, as this edge answers them.
//!
//! `tests/golden/describe_sessions/*.documented.json` hold what the reference shows; `*.answer.json` what leaves here for
//! the same sessions. `UPDATE_GOLDEN=1` rewrites the latter.

use crate::{map, wire};
use ravelin_model::principal::AuthMethod;
use ravelin_model::session::{
    Activity, Actor, Draft, EndReason, Ending, Kind, Phase, Recording, Session as DomainSession,
};
use ravelin_model::target::{Protocol, TargetSnapshot};
use ravelin_model::{NodeId, PrincipalName, SessionId, TargetId, TargetName, Time};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ACCOUNT: &str = "123456789012";

/// A session of the reference: its id, target, owner, start and end in milliseconds.
struct Documented(&'static str, &'static str, &'static str, i64, Option<i64>);

fn session(documented: &Documented) -> DomainSession {
    let Documented(id, target, owner, started, ended) = *documented;
    let principal = PrincipalName::parse(owner).expect("a name");
    let created = Time::from_micros(started * 1000 + 999);
    let phase = match ended {
        None => Phase::Connected { connected: created },
        Some(ended) => Phase::Terminated {
            connected: Some(created),
            ending: Ending::new(EndReason::ClientClosed, Actor::Principal(principal.clone()), ""),
            ended: Time::from_micros(ended * 1000),
        },
    };
    let draft = Draft {
        id: SessionId::parse(id).expect("an id"),
        principal,
        groups: BTreeSet::default(),
        auth: AuthMethod::SshKey,
        client_address: ([127, 0, 0, 1], 40_000).into(),
        client_software: String::new(),
        target: TargetSnapshot {
            id: TargetId::from_hex("1234567890abcdef0").expect("17 digits"),
            name: TargetName::parse("web-1").expect("a name"),
            address: "127.0.0.1".to_owned(),
            port: 22,
            labels: BTreeMap::default(),
            aliases: BTreeMap::from([(crate::ALIAS.to_owned(), target.to_owned())]),
        },
        login: None,
        protocol: Protocol::Ssh,
        kind: Kind::Shell,
        document: None,
        reason: None,
        duration_max: None,
        recording_rule: None,
        logs: Vec::new(),
        node: NodeId::new(1),
        epoch: 1,
        tags: BTreeMap::default(),
    };
    DomainSession {
        draft,
        created,
        activity: Activity::default(),
        recording: Recording::None,
        recording_digest: None,
        phase,
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/describe_sessions")
}

fn check(case: &str, sessions: &[Documented], next_token: Option<&str>) {
    let answer = wire::DescribeSessionsResponse {
        sessions: sessions.iter().map(|documented| map::session(&session(documented), ACCOUNT)).collect(),
        next_token: next_token.map(str::to_owned),
    };
    let text = serde_json::to_string_pretty(&answer).expect("an answer is JSON") + "\n";
    let path = folder().join(format!("{case}.answer.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("a golden file"), text, "UPDATE_GOLDEN=1 rewrites");

    let documented = std::fs::read_to_string(folder().join(format!("{case}.documented.json"))).expect("an example");
    let documented: Value = serde_json::from_str(&documented).expect("an example is JSON");
    let answer: Value = serde_json::from_str(&text).expect("an answer is JSON");
    assert_eq!(documented.get("NextToken"), answer.get("NextToken"));
    let (documented, answer) = (&documented["Sessions"], &answer["Sessions"]);
    assert_eq!(documented.as_array().map(Vec::len), answer.as_array().map(Vec::len));
    for (documented, answer) in documented.as_array().into_iter().flatten().zip(answer.as_array().into_iter().flatten())
    {
        for (member, value) in documented.as_object().expect("a structure") {
            if member == "Owner" {
                // Principals live here as users, not as sessions of assumed roles; either form finds them.
                let (theirs, ours) = (value.as_str().expect("a text"), answer["Owner"].as_str().expect("a text"));
                assert_eq!(map::principal(ACCOUNT, theirs), map::principal(ACCOUNT, ours));
            } else {
                assert_eq!(&answer[member], value, "{member}");
            }
        }
        assert_eq!(documented.get("OutputUrl"), answer.get("OutputUrl"), "present in the same view only");
    }
}

#[test]
fn the_documented_active_sessions() {
    check(
        "active",
        &[
            Documented("John-07a16060613c408b5", "i-1234567890abcdef0", "Shirley-Rodriguez", 1_550_676_938_352, None),
            Documented("John-01edf534b8b56e8eb", "i-9876543210abcdef0", "Shirley-Rodriguez", 1_550_676_842_194, None),
        ],
        None,
    );
}

#[test]
fn the_documented_history() {
    check(
        "history",
        &[
            Documented(
                "Mary-Major-0022b1eb2b0d9e3bd",
                "i-1234567890abcdef0",
                "Mary-Major",
                1_550_520_701_256,
                Some(1_550_521_931_563),
            ),
            Documented(
                "Jane-Roe-0db53f487931ed9d4",
                "i-9876543210abcdef0",
                "Jane-Roe",
                1_550_161_369_149,
                Some(1_550_162_580_329),
            ),
        ],
        Some("--token string truncated--"),
    );
}
