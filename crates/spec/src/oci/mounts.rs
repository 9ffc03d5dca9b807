//! `mounts` of a configuration.

use super::{id_map, inside, refuse};
use crate::Error;
use crate::defaults::attr;
use crate::plan::{IdMapped, Mount, MountKind, Propagation, PropagationKind};
use oci_spec::runtime as oci;
use std::path::Path;

/// One mount; `index` is its place in the list, for messages.
pub(super) fn plan(index: usize, mount: &oci::Mount, bundle: &Path) -> Result<Mount, Error> {
    let field = format!("mounts[{index}]");
    // Relative targets were allowed before version 1.1 and mean the same from the root.
    let target = Path::new("/").join(mount.destination());
    let target = inside(&format!("{field}.destination"), &target)?;
    refuse(target == Path::new("/"), &format!("{field}.destination"), "names no place below /; the root itself is root.path")?;
    let mut options = Options::default();
    for option in mount.options().iter().flatten() {
        options.add(option);
    }
    let source = mount.source().clone().unwrap_or_default();
    let typ = mount.typ().as_deref().unwrap_or("");
    let bound = options.bind.is_some() || typ == "bind";
    let kind = if bound {
        refuse(source.as_os_str().is_empty(), &format!("{field}.source"), "is missing; a bind mount needs the path to bind")?;
        refuse(
            !options.data.is_empty(),
            &format!("{field}.options"),
            format!("{:?} has no meaning for a bind mount", options.data),
        )?;
        MountKind::Bind { source: bundle.join(source), recursive: options.bind.unwrap_or(true) }
    } else if typ == "cgroup" || typ == "cgroup2" {
        MountKind::Cgroup
    } else {
        refuse(typ.is_empty(), &format!("{field}.type"), "is missing; name a file system, or add the option bind")?;
        let name: String = typ.to_owned();
        let copy_up = options.copy_up && name == "tmpfs";
        refuse(options.copy_up && !copy_up, &format!("{field}.options"), "tmpcopyup only works on tmpfs")?;
        MountKind::Fs { source: source.to_string_lossy().into_owned(), name, options: options.data, copy_up }
    };
    let id_mapped = id_mapped(&field, mount, options.id_map, bound)?;
    Ok(Mount {
        target,
        kind,
        set: options.set,
        clear: options.clear,
        set_recursive: options.set_recursive,
        clear_recursive: options.clear_recursive,
        propagation: options.propagation,
        id_map: id_mapped,
    })
}

fn id_mapped(field: &str, mount: &oci::Mount, option: Option<bool>, bound: bool) -> Result<Option<IdMapped>, Error> {
    let uid_map = id_map(&format!("{field}.uidMappings"), mount.uid_mappings().as_deref())?;
    let gid_map = id_map(&format!("{field}.gidMappings"), mount.gid_mappings().as_deref())?;
    refuse(uid_map.is_empty() != gid_map.is_empty(), field, "uidMappings and gidMappings come together")?;
    if uid_map.is_empty() && option.is_none() {
        return Ok(None);
    }
    refuse(!bound, field, "only bind mounts can have mapped IDs")?;
    Ok(Some(IdMapped { uid_map, gid_map, recursive: option.unwrap_or(false) }))
}

/// What the options of one mount add up to.
#[derive(Default)]
struct Options {
    set: u64,
    clear: u64,
    set_recursive: u64,
    clear_recursive: u64,
    propagation: Option<Propagation>,
    bind: Option<bool>,
    id_map: Option<bool>,
    copy_up: bool,
    data: Vec<String>,
}

