//! What the specification requires and the parser is lenient about: it takes an array for an object, and 0 for a number that isn't
//! there. A mapping without `hostID` would so be one to the host's root.
//!
//! Source: runtime-spec 1.2, the words "REQUIRED" in `config.md` and `config-linux.md`.

use crate::Error;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The fields of a device.
const DEVICE: &[&str] = &["type", "path"];

/// What must be an object where it is there, and the fields that it must have then. `[]` stands for every entry of an array, `*` for
/// every value of an object.
const OBJECTS: &[(&str, &[&str])] = &[
    ("root", &["path"]),
    ("process", &["cwd", "args"]),
    ("process.user", &["uid", "gid"]),
    ("process.consoleSize", &["height", "width"]),
    ("process.capabilities", &[]),
    ("process.ioPriority", &["class"]),
    ("process.scheduler", &["policy"]),
    ("process.rlimits[]", &["type", "soft", "hard"]),
    ("mounts[]", &["destination"]),
    ("mounts[].uidMappings[]", &["containerID", "hostID", "size"]),
    ("mounts[].gidMappings[]", &["containerID", "hostID", "size"]),
    ("annotations", &[]),
    ("hooks", &[]),
    ("hooks.prestart[]", &["path"]),
    ("hooks.createRuntime[]", &["path"]),
    ("hooks.createContainer[]", &["path"]),
    ("hooks.startContainer[]", &["path"]),
    ("hooks.poststart[]", &["path"]),
    ("hooks.poststop[]", &["path"]),
    ("linux", &[]),
    ("linux.namespaces[]", &["type"]),
    ("linux.uidMappings[]", &["containerID", "hostID", "size"]),
    ("linux.gidMappings[]", &["containerID", "hostID", "size"]),
    ("linux.timeOffsets.*", &[]),
    ("linux.devices[]", DEVICE),
    ("linux.personality", &["domain"]),
    ("linux.seccomp", &["defaultAction"]),
    ("linux.seccomp.syscalls[]", &["names", "action"]),
    ("linux.seccomp.syscalls[].args[]", &["index", "value", "op"]),
    ("linux.resources", &[]),
    ("linux.resources.devices[]", &["allow"]),
    ("linux.resources.memory", &[]),
    ("linux.resources.cpu", &[]),
    ("linux.resources.pids", &["limit"]),
    ("linux.resources.network", &[]),
    ("linux.resources.network.priorities[]", &["name", "priority"]),
    ("linux.resources.hugepageLimits[]", &["pageSize", "limit"]),
    ("linux.resources.rdma.*", &[]),
    ("linux.resources.blockIO", &[]),
    ("linux.resources.blockIO.weightDevice[]", &["major", "minor"]),
    ("linux.resources.blockIO.throttleReadBpsDevice[]", &["major", "minor", "rate"]),
    ("linux.resources.blockIO.throttleWriteBpsDevice[]", &["major", "minor", "rate"]),
    ("linux.resources.blockIO.throttleReadIOPSDevice[]", &["major", "minor", "rate"]),
    ("linux.resources.blockIO.throttleWriteIOPSDevice[]", &["major", "minor", "rate"]),
];

/// Checks JSON that has been read before and stands at `base` in a configuration (nothing for all of it).
pub(super) fn check(base: &str, json: &[u8]) -> Result<(), Error> {
    let Ok(whole) = serde_json::from_slice::<Node<'_>>(json) else { return Ok(()) };
    for (pattern, required) in OBJECTS {
        let Some(below) = pattern.strip_prefix(base) else { continue };
        let below = below.strip_prefix('.').unwrap_or(below);
        whole.check(below, required).map_err(|problem| {
            let at = if base.is_empty() { problem.at } else { format!("{base}.{}", problem.at) };
            Error::field(at.trim_end_matches('.'), problem.what)
        })?;
    }
    Ok(())
}

