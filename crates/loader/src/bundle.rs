//! A bundle that root brings to a host without a server: root stands in for the operator, and says that it is wanted
//! now. All else is as ever: the vendor's root decides, from the metadata inside.

use std::io::Read;
use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};
use livepatch_kernel::SealedModule;
use livepatch_manifest::bundle::Sections;
use livepatch_manifest::{BundleError, KernelDocument, PatchManifest, Target, VendorFiles, sha256};
use livepatch_modsig::{Certificate, VerifyError, verify_detached};
use livepatch_settings::Asker;
use livepatch_transparency::BundleEvent;
use livepatch_types::{KernelIdentity, PatchVersion, Tier};

use crate::loader::Brought;
use crate::requests::read_exactly;
use crate::state::Channel;
use crate::vendor::problems::OTHER_IS_SERVED;
use crate::{Loader, Problem, plan};

/// How long what root says counts: for the application that follows at once.
const ROOTS_WORD: SignedDuration = SignedDuration::from_hours(1);

const AGAIN: &str = "get the bundle again from whoever made it, by a way that you trust";
const NEWER: &str =
    "get the vendor's newest bundle for this kernel (`livepatch-build trust attach` makes it)";

/// What a bundle offers, whose manifest the vendor signed.
#[derive(Debug)]
struct Offer<'b> {
    manifest: PatchManifest,
    module: &'b [u8],
    files: VendorFiles,
    /// What must stand in the log of it.
    published: BundleEvent,
    /// The proof that it does.
    logged: Option<&'b [u8]>,
}

impl Loader {
    /// Root: applies the livepatch of a bundle of so many bytes that are still to be read. What was held back, stalled or
    /// blocked is tried again.
    pub fn apply_bundle(&self, bytes: u32, source: &mut dyn Read) -> Result<(), Problem> {
        let _supply = self.supply.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let bundle = read_exactly(source, bytes)?;
        let _work = self.lock_for_root();
        if self.store.get().channel != Channel::Closed {
            return Err(host_enabled());
        }
        let (kernel, now) = (self.kernel.identity()?, self.clock.now());
        let offer = Offer::open(&bundle, &kernel, &self.trust.vendor()?)?;
        self.take_carried(&offer.files, &kernel).map_err(of_a_bundle)?;
        let document = offer.document(now)?;
        let version = offer.manifest.version;
        let logged = self.take_carried_proof(offer.logged, &offer.published).map_err(of_a_bundle);
        let allowed = logged.and_then(|()| self.is_allowed(&kernel, &document, now));
        if allowed.is_ok() {
            self.forget_locks(&kernel.build_id)?;
        }
        let module = SealedModule::from_reader(offer.module, offer.module.len() as u64)?;
        // Refused or not: what the metadata has withdrawn goes now.
        let done = self.go_on(Brought { module: Some(&module), document: Some(&document) });
        allowed.and(done.map_err(of_a_bundle))?;
        if plan::running(&self.observe()?, &self.store.get()) == Some(version) {
            return Ok(());
        }
        Err(not_applied(version))
    }

    /// What keeps it from being applied, whatever runs.
    fn is_allowed(
        &self,
        kernel: &KernelIdentity,
        document: &KernelDocument,
        now: Timestamp,
    ) -> Result<(), Problem> {
        self.verdict(kernel, Some(document)).install.map_err(of_a_bundle)?;
        let Some(target) = &document.target else { return Ok(()) };
        self.policy
            .permits(target, None, Asker::Root, now)
            .map_err(|waiting| held_by_policy(&waiting.message))
    }
}

impl<'b> Offer<'b> {
    /// Opens a bundle for this kernel: the signature first, then what it is over.
    fn open(bytes: &'b [u8], kernel: &KernelIdentity, vendor: &[Certificate]) -> Result<Self, Problem> {
        let sections = Sections::read(bytes)?;
        verify_detached(sections.manifest, sections.signature.ok_or_else(unsigned)?, vendor)
            .map_err(of_the_manifest)?;
        let manifest = PatchManifest::parse(sections.manifest)?;
        check_kernel(&manifest.kernel, kernel)?;
        manifest.module.check(sections.module).map_err(|error| Problem::new(error.code(), error, AGAIN))?;
        let files = VendorFiles::parse(sections.vendor.ok_or_else(without_metadata)?)?;
        let published = BundleEvent {
            name: manifest.version.module_name().to_string(),
            version: manifest.version,
            kernel: manifest.kernel.clone(),
            manifest_sha256: sha256(sections.manifest),
            module_sha256: manifest.module.sha256,
        };
        Ok(Self { manifest, module: sections.module, files, published, logged: sections.logged })
    }

