//! The query part of a URL, as far as this service reads it. Source: the URI parameters of the reference pages.

/// Longest query that is looked at, in bytes; a longer one counts as empty.
pub const QUERY_BYTES_MAX: usize = 8192;

/// What is read of a query. Names are compared without regard to case; the first of several counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `api-version`, when it is there and not empty.
    pub api_version: Option<String>,
    /// `$skiptoken`: where a list goes on.
    pub skip_token: Option<String>,
}

/// Reads a query without its question mark.
#[must_use]
pub fn parse(query: &str) -> Query {
    let mut found = Query::default();
    if query.len() > QUERY_BYTES_MAX {
        return found;
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let slot = match name.to_ascii_lowercase().as_str() {
            "api-version" => &mut found.api_version,
            "$skiptoken" => &mut found.skip_token,
            _ => continue,
        };
        if slot.is_none() && !value.is_empty() {
            *slot = Some(value.into_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_any_case_and_escaped() {
        let query = parse("API-Version=2024-05-01&%24skipToken=a%2Bb&api-version=1999-01-01&x");
        assert_eq!(query.api_version.as_deref(), Some("2024-05-01"));
        assert_eq!(query.skip_token.as_deref(), Some("a+b"));
        assert_eq!(parse("api-version="), Query::default());
        assert_eq!(parse(""), Query::default());
    }

    proptest! {
        #[test]
        fn never_panics(query in "\\PC{0,300}") {
            let _query = parse(&query);
        }
    }
}
