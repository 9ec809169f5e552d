//! What a person or a script starts from: `dev.env`, known hosts, an SSH configuration, certificates to trust, and
//! lines to paste.

use super::people::{Credentials, Person};
use crate::cli::PLUGIN;
use crate::config::Azure;
use crate::state::{StateDir, write_whole};
use anyhow::Context;
use ravelin_model::Target;
use secrecy::ExposeSecret;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::Path;

/// The region that clients are told; the bastion takes any.
const REGION: &str = "us-east-1";
const ENV_FILE: &str = "dev.env";
const KNOWN_HOSTS_FILE: &str = "known_hosts";
const SSH_CONFIG_FILE: &str = "ssh_config";
const BUNDLE_FILE: &str = "ca-bundle.pem";
/// A folder for `PATH`: this program by its own name, and by that under which the aws CLI looks for its plugin.
const PROGRAMS: &str = "bin";

/// Where systems keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Where the doors are.
pub(super) struct Place {
    pub(super) ssh: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) metrics: SocketAddr,
    /// The bastion's SSH host key in the one-line form.
    pub(super) host_key: String,
}

/// All that is handed out.
pub(super) struct Handout<'a> {
    pub(super) state: &'a StateDir,
    pub(super) place: Place,
    pub(super) azure: &'a Azure,
    pub(super) target: &'a Target,
    pub(super) authority: &'a Path,
}

