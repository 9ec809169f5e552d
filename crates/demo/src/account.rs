//! Whose shell this is: the user who runs the process, looked up once.
//!
//! Must not know SSH. The environment of the process wins over the user database, as it does for every program the
//! user starts; the database answers where the environment is silent.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use tracing::debug;

const PATH_WHEN_UNKNOWN: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// What a program started by `login` keeps of the environment around it.
const KEPT: [&str; 4] = ["LANG", "LC_ALL", "LC_CTYPE", "TZ"];

/// The current user, as far as a shell needs to know.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
    /// What every program starts with, before the client's own variables.
    environment: Vec<(OsString, OsString)>,
}

impl Account {
    /// The user of this process; `home` overrides the home directory.
    pub(crate) fn of_this_process(home: Option<PathBuf>) -> Self {
        let user = match User::from_uid(Uid::current()) {
            Ok(user) => user,
            Err(error) => {
                debug!(%error, "user database cannot be read");
                None
            }
        };
        let name = user
            .as_ref()
            .map(|user| OsString::from(&user.name))
            .or_else(|| env::var_os("USER"))
            .unwrap_or_else(|| OsString::from(Uid::current().to_string()));
        let home = home
            .or_else(|| env::var_os("HOME").map(PathBuf::from))
            .or_else(|| user.as_ref().map(|user| user.dir.clone()))
            .filter(|home| home.is_dir())
            .unwrap_or_else(|| PathBuf::from("/"));
        let shell = env::var_os("SHELL")
            .map(PathBuf::from)
            .into_iter()
            .chain(user.map(|user| user.shell))
            .find(|shell| is_program(shell))
            .unwrap_or_else(|| PathBuf::from("/bin/sh"));

        let path = env::var_os("PATH").unwrap_or_else(|| PATH_WHEN_UNKNOWN.into());
        let mut environment = vec![
            ("USER".into(), name.clone()),
            ("LOGNAME".into(), name),
            ("HOME".into(), home.clone().into_os_string()),
            ("SHELL".into(), shell.clone().into_os_string()),
            ("PATH".into(), path),
        ];
        environment.extend(KEPT.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?))));
        Self { home, shell, environment }
    }

    /// What every program starts with.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The shell's name as the first argument: with a leading hyphen it is a login shell.
    pub(crate) fn shell_name(&self, login: bool) -> OsString {
        let mut name = OsString::from(if login { "-" } else { "" });
        name.push(self.shell.file_name().unwrap_or(OsStr::new("sh")));
        name
    }

    /// Whether the client may set this variable: what describes the account or the connection is ours.
    pub(crate) fn may_be_set(name: &str) -> bool {
        !name.is_empty()
            && !name.contains(['=', '\0'])
            && !["USER", "LOGNAME", "HOME", "SHELL", "PATH"].contains(&name)
            && !name.starts_with("SSH_")
            && !name.starts_with("LD_")
            && !name.starts_with("RAVELIN_DEMO")
    }
}

fn is_program(path: &Path) -> bool {
    path.is_absolute() && path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_shell_has_a_hyphen() {
        let account = Account::of_this_process(None);
        let name = account.shell_name(true).into_string().expect("shells have plain names");
        assert!(name.starts_with('-'), "{name}");
        assert_eq!(&name[1..], account.shell_name(false));
        assert!(account.home.is_dir());
    }

    #[test]
    fn what_describes_the_account_cannot_be_set() {
        for name in ["", "HOME", "PATH", "SSH_AUTH_SOCK", "LD_PRELOAD", "A=B", "A\0"] {
            assert!(!Account::may_be_set(name), "{name:?}");
        }
        for name in ["LANG", "LC_TIME", "COLORTERM", "GIT_PROTOCOL"] {
            assert!(Account::may_be_set(name), "{name:?}");
        }
    }
}
