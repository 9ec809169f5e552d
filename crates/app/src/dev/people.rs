//! The people of `ravelin dev`, their keys and their credentials. All of it stays in the state directory, so that a
//! shell which read `dev.env` before a restart goes on working.

use super::GROUP;
use crate::serve::node::{Node, in_full};
use crate::state::{StateDir, write_whole};
use anyhow::Context;
use ravelin_engine::control;
use ravelin_engine::identity::TOKEN_PREFIX;
use ravelin_model::credential::CredentialKind;
use ravelin_model::session::Actor;
use ravelin_model::{CredentialId, GroupName, Principal, PrincipalName};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An operator, and somebody who is none, to see the difference.
const PEOPLE: [(&str, &[&str]); 2] = [("alice", &["operators", "auditors", GROUP, "forwarding"]), ("bob", &[GROUP])];

/// Where the credentials' secrets lie; the store has digests only.
const CREDENTIALS_FILE: &str = "credentials.json";

/// Somebody with an SSH key.
pub(super) struct Person {
    pub(super) principal: Principal,
    /// The private key's file.
    pub(super) key_path: PathBuf,
}

impl Person {
    /// Everybody, the operator first.
    pub(super) fn all(state: &StateDir) -> anyhow::Result<Vec<Person>> {
        PEOPLE.iter().map(|(name, groups)| Person::named(name, groups, state)).collect()
    }

    fn named(name: &str, groups: &[&str], state: &StateDir) -> anyhow::Result<Person> {
        let file = format!("{name}_ed25519");
        let public = ravelin_ssh::keys::public_line(&state.ssh_key(&file)?)?;
        let key_path = state.path(&file);
        // OpenSSH looks for it beside the private key.
        write_whole(&state.path(&format!("{file}.pub")), format!("{public} {name}\n").as_bytes(), 0o644)?;
        let principal = Principal {
            name: PrincipalName::parse(name)?,
            groups: groups.iter().map(|group| GroupName::parse(group)).collect::<Result<_, _>>()?,
            ssh_keys: vec![public],
        };
        Ok(Person { principal, key_path })
    }

    pub(super) fn ssh_keys(&self) -> &[String] {
        &self.principal.ssh_keys
    }
}

/// What one person needs to be known at every door.
pub(super) struct Credentials {
    pub(super) name: PrincipalName,
    pub(super) key_path: PathBuf,
    pub(super) token: SecretString,
    pub(super) aws_id: CredentialId,
    pub(super) aws_secret: SecretString,
    pub(super) azure_id: CredentialId,
    pub(super) azure_secret: SecretString,
}

/// As [`CREDENTIALS_FILE`] has them, by person. The secret of the signing key is derived and not kept.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
struct Kept(BTreeMap<String, KeptOne>);

#[derive(Clone, Default, Deserialize, Serialize)]
struct KeptOne {
    token: String,
    aws_id: String,
    azure_id: String,
    azure_secret: String,
}

/// The credentials of everybody: those of the last run where they still work, new ones where not.
pub(super) async fn credentials(people: &[Person], node: &Node, state: &StateDir) -> anyhow::Result<Vec<Credentials>> {
    let text = state.keep_secret(CREDENTIALS_FILE, || Ok("{}".to_owned()))?;
    // A damaged file costs nothing but new credentials.
    let mut kept: Kept = serde_json::from_str(&text).unwrap_or_default();
    let mut changed = false;
    let mut all = Vec::new();
    for person in people {
        let name = &person.principal.name;
        let mut one = kept.0.get(name.as_str()).cloned().unwrap_or_default();
        for kind in CredentialKind::ALL {
            let id = match kind {
                // Whoever wants one for some hours issues it.
                CredentialKind::TemporaryKey => continue,
                CredentialKind::Token => one.token.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split('_').next()),
                CredentialKind::SigningKey => Some(one.aws_id.as_str()),
                CredentialKind::ClientSecret => Some(one.azure_id.as_str()),
            };
            if works(id.unwrap_or_default(), kind, name, node).await? {
                continue;
            }
            let issued =
                control::issue(node.store.as_ref(), &node.master, name, kind, "ravelin dev", None, &Actor::System)
                    .await
                    .map_err(in_full)?;
            let (id, secret) = (issued.credential.id.to_string(), issued.secret.expose_secret().to_owned());
            match kind {
                CredentialKind::TemporaryKey => {}
                CredentialKind::Token => one.token = secret,
                CredentialKind::SigningKey => one.aws_id = id,
                CredentialKind::ClientSecret => (one.azure_id, one.azure_secret) = (id, secret),
            }
            changed = true;
        }
        all.push(Credentials {
            name: name.clone(),
            key_path: person.key_path.clone(),
            token: SecretString::from(one.token.as_str()),
            aws_secret: node.master.signing_secret(&one.aws_id),
            aws_id: CredentialId::parse(&one.aws_id)?,
            azure_id: CredentialId::parse(&one.azure_id)?,
            azure_secret: SecretString::from(one.azure_secret.as_str()),
        });
        kept.0.insert(name.to_string(), one);
    }
    if changed {
        let text = serde_json::to_string_pretty(&kept).context("cannot write down the credentials")?;
        write_whole(&state.path(CREDENTIALS_FILE), text.as_bytes(), 0o600)?;
    }
    Ok(all)
}

/// Whether the store knows a credential of this id and kind that still proves this person.
async fn works(id: &str, kind: CredentialKind, name: &PrincipalName, node: &Node) -> anyhow::Result<bool> {
    let Ok(id) = CredentialId::parse(id) else { return Ok(false) };
    let known = node.store.credential(&id).await.map_err(in_full)?;
    let now = node.store.now().await.map_err(in_full)?;
    Ok(known.is_some_and(|known| known.kind == kind && known.principal == *name && known.is_valid(now)))
}
