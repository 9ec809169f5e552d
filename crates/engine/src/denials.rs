//! A known caller asked for what they may not do: said to them, and on record as far as the record can bear.

use crate::identity::Caller;
use crate::quota::RecordQuota;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::policy::Action;
use ravelin_model::ports::Store;
use ravelin_model::session::Actor;
use ravelin_model::{PrincipalName, Refusal, SessionId};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Denials {
    store: Arc<dyn Store>,
    quota: RecordQuota<(PrincipalName, Action)>,
}

impl Denials {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, quota: RecordQuota::default() }
    }

    /// The refusal to give, after the denial was put on record. `on` names a target, where there is one.
    pub(crate) async fn deny(
        &self,
        caller: &Caller,
        action: Action,
        session: Option<&SessionId>,
        on: Option<&str>,
    ) -> Refusal {
        if let Some(passed_over) = self.quota.admit((caller.name().clone(), action)) {
            let mut facts = BTreeMap::from([
                ("action".to_owned(), action.word().to_owned()),
                ("client_address".to_owned(), caller.contact().address.to_string()),
                ("passed_over_before".to_owned(), passed_over.to_string()),
            ]);
            if let Some(target) = on {
                facts.insert("target".to_owned(), target.to_owned());
            }
            let actor = Actor::Principal(caller.name().clone());
            let deed = Deed { kind: AuditKind::AccessDenied, actor, session: session.cloned(), facts };
            if let Err(refusal) = self.store.record(deed).await {
                return refusal;
            }
        }
        let because = match on {
            Some(target) => format!("no policy permits it on {target}"),
            None => "no policy permits it".to_owned(),
        };
        Refusal::Denied { action, because }
    }
}
