//! What every verb shares: the options before it, the store they name, and how an error reaches the user.

use clap::ValueEnum;
use insula_boundary::Store;
use insula_container::Containers;
use insula_sentry::runner::Sentry;
use insula_spec::Plan;
use insula_spec::plan::{Process, Scope};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Options of every verb.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// What stands between a new sandbox's program and the host
    #[arg(long, global = true, value_parser = isolation, default_value = "container", value_name = "BOUNDARY", help_heading = "Global options")]
    pub(crate) isolation: &'static str,
    /// Behind the sentry: tell of every system call on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) strace: bool,
    /// Directory in which the state of sandboxes is kept
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,
    /// Also write errors to this file, for the program that called us
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the lines in --log
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Global options")]
    pub(crate) log_format: LogFormat,
    /// Write what is done to --log too
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) debug: bool,
    /// Have systemd make the cgroup, as a scope; linux.cgroupsPath is SLICE:PREFIX:NAME then
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) systemd_cgroup: bool,
    /// When the program began.
    #[arg(skip = Instant::now())]
    pub(crate) began: Instant,
}

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of words.
    Text,
    /// An object a line.
    Json,
}

/// An error with the exit code that goes with it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Coded {
    code: u8,
    error: String,
}

impl Coded {
    /// An error with a code.
    pub(crate) fn new(code: u8, error: String) -> Coded {
        Coded { code, error }
    }

    /// The code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// What `run` and `exec` end with: 125 unless the program itself was at fault.
    pub(crate) fn of_run(error: anyhow::Error) -> anyhow::Error {
        if error.is::<Coded>() {
            return error;
        }
        let code = error.downcast_ref::<insula_boundary::Error>().map_or(125, insula_boundary::Error::exit_code);
        Coded { code, error: format!("{error:#}") }.into()
    }
}

impl Global {
    /// The sandboxes of this user's store; new ones are behind the boundary that was asked for.
    pub(crate) fn containers(&self) -> Containers {
        let known = Containers::new(Store::new(self.root())).with_runners(vec![Arc::new(Sentry { strace: self.strace })]);
        known.clone().behind(self.isolation).unwrap_or(known)
    }

    /// The directory in which the state is kept.
    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(default_root)
    }

    /// Whether new sandboxes have a kernel of ours.
    pub(crate) fn behind_sentry(&self) -> bool {
        self.isolation == "sentry"
    }

    /// Whether new sandboxes are whole systems.
    pub(crate) fn of_systems(&self) -> bool {
        self.isolation == insula_container::SYSTEM
    }

    /// Refuses what a verb can't honour.
    pub(crate) fn check(&self, verb: &str) -> anyhow::Result<()> {
        if self.strace && !self.behind_sentry() {
            let error = anyhow::anyhow!("--strace: only the sentry can tell of calls; add --isolation sentry");
            return Err(if matches!(verb, "run" | "exec") { Coded::of_run(error) } else { error });
        }
        if self.systemd_cgroup && verb == "vm" {
            anyhow::bail!("--systemd-cgroup: a virtual machine has no cgroup of its own; leave the option out");
        }
        Ok(())
    }

    /// With --systemd-cgroup, puts a new container into a scope: root's of the host's systemd, another user's of their own.
    pub(crate) fn place(&self, plan: &mut Plan) -> anyhow::Result<()> {
        if self.systemd_cgroup {
            let of_user = !rustix::process::geteuid().is_root();
            plan.scope = Some(Scope::new(&plan.id, plan.cgroup_path.take().as_deref(), of_user)?);
        }
        Ok(())
    }

    /// Tells what of a configuration can't be had, to who reads the log, if there is one.
    pub(crate) fn warn(&self, text: &str) {
        if self.log.is_some() {
            self.write_log("warning", text);
        } else {
            crate::show::warn(format_args!("insula: warning: {}", one_line(text)));
        }
    }

    /// Tells of what was found in a plan, and of capabilities of a process that can't be granted: runtime-spec `config.md#linux-process`.
    pub(crate) fn warn_of(&self, plan: &Plan, process: &Process, warnings: &[String]) {
        warnings.iter().for_each(|text| self.warn(text));
        let missing = insula_container::ungrantable(plan, &process.capabilities).unwrap_or_default();
        if !missing.is_empty() {
            self.warn(&format!("{} can't be granted: insula itself hasn't got it", missing.names().join(" ")));
        }
    }

    /// Writes what is done to the log, with --debug.
    pub(crate) fn note(&self, message: &str) {
        if self.debug {
            self.write_log("debug", message);
        }
    }

    /// One line to the user, and the same to the log.
    pub(crate) fn report(&self, error: &anyhow::Error) {
        let line = one_line(&without_numbers(&format!("{error:#}")));
        crate::show::warn(format_args!("insula: {line}"));
        self.write_log("error", &line);
    }

    fn write_log(&self, level: &str, message: &str) {
        let Some(path) = &self.log else { return };
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = match self.log_format {
            LogFormat::Json => serde_json::json!({"level": level, "msg": message, "time": time.to_string()}).to_string(),
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            crate::show::warn(format_args!("insula: can't write --log {}: {error}", path.display()));
        }
    }
}

/// Longest message, in characters; that is room for a path and more.
const LONGEST_LINE: usize = 4000;

/// A message may quote what came from outside: that must not break the line, write on the terminal or fill it. When it is too long the
/// middle goes, as what is wrong is said at the end.
fn one_line(text: &str) -> String {
    let plain = text.replace('\n', "; ");
    let plain: Vec<char> = plain.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if plain.len() <= LONGEST_LINE {
        return plain.into_iter().collect();
    }
    let (head, tail) = (&plain[..200], &plain[plain.len() - 200..]);
    head.iter().copied().chain(" … ".chars()).chain(tail.iter().copied()).collect()
}

/// A boundary's name, if this version has it.
fn isolation(name: &str) -> Result<&'static str, String> {
    const KNOWN: [&str; 3] = ["container", "system", "sentry"];
    const PLANNED: [&str; 2] = ["microvm", "unikernel"];
    match KNOWN.into_iter().find(|known| *known == name) {
        Some(known) => Ok(known),
        None if PLANNED.contains(&name) => Err(format!(
            "{name} is not in this version yet; container, system and sentry are (`insula doctor` shows what this host can run)"
        )),
        None => Err("boundaries are container, system and sentry, and in later versions microvm and unikernel".into()),
    }
}

/// `/run/insula` for root, a place of their own for others; they may be root in a user namespace, where Podman calls us.
fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let of_host = || own.is_none() || insula_sys::host::kernel::in_initial_user_namespace();
    if rustix::process::geteuid().is_root() && of_host() {
        return PathBuf::from("/run/insula");
    }
    // In /tmp nobody can put another directory in the place of a user's own.
    let temporary = || PathBuf::from(format!("/tmp/insula-{}", rustix::process::getuid().as_raw()));
    own.map_or_else(temporary, |dir| dir.join("insula"))
}

/// An error without the number that the standard library adds to the kernel's words.
fn without_numbers(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let mut line = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => line.push_str(rest),
            _ => line.extend([" (os error ", piece]),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_are_words() {
        assert_eq!(super::without_numbers("a: b (os error 2)"), "a: b");
        assert_eq!(super::without_numbers("a (os error 2); c (os error 13): d"), "a; c: d");
        assert_eq!(super::without_numbers("a (os error x) (os error"), "a (os error x) (os error");
    }
}
