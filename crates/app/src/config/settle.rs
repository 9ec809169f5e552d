//! Makes sense of `ravelin.toml` as a whole: defaults, paths, and what does not go together.

use super::document::{Field, Written};
use super::file::{AddressesTable, AzureTable, ConfigFile, IssuerTable, RecordTable};
use super::{
    Aws, Azure, Bind, Config, Limits, Reader, Recordings, Ssh, Tls, far, inventory, secret_file, session_logs,
};
use crate::tls;
use ipnet::IpNet;
use ravelin_engine::egress::Egress;
use ravelin_model::recording::{Mode, Rule, WhenBroken};
use ravelin_model::{GroupName, NodeId, PrincipalName};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const SSH_PORT: u16 = 2222;
const HTTPS_PORT: u16 = 8443;
const STATE_DIR: &str = "/var/lib/ravelin";
const DRAIN: Duration = Duration::from_secs(30);

impl Aws {
    /// The account when none is given.
    pub(crate) const ACCOUNT: &'static str = "000000000000";
}

impl Azure {
    /// What the deployment is called when nothing is given.
    pub(crate) fn unnamed() -> Self {
        Self {
            tenant: "00000000-0000-4000-8000-000000000001".to_owned(),
            subscription: "00000000-0000-4000-8000-000000000002".to_owned(),
            resource_group: "ravelin".to_owned(),
            bastion_name: "ravelin".to_owned(),
            location: "local".to_owned(),
            issuers: Vec::new(),
        }
    }
}

impl Limits {
    /// The engine's own defaults.
    pub(crate) fn unset() -> Self {
        let engine = ravelin_engine::Config::new(NodeId::new(0));
        Self {
            idle: engine.idle_max,
            duration: engine.duration_max,
            disconnected: engine.disconnected_max,
            sessions: engine.sessions_max,
            sessions_per_principal: engine.sessions_per_principal_max,
        }
    }
}

/// The configuration with all defaults. Where something is wrong it holds a default, and a fault has been reported.
pub(super) fn settle(file: &ConfigFile, reader: &mut Reader) -> Config {
    let (ssh, https, http) = listeners(file, reader);
    let others: Vec<Bind> = [&ssh, &https, &http].into_iter().flatten().cloned().collect();
    let metrics = metrics(file, &others, reader);
    let limits = limits(file, reader);
    let state_dir = file.node.state_dir.given().map_or_else(|| PathBuf::from(STATE_DIR), Written::path);
    // Fails for an empty path only, which is none of a directory's either.
    let state_dir = std::path::absolute(&state_dir).unwrap_or(state_dir);
    if let (Some(named), Ok(meta)) = (file.node.state_dir.given(), std::fs::metadata(&state_dir))
        && !meta.is_dir()
    {
        reader.faults.push(named.fault("is not a directory", "name a directory; it is made when it is not there"));
    }
    Config {
        state_dir,
        public_url: public_url(file, reader),
        ssh,
        https,
        http,
        metrics,
        tls: tls_source(file, reader),
        ssh_server: ssh_server(file, reader),
        limits,
        drain: file.drain_period.value_or(DRAIN),
        history_keep: file.history_keep.value_or(Config::HISTORY_KEEP),
        aws: aws(file, reader),
        azure: azure(&file.azure, reader),
        recordings: recordings(file, reader),
        sinks: Vec::new(),
    }
}

fn recordings(file: &ConfigFile, reader: &mut Reader) -> Recordings {
    let (table, unset) = (&file.recordings, Recordings::unset());
    let mut keep_by_class = BTreeMap::new();
    for class in &table.classes {
        let (Some(name), Some(keep)) = (class.name.given(), class.keep.given()) else { continue };
        if name.value.is_empty() || name.value.len() > 64 {
            reader.faults.push(name.fault("is not a class's name", "write 1 to 64 characters"));
        }
        if keep_by_class.insert(name.value.clone(), keep.value).is_some() {
            reader.faults.push(name.fault("there is a class of this name already", "remove one"));
        }
    }
    if let Some(named) = table.key_file.given()
        && let Some(text) = secret_file::read(named, reader)
        && let Err(fault) = ravelin_recordings::KeyRing::parse(text.expose_secret())
    {
        let fix = "make one: echo \"$(date +%Y-%m) $(openssl rand -hex 32)\" > FILE; chmod 600 FILE";
        reader.faults.push(named.fault(fault, fix));
    }
    let rule = Rule {
        mode: word(&table.mode, Mode::from_word, Mode::ALL.iter().map(|m| m.word()), reader).unwrap_or(unset.rule.mode),
        input: table.input.value_or(unset.rule.input),
        when_broken: when_broken(&table.on_failure, reader).unwrap_or(unset.rule.when_broken),
        announce: table.announce.value_or(unset.rule.announce),
        class: String::new(),
        output: false,
    };
    Recordings {
        rule,
        folder: table.folder.given().map(Written::path),
        key_file: table.key_file.given().map(Written::path),
        keep: table.keep.value_or(unset.keep),
        keep_by_class,
        screen_text: table.screen_text.value_or(unset.screen_text),
        store: far::settle(&table.store, reader),
    }
}

