//! Virtual machines that boot Debian's kernel. `make lab` runs this in a machine with an ordinary KVM; on another host each test says
//! so, and what `insula vm` says there is looked at instead.

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use support::guest::{guest, initrd, lab, load_modules, must, said, take_along};
use support::{World, stderr, stdout, told};

#[test]
fn a_guest_has_what_was_asked_for_and_switches_off() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let script = "echo cpus $(nproc); free -m | grep Mem; cat /proc/cmdline; dmesg | grep -A3 'cut here'; poweroff -f";
    let initrd = initrd(&world, script);
    let output = guest(&world, &kernel, &initrd, &["--cpus", "2", "--memory", "300M", "--stats"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let said = said(&output);
    assert!(said.contains("cpus 2\n"), "{said}");
    let memory: u32 =
        said.lines().find(|line| line.starts_with("Mem:")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((240..300).contains(&memory), "{said}");
    assert!(
        said.contains("console=ttyS0 8250.nr_uarts=1 pci=off reboot=k panic=-1 cryptomgr.notests quiet loglevel=0"),
        "{said}"
    );
    assert!(!said.contains("cut here"), "the guest's kernel has nothing to warn of: {said}");
    let told_of = stderr(&output);
    let numbers: Vec<f64> = told_of.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(told_of.starts_with("insula: start: guest entered after ") && told_of.contains(" ms\ninsula: exits: "), "{told_of}");
    let [entered, init, ports, ..] = numbers[..] else { panic!("{told_of}") };
    assert!(0.0 < entered && entered < init, "{told_of}");
    // Its kernel reads the register by which it switched off until it is off: not ten thousand times.
    assert!((100.0..5000.0).contains(&ports), "{told_of}");
}

/// As their tools and the kernel's documentation say it wants them.
#[test]
fn an_initial_file_system_may_be_packed() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, "echo unpacked; poweroff -f");
    let packed = world.path("packed");
    for pack in ["gzip -c", "xz -0 --check=crc32 -c", "zstd -1 -c", "lz4 -l -c"] {
        must(&format!("{pack} {} > {}", initrd.display(), packed.display()));
        let output = guest(&world, &kernel, &packed, &[]);
        assert!(said(&output).contains("unpacked\n") && output.status.success(), "{pack}: {}", told(&output));
        must(&format!("truncate -s -100 {}", packed.display()));
        let output = guest(&world, &kernel, &packed, &[]);
        assert!(!output.status.success() && stderr(&output).contains("is cut short"), "{pack}: {}", told(&output));
    }
}

#[test]
fn disks_hold_what_is_written() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let disk = world.path("disk");
    let content: Vec<u8> = (0..4 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&disk, &content).unwrap();
    std::fs::copy(&disk, world.path("before")).unwrap();
    let fixed = world.file("fixed", &"read only\n".repeat(512));
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; echo $(cat /sys/block/vda/size) $(cat /sys/block/vda/serial) $(cat /sys/block/vdb/ro)
           md5sum < /dev/vda; head -c 10 /dev/vdb; dd if=/dev/vdb of=/dev/vda bs=4k count=1 seek=8 conv=notrunc 2>/dev/null; sync
           echo x > /dev/vdb 2>/dev/null || echo refused; head -c 16 /dev/hwrng | wc -c; poweroff -f";
    let initrd = initrd(&world, &script);
    let disks = [format!("{},serial=S3", disk.display()), format!("{},ro", fixed.display())];
    let output = guest(&world, &kernel, &initrd, &["--cpus", "2", "--disk", &disks[0], "--disk", &disks[1], "--stats"]);
    let said = said(&output);
    let sum = Command::new("md5sum").arg(world.path("before")).output().unwrap();
    let sum = stdout(&sum).split(' ').next().unwrap().to_owned();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said.contains(&format!("8192 S3 1\n{sum}  -\n")), "{}", told(&output));
    assert!(said.contains("read only\n") && said.contains("refused\n16\n"), "{said}");
    let after = std::fs::read(&disk).unwrap();
    assert_eq!(after[32768..32768 + 4096], std::fs::read(&fixed).unwrap()[..4096]);
    assert!(after[..32768] == content[..32768] && after[36864..] == content[36864..], "the rest is as it was");
}

