//! A driver of the source of entropy.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| insula_virtio::fuzz::entropy(data));
