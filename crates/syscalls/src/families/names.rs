//! Names: links, renames, removals, directories and their entries, the working directory and the root, how paths are resolved.

use super::files::{absolute, mode, stat_of, text_of};
use super::prelude::*;
use std::ffi::CString;

tests!("names":
    hard_links, linkat_flags, symbolic_links, readlink_cuts, unlink_and_rmdir, rename_replaces, rename_errors, renameat2_flags,
    mkdir_and_umask, mknod_kinds, reading_directories, directory_seeks, getdents_arguments, chdir_and_getcwd, chroot_confines,
    openat2_resolves, openat2_arguments, dots_and_slashes, long_names, file_handles, handles_without_rights,
);

fn hard_links() {
    works!(close(file(c"file", b"text")));
    gives!(link(c"file", c"other") => 0);
    let (one, two) = (stat_of(c"file"), stat_of(c"other"));
    eq!((one.st_ino, one.st_nlink, two.st_nlink), (two.st_ino, 2, 2));
    fails!(link(c"file", c"other") => EEXIST);
    fails!(link(c"missing", c"new") => ENOENT);
    fails!(link(c"file", c"no/new") => ENOENT);
    gives!(mkdir(c"directory", 0o755) => 0);
    fails!(link(c"directory", c"new") => EPERM);
    fails!(link(c"file", c"directory") => EEXIST);
    fails!(link(BAD, c"new") => EFAULT);
    gives!(unlink(c"file") => 0);
    eq!((text_of("other").as_str(), stat_of(c"other").st_nlink), ("text", 1));
}

fn linkat_flags() {
    works!(close(file(c"file", b"text")));
    gives!(symlink(c"file", c"link") => 0);
    gives!(linkat(AT_FDCWD, c"link", AT_FDCWD, c"to-link", 0) => 0);
    eq!(mode(c"to-link") & S_IFMT, S_IFLNK);
    gives!(linkat(AT_FDCWD, c"link", AT_FDCWD, c"to-file", AT_SYMLINK_FOLLOW) => 0);
    eq!(mode(c"to-file") & S_IFMT, S_IFREG);
    fails!(linkat(AT_FDCWD, c"file", AT_FDCWD, c"new", 0x10) => EINVAL);
    fails!(linkat(999, c"file", AT_FDCWD, c"new", 0) => EBADF);
    fails!(linkat(AT_FDCWD, c"", AT_FDCWD, c"new", 0) => ENOENT);
    gives!(mkdir(c"directory", 0o755) => 0);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    gives!(linkat(AT_FDCWD, c"file", directory, c"new", 0) => 0);
    eq!(stat_of(c"directory/new").st_nlink, 3);
}

fn symbolic_links() {
    gives!(symlink(c"any text at all", c"link") => 0);
    let stat = stat_of(c"link");
    eq!((stat.st_mode, stat.st_size), (S_IFLNK | 0o777, 15));
    fails!(symlink(c"x", c"link") => EEXIST);
    fails!(symlink(c"", c"empty") => ENOENT);
    fails!(symlink(c"x", c"no/link") => ENOENT);
    fails!(symlink(c"x", BAD) => EFAULT);
    fails!(symlink(BAD, c"x") => EFAULT);
    fails!(symlink(c"x", c"trailing/") => ENOENT);
    gives!(mkdir(c"directory", 0o755) => 0);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    gives!(symlinkat(c"../target", directory, c"link") => 0);
    works!(close(file(c"target", b"text")));
    eq!(text_of("directory/link"), "text");
    fails!(symlinkat(c"x", 999, c"link") => EBADF);
    // A slash at the end asks for a directory.
    gives!(symlink(c"directory", c"d") => 0);
    eq!(mode(c"d/") & S_IFMT, S_IFDIR);
    eq!(mode(c"d") & S_IFMT, S_IFLNK);
}

