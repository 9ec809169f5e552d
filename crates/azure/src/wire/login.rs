//! The token endpoint and what surrounds it. Source: RFC 6749 section 5, RFC 7517, OpenID Connect Discovery 1.0;
//! Microsoft identity platform, access token claims and error format
//! (<https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>,
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).

use serde::{Deserialize, Serialize};

/// An answer with a token. It cannot be printed: it holds one.
#[derive(Serialize)]
pub(crate) struct TokenResponse {
    pub(crate) token_type: &'static str,
    pub(crate) expires_in: u64,
    pub(crate) ext_expires_in: u64,
    pub(crate) access_token: String,
}

/// An answer without one.
#[derive(Debug, Serialize)]
pub(crate) struct TokenError {
    pub(crate) error: &'static str,
    pub(crate) error_description: String,
    pub(crate) error_codes: [u32; 1],
    pub(crate) timestamp: String,
    pub(crate) trace_id: String,
    pub(crate) correlation_id: String,
}

/// The claims of an access token, named as in a version 1.0 token of the original.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Claims {
    pub(crate) aud: String,
    pub(crate) iss: String,
    /// Seconds since the epoch, like the next two.
    pub(crate) iat: u64,
    pub(crate) nbf: u64,
    pub(crate) exp: u64,
    /// The client's id, which is the id of the credential that was shown.
    pub(crate) appid: String,
    /// `1`: the client showed a secret.
    pub(crate) appidacr: String,
    pub(crate) idtyp: String,
    pub(crate) oid: String,
    pub(crate) sub: String,
    pub(crate) tid: String,
    /// Unique to each token.
    pub(crate) uti: String,
    pub(crate) ver: String,
}

/// The discovery document.
#[derive(Debug, Serialize)]
pub(crate) struct OpenIdConfiguration {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    pub(crate) jwks_uri: String,
    pub(crate) token_endpoint_auth_methods_supported: [&'static str; 2],
    pub(crate) grant_types_supported: [&'static str; 1],
    pub(crate) response_types_supported: [&'static str; 1],
    pub(crate) response_modes_supported: [&'static str; 1],
    pub(crate) subject_types_supported: [&'static str; 1],
    pub(crate) scopes_supported: [&'static str; 1],
    pub(crate) id_token_signing_alg_values_supported: [&'static str; 1],
}

/// The public keys.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonWebKeySet {
    pub(crate) keys: Vec<JsonWebKey>,
}

/// One public key on the curve P-256.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonWebKey {
    pub(crate) kty: &'static str,
    #[serde(rename = "use")]
    pub(crate) usage: &'static str,
    pub(crate) alg: &'static str,
    pub(crate) crv: &'static str,
    pub(crate) kid: String,
    pub(crate) x: String,
    pub(crate) y: String,
}
