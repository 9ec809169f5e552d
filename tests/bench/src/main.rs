//! `cargo xtask bench`: Ravelin beside OpenSSH on the same machine in the same run, and Ravelin's own latencies.
//!
//! Figures of two sides are taken in turn, round by round, and the ratio is the median of the rounds' ratios: a busy
//! machine slows both. Read ratios and CPU seconds per GiB; megabytes per second are this machine's.
//! What is measured how stands in `docs/operations/performance.md`.

mod bastion;
mod bulk;
mod crowd;
mod record;
mod ssm;
mod world;

use anyhow::{Result, bail};
use std::time::Duration;

const PARTS: &[&str] = &[
    "bulk", "jump", "echo", "setup", "forward", "prompt", "stuck", "record", "memory", "kill", "list", "many", "cut",
    "tunnel",
];

#[tokio::main]
async fn main() -> Result<()> {
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        parts = PARTS.iter().map(|p| (*p).to_owned()).collect();
    }
    if let Some(unknown) = parts.iter().find(|p| !PARTS.contains(&p.as_str())) {
        bail!("no part {unknown:?}; there are: {}", PARTS.join(", "));
    }
    let mut report = Report::default();
    let wants = |part: &str| parts.iter().any(|p| p == part);
    if ["bulk", "jump", "echo", "setup", "forward", "prompt", "stuck", "record"].into_iter().any(wants) {
        let peers = world::Peers::start()?;
        if wants("bulk") {
            bulk::throughput(&peers, &mut report)?;
        }
        if wants("jump") {
            bulk::jump(&peers, &mut report)?;
        }
        if wants("echo") {
            bulk::echo(&peers, &mut report)?;
        }
        if wants("setup") {
            bulk::setup(&peers, &mut report)?;
        }
        if wants("forward") {
            ssm::forward(&peers, &mut report)?;
        }
        if wants("prompt") {
            ssm::prompt(&peers, &mut report)?;
        }
        if wants("stuck") {
            ssm::stuck(&peers, &mut report)?;
        }
        if wants("record") {
            record::cost(&peers, &mut report)?;
        }
    }
    if wants("memory") {
        crowd::memory(&mut report).await?;
    }
    if wants("kill") {
        crowd::kill(&mut report).await?;
    }
    if wants("list") {
        crowd::list(&mut report).await?;
    }
    if wants("many") {
        bastion::many(&mut report).await?;
    }
    if wants("cut") {
        bastion::cut(&mut report).await?;
    }
    if wants("tunnel") {
        bastion::tunnel(&mut report).await?;
    }
    report.print();
    Ok(())
}

/// What was measured, beside what is wanted.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    value: f64,
    unit: String,
    goal: Option<(Bound, f64)>,
}

/// Which side of a goal is good.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

impl Report {
    /// A figure with its unit and, where there is one, its goal.
    pub(crate) fn add(&mut self, what: &str, value: f64, unit: &str, goal: Option<(Bound, f64)>) {
        eprintln!("{what}: {value:.3} {unit}");
        self.rows.push(Row { what: what.to_owned(), value, unit: unit.to_owned(), goal });
    }

    fn print(&self) {
        println!("\n| figure | measured | goal | |\n|---|---|---|---|");
        for Row { what, value, unit, goal } in &self.rows {
            let (text, met) = match goal {
                None => (String::new(), ""),
                Some((Bound::AtLeast, g)) => (format!("at least {g}"), if value >= g { "met" } else { "MISSED" }),
                Some((Bound::AtMost, g)) => (format!("at most {g}"), if value <= g { "met" } else { "MISSED" }),
            };
            println!("| {what} | {value:.3} {unit} | {text} | {met} |");
        }
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}

/// The value below which this share lies, by nearest rank.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
    values[rank - 1]
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
