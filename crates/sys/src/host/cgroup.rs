//! Cgroup hierarchies: which there are, which controllers each holds, where they are mounted, and who may write to them.
//!
//! Three tables of the kernel say it all, and are parsed here without any I/O so that the parsers can be reused and tested:
//! `/proc/self/mountinfo` ([`parse_mountinfo`]), `/proc/self/cgroup` ([`parse_membership`]) and `/proc/cgroups`
//! ([`parse_controllers`]). Sources: cgroups(7), proc_pid_mountinfo(5), `Documentation/admin-guide/cgroup-v2.rst`.

use super::files;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One line of a mountinfo file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The part of the file system that is mounted, as a path inside it.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Options of this mount (`rw`, `nosuid`, …).
    pub options: Vec<String>,
    /// The type of the file system.
    pub fs_type: String,
    /// What is mounted: a device, or any word.
    pub source: String,
    /// Options of the file system itself.
    pub super_options: Vec<String>,
}

/// Parses a mountinfo file. Lines that don't have its form are left out.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    // `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda rw`: any number of optional fields stands before the dash.
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    let list = |options: &str| options.split(',').map(str::to_owned).collect();
    Some(Mount {
        root: unescape(before.next()?),
        mount_point: unescape(before.next()?),
        options: list(before.next()?),
        fs_type: after.next()?.to_owned(),
        source: unescape(after.next()?).to_string_lossy().into_owned(),
        super_options: list(after.next().unwrap_or_default()),
    })
}

/// Undoes the kernel's octal escapes of blank, tab, newline, `#` and backslash.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = (first == b'\\').then(|| tail.get(..3).and_then(octal)).flatten();
        bytes.push(escape.unwrap_or(first));
        rest = if escape.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// One line of `/proc/<pid>/cgroup`: the group a process is in, in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// 0 for the unified (v2) hierarchy.
    pub hierarchy: u32,
    /// Controllers of a v1 hierarchy, or its name as `name=…`; empty for v2.
    pub controllers: Vec<String>,
    /// The group, as a path from the hierarchy's root (or the cgroup namespace's).
    pub path: PathBuf,
}

/// Parses a `/proc/<pid>/cgroup` file. Lines that don't have its form are left out.
pub fn parse_membership(text: &str) -> Vec<Membership> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        Some(Membership {
            hierarchy: parts.next()?.parse().ok()?,
            controllers: parts.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            path: PathBuf::from(parts.next()?),
        })
    };
    text.lines().filter_map(line).collect()
}

/// One line of `/proc/cgroups`: a controller the kernel has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// Its v1 name (`blkio` is v2's `io`).
    pub name: String,
    /// The hierarchy it is attached to; 0 if none, or the unified one.
    pub hierarchy: u32,
    /// False if the kernel's command line disabled it.
    pub enabled: bool,
}

/// Parses `/proc/cgroups`. Lines that don't have its form are left out.
pub fn parse_controllers(text: &str) -> Vec<Controller> {
    let line = |line: &str| {
        let mut parts = line.split_whitespace();
        let name = parts.next().filter(|name| !name.starts_with('#'))?;
        let hierarchy = parts.next()?.parse().ok()?;
        Some(Controller { name: name.to_owned(), hierarchy, enabled: parts.nth(1)? == "1" })
    };
    text.lines().filter_map(line).collect()
}

/// How the host arranges its hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Only the unified hierarchy is mounted.
    V2,
    /// Controllers are in v1 hierarchies; the unified one is mounted as well.
    Hybrid,
    /// Only v1 hierarchies are mounted.
    V1,
    /// Nothing is mounted.
    None,
}

/// A mounted hierarchy, and the group of this process in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hierarchy {
    /// 1 or 2.
    pub version: u8,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Its controllers: those co-mounted (v1), or those available to our group (v2). A v1 hierarchy may have just a `name=…`.
    pub controllers: Vec<String>,
    /// The directory of our own group; `None` if it is outside of what is mounted here.
    pub own_group: Option<PathBuf>,
    /// Whether we may make groups below our own one, and put processes into them.
    pub writable: bool,
    /// Mounted read-only, as container programs do.
    pub read_only: bool,
    /// The `favordynmods` option: moving processes between groups costs less, starting and ending them a little more.
    pub favordynmods: bool,
}

/// What is known about cgroups.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// How hierarchies are arranged.
    pub layout: Layout,
    /// The mounted hierarchies.
    pub hierarchies: Vec<Hierarchy>,
    /// Every controller the kernel has.
    pub controllers: Vec<Controller>,
    /// Controllers of v2 that are switched on for children of our group (`cgroup.subtree_control`).
    pub subtree_control: Vec<String>,
    /// `cgroup.kill` exists: a whole v2 group can be killed by one write (Linux 5.14). Unknown if there is no group to look into.
    pub kill: Option<bool>,
    /// The number of processes directly in our v2 group. Controllers can't be switched on for its children while there is any,
    /// unless it is the root.
    pub own_processes: usize,
}