#[test]
fn sockets_reach_from_the_guest_to_the_host_and_back() {
    let Some((world, kernel, _turn)) = lab() else { return };
    take_along(&world, "/usr/bin/socat");
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; echo from the guest | socat - VSOCK-CONNECT:2:52
           socat -t 20 VSOCK-LISTEN:1024 SYSTEM:'read line; echo you said $line'; poweroff -f";
    let initrd = initrd(&world, &script);
    let (socket, listening) = (world.path("vsock"), world.path("vsock_52"));
    let listener = std::os::unix::net::UnixListener::bind(&listening).unwrap();
    let mut command = world.insula(["vm", "run", "--kernel"]);
    command.arg(&kernel).arg("--initrd").arg(&initrd).arg("--vsock").arg(&socket).args(["--cmdline", "quiet loglevel=0"]);
    let machine = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut heard = String::new();
    listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "from the guest\n");
    // The guest's program may not listen yet: then the connection is closed without an answer.
    let mut answer = String::new();
    support::eventually("an answer of the guest's", || {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.write_all(b"CONNECT 1024\nhello\n").unwrap();
        answer.clear();
        let _ = stream.read_to_string(&mut answer);
        !answer.is_empty()
    });
    assert!(answer.starts_with("OK ") && answer.ends_with("\nyou said hello\n"), "{answer:?}");
    let output = support::finish(machine);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(!socket.exists(), "nothing is left");
}

#[test]
fn a_tap_carries_what_is_sent() {
    let Some((world, kernel, _turn)) = lab() else { return };
    must("ip tuntap add insula0 mode tap vnet_hdr && ip addr add 10.77.0.1/24 dev insula0 && ip link set insula0 up");
    let payload: Vec<u8> = (0..3_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    std::fs::write(world.directory("initrd-root").join("payload"), &payload).unwrap();
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up; cat /sys/class/net/eth0/address
           nc 10.77.0.1 7001 < /payload; nc 10.77.0.1 7002 < /dev/null | cmp - /payload && echo same; poweroff -f";
    let initrd = initrd(&world, &script);
    let [receives, sends] = ["10.77.0.1:7001", "10.77.0.1:7002"].map(|at| std::net::TcpListener::bind(at).unwrap());
    let sent = payload.clone();
    let host = std::thread::spawn(move || {
        let mut got = Vec::new();
        receives.accept().unwrap().0.read_to_end(&mut got).unwrap();
        sends.accept().unwrap().0.write_all(&sent).unwrap();
        got
    });
    let output = guest(&world, &kernel, &initrd, &["--cpus", "2", "--net", "tap=insula0,mac=02:00:00:00:00:77", "--stats"]);
    must("ip link del insula0");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said(&output).contains("02:00:00:00:00:77\nsame\n"), "{}", told(&output));
    assert!(host.join().unwrap() == payload, "what the guest sent came as it was");
}

#[test]
fn every_pair_of_queues_of_a_tap_carries() {
    let Some((world, kernel, _turn)) = lab() else { return };
    must("ip tuntap add insula3 mode tap vnet_hdr multi_queue");
    must("ip addr add 10.77.3.1/24 dev insula3 && ip link set insula3 up");
    // What a processor sends goes by the pair of its number, and the answers come the same way: each has an interrupt of its own on PCI.
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; ip addr add 10.77.3.2/24 dev eth0; ip link set eth0 up; head -c 2000000 /dev/urandom > /sent
           for cpu in 0 1; do taskset $((1 << cpu)) nc 10.77.3.1 7003 < /sent | cmp - /sent && echo same by $cpu; done
           for pair in 0 1; do grep -q \"[1-9][0-9]* .*input.$pair\" /proc/interrupts && echo pair $pair received; done; poweroff -f";
    let initrd = initrd(&world, &script);
    let listener = std::net::TcpListener::bind("10.77.3.1:7003").unwrap();
    let echo = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut back = stream.try_clone().unwrap();
            std::io::copy(&mut stream, &mut back).unwrap();
        }
    });
    let output = guest(&world, &kernel, &initrd, &["--cpus", "2", "--bus", "pci", "--net", "tap=insula3,queues=2"]);
    must("ip link del insula3");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said(&output).contains("same by 0\nsame by 1\npair 0 received\npair 1 received\n"), "{}", told(&output));
    echo.join().unwrap();
}

