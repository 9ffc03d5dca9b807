//! Putting kernels and initial file systems into memory, when their files aren't what they were.

mod images;

use images::elf;
use insula_vm::boot::{load, open_initrd};
use insula_vm::kernel::Kernel;
use insula_vm::memory::{Backing, GuestMemory, allocate};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A vmlinux, opened, and its file.
fn kernel() -> (Kernel, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), elf()).unwrap();
    (Kernel::open(file.path(), None).unwrap(), file)
}

/// Fills memory both ways: all before the guest starts, and what can wait while it runs.
fn fill(memory: &GuestMemory, kernel: &Kernel, initrd: Option<&Arc<File>>) -> [insula_vm::Result<()>; 2] {
    let filling = || load(memory, kernel, None, initrd, "").unwrap().1;
    let before = filling().read_while(|| true);
    let mut filling = filling();
    let while_it_runs = filling.read_while(|| false).and_then(|()| match filling.rest()? {
        Some(rest) => rest.bring(&AtomicBool::new(false)),
        None => Ok(()),
    });
    [before, while_it_runs]
}

#[test]
fn a_kernel_that_became_shorter_is_an_error() {
    let memory = allocate(64 << 20, Backing::Private).unwrap();
    let (kernel, file) = kernel();
    for filled in fill(&memory, &kernel, None) {
        filled.unwrap();
    }
    file.as_file().set_len(0x1_0000).unwrap();
    for filled in fill(&memory, &kernel, None) {
        assert_eq!(filled.unwrap_err().to_string(), "can't read the kernel: its file became shorter while it was read");
    }
}

/// A file in sysfs says to have a page, and has a few bytes: as one that becomes shorter between the question and the reading.
#[test]
fn an_initial_file_system_that_became_shorter_is_an_error() {
    let memory = allocate(64 << 20, Backing::Private).unwrap();
    let (kernel, _file) = kernel();
    let initrd = Arc::new(File::open("/sys/kernel/uevent_seqnum").unwrap());
    assert_eq!(initrd.metadata().unwrap().len(), 4096);
    for filled in fill(&memory, &kernel, Some(&initrd)) {
        let error = filled.unwrap_err().to_string();
        assert_eq!(error, "can't read the initial file system: its file became shorter while it was read");
    }
}

#[test]
fn what_is_no_initial_file_system_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    File::create(&empty).unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    for (path, problem) in [
        (Path::new("/nowhere"), "can't be opened: No such file"),
        (folder.path(), "is a directory"),
        (&pipe, "is a pipe or a device"),
        (&empty, "is an empty file"),
    ] {
        let error = open_initrd(path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the initial file system {} {problem}", path.display())), "{error}");
    }
}
