//! Calls that a program answers itself, prctl(2) at `PR_SET_SYSCALL_USER_DISPATCH`; and numbers of calls.

use super::prelude::*;

tests!("dispatch": modes_are_checked, calls_are_sent_back, a_byte_decides, children_begin_without, numbers_have_32_bits);

const DISPATCH: c_int = 59;
const ON: c_int = 1;
const SYS_USER_DISPATCH: c_int = 2;

/// Where calls are sent back: a page below the program.
const PLACE: usize = 0x10_0000;

/// Puts a function there that calls getppid.
fn place() {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    gives!(mmap(PLACE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0) => PLACE);
    // mov $110, %eax; syscall; ret
    put(PLACE, &[0xb8, SYS_getppid as u8, 0, 0, 0, 0x0f, 0x05, 0xc3]);
}

/// From now on calls from `PLACE` are sent back; those from elsewhere aren't.
fn begin(selector: usize) {
    signal::on(SIGSYS, 0);
    if sys!(prctl(DISPATCH, ON, PLACE + PAGE, usize::MAX - PLACE - PAGE, selector)).is_err() {
        skip!("no dispatch to programs (CONFIG_GENERIC_ENTRY)");
    }
}

#[track_caller]
fn run() {
    is!(memory::run_at(PLACE).is_ok(), "the function to return");
}

fn modes_are_checked() {
    in_child(|| {
        begin(0);
        gives!(prctl(DISPATCH, 0, 0, 0, 0) => 0);
    });
    fails!(prctl(DISPATCH, 0, 1, 0, 0) => EINVAL);
    fails!(prctl(DISPATCH, 0, 0, 1, 0) => EINVAL);
    fails!(prctl(DISPATCH, 0, 0, 0, PLACE) => EINVAL);
    fails!(prctl(DISPATCH, 99, 0, 0, 0) => EINVAL);
    fails!(prctl(DISPATCH, ON, 1, 0, 0) => EINVAL);
    fails!(prctl(DISPATCH, ON, 1, usize::MAX, 0) => EINVAL);
    fails!(prctl(DISPATCH, ON, 0, 0, usize::MAX) => EFAULT);
}

fn calls_are_sent_back() {
    in_child(|| {
        place();
        run();
        begin(0);
        // Also where many are made.
        for times in 1..40 {
            run();
            eq!(signal::count(), times);
        }
        let record = signal::records()[0];
        eq!((record.signal, record.code), (SIGSYS, SYS_USER_DISPATCH));
        signal::forget();
        gives!(prctl(DISPATCH, 0, 0, 0, 0) => 0);
        run();
        eq!(signal::count(), 0);
    });
}

fn a_byte_decides() {
    let selector = pages(1);
    let ends = |byte: u8| {
        wait(child(|| {
            works!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
            place();
            poke(selector, byte);
            begin(selector);
            run();
            process::exit(signal::count() as c_int);
        }))
    };
    eq!((ends(0), ends(1), ends(2)), (Status::Exited(0), Status::Exited(1), Status::Killed(SIGSYS)));
    works!(munmap(selector, PAGE));
    let victim = child(|| {
        works!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
        place();
        begin(selector);
        run();
    });
    eq!(wait(victim), Status::Killed(SIGSEGV));
}

fn children_begin_without() {
    in_child(|| {
        place();
        begin(0);
        in_child(|| {
            run();
            eq!(signal::count(), 0);
        });
        run();
        eq!(signal::count(), 1);
    });
}

fn numbers_have_32_bits() {
    let number = |high: usize, low: usize| crate::sys::call_number(high << 32 | low);
    for high in [0, 1, 0x4000_0000, u32::MAX as usize] {
        eq!(number(high, SYS_getpid as usize), Ok(process::id() as usize));
        eq!(number(high, u32::MAX as usize), Err(Errno::ENOSYS));
        eq!(number(high, 0x3fff_ffff), Err(Errno::ENOSYS));
    }
}
