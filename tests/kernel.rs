//! The library of kernels: what goes in, what is refused, and what is left of that.

#[path = "../crates/vm/tests/images/mod.rs"]
mod images;
mod support;

use flate2::write::GzEncoder;
use images::{RELEASE, bzimage, elf};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{output, stderr, stdout, told};

/// A directory with a library in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn library(&self) -> PathBuf {
        self.path("library")
    }

    fn kernel<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_insula"));
        output(
            command.arg("kernel").args(args).arg("--library").arg(self.library()).current_dir(self.0.path()).stdin(Stdio::null()),
        )
    }

    #[track_caller]
    fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.kernel(args);
        assert!(output.status.success(), "{}", told(&output));
        stdout(&output).to_owned()
    }

    #[track_caller]
    fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.kernel(args);
        assert!(output.status.code() == Some(1) && stderr(&output).lines().count() == 1, "{}", told(&output));
        stderr(&output).to_owned()
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ok(["list", "--format", "json"])).unwrap()
    }

    /// Everything in the library, drafts too.
    fn names(&self) -> Vec<String> {
        let items = fs::read_dir(self.library())
            .map(|items| items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect());
        let mut names: Vec<String> = items.unwrap_or_default();
        names.sort();
        names
    }
}

fn vmlinuz() -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(&elf()).unwrap();
    bzimage(&writer.finish().unwrap())
}

fn unpacked(entry: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(entry.join("unpacked")).unwrap().map(|item| item.unwrap().path());
    items.filter(|path| path.extension() == Some(OsStr::new("elf"))).collect()
}

#[test]
fn a_library_that_is_not_there_is_empty() {
    let place = Place::new();
    assert_eq!(place.ok(["list"]), "NAME  VERSION  FORMAT  SIZE  MODULES  SHA256  FROM\n");
    assert!(place.list().is_empty() && !place.library().exists());
}

#[test]
fn an_imported_kernel_is_unpacked_and_listed() {
    let place = Place::new();
    let image = place.file("vmlinuz", &vmlinuz());
    assert_eq!(place.ok([OsStr::new("import"), image.as_os_str()]), format!("{RELEASE}\n"));
    place.file("modules/kernel/a.ko", b"\x7fELF");
    place.file("modules/modules.dep", b"kernel/a.ko:\n");
    std::os::unix::fs::symlink("/usr/src", place.path("modules/source")).unwrap();
    place.file("vmlinux", &elf());
    let second = place.kernel(["import", "vmlinux", "--name", "mine", "--modules", "modules"]);
    assert!(second.status.success() && stderr(&second).contains("left out what is no file in modules: 1"), "{}", told(&second));

    let table = place.ok(["list"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..7], [RELEASE, RELEASE, "bzImage", "(gzip)", "1", "MiB", "0"]);
    assert_eq!(lines[2][..6], ["mine", RELEASE, "vmlinux", "1", "MiB", "1"]);
    let list = place.list();
    let sum = Command::new("sha256sum").arg(place.path("vmlinux")).output().unwrap();
    assert!(list[1]["sha256"].as_str() == stdout(&sum).split(' ').next() && lines[2][6] == &stdout(&sum)[..12], "{list:?}");
    assert_eq!(
        (list[1]["origin"].as_str(), lines[2][7]),
        (place.path("vmlinux").to_str(), place.path("vmlinux").to_str().unwrap())
    );
    assert_eq!((&list[0]["name"], &list[0]["size"]), (&RELEASE.into(), &elf().len().into()));
    assert_eq!((&list[1]["name"], &list[1]["modules"]), (&"mine".into(), &1.into()));

    let entry = place.library().join(RELEASE);
    assert!(fs::read(entry.join("image")).unwrap() == vmlinuz());
    assert!(fs::read(&unpacked(&entry)[0]).unwrap() == elf());
    assert!(unpacked(&place.library().join("mine")).is_empty());
    assert!(place.library().join("mine/modules/kernel/a.ko").exists());
    assert_eq!(place.names(), [RELEASE, "mine"]);
}

