//! `ravelin ssm`: Session Manager from the command line, flag for flag as `aws ssm`, against AWS or any Ravelin.
//!
//! ```text
//! args      tokens -> options              input   options -> request         settings   environment and profiles
//! chain     credentials                    query   JMESPath                   fault      what is said, exit statuses
//! text  table  yaml                        the forms of an answer; JSON is the client's own
//! skeleton  --generate-cli-skeleton        help    what can be typed
//! session   a session to its end, and the place of AWS's plugin      install   the link by the plugin's name
//! ```
//!
//! What it prints is what the aws CLI prints, byte for byte, so that scripts need not know which of the two they call:
//! `tests/e2e/tests/cases/ssm.rs` runs both. Where the two generations of the aws CLI differ, the first is followed
//! unless `RAVELIN_AWS_CLI=2` says otherwise; `docs/howto/ssm.md` lists the differences. On a terminal, what could steer
//! it is written out; into a file or a pipe goes what the service sent.

mod args;
mod chain;
mod fault;
mod help;
mod input;
pub(crate) mod install;
mod query;
pub(crate) mod session;
mod settings;
mod skeleton;
mod table;
mod text;
mod yaml;

use super::{plain, screen};
use args::Options;
use fault::{Fault, Generation};
use input::{MAX_RESULTS, Paging};
use query::Query;
use ravelin_aws::client::Client;
use ravelin_aws::client::page::{NEXT_TOKEN, Pager};
use ravelin_aws::client::shape::{self, OPERATIONS, Operation, Times};
use ravelin_aws::client::value::{Json, Map, Value};
use settings::{Format, Settings};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Bytes that one command takes from a service at most.
const RECEIVED_BYTES_MAX: u64 = 1 << 30;
/// Columns of a table when there is no terminal.
const WIDTH: usize = 80;

/// Everything after `ssm`.
#[derive(Clone, Debug, clap::Args)]
pub struct SsmArgs {
    /// A command and its options, as after `aws ssm`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    args: Vec<OsString>,
}

/// Does what the tokens say.
pub(super) async fn run(args: SsmArgs) -> ExitCode {
    let generation = match fault::Generation::chosen() {
        Ok(generation) => generation,
        Err(fault) => return fault.tell(Generation::One),
    };
    match carry_out(args, generation).await {
        Ok(code) => code,
        Err(fault) => fault.tell(generation),
    }
}

async fn carry_out(args: SsmArgs, generation: Generation) -> Result<ExitCode, Fault> {
    let tokens: Vec<String> = args
        .args
        .into_iter()
        .map(|token| token.into_string().map_err(|token| Fault::usage(format!("{token:?} is not UTF-8 text"))))
        .collect::<Result<_, _>>()?;
    let asks_for_help = |token: &String| matches!(token.as_str(), "--help" | "-h");
    if tokens.iter().any(asks_for_help) {
        let known = tokens.iter().find_map(|token| operation(token));
        return said(&help::text(known));
    }
    let line = args::globals(&tokens)?;
    let globals = &line.globals;
    if globals.has("version") {
        return said(concat!("ravelin/", env!("CARGO_PKG_VERSION"), "\n"));
    }
    let query = globals.one("query").map(Query::parse).transpose().map_err(Fault::parameter)?;
    let (command, rest) = args::command(&line.rest);
    let operation = match command {
        None => return Err(Fault::usage("the following arguments are required: operation")),
        Some("help") => return said(&help::text(None)),
        Some("install-plugin") => return said(&install::install(&rest)?),
        Some(command) => operation(command).ok_or_else(|| {
            let names = args::columns(commands().map(|operation| operation.command));
            Fault::usage(format!("argument operation: Invalid choice, valid choices are:\n\n{names}"))
        })?,
    };
    if rest.first().is_some_and(|token| token == "help") {
        return said(&help::text(Some(operation)));
    }
    let options = args::of_operation(operation, &rest)?;
    let (request, paging) = input::read(operation, globals, &options, generation)?;
    let job = Job { operation, query };
    match options.one("generate-cli-skeleton") {
        Some("input") => return said(&(shape::input_skeleton(&operation.input).to_json(Json::Pretty) + "\n")),
        Some("yaml-input") => return said(&skeleton::yaml_input(&operation.input)),
        Some(_) | None => {}
    }
    let settings = Settings::load(globals).await?;
    let view = View::new(globals, &settings, generation)?;
    if options.has("generate-cli-skeleton") {
        input::checked(operation, &request)?;
        // Times in a skeleton are a date of Python's, which JSON shows in another way than text.
        let epoch = if view.format == Format::Json { "1970-01-01T00:00:00" } else { "1970-01-01 00:00:00" };
        return job.whole(&view, shape::output_skeleton(&operation.output, epoch)).map(|()| ExitCode::SUCCESS);
    }
    input::checked(operation, &first(&request, &paging))?;
    if globals.has("debug") {
        tell_all();
    }
    let client = settings.client(globals, generation, view.times.clone())?;
    if paging.on {
        job.listing(&view, &client, request, &paging).await.map(|()| ExitCode::SUCCESS)
    } else {
        let answer = client.call(operation, &Value::Map(Box::new(request))).await?;
        if operation.name == "StartSession" {
            return Ok(session::run(&answer, client, settings.trust(globals)).await);
        }
        job.whole(&view, answer).map(|()| ExitCode::SUCCESS)
    }
}

