//! Shapes of the service, spelled as the service spells them. No rule and no meaning lives here.
//!
//! Source: service model `ssm`, API version 2014-11-06, as botocore 1.43.62 and 1.44.5 carry it, read 2026-11.
//! Every request member is optional here; what must be there is asked in `api`.

pub mod data_channel;

use serde::{Serialize, Serializer};

/// Input of `DescribeSessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeSessionsRequest {
    /// `State`, required: `Active` or `History`.
    pub state: Option<String>,
    /// `MaxResults`, 1 to 200.
    pub max_results: Option<i64>,
    /// `NextToken`.
    pub next_token: Option<String>,
    /// `Filters`, 1 to 6.
    pub filters: Option<Vec<SessionFilter>>,
}

/// One of the `Filters`; its members are spelled in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// `key`, required.
    pub key: Option<String>,
    /// `value`, required, 1 to 400 characters.
    pub value: Option<String>,
}

/// Output of `DescribeSessions`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSessionsResponse {
    /// The sessions of this page.
    pub sessions: Vec<Session>,
    /// Present if and only if more follow; never empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// 1 to 96 characters.
    pub session_id: String,
    /// 1 to 400 characters.
    pub target: String,
    /// `Connected`, `Connecting`, `Disconnected`, `Terminated`, `Terminating` or `Failed`.
    pub status: &'static str,
    /// When it began.
    pub start_date: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date: Option<Timestamp>,
    /// 3 to 128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_name: Option<String>,
    /// An ARN, 1 to 256 characters.
    pub owner: String,
    /// 1 to 256 characters, no line break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// 1 to 1024 characters. AWS keeps it for future use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Empty on active sessions and absent on others, as in AWS's examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_url: Option<SessionManagerOutputUrl>,
    /// Minutes as text, `1` to `1440`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_session_duration: Option<String>,
    /// `Standard` or `JustInTime`.
    pub access_type: &'static str,
}

/// Both of its members are for future use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SessionManagerOutputUrl {}

/// Input of `TerminateSession`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TerminateSessionRequest {
    /// `SessionId`, required, 1 to 96 characters.
    pub session_id: Option<String>,
}

/// Output of `TerminateSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminateSessionResponse {
    /// The session that has ended.
    pub session_id: String,
}

/// Input of `GetConnectionStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetConnectionStatusRequest {
    /// `Target`, required, 1 to 400 characters.
    pub target: Option<String>,
}

/// Output of `GetConnectionStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetConnectionStatusResponse {
    /// The target as it was named.
    pub target: String,
    /// `connected` or `notconnected`.
    pub status: &'static str,
}

/// A point in time in milliseconds since 1970, written as a JSON number of seconds with at most three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub i64);

impl Serialize for Timestamp {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of the next 285,000 years are exact in a double")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The double next to a decimal of at most 15 digits prints as that decimal, so no fourth decimal can appear.
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps_print_as_documented() {
        for (millis, text) in [(1_550_676_938_352, "1550676938.352"), (1_550_676_938_300, "1550676938.3"), (0, "0.0")] {
            assert_eq!(serde_json::to_string(&Timestamp(millis)).expect("a number"), text);
        }
    }

    proptest! {
        #[test]
        fn no_timestamp_has_a_fourth_decimal(millis in 0_i64..253_402_300_800_000) {
            let text = serde_json::to_string(&Timestamp(millis)).expect("a number");
            let (seconds, decimals) = text.split_once('.').expect("a decimal point");
            prop_assert!(decimals.len() <= 3, "{}", text);
            let back = seconds.parse::<i64>().expect("digits") * 1000
                + format!("{decimals:0<3}").parse::<i64>().expect("digits");
            prop_assert_eq!(back, millis);
        }
    }
}
