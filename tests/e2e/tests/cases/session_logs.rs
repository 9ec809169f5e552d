//! The output of sessions in a bucket and a log group, where a session document says so: the stock aws CLI and boto3 at
//! the front, moto's S3 and CloudWatch Logs at the back.

use ravelin_e2e::{Peer, Said, Server, Sshd, binary, eventually, free_port, http_get, need, parse_env, run, run_with};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bastion that records nothing by itself, before a real sshd, with a bucket and a log group for documents.
struct World {
    aws: PathBuf,
    python: PathBuf,
    sshd: Sshd,
    dir: tempfile::TempDir,
    http: SocketAddr,
    metrics: SocketAddr,
    moto: u16,
}

impl World {
    fn new(aws: PathBuf, python: PathBuf, sshd: Sshd) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let world = Self { aws, python, sshd, dir, http: address(), metrics: address(), moto: free_port() };
        let secret = world.dir.path().join("logs.secret");
        std::fs::write(&secret, "hush-hush").expect("written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("may be closed");
        let place = |table: &str, name: &str| {
            format!(
                "[[aws.{table}]]\n{name}\nregion = \"us-east-1\"\nurl = \"http://127.0.0.1:{}\"\n\
                 access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key_file = \"logs.secret\"\n",
                world.moto
            )
        };
        let config = format!(
            "[node]\nstate_dir = \"state\"\n[listen]\nhttp = \"{}\"\n[metrics]\nlisten = \"{}\"\n\
             {}encrypted = true\n{}[[principal]]\nname = \"alice\"\ngroups = [\"operators\"]\n\
             [[target]]\nname = \"web-1\"\naddress = \"127.0.0.1\"\nport = {}\nprotocol = \"ssh\"\n\
             host_keys = [\"{}\"]\nshared_with = [\"operators\"]\nlogins = [{{ name = \"{}\", key_file = \"{}\" }}]\n",
            world.http,
            world.metrics,
            place("log_buckets", "bucket = \"logs\""),
            place("log_groups", "group = \"/ssm/logs\""),
            world.sshd.port,
            world.sshd.host_key,
            world.sshd.user,
            world.sshd.user_key.display()
        );
        std::fs::write(world.config(), config).expect("written");
        world
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("ravelin.toml")
    }

    fn serve(&self) -> Server {
        let mut server = Server::serve(&self.config(), self.dir.path(), self.http);
        for kind in ["token", "aws"] {
            let mut bootstrap = Command::new(binary());
            bootstrap.args(["credentials", "bootstrap", "--principal", "alice", "--kind", kind, "-c"]);
            let lines = run(bootstrap.arg(self.config())).ok();
            let exports: String = lines.lines().map(|line| format!("export {line}\n")).collect();
            server.env.extend(parse_env(&exports));
        }
        let url = format!("http://{}", self.http);
        for (name, value) in
            [("RAVELIN_URL", url.as_str()), ("AWS_ENDPOINT_URL_SSM", &url), ("AWS_DEFAULT_REGION", "eu-west-1")]
        {
            server.env.insert(name.to_owned(), value.to_owned());
        }
        let plugin = self.dir.path().display().to_string();
        let _made = server.ravelin(&["ssm", "install-plugin", "--dir", &plugin]);
        server
    }

    fn ssm(&self, server: &Server, args: &[&str]) -> Said {
        run(server.command(&self.aws).arg("ssm").args(args))
    }

    fn create(&self, server: &Server, name: &str, content: &Value) -> Said {
        let content = content.to_string();
        self.ssm(server, &["create-document", "--name", name, "--document-type", "Session", "--content", &content])
    }

    /// `aws ssm start-session` with the plugin, to its end.
    fn session(&self, server: &Server, document: &str, input: &str) -> Said {
        run_with(&mut self.start(server, document), input.as_bytes())
    }

    fn start(&self, server: &Server, document: &str) -> Command {
        let path = format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = server.command(&self.aws);
        command.env("PATH", path).args(["ssm", "start-session", "--target", "web-1", "--document-name", document]);
        command
    }

