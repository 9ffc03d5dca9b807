//! The names of a sandbox's scope and of the slice it is in. Source: `systemd.unit(5)`, `systemd.slice(5)`; the form of
//! `linux.cgroupsPath` is runc's.

use crate::plan::Scope;
use crate::{Error, Id};
use std::path::{Path, PathBuf};

const FIELD: &str = "linux.cgroupsPath";

/// The longest name of a unit, in bytes.
const LONGEST: usize = 255;

impl Scope {
    /// The scope that `linux.cgroupsPath` names, in the form `SLICE:PREFIX:NAME`, each of which may be empty; without it, one named after
    /// the sandbox.
    ///
    /// # Errors
    /// It has another form, or a name that systemd doesn't take.
    pub fn new(id: &Id, path: Option<&Path>, of_user: bool) -> Result<Scope, Error> {
        let text = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_else(|| format!(":insula:{}", escaped(id)));
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            let problem = format!("{text:?}: with --systemd-cgroup it is SLICE:PREFIX:NAME, as in system.slice:insula:{id}");
            return Err(Error::field(FIELD, problem));
        };
        if name.ends_with(".slice") {
            let problem = format!("{name:?} names a slice, which holds units and no processes; name a scope in it");
            return Err(Error::field(FIELD, problem));
        }
        let slice = match slice {
            "" if of_user => "user.slice",
            "" => "system.slice",
            "-" => "-.slice",
            slice => slice,
        };
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let named = !name.is_empty() && unit.len() <= LONGEST && unit.bytes().all(of_a_name);
        if !named {
            let problem = format!("{unit:?} can't name a scope: up to {LONGEST} letters, digits, '_', '.', '-', '@' and '\\'");
            return Err(Error::field(FIELD, problem));
        }
        let scope = Scope { slice: slice.to_owned(), unit, of_user };
        scope.check_slice().map(|()| scope)
    }

    fn check_slice(&self) -> Result<(), Error> {
        let slice = &self.slice;
        let stem = slice.strip_suffix(".slice");
        let dashes = |stem: &str| stem != "-" && (stem.starts_with('-') || stem.ends_with('-') || stem.contains("--"));
        let wrong =
            slice.len() > LONGEST || stem.is_none_or(|stem| stem.is_empty() || dashes(stem) || !stem.bytes().all(of_a_name));
        if wrong {
            let problem = format!("{slice:?} can't name a slice: NAME.slice, where each '-' in the name leads one slice down");
            return Err(Error::field(FIELD, problem));
        }
        Ok(())
    }

    /// The cgroup, below the one in which systemd has its units: a slice `a-b.slice` is in the slice `a.slice`.
    pub fn path(&self) -> PathBuf {
        let stem = self.slice.strip_suffix(".slice").unwrap_or(&self.slice);
        let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
        let slices = ends.map(|end| &stem[..end]).filter(|name| !name.is_empty() && stem != "-");
        slices.map(|name| format!("{name}.slice")).chain([self.unit.clone()]).collect()
    }
}

/// What may be in a unit's name; `:` is left out, as it separates the parts here.
fn of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-@\\".contains(&byte)
}

/// A sandbox's name, in which all but `+` may be in a unit's.
fn escaped(id: &Id) -> String {
    id.as_str().replace('+', "\\x2b")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(path: Option<&str>) -> Result<Scope, Error> {
        Scope::new(&"web+1".parse().unwrap(), path.map(Path::new), false)
    }

    #[test]
    fn names_are_as_runc_has_them() {
        let of = |path| scope(path).map(|scope| (scope.path().display().to_string(), scope.unit)).unwrap();
        let unit = |path: &str, unit: &str| (path.to_owned(), unit.to_owned());
        assert_eq!(of(None), unit("system.slice/insula-web\\x2b1.scope", "insula-web\\x2b1.scope"));
        assert_eq!(of(Some("::x")), unit("system.slice/x.scope", "x.scope"));
        assert_eq!(of(Some("-:docker:x")), unit("docker-x.scope", "docker-x.scope"));
        let deep = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-x.scope";
        assert_eq!(of(Some("kubepods-burstable-pod1.slice:cri-containerd:x")).0, deep);
    }

    #[test]
    fn what_systemd_would_not_take_is_refused_with_the_field() {
        let long = format!("::{}", "x".repeat(300));
        let wrong = [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "a:b:c",
            "-a.slice:b:c",
            "a--b.slice:b:c",
            "a/b.slice:b:c",
            ":b:",
            "::a b",
            "::x.slice",
            &long,
        ];
        for path in wrong {
            let error = scope(Some(path)).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: "), "{path}: {error}");
        }
    }
}
