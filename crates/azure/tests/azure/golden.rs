//! Replays `tests/golden/<operation>/<case>.request.http` and compares with `<case>.answer.http`.
//!
//! A request file starts with `#` lines that name its source. What differs from run to run is written in braces on both
//! sides: `{token}`, `{session1}`, `{guid}`, `{time}` and so on. `UPDATE_GOLDEN=1` rewrites the answers; the diff is the
//! review.

use crate::world::{Answer, HOST, SUBSCRIPTION, TENANT, World};
use axum::body::Body;
use http::Request;
use ravelin_engine::testkit::FakeLeg;
use ravelin_model::credential::CredentialKind;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

#[tokio::test]
async fn answers_are_as_written_down() {
    let mut cases = request_files();
    cases.sort();
    assert!(cases.len() >= 12, "the request files are there");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let text = fs::read_to_string(&case).expect("readable");
        assert!(text.starts_with("# source: "), "{} names no source", case.display());
        let answer = replay(&text).await;
        let file =
            case.with_file_name(case.file_name().expect("a name").to_string_lossy().replace(".request.", ".answer."));
        if update {
            fs::write(&file, &answer).expect("writable");
        } else if fs::read_to_string(&file).ok().as_deref() != Some(&answer) {
            wrong.push(format!("{}:\n{answer}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "run with UPDATE_GOLDEN=1 and review the diff:\n{}", wrong.join("\n"));
}

async fn replay(text: &str) -> String {
    let world = World::new().await;
    let first = world.open("bob", "vm01", FakeLeg::new()).await;
    let second = world.open("alice", "web-1", FakeLeg::new()).await;
    let (client, secret) = world.credential("alice", CredentialKind::ClientSecret).await;
    let token = world.bearer_for(&client, &secret).await;
    let stranger = world.bearer("eve").await;
    let names = [
        ("{session1}", first.session().to_string()),
        ("{session2}", second.session().to_string()),
        ("{client}", client),
        ("{secret}", secret),
        ("{token}", token),
        ("{stranger's token}", stranger),
        ("{tenant}", TENANT.to_owned()),
        ("{subscription}", SUBSCRIPTION.to_owned()),
        ("{host}", HOST.to_owned()),
    ];
    let text = names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let answer = world.send(parse(&text)).await;
    let shown = show(answer);
    let shown = names.iter().fold(shown, |text, (name, value)| text.replace(value, name));
    mask(&shown)
}

fn parse(text: &str) -> Request<Body> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines().filter(|line| !line.starts_with('#'));
    let mut first = lines.next().expect("a request line").split(' ');
    let mut request = Request::builder().method(first.next().expect("a method")).uri(first.next().expect("a path"));
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    request.body(Body::from(body.trim_end().to_owned())).expect("a request")
}

fn show(answer: Answer) -> String {
    let mut out = format!("{}\n", answer.status);
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().expect("ASCII")))
        .collect();
    headers.sort();
    out.extend(headers);
    let mut body = answer.body;
    for secret in ["access_token", "kid", "x", "y", "etag"] {
        for place in [format!("/{secret}"), format!("/keys/0/{secret}"), format!("/value/0/{secret}")] {
            if let Some(value) = body.pointer_mut(&place) {
                *value = Value::String(format!("{{{secret}}}"));
            }
        }
    }
    for item in body.get_mut("value").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(minutes) = item.get_mut("sessionDurationInMins") {
            assert!(minutes.as_f64().expect("a number") < 1.0);
            *minutes = Value::from(0.0);
        }
    }
    // The order of members depends on what else is compiled along.
    body.sort_all_objects();
    format!("{out}\n{}\n", serde_json::to_string_pretty(&body).expect("JSON"))
}

/// Puts `{guid}` for GUIDs and `{time}` for the three forms of times.
fn mask(text: &str) -> String {
    const SHAPES: [(&str, &str); 5] = [
        ("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "{guid}"),
        ("dddd-dd-ddTdd:dd:dd.dddddddZ", "{time}"),
        ("dddd-dd-dd dd:dd:ddZ", "{time}"),
        ("ddddddddTddddddZ", "{time}"),
        ("hhhhhhhhhhhhhhhhh", "{17 hex digits}"),
    ];
    let fits = |rest: &str, shape: &str| {
        rest.len() >= shape.len()
            && rest.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
                b'h' => byte.is_ascii_hexdigit(),
                b'd' => byte.is_ascii_digit(),
                _ => byte == wanted,
            })
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let found = SHAPES.iter().find(|(shape, _)| fits(rest, shape));
        match found {
            Some((shape, name)) => {
                out.push_str(name);
                rest = &rest[shape.len()..];
            }
            None => {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    out
}

fn request_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(root).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    folders
        .filter(|path| path.is_dir())
        .flat_map(|folder| fs::read_dir(folder).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".request.http"))
        .collect()
}
