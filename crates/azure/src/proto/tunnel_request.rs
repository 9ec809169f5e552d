//! What the native client posts before it opens a tunnel: the form of `/api/tokens`, and the JSON of `/api/connection`.
//!
//! Both hold a bearer token, so neither can be printed. Source: the requests of azure-cli 2.43 and of its extension
//! `bastion` 1.4.

use secrecy::SecretString;
use serde::Deserialize;
use std::net::IpAddr;

/// Largest form or document, in bytes. A token has at most 8 KiB, and the id of a resource less than 1 KiB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest resource id, in bytes.
pub const RESOURCE_BYTES_MAX: usize = 1024;

/// Where a tunnel is to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A port of the machine that a resource id names.
    Resource {
        /// The id as it came, without a slash at its end.
        id: String,
        /// The port.
        port: u16,
    },
    /// A port of an address: IP connect.
    Address {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
}

/// A wish for a tunnel.
pub struct TunnelRequest {
    /// Where to.
    pub destination: Destination,
    /// The caller's bearer token.
    pub bearer: SecretString,
}

/// What is wrong with a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WishFault {
    /// It is no JSON document of the form needed.
    NotJson,
    /// A field is missing.
    Missing(&'static str),
    /// A field is there more than once.
    Repeated(&'static str),
    /// A field has a value that cannot be: the field, and what it must be.
    Wrong(&'static str, &'static str),
}

/// Reads the form of `/api/tokens`.
///
/// # Errors
/// [`WishFault`], which repeats nothing of what was sent.
pub fn token_form(bytes: &[u8]) -> Result<TunnelRequest, WishFault> {
    const NAMES: [&str; 5] = ["resourceId", "protocol", "workloadHostPort", "aztoken", "hostname"];
    let mut found: [Option<String>; 5] = Default::default();
    for (name, value) in form_urlencoded::parse(bytes) {
        let Some(at) = NAMES.iter().position(|known| *known == name) else { continue };
        // Clients leave fields empty that they have nothing for.
        if !value.is_empty() && found[at].replace(value.into_owned()).is_some() {
            return Err(WishFault::Repeated(NAMES[at]));
        }
    }
    let [resource, protocol, port, bearer, host] = found;
    let bearer = bearer.ok_or(WishFault::Missing("aztoken"))?;
    if protocol.is_some_and(|protocol| !protocol.eq_ignore_ascii_case("tcptunnel")) {
        return Err(WishFault::Wrong("protocol", "must be tcptunnel"));
    }
    let port = port.ok_or(WishFault::Missing("workloadHostPort"))?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or(WishFault::Wrong("workloadHostPort", "must be 1 to 65535"))?;
    let destination = destination(&resource.ok_or(WishFault::Missing("resourceId"))?, port)?;
    if let (Some(host), Destination::Address { address, .. }) = (host, &destination)
        && host.parse() != Ok(*address)
    {
        return Err(WishFault::Wrong("hostname", "must be the address in resourceId"));
    }
    Ok(TunnelRequest { destination, bearer: SecretString::from(bearer) })
}

/// Reads the document of `/api/connection`.
///
/// # Errors
/// [`WishFault`], which repeats nothing of what was sent.
pub fn connection(bytes: &[u8]) -> Result<TunnelRequest, WishFault> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(u16),
        Text(String),
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        resource_id: Option<String>,
        vm_port: Option<Port>,
        az_token: Option<String>,
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|_| WishFault::NotJson)?;
    let bearer = document.az_token.ok_or(WishFault::Missing("azToken"))?;
    let port = match document.vm_port.ok_or(WishFault::Missing("vmPort"))? {
        Port::Number(port) => Some(port),
        Port::Text(port) => port.parse().ok(),
    };
    let port = port.filter(|port| *port != 0).ok_or(WishFault::Wrong("vmPort", "must be 1 to 65535"))?;
    let destination = destination(&document.resource_id.ok_or(WishFault::Missing("resourceId"))?, port)?;
    Ok(TunnelRequest { destination, bearer: SecretString::from(bearer) })
}

