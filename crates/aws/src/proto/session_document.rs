//! Session documents: text in, a plan out; and the parameters that a caller gives to one.
//!
//! A document of type `Session` says what kind of session it starts, with which properties and limits. Its texts may hold
//! `{{ name }}`, where a parameter's value is put when a session starts. Everything that could not be kept
//! (encryption by a key service) is refused when the document is written, not passed over when it is used.
//!
//! Source: "Session document schema" (schema version 1.0) and "Start a session with a document" of the AWS Systems
//! Manager user guide, read 2026-11; the built-in documents as `aws ssm get-document` shows them there.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest pattern that a parameter may have, in bytes, and the memory that it may cost.
const PATTERN_BYTES_MAX: usize = 1024;
const PATTERN_MEMORY_MAX: usize = 1 << 20;
/// Parameters that a document may declare.
const PARAMETERS_MAX: usize = 64;
/// Longest text that a property may become once its parameters are put in, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Why a document is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its text cannot be read or says what it may not.
    #[error("{0}")]
    Content(String),
    /// It is of another schema.
    #[error("schemaVersion must be \"1.0\" for a document of type Session, it is {0}")]
    Schema(String),
}

/// Why parameters do not fit their document. The text names the parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

/// What kind of session a document starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// A shell.
    StandardStream,
    /// A command on a terminal.
    InteractiveCommands,
    /// A command without one.
    NonInteractiveCommands,
    /// A port, or a plain stream.
    Port,
}

impl SessionType {
    /// All kinds.
    pub const ALL: [Self; 4] =
        [Self::StandardStream, Self::InteractiveCommands, Self::NonInteractiveCommands, Self::Port];

    /// As documents and handshakes spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::StandardStream => "Standard_Stream",
            Self::InteractiveCommands => "InteractiveCommands",
            Self::NonInteractiveCommands => "NonInteractiveCommands",
            Self::Port => "Port",
        }
    }
}

/// A parameter that a document declares.
#[derive(Clone, Debug)]
struct Parameter {
    /// `StringList` takes several values, `String` one.
    is_list: bool,
    default: Option<String>,
    allowed_values: Vec<String>,
    allowed_pattern: Option<Regex>,
}

/// A document, understood.
#[derive(Clone, Debug)]
pub struct SessionDocument {
    /// What it says of itself; may be empty.
    pub description: String,
    /// What kind of session it starts.
    pub session_type: SessionType,
    parameters: BTreeMap<String, Parameter>,
    properties: Map<String, Value>,
    /// A session without a byte either way for this long is ended.
    pub idle_max: Option<Duration>,
    /// A session ends after this.
    pub duration_max: Option<Duration>,
    /// As whom to log in on the target, where the document says so.
    pub run_as: Option<String>,
    /// What is typed into a shell on Linux when it starts.
    pub shell_profile: Option<String>,
    /// Where the output of its sessions is put, where it says so.
    pub logs: LogWishes,
}

/// Where a document wants the output of its sessions to be put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWishes {
    /// In a bucket, one object for each session.
    pub bucket: Option<LogWish>,
    /// In a log group, one stream for each session.
    pub group: Option<LogWish>,
}

/// A place that a document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWish {
    /// The bucket, or the log group.
    pub name: String,
    /// What stands before the names of objects, without slashes around it; may be empty.
    pub prefix: String,
    /// Whether a session may only start when what is there is encrypted.
    pub encrypted: bool,
    /// Whether lines are sent as they come, and not once the session is over.
    pub streams: bool,
}

/// What a session does, with its parameters in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A shell.
    Shell,
    /// A command on a terminal.
    Interactive {
        /// The command.
        command: String,
    },
    /// A command without a terminal.
    NonInteractive {
        /// The command.
        command: String,
        /// Whether its two streams and its exit code are told apart.
        separate: bool,
    },
    /// A port at the far side, behind a listener of the client's.
    Forward {
        /// Where to.
        to: Destination,
        /// The port that the client listens on; empty lets it choose.
        local_port: String,
        /// The socket that the client listens on instead, if any.
        local_socket: String,
    },
    /// One connection, on the client's own input and output: what ssh is given.
    Stream {
        /// The port of the target itself.
        port: u16,
    },
}

