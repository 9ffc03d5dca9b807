//! An overlay by its inodes, with a tmpfs below.

use super::{Node, Overlay};
use crate::Errno;
use crate::fs::tmpfs::{Options, Tmpfs};
use crate::fs::{Changes, FileType, Inode, NewFile};
use crate::testing::World;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

type Layer = Arc<dyn Inode>;

fn new(mode: u32) -> NewFile<'static> {
    NewFile { mode, uid: 0, gid: 0, rdev: 0, target: &[] }
}

fn file(directory: &Layer, name: &str, content: &[u8]) -> Layer {
    let made = directory.create(name.as_bytes(), &new(c::S_IFREG | 0o640)).expect("room");
    made.write_bytes(0, content).expect("room");
    made
}

fn directory(parent: &Layer, name: &str) -> Layer {
    parent.create(name.as_bytes(), &new(c::S_IFDIR | 0o755)).expect("room")
}

fn content(inode: &Layer) -> Vec<u8> {
    let mut bytes = alloc::vec![0; 64];
    let count = inode.read_bytes(0, &mut bytes).expect("a file");
    bytes.truncate(count);
    bytes
}

fn names(inode: &Layer) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = inode.names().expect("a directory").into_iter().map(|name| name.name).collect();
    names.sort();
    names
}

struct Layers {
    lower: Layer,
    upper: Layer,
    root: Layer,
}

fn layers() -> Layers {
    let world = World::new();
    let options = Options { mode: 0o755, ..Options::default() };
    let lower: Layer = Tmpfs::root(&world.kernel, &options);
    let dir = directory(&lower, "dir");
    file(&dir, "one", b"one");
    file(&dir, "two", b"two");
    let linked = file(&lower, "a", b"linked");
    lower.link(b"b", &linked).expect("room");
    let upper: Layer = Tmpfs::root(&world.kernel, &options);
    let root: Arc<Node> = Overlay::root(&world.kernel, upper.clone(), [lower.clone()].into()).expect("layers");
    Layers { lower, upper, root }
}

#[test]
fn what_is_changed_is_copied_up_and_keeps_its_number() {
    let Layers { lower, upper, root } = layers();
    let dir = root.lookup(b"dir").expect("it is below");
    let one = dir.lookup(b"one").expect("it is below");
    let before = one.attributes().expect("it is there");
    assert_eq!(names(&upper), Vec::<Vec<u8>>::new(), "looking copies nothing");
    one.set_attributes(&Changes { mode: Some(0o600), ..Changes::default() }).expect("room");
    one.write_bytes(3, b" more").expect("room");
    let after = dir.lookup(b"one").and_then(|again| again.attributes()).expect("it is above");
    assert_eq!((after.ino, after.dev, after.mtime), (before.ino, before.dev, after.mtime));
    assert_eq!((after.permissions(), after.size), (0o600, 8));
    assert_eq!(content(&upper.lookup(b"dir").and_then(|dir| dir.lookup(b"one")).expect("copied")), b"one more");
    assert_eq!(content(&lower.lookup(b"dir").and_then(|dir| dir.lookup(b"one")).expect("as before")), b"one");
    assert_eq!(names(&dir), [b"one", b"two"]);
    let listed = dir.names().expect("a directory");
    assert!(listed.iter().any(|name| name.name == b"one" && name.ino == before.ino));
    assert_eq!(one.xattrs().as_deref(), Ok(&[][..]), "the overlay's own attributes aren't shown");
}

