//! Mounts in user namespaces: what one may mount in one's own, and that nothing comes to light that was hidden above.

use super::owners::{USER, become_its_root, become_user, leave, path, store};
use super::prelude::*;

tests!("borders":
    mounts_need_a_namespace_of_ones_own, inherited_mounts_are_locked, what_is_hidden_stays_hidden, mounts_of_another_namespace,
    file_systems_of_the_kernel, devices_stay_shut, what_is_hidden_in_proc_stays_hidden, set_user_id_of_others,
);

fn mounts_need_a_namespace_of_ones_own() {
    become_its_root(0);
    gives!(mkdir(c"m", 0o755) => 0);
    fails!(mount(c"none", c"m", c"tmpfs", 0, 0) => EPERM);
    fails!(umount2(c"/proc", MNT_DETACH) => EPERM);
    fails!(pivot_root(c"m", c"m") => EPERM);
    gives!(unshare(CLONE_NEWNS) => 0);
    gives!(mount(c"none", c"m", c"tmpfs", 0, c"uid=0,gid=0,mode=700") => 0);
    works!(close(file(c"m/file", b"text")));
    let mut stat: stat = zeroed();
    gives!(stat(c"m", &mut stat) => 0);
    eq!((stat.st_uid, stat.st_mode & 0o7777), (0, 0o700));
    gives!(mkdir(c"m/below", 0o755) => 0);
    gives!(mount(c"m", c"m/below", 0, MS_BIND, 0) => 0);
    gives!(umount2(c"m/below", 0) => 0);
    fails!(mount(c"none", c"m", c"tmpfs", 0, c"uid=1000") => EINVAL);
    gives!(umount2(c"m", 0) => 0);
    // A root of one's own, but not to get out by.
    gives!(chroot(c"m") => 0);
    fails!(unshare(CLONE_NEWUSER) => EPERM);
}

fn inherited_mounts_are_locked() {
    need_root();
    if sys!(unshare(CLONE_NEWNS)).is_err() {
        skip!("no mount namespace of our own (CAP_SYS_ADMIN)");
    }
    gives!(mount(c"none", c"/", 0, MS_REC | MS_PRIVATE, 0) => 0);
    for name in [c"a", c"a/hidden", c"frozen", c"b", c"c"] {
        gives!(mkdir(name, 0o755) => 0);
    }
    works!(close(file(c"a/hidden/secret", b"")));
    gives!(mount(c"none", c"a/hidden", c"tmpfs", 0, 0) => 0);
    gives!(mount(c"none", c"frozen", c"tmpfs", MS_NOSUID | MS_NOATIME, c"mode=777") => 0);
    gives!(mount(c"none", c"frozen", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOATIME, 0) => 0);
    in_child(|| {
        become_its_root(CLONE_NEWNS);
        fails!(umount2(c"a/hidden", 0) => EINVAL);
        fails!(umount2(c"a/hidden", MNT_DETACH) => EINVAL);
        fails!(mount(c"a/hidden", c"b", 0, MS_MOVE, 0) => EINVAL);
        // Without what is mounted in it, it would show what that hides.
        fails!(mount(c"a", c"b", 0, MS_BIND, 0) => EINVAL);
        gives!(mount(c"a", c"b", 0, MS_BIND | MS_REC, 0) => 0);
        fails!(umount2(c"b/hidden", 0) => EINVAL);
        fails!(openat(AT_FDCWD, c"b/hidden/secret", O_RDONLY) => ENOENT);
        gives!(umount2(c"b", MNT_DETACH) => 0);
        // What was forbidden above stays forbidden.
        let more = MS_REMOUNT | MS_BIND;
        fails!(mount(c"none", c"frozen", 0, more | MS_NOSUID | MS_NOATIME, 0) => EPERM);
        fails!(mount(c"none", c"frozen", 0, more | MS_RDONLY | MS_NOATIME, 0) => EPERM);
        fails!(mount(c"none", c"frozen", 0, more | MS_RDONLY | MS_NOSUID | MS_STRICTATIME, 0) => EPERM);
        fails!(mount(c"none", c"frozen", 0, more | MS_RDONLY | MS_NOSUID | MS_RELATIME, 0) => EPERM);
        gives!(mount(c"none", c"frozen", 0, more | MS_RDONLY | MS_NOSUID | MS_NOATIME | MS_NOEXEC, 0) => 0);
        gives!(mount(c"none", c"frozen", 0, more | MS_RDONLY | MS_NOSUID | MS_NOATIME, 0) => 0);
        fails!(mount(c"none", c"frozen", 0, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOATIME, 0) => EPERM);
        gives!(mount(c"frozen", c"c", 0, MS_BIND, 0) => 0);
        fails!(mount(c"none", c"c", 0, more | MS_NOSUID | MS_NOATIME, 0) => EPERM);
        gives!(umount2(c"c", 0) => 0);
    });
}

