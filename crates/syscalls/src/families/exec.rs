//! execve and execveat: arguments, interpreters, what is kept and what is lost.

use super::prelude::*;
use crate::sys::process::{Clone, THREAD, clone, own_file};
use std::ffi::{CStr, CString};

tests!("exec":
    arguments_and_environment, empty_arguments, errors_of_the_path, errors_of_the_file, bad_pointers, too_long, scripts,
    scripts_of_scripts, scripts_that_lead_nowhere, descriptors_closed_and_kept, dispositions, masks_and_pending, what_is_kept,
    what_is_lost, execveat_by_descriptor, execveat_arguments, execveat_and_close_on_exec, from_a_thread, vfork_and_exec,
    directory_and_name, set_user_id, no_new_privileges, a_failed_exec_changes_nothing, shared_table_is_unshared, busy_text,
    memory_is_new, fexecve_of_a_memfd, command_line_shows,
);

/// The output of a child that `body` turns into another program. Its standard output is the pipe.
fn output(body: impl FnOnce()) -> (Status, String) {
    let (reader, writer) = pipe();
    let pid = child(|| {
        works!(dup3(writer, 1, 0));
        works!(close(writer));
        works!(close(reader));
        body();
        process::exit(120);
    });
    works!(close(writer));
    let text = String::from_utf8_lossy(&drain(reader)).into_owned();
    works!(close(reader));
    (wait(pid), text)
}

/// What this program says of itself when it is started with that command line, after `before` has been done.
fn facts_after(before: impl FnOnce()) -> String {
    let path = own_file();
    let (status, text) = output(|| {
        before();
        let _ = sys!(execve(&*path, strings(&[c"self", c"helper", c"facts"]).as_slice(), strings(&[]).as_slice()));
    });
    eq!(status, Status::Exited(0));
    text
}

#[track_caller]
fn says(text: &str, line: &str) {
    is!(text.lines().any(|said| said == line), "'{line}' among:\n{text}");
}

#[track_caller]
fn never_says(text: &str, line: &str) {
    is!(!text.lines().any(|said| said.starts_with(line)), "no '{line}' among:\n{text}");
}

/// Starts a program in a child that can't be started, and gives the error.
fn error_of(path: &CStr) -> Errno {
    let error = shared_word();
    in_child(|| {
        let got = sys!(execve(path, strings(&[c"x"]).as_slice(), strings(&[]).as_slice()));
        error.store(got.map_or_else(|error| error.into_raw(), |_| 0) as u32, SeqCst);
    });
    Errno::new(error.load(SeqCst) as i32)
}

fn script(path: &CStr, bytes: impl AsRef<[u8]>) {
    let fd = file(path, bytes.as_ref());
    gives!(fchmod(fd, 0o755) => 0);
    works!(close(fd));
}

fn arguments_and_environment() {
    let path = own_file();
    let (status, text) = output(|| {
        let args = strings(&[c"any name", c"helper", c"facts", c"", c"two words", c"\xff\x01"]);
        let env = strings(&[c"A=1", c"EMPTY=", c"B=x=y", c"A=2"]);
        let _ = sys!(execve(&*path, args.as_slice(), env.as_slice()));
    });
    eq!(status, Status::Exited(0));
    let lines: Vec<&str> = text.lines().collect();
    eq!(lines[..3], ["argument any name", "argument helper", "argument facts"]);
    eq!(lines[3..5], ["argument ", "argument two words"]);
    says(&text, "variable A=1");
    says(&text, "variable A=2");
    says(&text, "variable EMPTY=");
    says(&text, "variable B=x=y");
    let (status, _) = output(|| {
        let _ = sys!(execve(&*path, strings(&[c"x", c"helper", c"exit", c"42"]).as_slice(), 0));
    });
    // No environment at all is an empty one.
    eq!(status, Status::Exited(42));
}

