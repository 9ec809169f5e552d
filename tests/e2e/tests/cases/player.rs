//! asciinema's own player, in a real Chromium, plays what is exported here to the screen that it ought to be.

use super::recordings::{drawn, export, on_a_terminal, recorded};
use ravelin_e2e::{PATIENCE, Running, Server, kill, need};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

/// Plays a cast from its beginning to its end, waits until that is drawn, and says what the player's terminal shows then.
const SCRIPT: &str = r#"
const host = document.getElementById("player");
const options = { autoPlay: true, speed: 1000, fit: false, controls: false, cursorMode: "hidden" };
const player = AsciinemaPlayer.create({ data: CAST }, host, options);
const frames = left => left > 0 ? requestAnimationFrame(() => frames(left - 1)) : shown();
const shown = () => {
  const texts = what => [...document.querySelectorAll(what)];
  const theme = getComputedStyle(document.querySelector(".ap-player"));
  const red = document.body.appendChild(document.createElement("i"));
  red.style.color = theme.getPropertyValue("--term-color-1");
  fetch("/shown", { method: "POST", body: JSON.stringify({
    lines: texts(".ap-line").map(line => line.textContent),
    colours: texts(".ap-line span").map(part => [part.textContent.trim(), getComputedStyle(part).color]),
    red: getComputedStyle(red).color,
  }) });
};
player.addEventListener("ended", () => frames(10));
"#;

/// What Chromium shows of a page with the player when the cast is over.
fn in_chromium(chromium: &Path, player: &Path, cast: &str) -> Value {
    let asset = |name: &str| std::fs::read_to_string(player.join(name)).expect("the player's file");
    // In a script, nothing but this ends it.
    let player = asset("asciinema-player.min.js").replace("</script", "<\\/script");
    let cast = json!(cast).to_string().replace('<', "\\u003c");
    let page = format!(
        "<!doctype html><meta charset=utf-8><style>{}</style><div id=player></div>\n\
         <script>{player}</script>\n<script>const CAST = {cast};{SCRIPT}</script>\n",
        asset("asciinema-player.css")
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let (say, heard) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if let Some(body) = serve(stream, &page) {
                let _late = say.try_send(body);
            }
        }
    });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(chromium);
    // Everything in it is ours, and a test may run as root, where its sandbox cannot.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--no-proxy-server", &format!("--user-data-dir={}", dir.path().join("profile").display())]);
    let mut browser = Running::start(command.arg(format!("http://{address}/")).env("HOME", dir.path()));
    let body = heard.recv_timeout(PATIENCE);
    // Asked to end, it takes its other processes with it.
    kill(browser.pid(), "TERM");
    let _status = browser.wait();
    let body = body.unwrap_or_else(|_| panic!("it was not played to its end: {}", browser.printed()));
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Answers one request with the page; the body, where there is one.
fn serve(stream: TcpStream, page: &str) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n", page.len());
    let mut stream = reader.into_inner();
    stream.write_all(format!("{head}connection: close\r\n\r\n{page}").as_bytes()).ok()?;
    (length > 0).then(|| String::from_utf8_lossy(&body).into_owned())
}

#[test]
fn asciinemas_player_shows_what_is_exported_in_both_versions() {
    let (chromium, player) = (need!("E2E_CHROMIUM"), need!("E2E_ASCIINEMA_PLAYER"));
    let (ssh, python) = (need!("E2E_SSH"), need!("E2E_PYTHON"));
    let server = Server::dev();
    let steps = json!([
        ["size", 80, 24],
        ["rest", 800],
        ["send", "PS1='pro''mpt$ '\r"],
        ["expect", "prompt$ "],
        // What a larger terminal shows of lines that went away before is every terminal's own matter.
        ["size", 100, 30],
        ["rest", 500],
        ["send", "clear\r"],
        ["expect", "prompt$ "],
        ["send", "seq 1 60; printf '\\033[31mcrimson\\033[0m \\033[38;2;1;2;3mtrue''colour\\033[0m\\n'\r"],
        ["expect", "truecolour"],
        ["expect", "prompt$ "],
        [
            "send",
            "printf '\\346\\274\\242\\345\\255\\227 \\303\\251e\\314\\201 \\360\\237\\231\\202 <&>\\042''end\\n'\r"
        ],
        ["expect", "end"],
        ["expect", "prompt$ "],
        ["send", "printf '\\033[?1049h\\033[2J\\033[4;7Helsewhere\\033[?1049l'; printf '\\033[3;40Hmid''dle'\r"],
        ["expect", "middle"],
        ["send", "exit\r"],
    ]);
    let _seen = on_a_terminal(&server, &python, &ssh, &steps);
    let session = recorded(&server);
    let id = session["id"].as_str().expect("an id");
    for (form, version, size) in [("cast", 2, ["/width", "/height"]), ("cast3", 3, ["/term/cols", "/term/rows"])] {
        let cast = export(&server, id, form);
        assert!(cast.starts_with('{') && cast.contains(&format!("\"version\":{version}")), "{form}: {cast}");
        let wanted = drawn(&cast, size, &["x", "i"]);
        for text in ["middle", "\u{6f22}\u{5b57}", "\u{1f642}", "<&>\"end", "crimson truecolour"] {
            assert!(wanted.iter().any(|line| line.contains(text)), "{text}: {wanted:?}");
        }
        let shown = in_chromium(&chromium, &player, &cast);
        let lines = shown["lines"].as_array().expect("lines").iter().map(|line| line.as_str().expect("a text"));
        let lines: Vec<String> = lines.map(|line| line.replace('\u{a0}', " ").trim_end().to_owned()).collect();
        assert_eq!(lines, wanted, "{form}");
        let colour = |text: &str| {
            let parts = shown["colours"].as_array().expect("parts");
            parts.iter().find(|part| part[0] == text).unwrap_or_else(|| panic!("no {text}: {shown}"))[1].clone()
        };
        assert_eq!(colour("crimson"), shown["red"], "{form}");
        assert_ne!(colour("crimson"), colour("60"), "{form}");
        assert_eq!(colour("truecolour"), "rgb(1, 2, 3)", "{form}");
    }
}
