//! What to run. No input or output happens here.
//!
//! Data flows one way: an OCI configuration ([`oci`]) or the command line becomes one validated [`Plan`]; every boundary takes
//! that plan and nothing else. What a plan holds has been checked: paths are absolute, names resolved to numbers, contradictions
//! refused with a sentence that names the field.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | the plan and its parts |
//! | [`oci`] | `config.json` → plan, and the configuration `insula spec` prints |
//! | [`caps`] | sets of capabilities |
//! | [`resources`] | what cgroups limit |
//! | [`seccomp`] | system-call policies, and the default one |
//! | [`defaults`] | the environment, mounts and paths a container gets when nobody says otherwise |
//! | [`system`] | the same for a whole system |
//! | [`id`] | names of sandboxes |

pub mod caps;
pub mod defaults;
pub mod id;
pub mod oci;
pub mod plan;
pub mod resources;
mod scope;
pub mod seccomp;
pub mod system;

pub use caps::CapSet;
pub use id::Id;
pub use plan::Plan;

/// A plan that can't be made from what was given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file isn't JSON, or a field has the wrong type.
    #[error("{file}: {at}: {problem}")]
    Parse {
        /// The file, as the user named it.
        file: String,
        /// The field, as a path of names and indices.
        at: String,
        /// What the parser says.
        problem: String,
    },
    /// A field has a value that can't be used.
    #[error("{field}: {problem}")]
    Field {
        /// The field, as a path of names and indices.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The name can't be used for a sandbox.
    #[error("{0:?} can't name a sandbox: 1 to 128 letters, digits, '_', '+', '-' and '.', and not \".\" or \"..\"")]
    Id(String),
}

impl Error {
    /// A field with a value that can't be used.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Field { field: field.into(), problem: problem.into() }
    }
}
