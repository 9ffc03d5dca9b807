//! The program as a user without any privilege has it: what works without root, and that the rest is refused with what would change it.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use support::plain::{Plain, USER};
use support::{eventually, output, read, stderr, stdout, told};

#[test]
fn a_command_runs_as_its_user() {
    let Some(plain) = Plain::new() else { return };
    let script = "id -u; pwd; echo x > written && cat written; echo y > /tmp/written && cat /tmp/written; test -r /etc/hostname && echo read; \
        cat /root/x 2>/dev/null || echo closed";
    let wanted = format!("{USER}\n{}\nx\ny\nread\nclosed\n", plain.home("").to_str().unwrap().trim_end_matches('/'));
    assert_eq!(plain.ok(&["run", "--", "sh", "-c", script]), wanted);
    assert!(!plain.home("written").exists() && !Path::new("/tmp/written").exists(), "nothing is kept");
    // Who the program is inside is this user outside, and has no right to anything else.
    assert_eq!(
        plain.ok(&["run", "-u", "root", "--", "sh", "-c", "id -u; touch /etc/passwd 2>/dev/null || echo refused"]),
        "0\nrefused\n"
    );
    assert_eq!(plain.ok(&["run", "-u", "nobody", "--", "id", "-un"]), "nobody\n");
    assert_eq!(plain.ok(&["list", "--format", "json"]), "[]\n", "nothing is left");
    assert!(plain.world.path("run/insula").is_dir(), "the store is in XDG_RUNTIME_DIR");
}

#[test]
fn what_is_mounted_on_the_host_is_in_nobodys_way() {
    let Some(mut plain) = Plain::new() else { return };
    // Somewhere below the working directory, and below that of temporary files.
    let (below, deep) = (plain.home("below"), plain.home("below/deep"));
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::chown(&below, Some(USER), Some(USER)).unwrap();
    plain.world.file("home/file", "beside\n");
    plain.first = format!("mount -t tmpfs covering {} && ", deep.display());
    let script = "cat file; echo a > new; echo b > /tmp/new; echo c > below/new; ls; cat new /tmp/new below/new; ls below/deep; \
        echo x 2>/dev/null > file || echo read-only";
    let wanted = "beside\nbelow\nfile\nnew\na\nb\nc\nread-only\n";
    assert_eq!(plain.ok(&["run", "--", "sh", "-c", script]), wanted);
    assert_eq!(std::fs::read_dir(plain.home("")).unwrap().count(), 2, "nothing is kept");
}

#[test]
fn what_it_writes_can_be_kept() {
    let Some(plain) = Plain::new() else { return };
    let script = "echo a > here; mkdir -p /home/new/dir; echo b > /top; rm /etc/hostname; chmod 600 /tmp";
    plain.ok(&["run", "--keep", "out", "--", "sh", "-c", script]);
    let home = plain.home("here");
    let wanted = format!("D /etc/hostname\nA /home/new\nA /home/new/dir\nA {}\nA /top\n", home.display());
    let changes = plain.ok(&["diff", "out"]);
    let sorted = |text: &str| text.lines().map(|line| line.to_owned()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(&changes), sorted(&wanted));
    assert!(Path::new("/etc/hostname").exists() && !home.exists());
    let gone = output(&mut plain.command(["rm", "-r", "out"]));
    assert!(gone.status.success(), "its owner can remove it: {}", told(&gone));
}

