//! The operations that a client can call, as data: what goes in, what comes out, in which order.
//!
//! AWS's command line makes its flags, its checks, its skeletons and the order of its output from such a description.
//! Names, order, choices and bounds are those of the service model `ssm`, API version 2014-11-06, as botocore 1.43.62
//! carries it, read 2026-11; the sentences are ours.

use super::value::{Map, Value};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// As `X-Amz-Target` names it, such as `DescribeSessions`.
    pub name: &'static str,
    /// As the command line names it, such as `describe-sessions`.
    pub command: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// What goes in; a structure.
    pub input: Shape,
    /// What comes out; a structure.
    pub output: Shape,
    /// The member of the output that a listing is about, when its answer comes in pages. Then the input has
    /// `MaxResults` and `NextToken`, and the output `NextToken`.
    pub paged: Option<&'static str>,
}

/// What a value looks like.
#[derive(Debug)]
pub enum Shape {
    /// Named members in this order.
    Structure {
        /// Those without which a request is refused.
        required: &'static [&'static str],
        /// All of them.
        members: &'static [Member],
    },
    /// A list of at least `min` items.
    List {
        /// What each item looks like.
        of: &'static Shape,
        /// Items at least.
        min: usize,
    },
    /// Free names, one shape.
    Map {
        /// What each value looks like.
        of: &'static Shape,
    },
    /// Text of at least `min` characters.
    Text {
        /// Characters at least.
        min: usize,
        /// What the service knows; it says no to others itself.
        choices: &'static [&'static str],
    },
    /// A whole number.
    Integer {
        /// The least one.
        min: Option<i128>,
    },
    /// Yes or no.
    Boolean,
    /// Seconds since 1970.
    Time,
}

/// One member of a structure.
#[derive(Debug)]
pub struct Member {
    /// As the service spells it.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// One sentence for people who fill it in; empty in outputs.
    pub about: &'static str,
}

impl Shape {
    /// The members of a structure; none for anything else.
    #[must_use]
    pub fn members(&self) -> &'static [Member] {
        match self {
            Shape::Structure { members, .. } => members,
            Shape::List { .. }
            | Shape::Map { .. }
            | Shape::Text { .. }
            | Shape::Integer { .. }
            | Shape::Boolean
            | Shape::Time => &[],
        }
    }

    /// What is required of a structure; nothing for anything else.
    #[must_use]
    pub fn required(&self) -> &'static [&'static str] {
        match self {
            Shape::Structure { required, .. } => required,
            Shape::List { .. }
            | Shape::Map { .. }
            | Shape::Text { .. }
            | Shape::Integer { .. }
            | Shape::Boolean
            | Shape::Time => &[],
        }
    }
}

const fn text(min: usize) -> Shape {
    Shape::Text { min, choices: &[] }
}

const fn choice(choices: &'static [&'static str]) -> Shape {
    Shape::Text { min: 0, choices }
}

const fn out(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, about: "" }
}

const fn input(name: &'static str, shape: Shape, about: &'static str) -> Member {
    Member { name, shape, about }
}

const PAGE_SIZE: &str = "Items in one answer at most.";
const PAGE_TOKEN: &str = "Where to go on, from an earlier answer.";
const SESSION_ID: &str = "The id of the session.";
const FILTERS: &str = "What must hold for an item to be listed.";
const FILTER_KEY: &str = "What the filter looks at.";
const FILTER_VALUES: &str = "What it must be equal to; one of them is enough.";

const WORDS: Shape = Shape::List { of: &text(1), min: 1 };

const CHANNEL: Shape = Shape::Structure {
    required: &[],
    members: &[out("SessionId", text(1)), out("TokenValue", text(0)), out("StreamUrl", text(0))],
};

