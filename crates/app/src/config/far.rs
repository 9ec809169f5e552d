//! The object store of recordings: from what is declared to what is used.

use super::document::{Field, Section, Written};
use super::{Reader, secret_file};
use ravelin_recordings::{AccessKey, Far, Secret, StoreConfig, Vendor};
use secrecy::SecretString;
use std::net::IpAddr;

/// By which containers and machines are told what role they have. None holds a secret.
const ROLE_VARIABLES: &[&str] = &[
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
];

/// `[recordings.store]`.
pub(super) struct StoreTable {
    here: Written<()>,
    kind: Field<String>,
    bucket: Field<String>,
    region: Field<String>,
    access_key_id: Field<String>,
    secret_access_key_file: Field<String>,
    account: Field<String>,
    container: Field<String>,
    key_file: Field<String>,
    prefix: Field<String>,
    url: Field<String>,
    allow_plain_http: Field<bool>,
    ca: Field<String>,
    is_log_bucket: bool,
}

impl StoreTable {
    pub(super) fn read(table: &mut Section<'_>) -> Self {
        let kind = table.text("type");
        Self {
            here: table.here(),
            kind: table.require("type", kind, "write type = \"s3\" or type = \"azure\""),
            bucket: table.text("bucket"),
            region: table.text("region"),
            access_key_id: table.text("access_key_id"),
            secret_access_key_file: table.text("secret_access_key_file"),
            account: table.text("account"),
            container: table.text("container"),
            key_file: table.text("key_file"),
            prefix: table.text("prefix"),
            url: table.text("url"),
            allow_plain_http: table.flag("allow_plain_http"),
            ca: table.text("ca"),
            is_log_bucket: false,
        }
    }

    /// One S3 bucket that is no store of recordings.
    pub(super) fn read_bucket(table: &mut Section<'_>) -> Self {
        Self {
            here: table.here(),
            kind: Field::Absent,
            bucket: table.text("bucket"),
            region: table.text("region"),
            access_key_id: table.text("access_key_id"),
            secret_access_key_file: table.text("secret_access_key_file"),
            account: Field::Absent,
            container: Field::Absent,
            key_file: Field::Absent,
            prefix: Field::Absent,
            url: table.text("url"),
            allow_plain_http: table.flag("allow_plain_http"),
            ca: table.text("ca"),
            is_log_bucket: true,
        }
    }

    /// The bucket's name, as it is written.
    pub(super) fn bucket(&self) -> &Field<String> {
        &self.bucket
    }

    /// The keys of one vendor only, with whether they are there.
    fn particular(&self) -> [(&'static str, bool, &'static str); 7] {
        fn there<T>(field: &Field<T>) -> bool {
            !matches!(field, Field::Absent)
        }
        [
            ("bucket", there(&self.bucket), "s3"),
            ("region", there(&self.region), "s3"),
            ("access_key_id", there(&self.access_key_id), "s3"),
            ("secret_access_key_file", there(&self.secret_access_key_file), "s3"),
            ("account", there(&self.account), "azure"),
            ("container", there(&self.container), "azure"),
            ("key_file", there(&self.key_file), "azure"),
        ]
    }

    /// A name without anything that would lead elsewhere in a URL.
    fn name(&self, key: &str, field: &Field<String>, fix: &str, reader: &mut Reader) -> Option<String> {
        let written = reader.needed(&self.here, key, field, fix)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._$".contains(c);
        if written.value.is_empty() || !written.value.chars().all(plain) {
            reader.faults.push(written.fault("is not a name", "use letters, digits, - . and _"));
            return None;
        }
        Some(written.value.clone())
    }

