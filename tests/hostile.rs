//! Images and programs that want out. Each test is named for a way that was taken once, with the number under which it became known;
//! and each first shows that the way is there for who isn't careful.

#[path = "robustness/escapes.rs"]
mod escapes;
#[path = "robustness/image.rs"]
mod image;
#[path = "robustness/programs.rs"]
mod programs;
mod support;
#[path = "support/traces.rs"]
mod traces;

use image::{Image, listing, script_of};
use rustix::fs::{CWD, FileType, Mode, makedev};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{World, output, stdout, told};
use traces::id;

/// Ended well, or with one line and this code; whether it ended well.
#[track_caller]
fn works_or_is_refused(run: &Output, code: i32, about: &str) -> bool {
    if run.status.success() {
        return true;
    }
    let errors = String::from_utf8_lossy(&run.stderr);
    assert_eq!((run.status.code(), errors.lines().count()), (Some(code), 1), "{about}: {}", told(run));
    assert!(errors.starts_with("insula: "), "{about}: {errors}");
    false
}

/// CVE-2019-19921, CVE-2023-27561: what hides parts of `/proc` was mounted elsewhere.
#[test]
fn system_directories_that_are_links() {
    let Some(world) = World::new() else { return };
    for name in ["proc", "sys", "dev"] {
        for to in [world.path("host"), PathBuf::from("../host"), PathBuf::from("../../../../../../../../tmp"), "/tmp".into()] {
            let image = Image::new(&world);
            let place = image.root.join(name);
            fs::remove_dir(&place).unwrap();
            symlink(&to, &place).unwrap();
            assert!(fs::read_dir(&place).is_ok(), "who follows it gets to the host's directory");
            let before = listing(&image.host);
            let about = format!("/{name} -> {}", to.display());
            let worked = works_or_is_refused(&image.run(&[], "ls /proc/self/ >/dev/null; exit 0"), 125, &about);
            assert!(!(worked && name == "proc"), "{about}: what is hidden there would be elsewhere");
            assert_eq!(listing(&image.host), before, "{about}");
        }
    }
}

/// CVE-2017-1002101, CVE-2021-30465: a mount's target led out of the root.
#[test]
fn mount_targets_that_lead_out() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let host = image.host.clone();
    let inside = image.root.join("a/b");
    fs::create_dir_all(&inside).unwrap();
    symlink(&host, image.root.join("absolute")).unwrap();
    symlink("../../../host", inside.join("relative")).unwrap();
    symlink("absolute", image.root.join("twice")).unwrap();
    symlink(host.join("marker"), image.root.join("file")).unwrap();
    for link in ["absolute/marker", "a/b/relative/marker", "twice/marker", "file"] {
        assert_eq!(fs::read_to_string(image.root.join(link)).unwrap(), "of the host\n", "who follows {link} gets to the host");
    }
    fs::write(world.path("source"), "of the source\n").unwrap();
    let directory = world.directory("sources");
    fs::write(directory.join("marker"), "of the source\n").unwrap();
    let before = listing(&host);
    let climbing = format!("/../../../../../../../..{}", host.display());
    let directories = ["/absolute", "/a/b/relative", "/twice", "/twice/deeper/still", "/a/b/../../absolute", &climbing];
    let files = ["/file", "/absolute/marker", "/a/b/relative/marker", "/twice/none"];
    for (targets, source) in [(&directories[..], directory), (&files[..], world.path("source"))] {
        for target in targets {
            let mount = json!({"destination": target, "source": source, "type": "bind", "options": ["bind"]});
            image.bundle_with(&world, &["sh", "-c", &format!("cat {target} {target}/marker; echo x > {target}/new")], |config| {
                config["mounts"].as_array_mut().unwrap().push(mount);
            });
            let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
            let text = stdout(&run);
            assert!(!text.contains("of the host"), "{target}: {}", told(&run));
            // The script's own exit code aside: either our one line, or the mount is seen where it was asked for.
            assert!(text.contains("of the source") || !works_or_is_refused(&run, 125, target), "{target}: {}", told(&run));
            assert_eq!(listing(&host), before, "{target}");
        }
        let _ = fs::remove_file(world.path("sources/new"));
    }
    for target in ["/absolute", "/a/b/relative", "/twice"] {
        works_or_is_refused(&image.run(&["--tmpfs", target], &format!("echo x > {target}/new")), 125, target);
        assert_eq!(listing(&host), before, "{target}");
    }
    let refused = image.run(&["-v", "/usr:/../out"], "true");
    assert!(!works_or_is_refused(&refused, 125, "-v"));
}

