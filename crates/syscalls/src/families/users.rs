//! Users and capabilities: set*id in all its forms, groups, file-system ids, capget and capset, securebits, dumpability.

use super::prelude::*;

tests!("users":
    root_sets_all_three, others_choose_among_three, setreuid_rules, setresuid_rules, setuid_rules, set_gid_rules, groups,
    groups_need_rights, fs_ids, identity_of_children_and_threads, arguments, capabilities_of_root, capget_and_capset,
    capset_rules, capabilities_follow_the_user, keepcaps, bounding_set, ambient_set, securebits, cap_limits_show_in_status,
    file_capabilities, dumpable_goes_with_the_user, no_capabilities_no_root, dac_override, cap_kill_and_chown,
);

fn user() -> [u32; 3] {
    let mut ids = [9u32; 3];
    let [real, effective, saved] = &mut ids;
    gives!(getresuid(real, effective, saved) => 0);
    ids
}

fn group() -> [u32; 3] {
    let mut ids = [9u32; 3];
    let [real, effective, saved] = &mut ids;
    gives!(getresgid(real, effective, saved) => 0);
    ids
}

fn root_sets_all_three() {
    need_root();
    in_child(|| {
        gives!(setuid(1000) => 0);
        eq!(user(), [1000; 3]);
        fails!(setuid(0) => EPERM);
        gives!(setuid(1000) => 0);
    });
    in_child(|| {
        gives!(setgid(1000) => 0);
        eq!((group(), user()), ([1000; 3], [0; 3]));
    });
    in_child(|| {
        gives!(setresuid(1, 2, 3) => 0);
        eq!(user(), [1, 2, 3]);
        gives!(getuid() => 1);
        gives!(geteuid() => 2);
    });
    in_child(|| {
        gives!(setresgid(1, 2, 3) => 0);
        eq!(group(), [1, 2, 3]);
        gives!(getgid() => 1);
        gives!(getegid() => 2);
        let status = contents("/proc/self/status");
        is!(status.contains("Gid:\t1\t2\t3\t2\n"), "status to tell them");
    });
}

fn others_choose_among_three() {
    need_root();
    in_child(|| {
        gives!(setresuid(1, 2, 3) => 0);
        for [real, effective, saved] in [[3, 1, 2], [2, 2, 1], [1, 1, 2]] {
            gives!(setresuid(real, effective, saved) => 0);
            eq!(user(), [real, effective, saved]);
        }
        fails!(setresuid(4, -1, -1) => EPERM);
        fails!(setresuid(-1, 4, -1) => EPERM);
        fails!(setresuid(-1, -1, 3) => EPERM);
        eq!(user(), [1, 1, 2]);
        gives!(setresuid(-1, 2, -1) => 0);
        eq!(user(), [1, 2, 2]);
    });
}

fn setreuid_rules() {
    need_root();
    in_child(|| {
        gives!(setreuid(1, 2) => 0);
        // The real user was set: the saved one follows the effective.
        eq!(user(), [1, 2, 2]);
        gives!(setreuid(-1, 1) => 0);
        eq!(user(), [1, 1, 2]);
        gives!(setreuid(-1, 2) => 0);
        // Set to something other than the real one: saved too.
        eq!(user(), [1, 2, 2]);
        gives!(setreuid(2, 1) => 0);
        eq!(user(), [2, 1, 1]);
        fails!(setreuid(3, -1) => EPERM);
        fails!(setreuid(-1, 3) => EPERM);
        gives!(setreuid(-1, -1) => 0);
    });
    in_child(|| {
        gives!(setregid(1, 2) => 0);
        eq!(group(), [1, 2, 2]);
    });
}

fn setresuid_rules() {
    need_root();
    in_child(|| {
        gives!(setresuid(-1, 1000, -1) => 0);
        eq!(user(), [0, 1000, 0]);
        // The way back is open, and with it come the capabilities.
        gives!(setresuid(-1, 0, -1) => 0);
        eq!(user(), [0; 3]);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(setresuid(-1, 0, -1) => EPERM);
        fails!(setresuid(0, 1000, 1000) => EPERM);
    });
}

fn setuid_rules() {
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 0, 2000) => 0);
        // Effectively root: all three.
        gives!(setuid(3000) => 0);
        eq!(user(), [3000; 3]);
    });
    in_child(|| {
        gives!(setresuid(1000, 1001, 2000) => 0);
        // Else only the effective one, to the real or the saved.
        gives!(setuid(2000) => 0);
        eq!(user(), [1000, 2000, 2000]);
        gives!(setuid(1000) => 0);
        eq!(user(), [1000, 1000, 2000]);
        fails!(setuid(1001) => EPERM);
    });
}

