//! What an operator may write: every key of `ravelin.toml` and of the inventory files, by name, each of the right type
//! or absent. Whether the values make sense together is [`super::check`]'s business.

use super::document::{Field, Section, Written};
use super::far::StoreTable;
use super::session_logs::{LogBucketTable, LogGroupTable};
use super::sinks::SinkTable;
use std::net::SocketAddr;
use std::time::Duration;

/// `ravelin.toml`.
pub(super) struct ConfigFile {
    pub(super) public_url: Field<String>,
    pub(super) inventory: Field<Vec<Written<String>>>,
    pub(super) policies: Field<Vec<Written<String>>>,
    pub(super) node: NodeTable,
    pub(super) listen: ListenTable,
    pub(super) metrics: MetricsTable,
    pub(super) tls: TlsTable,
    pub(super) ssh: SshTable,
    pub(super) limits: LimitsTable,
    pub(super) drain_period: Field<Duration>,
    pub(super) history_keep: Field<Duration>,
    pub(super) aws: AwsTable,
    pub(super) azure: AzureTable,
    pub(super) addresses: AddressesTable,
    pub(super) recordings: RecordingsTable,
    pub(super) sinks: Vec<SinkTable>,
    pub(super) declared: InventoryFile,
}

pub(super) struct RecordingsTable {
    pub(super) mode: Field<String>,
    pub(super) input: Field<bool>,
    pub(super) on_failure: Field<String>,
    pub(super) announce: Field<bool>,
    pub(super) folder: Field<String>,
    pub(super) key_file: Field<String>,
    pub(super) keep: Field<Duration>,
    pub(super) screen_text: Field<bool>,
    pub(super) classes: Vec<ClassTable>,
    pub(super) store: StoreTable,
}

pub(super) struct ClassTable {
    pub(super) name: Field<String>,
    pub(super) keep: Field<Duration>,
}

/// What is recorded of one target's sessions, where it differs from the rest.
pub(super) struct RecordTable {
    pub(super) mode: Field<String>,
    pub(super) input: Field<bool>,
    pub(super) on_failure: Field<String>,
    pub(super) announce: Field<bool>,
    pub(super) class: Field<String>,
}

pub(super) struct NodeTable {
    pub(super) state_dir: Field<String>,
}

pub(super) struct ListenTable {
    pub(super) here: Written<()>,
    pub(super) ssh: Field<SocketAddr>,
    pub(super) https: Field<SocketAddr>,
    pub(super) http: Field<SocketAddr>,
    pub(super) allow_plain_http: Field<bool>,
}

pub(super) struct MetricsTable {
    pub(super) listen: Field<SocketAddr>,
    pub(super) allow_remote: Field<bool>,
}

pub(super) struct TlsTable {
    pub(super) cert: Field<String>,
    pub(super) key: Field<String>,
    pub(super) names: Field<Vec<Written<String>>>,
}

pub(super) struct SshTable {
    pub(super) host_key: Field<String>,
    pub(super) banner: Field<String>,
    pub(super) login_grace: Field<Duration>,
    pub(super) login_bytes: Field<u64>,
    pub(super) logins_pending: Field<u64>,
    pub(super) logins_pending_per_address: Field<u64>,
    pub(super) channels: Field<u64>,
    pub(super) keepalive: Field<Duration>,
    pub(super) chacha20: Field<bool>,
}

pub(super) struct LimitsTable {
    pub(super) idle: Field<Option<Duration>>,
    pub(super) duration: Field<Option<Duration>>,
    pub(super) disconnected: Field<Duration>,
    pub(super) sessions: Field<u64>,
    pub(super) sessions_per_principal: Field<u64>,
}

pub(super) struct AwsTable {
    pub(super) account: Field<String>,
    pub(super) regions: Field<Vec<Written<String>>>,
    pub(super) reason_required: Field<bool>,
    pub(super) log_buckets: Vec<LogBucketTable>,
    pub(super) log_groups: Vec<LogGroupTable>,
}

pub(super) struct AzureTable {
    pub(super) tenant: Field<String>,
    pub(super) subscription: Field<String>,
    pub(super) resource_group: Field<String>,
    pub(super) bastion_name: Field<String>,
    pub(super) location: Field<String>,
    pub(super) issuers: Vec<IssuerTable>,
}

