//! The verbs of the OCI runtime specification with runc's command lines. Where runc is installed it is the control: the same bundle,
//! the same calls, and what can be seen of them must be the same.

mod support;

use rustix::fd::OwnedFd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use support::bundle::Bundle;
use support::runtime::{Runtime, alike};
use support::{World, behind_sentry, ended, eventually, of_container, output, read, stderr, told};

#[test]
fn a_life_in_calls() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]);
    alike(&world, |runtime| {
        let mut seen = Vec::new();
        let mut call = |args: &[&str]| {
            let code = runtime.run(args).status.code();
            seen.push((args.join(" "), code, runtime.status("c")));
        };
        for args in [
            &["start", "c"][..],
            &["create", "-b", bundle.dir(), "c"],
            &["create", "-b", bundle.dir(), "c"],
            &["exec", "c", "true"],
            &["resume", "c"],
            &["start", "c"],
            &["start", "c"],
            &["exec", "c", "sh", "-c", "exit 7"],
            &["delete", "c"],
            &["pause", "c"],
            &["pause", "c"],
            &["delete", "c"],
            &["resume", "c"],
            &["resume", "c"],
            &["kill", "c", "0"],
            &["kill", "c", "NONSENSE"],
            &["kill", "c", "SIGKILL"],
        ] {
            call(args);
        }
        runtime.until("c", "stopped");
        for args in [
            &["kill", "c", "TERM"][..],
            &["start", "c"],
            &["pause", "c"],
            &["resume", "c"],
            &["ps", "c"],
            &["delete", "c"],
            &["delete", "c"],
        ] {
            call(args);
        }
        call(&["delete", "--force", "c"]);
        call(&["kill", "c"]);
        seen
    });
}

#[test]
fn what_programs_that_drive_runc_look_for_in_its_errors() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["true"]);
    let ours = &Runtime::all(&world)[0];
    // The shim of containerd takes the errors apart by these words.
    assert!(stderr(&ours.run(&["state", "c"])).contains("does not exist"));
    ours.ok(&["create", "-b", bundle.dir(), "c"]);
    ours.ok(&["start", "c"]);
    ours.until("c", "stopped");
    assert!(stderr(&ours.run(&["kill", "c", "9"])).contains("container not running"));
    ours.ok(&["delete", "c"]);
    // And docker and podman the exit codes 127 and 126.
    let mut bundle = bundle;
    for (program, words) in [
        ("nosuch", "\"nosuch\": executable file not found in $PATH"),
        ("/no/such", "/no/such: no such file or directory"),
        ("/etc/passwd", "/etc/passwd: permission denied"),
    ] {
        bundle = bundle.with(|config| config["process"]["args"] = json!([program]));
        let failed = stderr(&ours.run(&["create", "-b", bundle.dir(), "c"])).to_owned();
        assert!(failed.contains(words), "{failed}");
    }
}

/// It may be found before the caller has said all that it has to say.
#[test]
fn what_is_wrong_with_an_added_program_is_told_each_time() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]);
    let ours = &Runtime::all(&world)[0];
    ours.ok(&["run", "-d", "-b", bundle.dir(), "c"]);
    for _ in 0..50 {
        let failed = ours.run(&["exec", "c", "nosuch"]);
        assert!(stderr(&failed).contains("executable file not found in $PATH"), "{}", told(&failed));
    }
    ours.ok(&["delete", "--force", "c"]);
}

#[test]
fn a_policy_holds_for_another_user_who_may_gain_privileges() {
    let Some(world) = World::new().filter(|_| of_container("a policy isn't applied")) else { return };
    let bundle =
        Bundle::script(&world, "bundle", "id -u; grep -E '^(NoNewPrivs|CapEff|Seccomp):' /proc/self/status").with(|config| {
            config["process"]["user"] = json!({"uid": 33, "gid": 34});
            config["process"]["noNewPrivileges"] = false.into();
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        });
    alike(&world, |runtime| runtime.ok(&["run", "-b", bundle.dir(), "c"]));
}

