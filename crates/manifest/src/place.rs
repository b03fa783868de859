//! Where a host stands in the rollout of one livepatch. Every host computes it by itself, so that the document of a kernel is
//! the same for all.

use livepatch_types::{Cohort, HostId, PatchVersion};

use crate::sha256;

/// How many places there are: a place is a percentage with two digits behind the point.
const PLACES: u128 = 10_000;
/// 2^64 divided by the golden ratio. Its multiples, modulo 2^64, are far from one another however many there are, so that
/// hosts which stand in for one another never get places side by side by chance.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A host's place in the rollout of one livepatch, from 0 to below 100 per cent: lower goes first. For each livepatch it is
/// another, so that nobody is always the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u16);

impl Place {
    /// The place of a host. It follows from its cohort, or else from its id, and from the livepatch.
    pub fn of(host: &HostId, cohort: Option<&Cohort>, version: PatchVersion) -> Self {
        let who = match cohort {
            Some(cohort) => format!("cohort {}", cohort.name()),
            None => format!("host {host}"),
        };
        let digest = sha256(format!("livepatch place 1\n{version}\n{who}").as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        let first = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let ordinal = cohort.and_then(Cohort::ordinal).unwrap_or_default();
        let at = first.wrapping_add(u64::from(ordinal).wrapping_mul(GOLDEN));
        // Below PLACES, which a u16 holds.
        Self(((u128::from(at) * PLACES) >> 64) as u16)
    }

    /// In hundredths of a per cent: 0 to 9999.
    pub fn hundredths(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02} %", self.0 / 100, self.0 % 100)
    }
}
