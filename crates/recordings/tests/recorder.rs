//! The recorder as the engine uses it: tapes, crashes, readings, over a real directory.

use avt::Terminal;
use bytes::Bytes;
use ravelin_model::ports::{Recorder, Tape};
use ravelin_model::recording::{
    ActKind, Counts, Flow, Form, Head, Kept, Mode, Note, Purpose, Request, Rule, Terminal as Size, What,
};
use ravelin_model::{PrincipalName, Refusal, SessionId, TargetName, Time};
use ravelin_recordings::{Config, DirectoryRecorder, KeyRing};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn recorder(folder: &Path, digit: &str) -> DirectoryRecorder {
    let keys = KeyRing::parse(&format!("k {}", digit.repeat(64))).expect("a ring");
    let config = Config { folder: folder.to_path_buf(), keys, screen_text: true, far: None };
    DirectoryRecorder::open(config).expect("a recorder")
}

fn head(random: u64, input: bool) -> Head {
    let principal = PrincipalName::parse("alice").expect("a name");
    Head {
        session: SessionId::new(&principal, random),
        principal,
        target: TargetName::parse("web-1").expect("a name"),
        login: None,
        began: Time::from_micros(1_795_000_000_000_000),
        rule: Rule { mode: Mode::Full, input, ..Rule::default() },
    }
}

fn note(at: u64, what: What) -> Note {
    Note { at: Duration::from_millis(at), channel: 0, what }
}

fn opened(columns: u32, rows: u32) -> What {
    let terminal = Some(Size { name: "xterm".to_owned(), columns, rows });
    What::Opened { purpose: Purpose::Shell { terminal }, counts: Arc::<Counts>::default() }
}

fn out(at: u64, text: &[u8]) -> Note {
    note(at, What::Data { flow: Flow::Out, bytes: Bytes::copy_from_slice(text) })
}

fn typed(at: u64, text: &str) -> Note {
    note(at, What::Data { flow: Flow::In, bytes: Bytes::copy_from_slice(text.as_bytes()) })
}

async fn finish(recorder: &DirectoryRecorder, tape: Box<dyn Tape>) -> Kept {
    let kept = tape.finish().await.expect("finished");
    recorder.settle(&kept.head.session).await.expect("settled");
    kept
}

fn request(form: Form, from: u64) -> Request {
    Request { form, from: Duration::from_millis(from), channel: None, follow: false }
}

async fn read(recorder: &DirectoryRecorder, id: &SessionId, request: Request) -> Result<String, Refusal> {
    let mut reading = recorder.read(id, request).await?;
    let mut all = Vec::new();
    while let Some(bytes) = reading.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(String::from_utf8(all).expect("text"))
}

/// The screen that a cast leads to.
fn screen(cast: &str) -> Vec<String> {
    let mut lines = cast.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let header = lines.next().expect("a header");
    let side = |name: &str| usize::try_from(header[name].as_u64().expect("a size")).expect("small");
    let mut terminal = Terminal::new(side("width"), side("height")).expect("a terminal");
    for event in lines {
        let text = event[2].as_str().expect("a text");
        if event[1] == "o" {
            terminal.feed(text);
        } else if event[1] == "r" {
            let (columns, rows) = text.split_once('x').expect("a size");
            terminal.resize(columns.parse().expect("a number"), rows.parse().expect("a number"));
        }
    }
    terminal.screen().visible_lines().map(avt::Line::text).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let shelves = std::fs::read_dir(folder).expect("a folder").map(|shelf| shelf.expect("a shelf").path());
    shelves
        .flat_map(|shelf| std::fs::read_dir(shelf).expect("a shelf"))
        .map(|file| file.expect("a file").path())
        .collect()
}

