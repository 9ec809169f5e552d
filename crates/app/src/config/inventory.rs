//! Principals and targets: from what the files declare to an inventory that is right as a whole.

use super::document::{Field, Written, nearest};
use super::fault::Weight;
use super::file::{InventoryFile, LoginTable, PrincipalTable, TargetTable};
use super::{Config, Reader, secret_file, settle};
use aws_lc_rs::digest;
use ravelin_model::id::InvalidName;
use ravelin_model::inventory::Inventory;
use ravelin_model::target::{LoginProof, LoginWay, Protocol};
use ravelin_model::{GroupName, Login, Principal, PrincipalName, Target, TargetId, TargetName};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// The inventory of all files together, or `None` when something is wrong with it. What could not be read at all is not
/// among `files`, which are not `complete` then.
pub(super) fn settle(
    files: &[InventoryFile],
    complete: bool,
    config: &Config,
    reader: &mut Reader,
) -> Option<Inventory> {
    let mut names = Names::default();
    let mut principals = Vec::new();
    let mut targets = Vec::new();
    for table in files.iter().flat_map(|file| &file.principals) {
        principals.extend(principal(table, &mut names, reader));
    }
    for table in files.iter().flat_map(|file| &file.targets) {
        targets.extend(target(table, config, &mut names, reader));
    }
    if !complete {
        return None;
    }
    point_out_empty_groups(files, &principals, reader);
    if reader.faults.any_error() {
        return None;
    }
    match Inventory::new(principals, targets) {
        Ok(inventory) => Some(inventory),
        Err(duplicates) => {
            // Every duplicate was found above, where lines are known; this is the model's own word on it.
            for (duplicate, table) in duplicates.iter().zip(files.iter().flat_map(|file| &file.targets)) {
                reader.faults.push(table.here.fault(duplicate, "give each its own"));
            }
            None
        }
    }
}

/// The stable id of a target that has no other: a digest of its name.
#[must_use]
pub(crate) fn target_id(name: &TargetName) -> TargetId {
    let digest = digest::digest(&digest::SHA256, name.as_str().as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    TargetId::from_hex(&hex[..17]).expect("the first 17 of 64 hex digits are 17 hex digits")
}

/// The ids that a target bears in foreign dialects unless it is given others.
pub(crate) fn alias_ids(id: &TargetId, name: &TargetName, azure: &super::Azure) -> BTreeMap<String, String> {
    BTreeMap::from([
        (ravelin_aws::ALIAS.to_owned(), ravelin_aws::target_id(id.hex())),
        (
            ravelin_azure::ALIAS.to_owned(),
            ravelin_azure::target_id(&azure.subscription, &azure.resource_group, name.as_str()),
        ),
    ])
}

/// Where each name was given first, to point at it when it comes again.
#[derive(Default)]
struct Names {
    principals: HashMap<String, String>,
    ssh_keys: HashMap<String, String>,
    /// Names, ids and aliases of targets share one space, without regard to case.
    targets: HashMap<String, String>,
}

fn claim<T>(seen: &mut HashMap<String, String>, what: &str, name: &str, at: &Written<T>, reader: &mut Reader) {
    if let Some(first) = seen.get(name) {
        reader.faults.push(at.fault(format!("{what} is there already, at {first}"), "give each its own"));
    } else {
        seen.insert(name.to_owned(), at.place.to_string());
    }
}

fn parsed<T>(
    written: &Written<String>,
    parse: impl Fn(&str) -> Result<T, InvalidName>,
    reader: &mut Reader,
) -> Option<T> {
    match parse(&written.value) {
        Ok(value) => Some(value),
        Err(invalid) => {
            reader.faults.push(written.fault(format!("is not a {}", invalid.what), format!("it {}", invalid.because)));
            None
        }
    }
}

fn groups(field: &Field<Vec<Written<String>>>, reader: &mut Reader) -> BTreeSet<GroupName> {
    let all = field.given().map(|list| list.value.as_slice()).unwrap_or_default();
    all.iter().filter_map(|group| parsed(group, GroupName::parse, reader)).collect()
}

fn principal(table: &PrincipalTable, names: &mut Names, reader: &mut Reader) -> Option<Principal> {
    let name = table.name.given().and_then(|written| {
        let name = parsed(written, PrincipalName::parse, reader)?;
        claim(&mut names.principals, "a principal of this name", name.as_str(), written, reader);
        Some(name)
    });
    let groups = groups(&table.groups, reader);
    let mut ssh_keys = Vec::new();
    let mut take = |line: &str, at: &Written<String>, reader: &mut Reader| match public_key(line) {
        Ok(key) => {
            claim(&mut names.ssh_keys, "this key", &key, at, reader);
            ssh_keys.push(key);
        }
        Err(because) => {
            let fix = "write one line as ~/.ssh/id_ed25519.pub has it: \"ssh-ed25519 AAAA…\"";
            reader.faults.push(at.fault(because, fix));
        }
    };
    for key in table.ssh_keys.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        take(&key.value, key, reader);
    }
    if let Some(named) = table.ssh_keys_file.given()
        && let Some(text) = reader.text_of(&named.path(), Some(named))
    {
        let keys = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
        for (index, line) in keys {
            let mut at = named.clone();
            at.place.file = named.path().display().to_string().into();
            at.place.line = index + 1;
            at.key = String::new();
            at.shown = super::fault::Fault::shown(line);
            take(line, &at, reader);
        }
    }
    Some(Principal { name: name?, groups, ssh_keys })
}

