//! What is measured: the start of a program, and every row of the workload's catalogue.

use crate::Error;
use serde::Serialize;
use workload::catalogue::matches;
use workload::{Better, Group, ROWS};

/// The part of the report a row stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// Starting a program.
    Start,
    /// What the program does then.
    #[serde(untagged)]
    Work(Group),
}

impl Section {
    /// All sections, in the order of the report.
    pub fn all() -> impl Iterator<Item = Section> {
        std::iter::once(Section::Start).chain(Group::ALL.into_iter().map(Section::Work))
    }

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Section::Start => "Start-up",
            Section::Work(Group::Sys) => "System calls",
            Section::Work(Group::Cpu) => "CPU",
            Section::Work(Group::Mem) => "Memory",
            Section::Work(Group::Root) => "Disk, root file system",
            Section::Work(Group::Volume) => "Disk, volume",
        }
    }
}

/// One thing measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row {
    /// Its name, `group.thing`.
    pub name: &'static str,
    /// Where it stands in the report.
    pub section: Section,
    /// The unit of its values.
    pub unit: &'static str,
    /// Whether a low or a high value is good.
    pub better: Better,
    /// What it is, in a sentence.
    pub about: &'static str,
}

/// Start to exit with limits of memory, processes and CPU.
pub(crate) const LIMITS: &str = "start.limits";
/// Start to exit without limits.
pub(crate) const PLAIN: &str = "start.plain";
/// Peak memory of the plain start.
pub(crate) const MEMORY: &str = "start.memory";
/// Memory of a sandbox whose program waits.
pub(crate) const IDLE: &str = "start.idle";
/// Start of a whole system.
pub(crate) const SYSTEM: &str = "start.system";
/// CPU time of the plain start.
pub(crate) const CPU: &str = "start.cpu";

const fn start(name: &'static str, unit: &'static str, about: &'static str) -> Row {
    Row { name, section: Section::Start, unit, better: Better::Lower, about }
}

const STARTS: [Row; 6] = [
    start(LIMITS, "ms", "start to exit of a static no-op, with cgroup limits on memory, processes and CPU"),
    start(PLAIN, "ms", "start to exit of a static no-op, without cgroup limits"),
    start(MEMORY, "MiB", "greatest resident set of any process of the runtime, without limits"),
    start(IDLE, "MiB", "resident memory (Pss) of all processes of a sandbox in which a static program waits, without limits"),
    start(CPU, "ms", "CPU time of the runtime and all its children, without limits"),
    start(SYSTEM, "ms", "start of the system in --system's directory until its systemd says that it runs"),
];

/// Every row there is.
pub fn all() -> impl Iterator<Item = Row> {
    let work = ROWS.iter().map(|row| {
        let workload::Row { name, group, unit, better, about } = *row;
        Row { name, section: Section::Work(group), unit, better, about }
    });
    STARTS.into_iter().chain(work)
}

/// The rows that fit any of the patterns; all of them if there is no pattern.
pub(crate) fn choose(patterns: &[String]) -> Result<Vec<Row>, Error> {
    if let Some(lost) = patterns.iter().find(|pattern| !all().any(|row| matches(pattern, row.name))) {
        return Err(Error::NoRow(lost.clone()));
    }
    Ok(all().filter(|row| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, row.name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_rows() {
        let names = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            choose(&patterns).map(|rows| rows.iter().map(|row| row.name).collect::<Vec<_>>()).map_err(|error| error.to_string())
        };
        assert_eq!(names(&["start.p*", "cpu.float"]), Ok(vec!["start.plain", "cpu.float"]));
        assert_eq!(names(&[]).map(|names| names.len()), Ok(STARTS.len() + ROWS.len()));
        assert!(names(&["cpu.*", "gpu.*"]).is_err_and(|message| message.contains("'gpu.*'")));
    }
}