impl Options {
    fn add(&mut self, option: &str) {
        if let Some((bit, on)) = attribute(option) {
            change(&mut self.set, &mut self.clear, bit, on);
        } else if let Some((bit, on)) = option.strip_prefix('r').and_then(attribute) {
            change(&mut self.set_recursive, &mut self.clear_recursive, bit, on);
        } else if let Some(propagation) = propagation(option) {
            self.propagation = Some(propagation);
        } else {
            match option {
                "bind" => self.bind = Some(false),
                "rbind" => self.bind = Some(true),
                "idmap" => self.id_map = Some(false),
                "ridmap" => self.id_map = Some(true),
                "tmpcopyup" => self.copy_up = true,
                // Nothing to do: the defaults, and requests that only the first mount of a device understands.
                "" | "defaults" | "silent" | "loud" | "noiversion" | "async" | "nomand" | "notmpcopyup" => {}
                data => self.data.push(data.to_owned()),
            }
        }
    }
}

/// A later option takes back an earlier one.
fn change(set: &mut u64, clear: &mut u64, bit: u64, on: bool) {
    if bit & attr::ATIME != 0 {
        *set &= !attr::ATIME;
        *clear |= attr::ATIME;
        *set |= if on { bit } else { 0 };
    } else if on {
        *set |= bit;
        *clear &= !bit;
    } else {
        *set &= !bit;
        *clear |= bit;
    }
}

/// The attribute an option names, and whether it is set or cleared.
fn attribute(option: &str) -> Option<(u64, bool)> {
    Some(match option {
        "ro" => (attr::RDONLY, true),
        "rw" => (attr::RDONLY, false),
        "nosuid" => (attr::NOSUID, true),
        "suid" => (attr::NOSUID, false),
        "nodev" => (attr::NODEV, true),
        "dev" => (attr::NODEV, false),
        "noexec" => (attr::NOEXEC, true),
        "exec" => (attr::NOEXEC, false),
        "nodiratime" => (attr::NODIRATIME, true),
        "diratime" => (attr::NODIRATIME, false),
        "nosymfollow" => (attr::NOSYMFOLLOW, true),
        "symfollow" => (attr::NOSYMFOLLOW, false),
        "noatime" => (attr::NOATIME, true),
        "strictatime" => (attr::STRICTATIME, true),
        "atime" | "norelatime" | "nostrictatime" => (attr::NOATIME, false),
        // Relative access times are the absence of the other two.
        "relatime" => (attr::NOATIME, false),
        _ => return None,
    })
}

/// The propagation a word names.
pub(super) fn propagation(word: &str) -> Option<Propagation> {
    let (name, recursive) = match word.strip_prefix('r') {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    let kind = match name {
        "private" => PropagationKind::Private,
        "slave" => PropagationKind::Slave,
        "shared" => PropagationKind::Shared,
        "unbindable" => PropagationKind::Unbindable,
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Mount, Error> {
        plan(0, &serde_json::from_str(json).unwrap(), Path::new("/b"))
    }

    #[test]
    fn options_become_attributes_and_the_last_one_wins() {
        let m = parse(
            r#"{"destination":"/t","type":"tmpfs","source":"t","options":["ro","nosuid","rw","noatime","relatime","size=1m"]}"#,
        )
        .unwrap();
        assert_eq!((m.set, m.clear), (attr::NOSUID, attr::RDONLY | attr::ATIME));
        assert!(matches!(m.kind, MountKind::Fs { ref options, .. } if options == &["size=1m"]));
    }

    #[test]
    fn recursive_attributes_are_apart() {
        let m = parse(r#"{"destination":"/t","type":"bind","source":"x","options":["rbind","rro","rslave"]}"#).unwrap();
        assert_eq!((m.set, m.set_recursive), (0, attr::RDONLY));
        assert_eq!(m.kind, MountKind::Bind { source: "/b/x".into(), recursive: true });
        assert_eq!(m.propagation, Some(Propagation { kind: PropagationKind::Slave, recursive: true }));
    }

    #[test]
    fn targets_that_climb_are_refused() {
        assert!(parse(r#"{"destination":"/a/../../b","type":"tmpfs"}"#).is_err());
        assert!(parse(r#"{"destination":"/a","type":"bind"}"#).is_err());
        assert!(parse(r#"{"destination":"/a"}"#).is_err());
    }
}
