//! OCI runtime configurations: `config.json` → [`Plan`].
//!
//! Each file here turns one part of the configuration into its part of the plan; what can't be honoured is refused with the name
//! of its field, and nothing is passed over in silence.
//!
//! Source: runtime-spec 1.2, `config.md` and `config-linux.md`.

mod mounts;
mod position;
mod process;
mod resources;
mod seccomp;
mod shape;
mod template;

pub use process::rlimit_number;
pub use template::{template, template_rootless};

use crate::plan::{Device, Hook, Hooks, IdMap, Namespace, Namespaces, Plan, Propagation, Root, RootSource};
use crate::resources::DeviceRule;
use crate::{Error, Id};
use oci_spec::runtime as oci;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The largest configuration that is read, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;

/// Newest version of the specification that is followed.
pub const VERSION: &str = "1.2.1";

/// The plan of a bundle.
///
/// `bundle` is the bundle's absolute path, `config` the content of its `config.json`.
///
/// # Errors
/// The configuration can't be parsed, contradicts itself or asks for what this program can't do; the error names the field.
pub fn plan(id: Id, bundle: &Path, config: &[u8]) -> Result<Plan, Error> {
    let (spec, mut warnings): (oci::Spec, _) = parse_with_capabilities("config.json", "", config)?;
    version(spec.version())?;
    refuse(spec.vm().is_some(), "vm", "a virtual machine is asked for; the container boundary has none")?;
    let linux = spec.linux().clone().unwrap_or_default_empty();
    refuse(linux.intel_rdt().is_some(), "linux.intelRdt", "cache allocation is not supported; remove it")?;
    refuse(linux.memory_policy().is_some(), "linux.memoryPolicy", "NUMA policies are not supported; remove it")?;
    let devices_moved = linux.net_devices().as_ref().is_some_and(|map| !map.is_empty());
    refuse(devices_moved, "linux.netDevices", "moving network devices is not supported; remove it")?;
    refuse(
        linux.mount_label().as_ref().is_some_and(|l| !l.is_empty()),
        "linux.mountLabel",
        "SELinux mount labels are not supported",
    )?;
    let kernel_memory = linux.resources().as_ref().and_then(|resources| resources.memory().as_ref()?.kernel());
    if kernel_memory.is_some_and(|limit| limit > 0) {
        warnings.push("linux.resources.memory.kernel: no current kernel limits it alone, so it has no effect".into());
    }
    let root = spec.root().as_ref().ok_or_else(|| Error::field("root", "is missing; it names the directory that becomes /"))?;
    refuse(root.path().as_os_str().is_empty(), "root.path", "is empty; it names the directory that becomes /")?;
    let process = spec.process().as_ref().ok_or_else(|| Error::field("process", "is missing; it names the program to run"))?;
    let namespaces = namespaces(&linux)?;
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut plan = Plan {
        id,
        bundle: bundle.to_owned(),
        root: Root {
            source: RootSource::Dir(bundle.join(root.path())),
            readonly: root.readonly().unwrap_or(false),
            mapped: false,
        },
        process: process::plan(process, linux.seccomp().as_ref(), linux.personality().as_ref())?,
        mounts: mounts.iter().enumerate().map(|(i, m)| mounts::plan(i, m, bundle)).collect::<Result<_, _>>()?,
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        devices: devices(linux.devices().as_deref().unwrap_or_default())?,
        cgroup_path: cgroup_path(linux.cgroups_path().as_deref())?,
        scope: None,
        resources: linux.resources().as_ref().map(resources::plan).transpose()?.unwrap_or_default(),
        masked_paths: inside_paths("linux.maskedPaths", linux.masked_paths().as_deref())?,
        readonly_paths: inside_paths("linux.readonlyPaths", linux.readonly_paths().as_deref())?,
        writable_paths: Vec::new(),
        sysctl: linux.sysctl().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        hooks: hooks(spec.hooks().as_ref())?,
        propagation: propagation(linux.rootfs_propagation().as_deref())?,
        time_offsets: time_offsets(&linux, &namespaces)?,
        annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        warnings,
        namespaces,
        system: None,
    };
    guard_devices(&mut plan);
    crate::plan::check(&plan)?;
    Ok(plan)
}

