//! The operations, one file each, and the table of what each asks of the policy.

mod ending;
mod export_audit;
mod issue_credential;
mod list_credentials;
mod list_events;
pub(crate) mod list_sessions;
mod list_sinks;
mod list_targets;
mod recordings;
mod revoke_credential;
mod show_session;
mod show_target;
mod stream_events;
pub(crate) mod terminate_matching;
mod terminate_session;
mod terminate_sessions;
mod whoami;

use crate::server::Edge;
use ravelin_model::policy::Action;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Where the operations live.
pub(crate) const PREFIX: &str = "/api/v1";

/// Every operation that needs a token, as method and path, with the action that it asks the policy for. An operation
/// that asks for two is listed with the one that decides.
pub const OPERATIONS: &[(&str, Action)] = &[
    ("GET /api/v1/sessions", Action::ListSessions),
    ("GET /api/v1/sessions/{id}", Action::ReadSession),
    ("POST /api/v1/sessions/{id}/terminate", Action::TerminateSession),
    ("POST /api/v1/sessions/terminate", Action::TerminateSession),
    ("POST /api/v1/sessions/terminate-matching", Action::TerminateSession),
    ("GET /api/v1/sessions/{id}/live", Action::WatchSession),
    ("GET /api/v1/sessions/{id}/playback", Action::PlayRecording),
    ("GET /api/v1/sessions/{id}/export", Action::ExportRecording),
    ("GET /api/v1/sessions/{id}/acts", Action::PlayRecording),
    ("POST /api/v1/sessions/{id}/hold", Action::HoldRecording),
    ("POST /api/v1/sessions/{id}/release", Action::HoldRecording),
    ("GET /api/v1/recordings/search", Action::SearchRecordings),
    ("GET /api/v1/events", Action::WatchEvents),
    ("GET /api/v1/events/list", Action::WatchEvents),
    ("GET /api/v1/audit", Action::ExportAudit),
    ("GET /api/v1/sinks", Action::ReadSinks),
    ("GET /api/v1/targets", Action::ReadTarget),
    ("GET /api/v1/targets/{name}", Action::ReadTarget),
    ("GET /api/v1/credentials", Action::ListCredentials),
    ("POST /api/v1/credentials", Action::IssueCredential),
    ("DELETE /api/v1/credentials/{id}", Action::RevokeCredential),
    ("GET /api/v1/whoami", Action::ReadBastion),
];

/// Routes and description at once, so that neither can be without the other.
pub(crate) fn operations() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(list_sessions::list_sessions))
        .routes(routes!(show_session::show_session))
        .routes(routes!(terminate_session::terminate_session))
        .routes(routes!(terminate_sessions::terminate_sessions))
        .routes(routes!(terminate_matching::terminate_matching))
        .routes(routes!(recordings::watch_session))
        .routes(routes!(recordings::play_recording))
        .routes(routes!(recordings::export_recording))
        .routes(routes!(recordings::list_acts))
        .routes(routes!(recordings::hold_recording))
        .routes(routes!(recordings::release_recording))
        .routes(routes!(recordings::search_recordings))
        .routes(routes!(stream_events::stream_events))
        .routes(routes!(list_events::list_events))
        .routes(routes!(export_audit::export_audit))
        .routes(routes!(list_sinks::list_sinks))
        .routes(routes!(list_targets::list_targets))
        .routes(routes!(show_target::show_target))
        .routes(routes!(list_credentials::list_credentials, issue_credential::issue_credential))
        .routes(routes!(revoke_credential::revoke_credential))
        .routes(routes!(whoami::whoami))
}
