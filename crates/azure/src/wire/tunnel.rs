//! The data plane of the native client's tunnels. Source: the requests and the reading code of azure-cli 2.43 and of its
//! extension `bastion` 1.4.

use serde::Serialize;

/// What `/api/tokens` answers. It cannot be printed: it holds secrets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TunnelTokens {
    pub(crate) auth_token: String,
    pub(crate) username: String,
    pub(crate) data_source: &'static str,
    pub(crate) available_data_sources: [&'static str; 1],
    pub(crate) node_id: String,
    pub(crate) websocket_token: String,
}

/// Any error of the data plane.
#[derive(Debug, Serialize)]
pub(crate) struct TunnelError {
    pub(crate) message: String,
}
