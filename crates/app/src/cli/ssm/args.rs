//! The command line as AWS's own takes it: global options anywhere, unique beginnings of names, `=` or a blank before a
//! value, and its messages when something does not fit.

use super::fault::Fault;
use ravelin_aws::client::shape::{Operation, Shape};
use std::collections::BTreeMap;

/// What follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// One value.
    One,
    /// One value or none.
    Perhaps,
    /// As many values as there are.
    Many,
}

struct Flag {
    name: &'static str,
    takes: Takes,
    choices: &'static [&'static str],
}

const fn flag(name: &'static str, takes: Takes) -> Flag {
    Flag { name, takes, choices: &[] }
}

pub(super) const OUTPUTS: &[&str] = &["json", "text", "table", "yaml", "yaml-stream"];
pub(super) const SKELETONS: &[&str] = &["input", "output", "yaml-input"];

/// The options that hold for every command. `aws` has more, about prompting and binary values; none of them would do
/// anything here, so they are unknown.
const GLOBALS: &[Flag] = &[
    flag("debug", Takes::Nothing),
    flag("endpoint-url", Takes::One),
    flag("no-verify-ssl", Takes::Nothing),
    flag("no-paginate", Takes::Nothing),
    Flag { name: "output", takes: Takes::One, choices: OUTPUTS },
    flag("query", Takes::One),
    flag("profile", Takes::One),
    flag("region", Takes::One),
    flag("version", Takes::Nothing),
    Flag { name: "color", takes: Takes::One, choices: &["on", "off", "auto"] },
    flag("no-sign-request", Takes::Nothing),
    flag("ca-bundle", Takes::One),
    flag("cli-read-timeout", Takes::One),
    flag("cli-connect-timeout", Takes::One),
    flag("no-cli-pager", Takes::Nothing),
];

/// Options by name, each with its values; of an option that came twice, the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<String, Vec<String>>);

impl Options {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The one value of an option.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.first()).map(String::as_str)
    }

    /// All values of an option.
    pub(super) fn all(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

/// What a command line says.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) globals: Options,
    /// What follows `ssm` beside global options: the command and its own.
    pub(super) rest: Vec<String>,
}

/// Takes the global options out.
pub(super) fn globals(args: &[String]) -> Result<Line, Fault> {
    let (globals, rest) = options(args, GLOBALS)?;
    Ok(Line { globals, rest })
}

/// The command and what follows it.
pub(super) fn command(rest: &[String]) -> (Option<&str>, Vec<String>) {
    let at = rest.iter().position(|token| is_value(token));
    let others = rest.iter().enumerate().filter(|(index, _)| Some(*index) != at);
    (at.map(|at| rest[at].as_str()), others.map(|(_, token)| token.clone()).collect())
}