fn what_is_hidden_stays_hidden() {
    need_root();
    if sys!(unshare(CLONE_NEWNS)).is_err() {
        skip!("no mount namespace of our own (CAP_SYS_ADMIN)");
    }
    gives!(mount(c"none", c"/", 0, MS_REC | MS_PRIVATE, 0) => 0);
    for name in [c"a", c"b"] {
        gives!(mkdir(name, 0o755) => 0);
    }
    gives!(mount(c"none", c"a", c"tmpfs", 0, 0) => 0);
    gives!(mkdir(c"a/hidden", 0o755) => 0);
    works!(close(file(c"a/hidden/secret", b"")));
    gives!(mount(c"none", c"a/hidden", c"tmpfs", 0, 0) => 0);
    in_child(|| {
        become_its_root(CLONE_NEWNS);
        // From who stands in what is taken away.
        gives!(mount(c"a", c"b", 0, MS_BIND | MS_REC, 0) => 0);
        let inside = works!(openat(AT_FDCWD, c"b", O_RDONLY | O_DIRECTORY));
        gives!(umount2(c"b", MNT_DETACH) => 0);
        fails!(openat(inside, c"hidden/secret", O_RDONLY) => ENOENT);
        works!(close(inside));
        // And where others hear of that.
        gives!(mount(0, c"a", 0, MS_SHARED | MS_REC, 0) => 0);
        gives!(mount(c"a", c"b", 0, MS_BIND | MS_REC, 0) => 0);
        gives!(umount2(c"b", MNT_DETACH) => 0);
        fails!(openat(AT_FDCWD, c"a/hidden/secret", O_RDONLY) => ENOENT);
    });
}

fn mounts_of_another_namespace() {
    need_root();
    gives!(mkdir(c"m", 0o777) => 0);
    gives!(chmod(c".", 0o777) => 0);
    in_child(|| {
        become_user();
        let outside = works!(openat(AT_FDCWD, c"m", O_PATH | O_DIRECTORY));
        leave(CLONE_NEWNS);
        eq!(store("self/uid_map", b"0 1000 1"), Ok(8));
        let place = path(format!("/proc/self/fd/{outside}"));
        fails!(mount(c"none", &*place, c"tmpfs", 0, 0) => EINVAL);
        fails!(mount(&*place, c"m", 0, MS_BIND, 0) => EINVAL);
        fails!(umount2(&*place, MNT_DETACH) => EINVAL);
        gives!(mount(c"none", c"m", c"tmpfs", 0, 0) => 0);
        // Whose group has no number where that was mounted, makes nothing in it.
        fails!(openat(AT_FDCWD, c"m/inside", O_CREAT | O_WRONLY, 0o600) => EOVERFLOW);
        eq!(store("self/setgroups", b"deny"), Ok(4));
        eq!(store("self/gid_map", b"0 1000 1"), Ok(8));
        works!(openat(AT_FDCWD, c"m/inside", O_CREAT | O_WRONLY, 0o600));
    });
    fails!(openat(AT_FDCWD, c"m/inside", O_RDONLY) => ENOENT);
}

