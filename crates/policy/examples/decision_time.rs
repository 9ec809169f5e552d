//! Prints what loading and deciding cost on this machine: `cargo run --release -p ravelin-policy --example decision_time`.
//!
//! Figures are medians, so that a busy neighbour does not show.

use ravelin_model::policy::{Action, Question, Resource, Scope};
use ravelin_model::ports::Policy;
use ravelin_model::target::Protocol;
use ravelin_model::{GroupName, Principal, PrincipalName, SessionId, Target, TargetId, TargetName};
use ravelin_policy::{CedarPolicy, PolicySource};
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

fn main() {
    let loads = median(20, || {
        black_box(CedarPolicy::load(&[PolicySource::built_in()]).expect("the default policies load"));
    });
    println!("load the default policies      {:>8.2} ms", loads.as_secs_f64() * 1e3);

    let policy = CedarPolicy::load(&[PolicySource::built_in()]).expect("the default policies load");
    let groups: BTreeSet<GroupName> =
        ["operators", "web", "database", "forwarding"].map(|g| GroupName::parse(g).expect("a valid name")).into();
    let name = PrincipalName::parse("alice").expect("a valid name");
    let alice = Principal { name: name.clone(), groups, ssh_keys: Vec::new() };
    let targets: Vec<Target> = (0..5).map(target).collect();
    let snapshots: Vec<_> = targets.iter().map(Target::snapshot).collect();
    let id = SessionId::new(&name, 7);
    let session = Resource::Session { id: &id, owner: &name, target: &snapshots[0] };
    for (what, action, resource) in [
        ("open a shell on a target", Action::OpenShell, Resource::Target(&targets[0])),
        ("end a session", Action::TerminateSession, session),
        ("list everybody's sessions", Action::ListSessions, Resource::Scope(Scope::Everyone)),
    ] {
        let question = Question { principal: &alice, action, resource, client: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let cold = median(2000, || {
            black_box(policy.decide_uncached(&question).expect("an answer"));
        });
        let warm = median(2000, || {
            for _ in 0..100 {
                black_box(policy.decide(&question).expect("an answer"));
            }
        }) / 100;
        println!("{what:<30} {:>8.1} us cold {:>6} ns warm", cold.as_secs_f64() * 1e6, warm.as_nanos());
    }

    let owners: Vec<PrincipalName> =
        (0..10).map(|n| PrincipalName::parse(&format!("owner-{n}")).expect("a valid name")).collect();
    let list = || {
        let policy = CedarPolicy::load(&[PolicySource::built_in()]).expect("the default policies load");
        move || {
            for n in 0..1000 {
                let id = SessionId::new(&owners[n % 10], n as u64);
                let resource = Resource::Session { id: &id, owner: &owners[n % 10], target: &snapshots[n / 10 % 5] };
                let action = Action::ReadSession;
                let question =
                    Question { principal: &alice, action, resource, client: IpAddr::V4(Ipv4Addr::LOCALHOST) };
                black_box(policy.decide(&question).expect("an answer"));
            }
        }
    };
    let ask_all = list();
    let first = median(1, &ask_all);
    let again = median(100, &ask_all);
    println!(
        "1000 sessions, 10 owners, 5 targets: first {:.2} ms, again {:.2} ms",
        first.as_secs_f64() * 1e3,
        again.as_secs_f64() * 1e3
    );
}

fn target(n: usize) -> Target {
    Target {
        id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
        name: TargetName::parse(&format!("web-{n}")).expect("a valid name"),
        address: "192.0.2.1".to_owned(),
        port: 22,
        protocol: Protocol::Ssh,
        logins: Vec::new(),
        host_keys: Vec::new(),
        labels: [("env", "prod"), ("team", "web"), ("region", "north")]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        shared_with: ["web", "database"].map(|g| GroupName::parse(g).expect("a valid name")).into(),
        aliases: BTreeMap::new(),
        recording: ravelin_model::recording::Rule::default(),
    }
}

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}
