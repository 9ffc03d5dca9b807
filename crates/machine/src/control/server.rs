//! Those who have connected to the control socket, as the event loop has them.

use super::{Answer, LINE, Request};
use crate::console::Console;
use crate::error::Result;
use insula_sys::epoll::Epoll;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::collections::BTreeMap;

/// Most who are connected at once; the next wait.
const MOST: usize = 32;

/// Who answers requests, and takes what is typed.
pub(crate) trait Desk {
    fn answer(&mut self, request: &Request) -> Answer;
    /// How much more can be typed now.
    fn room(&self) -> usize;
    fn type_in(&mut self, bytes: &[u8]);
}

/// All who have connected.
pub(crate) struct Clients {
    listener: Option<OwnedFd>,
    listening: bool,
    /// The key by which the event loop knows the listener; each client's comes after it.
    first: u64,
    next: u64,
    clients: BTreeMap<u64, Client>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Says what it wants, line by line.
    Asking,
    /// Is connected to the console.
    Attached,
    /// Is connected to the console, and has nothing more to type.
    Watching,
    /// Is gone when it has its last answer.
    Leaving,
}

struct Client {
    socket: OwnedFd,
    mode: Mode,
    line: Vec<u8>,
    /// For it, as far as it hasn't taken it.
    out: Vec<u8>,
    /// What the event loop waits for.
    interest: PollFlags,
}

impl Clients {
    /// Nobody yet; `key` and those after it are for the event loop to know them by.
    pub(crate) fn new(listener: Option<OwnedFd>, key: u64) -> Clients {
        Clients { listener, listening: false, first: key, next: key + 1, clients: BTreeMap::new() }
    }

    /// Has the event loop wait for what each wants now.
    pub(crate) fn update(&mut self, epoll: &Epoll, desk: &dyn Desk) -> Result<()> {
        if let Some(listener) = &self.listener
            && self.listening != (self.clients.len() < MOST)
        {
            self.listening = !self.listening;
            let fd = listener.as_fd().as_raw_fd();
            if self.listening { epoll.add(fd, PollFlags::IN, self.first)? } else { epoll.remove(fd) }
        }
        for (key, client) in &mut self.clients {
            let interest = client.wants(desk);
            if interest != client.interest {
                epoll.change(client.socket.as_raw_fd(), interest, *key)?;
                client.interest = interest;
            }
        }
        Ok(())
    }

    /// One of the sockets is ready.
    pub(crate) fn ready(
        &mut self,
        epoll: &Epoll,
        key: u64,
        flags: PollFlags,
        desk: &mut dyn Desk,
        console: &Console,
    ) -> Result<()> {
        if key == self.first {
            return self.accept(epoll);
        }
        let Some(client) = self.clients.get_mut(&key) else { return Ok(()) };
        let before = client.mode;
        let stays = client.serve(flags, desk);
        if before == Mode::Asking && client.mode == Mode::Attached {
            console.attach(key);
        }
        if !stays || !client.send(key, console) {
            self.dismiss(epoll, key, console);
        }
        Ok(())
    }

    /// Something was printed.
    pub(crate) fn tell(&mut self, epoll: &Epoll, console: &Console) {
        let gone: Vec<u64> =
            self.clients.iter_mut().filter_map(|(key, client)| (!client.send(*key, console)).then_some(*key)).collect();
        gone.into_iter().for_each(|key| self.dismiss(epoll, key, console));
    }

    fn accept(&mut self, epoll: &Epoll) -> Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let key = self.next;
                self.next += 1;
                epoll.add(socket.as_raw_fd(), PollFlags::IN, key)?;
                let (line, out) = (Vec::new(), Vec::new());
                self.clients.insert(key, Client { socket, mode: Mode::Asking, line, out, interest: PollFlags::IN });
            }
            // Its caller is gone already, or will be heard later.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            // Without a descriptor to spare nobody can be heard; to be told so again and again would help nobody.
            Err(_) => {
                epoll.remove(listener.as_raw_fd());
                self.listener = None;
            }
        }
        Ok(())
    }

    fn dismiss(&mut self, epoll: &Epoll, key: u64, console: &Console) {
        if let Some(client) = self.clients.remove(&key) {
            epoll.remove(client.socket.as_raw_fd());
            console.detach(key);
        }
    }
}