fn readlink_cuts() {
    gives!(symlink(c"0123456789", c"link") => 0);
    let mut buffer = [b'-'; 12];
    gives!(readlink(c"link", &mut buffer, 12) => 10);
    // No zero is put behind it.
    eq!(&buffer, b"0123456789--");
    gives!(readlink(c"link", &mut buffer, 4) => 4);
    fails!(readlink(c"link", &mut buffer, 0) => EINVAL);
    fails!(readlink(c"link", &mut buffer, -1) => EINVAL);
    fails!(readlink(c"link", BAD, 12) => EFAULT);
    works!(close(file(c"file", b"")));
    fails!(readlink(c"file", &mut buffer, 12) => EINVAL);
    fails!(readlink(c".", &mut buffer, 12) => EINVAL);
    fails!(readlink(c"missing", &mut buffer, 12) => ENOENT);
    gives!(readlinkat(AT_FDCWD, c"link", &mut buffer, 12) => 10);
    fails!(readlinkat(999, c"link", &mut buffer, 12) => EBADF);
}

fn unlink_and_rmdir() {
    works!(close(file(c"file", b"")));
    gives!(mkdir(c"directory", 0o755) => 0);
    works!(close(file(c"directory/inside", b"")));
    fails!(unlink(c"missing") => ENOENT);
    fails!(unlink(c"directory") => EISDIR);
    fails!(unlink(c"file/") => ENOTDIR);
    fails!(unlink(c"file/x") => ENOTDIR);
    fails!(rmdir(c"file") => ENOTDIR);
    fails!(rmdir(c"directory") => ENOTEMPTY);
    fails!(rmdir(c"directory/.") => EINVAL);
    fails!(rmdir(c"directory/inside/..") => ENOTDIR);
    fails!(rmdir(c"directory/..") => ENOTEMPTY);
    fails!(rmdir(c"missing") => ENOENT);
    fails!(rmdir(BAD) => EFAULT);
    fails!(rmdir(c"/") => EBUSY);
    fails!(unlinkat(AT_FDCWD, c"file", AT_REMOVEDIR) => ENOTDIR);
    fails!(unlinkat(AT_FDCWD, c"directory", 0) => EISDIR);
    fails!(unlinkat(AT_FDCWD, c"file", 0x1) => EINVAL);
    fails!(unlinkat(999, c"file", 0) => EBADF);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    gives!(unlinkat(directory, c"inside", 0) => 0);
    gives!(unlinkat(AT_FDCWD, c"directory/", AT_REMOVEDIR) => 0);
    fails!(openat(directory, c"new", O_WRONLY | O_CREAT, 0o644) => ENOENT);
    gives!(symlink(c"file", c"link") => 0);
    gives!(unlink(c"link") => 0);
    eq!(mode(c"file") & S_IFMT, S_IFREG);
    gives!(unlink(c"file") => 0);
}

fn rename_replaces() {
    works!(close(file(c"a", b"a")));
    let old = file(c"b", b"b");
    gives!(rename(c"a", c"b") => 0);
    eq!(text_of("b"), "a");
    fails!(openat(AT_FDCWD, c"a", O_RDONLY) => ENOENT);
    let mut byte = [0u8];
    gives!(pread64(old, &mut byte, 1, 0) => 1);
    eq!(byte[0], b'b');
    // Onto itself, and onto another name of the same file: nothing happens.
    gives!(rename(c"b", c"b") => 0);
    gives!(link(c"b", c"c") => 0);
    gives!(rename(c"b", c"c") => 0);
    eq!((stat_of(c"b").st_nlink, stat_of(c"c").st_nlink), (2, 2));
    gives!(mkdir(c"one", 0o755) => 0);
    gives!(mkdir(c"two", 0o755) => 0);
    works!(close(file(c"one/inside", b"text")));
    gives!(rename(c"one", c"two") => 0);
    eq!(text_of("two/inside"), "text");
    gives!(symlink(c"nowhere", c"link") => 0);
    gives!(rename(c"link", c"renamed") => 0);
    eq!(mode(c"renamed") & S_IFMT, S_IFLNK);
    gives!(renameat(AT_FDCWD, c"c", works!(openat(AT_FDCWD, c"two", O_PATH)), c"c") => 0);
    eq!(text_of("two/c"), "a");
}

