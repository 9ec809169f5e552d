//! The discovery documents, in the form of a tenant and in the form of `adfs`, and the public keys. Source: OpenID
//! Connect Discovery 1.0; what msal 1.39 reads of them: the two endpoints and the issuer.

use crate::config::Config;
use crate::proto::path::Authority;
use crate::wire::login as wire;

/// The document of an authority that clients reach under `origin`.
pub(crate) fn answer(config: &Config, authority: &Authority, origin: &str) -> wire::OpenIdConfiguration {
    let (issuer, oauth, keys) = match authority {
        Authority::Adfs => {
            (format!("{origin}/adfs"), format!("{origin}/adfs/oauth2"), format!("{origin}/adfs/discovery/keys"))
        }
        Authority::Tenant(_) => {
            let base = format!("{origin}/{}", config.tenant_id);
            (format!("{base}/v2.0"), format!("{base}/oauth2/v2.0"), format!("{base}/discovery/v2.0/keys"))
        }
    };
    wire::OpenIdConfiguration {
        issuer,
        authorization_endpoint: format!("{oauth}/authorize"),
        token_endpoint: format!("{oauth}/token"),
        jwks_uri: keys,
        token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
        grant_types_supported: ["client_credentials"],
        response_types_supported: ["token"],
        response_modes_supported: ["form_post"],
        subject_types_supported: ["public"],
        scopes_supported: ["https://management.azure.com/.default"],
        id_token_signing_alg_values_supported: ["ES256"],
    }
}