#[test]
fn the_state_has_runcs_fields() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(|config| {
        config["annotations"] = json!({"org.example.key": "value"});
    });
    alike(&world, |runtime| {
        let pid_file = world.path("pid");
        runtime.ok(&["create", "--bundle", bundle.dir(), "--pid-file", pid_file.to_str().unwrap(), "c"]);
        let mut state: Value = serde_json::from_str(&runtime.ok(&["state", "c"])).unwrap();
        assert_eq!(read(&pid_file), state["pid"].to_string());
        assert!(state["created"].as_str().unwrap().starts_with("20") && state["created"].as_str().unwrap().ends_with('Z'));
        assert_eq!(state["id"], runtime.id.as_str());
        for changing in ["pid", "created", "ociVersion", "owner", "id"] {
            assert!(!state[changing].is_null(), "{changing}");
            state.as_object_mut().unwrap().remove(changing);
        }
        let list: Value = serde_json::from_str(&runtime.ok(&["list", "--format", "json"])).unwrap();
        assert_eq!((list[0]["id"].clone(), list.as_array().unwrap().len()), (runtime.id.clone().into(), 1));
        assert_eq!(runtime.ok(&["list", "--quiet"]), format!("{}\n", runtime.id));
        runtime.ok(&["delete", "--force", "c"]);
        state
    });
}

#[test]
fn processes_are_listed() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::script(&world, "bundle", "sleep 1000 & exec sleep 1000");
    alike(&world, |runtime| {
        runtime.ok(&["create", "-b", bundle.dir(), "c"]);
        runtime.ok(&["start", "c"]);
        // Behind the sentry the processes aren't the host's, and ps(1) sees none of them.
        let ours = behind_sentry() && runtime.name == "insula";
        let (options, word) = if ours { (&[][..], 6) } else { (&["-o", "pid,comm"][..], 1) };
        let mut seen = Vec::new();
        // A new process is its maker's program until it has called execve(2).
        eventually("two processes", || {
            let table = runtime.ok(&[&["ps", "c"], options].concat());
            seen = table.lines().skip(1).map(|line| line.split_whitespace().nth(word).unwrap().to_owned()).collect();
            seen == ["sleep", "sleep"]
        });
        let pids: Value = serde_json::from_str(&runtime.ok(&["ps", "--format", "json", "c"])).unwrap();
        assert_eq!(pids.as_array().unwrap().len(), 2);
        assert!(!ours || pids == json!([1, 2]), "{pids}");
        assert!(runtime.ok(&["ps", "c"]).lines().next().unwrap().starts_with("UID"));
        runtime.ok(&["kill", "--all", "c", "KILL"]);
        runtime.until("c", "stopped");
        runtime.ok(&["delete", "c"]);
        seen
    });
}

#[test]
fn processes_are_added() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(|config| {
        config["process"]["env"].as_array_mut().unwrap().push("FROM=bundle".into());
    });
    let process = json!({
        "terminal": false, "user": {"uid": 33, "gid": 34}, "args": ["sh", "-c", "id -u; id -g; pwd; echo $A; grep CapEff /proc/self/status"],
        "env": ["A=from the file", "PATH=/usr/bin:/bin"], "cwd": "/var",
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"]},
        "noNewPrivileges": true
    });
    let process = world.file("process.json", &process.to_string());
    alike(&world, |runtime| {
        runtime.ok(&["create", "-b", bundle.dir(), "c"]);
        runtime.ok(&["start", "c"]);
        let mut seen = vec![
            runtime.ok(&[
                "exec",
                "--cwd",
                "/tmp",
                "--env",
                "A=1",
                "--env",
                "B=2",
                "c",
                "sh",
                "-c",
                "pwd; echo $A $B $FROM $HOME",
            ]),
            runtime.ok(&["exec", "--user", "33:34", "c", "sh", "-c", "id -u; id -g; echo $HOME"]),
            runtime.ok(&["exec", "--user", "33:34", "-g", "99", "c", "sh", "-c", "id -G"]),
            runtime.ok(&["exec", "--process", process.to_str().unwrap(), "c"]),
            runtime.ok(&[
                "exec",
                "c",
                "sh",
                "-c",
                "readlink /proc/self/ns/mnt > /tmp/ns; readlink /proc/1/ns/mnt | cmp - /tmp/ns && echo same",
            ]),
            runtime.ok(&["exec", "c", "sh", "-c", "grep -E 'CapEff|Seccomp:|NoNew' /proc/self/status"]),
        ];
        // In the background, with its number in a file.
        let pid_file = world.path("exec-pid");
        runtime.ok(&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), "c", "sleep", "500"]);
        let pid: i32 = read(&pid_file).parse().unwrap();
        // A process in the middle of exec has no command line (runc doesn't wait for the end of it).
        let mut command = String::new();
        eventually("the program", || {
            command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
            !command.is_empty() && !command.contains("init")
        });
        // Behind the sentry it is a process of ours that stands for the program.
        seen.push(if behind_sentry() && command.contains("insula") { "sleep 500 ".to_owned() } else { command });
        for code in [0, 1, 77, 255] {
            let run = runtime.run(&["exec", "c", "sh", "-c", &format!("exit {code}")]);
            seen.push(format!("{:?}", run.status.code()));
        }
        // Killed by a signal.
        seen.push(format!("{:?}", runtime.run(&["exec", "c", "sh", "-c", "kill -9 $$"]).status.code()));
        runtime.ok(&["delete", "--force", "c"]);
        seen
    });
}

