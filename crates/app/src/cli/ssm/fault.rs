//! What is said when a command fails, and the exit status: as the aws CLI says it, of either generation.

use ravelin_aws::client::CallFault;
use ravelin_aws::client::page::PageFault;
use std::process::ExitCode;

/// Whose exit statuses, dates and small differences are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// aws-cli 1: status 255 for what failed, 2 for a command line that says nothing, times as they come.
    One,
    /// aws-cli 2: 252, 253, 254 and 255, times in ISO 8601.
    Two,
}

/// Which generation is to be followed, as this variable says: `1` or `2`.
const CHOICE: &str = "RAVELIN_AWS_CLI";

impl Generation {
    /// The generation that the environment asks for, the first unless told otherwise.
    pub(super) fn chosen() -> Result<Generation, Fault> {
        match std::env::var(CHOICE).as_deref() {
            Err(_) | Ok("" | "1") => Ok(Generation::One),
            Ok("2") => Ok(Generation::Two),
            Ok(other) => Err(Fault::other(format!("{CHOICE} is {other:?} and can be 1 or 2"))),
        }
    }
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The command line says nothing that can be done.
    Usage,
    /// It names options that there are not.
    Unknown,
    /// A value cannot be taken.
    Parameter,
    /// Paging options that exclude each other.
    Paging,
    /// Region or credentials are missing.
    Configuration,
    /// The service said no.
    Service,
    /// Anything else.
    Other,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) message: String,
}

const USAGE: &str = "usage: ravelin ssm [options] <command> [parameters]
To see help text, you can run:

  ravelin ssm help
  ravelin ssm <command> help
";

impl Fault {
    fn new(kind: Kind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into() }
    }

    pub(super) fn usage(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Usage, message)
    }

    pub(super) fn unknown(options: &[String]) -> Fault {
        Fault::new(Kind::Unknown, format!("Unknown options: {}", options.join(", ")))
    }

    pub(super) fn parameter(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Parameter, message)
    }

    /// A value of an option that cannot be read.
    pub(super) fn parsing(option: &str, because: impl std::fmt::Display) -> Fault {
        Fault::parameter(format!("Error parsing parameter '{option}': {because}"))
    }

    /// What botocore's checks found.
    pub(super) fn validation(faults: &[String]) -> Fault {
        Fault::parameter(format!("Parameter validation failed:\n{}", faults.join("\n")))
    }

    pub(super) fn paging(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Paging, message)
    }

    pub(super) fn configuration(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Configuration, message)
    }

    pub(super) fn other(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Other, message)
    }

    /// The lines for standard error.
    pub(super) fn text(&self, generation: Generation) -> String {
        let message = &self.message;
        match (self.kind, generation) {
            (Kind::Usage, Generation::One) => format!("{USAGE}ravelin: error: {message}\n"),
            (Kind::Usage, Generation::Two) => format!("\n{USAGE}\nravelin: error: {message}\n\n"),
            (Kind::Unknown, Generation::One) => format!("{USAGE}\n{message}\n"),
            (Kind::Unknown, Generation::Two) => format!("\n{USAGE}\n{message}\n\n"),
            (Kind::Configuration, Generation::One) => format!("{message}\n"),
            (Kind::Paging, Generation::One) => format!("\nError during pagination: {message}\n"),
            (Kind::Configuration | Kind::Paging, Generation::Two)
            | (Kind::Parameter | Kind::Service | Kind::Other, Generation::One | Generation::Two) => {
                format!("\n{message}\n")
            }
        }
    }

    /// The exit status.
    pub(super) fn status(&self, generation: Generation) -> u8 {
        match (generation, self.kind) {
            (Generation::One, Kind::Usage) => 2,
            (
                Generation::One,
                Kind::Unknown | Kind::Parameter | Kind::Paging | Kind::Configuration | Kind::Service | Kind::Other,
            )
            | (Generation::Two, Kind::Other) => 255,
            (Generation::Two, Kind::Usage | Kind::Unknown | Kind::Parameter | Kind::Paging) => 252,
            (Generation::Two, Kind::Configuration) => 253,
            (Generation::Two, Kind::Service) => 254,
        }
    }

    /// Says it on standard error. What a server wrote may not steer a terminal.
    pub(super) fn tell(&self, generation: Generation) -> ExitCode {
        use std::io::IsTerminal;
        let text = self.text(generation);
        eprint!("{}", if std::io::stderr().is_terminal() { super::harmless(&text) } else { text });
        ExitCode::from(self.status(generation))
    }
}

impl From<CallFault> for Fault {
    fn from(fault: CallFault) -> Fault {
        let kind = match &fault {
            CallFault::Service { .. } => Kind::Service,
            CallFault::NoCredentials => {
                let text = format!("{fault}. You can configure credentials by running \"aws configure\".");
                return Fault::configuration(text);
            }
            CallFault::Unreachable(_)
            | CallFault::ConnectTimeout(_)
            | CallFault::ReadTimeout(_)
            | CallFault::Closed(_)
            | CallFault::Tls(..)
            | CallFault::TooLarge(_)
            | CallFault::Unreadable(..)
            | CallFault::Credentials(_)
            | CallFault::Unsignable(_) => Kind::Other,
        };
        Fault::new(kind, fault.to_string())
    }
}

impl From<PageFault> for Fault {
    fn from(fault: PageFault) -> Fault {
        match fault {
            PageFault::SameToken(_) | PageFault::TooMany => Fault::other(format!("Error during pagination: {fault}")),
            PageFault::BadToken(_) => Fault::other(fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_status() {
        let document = include_str!("../../../../../docs/operations/exit-codes.md");
        let faults = [
            Fault::usage(""),
            Fault::parameter(""),
            Fault::configuration(""),
            Fault::new(Kind::Service, ""),
            Fault::other(""),
        ];
        for fault in faults {
            let (one, two) = (fault.status(Generation::One), fault.status(Generation::Two));
            assert!(document.contains(&format!("| {one} | {two} |")), "{fault:?}");
        }
    }
}
