//! The host's root below an overlay: what a program writes goes to memory, or to a directory that is kept.
//!
//! Root's program gets one overlay for each file system of the host's ([`privileged`]). In a user namespace that doesn't work for a
//! directory below which something is mounted: the namespace's copies of the host's mounts are locked together, so that nobody sees
//! what a mount covers, and an overlay's layer is one mount alone. So such a directory is made anew in a file system of memory, the
//! *skeleton*, and what lies in it becomes an overlay each ([`in_user_namespace`]). The kernel also copies nothing up that belongs to
//! a user the namespace doesn't know. What can be written is therefore below the top of an overlay, which is the caller's: the working
//! directory and the home directory get one of their own, and so do directories for everybody's temporary files.
//!
//! Source: `Documentation/filesystems/overlayfs.rst`, mount_namespaces(7) ("Restrictions on mount namespaces").

use crate::channel::failed;
use insula_boundary::Error;
use insula_spec::defaults::attr;
use insula_sys::mount::{self, Change};
use insula_sys::{Context, Errno};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the parts of overlays lie.
struct Layers {
    /// A file system of memory that lies on the store's directory, in this mount namespace only: layers must be attached somewhere.
    scratch: OwnedFd,
    anchor: PathBuf,
    /// Upper layers, by path and opened.
    path: PathBuf,
    dir: OwnedFd,
    /// For a user namespace.
    of_user: bool,
    /// The first overlay, to which the others are attached.
    root: Option<OwnedFd>,
    count: usize,
}

impl Layers {
    fn new(anchor: &Path, keep: Option<&Path>, most: Option<u64>, of_user: bool) -> Result<Layers, Error> {
        // Who fills it hears that it is full; otherwise the group's limit would end processes.
        let options = ["mode=700".to_owned()].into_iter().chain(most.map(|most| format!("size={most}")));
        let scratch = mount::make("tmpfs", "insula", &options.collect::<Vec<_>>(), attr::NOSUID | attr::NODEV).map_err(failed)?;
        let anchor_dir = mount::open_place(anchor, OFlags::DIRECTORY).on("open", anchor.display()).map_err(failed)?;
        mount::attach(&scratch, &anchor_dir).on("mount on", anchor.display()).map_err(failed)?;
        place(&scratch, "root", 0o755)?;
        let path = keep.unwrap_or(anchor).to_owned();
        let dir = mount::open_place(&path, OFlags::DIRECTORY).on("use", path.display()).map_err(failed)?;
        Ok(Layers { scratch, anchor: anchor.to_owned(), path, dir, of_user, root: None, count: 0 })
    }

    /// Lays an overlay over a directory, where the program will see that; `target` is where, if it isn't the root.
    fn add(&mut self, lower: &Path, target: Option<&Path>, mode: u32) -> Result<(), Error> {
        // Names by mount point, so that what is kept can be read back.
        let upper = target.map_or_else(|| "upper".to_owned(), |target| format!("upper{}", escape(target)));
        let work = format!("work{}", self.count);
        place(&self.dir, &upper, mode)?;
        place(&self.dir, &work, 0o755)?;
        let overlay = overlay(lower, &self.path.join(&upper), &self.path.join(&work), self.of_user)?;
        let place = match (&self.root, target) {
            (Some(root), Some(target)) => mount::open_inside(root, target, OFlags::PATH | OFlags::DIRECTORY),
            _ => mount::open_inside(&self.scratch, Path::new("root"), OFlags::PATH),
        };
        mount::attach(&overlay, place.on("open", lower.display()).map_err(failed)?)
            .on("mount on", lower.display())
            .map_err(failed)?;
        self.root.get_or_insert(overlay);
        self.count += 1;
        Ok(())
    }

    fn root(self) -> Result<OwnedFd, Error> {
        self.root.ok_or_else(|| Error::Failed("the host has no root file system".into()))
    }
}

/// One overlay for each file system. What isn't kept may take `most` bytes of memory.
pub(super) fn privileged(anchor: &Path, keep: Option<&Path>, most: Option<u64>) -> Result<OwnedFd, Error> {
    let mut layers = Layers::new(anchor, keep, most, false)?;
    let seen = Seen::look(anchor, keep)?;
    for (number, lower) in seen.with_files.iter().enumerate() {
        layers.add(lower, Some(lower).filter(|_| number > 0).map(PathBuf::as_path), 0o755)?;
    }
    layers.root()
}