/// CVE-2024-45310: a mount point was made outside.
#[test]
fn a_bind_target_that_dangles() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    for (name, to) in [("a", image.host.join("none")), ("b", "../host/none".into()), ("c", "/proc/self/cwd/none".into())] {
        symlink(&to, image.root.join(name)).unwrap();
        let before = listing(&image.host);
        for source in ["/etc/hostname", "/usr/share"] {
            let about = format!("{source} on a link to {}", to.display());
            works_or_is_refused(&image.run(&["-v", &format!("{source}:/{name}")], "true"), 125, &about);
            assert_eq!(listing(&image.host), before, "{about}");
        }
    }
}

/// CVE-2021-30465's cousins: what is hidden or made read-only is that of the container, wherever links lead.
#[test]
fn hidden_paths_through_links() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    for dir in ["hide", "keep"] {
        fs::create_dir(image.root.join(dir)).unwrap();
        fs::write(image.root.join(dir).join("file"), "here\n").unwrap();
    }
    symlink("/hide", image.root.join("to-hide")).unwrap();
    symlink("/keep", image.root.join("to-keep")).unwrap();
    symlink(&image.host, image.root.join("out")).unwrap();
    symlink("../host", image.root.join("out-too")).unwrap();
    let script = "cat /hide/file; cat /keep/file; { echo x >> /keep/file; } 2> /dev/null || echo kept";
    let before = listing(&image.host);
    let run = |masked: &[&str], readonly: &[&str]| {
        image.bundle_with(&world, &["sh", "-c", script], |config| {
            config["linux"]["maskedPaths"] = json!(masked);
            config["linux"]["readonlyPaths"] = json!(readonly);
        });
        let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
        assert_eq!(listing(&image.host), before);
        stdout(&run).to_owned()
    };
    assert_eq!(run(&[], &[]), "here\nhere\n", "the control");
    fs::write(image.root.join("keep/file"), "here\n").unwrap();
    assert_eq!(run(&["/to-hide", "/out", "/out-too"], &["/to-keep", "/out", "/out-too"]), "here\nkept\n");
    assert_eq!(fs::read_to_string(image.root.join("keep/file")).unwrap(), "here\n");
}

/// CVE-2024-21626: the working directory was one of the host's, through a descriptor that was left open.
#[test]
fn working_directories_through_descriptors() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let control = script_of(&image.host, "cd /proc/self/fd/9 && cat marker");
    assert_eq!(stdout(&output(Command::new("sh").args(["-c", &control]))), "of the host\n", "the way is there");
    let target = id(&world, "target");
    image.bundle_with(&world, &["sleep", "1000"], |_| ());
    world.hands_off(["create", "--bundle", image.bundle.to_str().unwrap(), &target]);
    world.ok(["start", &target]);
    for number in (3..20).chain([100]) {
        for up in ["", "/..", "/../.."] {
            let cwd = format!("/proc/self/fd/{number}{up}");
            let _ = fs::remove_file(image.root.join("work"));
            symlink(&cwd, image.root.join("work")).unwrap();
            for cwd in [cwd.as_str(), "/work"] {
                let look = ["sh", "-c", "cat marker host/marker ../host/marker 2>/dev/null; :"];
                let run = image.with_descriptor(&world, &[&image.options(&["-w", cwd])[..], &["--"], &look].concat(), "run");
                assert!(!stdout(&run).contains("host"), "run in {cwd}: {}", told(&run));
                let exec = image.with_descriptor(&world, &[&["--cwd", cwd, &target][..], &look].concat(), "exec");
                assert!(!stdout(&exec).contains("host"), "exec in {cwd}: {}", told(&exec));
            }
        }
    }
}

