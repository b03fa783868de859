//! What an application went through.

use jiff::Timestamp;
use livepatch_types::PatchVersion;
use serde::{Deserialize, Serialize};

/// How many of them a view has at most: the last ones.
pub const MOST_PASSED: usize = 16;

/// A point that an application passed while this loader ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Which point.
    pub point: Point,
    /// The livepatch.
    pub version: PatchVersion,
    /// Which application it was in, counted by this loader from 1. A transition that an earlier loader began counts too.
    pub application: u32,
    /// When, by this host's clock.
    pub at: Timestamp,
    /// The same in milliseconds since the boot.
    pub since_boot_milliseconds: u64,
}

/// A point of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// The kernel gets the module next.
    BeforeInsert,
    /// The kernel has it.
    AfterInsert,
    /// The kernel moves its tasks.
    InTransition,
    /// It is in force everywhere.
    InForce,
}
