//! Mounts: each test in a mount namespace of its own, so that nothing reaches the host.

use super::prelude::*;

tests!("mounts":
    tmpfs_mounts, bind_mounts, readonly_remounts, mount_arguments, umount_flags, mounts_need_rights,
    namespaces_are_mounted, pivot_root_changes_the_root, overlays_cover, overlays_without_an_upper_layer,
    overlay_arguments, tmpfs_changes_its_size, proc_mounts_anew, nosuid_noexec_nodev, size_limits_of_tmpfs,
    removed_files_make_room, rename_across_mounts, namespaces_of_mounts_are_mounted_if_newer,
);

/// Goes into a mount namespace of our own, cut off from the host's; else the test is skipped.
pub(super) fn own_mounts() {
    need_root();
    match sys!(unshare(CLONE_NEWNS)) {
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => skip!("no mount namespace of our own (CAP_SYS_ADMIN)"),
        other => crate::check::must_give("unshare", other, 0),
    }
    gives!(mount(c"none", c"/", 0, MS_REC | MS_PRIVATE, 0) => 0);
}

pub(super) fn tmpfs(path: &std::ffi::CStr) {
    gives!(mkdir(path, 0o755) => 0);
    gives!(mount(c"none", path, c"tmpfs", 0, 0) => 0);
}

fn tmpfs_mounts() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    works!(close(file(c"m/under", b"")));
    gives!(mount(c"name", c"m", c"tmpfs", MS_NOATIME, c"mode=750,size=64k") => 0);
    fails!(openat(AT_FDCWD, c"m/under", O_RDONLY) => ENOENT);
    let mut stat: stat = zeroed();
    gives!(stat(c"m", &mut stat) => 0);
    eq!(stat.st_mode, S_IFDIR | 0o750);
    let mut above: stat = zeroed();
    gives!(stat(c".", &mut above) => 0);
    is!(stat.st_dev != above.st_dev, "another device");
    let line = contents("/proc/self/mounts").lines().find(|line| line.starts_with("name ")).unwrap_or("").to_owned();
    is!(line.contains(" tmpfs rw,noatime,") && line.contains("size=64k,mode=750"), "its line: {line}");
    works!(close(file(c"m/inside", b"text")));
    fails!(umount2(c"m/inside", 0) => EINVAL);
    let open = works!(openat(AT_FDCWD, c"m/inside", O_RDONLY));
    fails!(umount2(c"m", 0) => EBUSY);
    fails!(rmdir(c"m") => EBUSY);
    works!(close(open));
    gives!(umount2(c"m", 0) => 0);
    works!(openat(AT_FDCWD, c"m/under", O_RDONLY));
    fails!(umount2(c"m", 0) => EINVAL);
}

fn bind_mounts() {
    own_mounts();
    gives!(mkdir(c"a", 0o755) => 0);
    gives!(mkdir(c"b", 0o755) => 0);
    works!(close(file(c"a/file", b"text")));
    gives!(mount(c"a", c"b", 0, MS_BIND, 0) => 0);
    eq!(contents("b/file"), "text");
    works!(close(file(c"b/new", b"both")));
    eq!(contents("a/new"), "both");
    // A file on a file.
    works!(close(file(c"one", b"one")));
    works!(close(file(c"two", b"two")));
    gives!(mount(c"one", c"two", 0, MS_BIND, 0) => 0);
    eq!(contents("two"), "one");
    fails!(mount(c"one", c"b", 0, MS_BIND, 0) => ENOTDIR);
    fails!(mount(c"a", c"two", 0, MS_BIND, 0) => ENOTDIR);
    fails!(mount(c"missing", c"b", 0, MS_BIND, 0) => ENOENT);
    // What is mounted below comes along only if asked for.
    gives!(mkdir(c"a/sub", 0o755) => 0);
    gives!(mount(c"none", c"a/sub", c"tmpfs", 0, 0) => 0);
    works!(close(file(c"a/sub/deep", b"")));
    gives!(mkdir(c"plain", 0o755) => 0);
    gives!(mkdir(c"deep", 0o755) => 0);
    gives!(mount(c"a", c"plain", 0, MS_BIND, 0) => 0);
    gives!(mount(c"a", c"deep", 0, MS_BIND | MS_REC, 0) => 0);
    fails!(openat(AT_FDCWD, c"plain/sub/deep", O_RDONLY) => ENOENT);
    works!(openat(AT_FDCWD, c"deep/sub/deep", O_RDONLY));
    // .. of a mount's root leads out by where it is mounted.
    let mut stat: stat = zeroed();
    let mut here: stat = zeroed();
    gives!(stat(c"deep/..", &mut stat) => 0);
    gives!(stat(c".", &mut here) => 0);
    eq!(stat.st_ino, here.st_ino);
    gives!(mkdir(c"c", 0o755) => 0);
    gives!(mount(c"deep", c"c", 0, MS_MOVE, 0) => 0);
    works!(openat(AT_FDCWD, c"c/sub/deep", O_RDONLY));
    fails!(openat(AT_FDCWD, c"deep/file", O_RDONLY) => ENOENT);
}

