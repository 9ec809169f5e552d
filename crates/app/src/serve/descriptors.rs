//! Open files: each socket is one, and a process may have so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What one session may need: a socket on either side, and its recording.
const PER_SESSION: u64 = 3;
/// What the rest may need: listeners, the store and its readers, sinks, questions to the control APIs.
const BESIDE: u64 = 512;

/// Takes as many open files as the system lets this process have, and returns how many these are. The limit that a
/// process begins with is often 1024, for the sake of old programs only; see getrlimit(2).
pub(crate) fn take_all() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current == limit.maximum {
        return most;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => most,
        Err(error) => {
            tracing::warn!(%error, "cannot take more open files");
            limit.current.unwrap_or(most)
        }
    }
}

/// What to tell an operator whose limit on sessions is more than these open files carry.
pub(crate) fn shortage(sessions: usize, open_files: u64) -> Option<String> {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    let carried = open_files.saturating_sub(BESIDE) / PER_SESSION;
    (carried < sessions).then(|| {
        let needed = sessions.saturating_mul(PER_SESSION).saturating_add(BESIDE);
        format!(
            "limits.sessions is {sessions}, but this process may have {open_files} files open, which is enough for \
             {carried} sessions; allow it {needed} (LimitNOFILE= of its systemd unit, or `ulimit -n`), or set \
             limits.sessions to {carried}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_had_is_taken() {
        let open_files = take_all();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(open_files, limit.maximum.unwrap_or(u64::MAX));
    }

    #[test]
    fn a_limit_that_cannot_be_reached_is_told_with_what_to_do() {
        assert_eq!(shortage(100, 1_000_000), None);
        assert_eq!(shortage(10_000, u64::MAX), None);
        let text = shortage(10_000, 1024).expect("a shortage");
        assert!(text.contains("enough for 170 sessions"), "{text}");
        assert!(text.contains("allow it 30512"), "{text}");
    }
}
