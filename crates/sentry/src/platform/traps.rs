//! System calls without a stop: code in place of a program's `syscall` instructions that leaves the call in a [mailbox](super::mailbox) and
//! waits, for a moment, for somebody to answer it there. If nobody looks or nobody answers, the call is made as ever, from here.
//!
//! A jump, `jmp *address`, takes the place of a call and what is [around it](super::site). All jumps go by a table in the lowest 2 GiB to a *trap*,
//! which is the same for all programs that make this call at this address. The jump's last two bytes are no instruction: who was between
//! `mov` and `syscall` when they were replaced is stopped there and can be told.
//!
//! Nothing here is trusted: what a trap does, the program could do itself. It uses what a call destroys (rax, rcx, r11), keeps all else, flags
//! too, and needs no stack, below which a program may keep things. How a thread finds its mailbox is the base of its gs segment, which
//! hardly any program has a use for; a base that is no mailbox's leads to an ordinary call.
#![allow(unsafe_code)]

use super::site::{JUMP, Site};
use super::{PAGE, Result, Tried};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::arch::global_asm;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Where the area is in programs that have traps. Bytes 2 and 3 of addresses in its first 64 KiB, where the table is, are 0x60, which
/// begins no instruction in 64-bit code.
pub const AREA: Range<u64> = 0x6060_0000..0x6060_0000 + SIZE;

/// Mailboxes lie together, in one page; addresses of others aren't used as such.
pub(super) const MAILBOXES: u64 = super::GUEST_END + 0xf_f000;

/// How often a program looks whether somebody has claimed its call, before it makes it as ever: some 20 µs.
const PATIENCE: u32 = 1000;

/// How often it looks for the answer of who has claimed it: some 400 µs. What takes longer is worth a stop.
const TRUST: u32 = 20_000;

/// Instructions of a trap, from the first to the last, but for those of one who waits.
pub(super) const LONGEST: usize = 64;

const MOST: usize = 2048;
const RECORDS: u64 = 0x1_0000;
const RECORD: usize = 128;
const COMMON: u64 = RECORDS + (MOST * RECORD) as u64;
const SIZE: u64 = COMMON + PAGE;

/// In a record: behind the `syscall` of calls as ever, for calls of the expected number and of another; instructions that were moved; where its
/// data are: the address to go on at, the one after those instructions, and the one where their jump leads.
const MADE: u64 = CALL + 7;
/// The call as ever.
const CALL: u64 = 44;
const MADE_OTHER: u64 = 36;
const MOVED: u64 = 64;
const DATA: u64 = 104;

// In a record: flags to ax, the address of its data to rcx, to `common`; and, at `CALL`, the call as ever. `add al, 127` gives
// back the overflow flag, `sahf` the others.
global_asm!(
    ".pushsection .rodata.insula_traps, \"a\"",
    ".globl insula_traps_common, insula_traps_end",
    ".balign 64",
    "insula_traps_common:",
    "rdgsbase r11",
    "sub r11, [rip + 8f]",
    "cmp r11, {page}",
    "jae 9f",
    "add r11, [rip + 8f]",
    "cmp dword ptr [r11 + {watched}], 0",
    "je 9f",
    "mov [r11 + {flags}], eax",
    "mov [r11 + {data}], rcx",
    "mov eax, [rcx - {data_at} + {call} + 1]",
    "mov [r11 + {number}], rax",
    "mov [r11 + {args}], rdi",
    "mov [r11 + {args} + 8], rsi",
    "mov [r11 + {args} + 16], rdx",
    "mov [r11 + {args} + 24], r10",
    "mov [r11 + {args} + 32], r8",
    "mov [r11 + {args} + 40], r9",
    "mov dword ptr [r11 + {state}], {asked}",
    "mov ecx, {patience}",
    "2: mov eax, [r11 + {state}]",
    "cmp eax, {asked}",
    "jne 5f",
    "pause",
    "dec ecx",
    "jnz 2b",
    "jmp 4f",
    "5: mov ecx, {trust}",
    "6: mov eax, [r11 + {state}]",
    "cmp eax, {answered}",
    "je 3f",
    "cmp eax, {claimed}",
    "jne 4f",
    "pause",
    "dec ecx",
    "jnz 6b",
    "4: mov rcx, [r11 + {data}]",
    "mov eax, [r11 + {flags}]",
    "9: add al, 127",
    "sahf",
    "lea rcx, [rcx - {data_at} + {call}]",
    "jmp rcx",
    "3: mov rcx, [r11 + {data}]",
    "mov eax, [r11 + {flags}]",
    "add al, 127",
    "sahf",
    "mov rcx, [rcx]",
    "mov rax, [r11 + {number}]",
    "mov dword ptr [r11 + {state}], {idle}",
    "jmp rcx",
    ".balign 8",
    "8: .quad {mailboxes}",
    "insula_traps_end:",
    ".popsection",
    page = const PAGE,
    call = const CALL,
    data_at = const DATA,
    mailboxes = const MAILBOXES,
    patience = const PATIENCE,
    trust = const TRUST,
    state = const super::mailbox::STATE,
    watched = const super::mailbox::WATCHED,
    number = const super::mailbox::NUMBER,
    args = const super::mailbox::ARGS,
    flags = const super::mailbox::FLAGS,
    data = const super::mailbox::DATA,
    idle = const super::mailbox::IDLE,
    asked = const super::mailbox::ASKED,
    claimed = const super::mailbox::CLAIMED,
    answered = const super::mailbox::ANSWERED,
);

