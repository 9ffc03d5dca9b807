//! Users, groups and capabilities, credentials(7) and capabilities(7).

use super::users::{Kind, UserNamespace};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `SECBIT_NOROOT`: the superuser's number gives no capabilities.
pub const NO_ROOT: u32 = 1;
/// `SECBIT_NO_SETUID_FIXUP`: a change of users changes no capabilities.
pub const NO_SET_ID_FIXUP: u32 = 1 << 2;
/// `SECBIT_KEEP_CAPS`: who stops being the superuser keeps what is permitted, until execve(2).
pub const KEEP_CAPABILITIES: u32 = 1 << 4;
/// `SECBIT_NO_CAP_AMBIENT_RAISE`: nothing is added to the ambient set.
pub const NO_AMBIENT_RAISE: u32 = 1 << 6;

/// All capabilities that there are.
pub const ALL: u64 = (1 << (insula_abi::general::CAP_LAST_CAP + 1)) - 1;

/// Who a task is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Users: real, effective, saved, and for files.
    pub uid: Ids,
    /// Groups, likewise.
    pub gid: Ids,
    /// Further groups.
    pub groups: Arc<Vec<u32>>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Where the capabilities count.
    pub space: UserNamespace,
    /// `SECBIT_*`.
    pub secure_bits: u32,
    /// execve(2) gives it nothing more.
    pub no_new_privileges: bool,
}

/// Four numbers of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Who it acts as.
    pub effective: u32,
    /// Who it may become again.
    pub saved: u32,
    /// Who it is to file systems.
    pub fs: u32,
}

impl Ids {
    /// All four the same.
    pub const fn all(id: u32) -> Self {
        Ids { real: id, effective: id, saved: id, fs: id }
    }
}

/// Sets of capabilities, bits by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// In force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// Kept across execve(2) of a file that has them, too.
    pub inheritable: u64,
    /// Kept across any execve(2).
    pub ambient: u64,
    /// Limit of what execve(2) can give.
    pub bounding: u64,
}

impl Credentials {
    /// The superuser with these capabilities.
    pub fn root(capabilities: u64) -> Self {
        let capabilities = capabilities & ALL;
        Credentials {
            uid: Ids::all(0),
            gid: Ids::all(0),
            groups: Arc::default(),
            capabilities: Capabilities {
                effective: capabilities,
                permitted: capabilities,
                bounding: capabilities,
                ..Capabilities::default()
            },
            space: UserNamespace::default(),
            secure_bits: 0,
            no_new_privileges: false,
        }
    }

    /// The same in a new user namespace, where it may do all.
    pub fn in_new(&self, space: UserNamespace) -> Self {
        let capabilities = Capabilities { effective: ALL, permitted: ALL, bounding: ALL, ..Capabilities::default() };
        Credentials { space, capabilities, secure_bits: 0, ..self.clone() }
    }

    /// Whether a capability, `CAP_*`, is in force for what belongs to the kernel as a whole: in its first user namespace.
    pub const fn has(&self, capability: u32) -> bool {
        self.space.is_first() && self.has_own(capability)
    }

    /// Whether a capability is in force in the user namespace that they are in.
    pub const fn has_own(&self, capability: u32) -> bool {
        self.capabilities.effective & (1 << capability) != 0
    }

    /// Whether a capability is in force for what belongs to `space`: one has it there, or in one above, or owns it (user_namespaces(7)).
    #[inline(never)]
    pub fn has_in(&self, space: &UserNamespace, capability: u32) -> bool {
        let mut space = space;
        loop {
            if *space == self.space {
                return self.has_own(capability);
            }
            let Some(parent) = space.parent() else { return false };
            if *parent == self.space && space.owner() == self.uid.effective {
                return true;
            }
            space = parent;
        }
    }

    /// Whether a capability is in force for a file of this user and group: one has it where they both are somebody.
    #[inline(never)]
    pub fn has_for(&self, (uid, gid): (u32, u32), capability: u32) -> bool {
        self.has_own(capability)
            && (self.space.is_first() || self.space.knows(Kind::Users, uid) && self.space.knows(Kind::Groups, gid))
    }

    /// Whether it is a member of the group, to file systems.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid.fs == gid || self.groups.contains(&gid)
    }
}