fn empty_arguments() {
    let path = own_file();
    // Since Linux 5.18 a program without arguments gets an empty one: this program then has no command.
    for args in [strings(&[]), Vec::new()] {
        let status = wait(child(|| {
            let null = works!(openat(AT_FDCWD, c"/dev/null", O_WRONLY));
            works!(dup3(null, 2, 0));
            if args.is_empty() {
                let _ = sys!(execve(&*path, 0, 0));
            } else {
                let _ = sys!(execve(&*path, args.as_slice(), args.as_slice()));
            }
        }));
        eq!(status, Status::Exited(2));
    }
}

fn errors_of_the_path() {
    eq!(error_of(c"missing"), Errno::ENOENT);
    eq!(error_of(c""), Errno::ENOENT);
    eq!(error_of(c"missing/file"), Errno::ENOENT);
    script(c"plain", "");
    eq!(error_of(c"plain/file"), Errno::ENOTDIR);
    eq!(error_of(c"plain/"), Errno::ENOTDIR);
    gives!(mkdir(c"directory", 0o755) => 0);
    eq!(error_of(c"directory"), Errno::EACCES);
    gives!(symlink(c"loop", c"loop") => 0);
    eq!(error_of(c"loop"), Errno::ELOOP);
    let long = CString::new(vec![b'n'; 256]).unwrap_or_default();
    eq!(error_of(&long), Errno::ENAMETOOLONG);
    let long = CString::new("./".repeat(2048)).unwrap_or_default();
    eq!(error_of(&long), Errno::ENAMETOOLONG);
    gives!(mknod(c"fifo", S_IFIFO | 0o777, 0) => 0);
    eq!(error_of(c"fifo"), Errno::EACCES);
    eq!(error_of(c"/dev/null"), Errno::EACCES);
}

fn errors_of_the_file() {
    script(c"empty", "");
    eq!(error_of(c"empty"), Errno::ENOEXEC);
    script(c"text", "just text, long enough to be a header of any kind of program that there is, and no magic at all");
    eq!(error_of(c"text"), Errno::ENOEXEC);
    works!(close(file(c"not-executable", b"#!/bin/sh\n")));
    eq!(error_of(c"not-executable"), Errno::EACCES);
    // The magic alone is not enough: type, machine, program headers.
    let own = contents_of(&own_file());
    let mut wrong = own[..4096].to_vec();
    wrong[16] = 9;
    script(c"type", &wrong);
    eq!(error_of(c"type"), Errno::ENOEXEC);
    let mut wrong = own[..4096].to_vec();
    wrong[18] = 0x28;
    script(c"machine", &wrong);
    eq!(error_of(c"machine"), Errno::ENOEXEC);
    script(c"short", &own[..64]);
    is!(matches!(error_of(c"short"), Errno::EIO | Errno::ENOEXEC), "a program without its headers to be refused");
    let mut wrong = own[..4096].to_vec();
    (wrong[54], wrong[55]) = (1, 0);
    script(c"headers", &wrong);
    eq!(error_of(c"headers"), Errno::ENOEXEC);
}

fn contents_of(path: &CStr) -> Vec<u8> {
    std::fs::read(path.to_string_lossy().as_ref()).unwrap_or_default()
}

fn bad_pointers() {
    let path = own_file();
    fails!(execve(BAD, 0, 0) => EFAULT);
    in_child(|| {
        fails!(execve(&*path, BAD, 0) => EFAULT);
        fails!(execve(&*path, 0, BAD) => EFAULT);
        let args: [*const c_char; 3] = [c"x".as_ptr(), std::ptr::without_provenance(BAD), std::ptr::null()];
        fails!(execve(&*path, args.as_slice(), 0) => EFAULT);
        // A list without an end.
        let list = edge(8);
        put(list, &(c"x".as_ptr() as usize).to_ne_bytes());
        fails!(execve(&*path, list, 0) => EFAULT);
    });
}