unsafe extern "C" {
    static insula_traps_common: u8;
    static insula_traps_end: u8;
}

/// Code that takes the place of calls; it is there as long as somebody has this.
#[derive(Debug)]
pub struct Trap {
    traps: Weak<Traps>,
    index: usize,
    site: Site,
}

impl Trap {
    /// Of which call.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What is to stand at [`Site::start`].
    pub fn jump(&self) -> [u8; JUMP] {
        let [a, b, c, d] = (AREA.start as u32 + 8 * self.index as u32).to_le_bytes();
        [0xff, 0x24, 0x25, a, b, c, d]
    }

    /// The way on for who would go on where instructions were moved.
    pub fn onward(&self, ip: u64) -> Option<u64> {
        self.site.onward(ip, record(self.index) + MOVED)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if let Some(traps) = self.traps.upgrade() {
            let mut state = traps.lock();
            // Somebody may have made it anew after the last one let go.
            if state.known.get(&self.site).is_some_and(|known| known.strong_count() == 0) {
                state.known.remove(&self.site);
            }
            state.free.push(self.index);
        }
    }
}

/// Where a record is in programs.
fn record(index: usize) -> u64 {
    AREA.start + RECORDS + (index * RECORD) as u64
}

/// All traps of a sandbox.
#[derive(Debug)]
pub struct Traps {
    file: OwnedFd,
    base: *mut u8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<Site, Weak<Trap>>,
    free: Vec<usize>,
    next: usize,
}

// SAFETY: the mapping lives as long as the value, and is written under a lock.
unsafe impl Send for Traps {}
// SAFETY: as above.
unsafe impl Sync for Traps {}

