//! Frames on the program's stack, exactly as Linux lays them on x86-64 (`arch/x86/kernel/signal_64.c`), and the way back.

use super::{Own, SigSet};
use crate::cpu::Cpu;
use crate::mm::Mm;
use crate::task::Task;
use crate::{Errno, Regs, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::signal::{
    FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FPX_SW_OFFSET, FpxSwBytes, Sigaction, Sigcontext, Sigframe, Siginfo, Stack, UC_FP_XSTATE,
    UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, Ucontext,
};
use insula_abi::zerocopy::{FromBytes, IntoBytes};

/// The selectors of a 64-bit program.
pub(crate) const CODE: u64 = 0x33;
/// See [`CODE`].
pub(crate) const DATA: u64 = 0x2b;

/// The single step, direction and resume flags: a handler begins without them.
const NOT_IN_HANDLERS: u64 = 1 << 8 | 1 << 10 | 1 << 16;

/// Flags that a program may set: `FIX_EFLAGS` of Linux.
const OWN_FLAGS: u64 = 1 << 18 | 1 << 16 | 1 << 11 | 1 << 10 | 1 << 8 | 1 << 7 | 1 << 6 | 1 << 4 | 1 << 2 | 1;

/// Below its stack pointer a program may have 128 bytes in use.
const RED_ZONE: u64 = 128;

/// Bytes of extended state that all processors have.
const LEGACY: usize = 512;

/// Where the header of the extended part begins: which features are there.
const HEADER: usize = 512;

/// Bytes that a frame needs at most, with so much extended state (`AT_MINSIGSTKSZ`).
pub const fn largest(extended: u64) -> u64 {
    (size_of::<Sigframe>() as u64 + extended + 4 + 64 + 16 + 8).next_multiple_of(16)
}

/// Whether the stack pointer is on this alternate stack.
pub fn is_on(stack: &Stack, sp: u64) -> bool {
    stack.flags as u32 & c::SS_AUTODISARM == 0 && within(stack, sp)
}

const fn within(stack: &Stack, sp: u64) -> bool {
    sp > stack.sp && sp - stack.sp <= stack.size
}

/// Lays a frame and sets the registers to the handler.
///
/// # Errors
/// `EFAULT`: the stack can't take it.
pub(super) fn push(
    task: &Arc<Task>,
    own: &mut Own,
    cpu: &mut dyn Cpu,
    action: &Sigaction,
    info: &Siginfo,
    mask: SigSet,
) -> Result<()> {
    if action.flags & u64::from(c::SA_RESTORER) == 0 {
        return Err(Errno::EFAULT);
    }
    let mut extended = cpu.extended();
    let regs = cpu.regs();
    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    let nested = is_on(&own.alternate, regs.rsp);
    let mut entering = false;
    if action.flags & u64::from(c::SA_ONSTACK) != 0 && own.alternate.size != 0 && !nested {
        sp = own.alternate.sp.wrapping_add(own.alternate.size);
        entering = true;
    }
    let fpstate = sp.wrapping_sub(extended.len().max(LEGACY) as u64 + 4) & !63;
    let address = (fpstate.wrapping_sub(size_of::<Sigframe>() as u64) & !15).wrapping_sub(8);
    // On its alternate stack a task must not run out of it below.
    if (nested || entering) && !within(&own.alternate, address) {
        return Err(Errno::EFAULT);
    }
    let mm = task.mm();
    save_extended(&mm, fpstate, &mut extended)?;
    let frame = Sigframe {
        restorer: action.restorer,
        context: Ucontext {
            flags: UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            link: 0,
            stack: own.alternate,
            mcontext: context(regs, own, fpstate, mask),
            sigmask: mask.0,
        },
        info: *info,
    };
    mm.put(address, &frame)?;
    if own.alternate.flags as u32 & c::SS_AUTODISARM != 0 {
        own.alternate = super::NO_STACK;
    }
    regs.rdi = info.signo as u64;
    regs.rax = 0;
    regs.rsi = address + core::mem::offset_of!(Sigframe, info) as u64;
    regs.rdx = address + core::mem::offset_of!(Sigframe, context) as u64;
    regs.rip = action.handler;
    regs.rsp = address;
    (regs.cs, regs.ss) = (CODE, DATA);
    regs.eflags &= !NOT_IN_HANDLERS;
    regs.orig_rax = u64::MAX;
    Ok(())
}

fn context(regs: &Regs, own: &Own, fpstate: u64, mask: SigSet) -> Sigcontext {
    Sigcontext {
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
        rsi: regs.rsi,
        rbp: regs.rbp,
        rbx: regs.rbx,
        rdx: regs.rdx,
        rax: regs.rax,
        rcx: regs.rcx,
        rsp: regs.rsp,
        rip: regs.rip,
        eflags: regs.eflags,
        cs: regs.cs as u16,
        gs: 0,
        fs: 0,
        ss: regs.ss as u16,
        err: own.fault.error,
        trapno: own.fault.trap,
        oldmask: mask.0,
        cr2: own.fault.address,
        fpstate,
        reserved: [0; 8],
    }
}

fn save_extended(mm: &Mm, at: u64, state: &mut Vec<u8>) -> Result<()> {
    let size = state.len().max(LEGACY);
    let more = size > LEGACY;
    state.resize(size, 0);
    let marked = &mut state[FPX_SW_OFFSET..FPX_SW_OFFSET + size_of::<FpxSwBytes>()];
    // The first of these bytes tell which features there are, as ptrace(2) has it (`NT_X86_XSTATE`).
    let xfeatures = u64::read_from_bytes(&marked[..8]).unwrap_or_default();
    let marks = FpxSwBytes {
        magic1: if more { FP_XSTATE_MAGIC1 } else { 0 },
        extended_size: size as u32 + if more { 4 } else { 0 },
        xfeatures,
        xstate_size: size as u32,
        padding: [0; 7],
    };
    marked.copy_from_slice(marks.as_bytes());
    if more {
        state.extend_from_slice(&FP_XSTATE_MAGIC2.to_ne_bytes());
    }
    mm.write(at, state)
}

/// Takes back what the frame below the stack pointer says (rt_sigreturn(2)); answers the mask and the stack it wants, and whether its extended state
/// is one: if not, that is the initial one now.
///
/// # Errors
/// `EFAULT`: there is no frame.
pub(super) fn pop(task: &Arc<Task>, cpu: &mut dyn Cpu) -> Result<(SigSet, Stack, Result<()>)> {
    let mm = task.mm();
    let frame: Sigframe = mm.get(cpu.regs().rsp.wrapping_sub(8))?;
    let saved = &frame.context.mcontext;
    let extended = restore_extended(&mm, saved.fpstate, cpu);
    if extended.is_err() {
        let size = cpu.extended().len();
        cpu.set_extended(&initial(size));
    }
    let regs = cpu.regs();
    *regs = Regs {
        r8: saved.r8,
        r9: saved.r9,
        r10: saved.r10,
        r11: saved.r11,
        r12: saved.r12,
        r13: saved.r13,
        r14: saved.r14,
        r15: saved.r15,
        rdi: saved.rdi,
        rsi: saved.rsi,
        rbp: saved.rbp,
        rbx: saved.rbx,
        rdx: saved.rdx,
        rax: saved.rax,
        rcx: saved.rcx,
        rsp: saved.rsp,
        rip: saved.rip,
        eflags: regs.eflags & !OWN_FLAGS | saved.eflags & OWN_FLAGS,
        // Whatever the frame says: there are only 64-bit programs here.
        cs: CODE,
        ss: DATA,
        orig_rax: u64::MAX,
        ..*regs
    };
    Ok((SigSet::blockable(frame.context.sigmask), frame.context.stack, extended))
}

fn restore_extended(mm: &Mm, at: u64, cpu: &mut dyn Cpu) -> Result<()> {
    let size = cpu.extended().len();
    let accepted = if at == 0 {
        cpu.set_extended(&initial(size))
    } else {
        let mut state = vec![0; LEGACY];
        mm.read(at, &mut state)?;
        let marks = FpxSwBytes::read_from_bytes(&state[FPX_SW_OFFSET..FPX_SW_OFFSET + size_of::<FpxSwBytes>()]);
        // Anything but what was saved here is taken as the part that all processors have.
        let whole =
            marks.is_ok_and(|marks| marks.magic1 == FP_XSTATE_MAGIC1 && marks.xstate_size as usize == size) && size > LEGACY;
        if whole && mm.get::<u32>(at.wrapping_add(size as u64)) == Ok(FP_XSTATE_MAGIC2) {
            state.resize(size, 0);
            mm.read(at, &mut state)?;
        } else {
            state.resize(size.max(LEGACY), 0);
            if let Some(present) = state.get_mut(HEADER..HEADER + 8) {
                // x87 and SSE are there, the others as they are initially.
                present.copy_from_slice(&3u64.to_ne_bytes());
            }
        }
        cpu.set_extended(&state)
    };
    if accepted { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Extended state as a new program finds it: all features in their initial state, and the control words as Linux sets them.
pub fn initial(size: usize) -> Vec<u8> {
    let mut state = vec![0; size.max(LEGACY)];
    state[..2].copy_from_slice(&0x037fu16.to_ne_bytes());
    state[24..28].copy_from_slice(&0x1f80u32.to_ne_bytes());
    state
}
