//! A connection to the message bus. Source: D-Bus Specification, "Server Addresses", "Authentication Protocol", "Message Bus Specification".

use crate::message::{self, Call, Message};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// How long an answer may take: as runc has it for a unit that starts or stops.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signals that came and nobody asked for yet; of more, the oldest are forgotten.
const MOST_SIGNALS: usize = 1024;

/// The longest line of the authentication, in bytes.
const LONGEST_LINE: u64 = 16 << 10;

/// A connection; its user has been made known.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    signals: VecDeque<Message>,
}

impl Bus {
    /// Connects to the host's bus, or to that of the user's session.
    pub(crate) fn connect(of_user: bool) -> Result<Bus> {
        let addresses = addresses(of_user);
        let unreachable = |problem: String| Error::Unreachable { address: addresses.clone(), problem };
        let stream = open(&addresses).map_err(|error| unreachable(describe(&error)))?;
        let mut bus = Bus { stream: BufReader::new(stream), serial: 0, signals: VecDeque::new() };
        bus.authenticate().map_err(|error| unreachable(describe(&error)))?;
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            method: "Hello",
            signature: "",
        };
        bus.call("say hello", &hello, &[]).map_err(|error| unreachable(error.to_string()))?;
        Ok(bus)
    }

    /// We are who the kernel says we are; the other side asks it.
    fn authenticate(&mut self) -> std::io::Result<()> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.stream.get_mut().write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let mut line = String::new();
        (&mut self.stream).take(LONGEST_LINE).read_line(&mut line)?;
        if !line.starts_with("OK ") {
            return Err(std::io::Error::new(ErrorKind::PermissionDenied, format!("it answers {:?}", line.trim())));
        }
        self.stream.get_mut().write_all(b"BEGIN\r\n")
    }

    /// Calls a method and waits for its answer; `what` is done by it, for the message.
    pub(crate) fn call(&mut self, what: &str, call: &Call, body: &[u8]) -> Result<Message> {
        let broken = |error: std::io::Error| Error::Bus { what: what.into(), problem: describe(&error) };
        self.serial += 1;
        let bytes = message::encode(call, self.serial, body);
        self.stream.get_mut().write_all(&bytes).map_err(broken)?;
        loop {
            let message = Message::read(&mut self.stream).map_err(broken)?;
            match message.kind {
                message::METHOD_RETURN if message.reply_to == Some(self.serial) => return Ok(message),
                message::ERROR if message.reply_to == Some(self.serial) => {
                    let (name, message) = (message.error.clone(), message.text());
                    return Err(Error::Refused { what: what.into(), name, message });
                }
                message::SIGNAL => self.keep(message),
                _ => {}
            }
        }
    }

    /// The next signal: one that came while an answer was waited for, or else the next to come.
    pub(crate) fn signal(&mut self, what: &str) -> Result<Message> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let message =
                Message::read(&mut self.stream).map_err(|error| Error::Bus { what: what.into(), problem: describe(&error) })?;
            if message.kind == message::SIGNAL {
                self.keep(message);
            }
        }
    }

    fn keep(&mut self, signal: Message) {
        if self.signals.len() == MOST_SIGNALS {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }
}

/// The addresses of a bus, as the environment has them or else as they are by custom; several are separated by semicolons.
fn addresses(of_user: bool) -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if !of_user {
        return set("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".into());
    }
    set("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| {
        let dir = set("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", rustix::process::getuid().as_raw()));
        format!("unix:path={dir}/bus")
    })
}

/// Opens the first that can be opened; the last one's error.
fn open(addresses: &str) -> std::io::Result<UnixStream> {
    let mut result = Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no address like unix:path=FILE"));
    for address in addresses.split(';') {
        let Some(pairs) = address.strip_prefix("unix:") else { continue };
        for pair in pairs.split(',') {
            let socket = match pair.split_once('=') {
                Some(("path", path)) => SocketAddr::from_pathname(unescaped(path)),
                Some(("abstract", name)) => SocketAddr::from_abstract_name(unescaped(name)),
                _ => continue,
            };
            result = socket.and_then(|socket| UnixStream::connect_addr(&socket));
            if let Ok(stream) = &result {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return result;
            }
        }
    }
    result
}

/// Bytes of an address that are written as `%` and two digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                plain.push(byte);
                plain.extend(&part.as_bytes()[2..]);
            }
            None => plain.extend(format!("%{part}").into_bytes()),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// An error without its number.
fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer within {} seconds", PATIENCE.as_secs()),
        ErrorKind::UnexpectedEof => "the connection was closed".into(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
    }
}