/// Waits for a terminal on a console socket.
fn receive_terminal(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(&connection, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let found = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    found.expect("a descriptor")
}

/// Reads from a terminal until a text has come.
#[track_caller]
fn read_until(terminal: &mut std::fs::File, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(wanted) {
        let length = terminal.read(&mut buffer).unwrap_or(0);
        assert!(length > 0, "{wanted:?} doesn't come: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]).replace("\r\n", "\n"));
    }
    text
}

#[test]
fn terminals_are_handed_over() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sh"]).with(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({"height": 33, "width": 111});
        config["process"]["env"].as_array_mut().unwrap().push("PS1=inside> ".into());
    });
    alike(&world, |runtime| {
        let socket = world.path(&format!("{}.sock", runtime.name));
        let listener = UnixListener::bind(&socket).unwrap();
        let socket = socket.to_str().unwrap();
        let (dir, mut seen) = (bundle.dir(), Vec::new());
        let mut terminal = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| receive_terminal(&listener));
            // Through pipes: they end with the call, as nothing else is to hold them.
            let made = output(&mut runtime.call(&["create", "-b", dir, "--console-socket", socket, "c"]));
            assert!(made.status.success(), "{}: {}", runtime.name, support::told(&made));
            std::fs::File::from(waiting.join().unwrap())
        });
        runtime.ok(&["start", "c"]);
        read_until(&mut terminal, "inside> ");
        terminal.write_all(b"stty size; tty; test -c /dev/console && echo con''sole\n").unwrap();
        seen.push(read_until(&mut terminal, "console\n").trim_end_matches("inside> ").to_owned());
        // Ctrl-C reaches what runs on it.
        terminal.write_all(b"echo wait''ing; sleep 1000\n").unwrap();
        read_until(&mut terminal, "waiting\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        terminal.write_all(b"\x03").unwrap();
        read_until(&mut terminal, "inside> ");
        // Another one for a process that is added.
        let mut second = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| receive_terminal(&listener));
            let script = "test -t 0 && tty; read line; echo got $line";
            runtime.ok(&["exec", "--tty", "--detach", "--console-socket", socket, "c", "sh", "-c", script]);
            std::fs::File::from(waiting.join().unwrap())
        });
        second.write_all(b"words\n").unwrap();
        let text = read_until(&mut second, "got words\n");
        seen.push(text.lines().find(|line| line.starts_with("/dev/")).unwrap_or_default().to_owned());
        terminal.write_all(b"exit\n").unwrap();
        runtime.until("c", "stopped");
        runtime.ok(&["delete", "c"]);
        // A terminal that nobody holds, and one that isn't wanted.
        seen.push(format!("{:?}", runtime.run(&["create", "-b", dir, "c"]).status.success()));
        seen.push(runtime.status("c"));
        seen
    });
    let plain = Bundle::new(&world, "plain", &["true"]);
    alike(&world, |runtime| {
        let socket = world.path("unused.sock");
        let _ = std::fs::remove_file(&socket);
        let _listener = UnixListener::bind(&socket).unwrap();
        let socket = socket.to_str().unwrap();
        (runtime.run(&["create", "-b", plain.dir(), "--console-socket", socket, "c"]).status.success(), runtime.status("c"))
    });
}

