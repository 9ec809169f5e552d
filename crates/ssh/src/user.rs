//! Reads the user name that an SSH client sends: who comes, and where to.
//!
//! The forms are `alice`, `alice:web-1` and `alice:root@web-1`. In place of the colon there may be `#` or `%`: `scp` and
//! `sftp` take what stands before a colon for a host, and `scp` refuses `#` in the name of a source's user. This module decides nothing and knows no target; its
//! input comes from anybody who reaches the port, before any proof.

use ravelin_model::{Login, PrincipalName};

/// Longest user name that is read, in bytes. A foreign id of a target may be long.
pub const USER_BYTES_MAX: usize = 1024;

/// What may stand between who comes and where to. None of them may be in a principal's name.
const SEPARATORS: [char; 3] = [':', '#', '%'];

/// A user name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    /// Who claims to come.
    pub principal: PrincipalName,
    /// Where they want to go.
    pub wish: Wish,
}

/// Where somebody wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// They did not say: a jump, or the menu.
    Open,
    /// To a target, by any of its names.
    Target {
        /// As whom there; the target's default when not given.
        login: Option<Login>,
        /// The target's name, id or alias, unchecked.
        name: String,
    },
    /// They said something that cannot be read. It is told to them once they have logged in.
    Unreadable {
        /// What is wrong with it.
        because: String,
    },
}

/// Takes a user name apart. `None` when it names nobody who could exist.
#[must_use]
pub fn parse(user: &str) -> Option<UserName> {
    if user.len() > USER_BYTES_MAX {
        return None;
    }
    let (principal, rest) = match user.split_once(SEPARATORS) {
        None => (user, None),
        Some((principal, rest)) => (principal, Some(rest)),
    };
    let principal = PrincipalName::parse(principal).ok()?;
    let wish = match rest {
        None => Wish::Open,
        Some(rest) => wish(rest),
    };
    Some(UserName { principal, wish })
}

fn wish(text: &str) -> Wish {
    let (login, name) = match text.split_once('@') {
        None => (None, text),
        Some((login, name)) => match Login::parse(login) {
            Ok(login) => (Some(login), name),
            Err(invalid) => return Wish::Unreadable { because: invalid.to_string() },
        },
    };
    if name.is_empty() {
        Wish::Unreadable { because: "target name must not be empty".to_owned() }
    } else {
        Wish::Target { login, name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(user: &str) -> (String, Wish) {
        let user = parse(user).expect("a readable user name");
        (user.principal.to_string(), user.wish)
    }

    fn target(login: Option<&str>, name: &str) -> Wish {
        Wish::Target { login: login.map(|l| Login::parse(l).expect("a login")), name: name.to_owned() }
    }

    #[test]
    fn the_three_forms() {
        assert_eq!(read("alice"), ("alice".to_owned(), Wish::Open));
        assert_eq!(read("alice:web-1"), ("alice".to_owned(), target(None, "web-1")));
        assert_eq!(read("alice:root@web-1"), ("alice".to_owned(), target(Some("root"), "web-1")));
        assert_eq!(
            read("alice@corp.example:root@web-1"),
            ("alice@corp.example".to_owned(), target(Some("root"), "web-1"))
        );
        for separator in SEPARATORS {
            assert_eq!(read(&format!("alice{separator}root@web-1")).1, target(Some("root"), "web-1"));
        }
        let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1";
        assert_eq!(read(&format!("alice:{id}")), ("alice".to_owned(), target(None, id)));
    }

    #[test]
    fn nobody_and_nonsense() {
        for nobody in ["", ":", ":web-1", "al ice", "system", "alice\0:web-1"] {
            assert_eq!(parse(nobody), None, "{nobody:?}");
        }
        for nonsense in ["alice:", "alice:@web-1", "alice:root@", "alice:a b@web-1"] {
            assert!(matches!(read(nonsense).1, Wish::Unreadable { .. }), "{nonsense:?}");
        }
        assert_eq!(parse(&"a".repeat(USER_BYTES_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_changes_the_principal(text in ".{0,80}") {
            if let Some(user) = parse(&text) {
                prop_assert_eq!(text.split(SEPARATORS).next(), Some(user.principal.as_str()));
            }
        }

        #[test]
        fn what_was_written_is_read(
            principal in "[a-z][a-z0-9_.-]{0,20}",
            login in proptest::option::of("[a-z][a-z0-9_.-]{0,20}"),
            name in "[a-z][a-z0-9_./-]{0,40}",
        ) {
            prop_assume!(principal != "system");
            let text = match &login {
                None => format!("{principal}:{name}"),
                Some(login) => format!("{principal}:{login}@{name}"),
            };
            prop_assert_eq!(read(&text), (principal, target(login.as_deref(), &name)));
        }
    }
}