/// Says something on standard output.
fn said(text: &str) -> Result<ExitCode, Fault> {
    put(text).map(|()| ExitCode::SUCCESS)
}

/// What is offered here.
fn commands() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter()
}

fn operation(command: &str) -> Option<&'static Operation> {
    commands().find(|operation| operation.command == command)
}

/// The first request as it will be sent, apart from its token.
fn first(request: &Map, paging: &Paging) -> Map {
    let mut request = request.clone();
    if paging.on
        && let Some(size) = paging.page_size
    {
        request.insert(MAX_RESULTS.to_owned(), Value::Int(size));
    }
    request
}

/// Shows on standard error what is called and answered; no body and no secret.
fn tell_all() {
    let filter = tracing_subscriber::EnvFilter::new("ravelin=debug,ravelin_aws=debug,aws_config=info");
    // A second subscriber is refused; then the first one tells.
    let _set_already =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

/// One command and what is picked from its answer.
struct Job {
    operation: &'static Operation,
    query: Option<Query>,
}

impl Job {
    fn picked(&self, value: Value) -> Result<Value, Fault> {
        match &self.query {
            None => Ok(value),
            Some(query) => query.search(&value).map_err(Fault::other),
        }
    }

    /// Shows an answer that came in one piece.
    fn whole(&self, view: &View, answer: Value) -> Result<(), Fault> {
        view.show(self.operation.name, self.picked(answer)?)
    }

    /// Follows the pages. Text and streams of YAML are shown page by page, and picked from page by page; all else when
    /// everything is there.
    async fn listing(&self, view: &View, client: &Client, request: Map, paging: &Paging) -> Result<(), Fault> {
        let items = self.operation.paged.unwrap_or_default();
        let request = first(&request, paging);
        let mut pager = Pager::new(paging.starting_token.as_deref(), paging.max_items)?;
        let mut gathered: Option<Vec<Value>> = None;
        loop {
            let mut request = request.clone();
            pager.prepare(&mut request);
            input::checked(self.operation, &request)?;
            let answer = client.call(self.operation, &Value::Map(Box::new(request))).await?;
            let mut page = match answer {
                Value::Map(page) => *page,
                _ => Map::new(),
            };
            // What is wrong with a page's token does not make its items worse: they are shown first.
            let more = pager.take(&mut page, items);
            match view.format {
                Format::Text => {
                    let list = page.swap_remove(items).unwrap_or(Value::Null);
                    self.whole(view, Value::map([(items.to_owned(), list)]))?;
                }
                Format::YamlStream => self.whole(view, Value::Map(Box::new(page)))?,
                Format::Json | Format::Table | Format::Yaml => {
                    if let Some(Value::List(list)) = page.swap_remove(items) {
                        gathered.get_or_insert_default().extend(list);
                    }
                }
            }
            if !more? {
                break;
            }
            if client.received() > RECEIVED_BYTES_MAX {
                return Err(Fault::other(format!(
                    "The listing is larger than {RECEIVED_BYTES_MAX} bytes; ask for less with --filters or --max-items"
                )));
            }
        }
        let resume = pager.resume_token().map(|token| (NEXT_TOKEN.to_owned(), Value::text(token)));
        match view.format {
            Format::YamlStream => Ok(()),
            Format::Text => match resume {
                None => Ok(()),
                Some(token) => self.whole(view, Value::map([(NEXT_TOKEN.to_owned(), Value::map([token]))])),
            },
            Format::Json | Format::Table | Format::Yaml => {
                let list = gathered.map(|list| (items.to_owned(), Value::List(list)));
                self.whole(view, Value::map(list.into_iter().chain(resume)))
            }
        }
    }
}

/// How answers are shown.
struct View {
    format: Format,
    times: Times,
    colour: bool,
    terminal: bool,
}

impl View {
    fn new(globals: &Options, settings: &Settings, generation: Generation) -> Result<View, Fault> {
        let format = settings.format(globals)?;
        let terminal = std::io::stdout().is_terminal();
        let colour = match globals.one("color") {
            Some("on") => true,
            Some("off") => false,
            _ => terminal,
        };
        Ok(View { format, times: settings.times(format, generation)?, colour, terminal })
    }

    fn show(&self, title: &str, value: Value) -> Result<(), Fault> {
        let value = if self.terminal && self.format != Format::Json { calm(value) } else { value };
        let nothing = value.as_map().is_some_and(Map::is_empty);
        put(&match self.format {
            Format::Json | Format::Yaml | Format::YamlStream if nothing => String::new(),
            Format::Json => {
                let json = value.to_json(Json::Pretty) + "\n";
                if self.terminal { plain::json(&json) } else { json }
            }
            Format::Text => text::text(&value),
            Format::Table => table::table(title, &value, width(), self.colour).map_err(Fault::other)?,
            Format::Yaml => yaml::yaml(&value),
            Format::YamlStream => yaml::yaml(&Value::List(vec![value])),
        })
    }
}

fn width() -> usize {
    let known = terminal_size::terminal_size_of(std::io::stdout());
    known.map_or(WIDTH, |(terminal_size::Width(cells), _)| usize::from(cells))
}

/// The value with every text harmless.
fn calm(value: Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(harmless(&text)),
        Value::List(items) => Value::List(items.into_iter().map(calm).collect()),
        Value::Map(members) => Value::map(members.into_iter().map(|(name, member)| (harmless(&name), calm(member)))),
        plain @ (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_)) => plain,
    }
}

/// Text that cannot steer a terminal; line breaks and tabs stay.
fn harmless(text: &str) -> String {
    let part = |part: &str| match part {
        "\n" | "\t" => part.to_owned(),
        other => plain::line(other),
    };
    text.split_inclusive(['\n', '\t'])
        .map(|piece| match piece.strip_suffix(['\n', '\t']) {
            None => part(piece),
            Some(head) => part(head) + &piece[head.len()..],
        })
        .collect()
}

fn put(text: &str) -> Result<(), Fault> {
    screen::print(text).map_err(|failure| Fault::other(failure.message))
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        let value = Value::parse(br#"{"a\u001b[2J":["x\u009b\ty\nz",1]}"#).expect("JSON");
        assert_eq!(calm(value).to_repr(), r"{'a\\u{1b}[2J': ['x\\u{9b}\ty\nz', 1]}");
    }
}