#[test]
fn removed_names_stay_removed_and_come_back_empty() {
    let Layers { lower, upper, root } = layers();
    let dir = root.lookup(b"dir").expect("it is below");
    assert_eq!(root.rmdir(b"dir"), Err(Errno::ENOTEMPTY));
    dir.unlink(b"one").expect("it is there");
    dir.unlink(b"two").expect("it is there");
    assert_eq!(dir.lookup(b"one").err(), Some(Errno::ENOENT));
    assert_eq!(names(&dir), Vec::<Vec<u8>>::new());
    root.rmdir(b"dir").expect("it is empty");
    assert_eq!(root.lookup(b"dir").err(), Some(Errno::ENOENT));
    assert_eq!(upper.lookup(b"dir").map(|mark| mark.file_type()), Ok(FileType::Character));
    let again = directory(&root, "dir");
    assert_eq!(names(&again), Vec::<Vec<u8>>::new(), "nothing below shows through");
    assert_eq!(root.lookup(b"dir").map(|dir| names(&dir)), Ok(Vec::new()));
    assert_eq!(names(&lower.lookup(b"dir").expect("as before")), [b"one", b"two"]);
    assert_eq!(root.create(b"mark", &new(c::S_IFCHR)).err(), Some(Errno::EPERM));
}

#[test]
fn files_move_and_directories_with_something_below_do_not() {
    let Layers { root, .. } = layers();
    let dir = root.lookup(b"dir").expect("it is below");
    let one = dir.lookup(b"one").expect("it is below");
    assert_eq!(root.rename(b"dir", &root, b"moved", 0), Err(Errno::EXDEV));
    dir.rename(b"one", &root, b"moved", 0).expect("room");
    assert_eq!(dir.lookup(b"one").err(), Some(Errno::ENOENT));
    assert_eq!(root.lookup(b"moved").map(|moved| content(&moved)).as_deref(), Ok(&b"one"[..]));
    // Who had it before changes the same file.
    one.write_bytes(0, b"ONE").expect("room");
    assert_eq!(root.lookup(b"moved").map(|moved| content(&moved)).as_deref(), Ok(&b"ONE"[..]));
    let fresh = directory(&root, "fresh");
    file(&fresh, "x", b"");
    root.rename(b"moved", &dir, b"two", 0).expect("it replaces what is below");
    assert_eq!(dir.lookup(b"two").map(|two| content(&two)).as_deref(), Ok(&b"ONE"[..]));
    assert_eq!(names(&dir), [b"two"]);
    assert_eq!(root.rename(b"fresh", &root, b"dir", 0), Err(Errno::ENOTEMPTY));
    dir.unlink(b"two").expect("it is there");
    root.rename(b"fresh", &root, b"dir", 0).expect("it is empty now");
    assert_eq!(root.lookup(b"dir").map(|dir| names(&dir)), Ok([b"x".to_vec()].into()));
}

#[test]
fn all_names_below_lead_to_one_copy() {
    let Layers { root, .. } = layers();
    root.lookup(b"a").and_then(|a| a.write_bytes(0, b"LINKED")).expect("room");
    assert_eq!(root.lookup(b"b").map(|b| content(&b)).as_deref(), Ok(&b"LINKED"[..]));
    root.rename(b"b", &root, b"c", 0).expect("room");
    root.lookup(b"c").and_then(|c| c.write_bytes(0, b"third!")).expect("room");
    assert_eq!(root.lookup(b"a").map(|a| content(&a)).as_deref(), Ok(&b"third!"[..]));
    assert_eq!(root.lookup(b"b").err(), Some(Errno::ENOENT));
}

#[test]
fn what_nobody_names_any_more_can_still_be_changed() {
    let Layers { upper, root, .. } = layers();
    let dir = root.lookup(b"dir").expect("it is below");
    let one = dir.lookup(b"one").expect("it is below");
    dir.unlink(b"one").expect("it is there");
    one.write_bytes(0, b"ghost").expect("a copy without a name");
    assert_eq!(content(&one), b"ghost");
    assert_eq!(dir.lookup(b"one").err(), Some(Errno::ENOENT));
    let marked = upper.lookup(b"dir").and_then(|dir| dir.lookup(b"one"));
    assert_eq!(marked.map(|mark| mark.file_type()), Ok(FileType::Character));
}
