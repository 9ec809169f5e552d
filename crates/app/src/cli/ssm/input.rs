//! From options to a request: files, JSON, YAML and the short form become values of the operation's input.

use super::args::{self, Options};
use super::fault::{Fault, Generation};
use ravelin_aws::client::check;
use ravelin_aws::client::page::NEXT_TOKEN;
use ravelin_aws::client::shape::{Member, Operation, Shape};
use ravelin_aws::client::shorthand;
use ravelin_aws::client::value::{Map, Value, repr_bytes};
use std::io::Read;

/// Bytes of a file that an option names, at most.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The member for the size of a page.
pub(super) const MAX_RESULTS: &str = "MaxResults";

/// What a listing is told beside its request.
#[derive(Debug, Default)]
pub(super) struct Paging {
    pub(super) starting_token: Option<String>,
    pub(super) page_size: Option<i128>,
    pub(super) max_items: Option<i128>,
    /// Whether pages are followed at all.
    pub(super) on: bool,
}

/// The request that the options describe, and how its pages are turned.
pub(super) fn read(
    operation: &'static Operation,
    globals: &Options,
    options: &Options,
    generation: Generation,
) -> Result<(Map, Paging), Fault> {
    let mut paging = Paging { on: operation.paged.is_some() && !globals.has("no-paginate"), ..Paging::default() };
    if operation.paged.is_some() {
        let manual = [NEXT_TOKEN, MAX_RESULTS].iter().any(|member| options.has(&args::option_of(member)));
        if manual {
            paging.on = false;
        }
        let number = |name: &str| options.one(name).and_then(args::number);
        paging.starting_token = options.one("starting-token").map(str::to_owned);
        (paging.page_size, paging.max_items) = (number("page-size"), number("max-items"));
        let used: Vec<&str> = [
            ("--starting-token", paging.starting_token.as_ref().is_some_and(|token| !token.is_empty())),
            ("--page-size", paging.page_size.is_some_and(|size| size != 0)),
            ("--max-items", paging.max_items.is_some_and(|items| items != 0)),
        ]
        .into_iter()
        .filter_map(|(name, used)| used.then_some(name))
        .collect();
        if !paging.on && !used.is_empty() {
            let message = format!("Cannot specify --no-paginate along with pagination arguments: {}", used.join(", "));
            return Err(Fault::paging(message));
        }
        if generation == Generation::One && paging.max_items.is_some_and(|items| items <= 0) {
            eprintln!("warning: Non-positive values for --max-items may result in undefined behavior.");
        }
    }
    let mut request = Map::new();
    for member in operation.input.members() {
        let name = args::option_of(member.name);
        if let Some(values) = options.all(&name) {
            request.insert(member.name.to_owned(), value(member, &format!("--{name}"), values)?);
        }
    }
    let written = whole(options, generation)?;
    if let Some(written) = written {
        // In the second generation a token or a size in there turns paging off; in the first it does not.
        if generation == Generation::Two && [NEXT_TOKEN, MAX_RESULTS].iter().any(|name| written.contains_key(*name)) {
            paging.on = false;
        }
        for (name, value) in written {
            request.entry(name).or_insert(value);
        }
    }
    let given = paging.starting_token.is_some() || paging.page_size.is_some() || paging.max_items.is_some();
    if !paging.on && given {
        // What the aws CLI hands to botocore then is a member that no operation has.
        request.insert("PaginationConfig".to_owned(), Value::Null);
    }
    Ok((request, paging))
}

/// Fails with all that botocore would find.
pub(super) fn checked(operation: &Operation, request: &Map) -> Result<(), Fault> {
    let faults = check::check(&operation.input, &Value::Map(Box::new(request.clone())));
    if faults.is_empty() { Ok(()) } else { Err(Fault::validation(&faults)) }
}

