//! Extended attributes: those that belong to users, and the capabilities of files. Source: xattr(7).
//!
//! The rest belongs to the host: `trusted.*` is for its root, other `security.*` for its security modules, and `system.*` holds access
//! lists, which the sentry's kernel wouldn't obey.

use super::nodes::magic_link;
use super::{Outcome, Worker};
use crate::protocol::{Id, Key, XATTR_MOST};
use crate::wire::Writer;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

const FILE_CAPABILITIES: &[u8] = b"security.capability";

/// How an attribute is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    User,
    FileCapabilities,
    /// Of the host's, and there as if there were none.
    Hidden,
    /// Of a kind that file systems may lack.
    Unsupported,
}

fn family(key: &[u8]) -> Family {
    match key {
        _ if key == FILE_CAPABILITIES => Family::FileCapabilities,
        _ if key.starts_with(b"user.") => Family::User,
        _ if key.starts_with(b"trusted.") || key.starts_with(b"security.") => Family::Hidden,
        _ => Family::Unsupported,
    }
}

impl Worker<'_> {
    pub(super) fn get_xattr(&self, node: Id, key: Key<'_>, out: &mut Writer<'_>) -> Outcome {
        let node = self.node(node)?;
        match family(key.as_bytes()) {
            Family::User | Family::FileCapabilities => {}
            Family::Hidden => return Err(Errno::NODATA),
            Family::Unsupported => return Err(Errno::OPNOTSUPP),
        }
        let path = magic_link(&node.place);
        out.fill(XATTR_MOST, |space| rustix::fs::getxattr(path, key.as_bytes(), space))?;
        Ok(None)
    }

    pub(super) fn set_xattr(&self, node: Id, key: Key<'_>, value: &[u8], flags: u32) -> Outcome {
        let node = self.node(node)?;
        self.may_change(&node, key)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        rustix::fs::setxattr(magic_link(&node.place), key.as_bytes(), value, flags)?;
        Ok(None)
    }

    pub(super) fn remove_xattr(&self, node: Id, key: Key<'_>) -> Outcome {
        let node = self.node(node)?;
        self.may_change(&node, key)?;
        rustix::fs::removexattr(magic_link(&node.place), key.as_bytes())?;
        Ok(None)
    }

    fn may_change(&self, node: &super::Node, key: Key<'_>) -> Result<(), Errno> {
        match family(key.as_bytes()) {
            Family::User => Ok(()),
            Family::FileCapabilities if self.export(node)?.file_capabilities => Ok(()),
            Family::FileCapabilities | Family::Hidden => Err(Errno::PERM),
            Family::Unsupported => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn list_xattrs(&self, node: Id, out: &mut Writer<'_>) -> Outcome {
        let node = self.node(node)?;
        let path = magic_link(&node.place);
        out.fill(XATTR_MOST, |space| {
            let length = rustix::fs::listxattr(path, &mut *space)?;
            Ok::<_, Errno>(keep_visible(space.get_mut(..length).unwrap_or_default()))
        })?;
        Ok(None)
    }
}

/// Moves the names that may be seen to the front; gives the bytes they have. Each ends with a NUL.
fn keep_visible(list: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while let Some(length) = list.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
        let end = from + length + 1;
        let visible = list.get(from..end - 1).is_some_and(|name| matches!(family(name), Family::User | Family::FileCapabilities));
        if visible {
            list.copy_within(from..end, to);
            to += end - from;
        }
        from = end;
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hosts_are_left_out() {
        let mut list = *b"trusted.a\0user.b\0security.selinux\0security.capability\0system.posix_acl_access\0user.c\0";
        let length = keep_visible(&mut list);
        assert_eq!(&list[..length], b"user.b\0security.capability\0user.c\0");
        assert_eq!(keep_visible(&mut []), 0);
        assert_eq!(keep_visible(&mut b"user.unended".clone()), 0);
    }
}
