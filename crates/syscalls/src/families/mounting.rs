//! Mounts in steps: the interface of Linux 5.2 and later, by descriptors.

use super::mounts::{own_mounts, tmpfs};
use super::prelude::*;
use super::propagation::optional_fields;

tests!("mounting":
    new_mount_interface, open_tree_and_move, mount_attributes, mounts_in_steps, statmount_and_listmount,
);

fn new_mount_interface() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    const SET_STRING: c_int = 1;
    const CREATE: c_int = 6;
    let context = match sys!(fsopen(c"tmpfs", 1)) {
        Err(Errno::ENOSYS) => skip!("no fsopen (Linux 5.2)"),
        other => crate::check::must_work("fsopen", other),
    };
    gives!(fcntl(context, F_GETFD) => FD_CLOEXEC);
    gives!(fsconfig(context, SET_STRING, c"size", c"32k", 0) => 0);
    fails!(fsconfig(context, SET_STRING, c"no-such", c"1", 0) => EINVAL);
    // The context keeps a message of what was wrong.
    let mut text = [0u8; 128];
    let count = works!(read(context, &mut text, 128));
    is!(text[..count].starts_with(b"e "), "an error's text");
    fails!(fsmount(context, 0, 0) => EINVAL);
    gives!(fsconfig(context, CREATE, 0, 0, 0) => 0);
    let mounted = works!(fsmount(context, 1, 0));
    works!(openat(mounted, c"file", O_WRONLY | O_CREAT, 0o644));
    gives!(move_mount(mounted, c"", AT_FDCWD, c"m", 4 /* MOVE_MOUNT_F_EMPTY_PATH */) => 0);
    works!(openat(AT_FDCWD, c"m/file", O_RDONLY));
    fails!(fsopen(c"no-such-type", 0) => ENODEV);
    fails!(fsopen(c"tmpfs", 0x80) => EINVAL);
    fails!(fsopen(BAD, 0) => EFAULT);
    fails!(fsconfig(-1, CREATE, 0, 0, 0) => EBADF | EINVAL);
    fails!(fsmount(-1, 0, 0) => EBADF);
    let again = works!(fspick(AT_FDCWD, c"m", 1));
    gives!(fsconfig(again, SET_STRING, c"size", c"64k", 0) => 0);
    gives!(fsconfig(again, 7 /* RECONFIGURE */, 0, 0, 0) => 0);
    fails!(fspick(AT_FDCWD, c"missing", 0) => ENOENT);
}

fn open_tree_and_move() {
    own_mounts();
    gives!(mkdir(c"a", 0o755) => 0);
    gives!(mkdir(c"b", 0o755) => 0);
    works!(close(file(c"a/file", b"text")));
    const OPEN_TREE_CLONE: c_int = 1;
    let tree = match sys!(open_tree(AT_FDCWD, c"a", OPEN_TREE_CLONE | O_CLOEXEC)) {
        Err(Errno::ENOSYS) => skip!("no open_tree (Linux 5.2)"),
        other => crate::check::must_work("open_tree", other),
    };
    works!(openat(tree, c"file", O_RDONLY));
    gives!(move_mount(tree, c"", AT_FDCWD, c"b", 4) => 0);
    eq!(contents("b/file"), "text");
    fails!(move_mount(tree, c"", AT_FDCWD, c"missing", 4) => ENOENT);
    fails!(open_tree(AT_FDCWD, c"missing", OPEN_TREE_CLONE) => ENOENT);
    fails!(open_tree(AT_FDCWD, c"a", 0x40) => EINVAL);
    fails!(open_tree(999, c"a", 0) => EBADF);
}

