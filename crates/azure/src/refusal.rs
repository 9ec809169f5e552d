//! How this dialect says no. Three tables: one for Azure Resource Manager, one for the token endpoint, one for the
//! tunnels' data plane; each ends in one total match over [`Refusal`]. `docs/wire/azure-errors.md` shows both, and the test below pins it.
//!
//! Source: the error shapes and codes in the specification's `CloudError`, Azure Resource Manager's common errors
//! (<https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors>), RFC 6749
//! section 5.2 and Microsoft Entra's error codes.

use crate::config::Config;
use crate::issuer::TokenFault;
use crate::proto::api_version::{Family, VersionFault};
use crate::proto::body::{self, BodyFault, FieldFault};
use crate::proto::token_request::{self, FormFault};
use crate::proto::tunnel_request::{self, WishFault};
use crate::tickets::Tickets;
use http::StatusCode;
use ravelin_model::Refusal;
use std::time::Duration;

/// Why a request under `/subscriptions` gets no answer: what the edge itself found, or what the engine said.
#[derive(Debug)]
pub(crate) enum Fault {
    TokenMissing,
    TokenScheme,
    Token(TokenFault),
    /// A token of another issuer that is trusted, for another service.
    OutsideAudience {
        /// What it must be for, by the configuration.
        audiences: Vec<String>,
    },
    Version {
        family: Family,
        kind: &'static str,
        given: String,
        fault: VersionFault,
    },
    SubscriptionMalformed(String),
    SubscriptionUnknown(String),
    GroupUnknown(String),
    HostUnknown {
        group: String,
        name: String,
    },
    TypeUnknown {
        namespace: String,
        kind: String,
    },
    NamespaceUnknown(String),
    PathUnknown,
    Method {
        allowed: &'static str,
    },
    MachineUnknown {
        group: String,
        name: String,
    },
    OperationUnknown(String),
    /// An operation whose answer the end of the process took away.
    OperationLost,
    /// Something of the host was wanted otherwise than its configuration has it.
    HostIsConfigured(String),
    Field(FieldFault),
    Body(BodyFault),
    BodyTooLarge {
        bytes_max: usize,
    },
    BodyTooSlow,
    BodyBroken,
    SkipToken,
    TooFast {
        retry_after: Duration,
    },
    HostMissing,
    Refused(Refusal),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Refused(refusal)
    }
}

/// What an answer needs to know of the request beside what was wrong with it.
pub(crate) struct Ground<'a> {
    pub(crate) config: &'a Config,
    /// Scheme and name under which the caller reaches us.
    pub(crate) origin: String,
    /// The caller's client id, once it is known.
    pub(crate) client: String,
    /// The caller's object id, once it is known.
    pub(crate) object: String,
    /// The permission that the operation needs, in the service's words.
    pub(crate) permission: &'static str,
    /// The resource that it was wanted on.
    pub(crate) scope: String,
}

/// An error of Azure Resource Manager, ready to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The part of the request that the error is about.
    pub(crate) target: Option<String>,
    /// The one extra header that this error carries.
    pub(crate) extra: Extra,
}

/// A header that goes with an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    None,
    /// `WWW-Authenticate`: where to get a token.
    Challenge,
    /// `Retry-After`, in whole seconds: a date breaks the Python SDK.
    RetryAfter(u64),
    /// `Allow`.
    Allow(&'static str),
    /// `x-ms-failure-cause: gateway`.
    Gateway,
    /// `Upgrade: websocket`.
    Upgrade,
}