/// Where a forwarded connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A port of the target itself.
    Own {
        /// The port.
        port: u16,
    },
    /// A port of another host, which the target connects to.
    Remote {
        /// Host name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket of the target.
    Socket {
        /// Its path.
        path: String,
    },
}

impl SessionDocument {
    /// Reads a document's text.
    ///
    /// # Errors
    /// [`Fault`]: the first thing that is wrong, by name.
    pub fn read(content: &Value) -> Result<Self, Fault> {
        let top = content.as_object().ok_or_else(|| wrong("the document must be an object"))?;
        match top.get("schemaVersion") {
            Some(Value::String(version)) if version == "1.0" => {}
            Some(other) => return Err(Fault::Schema(other.to_string())),
            None => return Err(Fault::Schema("absent".to_owned())),
        }
        let word = text(top, "", "sessionType")?.ok_or_else(|| wrong("sessionType must be there"))?;
        let session_type = SessionType::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
            let known: Vec<&str> = SessionType::ALL.into_iter().map(SessionType::word).collect();
            Fault::Content(format!("sessionType must be one of [{}]", known.join(", ")))
        })?;
        let parameters = match top.get("parameters") {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(Value::Object(declared)) if declared.len() <= PARAMETERS_MAX => declared
                .iter()
                .map(|(name, value)| Ok((name.clone(), parameter(name, value)?)))
                .collect::<Result<_, Fault>>()?,
            Some(Value::Object(_)) => {
                return Err(Fault::Content(format!("parameters must be at most {PARAMETERS_MAX}")));
            }
            Some(_) => return Err(wrong("parameters must be an object")),
        };
        let properties = match top.get("properties") {
            None | Some(Value::Null) => Map::new(),
            // AWS's own schema knows a text here, for shells, and uses it for nothing.
            Some(Value::String(text)) if text.is_empty() => Map::new(),
            Some(Value::Object(properties)) => properties.clone(),
            Some(_) => return Err(wrong("properties must be an object")),
        };
        let empty = Map::new();
        let inputs = match top.get("inputs") {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(inputs)) => inputs,
            Some(_) => return Err(wrong("inputs must be an object")),
        };
        if text(inputs, "inputs.", "kmsKeyId")?.is_some_and(|value| !value.is_empty()) {
            return Err(wrong(
                "inputs.kmsKeyId cannot be kept here: clients would ask AWS's own key service, and TLS protects the \
                 channel; leave it empty",
            ));
        }
        let logs = log_wishes(inputs, session_type)?;
        let run_as = text(inputs, "inputs.", "runAsDefaultUser")?.filter(|user| !user.is_empty());
        let run_as_enabled = flag(inputs, "inputs.", "runAsEnabled")?;
        let shell_profile = match inputs.get("shellProfile") {
            None | Some(Value::Null) => None,
            Some(Value::Object(profile)) => text(profile, "inputs.shellProfile.", "linux")?,
            Some(_) => return Err(wrong("inputs.shellProfile must be an object")),
        };
        let document = Self {
            description: text(top, "", "description")?.unwrap_or_default(),
            session_type,
            parameters,
            properties,
            idle_max: minutes(inputs, "idleSessionTimeout", 60)?,
            duration_max: minutes(inputs, "maxSessionDuration", 1440)?,
            run_as: run_as.filter(|_| run_as_enabled),
            shell_profile: shell_profile.filter(|profile| !profile.trim().is_empty()),
            logs,
        };
        document.check_shape()?;
        Ok(document)
    }

    /// Whether the properties are those of the kind, whatever the parameters will be.
    fn check_shape(&self) -> Result<(), Fault> {
        let shape = match self.session_type {
            SessionType::StandardStream => Ok(()),
            SessionType::InteractiveCommands | SessionType::NonInteractiveCommands => {
                self.command_template().map(|_| ())
            }
            SessionType::Port => match (self.property("portNumber"), self.property("remoteUnixSocket")) {
                (None, None) => Err("properties.portNumber must be there".to_owned()),
                _ => Ok(()),
            },
        };
        shape.map_err(Fault::Content)
    }

    fn property(&self, name: &str) -> Option<String> {
        match self.properties.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Bool(flag)) => Some(flag.to_string()),
            _ => None,
        }
    }

    fn command_template(&self) -> Result<String, String> {
        let linux = self.properties.get("linux").and_then(Value::as_object);
        let commands = linux.and_then(|linux| linux.get("commands")).and_then(Value::as_str);
        commands.map(str::to_owned).ok_or_else(|| "properties.linux.commands must be a text".to_owned())
    }

    /// What a session of this document does with these parameters.
    ///
    /// # Errors
    /// [`Misfit`] for a parameter that is missing, not declared, or not what it may be.
    pub fn plan(&self, given: &BTreeMap<String, Vec<String>>) -> Result<Plan, Misfit> {
        let values = self.values(given)?;
        let put = |template: &str| fill(template, &values);
        let property = |name: &str| self.property(name).map(|template| put(&template)).transpose();
        match self.session_type {
            SessionType::StandardStream => Ok(Plan::Shell),
            SessionType::InteractiveCommands | SessionType::NonInteractiveCommands => {
                let command = put(&self.command_template().map_err(Misfit)?)?;
                if command.trim().is_empty() {
                    return Err(Misfit("the command must not be empty".to_owned()));
                }
                if self.session_type == SessionType::InteractiveCommands {
                    return Ok(Plan::Interactive { command });
                }
                let separate = property("separateOutputStream")?.is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
                Ok(Plan::NonInteractive { command, separate })
            }
            SessionType::Port => {
                let forwards = property("type")?.is_some_and(|kind| kind == "LocalPortForwarding");
                let local_port = property("localPortNumber")?.unwrap_or_default();
                if !matches!(local_port.as_str(), "" | "0") {
                    port("localPortNumber", &local_port)?;
                }
                let host = property("host")?.filter(|host| !host.is_empty());
                let socket = property("remoteUnixSocket")?.filter(|path| !path.is_empty());
                let to = match (socket, host) {
                    (Some(path), _) if path.starts_with('/') => Destination::Socket { path },
                    (Some(_), _) => return Err(Misfit("the socket must be an absolute path".to_owned())),
                    (None, host) => {
                        let number = property("portNumber")?.unwrap_or_default();
                        let port = port("portNumber", &number)?;
                        match host {
                            Some(host) => Destination::Remote { host: host_name(&host)?, port },
                            None => Destination::Own { port },
                        }
                    }
                };
                if forwards {
                    let local_socket = property("localUnixSocket")?.unwrap_or_default();
                    return Ok(Plan::Forward { to, local_port, local_socket });
                }
                match to {
                    Destination::Own { port } => Ok(Plan::Stream { port }),
                    Destination::Remote { .. } | Destination::Socket { .. } => {
                        Err(Misfit("a plain stream leads to a port of the target itself".to_owned()))
                    }
                }
            }
        }
    }

    /// Every parameter's value: the given one, or the default.
    fn values(&self, given: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, String>, Misfit> {
        if let Some(unknown) = given.keys().find(|name| !self.parameters.contains_key(*name)) {
            let shown: String = unknown.chars().take(64).collect();
            return Err(Misfit(format!("Parameter '{shown}' is not defined in the document")));
        }
        let mut values = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let value = match given.get(name).map(Vec::as_slice) {
                None | Some([]) => match &parameter.default {
                    Some(default) => default.clone(),
                    None => return Err(Misfit(format!("Parameter '{name}' is required"))),
                },
                Some([one]) => one.clone(),
                Some(many) if parameter.is_list => many.join(","),
                Some(_) => return Err(Misfit(format!("Parameter '{name}' takes one value"))),
            };
            let fits = parameter.allowed_pattern.as_ref().is_none_or(|pattern| pattern.is_match(&value))
                && (parameter.allowed_values.is_empty() || parameter.allowed_values.contains(&value));
            if !fits {
                return Err(Misfit(format!("Parameter '{name}' has a value that the document does not allow")));
            }
            values.insert(name.clone(), value);
        }
        Ok(values)
    }
}

