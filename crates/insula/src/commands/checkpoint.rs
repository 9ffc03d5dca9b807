//! `insula checkpoint` and `insula restore`, which engines may call: refused in a sentence, as there is nothing behind them.

use crate::global::Global;
use std::process::ExitCode;

/// Not in this version: save a container's processes, to be restored later
#[derive(clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The container, and whatever else runc takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CONTAINER")]
    _words: Vec<String>,
}

pub(crate) fn main(_: &Global, _: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!(
        "containers can't be saved and restored in this version; `insula pause` stops one where it is, and `insula resume` lets it go on"
    )
}
