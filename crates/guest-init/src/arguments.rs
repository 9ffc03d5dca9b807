//! What the kernel's command line says.

/// What is said of the root and its init.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The device, or the tag of a shared directory.
    pub(crate) root: String,
    /// Kinds of file system to try; without, all that the kernel knows.
    pub(crate) kinds: Vec<String>,
    /// The file system's own options.
    pub(crate) flags: String,
    pub(crate) writable: bool,
    pub(crate) init: Option<String>,
    /// What follows `--` goes to init.
    pub(crate) rest: Vec<String>,
}

impl Arguments {
    /// As the kernel reads it: words, of which the last of a name counts.
    pub(crate) fn parse(line: &str) -> Arguments {
        let mut found = Arguments {
            root: "/dev/vda".into(),
            kinds: Vec::new(),
            flags: String::new(),
            writable: false,
            init: None,
            rest: Vec::new(),
        };
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("root", root)) => found.root = root.into(),
                Some(("rootfstype", kinds)) => found.kinds = kinds.split(',').map(str::to_owned).collect(),
                Some(("rootflags", flags)) => found.flags = flags.into(),
                Some(("init", init)) => found.init = Some(init.into()),
                None if word == "rw" => found.writable = true,
                None if word == "ro" => found.writable = false,
                None if word == "--" => found.rest = words.by_ref().collect(),
                _ => {}
            }
        }
        found
    }
}

/// Words are parted by blanks that aren't between quotes (the kernel's `next_arg`).
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.trim_end().chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()))
            }
            other => word.push(other),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_it_is_the_first_disk_read_only() {
        let found = Arguments::parse("console=ttyS0 panic=-1\n");
        assert!(found.root == "/dev/vda" && !found.writable && found.init.is_none() && found.kinds.is_empty());
    }

    #[test]
    fn the_last_word_of_a_name_counts() {
        let line = "root=/dev/vda root=/dev/vdb1 ro rw rootfstype=erofs,ext4 rootflags=\"a b\" init=/bin/sh -- -c \"echo x\"";
        let found = Arguments::parse(line);
        assert_eq!((found.root.as_str(), found.writable, found.flags.as_str()), ("/dev/vdb1", true, "a b"));
        assert_eq!((found.kinds, found.init.as_deref()), (vec!["erofs".to_owned(), "ext4".to_owned()], Some("/bin/sh")));
        assert_eq!(found.rest, ["-c", "echo x"]);
    }
}