fn readonly_remounts() {
    own_mounts();
    tmpfs(c"m");
    let writing = works!(openat(AT_FDCWD, c"m/file", O_WRONLY | O_CREAT, 0o644));
    fails!(mount(0, c"m", 0, MS_REMOUNT | MS_RDONLY, 0) => EBUSY);
    works!(close(writing));
    gives!(mount(0, c"m", 0, MS_REMOUNT | MS_RDONLY, 0) => 0);
    fails!(openat(AT_FDCWD, c"m/file", O_WRONLY) => EROFS);
    fails!(openat(AT_FDCWD, c"m/new", O_WRONLY | O_CREAT, 0o644) => EROFS);
    works!(openat(AT_FDCWD, c"m/file", O_RDONLY));
    fails!(unlink(c"m/file") => EROFS);
    fails!(mkdir(c"m/d", 0o755) => EROFS);
    fails!(chmod(c"m/file", 0o600) => EROFS);
    fails!(truncate(c"m/file", 0) => EROFS);
    fails!(link(c"m/file", c"m/other") => EROFS);
    fails!(rename(c"m/file", c"m/other") => EROFS);
    fails!(access(c"m/file", W_OK) => EROFS);
    fails!(utimensat(AT_FDCWD, c"m/file", 0, 0) => EROFS);
    fails!(setxattr(c"m/file", c"trusted.x", b"x", 1, 0) => EROFS);
    gives!(mount(0, c"m", 0, MS_REMOUNT, 0) => 0);
    works!(openat(AT_FDCWD, c"m/file", O_WRONLY));
    // Of a bind alone, the file system itself stays writable.
    gives!(mkdir(c"b", 0o755) => 0);
    gives!(mount(c"m", c"b", 0, MS_BIND, 0) => 0);
    gives!(mount(0, c"b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0) => 0);
    fails!(openat(AT_FDCWD, c"b/file", O_WRONLY) => EROFS);
    works!(openat(AT_FDCWD, c"m/file", O_WRONLY));
}

fn mount_arguments() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    fails!(mount(c"none", c"m", c"no-such-type", 0, 0) => ENODEV);
    fails!(mount(c"none", c"missing", c"tmpfs", 0, 0) => ENOENT);
    fails!(mount(c"none", c"m", BAD, 0, 0) => EFAULT);
    fails!(mount(c"none", BAD, c"tmpfs", 0, 0) => EFAULT);
    fails!(mount(c"none", c"m", 0, 0, 0) => EINVAL);
    fails!(mount(c"none", c"m", c"tmpfs", 0, c"no-such-option") => EINVAL);
    fails!(mount(c"none", c"m", c"tmpfs", 0, BAD) => EFAULT);
    fails!(mount(0, c"m", 0, MS_REMOUNT, 0) => EINVAL);
    works!(close(file(c"file", b"")));
    fails!(mount(c"none", c"file", c"tmpfs", 0, 0) => ENOTDIR);
    fails!(umount2(c"missing", 0) => ENOENT);
    fails!(umount2(BAD, 0) => EFAULT);
    fails!(umount2(c"m", 0x80) => EINVAL);
}

fn umount_flags() {
    own_mounts();
    tmpfs(c"m");
    works!(close(file(c"m/file", b"still")));
    let open = works!(openat(AT_FDCWD, c"m/file", O_RDONLY));
    // Detached, it lives on for those who are in it.
    gives!(umount2(c"m", MNT_DETACH) => 0);
    let mut text = [0u8; 5];
    gives!(read(open, &mut text, 5) => 5);
    fails!(openat(AT_FDCWD, c"m/file", O_RDONLY) => ENOENT);
    gives!(mount(c"none", c"m", c"tmpfs", 0, 0) => 0);
    gives!(symlink(c"m", c"link") => 0);
    fails!(umount2(c"link", UMOUNT_NOFOLLOW) => EINVAL);
    fails!(umount2(c"m", MNT_EXPIRE | MNT_DETACH) => EINVAL);
    let open = works!(openat(AT_FDCWD, c"m", O_RDONLY));
    fails!(umount2(c"m", MNT_EXPIRE) => EBUSY);
    works!(close(open));
    fails!(umount2(c"m", MNT_EXPIRE) => EAGAIN);
    // It is used meanwhile.
    works!(close(works!(openat(AT_FDCWD, c"m", O_RDONLY))));
    fails!(umount2(c"m", MNT_EXPIRE) => EAGAIN);
    gives!(umount2(c"m", MNT_EXPIRE) => 0);
}

fn mounts_need_rights() {
    own_mounts();
    tmpfs(c"m");
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(mount(c"none", c"m", c"tmpfs", 0, 0) => EPERM);
        fails!(umount2(c"m", 0) => EPERM);
        fails!(unshare(CLONE_NEWNS) => EPERM);
        fails!(unshare(CLONE_NEWUTS) => EPERM);
        fails!(pivot_root(c".", c".") => EPERM);
        fails!(fsopen(c"tmpfs", 0) => EPERM);
    });
}

