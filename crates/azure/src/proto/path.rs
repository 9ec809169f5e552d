//! Which part of the service a path names.
//!
//! Every fixed word is compared without regard to case, empty segments are skipped (clients whose endpoint ends in a
//! slash ask for `//metadata/endpoints`), and segments are percent-decoded one by one, so an escaped slash stays inside
//! its segment. Source: Azure Resource Manager's URL rules as shown by the reference pages of
//! `Microsoft.Network/bastionHosts` (<https://learn.microsoft.com/rest/api/virtualnetwork/bastion-hosts>), and the
//! requests of azure-cli 2.91, azure-identity 1.27 and msal 1.39.

use percent_encoding::percent_decode_str;
use std::fmt;

/// Longest path that is looked at, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/subscriptions…`, `/tenants`
    Arm(ArmPath),
    /// `/metadata/endpoints`
    CloudMetadata,
    /// `…/.well-known/openid-configuration`
    Discovery(Authority),
    /// The public keys that tokens are signed with.
    Keys(Authority),
    /// The token endpoint, in its older or newer form.
    Token(Authority),
    /// Something else that a login service would have.
    OtherLogin,
    /// The data plane of the native client's tunnels.
    Tunnel(TunnelPath),
    /// `/api/shareable-url/{token}`
    SharedLink(String),
    /// Not this edge's.
    Elsewhere,
}

/// In whose name tokens are issued: the first segment of a login path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// `adfs`: one directory without a tenant's name. Clients that see it ask no central service about the host.
    Adfs,
    /// A tenant, as it was spelled.
    Tenant(String),
}

/// A path of the data plane. Source: the requests of azure-cli 2.43 and of its extension `bastion` 1.4.
#[derive(Clone, PartialEq, Eq)]
pub enum TunnelPath {
    /// `/api/tokens`
    Tokens,
    /// `/api/tokens/{authToken}`
    Token(String),
    /// `/api/connection`
    Connection,
    /// `/webtunnelv2/{websocketToken}`, `/omni/webtunnel/{websocketToken}`
    Socket(String),
    /// `/webtunnel/{authToken}`, of older clients
    OlderSocket(String),
}

/// The tokens in these paths are secrets.
impl fmt::Debug for TunnelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TunnelPath::Tokens => "Tokens",
            TunnelPath::Token(_) => "Token(…)",
            TunnelPath::Connection => "Connection",
            TunnelPath::Socket(_) => "Socket(…)",
            TunnelPath::OlderSocket(_) => "OlderSocket(…)",
        })
    }
}

/// A path under `/subscriptions`, with the names as they were spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmPath {
    /// The subscription, where one is named.
    pub subscription: Option<String>,
    /// The resource group, where one is named.
    pub group: Option<String>,
    /// What is named below them.
    pub resource: Resource,
}

/// The end of a path under `/subscriptions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/tenants`
    Tenants,
    /// `/subscriptions`
    Subscriptions,
    /// One subscription.
    Subscription,
    /// `…/resourceGroups`
    Groups,
    /// One resource group.
    Group,
    /// All bastion hosts of the subscription or of the group.
    Hosts,
    /// One bastion host.
    Host {
        /// Its name.
        name: String,
    },
    /// Something to be done with a bastion host.
    HostAction {
        /// The host's name.
        name: String,
        /// What.
        action: HostAction,
    },
    /// All virtual machines of the subscription or of the group.
    Machines,
    /// One virtual machine.
    Machine {
        /// Its name.
        name: String,
    },
    /// All resource providers.
    Providers,
    /// One resource provider.
    Provider {
        /// Such as `Microsoft.Compute`.
        namespace: String,
    },
    /// How far an operation is whose answer comes later.
    OperationStatus {
        /// The operation's id.
        id: String,
    },
    /// The answer of such an operation.
    OperationResult {
        /// The operation's id.
        id: String,
    },
    /// A provider that is not here.
    Foreign {
        /// Such as `Microsoft.Compute`.
        namespace: String,
        /// Such as `virtualMachines`; empty when the path ends before it.
        kind: String,
    },
    /// Nothing that the service has.
    Nothing,
}