fn target(table: &TargetTable, config: &Config, names: &mut Names, reader: &mut Reader) -> Option<Target> {
    let protocol = protocol(table, reader);
    let port = port(table, protocol, reader);
    let address = address(table, reader);
    let host_keys = host_keys(table, protocol, port, reader);
    let logins = logins(table, protocol, reader);
    let labels = labels(table, reader);
    let shared_with = groups(&table.shared_with, reader);
    let recording = settle::record(&table.record, config, reader);
    let written = table.name.given()?;
    let name = parsed(written, TargetName::parse, reader)?;
    let id = target_id(&name);
    let mut aliases = alias_ids(&id, &name, &config.azure);
    claim(&mut names.targets, "a target of this name", &name.as_str().to_ascii_lowercase(), written, reader);
    for (dialect, field, shape) in [
        (ravelin_aws::ALIAS, &table.aws_id, "\"mi-\" or \"i-\" and 17 (or 8) hex digits"),
        (ravelin_azure::ALIAS, &table.azure_id, "\"/subscriptions/…/virtualMachines/NAME\""),
    ] {
        let Some(given) = field.given() else { continue };
        let fits = if dialect == ravelin_aws::ALIAS { is_aws_id(&given.value) } else { is_azure_id(&given.value) };
        if !fits {
            reader.faults.push(given.fault("is not such an id", format!("write {shape}, or remove it")));
            continue;
        }
        claim(&mut names.targets, "a target of this id", &given.value.to_ascii_lowercase(), given, reader);
        aliases.insert(dialect.to_owned(), given.value.clone());
    }
    Some(Target {
        id,
        name,
        address: address?,
        port: port?,
        protocol: protocol?,
        logins,
        host_keys,
        labels,
        shared_with,
        aliases,
        recording,
    })
}

fn protocol(table: &TargetTable, reader: &mut Reader) -> Option<Protocol> {
    match &table.protocol {
        Field::Absent => Some(Protocol::Ssh),
        Field::Wrong => None,
        Field::Given(written) => {
            let protocol = Protocol::from_word(&written.value);
            if protocol.is_none() {
                let words: Vec<String> = Protocol::ALL.iter().map(|p| format!("{:?}", p.word())).collect();
                reader.faults.push(written.fault("is not a protocol", format!("write one of {}", words.join(", "))));
            }
            protocol
        }
    }
}

fn port(table: &TargetTable, protocol: Option<Protocol>, reader: &mut Reader) -> Option<u16> {
    match &table.port {
        Field::Given(written) => u16::try_from(written.value).ok(),
        Field::Wrong => None,
        Field::Absent => match protocol? {
            Protocol::Ssh => Some(22),
            Protocol::Rdp => Some(3389),
            Protocol::Tcp => {
                let fix = "write the port, such as port = 5432";
                let mut fault = table.here.fault("a tcp target has no usual port", fix);
                fault.key = "target.port".to_owned();
                fault.value = None;
                reader.faults.push(fault);
                None
            }
        },
    }
}