impl Facts {
    /// The hierarchy that holds a controller, by its v1 or v2 name; the v1 one if both could.
    pub fn holding(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// The unified hierarchy, if it is mounted.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == 2)
    }
}

/// The layout, from the mounts alone.
pub fn layout(mounts: &[Mount]) -> Layout {
    let v2 = mounts.iter().any(|mount| mount.fs_type == "cgroup2");
    let v1 = mounts.iter().any(|mount| mount.fs_type == "cgroup");
    match (v1, v2) {
        (false, true) => Layout::V2,
        (true, true) => Layout::Hybrid,
        (true, false) => Layout::V1,
        (false, false) => Layout::None,
    }
}

/// Joins mounts with memberships: the mounted hierarchies, v1 first, without what needs the file system to know (`writable`, and a
/// v2 hierarchy's controllers).
pub fn hierarchies(mounts: &[Mount], memberships: &[Membership]) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts.iter().filter(|mount| matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2")) {
        let version = if mount.fs_type == "cgroup2" { 2 } else { 1 };
        let membership = memberships.iter().find(|membership| match version {
            2 => membership.hierarchy == 0,
            // A v1 hierarchy's controllers, or its name, are among the options of its mount.
            _ => {
                !membership.controllers.is_empty() && membership.controllers.iter().all(|name| mount.super_options.contains(name))
            }
        });
        let has = |options: &[String], name: &str| options.iter().any(|option| option == name);
        let hierarchy = Hierarchy {
            version,
            mount_point: mount.mount_point.clone(),
            controllers: membership.map_or_else(Vec::new, |membership| membership.controllers.clone()),
            own_group: membership.and_then(|membership| group_directory(mount, &membership.path)),
            writable: false,
            read_only: has(&mount.options, "ro") || has(&mount.super_options, "ro"),
            favordynmods: has(&mount.super_options, "favordynmods"),
        };
        // The same hierarchy may be mounted in several places; the first one is as good as any.
        let same = |other: &Hierarchy| other.version == version && other.controllers == hierarchy.controllers;
        let seen = membership.is_some() && found.iter().any(same);
        if !seen {
            found.push(hierarchy);
        }
    }
    found.sort_by_key(|hierarchy| hierarchy.version);
    found
}

/// The directory of a group, under the mount that shows it.
fn group_directory(mount: &Mount, group: &Path) -> Option<PathBuf> {
    let below = group.strip_prefix(&mount.root).ok()?;
    // Outside of our cgroup namespace: the kernel shows the way up, but the mount doesn't go there.
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return None;
    }
    if below.as_os_str().is_empty() { Some(mount.mount_point.clone()) } else { Some(mount.mount_point.join(below)) }
}

pub(super) fn gather() -> Facts {
    let mounts = parse_mountinfo(&files::text("/proc/self/mountinfo").unwrap_or_default());
    let memberships = parse_membership(&files::text("/proc/self/cgroup").unwrap_or_default());
    let mut hierarchies = hierarchies(&mounts, &memberships);
    for hierarchy in &mut hierarchies {
        hierarchy.writable = hierarchy.own_group.as_deref().is_some_and(writable);
        if hierarchy.version == 2 {
            hierarchy.controllers = words(hierarchy.own_group.as_deref(), "cgroup.controllers");
        }
    }
    let unified = hierarchies.iter().find(|hierarchy| hierarchy.version == 2).and_then(|found| found.own_group.clone());
    Facts {
        layout: layout(&mounts),
        controllers: parse_controllers(&files::text("/proc/cgroups").unwrap_or_default()),
        subtree_control: words(unified.as_deref(), "cgroup.subtree_control"),
        kill: kill_exists(&hierarchies),
        own_processes: words(unified.as_deref(), "cgroup.procs").len(),
        hierarchies,
    }
}

/// Whether groups can be made below this one and processes moved into them. Permission bits and read-only mounts are asked of the
/// kernel; nothing is created, since a v2 group that fails to be removed again would be a trace.
fn writable(group: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let may = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    may(group, Access::WRITE_OK | Access::EXEC_OK) && may(&group.join("cgroup.procs"), Access::WRITE_OK)
}

fn words(group: Option<&Path>, file: &str) -> Vec<String> {
    let text = group.and_then(|group| files::text(group.join(file))).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// The root group has no `cgroup.kill`; any group below it shows whether the kernel has one.
fn kill_exists(hierarchies: &[Hierarchy]) -> Option<bool> {
    let mount_point = &hierarchies.iter().find(|hierarchy| hierarchy.version == 2)?.mount_point;
    let child = |entry: std::io::Result<std::fs::DirEntry>| entry.ok().map(|entry| entry.path()).filter(|path| path.is_dir());
    let group = std::fs::read_dir(mount_point).ok()?.find_map(child)?;
    Some(group.join("cgroup.kill").exists())
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