#[test]
fn a_life_in_the_background() {
    let Some(plain) = Plain::new() else { return };
    assert_eq!(plain.ok(&["run", "-d", "--name", "web", "--", "sh", "-c", "echo out; sleep 1000 & wait"]), "web\n");
    assert!(plain.ok(&["list"]).contains("running"));
    eventually("its output", || plain.ok(&["logs", "web"]) == "out\n");
    let seen = plain.ok(&["exec", "web", "sh", "-c", "id -u; cat /proc/1/comm; cat /proc/2/comm; hostname"]);
    assert_eq!(seen, format!("{USER}\ninsula-init\nsh\nweb\n"));
    assert_eq!(plain.output(&["exec", "web", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let listed: Vec<i32> = serde_json::from_str(&plain.ok(&["ps", "--format", "json", "web"])).unwrap();
    let names: Vec<String> = listed.iter().map(|pid| read(format!("/proc/{pid}/comm")).trim().to_owned()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    // A reaper of ours can't be written by what it reaps.
    let opened = plain.output(&["exec", "web", "sh", "-c", "readlink /proc/1/exe || true; exec 3< /proc/1/exe"]);
    assert!(!opened.status.success() && stdout(&opened).is_empty(), "{}", told(&opened));
    let refused = plain.fails(1, &["pause", "web"]);
    assert!(refused.contains("Delegate=yes") || Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "{refused}");
    plain.ok(&["kill", "--all", "web", "KILL"]);
    eventually("it has ended", || plain.ok(&["state", "web"]).contains("stopped"));
    plain.ok(&["delete", "web"]);
    for pid in listed {
        assert!(!Path::new(&format!("/proc/{pid}/ns")).exists() || read(format!("/proc/{pid}/comm")).trim() != "sleep");
    }
}

#[test]
fn a_killed_caller_leaves_nothing_that_runs() {
    let Some(plain) = Plain::new() else { return };
    let mut caller = plain.insula(&["run", "--name", "cut", "--", "sleep", "1000"]).spawn().unwrap();
    eventually("it runs", || plain.output(&["state", "cut"]).stdout.windows(9).any(|text| text == b"\"running\""));
    let state: Value = serde_json::from_str(&plain.ok(&["state", "cut"])).unwrap();
    // The command has become the program: shell, setpriv and insula are one process.
    support::signal("KILL", caller.id());
    let _ = support::ended(&mut caller);
    eventually("its first process has ended", || !Path::new(&format!("/proc/{}/ns", state["pid"])).exists());
    assert!(plain.ok(&["state", "cut"]).contains("stopped"));
    plain.ok(&["delete", "cut"]);
    assert_eq!(plain.ok(&["list", "--format", "json"]), "[]\n");
    assert_eq!(std::fs::read_dir(plain.world.path("run/insula")).unwrap().count(), 0, "the store is empty");
}

#[test]
fn the_verbs_of_the_specification() {
    let Some(plain) = Plain::new() else { return };
    let bundle = plain.bundle("bundle", "id -u; echo more >> /written; sleep 1000", |_| ());
    plain.ok(&["create", "--bundle", &bundle, "box"]);
    assert!(plain.ok(&["state", "box"]).contains("\"created\""));
    // Already, though its first process shows itself to nobody.
    let inside = "id -u; ls -l /proc/1/exe 2>&1 | grep -o 'Permission denied'; echo early >> /early";
    for _ in 0..2 {
        assert_eq!(plain.ok(&["exec", "box", "sh", "-c", inside]), "0\nPermission denied\n");
    }
    assert_eq!(read(plain.home("bundle/rootfs/early")), "early\nearly\n");
    plain.ok(&["start", "box"]);
    eventually("it runs", || plain.home("bundle/rootfs/written").exists());
    assert_eq!(
        plain.ok(&["exec", "box", "sh", "-c", "id -u; ls -ld /written | cut -d' ' -f3; cat /proc/self/uid_map | tr -s ' '"]),
        format!("0\nroot\n 0 {USER} 1\n")
    );
    assert!(plain.ok(&["ps", "box"]).contains("sleep"));
    plain.ok(&["kill", "box", "KILL"]);
    eventually("it has ended", || plain.ok(&["state", "box"]).contains("stopped"));
    plain.ok(&["delete", "box"]);
    let mapped = plain.bundle("other", "id -u", |config| {
        config["process"]["user"] = json!({"uid": 7, "gid": 8});
        config["linux"]["uidMappings"] = json!([{"containerID": 7, "hostID": USER, "size": 1}]);
        config["linux"]["gidMappings"] = json!([{"containerID": 8, "hostID": USER, "size": 1}]);
    });
    assert_eq!(plain.ok(&["run", "--bundle", &mapped, "other"]), "7\n");
    let timed = plain.bundle("timed", "readlink /proc/self/ns/time", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    });
    let host = std::fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(plain.ok(&["run", "--bundle", &timed, "timed"]).trim(), host.to_str().unwrap());
}

/// A bundle's name, what is changed in it, and what is said of that.
type Refused<'t> = (&'t str, &'t dyn Fn(&mut Value), &'t [&'t str]);

#[test]
fn what_takes_root_says_so() {
    let Some(plain) = Plain::new() else { return };
    let changes: [Refused; 5] = [
        (
            "user",
            &|config| config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "user"),
            &["uidMappings"],
        ),
        (
            "none",
            &|config| {
                config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "user");
                config["linux"].as_object_mut().unwrap().retain(|key, _| !key.ends_with("Mappings"));
            },
            &["needs root", "insula spec --rootless"],
        ),
        (
            "clocks",
            &|config| {
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
                config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
            },
            &["linux.timeOffsets", "root"],
        ),
        (
            "rules",
            &|config| config["linux"]["resources"]["devices"] = json!([{"allow": true, "type": "c", "access": "r"}]),
            &["linux.resources.devices", "denies"],
        ),
        (
            "others",
            &|config| {
                config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 10}]);
            },
            &["can't map IDs"],
        ),
    ];
    for (name, change, words) in changes {
        let bundle = plain.bundle(name, "true", change);
        let said = plain.fails(1, &["create", "--bundle", &bundle, name]);
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        assert_eq!(plain.ok(&["list", "--format", "json"]), "[]\n");
    }
}