/// What is recorded of sessions to one target.
pub(super) fn record(table: &RecordTable, config: &Config, reader: &mut Reader) -> Rule {
    let usual = &config.recordings.rule;
    if let Some(class) = table.class.given()
        && !config.recordings.keep_by_class.contains_key(&class.value)
    {
        let fix = "name one of [[recordings.classes]], or add it there";
        reader.faults.push(class.fault("is not a class of recordings", fix));
    }
    Rule {
        mode: word(&table.mode, Mode::from_word, Mode::ALL.iter().map(|m| m.word()), reader).unwrap_or(usual.mode),
        input: table.input.value_or(usual.input),
        when_broken: when_broken(&table.on_failure, reader).unwrap_or(usual.when_broken),
        announce: table.announce.value_or(usual.announce),
        class: table.class.value_or(String::new()),
        output: false,
    }
}

fn when_broken(field: &Field<String>, reader: &mut Reader) -> Option<WhenBroken> {
    word(field, WhenBroken::from_word, WhenBroken::ALL.iter().map(|w| w.word()), reader)
}

/// A word of a closed list.
fn word<T>(
    field: &Field<String>,
    parse: impl Fn(&str) -> Option<T>,
    known: impl Iterator<Item = &'static str>,
    reader: &mut Reader,
) -> Option<T> {
    let written = field.given()?;
    let parsed = parse(&written.value);
    if parsed.is_none() {
        let words: Vec<String> = known.map(|word| format!("{word:?}")).collect();
        reader.faults.push(written.fault("is not one of the words", format!("write one of {}", words.join(", "))));
    }
    parsed
}

/// The listeners that are named; SSH and HTTPS on their usual ports when none is.
fn listeners(file: &ConfigFile, reader: &mut Reader) -> (Option<Bind>, Option<Bind>, Option<Bind>) {
    let listen = &file.listen;
    let fields = [&listen.ssh, &listen.https, &listen.http];
    if fields.iter().all(|field| matches!(field, Field::Absent)) {
        let usual = |key: &str, port| {
            let origin = format!("{}: listen.{key} (default)", listen.here.place.file);
            Some(Bind { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), origin })
        };
        return (usual("ssh", SSH_PORT), usual("https", HTTPS_PORT), None);
    }
    if let Some(written) = listen.http.given()
        && !written.value.ip().is_loopback()
        && !listen.allow_plain_http.value_or(false)
    {
        let fix = "listen on 127.0.0.1, use https, or set listen.allow_plain_http = true";
        reader.faults.push(written.fault("would take credentials without encryption from other machines", fix));
    }
    let mut seen: Vec<Bind> = Vec::new();
    let [ssh, https, http] = fields.map(|field| {
        let written = field.given()?;
        let bind = listener(written, &seen, reader);
        seen.push(bind.clone());
        Some(bind)
    });
    (ssh, https, http)
}

/// A listener that is named beside others.
fn listener(written: &Written<SocketAddr>, others: &[Bind], reader: &mut Reader) -> Bind {
    if let Some(other) = others.iter().find(|other| clash(other.address, written.value)) {
        let what = format!("takes what another listener has ({}, {})", other.address, other.origin);
        reader.faults.push(written.fault(what, "give each listener its own port"));
    }
    Bind { address: written.value, origin: format!("{}: {}", written.place, written.key) }
}

/// Whether two listeners cannot have these addresses at once: `[::]` has those of IPv4, too.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip() == narrow.ip() || (wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()))
    };
    one.port() != 0 && one.port() == other.port() && (covers(one, other) || covers(other, one))
}