fn set_gid_rules() {
    need_root();
    in_child(|| {
        gives!(setresgid(1, 2, 3) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        gives!(setgid(3) => 0);
        eq!(group(), [1, 3, 3]);
        fails!(setgid(2) => EPERM);
        fails!(setresgid(-1, 2, -1) => EPERM);
        fails!(setregid(2, -1) => EPERM);
        gives!(setregid(3, 1) => 0);
        eq!(group(), [3, 1, 1]);
    });
}

fn groups() {
    need_root();
    in_child(|| {
        gives!(setgroups(3, &[30u32, 10, 20]) => 0);
        let mut list = [0u32; 4];
        gives!(getgroups(0, BAD) => 3);
        gives!(getgroups(4, &mut list) => 3);
        // The kernel sorts them.
        eq!(list, [10, 20, 30, 0]);
        fails!(getgroups(2, &mut list) => EINVAL);
        fails!(getgroups(-1, &mut list) => EINVAL);
        fails!(getgroups(4, BAD) => EFAULT);
        is!(contents("/proc/self/status").contains("Groups:\t10 20 30 \n"), "status to tell them");
        gives!(setgroups(0, 0) => 0);
        gives!(getgroups(0, 0) => 0);
        fails!(setgroups(65537, &list) => EINVAL);
        fails!(setgroups(2, BAD) => EFAULT);
    });
}

fn groups_need_rights() {
    need_root();
    in_child(|| {
        gives!(setgroups(1, &[7u32]) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(setgroups(0, 0) => EPERM);
        fails!(setgroups(1, &[7u32]) => EPERM);
        gives!(getgroups(0, 0) => 1);
    });
}

fn fs_ids() {
    need_root();
    in_child(|| {
        // The old one is the result, always; an error looks like no change.
        gives!(setfsuid(1000) => 0);
        gives!(setfsuid(-1) => 1000);
        gives!(setfsgid(2000) => 0);
        gives!(setfsgid(-1) => 2000);
        // New files are theirs. (Made where the file-system user may write.)
        gives!(setfsuid(0) => 1000);
        gives!(mkdir(c"made", 0o755) => 0);
        let mut stat: stat = zeroed();
        gives!(stat(c"made", &mut stat) => 0);
        eq!((stat.st_uid, stat.st_gid), (0, 2000));
        is!(contents("/proc/self/status").contains("Gid:\t0\t0\t0\t2000\n"), "status to tell it");
    });
}

fn identity_of_children_and_threads() {
    need_root();
    in_child(|| {
        gives!(setresuid(1, 2, 3) => 0);
        in_child(|| eq!(user(), [1, 2, 3]));
        // Of one thread only: the kernel knows no other way; the C library makes it look different.
        gives!(setresuid(-1, 3, -1) => 0);
        eq!(user(), [1, 3, 3]);
    });
    eq!(user(), [0; 3]);
}

fn arguments() {
    fails!(getresuid(BAD, BAD, BAD) => EFAULT);
    fails!(getresgid(BAD, BAD, BAD) => EFAULT);
    fails!(setuid(-1) => EINVAL);
    fails!(setgid(-1) => EINVAL);
}

/// Effective, permitted, inheritable: each 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

fn get() -> Sets {
    let header = [VERSION_3, 0];
    let mut data = [0u32; 6];
    gives!(capget(&header, &mut data) => 0);
    let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Sets { effective: wide(data[0], data[3]), permitted: wide(data[1], data[4]), inheritable: wide(data[2], data[5]) }
}

fn put_sets(sets: Sets) -> Result<usize, Errno> {
    let Sets { effective, permitted, inheritable } = sets;
    let parts = |wide: u64| (wide as u32, (wide >> 32) as u32);
    let (e, p, i) = (parts(effective), parts(permitted), parts(inheritable));
    sys!(capset(&[VERSION_3, 0], &[e.0, p.0, i.0, e.1, p.1, i.1]))
}

const KILL: u64 = 1 << 5;
const CHOWN: u64 = 1 << 0;
const DAC_OVERRIDE: u64 = 1 << 1;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;

fn capabilities_of_root() {
    need_root();
    let sets = get();
    eq!(sets.effective, sets.permitted);
    let status = contents("/proc/self/status");
    is!(status.contains(&format!("CapEff:\t{:016x}\n", sets.effective)), "status to agree");
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        eq!(get(), Sets { effective: 0, permitted: 0, inheritable: sets.inheritable });
    });
}

