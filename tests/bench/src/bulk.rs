//! Comparisons with OpenSSH: bulk both ways, `-J`, key strokes, set-up. The client is always the machine's `ssh`.

use crate::world::{CIPHER, Peers, cpu_seconds, wait};
use crate::{Bound, Report, median, millis, percentile};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of one transfer.
const BYTES: u64 = 512 << 20;
const ROUNDS: usize = 5;
const GIB: f64 = (1_u64 << 30) as f64;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Down,
    Up,
}

/// Seconds that one transfer takes from the client's start to its end.
fn transfer(mut ssh: Command, way: Way) -> Result<f64> {
    let begun = Instant::now();
    let mut child = match way {
        Way::Down => ssh
            .arg(format!("dd if=/dev/zero bs=64k count={} status=none", BYTES / 65_536))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?,
        Way::Up => ssh.arg("cat > /dev/null").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?,
    };
    match way {
        Way::Down => {
            let mut out = child.stdout.take().context("stdout")?;
            let mut buffer = vec![0; 1 << 18];
            let mut total = 0;
            loop {
                match out.read(&mut buffer)? {
                    0 => break,
                    n => total += n as u64,
                }
            }
            if total != BYTES {
                bail!("{total} of {BYTES} bytes came");
            }
        }
        Way::Up => {
            let mut input = child.stdin.take().context("stdin")?;
            let buffer = vec![0; 1 << 18];
            for _ in 0..BYTES / buffer.len() as u64 {
                input.write_all(&buffer)?;
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("ssh ended with {status}");
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Terminating sessions: chain throughput and the relay's CPU, beside direct and two-hop.
pub(crate) fn throughput(peers: &Peers, report: &mut Report) -> Result<()> {
    for (way, name, cpu_goal) in [(Way::Down, "download", 0.5), (Way::Up, "upload", 0.6)] {
        let (mut to_direct, mut to_two_hop, mut cpu_ours, mut cpu_theirs) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let mut direct = peers.ssh(peers.target.port)?;
            direct.arg("127.0.0.1");
            let direct = transfer(direct, way)?;

            let before = cpu_seconds(peers.ravelin.server.pid())?;
            let mut ours = peers.ssh(peers.ravelin.server.port)?;
            ours.arg("alice:web-1@127.0.0.1");
            let seconds = transfer(ours, way)?;
            wait(100);
            cpu_ours.push((cpu_seconds(peers.ravelin.server.pid())? - before) / (BYTES as f64 / GIB));

            let before = cpu_seconds(peers.two_hop.pid())?;
            let mut theirs = peers.ssh(peers.two_hop.port)?;
            theirs.arg("127.0.0.1");
            let two_hop = transfer(theirs, way)?;
            wait(300);
            cpu_theirs.push((cpu_seconds(peers.two_hop.pid())? - before) / (BYTES as f64 / GIB));

            to_direct.push(direct / seconds);
            to_two_hop.push(two_hop / seconds);
        }
        let ratio = median(cpu_ours.iter().zip(&cpu_theirs).map(|(a, b)| a / b).collect());
        report.add(&format!("{name}, throughput ÷ direct"), median(to_direct), "", Some((Bound::AtLeast, 0.75)));
        report.add(&format!("{name}, throughput ÷ two-hop"), median(to_two_hop), "", Some((Bound::AtLeast, 1.5)));
        report.add(&format!("{name}, relay CPU"), median(cpu_ours), "s/GiB", None);
        report.add(&format!("{name}, two-hop CPU"), median(cpu_theirs), "s/GiB", None);
        report.add(&format!("{name}, relay CPU ÷ two-hop CPU"), ratio, "", Some((Bound::AtMost, cpu_goal)));
    }
    Ok(())
}

/// `-J` through us and through sshd, as the proxy command that `-J` stands for, with the cipher pinned on both hops.
fn through(peers: &Peers, port: u16, user: &str, host: &str) -> Result<Command> {
    let hop = peers.ssh(port)?;
    let words: Vec<String> = std::iter::once(hop.get_program())
        .chain(hop.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut command = peers.ssh(peers.target.port)?;
    command.arg("-o").arg(format!("ProxyCommand={} -W {host} {user}127.0.0.1", words.join(" ")));
    command.arg("127.0.0.1");
    Ok(command)
}

/// End-to-end sessions through a jump.
pub(crate) fn jump(peers: &Peers, report: &mut Report) -> Result<()> {
    for (way, name) in [(Way::Down, "download"), (Way::Up, "upload")] {
        let mut ratios = vec![];
        let (mut ours_cpu, mut theirs_cpu) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let before = cpu_seconds(peers.ravelin.server.pid())?;
            let ours = transfer(through(peers, peers.ravelin.server.port, "alice@", "web-1:22")?, way)?;
            wait(100);
            ours_cpu.push((cpu_seconds(peers.ravelin.server.pid())? - before) / (BYTES as f64 / GIB));
            let before = cpu_seconds(peers.jump.pid())?;
            let host = format!("127.0.0.1:{}", peers.target.port);
            let theirs = transfer(through(peers, peers.jump.port, "", &host)?, way)?;
            wait(300);
            theirs_cpu.push((cpu_seconds(peers.jump.pid())? - before) / (BYTES as f64 / GIB));
            ratios.push(theirs / ours);
        }
        let cpu = median(ours_cpu.iter().zip(&theirs_cpu).map(|(a, b)| a / b).collect());
        report.add(
            &format!("-J {name}, throughput ÷ -J through sshd"),
            median(ratios),
            "",
            Some((Bound::AtLeast, 1.0)),
        );
        report.add(&format!("-J {name}, relay CPU ÷ sshd CPU"), cpu, "", None);
    }
    Ok(())
}

/// One byte through a terminal and back.
pub(crate) fn echo(peers: &Peers, report: &mut Report) -> Result<()> {
    const KEYS: usize = 1_000;
    let start = |port: u16, to: &str| -> Result<std::process::Child> {
        let mut ssh = peers.ssh(port)?;
        ssh.args(["-tt", to, "stty raw -echo; printf ready; exec cat"]);
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ready = [0; 5];
        child.stdout.as_mut().context("stdout")?.read_exact(&mut ready)?;
        if &ready != b"ready" {
            bail!("the far end is not ready: {}", String::from_utf8_lossy(&ready));
        }
        Ok(child)
    };
    let mut sides = [
        (start(peers.target.port, "127.0.0.1")?, vec![]),
        (start(peers.ravelin.server.port, "alice:web-1@127.0.0.1")?, vec![]),
    ];
    for key in 0..KEYS + 50 {
        for (child, micros) in &mut sides {
            let begun = Instant::now();
            let input = child.stdin.as_mut().context("stdin")?;
            input.write_all(b"x")?;
            input.flush()?;
            child.stdout.as_mut().context("stdout")?.read_exact(&mut [0])?;
            if key >= 50 {
                micros.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let [direct, ours] = sides.map(|(mut child, mut micros)| {
        let _gone = child.kill();
        let _reaped = child.wait();
        percentile(&mut micros, 0.5)
    });
    report.add("key stroke, p50 direct", direct, "µs", None);
    report.add("key stroke, p50 added by us", ours - direct, "µs", Some((Bound::AtMost, 300.0)));
    Ok(())
}

/// From the start of `ssh` to the first remote byte.
pub(crate) fn setup(peers: &Peers, report: &mut Report) -> Result<()> {
    const TIMES: usize = 25;
    let once = |port: u16, to: &str| -> Result<f64> {
        let mut ssh = peers.ssh(port)?;
        ssh.args([to, "echo x"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let begun = Instant::now();
        let mut child = ssh.spawn()?;
        child.stdout.as_mut().context("stdout")?.read_exact(&mut [0])?;
        let elapsed = millis(begun.elapsed());
        child.wait()?;
        Ok(elapsed)
    };
    let (mut direct, mut added, mut two_hop) = (vec![], vec![], vec![]);
    for _ in 0..TIMES {
        let d = once(peers.target.port, "127.0.0.1")?;
        added.push(once(peers.ravelin.server.port, "alice:web-1@127.0.0.1")? - d);
        two_hop.push(once(peers.two_hop.port, "127.0.0.1")? - d);
        direct.push(d);
    }
    report.add("first byte, direct", median(direct), "ms", None);
    report.add("first byte, added by us", median(added), "ms", Some((Bound::AtMost, 10.0)));
    report.add("first byte, added by two-hop", median(two_hop), "ms", None);
    eprintln!("(cipher {CIPHER} on every hop)");
    Ok(())
}