/// All that can be called.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "DescribeInstanceInformation",
        command: "describe-instance-information",
        about: "List the targets that sessions can lead to",
        input: Shape::Structure {
            required: &[],
            members: &[
                input(
                    "InstanceInformationFilterList",
                    Shape::List {
                        of: &Shape::Structure {
                            required: &["key", "valueSet"],
                            members: &[
                                input(
                                    "key",
                                    choice(&[
                                        "InstanceIds",
                                        "AgentVersion",
                                        "PingStatus",
                                        "PlatformTypes",
                                        "ActivationIds",
                                        "IamRole",
                                        "ResourceType",
                                        "AssociationStatus",
                                    ]),
                                    FILTER_KEY,
                                ),
                                input("valueSet", WORDS, FILTER_VALUES),
                            ],
                        },
                        min: 0,
                    },
                    "The older form of filters.",
                ),
                input(
                    "Filters",
                    Shape::List {
                        of: &Shape::Structure {
                            required: &["Key", "Values"],
                            members: &[input("Key", text(1), FILTER_KEY), input("Values", WORDS, FILTER_VALUES)],
                        },
                        min: 0,
                    },
                    FILTERS,
                ),
                input("MaxResults", Shape::Integer { min: Some(5) }, PAGE_SIZE),
                input("NextToken", text(0), PAGE_TOKEN),
            ],
        },
        output: Shape::Structure {
            required: &[],
            members: &[
                out(
                    "InstanceInformationList",
                    Shape::List {
                        of: &Shape::Structure {
                            required: &[],
                            members: &[
                                out("InstanceId", text(0)),
                                out("PingStatus", text(0)),
                                out("LastPingDateTime", Shape::Time),
                                out("AgentVersion", text(0)),
                                out("IsLatestVersion", Shape::Boolean),
                                out("PlatformType", text(0)),
                                out("PlatformName", text(0)),
                                out("PlatformVersion", text(0)),
                                out("ActivationId", text(0)),
                                out("IamRole", text(0)),
                                out("RegistrationDate", Shape::Time),
                                out("ResourceType", text(0)),
                                out("Name", text(0)),
                                out("IPAddress", text(0)),
                                out("ComputerName", text(0)),
                                out("AssociationStatus", text(0)),
                                out("LastAssociationExecutionDate", Shape::Time),
                                out("LastSuccessfulAssociationExecutionDate", Shape::Time),
                                out(
                                    "AssociationOverview",
                                    Shape::Structure {
                                        required: &[],
                                        members: &[
                                            out("DetailedStatus", text(0)),
                                            out(
                                                "InstanceAssociationStatusAggregatedCount",
                                                Shape::Map { of: &Shape::Integer { min: None } },
                                            ),
                                        ],
                                    },
                                ),
                                out("SourceId", text(0)),
                                out("SourceType", text(0)),
                                out("SourceLocation", text(0)),
                            ],
                        },
                        min: 0,
                    },
                ),
                out("NextToken", text(0)),
            ],
        },
        paged: Some("InstanceInformationList"),
    },
    Operation {
        name: "DescribeSessions",
        command: "describe-sessions",
        about: "List the sessions that are live, or those that ended within the last 30 days",
        input: Shape::Structure {
            required: &["State"],
            members: &[
                input("State", choice(&["Active", "History"]), "Live sessions, or those that have ended."),
                input("MaxResults", Shape::Integer { min: Some(1) }, PAGE_SIZE),
                input("NextToken", text(0), PAGE_TOKEN),
                input(
                    "Filters",
                    Shape::List {
                        of: &Shape::Structure {
                            required: &["key", "value"],
                            members: &[
                                input(
                                    "key",
                                    choice(&[
                                        "InvokedAfter",
                                        "InvokedBefore",
                                        "Target",
                                        "Owner",
                                        "Status",
                                        "SessionId",
                                        "AccessType",
                                    ]),
                                    FILTER_KEY,
                                ),
                                input("value", text(1), "What it must be equal to; a time for the first two."),
                            ],
                        },
                        min: 1,
                    },
                    FILTERS,
                ),
            ],
        },
        output: Shape::Structure {
            required: &[],
            members: &[
                out(
                    "Sessions",
                    Shape::List {
                        of: &Shape::Structure {
                            required: &[],
                            members: &[
                                out("SessionId", text(1)),
                                out("Target", text(1)),
                                out("Status", text(0)),
                                out("StartDate", Shape::Time),
                                out("EndDate", Shape::Time),
                                out("DocumentName", text(0)),
                                out("Owner", text(1)),
                                out("Reason", text(1)),
                                out("Details", text(1)),
                                out(
                                    "OutputUrl",
                                    Shape::Structure {
                                        required: &[],
                                        members: &[out("S3OutputUrl", text(1)), out("CloudWatchOutputUrl", text(1))],
                                    },
                                ),
                                out("MaxSessionDuration", text(1)),
                                out("AccessType", text(0)),
                            ],
                        },
                        min: 0,
                    },
                ),
                out("NextToken", text(0)),
            ],
        },
        paged: Some("Sessions"),
    },
    Operation {
        name: "GetConnectionStatus",
        command: "get-connection-status",
        about: "Say whether a target can be reached",
        input: Shape::Structure {
            required: &["Target"],
            members: &[input("Target", text(1), "The target, by any of its names.")],
        },
        output: Shape::Structure { required: &[], members: &[out("Target", text(1)), out("Status", text(0))] },
        paged: None,
    },
    Operation {
        name: "ResumeSession",
        command: "resume-session",
        about: "Get a new token for a session whose connection was lost",
        input: Shape::Structure { required: &["SessionId"], members: &[input("SessionId", text(1), SESSION_ID)] },
        output: CHANNEL,
        paged: None,
    },
    Operation {
        name: "StartSession",
        command: "start-session",
        about: "Open a session on a target",
        input: Shape::Structure {
            required: &["Target"],
            members: &[
                input("Target", text(1), "The target, by any of its names."),
                input("DocumentName", text(0), "The document that says what kind of session it is."),
                input("Reason", text(1), "Why; others will read it in lists and records."),
                input("Parameters", Shape::Map { of: &WORDS }, "What the document wants to know."),
            ],
        },
        output: CHANNEL,
        paged: None,
    },
    Operation {
        name: "TerminateSession",
        command: "terminate-session",
        about: "End a session for good",
        input: Shape::Structure { required: &["SessionId"], members: &[input("SessionId", text(1), SESSION_ID)] },
        output: Shape::Structure { required: &[], members: &[out("SessionId", text(1))] },
        paged: None,
    },
];