fn mount_attributes() {
    own_mounts();
    tmpfs(c"m");
    works!(close(file(c"m/file", b"")));
    const READONLY: u64 = 1;
    // attr_set, attr_clr, propagation, userns_fd.
    match sys!(mount_setattr(AT_FDCWD, c"m", 0, &[READONLY, 0, 0, 0], 32)) {
        Err(Errno::ENOSYS) => skip!("no mount_setattr (Linux 5.12)"),
        other => crate::check::must_give("mount_setattr", other, 0),
    }
    fails!(openat(AT_FDCWD, c"m/file", O_WRONLY) => EROFS);
    gives!(mount_setattr(AT_FDCWD, c"m", 0, &[0, READONLY, 0, 0u64], 32) => 0);
    works!(openat(AT_FDCWD, c"m/file", O_WRONLY));
    // MOUNT_ATTR_NOSYMFOLLOW, and what statfs calls it.
    gives!(symlink(c"file", c"m/link") => 0);
    gives!(mount_setattr(AT_FDCWD, c"m", 0, &[0x20_0000u64, 0, 0, 0], 32) => 0);
    fails!(openat(AT_FDCWD, c"m/link", O_RDONLY) => ELOOP);
    works!(openat(AT_FDCWD, c"m/file", O_RDONLY));
    // `struct statfs`, whose eleventh word are the flags.
    let mut about = [0u64; 15];
    gives!(statfs(c"m", &mut about) => 0);
    is!(about[10] & 0x2000 != 0, "ST_NOSYMFOLLOW among {:#x}", about[10]);
    fails!(mount_setattr(AT_FDCWD, c"m", 0, &[1u64 << 40, 0, 0, 0], 32) => EINVAL);
    fails!(mount_setattr(AT_FDCWD, c"m", 0, &[READONLY, 0, 0, 0], 16) => EINVAL);
    fails!(mount_setattr(AT_FDCWD, c"missing", 0, &[READONLY, 0, 0, 0], 32) => ENOENT);
    fails!(mount_setattr(AT_FDCWD, c"m", 0, BAD, 32) => EFAULT);
}

