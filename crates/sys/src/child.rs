//! Programs of the host that do a part of our work, and end with us.

use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Has a command run in a process group of its own (what is typed at our terminal is ours), be told to end when the calling thread does,
/// and start without blocked signals, whichever are blocked here. Source: PR_SET_PDEATHSIG(2const).
pub fn tie(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: what runs between fork and exec are system calls that neither allocate nor lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // It may have ended already, and then nobody will tell.
            if getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            crate::signals::unblock_all();
            Ok(())
        })
    }
}

/// Ends a child made so, with all of its group, and waits for it.
pub fn end(child: &mut Child) {
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Stdio;

    #[test]
    fn a_child_ends_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo; wait"]).stdout(Stdio::piped());
        let mut child = tie(&mut command).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        assert_eq!(output.read(&mut [0; 8]).unwrap(), 1);
        end(&mut child);
        // The pipe ends when nobody holds it any more.
        assert_eq!(output.read(&mut [0; 8]).unwrap(), 0);
    }
}
