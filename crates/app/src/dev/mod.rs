//! `ravelin dev`: the whole bastion on loopback, in one process, with nothing to set up.
//!
//! Everything is as in earnest (the same node, the same doors, the same policies); only the people, the target and the
//! credentials are made up here. The contract stands in the design: `dev.env` is there when, and only when, the node
//! is ready to serve.
//!
//! - `people`: who there is, with their keys and credentials, kept over restarts.
//! - `handout`: the files and lines that a person or a script starts from.

mod handout;
mod people;

use crate::config::{Aws, Azure, Bind, Config, Limits, Recordings, Ssh, Tls, alias_ids, target_id};
use crate::log::{self, LogArgs};
use crate::serve::descriptors;
use crate::serve::node::{Node, Sockets, ssh_host_key};
use crate::serve::signals::Signals;
use crate::state::StateDir;
use anyhow::Context;
use handout::{Handout, Place};
use people::Person;
use ravelin_demo::{Demo, DemoConfig};
use ravelin_engine::Rules;
use ravelin_model::inventory::Inventory;
use ravelin_model::recording::{Mode, Rule};
use ravelin_model::target::{LoginProof, LoginWay, Protocol};
use ravelin_model::{GroupName, Login, Target, TargetName};
use ravelin_policy::{CedarPolicy, PolicySource};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What `ravelin dev` is told.
#[derive(clap::Args, Debug)]
#[command(after_help = "In another terminal:
  . ~/.local/state/ravelin/dev/dev.env     everything that clients need
  ravelin sessions ls                      what is going on

Port 0 takes a free port. Nothing but loopback can be listened on: whoever has a key from the state
directory gets a shell as you.")]
pub struct DevArgs {
    /// Where keys, history and dev.env are kept; by default ~/.local/state/ravelin/dev
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where the SSH listener is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2222", value_parser = address)]
    ssh: SocketAddr,
    /// Where the HTTPS listener is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = address)]
    https: SocketAddr,
    /// Where the HTTP listener is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    http: SocketAddr,
    /// What is recorded of sessions: none, metadata or full
    #[arg(long, value_name = "MODE", default_value = "full", value_parser = mode)]
    record: Mode,
    /// Where the metrics listener is; a free port unless given
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = address)]
    metrics: SocketAddr,
    #[command(flatten)]
    log: LogArgs,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:2222".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_word(text).ok_or_else(|| "write none, metadata or full".to_owned())
}

/// The target's name.
const TARGET: &str = "demo";
/// The group that shares it.
const GROUP: &str = "demo";

/// Runs `ravelin dev` until it is told to stop.
pub fn run(args: &DevArgs) -> ExitCode {
    log::start(&args.log);
    crate::finish(crate::block_on(dev(args)))
}

async fn dev(args: &DevArgs) -> anyhow::Result<()> {
    let listeners = [("--ssh", args.ssh), ("--https", args.https), ("--http", args.http), ("--metrics", args.metrics)];
    for (flag, address) in listeners {
        anyhow::ensure!(
            address.ip().is_loopback(),
            "{flag} {address}: ravelin dev listens on loopback only, because its keys lie in files and open a shell as \
             you; write 127.0.0.1:{}, or use ravelin serve for other machines",
            address.port()
        );
    }
    descriptors::take_all();
    let mut signals = Signals::listen()?;
    // The terminal that it runs in was closed.
    let mut hangup = Signals::hangup()?;
    let folder = match &args.state_dir {
        Some(folder) => std::path::absolute(folder).context("--state-dir")?,
        None => default_folder()?,
    };
    let state = StateDir::open(&folder)?;
    let people = Person::all(&state)?;
    Handout::withdraw(&state, &people)?;
    let config = config(args, &state);
    let sockets = Sockets::take(&config)?;

    let login_key = state.ssh_key("demo_login_ed25519_key")?;
    let demo_host_key = state.ssh_key("demo_host_ed25519_key")?;
    let mut authorized_keys: Vec<String> = people.iter().flat_map(|person| person.ssh_keys().to_vec()).collect();
    authorized_keys.push(ravelin_ssh::keys::public_line(&login_key)?);
    let demo = ravelin_demo::start(DemoConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_key_pem: demo_host_key.clone(),
        authorized_keys,
        home: None,
    })
    .await
    .context("cannot start the demo target")?;
    let target = target(&config, &demo, ravelin_ssh::keys::public_line(&demo_host_key)?, login_key)?;
    let rules = rules(&people, target.clone())?;

    let mut node = Node::start(&config, rules, &state).await?;
    let credentials = people::credentials(&people, &node, &state).await?;
    let place = Place {
        ssh: sockets.ssh().context("the SSH listener is always configured here")?,
        https: sockets.https().context("the HTTPS listener is always configured here")?,
        http: sockets.http().context("the HTTP listener is always configured here")?,
        metrics: sockets.metrics().context("the metrics listener is always configured here")?,
        host_key: ravelin_ssh::keys::public_line(&ssh_host_key(&config, &state)?)?,
    };
    let open = node.open(sockets, &config, &state)?;
    let authority = open.authority().context("the development certificate is always of our own authority")?;
    let handout = Handout { state: &state, place, azure: &config.azure, target: &target, authority };
    let (owner, others) = credentials.split_first().context("there is somebody")?;
    handout.give_out(owner, others)?;

    tokio::select! {
        () = signals.stop() => {}
        _ = hangup.recv() => {}
    }
    Handout::withdraw(&state, &people)?;
    node.stop(config.drain, &mut signals).await?;
    demo.stop().await;
    Ok(())
}