    /// The newest session of the history as the aws CLI shows it, once it is there.
    fn newest(&self, server: &Server, document: &str) -> Value {
        eventually("the session is in the history", || {
            let said = self.ssm(server, &["describe-sessions", "--state", "History", "--output", "json"]).json();
            said["Sessions"].as_array()?.iter().find(|session| session["DocumentName"] == document).cloned()
        })
    }

    fn figure(&self, name: &str) -> f64 {
        let answer = http_get(self.metrics, "/metrics").expect("metrics");
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().expect("a number")
    }

    fn check(&self) -> Said {
        run(Command::new(binary()).args(["check", "-c"]).arg(self.config()))
    }

    /// How a place is, by `sinks ls`.
    fn place(&self, server: &Server, kind: &str) -> Value {
        let all = server.ravelin(&["sinks", "ls", "-o", "json"]).json();
        let places = all.as_array().expect("a list");
        places.iter().find(|place| place["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {all}")).clone()
    }

    fn peer(&self, program: &Path) -> Peer {
        let port = self.moto.to_string();
        let peer = Peer::start(Command::new(program).args(["-H", "127.0.0.1", "-p", &port]), self.moto);
        let _made = self.boto("make");
        peer
    }

    /// boto3 on moto: makes the bucket and the log group, or shows what is in them.
    fn boto(&self, what: &str) -> Value {
        let script = format!(
            "import boto3, json, sys\n\
             of = dict(endpoint_url='http://127.0.0.1:{}', region_name='us-east-1', aws_access_key_id='a',\n\
                 aws_secret_access_key='b')\n\
             s3, logs = boto3.client('s3', **of), boto3.client('logs', **of)\n\
             if sys.argv[1] == 'make':\n    s3.create_bucket(Bucket='logs')\n    \
             logs.create_log_group(logGroupName='/ssm/logs')\n    print('{{}}')\n\
             else:\n    objects = {{o['Key']: s3.get_object(Bucket='logs', Key=o['Key'])['Body'].read().decode()\n        \
             for o in s3.list_objects_v2(Bucket='logs').get('Contents', [])}}\n    \
             streams = {{}}\n    \
             for s in logs.describe_log_streams(logGroupName='/ssm/logs')['logStreams']:\n        \
             name = s['logStreamName']\n        \
             got = logs.get_log_events(logGroupName='/ssm/logs', logStreamName=name, startFromHead=True)\n        \
             streams[name] = [e['message'] for e in got['events']]\n    \
             print(json.dumps(dict(objects=objects, streams=streams)))\n",
            self.moto
        );
        run(Command::new(&self.python).args(["-c", &script, what])).json()
    }

    /// The object and the lines of a session, once both are there.
    fn delivered(&self, id: &str) -> (String, Vec<String>) {
        eventually("the object and the lines are there", || {
            let all = self.boto("read");
            let object = all["objects"][format!("team/a/{id}.log")].as_str()?.to_owned();
            let lines = all["streams"][id].as_array().filter(|lines| !lines.is_empty())?;
            Some((object, lines.iter().map(|line| line.as_str().expect("a text").to_owned()).collect()))
        })
    }
}

fn inputs(bucket: &str, group: &str) -> Value {
    json!({
        "s3BucketName": bucket, "s3KeyPrefix": "team/a", "s3EncryptionEnabled": true,
        "cloudWatchLogGroupName": group, "cloudWatchEncryptionEnabled": false, "cloudWatchStreamingEnabled": false,
        "kmsKeyId": "",
    })
}

