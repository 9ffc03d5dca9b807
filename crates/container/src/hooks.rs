//! Hooks: programs the configuration has run at set points, each given the container's state on standard input.
//!
//! Source: runtime-spec `config.md#posix-platform-hooks`. A hook that fails before the start ends the container; one after it is
//! only reported.

use crate::channel::failed;
use insula_boundary::{Error, Status};
use insula_spec::Plan;
use insula_spec::plan::{Hook, Hooks};
use insula_sys::Context;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Whether the caller has something to run while the container is made.
pub(crate) fn wants_caller(hooks: &Hooks) -> bool {
    !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty()
}

/// The state, as `insula state` prints it.
pub fn state(plan: &Plan, status: Status, pid: i32) -> serde_json::Value {
    let mut state = serde_json::json!({
        "ociVersion": insula_spec::oci::VERSION,
        "id": plan.id.as_str(),
        "status": status.as_str(),
        "bundle": plan.bundle,
    });
    if pid > 0 {
        state["pid"] = pid.into();
    }
    if !plan.annotations.is_empty() {
        state["annotations"] = serde_json::json!(plan.annotations);
    }
    state
}

/// Runs hooks from inside the container's namespaces, where its first process is number 1.
pub(crate) fn run_inside(hooks: &[Hook], point: &str, plan: &Plan) -> Result<(), Error> {
    if hooks.is_empty() {
        return Ok(());
    }
    let pid = rustix::process::getpid().as_raw_pid();
    let status = if point == "startContainer" { Status::Created } else { Status::Creating };
    run(hooks, point, &state(plan, status, pid))
}

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run(hooks: &[Hook], point: &str, state: &serde_json::Value) -> Result<(), Error> {
    for (index, hook) in hooks.iter().enumerate() {
        one(hook, state)
            .map_err(|problem| Error::Failed(format!("hooks.{point}[{index}]: {} {problem}", hook.path.display())))?;
    }
    Ok(())
}

fn one(hook: &Hook, state: &serde_json::Value) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    command.args(hook.args.iter().skip(1)).env_clear();
    command.envs(hook.env.iter().filter_map(|text| text.split_once('=')));
    // Its output would mix with the container's; its errors are the user's to see.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("can't be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A hook that doesn't read its input is none of our business.
        let _ = input.write_all(state.to_string().as_bytes());
    }
    let status = match hook.timeout {
        None => child.wait().map_err(|error| error.to_string())?,
        Some(seconds) => {
            let deadline = Instant::now() + Duration::from_secs(u64::from(seconds));
            loop {
                match child.try_wait().map_err(|error| error.to_string())? {
                    Some(status) => break status,
                    None if Instant::now() > deadline => {
                        let _ = child.kill();
                        let _ = child.wait();
                        return Err(format!("took longer than its timeout of {seconds} s"));
                    }
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        }
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("ended with exit code {code}")),
        (None, signal) => Err(format!("was killed by signal {}", signal.unwrap_or(0))),
    }
}

/// Runs hooks whose failure changes nothing; it is reported.
pub(crate) fn run_and_report(hooks: &[Hook], point: &str, state: &serde_json::Value) {
    for hook in hooks {
        if let Err(error) = run(std::slice::from_ref(hook), point, state) {
            let _ = writeln!(std::io::stderr(), "insula: warning: {error}");
        }
    }
}

/// Makes sure that hooks are there before anything is made.
pub(crate) fn check(hooks: &Hooks) -> Result<(), Error> {
    for (point, list) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
        for hook in list {
            rustix::fs::stat(&hook.path)
                .on("find the hook", format_args!("hooks.{point} {}", hook.path.display()))
                .map_err(failed)?;
        }
    }
    Ok(())
}
