//! The complaints of one request, gathered, in the form in which AWS counts and lists them.
//!
//! Source: answers of AWS JSON services in public issue threads, read 2026-11: "2 validation errors detected: Value … at …
//! failed to satisfy constraint: …; Value …".

use std::fmt::Display;

/// Everything that is wrong with the members of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<String>);

impl Violations {
    /// Longest value that is shown back, in characters.
    const SHOWN_CHARS_MAX: usize = 128;

    /// Notes that `member` must be there.
    pub fn missing(&mut self, member: &str) {
        self.0.push(format!("Value null at '{member}' failed to satisfy constraint: Member must not be null"));
    }

    /// Notes that the value of `member` breaks a rule: `must_be` follows the words "Member must".
    pub fn broken(&mut self, member: &str, value: impl Display, must: &str) {
        let value = value.to_string();
        let mut shown: String = value.chars().take(Self::SHOWN_CHARS_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        self.0.push(format!("Value '{shown}' at '{member}' failed to satisfy constraint: Member must {must}"));
    }

    /// A text that must be there and have `min` to `max` characters.
    pub fn text<'a>(&mut self, member: &str, value: Option<&'a str>, min: usize, max: usize) -> Option<&'a str> {
        let Some(value) = value else {
            self.missing(member);
            return None;
        };
        let chars = value.chars().count();
        if chars < min {
            self.broken(member, value, &format!("have length greater than or equal to {min}"));
        } else if chars > max {
            self.broken(member, value, &format!("have length less than or equal to {max}"));
        } else {
            return Some(value);
        }
        None
    }

    /// A value that must be one of `set`.
    pub fn one_of<T: Copy>(&mut self, member: &str, value: &str, set: &[(&str, T)]) -> Option<T> {
        let found = set.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = set.iter().map(|(word, _)| *word).collect();
            self.broken(member, value, &format!("satisfy enum value set: [{}]", words.join(", ")));
        }
        found
    }

    /// A number from `min` to `max`.
    pub fn number(&mut self, member: &str, value: i64, min: u32, max: u32) -> Option<u32> {
        match u32::try_from(value) {
            Ok(number) if (min..=max).contains(&number) => return Some(number),
            Ok(number) if number > max => {
                self.broken(member, value, &format!("have value less than or equal to {max}"));
            }
            Err(_) if value > i64::from(max) => {
                self.broken(member, value, &format!("have value less than or equal to {max}"));
            }
            Ok(_) | Err(_) => self.broken(member, value, &format!("have value greater than or equal to {min}")),
        }
        None
    }

    /// The members once they are all understood.
    ///
    /// # Errors
    /// The whole text when there is any complaint. INVARIANT: whoever has no value to give here has complained.
    pub fn settle<T>(self, understood: Option<T>) -> Result<T, String> {
        match understood {
            Some(members) if self.0.is_empty() => Ok(members),
            Some(_) | None => {
                let plural = if self.0.len() == 1 { "" } else { "s" };
                Err(format!("{} validation error{plural} detected: {}", self.0.len(), self.0.join("; ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_counted_and_listed() {
        let mut violations = Violations::default();
        assert_eq!(violations.clone().settle(Some(1)), Ok(1));
        assert_eq!(violations.one_of("state", "Bogus", &[("Active", 1), ("History", 2)]), None);
        assert_eq!(
            violations.clone().settle(Some(1)),
            Err("1 validation error detected: Value 'Bogus' at 'state' failed to satisfy constraint: Member must satisfy \
                 enum value set: [Active, History]".to_owned())
        );
        assert_eq!(violations.number("maxResults", i64::MAX, 1, 200), None);
        assert_eq!(violations.number("maxResults", -1, 1, 200), None);
        assert_eq!(violations.number("maxResults", 200, 1, 200), Some(200));
        assert_eq!(violations.text("sessionId", None, 1, 96), None);
        assert_eq!(violations.text("sessionId", Some(&"é".repeat(1000)), 1, 96), None);
        let text = violations.settle(None::<()>).expect_err("there are complaints");
        assert!(text.starts_with("5 validation errors detected: Value 'Bogus'"), "{text}");
        assert!(text.contains("; Value null at 'sessionId' failed to satisfy constraint: Member must not be null; "));
        assert!(text.ends_with(
            "…' at 'sessionId' failed to satisfy constraint: Member must have length less than or equal to 96"
        ));
    }
}
