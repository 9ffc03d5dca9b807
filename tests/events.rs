//! What engines ask of a runtime beside its life: news of memory that runs out, handles, groups below its own.

mod support;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::Value;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use support::bundle::Bundle;
use support::{World, eventually, of_container, read};

#[test]
fn what_is_used_is_told_and_memory_that_runs_out() {
    let Some(world) = World::new().filter(|_| of_container("memory runs out in its own kernel")) else { return };
    world.ok(["run", "-d", "--name", "events-a", "--memory", "64m", "--pids-limit", "50", "--cpus", "1", "--", "sleep", "1000"]);
    let line: Value = serde_json::from_str(&world.ok(["events", "--stats", "events-a"])).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&"stats".into(), &"events-a".into()));
    let number = |line: &Value, at: &str| line.pointer(at).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {at} in {line}"));
    assert_eq!(number(&line, "/data/memory/usage/limit"), 64 << 20);
    assert!(number(&line, "/data/memory/usage/usage") > 0);
    assert_eq!((number(&line, "/data/pids/limit"), number(&line, "/data/memory/oomKills")), (50, 0));
    assert!(number(&line, "/data/pids/current") >= 1);
    let told = world.path("told");
    let mut follower = world.insula(["events", "--interval", "20ms", "events-a"]);
    let mut follower = follower.stdout(std::fs::File::create(&told).unwrap()).spawn().unwrap();
    let lines = || -> Vec<Value> { read(&told).lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
    eventually("it tells again and again", || lines().len() > 3);
    world.output(["exec", "events-a", "tail", "/dev/zero"]);
    eventually("it tells of memory", || lines().iter().any(|line| line["type"] == "oom" && line["id"] == "events-a"));
    eventually("it has been counted", || {
        lines().last().is_some_and(|line| line.pointer("/data/memory/oomKills").and_then(Value::as_u64) == Some(1))
    });
    world.ok(["delete", "--force", "events-a"]);
    assert!(support::ended(&mut follower).success());
    assert_eq!(lines().iter().filter(|line| line["type"] == "oom").count(), 1);
    assert!(world.fails(1, ["events", "events-a"]).contains("does not exist"));
}

#[test]
fn what_is_not_counted_is_left_out() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "events-b", "--", "sleep", "1000"]);
    let line: Value = serde_json::from_str(&world.ok(["events", "--stats", "events-b"])).unwrap();
    assert!(line["data"].pointer("/memory/usage/limit").is_none_or(Value::is_u64), "{line}");
    assert!(world.fails(2, ["events", "--interval", "soon", "events-b"]).contains("--interval"));
}

#[test]
fn what_went_over_disks_and_networks_is_told() {
    let Some(world) = World::new().filter(|_| of_container("its kernel counts neither")) else { return };
    // A kernel counts where it throttles: so high a limit holds nothing up.
    let device = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(world.path("")).unwrap());
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let whole = disks.map(|disk| read(disk.path().join("dev"))).any(|number| number.trim() == format!("{major}:{minor}"));
    let counts = whole && Path::new("/sys/fs/cgroup/blkio/blkio.throttle.io_serviced_recursive").exists();
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(|config| {
        if counts {
            let limit = serde_json::json!([{"major": major, "minor": minor, "rate": 1_u64 << 40}]);
            config["linux"]["resources"]["blockIO"] = serde_json::json!({"throttleWriteBpsDevice": limit});
        }
        config["linux"]["cgroupsPath"] = "/insula-tests-events/events-c".into();
        let pages = serde_json::json!([{"pageSize": "2MB", "limit": 4194304}]);
        let has_pages =
            ["hugetlb/tasks", "unified/hugetlb.2MB.max"].iter().any(|path| Path::new("/sys/fs/cgroup").join(path).exists());
        if has_pages || read("/sys/fs/cgroup/unified/cgroup.controllers").contains("hugetlb") {
            config["linux"]["resources"]["hugepageLimits"] = pages;
        }
    });
    world.hands_off(["create", "--bundle", bundle.dir(), "events-c"]);
    world.ok(["start", "events-c"]);
    // What is written past the cache goes to the disk at once, on behalf of who writes it.
    let script = "dd if=/dev/zero of=/written bs=4096 count=16 oflag=direct 2>/dev/null; true";
    world.ok(["exec", "events-c", "sh", "-c", script]);
    let line: Value = serde_json::from_str(&world.ok(["events", "--stats", "events-c"])).unwrap();
    let interface = line.pointer("/data/network_interfaces/0").unwrap_or_else(|| panic!("no interface in {line}"));
    assert_eq!((&interface["Name"], &interface["RxBytes"]), (&"lo".into(), &0.into()));
    assert!(line["data"].get("intelRdt").is_none());
    if counts {
        let written = |counter: &str| {
            let list = line.pointer(&format!("/data/blkio/{counter}")).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().filter(|one| one["op"] == "Write").filter_map(|one| one["value"].as_u64()).sum::<u64>()
        };
        assert!(written("ioServiceBytesRecursive") >= 16 * 4096 && written("ioServicedRecursive") >= 1, "{line}");
    }
    if read("/sys/fs/cgroup/unified/cgroup.controllers").contains("hugetlb") {
        assert_eq!(line.pointer("/data/hugetlb/2MB/usage"), Some(&0.into()), "{line}");
    }
    world.ok(["delete", "--force", "events-c"]);
    support::client::remove_groups("insula-tests-events");
}

