//! What a browser sees: a page that says what runs here, and where a path leads nowhere, a hint.

use axum::body::Body;
use axum::response::{Html, IntoResponse};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use std::sync::Arc;

/// The page under `/`.
#[derive(Clone)]
pub(crate) struct Front {
    html: Arc<str>,
}

impl Front {
    /// A page for a bastion whose SSH listener has this port.
    pub(crate) fn new(ssh_port: u16) -> Self {
        let html = include_str!("front.html")
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{ssh_port}", &ssh_port.to_string());
        Self { html: html.into() }
    }

    /// The answer. It names nobody and nothing that is behind a proof.
    pub(crate) fn page(&self) -> impl IntoResponse + use<> {
        let headers = [
            (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, Html(self.html.to_string()))
    }
}

/// The answer for a path that belongs to no edge.
pub(super) fn nothing_here(path: &str) -> Response<Body> {
    let shown: String = path.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
    let text = format!(
        "nothing is at {shown}\n\
         Ravelin answers its own API under /api/v1, AWS Session Manager calls on POST /, Azure Resource Manager calls \
         under /subscriptions, and its health under /healthz and /readyz.\n"
    );
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    (StatusCode::NOT_FOUND, [(CONTENT_TYPE, plain)], text).into_response()
}