#[test]
fn descriptors_are_passed_on() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::script(&world, "bundle", "cat <&3 > /tmp/three; cat <&4 > /tmp/four; ls /proc/self/fd > /tmp/open");
    world.file("three", "third");
    world.file("four", "fourth");
    alike(&world, |runtime| {
        let line = format!(
            "exec 3<three 4<four 5<four; {} create --preserve-fds 2 -b {} {} > out 2> err",
            runtime.command.join(" "),
            bundle.dir(),
            runtime.id
        );
        let made = Command::new("sh").args(["-c", &line]).current_dir(world.path("")).stdin(Stdio::null()).status().unwrap();
        assert!(made.success(), "{}: {}", runtime.name, read(world.path("err")));
        runtime.ok(&["start", "c"]);
        runtime.until("c", "stopped");
        runtime.ok(&["delete", "c"]);
        let seen = ["tmp/three", "tmp/four", "tmp/open"].map(|file| read(bundle.inside(file)));
        assert_eq!((seen[0].as_str(), seen[1].as_str()), ("third", "fourth"));
        seen
    });
}

#[test]
fn a_program_that_cant_be_run_is_told_by_create_or_start() {
    let Some(world) = World::new() else { return };
    for program in ["no-such-program", "/none/such", "/etc/passwd", "/etc"] {
        let bundle = Bundle::new(&world, &format!("bundle-{}", program.replace('/', "")), &[program]);
        alike(&world, |runtime| (runtime.run(&["create", "-b", bundle.dir(), "c"]).status.success(), runtime.status("c")));
    }
    let bundle = Bundle::new(&world, "bundle", &["/nonsense"]);
    std::fs::write(bundle.inside("/nonsense"), "\u{1}").unwrap();
    std::fs::set_permissions(bundle.inside("/nonsense"), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.hands_off(["create", "-b", bundle.dir(), "cant"]);
    let error = world.fails(1, ["start", "cant"]);
    assert!(error.contains("/nonsense") && error.contains("program for this machine"), "{error}");
    world.until("cant", "stopped");
    world.ok(["delete", "cant"]);
}

#[test]
fn processes_are_added_before_the_start() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::script(&world, "bundle", "cat /tmp/before > /tmp/seen; exec sleep 1000");
    alike(&world, |runtime| {
        let _ = std::fs::remove_file(bundle.inside("tmp/seen"));
        let mut seen = Vec::new();
        runtime.ok(&["create", "-b", bundle.dir(), "c"]);
        seen.push(runtime.ok(&["exec", "c", "sh", "-c", "echo before > /tmp/before; id -u; pwd"]));
        seen.push(format!("{:?}", runtime.run(&["exec", "c", "sh", "-c", "exit 7"]).status.code()));
        seen.push(runtime.run(&["exec", "c", "no-such-program"]).status.success().to_string());
        // The first process is there, and leaves orphans to themselves until it has a program.
        seen.push(runtime.ok(&["exec", "c", "sh", "-c", "test -d /proc/1 && echo there; (sleep 0.01 &); true"]));
        seen.push(runtime.status("c"));
        runtime.ok(&["start", "c"]);
        eventually("the program has read what was written before", || read(bundle.inside("tmp/seen")) == "before\n");
        seen.push(runtime.ok(&["exec", "c", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]));
        runtime.ok(&["delete", "--force", "c"]);
        // One that is never started ends with what was added.
        runtime.ok(&["create", "-b", bundle.dir(), "c"]);
        runtime.ok(&["exec", "-d", "c", "sleep", "1000"]);
        runtime.ok(&["kill", "c", "KILL"]);
        runtime.until("c", "stopped");
        runtime.ok(&["delete", "c"]);
        seen
    });
}

