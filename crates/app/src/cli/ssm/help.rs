//! What can be typed after `ravelin ssm`.

use super::args::option_of;
use ravelin_aws::client::shape::{Operation, Shape};
use std::fmt::Write;

const OPTIONS: &str = "
Options for every command:
  --endpoint-url <url>           where to call; also AWS_ENDPOINT_URL_SSM, AWS_ENDPOINT_URL, or endpoint_url in a profile
  --region <name>                the region that requests are signed for; also AWS_REGION, AWS_DEFAULT_REGION
  --profile <name>               a profile of the AWS configuration; also AWS_PROFILE
  --output json|text|table|yaml|yaml-stream
                                 the form of the answer; also AWS_DEFAULT_OUTPUT
  --query <JMESPath>             what to pick from the answer
  --color on|off|auto            colours in tables
  --no-paginate                  one answer only, with the service's own NextToken
  --no-sign-request              send no signature
  --ca-bundle <file>             certificates to trust; also AWS_CA_BUNDLE
  --no-verify-ssl                trust any certificate
  --cli-connect-timeout <s>, --cli-read-timeout <s>
                                 seconds to wait, 60 unless told otherwise, 0 for ever
  --no-cli-pager                 there is no pager; taken so that scripts can stay as they are
  --debug                        say on standard error what is called
  --version                      say the version
";

/// Help about one command, or about all.
pub(super) fn text(operation: Option<&Operation>) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _infallible = match operation {
        None => all(&mut out),
        Some(operation) => one(operation, &mut out),
    };
    out.push_str(OPTIONS);
    out
}

fn all(out: &mut String) -> std::fmt::Result {
    writeln!(out, "AWS Session Manager, flag for flag as `aws ssm`, against AWS or any Ravelin\n")?;
    writeln!(out, "Usage: ravelin ssm [options] <command> [parameters]\n\nCommands:")?;
    for operation in super::commands() {
        writeln!(out, "  {:<30} {}", operation.command, operation.about)?;
    }
    writeln!(out, "  {:<30} Let the aws CLI start its sessions with ravelin", "install-plugin")?;
    writeln!(out, "\n`ravelin ssm <command> help` says more about one.")
}

fn one(operation: &Operation, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}\n\nUsage: ravelin ssm {} [parameters]\n\nParameters:", operation.about, operation.command)?;
    for member in operation.input.members() {
        let required = if operation.input.required().contains(&member.name) { " (required)" } else { "" };
        writeln!(
            out,
            "  --{:<28} {}{required}",
            format!("{} {}", option_of(member.name), form(&member.shape)),
            member.about
        )?;
    }
    if operation.paged.is_some() {
        writeln!(out, "  --{:<28} Where to go on, from NextToken of an earlier, cut output.", "starting-token <text>")?;
        writeln!(out, "  --{:<28} Items that one request asks for; the output is the same.", "page-size <number>")?;
        writeln!(out, "  --{:<28} Items to show at most.", "max-items <number>")?;
    }
    writeln!(out, "  --{:<28} The whole request as JSON; options win over it.", "cli-input-json <text>")?;
    writeln!(out, "  --{:<28} The whole request as YAML; options win over it.", "cli-input-yaml <text>")?;
    writeln!(
        out,
        "  --{:<28} Show a request to fill in, or what an answer looks like:",
        "generate-cli-skeleton [kind]"
    )?;
    writeln!(out, "    {:<28} input, yaml-input or output.", "")?;
    writeln!(out, "\nA value may be file://PATH. Lists and structures are JSON or the short form key=name,value=text.")
}

fn form(shape: &Shape) -> &'static str {
    match shape {
        Shape::List { .. } => "<list>",
        Shape::Structure { .. } | Shape::Map { .. } => "<map>",
        Shape::Text { .. } | Shape::Time => "<text>",
        Shape::Integer { .. } => "<number>",
        Shape::Boolean => "<boolean>",
    }
}