#[test]
fn a_kernel_is_entered_as_asked_for() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let script = "echo loader $(cat /proc/sys/kernel/bootloader_type); free -m | grep Mem; nproc; cat /proc/cmdline; poweroff -f";
    let initrd = initrd(&world, script);
    // Linux says that QEMU (0xb0) has loaded it when it is entered by PVH and not by Xen; 255 is a loader of no number.
    for (protocol, loader) in [("pvh", "loader 176\n"), ("linux64", "loader 255\n")] {
        let output = guest(&world, &kernel, &initrd, &["--boot", protocol, "--cpus", "2", "--memory", "300M"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(said.contains(loader) && said.contains("\n2\n") && said.contains("quiet loglevel=0"), "{}", told(&output));
        let memory = said.lines().find(|line| line.starts_with("Mem:")).unwrap().split_whitespace().nth(1).unwrap();
        assert!((240..300).contains(&memory.parse::<u32>().unwrap()), "{said}");
    }
}

#[test]
fn devices_on_pci_are_the_same_ones() {
    let Some((world, kernel, _turn)) = lab() else { return };
    must("ip tuntap add insula2 mode tap vnet_hdr && ip addr add 10.79.0.1/24 dev insula2 && ip link set insula2 up");
    let content: Vec<u8> = (0..4 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let disk = world.path("disk");
    std::fs::write(&disk, &content).unwrap();
    // The driver is taken away and comes back: messages are masked, freed, and asked for again.
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; echo functions $(ls /sys/bus/pci/devices); md5sum < /dev/vda
           cd /sys/bus/virtio/drivers/virtio_blk; device=$(echo virtio*); echo $device > unbind; echo $device > bind; cd /; md5sum < /dev/vda
           ip addr add 10.79.0.2/24 dev eth0; ip link set eth0 up; nc 10.79.0.1 7001 < /dev/vda; head -c 16 /dev/hwrng | wc -c
           echo messages $(grep -c PCI-MSI /proc/interrupts); cat /proc/cmdline; poweroff -f";
    let initrd = initrd(&world, &script);
    let server = std::net::TcpListener::bind("10.79.0.1:7001").unwrap();
    let host = std::thread::spawn(move || {
        let mut got = Vec::new();
        support::accept(&server).read_to_end(&mut got).unwrap();
        got
    });
    let options = ["--cpus", "2", "--bus", "pci", "--net", "tap=insula2", "--balloon", "16M", "--disk", disk.to_str().unwrap()];
    let output = guest(&world, &kernel, &initrd, &options);
    must("ip link del insula2");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let sum = stdout(&Command::new("md5sum").arg(&disk).output().unwrap()).split(' ').next().unwrap().to_owned();
    assert!(
        said.contains(&format!("functions 0000:00:00.0 0000:00:00.1 0000:00:00.2 0000:00:00.3\n{sum}  -\n{sum}  -\n")),
        "{said}"
    );
    let messages = said.lines().find_map(|line| line.strip_prefix("messages ")).unwrap();
    assert!(messages.parse::<u32>().unwrap() >= 6 && said.contains("\n16\n") && !said.contains("pci=off"), "{said}");
    assert!(host.join().unwrap() == content, "what the guest sent came as it was");
}

#[test]
fn a_disk_whose_host_is_full_gives_errors() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let full = world.directory("full");
    must(&format!("mount -t tmpfs -o size=2M tmpfs {0} && truncate -s 8M {0}/disk", full.display()));
    let disk = full.join("disk");
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null && echo fits
           dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null || echo an error; head -c 9 /dev/vda | wc -c; poweroff -f";
    let output = guest(&world, &kernel, &initrd(&world, &script), &["--disk", disk.to_str().unwrap()]);
    must(&format!("umount {}", full.display()));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said(&output).contains("fits\nan error\n9\n"), "{}", told(&output));
    assert!(stderr(&output).contains(&format!("requests to the disk {} failed", disk.display())), "{}", told(&output));
}