/// The operation that a command names.
#[must_use]
pub fn operation(command: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.command == command)
}

/// How times are shown.
#[derive(Clone, Debug)]
pub enum Times {
    /// As they came.
    Wire,
    /// ISO 8601 in this time zone, to the microsecond where there is a fraction.
    Iso(TimeZone),
}

/// Brings an answer into the model's form: members that are known, in the model's order, without nulls.
///
/// # Errors
/// With a sentence when a list or an object was promised and something else came.
pub fn read(shape: &Shape, value: Value, name: &str, times: &Times) -> Result<Value, String> {
    match (shape, value) {
        (Shape::Structure { members, .. }, Value::Map(mut sent)) => {
            let mut known = Map::with_capacity(members.len());
            for member in *members {
                match sent.swap_remove(member.name) {
                    None | Some(Value::Null) => {}
                    Some(value) => {
                        known.insert(member.name.to_owned(), read(&member.shape, value, member.name, times)?);
                    }
                }
            }
            Ok(Value::Map(Box::new(known)))
        }
        (Shape::List { of, .. }, Value::List(items)) => {
            items.into_iter().map(|item| read(of, item, name, times)).collect::<Result<_, _>>().map(Value::List)
        }
        (Shape::Map { of }, Value::Map(members)) => members
            .into_iter()
            .map(|(key, value)| read(of, value, name, times).map(|value| (key, value)))
            .collect::<Result<Map, _>>()
            .map(|members| Value::Map(Box::new(members))),
        (Shape::Structure { .. } | Shape::Map { .. }, other) => Err(wrong(name, "an object", &other)),
        (Shape::List { .. }, other) => Err(wrong(name, "a list", &other)),
        (Shape::Time, value) => Ok(time(value, times)),
        (Shape::Text { .. } | Shape::Integer { .. } | Shape::Boolean, value) if value.is_scalar() => Ok(value),
        (Shape::Text { .. } | Shape::Integer { .. } | Shape::Boolean, other) => {
            Err(wrong(name, "a plain value", &other))
        }
    }
}