impl Client {
    fn wants(&self, desk: &dyn Desk) -> PollFlags {
        let reads = match self.mode {
            Mode::Asking => self.out.is_empty(),
            Mode::Attached => desk.room() > 0,
            Mode::Watching | Mode::Leaving => false,
        };
        let read = if reads { PollFlags::IN } else { PollFlags::empty() };
        let write = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        read | write
    }

    /// Takes what it says; false if it is gone.
    fn serve(&mut self, flags: PollFlags, desk: &mut dyn Desk) -> bool {
        if !flags.contains(PollFlags::IN) {
            return !flags.intersects(PollFlags::HUP | PollFlags::ERR);
        }
        match self.mode {
            Mode::Asking => self.hear(desk),
            Mode::Attached => {
                let mut bytes = [0; 256];
                let room = desk.room().min(bytes.len());
                match rustix::net::recv(&self.socket, &mut bytes[..room], RecvFlags::DONTWAIT) {
                    Ok((_, 0)) if room > 0 => self.mode = Mode::Watching,
                    Ok((_, length)) => desk.type_in(&bytes[..length]),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => return false,
                }
                true
            }
            Mode::Watching | Mode::Leaving => true,
        }
    }

    /// Takes at most one line from the socket, so that what follows it stays there until there is an answer.
    fn hear(&mut self, desk: &mut dyn Desk) -> bool {
        let mut bytes = [0; LINE];
        let room = LINE - self.line.len();
        let seen = match rustix::net::recv(&self.socket, &mut bytes[..room], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((_, 0)) => return false,
            Ok((_, length)) => &bytes[..length],
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        };
        let end = seen.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let length = end.unwrap_or(seen.len());
        self.line.extend_from_slice(&seen[..length]);
        if rustix::net::recv(&self.socket, &mut bytes[..length], RecvFlags::DONTWAIT).is_err() {
            return false;
        }
        let answer = if end.is_some() {
            self.understand(desk)
        } else if self.line.len() == LINE {
            self.mode = Mode::Leaving;
            Answer::Error(format!("a request has at most {LINE} bytes"))
        } else {
            return true;
        };
        self.line.clear();
        self.out = serde_json::to_vec(&answer).unwrap_or_default();
        self.out.push(b'\n');
        true
    }

    fn understand(&mut self, desk: &mut dyn Desk) -> Answer {
        match serde_json::from_slice(&self.line) {
            Ok(Request::Console {}) => {
                self.mode = Mode::Attached;
                Answer::Ok
            }
            Ok(request) => desk.answer(&request),
            Err(error) => Answer::Error(format!("not a request: {error}")),
        }
    }

