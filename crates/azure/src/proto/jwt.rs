//! The outside of a bearer token: three parts of base64url, a header that names the one algorithm we sign with.
//!
//! Nothing here believes a token. It only turns away what cannot be one of ours before a key is touched; the key and
//! the claims are the issuer's business. Source: RFC 7515 section 3.1, RFC 8725 sections 3.1 and 3.2.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Longest token that is looked at, in bytes. Ours have less than 1,000.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Longest token of an outside issuer, in bytes: those may list a person's groups.
pub const OUTSIDE_BYTES_MAX: usize = 16 * 1024;

/// What makes a text no token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misshapen {
    /// Longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// Not three parts of base64url, the first of them a JSON header.
    NotAToken,
    /// Signed, or not signed, in a way that we never use.
    OtherAlgorithm,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Vec<String>,
}

/// What a token says of itself before anything is checked: good for choosing whose keys to check it with, and for nothing
/// else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The algorithm's name in the header.
    pub algorithm: String,
    /// The key id in the header.
    pub kid: Option<String>,
    /// The issuer in the claims.
    pub issuer: String,
}

/// What a token of an outside issuer says of itself.
///
/// # Errors
/// [`Misshapen`].
pub fn claimed(token: &str) -> Result<Claimed, Misshapen> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    if token.len() > OUTSIDE_BYTES_MAX {
        return Err(Misshapen::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Misshapen::NotAToken);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Misshapen::NotAToken);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Misshapen::NotAToken)?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| Misshapen::NotAToken)?;
    if !header.crit.is_empty() || decode(signature)?.is_empty() {
        return Err(Misshapen::OtherAlgorithm);
    }
    Ok(Claimed { algorithm: header.alg, kid: header.kid, issuer: claims.iss })
}

/// The key id in the header of a token that could be ours.
///
/// # Errors
/// [`Misshapen`].
pub fn inspect(token: &str) -> Result<Option<String>, Misshapen> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Misshapen::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Misshapen::NotAToken);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Misshapen::NotAToken);
    let header = decode(header)?;
    decode(claims)?;
    let signature = decode(signature)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| Misshapen::NotAToken)?;
    if header.alg != "ES256" || !header.crit.is_empty() {
        return Err(Misshapen::OtherAlgorithm);
    }
    if signature.len() != 64 {
        return Err(Misshapen::NotAToken);
    }
    Ok(header.kid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(header: &str, claims: &str, signature: &[u8]) -> String {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        [part(header.as_bytes()), part(claims.as_bytes()), part(signature)].join(".")
    }

    #[test]
    fn only_the_one_algorithm_passes() {
        let kid = inspect(&token(r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#, "{}", &[7; 64]));
        assert_eq!(kid, Ok(Some("k1".to_owned())));
        for alg in ["none", "None", "HS256", "RS256", "ES384", "es256", ""] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            assert_eq!(inspect(&token(&header, "{}", &[7; 64])), Err(Misshapen::OtherAlgorithm), "{alg}");
        }
        let critical = token(r#"{"alg":"ES256","crit":["b64"]}"#, "{}", &[7; 64]);
        assert_eq!(inspect(&critical), Err(Misshapen::OtherAlgorithm));
        assert_eq!(inspect(&token(r#"{"alg":"ES256"}"#, "{}", &[])), Err(Misshapen::NotAToken));
        for junk in ["", "..", "a.b", "a.b.c", "a.b.c.d", "Ä.Ä.Ä"] {
            assert_eq!(inspect(junk), Err(Misshapen::NotAToken), "{junk}");
        }
        assert_eq!(inspect(&"a".repeat(100_000)), Err(Misshapen::TooLong));
    }

    proptest! {
        #[test]
        fn never_panics(token in "[A-Za-z0-9_.=-]{0,120}") {
            let _kid = inspect(&token);
            let _claimed = claimed(&token);
        }
    }
}