fn file_systems_of_the_kernel() {
    become_its_root(CLONE_NEWNS);
    gives!(mkdir(c"m", 0o755) => 0);
    // Of the processes, and of the network, that belong to others.
    fails!(mount(c"none", c"m", c"proc", 0, 0) => EPERM);
    fails!(mount(c"none", c"m", c"sysfs", 0, 0) => EPERM);
    fails!(mount(c"none", c"m", c"devtmpfs", 0, 0) => EPERM);
    fails!(mount(c"none", c"m", c"no-such-type", 0, 0) => ENODEV);
    gives!(mount(c"none", c"m", c"devpts", 0, c"newinstance,ptmxmode=0666,mode=620") => 0);
    works!(openat(AT_FDCWD, c"m/ptmx", O_RDWR));
    gives!(mount(c"none", c"m", c"ramfs", 0, 0) => 0);
}

fn devices_stay_shut() {
    need_root();
    let step = shared_word();
    let inside = child(|| {
        gives!(mkdir(c"m", 0o777) => 0);
        gives!(chmod(c"m", 0o777) => 0);
        become_its_root(CLONE_NEWNS);
        gives!(mount(c"none", c"m", c"tmpfs", 0, c"mode=777") => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
        fails!(mknodat(AT_FDCWD, c"m/null", S_IFCHR | 0o666, 0x103) => EPERM);
        // A bind of what is there already shows no more than that.
        works!(close(file(c"m/zero", b"")));
        gives!(mount(c"/dev/zero", c"m/zero", 0, MS_BIND, 0) => 0);
        works!(openat(AT_FDCWD, c"m/zero", O_RDONLY));
    });
    until(|| step.load(SeqCst) == 1 || process::state(inside).is_none_or(|state| state == 'Z'));
    // Root outside is nobody there, and makes nothing.
    let null = path(format!("/proc/{inside}/cwd/m/null"));
    fails!(mknodat(AT_FDCWD, &*null, S_IFCHR | 0o666, 0x103) => EOVERFLOW);
    step.store(2, SeqCst);
    join(inside);
}

fn what_is_hidden_in_proc_stays_hidden() {
    need_root();
    let own_proc = |flags: c_ulong| {
        in_child(|| {
            gives!(setresgid(USER, USER, USER) => 0);
            gives!(setresuid(USER, USER, USER) => 0);
            leave(CLONE_NEWNS | CLONE_NEWPID);
            join(child(|| {
                if flags != 0 {
                    fails!(mount(c"proc", c"/proc", c"proc", 0, 0) => EPERM);
                }
                if flags != MS_RDONLY {
                    fails!(mount(c"proc", c"/proc", c"proc", MS_RDONLY, 0) => EPERM);
                    return;
                }
                gives!(mount(c"proc", c"/proc", c"proc", MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, 0) => 0);
                fails!(mount(c"proc", c"/proc", 0, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NOEXEC | MS_NODEV, 0) => EPERM);
            }));
        });
    };
    in_child(|| {
        if sys!(unshare(CLONE_NEWNS)).is_err() {
            skip!("no mount namespace of our own (CAP_SYS_ADMIN)");
        }
        gives!(mount(c"none", c"/", 0, MS_REC | MS_PRIVATE, 0) => 0);
        gives!(mkdir(c"p", 0o755) => 0);
        // The only one there is read-only.
        gives!(mount(c"proc", c"/proc", c"proc", MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, 0) => 0);
        own_proc(MS_RDONLY);
        // Then part of it is covered.
        gives!(mount(c"none", c"/proc/sys", c"tmpfs", 0, 0) => 0);
        own_proc(MS_NOEXEC);
    });
}

fn set_user_id_of_others() {
    need_root();
    gives!(chmod(c".", 0o777) => 0);
    process::copy();
    gives!(chown(c"copy", 0, 0) => 0);
    gives!(chmod(c"copy", 0o6755) => 0);
    let (reading, writing) = pipe();
    let pid = child(|| {
        become_its_root(0);
        gives!(dup2(writing, 1) => 1);
        let argv = strings(&[c"copy", c"helper", c"facts"]);
        let empty = strings(&[]);
        works!(execve(c"copy", &*argv, &*empty));
    });
    works!(close(writing));
    let told = String::from_utf8_lossy(&drain(reading)).into_owned();
    join(pid);
    // Root outside is nobody here, so the program is still its caller's.
    is!(told.contains("ids 0 0 0 0"), "the caller's own numbers: {told}");
}