fn wrong(text: &str) -> Fault {
    Fault::Content(text.to_owned())
}

fn text(map: &Map<String, Value>, place: &str, name: &str) -> Result<Option<String>, Fault> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Fault::Content(format!("{place}{name} must be a text"))),
    }
}

fn flag(map: &Map<String, Value>, place: &str, name: &str) -> Result<bool, Fault> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        // Templates write flags as text.
        Some(Value::String(text)) if matches!(text.as_str(), "" | "false" | "true") => Ok(text == "true"),
        Some(_) => Err(Fault::Content(format!("{place}{name} must be true or false"))),
    }
}

/// Minutes as documents write them: a text, or a number; empty for none.
fn minutes(inputs: &Map<String, Value>, name: &str, max: u64) -> Result<Option<Duration>, Fault> {
    let minutes = match inputs.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text.parse::<u64>().ok(),
        Some(Value::Number(number)) => number.as_u64(),
        Some(_) => None,
    };
    match minutes.filter(|minutes| (1..=max).contains(minutes)) {
        Some(minutes) => Ok(Some(Duration::from_secs(60 * minutes))),
        None => Err(Fault::Content(format!("inputs.{name} must be a number of minutes from 1 to {max}"))),
    }
}

fn parameter(name: &str, value: &Value) -> Result<Parameter, Fault> {
    let place = format!("parameters.{name}.");
    let map = value.as_object().ok_or_else(|| Fault::Content(format!("parameters.{name} must be an object")))?;
    let kind = text(map, &place, "type")?.unwrap_or_default();
    if !matches!(kind.as_str(), "String" | "StringList" | "Integer" | "Boolean") {
        return Err(Fault::Content(format!("{place}type must be String, StringList, Integer or Boolean")));
    }
    let default = match map.get("default") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(flag)) => Some(flag.to_string()),
        Some(_) => return Err(Fault::Content(format!("{place}default must be a text"))),
    };
    let allowed_values = match map.get("allowedValues") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| Fault::Content(format!("{place}allowedValues must be texts")))?,
        Some(_) => return Err(Fault::Content(format!("{place}allowedValues must be a list"))),
    };
    let allowed_pattern = text(map, &place, "allowedPattern")?.map(|pattern| compile(&place, &pattern)).transpose()?;
    Ok(Parameter { is_list: kind == "StringList", default, allowed_values, allowed_pattern })
}

