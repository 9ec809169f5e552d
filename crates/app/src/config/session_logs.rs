//! Where documents may have the output of sessions put: the buckets and log groups of `[aws]`.

use super::document::{Field, Section, Written};
use super::far::{self, StoreTable};
use super::sinks::{self, LogGroupKeys, Reach};
use super::{LogBucket, LogGroup, Reader};
use ravelin_recordings::Vendor;
use std::collections::BTreeSet;

/// One `[[aws.log_buckets]]`.
pub(super) struct LogBucketTable {
    store: StoreTable,
    encrypted: Field<bool>,
}

/// One `[[aws.log_groups]]`.
pub(super) struct LogGroupTable {
    here: Written<()>,
    group: Field<String>,
    region: Field<String>,
    access_key_id: Field<String>,
    secret_access_key_file: Field<String>,
    url: Field<String>,
    allow_plain_http: Field<bool>,
    ca: Field<String>,
    encrypted: Field<bool>,
}

impl LogBucketTable {
    pub(super) fn read(table: &mut Section<'_>) -> Self {
        Self { store: StoreTable::read_bucket(table), encrypted: table.flag("encrypted") }
    }
}

impl LogGroupTable {
    pub(super) fn read(table: &mut Section<'_>) -> Self {
        Self {
            here: table.here(),
            group: table.text("group"),
            region: table.text("region"),
            access_key_id: table.text("access_key_id"),
            secret_access_key_file: table.text("secret_access_key_file"),
            url: table.text("url"),
            allow_plain_http: table.flag("allow_plain_http"),
            ca: table.text("ca"),
            encrypted: table.flag("encrypted"),
        }
    }
}

/// Names that stand more than once are faults: what one says of a place must not depend on their order.
fn once<'a>(names: impl Iterator<Item = &'a Field<String>>, what: &str, reader: &mut Reader) {
    let mut seen = BTreeSet::new();
    for name in names.filter_map(Field::given) {
        if !seen.insert(name.value.as_str()) {
            reader.faults.push(name.fault(what, "name it once"));
        }
    }
}

/// The buckets, as far as nothing is wrong with them; faults have been reported.
pub(super) fn buckets(tables: &[LogBucketTable], reader: &mut Reader) -> Vec<LogBucket> {
    once(tables.iter().map(|table| table.store.bucket()), "is the name of two buckets", reader);
    let mut buckets = Vec::new();
    for table in tables {
        let Some(store) = far::settle_bucket(&table.store, reader) else { continue };
        let Vendor::S3 { bucket, region, .. } = &store.vendor else { continue };
        let (name, region) = (bucket.clone(), region.clone());
        buckets.push(LogBucket { name, region, encrypted: table.encrypted.value_or(false), store });
    }
    buckets
}

/// The log groups, as far as nothing is wrong with them; faults have been reported.
pub(super) fn groups(tables: &[LogGroupTable], reader: &mut Reader) -> Vec<LogGroup> {
    once(tables.iter().map(|table| &table.group), "is the name of two log groups", reader);
    let mut groups = Vec::new();
    for table in tables {
        let reach = Reach { here: &table.here, url: &table.url, allow_plain_http: &table.allow_plain_http };
        let keys = LogGroupKeys {
            reach,
            group: &table.group,
            region: &table.region,
            access_key_id: &table.access_key_id,
            secret_access_key_file: &table.secret_access_key_file,
            ca: &table.ca,
        };
        let Some(config) = sinks::log_group(&keys, reader) else { continue };
        if let Err(because) = ravelin_sinks::LogGroup::new(&config, "") {
            let mut fault = table.here.fault(format!("cannot be used: {because}"), "correct what it names");
            fault.value = None;
            reader.faults.push(fault);
        }
        groups.push(LogGroup { encrypted: table.encrypted.value_or(false), config });
    }
    groups
}
