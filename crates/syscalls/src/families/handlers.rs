//! How handlers run: what they block, flags of actions, alternate stacks.

use super::prelude::*;
use super::signal::raise;
use crate::sys::signal::{Action, SET, recording, set};

tests!("handlers":
    the_handler_blocks_its_own, nodefer, the_actions_mask, resethand, alternate_stack, alternate_stack_arguments,
    alternate_stack_autodisarm, stack_overflow_is_caught, a_handlers_changes_come_back,
);

fn the_handler_blocks_its_own() {
    signal::on(SIGUSR1, 0);
    raise(SIGUSR1);
    eq!(signal::records()[0].blocked, set(&[SIGUSR1]));
    let mut now = 1u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, 0);
}

fn nodefer() {
    signal::on(SIGUSR1, SA_NODEFER);
    raise(SIGUSR1);
    eq!(signal::records()[0].blocked, 0);
}

fn the_actions_mask() {
    signal::block(&[SIGTERM]);
    gives!(rt_sigaction(SIGUSR1, &recording(0, set(&[SIGUSR2, SIGHUP])), 0, SET) => 0);
    raise(SIGUSR1);
    eq!(signal::records()[0].blocked, set(&[SIGTERM, SIGUSR1, SIGUSR2, SIGHUP]));
    gives!(rt_sigaction(SIGUSR1, &recording(SA_NODEFER, set(&[SIGUSR2])), 0, SET) => 0);
    raise(SIGUSR1);
    eq!(signal::records()[1].blocked, set(&[SIGTERM, SIGUSR2]));
}

fn resethand() {
    signal::on(SIGUSR1, SA_RESETHAND as c_int);
    raise(SIGUSR1);
    let mut now = recording(0, 0);
    gives!(rt_sigaction(SIGUSR1, 0, &mut now, SET) => 0);
    eq!(now.handler, SIG_DFL);
    // It doesn't bring SA_NODEFER along.
    eq!(signal::records()[0].blocked, set(&[SIGUSR1]));
    let victim = child(|| raise(SIGUSR1));
    eq!(wait(victim), Status::Killed(SIGUSR1));
}

const SMALL: usize = 2048;

fn alternate(address: usize, size: usize, flags: c_int) -> stack_t {
    stack_t { ss_sp: std::ptr::with_exposed_provenance_mut(address), ss_flags: flags, ss_size: size }
}

fn alternate_stack() {
    let map = pages(8);
    let mut old = alternate(1, 1, 0);
    gives!(sigaltstack(&alternate(0, 0, SS_DISABLE), 0) => 0);
    gives!(sigaltstack(&alternate(map, 8 * PAGE, 0), &mut old) => 0);
    eq!((old.ss_sp as usize, old.ss_flags, old.ss_size), (0, SS_DISABLE, 0));
    signal::on(SIGUSR1, SA_ONSTACK);
    signal::on(SIGUSR2, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    let stacks: Vec<bool> = signal::records().iter().map(|record| (map..map + 8 * PAGE).contains(&record.stack)).collect();
    eq!(stacks, [true, false]);
    gives!(sigaltstack(0, &mut old) => 0);
    eq!((old.ss_sp as usize, old.ss_flags, old.ss_size), (map, 0, 8 * PAGE));
    // Fork keeps it; a thread begins without.
    in_child(|| {
        let mut own = alternate(0, 0, 0);
        gives!(sigaltstack(0, &mut own) => 0);
        eq!(own.ss_sp as usize, map);
    });
    gives!(sigaltstack(&alternate(0, 0, SS_DISABLE), 0) => 0);
    raise(SIGUSR1);
    is!(!(map..map + 8 * PAGE).contains(&signal::records()[2].stack), "the usual stack");
}

fn alternate_stack_arguments() {
    let map = pages(8);
    fails!(sigaltstack(&alternate(map, SMALL - 1, 0), 0) => ENOMEM);
    fails!(sigaltstack(&alternate(map, 0, 0), 0) => ENOMEM);
    fails!(sigaltstack(&alternate(map, 8 * PAGE, 0x40), 0) => EINVAL);
    fails!(sigaltstack(BAD, 0) => EFAULT);
    fails!(sigaltstack(0, BAD) => EFAULT);
    gives!(sigaltstack(0, 0) => 0);
    // SS_ONSTACK as a flag means nothing, and is let through.
    gives!(sigaltstack(&alternate(map, 8 * PAGE, SS_ONSTACK), 0) => 0);
}

/// While a handler runs on the alternate stack: what sigaltstack says.
extern "C" fn on_the_stack(_: c_int) {
    let mut now = alternate(0, 0, 0);
    let told = sys!(sigaltstack(0, &mut now));
    let changed = sys!(sigaltstack(&alternate(0, 0, SS_DISABLE), 0));
    SEEN.store(now.ss_flags as u32, SeqCst);
    CHANGED.store(changed.err().map_or(0, |error| error.into_raw()) as u32 + 1000 * u32::from(told.is_err()), SeqCst);
}

static SEEN: AtomicU32 = AtomicU32::new(99);

static CHANGED: AtomicU32 = AtomicU32::new(99);

fn plain_handler(flags: c_int) -> Action {
    let mut action = recording(flags, 0);
    action.handler = on_the_stack as *const () as usize;
    action
}

fn alternate_stack_autodisarm() {
    let map = pages(8);
    gives!(sigaltstack(&alternate(map, 8 * PAGE, 0), 0) => 0);
    gives!(rt_sigaction(SIGUSR1, &plain_handler(SA_ONSTACK), 0, SET) => 0);
    raise(SIGUSR1);
    eq!((SEEN.load(SeqCst) as c_int, CHANGED.load(SeqCst) as c_int), (SS_ONSTACK, EPERM));
    const SS_AUTODISARM: c_int = 1 << 31;
    gives!(sigaltstack(&alternate(map, 8 * PAGE, SS_AUTODISARM), 0) => 0);
    raise(SIGUSR1);
    // Disarmed while the handler runs, and may be changed; then it is as before.
    eq!((SEEN.load(SeqCst) as c_int, CHANGED.load(SeqCst)), (SS_DISABLE, 0));
    let mut now = alternate(0, 0, 0);
    gives!(sigaltstack(0, &mut now) => 0);
    eq!((now.ss_sp as usize, now.ss_flags), (map, SS_AUTODISARM));
}

fn stack_overflow_is_caught() {
    // A handler that has no stack to run on: the process is killed by SIGSEGV.
    let victim = child(|| {
        let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
        let map = pages(8);
        works!(sigaltstack(&alternate(map, 8 * PAGE, 0), 0));
        works!(mprotect(map, 8 * PAGE, PROT_NONE));
        signal::on(SIGUSR1, SA_ONSTACK);
        raise(SIGUSR1);
    });
    eq!(wait(victim), Status::Killed(SIGSEGV));
}

fn a_handlers_changes_come_back() {
    // What a handler blocks by itself ends with it: the frame's mask is restored.
    extern "C" fn blocks(_: c_int) {
        let _ = sys!(rt_sigprocmask(SIG_BLOCK, &set(&[SIGHUP]), 0, SET));
    }
    let mut action = recording(0, 0);
    action.handler = blocks as *const () as usize;
    gives!(rt_sigaction(SIGUSR1, &action, 0, SET) => 0);
    raise(SIGUSR1);
    let mut now = 9u64;
    gives!(rt_sigprocmask(SIG_BLOCK, 0, &mut now, SET) => 0);
    eq!(now, 0);
}
