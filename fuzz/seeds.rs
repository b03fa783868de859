//! Writes the seeds anew: `cargo run --example seeds`, from the directory fuzz. To be run, and its output committed,
//! when a format changes. The key that signs the module is made for this and forgotten.

use std::path::Path;

use jiff::Timestamp;
use livepatch_build::keygen;
use livepatch_build::signing::{FileSigner, sign_bundle};
use livepatch_fuzz::{channel, kernel, log_key, sign_envelope, sign_head, sign_metadata};
use livepatch_loader_api::{AgentRequest, Head};
use livepatch_manifest::document::Target;
use livepatch_manifest::{
    Bundle, CveEntry, KernelDocument, ModuleObject, ObjectName, PatchManifest, PatchedFunction,
    PatchedObject, sha256,
};
use livepatch_modsig::split;
use livepatch_transparency::{
    BundleEvent, Checkpoint, Entry, Event, LoggedProof, leaf_hash, node_hash, write_entries,
};
use livepatch_trust::{
    FileMeta, Header, KernelAllowance, Role, Snapshot, SnapshotMeta, TargetName, Targets, TimestampMeta, TimestampRole,
    VersionedFile,
};
use livepatch_types::{CveCoverage, CveId, PatchVersion, Rating};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let pair = keygen::generate("fuzz", 2048, Timestamp::UNIX_EPOCH)?;
    let signer = FileSigner::new(&pair.key_pem, &pair.certificate_der)?;
    let unsigned = bundle()?;
    let signed = sign_bundle(unsigned.clone(), &signer)?;
    let document = document(&signed)?;

    write("archive/release", RELEASE.as_bytes())?;
    write("archive/packages", PACKAGES.as_bytes())?;
    write("archive/index", INDEX.as_bytes())?;
    write("bundle/unsigned", &unsigned.to_bytes())?;
    write("bundle/signed", &signed.to_bytes())?;
    write("bundle/manifest", &signed.manifest_bytes)?;
    write("efi_variable/mok_list", &mok_list(&pair.certificate_der))?;
    write("efi_variable/proc_keys", PROC_KEYS.as_bytes())?;
    write("envelope/payload", &document.to_payload())?;
    write("envelope/envelope", &sign_envelope(&document.to_payload()))?;
    for case in ["changed_function", "cold_part", "exception_and_fixup"] {
        let object = compile(&format!("cases/{case}"), "-g0")?;
        write(&format!("object/{case}"), &object)?;
        write("kernel_image/elf", &object)?;
    }
    for case in ["inlined", "members_of_nameless_structures"] {
        write(&format!("debug_info/{case}"), &compile(&format!("layouts/{case}"), "-g")?)?;
    }
    log()?;
    metadata()?;
    write("symvers/symvers", SYMVERS.as_bytes())?;
    write("source_patch/git", GIT_PATCH.as_bytes())?;
    write("source_patch/plain", PLAIN_PATCH.as_bytes())?;
    write("module_signature/unsigned", &unsigned.module)?;
    write("module_signature/signed", &signed.module)?;
    write("module_signature/signature", split(&signed.module)?.signature_der)?;
    write("module_signature/certificate", &pair.certificate_der)?;
    write("module_signature/certificate.pem", &pair.certificate_pem)
}

const RELEASE: &str = "Origin: Debian\nSuite: oldstable\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n\
    Valid-Until: Sun, 19 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
    515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f 50060337 main/binary-amd64/Packages\n";

const PACKAGES: &str = "Package: linux-image-6.1.0-50-amd64\nVersion: 6.1.176-1\nArchitecture: amd64\nDescription: x\n y\n\
    Filename: pool/main/l/linux/linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb\nSize: 26484304\n\
    SHA256: 515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f\n\nPackage: vim\n";

const INDEX: &str = r#"{"schema":1,"archives":[{"repository":"file:///srv","suite":"bookworm","date":"2026-07-11T10:16:37Z",
"in_release":"515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f"}],"kernels":[]}"#;

const PROC_KEYS: &str = "00000001 I------ 1 perm 1f0b0000 0 0 keyring   .builtin_trusted_keys: 1\n\
    00000002 I------ 1 perm 1f030000 0 0 asymmetri A key: 0a0b: X509.rsa 0a0b []\n";

