//! Ways out that an image, or a container beside, opens for what sets up the next one: mounts, terminals, users and layers.

use super::image::{Image, listing};
use super::support::plain::Plain;
use super::support::pty::Terminal;
use super::support::{World, output, program, read, stderr, stdout, told};
use super::works_or_is_refused;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// The mounts of a configuration but those at or below a place.
fn drop_mounts(config: &mut Value, below: &str) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !Path::new(mount["destination"].as_str().unwrap()).starts_with(below));
}

fn bind(source: &Path, to: &str) -> Value {
    json!({"destination": to, "source": source, "type": "bind", "options": ["bind"]})
}

/// CVE-2019-16884, CVE-2025-52881: labels and parameters went to a `/proc` of the image's making, and others were written in their place.
#[test]
fn a_false_proc() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let proc = world.directory("false-proc");
    let parameter = proc.join("sys/net/ipv4/ip_unprivileged_port_start");
    let labels: Vec<_> = (1..40).map(|pid| proc.join(format!("{pid}/attr/apparmor/exec"))).collect();
    for path in labels.iter().chain([&parameter]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "false\n").unwrap();
    }
    let binds =
        "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); print bind(S, sockaddr_in(80, INADDR_ANY)) ? qq(bound\\n) : qq($!\\n)";
    image.bundle_with(&world, &["perl", "-e", binds], |config| {
        drop_mounts(config, "/proc");
        config["mounts"].as_array_mut().unwrap().push(bind(&proc, "/proc"));
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "80"});
        config["process"]["apparmorProfile"] = "unconfined".into();
        config["process"]["user"] = json!({"uid": 33, "gid": 34});
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            config["process"]["capabilities"][set] = json!([]);
        }
    });
    let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
    assert_eq!(stdout(&run), "bound\n", "the parameter was set where it counts: {}", told(&run));
    for path in labels.iter().chain([&parameter]) {
        assert_eq!(read(path), "false\n", "{}", path.display());
    }
}

/// CVE-2025-31133: what covers hidden files was found by the name `/dev/null`, which led elsewhere.
#[test]
fn a_false_null() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    fs::write(image.root.join("secret"), "secret\n").unwrap();
    fs::write(image.root.join("cover"), "in its place\n").unwrap();
    let node = |path: &Path, minor| {
        mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, minor)).unwrap()
    };
    let ways: [super::Way<'_>; 5] = [
        ("a link", &|path| symlink("/cover", path).unwrap()),
        ("a link that climbs", &|path| symlink("../cover", path).unwrap()),
        ("a file", &|path| fs::write(path, "in its place\n").unwrap()),
        ("another device", &|path| node(path, 5)),
        ("itself", &|path| node(path, 3)),
    ];
    for (way, make) in ways {
        let dev = world.directory("false-dev");
        make(&dev.join("null"));
        image.bundle_with(&world, &["head", "-c", "20", "/secret"], |config| {
            drop_mounts(config, "/dev");
            config["mounts"].as_array_mut().unwrap().push(bind(&dev, "/dev"));
            config["linux"]["maskedPaths"] = json!(["/secret"]);
        });
        let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
        assert!(stdout(&run).is_empty() && run.status.success(), "/dev/null is {way}: {}", told(&run));
        fs::remove_dir_all(&dev).unwrap();
    }
}

