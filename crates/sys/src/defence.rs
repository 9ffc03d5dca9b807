//! Defences by name, so that a build can do without one and a test be seen to miss it.
//!
//! A test of a defence that passes shows little: the attack in it may be one that nobody could carry out. So each place where a known escape is
//! stopped asks [`stands`]. In every build that is shipped the answer is the constant `true`, and nothing of the question is left in the program. A
//! build with the feature `weakened`, which can't be a release, goes without the one that the variable `INSULA_WEAKENED` names, and
//! `cargo xtask weakened` sees to it that the tests fail there. The table in `docs/security.md` says which those are.

#[cfg(all(feature = "weakened", not(debug_assertions)))]
compile_error!("the feature `weakened` takes defences away: it is for tests of a debug build only");

/// Whether the defence of this name is there.
#[cfg(not(feature = "weakened"))]
#[must_use]
#[inline(always)]
pub const fn stands(_name: &str) -> bool {
    true
}

/// Whether the defence of this name is there.
#[cfg(feature = "weakened")]
#[must_use]
pub fn stands(name: &str) -> bool {
    std::env::var_os("INSULA_WEAKENED").is_none_or(|weakened| weakened != name)
}