/// The answer to a fault.
pub(crate) fn arm(fault: &Fault, ground: &Ground<'_>) -> Said {
    let say = |status, code, message: String| Said { status, code, message, target: None, extra: Extra::None };
    let challenge = |code, message: String| Said {
        status: StatusCode::UNAUTHORIZED,
        code,
        message,
        target: None,
        extra: Extra::Challenge,
    };
    let config = ground.config;
    match fault {
        Fault::TokenMissing => challenge(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.".to_owned(),
        ),
        Fault::TokenScheme => challenge(
            "AuthenticationFailedInvalidHeader",
            "Authentication failed. The 'Authorization' header is provided in an invalid format: it must be 'Bearer' \
             and an access token."
                .to_owned(),
        ),
        Fault::Token(TokenFault::Forged) => {
            challenge("InvalidAuthenticationToken", "The access token is invalid.".to_owned())
        }
        Fault::Token(TokenFault::TooEarly) => {
            challenge("InvalidAuthenticationToken", "The access token is not yet valid.".to_owned())
        }
        Fault::Token(TokenFault::Expired) => {
            challenge("ExpiredAuthenticationToken", "The access token has expired. Get a new one.".to_owned())
        }
        Fault::Token(TokenFault::Audience) => challenge(
            "InvalidAuthenticationTokenAudience",
            wrong_audience(&format!(
                "https://management.azure.com','https://management.core.windows.net/','{}",
                ground.origin
            )),
        ),
        Fault::OutsideAudience { audiences } => {
            challenge("InvalidAuthenticationTokenAudience", wrong_audience(&audiences.join("','")))
        }
        Fault::Token(TokenFault::Tenant) => challenge(
            "InvalidAuthenticationTokenTenant",
            format!(
                "The access token is from the wrong issuer. It must match the tenant '{}/{}' associated with this \
                 subscription.",
                ground.origin, config.tenant_id
            ),
        ),
        Fault::Version { fault: VersionFault::Missing, .. } => say(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.".to_owned(),
        ),
        Fault::Version { family, given, fault: VersionFault::Malformed, .. }
        | Fault::Version { family: family @ Family::Resources, given, fault: VersionFault::Unknown, .. } => say(
            StatusCode::BAD_REQUEST,
            "InvalidApiVersionParameter",
            format!(
                "The api-version '{given}' is invalid. The supported versions are '{}'.",
                family.versions().join(", ")
            ),
        ),
        Fault::Version {
            family: family @ (Family::Network | Family::Compute),
            kind,
            given,
            fault: VersionFault::Unknown,
        } => say(
            StatusCode::BAD_REQUEST,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location '{location}' and API version '{given}' for type \
                 '{kind}'. The supported api-versions are '{}'. The supported locations are '{location}'.",
                family.versions().join(", "),
                location = config.location,
            ),
        ),
        Fault::SubscriptionMalformed(id) => say(
            StatusCode::BAD_REQUEST,
            "InvalidSubscriptionId",
            format!("The provided subscription identifier '{id}' is malformed or invalid."),
        ),
        Fault::SubscriptionUnknown(id) => {
            say(StatusCode::NOT_FOUND, "SubscriptionNotFound", format!("The subscription '{id}' could not be found."))
        }
        Fault::GroupUnknown(name) => {
            say(StatusCode::NOT_FOUND, "ResourceGroupNotFound", format!("Resource group '{name}' could not be found."))
        }
        Fault::HostUnknown { group, name } => Said {
            extra: Extra::Gateway,
            ..say(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                format!(
                    "The Resource 'Microsoft.Network/bastionHosts/{name}' under resource group '{group}' was not found."
                ),
            )
        },
        Fault::TypeUnknown { namespace, kind } => say(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            format!("The resource type '{kind}' could not be found in the namespace '{namespace}'."),
        ),
        Fault::NamespaceUnknown(namespace) => say(
            StatusCode::NOT_FOUND,
            "InvalidResourceNamespace",
            format!(
                "The resource namespace '{namespace}' is invalid: this host has 'Microsoft.Network' and 'Microsoft.Compute'."
            ),
        ),
        Fault::PathUnknown => {
            say(StatusCode::NOT_FOUND, "NotFound", "The path names nothing that this service has.".to_owned())
        }
        Fault::Method { allowed } => Said {
            extra: Extra::Allow(allowed),
            ..say(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                format!("The method is not allowed here; allowed: {allowed}."),
            )
        },
        Fault::MachineUnknown { group, name } => Said {
            extra: Extra::Gateway,
            ..say(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                format!(
                    "The Resource 'Microsoft.Compute/virtualMachines/{name}' under resource group '{group}' was not found."
                ),
            )
        },
        Fault::OperationUnknown(id) => say(
            StatusCode::NOT_FOUND,
            "OperationNotFound",
            format!(
                "The operation '{id}' was not found: it is another caller's, it is older than an hour, or it never was."
            ),
        ),
        Fault::OperationLost => say(
            StatusCode::CONFLICT,
            "OperationInterrupted",
            "The service was restarted before the answer was ready. Send the request again.".to_owned(),
        ),
        Fault::HostIsConfigured(difference) => say(
            StatusCode::CONFLICT,
            "OperationNotAllowed",
            format!("The bastion host is what Ravelin's own configuration says, and is changed there: {difference}."),
        ),
        Fault::Field(FieldFault::NotJson(because)) => say(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{because}'."),
        ),
        Fault::Field(FieldFault::Wrong(field, must)) => Said {
            target: Some(field.clone()),
            ..say(
                StatusCode::BAD_REQUEST,
                "InvalidRequestFormat",
                format!("The request content has another form than needed: '{field}' {must}."),
            )
        },
        Fault::Body(BodyFault::NotJson(because)) => say(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{because}'."),
        ),
        Fault::Body(BodyFault::Shape(because)) => Said {
            target: Some("sessionIds".to_owned()),
            ..say(
                StatusCode::BAD_REQUEST,
                "InvalidRequestFormat",
                format!("The request content has another form than needed: '{because}'."),
            )
        },
        Fault::BodyTooLarge { bytes_max } => say(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestContentTooLarge",
            format!(
                "The request content size exceeds the maximum size of {bytes_max} bytes; a request may name at most {} \
                 sessions or {} virtual machines.",
                body::IDS_MAX,
                body::LINKS_MAX
            ),
        ),
        Fault::BodyTooSlow => {
            say(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "The request content did not arrive in time.".to_owned())
        }
        Fault::BodyBroken => {
            say(StatusCode::BAD_REQUEST, "InvalidRequestContent", "The request content broke off.".to_owned())
        }
        Fault::SkipToken => Said {
            target: Some("$skiptoken".to_owned()),
            ..say(
                StatusCode::BAD_REQUEST,
                "InvalidSkipToken",
                "The $skiptoken is not from an answer to this caller for this list. Start from the first page."
                    .to_owned(),
            )
        },
        Fault::TooFast { retry_after } => Said {
            extra: Extra::RetryAfter(whole_seconds(*retry_after)),
            ..say(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                format!(
                    "The limit of {} requests at once, and {} per second after those, is reached. Try again later.",
                    config.requests_burst_max, config.requests_per_second
                ),
            )
        },
        Fault::HostMissing => say(
            StatusCode::BAD_REQUEST,
            "InvalidHostHeader",
            "The request must say in its Host header under which name it came.".to_owned(),
        ),
        Fault::Refused(refusal) => refused(refusal, ground),
    }
}