/// The last segment below a bastion host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAction {
    /// `getActiveSessions`
    GetActiveSessions,
    /// `disconnectActiveSessions`
    DisconnectActiveSessions,
    /// `createShareableLinks`
    CreateShareableLinks,
    /// `getShareableLinks`
    GetShareableLinks,
    /// `deleteShareableLinks`
    DeleteShareableLinks,
    /// `deleteShareableLinksByToken`
    DeleteShareableLinksByToken,
    /// Another word.
    Other(String),
}

/// Sorts a path. Never fails: what is not understood is [`Route::Elsewhere`], or [`Resource::Nothing`] below
/// `/subscriptions`.
#[must_use]
pub fn parse(path: &str) -> Route {
    let segments = if path.len() > PATH_BYTES_MAX { None } else { decoded(path) };
    let Some(segments) = segments else {
        // Not to be understood, but its beginning still says whose it is.
        let first = path.split('/').find(|segment| !segment.is_empty());
        return match first {
            Some(word) if word.eq_ignore_ascii_case("subscriptions") => Route::Arm(nothing()),
            Some(_) | None => Route::Elsewhere,
        };
    };
    let words: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["subscriptions", rest @ ..] => Route::Arm(arm(&segments[1..], rest)),
        ["tenants"] => Route::Arm(ArmPath { subscription: None, group: None, resource: Resource::Tenants }),
        ["metadata", "endpoints"] => Route::CloudMetadata,
        ["api", "tokens"] => Route::Tunnel(TunnelPath::Tokens),
        ["api", "tokens", _] => Route::Tunnel(TunnelPath::Token(segments[2].clone())),
        ["api", "connection"] => Route::Tunnel(TunnelPath::Connection),
        ["api", "shareable-url", _] => Route::SharedLink(segments[2].clone()),
        ["webtunnelv2", _] => Route::Tunnel(TunnelPath::Socket(segments[1].clone())),
        ["omni", "webtunnel", _] => Route::Tunnel(TunnelPath::Socket(segments[2].clone())),
        ["webtunnel", _] => Route::Tunnel(TunnelPath::OlderSocket(segments[1].clone())),
        ["adfs", rest @ ..] => adfs(rest),
        [_, rest @ ..] => login(&segments[0], rest),
        [] => Route::Elsewhere,
    }
}

fn decoded(path: &str) -> Option<Vec<String>> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.map(|segment| percent_decode_str(segment).decode_utf8().ok().map(|text| text.into_owned())).collect()
}

fn adfs(rest: &[&str]) -> Route {
    match rest {
        [".well-known", "openid-configuration"] => Route::Discovery(Authority::Adfs),
        ["oauth2", "token"] | ["oauth2", "v2.0", "token"] => Route::Token(Authority::Adfs),
        ["discovery", "keys"] => Route::Keys(Authority::Adfs),
        _ => Route::OtherLogin,
    }
}

fn login(tenant: &str, rest: &[&str]) -> Route {
    let authority = || Authority::Tenant(tenant.to_owned());
    match rest {
        ["v2.0", ".well-known", "openid-configuration"] => Route::Discovery(authority()),
        ["oauth2", "token"] | ["oauth2", "v2.0", "token"] => Route::Token(authority()),
        ["discovery", "keys"] | ["discovery", "v2.0", "keys"] => Route::Keys(authority()),
        ["oauth2", ..] | ["v2.0", ".well-known", ..] => Route::OtherLogin,
        _ => Route::Elsewhere,
    }
}

