//! `config.md`: root, mounts, process, host name, annotations, extensions.

use crate::Suite;
use serde_json::{Value, json};

fn process(config: &mut Value, field: &str, value: Value) {
    config["process"][field] = value;
}

fn mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn versions_and_extensions() {
    let Some(mut suite) = Suite::new() else { return };
    for version in ["", "nonsense", "9.0.0"] {
        suite.refuses("config.md#specification-version", "a version that isn't supported is an error", |config| {
            config["ociVersion"] = version.into()
        });
    }
    suite.prints(
        "config.md#extensibility",
        "unknown properties are ignored",
        |config| {
            config["unknown"] = json!({"a": 1});
            config["linux"]["unknown"] = json!(["x"]);
            config["process"]["unknown"] = 7.into();
        },
        "echo ok",
        "ok",
    );
    suite.prints(
        "config.md#annotations",
        "unknown annotations are ignored",
        |config| config["annotations"] = json!({"com.example.x": ""}),
        "echo ok",
        "ok",
    );
    suite.refuses("config.md#valid-values", "an invalid value is an error", |config| config["root"]["readonly"] = "yes".into());
    suite.end();
}

#[test]
fn roots() {
    let Some(mut suite) = Suite::new() else { return };
    suite.refuses("config.md#root", "root.path is a directory that exists", |config| config["root"]["path"] = "none".into());
    suite.refuses("config.md#root", "root.path is required", |config| config["root"] = json!({}));
    suite.prints(
        "config.md#root",
        "readonly makes the root read-only",
        |config| config["root"]["readonly"] = true.into(),
        "touch /x 2>/dev/null || echo ro",
        "ro",
    );
    suite.prints("config.md#root", "otherwise it can be written", |_| (), "touch /x && echo rw", "rw");
    suite.end();
}