/// JSON as far as its shape goes: nothing is copied.
enum Node<'j> {
    Null,
    Text(&'j str),
    Other,
    Array(Vec<Node<'j>>),
    Object(Vec<(Cow<'j, str>, Node<'j>)>),
}

struct Problem {
    at: String,
    what: &'static str,
}

impl Problem {
    fn below(self, name: &str) -> Problem {
        let at = if self.at.is_empty() || self.at.starts_with('[') {
            format!("{name}{}", self.at)
        } else {
            format!("{name}.{}", self.at)
        };
        Problem { at, what: self.what }
    }
}

impl Node<'_> {
    fn get(&self, name: &str) -> Option<&Node<'_>> {
        let Node::Object(fields) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn check(&self, pattern: &str, required: &[&str]) -> Result<(), Problem> {
        if pattern.is_empty() {
            return self.is_object_with(required);
        }
        let (step, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
        if step == "*" {
            let Node::Object(fields) = self else { return Ok(()) };
            return fields
                .iter()
                .try_for_each(|(name, value)| value.check(rest, required).map_err(|problem| problem.below(name)));
        }
        let name = step.trim_end_matches("[]");
        match self.get(name) {
            Some(Node::Array(entries)) if name != step => entries.iter().enumerate().try_for_each(|(index, value)| {
                value.check(rest, required).map_err(|problem| problem.below(&format!("[{index}]")).below(name))
            }),
            Some(value) if name == step => value.check(rest, required).map_err(|problem| problem.below(name)),
            _ => Ok(()),
        }
    }

    fn is_object_with(&self, required: &[&str]) -> Result<(), Problem> {
        match self {
            // Null is how many programs write "absent".
            Node::Null => return Ok(()),
            Node::Object(_) => {}
            _ => return Err(Problem { at: String::new(), what: "must be an object" }),
        }
        // Of devices, only a pipe has no number.
        let device = required == DEVICE && !matches!(self.get("type"), Some(Node::Text("p")));
        let numbers: &[&str] = if device { &["major", "minor"] } else { &[] };
        let absent = |name: &&&str| matches!(self.get(name), None | Some(Node::Null));
        match required.iter().chain(numbers).find(absent) {
            Some(name) => Err(Problem { at: (*name).to_owned(), what: "is missing" }),
            None => Ok(()),
        }
    }
}

impl<'j> Deserialize<'j> for Node<'j> {
    fn deserialize<D: Deserializer<'j>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Shape)
    }
}

struct Shape;

/// Visitor methods for values of which nothing matters.
macro_rules! other {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Node::Other)
        })*
    };
}

impl<'j> Visitor<'j> for Shape {
    type Value = Node<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    other!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_borrowed_str<E>(self, text: &'j str) -> Result<Self::Value, E> {
        Ok(Node::Text(text))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            // A list of texts or numbers holds no object: it has been read as what it is. (A policy's names are hundreds.)
            if list.is_empty() && matches!(entry, Node::Text(_) | Node::Other) {
                while entries.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            list.push(entry);
        }
        Ok(Node::Array(list))
    }

    fn visit_map<A: MapAccess<'j>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Key(name)) = fields.next_key()? {
            list.push((name, fields.next_value()?));
        }
        Ok(Node::Object(list))
    }
}

/// A field's name; one with escapes must be copied.
#[derive(serde::Deserialize)]
struct Key<'j>(#[serde(borrow)] Cow<'j, str>);

#[cfg(test)]
mod tests {
    use super::check;
    use serde_json::json;

    fn problem(value: serde_json::Value) -> String {
        check("", value.to_string().as_bytes()).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_is_missing_is_named() {
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}, {"containerID": 1, "size": 1}]);
        assert_eq!(problem(json!({"linux": {"uidMappings": map}})), "linux.uidMappings[1].hostID: is missing");
        assert_eq!(problem(json!({"linux": {"timeOffsets": {"boottime": []}}})), "linux.timeOffsets.boottime: must be an object");
        assert_eq!(problem(json!({"linux": {"devices": [{"type": "p", "path": "/p"}]}})), "");
        assert_eq!(problem(json!({"linux": {"devices": [{"type": "c", "path": "/p"}]}})), "linux.devices[0].major: is missing");
        assert_eq!(problem(json!({"linux": null, "root": {"path": "x"}})), "");
        assert_eq!(problem(json!({"root": []})), "root: must be an object");
    }

    #[test]
    fn a_part_is_checked_as_a_part() {
        assert!(check("process", br#"{"cwd": "/"}"#).is_err());
        assert!(check("linux.resources", br#"{"pids": {}}"#).is_err());
        assert!(check("linux.resources", br#"{"pids": {"limit": 1}}"#).is_ok());
    }
}