/// Longest name of a bucket or a log group, and longest prefix of objects.
const PLACE_BYTES_MAX: usize = 512;

/// What a document says of logs. Names may be empty, as the preferences have them that AWS's console writes; then the
/// other members say nothing.
fn log_wishes(inputs: &Map<String, Value>, session_type: SessionType) -> Result<LogWishes, Fault> {
    let named = |member: &'static str| -> Result<Option<String>, Fault> {
        let name = text(inputs, "inputs.", member)?.filter(|name| !name.is_empty());
        if let Some(name) = &name {
            if name.len() > PLACE_BYTES_MAX || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Fault::Content(format!("inputs.{member} is not a name")));
            }
            if session_type == SessionType::Port {
                return Err(Fault::Content(format!(
                    "inputs.{member} cannot be kept: sessions of type Port are not logged; leave it empty"
                )));
            }
        }
        Ok(name)
    };
    let (bucket, group) = (named("s3BucketName")?, named("cloudWatchLogGroupName")?);
    let prefix = text(inputs, "inputs.", "s3KeyPrefix")?.unwrap_or_default();
    let prefix = prefix.trim_matches('/');
    let safe = |c: char| c.is_ascii_alphanumeric() || "!-_.'()".contains(c);
    let fits = |part: &str| !part.is_empty() && part.chars().all(safe) && !matches!(part, "." | "..");
    if prefix.len() > PLACE_BYTES_MAX || !(prefix.is_empty() || prefix.split('/').all(fits)) {
        return Err(wrong("inputs.s3KeyPrefix may hold letters, digits, ! - _ . ' ( ) and slashes between them"));
    }
    let (s3_encrypted, group_encrypted) =
        (flag(inputs, "inputs.", "s3EncryptionEnabled")?, flag(inputs, "inputs.", "cloudWatchEncryptionEnabled")?);
    let streams = flag(inputs, "inputs.", "cloudWatchStreamingEnabled")?;
    let wish = |name, prefix: &str, encrypted, streams| LogWish { name, prefix: prefix.to_owned(), encrypted, streams };
    Ok(LogWishes {
        bucket: bucket.map(|name| wish(name, prefix, s3_encrypted, false)),
        group: group.map(|name| wish(name, "", group_encrypted, streams)),
    })
}