fn wrong(name: &str, wanted: &str, value: &Value) -> String {
    let what = if name.is_empty() { "the answer" } else { name };
    format!("{what} should be {wanted} and is of type {}", value.python_type())
}

fn time(value: Value, times: &Times) -> Value {
    let Times::Iso(zone) = times else { return value };
    let at = match &value {
        Value::Int(seconds) => i64::try_from(*seconds).ok().and_then(|seconds| Timestamp::new(seconds, 0).ok()),
        Value::Float(seconds) => moment(*seconds),
        Value::Text(text) => text.parse::<f64>().ok().and_then(moment).or_else(|| text.parse().ok()),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
    };
    at.map_or(value, |at| Value::Text(iso(&at.to_zoned(zone.clone()))))
}

/// Seconds with a fraction, to the nearest microsecond, halves to even.
fn moment(seconds: f64) -> Option<Timestamp> {
    let (whole, fraction) = (seconds.trunc(), seconds.fract());
    #[expect(clippy::cast_possible_truncation, reason = "both are bounded by the range test")]
    (-1e11..1e11).contains(&seconds).then(|| {
        let micros = (fraction * 1e6).round_ties_even() as i64;
        Timestamp::from_microsecond((whole as i64) * 1_000_000 + micros).ok()
    })?
}

fn iso(at: &Zoned) -> String {
    let micros = at.timestamp().subsec_microsecond().rem_euclid(1_000_000);
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    let offset = at.offset().seconds();
    let (sign, offset) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
    let seconds = if offset % 60 == 0 { String::new() } else { format!(":{:02}", offset % 60) };
    format!("{}{fraction}{sign}{:02}:{:02}{seconds}", at.strftime("%Y-%m-%dT%H:%M:%S"), offset / 3600, offset / 60 % 60)
}

/// A value that shows what to fill in, with empty texts and the first of several choices.
#[must_use]
pub fn input_skeleton(shape: &Shape) -> Value {
    skeleton(shape, None, "")
}

/// A value that shows what an answer looks like, with names in place of texts. `epoch` stands for each time.
#[must_use]
pub fn output_skeleton(shape: &Shape, epoch: &str) -> Value {
    skeleton(shape, Some(epoch), "")
}

