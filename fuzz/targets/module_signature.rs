//! No input but the content that was signed ever verifies.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use livepatch_modsig::{Certificate, append, build_id, module_info, split, verify_detached, verify_module};

static TRUSTED: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    let der = include_bytes!("../seeds/module_signature/certificate");
    vec![Certificate::from_der(der).expect("the kept certificate")]
});
static SIGNED: LazyLock<&[u8]> = LazyLock::new(|| {
    let module = include_bytes!("../seeds/module_signature/signed");
    split(module).expect("the kept module is signed").content
});

fuzz_target!(|data: &[u8]| {
    let _ = module_info(data);
    let _ = build_id(data);
    if let Ok(module) = split(data) {
        assert_eq!(append(module.content, module.signature_der), data);
    }
    if let Ok(verified) = verify_module(data, &TRUSTED) {
        assert_eq!(verified.content, *SIGNED);
    }
    let _ = verify_detached(&SIGNED, data, &TRUSTED);
    assert!(verify_detached(b"never signed", data, &TRUSTED).is_err());
    if let Ok(certificate) = Certificate::from_der(data) {
        assert_eq!(certificate.der(), data);
    }
    let _ = Certificate::from_pem(data);
});
