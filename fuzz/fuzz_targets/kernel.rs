//! A kernel image.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| insula_vm::kernel::fuzz(data));
