//! Names of sandboxes.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a sandbox: also a file name, so what it may hold is narrow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = Error;

    /// # Errors
    /// [`Error::Id`] unless the name is 1 to 128 of the characters runc allows and no special directory.
    fn from_str(name: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        let fits = (1..=128).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != "..";
        if fits { Ok(Id(name.to_owned())) } else { Err(Error::Id(name.chars().take(140).collect())) }
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_store_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
        for good in ["a", "web-1", "A_b+c.d", "...", &"x".repeat(128)] {
            assert!(good.parse::<Id>().is_ok(), "{good:?}");
        }
    }
}
