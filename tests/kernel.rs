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
    assert_eq!(place.ok(["list"]), "NAME  VERSION  FORMAT  SIZE  MODULES\n");
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
    assert_eq!(lines[1], [RELEASE, RELEASE, "bzImage", "(gzip)", "1", "MiB", "0"]);
    assert_eq!(lines[2], ["mine", RELEASE, "vmlinux", "1", "MiB", "1"]);
    let list = place.list();
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
    assert!(stderr(&output).contains("broken/kernel.json; remove ") && stderr(&output).lines().count() == 1, "{}", told(&output));
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