#[tokio::test]
async fn playing_from_any_moment_leads_to_the_same_screen() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    let mut tape = recorder.begin(head(1, false)).await.expect("begun");
    tape.write(vec![note(0, opened(100, 30))]).await.expect("written");
    // A letter in two pieces, colours, a change of size, and enough for several screens to be kept.
    let mut at = 0;
    for round in 0..60_u64 {
        let mut notes = Vec::new();
        for line in 0..200 {
            at += 1;
            let text = format!("\x1b[3{}m{round} {line} \u{6f22}\u{e9} {}\r\n", line % 8, "y".repeat(300));
            let bytes = text.as_bytes();
            notes.push(out(at, &bytes[..13]));
            notes.push(out(at, &bytes[13..]));
        }
        tape.write(notes).await.expect("written");
        if round == 30 {
            tape.write(vec![note(at, What::Resized { columns: 80, rows: 24 })]).await.expect("written");
        }
    }
    let kept = finish(&recorder, tape).await;
    let id = &kept.head.session;
    let whole = read(&recorder, id, request(Form::Cast, 0)).await.expect("readable");
    assert!(whole.len() > 3_000_000, "{}", whole.len());
    let end = screen(&whole);
    assert!(end.iter().any(|line| line.contains("59 199")), "{end:?}");
    for from in [1, 500, 6_000, 9_000, at - 1, at, at + 10_000] {
        let begun = Instant::now();
        let part = read(&recorder, id, request(Form::Cast, from)).await.expect("readable");
        println!("from {from} ms of {at}: {} bytes, {} ms to the end", part.len(), begun.elapsed().as_millis());
        assert_eq!(screen(&part), end, "from {from} ms");
    }
    let late = read(&recorder, id, request(Form::Cast, at - 100)).await.expect("readable");
    assert!(late.len() < whole.len() / 20, "what lies before is not sent");
    let text = read(&recorder, id, request(Form::Text, 0)).await.expect("readable");
    assert!(text.contains("0 0 \u{6f22}\u{e9}") && !text.contains('\u{1b}'));
    let page = read(&recorder, id, request(Form::Html, 0)).await.expect("readable");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(!page.contains("http:") && !page.contains("https:"), "it asks nothing of anywhere");
}

#[tokio::test]
async fn a_page_cannot_be_made_to_run_what_was_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    let mut tape = recorder.begin(head(1, false)).await.expect("begun");
    let attack = b"</script><script>alert(1)</script><img src=x onerror=alert(1)>\r\n\x1b]0;title\x07";
    tape.write(vec![note(0, opened(100, 5)), out(1, attack)]).await.expect("written");
    let id = finish(&recorder, tape).await.head.session;
    let page = read(&recorder, &id, request(Form::Html, 0)).await.expect("readable");
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains("<img"));
}

#[tokio::test]
async fn typed_lines_are_kept_by_rule_only_and_passwords_never() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    for (random, input) in [(1, false), (2, true)] {
        let mut tape = recorder.begin(head(random, input)).await.expect("begun");
        let notes = vec![
            note(0, opened(80, 24)),
            out(1, b"$ "),
            typed(2, "sudo id\r"),
            out(3, b"sudo id\r\nPassword: "),
            typed(4, "hunter2\r"),
            out(5, b"\r\nuid=0\r\n$ "),
        ];
        tape.write(notes).await.expect("written");
        let kept = finish(&recorder, tape).await;
        let events = read(&recorder, &kept.head.session, request(Form::Events, 0)).await.expect("readable");
        assert_eq!(events.contains(r#""input","sudo id\r""#), input, "{events}");
        assert!(!events.contains("hunter2"), "{events}");
        let commands: Vec<_> = kept.acts.iter().filter(|act| act.kind == ActKind::Command).collect();
        assert_eq!(commands.len(), 1);
        assert_eq!(commands[0].text, "sudo id");
    }
}

#[tokio::test]
async fn what_a_crash_left_is_finished_once_and_whole_up_to_the_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = recorder(folder.path(), "a");
    let mut tape = first.begin(head(1, false)).await.expect("begun");
    tape.write(vec![note(0, opened(80, 24)), out(5, b"first\r\n")]).await.expect("written");
    tape.write(vec![out(9, b"second\r\n")]).await.expect("written");
    drop(tape);
    let part = files(folder.path()).remove(0);
    let bytes = std::fs::read(&part).expect("readable");
    std::fs::write(&part, &bytes[..bytes.len() - 5]).expect("cut");
    drop(first);

    let second = recorder(folder.path(), "a");
    let mut left = second.recover().await;
    let (id, kept) = left.pop().expect("one was left");
    let kept = kept.expect("it is finished");
    assert_eq!(kept.lasted, Duration::from_millis(5));
    let text = read(&second, &id, request(Form::Text, 0)).await.expect("readable");
    assert_eq!(text, "first\n");
    // Nobody has settled it, as in a crash before the store knew: the next start tells it again, unchanged.
    let third = recorder(folder.path(), "a");
    let again = third.recover().await.pop().expect("it is told again").1.expect("whole");
    assert_eq!((again.digest.as_str(), again.acts.len()), (kept.digest.as_str(), kept.acts.len()));
    third.settle(&id).await.expect("settled");
    assert!(recorder(folder.path(), "a").recover().await.is_empty());
}

