//! `insula run` as a user meets it: what a program finds by default, and what every option changes.

mod support;

use rustix::fs::OFlags;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use support::{World, behind_sentry, bundle, eventually, of_container, output, read, signal, stderr, stdout, told};

/// A script run with these options; what it wrote.
#[track_caller]
fn script(world: &World, options: &[&str], script: &str) -> String {
    world.ok(["run"].iter().chain(options).chain(&["--", "sh", "-c", script]))
}

/// A field of a status file.
fn field<'t>(status: &'t str, name: &str) -> &'t str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

#[test]
fn a_program_has_little_by_default() {
    let Some(world) = World::new() else { return };
    let status = script(&world, &[], "cat /proc/self/status");
    // Docker's without MKNOD, NET_RAW and AUDIT_WRITE.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(&status, set), "00000000800405fb", "{set}");
    }
    assert_eq!((field(&status, "CapInh"), field(&status, "CapAmb")), ("0000000000000000", "0000000000000000"));
    // Behind the sentry, there is no kernel of the host's to be kept from.
    let filters = if behind_sentry() { "0" } else { "2" };
    assert_eq!((field(&status, "Seccomp"), field(&status, "NoNewPrivs")), (filters, "1"));
    assert_eq!(script(&world, &[], "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo\n");
    // IFF_UP | IFF_LOOPBACK.
    assert_eq!(script(&world, &[], "cat /sys/class/net/lo/flags"), "0x9\n");
    assert_eq!(script(&world, &["--name", "island"], "hostname"), "island\n");
    // Its own processes, and the first one that looks after them: behind the sentry that is the kernel's part.
    let first = if behind_sentry() { "sh\n1\n1\n" } else { "insula-init\n2\n2\n" };
    assert_eq!(script(&world, &[], "read name < /proc/1/comm; echo $name; echo $$; set -- /proc/[0-9]*; echo $#"), first);
    assert_eq!(script(&world, &[], "ls -A /run"), "");
}