/// Where there are no rules for devices, who can make nodes, or mount a file system with them, would have every device of the host.
/// Then none is let in but what each container has, as runc does it. (In a user namespace the kernel makes no nodes.)
fn guard_devices(plan: &mut Plan) {
    let caps = plan.process.capabilities.bounding;
    let makes_nodes = caps.has("MKNOD") || caps.has("SYS_ADMIN");
    if makes_nodes && plan.resources.devices.is_empty() && !plan.namespaces.has(Namespace::User) {
        let none = DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".into() };
        plan.resources.devices.push(none);
    }
}

/// A process from the JSON that `exec --process` takes, and what of it isn't had.
///
/// # Errors
/// The same as [`plan`].
pub fn exec_process(file: &str, json: &[u8]) -> Result<(crate::plan::Process, Vec<String>), Error> {
    let (process, warnings) = parse_with_capabilities(file, "process", json)?;
    Ok((process::plan(&process, None, None)?, warnings))
}

/// Limits from the JSON that `update --resources` takes.
///
/// # Errors
/// The same as [`plan`].
pub fn update_resources(file: &str, json: &[u8]) -> Result<crate::resources::Resources, Error> {
    resources::plan(&parse(file, "linux.resources", json)?)
}

/// One mount from the JSON form that `mounts` holds.
///
/// # Errors
/// The same as [`plan`].
pub fn mount(file: &str, json: &[u8]) -> Result<crate::plan::Mount, Error> {
    mounts::plan(0, &parse(file, "mounts[]", json)?, Path::new("/"))
}

/// A system-call policy from the JSON file that `--security-opt seccomp=FILE` takes (the OCI form).
///
/// # Errors
/// The same as [`plan`].
pub fn seccomp_policy(file: &str, json: &[u8]) -> Result<crate::seccomp::Policy, Error> {
    seccomp::plan(&parse(file, "linux.seccomp", json)?)
}

/// The same as [`parse`], without the capabilities that no kernel knows by name; they are to be told: `config.md#linux-process`.
fn parse_with_capabilities<T: DeserializeOwned>(file: &str, base: &str, json: &[u8]) -> Result<(T, Vec<String>), Error> {
    parse(file, base, json).map(|value| (value, Vec::new())).or_else(|error| {
        let (json, warnings) = process::without_unknown_capabilities(base, json).ok_or(error)?;
        parse(file, base, &json).map(|value| (value, warnings))
    })
}

/// Reads the JSON of what stands at `base` in a configuration, naming the field at which it stops being what is expected.
fn parse<T: DeserializeOwned>(file: &str, base: &str, json: &[u8]) -> Result<T, Error> {
    let value = serde_json::from_slice(json).map_err(|error| Error::Parse {
        file: file.to_owned(),
        at: position::field_at(json, error.line(), error.column()),
        problem: one_line(&error),
    })?;
    shape::check(base, json)?;
    Ok(value)
}

/// A parser's message without line breaks, and no longer than a line: it may quote what it read.
fn one_line(error: &serde_json::Error) -> String {
    let text: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= 300 {
        return text;
    }
    let head: String = text.chars().take(200).collect();
    format!("{head}… (line {}, column {})", error.line(), error.column())
}

fn version(version: &str) -> Result<(), Error> {
    let known = version.split('.').next() == Some("1") && version.split('.').count() >= 3;
    refuse(!known, "ociVersion", format!("{version:?} is not followed; this program follows 1.x.y up to {VERSION}"))
}

fn refuse(when: bool, field: &str, problem: impl Into<String>) -> Result<(), Error> {
    if when { Err(Error::field(field, problem)) } else { Ok(()) }
}

fn namespaces(linux: &oci::Linux) -> Result<Namespaces, Error> {
    let mut result = Namespaces {
        list: BTreeMap::new(),
        uid_map: id_map("linux.uidMappings", linux.uid_mappings().as_deref())?,
        gid_map: id_map("linux.gidMappings", linux.gid_mappings().as_deref())?,
    };
    for (i, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = namespace_kind(namespace.typ());
        let path = namespace.path().clone().filter(|path| !path.as_os_str().is_empty());
        let field = format!("linux.namespaces[{i}]");
        if let Some(path) = &path {
            refuse(!path.is_absolute(), &format!("{field}.path"), format!("{} is not absolute", path.display()))?;
        }
        refuse(
            result.list.insert(kind, path).is_some(),
            &field,
            format!("a second {} namespace; name each kind once", kind.file()),
        )?;
    }
    Ok(result)
}

