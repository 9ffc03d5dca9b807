//! System-call policies: what a process may ask of the kernel, in the terms of the OCI specification.
//!
//! A [`Policy`] names calls; the crate `seccomp` compiles it to the kernel's program. [`default_policy`] is the one a container
//! gets when nobody says otherwise.
//!
//! Source: seccomp(2), runtime-spec `config-linux.md#seccomp`.

mod default;

pub use default::default_policy;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which calls are answered how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Answer to a call that no rule names.
    pub default: Action,
    /// Instruction sets whose calls are judged by the rules; a call of another kills the process.
    pub arches: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub flags: u32,
    /// Rules. For one call, a rule without conditions goes before all others; then the first that fits decides.
    pub rules: Vec<Rule>,
    /// Who decides the calls that are notified.
    pub listener: Option<Listener>,
}

/// One rule: these calls, under these conditions, get this answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Names of calls; one the instruction set doesn't know is passed over, as profiles name calls of many.
    pub calls: Vec<String>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// The answer.
    pub action: Action,
}

/// An answer to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// End the thread.
    KillThread,
    /// End the process.
    KillProcess,
    /// SIGSYS.
    Trap,
    /// This errno.
    Errno(u16),
    /// Ask the listener.
    Notify,
    /// Ask the tracer, with this value.
    Trace(u16),
    /// Log and allow.
    Log,
    /// Allow.
    Allow,
}

/// Instruction sets of this machine; numbers of calls differ between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64 bits.
    X86_64,
    /// 32-bit programs on a 64-bit kernel.
    X86,
}

/// A condition on one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub test: Test,
    /// With what.
    pub value: u64,
}

/// How an argument is compared with the condition's value; all are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal in the bits of this mask.
    MaskedEq(u64),
    /// Not equal in the bits of this mask.
    MaskedNe(u64),
}

/// A socket that gets the notification descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its path on the host; absolute.
    pub path: PathBuf,
    /// Passed along.
    pub metadata: String,
}
