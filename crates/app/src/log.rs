//! The log of the server: lines on standard error, as text or JSON. Logs may be lost; what must not be is in the
//! audit record. No secret is ever handed to it.

use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// How a server logs.
#[derive(clap::Args, Clone, Debug)]
pub struct LogArgs {
    /// What to log, such as info or warn,ravelin_ssh=debug
    #[arg(long = "log", value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    filter: String,
    /// How lines look; json is for collectors
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum LogFormat {
    // For people.
    Text,
    // One object a line, for collectors.
    Json,
}

/// What libraries may say unless the operator asks for more: they tell of every peer that goes away.
const LIBRARIES: &str = "russh=error,hyper=warn,h2=warn,rustls=error,refinery_core=warn";

/// Starts the log of this process, and sends panics into it.
pub(crate) fn start(args: &LogArgs) {
    let wanted = format!("{LIBRARIES},{}", args.filter);
    let (filter, wrong) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(format!("info,{LIBRARIES}")), Some(error)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
            lines.with_ansi(colour).with_target(false).init();
        }
    }
    if let Some(error) = wrong {
        tracing::warn!(filter = args.filter, %error, "the log filter is not one; logging from info up");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(place, text, "a task panicked");
    }));
}
