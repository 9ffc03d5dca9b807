//! What a fuzzer draws: calls, and arguments that a kernel may take for something.

use crate::sys::{self, memory::PAGE, sys};
use std::ffi::CString;
use syscalls::Sysno;

/// Calls that would end the process that makes them, or the sandbox, and prove nothing.
const EXCLUDED: [Sysno; 3] = [Sysno::exit, Sysno::exit_group, Sysno::reboot];

/// Numbers that follow from a seed (Marsaglia's xorshift64*).
pub(super) struct Random {
    state: u64,
    /// What calls answered last: some of it are descriptors, numbers of processes, addresses.
    answers: [usize; 8],
    calls: &'static [usize],
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        static CALLS: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
        let calls =
            CALLS.get_or_init(|| Sysno::iter().filter(|call| !EXCLUDED.contains(call)).map(|call| call.id() as usize).collect());
        // The state must never be 0, and seeds that are near each other must not look alike.
        let mut random = Random { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, answers: [0; 8], calls };
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// The number of a call: mostly of one that is there.
    pub(super) fn call(&mut self) -> usize {
        match self.below(64) {
            0 => self.next() as usize,
            1 => self.below(600) as usize,
            _ => self.one_of(self.calls),
        }
    }

    /// Keeps what a call answered.
    pub(super) fn remember(&mut self, answer: usize) {
        if answer as isize > 0 {
            let index = self.below(8) as usize;
            self.answers[index] = answer;
        }
    }
}

/// Pages of the arena.
const PAGES: usize = 16;

/// Memory that arguments point to; behind it nothing is mapped.
pub(super) struct Arena {
    start: usize,
    strings: Vec<CString>,
}

impl Arena {
    pub(super) fn new() -> Self {
        let start = sys!(mmap(0, (PAGES + 1) * PAGE, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)).unwrap_or(0);
        let _ = sys!(munmap(start + PAGES * PAGE, PAGE));
        let strings = [
            "",
            ".",
            "..",
            "/",
            "file",
            "other",
            "directory",
            "directory/file",
            "link",
            "/proc/self/mem",
            "/proc/self/fd/3",
            "/proc/self/exe",
            "/proc/self/root/../..",
            "/proc/self/cwd/..",
            "/proc/thread-self/maps",
            "/dev/null",
            "/dev/zero",
            "/dev/ptmx",
            "/dev/tty",
            "/dev/full",
            "/dev/shm",
            "/proc/self/ns/mnt",
            "/sys",
            "/proc",
            "../../../../../../../../../../etc/passwd",
            "../../../../../../../../secret",
            "/secret",
            "tmpfs",
            "proc",
            "overlay",
            "ext4",
            "user.name",
            "trusted.name",
            "security.capability",
            "system.posix_acl_access",
            "size=4k",
            "lowerdir=/,upperdir=file,workdir=other",
        ];
        let mut strings: Vec<CString> = strings.iter().filter_map(|text| CString::new(*text).ok()).collect();
        strings.extend([255, 256, 4095, 4096].map(|length| CString::new(vec![b'x'; length]).unwrap_or_default()));
        Arena { start, strings }
    }

    /// Writes arguments over some of it, so that what points there finds addresses and numbers in turn.
    pub(super) fn refill(&self, random: &mut Random) {
        for _ in 0..64 {
            let at = self.start + random.below((PAGES * PAGE / 8) as u64) as usize * 8;
            let word = self.argument(random).to_ne_bytes();
            // It may have been unmapped, or made read-only, by a call.
            let _ = sys::memory::put_if_there(at, &word);
        }
    }

    fn address(&self, random: &mut Random) -> usize {
        let end = self.start + PAGES * PAGE;
        match random.below(16) {
            0 => end - random.below(64) as usize,
            1 => random.one_of(&[0, 1, 8, PAGE, 1 << 46, 1 << 47, (1 << 47) - PAGE, usize::MAX, usize::MAX - PAGE, 1 << 63]),
            2 => self.start + random.below((PAGES * PAGE) as u64) as usize,
            3..6 => self.start + random.below(PAGES as u64) as usize * PAGE,
            _ => self.start + random.below((PAGES * PAGE / 8) as u64) as usize * 8,
        }
    }

    /// Something for an argument.
    pub(super) fn argument(&self, random: &mut Random) -> usize {
        const SIZES: [usize; 17] =
            [0, 1, 4, 7, 8, 12, 16, 24, 64, 128, 255, PAGE, 65536, 1 << 20, u32::MAX as usize, i64::MAX as usize, usize::MAX];
        match random.below(32) {
            0..7 => random.below(10) as usize,
            7..10 => random.below(40) as usize,
            10..16 => self.address(random),
            16..19 => {
                let index = random.below(self.strings.len() as u64) as usize;
                self.strings[index].as_ptr().expose_provenance()
            }
            19..22 => random.one_of(&SIZES),
            22..25 => 1 << random.below(32) | if random.below(2) == 0 { 0 } else { 1 << random.below(32) },
            25 => random.one_of(&[libc::AT_FDCWD as usize, usize::MAX, -2isize as usize, i32::MIN as usize, i32::MAX as usize]),
            26..30 => {
                let index = random.below(8) as usize;
                random.answers[index]
            }
            30 => random.next() as u32 as usize,
            _ => random.next() as usize,
        }
    }
}
