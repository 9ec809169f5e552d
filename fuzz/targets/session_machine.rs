//! No order of events and times leads a session off the table, or ends it without a cause.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_model::principal::AuthMethod;
use ravelin_model::session::{Activity, Actor, Draft, EndReason, Ending, Event, Kind, Session};
use ravelin_model::target::{Protocol, TargetSnapshot};
use ravelin_model::{NodeId, PrincipalName, SessionId, TargetId, TargetName, Time};
use std::net::SocketAddr;

fn draft() -> Draft {
    let principal = PrincipalName::parse("alice").expect("a name");
    Draft {
        id: SessionId::new(&principal, 1),
        principal,
        groups: Default::default(),
        auth: AuthMethod::SshKey,
        client_address: SocketAddr::from(([192, 0, 2, 1], 1)),
        client_software: String::new(),
        target: TargetSnapshot {
            id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
            name: TargetName::parse("web-1").expect("a name"),
            address: "192.0.2.2".to_owned(),
            port: 22,
            labels: Default::default(),
            aliases: Default::default(),
        },
        login: None,
        protocol: Protocol::Ssh,
        kind: Kind::Tunnel,
        document: None,
        reason: None,
        duration_max: None,
        node: NodeId::new(1),
        epoch: 1,
        recording_rule: None,
        logs: Vec::new(),
        tags: Default::default(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut session, _) = Session::open(draft(), Time::from_micros(1_000));
    for step in bytes.chunks(3) {
        let now = Time::from_micros(i64::from(step.get(1).copied().unwrap_or(0)) * 20);
        let pick = usize::from(step.get(2).copied().unwrap_or(0));
        let ending = || Ending::new(EndReason::ALL[pick % EndReason::ALL.len()], Actor::System, "x");
        let event = match step[0] % 8 {
            0 => Event::Connected,
            1 => Event::Classified { kind: Kind::ALL[pick % Kind::ALL.len()] },
            2 => Event::Disconnected,
            3 => Event::Resumed,
            4 => Event::Failed { ending: ending() },
            5 => Event::End { ending: ending() },
            6 => Event::Closed { activity: Activity { last: now, bytes_in: pick as u64, bytes_out: 1 } },
            _ => Event::NodeLost,
        };
        let before = session.state();
        if let Ok((next, effects)) = session.apply(&event, now) {
            assert!(before == next.state() || !before.is_final());
            assert!(!before.is_final() || effects.is_empty());
            session = next;
        }
        assert_eq!(session.ended().is_some(), session.state().is_final());
        if let Some(ended) = session.ended() {
            assert!(session.ending().is_some() && ended >= session.created);
        }
    }
});