/// CVE-2025-52565: what was bound on `/dev/console` was found by the terminal's name, which led elsewhere.
#[test]
fn a_false_terminal() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    fs::write(image.root.join("cover"), "in its place\n").unwrap();
    let pts = world.directory("false-pts");
    fs::create_dir(pts.join("pts")).unwrap();
    mknodat(CWD, pts.join("ptmx"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(5, 2)).unwrap();
    for number in 0..10 {
        symlink("/cover", pts.join(number.to_string())).unwrap();
    }
    image.bundle_with(&world, &["sh", "-c", "test -c /dev/console && echo a terminal || cat /dev/console"], |config| {
        drop_mounts(config, "/dev/pts");
        let options = ["newinstance", "ptmxmode=0666"];
        let beneath = json!({"destination": "/dev/pts/pts", "source": "devpts", "type": "devpts", "options": options});
        config["mounts"].as_array_mut().unwrap().extend([bind(&pts, "/dev/pts"), beneath]);
        config["process"]["terminal"] = true.into();
    });
    let mut terminal = Terminal::new(&world);
    let said = terminal.command(&format!("insula run --bundle {}", image.bundle.display()));
    assert_eq!(said, "a terminal\n");
    terminal.exit();
}

/// CVE-2021-30465, CVE-2024-45310: between a look at a mount point and its use, a link took its place.
#[test]
fn a_race_for_a_mount_point() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let (here, link) = (image.root.join("place"), image.root.join("link"));
    fs::create_dir(&here).unwrap();
    symlink(&image.host, &link).unwrap();
    let source = world.directory("source");
    let before = listing(&image.host);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &here, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for number in 0..40 {
            image.bundle_with(&world, &["true"], |config| {
                config["mounts"].as_array_mut().unwrap().push(bind(&source, &format!("/place/made{number}/deeper")));
            });
            works_or_is_refused(&world.output(["run", "--bundle", image.bundle.to_str().unwrap()]), 125, "a race");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(listing(&image.host), before, "made on the host");
}

/// CVE-2022-23648 (containerd): what an image has where a volume goes was copied into it, by way of a link to the host's files.
#[test]
fn copies_of_what_a_volume_covers() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let host = image.host.to_str().unwrap();
    for (name, to) in [("absolute", host), ("climbing", &format!("../../../../../..{host}")), ("relative", "../host")] {
        symlink(to, image.root.join(name)).unwrap();
        // Where it leads to from the image's root, there is something, too.
        fs::create_dir_all(image.root.join(host.trim_start_matches('/'))).unwrap();
        fs::create_dir_all(image.root.join("host")).unwrap();
        image.bundle_with(&world, &["sh", "-c", &format!("cat /{name}/marker; :")], |config| {
            let options = ["tmpcopyup"];
            let volume = json!({"destination": format!("/{name}"), "source": "tmpfs", "type": "tmpfs", "options": options});
            config["mounts"].as_array_mut().unwrap().push(volume);
        });
        let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
        works_or_is_refused(&run, 125, name);
        assert!(!stdout(&run).contains("of the host"), "{name}: {}", told(&run));
    }
}

/// CVE-2023-25809: with the host's `/sys` in a user namespace, its groups could be written.
#[test]
fn the_hosts_groups_through_its_sysfs() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let find = "find /sys -maxdepth 5 -type f -writable 2>/dev/null | head -n 3; test -e /sys/fs/cgroup/. && echo seen";
    image.bundle_with(&world, &["sh", "-c", find], |config| {
        drop_mounts(config, "/sys/fs/cgroup");
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "cgroup");
        namespaces.push(json!({"type": "user"}));
        // Who is root on the host, too: nothing else than the mount keeps it from writing.
        for field in ["uidMappings", "gidMappings"] {
            config["linux"][field] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        }
    });
    let run = world.output(["run", "--bundle", image.bundle.to_str().unwrap()]);
    assert_eq!(stdout(&run), "seen\n", "{}", told(&run));
}

/// CVE-2022-24769, CVE-2022-29162: programs and those added got capabilities to inherit, which files then gave to who isn't root.
#[test]
fn nothing_to_inherit() {
    let Some(world) = World::new() else { return };
    let look = ["grep", "CapInh", "/proc/self/status"];
    let none = "CapInh:\t0000000000000000\n";
    for options in [&[][..], &["--cap-add", "ALL"], &["-u", "33"]] {
        assert_eq!(world.ok([&["run"][..], options, &["--"], &look].concat()), none, "run {options:?}");
    }
    world.ok(["run", "-d", "--name", "target", "--cap-add", "SYS_PTRACE", "--", "sleep", "1000"]);
    for options in [&[][..], &["--user", "33"]] {
        assert_eq!(world.ok([&["exec"][..], options, &["target"], &look].concat()), none, "exec {options:?}");
    }
}

