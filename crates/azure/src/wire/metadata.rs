//! What `GET /metadata/endpoints` answers, in its three shapes. Source: the answers of `management.azure.com` as
//! described for `az cloud register --endpoint-resource-manager` and `Add-AzEnvironment -ARMEndpoint`, and the reading
//! code of azure-cli 2.43 and 2.91.

use serde::Serialize;
use std::collections::BTreeMap;

/// Versions of 2015 to 2017.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoints2015 {
    pub(crate) gallery_endpoint: String,
    pub(crate) graph_endpoint: String,
    pub(crate) portal_endpoint: String,
    pub(crate) authentication: Authentication2015,
}

/// See [`Endpoints2015`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authentication2015 {
    pub(crate) login_endpoint: String,
    pub(crate) audiences: Vec<String>,
}

/// Versions from 2018: a list of these until 2021, one of these from 2022.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cloud {
    pub(crate) name: &'static str,
    pub(crate) portal: String,
    pub(crate) gallery: String,
    pub(crate) graph: String,
    pub(crate) resource_manager: String,
    pub(crate) authentication: Authentication,
    pub(crate) suffixes: BTreeMap<String, String>,
}

/// See [`Cloud`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authentication {
    pub(crate) login_endpoint: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) tenant: String,
    pub(crate) identity_provider: &'static str,
}
