//! What edges keep through the engine: links to targets, what the bastion says of itself, answers that are fetched later.
//!
//! A link opens nothing: whoever follows it has to log in as anybody else. It is listed, it expires, and giving it out and
//! taking it back is on record.

use crate::Control;
use crate::identity::Caller;
use crate::keys::random_secret;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::policy::Action;
use ravelin_model::session::Actor;
use ravelin_model::{Keepsake, PrincipalName, Refusal, Target, Time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A link to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What names it; hard to guess, and no proof of anything.
    pub token: String,
    /// The target's name.
    pub target: String,
    /// Who gave it out.
    pub by: PrincipalName,
    /// When.
    pub created: Time,
    /// Until when it shows anything.
    pub expires: Option<Time>,
}

const LINKS: &str = "links";
const BASTION: &str = "bastion";
const ANSWERS: &str = "answers";

/// Links to all targets at once.
const LINKS_MAX: usize = 500;

impl Control {
    /// Gives out a link to a target, or says again the one that there is.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NotFound`] for a target that the caller may not see, [`Refusal::LimitReached`]; what
    /// the store refuses.
    pub async fn share(&self, caller: &Caller, any_name: &str, life: Duration) -> Result<Link, Refusal> {
        self.write_bastion(caller).await?;
        let target = self.target(caller, any_name)?;
        let all = self.store().all_kept(LINKS).await?;
        if let Some(link) = all.iter().find(|link| link.text == target.name.as_str()) {
            return Ok(link_of(link.clone()));
        }
        if all.len() >= LINKS_MAX {
            return Err(Refusal::LimitReached { limit: format!("{LINKS_MAX} links"), retry_after: None });
        }
        let thing = Keepsake {
            shelf: LINKS,
            key: random_secret(),
            owner: caller.name().clone(),
            text: target.name.to_string(),
            created: Time::EPOCH,
            expires: Some(self.now().await?.plus(life)),
        };
        let deed = link_deed(AuditKind::LinkCreated, caller, &target);
        self.store().keep(thing, Some(deed)).await.map(link_of)
    }

    /// The links to targets that the caller may see, oldest first.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn links(&self, caller: &Caller) -> Result<Vec<(Link, Arc<Target>)>, Refusal> {
        self.read_bastion(caller).await?;
        let all = self.store().all_kept(LINKS).await?.into_iter().map(link_of);
        Ok(all.filter_map(|link| self.target(caller, &link.target).ok().map(|target| (link, target))).collect())
    }

    /// Takes a link back. Whether there was one, to a target that the caller may see.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn unshare(&self, caller: &Caller, token: &str) -> Result<bool, Refusal> {
        self.write_bastion(caller).await?;
        let Some(kept) = self.store().kept(LINKS, token).await? else { return Ok(false) };
        let Ok(target) = self.target(caller, &kept.text) else { return Ok(false) };
        let deed = link_deed(AuditKind::LinkDeleted, caller, &target);
        self.store().forget(LINKS, token, Some(deed)).await
    }

    /// The target that a link leads to, for whoever follows it: its name and nothing else.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is no such link, or no longer, or no such target; what the store refuses.
    pub async fn follow_link(&self, token: &str) -> Result<String, Refusal> {
        let gone = || Refusal::not_found("link", "…");
        let kept = self.store().kept(LINKS, token).await?.ok_or_else(gone)?;
        if self.knows_target(&kept.text) { Ok(kept.text) } else { Err(gone()) }
    }

    /// What was noted of the bastion by [`Control::describe_as`].
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn description(&self, caller: &Caller) -> Result<Option<String>, Refusal> {
        self.read_bastion(caller).await?;
        Ok(self.store().kept(BASTION, "description").await?.map(|kept| kept.text))
    }

    /// Notes something of the bastion itself, in the place of what was noted before.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn describe_as(&self, caller: &Caller, text: String) -> Result<(), Refusal> {
        self.write_bastion(caller).await?;
        let facts = BTreeMap::from([("description".to_owned(), ravelin_model::text::printable(&text, 1000))]);
        let actor = Actor::Principal(caller.name().clone());
        let deed = Deed { kind: AuditKind::BastionChanged, actor, session: None, facts };
        let key = "description".to_owned();
        let (owner, created) = (caller.name().clone(), Time::EPOCH);
        let thing = Keepsake { shelf: BASTION, key, owner, text, created, expires: None };
        self.store().keep(thing, Some(deed)).await.map(|_| ())
    }

    /// Keeps an answer that the caller comes for later.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn keep_answer(&self, caller: &Caller, key: &str, text: String, life: Duration) -> Result<(), Refusal> {
        let expires = Some(self.now().await?.plus(life));
        let (key, owner, created) = (key.to_owned(), caller.name().clone(), Time::EPOCH);
        let thing = Keepsake { shelf: ANSWERS, key, owner, text, created, expires };
        self.store().keep(thing, None).await.map(|_| ())
    }

    /// An answer that was kept for this very caller.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn answer(&self, caller: &Caller, key: &str) -> Result<Option<String>, Refusal> {
        let kept = self.store().kept(ANSWERS, key).await?;
        Ok(kept.filter(|kept| kept.owner == *caller.name()).map(|kept| kept.text))
    }
}

fn link_of(kept: Keepsake) -> Link {
    Link { token: kept.key, target: kept.text, by: kept.owner, created: kept.created, expires: kept.expires }
}

fn link_deed(kind: AuditKind, caller: &Caller, target: &Target) -> Deed {
    let facts = BTreeMap::from([
        ("principal".to_owned(), caller.name().to_string()),
        ("target".to_owned(), target.name.to_string()),
    ]);
    Deed { kind, actor: Actor::Principal(caller.name().clone()), session: None, facts }
}

/// What the methods above stand on, asked of the policy as everything.
impl Control {
    /// Whether the caller may change what the bastion says of itself.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub async fn write_bastion(&self, caller: &Caller) -> Result<(), Refusal> {
        self.on_bastion(caller, Action::WriteBastion).await
    }
}