fn address(table: &TargetTable, reader: &mut Reader) -> Option<String> {
    let written = table.address.given()?;
    if settle::is_host(&written.value) {
        return Some(written.value.clone());
    }
    let unbracketed = written.value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fix = match (unbracketed, written.value.rsplit_once(':')) {
        (Some(inner), _) if inner.parse::<IpAddr>().is_ok() => format!("write {inner:?}"),
        (_, Some((host, port))) if settle::is_host(host) && port.parse::<u16>().is_ok() => {
            format!("write address = {host:?} and port = {port}")
        }
        _ => "write it without user, port or scheme: \"10.0.0.5\" or \"web-1.example.org\"".to_owned(),
    };
    reader.faults.push(written.fault("is not a host name or an IP address", fix));
    None
}

fn host_keys(table: &TargetTable, protocol: Option<Protocol>, port: Option<u16>, reader: &mut Reader) -> Vec<String> {
    let given = table.host_keys.given().map(|list| list.value.as_slice()).unwrap_or_default();
    let scan = {
        let address = table.address.given().map_or("ADDRESS", |written| written.value.as_str());
        let port = port.unwrap_or(22);
        format!("ssh-keyscan -p {port} {address}")
    };
    let how = format!("get them with `{scan}` over a network you trust, and compare them with the machine's own");
    let missing = given.is_empty() && !matches!(table.host_keys, Field::Wrong);
    if protocol == Some(Protocol::Ssh) && missing {
        let name = table.name.given().map_or("this", |name| name.shown.as_str());
        let what = format!("{name} is an ssh target without host keys: any machine could pass for it");
        let mut fault = table.here.fault(what, &how);
        fault.key = "target.host_keys".to_owned();
        fault.value = None;
        if let Some(list) = table.host_keys.given() {
            fault.place = list.place.clone();
        }
        reader.faults.push(fault);
    }
    let mut keys = Vec::new();
    for key in given {
        // A line of known_hosts or ssh-keyscan begins with the host; people paste those.
        let line = key.value.trim();
        let after_host = line.split_once(char::is_whitespace).map_or(line, |(_, rest)| rest.trim_start());
        match public_key(line).or_else(|because| public_key(after_host).map_err(|_| because)) {
            Ok(key) => keys.push(key),
            Err(because) => reader.faults.push(key.fault(because, &how)),
        }
    }
    keys
}

fn logins(table: &TargetTable, protocol: Option<Protocol>, reader: &mut Reader) -> Vec<LoginWay> {
    let mut ways: Vec<LoginWay> = Vec::new();
    for entry in &table.logins {
        if protocol.is_some_and(|protocol| protocol != Protocol::Ssh) {
            reader.faults.push(entry.fault("is of a target without SSH; only ssh targets have logins", "remove it"));
            continue;
        }
        let proof = proof(entry, reader);
        let Some(written) = entry.name.given() else { continue };
        let Some(login) = parsed(written, Login::parse, reader) else { continue };
        if ways.iter().any(|way| way.login == login) {
            reader.faults.push(written.fault("this target has a login of that name already", "remove one"));
        }
        ways.extend(proof.map(|proof| LoginWay { login, proof }));
    }
    ways
}

impl LoginTable {
    fn fault(&self, what: &str, fix: &str) -> super::Fault {
        let name = self.name.given().map_or("this", |name| name.shown.as_str());
        let mut fault = self.here.fault(format!("the login {name} {what}"), fix);
        fault.value = None;
        fault
    }
}

