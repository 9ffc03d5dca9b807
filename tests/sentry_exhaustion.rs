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