fn value(member: &'static Member, option: &str, values: &[String]) -> Result<Value, Fault> {
    let from_file = match values {
        [only] => file(only).map_err(|error| Fault::parsing(option, error))?,
        _ => None,
    };
    let values = match from_file {
        None => values.to_vec(),
        Some(Content::Text(text)) => vec![text],
        Some(Content::Bytes(bytes)) => {
            let line = check::wrong_type(member.name, &repr_bytes(&bytes), "bytes", &member.shape);
            return Err(Fault::validation(&[line]));
        }
    };
    match &member.shape {
        Shape::Structure { .. } | Shape::Map { .. } => {
            let text = values.first().map(String::as_str).unwrap_or_default();
            if is_json(text) { json(option, text) } else { short(option, text, &member.shape) }
        }
        Shape::List { of, .. } => match values.first() {
            Some(first) if first.trim_start().starts_with('[') => match &values[..] {
                [only] => json(option, only),
                _ => Err(Fault::parsing(option, format_args!("Invalid JSON:\n{first}"))),
            },
            Some(first) if first.trim_start().starts_with('{') => {
                values.iter().map(|text| json(option, text)).collect::<Result<_, _>>().map(Value::List)
            }
            _ => values.iter().map(|text| short(option, text, of)).collect::<Result<_, _>>().map(Value::List),
        },
        Shape::Text { .. } | Shape::Time => Ok(Value::text(values.first().map(String::as_str).unwrap_or_default())),
        Shape::Integer { .. } => {
            let text = values.first().map(String::as_str).unwrap_or_default();
            args::number(text).map(Value::Int).ok_or_else(|| not_a_number(text))
        }
        Shape::Boolean => Ok(Value::Bool(values.first().is_none_or(|text| !text.eq_ignore_ascii_case("false")))),
    }
}

/// Python's words for it.
pub(super) fn not_a_number(text: &str) -> Fault {
    Fault::other(format!("invalid literal for int() with base 10: {}", Value::text(text).to_repr()))
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['[', '{'])
}

fn json(option: &str, text: &str) -> Result<Value, Fault> {
    Value::parse(text.as_bytes())
        .map_err(|error| Fault::parsing(option, format_args!("Invalid JSON: {error}\nJSON received: {text}")))
}

fn short(option: &str, text: &str, shape: &Shape) -> Result<Value, Fault> {
    let file = |text: &str| match file(text)? {
        None => Ok(None),
        Some(Content::Text(text)) => Ok(Some(text)),
        Some(Content::Bytes(bytes)) => Ok(Some(repr_bytes(&bytes))),
    };
    let parsed = shorthand::parse(text, &file).map_err(|fault| Fault::parsing(option, fault))?;
    fitted(shape, Value::Map(Box::new(parsed)))
}

/// In the short form a list of one item looks like the item, and a number looks like text.
fn fitted(shape: &Shape, value: Value) -> Result<Value, Fault> {
    match (shape, value) {
        (Shape::Structure { members, .. }, Value::Map(given)) => {
            let fit = |(name, value): (String, Value)| match members.iter().find(|member| member.name == name) {
                None => Ok((name, value)),
                Some(member) => fitted(&member.shape, value).map(|value| (name, value)),
            };
            given.into_iter().map(fit).collect::<Result<Map, _>>().map(|map| Value::Map(Box::new(map)))
        }
        (Shape::Map { of }, Value::Map(given)) => given
            .into_iter()
            .map(|(name, value)| fitted(of, value).map(|value| (name, value)))
            .collect::<Result<Map, _>>()
            .map(|map| Value::Map(Box::new(map))),
        (Shape::List { of, .. }, Value::List(items)) => {
            items.into_iter().map(|item| fitted(of, item)).collect::<Result<_, _>>().map(Value::List)
        }
        (Shape::List { of, .. }, item) => Ok(Value::List(vec![fitted(of, item)?])),
        (Shape::Integer { .. }, Value::Text(text)) => {
            args::number(&text).map(Value::Int).ok_or_else(|| not_a_number(&text))
        }
        (Shape::Boolean, Value::Text(text)) => Ok(Value::Bool(text.eq_ignore_ascii_case("true"))),
        (_, value) => Ok(value),
    }
}