#[test]
fn what_tells_of_the_host_or_acts_on_it_is_out_of_reach() {
    let Some(world) = World::new() else { return };
    assert_eq!(script(&world, &[], "cat /proc/kcore /proc/timer_list /proc/keys | wc -c; ls -A /sys/firmware"), "0\n");
    for write in [
        "echo h > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/hostname",
        "mkdir /sys/fs/cgroup/mine",
        "mount -t tmpfs x /mnt",
    ] {
        let run = world.output(["run", "--", "sh", "-c", write]);
        assert!(!run.status.success(), "{write}: {}", told(&run));
    }
    let disk = script(&world, &[], "mknod /tmp/disk b 7 0 2>&1; ls /dev | tr '\\n' ' '");
    assert!(disk.contains("not permitted"), "{disk}");
    let devices = disk.lines().last().unwrap();
    assert_eq!(devices.trim(), "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
}

#[test]
fn our_variables_stay_outside_unless_they_are_named() {
    let Some(world) = World::new() else { return };
    let file = world.file("variables", "# a comment\n\nFROM_FILE=1=2\nSECRET\nEMPTY=\nOVER=file\n");
    let file = file.to_str().unwrap();
    let run = |options: &[&str]| {
        let mut command = world.insula(["run"].iter().chain(options).chain(&["--", "env"]));
        let run = output(command.env("SECRET", "s3cret").env("PATH", "/usr/bin:/bin"));
        assert!(run.status.success(), "{}", told(&run));
        stdout(&run).to_owned()
    };
    let plain = run(&[]);
    assert!(!plain.contains("s3cret") && plain.contains("PATH=/usr/bin:/bin\n") && plain.contains("HOME=/root\n"), "{plain}");
    assert!(run(&["-e", "SECRET"]).contains("SECRET=s3cret\n"));
    assert!(!run(&["-e", "NOT_SET_ANYWHERE"]).contains("NOT_SET_ANYWHERE"));
    let all = run(&["--env-file", file, "-e", "OVER=option", "--env", "SPACED=a b"]);
    for line in ["FROM_FILE=1=2\n", "SECRET=s3cret\n", "EMPTY=\n", "OVER=option\n", "SPACED=a b\n"] {
        assert!(all.contains(line), "{line} in {all}");
    }
    let error = world.fails(125, ["run", "-e", "=x", "--", "true"]);
    assert!(error.contains("--env") && error.contains("NAME=VALUE"), "{error}");
    let error = world.fails(125, ["run", "--env-file", "/none/such", "--", "true"]);
    assert!(error.contains("--env-file") && error.contains("/none/such"), "{error}");
}

#[test]
fn where_and_as_whom() {
    let Some(world) = World::new() else { return };
    let root = world.path("root");
    let binds = bundle::rootfs(&root);
    let volumes: Vec<String> = binds.iter().map(|dir| format!("-v{dir}:{dir}:ro")).collect();
    let run = |options: &[&str], text: &str| {
        let mut all = vec!["--rootfs", root.to_str().unwrap()];
        all.extend(volumes.iter().map(String::as_str));
        all.extend(options);
        script(&world, &all, text)
    };
    assert_eq!(run(&[], "pwd; id -u; id -g; echo $HOME"), "/\n0\n0\n/root\n");
    assert_eq!(run(&["-w", "/tmp"], "pwd"), "/tmp\n");
    // As with runc: a working directory that isn't there is made.
    assert_eq!(run(&["-w", "/var/made"], "pwd"), "/var/made\n");
    assert_eq!(run(&["-u", "web"], "id -u; id -g; id -G; echo $HOME"), "33\n34\n34 99\n/var\n");
    assert_eq!(run(&["-u", "web:extra"], "id -u; id -g"), "33\n99\n");
    assert_eq!(run(&["--user", "1234:5678"], "id -u; id -g; echo $HOME"), "1234\n5678\n/\n");
    assert_eq!(
        run(&["--user", "1234"], "grep Cap /proc/self/status | sort -u -k2 | cut -f2"),
        "0000000000000000\n00000000800405fb\n"
    );
    assert_eq!(run(&["--hostname", "elsewhere"], "hostname"), "elsewhere\n");
    assert_eq!(run(&["--entrypoint", "/usr/bin/echo"], "x"), "sh -c x\n");
    // A root of one's own is written to.
    run(&[], "echo kept > /tmp/file");
    assert_eq!(read(root.join("tmp/file")), "kept\n");
    assert!(!run(&["--read-only"], "touch /tmp/x 2>&1 || true; touch /dev/shm/works").is_empty());

    let fail = |code, options: &[&str]| {
        let rootfs = ["run", "--rootfs", root.to_str().unwrap(), "-v/usr:/usr:ro"];
        world.fails(code, rootfs.iter().chain(options).chain(&["--", "/bin/true"]))
    };
    let error = fail(125, &["-u", "nobody-here"]);
    assert!(error.contains("nobody-here") && error.contains("/etc/passwd"), "{error}");
    let error = fail(125, &["-u", "web:nogroup-here"]);
    assert!(error.contains("nogroup-here") && error.contains("/etc/group"), "{error}");
    let error = fail(125, &["-w", "relative"]);
    assert!(error.contains("--workdir") && error.contains("absolute"), "{error}");
    let error = fail(125, &["-w", "/etc/passwd"]);
    assert!(error.contains("/etc/passwd") && error.contains("directory"), "{error}");
    let error = world.fails(125, ["run", "--rootfs", "/none/such", "--", "true"]);
    assert!(error.contains("--rootfs") && error.contains("/none/such"), "{error}");
}

#[test]
fn the_hosts_files_are_seen_and_stay_as_they_are() {
    let Some(world) = World::new() else { return };
    let file = world.file("here", "before\n");
    let written = script(&world, &[], "cat here; echo after > here; cat here; touch new; ls");
    assert!(written.starts_with("before\nafter\n") && written.contains("new\n"), "{written}");
    assert_eq!(read(&file), "before\n");
    assert!(!world.path("new").exists());
    let denied = script(&world, &["--read-only"], "echo x > here || echo denied; rm here || echo denied");
    assert_eq!(denied, "denied\ndenied\n");
    // Owners and modes are the host's, and /tmp is the one that is there.
    let stat = script(&world, &[], "stat -c '%u %a' /etc/shadow; ls -d \"$PWD\"");
    let shadow = std::fs::metadata("/etc/shadow").unwrap();
    assert_eq!(
        stat,
        format!(
            "{} {:o}\n{}\n",
            shadow.uid(),
            shadow.permissions().mode() & 0o7777,
            world.path("").to_str().unwrap().trim_end_matches('/')
        )
    );
}

#[test]
fn files_of_the_host_are_bound() {
    let Some(world) = World::new() else { return };
    let shared = world.directory("shared");
    let file = world.file("shared/file", "text\n");
    let at = |options: &str| format!("{}:/mnt/deep/place{options}", shared.display());
    assert_eq!(script(&world, &["-v", &at("")], "cat /mnt/deep/place/file; echo x > /mnt/deep/place/made"), "text\n");
    assert_eq!(read(shared.join("made")), "x\n");
    assert!(script(&world, &["-v", &at(":ro")], "echo y > /mnt/deep/place/file || echo denied").ends_with("denied\n"));
    assert_eq!(read(&file), "text\n");
    // A relative path, and a single file.
    assert_eq!(script(&world, &["-v", "./shared:/mnt/s"], "ls /mnt/s"), "file\nmade\n");
    assert_eq!(script(&world, &["-v", "./shared/file:/etc/one"], "cat /etc/one"), "text\n");
    let mount = "type=bind,source=shared,target=/mnt/m,readonly";
    assert_eq!(
        script(&world, &["--mount", mount], "ls /mnt/m; touch /mnt/m/x 2>/dev/null || echo denied"),
        "file\nmade\ndenied\n"
    );
    // Neither device nodes nor set-user-ID programs come in.
    let attributes = script(&world, &["-v", "./shared:/mnt/s"], "grep ' /mnt/s ' /proc/self/mountinfo");
    assert!(attributes.contains("nosuid") && attributes.contains("nodev"), "{attributes}");

    for (option, value, word) in [
        ("-v", "name:/x", "no named volumes"),
        ("-v", "/none/such:/x", "/none/such"),
        ("-v", "/tmp:/x:bogus", "bogus"),
        ("-v", "/tmp:relative", "absolute"),
        ("-v", "/tmp:/", "--rootfs"),
        ("--mount", "type=bind,source=/tmp", "target"),
        ("--mount", "type=bind,target=/x", "source"),
        ("--mount", "type=other,target=/x", "neither bind nor tmpfs"),
        ("--mount", "type=bind,source=/tmp,target=/x,sauce=1", "sauce"),
    ] {
        let error = world.fails(125, ["run", option, value, "--", "true"]);
        assert!(error.contains(word) && error.contains(if option == "-v" { "--volume" } else { option }), "{value}: {error}");
    }
}

#[test]
fn memory_can_be_mounted() {
    let Some(world) = World::new() else { return };
    let mounts = script(&world, &["--tmpfs", "/mnt/t:size=64k,mode=700"], "stat -c %a /mnt/t; grep ' /mnt/t ' /proc/mounts");
    assert!(mounts.starts_with("700\n") && mounts.contains("size=64k") && mounts.contains("noexec"), "{mounts}");
    let exec = script(&world, &["--tmpfs", "/mnt/t:exec"], "cp /bin/true /mnt/t && /mnt/t/true && echo ran");
    assert_eq!(exec, "ran\n");
    let mount = "type=tmpfs,target=/mnt/m,tmpfs-size=1m,tmpfs-mode=1770";
    let sizes = script(&world, &["--mount", mount], "stat -c %a /mnt/m; grep ' /mnt/m ' /proc/mounts");
    assert!(sizes.starts_with("1770\n") && sizes.contains("size=1024k"), "{sizes}");
}

#[test]
fn limits_of_a_process() {
    let Some(world) = World::new() else { return };
    let limits = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "stack=unlimited"];
    let text = script(&world, &limits, "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -s");
    assert_eq!(text, "100\n200\n0\nunlimited\n");
    for (value, word) in [("nofile", "SOFT"), ("nofile=2:1", "above"), ("nonsense=1", "nonsense")] {
        let error = world.fails(125, ["run", "--ulimit", value, "--", "true"]);
        assert!(error.contains("ulimit") && error.contains(word), "{error}");
    }
}

