//! Mounts: each test in a mount namespace of its own, so that nothing reaches the host.

use super::prelude::*;

tests!("mounts":
    tmpfs_mounts, bind_mounts, readonly_remounts, mount_arguments, umount_flags, mounts_need_rights, propagation, propagation_reaches_namespaces, propagation_and_changes, namespaces_are_mounted, pivot_root_changes_the_root, overlays_cover, overlays_without_an_upper_layer, overlay_arguments, tmpfs_changes_its_size, proc_mounts_anew, new_mount_interface, open_tree_and_move, mount_attributes, mounts_in_steps, nosuid_noexec_nodev, size_limits_of_tmpfs, removed_files_make_room, rename_across_mounts, statmount_and_listmount,
);

/// Goes into a mount namespace of our own, cut off from the host's; else the test is skipped.
fn own_mounts() {
    need_root();
    match sys!(unshare(CLONE_NEWNS)) {
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => skip!("no mount namespace of our own (CAP_SYS_ADMIN)"),
        other => crate::check::must_give("unshare", other, 0),
    }
    gives!(mount(c"none", c"/", 0, MS_REC | MS_PRIVATE, 0) => 0);
}

fn tmpfs(path: &std::ffi::CStr) {
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

fn propagation() {
    own_mounts();
    tmpfs(c"m");
    gives!(mkdir(c"m/in", 0o755) => 0);
    gives!(mkdir(c"peer", 0o755) => 0);
    gives!(mount(0, c"m", 0, MS_SHARED, 0) => 0);
    gives!(mount(c"m", c"peer", 0, MS_BIND, 0) => 0);
    gives!(mount(c"none", c"m/in", c"tmpfs", 0, 0) => 0);
    works!(close(file(c"m/in/file", b"")));
    works!(close(works!(openat(AT_FDCWD, c"peer/in/file", O_RDONLY))));
    gives!(umount2(c"peer/in", 0) => 0);
    fails!(openat(AT_FDCWD, c"m/in/file", O_RDONLY) => ENOENT);
    // A slave hears, and isn't heard.
    gives!(mount(0, c"peer", 0, MS_SLAVE, 0) => 0);
    gives!(mount(c"none", c"peer/in", c"tmpfs", 0, 0) => 0);
    works!(close(file(c"peer/in/file", b"")));
    fails!(openat(AT_FDCWD, c"m/in/file", O_RDONLY) => ENOENT);
    fails!(mount(0, c"m", 0, MS_SHARED | MS_PRIVATE, 0) => EINVAL);
    gives!(mount(0, c"m", 0, MS_UNBINDABLE, 0) => 0);
    gives!(mkdir(c"other", 0o755) => 0);
    fails!(mount(c"m", c"other", 0, MS_BIND, 0) => EINVAL);
}

/// The optional fields of a mount in `/proc/self/mountinfo`.
fn optional_fields(place: &str) -> String {
    let text = contents("/proc/self/mountinfo");
    let line = text.lines().rfind(|line| line.split(' ').nth(4).is_some_and(|at| at.ends_with(place))).unwrap_or_default();
    line.split(' ').skip(6).take_while(|field| *field != "-").collect::<Vec<_>>().join(" ")
}

fn propagation_reaches_namespaces() {
    own_mounts();
    tmpfs(c"m");
    for path in [c"m/one", c"m/two", c"m/three"] {
        gives!(mkdir(path, 0o755) => 0);
    }
    gives!(mount(0, c"m", 0, MS_SHARED, 0) => 0);
    is!(optional_fields("/m").starts_with("shared:"), "a peer");
    let step = shared_word();
    let pid = child(|| {
        gives!(unshare(CLONE_NEWNS) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
        works!(openat(AT_FDCWD, c"m/one/file", O_RDONLY));
        gives!(mount(c"none", c"m/two", c"tmpfs", 0, 0) => 0);
        works!(close(file(c"m/two/file", b"")));
        step.store(3, SeqCst);
        until_is(step, 4);
        fails!(openat(AT_FDCWD, c"m/two/file", O_RDONLY) => ENOENT);
        gives!(mount(0, c"m", 0, MS_SLAVE, 0) => 0);
        is!(optional_fields("/m").starts_with("master:"), "a slave");
        gives!(mount(c"none", c"m/two", c"tmpfs", 0, 0) => 0);
        works!(close(file(c"m/two/file", b"")));
        step.store(5, SeqCst);
        until_is(step, 6);
        works!(openat(AT_FDCWD, c"m/three/file", O_RDONLY));
        gives!(mount(0, c"m", 0, MS_PRIVATE, 0) => 0);
        eq!(optional_fields("/m"), "");
    });
    until_is(step, 1);
    gives!(mount(c"none", c"m/one", c"tmpfs", 0, 0) => 0);
    works!(close(file(c"m/one/file", b"")));
    step.store(2, SeqCst);
    until_is(step, 3);
    works!(close(works!(openat(AT_FDCWD, c"m/two/file", O_RDONLY))));
    gives!(umount2(c"m/two", 0) => 0);
    step.store(4, SeqCst);
    until_is(step, 5);
    fails!(openat(AT_FDCWD, c"m/two/file", O_RDONLY) => ENOENT);
    gives!(mount(c"none", c"m/three", c"tmpfs", 0, 0) => 0);
    works!(close(file(c"m/three/file", b"")));
    step.store(6, SeqCst);
    join(pid);
}

fn propagation_and_changes() {
    own_mounts();
    tmpfs(c"m");
    gives!(mkdir(c"m/a", 0o755) => 0);
    gives!(mkdir(c"m/b", 0o755) => 0);
    gives!(mkdir(c"peer", 0o755) => 0);
    gives!(mkdir(c"deep", 0o755) => 0);
    gives!(mount(0, c"m", 0, MS_SHARED, 0) => 0);
    gives!(mount(c"m", c"peer", 0, MS_BIND, 0) => 0);
    // What comes is in each place once, and not in itself.
    gives!(mkdir(c"m/self", 0o755) => 0);
    gives!(mount(c"m", c"m/self", 0, MS_BIND, 0) => 0);
    eq!(contents("/proc/self/mountinfo").lines().filter(|line| line.contains("/self ")).count(), 2);
    gives!(umount2(c"m/self", 0) => 0);
    eq!(contents("/proc/self/mountinfo").lines().filter(|line| line.contains("/self ")).count(), 0);
    // Who is busy in one place keeps it in all.
    gives!(mount(c"none", c"m/a", c"tmpfs", 0, 0) => 0);
    let open = works!(openat(AT_FDCWD, c"peer/a", O_RDONLY));
    fails!(umount2(c"m/a", 0) => EBUSY);
    works!(close(open));
    is!(optional_fields("/peer/a").starts_with("shared:"), "what lies in a shared one is shared");
    // What others hear of doesn't go elsewhere.
    fails!(mount(c"m/a", c"m/b", 0, MS_MOVE, 0) => EINVAL);
    gives!(mount(c"none", c"deep", c"tmpfs", 0, 0) => 0);
    gives!(mount(0, c"deep", 0, MS_UNBINDABLE, 0) => 0);
    is!(optional_fields("/deep").starts_with("unbindable"), "its word");
    fails!(mount(c"deep", c"m/b", 0, MS_MOVE, 0) => EINVAL);
    works!(close(file(c"plain", b"")));
    fails!(mount(c"deep", c"plain", 0, MS_MOVE, 0) => EINVAL);
    gives!(mount(0, c"deep", 0, MS_PRIVATE, 0) => 0);
    works!(close(file(c"deep/file", b"")));
    gives!(mount(c"deep", c"m/b", 0, MS_MOVE, 0) => 0);
    works!(close(works!(openat(AT_FDCWD, c"peer/b/file", O_RDONLY))));
    // Private with all that is in it.
    gives!(mount(0, c"peer", 0, MS_REC | MS_PRIVATE, 0) => 0);
    gives!(umount2(c"m/b", MNT_DETACH) => 0);
    works!(close(works!(openat(AT_FDCWD, c"peer/b/file", O_RDONLY))));
    fails!(mount(0, c"m/a/..", 0, MS_SHARED | MS_RDONLY, 0) => EINVAL);
    fails!(mount(0, c"peer/b/file", 0, MS_SHARED, 0) => EINVAL);
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
