//! What a report is made of.

use insula_sys::host::{Facts, Trial};
use serde::Serialize;

/// How well something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// It works.
    Ok,
    /// It works in part.
    Limited,
    /// It doesn't work.
    Missing,
}

/// Headings of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    /// KVM.
    Virtualisation,
    /// Cgroups.
    ControlGroups,
    /// Namespaces and who may make them.
    Namespaces,
    /// Capabilities and limits.
    Privileges,
    /// File systems and mounts.
    FileSystems,
    /// System calls.
    KernelInterfaces,
    /// Filters and security modules.
    Confinement,
    /// Device nodes and memory.
    Devices,
    /// Peers.
    OtherPrograms,
}

impl Group {
    /// The heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Virtualisation => "Virtualisation",
            Group::ControlGroups => "Control groups",
            Group::Namespaces => "Namespaces and users",
            Group::Privileges => "Privileges of this process",
            Group::FileSystems => "File systems and mounts",
            Group::KernelInterfaces => "Kernel interfaces",
            Group::Confinement => "Confinement",
            Group::Devices => "Devices, memory, network",
            Group::OtherPrograms => "Other isolation programs",
        }
    }
}

/// One thing found out about the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The heading it belongs under.
    pub(super) group: Group,
    /// What it is about.
    pub(super) subject: String,
    /// How well it works.
    pub(super) status: Status,
    /// What is there, or what it is for.
    pub(super) what: String,
    /// Why it doesn't work in full.
    pub(super) why: Option<String>,
    /// What would change that.
    pub(super) remedy: Option<String>,
}

impl Finding {
    fn new(group: Group, status: Status, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Finding { group, subject: subject.into(), status, what: what.into(), why: None, remedy: None }
    }

    /// Something that works.
    pub(super) fn ok(group: Group, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(group, Status::Ok, subject, what)
    }

    /// Something that works in part.
    pub(super) fn limited(group: Group, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(group, Status::Limited, subject, what)
    }

    /// Something that doesn't work.
    pub(super) fn missing(group: Group, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(group, Status::Missing, subject, what)
    }

    /// Something that was tried: it works, or it is missing for the reason the trial gave.
    pub(super) fn tried(group: Group, subject: impl Into<String>, what: impl Into<String>, trial: &Trial) -> Self {
        match trial {
            Trial::Works => Self::ok(group, subject, what),
            _ => Self::missing(group, subject, what).why(sentence(&trial.reason())),
        }
    }

    /// Says why it doesn't work in full.
    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Says what would change it; without effect on what is fine.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        if self.status != Status::Ok {
            self.remedy = Some(remedy.into());
        }
        self
    }
}

/// The verdict on a boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Boundary {
    /// What `--isolation` calls it.
    pub(super) name: &'static str,
    /// How well it works; for one that isn't in this version, how well the host would serve it.
    pub(super) status: Status,
    /// Whether this version has it.
    pub(super) in_this_version: bool,
    /// What it is.
    pub(super) what: &'static str,
    /// The verdict as a sentence.
    pub(super) why: String,
    /// What it can't do here, and what would change that.
    pub(super) limits: Vec<Limit>,
}

/// Something a boundary can't do here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Limit {
    /// What, and why.
    pub(super) why: String,
    /// What would change that.
    pub(super) remedy: Option<String>,
}

impl Limit {
    /// A limit with a way out.
    pub(super) fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Limit { why: why.into(), remedy: Some(remedy.into()) }
    }
}

/// How root gets at a part of the kernel that may be a module.
pub(super) fn load(facts: &Facts, module: &str) -> String {
    if facts.kernel.loads_modules {
        format!("As root: modprobe {module}.")
    } else {
        format!("Another kernel: this one wasn't built with {module}, and loads no modules.")
    }
}

/// A reason as a sentence: a capital letter first.
pub(super) fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        // A name of a system call or a file keeps its small letter.
        Some(first) if !text.split([':', ' ']).next().unwrap_or_default().contains(['_', '/']) => {
            first.to_uppercase().chain(rest).collect()
        }
        _ => text.to_owned(),
    }
}

/// Joins words as in speech: `a, b and c`.
pub(super) fn and(words: &[impl AsRef<str>]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_as_in_speech() {
        assert_eq!(and(&[] as &[&str]), "");
        assert_eq!(and(&["a"]), "a");
        assert_eq!(and(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn sentences_begin_large_but_names_stay() {
        assert_eq!(sentence("mounting overlayfs: no"), "Mounting overlayfs: no");
        assert_eq!(sentence("mount_setattr: no"), "mount_setattr: no");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn what_is_fine_needs_no_remedy() {
        let fine = Finding::tried(Group::Devices, "x", "y", &Trial::Works).remedy("buy one");
        assert_eq!((fine.status, fine.remedy), (Status::Ok, None));
    }
}
