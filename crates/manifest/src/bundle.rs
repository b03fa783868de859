//! The bundle: one flat file, so that no archive library parses it and nothing in it becomes a path.
//!
//! ```text
//! offset  size  field (integers are little-endian)
//! 0       8     magic "LPBUNDLE"
//! 8       4     format version, 1
//! 12      4     number of sections, 2 to 8
//! 16      16·n  table: kind u32, reserved u32 (0), length in bytes u64; kinds strictly ascending
//! …             the sections, back to back, in the order of the table; the file ends with the last
//! ```
//!
//! Readers before section 7 (`vendor`) or 8 (`logged`) refuse a bundle that has it by its kind; one without them has the same
//! bytes as ever.

mod sections;

use crate::{ModuleObject, PatchManifest, PatchSources, VendorFiles, VmProof, sha256};

pub use sections::Sections;

const MAGIC: &[u8; 8] = b"LPBUNDLE";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;

/// Largest module that a bundle, a server or a host accepts, in bytes.
pub const MAX_MODULE_BYTES: u64 = 32 << 20;
/// Largest bundle, in bytes: all caps together.
pub const MAX_BUNDLE_BYTES: u64 = MAX_MODULE_BYTES + (14 << 20);

/// Kind, name and cap in bytes of each section. `manifest` and `module` must be there.
const SECTIONS: [(u32, &str, u64); 8] = [
    (1, "manifest", 256 << 10),
    (2, "module", MAX_MODULE_BYTES),
    (3, "signature", 16 << 10),
    (4, "report", 4 << 20),
    (5, "sources", MAX_SOURCES_BYTES),
    (6, "proof", MAX_PROOF_BYTES),
    (7, "vendor", MAX_VENDOR_BYTES),
    (8, "logged", MAX_LOGGED_BYTES),
];

/// Largest section of source patches, in bytes.
pub const MAX_SOURCES_BYTES: u64 = 4 << 20;
/// Largest proof, its kernel log included, in bytes.
pub const MAX_PROOF_BYTES: u64 = 1 << 20;
/// Largest section of the vendor's metadata, in bytes.
pub const MAX_VENDOR_BYTES: u64 = 4 << 20;
/// Largest proof that a bundle is in a transparency log, in bytes: `livepatch-transparency` reads no longer one.
pub const MAX_LOGGED_BYTES: u64 = 160 << 10;

/// Sections whose digests stand in the manifest.
const NAMED_IN_MANIFEST: [&str; 3] = ["report", "sources", "proof"];