fn rename_errors() {
    works!(close(file(c"file", b"")));
    gives!(mkdir(c"directory", 0o755) => 0);
    gives!(mkdir(c"full", 0o755) => 0);
    works!(close(file(c"full/inside", b"")));
    fails!(rename(c"missing", c"new") => ENOENT);
    fails!(rename(c"file", c"no/new") => ENOENT);
    fails!(rename(c"file", c"directory") => EISDIR);
    fails!(rename(c"directory", c"file") => ENOTDIR);
    fails!(rename(c"directory", c"full") => ENOTEMPTY);
    fails!(rename(c"directory", c"directory/inside") => EINVAL);
    fails!(rename(c"full/inside", c"full") => ENOTEMPTY);
    fails!(rename(c".", c"new") => EBUSY);
    fails!(rename(c"directory/..", c"new") => EBUSY);
    fails!(rename(c"file/", c"new") => ENOTDIR);
    fails!(rename(c"file", c"new/") => ENOTDIR);
    fails!(rename(c"file", c"/proc/new") => EXDEV);
    fails!(rename(BAD, c"new") => EFAULT);
    fails!(renameat(999, c"file", AT_FDCWD, c"new") => EBADF);
}

fn renameat2_flags() {
    works!(close(file(c"a", b"a")));
    works!(close(file(c"b", b"b")));
    const NOREPLACE: c_int = 1;
    const EXCHANGE: c_int = 2;
    if sys!(renameat2(AT_FDCWD, c"a", AT_FDCWD, c"b", NOREPLACE)) == Err(Errno::EINVAL) {
        skip!("the scratch directory's file system has no flags for renames");
    }
    fails!(renameat2(AT_FDCWD, c"a", AT_FDCWD, c"b", NOREPLACE) => EEXIST);
    gives!(renameat2(AT_FDCWD, c"a", AT_FDCWD, c"c", NOREPLACE) => 0);
    gives!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"c", EXCHANGE) => 0);
    eq!((text_of("b").as_str(), text_of("c").as_str()), ("a", "b"));
    gives!(mkdir(c"directory", 0o755) => 0);
    gives!(renameat2(AT_FDCWD, c"directory", AT_FDCWD, c"c", EXCHANGE) => 0);
    eq!((mode(c"c") & S_IFMT, mode(c"directory") & S_IFMT), (S_IFDIR, S_IFREG));
    fails!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"missing", EXCHANGE) => ENOENT);
    fails!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"d", NOREPLACE | EXCHANGE) => EINVAL);
    fails!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"d", 0x80) => EINVAL);
    gives!(mkdir(c"c/deep", 0o755) => 0);
    fails!(renameat2(AT_FDCWD, c"c", AT_FDCWD, c"c/deep", EXCHANGE) => EINVAL);
}

fn mkdir_and_umask() {
    gives!(umask(0o027) => 0o022);
    gives!(mkdir(c"a", 0o777) => 0);
    eq!(mode(c"a"), S_IFDIR | 0o750);
    gives!(umask(0o7777) => 0o027);
    gives!(umask(0) => 0o777);
    gives!(mkdir(c"b", 0o1777) => 0);
    eq!(mode(c"b"), S_IFDIR | 0o1777);
    fails!(mkdir(c"a", 0o777) => EEXIST);
    fails!(mkdir(c"no/b", 0o777) => ENOENT);
    fails!(mkdir(c".", 0o777) => EEXIST);
    fails!(mkdir(c"/", 0o777) => EEXIST);
    fails!(mkdir(c"", 0o777) => ENOENT);
    fails!(mkdir(BAD, 0o777) => EFAULT);
    works!(close(file(c"file", b"")));
    fails!(mkdir(c"file", 0o777) => EEXIST);
    fails!(mkdir(c"file/x", 0o777) => ENOTDIR);
    gives!(symlink(c"nowhere", c"dangling") => 0);
    fails!(mkdir(c"dangling", 0o777) => EEXIST);
    gives!(mkdir(c"slash/", 0o777) => 0);
    fails!(mkdirat(999, c"x", 0o777) => EBADF);
    let links = stat_of(c".").st_nlink;
    is!(links == 1 || links == 5, "links for each directory inside, or one if they aren't counted: {links}");
}

