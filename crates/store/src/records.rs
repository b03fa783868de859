use jiff::Timestamp;
use livepatch_api::server::Report;
use livepatch_manifest::{Coverage, PatchManifest};
use livepatch_types::{Cohort, HostId, KernelIdentity, PatchVersion, Sha256Digest, Tier};

use crate::StoreError;

/// The public half of a token: what a token is looked up by. 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenId(String);

impl TokenId {
    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(StoreError::UnknownToken) }
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token that somebody showed: its id, and the digest of the whole text.
#[derive(Debug, Clone)]
pub struct PresentedToken {
    /// What to look it up by.
    pub id: TokenId,
    /// SHA-256 of the token's text.
    pub sha256: Sha256Digest,
}

/// An enrolment token to be added.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Id and digest.
    pub token: PresentedToken,
    /// Name, for people; unique.
    pub name: String,
    /// The tier of the machines that enrol with it.
    pub tier: Tier,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is worth nothing.
    pub expires: Option<Timestamp>,
    /// How many machines it may enrol.
    pub use_limit: Option<u32>,
}

/// An enrolment token as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its name.
    pub name: String,
    /// The tier of the machines that enrol with it.
    pub tier: Tier,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is worth nothing.
    pub expires: Option<Timestamp>,
    /// How many machines it may enrol.
    pub use_limit: Option<u32>,
    /// How many machines it has enrolled.
    pub uses: u32,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// A machine that wants to be enrolled.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The enrolment token that it shows.
    pub token: PresentedToken,
    /// The machine.
    pub machine: Sha256Digest,
    /// The machine token that it is going to get.
    pub machine_token: PresentedToken,
    /// The id that it is assigned under.
    pub host: HostId,
    /// The cohort that it asks for.
    pub cohort: Option<Cohort>,
    /// Now.
    pub at: Timestamp,
}

/// A machine and what it last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineRecord {
    /// The machine.
    pub machine: Sha256Digest,
    /// Its tier.
    pub tier: Tier,
    /// Its cohort.
    pub cohort: Option<Cohort>,
    /// When it enrolled last.
    pub enrolled: Timestamp,
    /// Its latest report.
    pub report: Option<ReceivedReport>,
}

/// How many reports of a machine are kept: the last ones.
pub const MAX_REPORTS_OF_A_MACHINE: u32 = 64;

/// What a machine said, and when that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedReport {
    /// By the server's clock.
    pub received: Timestamp,
    /// What it said.
    pub report: Report,
}

/// What saving a report came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedReport {
    /// It is the machine's latest now.
    New,
    /// A report with this id is among its last ones: nothing changed.
    Known,
}

/// A patch to be published.
#[derive(Debug, Clone)]
pub struct NewPatch {
    /// The manifest, parsed.
    pub manifest: PatchManifest,
    /// The manifest as the vendor signed it.
    pub manifest_text: String,
    /// The vendor's detached signature over it.
    pub signature: Vec<u8>,
    /// The tier to put it in.
    pub tier: Tier,
    /// Now.
    pub at: Timestamp,
}

/// What publishing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The patch is new.
    New,
    /// The patch was there; the tier is new to it.
    AddedToTier,
    /// It was there, in this tier.
    Unchanged,
}

/// A patch in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The tier.
    pub tier: Tier,
    /// Since when.
    pub released: Timestamp,
}

/// A patch as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchRecord {
    /// What the vendor states about it.
    pub manifest: PatchManifest,
    /// When it was published first.
    pub published: Timestamp,
    /// The tiers it is in, in their order.
    pub releases: Vec<Release>,
    /// When it was withdrawn.
    pub withdrawn: Option<Timestamp>,
}

/// A kernel that patches were published for or that machines run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRecord {
    /// The kernel.
    pub kernel: KernelIdentity,
    /// How many machines said that they run it.
    pub machines: u64,
    /// The newest patch of each tier that has one, in the order of tiers, without withdrawn ones.
    pub targets: Vec<(Tier, PatchVersion)>,
    /// How long it gets livepatches.
    pub coverage: Option<Coverage>,
}

/// A signed document as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// The kernel it is for.
    pub kernel: KernelIdentity,
    /// The tier it is for.
    pub tier: Tier,
    /// Its version, inside the signature.
    pub version: u64,
    /// The revision of the kernel's facts that it was made from.
    pub revision: u64,
    /// Digest of what it says, without version and times.
    pub content_sha256: Sha256Digest,
    /// When it was signed.
    pub issued: Timestamp,
    /// Until when it is valid.
    pub expires: Timestamp,
    /// The signed bytes.
    pub body: Vec<u8>,
}

/// The document of a known kernel and tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentState {
    /// The revision of the kernel's facts now.
    pub revision: u64,
    /// The document as last signed.
    pub stored: Option<StoredDocument>,
}

/// What a document is made from: one consistent view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentFacts {
    /// The kernel.
    pub kernel: KernelIdentity,
    /// The revision of these facts.
    pub revision: u64,
    /// The newest patch in this tier that is not withdrawn, and since when it is there.
    pub target: Option<(PatchManifest, Timestamp)>,
    /// Withdrawn patches of this kernel, in ascending order.
    pub withdrawn: Vec<PatchVersion>,
    /// How long the kernel gets livepatches.
    pub coverage: Option<Coverage>,
    /// How long hosts wait between two checks at most, in seconds.
    pub poll_hint_seconds: Option<u32>,
    /// The document as last signed.
    pub stored: Option<StoredDocument>,
}
