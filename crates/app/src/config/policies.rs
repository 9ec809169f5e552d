//! The policies: the operator's Cedar files, or the built-in ones when none are named.

use super::document::{Field, Written};
use super::fault::{Fault, Place, Weight};
use super::{Reader, document};
use ravelin_model::inventory::Inventory;
use ravelin_policy::{CedarPolicy, MentionKind, PolicySource};
use std::collections::BTreeSet;

/// The policies in force, or `None` when something is wrong with them.
pub(super) fn load(
    named: &Field<Vec<Written<String>>>,
    inventory: &Option<Inventory>,
    reader: &mut Reader,
) -> Option<CedarPolicy> {
    let mut sources = Vec::new();
    let mut complete = !matches!(named, Field::Wrong);
    match named.given() {
        None => sources.push(PolicySource::built_in()),
        Some(list) => {
            if list.value.is_empty() {
                let fix = "name a file, or remove the key: the built-in policies hold then";
                reader.faults.push(list.fault("without any policy everything is denied", fix));
            }
            for name in &list.value {
                match reader.text_of(&name.path(), Some(name)) {
                    Some(text) => sources.push(PolicySource { name: name.path().display().to_string(), text }),
                    None => complete = false,
                }
            }
        }
    }
    match CedarPolicy::load(&sources) {
        Ok(policy) => {
            if let (Some(inventory), Some(_)) = (inventory, named.given()) {
                point_out_unknown(&policy, inventory, named, reader);
            }
            complete.then_some(policy)
        }
        Err(faults) => {
            for fault in faults {
                reader.faults.push(Fault {
                    weight: Weight::Error,
                    place: Place { file: fault.file.into(), line: fault.line },
                    key: String::new(),
                    value: None,
                    what: fault.what,
                    fix: fault.fix.unwrap_or_default(),
                });
            }
            None
        }
    }
}

/// Warns of groups, principals and targets that policies name and the inventory lacks: a `forbid` for a group that is
/// spelled wrong forbids nothing.
fn point_out_unknown(
    policy: &CedarPolicy,
    inventory: &Inventory,
    named: &Field<Vec<Written<String>>>,
    reader: &mut Reader,
) {
    let groups: BTreeSet<&str> = inventory
        .principals()
        .flat_map(|principal| &principal.groups)
        .chain(inventory.targets().iter().flat_map(|target| &target.shared_with))
        .map(|group| group.as_str())
        .collect();
    let principals: BTreeSet<&str> = inventory.principals().map(|principal| principal.name.as_str()).collect();
    let targets: BTreeSet<&str> = inventory.targets().iter().map(|target| target.name.as_str()).collect();
    let Some(list) = named.given() else { return };
    for mention in policy.mentions() {
        let (what, known) = match mention.kind {
            MentionKind::Group => ("group", &groups),
            MentionKind::Principal => ("principal", &principals),
            MentionKind::Target => ("target", &targets),
        };
        if known.contains(mention.name.as_str()) {
            continue;
        }
        let candidates: Vec<&str> = known.iter().copied().collect();
        let fix = match document::nearest(&mention.name, &candidates) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("declare the {what} or change the policy"),
        };
        let what =
            format!("the policy {} names the {what} {:?}, which the inventory lacks", mention.policy, mention.name);
        let mut fault = list.fault(what, fix);
        fault.weight = Weight::Warning;
        reader.faults.push(fault);
    }
}
