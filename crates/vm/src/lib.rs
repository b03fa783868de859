//! Boots an unmodified kernel in QEMU and drives it: for tests, for the demo and for proving a livepatch.
//!
//! A [`KernelTree`] is an extracted kernel package. An [`Initramfs`] puts busybox, chosen kernel modules and
//! the caller's files into one archive. [`Guest::boot`] starts QEMU with both and returns when the guest
//! answers; [`Guest::run`] then runs commands in it, one at a time, with exact arguments and a time-out.
//! The kernel log comes over the first serial port, commands go over the second, so neither disturbs the other.
//!
//! Invariant: only TCG is used (no KVM), no host kernel is ever touched, and a dropped [`Guest`] leaves no
//! process and no file behind, except the transcript of a step or a test that failed.

mod command;
mod console;
mod cpio;
mod error;
mod firmware;
mod guest;
mod initramfs;
mod monitor;
mod program;
mod protocol;
pub mod testing;
mod transcript;
mod tree;
mod variables;

pub use command::{Command, Output};
pub use console::{KernelProblem, problems_in, strip_ansi};
pub use error::VmError;
pub use firmware::{Firmware, SecureBootKeys, SignedBoot};
pub use guest::{BootSpec, Forward, Guest, Mark, Network, Saving, USER};
pub use initramfs::Initramfs;
pub use program::{compile_static, machine_version, strip};
pub use tree::KernelTree;
