//! A driver of sockets between guest and host.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| insula_virtio::fuzz::sockets(data));
