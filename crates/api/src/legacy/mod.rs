//! The status as `canonical-livepatch` prints it, for programs that read that. Frozen: keys, their order, types and
//! words are those of its clients 10.8 (YAML, humane) and 11.0 (JSON).
//!
//! A [`Status`](crate::daemon::Status) and the facts of a [`Machine`] become a [`LegacyStatus`], and that becomes text.
//! What this client does not know has the form that the original gives to an unset value: an empty text, an empty list,
//! the time [`UNSET`].

mod humane;
mod json;
mod machine;
mod model;
mod yaml;

pub use humane::{Detail, humane};
pub use json::json;
pub use machine::{Machine, MachineTexts};
pub use model::{DAEMON_UNREACHABLE, Excluded, Fix, LegacyStatus, Support, UNSET};
pub use yaml::{scalar, yaml};
