//! The points at which a power cut makes a difference. A loader passes them and nothing happens; tests cut the power.

use std::path::Path;

/// A point of an application or a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// The temporary file beside this one is written, and perhaps not on the disk.
    Written(&'a Path),
    /// It is on the disk.
    Synced(&'a Path),
    /// It has taken this file's place, perhaps in memory alone.
    Renamed(&'a Path),
    /// That is on the disk, too.
    Kept(&'a Path),
    /// The kernel gets the module next.
    Insert,
    /// The kernel has it.
    Inserted,
    /// The transition ended.
    InForce,
    /// `0` is written to `enabled` next.
    Disable,
    /// It is written.
    Disabled,
    /// The module is unloaded next.
    Unload,
    /// It is unloaded.
    Unloaded,
}

/// Who is told of each [`Step`].
pub trait Steps: Send + Sync {
    /// The loader is there.
    fn reached(&self, step: Step<'_>);
}

/// Nobody: what a host has.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Steps for Unwatched {
    fn reached(&self, _: Step<'_>) {}
}