/// Why bytes are not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle at all.
    #[error("not a livepatch bundle: the magic bytes are missing")]
    NotABundle,
    /// A later format.
    #[error("bundle format {0} is newer than this program, which reads format {FORMAT_VERSION}")]
    Format(u32),
    /// Fewer or more bytes than the header says.
    #[error("the bundle has {actual} bytes where its header says {declared}")]
    Length {
        /// Bytes that the header and table add up to.
        declared: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The table breaks a rule.
    #[error("the bundle's section table is wrong: {0}")]
    Table(String),
    /// The manifest does not parse.
    #[error("the bundle's manifest is wrong: {0}")]
    Manifest(String),
    /// A section is not the one that the manifest names.
    #[error("the bundle's {0} is not the one that its manifest names")]
    Section(&'static str),
    /// A part does not parse.
    #[error("the bundle's {0} does not parse: {1}")]
    Part(&'static str, String),
    /// The manifest names another module than the one inside.
    #[error("the bundle's module does not match its manifest: {0}")]
    Module(String),
}

/// A bundle's parts. `manifest_bytes` are exactly the signed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The manifest, parsed.
    pub manifest: PatchManifest,
    /// The manifest as it stands in the file: what the signature is over.
    pub manifest_bytes: Vec<u8>,
    /// The livepatch module, with its appended signature once signed.
    pub module: Vec<u8>,
    /// Detached CMS signature (DER) of the vendor over `manifest_bytes`; none before signing.
    pub signature: Option<Vec<u8>>,
    /// The build report (JSON); not interpreted here.
    pub report: Option<Vec<u8>>,
    /// The source patches (JSON, [`PatchSources`]).
    pub sources: Option<Vec<u8>>,
    /// What happened in a virtual machine (JSON, [`VmProof`]).
    pub proof: Option<Vec<u8>>,
    /// What the vendor's repository says of the kernel (JSON, [`VendorFiles`]). It is signed for itself, and newer than
    /// the manifest, which does not name it.
    pub vendor: Option<Vec<u8>>,
    /// That the bundle is in a transparency log (<https://c2sp.org/tlog-proof>); not interpreted here. It is signed for
    /// itself, too, and made after the manifest, which stands in the log.
    pub logged: Option<Vec<u8>>,
}

impl Bundle {
    /// Puts an unsigned bundle together and fixes the bytes of its manifest.
    pub fn new(
        manifest: PatchManifest,
        module: Vec<u8>,
        report: Option<Vec<u8>>,
    ) -> Result<Self, BundleError> {
        let bundle = Self {
            manifest,
            manifest_bytes: Vec::new(),
            module,
            signature: None,
            report,
            sources: None,
            proof: None,
            vendor: None,
            logged: None,
        };
        bundle.renewed()
    }

    /// The same with the source patches it was built from; not signed.
    pub fn with_sources(mut self, sources: &PatchSources) -> Result<Self, BundleError> {
        self.sources =
            Some(serde_json::to_vec(sources).map_err(|e| BundleError::Part("sources", e.to_string()))?);
        self.renewed()
    }

    /// The same with what happened in a virtual machine; not signed.
    pub fn with_proof(mut self, proof: &VmProof) -> Result<Self, BundleError> {
        self.proof = Some(serde_json::to_vec(proof).map_err(|e| BundleError::Part("proof", e.to_string()))?);
        self.renewed()
    }

    /// The same with what the vendor's repository says today; as signed as before.
    pub fn with_vendor(mut self, files: &VendorFiles) -> Result<Self, BundleError> {
        self.vendor = Some(files.to_bytes());
        self.check_caps()?;
        Ok(self)
    }

    /// The same with the proof that it is in a transparency log; as signed as before.
    pub fn with_logged(mut self, proof: Vec<u8>) -> Result<Self, BundleError> {
        self.logged = Some(proof);
        self.check_caps()?;
        Ok(self)
    }

    /// The same with another module, which the manifest then names; not signed.
    pub fn with_module(mut self, module: Vec<u8>) -> Result<Self, BundleError> {
        self.manifest.module = ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 };
        self.module = module;
        self.renewed()
    }

    /// The source patches, if the bundle has them.
    pub fn parsed_sources(&self) -> Result<Option<PatchSources>, BundleError> {
        parse_part("sources", self.sources.as_deref())
    }

    /// The proof, if the bundle has one.
    pub fn parsed_proof(&self) -> Result<Option<VmProof>, BundleError> {
        parse_part("proof", self.proof.as_deref())
    }

    /// The vendor's metadata, if the bundle has any.
    pub fn parsed_vendor(&self) -> Result<Option<VendorFiles>, BundleError> {
        self.vendor.as_deref().map(VendorFiles::parse).transpose()
    }

    /// Makes the manifest's bytes anew, which no signature fits any more.
    fn renewed(mut self) -> Result<Self, BundleError> {
        self.signature = None;
        self.manifest.sections = self
            .named_parts()
            .into_iter()
            .filter_map(|(name, part)| Some((name.to_owned(), sha256(part?))))
            .collect();
        self.manifest_bytes = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|error| BundleError::Manifest(error.to_string()))?;
        self.check_module()?;
        self.check_caps()?;
        Ok(self)
    }

    /// Reads a bundle; checks structure, caps, and that the module is the one in the manifest. Verifies no signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let Sections { manifest: manifest_bytes, module, signature, report, sources, proof, vendor, logged } =
            Sections::read(bytes)?;
        let manifest = PatchManifest::parse(manifest_bytes)?;
        let bundle = Self {
            manifest,
            manifest_bytes: manifest_bytes.to_vec(),
            module: module.to_vec(),
            signature: signature.map(<[u8]>::to_vec),
            report: report.map(<[u8]>::to_vec),
            sources: sources.map(<[u8]>::to_vec),
            proof: proof.map(<[u8]>::to_vec),
            vendor: vendor.map(<[u8]>::to_vec),
            logged: logged.map(<[u8]>::to_vec),
        };
        bundle.check_module()?;
        bundle.check_named()?;
        Ok(bundle)
    }

    /// The file's bytes; [`Bundle::parse`] reads them back to the same value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = self.parts();
        let present: Vec<(u32, &[u8])> =
            parts.iter().filter_map(|(kind, part)| part.map(|p| (*kind, p))).collect();
        let mut out = Vec::with_capacity(HEADER_BYTES + self.module.len() + self.manifest_bytes.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(present.len() as u32).to_le_bytes());
        for (kind, part) in &present {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&0u32.to_le_bytes());
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        }
        for (_, part) in &present {
            out.extend_from_slice(part);
        }
        out
    }

    fn parts(&self) -> [(u32, Option<&[u8]>); SECTIONS.len()] {
        [
            (1, Some(self.manifest_bytes.as_slice())),
            (2, Some(self.module.as_slice())),
            (3, self.signature.as_deref()),
            (4, self.report.as_deref()),
            (5, self.sources.as_deref()),
            (6, self.proof.as_deref()),
            (7, self.vendor.as_deref()),
            (8, self.logged.as_deref()),
        ]
    }

    fn named_parts(&self) -> [(&'static str, Option<&[u8]>); NAMED_IN_MANIFEST.len()] {
        let parts = [self.report.as_deref(), self.sources.as_deref(), self.proof.as_deref()];
        std::array::from_fn(|index| (NAMED_IN_MANIFEST[index], parts[index]))
    }

    /// What the manifest names is there and is that; sources and proof are there only if it names them. (Bundles of
    /// version 0.1.0 have a report that is not named.)
    fn check_named(&self) -> Result<(), BundleError> {
        for (name, part) in self.named_parts() {
            let right = match (self.manifest.sections.get(name), part) {
                (Some(named), Some(part)) => *named == sha256(part),
                (Some(_), None) => false,
                (None, Some(_)) => name == "report",
                (None, None) => true,
            };
            if !right {
                return Err(BundleError::Section(name));
            }
        }
        Ok(())
    }

    fn check_caps(&self) -> Result<(), BundleError> {
        for ((_, part), (_, name, cap)) in self.parts().iter().zip(SECTIONS) {
            let length = part.map_or(0, |p| p.len() as u64);
            if length > cap {
                return Err(BundleError::Table(format!(
                    "section {name} has {length} bytes where {cap} are allowed"
                )));
            }
        }
        Ok(())
    }

    fn check_module(&self) -> Result<(), BundleError> {
        let stated = self.manifest.module;
        if stated.size_bytes != self.module.len() as u64 {
            let actual = self.module.len();
            return Err(BundleError::Module(format!(
                "{actual} bytes where {} are stated",
                stated.size_bytes
            )));
        }
        let actual = sha256(&self.module);
        if stated.sha256 != actual {
            return Err(BundleError::Module(format!("SHA-256 {actual} where {} is stated", stated.sha256)));
        }
        Ok(())
    }
}

impl PatchManifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| BundleError::Manifest(error.to_string()))?;
        if manifest.schema == 1 {
            return Ok(manifest);
        }
        Err(BundleError::Manifest(format!("schema {} is not 1", manifest.schema)))
    }
}

/// What a bundle has at most, by the cap of each section.
#[cfg(test)]
pub(crate) fn longest() -> u64 {
    let header = (HEADER_BYTES + SECTIONS.len() * ENTRY_BYTES) as u64;
    header + SECTIONS.map(|(_, _, cap)| cap).iter().sum::<u64>()
}

fn parse_part<T: serde::de::DeserializeOwned>(
    name: &'static str,
    bytes: Option<&[u8]>,
) -> Result<Option<T>, BundleError> {
    bytes.map(serde_json::from_slice).transpose().map_err(|e| BundleError::Part(name, e.to_string()))
}
