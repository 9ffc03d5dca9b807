# Runs a command and kills one process of it, with signal 9, as it enters its Nth system call:
#
#     perl -e THIS caller|children N COMMAND ARG...
#
# `caller` counts the calls of the command's own process, `children` those of all processes it makes, in the order in which they
# come. (strace counts each call by name, and each process for itself: its `inject` can't say "the Nth of all of them", nor spare
# the caller.) Ends with the command; prints how many calls were counted, and "killed" if it came to that. Whoever is left over
# goes on untraced.
#
# Source: ptrace(2); the numbers are those of x86-64.
use strict;
use warnings;

use constant { WAIT4 => 61, PTRACE => 101, CONT => 7, SYSCALL => 24, SEIZE => 0x4206, GET_SYSCALL_INFO => 0x420e };
# TRACESYSGOOD, and follow fork, vfork, clone and exec.
use constant OPTIONS => 0x1 | 0x2 | 0x4 | 0x8 | 0x10;
use constant { SIGTRAP => 5, UNTRACED => 2, WALL => 0x40000000, ENTRY => 1 };

my ($who, $at, @command) = @ARGV;
my $root = fork() // die "fork: $!";
if (!$root) {
    kill 'STOP', $$;
    exec { $command[0] } @command or die "exec: $!";
}
# Whom something has come to; perl's own waitpid hides how a stopped process was stopped.
my $status;
sub next_one {
    my $bytes = pack "i", 0;
    my $pid = syscall(WAIT4, -1, $bytes, WALL | (shift // 0), 0);
    $status = unpack "i", $bytes;
    return $pid;
}

next_one(UNTRACED) == $root or die "wait: $!";
# Seized, not attached: so a new process is stopped without a signal, which it would keep if we ended first.
syscall(PTRACE, SEIZE, $root, 0, OPTIONS) == 0 or die "seize: $!";
kill 'CONT', $root;

my ($count, $started, $killed) = (0, 0, "");
while ((my $pid = next_one()) > 0) {
    if (($status & 0xff) != 0x7f) {
        # The exit code goes on, as if nobody were in between.
        if ($pid == $root) { print "$count$killed\n"; exit(($status & 0x7f) ? 128 + ($status & 0x7f) : $status >> 8) }
        next;
    }
    my ($signal, $event) = (($status >> 8) & 0xff, $status >> 16);
    my $pass = 0;
    if ($signal == (SIGTRAP | 0x80)) {
        my $info = "\0" x 88;
        syscall(PTRACE, GET_SYSCALL_INFO, $pid, length $info, $info);
        # What perl itself does before it becomes the command isn't the command's.
        if ($started && !$killed && ord($info) == ENTRY && ($who eq 'caller') == ($pid == $root) && ++$count == $at) {
            kill 'KILL', $pid;
            $killed = " killed";
        }
    } elsif ($event) {
        $started = 1 if $event == 4;
    } else {
        $pass = $signal;
    }
    syscall(PTRACE, $killed ? CONT : SYSCALL, $pid, 0, $pass);
}
