//! Kernel images as files: what is opened, what is kept, and what is refused in which words.

mod images;
#[path = "images/packed.rs"]
mod packed;

use images::{PVH, RELEASE, TEXT, bzimage, elf, put, with_size};
use insula_vm::boot::{Protocol, entry};
use insula_vm::kernel::{Compression, Format, Kernel, Segment};
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn cache(&self) -> PathBuf {
        self.path("some/cache")
    }

    /// What is kept: names that end so.
    fn kept(&self, end: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cache()).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        let entries: Vec<PathBuf> = entries.unwrap_or_default();
        entries.into_iter().filter(|path| path.to_string_lossy().ends_with(end)).collect()
    }
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// What is wrong with a file of these bytes, without its path.
#[track_caller]
fn refused(bytes: &[u8]) -> String {
    let dir = Dir::new();
    let path = dir.file("image", bytes);
    let message = Kernel::open(&path, Some(&dir.cache())).expect_err("it was opened").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(dir.kept("").is_empty(), "something is left of {message}");
    message.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&message).to_owned()
}

#[test]
fn a_vmlinux_is_opened_as_it_is() {
    let dir = Dir::new();
    let kernel = Kernel::open(&dir.file("vmlinux", &elf()), Some(&dir.cache())).unwrap();
    assert_eq!(kernel.format, Format::Elf);
    assert_eq!((kernel.entry, kernel.pvh_entry, kernel.release().unwrap().as_deref()), (Some(TEXT), Some(PVH), Some(RELEASE)));
    let text = Segment { offset: 0x1000, address: TEXT, file_size: 0x2_0000, memory_size: 0x2_0000 };
    let data = Segment { offset: 0x2_1000, address: TEXT + 0x20_0000, file_size: 0x3000, memory_size: 0x6000 };
    assert_eq!(kernel.segments, [text, data]);
    assert!(content(&kernel.file) == elf() && dir.kept("").is_empty());
}

#[test]
fn every_compression_is_unpacked_to_the_same() {
    use Compression::{Gzip, Lz4, Xz, Zstd};
    // Behind the kernel lies its table of relocations.
    let unpacked = [elf(), vec![0x55; 1234]].concat();
    for ((name, image), compression) in packed::all(&unpacked).into_iter().zip([Gzip, Xz, Zstd, Lz4]) {
        let dir = Dir::new();
        let path = dir.file("vmlinuz", &image);
        for cache in [None, Some(dir.cache())] {
            let kernel = Kernel::open(&path, cache.as_deref()).unwrap();
            assert_eq!(kernel.format, Format::BzImage(compression), "{name}");
            assert_eq!(
                (kernel.entry, kernel.pvh_entry, kernel.release().unwrap().as_deref()),
                (Some(TEXT), Some(PVH), Some(RELEASE)),
                "{name}"
            );
            assert!(kernel.segments.len() == 2 && kernel.size == unpacked.len() as u64, "{name}: {kernel:?}");
            assert!(content(&kernel.file) == unpacked, "{name}: not the same bytes");
        }
    }
}

/// With the options of Linux's scripts/Makefile.lib and scripts/xz_wrap.sh.
#[test]
fn what_the_kernels_build_packs_is_unpacked() {
    let unpacked = [elf(), elf(), vec![0; 20 << 20], elf()].concat();
    let dir = Dir::new();
    dir.file("vmlinux", &unpacked);
    for (program, options) in [
        ("gzip", "gzip -n -9"),
        ("xz", "xz --check=crc32 --x86 --lzma2=preset=1,dict=128MiB"),
        ("zstd", "zstd -q -22 --ultra"),
        ("zstd", "zstd -q -19"),
        ("lz4", "lz4 -l -9"),
    ] {
        let command = format!("{options} -c < vmlinux");
        let output =
            Command::new("sh").args(["-c", &command]).current_dir(dir.0.path()).stderr(Stdio::inherit()).output().unwrap();
        if output.status.code() == Some(127) {
            eprintln!("skipped: there is no {program}");
            continue;
        }
        assert!(output.status.success(), "{options}");
        let payload = if program == "gzip" { output.stdout } else { with_size(output.stdout, unpacked.len()) };
        let kernel =
            Kernel::open(&dir.file("vmlinuz", &bzimage(&payload)), None).unwrap_or_else(|error| panic!("{options}: {error}"));
        assert!(content(&kernel.file) == unpacked, "{options}: not the same bytes");
    }
}