/// CVE-2024-21626's second half: the program, or its interpreter, was reached through a descriptor.
#[test]
fn programs_through_descriptors() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    fs::copy("/bin/echo", image.host.join("prog")).unwrap();
    let control = script_of(&image.host, "/proc/self/fd/9/prog ran");
    assert_eq!(stdout(&output(Command::new("sh").args(["-c", &control]))), "ran\n", "the way is there");
    let target = id(&world, "target");
    image.bundle_with(&world, &["sleep", "1000"], |_| ());
    world.hands_off(["create", "--bundle", image.bundle.to_str().unwrap(), &target]);
    world.ok(["start", &target]);
    for number in (3..20).chain([100]) {
        for up in ["", "/../host", "/../../host"] {
            let path = format!("/proc/self/fd/{number}{up}/prog");
            let app = image.root.join("app");
            let _ = fs::remove_file(&app);
            symlink(&path, &app).unwrap();
            let script = image.root.join("script");
            fs::write(&script, format!("#!{path}\n")).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            for program in [path.as_str(), "/app", "/script"] {
                let run = image.with_descriptor(&world, &[&image.options(&["--"])[..], &[program, "ran"]].concat(), "run");
                assert!(!stdout(&run).contains("ran") && !run.status.success(), "run {program} ({path}): {}", told(&run));
                let exec = image.with_descriptor(&world, &[&target, program, "ran"], "exec");
                assert!(!stdout(&exec).contains("ran") && !exec.status.success(), "exec {program} ({path}): {}", told(&exec));
            }
        }
    }
    let held = id(&world, "held");
    // A container that is made holds the directory of the store: it was there before its first process.
    for number in 3..20 {
        let path = format!("/proc/self/fd/{number}/../../host/prog");
        let _ = fs::remove_file(image.root.join("app"));
        symlink(&path, image.root.join("app")).unwrap();
        fs::write(image.root.join("script"), format!("#!{path}\n")).unwrap();
        for program in ["/app", "/script"] {
            image.bundle_with(&world, &["sh", "-c", "exit 0"], |config| config["process"]["args"] = json!([program, "ran"]));
            let (out, id) = (world.path("out"), held.as_str());
            let mut create = world.insula(["create", "--bundle", image.bundle.to_str().unwrap(), id]);
            create.stdout(fs::File::create(&out).unwrap()).stderr(std::process::Stdio::null());
            if support::ended(&mut create.spawn().unwrap()).success() && world.output(["start", id]).status.success() {
                world.until(id, "stopped");
            }
            world.ok(["delete", "--force", id]);
            assert!(!support::read(&out).contains("ran"), "start of {program} ({path})");
        }
    }
}

/// CVE-2016-9962 and others: a directory of the host's was left open.
#[test]
fn descriptors_left_open_by_the_caller() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let look = ["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; cat /proc/self/fd/9/marker 2>/dev/null; :"];
    let run = |options: &[&str]| {
        let run = image.with_descriptor(&world, &[&image.options(options)[..], &["--"], &look].concat(), "run");
        stdout(&run).to_owned()
    };
    assert_eq!(run(&[]), "0 1 2 3 ", "the last is ls's own");
    let target = id(&world, "target");
    image.bundle_with(&world, &["sleep", "1000"], |_| ());
    let bundle = image.bundle.to_str().unwrap();
    let null = "> /dev/null 2>&1";
    let line = format!("exec 9< {}; {} create --bundle {bundle} {target} {null}", image.host.display(), image.insula(&world));
    assert!(output(Command::new("sh").args(["-c", &line])).status.success());
    let pid = world.state(&target)["pid"].to_string();
    world.ok(["start", &target]);
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().map(|entry| fs::read_link(entry.path()).unwrap());
    assert!(!links.collect::<Vec<_>>().contains(&image.host));
    let exec = image.with_descriptor(&world, &[&[&target as &str][..], &look].concat(), "exec");
    assert_eq!(stdout(&exec), "0 1 2 3 ");
    let line = format!(
        "exec 3< {h} 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3; exec {i} run {o} --preserve-fds 7 -- cat /proc/self/fd/9/marker",
        h = image.host.display(),
        i = image.insula(&world),
        o = image.options(&[]).join(" ")
    );
    let asked = output(Command::new("sh").args(["-c", &line]));
    assert_eq!(stdout(&asked), "of the host\n", "the control: {}", told(&asked));
}

#[test]
fn a_root_that_is_a_link() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let link = world.path("link");
    symlink(&image.root, &link).unwrap();
    let run = world.output(["run", "--rootfs", link.to_str().unwrap(), "-v/usr:/usr:ro", "--", "/bin/sh", "-c", "pwd"]);
    assert!(works_or_is_refused(&run, 2, "--rootfs") || stdout(&run) == "/\n", "{}", told(&run));
    image.bundle_with(&world, &["sh", "-c", "pwd; cat /marker; :"], |config| config["root"]["path"] = "link".into());
    let out = image.bundle.join("link");
    symlink(&image.host, &out).unwrap();
    // The bundle's author names the root; what is in it has no programs, so it is refused in one line.
    let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
    assert!(!run.status.success() && !stdout(&run).contains("host"), "{}", told(&run));
}

#[test]
fn names_of_the_host_that_are_too_long() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let name = "n".repeat(64);
    assert_eq!(stdout(&image.run(&["--hostname", &name], "hostname")).trim(), name);
    for length in [65, 1 << 10, 100 << 10] {
        let name = "n".repeat(length);
        assert!(!works_or_is_refused(&image.run(&["--hostname", &name], "true"), 125, "--hostname"));
        for field in ["hostname", "domainname"] {
            image.bundle_with(&world, &["true"], |config| config[field] = name.as_str().into());
            let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
            assert!(!works_or_is_refused(&run, 125, field));
        }
    }
}