fn skeleton(shape: &Shape, epoch: Option<&str>, name: &str) -> Value {
    match shape {
        Shape::Structure { members, .. } => Value::map(
            members.iter().map(|member| (member.name.to_owned(), skeleton(&member.shape, epoch, member.name))),
        ),
        Shape::List { of, .. } => Value::List(vec![skeleton(of, epoch, name)]),
        Shape::Map { of } => Value::map([("KeyName".to_owned(), skeleton(of, epoch, name))]),
        Shape::Text { choices, .. } => match (epoch, choices.first()) {
            (Some(_), _) => Value::text(name),
            (None, Some(first)) => Value::text(*first),
            (None, None) => Value::text(""),
        },
        Shape::Integer { .. } => Value::Int(0),
        Shape::Boolean => Value::Bool(true),
        Shape::Time => Value::text(epoch.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Json;
    use super::*;
    use crate::wire;

    fn read_as(times: &Times, text: &str) -> Result<String, String> {
        let value = Value::parse(text.as_bytes()).expect("JSON");
        let operation = operation("describe-sessions").expect("it is there");
        read(&operation.output, value, "", times).map(|value| value.to_json(Json::Line))
    }

    #[test]
    fn an_answer_is_brought_into_the_models_order_without_what_is_unknown_or_null() {
        let text = r#"{"Zz":1,"Sessions":[{"Reason":null,"StartDate":1550676938.352,"SessionId":"a","New":{}}],"NextToken":"t"}"#;
        assert_eq!(
            read_as(&Times::Wire, text).expect("readable"),
            r#"{"Sessions": [{"SessionId": "a", "StartDate": 1550676938.352}], "NextToken": "t"}"#
        );
    }

    #[test]
    fn what_is_of_another_kind_is_named() {
        let wire = Times::Wire;
        assert_eq!(read_as(&wire, "[]").expect_err("no object"), "the answer should be an object and is of type list");
        assert_eq!(
            read_as(&wire, r#"{"Sessions":{}}"#).expect_err("no list"),
            "Sessions should be a list and is of type dict"
        );
        assert_eq!(
            read_as(&wire, r#"{"Sessions":["x"]}"#).expect_err("no object"),
            "Sessions should be an object and is of type str"
        );
        assert_eq!(
            read_as(&wire, r#"{"NextToken":[]}"#).expect_err("no text"),
            "NextToken should be a plain value and is of type list"
        );
    }

    #[test]
    fn times_are_iso_where_that_is_wanted() {
        let utc = Times::Iso(TimeZone::UTC);
        for (sent, shown) in [
            ("1550676938.352", "\"2019-02-20T15:35:38.352000+00:00\""),
            ("1550676842", "\"2019-02-20T15:34:02+00:00\""),
            ("1550676842.0", "\"2019-02-20T15:34:02+00:00\""),
            ("-0.5", "\"1969-12-31T23:59:59.500000+00:00\""),
            ("\"2019-02-20T15:34:02Z\"", "\"2019-02-20T15:34:02+00:00\""),
            ("1e300", "1e+300"),
            ("\"x\"", "\"x\""),
        ] {
            let text = format!(r#"{{"Sessions":[{{"StartDate":{sent}}}]}}"#);
            assert_eq!(
                read_as(&utc, &text).expect("readable"),
                format!(r#"{{"Sessions": [{{"StartDate": {shown}}}]}}"#)
            );
        }
        let east = Times::Iso(TimeZone::fixed(jiff::tz::offset(5)));
        assert!(
            read_as(&east, r#"{"Sessions":[{"StartDate":0}]}"#)
                .expect("readable")
                .contains("1970-01-01T05:00:00+05:00")
        );
    }

    /// Whatever the server half can say, the client half shows.
    #[test]
    fn the_models_members_are_those_of_the_wire() {
        let session = wire::Session {
            session_id: "a".to_owned(),
            target: "b".to_owned(),
            status: "Terminated",
            start_date: wire::Timestamp(1),
            end_date: Some(wire::Timestamp(2)),
            document_name: Some("c".to_owned()),
            owner: "d".to_owned(),
            reason: Some("e".to_owned()),
            details: Some("f".to_owned()),
            output_url: Some(wire::SessionManagerOutputUrl {
                s3_output_url: Some("g".to_owned()),
                cloud_watch_output_url: Some("h".to_owned()),
            }),
            max_session_duration: Some("60".to_owned()),
            access_type: "Standard",
        };
        let answer = wire::DescribeSessionsResponse { sessions: vec![session], next_token: Some("t".to_owned()) };
        let sent = serde_json::to_vec(&answer).expect("JSON");
        let value = Value::parse(&sent).expect("JSON");
        let operation = operation("describe-sessions").expect("it is there");
        let shown = read(&operation.output, value, "", &Times::Wire).expect("readable");
        assert_eq!(shown.to_json(Json::Tight).as_bytes(), sent, "same members, same order");
    }

    #[test]
    fn skeletons_show_every_member() {
        let sessions = operation("describe-sessions").expect("it is there");
        assert_eq!(
            input_skeleton(&sessions.input).to_json(Json::Line),
            r#"{"State": "Active", "MaxResults": 0, "NextToken": "", "Filters": [{"key": "InvokedAfter", "value": ""}]}"#
        );
        let status = operation("get-connection-status").expect("it is there");
        assert_eq!(
            output_skeleton(&status.output, "").to_json(Json::Line),
            r#"{"Target": "Target", "Status": "Status"}"#
        );
        let start = operation("start-session").expect("it is there");
        assert_eq!(
            input_skeleton(&start.input).to_json(Json::Line),
            r#"{"Target": "", "DocumentName": "", "Reason": "", "Parameters": {"KeyName": [""]}}"#
        );
    }
}
