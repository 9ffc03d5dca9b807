#!/bin/busybox sh
# Process 1 of the machine's root: prepares what systemd would have, runs the command, reports, and ends the machine.
#
# The host hears of it on the second serial port: "up", then "exit CODE" or "fail WHY".
#
# With systemd (there is a file /.lab/systemd) that becomes process 1 when all is prepared; the rest goes on beside it.
#
# In virtual time (there is a file /.lab/icount) nothing may depend on the host until the command has ended. Then no driver of a device
# that the host answers for is loaded before; the output waits in memory, and so does the work folder.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb

# Prints the device of a port by the port's name. The host names the ports some time after the driver was loaded.
port() {
    for _ in $(seq 100); do
        for known in /sys/class/virtio-ports/*; do
            if [ "$(cat "$known/name" 2>/dev/null)" = "$1" ] && [ -c "/dev/${known##*/}" ]; then
                echo "/dev/${known##*/}"
                return
            fi
        done
        sleep 0.05
    done
    return 1
}

find_ports() {
    stdout_port=$(port stdout) && stderr_port=$(port stderr) || fail "the ports for the output are missing"
}

end() {
    echo "$1" >/dev/ttyS1
    poweroff -f
}

fail() {
    end "fail $*"
}

mount_own() {
    # As on any host that systemd has started: mounts go on to new namespaces.
    mount --make-rshared /
    mkdir -p /dev/pts /dev/shm /run/lock
    mount -t devpts -o gid=5,mode=620,ptmxmode=666,nosuid,noexec devpts /dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
    mount -t tracefs trace /sys/kernel/tracing
    mount -t debugfs debug /sys/kernel/debug
    mount -t bpf -o mode=700 bpf /sys/fs/bpf
    mount -t securityfs security /sys/kernel/security
    ln -sf /proc/self/fd /dev/fd
    ln -sf /proc/self/fd/0 /dev/stdin
    ln -sf /proc/self/fd/1 /dev/stdout
    ln -sf /proc/self/fd/2 /dev/stderr
}

# Every controller, for every group that is made; the first process and the command in groups of their own, as groups with
# controllers hold no processes of their own.
set_cgroups() {
    mount -t cgroup2 -o nsdelegate,memory_recursiveprot,nosuid,nodev,noexec cgroup2 /sys/fs/cgroup || fail "cannot mount cgroup2"
    mkdir -p /sys/fs/cgroup/init.scope /sys/fs/cgroup/lab.slice/command.scope
    echo 1 >/sys/fs/cgroup/init.scope/cgroup.procs
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || fail "cannot enable the controller $controller"
        echo "+$controller" >/sys/fs/cgroup/lab.slice/cgroup.subtree_control
    done
}

# What udev would have loaded, and the rights it would have given.
set_devices() {
    modprobe -a kvm-amd vhost_net vhost_vsock vsock_loopback tun fuse loop || fail "cannot load the modules"
    [ -c /dev/kvm ] || fail "there is no /dev/kvm"
    chown root:kvm /dev/kvm /dev/vhost-net /dev/vhost-vsock
    chmod 660 /dev/kvm /dev/vhost-net /dev/vhost-vsock
    chmod 666 /dev/fuse /dev/net/tun
    chmod 1777 /dev/shm
}

# Folders of the host, and whatever else is to be mounted for the command.
mount_folders() {
    while read -r tag options path; do
        mkdir -p "$path"
        case $tag in
            tmpfs) mount -t tmpfs -o "$options" tmp "$path" ;;
            *) mount -t virtiofs -o "$options" "$tag" "$path" ;;
        esac || fail "cannot mount $path"
    done </.lab/mounts
}

# Runs the command with its stdout and stderr in the two files, and takes its code.
run_command() {
    (
        echo 0 >/sys/fs/cgroup/lab.slice/command.scope/cgroup.procs
        # By its path: by its name, busybox would run itself, and its own ls and stat after that.
        exec /bin/sh /.lab/job
    ) </dev/null >>"$1" 2>>"$2" &
    wait $!
    code=$?
    # What the command left running would hold its output open.
    echo 1 >/sys/fs/cgroup/lab.slice/cgroup.kill
}

# The command's stdout and stderr are pipes, as a program expects them; a process for each carries them to the host.
run_streaming() {
    modprobe -a virtiofs virtio_console || fail "cannot load the modules for the host's folders"
    mount_folders
    mkfifo /.lab/stdout /.lab/stderr
    find_ports
    cat /.lab/stdout >"$stdout_port" &
    stdout=$!
    cat /.lab/stderr >"$stderr_port" &
    stderr=$!
    echo up >/dev/ttyS1
    run_command /.lab/stdout /.lab/stderr
    # What the command put out of our reach may hold a pipe open for ever; it gets a moment to finish.
    (
        sleep 2
        kill $stdout $stderr
    ) 2>/dev/null &
    wait $stdout
    wait $stderr
}

# The message bus is the last that systemd is asked for, and what the command wants.
run_beside_systemd() {
    for _ in $(seq 6000); do
        if busctl status >/dev/null 2>&1; then
            run_streaming
            return
        fi
        sleep 0.1
    done
    fail "systemd has brought no message bus up within ten minutes"
}

run_in_virtual_time() {
    work=/var/lib/lab/work
    echo up >/dev/ttyS1
    run_command /.lab/stdout /.lab/stderr
    modprobe -a virtiofs virtio_console || fail "cannot load the modules for the host's folders"
    find_ports
    cat /.lab/stdout >"$stdout_port"
    cat /.lab/stderr >"$stderr_port"
    mkdir /.lab/host
    mount -t virtiofs work /.lab/host && cp -a $work/. /.lab/host/ || fail "cannot hand the work folder to the host"
}

umask 022
mount_own
set_cgroups
set_devices
hostname lab
ip link set lo up
mkdir -p /home/lab
chown lab:lab /home/lab
finish() {
    # The host reads the files only after the machine has ended; they are written by then.
    sync
    end "exit $code"
}

if [ -e /.lab/systemd ]; then
    (run_beside_systemd && finish) &
    # From here on it is the command's time.
    echo up >/dev/ttyS1
    # A system without a number asks its user who it is to be.
    tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
    # Nothing of a system's start but what the bus needs.
    exec /usr/lib/systemd/systemd --unit=dbus.service --show-status=no
elif [ -e /.lab/icount ]; then
    run_in_virtual_time
else
    run_streaming
fi
finish