#[test]
fn a_configuration_of_runcs_runs() {
    let Some(plain) = Plain::new() else { return };
    if Command::new("runc").arg("--version").output().is_err() {
        eprintln!("skipped: runc isn't installed");
        return;
    }
    let bundle = plain.bundle("runc", "true", |_| ());
    std::fs::remove_file(plain.home("runc/config.json")).unwrap();
    let made = output(plain.command(["runc", "spec", "--rootless"]).current_dir(&bundle));
    assert!(made.status.success(), "{}", told(&made));
    let path = plain.home("runc/config.json");
    let mut config: Value = serde_json::from_str(&read(&path)).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["sh", "-c", "id -u; ls /sys/kernel > /dev/null && echo sys"]);
    for dir in ["/usr", "/lib64", "/bin", "/lib"].iter().filter(|dir| **dir == "/usr" || Path::new(dir).read_link().is_err()) {
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": dir, "source": dir, "type": "bind", "options": ["rbind", "ro"]}));
    }
    std::fs::write(path, config.to_string()).unwrap();
    let said = output(&mut plain.insula(&["run", "--bundle", &bundle, "likerunc"]));
    assert_eq!(stdout(&said), "0\nsys\n", "{}", told(&said));
}

#[test]
fn others_come_from_subordinate_ids() {
    let Some(plain) = Plain::with_others() else { return };
    let root = plain.bundle("bundle", "true", |_| ());
    let rootfs = format!("{root}/rootfs");
    let base = ["run", "--rootfs", &rootfs, "-v", "/usr:/usr:ro"];
    let script = "id -u; touch /mine /theirs; chown 33:34 /theirs; stat -c %u:%g /theirs; tr -s ' ' < /proc/self/uid_map";
    let seen = plain.ok(&[&base[..], &["--", "sh", "-c", script]].concat());
    assert_eq!(seen, format!("0\n33:34\n 0 {USER} 1\n 1 300000 1000\n"));
    let owner = |name: &str| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("{rootfs}/{name}")).unwrap());
    assert_eq!((owner("mine"), owner("theirs")), (USER, 300_032));
    assert_eq!(plain.ok(&[&base[..], &["-u", "web", "--", "id", "-u"]].concat()), "33\n");
    assert_eq!(plain.ok(&["run", "-u", "root", "--", "sh", "-c", "touch x; chown 5 x; stat -c %u x"]), "5\n");
    let refused = plain.fails(125, &[&base[..], &["-u", "5000", "--", "true"]].concat());
    assert!(refused.contains("/etc/subuid"), "{refused}");
    // All of it goes when it is deleted, whoever it belongs to.
    plain.ok(&[&base[..], &["-d", "--name", "mixed", "-u", "web", "--", "sleep", "1000"]].concat());
    assert_eq!(plain.ok(&["exec", "-u", "0", "mixed", "id", "-u"]), "0\n");
    plain.ok(&["kill", "--all", "mixed", "TERM"]);
    plain.ok(&["delete", "--force", "mixed"]);
}