    /// What the operator's document would be.
    fn document(&self, now: Timestamp) -> Result<KernelDocument, Problem> {
        let PatchManifest { version, kernel, module, cves, built, .. } = &self.manifest;
        let target = Target { version: *version, module: *module, cves: cves.clone(), released: *built };
        let channel = Tier::parse("bundle").map_err(|error| Problem::new("bad-bundle", error, AGAIN))?;
        Ok(KernelDocument {
            schema: 1,
            critical: vec![],
            kernel: kernel.clone(),
            channel,
            version: 0,
            issued: now,
            expires: now.checked_add(ROOTS_WORD).unwrap_or(Timestamp::MAX),
            poll_hint_seconds: None,
            target: Some(target),
            withdrawn: Vec::<PatchVersion>::new(),
            coverage: None,
            vendor: None,
        })
    }
}

/// The build-id decides, not the release.
pub(crate) fn check_kernel(offered: &KernelIdentity, running: &KernelIdentity) -> Result<(), Problem> {
    if (offered.architecture, &offered.build_id) == (running.architecture, &running.build_id) {
        return Ok(());
    }
    let text = |k: &KernelIdentity| format!("{} {} (build-id {})", k.release, k.architecture, k.build_id);
    let message = format!("the bundle is for kernel {}, and {} runs here", text(offered), text(running));
    let hint = "get the bundle for the kernel that runs here (`livepatch status` shows it)";
    Err(Problem::new("wrong-kernel", message, hint))
}

pub(crate) fn host_enabled() -> Problem {
    let message = "this host has a server, whose operator says what it gets";
    let hint = "`livepatch disable` first, or publish the bundle on the server";
    Problem::new("host-enabled", message, hint)
}

pub(crate) fn not_applied(version: PatchVersion) -> Problem {
    let hint = "the loader's log says why: `journalctl -u livepatch-loader`";
    Problem::new("not-applied", format!("livepatch {version} is not applied"), hint)
}

pub(crate) fn held_by_policy(why: &str) -> Problem {
    let hint = "the settings of this host say so: change them in /etc/livepatch/livepatch.toml";
    Problem::new("held-by-policy", why, hint)
}

pub(crate) fn unsigned() -> Problem {
    Problem::new("bundle-unsigned", "nobody signed the bundle", AGAIN)
}

pub(crate) fn without_metadata() -> Problem {
    let message = "the bundle does not carry what the vendor's repository says of this kernel";
    Problem::new("bundle-without-metadata", message, NEWER)
}

impl From<BundleError> for Problem {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Format(_) => Self::new("bundle-too-new", error, "upgrade the client"),
            _ => Self::new("bad-bundle", error, AGAIN),
        }
    }
}

pub(crate) fn of_the_manifest(error: VerifyError) -> Problem {
    let code = match &error {
        VerifyError::UnknownSigner { .. } => "wrong-signer",
        VerifyError::BadSignature { .. } => "bundle-tampered",
        VerifyError::Unsigned | VerifyError::Malformed(_) | VerifyError::Unsupported(_) => "bundle-unsigned",
    };
    let hint = if code == "wrong-signer" {
        "compare vendor.pem in the trust directory with the certificate of whoever signed it"
    } else {
        AGAIN
    };
    Problem::new(code, format!("the bundle is refused: {error}"), hint)
}

/// Refusals whose hints speak of servers.
pub(crate) fn of_a_bundle(problem: Problem) -> Problem {
    let hint = match problem.code {
        "vendor-rollback"
        | "vendor-expired"
        | "vendor-not-allowed"
        | "vendor-unknown-kernel"
        | "withdrawn-livepatch" => NEWER,
        "vendor-mismatch"
        | "vendor-oversized"
        | "vendor-malformed"
        | "vendor-threshold"
        | "vendor-bad-root"
        | "vendor-wrong-signer"
        | "vendor-wrong-kernel" => {
            "it is not what the vendor signed whose root is pinned here; get the bundle again, from them"
        }
        "vendor-other-repository" if problem.hints == [OTHER_IS_SERVED] => {
            "it carries another vendor's repository than the one that is pinned here; get the bundle of that one"
        }
        "log-wrong-signer" | "log-other" => {
            "bring log.vkey in the trust directory, and operator-root.json where it is pinned, up to those of the operator, whose new key signs the log, too; if they are the same, tell those who watch the log"
        }
        "log-bad-proof" | "log-not-included" | "log-inconsistent" | "log-other-bundle" | "log-split-view" => {
            "the proof in it does not hold: tell those who watch the log, and get the bundle again"
        }
        "wrong-kernel" | "wrong-module" => {
            "the bundle is of another kernel or wrongly made; get the one for this kernel (`uname -r`) from the vendor"
        }
        _ => return problem,
    };
    Problem { hints: vec![hint.to_owned()], ..problem }
}
