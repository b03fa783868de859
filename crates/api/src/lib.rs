//! Floor 1: wire types. [`server`] is what hosts and servers say to one another over HTTPS, [`daemon`] what the CLI
//! and the daemon say over the local sockets, [`legacy`] how programs that know the snap `canonical-livepatch` read a
//! status, [`metrics`](metrics()) how Prometheus reads it, [`secure_boot`] what the CLI says of the machine itself. Nothing
//! here acts.

pub mod daemon;
pub mod legacy;
mod metrics;
pub mod secure_boot;
pub mod server;

pub use metrics::metrics;
