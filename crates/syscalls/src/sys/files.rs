//! The steps that many tests begin with: files, pipes, lists of pointers.

use super::sys;
use crate::check::{fail, name};
use libc::{AT_FDCWD, O_CREAT, O_RDWR, O_TRUNC, c_char, iovec};
use std::ffi::CStr;

/// A new file with these contents, opened for reading and writing, at its start.
#[track_caller]
pub(crate) fn file(path: &CStr, contents: &[u8]) -> usize {
    let made = sys!(openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0o644));
    let made = made.and_then(|fd| sys!(pwrite64(fd, contents, contents.len(), 0)).map(|_| fd));
    made.unwrap_or_else(|error| fail(&format!("making the file {path:?}: {}", name(error))))
}

/// The contents of a file, by the standard library.
#[track_caller]
pub(crate) fn contents(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| fail(&format!("reading {path}: {error}")))
}

/// A pipe: the end to read from, and the end to write to.
#[track_caller]
pub(crate) fn pipe() -> (usize, usize) {
    let mut ends = [0i32; 2];
    match sys!(pipe2(&mut ends, 0)) {
        Ok(_) => (ends[0] as usize, ends[1] as usize),
        Err(error) => fail(&format!("pipe2: {}", name(error))),
    }
}

/// A piece of memory for readv and its like.
pub(crate) fn piece(bytes: &mut [u8]) -> iovec {
    iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// A piece that is only read from.
pub(crate) fn piece_of(bytes: &[u8]) -> iovec {
    iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// A piece by address.
pub(crate) fn piece_at(address: usize, length: usize) -> iovec {
    iovec { iov_base: std::ptr::with_exposed_provenance_mut(address), iov_len: length }
}

/// The list of strings that execve takes, with its null at the end. The strings must outlive it.
pub(crate) fn strings(list: &[&CStr]) -> Vec<*const c_char> {
    list.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// All that can be read from a descriptor until its end.
#[track_caller]
pub(crate) fn drain(fd: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match sys!(read(fd, &mut buffer, buffer.len())) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(syscalls::Errno::EINTR) => continue,
            Err(error) => fail(&format!("reading to the end: {}", name(error))),
        }
    }
}
