//! What a stop costs, without a kernel behind it: `cargo run --release --example stops -p insula-sentry`. Each line is the best of several
//! runs, in nanoseconds.

use insula_sentry::platform::ptrace::{Context, Ptrace};
use insula_sentry::platform::{Context as _, Event, Fault, MapOp, Memory, PAGE, Seed, Source, SpawnKind};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x1000_0000;
const PAGES: u64 = 16;
const RW: u32 = 3;
const RX: u32 = 5;

/// mov eax, 110; syscall; mov rdi, rax; jmp to the beginning
const ASK: &[u8] = &[0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0x48, 0x89, 0xc7, 0xeb, 0xf4];

/// At 64: mov eax, 9; syscall; mov ecx, 16; mov rdi, DATA; mov [rdi], ecx; add rdi, 4096; dec ecx; jnz to the mov; mov eax, 11; syscall; jmp to 64
const TOUCH: &[u8] = &[
    0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0xb9, 16, 0, 0, 0, 0xbf, 0, 0, 0, 0x10, 0x89, 0x0f, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0xff,
    0xc9, 0x75, 0xf3, 0xb8, 11, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xd9,
];

fn best(name: &str, runs: u32, mut work: impl FnMut()) {
    let mut least = u128::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        (0..runs).for_each(|_| work());
        least = least.min(start.elapsed().as_nanos() / u128::from(runs));
    }
    println!("{name:40} {least:8} ns");
}

fn call(task: &mut Context, number: u64) {
    match task.enter() {
        Event::Syscall(call) if call.number == number => {}
        other => panic!("{other:?}"),
    }
}

fn map(start: u64, pages: u64, prot: u32, offset: u64) -> MapOp {
    MapOp::Map { start, len: pages * PAGE, prot, source: Source::Memory, offset }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memory = Arc::new(Memory::new(1 << 40)?);
    memory.write(0, ASK)?;
    memory.write(64, TOUCH)?;
    let platform = Ptrace::new(Arc::clone(&memory))?;
    let mut task = platform.first()?.attach()?;
    task.apply(&[map(CODE, 1, RX, 0)])?;
    task.registers_mut()?.rip = CODE;

    best("system call and result", 20_000, || {
        call(&mut task, 110);
        task.set_result(42);
    });
    best("the same, registers read", 20_000, || {
        call(&mut task, 110);
        black_box(task.registers().ok());
        task.set_result(42);
    });
    best("the same, registers read and written", 20_000, || {
        call(&mut task, 110);
        if let Ok(registers) = task.registers_mut() {
            registers.rax = 42;
        }
    });
    let map_data = [map(DATA, PAGES, RW, PAGE)];
    let unmap_data = [MapOp::Unmap { start: DATA, len: PAGES * PAGE }];
    best("one change, nothing else", 5_000, || task.apply(&unmap_data).expect("unmap"));
    let many: Vec<MapOp> = (0..64).map(|n| map(DATA + 2 * n * PAGE, 1, RW, n * PAGE)).collect();
    best("64 changes in one batch", 300, || task.apply(&many).expect("map"));

    task.registers_mut()?.rip = CODE + 64;
    best("mmap, touch 16 pages, munmap", 1_000, || {
        call(&mut task, 9);
        task.apply(&map_data).expect("map");
        task.set_result(DATA);
        call(&mut task, 11);
        task.apply(&unmap_data).expect("unmap");
        task.set_result(0);
    });
    best("the same, memory given back", 1_000, || {
        call(&mut task, 9);
        task.apply(&map_data).expect("map");
        task.set_result(DATA);
        call(&mut task, 11);
        task.apply(&unmap_data).expect("unmap");
        memory.discard(PAGE..PAGE + PAGES * PAGE).expect("discard");
        task.set_result(0);
    });
    task.registers_mut()?.rip = CODE + 71;
    best("a fault that a change mends", 1_000, || {
        match task.enter() {
            Event::Fault(Fault { address: DATA, .. }) => task.apply(&map_data).expect("map"),
            other => panic!("{other:?}"),
        }
        call(&mut task, 11);
        task.apply(&unmap_data).expect("unmap");
        task.registers_mut().expect("alive").rip = CODE + 71;
    });

    task.registers_mut()?.rip = CODE;
    for (name, kind) in [("thread", SpawnKind::Thread), ("process", SpawnKind::Copy), ("empty process", SpawnKind::Empty)] {
        best(&format!("a {name}, in a new thread, to its end"), 200, || {
            let seed = task.spawn(kind, &unmap_data).expect("spawn");
            let thread = std::thread::spawn(move || {
                let mut task = seed.attach().expect("attach");
                task.registers_mut().expect("alive").rip = CODE;
                if kind == SpawnKind::Empty {
                    task.apply(&[map(CODE, 1, RX, 0)]).expect("map");
                }
                call(&mut task, 110);
            });
            thread.join().expect("no panic");
        });
    }
    Ok(())
}