fn wrong_audience(allowed: &str) -> String {
    format!(
        "The access token has been obtained for wrong audience or resource. It should exactly match with one of the \
         allowed audiences '{allowed}'."
    )
}

/// The one match from the engine's words to this dialect's.
fn refused(refusal: &Refusal, ground: &Ground<'_>) -> Said {
    let say = |status, code, message: String| Said { status, code, message, target: None, extra: Extra::None };
    match refusal {
        Refusal::NotFound { .. } => say(StatusCode::NOT_FOUND, "ResourceNotFound", refusal.to_string()),
        Refusal::Denied { .. } => say(
            StatusCode::FORBIDDEN,
            "AuthorizationFailed",
            format!(
                "The client '{}' with object id '{}' does not have authorization to perform action '{}' over scope '{}' \
                 or the scope is invalid. If access was recently granted, please refresh your credentials.",
                ground.client, ground.object, ground.permission, ground.scope
            ),
        ),
        Refusal::Unauthenticated { .. } => Said {
            extra: Extra::Challenge,
            ..say(
                StatusCode::UNAUTHORIZED,
                "InvalidAuthenticationToken",
                "The access token is invalid, or the credential that it was issued for is no longer good.".to_owned(),
            )
        },
        Refusal::Invalid { field, because } => Said {
            target: Some(field.clone()),
            ..say(StatusCode::BAD_REQUEST, "InvalidParameter", format!("{field}: {because}"))
        },
        Refusal::Conflict { .. } => say(StatusCode::CONFLICT, "Conflict", refusal.to_string()),
        Refusal::LimitReached { retry_after, .. } => Said {
            extra: Extra::RetryAfter(whole_seconds(retry_after.unwrap_or(RETRY_DEFAULT))),
            ..say(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", refusal.to_string())
        },
        Refusal::Unavailable { .. } => Said {
            extra: Extra::RetryAfter(whole_seconds(RETRY_DEFAULT)),
            ..say(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", refusal.to_string())
        },
        Refusal::Internal { .. } => say(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", refusal.to_string()),
    }
}

/// Why the token endpoint gives no token.
#[derive(Debug)]
pub(crate) enum LoginFault {
    TenantUnknown(String),
    NotOffered,
    Method {
        allowed: &'static str,
    },
    Form(FormFault),
    /// The client's id cannot be anybody's; it has not the form of one.
    ClientMalformed(String),
    ResourceUnknown(String),
    FormTooLarge,
    FormTooSlow,
    FormBroken,
    HostMissing,
    Refused(Refusal),
}

impl From<Refusal> for LoginFault {
    fn from(refusal: Refusal) -> Self {
        LoginFault::Refused(refusal)
    }
}

/// An error of the token endpoint, ready to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SaidAtLogin {
    pub(crate) status: StatusCode,
    /// RFC 6749's word.
    pub(crate) error: &'static str,
    /// The number after `AADSTS`.
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) extra: Extra,
}

/// The answer to a fault at the token endpoint.
pub(crate) fn login(fault: &LoginFault, config: &Config) -> SaidAtLogin {
    let say = |status, error, code, message: String| SaidAtLogin { status, error, code, message, extra: Extra::None };
    let bad = |error, code, message: String| say(StatusCode::BAD_REQUEST, error, code, message);
    match fault {
        LoginFault::TenantUnknown(tenant) => bad(
            "invalid_tenant",
            90002,
            format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
            ),
        ),
        LoginFault::NotOffered => say(
            StatusCode::NOT_FOUND,
            "invalid_request",
            9002313,
            "Invalid request. This endpoint is not offered; tokens are issued for client credentials only.".to_owned(),
        ),
        LoginFault::Method { allowed } => SaidAtLogin {
            extra: Extra::Allow(allowed),
            ..say(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request",
                900561,
                format!("The endpoint only accepts {allowed} requests."),
            )
        },
        LoginFault::Form(FormFault::Missing(name)) => {
            bad("invalid_request", 900144, format!("The request body must contain the following parameter: '{name}'."))
        }
        LoginFault::Form(FormFault::Repeated(name)) => {
            bad("invalid_request", 9002313, format!("Invalid request. The parameter '{name}' is given more than once."))
        }
        LoginFault::Form(FormFault::OtherGrant(grant)) => bad(
            "unsupported_grant_type",
            70003,
            format!("The app requested an unsupported grant type '{grant}'. Supported: 'client_credentials'."),
        ),
        LoginFault::Form(FormFault::NoSecret) => say(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            7000216,
            "'client_secret' is required for the 'client_credentials' grant type.".to_owned(),
        ),
        LoginFault::Form(FormFault::Scope(scope)) => bad(
            "invalid_scope",
            1002012,
            format!(
                "The provided value for scope '{scope}' is not valid. Client credential flows must have a scope value \
                 with /.default suffixed to the resource identifier (application ID URI)."
            ),
        ),
        LoginFault::Form(FormFault::Header) => say(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            7000216,
            "The 'Authorization' header must be 'Basic' with the client's id and secret.".to_owned(),
        ),
        LoginFault::ClientMalformed(id) => bad(
            "unauthorized_client",
            700016,
            format!("Application with identifier '{id}' was not found in the directory '{}'.", config.tenant_id),
        ),
        LoginFault::ResourceUnknown(resource) => bad(
            "invalid_resource",
            500011,
            format!(
                "The resource principal named {resource} was not found in the tenant named {}. Ask for \
                 https://management.azure.com/.default or for this host's own address.",
                config.tenant_id
            ),
        ),
        LoginFault::FormTooLarge => say(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request",
            9002313,
            format!("Invalid request. The form may have at most {} bytes.", token_request::FORM_BYTES_MAX),
        ),
        LoginFault::FormTooSlow => say(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request",
            9002313,
            "Invalid request. The form did not arrive in time.".to_owned(),
        ),
        LoginFault::FormBroken => bad("invalid_request", 9002313, "Invalid request. The form broke off.".to_owned()),
        LoginFault::HostMissing => bad(
            "invalid_request",
            9002313,
            "Invalid request. It must say in its Host header under which name it came.".to_owned(),
        ),
        LoginFault::Refused(refusal) => refused_at_login(refusal),
    }
}

