//! What is published: built once for all tests of this program.

use std::sync::OnceLock;

use livepatch_build::keygen;
use livepatch_build::pipeline::{LivepatchRequest, Omissions, PatchRequest, build};
use livepatch_build::signing::{FileSigner, sign_bundle};
use livepatch_manifest::{Bundle, CveEntry, PatchManifest};
use livepatch_tests::{carved_patch, kernel_request};
use livepatch_types::{BuildId, Clock as _, CveCoverage, CveId, PatchVersion, Rating, SystemClock};
use livepatch_vm::testing::FetchedKernel;

/// The fixes of demo.toml.
pub(crate) const FIXES: [&str; 2] = ["CVE-2026-93146", "CVE-2026-74544"];

/// One who signs.
pub(crate) struct Vendor {
    signer: FileSigner,
    pub(crate) certificate_pem: Vec<u8>,
    /// The same, as firmware takes it.
    pub(crate) certificate_der: Vec<u8>,
}

impl Vendor {
    pub(crate) fn new(name: &str) -> Self {
        let pair = keygen::generate(name, 2048, SystemClock.now()).unwrap();
        let signer = FileSigner::new(&pair.key_pem, &pair.certificate_pem).unwrap();
        Self { signer, certificate_pem: pair.certificate_pem, certificate_der: pair.certificate_der }
    }

    pub(crate) fn sign(&self, bundle: Bundle) -> Bundle {
        sign_bundle(bundle, &self.signer).unwrap()
    }
}

/// Both fixes in two versions, not signed, and who signs.
pub(crate) struct Patches {
    pub(crate) vendor: Vendor,
    pub(crate) first: Bundle,
    pub(crate) second: Bundle,
}

/// What is built for a kernel.
pub(crate) fn patches(kernel: &FetchedKernel) -> &'static Patches {
    static PATCHES: OnceLock<Patches> = OnceLock::new();
    PATCHES.get_or_init(|| Patches {
        vendor: Vendor::new("vendor"),
        first: version(kernel, "1.1"),
        second: version(kernel, "2.1"),
    })
}

pub(crate) fn version(kernel: &FetchedKernel, version: &str) -> Bundle {
    let (patches, livepatch) = requests(kernel, version, &FIXES);
    build(&kernel_request(kernel), &patches, &livepatch, &SystemClock, &|_| ()).unwrap().bundle
}

/// Some of the fixes, as a version.
pub(crate) fn requests(
    kernel: &FetchedKernel,
    version: &str,
    fixes: &[&str],
) -> (PatchRequest, LivepatchRequest) {
    let entry = |id: &&str| CveEntry {
        id: CveId::parse(id).unwrap(),
        coverage: CveCoverage::Whole,
        rating: Rating::High,
        title: format!("the fix of {id}"),
    };
    let patches = fixes.iter().map(|cve| carved_patch(kernel, cve)).collect();
    let livepatch = LivepatchRequest {
        cves: fixes.iter().map(entry).collect(),
        version: PatchVersion::parse(version).unwrap(),
        omissions: Omissions::MustBeArgued,
        keep_debug: false,
    };
    (PatchRequest { patches, arguments: Vec::new() }, livepatch)
}

/// The same bundle with another module, as somebody might make it.
pub(crate) fn with_module(bundle: &Bundle, module: Vec<u8>) -> Bundle {
    let mut manifest: PatchManifest = bundle.manifest.clone();
    manifest.module.sha256 = livepatch_manifest::sha256(&module);
    manifest.module.size_bytes = module.len() as u64;
    Bundle::new(manifest, module, None).unwrap()
}

/// The same bundle for a kernel with another build-id.
pub(crate) fn for_build_id(bundle: &Bundle, build_id: &BuildId) -> Bundle {
    let mut manifest = bundle.manifest.clone();
    manifest.kernel.build_id = build_id.clone();
    Bundle::new(manifest, bundle.module.clone(), None).unwrap()
}

/// Replaces bytes by as many others, everywhere.
pub(crate) fn replaced(bytes: &[u8], old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) -> Vec<u8> {
    let (old, new) = (old.as_ref(), new.as_ref());
    assert_eq!(old.len(), new.len());
    let places = bytes.windows(old.len()).enumerate().filter(|(_, at)| *at == old);
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(!places.is_empty(), "{old:x?} is not in it");
    let mut bytes = bytes.to_vec();
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    bytes
}
