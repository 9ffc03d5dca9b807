//! What programs read from /proc.

use super::prelude::*;

tests!("proc":
    stat_has_its_fields, status_has_its_fields, statm_and_maps_agree, smaps_and_rollup, cmdline_and_environ, links,
    fd_directory, tasks, children, other_processes, zombies_are_hollow, mounts_and_mountinfo, cpuinfo_and_meminfo,
    version_and_loadavg, filesystems_and_cmdline, sysctls, mapped_files, flags_of_areas, random_ids, directories_are_readonly, files_can_be_read_in_parts,
    descriptors_can_not_be_opened_by_others, self_is_a_link, wchan_and_syscall, dev_directory, uptime_and_stat,
    cgroup_and_namespaces, sys_directory, pagemap_needs_rights, login_and_sessions, reading_and_writing_is_counted,
);

/// The fields of /proc/PID/stat, the third (state) first.
fn stat_fields(text: &str) -> Vec<String> {
    text.rsplit_once(") ").map_or("", |rest| rest.1).split_ascii_whitespace().map(str::to_owned).collect()
}

fn stat_has_its_fields() {
    let text = contents("/proc/self/stat");
    is!(text.starts_with(&format!("{} (", process::id())) && text.ends_with('\n'), "number and name first: {text}");
    let fields = stat_fields(&text);
    eq!(fields.len(), 50);
    let number = |index: usize| fields[index - 3].parse::<i64>().unwrap_or(-1);
    eq!(fields[0], "R");
    eq!((number(4), number(5), number(6)), (works!(getppid()) as i64, works!(getpgrp()) as i64, works!(getsid(0)) as i64));
    let nice = 20 - works!(getpriority(PRIO_PROCESS, 0)) as i64;
    eq!((number(18), number(19), number(20)), (20 + nice, nice, 1));
    is!(number(22) > 0, "a time of start");
    is!(number(23) > 0 && number(24) > 0, "memory, mapped and resident");
    // Start times order processes, within a hundredth of a second.
    let parent = stat_fields(&contents(&format!("/proc/{}/stat", works!(getppid()))));
    is!(parent[19].parse::<i64>().unwrap_or(i64::MAX) <= number(22), "a parent to be older");
}

fn status_has_its_fields() {
    let text = contents("/proc/self/status");
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    eq!(field("Pid:"), Some(process::id().to_string()));
    eq!(field("Tgid:"), Some(process::id().to_string()));
    eq!(field("PPid:"), Some(works!(getppid()).to_string()));
    eq!(field("Uid:"), Some(format!("{0}\t{0}\t{0}\t{0}", works!(getuid()))));
    eq!(field("Threads:"), Some("1".to_owned()));
    eq!(field("State:"), Some("R (running)".to_owned()));
    eq!(
        (field("SigBlk:"), field("SigPnd:"), field("ShdPnd:")),
        (Some("0".repeat(16)), Some("0".repeat(16)), Some("0".repeat(16)))
    );
    for name in ["VmPeak:", "VmSize:", "VmRSS:", "VmHWM:", "VmData:", "VmStk:", "VmExe:"] {
        let kilobytes =
            field(name).and_then(|value| value.strip_suffix(" kB").and_then(|number| number.trim().parse::<u64>().ok()));
        is!(kilobytes.is_some(), "{name} in kB");
    }
    signal::block(&[SIGUSR1]);
    signal::ignore(SIGUSR2);
    signal::on(SIGHUP, 0);
    let _ = sys!(kill(process::id(), SIGUSR1));
    let _ = sys!(tgkill(process::id(), process::id(), SIGUSR1));
    let text = contents("/proc/self/status");
    for line in [
        "SigBlk:\t0000000000000200",
        "SigPnd:\t0000000000000200",
        "ShdPnd:\t0000000000000200",
        "SigIgn:\t0000000000000800",
        "SigCgt:\t0000000000000001",
    ] {
        is!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

fn statm_and_maps_agree() {
    let pages_now = || contents("/proc/self/statm").split(' ').next().and_then(|first| first.parse::<usize>().ok()).unwrap_or(0);
    eq!(contents("/proc/self/statm").split_ascii_whitespace().count(), 7);
    let before = pages_now();
    works!(mmap(0, 1000 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    is!(pages_now() >= before + 1000, "what is mapped to be counted");
    // Ranges in order, without overlap.
    let mut last = 0;
    for line in contents("/proc/self/maps").lines() {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap_or(("", ""));
        let (start, end) = (usize::from_str_radix(start, 16).unwrap_or(0), usize::from_str_radix(end, 16).unwrap_or(0));
        if start < 1 << 63 {
            is!(start >= last && end > start && start.is_multiple_of(PAGE), "a range in order: {line}");
            last = end;
        }
    }
}

fn smaps_and_rollup() {
    let map = pages(4);
    poke(map, 1);
    poke(map + PAGE, 1);
    let Ok(text) = std::fs::read_to_string("/proc/self/smaps") else { skip!("no smaps (CONFIG_PROC_PAGE_MONITOR)") };
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{map:x}-")));
    is!(lines.next().is_some(), "the mapping");
    let entry: Vec<&str> = lines.take(20).collect();
    is!(entry.iter().any(|line| line.starts_with("Rss:") && line.ends_with("8 kB")), "two pages resident: {entry:?}");
    is!(contents("/proc/self/smaps_rollup").contains("Pss:"), "the sum");
}

fn flags_of_areas() {
    let Ok(_) = std::fs::File::open("/proc/self/smaps") else { skip!("no smaps (CONFIG_PROC_PAGE_MONITOR)") };
    let flags = |map: usize| {
        let text = contents("/proc/self/smaps");
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{map:x}-")));
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags: ")).unwrap_or_default().to_owned();
        // "ac" counts, and "sd" says when a page is written: kernels differ.
        flags.split(' ').filter(|word| !word.is_empty() && *word != "ac" && *word != "sd").collect::<Vec<_>>().join(" ")
    };
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    eq!(flags(map), "rd mr mw me nr");
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    eq!(flags(map), "rd wr sh mr mw me ms");
    gives!(mlock(map, PAGE) => 0);
    eq!(flags(map), "rd wr sh mr mw me ms lo");
    works!(close(file(c"file", b"contents")));
    let fd = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    gives!(madvise(map, PAGE, MADV_DONTFORK) => 0);
    eq!(flags(map), "rd mr me ms dc");
    let map = works!(mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    gives!(madvise(map, PAGE, MADV_DONTDUMP) => 0);
    gives!(madvise(map, PAGE, MADV_WIPEONFORK) => 0);
    eq!(flags(map), "mr mw me wf dd");
}

fn cmdline_and_environ() {
    let text = contents("/proc/self/cmdline");
    is!(text.contains("\0run\0"), "our arguments: {text:?}");
    let expected: Vec<String> = std::env::args().collect();
    eq!(text.trim_end_matches('\0').split('\0').collect::<Vec<_>>(), expected);
    let variables = contents("/proc/self/environ");
    for (name, value) in std::env::vars() {
        is!(variables.split('\0').any(|entry| entry == format!("{name}={value}")), "{name} among the variables");
    }
}

fn links() {
    let link = |name: &str| std::fs::read_link(format!("/proc/self/{name}")).unwrap_or_default().display().to_string();
    eq!(link("cwd"), std::env::current_dir().unwrap_or_default().display().to_string());
    eq!(link("root"), "/");
    eq!(link("exe"), process::own_file().to_string_lossy());
    gives!(mkdir(c"inside", 0o755) => 0);
    gives!(chdir(c"inside") => 0);
    is!(link("cwd").ends_with("/inside"), "the directory to follow");
    gives!(rmdir(c"../inside") => 0);
    is!(link("cwd").ends_with("/inside (deleted)"), "its end to show");
    // Such a link leads there, whatever its text is.
    let fd = works!(openat(AT_FDCWD, c"/proc/self/cwd", O_RDONLY | O_DIRECTORY));
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!(stat.st_nlink, 0);
}

fn fd_directory() {
    let fd = works!(openat(AT_FDCWD, c".", O_RDONLY));
    works!(dup2(fd, 77));
    let list = || -> Vec<String> {
        let read = std::fs::read_dir("/proc/self/fd");
        read.map(|read| read.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default()
    };
    is!(list().contains(&"77".to_owned()) && list().contains(&"0".to_owned()), "what is open");
    works!(close(77));
    is!(!list().contains(&"77".to_owned()), "what was closed to be gone");
    let mut stat: stat = zeroed();
    gives!(lstat(c"/proc/self/fd/0", &mut stat) => 0);
    eq!(stat.st_mode & S_IFMT, S_IFLNK);
    fails!(lstat(c"/proc/self/fd/77", &mut stat) => ENOENT);
    fails!(openat(AT_FDCWD, c"/proc/self/fd/x", O_RDONLY) => ENOENT);
    fails!(unlink(c"/proc/self/fd/0") => EPERM);
    let reading = works!(openat(AT_FDCWD, c"/dev/null", O_RDONLY));
    let path = std::ffi::CString::new(format!("/proc/self/fd/{reading}")).unwrap_or_default();
    gives!(lstat(&*path, &mut stat) => 0);
    // The link's bits say what it was opened for.
    eq!(stat.st_mode & 0o700, 0o500);
}

fn tasks() {
    let list: Vec<String> = std::fs::read_dir("/proc/self/task")
        .map(|read| read.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    eq!(list, [process::id().to_string()]);
    let own = process::id();
    is!(contents(&format!("/proc/self/task/{own}/stat")).starts_with(&format!("{own} (")), "a task's own stat");
    eq!(contents(&format!("/proc/self/task/{own}/comm")), contents("/proc/self/comm"));
    fails!(openat(AT_FDCWD, c"/proc/self/task/1/stat", O_RDONLY) => ENOENT);
}

fn children() {
    let step = shared_word();
    let pid = child(|| until_is(step, 1));
    let own = process::id();
    match std::fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(text) => eq!(text.trim(), pid.to_string()),
        Err(_) => skip!("no list of children (CONFIG_PROC_CHILDREN)"),
    }
    step.store(1, SeqCst);
    join(pid);
}

fn other_processes() {
    let step = shared_word();
    let pid = child(|| until_is(step, 1));
    is!(contents(&format!("/proc/{pid}/stat")).starts_with(&format!("{pid} (")), "its stat");
    let numbers: Vec<i32> = std::fs::read_dir("/proc")
        .map(|read| read.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect())
        .unwrap_or_default();
    is!(numbers.contains(&pid) && numbers.contains(&process::id()) && numbers.contains(&1), "it among the numbers");
    is!(numbers.is_sorted(), "numbers in order");
    let directory =
        works!(openat(AT_FDCWD, &*std::ffi::CString::new(format!("/proc/{pid}")).unwrap_or_default(), O_RDONLY | O_DIRECTORY));
    works!(openat(directory, c"stat", O_RDONLY));
    step.store(1, SeqCst);
    join(pid);
    // A directory held open names a process that is no more, not one that has got its number.
    fails!(openat(directory, c"stat", O_RDONLY) => ENOENT | ESRCH);
    fails!(openat(AT_FDCWD, c"/proc/4194303/stat", O_RDONLY) => ENOENT);
}

fn zombies_are_hollow() {
    let pid = child(|| {});
    process::until_ended(pid);
    let fields = stat_fields(&contents(&format!("/proc/{pid}/stat")));
    eq!((fields[0].as_str(), fields[20].as_str(), fields[21].as_str()), ("Z", "0", "0"));
    eq!(contents(&format!("/proc/{pid}/maps")), "");
    is!(contents(&format!("/proc/{pid}/status")).contains("State:\tZ (zombie)\n"), "its state");
    is!(std::fs::read_link(format!("/proc/{pid}/exe")).is_err(), "no program");
    join(pid);
    is!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "nothing after it was waited for");
}

fn mounts_and_mountinfo() {
    let mounts = contents("/proc/self/mounts");
    is!(mounts.lines().all(|line| line.split(' ').count() == 6), "six fields a line");
    is!(mounts.lines().any(|line| line.split(' ').nth(1) == Some("/")), "a root");
    is!(mounts.lines().any(|line| line.split(' ').nth(2) == Some("proc")), "/proc itself");
    let info = contents("/proc/self/mountinfo");
    is!(info.lines().all(|line| line.contains(" - ") && line.split(' ').count() >= 10), "the fields of mountinfo");
    eq!(info.lines().count(), mounts.lines().count());
    let link = std::fs::read_link("/proc/mounts").unwrap_or_default();
    eq!(link.display().to_string(), "self/mounts");
}

/// What `/proc/net/arp` begins with.
const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device";

fn cpuinfo_and_meminfo() {
    let cpus = contents("/proc/cpuinfo");
    let count = cpus.lines().filter(|line| line.starts_with("processor\t: ")).count();
    is!(count >= 1 && cpus.contains("flags\t\t: ") && cpus.contains("vendor_id\t: "), "processors with flags");
    let text = contents("/proc/meminfo");
    let kilobytes = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse::<u64>().ok())
    };
    let (total, free, available) = (kilobytes("MemTotal:"), kilobytes("MemFree:"), kilobytes("MemAvailable:"));
    is!(total.is_some() && free <= total && available <= total, "total, free and available: {total:?} {free:?} {available:?}");
    let mut info: sysinfo = zeroed();
    gives!(sysinfo(&mut info) => 0);
    eq!(Some(info.totalram * u64::from(info.mem_unit) / 1024), total);
    eq!(kilobytes("VmallocChunk:"), Some(0));
    eq!(contents("/proc/sys/kernel/random/write_wakeup_threshold"), "256\n");
    eq!(contents("/proc/net/arp").lines().next().map(str::trim_end), Some(ARP));
}

fn version_and_loadavg() {
    let version = contents("/proc/version");
    let mut names: utsname = zeroed();
    gives!(uname(&mut names) => 0);
    let text = |field: &[c_char]| field.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect::<String>();
    is!(version.starts_with(&format!("Linux version {} ", text(&names.release))), "the release: {version}");
    eq!(contents("/proc/sys/kernel/osrelease").trim(), text(&names.release));
    eq!(contents("/proc/sys/kernel/hostname").trim(), text(&names.nodename));
    eq!(contents("/proc/sys/kernel/ostype"), "Linux\n");
    let load = contents("/proc/loadavg");
    let fields: Vec<&str> = load.trim_end().split(' ').collect();
    eq!(fields.len(), 5);
    // The number given out last is told, whoever had it.
    let pid = in_child_that_ends();
    let load = contents("/proc/loadavg");
    let last = load.trim_end().rsplit(' ').next().and_then(|last| last.parse::<c_int>().ok());
    is!(last.is_some_and(|last| last >= pid || last < 1000), "at least {pid} in {load}");
    is!(fields[..3].iter().all(|field| field.parse::<f64>().is_ok()) && fields[3].contains('/'), "three loads and tasks: {load}");
}

/// The number of a process that is gone.
fn in_child_that_ends() -> c_int {
    let pid = child(|| {});
    join(pid);
    pid
}

fn filesystems_and_cmdline() {
    let list = contents("/proc/filesystems");
    for name in ["nodev\tproc", "nodev\ttmpfs", "nodev\tsysfs"] {
        is!(list.lines().any(|line| line == name), "{name}");
    }
    is!(!contents("/proc/cmdline").contains('\0'), "a line of text");
}

fn mapped_files() {
    let fd = file(c"mapped", b"contents");
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    let name = format!("{map:x}-{:x}", map + PAGE);
    let link = std::fs::read_link(format!("/proc/self/map_files/{name}")).unwrap_or_default();
    eq!(link.file_name().map(|name| name.to_string_lossy().into_owned()), Some("mapped".into()));
    let listed = std::fs::read_dir("/proc/self/map_files").map(|all| all.flatten().any(|entry| entry.file_name() == *name));
    eq!(listed.ok(), Some(true));
    for wrong in [format!("0{name}"), format!(" {name}"), format!("{name} "), "0-1000".into()] {
        is!(std::fs::read_link(format!("/proc/self/map_files/{wrong}")).is_err(), "no file named {wrong:?}");
    }
}

fn sysctls() {
    for (path, least) in [
        ("/proc/sys/kernel/pid_max", 300),
        ("/proc/sys/fs/nr_open", 1024),
        ("/proc/sys/fs/file-max", 64),
        ("/proc/sys/fs/pipe-max-size", 4096),
        ("/proc/sys/kernel/threads-max", 16),
        ("/proc/sys/kernel/ngroups_max", 32),
        ("/proc/sys/kernel/cap_last_cap", 30),
        ("/proc/sys/net/core/somaxconn", 128),
        ("/proc/sys/vm/max_map_count", 1000),
    ] {
        let value = contents(path).trim().parse::<u64>().unwrap_or(0);
        is!(value >= least, "{path} to be at least {least}, not {value}");
    }
    is!(matches!(contents("/proc/sys/vm/overcommit_memory").trim(), "0" | "1" | "2"), "a policy of overcommitment");
    fails!(openat(AT_FDCWD, c"/proc/sys/no/such", O_RDONLY) => ENOENT);
}

fn random_ids() {
    let (one, two) = (contents("/proc/sys/kernel/random/uuid"), contents("/proc/sys/kernel/random/uuid"));
    is!(one != two && one.trim_end().len() == 36 && one.as_bytes()[14] == b'4', "random UUIDs of version 4: {one}");
    let boot = contents("/proc/sys/kernel/random/boot_id");
    eq!(boot, contents("/proc/sys/kernel/random/boot_id"));
    eq!(boot.trim_end().len(), 36);
}

fn directories_are_readonly() {
    fails!(openat(AT_FDCWD, c"/proc/new", O_WRONLY | O_CREAT, 0o644) => ENOENT | EACCES);
    fails!(mkdir(c"/proc/new", 0o755) => ENOENT | EACCES);
    fails!(unlink(c"/proc/self/stat") => EPERM);
    fails!(rmdir(c"/proc/self/fd") => EPERM);
}

fn files_can_be_read_in_parts() {
    let whole = contents("/proc/self/limits");
    let fd = works!(openat(AT_FDCWD, c"/proc/self/limits", O_RDONLY));
    let mut all = Vec::new();
    let mut seven = [0u8; 7];
    loop {
        let count = works!(read(fd, &mut seven, 7));
        if count == 0 {
            break;
        }
        all.extend_from_slice(&seven[..count]);
    }
    eq!(String::from_utf8_lossy(&all), whole);
    gives!(pread64(fd, &mut seven, 7, 6) => 7);
    eq!(&seven[..], &whole.as_bytes()[6..13]);
    gives!(lseek(fd, 3, SEEK_SET) => 3);
    gives!(read(fd, &mut seven, 7) => 7);
    eq!(&seven[..], &whole.as_bytes()[3..10]);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!((stat.st_size, stat.st_mode), (0, S_IFREG | 0o444));
}

fn descriptors_can_not_be_opened_by_others() {
    need_root();
    let step = shared_word();
    let pid = child(|| until_is(step, 1));
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        let path = |name: &str| std::ffi::CString::new(format!("/proc/{pid}/{name}")).unwrap_or_default();
        fails!(openat(AT_FDCWD, &*path("fd"), O_RDONLY) => EACCES);
        fails!(openat(AT_FDCWD, &*path("environ"), O_RDONLY) => EACCES);
        fails!(readlink(&*path("exe"), &mut [0u8; 64], 64) => EACCES);
        fails!(readlink(&*path("cwd"), &mut [0u8; 64], 64) => EACCES);
        fails!(openat(AT_FDCWD, &*path("mem"), O_RDONLY) => EACCES);
        works!(openat(AT_FDCWD, &*path("stat"), O_RDONLY));
        works!(openat(AT_FDCWD, &*path("cmdline"), O_RDONLY));
    });
    step.store(1, SeqCst);
    join(pid);
}

fn self_is_a_link() {
    let mut stat: stat = zeroed();
    gives!(lstat(c"/proc/self", &mut stat) => 0);
    eq!(stat.st_mode & S_IFMT, S_IFLNK);
    let pid = child(|| {
        let link = std::fs::read_link("/proc/self").unwrap_or_default();
        eq!(link.display().to_string(), process::id().to_string());
    });
    join(pid);
    gives!(stat(c"/proc/self", &mut stat) => 0);
    eq!((stat.st_mode & S_IFMT, stat.st_uid), (S_IFDIR, works!(geteuid()) as u32));
}

fn wchan_and_syscall() {
    let (reader, writer) = pipe();
    let pid = child(|| {
        works!(close(writer));
        let mut byte = [0u8];
        let _ = sys!(read(reader, &mut byte, 1));
    });
    until_asleep(pid);
    match std::fs::read_to_string(format!("/proc/{pid}/syscall")) {
        Ok(text) => is!(text.starts_with(&format!("0 {reader:#x} ")), "read, and its first argument: {text}"),
        Err(_) => skip!("/proc/PID/syscall can't be read"),
    }
    works!(close(writer));
    join(pid);
}

fn dev_directory() {
    for (path, device) in [
        (c"/dev/null", makedev(1, 3)),
        (c"/dev/zero", makedev(1, 5)),
        (c"/dev/full", makedev(1, 7)),
        (c"/dev/random", makedev(1, 8)),
        (c"/dev/urandom", makedev(1, 9)),
        (c"/dev/tty", makedev(5, 0)),
    ] {
        let mut stat: stat = zeroed();
        gives!(stat(path, &mut stat) => 0);
        eq!((stat.st_mode & S_IFMT, stat.st_rdev), (S_IFCHR, device));
    }
    let mut statfs: statfs = zeroed();
    gives!(statfs(c"/dev/pts", &mut statfs) => 0);
    eq!(statfs.f_type, 0x1cd1);
}

fn uptime_and_stat() {
    let text = contents("/proc/stat");
    let first: Vec<&str> = text.lines().next().unwrap_or("").split_ascii_whitespace().collect();
    is!(
        first.len() >= 8 && first[0] == "cpu" && first[1..].iter().all(|field| field.parse::<u64>().is_ok()),
        "times of all processors"
    );
    let boot = text.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|time| time.parse::<i64>().ok()).unwrap_or(0);
    let mut now: timespec = zeroed();
    gives!(clock_gettime(CLOCK_REALTIME, &mut now) => 0);
    is!(boot > 0 && boot <= now.tv_sec, "the time of the start");
    is!(contents("/proc/uptime").split_ascii_whitespace().all(|field| field.parse::<f64>().is_ok()), "two numbers");
}

fn cgroup_and_namespaces() {
    is!(contents("/proc/self/cgroup").lines().all(|line| line.splitn(3, ':').count() == 3), "three fields a line");
    for name in ["ipc", "mnt", "net", "pid", "user", "uts"] {
        let text = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default().display().to_string();
        is!(text.starts_with(&format!("{name}:[")) && text.ends_with(']'), "a namespace: {text}");
    }
    let map = contents("/proc/self/uid_map");
    eq!(map.split_ascii_whitespace().count() % 3, 0);
}

fn sys_directory() {
    if !std::path::Path::new("/sys/devices").exists() {
        skip!("no /sys");
    }
    let online = contents("/sys/devices/system/cpu/online");
    is!(online.starts_with('0') && online.ends_with('\n'), "processors from 0 on: {online}");
    is!(std::path::Path::new("/sys/devices/system/cpu/cpu0").exists(), "a directory for each");
}

fn pagemap_needs_rights() {
    let Ok(fd) = sys!(openat(AT_FDCWD, c"/proc/self/pagemap", O_RDONLY)) else { skip!("no pagemap (CONFIG_PROC_PAGE_MONITOR)") };
    let map = pages(2);
    poke(map, 1);
    let mut entries = [0u64; 2];
    gives!(pread64(fd, &mut entries, 16, map / PAGE * 8) => 16);
    // The top bit: present.
    eq!(entries.map(|entry| entry >> 63), [1, 0]);
    fails!(pread64(fd, &mut entries, 7, 0) => EINVAL);
}

fn login_and_sessions() {
    match std::fs::read_to_string("/proc/self/loginuid") {
        Ok(text) => is!(text.parse::<u32>().is_ok(), "a number: {text}"),
        Err(_) => skip!("no loginuid (CONFIG_AUDIT)"),
    }
}

/// `/proc/PID/io` as one call reads it: bytes and calls, each way; and how long the text is.
fn account(path: &str) -> ([u64; 4], u64) {
    let path = std::ffi::CString::new(path).unwrap_or_default();
    let fd = works!(openat(AT_FDCWD, &*path, O_RDONLY));
    let mut buffer = [0u8; 512];
    let count = works!(read(fd, &mut buffer, 512));
    works!(close(fd));
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(u64::MAX)
    };
    (["rchar:", "wchar:", "syscr:", "syscw:"].map(value), count as u64)
}

fn reading_and_writing_is_counted() {
    if !std::path::Path::new("/proc/self/io").exists() {
        skip!("the host doesn't count (CONFIG_TASK_IO_ACCOUNTING)");
    }
    let (fd, ends) = (file(c"file", b""), pipe());
    let mut buffer = [0u8; 200];
    let (before, length) = account("/proc/self/io");
    gives!(write(fd, &buffer, 100) => 100);
    gives!(pwrite64(fd, b"xx", 2, 0) => 2);
    gives!(pread64(fd, &mut buffer, 60, 0) => 60);
    // What isn't open isn't read.
    fails!(read(-1, &mut buffer, 10) => EBADF);
    gives!(write(ends.1, b"1234567", 7) => 7);
    gives!(read(ends.0, &mut buffer, 200) => 7);
    gives!(sendfile(ends.1, fd, 0, 0) => 0);
    gives!(lseek(fd, 0, SEEK_SET) => 0);
    gives!(sendfile(ends.1, fd, 0, 30) => 30);
    let (after, again) = account("/proc/self/io");
    let grown: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // The text of the first time was read, too, and what sendfile moves goes both ways.
    eq!(grown, [60 + 7 + 30 + length, 100 + 2 + 7 + 30, 5, 5]);
    let own = account("/proc/thread-self/io").0;
    is!(own[0] >= after[0] + again && own[1] == after[1], "the only task's are the process's");
    // A child begins with nothing; once it was waited for, its count is its parent's, too.
    let path = format!("/proc/{}/io", works!(getpid()));
    let other = child(|| {
        let first = account("/proc/self/io").0;
        is!(first[1] < after[1], "nothing of its parent's");
        gives!(pwrite64(fd, &[0u8; 1000], 1000, 0) => 1000);
    });
    join(other);
    is!(account(&path).0[1] >= after[1] + 1000, "what the child wrote");
}
