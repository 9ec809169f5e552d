//! `ravelin ssm` beside the real aws CLI: the same arguments, the same answers, the same bytes.

use ravelin_e2e::{Said, Server, binary, eventually, need, run, run_with};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

/// What both programs said, made comparable: usage differs by the program's name only.
fn comparable(said: &Said) -> (i32, String, String) {
    let mut err = said.err.as_str();
    for end in ["  aws <command> <subcommand> help\n", "  ravelin ssm <command> help\n"] {
        if let Some(at) = err.find(end) {
            err = &err[at + end.len()..];
        }
    }
    (said.code, said.out.clone(), err.replace("aws: error: ", "ravelin: error: "))
}

/// Runs the aws CLI for each line of its input, in a process of its own each; that it is loaded once makes the many
/// lines bearable.
const DRIVER: &str = r#"
import json, os, sys, tempfile
import awscli.clidriver
said = []
for args in json.load(sys.stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["aws", "ssm"] + args
            try:
                code = awscli.clidriver.main()
            except SystemExit as end:
                code = end.code
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        said.append([os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()])
json.dump(said, sys.stdout)
"#;

/// Lines that one driver takes at most, so that it ends well before it is thought stuck.
const BATCH: usize = 12;

/// The interpreter that runs this aws CLI.
fn interpreter(aws: &Path) -> String {
    let script = std::fs::read_to_string(aws).expect("the aws CLI is a script");
    script.lines().next().and_then(|line| line.strip_prefix("#!")).expect("an interpreter").trim().to_owned()
}

/// What the aws CLI says to each line.
fn theirs(prepare: &dyn Fn(&mut Command), aws: &Path, lines: &[&[&str]]) -> Vec<Said> {
    let interpreter = interpreter(aws);
    let mut said = Vec::new();
    for batch in lines.chunks(BATCH) {
        let mut command = Command::new(&interpreter);
        prepare(&mut command);
        command.args(["-c", DRIVER]);
        let answers = run_with(&mut command, json!(batch).to_string().as_bytes()).json();
        for answer in answers.as_array().expect("a list") {
            let text = |index: usize| answer[index].as_str().expect("text").to_owned();
            let code = answer[0].as_i64().and_then(|code| i32::try_from(code).ok()).expect("a status");
            said.push(Said { code, out: text(1), err: text(2) });
        }
    }
    said
}

fn ours(prepare: &dyn Fn(&mut Command), args: &[&str]) -> Said {
    let mut command = Command::new(binary());
    prepare(&mut command);
    run(command.arg("ssm").args(args))
}

fn assert_same(prepare: &dyn Fn(&mut Command), aws: &Path, lines: &[&[&str]]) {
    let theirs = theirs(prepare, aws, lines);
    let mut different = Vec::new();
    for (args, theirs) in lines.iter().zip(&theirs) {
        let ours = ours(prepare, args);
        if comparable(&ours) != comparable(theirs) {
            different.push(format!("{args:?}\n  ours: {ours:?}\n  aws:  {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{} of {} differ:\n{}", different.len(), lines.len(), different.join("\n"));
}

/// A service with answers of the test's choice.
struct Stub {
    url: String,
    /// Every request: its headers in lower case, and its body.
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

/// What a stub answers.
enum Answer {
    Json(u16, String),
    /// These bytes and then the end of the connection.
    Raw(Vec<u8>),
}

impl Stub {
    fn new(answer: impl Fn(usize, &str, &Value) -> Answer + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stub = Stub { url, heard: Arc::clone(&heard) };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, heard) = (Arc::clone(&answer), Arc::clone(&heard));
                std::thread::spawn(move || serve(stream, &heard, &*answer));
            }
        });
        stub
    }

    fn heard(&self) -> Vec<(String, String)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The environment for a client of this service.
    fn environment(&self) -> impl Fn(&mut Command) + use<> {
        let url = self.url.clone();
        move |command| {
            for name in
                ["AWS_PROFILE", "AWS_DEFAULT_OUTPUT", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_SSM", "RAVELIN_AWS_CLI"]
            {
                command.env_remove(name);
            }
            command
                .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
                .env("AWS_SECRET_ACCESS_KEY", "secret")
                .env("AWS_DEFAULT_REGION", "eu-central-1")
                .env("AWS_ENDPOINT_URL", &url)
                .env("AWS_CONFIG_FILE", "/nonexistent")
                .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .env("AWS_MAX_ATTEMPTS", "1")
                .env("AWS_PAGER", "")
                .env("PYTHONUTF8", "1")
                .env("TZ", "IST-5:30");
        }
    }

    fn ravelin(&self, args: &[&str]) -> Said {
        let mut command = Command::new(binary());
        self.environment()(&mut command);
        run(command.arg("ssm").args(args))
    }
}

fn serve(
    mut stream: TcpStream,
    heard: &Mutex<Vec<(String, String)>>,
    answer: &(dyn Fn(usize, &str, &Value) -> Answer + Send + Sync),
) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            }
        };
        let headers = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
        let field = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = field("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
        while buffer.len() < head + length {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            }
        }
        let body = String::from_utf8_lossy(&buffer[head..head + length]).into_owned();
        let operation = field("x-amz-target:").and_then(|target| target.split('.').nth(1)).unwrap_or("").to_owned();
        let number = {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push((headers, body.clone()));
            heard.len()
        };
        buffer.drain(..head + length);
        let request = serde_json::from_str(&body).unwrap_or(Value::Null);
        // A client that has seen enough may be gone; it will say what it makes of that.
        match answer(number, &operation, &request) {
            Answer::Json(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\nx-amzn-requestid: 1\r\n\
                     content-length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
                    return;
                }
            }
            Answer::Raw(bytes) => {
                let _gone = stream.write_all(&bytes);
                let _gone = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// Five sessions in pages of two, with everything that makes output hard.
fn listing(_number: usize, operation: &str, request: &Value) -> Answer {
    let session = |index: usize| {
        let mut session = format!(
            r#"{{"SessionId":"John-07a16060613c408b{index}","Target":"i-1234567890abcdef0","Status":"Connected","Owner":"arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez","StartDate":{},"Unknown":{{"a":1}}"#,
            ["1550676938.352", "1550676842.194", "1550676842", "1550676842.1", "1550676842.0"][index],
        );
        session.push_str(match index {
            1 => r#","Reason":"Wartung: äöü \"x\" <b> 東京","MaxSessionDuration":"60","OutputUrl":{}"#,
            2 => r#","EndDate":1.550676938352E9,"Details":"line\ttab","DocumentName":"AWS-StartSSHSession""#,
            3 => r#","Reason":null,"OutputUrl":{"CloudWatchOutputUrl":"cw","S3OutputUrl":"https://x/y"}"#,
            _ => r#","OutputUrl":{}"#,
        });
        session + "}"
    };
    match operation {
        "describesessions" => {
            let token = request["NextToken"].as_str().unwrap_or("p0");
            let Some(from) = token.strip_prefix('p').and_then(|text| text.parse::<usize>().ok()) else {
                let body = json!({ "__type": "InvalidNextToken", "Message": "The specified token is not valid." });
                return Answer::Json(400, body.to_string());
            };
            let size = usize::try_from(request["MaxResults"].as_u64().unwrap_or(2)).expect("a small page");
            let to = (from + size).min(5);
            let items: Vec<String> = (from..to).map(session).collect();
            let next = if to < 5 { format!(r#","NextToken":"p{to}""#) } else { String::new() };
            Answer::Json(200, format!(r#"{{"Sessions":[{}]{next}}}"#, items.join(",")))
        }
        "getconnectionstatus" => Answer::Json(200, json!({ "Status": "connected", "Target": request["Target"] }).to_string()),
        "terminatesession" => Answer::Json(200, json!({ "SessionId": request["SessionId"] }).to_string()),
        "resumesession" => {
            let body = json!({ "StreamUrl": "wss://x/y", "TokenValue": "t", "SessionId": request["SessionId"] });
            Answer::Json(200, body.to_string())
        }
        "describeinstanceinformation" => Answer::Json(
            200,
            r#"{"InstanceInformationList":[{"InstanceId":"mi-0123456789abcdef0","PingStatus":"Online","LastPingDateTime":1550676938.352,"AgentVersion":"3.3.0.0","IsLatestVersion":true,"PlatformType":"Linux","PlatformVersion":"12","IPAddress":"10.0.0.1","ComputerName":"web-1","AssociationOverview":{"DetailedStatus":"x","InstanceAssociationStatusAggregatedCount":{"Success":2,"Failed":1}}},{"InstanceId":"mi-0123456789abcdef1","IsLatestVersion":false}]}"#.to_owned(),
        ),
        _ => Answer::Json(400, r#"{"__type":"UnknownOperationException"}"#.to_owned()),
    }
}

const STATE: [&str; 3] = ["describe-sessions", "--state", "Active"];

/// Invocations of `describe-sessions` that show something.
const SHOWN: &[&[&str]] = &[
    &[],
    &["--max-items", "3"],
    &["--max-items", "2"],
    &["--max-items", "4", "--page-size", "3"],
    &["--max-items", "9"],
    &["--page-size", "2"],
    &["--max-results", "3"],
    &["--next-token", "p2"],
    &["--no-paginate"],
    &["--starting-token", "p2"],
    &["--starting-token", "eyJOZXh0VG9rZW4iOiAicDIiLCAiYm90b190cnVuY2F0ZV9hbW91bnQiOiAxfQ=="],
    &["--starting-token", "eyJOZXh0VG9rZW4iOiAicDIiLCAiYm90b190cnVuY2F0ZV9hbW91bnQiOiAxfQ==", "--max-items", "1"],
    &["--starting-token", "p2___1", "--max-items", "1"],
    &["--filters", "key=Owner,value=a", "key=Status,value=Connected"],
    &["--filters", r#"[{"key":"Owner","value":"a"}]"#],
    &["--filters", r#"{"key":"Owner","value":"a"}"#, r#"{"key":"Status","value":"b"}"#],
    &["--query", "Sessions[0]"],
    &["--query", "Sessions[].SessionId"],
    &["--query", "Sessions[].[SessionId,StartDate]"],
    &["--query", "Sessions[?SessionId>'John-07a16060613c408b2'].{Z:Target,A:Status}"],
    &["--query", "Sessions[9]"],
    &["--query", "length(Sessions)"],
    &["--query", "sort_by(Sessions,&StartDate)[-1].Owner"],
    &["--query", "Sessions[].OutputUrl"],
    &["--query", "Sessions[].SessionId", "--max-items", "3"],
    &["--out", "json"],
    &["--state=History"],
    &["--cli-input-json", r#"{"State":"History","Filters":[{"key":"a","value":"b"}]}"#],
];

/// Those that do not.
const REFUSED: &[&[&str]] = &[
    &["--page-size", "0"],
    &["--max-results", "0"],
    &["--max-results", "x"],
    &["--no-paginate", "--max-items", "2"],
    &["--no-paginate", "--max-items", "2", "--page-size", "1", "--starting-token", "x"],
    &["--max-results", "2", "--page-size", "2"],
    &["--starting-token", "bogus"],
    &["--filters", "key=A,value=B", "key=C"],
    &["--filters", "key=A,valu=B"],
    &["--filters", "key=A,key=B"],
    &["--filters", "key=A,value=b,c"],
    &["--filters", "key=A,value='b"],
    &["--filters", "key"],
    &["--filters", ""],
    &["--filters"],
    &["--filters", "["],
    &["--filters", r#"[{"key":"a""#],
    &["--filters", "[]", "[]"],
    &["--filters", "a=[b,c],d={e=f}"],
    &["--filters", "key=a,value="],
    &["--query", "nothing(@)"],
    &["--query", "length(`1`,`2`)"],
    &["--query", "length(Nothing)"],
    &["--max-items", "x"],
    &["--bogus", "1"],
    &["extra"],
    &["--sta", "Active"],
    &["--state", "file:///nonexistent/file"],
    &["--region", "a b"],
    &["--cli-read-timeout", "x"],
    &["--endpoint-url", "x"],
    &["--endpoint-url", "http://127.0.0.1:1"],
    &["--profile", "nobody"],
    &["--generate-cli-skeleton", "output", "--filters", "key=a"],
    &["--cli-input-json", r#"{"State":"History","Foo":1}"#],
    &["--cli-input-json", r#"{"MaxResults":"x","NextToken":1,"Filters":{"a":[true,null]}}"#],
];

/// Whole lines for the other commands.
const OTHERS: &[&[&str]] = &[
    &["get-connection-status", "--target", "x"],
    &["get-connection-status", "--generate-cli-skeleton"],
    &["get-connection-status", "--target", "x", "--generate-cli-skeleton", "output"],
    &["terminate-session", "--session-id", "abc"],
    &["resume-session", "--session-id", "abc"],
    &["describe-instance-information"],
    &["describe-instance-information", "--max-items", "1"],
    &["describe-instance-information", "--filters", "Key=PingStatus,Values=Online,Inactive", "Key=tag:a,Values=b"],
    &["describe-instance-information", "--instance-information-filter-list", "key=PingStatus,valueSet=Online"],
    &["describe-instance-information", "--query", "InstanceInformationList[].[InstanceId,IsLatestVersion]"],
];

/// Whole lines that show nothing.
const OTHERS_REFUSED: &[&[&str]] = &[
    &["describe-sessions"],
    &["describe-sessions", "--state"],
    &["get-connection-status"],
    &["terminate-session", "--session-id", ""],
    &["describe-instance-information", "--max-results", "4"],
    &["terminate-session", "--session-id", "abc", "--page-size", "2"],
];

/// What shows something, in each of the forms; what shows nothing does so in any, so once is enough.
fn lines(forms: &[&'static str]) -> Vec<Vec<&'static str>> {
    let sessions = |line: &&[&'static str]| [&STATE[..], line].concat();
    let shown: Vec<Vec<&str>> = SHOWN.iter().map(sessions).chain(OTHERS.iter().map(|line| line.to_vec())).collect();
    let refused = REFUSED.iter().map(sessions).chain(OTHERS_REFUSED.iter().map(|line| line.to_vec()));
    let in_form = |form: &'static str| shown.iter().map(move |line| [line, &["--output", form][..]].concat());
    refused.chain(forms.iter().copied().flat_map(in_form)).collect()
}

#[test]
fn the_first_generation_and_ours_say_the_same() {
    let aws = need!("E2E_AWS");
    let stub = Stub::new(listing);
    let lines = lines(&["json", "text", "table"]);
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    assert_same(&stub.environment(), &aws, &lines);
    let skeleton = [&STATE[..], &["--generate-cli-skeleton", "output"]].concat();
    let text = [&skeleton[..], &["--output", "text"]].concat();
    assert_same(
        &stub.environment(),
        &aws,
        &[&skeleton, &text, &["describe-instance-information", "--generate-cli-skeleton", "output"]],
    );
}

#[test]
fn the_second_generation_and_ours_say_the_same() {
    let aws = need!("E2E_AWS2");
    let stub = Stub::new(listing);
    let url = stub.url.clone();
    let environment = stub.environment();
    // Version 2.9 knows no variable for the endpoint.
    let lines: Vec<Vec<&str>> = lines(&["json", "yaml", "yaml-stream"])
        .into_iter()
        .chain([
            vec!["describe-sessions", "--cli-input-yaml", "State: History\nFilters:\n- key: a\n  value: '1'\n"],
            vec!["describe-sessions", "--cli-input-yaml", "[: ]"],
            vec!["describe-sessions", "--cli-input-yaml", "x"],
            vec!["describe-sessions", "--cli-input-yaml", "State: A", "--cli-input-json", "{}"],
            vec!["describe-sessions", "--cli-input-json", r#"{"State":"A","NextToken":"p2"}"#],
            vec!["describe-sessions", "--cli-input-json", "[1]"],
            vec!["describe-sessions", "--generate-cli-skeleton"],
            vec!["describe-instance-information", "--generate-cli-skeleton", "input"],
        ])
        .map(|mut line| {
            if !line.contains(&"--endpoint-url") {
                line.extend(["--endpoint-url", url.as_str()]);
            }
            line
        })
        .collect();
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    let second = |command: &mut Command| {
        environment(command);
        command.env("RAVELIN_AWS_CLI", "2");
    };
    assert_same(&second, &aws, &lines);
}

/// The same server answers both: AWS's own form of everything, signatures included.
#[test]
fn both_say_the_same_about_a_real_server() {
    let (aws, ssh) = (need!("E2E_AWS"), need!("E2E_SSH"));
    let server = Server::dev();
    for _ in 0..3 {
        assert_eq!(run(&mut server.ssh(&ssh, &[&server.destination(), "true"])).code, 0);
    }
    eventually("all are in the history", || (server.history().len() == 3).then_some(()));
    let target = server.var("RAVELIN_TARGET_AWS_ID").to_owned();
    let history = ["describe-sessions", "--state", "History"];
    let mut lines: Vec<Vec<&str>> = Vec::new();
    for form in ["json", "text", "table"] {
        for more in [
            &["--output", form][..],
            &["--output", form, "--max-items", "2"],
            &["--output", form, "--page-size", "2"],
            &["--output", form, "--query", "Sessions[].[SessionId,Details]"],
            &["--output", form, "--filters", "key=Status,value=Failed"],
            &["--output", form, "--filters", "key=Target,value=mi-00000000000000000"],
            &["--output", form, "--filters", "key=Colour,value=red"],
            &["--output", form, "--max-results", "500"],
            &["--output", form, "--no-sign-request"],
            &["--output", form, "--starting-token", "foreign"],
        ] {
            lines.push([&history[..], more].concat());
        }
        lines.push(vec!["describe-sessions", "--state", "Bogus", "--output", form]);
        lines.push(vec!["get-connection-status", "--target", &target, "--output", form]);
        lines.push(vec!["terminate-session", "--session-id", "alice-0ffffffffffffffff", "--output", form]);
    }
    let environment = server.env.clone();
    let home = server.dir.clone();
    let prepare = move |command: &mut Command| {
        command.envs(&environment).env("HOME", &home).env("PYTHONUTF8", "1").env_remove("AWS_PROFILE");
        command.env_remove("RAVELIN_AWS_CLI");
    };
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    assert_same(&prepare, &aws, &lines);
    // A token that one of them made, given to the other.
    let cut = ours(&prepare, &[&history[..], &["--max-items", "2", "--output", "json"]].concat()).json();
    let token = cut["NextToken"].as_str().expect("a token").to_owned();
    assert_same(&prepare, &aws, &[&[&history[..], &["--starting-token", &token]].concat()]);
}

/// Both examples of AWS's reference of `describe-sessions`.
#[test]
fn the_examples_of_the_reference() {
    let owner = "arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez";
    let stub = Stub::new(|_number, _operation, request| {
        Answer::Json(200, match request["State"].as_str() {
            Some("Active") => r#"{"Sessions":[{"SessionId":"John-07a16060613c408b5","Target":"i-1234567890abcdef0","Status":"Connected","StartDate":1550676938.352,"Owner":"arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez","OutputUrl":{}},{"SessionId":"John-01edf534b8b56e8eb","Target":"i-9876543210abcdef0","Status":"Connected","StartDate":1550676842.194,"Owner":"arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez","OutputUrl":{}}]}"#,
            _ => r#"{"Sessions":[{"SessionId":"Mary-Major-0022b1eb2b0d9e3bd","Target":"i-1234567890abcdef0","Status":"Terminated","StartDate":1550520701.256,"EndDate":1550521931.563,"Owner":"arn:aws:sts::123456789012:assumed-role/Administrator/Mary-Major"},{"SessionId":"Jane-Roe-0db53f487931ed9d4","Target":"i-9876543210abcdef0","Status":"Terminated","StartDate":1550161369.149,"EndDate":1550162580.329,"Owner":"arn:aws:sts::123456789012:assumed-role/Administrator/Jane-Roe"}],"NextToken":"--token string truncated--"}"#,
        }.to_owned())
    });
    let filter = format!("key=Owner,value={owner}");
    let active = stub.ravelin(&["describe-sessions", "--state", "Active", "--filters", &filter]).ok();
    assert_eq!(
        active,
        r#"{
    "Sessions": [
        {
            "SessionId": "John-07a16060613c408b5",
            "Target": "i-1234567890abcdef0",
            "Status": "Connected",
            "StartDate": 1550676938.352,
            "Owner": "arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez",
            "OutputUrl": {}
        },
        {
            "SessionId": "John-01edf534b8b56e8eb",
            "Target": "i-9876543210abcdef0",
            "Status": "Connected",
            "StartDate": 1550676842.194,
            "Owner": "arn:aws:sts::123456789012:assumed-role/Administrator/Shirley-Rodriguez",
            "OutputUrl": {}
        }
    ]
}
"#
    );
    let heard: Value = serde_json::from_str(&stub.heard()[0].1).expect("a request");
    assert_eq!(heard, json!({ "State": "Active", "Filters": [{ "key": "Owner", "value": owner }] }));
    let history = stub.ravelin(&["describe-sessions", "--state", "History", "--no-paginate"]).ok();
    assert_eq!(
        history,
        r#"{
    "Sessions": [
        {
            "SessionId": "Mary-Major-0022b1eb2b0d9e3bd",
            "Target": "i-1234567890abcdef0",
            "Status": "Terminated",
            "StartDate": 1550520701.256,
            "EndDate": 1550521931.563,
            "Owner": "arn:aws:sts::123456789012:assumed-role/Administrator/Mary-Major"
        },
        {
            "SessionId": "Jane-Roe-0db53f487931ed9d4",
            "Target": "i-9876543210abcdef0",
            "Status": "Terminated",
            "StartDate": 1550161369.149,
            "EndDate": 1550162580.329,
            "Owner": "arn:aws:sts::123456789012:assumed-role/Administrator/Jane-Roe"
        }
    ],
    "NextToken": "--token string truncated--"
}
"#
    );
}

#[test]
fn what_failed_is_tried_again_as_the_same_call() {
    let stub = Stub::new(|number, _operation, request| match number {
        1 => Answer::Json(500, r#"{"__type":"InternalServerError","Message":"boom"}"#.to_owned()),
        2 => Answer::Raw(Vec::new()),
        _ => Answer::Json(200, json!({ "SessionId": request["SessionId"] }).to_string()),
    });
    let mut command = Command::new(binary());
    stub.environment()(&mut command);
    command.env("AWS_MAX_ATTEMPTS", "4").args(["ssm", "terminate-session", "--session-id", "a", "--output", "text"]);
    assert_eq!(run(&mut command).ok(), "a\n");
    let heard = stub.heard();
    let field = |headers: &str, name: &str| {
        headers.lines().find_map(|line| line.strip_prefix(name)).expect("a header").trim().to_owned()
    };
    let invocations: Vec<String> = heard.iter().map(|(headers, _)| field(headers, "amz-sdk-invocation-id:")).collect();
    assert_eq!(invocations.len(), 3);
    assert!(invocations.iter().all(|id| *id == invocations[0]), "{invocations:?}");
    let attempts: Vec<String> = heard.iter().map(|(headers, _)| field(headers, "amz-sdk-request:")).collect();
    assert_eq!(attempts, ["attempt=1", "attempt=2", "attempt=3"]);

    let stub = Stub::new(|_, _, _| Answer::Json(503, r#"{"__type":"ServiceUnavailable","message":"no"}"#.to_owned()));
    let mut command = Command::new(binary());
    stub.environment()(&mut command);
    command.env("AWS_MAX_ATTEMPTS", "2").args(["ssm", "get-connection-status", "--target", "a"]);
    let said = run(&mut command);
    assert_eq!(said.code, 255);
    assert_eq!(
        said.err,
        "\nAn error occurred (ServiceUnavailable) when calling the GetConnectionStatus operation (reached max retries: 1): no\n"
    );
}

/// A service that lies, floods, loops or falls silent gets an error line, never a hang, a crash or an empty success.
#[test]
fn a_hostile_service_is_told_by_an_error() {
    type Case = (fn() -> Answer, &'static str);
    let cases: &[Case] = &[
        (|| Answer::Json(200, "<html>".to_owned()), "cannot be read"),
        (|| Answer::Json(200, String::new()), "cannot be read"),
        (|| Answer::Json(200, "[1,2]".to_owned()), "should be an object"),
        (|| Answer::Json(200, r#"{"Sessions":{"a":1}}"#.to_owned()), "Sessions should be a list"),
        (|| Answer::Json(200, r#"{"Sessions":[1]}"#.to_owned()), "Sessions should be an object"),
        (|| Answer::Json(200, r#"{"Sessions":[{"SessionId":{}}]}"#.to_owned()), "SessionId should be a plain value"),
        (
            || Answer::Json(200, r#"{"Sessions":[],"NextToken":{"a":"b"}}"#.to_owned()),
            "NextToken should be a plain value",
        ),
        (|| Answer::Json(200, r#"{"Sessions":[],"NextToken":7}"#.to_owned()), "Invalid type for parameter NextToken"),
        (|| Answer::Json(200, format!(r#"{{"Sessions":{}"#, "[".repeat(100_000))), "cannot be read"),
        (|| Answer::Json(200, format!("{{\"Sessions\":[]{}}}", " ".repeat(9 << 20))), "larger than"),
        (|| Answer::Json(200, format!(r#"{{"Sessions":[{}1]}}"#, "1,".repeat(1_100_000))), "more than"),
        (
            || Answer::Json(200, r#"{"Sessions":[],"NextToken":"t"}"#.to_owned()),
            "The same next token was received twice",
        ),
        (|| Answer::Json(302, String::new()), "(302)"),
        (|| Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()), "Connection was closed"),
        (|| Answer::Raw(b"nonsense\r\n\r\n".to_vec()), "Connection was closed"),
        (
            || Answer::Raw(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).into_bytes()),
            "Connection was closed",
        ),
        (
            || Answer::Json(400, format!(r#"{{"__type":"X","message":"{}"}}"#, "m".repeat(1 << 20))),
            "An error occurred (X)",
        ),
    ];
    for (index, (answer, wanted)) in cases.iter().enumerate() {
        let answer: fn() -> Answer = *answer;
        let stub = Stub::new(move |_, _, _| answer());
        let said = stub.ravelin(&STATE);
        assert_eq!(said.code, 255, "case {index}: {} {}", said.out.len(), &said.err[..said.err.len().min(300)]);
        assert!(said.err.contains(wanted), "case {index}: {}", &said.err[..said.err.len().min(300)]);
        assert_eq!(said.out, "", "case {index}");
        assert!(said.err.len() < 10_000, "case {index}: an error line has an end");
    }
}

/// A service that takes a request and says nothing.
#[test]
fn silence_has_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let stub = Stub::new(listing);
    let mut command = Command::new(binary());
    stub.environment()(&mut command);
    command.args(["ssm", "--cli-read-timeout", "1", "--endpoint-url", &url]).args(STATE);
    let said = run(&mut command);
    assert_eq!((said.code, said.err.as_str()), (255, format!("\nRead timeout on endpoint URL: \"{url}/\"\n").as_str()));
}

#[test]
fn profiles_are_read_as_the_aws_cli_reads_them() {
    let aws = need!("E2E_AWS");
    let dir = tempfile::tempdir().expect("a folder");
    let stub = Stub::new(listing);
    let (config, credentials) = (dir.path().join("config"), dir.path().join("credentials"));
    std::fs::write(
        &config,
        format!(
            "[default]\nregion = eu-west-1\noutput = text\nendpoint_url = {url}\n\n[profile iso]\nregion = eu-west-1\n\
             cli_timestamp_format = iso8601\nservices = mine\n\n[services mine]\nssm =\n  endpoint_url = {url}\n\n\
             [profile bare]\nregion = eu-west-1\n\n[profile odd]\nregion = eu-west-1\noutput = odd\nendpoint_url = {url}\n\
             [profile nowhere]\nendpoint_url = {url}\n\n[profile program]\nregion = eu-west-1\nendpoint_url = {url}\n\
             credential_process = printf '{{\"Version\": 1, \"AccessKeyId\": \"AKIDPROGRAM\", \"SecretAccessKey\": \"s\"}}'\n",
            url = stub.url
        ),
    )
    .expect("a file");
    let keys = "aws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n";
    std::fs::write(&credentials, format!("[default]\n{keys}\n[iso]\n{keys}\n[odd]\n{keys}\n[nowhere]\n{keys}"))
        .expect("a file");
    let environment = stub.environment();
    let prepare = |command: &mut Command| {
        environment(command);
        for name in
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL"]
        {
            command.env_remove(name);
        }
        command.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
    };
    let with = |more: &[&'static str]| [&STATE[..], more].concat();
    let lines = [
        with(&[]),
        with(&["--profile", "iso", "--output", "json"]),
        with(&["--profile", "iso", "--output", "text"]),
        with(&["--profile", "nowhere"]),
        with(&["--profile", "odd", "--output", "table"]),
        with(&["--profile", "missing"]),
        with(&["--profile", "program", "--output", "text"]),
        with(&["--profile", "bare", "--endpoint-url", "http://127.0.0.1:1"]),
        with(&["--no-sign-request"]),
    ];
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    assert_same(&prepare, &aws, &lines);
    let signers: Vec<String> = stub.heard().iter().map(|(headers, _)| headers.clone()).collect();
    assert!(signers.iter().filter(|headers| headers.contains("credential=akidprogram/")).count() >= 2);
    assert!(signers.iter().any(|headers| !headers.contains("authorization:")));
}
