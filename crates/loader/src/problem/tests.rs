//! What the loader says when it refuses or fails, as people read it: one of each kind, by where it comes from.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use livepatch_kernel::LoadRefusal;
use livepatch_manifest::{AssignmentError, BundleError, SupportError};
use livepatch_observer_api::{AskError, Holder, RefusedModule, Seen, Stall};
use livepatch_transparency::Refusal as LogRefusal;
use livepatch_trust::{Kind, NEW_ROOTS, Refusal, RepositoryName, Role};
use livepatch_types::{
    Architecture, BuildId, HostId, KernelIdentity, KernelRelease, ModuleName, PatchVersion, Sha256Digest,
    Stage, StageEvent, Tier,
};

use super::*;
use crate::observer::{Observer, holders};
use crate::plan::Foreign;
use crate::state::{Blocked, Phase, Retry, Stalled, State};
use crate::step::Unwatched;
use crate::vendor::problems as vendor;
use crate::{
    assignment, bundle, execute, guard, loader, log, objects, observer, operator, plan, requests, state,
    trust,
};

/// As the client prints it: a line, and what to do. Each is in the style of the house.
fn said(problems: impl IntoIterator<Item = Problem>) -> String {
    let mut text = String::new();
    for Problem { code, message, hints } in problems {
        let first = message.chars().next().unwrap();
        assert!(!first.is_uppercase() && !message.contains('\n') && !message.ends_with('.'), "{message}");
        assert!(!hints.is_empty() && hints.iter().all(|hint| !hint.contains('\n')), "{code}: {hints:?}");
        text += &format!("{message} ({code})\n");
        hints.iter().for_each(|hint| text += &format!("hint: {hint}\n"));
    }
    text
}

fn version() -> PatchVersion {
    PatchVersion::parse("1.2").unwrap()
}

fn kernel() -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
    }
}

fn time() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn why() -> String {
    "so it is".into()
}

fn io_error() -> io::Error {
    io::Error::other("so it is")
}

fn repository(name: &str) -> RepositoryName {
    RepositoryName::parse(name).unwrap()
}

fn envelopes() -> [EnvelopeError; 3] {
    [
        EnvelopeError::UntrustedSigner("ab".into()),
        EnvelopeError::BadSignature("ab".into()),
        EnvelopeError::Malformed(why()),
    ]
}

