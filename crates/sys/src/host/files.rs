//! Small readers of `/proc` and `/sys`: a file that isn't there or can't be read is an absent fact, not an error.

use std::path::Path;

/// The text of a small file without the white space around it; `None` if it can't be read.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The number a small file holds; `None` if it can't be read or holds something else.
pub(super) fn number(path: impl AsRef<Path>) -> Option<i64> {
    text(path)?.parse().ok()
}

/// The chosen word of a kernel file such as `always [madvise] never`.
pub(super) fn bracketed(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// The value of a `Key:\tvalue` line, as in `/proc/self/status` and `/proc/meminfo`.
pub(super) fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// The file systems the kernel knows now (`/proc/filesystems`); one that is an unloaded module isn't among them.
pub fn filesystems() -> Vec<String> {
    let table = text("/proc/filesystems").unwrap_or_default();
    table.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracketed_word_is_the_chosen_one() {
        assert_eq!(bracketed("always [madvise] never"), Some("madvise"));
        assert_eq!(bracketed("[none] integrity confidentiality"), Some("none"));
        assert_eq!(bracketed("0"), None);
        assert_eq!(bracketed("["), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_key() {
        let status = "CapEff:\t000001ffffffffff\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "Seccomp_filters"), Some("1"));
        assert_eq!(field(status, "Cap"), None);
    }
}