/// What `--cli-input-json` or `--cli-input-yaml` holds.
fn whole(options: &Options, generation: Generation) -> Result<Option<Map>, Fault> {
    let (option, text, yaml) = match (options.one("cli-input-json"), options.one("cli-input-yaml")) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(Fault::parameter("Only one --cli-input- parameter may be specified.")),
        (Some(json), None) => ("cli-input-json", json, false),
        (None, Some(yaml)) => ("cli-input-yaml", yaml, true),
    };
    let text = match file(text).map_err(|error| Fault::parsing(&format!("--{option}"), error))? {
        None => text.to_owned(),
        Some(Content::Text(text)) => text,
        Some(Content::Bytes(bytes)) => String::from_utf8(bytes)
            .map_err(|_| Fault::parsing(&format!("--{option}"), "the file is not UTF-8 text"))?,
    };
    let value = if yaml {
        serde_saphyr::from_str::<Value>(&text).map_err(|_| Fault::parsing(option, "Invalid YAML received."))?
    } else {
        Value::parse(text.as_bytes()).map_err(|error| match generation {
            Generation::One => Fault::parsing(option, format_args!("Invalid JSON: {error}\nJSON received: {text}")),
            Generation::Two => Fault::parsing(option, "Invalid JSON received."),
        })?
    };
    match value {
        Value::Map(members) => Ok(Some(*members)),
        other => Err(Fault::parsing(
            &format!("--{option}"),
            format_args!("Invalid type: expecting map, received <class '{}'>", other.python_type()),
        )),
    }
}

/// What a file holds.
enum Content {
    Text(String),
    Bytes(Vec<u8>),
}

/// The content of the file that a value of the form `file://…` or `fileb://…` names.
fn file(text: &str) -> Result<Option<Content>, String> {
    let (path, binary) = match (text.strip_prefix("file://"), text.strip_prefix("fileb://")) {
        (Some(path), _) => (path, false),
        (None, Some(path)) => (path, true),
        (None, None) => return Ok(None),
    };
    let path = expanded(path);
    let unreadable = |error: std::io::Error| {
        let because = match (error.kind(), error.raw_os_error()) {
            (std::io::ErrorKind::NotFound, Some(code)) => format!("[Errno {code}] No such file or directory"),
            (std::io::ErrorKind::PermissionDenied, Some(code)) => format!("[Errno {code}] Permission denied"),
            (std::io::ErrorKind::IsADirectory, Some(code)) => format!("[Errno {code}] Is a directory"),
            _ => error.to_string(),
        };
        format!("Unable to load paramfile {text}: {because}: {}", Value::text(path.as_str()).to_repr())
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("Unable to load paramfile {text}: it is larger than {FILE_BYTES_MAX} bytes"));
    }
    if binary {
        return Ok(Some(Content::Bytes(bytes)));
    }
    String::from_utf8(bytes).map(|text| Some(Content::Text(text))).map_err(|_| {
        format!(
            "Unable to load paramfile ({path}), text contents could not be decoded.  If this is a binary file, please use \
             the fileb:// prefix instead of the file:// prefix."
        )
    })
}