/// A set-user-ID program that the image brings, for who isn't root.
#[test]
fn programs_of_another_user() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    let other = image.root.join("id");
    fs::copy("/usr/bin/id", &other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o4755)).unwrap();
    let control = stdout(&image.run(&["-u", "33", "--security-opt", "no-new-privileges=false"], "/id -u")).to_owned();
    assert_eq!(control, "0\n", "the way is there");
    assert_eq!(stdout(&image.run(&["-u", "33"], "/id -u")), "33\n");
}

/// CVE-2021-41091: a set-user-ID program that a container's root made could be run by any user of the host, where layers are kept.
#[test]
fn layers_that_others_can_enter() {
    let Some(plain) = Plain::new() else { return };
    let world = &plain.world;
    let kept = world.path("kept");
    world.ok(["run", "--keep", kept.to_str().unwrap(), "--", "sh", "-c", "cp /usr/bin/id /evil; chmod 4755 /evil"]);
    let evil = kept.join("upper/evil");
    assert_eq!(fs::metadata(&evil).unwrap().permissions().mode() & 0o7777, 0o4755, "it is there");
    // By a shell: who becomes the user still has rights while it looks for the program.
    let try_it = || output(&mut plain.command(["sh", "-c", "exec \"$0\" -u", evil.to_str().unwrap()]));
    let tried = try_it();
    assert!(!tried.status.success() && stdout(&tried).is_empty(), "{}", told(&tried));
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(stdout(&try_it()), "0\n", "the control");
    let store = fs::metadata(world.store()).unwrap().permissions().mode();
    assert_eq!(store & 0o077, 0, "the store: {store:o}");
}

/// CVE-2022-47952 (LXC): a set-user-ID helper told any user which files are there.
#[test]
fn an_oracle_for_paths() {
    let Some(plain) = Plain::new() else { return };
    let world = &plain.world;
    let copy = world.path("set-user-id");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let hidden = world.directory("hidden");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(hidden.join("there")).unwrap();
    // By itself the program tells a plain user no more than the kernel does; with its owner's rights it doesn't do anything.
    for (program, about) in [(world.path("insula"), "itself"), (copy, "set-user-ID")] {
        let ask = |name: &str| {
            let path = hidden.join(name);
            let run =
                output(&mut plain.command([program.to_str().unwrap(), "run", "--rootfs", path.to_str().unwrap(), "--", "true"]));
            assert!(!run.status.success(), "{about}: {}", told(&run));
            stderr(&run).replace(name, "NAME")
        };
        assert_eq!(ask("there"), ask("none"), "{about}");
    }
}

/// An image whose list of users has no end.
#[test]
fn users_without_end() {
    let Some(world) = World::new() else { return };
    let image = Image::new(&world);
    for file in ["passwd", "group"] {
        let path = image.root.join("etc").join(file);
        let kept = fs::read(&path).unwrap();
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let mut command = Command::new("prlimit");
        command.arg("--as=2147483648").arg(program()).arg("--root").arg(world.store()).arg("run");
        let run = output(command.args(image.options(&["-u", "33"])).args(["--", "id", "-u"]));
        assert_eq!(stdout(&run), "33\n", "{file}: {}", told(&run));
        fs::write(&path, kept).unwrap();
    }
}

/// What takes defences away for `make weakened` is in no other program.
#[test]
fn no_switch_for_defences() {
    if super::support::weakened().is_some() {
        return;
    }
    let bytes = fs::read(program()).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("set-user-ID") && !has("INSULA_WEAKENED") && !has("no-set-user-id"));
}