/// The one match from the engine's words to the token endpoint's.
fn refused_at_login(refusal: &Refusal) -> SaidAtLogin {
    let say = |status, error, code, message: String| SaidAtLogin { status, error, code, message, extra: Extra::None };
    match refusal {
        // An unknown client and a wrong secret get the same answer.
        Refusal::Unauthenticated { .. } => say(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            7000215,
            "Invalid client secret provided, or the client is unknown. Ensure the secret being sent in the request is \
             the client secret value, not the client secret ID."
                .to_owned(),
        ),
        Refusal::NotFound { .. } | Refusal::Invalid { .. } | Refusal::Conflict { .. } => {
            say(StatusCode::BAD_REQUEST, "invalid_request", 9002313, format!("Invalid request. {refusal}."))
        }
        Refusal::Denied { .. } => {
            say(StatusCode::FORBIDDEN, "unauthorized_client", 501051, format!("The client may not do this: {refusal}."))
        }
        Refusal::LimitReached { retry_after, .. } => SaidAtLogin {
            extra: Extra::RetryAfter(whole_seconds(retry_after.unwrap_or(RETRY_DEFAULT))),
            ..say(
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                90055,
                format!("Too many requests: {refusal}."),
            )
        },
        Refusal::Unavailable { .. } => SaidAtLogin {
            extra: Extra::RetryAfter(whole_seconds(RETRY_DEFAULT)),
            ..say(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", 90033, format!("{refusal}."))
        },
        Refusal::Internal { .. } => say(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            50000,
            "There was an error issuing a token.".to_owned(),
        ),
    }
}

/// Why the data plane gives no tunnel.
#[derive(Debug)]
pub(crate) enum TunnelFault {
    /// The bearer token in the form is not good, or came too often.
    Proof(Fault),
    Wish(WishFault),
    BodyTooLarge,
    BodyTooSlow,
    BodyBroken,
    Method {
        allowed: &'static str,
    },
    /// The token in the path opens nothing.
    TokenUnknown,
    /// The token in the path ends nothing.
    NothingToDelete,
    NotAWebSocket,
    /// The connection cannot be taken over: it carries others' requests too.
    NotHttp1,
    Refused(Refusal),
}

impl From<Refusal> for TunnelFault {
    fn from(refusal: Refusal) -> Self {
        TunnelFault::Refused(refusal)
    }
}

/// An error of the data plane, ready to be written: its body is a `message` and nothing else.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SaidAtTunnel {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) extra: Extra,
}