fn mknod_kinds() {
    gives!(mknod(c"fifo", S_IFIFO | 0o666, 0) => 0);
    eq!(mode(c"fifo"), S_IFIFO | 0o644);
    gives!(mknod(c"plain", S_IFREG | 0o600, 0) => 0);
    gives!(mknod(c"zero", 0o600, 0) => 0);
    eq!(mode(c"zero"), S_IFREG | 0o600);
    gives!(mknodat(AT_FDCWD, c"socket", S_IFSOCK | 0o600, 0) => 0);
    eq!(mode(c"socket") & S_IFMT, S_IFSOCK);
    fails!(openat(AT_FDCWD, c"socket", O_RDWR) => ENXIO);
    fails!(mknod(c"fifo", S_IFIFO | 0o666, 0) => EEXIST);
    fails!(mknod(c"directory", S_IFDIR | 0o777, 0) => EPERM);
    fails!(mknod(c"odd", 0o170000, 0) => EINVAL);
    fails!(mknod(c"no/fifo", S_IFIFO, 0) => ENOENT);
    fails!(mknodat(999, c"fifo", S_IFIFO, 0) => EBADF);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(mknod(c"/dev/shm/insula-device", S_IFCHR | 0o666, 0x103) => EPERM | EACCES | ENOENT);
    });
}

/// The entries in a buffer of getdents64: number of the next place, kind, name.
fn entries(bytes: &[u8]) -> Vec<(u64, u8, String)> {
    let mut rest = bytes;
    let mut list = Vec::new();
    while rest.len() > 19 {
        let next: u64 = from_bytes(&rest[8..]).unwrap_or(0);
        let length: u16 = from_bytes(&rest[16..]).unwrap_or(0);
        let name = rest[19..length as usize].split(|byte| *byte == 0).next().unwrap_or(&[]);
        list.push((next, rest[18], String::from_utf8_lossy(name).into_owned()));
        rest = &rest[length as usize..];
    }
    list
}

