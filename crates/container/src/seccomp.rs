//! A process's policy: compiled on the caller's side, sent to where the process is made.

use crate::channel::Channel;
use insula_boundary::Error;
use insula_seccomp::compile;
use insula_spec::plan::Process;
use insula_sys::seccomp::Instruction;

/// Compiles a process's policy, if it has one, and sends it there.
pub(crate) fn send(channel: &Channel, process: &Process) -> Result<(), Error> {
    let Some(policy) = &process.seccomp else { return Ok(()) };
    let program = compile(policy).map_err(|error| Error::Failed(format!("linux.seccomp: {error}")))?;
    // If the process has ended, why is in the channel already: it will be read with the next message.
    channel.send_filter(&program).or(Ok(()))
}

/// Waits, in the process, for its compiled policy.
pub(crate) fn receive(channel: &Channel, process: &Process) -> Result<Option<Vec<Instruction>>, Error> {
    process.seccomp.is_some().then(|| channel.receive_filter()).transpose()
}
