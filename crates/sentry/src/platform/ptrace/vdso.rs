//! The host's vDSO in stubs, vdso(7): with it, guests read clocks without a call, which would be a stop and go.
//!
//! A guest's clocks are the host's, so the host's own code and data for them are right as they are, read-only, and nothing that a guest could
//! ask anything of: where that code makes a system call after all, it stops like any other. Each stub has them at the same place, in
//! the stub area; the first takes along what it has from the sentry, and the others inherit it.

use super::super::GUEST_END;
use super::super::PAGE;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Where it is in stubs, if anywhere.
pub(super) const PLACE: Range<u64> = GUEST_END + 0x1_0000..GUEST_END + 0x2_0000;

/// Parts: data, data of virtual clocks, code.
const PARTS: usize = 4;

/// Where this process has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vdso {
    parts: [(u64, u64); PARTS],
    count: usize,
    code: u64,
}

impl Vdso {
    /// Finds it. None where there is none, or where it can't be told: then guests ask for the time.
    pub(super) fn find() -> Option<Vdso> {
        Vdso::parse(&std::fs::read_to_string("/proc/self/maps").ok()?)
    }

    /// From the text of proc_pid_maps(5). Code and data must be in one piece, since the code finds the data by where it is itself.
    fn parse(maps: &str) -> Option<Vdso> {
        let mut vdso = Vdso::default();
        let mut end = None;
        for line in maps.lines().filter(|line| line.ends_with("[vdso]") || line.contains("[vvar")) {
            let (range, _) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            if end.is_some_and(|end| end != from) {
                return None;
            }
            end = Some(to);
            *vdso.parts.get_mut(vdso.count)? = (from, to.checked_sub(from)?);
            vdso.count += 1;
            if line.ends_with("[vdso]") {
                vdso.code = from;
            }
        }
        let size = end? - vdso.parts[0].0;
        (vdso.code != 0 && size <= PLACE.end - PLACE.start && size.is_multiple_of(PAGE)).then_some(vdso)
    }

    /// What is where, in bytes, and where it is to be.
    pub(super) fn moves(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let base = self.parts[0].0;
        self.parts.iter().take(self.count).map(move |(start, len)| (*start, *len, PLACE.start + (start - base)))
    }

    /// Its code.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let (from, len) = *self.parts.iter().find(|(from, _)| *from == self.code)?;
        let mut code = vec![0; len as usize];
        std::fs::File::open("/proc/self/mem").ok()?.read_exact_at(&mut code, from).ok()?;
        Some(code)
    }

    /// Where stubs have its code, an ELF object.
    pub(super) fn address(&self) -> u64 {
        PLACE.start + (self.code - self.parts[0].0)
    }
}

/// Whether the host's kernel answers, in every program, the old calls at an address of their own (`[vsyscall]`): guests can make them then.
pub(super) fn answers_old_calls() -> bool {
    std::fs::read_to_string("/proc/self/maps")
        .is_ok_and(|maps| maps.contains(" --xp 00000000 00:00 0                  [vsyscall]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_are_in_one_piece() {
        let maps = "7f0000000000-7f0000004000 r--p 00000000 00:00 0    [vvar]\n\
                    7f0000004000-7f0000006000 r--p 00000000 00:00 0    [vvar_vclock]\n\
                    7f0000006000-7f0000008000 r-xp 00000000 00:00 0    [vdso]\n\
                    7ff000000000-7ff000021000 rw-p 00000000 00:00 0    [stack]\n";
        let vdso = Vdso::parse(maps).unwrap();
        assert_eq!(vdso.address(), PLACE.start + 0x6000);
        let moves: Vec<_> = vdso.moves().collect();
        assert_eq!(moves[1], (0x7f00_0000_4000, 0x2000, PLACE.start + 0x4000));
        assert_eq!(moves.len(), 3);
        assert!(Vdso::parse(&maps.replace("7f0000006000-", "7f0000007000-")).is_none());
        assert!(Vdso::parse(&maps.replace("[vdso]", "")).is_none());
        assert!(Vdso::parse(&maps.replace("7f0000000000-", "7e0000000000-")).is_none());
        assert!(Vdso::parse("").is_none());
    }
}
