//! Floor 1: two compilations of a unit in, a livepatch out, or a refusal that names the place and the rule.
//!
//! The steps, each a module: [`elf`] reads and writes objects; [`mod@unit`] leads every reference back to what it means;
//! [`compare`] finds what changed, [`author`] what the patch itself says about that, and [`debug`] which types are laid
//! out in another way; [`shipped`] proves that the compiler reproduces the shipped code and learns where everything is in
//! the running kernel; [`extract`] takes the changed functions out into an object of their own, and [`second_compilation`]
//! those that must come from a second compilation; [`finish`] turns the linked module's placeholders into livepatch
//! relocations.
//!
//! Invariant: no I/O, no clock, no environment; no bytes make it panic.

pub mod author;
pub mod compare;
pub mod debug;
pub mod elf;
pub mod extract;
pub mod finish;
mod lines;
mod refusal;
pub mod resolve;
pub mod second_compilation;
pub mod section_class;
pub mod shipped;
pub mod symvers;
pub mod unit;

pub use refusal::{Refusal, Rule};
pub use section_class::EntrySizes;
pub use unit::Unit;