/// A path with `~` for the home folder.
fn expanded(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_aws::client::shape::operation;
    use ravelin_aws::client::value::Json;

    fn request(command: &str, line: &[&str]) -> Result<String, String> {
        let operation = operation(command).expect("it is there");
        let tokens: Vec<String> = line.iter().map(ToString::to_string).collect();
        let line = args::globals(&tokens).expect("globals");
        let options = args::of_operation(operation, &line.rest).expect("options");
        let (request, _paging) =
            read(operation, &line.globals, &options, Generation::One).map_err(|fault| fault.message)?;
        checked(operation, &request).map_err(|fault| fault.message)?;
        Ok(Value::Map(Box::new(request)).to_json(Json::Line))
    }

    #[test]
    fn both_forms_of_a_value_make_the_same_request() {
        let json =
            r#"{"State": "Active", "Filters": [{"key": "Owner", "value": "a"}, {"key": "Status", "value": "b"}]}"#;
        for filters in [
            &["key=Owner,value=a", "key=Status,value=b"][..],
            &[r#"[{"key":"Owner","value":"a"},{"key":"Status","value":"b"}]"#],
            &[r#"{"key":"Owner","value":"a"}"#, r#"{"key":"Status","value":"b"}"#],
        ] {
            let line = [&["--state", "Active", "--filters"], filters].concat();
            assert_eq!(request("describe-sessions", &line).as_deref(), Ok(json));
        }
        assert_eq!(
            request("start-session", &["--target", "x", "--parameters", "portNumber=22,host=a,b"]).as_deref(),
            Ok(r#"{"Target": "x", "Parameters": {"portNumber": ["22"], "host": ["a", "b"]}}"#)
        );
        assert_eq!(
            request("describe-instance-information", &["--filters", "Key=tag:a,Values=b", "--max-results", "5"])
                .as_deref(),
            Ok(r#"{"Filters": [{"Key": "tag:a", "Values": ["b"]}], "MaxResults": 5}"#)
        );
    }

    #[test]
    fn options_win_over_a_written_request() {
        let written = r#"{"State":"History","MaxResults":2}"#;
        assert_eq!(
            request("describe-sessions", &["--cli-input-json", written, "--state", "Active"]).as_deref(),
            Ok(r#"{"State": "Active", "MaxResults": 2}"#)
        );
        let yaml = "State: History\nFilters:\n- key: Owner\n  value: '1'\n";
        assert_eq!(
            request("describe-sessions", &["--cli-input-yaml", yaml]).as_deref(),
            Ok(r#"{"State": "History", "Filters": [{"key": "Owner", "value": "1"}]}"#)
        );
    }

    /// The texts of aws-cli 1.46.3, and of 2.9.19 where the first knows no YAML.
    #[test]
    fn what_cannot_be_read_is_told_in_the_aws_clis_words() {
        let filters =
            |text: &str| request("describe-sessions", &["--state", "A", "--filters", text]).expect_err("unreadable");
        let head = "Error parsing parameter '--filters': ";
        assert_eq!(
            filters("["),
            format!("{head}Invalid JSON: Expecting value: line 1 column 2 (char 1)\nJSON received: [")
        );
        assert_eq!(
            filters(r#"[{"key":"a""#),
            format!(
                "{head}Invalid JSON: Expecting ',' delimiter: line 1 column 12 (char 11)\nJSON received: [{{\"key\":\"a\""
            )
        );
        assert_eq!(filters(""), format!("{head}Expected: '=', received: 'EOF' for input:\n\n^"));
        let written = |option: &str, text: &str| request("describe-sessions", &[option, text]).expect_err("unreadable");
        assert_eq!(
            written("--cli-input-json", "{"),
            "Error parsing parameter 'cli-input-json': Invalid JSON: Expecting property name enclosed in double quotes: \
             line 1 column 2 (char 1)\nJSON received: {"
        );
        assert_eq!(
            written("--cli-input-json", "[1]"),
            "Error parsing parameter '--cli-input-json': Invalid type: expecting map, received <class 'list'>"
        );
        assert_eq!(
            written("--cli-input-yaml", "[: ]"),
            "Error parsing parameter 'cli-input-yaml': Invalid YAML received."
        );
        assert_eq!(
            request("describe-sessions", &["--state", "file:///nonexistent/x"]),
            Err(
                "Error parsing parameter '--state': Unable to load paramfile file:///nonexistent/x: [Errno 2] No such \
                 file or directory: '/nonexistent/x'"
                    .to_owned()
            )
        );
        assert_eq!(
            request("describe-sessions", &["--state", "A", "--max-results", "x"]),
            Err("invalid literal for int() with base 10: 'x'".to_owned())
        );
    }

    #[test]
    fn files_stand_for_values() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state");
        std::fs::write(&path, "History").expect("a file");
        let named = |prefix: &str| format!("{prefix}{}", path.display());
        assert_eq!(
            request("describe-sessions", &["--state", &named("file://")]).as_deref(),
            Ok(r#"{"State": "History"}"#)
        );
        assert_eq!(
            request("describe-sessions", &["--state", &named("fileb://")]).expect_err("bytes"),
            "Parameter validation failed:\nInvalid type for parameter State, value: b'History', type: <class 'bytes'>, valid \
             types: <class 'str'>"
        );
        std::fs::write(&path, b"\xff").expect("a file");
        assert!(
            request("describe-sessions", &["--state", &named("file://")])
                .expect_err("no text")
                .contains("could not be decoded")
        );
    }

    #[test]
    fn paging_options_exclude_a_single_page() {
        let said = |line: &[&str]| request("describe-sessions", &[&["--state", "A"], line].concat()).expect_err("no");
        let head = "Cannot specify --no-paginate along with pagination arguments: ";
        assert_eq!(said(&["--no-paginate", "--max-items", "2"]), format!("{head}--max-items"));
        assert_eq!(
            said(&["--max-results", "2", "--page-size", "2", "--starting-token", "x"]),
            format!("{head}--starting-token, --page-size")
        );
        assert_eq!(
            said(&["--no-paginate", "--max-items", "0"]),
            "Parameter validation failed:\nUnknown parameter in input: \"PaginationConfig\", must be one of: State, \
             MaxResults, NextToken, Filters"
        );
    }
}
