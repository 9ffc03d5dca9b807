//! The options of `SOL_SOCKET`, socket(7).

use super::Socket;
use super::common::{BUFFER_MAX, Common, NEVER, Options, RECEIVE_BUFFER_MIN, SEND_BUFFER_MIN};
use crate::task::Task;
use crate::wait::Events;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::Ucred;
use insula_abi::time::Timeval;
use insula_abi::zerocopy::{FromBytes, IntoBytes};

/// A number, as most options are.
///
/// # Errors
/// `EINVAL`: it is shorter.
pub fn number(value: &[u8]) -> Result<i32> {
    i32::read_from_prefix(value).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

/// As [`number`], for options of levels that take a single byte too, ip(7).
///
/// # Errors
/// `EINVAL`: there is none.
pub fn number_or_byte(value: &[u8]) -> Result<i32> {
    number(value).or_else(|errno| value.first().map(|byte| i32::from(*byte)).ok_or(errno))
}

/// All of `SOF_TIMESTAMPING_*` that Linux 6.12 knows.
const TIMESTAMPING_KNOWN: u32 = (1 << 18) - 1;

/// `SOF_TXTIME_DEADLINE_MODE` and `SOF_TXTIME_REPORT_ERRORS`.
const TXTIME_KNOWN: u32 = 3;

/// How an option of yes and no is kept.
fn flag(options: &mut Options, name: u32) -> Option<&mut bool> {
    Some(match name {
        n::SO_DEBUG => &mut options.debug,
        n::SO_REUSEADDR => &mut options.reuse_address,
        n::SO_REUSEPORT => &mut options.reuse_port,
        n::SO_KEEPALIVE => &mut options.keep_alive,
        n::SO_BROADCAST => &mut options.broadcast,
        n::SO_OOBINLINE => &mut options.out_of_band_inline,
        n::SO_DONTROUTE => &mut options.dont_route,
        n::SO_NO_CHECK => &mut options.no_checksum,
        n::SO_PASSSEC => &mut options.pass_security,
        n::SO_RXQ_OVFL => &mut options.overflow,
        n::SO_ZEROCOPY => &mut options.zero_copy,
        _ => return None,
    })
}

/// Sets one.
///
/// # Errors
/// As setsockopt(2).
pub fn set(socket: &dyn Socket, task: &Arc<Task>, name: u32, value: &[u8]) -> Result<()> {
    if let Some(outcome) = socket.set_own_option(task, name, value) {
        return outcome;
    }
    let common = socket.common();
    match name {
        n::SO_BINDTODEVICE => return bind_to_device(common, task, value),
        n::SO_LINGER => {
            let [on, seconds] = <[i32; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?.0;
            common.options.lock().linger = (on != 0).then_some(seconds.max(0) as u32);
            return Ok(());
        }
        n::SO_RCVTIMEO_OLD | n::SO_RCVTIMEO_NEW => {
            common.receive_timeout.store(timeout(value)?, Ordering::Relaxed);
            return Ok(());
        }
        n::SO_SNDTIMEO_OLD | n::SO_SNDTIMEO_NEW => {
            common.send_timeout.store(timeout(value)?, Ordering::Relaxed);
            return Ok(());
        }
        _ => {}
    }
    let number = number(value)?;
    let has = |capability| common.net.grants(task, capability);
    match name {
        n::SO_SNDBUF => send_buffer(socket, (number as u32).min(BUFFER_MAX)),
        n::SO_RCVBUF => receive_buffer(socket, (number as u32).min(BUFFER_MAX)),
        n::SO_SNDBUFFORCE | n::SO_RCVBUFFORCE if !has(c::CAP_NET_ADMIN) => return Err(Errno::EPERM),
        // Beyond the limit for everybody only as far as our own memory goes.
        n::SO_SNDBUFFORCE => send_buffer(socket, (number.max(0) as u32).min(16 * BUFFER_MAX)),
        n::SO_RCVBUFFORCE => receive_buffer(socket, (number.max(0) as u32).min(16 * BUFFER_MAX)),
        n::SO_PASSCRED if common.domain == n::AF_UNIX || common.domain == n::AF_NETLINK => {
            common.pass_credentials.store(number != 0, Ordering::Relaxed);
        }
        n::SO_PASSCRED => return Err(Errno::EOPNOTSUPP),
        n::SO_PEEK_OFF if common.domain == n::AF_UNIX => {
            if number < -1 {
                return Err(Errno::EINVAL);
            }
            common.peek_offset.store(number, Ordering::Relaxed);
        }
        n::SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        n::SO_PRIORITY => {
            let allowed = (0..=6).contains(&number) || has(c::CAP_NET_ADMIN) || has(c::CAP_NET_RAW);
            if !allowed {
                return Err(Errno::EPERM);
            }
            common.options.lock().priority = number as u32;
        }
        n::SO_MARK if !has(c::CAP_NET_ADMIN) && !has(c::CAP_NET_RAW) => return Err(Errno::EPERM),
        n::SO_MARK => common.options.lock().mark = number as u32,
        n::SO_DEBUG if number != 0 && !has(c::CAP_NET_ADMIN) => return Err(Errno::EACCES),
        n::SO_RCVLOWAT => common.options.lock().receive_low = if number < 0 { i32::MAX as u32 } else { number.max(1) as u32 },
        n::SO_TIMESTAMP_OLD | n::SO_TIMESTAMPNS_OLD | n::SO_TIMESTAMP_NEW | n::SO_TIMESTAMPNS_NEW => {
            common.options.lock().timestamp = if number != 0 { name } else { 0 };
            task.kernel().sockets.stamps.store(true, Ordering::Relaxed);
        }
        // Times of arrival are told; of sending, as where a driver can't tell, none is.
        n::SO_TIMESTAMPING_OLD | n::SO_TIMESTAMPING_NEW => {
            if number as u32 & !TIMESTAMPING_KNOWN != 0 {
                return Err(Errno::EINVAL);
            }
            let mut options = common.options.lock();
            (options.timestamping, options.timestamping_kind) = (number as u32, name);
            task.kernel().sockets.stamps.store(true, Ordering::Relaxed);
        }
        n::SO_TXTIME => common.options.lock().send_time = Some(send_time(common, task, value)?),
        n::SO_BUF_LOCK => {
            if number as u32 & !n::SOCK_BUF_LOCK_MASK != 0 {
                return Err(Errno::EINVAL);
            }
            common.buffer_lock.store(number as u32, Ordering::Relaxed);
        }
        n::SO_MAX_PACING_RATE => common.options.lock().max_pacing = u64::from(number as u32),
        n::SO_BUSY_POLL if number < 0 => return Err(Errno::EINVAL),
        n::SO_BUSY_POLL => common.options.lock().busy_poll = number as u32,
        n::SO_BSDCOMPAT => {}
        n::SO_SNDLOWAT | n::SO_TYPE | n::SO_PROTOCOL | n::SO_DOMAIN | n::SO_ERROR | n::SO_ACCEPTCONN => {
            return Err(Errno::ENOPROTOOPT);
        }
        name => match flag(&mut common.options.lock(), name) {
            Some(flag) => *flag = number != 0,
            None => return Err(Errno::ENOPROTOOPT),
        },
    }
    socket.option_changed(name);
    Ok(())
}

fn send_buffer(socket: &dyn Socket, bytes: u32) {
    let common = socket.common();
    common.send_buffer.store((bytes * 2).max(SEND_BUFFER_MIN), Ordering::Relaxed);
    common.buffer_lock.fetch_or(n::SOCK_SNDBUF_LOCK, Ordering::Relaxed);
    common.queue.wake(Events::WRITABLE);
}

fn receive_buffer(socket: &dyn Socket, bytes: u32) {
    let common = socket.common();
    common.receive_buffer.store((bytes * 2).max(RECEIVE_BUFFER_MIN), Ordering::Relaxed);
    common.buffer_lock.fetch_or(n::SOCK_RCVBUF_LOCK, Ordering::Relaxed);
}

/// A timeout in nanoseconds; zero is none.
fn timeout(value: &[u8]) -> Result<u64> {
    let (time, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EDOM);
    }
    if time.sec < 0 {
        return Ok(0);
    }
    match time.to_nanos()? {
        0 => Ok(NEVER),
        nanos => Ok(nanos),
    }
}

/// By which clock messages may say when they are to leave, and how (`struct sock_txtime`). As without a queueing discipline that looks at it,
/// they leave at once.
fn send_time(common: &Common, task: &Arc<Task>, value: &[u8]) -> Result<[u32; 2]> {
    let [clock, flags] = <[u32; 2]>::read_from_bytes(value).map_err(|_| Errno::EINVAL)?;
    if flags & !TXTIME_KNOWN != 0 || !matches!(clock, c::CLOCK_REALTIME | c::CLOCK_MONOTONIC | c::CLOCK_TAI) {
        return Err(Errno::EINVAL);
    }
    if clock != c::CLOCK_MONOTONIC && !common.net.grants(task, c::CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    Ok([clock, flags])
}

fn bind_to_device(common: &Common, task: &Arc<Task>, value: &[u8]) -> Result<()> {
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = &name[..name.len().min(15)];
    let index = match name {
        b"" => 0,
        name => common.inet().interfaces.named(name).ok_or(Errno::ENODEV)?.index,
    };
    let mut options = common.options.lock();
    if options.device != 0 && !common.net.grants(task, c::CAP_NET_RAW) {
        return Err(Errno::EPERM);
    }
    options.device = index;
    Ok(())
}

/// What one is.
///
/// # Errors
/// As getsockopt(2).
pub fn get(socket: &dyn Socket, task: &Arc<Task>, name: u32) -> Result<Vec<u8>> {
    if let Some(outcome) = socket.own_option(name) {
        return outcome;
    }
    let common = socket.common();
    let options = common.options.lock().clone();
    let int = |value: u32| Ok(value.to_ne_bytes().to_vec());
    match name {
        n::SO_TYPE => int(common.kind),
        n::SO_DOMAIN => int(common.domain),
        n::SO_PROTOCOL => int(common.protocol),
        n::SO_ERROR => int(socket.take_error().map_or(0, |errno| u32::from(errno.0))),
        n::SO_ACCEPTCONN => int(socket.is_listening().into()),
        n::SO_SNDBUF => int(common.send_buffer.load(Ordering::Relaxed)),
        n::SO_RCVBUF => int(common.receive_buffer.load(Ordering::Relaxed)),
        n::SO_BUF_LOCK => int(common.buffer_lock.load(Ordering::Relaxed)),
        n::SO_LINGER => Ok([u32::from(options.linger.is_some()), options.linger.unwrap_or(0)].as_bytes().to_vec()),
        n::SO_RCVTIMEO_OLD | n::SO_RCVTIMEO_NEW => Ok(timeval(common.receive_timeout.load(Ordering::Relaxed))),
        n::SO_SNDTIMEO_OLD | n::SO_SNDTIMEO_NEW => Ok(timeval(common.send_timeout.load(Ordering::Relaxed))),
        n::SO_PASSCRED => int(common.passes_credentials().into()),
        n::SO_PEERCRED => {
            let peer = socket.peer_credentials().unwrap_or(Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX });
            Ok(super::common::shown(task, peer).as_bytes().to_vec())
        }
        n::SO_PEEK_OFF => int(common.peek_offset.load(Ordering::Relaxed) as u32),
        n::SO_PRIORITY => int(options.priority),
        n::SO_MARK => int(options.mark),
        n::SO_RCVLOWAT => int(options.receive_low),
        n::SO_SNDLOWAT => int(1),
        n::SO_BUSY_POLL => int(options.busy_poll),
        n::SO_BSDCOMPAT | n::SO_INCOMING_CPU => int(0),
        n::SO_MAX_PACING_RATE => int(u32::try_from(options.max_pacing).unwrap_or(u32::MAX)),
        n::SO_COOKIE => Ok(common.ino.to_ne_bytes().to_vec()),
        n::SO_NETNS_COOKIE => Ok(common.net.cookie().to_ne_bytes().to_vec()),
        n::SO_TIMESTAMP_OLD | n::SO_TIMESTAMPNS_OLD | n::SO_TIMESTAMP_NEW | n::SO_TIMESTAMPNS_NEW => {
            int((options.timestamp == name).into())
        }
        n::SO_TIMESTAMPING_OLD | n::SO_TIMESTAMPING_NEW => int(options.timestamping),
        n::SO_TXTIME => Ok(options.send_time.unwrap_or_default().as_bytes().to_vec()),
        n::SO_BINDTODEVICE => Ok(match common.inet().interfaces.numbered(options.device).map(|one| one.name) {
            Some(mut name) => {
                name.push(0);
                name
            }
            None => Vec::new(),
        }),
        name => match flag(&mut options.clone(), name) {
            Some(flag) => int((*flag).into()),
            None => Err(Errno::ENOPROTOOPT),
        },
    }
}

fn timeval(nanos: u64) -> Vec<u8> {
    let time = if nanos == NEVER { Timeval::default() } else { Timeval::from_nanos(nanos) };
    time.as_bytes().to_vec()
}
