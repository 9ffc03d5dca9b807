//! Programs of a distribution, unmodified, behind the sentry. One that isn't installed is skipped.

mod support;

use std::fs::{File, OpenOptions};
use std::process::Command;
use support::{World, ended, read};

/// Whether the host has all these programs.
fn installed(programs: &[&str]) -> bool {
    let found = |program: &&&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status();
        found.is_ok_and(|status| status.success())
    };
    match programs.iter().find(|program| !found(program)) {
        Some(missing) => {
            eprintln!("skipped: not installed: {missing}");
            false
        }
        None => true,
    }
}

/// Runs a script, which needs these programs, in an empty directory of the sandbox's own; it must end well, and write this.
#[track_caller]
fn check(programs: &[&str], script: &str, expected: &str) {
    let Some(world) = World::new() else { return };
    if !installed(programs) {
        return;
    }
    let script = format!("set -e; cd $(mktemp -d); export HOME=$PWD; {script}");
    assert_eq!(world.ok(["--isolation", "sentry", "run", "--", "sh", "-c", &script]), expected);
}

#[test]
fn output_and_errors_share_a_files_position() {
    let Some(world) = World::new() else { return };
    let path = world.file("log", "");
    let log = OpenOptions::new().write(true).open(&path).unwrap();
    let mut before = &log;
    std::io::Write::write_all(&mut before, b"before\n").unwrap();
    let script = "echo one; sh -c 'echo two >&2'; echo three";
    let mut command = world.insula(["--isolation", "sentry", "run", "--", "sh", "-c", script]);
    command.stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
    assert!(ended(&mut command.spawn().unwrap()).success(), "{}", read(&path));
    std::io::Write::write_all(&mut before, b"after\n").unwrap();
    assert_eq!(read(&path), "before\none\ntwo\nthree\nafter\n");
}

#[test]
fn what_one_program_left_of_its_input_is_the_callers() {
    let Some(world) = World::new() else { return };
    let input = File::open(world.file("input", "one\ntwo\nthree\n")).unwrap();
    let run = |input: &File| {
        let mut command = world.insula(["--isolation", "sentry", "run", "--", "sh", "-c", "read line; echo $line"]);
        support::stdout(&support::output(command.stdin(input.try_clone().unwrap()))).to_owned()
    };
    assert_eq!((run(&input), run(&input)), ("one\n".to_owned(), "two\n".to_owned()));
}

#[test]
fn shells() {
    let script = "trap 'echo trapped' USR1; kill -USR1 $$; x=$(echo hi | tr a-z A-Z); echo $x";
    check(&["dash"], &format!("dash -c '{}'", script.replace('\'', "'\\''")), "trapped\nHI\n");
    check(&["busybox"], "busybox sh -c 'seq 3 | sed s/2/x/ | busybox tac'", "3\nx\n1\n");
    let bash = "cat <(echo substituted) - <<< here; set -m; sleep 0.1 & jobs -p | wc -l; wait; echo $?";
    check(&["bash"], &format!("bash -c '{bash}'"), "substituted\nhere\n1\n0\n");
}

#[test]
fn many_short_programs() {
    check(&["xargs"], "seq 1000 | xargs -n 50 -P 2 echo | wc -l", "20\n");
}

#[test]
fn archives() {
    let script = "mkdir -p a/b; seq 5000 > a/b/n; ln -s n a/b/l; ln a/b/n a/h; tar czf t.tgz a; tar cJf t.txz a; mkdir x; tar xzf t.tgz -C x; \
                  diff -r a x/a; tar tJf t.txz | wc -l; readlink x/a/b/l; stat -c %h x/a/h";
    check(&["tar", "gzip", "xz", "diff"], script, "5\nn\n2\n");
}

#[test]
fn compilers() {
    let source = r#"printf '#include <stdio.h>\nint main(void) { puts("made"); }\n' > a.c"#;
    check(&["gcc", "make"], &format!("{source}; make -s -j2 a && ./a"), "made\n");
}

#[test]
fn traces() {
    let script = "strace -f -e trace=execve,clone,exit_group -e signal=none -o log sh -c 'true; (exit 3); exit 4' || echo $?; \
                  grep -c execve log; grep -c '+++ exited with 3 +++' log; tail -n 1 log | grep -o '+++.*'";
    check(&["strace"], script, "4\n1\n1\n+++ exited with 4 +++\n");
    // One that runs, and makes calls that are made without a stop by then.
    let script = "sh -c 'while :; do kill -0 $$; done' & p=$!; sleep 0.5; strace -q -p $p -o log & s=$!; touch log; \
                  until grep -q 'kill(.*) *= 0' log; do sleep 0.1; done; kill $s; wait $s || true; grep TracerPid /proc/$p/status; kill -9 $p";
    check(&["strace"], script, "TracerPid:\t0\n");
}

/// A program for a debugger: it calls itself, and waits for a word that only a debugger sets.
const DEBUGGED: &str = r#"
#include <pthread.h>
#include <unistd.h>
volatile int stop;
static int depth(int n) { return n == 0 ? 1 : depth(n - 1) + n; }
static void *work(void *p) { while (!stop) usleep(1000); return p; }
static int waits(void) { pthread_t t; pthread_create(&t, 0, work, 0); while (!stop) getppid(); pthread_join(t, 0); return 7; }
int main(int count, char **words) { return count > 1 ? waits() : depth(3); }
"#;