fn namespaces_are_mounted() {
    own_mounts();
    works!(close(file(c"net", b"")));
    let mut own: stat = zeroed();
    let mut seen: stat = zeroed();
    in_child(|| {
        if sys!(unshare(CLONE_NEWNET)).is_err() {
            skip!("no network namespace of our own");
        }
        gives!(mount(c"/proc/self/ns/net", c"net", 0, MS_BIND, 0) => 0);
    });
    // Nobody is in it: the mount holds it.
    gives!(stat(c"/proc/self/ns/net", &mut own) => 0);
    gives!(stat(c"net", &mut seen) => 0);
    is!(own.st_ino != seen.st_ino, "another namespace");
    let text = contents("/proc/self/mountinfo");
    let line = text.lines().find(|line| line.ends_with(" nsfs nsfs rw")).unwrap_or_default();
    is!(line.contains(&format!(" net:[{}] ", seen.st_ino)), "its line: {line}");
    in_child(|| {
        let fd = works!(openat(AT_FDCWD, c"net", O_RDONLY));
        gives!(setns(fd, CLONE_NEWNET) => 0);
        gives!(stat(c"/proc/self/ns/net", &mut own) => 0);
        eq!(own.st_ino, seen.st_ino);
    });
    gives!(umount2(c"net", 0) => 0);
    eq!(contents("net"), "");
}