/// A recording of four pieces that nobody has finished, and its file.
async fn unfinished(folder: &Path) -> (DirectoryRecorder, Box<dyn Tape>, SessionId, PathBuf) {
    let recorder = recorder(folder, "a");
    let mut tape = recorder.begin(head(1, false)).await.expect("begun");
    tape.write(vec![note(0, opened(80, 24)), out(5, b"first\r\n")]).await.expect("written");
    for at in 6..9 {
        tape.write(vec![out(at, format!("piece {at}\r\n").as_bytes())]).await.expect("written");
    }
    let part = files(folder).remove(0);
    (recorder, tape, head(1, false).session, part)
}

/// Where each frame begins, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let key_len = usize::from(bytes[10]);
    let session_len = usize::from(bytes[11 + key_len]);
    let mut all = vec![12 + key_len + session_len + 60];
    while let Some(length) = bytes.get(all[all.len() - 1]..).and_then(<[u8]>::first_chunk::<4>) {
        all.push(all[all.len() - 1] + 20 + u32::from_le_bytes(*length) as usize);
    }
    all
}

/// What can be read before it is refused.
async fn readable(recorder: &DirectoryRecorder, id: &SessionId) -> (String, Refusal) {
    let mut reading = recorder.read(id, request(Form::Text, 0)).await.expect("it opens");
    let mut all = String::new();
    loop {
        match reading.next().await {
            Ok(Some(bytes)) => all.push_str(std::str::from_utf8(&bytes).expect("text")),
            Ok(None) => panic!("it is taken for whole: {all}"),
            Err(refusal) => return (all, refusal),
        }
    }
}

