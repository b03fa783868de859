//! Floor 1: wire types. [`server`] is what hosts and servers say to one another over HTTPS, [`daemon`] what the CLI
//! and the daemon say over the local sockets, [`secure_boot`] what the CLI says of the machine itself. Nothing here acts.

pub mod daemon;
pub mod secure_boot;
pub mod server;