/// The process of a descriptor that comes in over a socket.
fn process_handed_over(listener: &UnixListener) -> String {
    let (connection, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let bytes = &mut [IoSliceMut::new(&mut bytes)];
    rustix::net::recvmsg(&connection, bytes, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let pidfd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let pidfd = pidfd.unwrap();
    let info = read(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_else(|| panic!("no pidfd: {info}")).trim().to_owned()
}

#[test]
fn a_handle_of_a_process_is_handed_over() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]);
    let socket = world.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (socket, file) = (socket.to_str().unwrap(), world.path("pid"));
    let take = |args: &[&str]| {
        let mut child = world.insula(args).stdout(Stdio::null()).spawn().unwrap();
        let pid = process_handed_over(&listener);
        assert!(support::ended(&mut child).success(), "{args:?}");
        assert_eq!(pid, read(&file), "{args:?}");
    };
    take(&["create", "-b", bundle.dir(), "--pidfd-socket", socket, "--pid-file", file.to_str().unwrap(), "handle-a"]);
    world.ok(["start", "handle-a"]);
    take(&["exec", "--detach", "--pidfd-socket", socket, "--pid-file", file.to_str().unwrap(), "handle-a", "sleep", "1000"]);
    let refused = world.fails(1, ["create", "-b", bundle.dir(), "--pidfd-socket", "/none/such", "handle-b"]);
    assert!(refused.contains("--pidfd-socket") && refused.contains("/none/such"), "{refused}");
    assert!(world.fails(1, ["state", "handle-b"]).contains("does not exist"));
}

#[test]
fn a_process_is_put_into_a_group_below() {
    let Some(world) = World::new().filter(|_| of_container("processes are its own kernel's")) else { return };
    world.ok(["run", "-d", "--name", "below-a", "--pids-limit", "50", "--", "sleep", "1000"]);
    let pid = world.state("below-a")["pid"].to_string();
    let memberships = read(format!("/proc/{pid}/cgroup"));
    let (point, line) = match memberships.lines().find(|line| line.contains(":pids:")) {
        Some(line) => ("/sys/fs/cgroup/pids", line),
        None => ("/sys/fs/cgroup", memberships.lines().next().unwrap()),
    };
    let own = line.rsplit(':').next().unwrap();
    let group = format!("{point}{own}/sub");
    let refused = world.fails(125, ["exec", "--cgroup", "pids:sub", "below-a", "true"]);
    assert!(refused.contains("--cgroup") && refused.contains("sub"), "{refused}");
    std::fs::create_dir(&group).unwrap();
    world.hands_off(["exec", "--detach", "--cgroup", "pids:sub", "below-a", "sleep", "1000"]);
    assert_eq!(read(format!("{group}/cgroup.procs")).lines().count(), 1);
    assert!(world.fails(125, ["exec", "--cgroup", "../x", "below-a", "true"]).contains(".."));
    assert!(world.fails(125, ["exec", "--cgroup", "bogus:sub", "below-a", "true"]).contains("no controller"));
    world.ok(["delete", "--force", "below-a"]);
    assert!(!std::path::Path::new(&group).exists());
}

#[test]
fn a_root_can_be_moved_to_its_place() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::script(&world, "bundle", "ls -d /rootfs /usr; cd /; pwd; touch /tmp/here");
    let output = world.output(["run", "--no-pivot", "-b", bundle.dir(), "moved"]);
    assert_eq!(support::stdout(&output), "/usr\n/\n", "{}", support::told(&output));
    assert!(bundle.inside("/tmp/here").exists());
}

#[test]
fn what_is_not_there_is_refused_in_a_sentence() {
    let Some(world) = World::new() else { return };
    for verb in ["checkpoint", "restore"] {
        let refused = world.fails(1, [verb, "--image-path", "/tmp/x", "--leave-running", "web"]);
        assert!(refused.contains("can't be saved and restored"), "{refused}");
    }
}
