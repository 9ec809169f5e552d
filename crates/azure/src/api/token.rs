//! `POST …/oauth2/v2.0/token`: a client's id and secret for a bearer token. Source: RFC 6749 section 4.4;
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use crate::config::Config;
use crate::issuer::Issuer;
use crate::map;
use crate::proto::{is_guid, token_request};
use crate::refusal::LoginFault;
use crate::wire::login as wire;
use ravelin_engine::{Contact, Identity};
use ravelin_model::{CredentialId, PrincipalName, Refusal};

/// How far before its birth a token is good already, so that a clock that steps back refuses nobody; as the original.
const NOT_BEFORE_SECONDS: u64 = 300;

/// Azure's own two names for the control API. Both are accepted with and without a slash at the end.
const AUDIENCES: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];

/// The names under which this service is asked for: Azure's two, the configured ones, and `origins`, the names of this
/// very request.
pub(crate) fn audiences(config: &Config, origins: &[&str]) -> Vec<String> {
    let own = config.audiences.iter().map(String::as_str);
    let bare = AUDIENCES.into_iter().chain(own).chain(origins.iter().copied()).map(canonical);
    bare.flat_map(|audience| [format!("{audience}/"), audience]).collect()
}

/// The answer to a form.
pub(crate) async fn answer(
    identity: &Identity,
    issuer: &Issuer,
    config: &Config,
    contact: Contact,
    audiences: &[String],
    form: &[u8],
    authorization: Option<&str>,
) -> Result<wire::TokenResponse, LoginFault> {
    let request = token_request::parse(form, authorization).map_err(LoginFault::Form)?;
    let slash = if request.resource.ends_with('/') { "/" } else { "" };
    let audience = format!("{}{slash}", canonical(&request.resource));
    if !audiences.contains(&audience) {
        let resource = request.resource.chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(LoginFault::ResourceUnknown(resource));
    }
    let caller = match identity.client_secret(&request.client_id, &request.client_secret, contact).await {
        Ok(caller) => caller,
        // Nobody ever gets such an id, so this tells a stranger nothing, and a person who mistyped a lot.
        Err(Refusal::Unauthenticated { .. }) if !is_guid(&request.client_id) => {
            let id = request.client_id.chars().filter(|c| !c.is_control()).take(64).collect();
            return Err(LoginFault::ClientMalformed(id));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let credential = caller.credential().ok_or_else(|| Refusal::internal("a client secret without a credential"))?;
    let claims = claims(config, audience, credential, caller.name(), jsonwebtoken::get_current_timestamp());
    let expires_in = config.token_ttl.as_secs();
    tracing::info!(principal = %caller.name(), client = %credential, uti = claims.uti, "a bearer token was issued");
    Ok(wire::TokenResponse {
        token_type: "Bearer",
        expires_in,
        ext_expires_in: expires_in,
        access_token: issuer.sign(&claims)?,
    })
}

/// The issuer in tokens. Without a public URL it is a name that no request can bend.
pub(crate) fn issuer_name(config: &Config) -> String {
    match &config.public_url {
        Some(url) => format!("{url}/{}/v2.0", config.tenant_id),
        None => format!("urn:ravelin:{}", config.tenant_id),
    }
}

fn claims(
    config: &Config,
    audience: String,
    credential: &CredentialId,
    principal: &PrincipalName,
    now: u64,
) -> wire::Claims {
    let object = map::object_id(&config.tenant_id, principal);
    wire::Claims {
        aud: audience,
        iss: issuer_name(config),
        iat: now,
        nbf: now.saturating_sub(NOT_BEFORE_SECONDS),
        exp: now + config.token_ttl.as_secs(),
        appid: credential.to_string(),
        appidacr: "1".to_owned(),
        idtyp: "app".to_owned(),
        oid: object.clone(),
        sub: object,
        tid: config.tenant_id.clone(),
        uti: uuid::Uuid::new_v4().simple().to_string(),
        ver: "1.0".to_owned(),
    }
}

/// One spelling for each audience: lower case, no slash at the end, no port where it is the scheme's own.
fn canonical(audience: &str) -> String {
    let lower = audience.trim_end_matches('/').to_ascii_lowercase();
    let plain = match lower.strip_prefix("https://") {
        Some(_) => lower.strip_suffix(":443"),
        None => lower.strip_suffix(":80"),
    };
    plain.map_or_else(|| lower.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_come_with_and_without_a_slash() {
        let mut config = Config::new("t", "s", "g", "b");
        config.audiences.push("https://Extra.example:443/".to_owned());
        let all = audiences(&config, &["https://B.example:8443"]);
        for name in [
            "https://management.azure.com",
            "https://management.azure.com/",
            "https://management.core.windows.net/",
            "https://management.core.windows.net",
            "https://b.example:8443",
            "https://extra.example/",
        ] {
            assert!(all.iter().any(|audience| audience == name), "{name}");
        }
        assert!(!all.iter().any(|audience| audience.contains("graph")));
    }
}
