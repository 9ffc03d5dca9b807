//! The stub: what is in a guest's process besides the guest, and how the first one is born.
//!
//! A stub is a process with nothing of ours in it but the stub area, from [`GUEST_END`] on: a page of code, and a *slot* for each of its threads, a
//! page with arguments; and the host's [vDSO](vdso). Code and slots are of one file, the stub file, which only the sentry can write to. So no guest thread can change what another
//! thread of its process is about to do.
//!
//! In front of the slots is a page of mailboxes, which the guest may write, if it has any: its own, by the number of its first slot.
//!
//! A stub's system calls are made only if they come from that page of code (a filter looks at the instruction pointer), and it only makes
//! them while the tracer runs the stub and not the guest: in front of the guest's, SYSEMU stands first, wherever it jumps.
#![allow(unsafe_code)]

use super::super::mailbox::{self, Mailbox};
use super::super::traps::MAILBOXES;
use super::super::{GUEST_END, MapOp, Memory, PAGE, Registers, Result, Source, Tried};
use super::raw::{self, Tid};
use super::vdso::{self, Vdso};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::arch::{asm, global_asm};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The end of what processes may map.
const TASK_END: u64 = 0x7fff_ffff_f000;

/// Where the code is in a stub.
const CODE: u64 = GUEST_END;

/// Where slots are in a stub: the page of its slot number `n` is at `SLOTS + n * PAGE`.
const SLOTS: u64 = GUEST_END + 0x10_0000;

const _: () = assert!(MAILBOXES + PAGE == SLOTS, "a new process exchanges both at once");

/// Slots of a sandbox, and of one stub.
pub(super) const SLOT_COUNT: u64 = 1 << 16;

const SLOTS_SIZE: u64 = SLOT_COUNT * PAGE;

/// What a stub says when it is ready for the next order: no system call has this number.
pub(super) const READY: u64 = 0xfff;

/// Words of one system call in a slot: number and arguments.
const WORDS: usize = 7;

/// System calls that a slot can hold.
pub(super) const BATCH: usize = PAGE as usize / 8 / WORDS;

/// One system call of a stub: number and arguments.
pub(super) type Order = [u64; WORDS];

// All of this is position-independent and uses no stack: registers are all a stub has.
//
// batch: makes the r12 calls at rbx until one fails, then, if r13 isn't 0, clone(r13). Says READY with the number of calls not made, the last
//        result, and clone's.
// A new process (r14 isn't 0) asks to go with the sentry, r15, unmaps r14 - 1 bytes of guest memory, and exchanges its parent's slots for
//        the one at offset r8 of file rbp. Then, as a new thread at once, it waits to be traced.
// first: the first stub, from birth on; unmaps everything else.
global_asm!(
    ".pushsection .rodata.insula_stub, \"a\"",
    ".globl insula_stub_begin, insula_stub_end, insula_stub_first, insula_stub_batch, insula_stub_park, insula_stub_leave",
    ".balign 64",
    "insula_stub_begin:",
    "insula_stub_batch:",
    "xor eax, eax",
    "test r12, r12",
    "jz 3f",
    "2: mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp rax, -4095",
    "jae 4f",
    "add rbx, 56",
    "dec r12",
    "jnz 2b",
    "3: test r13, r13",
    "jz 4f",
    "mov rdi, r13",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, {clone}",
    "syscall",
    "test rax, rax",
    "jz 5f",
    "4: mov rsi, rax",
    "mov rdi, r12",
    "jmp 9f",
    "5: test r14, r14",
    "jz insula_stub_park",
    "mov eax, {prctl}",
    "mov edi, {pdeathsig}",
    "mov esi, {sigkill}",
    "syscall",
    "mov eax, {getppid}",
    "syscall",
    "cmp rax, r15",
    "jne insula_stub_leave",
    "mov rsi, r14",
    "dec rsi",
    "jz 6f",
    "xor edi, edi",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz insula_stub_leave",
    "6: mov rdi, {mailboxes}",
    "mov rsi, {slots_size} + {page}",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz insula_stub_leave",
    "mov rdi, {slots}",
    "mov esi, {page}",
    "mov edx, {read}",
    "mov r10d, {shared_fixed}",
    "mov r8, rbp",
    "mov r9, rsp",
    "mov eax, {mmap}",
    "syscall",
    "cmp rax, -4095",
    "jae insula_stub_leave",
    "jmp insula_stub_park",
    "insula_stub_first:",
    "xor edi, edi",
    "mov rsi, {code}",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz insula_stub_leave",
    "mov rdi, {code} + {page}",
    "mov rsi, {vdso} - {code} - {page}",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz insula_stub_leave",
    "mov rdi, {vdso_end}",
    "mov rsi, {slots} - {vdso_end}",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz insula_stub_leave",
    "mov rdi, {slots} + {page}",
    "mov rsi, {task_end} - {slots} - {page}",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz insula_stub_leave",
    "insula_stub_park:",
    "xor edi, edi",
    "xor esi, esi",
    "9: mov eax, {ready}",
    "syscall",
    "8: mov eax, {pause}",
    "syscall",
    "jmp 8b",
    "insula_stub_leave:",
    "mov edi, 1",
    "mov eax, {exit}",
    "syscall",
    "jmp insula_stub_leave",
    "insula_stub_end:",
    ".popsection",
    clone = const libc::SYS_clone,
    prctl = const libc::SYS_prctl,
    getppid = const libc::SYS_getppid,
    munmap = const libc::SYS_munmap,
    mmap = const libc::SYS_mmap,
    pause = const libc::SYS_pause,
    exit = const libc::SYS_exit,
    pdeathsig = const libc::PR_SET_PDEATHSIG,
    sigkill = const libc::SIGKILL,
    read = const libc::PROT_READ,
    shared_fixed = const libc::MAP_SHARED | libc::MAP_FIXED,
    ready = const READY,
    code = const CODE,
    vdso = const vdso::PLACE.start,
    vdso_end = const vdso::PLACE.end,
    slots = const SLOTS,
    slots_size = const SLOTS_SIZE,
    mailboxes = const MAILBOXES,
    page = const PAGE,
    task_end = const TASK_END,
);