    /// The URL that was given, if one was; `None` after a fault.
    fn endpoint(&self, reader: &mut Reader) -> Option<Option<String>> {
        if let Field::Absent = self.url {
            return Some(None);
        }
        let written = self.url.given()?;
        let fix = "write it as \"https://objects.example.org\", or remove it for the vendor's own";
        let Ok(uri) = written.value.parse::<http::Uri>() else {
            reader.faults.push(written.fault("is not a URL", fix));
            return None;
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        match uri.scheme_str() {
            Some("https") => Some(Some(written.value.trim_end_matches('/').to_owned())),
            Some("http") if is_loopback || self.allow_plain_http.value_or(false) => {
                Some(Some(written.value.trim_end_matches('/').to_owned()))
            }
            Some("http") => {
                let fix = match self.is_log_bucket {
                    true => "use https, or set allow_plain_http = true; what sessions showed is sent as it is",
                    false => {
                        "use https, or set allow_plain_http = true; recordings are sealed, names of sessions are not"
                    }
                };
                reader.faults.push(written.fault("would be reached without encryption", fix));
                None
            }
            _ => {
                reader.faults.push(written.fault("is not an http or https URL", fix));
                None
            }
        }
    }
}

fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// The object store, if one is declared and nothing is wrong with it; faults have been reported.
pub(super) fn settle(table: &StoreTable, reader: &mut Reader) -> Option<StoreConfig> {
    let kind = table.kind.given()?;
    if !["s3", "azure"].contains(&kind.value.as_str()) {
        reader.faults.push(kind.fault("is not a type of object store", "the types are s3 and azure"));
        return None;
    }
    for (key, is_there, of) in table.particular() {
        if is_there && of != kind.value {
            let what = format!("a store of type {} has no {key}", kind.value);
            let mut fault = table.here.fault(what, format!("remove {key}; it is for the type {of}"));
            fault.value = None;
            reader.faults.push(fault);
        }
    }
    let vendor = if kind.value == "s3" { s3(table, reader) } else { azure(table, reader) };
    completed(table, vendor, reader)
}

/// An S3 bucket, if nothing is wrong with it; faults have been reported.
pub(super) fn settle_bucket(table: &StoreTable, reader: &mut Reader) -> Option<StoreConfig> {
    let vendor = s3(table, reader);
    completed(table, vendor, reader)
}

fn completed(table: &StoreTable, vendor: Option<Vendor>, reader: &mut Reader) -> Option<StoreConfig> {
    let endpoint = table.endpoint(reader);
    let ca = match table.ca.given() {
        None => None,
        Some(named) => Some(reader.text_of(&named.path(), Some(named))?),
    };
    let prefix = table.prefix.value_or(String::new()).trim_matches('/').to_owned();
    let role = ROLE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), from_environment(name)?))).collect();
    let config = StoreConfig { vendor: vendor?, endpoint: endpoint?, prefix, ca, role };
    if let Err(fault) = Far::new(&config) {
        let mut fault = table.here.fault(format!("cannot be used: {fault}"), "correct what it names");
        fault.value = None;
        reader.faults.push(fault);
        return None;
    }
    Some(config)
}

fn s3(table: &StoreTable, reader: &mut Reader) -> Option<Vendor> {
    let bucket = table.name("bucket", &table.bucket, "write the bucket's name", reader);
    let region = table.name("region", &table.region, "write the bucket's region", reader);
    let named = !matches!((&table.access_key_id, &table.secret_access_key_file), (Field::Absent, Field::Absent));
    let key = if named {
        let id = reader.needed(&table.here, "access_key_id", &table.access_key_id, "write the access key's id");
        let fix = "write secret_access_key_file = \"\u{2026}\", a file of mode 0600";
        let file = reader.needed(&table.here, "secret_access_key_file", &table.secret_access_key_file, fix);
        let secret = secret_file::read(file?, reader)?;
        Some(AccessKey { id: id?.value.clone(), secret: Secret(secret), token: None })
    } else {
        let secret = |name| from_environment(name).map(|value| Secret(SecretString::from(value)));
        from_environment("AWS_ACCESS_KEY_ID").zip(secret("AWS_SECRET_ACCESS_KEY")).map(|(id, of)| AccessKey {
            id,
            secret: of,
            token: secret("AWS_SESSION_TOKEN"),
        })
    };
    Some(Vendor::S3 { bucket: bucket?, region: region?, key })
}

fn azure(table: &StoreTable, reader: &mut Reader) -> Option<Vendor> {
    let account = table.name("account", &table.account, "write the storage account's name", reader);
    let container = table.name("container", &table.container, "write the container's name", reader);
    let key = match &table.key_file {
        Field::Absent => from_environment("AZURE_STORAGE_KEY").map(SecretString::from),
        named => Some(secret_file::read(named.given()?, reader)?),
    };
    Some(Vendor::Azure { account: account?, container: container?, key: key.map(Secret) })
}