#[test]
fn a_store_of_somebody_else_is_not_used() {
    let Some(plain) = Plain::new() else { return };
    let theirs = plain.world.directory("theirs");
    std::os::unix::fs::chown(&theirs, Some(1), Some(1)).unwrap();
    std::fs::set_permissions(&theirs, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let root = theirs.to_str().unwrap();
    let said = plain.fails(125, &["--root", root, "run", "--", "true"]);
    assert!(said.contains("--root"), "{said}");
    assert!(plain.fails(1, &["--root", root, "list"]).contains(root));
    // Without a directory of the session's it is one in /tmp, if nobody else was first.
    let default = std::path::PathBuf::from(format!("/tmp/insula-{USER}"));
    let _ = std::fs::remove_dir_all(&default);
    let run = || output(plain.insula(&["run", "--", "echo", "ran"]).env_remove("XDG_RUNTIME_DIR"));
    assert_eq!(stdout(&run()), "ran\n");
    let made = std::fs::metadata(&default).unwrap();
    let (owner, mode) =
        (std::os::unix::fs::MetadataExt::uid(&made), std::os::unix::fs::PermissionsExt::mode(&made.permissions()));
    assert_eq!((owner, mode & 0o777), (USER, 0o700));
    std::os::unix::fs::chown(&default, Some(1), Some(1)).unwrap();
    assert!(stderr(&run()).contains("--root"));
    std::fs::remove_dir_all(&default).unwrap();
}

#[test]
fn the_sentry_needs_no_root() {
    let Some(plain) = Plain::new() else { return };
    let script = "id -u; echo x > written && cat written; cat /proc/version | cut -d' ' -f1";
    assert_eq!(plain.ok(&["--isolation", "sentry", "run", "--", "sh", "-c", script]), format!("{USER}\nx\nLinux\n"));
    plain.ok(&["--isolation", "sentry", "run", "-d", "--name", "behind", "--", "sleep", "1000"]);
    assert_eq!(plain.ok(&["exec", "behind", "id", "-u"]), format!("{USER}\n"));
    // The sentry itself has given everything up.
    let state: Value = serde_json::from_str(&plain.ok(&["state", "behind"])).unwrap();
    let status = read(format!("/proc/{}/status", state["pid"]));
    for line in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} isn't in {status}");
    }
    plain.ok(&["delete", "--force", "behind"]);
}

#[test]
fn podman_drives_it_without_root() {
    let Some(plain) = Plain::new() else { return };
    if Command::new("podman").arg("--version").output().is_err() {
        eprintln!("skipped: podman isn't installed");
        return;
    }
    let bundle = plain.bundle("bundle", "true", |_| ());
    let rootfs = format!("{bundle}/rootfs");
    let program = plain.world.path("insula");
    let podman = |args: &[&str]| {
        let command = ["podman", "--runtime", program.to_str().unwrap(), "--cgroup-manager=cgroupfs"];
        let output = output(&mut plain.command([&command[..], args].concat()));
        assert!(output.status.success(), "{args:?}: {}", told(&output));
        stdout(&output).to_owned()
    };
    // Left alone it raises these, which not every host lets it.
    let limits = ["--network", "none", "--ulimit", "nofile=100:100", "--ulimit", "nproc=1000:1000", "-v", "/usr:/usr:ro"];
    let run =
        |options: &[&str], program: &[&str]| podman(&[&["run"], options, &limits[..], &["--rootfs", &rootfs], program].concat());
    assert_eq!(run(&["--rm"], &["sh", "-c", "id -u; echo x > /by-podman; cat /by-podman"]), "0\nx\n");
    run(&["-d", "--name", "box"], &["sleep", "1000"]);
    assert_eq!(podman(&["exec", "box", "id", "-u"]), "0\n");
    podman(&["rm", "--force", "--time", "0", "box"]);
}