unsafe extern "C" {
    static insula_stub_begin: u8;
    static insula_stub_end: u8;
    static insula_stub_first: u8;
    static insula_stub_batch: u8;
    static insula_stub_park: u8;
    static insula_stub_leave: u8;
}

/// Where a label of the code is in a stub.
fn in_stub(label: *const u8) -> u64 {
    CODE + (label as u64 - (&raw const insula_stub_begin) as u64)
}

/// Whether a stub that was stopped here had nothing left to do.
pub(super) fn is_parked(ip: u64) -> bool {
    (in_stub(&raw const insula_stub_park)..in_stub(&raw const insula_stub_leave)).contains(&ip)
}

/// The guest's registers, such that they can be loaded: what a guest or a signal frame of its making can hold, SETREGS may refuse.
pub(super) fn loadable(guest: &Registers) -> Registers {
    // A guest's wrfsbase can make it an address of the kernel's, which it can't use and we couldn't set.
    let base = |value: u64| if value < TASK_END { value } else { 0 };
    let selector = |value: u64| if value & 3 == 3 { value & 0xffff } else { 0 };
    Registers {
        // Whatever stopped it is over: nothing is restarted.
        orig_rax: u64::MAX,
        cs: if guest.cs == USER32_CS { USER32_CS } else { USER_CS },
        ss: USER_DS,
        fs_base: base(guest.fs_base),
        gs_base: base(guest.gs_base),
        ds: selector(guest.ds),
        es: selector(guest.es),
        fs: selector(guest.fs),
        gs: selector(guest.gs),
        ..*guest
    }
}

/// Registers of a task that has none yet.
pub(super) fn initial() -> Registers {
    // SAFETY: a struct of integers.
    let zeros: Registers = unsafe { std::mem::zeroed() };
    loadable(&Registers { eflags: 0x202, ..zeros })
}

/// Selectors of user code, 64-bit and 32-bit, and of data (asm/segment.h).
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;
const USER_DS: u64 = 0x2b;

/// Registers that make the stub do something; what doesn't matter to it stays the guest's.
fn stub_registers(guest: &Registers, ip: u64) -> Registers {
    Registers { rip: ip, cs: USER_CS, eflags: 0x202, ..loadable(guest) }
}

/// For a thread that shall end.
pub(super) fn to_leave(guest: &Registers) -> Registers {
    stub_registers(guest, in_stub(&raw const insula_stub_leave))
}