#[test]
fn what_is_refused_leaves_nothing() {
    let place = Place::new();
    place.file("text", b"hello\n");
    place.file("vmlinuz", &vmlinuz());
    place.file("no-modules/readme", b"");
    let mut silent = elf();
    let at = silent.windows(RELEASE.len()).position(|bytes| bytes == RELEASE.as_bytes()).unwrap();
    silent[at] = b'x';
    place.file("silent", &silent);
    for (args, words) in [
        (&["import", "text"][..], "insula: text: not a Linux kernel: it is a text; give a vmlinux or a vmlinuz"),
        (&["import", "nothing"], "can't read the kernel nothing: No such file"),
        (&["import", "."], "it is a directory"),
        (&["import", "vmlinuz", "--modules", "nothing"], "can't read nothing"),
        (&["import", "vmlinuz", "--modules", "no-modules"], "there is no module in it"),
        (&["import", "vmlinuz", "--name", ".hidden"], "it can't begin with a dot"),
        (&["import", "silent"], "the image doesn't say its release; say --name NAME"),
    ] {
        let message = place.fails(args);
        assert!(message.contains(words), "{message}{words}");
    }
    assert!(place.names().is_empty(), "{:?}", place.names());
    for args in [
        &["import"][..],
        &["import", "vmlinuz", "--debian"],
        &["import", "--debian", "--modules", "x"],
        &["import", "vmlinuz", "--name", "a/b"],
    ] {
        let output = place.kernel(args);
        assert!(output.status.code() == Some(2) && stderr(&output).lines().count() == 1, "{}", told(&output));
    }
}

#[test]
fn a_name_is_given_once() {
    let place = Place::new();
    place.file("vmlinuz", &vmlinuz());
    place.ok(["import", "vmlinuz"]);
    let message = place.fails(["import", "vmlinuz"]);
    assert!(message.contains(&format!("there is a kernel {RELEASE} already; say --name NAME, or remove ")), "{message}");
    place.ok(["import", "vmlinuz", "--name", "other"]);
    assert_eq!(place.names(), [RELEASE, "other"]);
}

#[test]
fn an_entry_that_cannot_be_read_hides_no_other() {
    let place = Place::new();
    place.file("vmlinuz", &vmlinuz());
    place.ok(["import", "vmlinuz"]);
    place.file("library/broken/kernel.json", b"{");
    let output = place.kernel(["list"]);
    assert!(output.status.code() == Some(1) && stdout(&output).contains(RELEASE), "{}", told(&output));
    let advice = "broken/kernel.json; make the entry anew after `insula kernel remove broken`";
    assert!(stderr(&output).contains(advice) && stderr(&output).lines().count() == 1, "{}", told(&output));
    place.ok(["remove", "broken"]);
    assert_eq!(place.names(), [RELEASE]);
}