#[test]
fn root_of_a_user_namespace_has_no_more() {
    let Some(plain) = Plain::new() else { return };
    let program = plain.world.path("insula").to_str().unwrap().to_owned();
    let inside = |args: &[&str]| output(&mut plain.command([&["unshare", "--user", "--map-root-user", &program], args].concat()));
    let output = inside(&["run", "--", "sh", "-c", "id -u; echo x > here; cat here"]);
    assert_eq!(stdout(&output), "0\nx\n", "{}", told(&output));
    assert!(!plain.home("here").exists());
    let given = inside(&["run", "--cap-add", "MKNOD", "--", "sh", "-c", "mknod x c 1 3 2>/dev/null || echo refused"]);
    assert_eq!(stdout(&given), "refused\n", "{}", told(&given));
    assert!(plain.world.path("run/insula").is_dir(), "the store is the user's");
}

#[test]
fn doctor_and_the_benchmark_tell_what_there_is() {
    let Some(plain) = Plain::new() else { return };
    let report: Value = serde_json::from_str(&plain.ok(&["doctor", "--format", "json"])).unwrap();
    let container = report["boundaries"].as_array().unwrap().iter().find(|one| one["name"] == "container").unwrap();
    let text = container.to_string();
    assert!(text.contains("rootless") && text.contains("/etc/subuid"), "{text}");
    let args =
        ["bench", "--platforms", "native,container,crun,runc,docker", "--rows", "start.plain", "--runs", "1", "--format", "json"];
    let output = plain.output(&args);
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    let measured = |name: &str| report["rows"].as_array().into_iter().flatten().any(|row| row.to_string().contains(name));
    assert!(measured("container"), "{}", stderr(&output));
    // What can't be measured has a reason that is its own.
    assert!(!stderr(&output).contains("the launcher ended"), "{}", stderr(&output));
}

/// What an option does for a plain user.
enum Does {
    /// The program prints this.
    Prints(&'static str),
    /// It is refused, and these words are said.
    Says(&'static [&'static str]),
    /// Elsewhere in this file, or it is of no matter who asks.
    Tested,
}

use Does::{Prints, Says, Tested};

