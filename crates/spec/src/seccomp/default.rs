//! The default policy: everything is refused but what ordinary programs need.
//!
//! The lists follow what programs in containers were seen to need, not what the kernel offers. A capability opens the calls that
//! are no use without it; calls by which sandboxes have been left (io_uring, userfaultfd, keyrings, `bpf`, `AF_ALG` and `AF_VSOCK`
//! sockets, namespaces) stay shut without the capability that stands for them.

use super::{Action, Arch, Condition, Policy, Rule, Test};
use crate::CapSet;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Calls every program may make, by what they are for.
const ALWAYS: &[&str] = &[
    // Files by descriptor.
    "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 close close_range lseek _llseek fstat
     fstat64 fstatfs fstatfs64 fsync fdatasync sync syncfs sync_file_range ftruncate ftruncate64 fallocate fadvise64
     fadvise64_64 readahead dup dup2 dup3 fcntl fcntl64 flock getdents getdents64 sendfile sendfile64 splice tee
     vmsplice copy_file_range fchmod fchown fchown32 fchdir fgetxattr fsetxattr flistxattr fremovexattr cachestat",
    // Files by path.
    "open openat openat2 creat stat stat64 lstat lstat64 newfstatat fstatat64 statx statfs statfs64 access faccessat
     faccessat2 chmod fchmodat fchmodat2 chown chown32 lchown lchown32 fchownat link linkat symlink symlinkat readlink
     readlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat truncate truncate64 utime
     utimes utimensat utimensat_time64 futimesat getcwd chdir umask getxattr lgetxattr setxattr lsetxattr listxattr
     llistxattr removexattr lremovexattr getxattrat setxattrat listxattrat removexattrat name_to_handle_at
     inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    // Waiting for descriptors.
    "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl
     epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 pipe pipe2 signalfd signalfd4
     timerfd_create timerfd_settime timerfd_settime64 timerfd_gettime timerfd_gettime64 io_setup io_destroy io_submit
     io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    // Memory.
    "brk mmap mmap2 munmap mremap mprotect pkey_alloc pkey_free pkey_mprotect madvise msync mincore mlock mlock2
     mlockall munlock munlockall memfd_create memfd_secret membarrier remap_file_pages mseal map_shadow_stack
     process_mrelease process_madvise",
    // Processes, threads and their identities.
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid setpgid getpgrp
     getsid setsid set_tid_address set_thread_area get_thread_area arch_prctl modify_ldt prctl rseq getuid getuid32
     geteuid geteuid32 getgid getgid32 getegid getegid32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid
     setregid32 setresuid setresuid32 setresgid setresgid32 getresuid getresuid32 getresgid getresgid32 setfsuid
     setfsuid32 setfsgid setfsgid32 getgroups getgroups32 setgroups setgroups32 capget capset getrlimit ugetrlimit
     setrlimit prlimit64 getrusage times getpriority setpriority nice ioprio_get ioprio_set pidfd_open
     pidfd_send_signal pidfd_getfd ptrace process_vm_readv process_vm_writev seccomp landlock_create_ruleset
     landlock_add_rule landlock_restrict_self getcpu uname sysinfo getrandom lsm_get_self_attr lsm_set_self_attr
     lsm_list_modules uretprobe",
    // Scheduling.
    "sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler
     sched_setscheduler sched_getattr sched_setattr sched_get_priority_max sched_get_priority_min
     sched_rr_get_interval sched_rr_get_interval_time64",
    // Signals.
    "kill tkill tgkill pause alarm rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo rt_tgsigqueueinfo
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaction sigaltstack signal sigpending
     sigprocmask sigreturn sigsuspend restart_syscall",
    // Time.
    "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
     clock_nanosleep_time64 nanosleep getitimer setitimer timer_create timer_settime timer_settime64 timer_gettime
     timer_gettime64 timer_getoverrun timer_delete adjtimex clock_adjtime clock_adjtime64",
    // Locks and messages between processes.
    "futex futex_time64 futex_waitv futex_wake futex_wait futex_requeue get_robust_list set_robust_list ipc shmget
     shmat shmdt shmctl semget semop semtimedop semtimedop_time64 semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink
     mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64 mq_notify mq_getsetattr",
    // Sockets that are open already; which may be opened is below.
    "socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown sendto
     sendmsg sendmmsg recvfrom recvmsg recvmmsg recvmmsg_time64",
];

