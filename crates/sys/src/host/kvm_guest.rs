//! The smallest virtual machine that says something: one page of memory, one vCPU in real mode, a loop, `hlt`; and its time.
//!
//! It exists for the report alone, and is independent of the `vm` crate on purpose: no kernel, no devices, no dependency.
//! Numbers and layouts: `include/uapi/linux/kvm.h` and `Documentation/virt/kvm/api.rst` of Linux.

use super::kvm::Extensions;
use super::trial::syscall;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::time::Instant;

const KVM_GET_API_VERSION: usize = 0xAE00;
const KVM_CREATE_VM: usize = 0xAE01;
const KVM_CHECK_EXTENSION: usize = 0xAE03;
const KVM_GET_VCPU_MMAP_SIZE: usize = 0xAE04;
const KVM_CREATE_VCPU: usize = 0xAE41;
const KVM_RUN: usize = 0xAE80;
/// `_IOW(KVMIO, 0x46, struct kvm_userspace_memory_region)`
const KVM_SET_USER_MEMORY_REGION: usize = 0x4020_AE46;
/// `_IOW(KVMIO, 0x82, struct kvm_regs)`, 144 bytes
const KVM_SET_REGS: usize = 0x4090_AE82;
/// `_IOR(KVMIO, 0x83, struct kvm_sregs)`, 312 bytes
const KVM_GET_SREGS: usize = 0x8138_AE83;
/// `_IOW(KVMIO, 0x84, struct kvm_sregs)`
const KVM_SET_SREGS: usize = 0x4138_AE84;
const KVM_EXIT_HLT: u32 = 5;

const PAGE: usize = 4096;
const GUEST_ADDRESS: u64 = 0x1000;

/// `again: dec cx; jnz again; hlt`
const CODE: [u8; 4] = [0x49, 0x75, 0xfd, 0xf4];
/// Rounds of the loop in a short and a long run; a round is two instructions. The difference of their times is free of what
/// entering and leaving the guest costs, which under nested virtualisation is more than the loop itself.
const ROUNDS: [u64; 2] = [1, 1001];
/// Where `rcx` stands in [`Registers::general`].
const RCX: usize = 2;

#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_address: u64,
    size: u64,
    host_address: u64,
}

/// `struct kvm_regs`: sixteen general registers, `rip`, `rflags`.
#[repr(C)]
#[derive(Default)]
struct Registers {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

/// `struct kvm_sregs`, of which only the code segment (the first field) is touched.
#[repr(C)]
struct SpecialRegisters {
    cs_base: u64,
    cs_limit: u32,
    cs_selector: u16,
    rest: [u8; 298],
}

const _: () = assert!(size_of::<Registers>() == 144 && size_of::<SpecialRegisters>() == 312 && size_of::<MemoryRegion>() == 32);

/// `KVM_GET_API_VERSION`.
pub(super) fn api_version(kvm: &File) -> Result<i32, Errno> {
    number(kvm.as_raw_fd(), KVM_GET_API_VERSION, 0)
}

/// `KVM_CHECK_EXTENSION` for what a machine of ours would use.
pub(super) fn extensions(kvm: &File) -> Extensions {
    let check = |capability: usize| number(kvm.as_raw_fd(), KVM_CHECK_EXTENSION, capability).unwrap_or(0);
    Extensions {
        max_vcpus: check(66),
        memory_slots: check(10),
        ioeventfd: check(36) > 0,
        irqfd: check(32) > 0,
        split_irqchip: check(121) > 0,
        readonly_memory: check(81) > 0,
        guest_memfd: check(234) > 0,
    }
}

/// Builds the guest and runs it: the mean nanoseconds of an instruction, from the best of three runs, or what went wrong.
pub(super) fn run(kvm: &File) -> Result<f64, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("the guest is written for x86-64".into());
    }
    let vm = descriptor(kvm.as_raw_fd(), KVM_CREATE_VM, 0).map_err(failed("creating a virtual machine"))?;
    let mut memory = Mapping::new(None, PAGE).map_err(failed("mapping a page of guest memory"))?;
    memory.copy_in(&CODE);
    let region = MemoryRegion {
        slot: 0,
        flags: 0,
        guest_address: GUEST_ADDRESS,
        size: PAGE as u64,
        host_address: memory.start.as_ptr() as u64,
    };
    // SAFETY: the structure is what the call reads. The memory it names outlives the virtual machine: locals drop in reverse order
    // of declaration, but an fd may linger in KVM, so what counts is that KVM only follows addresses of this process while a vCPU
    // runs, and none does after this function.
    unsafe { structure(&vm, KVM_SET_USER_MEMORY_REGION, (&raw const region).cast_mut()) }
        .map_err(failed("giving the machine its memory"))?;
    let vcpu = descriptor(vm.as_raw_fd(), KVM_CREATE_VCPU, 0).map_err(failed("creating a vCPU"))?;
    let size = number(kvm.as_raw_fd(), KVM_GET_VCPU_MMAP_SIZE, 0).map_err(failed("asking for the size of the vCPU's state"))?;
    let state = Mapping::new(Some(&vcpu), size as usize).map_err(failed("mapping the vCPU's state"))?;
    start_at_zero_base(&vcpu).map_err(failed("setting the code segment"))?;

    let mut best = [f64::INFINITY; 2];
    for _ in 0..3 {
        for (best, rounds) in best.iter_mut().zip(ROUNDS) {
            *best = best.min(timed_run(&vcpu, &state, rounds)?);
        }
    }
    let instructions = 2 * (ROUNDS[1] - ROUNDS[0]);
    Ok((best[1] - best[0]).max(0.0) / instructions as f64)
}

