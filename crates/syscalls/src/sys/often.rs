//! Calls made by code that is known to the byte, for tests of kernels that look at it.

use libc::c_long;
use std::arch::global_asm;

// kept(count, flags): makes getpid that often, with these flags before, and known registers. Gives 0, or what was changed.
// getpid() has its number in front of the call; any(number) makes the same instruction with another.
// moved(number, argument): a test and a jump follow the call. Gives its result, or the error.
// shared(number, argument) and into(value): the second jumps behind the first's call.
global_asm!(
    ".globl insula_often_kept, insula_often_getpid, insula_often_any, insula_often_moved, insula_often_shared, insula_often_into",
    "insula_often_kept:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rsi",
    "push rdi",
    "2: mov rbx, 0x1001",
    "mov rbp, 0x1002",
    "mov rdi, 0x1003",
    "mov rsi, 0x1004",
    "mov rdx, 0x1005",
    "mov r8, 0x1006",
    "mov r9, 0x1007",
    "mov r10, 0x1008",
    "mov r12, 0x1009",
    "mov r13, 0x100a",
    "mov r14, 0x100b",
    "mov r15, 0x100c",
    "push [rsp + 8]",
    "popfq",
    "lahf",
    "seto al",
    "mov [rsp - 8], ax",
    "mov qword ptr [rsp - 16], 0x100d",
    "mov qword ptr [rsp - 128], 0x100e",
    "mov eax, 39",
    "syscall",
    "lahf",
    "seto al",
    "cmp [rsp - 8], ax",
    "mov eax, 1",
    "jne 3f",
    "mov eax, 2",
    "cmp rbx, 0x1001",
    "jne 3f",
    "cmp rbp, 0x1002",
    "jne 3f",
    "cmp rdi, 0x1003",
    "jne 3f",
    "cmp rsi, 0x1004",
    "jne 3f",
    "cmp rdx, 0x1005",
    "jne 3f",
    "mov eax, 3",
    "cmp r8, 0x1006",
    "jne 3f",
    "cmp r9, 0x1007",
    "jne 3f",
    "cmp r10, 0x1008",
    "jne 3f",
    "cmp r12, 0x1009",
    "jne 3f",
    "cmp r13, 0x100a",
    "jne 3f",
    "cmp r14, 0x100b",
    "jne 3f",
    "cmp r15, 0x100c",
    "jne 3f",
    "mov eax, 4",
    "cmp qword ptr [rsp - 16], 0x100d",
    "jne 3f",
    "cmp qword ptr [rsp - 128], 0x100e",
    "jne 3f",
    "dec qword ptr [rsp]",
    "jnz 2b",
    "xor eax, eax",
    "3: pop rdi",
    "pop rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "insula_often_getpid:",
    "mov eax, 39",
    "4: syscall",
    "ret",
    "insula_often_any:",
    "mov eax, edi",
    "jmp 4b",
    "insula_often_moved:",
    "mov eax, edi",
    "mov rdi, rsi",
    "syscall",
    "test rax, rax",
    "js 5f",
    "ret",
    "5: neg rax",
    "ret",
    "insula_often_shared:",
    "mov eax, edi",
    "mov rdi, rsi",
    "syscall",
    "6: test rax, rax",
    "js 7f",
    "ret",
    "insula_often_into:",
    "mov rax, rdi",
    "jmp 6b",
    "7: mov eax, 77",
    "ret",
);

unsafe extern "C" {
    fn insula_often_kept(count: u64, flags: u64) -> u64;
    fn insula_often_getpid() -> i64;
    fn insula_often_any(number: u64) -> i64;
    fn insula_often_moved(number: u64, argument: u64) -> i64;
    fn insula_often_shared(number: u64, argument: u64) -> i64;
    fn insula_often_into(value: i64) -> i64;
}

/// Makes getpid `count` times with these flags and known registers, and gives what was not as before: 0 nothing, 1 flags, 2 and 3 registers,
/// 4 what stood below the stack pointer.
pub(crate) fn kept(count: u64, flags: u64) -> u64 {
    // SAFETY: it keeps what the convention of calls says, and its system call touches no memory.
    unsafe { insula_often_kept(count, flags) }
}

/// getpid, with its number in front of the call.
pub(crate) fn getpid() -> i64 {
    // SAFETY: a call that touches no memory.
    unsafe { insula_often_getpid() }
}

/// Any call without arguments, by the same instruction.
pub(crate) fn any(number: c_long) -> i64 {
    // SAFETY: the tests' calls touch no memory.
    unsafe { insula_often_any(number as u64) }
}

/// A call that is followed by a test of its result and a jump. Its result, or the error.
pub(crate) fn moved(number: c_long, argument: u64) -> i64 {
    // SAFETY: the tests' calls touch no memory.
    unsafe { insula_often_moved(number as u64, argument) }
}

/// The same with 77 for errors; and [`into`] jumps to what follows it.
pub(crate) fn shared(number: c_long, argument: u64) -> i64 {
    // SAFETY: the tests' calls touch no memory.
    unsafe { insula_often_shared(number as u64, argument) }
}

/// See [`shared`]: what it would make of this result.
pub(crate) fn into(value: i64) -> i64 {
    // SAFETY: it makes no call.
    unsafe { insula_often_into(value) }
}
