//! `insula completion`: words for the shell's tab key.

use crate::cli;
use crate::show::show;
use std::process::ExitCode;

/// Print the completions for a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula completion bash > /etc/bash_completion.d/insula\n  source <(insula completion zsh)")]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "insula", &mut script);
    show(script)?;
    Ok(ExitCode::SUCCESS)
}