fn capget_and_capset() {
    let mut data = [0u32; 6];
    // Version 1 has room for 32, version 3 for 64.
    gives!(capget(&[0x1998_0330u32, 0], &mut data) => 0);
    let mut header = [0u32, 0];
    // Asked with an unknown version, the kernel says which it likes.
    fails!(capget(&mut header, &mut data) => EINVAL);
    eq!(header[0], VERSION_3);
    gives!(capget(&mut [0u32, 0], 0) => 0);
    fails!(capget(BAD, &mut data) => EFAULT);
    fails!(capget(&[VERSION_3, 0], BAD) => EFAULT);
    fails!(capget(&[VERSION_3, -1i32 as u32], &mut data) => EINVAL);
    fails!(capget(&[VERSION_3, 0x3f_ffff], &mut data) => ESRCH);
    gives!(capget(&[VERSION_3, 1], &mut data) => 0);
    fails!(capset(&[VERSION_3, 1], &data) => EPERM);
    fails!(capset(&mut [0u32, 0], &data) => EINVAL);
    fails!(capset(&[VERSION_3, 0], BAD) => EFAULT);
}

fn capset_rules() {
    need_root();
    let all = get();
    if all.permitted & (KILL | CHOWN | SETPCAP) != KILL | CHOWN | SETPCAP {
        skip!("root here lacks CAP_KILL, CAP_CHOWN or CAP_SETPCAP");
    }
    in_child(|| {
        // Effective may be less than permitted, and be raised again.
        eq!(put_sets(Sets { effective: KILL, permitted: KILL | CHOWN, inheritable: 0 }), Ok(0));
        eq!(put_sets(Sets { effective: KILL | CHOWN, permitted: KILL | CHOWN, inheritable: 0 }), Ok(0));
        // Never more than permitted; what permitted lost never comes back.
        eq!(put_sets(Sets { effective: KILL | CHOWN, permitted: KILL, inheritable: 0 }), Err(Errno::EPERM));
        eq!(put_sets(all), Err(Errno::EPERM));
        // Inheritable: what is permitted.
        eq!(put_sets(Sets { effective: 0, permitted: KILL, inheritable: KILL | CHOWN }), Ok(0));
        eq!(put_sets(Sets { effective: 0, permitted: KILL, inheritable: KILL | CHOWN | SETUID }), Err(Errno::EPERM));
        eq!(get(), Sets { effective: 0, permitted: KILL, inheritable: KILL | CHOWN });
    });
}

fn capabilities_follow_the_user() {
    need_root();
    let all = get();
    in_child(|| {
        // Away from root with the effective user only: effective goes, permitted stays.
        gives!(setresuid(-1, 1000, -1) => 0);
        eq!(get(), Sets { effective: 0, ..all });
        fails!(setresuid(2000, 2000, 2000) => EPERM);
        gives!(setresuid(-1, 0, -1) => 0);
        eq!(get(), all);
    });
}

fn keepcaps() {
    need_root();
    let all = get();
    in_child(|| {
        gives!(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) => 0);
        gives!(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) => 0);
        gives!(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) => 1);
        fails!(prctl(PR_SET_KEEPCAPS, 2, 0, 0, 0) => EINVAL);
        gives!(setresuid(1000, 1000, 1000) => 0);
        eq!(get(), Sets { effective: 0, ..all });
        eq!(put_sets(all), Ok(0));
        gives!(setresuid(3000, 3000, 3000) => 0);
    });
}

fn bounding_set() {
    need_root();
    process::copy();
    gives!(prctl(PR_CAPBSET_READ, 5, 0, 0, 0) => 1);
    fails!(prctl(PR_CAPBSET_READ, 64, 0, 0, 0) => EINVAL);
    fails!(prctl(PR_CAPBSET_DROP, 64, 0, 0, 0) => EINVAL);
    in_child(|| {
        if get().effective & SETPCAP == 0 {
            skip!("root here lacks CAP_SETPCAP");
        }
        gives!(prctl(PR_CAPBSET_DROP, 5, 0, 0, 0) => 0);
        gives!(prctl(PR_CAPBSET_READ, 5, 0, 0, 0) => 0);
        // What one has is not touched; an exec by root would not have it.
        eq!(get().permitted & KILL, KILL);
        let text = facts();
        let line = text.lines().find(|line| line.starts_with("status CapPrm:")).unwrap_or("");
        let permitted = u64::from_str_radix(line.rsplit('\t').next().unwrap_or(""), 16).unwrap_or(KILL);
        eq!(permitted & KILL, 0);
    });
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(prctl(PR_CAPBSET_DROP, 5, 0, 0, 0) => EPERM);
    });
}

