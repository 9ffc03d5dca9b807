//! Who looks at the console of a system in the background.

use insula_container::attach;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::SendFlags;

/// The most that look at one console at a time.
const MOST: usize = 16;

/// The most that is kept for one who doesn't read, in bytes; what comes then they miss. The system never waits for them.
const FARTHEST_BEHIND: usize = 1 << 20;

/// The socket at which they ask, and those who have.
pub(crate) struct Visitors {
    listener: OwnedFd,
    list: Vec<Visitor>,
}

struct Visitor {
    connection: OwnedFd,
    /// Printed, but not taken yet.
    behind: Vec<u8>,
}

impl Visitors {
    pub(crate) fn new(listener: OwnedFd) -> Visitors {
        Visitors { listener, list: Vec::new() }
    }

    /// What to wait for; then [`Self::attend`].
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let waiting =
            |visitor: &Visitor| if visitor.behind.is_empty() { PollFlags::RDHUP } else { PollFlags::RDHUP | PollFlags::OUT };
        let visitors = self.list.iter().map(move |visitor| (visitor.connection.as_fd(), waiting(visitor)));
        visitors.chain([(self.listener.as_fd(), PollFlags::IN)])
    }

    /// Lets in who asks, and sees off who has left.
    pub(super) fn attend(&mut self, terminal: &OwnedFd) {
        while let Some(connection) = attach::admit(&self.listener, terminal) {
            // One too many hears the end at once.
            if self.list.len() < MOST {
                self.list.push(Visitor { connection, behind: Vec::new() });
            }
        }
        self.list.retain_mut(Visitor::catch_up);
    }

    /// Shows them what the system prints.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        for visitor in &mut self.list {
            let room = FARTHEST_BEHIND.saturating_sub(visitor.behind.len()).min(bytes.len());
            visitor.behind.extend_from_slice(&bytes[..room]);
        }
        self.list.retain_mut(Visitor::catch_up);
    }
}

impl Visitor {
    /// Whether they are still there.
    fn catch_up(&mut self) -> bool {
        // They say nothing: what can be read is their end.
        let left = matches!(rustix::net::recv(&self.connection, &mut [0; 1], rustix::net::RecvFlags::DONTWAIT), Ok((0, _)));
        while !left && !self.behind.is_empty() {
            match rustix::net::send(&self.connection, &self.behind, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => drop(self.behind.drain(..length)),
                Err(insula_sys::Errno::INTR) => {}
                Err(insula_sys::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        !left
    }
}
