//! Keys, signatures and signed bundles, checked by OpenSSL's own reading and by livepatch_modsig.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;

use jiff::Timestamp;
use livepatch_build::keygen::{self, KeygenError};
use livepatch_build::signing::{FileSigner, SigningError, sign_bundle};
use livepatch_manifest::{Bundle, ModuleObject, PatchManifest, sha256};
use livepatch_modsig::{Certificate, Signer as _, VerifyError, append, verify_detached, verify_module};
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, PatchVersion};
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::pkey::PKey;
use openssl::stack::Stack;
use openssl::symm::Cipher;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

static PAIR: LazyLock<keygen::KeyPair> = LazyLock::new(|| keygen::generate("test-key", 2048, NOW).unwrap());

fn signer() -> FileSigner {
    FileSigner::new(&PAIR.key_pem, &PAIR.certificate_der).unwrap()
}

fn bundle() -> Bundle {
    let module = b"\x7fELF and so on".to_vec();
    let manifest = PatchManifest {
        schema: 1,
        version: PatchVersion::parse("1.1").unwrap(),
        kernel: KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        },
        module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
        objects: vec![],
        cves: vec![],
        built: NOW,
        compiler: "gcc-12".into(),
        sections: Default::default(),
    };
    Bundle::new(manifest, module, Some(b"{}".to_vec())).unwrap()
}

#[test]
fn a_signed_bundle_verifies() {
    let signer = signer();
    let trusted = [signer.certificate().clone()];
    let signed = sign_bundle(bundle(), &signer).unwrap();
    let read = Bundle::parse(&signed.to_bytes()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(verify_module(&read.module, &trusted).unwrap().content, bundle().module);
    verify_detached(&read.manifest_bytes, read.signature.as_ref().unwrap(), &trusted).unwrap();
    assert_eq!(read.manifest.module.sha256, sha256(&read.module));
    assert_eq!(read.report, bundle().report);
    let other = keygen::generate("other", 2048, NOW).unwrap();
    let strangers = [Certificate::from_der(&other.certificate_der).unwrap()];
    assert!(matches!(verify_module(&read.module, &strangers), Err(VerifyError::UnknownSigner { .. })));
}

#[test]
fn openssl_verifies_it_too() {
    let signer = signer();
    let der = signer.sign_detached(b"content").unwrap();
    let mut cms = CmsContentInfo::from_der(&der).unwrap();
    let mut certificates = Stack::new().unwrap();
    certificates.push(X509::from_der(&PAIR.certificate_der).unwrap()).unwrap();
    let store = X509StoreBuilder::new().unwrap().build();
    let options = CMSOptions::BINARY | CMSOptions::DETACHED | CMSOptions::NO_SIGNER_CERT_VERIFY;
    cms.verify(Some(&certificates), Some(&store), Some(b"content"), None, options).unwrap();
    assert!(cms.verify(Some(&certificates), Some(&store), Some(b"contend"), None, options).is_err());
}

#[test]
fn bundles_that_are_not_signed() {
    let signer = signer();
    let signed = sign_bundle(bundle(), &signer).unwrap();
    assert!(matches!(sign_bundle(signed.clone(), &signer), Err(SigningError::AlreadySigned("manifest"))));
    let half = Bundle { signature: None, ..signed };
    assert!(matches!(sign_bundle(half, &signer), Err(SigningError::AlreadySigned("module"))));
    let mut broken = bundle();
    let module = append(&broken.module, b"");
    broken.manifest.module = ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 };
    let broken = Bundle::new(broken.manifest, module, None).unwrap();
    assert!(matches!(sign_bundle(broken, &signer), Err(SigningError::AlreadySigned("module"))));
    let mut swapped = bundle();
    swapped.module[0] ^= 1;
    assert!(matches!(sign_bundle(swapped, &signer), Err(SigningError::Bundle(_))));
    let mut edited = bundle();
    edited.manifest.compiler = "another".into();
    assert!(matches!(sign_bundle(edited, &signer), Err(SigningError::ManifestBytes)));
}