/// `segments` and `words` are the same path, as spelled and in lower case.
fn arm(segments: &[String], words: &[&str]) -> ArmPath {
    let Some((subscription, segments)) = segments.split_first() else {
        return ArmPath { subscription: None, group: None, resource: Resource::Subscriptions };
    };
    let words = &words[1..];
    let subscription = Some(subscription.clone());
    let (group, segments, words) = match words {
        [] => return ArmPath { subscription, group: None, resource: Resource::Subscription },
        ["resourcegroups"] => return ArmPath { subscription, group: None, resource: Resource::Groups },
        ["resourcegroups", _] => {
            return ArmPath { subscription, group: Some(segments[1].clone()), resource: Resource::Group };
        }
        ["resourcegroups", _, rest @ ..] => (Some(segments[1].clone()), &segments[2..], rest),
        _ => (None, segments, words),
    };
    let resource = match words {
        ["providers", "microsoft.network", "bastionhosts"] => Resource::Hosts,
        ["providers", "microsoft.network", "bastionhosts", _] if group.is_some() => {
            Resource::Host { name: segments[3].clone() }
        }
        ["providers", "microsoft.network", "bastionhosts", _, action] if group.is_some() => {
            let action = match *action {
                "getactivesessions" => HostAction::GetActiveSessions,
                "disconnectactivesessions" => HostAction::DisconnectActiveSessions,
                "createshareablelinks" => HostAction::CreateShareableLinks,
                "getshareablelinks" => HostAction::GetShareableLinks,
                "deleteshareablelinks" => HostAction::DeleteShareableLinks,
                "deleteshareablelinksbytoken" => HostAction::DeleteShareableLinksByToken,
                _ => HostAction::Other(segments[4].clone()),
            };
            Resource::HostAction { name: segments[3].clone(), action }
        }
        ["providers", "microsoft.network", "bastionhosts", ..] => Resource::Nothing,
        ["providers", "microsoft.compute", "virtualmachines"] => Resource::Machines,
        ["providers", "microsoft.compute", "virtualmachines", _] if group.is_some() => {
            Resource::Machine { name: segments[3].clone() }
        }
        ["providers", "microsoft.network", "locations", _, "operations", _] if group.is_none() => {
            Resource::OperationStatus { id: segments[5].clone() }
        }
        ["providers", "microsoft.network", "locations", _, "operationresults", _] if group.is_none() => {
            Resource::OperationResult { id: segments[5].clone() }
        }
        ["providers"] if group.is_none() => Resource::Providers,
        ["providers", _] if group.is_none() => Resource::Provider { namespace: segments[1].clone() },
        ["providers", _] => Resource::Foreign { namespace: segments[1].clone(), kind: String::new() },
        ["providers", _, _, ..] => Resource::Foreign { namespace: segments[1].clone(), kind: segments[2].clone() },
        _ => Resource::Nothing,
    };
    ArmPath { subscription, group, resource }
}

