//! Sinks against what people have at the other end: rsyslog, Azurite, moto's S3, and what a vendor's own client sends.

use ravelin_e2e::carry::Valve;
use ravelin_e2e::{Peer, Server, binary, eventually, free_port, need, run, run_with};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A configuration with sinks, and what is needed to make something happen there.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    http: u16,
}

impl World {
    pub(crate) fn new(sinks: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let http = free_port();
        let mut text = format!(
            "node.state_dir = \"state\"\nlisten.http = \"127.0.0.1:{http}\"\n\
             [[principal]]\nname = \"alice\"\ngroups = [\"operators\"]\n"
        );
        for (name, keys) in sinks {
            text.push_str(&format!("[[sink]]\nname = \"{name}\"\n{keys}\n"));
        }
        std::fs::write(dir.path().join("ravelin.toml"), text).expect("may be written");
        Self { dir, http }
    }

    pub(crate) fn serve(&self) -> Server {
        Server::serve(&self.dir.path().join("ravelin.toml"), self.dir.path(), self.http())
    }

    /// Where it speaks HTTP.
    pub(crate) fn http(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.http).into()
    }

    /// Somebody comes with a proof that is none.
    pub(crate) fn wrong_login(&self) {
        let mut whoami = Command::new(binary());
        whoami.arg("whoami").env("RAVELIN_TOKEN", "rvl_0123456789abcdef_nothing");
        let said = run(whoami.env("RAVELIN_URL", format!("http://127.0.0.1:{}", self.http)));
        assert_eq!(said.code, 4, "{said:?}");
    }

    fn secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("may be written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("may be closed");
    }

    /// A new token of an operator, issued beside the running bastion.
    pub(crate) fn token(&self) -> String {
        let said = run(Command::new(binary())
            .args(["credentials", "bootstrap", "--principal", "alice", "-c"])
            .arg(self.dir.path().join("ravelin.toml")));
        said.ok().trim().trim_start_matches("RAVELIN_TOKEN=").to_owned()
    }

    /// The sinks as the command line shows them.
    fn sinks(&self) -> Vec<Value> {
        let token = self.token();
        let mut ls = Command::new(binary());
        ls.args(["sinks", "ls", "-o", "json"]).env("RAVELIN_TOKEN", token);
        ls.env("RAVELIN_URL", format!("http://127.0.0.1:{}", self.http));
        ravelin_e2e::items(&run(&mut ls).json())
    }
}

fn rsyslog(program: &PathBuf, folder: &std::path::Path, port: u16) -> Peer {
    rsyslog_with(program, folder, port, "", "")
}

/// With further settings of its TCP module and of the whole.
fn rsyslog_with(program: &PathBuf, folder: &std::path::Path, port: u16, tcp: &str, global: &str) -> Peer {
    let out = folder.join("messages");
    let config = format!(
        "global(workDirectory=\"{0}\" maxMessageSize=\"64k\" {global})\nmodule(load=\"imtcp\" {tcp})\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         template(name=\"raw\" type=\"string\" string=\"%pri% %app-name% %msgid% %msg%\\n\")\n\
         action(type=\"omfile\" file=\"{1}\" template=\"raw\")\n",
        folder.display(),
        out.display()
    );
    std::fs::write(folder.join("rsyslog.conf"), config).expect("may be written");
    let mut command = Command::new(program);
    command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("rsyslog.pid"));
    Peer::start(&mut command, port)
}

#[test]
fn rsyslog_takes_everything_also_when_it_was_away_for_a_minute() {
    let program = need!("E2E_RSYSLOGD");
    let port = free_port();
    let world = World::new(&[("siem", format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\"\n"))]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = rsyslog(&program, folder.path(), port);
    let _server = world.serve();
    let messages = || std::fs::read_to_string(folder.path().join("messages")).unwrap_or_default();
    eventually("the start is there", || messages().contains("node_started").then_some(()));
    drop(peer);
    for _ in 0..5 {
        world.wrong_login();
    }
    eventually("the failure shows", || {
        world.sinks()[0]["last_error"].as_str().filter(|error| error.contains("cannot send")).map(str::to_owned)
    });
    for _ in 0..6 {
        ravelin_e2e::rest(10_000);
        world.wrong_login();
    }
    let _peer = rsyslog(&program, folder.path(), port);
    eventually("the refused logins are there", || {
        (messages().matches("ravelin login_refused").count() >= 11).then_some(())
    });
    let first = messages();
    let line = first.lines().find(|line| line.contains("login_refused")).expect("a line");
    assert!(line.starts_with("108 ravelin login_refused {"), "{line}");
    let event: Value = serde_json::from_str(&line[line.find('{').expect("JSON")..]).expect("JSON");
    assert_eq!(event["kind"], "login_refused");
    let numbers: std::collections::BTreeSet<u64> = first
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok()?["seq"].as_u64())
        .collect();
    assert!(numbers.iter().copied().eq(1..=*numbers.last().expect("some")), "no number is missing: {numbers:?}");
}

