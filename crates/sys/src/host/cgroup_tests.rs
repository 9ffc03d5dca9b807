//! The parsers and the join, on the three layouts that exist.

use super::*;

const V2: &str = "\
22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
27 1 8:1 / / rw,relatime shared:1 master:7 - ext4 /dev/sda1 rw
";

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory,favordynmods
";

const V1_IN_A_CONTAINER: &str = "\
40 31 0:30 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:9 - cgroup memory rw,memory
41 31 0:31 /docker/abc /sys/fs/cgroup/pids\\040here ro,nosuid - cgroup pids rw,pids
";

#[test]
fn layouts_are_told_apart() {
    assert_eq!(layout(&parse_mountinfo(V2)), Layout::V2);
    assert_eq!(layout(&parse_mountinfo(HYBRID)), Layout::Hybrid);
    assert_eq!(layout(&parse_mountinfo(V1_IN_A_CONTAINER)), Layout::V1);
    assert_eq!(layout(&parse_mountinfo("")), Layout::None);
}

#[test]
fn optional_fields_and_escapes_are_understood() {
    let mounts = parse_mountinfo(V2);
    assert_eq!(mounts.len(), 3);
    assert_eq!(mounts[2].fs_type, "ext4");
    assert_eq!(mounts[2].source, "/dev/sda1");
    assert_eq!(mounts[1].super_options, ["rw", "nsdelegate", "memory_recursiveprot"]);
    assert_eq!(parse_mountinfo(V1_IN_A_CONTAINER)[1].mount_point, Path::new("/sys/fs/cgroup/pids here"));
    assert_eq!(unescape("a\\"), Path::new("a\\"));
    assert_eq!(unescape("a\\134b\\777"), Path::new("a\\b\\777"), "777 octal is no byte");
}

#[test]
fn lines_of_another_form_are_left_out() {
    assert_eq!(parse_mountinfo("\n1 2 3\nnonsense - \n - - - -\n"), []);
    assert_eq!(parse_membership("x:y\n:\n7:pids\n"), []);
    assert_eq!(parse_controllers("#subsys_name\thierarchy\tnum_cgroups\tenabled\npids\nmemory\tx\t1\t1\n"), []);
}

#[test]
fn a_v2_group_is_below_the_mount() {
    let memberships = parse_membership("0::/user.slice/user-1000.slice/session:1.scope\n");
    let found = hierarchies(&parse_mountinfo(V2), &memberships);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].version, 2);
    let group = Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/session:1.scope");
    assert_eq!(found[0].own_group.as_deref(), Some(group));
}

#[test]
fn hybrid_hierarchies_keep_their_controllers() {
    let memberships = parse_membership("4:memory:/web\n3:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/init.scope\n");
    let found = hierarchies(&parse_mountinfo(HYBRID), &memberships);
    let versions: Vec<u8> = found.iter().map(|hierarchy| hierarchy.version).collect();
    assert_eq!(versions, [1, 1, 1, 2]);
    let memory = found.iter().find(|hierarchy| hierarchy.controllers == ["memory"]).expect("a memory hierarchy");
    assert_eq!(memory.own_group.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/web")));
    assert!(memory.favordynmods);
    let cpu = found.iter().find(|hierarchy| hierarchy.controllers == ["cpu", "cpuacct"]).expect("a cpu hierarchy");
    assert_eq!(cpu.own_group.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
    assert!(!cpu.favordynmods && !cpu.read_only);
}

#[test]
fn a_bind_mounted_subtree_shows_only_groups_inside_it() {
    let mounts = parse_mountinfo(V1_IN_A_CONTAINER);
    let inside = hierarchies(&mounts, &parse_membership("5:memory:/docker/abc/job\n"));
    assert_eq!(inside[0].own_group.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/job")));
    assert!(inside[0].read_only);
    let outside = hierarchies(&mounts, &parse_membership("5:memory:/elsewhere\n"));
    assert_eq!(outside[0].own_group, None);
}

#[test]
fn controllers_of_the_kernel_are_listed() {
    let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t0\t1\t0\n";
    let found = parse_controllers(table);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].name.as_str(), found[0].hierarchy, found[0].enabled), ("cpuset", 3, true));
    assert!(!found[1].enabled);
}