/// The whole value has to match, whether or not the pattern says so.
fn compile(place: &str, pattern: &str) -> Result<Regex, Fault> {
    let refused = || Fault::Content(format!("{place}allowedPattern is not a regular expression that can be used here"));
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(refused());
    }
    let whole = format!("^(?:{pattern})$");
    RegexBuilder::new(&whole).size_limit(PATTERN_MEMORY_MAX).build().map_err(|_unusable| refused())
}

/// Puts values where a template names them. A value is never looked at again: what looks like a name in it stays.
fn fill(template: &str, values: &BTreeMap<String, String>) -> Result<String, Misfit> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        match after.split_once("}}") {
            Some((name, after)) => match values.get(name.trim()) {
                Some(value) => {
                    filled.push_str(value);
                    rest = after;
                }
                None => {
                    let shown: String = name.trim().chars().take(64).collect();
                    return Err(Misfit(format!("the document uses a parameter '{shown}' that it does not define")));
                }
            },
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
        if filled.len() > TEXT_BYTES_MAX {
            return Err(Misfit(format!("a property has more than {TEXT_BYTES_MAX} bytes")));
        }
    }
    filled.push_str(rest);
    if filled.len() > TEXT_BYTES_MAX {
        return Err(Misfit(format!("a property has more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(filled)
}

fn port(name: &str, text: &str) -> Result<u16, Misfit> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| Misfit(format!("Parameter '{name}' must be a port number from 1 to 65535")))
}

fn host_name(text: &str) -> Result<String, Misfit> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:[]%".contains(c);
    if text.len() <= 253 && text.chars().all(plain) {
        Ok(text.trim_start_matches('[').trim_end_matches(']').to_owned())
    } else {
        Err(Misfit("Parameter 'host' must be a host name or an address".to_owned()))
    }
}