impl Handout<'_> {
    /// Takes back what says that the node is ready. The folder may hold other things.
    pub(super) fn withdraw(state: &StateDir, people: &[Person]) -> anyhow::Result<()> {
        let theirs = people.iter().map(|person| format!("{}.env", person.principal.name));
        for name in theirs.chain([ENV_FILE.to_owned()]) {
            let path = state.path(&name);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
            }
        }
        Ok(())
    }

    /// Writes every file, `dev.env` last, and prints how to begin.
    pub(super) fn give_out(&self, owner: &Credentials, others: &[Credentials]) -> anyhow::Result<()> {
        let write = |name: &str, text: String, mode| write_whole(&self.state.path(name), text.as_bytes(), mode);
        write(KNOWN_HOSTS_FILE, self.known_hosts(), 0o644)?;
        write(SSH_CONFIG_FILE, self.ssh_config(owner), 0o644)?;
        write(BUNDLE_FILE, self.bundle()?, 0o644)?;
        self.link_programs()?;
        for other in others {
            write(&format!("{}.env", other.name), self.env(other), 0o600)?;
        }
        write(ENV_FILE, self.env(owner), 0o600)?;
        let text = self.welcome(owner, others);
        let mut out = std::io::stdout().lock();
        // Nobody may be reading; the node serves all the same.
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            tracing::debug!(%error, "nobody reads the welcome");
        }
        Ok(())
    }

    /// Shell lines with everything that one person's clients need.
    fn env(&self, person: &Credentials) -> String {
        let place = &self.place;
        let (https, http) = (format!("https://{}", place.https), format!("http://{}", place.http));
        let path = |name: &str| self.state.path(name).display().to_string();
        let alias = |dialect: &str| self.target.aliases.get(dialect).cloned().unwrap_or_default();
        let bundle = path(BUNDLE_FILE);
        let metrics = format!("http://{}/metrics", place.metrics);
        let variables: [(&str, &str); 30] = [
            ("RAVELIN_URL", &https),
            ("RAVELIN_HTTP_URL", &http),
            ("RAVELIN_METRICS_URL", &metrics),
            ("RAVELIN_TOKEN", person.token.expose_secret()),
            ("RAVELIN_SSH_HOST", &place.ssh.ip().to_string()),
            ("RAVELIN_SSH_PORT", &place.ssh.port().to_string()),
            ("RAVELIN_SSH_USER", person.name.as_str()),
            ("RAVELIN_SSH_KEY", &person.key_path.display().to_string()),
            ("RAVELIN_SSH_KNOWN_HOSTS", &path(KNOWN_HOSTS_FILE)),
            ("RAVELIN_TARGET", self.target.name.as_str()),
            ("RAVELIN_TARGET_AWS_ID", &alias(ravelin_aws::ALIAS)),
            ("RAVELIN_TARGET_AZURE_ID", &alias(ravelin_azure::ALIAS)),
            ("AWS_ENDPOINT_URL_SSM", &https),
            ("AWS_ACCESS_KEY_ID", person.aws_id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", person.aws_secret.expose_secret()),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_REGION", REGION),
            ("AWS_CA_BUNDLE", &bundle),
            ("RAVELIN_ARM_URL", &https),
            ("AZURE_AUTHORITY_HOST", &https),
            ("AZURE_TENANT_ID", &self.azure.tenant),
            ("AZURE_CLIENT_ID", person.azure_id.as_str()),
            ("AZURE_CLIENT_SECRET", person.azure_secret.expose_secret()),
            ("AZURE_SUBSCRIPTION_ID", &self.azure.subscription),
            ("AZURE_RESOURCE_GROUP", &self.azure.resource_group),
            ("AZURE_BASTION_NAME", &self.azure.bastion_name),
            ("SSL_CERT_FILE", &bundle),
            // curl looks here before it looks there, and some machines set it.
            ("CURL_CA_BUNDLE", &bundle),
            ("REQUESTS_CA_BUNDLE", &bundle),
            ("NODE_EXTRA_CA_CERTS", &self.authority.display().to_string()),
        ];
        let mut text = format!("# Ravelin on this machine, as {}. Holds secrets.\n", person.name);
        for (name, value) in variables {
            let _never = writeln!(text, "export {name}={}", quoted(value));
        }
        // Before what else may be called so, and once.
        let programs = quoted(&path(PROGRAMS));
        let _never = writeln!(text, "case \":$PATH:\" in *:{programs}:*) ;; *) PATH={programs}:$PATH ;; esac");
        text
    }

    /// The links in [`PROGRAMS`], made anew because the program may lie elsewhere than the last time.
    fn link_programs(&self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot tell where ravelin is")?;
        let folder = self.state.path(PROGRAMS);
        let link = |name: &str| {
            let (link, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
            match std::fs::remove_file(&draft) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            std::os::unix::fs::symlink(&program, &draft)?;
            std::fs::rename(&draft, &link)
        };
        std::fs::create_dir_all(&folder)
            .and_then(|()| link("ravelin"))
            .and_then(|()| link(PLUGIN))
            .with_context(|| format!("cannot make links in {}", folder.display()))
    }

    /// The bastion under each of its names, and the target under its own, for `ssh -J`.
    fn known_hosts(&self) -> String {
        let port = self.place.ssh.port();
        let host = |name: &str| if port == 22 { name.to_owned() } else { format!("[{name}]:{port}") };
        let bastion = [host(&self.place.ssh.ip().to_string()), host("localhost")].join(",");
        let mut text = format!("{bastion} {}\n", self.place.host_key);
        for key in &self.target.host_keys {
            let _never = writeln!(text, "{},[{}]:{} {key}", self.target.name, self.target.name, self.target.port);
        }
        text
    }

    /// Short names for both: `ssh -F …/ssh_config demo` reaches the target end to end.
    fn ssh_config(&self, owner: &Credentials) -> String {
        let in_quotes = |path: &Path| format!("\"{}\"", path.display().to_string().replace('%', "%%"));
        let login = self.target.logins.first().map_or("demo", |way| way.login.as_str());
        format!(
            "# Ravelin on this machine. By way of the bastion, end to end:  ssh -F THIS-FILE {target}\n\
             Host bastion\n  HostName {host}\n  Port {port}\n  User {owner}\n\
             Host {target}\n  User {login}\n  ProxyJump bastion\n\
             Host *\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  \
             StrictHostKeyChecking yes\n",
            target = self.target.name,
            host = self.place.ssh.ip(),
            port = self.place.ssh.port(),
            owner = owner.name,
            key = in_quotes(&owner.key_path),
            known = in_quotes(&self.state.path(KNOWN_HOSTS_FILE)),
        )
    }

    /// The development authority, after what this machine trusts anyway: several of the variables that name this file
    /// replace a program's whole trust, and the shell is meant for more than talking to us.
    fn bundle(&self) -> anyhow::Result<String> {
        let own = std::fs::read_to_string(self.authority)
            .with_context(|| format!("cannot read {}", self.authority.display()))?;
        let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
        // The variable may be our own, from the `dev.env` of an earlier run.
        let named = named.filter(|path| !path.starts_with(self.state.folder()));
        let candidates = named.iter().map(std::path::PathBuf::as_path).chain(SYSTEM_ROOTS.iter().map(Path::new));
        let roots =
            candidates.filter_map(|path| std::fs::read_to_string(path).ok()).find(|text| text.contains("BEGIN"));
        Ok(match roots {
            Some(roots) => format!("{}\n{own}", roots.trim_end()),
            None => own,
        })
    }

    fn welcome(&self, owner: &Credentials, others: &[Credentials]) -> String {
        let path = |name: &str| quoted(&self.state.path(name).display().to_string());
        let Place { ssh, https, http, .. } = &self.place;
        let mut eyes = format!("{} is an operator.", owner.name);
        for other in others {
            let env = path(&format!("{}.env", other.name));
            let _never = write!(eyes, " {} is not: to see with those eyes, . {env}", other.name);
        }
        include_str!("welcome.txt")
            .replace("{ssh}", &ssh.to_string())
            .replace("{https}", &https.to_string())
            .replace("{http}", &http.to_string())
            .replace("{env}", &path(ENV_FILE))
            .replace("{config}", &path(SSH_CONFIG_FILE))
            .replace("{owner}", owner.name.as_str())
            .replace("{target}", self.target.name.as_str())
            .replace("{eyes}", &eyes)
            .replace("{authority}", &quoted(&self.authority.display().to_string()))
            .replace("{folder}", &quoted(&self.state.folder().display().to_string()))
    }
}

