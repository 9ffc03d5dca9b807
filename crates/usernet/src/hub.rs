//! What all parts of a network share.

use crate::config::Config;
use crate::error::Result;
use crate::link::Link;
use crate::reach::Reach;
use crate::resolvers::Resolvers;
use crate::ring::Pool;
use crate::timers::{Id, Timers};
use crate::wire::Head;
use insula_sys::error::Context;
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::VecDeque;
use std::time::Instant;

/// Most small frames that wait for the guest to take them. A guest that doesn't read them doesn't need them.
const MOST_REPLIES: usize = 64;

/// The cable, the clock, and who has something to say.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) link: Link,
    pub(crate) reach: Reach,
    pub(crate) resolvers: Resolvers,
    pub(crate) pool: Pool,
    pub(crate) timers: Timers,
    /// All that is waited for: each says a change once (EPOLLET), and is asked what there is until there is no more.
    pub(crate) epoll: OwnedFd,
    /// Whoever may have a frame for the guest, in turn.
    pub(crate) news: VecDeque<Id>,
    replies: VecDeque<Vec<u8>>,
    next: Id,
    started: Instant,
    /// Milliseconds since then.
    pub(crate) now: u64,
    /// The head of the frame that goes out now.
    pub(crate) head: Head,
}

impl Hub {
    /// Numbers up to `first` stand for something already.
    pub(crate) fn new(config: &Config, first: Id) -> Result<Hub> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).on("make", "an epoll set")?;
        Ok(Hub {
            link: Link::new(config),
            reach: Reach { host_loopback: config.host_loopback, elsewhere: None },
            resolvers: Resolvers::new(&config.resolv_conf),
            pool: Pool::default(),
            timers: Timers::new()?,
            epoll,
            news: VecDeque::new(),
            replies: VecDeque::new(),
            next: first,
            started: Instant::now(),
            now: 0,
            head: Head::empty(),
        })
    }

    /// Looks at the clock.
    pub(crate) fn tick(&mut self) {
        self.now = self.started.elapsed().as_millis() as u64;
    }

    /// Microseconds, for numbers that must go up (RFC 9293 section 3.4.1).
    pub(crate) fn microseconds(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// A number that nothing else has.
    pub(crate) fn id(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    /// Waits for a socket from now on.
    pub(crate) fn watch(&self, socket: impl AsFd, id: Id) -> rustix::io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags)
    }

    /// Has a frame for the guest, which is small and can be lost.
    pub(crate) fn reply(&mut self, frame: Vec<u8>) {
        if self.replies.len() < MOST_REPLIES {
            self.replies.push_back(frame);
        }
    }

    pub(crate) fn next_reply(&mut self) -> Option<Vec<u8>> {
        self.replies.pop_front()
    }

    /// Forgets what is to be said.
    pub(crate) fn clear(&mut self) {
        self.link.clear();
        self.news.clear();
        self.replies.clear();
    }
}