#[test]
fn a_block_device_of_large_sectors_is_a_disk_of_such() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let backing = world.file("backing", &"0123456789abcdef".repeat(1 << 16));
    must("modprobe loop");
    let made = Command::new("losetup").args(["--find", "--show", "--sector-size", "4096"]).arg(&backing).output().unwrap();
    let device = stdout(&made).trim().to_owned();
    assert!(device.starts_with("/dev/loop"), "{}", told(&made));
    let script = load_modules(&world)
        + "mount -t devtmpfs dev /dev; cat /sys/block/vda/queue/logical_block_size /sys/block/vda/size; md5sum < /dev/vda
           dd if=/dev/zero of=/dev/vda bs=4k count=2 seek=3 conv=fsync oflag=direct 2>/dev/null && echo written; poweroff -f";
    let disk = format!("{device},direct");
    let output = guest(&world, &kernel, &initrd(&world, &script), &["--disk", &disk]);
    let sum = |path: &Path| stdout(&Command::new("md5sum").arg(path).output().unwrap()).split(' ').next().unwrap().to_owned();
    must(&format!("losetup --detach {device} && sync"));
    let content = std::fs::read(&backing).unwrap();
    let whole = world.file("whole", &"0123456789abcdef".repeat(1 << 16));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said(&output).contains(&format!("4096\n2048\n{}  -\nwritten\n", sum(&whole))), "{}", told(&output));
    assert!(content[..12288].ends_with(b"def") && content[12288..20480] == [0; 8192] && content[20480..].starts_with(b"012"));
}

#[test]
fn a_kernel_that_is_cut_short_ends_no_guest_that_runs() {
    let Some((world, kernel, _turn)) = lab() else { return };
    world.ok(["kernel", "import", kernel.to_str().unwrap(), "--name", "short"]);
    let initrd = initrd(&world, "echo ready; read line < /dev/console; echo \"got $line\"; poweroff -f");
    let mut command = world.insula(["vm", "run", "--kernel", "short", "--cmdline", "quiet loglevel=0", "--initrd"]);
    command.arg(&initrd).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut machine = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut byte = [0];
    machine.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    // Every file that might be its kernel's.
    must("find /var/lib/insula/kernels/short -type f -size +1M -exec truncate -s 4096 {} +");
    machine.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    let output = support::finish(machine);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said(&output).contains("got a line\n"), "{}", told(&output));
    let error = world.fails(125, ["vm", "run", "--kernel", "short"]);
    assert!(error.contains("damaged kernel") || error.contains("not a Linux kernel"), "{error}");
}

#[test]
fn a_guest_that_resets_or_panics_ends_with_one() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let resets = guest(&world, &kernel, &initrd(&world, "reboot -f"), &[]);
    assert_eq!(resets.status.code(), Some(1), "{}", told(&resets));
    // The end of init is a panic.
    let panics = guest(&world, &kernel, &initrd(&world, "exit 3"), &[]);
    assert_eq!(panics.status.code(), Some(1), "{}", told(&panics));
}

#[test]
fn what_is_typed_reaches_the_console() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, "read line < /dev/console; echo \"got <$line>\"; poweroff -f");
    let mut command = world.insula(["vm", "run", "--kernel"]);
    command.arg(&kernel).arg("--initrd").arg(&initrd).args(["--cmdline", "quiet loglevel=0"]);
    let typed = world.file("typed", "a line that is typed, and longer than the port's sixteen bytes\n");
    command.stdin(std::fs::File::open(typed).unwrap());
    let output = support::output(&mut command);
    let line = "got <a line that is typed, and longer than the port's sixteen bytes>";
    assert!(said(&output).contains(line), "{}", told(&output));
}