#[test]
fn an_image_is_unpacked_once() {
    let dir = Dir::new();
    let path = dir.file("vmlinuz", &bzimage(&packed::gzip(&elf())));
    std::thread::sleep(Duration::from_millis(100));
    let inode = |path: &Path| Kernel::open(path, Some(&dir.cache())).unwrap().file.metadata().unwrap().ino();
    let first = inode(&path);
    assert_eq!(dir.kept(".index").len(), 1);
    assert_eq!(inode(&path), first);
    // The content counts, wherever it lies.
    let copy = dir.path("copy");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(inode(&copy), first);
    assert_eq!(dir.kept(".elf").len(), 1);
    assert!(dir.kept("draft").is_empty());
}

#[test]
fn a_new_image_under_the_old_name_is_noticed() {
    let dir = Dir::new();
    let mut other = elf();
    put(&mut other, 0x1f00, b"something else");
    let (old, new) = (bzimage(&with_size(packed::lz4(&elf()), elf().len())), bzimage(&packed::gzip(&other)));
    let size = old.len().max(new.len());
    let padded = |mut image: Vec<u8>| {
        image.resize(size, 0);
        image
    };
    let path = dir.file("vmlinuz", &padded(old));
    std::thread::sleep(Duration::from_millis(100));
    assert!(content(&Kernel::open(&path, Some(&dir.cache())).unwrap().file) == elf());
    // The same inode and size; the times tell.
    dir.file("vmlinuz", &padded(new));
    assert!(content(&Kernel::open(&path, Some(&dir.cache())).unwrap().file) == other);
}

#[test]
fn what_is_kept_is_used_only_if_it_is_in_order() {
    let dir = Dir::new();
    let path = dir.file("vmlinuz", &bzimage(&packed::gzip(&elf())));
    std::thread::sleep(Duration::from_millis(100));
    let open = || content(&Kernel::open(&path, Some(&dir.cache())).unwrap().file);
    assert!(open() == elf());
    let kept = dir.kept(".elf").pop().unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o022, 0);
    // Truncated, as after a power failure.
    File::options().write(true).open(&kept).unwrap().set_len(5000).unwrap();
    assert!(open() == elf());
    // All there, and no kernel.
    fs::write(&kept, vec![0; elf().len()]).unwrap();
    assert!(open() == elf());
    // Somebody else could have written it.
    let mut evil = elf();
    put(&mut evil, 0x1000, b"evil");
    fs::write(&kept, &evil).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o666)).unwrap();
    assert!(open() == elf());
    // It is another file.
    fs::remove_file(&kept).unwrap();
    symlink(dir.file("evil", &evil), &kept).unwrap();
    assert!(open() == elf());
    if rustix::process::geteuid().is_root() {
        fs::write(&kept, &evil).unwrap();
        std::os::unix::fs::chown(&kept, Some(65534), None).unwrap();
        assert!(open() == elf());
    }
    // An index that is no index.
    fs::write(dir.kept(".index").pop().unwrap(), [0xff; 1000]).unwrap();
    assert!(open() == elf());
}

#[test]
fn a_place_that_cannot_be_written_is_said() {
    let dir = Dir::new();
    let path = dir.file("vmlinuz", &bzimage(&packed::gzip(&elf())));
    let blocked = dir.file("blocked", b"");
    let message = Kernel::open(&path, Some(&blocked)).unwrap_err().to_string();
    assert!(message.starts_with(&format!("can't keep the unpacked kernel in {}: ", blocked.display())), "{message}");
}