/// The documents that are there without anybody having written them: name, and text.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        PREFERENCES,
        r#"{"schemaVersion":"1.0","description":"Document to hold regional settings for Session Manager","sessionType":"Standard_Stream","inputs":{"s3BucketName":"","s3KeyPrefix":"","s3EncryptionEnabled":true,"cloudWatchLogGroupName":"","cloudWatchEncryptionEnabled":true,"cloudWatchStreamingEnabled":false,"kmsKeyId":"","runAsEnabled":false,"runAsDefaultUser":"","idleSessionTimeout":"","maxSessionDuration":"","shellProfile":{"windows":"","linux":""}}}"#,
    ),
    (
        "AWS-StartSSHSession",
        r#"{"schemaVersion":"1.0","description":"Document to start a session that carries an SSH connection","sessionType":"Port","parameters":{"portNumber":{"type":"String","description":"(Optional) Port number of the SSH server on the target","allowedPattern":"^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$","default":"22"}},"properties":{"portNumber":"{{ portNumber }}"}}"#,
    ),
    (
        "AWS-StartPortForwardingSession",
        r#"{"schemaVersion":"1.0","description":"Document to start a port forwarding session","sessionType":"Port","parameters":{"portNumber":{"type":"String","description":"(Optional) Port number of the server on the target","allowedPattern":"^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$","default":"80"},"localPortNumber":{"type":"String","description":"(Optional) Port number on the client; 0 picks one","allowedPattern":"^([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$","default":"0"}},"properties":{"portNumber":"{{ portNumber }}","type":"LocalPortForwarding","localPortNumber":"{{ localPortNumber }}"}}"#,
    ),
    (
        "AWS-StartPortForwardingSessionToRemoteHost",
        r#"{"schemaVersion":"1.0","description":"Document to start a port forwarding session to a remote host through the target","sessionType":"Port","parameters":{"host":{"type":"String","description":"(Optional) Host name or address of the destination","allowedPattern":"^[^,$^&\\(\\)!;\"<>\\`{}\\[\\]\\|#=]{3,}$","default":"localhost"},"portNumber":{"type":"String","description":"(Optional) Port number of the destination","allowedPattern":"^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$","default":"80"},"localPortNumber":{"type":"String","description":"(Optional) Port number on the client; 0 picks one","allowedPattern":"^([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$","default":"0"}},"properties":{"host":"{{ host }}","portNumber":"{{ portNumber }}","type":"LocalPortForwarding","localPortNumber":"{{ localPortNumber }}"}}"#,
    ),
    (
        "AWS-StartPortForwardingSessionToSocket",
        r#"{"schemaVersion":"1.0","description":"Document to start a port forwarding session behind a Unix socket of the client","sessionType":"Port","parameters":{"portNumber":{"type":"String","description":"(Optional) Port number of the server on the target","allowedPattern":"^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$","default":"80"},"localSocket":{"type":"String","description":"(Required) Path of the socket on the client"}},"properties":{"portNumber":"{{ portNumber }}","type":"LocalPortForwarding","localUnixSocket":"{{ localSocket }}","localConnectionType":"unix"}}"#,
    ),
    (
        "AWS-StartInteractiveCommand",
        r#"{"schemaVersion":"1.0","description":"Document to run a command on a terminal","sessionType":"InteractiveCommands","parameters":{"command":{"type":"String","description":"(Required) The command to run on the target"}},"properties":{"linux":{"commands":"{{ command }}","runAsElevated":false}}}"#,
    ),
    (
        "AWS-StartNonInteractiveCommand",
        r#"{"schemaVersion":"1.0","description":"Document to run a command without a terminal","sessionType":"NonInteractiveCommands","parameters":{"command":{"type":"String","description":"(Required) The command to run on the target"},"separateOutputStream":{"type":"String","description":"(Optional) Keep the two streams and the exit code apart","allowedValues":["True","False"],"default":"True"},"stdOutSeparatorPrefix":{"type":"String","description":"(Optional) Not used here: the streams are apart in the protocol","default":""},"stdErrSeparatorPrefix":{"type":"String","description":"(Optional) Not used here: the streams are apart in the protocol","default":""}},"properties":{"linux":{"commands":"{{ command }}","runAsElevated":false},"separateOutputStream":"{{ separateOutputStream }}","stdOutSeparatorPrefix":"{{ stdOutSeparatorPrefix }}","stdErrSeparatorPrefix":"{{ stdErrSeparatorPrefix }}"}}"#,
    ),
    (
        "Ravelin-StartPortForwardingSessionToRemoteSocket",
        r#"{"schemaVersion":"1.0","description":"Document to start a port forwarding session to a Unix socket of the target","sessionType":"Port","parameters":{"socket":{"type":"String","description":"(Required) Path of the socket on the target","allowedPattern":"/.*"},"localPortNumber":{"type":"String","description":"(Optional) Port number on the client; 0 picks one","default":"0"}},"properties":{"remoteUnixSocket":"{{ socket }}","type":"LocalPortForwarding","localPortNumber":"{{ localPortNumber }}"}}"#,
    ),
];