fn too_long() {
    let path = own_file();
    in_child(|| {
        // One string of more than 128 KiB (MAX_ARG_STRLEN).
        let long = CString::new(vec![b'x'; 32 * PAGE]).unwrap_or_default();
        fails!(execve(&*path, strings(&[&long]).as_slice(), 0) => E2BIG);
        fails!(execve(&*path, strings(&[c"x"]).as_slice(), strings(&[&long]).as_slice()) => E2BIG);
        // All together, a quarter of the stack's limit.
        gives!(setrlimit(RLIMIT_STACK, &rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 }) => 0);
        let piece = CString::new(vec![b'x'; 100_000]).unwrap_or_default();
        let many: Vec<&CStr> = vec![&piece; 4];
        fails!(execve(&*path, strings(&many).as_slice(), 0) => E2BIG);
    });
    let (status, text) = output(|| {
        let long = CString::new(vec![b'x'; 32 * PAGE - 1]).unwrap_or_default();
        let _ = sys!(execve(&*path, strings(&[c"self", c"helper", c"facts", &long]).as_slice(), 0));
    });
    eq!(status, Status::Exited(0));
    eq!(text.lines().nth(3).map(str::len), Some("argument ".len() + 32 * PAGE - 1));
}

fn scripts() {
    let own = own_file().to_string_lossy().into_owned();
    script(c"script", format!("#!{own} helper\nwhatever\n"));
    // One argument of the line, the script's path, then the caller's arguments without the first.
    let (status, text) = output(|| {
        let _ = sys!(execve(c"./script", strings(&[c"ignored", c"facts", c"end"]).as_slice(), 0));
    });
    eq!(status, Status::Exited(255));
    eq!(text, "");
    script(c"script", format!("#! \t{own} \t helper \t\n"));
    gives!(symlink(c"script", c"facts") => 0);
    let (status, text) = output(|| {
        let _ = sys!(execve(c"facts", strings(&[c"ignored", c"one", c"two three"]).as_slice(), 0));
    });
    eq!(status, Status::Exited(0));
    let lines: Vec<&str> = text.lines().take(5).collect();
    eq!(lines, [format!("argument {own}").as_str(), "argument helper", "argument facts", "argument one", "argument two three"]);
    says(&text, "status Name:\tfacts");
    // All after the first blank is one argument. No newline is needed at the end.
    script(c"script", format!("#!{own} helper facts"));
    let (status, _) = output(|| {
        let null = works!(openat(AT_FDCWD, c"/dev/null", O_WRONLY));
        works!(dup3(null, 2, 0));
        let _ = sys!(execve(c"./script", strings(&[c"x"]).as_slice(), 0));
    });
    eq!(status, Status::Exited(2));
}

fn scripts_of_scripts() {
    let own = own_file().to_string_lossy().into_owned();
    let here = std::env::current_dir().unwrap_or_default().display().to_string();
    script(c"s1", format!("#!{own} helper\n"));
    for number in 2..=6 {
        script(&CString::new(format!("s{number}")).unwrap_or_default(), format!("#!{here}/s{}\n", number - 1));
    }
    // Five interpreters at most stand before the program.
    let (status, _) = output(|| {
        let _ = sys!(execve(c"s5", strings(&[c"x"]).as_slice(), 0));
    });
    eq!(status, Status::Exited(255));
    eq!(error_of(c"s6"), Errno::ELOOP);
    script(c"self", format!("#!{here}/self\n"));
    eq!(error_of(c"self"), Errno::ELOOP);
}

fn scripts_that_lead_nowhere() {
    script(c"missing", "#!/no/such/interpreter\n");
    eq!(error_of(c"missing"), Errno::ENOENT);
    script(c"nothing", "#!\n");
    eq!(error_of(c"nothing"), Errno::ENOEXEC);
    script(c"blank", "#!   \n");
    eq!(error_of(c"blank"), Errno::ENOEXEC);
    script(c"directory", "#!/\n");
    eq!(error_of(c"directory"), Errno::EACCES);
    // A line that is cut off within the interpreter's path (256 bytes are looked at) is no line.
    script(c"long", format!("#!/{}\n", "x".repeat(300)));
    eq!(error_of(c"long"), Errno::ENOEXEC);
}