/// Every option of `run`, what is said with it, the program, and what is to come of it.
fn options() -> BTreeMap<&'static str, (Vec<&'static str>, &'static str, Does)> {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let no_limit = |of: &'static [&'static str]| Says(if v2 { &["Delegate=yes"] } else { of });
    BTreeMap::from([
        ("--rootfs", (vec![], "", Tested)),
        ("--bundle", (vec![], "", Tested)),
        ("--keep", (vec![], "", Tested)),
        ("--name", (vec!["named"], "hostname", Prints("named\n"))),
        ("--entrypoint", (vec!["echo"], "-n said", Prints("-c -n said"))),
        ("--rm", (vec![], "echo removed", Prints("removed\n"))),
        ("--tty", (vec![], "tty", Prints("/dev/pts/0\r\n"))),
        ("--interactive", (vec![], "cat", Prints(""))),
        ("--detach", (vec![], "", Tested)),
        ("--env", (vec!["A=b"], "echo $A", Prints("b\n"))),
        ("--env-file", (vec!["env"], "echo $C", Prints("d\n"))),
        ("--workdir", (vec!["/usr"], "pwd", Prints("/usr\n"))),
        ("--user", (vec!["root"], "id -u", Prints("0\n"))),
        ("--ulimit", (vec!["nofile=100"], "ulimit -n", Prints("100\n"))),
        ("--hostname", (vec!["called"], "hostname", Prints("called\n"))),
        (
            "--volume",
            (vec![".:/volume:ro"], "cat /volume/env; touch /volume/x 2>/dev/null || echo read-only", Prints("C=d\nread-only\n")),
        ),
        ("--mount", (vec!["type=tmpfs,target=/mnt,tmpfs-size=1m"], "touch /mnt/x && stat -f -c %T /mnt", Prints("tmpfs\n"))),
        ("--tmpfs", (vec!["/mnt"], "touch /mnt/x && stat -f -c %T /mnt", Prints("tmpfs\n"))),
        ("--read-only", (vec![], "touch /x 2>/dev/null || echo read-only", Prints("read-only\n"))),
        ("--device", (vec!["/dev/zero:/dev/given"], "head -c 3 /dev/given | wc -c", Prints("3\n"))),
        ("--memory", (vec!["64m"], "true", no_limit(&["memory", "cgroup v1", "leave the limit out"]))),
        ("--cpus", (vec!["0.5"], "true", no_limit(&["cpu", "cgroup v1"]))),
        ("--pids-limit", (vec!["10"], "true", no_limit(&["pids", "cgroup v1"]))),
        ("--network", (vec!["host"], "readlink /proc/self/ns/net > /dev/null && ls /sys/class/net | grep -c lo", Prints("1\n"))),
        ("--publish", (vec!["8080:80"], "true", Says(&["--network"]))),
        ("--userns", (vec!["auto"], "true", Says(&["--userns", "leave the option out"]))),
        ("--cap-add", (vec!["SYS_TIME"], "grep -c CapBnd:.*2 /proc/self/status", Prints("1\n"))),
        ("--cap-drop", (vec!["ALL"], "grep CapBnd /proc/self/status", Prints("CapBnd:\t0000000000000000\n"))),
        ("--security-opt", (vec!["no-new-privileges=false"], "grep NoNewPrivs /proc/self/status", Prints("NoNewPrivs:\t0\n"))),
        ("--pid-file", (vec!["pid"], "echo ran", Prints("ran\n"))),
        ("--console-socket", (vec!["none"], "true", Says(&["--console-socket"]))),
        ("--pidfd-socket", (vec!["none"], "true", Says(&["--pidfd-socket"]))),
        ("--no-pivot", (vec![], "echo moved", Prints("moved\n"))),
        ("--no-new-keyring", (vec![], "echo shared", Prints("shared\n"))),
        ("--preserve-fds", (vec!["1"], "true", Says(&["--preserve-fds", "3"]))),
        ("--isolation", (vec![], "", Tested)),
        ("--strace", (vec![], "true", Says(&["--isolation sentry"]))),
        ("--root", (vec!["other"], "echo elsewhere", Prints("elsewhere\n"))),
        ("--log", (vec!["log"], "echo logged", Prints("logged\n"))),
        ("--log-format", (vec!["json"], "echo json", Prints("json\n"))),
        ("--debug", (vec![], "echo debugged", Prints("debugged\n"))),
        ("--systemd-cgroup", (vec![], "true", Says(&["systemd"]))),
        ("--help", (vec![], "", Tested)),
    ])
}

#[test]
fn each_option_of_run_works_or_says_why_not() {
    let Some(plain) = Plain::new() else { return };
    let help = plain.ok(&["run", "--help"]);
    let named = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let option = line.split([' ', '[']).find(|word| word.starts_with("--"))?;
        line.starts_with('-').then(|| option.trim_end_matches(',').to_owned())
    });
    let named: std::collections::BTreeSet<String> = named.collect();
    let options = options();
    assert_eq!(named, options.keys().map(|option| (*option).to_owned()).collect(), "the table has exactly the options there are");
    let written = output(&mut plain.command(["sh", "-c", "echo C=d > env"]));
    assert!(written.status.success());
    for (option, (values, script, does)) in options {
        let args = [&["run", option], &values[..], &["--", "sh", "-c", script]].concat();
        let args: Vec<&str> = if option == "--entrypoint" {
            [&["run", option, "echo", "--", "-c"], &script.split(' ').collect::<Vec<_>>()[..]].concat()
        } else {
            args
        };
        match does {
            Tested => {}
            Prints(wanted) => {
                let output = plain.output(&args);
                let same = stdout(&output).trim_end() == wanted.trim_end();
                assert!(output.status.success() && same, "{args:?}: wanted {wanted:?}, {}", told(&output));
            }
            Says(words) => {
                let said = plain.fails(125, &args);
                assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
            }
        }
    }
    assert!(plain.home("pid").exists());
    for network in ["bridge", "container:other"] {
        let said = plain.fails(125, &["run", "--network", network, "--", "true"]);
        assert!(said.contains("takes root; use --network user"), "{said}");
    }
    assert_eq!(plain.ok(&["list", "--format", "json"]), "[]\n");
}