/// A certificate for `localhost` that signed itself, made by openssl: its file and its key's.
fn certificate(openssl: &PathBuf, folder: &std::path::Path) -> [PathBuf; 2] {
    let [certificate, key] = ["server.pem", "server.key"].map(|name| folder.join(name));
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    let _made = run(command.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).ok();
    [certificate, key]
}

#[test]
fn rsyslog_over_tls_takes_everything_also_after_a_kill() {
    let program = need!("E2E_RSYSLOGD");
    let _module = need!("E2E_RSYSLOG_TLS");
    let openssl = need!("E2E_OPENSSL");
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [certificate, key] = certificate(&openssl, folder.path()).map(|path| path.display().to_string());
    let address = format!("tls://localhost:{port}");
    let keys = format!("type = \"syslog\"\naddress = \"{address}\"\nca = \"{certificate}\"\n");
    let world = World::new(&[("siem", keys)]);
    let global = format!(
        "defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{certificate}\" \
         defaultNetstreamDriverCertFile=\"{certificate}\" defaultNetstreamDriverKeyFile=\"{key}\""
    );
    let tcp = "streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\"";
    let messages = || std::fs::read_to_string(folder.path().join("messages")).unwrap_or_default();
    let server = world.serve();
    let peer = rsyslog_with(&program, folder.path(), port, tcp, &global);
    eventually("the start is there", || messages().contains("node_started").then_some(()));
    // Killed, not stopped: what it had not written yet is lost to it, and comes again.
    drop(peer);
    for _ in 0..5 {
        world.wrong_login();
    }
    let _peer = rsyslog_with(&program, folder.path(), port, tcp, &global);
    eventually("the refused logins are there", || (messages().matches("login_refused").count() >= 5).then_some(()));
    let numbers: std::collections::BTreeSet<u64> = messages()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok()?["seq"].as_u64())
        .collect();
    assert!(numbers.iter().copied().eq(1..=*numbers.last().expect("some")), "no number is missing: {numbers:?}");
    drop(server);
}