/// A value as one word of a shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_was_given_out_here() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = StateDir::open(folder.path()).expect("a new directory");
        let people = Person::all(&state).expect("everybody");
        let theirs = format!("{}.env", people[1].principal.name);
        for name in [ENV_FILE, &theirs, "prod.env"] {
            std::fs::write(state.path(name), "x").expect("written");
        }
        Handout::withdraw(&state, &people).expect("taken back");
        let left = [ENV_FILE, &theirs, "prod.env"].map(|name| state.path(name).exists());
        assert_eq!(left, [false, false, true]);
    }

    #[test]
    fn the_environment_has_every_promised_variable_once() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = StateDir::open(folder.path()).expect("a new directory");
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let place = Place {
            ssh: address(2222),
            https: address(8443),
            http: address(8080),
            metrics: address(9464),
            host_key: String::new(),
        };
        let name = ravelin_model::TargetName::parse("demo").expect("a name");
        let id = crate::config::target_id(&name);
        let azure = Azure::unnamed();
        let target = Target {
            aliases: crate::config::alias_ids(&id, &name, &azure),
            id,
            name,
            address: "127.0.0.1".to_owned(),
            port: 22,
            protocol: ravelin_model::target::Protocol::Ssh,
            logins: Vec::new(),
            host_keys: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            shared_with: std::collections::BTreeSet::new(),
            recording: ravelin_model::recording::Rule::default(),
        };
        let secret = || secrecy::SecretString::from("a secret");
        let id = |text| ravelin_model::CredentialId::parse(text).expect("an id");
        let owner = Credentials {
            name: ravelin_model::PrincipalName::parse("alice").expect("a name"),
            key_path: state.path("alice_ed25519"),
            token: secret(),
            aws_id: id("RVLKX"),
            aws_secret: secret(),
            azure_id: id("6a1c1e30"),
            azure_secret: secret(),
        };
        let authority = state.path("ca.pem");
        let handout = Handout { state: &state, place, azure: &azure, target: &target, authority: &authority };
        let env = handout.env(&owner);
        // The list in the design, word for word.
        let promised = "RAVELIN_URL RAVELIN_HTTP_URL RAVELIN_TOKEN \
            RAVELIN_SSH_HOST RAVELIN_SSH_PORT RAVELIN_SSH_USER RAVELIN_SSH_KEY RAVELIN_SSH_KNOWN_HOSTS \
            RAVELIN_TARGET RAVELIN_TARGET_AWS_ID RAVELIN_TARGET_AZURE_ID \
            AWS_ENDPOINT_URL_SSM AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION AWS_REGION AWS_CA_BUNDLE \
            RAVELIN_ARM_URL AZURE_AUTHORITY_HOST AZURE_TENANT_ID AZURE_CLIENT_ID AZURE_CLIENT_SECRET \
            AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZURE_BASTION_NAME \
            SSL_CERT_FILE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS";
        for name in promised.split_whitespace() {
            let start = format!("export {name}=");
            let lines: Vec<&str> = env.lines().filter(|line| line.starts_with(&start)).collect();
            assert!(lines.len() == 1 && lines[0].len() > start.len(), "{name}: {lines:?}");
        }
        assert!(env.contains("export RAVELIN_URL=https://127.0.0.1:8443\n"), "{env}");
        assert!(env.contains("export RAVELIN_TOKEN='a secret'\n"), "{env}");

        // Sourced in a shell, however often, it has the programs on its path.
        handout.link_programs().expect("links");
        handout.link_programs().expect("links again");
        let file = state.path(ENV_FILE);
        std::fs::write(&file, &env).expect("written");
        let script =
            format!("set -eu; . '{0}'; . '{0}'; command -v ravelin; command -v {PLUGIN}; echo $PATH", file.display());
        let ran = std::process::Command::new("/bin/sh").args(["-c", &script]).env("PATH", "/usr/bin").output();
        let said = String::from_utf8(ran.expect("a shell").stdout).expect("text");
        let programs = state.path(PROGRAMS).display().to_string();
        assert_eq!(said, format!("{programs}/ravelin\n{programs}/{PLUGIN}\n{programs}:/usr/bin\n"));
        let program = std::env::current_exe().expect("this one");
        assert_eq!(std::fs::read_link(state.path(PROGRAMS).join(PLUGIN)).expect("a link"), program);

        // Two lines that are printed lead to a shell with the aws CLI, also with one that knows no variable for this.
        let welcome = handout.welcome(&owner, &[]);
        let printed = |line: &str| welcome.lines().any(|printed| printed.trim() == line);
        assert!(printed(&format!(". {}", file.display())), "{welcome}");
        assert!(
            printed("aws ssm start-session --endpoint-url $AWS_ENDPOINT_URL_SSM --target $RAVELIN_TARGET_AWS_ID"),
            "{welcome}"
        );
    }

    #[test]
    fn values_are_one_word_of_a_shell() {
        for (value, wanted) in [
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("", "''"),
            ("/home/a b/dev", "'/home/a b/dev'"),
            ("it's", "'it'\\''s'"),
            ("$(rm)", "'$(rm)'"),
        ] {
            assert_eq!(quoted(value), wanted);
        }
    }
}