/// For a thread that shall wait.
pub(super) fn to_park(guest: &Registers) -> Registers {
    stub_registers(guest, in_stub(&raw const insula_stub_park))
}

/// What is to come after a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Nothing,
    Thread,
    /// With this slot of the stub file as its own first; without its parent's mappings if `empty`.
    Process {
        slot: u64,
        empty: bool,
    },
}

/// For `count` calls that are in the stub's slot number `local`.
pub(super) fn to_batch(guest: &Registers, local: u64, count: usize, then: Then, file: &StubFile) -> Registers {
    let shared = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_PARENT;
    let thread = shared | libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let (clone, unmap, slot) = match then {
        Then::Nothing => (0, 0, 0),
        Then::Thread => (thread & !libc::CLONE_PARENT, 0, 0),
        Then::Process { slot, empty } => (shared, if empty { GUEST_END + 1 } else { 1 }, slot),
    };
    Registers {
        rbx: SLOTS + local * PAGE,
        r12: count as u64,
        r13: clone as u64,
        r14: unmap,
        r15: u64::from(std::process::id()),
        rbp: file.file.as_raw_fd() as u64,
        rsp: StubFile::offset(slot),
        ..stub_registers(guest, in_stub(&raw const insula_stub_batch))
    }
}

/// mmap's arguments for a stub's slot number `local`.
pub(super) fn map_slot(file: &StubFile, local: u64, slot: u64) -> Order {
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let (start, fd) = (SLOTS + local * PAGE, file.file.as_raw_fd() as u64);
    [libc::SYS_mmap as u64, start, PAGE, libc::PROT_READ as u64, flags as u64, fd, StubFile::offset(slot)]
}

/// mmap's arguments for the mailboxes of a stub whose first slot is `slot`.
pub(super) fn map_mailboxes(file: &StubFile, slot: u64) -> Order {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
    [libc::SYS_mmap as u64, MAILBOXES, PAGE, prot as u64, flags as u64, file.file.as_raw_fd() as u64, StubFile::mailboxes(slot)]
}

/// Memory that is mapped in pieces of at most so many bytes is there at once: most of it is touched soon, and a fault for each page costs
/// more than the pages.
const POPULATED: u64 = 64 << 10;

/// The call that does an operation; none if no guest may ask for it.
pub(super) fn order(op: &MapOp, memory: &Memory) -> Option<Order> {
    let (MapOp::Map { start, len, .. } | MapOp::Unmap { start, len } | MapOp::Protect { start, len, .. }) = *op;
    let whole = start.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
    let inside = start.checked_add(len).is_some_and(|end| end <= GUEST_END);
    (whole && inside).then(|| match *op {
        MapOp::Map { start, len, prot, source, offset } => {
            let fd = match source {
                Source::Memory => memory.as_fd().as_raw_fd(),
                Source::File(fd) => fd,
            };
            let small = matches!(source, Source::Memory) && len <= POPULATED;
            let populate = if small { libc::MAP_POPULATE } else { 0 };
            let flags = libc::MAP_SHARED | libc::MAP_FIXED | populate;
            [libc::SYS_mmap as u64, start, len, u64::from(prot), flags as u64, fd as u64, offset]
        }
        MapOp::Unmap { start, len } => [libc::SYS_munmap as u64, start, len, 0, 0, 0, 0],
        MapOp::Protect { start, len, prot } => [libc::SYS_mprotect as u64, start, len, u64::from(prot), 0, 0, 0],
    })
}

/// The file that stubs have in their stub area: a page of code, then the slots, then the mailboxes of who has a slot as its first.
#[derive(Debug)]
pub(super) struct StubFile {
    file: OwnedFd,
    base: *mut u8,
}

// SAFETY: the mapping lives as long as the value; slots are only written, by atomic words.
unsafe impl Send for StubFile {}
// SAFETY: as above.
unsafe impl Sync for StubFile {}

impl StubFile {
    const SIZE: u64 = PAGE + 2 * SLOTS_SIZE;