#[test]
fn what_no_guest_can_be_made_of_is_one_line() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let kernel = kernel.to_str().unwrap();
    let text = world.file("text", "#!/bin/sh\n");
    let text = text.to_str().unwrap();
    let whole = std::fs::read(initrd(&world, "poweroff -f")).unwrap();
    std::fs::write(world.path("cut"), &whole[..whole.len() / 2]).unwrap();
    for (args, words) in [
        (vec!["--kernel", "missing"], vec!["missing"]),
        (vec!["--kernel", text], vec!["text", "kernel"]),
        (vec!["--kernel", kernel, "--initrd", "missing"], vec!["initial file system missing can't be opened"]),
        (vec!["--kernel", kernel, "--initrd", "/"], vec!["is a directory", "cpio"]),
        (vec!["--kernel", kernel, "--initrd", "/dev/null"], vec!["is a pipe or a device"]),
        (vec!["--kernel", kernel, "--initrd", "cut"], vec!["initial file system cut is cut short"]),
        (vec!["--kernel", kernel, "--cpus", "0"], vec!["--cpus", "1 to"]),
        (vec!["--kernel", kernel, "--cpus", "300"], vec!["--cpus", "1 to"]),
        (vec!["--kernel", kernel, "--memory", "900G"], vec!["--memory", "more than this host has"]),
        (vec!["--kernel", kernel, "--memory", "33M"], vec!["memory is too small for the kernel", "--memory"]),
        (vec!["--kernel", kernel, "--memory", "much"], vec!["--memory", "512M"]),
        (vec!["--kernel", kernel, "--hugepages"], vec!["huge pages", "nr_hugepages"]),
    ] {
        let error = world.fails(125, [vec!["vm", "run"], args.clone()].concat());
        for word in words {
            assert!(error.contains(word), "{args:?}: {error}");
        }
    }
}

#[test]
fn a_host_that_cannot_run_guests_is_named() {
    let Some(world) = World::new() else { return };
    if Path::new("/sys/module/kvm_amd").exists() || Path::new("/sys/module/kvm_intel").exists() {
        eprintln!("skipped: this host has an ordinary KVM");
        return;
    }
    for args in [&["--kernel", "k"][..], &["--kernel", "k", "--accel", "kvm"], &["--kernel", "k", "--accel", "auto", "-d"]] {
        let error = world.fails(125, [&["vm", "run"], args].concat());
        assert!(["KVM", "`--accel tcg` emulates", "insula doctor"].iter().all(|words| error.contains(words)), "{error}");
    }
}

#[test]
fn a_kernel_of_the_library_finds_its_root_by_itself() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let modules = format!("/lib/modules/{}", release.trim());
    world.ok(["kernel", "import", kernel.to_str().unwrap(), "--name", "lab", "--modules", &modules]);

    // A root as a distribution's: a disk, on which an init is.
    let root = world.directory("root");
    for dir in ["bin", "sbin", "dev", "proc", "sys", "etc"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
    let script = "#!/bin/busybox sh\n/bin/busybox --install -s /bin; echo \"init of $$ with $*\"; grep -w / /proc/mounts\n\
        ls /modules 2>&1 | grep -o 'No such file'; cat /sys/block/vda/ro; touch /written && echo written; poweroff -f\n";
    std::fs::write(root.join("sbin/init"), script).unwrap();
    must(&format!("chmod 755 {}/sbin/init", root.display()));
    let disk = world.path("root.ext4");
    must(&format!("mkfs.ext4 -q -d {} {} 16M >/dev/null", root.display(), disk.display()));
    let disk = disk.to_str().unwrap();
    let run = |arguments: &str, disk: &str| {
        let arguments = format!("quiet loglevel=0 {arguments}");
        let output = world.output(["vm", "run", "--kernel", "lab", "--cmdline", &arguments, "--disk", disk]);
        (said(&output), told(&output))
    };
    let (said, told) = run("", &format!("{disk},ro"));
    assert!(said.contains("init of 1 with \n/dev/vda / ext4 ro,relatime 0 0\nNo such file\n1\n"), "{told}");
    let (said, told) = run("rw -- one", disk);
    assert!(said.contains("init of 1 with one\n/dev/vda / ext4 rw,relatime 0 0\nNo such file\n0\nwritten\n"), "{told}");
    // What can't be found is said where the guest's user looks.
    let (said, told) = run("root=/dev/vdb", disk);
    let words = "insula: this guest can't start: root=/dev/vdb: there is no such device; it has /dev/vda";
    assert!(said.contains(words), "{told}");
}
