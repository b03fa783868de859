//! What hosts are told. [`plan`] decides, purely; [`current`] does it.

use jiff::{SignedDuration, Timestamp};
use livepatch_manifest::{KernelDocument, Target, VendorMetadata, envelope, sha256};
use livepatch_store::{DocumentFacts, Store, StoreError, StoredDocument};
use livepatch_types::{BuildId, Sha256Digest, Tier};

use crate::{OperatorKey, Repositories};

/// How long a document is valid. It is signed anew when less than half of this is left.
pub const VALIDITY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Largest part of a document that one patch may need, in bytes: far below what fits in an envelope.
pub const MAX_TARGET_BYTES: usize = envelope::MAX_ENVELOPE_BYTES / 4;
/// What hosts may be asked to wait between two checks, in seconds. Hosts take a shorter hint for a minute, and a longer
/// one than their own interval for none.
pub const POLL_HINT_SECONDS: std::ops::RangeInclusive<i64> = 60..=86400;
/// How often to try when other processes sign the same document at the same time.
const ATTEMPTS: u32 = 5;

/// What to do so that the stored document says what the facts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It does. Its revision may have to be noted.
    Keep(StoredDocument),
    /// This is to be signed.
    Sign(Box<KernelDocument>),
}

/// Whether a document was issued by now, has more than half of its time left, and is signed by the key of this id: the
/// key may be another one than yesterday.
fn is_fresh(document: &StoredDocument, key_id: &str, now: Timestamp) -> bool {
    if !String::from_utf8_lossy(&document.body).contains(key_id) {
        return false;
    }
    let half = document.issued.duration_until(document.expires) / 2;
    document.issued <= now && document.issued.duration_until(now) < half
}

/// What the facts say, as a document without version and times.
fn content(facts: &DocumentFacts, tier: &Tier, vendor: Option<&VendorMetadata>) -> KernelDocument {
    let target = facts.target.as_ref().map(|(manifest, released)| Target {
        version: manifest.version,
        module: manifest.module,
        cves: manifest.cves.clone(),
        released: *released,
    });
    KernelDocument {
        schema: 1,
        critical: vec![],
        kernel: facts.kernel.clone(),
        channel: tier.clone(),
        version: 0,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::UNIX_EPOCH,
        poll_hint_seconds: facts.poll_hint_seconds,
        target,
        withdrawn: facts.withdrawn.clone(),
        vendor: vendor.cloned(),
        coverage: facts.coverage.clone(),
    }
}

/// The digest by which changes of content are recognised.
fn digest(content: &KernelDocument) -> Sha256Digest {
    sha256(&content.to_payload())
}

/// Decides whether the stored document still stands. The version rises if and only if the content changes.
pub fn plan(
    facts: &DocumentFacts,
    tier: &Tier,
    vendor: Option<&VendorMetadata>,
    key_id: &str,
    now: Timestamp,
) -> Plan {
    let content = content(facts, tier, vendor);
    let version = match &facts.stored {
        None => 1,
        Some(stored) if stored.content_sha256 != digest(&content) => stored.version + 1,
        Some(stored) if is_fresh(stored, key_id, now) => {
            return Plan::Keep(StoredDocument { revision: facts.revision, ..stored.clone() });
        }
        Some(stored) => stored.version,
    };
    // The longest representable time ends in the year 9999.
    let expires = now.checked_add(VALIDITY).unwrap_or(Timestamp::MAX);
    Plan::Sign(Box::new(KernelDocument { version, issued: now, expires, ..content }))
}

/// The signed document for a kernel and a tier, signed anew if need be; none when kernel or tier are unknown.
pub async fn current(
    store: &dyn Store,
    key: &OperatorKey,
    repositories: &Repositories,
    build_id: &BuildId,
    tier: &Tier,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, StoreError> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let key_id = key.public().key_id();
    let Some(state) = store.document(build_id, tier).await? else { return Ok(None) };
    if let Some(stored) = state.stored
        && stored.revision == state.revision
        && is_fresh(&stored, &key_id, now)
    {
        return Ok(Some(stored.body));
    }
    for _ in 0..ATTEMPTS {
        let Some(facts) = store.document_facts(build_id, tier).await? else { return Ok(None) };
        let vendor = repositories.newest_for(build_id);
        let document = match plan(&facts, tier, vendor.as_ref(), &key_id, now) {
            Plan::Keep(document) => document,
            Plan::Sign(document) => {
                let body = key.sign(&document);
                tracing::info!(
                    release = %document.kernel.release, %tier, version = document.version, bytes = body.len(),
                    "kernel document signed"
                );
                StoredDocument {
                    kernel: facts.kernel.clone(),
                    tier: tier.clone(),
                    version: document.version,
                    revision: facts.revision,
                    content_sha256: digest(&content(&facts, tier, vendor.as_ref())),
                    issued: document.issued,
                    expires: document.expires,
                    body,
                }
            }
        };
        if facts.stored.as_ref() == Some(&document)
            || store.save_document(&document, facts.stored.as_ref()).await?
        {
            return Ok(Some(document.body));
        }
    }
    Err(StoreError::Corrupt("a document changes whenever it is to be saved".into()))
}

#[cfg(test)]
mod tests {
    use livepatch_manifest::Coverage;
    use livepatch_types::PatchVersion;

    use super::*;

    fn facts(stored: Option<StoredDocument>) -> DocumentFacts {
        let kernel = livepatch_store::stories::kernel(1);
        DocumentFacts {
            kernel,
            revision: 3,
            target: None,
            withdrawn: vec![],
            coverage: None,
            poll_hint_seconds: None,
            stored,
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn signed(facts: &DocumentFacts, now: Timestamp) -> StoredDocument {
        let Plan::Sign(document) = plan(facts, &Tier::parse("stable").unwrap(), None, "", now) else {
            panic!("kept")
        };
        StoredDocument {
            kernel: document.kernel.clone(),
            tier: document.channel.clone(),
            version: document.version,
            revision: facts.revision,
            content_sha256: digest(&content(facts, &document.channel, None)),
            issued: document.issued,
            expires: document.expires,
            body: vec![],
        }
    }

    #[test]
    fn the_version_rises_with_the_content_and_only_then() {
        let tier = Tier::parse("stable").unwrap();
        let first = signed(&facts(None), at(0));
        assert_eq!((first.version, first.expires), (1, at(168)));

        let mut later = facts(Some(first.clone()));
        later.revision = 4;
        let noted = StoredDocument { revision: 4, ..first.clone() };
        assert_eq!(
            plan(&later, &tier, None, "", at(83)),
            Plan::Keep(noted),
            "another revision, the same content"
        );
        assert!(
            matches!(plan(&later, &tier, None, "another key", at(83)), Plan::Sign(document) if document.version == 1)
        );
        let renewed = signed(&later, at(84));
        assert_eq!(
            (renewed.version, renewed.issued, renewed.expires),
            (1, at(84), at(252)),
            "half of its time"
        );
        assert_eq!(signed(&later, at(-1)).issued, at(-1), "it was signed while the clock was ahead");

        let mut covered = later.clone();
        covered.coverage = Some(Coverage::default());
        assert_eq!(signed(&covered, at(1)).version, 2);

        let mut hinted = later.clone();
        hinted.poll_hint_seconds = Some(600);
        assert_eq!(signed(&hinted, at(1)).version, 2);

        later.withdrawn.push(PatchVersion::parse("1.1").unwrap());
        assert_eq!(signed(&later, at(1)).version, 2);
    }
}