/// What this program says of itself, started by what is set now. It needs a copy that everybody may run: [`process::copy`].
fn facts() -> String {
    let (reader, writer) = pipe();
    let pid = child(|| {
        works!(dup3(writer, 1, 0));
        let _ = sys!(execve(process::COPY, strings(&[c"self", c"helper", c"facts"]).as_slice(), strings(&[]).as_slice()));
    });
    works!(close(writer));
    let text = String::from_utf8_lossy(&drain(reader)).into_owned();
    join(pid);
    text
}

fn ambient_set() {
    need_root();
    process::copy();
    const AMBIENT: c_int = 47;
    const IS_SET: c_int = 1;
    const RAISE: c_int = 2;
    const LOWER: c_int = 3;
    const CLEAR: c_int = 4;
    in_child(|| {
        gives!(prctl(AMBIENT, IS_SET, 5, 0, 0) => 0);
        // Only what is permitted and inheritable.
        fails!(prctl(AMBIENT, RAISE, 5, 0, 0) => EPERM);
        let all = get();
        eq!(put_sets(Sets { inheritable: KILL, ..all }), Ok(0));
        gives!(prctl(AMBIENT, RAISE, 5, 0, 0) => 0);
        gives!(prctl(AMBIENT, IS_SET, 5, 0, 0) => 1);
        fails!(prctl(AMBIENT, RAISE, 64, 0, 0) => EINVAL);
        fails!(prctl(AMBIENT, 9, 5, 0, 0) => EINVAL);
        fails!(prctl(AMBIENT, CLEAR, 1, 0, 0) => EINVAL);
        gives!(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        // A change away from root clears it.
        gives!(prctl(AMBIENT, IS_SET, 5, 0, 0) => 0);
        gives!(prctl(AMBIENT, RAISE, 5, 0, 0) => 0);
        let text = facts();
        is!(text.contains("status CapEff:\t0000000000000020\n"), "the ambient capability after exec: {text}");
        gives!(prctl(AMBIENT, LOWER, 5, 0, 0) => 0);
        gives!(prctl(AMBIENT, IS_SET, 5, 0, 0) => 0);
        gives!(prctl(AMBIENT, CLEAR, 0, 0, 0) => 0);
        is!(facts().contains("status CapEff:\t0000000000000000\n"), "none without it");
    });
}

fn securebits() {
    need_root();
    process::copy();
    gives!(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) => 0);
    const NOROOT: c_int = 1;
    const NOROOT_LOCKED: c_int = 2;
    const NO_SETUID_FIXUP: c_int = 4;
    in_child(|| {
        if get().effective & SETPCAP == 0 {
            skip!("root here lacks CAP_SETPCAP");
        }
        gives!(prctl(PR_SET_SECUREBITS, NOROOT | NOROOT_LOCKED, 0, 0, 0) => 0);
        gives!(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) => NOROOT | NOROOT_LOCKED);
        fails!(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) => EPERM);
        fails!(prctl(PR_SET_SECUREBITS, 0x1000, 0, 0, 0) => EPERM);
        // Root is nobody after exec.
        is!(facts().contains("status CapEff:\t0000000000000000\n"), "no capability");
    });
    in_child(|| {
        let all = get();
        gives!(prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        eq!(get(), all);
    });
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(prctl(PR_SET_SECUREBITS, NOROOT, 0, 0, 0) => EPERM);
    });
}

fn cap_limits_show_in_status() {
    let status = contents("/proc/self/status");
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or("");
        eq!((name, line.len()), (name, name.len() + 2 + 16));
    }
    is!(status.contains("NoNewPrivs:\t0\n") && status.contains("Seccomp:\t0\n"), "no restriction");
}

