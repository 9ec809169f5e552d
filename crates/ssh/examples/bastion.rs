//! The smallest bastion: one principal, one target, everything permitted, state in memory. For trying the SSH edge by
//! hand and for measuring it; the product is `ravelin`.
//!
//! Arguments: listen address, file with the principal's public key, target address, port, login, file with the key that
//! logs in there, file with the target's public host key. Lines on standard input are commands: `ls`, `kill REASON`.

use ravelin_engine::testkit::{PolicyFn, rules};
use ravelin_engine::{Config, Contact, Control, Engine, MasterKey};
use ravelin_model::policy::Question;
use ravelin_model::query::{SessionFilter, SessionQuery};
use ravelin_model::target::{LoginProof, LoginWay, Protocol};
use ravelin_model::{Login, NodeId, Principal, PrincipalName, Target, TargetId, TargetName};
use ravelin_ssh::{keys, server};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, person, address, port, login, login_key, host_key] = arguments.as_slice() else {
        return Err("seven arguments: see the file's head".into());
    };
    let read = |path: &str| std::fs::read_to_string(path);
    let alice = Principal {
        name: PrincipalName::parse("alice")?,
        groups: BTreeSet::new(),
        ssh_keys: vec![keys::parse_public_line(&read(person)?)?],
    };
    let proof = match login_key.as_str() {
        "agent" => LoginProof::ForwardedAgent,
        path => LoginProof::Key(SecretString::from(read(path)?)),
    };
    let target = Target {
        id: TargetId::from_hex("00000000000000001")?,
        name: TargetName::parse("web-1")?,
        address: address.clone(),
        port: port.parse()?,
        protocol: Protocol::Ssh,
        logins: vec![LoginWay { login: Login::parse(login)?, proof }],
        host_keys: vec![keys::parse_public_line(&read(host_key)?)?],
        labels: BTreeMap::from([("env".to_owned(), "demo".to_owned())]),
        shared_with: BTreeSet::new(),
        aliases: BTreeMap::new(),
        recording: ravelin_model::recording::Rule::default(),
    };
    let store = Arc::new(ravelin_store::SqliteStore::in_memory()?);
    let rules = rules(vec![alice.clone()], vec![target], Arc::new(PolicyFn(|_: &Question<'_>| Some(true))));
    let engine = Engine::start(store, rules, MasterKey::generate(), Config::new(NodeId::new(1))).await?;
    let listener = tokio::net::TcpListener::bind(listen).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    let config = server::Config::new(vec![keys::generate_key()]);
    let serving =
        server::serve(listener, engine.gate.clone(), engine.identity.clone(), config, CancellationToken::new());
    tokio::spawn(serving);
    // `kill` needs a caller; the person's own key is proof enough for a toy.
    let contact = Contact { address: "127.0.0.1:0".parse()?, software: String::new() };
    let caller = engine.identity.ssh_key("alice", &alice.ssh_keys[0], contact).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let page = engine.control.list(&caller, SessionQuery::first(SessionFilter::default(), 100)).await?;
        for session in page.items {
            match line.strip_prefix("kill ") {
                Some(reason) if session.state().is_live() => {
                    let start = std::time::Instant::now();
                    let done = engine.control.terminate(&caller, session.id(), reason, Control::WAIT_DEFAULT).await?;
                    println!("{} {done:?} after {:?}", session.id(), start.elapsed());
                }
                Some(_) => {}
                None => println!(
                    "{} {} {} {:?} {:?}",
                    session.id(),
                    session.state(),
                    session.draft.kind,
                    session.ending(),
                    session.activity
                ),
            }
        }
    }
    std::future::pending::<()>().await;
    Ok(())
}
