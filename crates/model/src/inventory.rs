//! The inventory: every principal and target, checked as a whole, replaced as a whole.

use crate::id::PrincipalName;
use crate::principal::Principal;
use crate::target::Target;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Two entries that cannot both stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is declared twice")]
pub struct Duplicate {
    /// The noun: `principal`, `target`, `target id`, `ssh key`.
    pub what: &'static str,
    /// What stands twice.
    pub name: String,
}

/// All principals and targets of the deployment at one moment. Immutable.
#[derive(Debug, Default)]
pub struct Inventory {
    principals: BTreeMap<PrincipalName, Arc<Principal>>,
    targets: Vec<Arc<Target>>,
    targets_by_any_name: HashMap<String, usize>,
}

impl Inventory {
    /// Joins the parts.
    ///
    /// # Errors
    /// Every [`Duplicate`] there is: names, ids and aliases share one space, compared without regard to case, because
    /// any of them names a target in any dialect. One SSH key belongs to one principal.
    pub fn new(principals: Vec<Principal>, targets: Vec<Target>) -> Result<Self, Vec<Duplicate>> {
        let mut duplicates = Vec::new();
        let mut by_name = BTreeMap::new();
        let mut keys = HashMap::new();
        for principal in principals {
            for key in &principal.ssh_keys {
                if keys.insert(key.clone(), ()).is_some() {
                    duplicates.push(Duplicate { what: "ssh key", name: key.clone() });
                }
            }
            let name = principal.name.clone();
            if by_name.insert(name.clone(), Arc::new(principal)).is_some() {
                duplicates.push(Duplicate { what: "principal", name: name.to_string() });
            }
        }
        let mut by_any = HashMap::new();
        let mut all: Vec<Arc<Target>> = Vec::with_capacity(targets.len());
        for target in targets {
            let at = all.len();
            let names = [("target", target.name.as_str()), ("target id", target.id.as_str())];
            let aliases = target.aliases.values().map(|alias| ("target id", alias.as_str()));
            for (what, name) in names.into_iter().chain(aliases) {
                match by_any.insert(name.to_ascii_lowercase(), at) {
                    Some(other) if other != at => duplicates.push(Duplicate { what, name: name.to_owned() }),
                    Some(_) | None => {}
                }
            }
            all.push(Arc::new(target));
        }
        if duplicates.is_empty() {
            Ok(Self { principals: by_name, targets: all, targets_by_any_name: by_any })
        } else {
            Err(duplicates)
        }
    }

    /// The principal of that name.
    #[must_use]
    pub fn principal(&self, name: &PrincipalName) -> Option<&Arc<Principal>> {
        self.principals.get(name)
    }

    /// All principals by name.
    pub fn principals(&self) -> impl Iterator<Item = &Arc<Principal>> {
        self.principals.values()
    }

    /// The target that a name, an id or an alias names, without regard to case.
    #[must_use]
    pub fn target(&self, any_name: &str) -> Option<&Arc<Target>> {
        self.targets_by_any_name.get(&any_name.to_ascii_lowercase()).map(|at| &self.targets[*at])
    }

    /// All targets in the order of declaration.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }
}
