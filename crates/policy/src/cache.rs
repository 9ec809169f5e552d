//! Answers already computed, kept within a bound.
//!
//! A session's question is kept by owner and target, not by id: a thousand sessions of ten owners on five targets are
//! fifty answers. Answers belong to one set of policies; a reload is a new value, so nothing is ever taken back.

use ravelin_model::policy::{Decision, Question, Resource, Scope};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

/// All that an answer can depend on, as bytes: equal keys are equal questions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// The key of a question; the client's address counts only where policies ask for it.
    pub(crate) fn of(question: &Question<'_>, asks_client: bool) -> Self {
        let mut key = Writer(Vec::with_capacity(256));
        key.text(question.action.word());
        key.text(question.principal.name.as_str());
        key.count(question.principal.groups.len());
        for group in &question.principal.groups {
            key.text(group.as_str());
        }
        match question.resource {
            Resource::Target(target) => {
                key.tag(1);
                key.text(target.name.as_str());
                key.text(target.protocol.word());
                key.labels(&target.labels);
                key.count(target.shared_with.len());
                for group in &target.shared_with {
                    key.text(group.as_str());
                }
            }
            Resource::Session { id: _, owner, target } => {
                key.tag(2);
                key.text(owner.as_str());
                key.text(target.name.as_str());
                key.labels(&target.labels);
            }
            Resource::Scope(Scope::Everyone) => key.tag(3),
            Resource::Scope(Scope::Own) => key.tag(4),
            Resource::Bastion => key.tag(5),
        }
        if asks_client {
            match question.client.to_canonical() {
                IpAddr::V4(v4) => key.bytes(&v4.octets()),
                IpAddr::V6(v6) => key.bytes(&v6.octets()),
            }
        }
        Self(key.0)
    }
}

/// INVARIANT: every part is preceded by its length or count, so that different questions give different bytes.
struct Writer(Vec<u8>);

impl Writer {
    fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&count.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        self.count(labels.len());
        for (key, value) in labels {
            self.text(key);
            self.text(value);
        }
    }
}

/// Kept answers in two generations. When the younger one is full it becomes the older, and the older is dropped; an
/// answer that is found among the older moves to the younger, so what is in use stays.
pub(crate) struct Answers {
    bytes_max: usize,
    generations: RwLock<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Decision>,
    young_bytes: usize,
    old: HashMap<Key, Decision>,
}

impl Default for Answers {
    fn default() -> Self {
        Self::with_bytes_max(Self::BYTES_MAX)
    }
}

impl Answers {
    /// Bound of each of the two generations, in bytes of keys and answers.
    pub(crate) const BYTES_MAX: usize = 4 << 20;

    fn with_bytes_max(bytes_max: usize) -> Self {
        Self { bytes_max, generations: RwLock::default() }
    }

    /// What `read` takes from the kept answer.
    pub(crate) fn find<T>(&self, key: &Key, read: impl Fn(&Decision) -> T) -> Option<T> {
        let found = {
            // A panic cannot leave the maps half written, so a poisoned lock is as good as any.
            let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(decision) = generations.young.get(key) {
                return Some(read(decision));
            }
            generations.old.get(key).cloned()
        };
        if let Some(decision) = &found {
            self.keep(key.clone(), decision);
        }
        found.as_ref().map(read)
    }

    /// Keeps an answer. One that is too large for the bound is not kept.
    pub(crate) fn keep(&self, mut key: Key, decision: &Decision) {
        key.0.shrink_to_fit();
        let bytes = weight(&key, decision);
        if bytes > self.bytes_max {
            return;
        }
        let dropped = {
            let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
            let dropped = if generations.young_bytes + bytes > self.bytes_max {
                generations.young_bytes = 0;
                let young = std::mem::take(&mut generations.young);
                std::mem::replace(&mut generations.old, young)
            } else {
                HashMap::new()
            };
            if generations.young.insert(key, decision.clone()).is_none() {
                generations.young_bytes += bytes;
            }
            dropped
        };
        // Thousands of answers are freed after the lock is.
        drop(dropped);
    }
}

/// Roughly what an entry takes on the heap.
fn weight(key: &Key, decision: &Decision) -> usize {
    let (Decision::Allow { policies } | Decision::Deny { policies }) = decision;
    let names: usize = policies.iter().map(|name| name.len() + size_of::<String>()).sum();
    key.0.len() + names + size_of::<(Key, Decision)>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::policy::Action;
    use ravelin_model::target::TargetSnapshot;
    use ravelin_model::{Principal, PrincipalName, SessionId, TargetId, TargetName};
    use std::collections::{BTreeSet, HashSet};

    fn key(n: u32) -> Key {
        Key(n.to_le_bytes().to_vec())
    }

    fn answer(n: u32) -> Decision {
        Decision::Deny { policies: vec![n.to_string()] }
    }

    #[test]
    fn what_is_in_use_stays_and_the_rest_goes() {
        let each = weight(&key(0), &answer(1000));
        let answers = Answers::with_bytes_max(10 * each);
        for n in 1000..2000 {
            answers.keep(key(n), &answer(n));
            // Asked for again and again.
            assert_eq!(answers.find(&key(1000), Decision::clone), Some(answer(1000)), "after {n}");
        }
        assert_eq!(answers.find(&key(1001), Decision::clone), None);
        assert_eq!(answers.find(&key(1999), Decision::clone), Some(answer(1999)));
        let generations = answers.generations.read().expect("no panic");
        assert!(generations.young.len() <= 10 && generations.old.len() <= 10);
        let held: usize = generations.young.iter().map(|(k, d)| weight(k, d)).sum();
        assert_eq!(held, generations.young_bytes);
    }

    #[test]
    fn a_session_counts_by_owner_and_target() {
        let person = |name: &str| Principal {
            name: PrincipalName::parse(name).expect("a valid name"),
            groups: BTreeSet::new(),
            ssh_keys: Vec::new(),
        };
        let target = |n: usize| TargetSnapshot {
            id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
            name: TargetName::parse(&format!("web-{n}")).expect("a valid name"),
            address: "192.0.2.1".to_owned(),
            port: 22,
            labels: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        let asker = person("alice");
        let keys = |asks_client: bool| -> HashSet<Key> {
            (0..1000_u16)
                .map(|n| {
                    let owner = person(&format!("owner-{}", n % 10)).name;
                    let target = target(usize::from(n / 10 % 5));
                    let id = SessionId::new(&owner, u64::from(n));
                    let resource = Resource::Session { id: &id, owner: &owner, target: &target };
                    let client = IpAddr::from([192, 0, 2, u8::from(n >= 500)]);
                    let action = Action::ReadSession;
                    Key::of(&Question { principal: &asker, action, resource, client }, asks_client)
                })
                .collect()
        };
        assert_eq!(keys(false).len(), 50);
        assert_eq!(keys(true).len(), 100, "from two addresses, where policies ask for them");
    }

    #[test]
    fn an_answer_above_the_bound_is_not_kept() {
        let answers = Answers::with_bytes_max(8);
        answers.keep(key(1), &answer(1));
        assert_eq!(answers.find(&key(1), Decision::clone), None);
    }
}
