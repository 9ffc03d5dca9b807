//! Tasks that watch and change others: `ptrace`.

use super::{Entry, partial};
use crate::trace::request::ptrace;
use insula_abi::Sysno;

pub(crate) const CALLS: &[Entry] = &[partial(Sysno::ptrace, "no debug registers, no PTRACE_SYSEMU, PTRACE_SINGLEBLOCK", ptrace)];