fn mounts_in_steps() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    gives!(mkdir(c"other", 0o755) => 0);
    const FLAG: c_int = 0;
    const CREATE: c_int = 6;
    let context = match sys!(fsopen(c"tmpfs", 0)) {
        Err(Errno::ENOSYS) => skip!("no fsopen (Linux 5.2)"),
        other => crate::check::must_work("fsopen", other),
    };
    fails!(fsmount(context, 0, 0) => EINVAL);
    fails!(fsconfig(context, FLAG, 0, 0, 0) => EINVAL);
    fails!(fsconfig(context, CREATE, c"x", 0, 0) => EINVAL);
    fails!(fsconfig(context, 99, 0, 0, 0) => EOPNOTSUPP);
    fails!(fsconfig(works!(openat(AT_FDCWD, c"/", O_RDONLY)), CREATE, 0, 0, 0) => EINVAL);
    let mut text = [0u8; 64];
    fails!(read(context, &mut text, 64) => ENODATA);
    gives!(fsconfig(context, FLAG, c"ro", 0, 0) => 0);
    gives!(fsconfig(context, CREATE, 0, 0, 0) => 0);
    fails!(fsconfig(context, CREATE, 0, 0, 0) => EBUSY);
    fails!(fsmount(context, 2, 0) => EINVAL);
    fails!(fsmount(context, 0, 0x40000000) => EINVAL);
    let mounted = works!(fsmount(context, 0, 0x2 | 0x8 /* NOSUID, NOEXEC */));
    fails!(openat(mounted, c"file", O_WRONLY | O_CREAT, 0o644) => EROFS);
    // It isn't anywhere yet.
    is!(!contents("/proc/self/mountinfo").contains("nosuid,noexec,relatime - tmpfs none"), "no place");
    fails!(move_mount(mounted, c"", AT_FDCWD, c"m", 0) => ENOENT);
    fails!(move_mount(mounted, c"", AT_FDCWD, c"m", 0x80) => EINVAL);
    works!(close(file(c"plain", b"")));
    fails!(move_mount(mounted, c"", AT_FDCWD, c"plain", 4) => EINVAL);
    gives!(move_mount(mounted, c"", AT_FDCWD, c"m", 4) => 0);
    let line = contents("/proc/self/mounts").lines().find(|line| line.contains("/m tmpfs ")).unwrap_or("").to_owned();
    is!(line.starts_with("none ") && line.contains("ro,nosuid,noexec,relatime"), "its line: {line}");
    // From one place to another.
    gives!(move_mount(AT_FDCWD, c"m", AT_FDCWD, c"other", 0) => 0);
    fails!(move_mount(AT_FDCWD, c"m", AT_FDCWD, c"other", 0) => EINVAL);
    // All that is in it along, or not.
    gives!(mount_setattr(AT_FDCWD, c"other", 0, &[0u64, 1, 0, 0], 32) => 0);
    fails!(umount2(c"other", 0) => EBUSY);
    works!(close(mounted));
    gives!(umount2(c"other", 0) => 0);
    tmpfs(c"t");
    gives!(mkdir(c"t/in", 0o755) => 0);
    gives!(mount(c"none", c"t/in", c"tmpfs", 0, 0) => 0);
    works!(close(file(c"t/in/file", b"")));
    let deep = works!(open_tree(AT_FDCWD, c"t", 1 | AT_RECURSIVE));
    works!(close(works!(openat(deep, c"in/file", O_RDONLY))));
    let flat = works!(open_tree(AT_FDCWD, c"t", 1));
    fails!(openat(flat, c"in/file", O_RDONLY) => ENOENT);
    fails!(open_tree(AT_FDCWD, c"t", AT_RECURSIVE) => EINVAL);
    let here = works!(open_tree(AT_FDCWD, c"t", 0));
    works!(close(works!(openat(here, c"in/file", O_RDONLY))));
    // What isn't anywhere has attributes, too.
    gives!(mount_setattr(deep, c"", AT_EMPTY_PATH | AT_RECURSIVE, &[1u64, 0, 0, 0], 32) => 0);
    fails!(openat(deep, c"in/file", O_WRONLY) => EROFS);
    works!(close(works!(openat(here, c"in/file", O_WRONLY))));
    gives!(mount_setattr(AT_FDCWD, c"t", AT_RECURSIVE, &[0u64, 0, MS_SHARED, 0], 32) => 0);
    is!(optional_fields("/t/in").starts_with("shared:"), "shared with what is in it");
    fails!(mount_setattr(AT_FDCWD, c"t", 0, &[0u64, 0, MS_SHARED | MS_SLAVE, 0], 32) => EINVAL);
    fails!(mount_setattr(AT_FDCWD, c"t", 0, &[0x10u64, 0, 0, 0], 32) => EINVAL);
    gives!(mount_setattr(AT_FDCWD, c"t", 0, &[0x10u64, 0x70, 0, 0], 32) => 0);
    is!(contents("/proc/self/mounts").lines().any(|line| line.contains("/t tmpfs rw,noatime")), "noatime");
    fails!(mount_setattr(AT_FDCWD, c"t/in/file", 0, &[1u64, 0, 0, 0], 32) => EINVAL);
    fails!(mount_setattr(AT_FDCWD, c"t", 0, &[1u64, 0, 0, 0, 1], 40) => E2BIG);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(open_tree(AT_FDCWD, c"t", 1) => EPERM);
        fails!(mount_setattr(AT_FDCWD, c"t", 0, &[1u64, 0, 0, 0], 32) => EPERM);
        fails!(move_mount(AT_FDCWD, c"t", AT_FDCWD, c"m", 0) => EPERM);
    });
}

fn statmount_and_listmount() {
    own_mounts();
    // size, mount namespace's fd, mount, parameter: LSMT_ROOT is everything.
    let request: [u64; 3] = [24, u64::MAX, 0];
    let mut list = [0u64; 256];
    let count = match sys!(listmount(&request, &mut list, 256, 0)) {
        Err(Errno::ENOSYS) => skip!("no listmount (Linux 6.8)"),
        other => crate::check::must_work("listmount", other),
    };
    is!(count >= 1 && list[..count].iter().all(|id| *id != 0), "mounts");
    let mut buffer = [0u8; 1024];
    const MNT_BASIC: u64 = 2;
    gives!(statmount(&[24u64, list[0], MNT_BASIC], &mut buffer, 1024, 0) => 0);
    is!(from_bytes::<u32>(&buffer).is_some_and(|size| size > 0), "a size");
    fails!(statmount(&[24u64, u64::MAX >> 1, MNT_BASIC], &mut buffer, 1024, 0) => ENOENT);
    fails!(statmount(&[24u64, list[0], MNT_BASIC], &mut buffer, 1024, 0x40) => EINVAL);
    fails!(listmount(BAD, &mut list, 256, 0) => EFAULT);
}
