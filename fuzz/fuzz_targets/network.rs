//! A network card's driver.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| insula_virtio::fuzz::network(data));
