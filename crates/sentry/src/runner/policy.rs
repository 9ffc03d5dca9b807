//! A plan's policy for system calls, as a filter of the kernel's: what a program asks of the sentry is judged as it would be by the host.

use insula_abi::process::SockFilter;
use insula_kernel::Result;
use insula_kernel::seccomp::Extras;
use insula_kernel::seccomp::bpf::Program;
use insula_kernel::task::Task;
use insula_sys::seccomp::Instruction;

/// A policy's program.
#[derive(Clone, Debug)]
pub(super) struct Filter(Vec<SockFilter>);

impl Filter {
    /// Of these instructions.
    pub(super) fn new(program: &[Instruction]) -> Filter {
        let translate = |one: &Instruction| SockFilter { code: one.code, jump_true: one.jt, jump_false: one.jf, k: one.k };
        Filter(program.iter().map(translate).collect())
    }

    /// From now on it judges this task, and those it makes.
    ///
    /// # Errors
    /// The kernel doesn't take it.
    pub(super) fn confine(&self, task: &Task) -> Result<()> {
        let filter = task.confinement.with(Program::new(self.0.clone())?, Extras::default())?;
        task.confinement.filter(filter);
        Ok(())
    }
}