#[test]
fn capabilities_come_and_go() {
    let Some(world) = World::new() else { return };
    let effective = |options: &[&str]| script(&world, options, "grep CapEff /proc/self/status | cut -f2").trim().to_owned();
    assert_eq!(effective(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(effective(&["--cap-drop", "all", "--cap-add", "CAP_NET_BIND_SERVICE"]), "0000000000000400");
    assert_eq!(effective(&["--cap-add", "net_admin"]), "00000000800415fb");
    assert_eq!(effective(&["--cap-drop", "CHOWN", "--cap-drop", "KILL"]), "00000000800405da");
    let error = world.fails(125, ["run", "--cap-add", "EVERYTHING", "--", "true"]);
    assert!(error.contains("--cap-add") && error.contains("EVERYTHING"), "{error}");
    // A capability brings the calls that are useless without it.
    let mounted = script(&world, &["--cap-add", "SYS_ADMIN"], "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/mounts");
    assert_eq!(mounted, "1\n");
}

#[test]
fn security_options() {
    let Some(world) = World::new() else { return };
    let status = |options: &[&str]| {
        let text = script(&world, options, "cat /proc/self/status");
        (field(&text, "Seccomp").to_owned(), field(&text, "NoNewPrivs").to_owned())
    };
    // The default policy is about the host's kernel.
    let default = if behind_sentry() { "0" } else { "2" };
    let is = |seccomp: &str, privileges: &str| (seccomp.to_owned(), privileges.to_owned());
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"]), is("0", "1"));
    assert_eq!(status(&["--security-opt", "no-new-privileges=false"]), is(default, "0"));
    assert_eq!(status(&["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"]), is("0", "1"));
    let policy = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    let file = format!("seccomp={}", world.file("policy.json", policy).display());
    assert!(script(&world, &["--security-opt", &file], "mkdir /tmp/x 2>&1 || true").contains("not implemented"));
    let module = if behind_sentry() { "apparmorProfile" } else { "AppArmor" };
    for (value, word) in [("seccomp=/none/such", "/none/such"), ("bogus=1", "bogus"), ("apparmor=profile", module)] {
        let error = world.fails(125, ["run", "--security-opt", value, "--", "true"]);
        assert!(error.contains(word), "{value}: {error}");
    }
}

#[test]
fn the_default_policy_refuses_what_leads_out() {
    let Some(world) = World::new() else { return };
    let refused = |what: &str| {
        let run = world.output(["run", "--", "sh", "-c", what]);
        assert!(!run.status.success(), "{what}: {}", told(&run));
        format!("{}{}", stdout(&run), stderr(&run))
    };
    // Namespaces of users are the sentry's own, and give nothing outside of themselves.
    if behind_sentry() {
        assert_eq!(script(&world, &[], "unshare -Ur id -u"), "0\n");
        assert!(refused("unshare -Ur date -s 2000-01-01").contains("not permitted"));
    } else {
        assert!(refused("unshare -U true").contains("not permitted"));
    }
    assert!(refused("unshare -m true").contains("not permitted"));
    assert!(refused("dmesg").contains("not permitted"));
    assert!(refused("date -s 2000-01-01").contains("not permitted"));
    assert!(refused("chroot /usr/none true").contains("No such file"), "chroot is a default capability");
}

#[test]
fn the_hosts_network_is_there_when_asked_for() {
    let Some(world) =
        World::new().filter(|_| of_container("namespaces have no names; tests/sentry_network.rs is about the network"))
    else {
        return;
    };
    let inside = script(&world, &["--network", "host"], "readlink /proc/self/ns/net");
    assert_eq!(inside.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    let inside = script(&world, &["--network", "none"], "readlink /proc/self/ns/net");
    assert_ne!(inside.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    // An address of one's own machine answers there.
    let echo = "exec 3<>/dev/udp/127.0.0.1/9 && echo up";
    assert_eq!(world.ok(["run", "--", "bash", "-c", echo]), "up\n");
}

#[test]
fn devices_are_let_in_one_by_one() {
    let Some(world) = World::new() else { return };
    let fuse = ["--device", "/dev/full:/dev/other:r"];
    assert_eq!(script(&world, &fuse, "head -c2 /dev/other | wc -c; (echo x > /dev/other) 2>/dev/null || echo no"), "2\nno\n");
    assert_eq!(script(&world, &["--device", "/dev/zero:/dev/deep/zero"], "head -c3 /dev/deep/zero | wc -c"), "3\n");
    for (value, word) in [
        ("/none/such", "/none/such"),
        ("/etc/passwd", "no device"),
        ("/dev/null:relative", "absolute"),
        ("/dev/null:/x:q", "rwm"),
    ] {
        let error = world.fails(125, ["run", "--device", value, "--", "true"]);
        assert!(error.contains("--device") && error.contains(word), "{error}");
    }
}

#[test]
fn descriptors_and_numbers_for_programs_that_call_us() {
    let Some(world) = World::new() else { return };
    let insula = world.words().join(" ");
    let call = |options: &str, inner: &str| {
        let line = format!("exec 3<policy 4<policy; exec {insula} run {options} -- sh -c '{inner}'");
        let mut command = std::process::Command::new("sh");
        output(command.args(["-c", &line]).current_dir(world.path("")))
    };
    world.file("policy", "from three\n");
    let closed = call("", "cat <&3");
    assert!(
        !closed.status.success() && stderr(&closed).contains("Bad file descriptor") || stderr(&closed).contains("bad fd"),
        "{}",
        told(&closed)
    );
    let open = call("--preserve-fds 1", "cat <&3; ls /proc/self/fd | tr \"\\n\" \" \"");
    assert_eq!(stdout(&open), "from three\n0 1 2 3 4 ", "the last is ls's own");
    let pid = world.path("pid");
    world.ok(["run", "-d", "--name", "known", "--pid-file", pid.to_str().unwrap(), "--", "sleep", "1000"]);
    assert_eq!(read(&pid), world.state("known")["pid"].to_string());
    let missing = world.fails(125, ["run", "--preserve-fds", "5", "--", "true"]);
    assert!(missing.contains("--preserve-fds"), "{missing}");
}

#[test]
fn the_life_of_a_program_in_the_background() {
    let Some(world) = World::new() else { return };
    let said = world.ok(["run", "-d", "--name", "web", "--", "sh", "-c", "echo out; echo err >&2; while sleep 0.1; do :; done"]);
    assert_eq!(said, "web\n");
    eventually("the output", || world.ok(["logs", "web"]) == "out\nerr\n");
    let state = world.state("web");
    assert_eq!((&state["status"], &state["id"]), (&"running".into(), &"web".into()));
    assert!(world.ok(["list"]).lines().any(|line| line.starts_with("web ") && line.contains("running")));
    assert_eq!(world.ok(["list", "-q"]), "web\n");
    let list: serde_json::Value = serde_json::from_str(&world.ok(["list", "--format", "json"])).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["pid"]), (&"web".into(), &state["pid"]));
    let first = if behind_sentry() { "sh\n" } else { "insula-init\n" };
    assert_eq!(world.ok(["exec", "web", "cat", "/proc/1/comm"]), first);
    assert_eq!(world.output(["exec", "web", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let error = world.fails(125, ["run", "--name", "web", "--", "true"]);
    assert!(error.contains("web exists") || error.contains("named web exists"), "{error}");
    let error = world.fails(1, ["delete", "web"]);
    assert!(error.contains("running") && error.contains("--force"), "{error}");
    world.ok(["kill", "web", "TERM"]);
    world.until("web", "stopped");
    eventually("the exit code", || world.state("web")["exitCode"] == 143);
    assert_eq!(world.ok(["logs", "web"]), "out\nerr\n");
    let error = world.fails(125, ["exec", "web", "true"]);
    assert!(error.contains("web is stopped"), "{error}");
    let error = world.fails(1, ["kill", "web"]);
    assert!(error.contains("web is stopped"), "{error}");
    world.ok(["delete", "web"]);
    let error = world.fails(1, ["state", "web"]);
    assert!(error.contains("named web does not exist"), "{error}");
    assert_eq!(world.ok(["list", "-q"]), "");
}

#[test]
fn a_background_program_is_removed_when_that_was_asked() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--rm", "--name", "short", "--", "sleep", "0.3"]);
    eventually("its end", || world.ok(["list", "-q"]).is_empty());
    // What can't be run is told at once, and leaves nothing.
    let error = world.fails(127, ["run", "-d", "--name", "none", "--", "no-such-program"]);
    assert!(error.contains("no-such-program"), "{error}");
    let error = world.fails(126, ["run", "-d", "--name", "none", "--", "/etc/passwd"]);
    assert!(error.contains("/etc/passwd"), "{error}");
    assert_eq!(world.ok(["list", "-q"]), "");
}

#[test]
fn a_background_programs_input() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "closed", "--", "sh", "-c", "cat; echo end"]);
    eventually("the end of no input", || world.ok(["logs", "closed"]) == "end\n");
    world.ok(["run", "-di", "--name", "open", "--", "sh", "-c", "cat; echo end"]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!((world.ok(["logs", "open"]), world.state("open")["status"].clone()), (String::new(), "running".into()));
    world.ok(["run", "-dt", "--name", "terminal", "--", "sh", "-c", "tty; test -t 0 && echo yes"]);
    eventually("a terminal", || world.ok(["logs", "terminal"]).replace('\r', "") == "/dev/pts/0\nyes\n");
}

#[test]
fn a_background_program_outlives_who_started_it() {
    let Some(world) = World::new() else { return };
    let line = format!("{} run -d --name lives -- sleep 1000; kill -HUP 0", world.words().join(" "));
    let mut command = std::process::Command::new("setsid");
    output(command.args(["-w", "sh", "-c", &line]).current_dir(world.path("")));
    assert_eq!(world.state("lives")["status"], "running");
    // The pipe it was started from is closed: nobody waits for it for ever.
    signal("TERM", &world.state("lives")["pid"]);
    world.until("lives", "stopped");
}

#[test]
fn words_that_make_no_sense_are_refused() {
    let Some(world) = World::new() else { return };
    let bundle = bundle::Bundle::new(&world, "bundle", &["true"]);
    let error = world.fails(125, ["run"]);
    assert!(error.contains("insula run -- ls -l"), "{error}");
    let error = world.fails(125, ["run", "--bundle", bundle.dir(), "one", "two"]);
    assert!(error.contains("config.json"), "{error}");
    let error = world.fails(125, ["run", "--name", "../x", "--", "true"]);
    assert!(error.contains("../x"), "{error}");
    let output = world.output(["run", "--bundle", bundle.dir(), "-e", "A=B"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[test]
fn a_bundle_runs_as_it_says() {
    let Some(world) = World::new() else { return };
    let bundle = bundle::Bundle::script(&world, "bundle", "cat /proc/1/comm; hostname; exit 9").with(|config| {
        config["hostname"] = "of-the-bundle".into();
    });
    let run = world.output(["run", "--bundle", bundle.dir(), "name"]);
    assert_eq!((run.status.code(), stdout(&run)), (Some(9), "sh\nof-the-bundle\n"), "{}", told(&run));
    assert_eq!(world.ok(["list", "-q"]), "");
    let here = output(world.insula(["run", "-b", "."]).current_dir(&bundle.path));
    assert_eq!(here.status.code(), Some(9), "{}", told(&here));
    let error = world.fails(125, ["run", "--bundle", "/none/such", "x"]);
    assert!(error.contains("/none/such"), "{error}");
}

#[test]
fn a_root_that_is_open_elsewhere_stays_out() {
    let Some(world) = World::new() else { return };
    // A working directory reached through a descriptor of ours would be outside (CVE-2024-21626).
    let dir = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for number in 3..12 {
        let run = world.output(["run", "-w", &format!("/proc/self/fd/{number}"), "--", "ls"]);
        assert_eq!(run.status.code(), Some(125), "{}", told(&run));
    }
    drop(dir);
}
