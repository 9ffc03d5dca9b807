//! `insula doctor`: what this host can isolate with and what not, why not, and what would change it.
//!
//! [`insula_sys::host`] gathers facts; the files here turn them into findings, each a pure function of the facts; [`text`] and
//! JSON are two renderings of one [`Report`].
//!
//! | module | findings about |
//! |---|---|
//! | [`boundaries`] | each boundary: the verdict over all the rest |
//! | [`virtualisation`] | KVM, and the kind of host this is |
//! | [`cgroups`] | cgroup hierarchies and delegation |
//! | [`namespaces`] | namespaces, user namespaces, subordinate ids |
//! | [`privileges`] | capabilities and limits of this process |
//! | [`kernel`] | file systems, mounts, system-call interfaces |
//! | [`confinement`] | seccomp, Landlock, security modules |
//! | [`devices`] | device nodes, huge pages, packet filtering |
//! | [`network`] | networks of containers |
//! | [`peers`] | other isolation programs |

mod boundaries;
mod cgroups;
mod confinement;
mod devices;
mod finding;
mod kernel;
mod namespaces;
mod network;
mod peers;
mod privileges;
mod text;
mod virtualisation;

use finding::{Boundary, Finding, Status};
use insula_sys::host::Facts;
use insula_sys::host::kvm::HostKind;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Tell what this host can isolate with, what not, why not, and what would change it.
///
/// Everything is found out by trying it, in child processes that vanish again: nothing is changed and nothing is left behind. The
/// report is about this user, here and now: root, a plain user, and a process in a container see different hosts.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const HELP: &str = "\
Exit status:
  0  the container boundary works here, perhaps with limits
  1  it doesn't, or the report couldn't be written

Words in the report:
  ok       works
  limited  works in part; what is lost stands below it
  missing  doesn't work
  later    a boundary that isn't in this version yet; the report says what the host has for it

Colours are used on a terminal only, and not if NO_COLOR is set.

Examples:
  insula doctor
  sudo insula doctor                        what root could do here
  insula doctor --format json | jq '.boundaries[] | {name, status}'
  insula doctor --format json | jq -r '.findings[] | select(.status != \"ok\") | .remedy // empty'
  insula doctor > /dev/null && insula run …";

/// How the report is printed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: verdicts, findings, and all the facts they come from.
    Json,
}

/// The whole report.
#[derive(Serialize)]
struct Report {
    /// The version of this program.
    version: &'static str,
    /// The kind of host, as far as virtual machines are concerned.
    host_kind: HostKind,
    /// A verdict for each boundary.
    boundaries: Vec<Boundary>,
    /// Everything else, in order of groups.
    findings: Vec<Finding>,
    /// What it was all concluded from.
    facts: Facts,
}

impl Report {
    fn new(facts: Facts) -> Self {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            host_kind: facts.kvm.kind,
            boundaries: boundaries::verdicts(&facts),
            findings: findings(&facts),
            facts,
        }
    }

    fn container_works(&self) -> bool {
        self.boundaries.iter().any(|boundary| boundary.name == "container" && boundary.status != Status::Missing)
    }
}

/// Everything but the boundaries, in the order it is printed.
fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = virtualisation::findings(facts);
    all.extend(cgroups::findings(facts));
    all.extend(namespaces::findings(facts));
    all.extend(privileges::findings(facts));
    all.extend(kernel::findings(facts));
    all.extend(confinement::findings(facts));
    all.extend(devices::findings(facts));
    all.extend(network::findings());
    all.extend(peers::findings(facts));
    all
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let report = Report::new(Facts::gather());
    let mut stdout = std::io::stdout().lock();
    let printed = match args.format {
        Format::Text => text::render(&report, &text::Style::of_stdout(stdout.is_terminal())),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    match stdout.write_all(printed.as_bytes()).and_then(|()| stdout.flush()) {
        // `insula doctor | head` has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        outcome => outcome?,
    }
    Ok(if report.container_works() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
