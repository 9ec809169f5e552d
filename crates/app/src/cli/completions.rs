//! `ravelin completions`: a script for a shell, of the whole command line.

use super::failure::Failure;
use super::screen;
use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

pub(super) const HELP: &str = "Examples:
  source <(ravelin completions bash)
  ravelin completions zsh > \"${fpath[1]}/_ravelin\"
  ravelin completions fish > ~/.config/fish/completions/ravelin.fish
  ravelin completions powershell | Out-String | Invoke-Expression";

/// For which shell.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn write(args: CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Ravelin::command(), "ravelin", &mut script);
    screen::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
