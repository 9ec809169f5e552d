//! `GetConnectionStatus`: whether a target takes connections now.
//!
//! A target that is unknown, or that the caller may not know of, is `notconnected`, as an unknown one is at AWS. Source:
//! API reference of `GetConnectionStatus`, API version 2014-11-06, read 2026-11.

use super::Call;
use crate::proto::request;
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::wire;
use ravelin_engine::Control;

const TARGET_CHARS_MAX: usize = 400;

pub(crate) async fn answer(control: &Control, call: &Call<'_>) -> Result<wire::GetConnectionStatusResponse, Fault> {
    let request = request::connection_status(call.body).map_err(Fault::Unreadable)?;
    let mut violations = Violations::default();
    let name = violations.text("target", request.target.as_deref(), 1, TARGET_CHARS_MAX);
    let name = violations.settle(name).map_err(Fault::Violations)?;
    let connected = match control.target(call.caller, name) {
        Ok(target) => control.reaches(&target).await,
        Err(_unknown_or_hidden) => false,
    };
    let status = if connected { "connected" } else { "notconnected" };
    Ok(wire::GetConnectionStatusResponse { target: name.to_owned(), status })
}