impl Traps {
    /// An area without traps. None where programs can't tell the base of their gs segment.
    ///
    /// # Errors
    /// No room for its file.
    pub(super) fn new() -> Result<Option<Arc<Traps>>> {
        const HWCAP2_FSGSBASE: u64 = 2;
        // SAFETY: no more than a number.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
            return Ok(None);
        }
        let file = rustix::fs::memfd_create("traps", MemfdFlags::CLOEXEC).tried("make the file of traps")?;
        rustix::fs::ftruncate(&file, SIZE).tried("size the file of traps")?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), SIZE as usize, prot, flags, &file, 0) }
            .tried("map the file of traps")?;
        let traps = Traps { file, base: base.cast(), state: Mutex::default() };
        // SAFETY: two labels of this file, and what is between them.
        let common = unsafe {
            let begin = &raw const insula_traps_common;
            std::slice::from_raw_parts(begin, (&raw const insula_traps_end).offset_from_unsigned(begin))
        };
        traps.write(COMMON, common);
        Ok(Some(Arc::new(traps)))
    }

    /// A trap for a call; none if there are too many.
    pub fn trap(self: &Arc<Self>, site: Site) -> Option<Arc<Trap>> {
        let mut state = self.lock();
        if let Some(known) = state.known.get(&site).and_then(Weak::upgrade) {
            return Some(known);
        }
        let index = state.free.pop().or_else(|| {
            state.next += 1;
            (state.next <= MOST).then(|| state.next - 1)
        })?;
        self.write(RECORDS + (index * RECORD) as u64, &code(index, &site));
        self.write(8 * index as u64, &record(index).to_le_bytes());
        let trap = Arc::new(Trap { traps: Arc::downgrade(self), index, site });
        state.known.insert(site, Arc::downgrade(&trap));
        Some(trap)
    }

    /// Where a program is that was stopped behind the `syscall` of a trap: behind the one that the trap is for.
    pub(super) fn made_for(&self, ip: u64) -> Option<u64> {
        let at = ip.checked_sub(AREA.start + RECORDS).filter(|at| *at < COMMON - RECORDS)?;
        let within = at % RECORD as u64;
        if within != MADE && within != MADE_OTHER {
            return None;
        }
        let at = at - within;
        // SAFETY: data of a record, in the mapping; aligned.
        Some(unsafe { self.base.add((RECORDS + at + DATA) as usize).cast::<u64>().read() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes where no program looks yet.
    fn write(&self, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= SIZE, "records are counted by us");
        // SAFETY: in the mapping, by the assertion; programs only read and execute it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at as usize), bytes.len()) };
    }
}

impl AsFd for Traps {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Traps {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing of it is lent.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), SIZE as usize) };
    }
}

/// A record.
fn code(index: usize, site: &Site) -> [u8; RECORD] {
    // Bytes that are no instruction.
    let mut bytes = [0x60; RECORD];
    let mut put = |at: u64, parts: &[&[u8]]| {
        let part = parts.concat();
        bytes[at as usize..at as usize + part.len()].copy_from_slice(&part);
        at + part.len() as u64
    };
    let number = site.number.to_le_bytes();
    let (behind, taken) = site.behind();
    let next = if site.moved.is_some() { record(index) + MOVED } else { behind };
    // An address relative to the instruction's end.
    let from = |end: u64, to: u64| (to.wrapping_sub(end) as u32).to_le_bytes();
    let mut at = 0;
    if site.moved.is_none() {
        // lahf; seto %al
        at = put(at, &[&[0x9f, 0x0f, 0x90, 0xc0]]);
    } else {
        // mov %rax, %rcx; lahf; seto %al; cmp $number, %rcx; jne 28
        at = put(at, &[&[0x48, 0x89, 0xc1, 0x9f, 0x0f, 0x90, 0xc0, 0x48, 0x81, 0xf9], &number, &[0x75, 12]]);
        // 28: add $127, %al; sahf; mov %rcx, %rax; syscall; jmp *DATA
        put(28, &[&[0x04, 0x7f, 0x9e, 0x48, 0x89, 0xc8, 0x0f, 0x05, 0xff, 0x25], &from(MADE_OTHER + 6, DATA)]);
    }
    // lea DATA, %rcx; jmp common
    at = put(at, &[&[0x48, 0x8d, 0x0d], &from(at + 7, DATA)]);
    put(at, &[&[0xe9], &from(record(index) + at + 5, AREA.start + COMMON)]);
    // CALL: mov $number, %eax; syscall; jmp *DATA
    put(CALL, &[&[0xb8], &number, &[0x0f, 0x05, 0xff, 0x25], &from(MADE + 6, DATA)]);
    if let Some(moved) = &site.moved {
        // syscall, for who makes the call again; what was moved, and its jump; jmp *DATA+8; jmp *DATA+16
        let at = put(MOVED - 2, &[&[0x0f, 0x05], moved.bytes()]);
        let at = moved.condition().map_or(at, |condition| put(at, &[&[0x70 | condition, 6]]));
        let at = put(at, &[&[0xff, 0x25], &from(at + 6, DATA + 8)]);
        put(at, &[&[0xff, 0x25], &from(at + 6, DATA + 16)]);
    }
    put(DATA, &[&next.to_le_bytes(), &behind.to_le_bytes(), &taken.to_le_bytes()]);
    bytes
}
