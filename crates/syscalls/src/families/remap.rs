//! Memory that grows, shrinks and moves: mremap and brk.

use super::memory::*;
use super::prelude::*;

tests!("remap":
    grows_and_shrinks, arguments, fixed, dontunmap, of_a_file_sees_more_of_it, brk_moves, brk_refuses,
);

fn grows_and_shrinks() {
    let map = pages(8);
    for page in 0..8 {
        poke(map + page * PAGE, page as u8 + 1);
    }
    gives!(mremap(map, 8 * PAGE, 2 * PAGE, 0) => map);
    eq!(read_at(map + 2 * PAGE), Err(segv(SEGV_MAPERR, map + 2 * PAGE)));
    // There is room again where it was.
    gives!(mremap(map, 2 * PAGE, 4 * PAGE, 0) => map);
    eq!((peek(map), peek(map + PAGE), peek(map + 2 * PAGE)), (1, 2, 0));
    // Something in the way: it moves, if it may.
    gives!(mmap(map + 4 * PAGE, PAGE, PROT_NONE, PRIVATE | MAP_FIXED, -1, 0) => map + 4 * PAGE);
    fails!(mremap(map, 4 * PAGE, 6 * PAGE, 0) => ENOMEM);
    let moved = works!(mremap(map, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE));
    is!(moved != map, "the mapping to move");
    eq!((peek(moved), peek(moved + PAGE), peek(moved + 5 * PAGE)), (1, 2, 0));
    is!(read_at(map).is_err(), "the old place to be free");
    gives!(mremap(moved, 6 * PAGE, 6 * PAGE, 0) => moved);
}

fn arguments() {
    let map = pages(2);
    fails!(mremap(map + 1, PAGE, PAGE, MREMAP_MAYMOVE) => EINVAL);
    fails!(mremap(map, PAGE, 0, MREMAP_MAYMOVE) => EINVAL);
    fails!(mremap(map, PAGE, PAGE, 0x80) => EINVAL);
    fails!(mremap(map, PAGE, PAGE, MREMAP_FIXED, map) => EINVAL);
    fails!(mremap(map, PAGE, 2 * PAGE, MREMAP_DONTUNMAP, 0) => EINVAL);
    // An old size of 0 makes a second mapping, of what is shared only.
    fails!(mremap(map, 0, PAGE, MREMAP_MAYMOVE) => EINVAL);
    let shared = works!(mmap(0, PAGE, RW, SHARED, -1, 0));
    let again = works!(mremap(shared, 0, PAGE, MREMAP_MAYMOVE));
    poke(again, 42);
    eq!(peek(shared), 42);
    gives!(munmap(map, 2 * PAGE) => 0);
    fails!(mremap(map, PAGE, 2 * PAGE, MREMAP_MAYMOVE) => EFAULT);
}

fn fixed() {
    let from = pages(2);
    let to = pages(4);
    put(from, b"moved");
    put(to, b"overwritten");
    put(to + 2 * PAGE, b"stays");
    gives!(mremap(from, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) => to);
    eq!(bytes_at(to, 5), b"moved");
    eq!(bytes_at(to + 2 * PAGE, 5), b"stays");
    eq!(read_at(from), Err(segv(SEGV_MAPERR, from)));
    fails!(mremap(to, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 1) => EINVAL);
    fails!(mremap(to, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) => EINVAL);
}

fn dontunmap() {
    let map = pages(1);
    put(map, b"moves");
    let to = works!(mremap(map, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
    eq!(bytes_at(to, 5), b"moves");
    // The old place stays, and is empty.
    eq!(bytes_at(map, 5), [0; 5]);
    poke(map, 1);
    eq!(peek(to), b'm');
}

fn of_a_file_sees_more_of_it() {
    let fd = file(c"file", &[b'1'; PAGE]);
    gives!(pwrite64(fd, b"2", 1, PAGE) => 1);
    let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    let map = works!(mremap(map, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    eq!((peek(map), peek(map + PAGE)), (b'1', b'2'));
    poke(map + PAGE, b'3');
    let mut byte = [0u8];
    gives!(pread64(fd, &mut byte, 1, PAGE) => 1);
    eq!(byte[0], b'3');
}

fn brk_moves() {
    // The C library may have its heap there: what it has stays.
    let start = works!(brk(0));
    let more = start + 3 * PAGE;
    gives!(brk(more) => more);
    eq!(peek(more - PAGE), 0);
    poke(more - 1, 3);
    gives!(brk(0) => more);
    gives!(brk(more - 1) => more - 1);
    eq!(peek(more - 1), 3);
    gives!(brk(start) => start);
    is!(read_at((start + PAGE).next_multiple_of(PAGE)).is_err(), "what was given back to be gone");
    gives!(brk(more) => more);
    eq!(peek((start + PAGE).next_multiple_of(PAGE)), 0);
    in_child(|| {
        gives!(brk(0) => more);
        gives!(brk(more + PAGE) => more + PAGE);
    });
    gives!(brk(0) => more);
}

fn brk_refuses() {
    // A refusal is the old break as the value, never an error.
    let start = works!(brk(0));
    gives!(brk(1) => start);
    gives!(brk(usize::MAX) => start);
    gives!(brk(1usize << 47) => start);
    // Something in the way.
    let next = start.next_multiple_of(PAGE) + PAGE;
    gives!(mmap(next, PAGE, PROT_NONE, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) => next);
    gives!(brk(next + 3 * PAGE) => start);
}