/// A resource id with `bh-hostConnect` in it names an address, any other a machine.
fn destination(resource: &str, port: u16) -> Result<Destination, WishFault> {
    let id = resource.trim_end_matches('/');
    if id.is_empty() || id.len() > RESOURCE_BYTES_MAX || id.contains(char::is_control) {
        return Err(WishFault::Wrong("resourceId", "must be the id of a virtual machine"));
    }
    let mut parts = id.rsplit('/');
    let last = parts.next().unwrap_or_default();
    if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("bh-hostConnect")) {
        let address = last.parse().map_err(|_| WishFault::Wrong("resourceId", "must end in an IP address"))?;
        return Ok(Destination::Address { address, port });
    }
    Ok(Destination::Resource { id: id.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    const VM: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1";

    fn fault(form: &str) -> WishFault {
        token_form(form.as_bytes()).err().expect(form)
    }

    #[test]
    fn the_forms_of_both_generations_of_clients() {
        let form = format!(
            "resourceId={}&protocol=tcptunnel&workloadHostPort=22&aztoken=a.b.c&token=&hostname=",
            VM.replace('/', "%2F")
        );
        let read = token_form(form.as_bytes()).expect("a right form");
        assert_eq!(read.destination, Destination::Resource { id: VM.to_owned(), port: 22 });
        assert_eq!(read.bearer.expose_secret(), "a.b.c");
        let by_address = "resourceId=/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/BH-hostConnect/10.0.0.7\
                          &protocol=tcptunnel&workloadHostPort=3389&aztoken=t&hostname=10.0.0.7";
        let read = token_form(by_address.as_bytes()).expect("a right form");
        let address = "10.0.0.7".parse().expect("an address");
        assert_eq!(read.destination, Destination::Address { address, port: 3389 });
        let json = format!(
            r#"{{"resourceId":"{VM}/","bastionResourceId":"x","vmPort":22,"azToken":"t","connectionType":"nativeclient"}}"#
        );
        let read = connection(json.as_bytes()).expect("a right document");
        assert_eq!(read.destination, Destination::Resource { id: VM.to_owned(), port: 22 });
        let text = json.replace(":22,", ":\"22\",");
        assert!(connection(text.as_bytes()).is_ok(), "a port as text");
    }

    #[test]
    fn a_fault_names_the_field_and_repeats_nothing() {
        assert_eq!(fault(""), WishFault::Missing("aztoken"));
        assert_eq!(fault("aztoken=t"), WishFault::Missing("workloadHostPort"));
        assert_eq!(fault("aztoken=t&workloadHostPort=22"), WishFault::Missing("resourceId"));
        assert_eq!(fault("aztoken=t&aztoken=u"), WishFault::Repeated("aztoken"));
        for port in ["0", "65536", "-1", "ssh", "22%20"] {
            let fault = fault(&format!("aztoken=t&workloadHostPort={port}&resourceId=/x"));
            assert!(matches!(fault, WishFault::Wrong("workloadHostPort", _)), "{port}");
        }
        assert!(matches!(fault("aztoken=t&protocol=udp"), WishFault::Wrong("protocol", _)));
        for id in ["/", "a/bh-hostConnect/web-1", "%00", &"a".repeat(2000)] {
            let fault = fault(&format!("aztoken=t&workloadHostPort=22&resourceId={id}"));
            assert!(matches!(fault, WishFault::Wrong("resourceId", _)), "{id}");
        }
        let other = "aztoken=t&workloadHostPort=22&resourceId=/a/bh-hostConnect/10.0.0.7&hostname=10.0.0.8";
        assert!(matches!(fault(other), WishFault::Wrong("hostname", _)));
        assert_eq!(connection(b"[]").err(), Some(WishFault::NotJson));
        assert_eq!(connection(b"{}").err(), Some(WishFault::Missing("azToken")));
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _form = token_form(&body);
            let _document = connection(&body);
        }
    }
}
