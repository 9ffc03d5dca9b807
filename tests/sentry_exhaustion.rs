//! What runs out on the host while a program runs behind the sentry: it hears of it as it would of a machine that is full, and goes on.
//! What a program has too much of itself is in the suite of system calls.

mod support;

use std::process::Command;
use support::{World, output, stdout, told};

/// Runs a program behind the sentry that may have so many descriptors on the host.
fn with_descriptors(world: &World, most: u32, script: &str) -> String {
    let line = format!("ulimit -Sn {most}; ulimit -Hn {most}; exec \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &line, "bash"]).args(world.words());
    let run = output(command.args(["--isolation", "sentry", "run", "--", "perl", "-e", script]));
    assert!(run.status.success(), "{}", told(&run));
    stdout(&run).to_owned()
}

#[test]
fn a_program_that_sees_many_files_needs_no_more_room_than_for_those_it_has_open() {
    let Some(world) = World::new() else { return };
    // More names than the host has room for, one after the other.
    let script = r#"for $n (1 .. 1500) { open F, ">", "/tmp/f$n" or die "make $n: $!"; close F; }
        for $n (1 .. 1500) { -f "/tmp/f$n" or die "see $n: $!"; open F, "<", "/tmp/f$n" or die "open $n: $!"; close F; }
        system("true") == 0 or die "run: $!"; print "all"; "#;
    assert_eq!(with_descriptors(&world, 400, script), "all");
}

#[test]
fn a_full_host_is_told_and_survived() {
    let Some(world) = World::new() else { return };
    let volume = world.directory("many");
    for number in 0..700 {
        std::fs::write(volume.join(number.to_string()), "x").unwrap();
    }
    // The volume is the host's root's, where the program finds it by the same path.
    let script = format!(
        r#"for $n (0 .. 699) {{ open my $f, "<", "{}/$n" or do {{ $why = "$!"; last }}; push @f, $f; }}
        print scalar(@f) > 100 ? "many" : "few", " ", $why, " "; @f = ();
        open F, "<", "/etc/passwd" or die "again: $!"; system("true") == 0 or die "run: $!"; print "alive";"#,
        volume.display()
    );
    assert_eq!(with_descriptors(&world, 500, &script), "many Too many open files in system alive");
}

/// Runs a script behind the sentry in a group that may have so much memory.
fn with_memory(world: &World, most: &str, more: &[&str], script: &str) -> String {
    let asked = [&["--isolation", "sentry", "run", "-m", most], more, &["--", "bash", "-c", script]].concat();
    let run = output(Command::new(world.words()[0].clone()).args(&world.words()[1..]).args(asked));
    assert!(run.status.success(), "{}", told(&run));
    stdout(&run).to_owned()
}

#[test]
fn what_is_written_over_the_hosts_files_has_half_of_the_memory() {
    let Some(world) = World::new() else { return };
    let script = r#"df --output=size -m / | tail -1 | tr -d " "
        LC_ALL=C dd if=/dev/zero of=/tmp/much bs=1M count=600 2>&1 | grep -o 'No space.*'
        stat -c %s /tmp/much; rm /tmp/much; dd if=/dev/zero of=/tmp/less bs=1M count=100 status=none && echo again"#;
    assert_eq!(with_memory(&world, "256m", &[], script), "128\nNo space left on device\n134217728\nagain\n");
}

#[test]
fn a_tmpfs_without_a_size_has_half_of_the_memory() {
    let Some(world) = World::new() else { return };
    let script = "LC_ALL=C dd if=/dev/zero of=/t/much bs=1M count=600 2>&1 | grep -o 'No space.*'
        (( $(stat -c %s /t/much) < 128 << 20 )) && df --output=avail /t | tail -1";
    assert_eq!(with_memory(&world, "256m", &["--tmpfs", "/t"], script).split_whitespace().last(), Some("0"));
}

#[test]
fn who_wants_more_memory_than_there_is_is_killed_alone() {
    let Some(world) = World::new() else { return };
    // Each may have its half, but not both and the program's memory beside.
    let script = r#"dd if=/dev/zero of=/tmp/layer bs=1M count=100 status=none
        python3 -c "bytearray(600 << 20); print(0)"; echo $?
        python3 -c 'import os; f, part = os.memfd_create("m"), bytes(1 << 20)
try:
    while True: os.write(f, part)
except OSError as error: print(error.strerror)'
        rm /tmp/layer; python3 -c "bytearray(180 << 20); print('yes')"
        awk '$1 == "MemTotal:" { print ($2 < 256 * 1024 && $2 > 200 * 1024) ? "less" : $2 }' /proc/meminfo"#;
    let said = with_memory(&world, "256m", &[], script);
    assert_eq!(said, "137\nCannot allocate memory\nyes\nless\n");
}

#[test]
fn other_limits_of_memory_are_heard_of_while_it_runs() {
    let Some(world) = World::new() else { return };
    world.ok(["--isolation", "sentry", "run", "-d", "--name", "resized", "-m", "256m", "--", "sleep", "1000"]);
    let total = || {
        let line = world.ok(["exec", "resized", "grep", "MemTotal", "/proc/meminfo"]);
        let words: Vec<_> = line.split_whitespace().collect();
        words[1].parse::<u64>().unwrap() >> 10
    };
    let touch = |size: &str| {
        let script = format!("python3 -c 'bytearray({size} << 20)'; echo $?");
        world.ok(["exec", "resized", "sh", "-c", &script])
    };
    assert!((200..256).contains(&total()), "{}", total());
    assert_eq!(touch("300"), "137\n");
    world.ok(["update", "--memory", "512m", "resized"]);
    assert!((400..512).contains(&total()), "{}", total());
    assert_eq!(touch("300"), "0\n");
    // One that stands still hears of it when it goes on.
    world.ok(["pause", "resized"]);
    world.ok(["update", "--memory", "128m", "resized"]);
    world.ok(["resume", "resized"]);
    support::eventually("the kernel hears of it", || (90..128).contains(&total()));
    assert_eq!(touch("300"), "137\n");
    // What isn't about memory leaves it as it is.
    world.ok(["update", "--cpu-share", "512", "resized"]);
    assert!((90..128).contains(&total()), "{}", total());
    world.ok(["delete", "--force", "resized"]);
}