fn file_capabilities() {
    need_root();
    process::copy();
    // Version 2, effective at once, CAP_KILL permitted.
    let words: [u32; 5] = [0x0200_0001, KILL as u32, 0, 0, 0];
    match sys!(setxattr(process::COPY, c"security.capability", &words, 20, 0)) {
        Err(Errno::EOPNOTSUPP | Errno::EPERM) => skip!("the scratch directory's file system keeps no capabilities of files"),
        other => crate::check::must_give("setxattr", other, 0),
    }
    let (reader, writer) = pipe();
    let pid = child(|| {
        works!(dup3(writer, 1, 0));
        gives!(setresuid(1000, 1000, 1000) => 0);
        let _ = sys!(execve(process::COPY, strings(&[c"x", c"helper", c"facts"]).as_slice(), strings(&[]).as_slice()));
    });
    works!(close(writer));
    let text = String::from_utf8_lossy(&drain(reader)).into_owned();
    eq!(wait(pid), Status::Exited(0));
    if text.contains("CapEff:\t0000000000000000") && contents("/proc/self/mounts").contains("nosuid") {
        skip!("the scratch directory may be on a file system mounted nosuid");
    }
    is!(text.contains("status CapEff:\t0000000000000020\n"), "CAP_KILL: {text}");
    // Writing to a file takes them away.
    let fd = works!(openat(AT_FDCWD, process::COPY, O_WRONLY | O_APPEND));
    gives!(write(fd, b"x", 1) => 1);
    fails!(getxattr(process::COPY, c"security.capability", &mut [0u8; 20], 20) => ENODATA);
}

fn dumpable_goes_with_the_user() {
    need_root();
    gives!(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) => 1);
    in_child(|| {
        gives!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) => 0);
        gives!(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) => 0);
        fails!(prctl(PR_SET_DUMPABLE, 2, 0, 0, 0) => EINVAL);
        fails!(prctl(PR_SET_DUMPABLE, 3, 0, 0, 0) => EINVAL);
        gives!(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) => 0);
    });
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        is!(works!(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)) != 1, "no dump of what was root's");
        let mut stat: stat = zeroed();
        gives!(stat(c"/proc/self/environ", &mut stat) => 0);
        eq!(stat.st_uid, 0);
        gives!(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) => 0);
        gives!(stat(c"/proc/self/environ", &mut stat) => 0);
        eq!(stat.st_uid, 1000);
    });
}

fn no_capabilities_no_root() {
    need_root();
    process::copy();
    in_child(|| {
        eq!(put_sets(Sets { effective: 0, permitted: 0, inheritable: 0 }), Ok(0));
        // User 0 without capabilities is like any other, except to own files.
        fails!(setgroups(0, 0) => EPERM);
        fails!(chroot(c"/") => EPERM);
        fails!(setuid(1000) => EPERM);
        fails!(sethostname(c"x", 1) => EPERM);
        gives!(setuid(0) => 0);
        // An exec makes root whole again.
        is!(!facts().contains("status CapEff:\t0000000000000000\n"), "capabilities after exec");
    });
}

fn dac_override() {
    need_root();
    works!(close(file(c"closed", b"text")));
    gives!(chmod(c"closed", 0) => 0);
    works!(openat(AT_FDCWD, c"closed", O_RDWR));
    in_child(|| {
        let all = get();
        const DAC_READ_SEARCH: u64 = 1 << 2;
        eq!(put_sets(Sets { effective: all.effective & !DAC_OVERRIDE, ..all }), Ok(0));
        works!(openat(AT_FDCWD, c"closed", O_RDONLY));
        fails!(openat(AT_FDCWD, c"closed", O_RDWR) => EACCES);
        eq!(put_sets(Sets { effective: all.effective & !DAC_OVERRIDE & !DAC_READ_SEARCH, ..all }), Ok(0));
        fails!(openat(AT_FDCWD, c"closed", O_RDONLY) => EACCES);
        gives!(chmod(c"closed", 0o400) => 0);
        works!(openat(AT_FDCWD, c"closed", O_RDONLY));
    });
}

fn cap_kill_and_chown() {
    need_root();
    let step = shared_word();
    let other = child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    works!(close(file(c"file", b"")));
    in_child(|| {
        let all = get();
        eq!(put_sets(Sets { effective: all.effective & !KILL & !CHOWN, ..all }), Ok(0));
        fails!(kill(other, 0) => EPERM);
        fails!(chown(c"file", 1000, -1) => EPERM);
        eq!(put_sets(all), Ok(0));
        gives!(kill(other, 0) => 0);
        gives!(chown(c"file", 1000, -1) => 0);
    });
    step.store(2, SeqCst);
    join(other);
}