/// Calls that a capability opens: without it the kernel refuses them anyway, or they are dangerous.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("SYS_CHROOT", "chroot"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree
         open_tree_attr listmount statmount listns perf_event_open pivot_root quotactl quotactl_fd setdomainname
         sethostname setns swapoff swapon syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot kexec_load kexec_file_load"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Families of sockets a program may open: local, IPv4, IPv6, netlink and packet (which needs a capability besides).
const SOCKET_FAMILIES: [u64; 5] = [1, 2, 10, 16, 17];
/// Every flag of clone(2) that makes a namespace.
const CLONE_NAMESPACES: u64 = 0x7e02_0080;
/// Push input into a terminal, and drive the console: the way out of a sandbox that shares a terminal (CVE-2017-5226). The kernel
/// reads 32 bits of the command, so only these are compared.
const TERMINAL_INJECTION: [u64; 2] = [0x5412, 0x541c];
/// Execution domains that change nothing but what uname and the memory layout look like; the last asks for the present one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The policy of a container whose processes can have these capabilities.
pub fn default_policy(caps: CapSet) -> Policy {
    let mut rules: Vec<Rule> = ALWAYS.iter().map(|calls| allow(calls, vec![])).collect();
    for (capability, calls) in WITH_CAPABILITY {
        if caps.has(capability) {
            rules.push(allow(calls, vec![]));
        }
    }
    if !caps.has("SYS_ADMIN") {
        let no_namespace = Condition { argument: 0, test: Test::MaskedEq(CLONE_NAMESPACES), value: 0 };
        rules.push(allow("clone", vec![no_namespace]));
        // Its flags lie in memory, where no filter can read them: "not there" makes libraries fall back on clone.
        rules.push(Rule { calls: vec!["clone3".into()], conditions: vec![], action: Action::Errno(ENOSYS) });
    }
    for value in SOCKET_FAMILIES {
        rules.push(allow("socket", vec![Condition { argument: 0, test: Test::MaskedEq(u64::from(u32::MAX)), value }]));
    }
    for value in PERSONALITIES {
        rules.push(allow("personality", vec![Condition { argument: 0, test: Test::MaskedEq(u64::from(u32::MAX)), value }]));
    }
    let injects = |value| Condition { argument: 1, test: Test::MaskedNe(u64::from(u32::MAX)), value };
    rules.push(allow("ioctl", TERMINAL_INJECTION.map(injects).to_vec()));
    Policy { default: Action::Errno(EPERM), arches: vec![Arch::X86_64, Arch::X86], flags: 0, rules, listener: None }
}

fn allow(calls: &str, conditions: Vec<Condition>) -> Rule {
    Rule { calls: calls.split_whitespace().map(str::to_owned).collect(), conditions, action: Action::Allow }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(policy: &Policy) -> BTreeSet<&str> {
        policy.rules.iter().flat_map(|rule| rule.calls.iter().map(String::as_str)).collect()
    }

    #[test]
    fn every_name_is_a_call_of_one_of_the_instruction_sets() {
        for name in names(&default_policy(CapSet::ALL)) {
            let known = name.parse::<syscalls::x86_64::Sysno>().is_ok() || name.parse::<syscalls::x86::Sysno>().is_ok();
            assert!(known || name == "listns", "{name}");
        }
    }

    #[test]
    fn ways_out_of_a_sandbox_are_shut() {
        let policy = default_policy(CapSet::DEFAULT);
        for shut in [
            "io_uring_setup",
            "userfaultfd",
            "bpf",
            "keyctl",
            "add_key",
            "mount",
            "unshare",
            "setns",
            "perf_event_open",
            "kexec_load",
        ] {
            assert!(!names(&policy).contains(shut), "{shut}");
        }
        assert_eq!(policy.default, Action::Errno(EPERM));
    }
}