pub(super) struct IssuerTable {
    pub(super) issuer: Field<String>,
    pub(super) audiences: Field<Vec<Written<String>>>,
    pub(super) jwks_url: Field<String>,
    pub(super) claim: Field<String>,
    pub(super) principals: Field<Vec<(String, Written<String>)>>,
}

pub(super) struct AddressesTable {
    pub(super) networks: Field<Vec<Written<String>>>,
    pub(super) ports: Field<Vec<u64>>,
    pub(super) shared_with: Field<Vec<Written<String>>>,
}

/// An inventory file, or the part of `ravelin.toml` that is one.
#[derive(Default)]
pub(super) struct InventoryFile {
    pub(super) principals: Vec<PrincipalTable>,
    pub(super) targets: Vec<TargetTable>,
}

pub(super) struct PrincipalTable {
    pub(super) name: Field<String>,
    pub(super) groups: Field<Vec<Written<String>>>,
    pub(super) ssh_keys: Field<Vec<Written<String>>>,
    pub(super) ssh_keys_file: Field<String>,
}

pub(super) struct TargetTable {
    pub(super) here: Written<()>,
    pub(super) name: Field<String>,
    pub(super) address: Field<String>,
    pub(super) port: Field<u64>,
    pub(super) protocol: Field<String>,
    pub(super) logins: Vec<LoginTable>,
    pub(super) host_keys: Field<Vec<Written<String>>>,
    pub(super) labels: Field<Vec<(String, Written<String>)>>,
    pub(super) shared_with: Field<Vec<Written<String>>>,
    pub(super) aws_id: Field<String>,
    pub(super) azure_id: Field<String>,
    pub(super) record: RecordTable,
}

pub(super) struct LoginTable {
    pub(super) here: Written<()>,
    pub(super) name: Field<String>,
    pub(super) key_file: Field<String>,
    pub(super) password_file: Field<String>,
    pub(super) agent: Field<bool>,
}

impl ConfigFile {
    pub(super) fn read(file: &mut Section<'_>) -> Self {
        Self {
            public_url: file.text("public_url"),
            inventory: file.texts("inventory"),
            policies: file.texts("policies"),
            node: file.section("node", |node| {
                let state_dir = node.text("state_dir");
                NodeTable { state_dir }
            }),
            listen: file.section("listen", |listen| ListenTable {
                here: listen.here(),
                ssh: listen.address("ssh", "0.0.0.0:2222"),
                https: listen.address("https", "0.0.0.0:8443"),
                http: listen.address("http", "127.0.0.1:8080"),
                allow_plain_http: listen.flag("allow_plain_http"),
            }),
            metrics: file.section("metrics", |metrics| MetricsTable {
                listen: metrics.address("listen", "127.0.0.1:9464"),
                allow_remote: metrics.flag("allow_remote"),
            }),
            tls: file.section("tls", |tls| TlsTable {
                cert: tls.text("cert"),
                key: tls.text("key"),
                names: tls.texts("names"),
            }),
            ssh: file.section("ssh", |ssh| SshTable {
                host_key: ssh.text("host_key"),
                banner: ssh.text("banner"),
                login_grace: ssh.duration("login_grace"),
                login_bytes: ssh.size("login_bytes"),
                logins_pending: ssh.number("logins_pending", 1, 100_000),
                logins_pending_per_address: ssh.number("logins_pending_per_address", 1, 100_000),
                channels: ssh.number("channels", 1, 10_000),
                keepalive: ssh.duration("keepalive"),
                chacha20: ssh.flag("chacha20"),
            }),
            limits: file.section("limits", |limits| LimitsTable {
                idle: limits.duration_or_never("idle"),
                duration: limits.duration_or_never("duration"),
                disconnected: limits.duration("disconnected"),
                sessions: limits.number("sessions", 1, 1_000_000),
                sessions_per_principal: limits.number("sessions_per_principal", 1, 1_000_000),
            }),
            drain_period: file.section("drain", |drain| drain.duration("period")),
            history_keep: file.section("history", |history| history.duration("keep")),
            aws: file.section("aws", |aws| AwsTable {
                account: aws.text("account"),
                regions: aws.texts("regions"),
                reason_required: aws.flag("reason_required"),
                log_buckets: aws.sections("log_buckets", LogBucketTable::read),
                log_groups: aws.sections("log_groups", LogGroupTable::read),
            }),
            azure: file.section("azure", |azure| AzureTable {
                tenant: azure.text("tenant"),
                subscription: azure.text("subscription"),
                resource_group: azure.text("resource_group"),
                bastion_name: azure.text("bastion_name"),
                location: azure.text("location"),
                issuers: azure.sections("issuer", IssuerTable::read),
            }),
            addresses: file.section("addresses", |addresses| AddressesTable {
                networks: addresses.texts("networks"),
                ports: addresses.numbers("ports", 1, 65_535),
                shared_with: addresses.texts("shared_with"),
            }),
            recordings: file.section("recordings", |recordings| RecordingsTable {
                mode: recordings.text("mode"),
                input: recordings.flag("input"),
                on_failure: recordings.text("on_failure"),
                announce: recordings.flag("announce"),
                folder: recordings.text("folder"),
                key_file: recordings.text("key_file"),
                keep: recordings.duration("keep"),
                screen_text: recordings.flag("screen_text"),
                classes: recordings.sections("classes", |class| {
                    let (name, keep) = (class.text("name"), class.duration("keep"));
                    ClassTable {
                        name: class.require("name", name, "write name = \"long\""),
                        keep: class.require("keep", keep, "write keep = \"400 d\""),
                    }
                }),
                store: recordings.section("store", StoreTable::read),
            }),
            sinks: file.sections("sink", SinkTable::read),
            declared: InventoryFile::read(file),
        }
    }
}

