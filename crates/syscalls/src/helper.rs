//! What tests of execve start: this program, telling what it finds on standard output, one fact a line.

use crate::sys::signal::{self, Action};
use crate::sys::{sys, zeroed};
use std::process::ExitCode;

pub(crate) fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    match args.next().as_deref() {
        Some("facts") => facts(),
        Some("exit") => ExitCode::from(args.next().and_then(|code| code.parse::<u8>().ok()).unwrap_or(255)),
        // Until its input ends: something to wait for.
        Some("wait") => {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(255),
    }
}

fn facts() -> ExitCode {
    for argument in std::env::args_os() {
        println!("argument {}", argument.display());
    }
    for (name, value) in std::env::vars_os() {
        println!("variable {}={}", name.display(), value.display());
    }
    for fd in 0..64 {
        if let Ok(flags) = sys!(fcntl(fd, libc::F_GETFD)) {
            println!("descriptor {fd} {flags}");
        }
    }
    let mut blocked = 0u64;
    let _ = sys!(rt_sigprocmask(libc::SIG_BLOCK, 0, &mut blocked, signal::SET));
    println!("blocked {blocked:x}");
    println!("pending {:x}", signal::pending());
    for number in 1..=64 {
        let mut action: Action = signal::recording(0, 0);
        if sys!(rt_sigaction(number, 0, &mut action, signal::SET)).is_ok() && action.handler != libc::SIG_DFL {
            println!("disposition {number} {}", if action.handler == libc::SIG_IGN { "ignored" } else { "handled" });
        }
    }
    let mut timer: libc::itimerval = zeroed();
    let _ = sys!(getitimer(libc::ITIMER_REAL, &mut timer));
    println!("timer {}", timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0);
    println!("old mapping {}", sys!(mincore(0x7000_0000, 4096, &mut [0u8])).is_ok());
    println!("pid {}", sys!(getpid()).unwrap_or(0));
    println!("parent {}", sys!(getppid()).unwrap_or(0));
    println!("nice {}", sys!(getpriority(libc::PRIO_PROCESS, 0)).unwrap_or(0));
    println!("umask {:o}", sys!(umask(0)).unwrap_or(0));
    println!("dumpable {}", sys!(prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0)).unwrap_or(9));
    println!("pdeathsig {}", death_signal());
    println!("nnp {}", sys!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)).unwrap_or(9));
    println!("keepcaps {}", sys!(prctl(libc::PR_GET_KEEPCAPS, 0, 0, 0, 0)).unwrap_or(9));
    let ids = [sys!(getuid()), sys!(geteuid()), sys!(getgid()), sys!(getegid())].map(|id| id.unwrap_or(usize::MAX));
    println!("ids {} {} {} {}", ids[0], ids[1], ids[2], ids[3]);
    for line in std::fs::read_to_string("/proc/self/status").unwrap_or_default().lines() {
        if line.starts_with("Cap") || line.starts_with("Name") {
            println!("status {line}");
        }
    }
    println!("cwd {}", std::env::current_dir().unwrap_or_default().display());
    ExitCode::SUCCESS
}

fn death_signal() -> i32 {
    let mut number = 0i32;
    let _ = sys!(prctl(libc::PR_GET_PDEATHSIG, &mut number, 0, 0, 0));
    number
}
