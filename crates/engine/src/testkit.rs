//! Stand-ins for tests of the engine and of the edges: a policy out of a closure, a leg without a socket, small rules.

use crate::directory::Rules;
use crate::leg::Leg;
use async_trait::async_trait;
use ravelin_model::inventory::Inventory;
use ravelin_model::policy::{Decision, Question};
use ravelin_model::ports::{Policy, PolicyDown};
use ravelin_model::target::{LoginProof, LoginWay, Protocol};
use ravelin_model::{GroupName, Login, Principal, PrincipalName, Target, TargetId, TargetName};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// A policy that a closure answers: `Some(true)` permits, `Some(false)` denies, `None` means the engine is down.
pub struct PolicyFn<F>(pub F);

impl<F: Fn(&Question<'_>) -> Option<bool> + Send + Sync + 'static> Policy for PolicyFn<F> {
    fn decide(&self, question: &Question<'_>) -> Result<Decision, PolicyDown> {
        match (self.0)(question) {
            Some(true) => Ok(Decision::Allow { policies: vec!["test".to_owned()] }),
            Some(false) => Ok(Decision::Deny { policies: Vec::new() }),
            None => Err(PolicyDown { detail: ravelin_model::Detail::new("switched off by the test") }),
        }
    }
}

/// A leg without a socket. It closes when it is cut, unless it was told to be stuck.
#[derive(Default)]
pub struct FakeLeg {
    said: Mutex<Vec<String>>,
    closed: CancellationToken,
    stuck: bool,
    deaf: bool,
}

impl FakeLeg {
    /// One that behaves.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One that stays open when it is cut, until [`FakeLeg::release`].
    #[must_use]
    pub fn stuck() -> Arc<Self> {
        Arc::new(Self { stuck: true, ..Self::default() })
    }

    /// One whose farewell lasts until it is cut.
    #[must_use]
    pub fn deaf() -> Arc<Self> {
        Arc::new(Self { deaf: true, ..Self::default() })
    }

    /// Lets a stuck leg close.
    pub fn release(&self) {
        self.closed.cancel();
    }

    /// Every line that was shown to the person.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}

#[async_trait]
impl Leg for FakeLeg {
    async fn tell(&self, text: &str) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    async fn farewell(&self, text: &str) {
        self.tell(text).await;
        if self.deaf {
            self.closed.cancelled().await;
        }
    }

    fn cut(&self) {
        if !self.stuck {
            self.closed.cancel();
        }
    }

    async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

/// A principal in these groups, without keys.
#[must_use]
pub fn principal(name: &str, groups: &[&str]) -> Principal {
    Principal {
        name: PrincipalName::parse(name).expect("a principal's name in a test"),
        groups: groups.iter().map(|g| GroupName::parse(g).expect("a group's name in a test")).collect(),
        ssh_keys: Vec::new(),
    }
}

/// An SSH target at `address:port`, shared with these groups, with the logins `root` and `deploy` by password.
#[must_use]
pub fn target(name: &str, address: &str, port: u16, shared_with: &[&str]) -> Target {
    let hex: String = name.bytes().map(|b| format!("{b:02x}")).chain(std::iter::repeat_n("0".to_owned(), 17)).collect();
    let way = |login: &str| LoginWay {
        login: Login::parse(login).expect("a login in a test"),
        proof: LoginProof::Password(SecretString::from("not a secret")),
    };
    Target {
        id: TargetId::from_hex(&hex[..17]).expect("17 hex digits"),
        name: TargetName::parse(name).expect("a target's name in a test"),
        address: address.to_owned(),
        port,
        protocol: Protocol::Ssh,
        logins: vec![way("root"), way("deploy")],
        host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
        labels: BTreeMap::default(),
        shared_with: shared_with
            .iter()
            .map(|g| GroupName::parse(g).expect("a group's name in a test"))
            .collect::<BTreeSet<_>>(),
        aliases: BTreeMap::from([("test".to_owned(), format!("alias-of-{name}"))]),
        recording: ravelin_model::recording::Rule::default(),
    }
}

/// Rules of these principals and targets under one policy.
#[must_use]
pub fn rules(principals: Vec<Principal>, targets: Vec<Target>, policy: Arc<dyn Policy>) -> Rules {
    let inventory = Inventory::new(principals, targets).expect("no duplicates in a test's inventory");
    Rules { inventory: Arc::new(inventory), policy, egress: Default::default() }
}
