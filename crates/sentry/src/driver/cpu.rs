//! A task's processor: the registers of its stub.

use crate::platform::{Context, Registers};
use insula_kernel::Regs;
use insula_kernel::cpu::Cpu;

/// The registers of a context, fetched when somebody asks for them.
pub(super) struct StubCpu<'a, C: Context> {
    context: &'a mut C,
    fetched: Option<Regs>,
}

impl<'a, C: Context> StubCpu<'a, C> {
    /// Of this context.
    pub(super) fn new(context: &'a mut C) -> Self {
        StubCpu { context, fetched: None }
    }

    /// Gives changed registers to the stub; the program goes on at what `onward` makes of where it was to go on.
    pub(super) fn finish(self, onward: impl FnOnce(u64) -> u64) -> crate::platform::Result<()> {
        if let Some(mut regs) = self.fetched {
            regs.rip = onward(regs.rip);
            *self.context.registers_mut()? = to_host(&regs);
        }
        Ok(())
    }
}

impl<C: Context> Cpu for StubCpu<'_, C> {
    fn regs(&mut self) -> &mut Regs {
        // A stub that is gone has no registers; nobody will miss what is written to these.
        let context = &mut *self.context;
        self.fetched.get_or_insert_with(|| context.registers().map(from_host).unwrap_or_default())
    }

    fn extended(&mut self) -> Vec<u8> {
        self.context.fpu().unwrap_or_default()
    }

    fn set_extended(&mut self, state: &[u8]) -> bool {
        self.context.set_fpu(state).is_ok()
    }
}

macro_rules! same_fields {
    ($($field:ident)*) => {
        /// From the host's form.
        fn from_host(host: &Registers) -> Regs {
            Regs { $($field: host.$field),* }
        }

        /// To the host's form.
        pub(super) fn to_host(regs: &Regs) -> Registers {
            Registers { $($field: regs.$field),* }
        }
    };
}

same_fields! { r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs }
