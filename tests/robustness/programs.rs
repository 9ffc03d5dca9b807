//! What a program can't do behind `insula run` without options. Each attempt is made a second time with all capabilities and no
//! filter: then the kernel must answer otherwise, or the attempt shows nothing.

use super::support::bundle::Bundle;
use super::support::pty::Terminal;
use super::support::{World, ended, eventually, output, program, read, stdout, told, weakened};
use std::collections::BTreeMap;
use std::process::Command;

/// Name, number and arguments. The arguments are such that even who may call changes nothing by it.
const CALLS: &[(&str, &str)] = &[
    ("mount", "165, 0, 0, 0, 0, 0"),
    ("umount2", "166, 0, 0"),
    ("pivot_root", "155, 0, 0"),
    ("fsopen", "430, 0, 0"),
    ("open_tree", "428, -1, 0, 1"),
    ("move_mount", "429, -1, 0, -1, 0, 0"),
    ("mount_setattr", "442, -1, 0, 0, 0, 0"),
    ("clone3", "435, 0, 0"),
    ("setns", "308, -1, 0"),
    ("keyctl", "250, 0, -3, 0"),
    ("add_key", "248, 0, 0, 0, 0, 0"),
    ("request_key", "249, 0, 0, 0, 0"),
    ("bpf", "321, 0, 0, 0"),
    ("perf_event_open", "298, 0, 0, -1, -1, 0"),
    ("io_uring_setup", "425, 0, 0"),
    ("userfaultfd", "323, -1"),
    // More segments than there can be.
    ("kexec_load", "246, 0, 17, 0, 0"),
    ("init_module", "175, 0, 0, 0"),
    ("finit_module", "313, -1, 0, 0"),
    ("delete_module", "176, 0, 0"),
    ("open_by_handle_at", "304, -1, 0, 0"),
    ("a socket AF_VSOCK", "41, 40, 1, 0"),
    ("a socket AF_PACKET", "41, 17, 3, 0"),
    ("a socket AF_ALG", "41, 38, 5, 0"),
    ("a raw socket", "41, 2, 3, 1"),
    // Without its magic number.
    ("reboot", "169, 0, 0, 0, 0"),
    ("swapon", "167, 0, 0"),
    ("settimeofday", "164, 0, 0"),
    ("clock_settime", "227, 0, 0"),
    ("sethostname", "170, 0, 1"),
    ("iopl", "172, 0"),
    ("personality", "135, 0x400000"),
    // PTRACE_SEIZE: the first process, which isn't the program's own.
    ("ptrace of another", "101, 0x4206, 1, 0, 0"),
    ("mknod", "133, $node, 020600, 0x103"),
    ("TIOCSTI", "16, 0, 0x5412, $key"),
    // CVE-2019-10063: the kernel looks at 32 bits of it.
    ("TIOCSTI with more bits", "16, 0, 0x100005412, $key"),
    ("TIOCLINUX", "16, 0, 0x541c, $key"),
    ("unshare of a mount namespace", "272, 0x20000"),
    // The last, as who is in one has no rights outside it.
    ("unshare of a user namespace", "272, 0x10000000"),
];

/// What comes of each call, by name: 0 or the error's number.
fn attempts(world: &World, options: &[&str]) -> BTreeMap<String, i32> {
    let calls: String = CALLS
        .iter()
        .map(|(name, args)| format!("$! = 0; my $r = syscall({args}); print \"{name}=\", $r == -1 ? $! + 0 : 0, \"\\n\";\n"))
        .map(|line| format!("{{ {line} }}\n"))
        .collect();
    let mut args = vec!["run"];
    args.extend(options);
    let calls = format!("my ($key, $node) = ('x', '/tmp/node');\n{calls}");
    args.extend(["--", "perl", "-e", &calls]);
    let text = world.ok(args);
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, errno)| (name.into(), errno.parse().unwrap())).collect()
}

#[test]
fn calls_that_lead_out() {
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    let Some(world) = World::new() else { return };
    let all = attempts(&world, &["--security-opt", "seccomp=unconfined", "--cap-add", "ALL"]);
    let few = attempts(&world, &[]);
    assert_eq!((few.len(), all.len()), (CALLS.len(), CALLS.len()));
    for (name, _) in CALLS {
        let (with, without) = (all[*name], few[*name]);
        let refused = [EPERM, ENOSYS, 97].contains(&without);
        assert!(refused, "{name}: errno {without}");
        // A kernel without it, or one that is set to refuse it to all, shows nothing.
        if with == without {
            eprintln!("{name}: errno {with} also for who may do all: shows nothing here");
            assert!(!CERTAIN.contains(name), "{name}: errno {with} also for who may do all");
        }
    }
}

/// Calls that every kernel we run on has.
const CERTAIN: &[&str] = &[
    "mount",
    "unshare of a user namespace",
    "setns",
    "open_by_handle_at",
    "a raw socket",
    "ptrace of another",
    "mknod",
    "reboot",
    "settimeofday",
    "TIOCSTI",
    "TIOCSTI with more bits",
    "bpf",
];

/// A namespace made by clone(2) itself; and that plain processes can still be made.
#[test]
fn namespaces_by_clone() {
    let Some(world) = World::new() else { return };
    let script = "for my $f (0, 0x10000000, 0x20000000, 0x40000000, 0x20000) { my $r = syscall(56, $f | 17, 0, 0, 0, 0); \
        if ($r == 0) { syscall(231, 0) } print $r > 0 ? 'made ' : 'refused '; }";
    let run = |options: &[&str]| world.ok([&["run"][..], options, &["--", "perl", "-e", script]].concat());
    assert_eq!(run(&[]), "made refused refused refused refused ");
    assert_eq!(run(&["--security-opt", "seccomp=unconfined", "--cap-add", "ALL"]), "made made made made made ");
}

#[test]
fn files_that_act_on_the_host() {
    let Some(world) = World::new() else { return };
    let kernel = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/swappiness",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/ksm/run",
        "/sys/power/state",
        "/proc/irq/default_smp_affinity",
    ];
    for path in kernel.into_iter().filter(|path| std::fs::OpenOptions::new().write(true).open(path).is_ok()) {
        // Opening is enough: nothing is written by who may.
        let run = world.output(["run", "--", "sh", "-c", &format!(": >> {path}")]);
        assert!(!run.status.success(), "{path}: {}", told(&run));
    }
    // CVE-2022-0492.
    let agent = "find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -writable | head -n 3; \
        mkdir /tmp/c && mount -t cgroup -o devices c /tmp/c && echo mounted; :";
    assert_eq!(world.ok(["run", "--", "sh", "-c", agent]), "");
    // Its own groups, too, are there to be looked at.
    let own = "cd /sys/fs/cgroup && find . -name cgroup.procs | grep -q . && echo seen; find . -type f -writable | head -n 3";
    let bundle = Bundle::script(&world, "groups", own);
    assert_eq!(world.ok(["run", "--bundle", bundle.dir()]), "seen\n");
    // The same in a user namespace of the program's own, in which it may mount.
    let own = "mkdir /tmp/c; unshare --user --map-root-user --cgroup --mount mount -t cgroup -o devices c /tmp/c 2>/dev/null && echo mounted; :";
    assert_eq!(world.ok(["run", "--", "sh", "-c", own]), "");
}

#[test]
fn the_hosts_files_stay_as_they_are() {
    let Some(world) = World::new() else { return };
    let (file, gone) = (world.file("file", "of the host\n"), world.file("gone", "of the host\n"));
    let (file_text, gone_text) = (file.display(), gone.display());
    let script = format!(
        "cat {file_text}; echo inside > {file_text}; rm {gone_text}; chmod 0 {file_text}; cat {file_text}; \
        ls {gone_text} 2>/dev/null; echo x > /usr/new-file; ls /usr/new-file; ln -sf /bin/false /bin/true; rm -rf /etc; ls -d /etc"
    );
    let run = world.output(["run", "--", "sh", "-c", &script]);
    assert_eq!(stdout(&run), "of the host\ninside\n/usr/new-file\n", "{}", told(&run));
    assert_eq!((read(&file), read(&gone)), ("of the host\n".into(), "of the host\n".into()));
    assert!(!std::path::Path::new("/usr/new-file").exists() && std::path::Path::new("/etc/passwd").exists());
    assert!(Command::new("/bin/true").status().unwrap().success());
}

/// CVE-2017-5226: keys typed into the terminal by the program, for the shell to read.
#[test]
fn keys_typed_for_the_caller() {
    let Some(world) = World::new() else { return };
    let types = "for my $c (split //, qq(: typed\\n)) { ioctl(STDIN, 0x5412, $c) or do { print qq(refused: $!\\n); last } }";
    world.file("types.pl", types);
    let mut terminal = Terminal::new(&world);
    let control = terminal.command("perl types.pl");
    let possible = !control.contains("refused");
    if possible {
        // The shell runs what was typed, and shows its prompt once more.
        terminal.expect("ready> ");
    }
    let said = terminal.command("insula run -- perl types.pl");
    assert!(said.contains("refused: Operation not permitted"), "{said}");
    let after = terminal.command("echo done");
    assert_eq!(after, "done\n", "something was typed ahead (possible outside: {possible})");
    terminal.exit();
}

/// CVE-2019-5736: our program file, through a process of ours that enters the container. A copy of ours is what is at stake.
#[test]
fn our_program_file_stays_as_it_is() {
    let Some(world) = World::new() else { return };
    let copy = world.path("copy");
    std::fs::copy(program(), &copy).unwrap();
    let ours = std::fs::read(&copy).unwrap();
    // Takes hold of the program of each new process, and writes to it once it can: when none runs it any more. So none of ours stays with it.
    let grab = r#"$| = 1; my (%seen, @held); print "ready\n"; while (1) {
        for my $p (glob '/proc/[0-9]*') { next if $p eq "/proc/$$"; my $l = readlink "$p/exe" // next; next if $seen{"$p$l"}++;
            open my $f, '<', "$p/exe" or next; push @held, $f if $l =~ /copy|victim/; }
        for my $f (@held) { if (open my $w, '+<', '/proc/self/fd/' . fileno $f) { syswrite $w, 'X'; print "wrote\n"; } } }"#;
    let call = |args: &[&str]| {
        let mut command = Command::new(&copy);
        output(command.arg("--root").arg(world.store()).args(args).stdin(std::process::Stdio::null()))
    };
    // A program in the container that is ours is to be as weak as we are.
    let variables: Vec<_> = weakened().map(|(name, value)| format!("--env={name}={}", value.display())).into_iter().collect();
    let variables: Vec<_> = variables.iter().map(String::as_str).collect();
    for more in [&[][..], &["CAP_SYS_PTRACE"]] {
        let name = super::id(&world, &format!("grab{}", more.len()));
        let bundle = Bundle::new(&world, &name, &["perl", "-e", grab]).with(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().extend(more.iter().map(|&name| name.into()));
            }
        });
        std::fs::copy("/bin/true", bundle.inside("victim")).unwrap();
        let said = world.path("said");
        let mut create = world.insula(["create", "--bundle", bundle.dir(), &name]);
        create.stdout(std::fs::File::create(&said).unwrap());
        assert!(ended(&mut create.spawn().unwrap()).success());
        world.ok(["start", &name]);
        eventually("the attacker is ready", || read(&said).contains("ready"));
        for _ in 0..15 {
            assert!(call(&["exec", &name, "true"]).status.success());
            call(&[&["exec"][..], &variables, &[&name, "/proc/self/exe", "doctor"]].concat());
        }
        assert!(std::fs::read(&copy).unwrap() == ours, "{more:?}: our program was written to");
        // The control: a program of the image that is added in the same way is written to.
        eventually("the attacker gets hold of another program", || {
            call(&["exec", &name, "/victim"]);
            read(&said).contains("wrote")
        });
        assert!(std::fs::read(&copy).unwrap() == ours, "{more:?}: our program was written to");
        world.ok(["delete", "--force", &name]);
    }
}

/// The session keyring of the caller holds tickets and passwords; a program with its own, and those added to it, see that one.
#[test]
fn the_callers_keys_are_out_of_reach() {
    let Some(world) = World::new() else { return };
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING)
    let script = "print syscall(250, 0, -3, 0), \"\\n\"";
    let open = ["--security-opt", "seccomp=unconfined"];
    let inside = |more: &[&str]| world.ok([&["run"][..], &open, more, &["--", "perl", "-e", script]].concat());
    let (own, shared) = (inside(&[]), inside(&["--no-new-keyring"]));
    assert!(own.trim().parse::<i64>().unwrap() > 0, "{own:?}");
    assert_eq!(shared, inside(&["--no-new-keyring"]), "the caller's is the same for all");
    assert_ne!(own, shared);
    world.ok([
        &["run", "-d", "--name", "keys"][..],
        &open,
        &["--", "perl", "-e", "print syscall(250, 0, -3, 0); $| = 1; print \"\\n\"; sleep 1000"],
    ]
    .concat());
    eventually("its keyring", || world.ok(["logs", "keys"]).ends_with('\n'));
    assert_eq!(world.ok(["exec", "keys", "perl", "-e", script]), world.ok(["logs", "keys"]), "who is added has the same");
}