/// The document that steers a session when none is named, and whose limits hold for all.
pub const PREFERENCES: &str = "SSM-SessionManagerRunShell";

/// The text of the built-in document of that name.
#[must_use]
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, content)| *content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn named(name: &str) -> SessionDocument {
        let content = serde_json::from_str(built_in(name).expect("built in")).expect("JSON");
        SessionDocument::read(&content).expect("a document")
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
    }

    fn misfit(name: &str, pairs: &[(&str, &str)]) -> String {
        named(name).plan(&given(pairs)).expect_err("a misfit").to_string()
    }

    #[test]
    fn every_built_in_document_can_be_read() {
        for (name, _) in BUILT_IN {
            let document = named(name);
            assert_eq!((document.idle_max, document.duration_max, document.run_as), (None, None, None), "{name}");
        }
    }

    #[test]
    fn defaults_and_values_are_put_in() {
        assert_eq!(named(PREFERENCES).plan(&given(&[])), Ok(Plan::Shell));
        assert_eq!(named("AWS-StartSSHSession").plan(&given(&[])), Ok(Plan::Stream { port: 22 }));
        assert_eq!(
            named("AWS-StartPortForwardingSessionToRemoteHost")
                .plan(&given(&[("host", "db.internal"), ("portNumber", "5432")])),
            Ok(Plan::Forward {
                to: Destination::Remote { host: "db.internal".to_owned(), port: 5432 },
                local_port: "0".to_owned(),
                local_socket: String::new(),
            })
        );
        assert_eq!(
            named("AWS-StartPortForwardingSessionToSocket").plan(&given(&[("localSocket", "/tmp/x.sock")])),
            Ok(Plan::Forward {
                to: Destination::Own { port: 80 },
                local_port: String::new(),
                local_socket: "/tmp/x.sock".to_owned(),
            })
        );
        assert_eq!(
            named("AWS-StartInteractiveCommand").plan(&given(&[("command", "echo '{{ x }}'")])),
            Ok(Plan::Interactive { command: "echo '{{ x }}'".to_owned() }),
            "a value is not looked at again"
        );
        assert_eq!(
            named("AWS-StartNonInteractiveCommand").plan(&given(&[("command", "id")])),
            Ok(Plan::NonInteractive { command: "id".to_owned(), separate: true })
        );
    }

    #[test]
    fn wrong_parameters_are_named() {
        for bad in ["0", "70000", "22; id", "", "-1", "+22", "022"] {
            assert!(misfit("AWS-StartSSHSession", &[("portNumber", bad)]).contains("'portNumber'"), "{bad}");
        }
        assert!(misfit("AWS-StartSSHSession", &[("port", "22")]).contains("'port'"));
        assert!(misfit("AWS-StartInteractiveCommand", &[]).contains("'command' is required"));
        assert!(misfit("AWS-StartPortForwardingSessionToRemoteHost", &[("host", "a b;c")]).contains("'host'"));
        let two = BTreeMap::from([("portNumber".to_owned(), vec!["22".to_owned(), "23".to_owned()])]);
        assert!(named("AWS-StartSSHSession").plan(&two).expect_err("two").to_string().contains("takes one value"));
    }

    #[test]
    fn what_is_no_session_document_is_refused_by_name() {
        let base = json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream"});
        assert!(SessionDocument::read(&base).is_ok());
        let with = |name: &str, value: Value| {
            let mut changed = base.clone();
            changed[name] = value;
            SessionDocument::read(&changed).expect_err(name).to_string()
        };
        assert!(with("schemaVersion", json!("2.2")).contains("schemaVersion"));
        assert!(with("sessionType", json!("Shell")).contains("sessionType"));
        assert!(with("inputs", json!({"idleSessionTimeout": "61"})).contains("inputs.idleSessionTimeout"));
        assert!(with("inputs", json!({"maxSessionDuration": "0"})).contains("inputs.maxSessionDuration"));
        assert!(with("inputs", json!({"s3BucketName": "my logs"})).contains("inputs.s3BucketName"));
        assert!(with("inputs", json!({"s3BucketName": 7})).contains("inputs.s3BucketName"));
        for prefix in ["a//b", "../x", "a b", "ä", "a%2fb"] {
            let inputs = json!({"s3BucketName": "logs", "s3KeyPrefix": prefix});
            assert!(with("inputs", inputs).contains("inputs.s3KeyPrefix"), "{prefix}");
        }
        let streaming = json!({"cloudWatchLogGroupName": "/a", "cloudWatchStreamingEnabled": "sometimes"});
        assert!(with("inputs", streaming).contains("inputs.cloudWatchStreamingEnabled"));
        for member in ["s3BucketName", "cloudWatchLogGroupName"] {
            let port = json!({
                "schemaVersion": "1.0", "sessionType": "Port", "properties": {"portNumber": "22"},
                "inputs": {member: "logs"},
            });
            let said = SessionDocument::read(&port).expect_err("a port is not logged").to_string();
            assert!(said.contains(&format!("inputs.{member}")) && said.contains("Port"), "{said}");
        }
        assert!(with("inputs", json!({"kmsKeyId": "alias/x"})).contains("inputs.kmsKeyId"));
        assert!(with("parameters", json!({"x": {"type": "Blob"}})).contains("parameters.x.type"));
        assert!(with("parameters", json!({"x": {"type": "String", "allowedPattern": "("}})).contains("allowedPattern"));
        assert!(with("sessionType", json!("Port")).contains("portNumber"));
        assert!(with("sessionType", json!("InteractiveCommands")).contains("commands"));
    }

    #[test]
    fn places_for_logs_are_read_and_empty_names_are_none() {
        let logs = |inputs: Value| {
            let content = json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs});
            SessionDocument::read(&content).expect("a document").logs
        };
        let empty = json!({
            "s3BucketName": "", "s3KeyPrefix": "", "s3EncryptionEnabled": true, "cloudWatchLogGroupName": "",
            "cloudWatchEncryptionEnabled": true, "cloudWatchStreamingEnabled": true,
        });
        assert_eq!(logs(empty), LogWishes::default());
        let wish = |name: &str, prefix: &str, encrypted, streams| {
            Some(LogWish { name: name.to_owned(), prefix: prefix.to_owned(), encrypted, streams })
        };
        let both = json!({
            "s3BucketName": "logs", "s3KeyPrefix": "/team/a/", "s3EncryptionEnabled": true,
            "cloudWatchLogGroupName": "/ssm/sessions", "cloudWatchStreamingEnabled": true,
        });
        let wanted =
            LogWishes { bucket: wish("logs", "team/a", true, false), group: wish("/ssm/sessions", "", false, true) };
        assert_eq!(logs(both), wanted);
    }

    #[test]
    fn limits_and_login_are_read() {
        let document = SessionDocument::read(&json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
            "inputs": {"idleSessionTimeout": "5", "maxSessionDuration": 90, "runAsEnabled": true,
                       "runAsDefaultUser": "deploy", "shellProfile": {"linux": "cd /srv"}},
        }))
        .expect("a document");
        assert_eq!(document.idle_max, Some(Duration::from_secs(300)));
        assert_eq!(document.duration_max, Some(Duration::from_secs(5400)));
        assert_eq!(document.run_as.as_deref(), Some("deploy"));
        assert_eq!(document.shell_profile.as_deref(), Some("cd /srv"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_made_is_bounded(template in ".{0,200}", value in ".{0,200}") {
            let values = BTreeMap::from([("a".to_owned(), value)]);
            if let Ok(filled) = fill(&template, &values) {
                prop_assert!(filled.len() <= TEXT_BYTES_MAX);
            }
        }

        #[test]
        fn a_value_comes_out_as_it_went_in(value in "[^\u{0}]{0,100}") {
            let values = BTreeMap::from([("a".to_owned(), value.clone())]);
            prop_assert_eq!(fill("<{{ a }}>{{a}}", &values), Ok(format!("<{value}>{value}")));
        }
    }
}
