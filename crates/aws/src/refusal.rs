//! How this dialect says no: one total match from every fault to status, code and text.
//!
//! `docs/wire/aws-errors.md` shows the same table and a test keeps the two equal.

use crate::proto::request::Unreadable;
use crate::proto::sigv4;
use http::StatusCode;
use ravelin_model::Refusal;
use std::time::Duration;

/// Everything that can be wrong with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// No such operation.
    UnknownOperation,
    /// The signature is missing, cannot be read or may not stand.
    Signature(sigv4::Fault),
    /// The signature is not the key's.
    WrongSignature,
    /// No valid key of that id.
    UnknownKey,
    /// The session token is not what the key needs.
    SessionToken(TokenFault),
    /// The body is not what a body must be.
    Unreadable(Unreadable),
    /// Members break their rules; the text lists them all.
    Violations(String),
    /// A filter's key that the operation has not.
    FilterKey {
        /// As sent.
        key: String,
        /// What would be right.
        known: String,
    },
    /// A page token that was not made for this question.
    NextToken,
    /// The body is larger than [`crate::server::BODY_BYTES_MAX`].
    TooLarge,
    /// The body did not arrive in time.
    Slow,
    /// A session was ordered to end and has not ended yet.
    StillOpen {
        /// Its id.
        session: String,
        /// Why not.
        because: String,
    },
    /// An error that the service model has for the operation.
    OfModel {
        /// Its name there.
        code: &'static str,
        /// What is wrong and what would be right.
        text: String,
    },
    /// The engine refused.
    Refused {
        /// What it said.
        refusal: Refusal,
        /// Whom and what that concerns.
        about: About,
    },
}

/// What is wrong with a session token, or with its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// The key is not temporary.
    Needless,
    /// The key is temporary.
    Missing,
    /// It is another key's, or nobody's.
    Wrong,
    /// The key's time is over.
    Expired,
}

/// Whom and what a refusal concerns, as a denial has to name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// The operation, such as `TerminateSession`.
    pub(crate) operation: &'static str,
    /// The caller's ARN.
    pub(crate) principal: String,
    /// The ARN of what it was done to.
    pub(crate) resource: String,
}

/// An error as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// `__type`.
    pub(crate) code: &'static str,
    /// Name of the member that holds the text; shapes of the service model say `Message`, the protocol's own `message`.
    pub(crate) member: &'static str,
    /// The text; `None` where AWS sends none.
    pub(crate) text: Option<String>,
    /// When to try again, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    /// The one translation.
    pub(crate) fn speak(&self) -> Spoken {
        let of_model = |code, text: &str| spoken(StatusCode::BAD_REQUEST, code, "Message", text);
        let of_protocol = |code, text: &str| spoken(StatusCode::BAD_REQUEST, code, "message", text);
        match self {
            Fault::UnknownOperation => Spoken { text: None, ..of_protocol("UnknownOperationException", "") },
            Fault::Signature(fault) => {
                let code = match fault {
                    sigv4::Fault::Missing => "MissingAuthenticationTokenException",
                    sigv4::Fault::Malformed(_) => "IncompleteSignatureException",
                    sigv4::Fault::Refused(_) => "InvalidSignatureException",
                };
                of_protocol(code, &fault.to_string())
            }
            Fault::WrongSignature => of_protocol("InvalidSignatureException", WRONG_SIGNATURE),
            Fault::UnknownKey => of_protocol("UnrecognizedClientException", INVALID_TOKEN),
            Fault::SessionToken(fault) => {
                let invalid =
                    |what: &str| of_protocol("UnrecognizedClientException", &format!("{INVALID_TOKEN} {what}"));
                match fault {
                    TokenFault::Needless => invalid("This access key is not temporary: unset AWS_SESSION_TOKEN."),
                    TokenFault::Missing => {
                        invalid("This access key is temporary: set AWS_SESSION_TOKEN to what was issued with it.")
                    }
                    TokenFault::Wrong => {
                        invalid("The session token is not the one that was issued with this access key.")
                    }
                    TokenFault::Expired => of_protocol("ExpiredTokenException", EXPIRED_TOKEN),
                }
            }
            Fault::Unreadable(because) => of_protocol("SerializationException", &because.to_string()),
            Fault::Violations(text) => of_protocol("ValidationException", text),
            Fault::FilterKey { key, known } => {
                let key: String = key.chars().take(64).collect();
                of_model("InvalidFilterKey", &format!("The filter key '{key}' is not valid. Valid keys: {known}."))
            }
            Fault::NextToken => of_model(
                "InvalidNextToken",
                "The specified token is not valid: it was not given out to you for this State and these Filters.",
            ),
            Fault::TooLarge => Spoken {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..of_protocol("RequestEntityTooLargeException", "The request must not be larger than 1 MiB.")
            },
            Fault::Slow => Spoken {
                status: StatusCode::REQUEST_TIMEOUT,
                ..of_protocol("RequestTimeoutException", "The request's body did not arrive in time.")
            },
            Fault::StillOpen { session, because } => spoken(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                "Message",
                &format!(
                    "Session {session} was ordered to end and is not closed yet: {because}. It is safe to ask again."
                ),
            ),
            Fault::OfModel { code, text } => of_model(code, text),
            Fault::Refused { refusal, about } => of_refusal(refusal, about),
        }
    }
}