#[tokio::test]
async fn one_that_is_damaged_in_the_middle_is_never_cut_nor_kept_and_is_played_up_to_there() {
    // In the body of the third frame; in its length, so that the file seems to end within it; in its kind.
    for (of_frame, flip) in [(25, 1), (3, 0x40), (4, 0x80)] {
        for at_the_start in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let (first, tape, id, part) = unfinished(folder.path()).await;
            let mut bytes = std::fs::read(&part).expect("readable");
            let at = frames(&bytes)[2] + of_frame;
            bytes[at] ^= flip;
            let damaged = |bytes: &[u8]| {
                let mut file = std::fs::OpenOptions::new().write(true).open(&part).expect("a file");
                std::io::Write::write_all(&mut file, bytes).expect("written");
            };
            damaged(&bytes);
            let (recorder, broken) = if at_the_start {
                drop((tape, first));
                let second = recorder(folder.path(), "a");
                let (told, outcome) = second.recover().await.pop().expect("one was left");
                assert_eq!(told, id);
                (second, outcome.expect_err("it is not whole"))
            } else {
                (first, tape.finish().await.expect_err("it is not whole"))
            };
            assert!(broken.because.contains("to be played up to there"), "{broken}");
            let left = std::fs::read(&part).expect("it stays where it was");
            assert!(left.starts_with(&bytes), "nothing of it is lost");
            let (text, refusal) = readable(&recorder, &id).await;
            assert_eq!(text, "first\n");
            assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn a_last_frame_that_is_garbled_is_what_a_crash_leaves() {
    for of_frame in [3, 4, 25] {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, tape, id, part) = unfinished(folder.path()).await;
        drop((tape, first));
        let mut bytes = std::fs::read(&part).expect("readable");
        let at = frames(&bytes)[4] + of_frame;
        bytes[at] ^= 0x40;
        std::fs::write(&part, &bytes).expect("written");
        let second = recorder(folder.path(), "a");
        let kept = second.recover().await.pop().expect("one was left").1.expect("it is finished");
        assert_eq!(kept.lasted, Duration::from_millis(7));
        let text = read(&second, &id, request(Form::Text, 0)).await.expect("readable");
        assert_eq!(text, "first\npiece 6\npiece 7\n");
    }
}

#[tokio::test]
async fn one_that_is_damaged_before_it_is_on_record_is_not_put_on_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, tape, id, _part) = unfinished(folder.path()).await;
    tape.finish().await.expect("finished");
    drop(first);
    let new = files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&new).expect("readable");
    let at = frames(&bytes)[4] + 25;
    bytes[at] ^= 1;
    std::fs::write(&new, &bytes).expect("written");
    let second = recorder(folder.path(), "a");
    let (told, outcome) = second.recover().await.pop().expect("one was left");
    assert!(told == id && outcome.is_err(), "{outcome:?}");
    assert_eq!(std::fs::read(&new).expect("readable"), bytes);
    assert_eq!(readable(&second, &id).await.0, "first\npiece 6\npiece 7\n");
}

#[tokio::test]
async fn another_key_is_an_error_for_readers_and_for_a_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = recorder(folder.path(), "a");
    let mut tape = first.begin(head(1, false)).await.expect("begun");
    tape.write(vec![note(0, opened(80, 24)), out(1, b"secret")]).await.expect("written");
    let id = finish(&first, tape).await.head.session;
    let unfinished = first.begin(head(2, false)).await.expect("begun");
    drop(unfinished);
    let other = recorder(folder.path(), "b");
    let refusal = read(&other, &id, request(Form::Cast, 0)).await.expect_err("refused");
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal:?}");
    let left = other.recover().await;
    assert!(left.len() == 1 && left[0].1.is_err(), "{left:?}");
    assert!(
        files(folder.path()).iter().any(|path| path.extension().is_some_and(|s| s == "part")),
        "it is left as it is"
    );
    for path in files(folder.path()) {
        let bytes = std::fs::read(path).expect("readable");
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }
}

