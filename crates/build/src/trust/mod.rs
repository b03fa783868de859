//! Making and signing the repositories of `livepatch-trust`.
//!
//! What is to be signed waits in `staged/`: files that go from hand to hand until enough keys have signed, on as many
//! hosts. [`repository`] has the directory, [`edit`] what changes in metadata, [`key`] who signs.

pub(crate) mod cli;
pub mod edit;
pub mod error;
pub mod key;
pub mod repository;
mod show;
