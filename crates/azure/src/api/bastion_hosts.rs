//! `GET`, `PUT`, `PATCH` and `DELETE` of `…/bastionHosts/{name}`, and the lists: this bastion as a resource. Source:
//! <https://learn.microsoft.com/rest/api/virtualnetwork/bastion-hosts/get>.
//!
//! The host is what Ravelin's own configuration says. Only its tags can be changed here; a `PUT` of what stands succeeds,
//! so that tools which declare resources find nothing to do, and any other is told which member differs.

use crate::config::Config;
use crate::map;
use crate::proto::body;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The one host, as the caller reaches it.
pub(crate) async fn read(
    control: &Control,
    caller: &Caller,
    config: &Config,
    look: map::HostLook<'_>,
) -> Result<wire::BastionHost, Fault> {
    let tags = tags_of(control.description(caller).await?)?;
    Ok(map::bastion_host(config, look, tags))
}

/// The list of one, in the subscription as in the group.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
    look: map::HostLook<'_>,
) -> Result<wire::ListResult<wire::BastionHost>, Fault> {
    Ok(wire::ListResult { value: vec![read(control, caller, config, look).await?] })
}

/// `PATCH`: other tags, in the place of all that were there.
pub(crate) async fn update_tags(
    control: &Control,
    caller: &Caller,
    config: &Config,
    look: map::HostLook<'_>,
    content: &[u8],
) -> Result<wire::BastionHost, Fault> {
    control.write_bastion(caller).await?;
    let document = body::document(content).map_err(Fault::Field)?;
    for (member, value) in &document {
        if member != "tags" && !is_nothing(value) {
            return Err(Fault::HostIsConfigured(format!("{} cannot be changed here", shown(member))));
        }
    }
    note_tags(control, caller, document.get("tags")).await?;
    read(control, caller, config, look).await
}

/// `PUT`: nothing but what stands, and perhaps other tags.
pub(crate) async fn create_or_update(
    control: &Control,
    caller: &Caller,
    config: &Config,
    look: map::HostLook<'_>,
    content: &[u8],
) -> Result<wire::BastionHost, Fault> {
    control.write_bastion(caller).await?;
    let wanted = body::document(content).map_err(Fault::Field)?;
    let standing = read(control, caller, config, look).await?;
    let Ok(Value::Object(standing)) = serde_json::to_value(&standing) else {
        return Err(Refusal::internal("a bastion host is no object").into());
    };
    if let Some(difference) = difference(&wanted, &standing, "") {
        return Err(Fault::HostIsConfigured(difference));
    }
    note_tags(control, caller, wanted.get("tags")).await?;
    read(control, caller, config, look).await
}

/// `DELETE`: the truth about it.
pub(crate) async fn delete(control: &Control, caller: &Caller) -> Result<(), Fault> {
    control.write_bastion(caller).await?;
    Err(Fault::HostIsConfigured("it is there for as long as Ravelin runs; stop the service to remove it".to_owned()))
}

async fn note_tags(control: &Control, caller: &Caller, tags: Option<&Value>) -> Result<(), Fault> {
    let Some(tags) = tags.filter(|tags| !tags.is_null()) else { return Ok(()) };
    let tags = body::tags(tags).map_err(Fault::Field)?;
    if tags_of(control.description(caller).await?)? == tags {
        return Ok(());
    }
    let text = serde_json::to_string(&tags).map_err(Refusal::internal)?;
    Ok(control.describe_as(caller, text).await?)
}

fn tags_of(description: Option<String>) -> Result<BTreeMap<String, String>, Fault> {
    let tags = description.map(|text| serde_json::from_str(&text)).transpose();
    Ok(tags.map_err(Refusal::internal)?.unwrap_or_default())
}

/// Members that the service decides and passes over in what clients send.
const READ_ONLY: [&str; 6] = ["id", "name", "type", "etag", "properties.dnsName", "properties.provisioningState"];

/// The first member of `wanted` that is otherwise in `standing`, and how it is there.
fn difference(wanted: &Map<String, Value>, standing: &Map<String, Value>, above: &str) -> Option<String> {
    let differs = |(member, wanted): (&String, &Value)| {
        let path = format!("{above}{}", shown(member));
        if READ_ONLY.contains(&path.as_str()) || path == "tags" {
            return None;
        }
        match (wanted, standing.get(member)) {
            (Value::Null, _) => None,
            (Value::Object(wanted), Some(Value::Object(standing))) => difference(wanted, standing, &format!("{path}.")),
            (Value::String(wanted), Some(Value::String(standing))) if is_same(&path, wanted, standing) => None,
            // Some clients write every number with a point.
            (Value::Number(wanted), Some(Value::Number(standing))) if wanted.as_f64() == standing.as_f64() => None,
            (wanted, Some(standing)) if wanted == standing => None,
            (_, Some(standing)) => Some(format!("{path} is {standing}")),
            (wanted, None) if is_nothing(wanted) => None,
            (_, None) => Some(format!("{path} is not set")),
        }
    };
    wanted.iter().find_map(differs)
}

/// Whether two texts say the same. A region has a name for people too, with blanks in it.
fn is_same(path: &str, wanted: &str, standing: &str) -> bool {
    wanted.eq_ignore_ascii_case(standing)
        || (path == "location" && wanted.replace(' ', "").eq_ignore_ascii_case(&standing.replace(' ', "")))
}

/// Whether a value says no more than its absence would.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(is_nothing),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn shown(member: &str) -> String {
    member.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_put_of_what_stands_differs_in_nothing() {
        let standing = json!({ "location": "local", "sku": { "name": "Standard" }, "tags": { "a": "b" },
            "properties": { "scaleUnits": 2, "enableTunneling": true, "enableFileCopy": false, "ipConfigurations": [],
                            "dnsName": "one" } });
        let differs = |wanted: Value| {
            let (Value::Object(wanted), Value::Object(standing)) = (wanted, standing.clone()) else { panic!() };
            difference(&wanted, &standing, "")
        };
        assert_eq!(differs(standing.clone()), None);
        assert_eq!(differs(json!({ "location": "LOCAL", "zones": [], "properties": { "dnsName": "two" } })), None);
        assert_eq!(differs(json!({ "location": "Lo cal", "properties": { "scaleUnits": 2.0 } })), None);
        assert_eq!(differs(json!({ "tags": { "x": "y" }, "properties": { "enableKerberos": false } })), None);
        let text = |wanted| differs(wanted).expect("a difference");
        assert_eq!(text(json!({ "sku": { "name": "Basic" } })), "sku.name is \"Standard\"");
        assert_eq!(text(json!({ "properties": { "scaleUnits": 2.5 } })), "properties.scaleUnits is 2");
        assert_eq!(text(json!({ "properties": { "enableFileCopy": true } })), "properties.enableFileCopy is false");
        assert_eq!(text(json!({ "properties": { "ipConfigurations": [{}] } })), "properties.ipConfigurations is []");
        assert_eq!(text(json!({ "properties": { "enableKerberos": true } })), "properties.enableKerberos is not set");
    }
}
