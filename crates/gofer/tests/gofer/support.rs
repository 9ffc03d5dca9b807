//! The runner, and gofers for tests.

use insula_gofer::{Client, Confinement, Export, Handle, Owner};
use insula_sys::process::{self, Child, Ended, Fork, Spaces};
use std::path::Path;
use tempfile::TempDir;

/// Measures rather than tests: only run by its name.
const ONLY_BY_NAME: &str = "trips";

pub(crate) const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// Runs the tests whose names have the program's argument in them.
pub(crate) fn run(tests: &[(&str, fn())]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a gofer needs root");
        return;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let wanted = |name: &str| match filters.as_slice() {
        [] => name != ONLY_BY_NAME,
        filters => filters.iter().any(|filter| if exact { name == *filter } else { name.contains(filter.as_str()) }),
    };
    let mut failed = Vec::new();
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        let ended = in_a_copy(test);
        println!("test {name} ... {}", if ended == Ended::Exited(0) { "ok".into() } else { format!("FAILED ({ended:?})") });
        if ended != Ended::Exited(0) {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// Runs something in a copy of this process, and waits for it.
pub(crate) fn in_a_copy(test: impl FnOnce()) -> Ended {
    match process::fork(Spaces::empty(), None).unwrap() {
        Fork::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
            process::exit(i32::from(result.is_err()))
        }
        Fork::Parent(child) => process::reap(&child.pidfd).unwrap(),
    }
}

/// A directory and a gofer that serves it.
pub(crate) struct Served {
    pub(crate) root: Handle,
    pub(crate) client: Client,
    pub(crate) child: Child,
    pub(crate) dir: TempDir,
}

impl Served {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Serves an empty directory.
pub(crate) fn serve() -> Served {
    serve_as(|_| {}, |_| {})
}

/// Serves a directory that has been filled, as an export that has been changed.
pub(crate) fn serve_as(fill: impl FnOnce(&Path), change: impl FnOnce(&mut Export)) -> Served {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let mut export = Export::new(dir.path());
    change(&mut export);
    let (client, child) = start(&[export]);
    let root = client.attach(0).unwrap().root;
    Served { root, client, child, dir }
}

pub(crate) fn start(exports: &[Export]) -> (Client, Child) {
    let (starting, client) = insula_gofer::spawn(exports, &Confinement::default()).unwrap();
    (client, starting.ready().unwrap())
}

/// An empty file system in memory, at a place in this process's own mounts; it goes with this value.
pub(crate) struct Mounted(std::path::PathBuf);

pub(crate) fn mount(place: &Path) -> Mounted {
    use rustix::mount::MountPropagationFlags;
    process::unshare(Spaces::MNT).unwrap();
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    let tmpfs = insula_sys::mount::make("tmpfs", "test", &[], 0).unwrap();
    insula_sys::mount::attach(tmpfs, insula_sys::mount::open_place(place, rustix::fs::OFlags::empty()).unwrap()).unwrap();
    Mounted(place.to_owned())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Walks along names that must all be there.
pub(crate) fn go(from: &Handle, names: &[&str]) -> Handle {
    let steps: Vec<_> = names.iter().map(|name| (name.as_bytes(), None)).collect();
    let mut walked = from.walk(&steps).unwrap();
    assert_eq!((walked.reached.len(), walked.stopped), (names.len(), None), "{names:?}");
    walked.reached.pop().unwrap().0.unwrap()
}
