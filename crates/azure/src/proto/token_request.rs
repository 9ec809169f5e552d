//! A request to the token endpoint: a form, and perhaps an `Authorization: Basic` header.
//!
//! Source: RFC 6749 sections 2.3.1 and 4.4.2; Microsoft identity platform, client credentials flow
//! (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>); the forms of msal 1.39,
//! @azure/identity 4.13 and azure-cli 2.91.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use secrecy::SecretString;
use std::borrow::Cow;

/// Largest form, in bytes.
pub const FORM_BYTES_MAX: usize = 64 * 1024;

/// A complete request for a token.
#[derive(Debug)]
pub struct TokenRequest {
    /// Whose credential.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// What the token is for: a scope without its `/.default`, or the older form's `resource`. May end in a slash.
    pub resource: String,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormFault {
    /// A needed field is not there.
    Missing(&'static str),
    /// A field is there twice, or once in the form and once in the header.
    Repeated(&'static str),
    /// Another grant than `client_credentials`.
    OtherGrant(String),
    /// No secret, be it in the form or in the header.
    NoSecret,
    /// Not exactly one resource with `/.default`.
    Scope(String),
    /// The header is not `Basic` with an id and a secret.
    Header,
}

#[derive(Default)]
struct Fields<'a> {
    grant_type: Option<Cow<'a, str>>,
    client_id: Option<Cow<'a, str>>,
    client_secret: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    resource: Option<Cow<'a, str>>,
}

/// Reads a form and the value of the `Authorization` header. Fields that are not listed above are passed over.
///
/// # Errors
/// [`FormFault`]; none of its texts holds a secret.
pub fn parse(form: &[u8], authorization: Option<&str>) -> Result<TokenRequest, FormFault> {
    let mut fields = Fields::default();
    for (name, value) in form_urlencoded::parse(form) {
        let (name, slot) = match name.as_ref() {
            "grant_type" => ("grant_type", &mut fields.grant_type),
            "client_id" => ("client_id", &mut fields.client_id),
            "client_secret" => ("client_secret", &mut fields.client_secret),
            "scope" => ("scope", &mut fields.scope),
            "resource" => ("resource", &mut fields.resource),
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(FormFault::Repeated(name));
        }
    }
    let grant = fields.grant_type.filter(|text| !text.is_empty()).ok_or(FormFault::Missing("grant_type"))?;
    if grant != "client_credentials" {
        return Err(FormFault::OtherGrant(grant.chars().take(64).collect()));
    }
    let (client_id, secret) = match authorization {
        None => (
            fields.client_id.filter(|text| !text.is_empty()).ok_or(FormFault::Missing("client_id"))?.into_owned(),
            fields.client_secret.filter(|text| !text.is_empty()).ok_or(FormFault::NoSecret)?.into_owned(),
        ),
        Some(header) => {
            let (id, secret) = basic(header).ok_or(FormFault::Header)?;
            if fields.client_secret.is_some() {
                return Err(FormFault::Repeated("client_secret"));
            }
            if fields.client_id.is_some_and(|other| other != id) {
                return Err(FormFault::Repeated("client_id"));
            }
            (id, secret)
        }
    };
    let resource = match (&fields.scope, &fields.resource) {
        (Some(scope), _) => resource_of(scope)?,
        (None, Some(resource)) if !resource.is_empty() => resource.clone().into_owned(),
        (None, _) => return Err(FormFault::Missing("scope")),
    };
    Ok(TokenRequest { client_id, client_secret: SecretString::from(secret), resource })
}

/// The resource in `{resource}/.default`. An audience that ends in a slash gives `…//.default` and keeps its slash.
fn resource_of(scope: &str) -> Result<String, FormFault> {
    let fault = || FormFault::Scope(scope.chars().take(200).collect());
    let mut resources =
        scope.split_ascii_whitespace().filter(|word| !matches!(*word, "openid" | "profile" | "offline_access"));
    let (Some(one), None) = (resources.next(), resources.next()) else { return Err(fault()) };
    match one.strip_suffix("/.default") {
        Some(resource) if !resource.is_empty() => Ok(resource.to_owned()),
        Some(_) | None => Err(fault()),
    }
}

/// The id and the secret of `Basic base64(form-encoded id ":" form-encoded secret)`.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(value.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let decode = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_decode(&spaced).decode_utf8().ok().map(|text| text.into_owned())
    };
    let (id, secret) = (decode(&pair[..colon])?, decode(&pair[colon + 1..])?);
    (!id.is_empty() && !secret.is_empty()).then_some((id, secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    const FORM: &str = "client_id=c1&client_secret=s%2B1&grant_type=client_credentials&client_info=1";

    fn resource(scope: &str) -> Result<String, FormFault> {
        let scope: String = form_urlencoded::byte_serialize(scope.as_bytes()).collect();
        parse(format!("{FORM}&scope={scope}").as_bytes(), None).map(|request| request.resource)
    }

    #[test]
    fn the_scopes_of_real_clients() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(resource("https://management.azure.com/.default"), ok("https://management.azure.com"));
        assert_eq!(
            resource("https://management.core.windows.net//.default"),
            ok("https://management.core.windows.net/")
        );
        assert_eq!(resource("https://b.example:8443/.default openid profile"), ok("https://b.example:8443"));
        for bad in ["https://a/.default https://b/.default", "https://a/user_impersonation", "/.default", "openid", ""]
        {
            assert!(matches!(resource(bad), Err(FormFault::Scope(_))), "{bad}");
        }
        let older = parse(format!("{FORM}&resource=https://management.azure.com/").as_bytes(), None);
        assert_eq!(older.expect("the older form").resource, "https://management.azure.com/");
    }

    #[test]
    fn the_secret_comes_from_the_form_or_from_the_header_but_not_from_both() {
        let scope = "scope=https%3A%2F%2Fa%2F.default";
        let from_form = parse(format!("{FORM}&{scope}").as_bytes(), None).expect("a whole form");
        assert_eq!((from_form.client_id.as_str(), from_form.client_secret.expose_secret()), ("c1", "s+1"));
        assert!(!format!("{from_form:?}").contains("s+1"), "a secret cannot be printed");

        let grant = format!("grant_type=client_credentials&{scope}");
        let header = format!("Basic {}", STANDARD.encode("c1:s%2B1"));
        let from_header = parse(grant.as_bytes(), Some(&header)).expect("a header");
        assert_eq!((from_header.client_id.as_str(), from_header.client_secret.expose_secret()), ("c1", "s+1"));

        let fault = |form: &str, header: Option<&str>| parse(form.as_bytes(), header).expect_err(form);
        assert_eq!(fault(&format!("{FORM}&{scope}"), Some(&header)), FormFault::Repeated("client_secret"));
        assert_eq!(fault(&format!("{grant}&client_id=c2"), Some(&header)), FormFault::Repeated("client_id"));
        assert_eq!(fault(&grant, Some("Basic ###")), FormFault::Header);
        assert_eq!(fault(&grant, Some("Bearer x")), FormFault::Header);
        assert_eq!(fault(&grant, None), FormFault::Missing("client_id"));
        assert_eq!(fault(&format!("{grant}&client_id=c1"), None), FormFault::NoSecret);
        assert_eq!(fault("", None), FormFault::Missing("grant_type"));
        assert_eq!(fault("grant_type=password", None), FormFault::OtherGrant("password".to_owned()));
        assert_eq!(fault(&format!("{FORM}&client_id=c1&{scope}"), None), FormFault::Repeated("client_id"));
        assert_eq!(fault(FORM, None), FormFault::Missing("scope"));
    }

    proptest! {
        #[test]
        fn never_panics(form in prop::collection::vec(any::<u8>(), 0..200), header in prop::option::of("\\PC{0,60}")) {
            let _request = parse(&form, header.as_deref());
        }
    }
}
