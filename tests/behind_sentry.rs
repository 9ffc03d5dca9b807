//! The container's tests, run once more with programs behind the sentry's kernel: what a user meets is to be the same. What can't be the same
//! says so where it is tested.

#![allow(clippy::duplicate_mod, reason = "each of these files is a test of its own, too, and brings what they share")]

#[path = "foreground.rs"]
mod foreground;
#[path = "hooks.rs"]
mod hooks;
#[path = "limits.rs"]
mod limits;
#[path = "oci.rs"]
mod oci;
#[path = "run.rs"]
mod run;
