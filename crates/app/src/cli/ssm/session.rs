//! `start-session` to its end, and the place of AWS's session-manager-plugin: `ravelin` called by that name.
//!
//! The aws CLI starts the plugin with what `StartSession` answered, or with the name of a variable that holds it, and waits.
//! `docs/howto/aws-plugin.md` is for the person who sets this up.

use super::args;
use super::fault::{Fault, Generation};
use super::settings::Settings;
use async_trait::async_trait;
use aws_credential_types::Credentials;
use ravelin_aws::client::shape::{OPERATIONS, Operation, Times};
use ravelin_aws::client::value::Value;
use ravelin_aws::client::{CallFault, Client};
use ravelin_aws::plugin::console::Console;
use ravelin_aws::plugin::{self, Control, Ended, Failure, NotResumed, Patience, Resumed, Started, Trust, VERSION};
use ravelin_aws::proto::delivery::Limits;
use secrecy::SecretString;
use std::process::ExitCode;
use std::sync::Arc;

/// The beginning of the name of a variable that holds the answer, in place of the answer itself.
const RESPONSE_VARIABLE: &str = "AWS_SSM_START_SESSION_RESPONSE";
/// The exit status when a session could not go on. The program's own statuses go up to 255; `ssh` uses the same.
const FAILED: u8 = 255;

const INSTALLED: &str = "This is ravelin in the place of AWS's session-manager-plugin. The aws CLI starts it:\n\
                         aws ssm start-session --target ID\n";

/// Runs the session that an answer of `StartSession` describes; the exit status is the session's.
pub(super) async fn run(answer: &Value, client: Client, trust: Result<Trust, Failure>) -> ExitCode {
    let outcome = match started(answer) {
        Some(started) => attend(started, client, trust).await,
        None => Err("the service's answer lacks SessionId, TokenValue or StreamUrl".to_owned()),
    };
    tell("ravelin", outcome)
}

/// `ravelin` by the name of the plugin: `args` without that name.
pub(crate) async fn as_plugin(args: Vec<String>) -> ExitCode {
    match &args[..] {
        [] => {
            print!("{INSTALLED}");
            ExitCode::SUCCESS
        }
        [only] if only == "--version" => {
            println!("{VERSION}");
            ExitCode::SUCCESS
        }
        [response, region, operation, rest @ ..] if rest.len() <= 3 => {
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            tell("session-manager-plugin", serve(response, region, operation, &rest).await)
        }
        [first, ..] => {
            eprintln!(
                "session-manager-plugin: {first:?} and {} more arguments are no call of the aws CLI; --version says which \
                 version this is",
                args.len() - 1
            );
            ExitCode::from(2)
        }
    }
}

/// The aws CLI's call: the answer, the region, the operation, and then as far as they are there the profile, the input and
/// the endpoint.
async fn serve(response: &str, region: &str, operation: &str, rest: &[&str]) -> Result<Ended, String> {
    if operation != "StartSession" {
        return Err(format!("the operation {operation:?} is not for this program"));
    }
    let response = if response.starts_with(RESPONSE_VARIABLE) {
        std::env::var(response).map_err(|_error| format!("the variable {response} is not set"))?
    } else {
        response.to_owned()
    };
    // The text is not shown: it holds the token.
    let answer =
        Value::parse(response.as_bytes()).map_err(|_error| "the answer of StartSession is no JSON".to_owned())?;
    let started = started(&answer).ok_or("the answer of StartSession lacks SessionId, TokenValue or StreamUrl")?;
    let mut tokens = vec!["--region".to_owned(), region.to_owned()];
    for (option, at) in [("--profile", 0), ("--endpoint-url", 2)] {
        if let Some(value) = rest.get(at).filter(|value| !value.is_empty()) {
            tokens.extend([option.to_owned(), (*value).to_owned()]);
        }
    }
    let said = |fault: Fault| fault.message;
    let globals = args::globals(&tokens).map_err(said)?.globals;
    let settings = Settings::load(&globals).await.map_err(said)?;
    let client = settings.client(&globals, Generation::One, Times::Wire).map_err(said)?;
    attend(started, client, settings.trust(&globals)).await
}

fn started(answer: &Value) -> Option<Started> {
    let members = answer.as_map()?;
    let text = |name: &str| members.get(name).and_then(Value::as_text).filter(|text| !text.is_empty());
    Some(Started {
        session_id: text("SessionId")?.to_owned(),
        token: SecretString::from(text("TokenValue")?),
        stream_url: text("StreamUrl")?.to_owned(),
    })
}

async fn attend(started: Started, client: Client, trust: Result<Trust, Failure>) -> Result<Ended, String> {
    let said = |failure: Failure| failure.to_string();
    let options =
        plugin::Options { trust: trust.map_err(said)?, patience: Patience::default(), limits: Limits::CLIENT };
    let console = Console::own().map_err(said)?;
    plugin::run(started, Arc::new(Calls(client)), options, console).await.map_err(said)
}

fn tell(name: &str, outcome: Result<Ended, String>) -> ExitCode {
    match outcome {
        Ok(Ended { status }) => ExitCode::from(status),
        Err(because) => {
            eprintln!("\n{name}: {}", crate::cli::plain::line(&because));
            ExitCode::from(FAILED)
        }
    }
}

/// The calls of a session that goes on.
struct Calls(Client);

impl Calls {
    async fn call(&self, name: &str, session_id: &str) -> Result<Value, CallFault> {
        let operation: &'static Operation = OPERATIONS
            .iter()
            .find(|operation| operation.name == name)
            .ok_or_else(|| CallFault::Unsignable(format!("{name} is not known here")))?;
        let input = Value::map([("SessionId".to_owned(), Value::text(session_id))]);
        self.0.call(operation, &input).await
    }
}

#[async_trait]
impl Control for Calls {
    async fn resume(&self, session_id: &str) -> Result<Resumed, NotResumed> {
        match self.call("ResumeSession", session_id).await {
            Ok(answer) => {
                let text = |name: &str| answer.as_map().and_then(|members| members.get(name)).and_then(Value::as_text);
                Ok(Resumed {
                    token: SecretString::from(text("TokenValue").unwrap_or_default()),
                    stream_url: text("StreamUrl").map(str::to_owned),
                })
            }
            Err(fault) => {
                let again = match &fault {
                    // The client has tried again itself where that helps; a service that is just coming back may need
                    // longer than that.
                    CallFault::Service { code, .. } => code == "InternalServerError" || code.starts_with('5'),
                    CallFault::Unreachable(_)
                    | CallFault::ConnectTimeout(_)
                    | CallFault::ReadTimeout(_)
                    | CallFault::Closed(_) => true,
                    CallFault::Tls(..)
                    | CallFault::TooLarge(_)
                    | CallFault::Unreadable(..)
                    | CallFault::NoCredentials
                    | CallFault::Credentials(_)
                    | CallFault::Unsignable(_) => false,
                };
                Err(NotResumed { because: fault.to_string(), again })
            }
        }
    }

    async fn terminate(&self, session_id: &str) -> Result<(), String> {
        self.call("TerminateSession", session_id).await.map(drop).map_err(|fault| fault.to_string())
    }

    async fn signer(&self) -> Option<(Credentials, String)> {
        match self.0.signer().await {
            Ok(signer) => signer,
            Err(fault) => {
                tracing::warn!(%fault, "the data channel's request goes unsigned");
                None
            }
        }
    }
}