/// The metrics listener, if it is named; its figures need no proof, so other machines are let in by a word only.
fn metrics(file: &ConfigFile, others: &[Bind], reader: &mut Reader) -> Option<Bind> {
    let written = file.metrics.listen.given()?;
    if !written.value.ip().is_loopback() && !file.metrics.allow_remote.value_or(false) {
        let fix = "listen on 127.0.0.1, or set metrics.allow_remote = true";
        reader.faults.push(written.fault("would show other machines the metrics without asking who they are", fix));
    }
    Some(listener(written, others, reader))
}

fn limits(file: &ConfigFile, reader: &mut Reader) -> Limits {
    let unset = Limits::unset();
    for field in [&file.limits.idle, &file.limits.duration] {
        if let Some(written) = field.given()
            && written.value.is_some_and(|limit| limit < Duration::from_secs(1))
        {
            reader.faults.push(written.fault("is shorter than a second", "write at least \"1 s\", or \"never\""));
        }
    }
    if let Some(written) = file.limits.disconnected.given()
        && !(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&written.value)
    {
        reader.faults.push(written.fault("is out of range", "write a duration from 1 s to 24 h"));
    }
    if let Some(written) = file.history_keep.given()
        && written.value < Duration::from_secs(3600)
    {
        reader.faults.push(written.fault("is shorter than an hour", "write at least \"1 h\""));
    }
    if let Some(written) = file.drain_period.given()
        && written.value > Duration::from_secs(24 * 3600)
    {
        reader.faults.push(written.fault("is longer than a day", "write at most \"24 h\""));
    }
    Limits {
        idle: file.limits.idle.value_or(unset.idle),
        duration: file.limits.duration.value_or(unset.duration),
        disconnected: file.limits.disconnected.value_or(unset.disconnected),
        sessions: count(&file.limits.sessions, unset.sessions),
        sessions_per_principal: count(&file.limits.sessions_per_principal, unset.sessions_per_principal),
    }
}

fn public_url(file: &ConfigFile, reader: &mut Reader) -> Option<String> {
    let written = file.public_url.given()?;
    let fix = "write the scheme, host and port that clients use: \"https://bastion.example.org:8443\"";
    let url = written.value.trim_end_matches('/');
    let wrong = match url.parse::<http::Uri>() {
        Err(_) => Some("is not a URL"),
        Ok(uri) => match (uri.scheme_str(), uri.authority()) {
            (Some("https" | "http"), Some(authority)) if authority.as_str().contains('@') => Some("names a user"),
            (Some("https" | "http"), Some(_)) if uri.path() != "/" && !uri.path().is_empty() => Some("has a path"),
            (Some("https" | "http"), Some(_)) if uri.query().is_some() => Some("has a query"),
            (Some("https" | "http"), Some(_)) => None,
            _ => Some("is not an http or https URL"),
        },
    };
    if let Some(wrong) = wrong {
        reader.faults.push(written.fault(wrong, fix));
    }
    Some(url.to_owned())
}

fn tls_source(file: &ConfigFile, reader: &mut Reader) -> Tls {
    let table = &file.tls;
    let mut names = Vec::new();
    for name in table.names.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        if is_host(&name.value) {
            names.push(name.value.clone());
        } else {
            reader.faults.push(name.fault("is not a host name or an IP address", "write it without port or scheme"));
        }
    }
    let (cert, key) = match (&table.cert, &table.key) {
        (Field::Given(cert), Field::Given(key)) => (cert, key),
        (Field::Given(cert), Field::Absent) => {
            reader.faults.push(cert.fault("is a certificate without its key", "add tls.key = \"privkey.pem\""));
            return Tls::OwnAuthority { names };
        }
        (Field::Absent, Field::Given(key)) => {
            reader.faults.push(key.fault("is a key without its certificate", "add tls.cert = \"fullchain.pem\""));
            return Tls::OwnAuthority { names };
        }
        _ => return Tls::OwnAuthority { names },
    };
    if let Field::Given(list) = &table.names {
        reader
            .faults
            .push(list.fault("goes with a certificate that Ravelin makes", "remove it, or remove cert and key"));
    }
    let chain = reader.text_of(&cert.path(), Some(cert));
    let secret = secret_file::read(key, reader);
    let (Some(chain), Some(secret)) = (chain, secret) else { return Tls::OwnAuthority { names } };
    match tls::certified(&chain, secret.expose_secret()) {
        Ok(certified) => Tls::Files { certified },
        Err(error) => {
            let (named, fix) = match error {
                tls::PemFault::Certificate(_) => (cert, "name a PEM file with the certificate and its chain"),
                tls::PemFault::Key(_) => (key, "name a PEM file with one unencrypted private key"),
                tls::PemFault::Mismatch => (key, "name the key that the certificate was made for"),
            };
            reader.faults.push(named.fault(error, fix));
            Tls::OwnAuthority { names }
        }
    }
}