/// The option that stands for a member: `MaxResults` is `max-results`.
pub(super) fn option_of(member: &str) -> String {
    let mut name = String::with_capacity(member.len() + 4);
    for (index, c) in member.char_indices() {
        if c.is_ascii_uppercase() && index > 0 {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// The options of a command.
///
/// # Errors
/// When one is unknown, has no value or too many, or a required one is missing.
pub(super) fn of_operation(operation: &Operation, args: &[String]) -> Result<Options, Fault> {
    let members: Vec<(String, Takes)> = operation
        .input
        .members()
        .iter()
        .map(|member| {
            let takes = match member.shape {
                Shape::List { .. } => Takes::Many,
                Shape::Structure { .. }
                | Shape::Map { .. }
                | Shape::Text { .. }
                | Shape::Integer { .. }
                | Shape::Boolean
                | Shape::Time => Takes::One,
            };
            (option_of(member.name), takes)
        })
        .collect();
    let mut known: Vec<Known<'_>> =
        members.iter().map(|(name, takes)| Known { name, takes: *takes, choices: &[] }).collect();
    known.extend(["cli-input-json", "cli-input-yaml"].map(|name| Known { name, takes: Takes::One, choices: &[] }));
    if operation.paged.is_some() {
        known.extend(["starting-token", "page-size", "max-items"].map(|name| Known {
            name,
            takes: Takes::One,
            choices: &[],
        }));
    }
    known.push(Known { name: "generate-cli-skeleton", takes: Takes::Perhaps, choices: SKELETONS });
    let (options, unknown) = scan(args, &known)?;
    for name in ["page-size", "max-items"] {
        if let Some(text) = options.one(name)
            && number(text).is_none()
        {
            return Err(Fault::usage(format!("argument --{name}: invalid int value: '{text}'")));
        }
    }
    let skeleton = options.one("generate-cli-skeleton");
    let elsewhere =
        options.has("cli-input-json") || options.has("cli-input-yaml") || skeleton.is_some_and(|kind| kind != "output");
    let missing: Vec<String> = operation.input.required().iter().map(|name| option_of(name)).collect();
    let missing: Vec<String> =
        missing.into_iter().filter(|name| !options.has(name)).map(|name| format!("--{name}")).collect();
    if !missing.is_empty() && !elsewhere {
        return Err(Fault::usage(format!("the following arguments are required: {}", missing.join(", "))));
    }
    if !unknown.is_empty() {
        return Err(Fault::unknown(&unknown));
    }
    Ok(options)
}

/// A whole number as Python's `int` reads it.
pub(super) fn number(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.contains("__")
        || digits.starts_with('_')
        || digits.ends_with('_')
        || (digits != text && digits.starts_with('-'))
    {
        return None;
    }
    digits.replace('_', "").parse().ok()
}

#[derive(Clone, Copy)]
struct Known<'a> {
    name: &'a str,
    takes: Takes,
    choices: &'static [&'static str],
}

fn options(args: &[String], flags: &'static [Flag]) -> Result<(Options, Vec<String>), Fault> {
    let known: Vec<Known<'_>> =
        flags.iter().map(|flag| Known { name: flag.name, takes: flag.takes, choices: flag.choices }).collect();
    scan(args, &known)
}

/// Goes over the tokens once; what is no known option stays, in order.
fn scan(args: &[String], known: &[Known<'_>]) -> Result<(Options, Vec<String>), Fault> {
    let mut found = Options::default();
    let mut rest = Vec::new();
    let mut tokens = args.iter().peekable();
    while let Some(token) = tokens.next() {
        let Some((name, inline)) = long(token) else {
            rest.push(token.clone());
            continue;
        };
        let Some(option) = matching(name, known)? else {
            rest.push(token.clone());
            continue;
        };
        let mut values: Vec<String> = inline.map(str::to_owned).into_iter().collect();
        let most = match option.takes {
            Takes::Nothing => 0,
            Takes::One | Takes::Perhaps => 1,
            Takes::Many => usize::MAX,
        };
        if inline.is_none() {
            while values.len() < most
                && let Some(value) = tokens.next_if(|token| is_value(token))
            {
                values.push(value.clone());
            }
        }
        let say = |text: String| Err(Fault::usage(format!("argument --{}: {text}", option.name)));
        match option.takes {
            Takes::Nothing => {
                if let Some(value) = inline {
                    return say(format!("ignored explicit argument '{value}'"));
                }
            }
            Takes::One if values.is_empty() => return say("expected one argument".to_owned()),
            Takes::Perhaps if values.is_empty() => {
                values.push(option.choices.first().copied().unwrap_or("").to_owned())
            }
            Takes::One | Takes::Perhaps | Takes::Many => {}
        }
        if let Some(value) = values.first()
            && !option.choices.is_empty()
            && !option.choices.contains(&value.as_str())
        {
            return say(format!("Invalid choice, valid choices are:\n\n{}", columns(option.choices.iter().copied())));
        }
        found.0.insert(option.name.to_owned(), values);
    }
    Ok((found, rest))
}

/// Names two in a line, as the aws CLI lists choices.
pub(super) fn columns<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let lines: Vec<String> = names
        .chunks(2)
        .map(|pair| pair.iter().map(|name| format!("{name:<40}")).collect::<Vec<_>>().join(" | "))
        .collect();
    lines.join("\n")
}

fn long(token: &str) -> Option<(&str, Option<&str>)> {
    let body = token.strip_prefix("--").filter(|body| !body.is_empty())?;
    match body.split_once('=') {
        // A blank before the sign makes the whole a value.
        Some((name, value)) if !name.contains(' ') => Some((name, Some(value))),
        Some(_) => None,
        None if body.contains(' ') => None,
        None => Some((body, None)),
    }
}

/// Whether a token can be a value: no option, or a negative number, or something with a blank in it.
fn is_value(token: &str) -> bool {
    let Some(body) = token.strip_prefix('-') else { return true };
    let is_number =
        body.ends_with(|c: char| c.is_ascii_digit()) && body.chars().all(|c| c.is_ascii_digit() || c == '.');
    body.is_empty() || token.contains(' ') || is_number
}

fn matching<'a>(name: &str, known: &[Known<'a>]) -> Result<Option<Known<'a>>, Fault> {
    if let Some(exact) = known.iter().find(|option| option.name == name) {
        return Ok(Some(*exact));
    }
    let near: Vec<&Known<'a>> = known.iter().filter(|option| option.name.starts_with(name)).collect();
    match near[..] {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        _ => {
            let names: Vec<String> = near.iter().map(|option| format!("--{}", option.name)).collect();
            Err(Fault::usage(format!("ambiguous option: --{name} could match {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_aws::client::shape::operation;

    fn tokens(line: &str) -> Vec<String> {
        line.split('|').map(str::to_owned).collect()
    }

    fn sessions(line: &str) -> Result<Options, Fault> {
        of_operation(operation("describe-sessions").expect("it is there"), &tokens(line))
    }

    fn said(line: &str) -> String {
        sessions(line).expect_err("it does not fit").message
    }

    #[test]
    fn globals_stand_anywhere_and_may_be_cut_short() {
        let line = globals(&tokens("--endpoint-url|http://x|describe-sessions|--state|Active|--out=text|--no-pag"))
            .expect("a line");
        assert_eq!(line.rest, ["describe-sessions", "--state", "Active"]);
        assert_eq!(line.globals.one("output"), Some("text"));
        assert!(line.globals.has("no-paginate") && !line.globals.has("debug"));
        assert_eq!(command(&line.rest).0, Some("describe-sessions"));
    }

    #[test]
    fn values_are_taken_as_argparse_takes_them() {
        let options = sessions("--state|A|--filters|key=a,value=b|key=c,value=d|--max-items|-1|--starting-token=")
            .expect("options");
        assert_eq!(options.all("filters").map(<[String]>::len), Some(2));
        assert_eq!(options.one("max-items"), Some("-1"));
        assert_eq!(options.one("starting-token"), Some(""));
        assert_eq!(sessions("--state|A|--filters").expect("options").all("filters"), Some(&[][..]));
        assert_eq!(sessions("--generate-cli-skeleton").expect("options").one("generate-cli-skeleton"), Some("input"));
        assert_eq!(option_of("InstanceInformationFilterList"), "instance-information-filter-list");
    }

    /// What aws-cli 1.46.3 says to the same tokens.
    #[test]
    fn what_does_not_fit_is_told_in_argparses_words() {
        assert_eq!(said("--filters|a=b"), "the following arguments are required: --state");
        assert_eq!(said("--generate-cli-skeleton|output"), "the following arguments are required: --state");
        assert_eq!(said("--state"), "argument --state: expected one argument");
        assert_eq!(said("--state|A|--max-items|x"), "argument --max-items: invalid int value: 'x'");
        assert_eq!(said("--sta|A"), "ambiguous option: --sta could match --state, --starting-token");
        assert_eq!(said("--state|A|B|--bogus|C"), "Unknown options: B, --bogus, C");
        let fault = globals(&tokens("--color|bad")).expect_err("no colour");
        assert_eq!(
            fault.message,
            format!(
                "argument --color: Invalid choice, valid choices are:\n\n{:<40} | {:<40}\n{:<40}",
                "on", "off", "auto"
            )
        );
        let fault = globals(&tokens("--c|on")).expect_err("too short");
        assert_eq!(
            fault.message,
            "ambiguous option: --c could match --color, --ca-bundle, --cli-read-timeout, --cli-connect-timeout"
        );
    }

    #[test]
    fn numbers_are_pythons() {
        for (text, read) in [
            ("7", Some(7)),
            (" -7 ", Some(-7)),
            ("+7", Some(7)),
            ("1_000", Some(1000)),
            ("1__0", None),
            ("x", None),
            ("", None),
            ("+-1", None),
        ] {
            assert_eq!(number(text), read, "{text:?}");
        }
    }
}