/// A variable with an `EFI_SIGNATURE_LIST` of one certificate, its attributes in front.
fn mok_list(certificate: &[u8]) -> Vec<u8> {
    let entry = 16 + certificate.len() as u32;
    let mut bytes = vec![6, 0, 0, 0];
    bytes.extend([0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a]);
    bytes.extend([0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
    for size in [28 + entry, 0, entry] {
        bytes.extend(size.to_le_bytes());
    }
    bytes.extend([0; 16]);
    bytes.extend(certificate);
    bytes
}

const SYMVERS: &str = "0x12345678\tkmalloc\tvmlinux\tEXPORT_SYMBOL\t\n\
    0x9abcdef0\tdma_buf_get\tdrivers/dma-buf/dma-buf\tEXPORT_SYMBOL_GPL\tDMA_BUF\n";
const PLAIN_PATCH: &str =
    "--- a/fs/proc/cmdline.c\n+++ b/fs/proc/cmdline.c\n@@ -1,3 +1,4 @@\n a\n+b\n c\n d\n";
const GIT_PATCH: &str = "diff --git a/mm/slab.c b/mm/slab.c\nindex 1111111..2222222 100644\n--- a/mm/slab.c\n\
    +++ b/mm/slab.c\n@@ -7,2 +7,2 @@ int f(void)\n-old\n+new\n same\n";

/// A case of the differ's tests as the compiler makes it.
fn compile(case: &str, debug: &str) -> Result<Vec<u8>> {
    // Paths go into debug information: a relative one is the same everywhere.
    let source = Path::new("../crates/klp/tests").join(format!("{case}.c"));
    let directory = tempfile::tempdir()?;
    let object = directory.path().join("unit.o");
    let mut gcc = std::process::Command::new("gcc-12");
    // The assembler would write the directory into its own table of lines, unmapped.
    gcc.args([
        debug,
        "-gno-as-loc-support",
        concat!("-fdebug-prefix-map=", env!("CARGO_MANIFEST_DIR"), "=/"),
    ]);
    gcc.args(["-c", "-O2", "-w", "-pg", "-mfentry", "-mrecord-mcount", "-fno-PIE", "-mcmodel=kernel"]);
    gcc.args([
        "-ffunction-sections",
        "-fdata-sections",
        "-fno-asynchronous-unwind-tables",
        "-fcf-protection=none",
    ]);
    if !gcc.arg("-o").arg(&object).arg(source).status()?.success() {
        return Err(format!("gcc does not compile {case}").into());
    }
    Ok(std::fs::read(object)?)
}

fn write(name: &str, bytes: &[u8]) -> Result {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    std::fs::create_dir_all(path.parent().ok_or("a seed without a directory")?)?;
    Ok(std::fs::write(path, bytes)?)
}

/// A log of two entries.
fn log() -> Result {
    let bundle = BundleEvent {
        name: "livepatch_113_1".into(),
        version: PatchVersion::parse("113.1")?,
        kernel: kernel(),
        manifest_sha256: sha256(b"manifest"),
        module_sha256: sha256(b"module"),
    };
    let entry = Entry::new(Timestamp::UNIX_EPOCH, Event::Bundle(bundle)).to_bytes()?;
    let (leaf, other) = (leaf_hash(&entry), leaf_hash(b"other"));
    let head = Checkpoint { origin: log_key().name().to_owned(), size: 2, root: node_hash(&leaf, &other) };
    let note = sign_head(&head);
    let proof = LoggedProof { entry: entry.clone(), index: 0, hashes: vec![other], note: note.clone() };
    let entries = write_entries([entry.as_slice(), b"other"]).ok_or("an entry is too long")?;
    write("transparency/checkpoint", note.as_bytes())?;
    write("transparency/proof", proof.to_text().as_bytes())?;
    write("transparency/entry", &entry)?;
    write("transparency/entries", &[&[2], entries.as_slice()].concat())?;
    write("transparency/tile", &[&[2], leaf.as_bytes().as_slice(), other.as_bytes()].concat())?;
    write("transparency/path", b"tile/0/x001/234.p/5")?;
    write("transparency/key", log_key().to_text().as_bytes())
}

fn bundle() -> Result<Bundle> {
    let module = module();
    let manifest = PatchManifest {
        schema: 1,
        version: PatchVersion::parse("113.1")?,
        kernel: kernel(),
        module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
        objects: vec![PatchedObject {
            name: ObjectName::Vmlinux,
            build_id: kernel().build_id,
            functions: vec![PatchedFunction { name: "f".into(), sympos: 0 }],
        }],
        cves: cves()?,
        built: Timestamp::UNIX_EPOCH,
        compiler: "gcc".into(),
        sections: Default::default(),
    };
    Ok(Bundle::new(manifest, module, Some(b"{}".to_vec()))?)
}

fn document(bundle: &Bundle) -> Result<KernelDocument> {
    Ok(KernelDocument {
        schema: 1,
        critical: vec![],
        kernel: kernel(),
        channel: channel(),
        version: 3,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::from_second(86400)?,
        poll_hint_seconds: Some(3600),
        target: Some(Target {
            version: bundle.manifest.version,
            module: bundle.manifest.module,
            cves: cves()?,
            released: Timestamp::UNIX_EPOCH,
        }),
        withdrawn: vec![PatchVersion::parse("112.1")?],
        vendor: None,
        coverage: None,
    })
}

fn cves() -> Result<Vec<CveEntry>> {
    Ok(vec![CveEntry {
        id: CveId::parse("CVE-2026-12345")?,
        coverage: CveCoverage::Whole,
        rating: Rating::High,
        title: "a title".into(),
    }])
}

/// The smallest ELF relocatable with `.modinfo` and a build-id.
fn module() -> Vec<u8> {
    const NAMES: &[u8] = b"\0.shstrtab\0.modinfo\0.note.gnu.build-id\0";
    const INFO: &[u8] = b"license=GPL\0name=livepatch_113_1\0vermagic=6.1.0-50-cloud-amd64 SMP\0";
    let note = [[4u32, 20, 3].map(u32::to_le_bytes).concat().as_slice(), b"GNU\0", &[2; 20]].concat();
    // name, type, alignment, content
    let sections: [(u32, u32, u64, &[u8]); 4] =
        [(0, 0, 0, b""), (1, 3, 1, NAMES), (11, 1, 1, INFO), (20, 7, 4, &note)];

    let mut contents = Vec::new();
    let mut table = Vec::new();
    for (name, kind, alignment, content) in sections {
        while alignment != 0 && contents.len() % alignment as usize != 0 {
            contents.push(0);
        }
        let offset = 64 + contents.len() as u64;
        table.extend([name, kind].map(u32::to_le_bytes).concat());
        table.extend([0, 0, offset, content.len() as u64].map(u64::to_le_bytes).concat());
        table.extend([0, 0u32].map(u32::to_le_bytes).concat());
        table.extend([alignment, 0].map(u64::to_le_bytes).concat());
        contents.extend_from_slice(content);
    }
    while contents.len() % 8 != 0 {
        contents.push(0);
    }
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([1u16, 62].map(u16::to_le_bytes).concat()); // relocatable, x86-64
    elf.extend(1u32.to_le_bytes());
    elf.extend([0, 0, 64 + contents.len() as u64].map(u64::to_le_bytes).concat());
    elf.extend(0u32.to_le_bytes());
    elf.extend([64, 0, 0, 64, sections.len() as u16, 1].map(u16::to_le_bytes).concat());
    [elf, contents, table].concat()
}

/// The requests of a whole update of the vendor's metadata. The target signs what is metadata, as here.
fn metadata() -> Result {
    let (issued, expires) = ("2026-11-23T00:00:00Z".parse()?, "2199-01-01T00:00:00Z".parse()?);
    let header = |role| Header::new(role, 1, issued, expires);
    let allowance = KernelAllowance::empty(kernel()).to_bytes();
    let name = TargetName::of_kernel(kernel().architecture, &kernel().build_id).to_string();
    let targets = [(name, FileMeta::of(&allowance))].into();
    let targets = Targets { header: header(Role::Targets), targets, delegations: None };
    let meta = SnapshotMeta { targets: VersionedFile::of(1, &signed(&targets)?) };
    let snapshot = Snapshot { header: header(Role::Snapshot), meta };
    let meta = TimestampMeta { snapshot: VersionedFile::of(1, &signed(&snapshot)?) };
    let timestamp = TimestampRole { header: header(Role::Timestamp), meta };
    let mut requests = Head { request: AgentRequest::Update, body_bytes: 0 }.to_bytes().to_vec();
    let [timestamp, snapshot, targets] =
        [serde_json::to_vec(&timestamp)?, serde_json::to_vec(&snapshot)?, serde_json::to_vec(&targets)?];
    // There is no second root.
    for body in [vec![], timestamp, snapshot, targets, allowance] {
        requests.extend(Head { request: AgentRequest::Metadata, body_bytes: body.len() as u32 }.to_bytes());
        requests.extend(body);
    }
    write("loader_request/metadata", &requests)
}

fn signed(content: &impl serde::Serialize) -> Result<Vec<u8>> {
    sign_metadata(content).ok_or_else(|| "metadata has a canonical form".into())
}