/// What a file is, and what makes it so.
type Way<'w> = (&'w str, &'w dyn Fn(&Path));

/// Files by which users are found come with the image.
#[test]
fn hostile_files_of_users() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    assert_eq!(stdout(&image.run(&["-u", "web"], "id -u")), "33\n", "the control");
    let pipe = |path: &Path| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    let device = |path: &Path| {
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(1, 5)).unwrap();
    };
    let sparse = |path: &Path| fs::File::create(path).unwrap().set_len(100 << 20).unwrap();
    let long = |path: &Path| fs::write(path, "w".repeat(9 << 20)).unwrap();
    let many = |path: &Path| fs::write(path, "web:x:33:34:w:/:/bin/sh:a,web,b\n".repeat(1 << 18)).unwrap();
    let colons = |path: &Path| fs::write(path, ":".repeat(1 << 20)).unwrap();
    let too_big = |path: &Path| fs::write(path, "web:x:4294967296:-1:w:/:/bin/sh\nweb:x:4294967295:4294967295::/:\n").unwrap();
    let bytes = |path: &Path| fs::write(path, [0, 0xff, 0xfe, b'\n', b':'].repeat(1000)).unwrap();
    let shadow = |path: &Path| symlink("/etc/shadow", path).unwrap();
    let climbs = |path: &Path| symlink("../../../../../../../../../../etc/passwd", path).unwrap();
    let magic = |path: &Path| symlink("/proc/1/root/etc/passwd", path).unwrap();
    let itself = |path: &Path| symlink(path.file_name().unwrap(), path).unwrap();
    let directory = |path: &Path| fs::create_dir(path).unwrap();
    let ways: [Way<'_>; 13] = [
        ("a pipe", &pipe),
        ("a device", &device),
        ("a sparse file", &sparse),
        ("a long line", &long),
        ("many lines", &many),
        ("colons", &colons),
        ("numbers too big", &too_big),
        ("bytes", &bytes),
        ("the host's shadow", &shadow),
        ("a link that climbs", &climbs),
        ("a magic link", &magic),
        ("a link to itself", &itself),
        ("a directory", &directory),
    ];
    for file in ["passwd", "group"] {
        let path = image.root.join("etc").join(file);
        let kept = fs::read(&path).unwrap();
        for (way, make) in &ways {
            fs::remove_file(&path).unwrap();
            make(&path);
            for user in ["web", "web:web", "33", "daemon"] {
                let run = image.run(&["-u", user], "id -u >/dev/null; exit 0");
                works_or_is_refused(&run, 125, &format!("-u {user}, /etc/{file} is {way}"));
                assert!(run.stderr.len() < 1000, "{}", told(&run));
            }
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
            fs::write(&path, &kept).unwrap();
        }
    }
}

/// A node that an image brings is as good as one that was made inside.
#[test]
fn device_nodes_in_the_image() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let node = image.root.join("zero");
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, mode, makedev(1, 5)).unwrap();
    assert!(fs::File::open(&node).is_ok(), "the node is good");
    let script = "head -c 1 /dev/zero | wc -c; head -c 1 /zero | wc -c";
    let run = image.run(&[], script);
    assert_eq!(stdout(&run), "1\n0\n", "{}", told(&run));
    let with_rules = |rules: serde_json::Value| {
        image.bundle_with(&world, &["sh", "-c", script], |config| config["linux"]["resources"] = json!({ "devices": rules }));
        stdout(&world.output(["run", "--bundle", image.bundle.to_str().unwrap()])).to_owned()
    };
    let deny = json!({"allow": false, "access": "rwm"});
    // What every container has, /dev/zero among it, is let in under any name where there are rules.
    assert_eq!(with_rules(json!([deny])), "1\n1\n", "the control");
    assert_eq!(with_rules(json!([])), "1\n0\n");
    // Who may make nodes has rules even if none are written: /dev/loop-control is none of its devices.
    let script = "mknod /dev/node c 10 237 && true < /dev/node && echo opened; mknod /dev/zero-too c 1 5 && head -c 1 /dev/zero-too | wc -c";
    let may_make = |rules: serde_json::Value| {
        image.bundle_with(&world, &["sh", "-c", script], |config| {
            config["linux"]["resources"] = json!({ "devices": rules });
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push("CAP_MKNOD".into());
            }
        });
        stdout(&world.output(["run", "--bundle", image.bundle.to_str().unwrap()])).to_owned()
    };
    assert_eq!(may_make(json!([{"allow": true, "access": "rwm"}])), "opened\n1\n", "the control");
    assert_eq!(may_make(json!([])), "1\n");
}
