//! Flags that say which sessions, and which events on them.

use super::span;
use jiff::{SignedDuration, Timestamp};
use ravelin_model::session::Kind;
use ravelin_model::target::Protocol;
use ravelin_native::wire::SessionFilter;
use std::time::Duration;

/// What a session and the events on it have in common. All that are given must fit; a flag that may be repeated fits when
/// one of its values does.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct TraitArgs {
    /// Of this person or service; may be repeated
    #[arg(long, visible_alias = "principal", value_name = "NAME")]
    user: Vec<String>,
    /// To this target: its name, id, or its name in a cloud's dialect
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Of this kind
    #[arg(long, value_name = "KIND", value_parser = words(Kind::ALL.iter().map(|k| k.word())))]
    kind: Option<String>,
    /// Over this protocol
    #[arg(long, value_name = "PROTOCOL", value_parser = words(Protocol::ALL.iter().map(|p| p.word())))]
    protocol: Option<String>,
    /// With this login on the target
    #[arg(long, value_name = "LOGIN")]
    login: Option<String>,
    /// From this IP address
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// On this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Whose target bore this label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Option<String>,
    /// Which bear this tag
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Option<String>,
}

impl TraitArgs {
    /// As parameters of the API.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let users = self.user.iter().map(|user| ("principal", user));
        let others = [
            ("target", &self.target),
            ("kind", &self.kind),
            ("protocol", &self.protocol),
            ("login", &self.login),
            ("client", &self.client),
            ("node", &self.node),
            ("label", &self.label),
            ("tag", &self.tag),
        ];
        let others = others.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        users.chain(others).map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

/// Which sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Which sessions")]
pub(crate) struct FilterArgs {
    #[command(flatten)]
    of: TraitArgs,
    /// Which started longer ago than this, such as 2h
    #[arg(long, value_name = "SPAN", value_parser = span::span)]
    older_than: Option<Duration>,
}

impl FilterArgs {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == FilterArgs::default()
    }

    /// The filter for the API, for all states.
    pub(crate) fn into_wire(self, now: Timestamp) -> SessionFilter {
        let TraitArgs { user, target, kind, protocol, login, client, node, label, tag } = self.of;
        SessionFilter {
            principal: user,
            target,
            kind,
            protocol,
            login,
            client,
            node,
            label,
            tag,
            created_before: self.older_than.map(|span| {
                // `span` refuses what is longer than 100 years.
                let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::ZERO);
                (now - span).to_string()
            }),
            ..SessionFilter::default()
        }
    }
}

/// For clap: one of these words.
pub(crate) fn words(words: impl Iterator<Item = &'static str>) -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(words.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    #[test]
    fn flags_become_the_filter() {
        let now: Timestamp = "2026-11-21T22:28:54Z".parse().expect("a time");
        let line = Line::try_parse_from([
            "x",
            "--user",
            "alice",
            "--principal",
            "bob",
            "--target",
            "web-1",
            "--kind",
            "shell",
            "--older-than",
            "2h",
            "--label",
            "env=prod",
        ]);
        let filter = line.expect("good flags").filter;
        assert!(!filter.is_empty());
        let pairs = [
            ("principal", "alice"),
            ("principal", "bob"),
            ("target", "web-1"),
            ("kind", "shell"),
            ("label", "env=prod"),
        ];
        assert_eq!(filter.of.pairs(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let wire = filter.into_wire(now);
        assert_eq!(wire.principal, ["alice", "bob"]);
        assert_eq!(wire.kind.as_deref(), Some("shell"));
        assert_eq!(wire.created_before.as_deref(), Some("2026-11-21T20:28:54Z"));
        assert_eq!(wire.label.as_deref(), Some("env=prod"));
        assert!(FilterArgs::default().is_empty());
        assert_eq!(FilterArgs::default().into_wire(now), SessionFilter::default());
    }

    #[test]
    fn what_is_no_value_is_a_usage_error() {
        for bad in [["x", "--kind", "Shell"], ["x", "--older-than", "2"], ["x", "--protocol", "telnet"]] {
            assert!(Line::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