#[test]
fn of_documents() {
    let tier = |name: &str| Tier::parse(name).unwrap();
    let others = [
        DocumentError::Malformed(why()),
        DocumentError::Schema(2),
        DocumentError::Critical("x".into()),
        DocumentError::WrongKernel { expected: "a".into(), actual: "b".into() },
        DocumentError::WrongChannel { expected: tier("stable"), actual: tier("beta") },
        DocumentError::Rollback { offered: 1, seen: 2 },
        DocumentError::Expired(time()),
        DocumentError::NotYetValid { issued: time(), now: Timestamp::UNIX_EPOCH },
    ];
    let all = envelopes().map(DocumentError::from).into_iter().chain(others).map(Problem::from);
    let ours = [plan::clock_problem(Timestamp::UNIX_EPOCH, time()), plan::withdrawn_problem(version())];
    let all = all.chain(ours);
    insta::assert_snapshot!(said(all), @r#"
    the document is not signed by a trusted key; its signers are ab (document-wrong-signer)
    hint: compare what is pinned in the trust directory (operator-root.json, or operator.pub) with what the server's operator gives out
    the signature of key ab does not match the document: it was changed after signing (document-tampered)
    hint: somebody changes what the server sends; look at proxies and mirrors in between
    the document is not a signed envelope: so it is (document-malformed)
    hint: check that the server URL is that of a livepatch server
    the signed document does not parse: so it is (document-malformed)
    hint: check that the server URL is that of a livepatch server
    document schema 2 is newer than this program, which reads schema 1 (document-too-new)
    hint: upgrade the client
    the document requires "x", which this program does not understand (document-too-new)
    hint: upgrade the client
    the document is for kernel b, not for a (document-wrong-kernel)
    hint: the server or a cache in between mixes up kernels; tell its operator
    the document is for channel beta, not for stable (document-wrong-channel)
    hint: the server or a cache in between mixes up tiers; tell its operator
    the server offers document version 1, older than version 2 seen before (document-rollback)
    hint: the server serves an old state, perhaps a restored backup; tell its operator
    the document expired at 2026-11-24T12:00:00Z (document-expired)
    hint: the server must sign a new one; check this host's clock too (`date -u`)
    the document was issued at 2026-11-24T12:00:00Z, but the clock here says 1970-01-01T00:00:00Z (document-not-yet-valid)
    hint: set this host's clock (`date -u`), then `livepatch refresh`
    the clock here says 1970-01-01T00:00:00Z, but a document was believed that was issued at 2026-11-24T12:00:00Z (clock-behind)
    hint: set this host's clock (`date -u`), then `livepatch refresh`
    hint: if that time is wrong and the clock right, tell the server's operator: their key may be stolen (docs/trust-reset.md)
    the server offers livepatch 1.2, which was withdrawn before (withdrawn-livepatch)
    hint: withdrawals are final; tell the server's operator
    "#);
}

#[test]
fn of_assignments() {
    let host = |byte| HostId::from_bytes([byte; 16]);
    let others = [
        AssignmentError::Malformed(why()),
        AssignmentError::Schema(2),
        AssignmentError::Critical("x".into()),
        AssignmentError::WrongHost { expected: host(1), actual: host(2) },
        AssignmentError::Rollback { offered: 1, seen: 2 },
    ];
    let all = envelopes().map(AssignmentError::from).into_iter().chain(others).map(Problem::from);
    let cohort = livepatch_types::Cohort::parse("databases/2").unwrap();
    let ours = [
        assignment::not_assigned(),
        assignment::host_copied(),
        assignment::no_randomness(),
        assignment::other_cohort(None, Some(&cohort)),
        assignment::other_cohort(Some(&cohort), None),
        assignment::cohort_unknown(),
    ];
    insta::assert_snapshot!(said(all.chain(ours)), @r#"
    the document is not signed by a trusted key; its signers are ab (assignment-wrong-signer)
    hint: compare what is pinned in the trust directory (operator-root.json, or operator.pub) with what the server's operator gives out
    the signature of key ab does not match the document: it was changed after signing (assignment-tampered)
    hint: somebody changes what the server sends; look at proxies and mirrors in between
    the document is not a signed envelope: so it is (assignment-malformed)
    hint: check that the server URL is that of a livepatch server
    the signed assignment does not parse: so it is (assignment-malformed)
    hint: check that the server URL is that of a livepatch server
    assignment schema 2 is newer than this program, which reads schema 1 (assignment-too-new)
    hint: upgrade the client
    the assignment requires "x", which this program does not understand (assignment-too-new)
    hint: upgrade the client
    the assignment is for host 02020202020202020202020202020202, not for 01010101010101010101010101010101 (assignment-wrong-host)
    hint: the server or somebody in between mixes up hosts; tell its operator
    the assignment has version 1, older than version 2 seen before (assignment-rollback)
    hint: the server serves an old state, or its clock is behind; tell its operator
    the operator has not said in which channel this host is (not-assigned)
    hint: `livepatch disable`, then `livepatch enable` enrols it anew; the server must issue assignments
    this host was enrolled as another machine: its disk was cloned or moved (host-copied)
    hint: `livepatch disable`, then `livepatch enable` with a token enrols it by itself
    the kernel gives no random bytes (no-randomness)
    hint: see the kernel's log (`dmesg`)
    the operator assigned this host to no cohort, but its configuration asks for cohort databases/2 (assignment-wrong-cohort)
    hint: restart the daemons if `cohort` in /etc/livepatch/livepatch.toml was just changed; else tell the server's operator
    the operator assigned this host to cohort databases/2, but its configuration asks for no cohort (assignment-wrong-cohort)
    hint: restart the daemons if `cohort` in /etc/livepatch/livepatch.toml was just changed; else tell the server's operator
    the operator's assignment is not taken while the configuration cannot be used (configuration)
    hint: `journalctl -u livepatch-loader` says what is wrong in it
    "#);
}

#[test]
fn of_the_support_matrix() {
    let others = [
        SupportError::Malformed(why()),
        SupportError::Schema(2),
        SupportError::Critical("x".into()),
        SupportError::Rollback { offered: 1, seen: 2 },
    ];
    let all = envelopes().map(SupportError::from).into_iter().chain(others).map(Problem::from);
    insta::assert_snapshot!(said(all), @r#"
    the document is not signed by a trusted key; its signers are ab (support-wrong-signer)
    hint: compare what is pinned in the trust directory (operator-root.json, or operator.pub) with what the server's operator gives out
    the signature of key ab does not match the document: it was changed after signing (support-tampered)
    hint: somebody changes what the server sends; look at proxies and mirrors in between
    the document is not a signed envelope: so it is (support-malformed)
    hint: tell the server's operator
    the support matrix does not parse: so it is (support-malformed)
    hint: tell the server's operator
    support matrix schema 2 is newer than this program, which reads schema 1 (support-too-new)
    hint: upgrade the client
    the support matrix requires "x", which this program does not understand (support-too-new)
    hint: upgrade the client
    the support matrix has version 1, older than version 2 seen before (support-rollback)
    hint: tell the server's operator
    "#);
}

fn verify_errors() -> [VerifyError; 5] {
    [
        VerifyError::Unsigned,
        VerifyError::UnknownSigner { key_id: "ab".into() },
        VerifyError::BadSignature { signer: "CN=vendor".into() },
        VerifyError::Malformed(why()),
        VerifyError::Unsupported(why()),
    ]
}

#[test]
fn of_modules() {
    let digest = |byte| Sha256Digest::from_bytes([byte; 32]);
    let objects = [
        ObjectError::Truncated { actual: 1, expected: 2 },
        ObjectError::Oversized(2),
        ObjectError::Digest { actual: digest(1), expected: digest(2) },
    ];
    let sealing = [SealError::TooLong(2), SealError::Io(io_error())];
    let ours = [
        objects::not_cached(&io_error()),
        objects::not_stored(Path::new("/the/directory"), &io_error()),
        loader::not_wanted(),
    ];
    let all = verify_errors().map(Problem::from).into_iter().chain(objects.map(Problem::from));
    insta::assert_snapshot!(said(all.chain(sealing.map(Problem::from)).chain(ours)), @"
    the module is refused: the module is not signed (unsigned-module)
    hint: the server offers a module that nobody signed; tell its operator
    the module is refused: signed by a key that is not trusted: ab (wrong-signer)
    hint: compare vendor.pem in the trust directory with the certificate of the module signer
    the module is refused: the signature of CN=vendor does not match: the content was changed after signing (tampered-module)
    hint: somebody changed the module after it was signed; tell the server's operator
    the module is refused: the signature is malformed: so it is (bad-module-signature)
    hint: the module was not signed as livepatches are; tell the server's operator
    the module is refused: the signature is of a kind that is not accepted: so it is (bad-module-signature)
    hint: the module was not signed as livepatches are; tell the server's operator
    the module's download ended after 1 of 2 bytes (truncated-module)
    hint: `livepatch refresh` downloads it again; check the network and the server
    the module is longer than the 2 bytes that were signed (oversized-module)
    hint: the server offers something else than it says; tell its operator
    the module's SHA-256 is 0101010101010101010101010101010101010101010101010101010101010101 where 0202020202020202020202020202020202020202020202020202020202020202 was signed (tampered-module)
    hint: the download was damaged or somebody changes it; `livepatch refresh` downloads it again
    the module is longer than the 2 bytes that are allowed (oversized-module)
    hint: tell the server's operator
    cannot read the module into memory: so it is (module-unreadable)
    hint: `livepatch refresh` downloads it again
    the module is not in the cache: so it is (module-not-cached)
    hint: `livepatch refresh` downloads it when the server can be reached
    cannot store the module in /the/directory: so it is (state-not-written)
    hint: free space or mount the state directory writable
    no document that is believed asks for this module, or it is here already (module-not-wanted)
    hint: `livepatch refresh` asks the server for the newest document
    ");
}

#[test]
fn of_bundles() {
    let bundles = [
        BundleError::NotABundle,
        BundleError::Format(9),
        BundleError::Length { declared: 1, actual: 2 },
        BundleError::Table(why()),
        BundleError::Manifest(why()),
        BundleError::Section("module"),
        BundleError::Part("manifest", why()),
        BundleError::Module(why()),
    ];
    let other = KernelIdentity { build_id: BuildId::from_bytes(&[2; 20]).unwrap(), ..kernel() };
    let ours = [
        bundle::host_enabled(),
        bundle::not_applied(version()),
        bundle::held_by_policy("livepatch 1.2 is held"),
        bundle::unsigned(),
        bundle::without_metadata(),
        bundle::check_kernel(&other, &kernel()).unwrap_err(),
        vendor::not_pinned_but_needed(),
    ];
    let all = bundles.map(Problem::from).into_iter().chain(verify_errors().map(bundle::of_the_manifest));
    // Whatever is wrong with what it carries: there is no server here.
    let carried = refusals().into_iter().map(|refusal| bundle::of_a_bundle(refusal.into()));
    let carried = carried.chain(
        ["wrong-module", "log-wrong-signer", "log-bad-proof"]
            .map(|code| bundle::of_a_bundle(Problem::new(code, "it is wrong", ""))),
    );
    // What is wrong on the host itself is set right there, whoever brings the bundle.
    let here = vendor::other_root(&repository("debian-12-6.1"), &repository("debian-12-5.10"));
    assert_eq!(bundle::of_a_bundle(here.clone()), here);
    let text = said(all.chain(ours)) + "---\n" + &said(carried);
    let servers = text.lines().filter(|line| line.starts_with("hint: ") && line.contains("server"));
    let servers: Vec<&str> = servers.collect();
    assert_eq!(servers, ["hint: `livepatch disable` first, or publish the bundle on the server"]);
    insta::assert_snapshot!(text, @r#"
    not a livepatch bundle: the magic bytes are missing (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    bundle format 9 is newer than this program, which reads format 1 (bundle-too-new)
    hint: upgrade the client
    the bundle has 2 bytes where its header says 1 (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle's section table is wrong: so it is (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle's manifest is wrong: so it is (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle's module is not the one that its manifest names (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle's manifest does not parse: so it is (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle's module does not match its manifest: so it is (bad-bundle)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle is refused: the module is not signed (bundle-unsigned)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle is refused: signed by a key that is not trusted: ab (wrong-signer)
    hint: compare vendor.pem in the trust directory with the certificate of whoever signed it
    the bundle is refused: the signature of CN=vendor does not match: the content was changed after signing (bundle-tampered)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle is refused: the signature is malformed: so it is (bundle-unsigned)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle is refused: the signature is of a kind that is not accepted: so it is (bundle-unsigned)
    hint: get the bundle again from whoever made it, by a way that you trust
    this host has a server, whose operator says what it gets (host-enabled)
    hint: `livepatch disable` first, or publish the bundle on the server
    livepatch 1.2 is not applied (not-applied)
    hint: the loader's log says why: `journalctl -u livepatch-loader`
    livepatch 1.2 is held (held-by-policy)
    hint: the settings of this host say so: change them in /etc/livepatch/livepatch.toml
    nobody signed the bundle (bundle-unsigned)
    hint: get the bundle again from whoever made it, by a way that you trust
    the bundle does not carry what the vendor's repository says of this kernel (bundle-without-metadata)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    the bundle is for kernel 6.1.0-50-amd64 amd64 (build-id 0202020202020202020202020202020202020202), and 6.1.0-50-amd64 amd64 (build-id 0101010101010101010101010101010101010101) runs here (wrong-kernel)
    hint: get the bundle for the kernel that runs here (`livepatch status` shows it)
    no root of the vendor's is pinned on this host, and without a server its word is needed (vendor-not-pinned)
    hint: put the vendor's metadata/1.root.json as vendor-root.json into /etc/livepatch/trust (docs/trust.md)
    ---
    timestamp.json is longer than the 9 bytes that it may have (vendor-oversized)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    there are more keys than 9 (vendor-oversized)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    there are more new roots than 256 (vendor-oversized)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    timestamp.json does not parse: so it is (vendor-malformed)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the metadata is of type "root" where timestamp is expected (vendor-malformed)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    format "2" is not one that this program reads (vendor-too-new)
    hint: upgrade the client
    the metadata requires "x", which this program does not understand (vendor-too-new)
    hint: upgrade the client
    the key 0101010101010101010101010101010101010101010101010101010101010101 has the id 0202020202020202020202020202020202020202020202020202020202020202 (vendor-bad-root)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the keys 0101010101010101010101010101010101010101010101010101010101010101 and 0202020202020202020202020202020202020202020202020202020202020202 are the same key (vendor-bad-root)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the role timestamp is wrong: so it is (vendor-bad-root)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the root does not have the roles of a vendor (vendor-bad-root)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the root is that of repository b, not of a (vendor-other-repository)
    hint: it carries another vendor's repository than the one that is pinned here; get the bundle of that one
    1 of the 2 signatures that the role timestamp needs are valid (vendor-threshold)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the timestamp metadata has version 3 where 2 is expected (vendor-mismatch)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the timestamp metadata has version 1, older than version 2 seen before (vendor-rollback)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    the timestamp metadata of version 2 has SHA-256 0202020202020202020202020202020202020202020202020202020202020202, and the one seen before had 0101010101010101010101010101010101010101010101010101010101010101 (vendor-split-view)
    hint: two files were signed as one version: tell whoever holds the repository's online keys, for one may be stolen
    timestamp.json has 2 bytes where 1 were signed (vendor-mismatch)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    timestamp.json has SHA-256 0202020202020202020202020202020202020202020202020202020202020202 where 0101010101010101010101010101010101010101010101010101010101010101 was signed (vendor-mismatch)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    timestamp.json is missing (vendor-mismatch)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the targets delegate to 1 other roles; a vendor's repository has no delegations (vendor-malformed)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    "" is not a repository name: 1 to 64 lower-case letters, digits and inner . - _ may stand in it (vendor-malformed)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the timestamp metadata expired at 2026-11-24T12:00:00Z (vendor-expired)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    the clock here says 1970-01-01T00:00:00Z, but metadata was signed at 2026-11-24T12:00:00Z (clock-behind)
    hint: set this host's clock (`date -u`), then `livepatch refresh`
    the vendor allows nothing for kernel 6.1.0-50-amd64 (build-id 0101010101010101010101010101010101010101, amd64) (vendor-unknown-kernel)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    this is for kernel b, not for a (vendor-wrong-kernel)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the vendor withdrew livepatch 1.2 (withdrawn-livepatch)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    livepatch 1.2 is below 2.1, the lowest that the vendor allows (vendor-not-allowed)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    the vendor does not allow livepatch 1.2 for this kernel (vendor-not-allowed)
    hint: get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)
    the module is signed by key cd, where the vendor names ab (vendor-wrong-signer)
    hint: it is not what the vendor signed whose root is pinned here; get the bundle again, from them
    the module cls_u32 here has build-id 0202020202020202020202020202020202020202, where the livepatch is for 0101010101010101010101010101010101010101 (foreign-module)
    hint: the livepatch is for the distribution's module; unload the other one
    it is wrong (wrong-module)
    hint: the bundle is of another kernel or wrongly made; get the one for this kernel (`uname -r`) from the vendor
    it is wrong (log-wrong-signer)
    hint: bring log.vkey in the trust directory, and operator-root.json where it is pinned, up to those of the operator, whose new key signs the log, too; if they are the same, tell those who watch the log
    it is wrong (log-bad-proof)
    hint: the proof in it does not hold: tell those who watch the log, and get the bundle again
    "#);
}

/// One of each.
fn refusals() -> Vec<Refusal> {
    let digest = |byte| Sha256Digest::from_bytes([byte; 32]);
    let build_id = |byte| BuildId::from_bytes(&[byte; 20]).unwrap();
    let (role, what) = (Role::Timestamp, "timestamp.json".to_owned());
    vec![
        Refusal::TooLong { what: what.clone(), limit: 9 },
        Refusal::TooMany { what: "keys", limit: 9 },
        Refusal::TooMany { what: NEW_ROOTS, limit: 256 },
        Refusal::Malformed { what: "timestamp.json", why: why() },
        Refusal::WrongType { expected: role, actual: "root".into() },
        Refusal::Format("2".into()),
        Refusal::Critical("x".into()),
        Refusal::KeyId { stated: digest(1), actual: digest(2) },
        Refusal::DuplicateKey(digest(1), digest(2)),
        Refusal::BadRole { role, why: "so it is" },
        Refusal::WrongKind(Kind::Vendor),
        Refusal::WrongRepository { expected: "a".into(), actual: "b".into() },
        Refusal::Threshold { role, valid: 1, threshold: 2 },
        Refusal::WrongVersion { role, expected: 2, actual: 3 },
        Refusal::Rollback { role, offered: 1, seen: 2 },
        Refusal::OtherContent {
            role: Role::Timestamp,
            version: 2,
            seen: Sha256Digest::from_bytes([1; 32]),
            offered: Sha256Digest::from_bytes([2; 32]),
        },
        Refusal::WrongLength { what: what.clone(), expected: 1, actual: 2 },
        Refusal::WrongHash { what: what.clone(), expected: digest(1), actual: digest(2) },
        Refusal::Missing(what),
        Refusal::Delegations(1),
        Refusal::Name(RepositoryName::parse("").unwrap_err()),
        Refusal::Expired { role, expires: time() },
        Refusal::ClockBehind { issued: time(), now: Timestamp::UNIX_EPOCH },
        Refusal::UnknownKernel(Box::new(kernel())),
        Refusal::WrongKernel { expected: "a".into(), actual: "b".into() },
        Refusal::Withdrawn(version()),
        Refusal::BelowLowest { version: version(), lowest: PatchVersion::parse("2.1").unwrap() },
        Refusal::NotAllowed(version()),
        Refusal::Signer { expected: "ab".into(), actual: "cd".into() },
        Refusal::ForeignModule {
            name: ModuleName::parse("cls_u32").unwrap(),
            expected: build_id(1),
            actual: build_id(2),
        },
    ]
}

#[test]
fn of_the_vendors_repository() {
    let (was, is) = (repository("debian-12-6.1"), repository("another"));
    let ours = [
        vendor::not_pinned(),
        vendor::state_unreadable(Path::new("/the/file"), "so it is"),
        vendor::state_missing(&was),
        vendor::root_unreadable(&Refusal::WrongKind(Kind::Vendor)),
        vendor::root_missing(&was),
        vendor::other_root(&was, &is),
        vendor::newer_root_pinned(&was, 3, 5),
        vendor::not_wanted(),
        vendor::behind(&was),
        vendor::unseen(&was),
    ];
    insta::assert_snapshot!(said(refusals().into_iter().map(Problem::from).chain(ours)), @r#"
    timestamp.json is longer than the 9 bytes that it may have (vendor-oversized)
    hint: the server or a mirror serves something else; tell its operator
    there are more keys than 9 (vendor-oversized)
    hint: the server or a mirror serves something else; tell its operator
    there are more new roots than 256 (vendor-oversized)
    hint: those that were taken are kept: `livepatch refresh` goes on from there
    timestamp.json does not parse: so it is (vendor-malformed)
    hint: the server or a mirror serves something else; tell its operator
    the metadata is of type "root" where timestamp is expected (vendor-malformed)
    hint: the server or a mirror serves something else; tell its operator
    format "2" is not one that this program reads (vendor-too-new)
    hint: upgrade the client
    the metadata requires "x", which this program does not understand (vendor-too-new)
    hint: upgrade the client
    the key 0101010101010101010101010101010101010101010101010101010101010101 has the id 0202020202020202020202020202020202020202020202020202020202020202 (vendor-bad-root)
    hint: the repository is not made as it must be; tell whoever publishes it
    the keys 0101010101010101010101010101010101010101010101010101010101010101 and 0202020202020202020202020202020202020202020202020202020202020202 are the same key (vendor-bad-root)
    hint: the repository is not made as it must be; tell whoever publishes it
    the role timestamp is wrong: so it is (vendor-bad-root)
    hint: the repository is not made as it must be; tell whoever publishes it
    the root does not have the roles of a vendor (vendor-bad-root)
    hint: the repository is not made as it must be; tell whoever publishes it
    the root is that of repository b, not of a (vendor-other-repository)
    hint: the server serves another vendor's repository than the one that is pinned here; tell its operator
    1 of the 2 signatures that the role timestamp needs are valid (vendor-threshold)
    hint: the server or a mirror serves what the vendor did not sign so; tell its operator
    the timestamp metadata has version 3 where 2 is expected (vendor-mismatch)
    hint: the server or a mirror serves old files: wait for it to catch up, or ask its operator
    the timestamp metadata has version 1, older than version 2 seen before (vendor-rollback)
    hint: the server or a mirror serves old files: wait for it to catch up, or ask its operator
    the timestamp metadata of version 2 has SHA-256 0202020202020202020202020202020202020202020202020202020202020202, and the one seen before had 0101010101010101010101010101010101010101010101010101010101010101 (vendor-split-view)
    hint: two files were signed as one version: tell whoever holds the repository's online keys, for one may be stolen
    timestamp.json has 2 bytes where 1 were signed (vendor-mismatch)
    hint: `livepatch refresh` fetches it again; if it stays so, tell the server's operator
    timestamp.json has SHA-256 0202020202020202020202020202020202020202020202020202020202020202 where 0101010101010101010101010101010101010101010101010101010101010101 was signed (vendor-mismatch)
    hint: `livepatch refresh` fetches it again; if it stays so, tell the server's operator
    timestamp.json is missing (vendor-mismatch)
    hint: `livepatch refresh` fetches it again; if it stays so, tell the server's operator
    the targets delegate to 1 other roles; a vendor's repository has no delegations (vendor-malformed)
    hint: the repository is not made as it must be; tell whoever publishes it
    "" is not a repository name: 1 to 64 lower-case letters, digits and inner . - _ may stand in it (vendor-malformed)
    hint: the repository is not made as it must be; tell whoever publishes it
    the timestamp metadata expired at 2026-11-24T12:00:00Z (vendor-expired)
    hint: nothing new is installed and what runs stays; the publisher must renew the metadata
    the clock here says 1970-01-01T00:00:00Z, but metadata was signed at 2026-11-24T12:00:00Z (clock-behind)
    hint: set this host's clock (`date -u`), then `livepatch refresh`
    the vendor allows nothing for kernel 6.1.0-50-amd64 (build-id 0101010101010101010101010101010101010101, amd64) (vendor-unknown-kernel)
    hint: `livepatch doctor` says which kernels get livepatches here
    this is for kernel b, not for a (vendor-wrong-kernel)
    hint: the server or a cache in between mixes up kernels; tell its operator
    the vendor withdrew livepatch 1.2 (withdrawn-livepatch)
    hint: the server offers what the vendor does not allow; tell its operator
    livepatch 1.2 is below 2.1, the lowest that the vendor allows (vendor-not-allowed)
    hint: the server offers what the vendor does not allow; tell its operator
    the vendor does not allow livepatch 1.2 for this kernel (vendor-not-allowed)
    hint: the server offers what the vendor does not allow; tell its operator
    the module is signed by key cd, where the vendor names ab (vendor-wrong-signer)
    hint: the server or a mirror serves what the vendor did not sign so; tell its operator
    the module cls_u32 here has build-id 0202020202020202020202020202020202020202, where the livepatch is for 0101010101010101010101010101010101010101 (foreign-module)
    hint: the livepatch is for the distribution's module; unload the other one
    no root of the vendor's is pinned on this host (vendor-not-pinned)
    hint: nothing is to be done; the certificate in vendor.pem counts
    cannot use /the/file: so it is (trust-state-unreadable)
    hint: `livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays
    what was seen of the vendor's repository debian-12-6.1 is lost (trust-state-missing)
    hint: `livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays
    vendor-root.json in the trust directory: the root does not have the roles of a vendor (trust-unreadable)
    hint: put the vendor's metadata/1.root.json there
    vendor-root.json is gone, and this host is held to the vendor's repository debian-12-6.1 (vendor-root-missing)
    hint: put the file back into the trust directory
    hint: or `livepatch trust reset`: from then on the vendor's certificate alone counts
    vendor-root.json is that of repository another, and this host is held to debian-12-6.1 (vendor-other-repository)
    hint: `livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays
    vendor-root.json is version 5 of debian-12-6.1, which does not follow from version 3, the last that was seen (vendor-root-newer-pinned)
    hint: `livepatch refresh` fetches those in between; if it stays so, the server or a mirror holds them back: tell its operator
    hint: or `livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays
    no file of the vendor's repository is wanted (metadata-not-wanted)
    hint: the next check begins anew
    the operator names newer metadata of the vendor's repository debian-12-6.1 than was seen (vendor-behind)
    hint: `livepatch refresh` fetches it; if it stays so, the server or a mirror is behind
    the vendor's repository debian-12-6.1 was not asked about this kernel yet (vendor-unseen)
    hint: `livepatch refresh` asks; the server must serve the repository that is pinned here
    "#);
}

#[test]
fn of_the_operators_root() {
    let (was, is) = (repository("example-fleet"), repository("another"));
    let ours = [
        operator::root_unreadable(&Refusal::WrongKind(Kind::Operator)),
        operator::root_missing(&was),
        operator::other_root(&was, &is),
        operator::newer_root_pinned(&was, 3, 5),
        operator::root_not_pinned(),
        operator::of_the_operator(Refusal::BadRole { role: Role::Documents, why: operator::ONE_SIGNATURE }),
        trust::missing(Path::new("/the/file"), &io_error()),
        trust::unreadable(Path::new("/the/file"), &io_error()),
        trust::wrong("operator.pub", &"so it is"),
    ];
    insta::assert_snapshot!(said(refusals().into_iter().map(operator::of_the_operator).chain(ours)), @r#"
    the operator's root: timestamp.json is longer than the 9 bytes that it may have (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: there are more keys than 9 (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: there are more new roots than 256 (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: timestamp.json does not parse: so it is (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the metadata is of type "root" where timestamp is expected (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: format "2" is not one that this program reads (operator-too-new)
    hint: upgrade the client
    the operator's root: the metadata requires "x", which this program does not understand (operator-too-new)
    hint: upgrade the client
    the operator's root: the key 0101010101010101010101010101010101010101010101010101010101010101 has the id 0202020202020202020202020202020202020202020202020202020202020202 (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the keys 0101010101010101010101010101010101010101010101010101010101010101 and 0202020202020202020202020202020202020202020202020202020202020202 are the same key (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the role timestamp is wrong: so it is (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the root does not have the roles of a vendor (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the root is that of repository b, not of a (operator-other-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: 1 of the 2 signatures that the role timestamp needs are valid (operator-threshold)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the timestamp metadata has version 3 where 2 is expected (operator-root-gap)
    hint: the server leaves out a root in between; tell its operator
    the operator's root: the timestamp metadata has version 1, older than version 2 seen before (operator-rollback)
    hint: the server serves an old root; tell its operator
    the operator's root: the timestamp metadata of version 2 has SHA-256 0202020202020202020202020202020202020202020202020202020202020202, and the one seen before had 0101010101010101010101010101010101010101010101010101010101010101 (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: timestamp.json has 2 bytes where 1 were signed (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: timestamp.json has SHA-256 0202020202020202020202020202020202020202020202020202020202020202 where 0101010101010101010101010101010101010101010101010101010101010101 was signed (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: timestamp.json is missing (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the targets delegate to 1 other roles; a vendor's repository has no delegations (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: "" is not a repository name: 1 to 64 lower-case letters, digits and inner . - _ may stand in it (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the timestamp metadata expired at 2026-11-24T12:00:00Z (operator-expired)
    hint: the operator must sign a new root (`livepatch-build trust renew`); check this host's clock too (`date -u`)
    the operator's root: the clock here says 1970-01-01T00:00:00Z, but metadata was signed at 2026-11-24T12:00:00Z (clock-behind)
    hint: set this host's clock (`date -u`), then `livepatch refresh`
    the operator's root: the vendor allows nothing for kernel 6.1.0-50-amd64 (build-id 0101010101010101010101010101010101010101, amd64) (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: this is for kernel b, not for a (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the vendor withdrew livepatch 1.2 (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: livepatch 1.2 is below 2.1, the lowest that the vendor allows (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the vendor does not allow livepatch 1.2 for this kernel (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the module is signed by key cd, where the vendor names ab (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    the operator's root: the module cls_u32 here has build-id 0202020202020202020202020202020202020202, where the livepatch is for 0101010101010101010101010101010101010101 (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    operator-root.json in the trust directory: the root does not have the roles of an operator (trust-unreadable)
    hint: put the operator's metadata/1.root.json there
    operator-root.json is gone, and this host is held to example-fleet (operator-root-missing)
    hint: put the file back into the trust directory
    hint: or `livepatch trust reset`: from then on the key in operator.pub alone counts
    operator-root.json is that of another, and this host is held to example-fleet (operator-other-root)
    hint: `livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays
    operator-root.json is version 5 of example-fleet, which does not follow from version 3, the last that was seen (operator-root-newer-pinned)
    hint: `livepatch refresh` fetches those in between; if it stays so, the server holds them back: tell its operator
    hint: or `livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays
    no root of the operator's is pinned on this host (operator-root-not-pinned)
    hint: nothing is to be done; the key in operator.pub counts
    the operator's root: the role documents is wrong: one signature must do, for envelopes have one (operator-bad-root)
    hint: the server serves another root than the operator signed; tell its operator
    cannot read /the/file: so it is (trust-missing)
    hint: install operator.pub and vendor.pem, then `livepatch refresh`
    cannot read /the/file: so it is (trust-unreadable)
    hint: make it a file that root can read
    operator.pub in the trust directory: so it is (trust-unreadable)
    hint: install operator.pub and vendor.pem, then `livepatch refresh`
    "#);
}

#[test]
fn of_the_transparency_log() {
    let refusals = [
        LogRefusal::OtherSigner { expected: "a".into(), signers: "b".into() },
        LogRefusal::BadSignature("a".into()),
        LogRefusal::WrongOrigin { expected: "a".into(), actual: "b".into() },
        LogRefusal::Shrunk { seen: 2, offered: 1 },
        LogRefusal::SplitView(2),
        LogRefusal::Inconsistent { seen: 1, offered: 2 },
        LogRefusal::ProofLength { expected: 1, actual: 2 },
        LogRefusal::NotIncluded { index: 1, size: 2 },
        LogRefusal::NotInTree { index: 2, size: 1 },
        LogRefusal::NotABundle(1),
        LogRefusal::Proof("so it is"),
    ];
    let ours = [
        log::not_pinned(),
        log::bad_key(&LogRefusal::KeyName),
        log::bad_proof(&serde_json::from_str::<u8>("").unwrap_err()),
        log::not_proven(version()),
        log::other_bundle(&kernel()),
        log::key_missing("log.example/fleet"),
        log::without_proof(version()),
    ];
    insta::assert_snapshot!(said(refusals.into_iter().map(log::of_the_log).chain(ours)), @"
    the transparency log: the checkpoint is not signed by the key of a; its signers are b (log-wrong-signer)
    hint: compare log.vkey in the trust directory with that of the server's operator; if it is theirs, tell those who watch the log
    the transparency log: the signature of a does not match the checkpoint: it was changed after signing, or forged (log-wrong-signer)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    the transparency log: the checkpoint is of the log b, not of a (log-other)
    hint: compare log.vkey in the trust directory with that of the server's operator; if it is theirs, tell those who watch the log
    the transparency log: the log has 1 entries, fewer than the 2 seen before: it took something back (log-shrunk)
    hint: the server serves another log than the one that this host saw; tell its operator and those who watch the log
    the transparency log: the log shows another head for its 2 entries than the one seen before: it is not the same for all (log-split-view)
    hint: the server serves another log than the one that this host saw; tell its operator and those who watch the log
    the transparency log: the log of 2 entries did not grow out of the one of 1 seen before: an entry was changed (log-inconsistent)
    hint: the server serves another log than the one that this host saw; tell its operator and those who watch the log
    the transparency log: the proof has 2 hashes where 1 are right (log-inconsistent)
    hint: the server serves another log than the one that this host saw; tell its operator and those who watch the log
    the transparency log: this is not entry 1 of the log of 2 entries: entry or proof is forged (log-not-included)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    the transparency log: entry 2 cannot be in a log of 1 entries (log-not-included)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    the transparency log: entry 1 is in the log, but it is not about a bundle (log-bad-proof)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    the transparency log: the proof does not parse: so it is (log-bad-proof)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    no key of a transparency log is pinned on this host (log-not-pinned)
    hint: nothing is to be done; proofs are not asked for
    log.vkey in the trust directory: the name of a log is 1 to 255 bytes without white space, control characters and `+` (trust-unreadable)
    hint: put the log.vkey of the server's operator there
    the proof: EOF while parsing a value at line 1 column 0 (log-bad-proof)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    livepatch 1.2 was not proven to be in the transparency log (log-not-proven)
    hint: `livepatch refresh` asks for the proof; if the server has none, tell its operator and those who watch the log
    the proof is for a livepatch for 6.1.0-50-amd64 (build-id 0101010101010101010101010101010101010101) (log-other-bundle)
    hint: the server's proof does not hold; tell its operator and those who watch the log
    log.vkey is gone, and this host is held to the transparency log log.example/fleet (log-key-missing)
    hint: put the file back into the trust directory
    hint: or `livepatch trust reset`: from then on no log is asked
    the bundle does not carry the proof that livepatch 1.2 is in the transparency log (bundle-without-proof)
    hint: get the bundle with its proof: `livepatch-build trust attach --logged` adds it
    ");
}

#[test]
fn of_the_kernel() {
    let module = |name| ModuleName::parse(name).unwrap();
    let name = || module("livepatch_1_2");
    let errno = rustix::io::Errno::BUSY;
    let path = || "/sys/x".into();
    let kernel = [
        KernelError::File { action: "read", path: path(), source: io_error() },
        KernelError::Content { path: path(), why: why() },
        KernelError::Architecture("aarch64".into()),
        KernelError::NoLivepatching,
        KernelError::NoSuchLivepatch(name()),
        KernelError::LivepatchBusy { action: "disable", name: name(), errno },
        KernelError::NoSuchModule(name()),
        KernelError::ModuleInUse(name()),
        KernelError::Unload { name: name(), errno },
    ];
    let loading = [
        LoadRefusal::Unsigned,
        LoadRefusal::UntrustedKey,
        LoadRefusal::SignatureMismatch,
        LoadRefusal::ModulesDisabled,
        LoadRefusal::LockedDown,
        LoadRefusal::NotPermitted,
        LoadRefusal::NotAModule,
        LoadRefusal::AlreadyLoaded,
        LoadRefusal::FtraceOff,
        LoadRefusal::Busy,
        LoadRefusal::DoesNotFit,
        LoadRefusal::UnknownSymbol,
        LoadRefusal::NoMemory,
        LoadRefusal::BadSignatureFormat,
        LoadRefusal::OpenForWriting,
        LoadRefusal::Unsupported,
    ];
    let loading = loading.map(LoadError::Refused).into_iter().chain([LoadError::Unexpected(errno)]);
    let all = kernel.map(Problem::from).into_iter().chain(loading.map(Problem::from));
    let ours = [
        plan::foreign_problem(Foreign::Livepatch(&name())),
        plan::foreign_problem(Foreign::Livepatch(&module("kpatch_5_1"))),
        plan::foreign_problem(Foreign::Product(&module("kcare"), "KernelCare")),
        execute::stuck(&name()),
        execute::still_in_use(&name(), Duration::from_secs(60), &["make (pid 1)".into()]),
        loader::nothing_to_revert(),
        loader::no_progress(),
    ];
    insta::assert_snapshot!(said(all.chain(ours)), @"
    cannot read /sys/x: so it is (kernel-unreadable)
    hint: run the daemon on the host, with /proc and /sys as the kernel shows them
    /sys/x does not hold what is expected: so it is (kernel-unreadable)
    hint: run the daemon on the host, with /proc and /sys as the kernel shows them
    the architecture of this kernel is aarch64, and livepatches exist for x86_64 only (unsupported-architecture)
    hint: keep the kernel up to date with its package, and reboot
    this kernel has no livepatching (CONFIG_LIVEPATCH): /sys/kernel/livepatch is missing (unsupported-kernel)
    hint: boot a kernel of the distribution, built with CONFIG_LIVEPATCH=y
    the kernel has no livepatch livepatch_1_2 (livepatch-gone)
    hint: find out who else unloads livepatches on this host; `livepatch apply` goes on
    the kernel refuses to disable livepatch livepatch_1_2 now: Device or resource busy (os error 16) (kernel-busy)
    hint: see /sys/kernel/livepatch/*/transition; the next check tries again
    module livepatch_1_2 is not loaded (livepatch-gone)
    hint: find out who else unloads livepatches on this host; `livepatch apply` goes on
    module livepatch_1_2 is in use (module-in-use)
    hint: `lsmod` says what uses it; the next check tries again
    the kernel refuses to unload module livepatch_1_2: Device or resource busy (os error 16) (module-in-use)
    hint: `lsmod` says what uses it; the next check tries again
    the module is not signed, and the kernel takes signed ones only (kernel-unsigned-module)
    hint: a livepatch is signed by its vendor before it is published; sign this one
    the kernel does not trust the key that signed the module (kernel-untrusted-key)
    hint: `sudo livepatch secure-boot status` says which keys the kernel takes, `sudo livepatch secure-boot enroll` imports the vendor's; then reboot once and confirm
    the kernel knows the key of the module's signature, but the signature does not match the module (kernel-signature-mismatch)
    hint: the download was checked before: see in `sudo livepatch secure-boot status` whether the key is revoked, else report this with the patch version
    module loading is switched off until the next boot (kernel.modules_disabled=1) (modules-disabled)
    hint: remove kernel.modules_disabled=1 from the sysctl configuration and reboot
    the kernel is locked down and does not trust the key that signed the module (kernel-locked-down)
    hint: import the vendor's certificate (`sudo livepatch secure-boot enroll`), then reboot once and confirm; or boot without lockdown=
    this process may not load modules (load-not-permitted)
    hint: run the daemon as root with CAP_SYS_MODULE, outside a container
    the kernel does not take the file for a module of its own kind (not-a-module)
    hint: the module was made for another kind of kernel; report it with the patch version and `uname -a`
    a module of that name is loaded already (already-loaded)
    hint: see `lsmod` and /sys/kernel/livepatch; `livepatch refresh` looks again
    ftrace is switched off (kernel.ftrace_enabled=0), and the kernel redirects functions through it (ftrace-off)
    hint: `sysctl kernel.ftrace_enabled=1`, and look for what sets it in /etc/sysctl.d
    the kernel cannot redirect a function now: another livepatch is in transition or another tool redirects it (kernel-busy)
    hint: see /sys/kernel/livepatch/*/transition, and tools that change functions through kprobes or ftrace
    the kernel finds that the livepatch does not fit it: a symbol is missing or ambiguous, or a state is incompatible (does-not-fit)
    hint: the kernel's log (`dmesg`) names the symbol or the state that does not fit; report it
    the module needs a symbol that this kernel does not have (unknown-symbol)
    hint: the kernel's log (`dmesg`) names the missing symbol; report it
    the kernel has no memory for the module (kernel-no-memory)
    hint: free memory, then `livepatch refresh`
    the module's signature is not a signature that the kernel can read (bad-signature-format)
    hint: the module passed the client's own checks; report it with the patch version and `uname -a`
    the module's file is open for writing (open-for-writing)
    hint: stop what writes to the file, then `livepatch refresh`
    the kernel cannot load modules or livepatches (kernel-unsupported)
    hint: this kernel cannot be livepatched; boot one built with CONFIG_LIVEPATCH
    the kernel refused the module: Device or resource busy (os error 16) (load-failed)
    hint: see the kernel's log (`dmesg`)
    livepatch livepatch_1_2 was loaded by somebody else, and applying ours would disable it (foreign-livepatch)
    hint: find out who loads it (kpatch, another client); after its removal `livepatch apply` goes on
    livepatch kpatch_5_1 was loaded by somebody else, and applying ours would disable it (foreign-livepatch)
    hint: one of the two: remove kpatch and its patches, then `livepatch apply` goes on
    this kernel is patched by KernelCare (module kcare), and one function cannot have two fixes (foreign-livepatch)
    hint: one of the two: remove KernelCare and its patches, then `livepatch apply` goes on
    the kernel moves its tasks to or from livepatch_1_2 and does not come to an end (transition-stuck)
    hint: see /sys/kernel/livepatch and /proc/*/patch_state; a reboot ends it for certain
    livepatch_1_2 was not out of use everywhere after 60 s; it stays applied (transition-stalled)
    hint: a task sleeps in a replaced function; try again later, or reboot
    hint: it was held up by make (pid 1)
    no livepatch of ours is applied (nothing-to-revert)
    hint: `livepatch status` shows what runs, `livepatch locks list` what is held back
    the kernel does not come to rest (no-progress)
    hint: the loader's log says what was tried: `journalctl -u livepatch-loader`
    ");
}

#[test]
fn of_requests_and_the_state() {
    let short = requests::read_exactly(&mut &b"abc"[..], 9).unwrap_err();
    let path = Path::new("/the/file");
    let ours = [
        short,
        loader::busy(),
        loader::not_enabled(),
        state::unreadable(path, "so it is"),
        state::missing(path),
        state::state_set_aside(&state::missing(path)),
        state::not_written(path, &io_error()),
        state::not_written(path, &state::write_capped(path, b"abc", 2, &Unwatched).unwrap_err()),
        state::too_many_withdrawn(1025),
        state::full(3_145_729),
    ];
    insta::assert_snapshot!(said(ours), @"
    the request cannot be read: it ends after 3 of 9 bytes (bad-request)
    hint: say it again; client and loader may differ in version: restart both
    a command of root goes first (loader-busy)
    hint: it is tried again by itself
    this host is not enrolled (not-enabled)
    hint: `livepatch enable --token-file FILE` enrols it
    cannot use /the/file: so it is (state-unreadable)
    hint: `livepatch trust reset` sets it aside and begins anew (docs/trust-reset.md); a livepatch that runs stays
    /the/file is gone, and this host had one (state-missing)
    hint: `livepatch trust reset` sets it aside and begins anew (docs/trust-reset.md); a livepatch that runs stays
    /the/file is gone, and this host had one; it is set aside, and this host is not enrolled any more (state-set-aside)
    hint: `livepatch disable`, then `livepatch enable --token-file FILE` enrols it; a livepatch that runs stays until the next boot
    cannot write /the/file: so it is (state-not-written)
    hint: the loader needs its state directory: free space, mount it writable, run as root
    cannot write /the/file: it would have 3 bytes where 2 are allowed (state-not-written)
    hint: the loader needs its state directory: free space, mount it writable, run as root
    with this document 1025 livepatches of this kernel are withdrawn where 1024 are remembered (document-withdraws-too-many)
    hint: tell the server's operator: their key may be stolen; what it said ends when they take it away (docs/trust.md)
    with this document the loader's state has 3145729 bytes where 3145728 are kept for documents (state-full)
    hint: tell the server's operator: their key may be stolen; what it said ends when they take it away (docs/trust.md)
    ");
}

#[test]
fn of_a_host_that_went_down() {
    let blocked = |phase, retry| Blocked {
        version: version(),
        build_id: kernel().build_id,
        phase,
        at: Some(time()),
        record: None,
        retry,
        complaint: None,
    };
    let never = |phase| blocked(phase, Retry::Never);
    let all = [
        never(Phase::Inserting),
        never(Phase::Transition),
        never(Phase::Reverting),
        blocked(Phase::Soaking, Retry::AfterIssued(time())),
        Blocked { record: Some("/var/lib/systemd/pstore/1".into()), ..never(Phase::Soaking) },
        Blocked { complaint: Some("BUG: it is so".into()), ..never(Phase::Soaking) },
    ];
    let transition = Problem::from(Stage::Absent.next(StageEvent::Panicked).unwrap_err());
    insta::assert_snapshot!(said(all.iter().map(guard::crash_problem).chain([transition])), @"
    this host went down while livepatch 1.2 was being inserted; it is not applied again by itself (crash-guard)
    hint: look for a panic in the logs of the boot before (pstore, kdump)
    hint: `livepatch apply` clears this and applies it once more
    this host went down while livepatch 1.2 was in transition; it is not applied again by itself (crash-guard)
    hint: look for a panic in the logs of the boot before (pstore, kdump)
    hint: `livepatch apply` clears this and applies it once more
    this host went down while livepatch 1.2 was being reverted; it is not applied again by itself (crash-guard)
    hint: look for a panic in the logs of the boot before (pstore, kdump)
    hint: `livepatch apply` clears this and applies it once more
    this host went down while livepatch 1.2 was in force for less than its soak; it waits for the operator (crash-guard-waits)
    hint: nothing says that the kernel panicked; a document that is issued after 2026-11-24 12:00 UTC and still names it brings it back, once
    hint: `livepatch apply` clears this and applies it once more
    this host went down while livepatch 1.2 was in force for less than its soak; it is not applied again by itself (crash-guard)
    hint: the kernel panicked: read /var/lib/systemd/pstore/1, and tell the operator
    hint: `livepatch apply` clears this and applies it once more
    the kernel complained of livepatch 1.2; it is not applied again by itself (kernel-complained)
    hint: the kernel's log says: BUG: it is so
    hint: report it with that part of the log (`dmesg`); another version is applied all the same
    hint: `livepatch locks clear` forgets it, `livepatch revert` takes it out of force
    a livepatch that is absent cannot be panicked (guard-transition)
    hint: tell the developers; `livepatch locks list` shows it
    ");
}

#[test]
fn of_a_transition_that_stalled() {
    let stalled = |times, holders: &[String]| Stalled {
        version: version(),
        build_id: kernel().build_id,
        boot_id: "1".into(),
        times,
        at: time(),
        holders: holders.to_vec(),
    };
    let holders = holders(&Tasks);
    let held = State { held: Some(version()), ..State::default() };
    let held = crate::locks::locks(&held, &kernel().build_id, "1").remove(0);
    insta::assert_snapshot!([vec![held.message], held.hints].concat().join("\n"), @"
    livepatch 1.2 was reverted here, and is held back
    `livepatch apply` clears this and applies it
    ");
    let all = [stalled(1, &[]), stalled(2, &holders), stalled(8, &[])];
    let unreachable = AskError::from(io_error());
    let observer = [observer::unreachable_problem(&unreachable)];
    insta::assert_snapshot!(said(all.iter().map(plan::stalled_problem).chain(observer)), @"
    livepatch 1.2 was not in force everywhere in time, 1 time so far; it was cancelled and unloaded (transition-stalled)
    hint: it is tried again with the first check after 2026-11-24 13:00 UTC; `livepatch apply` tries at once
    hint: a task sleeps in a function that is replaced: see /proc/*/patch_state during the next try
    livepatch 1.2 was not in force everywhere in time, 2 times so far; it was cancelled and unloaded (transition-stalled)
    hint: it is tried again with the first check after 2026-11-24 14:00 UTC; `livepatch apply` tries at once
    hint: it was held up by make (pid 7, thread 8): schedule < do_wait
    hint: it was held up by make (pid 7, thread 9): its stack is not known
    hint: it was held up by make (pid 7, thread 10): its stack is not known
    hint: it was held up by make (pid 7, thread 11): its stack is not known
    hint: it was held up by 3 more
    livepatch 1.2 was not in force everywhere in time, 8 times so far; it was cancelled and unloaded (stalled-too-often)
    hint: it is not tried again by itself until the next boot; `livepatch apply` tries at once
    hint: a task sleeps in a function that is replaced: see /proc/*/patch_state during the next try
    nobody tells what the kernel's log says of livepatches: so it is (observer-unreachable)
    hint: `systemctl status livepatch-observer` says whether it runs; all else goes on without it
    ");
}

#[test]
fn of_a_module_that_is_kept_out() {
    let refused = |livepatch, module| RefusedModule {
        sequence: 1,
        livepatch: ModuleName::parse(livepatch).unwrap(),
        module: ModuleName::parse(module).unwrap(),
    };
    let all = [refused("livepatch_1_2", "cls_u32")];
    insta::assert_snapshot!(said(all.iter().map(observer::refused_problem)), @"
    the kernel keeps out module cls_u32: livepatch 1.2 is for the module of that name and did not go onto this one (module-refused)
    hint: `modinfo cls_u32` says which file it is; one that is not of the kernel's package (dkms, a driver of somebody else) cannot be loaded beside this livepatch
    hint: if it is of the kernel's package: `livepatch revert`, `modprobe cls_u32`, `livepatch apply` (before Linux 6.3 a livepatch goes onto a module once)
    ");
}

/// An observer that sees five tasks.
struct Tasks;

impl Observer for Tasks {
    fn seen(&self, _: u64) -> Result<Seen, AskError> {
        Err(AskError::Answer(why()))
    }

    fn wait(&self, _: u64) -> Result<Seen, AskError> {
        Err(AskError::Answer(why()))
    }

    fn stall(&self) -> Result<Stall, AskError> {
        let stacks = [&["schedule", "do_wait"][..], &[], &[], &[], &[]];
        let holder = |(at, stack): (usize, &[&str])| Holder {
            process: 7,
            thread: 8 + at as u32,
            name: "make".into(),
            stack: stack.iter().map(|function| (*function).to_owned()).collect(),
        };
        let holders = stacks.into_iter().enumerate().map(holder).collect();
        Ok(Stall { livepatches: vec![], holders, more: 2 })
    }
}