fn reading_directories() {
    gives!(mkdir(c"d", 0o755) => 0);
    let fd = works!(openat(AT_FDCWD, c"d", O_RDONLY | O_DIRECTORY));
    for number in 0..50 {
        works!(close(works!(openat(
            fd,
            &*CString::new(format!("file-{number}")).unwrap_or_default(),
            O_WRONLY | O_CREAT,
            0o644
        ))));
    }
    gives!(mkdirat(fd, c"directory", 0o755) => 0);
    gives!(symlinkat(c"x", fd, c"link") => 0);
    gives!(mknodat(fd, c"fifo", S_IFIFO | 0o600, 0) => 0);
    let (mut all, mut buffer) = (Vec::new(), [0u8; 400]);
    loop {
        let count = works!(getdents64(fd, &mut buffer, 400));
        is!(count.is_multiple_of(8) && count <= 400, "whole entries, not {count} bytes");
        if count == 0 {
            break;
        }
        all.extend(entries(&buffer[..count]));
    }
    let kind = |name: &str| all.iter().find(|entry| entry.2 == name).map(|entry| entry.1);
    eq!(all.len(), 55);
    eq!((kind("."), kind(".."), kind("directory")), (Some(DT_DIR), Some(DT_DIR), Some(DT_DIR)));
    eq!((kind("file-7"), kind("link"), kind("fifo")), (Some(DT_REG), Some(DT_LNK), Some(DT_FIFO)));
    let mut names: Vec<&str> = all.iter().map(|entry| entry.2.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    eq!(names.len(), 55);
    gives!(getdents64(fd, &mut buffer, 400) => 0);
    gives!(lseek(fd, 0, SEEK_SET) => 0);
    is!(works!(getdents64(fd, &mut buffer, 400)) > 0, "entries again from the start");
    is!(works!(getdents(works!(openat(AT_FDCWD, c"d", O_RDONLY)), &mut buffer, 400)) > 0, "the old call to work too");
}

fn directory_seeks() {
    gives!(mkdir(c"d", 0o755) => 0);
    let fd = works!(openat(AT_FDCWD, c"d", O_RDONLY | O_DIRECTORY));
    for number in 0..20 {
        works!(close(works!(openat(fd, &*CString::new(format!("{number}")).unwrap_or_default(), O_WRONLY | O_CREAT, 0o644))));
    }
    let mut buffer = [0u8; 2048];
    let count = works!(getdents64(fd, &mut buffer, 2048));
    let all = entries(&buffer[..count]);
    eq!(all.len(), 22);
    // From the place that an entry names, the next ones follow.
    for index in [0, 5, 12, 20] {
        works!(lseek(fd, all[index].0, SEEK_SET));
        let count = works!(getdents64(fd, &mut buffer, 2048));
        let names: Vec<String> = entries(&buffer[..count]).into_iter().map(|entry| entry.2).collect();
        let rest: Vec<String> = all[index + 1..].iter().map(|entry| entry.2.clone()).collect();
        eq!(names, rest);
    }
    // What is removed meanwhile is not found; what stays is found once.
    works!(lseek(fd, 0, SEEK_SET));
    for entry in &all {
        let _ = sys!(unlinkat(fd, &*CString::new(entry.2.as_str()).unwrap_or_default(), 0));
    }
    let count = works!(getdents64(fd, &mut buffer, 2048));
    eq!(entries(&buffer[..count]).len(), 2);
}

fn getdents_arguments() {
    let fd = works!(openat(AT_FDCWD, c".", O_RDONLY | O_DIRECTORY));
    fails!(getdents64(fd, BAD, 400) => EFAULT);
    let mut buffer = [0u8; 400];
    // Too little for one entry.
    fails!(getdents64(fd, &mut buffer, 10) => EINVAL);
    fails!(getdents64(fd, &mut buffer, 0) => EINVAL);
    fails!(getdents64(999, &mut buffer, 400) => EBADF);
    fails!(getdents64(file(c"file", b""), &mut buffer, 400) => ENOTDIR);
    gives!(mkdir(c"gone", 0o755) => 0);
    let gone = works!(openat(AT_FDCWD, c"gone", O_RDONLY));
    gives!(rmdir(c"gone") => 0);
    fails!(getdents64(gone, &mut buffer, 400) => ENOENT);
}

fn chdir_and_getcwd() {
    let mut buffer = [0u8; 4096];
    let start = absolute("");
    let start = start.to_string_lossy().trim_end_matches('/').to_owned();
    gives!(getcwd(&mut buffer, 4096) => start.len() + 1);
    eq!(&buffer[..start.len() + 1], [start.as_bytes(), b"\0"].concat().as_slice());
    fails!(getcwd(&mut buffer, start.len()) => ERANGE);
    fails!(getcwd(&mut buffer, 0) => ERANGE);
    fails!(getcwd(BAD, 4096) => EFAULT);
    gives!(mkdir(c"inside", 0o755) => 0);
    gives!(chdir(c"inside") => 0);
    gives!(getcwd(&mut buffer, 4096) => start.len() + 1 + "/inside".len());
    gives!(chdir(c"..") => 0);
    fails!(chdir(c"missing") => ENOENT);
    works!(close(file(c"file", b"")));
    fails!(chdir(c"file") => ENOTDIR);
    fails!(chdir(BAD) => EFAULT);
    fails!(fchdir(works!(openat(AT_FDCWD, c"file", O_RDONLY))) => ENOTDIR);
    gives!(chdir(c"inside") => 0);
    gives!(rmdir(c"../inside") => 0);
    fails!(getcwd(&mut buffer, 4096) => ENOENT);
    fails!(openat(AT_FDCWD, c"new", O_WRONLY | O_CREAT, 0o644) => ENOENT);
    works!(openat(AT_FDCWD, c".", O_RDONLY));
    works!(openat(AT_FDCWD, c"..", O_RDONLY));
}

fn chroot_confines() {
    need_root();
    gives!(mkdir(c"root", 0o755) => 0);
    gives!(mkdir(c"root/etc", 0o755) => 0);
    works!(close(file(c"root/etc/name", b"inner")));
    gives!(symlink(c"/etc/name", c"root/link") => 0);
    fails!(chroot(c"missing") => ENOENT);
    fails!(chroot(c"root/etc/name") => ENOTDIR);
    fails!(chroot(BAD) => EFAULT);
    in_child(|| {
        let outside = works!(openat(AT_FDCWD, c".", O_PATH));
        gives!(chroot(c"root") => 0);
        gives!(chdir(c"/") => 0);
        eq!(text_of("/etc/name"), "inner");
        eq!(text_of("/link"), "inner");
        eq!(text_of("/../../../etc/name"), "inner");
        // What is outside has no path from here.
        gives!(fchdir(outside) => 0);
        let mut buffer = [0u8; 4096];
        let count = works!(getcwd(&mut buffer, 4096));
        is!(buffer[..count].starts_with(b"(unreachable)"), "the directory to be unreachable");
    });
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(chroot(c"/") => EPERM);
    });
}

