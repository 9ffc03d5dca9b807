//! Locks.
//!
//! In a process of a host they are the standard library's: a waiter sleeps, for the holder may have lost its processor. Elsewhere
//! they spin. Both have one interface, and no poisoning: a panic ends the whole kernel.

use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(feature = "hosted")]
extern crate std;
#[cfg(feature = "hosted")]
use std::sync as inner;

#[cfg(not(feature = "hosted"))]
use spin as inner;

/// Mutual exclusion.
#[derive(Default)]
pub struct Mutex<T: ?Sized>(inner::Mutex<T>);

/// The right to what a [`Mutex`] guards, until it is dropped. It must not live across an await.
pub struct MutexGuard<'a, T: ?Sized>(inner::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    /// Guards `value`.
    pub const fn new(value: T) -> Self {
        Mutex(inner::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until nobody else has it.
    #[cfg(feature = "hosted")]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock().unwrap_or_else(inner::PoisonError::into_inner))
    }

    /// Waits until nobody else has it.
    #[cfg(not(feature = "hosted"))]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes it if nobody has it.
    #[cfg(feature = "hosted")]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(guard)),
            Err(inner::TryLockError::Poisoned(poisoned)) => Some(MutexGuard(poisoned.into_inner())),
            Err(inner::TryLockError::WouldBlock) => None,
        }
    }

    /// Takes it if nobody has it.
    #[cfg(not(feature = "hosted"))]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().map(MutexGuard)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}
