//! `process` of a configuration.

use super::{inside, refuse, seccomp};
use crate::plan::{Capabilities, Process, Rlimit, Scheduler, User};
use crate::{CapSet, Error};
use oci_spec::runtime as oci;

/// The process with its system-call policy and personality, which the configuration keeps elsewhere.
pub(super) fn plan(
    process: &oci::Process,
    policy: Option<&oci::LinuxSeccomp>,
    personality: Option<&oci::LinuxPersonality>,
) -> Result<Process, Error> {
    let args = process.args().clone().unwrap_or_default();
    refuse(args.is_empty(), "process.args", "is empty; it names the program to run and its arguments")?;
    refuse(args[0].is_empty(), "process.args[0]", "is empty; it names the program to run")?;
    let affinity = process.exec_cpu_affinity().is_some();
    refuse(affinity, "process.execCPUAffinity", "is not supported; use linux.resources.cpu.cpus")?;
    let env = process.env().clone().unwrap_or_default();
    for (i, text) in args.iter().enumerate() {
        refuse(text.contains('\0'), &format!("process.args[{i}]"), "holds a NUL byte, which no argument can")?;
    }
    for (i, text) in env.iter().enumerate() {
        refuse(text.contains('\0') || !text.contains('='), &format!("process.env[{i}]"), format!("{text:?} is not NAME=value"))?;
    }
    let score = process.oom_score_adj();
    refuse(score.is_some_and(|s| !(-1000..=1000).contains(&s)), "process.oomScoreAdj", "is outside -1000 to 1000")?;
    let terminal = process.terminal().unwrap_or(false);
    let size = process.console_size().filter(|_| terminal);
    Ok(Process {
        args,
        env,
        cwd: inside("process.cwd", process.cwd())?,
        user: user(process.user())?,
        capabilities: capabilities(process.capabilities().as_ref())?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
        seccomp: policy.map(seccomp::plan).transpose()?,
        terminal,
        console_size: size.as_ref().map(|size| (clamp(size.width()), clamp(size.height()))),
        oom_score_adj: score,
        io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        personality: personality.map(personality_bits).transpose()?,
        apparmor: process.apparmor_profile().clone().filter(|name| !name.is_empty()),
        selinux: process.selinux_label().clone().filter(|name| !name.is_empty()),
        reaper: false,
    })
}

fn clamp(size: u64) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

fn user(user: &oci::User) -> Result<User, Error> {
    let umask = user.umask();
    refuse(umask.is_some_and(|mask| mask > 0o777), "process.user.umask", "is outside 0 to 0777")?;
    let groups = user.additional_gids().clone().unwrap_or_default();
    refuse(groups.len() > 65536, "process.user.additionalGids", "more than the 65536 groups the kernel takes")?;
    let invalid = user.uid() == u32::MAX || user.gid() == u32::MAX || groups.contains(&u32::MAX);
    refuse(invalid, "process.user", "4294967295 is no user or group")?;
    Ok(User { uid: user.uid(), gid: user.gid(), groups, umask, lookup: None })
}

fn capabilities(sets: Option<&oci::LinuxCapabilities>) -> Result<Capabilities, Error> {
    let Some(sets) = sets else { return Ok(Capabilities::default()) };
    let convert = |set: &Option<oci::Capabilities>| {
        let names = set.iter().flatten().map(ToString::to_string);
        // The parser knows only names of the kernel's, and so do we: none is left out.
        names.fold(CapSet::EMPTY, |all, name| all.with(&name).unwrap_or(all))
    };
    let (effective, permitted) = (convert(sets.effective()), convert(sets.permitted()));
    let more = effective.minus(permitted).names();
    refuse(!more.is_empty(), "process.capabilities.effective", format!("{} isn't in permitted too", more.join(" ")))?;
    let (bounding, inheritable) = (convert(sets.bounding()), convert(sets.inheritable()));
    let more = inheritable.minus(bounding).names();
    refuse(!more.is_empty(), "process.capabilities.inheritable", format!("{} isn't in bounding too", more.join(" ")))?;
    Ok(Capabilities { bounding, effective, inheritable, permitted, ambient: convert(sets.ambient()) })
}