/// A folder that stays, so that history does.
fn default_folder() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let base = base.context("neither HOME nor XDG_STATE_HOME names a folder; name one with --state-dir DIR")?;
    Ok(base.join("ravelin").join("dev"))
}

fn config(args: &DevArgs, state: &StateDir) -> Config {
    let bind = |address, flag: &str| Some(Bind { address, origin: flag.to_owned() });
    // A certificate that names the addresses, should they not be the usual ones.
    let names: BTreeSet<String> = [args.https, args.http].iter().map(|address| address.ip().to_string()).collect();
    Config {
        state_dir: state.folder().to_path_buf(),
        public_url: None,
        ssh: bind(args.ssh, "--ssh"),
        https: bind(args.https, "--https"),
        http: bind(args.http, "--http"),
        metrics: bind(args.metrics, "--metrics"),
        tls: Tls::OwnAuthority { names: names.into_iter().collect() },
        ssh_server: Ssh::unset(),
        limits: Limits::unset(),
        drain: Duration::ZERO,
        history_keep: Config::HISTORY_KEEP,
        aws: Aws {
            account: Aws::ACCOUNT.to_owned(),
            regions: Vec::new(),
            reason_required: false,
            log_buckets: Vec::new(),
            log_groups: Vec::new(),
        },
        azure: Azure::unnamed(),
        recordings: Recordings { rule: Rule { mode: args.record, ..Rule::default() }, ..Recordings::unset() },
        sinks: Vec::new(),
    }
}

fn target(config: &Config, demo: &Demo, host_key: String, login_key: SecretString) -> anyhow::Result<Target> {
    let name = TargetName::parse(TARGET)?;
    let id = target_id(&name);
    let aliases = alias_ids(&id, &name, &config.azure);
    let address = demo.address();
    Ok(Target {
        id,
        name,
        address: address.ip().to_string(),
        port: address.port(),
        protocol: Protocol::Ssh,
        logins: vec![LoginWay { login: login(), proof: LoginProof::Key(login_key) }],
        host_keys: vec![host_key],
        labels: BTreeMap::from([("env".to_owned(), "demo".to_owned())]),
        shared_with: BTreeSet::from([GroupName::parse(GROUP)?]),
        aliases,
        recording: config.recordings.rule.clone(),
    })
}

/// The demo target runs everything as the present user, whatever name it is called by; so it bears that name.
fn login() -> Login {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| Login::parse(&std::env::var(name).ok()?).ok());
    named.unwrap_or_else(|| Login::parse("demo").expect("demo is a login"))
}

fn rules(people: &[Person], target: Target) -> anyhow::Result<Rules> {
    let principals = people.iter().map(|person| person.principal.clone()).collect();
    let inventory = Inventory::new(principals, vec![target])
        .map_err(|duplicates| anyhow::anyhow!("the development inventory: {duplicates:?}"))?;
    let policy = CedarPolicy::load(&[PolicySource::built_in()])
        .map_err(|faults| anyhow::anyhow!("the built-in policies: {faults:?}"))?;
    Ok(Rules { inventory: Arc::new(inventory), policy: Arc::new(policy), egress: Default::default() })
}
