//! What mounts hear of each other, mount_namespaces(7).

use super::mounts::{own_mounts, tmpfs};
use super::prelude::*;

tests!("propagation":
    propagation, propagation_reaches_namespaces, propagation_and_changes,
);

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
pub(super) fn optional_fields(place: &str) -> String {
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
