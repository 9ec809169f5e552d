//! Names and ids as types. A bare string never crosses a boundary.
//!
//! Every type here is built by `parse`, which says what is wrong with the text; nothing else makes one.
//! None of them is a secret: an id opens nothing (promise 6 of the design).

use std::fmt;
use std::sync::Arc;

/// Why a text is not a name or an id of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {because}")]
pub struct InvalidName {
    /// The noun that was wanted, such as `principal name`.
    pub what: &'static str,
    /// What is wrong, ready to follow the noun: `must not be empty`.
    pub because: String,
}

fn check(
    what: &'static str,
    text: &str,
    chars_max: usize,
    allowed: &'static str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<(), InvalidName> {
    let fail = |because: String| Err(InvalidName { what, because });
    if text.is_empty() {
        return fail("must not be empty".to_owned());
    }
    let chars = text.chars().count();
    if chars > chars_max {
        return fail(format!("must have at most {chars_max} characters, this has {chars}"));
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(bad) => fail(format!("may hold {allowed}, not {bad:?}")),
        None => Ok(()),
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and makes it a value of this type.
            ///
            /// # Errors
            /// [`InvalidName`] names the rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> Result<(), InvalidName> = $check;
                check(text).map(|()| Self(Arc::from(text)))
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

const PRINCIPAL_CHARS: &str = "letters, digits and _ . @ = , + -";
fn principal_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.@=,+-".contains(c)
}

text_type!(
    /// The name of a person or service: 1 to 64 of `[A-Za-z0-9_.@=,+-]`, so that it may stand in an ARN and before
    /// the colon of an SSH user name. `system`, in any case, is nobody's: it is the actor Ravelin in the record.
    PrincipalName,
    |t| {
        check("principal name", t, 64, PRINCIPAL_CHARS, principal_char)?;
        if t.eq_ignore_ascii_case("system") {
            Err(InvalidName { what: "principal name", because: "must not be \"system\", which is Ravelin itself".to_owned() })
        } else {
            Ok(())
        }
    }
);
text_type!(
    /// The name of a group of principals: same characters as a principal's name.
    GroupName,
    |t| check("group name", t, 64, PRINCIPAL_CHARS, principal_char)
);
text_type!(
    /// The name of a target: 1 to 63 of `[A-Za-z0-9._-]`, starting with a letter or digit.
    TargetName,
    |t| {
        check("target name", t, 63, "letters, digits and . _ -", |c| c.is_ascii_alphanumeric() || "._-".contains(c))?;
        if t.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Ok(())
        } else {
            Err(InvalidName { what: "target name", because: "must start with a letter or a digit".to_owned() })
        }
    }
);
text_type!(
    /// The stable id of a target, `tgt-` and 17 hex digits.
    TargetId,
    |t| hex_tail("target id", t, "tgt-", 17)
);
text_type!(
    /// A login on a target: 1 to 64 printable characters without blanks, `:` and `@`.
    Login,
    |t| check("login", t, 64, "printable characters but blanks, : and @", |c| {
        c.is_ascii_graphic() && c != ':' && c != '@'
    })
);
text_type!(
    /// The process that owns sessions: `node-` and 8 hex digits.
    NodeId,
    |t| hex_tail("node id", t, "node-", 8)
);
text_type!(
    /// The name of a document that steers sessions: 3 to 128 of `[A-Za-z0-9_.-]`.
    DocumentName,
    |t| {
        check("document name", t, 128, "letters, digits and _ . -", |c| c.is_ascii_alphanumeric() || "_.-".contains(c))?;
        if t.len() >= 3 {
            Ok(())
        } else {
            Err(InvalidName { what: "document name", because: "must have at least 3 characters".to_owned() })
        }
    }
);
text_type!(
    /// The public half of a credential (a token's id, an access key id, a client id): 1 to 64 letters, digits and `-`.
    CredentialId,
    |t| check("credential id", t, 64, "letters, digits and -", |c| c.is_ascii_alphanumeric() || c == '-')
);
text_type!(
    /// `<principal>-<17 hex digits>`, the first digit 0. Public: it can neither open, join nor resume anything.
    SessionId,
    |t| {
        let bad = |because: &str| Err(InvalidName { what: "session id", because: because.to_owned() });
        let Some((owner, tail)) = t.rsplit_once('-') else {
            return bad("must be a principal's name, a hyphen and 17 hex digits");
        };
        if PrincipalName::parse(owner).is_err() {
            return bad("must start with a principal's name");
        }
        if tail.len() != SessionId::HEX_DIGITS || !tail.bytes().all(is_lower_hex) {
            return bad("must end in a hyphen and 17 lower-case hex digits");
        }
        Ok(())
    }
);

impl SessionId {
    /// Hex digits after the hyphen.
    pub const HEX_DIGITS: usize = 17;

    /// The id of a principal's new session from 64 random bits.
    #[must_use]
    pub fn new(owner: &PrincipalName, random: u64) -> Self {
        Self(Arc::from(format!("{owner}-0{random:016x}")))
    }

    /// The part after the last hyphen: 17 hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[self.0.len() - Self::HEX_DIGITS..]
    }
}

impl NodeId {
    /// From 32 random bits, drawn once per state directory.
    #[must_use]
    pub fn new(random: u32) -> Self {
        Self(Arc::from(format!("node-{random:08x}")))
    }
}

impl TargetId {
    /// From 17 hex digits, usually a digest of the target's name.
    ///
    /// # Errors
    /// [`InvalidName`] when they are not 17 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, InvalidName> {
        Self::parse(&format!("tgt-{hex}"))
    }

    /// The 17 hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["tgt-".len()..]
    }
}

fn is_lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

fn hex_tail(what: &'static str, text: &str, prefix: &str, digits: usize) -> Result<(), InvalidName> {
    match text.strip_prefix(prefix) {
        Some(tail) if tail.len() == digits && tail.bytes().all(is_lower_hex) => Ok(()),
        _ => Err(InvalidName { what, because: format!("must be {prefix} and {digits} lower-case hex digits") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_hold_the_owner_and_17_digits() {
        let owner = PrincipalName::parse("jane-roe").expect("a valid name");
        let id = SessionId::new(&owner, 0x7a16_0606_13c4_08b5);
        assert_eq!(id.as_str(), "jane-roe-07a16060613c408b5");
        assert_eq!(id.hex(), "07a16060613c408b5");
        assert_eq!(SessionId::parse(id.as_str()), Ok(id));
        for bad in ["", "alice", "alice-", "alice-07a16060613c408b", "alice-07A16060613c408b5", "-07a16060613c408b5"] {
            assert!(SessionId::parse(bad).is_err(), "{bad:?} must not parse");
        }
    }

    #[test]
    fn names_say_which_character_is_wrong() {
        let error = PrincipalName::parse("a:b").expect_err("a colon separates user and target");
        assert!(error.to_string().contains("':'"), "{error}");
        assert!(TargetName::parse("-x").is_err());
        assert!(Login::parse("root@x").is_err());
        assert!(NodeId::parse("node-0123456g").is_err());
    }
}
