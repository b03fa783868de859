//! Each row of what a kernel says to modules (`crates/kernel/tests/refusals.rs`), by the four ways in which it looks at
//! their signatures. tests/secure_boot.rs has the livepatches under Secure Boot.

use std::error::Error;

use livepatch_build::keygen::{DEFAULT_BITS, KeyPair, generate};
use livepatch_build::signing::FileSigner;
use livepatch_modsig::{Signer as _, append, split};
use livepatch_tests::cloud_kernel;
use livepatch_tests::guest::{SHORT, kernel_tests};
use livepatch_types::{Clock as _, SystemClock};
use livepatch_vm::{BootSpec, Command, Firmware, Guest, Initramfs, Network, SecureBootKeys};
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::x509::X509;

/// A module of the distribution that needs no other one.
const MODULE: &str = "cls_u32";

/// Exchanges one byte after the only place with these words.
fn with_byte_after(module: &[u8], words: &str, byte: u8) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut places = module.windows(words.len()).enumerate().filter(|(_, at)| *at == words.as_bytes());
    let (place, _) = places.next().ok_or_else(|| format!("{words} is not in the module"))?;
    let mut module = module.to_vec();
    module[place + words.len()] = byte;
    Ok(module)
}

/// A signature's end as the kernel reads it (`struct module_signature`), with a length of its own.
fn endless(content: &[u8]) -> Vec<u8> {
    let trailer = [&[0, 0, 2, 0, 0, 0, 0, 0][..], &u32::MAX.to_be_bytes(), b"~Module signature appended~\n"];
    [content, &trailer.concat()].concat()
}

/// A signature with signed attributes, as CMS has them by default and the kernel does not take them
/// (`pkcs7_verify`, crypto/asymmetric_keys/pkcs7_verify.c), whoever signs.
fn with_signed_attributes(content: &[u8], pair: &KeyPair) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::private_key_from_pem(&pair.key_pem)?;
    let certificate = X509::from_pem(&pair.certificate_pem)?;
    let options = CMSOptions::BINARY | CMSOptions::DETACHED | CMSOptions::CMS_NOCERTS | CMSOptions::USE_KEYID;
    CmsContentInfo::sign(Some(&certificate), Some(&key), None, Some(content), options)?.to_der()
}

#[test]
fn each_refusal_has_its_word() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let signed = std::fs::read(kernel.tree.module_path(MODULE)?)?;
    let (content, signature) = {
        let parts = split(&signed)?;
        (parts.content, parts.signature_der)
    };
    let [stranger, owner] = [
        generate("stranger", DEFAULT_BITS, SystemClock.now())?,
        generate("owner", DEFAULT_BITS, SystemClock.now())?,
    ];
    let attributes = with_signed_attributes(content, &stranger)?;
    let stranger = FileSigner::new(&stranger.key_pem, &stranger.certificate_pem)?.sign_detached(content)?;
    let signer = FileSigner::new(&owner.key_pem, &owner.certificate_pem)?;
    let by_owner = |content: &[u8]| -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(append(content, &signer.sign_detached(content)?))
    };
    // The kernel asks only whether it is there: the module does what it did.
    let tampered = with_byte_after(content, "intree=", b'N')?;
    let other_release = with_byte_after(content, "vermagic=", b'5')?;
    let half = &content[..content.len() / 2];
    let files = [
        ("signed", signed.clone()),
        ("unsigned", content.to_vec()),
        ("stranger", append(content, &stranger)),
        ("tampered", append(&tampered, signature)),
        ("tampered-stranger", append(&tampered, &stranger)),
        ("signed-attributes", append(content, &attributes)),
        ("endless-signature", endless(content)),
        ("garbage-signature", append(content, b"no DER")),
        ("other-release", other_release.clone()),
        ("truncated", half.to_vec()),
        ("owner", by_owner(content)?),
        ("owner-tampered", append(&tampered, &signer.sign_detached(content)?)),
        ("owner-other-release", by_owner(&other_release)?),
        ("owner-truncated", by_owner(half)?),
    ];
    let mut initramfs = Initramfs::new()?;
    initramfs.program("/usr/bin/refusals", &kernel_tests("refusals"))?;
    initramfs.file("/modules/name", 0o644, MODULE)?;
    for (name, module) in files {
        initramfs.file(&format!("/modules/{name}.ko"), 0o644, module)?;
    }
    let initrd = initramfs.build();
    let secure_boot = Firmware::SecureBoot(SecureBootKeys {
        platform: owner.certificate_der.clone(),
        db: vec![owner.certificate_der.clone()],
        ..SecureBootKeys::default()
    });
    let (open, locked) = ("[none] integrity confidentiality", "none [integrity] confidentiality");
    for (firmware, argument, enforced, lockdown) in [
        (Firmware::Bios, None, "N", open),
        (Firmware::Bios, Some("module.sig_enforce=1"), "Y", open),
        (Firmware::Bios, Some("lockdown=integrity"), "N", locked),
        (secure_boot, None, "Y", locked),
    ] {
        let mut spec = BootSpec::new(kernel.tree.vmlinuz(), initrd.clone());
        (spec.network, spec.firmware) = (Network::None, firmware);
        spec.kernel_args.extend(argument.map(str::to_owned));
        let guest = Guest::boot(&spec)?;
        let cat = |file: &str| guest.check(&Command::new("cat").arg(file), SHORT);
        assert_eq!(cat("/sys/module/module/parameters/sig_enforce")?, enforced, "{argument:?}");
        assert_eq!(cat("/sys/kernel/security/lockdown")?, lockdown, "{argument:?}");
        let run = Command::new("refusals").env("LIVEPATCH_GUEST_MODULES", "/modules");
        let output = guest.run(&run, SHORT)?;
        assert_eq!(output.status, 0, "{argument:?}: {}\n{}", output.text(), output.error_text());
        assert!(!output.error_text().contains("SKIPPED"), "{}", output.error_text());
        guest.shutdown()?;
    }
    Ok(())
}