    /// Sends what there is for it, as far as it takes it at once; false if it is gone, or has been told the last.
    fn send(&mut self, key: u64, console: &Console) -> bool {
        loop {
            if self.out.is_empty() && [Mode::Attached, Mode::Watching].contains(&self.mode) {
                self.out = console.take(key);
            }
            if self.out.is_empty() {
                return self.mode != Mode::Leaving;
            }
            match rustix::net::send(&self.socket, &self.out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    /// Answers everything with an error that says what was asked.
    #[derive(Default)]
    struct Echo {
        typed: Vec<u8>,
        full: bool,
    }

    impl Desk for Echo {
        fn answer(&mut self, request: &Request) -> Answer {
            Answer::Error(format!("{request:?}"))
        }
        fn room(&self) -> usize {
            if self.full { 0 } else { 100 }
        }
        fn type_in(&mut self, bytes: &[u8]) {
            self.typed.extend_from_slice(bytes);
        }
    }

    struct World {
        clients: Clients,
        epoll: Epoll,
        desk: Echo,
        console: Console,
        path: std::path::PathBuf,
        _dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("socket");
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (epoll, console) = (Epoll::new().unwrap(), Console::new(None, None).unwrap());
            epoll.add(console.news().as_raw_fd(), PollFlags::IN, 0).unwrap();
            World { clients: Clients::new(Some(listener.into()), 10), epoll, desk: Echo::default(), console, path, _dir: dir }
        }

        fn connect(&self) -> UnixStream {
            UnixStream::connect(&self.path).unwrap()
        }

        /// Lets the event loop turn until nothing is ready.
        fn settle(&mut self) {
            let (end, stop) = rustix::pipe::pipe().unwrap();
            rustix::io::write(&stop, b"x").unwrap();
            self.epoll.add(end.as_raw_fd(), PollFlags::IN, 1).unwrap();
            let mut ready = Vec::new();
            for turn in 0.. {
                assert!(turn < 10_000, "it turns for ever");
                self.clients.update(&self.epoll, &self.desk).unwrap();
                self.epoll.wait(&mut ready).unwrap();
                if ready.len() == 1 {
                    break;
                }
                for (key, flags) in ready.drain(..) {
                    match key {
                        0 => {
                            self.console.news().take();
                            self.clients.tell(&self.epoll, &self.console);
                        }
                        1 => {}
                        key => self.clients.ready(&self.epoll, key, flags, &mut self.desk, &self.console).unwrap(),
                    }
                }
            }
            self.epoll.remove(end.as_raw_fd());
        }

        fn heard(&mut self, stream: &mut UnixStream) -> String {
            self.settle();
            stream.set_nonblocking(true).unwrap();
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
    }

    #[test]
    fn requests_in_pieces_and_in_one_are_answered_in_order() {
        let mut world = World::new();
        let mut stream = world.connect();
        for piece in ["{\"do\":", "\"stop\"}\n{\"do\":\"kill\"}\nnon", "sense\n"] {
            stream.write_all(piece.as_bytes()).unwrap();
            world.settle();
        }
        let heard = world.heard(&mut stream);
        let lines: Vec<&str> = heard.lines().collect();
        assert_eq!(lines[..2], [r#"{"error":"Stop"}"#, r#"{"error":"Kill"}"#]);
        assert!(lines[2].starts_with(r#"{"error":"not a request: "#) && lines.len() == 3, "{heard}");
    }

    #[test]
    fn a_line_without_end_is_refused_and_its_sender_dismissed() {
        let mut world = World::new();
        let mut stream = world.connect();
        stream.write_all(&vec![b'x'; LINE + 1]).unwrap();
        assert_eq!(world.heard(&mut stream), "{\"error\":\"a request has at most 4096 bytes\"}\n");
        assert!(world.clients.clients.is_empty());
    }

    #[test]
    fn who_never_takes_an_answer_holds_up_nobody() {
        let mut world = World::new();
        let mut rude = world.connect();
        rude.set_nonblocking(true).unwrap();
        let mut asked = 0;
        while rude.write(b"{\"do\":\"stop\"}\n").is_ok_and(|length| length > 0) {
            asked += 1;
            if asked % 100 == 0 {
                world.settle();
            }
        }
        assert!(asked > 100);
        world.settle();
        assert!(world.clients.clients.values().all(|client| client.out.len() < 100 && client.line.is_empty()));
        let mut other = world.connect();
        other.write_all(b"{\"do\":\"kill\"}\n").unwrap();
        assert_eq!(world.heard(&mut other), "{\"error\":\"Kill\"}\n");
        drop(rude);
        drop(other);
        world.settle();
        assert!(world.clients.clients.is_empty());
    }

    #[test]
    fn too_many_wait_for_their_turn() {
        let mut world = World::new();
        let mut streams: Vec<UnixStream> = (0..MOST + 1).map(|_| world.connect()).collect();
        let mut last = streams.pop().unwrap();
        last.write_all(b"{\"do\":\"stop\"}\n").unwrap();
        assert_eq!(world.heard(&mut last), "");
        drop(streams.pop());
        assert_eq!(world.heard(&mut last), "{\"error\":\"Stop\"}\n");
    }

    #[test]
    fn the_console_goes_both_ways() {
        let mut world = World::new();
        let mut stream = world.connect();
        stream.write_all(b"{\"do\":\"console\"}\ntyped").unwrap();
        world.settle();
        world.console.write_all(b"printed").unwrap();
        assert_eq!(world.heard(&mut stream), "\"ok\"\nprinted");
        assert_eq!(world.desk.typed, b"typed");
        // What the guest has no room for waits in the socket.
        world.desk.full = true;
        stream.write_all(b" later").unwrap();
        world.settle();
        assert_eq!(world.desk.typed, b"typed");
        world.desk.full = false;
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        world.settle();
        world.console.write_all(b" more").unwrap();
        assert_eq!((world.heard(&mut stream).as_str(), world.desk.typed.as_slice()), (" more", &b"typed later"[..]));
        drop(stream);
        world.settle();
        assert!(world.clients.clients.is_empty());
    }
}