impl Ssh {
    /// The edge's own defaults.
    pub(crate) fn unset() -> Self {
        let edge = ravelin_ssh::server::Config::new(Vec::new());
        Self {
            host_key: None,
            banner: edge.banner,
            login_grace: edge.login_grace,
            login_bytes: edge.bytes_before_login_max,
            logins_pending: edge.unauthenticated_max,
            logins_pending_per_address: edge.unauthenticated_per_address_max,
            channels: edge.channels_per_connection_max,
            keepalive: edge.keepalive_interval,
            chacha20: edge.chacha20,
        }
    }
}

fn ssh_server(file: &ConfigFile, reader: &mut Reader) -> Ssh {
    let (table, unset) = (&file.ssh, Ssh::unset());
    for (field, shortest, longest) in [(&table.login_grace, 1, 600), (&table.keepalive, 1, 3600)] {
        let fits = Duration::from_secs(shortest)..=Duration::from_secs(longest);
        if let Some(written) = field.given()
            && !fits.contains(&written.value)
        {
            let fix = format!("write a duration from {shortest} s to {longest} s");
            reader.faults.push(written.fault("is out of range", fix));
        }
    }
    if let Some(written) = table.login_bytes.given()
        && !(16 << 10..=64 << 20).contains(&written.value)
    {
        reader.faults.push(written.fault("is out of range", "write a size from 16 KiB to 64 MiB"));
    }
    Ssh {
        host_key: ssh_host_key(file, reader),
        banner: table.banner.given().map(|written| written.value.clone()),
        login_grace: table.login_grace.value_or(unset.login_grace),
        login_bytes: table.login_bytes.value_or(unset.login_bytes),
        logins_pending: count(&table.logins_pending, unset.logins_pending),
        logins_pending_per_address: count(&table.logins_pending_per_address, unset.logins_pending_per_address),
        channels: count(&table.channels, unset.channels),
        keepalive: table.keepalive.value_or(unset.keepalive),
        chacha20: table.chacha20.value_or(unset.chacha20),
    }
}

fn count(field: &Field<u64>, default: usize) -> usize {
    field.given().map_or(default, |written| usize::try_from(written.value).unwrap_or(usize::MAX))
}

fn ssh_host_key(file: &ConfigFile, reader: &mut Reader) -> Option<SecretString> {
    let named = file.ssh.host_key.given()?;
    let secret = secret_file::read(named, reader)?;
    if let Err(error) = ravelin_ssh::keys::check_private_key(&secret) {
        reader.faults.push(
            named.fault(inventory::because(error), "make one: ssh-keygen -t ed25519 -N '' -f ssh_host_ed25519_key"),
        );
    }
    Some(secret)
}

fn aws(file: &ConfigFile, reader: &mut Reader) -> Aws {
    if let Some(written) = file.aws.account.given()
        && !(written.value.len() == 12 && written.value.bytes().all(|b| b.is_ascii_digit()))
    {
        reader.faults.push(written.fault("is not an account number", "write 12 digits, such as \"111122223333\""));
    }
    let regions = file.aws.regions.given().map(|list| list.value.as_slice()).unwrap_or_default();
    for region in regions {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if region.value.is_empty() || region.value.len() > 32 || !region.value.bytes().all(plain) {
            reader.faults.push(region.fault("is not a region's name", "write one such as \"eu-central-1\""));
        }
    }
    Aws {
        account: file.aws.account.value_or(Aws::ACCOUNT.to_owned()),
        regions: regions.iter().map(|region| region.value.clone()).collect(),
        reason_required: file.aws.reason_required.value_or(false),
        log_buckets: session_logs::buckets(&file.aws.log_buckets, reader),
        log_groups: session_logs::groups(&file.aws.log_groups, reader),
    }
}

