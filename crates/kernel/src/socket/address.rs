//! Addresses as programs pass them: a family, and what the family says.

use crate::mm::Mm;
use crate::{Errno, Result};
use insula_abi::socket::ADDRESS_MAX;
use insula_abi::zerocopy::{FromBytes, Immutable, IntoBytes};

/// An address: bytes that a family understands, beginning with its number.
#[derive(Clone, Copy)]
pub struct Address {
    bytes: [u8; ADDRESS_MAX],
    len: u8,
}

impl Address {
    /// From bytes.
    ///
    /// # Errors
    /// `EINVAL`: too long.
    pub fn new(from: &[u8]) -> Result<Self> {
        let mut bytes = [0; ADDRESS_MAX];
        bytes.get_mut(..from.len()).ok_or(Errno::EINVAL)?.copy_from_slice(from);
        Ok(Address { bytes, len: from.len() as u8 })
    }

    /// From a structure that is short enough.
    pub fn of<T: IntoBytes + Immutable>(value: &T) -> Self {
        const { assert!(size_of::<T>() <= ADDRESS_MAX) }
        let mut bytes = [0; ADDRESS_MAX];
        bytes[..size_of::<T>()].copy_from_slice(value.as_bytes());
        Address { bytes, len: size_of::<T>() as u8 }
    }

    /// From user memory.
    ///
    /// # Errors
    /// `EINVAL`: no such length. `EFAULT`.
    pub fn read(mm: &Mm, at: u64, len: u64) -> Result<Self> {
        let len = usize::try_from(len as i32).ok().filter(|len| *len <= ADDRESS_MAX).ok_or(Errno::EINVAL)?;
        let mut bytes = [0; ADDRESS_MAX];
        mm.read(at, &mut bytes[..len])?;
        Ok(Address { bytes, len: len as u8 })
    }

    /// To user memory, cut to the room that is there, as `at_len` says; it is told the whole length.
    ///
    /// # Errors
    /// `EINVAL`: the room is negative. `EFAULT`.
    pub fn write(&self, mm: &Mm, at: u64, at_len: u64) -> Result<()> {
        let room = usize::try_from(mm.get::<i32>(at_len)?).map_err(|_| Errno::EINVAL)?;
        let bytes = self.bytes();
        mm.write(at, &bytes[..bytes.len().min(room)])?;
        mm.put(at_len, &(bytes.len() as u32))
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The family, `AF_*`; too short an address has none.
    pub fn family(&self) -> Option<u32> {
        (self.len >= 2).then(|| u32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]])))
    }

    /// As a family's structure.
    ///
    /// # Errors
    /// `EINVAL`: it is shorter.
    pub fn get<T: FromBytes>(&self) -> Result<T> {
        T::read_from_prefix(self.bytes()).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Address({:?})", self.bytes())
    }
}