/// The answer to a fault of the data plane.
pub(crate) fn tunnel(fault: &TunnelFault, ground: &Ground<'_>) -> SaidAtTunnel {
    let say = |status, message: String| SaidAtTunnel { status, message, extra: Extra::None };
    match fault {
        TunnelFault::Proof(fault) => {
            let said = arm(fault, ground);
            SaidAtTunnel { status: said.status, message: said.message, extra: said.extra }
        }
        TunnelFault::Wish(WishFault::NotJson) => say(
            StatusCode::BAD_REQUEST,
            "The request is not a JSON document with resourceId, vmPort and azToken.".to_owned(),
        ),
        TunnelFault::Wish(WishFault::Missing(field)) => {
            say(StatusCode::BAD_REQUEST, format!("The field '{field}' is missing."))
        }
        TunnelFault::Wish(WishFault::Repeated(field)) => {
            say(StatusCode::BAD_REQUEST, format!("The field '{field}' is there more than once."))
        }
        TunnelFault::Wish(WishFault::Wrong(field, must)) => {
            say(StatusCode::BAD_REQUEST, format!("The field '{field}' {must}."))
        }
        TunnelFault::BodyTooLarge => say(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The request may have at most {} bytes.", tunnel_request::BODY_BYTES_MAX),
        ),
        TunnelFault::BodyTooSlow => say(StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time.".to_owned()),
        TunnelFault::BodyBroken => say(StatusCode::BAD_REQUEST, "The request broke off.".to_owned()),
        TunnelFault::Method { allowed } => SaidAtTunnel {
            extra: Extra::Allow(allowed),
            ..say(StatusCode::METHOD_NOT_ALLOWED, format!("The method is not allowed here; allowed: {allowed}."))
        },
        TunnelFault::TokenUnknown => say(
            StatusCode::UNAUTHORIZED,
            format!(
                "The tunnel's token opens nothing: it was used, or is older than {} s. Ask /api/tokens for another.",
                Tickets::LIFE.as_secs()
            ),
        ),
        TunnelFault::NothingToDelete => {
            say(StatusCode::NOT_FOUND, "There is no tunnel of this token, or no longer.".to_owned())
        }
        TunnelFault::NotAWebSocket => SaidAtTunnel {
            extra: Extra::Upgrade,
            ..say(StatusCode::UPGRADE_REQUIRED, "A tunnel is a WebSocket, version 13 (RFC 6455).".to_owned())
        },
        TunnelFault::NotHttp1 => {
            say(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "A tunnel needs a connection of its own: HTTP/1.1.".to_owned())
        }
        TunnelFault::Refused(refusal) => refused_at_tunnel(refusal),
    }
}

/// The one match from the engine's words to the data plane's.
fn refused_at_tunnel(refusal: &Refusal) -> SaidAtTunnel {
    let say = |status| SaidAtTunnel { status, message: format!("{refusal}."), extra: Extra::None };
    match refusal {
        Refusal::NotFound { .. } => say(StatusCode::NOT_FOUND),
        Refusal::Denied { .. } => say(StatusCode::FORBIDDEN),
        Refusal::Unauthenticated { .. } => say(StatusCode::UNAUTHORIZED),
        Refusal::Invalid { .. } => say(StatusCode::BAD_REQUEST),
        Refusal::Conflict { .. } => say(StatusCode::CONFLICT),
        Refusal::LimitReached { retry_after, .. } => SaidAtTunnel {
            extra: Extra::RetryAfter(whole_seconds(retry_after.unwrap_or(RETRY_DEFAULT))),
            ..say(StatusCode::TOO_MANY_REQUESTS)
        },
        Refusal::Unavailable { .. } => SaidAtTunnel {
            extra: Extra::RetryAfter(whole_seconds(RETRY_DEFAULT)),
            ..say(StatusCode::SERVICE_UNAVAILABLE)
        },
        Refusal::Internal { .. } => say(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

const RETRY_DEFAULT: Duration = Duration::from_secs(5);

/// Rounded up, at least one.
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::policy::Action;
    use std::fmt::Write as _;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire/azure-errors.md");

    fn refusals() -> Vec<(&'static str, Refusal)> {
        let retry_after = Some(Duration::from_millis(1500));
        vec![
            ("`NotFound`", Refusal::not_found("session", "x")),
            ("`Denied`", Refusal::Denied { action: Action::ListSessions, because: "no policy permits it".to_owned() }),
            ("`Unauthenticated`", Refusal::Unauthenticated { because: "the credentials are not valid" }),
            ("`Invalid`", Refusal::invalid("limit", "must be 1 to 1000")),
            ("`Conflict`", Refusal::Conflict { because: "session x is terminated and cannot end".to_owned() }),
            ("`LimitReached`", Refusal::LimitReached { limit: "sessions_max 10".to_owned(), retry_after }),
            ("`Unavailable`", Refusal::unavailable("the store", "secret detail")),
            ("`Internal`", Refusal::internal("secret detail")),
        ]
    }

    fn faults() -> Vec<(&'static str, Fault)> {
        let text = |text: &str| text.to_owned();
        let network = Family::Network;
        let version =
            |given: &str, fault| Fault::Version { family: network, kind: "bastionHosts", given: text(given), fault };
        vec![
            ("no `Authorization` header", Fault::TokenMissing),
            ("another scheme than `Bearer`", Fault::TokenScheme),
            ("a token that is not ours, or was changed", Fault::Token(TokenFault::Forged)),
            ("a token that will be good", Fault::Token(TokenFault::TooEarly)),
            ("a token that was good", Fault::Token(TokenFault::Expired)),
            ("a token for another service", Fault::Token(TokenFault::Audience)),
            (
                "the same, of an outside issuer",
                Fault::OutsideAudience { audiences: vec![text("api://ravelin"), text("api://bastion")] },
            ),
            ("a token of another issuer or tenant", Fault::Token(TokenFault::Tenant)),
            ("no `api-version`", version("", VersionFault::Missing)),
            ("an `api-version` that is no date", version("latest", VersionFault::Malformed)),
            ("an `api-version` outside of the known ones", version("2018-01-01", VersionFault::Unknown)),
            (
                "the same, of what no provider has, such as subscriptions",
                Fault::Version {
                    family: Family::Resources,
                    kind: "subscriptions",
                    given: text("2010-01-01"),
                    fault: VersionFault::Unknown,
                },
            ),
            ("a subscription that is no GUID", Fault::SubscriptionMalformed(text("subid"))),
            ("another subscription", Fault::SubscriptionUnknown(text("7d2f…"))),
            ("another resource group", Fault::GroupUnknown(text("rg2"))),
            ("another bastion host", Fault::HostUnknown { group: text("rg1"), name: text("b2") }),
            (
                "another type, or an action that is not offered",
                Fault::TypeUnknown { namespace: text("Microsoft.Network"), kind: text("virtualNetworks") },
            ),
            ("another provider", Fault::NamespaceUnknown(text("Microsoft.Storage"))),
            ("any other path under `/subscriptions`", Fault::PathUnknown),
            ("another method", Fault::Method { allowed: "GET" }),
            ("another virtual machine", Fault::MachineUnknown { group: text("rg1"), name: text("vm9") }),
            ("an operation that is not the caller's", Fault::OperationUnknown(text("7"))),
            ("an operation that a restart interrupted", Fault::OperationLost),
            (
                "a change of the host, or its removal",
                Fault::HostIsConfigured(text("properties.enableFileCopy is false")),
            ),
            (
                "a field of a body that is not as it has to be",
                Fault::Field(FieldFault::Wrong(text("vms"), text("must be a list of at most 500"))),
            ),
            ("a body that is not JSON", Fault::Body(BodyFault::NotJson(text("expected value at line 1 column 1")))),
            ("a body of another shape, or with too many ids", Fault::Body(BodyFault::Shape(text("sessionIds: …")))),
            ("a body that is too large", Fault::BodyTooLarge { bytes_max: body::BODY_BYTES_MAX }),
            ("a body that does not come", Fault::BodyTooSlow),
            ("a body that breaks off", Fault::BodyBroken),
            ("a `$skiptoken` of somebody else, or changed", Fault::SkipToken),
            ("more requests than allowed", Fault::TooFast { retry_after: Duration::from_millis(2) }),
            ("no `Host`, and no public URL set", Fault::HostMissing),
        ]
    }

    fn login_faults() -> Vec<(&'static str, LoginFault)> {
        let text = |text: &str| text.to_owned();
        vec![
            ("another tenant", LoginFault::TenantUnknown(text("contoso"))),
            ("another login endpoint", LoginFault::NotOffered),
            ("another method", LoginFault::Method { allowed: "POST" }),
            ("a field is missing", LoginFault::Form(FormFault::Missing("grant_type"))),
            ("a field is there twice", LoginFault::Form(FormFault::Repeated("scope"))),
            ("another grant", LoginFault::Form(FormFault::OtherGrant(text("password")))),
            ("no secret", LoginFault::Form(FormFault::NoSecret)),
            ("another `Authorization` header than `Basic`", LoginFault::Form(FormFault::Header)),
            ("a scope without `/.default`, or several", LoginFault::Form(FormFault::Scope(text("openid")))),
            ("a client id that is no GUID", LoginFault::ClientMalformed(text("app"))),
            ("a resource that is not this service", LoginFault::ResourceUnknown(text("https://graph.microsoft.com"))),
            ("a form that is too large", LoginFault::FormTooLarge),
            ("a form that does not come", LoginFault::FormTooSlow),
            ("a form that breaks off", LoginFault::FormBroken),
            ("no `Host`, and no public URL set", LoginFault::HostMissing),
        ]
    }

    fn tunnel_faults() -> Vec<(&'static str, TunnelFault)> {
        vec![
            (
                "the bearer token in the form: as above, for example",
                TunnelFault::Proof(Fault::Token(TokenFault::Expired)),
            ),
            ("a document that is not JSON", TunnelFault::Wish(WishFault::NotJson)),
            ("a field is missing", TunnelFault::Wish(WishFault::Missing("resourceId"))),
            ("a field is there twice", TunnelFault::Wish(WishFault::Repeated("aztoken"))),
            (
                "a field has a wrong value",
                TunnelFault::Wish(WishFault::Wrong("workloadHostPort", "must be 1 to 65535")),
            ),
            ("a body that is too large", TunnelFault::BodyTooLarge),
            ("a body that does not come", TunnelFault::BodyTooSlow),
            ("a body that breaks off", TunnelFault::BodyBroken),
            ("another method", TunnelFault::Method { allowed: "POST" }),
            ("a socket's token that is not known", TunnelFault::TokenUnknown),
            ("a deleted token that is not known", TunnelFault::NothingToDelete),
            ("a request that opens no WebSocket", TunnelFault::NotAWebSocket),
            ("a WebSocket over HTTP/2", TunnelFault::NotHttp1),
        ]
    }

    fn extra(extra: &Extra) -> String {
        match extra {
            Extra::None => String::new(),
            Extra::Challenge => "`WWW-Authenticate`".to_owned(),
            Extra::RetryAfter(seconds) => format!("`Retry-After: {seconds}`"),
            Extra::Allow(allowed) => format!("`Allow: {allowed}`"),
            Extra::Gateway => "`x-ms-failure-cause: gateway`".to_owned(),
            Extra::Upgrade => "`Upgrade: websocket`".to_owned(),
        }
    }

    fn table() -> String {
        let config = Config::new("T", "S", "rg1", "bastion");
        let ground = Ground {
            config: &config,
            origin: "https://HOST".to_owned(),
            client: "CLIENT".to_owned(),
            object: "OBJECT".to_owned(),
            permission: "Microsoft.Network/bastionHosts/getActiveSessions/action",
            scope: "SCOPE".to_owned(),
        };
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{text}").expect("a string takes all");
        line("## Azure Resource Manager\n".to_owned());
        line(
            "`T`, `S`, `HOST`, `CLIENT`, `OBJECT`, `SCOPE` stand for the names of the deployment and of the request.\n"
                .to_owned(),
        );
        line("| when | status | code | header | message |\n|---|---|---|---|---|".to_owned());
        let engine = refusals().into_iter().map(|(when, refusal)| (when, Fault::Refused(refusal)));
        for (when, fault) in faults().into_iter().chain(engine) {
            let said = arm(&fault, &ground);
            let message = said.message.replace(&Family::Network.versions().join(", "), "2019-04-01, …, 2026-03-01");
            line(format!(
                "| {when} | {} | `{}` | {} | {message} |",
                said.status.as_u16(),
                said.code,
                extra(&said.extra)
            ));
        }
        line("\n## Token endpoint\n".to_owned());
        line("| when | status | error | code | header | description |\n|---|---|---|---|---|---|".to_owned());
        let engine = refusals().into_iter().map(|(when, refusal)| (when, LoginFault::Refused(refusal)));
        for (when, fault) in login_faults().into_iter().chain(engine) {
            let said = login(&fault, &config);
            line(format!(
                "| {when} | {} | `{}` | AADSTS{} | {} | {} |",
                said.status.as_u16(),
                said.error,
                said.code,
                extra(&said.extra),
                said.message
            ));
        }
        line("\n## Tunnels and shared links\n".to_owned());
        line("| when | status | header | message |\n|---|---|---|---|".to_owned());
        let engine = refusals().into_iter().map(|(when, refusal)| (when, TunnelFault::Refused(refusal)));
        for (when, fault) in tunnel_faults().into_iter().chain(engine) {
            let said = tunnel(&fault, &ground);
            line(format!("| {when} | {} | {} | {} |", said.status.as_u16(), extra(&said.extra), said.message));
        }
        out
    }

    #[test]
    fn the_document_shows_the_tables() {
        let head = "# Azure: how this dialect says no\n\n\
            Words in code type alone, such as `NotFound`, are the engine's refusals; the other rows are what the edge itself finds.\n\
            This file is written by `UPDATE_GOLDEN=1 cargo test -p ravelin-azure` from `crates/azure/src/refusal.rs`.\n\
            The shapes of the bodies are in [azure.md](azure.md).\n\n";
        let wanted = format!("{head}{}", table());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(DOCUMENT, &wanted).expect("the document can be written");
        }
        let found = std::fs::read_to_string(DOCUMENT).expect("the document is there");
        assert!(
            found == wanted,
            "docs/wire/azure-errors.md is not what the code says; rewrite it with UPDATE_GOLDEN=1"
        );
    }

    #[test]
    fn no_detail_leaves_the_house() {
        assert!(!table().contains("secret detail"));
    }

    #[test]
    fn waits_are_whole_seconds() {
        let waits = [0, 1, 1000, 1001].map(|ms| whole_seconds(Duration::from_millis(ms)));
        assert_eq!(waits, [1, 1, 1, 2]);
    }
}