    pub(super) fn new() -> Result<StubFile> {
        let file = rustix::fs::memfd_create("stub", MemfdFlags::CLOEXEC).tried("make the stub file")?;
        rustix::fs::ftruncate(&file, Self::SIZE).tried("size the stub file")?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), Self::SIZE as usize, prot, flags, &file, 0) }
            .tried("map the stub file")?;
        let base = base.cast::<u8>();
        // SAFETY: the labels are the two ends of the code, which is shorter than the page it is copied to; nobody else has the mapping yet.
        unsafe {
            let begin = &raw const insula_stub_begin;
            let length = (&raw const insula_stub_end).offset_from_unsigned(begin);
            assert!(length <= PAGE as usize, "the stub fits its page");
            std::ptr::copy_nonoverlapping(begin, base, length);
        }
        Ok(StubFile { file, base })
    }

    /// Where a slot is in the file.
    fn offset(slot: u64) -> u64 {
        PAGE + slot * PAGE
    }

    /// Where the mailboxes of a stub are in the file.
    fn mailboxes(slot: u64) -> u64 {
        PAGE + SLOTS_SIZE + slot * PAGE
    }

    /// The mailbox of a stub's slot number `local`, if it can have one, for the calling thread. `keeper` keeps this file.
    pub(super) fn mailbox(&self, keeper: Arc<dyn Debug + Send + Sync>, first: u64, local: u64) -> Option<Mailbox> {
        let offset = local.checked_mul(mailbox::SIZE).filter(|offset| offset + mailbox::SIZE <= PAGE)?;
        assert!(first < SLOT_COUNT, "slots are counted by us");
        // SAFETY: in the mapping, by the assertion, which lives as long as the keeper.
        Some(unsafe { Mailbox::new(keeper, self.base.add((Self::mailboxes(first) + offset) as usize)) })
    }

    /// Forgets what was in a stub's mailboxes.
    pub(super) fn clear_mailboxes(&self, slot: u64) {
        assert!(slot < SLOT_COUNT, "slots are counted by us");
        // SAFETY: in the mapping, by the assertion; the stub that had it is gone.
        unsafe { std::ptr::write_bytes(self.base.add(Self::mailboxes(slot) as usize), 0, PAGE as usize) };
    }

    /// Writes the next batch of a stub that is stopped.
    pub(super) fn write(&self, slot: u64, orders: &[Order]) {
        assert!(slot < SLOT_COUNT && orders.len() <= BATCH, "slots and batches are counted by us");
        for (index, word) in orders.as_flattened().iter().enumerate() {
            // SAFETY: in the slot, by the assertion; aligned; other processes only read it.
            let place = unsafe { AtomicU64::from_ptr(self.base.add(Self::offset(slot) as usize).cast::<u64>().add(index)) };
            place.store(*word, Ordering::Relaxed);
        }
    }

    /// Forgets what the last owner of a slot had there.
    pub(super) fn clear(&self, slot: u64) {
        self.write(slot, &[[0; WORDS]; BATCH]);
    }
}

impl Drop for StubFile {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing of it is lent.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), Self::SIZE as usize) };
    }
}

/// The 64-bit system call convention, linux/audit.h.
pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Instructions of the filter.
const FILTER: usize = 18;

/// The filter of all stubs, for seccomp(2): the calls of the code above are made if they come from its page; all else stops.
fn filter() -> [libc::sock_filter; FILTER] {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    const ALLOWED: [i64; 8] = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_clone,
        libc::SYS_prctl,
        libc::SYS_getppid,
        libc::SYS_pause,
        libc::SYS_exit,
    ];
    // The last two instructions.
    const STOP: usize = FILTER - 2;
    const MAKE: usize = FILTER - 1;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset| statement(BPF_LD | BPF_W | BPF_ABS, offset);
    let mut program = [statement(BPF_RET | BPF_K, libc::SECCOMP_RET_TRACE); FILTER];
    program[MAKE] = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW);
    // Goes to `yes` or `no`; distances count from the next instruction.
    let mut test = |at: usize, code: u32, k: u32, yes: usize, no: usize| {
        let distance = |to: usize| (to - at - 1) as u8;
        program[at] = libc::sock_filter { code: (BPF_JMP | code | BPF_K) as u16, jt: distance(yes), jf: distance(no), k };
    };
    // Offsets in seccomp_data: number 0, architecture 4, instruction pointer 8 (its upper half 12), which is after the instruction.
    test(1, BPF_JEQ, AUDIT_ARCH_X86_64, 2, STOP);
    test(3, BPF_JEQ, (CODE >> 32) as u32, 4, STOP);
    test(5, BPF_JGE, CODE as u32, 6, STOP);
    test(6, BPF_JGT, (CODE + PAGE) as u32, STOP, 7);
    for (index, number) in ALLOWED.into_iter().enumerate() {
        test(8 + index, BPF_JEQ, number as u32, MAKE, 9 + index);
    }
    (program[0], program[2], program[4], program[7]) = (load(4), load(12), load(8), load(0));
    program
}