fn namespaces_of_mounts_are_mounted_if_newer() {
    own_mounts();
    works!(close(file(c"f", b"")));
    works!(close(file(c"g", b"")));
    let older = works!(openat(AT_FDCWD, c"/proc/self/ns/mnt", O_RDONLY));
    // It would hold itself.
    fails!(mount(c"/proc/self/ns/mnt", c"f", 0, MS_BIND, 0) => EINVAL);
    let step = shared_word();
    let newer = child(|| {
        gives!(unshare(CLONE_NEWNS) => 0);
        let link = std::ffi::CString::new(format!("/proc/self/fd/{older}")).unwrap_or_default();
        fails!(mount(&*link, c"f", 0, MS_BIND, 0) => EINVAL);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let link = std::ffi::CString::new(format!("/proc/{newer}/ns/mnt")).unwrap_or_default();
    gives!(mount(&*link, c"f", 0, MS_BIND, 0) => 0);
    gives!(mount(c"f", c"g", 0, MS_BIND, 0) => 0);
    gives!(umount2(c"g", 0) => 0);
    // It doesn't come along into a copy, nor to where others would hear of it.
    in_child(|| {
        gives!(unshare(CLONE_NEWNS) => 0);
        is!(!contents("/proc/self/mountinfo").contains(" mnt:["), "none in the copy");
    });
    tmpfs(c"m");
    works!(close(file(c"m/f", b"")));
    gives!(mkdir(c"peer", 0o755) => 0);
    gives!(mount(0, c"m", 0, MS_SHARED, 0) => 0);
    gives!(mount(c"m", c"peer", 0, MS_BIND, 0) => 0);
    fails!(mount(c"f", c"m/f", 0, MS_BIND, 0) => EINVAL);
    step.store(2, SeqCst);
    join(newer);
    let fd = works!(openat(AT_FDCWD, c"f", O_RDONLY));
    gives!(setns(fd, CLONE_NEWNS) => 0);
}

fn pivot_root_changes_the_root() {
    own_mounts();
    tmpfs(c"new");
    gives!(mkdir(c"new/old", 0o755) => 0);
    works!(close(file(c"new/file", b"new root")));
    fails!(pivot_root(c"missing", c"new/old") => ENOENT);
    gives!(mkdir(c"plain", 0o755) => 0);
    // Neither a mount of its own, nor apart from the root, where the scratch directory lies on that.
    fails!(pivot_root(c"plain", c"plain") => EBUSY | EINVAL);
    fails!(pivot_root(c"new", c"plain") => EBUSY | EINVAL);
    in_child(|| {
        gives!(pivot_root(c"new", c"new/old") => 0);
        eq!(contents("/file"), "new root");
        gives!(chdir(c"/") => 0);
        works!(openat(AT_FDCWD, c"/old/proc/self/stat", O_RDONLY));
        gives!(umount2(c"/old", MNT_DETACH) => 0);
        fails!(openat(AT_FDCWD, c"/old/proc/self/stat", O_RDONLY) => ENOENT);
        works!(openat(AT_FDCWD, c"/../file", O_RDONLY));
    });
}

fn overlays_cover() {
    own_mounts();
    tmpfs(c"t");
    for path in [c"t/lower", c"t/upper", c"t/work", c"t/all"] {
        gives!(mkdir(path, 0o755) => 0);
    }
    works!(close(file(c"t/lower/file", b"lower")));
    works!(close(file(c"t/lower/gone", b"")));
    match sys!(mount(c"none", c"t/all", c"overlay", 0, c"lowerdir=t/lower,upperdir=t/upper,workdir=t/work")) {
        Err(Errno::ENODEV) => skip!("no overlay file system"),
        other => crate::check::must_give("mount", other, 0),
    }
    eq!(contents("t/all/file"), "lower");
    let fd = works!(openat(AT_FDCWD, c"t/all/file", O_WRONLY | O_APPEND));
    gives!(write(fd, b" and upper", 10) => 10);
    eq!((contents("t/all/file"), contents("t/lower/file")), ("lower and upper".to_owned(), "lower".to_owned()));
    gives!(unlink(c"t/all/gone") => 0);
    fails!(openat(AT_FDCWD, c"t/all/gone", O_RDONLY) => ENOENT);
    works!(openat(AT_FDCWD, c"t/lower/gone", O_RDONLY));
    // The gap is a device with number 0.
    let mut stat: stat = zeroed();
    gives!(stat(c"t/upper/gone", &mut stat) => 0);
    eq!((stat.st_mode & S_IFMT, stat.st_rdev), (S_IFCHR, 0));
}

fn overlays_without_an_upper_layer() {
    own_mounts();
    tmpfs(c"t");
    for path in [c"t/one", c"t/two", c"t/all", c"t/one/d", c"t/two/d"] {
        gives!(mkdir(path, 0o755) => 0);
    }
    works!(close(file(c"t/one/file", b"one")));
    works!(close(file(c"t/two/file", b"two")));
    works!(close(file(c"t/two/d/deep", b"")));
    match sys!(mount(c"none", c"t/all", c"overlay", 0, c"lowerdir=t/one:t/two")) {
        Err(Errno::ENODEV) => skip!("no overlay file system"),
        other => crate::check::must_give("mount", other, 0),
    }
    eq!(contents("t/all/file"), "one");
    works!(close(works!(openat(AT_FDCWD, c"t/all/d/deep", O_RDONLY))));
    fails!(openat(AT_FDCWD, c"t/all/file", O_WRONLY) => EROFS);
    fails!(openat(AT_FDCWD, c"t/all/new", O_WRONLY | O_CREAT, 0o644) => EROFS);
    fails!(unlink(c"t/all/file") => EROFS);
}

fn overlay_arguments() {
    own_mounts();
    tmpfs(c"t");
    for path in [c"t/lower", c"t/upper", c"t/work", c"t/all"] {
        gives!(mkdir(path, 0o755) => 0);
    }
    let overlay = |data: &std::ffi::CStr| sys!(mount(c"none", c"t/all", c"overlay", 0, data));
    if overlay(c"lowerdir=t/lower,upperdir=t/upper,workdir=t/work") == Err(Errno::ENODEV) {
        skip!("no overlay file system");
    }
    gives!(umount2(c"t/all", 0) => 0);
    eq!(overlay(c"lowerdir=t/lower,upperdir=t/upper"), Err(Errno::EINVAL));
    eq!(overlay(c"upperdir=t/upper,workdir=t/work"), Err(Errno::EINVAL));
    eq!(overlay(c"lowerdir=t/lower"), Err(Errno::EINVAL));
    eq!(overlay(c"lowerdir=t/missing,upperdir=t/upper,workdir=t/work"), Err(Errno::ENOENT));
    eq!(overlay(c"lowerdir=t/lower,upperdir=t/upper,workdir=t/upper"), Err(Errno::EINVAL));
    eq!(overlay(c"lowerdir=t/lower,upperdir=t/upper,workdir=t/work,no-such=1"), Err(Errno::EINVAL));
    // What the upper layer was asked before doesn't stick.
    fails!(openat(AT_FDCWD, c"t/upper/new", O_RDONLY) => ENOENT);
    eq!(overlay(c"lowerdir=t/lower,upperdir=t/upper,workdir=t/work"), Ok(0));
    works!(close(file(c"t/all/new", b"seen")));
    eq!(contents("t/upper/new"), "seen");
    gives!(unlink(c"t/all/new") => 0);
    fails!(openat(AT_FDCWD, c"t/upper/new", O_RDONLY) => ENOENT);
    gives!(mkdir(c"t/all/d", 0o700) => 0);
    gives!(rename(c"t/all/d", c"t/all/e") => 0);
    works!(openat(AT_FDCWD, c"t/upper/e", O_RDONLY | O_DIRECTORY));
}

fn tmpfs_changes_its_size() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    gives!(mount(c"none", c"m", c"tmpfs", 0, c"size=16k,mode=700") => 0);
    let mut fs: statfs = zeroed();
    gives!(mount(0, c"m", 0, MS_REMOUNT, c"size=32k") => 0);
    gives!(statfs(c"m", &mut fs) => 0);
    eq!(fs.f_blocks, 8);
    let line = contents("/proc/self/mounts").lines().find(|line| line.contains("/m tmpfs ")).unwrap_or("").to_owned();
    is!(line.contains("size=32k,mode=700"), "its line: {line}");
    works!(close(file(c"m/file", &[1; 6 * PAGE])));
    fails!(mount(0, c"m", 0, MS_REMOUNT, c"size=16k") => EINVAL);
    fails!(mount(0, c"m", 0, MS_REMOUNT, c"no-such=1") => EINVAL);
    gives!(mount(0, c"m", 0, MS_REMOUNT | MS_NODEV, 0) => 0);
    gives!(statfs(c"m", &mut fs) => 0);
    eq!(fs.f_blocks, 8);
}

fn proc_mounts_anew() {
    own_mounts();
    gives!(mkdir(c"p", 0o755) => 0);
    gives!(mount(c"proc", c"p", c"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0) => 0);
    is!(contents("p/self/stat").starts_with(&format!("{} (", process::id())), "ourselves");
    gives!(mkdir(c"pts", 0o755) => 0);
    gives!(mount(c"devpts", c"pts", c"devpts", 0, c"newinstance,ptmxmode=0666,mode=620") => 0);
    let master = works!(openat(AT_FDCWD, c"pts/ptmx", O_RDWR | O_NOCTTY));
    let mut number = 99i32;
    gives!(ioctl(master, TIOCGPTN, &mut number) => 0);
    // An instance of its own counts from 0.
    eq!(number, 0);
    let mut stat: stat = zeroed();
    gives!(stat(c"pts/0", &mut stat) => 0);
    eq!(stat.st_mode & 0o777, 0o620);
}

fn nosuid_noexec_nodev() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    gives!(mount(c"none", c"m", c"tmpfs", MS_NOEXEC | MS_NODEV | MS_NOSUID, 0) => 0);
    works!(close(file(c"m/script", b"#!/bin/true\n")));
    gives!(chmod(c"m/script", 0o755) => 0);
    in_child(|| {
        fails!(execve(c"m/script", strings(&[c"x"]).as_slice(), 0) => EACCES);
    });
    fails!(access(c"m/script", X_OK) => EACCES);
    let fd = works!(openat(AT_FDCWD, c"m/script", O_RDONLY));
    fails!(mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) => EPERM);
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    fails!(mprotect(map, PAGE, PROT_READ | PROT_EXEC) => EACCES);
    match sys!(mknod(c"m/null", S_IFCHR | 0o666, makedev(1, 3))) {
        Err(Errno::EPERM) => skip!("devices can't be made here (CAP_MKNOD)"),
        other => crate::check::must_give("mknod", other, 0),
    }
    fails!(openat(AT_FDCWD, c"m/null", O_RDWR) => EACCES);
    let mut statfs: statfs = zeroed();
    gives!(statfs(c"m", &mut statfs) => 0);
    eq!(statfs.f_type, TMPFS_MAGIC);
}

fn size_limits_of_tmpfs() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    gives!(mount(c"none", c"m", c"tmpfs", 0, c"size=16k,nr_inodes=4") => 0);
    let fd = works!(openat(AT_FDCWD, c"m/file", O_RDWR | O_CREAT, 0o644));
    let block = [1u8; 5 * PAGE];
    gives!(write(fd, &block, 5 * PAGE) => 4 * PAGE);
    fails!(write(fd, &block, 1) => ENOSPC);
    fails!(fallocate(fd, 0, 0, 5 * PAGE) => ENOSPC);
    gives!(ftruncate(fd, 0) => 0);
    gives!(write(fd, &block, PAGE) => PAGE);
    works!(openat(AT_FDCWD, c"m/two", O_RDWR | O_CREAT, 0o644));
    works!(openat(AT_FDCWD, c"m/three", O_RDWR | O_CREAT, 0o644));
    fails!(openat(AT_FDCWD, c"m/four", O_RDWR | O_CREAT, 0o644) => ENOSPC);
    // Memory that a mapping of a full file system would need: SIGBUS.
    gives!(ftruncate(fd, 8 * PAGE) => 0);
    let map = works!(mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    let faults = (0..8).filter(|page| write_at(map + page * PAGE, 1).is_err_and(|fault| fault.signal == SIGBUS)).count();
    eq!(faults, 4);
}

fn removed_files_make_room() {
    own_mounts();
    gives!(mkdir(c"m", 0o755) => 0);
    gives!(mount(c"none", c"m", c"tmpfs", 0, c"size=1m") => 0);
    let most = vec![b'x'; 800 << 10];
    let (mut fs, mut after): (statfs, statfs) = (zeroed(), zeroed());
    gives!(statfs(c"m", &mut fs) => 0);
    eq!((fs.f_blocks, fs.f_bfree), (256, 256));
    for _ in 0..3 {
        works!(close(file(c"m/most", &most)));
        let other = works!(openat(AT_FDCWD, c"m/other", O_RDWR | O_CREAT, 0o600));
        fails!(fallocate(other, 0, 0, 800i64 << 10) => ENOSPC);
        works!(close(other));
        gives!(unlink(c"m/most") => 0);
        // What another file takes the name of makes room, too.
        works!(close(file(c"m/most", &most)));
        gives!(rename(c"m/other", c"m/most") => 0);
        gives!(statfs(c"m", &mut after) => 0);
        eq!(after.f_bfree, 256);
    }
    // Not before nobody has it open any more.
    let open = file(c"m/open", &most);
    gives!(unlink(c"m/open") => 0);
    gives!(statfs(c"m", &mut after) => 0);
    eq!(after.f_bfree, 56);
    works!(close(open));
    gives!(statfs(c"m", &mut after) => 0);
    eq!(after.f_bfree, 256);
}

fn rename_across_mounts() {
    own_mounts();
    tmpfs(c"m");
    works!(close(file(c"file", b"")));
    fails!(rename(c"file", c"m/file") => EXDEV);
    fails!(link(c"file", c"m/file") => EXDEV);
    // Also between two mounts of one file system.
    gives!(mkdir(c"a", 0o755) => 0);
    gives!(mkdir(c"b", 0o755) => 0);
    gives!(mount(c"a", c"b", 0, MS_BIND, 0) => 0);
    works!(close(file(c"a/file", b"")));
    fails!(rename(c"a/file", c"b/new") => EXDEV);
    fails!(rename(c"m", c"n") => EBUSY);
}