#[test]
fn what_is_removed_is_gone_with_what_others_left() {
    let place = Place::new();
    place.file("vmlinuz", &vmlinuz());
    for name in ["one", "two", "three"] {
        place.ok(["import", "vmlinuz", "--name", name]);
    }
    // Somebody was killed at work, and somebody is at work.
    place.file("library/.draft-killed/unpacked/x", b"x");
    place.file("library/.draft-busy/unpacked/x", b"x");
    let busy = fs::File::open(place.path("library/.draft-busy")).unwrap();
    rustix::fs::flock(&busy, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(place.ok(["remove", "one", "three"]), "");
    assert_eq!(place.names(), [".draft-busy", "two"]);
    drop(busy);
    place.ok(["import", "vmlinuz", "--name", "four"]);
    assert_eq!(place.names(), ["four", "two"]);
    for name in ["one", ".draft-busy"] {
        let message = place.fails(["remove", name]);
        assert!(
            message.contains(&format!("there is no kernel {name} in ")) && message.contains("insula kernel list"),
            "{message}"
        );
    }
}

/// What looks like the source of Linux to `insula kernel build`: what its `make` does is what `rules` say.
fn source(place: &Place, rules: &str) {
    for file in ["source/Kconfig", "source/arch/x86/Kconfig"] {
        place.file(file, b"");
    }
    place.file("source/Makefile", rules.as_bytes());
}

/// As if every tool were there: those of the host that it has, and for the others ones that do nothing. The compiler tells its version.
fn tools(place: &Place) {
    for tool in ["gcc", "ld", "objcopy", "make", "flex", "bison", "bc", "tar", "xz"] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", tool]).output().unwrap();
        let script: &[u8] = match tool {
            "objcopy" => b"#!/bin/sh\ncp \"$2\" \"$3\"\n",
            "gcc" => b"#!/bin/sh\necho 1.2.3\n",
            _ if found.status.success() => continue,
            _ => b"#!/bin/sh\n",
        };
        let path = place.file(&format!("tools/{tool}"), script);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
}

/// `insula kernel build` with those tools before the host's.
fn build(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insula"));
    command.args(["kernel", "build", "--library"]).arg(place.library()).args(args).current_dir(place.0.path());
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", place.path("tools").display())).stdin(Stdio::null());
    command
}

const KEEP_OPTIONS: &str = "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\n";

#[test]
fn what_is_built_is_kept_with_its_options() {
    let place = Place::new();
    let image = place.file("vmlinux", &elf());
    tools(&place);
    let rules =
        "vmlinux:\n\t@echo '  CC      init/main.o'\n\tcp $(CURDIR)/../vmlinux $(O)/vmlinux\n\techo $(ARCH) > $(O)/System.map\n";
    source(&place, &(KEEP_OPTIONS.to_owned() + rules));
    place.file("more", b"CONFIG_SQUASHFS=y\n# CONFIG_IPV6 is not set\n");
    let output = output(&mut build(&place, &["--source", "source", "--config", "more", "--name", "micro", "-j", "2"]));
    assert!(output.status.success() && stdout(&output) == "micro\n", "{}", told(&output));
    // Not at a terminal: a line for each stage.
    assert!(stderr(&output).contains(" s] compile\n") && !stderr(&output).contains('\r'), "{}", told(&output));
    let entry = place.library().join("micro");
    assert!(fs::read(entry.join("image")).unwrap() == fs::read(image).unwrap());
    assert_eq!(fs::read_to_string(entry.join("System.map")).unwrap(), "x86_64\n");
    let config = fs::read_to_string(entry.join("config")).unwrap();
    assert!(config.contains("CONFIG_SQUASHFS=y\n# CONFIG_IPV6 is not set\n") && !config.contains("CONFIG_IPV6=y"), "{config}");
    let origin = format!("built from {}, gcc 1.2.3", place.path("source").canonicalize().unwrap().display());
    assert_eq!(place.list()[0]["origin"], origin.as_str());
    assert!(!entry.join("build").exists() && place.names() == ["micro"], "{:?}", place.names());
}

#[test]
fn a_build_that_cannot_be_leaves_nothing() {
    let place = Place::new();
    tools(&place);
    source(&place, &(KEEP_OPTIONS.to_owned() + "vmlinux:\n\t@echo 'fs/a.c:3:1: error: no such thing' >&2; exit 1\n"));
    place.file("text", b"hello\n");
    place.file("more", b"SQUASHFS=y\n");
    place.file("taken/kernel.json", b"{}");
    fs::create_dir_all(place.path("empty")).unwrap();
    for (args, words) in [
        (&["--source", "nothing"][..], "can't use --source nothing: No such file"),
        (&["--source", "empty"], "there is no source of Linux in it"),
        (&["--source", "text"], "can't unpack "),
        (&["--source", "source", "--config", "more"], "\"SQUASHFS=y\" is no option; write CONFIG_NAME=y"),
        (&["--source", "source", "--config", "nothing"], "can't read --config nothing: No such file"),
        (&["--source", "source", "--name", ".hidden"], "it can't begin with a dot"),
        (&["--source", "source"], "make failed: fs/a.c:3:1: error: no such thing"),
    ] {
        let output = output(&mut build(&place, args));
        let line = stderr(&output).lines().last().unwrap_or_default();
        assert!(
            output.status.code() == Some(1) && line.starts_with("insula: ") && line.contains(words),
            "{}{words}",
            told(&output)
        );
        assert!(place.names().is_empty(), "{:?}", place.names());
    }
    source(&place, "allnoconfig:\n\tgrep -v VIRTIO_FS $(KCONFIG_ALLCONFIG) > $(O)/.config\n");
    let dropped = output(&mut build(&place, &["--source", "source"]));
    assert!(stderr(&dropped).contains("this source can't have CONFIG_VIRTIO_FS=y: "), "{}", told(&dropped));
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn what_a_build_misses_is_named_with_its_packages() {
    let place = Place::new();
    tools(&place);
    source(&place, "");
    let mut command = build(&place, &["--source", "source"]);
    for tool in ["ld", "make", "bc", "tar", "xz"] {
        fs::copy(place.path("tools/gcc"), place.path("tools").join(tool)).unwrap();
    }
    for tool in ["flex", "bison", "objcopy"] {
        let _ = fs::remove_file(place.path("tools").join(tool));
    }
    let output = output(command.env("PATH", place.path("tools")));
    let words = "a kernel can't be built here, as some things are missing: objcopy, flex, bison; \
                 on Debian: apt-get install binutils flex bison\n";
    assert!(output.status.code() == Some(1) && stderr(&output).ends_with(words), "{}", told(&output));
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    tools(&place);
    source(&place, &(KEEP_OPTIONS.to_owned() + "vmlinux:\n\techo $$$$ > $(CURDIR)/../begun; sleep 1000\n"));
    for signal in ["INT", "TERM", "HUP"] {
        let child = build(&place, &["--source", "source"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        support::eventually("a build under way", || support::read(place.path("begun")).ends_with('\n'));
        let shell = support::read(place.path("begun"));
        support::signal(signal, child.id());
        let output = support::finish(child);
        let last = stderr(&output).lines().last().unwrap_or_default();
        assert!(output.status.code() == Some(130) && last == "insula: interrupted; nothing was kept", "{}", told(&output));
        assert!(place.names().is_empty(), "{:?}", place.names());
        support::eventually("the end of what it ran", || !Path::new("/proc").join(shell.trim()).exists());
        fs::remove_file(place.path("begun")).unwrap();
    }
    // Who is killed at once leaves it to the next.
    let mut child = build(&place, &["--source", "source"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    support::eventually("a build under way", || support::read(place.path("begun")).ends_with('\n'));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.names().len(), 1);
    let shell = support::read(place.path("begun"));
    support::eventually("make's end", || !Path::new("/proc").join(shell.trim()).exists());
    place.file("vmlinuz", &vmlinuz());
    place.ok(["import", "vmlinuz"]);
    assert_eq!(place.names(), [RELEASE]);
}

/// The real one, from Debian's archive.
#[test]
fn debians_kernel_is_imported_with_what_a_guest_needs() {
    let place = Place::new();
    let downloads =
        Command::new("apt-cache").args(["show", "linux-image-cloud-amd64"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !downloads.is_ok_and(|status| status.success()) {
        eprintln!("skipped: apt knows no linux-image-cloud-amd64 here");
        return;
    }
    let release = place.ok(["import", "--debian"]).trim().to_owned();
    let list = place.list();
    assert!(list[0]["version"] == release.as_str() && release.ends_with("-cloud-amd64"), "{list:?}");
    assert!(
        list[0]["format"].as_str().unwrap().starts_with("bzImage (") && list[0]["size"].as_u64().unwrap() > 10 << 20,
        "{list:?}"
    );
    let modules = place.library().join(&release).join("modules");
    let dep = fs::read_to_string(modules.join("modules.dep")).unwrap();
    for name in ["virtio_mmio", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport", "overlay", "erofs", "virtiofs"] {
        assert!(dep.lines().any(|line| line.split_once(':').unwrap().0.ends_with(&format!("/{name}.ko"))), "{name}: {dep}");
    }
    let named: Vec<&str> = dep.split(|c: char| c == ':' || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    assert!(named.iter().all(|path| fs::read(modules.join(path)).unwrap().starts_with(b"\x7fELF")));
    assert!(dep.lines().any(|line| line.contains("virtio_transport.ko:") && line.contains("/vsock.ko")), "{dep}");
    assert_eq!(unpacked(&place.library().join(&release)).len(), 1);
}
