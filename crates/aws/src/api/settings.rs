//! `GetServiceSetting`, `UpdateServiceSetting`, `ResetServiceSetting`: those of AWS's settings that say something about
//! sessions.
//!
//! | setting | default | what it does here |
//! |---|---|---|
//! | `/ssm/managed-instance/activation-tier` | `advanced` | with `standard`, no session is started on a managed instance (`mi-`), as at AWS |
//!
//! Source: API reference of the three operations, API version 2014-11-06, read 2026-11.

use super::{Call, of_model};
use crate::proto::request::Members;
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::{map, wire};
use ravelin_engine::{Control, Library};
use ravelin_model::Target;
use ravelin_model::document::Setting;

const SETTING_ID_CHARS_MAX: usize = 1000;
const VALUE_CHARS_MAX: usize = 4096;
const TIER: &str = "/ssm/managed-instance/activation-tier";
const TIERS: &[(&str, ())] = &[("advanced", ()), ("standard", ())];
const TIER_DEFAULT: &str = "advanced";

pub(crate) async fn get(
    control: &Control,
    library: &Library,
    call: &Call<'_>,
) -> Result<wire::ServiceSettingResponse, Fault> {
    let id = setting_id(&members(call)?, Violations::default())?;
    let kept = library.setting(call.caller, id).await.map_err(|refusal| refused(call, refusal, id))?;
    shown(control, call, id, kept).await
}

pub(crate) async fn update(library: &Library, call: &Call<'_>) -> Result<wire::Nothing, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let value = members.text("SettingValue").map_err(Fault::Unreadable)?;
    let value = violations.text("settingValue", value.as_deref(), 1, VALUE_CHARS_MAX).map(str::to_owned);
    if let Some(value) = &value {
        violations.one_of("settingValue", value, TIERS);
    }
    let id = setting_id(&members, violations)?;
    library.change_setting(call.caller, id, value.as_deref()).await.map_err(|refusal| refused(call, refusal, id))?;
    Ok(wire::Nothing {})
}

pub(crate) async fn reset(
    control: &Control,
    library: &Library,
    call: &Call<'_>,
) -> Result<wire::ServiceSettingResponse, Fault> {
    let id = setting_id(&members(call)?, Violations::default())?;
    let kept = library.change_setting(call.caller, id, None).await.map_err(|refusal| refused(call, refusal, id))?;
    shown(control, call, id, kept).await
}

/// Whether the setting lets sessions be started on this target.
pub(crate) async fn check_tier(library: &Library, call: &Call<'_>, target: &Target) -> Result<(), Fault> {
    let instance = map::instance(&target.aliases, &target.id);
    let tier = library.in_force(TIER).await.map_err(|refusal| refused(call, refusal, TIER))?;
    if instance.starts_with("mi-") && tier.is_some_and(|tier| tier.value == "standard") {
        return Err(of_model(
            "BadRequest",
            "Enable advanced-instances tier to use Session Manager with your on-premises instances",
        ));
    }
    Ok(())
}

fn members(call: &Call<'_>) -> Result<Members, Fault> {
    Members::read(call.body).map_err(Fault::Unreadable)
}

/// The setting that is meant, by its id or its ARN.
fn setting_id(members: &Members, mut violations: Violations) -> Result<&'static str, Fault> {
    let id = members.text("SettingId").map_err(Fault::Unreadable)?;
    let id = violations.text("settingId", id.as_deref(), 1, SETTING_ID_CHARS_MAX);
    let id = violations.settle(id).map_err(Fault::Violations)?;
    let name = id.rsplit_once(":servicesetting").map_or(id, |(_, name)| name);
    if name.trim_start_matches('/') == TIER.trim_start_matches('/') {
        return Ok(TIER);
    }
    let shown: String = id.chars().take(128).collect();
    Err(of_model("ServiceSettingNotFound", format!("Setting ID {shown} does not exist here: it steers no sessions.")))
}

fn refused(call: &Call<'_>, refusal: ravelin_model::Refusal, id: &str) -> Fault {
    call.refused(refusal, map::setting_arn(call.region, &call.config.account_id, id))
}

async fn shown(
    control: &Control,
    call: &Call<'_>,
    id: &'static str,
    kept: Option<Setting>,
) -> Result<wire::ServiceSettingResponse, Fault> {
    let customized = kept.is_some();
    let (value, modified, author) = match kept {
        Some(setting) => (setting.value, setting.modified, setting.author.to_string()),
        None => {
            let now = control.now().await.map_err(|refusal| refused(call, refusal, id))?;
            // A default was never set; AWS shows a date all the same, and so do we: that of the question.
            (TIER_DEFAULT.to_owned(), now, "System".to_owned())
        }
    };
    Ok(wire::ServiceSettingResponse {
        service_setting: wire::ServiceSetting {
            setting_id: id,
            setting_value: value,
            last_modified_date: map::timestamp(modified),
            last_modified_user: author,
            arn: map::setting_arn(call.region, &call.config.account_id, id),
            status: if customized { "Customized" } else { "Default" },
        },
    })
}
