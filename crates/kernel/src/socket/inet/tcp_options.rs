//! The options of TCP, tcp(7).

use super::tcp::Tcp;
use crate::socket::Common;
use crate::socket::options::number;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::net as n;

/// Bytes of a segment over loopback: what fits into its packets.
const SEGMENT: u32 = 65483;
/// And before there is a connection.
const SEGMENT_DEFAULT: u32 = 536;
/// What of a segment its option of times takes, RFC 7323.
const TIMES: u32 = 12;

/// Bytes of `struct tcp_info` that we know.
const INFO: usize = 232;

/// The name of congestion control: nothing is ever congested, but programs ask.
const CONGESTION: &[u8] = b"cubic";

/// Options of one socket. Those of segments and timers have no effect within a sandbox, where there are neither.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // tcp(7) describes each.
pub struct TcpOptions {
    pub no_delay: bool,
    pub cork: bool,
    pub quick_ack: bool,
    pub segment: u32,
    pub keep_idle: u32,
    pub keep_interval: u32,
    pub keep_count: u32,
    pub syn_count: u32,
    pub linger: u32,
    pub defer_accept: u32,
    pub window_clamp: u32,
    pub user_timeout: u32,
    pub not_sent_low: u32,
    pub fast_open: u32,
    /// How much is left is told with what is received (`TCP_INQ`).
    pub tells_unread: bool,
    pub fast_open_connect: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            no_delay: false,
            cork: false,
            quick_ack: true,
            segment: 0,
            keep_idle: 7200,
            keep_interval: 75,
            keep_count: 9,
            syn_count: 6,
            linger: 60,
            defer_accept: 0,
            window_clamp: 0,
            user_timeout: 0,
            not_sent_low: u32::MAX,
            fast_open: 0,
            tells_unread: false,
            fast_open_connect: false,
        }
    }
}

impl TcpOptions {
    /// Bytes of a segment of a connection with who has `others`: as the smaller wish of both says, less what each segment says of times.
    pub(super) fn segment_with(&self, others: &TcpOptions) -> u32 {
        [self.segment, others.segment]
            .into_iter()
            .filter(|wanted| *wanted > 0)
            .map(|wanted| wanted - TIMES)
            .fold(SEGMENT, u32::min)
    }