/// The JSON of a configuration, or of a process in it, without the capabilities that no kernel knows, and what they are; none if there
/// is none of those.
pub(super) fn without_unknown_capabilities(base: &str, json: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    let mut value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let at = if base.is_empty() { "/process/capabilities" } else { "/capabilities" };
    let mut unknown = std::collections::BTreeSet::new();
    for set in value.pointer_mut(at)?.as_object_mut()?.values_mut().filter_map(serde_json::Value::as_array_mut) {
        set.retain(|name| {
            let known = name.as_str().is_none_or(|name| CapSet::EMPTY.with(name).is_ok());
            if !known {
                unknown.extend(name.as_str().map(str::to_owned));
            }
            known
        });
    }
    let told = |name: String| format!("process.capabilities: no capability is named {name:?}, so it isn't granted");
    let warnings: Vec<String> = unknown.into_iter().map(told).collect();
    if warnings.is_empty() { None } else { Some((serde_json::to_vec(&value).ok()?, warnings)) }
}

fn rlimits(list: &[oci::PosixRlimit]) -> Result<Vec<Rlimit>, Error> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for (i, limit) in list.iter().enumerate() {
        let field = format!("process.rlimits[{i}]");
        refuse(limit.soft() > limit.hard(), &field, format!("soft {} is above hard {}", limit.soft(), limit.hard()))?;
        let resource = rlimit_number(&limit.typ().to_string())?;
        refuse(limits.iter().any(|known| known.resource == resource), &field, format!("{} is limited twice", limit.typ()))?;
        limits.push(Rlimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(limits)
}

/// The kernel's number of a resource limit, from `RLIMIT_NOFILE` or `nofile`.
///
/// # Errors
/// No limit has that name.
pub fn rlimit_number(name: &str) -> Result<u32, Error> {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    let found = NAMES.iter().position(|known| *known == bare);
    found.map(|n| n as u32).ok_or_else(|| {
        Error::field("ulimit", format!("no limit is named {name:?}; known are {}", NAMES.join(" ").to_ascii_lowercase()))
    })
}

fn io_priority(priority: &oci::LinuxIOPriority) -> Result<(u8, u8), Error> {
    let class = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u8::try_from(priority.priority()).ok().filter(|level| *level <= 7);
    Ok((class, level.ok_or_else(|| Error::field("process.ioPriority.priority", "is outside 0 to 7"))?))
}

fn scheduler(scheduler: &oci::Scheduler) -> Result<Scheduler, Error> {
    use oci::LinuxSchedulerFlag as Flag;
    use oci::LinuxSchedulerPolicy as Name;
    let policy = match scheduler.policy() {
        Name::SchedOther => 0,
        Name::SchedFifo => 1,
        Name::SchedRr => 2,
        Name::SchedBatch => 3,
        Name::SchedIso => return Err(Error::field("process.scheduler.policy", "SCHED_ISO is in no kernel")),
        Name::SchedIdle => 5,
        Name::SchedDeadline => 6,
    };
    let bit = |flag: &Flag| match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    };
    let nice = scheduler.nice().unwrap_or(0);
    refuse(!(-20..=19).contains(&nice), "process.scheduler.nice", "is outside -20 to 19")?;
    let priority = scheduler.priority().unwrap_or(0);
    refuse(!(0..=99).contains(&priority), "process.scheduler.priority", "is outside 0 to 99")?;
    Ok(Scheduler {
        policy,
        flags: scheduler.flags().iter().flatten().map(bit).fold(0, |all, one| all | one),
        nice,
        priority: priority.unsigned_abs(),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

fn personality_bits(personality: &oci::LinuxPersonality) -> Result<u32, Error> {
    let flags = personality.flags().as_deref().unwrap_or_default();
    refuse(!flags.is_empty(), "linux.personality.flags", "the specification defines none yet; remove them")?;
    Ok(match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        oci::LinuxPersonalityDomain::PerLinux32 => 8,
    })
}