/// Azurite's own, public development key.
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn azurite(program: &Path, folder: &Path, port: u16) -> Peer {
    let mut command = Command::new(program);
    command.args(["--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    Peer::start(command.arg("--location").arg(folder), port)
}

#[test]
fn azurite_holds_the_layout_of_diagnostic_logs() {
    let program = need!("E2E_AZURITE");
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _peer = azurite(&program, folder.path(), port);
    let endpoint = format!("http://127.0.0.1:{port}/devstoreaccount1");
    let keys = format!(
        "type = \"azure_storage\"\nurl = \"{endpoint}\"\naccount = \"devstoreaccount1\"\nkey_file = \"azurite.key\"\n\
         linger = \"100 ms\"\n"
    );
    let world = World::new(&[("storage", keys)]);
    world.secret("azurite.key", AZURITE_KEY);
    let mut server = world.serve();
    world.wrong_login();
    eventually("it has everything", || {
        let sinks = world.sinks();
        assert_eq!(sinks[0]["last_error"], Value::Null, "{sinks:?}");
        (sinks[0]["position"].as_u64() >= Some(5)).then_some(())
    });
    assert_eq!(server.stop(), 0, "{}", server.log());
    // Azurite keeps what blobs hold in plain files, and writes down their names every few seconds.
    let held = || held(folder.path());
    eventually("the layout is there", || {
        let held = held();
        let layout = "PROVIDERS/MICROSOFT.NETWORK/BASTIONHOSTS/RAVELIN/y=";
        (held.contains("insights-logs-bastionauditlogs") && held.contains(layout)).then_some(())
    });
    let held = held();
    assert!(held.contains("\"operationName\":\"Microsoft.Network/BastionHost/connect\""), "{held}");
    assert!(held.contains("\"message\":\"Login Failed\""), "{held}");
}

/// All that is in a folder, as one text.
fn held(folder: &Path) -> String {
    walk(folder).iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

/// The events of lines of our own form by their numbers, each as often as it came. Half a line may stand before a whole
/// one: Azurite's files keep what was cut off, without any blob that holds it.
fn by_number(text: &str) -> BTreeMap<u64, Vec<Value>> {
    let mut events: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let Some(begin) = line.rfind("{\"seq\":") else { continue };
        let Ok(event) = serde_json::from_str::<Value>(&line[begin..]) else { continue };
        if let Some(number) = event["seq"].as_u64() {
            events.entry(number).or_default().push(event);
        }
    }
    events
}

/// Nothing is missing, and what came twice is the same.
fn assert_whole(events: &BTreeMap<u64, Vec<Value>>) {
    let last = *events.keys().last().expect("some");
    assert!(events.keys().copied().eq(1..=last), "a number is missing: {:?}", events.keys());
    for (number, copies) in events {
        assert!(copies.iter().all(|copy| *copy == copies[0]), "{number} is not one event: {copies:?}");
    }
}

/// How far the sink is.
fn position(world: &World) -> u64 {
    world.sinks()[0]["position"].as_u64().expect("a number")
}

/// Something happens, and the sink gets to it.
fn brings_to_the_sink(world: &World, what: &str) {
    let before = position(world);
    world.wrong_login();
    eventually(what, || (position(world) > before + 1).then_some(()));
}

#[test]
fn azurite_that_is_killed_within_a_delivery_and_after_it_gets_everything_again() {
    let program = need!("E2E_AZURITE");
    let port = free_port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let peer = azurite(&program, folder.path(), port);
    let valve = Valve::in_front_of(port);
    let keys = format!(
        "type = \"azure_storage\"\nurl = \"http://{}/devstoreaccount1\"\naccount = \"devstoreaccount1\"\n\
         key_file = \"azurite.key\"\nlinger = \"100 ms\"\nschema = \"ravelin\"\n",
        valve.address
    );
    let world = World::new(&[("storage", keys)]);
    world.secret("azurite.key", AZURITE_KEY);
    let mut server = world.serve();
    brings_to_the_sink(&world, "it has the beginning");

    // Half of a request is there when it is killed.
    valve.hold_a_request();
    world.wrong_login();
    eventually("a delivery is on its way", || valve.holds().then_some(()));
    drop(peer);
    valve.open();
    world.wrong_login();
    eventually("it is missed", || world.sinks()[0]["last_error"].is_string().then_some(()));
    let peer = azurite(&program, folder.path(), port);
    brings_to_the_sink(&world, "it goes on");

    // All of a request is there and kept, and its answer is not.
    valve.hold_an_answer();
    world.wrong_login();
    eventually("an answer is held", || valve.holds().then_some(()));
    let acknowledged = position(&world);
    let kept = by_number(&held(folder.path()));
    let unanswered: Vec<u64> = kept.keys().copied().filter(|number| *number > acknowledged).collect();
    assert!(!unanswered.is_empty(), "it kept nothing beyond {acknowledged}: {:?}", kept.keys());
    drop(peer);
    valve.open();
    let _peer = azurite(&program, folder.path(), port);
    brings_to_the_sink(&world, "it goes on again");
    assert_eq!(server.stop(), 0, "{}", server.log());
    let events = by_number(&held(folder.path()));
    assert_whole(&events);
    // What nobody acknowledged came again, and nothing else did.
    let again: Vec<u64> = events
        .iter()
        .filter(|(number, copies)| copies.len() > kept.get(number).map_or(1, Vec::len))
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(again, unanswered);
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn moto_holds_cloudtrails_objects_and_a_missing_bucket_is_told() {
    let program = need!("E2E_MOTO");
    let python = need!("E2E_PYTHON");
    let port = free_port();
    let _peer = Peer::start(Command::new(program).args(["-H", "127.0.0.1", "-p", &port.to_string()]), port);
    let keys = format!(
        "type = \"s3\"\nurl = \"http://127.0.0.1:{port}\"\nbucket = \"trail\"\nregion = \"us-east-1\"\n\
         access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key_file = \"s3.secret\"\nlinger = \"100 ms\"\n"
    );
    let world = World::new(&[("trail", keys)]);
    world.secret("s3.secret", "secret");
    let _server = world.serve();
    eventually("the missing bucket is told", || {
        world.sinks()[0]["last_error"].as_str().filter(|error| error.contains("there is no bucket trail")).map(|_| ())
    });
    let script = format!(
        "import boto3, gzip, json, sys\n\
         s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:{port}', region_name='us-east-1',\n\
             aws_access_key_id='a', aws_secret_access_key='b')\n\
         if sys.argv[1] == 'make': s3.create_bucket(Bucket='trail')\n\
         else:\n    for o in s3.list_objects_v2(Bucket='trail').get('Contents', []):\n        \
         body = s3.get_object(Bucket='trail', Key=o['Key'])['Body'].read()\n        \
         print(json.dumps([o['Key'], json.loads(gzip.decompress(body))]))\n"
    );
    let boto = |what: &str| run(Command::new(&python).args(["-c", &script, what])).ok();
    let _made = boto("make");
    world.wrong_login();
    let said =
        eventually("the refused login is there", || Some(boto("read")).filter(|said| said.contains("LoginRefused")));
    let first: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert!(first[0].as_str().expect("a key").starts_with("AWSLogs/000000000000/CloudTrail/"), "{first}");
    assert_eq!(first[1]["Records"][0]["eventVersion"], "1.11");
}

#[test]
fn moto_holds_cloudwatchs_events_once_the_group_is_there() {
    let program = need!("E2E_MOTO");
    let python = need!("E2E_PYTHON");
    let port = free_port();
    let _peer = Peer::start(Command::new(program).args(["-H", "127.0.0.1", "-p", &port.to_string()]), port);
    let keys = format!(
        "type = \"cloudwatch_logs\"\nurl = \"http://127.0.0.1:{port}\"\ngroup = \"/ravelin/audit\"\nregion = \"us-east-1\"\n\
         access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key_file = \"logs.secret\"\nlinger = \"100 ms\"\nbatch_events = 3\n"
    );
    let world = World::new(&[("watch", keys)]);
    world.secret("logs.secret", "secret");
    let _server = world.serve();
    eventually("the missing group is told", || {
        let sinks = world.sinks();
        sinks[0]["last_error"]
            .as_str()
            .filter(|error| error.contains("there is no log group /ravelin/audit"))
            .map(|_| ())
    });
    let script = format!(
        "import boto3, json, sys\n\
         logs = boto3.client('logs', endpoint_url='http://127.0.0.1:{port}', region_name='us-east-1',\n\
             aws_access_key_id='a', aws_secret_access_key='b')\n\
         group = '/ravelin/audit'\n\
         if sys.argv[1] == 'make': logs.create_log_group(logGroupName=group)\n\
         elif logs.describe_log_streams(logGroupName=group)['logStreams']:\n    \
         for page in logs.get_paginator('filter_log_events').paginate(logGroupName=group):\n        \
         for e in page['events']: print(json.dumps([e['logStreamName'], e['timestamp'], json.loads(e['message'])]))\n"
    );
    let boto = |what: &str| run(Command::new(&python).args(["-c", &script, what])).ok();
    let _made = boto("make");
    world.wrong_login();
    let said =
        eventually("the refused login is there", || Some(boto("read")).filter(|said| said.contains("login_refused")));
    let mut numbers = std::collections::BTreeSet::new();
    for line in said.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event[0], "ravelin");
        assert!(event[1].as_u64() > Some(1_700_000_000_000), "its own time, in milliseconds: {event}");
        numbers.insert(event[2]["seq"].as_u64().expect("a number"));
    }
    assert!(numbers.iter().copied().eq(1..=*numbers.last().expect("some")), "no number is missing: {numbers:?}");
}

#[test]
fn moto_that_is_killed_within_a_delivery_and_after_it_gets_everything_again() {
    let program = need!("E2E_MOTO");
    let python = need!("E2E_PYTHON");
    let port = free_port();
    let start = || Peer::start(Command::new(&program).args(["-H", "127.0.0.1", "-p", &port.to_string()]), port);
    let peer = start();
    let valve = Valve::in_front_of(port);
    let keys = format!(
        "type = \"s3\"\nurl = \"http://{}\"\nbucket = \"trail\"\nregion = \"us-east-1\"\nschema = \"ravelin\"\n\
         access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key_file = \"s3.secret\"\nlinger = \"100 ms\"\n",
        valve.address
    );
    let world = World::new(&[("trail", keys)]);
    world.secret("s3.secret", "secret");
    // Past the valve; everything in the bucket, by its name.
    let script = format!(
        "import boto3, gzip, json, sys\n\
         s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:{port}', region_name='us-east-1',\n\
             aws_access_key_id='a', aws_secret_access_key='b')\n\
         if sys.argv[1] == 'make': s3.create_bucket(Bucket='trail')\n\
         else: print(json.dumps({{o['Key']: gzip.decompress(s3.get_object(Bucket='trail', Key=o['Key'])['Body'].read())\n    \
         .decode() for o in s3.list_objects_v2(Bucket='trail').get('Contents', [])}}))\n"
    );
    let boto = |what: &str| run(Command::new(&python).args(["-c", &script, what]));
    let objects = || -> BTreeMap<String, String> { serde_json::from_value(boto("read").json()).expect("a map") };
    let _made = boto("make").ok();
    let _server = world.serve();
    brings_to_the_sink(&world, "it has the beginning");

    // Half of a request is there when it is killed; it keeps nothing over its own end, so this is looked at first.
    valve.hold_a_request();
    world.wrong_login();
    eventually("a delivery is on its way", || valve.holds().then_some(()));
    let first = objects();
    drop(peer);
    valve.open();
    let peer = start();
    eventually("the missing bucket is told", || {
        world.sinks()[0]["last_error"].as_str().filter(|error| error.contains("there is no bucket trail")).map(|_| ())
    });
    let _made = boto("make").ok();
    brings_to_the_sink(&world, "it goes on");

    // All of a request is there and kept, and its answer is not.
    let before = objects();
    valve.hold_an_answer();
    world.wrong_login();
    eventually("an answer is held", || valve.holds().then_some(()));
    let second = objects();
    let unanswered: Vec<&String> = second.keys().filter(|key| !before.contains_key(*key)).collect();
    assert_eq!(unanswered.len(), 1, "{second:?}");
    drop(peer);
    valve.open();
    let _peer = start();
    let _made = boto("make").ok();
    brings_to_the_sink(&world, "it goes on again");
    let third = objects();

    let all: Vec<&str> = [&first, &second, &third].into_iter().flat_map(|of| of.values().map(String::as_str)).collect();
    assert_whole(&by_number(&all.concat()));
    // What nobody acknowledged came again, with what had happened since, and nothing else did.
    let numbers = |of: &BTreeMap<String, String>| -> Vec<u64> {
        of.values().flat_map(|lines| by_number(lines).into_keys()).collect()
    };
    let came_twice: Vec<u64> = numbers(&third).into_iter().filter(|at| numbers(&second).contains(at)).collect();
    assert_eq!(came_twice, by_number(&second[unanswered[0]]).into_keys().collect::<Vec<_>>());
    assert!(!numbers(&second).iter().any(|at| numbers(&first).contains(at)), "{first:?} {second:?}");
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

#[test]
fn log_analytics_gets_what_the_vendors_own_client_would_send() {
    let python = need!("E2E_PYTHON");
    let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
    let notes = folder.path().join("notes");
    let mut far = Command::new(&python);
    far.arg(client("log_ingestion.py")).arg(port.to_string()).arg(&notes);
    let _far = Peer::start(&mut far, port);
    let (url, rule, stream) = (format!("http://127.0.0.1:{port}"), "dcr-0123", "Custom-RavelinBastion_CL");
    let keys = format!(
        "type = \"log_analytics\"\nurl = \"{url}\"\nauthority = \"{url}\"\nrule = \"{rule}\"\nstream = \"{stream}\"\n\
         tenant = \"6a1c1e30-4d3b-4a51-9d3e-2f5a7c1b0d94\"\nclient_id = \"8d7f0a52-0d6e-4d7a-9a2b-6c8a6f2f3a11\"\n\
         client_secret_file = \"analytics.secret\"\nlinger = \"100 ms\"\n"
    );
    let world = World::new(&[("analytics", keys)]);
    world.secret("analytics.secret", "secret");
    let mut server = world.serve();
    world.wrong_login();
    let noted = || -> Vec<Value> {
        let text = std::fs::read_to_string(&notes).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    eventually("the refused login is there", || held(folder.path()).contains("Login Failed").then_some(()));
    assert_eq!(server.stop(), 0, "{}", server.log());
    // Each delivery of ours, sent once more by the vendor's client, is the same request.
    let ours = noted();
    for delivery in &ours {
        let rows = delivery["rows"].to_string();
        let mut vendors = Command::new(&python);
        vendors.arg(client("log_ingestion_client.py")).args([&url, rule, stream]);
        let said = run_with(&mut vendors, rows.as_bytes());
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(noted().last(), Some(delivery));
    }
    assert_eq!(noted().len(), 2 * ours.len());
}