fn namespace_kind(kind: oci::LinuxNamespaceType) -> Namespace {
    match kind {
        oci::LinuxNamespaceType::Mount => Namespace::Mnt,
        oci::LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        oci::LinuxNamespaceType::Uts => Namespace::Uts,
        oci::LinuxNamespaceType::Ipc => Namespace::Ipc,
        oci::LinuxNamespaceType::User => Namespace::User,
        oci::LinuxNamespaceType::Pid => Namespace::Pid,
        oci::LinuxNamespaceType::Network => Namespace::Net,
        oci::LinuxNamespaceType::Time => Namespace::Time,
    }
}

fn id_map(field: &str, mappings: Option<&[oci::LinuxIdMapping]>) -> Result<Vec<IdMap>, Error> {
    let mappings = mappings.unwrap_or_default();
    refuse(mappings.len() > 340, field, "more than the 340 ranges the kernel takes")?;
    let convert = |(i, m): (usize, &oci::LinuxIdMapping)| {
        let end = |start: u32| start.checked_add(m.size());
        let bad = m.size() == 0 || end(m.host_id()).is_none() || end(m.container_id()).is_none();
        refuse(bad, &format!("{field}[{i}]"), "the range is empty or passes the last ID")?;
        Ok(IdMap { inside: m.container_id(), outside: m.host_id(), count: m.size() })
    };
    let mapped: Vec<IdMap> = mappings.iter().enumerate().map(convert).collect::<Result<_, _>>()?;
    for (i, one) in mapped.iter().enumerate() {
        let overlap = |a: u32, b: u32, with: &IdMap| a < b.saturating_add(with.count) && b < a.saturating_add(one.count);
        let meets = |with: &&IdMap| overlap(one.inside, with.inside, with) || overlap(one.outside, with.outside, with);
        refuse(mapped[..i].iter().any(|with| meets(&with)), &format!("{field}[{i}]"), "the range overlaps one before it")?;
    }
    Ok(mapped)
}

fn devices(list: &[oci::LinuxDevice]) -> Result<Vec<Device>, Error> {
    let convert = |(i, device): (usize, &oci::LinuxDevice)| {
        let field = format!("linux.devices[{i}]");
        let kind = match device.typ() {
            oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => 'c',
            oci::LinuxDeviceType::B => 'b',
            oci::LinuxDeviceType::P => 'p',
            oci::LinuxDeviceType::A => {
                return Err(Error::field(format!("{field}.type"), "\"a\" is no device node; use c, b or p"));
            }
        };
        let owner = [device.uid(), device.gid()];
        refuse(owner.contains(&Some(u32::MAX)), &field, "4294967295 is no user or group")?;
        Ok(Device {
            path: inside(&format!("{field}.path"), device.path())?,
            kind,
            major: number(&field, "major", device.major())?,
            minor: number(&field, "minor", device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    };
    list.iter().enumerate().map(convert).collect()
}

/// A device number of the OCI's 64 bits in the kernel's 32.
fn number(field: &str, name: &str, value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::field(format!("{field}.{name}"), format!("{value} is no device number")))
}

fn hooks(hooks: Option<&oci::Hooks>) -> Result<Hooks, Error> {
    let Some(hooks) = hooks else { return Ok(Hooks::default()) };
    #[allow(deprecated)] // The specification still demands prestart of every runtime.
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: hook_list("prestart", prestart)?,
        create_runtime: hook_list("createRuntime", hooks.create_runtime())?,
        create_container: hook_list("createContainer", hooks.create_container())?,
        start_container: hook_list("startContainer", hooks.start_container())?,
        poststart: hook_list("poststart", hooks.poststart())?,
        poststop: hook_list("poststop", hooks.poststop())?,
    })
}