fn azure(table: &AzureTable, reader: &mut Reader) -> Azure {
    let unnamed = Azure::unnamed();
    for field in [&table.tenant, &table.subscription] {
        if let Some(written) = field.given()
            && uuid::Uuid::try_parse(&written.value).is_err()
        {
            let fix = "write a GUID, such as \"6a1c1e30-4d3b-4a51-9d3e-2f5a7c1b0d94\"";
            reader.faults.push(written.fault("is not a GUID", fix));
        }
    }
    for (field, what, chars_max, marks) in [
        (&table.resource_group, "a resource group's name", 90, "._()-"),
        (&table.bastion_name, "a bastion's name", 80, "._-"),
        (&table.location, "a location", 40, "-"),
    ] {
        let Some(written) = field.given() else { continue };
        let plain = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
        if written.value.is_empty() || written.value.len() > chars_max || !written.value.chars().all(plain) {
            let marks: Vec<String> = marks.chars().map(String::from).collect();
            let fix = format!("use 1 to {chars_max} letters, digits and {}", marks.join(" "));
            reader.faults.push(written.fault(format!("is not {what}"), fix));
        }
    }
    let mut named = BTreeSet::new();
    for written in table.issuers.iter().filter_map(|issuer| issuer.issuer.given()) {
        if !named.insert(&written.value) {
            reader.faults.push(written.fault(
                "is named by another [[azure.issuer]] too",
                "write one for each issuer, with all audiences and principals; the second one would never be asked",
            ));
        }
    }
    Azure {
        tenant: table.tenant.value_or(unnamed.tenant).to_ascii_lowercase(),
        subscription: table.subscription.value_or(unnamed.subscription).to_ascii_lowercase(),
        resource_group: table.resource_group.value_or(unnamed.resource_group),
        bastion_name: table.bastion_name.value_or(unnamed.bastion_name),
        location: table.location.value_or(unnamed.location),
        issuers: table.issuers.iter().filter_map(|issuer| outside_issuer(issuer, reader)).collect(),
    }
}

fn outside_issuer(table: &IssuerTable, reader: &mut Reader) -> Option<ravelin_azure::OutsideIssuer> {
    for field in [&table.issuer, &table.jwks_url] {
        if let Some(written) = field.given()
            && !crate::serve::keys::is_fetchable(&written.value)
        {
            reader
                .faults
                .push(written.fault("is not an https URL", "write an https URL; plain http only on this machine"));
        }
    }
    let issuer = table.issuer.given()?;
    let audiences = table.audiences.given()?;
    if audiences.value.is_empty() {
        reader.faults.push(audiences.fault("is empty", "write what the issuer's tokens for Ravelin have in aud"));
    }
    let principals = table.principals.given().map(|map| map.value.as_slice()).unwrap_or_default();
    for (_, principal) in principals {
        if let Err(error) = PrincipalName::parse(&principal.value) {
            reader.faults.push(principal.fault(format!("is not a {}", error.what), format!("it {}", error.because)));
        }
    }
    Some(ravelin_azure::OutsideIssuer {
        issuer: issuer.value.clone(),
        audiences: audiences.value.iter().map(|audience| audience.value.clone()).collect(),
        jwks_url: table.jwks_url.given().map(|url| url.value.clone()),
        claim: table.claim.value_or("sub".to_owned()),
        principals: principals.iter().map(|(value, name)| (value.clone(), name.value.clone())).collect(),
    })
}

/// The ports of addresses when none are named: those that the clouds' own clients let through.
const ADDRESS_PORTS: [u16; 2] = [22, 3389];

/// What may be reached without being in the inventory. Nothing, unless networks are named.
pub(super) fn egress(table: &AddressesTable, reader: &mut Reader) -> Egress {
    let mut egress = Egress { ports: ADDRESS_PORTS.into(), ..Egress::default() };
    for network in table.networks.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        let one = || network.value.parse::<IpAddr>().map(IpNet::from);
        match network.value.parse::<IpNet>().or_else(|_| one()) {
            Ok(network) => egress.networks.push(network.trunc()),
            Err(_) => reader.faults.push(network.fault("is not a network", "write one such as \"10.20.0.0/16\"")),
        }
    }
    if let Some(ports) = table.ports.given() {
        egress.ports = ports.value.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
    }
    for group in table.shared_with.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        match GroupName::parse(&group.value) {
            Ok(name) => {
                egress.shared_with.insert(name);
            }
            Err(error) => {
                reader.faults.push(group.fault(format!("is not a {}", error.what), format!("it {}", error.because)));
            }
        }
    }
    egress
}

/// Whether it is a host name or an IP address.
pub(super) fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.len() <= 253 && text.chars().all(plain))
}