#[test]
fn errors_go_to_the_log_too() {
    let Some(world) = World::new() else { return };
    alike(&world, |runtime| {
        let log = world.path(&format!("{}.log", runtime.name));
        let _ = runtime.run(&["--log", log.to_str().unwrap(), "--log-format", "json", "state", "nothing"]);
        let line: Value = serde_json::from_str(read(&log).lines().last().unwrap()).unwrap();
        assert!(
            line["msg"].as_str().unwrap().contains("does not exist") && line["time"].as_str().unwrap().ends_with('Z'),
            "{line}"
        );
        line["level"].clone()
    });
    let log = world.path("text.log");
    world.fails(1, ["--log", log.to_str().unwrap(), "state", "nothing"]);
    assert!(read(&log).starts_with("time=\"") && read(&log).contains("level=error msg=\""), "{}", read(&log));
    let bundle = Bundle::new(&world, "bundle", &["true"]);
    world.hands_off(["--log", log.to_str().unwrap(), "--debug", "create", "-b", bundle.dir(), "logged"]);
    assert!(read(&log).contains("level=debug"), "{}", read(&log));
}

#[test]
fn limits_are_updated_from_json() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(|config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 40}});
    });
    for runtime in Runtime::all(&world) {
        runtime.ok(&["create", "-b", bundle.dir(), "c"]);
        runtime.ok(&["start", "c"]);
        let mut child = runtime.call(&["update", "--resources", "-", "c"]).stdin(Stdio::piped()).spawn().unwrap();
        let json = json!({"memory": {"limit": 96 << 20}, "pids": {"limit": 50}, "cpu": {"shares": 512, "quota": 70000, "period": 100000}});
        child.stdin.take().unwrap().write_all(json.to_string().as_bytes()).unwrap();
        assert!(ended(&mut child).success(), "{}", runtime.name);
        let pid = serde_json::from_str::<Value>(&runtime.ok(&["state", "c"])).unwrap()["pid"].to_string();
        let groups = read(format!("/proc/{pid}/cgroup"));
        let file = |controller: &str, file: &str| {
            let path = groups.lines().find_map(|line| line.split_once(&format!(":{controller}:")))?.1;
            Some(read(format!("/sys/fs/cgroup/{controller}{path}/{file}")).trim().to_owned())
        };
        if let Some(limit) = file("memory", "memory.limit_in_bytes") {
            assert_eq!(limit, (96 << 20).to_string(), "{}", runtime.name);
        }
        if let Some(limit) = file("pids", "pids.max") {
            assert_eq!(limit, "50", "{}", runtime.name);
        }
        if let Some(quota) = file("cpu", "cpu.cfs_quota_us") {
            assert_eq!(quota, "70000", "{}", runtime.name);
        }
        let from_file = world.file("limits.json", &json!({"pids": {"limit": 60}}).to_string());
        runtime.ok(&["update", "-r", from_file.to_str().unwrap(), "c"]);
        if let Some(limit) = file("pids", "pids.max") {
            assert_eq!(limit, "60", "{}", runtime.name);
        }
        if file("cpu", "cpu.rt_runtime_us").is_some_and(|now| !now.is_empty()) {
            runtime.ok(&["update", "--cpu-rt-period", "500000", "--cpu-rt-runtime", "10000", "c"]);
            let now = [file("cpu", "cpu.rt_period_us"), file("cpu", "cpu.rt_runtime_us")];
            assert_eq!(now, [Some("500000".into()), Some("10000".into())], "{}", runtime.name);
        }
        runtime.ok(&["delete", "--force", "c"]);
    }
}

#[test]
fn what_it_can_do_is_no_less_than_runc_says_of_itself() {
    let Some(world) = World::new() else { return };
    let seen: Vec<Value> = Runtime::all(&world)
        .iter()
        .map(|runtime| runtime.run(&["features"]))
        .filter(|output| output.status.success())
        .map(|output| serde_json::from_slice(&output.stdout).unwrap())
        .collect();
    let [ours, control] = seen.as_slice() else { return };
    let lists = [
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/actions",
        "/linux/seccomp/operators",
    ];
    for list in lists {
        let words = |value: &Value| -> Vec<String> {
            value
                .pointer(list)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|word| word.as_str().unwrap().to_owned())
                .collect()
        };
        let ours = words(ours);
        // Nothing that is mounted here is there to be mounted anew; mandatory locks are gone from the kernel, versions always kept.
        let known = |word: &String| ours.contains(word) || ["remount", "mand", "iversion"].contains(&word.as_str());
        let missing: Vec<String> = words(control).into_iter().filter(|word| !known(word)).collect();
        assert!(missing.is_empty(), "{list}: {missing:?}");
    }
}