#[test]
fn an_entry_may_be_a_virtual_address() {
    let mut image = elf();
    put(&mut image, 24, &(0xffff_ffff_8000_0000 | TEXT | 0x40_u64).to_le_bytes());
    let dir = Dir::new();
    let kernel = Kernel::open(&dir.file("vmlinux", &image), None).unwrap();
    assert_eq!((kernel.entry, kernel.pvh_entry), (None, Some(PVH)), "as no Linux has it, so it is entered by PVH");
    assert_eq!(entry(&kernel, None).unwrap(), (Protocol::Pvh, PVH.into()));
    let note = image.windows(4).position(|bytes| bytes == b"Xen\0").unwrap();
    put(&mut image, note, b"Zen");
    let kernel = Kernel::open(&dir.file("vmlinux", &image), None).unwrap();
    assert_eq!((kernel.entry, kernel.pvh_entry), (Some(TEXT + 0x40), None), "there is no other way in");
    assert!(entry(&kernel, Some(Protocol::Pvh)).unwrap_err().to_string().contains("CONFIG_PVH"));
}

#[test]
fn a_kernel_with_two_entries_is_entered_as_asked_for() {
    let dir = Dir::new();
    let kernel = Kernel::open(&dir.file("vmlinux", &elf()), None).unwrap();
    let (linux, pvh) = ((Protocol::Linux64, TEXT), (Protocol::Pvh, PVH.into()));
    let asked = [None, Some(Protocol::Linux64), Some(Protocol::Pvh)];
    assert_eq!(asked.map(|asked| entry(&kernel, asked).unwrap()), [linux, linux, pvh]);
}

