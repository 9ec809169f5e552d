//! `GET /metadata/endpoints`: what `az cloud register` and `Add-AzEnvironment` read before anybody has logged in.
//!
//! The login endpoint ends in `/adfs`: clients that see that ask no central service whether this host may be trusted,
//! so nobody needs a switch for it.

use crate::proto::api_version::VersionFault;
use crate::wire::metadata as wire;
use jiff::civil::Date;
use serde_json::Value;

/// The document for a version, for clients that reach us under `origin`.
pub(crate) fn answer(version: Result<Date, VersionFault>, origin: &str) -> Result<Value, VersionFault> {
    let year = version?.year();
    let login_endpoint = format!("{origin}/adfs");
    let audiences = vec![
        "https://management.azure.com".to_owned(),
        "https://management.core.windows.net/".to_owned(),
        origin.to_owned(),
    ];
    let cloud = |login_endpoint, audiences| wire::Cloud {
        name: "Ravelin",
        portal: origin.to_owned(),
        gallery: origin.to_owned(),
        graph: origin.to_owned(),
        resource_manager: origin.to_owned(),
        authentication: wire::Authentication {
            login_endpoint,
            audiences,
            tenant: "adfs".to_owned(),
            identity_provider: "ADFS",
        },
        suffixes: Default::default(),
    };
    let document = match year {
        ..=2017 => serde_json::to_value(wire::Endpoints2015 {
            gallery_endpoint: origin.to_owned(),
            graph_endpoint: origin.to_owned(),
            portal_endpoint: origin.to_owned(),
            authentication: wire::Authentication2015 { login_endpoint, audiences },
        }),
        2018..=2021 => serde_json::to_value([cloud(login_endpoint, audiences)]),
        2022.. => serde_json::to_value(cloud(login_endpoint, audiences)),
    };
    // Strings in structures are JSON.
    Ok(document.expect("a document of strings has no member that JSON cannot hold"))
}