#[test]
fn documents_have_the_output_of_sessions_put_in_a_bucket_and_a_log_group_whatever_dies_meanwhile() {
    let (aws, python, program) = (need!("E2E_AWS"), need!("E2E_PYTHON"), need!("E2E_MOTO"));
    let (sshd, keygen) = (need!("E2E_SSHD"), need!("E2E_SSH_KEYGEN"));
    let world = World::new(aws, python, Sshd::start(&sshd, &keygen));
    let peer = world.peer(&program);
    let server = world.serve();
    let said = world.check();
    assert!(said.code == 0 && !said.out.contains("warning"), "{said:?}");

    // What is not configured is refused by name, and so is what cannot be kept.
    let shell = |inputs: Value| json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs});
    let mut wrong = vec![
        (inputs("others", ""), "inputs.s3BucketName names others"),
        (inputs("", "/others"), "inputs.cloudWatchLogGroupName names /others"),
    ];
    for (member, value) in [("cloudWatchEncryptionEnabled", json!(true)), ("kmsKeyId", json!("alias/x"))] {
        let mut changed = inputs("logs", "/ssm/logs");
        changed[member] = value;
        wrong.push((changed, member));
    }
    for (inputs, named) in wrong {
        let said = world.create(&server, "Logged", &shell(inputs));
        assert!(said.code != 0 && said.err.contains("InvalidDocumentContent") && said.err.contains(named), "{said:?}");
    }
    let _made = world.create(&server, "Logged", &shell(inputs("logs", "/ssm/logs"))).ok();
    let command = json!({
        "schemaVersion": "1.0", "sessionType": "NonInteractiveCommands", "inputs": inputs("logs", "/ssm/logs"),
        "properties": {"linux": {"commands": "printf 'plain\\tone\\n'; echo two >&2"}},
    });
    let _made = world.create(&server, "LoggedCommand", &command).ok();

    // A shell: one object, one stream, and both are found by what the history shows.
    let said = world.session(&server, "Logged", "echo shown-$((40+2))\nexit\n");
    assert!(said.out.contains("shown-42"), "{said:?}");
    let shown = world.newest(&server, "Logged");
    let id = shown["SessionId"].as_str().expect("an id").to_owned();
    let (object, lines) = world.delivered(&id);
    assert!(object.contains("shown-42\n") && !object.contains('\u{1b}'), "{object:?}");
    assert!(lines.iter().any(|line| line == "shown-42"), "{lines:?}");
    let same: Vec<&str> = object.lines().map(|line| if line.is_empty() { " " } else { line }).collect();
    assert_eq!(lines, same, "the same text in both");
    let url = format!("http://127.0.0.1:{}/logs/team/a/{id}.log", world.moto);
    assert_eq!(shown["OutputUrl"]["S3OutputUrl"], url.as_str());
    let url = shown["OutputUrl"]["CloudWatchOutputUrl"].as_str().expect("a URL");
    assert!(url.ends_with(&format!("#logEventViewer:group=%2Fssm%2Flogs;stream={id}")), "{url}");
    // The target's own rule is to record nothing; this session was recorded all the same.
    let row = server.ravelin(&["sessions", "show", &id, "-o", "json"]).json();
    assert_eq!(row["recording"], "complete", "{row}");

    // A command without a terminal: both of its streams.
    assert_eq!(world.figure("ravelin_session_logs_delivered_total"), 2.0);
    let said = world.session(&server, "LoggedCommand", "");
    assert!(said.out.contains("plain\tone"), "{said:?}");
    let shown = world.newest(&server, "LoggedCommand");
    let (object, lines) = world.delivered(shown["SessionId"].as_str().expect("an id"));
    let mut sorted: Vec<&str> = object.lines().collect();
    sorted.sort_unstable();
    assert_eq!((sorted, lines.len()), (vec!["plain\tone", "two"], 2), "{object:?}");

    // Lines that are sent as they come: there while the session lives, and each of them once after the bastion's death.
    let mut streaming = inputs("", "/ssm/logs");
    streaming["cloudWatchStreamingEnabled"] = json!(true);
    let _made = world.create(&server, "Streamed", &shell(streaming)).ok();
    let mut live = ravelin_e2e::Running::start(&mut world.start(&server, "Streamed"));
    live.send("echo live-$((40+1)); sleep 1; echo last-$((40+5)); exec sleep 60\n");
    live.expect("live-41");
    let id = server.one_live("connected")["id"].as_str().expect("an id").to_owned();
    let sent = |id: &str| -> Vec<Value> {
        let all = world.boto("read");
        let lines = all["streams"][id].as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| serde_json::from_str(line.as_str().expect("a text")).expect("JSON")).collect()
    };
    let count = |events: &[Value], text: &str| events.iter().filter(|event| event["sessionData"][0] == text).count();
    eventually("a line is there while the session lives", || (count(&sent(&id), "live-41") == 1).then_some(()));
    live.expect("last-45");
    let _gone = server.kill_dash_nine();
    live.kill_dash_nine();
    let server = world.serve();
    let events =
        eventually("the last line is there, too", || Some(sent(&id)).filter(|events| count(events, "last-45") == 1));
    assert_eq!(count(&events, "live-41"), 1, "{events:?}");
    let event = events.iter().find(|event| event["sessionData"][0] == "live-41").expect("there");
    assert_eq!((&event["eventVersion"], &event["sessionId"]), (&json!("1.0"), &json!(id)), "{event}");
    assert_eq!(event["userIdentity"]["arn"], "arn:aws:iam::000000000000:user/alice");
    assert_eq!((&event["runAsUser"], &event["awsRegion"]), (&json!(world.sshd.user), &json!("us-east-1")));
    assert!(event["target"]["id"].as_str().is_some_and(|id| id.starts_with("mi-")), "{event}");
    eventually("nothing waits", || (world.figure("ravelin_session_logs_waiting") == 0.0).then_some(()));

    // Who names no document gets no logs, and nothing is recorded.
    let said = world.session(&server, "SSM-SessionManagerRunShell", "exit\n");
    assert_eq!(said.code, 0, "{said:?}");
    let plain = world.newest(&server, "SSM-SessionManagerRunShell");
    assert_eq!(plain["OutputUrl"], Value::Null, "{plain}");
    assert_eq!(world.figure("ravelin_session_logs_delivered_total"), 1.0);
    assert_eq!(world.figure("ravelin_session_logs_waiting"), 0.0);

    // The far end is away when a session ends, and then the bastion dies; afterwards everything arrives, once.
    drop(peer);
    let said = world.session(&server, "Logged", "echo later-$((40+3))\nexit\n");
    assert!(said.out.contains("later-43"), "{said:?}");
    eventually("the failure is told", || (world.figure("ravelin_session_logs_failures_total") >= 2.0).then_some(()));
    assert_eq!(world.figure("ravelin_session_logs_waiting"), 2.0);
    for (kind, name) in [("log_bucket", "logs"), ("log_group", "/ssm/logs")] {
        let place = world.place(&server, kind);
        assert_eq!((&place["name"], &place["behind"]), (&json!(name), &json!(1)), "{place}");
        assert!(place["oldest_waiting"].is_string() && place["last_error"].is_string(), "{place}");
        assert!(place["position"].is_null() && place["failures"].as_u64() >= Some(1), "{place}");
    }
    let table = server.ravelin(&["sinks", "ls"]);
    assert!(table.out.contains("log_bucket") && table.out.contains("/ssm/logs"), "{table:?}");
    let said = world.check();
    for warning in ["warning: aws.log_buckets \"logs\": ", "warning: aws.log_groups \"/ssm/logs\": "] {
        assert!(said.code == 0 && said.out.contains(warning), "{said:?}");
    }
    let log = server.log();
    assert!(log.contains("the output of a session is not in its place yet") && !log.contains("hush-hush"), "{log}");
    let _gone = server.kill_dash_nine();
    let server = world.serve();
    let shown = world.newest(&server, "Logged");
    let later = shown["SessionId"].as_str().expect("an id").to_owned();
    assert_ne!(later, id);
    let _peer = world.peer(&program);
    let (object, lines) = world.delivered(&later);
    assert!(object.contains("later-43\n"), "{object:?}");
    assert_eq!(lines.iter().filter(|line| *line == "later-43").count(), 1, "{lines:?}");
    eventually("nothing waits", || (world.figure("ravelin_session_logs_waiting") == 0.0).then_some(()));
    let place = world.place(&server, "log_bucket");
    assert_eq!((&place["behind"], &place["delivered"]), (&json!(0), &json!(1)), "{place}");
    assert!(place["last_error"].is_null() && place["last_delivery"].is_string(), "{place}");

    // The configuration has the bucket no more: the document that names it is refused when it is used.
    drop(server);
    let config = std::fs::read_to_string(world.config()).expect("readable");
    std::fs::write(world.config(), config.replace("bucket = \"logs\"", "bucket = \"moved\"")).expect("written");
    let server = world.serve();
    let said = world.session(&server, "Logged", "exit\n");
    assert!(said.code != 0 && said.err.contains("InvalidDocument"), "{said:?}");
    assert!(said.err.contains("inputs.s3BucketName names logs"), "{said:?}");
}