#[test]
fn debuggers() {
    let make = format!("cat > a.c <<'EOF'\n{DEBUGGED}\nEOF\ngcc -g -O0 -pthread -o a a.c; ulimit -s 8192");
    let script = format!(
        "{make}; gdb -nx -batch -ex 'break depth if n==1' -ex run -ex 'bt -frame-arguments all' -ex step -ex 'p n' -ex stepi -ex 'delete' -ex continue a > log 2>&1; \
         grep -o 'depth (n=[0-9])' log | sort -u | tr '\\n' ' '; grep -o '^.1 = .*' log; grep -o 'exited with code 07' log"
    );
    check(&["gcc", "gdb"], &script, "depth (n=0) depth (n=1) depth (n=2) depth (n=3) $1 = 0\nexited with code 07\n");
    let script = format!(
        "{make}; ./a wait & p=$!; sleep 0.5; gdb -nx -batch -p $p -ex 'thread apply all bt' -ex 'set var stop=1' -ex detach > log 2>&1; \
         grep -c '^Thread [12] ' log; grep -o 'in waits ()' log; grep -o '^#[0-9].* in work' log | grep -o work; wait $p || echo $?"
    );
    check(&["gcc", "gdb"], &script, "2\nin waits ()\nwork\n7\n");
}

/// Threads that all fork, and whose children write over everything: what the parent has is the parent's.
const FORKS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
enum { THREADS = 8, ROUNDS = 10, OWN = 16384 };
static unsigned char *memory;
static int wrong;
static int differs(const unsigned char *at, int byte, int size) { while (size--) if (*at++ != byte) return 1; return 0; }
static void *work(void *argument) {
    unsigned char *own = memory + (long)argument * OWN;
    for (int round = 1; round <= ROUNDS; round++) {
        int status = 0;
        memset(own, round, OWN);
        pid_t child = fork();
        if (child == 0) {
            int bad = differs(own, round, OWN);
            memset(memory, 0xee, THREADS * OWN);
            _exit(bad || differs(memory, 0xee, THREADS * OWN));
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0 || differs(own, round, OWN)) wrong = 1;
    }
    return 0;
}
int main(void) {
    pthread_t threads[THREADS];
    memory = mmap(0, THREADS * OWN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, work, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
    puts(wrong ? "wrong" : "right");
}
"#;

#[test]
fn threads_that_fork() {
    check(&["gcc"], &format!("cat > f.c << 'END'\n{FORKS}\nEND\ngcc -O1 -pthread f.c -o f && ./f"), "right\n");
}

#[test]
fn interpreters() {
    check(&["perl"], "perl -e '$p = fork; exit 3 unless $p; waitpid $p, 0; print $? >> 8, \"\\n\"'", "3\n");
    check(&["node"], "node -e 'setTimeout(() => console.log(6 * 7), 10)'", "42\n");
}

#[test]
fn databases() {
    let fill = "create table t(a); with recursive c(x) as (select 1 union all select x + 1 from c where x < 10000) insert into t select x from c;";
    check(
        &["sqlite3"],
        &format!("sqlite3 db '{fill}'; sqlite3 db 'select sum(a) from t; pragma integrity_check;'"),
        "50005000\nok\n",
    );
}

#[test]
fn remote_shells() {
    let script = r#"ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f id
        mkdir -p /run/sshd; cp id.pub keys
        $(command -v sshd) -h $PWD/host -p 2222 -o ListenAddress=127.0.0.1 -o StrictModes=no -o UsePAM=no -o AuthorizedKeysFile=$PWD/keys
        to() { ssh -p 2222 -i id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"; }
        to root@127.0.0.1 'echo there; exit 5' || echo code=$?
        to -tt root@127.0.0.1 tty < /dev/null | tr -d '\r'"#;
    check(&["ssh", "sshd", "ssh-keygen"], script, "there\ncode=5\n/dev/pts/0\n");
}

#[test]
fn version_control() {
    let script = "git init -q r; cd r; git config user.email a@example.org; git config user.name a; echo x > f; git add f; \
                  git commit -qm first; git clone -q . ../c; cat ../c/f; git -C ../c log --format=%s";
    check(&["git"], script, "x\nfirst\n");
}

#[test]
fn pings() {
    let Some(world) = World::new() else { return };
    if !installed(&["busybox"]) {
        return;
    }
    let script =
        "{ busybox ping -c 1 127.0.0.1; busybox ping6 -c 1 ::1; } | sed -n 's/.* ttl=/ttl=/; s/ time=.*//p; /received/p'";
    let heard = "ttl=64\n1 packets transmitted, 1 packets received, 0% packet loss\n";
    let run = world.ok(["--isolation", "sentry", "run", "--cap-add", "NET_RAW", "--", "sh", "-c", script]);
    assert_eq!(run, format!("{heard}{heard}"));
}

#[test]
fn programs_have_namespaces_of_their_own() {
    check(&["unshare"], "unshare -Urpf --mount-proc sh -c 'id -u; echo $$; test -e /proc/$PPID || echo alone'", "0\n1\nalone\n");
    let inside = "id -u; echo $$; touch /x 2>/dev/null || echo no";
    check(&["bwrap"], &format!("bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev sh -c '{inside}'"), "0\n2\nno\n");
}