fn openat2_resolves() {
    gives!(mkdir(c"root", 0o755) => 0);
    gives!(mkdir(c"root/sub", 0o755) => 0);
    works!(close(file(c"root/file", b"inside")));
    works!(close(file(c"outside", b"outside")));
    gives!(symlink(c"../outside", c"root/up") => 0);
    gives!(symlink(c"/file", c"root/absolute") => 0);
    gives!(symlink(c"file", c"root/near") => 0);
    gives!(symlink(c"/proc/self/cwd", c"root/magic") => 0);
    let root = works!(openat(AT_FDCWD, c"root", O_PATH | O_DIRECTORY));
    let open = |path: &std::ffi::CStr, resolve: u64| {
        let mut how: open_how = zeroed();
        (how.flags, how.resolve) = (O_RDONLY as u64, resolve);
        sys!(openat2(root, path, &how, size_of::<open_how>())).map(|_| ())
    };
    if open(c"file", 0) == Err(Errno::ENOSYS) {
        skip!("no openat2 (Linux 5.6)");
    }
    eq!(open(c"up", 0), Ok(()));
    eq!(open(c"file", RESOLVE_BENEATH), Ok(()));
    eq!(open(c"near", RESOLVE_BENEATH), Ok(()));
    eq!(open(c"sub/../file", RESOLVE_BENEATH), Ok(()));
    eq!(open(c"up", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"../outside", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"absolute", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"/file", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"magic", RESOLVE_BENEATH), Err(Errno::EXDEV));
    // In the root, .. at the top stays there, and absolute means from there.
    eq!(open(c"absolute", RESOLVE_IN_ROOT), Ok(()));
    eq!(open(c"/file", RESOLVE_IN_ROOT), Ok(()));
    eq!(open(c"../../file", RESOLVE_IN_ROOT), Ok(()));
    eq!(open(c"up", RESOLVE_IN_ROOT), Err(Errno::ENOENT));
    eq!(open(c"near", RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    eq!(open(c"file", RESOLVE_NO_SYMLINKS), Ok(()));
    eq!(open(c"magic", RESOLVE_NO_MAGICLINKS), Err(Errno::ELOOP));
    eq!(open(c"near", RESOLVE_NO_MAGICLINKS), Ok(()));
    eq!(open(c"/proc/self", RESOLVE_NO_XDEV), Err(Errno::EXDEV));
    eq!(open(c"sub/..", RESOLVE_NO_XDEV), Ok(()));
}

fn openat2_arguments() {
    works!(close(file(c"file", b"")));
    let size = size_of::<open_how>();
    let how = |flags: c_int, mode: u64, resolve: u64| {
        let mut how: open_how = zeroed();
        (how.flags, how.mode, how.resolve) = (flags as u64, mode, resolve);
        how
    };
    if sys!(openat2(AT_FDCWD, c"file", &how(O_RDONLY, 0, 0), size)) == Err(Errno::ENOSYS) {
        skip!("no openat2 (Linux 5.6)");
    }
    fails!(openat2(AT_FDCWD, c"file", &how(0x1000_0000, 0, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(O_RDONLY, 0o644, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"new", &how(O_CREAT, 0o1_0000, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(O_PATH | O_RDWR, 0, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, 0x1000), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, 0), size - 1) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, 0), 2 * PAGE) => E2BIG);
    fails!(openat2(AT_FDCWD, c"file", BAD, size) => EFAULT);
    works!(openat2(AT_FDCWD, c"file", &[0u64; 4], 32));
    fails!(openat2(AT_FDCWD, c"file", &[0u64, 0, 0, 1], 32) => E2BIG);
    works!(openat2(AT_FDCWD, c"new", &how(O_CREAT | O_WRONLY, 0o600, 0), size));
    eq!(mode(c"new"), S_IFREG | 0o600);
}

fn dots_and_slashes() {
    gives!(mkdir(c"d", 0o755) => 0);
    works!(close(file(c"d/f", b"")));
    for path in [c"d/f", c"./d/f", c"d//f", c"d/./f", c"d/../d/f", c".//d/.//f"] {
        works!(close(works!(openat(AT_FDCWD, path, O_RDONLY))));
    }
    fails!(openat(AT_FDCWD, c"d/f/.", O_RDONLY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"d/f/..", O_RDONLY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"d/missing/..", O_RDONLY) => ENOENT);
    works!(openat(AT_FDCWD, c"/..", O_RDONLY));
    let (root, above) = (stat_of(c"/"), stat_of(c"/../.."));
    eq!((root.st_ino, root.st_dev), (above.st_ino, above.st_dev));
    works!(openat(AT_FDCWD, c"d/", O_RDONLY));
    // Names are bytes.
    let odd = c"\xff\xfe \n\t*";
    works!(close(file(odd, b"")));
    gives!(unlink(odd) => 0);
}

fn long_names() {
    let name = |length: usize| CString::new(vec![b'n'; length]).unwrap_or_default();
    works!(close(file(&name(255), b"")));
    fails!(openat(AT_FDCWD, &*name(256), O_WRONLY | O_CREAT, 0o644) => ENAMETOOLONG);
    fails!(mkdir(&*name(256), 0o755) => ENAMETOOLONG);
    fails!(stat(&*name(256), &mut zeroed::<stat>()) => ENAMETOOLONG);
    fails!(symlink(c"x", &*name(256)) => ENAMETOOLONG);
    fails!(rename(&*name(255), &*name(256)) => ENAMETOOLONG);
    let path = |length: usize| {
        CString::new("./".repeat(length / 2 - 1) + &"x".repeat(length % 2 + 2)[..length % 2 + 2]).unwrap_or_default()
    };
    works!(close(file(c"xxx", b"")));
    // 4095 bytes and the zero at the end are what a path may have.
    eq!(path(4095).to_bytes().len(), 4095);
    works!(openat(AT_FDCWD, &*path(4095), O_RDONLY));
    fails!(openat(AT_FDCWD, &*path(4096), O_RDONLY) => ENAMETOOLONG);
    fails!(symlink(&*path(4096), c"link") => ENAMETOOLONG);
}

fn handles_without_rights() {
    works!(close(file(c"file", b"text")));
    let mut handle = [0u32; 34];
    let mut mount = 0i32;
    handle[0] = 128;
    fails!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 1 << 20) => EINVAL);
    fails!(name_to_handle_at(AT_FDCWD, c"missing", &mut handle, &mut mount, 0) => ENOENT);
    fails!(name_to_handle_at(-1, c"file", &mut handle, &mut mount, 0) => EBADF);
    fails!(name_to_handle_at(AT_FDCWD, BAD, &mut handle, &mut mount, 0) => EFAULT);
    need_root();
    in_child(|| {
        handle[0] = 8;
        gives!(setuid(1000) => 0);
        fails!(open_by_handle_at(AT_FDCWD, &handle, O_RDONLY) => EPERM);
    });
    handle[0] = 0;
    fails!(open_by_handle_at(AT_FDCWD, &handle, O_RDONLY) => EINVAL);
    handle[0] = 129;
    fails!(open_by_handle_at(AT_FDCWD, &handle, O_RDONLY) => EINVAL);
    fails!(open_by_handle_at(AT_FDCWD, BAD, O_RDONLY) => EFAULT);
    // Of a kind that nobody has made.
    (handle[0], handle[1]) = (8, 0x77);
    fails!(open_by_handle_at(AT_FDCWD, &handle, O_RDONLY) => ESTALE);
}

fn file_handles() {
    works!(close(file(c"file", b"text")));
    let mut handle = [0u32; 34];
    let mut mount = 0i32;
    handle[0] = 128;
    match sys!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 0)) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => skip!("the scratch directory's file system has no handles"),
        other => crate::check::must_give("name_to_handle_at", other, 0),
    }
    let needed = handle[0];
    handle[0] = 0;
    fails!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 0) => EOVERFLOW);
    eq!(handle[0], needed);
    gives!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 0) => 0);
    fails!(name_to_handle_at(AT_FDCWD, c"file", BAD, &mut mount, 0) => EFAULT);
    let fd = match sys!(open_by_handle_at(AT_FDCWD, &handle, O_RDONLY)) {
        Err(Errno::EPERM) => skip!("opening by handle needs CAP_DAC_READ_SEARCH"),
        other => crate::check::must_work("open_by_handle_at", other),
    };
    let mut buffer = [0u8; 4];
    gives!(read(fd, &mut buffer, 4) => 4);
    eq!(&buffer, b"text");
}