fn descriptors_closed_and_kept() {
    let text = facts_after(|| {
        let fd = file(c"file", b"");
        works!(dup3(fd, 20, 0));
        works!(dup3(fd, 21, O_CLOEXEC));
        works!(dup3(fd, 22, O_CLOEXEC));
        gives!(fcntl(22, F_SETFD, 0) => 0);
        works!(dup3(fd, 23, 0));
        gives!(fcntl(23, F_SETFD, FD_CLOEXEC) => 0);
        // A duplicate doesn't have the flag.
        gives!(dup2(21, 24) => 24);
        gives!(fcntl(21, F_DUPFD, 25) => 25);
        gives!(fcntl(20, F_DUPFD_CLOEXEC, 26) => 26);
        works!(close_range(27, 40, 4 /* CLOSE_RANGE_CLOEXEC */));
    });
    for kept in [20, 22, 24, 25] {
        says(&text, &format!("descriptor {kept} 0"));
    }
    for closed in [21, 23, 26] {
        never_says(&text, &format!("descriptor {closed}"));
    }
}

fn dispositions() {
    let text = facts_after(|| {
        signal::ignore(SIGUSR1);
        signal::on(SIGUSR2, SA_RESTART);
        signal::ignore(SIGCHLD);
        signal::on(SIGTERM, 0);
    });
    says(&text, &format!("disposition {SIGUSR1} ignored"));
    says(&text, &format!("disposition {SIGCHLD} ignored"));
    never_says(&text, &format!("disposition {SIGUSR2} "));
    never_says(&text, &format!("disposition {SIGTERM} "));
}

fn masks_and_pending() {
    let text = facts_after(|| {
        signal::block(&[SIGUSR1, SIGHUP, SIGRTMIN()]);
        let _ = sys!(kill(process::id(), SIGUSR1));
        let _ = sys!(tgkill(process::id(), process::id(), SIGHUP));
    });
    says(&text, &format!("blocked {:x}", signal::set(&[SIGUSR1, SIGHUP, SIGRTMIN()])));
    says(&text, &format!("pending {:x}", signal::set(&[SIGUSR1, SIGHUP])));
}

fn what_is_kept() {
    gives!(mkdir(c"inside", 0o755) => 0);
    let word = shared_word();
    let own = process::id();
    let text = facts_after(|| {
        word.store(process::id() as u32, SeqCst);
        let later = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: 100, tv_usec: 0 } };
        gives!(setitimer(ITIMER_REAL, &later, 0) => 0);
        gives!(setpriority(PRIO_PROCESS, 0, 19) => 0);
        works!(umask(0o037));
        gives!(chdir(c"inside") => 0);
        gives!(prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) => 0);
    });
    says(&text, &format!("pid {}", word.load(SeqCst)));
    says(&text, &format!("parent {own}"));
    says(&text, "timer true");
    says(&text, "nice 1");
    says(&text, "umask 37");
    says(&text, "pdeathsig 15");
    says(&text, &format!("cwd {}/inside", std::env::current_dir().unwrap_or_default().display()));
}

fn what_is_lost() {
    let text = facts_after(|| {
        gives!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) => 0);
        gives!(prctl(PR_SET_NAME, c"another", 0, 0, 0) => 0);
        gives!(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) => 0);
        works!(mlockall(MCL_FUTURE | MCL_ONFAULT));
        let mut timer = 0i32;
        works!(timer_create(CLOCK_REALTIME, 0, &mut timer));
    });
    says(&text, "dumpable 1");
    says(&text, "keepcaps 0");
    never_says(&text, "status Name:\tanother");
}

