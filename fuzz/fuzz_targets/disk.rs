//! A disk's driver.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| insula_virtio::fuzz::disk(data));