/// Runs the loop once; the time until the guest halts, in nanoseconds.
fn timed_run(vcpu: &OwnedFd, state: &Mapping, rounds: u64) -> Result<f64, String> {
    let mut registers = Registers { rip: GUEST_ADDRESS, rflags: 2, ..Default::default() };
    registers.general[RCX] = rounds;
    // SAFETY: the structure is what the call reads.
    unsafe { structure(vcpu, KVM_SET_REGS, &raw mut registers) }.map_err(failed("setting registers"))?;
    let start = Instant::now();
    number(vcpu.as_raw_fd(), KVM_RUN, 0).map_err(failed("running the vCPU"))?;
    let elapsed = start.elapsed();
    match state.exit_reason() {
        KVM_EXIT_HLT => Ok(elapsed.as_nanos() as f64),
        exit => Err(format!("the guest ended with exit reason {exit} instead of a halt")),
    }
}

fn failed(what: &'static str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {errno}")
}

/// A vCPU starts at the reset vector's segment; the code stands in the first 64 KiB.
fn start_at_zero_base(vcpu: &OwnedFd) -> Result<(), Errno> {
    let mut special = SpecialRegisters { cs_base: 0, cs_limit: 0, cs_selector: 0, rest: [0; 298] };
    // SAFETY: the structure has the size and layout the call fills.
    unsafe { structure(vcpu, KVM_GET_SREGS, &raw mut special) }?;
    special.cs_base = 0;
    special.cs_selector = 0;
    // SAFETY: the structure is what the call reads.
    unsafe { structure(vcpu, KVM_SET_SREGS, &raw mut special) }
}

/// An ioctl that takes a number and gives one.
fn number(fd: RawFd, request: usize, argument: usize) -> Result<i32, Errno> {
    // SAFETY: the requests used with this function take an integer, not a pointer. KVM_RUN touches memory: the guest's page and the
    // vCPU's state, both mapped by `run` for as long as it runs, and read there only after the call.
    let result = unsafe { syscall(libc::SYS_ioctl, [fd as usize, request, argument, 0, 0, 0]) }?;
    i32::try_from(result).map_err(|_| Errno::RANGE)
}

/// An ioctl that gives a new file descriptor.
fn descriptor(fd: RawFd, request: usize, argument: usize) -> Result<OwnedFd, Errno> {
    let fd = number(fd, request, argument)?;
    // SAFETY: the requests used with this function return a descriptor nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An ioctl on a structure.
///
/// # Safety
///
/// `argument` must point to the structure that `request` reads or fills.
unsafe fn structure<T>(fd: &OwnedFd, request: usize, argument: *mut T) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { syscall(libc::SYS_ioctl, [fd.as_raw_fd() as usize, request, argument as usize, 0, 0, 0]) }.map(drop)
}

/// A shared mapping, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

impl Mapping {
    /// Maps a descriptor from its start, or anonymous memory.
    fn new(fd: Option<&OwnedFd>, size: usize) -> Result<Self, Errno> {
        let anonymous = if fd.is_none() { libc::MAP_ANONYMOUS } else { 0 };
        let fd = fd.map_or(-1, AsRawFd::as_raw_fd);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses overlaps nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED | anonymous, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(super::trial::last_errno());
        }
        NonNull::new(start.cast::<u8>()).map(|start| Mapping { start, size }).ok_or(Errno::FAULT)
    }

    /// Copies to the start of the mapping.
    fn copy_in(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(self.size);
        // SAFETY: the mapping is `size` bytes, ours alone, and `length` isn't more.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr(), length) }
    }

    /// `struct kvm_run`'s `exit_reason`, at offset 8.
    fn exit_reason(&self) -> u32 {
        // SAFETY: a mapping is whole pages, and page-aligned; the kernel wrote the field before KVM_RUN returned.
        unsafe { self.start.as_ptr().add(8).cast::<u32>().read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference into it lives on.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}
