//! Short ids: the start of an id, or of its hex part, names a session when only one starts so.

use super::client::Client;
use super::failure::{Exit, Failure};
use ravelin_model::SessionId;
use ravelin_native::wire;

/// Candidates that an ambiguity lists.
const CANDIDATES: usize = 10;
/// How many of the latest sessions are looked through for one that may have been meant.
const SUGGEST_FROM: usize = 500;

/// What a text turned out to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// This session.
    One(String),
    /// None.
    None,
}

/// The session that `text` names. With `live_first`, ended sessions count only when no live one fits.
///
/// # Errors
/// When more than one fits, with the candidates; what the bastion refuses.
pub(crate) async fn session(client: &Client, text: &str, live_first: bool) -> Result<Named, Failure> {
    if SessionId::parse(text).is_ok() {
        return Ok(Named::One(text.to_owned()));
    }
    let states: &[&[&str]] = if live_first { &[&["live"], &["ended"]] } else { &[&["any"]] };
    for state in states {
        let filter = wire::SessionFilter {
            state: state.iter().map(ToString::to_string).collect(),
            id_prefix: Some(text.to_owned()),
            ..wire::SessionFilter::default()
        };
        let (found, more) = client.sessions(&filter, "newest", CANDIDATES).await?;
        let candidates: Vec<String> = found.iter().map(describe).collect();
        match found.into_iter().next() {
            None => {}
            Some(one) if candidates.len() == 1 => return Ok(Named::One(one.id)),
            Some(_) => return Err(ambiguous(text, candidates, more)),
        }
    }
    Ok(Named::None)
}

fn describe(session: &wire::Session) -> String {
    format!("{}  {}  {}", session.id, session.target.name, session.state)
}

fn ambiguous(text: &str, candidates: Vec<String>, more: bool) -> Failure {
    let mut failure = Failure::new(Exit::Usage, format!("{text:?} fits more than one session; give more of the id"));
    failure.hints = candidates;
    if more { failure.hint("…") } else { failure }
}

/// The failure for a session that is not there, with those that may have been meant.
pub(crate) async fn not_found(client: &Client, text: &str) -> Failure {
    let failure = Failure::other(format!("session {text:?} was not found"));
    // A suggestion is a courtesy: what hinders it changes nothing.
    let Ok((latest, _)) = client.sessions(&wire::SessionFilter::default(), "newest", SUGGEST_FROM).await else {
        return failure;
    };
    let ids = latest.iter().map(|session| session.id.as_str());
    near(text, ids).into_iter().fold(failure, |failure, id| failure.hint(format!("did you mean {id}?")))
}

/// Those of `known` that `text` may have been meant to be, the nearest first; at most three.
pub(crate) fn near<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = text.to_lowercase();
    let mut scored: Vec<(usize, &str)> = known
        .map(|name| {
            let candidate = name.to_lowercase();
            // The hex part alone counts as well, because it may be typed alone.
            let tail = candidate.rsplit_once('-').map_or(candidate.as_str(), |(_, tail)| tail);
            (distance(&wanted, &candidate).min(distance(&wanted, tail)), name)
        })
        .filter(|(steps, _)| *steps <= (wanted.chars().count() / 4).max(1))
        .collect();
    scored.sort_by_key(|(steps, _)| *steps);
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Letters to change, add or drop to get from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_by_either_part() {
        let known = ["alice-07a16060613c408b5", "bob-0123456789abcdef0", "web-1"];
        assert_eq!(near("alice-07a16060613c408b6", known.into_iter()), ["alice-07a16060613c408b5"]);
        assert_eq!(near("07a16060613c408b", known.into_iter()), ["alice-07a16060613c408b5"]);
        assert_eq!(near("wbe-1", known.into_iter()), Vec::<&str>::new());
        assert_eq!(near("web-2", known.into_iter()), ["web-1"]);
        assert_eq!(near("zzz", known.into_iter()), Vec::<&str>::new());
    }

    #[test]
    fn an_ambiguity_lists_the_candidates_and_is_a_usage_error() {
        let failure = ambiguous("0", vec!["a".to_owned(), "b".to_owned()], true);
        assert_eq!((failure.exit, failure.hints), (Exit::Usage, vec!["a".to_owned(), "b".to_owned(), "…".to_owned()]));
    }
}
