//! Lines of the record on their way into a verifier, wherever they come from.

use super::failure::Failure;
use ravelin_model::ledger::{Digest, Expectations, Foundation, LedgerFault, Report, Verifier, genesis};
use ravelin_sinks::lines::{self, LINE_BYTES_MAX, Parsed, Told};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A chain that is checked line by line.
pub(crate) struct Chain {
    expect: Expectations,
    verifier: Option<Verifier>,
    foundation: Option<Foundation>,
}

/// Where an event stands, as it claims.
pub(crate) struct Stand {
    pub(crate) seq: u64,
    pub(crate) hash: Option<Digest>,
    /// For a checkpoint that can be read: the last event that it covers.
    pub(crate) signed_through: Option<u64>,
}

impl Chain {
    /// One whose first line tells what it stands on.
    pub(crate) fn new(expect: Expectations) -> Self {
        Self { expect, verifier: None, foundation: None }
    }

    /// What it stands on, once that is known.
    pub(crate) fn foundation(&self) -> Option<&Foundation> {
        self.foundation.as_ref()
    }

    /// The first fault, if there is one already.
    pub(crate) fn fault(&self) -> Option<&LedgerFault> {
        self.verifier.as_ref().and_then(Verifier::fault)
    }

    /// Puts it on a foundation.
    pub(crate) fn begin(&mut self, foundation: Foundation) {
        self.verifier = Some(Verifier::new(&foundation, self.expect.clone()));
        self.foundation = Some(foundation);
    }

    /// Takes in the next line; what an event tells comes back. A file of a sink has no head; it then stands on its first
    /// line.
    pub(crate) fn take(&mut self, parsed: Parsed) -> Result<Option<(Stand, Told)>, &'static str> {
        let (line, told) = match parsed {
            Parsed::Foundation(_) if self.verifier.is_some() => {
                return Err("begins another export; check them one by one");
            }
            Parsed::Foundation(foundation) => {
                self.begin(foundation);
                return Ok(None);
            }
            Parsed::Event(line, told) => (line, told),
        };
        let checkpoint = line.checkpoint.as_ref().and_then(Option::as_ref);
        let stand =
            Stand { seq: line.seq, hash: line.hash, signed_through: checkpoint.map(|checkpoint| checkpoint.through) };
        if self.verifier.is_none() {
            let Some(deployment) = told.deployment.clone() else { return Err("has no head, and is no file of a sink") };
            // Its first record can be held against nothing when it is not the deployment's first; it is what the others
            // stand on then.
            let is_first = line.seq <= 1;
            let head = if is_first { genesis(&deployment) } else { line.hash.unwrap_or(Digest([0; 32])) };
            let after = if is_first { 0 } else { line.seq };
            self.begin(Foundation { deployment, after, head, signature: None });
            if !is_first {
                return Ok(Some((stand, told)));
            }
        }
        if let Some(verifier) = &mut self.verifier {
            verifier.handle(line);
        }
        Ok(Some((stand, told)))
    }

    /// The outcome; `None` when there was not even a first line.
    pub(crate) fn finish(self) -> Option<Result<Report, LedgerFault>> {
        self.verifier.map(Verifier::finish)
    }
}

/// Reads lines of files in their order, until `each` has enough. What it finds wrong is told with the line's place.
pub(crate) fn read_files(
    files: &[PathBuf],
    mut each: impl FnMut(Parsed) -> Result<ControlFlow<()>, &'static str>,
) -> Result<(), Failure> {
    for path in files {
        let unreadable = |error: std::io::Error| Failure::other(format!("{}: {error}", path.display()));
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let most = LINE_BYTES_MAX as u64 + 1;
            if reader.by_ref().take(most).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let place = || format!("{} line {number}", path.display());
            let parsed = lines::parse(&line)
                .map_err(|why| Failure::other(format!("NOT WHOLE: {} is no record: {why}", place())))?;
            match each(parsed).map_err(|why| Failure::other(format!("{} {why}", place())))? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(()) => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Whether the file is a store.
pub(crate) fn is_store(path: &Path) -> Result<bool, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start).map_err(unreadable)?;
    Ok(start.starts_with(b"SQLite format 3\0"))
}
