//! Resource limits, getrlimit(2).

use insula_abi::general as c;
use insula_abi::process::Rlimit;

/// No limit.
pub const INFINITE: u64 = u64::MAX;

/// A process's limits, by `RLIMIT_*`.
#[derive(Clone, Debug)]
pub struct Limits([Rlimit; Limits::COUNT]);

impl Limits {
    /// How many resources there are.
    pub const COUNT: usize = c::RLIM_NLIMITS as usize;

    /// The enforced one.
    pub fn soft(&self, resource: u32) -> u64 {
        self.0.get(resource as usize).map_or(INFINITE, |limit| limit.soft)
    }

    /// Both; none for a resource that isn't there.
    pub fn get(&self, resource: u32) -> Option<Rlimit> {
        self.0.get(resource as usize).copied()
    }

    /// Sets both, if there is such a resource.
    pub fn set(&mut self, resource: u32, limit: Rlimit) {
        if let Some(slot) = self.0.get_mut(resource as usize) {
            *slot = limit;
        }
    }
}

impl Default for Limits {
    /// What Linux gives its first process.
    fn default() -> Self {
        let mut limits = Limits([Rlimit { soft: INFINITE, hard: INFINITE }; Limits::COUNT]);
        limits.set(c::RLIMIT_STACK, Rlimit { soft: 8 << 20, hard: INFINITE });
        limits.set(c::RLIMIT_CORE, Rlimit { soft: 0, hard: INFINITE });
        limits.set(c::RLIMIT_NOFILE, Rlimit { soft: 1024, hard: 4096 });
        limits.set(c::RLIMIT_NPROC, Rlimit { soft: 32768, hard: 32768 });
        limits.set(c::RLIMIT_MEMLOCK, Rlimit { soft: 8 << 20, hard: 8 << 20 });
        limits.set(c::RLIMIT_SIGPENDING, Rlimit { soft: 32768, hard: 32768 });
        limits.set(c::RLIMIT_MSGQUEUE, Rlimit { soft: 819_200, hard: 819_200 });
        limits.set(c::RLIMIT_NICE, Rlimit { soft: 0, hard: 0 });
        limits.set(c::RLIMIT_RTPRIO, Rlimit { soft: 0, hard: 0 });
        limits
    }
}