#[tokio::test]
async fn a_follower_sees_the_screen_of_the_moment_and_then_what_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    let head = head(1, false);
    let id = head.session.clone();
    let mut tape = recorder.begin(head).await.expect("begun");
    tape.write(vec![note(0, opened(80, 24)), out(5, b"before\r\n")]).await.expect("written");
    let follow = Request { form: Form::Cast, from: Duration::ZERO, channel: None, follow: true };
    let mut reading = recorder.read(&id, follow).await.expect("live");
    let first = reading.next().await.expect("readable").expect("a screen");
    let first = String::from_utf8(first.to_vec()).expect("text");
    assert!(first.contains("\"version\":2") && first.contains("before"), "{first}");
    let coming = tokio::spawn(async move {
        let mut rest = String::new();
        while let Some(bytes) = reading.next().await.expect("readable") {
            rest.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
        rest
    });
    tape.write(vec![out(50, b"after\r\n")]).await.expect("written");
    finish(&recorder, tape).await;
    let rest = coming.await.expect("it ends with the session");
    assert!(rest.contains("after") && !rest.contains("before"), "{rest}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    // A folder that is a file: nothing can be made in it.
    std::fs::remove_dir_all(folder.path()).expect("removed");
    std::fs::write(folder.path(), b"").expect("a file in its place");
    assert!(recorder.begin(head(1, false)).await.is_err());
    std::fs::remove_file(folder.path()).expect("removed");
    std::fs::create_dir(folder.path()).expect("made again");
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn output_without_a_terminal_is_kept_as_text_where_the_rule_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    let exec = |command: &str| {
        let purpose = Purpose::Exec { command: command.to_owned(), terminal: None };
        What::Opened { purpose, counts: Arc::<Counts>::default() }
    };
    let logged = |random| {
        let head = head(random, false);
        Head { rule: Rule { output: true, ..head.rule.clone() }, ..head }
    };
    let mut tape = recorder.begin(logged(1)).await.expect("begun");
    let long = "x".repeat(200_000);
    tape.write(vec![
        note(0, exec("make")),
        typed(1, "not shown\n"),
        out(2, b"a\tb \xe6\xbc"),
        out(3, b"\xa2\x1b[31m\r\n\nno"),
        out(4, b" end"),
    ])
    .await
    .expect("written");
    let kept = finish(&recorder, tape).await;
    let text = read(&recorder, &kept.head.session, request(Form::Text, 0)).await.expect("readable");
    assert_eq!(text, "a\tb \u{6f22}[31m\n\nno end\n");
    // A line that never ends is cut, and nothing of it is lost.
    let mut tape = recorder.begin(logged(2)).await.expect("begun");
    tape.write(vec![note(0, exec("cat")), out(1, long.as_bytes())]).await.expect("written");
    let kept = finish(&recorder, tape).await;
    let text = read(&recorder, &kept.head.session, request(Form::Text, 0)).await.expect("readable");
    assert_eq!(text.replace('\n', ""), long);
    // Without such a rule there is nothing of it, and this is said.
    let mut tape = recorder.begin(head(3, false)).await.expect("begun");
    tape.write(vec![note(0, exec("make")), out(1, b"a")]).await.expect("written");
    let kept = finish(&recorder, tape).await;
    let refusal = read(&recorder, &kept.head.session, request(Form::Text, 0)).await.expect_err("nothing");
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal:?}");
}

#[tokio::test]
async fn every_act_is_on_the_tape_and_those_that_are_not_listed_are_counted() {
    const ALL: u32 = 20_500;
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = recorder(folder.path(), "a");
    let mut tape = recorder.begin(head(1, false)).await.expect("begun");
    let opened = What::Opened { purpose: Purpose::Files, counts: Arc::<Counts>::default() };
    let data = |flow, packet: Vec<u8>| {
        let bytes = [u32::try_from(packet.len()).expect("short").to_be_bytes().as_slice(), &packet].concat();
        note(1, What::Data { flow, bytes: bytes.into() })
    };
    let mut notes = vec![note(0, opened)];
    for id in 0..ALL {
        // Remove the file "x", and: done.
        let id = id.to_be_bytes();
        notes.push(data(Flow::In, [[13].as_slice(), &id, &[0, 0, 0, 1, b'x']].concat()));
        notes.push(data(Flow::Out, [[101].as_slice(), &id, &[0; 4]].concat()));
    }
    notes.push(note(2, What::Closed));
    tape.write(notes).await.expect("written");
    let kept = finish(&recorder, tape).await;
    let told: Vec<u32> = kept.acts.iter().filter_map(|act| act.facts.get("not_listed")?.parse().ok()).collect();
    let listed = kept.acts.iter().filter(|act| act.facts.contains_key("operation")).count();
    assert!(told.len() == 1 && told[0] + u32::try_from(listed).expect("few") == ALL, "{told:?} and {listed}");
    assert!(kept.acts.len() <= 20_000, "{}", kept.acts.len());
    let events = read(&recorder, &kept.head.session, request(Form::Events, 0)).await.expect("readable");
    assert_eq!(events.matches("\"operation\":\"remove\"").count(), ALL as usize);
}
