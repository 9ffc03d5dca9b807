//! System calls: what one crossing into the kernel costs, alone and with work behind it.

use super::{Samples, Trouble, check};
use crate::clock::{per_operation, time};
use crate::options::Options;
use memmap2::MmapMut;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::futex;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const NS: f64 = 1e9;
const US: f64 = 1e6;
const PAGE: usize = 4096;
const MAPPING: usize = 64 * 1024;

pub(super) fn run(kind: &str, options: &Options) -> Samples {
    let seconds = options.seconds;
    match kind {
        "getppid" => getppid(seconds),
        "read-1" => read(seconds),
        "open-close" => open_close(seconds, options.dir.as_deref()),
        "pipe-ping" => pipe_ping(seconds),
        "futex-ping" => futex_ping(seconds),
        "fork-wait" => fork_wait(seconds),
        "spawn" => spawn(seconds),
        "mmap-64k" => mmap(seconds),
        other => Err(Trouble::Unsupported(format!("no row sys.{other}"))),
    }
}

fn getppid(seconds: f64) -> Samples {
    let parent = rustix::process::getppid();
    let samples = per_operation(seconds, |n| {
        let mut same = true;
        for _ in 0..n {
            same &= black_box(rustix::process::getppid()) == parent;
        }
        check(same, "getppid changed its answer")
    })?;
    Ok(time(samples, NS))
}

fn read(seconds: f64) -> Samples {
    let zero =
        rustix::fs::open("/dev/zero", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Trouble::at("open /dev/zero"))?;
    let samples = per_operation(seconds, |n| {
        let mut byte = [1];
        for _ in 0..n {
            let got = rustix::io::read(&zero, &mut byte).map_err(Trouble::at("read /dev/zero"))?;
            check(got == 1 && byte == [0], "/dev/zero did not give one zero byte")?;
            byte = [1];
        }
        Ok(())
    })?;
    Ok(time(samples, NS))
}

/// Opens by one path component, relative to a directory: the length of the path to it must not tell boundaries apart.
fn open_close(seconds: f64, dir: Option<&Path>) -> Samples {
    let dir = dir.unwrap_or(Path::new("/"));
    let at = rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Trouble::at(format!("open {}", dir.display())))?;
    let (name, made) = if dir == Path::new("/") { (".", false) } else { ("opened", true) };
    if made {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&at, name, flags, Mode::RUSR).map_err(Trouble::at(format!("create a file in {}", dir.display())))?;
    }
    let samples = per_operation(seconds, |n| {
        for _ in 0..n {
            rustix::fs::openat(&at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Trouble::at("open a file"))?;
        }
        Ok(())
    });
    if made {
        rustix::fs::unlinkat(&at, name, rustix::fs::AtFlags::empty()).map_err(Trouble::at("unlink"))?;
    }
    Ok(time(samples?, NS))
}

fn pipe_ping(seconds: f64) -> Samples {
    let (from, to) = rustix::pipe::pipe().map_err(Trouble::at("pipe"))?;
    let samples = per_operation(seconds, |n| {
        let mut byte = [0];
        for i in 0..n {
            let sent = [i as u8];
            rustix::io::write(&to, &sent).map_err(Trouble::at("write into a pipe"))?;
            rustix::io::read(&from, &mut byte).map_err(Trouble::at("read from a pipe"))?;
            check(byte == sent, "a pipe gave another byte than was written")?;
        }
        Ok(())
    })?;
    Ok(time(samples, NS))
}

/// Two threads count a shared word up in turns, one the odd numbers, one the even ones; each sleeps until it is its turn.
fn futex_ping(seconds: f64) -> Samples {
    let samples = per_operation(seconds, |n| {
        let word = AtomicU32::new(0);
        let end = u32::try_from(2 * n).map_err(|_| Trouble::Unsupported("too many rounds".into()))?;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| take_turns(&word, 1, end));
            take_turns(&word, 0, end)?;
            other.join().map_err(|_| Trouble::Wrong("the other thread panicked".into()))?
        })?;
        check(word.load(Ordering::Acquire) == end, "the two threads lost a turn")
    })?;
    Ok(time(samples, NS))
}

fn take_turns(word: &AtomicU32, mine: u32, end: u32) -> Result<(), Trouble> {
    loop {
        let now = word.load(Ordering::Acquire);
        if now >= end {
            return Ok(());
        }
        if now % 2 == mine {
            word.store(now + 1, Ordering::Release);
            futex::wake(word, futex::Flags::PRIVATE, 1).map_err(Trouble::at("futex wake"))?;
        } else {
            match futex::wait(word, futex::Flags::PRIVATE, now, None) {
                Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Trouble::at("futex wait")(error)),
            }
        }
    }
}

/// The rows before this one have waited for the end of their threads, so the copy has all there is.
fn fork_wait(seconds: f64) -> Samples {
    let samples = per_operation(seconds, |n| {
        for _ in 0..n {
            let copy = match fork::fork().map_err(Trouble::at("fork"))? {
                fork::Fork::Child => std::process::exit(0),
                fork::Fork::Parent(pid) => Pid::from_raw(pid),
            };
            let ended = rustix::process::waitpid(copy, WaitOptions::empty()).map_err(Trouble::at("wait for a copy"))?;
            check(ended.is_some_and(|(pid, status)| Some(pid) == copy && status.exit_status() == Some(0)), "a copy got lost")?;
        }
        Ok(())
    })?;
    Ok(time(samples, US))
}

fn spawn(seconds: f64) -> Samples {
    let own = std::env::current_exe().map_err(Trouble::at("find the own program (is /proc mounted?)"))?;
    let samples = per_operation(seconds, |n| {
        for _ in 0..n {
            let status = Command::new(&own).arg("noop").stdin(Stdio::null()).status().map_err(Trouble::at("start a program"))?;
            check(status.success(), "a program that does nothing failed")?;
        }
        Ok(())
    })?;
    Ok(time(samples, US))
}

fn mmap(seconds: f64) -> Samples {
    let samples = per_operation(seconds, |n| {
        for _ in 0..n {
            let mut map = MmapMut::map_anon(MAPPING).map_err(Trouble::at("map 64 KiB"))?;
            let mut clean = true;
            for page in map.chunks_mut(PAGE) {
                clean &= page[0] == 0;
                page[0] = 1;
            }
            check(clean && black_box(&map)[MAPPING - PAGE] == 1, "fresh memory was not zero, or forgot what was written")?;
        }
        Ok(())
    })?;
    Ok(time(samples, NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_give_what_they_should() {
        for row in [getppid, read, pipe_ping, futex_ping, mmap] {
            let samples = row(0.001).expect("works on Linux");
            assert!(samples.iter().all(|&sample| sample > 0.0), "{samples:?}");
        }
        open_close(0.001, Some(&std::env::temp_dir())).expect("works on Linux");
    }
}
