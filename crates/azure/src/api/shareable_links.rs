//! `createShareableLinks`, `getShareableLinks`, `deleteShareableLinks` and `deleteShareableLinksByToken`, and the page that
//! a link shows. Source: <https://learn.microsoft.com/rest/api/virtualnetwork/put-bastion-shareable-link/put-bastion-shareable-link>.
//!
//! A link leads to one target and opens nothing: it says which target is meant and how to log in. It expires.

use super::virtual_machines;
use crate::config::Config;
use crate::map;
use crate::proto::body;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;

/// One link for each machine; one that cannot have any says why.
pub(crate) async fn create(
    control: &Control,
    caller: &Caller,
    config: &Config,
    origin: &str,
    content: &[u8],
) -> Result<wire::ListResult<wire::BastionShareableLink>, Fault> {
    control.write_bastion(caller).await?;
    let mut value = Vec::new();
    for vm in named(content)? {
        let shared = match virtual_machines::find(control, caller, config, &vm) {
            Some(target) => control.share(caller, target.name.as_str(), config.link_life).await,
            None => Err(Refusal::not_found("virtual machine", &vm)),
        };
        match shared {
            Ok(link) => value.push(map::shareable_link(&link, vm, origin)),
            Err(refusal @ (Refusal::NotFound { .. } | Refusal::LimitReached { .. })) => {
                let (vm, message) = (wire::SubResource { id: vm }, Some(refusal.to_string()));
                value.push(wire::BastionShareableLink { vm, bsl: None, created_at: None, message });
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(wire::ListResult { value })
}

/// The links to the machines that are named, or all links, as far as the caller may see their targets.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
    origin: &str,
    content: &[u8],
) -> Result<wire::ListResult<wire::BastionShareableLink>, Fault> {
    let wanted = body::machine_ids(content).map_err(Fault::Field)?;
    let links = control.links(caller).await?.into_iter().filter_map(|(link, target)| {
        let vm = map::machine_id(&target, config);
        let named = wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|id| id.eq_ignore_ascii_case(&vm)));
        named.then(|| map::shareable_link(&link, vm, origin))
    });
    Ok(wire::ListResult { value: links.collect() })
}

/// Takes back the links to the machines that are named.
pub(crate) async fn delete(control: &Control, caller: &Caller, config: &Config, content: &[u8]) -> Result<(), Fault> {
    control.write_bastion(caller).await?;
    let vms = named(content)?;
    for (link, target) in control.links(caller).await? {
        let id = map::machine_id(&target, config);
        if vms.iter().any(|vm| vm.eq_ignore_ascii_case(&id)) {
            control.unshare(caller, &link.token).await?;
        }
    }
    Ok(())
}

/// Takes back the links of these tokens. Those that are not there are gone already.
pub(crate) async fn delete_by_token(control: &Control, caller: &Caller, content: &[u8]) -> Result<(), Fault> {
    control.write_bastion(caller).await?;
    for token in body::link_tokens(content).map_err(Fault::Field)? {
        control.unshare(caller, &token).await?;
    }
    Ok(())
}

/// The machines of a body that has to name some.
fn named(content: &[u8]) -> Result<Vec<String>, Fault> {
    let named = body::machine_ids(content).map_err(Fault::Field)?.unwrap_or_default();
    if named.is_empty() {
        return Err(Fault::Field(body::FieldFault::Wrong("vms".to_owned(), "must name a virtual machine".to_owned())));
    }
    Ok(named)
}

/// What a browser shows for a link: which target it leads to, and how to get there.
pub(crate) fn page(target: &str, host: &str, ssh_port: Option<u16>) -> String {
    // An IPv6 address has colons of its own, inside of brackets, which ssh takes for a part of a name.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        Some(_) | None => host,
    };
    let name = name.trim_matches(['[', ']']);
    let ssh = ssh_port.map(|port| format!("<pre>ssh -p {port} YOU:{target}@{name}</pre>\n")).unwrap_or_default();
    document(&format!(
        "<h1>{target}</h1>\n<p>This link says where to go; it lets nobody in. Log in as always:</p>\n{ssh}\
         <p>or with Azure's command line, <code>az network bastion tunnel</code>, after <code>az login</code>.</p>\n"
    ))
}

/// What a browser shows for a link that is not there.
pub(crate) fn no_page() -> String {
    document("<h1>No such link</h1>\n<p>It was taken back, it has expired, or it never was. Ask for another one.</p>\n")
}

/// INVARIANT: nothing in `body` is text of a stranger; names of targets and checked host names have no mark-up in them.
fn document(body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>Ravelin</title>\n{body}</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_the_host_without_its_port() {
        for (host, name) in [
            ("bastion.example:8443", "bastion.example"),
            ("bastion.example", "bastion.example"),
            ("[::1]:8443", "::1"),
            ("[::1]", "::1"),
        ] {
            let page = page("web-1", host, Some(2222));
            assert!(page.contains(&format!("ssh -p 2222 YOU:web-1@{name}</pre>")), "{page}");
        }
    }
}