/// All that the first stub is told.
struct Birth {
    file: i32,
    slot: u64,
    parent: u64,
    vdso: Option<Vdso>,
    filter: [libc::sock_filter; FILTER],
}

/// Makes the first stub: our child, without a memory of ours, and without any right. It waits to be traced.
pub(super) fn first(file: &StubFile, slot: u64, vdso: Option<Vdso>) -> Result<Tid> {
    let birth = Birth {
        file: file.file.as_raw_fd(),
        slot: StubFile::offset(slot),
        parent: u64::from(std::process::id()),
        vdso,
        filter: filter(),
    };
    raw::fork(be_born, &birth).tried("make a stub")
}

extern "C" fn be_born(birth: &Birth) -> ! {
    // SAFETY: this process is a copy with one thread that makes nothing but system calls, and never returns.
    unsafe {
        let _ = give_up(birth);
        // Where it fails there is nobody to tell: who attaches finds no process.
        raw::call(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]);
    }
    std::process::abort()
}

/// Gives up all that a copy of the sentry has, memory last.
///
/// # Safety
/// Only in a process of its own.
unsafe fn give_up(birth: &Birth) -> std::result::Result<(), Errno> {
    let check = |result: i64| if result < 0 { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as u64) };
    let nothing = [0u64; 3];
    let header = [0x2008_0522u64, 0];
    let limits = [0u64; 2];
    let mask = 0u64;
    let program = libc::sock_fprog { len: birth.filter.len() as u16, filter: birth.filter.as_ptr().cast_mut() };
    // SAFETY: pointers are to what lives on this stack; the mappings replace what this process, a copy, doesn't use: it runs on a stack
    // from the heap, and the heap is far below.
    unsafe {
        let call = |number, args| check(raw::call(number, args));
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64, 0, 0, 0, 0])?;
        if call(libc::SYS_getppid, [0; 6])? != birth.parent {
            return Err(Errno::SRCH);
        }
        // Out of reach of the terminal's signals.
        call(libc::SYS_setsid, [0; 6])?;
        call(libc::SYS_prctl, [libc::PR_SET_NAME as u64, c"insula-stub".as_ptr() as u64, 0, 0, 0, 0])?;
        call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as u64, (&raw const mask) as u64, 0, 8, 0, 0])?;
        call(libc::SYS_prlimit64, [0, u64::from(libc::RLIMIT_CORE), (&raw const limits) as u64, 0, 0, 0])?;
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0])?;
        call(libc::SYS_capset, [(&raw const header) as u64, (&raw const nothing) as u64, 0, 0, 0, 0])?;
        // A sentry without CAP_SYS_PTRACE can only trace who is dumpable; there is nothing of ours in it to be dumped.
        call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0, 0, 0])?;
        let (shared, fd) = ((libc::MAP_SHARED | libc::MAP_FIXED) as u64, birth.file as u64);
        call(libc::SYS_mmap, [CODE, PAGE, (libc::PROT_READ | libc::PROT_EXEC) as u64, shared, fd, 0])?;
        call(libc::SYS_mmap, [SLOTS, PAGE, libc::PROT_READ as u64, shared, fd, birth.slot])?;
        call(libc::SYS_munmap, [vdso::PLACE.start, vdso::PLACE.end - vdso::PLACE.start, 0, 0, 0, 0])?;
        for (from, len, to) in birth.vdso.iter().flat_map(Vdso::moves) {
            let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
            call(libc::SYS_mremap, [from, len, len, flags, to, 0])?;
        }
        call(libc::SYS_seccomp, [u64::from(libc::SECCOMP_SET_MODE_FILTER), 0, (&raw const program) as u64, 0, 0, 0])?;
        asm!("jmp {}", in(reg) in_stub(&raw const insula_stub_first), options(noreturn))
    }
}
