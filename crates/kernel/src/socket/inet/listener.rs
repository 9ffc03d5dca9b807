//! How TCP's two sides find each other: a listener, those who wait at it, and what comes of a connect.

use super::endpoint::Local;
use super::tcp::{Bound, End, State, Tcp};
use crate::socket::stream::{Connection, Rules};
use crate::wait::Events;
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::net::SocketAddr;
use core::sync::atomic::AtomicBool;

/// Connections that wait to be accepted.
pub(super) struct Listener {
    pub(super) backlog: u32,
    pub(super) waiting: VecDeque<Arc<Tcp>>,
    /// Those that come when there is room.
    pub(super) pending: VecDeque<Weak<Tcp>>,
}

impl Tcp {
    /// Somebody connects from `from` to this one, which listens: answers their end, or none if there is no room.
    ///
    /// # Errors
    /// `ECONNREFUSED`: it doesn't listen any more.
    pub(super) fn meet(&self, client: &Arc<Tcp>, from: SocketAddr, to: SocketAddr) -> Result<Option<Arc<End>>> {
        let kernel = self.kernel()?;
        let mut state = self.state.lock();
        let State::Listening(listener) = &mut *state else { return Err(Errno::ECONNREFUSED) };
        if listener.waiting.len() > listener.backlog as usize {
            listener.pending.retain(|other| other.strong_count() > 0);
            listener.pending.push_back(Arc::downgrade(client));
            return Ok(None);
        }
        let common = self.common.inherit(&kernel, &self.common.net);
        let capacity = [Tcp::capacity(&common, &client.common), Tcp::capacity(&client.common, &common)];
        let queues = [client.common.queue.clone(), common.queue.clone()];
        let connection = Connection::new(Rules::Tcp, capacity, queues);
        let segment = self.tcp.lock().segment_with(&client.tcp.lock());
        let end = |side, local, remote, fresh| {
            Arc::new(End { connection: connection.clone(), side, local, remote, segment, fresh: AtomicBool::new(fresh) })
        };
        let (mine, theirs) = (end(1, to, from, false), end(0, from, to, true));
        mine.connection.set_inline(1, common.options.lock().out_of_band_inline);
        theirs.connection.set_inline(0, client.common.options.lock().out_of_band_inline);
        let accepted = Tcp::with(&kernel, common, State::Connected(mine), self.ip.lock().clone(), self.tcp.lock().clone());
        let local = Local { ip: to.ip(), port: to.port(), only6: false };
        let taken = self.common.inet().tcp.join(accepted.claim(local), Arc::downgrade(&accepted));
        *accepted.bound.lock() = Some(Bound { taken, local, explicit: true });
        listener.waiting.push_back(accepted);
        drop(state);
        self.common.queue.wake(Events::READABLE);
        Ok(Some(theirs))
    }

    /// A connect has come out so.
    pub(super) fn settle(&self, outcome: Result<Option<Arc<End>>>, from: SocketAddr, to: SocketAddr) {
        let mut state = self.state.lock();
        match outcome {
            // It is no longer wanted.
            _ if !matches!(&*state, State::Connecting { .. }) => {
                drop(state);
                if let Ok(Some(end)) = outcome {
                    end.connection.close(end.side, true);
                }
                return;
            }
            Ok(Some(end)) => *state = State::Connected(end),
            Ok(None) => *state = State::Connecting { to, from },
            Err(errno) => {
                *state = State::Closed { failed: true };
                self.common.set_error(errno);
            }
        }
        drop(state);
        self.common.queue.wake(Events::all());
    }

    /// Lets in who has waited for room.
    pub(super) fn admit_pending(&self) {
        loop {
            let next = match &mut *self.state.lock() {
                State::Listening(listener) if listener.waiting.len() <= listener.backlog as usize => listener.pending.pop_front(),
                _ => None,
            };
            let Some(client) = next else { return };
            let Some(client) = client.upgrade() else { continue };
            let waits = match &*client.state.lock() {
                State::Connecting { to, from } => Some((*to, *from)),
                _ => None,
            };
            if let Some((to, from)) = waits {
                client.settle(self.meet(&client, from, to), from, to);
            }
        }
    }

    /// Those that wait at a listener that is no more are reset.
    pub(super) fn turn_away(listener: Listener) {
        for waiting in listener.waiting {
            waiting.close_with(true);
        }
        for client in listener.pending.iter().filter_map(Weak::upgrade) {
            let waits = match &*client.state.lock() {
                State::Connecting { to, from } => Some((*to, *from)),
                _ => None,
            };
            if let Some((to, from)) = waits {
                client.settle(Err(Errno::ECONNREFUSED), from, to);
            }
        }
    }
}