/// Overlays as a plain user can have them.
pub(super) fn in_user_namespace(anchor: &Path, keep: Option<&Path>, most: Option<u64>) -> Result<OwnedFd, Error> {
    // Nothing is mounted here by others any more while we look.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).on("cut off", "the mounts of the host").map_err(failed)?;
    let seen = Seen::look(anchor, keep)?;
    let mut layers = Layers::new(anchor, keep, most, true)?;
    place(&layers.scratch, "skeleton", 0o755)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let skeleton =
        rustix::fs::openat(&layers.scratch, "skeleton", flags, Mode::empty()).on("open", "skeleton").map_err(failed)?;
    let mut split = Split { seen: &seen, own: seen.own_places(), lowers: BTreeSet::new(), files: Vec::new() };
    split.directory(Path::new("/"), &skeleton, true)?;
    let bottom = layers.anchor.join("skeleton");
    layers.add(&bottom, None, 0o755)?;
    let Split { own, mut lowers, files, .. } = split;
    // Where something is mounted below, the skeleton's directory is the caller's too.
    lowers.extend(own.into_iter().filter(|path| !seen.below(path)));
    for lower in &lowers {
        let Ok(stat) = rustix::fs::stat(lower) else { continue };
        layers.add(lower, Some(lower), stat.st_mode & 0o7777)?;
    }
    let root = layers.root()?;
    files.iter().try_for_each(|path| show_file(&root, path))?;
    Ok(root)
}

/// One overlay over a directory.
pub(super) fn over(lower: &Path, keep: &Path) -> Result<OwnedFd, Error> {
    let root = overlay(lower, &keep.join("upper"), &keep.join("work"), false)?;
    // Any place will do: it is about to be the root.
    let place = mount::open_place(Path::new("/"), OFlags::DIRECTORY).on("open", "/").map_err(failed)?;
    mount::attach(&root, place).on("mount on", "/").map_err(failed)?;
    Ok(root)
}

/// Makes a directory for a layer, unless it is there.
fn place(dir: &OwnedFd, name: &str, mode: u32) -> Result<(), Error> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(errno) => Err(errno).on("make", name).map_err(failed),
    }
}

fn overlay(lower: &Path, upper: &Path, work: &Path, of_user: bool) -> Result<OwnedFd, Error> {
    let text = |key: &str, path: &Path| {
        let text = path.to_string_lossy();
        // Separators of overlay's own syntax.
        let escaped: String =
            text.chars().flat_map(|c| [':', '\\', ','].contains(&c).then_some('\\').into_iter().chain([c])).collect();
        format!("{key}={}", if key == "lowerdir" { escaped.as_str() } else { &text })
    };
    let mut options = vec![text("lowerdir", lower), text("upperdir", upper), text("workdir", work)];
    if of_user {
        // Marks of its own in attributes that users may set.
        options.push("userxattr".into());
    }
    mount::make("overlay", "insula", &options, attr::NODEV).map_err(|error| {
        let advice = if of_user { "; it takes Linux 5.11 for a plain user" } else { "" };
        let text = format!("can't lay an overlay over {}: {error}{advice}; --rootfs DIR works without", lower.display());
        Error::Failed(text)
    })
}

/// A file that lies beside a mount, read-only.
fn show_file(root: &OwnedFd, path: &Path) -> Result<(), Error> {
    let show = || {
        let copy = mount::copy(CWD, path, false)?;
        mount::set_attributes(&copy, Change { set: attr::RDONLY, ..Change::default() })?;
        mount::attach(&copy, mount::open_inside(root, path, OFlags::PATH | OFlags::NOFOLLOW)?)
    };
    match show() {
        // It was removed meanwhile.
        Err(Errno::NOENT) => Ok(()),
        result => result.on("show", path.display()).map_err(failed),
    }
}

/// File systems with files of their own; those of the kernel's are made anew for each container.
const WITH_FILES: [&str; 12] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "overlay", "erofs", "squashfs", "vfat"];

/// What is the kernel's, or of this moment: nothing below is shown.
const OF_KERNEL: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

fn of_kernel(path: &Path) -> bool {
    OF_KERNEL.iter().any(|top| path.starts_with(top))
}

/// What is mounted on the host.
struct Seen {
    /// Everywhere, but what is ours.
    mounts: BTreeSet<PathBuf>,
    /// The root and the file systems below it that hold files, each before those below it.
    with_files: BTreeSet<PathBuf>,
}