#[test]
fn mounts() {
    let Some(mut suite) = Suite::new() else { return };
    let source = suite.world.directory("source");
    std::fs::write(source.join("file"), "content\n").unwrap();
    let source = source.to_str().unwrap().to_owned();
    const SECTION: &str = "config.md#mounts";
    suite.prints(
        SECTION,
        "mounts are made in the listed order",
        |config| {
            mount(config, json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
            mount(config, json!({"destination": "/mnt/below", "type": "bind", "source": source, "options": ["bind"]}));
        },
        "cat /mnt/below/file",
        "content",
    );
    suite.refuses(SECTION, "a source that isn't there is an error", |config| {
        mount(config, json!({"destination": "/mnt", "type": "bind", "source": "/none/such", "options": ["bind"]}))
    });
    suite.refuses(SECTION, "an unknown file system is an error", |config| {
        mount(config, json!({"destination": "/mnt", "type": "nosuchfs", "source": "x"}))
    });
    const OPTIONS: &str = "config.md#linux-mount-options";
    for (option, wanted) in [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
        ("rw", "rw"),
    ] {
        let options = json!([option]);
        let script = format!("grep ' /mnt ' /proc/self/mounts | cut -d' ' -f4 | tr , '\\n' | grep -x {wanted}");
        suite.prints(
            OPTIONS,
            &format!("{option} is implemented"),
            |config| mount(config, json!({"destination": "/mnt", "type": "tmpfs", "source": "t", "options": options})),
            &script,
            wanted,
        );
        let options = json!(["rbind", option]);
        suite.prints(
            OPTIONS,
            &format!("{option} is implemented for bind mounts"),
            |config| mount(config, json!({"destination": "/mnt", "type": "bind", "source": source, "options": options})),
            &script,
            wanted,
        );
    }
    for (undoes, done) in
        [("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("rw", "ro"), ("atime", "noatime"), ("diratime", "nodiratime")]
    {
        let options = json!([done, undoes]);
        let script = format!("grep ' /mnt ' /proc/self/mounts | cut -d' ' -f4 | tr , '\\n' | grep -x {done} || echo not");
        suite.prints(
            OPTIONS,
            &format!("{undoes} takes {done} back"),
            |config| mount(config, json!({"destination": "/mnt", "type": "tmpfs", "source": "t", "options": options})),
            &script,
            "not",
        );
    }
    // Below the bound directory lies another mount: what is recursive reaches it.
    let below = suite.world.directory("source/below");
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "t"]).arg(&below).status().is_ok_and(|status| status.success());
    for (option, wanted) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
    ] {
        let options = json!(["rbind", option]);
        let script = format!("grep ' /mnt/below ' /proc/self/mounts | cut -d' ' -f4 | tr , '\\n' | grep -x {wanted}");
        suite.prints(
            OPTIONS,
            &format!("{option} is implemented"),
            |config| mount(config, json!({"destination": "/mnt", "type": "bind", "source": source, "options": options})),
            &script,
            wanted,
        );
    }
    suite.prints(
        OPTIONS,
        "bind leaves the mounts below out",
        |config| mount(config, json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]})),
        "grep -c ' /mnt/below ' /proc/self/mounts",
        "0",
    );
    if mounted {
        let _ = std::process::Command::new("umount").arg(&below).status();
    }
    for (option, wanted) in [("private", ""), ("shared", "shared:"), ("rprivate", ""), ("unbindable", "unbindable")] {
        let options = json!(["rbind", option]);
        let script = "grep ' /mnt ' /proc/self/mountinfo | sed 's/ - .*//' | grep -oE 'shared:|unbindable'; true";
        suite.prints(
            OPTIONS,
            &format!("{option} is implemented"),
            |config| mount(config, json!({"destination": "/mnt", "type": "bind", "source": source, "options": options})),
            script,
            wanted,
        );
    }
    suite.prints(
        OPTIONS,
        "tmpcopyup copies what is covered",
        |config| mount(config, json!({"destination": "/etc", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]})),
        "head -n 1 /etc/passwd",
        "root:x:0:0:root:/root:/bin/sh",
    );
    let id = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
    suite.prints("config.md#mounts", "uidMappings and gidMappings map a mount's IDs", |config| mount(config, json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"], "uidMappings": id, "gidMappings": id})), "stat -c %u /mnt/file", "1000");
    suite.end();
}

#[test]
fn processes() {
    let Some(mut suite) = Suite::new() else { return };
    const SECTION: &str = "config.md#process";
    suite.refuses(SECTION, "cwd is absolute", |config| process(config, "cwd", "tmp".into()));
    suite.prints(SECTION, "cwd is the working directory", |config| process(config, "cwd", "/tmp".into()), "pwd", "/tmp");
    suite.prints(
        SECTION,
        "env is the environment",
        |config| process(config, "env", json!(["A=b c", "PATH=/usr/bin:/bin"])),
        "env | sort | grep -v -e PWD -e SHLVL -e HOME -e '^_='",
        "A=b c\nPATH=/usr/bin:/bin",
    );
    suite.refuses(SECTION, "args has an entry", |config| process(config, "args", json!([])));
    suite.prints(
        SECTION,
        "consoleSize without a terminal is ignored",
        |config| process(config, "consoleSize", json!({"height": 10, "width": 10})),
        "tty",
        "not a tty",
    );
    const POSIX: &str = "config.md#posix-process";
    suite.prints(
        POSIX,
        "rlimits are set",
        |config| process(config, "rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}])),
        "ulimit -n; ulimit -Hn",
        "100\n200",
    );
    suite.refuses(POSIX, "an unknown rlimit is an error", |config| {
        process(config, "rlimits", json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]))
    });
    suite.refuses(POSIX, "a repeated rlimit is an error", |config| {
        process(
            config,
            "rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
        )
    });
    const LINUX: &str = "config.md#linux-process";
    let caps = json!(["CAP_CHOWN", "CAP_KILL"]);
    suite.prints(
        LINUX,
        "capabilities are set",
        |config| {
            process(
                config,
                "capabilities",
                json!({"bounding": caps, "effective": caps, "permitted": caps, "inheritable": caps, "ambient": caps}),
            )
        },
        "grep ^Cap /proc/self/status | cut -f2 | sort -u",
        "0000000000000021",
    );
    let with = |more: &str| {
        let caps = json!(["CAP_CHOWN", more]);
        json!({"bounding": caps, "effective": caps, "permitted": caps})
    };
    suite.warns(
        [LINUX, "a capability that maps to nothing of the kernel's is logged as a warning"],
        &[],
        |config| process(config, "capabilities", with("CAP_NONSENSE")),
        "ran",
        &["warn", "CAP_NONSENSE"],
    );
    suite.warns(
        [LINUX, "a capability that can't be granted is logged as a warning, and no error"],
        &["setpriv", "--bounding-set=-sys_time"],
        |config| process(config, "capabilities", with("CAP_SYS_TIME")),
        "ran",
        &["warn", "CAP_SYS_TIME"],
    );
    suite.prints(
        LINUX,
        "noNewPrivileges is set",
        |config| process(config, "noNewPrivileges", true.into()),
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t1",
    );
    suite.prints(
        LINUX,
        "noNewPrivileges is not set",
        |config| process(config, "noNewPrivileges", false.into()),
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t0",
    );
    suite.prints(
        LINUX,
        "oomScoreAdj is set",
        |config| process(config, "oomScoreAdj", 500.into()),
        "cat /proc/self/oom_score_adj",
        "500",
    );
    let now = crate::support::read("/proc/self/oom_score_adj");
    suite.prints(LINUX, "without oomScoreAdj it isn't changed", |_| (), "cat /proc/self/oom_score_adj", now.trim());
    suite.prints(
        LINUX,
        "the scheduler is set",
        |config| process(config, "scheduler", json!({"policy": "SCHED_BATCH", "nice": 5})),
        "chrt -p $$ | grep -o SCHED_BATCH; nice",
        "SCHED_BATCH\n5",
    );
    suite.prints(
        LINUX,
        "the I/O priority is set",
        |config| process(config, "ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6})),
        "ionice",
        "best-effort: prio 6",
    );
    suite.refuses(LINUX, "an I/O class that isn't there is an error", |config| {
        process(config, "ioPriority", json!({"class": "IOPRIO_CLASS_X", "priority": 6}))
    });
    const USER: &str = "config.md#posix-platform-user";
    suite.prints(
        USER,
        "uid, gid, umask and additionalGids are set",
        |config| {
            process(config, "user", json!({"uid": 33, "gid": 34, "umask": 63, "additionalGids": [7, 99]}));
        },
        "id -u; id -g; umask; id -G",
        "33\n34\n0077\n34 7 99",
    );
    const NAMES: &str = "config.md#hostname";
    suite.prints(NAMES, "hostname is set", |config| config["hostname"] = "island".into(), "hostname", "island");
    suite.prints(
        "config.md#domainname",
        "domainname is set",
        |config| config["domainname"] = "example".into(),
        "cat /proc/sys/kernel/domainname",
        "example",
    );
    suite.end();
}
