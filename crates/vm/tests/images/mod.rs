//! Small kernel images, made here: an ELF file as Linux's build makes it, and the wrapping of a bzImage.

#![allow(dead_code, reason = "each test uses a part of this")]

/// Where the text goes in guest memory.
pub(crate) const TEXT: u64 = 0x100_0000;
/// Where PVH enters.
pub(crate) const PVH: u32 = 0x100_0850;
/// What `uname -r` would say.
pub(crate) const RELEASE: &str = "6.1.0-insula";

const HEADERS: usize = 64 + 3 * 56;
const TEXT_OFFSET: usize = 0x1000;
const TEXT_SIZE: usize = 0x2_0000;
const DATA_OFFSET: usize = TEXT_OFFSET + TEXT_SIZE;
const DATA_SIZE: usize = 0x3000;
const NOTES_OFFSET: usize = TEXT_OFFSET + 0x1000;

/// A kernel: text (with banner and notes) and data (with as much of zeros behind it), entered at its first byte.
pub(crate) fn elf() -> Vec<u8> {
    // Something like code: it repeats, though not all of it, and has near calls for the filter of xz.
    let mut seed = 1_u32;
    let mut elf: Vec<u8> = (0..DATA_OFFSET + DATA_SIZE)
        .map(|at| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 5 == 0 { 0xe8 } else { (seed >> 24) as u8 & 0x1f }
        })
        .collect();
    elf[..HEADERS].fill(0);
    elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    put(&mut elf, 20, &1_u32.to_le_bytes());
    put(&mut elf, 24, &TEXT.to_le_bytes());
    put(&mut elf, 32, &64_u64.to_le_bytes());
    put(&mut elf, 52, &64_u16.to_le_bytes());
    put(&mut elf, 54, &56_u16.to_le_bytes());
    put(&mut elf, 56, &3_u16.to_le_bytes());
    let notes = notes();
    part(&mut elf, 0, 1, TEXT_OFFSET, TEXT, TEXT_SIZE, TEXT_SIZE);
    part(&mut elf, 1, 1, DATA_OFFSET, TEXT + 0x20_0000, DATA_SIZE, 2 * DATA_SIZE);
    part(&mut elf, 2, 4, NOTES_OFFSET, TEXT + 0x1000, notes.len(), notes.len());
    put(&mut elf, NOTES_OFFSET, &notes);
    put(&mut elf, TEXT_OFFSET + 0x800, b"\0Linux version %s (%s)\0");
    put(&mut elf, TEXT_OFFSET + 0x900, format!("\0Linux version {RELEASE} (who@where) #1 SMP\0").as_bytes());
    elf
}

/// Writes bytes at an offset.
pub(crate) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn part(elf: &mut [u8], number: usize, kind: u32, offset: usize, address: u64, file_size: usize, memory_size: usize) {
    let at = 64 + number * 56;
    put(elf, at, &kind.to_le_bytes());
    let fields = [
        offset as u64,
        address | 0xffff_ffff_8000_0000,
        address,
        file_size as u64,
        memory_size as u64,
        if kind == 4 { 4 } else { 0x1000 },
    ];
    for (index, field) in fields.iter().enumerate() {
        put(elf, at + 8 + index * 8, &field.to_le_bytes());
    }
}

/// Another one's note, and the one of Xen's that says where PVH enters.
fn notes() -> Vec<u8> {
    let mut notes = Vec::new();
    for (kind, name, value) in [(3_u32, &b"GNU\0"[..], &[7; 5][..]), (18, b"Xen\0", &u64::from(PVH).to_le_bytes())] {
        notes.extend((name.len() as u32).to_le_bytes());
        notes.extend((value.len() as u32).to_le_bytes());
        notes.extend(kind.to_le_bytes());
        notes.extend(name);
        notes.extend(value);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    notes
}

/// A bzImage around a payload, which ends with its size.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    let sectors = 3;
    let code = (sectors + 1) * 512;
    let offset = 0x2c;
    let mut image = vec![0; code + offset];
    image[0x1f1] = sectors as u8;
    put(&mut image, 0x1fe, &[0x55, 0xaa]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x20f_u16.to_le_bytes());
    put(&mut image, 0x20e, &0x400_u16.to_le_bytes());
    put(&mut image, 0x600, format!("{RELEASE} (who@where) #1 SMP\0").as_bytes());
    put(&mut image, 0x248, &(offset as u32).to_le_bytes());
    put(&mut image, 0x24c, &(payload.len() as u32).to_le_bytes());
    image.extend(payload);
    // The code that would unpack it.
    image.extend([0xcc; 512]);
    image
}

/// A payload whose size isn't part of its format.
pub(crate) fn with_size(mut packed: Vec<u8>, size: usize) -> Vec<u8> {
    packed.extend((size as u32).to_le_bytes());
    packed
}