impl Seen {
    fn look(anchor: &Path, keep: Option<&Path>) -> Result<Seen, Error> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").on("read", "/proc/self/mountinfo").map_err(failed)?;
        let working = std::env::current_dir().unwrap_or_default();
        let mut seen = Seen { mounts: BTreeSet::new(), with_files: BTreeSet::from([PathBuf::from("/")]) };
        for mounted in insula_sys::host::cgroup::parse_mountinfo(&text) {
            let path = mounted.mount_point;
            if path.starts_with(anchor) || keep.is_some_and(|keep| path.starts_with(keep)) {
                continue;
            }
            // The working directory's is there whatever its kind (a tmpfs, say).
            let holds_work = mounted.fs_type == "tmpfs" && working.starts_with(&path);
            let wanted = (WITH_FILES.contains(&mounted.fs_type.as_str()) || holds_work) && !of_kernel(&path);
            if wanted && path.is_dir() {
                seen.with_files.insert(path.clone());
            }
            seen.mounts.insert(path);
        }
        Ok(seen)
    }

    /// Directories in which the program is to write: the working directory, or what is the user's of the way to it; the same of the home
    /// directory, and directories of temporary files, where their file systems are shown.
    fn own_places(&self) -> Vec<PathBuf> {
        let user = rustix::process::geteuid().as_raw();
        let owned = |path: &&Path| rustix::fs::stat(*path).is_ok_and(|stat| stat.st_uid == user);
        let highest = |path: &Path| {
            let mut way: Vec<&Path> = path.ancestors().collect();
            way.reverse();
            way.into_iter().find(owned).map(Path::to_owned)
        };
        let working = std::env::current_dir().ok().map(|path| highest(&path).unwrap_or(path));
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute()).and_then(|path| highest(&path));
        let shown = |path: &PathBuf| !self.mounts.contains(path) || self.with_files.contains(path);
        let others = ["/tmp", "/var/tmp"].map(PathBuf::from).into_iter().chain(home);
        let real = |path: PathBuf| std::fs::canonicalize(path).ok();
        let all = working.into_iter().filter_map(real).chain(others.filter_map(real).filter(shown));
        all.filter(|path| path != Path::new("/") && !of_kernel(path) && path.is_dir()).collect()
    }

    /// Whether something is mounted below a directory.
    fn below(&self, dir: &Path) -> bool {
        self.mounts.iter().any(|path| path != dir && path.starts_with(dir))
    }
}

/// The most files and directories that may lie beside a mount: each is mounted.
const MOST_BESIDE: usize = 4096;

/// Takes the host's tree apart where something is mounted.
struct Split<'s> {
    seen: &'s Seen,
    /// Directories in which the program is to write.
    own: Vec<PathBuf>,
    /// Directories that overlays can be laid over.
    lowers: BTreeSet<PathBuf>,
    /// Files that can't be below any.
    files: Vec<PathBuf>,
}

impl Split<'_> {
    /// Makes a directory of the skeleton that something is mounted below. `shown`: also what else is in it.
    fn directory(&mut self, dir: &Path, skeleton: &OwnedFd, shown: bool) -> Result<(), Error> {
        let mut names = self.on_the_way(dir);
        if shown {
            // One that can't be read can have no more in it than is known.
            names.extend(std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()));
        }
        if names.len() > MOST_BESIDE {
            let text = format!(
                "can't show {}: something is mounted below it, and beside that are {} files, more than the {MOST_BESIDE} that can be \
                 shown; use --rootfs DIR, or run as root",
                dir.display(),
                names.len()
            );
            return Err(Error::Failed(text));
        }
        names.into_iter().try_for_each(|name| self.entry(dir.join(&name), &name, skeleton, shown))
    }

    /// The next step from a directory to each mount, and each place of the program's, below it.
    fn on_the_way(&self, dir: &Path) -> BTreeSet<OsString> {
        let below = self.seen.mounts.iter().chain(&self.own).filter_map(|path| path.strip_prefix(dir).ok());
        below.filter_map(|path| path.iter().next().map(ToOwned::to_owned)).collect()
    }

    fn entry(&mut self, path: PathBuf, name: &OsString, skeleton: &OwnedFd, shown: bool) -> Result<(), Error> {
        let Ok(stat) = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let made = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if shown => {
                rustix::fs::readlinkat(CWD, &path, Vec::new()).and_then(|to| rustix::fs::symlinkat(to, skeleton, name))
            }
            FileType::Directory => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mkdirat(skeleton, name, mode).on("make", path.display()).map_err(failed)?;
                return self.below(path, name, skeleton, shown);
            }
            FileType::RegularFile if shown => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let empty = rustix::fs::openat(skeleton, name, flags, Mode::from_raw_mode(0o444));
                self.files.push(path.clone());
                empty.map(drop)
            }
            // Sockets, pipes and devices are of the host's services.
            _ => Ok(()),
        };
        made.on("make", path.display()).map_err(failed)
    }

    /// What is to be done with a directory of which the skeleton has one, empty.
    fn below(&mut self, path: PathBuf, name: &OsString, skeleton: &OwnedFd, shown: bool) -> Result<(), Error> {
        if of_kernel(&path) {
            return Ok(());
        }
        let shown = if self.seen.mounts.contains(&path) { self.seen.with_files.contains(&path) } else { shown };
        if self.seen.below(&path) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(skeleton, name, flags, Mode::empty()).on("open", path.display()).map_err(failed)?;
            return self.directory(&path, &inner, shown);
        }
        if shown {
            self.lowers.insert(path);
        }
        Ok(())
    }
}

/// A mount point as part of a file name.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('/', "%2f")
}