impl InventoryFile {
    pub(super) fn read(file: &mut Section<'_>) -> Self {
        Self {
            principals: file.sections("principal", PrincipalTable::read),
            targets: file.sections("target", TargetTable::read),
        }
    }
}

impl IssuerTable {
    fn read(table: &mut Section<'_>) -> Self {
        let (issuer, audiences) = (table.text("issuer"), table.texts("audiences"));
        Self {
            issuer: table.require("issuer", issuer, "write the issuer's URL, exactly as its tokens have it in iss"),
            audiences: table.require("audiences", audiences, "write what its tokens must have in aud"),
            jwks_url: table.text("jwks_url"),
            claim: table.text("claim"),
            principals: table.text_map("principals"),
        }
    }
}

impl PrincipalTable {
    fn read(table: &mut Section<'_>) -> Self {
        let name = table.text("name");
        Self {
            name: table.require("name", name, "write name = \"alice\""),
            groups: table.texts("groups"),
            ssh_keys: table.texts("ssh_keys"),
            ssh_keys_file: table.text("ssh_keys_file"),
        }
    }
}

impl TargetTable {
    fn read(table: &mut Section<'_>) -> Self {
        let name = table.text("name");
        let address = table.text("address");
        Self {
            here: table.here(),
            name: table.require("name", name, "write name = \"web-1\""),
            address: table.require("address", address, "write the host name or address that Ravelin dials"),
            port: table.number("port", 1, 65_535),
            protocol: table.text("protocol"),
            logins: table.sections("logins", LoginTable::read),
            host_keys: table.texts("host_keys"),
            labels: table.text_map("labels"),
            shared_with: table.texts("shared_with"),
            aws_id: table.text("aws_id"),
            azure_id: table.text("azure_id"),
            record: table.section("record", |record| RecordTable {
                mode: record.text("mode"),
                input: record.flag("input"),
                on_failure: record.text("on_failure"),
                announce: record.flag("announce"),
                class: record.text("class"),
            }),
        }
    }
}

impl LoginTable {
    fn read(table: &mut Section<'_>) -> Self {
        let name = table.text("name");
        Self {
            here: table.here(),
            name: table.require("name", name, "write the user name on the target, such as name = \"root\""),
            key_file: table.text("key_file"),
            password_file: table.text("password_file"),
            agent: table.flag("agent"),
        }
    }
}