fn proof(entry: &LoginTable, reader: &mut Reader) -> Option<LoginProof> {
    const WAYS: &str = "give it key_file = \"…\", password_file = \"…\" or agent = true, one of them";
    let agent = entry.agent.value_or(false);
    if [&entry.key_file, &entry.password_file].into_iter().any(|field| matches!(field, Field::Wrong))
        || matches!(entry.agent, Field::Wrong)
    {
        return None;
    }
    match (entry.key_file.given(), entry.password_file.given(), agent) {
        (Some(named), None, false) => {
            let key = secret_file::read(named, reader)?;
            match ravelin_ssh::keys::check_private_key(&key) {
                Ok(()) => Some(LoginProof::Key(key)),
                Err(error) => {
                    let fix = "name an unencrypted private key in OpenSSH form, as ssh-keygen -N '' makes it";
                    reader.faults.push(named.fault(because(error), fix));
                    None
                }
            }
        }
        (None, Some(named), false) => {
            let text = secret_file::read(named, reader)?;
            let password = text.expose_secret().trim_end_matches(['\n', '\r']);
            if password.is_empty() {
                reader.faults.push(named.fault("holds no password", "write the password on its first line"));
                return None;
            }
            Some(LoginProof::Password(SecretString::from(password)))
        }
        (None, None, true) => Some(LoginProof::ForwardedAgent),
        (None, None, false) => {
            reader.faults.push(entry.fault("has no proof", WAYS));
            None
        }
        (Some(_), Some(_), _) | (Some(_), None, true) | (None, Some(_), true) => {
            reader.faults.push(entry.fault("has more than one proof", WAYS));
            None
        }
    }
}

fn labels(table: &TargetTable, reader: &mut Reader) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value) in table.labels.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            let fix = "use 1 to 128 letters, digits and . _ - / :";
            reader.faults.push(value.fault("the label's name is not one", fix));
        } else if value.value.len() > 256 || value.value.chars().any(char::is_control) {
            reader.faults.push(value.fault("is not a label's value", "use up to 256 printable characters"));
        } else {
            labels.insert(name.clone(), value.value.clone());
        }
    }
    labels
}

/// The key of a line that begins with its algorithm, without its comment. Options of `authorized_keys` before it would
/// be a promise that nobody keeps.
fn public_key(line: &str) -> Result<String, String> {
    let line = line.trim();
    let begins_with = ["ssh-", "ecdsa-", "sk-"];
    if !begins_with.iter().any(|start| line.starts_with(start)) {
        let options = ravelin_ssh::keys::parse_public_line(line).is_ok();
        let what =
            if options { "has options before the key, which Ravelin does not heed" } else { "is not a public key" };
        return Err(what.to_owned());
    }
    ravelin_ssh::keys::parse_public_line(line).map_err(because)
}

/// What is wrong with a key, ready to stand after it.
pub(super) fn because(error: ravelin_ssh::keys::KeyError) -> String {
    let text = error.to_string();
    if text.starts_with("not ") { format!("is {text}") } else { text }
}

/// Warns of groups that targets are shared with and nobody is in: usually a slip of the pen.
fn point_out_empty_groups(files: &[InventoryFile], principals: &[Principal], reader: &mut Reader) {
    let peopled: BTreeSet<&str> = principals.iter().flat_map(|p| &p.groups).map(|group| group.as_str()).collect();
    let candidates: Vec<&str> = peopled.iter().copied().collect();
    for table in files.iter().flat_map(|file| &file.targets) {
        for group in table.shared_with.given().map(|list| list.value.as_slice()).unwrap_or_default() {
            if !peopled.contains(group.value.as_str()) && GroupName::parse(&group.value).is_ok() {
                let fix = match nearest(&group.value, &candidates) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "give it to a principal, or remove it".to_owned(),
                };
                let mut fault = group.fault("nobody is in this group", fix);
                fault.weight = Weight::Warning;
                reader.faults.push(fault);
            }
        }
    }
}

fn is_aws_id(text: &str) -> bool {
    let tail = text.strip_prefix("mi-").or_else(|| text.strip_prefix("i-"));
    tail.is_some_and(|tail| {
        matches!(tail.len(), 8 | 17) && tail.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn is_azure_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let named = |at: usize, word: &str| parts.get(at).is_some_and(|part| part.eq_ignore_ascii_case(word));
    let filled = parts.iter().skip(1).all(|part| !part.is_empty());
    parts.len() >= 9 && parts[0].is_empty() && filled && named(1, "subscriptions") && named(3, "resourceGroups")
}