#[test]
fn keys_and_certificates_that_are_refused() {
    let other = keygen::generate("other", 2048, NOW).unwrap();
    let refused = |key: &[u8], certificate: &[u8]| FileSigner::new(key, certificate).err().unwrap();
    assert!(matches!(refused(&PAIR.key_pem, &other.certificate_pem), SigningError::Mismatch { .. }));
    assert!(matches!(refused(b"", &PAIR.certificate_pem), SigningError::Key(_)));
    assert!(matches!(refused(&PAIR.key_pem, b"garbage"), SigningError::Certificate(_)));
    assert!(matches!(refused(&PAIR.certificate_pem, &PAIR.certificate_pem), SigningError::Key(_)));
    let key = PKey::private_key_from_pem(&PAIR.key_pem).unwrap();
    let locked = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
    assert!(
        matches!(refused(&locked, &PAIR.certificate_pem), SigningError::Key(_)),
        "must not ask for a passphrase"
    );
    let ed25519 = PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
    assert!(matches!(refused(&ed25519, &PAIR.certificate_pem), SigningError::NotRsa));
    assert!(FileSigner::new(&PAIR.key_pem, &PAIR.certificate_pem).is_ok());
}

#[test]
fn the_certificate_is_for_modules_only() {
    let text = String::from_utf8(X509::from_der(&PAIR.certificate_der).unwrap().to_text().unwrap()).unwrap();
    for line in [
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "Code Signing, 1.3.6.1.4.1.2312.16.1.2\n",
        "X509v3 Subject Key Identifier:",
        "Not Before: Jan  1 00:00:00 1970 GMT",
        "Not After : Dec 30 00:00:00 1979 GMT",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_eq!(Certificate::from_der(&PAIR.certificate_der).unwrap().subject(), "CN=test-key");
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn key_files_are_private_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let files = keygen::write(&PAIR, directory, "k").unwrap();
    assert_eq!(names(directory), ["k.cert.der", "k.cert.pem", "k.key.pem"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&files.key_pem), mode(&files.certificate_pem), mode(&files.certificate_der)),
        (0o600, 0o644, 0o644)
    );
    let signer = FileSigner::open(&files.key_pem, &files.certificate_pem).unwrap();
    assert_eq!(*signer.certificate(), Certificate::from_der(&PAIR.certificate_der).unwrap());

    let other = keygen::generate("other", 2048, NOW).unwrap();
    assert!(
        matches!(keygen::write(&other, directory, "k"), Err(KeygenError::Exists(path)) if path == files.key_pem)
    );
    assert_eq!(std::fs::read(&files.key_pem).unwrap(), PAIR.key_pem);
    std::fs::remove_file(&files.key_pem).unwrap();
    std::fs::remove_file(&files.certificate_pem).unwrap();
    assert!(matches!(keygen::write(&other, directory, "k"), Err(KeygenError::Exists(_))));
    assert_eq!(names(directory), ["k.cert.der"], "all files or none");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = keygen::write(&PAIR, directory.path(), "k").unwrap();
    std::fs::set_permissions(&files.key_pem, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = FileSigner::open(&files.key_pem, &files.certificate_pem).err().unwrap();
    assert!(matches!(error, SigningError::KeyMode { mode: 0o640, .. }), "{error}");
    let error = FileSigner::open(&directory.path().join("none"), &files.certificate_pem).err().unwrap();
    assert!(matches!(error, SigningError::Read { .. }), "{error}");
}

#[test]
fn names_and_sizes_that_are_refused() {
    for name in ["", "../x", "a/b", "a.b", "a b", &"n".repeat(65)] {
        assert!(matches!(keygen::generate(name, 2048, NOW), Err(KeygenError::Name(_))), "{name}");
        assert!(
            matches!(keygen::write(&PAIR, Path::new("/nonexistent"), name), Err(KeygenError::Name(_))),
            "{name}"
        );
    }
    for bits in [0, 1024, 2047, 8193, u32::MAX] {
        assert!(matches!(keygen::generate("k", bits, NOW), Err(KeygenError::Bits(_))), "{bits}");
    }
}