fn execveat_by_descriptor() {
    let path = own_file();
    let args = [c"self", c"helper", c"exit", c"31"];
    let fd = works!(openat(AT_FDCWD, &*path, O_PATH | O_CLOEXEC));
    let (status, _) = output(|| {
        let _ = sys!(execveat(fd, c"", strings(&args).as_slice(), 0, AT_EMPTY_PATH));
    });
    eq!(status, Status::Exited(31));
    let (directory, name) = split(&path);
    let at = works!(openat(AT_FDCWD, &*directory, O_PATH | O_DIRECTORY));
    let (status, _) = output(|| {
        let _ = sys!(execveat(at, &*name, strings(&args).as_slice(), 0, 0));
    });
    eq!(status, Status::Exited(31));
    let (status, _) = output(|| {
        let _ = sys!(execveat(AT_FDCWD, &*path, strings(&args).as_slice(), 0, 0));
    });
    eq!(status, Status::Exited(31));
}

fn split(path: &CStr) -> (CString, CString) {
    let text = path.to_string_lossy().into_owned();
    let (directory, name) = text.rsplit_once('/').unwrap_or((".", &text));
    (CString::new(directory).unwrap_or_default(), CString::new(name).unwrap_or_default())
}

fn execveat_arguments() {
    let path = own_file();
    let args = strings(&[c"x"]);
    in_child(|| {
        fails!(execveat(AT_FDCWD, c"", args.as_slice(), 0, 0) => ENOENT);
        fails!(execveat(AT_FDCWD, &*path, args.as_slice(), 0, 0x80) => EINVAL);
        fails!(execveat(999, c"relative", args.as_slice(), 0, 0) => EBADF);
        fails!(execveat(999, c"", args.as_slice(), 0, AT_EMPTY_PATH) => EBADF);
        let plain = file(c"plain", b"");
        fails!(execveat(plain, c"relative", args.as_slice(), 0, 0) => ENOTDIR);
        fails!(execveat(plain, c"", args.as_slice(), 0, AT_EMPTY_PATH) => EACCES);
        gives!(symlinkat(&*path, AT_FDCWD, c"link") => 0);
        fails!(execveat(AT_FDCWD, c"link", args.as_slice(), 0, AT_SYMLINK_NOFOLLOW) => ELOOP);
        fails!(execveat(AT_FDCWD, BAD, args.as_slice(), 0, 0) => EFAULT);
    });
}

fn execveat_and_close_on_exec() {
    // The interpreter of a script could not open what exec closes.
    let own = own_file().to_string_lossy().into_owned();
    script(c"script", format!("#!{own} helper\n"));
    in_child(|| {
        let fd = works!(openat(AT_FDCWD, c"script", O_RDONLY | O_CLOEXEC));
        fails!(execveat(fd, c"", strings(&[c"x"]).as_slice(), 0, AT_EMPTY_PATH) => ENOENT);
    });
    let fd = works!(openat(AT_FDCWD, c"script", O_RDONLY));
    let (status, _) = output(|| {
        let _ = sys!(execveat(fd, c"", strings(&[c"x"]).as_slice(), 0, AT_EMPTY_PATH));
    });
    eq!(status, Status::Exited(255));
}

/// The addresses of path and arguments, for a thread that starts a program.
extern "C" fn start_program(address: usize) -> c_int {
    let (path, args) = (word_pair(address), word_pair(address + 8));
    let _ = sys!(execve(path, args, 0));
    1
}

fn word_pair(address: usize) -> usize {
    let (low, high) = (word_at(address).load(SeqCst), word_at(address + 4).load(SeqCst));
    low as usize | (high as usize) << 32
}

/// Puts path and list where [`start_program`] looks for them.
fn prepared(path: &CStr, args: &[*const c_char]) -> usize {
    let map = pages(1);
    put(map, &(path.as_ptr() as usize).to_ne_bytes());
    put(map + 8, &(args.as_ptr() as usize).to_ne_bytes());
    map
}

