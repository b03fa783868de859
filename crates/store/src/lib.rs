//! Floor 2: what a server remembers. [`Store`] is the port for rows, [`TransparencyLog`] for the log of what happened to
//! them, [`SqliteStore`] is both for one machine; [`ObjectStore`] keeps module files in a directory. The module `stories` (feature `stories`) is the suite that every implementation of
//! [`Store`] passes.
//!
//! Invariant: every change of several rows is one transaction, and what is logged is logged in it. A secret is stored as its SHA-256 only.

mod error;
mod log;
mod objects;
mod records;
mod sqlite;
#[cfg(any(test, feature = "stories"))]
pub mod stories;

pub use error::{ObjectError, StoreError};
pub use log::{SignedHead, TransparencyLog};
pub use objects::ObjectStore;
pub use records::{
    DocumentFacts, DocumentState, Enrolment, KernelRecord, MAX_REPORTS_OF_A_MACHINE, MachineRecord, NewPatch,
    NewToken, PatchRecord, PresentedToken, Published, ReceivedReport, Release, SavedReport, StoredDocument,
    TokenId, TokenRecord,
};
pub use sqlite::SqliteStore;

use jiff::Timestamp;
use livepatch_api::server::Report;
use livepatch_manifest::Coverage;
use livepatch_types::{BuildId, Cohort, HostId, KernelIdentity, PatchVersion, Sha256Digest, Tier};

/// Where a server keeps its state. Times are kept to the second.
#[async_trait::async_trait]
pub trait Store: TransparencyLog {
    /// The tiers, in the order in which patches move through them.
    async fn tiers(&self) -> Result<Vec<Tier>, StoreError>;

    /// Adds an enrolment token.
    async fn create_token(&self, token: &NewToken) -> Result<(), StoreError>;
    /// All enrolment tokens, by name.
    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError>;
    /// Makes a token worthless for further enrolments; machines that are enrolled stay so. Idempotent.
    async fn revoke_token(&self, name: &str, at: Timestamp) -> Result<(), StoreError>;

    /// Checks an enrolment token, counts its use and (re-)enrols a machine: its former machine token is worth nothing
    /// from then on. A machine that enrols again with the token it has used before is not counted again.
    async fn enrol(&self, enrolment: &Enrolment) -> Result<Tier, StoreError>;
    /// Puts a machine that is enrolled under this id into another cohort, or none; its tier.
    async fn set_cohort(
        &self,
        machine: &Sha256Digest,
        host: &HostId,
        cohort: Option<&Cohort>,
    ) -> Result<Tier, StoreError>;
    /// The machine that a machine token belongs to.
    async fn machine_of(&self, token: &PresentedToken) -> Result<Option<Sha256Digest>, StoreError>;
    /// Makes this the machine's latest report, unless its last ones have it already; the oldest of
    /// [`MAX_REPORTS_OF_A_MACHINE`] makes room.
    async fn save_report(
        &self,
        machine: &Sha256Digest,
        report: &Report,
        received: Timestamp,
    ) -> Result<SavedReport, StoreError>;
    /// The last reports of a machine, the newest first; none of one that is not enrolled.
    async fn reports(&self, machine: &Sha256Digest) -> Result<Vec<ReceivedReport>, StoreError>;
    /// All machines with their latest report.
    async fn machines(&self) -> Result<Vec<MachineRecord>, StoreError>;

    /// Adds a patch to a tier, and the patch and its kernel when they are new. Idempotent.
    async fn publish(&self, patch: &NewPatch) -> Result<Published, StoreError>;
    /// All patches, the newest version first.
    async fn patches(&self) -> Result<Vec<PatchRecord>, StoreError>;
    /// Withdraws a version everywhere, for good; the kernels that it was for. Idempotent.
    async fn withdraw(&self, version: PatchVersion, at: Timestamp)
    -> Result<Vec<KernelIdentity>, StoreError>;
    /// The kernels of patches and the kernels of machines, by release.
    async fn kernels(&self) -> Result<Vec<KernelRecord>, StoreError>;
    /// Says how long a kernel that patches were published for gets livepatches; none: nothing is said any more.
    async fn set_coverage(&self, build_id: &BuildId, coverage: Option<&Coverage>) -> Result<(), StoreError>;
    /// The length of a module that may be served: one of a patch that is not withdrawn.
    async fn module_size_bytes(&self, module: &Sha256Digest) -> Result<Option<u64>, StoreError>;

    /// Notes that something outside of the store changed which documents speak of: all are looked at again.
    async fn touch_documents(&self) -> Result<(), StoreError>;
    /// Says how long hosts wait between two checks at most, in seconds; none: nothing is said any more.
    async fn set_poll_hint(&self, seconds: Option<u32>) -> Result<(), StoreError>;
    /// How long hosts are told to wait between two checks at most, in seconds.
    async fn poll_hint_seconds(&self) -> Result<Option<u32>, StoreError>;
    /// The document as last signed, and whether something happened since; none when kernel or tier are unknown.
    async fn document(&self, build_id: &BuildId, tier: &Tier) -> Result<Option<DocumentState>, StoreError>;
    /// What a document has to say now; none when kernel or tier are unknown.
    async fn document_facts(
        &self,
        build_id: &BuildId,
        tier: &Tier,
    ) -> Result<Option<DocumentFacts>, StoreError>;
    /// Replaces `previous` by `document`; false, and nothing changed, when `previous` is not the stored one any more.
    async fn save_document(
        &self,
        document: &StoredDocument,
        previous: Option<&StoredDocument>,
    ) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests;