fn nothing() -> ArmPath {
    ArmPath { subscription: None, group: None, resource: Resource::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(resource: Resource) -> Route {
        Route::Arm(ArmPath { subscription: Some("subid".to_owned()), group: Some("rg1".to_owned()), resource })
    }

    #[test]
    fn paths_of_the_reference_and_of_real_clients() {
        let action = |action| host(Resource::HostAction { name: "bastionhosttenant".to_owned(), action });
        let base = "/subscriptions/subid/resourceGroups/rg1/providers/Microsoft.Network/bastionHosts/bastionhosttenant";
        assert_eq!(parse(&format!("{base}/getActiveSessions")), action(HostAction::GetActiveSessions));
        assert_eq!(parse(&format!("{base}/disconnectActiveSessions")), action(HostAction::DisconnectActiveSessions));
        assert_eq!(parse(&format!("{base}/createShareableLinks")), action(HostAction::CreateShareableLinks));
        assert_eq!(parse(&format!("{base}/restart")), action(HostAction::Other("restart".to_owned())));
        assert_eq!(parse(base), host(Resource::Host { name: "bastionhosttenant".to_owned() }));
        assert_eq!(parse(&format!("/{}//", base)), parse(base));
        assert_eq!(parse(&format!("{base}/getActiveSessions/more")), host(Resource::Nothing));
        assert_eq!(
            parse("/subscriptions/"),
            Route::Arm(ArmPath { subscription: None, group: None, resource: Resource::Subscriptions })
        );
        assert_eq!(
            parse("/subscriptions/subid/providers/Microsoft.Network/bastionHosts"),
            Route::Arm(ArmPath { subscription: Some("subid".to_owned()), group: None, resource: Resource::Hosts })
        );
        assert_eq!(
            parse("/subscriptions/subid/resourceGroups/rg1/providers/Microsoft.Compute/virtualMachines/vm%2F01"),
            host(Resource::Machine { name: "vm/01".to_owned() })
        );
        assert_eq!(
            parse("/subscriptions/subid/resourceGroups/rg1/providers/Microsoft.Storage/storageAccounts/a"),
            host(Resource::Foreign { namespace: "Microsoft.Storage".to_owned(), kind: "storageAccounts".to_owned() })
        );
        let operation = "/subscriptions/subid/providers/Microsoft.Network/locations/local/operationResults/7";
        let subscription = Some("subid".to_owned());
        let resource = Resource::OperationResult { id: "7".to_owned() };
        assert_eq!(parse(operation), Route::Arm(ArmPath { subscription, group: None, resource }));
        assert_eq!(parse("//metadata/endpoints"), Route::CloudMetadata);
        assert_eq!(parse("/adfs/.well-known/openid-configuration"), Route::Discovery(Authority::Adfs));
        assert_eq!(parse("/adfs/oauth2/token"), Route::Token(Authority::Adfs));
        let tenant = || Authority::Tenant("T".to_owned());
        assert_eq!(parse("/T/v2.0/.well-known/openid-configuration"), Route::Discovery(tenant()));
        assert_eq!(parse("/T/oauth2/v2.0/token"), Route::Token(tenant()));
        assert_eq!(parse("/T/discovery/v2.0/keys"), Route::Keys(tenant()));
        assert_eq!(parse("/T/oauth2/v2.0/authorize"), Route::OtherLogin);
        let tunnel = |path: &str| match parse(path) {
            Route::Tunnel(tunnel) => tunnel,
            other => panic!("{path}: {other:?}"),
        };
        assert!(tunnel("/api/tokens") == TunnelPath::Tokens);
        assert!(tunnel("//API/Tokens/aB_-1") == TunnelPath::Token("aB_-1".to_owned()));
        assert!(tunnel("/api/connection") == TunnelPath::Connection);
        assert!(tunnel("/webtunnelv2/aB") == TunnelPath::Socket("aB".to_owned()));
        assert!(tunnel("/omni/webtunnel/aB") == TunnelPath::Socket("aB".to_owned()));
        assert!(tunnel("/webtunnel/aB") == TunnelPath::OlderSocket("aB".to_owned()));
        assert_eq!(format!("{:?}", parse("/webtunnelv2/secret")), "Tunnel(Socket(…))");
        assert_eq!(parse("/api/shareable-url/aB"), Route::SharedLink("aB".to_owned()));
        for elsewhere in ["/api", "/webtunnelv2", "/webtunnel/a/b", "/omni/a", "/api/tokens/a/b"] {
            assert_eq!(parse(elsewhere), Route::Elsewhere, "{elsewhere}");
        }
        for elsewhere in ["", "/", "/api/v1/sessions", "/healthz", "/metadata", "/console/oauth", "/a%FF/oauth2/token"]
        {
            assert_eq!(parse(elsewhere), Route::Elsewhere, "{elsewhere}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_still_answered_by_whose_it_is() {
        assert_eq!(parse("/SUBSCRIPTIONS/%FF%FE"), Route::Arm(nothing()));
        assert_eq!(parse(&format!("/subscriptions/{}", "a".repeat(10_000))), Route::Arm(nothing()));
        assert_eq!(parse(&format!("/other/{}", "a".repeat(10_000))), Route::Elsewhere);
    }

    proptest! {
        #[test]
        fn never_panics(path in "\\PC{0,200}") {
            let _route = parse(&path);
        }

        #[test]
        fn never_panics_near_the_real_words(parts in prop::collection::vec(
            prop::sample::select(vec!["subscriptions", "resourceGroups", "providers", "Microsoft.Network",
                "bastionHosts", "getActiveSessions", "adfs", "oauth2", "v2.0", "token", "api", "tokens", "webtunnelv2", "omni", "webtunnel", "Microsoft.Compute",
                "virtualMachines", "locations", "operations", "operationResults", "x", "", "%2F", "%ff"]), 0..12)) {
            let _route = parse(&format!("/{}", parts.join("/")));
        }

        #[test]
        fn fixed_words_are_compared_without_regard_to_case(flips in prop::collection::vec(any::<bool>(), 130)) {
            let path = "/subscriptions/0/resourcegroups/1/providers/microsoft.network/bastionhosts/2/getactivesessions";
            let flip = |(c, up): (char, &bool)| if *up { c.to_ascii_uppercase() } else { c };
            let flipped: String = path.chars().zip(&flips).map(flip).collect();
            prop_assert_eq!(parse(&flipped), parse(path));
        }
    }
}