fn from_a_thread() {
    let path = own_file();
    let args = strings(&[c"self", c"helper", c"facts"]);
    let word = shared_word();
    let (status, text) = output(|| {
        word.store(process::id() as u32, SeqCst);
        let address = prepared(&path, &args);
        let stack = pages(16) + 16 * PAGE;
        let _ = clone(Clone { flags: THREAD, stack, ..Clone::default() }, start_program, address);
        loop {
            let _ = sys!(pause());
        }
    });
    // All other threads end, and the one that is left has the process's number.
    eq!(status, Status::Exited(0));
    says(&text, &format!("pid {}", word.load(SeqCst)));
}

fn vfork_and_exec() {
    let path = own_file();
    let args = strings(&[c"self", c"helper", c"exit", c"9"]);
    let address = prepared(&path, &args);
    let how = Clone { flags: CLONE_VM | CLONE_VFORK | SIGCHLD, stack: pages(16) + 16 * PAGE, ..Clone::default() };
    let pid = clone(how, start_program, address).unwrap_or(0) as c_int;
    eq!(wait(pid), Status::Exited(9));
    // Our memory is still ours.
    eq!(word_pair(address), path.as_ptr() as usize);
}

fn directory_and_name() {
    let pid = {
        let path = own_file();
        let (reader, writer) = pipe();
        let pid = child(|| {
            works!(dup2(reader, 0));
            works!(close(writer));
            let _ = sys!(execve(&*path, strings(&[c"a name", c"helper", c"wait"]).as_slice(), strings(&[c"K=V"]).as_slice()));
        });
        works!(close(reader));
        until(|| contents(&format!("/proc/{pid}/cmdline")).starts_with("a name"));
        eq!(contents(&format!("/proc/{pid}/cmdline")), "a name\0helper\0wait\0");
        eq!(contents(&format!("/proc/{pid}/environ")), "K=V\0");
        let link = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        eq!(link.display().to_string(), path.to_string_lossy().into_owned());
        let (_, name) = split(&path);
        eq!(contents(&format!("/proc/{pid}/comm")).trim_end(), &name.to_string_lossy()[..name.count_bytes().min(15)]);
        works!(close(writer));
        pid
    };
    join(pid);
}

fn set_user_id() {
    need_root();
    process::copy();
    let copy = process::COPY;
    gives!(fchownat(AT_FDCWD, copy, 2222, 3333, 0) => 0);
    gives!(fchmodat(AT_FDCWD, copy, 0o6755) => 0);
    let run = |before: &dyn Fn()| {
        output(|| {
            before();
            let _ = sys!(execve(copy, strings(&[c"x", c"helper", c"facts"]).as_slice(), 0));
        })
        .1
    };
    let text = run(&|| {
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
    });
    if text.contains("ids 1000 1000")
        && std::fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| mounts.contains("nosuid"))
    {
        skip!("the scratch directory may be on a file system mounted nosuid");
    }
    says(&text, "ids 1000 2222 1000 3333");
    never_says(&text, "dumpable 1");
    let text = run(&|| {
        gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
    });
    says(&text, "ids 1000 1000 0 0");
    // The group's bit without the group's x is for locking, not for groups.
    gives!(fchmodat(AT_FDCWD, copy, 0o2745) => 0);
    let text = run(&|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
    });
    says(&text, "ids 1000 1000 0 0");
}

fn no_new_privileges() {
    fails!(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) => EINVAL);
    fails!(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0) => EINVAL);
    fails!(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0) => EINVAL);
    let text = facts_after(|| {
        gives!(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) => 0);
        gives!(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) => 1);
    });
    says(&text, "nnp 1");
    says(&facts_after(|| {}), "nnp 0");
}

fn a_failed_exec_changes_nothing() {
    in_child(|| {
        let fd = works!(openat(AT_FDCWD, c".", O_RDONLY | O_CLOEXEC));
        signal::on(SIGUSR1, 0);
        fails!(execve(c"missing", strings(&[c"x"]).as_slice(), 0) => ENOENT);
        script(c"text", "no program");
        fails!(execve(c"text", strings(&[c"x"]).as_slice(), 0) => ENOEXEC);
        gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
        works!(kill(process::id(), SIGUSR1));
        eq!(signal::count(), 1);
    });
}