#[test]
fn wrong_files_are_called_by_name_with_what_to_do() {
    let at = |offset: usize, magic: &[u8]| {
        let mut bytes = vec![1; 4096];
        put(&mut bytes, offset, magic);
        bytes
    };
    let start = |magic: &[u8]| at(0, magic);
    for (bytes, words) in [
        (vec![], "not a Linux kernel: it is an empty file; give a vmlinux or a vmlinuz (bzImage) of x86-64"),
        (packed::gzip(&elf()), "not a Linux kernel: it is a gzip file; unpack it"),
        (packed::xz(&elf()), "not a Linux kernel: it is an xz file; unpack it"),
        (packed::lz4(&elf()), "not a Linux kernel: it is an lz4 file; unpack it"),
        (start(b"\x28\xb5\x2f\xfd"), "not a Linux kernel: it is a zstd file; unpack it"),
        (start(b"!<arch>\ndebian-binary"), "it is a Debian package; unpack it with dpkg-deb -x"),
        (start(b"070701"), "it is a cpio archive, perhaps an initramfs; give"),
        (start(b"MZ"), "objcopy -O binary --only-section=.linux"),
        (start(b"QFI\xfb"), "it is a disk image (qcow2)"),
        (b"hello\n".to_vec(), "it is a text"),
        (vec![0; 100], "it is a file of zeros"),
        (at(0x38, b"ARMd"), "can't be started: it is a kernel for 64-bit ARM; a kernel built for x86-64 is needed"),
        (at(0x24, &0x016f_2818_u32.to_le_bytes()), "it is a kernel for 32-bit ARM"),
        (at(0x38, b"RSC\x05"), "it is a kernel for RISC-V"),
        (vec![1; 100], "it is neither an ELF file nor a bzImage"),
    ] {
        assert!(refused(&bytes).contains(words), "{}\n{words}", refused(&bytes));
    }
    let dir = Dir::new();
    let of = |path: &Path| Kernel::open(path, None).unwrap_err().to_string();
    assert!(of(dir.0.path()).contains("it is a directory"));
    assert!(of(Path::new("/dev/null")).contains("it is a device"));
    rustix::fs::mknodat(rustix::fs::CWD, dir.path("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(of(&dir.path("pipe")).contains("it is a pipe; write it to a file"));
    assert!(of(&dir.path("nothing")).starts_with("can't read the kernel "));
    let mut own = Vec::new();
    File::open("/proc/self/exe").unwrap().take(1 << 20).read_to_end(&mut own).unwrap();
    refused(&own);
}

#[test]
fn elf_files_that_are_no_kernels_are_refused() {
    for (at, bytes, words) in [
        (4, &[1][..], "it is an ELF file for a 32-bit machine; a kernel built for x86-64 is needed"),
        (5, &[2], "it is an ELF file for a big-endian machine"),
        (5, &[9], "names no class and byte order"),
        (16, &[1], "it is an object file or a kernel module"),
        (16, &[4], "it is a core dump"),
        (16, &[77], "an unknown type, 77"),
        (18, &[183], "it is an ELF file for 64-bit ARM"),
        (24, &[1, 0, 0, 0], "its entry 0x1 lies in no segment"),
        (32, &[0xff; 8], "its program headers lie beyond the end"),
        (54, &[57], "have 57 bytes instead of 56"),
        (56, &[0, 0], "an ELF file with nothing to load"),
        (56, &[0xff, 0xff], "it has 65535 program headers; 128 are the limit"),
        (64, &[3], "it is a program for Linux"),
        (64 + 8, &[0xff; 8], "segment 0 lies beyond the end of the file"),
        (64 + 32, &[0xff; 8], "segment 0 lies beyond the end of the file"),
        (64 + 24, &[0xff; 8], "segment 0 lies beyond any memory"),
        (64 + 40, &[0; 4], "nothing to load"),
        (64 + 40, &[1, 0, 0], "segment 0 is larger in the file"),
        (64 + 40, &[0xff; 8], "segment 0 needs more than 512 MiB"),
        (64 + 2 * 56 + 8, &[0xff; 8], "its notes lie beyond the end"),
        (64 + 2 * 56 + 32, &[0xff; 8], "of notes; 64 are the limit"),
        (0x2000 + 24 + 12 + 4, &[0xff; 4], "its PVH entry lies in no segment"),
    ] {
        let mut image = elf();
        put(&mut image, at, bytes);
        if words == "nothing to load" {
            put(&mut image, 64 + 56 + 40, &[0; 8]);
            put(&mut image, 64 + 40, &[0; 8]);
        }
        assert!(refused(&image).contains(words), "{}\n{words}", refused(&image));
    }
    assert!(refused(&elf()[..40]).contains("it ends within its ELF header"));
    assert!(refused(&elf()[..0x3000]).contains("lies beyond the end"));
}

#[test]
fn damaged_bzimages_are_refused() {
    let whole = bzimage(&with_size(packed::xz(&elf()), elf().len()));
    let patched = |at: usize, bytes: &[u8]| {
        let mut image = whole.clone();
        put(&mut image, at, bytes);
        refused(&image)
    };
    let length = whole.len();
    assert!(refused(&whole[..length - 1000]).contains("bytes where its header announces"));
    assert!(refused(&whole[..0x220]).contains("it ends within its header"));
    assert!(patched(0x206, &[7, 2]).contains("boot protocol 2.07, older than Linux 2.6.26; give a newer one"));
    assert!(patched(0x24c, &[0; 4]).contains("a bzImage without a payload"));
    assert!(patched(0x248, &[0xff; 8]).contains("bytes where its header announces"));
    assert!(patched(0x82c, b"BZh91A").contains("it is a bzImage compressed with bzip2; unpack it with scripts/extract-vmlinux"));
    assert!(patched(0x82c, &[0; 8]).contains("compressed in an unknown way"));
    assert!(patched(0x900, &[0; 64]).contains("a damaged kernel: its payload can't be unpacked: "));
    assert!(patched(length - 516, &[0xff; 4]).contains("it announces 4095 MiB unpacked"));
    let inner = bzimage(&packed::gzip(b"not a kernel"));
    assert!(refused(&inner).contains("what it unpacks to is no ELF file"), "{}", refused(&inner));
}

/// A small file can't become a large one: the size it announces is the limit, whatever comes out.
#[test]
fn output_has_the_size_that_was_announced() {
    let size = elf().len();
    for (name, image) in packed::all(&elf()) {
        for (wrong, words) in [(size - 1, "more than the"), (size + 1, "of the")] {
            let mut image = image.clone();
            let at = image.len() - 516;
            put(&mut image, at, &(wrong as u32).to_le_bytes());
            let message = refused(&image);
            // Gzip's own check comes first where too little is announced.
            let told = message.contains(words) || name == "gzip" && message.contains("can't be unpacked");
            assert!(told && message.contains("a damaged kernel"), "{name}: {message}");
        }
    }
}
