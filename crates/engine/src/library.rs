//! Documents that steer sessions, and settings of the deployment: who may see them, who may change them.
//!
//! What a document says is the business of the dialect that it came through.

use crate::denials::Denials;
use crate::directory::Directory;
use crate::identity::Caller;
use ravelin_model::document::{Document, DocumentChange, DocumentHead, Setting};
use ravelin_model::policy::{Action, Question, Resource};
use ravelin_model::ports;
use ravelin_model::session::Actor;
use ravelin_model::{DocumentName, Refusal};
use std::sync::Arc;

/// Documents and settings, behind the policy. Cheap to clone.
#[derive(Clone)]
pub struct Library {
    kept: Arc<dyn ports::Library>,
    directory: Arc<Directory>,
    denials: Arc<Denials>,
}

impl Library {
    pub(crate) fn new(kept: Arc<dyn ports::Library>, directory: Arc<Directory>, denials: Arc<Denials>) -> Self {
        Self { kept, directory, denials }
    }

    /// Whether the caller may do this to documents or settings as a whole.
    ///
    /// # Errors
    /// [`Refusal::Denied`], and the denial is put on record.
    pub async fn permit(&self, caller: &Caller, action: Action) -> Result<(), Refusal> {
        let rules = self.directory.rules();
        let client = caller.contact().address.ip();
        let permitted = caller.as_of(&rules.inventory).is_some_and(|principal| {
            rules.permit(&Question { principal, action, resource: Resource::Bastion, client })
        });
        if permitted { Ok(()) } else { Err(self.denials.deny(caller, action, None, None).await) }
    }

    /// All documents by name.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn documents(&self, caller: &Caller) -> Result<Vec<DocumentHead>, Refusal> {
        self.permit(caller, Action::ReadDocuments).await?;
        self.kept.documents().await
    }

    /// One document.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn document(&self, caller: &Caller, name: &DocumentName) -> Result<Option<Document>, Refusal> {
        self.permit(caller, Action::ReadDocuments).await?;
        self.kept.document(name).await
    }

    /// One document, for a session that it is to steer. Whoever may open the session need not be one who may read
    /// documents.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn steering(&self, name: &DocumentName) -> Result<Option<Document>, Refusal> {
        self.kept.document(name).await
    }

    /// Changes a document, see [`ports::Library::change_document`].
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn change_document(
        &self,
        caller: &Caller,
        name: &DocumentName,
        change: DocumentChange,
    ) -> Result<Document, Refusal> {
        self.permit(caller, Action::ManageDocuments).await?;
        self.kept.change_document(name, change, &Actor::Principal(caller.name().clone())).await
    }

    /// A setting, if somebody has set it.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn setting(&self, caller: &Caller, key: &str) -> Result<Option<Setting>, Refusal> {
        self.permit(caller, Action::ReadSettings).await?;
        self.kept.setting(key).await
    }

    /// A setting, for what it steers: whoever is steered need not be one who may read settings.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn in_force(&self, key: &str) -> Result<Option<Setting>, Refusal> {
        self.kept.setting(key).await
    }

    /// Sets a setting; `None` takes it back to its default.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn change_setting(
        &self,
        caller: &Caller,
        key: &str,
        value: Option<&str>,
    ) -> Result<Option<Setting>, Refusal> {
        self.permit(caller, Action::ManageSettings).await?;
        self.kept.change_setting(key, value, &Actor::Principal(caller.name().clone())).await
    }
}