fn hook_list(point: &str, list: &Option<Vec<oci::Hook>>) -> Result<Vec<Hook>, Error> {
    let convert = |(i, hook): (usize, &oci::Hook)| {
        let field = format!("hooks.{point}[{i}]");
        refuse(!hook.path().is_absolute(), &format!("{field}.path"), format!("{} is not absolute", hook.path().display()))?;
        let timeout = hook.timeout().map(|seconds| u32::try_from(seconds).ok().filter(|s| *s > 0));
        refuse(timeout == Some(None), &format!("{field}.timeout"), "is no positive number of seconds")?;
        let args = hook.args().clone().filter(|args| !args.is_empty());
        let args = args.unwrap_or_else(|| vec![hook.path().to_string_lossy().into_owned()]);
        Ok(Hook { path: hook.path().clone(), args, env: hook.env().clone().unwrap_or_default(), timeout: timeout.flatten() })
    };
    list.iter().flatten().enumerate().map(convert).collect()
}

fn cgroup_path(path: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    const FIELD: &str = "linux.cgroupsPath";
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    refuse(path.to_string_lossy().contains(char::is_control), FIELD, "holds a control character, which no group's name can")?;
    let long = path.as_os_str().len() > 2048 || path.iter().any(|name| name.len() > 255);
    refuse(long, FIELD, "is longer than 2048 bytes, or a name in it longer than 255")?;
    let up = path.components().any(|part| part == Component::ParentDir);
    refuse(up, FIELD, format!("{} climbs with ..; write the path it means", path.display()))?;
    Ok(Some(path.to_owned()))
}

fn propagation(name: Option<&str>) -> Result<Propagation, Error> {
    match name {
        None | Some("") => Ok(Propagation::default()),
        Some(name) => mounts::propagation(name).ok_or_else(|| {
            let problem =
                format!("{name:?} is no propagation; use shared, slave, private or unbindable, with r before it for all below");
            Error::field("linux.rootfsPropagation", problem)
        }),
    }
}

fn time_offsets(linux: &oci::Linux, namespaces: &Namespaces) -> Result<BTreeMap<String, (i64, u32)>, Error> {
    let mut offsets = BTreeMap::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let field = format!("linux.timeOffsets.{clock}");
        refuse(clock != "monotonic" && clock != "boottime", &field, "no such clock; monotonic and boottime can be offset")?;
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        refuse(nanoseconds > 999_999_999, &field, "nanosecs is a second or more")?;
        offsets.insert(clock.clone(), (offset.secs().unwrap_or(0), nanoseconds));
    }
    let useless = !offsets.is_empty() && !namespaces.creates(Namespace::Time);
    refuse(useless, "linux.timeOffsets", "needs a new time namespace in linux.namespaces")?;
    Ok(offsets)
}

fn inside_paths(field: &str, paths: Option<&[String]>) -> Result<Vec<PathBuf>, Error> {
    let paths = paths.unwrap_or_default().iter().enumerate();
    paths.map(|(i, path)| inside(&format!("{field}[{i}]"), Path::new(path))).collect()
}

/// An absolute path inside the container, without `..`.
pub(crate) fn inside(field: &str, path: &Path) -> Result<PathBuf, Error> {
    refuse(!path.is_absolute(), field, format!("{} is not absolute", path.display()))?;
    refuse(path.as_os_str().as_encoded_bytes().contains(&0), field, "holds a NUL byte, which no path can")?;
    refuse(path.as_os_str().len() > 4095, field, "is longer than the 4095 bytes a path can have")?;
    let up = path.components().any(|part| part == Component::ParentDir);
    refuse(up, field, format!("{} climbs with ..; write the path it means", path.display()))?;
    Ok(path.components().collect())
}

/// A configuration without a Linux part has the defaults of one, which are *not* those of [`oci::Linux::default`] (a sample).
trait OrEmpty {
    fn unwrap_or_default_empty(self) -> oci::Linux;
}

impl OrEmpty for Option<oci::Linux> {
    fn unwrap_or_default_empty(self) -> oci::Linux {
        self.unwrap_or_else(|| serde_json::from_str("{}").unwrap_or_default())
    }
}