fn shared_table_is_unshared() {
    // A child that shares our descriptors and starts a program closes its own copies, not ours.
    let path = own_file();
    let args = strings(&[c"self", c"helper", c"exit", c"0"]);
    let fd = works!(openat(AT_FDCWD, c".", O_RDONLY | O_CLOEXEC));
    let address = prepared(&path, &args);
    let pid = clone(Clone { flags: CLONE_FILES | CLONE_FS | SIGCHLD, ..Clone::default() }, start_program, address);
    join(pid.unwrap_or(0) as c_int);
    works!(fcntl(fd, F_GETFD));
}

fn busy_text() {
    process::copy();
    let writing = works!(openat(AT_FDCWD, process::COPY, O_WRONLY));
    eq!(error_of(process::COPY), Errno::ETXTBSY);
    works!(close(writing));
    let (reader, writer) = pipe();
    let pid = child(|| {
        works!(dup2(reader, 0));
        works!(close(writer));
        let _ = sys!(execve(process::COPY, strings(&[c"busy", c"helper", c"wait"]).as_slice(), 0));
    });
    until(|| contents(&format!("/proc/{pid}/cmdline")).starts_with("busy"));
    fails!(openat(AT_FDCWD, process::COPY, O_WRONLY) => ETXTBSY);
    fails!(openat(AT_FDCWD, process::COPY, O_RDWR) => ETXTBSY);
    fails!(truncate(process::COPY, 0) => ETXTBSY);
    works!(openat(AT_FDCWD, process::COPY, O_RDONLY));
    gives!(unlink(process::COPY) => 0);
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    is!(link.display().to_string().ends_with("/copy (deleted)"), "the link to say that the file is gone");
    works!(close(writer));
    join(pid);
}

fn memory_is_new() {
    let text = facts_after(|| {
        let map = works!(mmap(0x7000_0000, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        eq!(map, 0x7000_0000);
    });
    says(&text, "old mapping false");
}

fn fexecve_of_a_memfd() {
    let own = contents_of(&own_file());
    let fd = works!(memfd_create(c"program", 1 /* MFD_CLOEXEC */));
    let mut written = 0;
    while written < own.len() {
        written += works!(write(fd, &own[written..], own.len() - written));
    }
    let again = works!(openat(AT_FDCWD, &*CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default(), O_RDONLY | O_CLOEXEC));
    let args = strings(&[c"m", c"helper", c"facts"]);
    // Still open for writing: a memfd, which nobody opened by a path for that, is not busy.
    let (status, text) = output(|| {
        let _ = sys!(execveat(again, c"", args.as_slice(), 0, AT_EMPTY_PATH));
    });
    eq!(status, Status::Exited(0));
    says(&text, "argument m");
}

fn command_line_shows() {
    gives!(prctl(PR_SET_NAME, c"a name that is too long", 0, 0, 0) => 0);
    let mut name = [0u8; 16];
    gives!(prctl(PR_GET_NAME, &mut name, 0, 0, 0) => 0);
    eq!(&name, b"a name that is \0");
    eq!(contents("/proc/self/comm"), "a name that is \n");
    is!(contents("/proc/self/stat").contains(" (a name that is ) R "), "stat to have it");
    fails!(prctl(PR_SET_NAME, BAD, 0, 0, 0) => EFAULT);
    fails!(prctl(PR_GET_NAME, BAD, 0, 0, 0) => EFAULT);
    let fd = works!(openat(AT_FDCWD, c"/proc/self/comm", O_WRONLY));
    gives!(write(fd, b"written\n", 8) => 8);
    gives!(prctl(PR_GET_NAME, &mut name, 0, 0, 0) => 0);
    is!(name.starts_with(b"written"), "the name that was written");
}