    /// Sets one.
    pub(super) fn set(&mut self, common: &Common, task: &Arc<Task>, name: u32, value: &[u8]) -> Result<()> {
        if name == n::TCP_CONGESTION {
            let wanted = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return match wanted {
                b"cubic" | b"reno" => Ok(()),
                b"" => Err(Errno::EINVAL),
                _ => Err(Errno::ENOENT),
            };
        }
        if name == n::TCP_ULP {
            return Err(Errno::ENOENT);
        }
        let number = number(value)?;
        let within = |range: core::ops::RangeInclusive<i32>| {
            if range.contains(&number) { Ok(number as u32) } else { Err(Errno::EINVAL) }
        };
        match name {
            n::TCP_NODELAY => self.no_delay = number != 0,
            n::TCP_CORK => self.cork = number != 0,
            n::TCP_QUICKACK => self.quick_ack = number & 1 != 0,
            n::TCP_MAXSEG if number == 0 => self.segment = 0,
            n::TCP_MAXSEG => self.segment = within(88..=32767)?,
            n::TCP_KEEPIDLE => self.keep_idle = within(1..=32767)?,
            n::TCP_KEEPINTVL => self.keep_interval = within(1..=32767)?,
            n::TCP_KEEPCNT => self.keep_count = within(1..=127)?,
            n::TCP_SYNCNT => self.syn_count = within(1..=127)?,
            n::TCP_LINGER2 => self.linger = if number > 120 { 120 } else { number as u32 },
            n::TCP_DEFER_ACCEPT => self.defer_accept = number.max(0) as u32,
            n::TCP_WINDOW_CLAMP => self.window_clamp = number.max(0) as u32,
            n::TCP_USER_TIMEOUT => self.user_timeout = within(0..=i32::MAX)?,
            n::TCP_NOTSENT_LOWAT => self.not_sent_low = number as u32,
            n::TCP_FASTOPEN => self.fast_open = within(0..=65535)?,
            n::TCP_INQ => self.tells_unread = within(0..=1)? != 0,
            n::TCP_THIN_LINEAR_TIMEOUTS | n::TCP_THIN_DUPACK => drop(within(0..=1)?),
            // Without a cookie of the server's, of which there never is one, a connect is as ever.
            n::TCP_FASTOPEN_CONNECT => self.fast_open_connect = within(0..=1)? != 0,
            n::TCP_REPAIR | n::TCP_REPAIR_QUEUE if !common.net.grants(task, c::CAP_NET_ADMIN) => return Err(Errno::EPERM),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}

/// Bytes of a segment: of a connection, and before there is one, as the program wants it.
fn segment(socket: &Tcp) -> u32 {
    match (socket.end(), socket.tcp.lock().segment) {
        (Some(end), _) => end.segment,
        (None, 0) => SEGMENT_DEFAULT,
        (None, wanted) => wanted,
    }
}

/// What one is.
pub(super) fn get(socket: &Tcp, name: u32) -> Result<Vec<u8>> {
    let options = socket.tcp.lock().clone();
    let value = match name {
        n::TCP_NODELAY => options.no_delay.into(),
        n::TCP_CORK => options.cork.into(),
        n::TCP_QUICKACK => options.quick_ack.into(),
        n::TCP_MAXSEG => segment(socket),
        n::TCP_KEEPIDLE => options.keep_idle,
        n::TCP_KEEPINTVL => options.keep_interval,
        n::TCP_KEEPCNT => options.keep_count,
        n::TCP_SYNCNT => options.syn_count,
        n::TCP_LINGER2 => options.linger,
        n::TCP_DEFER_ACCEPT => options.defer_accept,
        n::TCP_WINDOW_CLAMP => options.window_clamp,
        n::TCP_USER_TIMEOUT => options.user_timeout,
        n::TCP_NOTSENT_LOWAT => options.not_sent_low,
        n::TCP_FASTOPEN => options.fast_open,
        n::TCP_INQ => options.tells_unread.into(),
        n::TCP_FASTOPEN_CONNECT => options.fast_open_connect.into(),
        n::TCP_THIN_LINEAR_TIMEOUTS | n::TCP_THIN_DUPACK | n::TCP_REPAIR => 0,
        n::TCP_CONGESTION => {
            let mut name = CONGESTION.to_vec();
            name.resize(16, 0);
            return Ok(name);
        }
        n::TCP_INFO => return Ok(info(socket)),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(value.to_ne_bytes().to_vec())
}

/// `struct tcp_info`: of what exists here, what it is; of the rest, what Linux tells over loopback.
fn info(socket: &Tcp) -> Vec<u8> {
    let mut info = vec![0u8; INFO];
    info[0] = socket.state_number();
    let mut put = |at: usize, value: u32| info[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    // Microseconds: retransmission timeout, delayed acknowledgement.
    put(8, 201_000);
    put(12, 40_000);
    // Segment sizes, and the path's.
    put(16, socket.end().map_or(SEGMENT, |end| end.segment));
    put(20, SEGMENT_DEFAULT);
    put(60, 65535);
    put(64, 65483);
    // Round-trip time and its variance, microseconds.
    put(68, 20);
    put(72, 10);
    // Slow start's threshold, the window in segments, the segment size that is told, reordering.
    put(76, 0x7fff_ffff);
    put(80, 10);
    put(84, SEGMENT);
    put(88, 3);
    put(96, 65495);
    let (sent, received) = socket.totals();
    info[120..128].copy_from_slice(&sent.to_ne_bytes());
    info[128..136].copy_from_slice(&received.to_ne_bytes());
    info
}
