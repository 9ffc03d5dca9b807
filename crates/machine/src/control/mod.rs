//! What others ask of a machine that runs: one line of JSON to its socket, one line back.
//!
//! ```text
//! {"do":"stop"}                    "ok"
//! {"do":"stats"}                   {"stats":{…}}
//! {"do":"balloon","bytes":4096}    {"error":"the machine has no balloon; …"}
//! {"do":"console"}                 "ok", and from then on bytes of the console, both ways
//! ```
//!
//! It is for our own command line, and no promise to others: the name of a request or field can change with any version. Who can connect may
//! do anything to the machine, as the socket is its owner's only (mode 0600); but what comes need not be well-formed. A line has a limit,
//! a caller gets no second answer before it has taken the first, and nobody is waited for.
//!
//! | module | holds |
//! |---|---|
//! | this one | requests and answers |
//! | `server` | those who have connected, in the event loop |
//! | `caller` | the other side, for the command line |

mod caller;
mod server;

pub use caller::Connection;
pub(crate) use server::{Clients, Desk};

use crate::stats::Stats;
use insula_virtio::limiter::Limits;
use serde::{Deserialize, Serialize};

/// Longest line of a request, in bytes.
const LINE: usize = 4096;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is it?
    Stats {},
    /// Ask the guest to switch off.
    Stop {},
    /// End it now.
    Kill {},
    /// Connect this socket to its console.
    Console {},
    /// Have the guest give up so much memory in all.
    Balloon {
        /// So many bytes.
        bytes: u64,
    },
    /// Set new rates. What isn't named stays.
    Limit(Box<NewLimits>),
}

/// New rates of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLimits {
    /// Its name, as the statistics have it: `disk0`, `net0`.
    pub device: String,
    /// Of a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub both: Option<Limits>,
    /// Of what a card gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive: Option<Limits>,
    /// Of what a card sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<Limits>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done, or begun.
    Ok,
    /// How it is.
    Stats(Box<Stats>),
    /// It can't be done, in a sentence.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_documented() {
        let parsed = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(parsed(r#"{"do":"stop"}"#).unwrap(), Request::Stop {});
        assert_eq!(parsed(r#"{"do":"balloon","bytes":4096}"#).unwrap(), Request::Balloon { bytes: 4096 });
        for wrong in [
            "",
            "{",
            "[]",
            r#"{"do":"stop","now":true}"#,
            r#"{"do":"fly"}"#,
            r#"{"do":"balloon"}"#,
            r#"{"do":"balloon","bytes":-1}"#,
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&Answer::Ok).unwrap(), r#""ok""#);
        assert_eq!(serde_json::to_string(&Answer::Error("no".into())).unwrap(), r#"{"error":"no"}"#);
    }
}
