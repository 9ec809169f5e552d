//! Our plugin against our data channel: a forwarded port beside `ssh -L` to the same target, and the way to a prompt.
//!
//! Both sides carry one stream to the same listener, in turn, round by round. The data channel goes over plain HTTP on
//! loopback here and `ssh -L` goes straight to the target: ours has two hops, of which one is SSH as well.

use crate::world::{Peers, private_kib, tool, until_it_listens, wait};
use crate::{Bound, Report, median, millis};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Bytes of one transfer.
pub(crate) const BYTES: usize = 512 << 20;
const ROUNDS: usize = 5;
/// Written or read at once.
pub(crate) const PIECE: usize = 1 << 18;

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// `ravelin ssm start-session` to the target, with more arguments.
fn session(peers: &Peers, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(tool("RAVELIN_BIN")?);
    let (id, secret) = &peers.ravelin.aws;
    command.env("AWS_ENDPOINT_URL_SSM", &peers.ravelin.http).env("AWS_ACCESS_KEY_ID", id);
    command.env("AWS_SECRET_ACCESS_KEY", secret).env("AWS_DEFAULT_REGION", "eu-west-1").env("HOME", peers.dir.path());
    command.env_remove("AWS_PROFILE").args(["ssm", "start-session", "--target", "web-1"]).args(args);
    Ok(command)
}

/// A listener at the far end: a connection that says `d` is given [`BYTES`], one that says `u` gives them and hears `k`.
pub(crate) fn far_end() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut way = [0];
                stream.read_exact(&mut way)?;
                let mut buffer = vec![0; PIECE];
                if way == *b"d" {
                    for _ in 0..BYTES / PIECE {
                        stream.write_all(&buffer)?;
                    }
                    return stream.shutdown(Shutdown::Write);
                }
                let mut left = BYTES;
                while left > 0 {
                    left -= stream.read(&mut buffer)?.max(1).min(left);
                }
                stream.write_all(b"k")
            });
        }
    });
    Ok(port)
}

/// Megabytes per second of one transfer through this port.
pub(crate) fn transfer(port: u16, way: u8) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let begun = Instant::now();
    stream.write_all(&[way])?;
    let mut buffer = vec![0; PIECE];
    if way == b'd' {
        let mut total = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                count => total += count,
            }
        }
        if total != BYTES {
            bail!("{total} of {BYTES} bytes came");
        }
    } else {
        for _ in 0..BYTES / PIECE {
            stream.write_all(&buffer)?;
        }
        stream.read_exact(&mut buffer[..1]).context("the far end did not take everything")?;
    }
    Ok(BYTES as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

/// A session that forwards a local port to this one of the target, and the local port.
fn forwarding(peers: &Peers, far: u16) -> Result<(Running, u16)> {
    let parameters = format!("portNumber={far}");
    let mut ours = session(peers, &["--document-name", "AWS-StartPortForwardingSession", "--parameters", &parameters])?;
    let mut ours = Running(ours.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(ours.0.stdout.take().context("stdout")?).lines();
    let port: u16 = loop {
        let line = lines.next().context("the session did not open a port")??;
        if let Some(rest) = line.strip_prefix("Port ") {
            break rest.split(' ').next().context("a port")?.parse()?;
        }
    };
    // What it says of connections is read, so that it never waits for us.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok((ours, port))
}

/// What the bastion holds for channels whose client takes nothing, while the far end sends without end. An idle session's
/// memory is in it.
pub(crate) fn stuck(peers: &Peers, report: &mut Report) -> Result<()> {
    // The first fill what the start of the server has left free.
    const BEFORE: usize = 20;
    const CHANNELS: usize = 40;
    let far = far_end()?;
    let server = peers.ravelin.server.pid();
    let mut held = Vec::new();
    let mut hold = |count: usize| -> Result<f64> {
        for _ in 0..count {
            let (session, port) = forwarding(peers, far)?;
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(b"d")?;
            held.push((session, stream));
        }
        // Until nothing is added any more.
        let mut last = private_kib(server)?;
        loop {
            wait(3_000);
            let now = private_kib(server)?;
            if (now - last).abs() < 64.0 {
                return Ok(now);
            }
            last = now;
        }
    };
    let before = hold(BEFORE)?;
    let each = (hold(CHANNELS)? - before) / CHANNELS as f64;
    report.add("data channel whose client takes nothing", each, "KiB", Some((Bound::AtMost, 1024.0)));
    Ok(())
}

/// One stream each way.
pub(crate) fn forward(peers: &Peers, report: &mut Report) -> Result<()> {
    let far = far_end()?;
    let local = crate::world::free_port()?;
    let (_ours, our_port) = forwarding(peers, far)?;
    let mut theirs = peers.ssh(peers.target.port)?;
    theirs.args(["-N", "-L", &format!("127.0.0.1:{local}:127.0.0.1:{far}"), "127.0.0.1"]);
    let _theirs = Running(theirs.stdin(Stdio::null()).spawn()?);
    until_it_listens(local)?;
    for (way, name) in [(b'd', "download"), (b'u', "upload")] {
        let (mut speeds, mut ratios) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let their_speed = transfer(local, way)?;
            let our_speed = transfer(our_port, way)?;
            speeds.push(our_speed);
            ratios.push(our_speed / their_speed);
        }
        let (speed, ratio) = (median(speeds), median(ratios));
        // Either is enough.
        let goal = if speed >= 100.0 { None } else { Some((Bound::AtLeast, 0.5)) };
        report.add(&format!("data channel, {name}, one stream"), speed, "MB/s", None);
        report.add(&format!("data channel, {name} ÷ ssh -L"), ratio, "", goal);
    }
    Ok(())
}

/// From the start of the client to the first byte of the far terminal.
pub(crate) fn prompt(peers: &Peers, report: &mut Report) -> Result<()> {
    const TIMES: usize = 25;
    let first_byte = |mut command: Command| -> Result<f64> {
        let begun = Instant::now();
        let mut child = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        child.0.stdout.as_mut().context("stdout")?.read_exact(&mut [0])?;
        Ok(millis(begun.elapsed()))
    };
    let (mut direct, mut added) = (vec![], vec![]);
    for _ in 0..TIMES {
        let mut ssh = peers.ssh(peers.target.port)?;
        ssh.args(["-tt", "127.0.0.1"]);
        let theirs = first_byte(ssh)?;
        added.push(first_byte(session(peers, &[])?)? - theirs);
        direct.push(theirs);
    }
    report.add("prompt, ssh", median(direct), "ms", None);
    report.add("prompt, added by StartSession and the data channel", median(added), "ms", Some((Bound::AtMost, 50.0)));
    Ok(())
}
