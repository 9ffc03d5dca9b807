//! Waiting for many descriptors by number: for event loops whose devices say which. Source: epoll(7).

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::event::PollFlags;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::os::fd::RawFd;

/// A set of descriptors to wait for, each with a key of the caller's.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> Result<Epoll> {
        // SAFETY: no memory is read.
        let fd = Errno::result(i64::from(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })).on("make", "an epoll set")?;
        // SAFETY: the descriptor is new and ours.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Waits for this one too, level-triggered. What it names must stay open until it is removed, or leave the set by being closed.
    /// Errors and the other end's hanging up are told without being asked for.
    ///
    /// # Errors
    /// It can't be waited for (a plain file), or is in the set already.
    pub fn add(&self, fd: RawFd, interest: PollFlags, key: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, key)
    }

    /// Waits for something else of one that is in the set.
    ///
    /// # Errors
    /// It isn't in the set.
    pub fn change(&self, fd: RawFd, interest: PollFlags, key: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, key)
    }

    fn control(&self, operation: i32, fd: RawFd, interest: PollFlags, key: u64) -> Result<()> {
        // The bits of poll(2) are those of epoll.
        let mut event = libc::epoll_event { events: u32::from(interest.bits()), u64: key };
        // SAFETY: `event` lives through the call; a number that is no descriptor is an error, not harm.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) };
        Errno::result(i64::from(result)).on("wait for descriptor", fd).map(drop)
    }

    /// Waits for it no longer; one that is closed has left by itself.
    pub fn remove(&self, fd: RawFd) {
        // SAFETY: no event is passed.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits until at least one is ready, and puts the keys of those that are into `ready`, each with what it is ready for.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn wait(&self, ready: &mut Vec<(u64, PollFlags)>) -> Result<()> {
        const MOST: usize = 32;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        ready.clear();
        loop {
            // SAFETY: the list has room for as many events as is said.
            let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), MOST as i32, -1) };
            match Errno::result(i64::from(count)) {
                Ok(count) => {
                    let told = |event: &libc::epoll_event| (event.u64, PollFlags::from_bits_truncate(event.events as u16));
                    ready.extend(events.iter().take(count as usize).map(told));
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).on("wait for", "events"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ready_is_told() {
        let epoll = Epoll::new().unwrap();
        let [one, other] = [(); 2].map(|()| rustix::pipe::pipe().unwrap());
        epoll.add(one.0.as_raw_fd(), PollFlags::IN, 1 << 40).unwrap();
        epoll.add(other.0.as_raw_fd(), PollFlags::IN, 2).unwrap();
        let mut ready = Vec::new();
        rustix::io::write(&one.1, b"x").unwrap();
        epoll.wait(&mut ready).unwrap();
        assert_eq!(ready, [(1 << 40, PollFlags::IN)]);
        epoll.remove(one.0.as_raw_fd());
        rustix::io::write(&other.1, b"x").unwrap();
        epoll.wait(&mut ready).unwrap();
        assert_eq!(ready, [(2, PollFlags::IN)]);
        epoll.change(other.0.as_raw_fd(), PollFlags::empty(), 3).unwrap();
        drop(other.1);
        epoll.wait(&mut ready).unwrap();
        assert_eq!(ready, [(3, PollFlags::HUP)], "unasked");
        assert!(epoll.add(-1, PollFlags::IN, 0).is_err());
    }
}
