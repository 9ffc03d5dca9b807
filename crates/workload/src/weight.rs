//! What a sandbox has resident while its program waits: its processes are those below the launcher.

use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Child;
use std::time::Duration;

/// How often a program that is to say something is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// What the runtime needed for the start only may go meanwhile.
const SETTLE: Duration = Duration::from_millis(50);

/// Makes this process the parent of those below it whose own parents end, so that none is overlooked (prctl(2)).
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Waits until `child` has printed something to the file `stdout`, then adds up all processes below this one, in bytes.
pub(crate) fn weigh(child: &mut Child, stdout: &str) -> io::Result<u64> {
    while fs::metadata(stdout)?.len() == 0 {
        // The child itself is waited for elsewhere, with what it used.
        if fs::read_to_string(format!("/proc/{}/stat", child.id())).map_or(true, |stat| state(&stat) == Some("Z")) {
            return Err(io::Error::other("it ended before it could be weighed"));
        }
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(SETTLE);
    below(getpid().as_raw_pid(), &parents()?).into_iter().map(resident).sum()
}

/// Takes the ends of adopted processes, whatever they were.
pub(crate) fn bury_orphans() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// What stands behind the name, which may itself have brackets and spaces: state, parent, … (proc_pid_stat(5)).
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

fn state(stat: &str) -> Option<&str> {
    fields(stat).next()
}

/// Each process's parent. Those that end meanwhile are left out.
fn parents() -> io::Result<BTreeMap<i32, i32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = fields(&stat).nth(1).and_then(|word| word.parse().ok()) {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// The processes whose parent, or its parent, and so on, is `top`.
fn below(top: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut found = vec![top];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        found.extend(parents.iter().filter(|&(_, &parent)| parent == above).map(|(&pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

/// A process's share of what is resident, in bytes; none of one that has ended.
fn resident(pid: i32) -> io::Result<u64> {
    let text = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Ok(0);
        }
        other => {
            other.map_err(|error| io::Error::new(error.kind(), format!("the memory of process {pid} can't be read: {error}")))?
        }
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib: Option<u64> = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other(format!("the memory of process {pid} isn't told (no Pss in smaps_rollup)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_hides_nothing() {
        assert_eq!(state("12 (a) b (c)) Z 7 1 1"), Some("Z"));
        assert_eq!(fields("12 (a) b (c)) S 7 1 1").nth(1), Some("7"));
        assert_eq!(state(""), None);
    }

    #[test]
    fn children_of_children_are_below() {
        let parents = BTreeMap::from([(1, 0), (5, 1), (7, 5), (6, 7), (8, 1)]);
        assert_eq!(below(5, &parents), [7, 6]);
        assert!(below(6, &parents).is_empty());
    }

    #[test]
    fn a_process_of_ours_has_a_weight() {
        assert!(resident(getpid().as_raw_pid()).expect("it can be read") > 0);
        assert_eq!(resident(i32::MAX).expect("there is none"), 0);
    }
}