fn of_refusal(refusal: &Refusal, about: &About) -> Spoken {
    let bad = StatusCode::BAD_REQUEST;
    let text = refusal.to_string();
    match refusal {
        Refusal::NotFound { .. } => spoken(bad, "DoesNotExistException", "Message", &text),
        Refusal::Denied { because, .. } => {
            let About { operation, principal, resource } = about;
            let text = format!(
                "User: {principal} is not authorized to perform: ssm:{operation} on resource: {resource} because {because}"
            );
            spoken(bad, "AccessDeniedException", "Message", &text)
        }
        Refusal::Unauthenticated { .. } => spoken(bad, "UnrecognizedClientException", "message", INVALID_TOKEN),
        Refusal::Invalid { .. } => spoken(bad, "ValidationException", "message", &text),
        Refusal::Conflict { .. } => spoken(bad, "ConflictException", "message", &text),
        Refusal::LimitReached { retry_after, .. } => {
            Spoken { retry_after: *retry_after, ..spoken(bad, "ThrottlingException", "message", &text) }
        }
        // The code is the modelled one, so that `except client.exceptions.InternalServerError` catches both; the status
        // tells our own fault from one that passes.
        Refusal::Unavailable { .. } => spoken(StatusCode::SERVICE_UNAVAILABLE, "InternalServerError", "Message", &text),
        Refusal::Internal { .. } => spoken(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Message", &text),
    }
}

const WRONG_SIGNATURE: &str = "The request signature we calculated does not match the signature you provided. Check your \
                               AWS Secret Access Key and signing method. Consult the service documentation for details.";
const INVALID_TOKEN: &str = "The security token included in the request is invalid.";
const EXPIRED_TOKEN: &str = "The security token included in the request is expired";

fn spoken(status: StatusCode, code: &'static str, member: &'static str, text: &str) -> Spoken {
    Spoken { status, code, member, text: Some(text.to_owned()), retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::policy::Action;
    use std::fmt::Write as _;
    use std::path::Path;

    /// One of each, in the order of the document.
    fn samples() -> Vec<(&'static str, Fault)> {
        let about = About {
            operation: "TerminateSession",
            principal: "arn:aws:iam::123456789012:user/bob".to_owned(),
            resource: "arn:aws:ssm:eu-west-1:123456789012:session/alice-07a16060613c408b5".to_owned(),
        };
        let refused = |refusal: Refusal| Fault::Refused { refusal, about: about.clone() };
        let of = |code, text: &str| Fault::OfModel { code, text: text.to_owned() };
        let unreadable = crate::proto::request::describe_sessions(br#"{"State":1}"#).expect_err("a number is no text");
        vec![
            ("no signature at all", Fault::Signature(sigv4::Fault::Missing)),
            (
                "signature that cannot be read",
                Fault::Signature(sigv4::parse_authorization(sigv4::ALGORITHM).expect_err("nothing follows")),
            ),
            (
                "clock, scope, or a header that must be signed and is not",
                Fault::Signature(sigv4::Fault::Refused(
                    "Credential should be scoped to correct service: 'ssm'.".to_owned(),
                )),
            ),
            ("unknown, revoked or expired key", Fault::UnknownKey),
            ("session token with a key that needs none", Fault::SessionToken(TokenFault::Needless)),
            ("temporary key without its session token", Fault::SessionToken(TokenFault::Missing)),
            ("temporary key with another session token", Fault::SessionToken(TokenFault::Wrong)),
            ("temporary key that has expired", Fault::SessionToken(TokenFault::Expired)),
            ("signature of another secret or another request", Fault::WrongSignature),
            ("body above 1 MiB", Fault::TooLarge),
            ("body does not arrive", Fault::Slow),
            ("unknown operation, wrong prefix, wrong method", Fault::UnknownOperation),
            ("not JSON, or another JSON type", Fault::Unreadable(unreadable)),
            (
                "missing member, length, range, enum, date",
                Fault::Violations(
                    "1 validation error detected: Value null at 'state' failed to satisfy constraint: Member must not be null"
                        .to_owned(),
                ),
            ),
            (
                "unknown filter key",
                Fault::FilterKey { key: "Colour".to_owned(), known: "InvokedAfter, …".to_owned() },
            ),
            ("foreign or altered page token", Fault::NextToken),
            (
                "session ordered to end and still open",
                Fault::StillOpen { session: "alice-07a16060613c408b5".to_owned(), because: "…".to_owned() },
            ),
            ("unknown document, or one that cannot be used so", of("InvalidDocument", "Document with name X does not exist.")),
            ("text that is no session document", of("InvalidDocumentContent", "…")),
            ("document of another schema", of("InvalidDocumentSchemaVersion", "…")),
            ("unknown version of a document", of("InvalidDocumentVersion", "…")),
            ("deed that a document does not bear", of("InvalidDocumentOperation", "…")),
            ("document that exists", of("DocumentAlreadyExists", "…")),
            ("text above 64 KiB", of("MaxDocumentSizeExceeded", "…")),
            ("more than 500 documents", of("DocumentLimitExceeded", "…")),
            ("more than 100 versions", of("DocumentVersionLimitExceeded", "…")),
            ("version that says what the newest says", of("DuplicateDocumentContent", "…")),
            ("version name that is taken", of("DuplicateDocumentVersionName", "…")),
            ("target that is unknown, hidden or out of reach", of("TargetNotConnected", "mi-00000000000000000 is not connected.")),
            ("parameters or a target that do not fit the document", of("BadRequest", "…")),
            ("setting that there is not", of("ServiceSettingNotFound", "…")),
            ("instance id of no form", of("InvalidInstanceId", "…")),
            ("value that a filter cannot have", of("InvalidInstanceInformationFilterValue", "…")),
            ("the same, of properties", of("InvalidInstancePropertyFilterValue", "…")),
            ("tags on what bears none", of("InvalidResourceType", "…")),
            ("tags on an unknown document", of("InvalidResourceId", "…")),
            ("more than 50 tags", of("TooManyTagsError", "…")),
            ("`NotFound`", refused(Refusal::not_found("session", "alice-07a16060613c408b5"))),
            (
                "`Denied`",
                refused(Refusal::Denied {
                    action: Action::TerminateSession,
                    because: "no policy permits it".to_owned(),
                }),
            ),
            ("`Unauthenticated`", refused(Refusal::Unauthenticated { because: "the credentials are not valid" })),
            ("`Invalid`", refused(Refusal::invalid("limit", "must be at most 1000"))),
            ("`Conflict`", refused(Refusal::Conflict { because: "it has ended".to_owned() })),
            ("`LimitReached`", refused(Refusal::LimitReached { limit: "…".to_owned(), retry_after: None })),
            ("`Unavailable`", refused(Refusal::unavailable("store", "kept for the log"))),
            ("`Internal`", refused(Refusal::internal("kept for the log"))),
        ]
    }

    #[test]
    fn the_document_shows_this_table() {
        let mut table = String::from("| what | `__type` | HTTP | text |\n|---|---|---|---|\n");
        for (what, fault) in samples() {
            let Spoken { status, code, member, text, .. } = fault.speak();
            let text = text.map_or("none".to_owned(), |text| format!("`{member}`: {text}"));
            writeln!(table, "| {what} | `{code}` | {} | {text} |", status.as_u16()).expect("a string takes it");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire/aws-errors.md");
        let document = std::fs::read_to_string(&path).expect("the document exists");
        let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
        let (head, rest) = document.split_once(begin).expect("the table's begin is marked");
        let (shown, tail) = rest.split_once(end).expect("the table's end is marked");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, format!("{head}{begin}{table}{end}{tail}")).expect("the document can be written");
        } else {
            assert_eq!(shown, table, "UPDATE_GOLDEN=1 rewrites the document");
        }
    }

    #[test]
    fn nothing_of_the_log_leaves() {
        for (what, fault) in samples() {
            assert!(!fault.speak().text.unwrap_or_default().contains("kept for the log"), "{what}");
        }
    }
}