#[test]
fn a_new_configuration_runs() {
    let Some(world) = World::new() else { return };
    let dir = world.directory("new");
    let path = dir.to_str().unwrap();
    world.ok(["spec", "--bundle", path]);
    let config: Value = serde_json::from_str(&read(dir.join("config.json"))).unwrap();
    assert_eq!((&config["process"]["terminal"], &config["root"]["path"]), (&json!(true), &json!("rootfs")));
    let error = world.fails(1, ["spec", "--bundle", path]);
    assert!(error.contains("exists"), "{error}");
    let error = world.fails(1, ["spec", "--bundle", "/none/such"]);
    assert!(error.contains("/none/such"), "{error}");
    let here = world.directory("here");
    assert!(output(world.insula(["spec", "--rootless"]).current_dir(&here)).status.success());
    let config: Value = serde_json::from_str(&read(here.join("config.json"))).unwrap();
    assert!(config["linux"]["uidMappings"].is_array());
}

#[test]
fn an_added_program_has_the_containers_umask() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(|config| config["process"]["user"]["umask"] = 63.into());
    world.hands_off(["create", "--bundle", bundle.dir(), "masked"]);
    world.ok(["start", "masked"]);
    assert_eq!(world.ok(["exec", "masked", "sh", "-c", "umask"]), "0077\n");
    let process = |umask: Value| {
        let user = json!({"uid": 33, "gid": 34, "umask": umask});
        let process = json!({"user": user, "args": ["sh", "-c", "umask; id -u"], "cwd": "/", "env": ["PATH=/usr/bin:/bin"]});
        world.file("process.json", &process.to_string())
    };
    let run = |file: std::path::PathBuf| world.ok(["exec", "--process", file.to_str().unwrap(), "masked"]);
    assert_eq!(run(process(Value::Null)), "0077\n33\n");
    assert_eq!(run(process(2.into())), "0002\n33\n");
}

#[test]
fn a_program_can_wait_for_a_paused_container() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "still", "--memory", "64m", "--", "sleep", "1000"]);
    world.ok(["pause", "still"]);
    let refused = world.fails(125, ["exec", "still", "echo", "now"]);
    assert!(refused.contains("still is paused"), "{refused}");
    let waiting = world.insula(["exec", "--ignore-paused", "still", "echo", "now"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    world.ok(["resume", "still"]);
    let output = support::finish(waiting);
    assert_eq!((output.status.code(), support::stdout(&output)), (Some(0), "now\n"), "{}", support::told(&output));
}

#[test]
fn an_added_program_gets_no_device_of_the_host() {
    let Some(world) = World::new().filter(|_| of_container("there are no devices of the host's to be protected")) else { return };
    world.ok(["run", "-d", "--name", "bare", "--", "sleep", "1000"]);
    let refused = world.fails(125, ["exec", "--cap", "MKNOD", "bare", "true"]);
    assert!(refused.contains("bare was made without rules for devices") && refused.contains("--cap-add"), "{refused}");
    world.ok(["run", "-d", "--name", "ruled", "--cap-add", "MKNOD", "--", "sleep", "1000"]);
    let script = "mknod /tmp/kmsg c 1 11 && ! head -c 1 /tmp/kmsg 2>/dev/null";
    world.ok(["exec", "--cap", "MKNOD", "ruled", "sh", "-c", script]);
}

#[test]
fn labels_of_a_security_module_that_is_not_there_are_refused() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "labelled", "--", "sleep", "1000"]);
    let enabled = |file: &str| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "Y" || text.trim() == "1");
    if !enabled("/sys/module/apparmor/parameters/enabled") {
        let refused = world.fails(125, ["exec", "--apparmor", "some-profile", "labelled", "true"]);
        assert!(refused.contains("AppArmor isn't enabled"), "{refused}");
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let refused = world.fails(125, ["exec", "--process-label", "system_u:system_r:x_t:s0", "labelled", "true"]);
        assert!(refused.contains("SELinux isn't enabled"), "{refused}");
    }
    world.ok(["exec", "--apparmor", "unconfined", "labelled", "true"]);
}
