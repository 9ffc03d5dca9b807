//! System V IPC, sysvipc(7), and POSIX message queues, mq_overview(7).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `IPC_PRIVATE`: no key, always a new object.
pub const IPC_PRIVATE: i32 = 0;
/// Make it if it isn't there.
pub const IPC_CREAT: u32 = 0o1000;
/// With `IPC_CREAT`: it must not be there.
pub const IPC_EXCL: u32 = 0o2000;
/// Don't wait.
pub const IPC_NOWAIT: u32 = 0o4000;

/// Remove it.
pub const IPC_RMID: u32 = 0;
/// Change owner, group and mode.
pub const IPC_SET: u32 = 1;
/// What is known of it.
pub const IPC_STAT: u32 = 2;
/// What limits there are.
pub const IPC_INFO: u32 = 3;

/// `SHM_*` of shmget(2), shmat(2) and shmctl(2).
pub mod shm {
    #![allow(missing_docs)] // The manual pages describe each.
    pub const RDONLY: u32 = 0o10000;
    pub const RND: u32 = 0o20000;
    pub const REMAP: u32 = 0o40000;
    pub const EXEC: u32 = 0o100000;
    pub const HUGETLB: u32 = 0o4000;
    pub const LOCK: u32 = 11;
    pub const UNLOCK: u32 = 12;
    pub const STAT: u32 = 13;
    pub const INFO: u32 = 14;
    pub const STAT_ANY: u32 = 15;
    /// In a segment's mode: it goes with its last attachment.
    pub const DEST: u32 = 0o1000;
    /// In a segment's mode: it is locked in memory.
    pub const LOCKED: u32 = 0o2000;
}

/// Commands of semctl(2), and a flag of semop(2).
pub mod sem {
    #![allow(missing_docs)] // The manual pages describe each.
    pub const GETPID: u32 = 11;
    pub const GETVAL: u32 = 12;
    pub const GETALL: u32 = 13;
    pub const GETNCNT: u32 = 14;
    pub const GETZCNT: u32 = 15;
    pub const SETVAL: u32 = 16;
    pub const SETALL: u32 = 17;
    pub const STAT: u32 = 18;
    pub const INFO: u32 = 19;
    pub const STAT_ANY: u32 = 20;
    pub const UNDO: u32 = 0x1000;
}

/// Flags of msgrcv(2) and commands of msgctl(2).
pub mod msg {
    #![allow(missing_docs)] // The manual pages describe each.
    pub const NOERROR: u32 = 0o10000;
    pub const EXCEPT: u32 = 0o20000;
    pub const COPY: u32 = 0o40000;
    pub const STAT: u32 = 11;
    pub const INFO: u32 = 12;
    pub const STAT_ANY: u32 = 13;
}

/// `struct ipc64_perm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // sysvipc(7) describes each.
pub struct IpcPerm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: u16,
    pub pad2: u32,
    pub unused: [u64; 2],
}

/// `struct shmid64_ds`, shmctl(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // shmctl(2) describes each.
pub struct ShmidDs {
    pub perm: IpcPerm,
    pub segsz: u64,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: i32,
    pub lpid: i32,
    pub nattch: u64,
    pub unused: [u64; 2],
}

/// `struct semid64_ds`, semctl(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // semctl(2) describes each.
pub struct SemidDs {
    pub perm: IpcPerm,
    pub otime: i64,
    pub unused1: u64,
    pub ctime: i64,
    pub unused2: u64,
    pub nsems: u64,
    pub unused3: [u64; 2],
}

/// `struct msqid64_ds`, msgctl(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // msgctl(2) describes each.
pub struct MsqidDs {
    pub perm: IpcPerm,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    pub cbytes: u64,
    pub qnum: u64,
    pub qbytes: u64,
    pub lspid: i32,
    pub lrpid: i32,
    pub unused: [u64; 2],
}

/// `struct sembuf`, semop(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sembuf {
    /// Which of the set.
    pub number: u16,
    /// By how much; 0 waits for 0.
    pub change: i16,
    /// `IPC_NOWAIT`, `SEM_UNDO`.
    pub flags: i16,
}

/// `struct mq_attr`, mq_getattr(3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // mq_getattr(3) describes each.
pub struct MqAttr {
    pub flags: i64,
    pub maxmsg: i64,
    pub msgsize: i64,
    pub curmsgs: i64,
    pub reserved: [i64; 4],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_linux_has_them() {
        assert_eq!((size_of::<IpcPerm>(), size_of::<ShmidDs>(), size_of::<SemidDs>(), size_of::<MsqidDs>()), (48, 112, 104, 120));
        assert_eq!((size_of::<Sembuf>(), size_of::<MqAttr>()), (6, 64));
    }
}
